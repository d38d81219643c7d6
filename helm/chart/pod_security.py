"""Kubernetes' Pod Security Standard, level "restricted", field by field.

An API server enforces it by a label of the namespace. Here a chart's pods are judged before there is one. The level
forbids what "baseline" forbids, and more; what came to the standard later (the hosts of probes) is judged too.
"""

from collections.abc import Callable, Iterator
from typing import Any

from helm.chart.pods import Pod

VOLUMES = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
}
SYSCTLS = {
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
}
PROFILES = ("RuntimeDefault", "Localhost")
WANTED = f"one of {', '.join(PROFILES)} is wanted"
SELINUX_TYPES = (None, "", "container_t", "container_init_t", "container_kvm_t", "container_engine_t")
APPARMOR_ANNOTATION = "container.apparmor.security.beta.kubernetes.io/"
HANDLERS = ("livenessProbe", "readinessProbe", "startupProbe")

Where = tuple[str, dict[str, Any]]


def breaches(pod: Pod) -> list[str]:
    """What keeps a pod out of a namespace that enforces "restricted", in words; nothing means it is let in."""
    return [f"{pod.owner}: {words}" for rule in RULES for words in rule(pod)]


def _host(pod: Pod) -> Iterator[str]:
    for field in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.spec.get(field):
            yield f"spec.{field} shares the node's own; leave it out"
    for path, container in pod.containers():
        for port in container.get("ports") or []:
            if port.get("hostPort"):
                yield f"{path}.ports: hostPort {port['hostPort']} is the node's; leave it out"


def _windows(pod: Pod) -> Iterator[str]:
    for path, context in _contexts(pod):
        if (context.get("windowsOptions") or {}).get("hostProcess"):
            yield f"{path}.windowsOptions.hostProcess is privileged access to the node"


def _privileged(pod: Pod) -> Iterator[str]:
    for path, context in _container_contexts(pod):
        if context.get("privileged"):
            yield f"{path}.privileged must not be set"
        if context.get("allowPrivilegeEscalation") is not False:
            yield f"{path}.allowPrivilegeEscalation must be false"
        if context.get("procMount") not in (None, "Default"):
            yield f"{path}.procMount is {context['procMount']}; only Default is allowed"


def _capabilities(pod: Pod) -> Iterator[str]:
    for path, context in _container_contexts(pod):
        capabilities = context.get("capabilities") or {}
        if "ALL" not in (capabilities.get("drop") or []):
            yield f"{path}.capabilities.drop must hold ALL"
        for added in capabilities.get("add") or []:
            if added != "NET_BIND_SERVICE":
                yield f"{path}.capabilities.add holds {added}; only NET_BIND_SERVICE is allowed"


def _volumes(pod: Pod) -> Iterator[str]:
    for volume in pod.spec.get("volumes") or []:
        for kind in sorted(set(volume) - {"name"} - VOLUMES):
            yield f"spec.volumes[{volume.get('name')}] is a {kind}; allowed are {', '.join(sorted(VOLUMES))}"


def _user(pod: Pod) -> Iterator[str]:
    of_pod = pod.spec.get("securityContext") or {}
    for path, context in _contexts(pod):
        if context.get("runAsUser") == 0:
            yield f"{path}.runAsUser is 0, the superuser"
    for path, context in _container_contexts(pod):
        if context.get("runAsNonRoot", of_pod.get("runAsNonRoot")) is not True:
            yield f"{path}.runAsNonRoot must be true, here or for the pod"


def _seccomp(pod: Pod) -> Iterator[str]:
    of_pod = (pod.spec.get("securityContext") or {}).get("seccompProfile") or {}
    if of_pod and of_pod.get("type") not in PROFILES:
        yield f"spec.securityContext.seccompProfile.type is {of_pod.get('type')}; {WANTED}"
    for path, context in _container_contexts(pod):
        profile = (context.get("seccompProfile") or of_pod).get("type")
        if profile not in PROFILES:
            yield f"{path}.seccompProfile.type is {profile}; {WANTED}, here or for the pod"


def _selinux(pod: Pod) -> Iterator[str]:
    for path, context in _contexts(pod):
        options = context.get("seLinuxOptions") or {}
        if options.get("type") not in SELINUX_TYPES:
            yield f"{path}.seLinuxOptions.type is {options['type']}"
        for field in ("user", "role"):
            if options.get(field):
                yield f"{path}.seLinuxOptions.{field} must not be set"


def _apparmor(pod: Pod) -> Iterator[str]:
    for path, context in _contexts(pod):
        profile = context.get("appArmorProfile")
        if profile and profile.get("type") not in PROFILES:
            yield f"{path}.appArmorProfile.type is {profile.get('type')}; {WANTED}"
    for key, value in pod.annotations.items():
        allowed = value in ("", "runtime/default") or value.startswith("localhost/")
        if key.startswith(APPARMOR_ANNOTATION) and not allowed:
            yield f"the annotation {key} is {value}"


def _sysctls(pod: Pod) -> Iterator[str]:
    for setting in (pod.spec.get("securityContext") or {}).get("sysctls") or []:
        if setting.get("name") not in SYSCTLS:
            yield f"spec.securityContext.sysctls holds {setting.get('name')}, which is not a safe one"


def _probes(pod: Pod) -> Iterator[str]:
    for path, container in pod.containers():
        handlers = {name: container.get(name) for name in HANDLERS}
        handlers |= {f"lifecycle.{name}": handler for name, handler in (container.get("lifecycle") or {}).items()}
        for name, handler in handlers.items():
            for action in ("httpGet", "tcpSocket"):
                host = ((handler or {}).get(action) or {}).get("host")
                if host:
                    yield f"{path}.{name}.{action}.host is {host}; a probe asks its own pod only"


RULES: tuple[Callable[[Pod], Iterator[str]], ...] = (
    _host,
    _windows,
    _privileged,
    _capabilities,
    _volumes,
    _user,
    _seccomp,
    _selinux,
    _apparmor,
    _sysctls,
    _probes,
)


def _container_contexts(pod: Pod) -> Iterator[Where]:
    for path, container in pod.containers():
        yield f"{path}.securityContext", container.get("securityContext") or {}


def _contexts(pod: Pod) -> Iterator[Where]:
    yield "spec.securityContext", pod.spec.get("securityContext") or {}
    yield from _container_contexts(pod)
