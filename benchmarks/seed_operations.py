"""Fills a stack's databases as a month of operation would: runs, evaluations, models, candles, drift and signals.

The numbers are made up; what counts is how many there are, and where.
"""

import dagster as dg
import sqlalchemy as sa
from dagster._serdes import serialize_value

from resources.job_runs import JobRuns
from resources.warehouse import Warehouse

JOBS = ("discovery", "monitoring")
_NAMES = "select i, 'C' || lpad(i::text, 4, '0') || 'USDC' as crypto from generate_series(1, :cryptos) as i"
_DAYS = "generate_series(0, :days - 1) as day"

_OURS = (
    "insert into cvntrade_universes (group_name, crypto) "
    f"select case when i <= 2 then 'btc-core' else 'defi' end, crypto from ({_NAMES}) as universe",
    # The record is as long as a real one.
    f"""
    insert into evaluations (run_id, crypto, pte, session, market, evaluation_version, walk_forward_version,
        rolling_version, reused, window_from, window_to, rank, leads, f1_buy, baseline_f1_buy, screening_f1_buy,
        last_fold_f1_buy, std_f1_buy, sortino, sl_pct, timeout_pct, n_trades, screened, eligible, tested, passed,
        gates_passed, primary_code, codes, severity, record, recorded_at)
    select 'run-discovery-' || i || '-' || day, crypto, 'H4_SL1.0_TP' || pte, 'session-' || day, 'binance',
        'e-' || i || '-' || day, 'w-' || i || '-' || day, 'r-' || i || '-' || day, false,
        now() - interval '60 days', now() - day * interval '1 day', pte, pte = 1, 0.4 + random() / 5, 0.35, 0.5, 0.45,
        0.04, random() * 4 - 1, 0.3, 0.2, 60, 96, 40, 5, case when i % 20 = 0 then 1 else 0 end, i % 20 = 0, 'ML_SOLID',
        '["ML_SOLID"]', 'P3', (select jsonb_object_agg('field ' || n, md5((random() + i)::text))
            from generate_series(1, 120) as n),
        now() - day * interval '1 day'
    from ({_NAMES}) as universe, {_DAYS}, generate_series(1, 5) as pte
    """,
    f"""
    insert into model_versions (crypto, number, state, epoch, market, pte, rolling_version, model_sha256,
        evaluation_version, fitted_until, data_until)
    select crypto, 31 - day, case when day = 1 then 'champion' when day = 0 and i % 50 = 0 then 'challenger'
        else 'archived' end, 1, 'binance', 'H4_SL1.0_TP1', 'r-' || i || '-' || day, md5(random()::text),
        'e-' || i || '-' || day, now() - (day + 1) * interval '1 day', now() - day * interval '1 day'
    from ({_NAMES}) as universe, {_DAYS}
    """,
    f"""
    insert into artifact_versions (asset, crypto, version, market, location, manifest_sha256, bytes, manifest, run_id,
        published_at)
    select asset, crypto, 'v-' || day, 'binance', 'artifacts', md5(random()::text), 1000000,
        jsonb_build_object(
            'summary', jsonb_build_object('to', now() - day * interval '1 day' - interval '30 minutes',
                'timeframe', '30m', 'rows', 35040),
            'files', (select jsonb_object_agg('file ' || n, md5((random() + i)::text) || md5((random() + i)::text))
                from generate_series(1, 20) as n)),
        'run-discovery-' || i || '-' || day, now() - day * interval '1 day'
    from ({_NAMES}) as universe, {_DAYS}, unnest(array['candles', 'backtest_candles', 'features']) as asset
    """,
    f"""
    insert into drift_reports (run_id, crypto, market, drift_version, model_version, rows, features, drifted, share,
        labelled, level, reason, details, recorded_at)
    select 'run-monitoring-' || i || '-' || day, crypto, 'binance', 'd', 'm', 1000, 177, 1, 0.01, 500, 'ok', 'quiet',
        '{{}}', now() - day * interval '1 day'
    from ({_NAMES}) as universe, {_DAYS}
    """,
    f"""
    insert into signal_points (signal, subject, value, level, reason, observed_at)
    select signal, crypto, random(), 'ok', 'a sentence about what was measured and what it was held against',
        now() - hour * interval '1 hour'
    from ({_NAMES}) as universe, generate_series(1, :days * 24) as hour, unnest(cast(:signals as text[])) as signal
    """,
)
_DAGSTERS = (
    f"""
    insert into runs (run_id, pipeline_name, status, run_body, partition, create_timestamp, update_timestamp,
        start_time, end_time)
    select 'run-' || job || '-' || i || '-' || day, job, status, replace(:body, 'THE-RUN', crypto), crypto, at,
        at + interval '9 minutes', extract(epoch from at at time zone 'UTC'),
        extract(epoch from at at time zone 'UTC') + 300 + i
    from (
        select i, crypto, day, job, case when (i + day) % 25 = 0 then 'FAILURE' else 'SUCCESS' end as status,
            (now() at time zone 'UTC') - day * interval '1 day' - interval '1 hour' as at
        from ({_NAMES}) as universe, {_DAYS}, unnest(cast(:jobs as text[])) as job
    ) as ended
    """,
    """
    insert into run_tags (run_id, key, value)
    select run_id, key, partition from runs, unnest(array['dagster/partition', 'cvntrade/session', 'cvntrade/code',
        'cvntrade/group', 'dagster/partition_set', '.dagster/repository']) as key
    """,
    """
    insert into daemon_heartbeats (daemon_type, daemon_id, timestamp, body)
    select daemon, 'one', now() at time zone 'UTC', '{}' from unnest(cast(:daemons as text[])) as daemon
    """,
)


def seed(warehouse: Warehouse, instance: dg.DagsterInstance, cryptos: int, days: int, signals: tuple[str, ...]) -> None:
    """Write a month of everything.

    Args:
        warehouse: With the newest tables, empty.
        instance: On the same server.
        cryptos: How many.
        days: How many.
        signals: Those with a point an hour for every crypto.
    """
    asked = {"cryptos": cryptos, "days": days, "signals": list(signals)}
    with warehouse.begin() as connection:
        # Models go through all their states otherwise, one after the other.
        connection.execute(sa.text("alter table model_versions disable trigger user"))
        for statement in _OURS:
            connection.execute(sa.text(statement), asked)
        connection.execute(sa.text("alter table model_versions enable trigger user"))
        names = connection.scalars(sa.text("select crypto from cvntrade_universes")).all()
    body = serialize_value(dg.DagsterRun(job_name="discovery", run_id="THE-RUN", tags={"dagster/partition": "THE-RUN"}))
    told = asked | {"jobs": list(JOBS), "body": body, "daemons": sorted(instance.get_required_daemon_types())}
    runs = JobRuns(warehouse)
    with runs.reading() as connection:
        for statement in _DAGSTERS:
            connection.execute(sa.text(statement), told)
        connection.commit()
        connection.execute(sa.text("analyze"))
    with warehouse.begin() as connection:
        connection.execute(sa.text("analyze"))
    runs.close()
    instance.add_dynamic_partitions("crypto", list(names))
