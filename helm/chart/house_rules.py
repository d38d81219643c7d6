"""What this chart asks of its pods beyond Kubernetes' standard.

A root filesystem that nobody writes to, images that stay what they were, bounded resources, an API token only where the
API is used, a probe where somebody waits for an answer, and of a port that is there.
"""

import re
from collections.abc import Iterator
from typing import Any

from helm.chart.pods import Pod

# A floating name says nothing of what runs; only a version or a digest does.
FLOATING = {"latest", "stable", "main", "master", "edge", "dev", "nightly"}
PROBES = ("livenessProbe", "readinessProbe", "startupProbe")
SERVING = ("Deployment", "StatefulSet")
IMAGE = re.compile(r"^(?P<repository>[^\s@]+?)(?::(?P<tag>[\w][\w.-]*))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?$")


def breaches(pod: Pod) -> list[str]:
    """What a pod of our own templates lacks, in words."""
    return [f"{pod.owner}: {words}" for words in _of_pod(pod)] + container_breaches(pod)


def container_breaches(pod: Pod) -> list[str]:
    """What a pod's containers lack, in words: as much as Dagster's chart lets values decide."""
    return [
        f"{pod.owner}: {path}: {words}" for path, container in pod.containers() for words in _of_container(container)
    ]


def _of_pod(pod: Pod) -> Iterator[str]:
    if "automountServiceAccountToken" not in pod.spec:
        yield "automountServiceAccountToken must be said, true only for who asks the API server"
    if not pod.spec.get("serviceAccountName"):
        yield "serviceAccountName must be said; the namespace's default account is nobody's"
    if pod.spec.get("enableServiceLinks") is not False:
        yield "enableServiceLinks must be false: addresses come from the ConfigMap, not from what else runs here"
    if pod.owner.kind in SERVING:
        for container in pod.spec.get("containers") or []:
            if not container.get("readinessProbe"):
                yield f"containers[{container.get('name')}]: no readinessProbe"


def _of_container(container: dict[str, Any]) -> Iterator[str]:
    if (container.get("securityContext") or {}).get("readOnlyRootFilesystem") is not True:
        yield "securityContext.readOnlyRootFilesystem must be true"
    yield from floating(str(container.get("image", "")))
    yield from _asked_elsewhere(container)
    resources = container.get("resources") or {}
    requests, limits = resources.get("requests") or {}, resources.get("limits") or {}
    for name in ("cpu", "memory"):
        if name not in requests:
            yield f"resources.requests.{name} is missing"
    if "memory" not in limits:
        yield "resources.limits.memory is missing"
    elif limits["memory"] != requests.get("memory"):
        yield "resources: memory's limit must be its request, or the node decides who is killed"


def _asked_elsewhere(container: dict[str, Any]) -> Iterator[str]:
    """Probes of ports that the container does not open."""
    ports = container.get("ports") or []
    there = {port.get("name") for port in ports} | {port["containerPort"] for port in ports}
    for probe in PROBES:
        for action in ("httpGet", "tcpSocket"):
            asked = ((container.get(probe) or {}).get(action) or {}).get("port")
            if asked is not None and asked not in there:
                yield f"{probe}.{action}.port is {asked}, which is no port of the container"


def floating(image: str) -> list[str]:
    """What makes an image's name ambiguous, in words: no tag, a tag that moves, or no name at all."""
    found = IMAGE.match(image)
    if not found:
        return [f"image {image!r} is no name of an image"]
    if found["digest"]:
        return []
    if not found["tag"]:
        return [f"image {image} has neither tag nor digest"]
    return [f"image {image} has a tag that moves"] if found["tag"] in FLOATING else []
