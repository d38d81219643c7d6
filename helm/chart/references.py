"""What rendered objects refer to by name or by label, and whether it is there.

A pod that names a ConfigMap, Secret or account that nobody makes waits for ever, and Helm reports success. A hook that
runs before the installation finds nothing of the release, only what hooks before it made.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from helm.chart.pods import Pod, pods
from helm.chart.rendering import Manifest

BEFORE = ("pre-install", "pre-upgrade")
WEIGHT = "helm.sh/hook-weight"
DELETION = "helm.sh/hook-delete-policy"
GONE = "hook-succeeded"


@dataclass(frozen=True, order=True)
class Reference:
    """A name that an object relies on.

    Attributes:
        kind: ConfigMap, Secret, ServiceAccount or PersistentVolumeClaim.
        name: Its name.
        where: Path of the field that names it.
        optional: Whether the pod starts without it.
    """

    kind: str
    name: str
    where: str
    optional: bool = False


def references(pod: Pod) -> list[Reference]:
    """Every name that a pod needs before it can start."""
    return [*_of_spec(pod.spec), *_of_containers(pod), *_of_volumes(pod.spec)]


def dangling(manifests: Iterable[Manifest], external: Mapping[str, Iterable[str]]) -> list[str]:
    """References to what neither the chart makes nor the values declare, in words.

    Args:
        manifests: Rendered objects.
        external: By kind, the names that somebody else makes.
    """
    made = list(manifests)
    known = {kind: set(names) for kind, names in external.items()}
    for manifest in made:
        if not manifest.hooks or GONE not in manifest.annotations.get(DELETION, ""):
            known.setdefault(manifest.kind, set()).add(manifest.name)
    found = []
    for pod in pods(made):
        there = _there_for(pod.owner, made, known, external)
        missing = [
            wanted
            for wanted in references(pod)
            if not wanted.optional and wanted.name not in there.get(wanted.kind, set())
        ]
        found += [f"{pod.owner}: {it.where} names {it.kind} {it.name!r}, {_why(pod.owner)}." for it in missing]
    return [*found, *_unselected(made), *_unbound(made, known)]


def _there_for(
    owner: Manifest, made: list[Manifest], known: Mapping[str, set[str]], external: Mapping[str, Iterable[str]]
) -> dict[str, set[str]]:
    """What exists when a pod's owner is made: before the release, only the outside and earlier hooks."""
    before = set(owner.hooks) & set(BEFORE)
    there = {kind: set(names) for kind, names in (external if before else known).items()}
    for other in made:
        earlier = int(other.annotations.get(WEIGHT, "0")) < int(owner.annotations.get(WEIGHT, "0"))
        if before and before <= set(other.hooks) and earlier:
            there.setdefault(other.kind, set()).add(other.name)
    return there


def _why(owner: Manifest) -> str:
    if set(owner.hooks) & set(BEFORE):
        return "which neither the outside nor an earlier hook has made by then"
    return "which neither the chart makes nor the values declare"


def _of_spec(spec: Mapping[str, Any]) -> Iterator[Reference]:
    if spec.get("serviceAccountName"):
        yield Reference("ServiceAccount", spec["serviceAccountName"], "spec.serviceAccountName")
    for secret in spec.get("imagePullSecrets") or []:
        yield Reference("Secret", secret["name"], "spec.imagePullSecrets")


def _of_containers(pod: Pod) -> Iterator[Reference]:
    for path, container in pod.containers():
        for variable in container.get("env") or []:
            origin = variable.get("valueFrom") or {}
            for field, kind in (("configMapKeyRef", "ConfigMap"), ("secretKeyRef", "Secret")):
                if field in origin:
                    yield _reference(kind, origin[field], f"{path}.env[{variable['name']}]")
        for source in container.get("envFrom") or []:
            for field, kind in (("configMapRef", "ConfigMap"), ("secretRef", "Secret")):
                if field in source:
                    yield _reference(kind, source[field], f"{path}.envFrom")


def _of_volumes(spec: Mapping[str, Any]) -> Iterator[Reference]:
    for volume in spec.get("volumes") or []:
        where = f"spec.volumes[{volume['name']}]"
        for source in [volume, *((volume.get("projected") or {}).get("sources") or [])]:
            if "configMap" in source:
                yield _reference("ConfigMap", source["configMap"], where)
            if "secret" in source:
                named = source["secret"]
                name = named.get("secretName") or named.get("name")
                yield Reference("Secret", name, where, bool(named.get("optional")))
        if "persistentVolumeClaim" in volume:
            yield Reference("PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"], where)


def _reference(kind: str, source: Mapping[str, Any], where: str) -> Reference:
    return Reference(kind, source["name"], where, bool(source.get("optional")))


def _unselected(made: list[Manifest]) -> Iterator[str]:
    """Services, budgets and monitors whose labels nothing of the chart carries."""
    carried = {"Pod": [pod.labels for pod in pods(made)]}
    carried["Service"] = [m.content["metadata"].get("labels") or {} for m in made if m.kind == "Service"]
    for manifest in made:
        spec = manifest.content.get("spec") or {}
        selectors: dict[str, tuple[str, Any]] = {
            "Service": ("Pod", spec.get("selector")),
            "PodDisruptionBudget": ("Pod", (spec.get("selector") or {}).get("matchLabels")),
            "ServiceMonitor": ("Service", (spec.get("selector") or {}).get("matchLabels")),
        }
        if manifest.kind in selectors:
            kind, wanted = selectors[manifest.kind]
            if wanted and not any(wanted.items() <= labels.items() for labels in carried[kind]):
                yield f"{manifest}: selects {wanted}, and no {kind} of the chart carries these labels."


def _unbound(made: list[Manifest], known: Mapping[str, set[str]]) -> Iterator[str]:
    """Bindings of a role or an account that is not there."""
    for manifest in made:
        if manifest.kind not in ("RoleBinding", "ClusterRoleBinding"):
            continue
        role = manifest.content["roleRef"]
        if not any(other.kind == role["kind"] and other.name == role["name"] for other in made):
            yield f"{manifest}: binds {role['kind']} {role['name']!r}, which the chart does not make."
        for subject in manifest.content.get("subjects") or []:
            if subject["name"] not in known.get(subject["kind"], set()):
                yield f"{manifest}: binds {subject['kind']} {subject['name']!r}, which the chart does not make."
