"""Triple-barrier labels: what a trade opened after each candle would have come to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numba import njit
from numpy.typing import NDArray

from cvntrade_assets.market.volatility import average_true_range
from cvntrade_assets.trading.fills import (
    EXIT_KINDS,
    LONG,
    NO_ENTRY,
    SHORT,
    SL,
    TIMEOUT,
    TP,
    UNDECIDED,
    CandleArrays,
    Exits,
    candle_arrays,
    horizon_nanoseconds,
    walk_every_candle,
)
from cvntrade_assets.trading.pte import PTE, PteGrid

BUY, HOLD, SELL = 1, 0, -1
"""Labels; in binary mode HOLD reads "not BUY" and SELL does not occur."""

_EXIT_KIND = pd.CategoricalDtype(list(EXIT_KINDS))
_NEVER = np.iinfo(np.int32).max
_BLOCK = 256


@dataclass(frozen=True, slots=True)
class GridLabels:
    """How the long trades on some events end under every PTE of a grid; arrays are (len(grid), len(events)).

    Attributes:
        grid: The PTEs, one row each, in the grid's own order.
        events: Open times of the signal candles, one column each.
        exit_kind: int8 codes of `trading.fills`: TP, SL or TIMEOUT; UNDECIDED or NO_ENTRY where there is no
            label.
        returns: float64 gross return exit / entry - 1; NaN where there is no label.
        exit_index: int32 position of the exit candle; -1 where there is no label.
        ambiguous: bool, the exit candle touched both barriers after its open.
    """

    grid: PteGrid
    events: pd.DatetimeIndex
    exit_kind: NDArray[np.int8]
    returns: NDArray[np.float64]
    exit_index: NDArray[np.int32]
    ambiguous: NDArray[np.bool_]


def label_candles(candles: pd.DataFrame, pte: PTE, *, interval: pd.Timedelta, binary: bool) -> pd.DataFrame:
    """Label every candle with the outcome of the trade that a signal at its close would have opened.

    The triple-barrier method (López de Prado 2018, Advances in Financial Machine Learning, chapter 3) with
    the fills of `trading.fills`: barriers are ATR(14) multiples around the open of the next candle. BUY
    means that the long hits its target, so `label == BUY` is the same in both modes; SELL means that the
    mirrored short hits its target and the long does not (with a target nearer than the stop both can).

    A candle has no row when it has no label: ATR is still warming up or 0, the next candle is missing, or
    the candles end before the outcome is decided (of either trade, with three classes).

    Args:
        candles: Candle frame of n rows.
        pte: Stop, target and horizon.
        interval: The candles' timeframe.
        binary: Two classes (BUY or not); otherwise three.

    Returns:
        A frame of at most n rows; its index is the signal candle's open time, named `open_time`. Columns:
        `label` int8; `return` float64, gross return of the long; `exit_kind` category (tp, sl, timeout) of
        the long; `entry_time` and `exit_time` datetime64[ns, UTC], between which the label depends on
        prices: with three classes `exit_time` is the later of the two trades'. An exit inside a candle, or
        at its close, is known at its close; a fill at an open is known then. `ambiguous` bool, a trade that
        the label depends on met a candle that touched both its barriers.

    Raises:
        ValueError: The candles are not walkable (see `candle_arrays`), or the horizon is not a whole number
            of candles.
    """
    arrays = candle_arrays(candles, interval)
    atr = average_true_range(candles).to_numpy()
    long = walk_every_candle(arrays, atr, pte, LONG)
    if binary:
        return _labels_frame(candles.index, arrays, long, None)
    return _labels_frame(candles.index, arrays, long, walk_every_candle(arrays, atr, pte, SHORT))


def label_grid(candles: pd.DataFrame, events: pd.DatetimeIndex, grid: PteGrid, *, interval: pd.Timedelta) -> GridLabels:
    """Label the same events under every PTE of a grid, in one pass over the candles.

    The candles after an event are read once, up to the longest horizon, to note at which moment each stop
    and each target is first touched and each horizon is due. Which of the three comes first is then a
    comparison per PTE. Equal, element by element, to walking the long trades PTE by PTE with
    `trading.fills.walk_signals`.

    Args:
        candles: Candle frame of n rows.
        events: Open times of the signal candles, all of them in the candles' index, in any order.
        grid: The PTEs.
        interval: The candles' timeframe.

    Raises:
        ValueError: An event is not a candle, the candles are not walkable (see `candle_arrays`), or a
            horizon is not a whole number of candles.
    """
    arrays = candle_arrays(candles, interval)
    horizons = np.array(
        [horizon_nanoseconds(pd.Timedelta(hours=hours), arrays.interval) for hours in grid.horizon_hours],
        np.int64,
    )
    signals = _positions(candles.index, events)
    atr = average_true_range(candles).to_numpy()
    shape = (len(grid), len(signals))
    exit_kind, returns = np.empty(shape, np.int8), np.empty(shape, np.float64)
    exit_index, ambiguous = np.empty(shape, np.int32), np.empty(shape, np.bool_)
    _walk_grid(
        *arrays.columns(),
        signals,
        atr,
        np.array(grid.stop_losses),
        np.array(grid.take_profits),
        horizons,
        arrays.interval,
        exit_kind,
        returns,
        exit_index,
        ambiguous,
    )
    return GridLabels(grid, events, exit_kind, returns, exit_index, ambiguous)


def _labels_frame(index: pd.Index, arrays: CandleArrays, long: Exits, short: Exits | None) -> pd.DataFrame:
    """The labels of every candle, in order, whose trades are decided."""
    decided = long.kind >= 0 if short is None else (long.kind >= 0) & (short.kind >= 0)
    signals = np.flatnonzero(decided)
    entries = signals + 1
    kind = long.kind[signals]
    label = (kind == TP).astype(np.int8)
    exit_time = _exit_times(arrays, long, signals)
    ambiguous = long.ambiguous[signals]
    if short is not None:
        label[(short.kind[signals] == TP) & (label != BUY)] = SELL
        exit_time = np.maximum(exit_time, _exit_times(arrays, short, signals))
        ambiguous = ambiguous | short.ambiguous[signals]
    exit_kind = pd.Categorical.from_codes(kind, dtype=_EXIT_KIND)  # type: ignore[arg-type]
    return pd.DataFrame(
        {
            "label": label,
            "return": long.price[signals] / arrays.open[entries] - 1.0,
            "exit_kind": exit_kind,
            "entry_time": _utc(arrays.open_time[entries]),
            "exit_time": _utc(exit_time),
            "ambiguous": ambiguous,
        },
        index=index[signals].rename("open_time"),
        copy=False,
    )


def _exit_times(arrays: CandleArrays, exits: Exits, signals: NDArray[np.int64]) -> NDArray[np.int64]:
    """Nanoseconds at which the exits of decided signals are known."""
    return arrays.open_time[exits.index[signals]] + np.where(exits.at_open[signals], 0, arrays.interval)


def _utc(nanoseconds: NDArray[np.int64]) -> pd.DatetimeIndex:
    return pd.DatetimeIndex(nanoseconds.view("datetime64[ns]")).tz_localize("UTC")


def _positions(index: pd.Index, events: pd.DatetimeIndex) -> NDArray[np.int64]:
    """Positions of the events in the candles' index, which is sorted."""
    positions = np.asarray(index.searchsorted(events), np.int64)
    found = index[np.minimum(positions, len(index) - 1)] == events if len(index) else np.zeros(len(events), np.bool_)
    if not found.all():
        raise ValueError(
            f"events: {events[int(np.argmin(found))]} is not the open time of a candle: "
            "expected events taken from the same candles"
        )
    return positions


@njit(cache=True)
def _walk_grid(
    open_time: NDArray[np.int64],
    open_: NDArray[np.float64],
    high: NDArray[np.float64],
    low: NDArray[np.float64],
    close: NDArray[np.float64],
    signals: NDArray[np.int64],
    atr: NDArray[np.float64],
    stop_losses: NDArray[np.float64],
    take_profits: NDArray[np.float64],
    horizons: NDArray[np.int64],
    interval: int,
    exit_kind: NDArray[np.int8],
    returns: NDArray[np.float64],
    exit_index: NDArray[np.int32],
    ambiguous: NDArray[np.bool_],
) -> None:
    """`label_grid` on arrays, into arrays, a block of events at a time so that the moments stay in cache."""
    stop_at = np.empty((len(stop_losses), _BLOCK), np.int32)
    target_at = np.empty((len(take_profits), _BLOCK), np.int32)
    due_at = np.empty((len(horizons), _BLOCK), np.int32)
    stop_return = np.empty(stop_at.shape)
    target_return = np.empty(target_at.shape)
    due_return = np.empty(due_at.shape)
    undecided = np.empty(_BLOCK, np.int8)
    for first in range(0, len(signals), _BLOCK):
        block = signals[first : first + _BLOCK]
        stop_at[:], target_at[:], due_at[:] = _NEVER, _NEVER, _NEVER
        stop_return[:], target_return[:], due_return[:] = np.nan, np.nan, np.nan
        for k, t in enumerate(block):
            entry = t + 1
            enters = entry < len(open_time) and open_time[entry] == open_time[t] + interval and atr[t] > 0.0
            undecided[k] = UNDECIDED if enters else NO_ENTRY
            if enters:
                _note_touches(
                    open_time, open_, high, low, entry, atr[t], stop_losses, take_profits, horizons[-1],
                    stop_at[:, k], target_at[:, k], stop_return[:, k], target_return[:, k],
                )  # fmt: skip
                _note_dues(open_time, open_, close, entry, horizons, interval, due_at[:, k], due_return[:, k])
        last = first + len(block)
        row = 0
        for h in range(len(horizons)):
            for s in range(len(stop_losses)):
                for p in range(len(take_profits)):
                    _decide(
                        block, undecided, stop_at[s], target_at[p], due_at[h],
                        stop_return[s], target_return[p], due_return[h],
                        exit_kind[row, first:last], returns[row, first:last],
                        exit_index[row, first:last], ambiguous[row, first:last],
                    )  # fmt: skip
                    row += 1


@njit(cache=True)
def _note_touches(
    open_time: NDArray[np.int64],
    open_: NDArray[np.float64],
    high: NDArray[np.float64],
    low: NDArray[np.float64],
    entry: int,
    atr: float,
    stop_losses: NDArray[np.float64],
    take_profits: NDArray[np.float64],
    longest: int,
    stop_at: NDArray[np.int32],
    target_at: NDArray[np.int32],
    stop_return: NDArray[np.float64],
    target_return: NDArray[np.float64],
) -> None:
    """Note when one event's trade first touches each stop and each target, and what it would return there.

    Moments within the walk are numbered so that they sort in time: in the r-th candle from the entry, 4r is
    a deadline met at its open, 4r + 1 a fill at its open, 4r + 2 a touch inside it, and 4r + 3 a deadline
    met at its close. Multiples increase, so a nearer barrier is never touched after a farther one, and one
    cursor a side suffices.
    """
    price = open_[entry]
    deadline = open_time[entry] + longest
    s, p = 0, 0
    for i in range(entry, len(open_time)):
        if open_time[i] >= deadline or (s == len(stop_losses) and p == len(take_profits)):
            return
        inside = 4 * (i - entry) + 2
        while s < len(stop_losses) and low[i] <= price - stop_losses[s] * atr:
            stop = price - stop_losses[s] * atr
            gap = i > entry and open_[i] <= stop
            stop_at[s] = inside - 1 if gap else inside
            stop_return[s] = (open_[i] if gap else stop) / price - 1.0
            s += 1
        while p < len(take_profits) and high[i] >= price + take_profits[p] * atr:
            target = price + take_profits[p] * atr
            gap = i > entry and open_[i] >= target
            target_at[p] = inside - 1 if gap else inside
            target_return[p] = (open_[i] if gap else target) / price - 1.0
            p += 1


@njit(cache=True)
def _note_dues(
    open_time: NDArray[np.int64],
    open_: NDArray[np.float64],
    close: NDArray[np.float64],
    entry: int,
    horizons: NDArray[np.int64],
    interval: int,
    due_at: NDArray[np.int32],
    due_return: NDArray[np.float64],
) -> None:
    """Note when one trade is due under each horizon, numbered as in `_note_touches`, and its return then."""
    i = entry
    for h in range(len(horizons)):
        deadline = open_time[entry] + horizons[h]
        while i < len(open_time) and open_time[i] + interval < deadline:
            i += 1
        if i == len(open_time):
            return
        at_close = open_time[i] + interval == deadline
        due_at[h] = 4 * (i - entry) + (3 if at_close else 0)
        due_return[h] = (close[i] if at_close else open_[i]) / open_[entry] - 1.0


@njit(cache=True)
def _decide(
    signals: NDArray[np.int64],
    undecided: NDArray[np.int8],
    stop_at: NDArray[np.int32],
    target_at: NDArray[np.int32],
    due_at: NDArray[np.int32],
    stop_return: NDArray[np.float64],
    target_return: NDArray[np.float64],
    due_return: NDArray[np.float64],
    exit_kind: NDArray[np.int8],
    returns: NDArray[np.float64],
    exit_index: NDArray[np.int32],
    ambiguous: NDArray[np.bool_],
) -> None:
    """Under one PTE, take what comes first in each trade; without branches, to compile to vector code."""
    for k in range(len(signals)):
        stop, target, due = stop_at[k], target_at[k], due_at[k]
        touch = min(stop, target)
        moment = min(touch, due)
        touched = SL if stop <= target else TP
        ended = TIMEOUT if due < touch else touched
        exit_kind[k] = undecided[k] if moment == _NEVER else ended
        on_touch = stop_return[k] if stop <= target else target_return[k]
        returns[k] = due_return[k] if due < touch else on_touch
        exit_index[k] = -1 if moment == _NEVER else signals[k] + 1 + (moment >> 2)
        ambiguous[k] = (stop == target) & (touch < due)
