"""What Sharpe, Sortino and drawdown need of an equity curve, in one pass over it."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray


@njit(cache=True)
def path_sums(equity: NDArray[np.float64]) -> tuple[float, float, float, float]:
    """Sums over the simple returns from one element to the next, the first of them from 1, and the deepest fall.

    Args:
        equity: float64, positive, in multiples of what it began with.

    Returns:
        (sum of returns, sum of their squares, sum of the squares of the negative ones, lowest ratio of the equity to
        its highest value so far, which begins at 1).
    """
    total, squares, downside = 0.0, 0.0, 0.0
    before, peak, trough, lowest = 1.0, 1.0, 1.0, 1.0
    for value in equity:
        if value == before:  # flat, as most strategies are most of the time: nothing to divide
            continue
        change = value / before - 1.0
        total += change
        squares += change * change
        fall = min(change, 0.0)
        downside += fall * fall
        if value > peak:  # what the last peak's trough was is known, and only then worth a division
            lowest = min(lowest, trough / peak)
            peak, trough = value, value
        trough = min(trough, value)
        before = value
    return total, squares, downside, min(lowest, trough / peak)
