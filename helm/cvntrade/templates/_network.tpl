{{/*
One egress rule. Takes a list: the root, and the name of what is reached. A pod of ours is named by `cvntrade.peer`, the rest
stands in networkPolicies of the values. To Kubernetes an empty list of peers or ports means all; here it means none, and makes
no rule.
*/}}
{{- define "cvntrade.reach" -}}
{{- $root := index . 0 -}}
{{- $what := index . 1 -}}
{{- $policies := $root.Values.networkPolicies -}}
{{- $code := include "cvntrade.codeLocation" $root | fromYaml -}}
{{- if eq $what "dns" -}}
{{- with $policies.dns.to -}}
- to: {{- toYaml . | nindent 4 }}
  ports:
    - {protocol: UDP, port: 53}
    - {protocol: TCP, port: 53}
{{- end }}
{{- else if eq $what "postgresql" -}}
{{- with $policies.postgresql.to -}}
- to: {{- toYaml . | nindent 4 }}
  ports:
    - {protocol: TCP, port: {{ $root.Values.postgresql.port }}}
{{- end }}
{{- else if eq $what "codeLocation" -}}
- to:
    - podSelector: {{- include "cvntrade.peer" (list $root "codeLocation") | nindent 8 }}
  ports:
    - {protocol: TCP, port: {{ $code.port }}}
{{- else if eq $what "mlflow" -}}
- to:
    - podSelector: {{- include "cvntrade.peer" (list $root "mlflow") | nindent 8 }}
  ports:
    - {protocol: TCP, port: 5000}
{{- else -}}
{{- $named := index $policies $what -}}
{{- if and $named.to $named.ports -}}
- to: {{- toYaml $named.to | nindent 4 }}
  ports:
    {{- range $named.ports }}
    - {protocol: TCP, port: {{ . }}}
    {{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/*
The selector of a pod. Takes a list: the root, and the pod's name. Dagster's chart labels its pods with `component`,
dagster-k8s those of runs with app.kubernetes.io/component.
*/}}
{{- define "cvntrade.peer" -}}
{{- $root := index . 0 -}}
{{- $name := index . 1 -}}
{{- $dagsters := dict "webserver" "dagster-webserver" "webserverReadOnly" "dagster-webserver-read-only" "daemon" "dagster-daemon" "codeLocation" "user-deployments" -}}
matchLabels:
{{- if hasKey $dagsters $name }}
  app.kubernetes.io/instance: {{ $root.Release.Name }}
  component: {{ index $dagsters $name }}
{{- else if eq $name "run" }}
  app.kubernetes.io/component: run_worker
{{- else }}
  {{- include "cvntrade.selectorLabels" (list $root $name) | nindent 2 }}
{{- end }}
{{- end }}
