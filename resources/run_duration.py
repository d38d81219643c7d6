"""How long a run has taken so far, beside what earlier runs of its job took."""

import dagster as dg
import numpy as np
import pandas as pd
from dagster._core.definitions.assets.job.asset_job import IMPLICIT_ASSET_JOB_NAME

from cvntrade_assets.operations.correlation_data import Duration
from cvntrade_assets.settings import Settings
from resources.run_facts import SeenRun

# Newest successful runs of a job that make its history.
_HISTORY = 100


def duration_of(instance: dg.DagsterInstance, run_id: str, settings: Settings, now: pd.Timestamp) -> Duration | None:
    """How long a run has taken until now; None when nobody knows when it began.

    Args:
        instance: Has the history of runs.
        run_id: The run, which goes on.
        settings: Say how many earlier runs are needed to tell what is usual.
        now: Wall clock, UTC.
    """
    record = instance.get_run_record_by_id(run_id)
    if record is None or record.start_time is None:
        return None
    seen = SeenRun(instance, record, now)
    taken = seen.stage_seconds() | seen.stages_at_work()
    return Duration(
        minutes=seen.seconds / 60,
        p95_minutes=_usual_minutes(instance, seen.run, settings.whole("CVN_SIGNAL_LATENCY_HISTORY")),
        slowest_stage=max(taken, key=lambda name: taken[name], default=None),
    )


def _usual_minutes(instance: dg.DagsterInstance, run: dg.DagsterRun, enough: int) -> float | None:
    """The 95th percentile of what earlier runs of the job took; None when they are too few to tell.

    Assets that are chosen by hand run in one job, whatever they are: its runs are not like each other.
    """
    if run.job_name == IMPLICIT_ASSET_JOB_NAME:
        return None
    wanted = dg.RunsFilter(job_name=run.job_name, statuses=[dg.DagsterRunStatus.SUCCESS])
    minutes = [
        (earlier.end_time - earlier.start_time) / 60
        for earlier in instance.get_run_records(wanted, limit=_HISTORY)
        if earlier.start_time is not None and earlier.end_time is not None
    ]
    usual = float(np.percentile(minutes, 95)) if len(minutes) >= enough else 0.0
    return usual if usual > 0 else None
