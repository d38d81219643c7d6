"""Choosing the features a model sees, from the train slice alone."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cvntrade_assets.hyperparameters import default_values
from cvntrade_assets.learning.boosting import FixedTrees
from cvntrade_assets.learning.splits import Fold, purged_folds
from cvntrade_assets.learning.training_set import TrainingSet

OnFold: TypeAlias = Callable[[int, int], None]

# Two features whose ranks agree beyond this tell a tree the same thing.
DUPLICATE = 0.98

RANKING = FixedTrees.of(default_values("SELECTION"))
"""The small model whose gain ranks features, as declared."""

_ALWAYS: dict[str, str | int | float] = {"tree_method": "hist", "base_score": 0.5, "nthread": 1, "verbosity": 0}


class UnusableSelectionError(ValueError):
    """Features cannot be selected from these rows."""


@dataclass(frozen=True)
class FeatureSelection:
    """The features kept, and why each of the others was not.

    Attributes:
        names: Kept features, in the order of the feature frame.
        scores: Index: every feature, in that order. Columns: ``score`` (float64, mean share of the total gain
            over the folds; NaN for a feature dropped before it was scored), ``kept`` (bool) and ``reason``.
    """

    names: tuple[str, ...]
    scores: pd.DataFrame


def select_features(
    training: TrainingSet,
    max_features: int,
    seed: int,
    n_folds: int,
    embargo: pd.Timedelta,
    on_fold: OnFold | None = None,
    *,
    trees: FixedTrees = RANKING,
) -> FeatureSelection:
    """Keep at most ``max_features`` features: no constant, no near-duplicate, the most useful to small trees.

    Of two features whose absolute Spearman correlation is above 0.98, the one whose ranks agree less with
    the label goes, before scoring, so that duplicates do not split the gain between them. The rest are scored
    by their share of the total gain of a small XGBoost model, averaged over the training parts of purged
    folds. The same rows and seed give the same answer.

    Args:
        training: Rows of the train slice, and only those.
        max_features: How many to keep at most; at least 1.
        seed: Seed of the trees' row and column sampling.
        n_folds: Number of purged folds.
        embargo: Embargo of the folds.
        on_fold: Called after each fold with (folds scored, n_folds).
        trees: The small model.

    Returns:
        The selection; with ``max_features`` at or above the number of candidates, all of them.

    Raises:
        UnusableSelectionError: If a row is not of the train slice, ``max_features`` is below 1, there is only
            one class, a feature is not finite, or every feature is constant.
        UnusableSplitError: If the rows cannot be cut into the folds.
    """
    _refuse_unusable(training, max_features)
    features = training.features
    ranks = _standard_ranks(features.to_numpy())
    alive = np.flatnonzero(ranks.any(axis=0))
    if not len(alive):
        raise UnusableSelectionError("every feature is constant over the train slice; check the candles behind it")
    reasons = {int(i): "constant" for i in range(features.shape[1]) if i not in set(alive)}
    duplicates = _duplicates(ranks, alive, _standard_ranks(training.targets[["label"]].to_numpy())[:, 0])
    reasons |= {i: f"near-duplicate of {features.columns[of]}" for i, of in duplicates.items()}
    candidates = np.array([i for i in alive if i not in duplicates])
    folds = purged_folds(training.targets["entry_time"], training.targets["exit_time"], n_folds, embargo)
    gains = _mean_gain(training, candidates, folds, trees, seed, on_fold)
    ranked = candidates[np.argsort(-gains, kind="stable")]
    reasons |= {int(i): f"not among the {max_features} best" for i in ranked[max_features:]}
    scores = np.full(features.shape[1], np.nan)
    scores[candidates] = gains
    return _selection(features.columns, scores, reasons)


def _refuse_unusable(training: TrainingSet, max_features: int) -> None:
    slices = sorted(training.targets["slice"].astype(str).unique())
    if slices != ["train"]:
        raise UnusableSelectionError(f"features are selected on the train slice only, but these rows are of {slices}")
    if max_features < 1:
        raise UnusableSelectionError(f"max_features is {max_features}; it must be at least 1")
    if training.targets["label"].nunique() < 2:
        raise UnusableSelectionError("the train slice holds a single class; widen it or change the barriers")
    if not np.isfinite(training.features.to_numpy()).all():
        raise UnusableSelectionError("a feature of the train slice is not finite; the features check names which")


def _standard_ranks(values: NDArray[np.generic]) -> NDArray[np.float32]:
    """Ranks of each column (ties averaged), centred and of length 1; zeros for a constant column."""
    ranks = pd.DataFrame(values).rank().to_numpy()
    ranks -= ranks.mean(axis=0)
    length = np.linalg.norm(ranks, axis=0)
    return (ranks / np.where(length > 0, length, 1.0)).astype(np.float32)


def _duplicates(
    ranks: NDArray[np.float32], alive: NDArray[np.intp], label_ranks: NDArray[np.float32]
) -> dict[int, int]:
    """Map each near-duplicate to the stronger feature that stands for it."""
    strength = np.abs(ranks[:, alive].T @ label_ranks)
    alike = np.abs(ranks[:, alive].T @ ranks[:, alive]) > DUPLICATE
    kept: list[int] = []
    stands_for: dict[int, int] = {}
    for i in np.argsort(-strength, kind="stable"):
        twin = next((j for j in kept if alike[i, j]), None)
        if twin is None:
            kept.append(int(i))
        else:
            stands_for[int(alive[i])] = int(alive[twin])
    return stands_for


def _mean_gain(
    training: TrainingSet,
    candidates: NDArray[np.intp],
    folds: list[Fold],
    trees: FixedTrees,
    seed: int,
    on_fold: OnFold | None,
) -> NDArray[np.float64]:
    """Mean over the folds of each candidate's share of the total gain."""
    values = training.features.to_numpy()[:, candidates]
    classes, target = np.unique(training.targets["label"].to_numpy(), return_inverse=True)
    weight = training.targets["weight"].to_numpy()
    shares = []
    for number, fold in enumerate(folds):
        rows = (values[fold.train], target[fold.train], weight[fold.train])
        shares.append(_gain_shares(*rows, len(classes), trees, seed + number))
        if on_fold is not None:
            on_fold(number + 1, len(folds))
    mean: NDArray[np.float64] = np.mean(shares, axis=0)
    return mean


def _gain_shares(
    values: NDArray[np.float32],
    target: NDArray[np.intp],
    weight: NDArray[np.float64],
    n_classes: int,
    trees: FixedTrees,
    seed: int,
) -> NDArray[np.float64]:
    import xgboost as xgb

    objective: dict[str, str | int] = {"objective": "binary:logistic"}
    if n_classes > 2:
        objective = {"objective": "multi:softprob", "num_class": n_classes}
    matrix = xgb.QuantileDMatrix(values, target, weight=weight, max_bin=trees.params["max_bin"], nthread=1)
    booster = xgb.train({**trees.params, **_ALWAYS, **objective, "seed": seed}, matrix, num_boost_round=trees.rounds)
    gain = booster.get_score(importance_type="total_gain")
    gains = np.array([gain.get(f"f{i}", 0.0) for i in range(values.shape[1])], dtype=np.float64)
    total = gains.sum()
    return gains / total if total > 0 else gains


def _selection(columns: pd.Index, scores: NDArray[np.float64], reasons: dict[int, str]) -> FeatureSelection:
    reason = [reasons.get(i, "kept") for i in range(len(columns))]
    kept = np.array([i not in reasons for i in range(len(columns))])
    table = pd.DataFrame({"score": scores, "kept": kept, "reason": reason}, index=columns.rename("feature"))
    return FeatureSelection(tuple(columns[kept]), table)
