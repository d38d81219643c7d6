"""Backups: the three databases, and the artifacts of a local store, as they belong together.

    folder/
        manifest.json          what the backup is: checksums of files, rows of tables, names of everything else
        databases/*.dump       dagster, cvntrade and mlflow in pg_dump's custom format
        artifacts/             asset/crypto/version, exactly those that rows of artifact_versions name and that are as
                               published; asset/crypto for the others too, without which nothing says that they are gone
        mlflow/                what MLflow's server keeps beside its database

Everything works on meanwhile, so the order counts. Dagster's events name artifact versions and rows of ours name
MLflow's models, so the snapshots are taken in the order dagster, cvntrade, mlflow. Files are there before their rows
and are never changed, so they are copied after. A folder appears whole or not at all.
"""

import hashlib
import json
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import sqlalchemy as sa

from resources.artifact_manifest import FILE_NAME
from resources.artifact_manifest import MANIFEST as VERSION_MANIFEST
from resources.code_version import code_version
from resources.durable_files import fsync, sha256_of
from resources.migrating import revision_of
from resources.object_storage import is_address
from resources.postgres_copies import CopyError, Snapshot, dump, objects, server_version, snapshot
from resources.server_roles import WAREHOUSE_DATABASE
from resources.tables import ARTIFACT_VERSIONS

DATABASES = ("dagster", WAREHOUSE_DATABASE, "mlflow")
"""In the order of their snapshots."""

MANIFEST = "manifest.json"
FORMAT = 1
IN_A_FOLDER = ARTIFACT_VERSIONS.c.location.not_like("%://%")
"""The versions that stand in a folder, and not in an object store where artifacts were kept before or after."""

MLFLOW_VARIABLE = "MLFLOW_ARTIFACTS_DESTINATION"
"""MLflow's own environment variable with the place of its server's files: a folder or an address."""

_ARTIFACTS, _MLFLOW, _DUMPS = "artifacts", "mlflow", "databases"
_CHUNK = 1 << 20


class BackupError(CopyError):
    """A backup cannot be made or is not one; the message says why, and what to do."""


@dataclass(frozen=True)
class Copied:
    """A database in a backup.

    Attributes:
        file: Its dump, below the backup's folder.
        rows: Rows of every table.
        objects: Kind to names: views, triggers, functions, indexes, constraints.
    """

    file: str
    rows: Mapping[str, int]
    objects: Mapping[str, list[str]]


@dataclass(frozen=True)
class Backup:
    """What a backup holds.

    Attributes:
        format: Of this manifest.
        made_at: When, UTC, ISO 8601.
        code: The code version that made it.
        postgres: The server's major version.
        revision: The operations schema's migration.
        databases: Name to what was copied.
        store: Where artifacts were kept.
        artifacts_copied: Whether they are in the backup; those of an object store are not.
        versions: Artifact versions that were copied.
        absent: Versions on record that were not there any more when the backup was made: `asset/crypto/version`.
        damaged: Versions that were there and not as published; they are not in the backup.
        elsewhere: Versions on record that stand in another store than this one, such as where artifacts were kept
            before: they are not in the backup, and once restored their rows name the same places.
        files: Every file of the backup but this manifest, to its SHA-256.
    """

    format: int
    made_at: str
    code: str
    postgres: int
    revision: str
    databases: Mapping[str, Copied]
    store: str
    artifacts_copied: bool
    versions: int
    absent: tuple[str, ...]
    damaged: tuple[str, ...]
    elsewhere: int
    files: Mapping[str, str]

    @property
    def mlflow_files(self) -> int:
        """How many files of MLflow's server are in it."""
        return sum(name.startswith(f"{_MLFLOW}/") for name in self.files)

    def to_json(self) -> str:
        """As text."""
        return json.dumps(asdict(self), indent=1, sort_keys=True) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Backup":
        """Read one back.

        Raises:
            BackupError: it is none, or of another format.
        """
        try:
            raw = json.loads(text)
            found = raw.get("format")
        except (ValueError, AttributeError):
            raise BackupError("its manifest.json is not that of a backup.") from None
        if found != FORMAT:
            raise BackupError(f"its manifest.json is of format {found}, and this code reads format {FORMAT}.")
        raw["databases"] = {name: Copied(**each) for name, each in raw["databases"].items()}
        raw["absent"], raw["damaged"] = tuple(raw["absent"]), tuple(raw["damaged"])
        return cls(**raw)


@dataclass(frozen=True)
class Files:
    """What stands beside the databases.

    Attributes:
        artifacts: Root of the artifact store: a folder, or an address such as s3://bucket/prefix.
        mlflow: The same of MLflow's server's files; None where nobody said.
    """

    artifacts: str
    mlflow: str | None = None

    @property
    def artifacts_folder(self) -> Path | None:
        """The store as a folder; None for an address."""
        return None if is_address(self.artifacts) else Path(self.artifacts)

    @property
    def mlflow_folder(self) -> Path | None:
        """MLflow's files as a folder; None for an address, and where nobody said."""
        return None if self.mlflow is None or is_address(self.mlflow) else Path(self.mlflow)


def make_backup(address: sa.URL, files: Files, folder: Path, pg_bin: Path | None = None) -> Backup:
    """Copy everything into a new folder.

    Args:
        address: Any database of the server, as somebody who may read them all: its administrator.
        files: What stands beside the databases.
        folder: Where to; it must not exist, and appears when all is in it.
        pg_bin: Folder with PostgreSQL's programs; None looks for those of the server's version.

    Raises:
        BackupError: the folder exists, files cannot be read or written, or a folder that is named is not there.
        WarehouseError: a database cannot be read.
        PostgresNotFoundError: no programs of the server's version.
    """
    if folder.exists():
        raise BackupError(f"{folder} exists already: name a new folder; a backup is never written over.")
    partial = folder.with_name(f".{folder.name}.partial-{uuid.uuid4().hex[:8]}")
    try:
        partial.parent.mkdir(parents=True, exist_ok=True)
        # It holds every row of every database: for whoever makes it, and nobody else of this machine.
        partial.mkdir(mode=0o700)
        (partial / _DUMPS).mkdir()
        backup = _fill(address, files, partial, pg_bin)
        (partial / MANIFEST).write_text(backup.to_json())
        _fsync_tree(partial)
        partial.rename(folder)
        fsync(folder.parent)
    except OSError as error:
        # Copying a folder tells of many files in one error, which has words of its own.
        what = f"{error.strerror} ({error.filename})" if error.strerror else str(error)[:500]
        raise BackupError(
            f"the backup could not be written to {folder}: {what}. Nothing is left of it; make room or mend the "
            "rights, then run this again."
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return backup


def read_backup(folder: Path) -> Backup:
    """What a folder holds, once every file of it has been compared with its checksum.

    Raises:
        BackupError: it is no backup, or not what was written.
    """
    try:
        backup = Backup.from_json((folder / MANIFEST).read_text())
    except OSError:
        raise BackupError(f"{folder} is no backup: it has no readable {MANIFEST}.") from None
    except BackupError as error:
        raise BackupError(f"{folder} cannot be used: {error}") from None
    present = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} - {MANIFEST}
    wrong = [f"{name} (missing)" for name in sorted(set(backup.files) - present)]
    wrong += [f"{name} (not part of it)" for name in sorted(present - set(backup.files))]
    wrong += [
        f"{name} (changed)"
        for name, expected in sorted(backup.files.items())
        if name in present and sha256_of(folder / name) != expected
    ]
    if wrong:
        shown = ", ".join(wrong[:5]) + (f" and {len(wrong) - 5} more" if len(wrong) > 5 else "")
        raise BackupError(f"{folder} is not what was written: {shown}. Nothing was restored; use another backup.")
    return backup


def artifacts_in(folder: Path) -> Path:
    """The artifacts of a backup."""
    return folder / _ARTIFACTS


def mlflow_files_in(folder: Path) -> Path:
    """What MLflow's server kept, in a backup."""
    return folder / _MLFLOW


def copy_tree(source: Path, target: Path) -> None:
    """Copy every file and folder of a folder, empty ones too, and put it on the disk."""
    shutil.copytree(source, target, dirs_exist_ok=True)
    _fsync_tree(target)


def _fill(address: sa.URL, files: Files, partial: Path, pg_bin: Path | None) -> Backup:
    with _snapshots(address) as taken:
        made_at = pd.Timestamp.now("UTC").isoformat()
        ours = taken[WAREHOUSE_DATABASE].connection
        rows, elsewhere = _in_the_store(ours, files), _elsewhere(ours, files)
        _require_mlflow_files(files)
        copied = {}
        for name, each in taken.items():
            file = f"{_DUMPS}/{name}.dump"
            dump(each, address, partial / file, pg_bin)
            copied[name] = Copied(file, each.row_counts(), objects(each.connection))
        postgres, revision = server_version(ours), revision_of(ours)
    versions, absent, damaged = _copy_versions(rows, partial / _ARTIFACTS)
    if files.mlflow_folder is not None:
        shutil.copytree(files.mlflow_folder, partial / _MLFLOW)
    found = {path.relative_to(partial).as_posix(): sha256_of(path) for path in partial.rglob("*") if path.is_file()}
    return Backup(
        format=FORMAT,
        made_at=made_at,
        code=code_version(),
        postgres=postgres,
        revision=revision,
        databases=copied,
        store=files.artifacts,
        artifacts_copied=files.artifacts_folder is not None,
        versions=versions,
        absent=tuple(sorted(absent)),
        damaged=tuple(sorted(damaged)),
        elsewhere=elsewhere,
        files=dict(sorted(found.items())),
    )


def _in_the_store(connection: sa.Connection, files: Files) -> list[dict[str, Any]]:
    """The rows of what stands in the store's folder; none of a store that is no folder.

    Raises:
        BackupError: there are rows and no folder.
    """
    store = files.artifacts_folder
    if store is None:
        return []
    rows = [dict(row) for row in connection.execute(sa.select(ARTIFACT_VERSIONS).where(IN_A_FOLDER)).mappings()]
    if rows and not store.is_dir():
        raise BackupError(
            f"{len(rows)} artifact versions are on record, and {store} is not there: bring the store back "
            "(is the disk mounted?), or correct CVN_ARTIFACTS, then run this again."
        )
    return rows


def _elsewhere(connection: sa.Connection, files: Files) -> int:
    """How many versions stand in another store than the one that is named."""
    in_the_bucket = ARTIFACT_VERSIONS.c.location.startswith(f"{files.artifacts.rstrip('/')}/", autoescape=True)
    there = in_the_bucket if files.artifacts_folder is None else IN_A_FOLDER
    query = sa.select(sa.func.count()).select_from(ARTIFACT_VERSIONS).where(sa.not_(there))
    return int(connection.scalar(query) or 0)


def _require_mlflow_files(files: Files) -> None:
    if files.mlflow_folder is not None and not files.mlflow_folder.is_dir():
        raise BackupError(
            f"MLflow's server keeps its files in {files.mlflow_folder}, which is not there: bring it back (is the disk "
            f"mounted?), or correct {MLFLOW_VARIABLE}, then run this again."
        )


@contextmanager
def _snapshots(address: sa.URL) -> Iterator[dict[str, Snapshot]]:
    with ExitStack() as stack:
        yield {name: stack.enter_context(snapshot(address, name)) for name in DATABASES}


def _copy_versions(rows: Sequence[Mapping[str, Any]], target: Path) -> tuple[int, list[str], list[str]]:
    """Copy the versions that stand where their rows say, as they were published.

    Returns:
        How many; the names of those that are not there; the names of those that are not as published.
    """
    copied, absent, damaged = 0, [], []
    for row in rows:
        place = (row["asset"], row["crypto"], row["version"])
        name = "/".join(place)
        if not all(map(FILE_NAME.fullmatch, place)):
            # Whoever writes rows must not choose which files an administrator writes over.
            damaged.append(name)
            continue
        # A version whose folder is gone is built anew; one whose crypto's folder is gone, too, is a store that is lost.
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        if not Path(row["location"]).is_dir():
            absent.append(name)
        elif _copy_version(row, target / name):
            copied += 1
        else:
            damaged.append(name)
    return copied, absent, damaged


def _copy_version(row: Mapping[str, Any], target: Path) -> bool:
    """Copy an artifact version; False, and nothing is left, when it is not what was published or goes meanwhile."""
    source = Path(row["location"])
    expected = {**row["manifest"]["files"], VERSION_MANIFEST: row["manifest_sha256"]}
    if not all(map(FILE_NAME.fullmatch, expected)):
        return False
    target.mkdir()
    try:
        is_whole = all(_copy(source / name, target / name) == checksum for name, checksum in expected.items())
    except FileNotFoundError:
        is_whole = False
    if not is_whole:
        shutil.rmtree(target)
    return is_whole


def _copy(source: Path, target: Path) -> str:
    """Copy a file; returns its checksum."""
    digest = hashlib.sha256()
    with source.open("rb") as reader, target.open("wb") as writer:
        while chunk := reader.read(_CHUNK):
            digest.update(chunk)
            writer.write(chunk)
    return digest.hexdigest()


def _fsync_tree(folder: Path) -> None:
    for path in (folder, *folder.rglob("*")):
        fsync(path)
