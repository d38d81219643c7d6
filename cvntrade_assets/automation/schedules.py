"""Schedules: keep the event log from growing without end; say daily how things stand, and whether guardrails pay."""

import dagster as dg
import pandas as pd

from cvntrade_assets.automation.model_mirror import mirror_models_schedule
from cvntrade_assets.automation.pipeline_schedules import PIPELINE_SCHEDULES
from cvntrade_assets.settings import Settings
from resources.event_log import purge_events


@dg.op(description="Deletes old heartbeats, logs and step events; materializations, verdicts and run ends stay.")
def purge_old_events(context: dg.OpExecutionContext, run_settings: dg.ResourceParam[Settings]) -> None:
    """Delete the chatter of runs older than CVN_EVENT_RETENTION_DAYS."""
    days = run_settings.whole("CVN_EVENT_RETENTION_DAYS")
    before = pd.Timestamp.now("UTC") - pd.Timedelta(days=days)
    gone = purge_events(context.instance, before)
    context.log.info(f"{gone} events from before {before.isoformat()} are deleted")
    context.add_output_metadata({"events_deleted": gone, "before": before.isoformat()})


@dg.job(description="Retention of the event log; runs every night.")
def event_log_retention() -> None:
    """One step: delete what is old."""
    purge_old_events()


nightly_retention = dg.ScheduleDefinition(
    job=event_log_retention,
    cron_schedule="17 3 * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)

daily_guardrail_report = dg.ScheduleDefinition(
    job_name="refresh_guardrail_report",
    cron_schedule="47 3 * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)

morning_report_schedule = dg.ScheduleDefinition(
    job_name="refresh_morning_report",
    cron_schedule="30 6 * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)

SCHEDULES = (
    nightly_retention,
    daily_guardrail_report,
    morning_report_schedule,
    mirror_models_schedule,
    *PIPELINE_SCHEDULES,
)
