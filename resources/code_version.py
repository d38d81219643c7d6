"""Which code a process runs: the package's version and a digest of the source files that it was started from.

Every connection of ours to PostgreSQL carries it as application_name, so that `pg_stat_activity` tells which code each
living process runs, on one machine as on a cluster.
"""

import hashlib
import multiprocessing
import os
import platform
import re
import sys
import threading
import time
from collections.abc import Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlalchemy as sa

PACKAGES = ("cvntrade_assets", "asset_checks", "resources")
EDITED = "edited"
"""Stands for the digest of a process whose source files were edited after it had loaded them."""

RUN, COMMAND = "run", "command"
# PostgreSQL keeps this many bytes of an application_name.
NAME_BYTES = 63
POLL_SECONDS = 10.0

_ROOT = Path(__file__).resolve().parents[1]
_LOADED_AT = time.time()
_PROGRAMS = {
    "dagster-webserver": "webserver",
    "dagster-daemon": "daemon",
    "cvntrade": COMMAND,
}
_NAME = re.compile(r"cvntrade (?P<role>\S+) (?P<code>\S+) (?P<pid>\d+)@(?P<host>.*)", re.DOTALL)


@cache
def code_version() -> str:
    """`<package version>+<digest of the source files>` of the code that this process runs.

    Computed when it is first asked for. Files that were edited after this process had loaded them tell nothing about
    what it runs: then `edited` stands in place of the digest, which no installed code ever has.
    """
    files = source_files(_ROOT)
    is_edited = any(file.stat().st_ctime > _LOADED_AT for file in files)
    return f"{version('cvntrade-assets')}+{EDITED if is_edited else source_digest(_ROOT, files)}"


def source_files(root: Path) -> list[Path]:
    """The Python files of our packages below `root`, in a fixed order."""
    return sorted(file for package in PACKAGES for file in (root / package).rglob("*.py"))


def source_digest(root: Path, files: Sequence[Path]) -> str:
    """Eight hexadecimal digits over names and contents."""
    digest = hashlib.sha256()
    for file in files:
        content = file.read_bytes()
        digest.update(f"{file.relative_to(root).as_posix()} {len(content)}\n".encode() + content)
    return digest.hexdigest()[:8]


def process_role(arguments: Sequence[str], *, is_spawned: bool) -> str:
    """What a process is, from its command line: webserver, daemon, code-server, run, command, else its program's name.

    Args:
        arguments: `sys.argv`.
        is_spawned: The process was spawned by another Python process, whose arguments it then has. The one that talks
            to PostgreSQL is a run's worker: the code server spawns it.
    """
    if is_spawned:
        return RUN
    program = Path(arguments[0]) if arguments else Path("python")
    name = program.parent.name if program.name == "__main__.py" else program.stem
    if name == "dagster" and arguments[1:2] == ["api"]:
        return {"grpc": "code-server", "execute_run": RUN}.get(" ".join(arguments[2:3]), COMMAND)
    return _PROGRAMS.get(name.replace("cvntrade_assets", "cvntrade"), name.replace(" ", "-") or "python")


def own_role() -> str:
    """What this process is."""
    return process_role(sys.argv, is_spawned=multiprocessing.parent_process() is not None)


def is_run_worker() -> bool:
    """Whether this process executes a run."""
    return own_role() == RUN


def connection_name() -> str:
    """The application_name of this process's connections: `cvntrade <role> <code version> <pid>@<host>`."""
    role = own_role()
    name = f"cvntrade {role} {code_version()} {os.getpid()}@{platform.node()}"
    return name.encode("ascii", "replace").decode()[:NAME_BYTES]


def read_connection_name(name: str) -> tuple[str, str, int, str] | None:
    """Role, code version, process id and host (the beginning of it, when it is long); None for others' connections."""
    found = _NAME.fullmatch(name)
    return None if found is None else (found["role"], found["code"], int(found["pid"]), found["host"])


def stay_visible(address: str) -> None:
    """Keep one idle connection open from now on, so that `pg_stat_activity` shows this process for as long as it lives.

    Args:
        address: SQLAlchemy address of any database of the server.
    """
    import sqlalchemy as sa

    named = {"application_name": connection_name(), "connect_timeout": 10}
    engine = sa.create_engine(address, isolation_level="AUTOCOMMIT", connect_args=named)
    threading.Thread(target=_stay, args=(engine,), name="visible", daemon=True).start()


def _stay(engine: "sa.Engine") -> None:
    import sqlalchemy as sa

    while True:
        try:
            with engine.connect() as connection:
                while True:
                    connection.execute(sa.text("select 1"))
                    time.sleep(POLL_SECONDS)
        except sa.exc.OperationalError:
            # PostgreSQL restarts, or is not there yet.
            time.sleep(POLL_SECONDS)
