"""Facts are gathered from a real PostgreSQL, ours and Dagster's: which rows count, and what a broken part leaves."""

from contextlib import closing

import pandas as pd
import pytest
import sqlalchemy as sa
from correlation_records import complete, gates, record
from dagster_on_postgres import instance

from cvntrade_assets.operations.facts import InfraFacts, JobFacts
from cvntrade_assets.operations.signals import Level
from cvntrade_assets.settings import resolve
from resources import dagster_facts, signal_facts
from resources.evaluations import EvaluationOf, record_evaluations
from resources.job_runs import JobRuns
from resources.machine import MachineWatch
from resources.signal_facts import gather

__all__ = ["instance"]

NOW = pd.Timestamp.now("UTC").floor("s")
MINUTE, DAY = pd.Timedelta(minutes=1), pd.Timedelta(days=1)
BTC, ETH, SOL = "BTCUSDC", "ETHUSDC", "SOLUSDC"
FROM, TO = NOW - 60 * DAY, NOW - DAY


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    for name in ("CVN_PROMETHEUS_URL", "KUBERNETES_SERVICE_HOST"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def fresh(warehouse):
    with warehouse.begin() as connection:
        connection.execute(sa.text("alter table model_versions disable trigger user"))
        connection.execute(sa.text("delete from model_versions"))
        connection.execute(sa.text("truncate evaluations, artifact_versions, drift_reports, cvntrade_universes"))
    warehouse.set_group("btc-core", [BTC, ETH])
    warehouse.set_group("defi", [ETH, SOL])
    return warehouse


def settings(**given):
    return resolve(base_env={key: str(value) for key, value in given.items()}, run={}, now=NOW)


def look(warehouse, **given):
    return gather(warehouse, settings(**given), NOW)


def evaluate(warehouse, run, *, ago, crypto=BTC, session="session", version=None, market="binance", **found):
    """An evaluation that was recorded so long ago; a second candidate beside the leading one."""
    whose = EvaluationOf(run, session, crypto, version or run, f"w-{run}", f"r-{run}", False, FROM, TO)
    leading = record(crypto=crypto, market=market, run_id=run, **found)
    other = record(crypto=crypto, market=market, pte="H2_SL1.0_TP3.0", leading=False, rank=2, gates=gates("dsr"))
    record_evaluations(warehouse, whose, [(leading, 0.1), (other, 0.05)])
    with warehouse.begin() as connection:
        dated = "update evaluations set recorded_at = :at where run_id = :run and crypto = :crypto"
        connection.execute(sa.text(dated), {"at": (NOW - ago).to_pydatetime(), "run": run, "crypto": crypto})


def insert(warehouse, table, **row):
    columns, values = ", ".join(row), ", ".join(f":{name}" for name in row)
    with warehouse.begin() as connection:
        connection.execute(sa.text(f"insert into {table} ({columns}) values ({values})"), row)


def store_candles(warehouse, version, until, crypto=BTC, market="binance", timeframe="30m"):
    manifest = f'{{"summary": {{"to": "{(until - 30 * MINUTE).isoformat()}", "timeframe": "{timeframe}"}}}}'
    row = {"asset": "candles", "crypto": crypto, "version": version, "market": market, "manifest": manifest}
    insert(warehouse, "artifact_versions", **row, location="x", manifest_sha256="x", bytes=1, run_id="x")


def register(warehouse, number, state, fitted_until, crypto=BTC, market="binance"):
    row = {"crypto": crypto, "number": number, "state": state, "market": market, "epoch": 1, "pte": "H4_SL1.0_TP2.0"}
    names = dict.fromkeys(("rolling_version", "model_sha256", "evaluation_version"), f"{market} {number}")
    until = {name: fitted_until.to_pydatetime() for name in ("fitted_until", "data_until")}
    insert(warehouse, "model_versions", **row, **names, **until)


# Cryptos


def test_every_crypto_of_the_universe_is_there_with_its_groups(fresh, instance):
    found = look(fresh)
    assert {name: crypto.groups for name, crypto in found.cryptos.items()} == {
        BTC: ("btc-core",),
        ETH: ("btc-core", "defi"),
        SOL: ("defi",),
    }
    assert found.now == NOW and found.trouble == {}
    assert all(each.candles_until is None and each.evaluation is None for each in found.cryptos.values())


def test_the_newest_evaluation_of_the_market_in_force_counts(fresh, instance):
    evaluate(fresh, "old", ago=3 * DAY, sortino=-2.0)
    evaluate(fresh, "new", ago=1 * DAY, sortino=0.7, std_f1_buy=0.03)
    evaluate(fresh, "other market", ago=0 * DAY, market="simulated", sortino=9.0)
    evaluate(fresh, "other crypto", ago=0 * DAY, crypto=ETH, sortino=8.0)
    found = look(fresh).cryptos[BTC].evaluation
    expected = record(crypto=BTC, sortino=0.7, std_f1_buy=0.03)
    assert found.recorded_at == NOW - DAY and found.recent_sortinos == (0.7, -2.0)
    for name in ("f1_buy", "baseline_f1_buy", "screening_f1_buy", "last_fold_f1_buy", "std_f1_buy", "sl_pct"):
        assert getattr(found, name) == getattr(expected, name)
    assert (found.timeout_pct, found.n_trades) == (expected.timeout_pct, expected.n_trades)
    assert found.primary_code == "ML_SOLID"
    assert found.next_commands == {"ML_SOLID": f"cvntrade monitoring --crypto {BTC}"}
    assert look(fresh, CVN_MARKET="simulated").cryptos[BTC].evaluation.sortino == 9.0


def test_an_evaluation_that_is_reported_again_is_one(fresh, instance):
    for run, ago, sortino in (("a", 5, -1.0), ("b", 4, -2.0), ("b again", 3, -2.0), ("b once more", 2, -2.0)):
        evaluate(fresh, run, ago=ago * DAY, version=run[0], sortino=sortino)
    assert look(fresh).cryptos[BTC].evaluation.recent_sortinos == (-2.0, -1.0)


def test_a_record_that_other_code_wrote_costs_its_commands_and_nothing_else(fresh, instance):
    evaluate(fresh, "new", ago=DAY, sortino=0.7)
    with fresh.begin() as connection:
        connection.execute(sa.text("""update evaluations set record = '{"schema_version": 0}'"""))
    found = look(fresh).cryptos[BTC].evaluation
    assert (found.sortino, found.next_commands) == (0.7, {})


def test_the_last_closed_candle_is_the_newest_that_closed_by_now(fresh, instance):
    store_candles(fresh, "1", NOW - 3 * DAY)
    store_candles(fresh, "2", NOW - 2 * DAY)
    store_candles(fresh, "3", NOW, market="simulated")
    store_candles(fresh, "1", NOW - DAY, crypto=ETH)
    found = look(fresh).cryptos
    assert (found[BTC].candles_until, found[ETH].candles_until) == (NOW - 2 * DAY, NOW - DAY)
    assert found[SOL].candles_until is None
    replayed = look(fresh, CVN_AS_OF=(NOW - 2.5 * DAY).isoformat())
    assert replayed.as_of == NOW - 2.5 * DAY and replayed.now == NOW
    assert replayed.cryptos[BTC].candles_until == NOW - 3 * DAY
    assert replayed.cryptos[ETH].candles_until is None


def test_the_useful_model_is_the_champion_or_else_the_newest_challenger(fresh, instance):
    register(fresh, 1, "champion", NOW - 9 * DAY)
    register(fresh, 2, "challenger", NOW - 2 * DAY)
    register(fresh, 1, "challenger", NOW - 8 * DAY, ETH)
    register(fresh, 2, "challenger", NOW - 7 * DAY, ETH)
    register(fresh, 3, "candidate", NOW - DAY, ETH)
    register(fresh, 1, "archived", NOW - DAY, SOL)
    register(fresh, 2, "challenger", NOW, SOL, market="simulated")
    found = look(fresh)
    useful = {name: (crypto.useful_model, crypto.model_until) for name, crypto in found.cryptos.items()}
    assert useful == {
        BTC: ("champion BTCUSDC model 1", NOW - 9 * DAY),
        ETH: ("challenger ETHUSDC model 2", NOW - 7 * DAY),
        SOL: (None, None),
    }
    assert found.pending_challengers == 3
    assert look(fresh, CVN_MARKET="simulated").pending_challengers == 1


def test_the_newest_drift_report_counts(fresh, instance):
    counts = dict.fromkeys(("rows", "features", "drifted", "labelled"), 1)
    for run, ago, level, market in (
        ("a", 3, "ok", "binance"),
        ("b", 1, "critical", "binance"),
        ("c", 0, "ok", "other"),
    ):
        row = {"run_id": run, "crypto": BTC, "market": market, "drift_version": "d", "model_version": "m", "share": 0.4}
        at = (NOW - ago * DAY).to_pydatetime()
        insert(fresh, "drift_reports", **row, **counts, level=level, reason="so", details="{}", recorded_at=at)
    drift = look(fresh).cryptos[BTC].drift
    assert (drift.recorded_at, drift.level, drift.share, drift.reason) == (NOW - DAY, Level.CRITICAL, 0.4, "so")


# Sessions


def test_complete_sessions_are_summed_over_their_cryptos(fresh, instance):
    refused = {"gates": gates("dsr"), **complete(0, {"dsr": 3})}
    evaluate(fresh, "1", ago=3 * DAY, session="night 1", **refused)
    evaluate(fresh, "2", ago=2.9 * DAY, session="night 1", crypto=ETH, **complete(2, {"dsr": 1}))
    evaluate(fresh, "3", ago=2 * DAY, session="night 2", **refused)
    # Evaluated again in the same session: only the later one counts.
    evaluate(fresh, "4", ago=1.9 * DAY, session="night 2", **refused)
    evaluate(fresh, "5", ago=1 * DAY, session="not complete", **dict.fromkeys(complete(0, {})))
    evaluate(fresh, "6", ago=0.5 * DAY, session="elsewhere", market="simulated", **complete(1, {"dsr": 2}))
    found = look(fresh)
    assert [(each.session, each.ended_at, each.screened, each.passed) for each in found.sessions] == [
        ("night 2", NOW - 1.9 * DAY, 96, 0),
        ("night 1", NOW - 2.9 * DAY, 192, 2),
    ]


def test_a_run_is_useful_when_its_leading_candidate_passed(fresh, instance):
    assert look(fresh).last_useful_at is None
    evaluate(fresh, "useful", ago=4 * DAY)
    evaluate(fresh, "not", ago=DAY, gates=gates("sortino"))
    assert look(fresh).last_useful_at == NOW - 4 * DAY


def test_a_session_that_goes_on_is_not_complete_yet(fresh, instance):
    for session in ("ended", "with a tag", "backfilled", "alone"):
        evaluate(fresh, session, ago=DAY, session=session, **complete(1, {"dsr": 2}))
    run(instance, "alone", "STARTED")
    run(instance, "r2", "QUEUED", tags={"cvntrade/session": "with a tag"})
    run(instance, "r3", "STARTED", tags={"cvntrade/session": "x", "dagster/backfill": "backfilled"})
    run(instance, "r4", "SUCCESS", tags={"cvntrade/session": "ended"})
    assert [each.session for each in look(fresh).sessions] == ["ended"]


# Jobs


def run(instance, run_id, status, job="discovery", ended=NOW, seconds=60.0, tags=None):
    """A row of Dagster's, as its tables keep it: moments without a time zone, times in seconds since the epoch."""
    with instance.run_storage.connect() as connection:
        end = None if status in ("STARTED", "QUEUED") or seconds is None else ended.timestamp()
        row = {
            "run_id": run_id,
            "job": job,
            "status": status,
            "at": ended.tz_localize(None).to_pydatetime(),
            "end": end,
            "start": None if end is None else end - seconds,
        }
        connection.execute(
            sa.text(
                "insert into runs (run_id, pipeline_name, status, run_body, create_timestamp, update_timestamp, "
                "start_time, end_time) values (:run_id, :job, :status, '{}', :at, :at, :start, :end)"
            ),
            row,
        )
        for key, value in (tags or {}).items():
            connection.execute(
                sa.text("insert into run_tags (run_id, key, value) values (:run_id, :key, :value)"),
                {"run_id": run_id, "key": key, "value": value},
            )


def test_runs_are_counted_job_by_job_over_the_window(fresh, instance):
    run(instance, "1", "SUCCESS")
    run(instance, "2", "FAILURE", ended=NOW - 7 * DAY + MINUTE)
    run(instance, "3", "FAILURE", ended=NOW - 7 * DAY - MINUTE)
    run(instance, "4", "CANCELED")
    run(instance, "5", "STARTED")
    run(instance, "6", "FAILURE", tags={"dagster/will_retry": "true"})
    run(instance, "7", "FAILURE", tags={"dagster/will_retry": "false"})
    # It never started, and so never ended.
    run(instance, "8", "FAILURE", seconds=None)
    run(instance, "9", "SUCCESS", job="monitoring", ended=NOW - 6 * DAY)
    run(instance, "10", "SUCCESS", job="long ago", ended=NOW - 30 * DAY)
    counted = {job.job: (job.succeeded, job.failed) for job in look(fresh).jobs}
    assert counted == {"discovery": (1, 4), "monitoring": (1, 0)}


def test_the_newest_successful_runs_and_those_before_them(fresh, instance):
    for number in range(8):
        run(instance, str(number), "SUCCESS", ended=NOW - (20 - number) * DAY, seconds=100.0 + number)
    run(instance, "failed", "FAILURE", seconds=999.0)
    [job] = look(fresh, CVN_SIGNAL_LATENCY_RUNS=3).jobs
    assert job == JobFacts("discovery", 0, 1, (107.0, 106.0, 105.0), (104.0, 103.0, 102.0, 101.0, 100.0))


# Daemons


def beat(instance, daemon, ago):
    with instance.run_storage.connect() as connection:
        at = (NOW - ago).tz_localize(None).to_pydatetime()
        row = {"daemon": daemon, "at": at}
        connection.execute(
            sa.text(
                "insert into daemon_heartbeats (daemon_type, daemon_id, timestamp, body) values (:daemon, 'x', :at, '')"
            ),
            row,
        )


@pytest.fixture
def runs(fresh, instance):
    with closing(JobRuns(fresh)) as opened:
        yield opened


def test_a_daemon_is_down_once_it_has_been_silent_for_too_long(runs, instance):
    beat(instance, "SENSOR", 3 * MINUTE)
    beat(instance, "BACKFILL", 3.1 * MINUTE)
    assert dagster_facts.silent_daemons(runs, settings(), NOW) == ("daemon BACKFILL (silent for 3 minutes)",)
    assert dagster_facts.silent_daemons(runs, settings(CVN_WATCHDOG_MINUTES=4), NOW) == ()


def test_daemons_that_must_run_and_were_never_heard_of_are_down(runs, instance):
    beat(instance, "SENSOR", 0 * MINUTE)
    beat(instance, "FORMER", 900 * MINUTE)
    assert dagster_facts.silent_daemons(runs, settings(), NOW, ["SENSOR", "SCHEDULER"]) == (
        "daemon SCHEDULER (never heard of)",
    )


def test_no_daemon_at_all_is_down(runs):
    assert dagster_facts.silent_daemons(runs, settings(), NOW) == ("daemon (all of them) (never heard of)",)


@pytest.mark.parametrize(("minutes", "down"), [(2.9, 0), (3.1, 2)])
def test_what_an_earlier_process_left_behind_is_no_alarm_for_one_that_has_just_started(
    runs, instance, monkeypatch, minutes, down
):
    monkeypatch.setattr(dagster_facts, "daemon_since", lambda _: NOW - minutes * MINUTE)
    beat(instance, "SENSOR", 0.1 * MINUTE)
    beat(instance, "BACKFILL", 700 * MINUTE)
    required = ["SENSOR", "BACKFILL", "SCHEDULER"]
    assert len(dagster_facts.silent_daemons(runs, settings(), NOW, required)) == down


def test_a_daemon_process_is_seen_from_its_connection(runs, fresh):
    engine = sa.create_engine(fresh.address, connect_args={"application_name": "cvntrade daemon 1+abc 77@host"})
    with engine.connect(), runs.reading() as connection:
        started = dagster_facts.daemon_since(connection)
    engine.dispose()
    assert abs(started - pd.Timestamp.now("UTC")) < MINUTE


# Where the platform is asked


def test_the_machine_and_the_daemons_tell_of_the_platform(fresh, instance):
    beat(instance, "SENSOR", 0 * MINUTE)
    infra = look(fresh).infra
    assert (infra.source, infra.down) == ("machine", ()) and infra.cpu_used is not None


def test_a_prometheus_that_is_configured_is_the_source_also_when_it_does_not_answer(fresh, instance, monkeypatch):
    beat(instance, "SENSOR", 0 * MINUTE)
    monkeypatch.setenv("CVN_PROMETHEUS_URL", "http://127.0.0.1:1")
    found = look(fresh)
    assert (found.infra.source, found.infra.cpu_used, found.infra.down) == ("prometheus", None, None)
    assert "does not answer" in found.infra.trouble[0] and found.trouble == {}


@pytest.mark.parametrize("told", [None, (), ("machines gone",)])
@pytest.mark.parametrize("silent", [(), ("daemon SENSOR",)])
def test_what_is_down_in_the_cluster_and_in_dagster_comes_together(fresh, instance, monkeypatch, told, silent):
    monkeypatch.setenv("CVN_PROMETHEUS_URL", "http://127.0.0.1:1")
    monkeypatch.setattr(signal_facts, "infra_of_cluster", lambda _: InfraFacts("prometheus", down=told))
    monkeypatch.setattr(signal_facts, "silent_daemons", lambda *_: silent)
    assert look(fresh).infra.down == (None if told is None and not silent else (*silent, *(told or ())))


def test_silent_daemons_that_cannot_be_asked_for_leave_unknown_what_is_down(fresh, instance, monkeypatch):
    with instance.run_storage.connect() as connection:
        connection.execute(sa.text("alter table daemon_heartbeats rename to hidden"))
    try:
        infra = look(fresh).infra
    finally:
        with instance.run_storage.connect() as connection:
            connection.execute(sa.text("alter table hidden rename to daemon_heartbeats"))
    assert infra.down is None and infra.cpu_used is not None
    assert any("daemon_heartbeats" in said for said in infra.trouble)


# What cannot be read


def test_a_group_of_facts_that_cannot_be_read_leaves_the_rest(fresh, instance):
    register(fresh, 1, "champion", NOW - DAY)
    with fresh.begin() as connection:
        connection.execute(sa.text("alter table drift_reports rename to hidden"))
    try:
        found = look(fresh)
    finally:
        with fresh.begin() as connection:
            connection.execute(sa.text("alter table hidden rename to drift_reports"))
    assert list(found.trouble) == ["drift"] and "drift_reports" in found.trouble["drift"]
    assert found.cryptos[BTC].model_until == NOW - DAY


def test_without_dagsters_tables_jobs_and_sessions_are_unknown(fresh, instance):
    with instance.run_storage.connect() as connection:
        connection.execute(sa.text("alter table runs rename to hidden"))
    try:
        found = look(fresh)
    finally:
        with instance.run_storage.connect() as connection:
            connection.execute(sa.text("alter table hidden rename to runs"))
    assert set(found.trouble) == {"jobs", "sessions"} and found.jobs == ()


def test_candles_that_say_nothing_of_themselves_are_trouble_and_no_crash(fresh, instance):
    store_candles(fresh, "1", NOW - DAY, timeframe="fortnight")
    assert set(look(fresh).trouble) == {"candles"}


@pytest.mark.parametrize(
    ("status", "ago", "own"), [("STARTED", "3h", True), ("SUCCESS", "9min", True), ("SUCCESS", "11min", False)]
)
def test_runs_of_our_own_explain_why_the_machine_is_busy(fresh, instance, status, ago, own):
    run(instance, "a-run", status, ended=NOW - pd.Timedelta(ago))
    earlier = MachineWatch.look(NOW - pd.Timedelta("5min"))
    later = MachineWatch((*earlier.counters, *earlier.counters))
    assert gather(fresh, settings(), NOW, watch=later).infra.is_own_work is own
    assert gather(fresh, settings(), NOW, watch=earlier).infra.is_own_work, "the first look sees the start"
