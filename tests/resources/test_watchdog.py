"""What the watchdog calls missing, on both sides of every limit."""

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg
import pandas as pd
import pytest
import sqlalchemy as sa
from alert_rows import NOW, SETTINGS
from dagster._daemon.types import DaemonHeartbeat
from dagster_on_postgres import open_instance

from cvntrade_assets.operations.taxonomy import Role, Severity
from resources.embedded_postgres import EmbeddedPostgres
from resources.tables import GLOBAL_STATES
from resources.warehouse import Warehouse
from resources.watchdog import judge_state_age, look

# As declared: 15 minutes for the state, 3 for the daemon.
STALE, SILENT = pd.Timedelta(minutes=15), pd.Timedelta(minutes=3)
SECOND = pd.Timedelta(seconds=1)
LONG_AGO = NOW - pd.Timedelta(days=1)


@pytest.mark.parametrize(
    ("computed_at", "daemon_since", "is_missing"),
    [
        (NOW - STALE, LONG_AGO, False),
        (NOW - STALE - SECOND, LONG_AGO, True),
        (NOW - STALE - SECOND, None, True),
        (NOW - STALE, None, False),
        # What has just started has not had the time for a look.
        (LONG_AGO, NOW - STALE, False),
        (LONG_AGO, NOW - STALE - SECOND, True),
        (None, NOW - STALE, False),
        (None, NOW - STALE - SECOND, True),
        (None, None, True),
        # Dated by a clock that was ahead.
        (NOW + STALE, LONG_AGO, False),
        (NOW + STALE + SECOND, LONG_AGO, True),
    ],
)
def test_a_state_that_nobody_computes(
    computed_at: pd.Timestamp | None, daemon_since: pd.Timestamp | None, is_missing: bool
) -> None:
    found = judge_state_age(computed_at, daemon_since, SETTINGS, NOW)
    assert (found is not None) == is_missing
    if found is not None:
        assert (found.key, found.severity, found.owner) == ("watchdog/state", Severity.P1, Role.MLOPS_MAINTAINER)
        assert found.since == (computed_at or NOW) and "CVN_STATE_STALE_MINUTES=15" in found.what


@pytest.fixture(scope="module")
def dagster(
    postgres_server: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dg.DagsterInstance]:
    with open_instance(postgres_server, tmp_path_factory.mktemp("dagster")) as opened:
        yield opened


@pytest.fixture
def heartbeats(dagster: dg.DagsterInstance, warehouse: Warehouse) -> dg.DagsterInstance:
    """Dagster's records without a heartbeat, beside a state that was just computed."""
    dagster.wipe_daemon_heartbeats()
    with warehouse.begin() as connection:
        state = {
            "computed_at": NOW.to_pydatetime(),
            "state": "GREEN",
            "raw_state": "GREEN",
            "since": NOW.to_pydatetime(),
            "reasons": [],
            "market": "simulated",
            "as_of": NOW.to_pydatetime(),
        }
        connection.execute(sa.insert(GLOBAL_STATES), state)
    return dagster


def beat(heartbeats: dg.DagsterInstance, daemon: str, at: pd.Timestamp) -> None:
    heartbeats.add_daemon_heartbeat(DaemonHeartbeat(at.timestamp(), daemon, None, []))


def test_a_daemon_that_is_silent(heartbeats: dg.DagsterInstance, warehouse: Warehouse) -> None:
    beat(heartbeats, "SENSOR", NOW - SILENT)
    beat(heartbeats, "SCHEDULER", NOW)
    assert look(warehouse, SETTINGS, NOW) == []
    [found] = look(warehouse, SETTINGS, NOW + SECOND)
    assert (found.key, found.severity, found.owner) == ("watchdog/daemons", Severity.P0, Role.PLATFORM_OWNER)
    assert "SENSOR" in found.what and "SCHEDULER" not in found.what


def test_a_daemon_that_was_never_heard_of(heartbeats: dg.DagsterInstance, warehouse: Warehouse) -> None:
    assert [found.key for found in look(warehouse, SETTINGS, NOW)] == ["watchdog/daemons"]


@contextmanager
def renamed(heartbeats: dg.DagsterInstance) -> Iterator[None]:
    """Dagster's table is not where it is looked for."""
    with heartbeats.run_storage.connect() as connection:  # type: ignore[attr-defined]
        connection.execute(sa.text("alter table daemon_heartbeats rename to elsewhere"))
        try:
            yield
        finally:
            connection.execute(sa.text("alter table elsewhere rename to daemon_heartbeats"))


def test_records_that_cannot_be_read_are_not_taken_for_a_daemon_that_runs(
    heartbeats: dg.DagsterInstance, warehouse: Warehouse
) -> None:
    beat(heartbeats, "SENSOR", NOW)
    with renamed(heartbeats):
        [found] = look(warehouse, SETTINGS, NOW)
    assert "nobody can tell whether Dagster's daemons run" in found.what
    assert look(warehouse, SETTINGS, NOW) == []
