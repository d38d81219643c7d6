"""Where everything is put together, and the only place that knows everybody."""

from collections.abc import Mapping
from typing import Any

import dagster as dg

from asset_checks.contracts import BLOCKING_CHECKS, CHECKS
from cvntrade_assets.assets.calibration import calibration
from cvntrade_assets.assets.candles import backtest_candles, candles
from cvntrade_assets.assets.feature_selection import feature_selection
from cvntrade_assets.assets.features import features
from cvntrade_assets.assets.hyperparameters import hyperparameters
from cvntrade_assets.assets.label_pipeline import label_pipeline
from cvntrade_assets.assets.labels import labels
from cvntrade_assets.assets.model import model
from cvntrade_assets.assets.test_report import test_report
from cvntrade_assets.assets.training_set import training_set
from cvntrade_assets.automation.jobs import JOBS
from cvntrade_assets.automation.schedules import SCHEDULES
from cvntrade_assets.automation.sensors import SENSORS
from resources.io_manager import ArtifactIOManagerResource
from resources.run_settings import RunSettings
from resources.tracking import TrackingResource
from resources.warehouse import WarehouseResource

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
    test_report,
)


def default_resources() -> dict[str, Any]:
    """The real resources; addresses and secrets are read from the environment when a run starts."""
    warehouse = WarehouseResource(url=dg.EnvVar("CVN_WAREHOUSE_URL"))
    return {
        "warehouse": warehouse,
        "run_settings": RunSettings(warehouse=warehouse),
        "tracking": TrackingResource(uri=dg.EnvVar("CVN_MLFLOW_URL"), ui_url=dg.EnvVar("CVN_UI_URL")),
        "io_manager": ArtifactIOManagerResource(
            root=dg.EnvVar("CVN_ARTIFACTS"),
            warehouse=warehouse,
            blocking_checks={name: list(checks) for name, checks in BLOCKING_CHECKS.items()},
        ),
    }


def build_defs(resources: Mapping[str, Any] | None = None) -> dg.Definitions:
    """Assets, checks, jobs, schedules and sensors with their resources.

    Args:
        resources: Replace default resources by name, e.g. with those of a test's own server.
    """
    return dg.Definitions(
        assets=ASSETS,
        asset_checks=CHECKS,
        jobs=JOBS,
        schedules=SCHEDULES,
        sensors=SENSORS,
        resources={**default_resources(), **(resources or {})},
        # One run, one crypto, one process: parallelism comes from the run queue.
        executor=dg.in_process_executor,
    )


defs = build_defs()
