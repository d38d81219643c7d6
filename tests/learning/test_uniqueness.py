"""Average uniqueness against tables and against counting candle by candle."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cvntrade_assets.learning.uniqueness import UncoveredSpanError, average_uniqueness

TIMES = pd.date_range("2024-01-01", periods=60, freq="30min", tz="UTC", unit="ns")


def series(positions) -> pd.Series:
    return pd.Series(TIMES[list(positions)])


@pytest.mark.parametrize(
    ("entries", "exits", "expected"),
    [
        ([0, 5], [3, 9], [1.0, 1.0]),  # apart
        ([0, 3], [3, 6], [1.0, 1.0]),  # one ends where the other begins: no candle shared
        ([0, 0], [4, 4], [0.5, 0.5]),  # the same span
        ([0, 1], [2, 3], [0.75, 0.75]),  # one of two candles shared
        ([0, 1, 2], [3, 2, 4], [(1 + 1 / 2 + 1 / 2) / 3, 1 / 2, (1 / 2 + 1) / 2]),
        ([7], [8], [1.0]),
    ],
)
def test_uniqueness_is_the_mean_share_of_each_candle(entries, exits, expected):
    assert average_uniqueness(series(entries), series(exits), TIMES).tolist() == pytest.approx(expected)


def test_a_span_over_a_gap_counts_only_the_candles_there_are():
    gappy = TIMES.delete([2, 3, 4])
    entry, exit_ = series([0, 1]), series([6, 2])
    # Candles 0, 1 and 5 carry the first label; candle 1 carries the second as well.
    assert average_uniqueness(entry, exit_, gappy).tolist() == pytest.approx([(1 + 1 / 2 + 1) / 3, 1 / 2])


def test_no_labels_have_no_uniqueness():
    assert average_uniqueness(series([]), series([]), TIMES).tolist() == []


@pytest.mark.parametrize(("entry", "exit_"), [(3, 3), (5, 4)])
def test_a_span_without_a_candle_is_refused(entry, exit_):
    with pytest.raises(UncoveredSpanError, match="span no candle"):
        average_uniqueness(series([0, entry]), series([2, exit_]), TIMES)


def counted(entries, exits) -> list[float]:
    covered = [[t for t in TIMES if start <= t < stop] for start, stop in zip(entries, exits, strict=True)]
    return [
        sum(1 / sum(candle in other for other in covered) for candle in candles) / len(candles) for candles in covered
    ]


@given(rows=st.lists(st.tuples(st.integers(0, 45), st.integers(1, 12)), min_size=1, max_size=15))
@settings(max_examples=40, deadline=None)
def test_uniqueness_agrees_with_counting(rows):
    entries, exits = series(a for a, _ in rows), series(a + n for a, n in rows)
    got = average_uniqueness(entries, exits, TIMES)
    assert got.tolist() == pytest.approx(counted(entries, exits))
    assert ((got > 0) & (got <= 1)).all()
    assert got.dtype == np.float64
