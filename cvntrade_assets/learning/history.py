"""What every fold and step of one crypto shares, computed once: candles, features, CUSUM events.

All of it is causal: a value at a candle depends on that candle and earlier ones, so what a fold takes from before its
boundary is what it would have computed had history ended there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from cvntrade_assets.learning.splits import Boundaries
from cvntrade_assets.learning.training_set import TrainingSet, cut_training_set

if TYPE_CHECKING:
    from cvntrade_assets.learning.recipe import Recipe


@dataclass(frozen=True, eq=False)
class History:
    """One crypto's market as evaluations read it.

    Attributes:
        candles: Candle frame that models learn on.
        features: float32, index every candle after warm-up.
        events: Open times of the CUSUM events.
        interval: The candles' timeframe.
        fine: Candle frame that trades of the last test period are simulated on.
        fine_interval: Its timeframe.
    """

    candles: pd.DataFrame
    features: pd.DataFrame
    events: pd.DatetimeIndex
    interval: pd.Timedelta
    fine: pd.DataFrame
    fine_interval: pd.Timedelta

    @classmethod
    def gather(
        cls,
        candles: pd.DataFrame,
        features: pd.DataFrame,
        fine: pd.DataFrame,
        *,
        cusum_threshold: float,
        interval: pd.Timedelta,
        fine_interval: pd.Timedelta,
    ) -> History:
        """Compute the CUSUM events; the rest is given.

        Raises:
            ValueError: As `cusum_events`.
        """
        # numba, which the kernels need, is slow to import.
        from cvntrade_assets.learning.cusum import cusum_events
        from cvntrade_assets.market.volatility import average_true_range

        events = cusum_events(candles, average_true_range(candles), cusum_threshold)
        return cls(candles, features, events, interval, fine, fine_interval)

    def rows(self, labels: pd.DataFrame, boundaries: Boundaries, recipe: Recipe) -> TrainingSet:
        """The training set between given moments, purged, embargoed, thinned and weighed as the recipe says.

        Raises:
            UnusableTrainingSetError: A slice holds no row.
        """
        return cut_training_set(
            self.features,
            labels,
            self.events,
            recipe.cusum_mode,
            boundaries,
            recipe.embargo,
            recipe.uniqueness_weights,
        )


def between(table: pd.DataFrame, begins: pd.Timestamp, ends: pd.Timestamp) -> pd.DataFrame:
    """The rows of a table in time order whose time lies in [begins, ends)."""
    first, stop = table.index.searchsorted(pd.DatetimeIndex([begins, ends]))
    return table.iloc[first:stop]
