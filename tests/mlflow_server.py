"""A real MLflow server on the loopback, and a door in front of it that fails when a test says so."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self

import httpx

from resources.embedded_postgres import free_port

START_SECONDS = 120.0


class MlflowServer:
    """`mlflow server` on a store that is migrated already, its files under `folder`."""

    def __init__(self, folder: Path, store: Path) -> None:
        self.url = f"http://127.0.0.1:{free_port()}"
        self._folder, self._store = folder, store

    def __enter__(self) -> Self:
        arguments = ["--host", "127.0.0.1", "--port", self.url.rpartition(":")[2], "--workers", "1"]
        files = ["--artifacts-destination", str(self._folder), "--backend-store-uri", f"sqlite:///{self._store}"]
        environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        with (self._folder / "server.log").open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "mlflow", "server", *arguments, *files],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            assert self._process.poll() is None, (self._folder / "server.log").read_text()
            assert time.monotonic() < deadline, "MLflow does not answer"
            time.sleep(0.1)
        return self

    def __exit__(self, *error: object) -> None:
        # Its worker is a child of it.
        os.killpg(self._process.pid, 9)
        self._process.wait()

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/health", timeout=2.0).is_success
        except httpx.HTTPError:
            return False


class Door:
    """Passes requests on to a server; `refuses(method, path)` says which are answered with an error instead.

    Attributes:
        refuses: What to refuse; nothing to begin with.
        seen: Method and path of every request.
    """

    def __init__(self, server: str) -> None:
        self.refuses: Callable[[str, str], bool] = lambda method, path: False
        self.seen: list[tuple[str, str]] = []
        self._behind = httpx.Client(base_url=server, timeout=60.0, trust_env=False)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._behind.close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        door = self

        class Handler(BaseHTTPRequestHandler):
            def _pass_on(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                step = (self.command, self.path.partition("?")[0])
                door.seen.append(step)
                if door.refuses(*step):
                    # What the client does not try again by itself.
                    self._answer(400, b'{"error_code": "BAD_REQUEST", "message": "the door is closed"}')
                    return
                kept = {name: text for name, text in self.headers.items() if name.lower() != "host"}
                found = door._behind.request(self.command, self.path, content=body, headers=kept)
                self._answer(found.status_code, found.content)

            def _answer(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _pass_on  # noqa: N815 - the library's names

            def log_message(self, format: str, *args: object) -> None:
                pass

        return Handler
