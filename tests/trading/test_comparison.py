"""A strategy beside its baselines: the same candles, costs and execution, and nothing that is not covered."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from cvntrade_assets.market.volatility import average_true_range
from cvntrade_assets.trading.backtest import buy_and_hold, run_backtest
from cvntrade_assets.trading.comparison import ComparisonError, compare, covered
from cvntrade_assets.trading.costs import Costs
from cvntrade_assets.trading.execution import Execution
from cvntrade_assets.trading.pte import PTE
from cvntrade_assets.trading.signals import above_trend, signals_at

COARSE, FINE = pd.Timedelta("30min"), pd.Timedelta("5min")
POINT = PTE(4, 1.0, 2.0)
COSTS = Costs(7.5, 2.5)
LEVELS = (0.0, 1.0, 2.0)
PLAIN = Execution(COSTS)
Candles = Callable[..., pd.DataFrame]


def coarse_of(fine: pd.DataFrame) -> pd.DataFrame:
    """The same market in half hours."""
    how = {"open": "first", "high": "max", "low": "min", "close": "last", "volume": "sum", "complete": "all"}
    return fine.resample(COARSE).agg(how)


@pytest.fixture(scope="module")
def fine(random_candles: Candles) -> pd.DataFrame:
    return random_candles(6 * 600, seed=5, interval="5min")


@pytest.fixture(scope="module")
def asked(fine: pd.DataFrame) -> pd.Series:
    """Whether each of the last 200 half hours is to be traded."""
    times = coarse_of(fine).index[-200:]
    return pd.Series(np.random.default_rng(1).random(200) < 0.3, times)


def compared(fine: pd.DataFrame, asked: pd.Series, execution: Execution = PLAIN):
    return compare(
        fine,
        coarse_of(fine),
        asked,
        POINT,
        fine_interval=FINE,
        interval=COARSE,
        execution=execution,
        levels=LEVELS,
    )


def alone(fine: pd.DataFrame, said: pd.Series, execution: Execution):
    candles = coarse_of(fine)
    return run_backtest(
        fine[fine.index >= said.index[0]],
        signals_at(said, average_true_range(candles), interval=COARSE),
        POINT,
        interval=FINE,
        costs=execution.costs,
        levels=LEVELS,
        fraction=execution.fraction,
        cooldown=execution.cooldown,
    )


EXECUTIONS = {
    "plain": PLAIN,
    "half": Execution(COSTS, 0.5),
    "patient": Execution(COSTS, cooldown=4 * COARSE),
    "with the trend": Execution(COSTS, trend="ema_50"),
}


@pytest.mark.parametrize("name", EXECUTIONS)
def test_each_is_the_backtest_that_it_would_be_alone(fine: pd.DataFrame, asked: pd.Series, name: str):
    execution = EXECUTIONS[name]
    found = compared(fine, asked, execution)
    allowed = above_trend(coarse_of(fine)["close"], execution.trend).loc[asked.index]
    for backtest, said in ((found.backtest, asked & allowed), (found.always_buy, allowed)):
        expected = alone(fine, said, execution)
        pd.testing.assert_frame_equal(backtest.trades, expected.trades)
        pd.testing.assert_frame_equal(backtest.equity, expected.equity)
        assert len(backtest.trades)


def test_all_three_lie_on_the_same_candles_from_the_first_question_on(fine: pd.DataFrame, asked: pd.Series):
    found = compared(fine, asked)
    window = fine.index[fine.index >= asked.index[0]]
    for curve in (found.backtest.equity, found.always_buy.equity, found.buy_and_hold):
        assert curve.index.equals(window)
        assert list(curve.columns) == ["0x", "1x", "2x"]
    held = buy_and_hold(fine.loc[window], interval=FINE, costs=COSTS, levels=LEVELS)
    pd.testing.assert_frame_equal(found.buy_and_hold, held)


def test_nothing_said_trades_nothing_and_the_baselines_stay(fine: pd.DataFrame, asked: pd.Series):
    silent, spoken = compared(fine, asked & False), compared(fine, asked)
    assert silent.backtest.trades.empty and (silent.backtest.equity == 1.0).all().all()
    pd.testing.assert_frame_equal(silent.always_buy.trades, spoken.always_buy.trades)


def test_covered_are_the_candles_that_open_with_the_fine_ones_or_later(fine: pd.DataFrame, asked: pd.Series):
    times = pd.DatetimeIndex(asked.index)
    assert covered(times, fine).equals(times)
    begins = times[50]
    for late, first in ((fine[begins:], 50), (fine[begins + FINE :], 51), (fine[:0], 200)):
        assert covered(times, late).equals(times[first:])


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda fine, asked: (fine, asked[:0]), "asked about no candle"),
        (lambda fine, asked: (fine, asked.set_axis(asked.index + FINE)), "200 rows are of no candle"),
        (lambda fine, asked: (fine[asked.index[3] :], asked), "3 of 200 rows open before"),
        (lambda fine, asked: (fine[asked.index[0] + FINE :], asked), r"CVN_BACKTEST_DAYS"),
    ],
)
def test_what_is_not_covered_is_refused(fine: pd.DataFrame, asked: pd.Series, change, complaint: str):
    candles, said = change(fine, asked)
    with pytest.raises(ComparisonError, match=complaint):
        compare(
            candles,
            coarse_of(fine),
            said,
            POINT,
            fine_interval=FINE,
            interval=COARSE,
            execution=Execution(COSTS),
            levels=LEVELS,
        )
