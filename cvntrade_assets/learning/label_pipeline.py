"""What happens to training labels before they are learned from: suspects first, then smoothing of BUY.

Both touch the training slice only. Frames, series, index, column order and types come out as they went in:
twice a step that turned a DataFrame into an array broke the training behind it (incidents 17.1 and 17.2).
"""

from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from cvntrade_assets.hyperparameters import default_values
from cvntrade_assets.learning.boosting import BUY, CLASSES, FixedTrees, Floats
from cvntrade_assets.learning.splits import Fold, purged_folds

Smoothing: TypeAlias = Literal["none", "mild", "aggressive"]
Cleanlab: TypeAlias = Literal["off", "filter", "reweight"]
OnFold: TypeAlias = Callable[[int, int], None]

BUY_SMOOTHING = MappingProxyType({"none": 0.0, "mild": 0.1, "aggressive": 0.3})
"""How much of a BUY label is taken away. Only BUY: a target that was hit by luck is the label that costs
money."""

SUSPECT_WEIGHT = 0.5
"""What `reweight` multiplies a suspect's weight by: a label that is as likely wrong as right is worth half a
row."""

_CLEANLAB = ("off", "filter", "reweight")
JUDGE = FixedTrees.of(default_values("JUDGE"))
"""The small model that judges labels, as declared. Its trees are counted beforehand: stopping early on the judged
fold would let it see them."""


class LabelPipelineError(ValueError):
    """Labels, features, weights or options that the label pipeline cannot work on."""


@dataclass(frozen=True)
class PreparedLabels:
    """Training rows ready to be fitted.

    Attributes:
        features: the rows kept, as they came in.
        labels: same index. Not smoothed: the integer type that came in. Smoothed: float64 in [0, 1] when
            binary, else a frame of class probabilities with the columns -1, 0, 1.
        weights: same index; positive. Not brought back to mean 1: fewer or lighter rows are what was asked
            for.
        suspects: bool, the index that came in: which rows were dropped or reweighted.
    """

    features: pd.DataFrame
    labels: pd.Series | pd.DataFrame
    weights: pd.Series
    suspects: pd.Series


def prepare_labels(
    features: pd.DataFrame,
    labels: pd.Series,
    weights: pd.Series,
    entry_time: pd.Series,
    exit_time: pd.Series,
    *,
    binary: bool,
    smoothing: Smoothing,
    cleanlab: Cleanlab,
    class_cap: float,
    n_folds: int,
    embargo: pd.Timedelta,
    seed: int,
    on_fold: OnFold | None = None,
    judge: FixedTrees = JUDGE,
) -> PreparedLabels:
    """Find suspect labels of the training slice, then smooth BUY.

    Suspects come from cleanlab's confident learning (Northcutt et al. 2021) on the hard labels and on
    probabilities that a small XGBoost model gives to rows outside its purged folds. In each class the
    suspects of lowest self-confidence count, up to `class_cap` of the class: on a market that is hard to
    predict, confident learning would otherwise discard most of the rare class.

    Args:
        features: finite numbers, the training slice.
        labels: hard labels of an integer type, same index: 0, 1 when `binary`, else -1, 0, 1.
        weights: same index; positive.
        entry_time: entry of each row's trade, same index, for purging.
        exit_time: when each row's label is known, same index, for purging.
        binary: two classes or three. Asked for, because a three-class slice may hold no SELL.
        smoothing: mild turns a BUY into 0.9, aggressive into 0.7, other labels stay. With three classes what
            BUY loses goes to HOLD: a target hit by luck is a trade to leave alone, not one to reverse.
        cleanlab: filter drops suspects, reweight multiplies their weight by `SUSPECT_WEIGHT`.
        class_cap: largest share of a class that may be suspect, in [0, 1].
        n_folds: purged folds, at least 2.
        embargo: left out after each held-out block.
        seed: of the judging model.
        on_fold: called after each fold that was judged, with (folds judged, n_folds).
        judge: the judging model.

    Returns:
        The prepared rows. With `none` and `off` the very objects that came in.

    Raises:
        LabelPipelineError: an array in place of a frame, rows that do not match, a missing value, a label
            that is not hard, a class that is alone, an unknown option.
    """
    _check_options(smoothing, cleanlab, class_cap)
    _check_inputs(features, labels, weights, entry_time, exit_time, binary=binary)
    suspects = pd.Series(False, index=labels.index, name="suspect")
    if cleanlab != "off":
        folds = purged_folds(entry_time, exit_time, n_folds, embargo)
        probabilities = out_of_sample_probabilities(
            features, labels, weights, folds=folds, seed=seed, on_fold=on_fold, judge=judge
        )
        suspects[:] = find_suspects(labels, probabilities, class_cap)
    if cleanlab == "filter":
        kept = ~suspects.to_numpy()
        features, labels, weights = features[kept], labels[kept], weights[kept]
    if cleanlab == "reweight":
        weights = weights.mask(suspects, weights * SUSPECT_WEIGHT)
    if smoothing != "none":
        return PreparedLabels(features, smooth_buy(labels, BUY_SMOOTHING[smoothing], binary=binary), weights, suspects)
    return PreparedLabels(features, labels, weights, suspects)


def smooth_buy(labels: pd.Series, epsilon: float, *, binary: bool) -> pd.Series | pd.DataFrame:
    """Take `epsilon` away from every BUY label.

    Args:
        labels: hard labels.
        epsilon: in [0, 1).
        binary: two classes or three.

    Returns:
        Binary: float64 labels, BUY is 1 - epsilon. Three classes: float64 class probabilities, columns -1,
        0, 1; BUY is (0, epsilon, 1 - epsilon). Same index.
    """
    buy = labels.to_numpy() == BUY
    if binary:
        return pd.Series(np.where(buy, 1.0 - epsilon, 0.0), index=labels.index, name=labels.name)
    shares = (labels.to_numpy()[:, np.newaxis] == np.array(CLASSES)).astype(np.float64)
    shares[buy] = [{BUY: 1.0 - epsilon, 0: epsilon}.get(each, 0.0) for each in CLASSES]
    return pd.DataFrame(shares, index=labels.index, columns=pd.Index(CLASSES, name=labels.name))


def out_of_sample_probabilities(
    features: pd.DataFrame,
    labels: pd.Series,
    weights: pd.Series,
    *,
    folds: list[Fold],
    seed: int,
    on_fold: OnFold | None = None,
    judge: FixedTrees = JUDGE,
) -> pd.DataFrame:
    """Class probabilities of each row from a model that was trained without it and its neighbours in time.

    Args:
        features: shape (rows, columns).
        labels: hard labels.
        weights: positive.
        folds: from `purged_folds`; together they hold out every row once.
        seed: of the model.
        on_fold: called after each fold with (folds judged, folds).
        judge: the model.

    Returns:
        float64, one column per class that occurs, in ascending order, the index of `labels`.

    Raises:
        LabelPipelineError: the folds leave rows without a probability, or train without one of the classes.
    """
    classes, numbers = np.unique(labels.to_numpy(), return_inverse=True)
    probabilities = np.full((len(labels), classes.size), np.nan)
    for judged, fold in enumerate(folds, 1):
        if np.unique(numbers[fold.train]).size < classes.size:
            raise LabelPipelineError(
                f"A purged fold trains on {np.unique(numbers[fold.train]).size} of the {classes.size} "
                "classes; expected every class. Use fewer folds, a longer training slice, or cleanlab off."
            )
        train = features.iloc[fold.train], numbers[fold.train], weights.iloc[fold.train]
        probabilities[fold.held_out] = _judge(*train, features.iloc[fold.held_out], trees=judge, seed=seed)
        if on_fold is not None:
            on_fold(judged, len(folds))
    if np.isnan(probabilities).any():
        raise LabelPipelineError(
            f"{int(np.isnan(probabilities).any(axis=1).sum())} rows are held out by no fold; expected each once."
        )
    return pd.DataFrame(probabilities, index=labels.index, columns=classes)


def find_suspects(labels: pd.Series, probabilities: pd.DataFrame, class_cap: float) -> npt.NDArray[np.bool_]:
    """Rows whose label cleanlab doubts, per class at most `class_cap` of it, lowest self-confidence first.

    Args:
        labels: hard labels.
        probabilities: out of sample, one column per class that occurs, same index.
        class_cap: in [0, 1]; the number of a class is rounded down.

    Returns:
        One flag per row.
    """
    from cleanlab.filter import find_label_issues

    numbers = np.searchsorted(probabilities.columns.to_numpy(), labels.to_numpy())
    # Any other n_jobs forks a pool, and beside live gRPC threads the children hang for ever (incident 17.5).
    ranked = find_label_issues(numbers, probabilities.to_numpy(), return_indices_ranked_by="self_confidence", n_jobs=1)
    suspects = np.zeros(len(labels), dtype=bool)
    for number in range(probabilities.shape[1]):
        of_class = ranked[numbers[ranked] == number]
        suspects[of_class[: int(class_cap * np.sum(numbers == number))]] = True
    return suspects


def _judge(
    features: pd.DataFrame,
    numbers: npt.NDArray[np.intp],
    weights: pd.Series,
    judged: pd.DataFrame,
    *,
    trees: FixedTrees,
    seed: int,
) -> Floats:
    """Class probabilities of `judged`, shape (rows, classes); `numbers` are 0 … classes - 1."""
    import xgboost as xgb

    settings = {
        **trees.params,
        "objective": "multi:softprob",
        "num_class": int(numbers.max()) + 1,
        "base_score": 0.5,
        "tree_method": "hist",
        "nthread": 1,
        "seed": seed,
    }
    train = xgb.DMatrix(features, numbers, weight=weights.to_numpy(dtype=np.float64), nthread=1)
    booster = xgb.train(settings, train, trees.rounds)
    return np.asarray(booster.predict(xgb.DMatrix(judged, nthread=1)), dtype=np.float64)


def _check_options(smoothing: str, cleanlab: str, class_cap: float) -> None:
    for name, value, valid in (
        ("smoothing", smoothing, tuple(BUY_SMOOTHING)),
        ("cleanlab", cleanlab, _CLEANLAB),
    ):
        if value not in valid:
            raise LabelPipelineError(f"{name} is {value!r}; expected one of {', '.join(valid)}.")
    if not 0.0 <= class_cap <= 1.0:
        raise LabelPipelineError(f"class_cap is {class_cap}; expected a share from 0 to 1.")


def _check_inputs(
    features: pd.DataFrame,
    labels: pd.Series,
    weights: pd.Series,
    entry_time: pd.Series,
    exit_time: pd.Series,
    *,
    binary: bool,
) -> None:
    columns = {"labels": labels, "weights": weights, "entry_time": entry_time, "exit_time": exit_time}
    for name, value, expected in (
        ("features", features, pd.DataFrame),
        *((name, value, pd.Series) for name, value in columns.items()),
    ):
        if not isinstance(value, expected):
            raise LabelPipelineError(
                f"{name} is a {type(value).__name__}; expected a pandas {expected.__name__} with the index "
                "and names of the training slice, which later steps compare."
            )
    for name, column in columns.items():
        if not column.index.equals(features.index):
            raise LabelPipelineError(
                f"{name} has {len(column)} rows and features {len(features)}, or their indices differ; "
                "expected the same rows in the same order."
            )
        if column.isna().any():
            raise LabelPipelineError(
                f"{name} has {int(column.isna().sum())} missing values, first at "
                f"{column.index[column.isna()][0]}; expected none."
            )
    _check_values(features, labels, weights, binary=binary)


def _check_values(features: pd.DataFrame, labels: pd.Series, weights: pd.Series, *, binary: bool) -> None:
    finite = np.isfinite(features.to_numpy())
    if not finite.all():
        row, column = np.argwhere(~finite)[0]
        raise LabelPipelineError(
            f"features has {int((~finite).sum())} missing or infinite values, first in column "
            f"{features.columns[column]!r} at {features.index[row]}; expected finite numbers."
        )
    classes = (0, BUY) if binary else CLASSES
    if not pd.api.types.is_integer_dtype(labels.dtype) or not labels.isin(classes).all():
        raise LabelPipelineError(
            f"labels are {labels.dtype} with values such as {sorted(labels.unique())[:5]}; expected hard "
            f"labels {classes} of an integer type."
        )
    if labels.nunique() < 2:
        raise LabelPipelineError(f"every label is {labels.iloc[0] if len(labels) else 'absent'}; expected two classes.")
    if not (np.isfinite(weights) & (weights > 0)).all():
        raise LabelPipelineError(f"the smallest weight is {weights.min()}; expected positive, finite weights.")
