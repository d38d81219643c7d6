"""Rows that a morning check reads: signals, the global state and an alert, written as the sensor writes them."""

from collections.abc import Mapping

import pandas as pd

from cvntrade_assets.operations.condition import Condition
from cvntrade_assets.operations.global_state import RawState, Reason, State
from cvntrade_assets.operations.signals import Level, Observation
from cvntrade_assets.operations.taxonomy import Role, Severity
from cvntrade_assets.settings import resolve
from resources.alerts import raise_alerts
from resources.signal_store import store, store_state
from resources.warehouse import Warehouse

SETTINGS = resolve(base_env={}, run={}, now=pd.Timestamp.now("UTC"))


def store_a_state(warehouse: Warehouse, state: State, at: pd.Timestamp, why: str) -> None:
    """The state of one look; every state but GREEN has a reason."""
    reasons = () if state is State.GREEN else (Reason(state, why, "pass_rate", ""),)
    with warehouse.begin() as connection:
        store_state(connection, state, RawState(state, reasons), now=at, settings=SETTINGS)


def store_signals(warehouse: Warehouse, at: pd.Timestamp, levels: Mapping[tuple[str, str], Level]) -> None:
    """Signals by name and subject, and nothing else; each has the value 3."""
    seen = [
        Observation(signal, subject, None if level is Level.UNKNOWN else 3.0, level, "it was looked at", at)
        for (signal, subject), level in levels.items()
    ]
    with warehouse.begin() as connection:
        store(connection, seen)


def store_an_alert(warehouse: Warehouse, at: pd.Timestamp) -> None:
    """An open alert that nobody has acknowledged, and whose message waits."""
    condition = Condition(
        key="signal/model_overdue/ADAUSDC",
        source="signals",
        kind="signal/model_overdue",
        severity=Severity.P2,
        owner=Role.ML_OWNER,
        what="model_overdue of ADAUSDC is critical",
        where="ADAUSDC",
        since=at,
        next_step="retrain it",
    )
    with warehouse.begin() as connection:
        raise_alerts(connection, [condition], at, SETTINGS)
