"""What signals need of Dagster's own tables: how jobs went, which sessions go on, which daemons are silent.

Read as `job_runs.py` reads them: set by set, and when no webserver answers.
"""

from collections.abc import Collection

import pandas as pd
import sqlalchemy as sa

from cvntrade_assets.operations.facts import JobFacts
from cvntrade_assets.operations.sessions import SESSION_TAG
from cvntrade_assets.settings import Settings
from resources.code_version import read_connection_name
from resources.job_runs import JobRuns

_ENDED = "('SUCCESS', 'FAILURE', 'CANCELED')"
# So many of a job's newest successful runs are its history, or as many as the settings ask for.
_HISTORY = 200

# A run that failed and is started again by Dagster itself is told by the run that comes of it. Times of runs are
# seconds since the epoch, other moments UTC without saying so. A run may end before it ever started.
_JOBS = sa.text(f"""
    with ended as (
        select pipeline_name as job, status = 'SUCCESS' as succeeded
        from runs
        where status in {_ENDED} and update_timestamp >= :since
            and coalesce(to_timestamp(end_time) at time zone 'UTC', update_timestamp) >= :since
            and not (status = 'FAILURE' and exists (
                select from run_tags
                where run_tags.run_id = runs.run_id and key = 'dagster/will_retry' and value = 'true'
            ))
    ), counted as (
        select job, count(*) filter (where succeeded) as succeeded, count(*) filter (where not succeeded) as failed
        from ended group by job
    )
    select counted.*, newest.seconds
    from counted cross join lateral (
        select coalesce(array_agg(seconds order by id desc), array[]::double precision[]) as seconds
        from (
            select id, end_time - start_time as seconds
            from runs
            where pipeline_name = counted.job and status = 'SUCCESS' and start_time is not null and end_time is not null
            order by id desc limit :history
        ) as successful
    ) as newest
    order by job
""")
_GOING_ON = sa.text(f"""
    select distinct coalesce(
        (select value from run_tags where run_tags.run_id = runs.run_id and key = 'dagster/backfill' limit 1),
        (select value from run_tags where run_tags.run_id = runs.run_id and key = :session_tag limit 1),
        run_id
    )
    from runs where status not in {_ENDED}
""")
_LATELY = pd.Timedelta(minutes=10)
_AT_WORK = sa.text(f"select exists (select from runs where status not in {_ENDED} or update_timestamp >= :lately)")
_HEARTBEATS = sa.text("select daemon_type, timestamp from daemon_heartbeats")
# A role that may not see others' connections sees no start of theirs.
_CONNECTED = sa.text("select application_name, backend_start from pg_stat_activity where backend_start is not null")


def job_facts(runs: JobRuns, settings: Settings, now: pd.Timestamp) -> tuple[JobFacts, ...]:
    """Every job with a run that ended in the window of the success rate, by name.

    Raises:
        WarehouseError: Dagster's tables cannot be read.
    """
    window = pd.Timedelta(days=settings.whole("CVN_SIGNAL_SUCCESS_WINDOW_DAYS"))
    newest = settings.whole("CVN_SIGNAL_LATENCY_RUNS")
    history = max(_HISTORY, newest + settings.whole("CVN_SIGNAL_LATENCY_HISTORY"))
    asked = {"since": (now - window).tz_convert("UTC").tz_localize(None).to_pydatetime(), "history": history}
    with runs.reading() as connection:
        rows = connection.execute(_JOBS, asked).all()
    return tuple(
        JobFacts(row.job, row.succeeded, row.failed, tuple(row.seconds[:newest]), tuple(row.seconds[newest:]))
        for row in rows
    )


def sessions_going_on(runs: JobRuns) -> frozenset[str]:
    """Sessions with a run that has not ended.

    Raises:
        WarehouseError: Dagster's tables cannot be read.
    """
    with runs.reading() as connection:
        return frozenset(connection.scalars(_GOING_ON, {"session_tag": SESSION_TAG}))


def is_at_work(runs: JobRuns, now: pd.Timestamp) -> bool:
    """Whether a run goes on, or ended within the last minutes, which processors are averaged over.

    Raises:
        WarehouseError: Dagster's tables cannot be read.
    """
    lately = (now - _LATELY).tz_convert("UTC").tz_localize(None).to_pydatetime()
    with runs.reading() as connection:
        return bool(connection.scalar(_AT_WORK, {"lately": lately}))


def silent_daemons(
    runs: JobRuns, settings: Settings, now: pd.Timestamp, required: Collection[str] | None = None
) -> tuple[str, ...]:
    """Dagster's daemons without a heartbeat for CVN_WATCHDOG_MINUTES, each with how long that is.

    All daemons run in one process. What an earlier process left behind says nothing of one that has just started:
    silence counts from its start.

    Args:
        runs: Dagster's tables.
        settings: With the limit.
        now: The wall clock, UTC.
        required: The daemons that must run; None for those that ever sent a heartbeat.

    Raises:
        WarehouseError: Dagster's tables cannot be read.
    """
    limit = pd.Timedelta(minutes=settings.number("CVN_WATCHDOG_MINUTES"))
    with runs.reading() as connection:
        beats = {row.daemon_type: pd.Timestamp(row.timestamp, tz="UTC") for row in connection.execute(_HEARTBEATS)}
        started = daemon_since(connection)
    silent = []
    for daemon in sorted(beats if required is None else required) or ["(all of them)"]:
        moments = [moment for moment in (beats.get(daemon), started) if moment is not None]
        silence = now - max(moments) if moments else pd.Timedelta.max
        if silence > limit and daemon in beats:
            silent.append(f"daemon {daemon} (silent for {(now - beats[daemon]) / pd.Timedelta(minutes=1):.0f} minutes)")
        elif silence > limit:
            silent.append(f"daemon {daemon} (never heard of)")
    return tuple(silent)


def daemon_since(connection: sa.Connection) -> pd.Timestamp | None:
    """When the oldest of the daemon processes that live now connected to this server; None when none is connected."""
    connected = connection.execute(_CONNECTED).all()
    named = [(read_connection_name(row.application_name or ""), row.backend_start) for row in connected]
    moments = [since for name, since in named if name is not None and name[0] == "daemon"]
    return pd.Timestamp(min(moments)).tz_convert("UTC") if moments else None
