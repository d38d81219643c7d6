"""What a run's worker prints, kept as Dagster's own local log manager keeps it, but through the mask.

Named in dagster.yaml. Where that one starts `tail` and a second Python for each stream, a pump does the work of both.
An address in place of a folder gives `resources/compute_log_bucket.py`, which captures by this one and sends.
"""

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TextIO

from dagster._core.storage.compute_log_manager import CapturedLogContext, ComputeIOType
from dagster._core.storage.local_compute_log_manager import IO_TYPE_EXTENSION, LocalComputeLogManager
from dagster._serdes import ConfigurableClassData

from resources.log_pump import LogPump
from resources.object_storage import is_address

FINISH_SECONDS = 30.0


class MaskedComputeLogManager(LocalComputeLogManager):
    """Standard output and error of a step in a file each, for the UI; configured as `LocalComputeLogManager`."""

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]) -> Any:
        """Build from dagster.yaml, as the base class does (which would build the base class).

        Raises:
            ObjectStorageError: the place is an address, and not of object storage.
        """
        if is_address(config_value["base_dir"]):
            from resources.compute_log_bucket import BucketComputeLogManager

            return BucketComputeLogManager.from_config_value(inst_data, config_value)
        return cls(inst_data=inst_data, **config_value)

    @contextmanager
    def capture_logs(self, log_key: Sequence[str]) -> Iterator[CapturedLogContext]:
        """Inside, what this process and its children print goes to the files, and to where it went before."""
        streams = {ComputeIOType.STDOUT: sys.stdout, ComputeIOType.STDERR: sys.stderr}
        with ExitStack() as stack:
            for kind, stream in streams.items():
                path = Path(self.get_captured_local_path(log_key, IO_TYPE_EXTENSION[kind]))
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch()
                stack.enter_context(_captured(stream, path))
            yield CapturedLogContext(log_key)
        # Where Dagster looks to know that no more comes.
        Path(self.get_captured_local_path(log_key, "complete")).touch()


@contextmanager
def _captured(stream: TextIO, path: Path) -> Iterator[None]:
    try:
        number = stream.fileno()
    except OSError:
        # A stream of Python alone, such as a test runner's: nothing to redirect.
        yield
        return
    pump = LogPump(path, mirror=number)
    stream.flush()
    before = os.dup(number)
    os.dup2(pump.input, number)
    try:
        yield
    finally:
        stream.flush()
        os.dup2(before, number)
        os.close(before)
        pump.finish(FINISH_SECONDS)
