"""Which past every fit of an evaluation may know, and on which later period it is judged.

The test periods lie back to back and end with the last candle. A fold's past is what lies before its test period, cut
into train, validation and calibration slice. The choice among trade execution parameters is made before the first
test period begins, so that every test period is out of sample for that choice too.

    |------------------ screening's past ------------------|-- test 1 --|-- test 2 --| … |-- test N --|
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
import pandas as pd

from cvntrade_assets.learning.splits import SLICES, Boundaries, SliceFractions, UnusableSplitError

WalkForwardMode = Literal["expanding", "rolling"]

SHORTEST_SLICE = 100
"""Candles that each slice of a past has at least: a calibrator takes no fewer rows."""


@dataclass(frozen=True)
class FoldPlan:
    """One past and the test period after it.

    Attributes:
        number: From 1, in time order.
        starts: Open times of the first candles of train, validation, calibration and test.
        end: When the test period ends: the next one's start, or the close of the last candle.
    """

    number: int
    starts: tuple[pd.Timestamp, pd.Timestamp, pd.Timestamp, pd.Timestamp]
    end: pd.Timestamp

    @property
    def past(self) -> Boundaries:
        """Train, validation and calibration, which end when the test period begins."""
        return Boundaries(self.starts[:3], self.starts[3])

    @property
    def whole(self) -> Boundaries:
        """All four slices."""
        return Boundaries(self.starts, self.end)


def plan_folds(
    times: pd.DatetimeIndex,
    *,
    interval: pd.Timedelta,
    n_folds: int,
    test_length: pd.Timedelta,
    fractions: SliceFractions,
    mode: WalkForwardMode,
) -> tuple[FoldPlan, ...]:
    """Lay test periods back to back up to the last candle's close, each with the past before it.

    Expanding: a fold's past is everything before its test period. Rolling: the last L before it, L being the
    time that the first fold's past lasts.

    Args:
        times: Open times of the candles that have features, strictly increasing.
        interval: The candles' timeframe.
        n_folds: Test periods, at least 1.
        test_length: What each of them lasts.
        fractions: Shares of the slices; those of train, validation and calibration say how a past is cut.
        mode: What a past is.

    Raises:
        UnusableSplitError: If a slice of a past would be shorter than `SHORTEST_SLICE` candles, or a test period
            holds no candle; says what would help.
    """
    _refuse_out_of_order(times)
    if n_folds < 1 or test_length <= pd.Timedelta(0):
        raise UnusableSplitError(f"{n_folds} folds of {test_length}: expected at least one, of a positive length")
    end = times[-1] + interval
    edges = [end - (n_folds - number) * test_length for number in range(n_folds)]
    starts = _first_candles(times, edges, end)
    return _plans(times, starts, end, fractions, None if mode == "expanding" else starts[0] - times[0])


def plan_screening(first: FoldPlan) -> Boundaries:
    """Where the screening's train, validation and selection slice lie: in the first fold's past.

    The selection slice stands where calibration stands in a fold, and ends where the first test period begins.
    """
    return first.past


def plan_steps(
    times: pd.DatetimeIndex, last: FoldPlan, step: pd.Timedelta, *, fractions: SliceFractions, mode: WalkForwardMode
) -> tuple[FoldPlan, ...]:
    """Cut the last fold's test period into steps, each with a past of its own that ends where the step begins.

    A step without candles is left out; its time belongs to the step before it.

    Args:
        times: As for `plan_folds`.
        last: The last fold.
        step: What each step lasts; the last one is shorter when they do not fit, and a step longer than the
            period is the whole of it.
        fractions: As for `plan_folds`.
        mode: As for `plan_folds`; a rolling past lasts as long as the last fold's.

    Raises:
        UnusableSplitError: If the step is not positive or a past is too short.
    """
    _refuse_out_of_order(times)
    if step <= pd.Timedelta(0):
        raise UnusableSplitError(f"a step of {step}: expected a positive length")
    edges = list(pd.date_range(last.starts[3], last.end, freq=step, inclusive="left"))
    within = times[times < last.end]
    positions = np.unique(within.searchsorted(pd.DatetimeIndex(edges)))
    starts = list(within[positions[positions < len(within)]])
    return _plans(times, starts, last.end, fractions, None if mode == "expanding" else last.starts[3] - last.starts[0])


def _first_candles(times: pd.DatetimeIndex, edges: list[pd.Timestamp], end: pd.Timestamp) -> list[pd.Timestamp]:
    """The first candle of each test period."""
    if edges[0] <= times[0]:
        each, lasting = (length / pd.Timedelta(days=1) for length in ((end - edges[0]) / len(edges), end - times[0]))
        raise UnusableSplitError(
            f"{len(edges)} test periods of {each:g} days leave nothing to learn from: the candles with features "
            f"last {lasting:.1f} days, from {times[0]:%Y-%m-%d %H:%M} UTC. {_ADVICE}"
        )
    positions = times.searchsorted(pd.DatetimeIndex(edges))
    for number, (edge, (begins, until)) in enumerate(zip(edges, pairwise([*positions, len(times)]), strict=True), 1):
        if begins == until:
            raise UnusableSplitError(
                f"test period {number} of {len(edges)}, from {edge}, holds no candle: it lies in a gap. Use longer "
                "test periods (CVN_BACKTEST_DAYS)"
            )
    return list(times[positions])


_ADVICE = (
    "Load a longer history (CVN_DEFAULT_HISTORY_MONTHS), or use fewer folds (CVN_DEFAULT_N_FOLDS) or shorter test "
    "periods (CVN_BACKTEST_DAYS)"
)


def _plans(
    times: pd.DatetimeIndex,
    starts: list[pd.Timestamp],
    end: pd.Timestamp,
    fractions: SliceFractions,
    length: pd.Timedelta | None,
) -> tuple[FoldPlan, ...]:
    """One plan per test period; a past lasts `length`, or from the first candle on."""
    plans = []
    for number, (start, until) in enumerate(pairwise([*starts, end]), 1):
        since = times[0] if length is None else start - length
        past = times[(times >= since) & (times < start)]
        plans.append(FoldPlan(number, (*_cut_past(past, number, fractions), start), until))
    return tuple(plans)


def _cut_past(
    past: pd.DatetimeIndex, number: int, fractions: SliceFractions
) -> tuple[pd.Timestamp, pd.Timestamp, pd.Timestamp]:
    """Open times of the first candles of the three slices of a past."""
    shares = (fractions.train, fractions.validation, fractions.calibration)
    ends = [round(len(past) * share / sum(shares)) for share in (shares[0], shares[0] + shares[1], sum(shares))]
    for name, (begins, until) in zip(SLICES, pairwise([0, *ends]), strict=False):
        if until - begins < SHORTEST_SLICE:
            raise UnusableSplitError(
                f"the past of test period {number} holds {len(past)} candles, which leaves {until - begins} to {name}: "
                f"expected at least {SHORTEST_SLICE}. {_ADVICE}, or give that slice a larger share "
                f"(CVN_SLICE_{name.upper()})"
            )
    return past[0], past[ends[0]], past[ends[1]]


def _refuse_out_of_order(times: pd.DatetimeIndex) -> None:
    if not (len(times) and times.is_monotonic_increasing and times.is_unique):
        raise UnusableSplitError("the candle timeline is empty or not strictly increasing; sort it and drop repeats")
