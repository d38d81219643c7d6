import errno
import fcntl
import os
import resource
import shutil
import signal
import subprocess
import tempfile
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from artifact_shelves import (
    CRYPTO,
    FORK,
    PATIENCE,
    DeadWarehouse,
    FolderPlace,
    TwoFilesCodec,
    die_before,
    in_child,
    own_asset,
    provenance,
    publish,
)
from polling import until

from resources.artifacts import ArtifactError, ArtifactStore
from resources.codecs import FrameCodec
from resources.warehouse import Warehouse, WarehouseError


@pytest.fixture
def shelf(tmp_path: Path, warehouse: Warehouse, warehouse_url: str) -> FolderPlace:
    return FolderPlace(tmp_path / "artifacts", warehouse_url, warehouse, own_asset())


def test_an_identical_version_is_adopted_and_not_written_again(shelf):
    first = shelf.publish("left right")
    inodes = {path.name: path.stat().st_ino for path in first.folder.iterdir()}

    def refuse() -> None:
        raise AssertionError("nothing is to be written")

    second = shelf.publish("left right", codec=TwoFilesCodec(refuse))
    assert second.manifest == first.manifest
    assert {path.name: path.stat().st_ino for path in second.folder.iterdir()} == inodes
    assert shelf.visible() == [first.version]


# Crashes


def test_a_crash_between_rename_and_record_is_adopted_by_the_next_attempt(shelf):
    with pytest.raises(WarehouseError):
        publish(shelf.store(warehouse=DeadWarehouse(shelf.url)), shelf.asset, "left right", "1")
    assert shelf.find() is None
    written = {path: path.stat().st_mtime_ns for path in (shelf.home / provenance("1").version).iterdir()}

    def refuse() -> None:
        raise AssertionError("the files are complete")

    adopted = shelf.publish("left right", codec=TwoFilesCodec(refuse))
    assert {path: path.stat().st_mtime_ns for path in adopted.folder.iterdir()} == written
    found = shelf.find()
    assert found is not None
    assert found.load() == "left right"


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


KILLS: dict[str, Callable[[], Any]] = {
    "before the first file is complete": lambda: TwoFilesCodec(die),
    "before the manifest": lambda: die_before(None, Path, "write_text", 3, die),
    "before the first fsync": lambda: die_before(None, os, "fsync", 1, die),
    "before the last file's fsync": lambda: die_before(None, os, "fsync", 3, die),
    "before the folder's fsync": lambda: die_before(None, os, "fsync", 4, die),
    "before the rename": lambda: die_before(None, Path, "rename", 1, die),
    "after the rename": lambda: die_before(None, os, "fsync", 5, die),
    "before the record": lambda: die_before(None, Warehouse, "record_artifact", 1, die),
}


@pytest.mark.parametrize("point", KILLS)
def test_a_writer_killed_at_any_point_leaves_nothing_that_counts(shelf, point):
    def work(store: ArtifactStore) -> None:
        codec = KILLS[point]()
        publish(shelf.store(codec, store._warehouse), shelf.asset, "left right", "1")

    child = in_child(work, shelf, None)
    child.join(PATIENCE)
    assert child.exitcode == -signal.SIGKILL
    assert shelf.find() is None
    renamed = point in ("after the rename", "before the record")
    assert shelf.visible() == ([provenance("1").version] if renamed else [])
    assert len(shelf.hidden()) == (0 if renamed else 1)

    rebuilt = shelf.publish("left right")
    assert rebuilt.load() == "left right"
    found = shelf.find()
    assert found is not None
    assert found.load() == "left right"
    assert shelf.visible() == [rebuilt.version]
    assert shelf.hidden() == []


def test_a_partial_folder_of_a_dead_process_is_removed(shelf):
    dead = shelf.home / ".partial-dead"
    dead.mkdir(parents=True)
    (dead / "first.txt").write_text("le")
    shelf.publish()
    assert not dead.exists()


def test_a_live_writers_partial_folder_is_left_alone(shelf):
    go_on = FORK.Event()
    codec = TwoFilesCodec(lambda: go_on.wait(PATIENCE))
    child = in_child(lambda store: publish(store, shelf.asset, "slow one", "slow"), shelf, codec)
    until("the writer's first file", lambda: any((path / "first.txt").exists() for path in shelf.hidden()))
    [partial] = shelf.hidden()
    shelf.publish("quick one", "quick")
    assert shelf.hidden() == [partial]
    assert (partial / "first.txt").exists()
    go_on.set()
    child.join(PATIENCE)
    assert child.exitcode == 0
    found = shelf.find("slow")
    assert found is not None
    assert found.load() == "slow one"
    assert len(shelf.visible()) == 2
    assert shelf.hidden() == []


# Disks that refuse


def big_table() -> pd.DataFrame:
    return pd.DataFrame({"noise": [uuid.uuid4().hex for _ in range(20_000)]})


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount a file system")
    folder = tmp_path / "disk"
    folder.mkdir()
    answer = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", folder], check=False, capture_output=True, text=True
    )
    if answer.returncode != 0:
        pytest.skip(f"cannot mount a file system here: {answer.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def assert_refused(shelf: FolderPlace, number: int, value: object, codec: Any) -> None:
    with pytest.raises(ArtifactError) as caught:
        shelf.publish(value, codec=codec)
    message = str(caught.value)
    assert f"{shelf.asset} of {CRYPTO} could not be written to {shelf.home}" in message
    assert f"(errno {number})" in message
    assert "Nothing was published" in message
    assert shelf.visible() == []
    assert shelf.find() is None


@pytest.mark.parametrize(("codec", "value"), [(FrameCodec(), big_table), (TwoFilesCodec(), lambda: "x" * 2_000_000)])
def test_a_full_disk(small_disk, shelf, codec, value):
    full = replace(shelf, root=small_disk / "artifacts")
    assert_refused(full, errno.ENOSPC, value(), codec)
    assert full.hidden() == []
    # Room was made: the same version goes through.
    small = pd.DataFrame({"noise": [1.0]}) if isinstance(codec, FrameCodec) else "left right"
    full.publish(small, codec=codec)
    found = full.store(codec).find(full.asset, CRYPTO, provenance("1").version)
    assert found is not None
    found.verify()


def test_a_disk_that_is_full_to_the_last_byte(small_disk, shelf):
    full = replace(shelf, root=small_disk / "artifacts")
    full.home.mkdir(parents=True)
    with pytest.raises(OSError, match="No space"), (small_disk / "filler").open("wb", buffering=0) as filler:
        while filler.write(b"x" * 4096):
            pass
    assert_refused(full, errno.ENOSPC, "left right", TwoFilesCodec())
    assert full.hidden() == []


@pytest.mark.parametrize(("codec", "value"), [(FrameCodec(), big_table), (TwoFilesCodec(), lambda: "x" * 2_000_000)])
def test_a_file_larger_than_is_allowed(shelf, codec, value):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (65_536, limits[1]))
    try:
        with pytest.raises(ArtifactError, match=rf"\(errno {errno.EFBIG}\)"):
            shelf.publish(value(), codec=codec)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert shelf.visible() == []
    assert shelf.hidden() == []
    assert shelf.find() is None


@pytest.fixture
def locked_folder(shelf: FolderPlace) -> Iterator[Path]:
    """A folder that this process, as an ordinary user for as long as the test lasts, may read and not change."""
    del shelf  # whose own folder must be there before root's rights are given up
    folder = Path(tempfile.mkdtemp(prefix="cvntrade-locked-"))
    folder.chmod(0o555)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield folder
    finally:
        if root:
            os.seteuid(0)
        folder.chmod(0o755)
        shutil.rmtree(folder)


def test_a_folder_that_may_not_be_written(locked_folder, shelf):
    assert_refused(replace(shelf, root=locked_folder), errno.EACCES, "left right", TwoFilesCodec())
    assert list(locked_folder.iterdir()) == []


def test_a_file_where_a_folder_belongs(shelf):
    shelf.root.mkdir()
    (shelf.root / shelf.asset).write_text("in the way")
    with pytest.raises(ArtifactError, match="could not be written"):
        shelf.publish()


def test_the_lock_of_a_partial_folder_is_one_that_others_see(shelf):
    held = []

    def look() -> None:
        [partial] = shelf.hidden()
        descriptor = os.open(partial, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            held.append(partial)
        finally:
            os.close(descriptor)

    shelf.publish(codec=TwoFilesCodec(look))
    assert len(held) == 1
