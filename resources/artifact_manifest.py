"""What every artifact version is, wherever it stands: its manifest, and what a shelf for versions can do."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from cvntrade_assets.operations.provenance import Provenance

MANIFEST = "manifest.json"
FILE_NAME = re.compile(r"[^./\\\x00-\x1f][^/\\\x00-\x1f]*")
"""A name in a version's place: it goes into paths and keys, and leads neither above them nor below."""

_UPLOAD_NAME = re.compile(r"(\.upload-[0-9a-f]{32})?")


class ArtifactError(RuntimeError):
    """An artifact could not be written or is not what was published; says which, why and what to do."""


@dataclass(frozen=True)
class Manifest:
    """What stands in `manifest.json`: identity, provenance, a summary for people, and every file's checksum.

    Attributes:
        asset: Whose value it is.
        crypto: The partition.
        version: The hash of the provenance.
        provenance: What it was made from, and with.
        summary: Facts for people and for planning.
        files: SHA-256 by name.
        upload: In object storage, the hidden folder beside the manifest that holds the files; else empty.
    """

    asset: str
    crypto: str
    version: str
    provenance: Provenance
    summary: Mapping[str, Any]
    files: Mapping[str, str]
    upload: str = ""

    def to_record(self) -> dict[str, Any]:
        """The manifest as plain values."""
        record = asdict(self)
        if not self.upload:
            del record["upload"]
        return record

    def to_json(self) -> str:
        """The manifest as stable text."""
        return json.dumps(self.to_record(), sort_keys=True, indent=1)

    @classmethod
    def from_json(cls, text: str) -> "Manifest":
        """Read a manifest back.

        Raises:
            ArtifactError: it names a file that lies elsewhere.
        """
        raw = json.loads(text)
        manifest = cls(**{**raw, "provenance": Provenance(**raw["provenance"])})
        strays = [name for name in manifest.files if not FILE_NAME.fullmatch(name)]
        if strays or not _UPLOAD_NAME.fullmatch(manifest.upload):
            raise ArtifactError(
                f"the manifest of {manifest.asset} of {manifest.crypto}, version {manifest.version}, names "
                f"{strays or manifest.upload!r}, expected files of its own version. Nobody wrote that by publishing: "
                "find out who did, and remove the version."
            )
        return manifest


class Held(Protocol):
    """A version's files at hand; those of a private copy are removed when nobody holds it any more."""

    @property
    def path(self) -> Path:
        """The folder that they stand in, with the manifest."""


Fill = Callable[[Path, str], Manifest]
"""Writes a version's files and its manifest into a folder; told the name of the upload that they will be part of."""


class Shelf(Protocol):
    """Where versions stand, each at a location: a folder's path, or an address in object storage.

    Every method raises ArtifactError when the storage does not answer or refuses.
    """

    def manifest(self, location: str) -> bytes | None:
        """The manifest's bytes; None when there is none."""

    def is_removed(self, location: str, upload: str) -> bool:
        """Whether a version without a manifest was removed as a whole, and not damaged.

        Args:
            location: Of the version.
            upload: As its manifest said when it was recorded.
        """

    def write(self, location: str, fill: Fill) -> bool:
        """Publish a version, whole or not at all; one that somebody else published meanwhile is adopted.

        Returns:
            Whether what stands there now was written by this call and found complete, byte for byte.

        Raises:
            OSError: this machine's disk refused.
        """

    def hold(self, location: str, manifest: Manifest) -> Held:
        """The files, as far as they are there, in a folder of this machine."""

    def named(self, location: str, manifest: Manifest, name: str) -> str:
        """Where one of the files stands, for people."""

    def removal(self, location: str) -> str:
        """What somebody does to remove a version, in the imperative."""

    def size(self, location: str, manifest: Manifest) -> int:
        """Bytes stored, manifest included."""

    def discard(self, location: str, manifest: Manifest) -> None:
        """Remove a version, at first what makes it visible; nothing when another stands there by now, or none."""
