"""Signals: when they are known, with which ATR, and which candles are above their trend."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from cvntrade_assets.market.volatility import average_true_range
from cvntrade_assets.trading.execution import TrendFilter
from cvntrade_assets.trading.signals import above_trend, signals_at

Candles = Callable[..., pd.DataFrame]

INTERVAL = pd.Timedelta("30min")


def test_a_signal_is_known_at_its_candles_close(random_candles: Candles) -> None:
    candles = random_candles(100, seed=1)
    atr = average_true_range(candles)
    said = pd.Series(False, index=candles.index[40:60])
    said.iloc[[0, 7]] = True
    found = signals_at(said, atr, interval=INTERVAL)
    assert found.index.tolist() == [candles.index[41], candles.index[48]]
    assert found["atr"].tolist() == [atr.iloc[40], atr.iloc[47]]
    assert (str(found.index.dtype), found.index.name) == ("datetime64[ns, UTC]", "signal_time")


def test_saying_nothing_gives_no_signal(random_candles: Candles) -> None:
    candles = random_candles(20, seed=1)
    found = signals_at(pd.Series(False, index=candles.index), average_true_range(candles), interval=INTERVAL)
    assert (found.shape, str(found.index.dtype)) == ((0, 1), "datetime64[ns, UTC]")


def test_an_atr_that_is_not_known_yet_stays_so(random_candles: Candles) -> None:
    candles = random_candles(20, seed=1)
    found = signals_at(pd.Series(True, index=candles.index), average_true_range(candles), interval=INTERVAL)
    assert found["atr"].isna().tolist() == [True] * 14 + [False] * 6


def test_signals_without_a_row_of_atr_are_refused(random_candles: Candles) -> None:
    candles = random_candles(20, seed=1)
    said, atr = pd.Series(True, index=candles.index), average_true_range(candles)
    with pytest.raises(ValueError, match="atr has no row for 2024-01-01 09:30:00"):
        signals_at(said, atr.iloc[:-1], interval=INTERVAL)
    said.iloc[-1] = False
    assert len(signals_at(said, atr.iloc[:-1], interval=INTERVAL)) == 19
    with pytest.raises(ValueError, match="signal has dtype int64: expected bool"):
        signals_at(said.astype(int), atr, interval=INTERVAL)


@pytest.mark.parametrize(("kind", "span"), [("ema_50", 50), ("ema_200", 200)])
def test_a_trend_is_an_exponential_average_written_out(random_candles: Candles, kind: TrendFilter, span: int) -> None:
    closes = random_candles(700, seed=3)["close"]
    average, expected = closes.iloc[0], []
    for known, close in enumerate(closes, start=1):
        average += 2 / (span + 1) * (close - average)
        expected.append(known >= span and close > average)
    found = above_trend(closes, kind)
    assert found.tolist() == expected
    assert (found.dtype, found.index.equals(closes.index)) == (bool, True)
    assert 100 < found.sum() < 600
    assert not found.iloc[: span - 1].any()


def test_without_a_filter_every_candle_passes(random_candles: Candles) -> None:
    closes = random_candles(30, seed=3)["close"]
    assert above_trend(closes, "off").all()


def test_a_trend_knows_nothing_of_what_comes_after(random_candles: Candles) -> None:
    closes = random_candles(300, seed=3)["close"]
    changed = closes.copy()
    changed.iloc[250:] *= 2
    pd.testing.assert_series_equal(above_trend(changed, "ema_50").iloc[:250], above_trend(closes, "ema_50").iloc[:250])


def test_standing_on_the_average_is_not_above_it() -> None:
    assert not above_trend(pd.Series(np.full(60, 100.0)), "ema_50").any()


def test_an_unknown_trend_filter_is_refused() -> None:
    with pytest.raises(ValueError, match="'ema_20': expected one of off, ema_50, ema_200"):
        above_trend(pd.Series([1.0]), "ema_20")  # type: ignore[arg-type]
