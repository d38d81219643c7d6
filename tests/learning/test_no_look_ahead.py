"""The whole learning front: replacing every candle after t by noise changes nothing at or before t."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cvntrade_assets.learning.barriers import label_candles
from cvntrade_assets.learning.cusum import cusum_events
from cvntrade_assets.learning.features import WARM_UP, compute_features
from cvntrade_assets.learning.splits import SliceFractions
from cvntrade_assets.learning.training_set import TrainingSet, assemble_training_set
from cvntrade_assets.market.simulated import SimulatedMarket
from cvntrade_assets.market.volatility import average_true_range
from cvntrade_assets.trading.pte import PTE

INTERVAL = pd.Timedelta("30min")
START, END = pd.Timestamp("2024-10-15", tz="UTC"), pd.Timestamp("2025-02-15", tz="UTC")


@pytest.fixture(scope="module", params=["simulated", "real"])
def candles(request) -> pd.DataFrame:
    """Four months; the real ones hold ADAUSDT's month-long gap."""
    if request.param == "simulated":
        return SimulatedMarket(seed=3, signal=1.0).candles("BTCUSDC", "30m", START, END)
    return request.getfixturevalue("real_candles")("ADAUSDT", "30m", f"{START:%Y-%m-%d}", f"{END:%Y-%m-%d}")


def noise_after(candles: pd.DataFrame, position: int, seed: int) -> pd.DataFrame:
    """The same candles up to and including `position`, valid noise on another scale after it."""
    rng, count = np.random.default_rng(seed), len(candles) - position - 1
    prices = np.sort(rng.lognormal(0.0, 2.0, (count, 4)), axis=1)
    later = pd.DataFrame(
        {
            "open": prices[:, 1],
            "high": prices[:, 3],
            "low": prices[:, 0],
            "close": prices[:, 2],
            "volume": rng.lognormal(0.0, 2.0, count),
            "complete": True,
        },
        index=candles.index[position + 1 :],
    )
    return pd.concat([candles.iloc[: position + 1], later])


def front(candles: pd.DataFrame, binary: bool) -> tuple[pd.DataFrame, pd.DataFrame, pd.DatetimeIndex, TrainingSet]:
    """Features, labels, events and slices, as the graph makes them."""
    features = compute_features(candles)
    labels = label_candles(candles, PTE.parse("H4_SL1.0_TP2.0"), interval=INTERVAL, binary=binary)
    events = cusum_events(candles, average_true_range(candles), 1.5)
    fractions = SliceFractions(0.7, 0.1, 0.1, 0.1)
    training = assemble_training_set(features, labels, events, "event", fractions, pd.Timedelta("6h"), False)
    return features, labels, events, training


@pytest.mark.parametrize("binary", [True, False])
@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(share=st.floats(0.2, 0.98), seed=st.integers(0, 2**32 - 1))
def test_nothing_at_or_before_t_depends_on_what_comes_after(candles, binary, share, seed):
    position = WARM_UP + int(share * (len(candles) - WARM_UP - 2))
    known_at = candles.index[position] + INTERVAL
    features, labels, events, training = front(candles, binary)
    other_features, other_labels, other_events, other_training = front(noise_after(candles, position, seed), binary)

    upto = candles.index[position]
    pd.testing.assert_frame_equal(features.loc[:upto], other_features.loc[:upto], check_exact=True)
    assert events[events <= upto].equals(other_events[other_events <= upto])
    # Strictly before: an exit at this very instant may be a fill at the next open, which comes after t.
    ended, other_ended = (table[table["exit_time"] < known_at] for table in (labels, other_labels))
    pd.testing.assert_frame_equal(ended, other_ended, check_exact=True)
    rows, other_rows = (made.targets[made.targets["exit_time"] < known_at] for made in (training, other_training))
    pd.testing.assert_frame_equal(rows, other_rows, check_exact=True)


def test_the_noise_would_be_noticed(candles):
    """The property could hold for an empty reason: what comes after t does change."""
    position = len(candles) // 2
    features, labels, *_ = front(candles, True)
    other_features, other_labels, *_ = front(noise_after(candles, position, 1), True)
    after = candles.index[position + 1]
    assert not features.loc[after:].equals(other_features.loc[after:])
    assert not labels.loc[after:, "return"].equals(other_labels.loc[after:, "return"])
