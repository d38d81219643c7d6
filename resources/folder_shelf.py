"""Artifact versions on a local or shared disk.

A version is written under a hidden temporary name, every file is fsynced, and the folder is renamed. A crash leaves at
most a hidden folder, which the next publication of the same crypto removes.
"""

import fcntl
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from resources.artifact_manifest import MANIFEST, Fill, Manifest
from resources.durable_files import fsync

_PARTIAL = ".partial-"


@dataclass(frozen=True)
class _Standing:
    """Files where they were published."""

    path: Path


class FolderShelf:
    """Versions as folders; a location is a path."""

    def manifest(self, location: str) -> bytes | None:
        """The manifest's bytes; None when there is none."""
        try:
            return (Path(location) / MANIFEST).read_bytes()
        except FileNotFoundError:
            return None

    def is_removed(self, location: str, upload: str) -> bool:
        """Whether the version's folder is gone, and not the disk that it stood on."""
        del upload
        folder = Path(location)
        return not folder.exists() and folder.parent.exists()

    def write(self, location: str, fill: Fill) -> bool:
        """Publish by renaming; the bytes have not been read back."""
        final = Path(location)
        home = final.parent
        home.mkdir(parents=True, exist_ok=True)
        with _partial_folder(home) as partial:
            fill(partial, "")
            for path in partial.iterdir():
                fsync(path)
            fsync(partial)
            try:
                partial.rename(final)
            except OSError:
                # Another process published this very version meanwhile: its files are adopted.
                if not (final / MANIFEST).exists():
                    raise
        fsync(home)
        return False

    def hold(self, location: str, manifest: Manifest) -> _Standing:
        """The files where they stand."""
        del manifest
        return _Standing(Path(location))

    def named(self, location: str, manifest: Manifest, name: str) -> str:
        """The file's path."""
        del manifest
        return str(Path(location) / name)

    def removal(self, location: str) -> str:
        """How somebody removes the folder."""
        return f"remove the folder {location}"

    def size(self, location: str, manifest: Manifest) -> int:
        """Bytes on disk."""
        del manifest
        return sum(path.stat().st_size for path in Path(location).iterdir())

    def discard(self, location: str, manifest: Manifest) -> None:
        """Hide the folder at once, then remove it; one that holds something else by now is not ours to remove."""
        text = self.manifest(location)
        if text is None or Manifest.from_json(text.decode()) != manifest:
            return
        folder = Path(location)
        refused = folder.with_name(f"{_PARTIAL}{uuid.uuid4().hex}")
        try:
            folder.rename(refused)
        except FileNotFoundError:
            # Another run refused it too, and was quicker.
            return
        shutil.rmtree(refused, ignore_errors=True)


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
