"""An exchange on the loopback: serves archive files and candles, and plays scripted misbehaviour.

`base` is both the archive's and the REST interface's base URL. Every request is recorded in `paths`.
"""

import hashlib
import io
import json
import threading
import zipfile
from collections import deque
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self
from urllib.parse import parse_qs, urlsplit

import pandas as pd

from cvntrade_assets.market.binance import archive_month_path
from cvntrade_assets.market.candles import timeframe_delta

KLINES = "/api/v3/klines"
HTML = b"<!DOCTYPE html><html><body>Please sign in</body></html>"


@dataclass(frozen=True)
class Reply:
    """One scripted answer; `cut` announces more bytes than it sends, `hang_up` sends nothing at all."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    cut: int = 0
    hang_up: bool = False


def zip_of(content: bytes, name: str) -> bytes:
    """A zip with one member."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return buffer.getvalue()


def csv_of(candles: pd.DataFrame, interval: pd.Timedelta, *, header: bool = False) -> bytes:
    """The archive's CSV of a candle frame, in milliseconds before 2025 and microseconds from then on."""
    lines = ["open_time,open,high,low,close,volume,close_time,quote_volume,count,x,y,ignore"] if header else []
    for row in candles.itertuples():
        unit = 1_000 if row.Index.year >= 2025 else 1_000_000
        opens, closes = row.Index.value // unit, (row.Index + interval).value // unit - 1
        numbers = ",".join(repr(float(number)) for number in row[1:6])
        lines.append(f"{opens},{numbers},{closes},0,0,0,0,0")
    return ("\n".join(lines) + "\n").encode()


def rest_row(row: object, interval: pd.Timedelta) -> list[object]:
    """One candle as REST answers it."""
    opens = row.Index.value // 10**6
    return [
        opens,
        *map(str, map(float, row[1:6])),
        opens + interval.value // 10**6 - 1,
        "0",
        0,
        "0",
        "0",
        "0",
    ]


class ExchangeServer:
    """Serves `files` and, over REST, `candles`; `script` holds replies that go first, per path."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.folder: Path | None = None
        self.candles = pd.DataFrame()
        self.interval = pd.Timedelta(minutes=30)
        self.rest_headers: dict[str, str] = {}
        self.script: dict[str, deque[Reply]] = {}
        self.requests: list[str] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def paths(self) -> list[str]:
        """Paths asked for, without their query."""
        return [urlsplit(request).path for request in self.requests]

    def queries(self) -> list[dict[str, str]]:
        """Query parameters of the REST calls."""
        asked = [urlsplit(request) for request in self.requests if request.startswith(KLINES)]
        return [{name: values[0] for name, values in parse_qs(url.query).items()} for url in asked]

    def forget(self) -> None:
        self.requests.clear()

    def play(self, path: str, *replies: Reply) -> None:
        """Answer the next requests for `path` with `replies`, one each; afterwards as usual."""
        self.script.setdefault("/" + path.lstrip("/"), deque()).extend(replies)

    def publish_bytes(self, symbol: str, timeframe: str, month: str, data: bytes, checksum: str | None = None) -> str:
        """Put a zip in the archive, with its right checksum or another one; its path comes back."""
        path = "/" + archive_month_path(symbol, timeframe, month)
        name = path.rsplit("/", 1)[1]
        self.files[path] = data
        self.files[f"{path}.CHECKSUM"] = f"{checksum or hashlib.sha256(data).hexdigest()}  {name}".encode()
        return path

    def publish(self, symbol: str, timeframe: str, month: str, candles: pd.DataFrame) -> str:
        """Put the month's part of a candle frame in the archive."""
        start = pd.Timestamp(month, tz="UTC")
        part = candles[(candles.index >= start) & (candles.index < start + pd.DateOffset(months=1))]
        name = f"{symbol}-{timeframe}-{month}.csv"
        csv = csv_of(part, timeframe_delta(timeframe))
        return self.publish_bytes(symbol, timeframe, month, zip_of(csv, name))

    def reply(self, target: str) -> Reply:
        url = urlsplit(target)
        if self.script.get(url.path):
            return self.script[url.path].popleft()
        if url.path == KLINES:
            return self._klines({name: values[0] for name, values in parse_qs(url.query).items()})
        if url.path in self.files:
            return Reply(body=self.files[url.path])
        if self.folder and (self.folder / url.path.lstrip("/")).is_file():
            return Reply(body=(self.folder / url.path.lstrip("/")).read_bytes())
        return Reply(404, b"<?xml version='1.0'?><Error><Code>NoSuchKey</Code></Error>")

    def _klines(self, query: dict[str, str]) -> Reply:
        first = pd.Timestamp(int(query["startTime"]), unit="ms", tz="UTC")
        last = pd.Timestamp(int(query.get("endTime", 10**13)), unit="ms", tz="UTC")
        wanted = self.candles[(self.candles.index >= first) & (self.candles.index <= last)]
        rows = [rest_row(row, self.interval) for row in wanted[: int(query.get("limit", 500))].itertuples()]
        return Reply(body=json.dumps(rows).encode(), headers=self.rest_headers)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.requests.append(self.path)
                reply = server.reply(self.path)
                self.close_connection = True
                if reply.hang_up:
                    return
                self.send_response(reply.status)
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(reply.body) + reply.cut))
                self.send_header("Connection", "close")
                self.end_headers()
                self.wfile.write(reply.body)

            def send_response(self, code: int, message: str | None = None) -> None:
                # Without the Date header of the base class, unless a test sets one: "now" is the test's.
                self.send_response_only(code, message)

            def log_message(self, format: str, *args: object) -> None:
                pass

        return Handler

    def __enter__(self) -> Self:
        thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()
