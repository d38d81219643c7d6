"""What only object storage does: requests that fail half-way, and uploads that nobody finishes."""

import gc
import os
import resource
import signal
import stat
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pandas as pd
import pytest
import sqlalchemy as sa
from artifact_shelves import (
    CRYPTO,
    FORK,
    PATIENCE,
    BucketPlace,
    FolderPlace,
    TwoFilesCodec,
    die_before,
    in_child,
    own_asset,
    provenance,
    publish,
)
from polling import until
from s3_server import SECRET, Fault, S3Door, S3Server, client

from resources import object_storage
from resources.artifacts import MANIFEST, ArtifactError, ArtifactStore
from resources.codecs import FrameCodec
from resources.object_storage import ObjectStorage, S3Address
from resources.warehouse import Warehouse, WarehouseError


@pytest.fixture
def shelf(bucket: S3Address, warehouse: Warehouse, warehouse_url: str) -> BucketPlace:
    return BucketPlace(bucket, warehouse_url, warehouse, own_asset())


def locks(shelf: BucketPlace) -> int:
    """Uploads that somebody holds the lock of."""
    with shelf.warehouse.begin() as connection:
        query = (
            "select count(*) from pg_locks join pg_database on pg_database.oid = database "
            "where locktype = 'advisory' and datname = current_database()"
        )
        return int(connection.execute(sa.text(query)).scalar_one())


def load(shelf: BucketPlace, version: str = "1") -> object:
    found = shelf.find(version)
    assert found is not None
    return found.load()


# Killed


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_between_parts() -> None:
    object_storage.PART_BYTES = 2
    # The note is the first, and each part is one.
    die_before(None, object_storage, "_checksum", 3, die)


KILLS: dict[str, tuple[Callable[[], Any], int, bool]] = {
    "before anything is sent": (lambda: die_before(None, ObjectStorage, "put", 1, die), 0, False),
    "before the first file": (lambda: die_before(None, ObjectStorage, "upload", 1, die), 1, False),
    "between parts of a file": (die_between_parts, 2, False),
    "before the second file": (lambda: die_before(None, ObjectStorage, "upload", 2, die), 2, False),
    "before the manifest": (lambda: die_before(None, ObjectStorage, "put_first", 1, die), 3, False),
    "after the manifest": (lambda: die_before(None, ObjectStorage, "remove", 1, die), 1, True),
    "before the record": (lambda: die_before(None, Warehouse, "record_artifact", 1, die), 0, True),
}


@pytest.mark.parametrize("point", KILLS)
def test_a_writer_killed_at_any_point_leaves_nothing_that_counts(shelf, point):
    arrange, left, is_visible = KILLS[point]

    def work(store: ArtifactStore) -> None:
        arrange()
        publish(store, shelf.asset, "left right", "1")

    child = in_child(work, shelf, None)
    child.join(PATIENCE)
    assert child.exitcode == -signal.SIGKILL
    assert shelf.find() is None
    assert shelf.visible() == ([provenance("1").version] if is_visible else [])
    assert len(shelf.hidden()) == left
    until("PostgreSQL notices that the writer is gone", lambda: locks(shelf) == 0)

    assert shelf.publish("left right").load() == "left right"
    assert load(shelf) == "left right"
    shelf.publish("another", "2")
    assert shelf.hidden() == []
    assert len(shelf.visible()) == 2


def test_a_live_writers_upload_is_left_alone(shelf):
    at_it, go_on = FORK.Event(), FORK.Event()

    def work(store: ArtifactStore) -> None:
        die_before(None, ObjectStorage, "upload", 2, lambda: (at_it.set(), go_on.wait(PATIENCE)))
        publish(store, shelf.asset, "slow one", "slow")

    child = in_child(work, shelf, None)
    assert at_it.wait(PATIENCE)
    under_way = shelf.hidden()
    assert len(under_way) == 2, "the note and the first file"
    shelf.publish("quick one", "quick")
    assert shelf.hidden() == under_way
    go_on.set()
    child.join(PATIENCE)
    assert child.exitcode == 0
    assert load(shelf, "slow") == "slow one"
    assert len(shelf.visible()) == 2
    assert shelf.hidden() == []


def test_a_writer_whose_lock_is_gone_publishes_nothing(shelf, monkeypatch):
    def end_other_sessions() -> None:
        with shelf.warehouse.begin() as connection:
            ending = (
                "select pg_terminate_backend(pid) from pg_stat_activity "
                "where pid <> pg_backend_pid() and datname = current_database()"
            )
            connection.execute(sa.text(ending)).all()

    with pytest.MonkeyPatch.context() as patch:
        die_before(patch, ObjectStorage, "upload", 2, end_other_sessions)
        with pytest.raises(WarehouseError, match="did not answer"):
            shelf.publish("left right")
    assert shelf.visible() == []
    assert shelf.publish("left right").load() == "left right"
    assert shelf.hidden() == []


def test_notes_that_are_no_uploads_remove_nothing(shelf):
    version = shelf.publish("left right").version
    [key] = {key.rpartition("/")[0] for key in shelf.objects() if key.startswith(f"{version}/.upload-")}
    client().put_object(Bucket=shelf.root.bucket, Key=f"{shelf.home.key}/.writing/{key}", Body=b"")
    shelf.publish("another", "2")
    assert load(shelf) == "left right"
    assert shelf.hidden() == []


# Requests that fail


def requests_of_a_publication(door: S3Door, shelf: BucketPlace, store: ArtifactStore) -> int:
    publish(store, shelf.asset, "left right", "counted")
    assert len(door.seen) > 8
    return len(door.seen)


def test_whichever_request_fails_once_the_version_is_published(door: S3Door, shelf):
    store = shelf.store()
    requests = requests_of_a_publication(door, shelf, store)
    for number in range(requests):
        failing = iter([None] * number + [(Fault.CUT, Fault.LOST, Fault.ERROR)[number % 3]])
        door.fault = lambda method, path, failing=failing: next(failing, None)
        publish(store, shelf.asset, "left right", f"{number}")
        assert next(failing, "failed") == "failed"
        found = store.find(shelf.asset, CRYPTO, provenance(f"{number}").version)
        assert found is not None
        assert found.load() == "left right"
    assert len(shelf.visible()) == requests + 1
    assert shelf.hidden() == []


def test_from_whichever_request_the_storage_is_gone_the_next_run_publishes(door: S3Door, shelf, monkeypatch):
    monkeypatch.setattr(object_storage, "_ATTEMPTS", 1)
    store = shelf.store()
    requests = requests_of_a_publication(door, shelf, store)
    for number in range(requests):
        going = iter([None] * number)
        # The request arrives and is obeyed, and nobody learns of it.
        door.fault = lambda method, path, going=going: next(going, Fault.LOST)
        with pytest.raises(ArtifactError) as caught:
            publish(store, shelf.asset, "left right", f"{number}")
        assert f"s3://{shelf.root.bucket}/{shelf.root.key}/{shelf.asset}" in str(caught.value)
        assert SECRET not in str(caught.value)
        door.fault = lambda method, path: None
        assert store.find(shelf.asset, CRYPTO, provenance(f"{number}").version) is None, "it was not recorded"
        assert publish(store, shelf.asset, "left right", f"{number}").load() == "left right"
    shelf.publish("another", "last")
    assert shelf.hidden() == []
    assert len(shelf.visible()) == requests + 2


def test_a_connection_cut_in_the_middle_of_an_upload_leaves_nothing_visible(door: S3Door, shelf, monkeypatch):
    monkeypatch.setattr(object_storage, "_ATTEMPTS", 2)
    large = pd.DataFrame({"noise": [uuid.uuid4().hex for _ in range(20_000)]})
    door.fault = lambda method, path: Fault.CUT if method == "PUT" and path.endswith("table.parquet") else None
    with pytest.raises(ArtifactError, match=r"table.parquet could not be written: .*The next run publishes it"):
        shelf.publish(large, codec=FrameCodec())
    assert [path for method, path in door.seen if path.endswith("manifest.json") and method == "PUT"] == []
    assert shelf.visible() == []
    assert shelf.find() is None

    door.fault = lambda method, path: None
    pd.testing.assert_frame_equal(shelf.publish(large, codec=FrameCodec()).load(), large)
    assert shelf.hidden() == []


def test_a_large_file_goes_and_comes_in_parts(shelf, monkeypatch):
    monkeypatch.setattr(object_storage, "PART_BYTES", 65_536)
    large = pd.DataFrame({"noise": [uuid.uuid4().hex for _ in range(20_000)]})
    made = shelf.publish(large, codec=FrameCodec())
    assert made.size > 5 * 65_536
    found = shelf.store(FrameCodec()).require(shelf.asset, CRYPTO, made.version)
    pd.testing.assert_frame_equal(found.load(), large)
    assert shelf.hidden() == []


def test_a_manifest_that_somebody_else_put_first_is_adopted(shelf, monkeypatch):
    def meanwhile() -> None:
        patch.undo()
        shelf.publish("left right")

    with pytest.MonkeyPatch.context() as patch:
        die_before(patch, ObjectStorage, "put_first", 1, meanwhile)
        mine = shelf.publish("left right")
    assert mine.load() == "left right"
    found = shelf.find()
    assert found is not None
    assert found.manifest.upload == mine.manifest.upload
    assert shelf.hidden() == []


def test_a_manifest_whose_files_differ_is_not_adopted(shelf):
    def meanwhile() -> None:
        patch.undo()
        shelf.publish("left right")
        shelf.spoil("second.txt", b"wrong")

    with pytest.MonkeyPatch.context() as patch:
        die_before(patch, ObjectStorage, "put_first", 1, meanwhile)
        with pytest.raises(ArtifactError, match=r"second.txt is not what was published"):
            shelf.publish("left right")


@pytest.fixture
def guarded(s3_server: S3Server, bucket: S3Address) -> Iterator[S3Address]:
    """The bucket while the server lets in only whom it knows, which is nobody."""

    def let_in(actions: str) -> None:
        plain = {"Content-Type": "text/plain"}
        with urlopen(Request(f"{s3_server.url}/moto-api/reset-auth", actions.encode(), plain, method="POST")):
            pass

    let_in("0")
    try:
        yield bucket
    finally:
        let_in("Infinity")


def test_wrong_credentials(guarded, shelf):
    with pytest.raises(ArtifactError) as caught:
        shelf.publish("left right")
    message = str(caught.value)
    assert f"{shelf.asset} of {CRYPTO} could not be published: {shelf.home}/" in message
    assert "(InvalidAccessKeyId). Correct AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY" in message
    assert SECRET not in message


def test_a_bucket_that_is_missing(shelf):
    shelf.lose()
    with pytest.raises(ArtifactError, match=r"could not be published: s3://.*\(NoSuchBucket\). Create the bucket"):
        shelf.publish("left right")
    assert shelf.find() is None


# This machine


def test_a_private_copy_is_private_and_goes_with_its_handle(shelf, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    shelf.publish("left right")
    assert list(tmp_path.iterdir()) == []
    found = shelf.find()
    assert found is not None
    folder = found.folder
    assert found.load() == "left right"
    assert [*tmp_path.iterdir()] == [folder] == [found.folder]
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    del found
    gc.collect()
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def little_room() -> Iterator[Callable[[], None]]:
    """Call it: from then on this process may write no file larger than 64 KiB."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (65_536, limits[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    signal.signal(signal.SIGXFSZ, before)


def test_no_room_on_this_machine_to_publish(shelf, little_room):
    little_room()
    with pytest.raises(ArtifactError, match=r"needs room in .* on its way: File too large.*name a larger folder"):
        shelf.publish("x" * 2_000_000)
    assert shelf.visible() == []
    assert shelf.hidden() == []


def test_no_room_on_this_machine_to_load(shelf, little_room, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    shelf.publish("x" * 2_000_000)
    little_room()
    found = shelf.find()
    assert found is not None
    with pytest.raises(ArtifactError, match=r"needs room in .* on its way: File too large"):
        found.load()
    gc.collect()
    assert list(tmp_path.iterdir()) == [], "nothing half loaded stays"


def test_a_store_that_was_copied_from_a_folder_is_read(shelf, tmp_path):
    folder = FolderPlace(tmp_path / "artifacts", shelf.url, shelf.warehouse, shelf.asset)
    made = folder.publish("left right")
    for path in made.folder.iterdir():
        client().put_object(
            Bucket=shelf.root.bucket, Key=f"{shelf.home.key}/{made.version}/{path.name}", Body=path.read_bytes()
        )
    with shelf.warehouse.begin() as connection:
        connection.execute(
            sa.text("update artifact_versions set location = :to where location = :from"),
            {"to": shelf.location(), "from": made.location},
        )
    found = shelf.find()
    assert found is not None
    assert found.location == shelf.location()
    assert found.load() == "left right"
    assert found.size == made.size
    shelf.spoil(MANIFEST, None)
    with pytest.raises(ArtifactError, match="manifest is missing"):
        shelf.find()
    shelf.remove_version()
    assert shelf.find() is None


def test_a_root_that_is_no_address_of_object_storage(warehouse):
    with pytest.raises(ArtifactError, match="expected s3://bucket/prefix"):
        ArtifactStore("gs://bucket/prefix", warehouse, {"features": TwoFilesCodec()})


def test_a_folder_of_this_machine_is_no_address(warehouse, tmp_path):
    assert ArtifactStore(str(tmp_path), warehouse, {}).root == tmp_path == Path(str(tmp_path))
