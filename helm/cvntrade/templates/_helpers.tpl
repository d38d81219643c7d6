{{/* Labels of an object. Takes a list: the root, and the component that the object belongs to. */}}
{{- define "cvntrade.labels" -}}
{{- $root := index . 0 -}}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
app.kubernetes.io/part-of: cvntrade
{{ include "cvntrade.selectorLabels" . }}
{{- end }}

{{/* Labels that pods are found by, which never change. Takes what cvntrade.labels takes. */}}
{{- define "cvntrade.selectorLabels" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: cvntrade
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{- define "cvntrade.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag }}
{{- end }}

{{/* The code location's Deployment, as Dagster's chart names its Service too. */}}
{{- define "cvntrade.codeLocation" -}}
{{ index .Values.dagster "dagster-user-deployments" "deployments" | first | toYaml }}
{{- end }}

{{/* Variables that pods read: addresses, no secret. */}}
{{- define "cvntrade.addresses" -}}
{{- $code := include "cvntrade.codeLocation" . | fromYaml -}}
CVN_RUNS_IN: pods
DAGSTER_HOME: /opt/cvntrade/instance
# Where a command looks for a stack on its own machine: there is none.
CVN_HOME: /tmp/cvntrade
CVN_NAMESPACE: {{ .Release.Namespace | quote }}
CVN_PG_HOST: {{ .Values.postgresql.host | quote }}
CVN_PG_PORT: {{ .Values.postgresql.port | quote }}
CVN_PG_USER: {{ .Values.postgresql.dagsterUser | quote }}
PGSSLMODE: {{ .Values.postgresql.sslMode | quote }}
CVN_UI_URL: {{ .Values.urls.ui | quote }}
CVN_MLFLOW_URL: "http://cvntrade-mlflow:5000"
CVN_ARTIFACTS: {{ .Values.objectStorage.artifacts | quote }}
CVN_COMPUTE_LOGS: {{ .Values.objectStorage.computeLogs | quote }}
CVN_MAX_CONCURRENT_RUNS: {{ .Values.runs.maxConcurrent | quote }}
CVN_CODE_SERVER_HOST: {{ $code.name | quote }}
CVN_CODE_SERVER_PORT: {{ $code.port | quote }}
{{- with .Values.prometheus.url }}
CVN_PROMETHEUS_URL: {{ . | quote }}
{{- end }}
{{ include "cvntrade.objectStorageAddresses" . }}
{{- end }}

{{/* What boto3 reads of its environment, but for secrets. */}}
{{- define "cvntrade.objectStorageAddresses" -}}
AWS_REGION: {{ .Values.objectStorage.region | quote }}
AWS_DEFAULT_REGION: {{ .Values.objectStorage.region | quote }}
{{- with .Values.objectStorage.endpoint }}
AWS_ENDPOINT_URL_S3: {{ . | quote }}
{{- end }}
{{- end }}

{{/* Secrets that a pod takes whole. Takes a list: the root, and keys of `secrets`. One that is not named is left out. */}}
{{- define "cvntrade.secrets" -}}
{{- $root := index . 0 -}}
{{- range index . 1 }}
{{- with index $root.Values.secrets . }}
- secretRef: {name: {{ . | quote }}}
{{- end }}
{{- end }}
{{- end }}

{{/* What every pod of ours has. Takes a list: the root, and the name of its ServiceAccount. */}}
{{- define "cvntrade.pod" -}}
{{- $root := index . 0 -}}
serviceAccountName: {{ index . 1 }}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with $root.Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  fsGroup: 65532
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- with $root.Values.scheduling.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $root.Values.scheduling.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $root.Values.scheduling.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $root.Values.scheduling.priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
{{- end }}

{{/* What every container of ours has. */}}
{{- define "cvntrade.container" -}}
image: {{ include "cvntrade.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  runAsNonRoot: true
  capabilities: {drop: [ALL]}
  seccompProfile: {type: RuntimeDefault}
{{- end }}

{{/* Where a container may write, and where it reads dagster.yaml. */}}
{{- define "cvntrade.mounts" -}}
- {name: tmp, mountPath: /tmp}
- {name: instance, mountPath: /opt/cvntrade/instance, readOnly: true}
{{- end }}

{{- define "cvntrade.volumes" -}}
- name: tmp
  emptyDir: {sizeLimit: 1Gi}
- name: instance
  configMap: {name: cvntrade-instance}
{{- end }}

{{/* Annotations by which a pod is replaced when a ConfigMap that it reads has changed. */}}
{{- define "cvntrade.checksums" -}}
checksum/environment: {{ include "cvntrade.addresses" . | sha256sum }}
checksum/instance: {{ .Files.Get "files/dagster.yaml" | sha256sum }}
{{- end }}
