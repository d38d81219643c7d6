"""Receivers of alerts on the loopback: a web service and a mail server, which answer as a test scripts them."""

import email
import email.policy
import json
import re
import socketserver
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

_KEY = re.compile(r"\b\d+\.\d+-[0-9a-z]{6,7}\b")


@dataclass(frozen=True)
class Received:
    """A message that was taken."""

    place: str
    title: str
    body: str
    tone: str = ""

    @property
    def keys(self) -> list[str]:
        """The keys of the messages that it holds."""
        return _KEY.findall(self.body)


@dataclass
class Answer:
    """What a service says to one message; it takes those that it answers with success."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0


class _Server:
    """A server in a thread, the messages that it took, and those that it was asked to take."""

    server: socketserver.BaseServer

    def __init__(self) -> None:
        self.received: list[Received] = []
        self.asked: list[Received] = []
        self.script: list[Answer] = []
        self.always: Answer | None = None
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.server.shutdown()
        self.server.server_close()
        self._thread.join()

    @property
    def port(self) -> int:
        address: Any = self.server.server_address
        return int(address[1])

    @property
    def keys(self) -> list[str]:
        """Every key that was taken, as often as it was."""
        return [key for each in self.received for key in each.keys]

    def take(self, message: Received) -> Answer:
        """The next answer, and the message noted; a slow answer has taken it before it says so."""
        with self._lock:
            answer = self.always or (self.script.pop(0) if self.script else Answer())
            self.asked.append(message)
            if 200 <= answer.status < 300:
                self.received.append(message)
        time.sleep(answer.seconds)
        return answer


class WebReceiver(_Server):
    """A web service that takes Apprise's JSON, under any path."""

    def __init__(self) -> None:
        super().__init__()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                told = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                answer = outer.take(Received(self.path, told["title"], told["message"], told.get("type", "")))
                try:
                    self.send_response(answer.status)
                    for name, text in answer.headers.items():
                        self.send_header(name, text)
                    self.end_headers()
                except BrokenPipeError:
                    pass  # the sender did not wait

            def log_message(self, *args: Any) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    def url(self, path: str) -> str:
        """The Apprise address of a path."""
        return f"json://127.0.0.1:{self.port}{path}"


class MailReceiver(_Server):
    """A mail server; what it does not take it answers with the status as SMTP's code."""

    def __init__(self) -> None:
        super().__init__()
        outer = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                self._say("220 here")
                while line := self.rfile.readline().decode().strip():
                    command = line.split()[0].upper()
                    if command == "DATA":
                        self._say("354 go on")
                        answer = outer.take(self._read())
                        self._say("250 taken" if answer.status == 200 else f"{answer.status} not now")
                    elif command == "QUIT":
                        self._say("221 bye")
                        return
                    else:
                        self._say("250 fine")

            def _say(self, text: str) -> None:
                self.wfile.write(f"{text}\r\n".encode())

            def _read(self) -> Received:
                lines = []
                while (line := self.rfile.readline()) not in (b".\r\n", b""):
                    lines.append(line[1:] if line.startswith(b"..") else line)
                message = email.message_from_bytes(b"".join(lines), policy=email.policy.default)
                body = message.get_body(("plain",))
                assert body is not None
                return Received(str(message["To"]), str(message["Subject"]), str(body.get_content()))

        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address = True
            daemon_threads = True

        self.server = Server(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        """The Apprise address of a mailbox."""
        return (
            f"mailto://127.0.0.1:{self.port}?smtp=127.0.0.1&mode=insecure&from=alerts@example.org&to=owner@example.org"
        )
