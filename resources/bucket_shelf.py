"""Artifact versions in object storage, which knows no renaming and no locks of its own.

    {asset}/{crypto}/{version}/.upload-{id}/{file}     uploaded under a name of its own, with checksums
    {asset}/{crypto}/{version}/manifest.json           written last and only once: it names the upload that counts
    {asset}/{crypto}/.writing/{version}/.upload-{id}   there while the upload is under way, or was given up

Whoever uploads holds a lock in PostgreSQL, which ends with its process, however that ends. The next publication of the
same crypto removes an upload whose lock nobody holds and that no manifest names. Two at once: the second one's manifest
is refused by the storage, and the first one's version adopted.
"""

import shutil
import tempfile
import uuid
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa

from resources.artifact_manifest import MANIFEST, ArtifactError, Fill, Manifest
from resources.object_storage import ObjectStorage, S3Address
from resources.warehouse import Warehouse

_UPLOAD = ".upload-"
_WRITING = ".writing"
_LOCK = sa.text("select pg_advisory_xact_lock(hashtextextended(:upload, 0))")
_TRY_LOCK = sa.text("select pg_try_advisory_xact_lock(hashtextextended(:upload, 0))")
# The session is idle for as long as the upload takes: no limit of the server's on that may end it and its lock.
_NO_LIMIT = sa.text("set local idle_in_transaction_session_timeout = 0")
_STILL_LOCKED = sa.text("select 1")


class _PrivateCopy:
    """A folder that only this user may enter, removed when nobody holds it any more."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="cvntrade-artifact-"))
        self._remove = weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)


class BucketShelf:
    """Versions as objects; a location is `s3://bucket/prefix/{asset}/{crypto}/{version}`.

    Args:
        warehouse: Whose locks say which uploads are under way.
    """

    def __init__(self, warehouse: Warehouse) -> None:
        self._warehouse = warehouse
        self._storage = ObjectStorage()

    def manifest(self, location: str) -> bytes | None:
        """The manifest's bytes; None when there is none."""
        return self._storage.get(S3Address.parse(location) / MANIFEST)

    def is_removed(self, location: str, upload: str) -> bool:
        """Whether none of the version's files is left either."""
        return next(self._storage.listed(_files(S3Address.parse(location), upload)), None) is None

    def write(self, location: str, fill: Fill) -> bool:
        """Publish by a manifest that comes last; True when it is ours."""
        version = S3Address.parse(location)
        upload = f"{_UPLOAD}{uuid.uuid4().hex}"
        with _room_for(version), tempfile.TemporaryDirectory(prefix="cvntrade-publish-") as scratch:
            folder = Path(scratch)
            manifest = fill(folder, upload)
            with self._warehouse.begin() as session:
                session.execute(_NO_LIMIT)
                # Locked before anything of it is there, so that nobody takes it for given up.
                session.execute(_LOCK, {"upload": str(version / upload)})
                self._remove_abandoned(session, version.parent)
                self._storage.put(_note(version, upload), b"")
                for name, sha256 in manifest.files.items():
                    self._storage.upload(folder / name, version / upload / name, sha256)
                # Had PostgreSQL gone away meanwhile, somebody else might have removed these files.
                session.execute(_STILL_LOCKED)
                is_ours = self._storage.put_first(version / MANIFEST, manifest.to_json().encode())
                if not is_ours:
                    self._storage.remove_folder(version / upload)
                self._storage.remove([_note(version, upload)])
        return is_ours

    def hold(self, location: str, manifest: Manifest) -> _PrivateCopy:
        """Download what is there; a file that is missing is missing in the copy too."""
        version = S3Address.parse(location)
        with _room_for(version):
            copy = _PrivateCopy()
            self._storage.download(version / MANIFEST, copy.path / MANIFEST)
            for name in manifest.files:
                self._storage.download(_files(version, manifest.upload) / name, copy.path / name)
        return copy

    def named(self, location: str, manifest: Manifest, name: str) -> str:
        """The object's address."""
        return str(_files(S3Address.parse(location), manifest.upload) / name)

    def removal(self, location: str) -> str:
        """How somebody removes all of the version's objects."""
        return f"remove everything below {location}/ (`aws s3 rm --recursive {location}/`)"

    def size(self, location: str, manifest: Manifest) -> int:
        """Bytes of the objects."""
        version = S3Address.parse(location)
        counted = {version / MANIFEST, *(_files(version, manifest.upload) / name for name in manifest.files)}
        return sum(each.size for each in self._storage.listed(version) if each.address in counted)

    def discard(self, location: str, manifest: Manifest) -> None:
        """Remove the manifest, and then what it named; one that names another upload by now is not ours to remove."""
        version, upload = S3Address.parse(location), manifest.upload
        with self._warehouse.begin() as session:
            # While this manifest stands nobody writes another, and it is removed under this lock only.
            session.execute(_LOCK, {"upload": str(version / upload)})
            text = self.manifest(location)
            if text is None or Manifest.from_json(text.decode()).upload != upload:
                return
            self._storage.put(_note(version, upload), b"")
            self._storage.remove([version / MANIFEST])
            self._storage.remove([_files(version, upload) / name for name in manifest.files])
            self._storage.remove([_note(version, upload)])

    def _remove_abandoned(self, session: sa.Connection, home: S3Address) -> None:
        """Remove what a killed process left: uploads that are noted, not locked, and that no manifest names."""
        for note in [each.address for each in self._storage.listed(home / _WRITING)]:
            upload, version = note.name, home / note.parent.name
            if not session.scalar(_TRY_LOCK, {"upload": str(version / upload)}):
                continue
            text = self._storage.get(version / MANIFEST)
            if text is None or Manifest.from_json(text.decode()).upload != upload:
                self._storage.remove_folder(version / upload)
            self._storage.remove([note])


@contextmanager
def _room_for(version: S3Address) -> Iterator[None]:
    """Say of an error of this machine's disk that it is this machine's, and not the storage's."""
    try:
        yield
    except OSError as error:
        raise ArtifactError(
            f"{version} needs room in {tempfile.gettempdir()} on its way: {error.strerror} (errno {error.errno}). "
            "Nothing was published and nothing changed; make room there, or name a larger folder with TMPDIR (a pod: "
            "a larger volume at /tmp), then run again."
        ) from error


def _files(version: S3Address, upload: str) -> S3Address:
    # A version that somebody copied from a folder has its files beside its manifest.
    return version / upload if upload else version


def _note(version: S3Address, upload: str) -> S3Address:
    return version.parent / _WRITING / version.name / upload
