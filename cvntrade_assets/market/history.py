"""What is known of one crypto's candles: the candles, and the verdict on each archive month behind them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

import pandas as pd

from cvntrade_assets.market.candles import empty_candles, month_starts

MonthStatus = Literal["good", "absent", "quarantined"]

BEFORE_LISTING = "before listing: the archive has no file before its first month"
HOLE = "a hole: the archive has months before and after, not this one"
NOTHING_TRADED = "neither the archive nor the exchange has a candle in this month"


@dataclass(frozen=True)
class MonthRecord:
    """What became of one closed month of the archive.

    Attributes:
        month: Such as "2025-01".
        status: `good` (checksum verified, candles read), `absent` (nothing to have, never asked again) or
            `quarantined` (published, but bad; it contributes no candle and is asked again).
        sha256: Checksum of the month's bytes, when they are the bytes that the exchange published.
        reason: Why the month is not good; None when it is.
        replaced_sha256: Checksum of the file that this one replaced, when the exchange changed it afterwards.
        kept_from: ISO instant from which the month's candles are kept, when the window began inside the
            month; None when the whole month is.
    """

    month: str
    status: MonthStatus
    sha256: str | None
    reason: str | None
    replaced_sha256: str | None = None
    kept_from: str | None = None


@dataclass(frozen=True)
class CandleHistory:
    """A candle frame with the records of the archive months it stands on, oldest first."""

    candles: pd.DataFrame
    months: tuple[MonthRecord, ...]


def empty_history() -> CandleHistory:
    """Nothing known yet."""
    return CandleHistory(empty_candles(), ())


def month_name(start: pd.Timestamp) -> str:
    """The month's name, such as "2025-01", of any instant in it."""
    return f"{start:%Y-%m}"


@lru_cache(maxsize=1024)
def month_span(month: str) -> tuple[pd.Timestamp, pd.Timestamp]:
    """First instant of `month` ("2025-01") and of the month after it, in UTC.

    Raises:
        ValueError: Not the name of a month.
    """
    start = pd.to_datetime(month, format="%Y-%m", utc=True)
    if month_name(start) != month:
        raise ValueError(f"{month!r} is not a month: expected a name such as 2025-01")
    return start, start + pd.DateOffset(months=1)


def closed_months(start: pd.Timestamp, end: pd.Timestamp) -> tuple[str, ...]:
    """Names of the months that [start, end) touches and that had ended by `end`, oldest first."""
    return tuple(name for name in map(month_name, month_starts(start, end)) if month_span(name)[1] <= end)


def publishing_day(month: str) -> pd.Timestamp:
    """The day the archive publishes `month`: the first Monday after it ended."""
    after = month_span(month)[1]
    return after + pd.Timedelta(days=(7 - after.dayofweek) % 7)


def candles_of(candles: pd.DataFrame, month: str) -> pd.DataFrame:
    """The candles that open inside `month`."""
    start, end = month_span(month)
    return candles[(candles.index >= start) & (candles.index < end)]


def without_months(candles: pd.DataFrame, months: Iterable[str]) -> pd.DataFrame:
    """The candles that open in none of `months`."""
    for month in months:
        start, end = month_span(month)
        candles = candles[(candles.index < start) | (candles.index >= end)]
    return candles


def trim_history(history: CandleHistory, start: pd.Timestamp, end: pd.Timestamp) -> CandleHistory:
    """The part of `history` that opens inside [start, end), with the records that still hold for it.

    A record holds while its whole month had ended by `end` and the candles kept of it reach back to `start`.
    A good month without a candle left is forgotten, as is one that was cut off later than `start`.
    """
    candles = history.candles
    candles = candles[(candles.index >= start) & (candles.index < end)]
    records = (_trimmed(record, start) for record in history.months if _holds(record, candles, start, end))
    return CandleHistory(candles, tuple(sorted(records, key=lambda record: record.month)))


def _holds(record: MonthRecord, candles: pd.DataFrame, start: pd.Timestamp, end: pd.Timestamp) -> bool:
    month_start, month_end = month_span(record.month)
    if month_end > end or month_end <= start:
        return False
    if record.status != "good":
        return True
    kept_from = month_start if record.kept_from is None else pd.Timestamp(record.kept_from)
    return kept_from <= max(start, month_start) and not candles_of(candles, record.month).empty


def _trimmed(record: MonthRecord, start: pd.Timestamp) -> MonthRecord:
    if record.status != "good" or start <= month_span(record.month)[0]:
        return record
    return replace(record, kept_from=start.isoformat())


def settle_months(asked: Mapping[str, MonthRecord | None]) -> tuple[MonthRecord, ...]:
    """Records of the months on which the archive has spoken.

    A month without a file before the first published one is absent: the crypto was not listed. Between
    published ones it is absent too: a hole. After the last one it is not published yet, and gets no record
    unless it was already known to be absent.

    Args:
        asked: From the oldest month to the newest, what is known of it; None where the archive answered 404.
    """
    published = [month for month, record in asked.items() if record is not None and record.status != "absent"]
    records = (_settled(month, record, published) for month, record in asked.items())
    return tuple(record for record in records if record is not None)


def _settled(month: str, record: MonthRecord | None, published: Sequence[str]) -> MonthRecord | None:
    if not published or month > published[-1] or (record is not None and record.status != "absent"):
        return record
    return MonthRecord(month, "absent", None, BEFORE_LISTING if month < published[0] else HOLE)


def archive_end(months: Sequence[MonthRecord], start: pd.Timestamp) -> pd.Timestamp:
    """Where the archive's word ends: with its last published month and the absent ones that follow it.

    `start` when it has none; absent months at the very beginning count as well.
    """
    end = start
    published = [record.month for record in months if record.status != "absent"]
    last_published = published[-1] if published else ""
    for record in months:
        month_start, month_end = month_span(record.month)
        if record.month <= last_published or month_start <= end:
            end = max(end, month_end)
    return end
