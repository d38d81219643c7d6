"""The exchange's formats: archive paths, zips and checksums, and the answers of its REST interface.

Bytes in, candle frames out; nothing here fetches anything. Follows the public documentation of the Binance
archive (`binance-public-data`) and of `GET /api/v3/klines`.
"""

import io
import re
import struct
import zipfile
import zlib
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pandas as pd

from cvntrade_assets.market.candles import (
    INDEX_DTYPE,
    NUMBERS,
    ImpossibleCandles,
    check_candles,
    empty_candles,
    timeframe_delta,
)
from cvntrade_assets.market.history import month_span

MAX_ZIP_BYTES = 32 * 2**20
MAX_CSV_BYTES = 128 * 2**20
MAX_CSV_RATIO = 100
FIELDS = 12

# The archive changed from milliseconds to microseconds on 2025-01-01; 1e13 ms is in 2286, 1e13 µs in 1970.
_FIRST_MICROSECONDS = 10**13
_LATEST_TIME = 9 * 10**15
_CLOSE_TIME = 6
_NUMBER_FIELDS = range(1, 6)
_SYMBOL = re.compile(r"[A-Z0-9]{2,20}")
_CHECKSUM = re.compile(r"([0-9a-fA-F]{64}) [ *](\S+)\s*")
_ARCHIVE_NAME = re.compile(r"[A-Z0-9]+-\w+-(\d{4}-\d{2})\.zip")
_ENCRYPTED = 0x1
# What zipfile lets through when a directory points to places that are not in the file.
_ZIP_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    OSError,
    ValueError,
    NotImplementedError,
)


class BadArchive(ValueError):
    """An archive file that cannot be trusted.

    Attributes:
        reason: Precisely what is wrong with it.
    """

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class BadAnswer(ValueError):
    """A REST answer that is not the documented array of candles.

    Attributes:
        reason: Precisely what is wrong with it.
    """

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


def archive_month_path(symbol: str, timeframe: str, month: str) -> str:
    """Path of a month's zip below the archive's base; its checksum is the same with `.CHECKSUM` appended.

    Raises:
        ValueError: Not a symbol (2 to 20 capitals and digits), a timeframe or a month such as "2025-01".
    """
    if not _SYMBOL.fullmatch(symbol):
        raise ValueError(f"{symbol!r} is not a symbol: expected 2 to 20 capitals and digits, such as BTCUSDC")
    timeframe_delta(timeframe)
    month_span(month)
    return f"spot/monthly/klines/{symbol}/{timeframe}/{symbol}-{timeframe}-{month}.zip"


def parse_checksum(text: str, expected_name: str) -> str:
    """The sha256, in lower case, that a `.CHECKSUM` file publishes for the zip called `expected_name`.

    Raises:
        BadArchive: Not "64 hex digits, two spaces, name", or another file's name.
    """
    found = _CHECKSUM.fullmatch(text)
    if found is None:
        raise BadArchive(f"checksum file is not '<64 hex digits>  {expected_name}': it begins {text[:60]!r}")
    if found[2] != expected_name:
        raise BadArchive(f"checksum file is for {found[2]!r}: expected {expected_name!r}")
    return found[1].lower()


def read_archive_zip(data: bytes, expected_name: str, interval: pd.Timedelta) -> pd.DataFrame:
    """Candle frame of one archive month.

    The zip must hold exactly one CSV, of the zip's own name, with 12 fields a line and times in milliseconds
    or microseconds (decided for each), all of them in the month that the name gives. A header line is
    skipped. A candle whose close time does not cover its interval comes back with `complete` False.

    Args:
        data: The zip's bytes; never unpacked beyond `MAX_CSV_BYTES` or `MAX_CSV_RATIO` times their size.
        expected_name: The zip's name, such as "BTCUSDT-30m-2025-01.zip".
        interval: Length of one candle.

    Raises:
        BadArchive: With what is wrong: not a zip, truncated, a bomb, other content, impossible candles.
    """
    csv = _unzip(data, expected_name.removesuffix(".zip") + ".csv")
    table = _read_csv(csv)
    try:
        candles = _candle_frame(
            table[0].to_numpy(np.int64),
            table[_CLOSE_TIME].to_numpy(np.int64),
            table[list(_NUMBER_FIELDS)].to_numpy(np.float64),
            interval,
        )
    except ImpossibleCandles as error:
        raise BadArchive(str(error)) from error
    _check_month(candles, expected_name)
    return candles


def read_rest_klines(payload: object, interval: pd.Timedelta, closed_before: pd.Timestamp) -> pd.DataFrame:
    """Candle frame of a decoded answer of `GET /api/v3/klines`.

    Args:
        payload: Array of 12-element arrays: times in integer milliseconds, prices and volumes as strings.
        interval: Length of one candle.
        closed_before: Candles that close after this instant are still open, and are left out.

    Raises:
        BadAnswer: Another shape, or impossible candles.
    """
    rows = _rest_rows(payload)
    if not rows:
        return empty_candles()
    try:
        open_times = np.array([row[0] for row in rows], dtype=np.int64)
        close_times = np.array([row[_CLOSE_TIME] for row in rows], dtype=np.int64)
        numbers = np.array([[float(row[at]) for at in _NUMBER_FIELDS] for row in rows], dtype=np.float64)
        closed = _nanoseconds(open_times) + interval.value <= closed_before.as_unit("ns").value
        return _candle_frame(open_times[closed], close_times[closed], numbers[closed], interval)
    except ImpossibleCandles as error:
        raise BadAnswer(str(error)) from error
    except (ValueError, OverflowError) as error:
        raise BadAnswer(f"a candle holds what is not a number: {error}") from error


def _nanoseconds(times: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Nanoseconds since 1970 of times in milliseconds or microseconds, decided for each by its size.

    Raises:
        ImpossibleCandles: A time is negative, or after the year 2255.
    """
    outside = (times < 0) | (times > _LATEST_TIME)
    if outside.any():
        raise ImpossibleCandles(f"time {times[outside][0]} is neither milliseconds nor microseconds since 1970")
    return times * np.where(times > _FIRST_MICROSECONDS, 1_000, 1_000_000)


def describe_bytes(data: bytes) -> str:
    """What downloaded bytes look like, for the message about a file that is not what it should be."""
    start = data[:256].lstrip().lower()
    if not data:
        return "nothing at all"
    if start.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        return f"a web page or error document ({len(data)} bytes beginning {data[:40]!r})"
    if not data.startswith(b"PK"):
        return f"no zip ({len(data)} bytes beginning {data[:16]!r})"
    if not zipfile.is_zipfile(io.BytesIO(data)):
        return f"a truncated zip ({len(data)} bytes without the directory at the end)"
    return f"a zip of {len(data)} bytes"


def _unzip(data: bytes, csv_name: str) -> bytes:
    if len(data) > MAX_ZIP_BYTES:
        raise BadArchive(f"larger than the {MAX_ZIP_BYTES} bytes that a month can take: not read")
    if not zipfile.is_zipfile(io.BytesIO(data)):
        raise BadArchive(f"not a whole zip, but {describe_bytes(data)}")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return _read_member(archive, csv_name, len(data))
    except BadArchive:
        raise
    except _ZIP_ERRORS as error:
        raise BadArchive(f"corrupt zip: {error}") from error


def _read_member(archive: zipfile.ZipFile, csv_name: str, zip_bytes: int) -> bytes:
    names = archive.namelist()
    if names != [csv_name]:
        raise BadArchive(f"the zip holds {names[:5]}: expected exactly {csv_name!r}")
    member = archive.infolist()[0]
    if member.flag_bits & _ENCRYPTED:
        raise BadArchive(f"{csv_name} is encrypted")
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise BadArchive(f"{csv_name} is compressed by method {member.compress_type}: expected deflate")
    limit = min(MAX_CSV_BYTES, MAX_CSV_RATIO * zip_bytes)
    if member.file_size > limit:
        raise BadArchive(f"a bomb: {zip_bytes} bytes claim to unpack to {member.file_size}, more than {limit}")
    with archive.open(member) as stream:
        content = stream.read(limit + 1)
    if len(content) > limit:
        raise BadArchive(f"a bomb: {zip_bytes} bytes unpack to more than {limit}")
    return content


def _read_csv(csv: bytes) -> pd.DataFrame:
    if not csv.strip():
        raise BadArchive("the CSV is empty")
    types = dict.fromkeys(_NUMBER_FIELDS, "float64")
    types.update({0: "int64", _CLOSE_TIME: "int64"})
    try:
        table = pd.read_csv(
            io.BytesIO(csv),
            header=None,
            skiprows=_header_lines(csv),
            dtype=cast(Mapping[Hashable, str], types),
            float_precision="round_trip",
        )
    except (ValueError, OverflowError) as error:
        raise BadArchive(f"the CSV does not hold {FIELDS} numbers a line: {error}") from error
    short = table.iloc[:, -1].isna()
    if table.shape[1] != FIELDS or short.any():
        line = int(short.to_numpy().argmax()) + 1
        raise BadArchive(f"candle {line} of the CSV has not all fields: expected {FIELDS}")
    return table


def _header_lines(csv: bytes) -> int:
    if csv[:1].isdigit():
        return 0
    first_line = csv[:200].split(b"\n", 1)[0]
    if not first_line.lower().replace(b" ", b"_").startswith(b"open_time,"):
        raise BadArchive(f"the CSV begins with neither a candle nor a header: {first_line[:60]!r}")
    return 1


def _check_month(candles: pd.DataFrame, expected_name: str) -> None:
    named = _ARCHIVE_NAME.fullmatch(expected_name)
    if named is None:
        raise ValueError(f"{expected_name!r} is no archive month: expected a name such as BTCUSDT-30m-2025-01.zip")
    start, end = month_span(named[1])
    if candles.empty:
        raise BadArchive("the CSV holds no candle")
    if candles.index[0] < start or candles.index[-1] >= end:
        raise BadArchive(f"candles {candles.index[0]} to {candles.index[-1]} are not all in {named[1]}")


def _rest_rows(payload: object) -> Sequence[list[Any]]:
    if not isinstance(payload, list):
        raise BadAnswer(f"the answer is {type(payload).__name__} {str(payload)[:80]!r}: expected an array of candles")
    for at, row in enumerate(payload):
        if not isinstance(row, list) or len(row) != FIELDS:
            raise BadAnswer(f"candle {at} of the answer is {str(row)[:80]!r}: expected an array of {FIELDS}")
        if type(row[0]) is not int or type(row[_CLOSE_TIME]) is not int:
            raise BadAnswer(f"candle {at} has times {row[0]!r}, {row[_CLOSE_TIME]!r}: expected integer milliseconds")
        if not all(isinstance(row[at_number], str) for at_number in _NUMBER_FIELDS):
            raise BadAnswer(f"candle {at} has numbers {row[1:_CLOSE_TIME]!r}: expected strings")
    return payload


def _candle_frame(
    open_times: npt.NDArray[np.int64],
    close_times: npt.NDArray[np.int64],
    numbers: npt.NDArray[np.float64],
    interval: pd.Timedelta,
) -> pd.DataFrame:
    opens = _nanoseconds(open_times)
    next_opens = opens + interval.value
    closes = _nanoseconds(close_times)
    # The close time is the last millisecond, or microsecond, of the candle.
    index = pd.DatetimeIndex(opens, tz="UTC", name="open_time").astype(INDEX_DTYPE)
    columns = dict(zip(NUMBERS, numbers.T, strict=True))
    complete = closes >= next_opens - pd.Timedelta(milliseconds=1).value
    candles = pd.DataFrame({**columns, "complete": complete}, index=index)
    overlong = (closes < opens) | (closes >= next_opens)
    if overlong.any():
        raise ImpossibleCandles(f"close time outside the {interval} after the open", candles[overlong])
    check_candles(candles, interval)
    return candles
