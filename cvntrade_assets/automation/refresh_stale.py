"""A stale crypto starts its own refresh, once the sensor below is turned on: that is the one switch.

Candles that are too old are fetched; a model that is too old is trained anew, as `retrain` does. Each time that a
crypto becomes stale it is asked for once: a refresh that fails, or that the gate refuses, is somebody's to look at.
"""

import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import reduce
from operator import or_

import dagster as dg
import pandas as pd

from cvntrade_assets.operations.pipelines import PIPELINES
from resources.stale_cryptos import Stale, stale_cryptos
from resources.warehouse import Warehouse

# By signal, what a crypto builds when it is critical.
REFRESHES: Mapping[str, tuple[str, ...]] = {
    "candle_freshness": ("candles", "backtest_candles"),
    "model_overdue": PIPELINES["retrain"].assets,
}

Opened = Callable[[], AbstractContextManager[Warehouse]]


class Look:
    """What is stale at a tick: asked for once, whatever the number of assets.

    Args:
        opened: Opens the warehouse.
    """

    def __init__(self, opened: Opened) -> None:
        self._opened = opened
        self._taken: tuple[pd.Timestamp, Stale] | None = None

    def at(self, moment: pd.Timestamp) -> Stale:
        """What is stale at the moment of a tick."""
        if self._taken is None or self._taken[0] != moment:
            with self._opened() as warehouse:
                self._taken = moment, stale_cryptos(warehouse, tuple(REFRESHES), moment)
        return self._taken[1]


class BecameStale(dg.AutomationCondition[dg.AssetKey]):
    """True of a crypto at the one tick at which it is found to be stale, and not again before it was fresh.

    Its cursor holds when each crypto was asked for: a sensor that was off for a while knows what it missed.

    Args:
        signal: Says which cryptos are stale, by being critical.
        look: Shared by the conditions of all assets.
    """

    def __init__(self, signal: str, look: Look) -> None:
        self._signal = signal
        self._look = look

    @property
    def name(self) -> str:
        """What tells its cursor from that of another signal's."""
        return f"{self._signal} became critical"

    @property
    def description(self) -> str:
        """As the UI shows it."""
        return f"{self._signal} of the crypto is critical, and it was not asked for since it last was fresh"

    def evaluate(self, context: "dg.AutomationContext[dg.AssetKey]") -> "dg.AutomationResult[dg.AssetKey]":
        """The cryptos to ask for now."""
        now = pd.Timestamp(context.evaluation_time)
        stale, partitions = self._look.at(now)[self._signal], context.partitions_def
        assert partitions is not None, "every asset that is refreshed is partitioned by crypto"
        known = context.asset_graph_view.get_full_subset(key=context.key).expensively_compute_partition_keys()
        asked = {name: pd.Timestamp(at) for name, at in json.loads(context.cursor or "{}").items() if name in known}
        new = {name for name, fresh_at in stale.items() if name in known and _is_new(asked.get(name), fresh_at)}
        written = {name: at.isoformat() for name, at in (asked | dict.fromkeys(new, now)).items()}
        found = context.asset_graph_view.get_subset_from_partition_keys(context.key, partitions, new)
        return dg.AutomationResult(
            context, context.candidate_subset.compute_intersection(found), cursor=json.dumps(written)
        )


def _is_new(asked_at: pd.Timestamp | None, fresh_at: pd.Timestamp | None) -> bool:
    return asked_at is None or (fresh_at is not None and fresh_at > asked_at)


def with_refresh(assets: Sequence[dg.AssetsDefinition], opened: Opened) -> list[dg.AssetsDefinition]:
    """The assets, those that a stale crypto builds with the condition that says when."""
    look = Look(opened)
    conditions = {signal: BecameStale(signal, look) for signal in REFRESHES}

    def refreshed(spec: dg.AssetSpec) -> dg.AssetSpec:
        own = [conditions[signal] for signal, names in REFRESHES.items() if spec.key.to_user_string() in names]
        return spec.replace_attributes(automation_condition=reduce(or_, own)) if own else spec

    return list(dg.map_asset_specs(refreshed, assets))


with warnings.catch_warnings():
    # A condition of our own can only be evaluated where our code is, which is new in Dagster.
    warnings.simplefilter("ignore", dg.BetaWarning)
    refresh_stale_cryptos = dg.AutomationConditionSensorDefinition(
        "refresh_stale_cryptos",
        target=dg.AssetSelection.assets(*dict.fromkeys(name for names in REFRESHES.values() for name in names)),
        use_user_code_server=True,
        # A run for each crypto, as everywhere else.
        emit_backfills=False,
        minimum_interval_seconds=300,
        default_status=dg.DefaultSensorStatus.STOPPED,
        description="Refreshes the candles of a crypto, or retrains it, once when its signals find them too old.",
    )
