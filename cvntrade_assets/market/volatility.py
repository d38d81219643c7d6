"""Average true range: how far a market usually moves within one candle."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numba import njit
from numpy.typing import NDArray

ATR_WINDOW = 14
"""Candles in the average true range that barriers, CUSUM and sizing all use."""


def average_true_range(candles: pd.DataFrame, window: int = ATR_WINDOW) -> pd.Series:
    """Average true range with Wilder's smoothing, number for number as TA-Lib's ATR.

    The true range of a candle is the largest of high - low, |high - previous close| and |low - previous
    close|. The first average is the plain mean of `window` true ranges; each later one is (previous *
    (window - 1) + true range) / window (Wilder 1978, New Concepts in Technical Trading Systems). A value
    uses its own candle and earlier ones only. The previous close is the previous row's, also across a gap,
    so the move over a gap counts as the one move it is.

    Args:
        candles: Candle frame of n rows (only high, low and close are read).
        window: Smoothing window in candles, at least 1.

    Returns:
        float64 Series named `atr`, in price units, on the candles' index; the first `window` rows are NaN
        (a true range needs a previous close), every later one is finite.

    Raises:
        ValueError: The window is below 1, or a price is not finite (it would silently spoil every later
            value).
    """
    if window < 1:
        raise ValueError(f"ATR window is {window}: expected at least 1 candle")
    prices = {name: np.ascontiguousarray(candles[name].to_numpy(dtype=np.float64)) for name in ("high", "low", "close")}
    for name, values in prices.items():
        finite = np.isfinite(values)
        if not finite.all():
            position = int(np.argmin(finite))
            raise ValueError(
                f"candles: {name} is {values[position]} at {candles.index[position]}: "
                "expected a finite price; leave a missing candle out instead of filling it with NaN"
            )
    values = _wilder_atr(prices["high"], prices["low"], prices["close"], window)
    return pd.Series(values, index=candles.index, name="atr")


@njit(cache=True)
def _wilder_atr(
    high: NDArray[np.float64], low: NDArray[np.float64], close: NDArray[np.float64], window: int
) -> NDArray[np.float64]:
    """Wilder's ATR of equal-length price arrays; the first `window` values are NaN."""
    n = len(close)
    atr = np.full(n, np.nan)
    total = 0.0
    average = np.nan
    for i in range(1, n):
        true_range = max(high[i] - low[i], abs(high[i] - close[i - 1]), abs(low[i] - close[i - 1]))
        if i <= window:
            total += true_range
            average = total / window
        else:
            average = (average * (window - 1) + true_range) / window
        if i >= window:
            atr[i] = average
    return atr
