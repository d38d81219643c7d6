"""Sensor: computes every signal and the global state, stores them, raises their alerts, and shows what changed."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import dagster as dg
import pandas as pd
import sqlalchemy as sa

from cvntrade_assets.automation.signal_events import Shown, show
from cvntrade_assets.operations.facts import Facts
from cvntrade_assets.operations.global_state import held_state, judge_state, shown_reasons
from cvntrade_assets.operations.observe import observe
from cvntrade_assets.operations.severity import condition_of, condition_of_state
from cvntrade_assets.operations.signals import SIGNALS, Level, Observation, Scope
from cvntrade_assets.settings import Settings, resolve
from resources.alerts import reconcile
from resources.machine import MachineWatch
from resources.signal_facts import gather
from resources.signal_store import (
    StoredState,
    earlier_states,
    levels_since,
    purge,
    signals_in,
    state_in,
    store,
    store_state,
)
from resources.warehouse import Warehouse

EVERY_SECONDS = 300
_CURSOR_VERSION = 1


@dataclass(frozen=True)
class Cursor:
    """What one tick leaves to the next: the machine's counters, and what the UI shows of every subject."""

    machine: str | None = None
    shown: Shown = field(default_factory=dict)

    @classmethod
    def read(cls, text: str | None) -> "Cursor":
        """The cursor of the last tick; one of another version is begun anew, and everything is shown again."""
        stored = json.loads(text) if text is not None else {}
        if stored.get("version") != _CURSOR_VERSION:
            return cls()
        return cls(stored["machine"], {subject: tuple(entry) for subject, entry in stored["shown"].items()})

    def text(self) -> str:
        """As Dagster keeps it."""
        content = {"version": _CURSOR_VERSION, "machine": self.machine, "shown": self.shown}
        return json.dumps(content, separators=(",", ":"))


@dataclass(frozen=True)
class Look:
    """What one look came to."""

    observations: tuple[Observation, ...]
    state: StoredState


@dg.sensor(
    minimum_interval_seconds=EVERY_SECONDS,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Computes the golden signals and the global state, raises their alerts, and shows what changed on the "
    "assets golden_signals and global_state.",
)
def golden_signals_watch(
    context: dg.SensorEvaluationContext, warehouse: dg.ResourceParam[Warehouse]
) -> dg.SensorResult:
    """One look at everything. When it fails nothing is stored, and what was stored soon counts as unknown."""
    now = pd.Timestamp.now("UTC")
    settings = resolve(base_env=warehouse.base_env(), run={}, now=now)
    cursor = Cursor.read(context.cursor)
    watch = MachineWatch.look(now, cursor.machine)
    daemons = context.instance.get_required_daemon_types()
    facts = gather(warehouse, settings, now, watch=watch, daemons=daemons)
    look = record(warehouse, facts, settings)
    shown, events = show(context.instance, look.observations, look.state, cursor.shown)
    levels = [each.level for each in look.observations]
    counted = ", ".join(f"{levels.count(level)} {level}" for level in Level)
    return dg.SensorResult(
        skip_reason=dg.SkipReason(f"{look.state.state}; {counted}"),
        asset_events=events,
        cursor=Cursor(watch.text(), shown).text(),
    )


def record(warehouse: Warehouse, facts: Facts, settings: Settings) -> Look:
    """Judge facts, and write signals, state and alerts down in one transaction.

    Args:
        warehouse: Where.
        facts: Of one look.
        settings: In force.

    Raises:
        WarehouseError: PostgreSQL did not take them; nothing was written.
    """
    found, now = observe(facts, settings), facts.now
    cryptos = {name: crypto.groups for name, crypto in facts.cryptos.items()}
    hold, market = settings.whole("CVN_STATE_HOLD"), settings.text("CVN_MARKET")
    with warehouse.begin() as connection:
        before = state_in(connection)
        observations = (*found, *_jobs_out_of_sight(connection, facts))
        store(connection, observations)
        # What was last known of another market says nothing of this one.
        known = before.reasons if before is not None and before.market == market else ()
        raw = judge_state(observations, cryptos=cryptos, now=now, settings=settings, before=known)
        held = held_state(raw.state, earlier_states(connection, market, hold - 1), hold)
        told = replace(raw, reasons=shown_reasons(raw, held, hold))
        state = store_state(connection, held, told, now=now, settings=settings)
        _alert(connection, observations, state, now, settings)
        purge(connection, now - pd.Timedelta(days=settings.whole("CVN_SIGNAL_KEEP_DAYS")))
    return Look(observations, state)


def _jobs_out_of_sight(connection: sa.Connection, facts: Facts) -> list[Observation]:
    """The jobs of the last look, when none could be asked in this one: unknown, and not gone."""
    why = facts.trouble.get("jobs")
    if why is None:
        return []
    return [
        Observation(each.signal, each.subject, None, Level.UNKNOWN, why, facts.now)
        for each in signals_in(connection)
        if SIGNALS[each.signal].scope is Scope.JOB
    ]


def _alert(
    connection: sa.Connection,
    observations: Sequence[Observation],
    state: StoredState,
    now: pd.Timestamp,
    settings: Settings,
) -> None:
    since = levels_since(connection)
    conditions = [
        condition
        for each in observations
        if (condition := condition_of(each, since[each.signal, each.subject], settings=settings)) is not None
    ]
    reconcile(connection, "signals", conditions, now, settings)
    of_state = condition_of_state(state.state, state.reasons, state.since)
    reconcile(connection, "state", [] if of_state is None else [of_state], now, settings)
