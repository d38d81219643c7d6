"""The backtest: what acting on signals would have come to, trade by trade and candle by candle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cvntrade_assets.trading.backtest_kernel import mark_to_market, take_trades
from cvntrade_assets.trading.cost_levels import level_column
from cvntrade_assets.trading.costs import Costs
from cvntrade_assets.trading.fills import EXIT_KINDS, UNDECIDED, CandleArrays, Exits, candle_arrays, horizon_nanoseconds
from cvntrade_assets.trading.pte import PTE

_NO_COOLDOWN = pd.Timedelta(0)

OPEN = "open"
"""Exit kind of a trade that was still open when the candles ended, and was sold at their last close."""

_EXIT_KIND = pd.CategoricalDtype([*EXIT_KINDS, OPEN])


@dataclass(frozen=True, eq=False)
class Backtest:
    """What a backtest did.

    Attributes:
        trades: One row a trade, in order. `signal_time`, close of the signal candle, and `entry_time`, the same moment:
            trades enter at the open that follows; `exit_time`, when the exit was known: the exit candle's close, or its
            open when the exit filled there; all datetime64[ns, UTC]. `entry_price` and `exit_price` float64, before
            costs. `exit_kind` category: tp, sl, timeout, or open. `ambiguous` bool, the exit candle touched both
            barriers after its open. `gross_return` float64, exit / entry - 1, and one `net_return_{level:g}x` per cost
            level, both as fractions of what was staked.
        equity: One row a candle, indexed by open time; one float64 column `{level:g}x` per cost level: what the account
            is worth at the candle's close, marked there while a trade is open, in multiples of what it began with.
        in_position: bool per candle, something was held during it, if only at its open.
        fraction: Share of the equity that each trade staked.
        signals: How many signals there were.
        without_entry: How many of them no trade could follow, because no candle opened then or the ATR was not known;
            the others became trades, or came while one was open or within the cooldown.
    """

    trades: pd.DataFrame
    equity: pd.DataFrame
    in_position: pd.Series
    fraction: float
    signals: int
    without_entry: int


def run_backtest(
    candles: pd.DataFrame,
    signals: pd.DataFrame,
    pte: PTE,
    *,
    interval: pd.Timedelta,
    costs: Costs,
    levels: Sequence[float] = (1.0,),
    fraction: float = 1.0,
    cooldown: pd.Timedelta = _NO_COOLDOWN,
) -> Backtest:
    """Trade signals long on candles, one position at a time, with the fills of `trading.fills`.

    A signal is acted on at the open of the candle that opens at that very moment, with stop and target in multiples of
    the ATR known then. A signal that comes before the last trade's exit candle has closed, or less than `cooldown`
    after, is passed over. Each trade stakes `fraction` of the equity, entry costs included, so that nothing is ever
    borrowed: a stake S at price p buys S / (p * costs.bought) coins, and n coins sold at p yield n * p * costs.sold.
    The net return of a trade on its stake is therefore (1 + gross return) * costs.sold / costs.bought - 1.

    A trade that is undecided when the candles end is sold at the last close, with costs, and its exit kind says `open`:
    the equity then ends in money, while counts and shares of exits leave that trade out.

    Args:
        candles: Candle frame of n rows, of the labels' timeframe or a finer one.
        signals: Index: moments at which a signal was known, which are closes of candles: `datetime64[ns, UTC]`,
            strictly increasing, on the candles' grid. Column `atr`: float64 average true range known then, in price
            units; NaN or 0 where it is not.
        pte: Stop, target and horizon.
        interval: The candles' timeframe.
        costs: Costs per side at level 1.
        levels: Multiples of `costs` to account at, each different; the trades are the same at all of them.
        fraction: Share of the equity that a trade stakes, 0 < fraction <= 1.
        cooldown: Time without an entry after the close of a trade's exit candle, 0 or more.

    Raises:
        ValueError: The candles are not walkable (see `candle_arrays`), the horizon is not a whole number of candles, or
            another argument is not as described; the message says which.
    """
    arrays = candle_arrays(candles, interval)
    horizon = horizon_nanoseconds(pte.horizon, arrays.interval)
    paid = _costs_at(costs, levels)
    wait = _checked_cooldown(cooldown)
    if not 0.0 < fraction <= 1.0:
        raise ValueError(f"fraction is {fraction}: expected a share of the equity, more than 0 and at most 1")
    entries, units = _entries(arrays, signals)
    entry, exits = _take(arrays, entries, units, pte, horizon, wait)
    return Backtest(
        trades=_trades_frame(arrays, entry, exits, paid),
        equity=_marked(candles.index, arrays, entry, exits.index, exits.price, fraction, paid),
        in_position=_held(candles.index, entry, exits.index),
        fraction=fraction,
        signals=len(signals),
        without_entry=len(signals) - len(entries),
    )


def buy_and_hold(
    candles: pd.DataFrame, *, interval: pd.Timedelta, costs: Costs, levels: Sequence[float] = (1.0,)
) -> pd.DataFrame:
    """Equity, as `Backtest.equity`, of staking everything at the first open and selling at the last close.

    Args:
        candles: Candle frame of n >= 1 rows.
        interval: The candles' timeframe.
        costs: Costs per side at level 1.
        levels: Multiples of `costs` to account at, each different.

    Raises:
        ValueError: There are no candles, they are not walkable (see `candle_arrays`), or the levels are not as
            described.
    """
    if candles.empty:
        raise ValueError("buy and hold: there are no candles; expected at least one to buy and sell in")
    arrays = candle_arrays(candles, interval)
    first, last = np.array([0]), np.array([len(arrays) - 1])
    return _marked(candles.index, arrays, first, last, arrays.close[-1:], 1.0, _costs_at(costs, levels))


def _costs_at(costs: Costs, levels: Sequence[float]) -> dict[str, Costs]:
    """The costs at each level, by the level's column."""
    paid = {level_column(level): costs.scaled(level) for level in levels}
    if not paid or len(paid) < len(levels):
        raise ValueError(f"cost levels are {tuple(levels)}: expected at least one, each different")
    return paid


def _checked_cooldown(cooldown: pd.Timedelta) -> int:
    """The cooldown in nanoseconds."""
    wait = cooldown.as_unit("ns").value
    if wait < 0:
        raise ValueError(f"cooldown is {cooldown}: expected 0 or more")
    return wait


def _entries(arrays: CandleArrays, signals: pd.DataFrame) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Positions of the candles at whose open signals enter, and the ATR known there; those without one left out."""
    index = signals.index
    if not isinstance(index, pd.DatetimeIndex) or str(index.dtype) != "datetime64[ns, UTC]":
        raise ValueError(f"signals: index has dtype {index.dtype}: expected datetime64[ns, UTC] closes of candles")
    times = np.ascontiguousarray(index.to_numpy(dtype="datetime64[ns]")).view(np.int64)
    steps = np.diff(times)
    if not (steps > 0).all():
        later = index[int(np.argmin(steps > 0)) + 1]
        raise ValueError(f"signals: {later} does not come after the one before it: sort them and drop duplicates")
    units = signals["atr"].to_numpy(dtype=np.float64)
    if not len(arrays):
        return np.empty(0, np.int64), np.empty(0)
    off_grid = (times - arrays.open_time[0]) % arrays.interval != 0
    if off_grid.any():
        raise ValueError(
            f"signals: {index[int(np.argmax(off_grid))]} is no moment at which a candle of "
            f"{pd.Timedelta(arrays.interval, 'ns')} opens: expected closes of such candles or of coarser ones"
        )
    at = np.searchsorted(arrays.open_time, times)
    there = arrays.open_time[np.minimum(at, len(arrays) - 1)] == times
    usable = there & (units > 0.0) & np.isfinite(units)
    return at[usable], units[usable]


def _take(
    arrays: CandleArrays,
    entries: NDArray[np.int64],
    units: NDArray[np.float64],
    pte: PTE,
    horizon: int,
    cooldown: int,
) -> tuple[NDArray[np.int64], Exits]:
    """Positions of the trades' entry candles, and their exits."""
    entry, exits = np.empty(len(entries), np.int64), Exits.of_size(len(entries))
    kind, index, price, at_open, ambiguous = exits.columns()
    count = take_trades(
        *arrays.columns(),
        entries,
        units,
        pte.stop_loss,
        pte.take_profit,
        horizon,
        arrays.interval,
        cooldown,
        entry,
        *exits.columns(),
    )
    return entry[:count], Exits(kind[:count], index[:count], price[:count], at_open[:count], ambiguous[:count])


def _trades_frame(
    arrays: CandleArrays,
    entry: NDArray[np.int64],
    exits: Exits,
    paid: Mapping[str, Costs],
) -> pd.DataFrame:
    entered = _utc(arrays.open_time[entry])
    gross = exits.price / arrays.open[entry] - 1.0
    kind = np.where(exits.kind == UNDECIDED, len(EXIT_KINDS), exits.kind)
    return pd.DataFrame(
        {
            "signal_time": entered,
            "entry_time": entered,
            "exit_time": _utc(arrays.open_time[exits.index] + np.where(exits.at_open, 0, arrays.interval)),
            "entry_price": arrays.open[entry],
            "exit_price": exits.price,
            "exit_kind": pd.Categorical.from_codes(kind, dtype=_EXIT_KIND),  # type: ignore[arg-type]
            "ambiguous": exits.ambiguous,
            "gross_return": gross,
            **{f"net_return_{level}": (1.0 + gross) * (each.sold / each.bought) - 1.0 for level, each in paid.items()},
        }
    )


def _marked(
    index: pd.Index,
    arrays: CandleArrays,
    entry: NDArray[np.int64],
    exit_: NDArray[np.int64],
    price: NDArray[np.float64],
    fraction: float,
    paid: Mapping[str, Costs],
) -> pd.DataFrame:
    """The equity at each candle's close, one column per cost level."""
    equity = np.empty((len(paid), len(arrays)))
    bought = np.array([each.bought for each in paid.values()])
    sold = np.array([each.sold for each in paid.values()])
    mark_to_market(arrays.open, arrays.close, entry, exit_, price, fraction, bought, sold, equity)
    return pd.DataFrame(equity.T, index=index.rename("open_time"), columns=list(paid), copy=False)


def _held(index: pd.Index, entry: NDArray[np.int64], exit_: NDArray[np.int64]) -> pd.Series:
    """Whether something was held during each candle, from entry candle to exit candle."""
    changes = np.zeros(len(index) + 1, np.int64)
    changes[entry] += 1
    changes[exit_ + 1] -= 1
    return pd.Series(np.cumsum(changes[:-1]) > 0, index=index.rename("open_time"), name="in_position")


def _utc(nanoseconds: NDArray[np.int64]) -> pd.DatetimeIndex:
    return pd.DatetimeIndex(nanoseconds.view("datetime64[ns]")).tz_localize("UTC")
