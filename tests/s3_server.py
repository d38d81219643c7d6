"""A real S3 API server on the loopback, a bucket for every test, and a door in front of it that fails as told."""

import os
import socket
import struct
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum, auto
from io import BufferedReader
from socketserver import BaseRequestHandler, ThreadingTCPServer
from typing import Any, Self

import pytest

from resources.object_storage import ObjectStorage, S3Address

KEY_ID = "AKIAOBJECTSTORAGE0001"
SECRET = "zJ8kQ2mX5vB7nR4tW9yC1pL6dF3hG0sA/AbCdEf"
REGION = "eu-central-1"
_loader: Any = None
# It ends when its standard input does, whatever becomes of the tests.
_PROGRAM = """
import sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print("port", server.get_host_and_port()[1], flush=True)
sys.stdin.read()
"""


class S3Server:
    """moto's server in a process of its own; what is in it is gone with it."""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            # Parts of files are at least five million bytes, elsewhere.
            env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", "S3_UPLOAD_PART_MIN_SIZE": "1"},
        )
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("port "):
                self.port = int(line.split()[1])
                return self
        raise AssertionError("the S3 server ended before it began")

    def __exit__(self, *error: object) -> None:
        self._process.kill()
        self._process.wait()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """One server for the whole session."""
    with S3Server() as server:
        yield server


def address_it(patch: pytest.MonkeyPatch, url: str, secret: str = SECRET) -> None:
    """Have boto3 speak to a server, and to nothing else."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        patch.delenv(name)
    patch.setenv("AWS_ENDPOINT_URL_S3", url)
    patch.setenv("AWS_REGION", REGION)
    patch.setenv("AWS_ACCESS_KEY_ID", KEY_ID)
    patch.setenv("AWS_SECRET_ACCESS_KEY", secret)
    # No file of the person who runs the tests, and no machine's identity.
    patch.setenv("AWS_CONFIG_FILE", "/nonexistent/config")
    patch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent/credentials")
    patch.setenv("AWS_EC2_METADATA_DISABLED", "true")


def client() -> Any:
    """A client that knows nothing of ours."""
    import botocore.session
    from botocore.loaders import create_loader

    global _loader  # noqa: PLW0603 - half a second to read
    _loader = _loader or create_loader()
    session = botocore.session.Session()
    session.register_component("data_loader", _loader)
    return session.create_client("s3", region_name=REGION)


def new_bucket() -> S3Address:
    """A new, empty bucket, and the folder in it that a store uses."""
    name = f"test-{uuid.uuid4().hex}"
    client().create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})
    return S3Address(name, "team/artifacts")


def everything_in(bucket: str) -> dict[str, bytes]:
    """Every object of a bucket, by key."""
    ours = client()
    pages = ours.get_paginator("list_objects_v2").paginate(Bucket=bucket)
    keys = [each["Key"] for page in pages for each in page.get("Contents", ())]
    return {key: ours.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys}


@pytest.fixture
def bucket(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Address:
    """A folder in a bucket of the test's own, at the server that the environment names."""
    address_it(monkeypatch, s3_server.url)
    return new_bucket()


class Fault(Enum):
    """What a door does with a request."""

    CUT = auto()  # half of it goes through, then the connection is reset on both sides
    LOST = auto()  # all of it goes through, and the answer does not come back
    BROKEN_OFF = auto()  # half of the answer comes back
    ERROR = auto()  # it is answered with 500
    BUSY = auto()  # it is answered with 503, slow down


@dataclass
class S3Door:
    """Passes requests on to a server; `fault(method, path)` says what befalls one, None that it goes through.

    Attributes:
        port: The server's.
        fault: Asked once a request.
        seen: Method and path of every request.
    """

    port: int
    fault: Callable[[str, str], Fault | None] = lambda method, path: None
    seen: list[tuple[str, str]] = field(default_factory=list)

    def __enter__(self) -> Self:
        door = self

        class Handler(BaseRequestHandler):
            def handle(self) -> None:
                with suppress(ConnectionError):
                    door._pass(self.request)

        class Server(ThreadingTCPServer):
            daemon_threads = True

        self._server = Server(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def _pass(self, client: socket.socket) -> None:
        incoming = client.makefile("rb")
        while head := _head(incoming):
            method, path = head.split(b" ", 2)[:2]
            self.seen.append((method.decode(), path.decode()))
            fault = self.fault(*self.seen[-1])
            if _EXPECTS in head:
                # Unasked, a client waits a second for this before it sends the body.
                client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
                head = head.replace(_EXPECTS, b"")
            body = incoming.read(_length(head))
            if fault in (Fault.ERROR, Fault.BUSY):
                client.sendall(_ERRORS[fault])
                continue
            with socket.create_connection(("127.0.0.1", self.port)) as server:
                if fault is Fault.CUT:
                    server.sendall(head + body[: len(body) // 2])
                    _reset(server)
                    _reset(client)
                    return
                server.sendall(head + body)
                answer = _all(server)
            if fault is Fault.LOST:
                _reset(client)
                return
            client.sendall(answer[: len(answer) - 3] if fault is Fault.BROKEN_OFF else answer)
            # The server ends every connection, and says so.
            return


_EXPECTS = b"Expect: 100-continue\r\n"
_ERRORS = {
    Fault.ERROR: b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n",
    Fault.BUSY: b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\n\r\n",
}


def _head(incoming: BufferedReader) -> bytes:
    lines = []
    while (line := incoming.readline()) not in (b"", b"\r\n"):
        lines.append(line)
    return b"".join([*lines, b"\r\n"]) if lines else b""


def _length(head: bytes) -> int:
    lines = [line.lower() for line in head.split(b"\r\n")]
    return next((int(line.partition(b":")[2]) for line in lines if line.startswith(b"content-length:")), 0)


def _all(connection: socket.socket) -> bytes:
    answer = b""
    while more := connection.recv(65536):
        answer += more
    return answer


def _reset(connection: socket.socket) -> None:
    # No goodbye: the other side sees a connection that broke.
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


@pytest.fixture
def door(s3_server: S3Server, bucket: S3Address, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Door]:
    """The way to the server for what the environment names from here on."""
    with S3Door(s3_server.port) as opened:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", opened.url)
        # Between two attempts our client waits for seconds.
        monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda self, context: 0.01)
        yield opened


@pytest.fixture
def storage(bucket: S3Address) -> ObjectStorage:
    """Our client."""
    return ObjectStorage()
