"""Retention of the event log: chatter goes when it is old; verdicts, materializations and run ends stay."""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pandas as pd
import pytest

from resources.event_log import purge_events


@dg.asset
def thing(context: dg.AssetExecutionContext) -> None:
    context.log.info("a heartbeat")


@dg.asset_check(asset=thing)
def thing_is_good() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=True)


@pytest.fixture
def instance(postgres_server, tmp_path, monkeypatch) -> Iterator[dg.DagsterInstance]:
    """An instance as dagster.yaml describes it, on a real PostgreSQL."""
    variables = {
        "CVN_PG_HOST": "127.0.0.1",
        "CVN_PG_PORT": str(postgres_server.port),
        "CVN_PG_USER": "cvntrade",
        "CVN_PG_PASSWORD": postgres_server.password,
        "CVN_MAX_CONCURRENT_RUNS": "2",
        "CVN_COMPUTE_LOGS": str(tmp_path),
        "DAGSTER_HOME": str(tmp_path),
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "dagster.yaml").symlink_to(Path(__file__).parents[2] / "dagster.yaml")
    with dg.DagsterInstance.get() as instance:
        yield instance


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
