"""A backup of a server that has worked, restored into a fresh one: everything is there, and it goes on from there."""

import hashlib
import json
import shutil
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
from rich.console import Console
from seeded_operations import seed
from services import own_postgres
from typer.testing import CliRunner

from cvntrade_assets.cli import app
from cvntrade_assets.commands.backup import print_backup
from cvntrade_assets.local.addresses import Database
from cvntrade_assets.local.stack import database_of
from resources.artifacts import ArtifactStore
from resources.backups import DATABASES, Backup, BackupError, Files, _copy_versions, make_backup, read_backup
from resources.embedded_postgres import EmbeddedPostgres
from resources.migrating import revisions
from resources.restoring import _swap, restore_backup
from resources.roles import READ_ONLY_ROLE, ensure_read_only_role
from resources.server_roles import APP_ROLE, DAGSTER_ROLE, MLFLOW_ROLE, OWNER_ROLE, PASSWORD_VARIABLES
from resources.server_sessions import session
from resources.warehouse import Warehouse

NOW = pd.Timestamp("2026-03-01 12:00", tz="UTC")
ASSET, CRYPTO = "labels", "BTCUSDC"
READER = "canary-of-the-reader"
# Cryptos whose only version is gone, or was spoilt.
ALONE = {"XRPUSDC": "removed", "ADAUSDC": "spoilt"}
BUCKET = "s3://elsewhere/artifacts"
CHECKSUM_OF_X = hashlib.sha256(b"x").hexdigest()


@dataclass(frozen=True)
class Place:
    """A server with what stands beside it."""

    server: EmbeddedPostgres
    database: Database
    folder: Path

    @property
    def files(self) -> Files:
        return Files(str(self.folder / "artifacts"), str(self.folder / "mlflow"))

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

    def change(self, *statements: str, database: str = "postgres") -> None:
        """Do what concerns the whole server, or one of its databases."""
        with session(self.address.set(database=database)) as connection:
            for statement in statements:
                connection.execute(sa.text(statement))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("backup")


@pytest.fixture(scope="module")
def source(folder: Path) -> Iterator[Place]:
    """A server that has worked: rows in every table, Dagster's events, an MLflow run, artifacts."""
    home = folder / "source"
    home.mkdir()
    with own_postgres("source") as server:
        place = Place(server, database_of(server), home)
        with closing(Warehouse(place.database.url("cvntrade"))) as administrator:
            administrator.migrate()
            ensure_read_only_role(administrator, READER)
        with closing(place.warehouse) as warehouse:
            seed(warehouse, NOW)
            # Seeded rows name folders that were never there; a backup says so.
            for name in ("kept", "removed", "spoilt"):
                place.store(warehouse).publish(ASSET, CRYPTO, provenance(name), f"the {name}", {}, "run-1")
            for crypto, name in ALONE.items():
                place.store(warehouse).publish(ASSET, crypto, provenance(name), f"the {name}", {}, "run-1")
            _record_in_a_bucket(warehouse)
        for crypto in (CRYPTO, "XRPUSDC"):
            shutil.rmtree(home / "artifacts" / ASSET / crypto / provenance("removed").version)
        for crypto in (CRYPTO, "ADAUSDC"):
            (home / "artifacts" / ASSET / crypto / provenance("spoilt").version / "first.txt").write_text("x")
        (home / "dagster").mkdir()
        with open_instance(server, home / "dagster") as instance:
            run_job(instance, "chain", CRYPTO)
        _log_to_mlflow(place)
        yield place


def _record_in_a_bucket(warehouse: Warehouse) -> None:
    """A version from when artifacts were kept in a bucket."""
    version = provenance("bucket").version
    record = warehouse.find_artifact(ASSET, CRYPTO, provenance("kept").version)
    assert record is not None
    del record["published_at"]
    warehouse.record_artifact(record | {"version": version, "location": f"{BUCKET}/{ASSET}/{CRYPTO}/{version}"})


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
    home.mkdir()
    with own_postgres("fresh") as server:
        place = Place(server, database_of(server), home)
        refused = {fault: refuse(place, folder, fault) for fault in FAULTS}
        refused["places"] = refuse_places(place)
        passwords = {role: place.database.password_of(role) for role in PASSWORD_VARIABLES}
        # As somebody with a server of his own names it: by a database that is not there yet.
        place.change("drop database cvntrade")
        address = place.address.set(database="cvntrade")
        assert restore_backup(folder / "backup", address, place.files, passwords, None, READER) == made
        yield place, refused


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
    assert made.versions == 1 and made.elsewhere == 1 and made.mlflow_files == 1
    assert f"{ASSET}/{CRYPTO}/{provenance('removed').version}" in made.absent
    spoilt = provenance("spoilt").version
    assert made.damaged == tuple(f"{ASSET}/{crypto}/{spoilt}" for crypto in ("ADAUSDC", CRYPTO))
    others = len(made.absent) + len(made.damaged) + made.elsewhere
    assert made.databases["cvntrade"].rows["artifact_versions"] == made.versions + others
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
        f"from artifact_versions where asset = '{ASSET}' order by 2, 3"
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


@pytest.mark.parametrize("crypto", ALONE)
def test_the_only_version_that_a_crypto_had_is_built_anew_too(restored: Place, crypto: str) -> None:
    version = provenance(ALONE[crypto])
    with closing(restored.warehouse) as warehouse:
        store = restored.store(warehouse)
        assert store.find(ASSET, crypto, version.version) is None
        store.publish(ASSET, crypto, version, "again", {}, "run-2")
        found = store.find(ASSET, crypto, version.version)
        assert found is not None and found.load() == "again"


# what stays where it is


def test_what_stands_in_a_bucket_stays_there_and_is_said(restored: Place, made: Backup, folder: Path) -> None:
    version = provenance("bucket").version
    with closing(restored.warehouse) as warehouse:
        record = warehouse.find_artifact(ASSET, CRYPTO, version)
    assert record is not None and record["location"] == f"{BUCKET}/{ASSET}/{CRYPTO}/{version}"
    console = Console(record=True, width=200)
    print_backup(made, folder / "backup", console)
    said = console.export_text()
    assert "1 versions stand in another store, and stay there" in said
    assert "1 artifact versions of" in said and "1 files of MLflow's server" in said


def test_what_a_deployment_keeps_elsewhere_is_said(
    source: Place, made: Backup, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CVN_OWNER_URL", source.database.url("cvntrade"))
    monkeypatch.setenv("CVN_ARTIFACTS", BUCKET)
    monkeypatch.delenv("MLFLOW_ARTIFACTS_DESTINATION", raising=False)
    done = CliRunner().invoke(app, ["backup", str(folder / "of-a-bucket")])
    assert done.exit_code == 0, done.exception
    rows = made.databases["cvntrade"].rows["artifact_versions"]
    assert f"The artifacts stay in {BUCKET}: they are not part of this backup." in done.output
    assert f"{rows - 1} versions stand in another store, and stay there" in done.output
    assert "No file of MLflow's server is part of this backup" in done.output
    kept = read_backup(folder / "of-a-bucket")
    assert kept.elsewhere == rows - 1 and not kept.artifacts_copied and kept.mlflow_files == 0
    assert not (folder / "of-a-bucket" / "mlflow").exists()


def test_mlflows_files_are_not_left_out_without_a_word(source: Place, made: Backup, folder: Path) -> None:
    nowhere = Files(str(folder / "nowhere"))
    with pytest.raises(BackupError, match=r"1 files of MLflow's .* Set MLFLOW_ARTIFACTS_DESTINATION .* Nothing was"):
        restore_backup(folder / "backup", source.address, nowhere)
    with pytest.raises(BackupError, match=r"MLflow's server keeps its files in .*unmounted, which is not there"):
        make_backup(source.address, Files(source.files.artifacts, str(folder / "unmounted")), folder / "without")
    assert not list(folder.glob("*without*")) and not (folder / "nowhere").exists()


# what is refused


def test_rights_that_could_not_be_given_are_said_and_given_later(
    source: Place, made: Backup, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A table for which no rights are declared.
    source.change("create table undeclared (id int)", database="cvntrade")
    try:
        make_backup(source.address, source.files, folder / "undeclared")
    finally:
        source.change("drop table undeclared", database="cvntrade")
    with own_postgres("rights") as server:
        place = Place(server, database_of(server), folder / "rights")
        files = Files(place.files.artifacts, "s3://bucket/mlflow")
        said = r"is restored, counted and in its place, but .* `cvntrade migrate --roles` .*undeclared"
        with pytest.raises(BackupError, match=said):
            restore_backup(folder / "undeclared", place.address, files)
        left = left_by(place, "")
        assert left.databases == {*DATABASES, "cvntrade_scratch", "postgres", "template0", "template1"}
        assert left.files == {"artifacts"}, "MLflow's are for somebody to bring to the bucket"
        place.change("drop table undeclared", database="cvntrade")
        monkeypatch.setenv("CVN_OWNER_URL", place.database.url("cvntrade"))
        done = CliRunner().invoke(app, ["migrate", "--roles"])
        assert done.exit_code == 0, done.exception
        with closing(place.warehouse) as warehouse:
            kept = place.store(warehouse).find(ASSET, CRYPTO, provenance("kept").version)
            assert kept is not None and kept.load() == "the kept"


def test_a_backup_is_never_written_over(source: Place, made: Backup, folder: Path) -> None:
    with pytest.raises(BackupError, match="exists already"):
        make_backup(source.address, source.files, folder / "backup")
    assert read_backup(folder / "backup") == made


def test_a_server_that_is_not_empty_is_refused_and_left_alone(source: Place, made: Backup, folder: Path) -> None:
    before = source.rows("cvntrade", "select count(*) from artifact_versions")
    elsewhere = Files(str(folder / "nowhere"), str(folder / "nowhere"))
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
    assert found.files == set()


def test_a_store_that_is_not_there_is_no_backup_without_artifacts(source: Place, folder: Path) -> None:
    with pytest.raises(BackupError, match=r"\d+ artifact versions are on record, and .*unmounted is not there"):
        make_backup(source.address, Files(str(folder / "unmounted")), folder / "without")
    assert not list(folder.glob("*without*"))


@pytest.mark.parametrize(
    "change",
    [{"asset": ".."}, {"crypto": "../.."}, {"version": ""}, {"manifest": {"files": {"../over": CHECKSUM_OF_X}}}],
)
def test_a_row_does_not_choose_which_files_are_written_over(tmp_path: Path, change: dict[str, object]) -> None:
    (tmp_path / "source").mkdir()
    for name in ("source/manifest.json", "over"):
        (tmp_path / name).write_text("x")
    place = {"asset": "a", "crypto": "b", "version": "c", "location": str(tmp_path / "source")}
    row = {**place, "manifest_sha256": CHECKSUM_OF_X, "manifest": {"files": {}}}
    assert _copy_versions([row], tmp_path / "whole") == (1, [], [])
    before = set(tmp_path.rglob("*"))
    copied, absent, damaged = _copy_versions([{**row, **change}], tmp_path / "backup")
    assert (copied, absent, len(damaged)) == (0, [], 1)
    written = set(tmp_path.rglob("*")) - before
    assert not [path for path in written if path.is_file() or not path.is_relative_to(tmp_path / "backup")]


def test_a_disk_that_is_full_leaves_nothing_behind(
    source: Place, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device", "somewhere")

    monkeypatch.setattr("resources.backups._fsync_tree", full)
    with pytest.raises(BackupError, match="No space left on device"):
        make_backup(source.address, source.files, folder / "full")
    assert not (folder / "full").exists() and not list(folder.glob(".full*"))
