"""Sensor: what Dagster finds of its freshness policies becomes alerts, which it has none of."""

from collections.abc import Mapping

import dagster as dg
import pandas as pd
from dagster._core.definitions.freshness import FreshnessState

from cvntrade_assets.automation.freshness_policies import FRESHNESS
from cvntrade_assets.operations.condition import Condition
from cvntrade_assets.operations.taxonomy import Role, Severity
from cvntrade_assets.settings import Settings, resolve
from resources.alerts import reconcile
from resources.warehouse import Warehouse

SOURCE = "freshness"

# What was never built is not late: Dagster calls that UNKNOWN.
_SEVERITIES: Mapping[FreshnessState, Severity] = {FreshnessState.FAIL: Severity.P2, FreshnessState.WARN: Severity.P3}
_SAID: Mapping[FreshnessState, str] = {FreshnessState.FAIL: "is late", FreshnessState.WARN: "is nearly late"}


@dg.sensor(
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Alerts of assets that are older than their freshness policy allows, and says when they are built.",
)
def freshness_watch(context: dg.SensorEvaluationContext, warehouse: dg.ResourceParam[Warehouse]) -> dg.SkipReason:
    """Make the open alerts what Dagster finds now; all of it is read each time, so that no cursor is needed."""
    now = pd.Timestamp.now("UTC")
    settings = resolve(base_env=warehouse.base_env(), run={}, now=now)
    found = late(context.instance, settings)
    with warehouse.begin() as connection:
        reconcile(connection, SOURCE, found, now, settings)
    return dg.SkipReason("; ".join(each.what for each in found) or f"none of {len(FRESHNESS)} assets is late")


def late(instance: dg.DagsterInstance, settings: Settings) -> list[Condition]:
    """What is late, or nearly so, by asset."""
    records = instance.get_freshness_state_records([dg.AssetKey(name) for name in FRESHNESS])
    states = {key.to_user_string(): (each.freshness_state, each.updated_at) for key, each in records.items()}
    return [
        _condition(name, state, pd.Timestamp(since), settings)
        for name, (state, since) in sorted(states.items())
        if state in _SEVERITIES
    ]


def _condition(asset: str, state: FreshnessState, since: pd.Timestamp, settings: Settings) -> Condition:
    freshness = FRESHNESS[asset]
    group = settings.text("CVN_CORE_GROUPS").split(",")[0]
    return Condition(
        key=f"{SOURCE}/{asset}",
        source=SOURCE,
        kind=SOURCE,
        severity=_SEVERITIES[state],
        owner=Role.MLOPS_MAINTAINER,
        what=f"{asset} {_SAID[state]}: it is to be {freshness.asks}, and its newest version is older",
        where=asset,
        since=since,
        next_step=freshness.next_step.format(group=group),
        link=f"/assets/{asset}",
    )
