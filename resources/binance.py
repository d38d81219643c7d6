"""The `binance` market: closed months from the exchange's archive, then its REST interface for the tail."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Protocol
from urllib.parse import urlsplit

import pandas as pd

from cvntrade_assets.market.binance import BadAnswer, read_rest_klines
from cvntrade_assets.market.candles import (
    empty_candles,
    flag_gap_neighbours,
    last_closed_open,
    merge_candles,
    timeframe_delta,
)
from cvntrade_assets.market.history import (
    HOLE,
    NOTHING_TRADED,
    CandleHistory,
    MonthRecord,
    archive_end,
    candles_of,
    empty_history,
    month_span,
    publishing_day,
    settle_months,
    trim_history,
)
from resources.archive import SETTING as ARCHIVE_SETTING
from resources.archive import archive_folder, open_archive
from resources.archive_months import ArchiveMonths, Progress, Window
from resources.exchange_http import (
    SHORTEST_BAN,
    Answer,
    BadExchangeAnswer,
    ExchangeBanned,
    ExchangeRefused,
    ExchangeUnavailable,
    MarketError,
    Patience,
    PoliteClient,
    Surroundings,
    banned,
)

KLINES_PATH = "api/v3/klines"
PAGE = 1000
USER_AGENT = "cvntrade-assets"
_MAX_PAGE_BYTES = 4 * 2**20


@dataclass(frozen=True)
class FetchResult:
    """What one fetch brought.

    Attributes:
        history: All candles in the window, old and new, with the records of their months.
        archive_requests: Archive files asked for, checksums included, repeated attempts counted.
        rest_requests: REST calls made, repeated attempts counted.
        notes: What an operator should know: replaced, quarantined, missing and unpublished months.
    """

    history: CandleHistory
    archive_requests: int
    rest_requests: int
    notes: tuple[str, ...]


class BanMemory(Protocol):
    """What is known of the API host's bans, by every run of this network address."""

    def release(self) -> pd.Timestamp | None:
        """When the last known ban ends or ended, UTC; None when there was none."""

    def remember(self, release: pd.Timestamp) -> None:
        """A ban was met that lasts until `release`."""


class BinanceMarket:
    """Reads candles from the exchange, never more of them than are missing.

    Args:
        archive_url: Base of the archive: https://…, file:///… or the path of a folder.
        api_url: Base of the REST interface, without /api/v3.
        patience: How long a request is worth waiting for.
        around: Sleep, clock, jitter and transport, for tests to play.
        user_agent: How requests introduce themselves.
        bans: Asked before every REST request, told of every ban; None knows of none and forgets them.

    Raises:
        ValueError: A base URL is not one.
    """

    def __init__(
        self,
        archive_url: str,
        api_url: str,
        *,
        patience: Patience | None = None,
        around: Surroundings | None = None,
        user_agent: str = USER_AGENT,
        bans: BanMemory | None = None,
    ) -> None:
        archive_folder(archive_url)
        parts = urlsplit(api_url)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise ValueError(f"CVN_BINANCE_API_URL is {api_url!r}: expected a web address such as https://host")
        self._archive_url = archive_url
        self._api_url = api_url
        self._patience = patience or Patience()
        self._around = around or Surroundings()
        self._user_agent = user_agent
        self._bans = bans

    def fetch(
        self,
        symbol: str,
        timeframe: str,
        start: pd.Timestamp,
        end: pd.Timestamp,
        known: CandleHistory | None = None,
        progress: Progress | None = None,
        *,
        verify: bool = False,
    ) -> FetchResult:
        """The candles that open inside [start, end) and have closed by `end`.

        Every month that ended by `end` comes from the archive (its checksum file, then its zip), unless
        `known` already has it; what follows the archive's last month comes from REST. A month whose file is
        bad is quarantined: it contributes no candle, REST does not replace it, and it is asked for again next
        time. A candle that touches a gap is not `complete`.

        Args:
            symbol: Such as BTCUSDC.
            timeframe: Such as 30m.
            start: First instant of the window, with a timezone.
            end: The instant as of which the candles are wanted.
            known: The history that an earlier fetch of the same symbol and timeframe returned.
            progress: Told what is counted ("archive months" or "candles"), how many are done, of how many.
            verify: Ask for the checksums of known months as well, to notice files that were replaced.

        Raises:
            MarketError: The archive or the exchange could not be read; `transient` says whether to try again.
            ValueError: Not a symbol, a timeframe or a window.
        """
        window = _window(symbol, timeframe, start, end)
        known = known or empty_history()
        report = progress or _silent
        archive = open_archive(self._archive_url, self._user_agent, self._patience, self._around)
        rest = PoliteClient(self._api_url, self._user_agent, self._patience, self._around)
        with archive, rest:
            months = ArchiveMonths(window, archive, known, verify=verify)
            months.update(report)
            candles = self._with_tail(window, rest, months, known, report)
        records = _with_untraded(months, candles)
        flagged = flag_gap_neighbours(candles, window.interval)
        history = trim_history(CandleHistory(flagged, records), window.start, window.end)
        notes = (*months.notes, *_notes(window, months, records, self._archive_url))
        return FetchResult(history, archive.requests, rest.requests, notes)

    def _with_tail(
        self,
        window: Window,
        rest: PoliteClient,
        months: ArchiveMonths,
        known: CandleHistory,
        progress: Progress,
    ) -> pd.DataFrame:
        """The months' candles and, when any are missing after them, those that REST has."""
        candles = months.candles()
        archived = archive_end(settle_months(months.asked), window.start)
        first = _first_missing(window, candles, known, archived)
        if months.doubts(archived):
            first = archived
        if first > last_closed_open(window.end, window.interval):
            return candles
        try:
            return merge_candles(candles, _rest_candles(window, rest, first, progress, self._refuse_while_banned))
        except ExchangeBanned as error:
            self._remember(error)
            raise
        except (ExchangeUnavailable, ExchangeRefused) as error:
            raise _with_advice(error, window, archived, self._archive_url) from error

    def _refuse_while_banned(self) -> None:
        """A ban outlives the fetch that met it: calling again before the release makes it longer."""
        release = self._bans.release() if self._bans else None
        if release is not None and self._around.now() < release:
            raise banned(f"{self._api_url.rstrip('/')}/{KLINES_PATH}", release)

    def _remember(self, ban: ExchangeBanned) -> None:
        # Without a release time the shortest ban holds: whoever calls after it and is still banned says so here.
        if self._bans:
            self._bans.remember(ban.release or self._around.now() + SHORTEST_BAN)


def _silent(what: str, done: int, total: int) -> None:
    """Progress that nobody asked for."""


def _window(symbol: str, timeframe: str, start: pd.Timestamp, end: pd.Timestamp) -> Window:
    if start.tzinfo is None or end.tzinfo is None or end <= start:
        raise ValueError(f"window {start} to {end}: expected two UTC timestamps, the second one later")
    interval = timeframe_delta(timeframe)
    last_close = last_closed_open(end, interval) + interval
    return Window(symbol, timeframe, interval, start.tz_convert("UTC"), last_close)


def _first_missing(window: Window, candles: pd.DataFrame, known: CandleHistory, archived: pd.Timestamp) -> pd.Timestamp:
    """Open time of the first candle that REST is asked for.

    Known candles are without holes of our making from where the known window began, so the tail continues
    after the last of them, provided that window began before the tail.
    """
    last_open = last_closed_open(archived, window.interval)
    first = last_open + window.interval * (1 if last_open + window.interval == archived else 2)
    reaches_back = any(month_span(record.month)[1] <= archived for record in known.months) or (
        not known.candles.empty and known.candles.index[0] <= first
    )
    tail = candles[candles.index >= first]
    return tail.index[-1] + window.interval if reaches_back and not tail.empty else first


def _rest_candles(
    window: Window, rest: PoliteClient, first: pd.Timestamp, progress: Progress, before_page: Callable[[], None]
) -> pd.DataFrame:
    last = last_closed_open(window.end, window.interval)
    wanted = int((last - first) / window.interval) + 1
    candles = empty_candles()
    while first <= last:
        before_page()
        page, is_full = _rest_page(window, rest, first)
        candles = merge_candles(candles, page)
        progress("candles", min(len(candles), wanted), wanted)
        if not is_full or page.empty:
            break
        first = page.index[-1] + window.interval
    return candles


def _rest_page(window: Window, rest: PoliteClient, first: pd.Timestamp) -> tuple[pd.DataFrame, bool]:
    """Closed candles from `first` on, and whether the exchange may have more of them."""
    params: dict[str, str | int] = {
        "symbol": window.symbol,
        "interval": window.timeframe,
        "startTime": _milliseconds(first),
        "endTime": _milliseconds(window.end) - 1,
        "limit": PAGE,
    }
    answer = rest.get(KLINES_PATH, max_bytes=_MAX_PAGE_BYTES, params=params)
    where = f"{rest.base_url}/{KLINES_PATH} for {window.symbol} {window.timeframe}"
    try:
        payload = json.loads(answer.body)
        candles = read_rest_klines(payload, window.interval, _closed_before(window, answer))
    except BadAnswer as error:
        raise BadExchangeAnswer(f"{where}: {error.reason}. Check CVN_BINANCE_API_URL") from error
    except (ValueError, RecursionError) as error:
        raise BadExchangeAnswer(
            f"{where}: 200 with what is not JSON, beginning {answer.body[:60]!r}: a proxy or a login page? "
            "Check CVN_BINANCE_API_URL"
        ) from error
    if not candles.empty and candles.index[0] < first:
        raise BadExchangeAnswer(f"{where}: asked for candles from {first}, got them from {candles.index[0]}")
    return candles, len(payload) >= PAGE


def _closed_before(window: Window, answer: Answer) -> pd.Timestamp:
    """The window's end; the exchange's own clock when ours runs ahead of it, its last candle being open."""
    told = answer.headers.get("Date")
    if told is None:
        return window.end
    try:
        served = pd.Timestamp(parsedate_to_datetime(told)).tz_convert("UTC")
    except (ValueError, TypeError):
        return window.end
    return min(window.end, served)


def _milliseconds(instant: pd.Timestamp) -> int:
    return instant.as_unit("ms").value // 1_000_000


def _with_advice(
    error: ExchangeUnavailable | ExchangeRefused, window: Window, archived: pd.Timestamp, archive_url: str
) -> MarketError:
    """The same error, telling how to do without REST, unless the exchange itself named another reason."""
    if isinstance(error, ExchangeRefused) and error.code is not None:
        return error
    name = f"{window.symbol} {window.timeframe}"
    if archived <= window.start:
        advice = (
            f"The archive {archive_url} has no month of {name} from {window.start:%Y-%m-%d} on: check the "
            f"symbol and {ARCHIVE_SETTING}"
        )
    else:
        advice = (
            f"The archive {archive_url} covers {name} until {archived:%Y-%m-%d %H:%M} UTC; to do without the "
            f"exchange, set CVN_AS_OF={archived:%Y-%m-%d}"
        )
    return type(error)(f"{error}. {advice}")


def _with_untraded(months: ArchiveMonths, candles: pd.DataFrame) -> tuple[MonthRecord, ...]:
    """The months' records, with those that neither the archive nor REST has a candle in as absent.

    Only a later candle is proof: an exchange that answers with nothing at all proves nothing.
    """
    asked = dict(months.asked)
    for month in (month for month, record in months.asked.items() if record is None):
        later = candles.index >= month_span(month)[1]
        if later.any() and candles_of(candles, month).empty:
            asked[month] = MonthRecord(month, "absent", None, NOTHING_TRADED)
    return settle_months(asked)


def _notes(window: Window, months: ArchiveMonths, records: Sequence[MonthRecord], archive_url: str) -> list[str]:
    notes = [f"{record.month} is quarantined: {record.reason}" for record in records if record.status == "quarantined"]
    notes += [f"{record.month} is absent: {record.reason}" for record in records if record.reason == HOLE]
    recorded = {record.month for record in records}
    unpublished = [month for month in months.asked if month not in recorded]
    notes += [f"{month}: not in the archive yet, its candles come from REST" for month in unpublished]
    overdue = [month for month in unpublished if publishing_day(month) < window.end]
    if len(overdue) > 1:
        notes.append(
            f"the archive {archive_url} lacks {len(overdue)} months that the exchange has: check {ARCHIVE_SETTING}"
        )
    return notes
