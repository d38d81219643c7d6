"""What it would have earned to act on a model's answers over a period, beside always buying and buy-and-hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from cvntrade_assets.learning.history import History
from cvntrade_assets.trading.cost_levels import JUDGED_LEVEL, level_column

if TYPE_CHECKING:
    from cvntrade_assets.trading.comparison import Compared
    from cvntrade_assets.trading.execution import Execution
    from cvntrade_assets.trading.metrics import EquityMeasures, Performance
    from cvntrade_assets.trading.pte import PTE

MOST_UNCOVERED = pd.Timedelta(days=1)
"""How much of a period's begin, and of its end, the candles to trade it on may lack."""


@dataclass(frozen=True, eq=False)
class Traded:
    """A backtest, what it came to at the judged costs, and its baselines on the same candles.

    Attributes:
        compared: The backtests themselves, at every cost level.
        performance: Of acting on the model's answers.
        always_buy: Of a signal at every candle asked about, executed alike.
        buy_and_hold: Of buying at the first open and selling at the last close.
        daily: Net returns of the strategy, per whole UTC day.
    """

    compared: Compared
    performance: Performance
    always_buy: Performance
    buy_and_hold: EquityMeasures
    daily: pd.Series


def trade(
    history: History,
    signal: pd.Series,
    fine: pd.DataFrame,
    pte: PTE,
    execution: Execution,
    *,
    interval: pd.Timedelta,
    levels: Sequence[float],
) -> Traded:
    """Simulate the trades that a model's answers over a period lead to; see `trading.comparison.compare`.

    A period of fine candles may begin a little after that of the answers, which lie on a coarser grid, or end a little
    before it: what was answered outside of it is not traded.

    Args:
        history: The market that the model was asked about.
        signal: bool, whether the candle is to be traded, index open times of the history's candles of the period.
        fine: What trades are simulated on: the period's candles, those of the history or finer ones.
        pte: Stop, target and horizon.
        execution: Costs, position size, cooldown, trend filter.
        interval: Timeframe of `fine`.
        levels: Multiples of the costs to pay; 1 is one of them.

    Raises:
        ValueError: The fine candles lack more than a day of the period's begin or end, or as `compare`.
    """
    from cvntrade_assets.trading.comparison import compare, covered

    _refuse_another_period(fine, pd.DatetimeIndex(signal.index), interval, history.interval)
    compared = compare(
        fine,
        history.candles,
        signal.loc[covered(pd.DatetimeIndex(signal.index), fine)],
        pte,
        fine_interval=interval,
        interval=history.interval,
        execution=execution,
        levels=levels,
    )
    return measured(compared, interval=interval)


def _refuse_another_period(
    fine: pd.DataFrame, asked: pd.DatetimeIndex, interval: pd.Timedelta, asked_interval: pd.Timedelta
) -> None:
    """A period that is traded in part would pass for the whole of it."""
    ends = asked[-1] + asked_interval
    if fine.empty:
        said = "there are none"
    elif fine.index[0] - asked[0] > MOST_UNCOVERED or ends - (fine.index[-1] + interval) > MOST_UNCOVERED:
        said = f"they last from {fine.index[0]} to {fine.index[-1] + interval}"
    else:
        return
    raise ValueError(
        f"the {interval} candles to trade on do not cover the period from {asked[0]} to {ends}: {said}; build the "
        "backtest candles with the same CVN_AS_OF and CVN_BACKTEST_DAYS"
    )


def measured(compared: Compared, *, interval: pd.Timedelta) -> Traded:
    """What a backtest and its baselines come to at the judged costs.

    Args:
        compared: The backtests.
        interval: Timeframe of the candles that they ran on.
    """
    from cvntrade_assets.trading.metrics import daily_returns, measure, measure_equity

    judged = level_column(JUDGED_LEVEL)
    return Traded(
        compared,
        measure(compared.backtest, interval=interval, level=JUDGED_LEVEL),
        measure(compared.always_buy, interval=interval, level=JUDGED_LEVEL),
        measure_equity(compared.buy_and_hold[judged], interval=interval),
        daily_returns(compared.backtest.equity[judged], interval=interval),
    )
