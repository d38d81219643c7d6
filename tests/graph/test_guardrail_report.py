"""The guardrails' record in the graph: a row of results per run and crypto, and whether the guardrails pay."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import pytest
import sqlalchemy as sa
from services import Graph, create_database, make_graph

from cvntrade_assets.operations.guardrails import Evaluation, Verdict
from resources.embedded_postgres import EmbeddedPostgres
from resources.guardrail_log import Occasion, record_evaluations
from resources.tables import RUN_RESULTS
from resources.warehouse import Warehouse
from resources.watched_runs import WatchedRun, record_run

CRYPTO = "BTCUSDC"
START = pd.Timestamp("2025-09-01", tz="UTC")
MINUTE = pd.Timedelta("1min")
REASON = "flash crash, retrain at once, approved by @ceven"
SCORES = ("f1_buy", "baseline_f1_buy", "buy_rate", "pr_auc", "brier_before", "brier_after", "brier_base_rate", "rows")


def results(warehouse: Warehouse, run_id: str) -> dict[str, Any]:
    with warehouse.begin() as connection:
        query = sa.select(RUN_RESULTS).where(RUN_RESULTS.c.run_id == run_id)
        return dict(connection.execute(query).mappings().one())


# a row of results


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory, warehouse_url: str, mlflow_store: Path) -> Iterator[Graph]:
    made = make_graph(tmp_path_factory.mktemp("results"), warehouse_url, mlflow_store=mlflow_store)
    with closing(made.warehouse), made.instance:
        yield made


@pytest.fixture(scope="module")
def first(chain: Graph) -> dg.ExecuteInProcessResult:
    done = chain.run(CRYPTO, tags={"dagster/backfill": "abcdefgh"})
    assert done.success
    return done


def said(done: dg.ExecuteInProcessResult, asset: str) -> dict[str, Any]:
    [event] = [it for it in done.get_asset_materialization_events() if it.asset_key == dg.AssetKey(asset)]
    return {name: entry.value for name, entry in event.materialization.metadata.items()}


def test_a_run_leaves_its_results(chain: Graph, first: dg.ExecuteInProcessResult) -> None:
    row, report = results(chain.warehouse, first.run_id), said(first, "test_report")
    assert {name: row[name] for name in SCORES} == {name: pytest.approx(report[name]) for name in SCORES}
    assert (row["crypto"], row["session"], row["market"]) == (CRYPTO, "abcdefgh", "simulated")
    assert (row["report_version"], row["reused"]) == (report["version"], False)
    assert row["sortino"] is None
    assert (row["factor"], row["variant"], row["guardrail_override"]) == (None, None, False)
    training = said(first, "training_set")
    assert row["preflight_samples"] == training["train_rows"]
    assert row["preflight_features"] == chain.settings.whole("CVN_MAX_FEATURES")
    assert row["preflight_memory_gb"] > 0
    assert row["guardrail_explicit"] is False


def test_a_run_that_finds_nothing_changed_leaves_its_own_row(chain: Graph, first: dg.ExecuteInProcessResult) -> None:
    again = chain.run(CRYPTO)
    assert again.success
    before, row = results(chain.warehouse, first.run_id), results(chain.warehouse, again.run_id)
    assert row["reused"] is True
    assert row["session"] == again.run_id
    same = [*SCORES, "report_version", "threshold", "crypto", "market", "preflight_samples"]
    assert {name: row[name] for name in same} == {name: before[name] for name in same}


def test_the_override_and_the_variant_of_a_run_stand_beside_its_results(
    chain: Graph, first: dg.ExecuteInProcessResult
) -> None:
    override = {"CVN_GUARDRAIL_OVERRIDE": "1", "CVN_GUARDRAIL_OVERRIDE_REASON": REASON}
    done = chain.run(CRYPTO, settings=override, variants={"calibration": "sigmoid"})
    assert done.success
    row = results(chain.warehouse, done.run_id)
    assert (row["guardrail_override"], row["guardrail_override_reason"]) == (True, REASON)
    assert (row["factor"], row["variant"]) == ("calibration", "sigmoid")


def test_a_report_that_could_not_be_published_leaves_no_result(
    chain: Graph, first: dg.ExecuteInProcessResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("resources.artifacts.ArtifactStore.publish", full)
    failed = chain.run(CRYPTO, ["test_report"], tags={"cvntrade/force": "true"})
    [failure] = [event.step_failure_data for event in failed.all_events if event.is_step_failure]
    assert "no space left on device" in failure.error_display_string
    with chain.warehouse.begin() as connection:
        query = sa.select(sa.func.count()).select_from(RUN_RESULTS).where(RUN_RESULTS.c.run_id == failed.run_id)
        assert connection.scalar(query) == 0


# the report


@pytest.fixture
def graph(tmp_path: Path, postgres_server: EmbeddedPostgres) -> Iterator[Graph]:
    """The graph on a database without a history."""
    url = create_database(postgres_server)
    with closing(Warehouse(url)) as warehouse:
        warehouse.migrate()
    made = make_graph(tmp_path, url)
    with closing(made.warehouse), made.instance:
        yield made


def report(graph: Graph) -> tuple[dict[str, Any], dict[str, dg.AssetCheckEvaluation]]:
    """What the report says, and its checks."""
    job = graph.defs.resolve_job_def("refresh_guardrail_report")
    done = job.execute_in_process(instance=graph.instance)
    assert done.success
    checks = {check.check_name: check for check in done.get_asset_check_evaluations()}
    assert {check.severity for check in checks.values()} == {dg.AssetCheckSeverity.WARN}
    return said(done, "guardrail_report"), checks


def seed(
    graph: Graph,
    name: str,
    guardrail: str,
    verdict: Verdict,
    *,
    day: int = 0,
    after: str = "20s",
    explicit: bool = False,
    seconds: float = 0.1,
) -> None:
    """A run of five minutes that trained, and one evaluation of it."""
    start = START + day * pd.Timedelta("1D")
    reason = REASON if verdict is Verdict.OVERRIDDEN else None
    evaluation = Evaluation(guardrail, verdict, "as told", 28_070, 10_000, explicit, "run", reason)
    occasion = Occasion(name, CRYPTO, name, {}, "check")
    record_evaluations(graph.warehouse, occasion, [evaluation], seconds, at=start + pd.Timedelta(after))
    end = start + 5 * MINUTE
    run = WatchedRun(name, name, CRYPTO, None, None, "candles_to_report", "SUCCESS", "1", start, start + MINUTE, end)
    record_run(graph.warehouse, run, at=end)


def test_without_a_history_nothing_is_known_and_nothing_passes(graph: Graph) -> None:
    told, checks = report(graph)
    assert not any(check.passed for check in checks.values())
    for check in checks.values():
        assert check.metadata["standing"].value == "unknown"
        assert str(check.description).startswith("unknown: ")
        assert "value" not in check.metadata
    assert told["last_sessions"] == "No session is on record yet."
    assert told["measures"].count("unknown") == 8
    measures = ("wasted_runs_per_month", "median_seconds_to_detect", "false_positive_rate", "overhead")
    assert not set(measures) & set(told), "what is unknown is not plotted as zero"


def test_guardrails_that_pay_meet_every_target(graph: Graph) -> None:
    seed(graph, "run-1", "rows_within_limit", Verdict.BLOCKED)
    seed(graph, "run-2", "rows_within_limit", Verdict.PASSED, day=1)
    told, checks = report(graph)
    assert {name: check.passed for name, check in checks.items()} == dict.fromkeys(checks, True)
    assert told["wasted_runs_per_month"] == 0
    assert told["median_seconds_to_detect"] == pytest.approx(20)
    assert told["false_positive_rate"] == 0
    assert told["overhead"] == pytest.approx(0.2 / 600)
    assert (told["sessions"], told["runs"], told["blocks"]) == (2, 2, 1)
    assert checks["little_overhead"].metadata["value"].value == pytest.approx(100 * 0.2 / 600)
    lines = told["last_sessions"].splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:]] == ["run-2", "run-1"]
    assert all("met" in line for line in told["measures"].splitlines()[2:])


def test_guardrails_that_do_not_pay_say_what_is_wrong(graph: Graph) -> None:
    seed(graph, "run-1", "rows_within_limit", Verdict.BLOCKED, after="3min", seconds=9.0)
    seed(graph, "run-2", "rows_within_limit", Verdict.OVERRIDDEN, day=1, after="3min")
    seed(graph, "run-3", "run_in_time", Verdict.CRITICAL, day=2, after="4min")
    told, checks = report(graph)
    assert {name: check.passed for name, check in checks.items()} == dict.fromkeys(checks, False)
    assert {name: check.metadata["standing"].value for name, check in checks.items()} == {
        "no_run_wasted": "missed",
        "detected_in_time": "missed",
        "few_false_positives": "review",
        "little_overhead": "missed",
    }
    assert told["wasted_runs_per_month"] == 2
    assert str(checks["no_run_wasted"].description).startswith("2 a month, expected 0 a month: runs a month that")
    assert str(checks["detected_in_time"].description).startswith("3 min, expected < 1 min: ")
    assert "the thresholds need a review" in str(checks["few_false_positives"].description)
    assert str(checks["little_overhead"].description).startswith("1.02 %, expected < 1 %: ")


def test_a_run_that_nobody_judged_leaves_the_waste_unknown(graph: Graph) -> None:
    seed(graph, "run-1", "rows_within_limit", Verdict.PASSED)
    end = START + 5 * MINUTE
    run = WatchedRun("run-2", "run-2", CRYPTO, None, None, "candles_to_report", "SUCCESS", "1", START, START, end)
    record_run(graph.warehouse, run)
    told, checks = report(graph)
    assert not checks["no_run_wasted"].passed
    said = "unknown: of the runs that trained, 1 was judged by no guardrail. "
    assert str(checks["no_run_wasted"].description).startswith(said)
    assert "wasted_runs_per_month" not in told
    assert told["unjudged_runs"] == 1
    assert checks["little_overhead"].passed


def test_the_report_runs_every_day_and_no_run_of_a_crypto_builds_it() -> None:
    from cvntrade_assets.commands.plan import stage_facts
    from cvntrade_assets.commands.selection import resolve_selection
    from cvntrade_assets.definitions import build_defs

    repository = build_defs().get_repository_def()
    assert repository.get_schedule_def("refresh_guardrail_report_schedule").cron_schedule == "47 3 * * *"
    chain = repository.get_job("candles_to_report").asset_layer.executable_asset_keys
    assert dg.AssetKey("guardrail_report") not in chain
    assert "guardrail_report" not in {stage.name for stage in stage_facts()}
    assert "guardrail_report" not in resolve_selection("*")
    assert {stage.name for stage in stage_facts()} == {key.to_user_string() for key in chain}
