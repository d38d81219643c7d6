import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cvntrade_assets.market import simulated
from cvntrade_assets.market.candles import TIMEFRAMES, check_candles
from cvntrade_assets.market.simulated import (
    EPOCH,
    HORIZON,
    PULL,
    SimulatedMarket,
    SimulationError,
    character,
    long_run_atr,
)
from cvntrade_assets.market.volatility import average_true_range

REPOSITORY = Path(__file__).parents[2]
SYMBOL = "BTCUSDT"
MARTINGALE = SimulatedMarket(seed=3, signal=0.0)
STRONG = SimulatedMarket(seed=3, signal=1.0)
SIGMAS = 4.0


def at(text: str) -> pd.Timestamp:
    return pd.Timestamp(text, tz="UTC")


@pytest.fixture(scope="module")
def six_years() -> pd.DataFrame:
    return MARTINGALE.candles(SYMBOL, "30m", EPOCH, at("2026-01-01"))


def in_atr(candles: pd.DataFrame) -> pd.DataFrame:
    """What the past says at each close (ATR, distance from the long run) beside the next candle, in ATR."""
    atr, close = average_true_range(candles), candles["close"]
    following = candles.shift(-1)
    table = pd.DataFrame(
        {
            "atr": atr,
            "excess": np.log(atr / close) - math.log(long_run_atr(SYMBOL)),
            "move": (following["close"] - close) / atr,
            "range": (following["high"] - following["low"]) / atr,
            "hour": following.index.hour,
        }
    )
    return table.iloc[300:-1]


# ---- windows ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("timeframe", "start", "end", "first", "last"),
    [
        ("5m", "2020-01-01 00:00", "2020-01-01 01:00", "2020-01-01 00:00", "2020-01-01 00:55"),
        ("5m", "2020-01-01 00:01", "2020-01-01 00:59", "2020-01-01 00:05", "2020-01-01 00:50"),
        ("30m", "2020-01-01 00:00", "2020-01-01 02:00", "2020-01-01 00:00", "2020-01-01 01:30"),
        ("30m", "2020-01-01 00:01", "2020-01-01 01:59", "2020-01-01 00:30", "2020-01-01 01:00"),
        ("1d", "2020-03-01 00:00", "2020-03-03 23:59", "2020-03-01 00:00", "2020-03-02 00:00"),
    ],
)
def test_candles_open_in_the_window_and_have_closed_at_its_end(
    timeframe: str, start: str, end: str, first: str, last: str
) -> None:
    candles = MARTINGALE.candles(SYMBOL, timeframe, at(start), at(end))
    assert (candles.index[0], candles.index[-1]) == (at(first), at(last))
    assert (np.diff(candles.index) == TIMEFRAMES[timeframe]).all()


@pytest.mark.parametrize("end", ["2020-01-01 00:00", "2020-01-01 00:29"])
def test_a_window_without_a_closed_candle_is_empty(end: str) -> None:
    candles = MARTINGALE.candles(SYMBOL, "30m", EPOCH, at(end))
    assert candles.empty
    check_candles(candles, TIMEFRAMES["30m"])


@pytest.mark.parametrize(
    ("symbol", "timeframe", "start", "end", "message"),
    [
        ("", "30m", EPOCH, at("2020-02-01"), "symbol is empty"),
        (SYMBOL, "30m", at("2019-12-31"), at("2020-02-01"), "outside"),
        (SYMBOL, "30m", EPOCH, HORIZON + pd.Timedelta(minutes=5), "outside"),
        (SYMBOL, "30m", at("2020-02-01"), at("2020-01-31"), "backwards"),
        (SYMBOL, "1m", EPOCH, at("2020-02-01"), "not made of 5m"),
        (SYMBOL, "30m", pd.Timestamp("2020-01-01"), at("2020-02-01"), "no timezone"),
    ],
)
def test_refuses_what_it_cannot_answer(
    symbol: str, timeframe: str, start: pd.Timestamp, end: pd.Timestamp, message: str
) -> None:
    with pytest.raises(SimulationError, match=message):
        MARTINGALE.candles(symbol, timeframe, start, end)


@pytest.mark.parametrize(("seed", "signal"), [(-1, 0.0), (0, -0.1), (0, math.nan), (0, math.inf)])
def test_refuses_a_market_that_cannot_be(seed: int, signal: float) -> None:
    with pytest.raises(SimulationError, match="simulated market"):
        SimulatedMarket(seed, signal)


# ---- one path ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("market", [MARTINGALE, STRONG])
def test_every_window_is_a_piece_of_the_same_path(market: SimulatedMarket) -> None:
    whole = market.candles(SYMBOL, "5m", EPOCH, at("2020-08-01"))
    for start, end in [
        ("2020-01-01", "2020-01-02"),
        ("2020-01-30", "2020-02-01 00:05"),
        ("2020-06-01", "2020-08-01"),
    ]:
        piece = market.candles(SYMBOL, "5m", at(start), at(end))
        pd.testing.assert_frame_equal(piece, whole[(whole.index >= start) & (whole.index < end)])


@pytest.mark.parametrize("timeframe", ["15m", "30m", "1h", "4h", "1d"])
def test_every_timeframe_aggregates_the_5m_candles(timeframe: str) -> None:
    window = (at("2021-02-03"), at("2021-04-05"))
    fine = MARTINGALE.candles(SYMBOL, "5m", *window)
    coarse = MARTINGALE.candles(SYMBOL, timeframe, *window)
    rules = {
        "open": "first",
        "high": "max",
        "low": "min",
        "close": "last",
        "volume": "sum",
        "complete": "all",
    }
    expected = fine.resample(TIMEFRAMES[timeframe]).agg(rules)
    pd.testing.assert_frame_equal(coarse, expected, check_freq=False)


def test_another_process_gives_the_same_candles() -> None:
    script = (
        "import pandas as pd; from cvntrade_assets.market.simulated import *;"
        "c = SimulatedMarket(3, 1.0).candles('ANYUSDC', '30m', EPOCH, pd.Timestamp('2020-03-01', tz='UTC'));"
        "import sys; sys.stdout.write(str(pd.util.hash_pandas_object(c).sum()))"
    )
    # Its hash seed is its own, so nothing that rests on Python's hash() would agree.
    there = subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    here = STRONG.candles("ANYUSDC", "30m", EPOCH, at("2020-03-01"))
    assert there.stdout == str(pd.util.hash_pandas_object(here).sum())


def test_what_a_caller_does_to_the_candles_stays_with_the_caller() -> None:
    window = (at("2020-02-01"), at("2020-02-02"))
    spoilt = MARTINGALE.candles(SYMBOL, "5m", *window)
    before = spoilt.copy()
    spoilt["close"] *= 2.0
    pd.testing.assert_frame_equal(MARTINGALE.candles(SYMBOL, "5m", *window), before)


def test_symbols_and_seeds_are_unrelated() -> None:
    window = ("30m", EPOCH, at("2021-06-01"))
    others = [
        MARTINGALE.candles("ETHUSDT", *window),
        MARTINGALE.candles("BTCUSDC", *window),
        SimulatedMarket(4, 0.0).candles(SYMBOL, *window),
    ]
    returns = [np.diff(np.log(c["close"])) for c in (MARTINGALE.candles(SYMBOL, *window), *others)]
    correlations = np.corrcoef(returns)[np.triu_indices(len(returns), 1)]
    assert np.abs(correlations).max() < 0.05


def test_a_character_comes_from_the_base_asset() -> None:
    assert character("BTCUSDT") == character("BTCUSDC") == simulated.CHARACTERS["BTC"]
    drawn = character("NOSUCHUSDT")
    assert drawn == character("NOSUCHUSDC") != character("OTHERUSDT")
    assert 0.03 < drawn.price < 320.0
    assert 0.40 <= drawn.volatility <= 0.70


# ---- candles that could be ------------------------------------------------------------------------------


@pytest.mark.parametrize(("symbol", "signal"), [("BTCUSDT", 0.0), ("BONKUSDT", 1.0), ("OTHERUSDT", 5.0)])
def test_candles_are_possible_for_the_whole_history(symbol: str, signal: float) -> None:
    market = SimulatedMarket(0, signal)
    fine = market.candles(symbol, "5m", EPOCH, at("2027-01-01"))
    check_candles(fine, TIMEFRAMES["5m"])
    check_candles(market.candles(symbol, "30m", EPOCH, at("2027-01-01")), TIMEFRAMES["30m"])
    assert fine["complete"].all()
    assert (fine["open"].to_numpy()[1:] == fine["close"].to_numpy()[:-1]).all()
    assert (fine["volume"] > 0).all()


def test_an_adverse_draw_leaves_the_price_above_zero() -> None:
    worst_step, jump, uniforms = -simulated._LARGEST_STEP, -simulated._LARGEST_JUMP, np.full(25, 1e-4)
    scales = np.full(12, simulated._LARGEST_STEP_SCALE)
    unit = np.empty((6, 3))
    simulated._unit_path(np.full(12, worst_step), scales, uniforms, 11, jump, unit)
    assert unit.min() > -1.0 / simulated._LARGEST_RELATIVE_ATR
    simulated._unit_path(np.full(12, -worst_step), scales, uniforms, 11, -jump, unit)
    assert unit.max() < 1.0 / simulated._LARGEST_RELATIVE_ATR


def test_volatility_clusters_and_tails_are_heavy(six_years: pd.DataFrame) -> None:
    returns = np.log(six_years["close"]).diff().dropna()
    sizes = returns.abs()
    assert sizes.autocorr(1) > 0.15
    assert sizes.autocorr(48) > 0.10
    assert returns.kurt() > 5.0
    assert in_atr(six_years)["move"].kurt() > 3.0
    assert 0.3 < returns.std() * math.sqrt(365 * 48) < 1.2


def test_the_range_in_atr_is_that_of_real_candles(six_years: pd.DataFrame) -> None:
    ranges = in_atr(six_years)["range"]
    # BTCUSDT, ETHUSDT, SOLUSDT over two years: 0.47-0.54, 0.84-0.88, 1.61-1.73, 2.99-3.53; mean 1.011-1.016.
    assert ranges.quantile([0.1, 0.5, 0.9, 0.99]).tolist() == pytest.approx([0.48, 0.89, 1.68, 2.80], abs=0.05)
    assert ranges.mean() == pytest.approx(1.01, abs=0.01)


def test_the_volume_has_a_daily_rhythm_and_the_range_has_none(six_years: pd.DataFrame) -> None:
    by_hour = six_years["volume"].groupby(six_years.index.hour).mean()
    assert by_hour.idxmax() in range(13, 18)
    assert by_hour.max() > 1.5 * by_hour.min()
    table = in_atr(six_years)
    deviation = table["range"].std() / math.sqrt(len(table) / 24)
    assert np.abs(table.groupby("hour")["range"].mean() - table["range"].mean()).max() < SIGMAS * deviation


def test_the_volume_follows_the_range_of_its_own_candle(six_years: pd.DataFrame) -> None:
    volume = np.log(six_years["volume"] * six_years["close"])
    size = np.log((six_years["high"] - six_years["low"]) / six_years["close"])
    assert volume.corr(size) > 0.3


# ---- what can be learned --------------------------------------------------------------------------------


def test_without_signal_no_return_is_predictable_from_the_past(six_years: pd.DataFrame) -> None:
    table = in_atr(six_years)
    move = table["move"]
    limit = SIGMAS / math.sqrt(len(move))
    assert abs(move.mean()) < limit * move.std()
    pasts = {f"lag {lag}": move.shift(lag) for lag in (1, 2, 3, 12, 48)}
    pasts |= {f"sum {window}": move.rolling(window).sum().shift(1) for window in (6, 24, 240)}
    pasts |= {"range": table["range"].shift(1), "excess": table["excess"]}
    assert {name: move.corr(past) for name, past in pasts.items() if abs(move.corr(past)) > limit} == {}


def test_without_signal_no_5m_return_is_predictable_from_the_past() -> None:
    candles = MARTINGALE.candles(SYMBOL, "5m", at("2020-02-01"), at("2022-02-01"))
    # Signs, not sizes: the products of two moves have tails too heavy for a limit of so many deviations.
    signs = np.sign(candles["close"] - candles["open"])
    limit = SIGMAS / math.sqrt(len(signs))
    for lag in (1, 2, 5, 6, 30):
        assert abs(signs.autocorr(lag)) < limit, lag


def test_the_volatility_to_come_in_atr_depends_on_the_past_through_the_pull_alone(
    six_years: pd.DataFrame,
) -> None:
    table = in_atr(six_years)
    log_range, excess = np.log(table["range"]), table["excess"]
    error = log_range.std() / excess.std() / math.sqrt(len(table))
    assert log_range.cov(excess) / excess.var() == pytest.approx(-PULL, abs=SIGMAS * error)
    freed = log_range + PULL * excess
    limit = SIGMAS / math.sqrt(len(table))
    pasts = {f"lag {lag}": freed.shift(lag) for lag in (1, 2, 6, 13, 48)}
    pasts |= {f"change {window}": np.log(table["atr"]).diff(window) for window in (1, 12, 48)}
    pasts |= {"move": table["move"].shift(1), "size": table["move"].abs().shift(1)}
    assert {name: freed.corr(past) for name, past in pasts.items() if abs(freed.corr(past)) > limit} == {}


def test_volatility_stays_near_its_long_run(six_years: pd.DataFrame) -> None:
    excess = in_atr(six_years)["excess"]
    assert abs(excess.mean()) < 0.25
    assert 0.4 < excess.std() < 0.9


@pytest.mark.parametrize(("signal", "gain"), [(0.0, 0.0), (0.3, 0.12), (1.0, 0.4), (2.0, 0.8), (5.0, 0.8)])
def test_the_direction_follows_the_documented_tilt(signal: float, gain: float) -> None:
    candles = SimulatedMarket(5, signal).candles(SYMBOL, "30m", EPOCH, at("2023-01-01"))
    atr, close = average_true_range(candles), candles["close"]
    trend = (close - close.shift(24)) - (close - close.shift(240)) / 10
    shape = np.tanh(trend / (0.7 * math.sqrt(24) * atr)).iloc[300:-1]
    direction = np.sign(close.diff().shift(-1)).iloc[300:-1]
    slope = (direction * shape).sum() / (shape**2).sum()
    error = 1.0 / math.sqrt((shape**2).sum())
    assert slope == pytest.approx(gain, abs=SIGMAS * error)


def test_the_signal_leaves_the_ranges_as_they_are() -> None:
    window = (SYMBOL, "30m", EPOCH, at("2021-01-01"))
    without, strong = in_atr(MARTINGALE.candles(*window)), in_atr(STRONG.candles(*window))
    assert without["range"].corr(strong["range"]) > 0.999
    assert strong["move"].abs().corr(without["move"].abs()) > 0.999
    assert not np.allclose(strong["move"], without["move"], rtol=0.1)
