"""The embedded PostgreSQL: starts, survives kill -9, keeps its secret, leaves nothing running."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest
import sqlalchemy as sa

from resources import postgres_binaries, unprivileged
from resources.embedded_postgres import DATABASES, SERVER_SETTINGS, EmbeddedPostgres, PostgresError
from resources.postgres_binaries import PostgresNotFoundError, find_installation


@pytest.fixture(scope="module")
def data_dir() -> Iterator[Path]:
    """One data folder for the module: initdb is what takes time. pytest's own folders are closed to `nobody`."""
    with tempfile.TemporaryDirectory(prefix="cvntrade-postgres-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture
def server(data_dir: Path) -> Iterator[EmbeddedPostgres]:
    with EmbeddedPostgres(data_dir) as running:
        yield running


def query(server: EmbeddedPostgres, sql: str, database: str = "cvntrade") -> list[tuple[object, ...]]:
    engine = sa.create_engine(server.dsn(database), poolclass=sa.NullPool)
    with engine.begin() as connection:
        result = connection.exec_driver_sql(sql)
        return [tuple(row) for row in result] if result.returns_rows else []


def processes_of(data_dir: Path) -> list[str]:
    cluster = (data_dir / "cluster").resolve()
    links = [(entry, entry / "cwd") for entry in Path("/proc").glob("[0-9]*")]
    return [entry.name for entry, link in links if _reads(link) == cluster]


def _reads(link: Path) -> Path | None:
    try:
        return link.readlink()
    except OSError:
        return None


def test_every_database_answers_and_the_settings_are_durable(server: EmbeddedPostgres) -> None:
    for name in DATABASES:
        assert query(server, "SELECT current_database()", name) == [(name,)]
    for name in ("fsync", "synchronous_commit", "max_connections", "listen_addresses"):
        assert query(server, f"SHOW {name}") == [(SERVER_SETTINGS[name],)]
    assert server.dsn("mlflow").startswith("postgresql+psycopg2://cvntrade:")


def test_it_never_runs_as_root(server: EmbeddedPostgres) -> None:
    assert Path(f"/proc/{server.pid}").stat().st_uid != 0


def test_a_committed_row_outlives_kill_9(data_dir: Path) -> None:
    with EmbeddedPostgres(data_dir) as first:
        query(first, "CREATE TABLE IF NOT EXISTS kept (n int)")
        for n in range(5):
            query(first, f"INSERT INTO kept VALUES ({n})")
        os.kill(first.pid, signal.SIGKILL)
    with EmbeddedPostgres(data_dir) as second:
        assert query(second, "SELECT count(*) FROM kept") == [(5,)]
        query(second, "DROP TABLE kept")


def test_a_pid_file_that_names_another_program_is_no_obstacle(data_dir: Path) -> None:
    with EmbeddedPostgres(data_dir):
        pid_file = (data_dir / "cluster" / "postmaster.pid").resolve()
        left_behind = pid_file.read_text().split("\n")
    pid_file.write_text("\n".join([str(os.getppid()), *left_behind[1:]]))
    with EmbeddedPostgres(data_dir) as again:
        assert query(again, "SELECT 1") == [(1,)]


def test_a_wrong_password_is_refused(server: EmbeddedPostgres) -> None:
    with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
        psycopg2.connect(host="127.0.0.1", port=server.port, user="cvntrade", password="guess", dbname="cvntrade")


def test_the_password_is_nowhere_but_in_its_file(server: EmbeddedPostgres, data_dir: Path) -> None:
    with pytest.raises(sa.exc.ProgrammingError):
        query(server, "SELECT * FROM no_such_table")
    running = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert "no_such_table" in server.log_path.read_text()
    assert server.password not in server.log_path.read_text()
    assert server.password not in running
    assert server.password not in repr(server)
    assert (data_dir / "password").read_text() == server.password
    assert (data_dir / "password").stat().st_mode & 0o777 == 0o600


def test_stop_leaves_no_process_and_frees_the_folder(data_dir: Path) -> None:
    server = EmbeddedPostgres(data_dir)
    server.start()
    assert processes_of(data_dir)
    server.stop()
    assert processes_of(data_dir) == []
    with pytest.raises(PostgresError, match="not running"):
        server.dsn()


def test_a_second_server_on_the_same_folder_is_refused(server: EmbeddedPostgres, data_dir: Path) -> None:
    with pytest.raises(PostgresError, match="Another process already runs"):
        EmbeddedPostgres(data_dir).start()
    assert query(server, "SELECT 1") == [(1,)]


def test_a_lost_password_file_is_said(data_dir: Path) -> None:
    password = data_dir / "password"
    kept = password.rename(data_dir / "kept")
    try:
        with pytest.raises(PostgresError, match="its password cannot be read"):
            EmbeddedPostgres(data_dir).start()
    finally:
        kept.rename(password)


def test_a_changed_password_file_is_said(data_dir: Path) -> None:
    password = data_dir / "password"
    original = password.read_text()
    password.write_text("something else")
    try:
        with pytest.raises(PostgresError, match="does not take the password"):
            EmbeddedPostgres(data_dir).start()
    finally:
        password.write_text(original)
    assert processes_of(data_dir) == []


def test_the_server_ends_with_the_process_that_started_it(data_dir: Path) -> None:
    code = (
        "import sys, time, pathlib; from resources.embedded_postgres import EmbeddedPostgres\n"
        "server = EmbeddedPostgres(pathlib.Path(sys.argv[1])); server.start(); print('up', flush=True); time.sleep(60)"
    )
    owner = subprocess.Popen(
        [sys.executable, "-c", code, str(data_dir)],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).resolve().parents[2],
    )
    assert owner.stdout is not None
    assert owner.stdout.readline() == b"up\n"
    owner.kill()
    owner.communicate()
    deadline = time.monotonic() + 10
    while processes_of(data_dir) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert processes_of(data_dir) == []


def test_a_folder_without_the_programs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PostgresNotFoundError, match="has no initdb and no postgres"):
        EmbeddedPostgres(tmp_path / "data", pg_bin=tmp_path).start()


def test_files_of_another_version_name_what_to_install() -> None:
    with pytest.raises(PostgresNotFoundError, match=r"written by PostgreSQL 9, and this machine has \d+ in"):
        find_installation(None, None, major=9)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to hand the server to another account")
def test_as_root_in_a_private_folder_the_wheel_serves_from_outside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`make run` in a clone under /root: neither the data nor the wheel's programs can be entered by `nobody`."""
    state = Path(tempfile.gettempdir()) / f"{tmp_path.name}-state-{os.getpid()}"
    tmp_path.chmod(0o700)
    monkeypatch.setattr(unprivileged, "SYSTEM_STATE", state)
    monkeypatch.setattr(postgres_binaries, "SYSTEM_STATE", state)
    monkeypatch.setattr(postgres_binaries, "INSTALLED", ())
    monkeypatch.setattr(postgres_binaries, "can_enter", lambda folder, account: state in folder.parents)
    try:
        with EmbeddedPostgres(tmp_path / "data") as server:
            assert query(server, "SELECT 1") == [(1,)]
            assert (tmp_path / "data" / "cluster").readlink().is_relative_to(state)
            assert Path(f"/proc/{server.pid}/exe").readlink().is_relative_to(state)
        with EmbeddedPostgres(tmp_path / "data") as again:
            assert query(again, "SELECT 1") == [(1,)]
    finally:
        subprocess.run(["rm", "-rf", state], check=True)
