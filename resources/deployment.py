"""What PostgreSQL and Dagster know of a deployment: the processes that are connected, the runs in progress, the schema.

Only what lives now counts: a process that is connected is alive, on one machine as on a cluster.
"""

import re
from pathlib import Path

import dagster as dg
import pandas as pd
import sqlalchemy as sa

from cvntrade_assets.operations.doctor import LiveProcess, LiveRun
from resources.code_version import COMMAND, read_connection_name
from resources.run_settings import CODE_TAG
from resources.warehouse import Warehouse

IN_PROGRESS = (dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING)

_CONNECTED = sa.text(
    "select application_name, min(backend_start) as since from pg_stat_activity "
    "where application_name like 'cvntrade %' group by application_name order by since"
)
_MIGRATIONS = Path(__file__).parent / "migrations"
_PROCESS = re.compile(r"\(pid: (\d+)\)")


def connected_processes(warehouse: Warehouse) -> list[LiveProcess]:
    """Every server and run worker that is connected to this PostgreSQL, oldest first; commands are left out.

    PostgreSQL shows everybody's name and, but for one's own role, nobody's start.
    """
    with warehouse.begin() as connection:
        rows = connection.execute(_CONNECTED).all()
    found = [(read_connection_name(row.application_name), row.since) for row in rows]
    return [
        LiveProcess(*named, None if since is None else pd.Timestamp(since).tz_convert("UTC"))
        for named, since in found
        if named is not None and named[0] != COMMAND
    ]


def runs_in_progress(instance: dg.DagsterInstance) -> list[LiveRun]:
    """Every run that Dagster believes in progress, newest first; what only waits in the queue is none."""
    records = instance.get_run_records(filters=dg.RunsFilter(statuses=list(IN_PROGRESS)))
    return [_live_run(instance, record) for record in records]


def _live_run(instance: dg.DagsterInstance, record: dg.RunRecord) -> LiveRun:
    run = record.dagster_run
    newest = instance.get_records_for_run(run.run_id, limit=1, ascending=False).records
    moment = newest[0].timestamp if newest else record.create_timestamp.timestamp()
    return LiveRun(
        run.run_id,
        run.tags.get("dagster/partition", ""),
        run.status.value,
        run.tags.get(CODE_TAG),
        _worker(instance, run.run_id),
        pd.Timestamp(moment, unit="s", tz="UTC"),
    )


def _worker(instance: dg.DagsterInstance, run_id: str) -> int | None:
    """Process id of a run's worker, which says it when it begins; of the last one, when it began again."""
    events = instance.all_logs(run_id, of_type=dg.DagsterEventType.ENGINE_EVENT)
    said = [found for event in events if (found := _PROCESS.search(event.message))]
    return int(said[-1][1]) if said else None


def schema_revisions(warehouse: Warehouse) -> tuple[str | None, str]:
    """The operations schema's migration (None before the first one), and the newest that this code has."""
    from alembic.migration import MigrationContext
    from alembic.script import ScriptDirectory

    with warehouse.begin() as connection:
        applied = MigrationContext.configure(connection).get_current_revision()
    newest = ScriptDirectory(str(_MIGRATIONS)).get_current_head()
    assert newest is not None, f"{_MIGRATIONS} holds migrations"
    return applied, newest
