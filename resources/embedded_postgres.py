"""An own PostgreSQL server in a data folder, for a laptop and for tests.

    data_dir/cluster        the server's files; a link when the server's account cannot enter `data_dir`
    data_dir/password       0600, the password of the only user
    data_dir/postgres.log   what the server says
    data_dir/lock           held by the process that runs the server

The server is a direct child and durable (fsync and synchronous commit stay on): after kill -9 the next start
recovers. As root it runs as the account of `unprivileged.py`.
"""

import fcntl
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final, Self

import psycopg2  # type: ignore[import-untyped]

from resources.orphans import end_with_parent
from resources.postgres_binaries import find_installation
from resources.unprivileged import can_enter, new_system_folder, server_account

USER: Final = "cvntrade"
DATABASES: Final = ("dagster", "mlflow", "cvntrade")
HOST: Final = "127.0.0.1"

# Loopback only, no socket file: the path of a socket in a deep folder exceeds the system's 107 characters.
SERVER_SETTINGS: Final[Mapping[str, str]] = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    "max_connections": "200",
    "shared_buffers": "128MB",
    "fsync": "on",
    "synchronous_commit": "on",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    # Parallel queries need /dev/shm, which a container may cap at 64 MB; ours are small.
    "max_parallel_workers_per_gather": "0",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "lc_messages": "C",
    # A statement that failed holds its values, and so does the detail of the error: neither stands in the log.
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
}
START_SECONDS: Final = 60.0
STOP_SECONDS: Final = 30.0
POLL_SECONDS: Final = 0.02
LOG_BYTES: Final = 20_000_000


class PostgresError(ValueError):
    """The embedded PostgreSQL cannot do what was asked; the message says why and what to do."""


class EmbeddedPostgres:
    """One PostgreSQL server that lives as long as the `with` block (or from `start` to `stop`).

    Start it from the main thread: on Linux the server shuts down when the thread that started it ends.

    Args:
        data_dir: where its files live; made when absent, reused when there.
        pg_bin: folder with `initdb` and `postgres`; None looks for an installed server, then for the wheel.
    """

    def __init__(self, data_dir: Path, pg_bin: Path | None = None) -> None:
        self._data_dir = data_dir.absolute()
        self._pg_bin = pg_bin
        self._account = server_account()
        self._uid = self._account.uid if self._account else None
        self._gid = self._account.gid if self._account else None
        self._process: subprocess.Popen[bytes] | None = None
        self._lock: IO[bytes] | None = None
        self._port = 0
        self._password = ""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def log_path(self) -> Path:
        """The file that holds what the server says."""
        return self._data_dir / "postgres.log"

    @property
    def password(self) -> str:
        """The password of user `cvntrade`."""
        return self._password

    @property
    def port(self) -> int:
        """The server's port on 127.0.0.1; a new one at every start."""
        return self._port

    @property
    def pid(self) -> int:
        """The server's process id.

        Raises:
            PostgresError: the server is not running.
        """
        return self._running().pid

    def dsn(self, database: str = "cvntrade") -> str:
        """The SQLAlchemy address of `database`, password included: pass it on, never print it."""
        self._running()
        return f"postgresql+psycopg2://{USER}:{self._password}@{HOST}:{self._port}/{database}"

    def start(self) -> None:
        """Bring the server up, with every database of `DATABASES` in it.

        Raises:
            PostgresError: the folder is in use, not ours, or the server does not come up.
            PostgresNotFoundError: no programs that fit.
        """
        self._data_dir.mkdir(parents=True, exist_ok=True)
        self._lock = _hold(self._data_dir / "lock")
        try:
            cluster = self._cluster()
            _settle_previous_server(cluster)
            self._launch(cluster)
            self._create_databases()
        except BaseException:
            self.stop()
            raise

    def check(self) -> None:
        """Raise `PostgresError` when the server has ended by itself."""
        code = self._running().poll()
        if code is not None:
            how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
            raise PostgresError(
                f"PostgreSQL ended by itself ({how}); nothing that was published is lost. Start again: what was "
                f"interrupted goes on. The end of {self.log_path}:\n"
                f"{_last_lines(self.log_path.read_text(errors='replace'))}"
            )

    def stop(self) -> None:
        """Shut the server down and wait for it: fast first, then immediately, then by force."""
        if self._process:
            for number, patience in (
                (signal.SIGINT, STOP_SECONDS),
                (signal.SIGQUIT, 5.0),
                (signal.SIGKILL, 5.0),
            ):
                self._process.send_signal(number)
                if _ended(self._process, patience):
                    break
            self._process = None
        if self._lock:
            self._lock.close()
            self._lock = None

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise PostgresError(f"The PostgreSQL in {self._data_dir} is not running: call start() first.")
        return self._process

    # The cluster

    def _cluster(self) -> Path:
        """The server's own folder, made when it is not there yet; sets `_password` and `_programs` too."""
        link = self._data_dir / "cluster"
        if link.is_symlink() and not link.exists():
            raise PostgresError(
                f"{link} points at {link.readlink()}, which is gone, and its data with it: "
                f"remove {self._data_dir} to begin with an empty server."
            )
        if not link.exists():
            self._make_cluster(link)
        cluster = link.resolve()
        self._check_owner(cluster)
        self._password = _read_password(self._data_dir / "password")
        major = int((cluster / "PG_VERSION").read_text().strip())
        self._programs = find_installation(self._pg_bin, self._account, major).bin
        return cluster

    def _make_cluster(self, link: Path) -> None:
        """Fill a folder beside the final one and rename it: a killed `initdb` leaves nothing behind."""
        programs = find_installation(self._pg_bin, self._account).bin
        outside = self._account is not None and not can_enter(self._data_dir, self._account)
        parent = new_system_folder("postgres") if outside else self._data_dir
        partial = parent / "cluster.partial"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(mode=0o700)
        if self._account:
            os.chown(partial, self._account.uid, self._account.gid)
        password = _new_password(self._data_dir / "password")
        self._initdb(programs, partial, password)
        partial.rename(parent / "cluster")
        if outside:
            link.symlink_to(parent / "cluster")

    def _initdb(self, programs: Path, folder: Path, password: str) -> None:
        reader, writer = os.pipe()
        try:
            if self._account:
                # Without this the account may not open the pipe by its /dev/fd name.
                os.fchown(reader, self._account.uid, self._account.gid)
            os.write(writer, f"{password}\n".encode())
            os.close(writer)
            options = [f"--pgdata={folder}", f"--username={USER}", f"--pwfile=/dev/fd/{reader}"]
            options += ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C"]
            answer = subprocess.run(
                [programs / "initdb", *options],
                pass_fds=[reader],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
                cwd="/",
                env=_server_environment(),
                user=self._uid,
                group=self._gid,
                extra_groups=[] if self._account else None,
            )
        finally:
            os.close(reader)
        if answer.returncode != 0:
            raise PostgresError(f"initdb could not fill {folder}:\n{_last_lines(answer.stdout)}")

    def _check_owner(self, cluster: Path) -> None:
        expected = self._account.uid if self._account else os.geteuid()
        owner = cluster.stat().st_uid
        if owner != expected:
            raise PostgresError(
                f"{cluster} belongs to user id {owner}, and PostgreSQL would run as user id {expected}: run "
                f"this command as the user who made it, or remove {self._data_dir} to begin anew."
            )
        if self._account and not can_enter(cluster, self._account):
            raise PostgresError(
                f"PostgreSQL runs as {self._account.name!r}, who can no longer enter {cluster}: let it pass "
                f"(chmod o+x on the folders above), or remove {self._data_dir} to begin with an empty server."
            )

    # The process

    def _launch(self, cluster: Path) -> None:
        """Start the server; a port lost to another process, or memory not yet released, is tried again."""
        deadline = time.monotonic() + START_SECONDS
        if self.log_path.exists() and self.log_path.stat().st_size > LOG_BYTES:
            self.log_path.replace(self.log_path.with_suffix(".log.1"))
        while True:
            self._port = free_port()
            said_before = self.log_path.stat().st_size if self.log_path.exists() else 0
            self._process = self._spawn(cluster)
            if self._ready(deadline):
                return
            said = self.log_path.read_bytes()[said_before:].decode(errors="replace")
            passing = re.search("could not bind|could not create any TCP|still in use", said)
            if not passing or time.monotonic() > deadline:
                raise PostgresError(f"PostgreSQL did not start on {cluster}. It said:\n{_last_lines(said)}")
            time.sleep(0.1)

    def _spawn(self, cluster: Path) -> subprocess.Popen[bytes]:
        settings = {**SERVER_SETTINGS, "port": str(self._port)}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        descriptor = os.open(self.log_path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            return subprocess.Popen(
                [self._programs / "postgres", "-D", cluster, *options],
                stdin=subprocess.DEVNULL,
                stdout=descriptor,
                stderr=descriptor,
                cwd="/",
                env=_server_environment(),
                start_new_session=True,
                preexec_fn=end_with_parent(signal.SIGINT),  # noqa: PLW1509 - one call into libc
                user=self._uid,
                group=self._gid,
                extra_groups=[] if self._account else None,
            )
        finally:
            os.close(descriptor)

    def _ready(self, deadline: float) -> bool:
        """Wait until a real connection works; False when the process ended instead."""
        process = self._running()
        while process.poll() is None:
            try:
                self._connect("postgres").close()
            except psycopg2.OperationalError as error:
                if "authentication failed" in str(error):
                    raise PostgresError(
                        f"The server in {self._data_dir} does not take the password kept there in "
                        "`password`: put the original file back, or remove the folder to begin anew."
                    ) from None
                if time.monotonic() > deadline:
                    raise PostgresError(
                        f"PostgreSQL took no connection within {START_SECONDS:.0f} s: {error}See {self.log_path}."
                    ) from None
                time.sleep(POLL_SECONDS)
            else:
                return True
        return False

    def _connect(self, database: str) -> Any:
        return psycopg2.connect(
            host=HOST, port=self._port, user=USER, password=self._password, dbname=database, connect_timeout=5
        )

    def _create_databases(self) -> None:
        with closing(self._connect("postgres")) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute("SELECT datname FROM pg_database")
                present = {name for (name,) in cursor.fetchall()}
                for name in DATABASES:
                    if name not in present:
                        cursor.execute(f'CREATE DATABASE "{name}"')


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on at this moment."""
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        port: int = listener.getsockname()[1]
        return port


def _hold(path: Path) -> IO[bytes]:
    """An open, locked file; the system unlocks it when this process ends, however it ends."""
    try:
        file = path.open("ab")
    except PermissionError:
        raise PostgresError(
            f"{path.parent} belongs to another user: run this command as that user, or use another folder."
        ) from None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise PostgresError(
            f"Another process already runs the PostgreSQL in {path.parent}: end it, or use another folder."
        ) from None
    return file


def _new_password(path: Path) -> str:
    password = secrets.token_hex(24)
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(password)
        file.flush()
        os.fsync(file.fileno())
    return password


def _read_password(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError as error:
        raise PostgresError(
            f"The server's files are in {path.parent}, but its password cannot be read ({error.strerror}: "
            f"{path}): put the file back, or remove the folder to begin with an empty server."
        ) from None


def _settle_previous_server(cluster: Path) -> None:
    """End what a killed owner left running on these files, and drop its pid file.

    Only this process holds the folder's lock, so whatever still works in the cluster is an orphan.
    PostgreSQL's own check goes by process id alone, and refuses to start when the id now belongs to some
    other program.
    """
    pid_file = cluster / "postmaster.pid"
    if not pid_file.exists() or not Path("/proc/self/cwd").exists():
        return
    postmaster = int(pid_file.read_text().split("\n", 1)[0])
    deadline = time.monotonic() + STOP_SECONDS
    told = False
    while orphans := list(_processes_in(cluster)):
        if time.monotonic() > deadline:
            raise PostgresError(f"An earlier PostgreSQL still works in {cluster} (processes {orphans}): end it first.")
        if postmaster in orphans and not told:
            os.kill(postmaster, signal.SIGINT)
            told = True
        time.sleep(POLL_SECONDS)
    pid_file.unlink(missing_ok=True)


def _processes_in(folder: Path) -> Iterator[int]:
    """Ids of the processes whose working folder is `folder`, as every process of a PostgreSQL server's is."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            here = (entry / "cwd").readlink() == folder
        except OSError:
            # Ended meanwhile, or another user's: not a server of ours.
            continue
        if here:
            yield int(entry.name)


def _server_environment() -> dict[str, str]:
    """Nothing of ours reaches the server: no secret, no locale, no PG* variable."""
    return {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}


def _ended(process: subprocess.Popen[bytes], seconds: float) -> bool:
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def _last_lines(text: str) -> str:
    return "\n".join(text.strip().splitlines()[-12:]) or "(nothing)"
