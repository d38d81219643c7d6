"""Sensor: keeps the places of the pools in Dagster's storage what the operators' settings say."""

import dagster as dg
import pandas as pd

from cvntrade_assets.settings import resolve
from resources.pools import apply_pool_limits
from resources.warehouse import Warehouse


@dg.sensor(
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Gives the pools of the exchange and of training as many places as CVN_POOL_EXCHANGE and "
    "CVN_POOL_TRAINING say.",
)
def sync_pools(context: dg.SensorEvaluationContext, warehouse: dg.ResourceParam[Warehouse]) -> dg.SkipReason:
    """Make the limits what the settings say; an edit counts within a minute."""
    settings = resolve(base_env=warehouse.base_env(), run={}, now=pd.Timestamp.now("UTC"))
    limits = apply_pool_limits(context.instance, settings)
    return dg.SkipReason(", ".join(f"{pool}: {limit}" for pool, limit in limits.items()))
