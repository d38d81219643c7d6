"""Brings a backup into an empty server, whole or not at all.

The databases are filled under names of their own beside the real ones, counted, and only then take their places, all
at once; files are in place before the rows that name them. Roles and grants are those that this code declares: a backup
holds none. They are completed when all is in its place; when that fails, what was restored stays, and the error says
what to do.
"""

import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import sqlalchemy as sa

from resources.backups import (
    DATABASES,
    IN_A_FOLDER,
    MLFLOW_VARIABLE,
    Backup,
    BackupError,
    Files,
    artifacts_in,
    copy_tree,
    mlflow_files_in,
    read_backup,
)
from resources.migrating import revisions, upgrade
from resources.postgres_copies import load, objects, row_counts, server_version
from resources.roles import ensure_read_only_role
from resources.server_roles import OWNERS, WAREHOUSE_DATABASE, prepare_server
from resources.server_sessions import MAINTENANCE, session
from resources.tables import ARTIFACT_VERSIONS
from resources.warehouse import Warehouse, WarehouseError

# What a database is called while it is filled, and what the empty one that it replaces is called until that is dropped.
_FILLING, _REPLACED = "_restoring", "_replaced"
_KNOWN = sa.text("select datname::text from pg_database")


def restore_backup(
    folder: Path,
    address: sa.URL,
    files: Files,
    passwords: Mapping[str, str] | None = None,
    pg_bin: Path | None = None,
    reader_password: str | None = None,
) -> Backup:
    """Have an empty server hold what a backup holds; returns what that is.

    Args:
        folder: The backup.
        address: Of any database of the server, as its administrator.
        files: Where artifacts and MLflow's files go; nothing may be there. To an address nothing is copied.
        passwords: Role to password, as for `prepare_server`.
        pg_bin: Folder with PostgreSQL's programs; None looks for those of the server's version.
        reader_password: That of `grafana_ro`.

    Raises:
        BackupError: the backup is not what was written, nothing says where its files go, the server or the folders
            are not empty, or what was restored is not what the backup says: nothing of it stays. Or roles and rights
            could not be completed afterwards: all of it stays, and the message says what completes it.
        WarehouseError: PostgreSQL refuses before everything is in its place; nothing of it stays.
    """
    # The server's own: on an empty server there is no other, and nobody renames the database that he is in.
    address = address.set(database=MAINTENANCE)
    backup = read_backup(folder)
    if backup.revision not in revisions():
        raise BackupError(
            f"{folder} holds the operations schema at migration {backup.revision}, which this code does not know: "
            f"restore it with code {backup.code}, or newer."
        )
    moves = _moves(folder, backup, files)
    _require_empty(address, backup, moves)
    prepare_server(address, passwords)
    with _filled(folder, backup, address, files, pg_bin), _placed_files(moves):
        _swap(address)
    _complete(address, backup, passwords, reader_password)
    return backup


def _moves(folder: Path, backup: Backup, files: Files) -> list[tuple[Path, Path]]:
    """Folders of the backup, each with the folder that it becomes.

    Raises:
        BackupError: nothing says where some go.
    """
    moves = []
    if backup.artifacts_copied:
        if files.artifacts_folder is None:
            raise BackupError(
                f"{folder} holds artifacts, and CVN_ARTIFACTS is {files.artifacts}: name the folder where they go. "
                "Nothing was changed."
            )
        moves.append((artifacts_in(folder), files.artifacts_folder))
    if backup.mlflow_files and files.mlflow is None:
        raise BackupError(
            f"{folder} holds {backup.mlflow_files} files of MLflow's server, and nothing says where they go. Set "
            f"{MLFLOW_VARIABLE} to where that server will keep them: a folder is filled; to an address, such as "
            f"s3://bucket/mlflow, you copy them yourself, from {mlflow_files_in(folder)}. Nothing was changed."
        )
    if files.mlflow_folder is not None:
        moves.append((mlflow_files_in(folder), files.mlflow_folder))
    return moves


def _require_empty(address: sa.URL, backup: Backup, moves: Sequence[tuple[Path, Path]]) -> None:
    with session(address) as connection:
        present = set(connection.scalars(_KNOWN))
        version = server_version(connection)
    if version < backup.postgres:
        raise BackupError(
            f"the backup is of PostgreSQL {backup.postgres}, and this server is {version}: use a newer one."
        )
    for name in (name for name in OWNERS if name in present):
        _require_no_tables(address, name)
    for _, target in moves:
        if target.exists() and any(target.iterdir()):
            raise BackupError(f"{target} is not empty: restore into a new folder. Nothing was changed.")


def _require_no_tables(address: sa.URL, database: str) -> None:
    with session(address.set(database=database)) as connection:
        tables = sa.inspect(connection).get_table_names("public")
    if tables:
        raise BackupError(
            f"database {database} at {address.host}:{address.port} is not empty: it has {len(tables)} tables, such as "
            f"{tables[0]}. A backup is restored into an empty server only; nothing was changed."
        )


@contextmanager
def _filled(folder: Path, backup: Backup, address: sa.URL, files: Files, pg_bin: Path | None) -> Iterator[None]:
    """The databases under their other names, each compared with the backup; gone when the work fails."""
    try:
        with session(address) as connection:
            _drop_unfinished(connection)
            version = server_version(connection)
            for name in DATABASES:
                connection.execute(sa.text(f"create database {name}{_FILLING} owner {OWNERS[name]}"))
        for name in DATABASES:
            place = address.set(database=f"{name}{_FILLING}")
            with session(place) as connection:
                connection.execute(sa.text(f"alter schema public owner to {OWNERS[name]}"))
            load(folder / backup.databases[name].file, place, OWNERS[name], version, pg_bin)
            with session(place) as connection:
                _compare(name, backup, connection)
                if name == WAREHOUSE_DATABASE and backup.artifacts_copied:
                    _move_artifacts(connection, Path(files.artifacts).absolute())
        yield
    except BaseException:
        with session(address) as connection:
            _drop_unfinished(connection)
        raise


def _drop_unfinished(connection: sa.Connection) -> None:
    for name in DATABASES:
        for suffix in (_FILLING, _REPLACED):
            connection.execute(sa.text(f"drop database if exists {name}{suffix}"))


def _compare(name: str, backup: Backup, connection: sa.Connection) -> None:
    expected, rows, names = backup.databases[name], row_counts(connection), objects(connection)
    wrong = [
        f"{table} has {rows.get(table, 'no')} rows and not {expected.rows.get(table, 'any')}"
        for table in sorted({*rows, *expected.rows})
        if rows.get(table) != expected.rows.get(table)
    ]
    wrong += [
        f"{kind} differ: {', '.join(sorted(set(names[kind]) ^ set(expected.objects.get(kind, []))))}"
        for kind in names
        if sorted(names[kind]) != sorted(expected.objects.get(kind, []))
    ]
    if wrong:
        raise BackupError(f"database {name} was not restored as it was: {'; '.join(wrong)}. Nothing of it stays.")


def _move_artifacts(connection: sa.Connection, root: Path) -> None:
    """Have rows name the folders where their files go."""
    table = ARTIFACT_VERSIONS
    location = sa.literal(f"{root}/").concat(sa.func.concat_ws("/", table.c.asset, table.c.crypto, table.c.version))
    connection.execute(sa.update(table).where(IN_A_FOLDER).values(location=location))


@contextmanager
def _placed_files(moves: Sequence[tuple[Path, Path]]) -> Iterator[None]:
    """Files where they belong; gone again when the work fails."""
    placed: list[Path] = []
    try:
        for source, target in moves:
            _place(source, target)
            placed.append(target)
        yield
    except BaseException:
        for target in placed:
            shutil.rmtree(target, ignore_errors=True)
        raise


def _place(source: Path, target: Path) -> None:
    partial = target.with_name(f".{target.name}.partial-{uuid.uuid4().hex[:8]}")
    try:
        partial.mkdir(parents=True)
        if source.is_dir():
            copy_tree(source, partial)
        if target.exists():
            target.rmdir()
        partial.rename(target)
    except OSError as error:
        what = f"{error.strerror} ({error.filename})" if error.strerror else str(error)[:500]
        raise BackupError(f"{target} could not be filled: {what}. Nothing of it stays.") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _swap(address: sa.URL) -> None:
    """The filled databases take the places of the empty ones: all of them, or none when one is in use."""
    renamed = [(name, f"{name}{_REPLACED}") for name in DATABASES]
    renamed += [(f"{name}{_FILLING}", name) for name in DATABASES]
    for name in DATABASES:
        # Somebody may have worked there since we looked: it was not ours alone.
        _require_no_tables(address, name)
    with session(address) as connection:
        # Statements that are sent together are one transaction.
        connection.exec_driver_sql("; ".join(f"alter database {old} rename to {new}" for old, new in renamed))


def _complete(
    address: sa.URL, backup: Backup, passwords: Mapping[str, str] | None, reader_password: str | None
) -> None:
    """Drop what was replaced, and give roles and rights to what took its place.

    Raises:
        BackupError: that failed; everything else is there.
    """
    try:
        with session(address) as connection:
            _drop_unfinished(connection)
        prepare_server(address, passwords)
        with closing(Warehouse(_text(address.set(database=WAREHOUSE_DATABASE)))) as warehouse:
            upgrade(warehouse, backup.revision)
            if backup.revision == revisions()[-1]:
                ensure_read_only_role(warehouse, reader_password)
    except (WarehouseError, sa.exc.DBAPIError) as error:
        raise BackupError(
            "the backup is restored, counted and in its place, but its roles and rights are not complete. Do not "
            "restore again: mend what follows, then complete them with `cvntrade migrate --roles` as the server's "
            f"administrator. {error}"
        ) from error


def _text(address: sa.URL) -> str:
    return address.render_as_string(hide_password=False)
