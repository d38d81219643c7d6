"""The guardrails' record on a real PostgreSQL: append-only, free of secrets, and what its views make of it.

The views are held against what pandas makes of the same history, which is told once and written through the functions
that production uses.
"""

from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa

from cvntrade_assets.operations.guardrails import GUARDRAILS, Evaluation, Verdict
from resources.guardrail_log import (
    Occasion,
    joined_variants,
    last_sessions,
    overrides,
    payoff,
    record_evaluations,
    session_of,
)
from resources.results import ResultOf, record_result
from resources.secrets import learn_secrets
from resources.tables import GUARDRAIL_SESSIONS, RUN_RESULTS
from resources.warehouse import Warehouse, WarehouseError
from resources.watched_runs import WatchedRun, record_run

CANARY = "canary-9f31-of-the-log"
START = pd.Timestamp("2025-09-01", tz="UTC")
HOUR, DAY = pd.Timedelta("1h"), pd.Timedelta("1D")
REASON = "flash crash, retrain at once, approved by @ceven"
APPEND_ONLY = ("guardrail_evaluations", "rollout_gates", "base_env_history")
SCORES = {
    "rows": 2330,
    "threshold": 0.31,
    "f1_buy": 0.41,
    "baseline_f1_buy": 0.4,
    "buy_rate": 0.25,
    "predicted_buy_rate": 0.5,
    "brier_before": 0.2,
    "brier_after": 0.19,
    "brier_base_rate": 0.1875,
    "precision_buy": 0.3,
    "recall_buy": 0.6,
    "pr_auc": 0.28,
    "pr_auc_chance": 0.26,
}


@pytest.fixture
def fresh(warehouse: Warehouse) -> Warehouse:
    """This module's database with nothing on record; only here are the guards taken down for a moment."""
    with warehouse.begin() as connection:
        for table in APPEND_ONLY:
            connection.execute(sa.text(f"alter table {table} disable trigger {table}_append_only"))
        connection.execute(sa.text("delete from base_env"))
        connection.execute(sa.text(f"truncate {', '.join(APPEND_ONLY)}, results, watched_runs restart identity"))
        for table in APPEND_ONLY:
            connection.execute(sa.text(f"alter table {table} enable always trigger {table}_append_only"))
    return warehouse


@dataclass(frozen=True)
class Told:
    """One evaluation of a history: of which run, which guardrail, with which verdict, when, and what it took."""

    guardrail: str
    verdict: Verdict
    at: pd.Timestamp
    explicit: bool = False
    seconds: float = 0.01
    value: float | None = 28_070.0
    source: str = "check"


@dataclass(frozen=True)
class ToldRun:
    """One run of a history with its evaluations."""

    run_id: str
    session: str
    crypto: str | None
    started_at: pd.Timestamp | None
    training_began_at: pd.Timestamp | None
    ended_at: pd.Timestamp | None
    seen_at: pd.Timestamp
    evaluations: tuple[Told, ...] = ()
    watched: bool = True
    variants: dict[str, str] = field(default_factory=dict)


def evaluation(told: Told) -> Evaluation:
    reason = REASON if told.verdict is Verdict.OVERRIDDEN else None
    message = f"{told.guardrail} {told.verdict} at {told.at.isoformat()}"
    layer = "run" if told.explicit else "default"
    return Evaluation(told.guardrail, told.verdict, message, told.value, 10_000.0, told.explicit, layer, reason)


def write(warehouse: Warehouse, runs: Iterable[ToldRun]) -> None:
    for run in runs:
        for told in run.evaluations:
            occasion = Occasion(run.run_id, run.crypto, run.session, run.variants, told.source)
            record_evaluations(warehouse, occasion, [evaluation(told)], told.seconds, at=told.at)
        if run.watched:
            status = "STARTED" if run.ended_at is None else "SUCCESS"
            joined = joined_variants(run.variants)
            watched = WatchedRun(
                run_id=run.run_id,
                session=run.session,
                crypto=run.crypto,
                factor=joined["factor"],
                variant=joined["variant"],
                job="candles_to_report",
                status=status,
                code="1",
                started_at=run.started_at,
                training_began_at=run.training_began_at,
                ended_at=run.ended_at,
            )
            record_run(warehouse, watched, at=run.seen_at)


def rows(warehouse: Warehouse, query: str, **values: Any) -> list[dict[str, Any]]:
    with warehouse.begin() as connection:
        return [dict(row) for row in connection.execute(sa.text(query), values).mappings()]


def a_run(
    name: str = "run-1", *evaluations: Told, at: pd.Timestamp = START, minutes: float = 5.0, **changes: Any
) -> ToldRun:
    """A run of some minutes that began to train a minute after it started."""
    minute = pd.Timedelta("1min")
    run = ToldRun(name, name, "BTCUSDC", at, at + minute, at + minutes * minute, at + minutes * minute, evaluations)
    return replace(run, **changes)


# what one evaluation becomes


def test_every_field_of_an_evaluation_is_on_record(fresh):
    occasion = Occasion("run-1", "BTCUSDC", "abcdefgh", {"n_features": "all", "calibration": "isotonic"}, "check")
    found = [
        Evaluation("rows_within_limit", Verdict.OVERRIDDEN, "28,070 rows", 28_070, 10_000, False, "default", REASON),
        Evaluation("memory_within_limit", Verdict.UNKNOWN, "no candles"),
        Evaluation("features_within_limit", Verdict.ALLOWED, "267", 267, 200, True, "factor, run"),
    ]
    before = pd.Timestamp.now("UTC")
    record_evaluations(fresh, occasion, found, 0.3)

    written = rows(fresh, "select * from guardrail_evaluations order by id")
    shared = {"run_id": "run-1", "session": "abcdefgh", "crypto": "BTCUSDC", "source": "check"}
    varied = {"factor": "calibration, n_features", "variant": "isotonic, all"}
    for row in written:
        assert row.items() >= (shared | varied).items()
        assert row["seconds"] == pytest.approx(0.1)
        assert abs(row["recorded_at"] - before) < pd.Timedelta("1min")
    names = ("guardrail", "verdict", "value", "limit_value", "explicit", "layer", "override", "override_reason")
    assert [tuple(row[name] for name in names) for row in written] == [
        ("rows_within_limit", "overridden", 28_070, 10_000, False, "default", True, REASON),
        ("memory_within_limit", "unknown", None, None, False, "", False, None),
        ("features_within_limit", "allowed", 267, 200, True, "factor, run", False, None),
    ]
    assert [row["message"] for row in written] == ["28,070 rows", "no candles", "267"]


def test_nobodys_run_is_on_record_without_one(fresh):
    occasion = Occasion(None, None, None, {}, "command")
    record_evaluations(fresh, occasion, [Evaluation("settings_valid", Verdict.BLOCKED, "CVN_X is unknown")], 0.001)
    [row] = rows(fresh, "select run_id, crypto, session, factor, variant, source from guardrail_evaluations")
    assert row == dict.fromkeys(("run_id", "crypto", "session", "factor", "variant")) | {"source": "command"}


def test_nothing_evaluated_writes_nothing(fresh):
    record_evaluations(fresh, Occasion("run-1", None, "run-1", {}, "watch"), [], 1.0)
    assert rows(fresh, "select * from guardrail_evaluations") == []


def test_evaluations_are_written_all_or_none(fresh):
    fine = Evaluation("rows_enough", Verdict.PASSED, "1,500 rows", 1500, 50)
    with pytest.raises(ValueError, match="NUL"):
        record_evaluations(
            fresh,
            Occasion("run-1", "BTCUSDC", "run-1", {}, "check"),
            [fine, replace(fine, message="a text that PostgreSQL cannot hold: \x00")],
            0.1,
        )
    with pytest.raises(sa.exc.IntegrityError, match="guardrail_evaluations_source"):
        record_evaluations(fresh, Occasion("run-1", None, "run-1", {}, "gossip"), [fine], 0.1)
    assert rows(fresh, "select * from guardrail_evaluations") == []


@pytest.mark.parametrize("verdict", Verdict)
@pytest.mark.parametrize("guardrail", GUARDRAILS)
def test_every_guardrail_and_verdict_can_be_recorded(warehouse, guardrail, verdict):
    reason = REASON if verdict is Verdict.OVERRIDDEN else None
    record_evaluations(
        warehouse,
        Occasion(None, None, None, {}, "check"),
        [Evaluation(guardrail, verdict, "", override_reason=reason)],
        0.0,
    )


@pytest.mark.parametrize(
    ("verdict", "override", "reason"),
    [
        ("passed", "true", "'why'"),
        ("overridden", "false", "null"),
        ("overridden", "true", "null"),
        ("odd", "false", "null"),
    ],
)
def test_an_override_without_a_reason_is_refused_by_the_table_too(fresh, verdict, override, reason):
    statement = f"""
        insert into guardrail_evaluations
            (guardrail, verdict, explicit, layer, override, override_reason, message, source, seconds)
        values ('rows_within_limit', '{verdict}', false, '', {override}, {reason}, '', 'check', 0)
    """
    with pytest.raises(sa.exc.IntegrityError, match="guardrail_evaluations_"), fresh.begin() as connection:
        connection.execute(sa.text(statement))


def test_the_session_is_the_backfill_or_else_the_run():
    assert session_of("run-1", {"dagster/backfill": "abcdefgh", "dagster/partition": "BTCUSDC"}) == "abcdefgh"
    assert session_of("run-1", {"dagster/partition": "BTCUSDC"}) == "run-1"


# append-only


def fill(warehouse: Warehouse) -> None:
    write(warehouse, [a_run("run-1", Told("rows_enough", Verdict.PASSED, START))])
    warehouse.set_base_env({"CVN_SEED": "1"}, "ann")
    gate = """
        insert into rollout_gates (rollout, factor, definition, stage, crypto_group, passed, reasons, runs)
        values ('r', 'n_features', 'd', 'canary', 'btc-core', false, '["why"]', '["run-1"]')
    """
    with warehouse.begin() as connection:
        connection.execute(sa.text(gate))


@pytest.mark.parametrize("table", APPEND_ONLY)
@pytest.mark.parametrize(
    "statement",
    [
        "update {table} set id = default",
        "update {table} set id = default where false",
        "delete from {table}",
        "delete from {table} where false",
        "truncate {table}",
        "truncate {table} restart identity cascade",
        "merge into {table} using (select 1) one on true when matched then delete",
        "with gone as (delete from {table} returning *) select count(*) from gone",
        "set local session_replication_role = replica; delete from {table}",
    ],
)
def test_nobody_changes_or_removes_what_was_recorded(fresh, table, statement):
    fill(fresh)
    before = rows(fresh, f"select * from {table}")
    assert before
    with fresh.begin() as connection:
        assert connection.scalar(sa.text("select rolsuper from pg_roles where rolname = current_user")), "not even he"
    refused = rf"{table} is append-only: (UPDATE|DELETE|TRUNCATE) is refused"
    with pytest.raises(sa.exc.IntegrityError, match=refused) as caught, fresh.begin() as connection:
        connection.execute(sa.text(statement.format(table=table)))
    assert "Insert a new row that says what is different now." in str(caught.value)
    assert rows(fresh, f"select * from {table}") == before


def test_an_upsert_is_an_update(fresh):
    fill(fresh)
    columns = "id, key, author"
    statement = (
        f"insert into base_env_history ({columns}) overriding system value select {columns} from base_env_history"
    )
    with pytest.raises(sa.exc.IntegrityError, match="append-only: UPDATE is refused"), fresh.begin() as connection:
        connection.execute(sa.text(f"{statement} on conflict (id) do update set author = 'eve'"))


def test_a_role_that_may_only_insert_records(fresh, postgres_server):
    database = fresh._url.database
    role = f"writer_{database}"
    with fresh.begin() as connection:
        connection.execute(sa.text(f"create role {role} login password 'of-a-test-alone'"))
        connection.execute(sa.text(f"grant insert on guardrail_evaluations, rollout_gates to {role}"))
    url = f"postgresql+psycopg2://{role}:of-a-test-alone@127.0.0.1:{postgres_server.port}/{database}"
    try:
        with closing(Warehouse(url)) as writer:
            write(writer, [a_run("run-1", Told("rows_enough", Verdict.PASSED, START), watched=False)])
            for statement in ("select * from", "delete from", "update", "truncate"):
                text = f"{statement} guardrail_evaluations" + (" set layer = ''" if statement == "update" else "")
                with pytest.raises(WarehouseError, match="permission denied for table"), writer.begin() as connection:
                    connection.execute(sa.text(text))
    finally:
        with fresh.begin() as connection:
            connection.execute(sa.text(f"drop owned by {role}"))
            connection.execute(sa.text(f"drop role {role}"))
    assert len(rows(fresh, "select * from guardrail_evaluations")) == 1


# secrets


def test_no_secret_reaches_a_row(fresh):
    learn_secrets({"EXCHANGE_API_SECRET": CANARY})
    variants = {f"factor {CANARY}": f"variant {CANARY}"}
    said = f"the password is {CANARY}"
    record_evaluations(
        fresh,
        Occasion(f"run {CANARY}", f"crypto {CANARY}", f"session {CANARY}", variants, "check"),
        [Evaluation("rows_enough", Verdict.OVERRIDDEN, said, 1, 2, False, f"layer {CANARY}", f"{said}, @ceven")],
        0.1,
    )
    watched = WatchedRun(CANARY, CANARY, CANARY, CANARY, CANARY, CANARY, CANARY, CANARY, START, None, None)
    record_run(fresh, watched)
    record_result(fresh, ResultOf(CANARY, CANARY, CANARY, variants, CANARY, CANARY, False, said), SCORES)
    for table in ("guardrail_evaluations", "watched_runs", "results"):
        [row] = rows(fresh, f"select * from {table}")
        assert CANARY not in str(row), table
        assert "***" in str(row), table


# overrides


def test_overrides_are_listed_newest_first(fresh):
    over = Told("rows_within_limit", Verdict.OVERRIDDEN, START)
    write(
        fresh,
        [
            a_run("run-1", over, Told("rows_enough", Verdict.PASSED, START)),
            a_run("run-2", replace(over, at=START + HOUR), crypto="ETHUSDC"),
            a_run("run-3", replace(over, at=START + 2 * HOUR), crypto=None),
        ],
    )
    assert [row["run_id"] for row in overrides(fresh, None, 10)] == ["run-3", "run-2", "run-1"]
    assert [row["run_id"] for row in overrides(fresh, None, 2)] == ["run-3", "run-2"]
    assert [row["run_id"] for row in overrides(fresh, ["BTCUSDC", "SOLUSDC"], 10)] == ["run-1"]
    assert overrides(fresh, ["SOLUSDC"], 10) == []


# watched runs


def test_the_newest_sight_of_a_run_wins_and_no_moment_is_forgotten(fresh):
    begun = a_run("run-1", training_began_at=None, ended_at=None, seen_at=START + HOUR)
    write(fresh, [a_run("run-2"), begun, replace(begun, training_began_at=START + HOUR, seen_at=START + 2 * HOUR)])
    write(fresh, [replace(begun, started_at=None, ended_at=START + 3 * HOUR, seen_at=START + 4 * HOUR)])
    [row] = rows(fresh, "select * from watched_runs where run_id = 'run-1'")
    assert row["started_at"] == START
    assert row["training_began_at"] == START + HOUR
    assert row["ended_at"] == START + 3 * HOUR
    assert (row["seen_at"], row["status"]) == (START + 4 * HOUR, "SUCCESS")
    assert len(rows(fresh, "select * from watched_runs")) == 2


def test_several_runs_are_written_at_once_and_seen_now(fresh):
    runs = [
        WatchedRun(name, name, None, None, None, "event_log_retention", "QUEUED", None, None, None, None)
        for name in ("run-1", "run-2")
    ]
    record_run(fresh, *runs)
    record_run(fresh)
    written = rows(fresh, "select * from watched_runs order by run_id")
    assert [row["run_id"] for row in written] == ["run-1", "run-2"]
    assert all(abs(row["seen_at"] - pd.Timestamp.now("UTC")) < pd.Timedelta("1min") for row in written)


# results beside what the guardrails said


def a_result(run_id: str = "run-1", **changes: Any) -> ResultOf:
    result = ResultOf(run_id, "BTCUSDC", "abcdefgh", {"n_features": "all"}, "binance", "0" * 20, False, None)
    return replace(result, **changes)


def shown(warehouse: Warehouse, run_id: str = "run-1") -> dict[str, Any]:
    """The guardrails' columns of one result."""
    with warehouse.begin() as connection:
        query = sa.select(RUN_RESULTS).where(RUN_RESULTS.c.run_id == run_id)
        row = connection.execute(query).mappings().one()
    return {name: row[name] for name in row if name.startswith(("preflight_", "guardrail_"))}


UNJUDGED = {
    "preflight_samples": None,
    "preflight_features": None,
    "preflight_memory_gb": None,
    "guardrail_slow_run": None,
    "guardrail_slow_reason": None,
    "guardrail_explicit": None,
    "guardrail_override": False,
    "guardrail_override_reason": None,
}


def test_a_result_is_one_row_a_run_and_crypto(fresh):
    record_result(fresh, a_result(), SCORES)
    record_result(fresh, a_result(crypto="ETHUSDC"), SCORES | {"f1_buy": 0.5})
    record_result(fresh, a_result(reused=True), SCORES | {"f1_buy": 0.6})
    written = rows(fresh, "select * from results order by crypto")
    assert [(row["crypto"], row["f1_buy"], row["reused"]) for row in written] == [
        ("BTCUSDC", 0.6, True),
        ("ETHUSDC", 0.5, False),
    ]
    assert written[0].items() >= (SCORES | {"f1_buy": 0.6, "factor": "n_features", "variant": "all"}).items()
    assert written[0]["sortino"] is None, "no backtest, no number"


def test_an_undefined_score_is_null_and_a_missing_one_an_error(fresh):
    undefined = ("precision_buy", "recall_buy", "pr_auc", "pr_auc_chance")
    record_result(fresh, a_result(), {name: value for name, value in SCORES.items() if name not in undefined})
    [row] = rows(fresh, "select * from results")
    assert [row[name] for name in undefined] == [None] * 4
    with pytest.raises(KeyError, match="f1_buy"):
        record_result(fresh, a_result("run-2"), {name: SCORES[name] for name in SCORES if name != "f1_buy"})


def test_a_result_that_nobody_judged_says_so(fresh):
    record_result(fresh, a_result(), SCORES)
    assert shown(fresh) == UNJUDGED


def test_a_result_shows_what_preflight_counted(fresh):
    record_result(fresh, a_result(), SCORES)
    told = [
        Told("rows_within_limit", Verdict.UNKNOWN, START, value=None),
        Told("rows_within_limit", Verdict.PASSED, START, value=1_512),
        Told("rows_enough", Verdict.PASSED, START, value=1_512),
        Told("features_within_limit", Verdict.PASSED, START, value=60),
        Told("memory_within_limit", Verdict.PASSED, START, value=1.25),
        Told("run_in_time", Verdict.PASSED, START, value=3.0, source="watch"),
        Told("rows_within_limit", Verdict.UNKNOWN, START, value=None),
    ]
    others = Told("rows_within_limit", Verdict.BLOCKED, START, value=28_070)
    write(
        fresh,
        [a_run("run-1", *told), a_run("run-2", others), a_run("run-1", others, crypto="ETHUSDC", watched=False)],
    )
    assert shown(fresh) == UNJUDGED | {
        "preflight_samples": 1512,
        "preflight_features": 60,
        "preflight_memory_gb": 1.25,
        "guardrail_slow_run": False,
        "guardrail_explicit": False,
    }


@pytest.mark.parametrize("guardrail", ["stage_in_time", "run_in_time"])
@pytest.mark.parametrize("verdict", [Verdict.WARNED, Verdict.CRITICAL, Verdict.ALLOWED])
def test_a_slow_run_says_why(fresh, guardrail, verdict):
    record_result(fresh, a_result(), SCORES)
    first = Told("run_in_time", Verdict.PASSED, START)
    slow = Told(guardrail, verdict, START + HOUR, explicit=verdict is Verdict.ALLOWED, source="watch")
    write(fresh, [a_run("run-1", first, slow, crypto="BTCUSDC")])
    said = shown(fresh)
    assert said["guardrail_slow_run"] is True
    assert said["guardrail_slow_reason"] == evaluation(slow).message
    assert said["guardrail_explicit"] is (verdict is Verdict.ALLOWED)


@pytest.mark.parametrize(
    "told",
    [
        Told("stage_in_time", Verdict.UNKNOWN, START),
        Told("minutes_within_limit", Verdict.WARNED, START),
        Told("run_progresses", Verdict.BLOCKED, START),
    ],
    ids=str,
)
def test_what_is_not_known_to_be_slow_is_not_called_so(fresh, told):
    record_result(fresh, a_result(), SCORES)
    write(fresh, [a_run("run-1", told)])
    assert shown(fresh)["guardrail_slow_run"] is None


def test_an_override_shows_on_the_result_also_when_nothing_needed_it(fresh):
    record_result(fresh, a_result(override_reason=REASON), SCORES)
    record_result(fresh, a_result("run-2"), SCORES)
    write(fresh, [a_run("run-2", Told("rows_within_limit", Verdict.OVERRIDDEN, START))])
    for run_id in ("run-1", "run-2"):
        said = shown(fresh, run_id)
        assert (said["guardrail_override"], said["guardrail_override_reason"]) == (True, REASON)


# did it pay


def measured(warehouse: Warehouse, *runs: ToldRun) -> dict[str, Any]:
    write(warehouse, runs)
    return payoff(warehouse)


def test_without_a_history_everything_is_unknown_and_nothing_is_zero(fresh):
    measures = payoff(fresh)
    counts = ("sessions", "runs", "trained_runs", "unjudged_runs", "blocks", "false_positives")
    assert {name: measures[name] for name in counts} == dict.fromkeys(counts, 0)
    assert {name for name in measures if measures[name] is not None} == set(counts)
    assert last_sessions(fresh, 10) == []


PASSED = Told("rows_within_limit", Verdict.PASSED, START)


@pytest.mark.parametrize(
    ("told", "changes"),
    [
        (Told("stage_in_time", Verdict.WARNED, START + HOUR, source="watch"), {}),
        (Told("run_in_time", Verdict.WARNED, START + HOUR, source="watch"), {}),
        (Told("run_in_time", Verdict.CRITICAL, START + HOUR, source="watch"), {"ended_at": None}),
        (Told("run_progresses", Verdict.CRITICAL, START + HOUR, source="watch"), {}),
        (Told("run_progresses", Verdict.BLOCKED, START + HOUR, source="watch", explicit=True), {}),
        (Told("rows_within_limit", Verdict.BLOCKED, START + pd.Timedelta("1min")), {}),
    ],
    ids=str,
)
def test_a_wasted_run(fresh, told, changes):
    measures = measured(fresh, a_run("run-1", PASSED, told, **changes), a_run("run-2", PASSED))
    assert (measures["wasted_runs"], measures["wasted_runs_per_month"]) == (1, 1.0)


@pytest.mark.parametrize(
    ("told", "changes"),
    [
        (Told("run_in_time", Verdict.PASSED, START + HOUR, source="watch"), {}),
        (Told("run_in_time", Verdict.ALLOWED, START + HOUR, explicit=True, source="watch"), {}),
        (Told("run_in_time", Verdict.WARNED, START + HOUR, explicit=True, source="watch"), {}),
        (Told("run_in_time", Verdict.UNKNOWN, START + HOUR, source="watch"), {}),
        (Told("run_progresses", Verdict.UNKNOWN, START + HOUR, source="watch"), {}),
        # The average of a factor says nothing of the run at whose end it was taken.
        (Told("factor_in_time", Verdict.WARNED, START + HOUR, source="watch"), {}),
        (Told("run_in_time", Verdict.CRITICAL, START + HOUR, source="watch"), {"training_began_at": None}),
        (Told("run_progresses", Verdict.CRITICAL, START + HOUR, source="watch"), {"training_began_at": None}),
        (Told("minutes_within_limit", Verdict.WARNED, START), {}),
        (Told("rows_within_limit", Verdict.BLOCKED, START + pd.Timedelta("59s")), {}),
        (Told("rows_within_limit", Verdict.BLOCKED, START + HOUR), {"training_began_at": None}),
        (Told("rows_within_limit", Verdict.BLOCKED, START + HOUR), {"ended_at": None}),
        (Told("rows_within_limit", Verdict.OVERRIDDEN, START + HOUR), {}),
    ],
    ids=str,
)
def test_a_run_that_was_not_wasted(fresh, told, changes):
    measures = measured(fresh, a_run("run-1", told, **changes))
    assert (measures["wasted_runs"], measures["wasted_runs_per_month"]) == (0, 0.0)


def test_runs_are_wasted_per_month_and_less_than_one_counts_as_one(fresh):
    slow = Told("run_in_time", Verdict.WARNED, START + HOUR, source="watch")
    assert measured(fresh, a_run("run-1", slow))["wasted_runs_per_month"] == 1
    assert measured(fresh, a_run("run-2", slow, at=START + 29 * DAY))["wasted_runs_per_month"] == 2
    late = replace(a_run("run-3", slow, at=START + 60 * DAY), seen_at=START + 60 * DAY)
    assert measured(fresh, late)["wasted_runs_per_month"] == pytest.approx(1.5)


def test_runs_that_nobody_judged_are_counted_and_nothing_is_claimed_of_them(fresh):
    measures = measured(fresh, a_run("run-1"))
    assert (measures["runs"], measures["trained_runs"], measures["unjudged_runs"]) == (1, 1, 1)
    assert {measures[name] for name in ("wasted_runs", "wasted_runs_per_month", "overhead", "guardrail_seconds")} == {
        None
    }
    measures = measured(fresh, a_run("run-2", PASSED), a_run("run-3", training_began_at=None, session="run-2"))
    assert (measures["runs"], measures["trained_runs"], measures["unjudged_runs"]) == (3, 2, 1)
    assert measures["wasted_runs"] == 0


@pytest.mark.parametrize(
    "verdict", [Verdict.BLOCKED, Verdict.WARNED, Verdict.CRITICAL, Verdict.OVERRIDDEN, Verdict.UNKNOWN]
)
def test_the_first_block_or_flag_is_when_it_was_detected(fresh, verdict):
    first, later = START + pd.Timedelta("20s"), START + pd.Timedelta("50s")
    measures = measured(
        fresh,
        a_run(
            "run-1",
            Told("rows_enough", Verdict.PASSED, START),
            Told("minutes_within_limit", Verdict.ALLOWED, START, explicit=True),
            Told("rows_within_limit", Verdict.BLOCKED, later),
            Told("features_within_limit", verdict, first),
        ),
        a_run("run-2", PASSED),
    )
    assert measures["median_seconds_to_detect"] == 20


def test_the_time_to_detect_is_a_median_and_never_negative(fresh):
    seconds = {"run-1": -3, "run-2": 10, "run-3": 21_600}
    runs = [
        a_run(name, Told("rows_within_limit", Verdict.BLOCKED, START + pd.Timedelta(after, "s")))
        for name, after in seconds.items()
    ]
    unstarted = a_run("run-4", Told("settings_valid", Verdict.BLOCKED, START), started_at=None, training_began_at=None)
    assert measured(fresh, *runs, unstarted)["median_seconds_to_detect"] == 10
    assert measured(fresh, replace(runs[1], session="s"))["median_seconds_to_detect"] == 10


BLOCK = Told("rows_within_limit", Verdict.BLOCKED, START)


@pytest.mark.parametrize(
    ("later", "crypto", "expected"),
    [
        (Told("rows_within_limit", Verdict.OVERRIDDEN, START + DAY), "BTCUSDC", 1.0),
        (Told("rows_within_limit", Verdict.ALLOWED, START + DAY, explicit=True), "BTCUSDC", 1.0),
        (Told("rows_within_limit", Verdict.OVERRIDDEN, START + 7 * DAY), "BTCUSDC", 1.0),
        (Told("rows_within_limit", Verdict.OVERRIDDEN, START + 7 * DAY + pd.Timedelta("1s")), "BTCUSDC", 0.0),
        (Told("rows_within_limit", Verdict.OVERRIDDEN, START - HOUR), "BTCUSDC", 0.0),
        (Told("rows_within_limit", Verdict.OVERRIDDEN, START + DAY), "ETHUSDC", 0.0),
        (Told("rollout_passed", Verdict.OVERRIDDEN, START + DAY), "BTCUSDC", 0.0),
        (Told("rows_within_limit", Verdict.PASSED, START + DAY), "BTCUSDC", 0.0),
        (Told("rows_within_limit", Verdict.WARNED, START + DAY, explicit=True), "BTCUSDC", 0.0),
        (Told("rows_within_limit", Verdict.ALLOWED, START + DAY, explicit=False), "BTCUSDC", 0.0),
    ],
    ids=str,
)
def test_a_block_that_somebody_then_allowed_was_a_false_positive(fresh, later, crypto, expected):
    again = a_run("run-2", later, at=later.at, crypto=crypto)
    measures = measured(fresh, a_run("run-1", BLOCK, training_began_at=None), again)
    assert (measures["blocks"], measures["false_positive_rate"]) == (1, expected)


def test_blocks_that_were_right_and_blocks_that_were_not(fresh):
    over = replace(BLOCK, verdict=Verdict.OVERRIDDEN, at=START + DAY)
    runs = [a_run(f"run-{number}", BLOCK, crypto=f"C{number % 4}USDC", session="one") for number in range(8)]
    measures = measured(fresh, *runs, a_run("again", over, at=START + DAY, crypto="C1USDC"))
    assert (measures["blocks"], measures["false_positives"], measures["false_positive_rate"]) == (8, 2, 0.25)


def test_the_overhead_is_of_the_time_that_judged_runs_took(fresh):
    measures = measured(
        fresh,
        a_run("run-1", replace(PASSED, seconds=1.5), replace(PASSED, seconds=0.5), minutes=5, session="one"),
        a_run("run-2", replace(PASSED, seconds=1.0), minutes=10, ended_at=None, session="one"),
        a_run("run-3", minutes=60, session="one"),
        a_run("run-4", replace(PASSED, seconds=60.0), started_at=None, training_began_at=None, session="one"),
    )
    assert (measures["guardrail_seconds"], measures["run_seconds"]) == (3.0, 900.0)
    assert measures["overhead"] == pytest.approx(1 / 300)


def test_the_last_ten_sessions_count(fresh):
    slow = Told("run_in_time", Verdict.WARNED, START, source="watch")
    old = [a_run(f"old-{number}", slow, BLOCK, at=START - (number + 1) * DAY) for number in range(3)]
    new = [a_run(f"new-{number}", PASSED, at=START + number * DAY) for number in range(9)]
    measures = measured(fresh, *old, *new)
    assert (measures["sessions"], measures["runs"], measures["wasted_runs"], measures["blocks"]) == (10, 10, 1, 1)
    assert measures["first_started_at"] == START - DAY
    assert [row["session"] for row in last_sessions(fresh, 10)] == [f"new-{n}" for n in range(8, -1, -1)] + ["old-0"]

    uncounted = [
        # It fetched candles alone, housekeeping, and one that the watch has not seen yet.
        a_run("candles", at=START + 20 * DAY, training_began_at=None),
        a_run("retention", at=START + 21 * DAY, crypto=None),
        a_run("unseen", replace(slow, at=START + 22 * DAY), watched=False),
    ]
    assert measured(fresh, *uncounted) == measures


def test_what_is_said_twice_of_a_run_counts_once(fresh):
    first, again = replace(BLOCK, at=START), replace(BLOCK, at=START + 8 * DAY)
    over = replace(BLOCK, verdict=Verdict.OVERRIDDEN)
    flag = Told("run_in_time", Verdict.WARNED, START)
    measures = measured(
        fresh,
        a_run("run-1", again, first, flag, flag, replace(flag, verdict=Verdict.CRITICAL)),
        a_run("run-2", replace(over, at=START + 10 * DAY), replace(over, at=START + 10 * DAY)),
    )
    assert (measures["blocks"], measures["false_positives"]) == (1, 0), "seven days from the first block on"
    found = {row["session"]: (row["blocks"], row["flags"], row["overrides"]) for row in last_sessions(fresh, 10)}
    assert found == {"run-1": (1, 1, 0), "run-2": (0, 0, 1)}


def test_a_session_is_the_runs_of_one_backfill(fresh):
    write(
        fresh,
        [
            a_run("run-1", BLOCK, replace(PASSED, seconds=0.5), session="abcdefgh", minutes=1),
            a_run("run-2", Told("run_in_time", Verdict.CRITICAL, START), crypto="ETHUSDC", session="abcdefgh"),
            a_run("run-3", Told("rows_within_limit", Verdict.OVERRIDDEN, START), session="abcdefgh", ended_at=None),
            a_run("run-4", Told("rows_within_limit", Verdict.UNKNOWN, START), session="abcdefgh", watched=False),
            a_run("run-5", session="another", at=START + HOUR),
        ],
    )
    another, one = last_sessions(fresh, 10)
    numbers = ("runs", "trained_runs", "run_seconds", "blocks", "flags", "overrides")
    assert [one[name] for name in numbers] == [3, 3, 660.0, 1, 2, 1]
    assert one["guardrail_seconds"] == pytest.approx(0.54)
    assert [another[name] for name in (*numbers, "guardrail_seconds")] == [1, 1, 300.0, None, None, None, None]


# the same history, by pandas


def a_history(seed: int) -> list[ToldRun]:
    """Months of sessions in which everything happens that the measures tell apart."""
    rng = np.random.default_rng(seed)
    moment, runs = START, []
    for number in range(int(rng.integers(2, 16))):
        # One session after the other, or one after a week.
        moment += pd.Timedelta(
            minutes=int(rng.integers(120, 2_000) if rng.random() < 0.7 else rng.integers(5_000, 20_000))
        )
        backfill = f"s{number}"
        for crypto in rng.permutation(["BTCUSDC", "ETHUSDC"])[: rng.integers(1, 3)]:
            name = f"{backfill}-{crypto}"
            runs.append(_random_run(rng, name, backfill, str(crypto), moment))
    runs.append(a_run("housekeeping", at=moment + DAY, crypto=None))
    return runs


def _random_run(rng: np.random.Generator, name: str, session: str, crypto: str, moment: pd.Timestamp) -> ToldRun:
    start = moment + pd.Timedelta(seconds=int(rng.integers(0, 900)))
    length = pd.Timedelta(seconds=int(rng.integers(30, 5_000)))
    trains = start + pd.Timedelta(seconds=int(rng.integers(5, 25))) if rng.random() < 0.7 else None
    seen = start + length + pd.Timedelta("30s")
    return ToldRun(
        run_id=name,
        session=session if rng.random() < 0.8 else name,
        crypto=crypto,
        started_at=None if trains is None and rng.random() < 0.1 else start,
        training_began_at=trains,
        ended_at=start + length if rng.random() < 0.9 else None,
        seen_at=seen,
        evaluations=tuple(_random_evaluations(rng, start, length)) if rng.random() < 0.85 else (),
        watched=bool(rng.random() < 0.9),
    )


def _random_evaluations(rng: np.random.Generator, start: pd.Timestamp, length: pd.Timedelta) -> Iterator[Told]:
    likely = [Verdict.PASSED, Verdict.WARNED] + [Verdict.ALLOWED, Verdict.OVERRIDDEN, Verdict.BLOCKED] * 2
    for guardrail in rng.permutation(["rows_within_limit", "rows_enough", "rollout_passed"])[: rng.integers(0, 4)]:
        verdict = rng.choice(likely)
        at = start + pd.Timedelta(seconds=int(rng.integers(-2, 40)))
        explicit = bool(rng.random() < 0.5)
        told = Told(str(guardrail), Verdict(verdict), at, explicit, seconds=float(rng.uniform(0, 2)))
        # Sometimes one run is told twice.
        yield from (told, replace(told, at=at + DAY)) if rng.random() < 0.2 else (told,)
    for guardrail in rng.permutation(["run_in_time", "stage_in_time", "run_progresses"])[: rng.integers(0, 3)]:
        verdict = rng.choice([Verdict.PASSED] * 4 + [Verdict.WARNED, Verdict.CRITICAL, Verdict.UNKNOWN])
        explicit = bool(rng.random() < 0.3)
        yield Told(str(guardrail), Verdict(verdict), start + length, explicit, 0.02, source="watch")


def by_pandas(history: list[ToldRun]) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Every session, and the measures of the last ten, from the told history."""
    runs = pd.DataFrame(
        [
            (r.run_id, r.session, r.started_at, r.training_began_at, r.ended_at, r.seen_at)
            for r in history
            if r.watched and r.crypto is not None
        ],
        columns=["run_id", "session", "start", "trained", "end", "seen"],
    )
    for name in ("start", "trained", "end", "seen"):
        runs[name] = pd.to_datetime(runs[name], utc=True)
    runs["seconds"] = (runs["end"].fillna(runs["seen"]) - runs["start"]).dt.total_seconds()
    told = pd.DataFrame(
        [
            (r.run_id, r.session, r.crypto, t.guardrail, str(t.verdict), t.at, t.explicit, t.seconds)
            for r in history
            for t in r.evaluations
        ],
        columns=["run_id", "session", "crypto", "guardrail", "verdict", "at", "explicit", "seconds"],
    )
    sessions = _sessions_by_pandas(runs, told)
    counted = sessions[sessions["runs"].notna() & ((sessions["trained_runs"] > 0) | sessions["blocks"].notna())]
    last = counted.sort_values("started_at").index[-10:]
    return sessions, _measures_by_pandas(runs[runs["session"].isin(last)], told, set(last))


def _sessions_by_pandas(runs: pd.DataFrame, told: pd.DataFrame) -> pd.DataFrame:
    grouped = runs.groupby("session")
    of_runs = pd.DataFrame(
        {
            "first": grouped["start"].min(),
            "runs": grouped.size(),
            "trained_runs": grouped["trained"].count(),
            "run_seconds": grouped["seconds"].sum(min_count=1),
        }
    )
    judged = told.assign(
        blocks=told["verdict"].eq("blocked"),
        flags=told["verdict"].isin(["warned", "critical", "unknown"]),
        overrides=told["verdict"].eq("overridden"),
    )
    columns = ["blocks", "flags", "overrides"]
    once = judged.groupby(["session", "run_id", "crypto", "guardrail"])[columns].any()
    of_told = (
        once.groupby("session")
        .sum()
        .assign(
            guardrail_seconds=told.groupby("session")["seconds"].sum(), recorded=told.groupby("session")["at"].min()
        )
    )
    sessions = of_runs.join(of_told, how="outer")
    sessions["started_at"] = sessions["first"].fillna(sessions["recorded"])
    return sessions.drop(columns=["first", "recorded"])


def _measures_by_pandas(runs: pd.DataFrame, told: pd.DataFrame, last: set[str]) -> dict[str, Any]:
    wasted, waits, judged = 0, [], 0
    judged_seconds, guardrail_seconds, unjudged = [], [], 0
    for run in runs.itertuples():
        mine = told[told["run_id"] == run.run_id]
        judged += len(mine) > 0
        trained = not pd.isna(run.trained)
        unjudged += trained and not len(mine)
        caught = mine.loc[~mine["verdict"].isin(["passed", "allowed"]), "at"]
        if len(caught) and not pd.isna(run.start):
            waits.append(max(0.0, (caught.min() - run.start).total_seconds()))
        if len(mine) and not pd.isna(run.start):
            judged_seconds.append(run.seconds)
            guardrail_seconds.append(mine["seconds"].sum())
        slow = mine["guardrail"].isin(["run_in_time", "stage_in_time"]) & mine["verdict"].isin(["warned", "critical"])
        stuck = mine["guardrail"].eq("run_progresses") & mine["verdict"].isin(["warned", "critical"])
        late = mine["verdict"].eq("blocked") & (mine["at"] >= run.trained) & (not pd.isna(run.end))
        wasted += trained and bool(((slow & ~mine["explicit"]) | stuck | late).any())
    blocks = told[told["verdict"].eq("blocked") & told["session"].isin(last)].sort_values("at")
    blocks = blocks.drop_duplicates(["run_id", "crypto", "guardrail"])
    allowed = told[told["verdict"].eq("overridden") | (told["verdict"].eq("allowed") & told["explicit"])]
    pairs = blocks.reset_index().merge(allowed, on=["crypto", "guardrail"], suffixes=("", "_later"))
    after = pairs["at_later"] - pairs["at"]
    wrong = pairs.loc[(after > pd.Timedelta(0)) & (after <= 7 * DAY), "index"].nunique()
    months = max(1.0, (runs["seen"].max() - runs["start"].min()) / pd.Timedelta(days=30))
    return {
        "sessions": len(last),
        "runs": len(runs),
        "trained_runs": int(runs["trained"].notna().sum()),
        "unjudged_runs": unjudged,
        "wasted_runs": wasted if judged else None,
        "wasted_runs_per_month": wasted / months if judged else None,
        "median_seconds_to_detect": float(np.median(waits)) if waits else None,
        "blocks": len(blocks),
        "false_positives": wrong,
        "false_positive_rate": wrong / len(blocks) if len(blocks) else None,
        "run_seconds": sum(judged_seconds) if judged_seconds else None,
        "guardrail_seconds": sum(guardrail_seconds) if judged_seconds else None,
        "overhead": sum(guardrail_seconds) / sum(judged_seconds) if judged_seconds else None,
    }


@pytest.mark.parametrize("seed", range(12))
def test_the_views_say_what_pandas_says_of_the_same_history(fresh, seed):
    history = a_history(seed)
    write(fresh, history)
    sessions, measures = by_pandas(history)

    said = payoff(fresh)
    for name, expected in measures.items():
        assert said[name] == (None if expected is None else pytest.approx(expected, rel=1e-9)), name
    with fresh.begin() as connection:
        found = {row["session"]: row for row in connection.execute(sa.select(GUARDRAIL_SESSIONS)).mappings()}
    assert set(found) == set(sessions.index)
    for session, expected in sessions.iterrows():
        for name, value in expected.items():
            wanted = None if pd.isna(value) else value if name == "started_at" else pytest.approx(float(value))
            assert found[str(session)][str(name)] == wanted, (session, name)


def test_the_histories_hold_what_the_measures_tell_apart():
    """Otherwise the views and pandas might agree on nothing."""
    found = pd.DataFrame([by_pandas(a_history(seed))[1] for seed in range(12)])
    assert (found["wasted_runs"] > 0).sum() > 6
    assert found["false_positive_rate"].between(0, 1, inclusive="neither").sum() > 3
    assert found["false_positive_rate"].isna().any()
    assert (found["unjudged_runs"] > 0).sum() > 6
    assert (found["sessions"] == 10).sum() > 3
    assert (found["sessions"] < 10).sum() > 3
    assert (found["wasted_runs_per_month"] < found["wasted_runs"]).sum() > 1
