"""The artifact store: immutable versions on disk, published whole or not at all, verified before every load.

Layout: `{root}/{asset}/{crypto}/{version}/`, a folder with the payload files and `manifest.json`. A version is written
under a hidden temporary name, every file is fsynced, the folder is renamed, and only then is it recorded in
PostgreSQL. A crash leaves at most a hidden folder, which the next publication of the same crypto removes.
"""

import fcntl
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from cvntrade_assets.operations.provenance import Provenance
from resources.warehouse import Warehouse

T = TypeVar("T")

MANIFEST = "manifest.json"
_PARTIAL = ".partial-"


class ArtifactError(RuntimeError):
    """An artifact could not be written or is not what was published; says which, why and what to do."""


class Codec(Protocol[T]):
    """Writes one asset's value as files into a folder and reads it back unchanged."""

    def write(self, folder: Path, value: T) -> None:
        """Write the value's files."""

    def read(self, folder: Path) -> T:
        """Read them back."""


@dataclass(frozen=True)
class Manifest:
    """What stands in `manifest.json`: identity, provenance, a summary for people, and every file's checksum."""

    asset: str
    crypto: str
    version: str
    provenance: Provenance
    summary: Mapping[str, Any]
    files: Mapping[str, str]

    def to_json(self) -> str:
        """The manifest as stable text."""
        return json.dumps(asdict(self), sort_keys=True, indent=1)

    @classmethod
    def from_json(cls, text: str) -> "Manifest":
        """Read a manifest back."""
        raw = json.loads(text)
        return cls(**{**raw, "provenance": Provenance(**raw["provenance"])})


class Artifact(Generic[T]):
    """A published version: knows where it is and what it is; reads and verifies its files only when asked."""

    def __init__(self, folder: Path, manifest: Manifest, codec: Codec[T]) -> None:
        self.folder = folder
        self.manifest = manifest
        self._codec = codec

    @property
    def version(self) -> str:
        """The version's hash."""
        return self.manifest.version

    @property
    def fingerprint(self) -> str:
        """The manifest's checksum: it stands for every byte of this version."""
        return _sha256(self.folder / MANIFEST)

    @property
    def market(self) -> str:
        """The market that the candles behind this artifact come from."""
        return self.manifest.provenance.market

    @property
    def size(self) -> int:
        """Bytes on disk, manifest included."""
        return sum(path.stat().st_size for path in self.folder.iterdir())

    def load(self) -> T:
        """The value; ArtifactError when a file's bytes are not those that were published."""
        self.verify()
        return self._codec.read(self.folder)

    def verify(self) -> None:
        """Compare every file with its checksum."""
        for name, expected in self.manifest.files.items():
            path = self.folder / name
            found = _sha256(path) if path.exists() else "no file"
            if found != expected:
                raise ArtifactError(
                    f"{path} is not what was published: sha256 {found}, expected {expected}. "
                    + _remedy(self.folder, self.manifest.asset, self.manifest.crypto)
                )


class ArtifactStore:
    """Publishes and finds artifact versions under one local root.

    Args:
        root: Folder of the store; created when missing.
        warehouse: Where published versions are recorded.
        codecs: For every asset, how its value becomes files.
    """

    def __init__(self, root: Path, warehouse: Warehouse, codecs: Mapping[str, Codec[Any]]) -> None:
        self.root = root
        self._warehouse = warehouse
        self._codecs = codecs

    def find(self, asset: str, crypto: str, version: str) -> Artifact[Any] | None:
        """A version that was published, or None; also None when somebody removed its folder to have it rebuilt.

        Raises:
            ArtifactError: the version is recorded, and its manifest is not the recorded one, or the store is gone.
        """
        record = self._warehouse.find_artifact(asset, crypto, version)
        if record is None:
            return None
        folder = Path(record["location"])
        if not folder.exists() and folder.parent.exists():
            return None
        manifest_path = folder / MANIFEST
        if not manifest_path.exists() or _sha256(manifest_path) != record["manifest_sha256"]:
            raise ArtifactError(
                f"{asset} of {crypto}, version {version}, is recorded at {folder}, but its manifest is missing or "
                f"changed. If the whole store is missing, bring it back (is the disk mounted?). "
                + _remedy(folder, asset, crypto)
            )
        return Artifact(folder, Manifest.from_json(manifest_path.read_text()), self._codecs[asset])

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
            ArtifactError: the disk refused (full, read-only, no rights); nothing visible was written.
            WarehouseError: PostgreSQL did not answer; the files are complete and adopted by the next attempt.
        """
        version = provenance.version
        home = self.root / asset / crypto
        final = home / version
        try:
            if not (final / MANIFEST).exists():
                self._write(home, final, value, (asset, crypto, version, provenance, summary))
        except OSError as error:
            raise ArtifactError(
                f"{asset} of {crypto} could not be written to {home}: {error.strerror} (errno {error.errno}). "
                "Nothing was published and nothing changed; make room or mend the folder's rights, then run again."
            ) from error
        artifact = Artifact(final, Manifest.from_json((final / MANIFEST).read_text()), self._codecs[asset])
        artifact.verify()
        self._warehouse.record_artifact(
            {
                "asset": asset,
                "crypto": crypto,
                "version": version,
                "market": provenance.market,
                "location": str(final),
                "manifest_sha256": _sha256(final / MANIFEST),
                "bytes": artifact.size,
                "manifest": asdict(artifact.manifest),
                "run_id": run_id,
            }
        )
        return artifact

    def discard(self, artifact: Artifact[Any]) -> None:
        """Remove a version that a check refused, so that it is computed again; its record stays until then."""
        refused = artifact.folder.with_name(f"{_PARTIAL}{uuid.uuid4().hex}")
        artifact.folder.rename(refused)
        shutil.rmtree(refused)

    def _write(self, home: Path, final: Path, value: object, identity: tuple[Any, ...]) -> None:
        asset, crypto, version, provenance, summary = identity
        home.mkdir(parents=True, exist_ok=True)
        with _partial_folder(home) as partial:
            self._codecs[asset].write(partial, value)
            files = {path.name: _sha256(path) for path in sorted(partial.iterdir())}
            manifest = Manifest(asset, crypto, version, provenance, summary, files)
            (partial / MANIFEST).write_text(manifest.to_json())
            for path in partial.iterdir():
                _fsync(path)
            _fsync(partial)
            try:
                partial.rename(final)
            except OSError:
                # Another process published this very version meanwhile: its files are adopted.
                if not (final / MANIFEST).exists():
                    raise
        _fsync(home)


@contextmanager
def _partial_folder(home: Path) -> Iterator[Path]:
    """A hidden folder locked by this process while it is written; removed when it was not renamed."""
    partial = home / f"{_PARTIAL}{uuid.uuid4().hex}"
    with _locked(home):
        # One at a time: a new folder that is not locked yet looks abandoned.
        _remove_abandoned(home)
        partial.mkdir()
        descriptor = os.open(partial, os.O_RDONLY)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        yield partial
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        os.close(descriptor)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold a folder's lock; the system releases it when this process ends, however it ends."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _remove_abandoned(home: Path) -> None:
    """Remove what a killed process left: a hidden folder whose lock nobody holds."""
    for partial in home.glob(f"{_PARTIAL}*"):
        try:
            descriptor = os.open(partial, os.O_RDONLY)
        except FileNotFoundError:
            # Published meanwhile.
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        else:
            shutil.rmtree(partial, ignore_errors=True)
        finally:
            os.close(descriptor)


def _remedy(folder: Path, asset: str, crypto: str) -> str:
    return (
        f"Do not use it: remove the folder {folder} and run `cvntrade backfill --crypto {crypto} --select {asset}+`, "
        "which rebuilds it."
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
