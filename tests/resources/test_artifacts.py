"""What every store keeps, in a folder and in object storage alike."""

import json
from pathlib import Path

import pytest
from artifact_shelves import (
    CRYPTO,
    FORK,
    PATIENCE,
    BucketPlace,
    DeadWarehouse,
    FolderPlace,
    TwoFilesCodec,
    in_child,
    own_asset,
    provenance,
    publish,
)

from resources.artifacts import MANIFEST, ArtifactError, ArtifactStore
from resources.warehouse import Warehouse, WarehouseError


@pytest.fixture(params=["folder", "bucket"])
def shelf(request, tmp_path: Path, warehouse: Warehouse, warehouse_url: str) -> FolderPlace | BucketPlace:
    if request.param == "folder":
        return FolderPlace(tmp_path / "artifacts", warehouse_url, warehouse, own_asset())
    return BucketPlace(request.getfixturevalue("bucket"), warehouse_url, warehouse, own_asset())


def refuse() -> None:
    raise AssertionError("nothing is to be written")


# Whole


def test_what_was_published_is_found_and_loaded(shelf):
    made = shelf.publish("left right")
    found = shelf.find()
    assert found is not None
    assert found.load() == "left right"
    assert found.manifest == made.manifest
    assert found.version == provenance("1").version
    assert found.market == "simulated"
    assert found.location == shelf.location()
    assert found.size == sum(path.stat().st_size for path in found.folder.iterdir())
    assert {path.name for path in found.folder.iterdir()} == {MANIFEST, "first.txt", "second.txt"}
    assert found.manifest.summary == {"rows": 3, "seconds": 0.25}
    assert found.manifest.provenance == provenance("1")
    assert set(found.manifest.files) == {"first.txt", "second.txt"}
    assert shelf.read("first.txt") == b"left "


def test_the_record_says_what_the_store_says(shelf):
    made = shelf.publish()
    row = shelf.warehouse.find_artifact(shelf.asset, CRYPTO, made.version)
    assert row is not None
    assert row["location"] == made.location
    assert row["bytes"] == made.size
    assert row["market"] == "simulated"
    assert row["run_id"] == "run-1"
    assert row["manifest"] == json.loads(shelf.read(MANIFEST))
    assert row["manifest_sha256"] == made.fingerprint


def test_what_was_never_published_is_not_found(shelf):
    assert shelf.find() is None
    with pytest.raises(ArtifactError, match=rf"is not in the store at .*--crypto {CRYPTO} --select {shelf.asset}\+"):
        shelf.store().require(shelf.asset, CRYPTO, "0" * 20)


def test_an_identical_version_is_adopted(shelf):
    first = shelf.publish("left right")
    second = shelf.publish("left right", codec=TwoFilesCodec(refuse))
    assert (second.manifest, second.fingerprint) == (first.manifest, first.fingerprint)
    assert shelf.visible() == [first.version]
    assert shelf.hidden() == []


def test_versions_stand_side_by_side(shelf):
    one, two = shelf.publish("one", "1"), shelf.publish("two", "2")
    assert {one.version, two.version} == set(shelf.visible())
    assert (one.load(), two.load()) == ("one", "two")
    assert shelf.hidden() == []


def test_what_was_published_before_the_store_moved_is_read_where_it_is(shelf, tmp_path):
    shelf.publish("left right")
    moved = ArtifactStore(tmp_path / "elsewhere", shelf.warehouse, {shelf.asset: TwoFilesCodec()})
    found = moved.find(shelf.asset, CRYPTO, provenance("1").version)
    assert found is not None
    assert found.location == shelf.location()
    assert found.load() == "left right"


# Changed afterwards


@pytest.mark.parametrize("name", ["first.txt", "second.txt"])
@pytest.mark.parametrize("change", ["flip", "append", "truncate", "remove"])
def test_a_changed_file_is_refused_on_load(shelf, name, change):
    shelf.publish()
    where, content = shelf.where(name), shelf.read(name)
    changes = {"flip": bytes([content[0] ^ 1]) + content[1:], "append": content + b" ", "truncate": b""}
    shelf.spoil(name, changes.get(change))
    found = shelf.find()
    assert found is not None
    with pytest.raises(ArtifactError) as caught:
        found.load()
    message = str(caught.value)
    assert f"{where} is not what was published" in message
    assert ("sha256 no file" in message) == (change == "remove")
    assert f"{shelf.location()}" in message
    assert f"and run `cvntrade backfill --crypto {CRYPTO} --select {shelf.asset}+`" in message


def test_the_named_remedy_works(shelf):
    shelf.publish("left right")
    shelf.spoil("first.txt", b"wrong")
    shelf.remove_version()
    assert shelf.find() is None
    # What took 0.25 s then may take longer now: the manifest is another one, and so is its checksum.
    rebuilt = shelf.store().publish(shelf.asset, CRYPTO, provenance("1"), "left right", {"seconds": 0.5}, "run-2")
    found = shelf.find()
    assert found is not None
    assert found.load() == "left right"
    assert found.manifest.summary == {"seconds": 0.5}
    row = shelf.warehouse.find_artifact(shelf.asset, CRYPTO, rebuilt.version)
    assert row is not None
    assert row["run_id"] == "run-2"


@pytest.mark.parametrize("change", ["edit", "remove"])
def test_a_changed_manifest_is_refused(shelf, change):
    shelf.publish()
    text = shelf.read(MANIFEST)
    shelf.spoil(MANIFEST, text.replace(b'"rows": 3', b'"rows": 4') if change == "edit" else None)
    with pytest.raises(ArtifactError, match=r"manifest is missing or changed.*remove (the folder|everything below)"):
        shelf.find()


def test_a_store_that_is_gone_is_not_taken_for_an_empty_one(shelf):
    shelf.publish()
    shelf.lose()
    with pytest.raises(ArtifactError, match=r"is the disk mounted|NoSuchBucket"):
        shelf.find()


def test_files_that_changed_before_they_were_recorded_are_not_adopted(shelf):
    with pytest.raises(WarehouseError):
        publish(shelf.store(warehouse=DeadWarehouse(shelf.url)), shelf.asset, "left right", "1")
    shelf.spoil("first.txt", b"wrong")
    with pytest.raises(ArtifactError, match=r"first.txt is not what was published"):
        shelf.publish("left right")
    assert shelf.find() is None


@pytest.mark.parametrize("name", ["../elsewhere.txt", "/etc/passwd", "a/b", "..", ".upload-x", "", "a\\b", "a\0b"])
def test_a_manifest_that_names_files_elsewhere_is_refused(shelf, name):
    with pytest.raises(WarehouseError):
        publish(shelf.store(warehouse=DeadWarehouse(shelf.url)), shelf.asset, "left right", "1")
    manifest = json.loads(shelf.read(MANIFEST))
    manifest["files"] = {name: "0" * 64}
    shelf.spoil(MANIFEST, json.dumps(manifest).encode())
    with pytest.raises(ArtifactError, match="expected files of its own version"):
        shelf.publish("left right")


# Crashes and others


def test_a_version_that_was_not_recorded_is_adopted_by_the_next_attempt(shelf):
    with pytest.raises(WarehouseError):
        publish(shelf.store(warehouse=DeadWarehouse(shelf.url)), shelf.asset, "left right", "1")
    assert shelf.find() is None
    shelf.publish("left right", codec=TwoFilesCodec(refuse))
    found = shelf.find()
    assert found is not None
    assert found.load() == "left right"
    assert shelf.hidden() == []


def test_an_error_of_the_codec_leaves_nothing(shelf):
    def fail() -> None:
        raise ValueError("a value that cannot be written")

    with pytest.raises(ValueError, match="cannot be written"):
        shelf.publish(codec=TwoFilesCodec(fail))
    assert shelf.visible() == []
    assert shelf.hidden() == []
    assert shelf.find() is None


def test_what_a_check_refused_is_gone_and_is_published_again(shelf):
    refused = shelf.publish("left right")
    shelf.store().discard(refused)
    assert shelf.visible() == []
    assert shelf.hidden() == []
    assert shelf.find() is None
    assert shelf.publish("right left").load() == "right left"
    found = shelf.find()
    assert found is not None
    assert found.load() == "right left"


def test_what_was_refused_twice_takes_nothing_from_what_came_after_it(shelf):
    refused, again = shelf.publish("left right"), shelf.find()
    shelf.store().discard(refused)
    shelf.store().discard(again)
    rebuilt = shelf.publish("right left")
    shelf.store().discard(again)
    assert shelf.visible() == [rebuilt.version]
    found = shelf.find()
    assert found is not None
    assert found.load() == "right left"


def test_two_processes_publish_the_same_version_at_once(shelf):
    both = FORK.Barrier(2)
    codec = TwoFilesCodec(lambda: both.wait(PATIENCE))
    # The barrier stands inside the codec: each has found nothing and is writing its own files.
    children = [in_child(lambda store: publish(store, shelf.asset, "left right", "1"), shelf, codec) for _ in range(2)]
    for child in children:
        child.join(PATIENCE)
    assert [child.exitcode for child in children] == [0, 0]
    found = shelf.find()
    assert found is not None
    assert found.load() == "left right"
    assert shelf.visible() == [found.version]
    assert shelf.hidden() == []


def test_many_processes_publish_many_versions_at_once(shelf):
    def work(store: ArtifactStore) -> None:
        for version in map(str, range(8)):
            publish(store, shelf.asset, f"value {version}", version)

    children = [in_child(work, shelf, TwoFilesCodec()) for _ in range(4)]
    for child in children:
        child.join(PATIENCE)
    assert [child.exitcode for child in children] == [0, 0, 0, 0]
    assert len(shelf.visible()) == 8
    assert shelf.hidden() == []
