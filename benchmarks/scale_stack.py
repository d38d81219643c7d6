"""The stack of `benchmarks.scale`: `cvntrade up` on a folder of its own, and the doors to it.

Everything goes through what an operator has too: the command line, the webserver, and PostgreSQL for looking inside.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Self

import httpx
import psycopg2

from cvntrade_assets.commands.backfill import ENDED
from resources.embedded_postgres import HOST, USER, free_port
from resources.warehouse import Warehouse

PROJECT = Path(__file__).resolve().parents[1]
GROUP = "scale"
START_SECONDS, STOP_SECONDS = 180.0, 60.0
_POLL_SECONDS = 1.0
_LAUNCHED = "Backfill "
_CANCEL = "mutation($id: String!) { cancelPartitionBackfill(backfillId: $id) { __typename } }"
_CANCELLED, _SETTLE_SECONDS = "CancelBackfillSuccess", 5.0
_GOES_ON = """
    select 1 from runs where backfill_id is not null and status not in ('SUCCESS', 'FAILURE', 'CANCELED')
    union all select 1 from bulk_actions where status in ('REQUESTED', 'CANCELING') limit 1
"""


class ScaleError(RuntimeError):
    """The stack does not do what the benchmark needs; what was measured before is kept."""


class ScaleStack:
    """A stack that lives as long as the `with` block, on a folder that stays.

    Args:
        home: CVN_HOME; a folder with an earlier stack's data goes on from there.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self._log = home.with_name(f"{home.name}.log")
        kept = {name: text for name, text in os.environ.items() if not name.startswith(("CVN_", "DAGSTER_"))}
        self.environment = kept | {
            "PYTHONPATH": str(PROJECT),
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "CVN_HOME": str(home),
            "CVN_UI_PORT": str(free_port()),
            "CVN_MLFLOW_PORT": str(free_port()),
        }

    def __enter__(self) -> Self:
        self.home.mkdir(parents=True, exist_ok=True)
        # As root the database server runs as somebody else, who has to reach its files.
        self.home.chmod(0o755)
        with self._log.open("wb") as log:
            command = [sys.executable, "-m", "cvntrade_assets", "up", "--no-run"]
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=PROJECT, env=self.environment
            )
        try:
            self._wait_until_up()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self._http.close()
        self._end()

    def check(self) -> None:
        """Raise when `cvntrade up` has ended.

        Raises:
            ScaleError: with what it said last.
        """
        if self._process.poll() is not None:
            said = "\n".join(self._log.read_text(errors="replace").strip().splitlines()[-15:])
            raise ScaleError(f"`cvntrade up` has ended (exit code {self._process.returncode}):\n{said}")

    # Doors

    def cli(self, *arguments: str, allowed: Sequence[int] = (0,), seconds: float = 1800.0) -> tuple[str, float]:
        """What a `cvntrade` command said, and its seconds.

        Raises:
            ScaleError: its exit code is none of those allowed.
        """
        command = [sys.executable, "-m", "cvntrade_assets", *arguments]
        began = time.perf_counter()
        done = subprocess.run(
            command, capture_output=True, text=True, cwd=PROJECT, env=self.environment, timeout=seconds, check=False
        )
        took = time.perf_counter() - began
        if done.returncode not in allowed:
            raise ScaleError(
                f"`cvntrade {' '.join(arguments)}` ended with {done.returncode}: {done.stdout}{done.stderr}"
            )
        return done.stdout, took

    def ask(self, query: str, variables: Mapping[str, Any] | None = None, operation: str | None = None) -> Any:
        """What the webserver answers, errors and all."""
        content = {"query": query, "variables": dict(variables or {}), "operationName": operation}
        try:
            response = self._http.post("/graphql", json=content)
        except httpx.HTTPError as error:
            raise ScaleError(f"the webserver did not answer {operation}: {type(error).__name__}") from None
        if response.is_error:
            raise ScaleError(f"the webserver answered {response.status_code} to {operation}: {response.text[:300]}")
        return response.json()

    def rows(self, database: str, query: str, *values: object) -> list[tuple[Any, ...]]:
        """Rows of a query, as the server's owner, who may see everything."""
        where = {"host": HOST, "port": self.postgres_port, "user": USER, "dbname": database}
        try:
            opened = psycopg2.connect(**where, password=self._password())
        except psycopg2.OperationalError as error:
            raise ScaleError(f"the stack's PostgreSQL does not answer: {str(error).strip()}") from None
        with closing(opened) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(query, values or None)
                return list(cursor.fetchall()) if cursor.description else []

    def warehouse(self) -> Warehouse:
        """The operations schema, as the server's owner."""
        return Warehouse(f"postgresql+psycopg2://{USER}:{self._password()}@{HOST}:{self.postgres_port}/cvntrade")

    # What the benchmark does

    def configure(self, settings: Mapping[str, str]) -> None:
        """Make these the operators' settings."""
        with closing(self.warehouse()) as warehouse:
            warehouse.set_base_env(dict(settings), "benchmark", "the scale benchmark's own market and size")

    def settle(self) -> None:
        """Cancel what an interrupted level left in the queue, and return once nothing runs any more.

        Raises:
            ScaleError: a backfill cannot be cancelled.
        """
        while self.rows("dagster", _GOES_ON):
            self.check()
            # Again and again: the daemon may write down how a backfill stands over its being cancelled.
            for (backfill,) in self.rows("dagster", "select key from bulk_actions where status = 'REQUESTED'"):
                answer = self.ask(_CANCEL, {"id": backfill})
                if "errors" in answer or answer["data"]["cancelPartitionBackfill"]["__typename"] != _CANCELLED:
                    raise ScaleError(f"backfill {backfill} of an interrupted level cannot be cancelled: {answer}")
            time.sleep(_SETTLE_SECONDS)

    def set_universe(self, cryptos: Sequence[str]) -> float:
        """Make the group these cryptos; returns the command's seconds."""
        return self.cli("universe", "set", GROUP, *cryptos)[1]

    def backfill(self, group: str, *options: str) -> tuple[str, float]:
        """Start a backfill of a group; returns its id, and the command's seconds."""
        said, seconds = self.cli("backfill", "--group", group, *options)
        found = [line.split()[1] for line in said.splitlines() if line.startswith(_LAUNCHED)]
        if not found:
            raise ScaleError(f"`cvntrade backfill --group {group}` names no backfill: {said}")
        return found[0], seconds

    def wait_for(self, backfill: str, expected: int, say: Callable[[int, int], None] | None = None) -> str:
        """The status that a backfill ends with, once all its runs have ended; `say` is told how many have."""
        told = -1
        while True:
            self.check()
            [(done, status)] = self.rows(
                "dagster",
                "select (select count(*) from runs where backfill_id = %s and status in ('SUCCESS', 'FAILURE', "
                "'CANCELED')), (select status from bulk_actions where key = %s)",
                backfill,
                backfill,
            )
            if say is not None and done != told:
                told = done
                say(done, expected)
            if status in ENDED:
                return str(status)
            time.sleep(_POLL_SECONDS)

    def _wait_until_up(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while "Up after" not in self._log.read_text(errors="replace"):
            self.check()
            if time.monotonic() > deadline:
                raise ScaleError(f"the stack is not up after {START_SECONDS:.0f} s; see {self._log}")
            time.sleep(0.2)
        content = json.loads((self.home / "stack.json").read_text())
        self.pids: dict[str, int] = dict(content["pids"])
        postmaster = (self.home / "postgres" / "cluster" / "postmaster.pid").read_text().splitlines()
        self.pids["postgres"], self.postgres_port = int(postmaster[0]), int(postmaster[3])
        self.ui_url = str(content["urls"]["dagster"])
        self._http = httpx.Client(base_url=self.ui_url, timeout=300.0, trust_env=False)

    def _password(self) -> str:
        return (self.home / "postgres" / "password").read_text().strip()

    def _end(self) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            # What it started ends with it.
            self._process.kill()
            self._process.wait()
