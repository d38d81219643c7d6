"""Runs that died with the stack that ran them.

Dagster's default launcher cannot tell whether a run of an earlier code server still lives. After kill -9 or a
power cut such a run would stay STARTED for ever, keep its place in the queue and keep its crypto locked.
"""

import json

import dagster as dg
from dagster._core.storage.dagster_run import IN_PROGRESS_RUN_STATUSES
from dagster._core.storage.tags import GRPC_INFO_TAG

REASON = "The machine's stack was killed while this run worked; its process is gone."


def end_abandoned_runs(instance: dg.DagsterInstance) -> list[str]:
    """End every run of a code server of this machine that the instance believes in progress.

    Call it before anything can launch a run, and only when no other stack shares the instance: every stack's code
    server has this machine's address. A failed one is retried as dagster.yaml's `run_retries` says: a
    lost worker is an infrastructure fault.

    Returns:
        The ids of the runs that were ended.
    """
    statuses = [*IN_PROGRESS_RUN_STATUSES, dg.DagsterRunStatus.CANCELING]
    runs = [run for run in instance.get_runs(filters=dg.RunsFilter(statuses=statuses)) if _ran_here(run)]
    for run in runs:
        if run.status == dg.DagsterRunStatus.CANCELING:
            instance.report_run_canceled(run, REASON)
        else:
            instance.report_run_failed(run, REASON)
    return [run.run_id for run in runs]


def _ran_here(run: dg.DagsterRun) -> bool:
    code_server = json.loads(run.tags.get(GRPC_INFO_TAG, "{}"))
    return bool(code_server.get("host") == "127.0.0.1")
