"""What runs print, in object storage: captured and masked in a private folder, then sent.

While a run goes on, what it has printed so far is sent every few seconds, so that the UI shows it and what a killed pod
printed last is not lost. Logs never fail a run: one that cannot be sent is said in the worker's own output.
"""

import math
import shutil
import sys
import tempfile
import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Self

import dagster as dg
from dagster._config.config_schema import UserConfigSchema
from dagster._core.storage.cloud_storage_compute_log_manager import (
    PollingComputeLogSubscriptionManager,
    TruncatingCloudStorageComputeLogManager,
)
from dagster._core.storage.compute_log_manager import CapturedLogContext, CapturedLogSubscription, ComputeIOType
from dagster._core.storage.local_compute_log_manager import IO_TYPE_EXTENSION
from dagster._serdes import ConfigurableClass, ConfigurableClassData

from resources.compute_logs import MaskedComputeLogManager
from resources.object_storage import ObjectStorage, ObjectStorageError, S3Address

UPLOAD_SECONDS = 20.0
# More of one stream than this is not asked for at once.
_READ_BYTES = 4 * 1024 * 1024
_PARTIAL = ".partial"


class BucketComputeLogManager(TruncatingCloudStorageComputeLogManager[dg.DagsterInstance], ConfigurableClass):
    """Standard output and error of a step in an object each.

    Args:
        base_dir: `s3://bucket/prefix`.
        polling_timeout: Seconds after which a run that goes on sends what it has printed.
        inst_data: Dagster's record of this configuration.
    """

    def __init__(
        self, base_dir: str, polling_timeout: float | None = None, inst_data: ConfigurableClassData | None = None
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._root = S3Address.parse(base_dir)
        self._upload_seconds = UPLOAD_SECONDS if polling_timeout is None else polling_timeout
        self._inst_data = inst_data
        self._storage = ObjectStorage()
        self._folder = Path(tempfile.mkdtemp(prefix="cvntrade-logs-"))
        self._remove_folder = weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        self._local = MaskedComputeLogManager(str(self._folder))
        self._subscriptions = PollingComputeLogSubscriptionManager(self)  # type: ignore[no-untyped-call]

    @property
    def inst_data(self) -> ConfigurableClassData | None:
        """Dagster's record of this configuration."""
        return self._inst_data

    @classmethod
    def config_type(cls) -> UserConfigSchema:
        """What dagster.yaml may say: what it may for a folder."""
        return MaskedComputeLogManager.config_type()

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]) -> Self:
        """Build from dagster.yaml."""
        return cls(inst_data=inst_data, **config_value)

    @property
    def local_manager(self) -> MaskedComputeLogManager:
        """Captures and masks, in the private folder."""
        return self._local

    @property
    def upload_interval(self) -> int:
        """Seconds between two uploads of what is not finished, rounded up."""
        return math.ceil(self._upload_seconds)

    @contextmanager
    def capture_logs(self, log_key: Sequence[str]) -> Iterator[CapturedLogContext]:
        """Capture, and send what was captured however the step ends."""
        done = threading.Event()
        sender = threading.Thread(target=self._send_until, args=(done, log_key), name="compute-logs", daemon=True)
        try:
            with self._local.capture_logs(log_key) as context:
                sender.start()
                yield context
        finally:
            done.set()
            if sender.is_alive():
                sender.join()
            self._on_capture_complete(log_key)

    def _send_until(self, done: threading.Event, log_key: Sequence[str]) -> None:
        while not done.wait(self._upload_seconds):
            with _told(log_key):
                self.on_progress(log_key)  # type: ignore[no-untyped-call]

    def _on_capture_complete(self, log_key: Sequence[str]) -> None:
        with _told(log_key):
            # The last one says that it is complete: where Dagster looks to know that no more comes.
            for kind in (ComputeIOType.STDOUT, ComputeIOType.STDERR):
                # A stream that was cut is not sent again by Dagster, and what was sent is only the unfinished one.
                self._truncated.discard((tuple(log_key), kind))
                self.upload_to_cloud_storage(log_key, kind)
            self._storage.remove([self._object(log_key, kind, partial=True) for kind in IO_TYPE_EXTENSION])
            self._local.delete_logs(log_key=log_key)

    def _upload_file_obj(
        self, data: IO[bytes], log_key: Sequence[str], io_type: ComputeIOType, partial: bool = False
    ) -> None:
        self._storage.put(self._object(log_key, io_type, partial=partial), data.read())

    def download_from_cloud_storage(
        self, log_key: Sequence[str], io_type: ComputeIOType, partial: bool = False
    ) -> None:
        """Bring a whole stream here, for who downloads it from the UI."""
        content = self._storage.get(self._object(log_key, io_type, partial=partial))
        path = Path(self._local.get_captured_local_path(log_key, IO_TYPE_EXTENSION[io_type], partial=partial))
        path.parent.mkdir(parents=True, exist_ok=True)
        # Whole or not at all: another request may look for it now.
        unfinished = path.with_name(f"{path.name}.{threading.get_ident()}")
        unfinished.write_bytes(content or b"")
        unfinished.replace(path)

    def get_log_data_for_type(
        self, log_key: Sequence[str], io_type: ComputeIOType, offset: int, max_bytes: int | None
    ) -> tuple[bytes | None, int]:
        """What follows `offset` of a stream, and where that ends; nothing is kept here of what is only looked at."""
        path = self._local.get_captured_local_path(log_key, IO_TYPE_EXTENSION[io_type])
        if Path(path).exists():
            read: tuple[bytes | None, int] = self._local.read_path(path, offset=offset, max_bytes=max_bytes)
            return read
        end = offset + (_READ_BYTES if max_bytes is None else max_bytes)
        for partial in (False, True):
            content = self._storage.get(self._object(log_key, io_type, partial=partial), offset, end)
            if content is not None:
                return content, offset + len(content)
        return None, offset

    def cloud_storage_has_logs(self, log_key: Sequence[str], io_type: ComputeIOType, partial: bool = False) -> bool:
        """Whether a stream was sent."""
        return self._storage.get(self._object(log_key, io_type, partial=partial), 0, 1) is not None

    def display_path_for_type(self, log_key: Sequence[str], io_type: ComputeIOType) -> str:
        """Where a stream stands."""
        return str(self._object(log_key, io_type))

    def download_url_for_type(self, log_key: Sequence[str], io_type: ComputeIOType) -> str:
        """The webserver's own: an address signed for the storage would let in whoever reads it."""
        url = self._local.get_captured_log_download_url(log_key, io_type)  # type: ignore[no-untyped-call]
        return str(url)

    def delete_logs(self, log_key: Sequence[str] | None = None, prefix: Sequence[str] | None = None) -> None:
        """Remove a step's streams, or all below a prefix."""
        self._local.delete_logs(log_key=log_key, prefix=prefix)
        if log_key:
            streams = [
                self._object(log_key, kind, partial=part) for kind in IO_TYPE_EXTENSION for part in (False, True)
            ]
            self._storage.remove(streams)
        elif prefix:
            self._storage.remove_folder(self._root / "/".join(prefix))

    def get_log_keys_for_log_key_prefix(
        self, log_key_prefix: Sequence[str], io_type: ComputeIOType
    ) -> Sequence[list[str]]:
        """The keys of the streams of a kind that stand right below a prefix."""
        folder = self._root / "/".join(log_key_prefix)
        names = [each.address.name for each in self._storage.listed(folder) if each.address.parent == folder]
        ending = f".{IO_TYPE_EXTENSION[io_type]}"
        return [[*log_key_prefix, name.removesuffix(ending)] for name in names if name.endswith(ending)]

    def on_subscribe(self, subscription: CapturedLogSubscription) -> None:
        """Have it told what is new."""
        self._subscriptions.add_subscription(subscription)

    def on_unsubscribe(self, subscription: CapturedLogSubscription) -> None:
        """Tell it no more."""
        self._subscriptions.remove_subscription(subscription)

    def dispose(self) -> None:
        """Give everything back."""
        self._subscriptions.dispose()
        self._local.dispose()
        self._remove_folder()

    def _object(self, log_key: Sequence[str], io_type: ComputeIOType, *, partial: bool = False) -> S3Address:
        # The local path refuses a key that leads elsewhere, and shortens one that is too long.
        path = Path(self._local.get_captured_local_path(log_key, IO_TYPE_EXTENSION[io_type]))
        inside = path.relative_to(self._folder.resolve()).as_posix()
        return self._root / f"{inside}{_PARTIAL if partial else ''}"


@contextmanager
def _told(log_key: Sequence[str]) -> Iterator[None]:
    """Say on the worker's standard error, which the platform keeps too, that logs were not sent."""
    try:
        yield
    except (ObjectStorageError, OSError) as error:
        sys.stderr.write(f"the logs of {'/'.join(log_key)} were not kept: {error}\n")
