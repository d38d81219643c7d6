"""Runs of the past, put into a Dagster instance's history without being run."""

from collections.abc import Iterable

import dagster as dg
import pandas as pd
from dagster._core.utils import make_new_run_id

_BEGAN = pd.Timestamp("2025-09-01", tz="UTC")


def write_history(
    instance: dg.DagsterInstance,
    job: str,
    minutes: Iterable[float],
    ends: dg.DagsterEventType = dg.DagsterEventType.RUN_SUCCESS,
) -> None:
    """Make the history of a job what is given: runs that took so many minutes; what it had is gone."""
    for record in instance.get_run_records(dg.RunsFilter(job_name=job)):
        instance.delete_run(record.dagster_run.run_id)
    for taken in minutes:
        run = dg.DagsterRun(job_name=job, run_id=make_new_run_id())
        instance.run_storage.add_run(run)
        for kind, moment in (
            (dg.DagsterEventType.RUN_START, _BEGAN),
            (ends, _BEGAN + pd.Timedelta(minutes=taken)),
        ):
            event = dg.DagsterEvent(kind.value, job)
            instance.run_storage.handle_run_event(run.run_id, event, moment.to_pydatetime())
