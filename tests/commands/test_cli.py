"""The command line in this process, on a real PostgreSQL and a webserver that answers as the test scripts it."""

import os
import signal
from collections.abc import Callable
from contextlib import closing

import pandas as pd
import pytest
from rich.console import Console
from scripted_webserver import BRACKETS, Cvntrade, Webserver
from services import create_database

from cvntrade_assets.commands.dagster_api import BackfillState, DagsterApi
from cvntrade_assets.commands.results import print_failures
from cvntrade_assets.commands.show_settings import show_settings
from cvntrade_assets.settings import resolve
from resources.embedded_postgres import EmbeddedPostgres
from resources.warehouse import Warehouse

SECRET = "hunter2-swordfish"


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
    assert error == f"cvntrade: {said} says what to run, and nothing is to be run: add --run.\n"


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
    assert error == "cvntrade: CVN_WAREHOUSE_URL is not postgresql+psycopg2://***@host:port/database\n"


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
