"""How well a backtest did: the numbers that people quote, each with its formula, and None where it is undefined."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cvntrade_assets.trading.backtest import OPEN, Backtest
from cvntrade_assets.trading.cost_levels import JUDGED_LEVEL, level_column
from cvntrade_assets.trading.equity_kernel import path_sums

YEAR = pd.Timedelta(days=365)
"""Crypto markets never close: a year has all of its days, and 365 days / interval candles."""

_DAY = pd.Timedelta(days=1)
_EPSILON = float(np.finfo(np.float64).eps)
# Square of a return that is nothing but a few roundings of the equity.
_NOISE = (8.0 * _EPSILON) ** 2


class EquityMeasures(NamedTuple):
    """What an equity curve alone says; None where it is undefined.

    Attributes:
        total_return: Last equity - 1, as a fraction of what it began with.
        sortino: See `measure_equity`.
        sharpe: See `measure_equity`.
        max_drawdown: Deepest fall from the highest equity so far, as a positive share of it.
    """

    total_return: float | None
    sortino: float | None
    sharpe: float | None
    max_drawdown: float | None


class TradeMeasures(NamedTuple):
    """What the net returns of trades alone say, see `Performance`; None where it is undefined."""

    hit_rate: float | None
    expectancy_net: float | None
    profit_factor: float | None


@dataclass(frozen=True, slots=True)
class Performance:
    """What a backtest came to at one cost level; shares are fractions (0 to 1), None is undefined and never 0.

    Trades here are those that ended by a rule: the one that the end of the candles cut off shows in equity, exposure
    and turnover only.

    Attributes:
        n_trades: How many trades.
        hit_rate: Share of trades with a net return above 0.
        expectancy_net: Mean net return of a trade on its stake.
        profit_factor: Sum of the net returns above 0 over the absolute sum of those below; None without a loss.
        sortino: Sortino ratio of the equity, see `measure_equity`.
        sharpe: Sharpe ratio of the equity, see `measure_equity`.
        max_drawdown: Deepest fall from the highest equity so far, as a positive share of it.
        turnover: How many times a year the account is turned over: half of what was paid and received, costs included,
            over the mean equity, and over the length of the backtest in years of 365 days.
        exposure: Share of candles during which something was held.
        total_return: Last equity - 1.
        tp_pct: Share of trades that hit their target.
        sl_pct: Share of trades that hit their stop.
        timeout_pct: Share of trades that reached their deadline.
    """

    n_trades: int
    hit_rate: float | None
    expectancy_net: float | None
    profit_factor: float | None
    sortino: float | None
    sharpe: float | None
    max_drawdown: float | None
    turnover: float | None
    exposure: float | None
    total_return: float | None
    tp_pct: float | None
    sl_pct: float | None
    timeout_pct: float | None


def measure(backtest: Backtest, *, interval: pd.Timedelta, level: float = JUDGED_LEVEL) -> Performance:
    """Measure a backtest at one of its cost levels.

    Args:
        backtest: The backtest.
        interval: Timeframe of the candles it ran on.
        level: The cost level.

    Raises:
        ValueError: The backtest was not accounted at that level.
    """
    column = level_column(level)
    if column not in backtest.equity:
        raise ValueError(f"cost level {column}: expected one of the backtest's, {', '.join(backtest.equity.columns)}")
    equity = backtest.equity[column]
    path = measure_equity(equity, interval=interval)
    kinds = backtest.trades["exit_kind"].to_numpy(dtype=object)
    ended = kinds != OPEN
    returns = backtest.trades[f"net_return_{column}"].to_numpy()
    trades, count = measure_trades(returns[ended]), int(ended.sum())
    return Performance(
        n_trades=count,
        hit_rate=trades.hit_rate,
        expectancy_net=trades.expectancy_net,
        profit_factor=trades.profit_factor,
        sortino=path.sortino,
        sharpe=path.sharpe,
        max_drawdown=path.max_drawdown,
        turnover=_turnover(backtest, returns, equity.to_numpy(), interval),
        exposure=_ratio(float(backtest.in_position.sum()), len(equity)),
        total_return=path.total_return,
        tp_pct=_ratio(float((kinds == "tp").sum()), count),
        sl_pct=_ratio(float((kinds == "sl").sum()), count),
        timeout_pct=_ratio(float((kinds == "timeout").sum()), count),
    )


def measure_trades(net: NDArray[np.float64]) -> TradeMeasures:
    """Measure trades by their net returns, one each, on what they staked."""
    losses = -float(net[net < 0.0].sum())
    return TradeMeasures(
        hit_rate=_ratio(float((net > 0.0).sum()), len(net)),
        expectancy_net=_ratio(float(net.sum()), len(net)),
        profit_factor=_ratio(float(net[net > 0.0].sum()), losses),
    )


def measure_equity(equity: pd.Series, *, interval: pd.Timedelta) -> EquityMeasures:
    """Measure an equity curve, such as a column of `Backtest.equity`.

    With r_1 … r_n the simple returns from each candle's close to the next one's, the first of them from 1, flat candles
    included, and N = 365 days / interval candles in a year:

    - Sharpe = sqrt(N) * mean(r) / s, where s is the sample standard deviation (Sharpe 1994, The Sharpe Ratio, with a
      benchmark of 0; annualised as if returns were independent, see Lo 2002, The Statistics of Sharpe Ratios).
    - Sortino = sqrt(N) * mean(r) / sqrt(sum(min(r, 0)²) / n): the downside deviation below 0 over all n candles, not
      only over the losing ones (Sortino & Price 1994, Performance Measurement in a Downside Risk Framework).
    - Drawdown = 1 - equity / highest equity so far, the 1 at the beginning included.

    A ratio whose deviation is 0 is undefined, as are all four without a candle. A return across missing candles is one
    return.

    Args:
        equity: float64, finite, positive, one per candle, in multiples of what it began with before the first of them.
        interval: The candles' timeframe.

    Raises:
        ValueError: A value is not finite and positive, or the interval is not positive.
    """
    values = np.ascontiguousarray(equity.to_numpy(dtype=np.float64))
    n, yearly = len(values), _candles_a_year(interval)
    if not n:
        return EquityMeasures(None, None, None, None)
    if not (values.min() > 0.0 and values.max() < np.inf):
        raise ValueError(f"equity spans {values.min()} to {values.max()}: expected finite values above 0")
    total, squares, downside, lowest = path_sums(values)
    spread = squares - total * total / n
    # What rounding leaves of equal returns, or makes of an equity that stands still, is no deviation.
    varies = n > 1 and spread > n * (_EPSILON * squares + _NOISE)
    falls = downside > n * _NOISE
    return EquityMeasures(
        total_return=float(values[-1] - 1.0),
        sortino=math.sqrt(yearly) * (total / n) / math.sqrt(downside / n) if falls else None,
        sharpe=math.sqrt(yearly) * (total / n) / math.sqrt(spread / (n - 1)) if varies else None,
        max_drawdown=1.0 - lowest,
    )


def daily_returns(equity: pd.Series, *, interval: pd.Timedelta) -> pd.Series:
    """Simple returns of an equity curve over whole UTC days.

    A day is whole when it lies between the first candle's open and the last candle's close; candles missing within make
    it no less whole, and a day without any returns 0. What the curve did before its first whole day and after its last
    is left out.

    Args:
        equity: float64 per candle, index open times (UTC), in multiples of what it began with before the first of them.
        interval: The candles' timeframe.

    Returns:
        float64, index the days' first instants, named `day`; empty when no day is whole.
    """
    days = pd.DatetimeIndex([], dtype="datetime64[ns, UTC]", name="day")
    if equity.empty:
        return pd.Series([], index=days, dtype="float64", name=equity.name)
    opens = pd.DatetimeIndex(equity.index)
    bounds = pd.date_range(opens[0].ceil("D"), (opens[-1] + interval).floor("D"), freq=_DAY, unit="ns")
    if len(bounds) <= 1:
        return pd.Series([], index=days, dtype="float64", name=equity.name)
    # Known at a moment is the last candle that had closed by then; before the first of them, 1.
    known = (opens + interval).searchsorted(bounds, side="right")
    worth = np.concatenate([[1.0], equity.to_numpy(dtype=np.float64)])[known]
    return pd.Series(worth[1:] / worth[:-1] - 1.0, index=bounds[:-1].rename("day"), name=equity.name)


def _ratio(part: float, whole: float) -> float | None:
    """Part over whole; None when there is no whole."""
    return part / whole if whole > 0.0 else None


def _candles_a_year(interval: pd.Timedelta) -> float:
    if interval <= pd.Timedelta(0):
        raise ValueError(f"interval is {interval}: expected a positive duration, the timeframe of the candles")
    return YEAR / interval


def _turnover(
    backtest: Backtest, net: NDArray[np.float64], equity: NDArray[np.float64], interval: pd.Timedelta
) -> float | None:
    """See `Performance.turnover`."""
    if not len(equity):
        return None
    before = np.cumprod(np.concatenate([[1.0], 1.0 + backtest.fraction * net]))[:-1]
    exchanged = backtest.fraction * before * (2.0 + net)
    years = len(equity) / _candles_a_year(interval)
    return float(exchanged.sum()) / 2.0 / float(equity.mean()) / years
