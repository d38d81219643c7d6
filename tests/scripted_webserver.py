"""A webserver on the loopback that answers the GraphQL calls of backfills and runs as the test scripts them."""

import json
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Cvntrade = Callable[..., tuple[int, str, str]]
"""The command line: arguments in; exit code, and what it wrote to either stream, out."""

# Rich would take these for markup: one that closes nothing, and one that it would swallow.
BRACKETS = "cannot close [/red]: [errno 2] in [bold]"


class PatientServer(ThreadingHTTPServer):
    """Says nothing when a client that was interrupted does not wait for its answer."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class Webserver:
    """Answers the GraphQL calls of a backfill of one asset, and of runs; `on_poll` is called before each of its states.

    `asked` holds every query with its variables.
    """

    def __init__(self) -> None:
        self.on_poll: Callable[[], None] = lambda: None
        self.status = "REQUESTED"
        self.error: str | None = None
        self.runs: list[dict[str, Any]] = []
        self.launched: dict[str, Any] = {"__typename": "LaunchRunSuccess", "run": {"runId": "r1"}}
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self._server = PatientServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def answer(self, query: str) -> dict[str, Any]:
        if "launchPartitionBackfill" in query:
            return {"launchPartitionBackfill": {"__typename": "LaunchBackfillSuccess", "backfillId": "abcdefgh"}}
        if "addDynamicPartition" in query:
            return {"addDynamicPartition": {"__typename": "AddDynamicPartitionSuccess"}}
        if "partitionBackfillOrError" in query:
            self.on_poll()
            error = self.error and {"message": self.error}
            backfill = {"__typename": "PartitionBackfill", "status": self.status, "error": error}
            return {
                "partitionBackfillOrError": backfill,
                "runsOrError": {"__typename": "Runs", "results": self.runs},
            }
        if "launchRun" in query:
            return {"launchRun": self.launched}
        if "stepStats" in query:
            return {"runsOrError": {"__typename": "Runs", "results": self.runs}}
        if "runsOrError" in query:
            self.on_poll()
            return {"runsOrError": {"__typename": "Runs", "results": self.runs}}
        if "logsForRun" in query:
            failure = {
                "__typename": "ExecutionStepFailureEvent",
                "stepKey": "candles",
                "failureMetadata": {"description": BRACKETS},
                "error": None,
            }
            page = {"__typename": "EventConnection", "cursor": "", "hasMore": False, "events": [failure]}
            return {"logsForRun": page}
        return {
            "assetNodes": [
                {
                    "assetKey": {"path": ["candles"]},
                    "dependencyKeys": [],
                    "metadataEntries": [{"label": "settings"}],
                    "latestMaterializationByPartition": [],
                }
            ]
        }

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def do_POST(self) -> None:
                asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                server.asked.append((asked["query"], asked["variables"]))
                body = json.dumps({"data": server.answer(asked["query"])}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        return Handler

    def __enter__(self) -> "Webserver":
        serve = {"poll_interval": 0.01}
        threading.Thread(target=self._server.serve_forever, kwargs=serve, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()
