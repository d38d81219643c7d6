"""The asset `model_health`, run by Dagster on a registry, a store and candles that go on after the model's data end."""

from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import dagster as dg
import evaluated_market as market
import pandas as pd
import pytest
from correlation_records import record
from services import Graph, create_database, make_graph

from cvntrade_assets.learning.model_health import LEAST_ROWS
from cvntrade_assets.operations.lifecycle import ModelState
from cvntrade_assets.operations.provenance import Provenance
from resources.artifacts import Artifact
from resources.embedded_postgres import EmbeddedPostgres
from resources.evaluations import EvaluationOf, record_evaluations
from resources.registry import ModelVersion, NewModel, offer_candidate
from resources.warehouse import Warehouse

CRYPTO, PTE = "BTCUSDC", str(market.PTE_TESTED)
SELECTED = ("candles", "backtest_candles", "model_health")
LATER = market.END + pd.Timedelta(days=5)
SETTINGS = {
    "CVN_SIMULATED_SEED": "1",
    "CVN_SIMULATED_SIGNAL": "1",
    "CVN_BACKTEST_DAYS": "5",
    "CVN_AS_OF": LATER.isoformat(),
}
INTACT, BETTER = "models_are_those_registered", "better_than_always_buy"


@pytest.fixture
def graph(tmp_path: Path, postgres_server: EmbeddedPostgres, mlflow_store: Path) -> Iterator[Graph]:
    """A graph on a database of its own: a registry forgets nothing."""
    url = create_database(postgres_server)
    with closing(Warehouse(url)) as warehouse:
        warehouse.migrate()
    made = make_graph(tmp_path, url, SETTINGS, mlflow_store=mlflow_store)
    with closing(made.warehouse), made.instance:
        yield made


def published(graph: Graph) -> Artifact[Any]:
    """A rolling backtest on candles until `market.END`."""
    lineage = {"CVN_TIMEFRAME": "30m"}
    provenance = Provenance("1", {"candles": "c"}, {}, "simulated", lineage, market.END.isoformat())
    return graph.store.publish("rolling_backtest", CRYPTO, provenance, (market.walked(),), {}, "r0")


def registered(graph: Graph, rolling: Artifact[Any], sha256: str | None = None) -> ModelVersion:
    """Its model as a challenger, all gates passed."""
    begins = market.plans()[0].starts[3]
    whose = EvaluationOf("r0", "r0", CRYPTO, "e1", "w1", rolling.version, False, begins, market.END)
    judged = record(crypto=CRYPTO, market="simulated", pte=PTE, leading=True)
    record_evaluations(graph.warehouse, whose, [(judged, 0.1)])
    true_sha256 = rolling.manifest.files[f"last-{PTE}-model.ubj"]
    fitted_until, until = market.walked().data_until.to_pydatetime(), market.END.to_pydatetime()
    new = NewModel(CRYPTO, "simulated", PTE, rolling.version, sha256 or true_sha256, "e1", fitted_until, until)
    offered = offer_candidate(graph.warehouse, new, {}, "tests")
    assert offered.model.state is ModelState.CHALLENGER
    return offered.model


def look(graph: Graph, **settings: str) -> tuple[Mapping[str, Any], dict[str, dg.AssetCheckEvaluation]]:
    """What the asset said, and its checks by name."""
    result = graph.run(CRYPTO, SELECTED, settings)
    assert result.success
    [made] = [
        event for event in result.get_asset_materialization_events() if event.asset_key == dg.AssetKey("model_health")
    ]
    metadata = {name: value.value for name, value in made.materialization.metadata.items()}
    mine = [each for each in result.get_asset_check_evaluations() if each.asset_key == dg.AssetKey("model_health")]
    return metadata, {each.check_name: each for each in mine}


def test_without_a_registered_model_nothing_is_ill(graph: Graph) -> None:
    said, checks = look(graph)
    assert (
        said["health"]
        == "no champion or challenger of BTCUSDC is registered on the market simulated: nothing to look at"
    )
    assert said["models"] == [] and said["market"] == "SIMULATED"
    assert checks[INTACT].passed and checks[BETTER].passed


def test_a_challenger_is_told_beside_its_baselines_on_what_it_has_not_seen(graph: Graph) -> None:
    model = registered(graph, published(graph))
    said, checks = look(graph)
    [told] = said["models"]
    assert (told["name"], told["state"], told["pte"], told["market"]) == (model.name, "challenger", PTE, "simulated")
    assert told["candles"] == 5 * 48
    # Fitted where the last step of its rolling backtest begins, and judged on that step.
    assert told["age_days"] == 5.0
    assert told["fitted_until"] == (market.END - pd.Timedelta(days=market.TEST_DAYS / 2)).isoformat()
    assert 0.0 < told["baseline_f1_buy"] < 1.0 and 0.0 <= told["f1_buy"] <= 1.0
    assert said["model_1_f1_buy"] == told["f1_buy"] and "data:image/png" in said["model_1_reliability"]
    assert checks[INTACT].passed
    assert checks[BETTER].passed == (told["f1_buy"] > told["baseline_f1_buy"])
    assert checks[BETTER].severity is dg.AssetCheckSeverity.WARN


def test_too_few_candles_are_no_verdict(graph: Graph) -> None:
    registered(graph, published(graph))
    said, checks = look(graph, CVN_AS_OF=(market.END + pd.Timedelta(hours=12)).isoformat())
    [told] = said["models"]
    assert told["candles"] == 24 and told["f1_buy"] is None and told["sortino"] is None
    assert any(f"at least {LEAST_ROWS} are needed" in note for note in told["notes"])
    assert checks[INTACT].passed and not checks[BETTER].passed
    assert "unknown: BTCUSDC model 1" in str(checks[BETTER].description)


def test_a_replay_of_the_models_own_past_is_no_verdict(graph: Graph) -> None:
    registered(graph, published(graph))
    said, _ = look(graph, CVN_AS_OF=market.END.isoformat())
    [told] = said["models"]
    assert told["candles"] == 0 and told["notes"] == [
        f"no candle has closed since {market.END:%Y-%m-%d %H:%M} UTC, where its data end"
    ]


def test_a_file_that_was_changed_is_asked_nothing_and_named(graph: Graph) -> None:
    rolling = published(graph)
    registered(graph, rolling)
    file = rolling.folder / f"last-{PTE}-model.ubj"
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    said, checks = look(graph)
    [told] = said["models"]
    assert "f1_buy" not in told and "is not what was published" in told["notes"][0]
    # How old it is does not depend on its files.
    assert told["age_days"] == 5.0
    assert not checks[INTACT].passed and "model.ubj" in str(checks[INTACT].description)
    assert said["health"] == "looked at BTCUSDC model 1; not as registered: BTCUSDC model 1"


def test_a_file_that_is_whole_and_not_the_registered_one_is_asked_nothing(graph: Graph) -> None:
    registered(graph, published(graph), sha256="0" * 64)
    said, checks = look(graph)
    assert not checks[INTACT].passed and "is registered with 0000" in str(checks[INTACT].description)
    assert "f1_buy" not in said["models"][0]
