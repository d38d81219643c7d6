"""The declared table of hyperparameters, and the keys that it makes."""

from dataclasses import replace

import pytest

from cvntrade_assets import hyperparameters
from cvntrade_assets.hyperparameters import HYPERPARAMETERS, MODELS, bounds, default_values, table_digest
from cvntrade_assets.learning.boosting import HYPERPARAMETERS as TAKEN
from cvntrade_assets.learning.boosting import TUNABLE
from cvntrade_assets.market.candles import TIMEFRAMES
from cvntrade_assets.settings import HYPERPARAMETER_SETTINGS, Layer, read_value

COMMON = {
    *("max_depth", "learning_rate", "min_child_weight", "subsample", "gamma", "max_delta_step", "reg_lambda"),
    *("colsample_bytree", "colsample_bylevel", "colsample_bynode", "reg_alpha", "max_bin", "num_boost_round"),
}
ROWS = [(model, item) for model, items in HYPERPARAMETERS.items() for item in items]


def test_four_models_thirteen_parameters_seven_timeframes():
    assert set(HYPERPARAMETERS) == set(MODELS) == {"XGBOOST", "SCREENING", "SELECTION", "JUDGE"}
    for model, items in HYPERPARAMETERS.items():
        names = [item.name for item in items]
        assert len(set(names)) == len(names)
        assert set(names) == COMMON | ({"early_stopping_rounds"} if model == "XGBOOST" else set())
        assert [bool(item.search) for item in items] == [model == "XGBOOST" and item.searched for item in items]
    assert len(bounds("XGBOOST")) == 16 and bounds("JUDGE") == ()
    assert len(HYPERPARAMETER_SETTINGS) == (13 * 4 + 1 + 16) * len(TIMEFRAMES) == 483


@pytest.mark.parametrize(("model", "item"), ROWS, ids=lambda each: getattr(each, "name", each))
def test_a_row_is_whole(model, item):
    assert item.low < item.high and item.low <= item.default <= item.high
    assert len(item.meaning) > 5
    if item.search is not None:
        assert item.low <= item.search.low < item.search.high <= item.high
        assert item.search.low > 0 or not item.search.log
        assert item.name in TUNABLE
    # What is no parameter of a tree is an argument of its own.
    assert (item.name in TAKEN) != (item.name in ("num_boost_round", "early_stopping_rounds"))
    assert isinstance(item.default_value, int) is item.integer
    assert (item.name in default_values(model)) is (item.search is None)


@pytest.mark.parametrize("name", HYPERPARAMETER_SETTINGS)
def test_a_key_reads_its_default(name):
    setting = HYPERPARAMETER_SETTINGS[name]
    read = read_value(name, setting.default, Layer.BASE_ENV)
    assert read.text == setting.default and read.is_default
    assert read_value(name, "", Layer.RUN).is_default
    assert (setting.default == "") is (read.value is None)


def test_another_default_is_another_digest(monkeypatch):
    before = {model: table_digest(model) for model in MODELS}
    first, *others = HYPERPARAMETERS["JUDGE"]
    changed = {**HYPERPARAMETERS, "JUDGE": (replace(first, default=first.default + 1), *others)}
    monkeypatch.setattr(hyperparameters, "HYPERPARAMETERS", changed)
    after = {model: table_digest(model) for model in MODELS}
    assert [model for model in MODELS if before[model] != after[model]] == ["JUDGE"]
