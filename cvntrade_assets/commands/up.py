"""`cvntrade up`: start everything on this machine, run what was asked, stay until told to stop."""

import os
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import NoReturn

import pandas as pd
from rich.console import Console

from cvntrade_assets.commands.backfill import INTERRUPTED, Request, backfill
from cvntrade_assets.commands.connection import Connection
from cvntrade_assets.commands.errors import CommandError
from cvntrade_assets.commands.pipelines import run_pipeline
from cvntrade_assets.commands.stack_market import StackMarket, set_market
from cvntrade_assets.local.addresses import note_stop
from cvntrade_assets.local.dagster_health import DaemonError, LocationError
from cvntrade_assets.local.options import StackOptions, stack_options
from cvntrade_assets.local.processes import ProcessEndedError, StopRequested, stop_on_signals
from cvntrade_assets.local.stack import NotReadyError, Stack
from resources.embedded_postgres import PostgresError
from resources.postgres_binaries import PostgresNotFoundError
from resources.server_roles import WAREHOUSE_DATABASE
from resources.warehouse import Warehouse

DEFAULT_GROUP = "btc-core"
# Where cryptos go that are named on the command line and are in no group yet.
OWN_GROUP = "mine"
_CANNOT_START = (
    PostgresError,
    PostgresNotFoundError,
    ProcessEndedError,
    NotReadyError,
    LocationError,
    DaemonError,
)


@dataclass(frozen=True)
class UpRequest:
    """What to do once everything is up: a group's or some cryptos' run or nothing, then stay or stop.

    With a pipeline's name that pipeline runs, else the whole chain is backfilled.
    """

    run: bool = False
    group: str | None = None
    cryptos: Sequence[str] = ()
    settings: Mapping[str, str] = field(default_factory=dict)
    market: StackMarket | None = None
    exit_when_done: bool = False
    pipeline: str | None = None


def up(request: UpRequest, console: Console) -> int:
    """Start the stack, run what was asked, stay up until Ctrl-C unless told to end.

    Returns:
        0; 1 when a part of what ran failed; 130 when stopped before its end.

    Raises:
        CommandError: a server does not come up or ends; nothing keeps running.
        AlreadyRunningError: another `cvntrade up` holds the home folder.
    """
    options = stack_options(os.environ)
    answer = INTERRUPTED if request.run else 0
    try:
        with stop_on_signals(), Stack(options, os.environ) as stack:
            connection = _bring_up(stack, options, request, console)
            with stack.watched():
                answer = _run(connection, request, console) if request.run else 0
                console.print(f"Dagster [bold]{connection.ui_url}[/bold]   MLflow {stack.addresses.mlflow_url}")
                if not request.exit_when_done:
                    console.print("Ctrl-C stops everything.")
                    _stay()
    except StopRequested:
        console.print("Stopped.")
    except _CANNOT_START as error:
        raise CommandError(str(error)) from error
    # Nobody has to be woken: it ended because it was told to.
    note_stop(options.home)
    return answer


def _bring_up(stack: Stack, options: StackOptions, request: UpRequest, console: Console) -> Connection:
    """Prepare the database while the servers start, and return once the UI shows the definitions."""
    if stack.addresses.ui_port != options.ui_port:
        console.print(f"Port {options.ui_port} is in use: the UI is at {stack.addresses.ui_url}.")
    connection = Connection(stack.addresses.ui_url, stack.environment)
    with closing(Warehouse(stack.addresses.database.url(WAREHOUSE_DATABASE))) as administrator:
        administrator.migrate()
    warehouse = connection.warehouse()
    warehouse.seed_universes()
    _make_known(warehouse, request.cryptos)
    if request.market is not None:
        set_market(warehouse, request.market, pd.Timestamp.now("UTC"))
    stack.wait_for_ui()
    console.print(f"Up after {stack.timings['definitions']:.1f} s: {stack.addresses.ui_url}")
    return connection


def _make_known(warehouse: Warehouse, cryptos: Sequence[str]) -> None:
    """Put cryptos that are in no group into `OWN_GROUP`, beside those that are there."""
    universes = warehouse.universes()
    known = {crypto for members in universes.values() for crypto in members}
    unknown = [crypto for crypto in cryptos if crypto not in known]
    if unknown:
        warehouse.set_group(OWN_GROUP, [*universes.get(OWN_GROUP, ()), *unknown])


def _run(connection: Connection, request: UpRequest, console: Console) -> int:
    group = request.group or (None if request.cryptos else DEFAULT_GROUP)
    wanted = Request(group, request.cryptos, settings=request.settings)
    if request.pipeline:
        return run_pipeline(connection, request.pipeline, wanted, wait=True, console=console)
    return backfill(connection, wanted, wait=True, console=console)


def _stay() -> NoReturn:
    while True:
        time.sleep(3600)
