"""Average true range: equal to TA-Lib's, causal, and loud about bad prices."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import talib

from cvntrade_assets.market.volatility import average_true_range

Candles = Callable[..., pd.DataFrame]


def talib_atr(candles: pd.DataFrame, window: int) -> np.ndarray:
    return talib.ATR(*(candles[name].to_numpy() for name in ("high", "low", "close")), timeperiod=window)


@pytest.mark.parametrize("window", [1, 2, 14, 50])
@pytest.mark.parametrize("n", [0, 1, 14, 15, 1000])
def test_equals_talib_on_random_candles(random_candles: Candles, n: int, window: int) -> None:
    candles = random_candles(n, seed=n)
    expected = talib_atr(candles, window) if n > window else np.full(n, np.nan)
    np.testing.assert_allclose(average_true_range(candles, window), expected, rtol=1e-12)


def test_equals_talib_on_real_candles_with_a_missing_month(real_candles: Candles) -> None:
    candles = real_candles("ADAUSDT", start="2024-11-01", end="2025-02-01")
    np.testing.assert_allclose(average_true_range(candles), talib_atr(candles, 14), rtol=1e-12)


def test_the_table() -> None:
    index = pd.date_range("2024-01-01", periods=5, freq="30min", tz="UTC", name="open_time")
    candles = pd.DataFrame(
        {"high": [11.0, 12, 13, 20, 13], "low": [9.0, 10, 12, 19, 13], "close": [10.0, 11, 12, 20, 13]},
        index=index,
    )
    # True ranges: 2, 2 (13 - 11 beats 13 - 12), 8 (20 - 12, over the jump), 7 (13 - 20).
    atr = average_true_range(candles, window=2)
    np.testing.assert_array_equal(atr, [np.nan, np.nan, 2.0, 5.0, 6.0])
    assert atr.index.equals(index)


def test_a_market_that_does_not_move_has_an_atr_of_zero(random_candles: Candles) -> None:
    candles = random_candles(30, seed=0)
    candles[["open", "high", "low", "close"]] = 5.0
    assert (average_true_range(candles).iloc[14:] == 0).all()


def test_later_candles_change_nothing(random_candles: Candles) -> None:
    candles, noise = random_candles(300, seed=1), random_candles(300, seed=2)
    mixed = pd.concat([candles.iloc[:200], noise.iloc[200:]])
    pd.testing.assert_series_equal(average_true_range(mixed).iloc[:200], average_true_range(candles).iloc[:200])


@pytest.mark.parametrize("column", ["high", "low", "close"])
def test_a_price_that_is_not_finite_is_refused(random_candles: Candles, column: str) -> None:
    candles = random_candles(30, seed=0)
    candles.loc[candles.index[7], column] = np.nan
    with pytest.raises(ValueError, match=f"{column} is nan at 2024-01-01 03:30"):
        average_true_range(candles)


def test_a_window_below_one_is_refused(random_candles: Candles) -> None:
    with pytest.raises(ValueError, match="window is 0"):
        average_true_range(random_candles(30, seed=0), window=0)
