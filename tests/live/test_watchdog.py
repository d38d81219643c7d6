"""Dagster's daemon is killed: the watchdog, a process of its own, tells a real receiver, and tells of its return."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import pandas as pd
import pytest
import sqlalchemy as sa
from alert_receiver import WebReceiver
from live.live_stack import ROOT, clean_environment
from polling import until
from services import own_postgres

from resources.alerts import open_alerts
from resources.embedded_postgres import free_port
from resources.tables import GLOBAL_STATES
from resources.warehouse import Warehouse

pytestmark = pytest.mark.live

# The daemon's threads send a heartbeat as they start, and then every 30 s: a process this young has just sent one.
LIMIT_MINUTES = "0.25"
# Generous: what is told at all counts here, and CI is slow.
SECONDS = 120.0


@dataclass
class Place:
    """A PostgreSQL with both schemas, a receiver, and programs that run on them."""

    home: Path
    warehouse: Warehouse
    web: WebReceiver
    environment: dict[str, str]
    stack: ExitStack

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """A program in a session of its own, which ends with the test."""
        log: IO[bytes] = self.stack.enter_context((self.home / "programs.log").open("ab"))
        process = subprocess.Popen(
            arguments, cwd=ROOT, env=self.environment, stdout=log, stderr=log, start_new_session=True
        )
        self.stack.callback(kill, process)
        return process

    def daemon(self) -> subprocess.Popen[bytes]:
        """Dagster's daemon, without code to load."""
        return self.start(str(Path(sys.executable).with_name("dagster-daemon")), "run", "--empty-workspace")


def kill(process: subprocess.Popen[bytes]) -> None:
    """The program and its children; nothing when they have ended."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    process.wait()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with ExitStack() as stack:
        server = stack.enter_context(own_postgres("watchdog"))
        web = stack.enter_context(WebReceiver())
        warehouse = stack.enter_context(closing(Warehouse(server.dsn("cvntrade"))))
        warehouse.migrate()
        warehouse.set_base_env({"CVN_WATCHDOG_MINUTES": LIMIT_MINUTES, "CVN_STATE_STALE_MINUTES": "60"}, "test")
        now = pd.Timestamp.now("UTC").to_pydatetime()
        state = {"computed_at": now, "since": now, "as_of": now, "state": "GREEN", "raw_state": "GREEN"}
        with warehouse.begin() as connection:
            connection.execute(sa.insert(GLOBAL_STATES), {**state, "reasons": [], "market": "simulated"})
        (tmp_path / "dagster.yaml").symlink_to(ROOT / "dagster.yaml")
        environment = clean_environment(
            CVN_HOME=str(tmp_path),
            DAGSTER_HOME=str(tmp_path),
            CVN_PG_HOST="127.0.0.1",
            CVN_PG_PORT=str(server.port),
            CVN_PG_USER="cvntrade",
            CVN_PG_PASSWORD=server.password,
            CVN_WAREHOUSE_URL=server.dsn("cvntrade"),
            CVN_COMPUTE_LOGS=str(tmp_path / "compute_logs"),
            CVN_MAX_CONCURRENT_RUNS="1",
            CVN_RUNS_IN="processes",
            CVN_UI_URL=f"http://127.0.0.1:{free_port()}",
            CVN_ALERT_SMS_URL=web.url("/sms"),
        )
        yield Place(tmp_path, warehouse, web, environment, stack)


def test_a_daemon_that_is_killed_is_noticed_and_told_and_so_is_its_return(place: Place) -> None:
    def once() -> int:
        program = [sys.executable, "-m", "cvntrade_assets", "watchdog", "--once"]
        return subprocess.run(program, cwd=ROOT, env=place.environment, capture_output=True, check=False).returncode

    daemon = place.daemon()
    until("the daemon is there", lambda: once() == 0, SECONDS)
    # What a look before the daemon was there has found was told as well, and that it was over.
    before = len(place.web.received)
    place.start(sys.executable, "-m", "cvntrade_assets", "watchdog")
    kill(daemon)
    until("it is told", lambda: len(place.web.received) > before, SECONDS)
    assert place.web.received[-1].body.startswith("P0 opened: ")
    assert "missing are Dagster's daemon" in place.web.received[-1].body
    [alert] = open_alerts(place.warehouse)
    assert (alert.key, alert.severity, alert.owner) == ("watchdog/daemons", "P0", "platform owner")
    assert once() == 1
    place.daemon()

    def recovered() -> bool:
        return place.web.received[-1].body.startswith("P0 recovered: ")

    until("its return is told", recovered, SECONDS)
    assert open_alerts(place.warehouse) == [] and once() == 0
    assert len(place.web.keys) == len(set(place.web.keys))
