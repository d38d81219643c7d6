"""Training of the model from pandas frames, and its scoring, with the frames checked against each other.

Incident 17.2: one matrix had lost its feature names on the way, and XGBoost failed deep inside. Here both
matrices are compared before training and every frame before scoring, and the first difference is named.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from cvntrade_assets.learning.boosting import (
    CLASSES,
    Loss,
    Objective,
    OnRound,
    Params,
    boost,
    predict_buy,
)

if TYPE_CHECKING:
    import xgboost as xgb

Labels: TypeAlias = pd.Series


class ModelContractError(ValueError):
    """Frames, labels or matrices that do not fit each other or the model."""


@dataclass(frozen=True)
class TrainedModel:
    """A model that can be stored and scored.

    Attributes:
        ubj: The booster as UBJSON, already cut after its best round.
        feature_names: The columns it was trained on, in order.
        objective: The loss it was trained with.
        best_iteration: Index of the best round: it has `best_iteration + 1` rounds of trees.
        params: Every parameter XGBoost was given, `focal_gamma` included when the loss is focal.
    """

    ubj: bytes
    feature_names: tuple[str, ...]
    objective: Objective
    best_iteration: int
    params: Params


def train_model(
    train_X: pd.DataFrame,  # noqa: N803
    train_y: Labels | pd.DataFrame,
    train_weight: Labels,
    valid_X: pd.DataFrame,  # noqa: N803
    valid_y: Labels,
    *,
    params: Params,
    rounds: int,
    early_stopping_rounds: int,
    objective: Objective,
    focal_gamma: float = 0.0,
    seed: int,
    on_round: OnRound | None = None,
) -> TrainedModel:
    """Train on one slice, stop on the next; same arguments, same bytes, in any process.

    Args:
        train_X: features, one row per candle, finite numbers.
        train_y: same index. logistic, focal: 1 BUY, 0 not, or anything between when smoothed. softprob: -1,
            0, 1, or a frame of class probabilities with the columns -1, 0, 1 whose rows sum to 1.
        train_weight: same index; positive.
        valid_X: features of the validation slice; the same columns in the same order.
        valid_y: its hard labels.
        params: hyperparameters, names out of `boosting.HYPERPARAMETERS`; `max_bin` is 64 unless given.
        rounds: most trees.
        early_stopping_rounds: rounds without a better validation loss (see `boosting.boost`) before it ends.
        objective: the loss.
        focal_gamma: focus of the focal loss; other losses leave it out.
        seed: of row and column sampling.
        on_round: called after each round with its index and validation loss.

    Returns:
        The model, cut after its best round.

    Raises:
        ModelContractError: frames, labels or weights that do not fit; says which, where and what was
            expected.
        BoostingError: an unknown hyperparameter, or labels that are all the same.
    """
    import xgboost as xgb

    target, shares = encode_targets(train_y, objective)
    check_rows("train", train_X, train_y, train_weight)
    check_rows("valid", valid_X, valid_y, None)
    check_hard(valid_y, objective)
    dtrain = xgb.DMatrix(train_X, target, weight=train_weight.to_numpy(dtype=np.float64), nthread=1)
    dvalid = xgb.DMatrix(valid_X, encode_targets(valid_y, objective)[0], nthread=1)
    assert_matrix_contract(dtrain, dvalid)
    fit = boost(
        dtrain,
        dvalid,
        loss=Loss(objective, focal_gamma),
        params=params,
        rounds=rounds,
        early_stopping_rounds=early_stopping_rounds,
        seed=seed,
        class_shares=shares,
        on_round=on_round,
    )
    used = fit.params | ({"focal_gamma": focal_gamma} if objective == "focal" else {})
    names = tuple(str(name) for name in train_X.columns)
    return TrainedModel(bytes(fit.booster.save_raw("ubj")), names, objective, fit.best_iteration, used)


def score_buy(model: TrainedModel, features: pd.DataFrame) -> pd.Series:
    """Probability of BUY, as the model sees it (not calibrated).

    Args:
        model: what `train_model` returned, or the same read back from a store.
        features: finite numbers; exactly the model's columns, in its order.

    Returns:
        float64 in [0, 1], the index of `features`, named `buy_score`.

    Raises:
        ModelContractError: other columns, another order, or a value that is not finite.
    """
    import xgboost as xgb

    difference = first_difference(model.feature_names, list(features.columns))
    if difference is not None:
        raise ModelContractError(
            f"The features to score differ from the model's: {difference}. Give the columns the model was "
            "trained on, in their order."
        )
    _check_finite("features", features)
    if features.empty:
        return pd.Series(index=features.index, dtype=np.float64, name="buy_score")
    booster = xgb.Booster({"nthread": 1})
    booster.load_model(bytearray(model.ubj))
    scores = predict_buy(booster, xgb.DMatrix(features, nthread=1), model.objective)
    return pd.Series(scores, index=features.index, name="buy_score")


def assert_matrix_contract(dtrain: "xgb.DMatrix", dvalid: "xgb.DMatrix") -> None:
    """Both matrices have named columns, the same ones, in the same order, of the same types.

    Raises:
        ModelContractError: names the first difference.
    """
    names = (dtrain.feature_names, dvalid.feature_names)
    for role, present in zip(("training", "validation"), names, strict=True):
        if not present:
            raise ModelContractError(
                f"The {role} matrix has no feature names. Build both matrices from DataFrames; an ndarray on "
                "the way loses the names."
            )
    for what, train, valid in (
        ("number of columns", [dtrain.num_col()], [dvalid.num_col()]),
        ("feature names", *names),
        ("feature types", dtrain.feature_types, dvalid.feature_types),
    ):
        difference = first_difference(train or [], valid or [])
        if difference is not None:
            raise ModelContractError(f"The {what} of training and validation differ: {difference}.")


def first_difference(expected: Sequence[Any], given: Sequence[Any]) -> str | None:
    """Where two sequences first differ, in words; None when they are equal."""
    for position, (want, have) in enumerate(zip(expected, given, strict=False)):
        if want != have:
            return f"position {position} is {have!r}, expected {want!r}"
    if len(given) < len(expected):
        return f"position {len(given)} is missing, expected {expected[len(given)]!r}"
    if len(given) > len(expected):
        return f"position {len(expected)} is {given[len(expected)]!r}, expected nothing more"
    return None


def encode_targets(
    labels: Labels | pd.DataFrame, objective: Objective
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float64] | None]:
    """Labels as XGBoost takes them.

    Args:
        labels: as `train_y` of `train_model`.
        objective: the loss they are for.

    Returns:
        A float32 array of shape (rows,): the labels, or class numbers 0, 1, 2 for softprob; and the class
        probabilities, shape (rows, 3), when `labels` is a frame of them (the first array then holds the
        likeliest).

    Raises:
        ModelContractError: the type, the columns or a value is not what the objective takes.
    """
    if isinstance(labels, pd.DataFrame):
        shares = _check_shares(labels, objective)
        return shares.argmax(axis=1).astype(np.float32), shares
    if not isinstance(labels, pd.Series):
        raise ModelContractError(f"Labels are a {type(labels).__name__}; expected a pandas Series.")
    values = labels.to_numpy()
    if objective == "softprob":
        check_hard(labels, objective)
        return np.searchsorted(CLASSES, values).astype(np.float32), None
    outside = ~((values >= 0) & (values <= 1))
    if outside.any():
        raise ModelContractError(
            f"{int(outside.sum())} labels lie outside [0, 1], first {values[outside][0]:g} at "
            f"{labels.index[outside][0]}; objective {objective!r} takes 1 for BUY, 0 for not, or between "
            "when smoothed."
        )
    return values.astype(np.float32), None


def _check_shares(labels: pd.DataFrame, objective: Objective) -> npt.NDArray[np.float64]:
    if objective != "softprob":
        raise ModelContractError(f"Class probabilities were given to objective {objective!r}; it takes a Series.")
    difference = first_difference(CLASSES, list(labels.columns))
    if difference is not None:
        raise ModelContractError(f"The columns of the class probabilities are wrong: {difference}.")
    shares = labels.to_numpy(dtype=np.float64)
    bad = ~((shares >= 0).all(axis=1) & (np.abs(shares.sum(axis=1) - 1.0) < 1e-6))
    if bad.any():
        raise ModelContractError(
            f"{int(bad.sum())} rows of class probabilities are negative or do not sum to 1, first at "
            f"{labels.index[bad][0]}: {shares[bad][0].tolist()}."
        )
    return shares


def check_hard(labels: Labels, objective: Objective) -> None:
    """Labels are classes, not smoothed.

    Raises:
        ModelContractError: names the first label that is not one of the objective's classes.
    """
    allowed = CLASSES if objective == "softprob" else (0, 1)
    outside = ~np.isin(labels.to_numpy(), allowed)
    if outside.any():
        raise ModelContractError(
            f"{int(outside.sum())} labels are not hard, first {labels.to_numpy()[outside][0]:g} at "
            f"{labels.index[outside][0]}; expected {allowed}. Only training labels may be smoothed, for "
            "softprob as a frame of class probabilities."
        )


def check_rows(role: str, features: pd.DataFrame, labels: Labels | pd.DataFrame, weights: Labels | None) -> None:
    """Features are a finite frame, and labels and weights have exactly its index.

    Raises:
        ModelContractError: says which argument, `{role}_X` and so on, does not fit and where.
    """
    if not isinstance(features, pd.DataFrame):
        raise ModelContractError(f"{role}_X is a {type(features).__name__}; expected a DataFrame with named columns.")
    for name, other in ((f"{role}_y", labels), (f"{role}_weight", weights)):
        if other is not None and not features.index.equals(other.index):
            raise ModelContractError(
                f"{name} has {len(other)} rows and {role}_X {len(features)}, or their indices differ; "
                "expected one label and one weight per row, in the same order."
            )
    if weights is not None and not (np.isfinite(weights.to_numpy()) & (weights.to_numpy() > 0)).all():
        raise ModelContractError(f"{role}_weight has values that are not positive and finite; expected only such.")
    _check_finite(f"{role}_X", features)


def _check_finite(name: str, features: pd.DataFrame) -> None:
    """XGBoost sends missing values down a branch that training, which sees none, never chose: refuse them."""
    finite = np.isfinite(features.to_numpy())
    if not finite.all():
        row, column = np.argwhere(~finite)[0]
        raise ModelContractError(
            f"{name} has {int((~finite).sum())} values that are not finite, first in column "
            f"{features.columns[column]!r} at {features.index[row]}; drop warm-up rows and rows after a gap."
        )
