"""Intervals of a backtest's figures: they hold what was measured and what is true, or are not there."""

from dataclasses import fields

import numpy as np
import pandas as pd
import pytest

from cvntrade_assets.trading.backtest import OPEN, Backtest
from cvntrade_assets.trading.metrics import Performance, measure
from cvntrade_assets.trading.performance_intervals import performance_intervals
from cvntrade_assets.trading.resampling import UNDEFINED

HOUR = pd.Timedelta("1h")
PATH = ("total_return", "sortino", "sharpe", "max_drawdown")
TRADES = ("hit_rate", "expectancy_net", "profit_factor")
START = pd.Timestamp("2025-06-01", tz="UTC")


def backtest(returns: np.ndarray, net: np.ndarray, kinds: list[str] | None = None) -> Backtest:
    """A backtest with these returns per hourly candle and these net returns per trade; the two need not agree."""
    times = pd.date_range(START, periods=len(returns), freq=HOUR, name="open_time", unit="ns")
    trades = pd.DataFrame({"exit_kind": kinds or ["tp"] * len(net), "net_return_1x": net, "net_return_2x": net - 0.1})
    equity = np.cumprod(1 + returns)
    return Backtest(
        trades=trades,
        equity=pd.DataFrame({"1x": equity, "2x": equity**0.5}, index=times),
        in_position=pd.Series(False, index=times),
        fraction=1.0,
        signals=len(net),
        without_entry=0,
    )


def noise(n: int, seed: int, mean: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(mean, 0.004, n)


def found(of: Backtest, **options: float) -> dict:
    return performance_intervals(of, **{"interval": HOUR, "horizon": 4 * HOUR, "seed": 0, "n_boot": 200} | options)


def test_every_headline_figure_has_an_interval_around_it() -> None:
    of = backtest(noise(60 * 24, 1, mean=1e-4), noise(80, 2, mean=5e-4))
    intervals, measured = found(of), measure(of, interval=HOUR)
    assert set(intervals) == {*PATH, *TRADES} <= {field.name for field in fields(Performance)}
    for name in {*PATH, *TRADES} - {"max_drawdown"}:
        low, high = intervals[name]
        assert low < getattr(measured, name) < high, name
    low, high = intervals["max_drawdown"]
    assert 0.0 < low < high < 1.0


def test_intervals_are_of_the_cost_level_asked_for() -> None:
    of = backtest(noise(600, 1), noise(80, 2))
    assert found(of)["expectancy_net"] == pytest.approx(
        tuple(end + 0.1 for end in found(of, cost_level=2.0)["expectancy_net"])
    )
    assert found(of)["total_return"] != found(of, cost_level=2.0)["total_return"]


def test_the_sharpe_ratio_is_held_about_as_often_as_promised() -> None:
    true = 2e-4 / 0.004 * np.sqrt(365 * 24)
    held = 0
    for seed in range(40):
        low, high = found(backtest(noise(40 * 24, seed, mean=2e-4), np.zeros(0)), n_boot=100, seed=seed)["sharpe"]
        held += low <= true <= high
    # Nominal: 36; forty blocks of a day are few.
    assert held >= 31


def test_a_trade_that_the_end_cut_off_is_no_trade() -> None:
    net = noise(41, 3)
    net[-1] = 5.0
    with_open = backtest(noise(600, 1), net, ["tp"] * 40 + [OPEN])
    assert found(with_open)["expectancy_net"] == found(backtest(noise(600, 1), net[:40]))["expectancy_net"]


def test_nothing_traded_has_no_interval() -> None:
    assert found(backtest(np.zeros(600), np.zeros(0))) == dict.fromkeys((*PATH, *TRADES), UNDEFINED)


@pytest.mark.parametrize(("trades", "is_defined"), [(1, False), (11, False), (12, True)])
def test_few_trades_have_no_interval(trades: int, is_defined: bool) -> None:
    intervals = found(backtest(noise(600, 1), noise(trades, 2)))
    assert (intervals["expectancy_net"] != UNDEFINED) == is_defined
    assert intervals["sharpe"] != UNDEFINED


@pytest.mark.parametrize(
    ("days", "horizon", "is_defined"), [(4, 4, False), (5, 4, True), (9, 24, False), (10, 24, True)]
)
def test_few_days_have_no_interval(days: int, horizon: int, is_defined: bool) -> None:
    intervals = found(backtest(noise(days * 24, 1), noise(40, 2)), horizon=horizon * HOUR)
    assert {intervals[name] != UNDEFINED for name in PATH} == {is_defined}


def test_trades_that_all_won_have_no_interval_of_what_losses_decide() -> None:
    intervals = found(backtest(noise(600, 1), np.abs(noise(40, 2))))
    assert intervals["hit_rate"] == intervals["profit_factor"] == UNDEFINED
    assert intervals["expectancy_net"][0] > 0.0
