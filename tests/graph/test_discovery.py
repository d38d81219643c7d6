"""Discovery of one crypto, small, in this process: from the grid to a record, gates, a diagnosis and a registration."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import pytest
import sqlalchemy as sa
from run_history import write_history
from services import Graph, make_graph

from cvntrade_assets.operations.correlation_data import CorrelationData, Platform, from_record
from cvntrade_assets.operations.diagnosis import diagnose
from cvntrade_assets.operations.pipelines import PIPELINES
from cvntrade_assets.operations.signals import Level, Observation
from cvntrade_assets.operations.taxonomy import Code
from cvntrade_assets.trading.gates import GATES
from resources.artifacts import Artifact
from resources.registry import models
from resources.signal_store import store
from resources.tables import BASE_ENV, EVALUATIONS, GUARDRAIL_EVALUATIONS

# What was tried on the one does not count on the other.
CRYPTO, UNREADABLE = "BTCUSDC", "ETHUSDC"
DISCOVERY = PIPELINES["discovery"].assets
# Two points of the grid, two folds, two steps.
SMALL = {
    "CVN_DEFAULT_HISTORY_MONTHS": "5",
    "CVN_SCREENING_HORIZONS": "H4",
    "CVN_SCREENING_SL_RANGE": "1.0",
    "CVN_SCREENING_TP_RANGE": "1.5,2.0",
    "CVN_CANDIDATES": "2",
    "CVN_DEFAULT_N_FOLDS": "2",
    "CVN_BACKTEST_DAYS": "12",
    "CVN_ROLLING_STEP_DAYS": "6",
}
NOTHING = {**SMALL, "CVN_SIMULATED_SIGNAL": "0"}
STRONG = {**SMALL, "CVN_SIMULATED_SIGNAL": "5"}
# What so short a look cannot prove; operators set gates, no run does.
EASY_GATES = {"CVN_GATE_TRADES": "5", "CVN_GATE_DSR": "0.5", "CVN_GATE_STD_F1": "0.5"}
PLOTS = (
    "screening heat map",
    "fold bars",
    "equity of the test",
    "equity rolling",
    "exit shares",
    "reliability",
)


class Discovered:
    """One discovery, read the way an operator would."""

    def __init__(self, graph: Graph, crypto: str, result: dg.ExecuteInProcessResult) -> None:
        self.graph, self.crypto, self.result = graph, crypto, result
        self.events = {
            event.materialization.asset_key.to_user_string(): event.materialization
            for event in result.get_asset_materialization_events()
        }

    def said(self, asset: str, entry: str) -> Any:
        return self.events[asset].metadata[entry].value

    def artifact(self, asset: str) -> Artifact[Any]:
        return self.graph.store.require(asset, self.crypto, self.said(asset, "version"))

    @property
    def leading(self) -> CorrelationData[str]:
        return self.artifact("evaluation").load().leading

    @property
    def failed_checks(self) -> list[str]:
        return [
            f"{check.asset_key.to_user_string()}.{check.check_name}: {check.description}"
            for check in self.result.get_asset_check_evaluations()
            if not check.passed
        ]

    @property
    def rows(self) -> list[Mapping[str, Any]]:
        """What the run left in the table of evaluations, best-ranked first."""
        query = sa.select(EVALUATIONS).where(EVALUATIONS.c.run_id == self.result.run_id)
        with self.graph.warehouse.begin() as connection:
            return list(connection.execute(query.order_by(EVALUATIONS.c.rank)).mappings())


def discover(
    graph: Graph, settings: Mapping[str, str], selection: tuple[str, ...] = DISCOVERY, crypto: str = CRYPTO
) -> Discovered:
    """Run to the end: everything is built and every check passes."""
    done = Discovered(graph, crypto, graph.run(crypto, selection, settings))
    assert done.failed_checks == []
    assert done.result.success
    assert set(done.events) == set(selection)
    return done


def measured(rows: Sequence[Mapping[str, Any]]) -> list[CorrelationData[str]]:
    """The records without what is of the run, and not of what was measured."""
    unknown = {"platform": Platform(), "duration": None}
    return [from_record(row["record"], row["crypto"]).model_copy(update=unknown) for row in rows]


def write_base_env(graph: Graph, key: str, value: str) -> None:
    with graph.warehouse.begin() as connection:
        connection.execute(sa.insert(BASE_ENV).values(key=key, value=value, updated_by="a test"))


@contextmanager
def set_by_operators(graph: Graph, key: str, value: str) -> Iterator[None]:
    """A key of the operators' layer, for a while."""
    write_base_env(graph, key, value)
    try:
        yield
    finally:
        with graph.warehouse.begin() as connection:
            connection.execute(sa.delete(BASE_ENV).where(BASE_ENV.c.key == key))


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory, warehouse_url: str, mlflow_store: Path) -> Graph:
    made = make_graph(tmp_path_factory.mktemp("discovery"), warehouse_url, mlflow_store=mlflow_store)
    for key, value in EASY_GATES.items():
        write_base_env(made, key, value)
    return made


@pytest.fixture(scope="module")
def nothing(graph: Graph) -> Discovered:
    """A market on which there is nothing to learn."""
    return discover(graph, NOTHING, crypto=UNREADABLE)


@pytest.fixture(scope="module")
def strong(graph: Graph, nothing: Discovered) -> Discovered:
    """A market that can be read like a book."""
    return discover(graph, STRONG)


# what it says


def test_a_market_without_a_signal_ends_with_an_honest_record(nothing: Discovered) -> None:
    record = nothing.leading
    primary = diagnose(record).primary.code
    assert primary in (Code.ML_USELESS, Code.NO_CANDIDATES)
    assert not record.passes and record.passed == 0
    assert nothing.said("evaluation", "primary_code") == str(primary)
    assert nothing.said("evaluation", "next_command").startswith("cvntrade ")
    assert nothing.said("challenger", "state") == "candidate", "registered as tried, and not as a challenger"
    assert set(record.refusing) <= set(nothing.said("evaluation", "gates_refused"))


def test_a_strong_signal_ends_with_a_challenger(strong: Discovered, graph: Graph) -> None:
    record = strong.leading
    assert record.passes, record.refusing
    assert diagnose(record).primary.code in (Code.ML_SOLID, Code.ML_EXPLOITABLE)
    assert record.f1_buy > record.baseline_f1_buy and record.sortino is not None and record.sortino > 0
    assert strong.said("challenger", "state") == "challenger"
    assert [model.pte for model in models(graph.warehouse, [CRYPTO]) if model.state == "challenger"] == [record.pte]


def test_both_say_that_the_market_is_made_up(nothing: Discovered, strong: Discovered) -> None:
    for done in (nothing, strong):
        assert done.leading.is_simulated
        assert "(SIMULATED)" in done.said("evaluation", "diagnosis")
        for asset in DISCOVERY:
            assert done.said(asset, "market") == "SIMULATED", asset


def test_every_candidate_has_its_record_in_postgresql(nothing: Discovered, strong: Discovered) -> None:
    for done in (nothing, strong):
        stored = done.artifact("evaluation").load()
        assert [row["pte"] for row in done.rows] == [record.pte for record in stored.records]
        assert measured(done.rows) == list(stored.records)
        assert sum(row["leads"] for row in done.rows) == 1
        for row in done.rows:
            assert row["walk_forward_version"] == done.said("walk_forward", "version")
            assert row["daily_sharpe"] == stored.daily_sharpes[row["pte"]]
            assert row["primary_code"] == str(diagnose(from_record(row["record"], done.crypto)).primary.code)


def test_every_gate_is_judged_with_a_reason(nothing: Discovered) -> None:
    table = nothing.events["evaluation"].metadata["gate_table"]
    assert isinstance(table, dg.TableMetadataValue)
    assert tuple(row.data["gate"] for row in table.records) == GATES
    assert all(row.data["reason"] for row in table.records)


def test_the_page_shows_plots_and_tables(strong: Discovered) -> None:
    metadata = strong.events["evaluation"].metadata
    plots = metadata["plots"].value
    assert [part.split("]")[0] for part in plots.split("![")[1:]] == list(PLOTS)
    assert plots.count("data:image/png;base64,") == len(PLOTS)
    folds = metadata["fold_table"]
    assert isinstance(folds, dg.TableMetadataValue)
    assert len(folds.records) == 2
    assert all({"f1_buy", "baseline_f1_buy"} <= set(row.data) for row in folds.records)
    for table in ("candidates", "gate_table", "beside_baselines", "interval_table", "finding_table", "run_table"):
        assert isinstance(metadata[table], dg.TableMetadataValue) and metadata[table].records, table
    beside = {row.data["what"]: row.data["total_return"] for row in metadata["beside_baselines"].records}
    assert beside["model"] == pytest.approx(strong.leading.total_return, abs=1e-4)
    assert set(beside) == {"model", "always BUY", "buy and hold"}


def test_no_test_period_was_known_to_what_is_judged_on_it(strong: Discovered) -> None:
    tested = strong.artifact("walk_forward").load()
    begins = pd.Timestamp(strong.said("screening_matrix", "selection_to"))
    for candidate in tested:
        periods = [(fold.plan.starts[3], fold.plan.end) for fold in candidate.folds]
        assert periods[0][0] >= begins
        assert all(before[1] == after[0] for before, after in pairwise(periods))
    for rolled in strong.artifact("rolling_backtest").load():
        assert rolled.data_until == rolled.steps[-1].plan.starts[3]


# what a rerun does


def test_an_unchanged_rerun_reuses_everything_and_is_on_record_again(graph: Graph, strong: Discovered) -> None:
    again = discover(graph, STRONG)
    assert {asset: again.said(asset, "version") for asset in DISCOVERY} == {
        asset: strong.said(asset, "version") for asset in DISCOVERY
    }
    assert all(again.said(asset, "reused") for asset in DISCOVERY)
    assert measured(again.rows) == measured(strong.rows)
    assert all(row["reused"] for row in again.rows)
    registered = models(graph.warehouse, [CRYPTO])
    assert len({(model.rolling_version, model.pte) for model in registered}) == len(registered)


def test_trying_other_settings_on_the_same_window_counts_as_a_trial(graph: Graph, strong: Discovered) -> None:
    tested = ("screening_matrix", "walk_forward", "rolling_backtest", "evaluation")
    other = discover(graph, {**STRONG, "CVN_MAX_FEATURES": "8"}, tested)
    assert other.said("evaluation", "earlier_trials") >= len(strong.rows)
    assert other.leading.trials == other.said("evaluation", "earlier_trials") + len(other.rows)


def test_tighter_gates_need_no_new_test(graph: Graph, strong: Discovered) -> None:
    with set_by_operators(graph, "CVN_GATE_DRAWDOWN", "0.0"):
        judged = discover(graph, STRONG)
    assert judged.said("walk_forward", "reused") and judged.said("rolling_backtest", "reused")
    assert not judged.said("evaluation", "reused")
    records = judged.artifact("evaluation").load().records
    assert all("drawdown" in record.refusing for record in records)
    assert judged.leading.rank == 1, "nobody passed, so the best-ranked one leads"


# the platform and the time it took, which are the run's


def report(graph: Graph, signals: Iterable[Observation] = (), age: str = "1min") -> Discovered:
    """A run that finds the evaluation unchanged, after a look at the signals so long ago."""
    now = pd.Timestamp.now("UTC")
    with graph.warehouse.begin() as connection:
        store(connection, [replace(signal, observed_at=now - pd.Timedelta(age)) for signal in signals])
    config = {"settings": {**graph.run_settings, **STRONG}, "variants": {}}
    done = graph.defs.resolve_job_def("discovery").execute_in_process(
        instance=graph.instance,
        partition_key=CRYPTO,
        asset_selection=[dg.AssetKey("evaluation")],
        run_config={"resources": {"run_settings": {"config": config}}},
    )
    return Discovered(graph, CRYPTO, done)


def observed(signal: str, subject: str, value: float | None, level: Level, **inputs: float) -> Observation:
    return Observation(signal, subject, value, level, "seeded", pd.Timestamp.now("UTC"), inputs)


def infra(level: Level = Level.CRITICAL, **inputs: float) -> Observation:
    return observed("infra_health", "", None if level is Level.UNKNOWN else 2.0, level, **inputs)


HEALTHY = infra(Level.OK, oom_kills=0, cpu_used=0.2, volume_used=0.3, pods_lost=0)
SATURATED = infra(oom_kills=3, cpu_used=0.2, volume_used=0.3)
OTHERS_SUCCEED = observed("pipeline_success_rate", "monitoring", 1.0, Level.OK)


def judged_rate(share: float) -> Observation:
    return observed("pipeline_success_rate", "discovery", share, Level.CRITICAL if share < 0.7 else Level.OK)


def test_a_saturated_platform_comes_first_and_leaves_with_the_night(graph: Graph, strong: Discovered) -> None:
    bad = report(graph, [SATURATED, judged_rate(0.69), OTHERS_SUCCEED])
    good = report(graph, [HEALTHY, judged_rate(0.7), OTHERS_SUCCEED])
    assert good.said("evaluation", "reused"), "what the platform did changes no version"
    assert bad.said("evaluation", "version") == good.said("evaluation", "version")
    assert bad.said("evaluation", "primary_code") == Code.INFRA_SATURATED == bad.rows[0]["primary_code"]
    assert Code.PIPELINE_DEGRADED in bad.said("evaluation", "codes")
    assert "oom_kills 3, limit 2" in bad.said("evaluation", "diagnosis")
    assert not {Code.INFRA_SATURATED, Code.PIPELINE_DEGRADED} & set(good.said("evaluation", "codes"))
    assert not {Code.INFRA_SATURATED, Code.PIPELINE_DEGRADED} & set(good.rows[0]["codes"])
    assert good.said("evaluation", "not_judged") == []
    assert good.rows[0]["record"]["platform"] == {
        "success_rate": 0.7,
        "oom_kills": 0,
        "pvc_used": 0.3,
        "cpu_used": 0.2,
        "pods_lost": 0,
    }


@pytest.mark.parametrize(
    ("signals", "age"),
    [
        ([], "1min"),
        ([SATURATED, judged_rate(0.1)], "16min"),
        ([infra(Level.UNKNOWN), observed("pipeline_success_rate", "discovery", None, Level.UNKNOWN)], "1min"),
        ([OTHERS_SUCCEED, infra(Level.UNKNOWN, cpu_used=0.2)], "1min"),
    ],
    ids=["never observed", "stale", "unknown", "of another job, and known in part"],
)
def test_a_platform_that_nobody_knows_is_not_judged(
    graph: Graph, strong: Discovered, signals: list[Observation], age: str
) -> None:
    done = report(graph, signals, age)
    assert not {Code.INFRA_SATURATED, Code.PIPELINE_DEGRADED} & set(done.said("evaluation", "codes"))
    table = done.events["evaluation"].metadata["run_table"]
    assert isinstance(table, dg.TableMetadataValue)
    assert {row.data["what"]: row.data["value"] for row in table.records}["oom_kills"] == "unknown"
    unknown = " ".join(done.said("evaluation", "not_judged"))
    assert "INFRA_SATURATED: without oom_kills" in unknown and "PIPELINE_DEGRADED: without success_rate" in unknown


def test_what_is_kept_says_nothing_of_a_night(graph: Graph, strong: Discovered) -> None:
    done = report(graph, [SATURATED, judged_rate(0.1)])
    [leading] = [each for each in done.artifact("evaluation").load().records if each.leading]
    assert (leading.platform, leading.duration) == (Platform(), None)
    assert "oom_kills" not in json.dumps(dict(done.artifact("evaluation").manifest.summary))


@pytest.mark.parametrize(("minutes", "too_slow"), [(1e-4, True), (60.0, False)])
def test_a_run_is_slow_beside_the_earlier_ones_of_its_job(
    graph: Graph, strong: Discovered, minutes: float, too_slow: bool
) -> None:
    write_history(graph.instance, "discovery", [minutes] * 10)
    done = report(graph, [HEALTHY])
    duration = done.rows[0]["record"]["duration"]
    assert duration["p95_minutes"] == pytest.approx(minutes, rel=1e-3) and duration["minutes"] > 1e-4
    assert duration["slowest_stage"] == "evaluation"
    assert ("slow_run" in done.events["evaluation"].metadata) is too_slow
    if too_slow:
        assert "more than 30 % over" in done.said("evaluation", "slow_run")
        assert "--set backtest_days=60" in done.said("evaluation", "slow_run")


def test_few_earlier_runs_tell_nothing_of_what_is_usual(graph: Graph, strong: Discovered) -> None:
    write_history(graph.instance, "discovery", [1e-4] * 9)
    done = report(graph, [HEALTHY])
    assert done.rows[0]["record"]["duration"]["p95_minutes"] is None
    assert "slow_run" not in done.events["evaluation"].metadata


# with another past, or too little of it


def test_new_candles_may_be_tested_with_the_last_screening(graph: Graph, strong: Discovered) -> None:
    """What `retrain` does: the test periods move on, the choice was made before them."""
    later = {**STRONG, "CVN_AS_OF": "2025-09-03"}
    retrain = tuple(asset for asset in PIPELINES["retrain"].assets if asset != "challenger")
    done = discover(graph, later, retrain)
    assert done.leading.data_until == pd.Timestamp("2025-09-03", tz="UTC")
    assert done.leading.versions["screening_matrix"] == strong.said("screening_matrix", "version")
    assert done.leading.screened is None, "nothing was screened in this run"


def test_guardrails_are_asked_before_anything_is_fitted(graph: Graph, strong: Discovered) -> None:
    with set_by_operators(graph, "CVN_GUARDRAIL_MIN_ROWS", "9999"):
        done = graph.run(CRYPTO, [*DISCOVERY[:3], "walk_forward"], {**STRONG, "CVN_MAX_FEATURES": "9"})
    [failure] = [event.step_failure_data for event in done.all_events if event.is_step_failure]
    assert "is not begun: rows_enough" in str(failure.user_failure_data.description)
    query = sa.select(GUARDRAIL_EVALUATIONS.c.guardrail, GUARDRAIL_EVALUATIONS.c.verdict)
    with graph.warehouse.begin() as connection:
        found = connection.execute(query.where(GUARDRAIL_EVALUATIONS.c.run_id == done.run_id)).all()
    assert ("rows_enough", "blocked") in [tuple(row) for row in found]
    assert ("rows_within_limit", "passed") in [tuple(row) for row in found], "what holds is on record too"
