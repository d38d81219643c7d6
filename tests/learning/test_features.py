"""Features: their names, their scale-freeness, their finiteness and what they may know."""

import itertools
import math
import time

import numpy as np
import pandas as pd
import pytest
import talib
from hypothesis import given, settings
from hypothesis import strategies as st

from cvntrade_assets.learning.features import (
    FAMILIES,
    FEATURE_NAMES,
    WARM_UP,
    UnusableCandlesError,
    compute_features,
)
from cvntrade_assets.learning.indicators import Bars, previous, ratio, rolling_sum, wilder

PRICES = ["open", "high", "low", "close"]

NAMES_OF_THE_FIELD = (
    "RSI_14", "BBL_20_2.0", "BBU_20_2.0", "BBP_20_2.0", "BBB_20_2.0", "NATR_14",
    "ADX_14", "DMP_14", "DMN_14", "MACDh_12_26_9", "STOCHk_14_3_3", "CCI_20",
    "WILLR_14", "MFI_14", "ROC_10", "EMA_21", "SMA_50", "KAMA_10",
    "AROONOSC_25", "TRIX_15", "CMO_20", "OBV_20", "PARKINSON_20", "GARMANKLASS_20",
    "DCP_20", "VWAP_20", "HOUR_SIN", "WEEK_COS", "LOGRET_LAG0",
)  # fmt: skip


def still_candles(n: int, price: float = 5.0, volume: float = 0.0) -> pd.DataFrame:
    times = pd.date_range("2024-01-01", periods=n, freq="30min", tz="UTC", name="open_time", unit="ns")
    frame = pd.DataFrame({**dict.fromkeys(PRICES, price), "volume": volume}, index=times)
    return frame.assign(complete=True)


def assert_same_bits(left: pd.DataFrame, right: pd.DataFrame) -> None:
    assert left.index.equals(right.index)
    assert left.to_numpy().tobytes() == right.to_numpy().tobytes()


# ---- names and shape ---------------------------------------------------------------------------------------


def test_names_are_unique_and_enough():
    assert len(FEATURE_NAMES) == len(set(FEATURE_NAMES))
    assert 120 <= len(FEATURE_NAMES) <= 180


@pytest.mark.parametrize("name", NAMES_OF_THE_FIELD)
def test_names_are_those_of_the_field(name):
    assert name in FEATURE_NAMES


def test_frame_is_float32_in_the_declared_order_without_warm_up(random_candles):
    candles = random_candles(WARM_UP + 10, 1)
    features = compute_features(candles)
    assert tuple(features.columns) == FEATURE_NAMES
    assert set(features.dtypes) == {np.dtype("float32")}
    assert features.index.equals(candles.index[WARM_UP:])
    assert features.index.name == "open_time"


def test_candles_are_left_as_they_were(random_candles):
    candles = random_candles(WARM_UP + 10, 1)
    before = candles.copy(deep=True)
    compute_features(candles)
    pd.testing.assert_frame_equal(candles, before)


def test_other_columns_are_not_read(random_candles):
    candles = random_candles(WARM_UP + 10, 1)
    bare = candles[[*PRICES, "volume"]]
    assert_same_bits(compute_features(bare), compute_features(candles))


# ---- what is refused ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda c: c.drop(columns="volume"), r"lack the column\(s\) \['volume'\]"),
        (lambda c: c.iloc[:WARM_UP], "too few"),
        (lambda c: c.iloc[::-1], "not strictly increasing"),
        (lambda c: c.assign(low=0.0), "not positive"),
        (lambda c: c.assign(close=np.nan), "not positive and finite"),
        (lambda c: c.assign(volume=-1.0), "negative"),
        (lambda c: c.assign(volume=np.inf), "not finite"),
    ],
)
def test_unusable_candles_are_refused(spoil, says):
    with pytest.raises(UnusableCandlesError, match=says):
        compute_features(spoil(still_candles(WARM_UP + 5)))


# ---- values ------------------------------------------------------------------------------------------------


def test_agree_with_ta_lib_where_both_are_defined(random_candles):
    candles = random_candles(WARM_UP + 800, 2)
    o, h, low, c, v = (candles[name].to_numpy() for name in [*PRICES, "volume"])
    features = compute_features(candles)
    lower, _, upper = ((band - c) / c for band in talib.BBANDS(c, 20, 2.0, 2.0)[::-1])
    slow_k, slow_d = talib.STOCH(h, low, c, 14, 3, 0, 3, 0)
    expected = {
        "RSI_14": talib.RSI(c, 14),
        "ADX_14": talib.ADX(h, low, c, 14),
        "DMP_14": talib.PLUS_DI(h, low, c, 14),
        "DMN_14": talib.MINUS_DI(h, low, c, 14),
        "WILLR_14": talib.WILLR(h, low, c, 14),
        "CCI_20": talib.CCI(h, low, c, 20),
        "UO_7_14_28": talib.ULTOSC(h, low, c, 7, 14, 28),
        "STOCHk_14_3_3": slow_k,
        "STOCHd_14_3_3": slow_d,
        "MFI_14": talib.MFI(h, low, c, v * 1e6, 14),
        "BBL_20_2.0": lower,
        "BBU_20_2.0": upper,
        "AROONOSC_25": talib.AROONOSC(h, low, 25),
        "EMA_21": talib.EMA(c, 21) / c - 1,
        "MACDh_12_26_9": talib.MACD(c, 12, 26, 9)[2] / c,
        "NATR_14": talib.NATR(h, low, c, 14),
        "OBV_20": np.append(np.full(20, np.nan), talib.OBV(c, v)[20:] - talib.OBV(c, v)[:-20]) / talib.SUM(v, 20),
        "BODY": talib.BOP(o, h, low, c),
    }
    for name, values in expected.items():
        np.testing.assert_allclose(features[name], values[WARM_UP:], rtol=1e-4, atol=1e-5, err_msg=name)


def test_agree_with_formulas_written_out(random_candles):
    candles = random_candles(WARM_UP + 60, 3)
    features = compute_features(candles)
    last, rows = features.iloc[-1], list(candles.iloc[-101:].itertuples())
    returns = [math.log(b.close / a.close) for a, b in itertools.pairwise(rows)]
    tail, r20 = rows[-20:], returns[-20:]
    typical = [(x.high + x.low + x.close) / 3 for x in tail]
    volume = sum(x.volume for x in tail)
    close = tail[-1].close
    garman_klass = sum(
        0.5 * math.log(x.high / x.low) ** 2 - (2 * math.log(2) - 1) * math.log(x.close / x.open) ** 2 for x in tail
    )
    squares = sum(r * r for r in r20)
    expected = {
        "LOGRET_LAG0": returns[-1],
        "LOGRET_LAG3": returns[-4],
        "RVOL_20": math.sqrt(squares / 20),
        "PARKINSON_20": math.sqrt(sum(math.log(x.high / x.low) ** 2 for x in tail) / (80 * math.log(2))),
        "GARMANKLASS_20": math.sqrt(garman_klass / 20),
        "VWAP_20": sum(t * x.volume for t, x in zip(typical, tail, strict=True)) / volume / close - 1,
        "DCP_20": (close - min(x.low for x in tail)) / (max(x.high for x in tail) - min(x.low for x in tail)),
        "VOLUMERATIO_1_20": tail[-1].volume / (volume / 20),
        "SKEW_20": math.sqrt(20) * sum(r**3 for r in r20) / squares**1.5,
        "KURT_20": 20 * sum(r**4 for r in r20) / squares**2,
        "DOWNSHARE_20": sum(r * r for r in r20 if r < 0) / squares,
        "UPSHARE_20": sum(1.0 if r > 0 else 0.5 if r == 0 else 0.0 for r in r20) / 20,
        "VOLARATIO_20_100": math.sqrt(squares / 20) / math.sqrt(sum(r * r for r in returns) / 100),
    }
    for name, value in expected.items():
        assert last[name] == pytest.approx(value, rel=1e-5, abs=1e-7), name


def test_clock_reads_the_open_time():
    features = compute_features(still_candles(WARM_UP + 400))
    monday_six = features.loc["2024-01-15 06:00"]
    assert monday_six[["HOUR_SIN", "HOUR_COS"]].to_list() == pytest.approx([1.0, 0.0], abs=1e-6)
    monday_midnight = features.loc["2024-01-15 00:00"]
    assert monday_midnight[["WEEK_SIN", "WEEK_COS"]].to_list() == pytest.approx([0.0, 1.0], abs=1e-6)


@given(
    values=st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=80),
    window=st.integers(1, 90),
)
@settings(max_examples=60, deadline=None)
def test_rolling_sum_is_the_sum_of_each_window(values, window):
    got = rolling_sum(np.array(values), window)
    for i in range(len(values)):
        if i + 1 < window:
            assert math.isnan(got[i])
        else:
            assert got[i] == pytest.approx(math.fsum(values[i + 1 - window : i + 1]), rel=1e-9, abs=1e-6)


def test_rolling_sum_forgets_exactly():
    values = np.array([1e15, 0.3, 0.0, 0.0, 0.0, 0.0])
    assert rolling_sum(values, 3)[-2:].tolist() == [0.0, 0.0]


def test_ratio_is_neutral_at_zero_and_keeps_missing_values():
    got = ratio(np.array([1.0, 1.0, 1.0]), np.array([2.0, 0.0, np.nan]), 7.0)
    np.testing.assert_array_equal(got, [0.5, 7.0, np.nan])


def test_previous_repeats_the_first_value():
    assert previous(np.array([1.0, 2.0, 3.0]), 2).tolist() == [1.0, 1.0, 1.0]
    assert previous(np.array([1.0, 2.0]), 5).tolist() == [1.0, 1.0]


def test_wilder_moves_a_fourteenth_of_the_way():
    steps = wilder(np.append(np.zeros(50), 1.0), 14)
    assert steps[-1] == pytest.approx(1 / 14)


# ---- scale-free --------------------------------------------------------------------------------------------


def rescaled(candles: pd.DataFrame) -> pd.DataFrame:
    bigger = candles.copy()
    bigger[PRICES] *= 10.0
    bigger["volume"] *= 7.0
    return bigger


def assert_scale_free(candles: pd.DataFrame) -> None:
    features, bigger = compute_features(candles), compute_features(rescaled(candles))
    spread = np.maximum(features.std(), 1e-3)
    worst = ((features - bigger).abs().max() / spread).max()
    assert worst < 1e-5


def test_units_of_price_and_volume_do_not_matter(random_candles):
    assert_scale_free(random_candles(3000, 4))


@pytest.mark.parametrize("symbol", ["BTCUSDT", "ADAUSDT", "BONKUSDT"])
def test_units_do_not_matter_on_real_candles(real_candles, symbol):
    assert_scale_free(real_candles(symbol))


def test_units_do_not_matter_when_prices_stand_still(random_candles):
    candles = random_candles(2000, 5)
    candles.iloc[900:1500, :4] = candles["close"].iloc[899]
    candles.iloc[1000:1700, 4] = 0.0
    assert_scale_free(candles)


# ---- finite ------------------------------------------------------------------------------------------------


def test_a_market_that_never_moved_is_neutral():
    features = compute_features(still_candles(WARM_UP + 50))
    neutral = {
        "RSI": 50.0, "STOCH": 50.0, "UO": 50.0, "MFI": 50.0, "WILLR": -50.0, "CHOP": 100.0, "KURT": 3.0,
        "BBP": 0.5, "KCP": 0.5, "DCP": 0.5, "DOWNSHARE": 0.5, "UPSHARE": 0.5,
        "VTXP": 1.0, "VTXM": 1.0, "VOLARATIO": 1.0, "RANGERATIO": 1.0, "VOLUMERATIO": 1.0,
    }  # fmt: skip
    for name in FEATURE_NAMES:
        if name.startswith(("HOUR", "WEEK", "AROOND", "AROONU")):
            continue
        value = next((v for start, v in neutral.items() if name.startswith(start)), 0.0)
        assert features[name].to_numpy() == pytest.approx(value, abs=1e-6), name


def test_every_family_is_finite_on_a_still_market_with_volume():
    assert np.isfinite(compute_features(still_candles(WARM_UP + 50, volume=3.0)).to_numpy()).all()


def test_finite_after_a_long_silence(random_candles):
    # Long enough for a fast exponential average of the volume to underflow.
    candles = pd.concat([random_candles(WARM_UP, 6), still_candles(20_000)])
    candles.index = pd.date_range("2020-01-01", periods=len(candles), freq="30min", tz="UTC", name="open_time")
    features = compute_features(candles)
    assert np.isfinite(features.to_numpy()).all()
    last = features.iloc[-1]
    assert last[["RSI_14", "TSI_25_13", "EFI_13", "PVO_12_26_9", "ADX_14"]].to_list() == [50, 0, 0, 0, 0]


@given(seed=st.integers(0, 10_000), data=st.data())
@settings(max_examples=8, deadline=None)
def test_finite_on_flat_silent_and_gappy_stretches(random_candles, seed, data):
    candles = random_candles(WARM_UP + 300, seed)
    stretch = st.tuples(st.integers(0, 700), st.integers(1, 300))
    start, length = data.draw(stretch)
    candles.iloc[start : start + length, :4] = candles["close"].iloc[start]
    start, length = data.draw(stretch)
    candles.iloc[start : start + length, 4] = 0.0
    gap = data.draw(st.integers(WARM_UP + 1, WARM_UP + 200))
    gappy = candles.drop(candles.index[gap : gap + 60])
    gappy.iloc[gap:, :4] *= data.draw(st.sampled_from([0.01, 1.0, 100.0]))
    assert np.isfinite(compute_features(gappy).to_numpy()).all()


@pytest.mark.parametrize("symbol", ["ADAUSDT", "BONKUSDT"])
def test_finite_on_real_candles_with_holes(real_candles, symbol):
    candles = real_candles(symbol, start="2024-10-01", end="2025-03-01")
    features = compute_features(candles)
    assert np.isfinite(features.to_numpy()).all()


# ---- what a feature may know -------------------------------------------------------------------------------


def assert_blind_to_the_future(candles: pd.DataFrame, noise: pd.DataFrame, t: int) -> None:
    replaced = candles.copy()
    replaced.iloc[t + 1 :, :5] = noise.iloc[t + 1 : len(candles), :5].to_numpy()
    whole, spoiled = compute_features(candles), compute_features(replaced)
    now = candles.index[t]
    assert_same_bits(whole.loc[:now], spoiled.loc[:now])
    assert not whole.loc[now:].iloc[1:].equals(spoiled.loc[now:].iloc[1:])


@given(seed=st.integers(0, 10_000), t=st.integers(WARM_UP, WARM_UP + 298))
@settings(max_examples=10, deadline=None)
def test_noise_after_t_changes_nothing_up_to_t(random_candles, seed, t):
    candles, noise = random_candles(WARM_UP + 300, seed), random_candles(WARM_UP + 300, seed + 1)
    noise.iloc[:, :5] *= 1000.0
    assert_blind_to_the_future(candles, noise, t)


@pytest.mark.parametrize("t", [WARM_UP, 1234, 2000])
def test_noise_after_t_changes_nothing_up_to_t_on_real_candles(real_candles, random_candles, t):
    candles = real_candles("BTCUSDT")
    assert_blind_to_the_future(candles, random_candles(len(candles), t), t)


def test_the_last_candle_gets_the_same_value_live_as_in_a_batch(random_candles):
    candles = random_candles(WARM_UP + 400, 9)
    whole = compute_features(candles)
    for t in range(WARM_UP, len(candles), 37):
        live = compute_features(candles.iloc[: t + 1]).iloc[-1]
        np.testing.assert_allclose(live, whole.loc[candles.index[t]], rtol=1e-6, atol=1e-9)


def assert_forgets_its_start(candles: pd.DataFrame, starts: range) -> None:
    whole = compute_features(candles)
    spread = whole.std()
    for start in starts:
        fresh = compute_features(candles.iloc[start : start + WARM_UP + 1])
        miss = (fresh.iloc[0] - whole.loc[fresh.index[0]]).abs() / spread
        assert miss.max() <= 1e-3, miss.idxmax()


def test_warm_up_is_long_enough(random_candles):
    assert_forgets_its_start(random_candles(6000, 10), range(700, 5400, 470))


@pytest.mark.parametrize("symbol", ["BTCUSDT", "BONKUSDT"])
def test_warm_up_is_long_enough_on_real_candles(real_candles, symbol):
    candles = real_candles(symbol, start="2024-01-01", end="2024-07-01")
    assert_forgets_its_start(candles, range(700, len(candles) - WARM_UP - 1, 530))


# ---- the table ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.names[0])
def test_every_family_returns_one_array_per_name(random_candles, family):
    bars = Bars.of(random_candles(300, 11))
    for window in family.windows:
        outputs = family.compute(bars, *window)
        assert len(outputs) == len(family.names)
        assert all(output.shape == (300,) for output in outputs)


def test_two_years_of_half_hours_take_a_tenth_of_a_second(random_candles):
    candles = random_candles(35_040, 12)
    seconds = []
    for _ in range(5):
        start = time.process_time()
        compute_features(candles)
        seconds.append(time.process_time() - start)
    # 100 ms is the aim on an idle machine; processor time, and three times the aim, for a busy one.
    assert min(seconds) < 0.3
