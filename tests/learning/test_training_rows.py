"""Rows counted from candles are the rows of the training set that the assets build from them, whatever the settings."""

from collections.abc import Callable, Mapping

import pandas as pd
import pytest
from conftest import make_random_candles

from cvntrade_assets.learning.barriers import label_candles
from cvntrade_assets.learning.cusum import cusum_events
from cvntrade_assets.learning.features import compute_features
from cvntrade_assets.learning.from_settings import cusum_mode, embargo, slice_fractions
from cvntrade_assets.learning.splits import SLICES, UnusableSplitError
from cvntrade_assets.learning.training_rows import count_training_rows
from cvntrade_assets.learning.training_set import assemble_training_set
from cvntrade_assets.market.candles import timeframe_delta
from cvntrade_assets.market.simulated import SimulatedMarket
from cvntrade_assets.market.volatility import average_true_range
from cvntrade_assets.settings import Settings, resolve

NOW = pd.Timestamp("2025-09-01", tz="UTC")
SLICES_ELSEWHERE = {
    "CVN_SLICE_TRAIN": "0.5",
    "CVN_SLICE_VALIDATION": "0.2",
    "CVN_SLICE_CALIBRATION": "0.1",
    "CVN_SLICE_TEST": "0.2",
}
SEVERAL: list[dict[str, str]] = [
    {},
    {"CVN_CUSUM_TRAINING_ENABLED": "0"},
    {"CVN_CUSUM_FILTER_MODE": "stable"},
    {"CVN_CUSUM_THRESHOLD_H": "0.7"},
    {"CVN_DEFAULT_PTE": "H6_SL0.5_TP3", "CVN_EMBARGO_HOURS": "48"},
    {"CVN_SL_MULT": "1.5", "CVN_TP_MULT": "1.5", "CVN_UNIQUENESS_WEIGHTS": "0"},
    {"CVN_BINARY_CLASSIFICATION": "0", "CVN_THRESHOLD_METHOD": "expected_value"},
    {**SLICES_ELSEWHERE, "CVN_CUSUM_TRAINING_ENABLED": "0"},
]


def settings(run: Mapping[str, str]) -> Settings:
    return resolve(base_env={}, run=run, now=NOW)


def built(candles: pd.DataFrame, under: Settings) -> dict[str, int]:
    """Rows by slice of the training set that the assets would store."""
    interval, binary = timeframe_delta(under.text("CVN_TIMEFRAME")), under.flag("CVN_BINARY_CLASSIFICATION")
    whole = assemble_training_set(
        compute_features(candles),
        label_candles(candles, under.pte, interval=interval, binary=binary),
        cusum_events(candles, average_true_range(candles), under.number("CVN_CUSUM_THRESHOLD_H")),
        cusum_mode(under),
        slice_fractions(under),
        embargo(under),
        uniqueness_weights=under.flag("CVN_UNIQUENESS_WEIGHTS"),
    )
    return {name: len(whole.slice(name).targets) for name in SLICES}


@pytest.mark.parametrize("run", SEVERAL, ids=lambda run: ",".join(run) or "defaults")
def test_counts_are_those_of_the_simulated_training_set(run: Mapping[str, str]) -> None:
    under = settings({"CVN_MARKET": "simulated", **run})
    candles = SimulatedMarket(0, 0.3).candles("BTCUSDC", "30m", NOW - pd.DateOffset(months=6), NOW)
    assert count_training_rows(candles, under) == built(candles, under)


def test_counts_follow_the_timeframe() -> None:
    under = settings({"CVN_MARKET": "simulated", "CVN_TIMEFRAME": "15m"})
    candles = SimulatedMarket(0, 0.3).candles("ETHUSDC", "15m", NOW - pd.DateOffset(months=3), NOW)
    assert count_training_rows(candles, under) == built(candles, under)


@pytest.mark.parametrize("run", SEVERAL[:4], ids=lambda run: ",".join(run) or "defaults")
def test_counts_are_those_of_the_real_training_set(
    real_candles: Callable[..., pd.DataFrame], run: Mapping[str, str]
) -> None:
    # ADAUSDT has a hole of a month and the outage of March 2023.
    candles, under = real_candles("ADAUSDT", "30m", "2023-03-01", "2025-03-01"), settings(run)
    assert count_training_rows(candles, under) == built(candles, under)


def test_without_cusum_there_are_twenty_times_as_many() -> None:
    candles = SimulatedMarket(0, 0.3).candles("BTCUSDC", "30m", NOW - pd.DateOffset(months=24), NOW)
    usual = count_training_rows(candles, settings({}))["train"]
    off = count_training_rows(candles, settings({"CVN_CUSUM_TRAINING_ENABLED": "0"}))["train"]
    stable = count_training_rows(candles, settings({"CVN_CUSUM_FILTER_MODE": "stable"}))["train"]
    assert 1_000 < usual < 2_500
    assert 27_000 < off < 28_500
    assert stable == off - usual


def test_an_empty_slice_counts_as_none() -> None:
    counts = count_training_rows(make_random_candles(700, 0), settings({"CVN_EMBARGO_HOURS": "240"}))
    assert counts["validation"] == 0


def test_too_few_candles_are_refused() -> None:
    with pytest.raises(UnusableSplitError, match="too few"):
        count_training_rows(make_random_candles(502, 0), settings({}))
