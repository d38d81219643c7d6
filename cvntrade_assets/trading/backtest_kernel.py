"""The backtest on arrays: which signals become trades, one position at a time, then what their equity is.

Exits come from `walk_to_exit`, the walk that labels take, so a backtest can not leave a trade elsewhere than its label.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from cvntrade_assets.trading.fills import LONG, UNDECIDED, walk_to_exit


@njit(cache=True)
def take_trades(
    open_time: NDArray[np.int64],
    open_: NDArray[np.float64],
    high: NDArray[np.float64],
    low: NDArray[np.float64],
    close: NDArray[np.float64],
    entries: NDArray[np.int64],
    atr: NDArray[np.float64],
    stop_loss: float,
    take_profit: float,
    horizon: int,
    interval: int,
    cooldown: int,
    entry: NDArray[np.int64],
    kind: NDArray[np.int8],
    index: NDArray[np.int64],
    price: NDArray[np.float64],
    at_open: NDArray[np.bool_],
    ambiguous: NDArray[np.bool_],
) -> int:
    """Act on signals in order, each when nothing is held and the cooldown is over.

    Args:
        open_time: int64 open times in nanoseconds, length n.
        open_: float64 prices, length n, as are high, low and close.
        high: See open_.
        low: See open_.
        close: See open_.
        entries: int64 positions of the candles at whose open the signals enter, strictly increasing, length s.
        atr: float64 average true range known at each signal, length s, positive.
        stop_loss: Distance to the stop in multiples of ATR.
        take_profit: Distance to the target in multiples of ATR.
        horizon: Nanoseconds from entry to deadline.
        interval: Nanoseconds from a candle's open to its close.
        cooldown: Nanoseconds without an entry after the close of a trade's exit candle.
        entry: Receives the position of each trade's entry candle; length s, as the next five.
        kind: Receives TP, SL or TIMEOUT, or UNDECIDED for the one trade that the end of the candles closes.
        index: Receives the position of the exit candle.
        price: Receives the exit price.
        at_open: Receives whether the exit filled at that candle's open.
        ambiguous: Receives whether the exit candle touched both barriers after its open.

    Returns:
        How many trades there were.
    """
    trades, free_from = 0, np.iinfo(np.int64).min
    for k in range(len(entries)):
        first = entries[k]
        if open_time[first] < free_from:
            continue
        unit, paid = atr[k], open_[first]
        ended, last, got, gapped, doubtful = walk_to_exit(
            open_time,
            open_,
            high,
            low,
            close,
            first,
            first,
            paid - stop_loss * unit,
            paid + take_profit * unit,
            LONG,
            open_time[first] + horizon,
            interval,
        )
        if ended == UNDECIDED:
            last = len(close) - 1
            got = close[last]
        entry[trades], kind[trades], index[trades], price[trades] = first, ended, last, got
        at_open[trades], ambiguous[trades] = gapped, doubtful
        trades += 1
        free_from = open_time[last] + interval + cooldown
    return trades


@njit(cache=True)
def mark_to_market(
    open_: NDArray[np.float64],
    close: NDArray[np.float64],
    entry: NDArray[np.int64],
    index: NDArray[np.int64],
    price: NDArray[np.float64],
    fraction: float,
    bought: NDArray[np.float64],
    sold: NDArray[np.float64],
    equity: NDArray[np.float64],
) -> None:
    """Write the equity at every candle's close, one row per cost level, in multiples of what it began with.

    Args:
        open_: float64 prices, length n.
        close: float64 prices, length n.
        entry: int64 positions of the candles at whose open trades are entered, one per trade, increasing.
        index: int64 positions of the exit candles, each before the next trade's entry.
        price: float64 exit prices.
        fraction: Share of the equity that a trade stakes, entry costs included.
        bought: What a buyer pays in multiples of the price, one per cost level.
        sold: What a seller receives in multiples of the price, one per cost level.
        equity: Receives the equity, (cost levels, n).
    """
    for level in range(len(bought)):
        row, now, flat_from = equity[level], 1.0, 0
        for trade in range(len(entry)):
            first, last = entry[trade], index[trade]
            row[flat_from:first] = now
            cash = now * (1.0 - fraction)
            coins = now * fraction / (open_[first] * bought[level])
            for i in range(first, last):
                row[i] = cash + coins * close[i]
            now = cash + coins * price[trade] * sold[level]
            flat_from = last
        row[flat_from:] = now
