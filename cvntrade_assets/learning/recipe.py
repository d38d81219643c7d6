"""One fit from start to end: from the rows of a training set to a frozen model and thresholds.

Every choice of a fit stands in one frozen `Recipe`, so that folds, steps and scripts fit alike. The settings' recipe
is made by `from_settings.recipe`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from cvntrade_assets.learning.answers import answers
from cvntrade_assets.learning.training_set import CusumMode, TrainingSet

if TYPE_CHECKING:
    from cvntrade_assets.learning.boosting import FixedTrees, Loss, Params
    from cvntrade_assets.learning.calibration import Calibration, Method, ThresholdMethod
    from cvntrade_assets.learning.label_pipeline import Cleanlab, PreparedLabels, Smoothing
    from cvntrade_assets.learning.training import TrainedModel
    from cvntrade_assets.learning.tuning import SearchRange, TuningObjective

Say = Callable[[str], None]


@dataclass(frozen=True)
class Recipe:
    """Every choice of a fit but the rows and the trade execution parameters.

    Attributes:
        binary: Two classes, BUY or not; otherwise three.
        cusum_mode: What the CUSUM filter keeps of the train slice.
        cusum_threshold: Its threshold, in multiples of ATR / close.
        uniqueness_weights: Whether train rows weigh by the uniqueness of their label.
        embargo: Left out after every boundary between slices or folds.
        max_features: At most this many features reach the model.
        smoothing: Of BUY labels.
        cleanlab: What happens to suspect labels.
        class_cap: Largest share of a class that may be suspect.
        n_folds: Purged folds of the train slice: for selection, suspects and tuning.
        n_trials: Tuning trials.
        tuning_objective: What tuning maximises.
        search_space: Ranges by hyperparameter name.
        fixed: Hyperparameters that are pinned or never searched.
        params: Hyperparameters to fit with, beside the fixed ones; None searches for them.
        rounds: Most trees.
        early_stopping_rounds: Trees without gain before training ends.
        loss: What every fit minimises.
        workers: Processes that tuning uses.
        calibration: How scores become probabilities.
        threshold_method: What the threshold maximises from which BUY is said.
        trade_threshold_method: What the threshold maximises from which a candle is traded.
        round_trip: Cost of a trade as a fraction of the position, for a threshold of expected value.
        seed: Of everything random.
        screening: The cheap model that ranks the points of a grid.
        selection: The small model that ranks features.
        judge: The small model that doubts labels.
    """

    binary: bool
    cusum_mode: CusumMode
    cusum_threshold: float
    uniqueness_weights: bool
    embargo: pd.Timedelta
    max_features: int
    smoothing: Smoothing
    cleanlab: Cleanlab
    class_cap: float
    n_folds: int
    n_trials: int
    tuning_objective: TuningObjective
    search_space: Mapping[str, SearchRange]
    fixed: Params
    params: Params | None
    rounds: int
    early_stopping_rounds: int
    loss: Loss
    workers: int
    calibration: Method
    threshold_method: ThresholdMethod
    trade_threshold_method: ThresholdMethod
    round_trip: float
    seed: int
    screening: FixedTrees
    selection: FixedTrees
    judge: FixedTrees


@dataclass(frozen=True)
class Fitted:
    """What a fit froze.

    Attributes:
        model: The trees and the features they take.
        calibration: From score to probability, and the thresholds from which BUY is said and from which is traded.
        params: The hyperparameters that the trees were trained with.
        tuned: Whether these were searched for here, and not given.
    """

    model: TrainedModel
    calibration: Calibration
    params: Params
    tuned: bool


def fit(recipe: Recipe, rows: TrainingSet, *, say: Say) -> Fitted:
    """Fit on the train slice, stop on validation, calibrate and take both thresholds on calibration.

    No other slice is looked at; `rows` need not hold a test slice.

    Args:
        recipe: How.
        rows: Train, validation and calibration slice.
        say: Told where the fit is, often: after every fold and trial, and now and then while trees are boosted.

    Raises:
        ValueError: The rows cannot be fitted: a class is missing, folds cannot be cut, too few rows to calibrate on;
            the message of the step that refused says which and what to do.
    """
    from cvntrade_assets.learning.calibration import calibrate
    from cvntrade_assets.learning.selection import select_features
    from cvntrade_assets.learning.training import score_buy, train_model

    train, valid, held = (rows.slice(name) for name in ("train", "validation", "calibration"))
    chosen = select_features(
        train,
        recipe.max_features,
        recipe.seed,
        recipe.n_folds,
        recipe.embargo,
        on_fold=lambda done, folds: say(f"feature selection: fold {done} of {folds} scored"),
        trees=recipe.selection,
    )
    names = list(chosen.names)
    ready = _prepared(recipe, train, names, say)
    params = _searched(recipe, train, ready, say) if recipe.params is None else {**recipe.fixed, **recipe.params}
    model = train_model(
        ready.features,
        ready.labels,
        ready.weights,
        valid.features[names],
        valid.targets["label"],
        params=params,
        rounds=recipe.rounds,
        early_stopping_rounds=recipe.early_stopping_rounds,
        objective=recipe.loss.objective,
        focal_gamma=recipe.loss.focal_gamma,
        seed=recipe.seed,
        on_round=lambda index, _: say(f"training: round {index + 1} of at most {recipe.rounds}"),
    )
    frozen = calibrate(
        score_buy(model, held.features[names]),
        held.targets["label"].replace(-1, 0),
        held.targets["return"],
        method=recipe.calibration,
        threshold_method=recipe.threshold_method,
        trade_threshold_method=recipe.trade_threshold_method,
        cost=recipe.round_trip,
        seed=recipe.seed,
    )
    return Fitted(model, frozen, params, recipe.params is None)


def predict(fitted: Fitted, features: pd.DataFrame) -> pd.DataFrame:
    """What a fit says of candles: see `answers`."""
    return answers(fitted.model, fitted.calibration, features)


def _prepared(recipe: Recipe, train: TrainingSet, names: list[str], say: Say) -> PreparedLabels:
    """The train rows as the model is fitted on them."""
    from cvntrade_assets.learning.label_pipeline import prepare_labels

    return prepare_labels(
        train.features[names],
        train.targets["label"],
        train.targets["weight"],
        train.targets["entry_time"],
        train.targets["exit_time"],
        binary=recipe.binary,
        smoothing=recipe.smoothing,
        cleanlab=recipe.cleanlab,
        class_cap=recipe.class_cap,
        n_folds=recipe.n_folds,
        embargo=recipe.embargo,
        seed=recipe.seed,
        on_fold=lambda done, folds: say(f"cleanlab: fold {done} of {folds} judged"),
        judge=recipe.judge,
    )


def _searched(recipe: Recipe, train: TrainingSet, ready: PreparedLabels, say: Say) -> Params:
    """The best hyperparameters on purged folds of the train slice, the fixed ones among them."""
    from cvntrade_assets.learning.tuning import tune

    kept = train.targets.loc[ready.features.index]
    return tune(
        ready.features,
        ready.labels,
        ready.weights,
        kept["label"],
        kept["entry_time"],
        kept["exit_time"],
        n_trials=recipe.n_trials,
        n_folds=recipe.n_folds,
        objective=recipe.tuning_objective,
        search_space=recipe.search_space,
        fixed_params=recipe.fixed,
        loss=recipe.loss,
        rounds=recipe.rounds,
        early_stopping_rounds=recipe.early_stopping_rounds,
        seed=recipe.seed,
        workers=recipe.workers,
        embargo=recipe.embargo,
        on_trial=lambda done, total, best: say(f"tuning: trial {done} of {total}, best score {best:.4f}"),
        on_fold=lambda done, total, fold, folds: say(f"tuning: {done} of {total} trials, then fold {fold} of {folds}"),
    ).params
