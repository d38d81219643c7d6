"""Every dashboard by its uid, and how one is written down."""

import json
from collections.abc import Callable, Mapping

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

from helm.dashboards import (
    fine_tuning_results,
    infra_monitoring,
    mlops_overview,
    model_registry,
    pipeline_health,
    slow_runs,
    testing_backtest,
)

DASHBOARDS: Mapping[str, Callable[[], Dashboard]] = {
    mlops_overview.UID: mlops_overview.mlops_overview,
    testing_backtest.UID: testing_backtest.testing_backtest,
    pipeline_health.UID: pipeline_health.pipeline_health,
    model_registry.UID: model_registry.model_registry,
    infra_monitoring.UID: infra_monitoring.infra_monitoring,
    fine_tuning_results.UID: fine_tuning_results.fine_tuning_results,
    slow_runs.UID: slow_runs.slow_runs,
}


def as_json(dashboard: Dashboard) -> str:
    """The dashboard as the file that Grafana reads, the same each time."""
    return json.dumps(dashboard, cls=JSONEncoder, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
