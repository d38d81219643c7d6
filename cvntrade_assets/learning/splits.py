"""How time is cut so that nothing learned on one part is judged on what it has already seen.

A label is a fact about the future of its candle: it is known only at the end of its span, from the entry
(the open after the signal candle) to the exit. Two rows whose spans overlap share candles, so a model trained
on one has partly seen the answer of the other. Purging drops the rows whose span reaches into the other part;
an embargo then leaves out the beginning of what follows, where features still remember it (Lopez de Prado,
*Advances in Financial Machine Learning*, chapter 7).
"""

from dataclasses import astuple, dataclass
from itertools import accumulate, pairwise

import numpy as np
import pandas as pd
from numpy.typing import NDArray

SLICES: tuple[str, ...] = ("train", "validation", "calibration", "test")

SLICE_DTYPE = pd.CategoricalDtype(list(SLICES), ordered=True)

_NEVER = pd.Timestamp.max.tz_localize("UTC")


class UnusableSplitError(ValueError):
    """The rows or the numbers given cannot be cut into the parts that were asked for."""


@dataclass(frozen=True)
class SliceFractions:
    """Share of the timeline that each slice takes, in time order. They sum to 1 (within 0.001).

    Raises:
        UnusableSplitError: If a share is not above 0 or the shares do not sum to 1.
    """

    train: float = 0.80
    validation: float = 0.2 / 3
    calibration: float = 0.2 / 3
    test: float = 0.2 / 3

    def __post_init__(self) -> None:
        shares = astuple(self)
        if min(shares) <= 0 or abs(sum(shares) - 1.0) > 1e-3:
            raise UnusableSplitError(
                f"slice fractions {dict(zip(SLICES, shares, strict=True))} sum to {sum(shares):.4f}: "
                "each must be above 0 and together they must be 1"
            )


@dataclass(frozen=True)
class Boundaries:
    """The moments at which a timeline is cut into slices.

    Attributes:
        starts: Open time of the first candle of each slice, in time order: those of the first of ``SLICES``,
            all four or fewer.
        end: When the last slice ends: a label that is known only later is of no slice. Without it the last
            slice lasts as long as there are labels.

    Raises:
        UnusableSplitError: If there are no starts or more than slices, or the moments do not increase.
    """

    starts: tuple[pd.Timestamp, ...]
    end: pd.Timestamp = _NEVER

    def __post_init__(self) -> None:
        moments = [*self.starts, self.end]
        if not 1 <= len(self.starts) <= len(SLICES) or any(early >= late for early, late in pairwise(moments)):
            told = ", ".join(str(moment) for moment in moments)
            raise UnusableSplitError(
                f"slice boundaries {told}: expected one to {len(SLICES)} starts and an end, strictly increasing"
            )

    @property
    def slices(self) -> tuple[str, ...]:
        """Names of the slices, in time order."""
        return SLICES[: len(self.starts)]


@dataclass(frozen=True)
class Fold:
    """One cut of the rows, as sorted integer positions: what to fit on and what to judge on."""

    train: NDArray[np.intp]
    held_out: NDArray[np.intp]


def slice_boundaries(candle_times: pd.DatetimeIndex, fractions: SliceFractions) -> Boundaries:
    """Cut a timeline into four slices by their shares of its candles.

    Boundaries are positions on the whole candle timeline, so they do not move with what CUSUM keeps.

    Raises:
        UnusableSplitError: If the timeline is not strictly increasing or a slice would have no candle.
    """
    if not (candle_times.is_monotonic_increasing and candle_times.is_unique):
        raise UnusableSplitError("the candle timeline is not strictly increasing; sort it and drop repeats")
    ends = accumulate(astuple(fractions)[:-1])
    positions = [0, *(round(len(candle_times) * end) for end in ends), len(candle_times)]
    if any(start >= end for start, end in pairwise(positions)):
        raise UnusableSplitError(f"{len(candle_times)} candles are too few for four slices; load a longer history")
    return Boundaries(tuple(candle_times[positions[:-1]]))


def place_in_slices(labels: pd.DataFrame, boundaries: Boundaries, embargo: pd.Timedelta) -> pd.Series:
    """Assign labels to the slices between boundaries, purged and embargoed.

    A slice runs from the open of its first candle, B, to the open of the next slice's first candle, B'. A
    label is kept when

    * its outcome is known by the time the next slice begins: ``exit_time <= B'``. The first signal of the
      next slice is known, and acted on, only when candle B' closes, so no span of one slice touches a span of
      the next, and no label rests on the course of a candle of the next slice;
    * its candle opens at least ``embargo`` after the slice began: ``open_time >= B + embargo``. The first
      slice has no boundary before it and no embargo.

    What opens before the first slice, or is not known when the last one ends, is of no slice.

    With 30-minute candles, B' = 12:00 and no embargo: the signal of 11:00 enters at 11:30; an exit at the
    close of the 11:30 candle (12:00) stays in train; an exit at 12:30 drops it; the 12:00 candle opens the
    next slice and enters at 12:30.

    Args:
        labels: Label frame, index ``open_time`` of the signal candle, column ``exit_time``.
        boundaries: Where the slices begin and the last one ends.
        embargo: Time left out at the start of every slice but the first; not negative.

    Returns:
        Category series named ``slice``; index: the kept part of ``labels.index``, in its order.

    Raises:
        UnusableSplitError: If the embargo is negative.
    """
    _refuse_negative(embargo)
    starts = pd.DatetimeIndex(boundaries.starts)
    times = pd.DatetimeIndex(labels.index)
    number = starts.searchsorted(times, side="right") - 1
    ends = starts[1:].append(pd.DatetimeIndex([boundaries.end]))
    known = np.asarray(labels["exit_time"] <= ends[number])
    settled = np.asarray((number == 0) | (times >= starts[number] + embargo))
    kept = known & settled & (number >= 0)
    return pd.Series(pd.Categorical.from_codes(number[kept], dtype=SLICE_DTYPE), times[kept], name="slice")


def purged_folds(entry_time: pd.Series, exit_time: pd.Series, n_folds: int, embargo: pd.Timedelta) -> list[Fold]:
    """Cut rows into contiguous held-out blocks, each with the training rows that share nothing with it.

    Every row is held out exactly once. A block lasts from its first entry to its last exit; a row outside it
    trains when its whole span ends before the block begins, or begins later than ``embargo`` after the block
    has ended. Touching counts as overlapping.

    Args:
        entry_time: Start of each row's span, in non-decreasing order.
        exit_time: End of each row's span, aligned with ``entry_time``.
        n_folds: Number of blocks, at least 2.
        embargo: Time left out after a block's last exit; not negative.

    Returns:
        One fold per block, in time order.

    Raises:
        UnusableSplitError: If rows are not in order, a span ends before it starts, there are fewer rows than
            folds, or a fold would have nothing to train on.
    """
    _refuse_negative(embargo)
    entry, exit_ = pd.DatetimeIndex(entry_time), pd.DatetimeIndex(exit_time)
    if n_folds < 2 or len(entry) < n_folds:
        raise UnusableSplitError(
            f"{len(entry)} rows cannot be cut into {n_folds} folds; at least 2 folds and a row each"
        )
    if not entry.is_monotonic_increasing or (exit_ < entry).any():
        raise UnusableSplitError("rows must be in order of entry_time, and no exit_time may precede its entry_time")
    blocks = np.array_split(np.arange(len(entry)), n_folds)
    return [Fold(_clear_of(block, entry, exit_, embargo), block) for block in blocks]


def _clear_of(
    block: NDArray[np.intp], entry: pd.DatetimeIndex, exit_: pd.DatetimeIndex, embargo: pd.Timedelta
) -> NDArray[np.intp]:
    begins, ends = entry[block[0]], exit_[block].max()
    clear = np.flatnonzero((exit_ < begins) | (entry > ends + embargo))
    if not len(clear):
        raise UnusableSplitError(
            f"no row is left to train on beside the block {begins} to {ends} with an embargo of {embargo}; "
            "use fewer folds or a shorter embargo"
        )
    return clear


def slice_overlaps(targets: pd.DataFrame) -> pd.DataFrame:
    """Recompute, from the spans alone, every row whose span crosses into another slice's period.

    A slice's period runs from its first to its last entry. If two rows of different slices overlap at all,
    even in one instant, the span of the one that entered first holds the entry of the other, so an empty
    answer means that no label of one slice shares an instant with a label of another.

    Args:
        targets: Columns ``entry_time``, ``exit_time`` and ``slice``; one row per candle.

    Returns:
        One row per (row, other slice) that overlap: the row's index, ``slice``, ``entry_time``,
        ``exit_time``, ``other`` (slice), ``other_first_entry``, ``other_last_entry``.

    Raises:
        UnusableSplitError: If a slice, an entry or an exit is missing.
    """
    spans = targets[["slice", "entry_time", "exit_time"]]
    if spans.isna().to_numpy().any():
        raise UnusableSplitError("targets hold a missing slice, entry_time or exit_time; rebuild the training set")
    found = [spans.iloc[:0].assign(other="", other_first_entry=_NEVER, other_last_entry=_NEVER)]
    for name, rows in spans.groupby("slice", observed=True):
        first, last = rows["entry_time"].min(), rows["entry_time"].max()
        crosses = (spans["slice"] != name) & (spans["entry_time"] <= last) & (spans["exit_time"] >= first)
        found.append(spans[crosses].assign(other=str(name), other_first_entry=first, other_last_entry=last))
    return pd.concat(found).sort_index(kind="stable")


def _refuse_negative(embargo: pd.Timedelta) -> None:
    if embargo < pd.Timedelta(0):
        raise UnusableSplitError(f"embargo {embargo} is negative; give 0 or more")
