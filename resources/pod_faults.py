"""Faults of the pods of runs on record: written by the launcher, read for signals, alerts and retries."""

from collections.abc import Collection, Mapping

import dagster as dg
import pandas as pd
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from cvntrade_assets.operations.factors import FACTORS
from cvntrade_assets.operations.pod_faults import SATURATED, Found, PodFault, RecordedFault
from cvntrade_assets.operations.run_pods import given_memory_gib
from resources.moments import as_stored, as_utc
from resources.secrets import process_mask
from resources.tables import POD_FAULTS, WATCHED_RUNS
from resources.warehouse import Warehouse

COUNTED = pd.Timedelta(hours=24)
"""For how long a fault counts."""

_PARTITION = "dagster/partition"


def crypto_of(run: dg.DagsterRun) -> str | None:
    """The crypto that a run is of; None for a run of none, such as that of a rollout's gate, whose key is a factor."""
    key = run.tags.get(_PARTITION)
    return None if key in FACTORS else key


def record_fault(warehouse: Warehouse, run: dg.DagsterRun, work: str, found: Found) -> str:
    """Write down what is wrong with a run's pod, once; returns it as it is told.

    Args:
        warehouse: Where.
        run: Whose pod; its tags say what that was given.
        work: What the run does.
        found: The fault.

    Raises:
        WarehouseError: PostgreSQL did not take it.
    """
    memory = given_memory_gib(run.tags)
    message = process_mask().text(found.told(memory))
    row = {
        "run_id": run.run_id,
        "job": run.job_name,
        "crypto": crypto_of(run),
        "work": work,
        "kind": str(found.kind),
        "pod": found.pod,
        "node": found.node,
        "memory_gib": memory,
        "message": message,
    }
    with warehouse.begin() as connection:
        connection.execute(insert(POD_FAULTS).values(row).on_conflict_do_nothing())
    return message


def killed_at_gib(warehouse: Warehouse, run_ids: Collection[str]) -> float | None:
    """Memory of the largest pod of these runs that was killed for want of it; None when none was.

    Raises:
        WarehouseError: PostgreSQL does not answer, or lacks our tables.
    """
    table = POD_FAULTS
    killed = table.c.run_id.in_(list(run_ids)) & (table.c.kind == str(PodFault.OOM))
    with warehouse.begin() as connection:
        given = connection.scalar(sa.select(sa.func.max(table.c.memory_gib)).where(killed))
    return None if given is None else float(given)


def count_faults(warehouse: Warehouse, now: pd.Timestamp) -> tuple[int, int]:
    """Pods of the last 24 hours that were killed for want of memory, and that were lost or found no node.

    Raises:
        WarehouseError: PostgreSQL does not answer, or lacks our tables.
    """
    table = POD_FAULTS
    recent = table.c.found_at > as_stored(now - COUNTED)
    query = sa.select(table.c.kind, sa.func.count().label("found")).where(recent).group_by(table.c.kind)
    with warehouse.begin() as connection:
        counted: Mapping[str, int] = {row.kind: row.found for row in connection.execute(query)}
    return counted.get(PodFault.OOM, 0), sum(counted.get(kind, 0) for kind in SATURATED)


def standing_faults(connection: sa.Connection, now: pd.Timestamp) -> list[RecordedFault]:
    """Faults of the last 24 hours after which no run of the same job and crypto succeeded, oldest first.

    Args:
        connection: Of the transaction that makes alerts of them.
        now: The moment.
    """
    fault, run = POD_FAULTS, WATCHED_RUNS
    succeeded = sa.exists().where(
        run.c.job == fault.c.job,
        run.c.crypto.is_not_distinct_from(fault.c.crypto),
        run.c.status == dg.DagsterRunStatus.SUCCESS.value,
        run.c.ended_at > fault.c.found_at,
    )
    query = sa.select(fault).where(fault.c.found_at > as_stored(now - COUNTED), ~succeeded).order_by(fault.c.id)
    return [
        RecordedFault(PodFault(row.kind), row.run_id, row.job, row.crypto, row.message, as_utc(row.found_at))
        for row in connection.execute(query)
    ]
