"""Where everything is put together, and the only place that knows everybody."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg

from asset_checks.contracts import BLOCKING_CHECKS, CHECKS
from asset_checks.drift_rules import drift_check
from asset_checks.guardrails import preflight_checks
from asset_checks.registry import registry_check
from asset_checks.rollout import rollout_gates
from asset_checks.runtime import runtime_check
from cvntrade_assets.assets.backtest import backtest
from cvntrade_assets.assets.calibration import calibration
from cvntrade_assets.assets.candles import backtest_candles, candles
from cvntrade_assets.assets.challenger import challenger
from cvntrade_assets.assets.drift import drift
from cvntrade_assets.assets.evaluation import evaluation
from cvntrade_assets.assets.feature_selection import feature_selection
from cvntrade_assets.assets.features import features
from cvntrade_assets.assets.global_state import global_state
from cvntrade_assets.assets.golden_signals import golden_signals
from cvntrade_assets.assets.guardrail_report import guardrail_report
from cvntrade_assets.assets.hyperparameters import hyperparameters
from cvntrade_assets.assets.label_pipeline import label_pipeline
from cvntrade_assets.assets.labels import labels
from cvntrade_assets.assets.model import model
from cvntrade_assets.assets.model_health import model_health
from cvntrade_assets.assets.morning_report import morning_report
from cvntrade_assets.assets.rolling_backtest import rolling_backtest
from cvntrade_assets.assets.rollout import rollout
from cvntrade_assets.assets.screening_matrix import screening_matrix
from cvntrade_assets.assets.test_report import test_report
from cvntrade_assets.assets.training_set import training_set
from cvntrade_assets.assets.validation_audit import validation_audit
from cvntrade_assets.assets.walk_forward import walk_forward
from cvntrade_assets.automation.freshness_policies import with_freshness
from cvntrade_assets.automation.jobs import JOBS
from cvntrade_assets.automation.production_smoke import production_smoke_job
from cvntrade_assets.automation.refresh_stale import with_refresh
from cvntrade_assets.automation.schedules import SCHEDULES
from cvntrade_assets.automation.sensors import SENSORS
from resources.io_manager import ArtifactIOManagerResource
from resources.run_settings import RunSettings
from resources.tracking import TrackingResource
from resources.warehouse_resource import WarehouseResource

ASSETS = (
    candles,
    backtest_candles,
    features,
    labels,
    training_set,
    feature_selection,
    label_pipeline,
    hyperparameters,
    model,
    calibration,
    backtest,
    test_report,
    validation_audit,
    screening_matrix,
    walk_forward,
    rolling_backtest,
    evaluation,
    challenger,
    drift,
    model_health,
    rollout,
    guardrail_report,
    morning_report,
    golden_signals,
    global_state,
)

# Every setting that some asset reads.
USED_KEYS = frozenset(key for asset in ASSETS for spec in asset.specs for key in spec.metadata.get("settings", ()))


def default_resources() -> dict[str, Any]:
    """The real resources; addresses and secrets are read from the environment when a run starts."""
    tracking = TrackingResource(uri=dg.EnvVar("CVN_MLFLOW_URL"), ui_url=dg.EnvVar("CVN_UI_URL"))
    return _resources(dg.EnvVar("CVN_WAREHOUSE_URL"), dg.EnvVar("CVN_ARTIFACTS"), tracking)


def _resources(warehouse_url: str, artifacts: str, tracking: TrackingResource) -> dict[str, Any]:
    warehouse = WarehouseResource(url=warehouse_url)
    return {
        "warehouse": warehouse,
        "run_settings": RunSettings(warehouse=warehouse),
        "tracking": tracking,
        "io_manager": ArtifactIOManagerResource(
            root=artifacts,
            warehouse=warehouse,
            blocking_checks={name: list(checks) for name, checks in BLOCKING_CHECKS.items()},
        ),
    }


def defs_on(warehouse_url: str, artifacts: Path, tracking: TrackingResource) -> dg.Definitions:
    """The definitions on stores that are given, e.g. those of the production smoke, in place of the deployment's."""
    return build_defs(_resources(warehouse_url, str(artifacts), tracking))


def build_defs(resources: Mapping[str, Any] | None = None) -> dg.Definitions:
    """Assets, checks, jobs, schedules and sensors with their resources.

    Args:
        resources: Replace default resources by name, e.g. with those of a test's own server.
    """
    used = {**default_resources(), **(resources or {})}
    return dg.Definitions(
        assets=with_refresh(with_freshness(ASSETS), used["warehouse"].process_config_and_initialize_cm),
        asset_checks=(*CHECKS, preflight_checks(USED_KEYS), rollout_gates, registry_check, runtime_check, drift_check),
        jobs=(*JOBS, production_smoke_job(defs_on)),
        schedules=SCHEDULES,
        sensors=SENSORS,
        resources=used,
        # One run, one crypto, one process: parallelism comes from the run queue.
        executor=dg.in_process_executor,
    )


defs = build_defs()
