"""Discovery of one crypto, small, in this process: from the grid to a record, gates, a diagnosis and a registration."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import pytest
import sqlalchemy as sa
from services import Graph, make_graph

from cvntrade_assets.operations.correlation_data import CorrelationData, from_record
from cvntrade_assets.operations.diagnosis import diagnose
from cvntrade_assets.operations.pipelines import PIPELINES
from cvntrade_assets.operations.taxonomy import Code
from cvntrade_assets.trading.gates import GATES
from resources.artifacts import Artifact
from resources.registry import models
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
        assert [from_record(row["record"], done.crypto) for row in done.rows] == list(stored.records)
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
    for table in ("candidates", "gate_table", "beside_baselines", "interval_table", "finding_table"):
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
    assert [row["record"] for row in again.rows] == [row["record"] for row in strong.rows]
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
