"""The rules that pods, references and manifests are held against: each has data that must fail it."""

import copy
from typing import Any

import pytest
import yaml

from helm.chart import house_rules, kubernetes, pod_security, rights
from helm.chart.pods import pods
from helm.chart.references import dangling
from helm.chart.rendering import Manifest, read_manifests

DIGEST = "sha256:" + "0" * 64
RESTRICTED: dict[str, Any] = yaml.safe_load("""
serviceAccountName: runs
automountServiceAccountToken: false
enableServiceLinks: false
securityContext: {runAsNonRoot: true, seccompProfile: {type: RuntimeDefault}}
initContainers:
  - name: first
    image: busybox:1.37.0
    resources: {requests: {cpu: 10m, memory: 32Mi}, limits: {memory: 32Mi}}
    securityContext: &context
      allowPrivilegeEscalation: false
      readOnlyRootFilesystem: true
      capabilities: {drop: [ALL]}
containers:
  - name: main
    image: cvntrade:0.1.0
    resources: {requests: {cpu: 10m, memory: 32Mi}, limits: {memory: 32Mi}}
    securityContext: *context
    ports: [{name: http, containerPort: 8080}]
    readinessProbe: {httpGet: {path: /, port: http}}
volumes:
  - {name: tmp, emptyDir: {}}
  - {name: conf, configMap: {name: conf}}
""")
MAIN, FIRST = "containers.0.", "initContainers.0."

# A field of the pod, a value that the standard forbids, and one beside it that it allows.
STANDARD: list[tuple[str, Any, Any]] = [
    ("hostNetwork", True, False),
    ("hostPID", True, False),
    ("hostIPC", True, False),
    (MAIN + "ports.0.hostPort", 8080, 0),
    ("securityContext.windowsOptions", {"hostProcess": True}, {"hostProcess": False}),
    (MAIN + "securityContext.windowsOptions", {"hostProcess": True}, {}),
    (MAIN + "securityContext.privileged", True, False),
    (FIRST + "securityContext.privileged", True, False),
    (MAIN + "securityContext.allowPrivilegeEscalation", True, False),
    (FIRST + "securityContext.allowPrivilegeEscalation", None, False),
    (MAIN + "securityContext.procMount", "Unmasked", "Default"),
    (MAIN + "securityContext.capabilities", {}, {"drop": ["ALL"]}),
    (MAIN + "securityContext.capabilities", {"drop": ["NET_RAW"]}, {"drop": ["ALL", "NET_RAW"]}),
    (
        FIRST + "securityContext.capabilities",
        {"drop": ["ALL"], "add": ["CHOWN"]},
        {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]},
    ),
    ("volumes.0", {"name": "a", "hostPath": {"path": "/"}}, {"name": "a", "emptyDir": {}}),
    ("volumes.0", {"name": "a", "nfs": {"server": "a", "path": "/"}}, {"name": "a", "secret": {"secretName": "a"}}),
    ("volumes.0", {"name": "a", "gitRepo": {}}, {"name": "a", "persistentVolumeClaim": {"claimName": "a"}}),
    ("securityContext.runAsNonRoot", False, True),
    (MAIN + "securityContext.runAsNonRoot", False, True),
    ("securityContext.runAsUser", 0, 65532),
    (FIRST + "securityContext.runAsUser", 0, 1),
    ("securityContext.seccompProfile", None, {"type": "Localhost"}),
    ("securityContext.seccompProfile", {"type": "Unconfined"}, {"type": "RuntimeDefault"}),
    (MAIN + "securityContext.seccompProfile", {"type": "Unconfined"}, {"type": "RuntimeDefault"}),
    (MAIN + "securityContext.seLinuxOptions", {"type": "spc_t"}, {"type": "container_t"}),
    ("securityContext.seLinuxOptions", {"role": "sysadm_r"}, {"level": "s0:c1"}),
    (MAIN + "securityContext.seLinuxOptions", {"user": "root"}, {"user": ""}),
    ("securityContext.appArmorProfile", {"type": "Unconfined"}, {"type": "RuntimeDefault"}),
    (
        "securityContext.sysctls",
        [{"name": "kernel.msgmax", "value": "1"}],
        [{"name": "net.ipv4.tcp_syncookies", "value": "1"}],
    ),
    (MAIN + "livenessProbe", {"httpGet": {"port": 80, "host": "169.254.169.254"}}, {"httpGet": {"port": 80}}),
    (MAIN + "lifecycle", {"preStop": {"tcpSocket": {"port": 1, "host": "a"}}}, {"preStop": {"sleep": {"seconds": 1}}}),
]
# The same of the chart's own rules.
HOUSE: list[tuple[str, Any, Any]] = [
    ("automountServiceAccountToken", None, True),
    ("serviceAccountName", None, "a"),
    ("enableServiceLinks", None, False),
    ("enableServiceLinks", True, False),
    (MAIN + "securityContext.readOnlyRootFilesystem", False, True),
    (FIRST + "securityContext.readOnlyRootFilesystem", None, True),
    (MAIN + "readinessProbe", None, {"exec": {"command": ["true"]}}),
    (MAIN + "readinessProbe", {"httpGet": {"port": 8081}}, {"httpGet": {"port": 8080}}),
    (MAIN + "livenessProbe", {"tcpSocket": {"port": "web"}}, {"tcpSocket": {"port": "http"}}),
    (FIRST + "startupProbe", {"httpGet": {"port": "http"}}, {"exec": {"command": ["true"]}}),
    (MAIN + "resources", None, RESTRICTED["containers"][0]["resources"]),
    (MAIN + "resources.requests.cpu", None, "1"),
    (FIRST + "resources.limits.memory", None, "32Mi"),
    (MAIN + "resources.limits.memory", "33Mi", "32Mi"),
    (MAIN + "image", "cvntrade", "cvntrade:1"),
    (MAIN + "image", "cvntrade:latest", f"cvntrade:latest@{DIGEST}"),
    (FIRST + "image", "example.com:5000/busybox", "example.com:5000/busybox:1.37.0"),
    (MAIN + "image", "", f"cvntrade@{DIGEST}"),
]


def changed(field: str, value: Any) -> dict[str, Any]:
    spec = copy.deepcopy(RESTRICTED)
    *parents, last = field.split(".")
    place: Any = spec
    for parent in parents:
        place = place[int(parent)] if parent.isdigit() else place[parent]
    if last.isdigit():
        place[int(last)] = value
    elif value is None:
        del place[last]
    else:
        place[last] = value
    return spec


def deployment(spec: dict[str, Any], annotations: dict[str, str] | None = None) -> Manifest:
    template = {"metadata": {"labels": {"app": "a"}, "annotations": annotations or {}}, "spec": spec}
    return Manifest("a.yaml", {"kind": "Deployment", "metadata": {"name": "a"}, "spec": {"template": template}})


# pods


def test_a_restricted_pod_breaks_no_rule():
    (pod,) = pods([deployment(RESTRICTED)])
    assert pod_security.breaches(pod) == []
    assert house_rules.breaches(pod) == []


@pytest.mark.parametrize(
    ("rule", "field", "forbidden", "allowed"),
    [(pod_security.breaches, *row) for row in STANDARD] + [(house_rules.breaches, *row) for row in HOUSE],
)
def test_each_field_is_judged_on_both_sides(rule, field, forbidden, allowed):
    (pod,) = pods([deployment(changed(field, forbidden))])
    found = rule(pod)
    assert found, f"{field} = {forbidden} passed"
    assert all(words.startswith("Deployment/a (a.yaml): ") for words in found)
    (pod,) = pods([deployment(changed(field, allowed))])
    assert rule(pod) == []


@pytest.mark.parametrize(
    ("profile", "breaks"), [("unconfined", True), ("runtime/default", False), ("localhost/a", False)]
)
def test_app_armor_by_annotation(profile, breaks):
    (pod,) = pods([deployment(RESTRICTED, {"container.apparmor.security.beta.kubernetes.io/main": profile})])
    assert bool(pod_security.breaches(pod)) == breaks


def test_pods_of_every_kind_are_found():
    spec = {"spec": {"containers": [{"name": "a"}]}}
    owners = [{"kind": "CronJob", "spec": {"jobTemplate": {"spec": {"template": spec}}}}, {"kind": "Pod", **spec}]
    owners += [{"kind": kind, "spec": {"template": spec}} for kind in ("Job", "StatefulSet", "DaemonSet", "Deployment")]
    found = pods([Manifest("a", owner) for owner in [*owners, {"kind": "Service", "spec": {}}]])
    assert [dict(pod.containers()) for pod in found] == [{"containers[a]": {"name": "a"}}] * len(owners)


# references


def named(kind: str, name: str, **annotations: str) -> Manifest:
    return Manifest("b.yaml", {"kind": kind, "metadata": {"name": name, "annotations": annotations}})


KEY = {"name": "there", "key": "k"}
ABSENT = {"name": "absent", "key": "k"}


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("serviceAccountName", "absent", "spec.serviceAccountName names ServiceAccount 'absent'"),
        ("imagePullSecrets", [{"name": "absent"}], "spec.imagePullSecrets names Secret 'absent'"),
        (MAIN + "env", [{"name": "A", "valueFrom": {"secretKeyRef": ABSENT}}], "containers[main].env[A] names Secret"),
        (MAIN + "env", [{"name": "A", "valueFrom": {"configMapKeyRef": ABSENT}}], "env[A] names ConfigMap 'absent'"),
        (FIRST + "envFrom", [{"secretRef": {"name": "absent"}}], "initContainers[first].envFrom names Secret 'absent'"),
        (MAIN + "envFrom", [{"configMapRef": {"name": "absent"}}], "envFrom names ConfigMap 'absent'"),
        ("volumes.0", {"name": "v", "configMap": {"name": "absent"}}, "spec.volumes[v] names ConfigMap 'absent'"),
        ("volumes.0", {"name": "v", "secret": {"secretName": "absent"}}, "spec.volumes[v] names Secret 'absent'"),
        (
            "volumes.0",
            {"name": "v", "projected": {"sources": [{"secret": {"name": "absent"}}]}},
            "names Secret 'absent'",
        ),
        ("volumes.0", {"name": "v", "persistentVolumeClaim": {"claimName": "absent"}}, "names PersistentVolumeClaim"),
    ],
)
def test_a_reference_to_nothing_is_told(field, value, says):
    there = [named("ServiceAccount", "runs"), named("ConfigMap", "conf")]
    (fault,) = dangling([deployment(changed(field, value)), *there], {})
    assert says in fault
    assert "neither the chart makes nor the values declare" in fault
    kind = fault.split(" names ")[1].split()[0]
    assert dangling([deployment(changed(field, value)), *there, named(kind, "absent")], {}) == []
    assert dangling([deployment(changed(field, value)), *there], {kind: ["absent"]}) == []


def test_what_is_optional_may_be_missing():
    there = [named("ServiceAccount", "runs"), named("ConfigMap", "conf")]
    optional = [{"secretRef": {"name": "absent", "optional": True}}]
    assert dangling([deployment(changed(MAIN + "envFrom", optional)), *there], {}) == []


def hook(
    kind: str, name: str, weight: int, spec: dict[str, Any] | None = None, moments: str = "pre-install"
) -> Manifest:
    annotations = {"helm.sh/hook": moments, "helm.sh/hook-weight": str(weight)}
    content = {"kind": kind, "metadata": {"name": name, "annotations": annotations}}
    return Manifest("h.yaml", content | ({"spec": {"template": {"spec": spec}}} if spec else {}))


def test_a_hook_before_the_release_relies_on_earlier_hooks_only():
    job = hook("Job", "migrate", 0, {"serviceAccountName": "runs"})
    assert dangling([job, hook("ServiceAccount", "runs", -1)], {}) == []
    assert dangling([job], {"ServiceAccount": ["runs"]}) == []
    for late in (
        named("ServiceAccount", "runs"),
        hook("ServiceAccount", "runs", 0),
        hook("ServiceAccount", "runs", -1, moments="post-install"),
    ):
        (fault,) = dangling([job, late], {})
        assert "neither the outside nor an earlier hook has made by then" in fault
    both = hook("Job", "migrate", 0, {"serviceAccountName": "runs"}, "pre-install,pre-upgrade")
    assert len(dangling([both, hook("ServiceAccount", "runs", -1)], {})) == 1


def test_a_release_does_not_rely_on_a_hook_that_goes():
    account = hook("ServiceAccount", "runs", -1)
    there = [deployment(RESTRICTED), named("ConfigMap", "conf")]
    assert dangling([*there, account], {}) == []
    account.content["metadata"]["annotations"]["helm.sh/hook-delete-policy"] = "before-hook-creation,hook-succeeded"
    assert len(dangling([*there, account], {})) == 1


@pytest.mark.parametrize(
    ("kind", "spec"),
    [
        ("Service", {"selector": {"app": "b"}}),
        ("PodDisruptionBudget", {"selector": {"matchLabels": {"app": "b"}}}),
        ("ServiceMonitor", {"selector": {"matchLabels": {"app": "b"}}}),
    ],
)
def test_a_selector_that_finds_nothing_is_told(kind, spec):
    selecting = Manifest("s.yaml", {"kind": kind, "metadata": {"name": "s"}, "spec": spec})
    (fault,) = dangling([selecting], {})
    assert f"{kind}/s" in fault
    assert "'app': 'b'" in fault


def test_a_binding_of_nothing_is_told():
    binding = Manifest(
        "b.yaml",
        {
            "kind": "RoleBinding",
            "metadata": {"name": "b"},
            "roleRef": {"kind": "Role", "name": "r"},
            "subjects": [{"kind": "ServiceAccount", "name": "runs"}],
        },
    )
    assert len(dangling([binding], {})) == 2
    assert dangling([binding, named("Role", "r"), named("ServiceAccount", "runs")], {}) == []


# rights


def bound(account: str) -> Manifest:
    subjects = [{"kind": "ServiceAccount", "name": account}]
    return Manifest("b.yaml", {"kind": "RoleBinding", "metadata": {"name": "b"}, "subjects": subjects})


@pytest.mark.parametrize(
    ("said", "of_account", "has"),
    [(True, False, True), (None, True, True), (None, None, True), (None, False, False), (False, True, False)],
)
def test_a_token_with_a_role_is_for_who_starts_runs(said, of_account, has):
    starting = deployment(changed("automountServiceAccountToken", said))
    account = named("ServiceAccount", "runs")
    if of_account is not None:
        account.content["automountServiceAccountToken"] = of_account
    found = rights.breaches([starting, account, bound("runs")])
    fault = "Deployment/a (a.yaml): has a token of runs, which has a role, and starts no runs."
    assert found == ([fault] if has else [])
    assert rights.breaches([starting, account, bound("others")]) == []
    starting.content["spec"]["template"]["metadata"]["labels"]["component"] = "dagster-daemon"
    assert rights.breaches([starting, account, bound("runs")]) == []


# manifests

POLICY: dict[str, Any] = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "NetworkPolicy",
    "metadata": {"name": "a"},
    "spec": {"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{"from": [{"podSelector": {}}]}]},
}


@pytest.mark.parametrize("version", kubernetes.VERSIONS)
def test_kubernetes_own_schema_judges_a_manifest(version):
    assert kubernetes.faults([Manifest("a", POLICY)], version) == []
    wrong = copy.deepcopy(POLICY)
    wrong["spec"]["ingress"][0]["from"][0] = {"podSelektor": {}}
    (fault,) = kubernetes.faults([Manifest("a", wrong)], version)
    assert "spec.ingress.0.from.0" in fault
    assert "'podSelektor' was unexpected" in fault
    (fault,) = kubernetes.faults([Manifest("a", POLICY | {"apiVersion": "networking.k8s.io/v1beta1"})], version)
    assert f"Kubernetes {version} has no NetworkPolicy of networking.k8s.io/v1beta1" in fault


def test_versions_are_those_that_are_promised():
    assert kubernetes.VERSIONS == ("1.28", "1.29", "1.30", "1.31", "1.32", "1.33", "1.34")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("kind: A\nkind: B\n", "'kind' stands twice"),
        ("just words\n", "which is no object"),
        ("kind: A\nmetadata: {name: a}\n---\nkind: A\nmetadata: {name: a}\n", "rendered a second time"),
    ],
)
def test_what_a_template_may_not_make(text, says):
    with pytest.raises((ValueError, yaml.YAMLError), match=says):
        read_manifests({"chart/templates/a.yaml": text})


def test_notes_are_no_manifest():
    made = read_manifests({"chart/templates/NOTES.txt": "Read this.", "chart/templates/a.yaml": "---\nkind: A\n---\n"})
    assert [manifest.kind for manifest in made] == ["A"]
