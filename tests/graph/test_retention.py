"""Retention of the event log: chatter goes when it is old; verdicts, materializations and run ends stay."""

import dagster as dg
import pandas as pd
import sqlalchemy as sa
from dagster_on_postgres import instance
from typer.testing import CliRunner

from cvntrade_assets.cli import app
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


def test_the_command_does_the_same_for_what_is_older_than_the_setting(instance, warehouse, warehouse_url, monkeypatch):
    monkeypatch.setenv("CVN_UI_URL", "http://127.0.0.1:3000")
    monkeypatch.setenv("CVN_WAREHOUSE_URL", warehouse_url)
    old, young = (dg.materialize([thing], instance=instance).run_id for _ in range(2))
    before = len(instance.get_records_for_run(young).records)
    warehouse.set_base_env({"CVN_EVENT_RETENTION_DAYS": "20"}, "ann")
    aged = sa.text("update event_logs set timestamp = timestamp - interval '21 days' where run_id = :run")
    with instance.event_log_storage.index_connection() as connection:
        connection.execute(aged, {"run": old})
    done = CliRunner().invoke(app, ["purge"])
    assert done.exit_code == 0, done.output
    assert "are deleted (20 days are kept)" in done.output and not done.output.startswith("0 events")
    left = [record.event_log_entry for record in instance.get_records_for_run(old).records]
    assert left and all(entry.dagster_event for entry in left)
    assert len(instance.get_records_for_run(young).records) == before
    assert CliRunner().invoke(app, ["purge"]).output.startswith("0 events")
