"""Hyperparameters in the graph: what a move makes stale, what reaches the fits, and that seeds do nothing."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pandas as pd
import pytest
from services import QUICK, Graph, make_graph
from witnessed_fits import moved, require_moved, witnessed

from cvntrade_assets.commands.plan import stage_facts
from cvntrade_assets.hyperparameters import hyperparameter_key
from cvntrade_assets.operations.seeds import wanted_texts
from cvntrade_assets.settings import HYPERPARAMETER_SETTINGS, Settings, resolve
from resources.seeding import apply_seeds

CRYPTO = "BTCUSDC"
NOW = pd.Timestamp("2025-09-15", tz="UTC")
CHAIN = (
    "candles",
    "features",
    "labels",
    "training_set",
    "feature_selection",
    "label_pipeline",
    "hyperparameters",
    "model",
)
SMALL = {
    "CVN_CLEANLAB": "reweight",
    "CVN_DEFAULT_N_TRIALS": "1",
    "CVN_SCREENING_HORIZONS": "H4",
    "CVN_SCREENING_SL_RANGE": "1.0",
    "CVN_SCREENING_TP_RANGE": "2.0",
}
FOLDED = {"walk_forward", "rolling_backtest"}
USERS = {
    "XGBOOST": {"hyperparameters", "model", "validation_audit", *FOLDED},
    "SCREENING": {"screening_matrix", *FOLDED},
    "SELECTION": {"feature_selection", *FOLDED},
    "JUDGE": {"label_pipeline", *FOLDED},
}
STAGES = stage_facts(on_demand=True)


def settings(base_env: dict[str, str] | None = None, **run: str) -> Settings:
    return resolve(base_env=base_env or {}, run=run, now=NOW)


def stale(under: Settings) -> set[str]:
    """The stages whose own settings are not the defaults'."""
    return {stage.name for stage in STAGES if under.used(stage.settings) != settings().used(stage.settings)}


@pytest.mark.parametrize("key", [key for key in HYPERPARAMETER_SETTINGS if "_30M_" in key])
def test_a_move_makes_stale_who_fits_with_it_and_nobody_else(key):
    setting = HYPERPARAMETER_SETTINGS[key]
    inside = {"_LOW": "HIGH", "_HIGH": "LOW"}
    end = next((end for end in inside if key.endswith(end)), None)
    if end is None:
        text = str(setting.kind.high)
    else:
        other = HYPERPARAMETER_SETTINGS[key.removesuffix(end) + "_" + inside[end]]
        middle = (float(setting.default) + float(other.default)) / 2
        text = str(int(middle)) if isinstance(setting.kind.high, int) else str(middle)
    if text == setting.default:
        text = str(setting.kind.low)
    assert stale(settings(**{key: text})) == USERS[key.split("_")[2]]
    assert stale(settings({key: text})) == USERS[key.split("_")[2]]


def test_seeding_makes_nothing_stale():
    assert stale(settings(wanted_texts({}))) == set()
    for timeframe in ("1h", "5m"):
        run = {"CVN_TIMEFRAME": timeframe, "CVN_BACKTEST_TIMEFRAME": "5m"}
        plain, seeded = settings(**run), settings(wanted_texts({}), **run)
        assert all(plain.used(stage.settings) == seeded.used(stage.settings) for stage in STAGES)


def test_a_move_of_another_timeframe_makes_nothing_stale():
    assert stale(settings(CVN_HPO_XGBOOST_5M_MAX_DEPTH="3", CVN_HPO_JUDGE_1D_GAMMA="1")) == set()


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory, warehouse_url: str, mlflow_store: Path) -> Iterator[Graph]:
    # Nothing is pinned but what a test pins.
    assert "CVN_HPO_XGBOOST_30M_NUM_BOOST_ROUND" in QUICK
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("services.QUICK", {key: text for key, text in QUICK.items() if not key.startswith("CVN_HPO_")})
        made = make_graph(tmp_path_factory.mktemp("knobs"), warehouse_url, SMALL, mlflow_store=mlflow_store)
    with closing(made.warehouse), made.instance:
        yield made


def test_the_stages_fit_with_what_the_run_sets_and_seeding_rebuilds_none(graph: Graph):
    patience = {hyperparameter_key("XGBOOST", "30m", "early_stopping_rounds"): "7"}
    with witnessed() as seen:
        result = graph.run(CRYPTO, CHAIN, moved("XGBOOST", "SELECTION", "JUDGE") | patience)
    assert result.success
    # Two folds each; one trial of two folds, then the model.
    for fits, name in ((seen[:2], "SELECTION"), (seen[2:4], "JUDGE"), (seen[4:], "XGBOOST")):
        for each in fits:
            require_moved(each, name)
    assert [each.patience for each in seen] == [None] * 4 + [7] * 3
    with witnessed() as seen:
        assert graph.run(CRYPTO, ("screening_matrix",), moved("SCREENING")).success
    (point,) = seen
    require_moved(point, "SCREENING")

    # Seeds lie beneath what the run sets: everything is found again.
    assert apply_seeds(graph.warehouse, wanted_texts({}), NOW).inserts == wanted_texts({})
    with witnessed() as seen:
        again = graph.run(CRYPTO, CHAIN, moved("XGBOOST", "SELECTION", "JUDGE") | patience)
        screened = graph.run(CRYPTO, ("screening_matrix",), moved("SCREENING"))
    assert again.success and screened.success and seen == []
