"""The candle frame: its contract, its gaps, and how frames are merged and coarsened.

A candle frame has a `DatetimeIndex` named `open_time`, dtype `datetime64[ns, UTC]`, strictly increasing and
on the grid of its timeframe, and exactly the columns of `COLUMNS`. A candle that does not exist is an absent
row: nothing here, or anywhere, fills a gap. `complete` says that the exchange covered the whole interval.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

TIMEFRAMES: Mapping[str, pd.Timedelta] = MappingProxyType(
    {
        "1m": pd.Timedelta(minutes=1),
        "5m": pd.Timedelta(minutes=5),
        "15m": pd.Timedelta(minutes=15),
        "30m": pd.Timedelta(minutes=30),
        "1h": pd.Timedelta(hours=1),
        "4h": pd.Timedelta(hours=4),
        "1d": pd.Timedelta(days=1),
    }
)
PRICES: tuple[str, ...] = ("open", "high", "low", "close")
NUMBERS: tuple[str, ...] = (*PRICES, "volume")
COLUMNS: tuple[str, ...] = (*NUMBERS, "complete")
INDEX_DTYPE = "datetime64[ns, UTC]"
_SHOWN_ROWS = 3


class ImpossibleCandles(ValueError):
    """Candles that no market can have produced, or a frame that is not a candle frame.

    Attributes:
        complaint: What is wrong, in words.
        rows: The offending rows (empty when the frame as a whole is wrong).
    """

    def __init__(self, complaint: str, rows: pd.DataFrame | None = None) -> None:
        self.complaint = complaint
        self.rows = empty_candles() if rows is None else rows
        shown = "" if rows is None else f" in {len(rows)} candles, the first of them:\n{rows.head(_SHOWN_ROWS)}"
        super().__init__(f"impossible candles: {complaint}{shown}")


class Gap(NamedTuple):
    """A run of absent candles between two present ones, by open time, both ends included."""

    first_missing: pd.Timestamp
    last_missing: pd.Timestamp
    candles: int


@dataclass(frozen=True)
class GapReport:
    """The holes inside a candle frame; what precedes its first or follows its last candle is not a gap.

    Attributes:
        count: Number of gaps.
        missing_candles: Number of absent candles in all gaps together.
        largest: Time without candles in the longest gap, zero when there is none.
        gaps: Every gap, oldest first.
    """

    count: int
    missing_candles: int
    largest: pd.Timedelta
    gaps: tuple[Gap, ...]


def timeframe_delta(timeframe: str) -> pd.Timedelta:
    """Length of one candle of `timeframe`.

    Raises:
        ValueError: The name is not one of `TIMEFRAMES`.
    """
    if timeframe not in TIMEFRAMES:
        raise ValueError(f"unknown timeframe {timeframe!r}: expected one of {', '.join(TIMEFRAMES)}")
    return TIMEFRAMES[timeframe]


def empty_candles() -> pd.DataFrame:
    """A candle frame without a candle."""
    index = pd.DatetimeIndex([], dtype=INDEX_DTYPE, name="open_time")
    columns = {name: np.empty(0, dtype=np.float64) for name in NUMBERS}
    return pd.DataFrame({**columns, "complete": np.empty(0, dtype=np.bool_)}, index=index)


def last_closed_open(as_of: pd.Timestamp, interval: pd.Timedelta) -> pd.Timestamp:
    """Open time of the latest candle that has closed at `as_of`; closing exactly at `as_of` counts.

    Raises:
        ValueError: `as_of` carries no timezone.
    """
    if as_of.tzinfo is None:
        raise ValueError(f"as_of {as_of} has no timezone: expected a UTC timestamp")
    instant = as_of.as_unit("ns").value
    return pd.Timestamp(instant - instant % interval.value, tz="UTC") - interval


def month_starts(start: pd.Timestamp, end: pd.Timestamp) -> tuple[pd.Timestamp, ...]:
    """First instants, in UTC, of the calendar months that [start, end) touches, oldest first."""
    if end <= start:
        return ()
    first = start.tz_convert("UTC").normalize().replace(day=1)
    return tuple(pd.date_range(first, end, freq="MS", inclusive="left"))


def gap_report(candles: pd.DataFrame, interval: pd.Timedelta) -> GapReport:
    """The gaps of a candle frame whose candles are `interval` long."""
    opens = pd.DatetimeIndex(candles.index)
    steps = np.diff(_nanoseconds(opens)) // interval.value
    gaps = tuple(
        Gap(opens[at] + interval, opens[at + 1] - interval, int(steps[at] - 1))
        for at in map(int, np.flatnonzero(steps > 1))
    )
    most = max((gap.candles for gap in gaps), default=0)
    return GapReport(len(gaps), sum(gap.candles for gap in gaps), most * interval, gaps)


def flag_gap_neighbours(candles: pd.DataFrame, interval: pd.Timedelta) -> pd.DataFrame:
    """The same candles, those that touch a gap on either side with `complete` False.

    The exchange stopped or resumed somewhere inside such a candle, and nothing vouches for how much of it was
    covered. No flag is ever raised back to True.
    """
    after_gap = np.zeros(len(candles), dtype=np.bool_)
    after_gap[1:] = np.diff(_nanoseconds(pd.DatetimeIndex(candles.index))) > interval.value
    before_gap = np.roll(after_gap, -1)
    return candles.assign(complete=candles["complete"].to_numpy() & ~after_gap & ~before_gap)


def merge_candles(old: pd.DataFrame, new: pd.DataFrame) -> pd.DataFrame:
    """All candles of both frames in order of time; where both have a candle, the one of `new` stays."""
    if old.empty:
        return new
    if new.empty:
        return old
    kept = old[~old.index.isin(new.index)]
    return pd.concat([kept, new]).sort_index() if len(kept) else new


def resample_candles(fine: pd.DataFrame, fine_interval: pd.Timedelta, coarse_interval: pd.Timedelta) -> pd.DataFrame:
    """Candles of `coarse_interval` made of the candles of `fine_interval` that exist.

    A coarse candle is complete only when all its constituents are present and complete; with none present it
    is absent. The last one may still be open, so it is left out unless its last constituent is there.

    Raises:
        ValueError: The coarse interval is not a multiple of the fine one.
    """
    ratio, rest = divmod(coarse_interval.value, fine_interval.value)
    if rest or ratio < 1:
        raise ValueError(f"cannot make {coarse_interval} candles of {fine_interval} candles: not a whole multiple")
    if fine.empty:
        return empty_candles()
    fine_opens = _nanoseconds(pd.DatetimeIndex(fine.index))
    opens = pd.DatetimeIndex(fine_opens - fine_opens % coarse_interval.value, tz="UTC", name="open_time")
    groups = fine.groupby(opens)
    coarse = groups.agg({"open": "first", "high": "max", "low": "min", "close": "last", "volume": "sum"})
    coarse["complete"] = groups["complete"].all() & (groups.size() == ratio)
    last_constituent = coarse.index[-1] + coarse_interval - fine_interval
    return coarse if fine.index[-1] == last_constituent else coarse.iloc[:-1]


def check_candles(candles: pd.DataFrame, interval: pd.Timedelta) -> None:
    """Refuse what is not a candle frame of `interval`, or holds candles that cannot be.

    Raises:
        ImpossibleCandles: With the first offending rows: wrong index or columns, unsorted, duplicated, off
            the grid, not finite, a price not above zero, a negative volume, a high or low that open or close
            exceed.
    """
    _check_shape(candles)
    for complaint, offending in _faults(candles, interval):
        if offending.any():
            raise ImpossibleCandles(complaint, candles[offending])


def _check_shape(candles: pd.DataFrame) -> None:
    index = candles.index
    if not isinstance(index, pd.DatetimeIndex) or str(index.dtype) != INDEX_DTYPE or index.name != "open_time":
        raise ImpossibleCandles(
            f"index {index.name!r} is {index.dtype}: expected a DatetimeIndex 'open_time', {INDEX_DTYPE}"
        )
    found = {str(name): str(dtype) for name, dtype in candles.dtypes.items()}
    expected = {**dict.fromkeys(NUMBERS, "float64"), "complete": "bool"}
    if list(found.items()) != list(expected.items()):
        raise ImpossibleCandles(f"columns {found}: expected {expected}, in this order")


def _faults(candles: pd.DataFrame, interval: pd.Timedelta) -> Iterator[tuple[str, npt.NDArray[np.bool_]]]:
    index = pd.DatetimeIndex(candles.index)
    opens = _nanoseconds(index)
    prices = candles[list(PRICES)].to_numpy()
    open_, high, low, close = prices.T
    volume = candles["volume"].to_numpy()
    yield "no open time", np.asarray(index.isna())
    yield "not sorted by open time", np.diff(opens, prepend=opens[:1]) < 0
    yield "open time given more than once", index.duplicated(keep=False)
    yield f"open time not on the {interval} grid", opens % interval.value != 0
    yield "a number is not finite", ~(np.isfinite(prices).all(axis=1) & np.isfinite(volume))
    yield "a price is not above zero", np.any(prices <= 0, axis=1)
    yield "negative volume", volume < 0
    yield "high is below open or close", high < np.maximum(open_, close)
    yield "low is above open or close", low > np.minimum(open_, close)


def _nanoseconds(index: pd.DatetimeIndex) -> npt.NDArray[np.int64]:
    return np.asarray(index.as_unit("ns").values, dtype=np.int64)
