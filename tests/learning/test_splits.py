"""Splits: exact tables of what is purged, and independent slow oracles of what must never overlap."""

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cvntrade_assets.learning.splits import (
    SLICES,
    Boundaries,
    SliceFractions,
    UnusableSplitError,
    place_in_slices,
    purged_folds,
    slice_boundaries,
    slice_overlaps,
)

HALF_HOUR = pd.Timedelta("30min")
NO_EMBARGO = pd.Timedelta(0)
QUARTERS = SliceFractions(0.25, 0.25, 0.25, 0.25)


def timeline(n: int) -> pd.DatetimeIndex:
    return pd.date_range("2024-01-01", periods=n, freq=HALF_HOUR, tz="UTC", name="open_time", unit="ns")


def spans(times: pd.DatetimeIndex, candles_held: list[int]) -> pd.DataFrame:
    """Label frame whose i-th signal enters at the next open and exits ``candles_held[i]`` candles later."""
    entry = times + HALF_HOUR
    exits = entry + pd.to_timedelta([30 * held for held in candles_held], unit="min")
    return pd.DataFrame({"entry_time": entry, "exit_time": exits}, index=times)


# ---- fractions ---------------------------------------------------------------------------------------------


def test_default_fractions_leave_a_fifteenth_to_each_later_slice():
    starts = slice_boundaries(timeline(3000), SliceFractions()).starts
    assert [timeline(3000).get_loc(start) for start in starts] == [0, 2400, 2600, 2800]


@pytest.mark.parametrize("shares", [(0.8, 0.1, 0.1, 0.1), (0.7, 0.1, 0.1, 0.0), (1.2, -0.1, -0.05, -0.05)])
def test_impossible_fractions_are_refused(shares):
    with pytest.raises(UnusableSplitError, match="together they must be 1"):
        SliceFractions(*shares)


def test_boundaries_are_positions_not_dates():
    times = timeline(40).append(timeline(40) + pd.Timedelta("60D"))
    starts = slice_boundaries(times, QUARTERS).starts
    assert list(starts) == [times[0], times[20], times[40], times[60]]


@pytest.mark.parametrize("times", [timeline(8)[::-1], timeline(8).repeat(2)])
def test_a_timeline_out_of_order_is_refused(times):
    with pytest.raises(UnusableSplitError, match="not strictly increasing"):
        slice_boundaries(times, QUARTERS)


def test_too_few_candles_are_refused():
    with pytest.raises(UnusableSplitError, match="too few"):
        slice_boundaries(timeline(5), SliceFractions())


# ---- four slices -------------------------------------------------------------------------------------------


def cut(labels: pd.DataFrame, n: int, embargo: pd.Timedelta = NO_EMBARGO) -> dict[int, str]:
    times = timeline(n)
    placed = place_in_slices(labels, slice_boundaries(times, QUARTERS), embargo)
    return {times.get_loc(at): str(name) for at, name in placed.items()}


def test_a_label_known_when_the_next_slice_opens_is_kept_and_a_later_one_is_not():
    # Slices open at candles 0, 4, 8 and 12. A signal at candle i held for one candle exits at i + 2's open.
    placed = cut(spans(timeline(16), [1] * 16), 16)
    assert placed == {
        0: "train", 1: "train", 2: "train",
        4: "validation", 5: "validation", 6: "validation",
        8: "calibration", 9: "calibration", 10: "calibration",
        12: "test", 13: "test", 14: "test", 15: "test",
    }  # fmt: skip


@pytest.mark.parametrize(("held", "kept"), [(1, True), (2, True), (3, False), (30, False)])
def test_the_purge_depends_on_each_labels_own_exit(held, kept):
    labels = spans(timeline(16), [1, held] + [1] * 14)
    assert (1 in cut(labels, 16)) == kept


def test_the_embargo_leaves_out_the_start_of_every_slice_but_the_first():
    placed = cut(spans(timeline(16), [1] * 16), 16, embargo=pd.Timedelta("60min"))
    assert list(placed) == [0, 1, 2, 6, 10, 14, 15]


def test_an_embargo_that_is_no_multiple_of_the_candle_rounds_up():
    placed = cut(spans(timeline(16), [1] * 16), 16, embargo=pd.Timedelta("31min"))
    assert list(placed) == [0, 1, 2, 6, 10, 14, 15]


def test_slices_are_an_ordered_category_on_the_labels_index():
    placed = place_in_slices(spans(timeline(16), [1] * 16), slice_boundaries(timeline(16), QUARTERS), NO_EMBARGO)
    assert placed.name == "slice"
    assert placed.index.name == "open_time"
    assert placed.cat.categories.tolist() == list(SLICES)
    assert placed.is_monotonic_increasing


def test_sparse_labels_do_not_move_the_boundaries():
    dense = spans(timeline(400), [2] * 400)
    whole = place_in_slices(dense, slice_boundaries(timeline(400), QUARTERS), NO_EMBARGO)
    some = place_in_slices(dense.iloc[::7], slice_boundaries(timeline(400), QUARTERS), NO_EMBARGO)
    pd.testing.assert_series_equal(some, whole.reindex(some.index))


def test_what_lies_before_the_first_slice_or_is_known_after_the_last_is_of_none():
    times = timeline(20)
    boundaries = Boundaries((times[4], times[8], times[12]), times[16])
    placed = place_in_slices(spans(times, [1] * 20), boundaries, NO_EMBARGO)
    # A signal at candle i held for one candle exits at i + 2's open.
    assert {times.get_loc(at): str(name) for at, name in placed.items()} == {
        4: "train", 5: "train", 6: "train",
        8: "validation", 9: "validation", 10: "validation",
        12: "calibration", 13: "calibration", 14: "calibration",
    }  # fmt: skip
    assert boundaries.slices == SLICES[:3]


def test_given_moments_cut_as_shares_do():
    times, labels = timeline(160), spans(timeline(160), [3] * 160)
    shared = slice_boundaries(times, QUARTERS)
    given_ = Boundaries(tuple(times[[0, 40, 80, 120]]), times[-1] + 10 * HALF_HOUR)
    embargo = pd.Timedelta("2h")
    pd.testing.assert_series_equal(place_in_slices(labels, shared, embargo), place_in_slices(labels, given_, embargo))


@pytest.mark.parametrize("positions", [(0,), (5, 5, 9), (5, 3, 9), (1, 2, 3, 4, 5, 6), (4, 2)])
def test_boundaries_that_do_not_increase_are_refused(positions):
    *starts, end = timeline(10)[list(positions)]
    with pytest.raises(UnusableSplitError, match="strictly increasing"):
        Boundaries(tuple(starts), end)


def test_a_negative_embargo_is_refused():
    labels = spans(timeline(16), [1] * 16)
    with pytest.raises(UnusableSplitError, match="negative"):
        place_in_slices(labels, slice_boundaries(timeline(16), QUARTERS), -HALF_HOUR)
    with pytest.raises(UnusableSplitError, match="negative"):
        purged_folds(labels["entry_time"], labels["exit_time"], 2, -HALF_HOUR)


@st.composite
def labelled_timelines(draw):
    n = draw(st.integers(20, 120))
    times = timeline(n + 30)
    gap = draw(st.integers(0, n - 1))
    times = times.delete(range(gap, gap + draw(st.integers(0, 30))))[:n]
    held = draw(st.lists(st.integers(1, 12), min_size=n, max_size=n))
    kept = draw(st.lists(st.booleans(), min_size=n, max_size=n))
    return times, spans(times, held)[kept]


@given(case=labelled_timelines(), embargo=st.integers(0, 300))
@settings(max_examples=40, deadline=None)
def test_slices_never_share_an_instant(case, embargo):
    times, labels = case
    placed = place_in_slices(labels, slice_boundaries(times, QUARTERS), pd.Timedelta(minutes=embargo))
    assert placed.index.is_unique
    assert placed.index.isin(labels.index).all()
    targets = labels.loc[placed.index].assign(slice=placed)
    for earlier, later in itertools.pairwise(SLICES):
        left, right = targets[targets["slice"] == earlier], targets[targets["slice"] == later]
        if len(left) and len(right):
            assert left["exit_time"].max() < right["entry_time"].min()
            assert left.index.max() < right.index.min()
    assert slice_overlaps(targets).empty


# ---- purged folds ------------------------------------------------------------------------------------------


def folds_of(labels: pd.DataFrame, n_folds: int, embargo: pd.Timedelta = NO_EMBARGO):
    return purged_folds(labels["entry_time"], labels["exit_time"], n_folds, embargo)


def test_folds_drop_what_touches_the_block_on_both_sides():
    # Row i lasts [i + 1, i + 3]. Block 4..7 lasts [5, 10]: rows 2 and 3 end in it, rows 8 and 9 begin in it.
    folds = folds_of(spans(timeline(12), [2] * 12), 3)
    assert [fold.held_out.tolist() for fold in folds] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
    assert [fold.train.tolist() for fold in folds] == [
        [6, 7, 8, 9, 10, 11],
        [0, 1, 10, 11],
        [0, 1, 2, 3, 4, 5],
    ]


def test_folds_embargo_only_what_follows_the_block():
    folds = folds_of(spans(timeline(12), [2] * 12), 3, embargo=HALF_HOUR)
    assert [fold.train.tolist() for fold in folds] == [[7, 8, 9, 10, 11], [0, 1, 11], [0, 1, 2, 3, 4, 5]]


def test_one_long_span_inside_the_block_purges_what_it_reaches():
    labels = spans(timeline(12), [2, 2, 2, 2, 6, 2, 2, 2, 2, 2, 2, 2])
    assert folds_of(labels, 3)[1].train.tolist() == [0, 1, 11]


def leaked(labels: pd.DataFrame, train, held_out) -> int:
    """Count training rows that share an instant with a held-out row, by looking at every pair."""
    rows = list(zip(labels["entry_time"], labels["exit_time"], strict=True))
    return sum(any(rows[i][0] <= rows[j][1] and rows[j][0] <= rows[i][1] for j in held_out) for i in train.tolist())


@given(
    case=labelled_timelines(),
    n_folds=st.integers(2, 5),
    embargo=st.integers(0, 90),
)
@settings(max_examples=25, deadline=None)
def test_folds_leak_no_label(case, n_folds, embargo):
    _, labels = case
    wait = pd.Timedelta(minutes=embargo)
    try:
        folds = folds_of(labels, n_folds, wait)
    except UnusableSplitError:
        return
    held_out = np.concatenate([fold.held_out for fold in folds])
    assert held_out.tolist() == list(range(len(labels)))
    for fold in folds:
        assert leaked(labels, fold.train, fold.held_out) == 0
        ends = labels["exit_time"].iloc[fold.held_out].max()
        after = labels.iloc[fold.train[fold.train > fold.held_out[-1]]]
        assert (after["entry_time"] > ends + wait).all()


def test_folds_leak_no_label_on_dense_events_and_keep_nearly_all_rows():
    rng = np.random.default_rng(0)
    labels = spans(timeline(600), rng.integers(1, 13, 600).tolist())
    for fold in folds_of(labels, 5):
        assert leaked(labels, fold.train, fold.held_out) == 0
        assert len(fold.train) + len(fold.held_out) >= 600 - 2 * 13


@pytest.mark.parametrize(
    ("labels", "n_folds", "says"),
    [
        (spans(timeline(12), [1] * 12), 1, "cannot be cut"),
        (spans(timeline(3), [1] * 3), 4, "cannot be cut"),
        (spans(timeline(12), [1] * 12).iloc[::-1], 3, "in order"),
        (spans(timeline(12), [-2] * 12), 3, "may precede"),
        (spans(timeline(4), [9] * 4), 2, "no row is left"),
    ],
)
def test_unusable_rows_are_refused(labels, n_folds, says):
    with pytest.raises(UnusableSplitError, match=says):
        folds_of(labels, n_folds)


# ---- overlaps ----------------------------------------------------------------------------------------------


def placed_by_hand(held: list[int], names: list[str]) -> pd.DataFrame:
    labels = spans(timeline(len(held)), held)
    return labels.assign(slice=pd.Categorical(names, categories=list(SLICES)))


def test_overlaps_name_the_row_and_the_slice_it_reaches():
    targets = placed_by_hand([1, 1, 2, 1, 1], ["train", "train", "train", "validation", "validation"])
    # Row 2 lasts [3, 5]; validation is entered from 4 on. Row 1 lasts [2, 3].
    found = slice_overlaps(targets)
    assert found.index.tolist() == [targets.index[2]]
    assert found[["slice", "other"]].to_numpy().tolist() == [["train", "validation"]]
    assert found["other_first_entry"].tolist() == [targets["entry_time"].iloc[3]]


def test_touching_in_one_instant_is_an_overlap():
    targets = placed_by_hand([1, 1], ["train", "validation"])
    assert len(slice_overlaps(targets)) == 1


def test_a_span_over_two_slices_is_found_twice():
    targets = placed_by_hand([9, 1, 1, 1], ["train", "validation", "calibration", "calibration"])
    assert slice_overlaps(targets)["other"].tolist()[:2] == ["validation", "calibration"]


def test_interleaved_slices_are_found_even_if_no_span_is_long():
    targets = placed_by_hand([0, 0, 0], ["train", "test", "train"])
    assert slice_overlaps(targets)["slice"].tolist() == ["test"]


def test_one_slice_alone_has_no_overlap():
    found = slice_overlaps(placed_by_hand([5] * 4, ["train"] * 4))
    assert found.empty
    assert "other" in found.columns


def test_a_missing_slice_is_refused():
    targets = placed_by_hand([1, 1], ["train", "unknown"])
    with pytest.raises(UnusableSplitError, match="missing slice"):
        slice_overlaps(targets)


@given(case=labelled_timelines(), seed=st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_overlaps_are_empty_exactly_when_no_pair_overlaps(case, seed):
    _, labels = case
    rng = np.random.default_rng(seed)
    marks = np.sort(rng.integers(0, 4, len(labels))) if seed % 2 else rng.integers(0, 4, len(labels))
    targets = labels.assign(slice=pd.Categorical.from_codes(marks, categories=list(SLICES)))
    rows = list(zip(labels["entry_time"], labels["exit_time"], marks.tolist(), strict=True))
    any_pair = any(a[2] != b[2] and a[0] <= b[1] and b[0] <= a[1] for a, b in itertools.combinations(rows, 2))
    # An interleaved row is reported even if it overlaps no single row: it lies inside another slice's period.
    if any_pair:
        assert not slice_overlaps(targets).empty
    elif (np.diff(marks) >= 0).all():
        assert slice_overlaps(targets).empty
