"""Brings what is known of the archive's closed months up to date, asking for as few files as possible."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd

from cvntrade_assets.market.binance import (
    MAX_ZIP_BYTES,
    BadArchive,
    archive_month_path,
    describe_bytes,
    parse_checksum,
    read_archive_zip,
)
from cvntrade_assets.market.candles import merge_candles
from cvntrade_assets.market.history import (
    BEFORE_LISTING,
    CandleHistory,
    MonthRecord,
    closed_months,
    month_name,
    month_span,
    publishing_day,
    trim_history,
    without_months,
)
from resources.archive import Archive

MAX_CHECKSUM_BYTES = 4096

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Window:
    """The candles that are wanted: those of `symbol` that open inside [start, end), `interval` long.

    `end` is on the grid, so that a candle that opens before it has closed by it.
    """

    symbol: str
    timeframe: str
    interval: pd.Timedelta
    start: pd.Timestamp
    end: pd.Timestamp


class ArchiveMonths:
    """The closed months of a window: what is known of them, and what the archive says of the rest.

    Attributes:
        asked: Per month, oldest first, its record; None where the archive has no file and nothing was known.
        notes: What an operator should know of what was just found.
    """

    def __init__(self, window: Window, archive: Archive, known: CandleHistory, *, verify: bool) -> None:
        self.asked: dict[str, MonthRecord | None] = {}
        self.notes: list[str] = []
        self._window = window
        self._archive = archive
        self._verify = verify
        self._before = {record.month: record for record in known.months}
        self._kept = trim_history(known, window.start, window.end)
        self._fresh: dict[str, pd.DataFrame] = {}

    def update(self, progress: Progress) -> None:
        """Ask for every month that is not settled, then once more for those whose edges are in doubt."""
        kept = {record.month: record for record in self._kept.months}
        months = closed_months(self._window.start, self._window.end)
        for done, month in enumerate(months, start=1):
            self.asked[month] = self._updated(month, kept.get(month))
            progress("archive months", done, len(months))
        for month in self._doubtful_neighbours():
            self.asked[month] = self._ask(month, self.asked[month], anew=True)

    def candles(self) -> pd.DataFrame:
        """Known candles, with those of the months just read in place of what was known of them."""
        quarantined = [month for month, record in self.asked.items() if record and record.status == "quarantined"]
        candles = without_months(self._kept.candles, [*self._fresh, *quarantined])
        for frame in self._fresh.values():
            candles = merge_candles(candles, frame)
        return candles

    def doubts(self, at: pd.Timestamp) -> bool:
        """Whether the known candle at `at` was flagged for a gap that a month just read has filled."""
        return month_name(at - self._window.interval) in self._fresh and self._known_incomplete(at)

    def _updated(self, month: str, kept: MonthRecord | None) -> MonthRecord | None:
        if kept is None:
            return None if self._too_early(month) else self._ask(month, None)
        asks_again = kept.status == "quarantined" or (self._verify and kept.reason != BEFORE_LISTING)
        return self._ask(month, kept) if asks_again else kept

    def _too_early(self, month: str) -> bool:
        """Not published yet by the archive's own calendar, and already known up to its last candle."""
        last = month_span(month)[1] - self._window.interval
        return self._window.end < publishing_day(month) and last in self._kept.candles.index

    def _doubtful_neighbours(self) -> list[str]:
        """Known good months with an edge candle that was flagged for a gap which has just been filled.

        Their own file says whether that candle is complete; the frame no longer does.
        """
        doubtful = []
        for month in self._fresh:
            start, end = month_span(month)
            for edge in (start - self._window.interval, end):
                record = self.asked.get(month_name(edge))
                if record and record.status == "good" and self._known_incomplete(edge):
                    doubtful.append(record.month)
        return [month for month in dict.fromkeys(doubtful) if month not in self._fresh]

    def _known_incomplete(self, at: pd.Timestamp) -> bool:
        candles = self._kept.candles
        return at in candles.index and not bool(candles["complete"].loc[at])

    def _ask(self, month: str, kept: MonthRecord | None, *, anew: bool = False) -> MonthRecord | None:
        """The month's record: one request for its checksum and, if it is news or `anew`, one for its zip."""
        path = archive_month_path(self._window.symbol, self._window.timeframe, month)
        checksum = self._archive.read(f"{path}.CHECKSUM", MAX_CHECKSUM_BYTES)
        if checksum is None:
            return self._unconfirmed(month, kept, "the archive has no checksum for it")
        try:
            published = parse_checksum(checksum.decode("utf-8", "replace"), path.rsplit("/", 1)[1])
        except BadArchive as error:
            if kept is not None and kept.status == "good":
                return self._unconfirmed(month, kept, error.reason)
            return self._quarantined(month, None, error.reason)
        if kept is not None and kept.sha256 == published and not anew:
            return kept
        return self._read(month, path, published)

    def _read(self, month: str, path: str, published: str) -> MonthRecord:
        data = self._archive.read(path, MAX_ZIP_BYTES)
        verified = data is not None and hashlib.sha256(data).hexdigest() == published
        try:
            if data is None:
                raise BadArchive("its checksum is published, the file is not there")
            if not verified:
                raise BadArchive(f"wrong checksum: published {published}, got {describe_bytes(data)}")
            candles = read_archive_zip(data, path.rsplit("/", 1)[1], self._window.interval)
        except BadArchive as error:
            return self._quarantined(month, published if verified else None, error.reason)
        self._fresh[month] = candles
        start = max(self._window.start, month_span(month)[0])
        kept_from = start.isoformat() if start > month_span(month)[0] else None
        return MonthRecord(month, "good", published, None, self._replaced(month, published), kept_from)

    def _unconfirmed(self, month: str, kept: MonthRecord | None, reason: str) -> MonthRecord | None:
        if kept is not None and kept.status != "absent":
            self.notes.append(f"{month}: what is known of it stays, though not confirmed now: {reason}")
        return kept

    def _quarantined(self, month: str, sha256: str | None, reason: str) -> MonthRecord:
        self._fresh.pop(month, None)
        return MonthRecord(month, "quarantined", sha256, reason, self._replaced(month, sha256))

    def _replaced(self, month: str, sha256: str | None) -> str | None:
        before = self._before.get(month)
        if before is None:
            return None
        if before.sha256 == sha256:
            return before.replaced_sha256
        earlier = before.sha256 or before.replaced_sha256
        if before.sha256 is not None:
            self.notes.append(f"{month}: the archive's file changed, it was {before.sha256}, now {sha256 or 'bad'}")
        return None if earlier == sha256 else earlier
