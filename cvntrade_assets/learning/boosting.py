"""One XGBoost fit on matrices that are ready: its parameters, its loss, its early stopping.

The training of the model and the fits of tuning and of the label checks all go through `boost`, so that what
is tuned is what is trained.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from cvntrade_assets.learning.focal_loss import focal_metric, focal_objective

if TYPE_CHECKING:
    import xgboost as xgb

Objective: TypeAlias = Literal["logistic", "focal", "softprob"]
Params: TypeAlias = Mapping[str, float | int | str]
Floats: TypeAlias = npt.NDArray[np.float64]
OnRound: TypeAlias = Callable[[int, float], None]

BUY = 1
CLASSES = (-1, 0, 1)
"""The three classes SELL, HOLD, BUY, in the order in which softprob numbers them 0, 1, 2."""

DEFAULT_MAX_BIN = 64
"""Histogram bins per feature: a quarter of XGBoost's default, several times faster on 270 features, no worse
here."""

TUNABLE = frozenset(
    (
        "max_depth",
        "learning_rate",
        "min_child_weight",
        "subsample",
        "colsample_bytree",
        "colsample_bylevel",
        "colsample_bynode",
        "reg_lambda",
        "reg_alpha",
        "gamma",
        "max_delta_step",
        "max_leaves",
        "grow_policy",
    )
)
"""Hyperparameters a search may move. XGBoost only warns about a name it does not know; here it is refused."""

HYPERPARAMETERS = TUNABLE | {"max_bin"}
"""Every parameter a caller may set; `max_bin` shapes the matrices and is fixed for a whole search."""

_HESSIAN_FLOOR = 1e-16
"""As in XGBoost's own softmax objective, which the soft one below must equal on hard labels."""


class BoostingError(ValueError):
    """A parameter or a target that cannot be trained with."""


@dataclass(frozen=True)
class Loss:
    """What a fit minimises; `focal_gamma` counts for the focal loss only."""

    objective: Objective
    focal_gamma: float = 0.0


@dataclass(frozen=True)
class FixedTrees:
    """A model that nobody searches: its hyperparameters and how many trees it grows, all of them.

    Attributes:
        params: names out of `HYPERPARAMETERS`.
        rounds: trees.
    """

    params: Mapping[str, float | int]
    rounds: int

    @classmethod
    def of(cls, values: Mapping[str, float | int]) -> "FixedTrees":
        """From a model's values in the table, among which `num_boost_round` is no parameter of a tree."""
        params = {name: value for name, value in values.items() if name != "num_boost_round"}
        return cls(params, int(values["num_boost_round"]))


@dataclass(frozen=True)
class Boosted:
    """A booster cut after its best round, that round's index, and every parameter it was trained with."""

    booster: "xgb.Booster"
    best_iteration: int
    params: dict[str, float | int | str]


def boost(
    train: "xgb.DMatrix",
    valid: "xgb.DMatrix",
    *,
    loss: Loss,
    params: Params,
    rounds: int,
    early_stopping_rounds: int,
    seed: int,
    class_shares: npt.NDArray[Any] | None = None,
    on_round: OnRound | None = None,
) -> Boosted:
    """Fit on `train`, stop on `valid`, keep the trees up to the best round.

    Early stopping watches the held-out value of the very loss that is minimised (log loss, focal loss,
    multi-class log loss). Its minimum is where overfitting begins. The area under the precision-recall curve
    moves by jumps on the few BUY rows of a validation slice and its maximum over hundreds of rounds is
    mostly luck; the log loss of a focal model would go on falling only because focal scores are
    under-confident, which calibration repairs later.

    Args:
        train: labels in [0, 1] (logistic, focal) or class numbers 0, 1, 2 (softprob); weights used.
        valid: same columns; hard labels.
        loss: what to minimise.
        params: names out of `HYPERPARAMETERS`; everything else is decided here.
        rounds: most trees, at least 1.
        early_stopping_rounds: rounds without improvement after which training ends, at least 1.
        seed: of row and column sampling.
        class_shares: softprob only, shape (rows of train, 3): class probabilities that replace train's
            labels.
        on_round: called after each round with its index and the watched value.

    Returns:
        The booster; with one thread, a fixed starting score and a seed its bytes are a function of the
        arguments.

    Raises:
        BoostingError: an unknown parameter name, rounds below 1, or targets that cannot be trained with.
    """
    import xgboost as xgb

    if rounds < 1 or early_stopping_rounds < 1:
        raise BoostingError(f"{rounds} rounds with a patience of {early_stopping_rounds}; expected at least 1 each.")
    settings = booster_params(loss, params, seed=seed, base_score=_base_score(loss, train))
    booster = xgb.train(
        settings,
        train,
        num_boost_round=rounds,
        evals=[(valid, "valid")],
        obj=_custom_objective(loss, train, class_shares),
        custom_metric=focal_metric(loss.focal_gamma) if loss.objective == "focal" else None,
        early_stopping_rounds=early_stopping_rounds,
        callbacks=[] if on_round is None else [_progress(on_round)],
        verbose_eval=False,
    )
    best = int(booster.best_iteration)
    return Boosted(booster[: best + 1], best, settings)


def booster_params(loss: Loss, params: Params, *, seed: int, base_score: float) -> dict[str, float | int | str]:
    """XGBoost's parameters for a loss.

    The focal loss keeps `binary:logistic` as its built-in objective: gradients come from ours, while the
    booster itself turns margins into probabilities, so a stored focal model is scored like any other.

    Raises:
        BoostingError: a name outside `HYPERPARAMETERS`.
    """
    check_names(params, HYPERPARAMETERS)
    settings: dict[str, float | int | str] = {"max_bin": DEFAULT_MAX_BIN, **params}
    settings |= {"tree_method": "hist", "nthread": 1, "seed": seed, "base_score": base_score}
    if loss.objective == "softprob":
        return settings | {
            "objective": "multi:softprob",
            "num_class": len(CLASSES),
            "eval_metric": "mlogloss",
        }
    settings["objective"] = "binary:logistic"
    watched = {"disable_default_eval_metric": 1} if loss.objective == "focal" else {"eval_metric": "logloss"}
    return {**settings, **watched}


def check_names(params: Mapping[str, Any], allowed: frozenset[str]) -> None:
    """Refuse parameter names outside `allowed`.

    Raises:
        BoostingError: names the first unknown one and the valid ones.
    """
    unknown = sorted(set(params) - allowed)
    if unknown:
        raise BoostingError(
            f"{unknown[0]!r} is not a hyperparameter that can be set here; expected names out of "
            f"{', '.join(sorted(allowed))}. The objective, seed, threads and metric are arguments of their "
            "own."
        )


def predict_buy(booster: "xgb.Booster", matrix: "xgb.DMatrix", loss_objective: Objective) -> Floats:
    """Probability of BUY for each row of `matrix`, float64, shape (rows,)."""
    scores = np.asarray(booster.predict(matrix), dtype=np.float64)
    return scores[:, CLASSES.index(BUY)] if loss_objective == "softprob" else scores


def soft_softmax_objective(
    class_shares: npt.NDArray[Any],
) -> Callable[[npt.NDArray[Any], "xgb.DMatrix"], tuple[Floats, Floats]]:
    """Softmax cross entropy against class probabilities, as a custom objective.

    Gradient w (p - shares), hessian w 2 p (1 - p): XGBoost's own softmax objective with the label's one-hot
    row replaced. Repeating each row once per class with its share as weight gives the same trees, but only
    while no row is sampled (`subsample`), and at twice the cost.

    Args:
        class_shares: shape (rows, 3), rows sum to 1.
    """

    def objective(margin: npt.NDArray[Any], matrix: "xgb.DMatrix") -> tuple[Floats, Floats]:
        exponent = np.exp(margin - margin.max(axis=1, keepdims=True), dtype=np.float64)
        p = exponent / exponent.sum(axis=1, keepdims=True)
        weight = matrix.get_weight()
        scale = weight[:, np.newaxis] if weight.size else 1.0
        return (p - class_shares) * scale, np.maximum(2.0 * p * (1.0 - p) * scale, _HESSIAN_FLOOR)

    return objective


def _custom_objective(
    loss: Loss, train: "xgb.DMatrix", class_shares: npt.NDArray[Any] | None
) -> Callable[[npt.NDArray[Any], "xgb.DMatrix"], tuple[Floats, Floats]] | None:
    if class_shares is None:
        return focal_objective(loss.focal_gamma) if loss.objective == "focal" else None
    if loss.objective != "softprob" or class_shares.shape != (train.num_row(), len(CLASSES)):
        raise BoostingError(
            f"Class probabilities of shape {class_shares.shape} for objective {loss.objective!r} on "
            f"{train.num_row()} rows; expected objective 'softprob' and shape ({train.num_row()}, "
            f"{len(CLASSES)})."
        )
    return soft_softmax_objective(class_shares)


def _base_score(loss: Loss, train: "xgb.DMatrix") -> float:
    # XGBoost would estimate this itself; written down, it cannot change with its version. A softmax ignores
    # a constant.
    if loss.objective == "softprob":
        return 0.5
    weight = train.get_weight()
    share = float(np.average(train.get_label().astype(np.float64), weights=weight if weight.size else None))
    if not 0.0 < share < 1.0:
        raise BoostingError(
            f"Every training label is {share:g}; expected both BUY and not-BUY rows. Widen the training "
            "slice or choose other barriers."
        )
    return share


def _progress(on_round: OnRound) -> "xgb.callback.TrainingCallback":
    import xgboost as xgb

    class Progress(xgb.callback.TrainingCallback):
        def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:  # noqa: ARG002
            (values,) = evals_log["valid"].values()
            on_round(epoch, float(values[-1]))
            return False

    return Progress()
