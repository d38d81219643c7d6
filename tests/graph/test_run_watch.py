"""The sensor that watches runs, on a Dagster instance and a real PostgreSQL: what it sees, records and does."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import dagster as dg
import pandas as pd
import pytest
from services import make_graph

from cvntrade_assets.automation import run_watch as watching
from cvntrade_assets.automation.run_watch import run_watch
from cvntrade_assets.partitions import CRYPTO
from cvntrade_assets.settings import resolve
from resources.run_facts import SeenRun, recorded, runs_ended_since, runs_going_on, settings_of, stage_history

BTC = "BTCUSDC"


class Latch:
    """Holds a stage at work until it is let go."""

    def __init__(self) -> None:
        self.entered, self.let_go = threading.Event(), threading.Event()


LATCH = Latch()


@dg.asset(partitions_def=CRYPTO)
def hyperparameters(context: dg.AssetExecutionContext) -> None:
    """A stage of the product's name that says something and waits."""
    context.log.info("tuning: trial 2 of 4, best score 0.3")
    LATCH.entered.set()
    LATCH.let_go.wait(60)


@dg.asset(partitions_def=CRYPTO)
def quick() -> dg.MaterializeResult:
    return dg.MaterializeResult(metadata={"seconds": 1.0, "reused": False})


@dg.asset(partitions_def=CRYPTO)
def failing() -> None:
    raise ValueError("a step that failed")


RUN_SETTINGS = dg.ResourceDefinition(
    lambda _: None, config_schema={"settings": dict, "variants": dg.Field(dict, is_required=False)}
)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        made.add_dynamic_partitions("crypto", [BTC, "ETHUSDC"])
        yield made


@pytest.fixture
def limits(warehouse) -> Iterator[Callable[..., None]]:
    """Sets the operators' limits, in minutes; they are taken back afterwards."""
    changed = set()

    def set_limits(**minutes: float) -> None:
        values = {f"CVN_GUARDRAIL_{name.upper()}_MINUTES": str(value) for name, value in minutes.items()}
        changed.update(values)
        warehouse.set_base_env(values, "test")

    yield set_limits
    warehouse.set_base_env(dict.fromkeys(changed), "test")


def execute(instance, asset, crypto=BTC, tags=None, settings=None, variants=None):
    config = {"settings": settings or {}, "variants": variants or {}}
    return dg.materialize(
        [asset],
        instance=instance,
        partition_key=crypto,
        tags=tags or {},
        raise_on_error=False,
        resources={"run_settings": RUN_SETTINGS.configured(config)},
    )


@contextmanager
def at_work(instance, tags=None) -> Iterator[str]:
    """A run whose stage is at work inside the block; its id."""
    LATCH.entered.clear()
    LATCH.let_go.clear()
    worker = threading.Thread(target=execute, args=(instance, hyperparameters), kwargs={"tags": tags})
    worker.start()
    try:
        assert LATCH.entered.wait(60)
        [record] = runs_going_on(instance)
        yield record.dagster_run.run_id
    finally:
        LATCH.let_go.set()
        worker.join()


def tick(instance, warehouse, cursor=None):
    context = dg.build_sensor_context(instance=instance, cursor=cursor)
    return run_watch(context, warehouse=warehouse)


def rows(warehouse, run_id):
    return {(guardrail, verdict, stage) for _, guardrail, verdict, stage in recorded(warehouse, [run_id])}


def count(warehouse, run_id):
    with warehouse.begin() as connection:
        query = f"select count(*) from guardrail_evaluations where run_id = '{run_id}'"
        return connection.exec_driver_sql(query).scalar()


def watched(warehouse, run_id):
    with warehouse.begin() as connection:
        query = f"select * from watched_runs where run_id = '{run_id}'"
        return connection.exec_driver_sql(query).mappings().one()


def engine_events(instance, run_id):
    return [
        entry.dagster_event.message for entry in instance.all_logs(run_id, of_type=dg.DagsterEventType.ENGINE_EVENT)
    ]


def test_a_tick_with_nothing_to_see_skips_and_keeps_no_cursor(instance, warehouse):
    told = tick(instance, warehouse)
    assert isinstance(told, dg.SkipReason)


def test_a_run_as_it_should_be_is_watched_and_passes_at_its_end(instance, warehouse):
    run = execute(instance, quick, tags={"cvntrade/code": "1+abc"})
    first = tick(instance, warehouse)
    assert rows(warehouse, run.run_id) == {("run_in_time", "passed", "")}
    row = watched(warehouse, run.run_id)
    assert (row["crypto"], row["status"], row["code"], row["session"]) == (BTC, "SUCCESS", "1+abc", run.run_id)
    assert row["ended_at"] >= row["started_at"] and row["training_began_at"] is None
    # Seen once is seen: neither the next tick nor a watch that has forgotten everything records it again.
    assert isinstance(tick(instance, warehouse, first.cursor), dg.SkipReason)
    tick(instance, warehouse)
    assert count(warehouse, run.run_id) == 1


def test_a_run_that_failed_is_watched_too(instance, warehouse):
    run = execute(instance, failing)
    tick(instance, warehouse)
    assert watched(warehouse, run.run_id)["status"] == "FAILURE"


def test_a_stage_within_its_limits_is_left_alone(instance, warehouse):
    with at_work(instance) as run:
        tick(instance, warehouse)
        assert not rows(warehouse, run) and not any("guardrail" in said for said in engine_events(instance, run))
        assert not {"cvntrade/slow", "cvntrade/stuck", "dagster/max_runtime"} & set(instance.get_run_by_id(run).tags)
        assert watched(warehouse, run)["ended_at"] is None


def test_a_slow_stage_is_flagged_once_while_it_runs_and_goes_on(instance, warehouse, limits):
    limits(stage=0.01, slow_run=0.01)
    with at_work(instance) as run:
        time.sleep(0.7)
        for _ in range(2):
            tick(instance, warehouse)
        expected = {("stage_in_time", "warned", "hyperparameters"), ("run_in_time", "warned", "")}
        assert rows(warehouse, run) == expected and count(warehouse, run) == 2
        said = [message for message in engine_events(instance, run) if message.startswith("guardrail")]
        assert len(said) == 2 and "2 of 4 done" in said[0]
        assert instance.get_run_by_id(run).tags["cvntrade/slow"] == f"run {run[:8]}: hyperparameters, run"
    tick(instance, warehouse)
    assert instance.get_run_by_id(run).status == dg.DagsterRunStatus.SUCCESS
    assert count(warehouse, run) == 2


def test_a_stage_is_measured_against_its_own_history(instance, warehouse, monkeypatch):
    """Reused versions and other stages are not part of it."""
    for _ in range(9):
        execute(instance, quick)
    reused = dg.AssetMaterialization("quick", partition=BTC, metadata={"seconds": 0.1, "reused": True})
    instance.report_runless_asset_event(reused)
    assert stage_history(instance, "quick") == [1.0] * 9
    execute(instance, quick, "ETHUSDC")
    assert stage_history(instance, "quick") == [1.0] * 10
    assert stage_history(instance, "hyperparameters") == []


def test_a_silent_run_is_recorded_before_it_is_marked_for_its_end(instance, warehouse, limits, monkeypatch):
    limits(stuck=0.01)
    order = []
    record = watching.record_evaluations
    monkeypatch.setattr(watching, "record_evaluations", lambda *args: (order.append("recorded"), record(*args)))
    add = instance.add_run_tags
    monkeypatch.setattr(instance, "add_run_tags", lambda *args: (order.append("marked"), add(*args)))
    with at_work(instance) as run:
        time.sleep(0.7)
        tick(instance, warehouse)
        time.sleep(0.1)
        # What the watch itself writes into the run's log is no sign of progress.
        tick(instance, warehouse)
        tags = instance.get_run_by_id(run).tags
    assert order[:2] == ["recorded", "marked"] and order.count("marked") == 1
    assert rows(warehouse, run) >= {("run_progresses", "critical", "")} and count(warehouse, run) == 1
    assert tags["cvntrade/stuck"].startswith(f"run {run[:8]}: stuck: no sign of progress for ")
    assert "tuning: trial 2 of 4" in tags["cvntrade/stuck"]
    assert int(tags["dagster/max_runtime"]) >= 1 and tags["dagster/max_retries"] == "1"


def test_a_run_that_inherited_the_marks_of_another_loses_them(instance, warehouse):
    marks = {"cvntrade/stuck": "run 12345678: stuck", "cvntrade/slow": "run 12345678: x", "dagster/max_runtime": "900"}
    with at_work(instance, marks | {"dagster/max_retries": "1"}) as run:
        tick(instance, warehouse)
        tags = instance.get_run_by_id(run).tags
    assert {name: tags[name] for name in marks} == dict.fromkeys(marks, "")
    assert tags["dagster/max_retries"] == "1"


def test_a_limit_that_an_operator_set_on_a_run_stays(instance, warehouse):
    with at_work(instance, {"dagster/max_runtime": "900"}) as run:
        tick(instance, warehouse)
        assert instance.get_run_by_id(run).tags["dagster/max_runtime"] == "900"


def test_facts_that_cannot_be_read_are_unknown_and_hide_no_other_run(instance, warehouse, monkeypatch):
    broken, whole = execute(instance, quick), execute(instance, quick, "ETHUSDC")
    facts = SeenRun.facts

    def read(seen):
        if seen.run.run_id == broken.run_id:
            raise ConnectionError("the event log is away")
        return facts(seen)

    monkeypatch.setattr(SeenRun, "facts", read)
    tick(instance, warehouse)
    assert rows(warehouse, broken.run_id) == {("run_progresses", "unknown", "")}
    assert rows(warehouse, whole.run_id) == {("run_in_time", "passed", "")}


def test_the_average_of_a_factor_is_judged_when_a_run_of_it_ends(instance, warehouse, limits):
    tags = {"cvntrade/factor": "calibration", "cvntrade/variant": "isotonic"}
    first = execute(instance, quick, tags=tags)
    tick(instance, warehouse)
    assert ("factor_in_time", "passed", "") in rows(warehouse, first.run_id)
    record = {"factor": "'calibration'", "status": "'SUCCESS'", "job": "'j'", "run_id": "'slow'", "session": "'s'"}
    with warehouse.begin() as connection:
        columns, values = ", ".join(record), ", ".join(record.values())
        connection.exec_driver_sql(
            f"insert into watched_runs ({columns}, started_at, ended_at) "
            f"values ({values}, now() - interval '1 hour', now())"
        )
    second = execute(instance, quick, tags=tags)
    tick(instance, warehouse)
    assert ("factor_in_time", "warned", "") in rows(warehouse, second.run_id)
    plain = execute(instance, quick)
    tick(instance, warehouse)
    assert not any(guardrail == "factor_in_time" for guardrail, *_ in rows(warehouse, plain.run_id))


def test_a_run_whose_settings_are_refused_is_watched_with_the_declared_limits(instance):
    run = execute(instance, quick).dagster_run
    now = pd.Timestamp.now("UTC")
    settings = settings_of(run, {"CVN_NO_SUCH_KEY": "1"}, now)
    declared = resolve(base_env={}, run={}, now=now)
    assert settings.number("CVN_GUARDRAIL_STUCK_MINUTES") == declared.number("CVN_GUARDRAIL_STUCK_MINUTES") == 15.0


def test_a_run_whose_settings_are_refused_is_watched_with_the_operators_limits(instance):
    run = execute(instance, quick, settings={"CVN_NO_SUCH_KEY": "1"}).dagster_run
    settings = settings_of(run, {"CVN_GUARDRAIL_STUCK_MINUTES": "3"}, pd.Timestamp.now("UTC"))
    assert settings.number("CVN_GUARDRAIL_STUCK_MINUTES") == 3.0


@pytest.mark.parametrize(
    "given", [{"variants": {"cost": {"env": "COST"}}}, {"settings": {"CVN_SEED": {"env": "SEED"}}}]
)
def test_what_a_run_takes_from_its_environment_is_no_obstacle(instance, given):
    """Dagster lets a run config name a variable in place of a text; its worker reads it, and nobody else can."""
    run = execute(instance, quick, **given).dagster_run
    settings = settings_of(run, {"CVN_GUARDRAIL_STUCK_MINUTES": "3"}, pd.Timestamp.now("UTC"))
    assert settings.number("CVN_GUARDRAIL_STUCK_MINUTES") == 3.0


def test_a_run_that_cannot_be_watched_leaves_no_other_unwatched(instance, warehouse, monkeypatch):
    broken, whole = execute(instance, quick), execute(instance, quick, "ETHUSDC")
    record = watching.record_run

    def write(warehouse, row):
        if row.run_id == broken.run_id:
            raise ValueError("what PostgreSQL does not take")
        record(warehouse, row)

    monkeypatch.setattr(watching, "record_run", write)
    with pytest.raises(ExceptionGroup, match="1 of 2 runs could not be watched"):
        tick(instance, warehouse)
    assert rows(warehouse, whole.run_id) == {("run_in_time", "passed", "")}


def test_every_end_is_seen_however_many_there_are_at_once(instance, warehouse, monkeypatch):
    monkeypatch.setattr(watching, "_AT_ONCE", 2)
    runs = {execute(instance, quick).run_id for _ in range(5)}
    cursor = None
    for _ in range(3):
        cursor = tick(instance, warehouse, cursor).cursor
    assert all(rows(warehouse, run) for run in runs)
    assert isinstance(tick(instance, warehouse, cursor), dg.SkipReason)


def test_what_ended_long_ago_is_not_dug_out(instance):
    execute(instance, quick)
    later = pd.Timestamp.now("UTC") + pd.Timedelta(seconds=1)
    assert not runs_ended_since(instance, later, 50)
    assert len(runs_ended_since(instance, later - pd.Timedelta(days=1), 50)) == 1


# the check inside the run


# Every run exceeds this limit, and cleanlab is an operator's choice, not the run's.
SLOW = {"CVN_GUARDRAIL_SLOW_RUN_MINUTES": "0.01", "CVN_CLEANLAB": "reweight"}


@pytest.fixture(scope="module")
def built(tmp_path_factory, warehouse_url, mlflow_store):
    """The chain, built twice: as it should be, and slow for a reason that nobody chose."""
    graph = make_graph(tmp_path_factory.mktemp("graph"), warehouse_url, mlflow_store=mlflow_store)
    with graph.instance:
        first = graph.run(BTC)
        graph.warehouse.set_base_env(SLOW, "test")
        second = graph.run(BTC)
        graph.warehouse.set_base_env(dict.fromkeys(SLOW), "test")
        yield graph, first, second
        graph.warehouse.close()


def runtime_verdict(result):
    [found] = [each for each in result.get_asset_check_evaluations() if each.check_name == "run_in_time"]
    return found


def test_what_a_run_took_is_shown_on_its_report(built):
    graph, first, _ = built
    found = runtime_verdict(first)
    assert found.passed and found.metadata["verdict"].value == "passed"
    assert {"candles", "hyperparameters", "model", "test_report"} <= set(found.metadata["stage_seconds"].value)
    assert rows(graph.warehouse, first.run_id) >= {("run_in_time", "passed", "")}


def test_a_run_that_took_too_long_warns_on_its_report_and_stops_nothing(built):
    graph, _, second = built
    found = runtime_verdict(second)
    assert second.success and not found.passed and found.severity is dg.AssetCheckSeverity.WARN
    assert "more than CVN_GUARDRAIL_SLOW_RUN_MINUTES=0.01" in found.description
    assert rows(graph.warehouse, second.run_id) >= {("run_in_time", "warned", "")}
    tick(graph.instance, graph.warehouse)
    watched_run = watched(graph.warehouse, second.run_id)
    # Tuning computed in this run, and the watch knows when it began.
    assert watched_run["training_began_at"] > watched_run["started_at"]
