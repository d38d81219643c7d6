"""Alerts in a test's database: conditions to raise, the rows that come of them, and a clean table to begin with."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pandas as pd
import sqlalchemy as sa

from cvntrade_assets.operations.condition import Condition
from cvntrade_assets.operations.taxonomy import Role, Severity
from cvntrade_assets.settings import resolve
from resources.alerts import reconcile
from resources.tables import ALERT_MESSAGES
from resources.warehouse import Warehouse

NOW = pd.Timestamp("2025-09-02 12:00", tz="UTC")
SETTINGS = resolve(base_env={}, run={}, now=NOW)

_GUARDED = ("alert_messages", "alerts")


def clear_alerts(warehouse: Warehouse) -> None:
    """Remove everything, past the guard that keeps everybody else from it."""
    with warehouse.begin() as connection:
        for table in _GUARDED:
            connection.execute(sa.text(f"alter table {table} disable trigger {table}_stay"))
            connection.execute(sa.text(f"delete from {table}"))
            connection.execute(sa.text(f"alter table {table} enable always trigger {table}_stay"))
        connection.execute(sa.text("delete from alert_channels"))


def condition(
    crypto: str = "BTCUSDC",
    severity: Severity = Severity.P2,
    source: str = "signals",
    signal: str = "sortino",
    **changes: Any,
) -> Condition:
    """That a crypto's signal is not as it should be."""
    made = Condition(
        key=f"signal/{signal}/{crypto}",
        source=source,
        kind=f"signal/{signal}",
        severity=severity,
        owner=Role.ML_OWNER,
        what=f"the Sortino ratio of {crypto} is -0.31",
        where=crypto,
        since=NOW - pd.Timedelta(hours=1),
        next_step=f"cvntrade discovery --crypto {crypto}",
        link=f"/assets/golden_signals?partition={crypto}",
    )
    return replace(made, **changes)


def find(
    warehouse: Warehouse, conditions: Sequence[Condition], at: pd.Timestamp = NOW, source: str = "signals"
) -> None:
    """These conditions hold now, and no others of the source."""
    with warehouse.begin() as connection:
        reconcile(connection, source, conditions, at, SETTINGS)


def messages(warehouse: Warehouse) -> list[dict[str, Any]]:
    """Every row of the outbox, in the order in which they were written."""
    with warehouse.begin() as connection:
        return [dict(row) for row in connection.execute(sa.select(ALERT_MESSAGES).order_by("id")).mappings()]
