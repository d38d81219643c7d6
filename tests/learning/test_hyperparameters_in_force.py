"""Every hyperparameter reaches the fit that it names, and changes it; what is not set leaves every fit as it was.

XGBoost itself is the witness: what it was given is read from the boosters' own configuration.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xgboost as xgb
from witnessed_fits import MODELS, MOVED, moved, require_moved, witnessed

from cvntrade_assets.hyperparameters import HYPERPARAMETERS, bounds, default_values, hyperparameter_key
from cvntrade_assets.learning.boosting import FixedTrees
from cvntrade_assets.learning.cheap_model import SharedMatrices
from cvntrade_assets.learning.from_settings import fixed_hyperparameters, fixed_trees, recipe, search_space
from cvntrade_assets.learning.label_pipeline import out_of_sample_probabilities
from cvntrade_assets.learning.recipe import fit
from cvntrade_assets.learning.screening import cheap_recipe
from cvntrade_assets.learning.selection import select_features
from cvntrade_assets.learning.splits import purged_folds
from cvntrade_assets.learning.training import train_model
from cvntrade_assets.learning.training_set import TrainingSet
from cvntrade_assets.learning.tuning import tune
from cvntrade_assets.settings import Settings, resolve

NOW = pd.Timestamp("2025-09-15", tz="UTC")
EMBARGO = pd.Timedelta("6h")
PATIENCE = 7
# What was passed to XGBoost before any of it could be set.
_RANKING = {"max_depth": 3, "learning_rate": 0.1, "min_child_weight": 5.0, "subsample": 0.8, "colsample_bytree": 0.5}
BEFORE: Mapping[str, tuple[int, dict[str, Any]]] = {
    "SCREENING": (60, {**_RANKING, "learning_rate": 0.05, "colsample_bytree": 0.3, "max_bin": 64}),
    "SELECTION": (50, {**_RANKING, "max_bin": 64}),
    "JUDGE": (60, {**_RANKING, "reg_lambda": 5.0, "max_bin": 64}),
}
SMALL = {
    "CVN_DEFAULT_N_TRIALS": "1",
    "CVN_TUNING_FOLDS": "2",
    "CVN_TUNING_WORKERS": "1",
    "CVN_MAX_FEATURES": "8",
    "CVN_CLEANLAB": "reweight",
}


def settings(**run: str) -> Settings:
    return resolve(base_env={}, run={**SMALL, **run}, now=NOW)


@cache
def rows(n: int = 520, seed: int = 3) -> TrainingSet:
    """Three slices in time with something to learn, two hours apart."""
    rng = np.random.default_rng(seed)
    times = pd.date_range("2024-01-01", periods=n, freq="2h", tz="UTC", name="open_time")
    features = pd.DataFrame(rng.normal(size=(n, 8)), index=times, columns=list("abcdefgh")).astype(np.float32)
    label = (features["a"] + 0.5 * features["b"] + rng.normal(size=n) > 0.5).astype(np.int8)
    slices = np.where(np.arange(n) < n - 200, "train", np.where(np.arange(n) < n - 120, "validation", "calibration"))
    targets = pd.DataFrame(
        {
            "label": label,
            "return": np.where(label == 1, 0.02, -0.01),
            "exit_kind": pd.Categorical(["tp"] * n),
            "entry_time": times + pd.Timedelta(minutes=30),
            "exit_time": times + pd.Timedelta(minutes=90),
            "ambiguous": False,
            "weight": rng.uniform(0.5, 1.5, n),
            "slice": pd.Categorical(slices),
        },
        index=times,
    )
    return TrainingSet(features, targets)


def test_every_model_is_fitted_with_its_own_and_no_others():
    run = moved("XGBOOST", "SELECTION", "JUDGE") | {
        hyperparameter_key("XGBOOST", "30m", "early_stopping_rounds"): str(PATIENCE)
    }
    with witnessed() as seen:
        fitted = fit(recipe(settings(**run)), rows(), say=lambda _: None)
    selection, judge, search, model = seen[:2], seen[2:4], seen[4:6], seen[6:]
    assert len(model) == 1
    for fits, name in ((selection, "SELECTION"), (judge, "JUDGE"), ([*search, *model], "XGBOOST")):
        for each in fits:
            require_moved(each, name)
    assert [each.patience for each in seen] == [None] * 4 + [PATIENCE] * 3
    assert {name: fitted.params[name] for name in ("max_depth", "gamma", "colsample_bynode")} == {
        name: MOVED[name][0] for name in ("max_depth", "gamma", "colsample_bynode")
    }


def test_the_cheap_model_of_the_folds_is_screenings():
    with witnessed() as seen:
        fit(cheap_recipe(recipe(settings(**moved("SCREENING")))), rows(), say=lambda _: None)
    require_moved(seen[-1], "SCREENING")


def test_another_timeframes_move_nothing():
    other = {key.replace("_30M_", "_5M_"): text for key, text in moved(*MODELS).items()}
    assert recipe(settings(**other)) == recipe(settings())


def test_nothing_set_is_what_was_fitted_before():
    for model, (rounds, before) in BEFORE.items():
        trees = fixed_trees(settings(), model)
        assert trees.rounds == rounds
        assert {name: trees.params[name] for name in before} == before
    assert fixed_hyperparameters(settings()) == {
        "colsample_bylevel": 1.0,
        "colsample_bynode": 1.0,
        "max_delta_step": 0.0,
        "max_bin": 64,
        "num_boost_round": 400,
        "early_stopping_rounds": 15,
    }


@pytest.mark.parametrize("model", BEFORE)
@pytest.mark.parametrize(
    "objective", [{"objective": "binary:logistic"}, {"objective": "multi:softprob", "num_class": 2}]
)
def test_what_is_spelt_out_is_xgboosts_own_default(model: str, objective: dict[str, Any]):
    rounds, before = BEFORE[model]
    training = rows().slice("train")
    matrix = xgb.QuantileDMatrix(training.features, training.targets["label"], max_bin=64, nthread=1)
    always = {**objective, "tree_method": "hist", "nthread": 1, "seed": 5, "base_score": 0.4}
    trees = fixed_trees(settings(), model)
    one, other = (
        bytes(xgb.train({**params, **always}, matrix, rounds).save_raw("ubj")) for params in (before, trees.params)
    )
    assert one == other


# One at a time: it changes what comes out


def ranked(trees: FixedTrees) -> Any:
    return select_features(rows().slice("train"), 4, 1, 2, EMBARGO, trees=trees).scores["score"].tolist()


def judged(trees: FixedTrees) -> Any:
    train = rows().slice("train")
    folds = purged_folds(train.targets["entry_time"], train.targets["exit_time"], 2, EMBARGO)
    label, weight = train.targets["label"], train.targets["weight"]
    found = out_of_sample_probabilities(train.features, label, weight, folds=folds, seed=1, judge=trees)
    return found.to_numpy().tolist()


def screened(trees: FixedTrees) -> Any:
    train, valid = rows().slice("train"), rows().slice("validation")
    matrices = SharedMatrices(train.features, valid.features, trees)
    label, weight = (train.targets[name].to_numpy(np.float64) for name in ("label", "weight"))
    return matrices.scores(label, weight, seed=1).tolist()


def trained(trees: FixedTrees) -> Any:
    train, valid = rows().slice("train"), rows().slice("validation")
    label, weight = train.targets["label"], train.targets["weight"]
    return train_model(
        train.features, label, weight, valid.features, valid.targets["label"], params=trees.params, rounds=trees.rounds,
        early_stopping_rounds=trees.rounds, objective="logistic", seed=1,
    ).ubj  # fmt: skip


FITS: Mapping[str, Callable[[FixedTrees], Any]] = {
    "SCREENING": screened,
    "SELECTION": ranked,
    "JUDGE": judged,
    "XGBOOST": trained,
}


def in_force(model: str, **run: str) -> FixedTrees:
    """What a model is fitted with; what the chain's would search is at its usual value, and it learns for long."""
    if model != "XGBOOST":
        return fixed_trees(settings(**run), model)
    usual = {item.name: item.default_value for item in HYPERPARAMETERS[model] if item.name != "early_stopping_rounds"}
    # Small steps: the best round is the last one, and rounds count.
    values = usual | {"learning_rate": 0.005, "num_boost_round": 20} | settings(**run).pinned(model)
    return FixedTrees.of(values)


@cache
def usual_fit(model: str) -> Any:
    return FITS[model](in_force(model))


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("name", MOVED)
def test_each_alone_changes_the_fit(model: str, name: str):
    text = str(MOVED[name][MODELS.index(model)])
    run = {hyperparameter_key(model, "30m", name): text}
    assert FITS[model](in_force(model, **run)) != usual_fit(model)


# The search


def test_the_declared_search_is_searched():
    space = search_space(settings())
    assert list(space) == [item.name for item in HYPERPARAMETERS["XGBOOST"] if item.searched]
    assert (space["max_depth"].low, space["max_depth"].high, space["max_depth"].integer) == (2, 6, True)
    assert (space["reg_alpha"].low, space["reg_alpha"].high, space["reg_alpha"].log) == (0.001, 10.0, True)
    assert not set(space) & set(fixed_hyperparameters(settings()))


@pytest.mark.parametrize("bound", bounds("XGBOOST"), ids=lambda bound: bound.name)
def test_a_bound_moves_its_end_of_the_search_and_nothing_else(bound: Any):
    item, usual = bound.of, search_space(settings())
    inside = item.search.low + (item.search.high - item.search.low) / 2
    text = str(int(inside) if item.integer else inside)
    found = search_space(settings(**{hyperparameter_key("XGBOOST", "30m", bound.name): text}))
    assert found == usual | {item.name: replace(usual[item.name], **{bound.end: float(text)})}


def test_trials_stay_within_the_bounds():
    run: dict[str, str] = {}
    narrow = {}
    for item in HYPERPARAMETERS["XGBOOST"]:
        if item.search is not None:
            # Beyond the declared range where the hard one allows it.
            low = 7 if item.integer else item.search.low + 0.4 * (item.search.high - item.search.low)
            high = 8 if item.integer else low * 1.01
            narrow[item.name] = (low, high)
            run |= {
                hyperparameter_key("XGBOOST", "30m", f"{item.name}_{end}"): str(value)
                for end, value in (("low", low), ("high", high))
            }
    chosen, train = settings(**run), rows().slice("train")
    found = tune(
        train.features, train.targets["label"], train.targets["weight"], train.targets["label"],
        train.targets["entry_time"], train.targets["exit_time"], n_trials=6, n_folds=2,
        objective="precision_recall_auc", search_space=search_space(chosen), fixed_params={"max_bin": 16}, rounds=5,
        early_stopping_rounds=5, seed=1, workers=1, embargo=EMBARGO,
    ).trials  # fmt: skip
    for name, (low, high) in narrow.items():
        assert found[name].between(low, high).all(), name
    assert set(found["max_depth"]) <= {7, 8}


@pytest.mark.parametrize(
    "item", [item for item in HYPERPARAMETERS["XGBOOST"] if item.searched], ids=lambda item: item.name
)
def test_a_pin_takes_it_out_of_the_search(item: Any):
    key, value = hyperparameter_key("XGBOOST", "30m", item.name), MOVED[item.name][0]
    pinned = settings(**{key: str(value)})
    assert set(search_space(settings())) - set(search_space(pinned)) == {item.name}
    assert fixed_hyperparameters(pinned) == default_values("XGBOOST") | {item.name: value}
