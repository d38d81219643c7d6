"""The pods that rendered objects would start."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from helm.chart.rendering import Manifest

# Where each kind keeps the template of its pods.
TEMPLATES = {
    "Deployment": ("spec", "template"),
    "StatefulSet": ("spec", "template"),
    "DaemonSet": ("spec", "template"),
    "ReplicaSet": ("spec", "template"),
    "Job": ("spec", "template"),
    "CronJob": ("spec", "jobTemplate", "spec", "template"),
    "Pod": (),
}


@dataclass(frozen=True)
class Pod:
    """A pod's template and the object that starts it.

    Attributes:
        owner: The object.
        template: Metadata and specification of the pod.
    """

    owner: Manifest
    template: dict[str, Any]

    @property
    def spec(self) -> dict[str, Any]:
        """The pod's specification."""
        return dict(self.template.get("spec") or {})

    @property
    def labels(self) -> dict[str, str]:
        """The pod's labels, by which policies and services select it."""
        return dict((self.template.get("metadata") or {}).get("labels") or {})

    @property
    def annotations(self) -> dict[str, str]:
        """The pod's annotations."""
        return dict((self.template.get("metadata") or {}).get("annotations") or {})

    def containers(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Every container with its path in the specification: init and ephemeral ones too."""
        for field in ("initContainers", "containers", "ephemeralContainers"):
            for container in self.spec.get(field) or []:
                yield f"{field}[{container.get('name')}]", container


def pods(manifests: Iterable[Manifest]) -> list[Pod]:
    """The pods of every object that starts some."""
    return [Pod(manifest, _template(manifest)) for manifest in manifests if manifest.kind in TEMPLATES]


def _template(manifest: Manifest) -> dict[str, Any]:
    found: dict[str, Any] = manifest.content
    for part in TEMPLATES[manifest.kind]:
        found = found.get(part) or {}
    return found
