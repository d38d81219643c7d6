"""One fit: the same as its steps one by one, the same each time, and blind to whatever is not its business."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from evaluated_market import PTE_TESTED, history, plans, small_recipe, small_settings

from cvntrade_assets.learning import from_settings
from cvntrade_assets.learning.barriers import label_candles
from cvntrade_assets.learning.boosting import Loss
from cvntrade_assets.learning.calibration import apply_calibration, calibrate
from cvntrade_assets.learning.label_pipeline import prepare_labels
from cvntrade_assets.learning.recipe import Fitted, Recipe, fit, predict
from cvntrade_assets.learning.selection import select_features
from cvntrade_assets.learning.training import score_buy, train_model
from cvntrade_assets.learning.training_set import TrainingSet
from cvntrade_assets.learning.tuning import tune

EVERYTHING_ELSEWHERE = {
    "CVN_LABEL_SMOOTHING": "mild",
    "CVN_CLEANLAB": "filter",
    "CVN_CALIBRATION": "isotonic",
    "CVN_THRESHOLD_METHOD": "expected_value",
    "CVN_TRADE_THRESHOLD_METHOD": "expected_value",
    "CVN_FOCAL_LOSS": "1",
    "CVN_HPO_OBJECTIVE": "f1_binary",
    "CVN_SEED": "7",
}

# Ours, and XGBoost's own defaults spelt out.
FIXED = {"max_bin": 64, "colsample_bylevel": 1.0, "colsample_bynode": 1.0, "max_delta_step": 0.0}


def rows_for(recipe: Recipe) -> TrainingSet:
    labels = label_candles(history().candles, PTE_TESTED, interval=history().interval, binary=recipe.binary)
    return history().rows(labels, plans()[0].whole, recipe)


def silent(_: str) -> None:
    pass


def same(one: Fitted, other: Fitted) -> bool:
    return (one.model, one.calibration.describe(), one.params) == (
        other.model,
        other.calibration.describe(),
        other.params,
    )


def step_by_step(rows: TrainingSet, smoothing, cleanlab, objective, loss, method, threshold, seed):
    """The fit written out, with the numbers of the settings and not of the recipe."""
    train, valid, held = (rows.slice(name) for name in ("train", "validation", "calibration"))
    embargo = pd.Timedelta("6h")
    names = list(select_features(train, 20, seed, 2, embargo).names)
    spans = (train.targets["entry_time"], train.targets["exit_time"])
    ready = prepare_labels(
        train.features[names], train.targets["label"], train.targets["weight"], *spans, binary=True,
        smoothing=smoothing, cleanlab=cleanlab, class_cap=0.1, n_folds=2, embargo=embargo, seed=seed,
    )  # fmt: skip
    kept = train.targets.loc[ready.features.index]
    recipe = small_recipe()
    params = tune(
        ready.features, ready.labels, ready.weights, kept["label"], kept["entry_time"], kept["exit_time"],
        n_trials=2, n_folds=2, objective=objective, search_space=recipe.search_space, fixed_params=FIXED,
        loss=loss, rounds=40, early_stopping_rounds=15, seed=seed, workers=1, embargo=embargo,
    ).params  # fmt: skip
    model = train_model(
        ready.features, ready.labels, ready.weights, valid.features[names], valid.targets["label"], params=params,
        rounds=40, early_stopping_rounds=15, objective=loss.objective, focal_gamma=loss.focal_gamma, seed=seed,
    )  # fmt: skip
    scores = score_buy(model, held.features[names])
    frozen = calibrate(
        scores, held.targets["label"], held.targets["return"], method=method, threshold_method=threshold,
        trade_threshold_method=threshold, cost=0.002, seed=seed,
    )  # fmt: skip
    return Fitted(model, frozen, params, True)


@pytest.mark.parametrize(
    ("run", "choices"),
    [
        ({}, ("none", "off", "precision_recall_auc", Loss("logistic"), "sigmoid", "f1_binary", 42)),
        (
            EVERYTHING_ELSEWHERE,
            ("mild", "filter", "f1_binary", Loss("focal", 2.0), "isotonic", "expected_value", 7),
        ),
    ],
    ids=["defaults", "elsewhere"],
)
def test_a_fit_is_its_steps_one_by_one(run, choices):
    recipe = small_recipe(**run)
    rows = rows_for(recipe)
    fitted = fit(recipe, rows, say=silent)
    assert same(fitted, step_by_step(rows, *choices))
    assert fitted.tuned


def test_the_test_slice_is_not_looked_at():
    recipe = replace(small_recipe(), params={"max_depth": 2})
    rows = rows_for(recipe)
    test = (rows.targets["slice"] == "test").to_numpy()
    without = TrainingSet(rows.features[~test], rows.targets[~test])
    noise = rows.features.copy()
    noise.loc[test] = np.random.default_rng(0).normal(size=(test.sum(), noise.shape[1])).astype(np.float32)
    upside_down = rows.targets.assign(label=rows.targets["label"].where(~test, 1 - rows.targets["label"]))
    whole = fit(recipe, rows, say=silent)
    assert same(whole, fit(recipe, without, say=silent))
    assert same(whole, fit(recipe, TrainingSet(noise, upside_down), say=silent))


def test_given_hyperparameters_are_not_searched_for():
    recipe = small_recipe()
    rows = rows_for(recipe)
    told: list[str] = []
    searched = fit(recipe, rows, say=told.append)
    assert any("tuning: trial 2 of 2" in text for text in told)
    told.clear()
    given = fit(replace(recipe, params=searched.params), rows, say=told.append)
    assert not given.tuned
    assert same(given, searched)
    assert not any("tuning" in text for text in told)
    assert any("training: round" in text for text in told)
    assert any("feature selection" in text for text in told)


def test_given_hyperparameters_leave_the_fixed_ones_as_they_are():
    recipe = replace(small_recipe(), fixed={"max_bin": 16}, params={"max_depth": 2})
    model = fit(recipe, rows_for(recipe), say=silent).model
    assert (model.params["max_bin"], model.params["max_depth"]) == (16, 2)


def test_three_classes_are_fitted_and_calibrated_as_buy_against_the_rest():
    earn = dict.fromkeys(("CVN_THRESHOLD_METHOD", "CVN_TRADE_THRESHOLD_METHOD"), "expected_value")
    recipe = small_recipe(CVN_BINARY_CLASSIFICATION="0", **earn)
    recipe = replace(recipe, params={"max_depth": 2})
    rows = rows_for(recipe)
    fitted = fit(recipe, rows, say=silent)
    held = rows.slice("calibration").targets["label"]
    assert set(held) == {-1, 0, 1}
    assert fitted.calibration.base_rate == (held == 1).mean()


def test_a_prediction_is_of_any_candle_labelled_or_not():
    recipe = replace(small_recipe(), params={"max_depth": 2})
    fitted = fit(recipe, rows_for(recipe), say=silent)
    newest = history().features.iloc[-5:]
    said = predict(fitted, newest)
    assert said.index.equals(newest.index)
    score = score_buy(fitted.model, newest[list(fitted.model.feature_names)])
    pd.testing.assert_series_equal(said["score"], score, check_names=False)
    probability = apply_calibration(fitted.calibration, score)
    assert said["probability"].tolist() == probability.tolist()
    assert said["predicted"].tolist() == (probability >= fitted.calibration.threshold).tolist()


def test_rows_that_cannot_be_calibrated_on_are_refused_with_the_steps_own_words():
    recipe = replace(small_recipe(), params={"max_depth": 2})
    rows = rows_for(recipe)
    few = np.flatnonzero(rows.targets["slice"] == "calibration")[99:]
    kept = np.delete(np.arange(len(rows.targets)), few)
    with pytest.raises(ValueError, match="calibration slice has 99 rows"):
        fit(recipe, TrainingSet(rows.features.iloc[kept], rows.targets.iloc[kept]), say=silent)


class Recorded(dict):
    """Remembers which keys were read."""

    def __init__(self, values) -> None:
        super().__init__(values)
        self.read: set[str] = set()

    def __getitem__(self, name: str):
        self.read.add(name)
        return super().__getitem__(name)


@pytest.mark.parametrize(
    ("make", "declared", "apart"),
    [
        # The result does not depend on the number of processes; a pinned hyperparameter is found by its family.
        (from_settings.recipe, from_settings.RECIPE_SETTINGS, {"CVN_TUNING_WORKERS"}),
        (from_settings.execution, from_settings.EXECUTION_SETTINGS, set()),
    ],
)
def test_the_declared_settings_are_those_that_are_read(make, declared, apart):
    read: set[str] = set()
    for run in ({}, {"CVN_FOCAL_LOSS": "1"}):
        settings = small_settings(**run)
        settings._resolved = Recorded(settings._resolved)
        make(settings)
        read |= settings._resolved.read
    assert read - apart == {name for name in declared if not name.endswith("*")}
