"""The CUSUM filter: which candles mark a move large enough to be worth learning from."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from numba import njit
from numpy.typing import NDArray


def cusum_events(candles: pd.DataFrame, atr: pd.Series, threshold_h: float) -> pd.DatetimeIndex:
    """Candles at which the summed log return in one direction exceeds `threshold_h` times the usual move.

    The symmetric CUSUM filter (López de Prado 2018, Advances in Financial Machine Learning, snippet 2.4)
    with a threshold that moves: h × ATR / close of the same candle. The upward sum never falls below 0 and
    the downward sum never rises above it; they are kept separately, and only the side that triggers starts
    again from 0 (both, should a falling threshold let both trigger at once, which is still one event). The
    return over a gap counts as the one return it is. Nothing is summed before the first known ATR. An event
    at candle t depends on candles up to t only.

    Args:
        candles: Candle frame of n rows (only close is read).
        atr: Average true range on the candles' index, price units; NaN in its first rows only (warm-up). A
            market that has not moved at all has an ATR of 0 and returns of 0, hence no event.
        threshold_h: Threshold in multiples of ATR / close, positive and finite.

    Returns:
        Open times of the event candles, increasing: a subset of the candles' index.

    Raises:
        ValueError: The threshold is not positive and finite, `atr` has another index, holds a negative or
            infinite value or a NaN after its first number, or a close is not positive and finite.
    """
    if not (math.isfinite(threshold_h) and threshold_h > 0):
        raise ValueError(f"CUSUM threshold is {threshold_h}: expected a positive, finite multiple of ATR / close")
    if not candles.index.equals(atr.index):
        raise ValueError(
            f"atr covers {len(atr)} rows and the candles {len(candles)}, with different indices: "
            "expected the ATR of exactly these candles"
        )
    close = np.ascontiguousarray(candles["close"].to_numpy(dtype=np.float64))
    usual = np.ascontiguousarray(atr.to_numpy(dtype=np.float64))
    known = ~np.isnan(usual)
    start = int(np.argmax(known)) if known.any() else len(usual)
    _refuse_unless((close > 0) & np.isfinite(close), "close", candles["close"], "a positive, finite price")
    usable = (usual >= 0) & np.isfinite(usual)
    usable[:start] = True
    _refuse_unless(usable, "atr", atr, "a finite value, 0 or more, after the warm-up")
    positions = _cusum_positions(np.log(close), threshold_h * usual / close, start)
    return pd.DatetimeIndex(candles.index[positions])


def _refuse_unless(good: NDArray[np.bool_], name: str, values: pd.Series, expected: str) -> None:
    if not good.all():
        bad = int(np.argmin(good))
        raise ValueError(f"{name} is {values.iloc[bad]} at {values.index[bad]}: expected {expected}")


@njit(cache=True)
def _cusum_positions(log_close: NDArray[np.float64], threshold: NDArray[np.float64], start: int) -> NDArray[np.int64]:
    """Positions from `start` on at which either sum exceeds its threshold."""
    n = len(log_close)
    positions = np.empty(n, np.int64)
    found = 0
    up, down = 0.0, 0.0
    for i in range(max(start, 1), n):
        move = log_close[i] - log_close[i - 1]
        up, down = max(0.0, up + move), min(0.0, down + move)
        rose, fell = up > threshold[i], down < -threshold[i]
        if rose:
            up = 0.0
        if fell:
            down = 0.0
        if rose or fell:
            positions[found] = i
            found += 1
    return positions[:found].copy()
