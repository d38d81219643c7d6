import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from dagster import DagsterInstance
from dagster._core.storage.compute_log_manager import CapturedLogContext, ComputeIOType
from polling import until
from s3_server import SECRET, Fault, S3Door, everything_in

from resources import object_storage
from resources.compute_log_bucket import BucketComputeLogManager
from resources.compute_logs import MaskedComputeLogManager
from resources.object_storage import ObjectStorageError, S3Address
from resources.secrets import process_mask

KEY = ["run-1", "compute_logs", "step"]
OUT, ERR = ComputeIOType.STDOUT, ComputeIOType.STDERR


@pytest.fixture
def logs(bucket: S3Address) -> Iterator[BucketComputeLogManager]:
    # The mask of this process was built before the test set its secret.
    process_mask.cache_clear()
    made = BucketComputeLogManager(f"{bucket}")
    yield made
    made.dispose()
    process_mask.cache_clear()


@contextmanager
def captured(logs: BucketComputeLogManager, key: list[str] = KEY) -> Iterator[CapturedLogContext]:
    """Capture the real descriptors 1 and 2, whatever a test runner put in their place in Python."""
    with (
        open(os.dup(1), "w") as out,  # noqa: PTH123 - a descriptor
        open(os.dup(2), "w") as err,  # noqa: PTH123
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(sys, "stdout", out)
        patch.setattr(sys, "stderr", err)
        with logs.capture_logs(key) as context:
            yield context


def write(kind: ComputeIOType, text: str) -> None:
    stream = sys.stdout if kind is OUT else sys.stderr
    stream.write(text)
    stream.flush()


def test_the_address_decides_which_manager_is_built(bucket, tmp_path):
    there = MaskedComputeLogManager.from_config_value(None, {"base_dir": f"{bucket}"})
    here = MaskedComputeLogManager.from_config_value(None, {"base_dir": str(tmp_path)})
    assert type(there) is BucketComputeLogManager
    assert type(here) is MaskedComputeLogManager
    with pytest.raises(ObjectStorageError, match="expected s3://bucket/prefix"):
        MaskedComputeLogManager.from_config_value(None, {"base_dir": "gs://bucket/logs"})


def test_what_is_printed_is_kept_masked_and_complete(logs, bucket):
    assert not logs.is_capture_complete(KEY)
    with captured(logs):
        write(OUT, f"to stdout with {SECRET}\n")
        write(ERR, "to stderr\n")
        assert not logs.is_capture_complete(KEY)
    start = "team/artifacts/run-1/compute_logs/step"
    assert everything_in(bucket.bucket) == {
        f"{start}.out": b"to stdout with ***\n",
        f"{start}.err": b"to stderr\n",
    }
    assert logs.is_capture_complete(KEY)
    assert [path for path in logs._folder.rglob("*") if path.is_file()] == []


def test_another_process_reads_it(logs, bucket):
    with captured(logs):
        write(OUT, "one\ntwo\n")
    webserver = BucketComputeLogManager(f"{bucket}")
    data = webserver.get_log_data(KEY)
    assert (data.stdout, data.stderr) == (b"one\ntwo\n", b"")
    assert webserver.get_log_data_for_type(KEY, OUT, 4, None) == (b"two\n", 8)
    assert webserver.get_log_data_for_type(KEY, OUT, 0, 3) == (b"one", 3)
    assert webserver.get_log_data_for_type(KEY, OUT, 8, None) == (b"", 8)
    assert webserver.get_log_data_for_type(["other"], OUT, 0, None) == (None, 0)
    assert [*webserver._folder.rglob("*")] == [], "looking at logs keeps none of them"
    assert list(webserver.get_log_keys_for_log_key_prefix(KEY[:-1], OUT)) == [KEY]
    metadata = webserver.get_log_metadata(KEY)
    assert metadata.stdout_location == f"{bucket}/run-1/compute_logs/step.out"
    assert metadata.stdout_download_url == "/logs/run-1/compute_logs/step/out"
    webserver.dispose()


def test_a_download_is_brought_to_the_webserver(logs, bucket):
    with captured(logs):
        write(ERR, "to stderr\n")
    webserver = BucketComputeLogManager(f"{bucket}")
    webserver.download_from_cloud_storage(KEY, ERR)
    path = Path(webserver.local_manager.get_captured_local_path(KEY, "err"))
    assert path.read_bytes() == b"to stderr\n"
    assert webserver.has_local_file(KEY, ERR)
    webserver.dispose()
    assert not path.exists()


def test_what_is_printed_so_far_is_seen_while_it_goes_on(bucket):
    logs, webserver = BucketComputeLogManager(f"{bucket}", 0.1), BucketComputeLogManager(f"{bucket}")
    with captured(logs):
        write(OUT, "so far\n")
        until("the first upload", lambda: webserver.get_log_data(KEY).stdout == b"so far\n")
        assert not webserver.is_capture_complete(KEY)
        write(OUT, "and more\n")
    assert webserver.get_log_data(KEY).stdout == b"so far\nand more\n"
    assert not any(key.endswith(".partial") for key in everything_in(bucket.bucket))


def test_what_a_step_printed_that_was_interrupted_is_kept(logs, bucket):
    with pytest.raises(KeyboardInterrupt), captured(logs):
        write(OUT, "last words\n")
        raise KeyboardInterrupt
    assert logs.get_log_data(KEY).stdout == b"last words\n"


def test_a_storage_that_does_not_answer_fails_no_run(door: S3Door, bucket, monkeypatch):
    monkeypatch.setattr(object_storage, "_ATTEMPTS", 1)
    logs, told = BucketComputeLogManager(f"{bucket}"), []
    door.fault = lambda method, path: Fault.ERROR
    with captured(logs):
        write(OUT, "unheard\n")
        monkeypatch.setattr(sys.stderr, "write", told.append)
    [line] = told
    assert line.startswith("the logs of run-1/compute_logs/step were not kept: s3://")
    assert Path(logs.local_manager.get_captured_local_path(KEY, "out")).read_bytes() == b"unheard\n"
    logs.dispose()


def test_logs_are_removed_by_key_and_by_prefix(logs, bucket):
    keys = [["run-1", "compute_logs", "a"], ["run-1", "compute_logs", "b"], ["run-10", "compute_logs", "a"]]
    for key in keys:
        with captured(logs, key):
            write(OUT, "x")
    logs.delete_logs(log_key=keys[0])
    assert {key.split("/", 2)[2] for key in everything_in(bucket.bucket)} == {
        f"{'/'.join(key)}.{kind}" for key in keys[1:] for kind in ("out", "err")
    }
    logs.delete_logs(prefix=["run-1"])
    assert {key.split("/")[2] for key in everything_in(bucket.bucket)} == {"run-10"}


@pytest.mark.parametrize("key", [["..", "..", "secrets"], ["run", "../../../etc/passwd"]])
def test_a_key_that_leads_elsewhere_is_refused(logs, key):
    with pytest.raises(ValueError, match="Invalid path"):
        logs.get_log_data(key)


def test_a_large_log_is_cut_where_dagster_says(logs, bucket, monkeypatch):
    monkeypatch.setenv("DAGSTER_TRUNCATE_COMPUTE_LOGS_UPLOAD_BYTES", "10")
    with captured(logs):
        write(OUT, "0123456789abcdef\n")
    assert logs.get_log_data(KEY).stdout == b"0123456789"


def test_a_log_that_was_cut_while_it_went_on_is_kept(bucket, monkeypatch):
    monkeypatch.setenv("DAGSTER_TRUNCATE_COMPUTE_LOGS_UPLOAD_BYTES", "10")
    logs, webserver = BucketComputeLogManager(f"{bucket}", 0.1), BucketComputeLogManager(f"{bucket}")
    with captured(logs):
        write(OUT, "0123456789abcdef\n")
        until("the first upload", lambda: webserver.get_log_data(KEY).stdout == b"0123456789")
    assert webserver.is_capture_complete(KEY)
    assert webserver.get_log_data(KEY).stdout == b"0123456789"


RUN = """
import os, signal, dagster as dg
from resources.object_storage import ObjectStorage, S3Address
@dg.op
def stage(context):
    print("the worker's own words, and", os.environ["MY_API_KEY"], flush=True)
    place = S3Address.parse(os.environ["CVN_COMPUTE_LOGS"]) / context.run_id
    while context.run.tags.get("killed"):
        if any(".out" in each.address.name for each in ObjectStorage().listed(place)):
            os.kill(os.getpid(), signal.SIGKILL)
@dg.job(executor_def=dg.in_process_executor)
def job(): stage()
instance = dg.DagsterInstance.get()
job.execute_in_process(instance=instance)
job.execute_in_process(instance=instance, tags={"killed": "yes"})
"""
CONFIG = """
storage: {sqlite: {base_dir: HOME}}
telemetry: {enabled: false}
compute_logs:
  module: resources.compute_logs
  class: MaskedComputeLogManager
  config: {base_dir: {env: CVN_COMPUTE_LOGS}, polling_timeout: 0.2}
"""


def test_real_runs_keep_their_logs_and_a_killed_one_what_it_printed_so_far(bucket, tmp_path, monkeypatch):
    (tmp_path / "dagster.yaml").write_text(CONFIG.replace("HOME", str(tmp_path)))
    monkeypatch.setenv("CVN_COMPUTE_LOGS", f"{bucket}")
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    environment = {**os.environ, "MY_API_KEY": "canary-0123456789-canary"}
    worker = [sys.executable, "-c", RUN]
    done = subprocess.run(worker, env=environment, check=False, capture_output=True, timeout=200)
    assert done.returncode == -signal.SIGKILL
    assert b"canary-0123456789" not in done.stdout + done.stderr
    kept = everything_in(bucket.bucket)
    with DagsterInstance.get() as instance:
        logs = instance.compute_log_manager
        killed, ended = instance.get_runs()
        [key] = logs.get_log_keys_for_log_key_prefix([ended.run_id, "compute_logs"], OUT)
        assert logs.get_log_data(key).stdout == b"the worker's own words, and ***\n"
        assert logs.is_capture_complete(key)
        [name] = [each.rpartition("/")[2] for each in kept if killed.run_id in each and ".out" in each]
        assert name.endswith(".out.partial")
        key = [killed.run_id, "compute_logs", name.removesuffix(".out.partial")]
        assert logs.get_log_data(key).stdout == b"the worker's own words, and ***\n"
        assert not logs.is_capture_complete(key)
