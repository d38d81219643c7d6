"""A slow, obvious account of a backtest, for tests of the fast one to agree with.

It goes through the candles one by one with a purse of cash and coins per cost level, pays what a buyer pays and gets
what a seller gets, and asks `slow_ending` how the trade it has just opened will end.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd
from slow_fills import Ending, candles_by_time, slow_ending


@dataclass
class Purse:
    """What one account holds."""

    fee: float
    slippage: float
    cash: float = 1.0
    coins: float = 0.0
    staked: float = 0.0
    returns: list[float] = field(default_factory=list)

    def buy(self, price: float, fraction: float) -> None:
        """Spend a share of the cash; the fee comes out of it."""
        self.staked = self.cash * fraction
        value_bought = self.staked / (1 + self.fee)
        self.coins = value_bought / (price * (1 + self.slippage))
        self.cash -= self.staked

    def sell(self, price: float) -> None:
        """Sell every coin; the fee is taken from what they bring."""
        value_sold = self.coins * price * (1 - self.slippage)
        got = value_sold - value_sold * self.fee
        self.returns.append(got / self.staked - 1)
        self.cash, self.coins = self.cash + got, 0.0


@dataclass
class SlowBacktest:
    """Trades as (entry time, exit time, entry price, exit price, kind, ambiguous), nanoseconds; the rest per candle."""

    trades: list[tuple[int, int, float, float, str, bool]]
    purses: list[Purse]
    equity: list[list[float]]
    in_position: list[bool]


def slow_backtest(
    candles: pd.DataFrame,
    signals: Mapping[int, float],
    *,
    stop_loss: float,
    take_profit: float,
    horizon: int,
    interval: int,
    fee: float,
    slippage: float,
    levels: Sequence[float],
    fraction: float,
    cooldown: int,
) -> SlowBacktest:
    """Trade signals (ATR by the moment of the signal); times in nanoseconds, fee and slippage as fractions."""
    by_time = candles_by_time(candles)
    found = SlowBacktest([], [Purse(fee * level, slippage * level) for level in levels], [], [])
    entered, ending, free_from = -1, Ending("none"), -math.inf
    for now, (open_, _, _, close) in by_time.items():
        unit = signals.get(now, math.nan)
        if entered < 0 and now >= free_from and unit > 0:
            entered = now
            ending = slow_ending(
                by_time,
                now - interval,
                unit,
                stop_loss=stop_loss,
                take_profit=take_profit,
                is_long=True,
                horizon=horizon,
                interval=interval,
            )
            for purse in found.purses:
                purse.buy(open_, fraction)
        held = entered >= 0
        if held and ending.kind == "undecided" and now == max(by_time):
            ending = Ending("open", now, close)
        if held and ending.candle == now:
            for purse in found.purses:
                purse.sell(ending.price)
            exit_time = now if ending.at_open else now + interval
            entry_price = by_time[entered][0]
            found.trades.append((entered, exit_time, entry_price, ending.price, ending.kind, ending.ambiguous))
            entered, free_from = -1, now + interval + cooldown
        found.in_position.append(held)
        found.equity.append([purse.cash + purse.coins * close for purse in found.purses])
    return found
