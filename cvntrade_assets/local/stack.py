"""Everything on one machine, in one `with` block: PostgreSQL, code server, webserver, daemon, MLflow.

    home/
        dagster.yaml  link to the project's; this folder is DAGSTER_HOME
        postgres/     the database server's files
        artifacts/    what the assets make
        mlflow/       MLflow's files
        server_logs/  one file a server
        stack.json    addresses and process ids while the stack runs

The webserver and the daemon share one code server. Runs are children of the code server and end with the
stack; what was queued or interrupted goes on at the next start.
"""

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Self

import sqlalchemy as sa

from cvntrade_assets.local.addresses import (
    ARTIFACTS_FOLDER,
    COMPUTE_LOGS_FOLDER,
    MLFLOW_FOLDER,
    POSTGRES_FOLDER,
    Addresses,
    Database,
    only_stack_on,
)
from cvntrade_assets.local.dagster_health import DagsterHealth
from cvntrade_assets.local.options import PROJECT, StackOptions
from cvntrade_assets.local.processes import Command, ProcessEndedError, StopRequested, Supervisor
from resources import embedded_postgres
from resources.embedded_postgres import EmbeddedPostgres, PostgresError, free_port
from resources.server_roles import PASSWORD_VARIABLES, close_maintenance_databases, prepare_server

SERVER_LOGS = "server_logs"
READY_SECONDS = 180.0
POLL_SECONDS = 0.15
UI_PORTS_TRIED = 50
WATCH_SECONDS = 0.5


class NotReadyError(RuntimeError):
    """A server runs but does not do its work in time."""


class Stack:
    """A local stack that lives as long as the `with` block; use it from the main thread.

    Entering returns when PostgreSQL takes connections and the servers have been started; `wait_for_ui` and
    `wait_for_daemon` return when they work.

    Args:
        options: where and how.
        base_environment: the environment that the children's is built on.
    """

    def __init__(self, options: StackOptions, base_environment: Mapping[str, str]) -> None:
        self._options = options
        self._base_environment = base_environment
        self._exit = ExitStack()
        self._own_server: EmbeddedPostgres | None = None
        self._began = time.monotonic()
        self._began_at = time.time()
        self.timings: dict[str, float] = {}

    def __enter__(self) -> Self:
        try:
            self._exit.enter_context(only_stack_on(self._options.home))
            self._prepare_home()
            database = self._own_database() if self._options.database is None else self._options.database
            self._mark("postgres")
            self._supervisor = self._exit.enter_context(Supervisor(self._options.home / SERVER_LOGS))
            if self._own_server:
                self._supervisor.watch(self._own_server.pid, signal.SIGINT)
            self.addresses = self._addresses(database)
            self._start_servers()
            self.addresses = self.addresses.publish(self._supervisor.pids)
            self._health = DagsterHealth(self.addresses.ui_url)
            self._exit.callback(self._health.close)
            self._mark("started")
        except BaseException:
            self._exit.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._exit:
            # Runs still report their end to PostgreSQL, and nothing launches another one meanwhile.
            self._supervisor.stop("daemon", "webserver")
            self._supervisor.stop("code-server", "mlflow")
            if self._own_server:
                self._supervisor.forget(self._own_server.pid)

    @property
    def environment(self) -> dict[str, str]:
        """The environment that the stack's processes run in, secrets included."""
        return self.addresses.environment(self._base_environment)

    def check(self) -> None:
        """Raise `ProcessEndedError`, or `PostgresError` for the own PostgreSQL, when a server has ended by itself."""
        if self._own_server:
            self._own_server.check()
        self._supervisor.check()

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Inside, a server that ends by itself interrupts the main thread, whatever it does.

        Needs `stop_on_signals` around it.

        Raises:
            ProcessEndedError: a server ended.
            PostgresError: the own PostgreSQL ended.
        """
        leave = threading.Event()
        faults: list[ProcessEndedError | PostgresError] = []

        def watch() -> None:
            while not leave.wait(WATCH_SECONDS):
                try:
                    self.check()
                except (ProcessEndedError, PostgresError) as fault:
                    faults.append(fault)
                    os.kill(os.getpid(), signal.SIGTERM)
                    return

        watcher = threading.Thread(target=watch, name="stack-watcher", daemon=True)
        watcher.start()
        try:
            yield
        except StopRequested:
            if faults:
                raise faults[0] from None
            raise
        finally:
            leave.set()
            watcher.join()

    def wait_for_ui(self) -> None:
        """Return once the webserver answers and has loaded the definitions without error.

        Raises:
            ProcessEndedError: a server ended.
            LocationError: the definitions do not load.
            NotReadyError: it took too long.
        """
        self._wait("webserver", self._health.answers)
        self._wait("definitions", self._health.location_loaded)

    def wait_for_daemon(self) -> None:
        """Return once every required daemon has sent a heartbeat; needs `wait_for_ui`.

        Raises:
            ProcessEndedError: a server ended.
            DaemonError: a daemon reports an error.
            NotReadyError: it took too long.
        """
        self._wait("daemon", lambda: not self._health.silent_daemons(self._began_at))

    def _wait(self, what: str, ready: Callable[[], bool]) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while not ready():
            self.check()
            if time.monotonic() > deadline:
                raise NotReadyError(
                    f"The {what} is not ready after {READY_SECONDS:.0f} s; see the logs in "
                    f"{self._options.home / SERVER_LOGS}."
                )
            time.sleep(POLL_SECONDS)
        self._mark(what)

    def _mark(self, phase: str) -> None:
        self.timings[phase] = round(time.monotonic() - self._began, 2)

    def _prepare_home(self) -> None:
        for name in (ARTIFACTS_FOLDER, COMPUTE_LOGS_FOLDER, MLFLOW_FOLDER):
            (self._options.home / name).mkdir(exist_ok=True)
        link = self._options.home / "dagster.yaml"
        link.unlink(missing_ok=True)
        link.symlink_to(PROJECT / "dagster.yaml")

    def _own_database(self) -> Database:
        server = EmbeddedPostgres(self._options.home / POSTGRES_FOLDER, self._options.pg_bin)
        self._own_server = self._exit.enter_context(server)
        return database_of(server)

    def _addresses(self, database: Database) -> Addresses:
        return Addresses(
            home=self._options.home,
            database=database,
            ui_port=_next_free_port(self._options.ui_port),
            code_server_port=free_port(),
            mlflow_port=_next_free_port(self._options.mlflow_port),
            pid=os.getpid(),
        )

    def _start_servers(self) -> None:
        port = str(self.addresses.code_server_port)
        dagster = ["-m", "cvntrade_assets.local.launch"]
        workspace = ["-w", str(PROJECT / "workspace.yaml")]
        self._start("code-server", *self._code_server_arguments())
        ui = ["--host", "127.0.0.1", "--port", str(self.addresses.ui_port)]
        self._start("webserver", *dagster, "webserver", port, *ui, *workspace)
        # A PostgreSQL of somebody else's may hold the runs of other stacks.
        daemon = "daemon" if self._own_server else "shared-daemon"
        self._start("daemon", *dagster, daemon, port, "run", *workspace)
        self._start("mlflow", *self._mlflow_arguments(), background=True)

    def _code_server_arguments(self) -> list[str]:
        where = ["--host", "127.0.0.1", "--port", str(self.addresses.code_server_port)]
        what = ["--module-name", self._options.definitions, "--location-name", "cvntrade"]
        return ["-m", "cvntrade_assets.local.launch", "code-server", *where, *what]

    def _mlflow_arguments(self) -> list[str]:
        where = ["--host", "127.0.0.1", "--port", str(self.addresses.mlflow_port), "--workers", "1"]
        return [
            "-m",
            "mlflow",
            "server",
            *where,
            "--artifacts-destination",
            str(self._options.home / MLFLOW_FOLDER),
        ]

    def _start(self, name: str, *arguments: str, background: bool = False) -> None:
        environment = self.environment | {"PYTHONUNBUFFERED": "1", "DAGSTER_GRPC_SHUTDOWN_GRACE_PERIOD": "0"}
        if name == "mlflow":
            # Of ours it needs nothing, and gets no secret but its own.
            environment = {key: text for key, text in environment.items() if not key.startswith("CVN_")}
            environment |= {
                # Its address holds the password, so it does not stand among the arguments.
                "MLFLOW_BACKEND_STORE_URI": self.addresses.mlflow_store_url,
                "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            }
        arguments = (sys.executable, *arguments)
        # MLflow keeps nothing in memory, and takes seconds to end when asked politely.
        stop_signal = signal.SIGKILL if background else signal.SIGTERM
        self._supervisor.start(Command(name, arguments, environment, PROJECT, background, stop_signal))


def database_of(server: EmbeddedPostgres) -> Database:
    """An own server as the stack uses it: with its roles, their databases, and nobody else let in.

    Whatever a home of before the roles holds is given to them.
    """
    database = Database(embedded_postgres.HOST, server.port, embedded_postgres.USER, server.password, has_roles=True)
    address = sa.make_url(database.url("postgres"))
    prepare_server(address, {role: database.password_of(role) for role in PASSWORD_VARIABLES})
    close_maintenance_databases(address)
    return database


def _next_free_port(wanted: int) -> int:
    """`wanted`, or the first port after it that nobody listens on.

    Raises:
        NotReadyError: none of the next ones is free.
    """
    for port in range(wanted, min(wanted + UI_PORTS_TRIED, 65536)):
        with socket.socket() as listener:
            # As the webserver does: a port whose last connections are still closing counts as free.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise NotReadyError(f"No port from {wanted} to {wanted + UI_PORTS_TRIED - 1} is free; set CVN_UI_PORT.")
