"""The asset `drift`, run by Dagster: a chain, then candles that go on after everything that it knows."""

from collections.abc import Mapping
from contextlib import closing
from typing import Any

import dagster as dg
import pandas as pd
import pytest
import sqlalchemy as sa
from services import Graph, create_database, make_graph

from cvntrade_assets.operations.drift_dependence import LEAST_WINDOWS
from resources.embedded_postgres import EmbeddedPostgres
from resources.tables import DRIFT_REPORTS
from resources.warehouse import Warehouse

CRYPTO, OTHER = "BTCUSDC", "ETHUSDC"
SELECTED = ("candles", "features", "labels", "drift")
BUILT = pd.Timestamp("2025-09-01", tz="UTC")
CONTRACT = {"schema", "as_measured", "unseen", "level"}


class Looked:
    """One run of the assets that monitoring builds."""

    def __init__(self, graph: Graph, crypto: str, days: float, **settings: str) -> None:
        as_of = (BUILT + pd.Timedelta(days=days)).isoformat()
        self.result = graph.run(crypto, SELECTED, {"CVN_AS_OF": as_of, **settings})
        assert self.result.success
        [made] = [
            event for event in self.result.get_asset_materialization_events() if event.asset_key == dg.AssetKey("drift")
        ]
        self.said: Mapping[str, Any] = {name: entry.value for name, entry in made.materialization.metadata.items()}
        self.checks = {
            each.check_name: each
            for each in self.result.get_asset_check_evaluations()
            if each.asset_key == dg.AssetKey("drift")
        }
        self.row = recorded(graph.warehouse, self.result.run_id)


def recorded(warehouse: Warehouse, run_id: str) -> Mapping[str, Any]:
    with warehouse.begin() as connection:
        query = sa.select(DRIFT_REPORTS).where(DRIFT_REPORTS.c.run_id == run_id)
        return dict(connection.execute(query).mappings().one())


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory, postgres_server: EmbeddedPostgres, mlflow_store: Any) -> Graph:
    """The chain of one crypto, built as of `BUILT`."""
    url = create_database(postgres_server)
    with closing(Warehouse(url)) as warehouse:
        warehouse.migrate()
    made = make_graph(tmp_path_factory.mktemp("drift"), url, mlflow_store=mlflow_store)
    assert made.run(CRYPTO).success
    return made


def test_new_candles_are_held_against_what_the_model_knows(graph: Graph) -> None:
    looked = Looked(graph, CRYPTO, 4)
    said, row = looked.said, looked.row
    assert {name for name, check in looked.checks.items() if check.passed} >= CONTRACT
    report = said["report"]
    assert 96 <= said["rows"] <= 4 * 48
    assert pd.Timestamp(report["window_from"]) > BUILT - pd.Timedelta(days=1)
    assert pd.Timestamp(report["window_to"]) == BUILT + pd.Timedelta(days=4, minutes=-30)
    # The horizon of four hours, and the candle that waits for its entry.
    assert said["labelled"] == said["rows"] - 8
    assert report["columns"][-1]["p_value"] >= report["columns"][0]["p_value"]
    assert (row["level"], row["market"], row["reason"]) == (said["level"], "simulated", said["reason"])
    assert row["features"] == len(report["columns"]) - 1 <= 10
    assert row["share"] == said["share"] and row["details"] == report
    assert row["model_version"] == said["compared_with"]["model"]
    assert row["buy_rate"] == pytest.approx(said["buy_rate"]) and row["calibration_p"] is not None
    assert said["plots"].count("data:image/png") == 2 and said["market"] == "SIMULATED"
    again = Looked(graph, CRYPTO, 4)
    assert again.said["reused"] and again.said["version"] == said["version"]
    assert again.row["run_id"] != row["run_id"] and again.row["reason"] == row["reason"]


def test_a_crypto_without_a_chain_is_unknown_and_its_run_goes_on(graph: Graph) -> None:
    looked = Looked(graph, OTHER, 4)
    check = looked.checks["no_drift"]
    assert not check.passed and check.severity is dg.AssetCheckSeverity.WARN
    assert {name for name, each in looked.checks.items() if each.passed} == CONTRACT
    assert looked.row["level"] == "unknown" and looked.row["share"] is None and looked.row["model_version"] == ""
    assert "training_set of ETHUSDC was never built" in looked.row["reason"]
    assert "cvntrade backfill --crypto ETHUSDC" in looked.row["reason"]


@pytest.mark.parametrize(
    ("days", "settings", "why"),
    [
        (0.5, {}, "at least 96 are needed"),
        (4, {"CVN_SIMULATED_SEED": "5"}, "was built with CVN_SIMULATED_SEED='0' (this run: '5')"),
        (-5, {}, "knows candles until"),
    ],
)
def test_what_cannot_be_compared_is_unknown(graph: Graph, days: float, settings: dict[str, str], why: str) -> None:
    looked = Looked(graph, CRYPTO, days, **settings)
    assert looked.row["level"] == "unknown" and why in looked.row["reason"]
    assert not looked.checks["no_drift"].passed
    assert looked.checks["no_drift"].severity is dg.AssetCheckSeverity.WARN


def test_short_windows_are_taken_when_few_fit_into_the_past(graph: Graph) -> None:
    """The other slices of four months hold ten windows of two days, and not ten of three."""
    looked = Looked(graph, CRYPTO, 9)
    targets = graph.store.require("training_set", CRYPTO, looked.said["compared_with"]["training_set"]).load().targets
    held_out = int((targets["slice"] != "train").sum())
    assert looked.said["rows"] < 3 * 48
    assert looked.said["rows"] == pytest.approx(held_out / LEAST_WINDOWS, abs=8)
