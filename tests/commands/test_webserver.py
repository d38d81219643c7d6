"""Whether a webserver answers: also one that asks for a user, and one that answers with an error."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from cvntrade_assets.commands.webserver import answers
from resources.embedded_postgres import free_port

# `ann` with `pass:word`, as RFC 7617 writes it.
ANN = "Basic YW5uOnBhc3M6d29yZA=="


class Asking(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        fine = self.path == "/prefix/server_info" and self.headers.get("Authorization") == ANN
        self.send_response(200 if fine else 401)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def port() -> Iterator[int]:
    with HTTPServer(("127.0.0.1", 0), Asking) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def test_user_password_and_path_of_the_address_are_used(port: int) -> None:
    assert answers(f"http://ann:pass%3Aword@127.0.0.1:{port}/prefix")
    assert answers(f"http://ann:pass%3Aword@127.0.0.1:{port}/prefix/")


@pytest.mark.parametrize("user", ["", "bob:pass%3Aword@"])
def test_an_error_is_no_answer(port: int, user: str) -> None:
    assert not answers(f"http://{user}127.0.0.1:{port}/prefix")


def test_nobody_is_no_answer() -> None:
    assert not answers(f"http://127.0.0.1:{free_port()}")
