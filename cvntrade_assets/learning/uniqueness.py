"""Average uniqueness of labels: how much of each label's span it does not share with others."""

import numpy as np
import pandas as pd
from numba import njit
from numpy.typing import NDArray


class UncoveredSpanError(ValueError):
    """A label's span holds no candle of the timeline, so its uniqueness is undefined."""


def average_uniqueness(
    entry_time: pd.Series, exit_time: pd.Series, candle_times: pd.DatetimeIndex
) -> NDArray[np.float64]:
    """Compute each label's average uniqueness over the candles of its span.

    A label spans the candles that open at or after its entry and before its exit. With c(t) labels spanning
    candle t, the uniqueness of a label at t is 1/c(t), and its average is taken over its candles (Lopez de
    Prado, *Advances in Financial Machine Learning*, section 4.4). Labels may come in any order.

    Args:
        entry_time: Start of each label's span.
        exit_time: End of each label's span, aligned with ``entry_time``.
        candle_times: Open times of the candles, strictly increasing.

    Returns:
        One value in (0, 1] per label, in the order given; 1 for a label that shares no candle.

    Raises:
        UncoveredSpanError: If a label spans no candle.
    """
    first = candle_times.searchsorted(pd.DatetimeIndex(entry_time), side="left")
    stop = candle_times.searchsorted(pd.DatetimeIndex(exit_time), side="left")
    empty = np.flatnonzero(stop <= first)
    if len(empty):
        row = empty[0]
        raise UncoveredSpanError(
            f"{len(empty)} label(s) span no candle, first {entry_time.iloc[row]} to {exit_time.iloc[row]}; "
            "labels and candles come from different histories: rebuild the labels"
        )
    result: NDArray[np.float64] = _average_uniqueness(first, stop, len(candle_times))
    return result


@njit(cache=True)
def _average_uniqueness(  # type: ignore[no-untyped-def]
    first, stop, n_candles
):
    concurrent = np.zeros(n_candles, dtype=np.int64)
    for label in range(len(first)):
        for candle in range(first[label], stop[label]):
            concurrent[candle] += 1
    unique = np.empty(len(first), dtype=np.float64)
    for label in range(len(first)):
        total = 0.0
        for candle in range(first[label], stop[label]):
            total += 1.0 / concurrent[candle]
        unique[label] = total / (stop[label] - first[label])
    return unique
