"""Where everything of a running stack is reached, and the file that tells other terminals.

`stack.json` in the home folder holds addresses and process ids and no secret. It is believed only while the
process that wrote it holds the lock beside it, so one left behind by kill -9 misleads nobody.
"""

import fcntl
import hmac
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import sqlalchemy as sa

from resources.server_roles import APP_ROLE, DAGSTER_ROLE, MLFLOW_ROLE, WAREHOUSE_DATABASE

# Folders of a home.
POSTGRES_FOLDER, ARTIFACTS_FOLDER = "postgres", "artifacts"
MLFLOW_FOLDER, COMPUTE_LOGS_FOLDER = "mlflow", "compute_logs"
STACK_FILE = "stack.json"
LOCK_FILE = "stack.lock"
STOPPED_FILE = "stack.stopped"


class AlreadyRunningError(ValueError):
    """Another stack runs on this home folder; the message says which."""


@dataclass(frozen=True)
class Database:
    """A PostgreSQL server that holds the databases `dagster`, `mlflow` and `cvntrade`.

    Attributes:
        host: Where it is.
        port: Where it listens.
        user: Who administers it: the superuser of a server of our own, else the one user that somebody gave us.
        password: The administrator's.
        has_roles: Whether every process has a role of its own (`resources.server_roles`), as on a server of our own.
    """

    host: str
    port: int
    user: str
    password: str = field(repr=False)
    has_roles: bool = False

    def url(self, name: str) -> str:
        """The administrator's SQLAlchemy address of one database, password included; for no process but `cvntrade`."""
        return self._url(self.user, self.password, name)

    def url_as(self, role: str, name: str) -> str:
        """A role's SQLAlchemy address of one database, password included; the administrator's without roles."""
        return self._url(self.user_of(role), self.password_of(role), name)

    def user_of(self, role: str) -> str:
        """As whom a role logs in."""
        return role if self.has_roles else self.user

    def password_of(self, role: str) -> str:
        """A role's password: derived from the administrator's, so that one file holds every secret of a server."""
        if not self.has_roles:
            return self.password
        return hmac.new(self.password.encode(), f"cvntrade role {role}".encode(), "sha256").hexdigest()

    def _url(self, user: str, password: str, name: str) -> str:
        url = sa.URL.create("postgresql+psycopg2", user, password, self.host, self.port, name)
        return url.render_as_string(hide_password=False)


@dataclass(frozen=True)
class Addresses:
    """One stack: its folder, its database, and the local ports of its servers."""

    home: Path
    database: Database
    ui_port: int
    code_server_port: int
    mlflow_port: int
    pid: int
    pids: Mapping[str, int] = field(default_factory=dict)

    @property
    def ui_url(self) -> str:
        """The Dagster UI."""
        return f"http://127.0.0.1:{self.ui_port}"

    @property
    def mlflow_url(self) -> str:
        """The MLflow UI and tracking server."""
        return f"http://127.0.0.1:{self.mlflow_port}"

    @property
    def warehouse_url(self) -> str:
        """The operations schema's SQLAlchemy address, password included."""
        return self.database.url_as(APP_ROLE, WAREHOUSE_DATABASE)

    @property
    def mlflow_store_url(self) -> str:
        """The SQLAlchemy address of MLflow's store, password included."""
        return self.database.url_as(MLFLOW_ROLE, "mlflow")

    def environment(self, base: Mapping[str, str]) -> dict[str, str]:
        """`base` and every variable that the stack's processes, dagster.yaml and workspace.yaml read."""
        defaults = {"CVN_MAX_CONCURRENT_RUNS": "2", "CVN_ARTIFACTS": str(self.home / ARTIFACTS_FOLDER)}
        return {
            **defaults,
            **base,
            "DAGSTER_HOME": str(self.home),
            "CVN_HOME": str(self.home),
            "CVN_RUNS_IN": "processes",
            "CVN_COMPUTE_LOGS": str(self.home / COMPUTE_LOGS_FOLDER),
            "CVN_PG_HOST": self.database.host,
            "CVN_PG_PORT": str(self.database.port),
            "CVN_PG_USER": self.database.user_of(DAGSTER_ROLE),
            "CVN_PG_PASSWORD": self.database.password_of(DAGSTER_ROLE),
            "CVN_WAREHOUSE_URL": self.warehouse_url,
            "CVN_CODE_SERVER_HOST": "127.0.0.1",
            "CVN_CODE_SERVER_PORT": str(self.code_server_port),
            "CVN_UI_URL": self.ui_url,
            "CVN_MLFLOW_URL": self.mlflow_url,
        }

    def publish(self, pids: Mapping[str, int]) -> Self:
        """Write `stack.json`, whole or not at all."""
        published = replace(self, pids=dict(pids))
        content: dict[str, Any] = asdict(published)
        content["home"] = str(self.home)
        del content["database"]["password"]
        content["urls"] = {"dagster": self.ui_url, "mlflow": self.mlflow_url}
        partial = self.home / f"{STACK_FILE}.partial"
        partial.write_text(json.dumps(content, indent=2) + "\n")
        partial.replace(self.home / STACK_FILE)
        return published


def read_addresses(home: Path, environment: Mapping[str, str]) -> Addresses | None:
    """The stack that runs on `home` now, or None.

    The administrator's password comes from CVN_PG_PASSWORD or, for the stack's own server, from its file (readable by
    its owner only).
    """
    content = _running(home)
    if content is None:
        return None
    given = None if content["database"]["has_roles"] else environment.get("CVN_PG_PASSWORD")
    password = given or (home / POSTGRES_FOLDER / "password").read_text().strip()
    del content["urls"]
    content["database"] = Database(**content["database"], password=password)
    content["home"] = Path(content["home"])
    return Addresses(**content)


def has_held_stack(home: Path) -> bool:
    """Whether a stack ever ran on `home`, or tried to: its lock stays when it ends, however it does."""
    return (home / LOCK_FILE).exists()


def note_stop(home: Path) -> None:
    """Say that the stack on `home` was stopped on purpose, for as long as none runs there."""
    (home / STOPPED_FILE).touch()


def was_stopped(home: Path) -> bool:
    """Whether the last stack on `home` was stopped on purpose, rather than ended by a fault or killed."""
    return (home / STOPPED_FILE).exists()


def is_held(home: Path) -> bool:
    """Whether a stack starts, runs or stops on `home` now."""
    try:
        with (home / LOCK_FILE).open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


@contextmanager
def only_stack_on(home: Path) -> Iterator[None]:
    """Hold `home` for this process; `stack.json` is gone before and after.

    Raises:
        AlreadyRunningError: another process holds it.
    """
    home.mkdir(parents=True, exist_ok=True)
    with (home / LOCK_FILE).open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlreadyRunningError(_who_runs(home)) from None
        for left in (STACK_FILE, STOPPED_FILE):
            (home / left).unlink(missing_ok=True)
        try:
            yield
        finally:
            (home / STACK_FILE).unlink(missing_ok=True)


def _running(home: Path) -> dict[str, Any] | None:
    """The content of `stack.json` while its writer lives."""
    if not is_held(home):
        return None
    try:
        content: dict[str, Any] = json.loads((home / STACK_FILE).read_text())
    except FileNotFoundError:
        # The stack is still starting, or already stopping.
        return None
    return content


def _who_runs(home: Path) -> str:
    content = _running(home)
    if content is None:
        return (
            f"Another `cvntrade up` is starting or stopping on {home}: wait for it, or choose another folder "
            "with CVN_HOME."
        )
    return (
        f"CVNTrade already runs on {home}: {content['urls']['dagster']} (process {content['pid']}). Use it, "
        f"stop it with Ctrl-C in its terminal or `kill {content['pid']}`, or set CVN_HOME to another folder."
    )
