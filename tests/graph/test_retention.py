"""Retention of the event log: chatter goes when it is old; verdicts, materializations and run ends stay."""

import dagster as dg
import pandas as pd
from dagster_on_postgres import instance

from resources.event_log import purge_events

__all__ = ["instance"]


@dg.asset
def thing(context: dg.AssetExecutionContext) -> None:
    context.log.info("a heartbeat")


@dg.asset_check(asset=thing)
def thing_is_good() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=True)


def test_old_chatter_goes_and_what_matters_stays(instance):
    result = dg.materialize([thing, thing_is_good], instance=instance)
    before = len(instance.get_records_for_run(result.run_id).records)
    assert purge_events(instance, pd.Timestamp.now("UTC") - pd.Timedelta(days=1)) == 0
    gone = purge_events(instance, pd.Timestamp.now("UTC") + pd.Timedelta(minutes=1))
    left = [record.event_log_entry for record in instance.get_records_for_run(result.run_id).records]
    assert gone == before - len(left) > 0
    names = {entry.dagster_event.event_type_value for entry in left if entry.dagster_event}
    assert {"ASSET_MATERIALIZATION", "ASSET_CHECK_EVALUATION", "PIPELINE_SUCCESS"} <= names
    assert not any(name.startswith("STEP_") for name in names)
    assert all(entry.dagster_event for entry in left), "a log line stayed"
