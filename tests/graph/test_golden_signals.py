"""The sensor of the golden signals on a Dagster instance and a real PostgreSQL: what it stores, alerts, and shows."""

import json

import dagster as dg
import pandas as pd
import pytest
import sqlalchemy as sa
from dagster._core.definitions.partitions.context import partition_loading_context
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionResolvedStatus
from dagster._core.storage.event_log.base import PartitionKeyFilter
from dagster_on_postgres import instance

from cvntrade_assets.assets.global_state import global_state
from cvntrade_assets.assets.golden_signals import golden_signals
from cvntrade_assets.automation import golden_signals as watching
from cvntrade_assets.automation import signal_events
from cvntrade_assets.automation.golden_signals import Cursor, golden_signals_watch
from cvntrade_assets.operations.global_state import RawState, State
from cvntrade_assets.operations.signals import Level
from cvntrade_assets.partitions import CRYPTO
from cvntrade_assets.settings import resolve
from resources.job_runs import JobRuns
from resources.signal_store import newest_state, read_now
from resources.signal_verdicts import CRYPTO_SIGNALS, PLATFORM_SIGNALS, STATE_CHECK
from resources.warehouse import WarehouseError

__all__ = ["instance"]

BTC, ETH = "BTCUSDC", "ETHUSDC"
MINUTE, HOUR, DAY = pd.Timedelta(minutes=1), pd.Timedelta(hours=1), pd.Timedelta(days=1)
# Declared: CVN_FRESHNESS_CANDLES_CRITICAL_HOURS.
STALE = 50 * HOUR


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    for name in ("CVN_PROMETHEUS_URL", "KUBERNETES_SERVICE_HOST"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def fresh(warehouse):
    with warehouse.begin() as connection:
        # What is never removed is, here, from test to test.
        for table in ("alert_messages", "alerts", "global_states"):
            connection.execute(sa.text(f"alter table {table} disable trigger user"))
            connection.execute(sa.text(f"delete from {table}"))
        connection.execute(sa.text("truncate signals_now, signal_points, artifact_versions, cvntrade_universes"))
    warehouse.set_group("btc-core", [BTC, ETH])
    return warehouse


@pytest.fixture
def stack(instance, fresh):
    """The sensor with what it looks at; its ticks follow each other, and are carried out as the daemon does."""
    instance.add_dynamic_partitions("crypto", [BTC, ETH])
    return Stack(instance, fresh)


class Stack:
    def __init__(self, instance, warehouse):
        self.instance, self.warehouse, self.cursor = instance, warehouse, None

    def tick(self):
        """One tick; returns how many verdicts it reported."""
        context = dg.build_sensor_context(instance=self.instance, cursor=self.cursor)
        result = golden_signals_watch(context, warehouse=self.warehouse)
        for event in result.asset_events:
            self.instance.report_runless_asset_event(event)
        self.cursor = result.cursor
        return len(result.asset_events)

    def candles(self, crypto, age):
        """The last candle in store closed so long ago."""
        until = pd.Timestamp.now("UTC") - age - 30 * MINUTE
        with self.warehouse.begin() as connection:
            connection.execute(
                sa.text(
                    "insert into artifact_versions (asset, crypto, version, market, location, manifest_sha256, bytes, "
                    "manifest, run_id) values ('candles', :crypto, :version, 'binance', 'x', 'x', 1, :manifest, 'x') "
                    "on conflict (asset, crypto, version) do update set manifest = excluded.manifest"
                ),
                {
                    "crypto": crypto,
                    "version": "1",
                    "manifest": json.dumps({"summary": {"to": until.isoformat(), "timeframe": "30m"}}),
                },
            )

    def level(self, signal, subject=""):
        return next(each.level for each in read_now(self.warehouse) if (each.signal, each.subject) == (signal, subject))

    def verdict(self, check, crypto=None):
        """The newest verdict of a check, as the UI asks for it."""
        key = dg.AssetCheckKey(dg.AssetKey("golden_signals" if crypto else "global_state"), check)
        kept = self.instance.event_log_storage.get_latest_asset_check_execution_by_key(
            [key], partition_filter=PartitionKeyFilter(key=crypto)
        )
        return kept[key].evaluation if key in kept else None

    def shown(self, check):
        """Which cryptos the check's page shows as passed and as failed."""
        key = dg.AssetCheckKey(dg.AssetKey("golden_signals"), check)
        with partition_loading_context(dynamic_partitions_store=self.instance):
            state = self.instance.event_log_storage.get_asset_check_state([(key, CRYPTO)])[key]
            found = {status: set(subset.subset_value.get_partition_keys()) for status, subset in state.subsets.items()}
        passed, failed = AssetCheckExecutionResolvedStatus.SUCCEEDED, AssetCheckExecutionResolvedStatus.FAILED
        return found[passed], found[failed]

    def materializations(self, asset):
        return len(self.instance.fetch_materializations(dg.AssetKey(asset), limit=100).records)

    def page(self, asset, crypto=None):
        """What the newest materialization shows."""
        of = dg.AssetRecordsFilter(dg.AssetKey(asset), asset_partitions=[crypto] if crypto else None)
        [newest] = self.instance.fetch_materializations(of, limit=1).records
        return {name: shown.value for name, shown in newest.asset_materialization.metadata.items()}

    def alerts(self):
        with self.warehouse.begin() as connection:
            return set(connection.scalars(sa.text("select key from alerts where resolved_at is null")))


# What is stored and shown


def test_every_signal_is_stored_and_shown_crypto_by_crypto(stack):
    stack.candles(BTC, HOUR)
    assert stack.tick() == 2 * len(CRYPTO_SIGNALS) + 1 + len(PLATFORM_SIGNALS)
    stored = {(each.signal, each.subject) for each in read_now(stack.warehouse)}
    assert stored >= {(signal, crypto) for signal in CRYPTO_SIGNALS for crypto in (BTC, ETH)}
    fresh, unknown = (stack.verdict("candle_freshness", crypto) for crypto in (BTC, ETH))
    assert fresh.passed and fresh.metadata["value"].value == pytest.approx(1.0, abs=0.1)
    assert not unknown.passed and unknown.severity is dg.AssetCheckSeverity.WARN
    assert stack.shown("candle_freshness") == ({BTC}, {ETH})
    assert stack.materializations("golden_signals") == 2 and stack.materializations("global_state") == 1


def test_a_quiet_tick_shows_nothing_again_and_is_stored_all_the_same(stack):
    stack.tick()
    before = newest_state(stack.warehouse).computed_at
    assert stack.tick() == 0
    assert newest_state(stack.warehouse).computed_at > before
    assert stack.materializations("golden_signals") == 2


def test_a_crypto_goes_red_within_a_tick_of_its_limit_and_not_before(stack):
    stack.candles(BTC, STALE - MINUTE)
    stack.candles(ETH, STALE - MINUTE)
    stack.tick()
    assert [stack.level("candle_freshness", crypto) for crypto in (BTC, ETH)] == [Level.WARNING, Level.WARNING]
    assert stack.verdict("candle_freshness", BTC).severity is dg.AssetCheckSeverity.WARN
    assert f"signal/candle_freshness/{BTC}" in stack.alerts()
    stack.candles(BTC, STALE + MINUTE)
    assert stack.tick() == len(CRYPTO_SIGNALS)
    assert [stack.level("candle_freshness", crypto) for crypto in (BTC, ETH)] == [Level.CRITICAL, Level.WARNING]
    red, other = (stack.verdict("candle_freshness", crypto) for crypto in (BTC, ETH))
    assert not red.passed and red.severity is dg.AssetCheckSeverity.ERROR and "50" in red.description
    assert other.severity is dg.AssetCheckSeverity.WARN
    # Still of the newest materialization, or its page would not show it.
    assert stack.shown("candle_freshness") == (set(), {BTC, ETH})
    stack.candles(BTC, HOUR)
    stack.tick()
    assert stack.shown("candle_freshness") == ({BTC}, {ETH})
    assert f"signal/candle_freshness/{BTC}" not in stack.alerts()


def test_the_state_is_stored_held_and_alerted_with_its_signals(stack, monkeypatch):
    monkeypatch.setattr("resources.signal_facts.silent_daemons", lambda *_: ("daemon SENSOR",))
    stack.tick()
    assert newest_state(stack.warehouse).state is State.RED
    assert not stack.verdict(STATE_CHECK).passed and stack.verdict(STATE_CHECK).severity is dg.AssetCheckSeverity.ERROR
    assert {"state", "signal/infra_health"} <= stack.alerts()
    monkeypatch.setattr("resources.signal_facts.silent_daemons", lambda *_: ())
    seen = []
    for _ in range(3):
        stack.tick()
        seen.append((newest_state(stack.warehouse).raw_state, newest_state(stack.warehouse).state))
    assert [raw for raw, _ in seen] == [State.YELLOW] * 3
    assert [state for _, state in seen] == [State.RED, State.RED, State.YELLOW]
    assert stack.verdict(STATE_CHECK).severity is dg.AssetCheckSeverity.WARN


def test_signals_state_and_alerts_are_written_together_or_not_at_all(stack, monkeypatch):
    def fails(*_):
        raise WarehouseError("the server went away")

    monkeypatch.setattr(watching, "reconcile", fails)
    with pytest.raises(WarehouseError):
        stack.tick()
    assert read_now(stack.warehouse) == [] and newest_state(stack.warehouse) is None
    assert stack.alerts() == set() and stack.materializations("golden_signals") == 0


def test_jobs_that_cannot_be_asked_are_unknown_and_not_gone(stack, monkeypatch):
    with stack.instance.run_storage.connect() as connection:
        connection.execute(
            sa.text(
                "insert into runs (run_id, pipeline_name, status, run_body, create_timestamp, update_timestamp, "
                "start_time, end_time) select number, 'discovery', 'FAILURE', '{}', now(), now() at time zone 'UTC', "
                "extract(epoch from now()), extract(epoch from now()) from generate_series(1, 5) as number"
            )
        )
    stack.tick()
    assert stack.level("pipeline_success_rate", "discovery") is Level.CRITICAL
    key = "signal/pipeline_success_rate/discovery"
    assert key in stack.alerts()

    def fails(_):
        raise WarehouseError("Dagster's records cannot be read")

    monkeypatch.setattr(JobRuns, "reading", fails)
    stack.tick()
    assert stack.level("pipeline_success_rate", "discovery") is Level.UNKNOWN
    assert key in stack.alerts()
    assert newest_state(stack.warehouse).raw_state >= State.ORANGE


# What is shown again, and when


def test_a_subject_is_shown_whole_once_a_day(stack):
    stack.tick()
    cursor = json.loads(stack.cursor)
    cursor["shown"][BTC][1] -= 86_400
    cursor["shown"][ETH][1] -= 86_300
    stack.cursor = json.dumps(cursor)
    assert stack.tick() == len(CRYPTO_SIGNALS)
    assert stack.materializations("golden_signals") == 3


def test_what_does_not_fit_into_a_tick_comes_with_the_next_the_worst_first(stack, monkeypatch):
    monkeypatch.setattr(signal_events, "AT_ONCE", 1 + 1 + len(PLATFORM_SIGNALS) + 1 + len(CRYPTO_SIGNALS))
    stack.candles(BTC, HOUR)
    stack.candles(ETH, STALE + MINUTE)
    stack.tick()
    assert stack.verdict("candle_freshness", ETH) is not None and stack.verdict("candle_freshness", BTC) is None
    assert stack.level("candle_freshness", BTC) is Level.OK, "stored, although not shown yet"
    stack.tick()
    assert stack.verdict("candle_freshness", BTC).passed
    assert stack.tick() == 0


def test_what_somebody_materialised_by_hand_is_judged_by_the_next_tick(stack):
    stack.tick()
    result = by_hand(stack, golden_signals, BTC)
    assert result.success and stack.shown("sortino") == (set(), {BTC, ETH})
    # The platform has seen a job run by now.
    assert stack.tick() == len(CRYPTO_SIGNALS) + 1 + len(PLATFORM_SIGNALS)
    assert stack.materializations("golden_signals") == 4
    assert stack.shown("sortino") == (set(), {BTC, ETH})
    assert stack.tick() == 0


def test_a_crypto_without_a_partition_is_stored_and_shown_once_it_has_one(stack):
    stack.warehouse.set_group("defi", ["SOLUSDC"])
    stack.tick()
    assert stack.level("sortino", "SOLUSDC") is Level.UNKNOWN and stack.verdict("sortino", "SOLUSDC") is None
    stack.instance.add_dynamic_partitions("crypto", ["SOLUSDC"])
    assert stack.tick() == len(CRYPTO_SIGNALS)


def test_a_crypto_that_left_is_forgotten(stack):
    stack.tick()
    stack.warehouse.set_group("btc-core", [BTC])
    stack.tick()
    assert set(json.loads(stack.cursor)["shown"]) == {"", BTC}
    assert {each.subject for each in read_now(stack.warehouse)} == {"", BTC}


def test_a_cursor_of_another_version_is_begun_anew(stack):
    stack.cursor = json.dumps({"version": 0, "anything": 1})
    assert stack.tick() > 0
    assert Cursor.read(stack.cursor).text() == stack.cursor


def test_no_page_shows_a_table_that_is_older_than_its_checks(stack, monkeypatch):
    stack.candles(BTC, HOUR)
    stack.tick()
    assert "| candle_freshness | 1" in stack.page("golden_signals", BTC)["signals"]
    stack.candles(BTC, STALE + MINUTE)
    stack.tick()
    table = stack.page("golden_signals", BTC)["signals"]
    seen = next(each.observed_at for each in read_now(stack.warehouse) if each.subject == BTC)
    assert table.startswith(f"As of {seen:%Y-%m-%d %H:%M} UTC:\n\n| signal |") and "| candle_freshness | 50" in table
    assert stack.materializations("golden_signals") == 3, "that of the other crypto is as it was"
    # Both are critical, and not the same.
    monkeypatch.setattr(watching, "held_state", lambda raw, *_: raw)
    for state in (State.ORANGE, State.RED):
        monkeypatch.setattr(watching, "judge_state", lambda *_, state=state, **__: RawState(state, ()))
        stack.tick()
        page = stack.page("global_state")
        assert page["state"] == state and page["reasons"].startswith("As of ")


# By hand


def by_hand(stack, asset, crypto=None):
    settings = resolve(base_env=stack.warehouse.base_env(), run={}, now=pd.Timestamp.now("UTC"))
    return dg.materialize(
        [asset],
        instance=stack.instance,
        partition_key=crypto,
        resources={"warehouse": stack.warehouse, "run_settings": dg.ResourceDefinition.hardcoded_resource(settings)},
        run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
    )


def levels(result):
    return {
        each.check_name: each.metadata["level"].value
        for each in result.get_asset_check_evaluations()
        if "level" in each.metadata
    }


def test_materialising_by_hand_shows_what_is_stored(stack):
    stack.candles(BTC, STALE + MINUTE)
    stack.tick()
    found = levels(by_hand(stack, golden_signals, BTC))
    assert set(found) == set(CRYPTO_SIGNALS)
    assert (found["candle_freshness"], found["sortino"]) == ("critical", "unknown")
    result = by_hand(stack, global_state)
    state = newest_state(stack.warehouse).state
    [page] = result.get_asset_materialization_events()
    assert page.materialization.metadata["state"].value == state
    assert set(levels(result)) == set(PLATFORM_SIGNALS)


def test_what_is_stored_too_long_ago_is_unknown(stack):
    stack.candles(BTC, HOUR)
    stack.tick()
    with stack.warehouse.begin() as connection:
        for table, column in (("signals_now", "observed_at"), ("global_states", "computed_at")):
            connection.execute(sa.text(f"update {table} set {column} = {column} - interval '16 minutes'"))
    assert set(levels(by_hand(stack, golden_signals, BTC)).values()) == {"unknown"}
    result = by_hand(stack, global_state)
    [page] = result.get_asset_materialization_events()
    assert page.materialization.metadata["state"].value == "unknown"
    checks = {each.check_name: each for each in result.get_asset_check_evaluations()}
    assert not any(each.passed for each in checks.values())
    assert "golden_signals_watch" in checks[STATE_CHECK].description


def test_before_the_first_look_everything_is_unknown(stack):
    result = by_hand(stack, golden_signals, ETH)
    assert not any(each.passed for each in result.get_asset_check_evaluations())
    assert result.success, "a signal is no reason for a run to fail"
