"""The exchange's formats: what is read, and everything that is refused, with its reason."""

import io
import json
import struct
import zipfile

import numpy as np
import pandas as pd
import pytest
from exchange_server import HTML, csv_of, rest_row, zip_of
from hypothesis import given
from hypothesis import strategies as st

from cvntrade_assets.market.binance import (
    MAX_ZIP_BYTES,
    BadAnswer,
    BadArchive,
    archive_month_path,
    parse_checksum,
    read_archive_zip,
    read_rest_klines,
)
from cvntrade_assets.market.candles import check_candles, empty_candles

HALF_HOUR = pd.Timedelta(minutes=30)
NAME = "BTCUSDT-30m-2025-01.zip"
CSV = "BTCUSDT-30m-2025-01.csv"
HEX = "0123456789abcdef" * 4
JANUARY = pd.Timestamp("2025-01-01", tz="UTC")


def line(at: int = 0, *, per_second: int = 10**6, close_time: int | None = None, **changed: str) -> str:
    """One line of the archive's CSV, `at` half hours into January 2025."""
    opens = (int(JANUARY.timestamp()) + at * 1800) * per_second
    values = {"open": "10.0", "high": "12.0", "low": "9.0", "close": "11.0", "volume": "5.5", **changed}
    closes = opens + 1800 * per_second - 1 if close_time is None else close_time
    return ",".join([str(opens), *values.values(), str(closes), "0", "0", "0", "0", "0"])


def zipped(*lines: str) -> bytes:
    return zip_of(("\n".join(lines) + "\n").encode(), CSV)


def read(data: bytes) -> pd.DataFrame:
    return read_archive_zip(data, NAME, HALF_HOUR)


def test_path():
    expected = "spot/monthly/klines/BTCUSDT/30m/BTCUSDT-30m-2025-01.zip"
    assert archive_month_path("BTCUSDT", "30m", "2025-01") == expected


@pytest.mark.parametrize(
    ("symbol", "timeframe", "month"),
    [
        ("../etc", "30m", "2025-01"),
        ("btcusdt", "30m", "2025-01"),
        ("BTC/USDT", "30m", "2025-01"),
        ("", "30m", "2025-01"),
        ("BTCUSDT", "31m", "2025-01"),
        ("BTCUSDT", "30m", "2025-13"),
        ("BTCUSDT", "30m", "2025-1"),
        ("BTCUSDT", "30m", "2025-01-01"),
    ],
)
def test_path_refuses(symbol, timeframe, month):
    with pytest.raises(ValueError, match=r".+"):
        archive_month_path(symbol, timeframe, month)


@pytest.mark.parametrize("text", [f"{HEX}  {NAME}", f"{HEX}  {NAME}\n", f"{HEX.upper()} *{NAME}\r\n"])
def test_checksum(text):
    assert parse_checksum(text, NAME) == HEX


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "checksum file is not"),
        (HTML.decode(), "begins '<!DOCTYPE"),
        (f"{HEX[1:]}  {NAME}", "checksum file is not"),
        (f"{HEX}", "checksum file is not"),
        (f"{HEX}  {NAME}\n{HEX}  {NAME}", "checksum file is not"),
        (f"{HEX}  BTCUSDT-30m-2025-02.zip", "is for 'BTCUSDT-30m-2025-02.zip'"),
    ],
)
def test_checksum_refuses(text, reason):
    with pytest.raises(BadArchive, match=reason):
        parse_checksum(text, NAME)


def test_candle_values():
    candles = read(zipped(line(0), line(1, volume="0.00000000")))
    assert candles.index.tolist() == [JANUARY, JANUARY + HALF_HOUR]
    assert candles.iloc[0].tolist() == [10.0, 12.0, 9.0, 11.0, 5.5, True]
    assert candles.iloc[1]["volume"] == 0
    check_candles(candles, HALF_HOUR)


@pytest.mark.parametrize("header", ["open_time,open,high,low", "Open time,Open,High"])
def test_header_is_skipped(header):
    assert read(zipped(header, line())).equals(read(zipped(line())))


def test_milliseconds_and_microseconds_are_told_apart_row_by_row():
    mixed = read(zipped(line(0, per_second=1_000), line(1, per_second=10**6), line(2, per_second=1_000)))
    assert mixed.equals(read(zipped(line(0), line(1), line(2))))


@pytest.mark.parametrize("per_second", [1_000, 10**6])
def test_a_candle_that_closes_early_is_not_complete(per_second):
    opens = int(JANUARY.timestamp()) * per_second
    short = opens + 1799 * per_second
    candles = read(zipped(line(0, per_second=per_second, close_time=short), line(1, per_second=per_second)))
    assert candles["complete"].tolist() == [False, True]


def test_a_close_time_in_whole_milliseconds_covers_a_microsecond_candle():
    closes = (int(JANUARY.timestamp()) + 1800) * 10**6 - 1000
    assert read(zipped(line(0, close_time=closes)))["complete"].all()


IMPOSSIBLE = {
    "unsorted": ([line(1), line(0)], "not sorted"),
    "duplicate": ([line(0), line(0)], "more than once"),
    "off the grid": ([line(0).replace("1735689600000000", "1735689600000001")], "grid"),
    "another month": ([line(0), line(48 * 31)], "not all in 2025-01"),
    "month before": ([line(-1)], "not all in 2025-01"),
    "nan": ([line(0, close="nan")], "not finite"),
    "missing price": ([line(0, close="")], "not finite"),
    "infinite": ([line(0, volume="1e999")], "12 numbers a line|not finite"),
    "zero price": ([line(0, low="0.0")], "not above zero"),
    "negative volume": ([line(0, volume="-1")], "negative volume"),
    "high below close": ([line(0, high="10.5")], "high is below"),
    "low above open": ([line(0, low="10.5")], "low is above"),
    "closes late": ([line(0, close_time=(int(JANUARY.timestamp()) + 1800) * 10**6)], "close time outside"),
    "closes before": ([line(0, close_time=int(JANUARY.timestamp()) * 10**6 - 1)], "close time outside"),
    "time out of range": ([line(0, close_time=10**18)], "neither milliseconds nor"),
    "words": ([line(0, open="ten")], "12 numbers a line"),
    "time with a fraction": (
        [line(0).replace("1735689600000000", "1735689600000000.5")],
        "12 numbers a line",
    ),
    "a field short": ([line(0), line(1).rsplit(",", 1)[0]], "candle 2 of the CSV has not all fields"),
    "all short": ([line(0).rsplit(",", 1)[0]], "not all fields"),
    "too many fields": ([line(0), line(1) + ",0"], "12 numbers a line"),
    "all too many": ([line(0) + ",0"], "not all fields"),
    "cut in a line": ([line(0), line(1)[:30]], "12 numbers a line|not all fields"),
    "html": ([HTML.decode()], "neither a candle nor a header"),
    "empty": (["", ""], "empty"),
    "only a header": (["open_time,open"], "12 numbers a line|no candle"),
}


@pytest.mark.parametrize(("lines", "reason"), IMPOSSIBLE.values(), ids=IMPOSSIBLE.keys())
def test_impossible_content(lines, reason):
    with pytest.raises(BadArchive, match=reason) as caught:
        read(zipped(*lines))
    assert caught.value.reason == str(caught.value)


def two_members() -> bytes:
    buffer = io.BytesIO(zipped(line()))
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.writestr("extra.csv", "")
    return buffer.getvalue()


def encrypted() -> bytes:
    data = bytearray(zipped(line()))
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(signature) + offset] |= 1
    return bytes(data)


def flipped() -> bytes:
    data = bytearray(zipped(*(line(at) for at in range(50))))
    data[120] ^= 0xFF
    return bytes(data)


def bomb(lie: bool) -> bytes:
    """Half a megabyte of one digit; with `lie`, the zip says that it is small."""
    content = b"1" * 2**19
    data = zip_of(content, CSV)
    return data.replace(struct.pack("<I", len(content)), struct.pack("<I", 100)) if lie else data


BAD_ZIPS = {
    "nothing": (b"", "nothing at all"),
    "html": (HTML, "web page"),
    "xml": (b"<?xml version='1.0'?><Error/>", "web page"),
    "text": (b"hello", "no zip"),
    "truncated": (zipped(line())[:-30], "truncated zip"),
    "cut short": (zipped(line())[:40], "truncated zip"),
    "flipped bits": (flipped(), "corrupt zip"),
    "another name": (zip_of(line().encode(), "BTCUSDT-30m-2025-02.csv"), "expected exactly"),
    "a path": (zip_of(line().encode(), f"../{CSV}"), "expected exactly"),
    "two members": (two_members(), "expected exactly"),
    "no member": (b"PK\x05\x06" + bytes(18), "expected exactly"),
    "encrypted": (encrypted(), "encrypted"),
    "bomb": (bomb(lie=False), "a bomb"),
    "lying bomb": (bomb(lie=True), "corrupt zip|a bomb"),
    "too large": (b"PK" + bytes(MAX_ZIP_BYTES), "larger than"),
}


@pytest.mark.parametrize(("data", "reason"), BAD_ZIPS.values(), ids=BAD_ZIPS.keys())
def test_bad_zip(data, reason):
    with pytest.raises(BadArchive, match=reason):
        read(data)


def test_name_without_a_month_is_the_callers_mistake():
    with pytest.raises(ValueError, match="no archive month"):
        read_archive_zip(zip_of(line().encode(), "candles.csv"), "candles.zip", HALF_HOUR)


def test_round_trip_of_random_candles(random_candles):
    candles = random_candles(1488, seed=7)
    candles = candles.set_axis(candles.index + pd.Timedelta(days=366)).rename_axis("open_time")
    pd.testing.assert_frame_equal(read(zip_of(csv_of(candles, HALF_HOUR), CSV)), candles, check_freq=False)


@given(st.binary(max_size=200), st.integers(0, 400))
def test_damage_is_always_a_bad_archive(junk, at):
    whole = zipped(*(line(n) for n in range(20)))
    damaged = whole[:at] + junk + whole[at + len(junk) :]
    try:
        candles = read(damaged)
    except BadArchive:
        return
    check_candles(candles, HALF_HOUR)


def rest_rows(candles: pd.DataFrame) -> list[list[object]]:
    return [rest_row(row, HALF_HOUR) for row in candles.itertuples()]


def test_rest_round_trip_and_the_open_candle_dropped(random_candles):
    candles = random_candles(10, seed=3)
    payload = json.loads(json.dumps(rest_rows(candles)))
    end = candles.index[-1] + HALF_HOUR
    read_all = read_rest_klines(payload, HALF_HOUR, end)
    pd.testing.assert_frame_equal(read_all, candles, check_freq=False)
    read_closed = read_rest_klines(payload, HALF_HOUR, end - pd.Timedelta("1ms"))
    pd.testing.assert_frame_equal(read_closed, candles.iloc[:-1], check_freq=False)
    assert read_rest_klines([], HALF_HOUR, end).equals(empty_candles())


def rest_with(at: int, value: object) -> list[list[object]]:
    row = [1735689600000, "10.0", "12.0", "9.0", "11.0", "5.5", 1735691399999, "0", 0, "0", "0", "0"]
    row[at] = value
    return [row]


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        ({"code": -1121, "msg": "Invalid symbol."}, "expected an array"),
        (None, "expected an array"),
        ([1, 2], "expected an array of 12"),
        ([rest_with(0, 1)[0][:11]], "expected an array of 12"),
        (rest_with(0, "1735689600000"), "integer milliseconds"),
        (rest_with(0, True), "integer milliseconds"),
        (rest_with(6, 1.5), "integer milliseconds"),
        (rest_with(4, 11.0), "strings"),
        (rest_with(4, "eleven"), "not a number"),
        (rest_with(4, "NaN"), "not finite"),
        (rest_with(3, "-9"), "not above zero"),
        (rest_with(0, 1735689600001), "grid|close time"),
        (rest_with(0, 10**30), "not a number"),
        (rest_with(0, -5), "neither"),
        (rest_with(6, 1735691400000), "close time"),
        (rest_with(0, 1735689600000) * 2, "more than once"),
    ],
)
def test_rest_refuses(payload, reason):
    with pytest.raises(BadAnswer, match=reason):
        read_rest_klines(payload, HALF_HOUR, JANUARY + pd.Timedelta(days=1))


def test_an_open_candle_need_not_be_possible_yet():
    assert read_rest_klines(rest_with(4, "0"), HALF_HOUR, JANUARY).empty


def test_the_real_archive_across_the_switch_of_units(real_candles):
    candles = real_candles("BTCUSDT", "30m", "2024-12-31", "2025-01-02")
    assert len(candles) == 96
    assert (np.diff(candles.index.as_unit("ns").asi8) == HALF_HOUR.value).all()
    assert candles.loc["2025-01-01 00:00+00:00", "open"] == 93576.0
