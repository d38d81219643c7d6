"""The rows of every point of a PTE grid: labelled in one pass, each point's purged by its own exits.

The exit of a label counts as known at its exit candle's close, also where it filled at that candle's open: the grid's
labels do not tell the two apart, and later is the safe side.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cvntrade_assets.learning.barriers import GridLabels, label_grid
from cvntrade_assets.learning.cusum import cusum_events
from cvntrade_assets.learning.splits import SLICES, Boundaries, place_in_slices
from cvntrade_assets.learning.training_set import CusumMode
from cvntrade_assets.learning.uniqueness import average_uniqueness
from cvntrade_assets.market.volatility import average_true_range
from cvntrade_assets.trading.fills import TP
from cvntrade_assets.trading.pte import PTE, PteGrid

TRAIN, VALIDATION, SELECTION = SLICES[:3]
"""The slices of screening: the third chooses the point, where a fold's would calibrate."""


@dataclass(frozen=True)
class PointRows:
    """What one point knows of every row; arrays over all rows of the grid, in time order.

    Attributes:
        known: bool, the trade is decided and its exit known when the row's slice ends.
        label: float64, 1 BUY, 0 not; only meaningful where known.
        returns: float64 gross return; only meaningful where known.
        entry_time: Open of the candle after the signal.
        exit_time: Close of the exit candle; only meaningful where known.
    """

    known: NDArray[np.bool_]
    label: NDArray[np.float64]
    returns: NDArray[np.float64]
    entry_time: pd.DatetimeIndex
    exit_time: pd.DatetimeIndex


class GridRows:
    """Train rows thinned by CUSUM, every candle of validation and selection, labelled under every point of a grid.

    Args:
        candles: Candle frame; nothing at or after the boundaries' end may be in it.
        feature_times: Open times of the candles that have features.
        grid: The PTEs; every horizon a whole number of candles.
        interval: The candles' timeframe.
        boundaries: Where train, validation and selection begin, and where selection ends.
        embargo: Time left out at the start of validation and of selection.
        cusum_mode: What CUSUM keeps of train.
        cusum_threshold: Its threshold in multiples of ATR / close.

    Attributes:
        times: Open times of the rows, increasing.
        slices: Slice of every row.
    """

    def __init__(
        self,
        candles: pd.DataFrame,
        feature_times: pd.DatetimeIndex,
        *,
        grid: PteGrid,
        interval: pd.Timedelta,
        boundaries: Boundaries,
        embargo: pd.Timedelta,
        cusum_mode: CusumMode,
        cusum_threshold: float,
    ) -> None:
        # Whoever exits where it stands is purged by nothing: what is left is slice and embargo alone.
        at_once = pd.DataFrame({"exit_time": feature_times}, index=feature_times)
        placed = place_in_slices(at_once, boundaries, embargo)
        events = cusum_events(candles, average_true_range(candles), cusum_threshold)
        kept = placed[_thinned(placed, events, cusum_mode)]
        self.times = pd.DatetimeIndex(kept.index)
        self.slices = kept.to_numpy().astype(str)
        self._labels: GridLabels = label_grid(candles, self.times, grid, interval=interval)
        self._number = {pte: row for row, pte in enumerate(grid)}
        self._feature_times = feature_times
        self._entry_time = self.times + interval
        self._candle_closes = pd.DatetimeIndex(candles.index) + interval
        ends = dict(zip((TRAIN, VALIDATION, SELECTION), (*boundaries.starts[1:], boundaries.end), strict=True))
        self._slice_ends = pd.DatetimeIndex([ends[name] for name in self.slices])

    def of(self, pte: PTE) -> PointRows:
        """The rows as one point of the grid knows them."""
        row, labels = self._number[pte], self._labels
        exit_index = labels.exit_index[row]
        exit_time = self._candle_closes[exit_index]
        return PointRows(
            known=(exit_index >= 0) & np.asarray(exit_time <= self._slice_ends),
            label=(labels.exit_kind[row] == TP).astype(np.float64),
            returns=labels.returns[row],
            entry_time=self._entry_time,
            exit_time=exit_time,
        )

    def train_weights(self, rows: PointRows, *, unique: bool) -> NDArray[np.float64]:
        """Weight of every train row of one point: mean 1 over those known, 0 for the others.

        Args:
            rows: What the point knows.
            unique: Weigh by the average uniqueness of the labels among the known train rows; if not, all weigh 1.
        """
        train = self.slices == TRAIN
        known = rows.known & train
        weights: NDArray[np.float64] = known.astype(np.float64)
        if unique and known.any():
            spans = (pd.Series(rows.entry_time[known]), pd.Series(rows.exit_time[known]))
            uniqueness = average_uniqueness(*spans, self._feature_times)
            weights[known] = uniqueness / uniqueness.mean()
        of_train: NDArray[np.float64] = weights[train]
        return of_train


def _thinned(placed: pd.Series, events: pd.DatetimeIndex, mode: CusumMode) -> NDArray[np.bool_]:
    """Which rows stay: CUSUM thins train only."""
    beyond_train = np.asarray(placed != TRAIN)
    if mode == "off":
        return np.ones(len(placed), np.bool_)
    is_event = np.asarray(placed.index.isin(events))
    return beyond_train | (is_event if mode == "event" else ~is_event)
