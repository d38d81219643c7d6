"""The artifact store: immutable versions, published whole or not at all, verified before every load.

Layout: `{root}/{asset}/{crypto}/{version}/` with `manifest.json`, in a folder or in object storage. A version is
written where nobody sees it, made visible at once, and only then recorded in PostgreSQL. How is a shelf's to say:
`resources/folder_shelf.py`, `resources/bucket_shelf.py`.
"""

import hashlib
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from cvntrade_assets.operations.provenance import Provenance
from resources.artifact_manifest import MANIFEST, ArtifactError, Held, Manifest, Shelf
from resources.bucket_shelf import BucketShelf
from resources.durable_files import sha256_of
from resources.folder_shelf import FolderShelf
from resources.object_storage import ObjectStorageError, S3Address, is_address
from resources.warehouse import Warehouse

__all__ = ["MANIFEST", "Artifact", "ArtifactError", "ArtifactStore", "Codec", "Manifest", "Shelves"]

T = TypeVar("T")


class Codec(Protocol[T]):
    """Writes one asset's value as files into a folder and reads it back unchanged."""

    def write(self, folder: Path, value: T) -> None:
        """Write the value's files."""

    def read(self, folder: Path) -> T:
        """Read them back."""


class Artifact(Generic[T]):
    """A published version: knows where it is and what it is; reads and verifies its files only when asked.

    Args:
        shelf: Where it stands.
        location: Where on that shelf.
        manifest_text: Its manifest's bytes.
        codec: How its files become the value.
    """

    def __init__(self, shelf: Shelf, location: str, manifest_text: bytes, codec: Codec[T]) -> None:
        self.location = location
        self.manifest = Manifest.from_json(manifest_text.decode())
        self._shelf = shelf
        self._manifest_text = manifest_text
        self._codec = codec

    @property
    def version(self) -> str:
        """The version's hash."""
        return self.manifest.version

    @property
    def fingerprint(self) -> str:
        """The manifest's checksum: it stands for every byte of this version."""
        return hashlib.sha256(self._manifest_text).hexdigest()

    @property
    def market(self) -> str:
        """The market that the candles behind this artifact come from."""
        return self.manifest.provenance.market

    @property
    def size(self) -> int:
        """Bytes stored, manifest included."""
        return self._shelf.size(self.location, self.manifest)

    @property
    def folder(self) -> Path:
        """Its files in a folder of this machine, not verified yet; a private copy is there as long as this handle.

        Raises:
            ArtifactError: object storage did not answer.
        """
        return self._held.path

    @cached_property
    def _held(self) -> Held:
        return self._shelf.hold(self.location, self.manifest)

    def load(self) -> T:
        """The value; ArtifactError when a file's bytes are not those that were published."""
        self.verify()
        return self._codec.read(self.folder)

    def verify(self) -> None:
        """Compare every file with its checksum."""
        for name, expected in self.manifest.files.items():
            path = self.folder / name
            found = sha256_of(path) if path.exists() else "no file"
            if found != expected:
                raise ArtifactError(
                    f"{self._shelf.named(self.location, self.manifest, name)} is not what was published: sha256 "
                    f"{found}, expected {expected}. "
                    + _remedy(self._shelf, self.location, self.manifest.asset, self.manifest.crypto)
                )


class Shelves:
    """What keeps versions, by the kind of place: those that were published before the store moved stay where they are.

    Args:
        warehouse: Whose locks say which uploads are under way.
    """

    def __init__(self, warehouse: Warehouse) -> None:
        self._folders = FolderShelf()
        self._buckets = BucketShelf(warehouse)

    def at(self, location: str) -> Shelf:
        """The shelf for a location."""
        return self._buckets if is_address(location) else self._folders


class ArtifactStore:
    """Publishes and finds artifact versions under one root.

    Args:
        root: A folder, created when missing, or `s3://bucket/prefix`.
        warehouse: Where published versions are recorded.
        codecs: For every asset, how its value becomes files.

    Raises:
        ArtifactError: the root is an address, and not of object storage.
    """

    def __init__(self, root: Path | S3Address | str, warehouse: Warehouse, codecs: Mapping[str, Codec[Any]]) -> None:
        self.root = S3Address.parse(str(root)) if is_address(str(root)) else Path(str(root))
        self._shelves = Shelves(warehouse)
        self._warehouse = warehouse
        self._codecs = codecs

    def find(self, asset: str, crypto: str, version: str) -> Artifact[Any] | None:
        """A version that was published, or None; also None when somebody removed its files to have it rebuilt.

        Raises:
            ArtifactError: the version is recorded, and its manifest is not the recorded one, or the store is gone.
        """
        record = self._warehouse.find_artifact(asset, crypto, version)
        if record is None:
            return None
        location = record["location"]
        shelf = self._shelves.at(location)
        text = shelf.manifest(location)
        if text is None and shelf.is_removed(location, record["manifest"].get("upload", "")):
            return None
        if text is None or hashlib.sha256(text).hexdigest() != record["manifest_sha256"]:
            raise ArtifactError(
                f"{asset} of {crypto}, version {version}, is recorded at {location}, but its manifest is missing or "
                f"changed. If the whole store is missing, bring it back (is the disk mounted?). "
                + _remedy(shelf, location, asset, crypto)
            )
        return Artifact(shelf, location, text, self._codecs[asset])

    def require(self, asset: str, crypto: str, version: str) -> Artifact[Any]:
        """Like `find`, for a version that must exist; ArtifactError when it was never published."""
        found = self.find(asset, crypto, version)
        if found is None:
            raise ArtifactError(
                f"{asset} of {crypto}, version {version}, is not in the store at {self.root}. "
                f"Rebuild it with `cvntrade backfill --crypto {crypto} --select {asset}+`."
            )
        return found

    def publish(
        self,
        asset: str,
        crypto: str,
        provenance: Provenance,
        value: object,
        summary: Mapping[str, Any],
        run_id: str,
    ) -> Artifact[Any]:
        """Write a value as a new version, whole or not at all, and record it.

        Raises:
            ArtifactError: the storage refused (full, read-only, no rights, not there); nothing visible was written.
            WarehouseError: PostgreSQL did not answer; files that are complete are adopted by the next attempt.
        """
        home = f"{self.root}/{asset}/{crypto}"
        location = f"{home}/{provenance.version}"
        shelf = self._shelves.at(location)

        def fill(folder: Path, upload: str) -> Manifest:
            self._codecs[asset].write(folder, value)
            files = {path.name: sha256_of(path) for path in sorted(folder.iterdir())}
            manifest = Manifest(asset, crypto, provenance.version, provenance, summary, files, upload)
            (folder / MANIFEST).write_text(manifest.to_json())
            return manifest

        try:
            is_ours = shelf.manifest(location) is None and shelf.write(location, fill)
            text = shelf.manifest(location)
        except OSError as error:
            raise ArtifactError(
                f"{asset} of {crypto} could not be written to {home}: {error.strerror} (errno {error.errno}). "
                "Nothing was published and nothing changed; make room or mend the folder's rights, then run again."
            ) from error
        except ObjectStorageError as error:
            raise ArtifactError(
                f"{asset} of {crypto} could not be published: {error} The next run publishes it, or finds it complete."
            ) from error
        if text is None:
            raise ArtifactError(f"{asset} of {crypto} was removed from {location} while it was published: run again.")
        artifact = Artifact(shelf, location, text, self._codecs[asset])
        if not is_ours:
            artifact.verify()
        self._warehouse.record_artifact(
            {
                "asset": asset,
                "crypto": crypto,
                "version": provenance.version,
                "market": provenance.market,
                "location": location,
                "manifest_sha256": artifact.fingerprint,
                "bytes": artifact.size,
                "manifest": artifact.manifest.to_record(),
                "run_id": run_id,
            }
        )
        return artifact

    def discard(self, artifact: Artifact[Any]) -> None:
        """Remove a version that a check refused, so that it is computed again; its record stays until then."""
        self._shelves.at(artifact.location).discard(artifact.location, artifact.manifest)


def _remedy(shelf: Shelf, location: str, asset: str, crypto: str) -> str:
    return (
        f"Do not use it: {shelf.removal(location)} and run `cvntrade backfill --crypto {crypto} --select {asset}+`, "
        "which rebuilds it."
    )
