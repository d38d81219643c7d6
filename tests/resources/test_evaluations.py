"""The record of evaluations on a real PostgreSQL: rows, retries, the trials that it knows of, and its view."""

from dataclasses import replace
from typing import Any

import pandas as pd
import pytest
import sqlalchemy as sa
from correlation_records import gates, record

from cvntrade_assets.operations.correlation_data import from_record
from cvntrade_assets.operations.diagnosis import diagnose
from resources.evaluations import (
    EarlierTrials,
    EvaluationOf,
    EvaluationRecordError,
    earlier_trials,
    evaluations_of,
    latest_evaluations,
    record_evaluations,
)
from resources.secrets import learn_secrets
from resources.tables import EVALUATION_COUNTS, EVALUATION_HEADLINES
from resources.warehouse import Warehouse

CANARY = "canary-02ab-of-evaluations"
CRYPTO, PTE, OTHER = "BTCUSDC", "H4_SL1.0_TP2.0", "H2_SL1.5_TP3.0"
FROM, TO = pd.Timestamp("2025-06-01", tz="UTC"), pd.Timestamp("2025-09-01", tz="UTC")
DAY = pd.Timedelta("1D")
WHOSE = EvaluationOf("run-1", "session-1", CRYPTO, "e-1", "w-1", "r-1", False, FROM, TO)


@pytest.fixture
def fresh(warehouse: Warehouse) -> Warehouse:
    with warehouse.begin() as connection:
        connection.execute(sa.text("truncate evaluations, artifact_versions"))
    return warehouse


def rows(warehouse: Warehouse) -> list[dict[str, Any]]:
    with warehouse.begin() as connection:
        return [dict(row) for row in connection.execute(sa.text("select * from evaluations order by pte")).mappings()]


def test_a_row_says_what_the_record_says(fresh):
    leading = record(crypto=CRYPTO, pte=PTE, std_f1_buy=None, market="simulated")
    refused = record(crypto=CRYPTO, pte=OTHER, leading=False, rank=2, gates=gates("dsr"), market="simulated")
    record_evaluations(fresh, WHOSE, [(leading, 0.11), (refused, None)])
    second, first = rows(fresh)
    for row, told, sharpe in ((first, leading, 0.11), (second, refused, None)):
        assert {name: row[name] for name in (*EVALUATION_HEADLINES, *EVALUATION_COUNTS)} == {
            name: getattr(told, name) for name in (*EVALUATION_HEADLINES, *EVALUATION_COUNTS)
        }
        assert from_record(row["record"], CRYPTO) == told
        assert (row["rank"], row["leads"], row["daily_sharpe"]) == (told.rank, told.leading, sharpe)
        assert (row["market"], row["simulated"]) == ("simulated", True)
        diagnosis = diagnose(told)
        assert row["primary_code"] == diagnosis.primary.code
        assert (row["codes"], row["severity"]) == (list(diagnosis.codes), diagnosis.severity)
        assert (row["window_from"], row["window_to"]) == (FROM, TO)
        versions = ("evaluation_version", "walk_forward_version", "rolling_version", "session", "reused")
        assert [row[name] for name in versions] == ["e-1", "w-1", "r-1", "session-1", False]
    assert first["std_f1_buy"] is None, "undefined is not 0"
    assert (first["gates_passed"], second["gates_passed"]) == (True, False)


def test_every_headline_of_the_record_has_its_column():
    """Every number of the record is a column, so that a dashboard needs no JSON; what is none is named here."""
    elsewhere = {"schema_version", "rank", "total_return"}
    numbers = {
        name
        for name, value in record().model_dump().items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
    assert numbers - elsewhere == {*EVALUATION_HEADLINES, *EVALUATION_COUNTS}


def test_a_step_that_is_retried_writes_the_same_rows(fresh):
    first, second = record(crypto=CRYPTO, pte=PTE), record(crypto=CRYPTO, pte=OTHER, leading=False)
    record_evaluations(fresh, WHOSE, [(first, 0.1), (second, 0.2)])
    before = rows(fresh)
    record_evaluations(fresh, WHOSE, [(first, 0.1), (second, 0.2)])
    after = rows(fresh)
    assert [row.pop("recorded_at") for row in before] < [row.pop("recorded_at") for row in after]
    assert before == after


def test_a_retry_in_which_another_candidate_leads_or_one_is_gone_replaces_the_rows(fresh):
    first, second = record(crypto=CRYPTO, pte=PTE), record(crypto=CRYPTO, pte=OTHER, leading=False)
    record_evaluations(fresh, WHOSE, [(first, 0.1), (second, 0.2)])
    changed = [record(crypto=CRYPTO, pte=PTE, leading=False), record(crypto=CRYPTO, pte=OTHER)]
    record_evaluations(fresh, WHOSE, [(each, 0.1) for each in changed])
    assert [(row["pte"], row["leads"]) for row in rows(fresh)] == [(OTHER, True), (PTE, False)]
    record_evaluations(fresh, WHOSE, [(first, 0.1)])
    assert [(row["pte"], row["leads"]) for row in rows(fresh)] == [(PTE, True)]


@pytest.mark.parametrize(
    ("tested", "said"),
    [
        ([record(crypto="ETHUSDC", pte=PTE)], "holds records of ETHUSDC"),
        ([record(crypto=CRYPTO, pte=PTE, leading=False)], "0 lead (none)"),
        (
            [record(crypto=CRYPTO, pte=PTE), record(crypto=CRYPTO, pte=OTHER)],
            "2 lead (H4_SL1.0_TP2.0, H2_SL1.5_TP3.0)",
        ),
        ([], "of the 0 candidates of BTCUSDC 0 lead"),
    ],
)
def test_what_does_not_belong_together_is_refused(fresh, tested, said):
    with pytest.raises(EvaluationRecordError) as caught:
        record_evaluations(fresh, WHOSE, [(each, None) for each in tested])
    assert said in str(caught.value) and "Nothing was written" in str(caught.value)
    assert rows(fresh) == []


def test_no_secret_reaches_a_row(fresh):
    learn_secrets({"EXCHANGE_API_SECRET": CANARY})
    leaky = record(crypto=CRYPTO, pte=PTE, session=f"session {CANARY}", versions={"code": CANARY})
    record_evaluations(fresh, replace(WHOSE, session=f"session {CANARY}"), [(leaky, None)])
    [row] = rows(fresh)
    assert CANARY not in str(row) and row["session"] == "session ***"


# trials


def evaluated_before(
    warehouse: Warehouse,
    run: str,
    walk_forward: str,
    sharpes: dict[str, float | None],
    crypto: str = CRYPTO,
    market: str = "binance",
    window: tuple[pd.Timestamp, pd.Timestamp] = (FROM, TO),
) -> None:
    whose = EvaluationOf(run, run, crypto, f"e-{run}", walk_forward, f"r-{run}", False, *window)
    tested = [
        (record(crypto=crypto, pte=pte, leading=not index, market=market), sharpe)
        for index, (pte, sharpe) in enumerate(sharpes.items())
    ]
    record_evaluations(warehouse, whose, tested)


def known(warehouse: Warehouse, walk_forward: str = "now") -> EarlierTrials:
    return earlier_trials(warehouse, CRYPTO, "binance", FROM, TO, walk_forward)


def test_every_candidate_ever_tested_counts_once(fresh):
    assert known(fresh) == EarlierTrials(0, ())
    evaluated_before(fresh, "run-1", "w-1", {PTE: 0.1, OTHER: -0.2})
    # The same test reported by a later run, another test of the same point, and one without a Sharpe ratio.
    evaluated_before(fresh, "run-2", "w-1", {PTE: 0.1, OTHER: -0.2})
    evaluated_before(fresh, "run-3", "w-2", {PTE: 0.3, "H6_SL1.0_TP2.0": None})
    assert known(fresh) == EarlierTrials(4, (-0.2, 0.1, 0.3))


def published(
    warehouse: Warehouse,
    version: str,
    *candidates: str,
    asset: str = "walk_forward",
    crypto: str = CRYPTO,
    market: str = "binance",
    window: tuple[pd.Timestamp, pd.Timestamp] = (FROM, TO),
    lineage: dict[str, str] | None = None,
) -> None:
    """The record of a stored walk-forward test, as the artifact store leaves it."""
    summary = {"from": window[0].isoformat(), "to": window[1].isoformat(), "candidates": list(candidates)}
    names = {"asset": asset, "crypto": crypto, "version": version, "market": market}
    manifest = {**names, "summary": summary, "provenance": {"lineage": lineage or {}}}
    files = {"location": "here", "manifest_sha256": "0", "bytes": 1, "manifest": manifest}
    warehouse.record_artifact({**names, **files, "run_id": "run"})


def test_a_test_that_was_looked_at_and_never_evaluated_counts_too(fresh):
    published(fresh, "w-1", PTE, OTHER)
    assert known(fresh) == EarlierTrials(2, ())
    evaluated_before(fresh, "run-1", "w-1", {PTE: 0.1, OTHER: None})
    assert known(fresh) == EarlierTrials(2, (0.1,)), "evaluated, it is the same trial"
    published(fresh, "now", PTE)
    assert known(fresh).count == 2, "its own candidates are no earlier ones"


@pytest.mark.parametrize(
    "other",
    [
        {"asset": "rolling_backtest"},
        {"crypto": "ETHUSDC"},
        {"market": "simulated"},
        {"window": (TO, TO + DAY)},
        {"window": (FROM - DAY, FROM)},
    ],
)
def test_what_was_tested_elsewhere_does_not_count(fresh, other):
    published(fresh, "w-1", PTE, **other)
    assert known(fresh).count == 0


@pytest.mark.parametrize(
    ("seed", "signal", "count"), [("0", "0.3", 2), ("1", "0.3", 0), ("0", "1.0", 0)], ids=["same", "seed", "signal"]
)
def test_another_simulated_history_is_another_market(fresh, seed, signal, count):
    here, there = ({"CVN_SIMULATED_SEED": a, "CVN_SIMULATED_SIGNAL": b} for a, b in (("0", "0.3"), (seed, signal)))
    published(fresh, "now", PTE, market="simulated", lineage=here)
    published(fresh, "w-1", PTE, OTHER, market="simulated", lineage=there)
    evaluated_before(fresh, "run-1", "w-1", {PTE: 0.1, OTHER: 0.2}, market="simulated")
    assert earlier_trials(fresh, CRYPTO, "simulated", FROM, TO, "now").count == count


def test_its_own_candidates_are_no_earlier_trials(fresh):
    evaluated_before(fresh, "run-1", "w-1", {PTE: 0.1})
    evaluated_before(fresh, "run-2", "now", {PTE: 0.2})
    assert known(fresh) == EarlierTrials(1, (0.1,))


@pytest.mark.parametrize(
    ("window", "counts"),
    [
        ((FROM - 90 * DAY, FROM), False),
        ((FROM - 90 * DAY, FROM + DAY), True),
        ((TO, TO + DAY), False),
        ((TO - DAY, TO + DAY), True),
        ((FROM + DAY, FROM + 2 * DAY), True),
        ((FROM - DAY, TO + DAY), True),
    ],
)
def test_only_windows_that_overlap_count(fresh, window, counts):
    evaluated_before(fresh, "run-1", "w-1", {PTE: 0.1}, window=window)
    assert known(fresh).count == counts


def test_another_crypto_or_market_does_not_count(fresh):
    evaluated_before(fresh, "run-1", "w-1", {PTE: 0.1}, crypto="ETHUSDC")
    evaluated_before(fresh, "run-2", "w-2", {PTE: 0.1}, market="simulated")
    assert known(fresh).count == 0


# reading


def test_the_latest_evaluation_of_every_crypto_and_market_is_known(fresh):
    evaluated_before(fresh, "run-1", "w-1", {PTE: 0.1, OTHER: 0.0})
    evaluated_before(fresh, "run-2", "w-2", {OTHER: 0.1, PTE: 0.0})
    evaluated_before(fresh, "run-3", "w-3", {PTE: 0.1}, market="simulated")
    evaluated_before(fresh, "run-4", "w-4", {PTE: 0.1}, crypto="ETHUSDC")
    found = latest_evaluations(fresh)
    assert [(row["crypto"], row["market"], row["run_id"], row["pte"]) for row in found] == [
        ("BTCUSDC", "binance", "run-2", OTHER),
        ("BTCUSDC", "simulated", "run-3", PTE),
        ("ETHUSDC", "binance", "run-4", PTE),
    ]
    assert [row["run_id"] for row in latest_evaluations(fresh, ["ETHUSDC"])] == ["run-4"]
    assert latest_evaluations(fresh, []) == []
    # A reused evaluation that is reported again is the latest one.
    evaluated_before(fresh, "run-5", "w-1", {PTE: 0.1, OTHER: 0.0})
    assert latest_evaluations(fresh, [CRYPTO])[0]["run_id"] == "run-5"


def test_the_evaluations_of_runs_are_their_leading_candidates(fresh):
    evaluated_before(fresh, "run-1", "w-1", {PTE: 0.1, OTHER: 0.0})
    evaluated_before(fresh, "run-2", "w-2", {PTE: 0.1}, crypto="ETHUSDC")
    evaluated_before(fresh, "run-3", "w-3", {PTE: 0.1})
    found = evaluations_of(fresh, ["run-2", "run-1", "unheard of"])
    assert [(row["crypto"], row["run_id"], row["pte"]) for row in found] == [
        ("BTCUSDC", "run-1", PTE),
        ("ETHUSDC", "run-2", PTE),
    ]
