"""What Dagster's records become alerts of: checks, runs, what the watch found, ticks; read twice, late and in parts."""

from collections.abc import Iterator
from typing import Any

import dagster as dg
import pandas as pd
import pytest
import sqlalchemy as sa
from alert_rows import clear_alerts, messages
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteInstigatorOrigin, RemoteRepositoryOrigin
from dagster._core.scheduler.instigation import (
    InstigatorState,
    InstigatorStatus,
    InstigatorType,
    SensorInstigatorData,
    TickData,
    TickStatus,
)
from dagster._utils.error import SerializableErrorInfo
from dagster_on_postgres import a_job, empty_instance, open_instance, run_job
from typed_commands import parse, typed_in

from cvntrade_assets.automation import alert_sources as sensor
from cvntrade_assets.automation.alert_sources import LOOK_BACK, Cursor, Position, alert_sources
from cvntrade_assets.operations.guardrails import Evaluation, Verdict
from cvntrade_assets.operations.taxonomy import Role, Severity
from cvntrade_assets.partitions import CRYPTO
from resources import alert_sources as alert_source_texts
from resources.alert_sources import is_settled
from resources.alerts import OpenAlert, open_alerts
from resources.embedded_postgres import EmbeddedPostgres
from resources.guardrail_log import Occasion, record_evaluations
from resources.run_facts import updated
from resources.warehouse import Warehouse

BTC, ADA = "BTCUSDC", "ADAUSDC"
P1, P2, P3 = Severity.P1, Severity.P2, Severity.P3


@dg.asset(partitions_def=CRYPTO, owners=["team:ml-owner"])
def model() -> None: ...


@dg.asset_check(asset=model, partitions_def=CRYPTO)
def fits() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=True)


@dg.asset_check(asset=model, partitions_def=CRYPTO)
def other() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=True)


@dg.sensor(name="a_sensor", asset_selection=[model])
def a_sensor() -> None: ...


CODE = dg.Definitions(assets=[model], asset_checks=[fits, other], sensors=[a_sensor])


@pytest.fixture(autouse=True)
def empty(warehouse: Warehouse) -> None:
    clear_alerts(warehouse)


@pytest.fixture(scope="module")
def one_instance(
    postgres_server: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dg.DagsterInstance]:
    """Dagster on PostgreSQL, as in production; opening it takes a second."""
    with open_instance(postgres_server, tmp_path_factory.mktemp("dagster")) as opened:
        yield opened


@pytest.fixture
def dagster(one_instance: dg.DagsterInstance) -> dg.DagsterInstance:
    """With two cryptos, and without anything that another test left."""
    empty_instance(one_instance)
    one_instance.add_dynamic_partitions("crypto", [BTC, ADA])
    return one_instance


def tick(dagster: dg.DagsterInstance, warehouse: Warehouse, cursor: str | None = None) -> str:
    """One tick of the sensor; the cursor that it leaves."""
    context = dg.build_sensor_context(instance=dagster, cursor=cursor, definitions=CODE)
    result = alert_sources(context, warehouse=warehouse)
    assert isinstance(result, dg.SensorResult) and result.cursor is not None
    return result.cursor


def evaluate(
    dagster: dg.DagsterInstance,
    passed: bool = False,
    check: str = "fits",
    crypto: str | None = BTC,
    severity: dg.AssetCheckSeverity = dg.AssetCheckSeverity.ERROR,
    asset: str = "model",
    **given: Any,
) -> None:
    evaluation = dg.AssetCheckEvaluation(
        asset_key=dg.AssetKey(asset),
        check_name=check,
        passed=passed,
        metadata={},
        severity=severity,
        partition=crypto,
        **given,
    )
    dagster.report_runless_asset_event(evaluation)


def opened(warehouse: Warehouse) -> dict[str, OpenAlert]:
    return {alert.key: alert for alert in open_alerts(warehouse)}


# Checks


@pytest.mark.parametrize(("severity", "told"), [(dg.AssetCheckSeverity.ERROR, P2), (dg.AssetCheckSeverity.WARN, P3)])
def test_a_failed_check_of_no_run_at_all(
    dagster: dg.DagsterInstance, warehouse: Warehouse, severity: dg.AssetCheckSeverity, told: Severity
) -> None:
    evaluate(dagster, severity=severity, description="expected 3 classes,\nfound 2")
    tick(dagster, warehouse)
    [alert] = open_alerts(warehouse)
    assert (alert.key, alert.kind, alert.source) == ("check/model.fits/BTCUSDC", "check/model.fits", "checks")
    assert (alert.severity, alert.owner, alert.where) == (told, Role.ML_OWNER, BTC)
    verb = "failed" if told is P2 else "warns"
    assert alert.what == f"check fits of model {verb}: expected 3 classes, found 2"
    assert alert.link == "/assets/model?view=checks&checkDetail=fits"


def test_a_check_is_over_when_it_passes_for_the_same_partition(
    dagster: dg.DagsterInstance, warehouse: Warehouse
) -> None:
    evaluate(dagster)
    evaluate(dagster, crypto=ADA)
    evaluate(dagster, check="other")
    cursor = tick(dagster, warehouse)
    evaluate(dagster, passed=True)
    tick(dagster, warehouse, cursor)
    assert set(opened(warehouse)) == {"check/model.fits/ADAUSDC", "check/model.other/BTCUSDC"}


def test_what_failed_and_passed_between_two_ticks_is_nothing_to_tell(
    dagster: dg.DagsterInstance, warehouse: Warehouse
) -> None:
    evaluate(dagster)
    evaluate(dagster, passed=True)
    tick(dagster, warehouse)
    assert messages(warehouse) == []


def test_what_was_over_long_before_it_is_read_is_nothing_to_tell(
    dagster: dg.DagsterInstance, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sensor that lost its cursor reads a day of events, some at a tick."""
    monkeypatch.setattr(sensor, "AT_ONCE", 2)
    evaluate(dagster)
    evaluate(dagster, crypto=ADA)
    evaluate(dagster, passed=True)
    cursor = tick(dagster, warehouse)
    assert set(opened(warehouse)) == {"check/model.fits/ADAUSDC"}
    tick(dagster, warehouse, cursor)
    assert len(messages(warehouse)) == 1


def test_what_signals_tell_themselves_is_left_to_them(dagster: dg.DagsterInstance, warehouse: Warehouse) -> None:
    evaluate(dagster, asset="golden_signals")
    evaluate(dagster, asset="global_state", crypto=None)
    evaluate(dagster, asset="drift", check="no_drift")
    tick(dagster, warehouse)
    assert open_alerts(warehouse) == []


def test_events_that_are_read_again_come_to_the_same(dagster: dg.DagsterInstance, warehouse: Warehouse) -> None:
    """Twice from the beginning, as after a crash between the commit and the cursor; and on from there."""
    evaluate(dagster)
    evaluate(dagster, crypto=ADA)
    tick(dagster, warehouse)
    cursor = tick(dagster, warehouse)
    before = messages(warehouse)
    for _ in range(3):
        cursor = tick(dagster, warehouse, cursor)
    assert messages(warehouse) == before and len(before) == 2
    assert {alert.seen_count for alert in open_alerts(warehouse)} == {2}


def test_a_late_event_does_not_undo_a_newer_one(dagster: dg.DagsterInstance, warehouse: Warehouse) -> None:
    """The failure has the smaller number and becomes visible after the pass: of the two the pass counts."""
    evaluate(dagster)
    evaluate(dagster, passed=True)
    position = Cursor.read(tick(dagster, warehouse), pd.Timestamp.now("UTC"))
    failure, _ = position.checks.seen
    late = Cursor(position.runs, Position(position.checks.until, position.checks.seen[1:]), position.findings)
    assert failure < late.checks.until
    tick(dagster, warehouse, late.text())
    assert open_alerts(warehouse) == []


def test_many_events_take_several_ticks(
    dagster: dg.DagsterInstance, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sensor, "AT_ONCE", 3)
    cryptos = [f"C{number}USDC" for number in range(8)]
    dagster.add_dynamic_partitions("crypto", cryptos)
    for crypto in cryptos:
        evaluate(dagster, crypto=crypto)
    cursor, counts = None, []
    for _ in range(4):
        cursor = tick(dagster, warehouse, cursor)
        counts.append(len(open_alerts(warehouse)))
    assert counts == [3, 6, 8, 8] and len(messages(warehouse)) == 8


def test_a_first_look_goes_back_one_day(dagster: dg.DagsterInstance, warehouse: Warehouse) -> None:
    evaluate(dagster)
    old = pd.Timestamp.now("UTC") - LOOK_BACK - pd.Timedelta(seconds=5)
    engine = dagster.event_log_storage.engine  # type: ignore[attr-defined]
    with engine.begin() as connection:
        connection.execute(sa.text("update event_logs set timestamp = :at"), {"at": old.tz_localize(None)})
    evaluate(dagster, check="other")
    tick(dagster, warehouse)
    assert set(opened(warehouse)) == {"check/model.other/BTCUSDC"}


def test_what_left_is_over(dagster: dg.DagsterInstance, warehouse: Warehouse) -> None:
    evaluate(dagster)
    evaluate(dagster, crypto=ADA)
    evaluate(dagster, check="renamed", crypto=ADA)
    cursor = tick(dagster, warehouse)
    # Of a check that the code no longer has there is nothing to tell.
    assert set(opened(warehouse)) == {"check/model.fits/BTCUSDC", "check/model.fits/ADAUSDC"}
    dagster.delete_dynamic_partition("crypto", BTC)
    tick(dagster, warehouse, cursor)
    assert set(opened(warehouse)) == {"check/model.fits/ADAUSDC"}


# Runs


def test_a_failed_run_and_a_later_one_that_succeeds(dagster: dg.DagsterInstance, warehouse: Warehouse) -> None:
    failed = run_job(dagster, "discovery", BTC, fails=ValueError("no fold has both classes"))
    run_job(dagster, "discovery", ADA)
    cursor = tick(dagster, warehouse)
    alert = opened(warehouse)["run/discovery/BTCUSDC"]
    assert (alert.severity, alert.owner, alert.where) == (P2, Role.MLOPS_MAINTAINER, BTC)
    assert alert.what == "a run of discovery of BTCUSDC failed in walk_forward: ValueError: no fold has both classes"
    assert alert.link == f"/runs/{failed}" and "`cvntrade status`" in alert.next_step
    assert "run/discovery/ADAUSDC" not in opened(warehouse)
    # Another job, or another crypto, is another trouble.
    run_job(dagster, "backtesting", BTC)
    run_job(dagster, "discovery", ADA)
    cursor = tick(dagster, warehouse, cursor)
    assert "run/discovery/BTCUSDC" in opened(warehouse)
    run_job(dagster, "discovery", BTC)
    tick(dagster, warehouse, cursor)
    assert "run/discovery/BTCUSDC" not in opened(warehouse)


def test_runs_that_are_read_again_come_to_the_same(dagster: dg.DagsterInstance, warehouse: Warehouse) -> None:
    run_job(dagster, "discovery", BTC, fails=ValueError("once"))
    run_job(dagster, "discovery", BTC)
    run_job(dagster, "backtesting", ADA, fails=ValueError("still"))
    tick(dagster, warehouse)
    cursor = tick(dagster, warehouse)
    for _ in range(2):
        cursor = tick(dagster, warehouse, cursor)
    runs = [key for key in opened(warehouse) if key.startswith("run/")]
    assert runs == ["run/backtesting/ADAUSDC"]
    assert [row["event"] for row in messages(warehouse) if "run/" in row["text"]] == ["opened"]


def vanished(dagster: dg.DagsterInstance, tags: dict[str, str] | None = None) -> dg.DagsterRun:
    """A run whose worker vanished, which Dagster starts again by itself."""
    given = {"dagster/partition": BTC, **(tags or {})}
    run = dagster.create_run_for_job(a_job("discovery"), tags=given, status=dg.DagsterRunStatus.STARTED)
    dagster.report_run_failed(run, "the worker vanished")
    return run


def test_what_dagster_starts_again_by_itself_is_not_told(dagster: dg.DagsterInstance, warehouse: Warehouse) -> None:
    run = vanished(dagster)
    assert dagster.get_run_by_id(run.run_id).tags["dagster/will_retry"] == "true"  # type: ignore[union-attr]
    cursor = tick(dagster, warehouse)
    assert open_alerts(warehouse) == []
    last = vanished(dagster, {"dagster/max_retries": "0"})
    tick(dagster, warehouse, cursor)
    assert opened(warehouse)["run/discovery/BTCUSDC"].link == f"/runs/{last.run_id}"
    assert opened(warehouse)["run/discovery/BTCUSDC"].what.endswith("failed: the worker vanished")


def test_a_failure_waits_until_it_is_known_whether_it_is_started_again(
    dagster: dg.DagsterInstance, warehouse: Warehouse
) -> None:
    run = vanished(dagster)
    with dagster.run_storage.connect() as connection:  # type: ignore[attr-defined]
        connection.execute(sa.text("delete from run_tags where key = 'dagster/will_retry'"))
        connection.execute(
            sa.text("update runs set run_body = replace(run_body, '\"dagster/will_retry\"', '\"not_yet\"')")
        )
    run_job(dagster, "discovery", BTC)
    cursor = tick(dagster, warehouse)
    # The success after it waits too: told before the failure, it would not end it.
    assert open_alerts(warehouse) == [] and Cursor.read(cursor, pd.Timestamp.now("UTC")).runs.seen == ()
    [record] = dagster.get_run_records(dg.RunsFilter(run_ids=[run.run_id]))
    ended = updated(record)
    assert not is_settled(dagster, record, ended + pd.Timedelta(seconds=30))
    assert is_settled(dagster, record, ended + pd.Timedelta(seconds=31))
    dagster.add_run_tags(run.run_id, {"dagster/will_retry": "false"})
    tick(dagster, warehouse, cursor)
    assert open_alerts(warehouse) == []


def test_what_somebody_cancelled_is_neither_a_failure_nor_a_success(
    dagster: dg.DagsterInstance, warehouse: Warehouse
) -> None:
    run_job(dagster, "discovery", BTC, fails=ValueError("x"))
    cursor = tick(dagster, warehouse)
    for crypto in (BTC, ADA):
        tags = {"dagster/partition": crypto}
        run = dagster.create_run_for_job(a_job("discovery"), tags=tags, status=dg.DagsterRunStatus.STARTED)
        dagster.report_run_canceled(run)
    tick(dagster, warehouse, cursor)
    assert [key for key in opened(warehouse) if key.startswith("run/")] == ["run/discovery/BTCUSDC"]


# The watch over runs


def found(warehouse: Warehouse, run_id: str, guardrail: str, verdict: Verdict, factor: str | None = None) -> None:
    variants = {factor: "isotonic"} if factor else {}
    occasion = Occasion(run_id, BTC, "session", variants, "watch")
    record_evaluations(warehouse, occasion, [Evaluation(guardrail, verdict, f"what {guardrail} found")], 0.1)


def at_work(dagster: dg.DagsterInstance) -> dg.DagsterRun:
    tags = {"dagster/partition": BTC}
    return dagster.create_run_for_job(a_job("discovery"), tags=tags, status=dg.DagsterRunStatus.STARTED)


@pytest.mark.parametrize(
    ("guardrail", "verdict", "kind", "severity"),
    [
        ("run_progresses", Verdict.CRITICAL, "stuck", P1),
        ("run_progresses", Verdict.UNKNOWN, "unwatched", P2),
        ("run_in_time", Verdict.CRITICAL, "slow", P2),
        ("run_in_time", Verdict.WARNED, "slow", P3),
        ("stage_in_time", Verdict.WARNED, "slow_stage", P3),
    ],
)
def test_what_the_watch_finds_is_told_until_the_run_ends(
    dagster: dg.DagsterInstance,
    warehouse: Warehouse,
    guardrail: str,
    verdict: Verdict,
    kind: str,
    severity: Severity,
) -> None:
    run = at_work(dagster)
    found(warehouse, run.run_id, guardrail, verdict)
    cursor = tick(dagster, warehouse)
    [alert] = open_alerts(warehouse)
    assert (alert.key, alert.severity, alert.where) == (f"watch/{kind}/{run.run_id}", severity, BTC)
    assert alert.what.endswith(f"what {guardrail} found") and alert.owner is Role.MLOPS_MAINTAINER
    dagster.report_run_canceled(run)
    cursor = tick(dagster, warehouse, cursor)
    assert open_alerts(warehouse) == []
    # Read again it stays over: the run has ended.
    tick(dagster, warehouse)
    assert open_alerts(warehouse) == []


@pytest.mark.parametrize(("guardrail", "verdict"), [("run_in_time", Verdict.ALLOWED), ("run_in_time", Verdict.PASSED)])
def test_what_somebody_chose_or_is_fine_is_not_told(
    dagster: dg.DagsterInstance, warehouse: Warehouse, guardrail: str, verdict: Verdict
) -> None:
    found(warehouse, at_work(dagster).run_id, guardrail, verdict)
    tick(dagster, warehouse)
    assert open_alerts(warehouse) == []


def test_a_slow_run_that_becomes_critically_slow_is_worse(dagster: dg.DagsterInstance, warehouse: Warehouse) -> None:
    run = at_work(dagster)
    found(warehouse, run.run_id, "run_in_time", Verdict.WARNED)
    cursor = tick(dagster, warehouse)
    found(warehouse, run.run_id, "run_in_time", Verdict.CRITICAL)
    tick(dagster, warehouse, cursor)
    [alert] = open_alerts(warehouse)
    assert alert.severity is P2 and [row["event"] for row in messages(warehouse)] == ["opened", "worsened"]
    # From the beginning again: the worst counts.
    tick(dagster, warehouse)
    assert open_alerts(warehouse)[0].severity is P2


def test_a_slow_factor_is_over_when_its_runs_are_quick_again(dagster: dg.DagsterInstance, warehouse: Warehouse) -> None:
    found(warehouse, "gone", "factor_in_time", Verdict.WARNED, "calibration")
    cursor = tick(dagster, warehouse)
    assert set(opened(warehouse)) == {"watch/factor/calibration"}
    found(warehouse, "gone", "factor_in_time", Verdict.PASSED, "calibration")
    tick(dagster, warehouse, cursor)
    assert open_alerts(warehouse) == []


# Ticks


def instigator(dagster: dg.DagsterInstance, name: str = "a_sensor") -> InstigatorState:
    origin = RemoteInstigatorOrigin(
        RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("cvntrade"), "__repository__"), name
    )
    state = InstigatorState(
        origin, InstigatorType.SENSOR, InstigatorStatus.RUNNING, SensorInstigatorData(min_interval=30)
    )
    dagster.add_instigator_state(state)
    return state


def ticked(
    dagster: dg.DagsterInstance, state: InstigatorState, status: TickStatus, error: str = "no such table"
) -> None:
    inner = SerializableErrorInfo(f"ValueError: {error}\n", [], "ValueError")
    outer = SerializableErrorInfo("SensorExecutionError: Error in sensor\n", [], "SensorExecutionError", inner)
    ticked.at += 1.0  # type: ignore[attr-defined]
    dagster.create_tick(
        TickData(
            instigator_origin_id=state.instigator_origin_id,
            instigator_name=state.name,
            instigator_type=InstigatorType.SENSOR,
            status=status,
            timestamp=ticked.at,  # type: ignore[attr-defined]
            selector_id=state.selector_id,
            error=outer if status is TickStatus.FAILURE else None,
            run_ids=[] if status is TickStatus.SUCCESS else None,
        )
    )


ticked.at = pd.Timestamp.now("UTC").timestamp()  # type: ignore[attr-defined]


def test_a_sensor_that_fails_and_works_again(dagster: dg.DagsterInstance, warehouse: Warehouse) -> None:
    state = instigator(dagster)
    ticked(dagster, state, TickStatus.SKIPPED)
    cursor = tick(dagster, warehouse)
    assert open_alerts(warehouse) == []
    ticked(dagster, state, TickStatus.FAILURE)
    ticked(dagster, state, TickStatus.STARTED)  # the one that is at it says nothing yet
    cursor = tick(dagster, warehouse, cursor)
    [alert] = open_alerts(warehouse)
    assert (alert.key, alert.severity, alert.owner) == ("tick/a_sensor", P1, Role.MLOPS_MAINTAINER)
    assert alert.what == "sensor a_sensor fails: ValueError: no such table"
    assert alert.link == "/locations/__repository__@cvntrade/sensors/a_sensor"
    ticked(dagster, state, TickStatus.SUCCESS)
    tick(dagster, warehouse, cursor)
    assert open_alerts(warehouse) == []


def test_a_sensor_that_was_stopped_or_is_gone_is_nobodys_trouble(
    dagster: dg.DagsterInstance, warehouse: Warehouse
) -> None:
    state = instigator(dagster)
    ticked(dagster, state, TickStatus.FAILURE)
    ticked(dagster, instigator(dagster, "of_older_code"), TickStatus.FAILURE)
    cursor = tick(dagster, warehouse)
    assert set(opened(warehouse)) == {"tick/a_sensor"}
    dagster.update_instigator_state(state.with_status(InstigatorStatus.STOPPED))
    tick(dagster, warehouse, cursor)
    assert open_alerts(warehouse) == []


def test_operators_settings_that_contradict_each_other_do_not_silence_alerts(
    dagster: dg.DagsterInstance, warehouse: Warehouse
) -> None:
    with warehouse.begin() as connection:
        connection.execute(sa.text("insert into base_env values ('CVN_NO_SUCH_KEY', '1', 'test')"))
    evaluate(dagster)
    tick(dagster, warehouse)
    warehouse.set_base_env({"CVN_NO_SUCH_KEY": None}, "test")
    assert len(open_alerts(warehouse)) == 1


# What the texts and the code agree on


def test_every_asset_has_an_owner_who_can_be_told() -> None:
    from cvntrade_assets.definitions import defs

    code = defs.get_repository_def()
    graph = code.asset_graph
    owners = {asset.to_user_string(): graph.get(asset).owners for asset in graph.get_all_asset_keys()}
    unknown = {asset for asset, teams in owners.items() if not set(teams) & set(sensor._TEAMS)}
    assert unknown == set() and sensor._owner(dg.AssetKey("model"), code) is Role.ML_OWNER
    assert sensor._owner(dg.AssetKey("nobody_knows_it"), code) is Role.MLOPS_MAINTAINER


def test_every_command_that_is_named_can_be_typed(dagster: dg.DagsterInstance, warehouse: Warehouse) -> None:
    run = at_work(dagster)
    for guardrail, verdict in alert_source_texts._WATCHED:
        found(warehouse, run.run_id, guardrail, Verdict(verdict))
    found(warehouse, run.run_id, "factor_in_time", Verdict.WARNED, "calibration")
    evaluate(dagster)
    evaluate(dagster, check="other", crypto=None)
    for job in ("discovery", "refresh_candles"):
        run_job(dagster, job, ADA, fails=ValueError("x"))
    ticked(dagster, instigator(dagster), TickStatus.FAILURE)
    tick(dagster, warehouse)
    alerts = open_alerts(warehouse)
    commands = [command for alert in alerts for command in typed_in(alert.next_step)]
    assert len({alert.kind for alert in alerts}) == 10 and len(commands) >= 7
    for command in commands:
        parse(command)
