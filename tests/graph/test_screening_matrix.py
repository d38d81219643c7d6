"""The screening in the graph: asked for by name, reused, kept out of the chain, and shown."""

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import pytest
from services import Graph, make_graph

from cvntrade_assets.commands.plan import stage_facts
from cvntrade_assets.commands.selection import stage_keys
from cvntrade_assets.learning.from_settings import fold_plans
from resources.codecs import StoredScreening

CRYPTO = "BTCUSDC"
HORIZONS, STOPS, TARGETS = "CVN_SCREENING_HORIZONS", "CVN_SCREENING_SL_RANGE", "CVN_SCREENING_TP_RANGE"
GRID = {HORIZONS: "H2,H6", STOPS: "1.0,2.0", TARGETS: "1.5,3.0"}
BUILT = ("candles", "features", "screening_matrix")


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory, warehouse_url: str, mlflow_store: Path) -> Graph:
    built = make_graph(tmp_path_factory.mktemp("screening"), warehouse_url, GRID, mlflow_store=mlflow_store)
    built.warehouse.set_base_env({"CVN_GATE_TRADES": "5"}, "a test")
    return built


class Screened:
    """One run, read the way a user would."""

    def __init__(self, graph: Graph, *assets: str, settings: Mapping[str, str] | None = None) -> None:
        self.result = graph.run(CRYPTO, assets or ("screening_matrix",), settings)
        events = {
            event.asset_key.to_user_string(): event.materialization.metadata
            for event in self.result.get_asset_materialization_events()
        }
        self.metadata = {name: entry.value for name, entry in events.get("screening_matrix", {}).items()}
        self.checks = {check.check_name: check for check in self.result.get_asset_check_evaluations()}
        self.stored: Any = None
        if self.metadata:
            self.stored = graph.store.require("screening_matrix", CRYPTO, self.metadata["version"]).load()

    @property
    def failure(self) -> str:
        failures = [event.step_failure_data for event in self.result.all_events if event.is_step_failure]
        return str(failures[0].error.cause or failures[0].error)


@pytest.fixture(scope="module")
def first(graph: Graph) -> Screened:
    return Screened(graph, *BUILT)


def test_a_screening_ends_with_candidates_and_keeps_its_contract(graph: Graph, first: Screened) -> None:
    assert first.result.success
    assert [f"{check.check_name}: {check.description}" for check in first.checks.values() if not check.passed] == []
    assert {"schema", "whole_grid", "best_first", "candidates", "before_tests"} <= set(first.checks)
    assert isinstance(first.stored, StoredScreening)
    screening = first.stored.screening
    assert len(screening.points) == 6
    assert [str(pte) for pte in screening.left_out] == ["H2_SL2.0_TP1.5", "H6_SL2.0_TP1.5"]
    assert 1 <= len(screening.candidates) <= 3

    said = first.metadata
    assert said["points"] == 6
    assert said["left_out"] == ["H2_SL2.0_TP1.5", "H6_SL2.0_TP1.5"]
    assert said["candidates"] == [str(pte) for pte in screening.candidates]
    assert said["eligible"] == int(screening.points["eligible"].sum())
    assert said["best"] == screening.points["pte"][0]
    assert said["best_sharpe"] == pytest.approx(screening.points["sharpe"][0])
    assert said["market"] == "SIMULATED"


def test_it_ends_where_the_first_test_period_begins(graph: Graph, first: Screened) -> None:
    features = graph.store.require("features", CRYPTO, _version(first, "features")).load()
    plans = fold_plans(graph.settings, pd.DatetimeIndex(features.index))
    assert pd.Timestamp(first.metadata["selection_to"]) == plans[0].starts[3]
    assert pd.Timestamp(first.metadata["selection_from"]) == plans[0].starts[2]
    length = plans[0].starts[3] - plans[0].starts[2]
    assert first.metadata["least_trades"] == -(-5 * length // pd.Timedelta(days=2))


def _version(screened: Screened, asset: str) -> str:
    for event in screened.result.get_asset_materialization_events():
        if event.asset_key == dg.AssetKey(asset):
            return str(event.materialization.metadata["version"].value)
    raise AssertionError(f"{asset} was not built")


def test_its_page_shows_the_heat_map_and_the_best_points(first: Screened) -> None:
    picture = first.metadata["heat_map"]
    png = base64.b64decode(picture.partition("base64,")[2].rstrip(")"))
    assert png == first.stored.plots["screening_heat_map"]
    best = [record.data for record in first.metadata["best_20"].records]
    assert [row["pte"] for row in best] == list(first.stored.screening.points["pte"])
    assert [row["rank"] for row in best] == [1, 2, 3, 4, 5, 6]


def test_an_unchanged_screening_is_reused_and_a_changed_grid_is_not(graph: Graph, first: Screened) -> None:
    again = Screened(graph)
    assert again.metadata["reused"]
    assert again.metadata["version"] == first.metadata["version"]
    tuned = Screened(graph, settings={"CVN_DEFAULT_N_TRIALS": "7", "CVN_CALIBRATION": "isotonic"})
    assert tuned.metadata["reused"], "what screening does not use does not make it stale"
    other = Screened(graph, settings={HORIZONS: "H4"})
    assert not other.metadata["reused"]
    assert set(other.stored.screening.points["horizon_hours"]) == {4}


def test_undefined_numbers_are_empty_cells(graph: Graph, first: Screened) -> None:
    never = {HORIZONS: "H1", STOPS: "1.0", TARGETS: "5.0"}
    hopeless = Screened(graph, settings=never)
    assert hopeless.result.success
    (row,) = [record.data for record in hopeless.metadata["best_20"].records]
    assert row["eligible"] is False
    assert row["reason"]
    assert ("best_sharpe" in hopeless.metadata) == (row["sharpe"] is not None)


def test_too_short_a_history_is_refused_with_advice(graph: Graph, first: Screened) -> None:
    refused = Screened(graph, settings={"CVN_BACKTEST_DAYS": "60"})
    assert not refused.result.success
    assert "CVN_DEFAULT_HISTORY_MONTHS" in refused.failure


def test_it_is_not_part_of_the_chain(graph: Graph) -> None:
    chain = graph.defs.resolve_job_def("candles_to_report").asset_layer.executable_asset_keys
    assert dg.AssetKey("screening_matrix") not in chain
    assert dg.AssetKey("screening_matrix") not in stage_keys()
    assert "screening_matrix" not in {stage.name for stage in stage_facts()}
    assert "screening_matrix" in {stage.name for stage in stage_facts(on_demand=True)}
