"""Jobs and schedules of the pipelines: what they build, what the launchpad offers, when they start what."""

from collections.abc import Iterator, Sequence
from datetime import datetime

import dagster as dg
import pandas as pd
import pytest

from cvntrade_assets.automation.jobs import PIPELINE_JOBS
from cvntrade_assets.automation.pipeline_schedules import CRON, PIPELINE_SCHEDULES
from cvntrade_assets.definitions import build_defs
from cvntrade_assets.operations.pipelines import PIPELINES, is_discoverys
from cvntrade_assets.settings import SHORT_NAMES
from resources.guardrail_log import session_of
from resources.warehouse import Warehouse

DEFS = build_defs()
SUNDAY = pd.Timestamp("2025-08-31T01:00Z").to_pydatetime()


@pytest.mark.parametrize("name", PIPELINES)
def test_a_job_builds_its_pipelines_assets_in_that_order_and_nothing_else(name: str) -> None:
    job, order = DEFS.resolve_job_def(name), DEFS.resolve_asset_graph().toposorted_asset_keys
    built = [key.to_user_string() for key in order if key in job.asset_layer.executable_asset_keys]
    assert sorted(built) == sorted(PIPELINES[name].assets)
    upstream = {asset: place for place, asset in enumerate(PIPELINES[name].assets)}
    graph = DEFS.resolve_asset_graph()
    for asset in built:
        parents = {key.to_user_string() for key in graph.get(dg.AssetKey(asset)).parent_keys} & set(upstream)
        assert all(upstream[parent] < upstream[asset] for parent in parents)


def test_the_chain_leaves_out_what_only_pipelines_build() -> None:
    chain = DEFS.resolve_job_def("candles_to_report").asset_layer.executable_asset_keys
    everywhere = {"candles", "backtest_candles", "features", "labels"}
    built = {asset for pipeline in PIPELINES.values() for asset in pipeline.assets} - everywhere
    assert len(built) == 7
    assert {asset for asset in built if is_discoverys(asset)} == built - {"drift", "model_health"}
    assert not any(is_discoverys(asset) for asset in everywhere)
    assert not built & {key.to_user_string() for key in chain}


@pytest.mark.parametrize("name", PIPELINES)
def test_the_launchpad_sets_nothing_and_says_what_can_be_set(name: str) -> None:
    job = DEFS.resolve_job_def(name)
    given = job.partitioned_config.get_run_config_for_partition_key("BTCUSDC")  # type: ignore[union-attr]
    assert given == {"resources": {"run_settings": {"config": {"settings": {}, "variants": {}}}}}
    said = job.description or ""
    assert all(f"`{short}`" in said for short in SHORT_NAMES)
    assert f"cvntrade {name} --group" in said and PIPELINES[name].dag in said


@pytest.fixture
def universe(warehouse: Warehouse) -> Iterator[Warehouse]:
    warehouse.set_group("core", ["BTCUSDC", "ETHUSDC"])
    warehouse.set_group("defi", ["ETHUSDC", "SOLUSDC"])
    yield warehouse
    for group in ("core", "defi"):
        warehouse.set_group(group, [])


def tick(
    schedule: dg.ScheduleDefinition, instance: dg.DagsterInstance, warehouse: Warehouse, at: datetime = SUNDAY
) -> Sequence[dg.RunRequest]:
    repository = DEFS.get_repository_def()
    with dg.build_schedule_context(
        instance=instance,
        scheduled_execution_time=at,
        resources={"warehouse": warehouse},
        repository_def=repository,
    ) as context:
        data = repository.get_schedule_def(schedule.name).evaluate_tick(context)
    return data.run_requests or []


@pytest.mark.parametrize("schedule", PIPELINE_SCHEDULES, ids=lambda schedule: str(schedule.name))
def test_a_tick_starts_one_run_for_every_crypto_of_the_universe(
    universe: Warehouse, schedule: dg.ScheduleDefinition
) -> None:
    with dg.DagsterInstance.local_temp() as instance:
        requests = tick(schedule, instance, universe)
        assert instance.get_dynamic_partitions("crypto") == ["BTCUSDC", "ETHUSDC", "SOLUSDC"]
    assert [request.partition_key for request in requests] == ["BTCUSDC", "ETHUSDC", "SOLUSDC"]
    assert len({session_of("r", request.tags) for request in requests}) == 1


def test_no_run_key_comes_twice(universe: Warehouse) -> None:
    """Dagster starts nothing under a run key that it has seen, however long ago."""
    week = pd.Timedelta(days=7)
    with dg.DagsterInstance.local_temp() as instance:
        keys = [
            str(request.run_key)
            for schedule in PIPELINE_SCHEDULES
            for at in (SUNDAY, SUNDAY + week, SUNDAY + 52 * week)
            for request in tick(schedule, instance, universe, at)
        ]
    assert len(keys) == len(set(keys)) == 3 * len(PIPELINE_SCHEDULES) * 3


def test_an_empty_universe_starts_nothing(warehouse: Warehouse) -> None:
    with dg.DagsterInstance.local_temp() as instance:
        assert tick(PIPELINE_SCHEDULES[0], instance, warehouse) == []


def test_schedules_are_off_and_in_utc_until_somebody_turns_them_on() -> None:
    found = {schedule.job_name: schedule for schedule in PIPELINE_SCHEDULES}
    assert set(found) == set(CRON) <= set(PIPELINE_JOBS)
    for name, schedule in found.items():
        assert schedule.default_status is dg.DefaultScheduleStatus.STOPPED
        assert (schedule.cron_schedule, schedule.execution_timezone) == (CRON[name], "UTC")
