"""The rows of every point of a grid, against the chain's own functions point by point."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from cvntrade_assets.learning.barriers import label_candles
from cvntrade_assets.learning.cusum import cusum_events
from cvntrade_assets.learning.screening_rows import SELECTION, TRAIN, VALIDATION, GridRows
from cvntrade_assets.learning.splits import Boundaries, slice_overlaps
from cvntrade_assets.learning.training_set import TrainingSet, cut_training_set
from cvntrade_assets.market.volatility import average_true_range
from cvntrade_assets.trading.fills import LONG, candle_arrays, walk_signals
from cvntrade_assets.trading.pte import PTE, PteGrid

INTERVAL = pd.Timedelta("30min")
EMBARGO = pd.Timedelta("3h")
GRID = PteGrid((1, 3, 6), (0.5, 1.5), (0.5, 1.5, 4.0))
WARM_UP = 40
THRESHOLD = 1.0


@pytest.fixture(scope="module")
def candles(random_candles: Callable[..., pd.DataFrame]) -> pd.DataFrame:
    """With gaps, one of them just before validation begins and one just before the end."""
    whole = random_candles(900, seed=5)
    return whole.drop(whole.index[[*range(300, 303), *range(496, 500), *range(893, 896)]])


@pytest.fixture(scope="module")
def boundaries(candles: pd.DataFrame) -> Boundaries:
    return Boundaries(tuple(candles.index[[WARM_UP, 500, 700]]), candles.index[-1] + INTERVAL)


def rows_of(candles: pd.DataFrame, boundaries: Boundaries, mode: str = "off", threshold: float = THRESHOLD) -> GridRows:
    return GridRows(
        candles,
        pd.DatetimeIndex(candles.index[WARM_UP:]),
        grid=GRID,
        interval=INTERVAL,
        boundaries=boundaries,
        embargo=EMBARGO,
        cusum_mode=mode,
        cusum_threshold=threshold,
    )


def one_by_one(candles: pd.DataFrame, boundaries: Boundaries, pte: PTE, mode: str, threshold: float) -> TrainingSet:
    """The chain's own labels, slices, purge, CUSUM and weights, exits known at their candle's close."""
    atr, times = average_true_range(candles), candles.index[WARM_UP:]
    labels = label_candles(candles, pte, interval=INTERVAL, binary=True)
    exits = walk_signals(
        candle_arrays(candles, INTERVAL), candles.index.get_indexer(labels.index), atr.to_numpy(), pte, LONG
    )
    labels["exit_time"] = candles.index[exits.index] + INTERVAL
    nothing = pd.DataFrame(index=times)
    events = cusum_events(candles, atr, threshold)
    return cut_training_set(nothing, labels, events, mode, boundaries, EMBARGO, uniqueness_weights=True)


@pytest.mark.parametrize("mode", ["off", "event", "stable"])
def test_every_point_knows_what_the_chain_would_know(candles: pd.DataFrame, boundaries: Boundaries, mode: str):
    rows = rows_of(candles, boundaries, mode)
    for pte in GRID:
        expected = one_by_one(candles, boundaries, pte, mode, THRESHOLD).targets
        found = rows.of(pte)
        known = found.known
        assert rows.times[known].equals(pd.DatetimeIndex(expected.index)), pte
        assert list(rows.slices[known]) == list(expected["slice"])
        assert np.array_equal(found.label[known], expected["label"])
        np.testing.assert_allclose(found.returns[known], expected["return"], rtol=1e-12)
        assert found.entry_time[known].equals(pd.DatetimeIndex(expected["entry_time"], name="open_time"))
        assert list(found.exit_time[known]) == list(expected["exit_time"])

        weights = rows.train_weights(found, unique=True)
        known_train = known[rows.slices == TRAIN]
        train = expected["slice"] == "train"
        np.testing.assert_allclose(weights[known_train], expected["weight"][train], rtol=1e-12)
        assert (weights[~known_train] == 0.0).all()
        assert weights[known_train].mean() == pytest.approx(1.0)
        plain = rows.train_weights(found, unique=False)
        assert np.array_equal(plain, known_train.astype(float))


def test_no_label_leaks_when_every_candle_is_an_event(candles: pd.DataFrame, boundaries: Boundaries):
    rows = rows_of(candles, boundaries)
    first = dict(zip((TRAIN, VALIDATION, SELECTION), boundaries.starts, strict=True))
    dropped = 0
    for pte in GRID:
        found = rows.of(pte)
        spans = {"entry_time": found.entry_time, "exit_time": found.exit_time, "slice": rows.slices}
        spans = pd.DataFrame(spans, index=rows.times)[found.known]
        assert slice_overlaps(spans).empty
        for name, end in ((TRAIN, first[VALIDATION]), (VALIDATION, first[SELECTION]), (SELECTION, boundaries.end)):
            assert (spans.loc[spans["slice"] == name, "exit_time"] <= end).all()
        dropped += int((~found.known).sum())
    assert dropped > len(GRID), "nothing was purged: the test shows nothing"
    for name in (VALIDATION, SELECTION):
        assert rows.times[rows.slices == name][0] == first[name] + EMBARGO


def test_purging_is_each_points_own(candles: pd.DataFrame, boundaries: Boundaries):
    rows = rows_of(candles, boundaries)
    near, far = (rows.of(PTE(hours, 1.5, 4.0)).known & (rows.slices == VALIDATION) for hours in (1, 6))
    assert near.sum() > far.sum()
    assert not (far & ~near).any()


def test_cusum_thins_train_only(candles: pd.DataFrame, boundaries: Boundaries):
    off, event, stable = (rows_of(candles, boundaries, mode) for mode in ("off", "event", "stable"))
    for name in (VALIDATION, SELECTION):
        assert (event.slices == name).sum() == (stable.slices == name).sum() == (off.slices == name).sum()
    trains = [each.times[each.slices == TRAIN] for each in (event, stable, off)]
    assert trains[0].union(trains[1]).equals(trains[2])
    assert trains[0].intersection(trains[1]).empty
    assert len(trains[0]) > 20
