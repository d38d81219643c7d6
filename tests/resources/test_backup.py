"""A backup of a server that has worked, restored into a fresh one: everything is there, and it goes on from there."""

import json
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import pandas as pd
import psycopg2
import pytest
import sqlalchemy as sa
from artifact_shelves import TwoFilesCodec, provenance
from dagster_on_postgres import open_instance, run_job
from seeded_operations import seed

from cvntrade_assets.local.addresses import Database
from cvntrade_assets.local.stack import database_of
from resources.artifacts import ArtifactStore
from resources.backups import DATABASES, Backup, BackupError, Files, _copy_version, make_backup, read_backup
from resources.embedded_postgres import EmbeddedPostgres
from resources.migrating import revisions
from resources.postgres_copies import session
from resources.restoring import _swap, restore_backup
from resources.roles import READ_ONLY_ROLE, ensure_read_only_role
from resources.server_roles import APP_ROLE, DAGSTER_ROLE, MLFLOW_ROLE, OWNER_ROLE, PASSWORD_VARIABLES
from resources.warehouse import Warehouse

NOW = pd.Timestamp("2026-03-01 12:00", tz="UTC")
ASSET, CRYPTO = "labels", "BTCUSDC"
READER = "canary-of-the-reader"


@dataclass(frozen=True)
class Place:
    """A server with what stands beside it."""

    server: EmbeddedPostgres
    database: Database
    folder: Path

    @property
    def files(self) -> Files:
        return Files(str(self.folder / "artifacts"), self.folder / "mlflow")

    @property
    def address(self) -> sa.URL:
        return sa.make_url(self.database.url("postgres"))

    @property
    def warehouse(self) -> Warehouse:
        return Warehouse(self.database.url_as(APP_ROLE, "cvntrade"))

    def store(self, warehouse: Warehouse) -> ArtifactStore:
        return ArtifactStore(self.folder / "artifacts", warehouse, {ASSET: TwoFilesCodec()})

    def rows(self, database: str, *queries: str) -> list[tuple[object, ...]]:
        """What queries give, one after the other, in one session."""
        address = self.database.url(database).replace("+psycopg2", "")
        found: list[tuple[object, ...]] = []
        with closing(psycopg2.connect(address)) as connection, connection.cursor() as cursor:
            for query in queries:
                cursor.execute(query)
                found += cursor.fetchall()
        return found

    def change(self, *statements: str) -> None:
        """Do what concerns the whole server."""
        with session(self.address) as connection:
            for statement in statements:
                connection.execute(sa.text(statement))

    def throw_away(self) -> None:
        """End the server without a last checkpoint: its data goes."""
        os.kill(self.server.pid, signal.SIGQUIT)


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="cvntrade-backup-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture(scope="module")
def source(folder: Path) -> Iterator[Place]:
    """A server that has worked: rows in every table, Dagster's events, an MLflow run, artifacts."""
    home = folder / "source"
    with EmbeddedPostgres(home / "postgres") as server:
        place = Place(server, database_of(server), home)
        with closing(Warehouse(place.database.url("cvntrade"))) as administrator:
            administrator.migrate()
            ensure_read_only_role(administrator, READER)
        with closing(place.warehouse) as warehouse:
            seed(warehouse, NOW)
            # Seeded rows name folders that were never there; a backup says so.
            for name in ("kept", "removed", "spoilt"):
                place.store(warehouse).publish(ASSET, CRYPTO, provenance(name), f"the {name}", {}, "run-1")
        shutil.rmtree(home / "artifacts" / ASSET / CRYPTO / provenance("removed").version)
        (home / "artifacts" / ASSET / CRYPTO / provenance("spoilt").version / "first.txt").write_text("x")
        (home / "dagster").mkdir()
        with open_instance(server, home / "dagster") as instance:
            run_job(instance, "chain", CRYPTO)
        _log_to_mlflow(place)
        yield place
        place.throw_away()


def _log_to_mlflow(place: Place) -> None:
    from mlflow.tracking import MlflowClient

    (place.folder / "mlflow").mkdir()
    client = MlflowClient(place.database.url_as(MLFLOW_ROLE, "mlflow"))
    experiment = client.create_experiment("mine", artifact_location=str(place.folder / "mlflow"))
    run = client.create_run(experiment).info.run_id
    client.log_metric(run, "f1", 0.5)
    (place.folder / "mlflow" / "model.ubj").write_bytes(b"\x00model")


@pytest.fixture(scope="module")
def made(source: Place, folder: Path) -> Backup:
    backup = make_backup(source.address, source.files, folder / "backup")
    assert read_backup(folder / "backup") == backup
    return backup


@dataclass(frozen=True)
class Refused:
    """A restore that failed: what it said, and what it left in the server and in the folder."""

    message: str
    databases: set[str]
    tables: list[tuple[object, ...]]
    files: set[str]


FAULTS = ("rows", "objects")


@pytest.fixture(scope="module")
def attempts(made: Backup, folder: Path) -> Iterator[tuple[Place, dict[str, Refused]]]:
    """A fresh server that holds the backup, and how restoring into it failed before."""
    home = folder / "fresh"
    with EmbeddedPostgres(home / "postgres") as server:
        place = Place(server, database_of(server), home)
        refused = {fault: refuse(place, folder, fault) for fault in FAULTS}
        refused["places"] = refuse_places(place)
        passwords = {role: place.database.password_of(role) for role in PASSWORD_VARIABLES}
        # As somebody with a server of his own names it: by a database that is not there yet.
        place.change("drop database cvntrade")
        address = place.address.set(database="cvntrade")
        assert restore_backup(folder / "backup", address, place.files, passwords, None, READER) == made
        yield place, refused
        place.throw_away()


def refuse(place: Place, folder: Path, fault: str) -> Refused:
    """Restore a backup whose manifest names other rows, or a trigger that the dump lacks, as if some had been lost."""
    copy = folder / f"with-other-{fault}"
    shutil.copytree(folder / "backup", copy)
    raw = json.loads((copy / "manifest.json").read_text())
    if fault == "rows":
        # Of the last database: the others are filled by then.
        raw["databases"]["mlflow"]["rows"]["runs"] += 1
    else:
        raw["databases"]["dagster"]["objects"]["triggers"].append("runs.of_the_test O")
    (copy / "manifest.json").write_text(json.dumps(raw))
    with pytest.raises(BackupError) as raised:
        restore_backup(copy, place.address, place.files)
    return left_by(place, str(raised.value))


def refuse_places(place: Place) -> Refused:
    """Have two filled databases take their places, of which the third is gone."""
    place.change(*(f"create database {name}_restoring" for name in DATABASES[:-1]))
    with pytest.raises(sa.exc.DBAPIError) as raised:
        _swap(place.address)
    return left_by(place, str(raised.value))


def left_by(place: Place, message: str) -> Refused:
    databases = {str(name) for (name,) in place.rows("postgres", "select datname from pg_database")}
    tables = [
        row for name in DATABASES for row in place.rows(name, "select 1 from pg_tables where schemaname = 'public'")
    ]
    return Refused(message, databases, tables, {path.name for path in place.folder.iterdir()})


@pytest.fixture(scope="module")
def restored(attempts: tuple[Place, dict[str, Refused]]) -> Place:
    """A fresh server that holds the backup."""
    return attempts[0]


def test_a_backup_says_what_it_holds_and_holds_no_password(source: Place, made: Backup, folder: Path) -> None:
    assert tuple(made.databases) == DATABASES and made.revision == revisions()[-1]
    assert made.roles == {**dict.fromkeys(PASSWORD_VARIABLES, True), READ_ONLY_ROLE: True}
    assert made.versions == 1
    assert f"{ASSET}/{CRYPTO}/{provenance('removed').version}" in made.absent
    assert made.damaged == (f"{ASSET}/{CRYPTO}/{provenance('spoilt').version}",)
    assert made.databases["cvntrade"].rows["artifact_versions"] == made.versions + len(made.absent) + 1
    secrets = [source.database.password, *(source.database.password_of(role) for role in PASSWORD_VARIABLES), READER]
    for path in (path for path in (folder / "backup").rglob("*") if path.is_file()):
        assert not [secret for secret in secrets if secret.encode() in path.read_bytes()], path
    assert not list(folder.glob(".backup.partial-*"))
    assert (folder / "backup").stat().st_mode & 0o077 == 0, "for nobody else of this machine"


def test_every_row_of_every_database_is_there(source: Place, restored: Place) -> None:
    every = "select tablename::text from pg_tables where schemaname = 'public' order by 1"
    for database in DATABASES:
        tables = [str(table) for (table,) in source.rows(database, every)]
        assert [str(table) for (table,) in restored.rows(database, every)] == tables
        queries = [
            f"select '{table}', t::text as row from \"{table}\" t order by row"
            for table in tables
            if table != "artifact_versions"
        ]
        assert source.rows(database, *queries) == restored.rows(database, *queries)
    # Restored rows name the folders where their files are now.
    moved = (
        "select asset, crypto, version, manifest_sha256, replace(location, '/fresh/', '/source/') "
        f"from artifact_versions where asset = '{ASSET}' order by 3"
    )
    assert source.rows("cvntrade", moved) == restored.rows("cvntrade", moved)


def test_what_was_deleted_from_sequences_is_not_given_out_again(source: Place, restored: Place) -> None:
    for database in DATABASES:
        query = "select schemaname || '.' || sequencename, last_value from pg_sequences order by 1"
        assert source.rows(database, query) == restored.rows(database, query)


def test_every_role_has_its_rights_again(source: Place, restored: Place) -> None:
    for database, owner in {"dagster": DAGSTER_ROLE, "mlflow": MLFLOW_ROLE, "cvntrade": OWNER_ROLE}.items():
        owners = "select distinct relowner::regrole::text from pg_class where relnamespace = 'public'::regnamespace"
        assert restored.rows(database, owners) == [(owner,)]
    grants = (
        "select table_name::text, grantee::text, privilege_type::text from information_schema.role_table_grants "
        f"where grantee in ('{APP_ROLE}', '{READ_ONLY_ROLE}') order by 1, 2, 3"
    )
    assert source.rows("cvntrade", grants) == restored.rows("cvntrade", grants) != []
    entering = "select datname::text, datacl::text from pg_database where datname not like 'template%' order by 1"
    assert source.rows("postgres", entering) == restored.rows("postgres", entering)


def test_records_are_still_refused_to_be_changed(restored: Place) -> None:
    with pytest.raises(psycopg2.Error, match="append-only"):
        restored.rows("cvntrade", "delete from global_states")
    with pytest.raises(psycopg2.Error, match="append-only"):
        restored.rows("cvntrade", "set session_replication_role = replica; truncate model_events")


def test_dagster_finds_its_events_and_works_on(restored: Place) -> None:
    (restored.folder / "dagster").mkdir()
    with open_instance(restored.server, restored.folder / "dagster") as instance:
        [run] = instance.get_runs()
        assert run.status == dg.DagsterRunStatus.SUCCESS
        assert instance.get_latest_materialization_event(dg.AssetKey("walk_forward")) is not None
        again = run_job(instance, "chain", "XRPUSDC")
        assert {each.run_id for each in instance.get_runs()} == {run.run_id, again}


def test_mlflow_finds_its_runs_and_files(restored: Place) -> None:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(restored.database.url_as(MLFLOW_ROLE, "mlflow"))
    experiment = client.get_experiment_by_name("mine")
    assert experiment is not None
    [run] = client.search_runs([experiment.experiment_id])
    assert run.data.metrics == {"f1": 0.5}
    assert (restored.folder / "mlflow" / "model.ubj").read_bytes() == b"\x00model"


def test_artifacts_verify_where_they_are_now_and_the_others_are_built_anew(restored: Place) -> None:
    with closing(restored.warehouse) as warehouse:
        store = restored.store(warehouse)
        kept = store.find(ASSET, CRYPTO, provenance("kept").version)
        assert kept is not None and kept.load() == "the kept"
        for name in ("removed", "spoilt"):
            assert store.find(ASSET, CRYPTO, provenance(name).version) is None
            store.publish(ASSET, CRYPTO, provenance(name), f"the {name}", {}, "run-2")
            found = store.find(ASSET, CRYPTO, provenance(name).version)
            assert found is not None and found.load() == f"the {name}"


# what is refused


def test_a_backup_is_never_written_over(source: Place, made: Backup, folder: Path) -> None:
    with pytest.raises(BackupError, match="exists already"):
        make_backup(source.address, source.files, folder / "backup")
    assert read_backup(folder / "backup") == made


def test_a_server_that_is_not_empty_is_refused_and_left_alone(source: Place, made: Backup, folder: Path) -> None:
    before = source.rows("cvntrade", "select count(*) from artifact_versions")
    elsewhere = Files(str(folder / "nowhere"))
    with pytest.raises(BackupError, match=r"database dagster .* is not empty: it has \d+ tables"):
        restore_backup(folder / "backup", source.address, elsewhere)
    assert source.rows("cvntrade", "select count(*) from artifact_versions") == before
    assert not (folder / "nowhere").exists()


def test_a_database_that_was_filled_meanwhile_is_not_replaced(restored: Place) -> None:
    before = restored.rows("dagster", "select run_id from runs order by 1")
    with pytest.raises(BackupError, match=r"database dagster .* is not empty"):
        _swap(restored.address)
    assert restored.rows("dagster", "select run_id from runs order by 1") == before != []


def test_the_databases_take_their_places_all_at_once_or_none_does(
    attempts: tuple[Place, dict[str, Refused]],
) -> None:
    found = attempts[1]["places"]
    assert 'database "mlflow_restoring" does not exist' in found.message
    filled = {"dagster_restoring", "cvntrade_restoring"}
    assert found.databases == {*DATABASES, *filled, "cvntrade_scratch", "postgres", "template0", "template1"}
    assert found.tables == []


@pytest.fixture
def copy(made: Backup, folder: Path, tmp_path: Path) -> Path:
    """The backup, to be spoilt."""
    shutil.copytree(folder / "backup", tmp_path / "copy")
    return tmp_path / "copy"


@pytest.mark.parametrize("change", ["changed", "missing", "not part of it", "no manifest", "another format"])
def test_a_backup_that_is_not_what_was_written_is_refused(restored: Place, copy: Path, change: str) -> None:
    dump, manifest = copy / "databases" / "cvntrade.dump", copy / "manifest.json"
    if change == "changed":
        content = dump.read_bytes()
        dump.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif change == "missing":
        dump.unlink()
    elif change == "not part of it":
        (copy / "databases" / "more.dump").write_text("x")
    elif change == "no manifest":
        manifest.unlink()
    else:
        manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "format": 99}))
    expected = {"no manifest": "is no backup", "another format": "is of format 99, and this code reads format 1"}
    with pytest.raises(BackupError, match=expected.get(change, f"{change}")):
        read_backup(copy)


@pytest.mark.parametrize("fault", FAULTS)
def test_what_was_not_restored_as_it_was_leaves_nothing_behind(
    attempts: tuple[Place, dict[str, Refused]], fault: str
) -> None:
    said = {"rows": "runs has 1 rows and not 2", "objects": "triggers differ: runs.of_the_test O"}[fault]
    found = attempts[1][fault]
    assert said in found.message
    assert found.databases == {*DATABASES, "cvntrade_scratch", "postgres", "template0", "template1"}
    assert found.tables == []
    assert found.files == {"postgres"}


def test_a_store_that_is_not_there_is_no_backup_without_artifacts(source: Place, folder: Path) -> None:
    with pytest.raises(BackupError, match=r"\d+ artifact versions are on record, and .*unmounted is not there"):
        make_backup(source.address, Files(str(folder / "unmounted")), folder / "without")
    assert not list(folder.glob("*without*"))


@pytest.mark.parametrize(
    "change", [{"asset": ".."}, {"crypto": "../.."}, {"manifest": {"files": {"../over": "x"}}}, {"version": ""}]
)
def test_a_row_does_not_choose_which_files_are_written_over(tmp_path: Path, change: dict[str, object]) -> None:
    (tmp_path / "source").mkdir()
    row = {"asset": "a", "crypto": "b", "version": "c", "location": str(tmp_path / "source"), "manifest_sha256": "x"}
    assert not _copy_version({**row, "manifest": {"files": {}}, **change}, tmp_path / "backup")
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_a_disk_that_is_full_leaves_nothing_behind(
    source: Place, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device", "somewhere")

    monkeypatch.setattr("resources.backups._fsync_tree", full)
    with pytest.raises(BackupError, match="No space left on device"):
        make_backup(source.address, source.files, folder / "full")
    assert not (folder / "full").exists() and not list(folder.glob(".full*"))
