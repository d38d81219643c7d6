"""Artifact stores for tests, in a folder and in a bucket, with ways to look at what stands there and to spoil it."""

import json
import multiprocessing
import os
import uuid
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from s3_server import client, everything_in

from cvntrade_assets.operations.provenance import Provenance
from resources.artifacts import MANIFEST, Artifact, ArtifactStore
from resources.object_storage import S3Address
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


class DeadWarehouse(Warehouse):
    """A warehouse that dies just before it records."""

    def record_artifact(self, row: Any) -> None:
        raise WarehouseError("PostgreSQL did not answer")


def provenance(code_version: str) -> Provenance:
    return Provenance(code_version, {"candles": "c0ffee"}, {"CVN_SEED": "42"}, "simulated", {"CVN_SEED": "42"})


def publish(store: ArtifactStore, asset: str, value: object, version: str) -> Artifact[Any]:
    return store.publish(asset, CRYPTO, provenance(version), value, {"rows": 3, "seconds": 0.25}, "run-1")


@dataclass(frozen=True)
class Place:
    """A store at a place of its own, and how its versions are published."""

    root: Path | S3Address
    url: str
    warehouse: Warehouse
    asset: str

    def store(self, codec: Any = None, warehouse: Warehouse | None = None) -> ArtifactStore:
        return ArtifactStore(self.root, warehouse or self.warehouse, {self.asset: codec or TwoFilesCodec()})

    def publish(self, value: object = "left right", version: str = "1", codec: Any = None) -> Artifact[Any]:
        return publish(self.store(codec), self.asset, value, version)

    def find(self, version: str = "1") -> Artifact[Any] | None:
        return self.store().find(self.asset, CRYPTO, provenance(version).version)

    def location(self, version: str = "1") -> str:
        return f"{self.root}/{self.asset}/{CRYPTO}/{provenance(version).version}"


class FolderPlace(Place):
    """A store in a folder."""

    root: Path

    @property
    def home(self) -> Path:
        return self.root / self.asset / CRYPTO

    def visible(self) -> list[str]:
        """Versions that a reader would see."""
        return [each.name for each in self.home.glob("*") if each.name[0] != "."] if self.home.exists() else []

    def hidden(self) -> list[Path]:
        """What is under way, or was left."""
        return list(self.home.glob(".*"))

    def where(self, name: str, version: str = "1") -> str:
        return f"{self.location(version)}/{name}"

    def read(self, name: str, version: str = "1") -> bytes:
        return Path(self.where(name, version)).read_bytes()

    def spoil(self, name: str, content: bytes | None, version: str = "1") -> None:
        """Put something else in a file's place, or nothing."""
        path = Path(self.where(name, version))
        path.unlink() if content is None else path.write_bytes(content)

    def remove_version(self, version: str = "1") -> None:
        """What an error message tells an operator to do."""
        for path in Path(self.location(version)).iterdir():
            path.unlink()
        Path(self.location(version)).rmdir()

    def lose(self) -> None:
        """The disk is gone."""
        self.root.rename(self.root.with_name("unmounted"))


class BucketPlace(Place):
    """A store in object storage."""

    root: S3Address

    @property
    def home(self) -> S3Address:
        return self.root / self.asset / CRYPTO

    def objects(self) -> dict[str, bytes]:
        """Every object of this asset, by what follows the crypto in its key."""
        start = f"{self.home.key}/"
        found = everything_in(self.root.bucket)
        return {key.removeprefix(start): each for key, each in found.items() if key.startswith(start)}

    def visible(self) -> list[str]:
        """Versions that a reader would see."""
        return _versions(self.objects())

    def hidden(self) -> list[str]:
        """What is under way, or was left: what no manifest names."""
        objects = self.objects()
        counted = set()
        for version in _versions(objects):
            manifest = json.loads(objects[f"{version}/{MANIFEST}"])
            names = [MANIFEST, *(f"{manifest['upload']}/{name}" for name in manifest["files"])]
            counted |= {f"{version}/{name}" for name in names}
        parts = client().list_multipart_uploads(Bucket=self.root.bucket).get("Uploads", [])
        return sorted(set(objects) - counted) + [each["Key"] for each in parts]

    def where(self, name: str, version: str = "1") -> str:
        location = S3Address.parse(self.location(version))
        if name == MANIFEST:
            return str(location / MANIFEST)
        manifest = client().get_object(Bucket=location.bucket, Key=(location / MANIFEST).key)["Body"].read()
        return str(location / json.loads(manifest)["upload"] / name)

    def read(self, name: str, version: str = "1") -> bytes:
        return everything_in(self.root.bucket)[S3Address.parse(self.where(name, version)).key]

    def spoil(self, name: str, content: bytes | None, version: str = "1") -> None:
        """Put something else in an object's place, or nothing."""
        key = S3Address.parse(self.where(name, version)).key
        if content is None:
            client().delete_object(Bucket=self.root.bucket, Key=key)
        else:
            client().put_object(Bucket=self.root.bucket, Key=key, Body=content)

    def remove_version(self, version: str = "1") -> None:
        """What an error message tells an operator to do."""
        home = f"{provenance(version).version}/"
        for key in self.objects():
            if key.startswith(home):
                client().delete_object(Bucket=self.root.bucket, Key=f"{self.home.key}/{key}")

    def lose(self) -> None:
        """The bucket is gone."""
        for key in everything_in(self.root.bucket):
            client().delete_object(Bucket=self.root.bucket, Key=key)
        client().delete_bucket(Bucket=self.root.bucket)


def _versions(objects: Iterable[str]) -> list[str]:
    """The versions that have a manifest."""
    return [key.partition("/")[0] for key in objects if key.endswith(f"/{MANIFEST}")]


def own_asset() -> str:
    """The database is the module's: every test has an asset name of its own."""
    return f"{ASSET}_{uuid.uuid4().hex[:8]}"


def in_child(work: Callable[[ArtifactStore], None], place: Place, codec: Any) -> multiprocessing.process.BaseProcess:
    """Run `work` in a forked process with a database connection of its own."""

    def main() -> None:
        # Connections of the parent must not be used, nor closed, by the child.
        with closing(Warehouse(place.url)) as own:
            work(place.store(codec, own))
        os._exit(0)

    child = FORK.Process(target=main)
    child.start()
    return child


def die_before(patch: pytest.MonkeyPatch | None, owner: Any, name: str, call: int, act: Callable[[], None]) -> None:
    """Replace a function by one that acts just before its nth call; without a patch, for good (in a child)."""
    real, calls = getattr(owner, name), iter(range(1, 1_000))

    def counted(*args: Any, **kwargs: Any) -> Any:
        if next(calls) == call:
            act()
        return real(*args, **kwargs)

    (setattr if patch is None else patch.setattr)(owner, name, counted)
