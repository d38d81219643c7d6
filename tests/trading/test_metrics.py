"""Metrics: agreement with the textbook's formulas in pandas, small cases by hand, and None where nothing is defined."""

import math
from collections.abc import Callable
from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cvntrade_assets.market.volatility import average_true_range
from cvntrade_assets.trading.backtest import OPEN, Backtest, buy_and_hold, run_backtest
from cvntrade_assets.trading.costs import Costs
from cvntrade_assets.trading.metrics import daily_returns, measure, measure_equity
from cvntrade_assets.trading.pte import PTE

Candles = Callable[..., pd.DataFrame]

INTERVAL = pd.Timedelta("30min")
HALF_HOURS_A_YEAR = 365 * 48
START = pd.Timestamp("2024-01-01", tz="UTC")


def curve(values: list[float], start: str = "2024-01-01", interval: pd.Timedelta = INTERVAL) -> pd.Series:
    """An equity curve, one value a candle."""
    index = pd.date_range(start, periods=len(values), freq=interval, tz="UTC", name="open_time", unit="ns")
    return pd.Series(values, index=index, dtype=float, name="1x")


def textbook(equity: pd.Series, yearly: float) -> tuple[float, float, float, float]:
    """Total return, Sortino, Sharpe and drawdown as pandas users write them."""
    whole = pd.concat([pd.Series([1.0]), equity])
    returns = whole.pct_change().dropna()
    downside = math.sqrt((returns[returns < 0] ** 2).sum() / len(returns))
    return (
        (1 + returns).prod() - 1,
        returns.mean() / downside * math.sqrt(yearly),
        returns.mean() / returns.std() * math.sqrt(yearly),
        -(whole / whole.cummax() - 1).min(),
    )


@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(3, 400),
    flat=st.sampled_from([0.0, 0.5, 0.95]),
    minutes=st.sampled_from([5, 30, 60]),
)
def test_an_equity_curve_measures_as_in_the_textbook(seed: int, n: int, flat: float, minutes: int) -> None:
    rng = np.random.default_rng(seed)
    returns = np.where(rng.random(n) < flat, 0.0, rng.normal(0, 0.01, n))
    returns[0], returns[-1] = -0.01, 0.02
    equity = curve(list(np.cumprod(1 + returns)), interval=pd.Timedelta(minutes=minutes))
    found = measure_equity(equity, interval=pd.Timedelta(minutes=minutes))
    assert found == pytest.approx(textbook(equity, 365 * 24 * 60 / minutes), rel=1e-8, abs=1e-10)


def test_ratios_by_hand() -> None:
    # Returns of +10 %, -10 %, 0 and +20 %.
    found = measure_equity(curve([1.1, 0.99, 0.99, 1.188]), interval=INTERVAL)
    assert found.total_return == pytest.approx(0.188)
    assert found.sortino == pytest.approx(math.sqrt(HALF_HOURS_A_YEAR) * 0.05 / 0.05)
    assert found.sharpe == pytest.approx(math.sqrt(HALF_HOURS_A_YEAR) * 0.05 / math.sqrt(0.05 / 3))
    assert found.max_drawdown == pytest.approx(0.1)


def test_a_fall_from_the_beginning_is_a_drawdown() -> None:
    assert measure_equity(curve([0.8, 0.9]), interval=INTERVAL).max_drawdown == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("values", "defined"),
    [
        pytest.param([], set(), id="no candle"),
        pytest.param([1.1], {"total_return", "max_drawdown"}, id="one gain: nothing varies, nothing falls"),
        pytest.param([0.9], {"total_return", "max_drawdown", "sortino"}, id="one loss"),
        pytest.param([1.0, 1.0, 1.0], {"total_return", "max_drawdown"}, id="flat"),
        pytest.param(list(1.0001 ** np.arange(1, 500)), {"total_return", "max_drawdown"}, id="equal gains"),
        pytest.param([1.0 - 2**-53, 1.0, 1.0 - 2**-53] * 9, {"total_return", "max_drawdown"}, id="rounding"),
        pytest.param([1.0 - 1e-12, 1.0], {"total_return", "max_drawdown", "sharpe", "sortino"}, id="hardly anything"),
        pytest.param([1.1, 1.2], {"total_return", "max_drawdown", "sharpe"}, id="gains only"),
        pytest.param([1.1, 1.0], {"total_return", "max_drawdown", "sharpe", "sortino"}, id="all of it"),
    ],
)
def test_what_an_equity_curve_does_not_define_is_none(values: list[float], defined: set[str]) -> None:
    found = measure_equity(curve(values), interval=INTERVAL)._asdict()
    assert {name for name, value in found.items() if value is not None} == defined


@pytest.mark.parametrize("value", [0.0, -0.1, float("nan"), float("inf")])
def test_an_equity_that_can_not_be_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="expected finite values above 0"):
        measure_equity(curve([1.0, value, 1.0]), interval=INTERVAL)
    with pytest.raises(ValueError, match="interval is 0 days"):
        measure_equity(curve([1.0, 1.1]), interval=pd.Timedelta(0))


def backtest_of(trades: list[tuple[str, float]], equity: list[float], held: list[bool], fraction: float) -> Backtest:
    """A backtest by hand; trades are exit kind and net return."""
    index = curve(equity).index
    kinds = pd.CategoricalDtype(["tp", "sl", "timeout", OPEN])
    table = pd.DataFrame(trades, columns=["exit_kind", "net_return_1x"]).astype(
        {"exit_kind": kinds, "net_return_1x": float}
    )
    return Backtest(table, curve(equity).to_frame("1x"), pd.Series(held, index, dtype=bool), fraction, len(trades), 0)


def test_performance_by_hand() -> None:
    trades = [("tp", 0.2), ("sl", -0.1), ("timeout", 0.0), ("tp", 0.3), (OPEN, -0.5)]
    worth = [1.1, 1.045, 1.045, 1.20175, 0.9013125, 0.9013125]
    found = measure(backtest_of(trades, worth, [True] * 5 + [False], 0.5), interval=INTERVAL)
    before = [1.0, 1.1, 1.045, 1.045, 1.20175]
    paid_and_received = sum(0.5 * b * (2 + net) for b, (_, net) in zip(before, trades, strict=True))
    years = 6 / HALF_HOURS_A_YEAR
    assert asdict(found) == pytest.approx(
        {
            "n_trades": 4,
            "hit_rate": 0.5,
            "expectancy_net": 0.1,
            "profit_factor": 5.0,
            "sortino": textbook(curve(worth), HALF_HOURS_A_YEAR)[1],
            "sharpe": textbook(curve(worth), HALF_HOURS_A_YEAR)[2],
            "max_drawdown": 1 - 0.9013125 / 1.20175,
            "turnover": paid_and_received / 2 / (sum(worth) / 6) / years,
            "exposure": 5 / 6,
            "total_return": 0.9013125 - 1,
            "tp_pct": 0.5,
            "sl_pct": 0.25,
            "timeout_pct": 0.25,
        }
    )


def test_without_a_trade_what_trades_define_is_none() -> None:
    found = asdict(measure(backtest_of([], [1.0, 1.0], [False, False], 1.0), interval=INTERVAL))
    defined = {name: value for name, value in found.items() if value is not None}
    assert defined == {"n_trades": 0, "max_drawdown": 0.0, "turnover": 0.0, "exposure": 0.0, "total_return": 0.0}


def test_a_trade_that_has_not_ended_is_no_trade_yet() -> None:
    found = measure(backtest_of([(OPEN, -0.1)], [0.95, 0.9], [True, True], 1.0), interval=INTERVAL)
    assert (found.n_trades, found.hit_rate, found.expectancy_net, found.tp_pct) == (0, None, None, None)
    assert found.total_return == pytest.approx(-0.1)
    assert (found.exposure, found.turnover) == (1.0, pytest.approx(1.9 / 2 / 0.925 * HALF_HOURS_A_YEAR / 2))


def test_without_a_candle_nothing_is_defined() -> None:
    found = asdict(measure(backtest_of([], [], [], 1.0), interval=INTERVAL))
    assert {name: value for name, value in found.items() if value is not None} == {"n_trades": 0}


@pytest.mark.parametrize(
    ("trades", "factor"),
    [([("tp", 0.2)], None), ([("sl", -0.2)], 0.0), ([("timeout", 0.0)], None), ([("tp", 0.2), ("sl", -0.1)], 2.0)],
)
def test_the_profit_factor_needs_a_loss(trades: list[tuple[str, float]], factor: float | None) -> None:
    found = measure(backtest_of(trades, [1.0], [True], 1.0), interval=INTERVAL)
    assert found.profit_factor == (None if factor is None else pytest.approx(factor))


@pytest.mark.parametrize("fraction", [1.0, 0.4])
def test_a_real_backtest_measures_as_its_trades_and_curve_say(random_candles: Candles, fraction: float) -> None:
    candles = random_candles(3000, seed=4)
    signals = pd.DataFrame({"atr": average_true_range(candles).to_numpy()}, index=candles.index + INTERVAL).iloc[::3]
    backtest = run_backtest(
        candles, signals, PTE(4, 1.0, 2.0), interval=INTERVAL, costs=Costs(7.5, 2.5), levels=(0, 1), fraction=fraction
    )
    for level in (0.0, 1.0):
        name = f"{level:g}x"
        found = measure(backtest, interval=INTERVAL, level=level)
        trades = backtest.trades[backtest.trades["exit_kind"] != OPEN]
        net, shares = trades[f"net_return_{name}"], trades["exit_kind"].value_counts(normalize=True)
        path = (found.total_return, found.sortino, found.sharpe, found.max_drawdown)
        assert path == pytest.approx(textbook(backtest.equity[name], HALF_HOURS_A_YEAR), rel=1e-9)
        assert (found.tp_pct, found.sl_pct, found.timeout_pct) == pytest.approx(
            (shares["tp"], shares["sl"], shares["timeout"])
        )
        assert found.n_trades == len(trades) > 200
        assert found.hit_rate == pytest.approx((net > 0).mean())
        assert found.expectancy_net == pytest.approx(net.mean())
        assert found.profit_factor == pytest.approx(net.clip(lower=0).sum() / -net.clip(upper=0).sum())
        assert found.exposure == pytest.approx(backtest.in_position.mean())
        # Before each trade the account is worth what the curve says at the close before its entry.
        worth = pd.concat([pd.Series([1.0]), backtest.equity[name]]).to_numpy()
        before = worth[candles.index.get_indexer(backtest.trades["entry_time"])]
        exchanged = (fraction * before * (2 + backtest.trades[f"net_return_{name}"])).sum()
        yearly = HALF_HOURS_A_YEAR / len(candles)
        assert found.turnover == pytest.approx(exchanged / 2 / backtest.equity[name].mean() * yearly)


def test_a_level_that_was_not_accounted_is_refused() -> None:
    with pytest.raises(ValueError, match="cost level 2x: expected one of the backtest's, 1x"):
        measure(backtest_of([], [1.0], [False], 1.0), interval=INTERVAL, level=2.0)


def test_a_year_has_all_its_days() -> None:
    slow = measure_equity(curve([1.1, 0.99, 0.99, 1.188]), interval=INTERVAL)
    fast = measure_equity(curve([1.1, 0.99, 0.99, 1.188]), interval=pd.Timedelta("5min"))
    assert fast.sharpe == pytest.approx(slow.sharpe * math.sqrt(6))


def test_daily_returns_by_hand() -> None:
    # From 18:00 on 1 January, every 6 hours: the day has one candle; 2 and 3 January are whole, 4 January is not.
    equity = curve([1.1, 1.2, 1.3, 1.2, 1.1, 1.0, 1.0, 1.0, 2.2, 3.0], "2024-01-01 18:00", pd.Timedelta("6h"))
    found = daily_returns(equity, interval=pd.Timedelta("6h"))
    assert found.index.tolist() == [pd.Timestamp("2024-01-02", tz="UTC"), pd.Timestamp("2024-01-03", tz="UTC")]
    assert found.tolist() == pytest.approx([1.1 / 1.1 - 1, 2.2 / 1.1 - 1])
    assert (found.index.name, found.name) == ("day", "1x")


def test_the_first_day_counts_from_what_the_account_began_with() -> None:
    found = daily_returns(curve([1.0] * 47 + [1.5] * 49), interval=INTERVAL)
    assert found.tolist() == pytest.approx([0.5, 0.0])


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 60), st.integers(0, 300))
def test_daily_returns_are_those_of_a_resampled_curve(seed: int, offset: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    begin = START + offset * INTERVAL
    equity = curve(list(np.cumprod(1 + rng.normal(0, 0.01, n))), str(begin.tz_localize(None)))
    kept = rng.random(n) < rng.choice([1.0, 0.6, 0.03])
    kept[:1] = True
    equity = equity[kept]
    found = daily_returns(equity, interval=INTERVAL)
    if equity.empty:
        assert found.empty
        return
    closes = equity.set_axis(equity.index + INTERVAL)
    closes = pd.concat([pd.Series([1.0], index=[begin]), closes])
    daily = closes.resample("1D", closed="right", label="right").last().ffill()
    daily = daily[(daily.index >= begin) & (daily.index <= closes.index[-1])]
    expected = daily.pct_change().dropna()
    assert found.index.tolist() == [day - pd.Timedelta(days=1) for day in expected.index]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


def test_daily_returns_multiply_to_the_whole(random_candles: Candles) -> None:
    candles = random_candles(48 * 5, seed=2)
    equity = buy_and_hold(candles, interval=INTERVAL, costs=Costs(7.5, 2.5))["1x"]
    daily = daily_returns(equity, interval=INTERVAL)
    assert len(daily) == 5
    assert (1 + daily).prod() == pytest.approx(equity.iloc[-1])


def test_measuring_does_not_depend_on_the_other_levels(random_candles: Candles) -> None:
    candles = random_candles(400, seed=6)
    signals = pd.DataFrame({"atr": 0.5}, index=candles.index[20::5])
    several = run_backtest(candles, signals, PTE(2, 1.0, 1.0), interval=INTERVAL, costs=Costs(5, 5), levels=(0, 1, 2))
    alone = replace(several, equity=several.equity[["1x"]].copy())
    assert measure(several, interval=INTERVAL) == measure(alone, interval=INTERVAL)
