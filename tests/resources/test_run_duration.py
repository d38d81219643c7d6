"""How long a run has taken, beside the earlier runs of its job."""

from collections.abc import Iterator

import dagster as dg
import numpy as np
import pandas as pd
import pytest
from run_history import write_history

from cvntrade_assets.operations.correlation_data import Duration
from cvntrade_assets.settings import resolve
from resources.run_duration import duration_of

SETTINGS = resolve(base_env={"CVN_SIGNAL_LATENCY_HISTORY": "4"}, run={}, now=pd.Timestamp.now("UTC"))
SEEN: list[Duration | None] = []


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    SEEN.clear()
    with dg.DagsterInstance.ephemeral() as made:
        yield made


@dg.asset
def fetched() -> None: ...


@dg.asset(deps=[fetched])
def evaluated(context: dg.AssetExecutionContext) -> None:
    """Looks as if seven minutes had passed since the run began."""
    began = context.instance.get_run_record_by_id(context.run.run_id)
    assert began is not None and began.start_time is not None
    now = pd.Timestamp(began.start_time + 7 * 60, unit="s", tz="UTC")
    SEEN.append(duration_of(context.instance, context.run.run_id, SETTINGS, now))


DEFS = dg.Definitions(assets=[fetched, evaluated], jobs=[dg.define_asset_job("discovery")])


def seen_inside(instance: dg.DagsterInstance, job: str = "discovery") -> Duration:
    found = DEFS.resolve_implicit_global_asset_job_def() if job == "by hand" else DEFS.resolve_job_def(job)
    assert found.execute_in_process(instance=instance).success
    assert SEEN[-1] is not None
    return SEEN[-1]


def test_it_counts_from_the_begin_of_the_run_and_names_the_longest_stage(instance: dg.DagsterInstance) -> None:
    seen = seen_inside(instance)
    assert seen.minutes == pytest.approx(7.0)
    assert (seen.p95_minutes, seen.slowest_stage) == (None, "evaluated")


def test_usual_is_what_most_of_the_earlier_runs_took(instance: dg.DagsterInstance) -> None:
    minutes = [10.0, 20.0, 30.0, 200.0]
    write_history(instance, "discovery", minutes)
    write_history(instance, "monitoring", [1.0] * 9)
    assert seen_inside(instance).p95_minutes == pytest.approx(np.percentile(minutes, 95), rel=1e-4)


def test_three_runs_are_too_few_where_four_are_asked_for(instance: dg.DagsterInstance) -> None:
    write_history(instance, "discovery", [10.0] * 3)
    assert seen_inside(instance).p95_minutes is None


def test_runs_that_ended_otherwise_do_not_count(instance: dg.DagsterInstance) -> None:
    write_history(instance, "discovery", [10.0] * 4, ends=dg.DagsterEventType.RUN_FAILURE)
    assert seen_inside(instance).p95_minutes is None


def test_what_is_chosen_by_hand_is_beside_nothing(instance: dg.DagsterInstance) -> None:
    write_history(instance, "__ASSET_JOB", [10.0] * 9)
    assert seen_inside(instance, "by hand").p95_minutes is None


def test_a_run_that_nobody_knows_has_no_duration(instance: dg.DagsterInstance) -> None:
    assert duration_of(instance, "1d0b9b52-0f4a-4d0c-9d0b-000000000000", SETTINGS, pd.Timestamp.now("UTC")) is None
