"""Freshness policies as Dagster's own daemon judges them, and the alerts that the sensor makes of what it finds."""

import re
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pandas as pd
import pytest
from dagster._core.definitions.freshness import FreshnessState
from dagster._core.loader import LoadingContextForTest
from dagster._core.test_utils import freeze_time
from dagster._daemon.freshness import FreshnessDaemon
from services import Graph, make_graph
from typed_commands import parse, typed_in

from cvntrade_assets.automation.freshness_policies import FRESHNESS
from cvntrade_assets.automation.freshness_watch import SOURCE, freshness_watch, late
from cvntrade_assets.automation.pipeline_schedules import PIPELINE_SCHEDULES
from cvntrade_assets.automation.schedules import SCHEDULES, morning_report_schedule
from cvntrade_assets.definitions import ASSETS
from cvntrade_assets.operations.taxonomy import Role, Severity
from cvntrade_assets.settings import resolve
from resources.alerts import open_alerts, reconcile

BTC, ETH = "BTCUSDC", "ETHUSDC"
# A Saturday.
NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
PASS, WARN, FAIL, UNKNOWN = (
    FreshnessState.PASS,
    FreshnessState.WARN,
    FreshnessState.FAIL,
    FreshnessState.UNKNOWN,
)
MODELS = ("walk_forward", "rolling_backtest", "evaluation", "challenger", "model", "calibration", "test_report")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, warehouse_url: str) -> Iterator[Graph]:
    graph = make_graph(tmp_path_factory.mktemp("freshness"), warehouse_url)
    with closing(graph.warehouse), graph.instance:
        yield graph


@pytest.fixture
def graph(made: Graph) -> Iterator[Graph]:
    """Nothing is built, and nobody was told anything."""
    with made.warehouse.begin() as connection:
        reconcile(connection, SOURCE, [], pd.Timestamp.now("UTC"), made.settings)
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions("crypto", [BTC, ETH])
        yield replace(made, instance=instance)


def built(graph: Graph, asset: str, at: datetime, crypto: str = BTC) -> None:
    partition = crypto if graph.defs.resolve_asset_graph().get(dg.AssetKey(asset)).partitions_def else None
    with freeze_time(at):
        graph.instance.report_runless_asset_event(dg.AssetMaterialization(asset, partition=partition))


def look(graph: Graph, at: datetime) -> None:
    """One iteration of Dagster's daemon."""

    def request_context() -> Any:
        context: Any = LoadingContextForTest(graph.instance)
        context.asset_graph = graph.defs.resolve_asset_graph()
        return context

    process: Any = SimpleNamespace(create_request_context=request_context)
    with freeze_time(at):
        for _ in FreshnessDaemon().run_iteration(process):
            pass


def state(graph: Graph, asset: str) -> FreshnessState:
    key = dg.AssetKey(asset)
    return graph.instance.get_freshness_state_records([key])[key].freshness_state


def tick(graph: Graph) -> str:
    said = freshness_watch(dg.build_sensor_context(instance=graph.instance), warehouse=graph.warehouse)
    assert isinstance(said, dg.SkipReason) and said.skip_message
    return said.skip_message


# which assets, and how fresh


def test_every_policy_is_of_an_asset_and_attached_to_it(graph: Graph) -> None:
    assets = graph.defs.resolve_asset_graph()
    attached = {
        key.to_user_string(): assets.get(key).freshness_policy
        for key in assets.get_all_asset_keys()
        if assets.get(key).freshness_policy is not None
    }
    assert attached == {name: each.policy for name, each in FRESHNESS.items()}
    # Only there: the assets themselves are untouched.
    assert not any(spec.freshness_policy for asset in ASSETS for spec in asset.specs)


def test_what_a_schedule_builds_is_due_after_it_and_before_its_next_tick() -> None:
    ticks = {each.name: each.cron_schedule for each in (*PIPELINE_SCHEDULES, *SCHEDULES)}
    for asset, schedule in (
        ("model_health", "monitoring_of_the_universe"),
        ("screening_matrix", "discovery_of_the_universe"),
        ("drift", "monitoring_of_the_universe"),
        ("guardrail_report", "refresh_guardrail_report_schedule"),
        ("morning_report", morning_report_schedule.name),
    ):
        policy: Any = FRESHNESS[asset].policy
        minute, hour, *days = str(ticks[schedule]).split()
        due_minute, due_hour, *due_days = policy.deadline_cron.split()
        assert (due_minute, due_days) == (minute, days)
        assert int(hour) < int(due_hour) < 24
        assert policy.lower_bound_delta == timedelta(days=1 if days[-1] == "*" else 7)


def test_every_next_step_is_a_command_that_there_is_or_names_a_schedule(graph: Graph) -> None:
    found = graph.defs.get_repository_def()
    known = {each.name for each in (*found.schedule_defs, *found.sensor_defs)}
    for asset, freshness in FRESHNESS.items():
        step = freshness.next_step.format(group="btc-core")
        commands = typed_in(step)
        named = re.findall(r"the (?:schedule|sensor) (\w+)", step)
        assert (commands or named) and set(named) <= known, asset
        assert all(parse(command)["group"] == "btc-core" for command in commands)


# as the daemon judges


@pytest.mark.parametrize(
    ("asset", "age", "expected"),
    [
        ("candles", timedelta(hours=26) - timedelta(minutes=1), PASS),
        ("candles", timedelta(hours=26), WARN),
        ("candles", timedelta(hours=50) - timedelta(minutes=1), WARN),
        ("backtest_candles", timedelta(hours=50), FAIL),
        *((asset, timedelta(days=7) - timedelta(minutes=1), PASS) for asset in MODELS),
        *((asset, timedelta(days=7), WARN) for asset in MODELS),
        ("evaluation", timedelta(days=14) - timedelta(minutes=1), WARN),
        *((asset, timedelta(days=14), FAIL) for asset in MODELS),
        ("golden_signals", timedelta(hours=26) - timedelta(minutes=1), PASS),
        ("global_state", timedelta(hours=26), WARN),
        ("global_state", timedelta(hours=50), FAIL),
        # The last deadlines before Saturday noon: 09:47 and 11:00 of the day, and 07:00 of the Sunday before.
        ("guardrail_report", timedelta(days=1, hours=2, minutes=12), PASS),
        ("guardrail_report", timedelta(days=1, hours=2, minutes=14), FAIL),
        ("model_health", timedelta(days=1, minutes=59), PASS),
        ("model_health", timedelta(days=1, minutes=61), FAIL),
        ("screening_matrix", timedelta(days=13, hours=4, minutes=59), PASS),
        ("screening_matrix", timedelta(days=13, hours=5, minutes=1), FAIL),
    ],
)
def test_dagster_judges_an_age_as_declared(graph: Graph, asset: str, age: timedelta, expected: FreshnessState) -> None:
    built(graph, asset, NOON - age)
    look(graph, NOON)
    assert state(graph, asset) is expected


def test_what_was_never_built_is_unknown_and_no_alarm(graph: Graph) -> None:
    look(graph, NOON)
    assert {state(graph, name) for name in FRESHNESS} == {UNKNOWN}
    assert tick(graph) == f"none of {len(FRESHNESS)} assets is late"
    assert open_alerts(graph.warehouse) == []


def test_one_fresh_crypto_makes_the_asset_look_fresh(graph: Graph) -> None:
    """Why each crypto's freshness is a signal of its own."""
    built(graph, "candles", NOON - timedelta(days=90), ETH)
    built(graph, "candles", NOON, BTC)
    look(graph, NOON)
    assert state(graph, "candles") is PASS


# alerts


def test_what_is_late_is_told_with_all_that_an_alert_says(graph: Graph) -> None:
    built(graph, "challenger", NOON - timedelta(days=15))
    built(graph, "candles", NOON - timedelta(hours=27))
    look(graph, NOON)
    said = tick(graph)
    assert "challenger is late" in said and "candles is nearly late" in said
    nearly, over = sorted(open_alerts(graph.warehouse), key=lambda each: each.key)
    assert (nearly.key, nearly.severity, over.key, over.severity) == (
        "freshness/candles",
        Severity.P3,
        "freshness/challenger",
        Severity.P2,
    )
    assert {nearly.owner, over.owner} == {Role.MLOPS_MAINTAINER}
    assert over.what == "challenger is late: it is to be at most 14 days old, better 7, and its newest version is older"
    assert over.next_step.startswith("`cvntrade retrain --group btc-core`")
    assert over.link == "/assets/challenger" and over.where == "challenger"
    assert over.since == pd.Timestamp(NOON)


def test_it_is_told_once_worsens_and_is_over_when_it_is_built(graph: Graph) -> None:
    built(graph, "candles", NOON - timedelta(hours=27))
    look(graph, NOON)
    for _ in range(3):
        tick(graph)
    [before] = open_alerts(graph.warehouse)
    look(graph, NOON + timedelta(hours=24))
    tick(graph)
    [after] = open_alerts(graph.warehouse)
    assert (after.id, before.severity, after.severity) == (before.id, Severity.P3, Severity.P2)
    built(graph, "candles", NOON + timedelta(hours=25))
    look(graph, NOON + timedelta(hours=25))
    tick(graph)
    assert open_alerts(graph.warehouse) == []


def test_the_sensor_runs_from_the_start() -> None:
    assert freshness_watch.default_status is dg.DefaultSensorStatus.RUNNING


def test_the_group_of_the_next_step_is_the_operators(graph: Graph) -> None:
    built(graph, "candles", NOON - timedelta(days=9))
    look(graph, NOON)
    settings = resolve(base_env={"CVN_CORE_GROUPS": "majors,btc-core"}, run={}, now=pd.Timestamp(NOON))
    [condition] = late(graph.instance, settings)
    assert "--group majors`" in condition.next_step
