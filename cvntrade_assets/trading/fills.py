"""The fill kernel: where and when a trade that was opened at a candle's open comes out.

Labels and backtests both call `walk_to_exit` (or, candle by candle, `exit_in_candle`), so what a model
learns and what a backtest pays can not drift apart. The rules:

- A signal is known at the close of candle t and acted on at the open of candle t+1, which must be the next
  candle of the grid: when it is missing there is no entry. Nor is there one while ATR is not yet known
  (warm-up) or 0 (a market that has not moved: both barriers would stand on the entry).
- An order at a price fills at that price, or at the open when the market opens at or beyond it (a gap).
  Opens come before what happens inside a candle.
- The stop wins a candle that touches both barriers after its open, and the exit says that this was ambiguous.
- The horizon counts from the entry. A trade still open when a candle closes exactly at the deadline exits
  at that close. When the deadline falls where candles are missing, the trade exits at the first open at or
  after the deadline, as a time-out, wherever that open lies: the decision to leave came before the price
  was known.
- When the candles end first, the trade is undecided. It has no exit, not a guessed one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self, TypeAlias

import numpy as np
import pandas as pd
from numba import njit
from numpy.typing import NDArray

from cvntrade_assets.trading.pte import PTE

NO_ENTRY, UNDECIDED, TP, SL, TIMEOUT = -2, -1, 0, 1, 2
"""Exit kinds: the trade never opened; is still open; hit its target; hit its stop; reached its deadline."""

EXIT_KINDS = ("tp", "sl", "timeout")
"""Names of the exit kinds TP, SL and TIMEOUT, by code."""

LONG, SHORT = 1, -1
"""The two sides of a trade."""

_Times: TypeAlias = NDArray[np.int64]
_Prices: TypeAlias = NDArray[np.float64]

_PRICES = ("open", "high", "low", "close")

_BLOCK = 512
"""Signals walked together: few enough for their barriers to stay in the nearest cache."""


class CandlesError(ValueError):
    """Candles that no trade can be walked through; the message says which row is wrong and why."""


@dataclass(frozen=True, slots=True)
class CandleArrays:
    """A candle frame as contiguous arrays of equal length n, in the form the kernels read.

    Attributes:
        open_time: int64 nanoseconds since 1970 (UTC), strictly increasing by whole intervals; a larger step
            is a gap.
        open: float64 price, as are high, low and close; finite, positive, open and close within low..high.
        high: See open.
        low: See open.
        close: See open.
        interval: Nanoseconds from a candle's open to its close.
    """

    open_time: NDArray[np.int64]
    open: NDArray[np.float64]
    high: NDArray[np.float64]
    low: NDArray[np.float64]
    close: NDArray[np.float64]
    interval: int

    def __len__(self) -> int:
        return len(self.open_time)

    def columns(self) -> tuple[_Times, _Prices, _Prices, _Prices, _Prices]:
        """The arrays in the order in which the kernels take them."""
        return self.open_time, self.open, self.high, self.low, self.close


@dataclass(frozen=True, slots=True)
class Exits:
    """How trades ended, one element per trade, in the order of their signals.

    Attributes:
        kind: int8, one of NO_ENTRY, UNDECIDED, TP, SL, TIMEOUT.
        index: int64 position of the exit candle; -1 when there is no exit.
        price: float64 exit price; NaN when there is no exit.
        at_open: bool, the exit filled at the exit candle's open (known at its open time, not at its close).
        ambiguous: bool, the exit candle touched both barriers after its open.
    """

    kind: NDArray[np.int8]
    index: NDArray[np.int64]
    price: NDArray[np.float64]
    at_open: NDArray[np.bool_]
    ambiguous: NDArray[np.bool_]

    @classmethod
    def of_size(cls, size: int) -> Self:
        """Unfilled arrays for the kernels to write into (numpy asks for huge pages, numba does not)."""
        return cls(
            np.empty(size, np.int8),
            np.empty(size, np.int64),
            np.empty(size, np.float64),
            np.empty(size, np.bool_),
            np.empty(size, np.bool_),
        )

    def columns(self) -> tuple[NDArray[np.int8], _Times, _Prices, NDArray[np.bool_], NDArray[np.bool_]]:
        """The arrays in the order in which the kernels take them."""
        return self.kind, self.index, self.price, self.at_open, self.ambiguous


def candle_arrays(candles: pd.DataFrame, interval: pd.Timedelta) -> CandleArrays:
    """Read a candle frame into arrays, refusing what would make a walk meaningless.

    Args:
        candles: Candle frame of n rows; index `datetime64[ns, UTC]`; only open, high, low and close are read.
        interval: The candles' timeframe.

    Raises:
        CandlesError: The index is not UTC nanoseconds or does not advance by whole intervals, or a row is
            impossible (a price that is not finite and positive, or an open or close outside low..high).
        ValueError: The interval is not positive.
    """
    step = interval.as_unit("ns").value
    if step <= 0:
        raise ValueError(f"interval is {interval}: expected a positive duration, the timeframe of the candles")
    index = candles.index
    if not isinstance(index, pd.DatetimeIndex) or str(index.dtype) != "datetime64[ns, UTC]":
        raise CandlesError(f"candles: index has dtype {index.dtype}: expected datetime64[ns, UTC] open times")
    times = np.ascontiguousarray(index.to_numpy(dtype="datetime64[ns]")).view(np.int64)
    open_, high, low, close = (np.ascontiguousarray(candles[name].to_numpy(dtype=np.float64)) for name in _PRICES)
    if (bad := _first_off_grid(times, step)) >= 0:
        raise CandlesError(
            f"candles: {index[bad]} follows {index[bad - 1]}: expected open times that advance by "
            f"one or more whole intervals of {interval}; sort, drop duplicates, or pass their own timeframe"
        )
    if (bad := _first_impossible(open_, high, low, close)) >= 0:
        raise CandlesError(
            f"candles: open {open_[bad]}, high {high[bad]}, low {low[bad]}, close {close[bad]} "
            f"at {index[bad]}: expected finite positive prices with open and close within low..high"
        )
    return CandleArrays(times, open_, high, low, close, step)


def walk_signals(
    arrays: CandleArrays, signals: NDArray[np.int64], atr: NDArray[np.float64], pte: PTE, side: int
) -> Exits:
    """Walk one independent trade per signal, with barriers in multiples of the ATR known at its signal.

    Args:
        arrays: The candles, n of them.
        signals: int64 positions of the signal candles, each 0 <= t < n, in any order.
        atr: float64 average true range per candle, length n, price units; NaN or 0 where no trade can be
            opened.
        pte: Stop, target and horizon.
        side: LONG or SHORT.

    Raises:
        ValueError: `atr` is not as long as the candles, a signal points outside them, the side is neither
            LONG nor SHORT, or the horizon is not a whole number of candles.
    """
    horizon = _checked_walk(arrays, atr, pte, side)
    if len(signals) and not (signals.min() >= 0 and signals.max() < len(arrays)):
        raise ValueError(f"signals span positions {signals.min()} to {signals.max()}: expected 0 to {len(arrays) - 1}")
    exits = Exits.of_size(len(signals))
    _walk_signals(
        *arrays.columns(),
        signals,
        atr,
        pte.stop_loss,
        pte.take_profit,
        side,
        horizon,
        arrays.interval,
        *exits.columns(),
    )
    return exits


def walk_every_candle(arrays: CandleArrays, atr: NDArray[np.float64], pte: PTE, side: int) -> Exits:
    """What `walk_signals` returns when every candle is a signal, in order; faster: neighbours go together.

    Args:
        arrays: The candles, n of them.
        atr: As for `walk_signals`.
        pte: Stop, target and horizon.
        side: LONG or SHORT.

    Raises:
        ValueError: As `walk_signals`.
    """
    horizon = _checked_walk(arrays, atr, pte, side)
    exits = Exits.of_size(len(arrays))
    _walk_every_candle(
        *arrays.columns(),
        atr,
        pte.stop_loss,
        pte.take_profit,
        side,
        horizon,
        arrays.interval,
        *exits.columns(),
    )
    return exits


def horizon_nanoseconds(horizon: pd.Timedelta, interval: int) -> int:
    """The horizon in nanoseconds.

    Raises:
        ValueError: It is not a positive whole number of candles of `interval` nanoseconds: a trade could
            then be due in the middle of a candle, at a price nobody recorded.
    """
    nanoseconds = horizon.as_unit("ns").value
    if nanoseconds <= 0 or nanoseconds % interval:
        raise ValueError(
            f"horizon is {horizon} on candles of {pd.Timedelta(interval, 'ns')}: expected a positive "
            "whole number of candles; choose a longer horizon or a shorter timeframe"
        )
    return nanoseconds


def _checked_walk(arrays: CandleArrays, atr: NDArray[np.float64], pte: PTE, side: int) -> int:
    """The horizon in nanoseconds, once the rest of a walk's arguments are in order."""
    if len(atr) != len(arrays):
        raise ValueError(f"atr has {len(atr)} values for {len(arrays)} candles: expected one per candle")
    if side not in (LONG, SHORT):
        raise ValueError(f"side is {side}: expected LONG ({LONG}) or SHORT ({SHORT})")
    return horizon_nanoseconds(pte.horizon, arrays.interval)


@njit(cache=True, forceinline=True)
def exit_in_candle(
    open_: float, high: float, low: float, stop: float, target: float, side: int, is_entry: bool
) -> tuple[int, float, bool, bool]:
    """Whether one candle ends an open trade through its stop or its target.

    Args:
        open_: The candle's open, as high and low a price.
        high: See open_.
        low: See open_.
        stop: Price of the stop: below the entry for a long, above it for a short.
        target: Price of the target, on the other side.
        side: LONG or SHORT.
        is_entry: The trade opened at this candle's open, which therefore is no gap.

    Returns:
        (kind, price, at_open, ambiguous); kind UNDECIDED and price NaN when the trade lives on.
    """
    if not is_entry:
        if (open_ - stop) * side <= 0.0:
            return SL, open_, True, False
        if (open_ - target) * side >= 0.0:
            return TP, open_, True, False
    against, in_favour = (low, high) if side > 0 else (high, low)
    reached = (in_favour - target) * side >= 0.0
    if (against - stop) * side <= 0.0:
        return SL, stop, False, reached
    if reached:
        return TP, target, False, False
    return UNDECIDED, np.nan, False, False


@njit(cache=True, forceinline=True)
def walk_to_exit(
    open_time: NDArray[np.int64],
    open_: NDArray[np.float64],
    high: NDArray[np.float64],
    low: NDArray[np.float64],
    close: NDArray[np.float64],
    entry: int,
    start: int,
    stop: float,
    target: float,
    side: int,
    deadline: int,
    interval: int,
) -> tuple[int, int, float, bool, bool]:
    """Walk one trade, opened at the open of candle `entry`, to its exit.

    Args:
        open_time: int64 open times in nanoseconds, length n.
        open_: float64 prices, length n, as are high, low and close.
        high: See open_.
        low: See open_.
        close: See open_.
        entry: Position of the entry candle.
        start: Position of the first candle to look at, entry <= start <= n: `entry`, or a later one when
            those before it are known to leave the trade open.
        stop: Price of the stop.
        target: Price of the target.
        side: LONG or SHORT.
        deadline: Nanoseconds, on the grid, after the entry candle's open.
        interval: Nanoseconds from a candle's open to its close.

    Returns:
        (kind, exit position, exit price, at_open, ambiguous); (UNDECIDED, -1, NaN, False, False) when the
        candles end first.
    """
    lower, upper = (stop, target) if side > 0 else (target, stop)
    for i in range(start, len(open_time)):
        if open_time[i] >= deadline:
            return TIMEOUT, i, open_[i], True, False
        # Opens lie within low..high: a candle that stays strictly between the barriers needs no second look.
        if low[i] <= lower or high[i] >= upper:
            kind, price, at_open, ambiguous = exit_in_candle(open_[i], high[i], low[i], stop, target, side, i == entry)
            return kind, i, price, at_open, ambiguous
        if open_time[i] + interval == deadline:
            return TIMEOUT, i, close[i], False, False
    return UNDECIDED, -1, np.nan, False, False


@njit(cache=True, forceinline=True)
def _walk_signal(
    open_time: NDArray[np.int64],
    open_: NDArray[np.float64],
    high: NDArray[np.float64],
    low: NDArray[np.float64],
    close: NDArray[np.float64],
    t: int,
    atr: float,
    quiet: int,
    stop_loss: float,
    take_profit: float,
    side: int,
    horizon: int,
    interval: int,
) -> tuple[int, int, float, bool, bool]:
    """Open the trade of the signal at candle t and walk it, past `quiet` candles known to leave it open."""
    entry = t + 1
    if entry >= len(open_time) or open_time[entry] != open_time[t] + interval or not atr > 0.0:
        return NO_ENTRY, -1, np.nan, False, False
    stop = open_[entry] - side * stop_loss * atr
    target = open_[entry] + side * take_profit * atr
    deadline = open_time[entry] + horizon
    return walk_to_exit(
        open_time, open_, high, low, close, entry, entry + quiet, stop, target, side, deadline, interval
    )


@njit(cache=True)
def _walk_signals(
    open_time: NDArray[np.int64],
    open_: NDArray[np.float64],
    high: NDArray[np.float64],
    low: NDArray[np.float64],
    close: NDArray[np.float64],
    signals: NDArray[np.int64],
    atr: NDArray[np.float64],
    stop_loss: float,
    take_profit: float,
    side: int,
    horizon: int,
    interval: int,
    kind: NDArray[np.int8],
    index: NDArray[np.int64],
    price: NDArray[np.float64],
    at_open: NDArray[np.bool_],
    ambiguous: NDArray[np.bool_],
) -> None:
    """`walk_signals` on arrays, into arrays."""
    for k, t in enumerate(signals):
        kind[k], index[k], price[k], at_open[k], ambiguous[k] = _walk_signal(
            open_time, open_, high, low, close, t, atr[t], 0, stop_loss, take_profit, side, horizon, interval
        )


@njit(cache=True)
def _walk_every_candle(
    open_time: NDArray[np.int64],
    open_: NDArray[np.float64],
    high: NDArray[np.float64],
    low: NDArray[np.float64],
    close: NDArray[np.float64],
    atr: NDArray[np.float64],
    stop_loss: float,
    take_profit: float,
    side: int,
    horizon: int,
    interval: int,
    kind: NDArray[np.int8],
    index: NDArray[np.int64],
    price: NDArray[np.float64],
    at_open: NDArray[np.bool_],
    ambiguous: NDArray[np.bool_],
) -> None:
    """`walk_every_candle` on arrays, into arrays."""
    n = len(open_time)
    below, above = (stop_loss, take_profit) if side > 0 else (take_profit, stop_loss)
    depth = horizon // interval
    quiet = np.empty(_BLOCK, np.int64)
    for first in range(0, n, _BLOCK):
        size = min(_BLOCK, n - first)
        whole = max(0, min(size, n - depth - first))  # these have `depth` rows after them
        _count_quiet(open_, high, low, atr, first, whole, below, above, depth, quiet)
        for k in range(size):
            t = first + k
            # Rows are counted, not hours: the count holds only when no candle is missing within the horizon.
            unbroken = k < whole and open_time[t + depth] == open_time[t] + horizon
            skip = quiet[k] if unbroken else 0
            kind[t], index[t], price[t], at_open[t], ambiguous[t] = _walk_signal(
                open_time,
                open_,
                high,
                low,
                close,
                t,
                atr[t],
                skip,
                stop_loss,
                take_profit,
                side,
                horizon,
                interval,
            )


@njit(cache=True)
def _count_quiet(
    open_: NDArray[np.float64],
    high: NDArray[np.float64],
    low: NDArray[np.float64],
    atr: NDArray[np.float64],
    first: int,
    size: int,
    below: float,
    above: float,
    depth: int,
    quiet: NDArray[np.int64],
) -> None:
    """Count the rows from each entry on, at most depth - 1, that stay strictly between the barriers.

    Signals are the `size` candles from `first` on. The inner loop runs over neighbouring signals, without a
    branch, which compiles to vector instructions; a walk that looks at these rows one by one takes half as
    long again, for the processor mispredicts where it stops.
    """
    opens, units = open_[first + 1 : first + 1 + size], atr[first : first + size]
    lower, upper = opens - below * units, opens + above * units
    quiet[:size] = depth - 1
    for row in range(depth - 1, -1, -1):
        start = first + 1 + row
        lows, highs = low[start : start + size], high[start : start + size]
        for k in range(size):
            quiet[k] = row if (lows[k] <= lower[k]) | (highs[k] >= upper[k]) else quiet[k]


@njit(cache=True)
def _first_off_grid(open_time: NDArray[np.int64], interval: int) -> int:
    """Position of the first open time that is not one or more whole intervals after the one before, or -1."""
    for i in range(1, len(open_time)):
        step = open_time[i] - open_time[i - 1]
        if step != interval and (step <= 0 or step % interval != 0):
            return i
    return -1


@njit(cache=True)
def _first_impossible(
    open_: NDArray[np.float64],
    high: NDArray[np.float64],
    low: NDArray[np.float64],
    close: NDArray[np.float64],
) -> int:
    """Position of the first candle whose prices can not be, or -1; a NaN anywhere fails every comparison."""
    for i in range(len(open_)):
        inside = low[i] <= open_[i] and open_[i] <= high[i] and low[i] <= close[i] and close[i] <= high[i]
        if not (inside and low[i] > 0.0 and high[i] < np.inf):
            return i
    return -1
