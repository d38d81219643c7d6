"""The CUSUM filter: a table, a slow independent account, the counts checked on real candles, causality."""

import math
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from cvntrade_assets.learning.cusum import cusum_events
from cvntrade_assets.market.volatility import average_true_range

Candles = Callable[..., pd.DataFrame]


def closes(*log_prices: float) -> pd.DataFrame:
    index = pd.date_range("2024-01-01", periods=len(log_prices), freq="30min", tz="UTC", name="open_time", unit="ns")
    return pd.DataFrame({"close": np.exp(log_prices)}, index=index)


def slow_events(candles: pd.DataFrame, atr: pd.Series, h: float) -> tuple[list[pd.Timestamp], float]:
    """Event times from the definition, and how close the closest call was.

    The upward sum is how far the log price stands above its lowest since that side last triggered; the
    downward sum is how far it stands below its highest.
    """
    events: list[pd.Timestamp] = []
    since_up: list[float] = []
    since_down: list[float] = []
    closest, previous = math.inf, None
    for time, close in candles["close"].items():
        if not math.isnan(atr[time]):
            if not since_up:
                # The first return summed is the one into the first candle whose ATR is known.
                since_up = since_down = [math.log(previous or close)]
            since_up, since_down = [*since_up, math.log(close)], [*since_down, math.log(close)]
            threshold = h * atr[time] / close
            rise, fall = since_up[-1] - min(since_up), max(since_down) - since_down[-1]
            closest = min(closest, abs(rise - threshold), abs(fall - threshold))
            if rise > threshold:
                since_up = since_up[-1:]
            if fall > threshold:
                since_down = since_down[-1:]
            if rise > threshold or fall > threshold:
                events.append(time)
        previous = close
    return events, closest


@pytest.mark.parametrize(
    ("log_prices", "thresholds", "expected"),
    [
        pytest.param([0, 0.5, 1.0, 1.2], [1] * 4, [3], id="a rise beyond the threshold"),
        pytest.param([0, 0.5, 0.9, 0.9], [1] * 4, [], id="a rise short of the threshold"),
        pytest.param([0, -0.5, -1.2, -1.2], [1] * 4, [2], id="a fall"),
        pytest.param([0, 1.5, 3, 4.5], [1] * 4, [1, 2, 3], id="starts again from 0"),
        pytest.param([0, -3, -2.25, -1.75], [1] * 4, [1, 3], id="a rise counts from the lowest point"),
        pytest.param([0, -0.75, 0.5, -0.75], [1] * 4, [2, 3], id="the other side keeps its sum"),
        pytest.param([0, 1, 0.5, 0.5], [2, 2, 2, 0.4], [3], id="both sides at once are one event"),
        pytest.param([0, 1, 0.5, 0.5, 0.5], [2, 2, 2, 0.4, 0.4], [3], id="and both start again"),
        pytest.param([0, 5, 5, 6.5], [np.nan, np.nan, 1, 1], [3], id="nothing is summed before ATR is known"),
        pytest.param([0, 5, 5, 6.5], [np.nan, 1, 1, 1], [1, 3], id="the first return is into the first known ATR"),
        pytest.param([0, 5, 5], [np.nan] * 3, [], id="ATR never known"),
        pytest.param([0, 0, 0], [0] * 3, [], id="a market that does not move"),
        pytest.param([0], [1], [], id="one candle"),
        pytest.param([], [], [], id="no candle"),
    ],
)
def test_the_table(log_prices: list[float], thresholds: list[float], expected: list[int]) -> None:
    candles = closes(*log_prices)
    # Doubled ATR at h = 0.5: the threshold is h * ATR / close.
    atr = pd.Series(2 * np.array(thresholds, float) * candles["close"].to_numpy(), index=candles.index)
    events = cusum_events(candles, atr, 0.5)
    assert list(events) == list(candles.index[expected])
    assert events.name == "open_time"
    assert events.dtype == candles.index.dtype


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.floats(-0.02, 0.02), st.floats(0.001, 0.02)), min_size=1, max_size=60),
    st.integers(0, 20),
    st.sampled_from([0.5, 1.0, 2.5]),
)
def test_agrees_with_the_slow_account(moves: list[tuple[float, float]], warm_up: int, h: float) -> None:
    candles = closes(*np.cumsum([move for move, _ in moves]))
    atr = pd.Series([unit for _, unit in moves], index=candles.index) * candles["close"]
    atr.iloc[:warm_up] = np.nan
    expected, closest = slow_events(candles, atr, h)
    assume(closest > 1e-9)  # sums and differences of logarithms round differently
    assert list(cusum_events(candles, atr, h)) == expected


@pytest.mark.parametrize("h", [1.5, 3.0])
@pytest.mark.parametrize(
    ("symbol", "start", "end"),
    [("XRPUSDT", "2024-01-01", "2024-05-01"), ("ADAUSDT", "2024-11-01", "2025-02-01")],
)
def test_agrees_with_the_slow_account_on_real_candles(
    real_candles: Candles, symbol: str, start: str, end: str, h: float
) -> None:
    candles = real_candles(symbol, start=start, end=end)
    atr = average_true_range(candles)
    expected, _ = slow_events(candles, atr, h)
    assert list(cusum_events(candles, atr, h)) == expected


@pytest.mark.parametrize("symbol", ["BTCUSDT", "ETHUSDT"])
@pytest.mark.parametrize(("h", "fewest", "most"), [(3.0, 1460, 1577), (2.5, 1900, 2200), (1.5, 4000, 4200)])
def test_the_number_of_events_that_was_checked(
    real_candles: Candles, symbol: str, h: float, fewest: int, most: int
) -> None:
    candles = real_candles(symbol, start="2023-09-01", end="2025-09-01")
    candles = candles.iloc[: int(0.8 * len(candles))]
    assert fewest <= len(cusum_events(candles, average_true_range(candles), h)) <= most


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), t=st.integers(0, 299))
def test_later_candles_change_nothing(random_candles: Candles, seed: int, t: int) -> None:
    candles, noise = random_candles(300, seed), random_candles(300, seed + 1)
    mixed = pd.concat([candles.iloc[: t + 1], noise.iloc[t + 1 :]])
    before, after = (cusum_events(each, average_true_range(each), 1.5) for each in (candles, mixed))
    assert list(before[before <= candles.index[t]]) == list(after[after <= candles.index[t]])


def test_later_candles_change_nothing_on_real_candles(real_candles: Candles) -> None:
    candles = real_candles("BTCUSDT", start="2024-01-01", end="2024-03-01")
    whole = cusum_events(candles, average_true_range(candles), 2.5)
    for t in (500, 1000, 2000):
        part = candles.iloc[: t + 1]
        assert list(cusum_events(part, average_true_range(part), 2.5)) == list(whole[whole <= candles.index[t]])


def _atr_with(atr: pd.Series, value: float) -> pd.Series:
    atr = atr.copy()
    atr.iloc[20] = value
    return atr


@pytest.mark.parametrize("h", [0.0, -1.0, math.nan, math.inf])
def test_a_threshold_must_be_positive_and_finite(random_candles: Candles, h: float) -> None:
    candles = random_candles(30, seed=0)
    with pytest.raises(ValueError, match=f"CUSUM threshold is {h}"):
        cusum_events(candles, average_true_range(candles), h)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda c, a: (c.iloc[:-1], a), "atr covers 30 rows and the candles 29"),
        (lambda c, a: (c, a.set_axis(a.index + pd.Timedelta("1min"))), "different indices"),
        (lambda c, a: (c, _atr_with(a, math.nan)), "atr is nan at 2024-01-01 10:00:00.*after the warm-up"),
        (lambda c, a: (c, _atr_with(a, -1.0)), r"atr is -1\.0"),
        (lambda c, a: (c, _atr_with(a, math.inf)), "atr is inf"),
        (lambda c, a: (c.assign(close=0.0), a), r"close is 0\.0 at 2024-01-01 00:00:00"),
        (lambda c, a: (c.assign(close=math.nan), a), "close is nan"),
    ],
)
def test_what_can_not_be_summed_is_refused(
    random_candles: Candles, spoil: Callable[..., tuple[pd.DataFrame, pd.Series]], message: str
) -> None:
    candles = random_candles(30, seed=0)
    with pytest.raises(ValueError, match=message):
        cusum_events(*spoil(candles, average_true_range(candles)), 1.0)
