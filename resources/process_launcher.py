"""Dagster's launcher for one machine, whose `terminate` does not return before the run's process is gone.

Dagster's own asks the code server to have the worker interrupt itself. A worker that hangs in C code never does: its
run would be marked as failed and tried again while the old process still holds its memory and may write. Worse, when
that C code keeps the interpreter's lock, the code server waits for the worker's answer for ever, and no run starts or
ends any more. So the worker gets its interrupt from here, and after a while it is killed.

On Kubernetes a run is a pod, which pod_launcher.py deletes, and nothing of this is needed.
"""

import os
import signal
import time

from dagster import DagsterEventType
from dagster._core.launcher import DefaultRunLauncher
from dagster._grpc.client import DagsterGrpcClient
from dagster._grpc.types import GetCurrentRunsResult
from dagster._serdes import deserialize_value

GRACE_SECONDS = 10.0
"""How long an interrupted worker may take to end; what it publishes is whole or not there, so it may be killed."""

POLL_SECONDS = 0.2
_HERE = frozenset({"127.0.0.1", "localhost", "::1"})


class EndingRunLauncher(DefaultRunLauncher):
    """Runs are children of the code server; to terminate one is to wait for its end, and to kill it when none comes."""

    def terminate(self, run_id: str) -> bool:
        """Interrupt the run's worker, wait for its end, kill it if need be; False when there was none to interrupt."""
        client = self._get_grpc_client_for_termination(run_id)  # type: ignore[no-untyped-call]
        worker = self._worker(run_id)
        run = self._instance.get_run_by_id(run_id)
        if run is None or client is None or client.host not in _HERE or worker is None:
            asked: bool = super().terminate(run_id)  # type: ignore[no-untyped-call]
            return asked
        self._instance.report_run_canceling(run)
        # Only while the code server says that its child works on this run is the process id certain to be the child's.
        if not _works(client, run_id):
            return False
        _send(worker, signal.SIGINT)
        if not _ends(client, run_id):
            _send(worker, signal.SIGKILL)
            _ends(client, run_id)
            message = f"Process {worker} did not react to an interrupt within {GRACE_SECONDS:g} s and was killed."
            self._instance.report_engine_event(message, run, cls=type(self))
        return True

    def _worker(self, run_id: str) -> int | None:
        """The worker's process id, as it said itself when it started; None when it has not yet."""
        for entry in self._instance.all_logs(run_id, of_type=DagsterEventType.ENGINE_EVENT):
            event = entry.dagster_event
            pid = event.engine_event_data.metadata.get("pid") if event else None
            if pid is not None:
                return int(str(pid.value))
        return None


def _works(client: DagsterGrpcClient, run_id: str) -> bool:
    """Whether the code server has a child at work on the run; it looks at its children twice a second."""
    return run_id in deserialize_value(client.get_current_runs(), GetCurrentRunsResult).current_runs


def _ends(client: DagsterGrpcClient, run_id: str) -> bool:
    """Whether the run's process ends within the grace time."""
    deadline = time.monotonic() + GRACE_SECONDS
    while _works(client, run_id):
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True


def _send(worker: int, number: signal.Signals) -> None:
    try:
        os.kill(worker, number)
    except ProcessLookupError:
        return  # it has just ended by itself
