"""The training set: features beside what is to be learned from them, cut into four slices."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cvntrade_assets.learning.splits import SLICES, Boundaries, SliceFractions, place_in_slices, slice_boundaries

CusumMode = Literal["event", "stable", "off"]

LABEL_COLUMNS: tuple[str, ...] = ("label", "return", "exit_kind", "entry_time", "exit_time", "ambiguous")
TARGET_COLUMNS: tuple[str, ...] = (*LABEL_COLUMNS, "weight", "slice")


class UnusableTrainingSetError(ValueError):
    """The parts of a training set do not belong together, or one of its slices holds no row."""


@dataclass(frozen=True)
class TrainingSet:
    """Features and targets of the same candles, row by row.

    Attributes:
        features: float32, one column per feature, index ``open_time`` strictly increasing.
        targets: Same index; columns ``TARGET_COLUMNS``. ``weight`` has mean 1 over the train slice and is 1
            elsewhere; ``slice`` is a category of ``SLICES``.

    Raises:
        UnusableTrainingSetError: If the indexes differ or a target column is missing.
    """

    features: pd.DataFrame
    targets: pd.DataFrame

    def __post_init__(self) -> None:
        missing = [name for name in TARGET_COLUMNS if name not in self.targets.columns]
        if missing:
            raise UnusableTrainingSetError(f"targets lack the column(s) {missing}; expected {list(TARGET_COLUMNS)}")
        if not self.features.index.equals(self.targets.index):
            raise UnusableTrainingSetError(
                f"features ({len(self.features)} rows) and targets ({len(self.targets)} rows) are not of the "
                "same candles in the same order; assemble the training set again"
            )

    def slice(self, name: str) -> "TrainingSet":
        """Return the rows of one slice, in time order.

        Raises:
            UnusableTrainingSetError: If there is no such slice.
        """
        if name not in SLICES:
            raise UnusableTrainingSetError(f"there is no slice {name!r}; choose one of {', '.join(SLICES)}")
        rows = (self.targets["slice"] == name).to_numpy()
        return TrainingSet(self.features[rows], self.targets[rows])

    def count(self) -> Mapping[str, int]:
        """Number of rows by slice name, 0 for an empty slice."""
        return _counted(self.targets["slice"])


def assemble_training_set(
    features: pd.DataFrame,
    labels: pd.DataFrame,
    events: pd.DatetimeIndex,
    mode: CusumMode,
    fractions: SliceFractions,
    embargo: pd.Timedelta,
    uniqueness_weights: bool,
) -> TrainingSet:
    """Join features and labels and cut them by shares of the timeline; see :func:`cut_training_set`.

    Slice boundaries are positions on the timeline of all candles that have features, so they are the same
    whatever CUSUM keeps.

    Args:
        features: As for :func:`cut_training_set`.
        labels: As for :func:`cut_training_set`.
        events: As for :func:`cut_training_set`.
        mode: As for :func:`cut_training_set`.
        fractions: Shares of the timeline.
        embargo: As for :func:`cut_training_set`.
        uniqueness_weights: As for :func:`cut_training_set`.

    Raises:
        UnusableTrainingSetError: As :func:`cut_training_set`.
        UnusableSplitError: If the timeline cannot be cut into four slices.
    """
    boundaries = slice_boundaries(pd.DatetimeIndex(features.index), fractions)
    return cut_training_set(features, labels, events, mode, boundaries, embargo, uniqueness_weights)


def cut_training_set(
    features: pd.DataFrame,
    labels: pd.DataFrame,
    events: pd.DatetimeIndex,
    mode: CusumMode,
    boundaries: Boundaries,
    embargo: pd.Timedelta,
    uniqueness_weights: bool,
) -> TrainingSet:
    """Join features and labels, cut them at given moments, thin the train slice and weigh its rows.

    CUSUM thins the train slice only: ``event`` keeps the events, ``stable`` the other candles, ``off``
    everything. Weights are the average uniqueness of the labels among the kept train rows.

    Args:
        features: Feature frame of every candle after warm-up, index ``open_time`` strictly increasing.
        labels: Label frame (columns ``LABEL_COLUMNS``), index ``open_time``; decided candles only.
        events: Open times of the CUSUM events; those outside the frames are ignored.
        mode: What CUSUM keeps.
        boundaries: Where the slices begin and the last one ends.
        embargo: Time left out at the start of every slice but the first.
        uniqueness_weights: Whether to weigh; if not, every weight is 1.

    Returns:
        The training set: candles with both features and a label that survived purge, embargo and CUSUM.

    Raises:
        UnusableTrainingSetError: If a label column is missing or a slice holds no row.
    """
    missing = [name for name in LABEL_COLUMNS if name not in labels.columns]
    if missing:
        raise UnusableTrainingSetError(f"labels lack the column(s) {missing}; expected {list(LABEL_COLUMNS)}")
    times = pd.DatetimeIndex(features.index)
    placed = _placed(times, labels, events, mode, boundaries, embargo)
    _refuse_empty_slice(placed, boundaries.slices)
    targets = labels.loc[placed.index, list(LABEL_COLUMNS)]
    targets["weight"] = _weights(targets, placed, times) if uniqueness_weights else 1.0
    targets["slice"] = placed
    return TrainingSet(features.loc[placed.index], targets)


def count_rows(
    feature_times: pd.DatetimeIndex,
    labels: pd.DataFrame,
    events: pd.DatetimeIndex,
    mode: CusumMode,
    fractions: SliceFractions,
    embargo: pd.Timedelta,
) -> Mapping[str, int]:
    """Count the rows per slice that :func:`assemble_training_set` would keep, without building anything.

    Args:
        feature_times: Open times of the candles that have features.
        labels: Label frame; only its index and ``exit_time`` are read.
        events: As for :func:`assemble_training_set`.
        mode: As for :func:`assemble_training_set`.
        fractions: As for :func:`assemble_training_set`.
        embargo: As for :func:`assemble_training_set`.

    Returns:
        Number of rows by slice name, 0 for an empty slice.

    Raises:
        UnusableSplitError: If the timeline cannot be cut into four slices.
    """
    boundaries = slice_boundaries(feature_times, fractions)
    return _counted(_placed(feature_times, labels, events, mode, boundaries, embargo))


def _counted(placed: pd.Series) -> Mapping[str, int]:
    counts = placed.value_counts()
    return MappingProxyType({name: int(counts[name]) for name in SLICES})


def _placed(
    feature_times: pd.DatetimeIndex,
    labels: pd.DataFrame,
    events: pd.DatetimeIndex,
    mode: CusumMode,
    boundaries: Boundaries,
    embargo: pd.Timedelta,
) -> pd.Series:
    """Slice of every row the training set keeps."""
    joined = labels.loc[labels.index.isin(feature_times), ["exit_time"]]
    placed = place_in_slices(joined, boundaries, embargo)
    if mode == "off":
        return placed
    is_event = placed.index.isin(events)
    kept = is_event if mode == "event" else ~is_event
    return placed[kept | (placed != "train").to_numpy()]


def _refuse_empty_slice(placed: pd.Series, slices: tuple[str, ...]) -> None:
    counts = placed.value_counts()
    empty = [name for name in slices if not counts[name]]
    if empty:
        raise UnusableTrainingSetError(
            f"the slice(s) {empty} hold no row, of {len(placed)} in all; load a longer history, "
            "lower the CUSUM threshold or shorten the embargo"
        )


def _weights(targets: pd.DataFrame, placed: pd.Series, candle_times: pd.DatetimeIndex) -> NDArray[np.float64]:
    # numba, which the kernel needs, is slow to import.
    from cvntrade_assets.learning.uniqueness import average_uniqueness

    weights = np.ones(len(targets))
    train = (placed == "train").to_numpy()
    unique = average_uniqueness(targets["entry_time"][train], targets["exit_time"][train], candle_times)
    weights[train] = unique / unique.mean()
    return weights
