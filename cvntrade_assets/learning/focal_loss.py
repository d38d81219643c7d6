"""Binary focal loss for hard and soft labels (Lin et al. 2017, "Focal Loss for Dense Object Detection").

With margin m, p = 1 / (1 + exp(-m)), q = 1 - p, focus g >= 0 and a label y in [0, 1]:

    L = -[ y q^g log(p) + (1 - y) p^g log(q) ]

g = 0 is the logistic loss. The alpha of the paper is left out: row weights already play that part.
"""

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import xgboost as xgb

Floats: TypeAlias = npt.NDArray[np.float64]
FocalObjective: TypeAlias = Callable[[npt.NDArray[Any], "xgb.DMatrix"], tuple[Floats, Floats]]
FocalMetric: TypeAlias = Callable[[npt.NDArray[Any], "xgb.DMatrix"], tuple[str, float]]

PROBABILITY_FLOOR = 1e-15
"""p and q are kept at or above this, so that log() stays finite: it binds beyond margins of ±34.5."""

HESSIAN_FLOOR = 1e-6
"""Smallest hessian per unit of weight.

For g > 0 the loss is not convex in the margin: a badly misclassified row has a negative second derivative.
XGBoost's leaf weight is -G / (H + lambda), a Newton step that a negative H would turn uphill. Floored, such a
row still pushes through its gradient and adds next to nothing to `min_child_weight`, so a leaf made of such
rows alone is not formed.
"""

MAX_GAMMA = 10.0
"""Largest focus accepted; the paper finds nothing useful above 5."""


def focal_loss(margin: npt.ArrayLike, label: npt.ArrayLike, gamma: float) -> Floats:
    """The loss of each row.

    Args:
        margin: raw scores (log-odds), any shape.
        label: labels in [0, 1], broadcast against `margin`.
        gamma: the focus, 0 to `MAX_GAMMA`.

    Returns:
        Non-negative losses, float64, the broadcast shape.

    Raises:
        ValueError: `gamma` is outside its range.
    """
    return _evaluate(0, margin, label, gamma)


def focal_gradient(margin: npt.ArrayLike, label: npt.ArrayLike, gamma: float) -> Floats:
    """First derivative of `focal_loss` by the margin; same arguments, shape and errors."""
    return _evaluate(1, margin, label, gamma)


def focal_hessian(margin: npt.ArrayLike, label: npt.ArrayLike, gamma: float) -> Floats:
    """Second derivative of `focal_loss` by the margin, not floored; same arguments, shape and errors."""
    return _evaluate(2, margin, label, gamma)


def focal_objective(gamma: float) -> FocalObjective:
    """A custom objective for `xgb.train(obj=...)`.

    Args:
        gamma: the focus, 0 to `MAX_GAMMA`.

    Returns:
        A function of (margins of shape (rows,), matrix) that returns gradients and hessians of shape (rows,),
        both multiplied by the matrix's weights when it has any; a hessian is at least `HESSIAN_FLOOR` times
        the weight.

    Raises:
        ValueError: `gamma` is outside its range.
    """
    _check_gamma(gamma)

    def objective(margin: npt.NDArray[Any], matrix: "xgb.DMatrix") -> tuple[Floats, Floats]:
        label, weight = matrix.get_label(), _weights(matrix)
        hessian = np.maximum(focal_hessian(margin, label, gamma), HESSIAN_FLOOR)
        return focal_gradient(margin, label, gamma) * weight, hessian * weight

    return objective


def focal_metric(gamma: float) -> FocalMetric:
    """A custom metric for `xgb.train(custom_metric=...)`: the weighted mean focal loss, named `focal`.

    Args:
        gamma: the focus, 0 to `MAX_GAMMA`.

    Returns:
        A function of (margins, matrix): with a custom objective XGBoost hands it margins, not probabilities.

    Raises:
        ValueError: `gamma` is outside its range.
    """
    _check_gamma(gamma)

    def metric(margin: npt.NDArray[Any], matrix: "xgb.DMatrix") -> tuple[str, float]:
        losses = focal_loss(margin, matrix.get_label(), gamma)
        return "focal", float(np.average(losses, weights=_weights(matrix)))

    return metric


def _evaluate(order: int, margin: npt.ArrayLike, label: npt.ArrayLike, gamma: float) -> Floats:
    _check_gamma(gamma)
    m = np.asarray(margin, dtype=np.float64)
    y = np.asarray(label, dtype=np.float64)
    p, q = _sigmoid(m), _sigmoid(-m)
    return np.asarray(_derivatives()[order](p, q, y, 1.0 - y, float(gamma)), dtype=np.float64)


@cache
def _derivatives() -> tuple[Callable[..., Any], Callable[..., Any], Callable[..., Any]]:
    """The loss and its first two derivatives, as numpy functions of (p, q, y, n, g).

    p and q = 1 - p stay two symbols all the way, as do y and n = 1 - y: with dp/dm = pq and dq/dm = -pq,
    d/dm is pq (d/dp - d/dq), and no 1 - p is ever computed, which would lose every digit at large margins.
    Derived once per process, on first use: sympy takes seconds to load, and most models never need it.
    """
    import sympy

    symbols = sympy.symbols("p q y n g", positive=True)
    p, q, y, n, g = symbols
    loss = -(y * q**g * sympy.log(p) + n * p**g * sympy.log(q))

    def by_margin(expression: "sympy.Expr") -> "sympy.Expr":
        slope = sympy.diff(expression, p) - sympy.diff(expression, q)
        # Expanding cancels the 1/p and 1/q, which overflow where the product they sit in is tiny.
        return sympy.expand(p * q * slope)

    gradient = by_margin(loss)
    expressions = (loss, gradient, by_margin(gradient))
    first, second, third = (sympy.lambdify(symbols, e, modules="numpy", cse=True) for e in expressions)
    return first, second, third


def _sigmoid(margin: Floats) -> Floats:
    # exp(-|m|) never overflows; the two branches are the same function.
    decay = np.exp(-np.abs(margin))
    probability = np.where(margin >= 0, 1.0, decay) / (1.0 + decay)
    return np.maximum(probability, PROBABILITY_FLOOR)


def _weights(matrix: "xgb.DMatrix") -> Floats:
    weight = matrix.get_weight()
    return np.asarray(weight if weight.size else np.ones(matrix.num_row()), dtype=np.float64)


def _check_gamma(gamma: float) -> None:
    if not 0.0 <= gamma <= MAX_GAMMA:
        raise ValueError(f"focal gamma is {gamma!r}; expected a number from 0 (logistic loss) to {MAX_GAMMA}.")
