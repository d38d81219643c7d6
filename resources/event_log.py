"""Retention of Dagster's event log, which has none of its own.

What operators and the gate still need is kept for ever: materializations, check verdicts, and how runs began and ended.
What goes is the chatter of old runs: heartbeats, logs, step and resource events.
"""

import dagster as dg
import pandas as pd
import sqlalchemy as sa
from dagster._core.storage.event_log.schema import SqlEventLogStorageTable
from dagster._core.storage.event_log.sql_event_log import SqlEventLogStorage

_KEPT_PREFIXES = ("ASSET_", "RUN_", "PIPELINE_")


def purge_events(instance: dg.DagsterInstance, before: pd.Timestamp) -> int:
    """Delete the chatter of runs from before a moment; returns how many events went.

    Args:
        instance: The Dagster instance whose event log is purged.
        before: UTC; younger events stay.

    Raises:
        TypeError: the instance does not keep its events in a SQL database.
    """
    storage = instance.event_log_storage
    if not isinstance(storage, SqlEventLogStorage):
        raise TypeError(
            f"cannot purge an event log of type {type(storage).__name__}: expected a SQL one, see dagster.yaml"
        )
    table = SqlEventLogStorageTable
    kind = table.c.dagster_event_type
    chatter = sa.or_(kind.is_(None), sa.and_(*(kind.not_like(f"{prefix}%") for prefix in _KEPT_PREFIXES)))
    old = table.c.timestamp < before.tz_convert("UTC").tz_localize(None).to_pydatetime()
    with storage.index_connection() as connection:
        return connection.execute(sa.delete(table).where(old, chatter)).rowcount
