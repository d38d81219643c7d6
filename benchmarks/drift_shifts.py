"""What a market, or the feed that reports it, may do to candles: shifts laid over real ones, from a moment on."""

from collections.abc import Callable, Mapping
from typing import TypeAlias

import numpy as np
import pandas as pd

PRICES = ["open", "high", "low", "close"]
PER_DAY = 48

Shift: TypeAlias = Callable[[pd.DataFrame, int], pd.DataFrame]
"""Takes candles of 30 minutes and the row from which they change; returns them changed."""


def volatility(factor: float) -> Shift:
    """Every move is so many times as large, within candles and from one to the next."""
    return lambda candles, row: _moved(candles, row, lambda moves: moves * factor)


def trend(per_day: float) -> Shift:
    """Every candle moves a little the same way, so that a day comes to this share."""
    return lambda candles, row: _moved(candles, row, lambda moves: moves + np.log1p(per_day) / PER_DAY)


def crash(depth: float) -> Shift:
    """A fall within an hour and a half, half of it regained in six hours, and moves that calm down over three days.

    As on 10 October 2025, when large coins lost a tenth to a sixth of their price within the hour and small ones half.
    """

    def changed(moves: pd.Series) -> pd.Series:
        rows = np.arange(len(moves))
        nervous = moves * (1.0 + 3.0 * np.exp(-rows / PER_DAY))
        fall = np.where(rows < 3, np.log1p(-depth) / 3, 0.0)
        rebound = np.where((rows >= 3) & (rows < 15), -np.log1p(-depth) / 2 / 12, 0.0)
        return nervous + fall + rebound

    def apply(candles: pd.DataFrame, row: int) -> pd.DataFrame:
        result = _moved(candles, row, changed)
        # Who sells at any price is met by a multiple of the usual volume.
        busy = 1.0 + 9.0 * np.exp(-np.arange(len(result) - row) / (PER_DAY / 2))
        result.iloc[row:, result.columns.get_loc("volume")] *= busy
        return result

    return apply


def scaled_prices(factor: float) -> Shift:
    """The feed quotes another unit."""

    def apply(candles: pd.DataFrame, row: int) -> pd.DataFrame:
        result = candles.copy()
        result.iloc[row:, [result.columns.get_loc(name) for name in PRICES]] *= factor
        return result

    return apply


def scaled_volume(factor: float) -> Shift:
    """The feed counts volume in another unit."""

    def apply(candles: pd.DataFrame, row: int) -> pd.DataFrame:
        result = candles.copy()
        result.iloc[row:, result.columns.get_loc("volume")] *= factor
        return result

    return apply


def frozen(candles: pd.DataFrame, row: int) -> pd.DataFrame:
    """The feed repeats its last price, and nothing is traded."""
    result = candles.copy()
    result.iloc[row:, [result.columns.get_loc(name) for name in PRICES]] = candles["close"].iloc[row - 1]
    result.iloc[row:, result.columns.get_loc("volume")] = 0.0
    return result


SHIFTS: Mapping[str, Shift] = {
    "volatility x2": volatility(2.0),
    "volatility x4": volatility(4.0),
    "volatility /3": volatility(1.0 / 3.0),
    "trend +5 % a day": trend(0.05),
    "trend -5 % a day": trend(-0.05),
    "crash of 15 %": crash(0.15),
    "crash of 50 %": crash(0.50),
    "price frozen": frozen,
    "price in another unit (x100)": scaled_prices(100.0),
    "volume in another unit (x1000)": scaled_volume(1000.0),
}


def _moved(candles: pd.DataFrame, row: int, change: Callable[[pd.Series], pd.Series]) -> pd.DataFrame:
    """Candles whose closes go other ways from `row` on; shapes of candles keep their size relative to the moves."""
    logs = np.log(candles[PRICES])
    moves = logs["close"].diff()
    changed = moves.copy()
    changed.iloc[row:] = change(moves.iloc[row:])
    stretch = _stretch(moves.iloc[row:], changed.iloc[row:])
    result = candles.copy()
    close = logs["close"].iloc[row - 1] + changed.iloc[row:].cumsum()
    before = close.shift(fill_value=logs["close"].iloc[row - 1])
    opened = before + (logs["open"] - logs["close"].shift()).iloc[row:]
    top = np.maximum(opened, close) + stretch * (logs["high"] - logs[["open", "close"]].max(axis=1)).iloc[row:]
    bottom = np.minimum(opened, close) - stretch * (logs[["open", "close"]].min(axis=1) - logs["low"]).iloc[row:]
    for name, values in (("open", opened), ("high", top), ("low", bottom), ("close", close)):
        result.iloc[row:, result.columns.get_loc(name)] = np.exp(values)
    return result


def _stretch(before: pd.Series, after: pd.Series) -> float:
    """How much larger moves are on the whole; a trend alone stretches no wick."""
    return float(after.sub(after.median()).abs().median() / before.sub(before.median()).abs().median())
