"""The command line in this process, on a real PostgreSQL and a webserver that answers as the test scripts it."""

import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pandas as pd
import pytest
from rich.console import Console
from services import create_database

from cvntrade_assets import cli
from cvntrade_assets.commands.dagster_api import BackfillState, DagsterApi
from cvntrade_assets.commands.results import print_failures
from cvntrade_assets.commands.show_settings import show_settings
from cvntrade_assets.settings import resolve
from resources.embedded_postgres import EmbeddedPostgres
from resources.warehouse import Warehouse

SECRET = "hunter2-swordfish"
# Rich would take these for markup: one that closes nothing, and one that it would swallow.
BRACKETS = "cannot close [/red]: [errno 2] in [bold]"


class PatientServer(ThreadingHTTPServer):
    """Says nothing when a client that was interrupted does not wait for its answer."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class Webserver:
    """Answers the GraphQL calls of a backfill of one asset; `on_poll` is called before each of its states."""

    def __init__(self) -> None:
        self.on_poll: Callable[[], None] = lambda: None
        self.status = "REQUESTED"
        self.error: str | None = None
        self.runs: list[dict[str, Any]] = []
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
                {"assetKey": {"path": ["candles"]}, "dependencyKeys": [], "latestMaterializationByPartition": []}
            ]
        }

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
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


@pytest.fixture
def webserver(monkeypatch: pytest.MonkeyPatch, warehouse_url: str, warehouse: Warehouse) -> Iterator[Webserver]:
    """What CVN_UI_URL and CVN_WAREHOUSE_URL name."""
    warehouse.seed_universes()
    with Webserver() as server:
        monkeypatch.setenv("CVN_UI_URL", server.url)
        monkeypatch.setenv("CVN_WAREHOUSE_URL", warehouse_url)
        yield server


@pytest.fixture
def cvntrade(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Runs the command line; returns its exit code and what it wrote to either stream."""

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["cvntrade", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        written = capsys.readouterr()
        return int(ended.value.code or 0), written.out, written.err

    return run


Cvntrade = Callable[..., tuple[int, str, str]]


def printed(write: Callable[[Console], object]) -> str:
    """What a function prints on a console, on lines as long as they want to be."""
    console = Console(width=10_000)
    with console.capture() as captured:
        write(console)
    return captured.get()


# Refusals


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--group", "btc-core"), "--group"),
        (("--crypto", "BTCUSDC"), "--crypto"),
        (("--set", "CVN_SEED=1"), "--set"),
        (("--exit-when-done",), "--exit-when-done"),
        (("--no-run", "--crypto", "BTCUSDC", "--exit-when-done"), "--crypto, --exit-when-done"),
    ],
)
def test_up_without_a_backfill_takes_none_of_its_options(
    cvntrade: Cvntrade, arguments: tuple[str, ...], said: str
) -> None:
    code, out, error = cvntrade("up", *arguments)
    assert (code, out) == (2, "")
    assert error == f"cvntrade: {said} says what to do with a backfill, and none is asked for: add --run.\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("BTC Core", "BTCUSDC"), "'BTC Core' is not a group name"),
        (("mine", "btc/usd"), "btc/usd: expected exchange symbols such as BTCUSDC."),
        (("mine", "[/red]"), "[/red]: expected exchange symbols such as BTCUSDC."),
    ],
)
def test_a_name_that_the_universe_refuses_is_one_message(
    cvntrade: Cvntrade, webserver: Webserver, warehouse: Warehouse, arguments: tuple[str, ...], said: str
) -> None:
    before = warehouse.universes()
    code, out, error = cvntrade("universe", "set", *arguments)
    assert (code, out) == (2, "")
    assert said in error
    assert error.count("\n") == 1
    assert warehouse.universes() == before


def test_a_wrong_warehouse_address_is_one_message_without_it(
    cvntrade: Cvntrade, webserver: Webserver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CVN_WAREHOUSE_URL", f"postgres://cvntrade:{SECRET}@127.0.0.1:5432/cvntrade")
    code, out, error = cvntrade("universe", "list")
    assert (code, out) == (2, "")
    assert error == "cvntrade: CVN_WAREHOUSE_URL is not postgresql+psycopg2://user:…@host:port/database\n"


def test_a_database_without_tables_is_one_message(
    cvntrade: Cvntrade, webserver: Webserver, monkeypatch: pytest.MonkeyPatch, postgres_server: EmbeddedPostgres
) -> None:
    monkeypatch.setenv("CVN_WAREHOUSE_URL", create_database(postgres_server))
    code, out, error = cvntrade("universe", "list")
    assert (code, out) == (2, "")
    assert "lacks tables of the operations schema" in error
    assert "Run `cvntrade up` or the migrations, then run again." in error


# Following a backfill


def test_ctrl_c_leaves_the_backfill_and_says_where_it_goes_on(cvntrade: Cvntrade, webserver: Webserver) -> None:
    webserver.on_poll = lambda: os.kill(os.getpid(), signal.SIGINT)
    code, out, error = cvntrade("backfill", "--crypto", "BTCUSDC", "--wait")
    link = f"{webserver.url}/runs/b/abcdefgh"
    assert (code, error) == (130, "")
    assert f"Backfill abcdefgh of BTCUSDC: {link}" in out
    assert f"Backfill abcdefgh goes on; it can be watched and cancelled at {link}" in out
    assert out.count(link) == 2


def test_a_backfill_that_nobody_waits_for(cvntrade: Cvntrade, webserver: Webserver) -> None:
    code, out, _ = cvntrade("backfill", "--group", "btc-core")
    assert (code, out) == (0, f"Backfill abcdefgh of BTCUSDC, ETHUSDC: {webserver.url}/runs/b/abcdefgh\n")


def test_a_backfill_that_failed_says_why_word_for_word(cvntrade: Cvntrade, webserver: Webserver) -> None:
    webserver.status, webserver.error = "COMPLETED_FAILED", BRACKETS
    tags = [{"key": "dagster/partition", "value": "BTCUSDC"}]
    run = {"runId": "r1", "status": "FAILURE", "startTime": 1.0, "endTime": 2.0, "tags": tags, "stepStats": []}
    webserver.runs = [run]
    code, out, _ = cvntrade("backfill", "--crypto", "BTCUSDC", "--wait")
    assert code == 1
    assert f"The backfill failed: {BRACKETS}" in out
    assert f"step candles: {BRACKETS}" in out


# Brackets are text


def test_what_failed_is_printed_as_it_is() -> None:
    state = BackfillState("FAILED", BRACKETS, [])
    text = printed(lambda console: print_failures(DagsterApi("http://127.0.0.1:9"), state, ["[/red]"], console))
    assert text == f"The backfill failed: {BRACKETS}\n[/red] failed\n  it got no run\n"


def test_a_setting_is_printed_as_it_is() -> None:
    folder = "/srv/[/red] [errno 2]"
    settings = resolve(base_env={"CVN_BINANCE_ARCHIVE_URL": folder}, run={}, now=pd.Timestamp.now("UTC"))
    assert f" {folder} " in printed(lambda console: show_settings(settings, console))


def test_a_universe_is_printed_as_it_is(cvntrade: Cvntrade, webserver: Webserver, warehouse_url: str) -> None:
    """Rows that were there before names were checked."""
    with closing(Warehouse(warehouse_url)) as warehouse, warehouse.begin() as connection:
        connection.exec_driver_sql("insert into cvntrade_universes (group_name, crypto) values ('[/red]', '[errno 2]')")
    code, out, _ = cvntrade("universe", "list")
    assert code == 0
    [row] = [line for line in out.splitlines() if "errno" in line]
    assert [cell.strip() for cell in row.strip("│").split("│")] == ["[/red]", "[errno 2]"]
