"""What Prometheus tells of the cluster: kills for want of memory, processors, volumes, and what is down.

Asked through its HTTP API. What it has no number for is unknown, and so is everything when it does not answer: nobody
else is asked in its place.
"""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from cvntrade_assets.operations.facts import InfraFacts
from resources.secrets import process_mask

SOURCE = "prometheus"

# Four questions, one after the other, within a look that has ten seconds.
_TIMEOUT_SECONDS = 2.0
_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_NO_STORAGE = 'fstype!~"tmpfs|ramfs|overlay|squashfs|iso9660|nsfs|autofs"'

# The kernel counts every kill; without a node exporter, the kubelet does, of containers.
_OOM_KILLS = "sum(increase(node_vmstat_oom_kill[24h])) or sum(increase(container_oom_events_total[24h]))"
# Of the busiest machine: an average would hide one that is saturated. As a share of what was scraped, because a rate
# counts the minutes before the first scrape as idle ones of no processor.
_CPU_USED = (
    '1 - min(sum by (instance) (rate(node_cpu_seconds_total{mode=~"idle|iowait"}[5m])) '
    "/ sum by (instance) (rate(node_cpu_seconds_total[5m])))"
)
_VOLUMES = (
    "topk(1, max by (persistentvolumeclaim) ("
    "kubelet_volume_stats_used_bytes{%(here)s} / kubelet_volume_stats_capacity_bytes{%(here)s}) "
    f"or max by (instance, mountpoint) (1 - node_filesystem_avail_bytes{{{_NO_STORAGE}}} "
    f"/ node_filesystem_size_bytes{{{_NO_STORAGE}}}))"
)
_DOWN = (
    "up{%(here)s} == 0 or kube_deployment_status_replicas_unavailable{%(here)s} > 0 or "
    "(kube_statefulset_replicas{%(here)s} - kube_statefulset_status_replicas_ready{%(here)s}) > 0"
)
_TARGETS = "count(up{%(here)s})"


class PrometheusError(RuntimeError):
    """Prometheus did not answer, or not as it should; the message says where, what and what to do."""


@dataclass(frozen=True)
class Sample:
    """One series of an answer: its labels and its value."""

    labels: Mapping[str, str]
    value: float


class Prometheus:
    """Asks one Prometheus server.

    Args:
        url: Its address, as in CVN_PROMETHEUS_URL.

    Raises:
        PrometheusError: the address is none.
    """

    def __init__(self, url: str) -> None:
        try:
            self._client = httpx.Client(
                base_url=url.rstrip("/"), timeout=_TIMEOUT_SECONDS, trust_env=False, follow_redirects=False
            )
        except httpx.InvalidURL:
            raise PrometheusError(_not_an_address()) from None
        if self._client.base_url.scheme not in ("http", "https") or not self._client.base_url.host:
            raise PrometheusError(_not_an_address())

    @property
    def _where(self) -> str:
        url = self._client.base_url
        return f"{url.host}:{url.port}" if url.port else url.host

    def ask(self, query: str) -> list[Sample]:
        """What a query gives now; values that are no number are left out.

        Raises:
            PrometheusError: it does not answer within two seconds, or with something else than the result of a query.
        """
        try:
            response = self._client.get("/api/v1/query", params={"query": query})
        except httpx.HTTPError as error:
            raise PrometheusError(
                f"Prometheus at {self._where} does not answer ({type(error).__name__}: {error}): does it run, and is "
                "CVN_PROMETHEUS_URL its address?"
            ) from None
        try:
            answer = response.json()
            if answer["status"] == "success":
                return _samples(answer["data"])
            said = f"{answer['errorType']}: {answer['error']}"
        except (ValueError, KeyError, TypeError, IndexError):
            said = f"HTTP {response.status_code}, and not an answer of Prometheus"
        raise PrometheusError(
            process_mask().text(
                f"Prometheus at {self._where} refused a query ({said}): is CVN_PROMETHEUS_URL the address of its API? "
                f"The query was {query}"
            )
        )

    def close(self) -> None:
        """Give the connection back."""
        self._client.close()


def _not_an_address() -> str:
    return "CVN_PROMETHEUS_URL is not an address such as http://prometheus:9090"


def _samples(data: Any) -> list[Sample]:
    if data["resultType"] != "vector":
        raise ValueError(data["resultType"])
    found = [Sample(dict(series["metric"]), float(series["value"][1])) for series in data["result"]]
    return [sample for sample in found if math.isfinite(sample.value)]


def infra_of_cluster(url: str) -> InfraFacts:
    """How the cluster stands that a Prometheus watches: whatever it cannot say is unknown, with the reason."""
    try:
        prometheus = Prometheus(url)
    except PrometheusError as error:
        return InfraFacts(SOURCE, trouble=(str(error),))
    try:
        return _ask_all(prometheus, _here())
    except PrometheusError as error:
        # Whoever does not answer one question is not asked three more.
        return InfraFacts(SOURCE, trouble=(str(error),))
    finally:
        prometheus.close()


def _here() -> str:
    """The matcher of our own namespace in a cluster that is shared with others; none outside a pod."""
    # The chart says it; a pod without a token of its account has no such file.
    namespace = os.environ.get("CVN_NAMESPACE") or (_NAMESPACE.read_text().strip() if _NAMESPACE.exists() else "")
    return f'namespace="{namespace}"' if namespace else ""


def _ask_all(prometheus: Prometheus, here: str) -> InfraFacts:
    kills = prometheus.ask(_OOM_KILLS)
    cpu = prometheus.ask(_CPU_USED)
    volumes = prometheus.ask(_VOLUMES % {"here": here})
    targets = prometheus.ask(_TARGETS % {"here": here})
    down = prometheus.ask(_DOWN % {"here": here}) if targets else []
    trouble = [
        f"Prometheus has no {missing}"
        for missing, found in (
            ("node_vmstat_oom_kill and no container_oom_events_total: is a node exporter scraped?", kills),
            ("node_cpu_seconds_total: is a node exporter scraped?", cpu),
            ("kubelet_volume_stats_used_bytes and no node_filesystem_avail_bytes: is the kubelet scraped?", volumes),
            (f"target{' with ' + here if here else ''}: what does it scrape?", targets),
        )
        if not found
    ]
    return InfraFacts(
        SOURCE,
        # What is counted over a day is extrapolated to its ends.
        oom_kills=round(kills[0].value) if kills else None,
        cpu_used=cpu[0].value if cpu else None,
        volume_used=volumes[0].value if volumes else None,
        fullest=_named(volumes[0], ("persistentvolumeclaim", "instance", "mountpoint")) if volumes else None,
        down=_names(down) if targets else None,
        trouble=tuple(trouble),
    )


def _names(samples: Sequence[Sample]) -> tuple[str, ...]:
    wanted = ("deployment", "statefulset", "job", "pod", "instance")
    return tuple(sorted({_named(sample, wanted) for sample in samples}))


def _named(sample: Sample, labels: Sequence[str]) -> str:
    # A series of the state of others carries the exporter's own job, instance and pod beside what it is about.
    for workload in ("deployment", "statefulset"):
        if workload in sample.labels:
            return f"{workload} {sample.labels[workload]}"
    return " ".join(sample.labels[label] for label in labels if label in sample.labels) or "unnamed"
