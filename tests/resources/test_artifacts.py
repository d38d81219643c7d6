import errno
import fcntl
import json
import multiprocessing
import os
import resource
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from cvntrade_assets.operations.provenance import Provenance
from resources.artifacts import MANIFEST, Artifact, ArtifactError, ArtifactStore
from resources.codecs import FrameCodec
from resources.warehouse import Warehouse, WarehouseError

# A forked child has everything imported already, and dies as hard as any process does.
FORK = multiprocessing.get_context("fork")
PATIENCE = 20.0
ASSET = "features"
CRYPTO = "BTCUSDC"


class TwoFilesCodec:
    """A text in two files; `between` is called when only the first is written."""

    def __init__(self, between: Callable[[], Any] = lambda: None) -> None:
        self._between = between

    def write(self, folder: Path, value: str) -> None:
        half = len(value) // 2
        (folder / "first.txt").write_text(value[:half])
        self._between()
        (folder / "second.txt").write_text(value[half:])

    def read(self, folder: Path) -> str:
        return (folder / "first.txt").read_text() + (folder / "second.txt").read_text()


@dataclass(frozen=True)
class Shelf:
    """A store in a folder of its own, and how its versions are published."""

    root: Path
    url: str
    warehouse: Warehouse
    asset: str

    def store(self, codec: Any = None, warehouse: Warehouse | None = None) -> ArtifactStore:
        return ArtifactStore(self.root, warehouse or self.warehouse, {self.asset: codec or TwoFilesCodec()})

    def publish(self, value: object = "left right", version: str = "1", codec: Any = None) -> Artifact[Any]:
        return publish(self.store(codec), self.asset, value, version)

    def find(self, version: str = "1") -> Artifact[Any] | None:
        return self.store().find(self.asset, CRYPTO, provenance(version).version)

    @property
    def home(self) -> Path:
        return self.root / self.asset / CRYPTO

    def visible(self) -> list[str]:
        return (
            [path.name for path in self.home.glob("*") if not path.name.startswith(".")] if self.home.exists() else []
        )

    def hidden(self) -> list[Path]:
        return list(self.home.glob(".*"))


def provenance(code_version: str) -> Provenance:
    return Provenance(code_version, {"candles": "c0ffee"}, {"CVN_SEED": "42"}, "simulated", {"CVN_SEED": "42"})


def publish(store: ArtifactStore, asset: str, value: object, version: str) -> Artifact[Any]:
    return store.publish(asset, CRYPTO, provenance(version), value, {"rows": 3, "seconds": 0.25}, "run-1")


@pytest.fixture
def shelf(tmp_path: Path, warehouse: Warehouse, warehouse_url: str) -> Shelf:
    # The database is the module's: every test has an asset name of its own.
    return Shelf(tmp_path / "artifacts", warehouse_url, warehouse, f"{ASSET}_{uuid.uuid4().hex[:8]}")


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"waited {PATIENCE} s for {what}"
        time.sleep(0.005)


def in_child(work: Callable[[ArtifactStore], None], shelf: Shelf, codec: Any) -> multiprocessing.process.BaseProcess:
    """Run `work` in a forked process with a database connection of its own."""

    def main() -> None:
        # Connections of the parent must not be used, nor closed, by the child.
        with closing(Warehouse(shelf.url)) as own:
            work(shelf.store(codec, own))
        os._exit(0)

    child = FORK.Process(target=main)
    child.start()
    return child


# Whole


def test_what_was_published_is_found_and_loaded(shelf):
    made = shelf.publish("left right")
    found = shelf.find()
    assert found is not None
    assert found.load() == "left right"
    assert found.manifest == made.manifest
    assert found.version == provenance("1").version
    assert found.market == "simulated"
    assert found.folder == shelf.home / found.version
    assert found.size == sum(path.stat().st_size for path in found.folder.iterdir())
    assert found.manifest.summary == {"rows": 3, "seconds": 0.25}
    assert found.manifest.provenance == provenance("1")
    assert set(found.manifest.files) == {"first.txt", "second.txt"}


def test_the_record_says_what_the_folder_says(shelf):
    made = shelf.publish()
    row = shelf.warehouse.find_artifact(shelf.asset, CRYPTO, made.version)
    assert row is not None
    assert row["location"] == str(made.folder)
    assert row["bytes"] == made.size
    assert row["market"] == "simulated"
    assert row["run_id"] == "run-1"
    assert row["manifest"] == json.loads((made.folder / MANIFEST).read_text())


def test_what_was_never_published_is_not_found(shelf):
    assert shelf.find() is None
    with pytest.raises(ArtifactError, match=rf"is not in the store at .*--crypto {CRYPTO} --select {shelf.asset}\+"):
        shelf.store().require(shelf.asset, CRYPTO, "0" * 20)


def test_an_identical_version_is_adopted_and_not_written_again(shelf):
    first = shelf.publish("left right")
    inodes = {path.name: path.stat().st_ino for path in first.folder.iterdir()}

    def refuse() -> None:
        raise AssertionError("nothing is to be written")

    second = shelf.publish("left right", codec=TwoFilesCodec(refuse))
    assert second.manifest == first.manifest
    assert {path.name: path.stat().st_ino for path in second.folder.iterdir()} == inodes
    assert shelf.visible() == [first.version]


def test_versions_stand_side_by_side(shelf):
    one, two = shelf.publish("one", "1"), shelf.publish("two", "2")
    assert {one.version, two.version} == set(shelf.visible())
    assert (one.load(), two.load()) == ("one", "two")
    assert shelf.hidden() == []


# Changed afterwards


@pytest.mark.parametrize("name", ["first.txt", "second.txt"])
@pytest.mark.parametrize("change", ["flip", "append", "truncate", "remove"])
def test_a_changed_file_is_refused_on_load(shelf, name, change):
    path = shelf.publish().folder / name
    content = path.read_bytes()
    if change == "remove":
        path.unlink()
    else:
        path.write_bytes(
            {"flip": bytes([content[0] ^ 1]) + content[1:], "append": content + b" ", "truncate": b""}[change]
        )
    found = shelf.find()
    assert found is not None
    with pytest.raises(ArtifactError) as caught:
        found.load()
    message = str(caught.value)
    assert f"{path} is not what was published" in message
    assert f"remove the folder {path.parent} and run `cvntrade backfill --crypto {CRYPTO}" in message


def test_the_named_remedy_works(shelf):
    broken = shelf.publish("left right").folder
    (broken / "first.txt").write_text("wrong")
    shutil.rmtree(broken)
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
    manifest = shelf.publish().folder / MANIFEST
    if change == "edit":
        manifest.write_text(manifest.read_text().replace('"rows": 3', '"rows": 4'))
    else:
        manifest.unlink()
    with pytest.raises(ArtifactError, match=r"manifest is missing or changed.*remove the folder"):
        shelf.find()


def test_a_store_that_is_gone_is_not_taken_for_an_empty_one(shelf):
    shelf.publish()
    shelf.root.rename(shelf.root.with_name("unmounted"))
    with pytest.raises(ArtifactError, match="is the disk mounted"):
        shelf.find()


def test_files_that_changed_before_they_were_recorded_are_not_adopted(shelf):
    with pytest.raises(WarehouseError):
        publish(shelf.store(warehouse=DeadWarehouse(shelf.url)), shelf.asset, "left right", "1")
    (shelf.home / provenance("1").version / "first.txt").write_text("wrong")
    with pytest.raises(ArtifactError, match=r"first.txt is not what was published"):
        shelf.publish("left right")
    assert shelf.find() is None


# Crashes


class DeadWarehouse(Warehouse):
    """A warehouse that dies just before it records."""

    def record_artifact(self, row: Any) -> None:
        raise WarehouseError("PostgreSQL did not answer")


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


def test_an_error_of_the_codec_leaves_nothing(shelf):
    def fail() -> None:
        raise ValueError("a value that cannot be written")

    with pytest.raises(ValueError, match="cannot be written"):
        shelf.publish(codec=TwoFilesCodec(fail))
    assert list(shelf.home.iterdir()) == []
    assert shelf.find() is None


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_before(module: Any, name: str, call: int) -> None:
    """Replace a function, in this process, by one that is killed at its nth call."""
    real, calls = getattr(module, name), iter(range(1, 1_000))

    def counted(*args: Any, **kwargs: Any) -> Any:
        if next(calls) == call:
            die()
        return real(*args, **kwargs)

    setattr(module, name, counted)


KILLS: dict[str, Callable[[], Any]] = {
    "before the first file is complete": lambda: TwoFilesCodec(die),
    "before the manifest": lambda: die_before(Path, "write_text", 3),
    "before the first fsync": lambda: die_before(os, "fsync", 1),
    "before the last file's fsync": lambda: die_before(os, "fsync", 3),
    "before the folder's fsync": lambda: die_before(os, "fsync", 4),
    "before the rename": lambda: die_before(Path, "rename", 1),
    "after the rename": lambda: die_before(os, "fsync", 5),
    "before the record": lambda: die_before(Warehouse, "record_artifact", 1),
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
    until(lambda: any((path / "first.txt").exists() for path in shelf.hidden()), "the writer's first file")
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


def assert_refused(shelf: Shelf, number: int, value: object, codec: Any) -> None:
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
def locked_folder(shelf: Shelf) -> Iterator[Path]:
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
