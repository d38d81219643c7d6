"""A backtest beside what the same candles give without a model: buying at every signal, and buying once and holding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from cvntrade_assets.market.volatility import average_true_range
from cvntrade_assets.trading.backtest import Backtest, buy_and_hold, run_backtest
from cvntrade_assets.trading.execution import Execution
from cvntrade_assets.trading.pte import PTE
from cvntrade_assets.trading.signals import above_trend, signals_at


class ComparisonError(ValueError):
    """Signals do not lie on the candles that they are to be traded on; says where, and what to do."""


@dataclass(frozen=True, eq=False)
class Compared:
    """A strategy and its two baselines on the same candles and at the same costs.

    Attributes:
        backtest: The strategy.
        always_buy: A signal at every candle that the strategy was asked about, executed alike.
        buy_and_hold: Equity of buying at the first open and selling at the last close, as `Backtest.equity`. It stakes
            everything, whatever the position fraction is.
    """

    backtest: Backtest
    always_buy: Backtest
    buy_and_hold: pd.DataFrame


def covered(times: pd.DatetimeIndex, fine: pd.DataFrame) -> pd.DatetimeIndex:
    """The signal candles whose whole course lies on the fine candles: those that open with the first one or later.

    Args:
        times: Open times of signal candles.
        fine: Candle frame that trades are to be simulated on.
    """
    return times[:0] if fine.empty else times[times >= fine.index[0]]


def compare(
    fine: pd.DataFrame,
    candles: pd.DataFrame,
    signal: pd.Series,
    pte: PTE,
    *,
    fine_interval: pd.Timedelta,
    interval: pd.Timedelta,
    execution: Execution,
    levels: Sequence[float],
) -> Compared:
    """Trade a model's signals, and both baselines, on the candles from the first moment it was asked about on.

    The trend filter holds for the strategy and for always-BUY alike.

    Args:
        fine: Candle frame that trades are simulated on; what lies before the first signal candle is left out.
        candles: Candle frame that the model was asked about, with its past: ATR and trend are read from it.
        signal: bool, whether the candle is to be traded, one row per candle that the model was asked about, index
            `open_time` strictly increasing.
        pte: Stop, target and horizon.
        fine_interval: Timeframe of `fine`.
        interval: Timeframe of `candles`.
        execution: Costs, position size, cooldown and trend filter; buy-and-hold pays the costs and stakes everything.
        levels: Multiples of the costs.

    Raises:
        ComparisonError: The model was asked about nothing, about a candle that is not there, or about one that opens
            before the fine candles do.
        ValueError: As `run_backtest`.
    """
    times = pd.DatetimeIndex(signal.index)
    _refuse_uncovered(times, fine, pd.DatetimeIndex(candles.index))
    window = fine[fine.index >= times[0]]
    atr = average_true_range(candles)
    allowed = above_trend(candles["close"], execution.trend).loc[times]
    strategy, every = (
        run_backtest(
            window,
            signals_at(flags, atr, interval=interval),
            pte,
            interval=fine_interval,
            costs=execution.costs,
            levels=levels,
            fraction=execution.fraction,
            cooldown=execution.cooldown,
        )
        for flags in (signal & allowed, allowed)
    )
    return Compared(strategy, every, buy_and_hold(window, interval=fine_interval, costs=execution.costs, levels=levels))


def _refuse_uncovered(times: pd.DatetimeIndex, fine: pd.DataFrame, known: pd.DatetimeIndex) -> None:
    if times.empty:
        raise ComparisonError("the model was asked about no candle, so there is nothing to trade; widen the window")
    strangers = times.difference(known)
    if len(strangers):
        raise ComparisonError(
            f"{len(strangers)} rows are of no candle, first {strangers[0]}; pass the candles that the rows come from"
        )
    early = len(times) - len(covered(times, fine))
    if early:
        begins = "there are none" if fine.empty else f"they begin at {fine.index[0]}"
        raise ComparisonError(
            f"{early} of {len(times)} rows open before the candles to trade on ({begins}), first {times[0]}; keep "
            "the covered rows only, or load more days of fine candles (CVN_BACKTEST_DAYS)"
        )
