"""Where the exchange's archive files are read from: a folder, or a web address."""

from pathlib import Path
from types import TracebackType
from typing import Protocol, Self
from urllib.parse import urlsplit
from urllib.request import url2pathname

from resources.exchange_http import MarketError, Patience, PoliteClient, Surroundings

SETTING = "CVN_BINANCE_ARCHIVE_URL"


class ArchiveUnreadable(MarketError):
    """The archive folder, or a file in it, is there in name only."""


class Archive(Protocol):
    """A place with archive files; use it as a context manager.

    Attributes:
        requests: How many times a file was asked for.
    """

    requests: int

    def __enter__(self) -> Self:
        """Nothing is opened before the first file."""
        ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close what was opened."""
        ...

    def read(self, path: str, max_bytes: int) -> bytes | None:
        """The file's bytes, cut off one byte after `max_bytes`; None when there is no such file."""
        ...


class FolderArchive:
    """Archive files in a local folder."""

    def __init__(self, folder: Path) -> None:
        self.requests = 0
        self._folder = folder

    def __enter__(self) -> Self:
        """Make sure that the folder exists: a wrong path must not look like an empty archive.

        Raises:
            ArchiveUnreadable: It does not.
        """
        if not self._folder.is_dir():
            raise ArchiveUnreadable(f"the archive folder {self._folder} is no folder: set {SETTING} to one")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing stays open."""

    def read(self, path: str, max_bytes: int) -> bytes | None:
        """The file's bytes, cut off one byte after `max_bytes`; None when there is no such file.

        Raises:
            ArchiveUnreadable: The file exists and cannot be read.
        """
        self.requests += 1
        try:
            with (self._folder / path).open("rb") as file:
                return file.read(max_bytes + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ArchiveUnreadable(f"archive file {self._folder / path} cannot be read: {error}") from error


class WebArchive(PoliteClient):
    """Archive files behind a web address."""

    def read(self, path: str, max_bytes: int) -> bytes | None:
        """The file's bytes, cut off one byte after `max_bytes`; None when the answer is 404.

        Raises:
            MarketError: As `PoliteClient.get`.
        """
        answer = self.get(path, max_bytes=max_bytes, missing_ok=True)
        return None if answer.status == 404 else answer.body


def archive_folder(url: str) -> Path | None:
    """The folder that an archive URL means (`file://…` or a bare path); None when it is a web address.

    Raises:
        ValueError: Neither a folder nor a web address.
    """
    parts = urlsplit(url)
    if parts.scheme in ("http", "https") and parts.netloc:
        return None
    if parts.scheme == "file" and parts.netloc in ("", "localhost") and parts.path:
        return Path(url2pathname(parts.path))
    if url and "://" not in url:
        return Path(url).expanduser()
    raise ValueError(f"{SETTING} is {url!r}: expected https://…, file:///… or the path of a folder")


def open_archive(url: str, user_agent: str, patience: Patience, around: Surroundings) -> Archive:
    """The archive at `url`, not yet entered."""
    folder = archive_folder(url)
    return WebArchive(url, user_agent, patience, around) if folder is None else FolderArchive(folder)
