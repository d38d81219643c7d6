"""Views that say what other code says too: both come to the same."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
import pytest
import sqlalchemy as sa
from correlation_records import complete, record
from seeded_operations import DAY, HOUR, MINUTE, insert, set_signal, set_state, watched

from cvntrade_assets.operations.incidents import Moments, times
from resources.evaluations import EvaluationOf, record_evaluations
from resources.tables import INCIDENTS
from resources.warehouse import Warehouse
from resources.watched_runs import record_run

NOW = pd.Timestamp.now("UTC").floor("us")


def rows(warehouse: Warehouse, query: str) -> list[Mapping[str, Any]]:
    with warehouse.begin() as connection:
        return [dict(row) for row in connection.execute(sa.text(query)).mappings()]


@pytest.mark.parametrize(
    "after_hours",
    [
        {"detected": 1, "acknowledged": 3, "mitigated": 4, "fixed": 9},
        {"detected": 1, "mitigated": 4, "fixed": 9},
        {"acknowledged": 3},
    ],
    ids=["all known", "never acknowledged", "not mitigated yet"],
)
def test_an_incident_takes_as_long_as_the_log_says(warehouse: Warehouse, after_hours: dict[str, int]) -> None:
    began = NOW - DAY
    moments = Moments(began, **{name: began + hours * HOUR for name, hours in after_hours.items()})
    texts = dict.fromkeys(("title", "justification", "symptom", "opened_by"), "so")
    told = {f"{name}_at": moment.to_pydatetime() for name, moment in moments.known()}
    insert(warehouse, INCIDENTS, {"severity": "P2", **texts, **told})
    shown = rows(warehouse, "select * from ops_incidents order by id desc limit 1")[0]
    took = times(moments)
    for name in ("detect", "acknowledge", "mitigate", "fix", "recover"):
        expected = getattr(took, f"to_{name}")
        assert shown[f"seconds_to_{name}"] == (None if expected is None else expected.total_seconds()), name


def evaluated(warehouse: Warehouse, session: str, crypto: str, run: str, passed: int) -> None:
    whose = EvaluationOf(run, session, crypto, f"e-{run}", "w", "r", False, NOW - 90 * DAY, NOW)
    told = {"crypto": crypto, "market": "binance", "run_id": run, "session": session}
    counts = complete(passed, {"sortino": 3 - passed})
    record_evaluations(warehouse, whose, [(record(**told, **counts), 0.1)])


def test_a_crypto_that_was_evaluated_twice_in_a_session_counts_once_by_the_later(warehouse: Warehouse) -> None:
    for run, crypto, passed in (("a", "BTCUSDC", 1), ("b", "ETHUSDC", 2), ("c", "BTCUSDC", 0)):
        evaluated(warehouse, "twice", crypto, run, passed)
    [shown] = rows(warehouse, "select * from ops_sessions where session = 'twice'")
    assert (shown["cryptos"], shown["screened"], shown["passed"]) == (2, 192, 2)
    assert shown["pass_rate"] == pytest.approx(2 / 192)
    assert shown["complete"]


def test_a_session_that_goes_on_is_not_complete(warehouse: Warehouse) -> None:
    evaluated(warehouse, "going on", "BTCUSDC", "d", 0)
    for status, ended_at, is_complete in (("STARTED", None, False), ("SUCCESS", NOW, True)):
        run = watched("e", session="going on", status=status, started_at=NOW - HOUR, ended_at=ended_at)
        record_run(warehouse, run, at=NOW)
        [shown] = rows(warehouse, "select complete from ops_sessions where session = 'going on'")
        assert shown["complete"] is is_complete


@pytest.mark.parametrize(("minutes", "is_stale"), [(-14, False), (-16, True), (14, False), (16, True)])
def test_what_comes_from_a_clock_that_is_far_off_is_not_how_things_stand(
    warehouse: Warehouse, minutes: int, is_stale: bool
) -> None:
    """Of two looks the later one counts, whatever its clock said."""
    at = pd.Timestamp.now("UTC").floor("us") - minutes * MINUTE
    set_state(warehouse, "GREEN", at)
    set_signal(warehouse, "sortino", "BTCUSDC", 1.0, "ok", at)
    [state], [signal] = (rows(warehouse, f"select * from ops_{name}") for name in ("state", "signals"))
    assert (state["is_stale"], signal["is_stale"]) == (is_stale, is_stale)
    assert (state["state"], signal["level"]) == (("UNKNOWN", "unknown") if is_stale else ("GREEN", "ok"))
