"""The `binance` market against an exchange on the loopback, every request counted."""

import dataclasses
import hashlib
import random
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pandas as pd
import pytest
from exchange_server import HTML, KLINES, ExchangeServer, Reply, csv_of, zip_of

from cvntrade_assets.market.candles import check_candles, flag_gap_neighbours, gap_report
from cvntrade_assets.market.history import BEFORE_LISTING, HOLE, NOTHING_TRADED, CandleHistory, MonthRecord
from resources.archive import ArchiveUnreadable
from resources.binance import BinanceMarket, FetchResult
from resources.exchange_http import (
    BadExchangeAnswer,
    ExchangeBanned,
    ExchangeBusy,
    ExchangeRefused,
    ExchangeUnavailable,
    Patience,
    Surroundings,
)
from resources.market import Bans
from resources.warehouse import Warehouse

pytestmark = pytest.mark.filterwarnings("error")

HALF_HOUR = pd.Timedelta(minutes=30)
SYMBOL = "BTCUSDT"
NOBODY = "http://127.0.0.1:9"


def utc(text: str) -> pd.Timestamp:
    return pd.Timestamp(text, tz="UTC")


START, MARCH, APRIL = utc("2024-01-01"), utc("2024-03-01"), utc("2024-04-01")


class Clock:
    """A wall clock that only sleeping moves."""

    def __init__(self, now: str = "2024-05-01 12:00:40") -> None:
        self.time = utc(now)
        self.slept: list[float] = []

    def now(self) -> pd.Timestamp:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.time += pd.Timedelta(seconds=seconds)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def around(clock: Clock) -> Surroundings:
    # A transport of our own keeps a proxy in the environment out of the way.
    return Surroundings(clock.sleep, clock.now, random.Random(1), httpx.HTTPTransport)


@pytest.fixture
def market(exchange: ExchangeServer, around: Surroundings) -> BinanceMarket:
    return BinanceMarket(exchange.base, exchange.base, around=around)


@pytest.fixture
def bans(warehouse: Warehouse, exchange: ExchangeServer) -> Bans:
    return Bans(warehouse, urlsplit(exchange.base).netloc, "run-1")


@pytest.fixture(scope="module")
def candles(random_candles) -> pd.DataFrame:
    """January to May 2024."""
    return random_candles(152 * 48, seed=11)


@pytest.fixture(scope="module")
def zips(candles: pd.DataFrame) -> dict[str, bytes]:
    """January to March as the archive has them."""
    return {month: month_zip(candles, month) for month in ("2024-01", "2024-02", "2024-03")}


@pytest.fixture
def listed(exchange: ExchangeServer, candles: pd.DataFrame, zips: dict[str, bytes]) -> ExchangeServer:
    """The exchange with January to March in its archive and everything behind REST."""
    for month, data in zips.items():
        exchange.publish_bytes(SYMBOL, "30m", month, data)
    exchange.candles = candles
    return exchange


def fetch(market: BinanceMarket, start: object = START, end: object = APRIL, known=None, **more) -> FetchResult:
    return market.fetch(SYMBOL, "30m", pd.Timestamp(start), pd.Timestamp(end), known, **more)


def requests(result: FetchResult) -> tuple[int, int]:
    return result.archive_requests, result.rest_requests


def statuses(result: FetchResult) -> dict[str, str]:
    return {record.month: record.status for record in result.history.months}


def record(result: FetchResult, month: str) -> MonthRecord:
    return next(record for record in result.history.months if record.month == month)


def window(candles: pd.DataFrame, start: pd.Timestamp, end: pd.Timestamp) -> pd.DataFrame:
    return candles[(candles.index >= start) & (candles.index < end)]


def assert_same(found: pd.DataFrame, expected: pd.DataFrame) -> None:
    check_candles(found, HALF_HOUR)
    pd.testing.assert_frame_equal(found, expected, check_freq=False)


# Closed months from the archive


def test_closed_months_cost_two_requests_each(listed, market, candles):
    result = fetch(market)
    assert requests(result) == (6, 0)
    assert len(listed.requests) == 6
    assert statuses(result) == dict.fromkeys(["2024-01", "2024-02", "2024-03"], "good")
    assert result.notes == ()
    assert_same(result.history.candles, window(candles, START, APRIL))


def test_nothing_to_fetch_costs_nothing(listed, market):
    first = fetch(market)
    again = fetch(market, known=first.history)
    assert requests(again) == (0, 0)
    assert_same(again.history.candles, first.history.candles)
    assert again.history.months == first.history.months


def test_the_tail_comes_from_rest(listed, market, candles):
    end = utc("2024-04-10 10:10")
    result = fetch(market, end=end)
    assert requests(result) == (6, 1)
    assert_same(result.history.candles, window(candles, START, utc("2024-04-10 10:00")))


def test_one_new_candle_costs_one_request(listed, market):
    known = fetch(market, end=utc("2024-04-10 10:10")).history
    listed.forget()
    result = fetch(market, end=utc("2024-04-10 10:30"), known=known)
    assert requests(result) == (0, 1)
    assert listed.paths == [KLINES]
    assert listed.queries()[0]["startTime"] == str(utc("2024-04-10 10:00").value // 10**6)
    assert result.history.candles.index[-1] == utc("2024-04-10 10:00")


def test_between_two_closes_nothing_is_asked(listed, market):
    known = fetch(market, end=utc("2024-04-10 10:30")).history
    assert requests(fetch(market, end=utc("2024-04-10 10:59:59"), known=known)) == (0, 0)


def test_long_tails_are_paged(listed, market, candles):
    end = utc("2024-05-25")
    result = fetch(market, start=APRIL, end=end)
    expected = window(candles, APRIL, end)
    assert len(expected) == 2592
    assert requests(result) == (1, 3)
    assert [int(query["limit"]) for query in listed.queries()] == [1000] * 3
    assert_same(result.history.candles, expected)


def test_exactly_full_pages_need_no_extra_request(listed, market):
    end = APRIL + 2000 * HALF_HOUR
    assert requests(fetch(market, start=APRIL, end=end))[1] == 2


def test_windows_inside_months_are_trimmed(listed, market, candles):
    start, end = utc("2024-01-15 05:45"), utc("2024-03-20 00:00")
    result = fetch(market, start=start, end=end)
    assert_same(result.history.candles, window(candles, start, end))
    assert statuses(result) == {"2024-01": "good", "2024-02": "good"}
    assert record(result, "2024-01").kept_from == start.isoformat()
    assert record(result, "2024-02").kept_from is None
    again = fetch(market, start=start, end=end, known=result.history)
    assert requests(again) == (0, 0)


def test_a_window_that_moves_on_keeps_what_it_has(listed, market, candles):
    known = fetch(market, start=utc("2024-01-15"), end=utc("2024-03-20")).history
    moved = fetch(market, start=utc("2024-01-20"), end=utc("2024-03-21"), known=known)
    assert requests(moved) == (0, 1)
    assert_same(moved.history.candles, window(candles, utc("2024-01-20"), utc("2024-03-21")))
    wider = fetch(market, start=utc("2024-01-10"), end=utc("2024-03-21"), known=moved.history)
    assert requests(wider) == (2, 0)
    assert_same(wider.history.candles, window(candles, utc("2024-01-10"), utc("2024-03-21")))


def test_an_earlier_as_of_forgets_what_came_after(listed, market, candles):
    known = fetch(market).history
    replay = fetch(market, end=utc("2024-02-10"), known=known)
    assert requests(replay) == (0, 0)
    assert statuses(replay) == {"2024-01": "good"}
    assert_same(replay.history.candles, window(candles, START, utc("2024-02-10")))
    forward = fetch(market, known=replay.history)
    assert requests(forward) == (4, 0)
    assert_same(forward.history.candles, window(candles, START, APRIL))


def test_an_earlier_as_of_knows_no_candle_that_was_open_then(listed, market, candles):
    known = fetch(market, end=utc("2024-03-20 12:00")).history
    replay = fetch(market, end=utc("2024-03-20 10:10"), known=known)
    assert requests(replay) == (0, 0)
    assert_same(replay.history.candles, window(candles, START, utc("2024-03-20 10:00")))


def test_a_window_in_which_nothing_closed_is_empty(listed, market):
    result = fetch(market, start=utc("2024-03-20 10:00"), end=utc("2024-03-20 10:29"))
    assert (requests(result), len(result.history.candles), listed.requests) == ((0, 0), 0, [])


def test_progress_is_told(listed, market):
    told: list[tuple[str, int, int]] = []
    fetch(market, start=MARCH, end=utc("2024-04-02"), progress=lambda *step: told.append(step))
    assert told == [("archive months", 1, 1), ("candles", 48, 48)]


def test_step_by_step_is_the_same_as_at_once(listed, market, candles):
    listed.candles = candles.drop(window(candles, utc("2024-04-03 07:00"), utc("2024-04-03 09:00")).index)
    ends = ["2024-01-20", "2024-02-01", "2024-03-31 23:30", "2024-04-02", "2024-04-03 10:00", "2024-04-20"]
    known = None
    for end in ends:
        known = fetch(market, end=utc(end), known=known).history
    at_once = fetch(market, end=utc(ends[-1])).history
    assert_same(known.candles, at_once.candles)
    assert known.months == at_once.months
    assert gap_report(known.candles, HALF_HOUR).missing_candles == 4
    assert (~known.candles["complete"]).sum() == 2


# Months that are not there


def test_months_before_the_listing_are_remembered(listed, market):
    result = fetch(market, start=utc("2023-10-01"))
    assert requests(result) == (9, 0)
    assert [record.reason for record in result.history.months[:4]] == [BEFORE_LISTING] * 3 + [None]
    assert requests(fetch(market, start=utc("2023-10-01"), known=result.history)) == (0, 0)
    assert requests(fetch(market, start=utc("2023-10-01"), known=result.history, verify=True)) == (3, 0)


def test_a_month_not_yet_published_comes_from_rest(listed, market, candles):
    # April ended on a Tuesday; the archive publishes it on Monday 6 May.
    result = fetch(market, end=utc("2024-05-01 01:00"))
    assert requests(result) == (7, 2)
    assert statuses(result) == dict.fromkeys(["2024-01", "2024-02", "2024-03"], "good")
    assert result.notes == ("2024-04: not in the archive yet, its candles come from REST",)
    assert_same(result.history.candles, window(candles, START, utc("2024-05-01 01:00")))
    before = fetch(market, end=utc("2024-05-01 01:30"), known=result.history)
    assert requests(before) == (0, 1)
    from_monday = fetch(market, end=utc("2024-05-06 00:00"), known=before.history)
    assert requests(from_monday) == (1, 1)
    listed.publish(SYMBOL, "30m", "2024-04", candles)
    published = fetch(market, end=utc("2024-05-06 00:00"), known=from_monday.history)
    assert requests(published) == (2, 0)
    assert statuses(published)["2024-04"] == "good"
    assert_same(published.history.candles, window(candles, START, utc("2024-05-06")))


def test_a_hole_in_the_archive_stays_a_gap(listed, market):
    for path in [path for path in listed.files if "2024-02" in path]:
        del listed.files[path]
    result = fetch(market)
    assert requests(result) == (5, 0)
    assert record(result, "2024-02") == MonthRecord("2024-02", "absent", None, HOLE)
    assert result.notes == (f"2024-02 is absent: {HOLE}",)
    report = gap_report(result.history.candles, HALF_HOUR)
    assert (report.count, report.missing_candles) == (1, 29 * 48)
    incomplete = result.history.candles.index[~result.history.candles["complete"]]
    assert incomplete.tolist() == [utc("2024-01-31 23:30"), MARCH]
    assert requests(fetch(market, known=result.history)) == (0, 0)


def test_a_symbol_listed_this_month(exchange, market, candles):
    exchange.candles = window(candles, utc("2024-04-12 08:00"), utc("2024-06-01"))
    result = fetch(market, end=utc("2024-04-20"))
    assert requests(result) == (3, 1)
    assert {record.reason for record in result.history.months} == {NOTHING_TRADED}
    assert_same(result.history.candles, window(candles, utc("2024-04-12 08:00"), utc("2024-04-20")))
    assert requests(fetch(market, end=utc("2024-04-20 00:30"), known=result.history)) == (0, 1)


def test_an_exchange_that_answers_with_nothing_proves_nothing(listed, market, candles):
    listed.candles = candles.iloc[:0]
    result = fetch(market, end=utc("2024-05-07"))
    assert requests(result) == (7, 1)
    assert statuses(result) == dict.fromkeys(["2024-01", "2024-02", "2024-03"], "good")
    assert_same(result.history.candles, window(candles, START, APRIL))


def test_an_archive_address_that_leads_nowhere_is_noticed(exchange, around, candles):
    exchange.candles = candles
    result = fetch(BinanceMarket(f"{exchange.base}/wrong", exchange.base, around=around))
    assert "lacks 2 months that the exchange has: check CVN_BINANCE_ARCHIVE_URL" in result.notes[-1]
    assert_same(result.history.candles, window(candles, START, APRIL))


# Months that are bad


def month_zip(candles: pd.DataFrame, month: str = "2024-02") -> bytes:
    start = utc(month)
    part = window(candles, start, start + pd.DateOffset(months=1))
    return zip_of(csv_of(part, HALF_HOUR), f"{SYMBOL}-30m-{month}.csv")


def impossible_zip(candles: pd.DataFrame) -> bytes:
    part = window(candles, utc("2024-02-01"), MARCH).copy()
    part.iloc[7, part.columns.get_loc("high")] = 1.0
    return zip_of(csv_of(part, HALF_HOUR), f"{SYMBOL}-30m-2024-02.csv")


def bad_content(kind: str, candles: pd.DataFrame) -> tuple[bytes, str]:
    return {
        "truncated": (month_zip(candles)[:-500], "truncated zip"),
        "html": (HTML, "web page"),
        "bomb": (zip_of(b"1" * 2**20, f"{SYMBOL}-30m-2024-02.csv"), "a bomb"),
        "impossible": (impossible_zip(candles), "high is below open or close"),
    }[kind]


def assert_quarantined(result: FetchResult, candles: pd.DataFrame, reason: str) -> None:
    assert statuses(result)["2024-02"] == "quarantined"
    assert reason in record(result, "2024-02").reason
    assert any("2024-02 is quarantined" in note and reason in note for note in result.notes)
    without = candles.drop(window(candles, utc("2024-02-01"), MARCH).index)
    assert_same(result.history.candles, flag_gap_neighbours(window(without, START, APRIL), HALF_HOUR))


@pytest.mark.parametrize("kind", ["truncated", "html", "bomb", "impossible"])
def test_bad_content_is_quarantined_and_not_downloaded_again(listed, market, candles, kind):
    data, reason = bad_content(kind, candles)
    listed.publish_bytes(SYMBOL, "30m", "2024-02", data)
    result = fetch(market)
    assert requests(result) == (6, 0)
    assert_quarantined(result, candles, reason)
    assert record(result, "2024-02").sha256 == hashlib.sha256(data).hexdigest()
    again = fetch(market, known=result.history)
    assert requests(again) == (1, 0)
    assert_quarantined(again, candles, reason)


@pytest.mark.parametrize("kind", ["truncated", "html", "whole"])
def test_a_wrong_checksum_is_quarantined_and_asked_again_in_full(listed, market, candles, kind):
    data, looks = (month_zip(candles), "a zip of") if kind == "whole" else bad_content(kind, candles)
    listed.publish_bytes(SYMBOL, "30m", "2024-02", data, checksum="ab" * 32)
    result = fetch(market)
    assert requests(result) == (6, 0)
    assert_quarantined(result, candles, f"wrong checksum: published {'ab' * 32}")
    assert looks in record(result, "2024-02").reason
    assert record(result, "2024-02").sha256 is None
    again = fetch(market, known=result.history)
    assert requests(again) == (2, 0)
    assert_quarantined(again, candles, "wrong checksum")


def test_a_checksum_file_that_is_a_web_page(listed, market, candles):
    path = "/spot/monthly/klines/BTCUSDT/30m/BTCUSDT-30m-2024-02.zip"
    listed.files[f"{path}.CHECKSUM"] = HTML
    result = fetch(market)
    assert requests(result) == (5, 0)
    assert_quarantined(result, candles, "checksum file is not")


def test_a_checksum_without_its_file(listed, market, candles):
    del listed.files["/spot/monthly/klines/BTCUSDT/30m/BTCUSDT-30m-2024-02.zip"]
    result = fetch(market)
    assert requests(result) == (6, 0)
    assert_quarantined(result, candles, "the file is not there")


def test_a_bad_last_month_is_not_replaced_by_rest(listed, market):
    listed.publish_bytes(SYMBOL, "30m", "2024-03", HTML)
    result = fetch(market, end=utc("2024-04-02"))
    assert requests(result) == (6, 1)
    report = gap_report(result.history.candles, HALF_HOUR)
    assert report.missing_candles == 31 * 48
    assert result.history.candles.index[-1] == utc("2024-04-01 23:30")


def test_a_month_from_rest_that_turns_out_bad_in_the_archive_loses_its_candles(listed, market):
    known = fetch(market, end=utc("2024-05-07")).history
    listed.publish_bytes(SYMBOL, "30m", "2024-04", HTML)
    result = fetch(market, end=utc("2024-05-07"), known=known)
    assert requests(result) == (2, 0)
    assert gap_report(result.history.candles, HALF_HOUR).missing_candles == 30 * 48


@pytest.mark.parametrize("bad", ["2024-01", "2024-02", "2024-03"])
def test_a_month_put_right_fills_its_gap_and_clears_its_neighbours(listed, market, candles, bad):
    listed.publish_bytes(SYMBOL, "30m", bad, HTML)
    end = utc("2024-04-02")
    known = fetch(market, end=end).history
    assert known.candles["complete"].all() == (bad == "2024-01")
    listed.publish(SYMBOL, "30m", bad, candles)
    result = fetch(market, end=end, known=known)
    neighbours = {"2024-01": (0, 0), "2024-02": (2, 0), "2024-03": (1, 1)}[bad]
    assert requests(result) == (2 + 2 * neighbours[0], neighbours[1])
    assert_same(result.history.candles, window(candles, START, end))
    assert record(result, bad).replaced_sha256 == hashlib.sha256(HTML).hexdigest()
    assert requests(fetch(market, end=end, known=result.history)) == (0, 0)


# Files that the exchange replaces


def test_verify_asks_for_checksums_only(listed, market):
    known = fetch(market).history
    result = fetch(market, known=known, verify=True)
    assert requests(result) == (3, 0)
    assert (result.history.months, result.notes) == (known.months, ())


def test_a_replaced_file_is_noticed(listed, market, candles):
    known = fetch(market).history
    changed = candles.assign(volume=candles["volume"] + 1)
    listed.publish(SYMBOL, "30m", "2024-02", changed)
    assert requests(fetch(market, known=known)) == (0, 0)
    result = fetch(market, known=known, verify=True)
    assert requests(result) == (4, 0)
    old = next(record.sha256 for record in known.months if record.month == "2024-02")
    assert record(result, "2024-02").replaced_sha256 == old != record(result, "2024-02").sha256
    assert len(result.notes) == 1
    assert old in result.notes[0]
    february = window(result.history.candles, utc("2024-02-01"), MARCH)
    assert_same(february, window(changed, utc("2024-02-01"), MARCH))
    again = fetch(market, known=result.history, verify=True)
    assert (requests(again), again.history.months, again.notes) == ((3, 0), result.history.months, ())


def test_a_file_replaced_by_a_bad_one_is_quarantined(listed, market, candles):
    known = fetch(market).history
    listed.publish_bytes(SYMBOL, "30m", "2024-02", HTML)
    result = fetch(market, known=known, verify=True)
    assert_quarantined(result, candles, "web page")
    assert record(result, "2024-02").replaced_sha256 == known.months[1].sha256


def test_what_cannot_be_verified_stays(listed, market):
    known = fetch(market).history
    for path in [path for path in listed.files if "2024-02" in path]:
        del listed.files[path]
    listed.files["/spot/monthly/klines/BTCUSDT/30m/BTCUSDT-30m-2024-03.zip.CHECKSUM"] = HTML
    result = fetch(market, known=known, verify=True)
    assert requests(result) == (3, 0)
    assert result.history.months == known.months
    assert ["2024-02: what is known of it stays" in note for note in result.notes] == [True, False]


# Limits and faults


def test_429_waits_as_told(listed, market, clock, candles):
    listed.play(KLINES, Reply(429, headers={"Retry-After": "17"}), Reply(429, headers={"Retry-After": "3"}))
    result = fetch(market, start=APRIL, end=utc("2024-04-02"))
    assert clock.slept == [17, 3]
    assert requests(result) == (0, 3)
    assert_same(result.history.candles, window(candles, APRIL, utc("2024-04-02")))


def test_429_is_not_waited_for_without_end(listed, market, clock):
    listed.play(KLINES, *[Reply(429, headers={"Retry-After": "5"})] * 20)
    with pytest.raises(ExchangeBusy, match="429 6 times") as caught:
        fetch(market, start=APRIL, end=utc("2024-04-02"))
    assert caught.value.transient
    assert (clock.slept, len(listed.requests)) == ([5] * 5, 6)


def test_429_longer_than_is_worth_it_is_not_waited_for(listed, market, clock):
    listed.play(KLINES, Reply(429, headers={"Retry-After": "3600"}))
    with pytest.raises(ExchangeBusy, match="3600 s"):
        fetch(market, start=APRIL, end=utc("2024-04-02"))
    assert (clock.slept, len(listed.requests)) == ([], 1)


def test_429_that_tells_no_time_waits_for_the_minute(listed, market, clock):
    listed.play(KLINES, Reply(429))
    fetch(market, start=APRIL, end=utc("2024-04-02"))
    assert clock.slept == [60]


def test_418_stops_at_once_with_the_time_of_release(listed, market, clock):
    listed.play(KLINES, Reply(418, headers={"Retry-After": "7200"}))
    with pytest.raises(ExchangeBanned, match="2024-05-01 14:00:40 UTC") as caught:
        fetch(market, start=APRIL, end=utc("2024-04-02"))
    assert caught.value.release == utc("2024-05-01 14:00:40")
    assert not caught.value.transient
    assert (clock.slept, len(listed.requests)) == ([], 1)


def test_a_ban_outlives_the_fetch_that_met_it(listed, around, clock, bans):
    listed.play(KLINES, Reply(418, headers={"Retry-After": "7200"}))
    message = "2024-05-01 14:00:40 UTC. Stop whatever calls the exchange"
    for _ in range(3):
        another = BinanceMarket(listed.base, listed.base, around=around, bans=bans)
        with pytest.raises(ExchangeBanned, match=message) as caught:
            fetch(another, start=APRIL, end=utc("2024-04-02"))
        assert str(caught.value).startswith(f"{listed.base}{KLINES}: 418, this network address is banned")
        assert caught.value.release == utc("2024-05-01 14:00:40")
        assert not caught.value.transient
    assert len(listed.requests) == 1
    assert requests(fetch(BinanceMarket(listed.base, listed.base, around=around, bans=bans))) == (6, 0)
    clock.time = utc("2024-05-01 14:00:40")
    another = BinanceMarket(listed.base, listed.base, around=around, bans=bans)
    assert requests(fetch(another, start=APRIL, end=utc("2024-04-02"))) == (0, 1)


def test_a_ban_that_another_run_meets_stops_the_next_page(listed, around, clock, bans):
    market = BinanceMarket(listed.base, listed.base, around=around, bans=bans)

    def progress(what: str, done: int, total: int) -> None:
        if what == "candles":
            bans.remember(clock.time + pd.Timedelta(hours=1))

    with pytest.raises(ExchangeBanned, match="13:00:40"):
        fetch(market, start=APRIL, end=utc("2024-05-25"), progress=progress)
    assert listed.paths.count(KLINES) == 1


def test_a_ban_without_a_release_time_holds_for_the_shortest_one(listed, around, clock, bans):
    market = BinanceMarket(listed.base, listed.base, around=around, bans=bans)
    listed.play(KLINES, Reply(418))
    for said in ("release time not told", "12:02:40 UTC"):
        with pytest.raises(ExchangeBanned, match=said):
            fetch(market, start=APRIL, end=utc("2024-04-02"))
    assert len(listed.requests) == 1
    clock.time = utc("2024-05-01 12:02:40")
    assert requests(fetch(market, start=APRIL, end=utc("2024-04-02"))) == (0, 1)


def test_418_after_429_stops(listed, market, clock):
    listed.play(KLINES, Reply(429, headers={"Retry-After": "9"}), Reply(418))
    with pytest.raises(ExchangeBanned, match="release time not told"):
        fetch(market, start=APRIL, end=utc("2024-04-02"))
    assert (clock.slept, len(listed.requests)) == ([9], 2)


@pytest.mark.parametrize("reply", [Reply(500), Reply(503, HTML), Reply(hang_up=True), Reply(body=b"[", cut=10)])
@pytest.mark.parametrize("path", [KLINES, "/spot/monthly/klines/BTCUSDT/30m/BTCUSDT-30m-2024-03.zip"])
def test_faults_are_tried_again_with_growing_jitter(listed, market, clock, candles, reply, path):
    listed.play(path, reply, reply, reply)
    result = fetch(market, start=MARCH, end=utc("2024-04-02"))
    assert requests(result) == ((2, 4) if path == KLINES else (5, 1))
    assert all(0 <= slept <= longest for slept, longest in zip(clock.slept, [1, 2, 4], strict=True))
    assert_same(result.history.candles, window(candles, MARCH, utc("2024-04-02")))


@pytest.mark.parametrize("reply", [Reply(502), Reply(hang_up=True)])
def test_faults_are_not_tried_for_ever(listed, market, clock, reply):
    listed.play(KLINES, *[reply] * 20)
    with pytest.raises(ExchangeUnavailable, match="each of 5 attempts") as caught:
        fetch(market, start=MARCH, end=utc("2024-04-02"))
    assert caught.value.transient
    assert "until 2024-04-01 00:00 UTC; to do without the exchange, set CVN_AS_OF=2024-04-01" in str(caught.value)
    assert (listed.paths.count(KLINES), len(clock.slept)) == (5, 4)


def test_a_fault_in_the_archive_is_no_missing_month(listed, market):
    path = "/spot/monthly/klines/BTCUSDT/30m/BTCUSDT-30m-2024-02.zip.CHECKSUM"
    listed.play(path, *[Reply(500)] * 5)
    with pytest.raises(ExchangeUnavailable, match=r"2024-02\.zip\.CHECKSUM: 500 on each of 5 attempts"):
        fetch(market)
    assert len(listed.requests) == 7


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (Reply(403, HTML), "403, the exchange's firewall"),
        (Reply(400, b'{"code": -1121, "msg": "Invalid symbol."}'), "exchange error -1121: Invalid symbol"),
        (Reply(400, HTML), "400, body"),
        (Reply(302, headers={"Location": "https://elsewhere"}), "moved to https://elsewhere"),
        (Reply(404), "404"),
    ],
)
def test_refusals_are_not_repeated(listed, market, clock, reply, said):
    listed.play(KLINES, reply)
    with pytest.raises(ExchangeRefused, match=said) as caught:
        fetch(market, start=APRIL, end=utc("2024-04-02"))
    assert not caught.value.transient
    assert (clock.slept, len(listed.requests)) == ([], 1)
    assert caught.value.code == (-1121 if "1121" in said else None)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (HTML, "200 with what is not JSON"),
        (b"", "200 with what is not JSON"),
        (b"[" * 100_000, "200 with what is not JSON"),
        (b'[[1711929600000, "10"', "200 with what is not JSON"),
        (b'{"code": 0}', "expected an array"),
        (b"[[1]]", "expected an array of 12"),
        (b'[[1704067200000,"1","1","1","1","1",1704068999999,"0",0,"0","0","0"]]', "asked for candles from"),
        (b'[[1711929600000,"1","1","2","1","1",1711931399999,"0",0,"0","0","0"]]', "low is above"),
    ],
)
def test_200_with_something_else(listed, market, clock, body, said):
    listed.play(KLINES, Reply(200, body))
    with pytest.raises(BadExchangeAnswer, match=said) as caught:
        fetch(market, start=APRIL, end=utc("2024-04-02"))
    assert not caught.value.transient
    assert (clock.slept, len(listed.requests)) == ([], 1)


def test_slows_down_before_the_weight_limit(listed, market, clock):
    listed.rest_headers = {"X-MBX-USED-WEIGHT-1M": "5000"}
    result = fetch(market, start=APRIL, end=utc("2024-05-25"))
    assert requests(result) == (1, 3)
    # 12:00:40 to the minute; then a whole one; after the last page nothing.
    assert clock.slept == [20, 60]


def test_a_light_weight_slows_nothing(listed, market, clock):
    listed.rest_headers = {"X-MBX-USED-WEIGHT-1M": "4799"}
    fetch(market, start=APRIL, end=utc("2024-05-25"))
    assert clock.slept == []


def test_a_clock_that_runs_ahead_keeps_no_open_candle(listed, market):
    listed.rest_headers = {"Date": "Mon, 01 Apr 2024 09:59:58 GMT"}
    result = fetch(market, start=APRIL, end=utc("2024-04-01 10:00:01"))
    assert result.history.candles.index[-1] == utc("2024-04-01 09:00")


def test_patience_is_a_setting(listed, around, clock):
    market = BinanceMarket(listed.base, listed.base, around=around, patience=Patience(attempts=1))
    listed.play(KLINES, Reply(500))
    with pytest.raises(ExchangeUnavailable, match="each of 1 attempts"):
        fetch(market, start=APRIL, end=utc("2024-04-02"))
    assert clock.slept == []


# Addresses


@pytest.mark.parametrize("url", ["ftp://archive", "file://otherhost/folder", "", "https://"])
def test_an_archive_address_that_is_none(url):
    with pytest.raises(ValueError, match="CVN_BINANCE_ARCHIVE_URL"):
        BinanceMarket(url, NOBODY)


@pytest.mark.parametrize("url", ["api.exchange", "file:///tmp", ""])
def test_an_api_address_that_is_none(url):
    with pytest.raises(ValueError, match="CVN_BINANCE_API_URL"):
        BinanceMarket("https://archive", url)


def test_a_folder_that_is_not_there(tmp_path, around):
    with pytest.raises(ArchiveUnreadable, match="CVN_BINANCE_ARCHIVE_URL"):
        fetch(BinanceMarket(str(tmp_path / "gone"), NOBODY, around=around))


def test_an_empty_folder_without_an_exchange_says_what_to_check(tmp_path, around):
    market = BinanceMarket(tmp_path.as_uri(), NOBODY, around=around)
    with pytest.raises(ExchangeUnavailable, match=r"has no month of BTCUSDT 30m.*CVN_BINANCE_ARCHIVE_URL"):
        fetch(market)


@pytest.mark.parametrize(("start", "end"), [("2024-02-01", "2024-02-01"), ("2024-02-02", "2024-02-01")])
def test_an_empty_window_is_refused(market, start, end):
    with pytest.raises(ValueError, match="the second one later"):
        fetch(market, start=utc(start), end=utc(end))


def test_a_window_without_timezone_is_refused(market):
    with pytest.raises(ValueError, match="UTC"):
        fetch(market, start="2024-01-01", end="2024-02-01")


# The real archive


@pytest.fixture(params=["file url", "folder", "static server"])
def real_market(request, market_folder: Path, exchange: ExchangeServer, around: Surroundings) -> BinanceMarket:
    exchange.folder = market_folder
    bases = {"file url": market_folder.resolve().as_uri(), "folder": str(market_folder)}
    return BinanceMarket(bases.get(request.param, exchange.base), NOBODY, around=around)


def test_the_real_december_that_ada_lacks(real_market):
    result = real_market.fetch("ADAUSDT", "30m", utc("2024-11-01"), utc("2025-02-01"))
    assert requests(result) == (6, 0)
    (gap,) = gap_report(result.history.candles, HALF_HOUR).gaps
    assert gap == (utc("2024-11-30 23:30"), utc("2024-12-30 23:30"), 1441)
    incomplete = result.history.candles.index[~result.history.candles["complete"]]
    assert incomplete.tolist() == [utc("2024-11-30 23:00"), utc("2024-12-31")]
    again = real_market.fetch("ADAUSDT", "30m", utc("2024-11-01"), utc("2025-02-01"), result.history)
    assert requests(again) == (0, 0)


def test_the_real_listing_of_bonk(real_market):
    result = real_market.fetch("BONKUSDT", "30m", utc("2023-09-01"), utc("2024-02-01"))
    assert requests(result) == (7, 0)
    assert list(statuses(result).values()) == ["absent"] * 3 + ["good"] * 2
    assert result.history.candles.index[0] >= utc("2023-12-15")
    assert gap_report(result.history.candles, HALF_HOUR).count == 0


def test_the_real_outage_for_every_symbol(market_folder, around):
    market = BinanceMarket(str(market_folder), NOBODY, around=around)
    for symbol in ("BTCUSDT", "ADAUSDT", "LDOUSDT"):
        history = market.fetch(symbol, "30m", utc("2023-03-01"), utc("2023-04-01")).history
        (gap,) = gap_report(history.candles, HALF_HOUR).gaps
        assert gap.last_missing == utc("2023-03-24 13:30")
        assert (~history.candles["complete"]).sum() == 2


def test_32_real_months(market_folder, around):
    market = BinanceMarket(market_folder.resolve().as_uri(), NOBODY, around=around)
    result = market.fetch("BTCUSDT", "30m", utc("2023-01-01"), utc("2025-09-01"))
    assert requests(result) == (64, 0)
    check_candles(result.history.candles, HALF_HOUR)
    assert gap_report(result.history.candles, HALF_HOUR).count == 1
    assert len(result.history.candles) == 974 * 48 - 2


def test_a_real_tail_without_an_exchange_names_the_way_out(market_folder, around, clock):
    market = BinanceMarket(str(market_folder), NOBODY, around=around)
    with pytest.raises(ExchangeUnavailable, match="CVN_AS_OF=2025-09-01"):
        market.fetch("BTCUSDT", "30m", utc("2025-08-01"), utc("2025-09-02"))
    assert len(clock.slept) == 4


def test_a_record_survives_being_written_down(listed, market):
    history = fetch(market, start=utc("2024-01-15")).history
    months = tuple(MonthRecord(**dataclasses.asdict(record)) for record in history.months)
    assert requests(fetch(market, start=utc("2024-01-15"), known=CandleHistory(history.candles, months))) == (
        0,
        0,
    )
