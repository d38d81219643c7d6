"""An independent, slow, obvious account of how a trade ends, for tests of the fill kernel to agree with.

It walks the clock, slot by slot, over a mapping from open time to candle; it knows of no rows or arrays.
"""

import math
from dataclasses import dataclass

import pandas as pd

Candle = tuple[float, float, float, float]
"""Open, high, low, close."""


@dataclass(frozen=True)
class Ending:
    """How a trade ended: kind, open time of the exit candle, price, at that open or not, ambiguous or not."""

    kind: str
    candle: int = -1
    price: float = float("nan")
    at_open: bool = False
    ambiguous: bool = False


def candles_by_time(candles: pd.DataFrame) -> dict[int, Candle]:
    """The candles by open time in nanoseconds."""
    times = [stamp.value for stamp in candles.index]
    rows = candles[["open", "high", "low", "close"]].itertuples(index=False, name=None)
    return dict(zip(times, rows, strict=True))


def slow_ending(
    candles: dict[int, Candle],
    signal: int,
    atr: float,
    *,
    stop_loss: float,
    take_profit: float,
    is_long: bool,
    horizon: int,
    interval: int,
) -> Ending:
    """How the trade of the signal at candle `signal`'s close ends; times and durations in nanoseconds."""
    entry_time = signal + interval
    if entry_time not in candles or math.isnan(atr) or atr == 0:
        return Ending("no entry")
    entry = candles[entry_time][0]
    if is_long:
        stop, target = entry - stop_loss * atr, entry + take_profit * atr
    else:
        stop, target = entry + stop_loss * atr, entry - take_profit * atr
    deadline = entry_time + horizon
    last = max(candles)
    now = entry_time
    while now <= last:
        if now in candles:
            if now >= deadline:
                return Ending("timeout", now, candles[now][0], at_open=True)
            ending = None if now == entry_time else _ending_at_open(now, candles[now], stop, target, is_long)
            ending = ending or _ending_inside(now, candles[now], stop, target, is_long)
            if ending:
                return ending
            if now + interval == deadline:
                return Ending("timeout", now, candles[now][3])
        now += interval
    return Ending("undecided")


def _ending_at_open(now: int, candle: Candle, stop: float, target: float, is_long: bool) -> Ending | None:
    open_ = candle[0]
    if (open_ <= stop) if is_long else (open_ >= stop):
        return Ending("sl", now, open_, at_open=True)
    if (open_ >= target) if is_long else (open_ <= target):
        return Ending("tp", now, open_, at_open=True)
    return None


def _ending_inside(now: int, candle: Candle, stop: float, target: float, is_long: bool) -> Ending | None:
    _, high, low, _ = candle
    stopped = low <= stop if is_long else high >= stop
    reached = high >= target if is_long else low <= target
    if stopped:
        return Ending("sl", now, stop, ambiguous=reached)
    if reached:
        return Ending("tp", now, target)
    return None
