"""No label of a fold leaks: dense events, judged by looking at every pair of rows and by another library."""

import itertools

import numpy as np
import pandas as pd
import pytest
from evaluated_market import history, small_recipe
from purgedcv import purge
from purgedcv.diagnostics import assert_no_temporal_leakage
from purgedcv.exceptions import TemporalLeakageError

from cvntrade_assets.learning.barriers import label_candles
from cvntrade_assets.learning.splits import SLICES, Boundaries, SliceFractions, place_in_slices
from cvntrade_assets.learning.timeline import FoldPlan, plan_folds, plan_screening, plan_steps
from cvntrade_assets.trading.pte import PTE

HALF_HOUR = pd.Timedelta("30min")
FRACTIONS = SliceFractions(0.5, 0.2, 0.2, 0.1)
NO_EMBARGO, EMBARGO = pd.Timedelta(0), pd.Timedelta("6h")
# Barriers far away: nearly every trade lasts the whole horizon, so neighbours overlap by twelve candles.
LONG_LABELS = PTE.parse("H6_SL3.0_TP5.0")


def dense_labels(n: int = 2400) -> pd.DataFrame:
    """A label for every candle that has features; a day of candles is missing."""
    candles = history().candles.iloc[: n + 500]
    candles = candles.drop(candles.index[1500:1548])
    labels = label_candles(candles, LONG_LABELS, interval=HALF_HOUR, binary=True)
    return labels.iloc[500:]


def plans_of(labels: pd.DataFrame, mode) -> tuple[FoldPlan, ...]:
    times = pd.DatetimeIndex(labels.index)
    length = pd.Timedelta(days=4)
    folds = plan_folds(times, interval=HALF_HOUR, n_folds=3, test_length=length, fractions=FRACTIONS, mode=mode)
    return (*folds, *plan_steps(times, folds[-1], pd.Timedelta(days=1), fractions=FRACTIONS, mode=mode))


def rows_that_leak(spans: pd.DataFrame, earlier: np.ndarray, later: np.ndarray) -> int:
    """Count rows of the earlier slice whose trade lives at an instant at which one of the later slice does."""
    entry, exit_ = (spans[name].astype("int64").tolist() for name in ("entry_time", "exit_time"))
    return sum(
        any(entry[row] <= exit_[other] and entry[other] <= exit_[row] for other in later.tolist())
        for row in earlier.tolist()
    )


def positions(labels: pd.DataFrame, placed: pd.Series, name: str) -> np.ndarray:
    return np.flatnonzero(labels.index.isin(placed.index[placed == name]))


def cut_without_purge(labels: pd.DataFrame, boundaries: Boundaries) -> pd.Series:
    """Every label in the slice that its candle lies in."""
    number = np.searchsorted(pd.DatetimeIndex(boundaries.starts), labels.index, side="right") - 1
    inside = (number >= 0) & (labels.index < boundaries.end)
    return pd.Series(np.array(SLICES)[number[inside]], labels.index[inside])


@pytest.mark.parametrize("mode", ["expanding", "rolling"])
def test_no_label_leaks_between_the_slices_of_a_fold_or_step(mode):
    labels = dense_labels()
    for plan in plans_of(labels, mode):
        placed = place_in_slices(labels, plan.whole, NO_EMBARGO)
        for earlier, later in itertools.combinations(SLICES, 2):
            train, test = positions(labels, placed, earlier), positions(labels, placed, later)
            assert len(train) > 30 and len(test) > 30
            # Beyond a horizon from the boundary no pair can meet: only the neighbours need be looked at.
            assert rows_that_leak(labels, train[-200:], test[:200]) == 0
            assert_no_temporal_leakage(train, test, labels["entry_time"], labels["exit_time"])


def test_without_the_purge_both_judges_find_leaks():
    labels = dense_labels()
    for plan in plans_of(labels, "expanding"):
        placed = cut_without_purge(labels, plan.whole)
        for earlier, later in itertools.pairwise(SLICES):
            train, test = positions(labels, placed, earlier), positions(labels, placed, later)
            assert rows_that_leak(labels, train[-200:], test[:200]) > 0
            with pytest.raises(TemporalLeakageError):
                assert_no_temporal_leakage(train, test, labels["entry_time"], labels["exit_time"])


@pytest.mark.parametrize("mode", ["expanding", "rolling"])
def test_exactly_the_rows_that_another_library_would_purge_are_purged(mode):
    # A label of the later slice enters one candle after its signal candle opens; that candle is where the slice begins.
    labels = dense_labels()
    for plan in plans_of(labels, mode):
        placed, every = place_in_slices(labels, plan.whole, NO_EMBARGO), cut_without_purge(labels, plan.whole)
        for earlier, later in itertools.pairwise(SLICES):
            candidates, test = positions(labels, every, earlier), positions(labels, every, later)
            kept = purge(candidates, test, labels["entry_time"], labels["exit_time"], purge_horizon=HALF_HOUR)
            assert positions(labels, placed, earlier).tolist() == kept.tolist()


def test_every_outcome_is_known_when_the_next_slice_begins():
    labels = dense_labels()
    for plan in plans_of(labels, "expanding"):
        placed = place_in_slices(labels, plan.whole, EMBARGO)
        exits = labels.loc[placed.index, "exit_time"]
        for name, until in zip(SLICES, (*plan.starts[1:], plan.end), strict=True):
            assert exits[placed == name].max() <= until


@pytest.mark.parametrize("embargo", ["0h", "6h", "13h15min"])
def test_the_embargo_leaves_out_the_beginning_of_every_slice_but_the_first(embargo):
    labels, wait = dense_labels(), pd.Timedelta(embargo)
    for plan in plans_of(labels, "rolling"):
        placed = place_in_slices(labels, plan.whole, wait)
        for name, begins in zip(SLICES, plan.starts, strict=True):
            first = placed.index[placed == name][0]
            since = begins if name == "train" else begins + wait
            assert first == labels.index[labels.index >= since][0]


def test_the_screening_and_every_past_know_nothing_of_the_first_test_period():
    labels = dense_labels()
    first = plans_of(labels, "expanding")[0]
    placed = place_in_slices(labels, plan_screening(first), NO_EMBARGO)
    assert set(placed) == set(SLICES[:3])
    assert labels.loc[placed.index, "exit_time"].max() <= first.starts[3]


def test_cusum_thins_the_train_slice_of_a_fold_and_no_other():
    recipe = small_recipe()
    labels = label_candles(history().candles, LONG_LABELS, interval=HALF_HOUR, binary=True)
    plan = plan_folds(
        pd.DatetimeIndex(history().features.index),
        interval=HALF_HOUR, n_folds=2, test_length=pd.Timedelta(days=10), fractions=FRACTIONS, mode="expanding",
    )[0]  # fmt: skip
    rows = history().rows(labels, plan.whole, recipe)
    dense = place_in_slices(labels.loc[labels.index.isin(history().features.index)], plan.whole, recipe.embargo)
    for name in SLICES:
        expected = dense.index[dense == name]
        if name == "train":
            expected = expected.intersection(history().events)
        assert rows.slice(name).targets.index.equals(expected)
    assert rows.slice("train").targets["weight"].mean() == pytest.approx(1.0)
