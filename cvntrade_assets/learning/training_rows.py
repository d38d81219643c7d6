"""How many rows training would see, counted from candles: no feature is computed, nothing is built or trained."""

from collections.abc import Mapping

import pandas as pd

from cvntrade_assets.learning.from_settings import cusum_mode, embargo, slice_fractions
from cvntrade_assets.market.candles import timeframe_delta
from cvntrade_assets.settings import Settings


def count_training_rows(candles: pd.DataFrame, settings: Settings) -> Mapping[str, int]:
    """Rows by slice of the training set that these candles give under these settings.

    The very functions that the assets use decide: labels, CUSUM, slices, purge and embargo. A candle has features
    once the run-up is over, so the features themselves are not needed.

    Args:
        candles: Candle frame at CVN_TIMEFRAME.
        settings: The run's settings.

    Returns:
        Number of rows by slice name, 0 for an empty slice.

    Raises:
        UnusableSplitError: the candles are too few for four slices.
        ValueError: the candles are not walkable, see `label_candles`.
    """
    # numba, which the kernels need, is slow to import.
    from cvntrade_assets.learning.barriers import label_candles
    from cvntrade_assets.learning.cusum import cusum_events
    from cvntrade_assets.learning.features import WARM_UP
    from cvntrade_assets.learning.training_set import count_rows
    from cvntrade_assets.market.volatility import average_true_range

    interval = timeframe_delta(settings.text("CVN_TIMEFRAME"))
    binary = settings.flag("CVN_BINARY_CLASSIFICATION")
    return count_rows(
        pd.DatetimeIndex(candles.index[WARM_UP:]),
        label_candles(candles, settings.pte, interval=interval, binary=binary),
        cusum_events(candles, average_true_range(candles), settings.number("CVN_CUSUM_THRESHOLD_H")),
        cusum_mode(settings),
        slice_fractions(settings),
        embargo(settings),
    )
