"""Copies of databases: `pg_dump` out of a server and `pg_restore` into one, by the programs of its own major version.

A copy is taken at a snapshot that stays open meanwhile, so that what is counted there is what the copy holds.
"""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from resources.code_version import connection_name
from resources.postgres_binaries import find_installation
from resources.server_sessions import transaction
from resources.warehouse import WarehouseError


class CopyError(WarehouseError):
    """A database could not be copied out or in; the message says which, and what the program said."""


@dataclass(frozen=True)
class Snapshot:
    """A database as it was at one moment, for as long as the connection is open.

    Attributes:
        database: Its name.
        connection: A transaction that sees that moment.
        name: What another session imports it by.
    """

    database: str
    connection: sa.Connection
    name: str

    def row_counts(self) -> dict[str, int]:
        """Rows of every table, by name."""
        return row_counts(self.connection)


@contextmanager
def snapshot(address: sa.URL, database: str) -> Iterator[Snapshot]:
    """A database at this moment, for as long as it takes to copy it.

    Raises:
        WarehouseError: it cannot be entered, or what is asked of it is refused or not there.
    """
    with transaction(address.set(database=database), "REPEATABLE READ") as connection:
        # It sits still while pg_dump works, and a server may end those that do.
        connection.execute(sa.text("set local idle_in_transaction_session_timeout = 0"))
        name = str(connection.scalar(sa.text("select pg_export_snapshot()")))
        yield Snapshot(database, connection, name)


def row_counts(connection: sa.Connection) -> dict[str, int]:
    """Rows of every table of the schema public, by name."""
    tables = sorted(sa.inspect(connection).get_table_names("public"))
    return {table: int(connection.scalar(sa.text(f'select count(*) from public."{table}"')) or 0) for table in tables}


def objects(connection: sa.Connection) -> dict[str, list[str]]:
    """Names of what makes a schema more than its rows: views, triggers, functions, indexes, constraints."""
    queries = {
        "views": "select viewname::text from pg_views where schemaname = 'public' order by 1",
        "triggers": "select tgrelid::regclass || '.' || tgname || ' ' || tgenabled::text from pg_trigger "
        "where not tgisinternal order by 1",
        "functions": "select proname::text from pg_proc where pronamespace = 'public'::regnamespace order by 1",
        "indexes": "select indexname::text from pg_indexes where schemaname = 'public' order by 1",
        "constraints": "select conrelid::regclass || '.' || conname from pg_constraint "
        "where connamespace = 'public'::regnamespace and contype in ('c', 'f', 'p', 'u') order by 1",
    }
    return {kind: [str(name) for name in connection.scalars(sa.text(query))] for kind, query in queries.items()}


def server_version(connection: sa.Connection) -> int:
    """The server's major version."""
    return int(connection.scalar(sa.text("select current_setting('server_version_num')::int / 10000")) or 0)


def dump(taken: Snapshot, address: sa.URL, file: Path, pg_bin: Path | None) -> None:
    """Write a database, as it was at the snapshot, into a file of pg_dump's custom format.

    Raises:
        CopyError: pg_dump failed.
        PostgresNotFoundError: no programs of the server's version.
    """
    options = ["--format=custom", "--no-owner", "--no-privileges", f"--snapshot={taken.name}", f"--file={file}"]
    _run(address.set(database=taken.database), "pg_dump", options, server_version(taken.connection), pg_bin)


def load(file: Path, address: sa.URL, role: str, version: int, pg_bin: Path | None) -> None:
    """Bring a dump into an empty database, whole or not at all; all of it belongs to the role.

    Raises:
        CopyError: pg_restore failed.
        PostgresNotFoundError: no programs of the server's version.
    """
    options = ["--no-owner", "--no-privileges", "--single-transaction", "--exit-on-error", f"--role={role}", str(file)]
    _run(address, "pg_restore", options, version, pg_bin, name_database=True)


def _run(
    address: sa.URL, program: str, options: list[str], version: int, pg_bin: Path | None, *, name_database: bool = False
) -> None:
    path = find_installation(pg_bin, None, version).bin / program
    if not path.is_file():
        raise CopyError(f"{path.parent} has PostgreSQL {version} without {program}: install the client programs too.")
    # By the environment, where no other user of the machine reads it; an argument would be seen in `ps`.
    environment = {
        "PATH": os.defpath,
        "LC_ALL": "C",
        "PGHOST": address.host or "",
        "PGPORT": str(address.port),
        "PGUSER": address.username or "",
        "PGPASSWORD": str(address.password or ""),
        "PGDATABASE": address.database or "",
        "PGAPPNAME": connection_name(),
        "PGCONNECT_TIMEOUT": "10",
        # As our own sessions take them; what the address itself says comes first.
        **{name: value for name, value in os.environ.items() if name.startswith("PGSSL")},
        **{f"PG{key.upper()}": str(value) for key, value in address.query.items() if key.startswith("ssl")},
    }
    # pg_restore writes to its output unless the database is named.
    named = [f"--dbname={address.database}"] if name_database else []
    answer = subprocess.run(
        [path, *options, *named], capture_output=True, text=True, check=False, env=environment, stdin=subprocess.DEVNULL
    )
    if answer.returncode != 0:
        said = "\n".join(answer.stderr.strip().splitlines()[-5:])
        raise CopyError(
            f"{program} of database {address.database} failed: {said or f'exit code {answer.returncode}'}\n"
            "Nothing of it stays. If tables were being made or changed meanwhile, such as by a server that starts, run "
            "this again."
        )
