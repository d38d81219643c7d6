"""A real stack for tests: `cvntrade up` as a process of its own, driven from outside as an operator does.

Everything goes through a door that an operator has: the command line, the webserver's GraphQL, the servers' files, and
PostgreSQL for looking inside.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Self

import httpx
import psycopg2
from polling import until

from cvntrade_assets.commands.dagster_api import LOCATION, REPOSITORY, DagsterApi
from cvntrade_assets.local.addresses import Addresses, read_addresses
from resources.artifacts import ArtifactStore
from resources.codecs import CODECS
from resources.embedded_postgres import free_port
from resources.server_roles import PASSWORD_VARIABLES
from resources.warehouse import Warehouse

ROOT = Path(__file__).resolve().parents[2]
ENDED = frozenset({"SUCCESS", "FAILURE", "CANCELED"})
START_SECONDS = 120.0
STOP_SECONDS = 40.0
# How much `LiveStack.story` tells of a run.
STORY_LINES, STORY_WIDTH = 6, 300
RETRY_TAGS = (
    "dagster/parent_run_id",
    "dagster/retry_number",
    "dagster/will_retry",
    "dagster/auto_retry_run_id",
    "dagster/run_failure_reason",
)
# What the fixture `built` has built.
CRYPTO = "BTCUSDC"
ASSETS = (
    "candles",
    "backtest_candles",
    "features",
    "labels",
    "training_set",
    "feature_selection",
    "label_pipeline",
    "hyperparameters",
    "model",
    "calibration",
    "backtest",
    "test_report",
)
DATABASES = ("dagster", "mlflow", "cvntrade")

_LAUNCH = """
mutation($params: ExecutionParams!) {
  launchRun(executionParams: $params) {
    __typename
    ... on LaunchRunSuccess { run { runId } }
    ... on PythonError { message }
    ... on RunConfigValidationInvalid { errors { message } }
    ... on InvalidSubsetError { message }
  }
}"""


def as_options(settings: Mapping[str, str]) -> list[str]:
    """Settings as `--set` options."""
    return [part for name, text in settings.items() for part in ("--set", f"{name}={text}")]


def cells(output: str) -> list[list[str]]:
    """The rows of the tables in an output, cell by cell; what was wrapped is joined again."""
    rows: list[list[str]] = []
    for line in output.splitlines():
        if not line.startswith("│"):
            continue
        row = [cell.strip() for cell in line.strip("│").split("│")]
        if row[0]:
            rows.append(row)
        else:
            rows[-1] = [f"{before} {more}".strip() for before, more in zip(rows[-1], row, strict=True)]
    return rows


def clean_environment(**more: str) -> dict[str, str]:
    """This process's environment without anybody else's CVNTrade in it."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith(("CVN_", "DAGSTER_"))}
    return kept | {"PYTHONPATH": str(ROOT), "MLFLOW_DISABLE_TELEMETRY": "true"} | more


def processes_of(home: Path) -> dict[int, str]:
    """Every process that was started with `home` in its arguments or environment, and its command line."""
    needle, found = os.fsencode(home), {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            arguments = (entry / "cmdline").read_bytes()
            if needle in arguments or needle in (entry / "environ").read_bytes():
                found[int(entry.name)] = arguments.replace(b"\0", b" ").decode(errors="replace").strip()
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue  # it ended meanwhile, or belongs to somebody else
    return found


class LiveStack:
    """`cvntrade up --no-run` on a folder of its own.

    Args:
        program: What Python runs to bring it up.
        environment: Variables beside those that every stack gets.
    """

    def __init__(
        self, program: Iterable[str] = ("-m", "cvntrade_assets", "up", "--no-run"), **environment: str
    ) -> None:
        self.program = tuple(program)
        # Not pytest's folder: only root may enter that one, and as root the server runs as somebody else.
        self.home = Path(tempfile.mkdtemp(prefix="cvntrade-live-"))
        self.home.chmod(0o755)
        self.log = self.home.with_suffix(".log")
        # A daemon of the default interval, 5 s, would make every retry wait that long.
        self.environment = clean_environment(
            CVN_HOME=str(self.home),
            CVN_UI_PORT=str(free_port()),
            CVN_MLFLOW_PORT=str(free_port()),
            DAGSTER_EVENT_LOG_CONSUMER_DAEMON_INTERVAL_SECONDS="1",
            **environment,
        )

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.remove()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        try:
            self.stop()
        finally:
            self.remove()

    def start(self) -> None:
        """Bring everything up and wait for it."""
        with self.log.open("wb") as log:
            arguments = [sys.executable, *self.program]
            self.process = subprocess.Popen(
                arguments, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=ROOT, env=self.environment
            )
        until("the stack is up", lambda: self.ended() or "Up after" in self.said(), START_SECONDS)
        assert not self.ended(), self.said()
        found = read_addresses(self.home, self.environment)
        assert found is not None, "a stack that is up has a stack.json"
        self.addresses: Addresses = found
        self.api = DagsterApi(found.ui_url)
        self._http = httpx.Client(base_url=found.ui_url, timeout=60.0, trust_env=False)

    def crash(self) -> int:
        """kill -9 the PostgreSQL server; returns what `cvntrade up` ends with. Nothing may be left of it."""
        state = self.home / "postgres" / "cluster" / "postmaster.pid"
        os.kill(int(state.read_text().splitlines()[0]), signal.SIGKILL)
        code = self.process.wait(STOP_SECONDS)
        assert not (left := processes_of(self.home)), left
        return code

    def stop(self) -> None:
        """Ctrl-C; everything that was started must be gone."""
        if not self.ended():
            self.process.send_signal(signal.SIGINT)
        code = self.process.wait(STOP_SECONDS)
        left = processes_of(self.home)
        assert not left, f"still running after the stack has stopped: {left}"
        assert code == 0, self.said()

    def remove(self) -> None:
        """End what a failed test left, and remove the files."""
        if hasattr(self, "process") and not self.ended():
            self.process.terminate()
            self.process.wait(STOP_SECONDS)
        for pid in processes_of(self.home):
            os.kill(pid, signal.SIGKILL)
        shutil.rmtree(self.home, ignore_errors=True)
        self.log.unlink(missing_ok=True)

    def ended(self) -> bool:
        """Whether `cvntrade up` has ended."""
        return self.process.poll() is not None

    def said(self) -> str:
        """What `cvntrade up` printed."""
        return self.log.read_text()

    # Doors

    def cli(self, *arguments: str, seconds: float = 120.0, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a `cvntrade` command."""
        return subprocess.run(
            [sys.executable, "-m", "cvntrade_assets", *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            cwd=ROOT,
            env=self.environment | environment,
            timeout=seconds,
            check=False,
        )

    def graphql(self, query: str, variables: Mapping[str, Any] | None = None) -> Any:
        """What the webserver answers, as the UI asks it."""
        answer = self._http.post("/graphql", json={"query": query, "variables": dict(variables or {})}).json()
        assert "errors" not in answer, answer["errors"]
        return answer["data"]

    def launch(
        self, assets: Iterable[str], crypto: str | None, settings: Mapping[str, str], job: str = "candles_to_report"
    ) -> str:
        """Materialise a selection, of one crypto if it has any, as the UI's button does; returns the run's id."""
        repository = {"repositoryName": REPOSITORY, "repositoryLocationName": LOCATION}
        selection = [{"path": [name]} for name in assets]
        params = {
            "selector": repository | {"jobName": job, "assetSelection": selection},
            "runConfigData": {"resources": {"run_settings": {"config": {"settings": dict(settings)}}}},
            "executionMetadata": {"tags": [{"key": "dagster/partition", "value": crypto}] if crypto else []},
        }
        answer = self.graphql(_LAUNCH, {"params": params})["launchRun"]
        assert answer["__typename"] == "LaunchRunSuccess", answer
        return str(answer["run"]["runId"])

    # Inside

    def sql(self, database: str, query: str, *values: object) -> list[tuple[Any, ...]]:
        """Rows of a query on one of the stack's databases."""
        address = self.addresses.database.url(database).replace("+psycopg2", "")
        with closing(psycopg2.connect(address)) as connection, connection, connection.cursor() as cursor:
            cursor.execute(query, values or None)
            return list(cursor.fetchall()) if cursor.description else []

    def runs(self, crypto: str) -> list[tuple[str, str]]:
        """(id, status) of a crypto's runs, oldest first."""
        query = (
            "select r.run_id, r.status from runs r join run_tags t on t.run_id = r.run_id "
            "where t.key = 'dagster/partition' and t.value = %s order by r.id"
        )
        return self.sql("dagster", query, crypto)

    def story(self, run_ids: Iterable[str]) -> str:
        """How runs stand, and the end of what each said: what waiting for them looks at, and tells when it gives up."""
        query = "select event from event_logs where run_id = %s order by id desc limit %s"
        told = []
        for run_id in run_ids:
            [(status,)] = self.sql("dagster", "select status from runs where run_id = %s", run_id)
            tags = {name: text for name, text in self.tags(run_id).items() if name in RETRY_TAGS}
            told.append(f"run {run_id}: {status} {tags}")
            for (text,) in reversed(self.sql("dagster", query, run_id, STORY_LINES)):
                event = json.loads(text)
                message = event["user_message"] or (event.get("dagster_event") or {}).get("message") or "(no message)"
                told.append(f"    {event['timestamp']:.1f} {event['step_key'] or '-'}: {message[:STORY_WIDTH]}")
        return "\n".join(told)

    def story_of(self, crypto: str) -> str:
        """The story of a crypto's runs, oldest first."""
        return self.story(run for run, _ in self.runs(crypto))

    def wait_for(self, run_id: str, seconds: float = 90.0) -> str:
        """The status that a run ends with."""

        def status() -> str | None:
            [(found,)] = self.sql("dagster", "select status from runs where run_id = %s", run_id)
            return found if found in ENDED else None

        return until(f"run {run_id} has ended", status, seconds, alive=lambda: self.story([run_id]))

    def events(self, run_id: str, kind: str) -> list[dict[str, Any]]:
        """A run's events of one type, oldest first."""
        query = "select event from event_logs where run_id = %s and dagster_event_type = %s order by id"
        return [json.loads(text) for (text,) in self.sql("dagster", query, run_id, kind)]

    def materializations(self, run_id: str) -> list[dict[str, Any]]:
        """A run's materializations: step and asset."""
        query = "select step_key, asset_key from event_logs where run_id = %s and dagster_event_type = %s order by id"
        rows = self.sql("dagster", query, run_id, "ASSET_MATERIALIZATION")
        return [{"step_key": step, "asset": json.loads(asset)[-1]} for step, asset in rows]

    def messages(self, run_id: str, step: str) -> list[str]:
        """What a run's step said in the event log."""
        query = "select event from event_logs where run_id = %s and step_key = %s order by id"
        return [json.loads(text)["user_message"] for (text,) in self.sql("dagster", query, run_id, step)]

    def worker(self, run_id: str) -> int:
        """Process id of a run's worker."""
        texts = json.dumps(self.events(run_id, "ENGINE_EVENT"))
        found = re.search(r"Started process for run \(pid: (\d+)\)", texts)
        assert found, f"run {run_id} has not said its process id"
        return int(found[1])

    def tags(self, run_id: str) -> dict[str, str]:
        """A run's tags."""
        return dict(self.sql("dagster", "select key, value from run_tags where run_id = %s", run_id))

    def store(self) -> ArtifactStore:
        """The artifact store that the runs publish to."""
        return ArtifactStore(self.home / "artifacts", Warehouse(self.addresses.warehouse_url), CODECS)

    def password(self) -> str:
        """The one with which PostgreSQL's superuser logs in."""
        return self.addresses.database.password

    def role_passwords(self) -> dict[str, str]:
        """Those with which the stack's processes log in, by role."""
        return {role: self.addresses.database.password_of(role) for role in PASSWORD_VARIABLES}
