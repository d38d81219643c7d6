"""Infra Monitoring: pods, processors, memory, volumes, kills; daemons, exporter, and what the store holds."""

from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.models import dashboard as model

from helm.dashboards.board import dashboard
from helm.dashboards.limits import LEVELS, limit, rising
from helm.dashboards.panels import DAEMONS_PAGE, LEVEL, WHEN, Column, lines, number, page_link, rows
from helm.dashboards.signals import signal_panel
from helm.dashboards.sources import Sql, promql

UID = "infra-monitoring"

_POD = '{namespace="${namespace}", container!=""}'
_HERE = '{namespace="${namespace}"}'
_OOM = rising(limit("CVN_SIGNAL_OOM_WARNING"), limit("CVN_SIGNAL_OOM_CRITICAL") + 1)
_CPU = rising(limit("CVN_SIGNAL_CPU_WARNING"), None)
_VOLUME = rising(None, limit("CVN_SIGNAL_VOLUME_CRITICAL"))


def infra_monitoring() -> model.Dashboard:
    """The platform, as the signals, Prometheus and the store tell it."""
    return dashboard(
        UID,
        "Infra Monitoring",
        "Pods, processors, memory, volumes, out-of-memory kills, saturation; Dagster's daemons; the exporter.",
        (
            ("As the signal tells it", (_health(), _inputs(), signal_panel("infra_health", 8))),
            ("Pods", (_not_running(), _kills(), _restarts())),
            ("Saturation", (_cpu(), _memory(), _throttled(), _volumes())),
            ("Dagster and the exporter", (_heartbeats(), _exporter(), _scrapes())),
            ("The artifact store", (_store(), _newest())),
        ),
        since="now-24h",
        texts={"namespace": "cvntrade"},
    )


def _health() -> build.Panel:
    return number(
        "infra_health",
        "The golden signal of the platform; unknown when nobody could be asked.",
        Sql("select level from ops_signals where signal = 'infra_health'"),
        unit="string",
        width=6,
        height=8,
        texts=LEVELS,
    )


def _inputs() -> build.Panel:
    return rows(
        "What infra_health was computed from",
        "Kills of 24 hours, share of the processors in use, the fullest volume, what is down; and who told.",
        """
        select input.key as what, input.value, level, reason, observed_at
        from ops_signals, jsonb_each_text(inputs) input
        where signal = 'infra_health'
        order by input.key
        """,
        columns={"level": LEVEL, "observed_at": WHEN},
        width=10,
        height=8,
    )


def _not_running() -> build.Panel:
    return lines(
        "Pods that should run and do not",
        "Pods of the namespace that are pending, failed or unknown.",
        [
            promql(
                f'sum by (pod, phase) (kube_pod_status_phase{_HERE[:-1]}, phase=~"Pending|Failed|Unknown"}}) > 0',
                "{{pod}} {{phase}}",
            )
        ],
        unit="short",
        width=8,
        thresholds=rising(None, 1),
    )


def _kills() -> build.Panel:
    killed = f'kube_pod_container_status_last_terminated_reason{_HERE[:-1]}, reason="OOMKilled"}}'
    restarts = f"increase(kube_pod_container_status_restarts_total{_HERE}[24h])"
    return lines(
        "Out-of-memory kills of 24 hours",
        "Restarts of containers whose last end was an OOM kill.",
        [promql(f"sum by (pod) ({restarts} * on (namespace, pod, container) {killed})", "{{pod}}")],
        unit="short",
        width=8,
        thresholds=_OOM,
    )


def _restarts() -> build.Panel:
    return lines(
        "Restarts of 24 hours",
        "Of containers, whatever ended them.",
        [promql(f"sum by (pod) (increase(kube_pod_container_status_restarts_total{_HERE}[24h])) > 0", "{{pod}}")],
        unit="short",
        width=8,
        thresholds=rising(1, None),
    )


def _cpu() -> build.Panel:
    used = f"sum by (pod) (rate(container_cpu_usage_seconds_total{_POD}[$__rate_interval]))"
    limits = f'sum by (pod) (kube_pod_container_resource_limits{_HERE[:-1]}, resource="cpu"}})'
    return lines(
        "Processors in use, of each pod's limit",
        "Pods without a limit are not shown: give them one.",
        [promql(f"{used} / {limits}", "{{pod}}")],
        unit="percentunit",
        thresholds=_CPU,
    )


def _memory() -> build.Panel:
    used = f"sum by (pod) (container_memory_working_set_bytes{_POD})"
    limits = f'sum by (pod) (kube_pod_container_resource_limits{_HERE[:-1]}, resource="memory"}})'
    return lines(
        "Memory in use, of each pod's limit",
        "At the limit a container is killed.",
        [promql(f"{used} / {limits}", "{{pod}}")],
        unit="percentunit",
    )


def _throttled() -> build.Panel:
    waited = f"sum by (pod) (rate(container_cpu_cfs_throttled_periods_total{_POD}[$__rate_interval]))"
    periods = f"sum by (pod) (rate(container_cpu_cfs_periods_total{_POD}[$__rate_interval]))"
    return lines(
        "Throttled share of processor periods",
        "A pod that is throttled wants more processors than its limit allows.",
        [promql(f"{waited} / {periods}", "{{pod}}")],
        unit="percentunit",
        thresholds=_CPU,
    )


def _volumes() -> build.Panel:
    used, size = f"kubelet_volume_stats_used_bytes{_HERE}", f"kubelet_volume_stats_capacity_bytes{_HERE}"
    return lines(
        "Fullness of every volume",
        "Persistent volume claims of the namespace.",
        [promql(f"{used} / {size}", "{{persistentvolumeclaim}}")],
        unit="percentunit",
        thresholds=_VOLUME,
    )


def _heartbeats() -> build.Panel:
    panel = lines(
        "Age of each daemon's heartbeat",
        "A daemon that sends none runs no schedule, no sensor and no queue.",
        [promql("time() - cvntrade_daemon_heartbeat_timestamp_seconds", "{{daemon}}")],
        unit="s",
        width=8,
        thresholds=rising(None, limit("CVN_WATCHDOG_MINUTES", 60)),
    )
    return panel.links([page_link(DAEMONS_PAGE)])


def _exporter() -> build.Panel:
    return lines(
        "Age of the exporter's last success",
        "Grows when PostgreSQL does not answer; no line at all: the exporter itself is dead.",
        [promql("time() - cvntrade_exporter_last_success_timestamp_seconds", "exporter")],
        unit="s",
        width=8,
        thresholds=rising(None, 300),
    )


def _scrapes() -> build.Panel:
    return lines(
        "How long scrapes take",
        "Prometheus gives up after ten seconds.",
        [
            promql("cvntrade_exporter_scrape_seconds", "whole scrape"),
            promql("cvntrade_exporter_source_seconds", "{{source}}", "B"),
        ],
        unit="s",
        width=8,
    )


def _store() -> build.Panel:
    return lines(
        "Bytes published, by asset and day",
        "What runs add to the artifact store.",
        """
        select $__timeGroupAlias(published_at, '1d'), asset as metric, sum(bytes) as value
        from ops_artifacts where $__timeFilter(published_at) group by 1, 2 order by 1
        """,
        unit="bytes",
    )


def _newest() -> build.Panel:
    return rows(
        "What the store holds",
        "Versions and bytes of every asset.",
        """
        select asset, count(*) as versions, count(distinct crypto) as cryptos, sum(bytes) as bytes,
            max(published_at) as newest
        from ops_artifacts group by asset order by sum(bytes) desc
        """,
        columns={"bytes": Column("bytes"), "newest": WHEN},
        width=12,
        height=8,
    )
