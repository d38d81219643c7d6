"""The training set: what is joined, what CUSUM thins, what weighs how much."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cvntrade_assets.learning.splits import SLICES, SliceFractions, place_in_slices, slice_boundaries, slice_overlaps
from cvntrade_assets.learning.training_set import (
    TARGET_COLUMNS,
    TrainingSet,
    UnusableTrainingSetError,
    assemble_training_set,
    count_rows,
)
from cvntrade_assets.learning.uniqueness import average_uniqueness

HALF_HOUR = pd.Timedelta("30min")
EMBARGO = pd.Timedelta("2h")
QUARTERS = SliceFractions(0.25, 0.25, 0.25, 0.25)


def a_market(n: int = 400, seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame, pd.DatetimeIndex]:
    """Features of candles 50 on, labels of all but the last few, and every ninth candle as an event."""
    rng = np.random.default_rng(seed)
    times = pd.date_range("2024-01-01", periods=n, freq=HALF_HOUR, tz="UTC", name="open_time", unit="ns")
    features = pd.DataFrame(rng.normal(size=(n - 50, 3)).astype(np.float32), times[50:], ["A", "B", "C"])
    signals = times[: n - 13]
    held = pd.to_timedelta(30 * rng.integers(1, 13, len(signals)), unit="min")
    kind = rng.choice(["tp", "sl", "timeout"], len(signals))
    labels = pd.DataFrame(
        {
            "label": (kind == "tp").astype(np.int8),
            "return": rng.normal(0, 0.01, len(signals)),
            "exit_kind": pd.Categorical(kind, categories=["tp", "sl", "timeout"]),
            "entry_time": signals + HALF_HOUR,
            "exit_time": signals + HALF_HOUR + held,
            "ambiguous": rng.random(len(signals)) < 0.1,
        },
        index=signals,
    )
    return features, labels, times[::9]


def assemble(mode="event", weights=True, n=400, **changes) -> TrainingSet:
    features, labels, events = a_market(n)
    given_ = {"features": features, "labels": labels, "events": events} | changes
    return assemble_training_set(**given_, mode=mode, fractions=QUARTERS, embargo=EMBARGO, uniqueness_weights=weights)


def test_rows_are_candles_with_features_and_a_label():
    features, labels, _ = a_market()
    got = assemble("off")
    assert got.features.index.equals(got.targets.index)
    assert got.features.index.isin(features.index).all()
    assert got.features.index.isin(labels.index).all()
    assert tuple(got.targets.columns) == TARGET_COLUMNS
    assert set(got.features.dtypes) == {np.dtype("float32")}
    pd.testing.assert_frame_equal(got.features, features.loc[got.features.index])
    columns = list(labels.columns)
    pd.testing.assert_frame_equal(got.targets[columns], labels.loc[got.targets.index])


def test_slices_are_those_of_all_candles_with_features():
    features, labels, _ = a_market()
    joined = labels.loc[labels.index.intersection(features.index)]
    expected = place_in_slices(joined, slice_boundaries(pd.DatetimeIndex(features.index), QUARTERS), EMBARGO)
    pd.testing.assert_series_equal(assemble("off").targets["slice"], expected)


def test_event_mode_keeps_the_events_and_stable_mode_the_rest_of_the_train_slice():
    _, _, events = a_market()
    every, event, stable = (assemble(mode).slice("train").features.index for mode in ("off", "event", "stable"))
    assert event.isin(events).all()
    assert not stable.isin(events).any()
    assert event.union(stable).equals(every)
    assert 0 < len(event) < len(stable)


@pytest.mark.parametrize("mode", ["event", "stable"])
@pytest.mark.parametrize("name", SLICES[1:])
def test_cusum_never_touches_the_later_slices(mode, name):
    every, thinned = assemble("off").slice(name), assemble(mode).slice(name)
    pd.testing.assert_frame_equal(thinned.features, every.features)
    pd.testing.assert_frame_equal(thinned.targets, every.targets)


def test_weights_are_the_uniqueness_among_kept_train_rows():
    features, _, _ = a_market()
    for mode in ("event", "stable", "off"):
        got = assemble(mode)
        train = got.slice("train").targets
        unique = average_uniqueness(train["entry_time"], train["exit_time"], pd.DatetimeIndex(features.index))
        np.testing.assert_allclose(train["weight"], unique / unique.mean())
        assert train["weight"].mean() == pytest.approx(1.0)
        assert train["weight"].std() > 0
        assert (got.targets.loc[got.targets["slice"] != "train", "weight"] == 1.0).all()


def test_weights_off_are_all_one():
    assert (assemble(weights=False).targets["weight"] == 1.0).all()
    assert assemble(weights=False).targets["weight"].dtype == np.float64


def test_no_span_crosses_a_slice():
    for mode in ("event", "stable", "off"):
        assert slice_overlaps(assemble(mode).targets).empty


def test_events_outside_the_frames_are_ignored():
    _, _, events = a_market()
    more = events.union(events + pd.Timedelta("400D"))
    pd.testing.assert_frame_equal(assemble(events=more).targets, assemble(events=events).targets)


def test_inputs_are_left_as_they_were():
    features, labels, events = a_market()
    before = labels.copy(deep=True)
    assemble(features=features, labels=labels, events=events)
    pd.testing.assert_frame_equal(labels, before)


@pytest.mark.parametrize("mode", ["event", "stable", "off"])
def test_counting_agrees_with_assembling(mode):
    features, labels, events = a_market()
    counts = count_rows(pd.DatetimeIndex(features.index), labels, events, mode, QUARTERS, EMBARGO)
    got = assemble(mode)
    assert counts == {name: len(got.slice(name).features) for name in SLICES}


def test_counting_reports_an_empty_slice_and_assembling_refuses_it():
    features, labels, _ = a_market()
    none = pd.DatetimeIndex([], tz="UTC")
    counts = count_rows(pd.DatetimeIndex(features.index), labels, none, "event", QUARTERS, EMBARGO)
    assert counts["train"] == 0
    with pytest.raises(UnusableTrainingSetError, match=r"\['train'\] hold no row"):
        assemble(events=none)


def test_labels_without_a_column_are_refused():
    _, labels, _ = a_market()
    with pytest.raises(UnusableTrainingSetError, match=r"\['ambiguous'\]"):
        assemble(labels=labels.drop(columns="ambiguous"))


def test_features_and_targets_of_other_candles_are_refused():
    got = assemble()
    with pytest.raises(UnusableTrainingSetError, match="not of the same candles"):
        TrainingSet(got.features.iloc[1:], got.targets)
    with pytest.raises(UnusableTrainingSetError, match="not of the same candles"):
        TrainingSet(got.features.iloc[::-1], got.targets)


def test_targets_without_a_column_are_refused():
    got = assemble()
    with pytest.raises(UnusableTrainingSetError, match="weight"):
        TrainingSet(got.features, got.targets.drop(columns="weight"))


def test_an_unknown_slice_is_refused():
    with pytest.raises(UnusableTrainingSetError, match="choose one of train"):
        assemble().slice("holdout")


def test_a_training_set_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        assemble().features = pd.DataFrame()


@given(cut=st.integers(120, 380), seed=st.integers(0, 50))
@settings(max_examples=15, deadline=None)
def test_labels_not_yet_decided_change_no_boundary(cut, seed):
    features, labels, _ = a_market(seed=seed)
    now = features.index[min(cut, len(features) - 1)]
    known = labels[labels["exit_time"] <= now]
    times = pd.DatetimeIndex(features.index)
    boundaries = slice_boundaries(times, QUARTERS)
    whole = place_in_slices(labels.loc[labels.index.isin(times)], boundaries, EMBARGO)
    part = place_in_slices(known.loc[known.index.isin(times)], boundaries, EMBARGO)
    pd.testing.assert_series_equal(part, whole.reindex(part.index), check_freq=False)
