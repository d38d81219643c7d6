"""What a stack's own records say of a backfill: its runs, the ticks meanwhile, and what everything has grown to."""

import json
from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.scale_stack import ScaleError, ScaleStack
from resources.embedded_postgres import DATABASES

_MOMENTS = """
    select e.run_id, r.partition, e.dagster_event_type, extract(epoch from min(e.timestamp))
    from event_logs e join runs r on r.run_id = e.run_id
    where r.backfill_id = %s and e.dagster_event_type in ('PIPELINE_ENQUEUED', 'PIPELINE_STARTING', 'PIPELINE_START',
        'PIPELINE_SUCCESS', 'PIPELINE_FAILURE', 'PIPELINE_CANCELED')
    group by 1, 2, 3
"""
_EVENTS = """
    select count(*), coalesce(sum(length(event)), 0), coalesce(sum(length(event)) filter (
        where dagster_event_type like any (array['ASSET_%%', 'RUN_%%', 'PIPELINE_%%'])), 0)
    from event_logs where run_id = any(%s)
"""
_TABLES = """
    select c.relname, pg_total_relation_size(c.oid), pg_indexes_size(c.oid) from pg_class c
    join pg_namespace n on n.oid = c.relnamespace
    where c.relkind = 'r' and n.nspname = 'public' order by 2 desc limit 8
"""
_TICKS = "select tick_body from job_ticks where timestamp >= to_timestamp(%s) at time zone 'UTC' order by id"
_WHOLE = {"PIPELINE_ENQUEUED", "PIPELINE_STARTING", "PIPELINE_START", "end"}
_ENDS = ("PIPELINE_SUCCESS", "PIPELINE_FAILURE", "PIPELINE_CANCELED")


def spread(values: Sequence[float]) -> dict[str, float] | None:
    """Median, 95th percentile and maximum; None of nothing."""
    if not values:
        return None
    ordered = sorted(values)
    high = ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))]
    return {"median": round(median(ordered), 3), "p95": round(high, 3), "max": round(ordered[-1], 3)}


def runs_of(
    stack: ScaleStack, backfill: str, asked_at: float, slots: int, new: Collection[str]
) -> dict[str, dict[str, Any] | None]:
    """How the runs of a backfill went: all of them, those of new cryptos (built) and the others (again).

    Args:
        stack: Whose records.
        backfill: Its id.
        asked_at: When somebody asked for it, seconds since the epoch.
        slots: Runs at a time.
        new: The cryptos of which nothing was there.

    Returns:
        `backfill`: counts, and in seconds `wait` (queued to taken from the queue), `start_up` (then, to started:
        process and imports), `idle_slot` (a run has ended, and the next one is not yet taken), `submit` (asked to
        the last run queued), `wall` (asked to the last run's end). `built` and `again`: `run` (started to ended) and
        what is written of a run; None without any.

    Raises:
        ScaleError: no run ended.
    """
    moments: dict[str, dict[str, float]] = {}
    partitions: dict[str, str] = {}
    for run, partition, kind, at in stack.rows("dagster", _MOMENTS, backfill):
        moments.setdefault(run, {})[kind] = float(at)
        partitions[run] = partition
    whole = {run: _with_end(each) for run, each in moments.items()}
    ended = {run: each for run, each in whole.items() if each.keys() >= _WHOLE}
    if not ended:
        raise ScaleError(
            f"no run of backfill {backfill} ran from the queue to an end: {stack.ui_url}/runs/b/{backfill}"
        )
    built = {run: each for run, each in ended.items() if partitions[run] in new}
    again = {run: each for run, each in ended.items() if partitions[run] not in new}
    succeeded = sum("PIPELINE_SUCCESS" in each for each in whole.values())
    together = _together(list(ended.values()), asked_at, slots)
    return {
        "backfill": {"id": backfill, "runs": len(moments), "succeeded": succeeded, **together},
        "built": _kind(stack, built),
        "again": _kind(stack, again),
    }


def _together(ended: Sequence[Mapping[str, float]], asked_at: float, slots: int) -> dict[str, Any]:
    wall = max(each["end"] for each in ended) - asked_at
    return {
        "wall": round(wall, 2),
        "runs_per_hour": round(3600.0 * len(ended) / wall, 1),
        "submit": round(max(each["PIPELINE_ENQUEUED"] for each in ended) - asked_at, 2),
        "wait": spread([each["PIPELINE_STARTING"] - each["PIPELINE_ENQUEUED"] for each in ended]),
        "start_up": spread([each["PIPELINE_START"] - each["PIPELINE_STARTING"] for each in ended]),
        "idle_slot": spread(idle_slots(ended, slots)),
    }


def _kind(stack: ScaleStack, runs: Mapping[str, Mapping[str, float]]) -> dict[str, Any] | None:
    if not runs:
        return None
    [(events, event_bytes, kept_bytes)] = stack.rows("dagster", _EVENTS, list(runs))
    return {
        "runs": len(runs),
        "run": spread([each["end"] - each["PIPELINE_START"] for each in runs.values()]),
        "events_per_run": round(events / len(runs), 1),
        "event_bytes_per_run": round(float(event_bytes) / len(runs)),
        # What the retention of the event log leaves: see resources/event_log.py.
        "kept_event_bytes_per_run": round(float(kept_bytes) / len(runs)),
    }


def _with_end(moments: dict[str, float]) -> dict[str, float]:
    ends = [moments[kind] for kind in _ENDS if kind in moments]
    return moments | ({"end": min(ends)} if ends else {})


def idle_slots(ended: Sequence[Mapping[str, float]], slots: int) -> list[float]:
    """The n-th run to be taken had to wait for the (n - slots)-th to end; what it waited longer, the slot was idle."""
    ends = sorted(each["end"] for each in ended)
    taken = sorted(each["PIPELINE_STARTING"] for each in ended)
    return [max(0.0, begun - end) for begun, end in zip(taken[slots:], ends, strict=False)]


def ticks_since(stack: ScaleStack, since: float) -> dict[str, dict[str, Any]]:
    """Of every sensor and schedule that ticked: how often, how long, its failures, the longest gap between two.

    Args:
        stack: Whose records.
        since: Seconds since the epoch.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    for (body,) in stack.rows("dagster", _TICKS, since):
        tick = json.loads(body)
        found.setdefault(tick["job_name"], []).append(tick)
    return {name: _ticks(ticks) for name, ticks in sorted(found.items())}


def _ticks(ticks: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    begun = [float(each["timestamp"]) for each in ticks]
    took = [float(each["end_timestamp"]) - float(each["timestamp"]) for each in ticks if each.get("end_timestamp")]
    gaps = [after - before for before, after in pairwise(begun)]
    return {
        "ticks": len(ticks),
        "failed": sum("FAILURE" in json.dumps(each["status"]) for each in ticks),
        "seconds": spread(took),
        "longest_gap": round(max(gaps), 1) if gaps else None,
    }


def sizes(stack: ScaleStack) -> dict[str, Any]:
    """Bytes of every database and its largest tables with their rows, and of the folders beside them."""
    databases: dict[str, Any] = {}
    for database in DATABASES:
        [(size,)] = stack.rows(database, "select pg_database_size(current_database())")
        tables = {}
        for name, total, indexes in stack.rows(database, _TABLES):
            [(rows,)] = stack.rows(database, f'select count(*) from "{name}"')
            tables[name] = {"bytes": int(total), "index_bytes": int(indexes), "rows": int(rows)}
        databases[database] = {"bytes": int(size), "tables": tables}
    folders = {name: folder_size(stack.home / name) for name in ("artifacts", "mlflow", "compute_logs", "server_logs")}
    [(text,)] = stack.rows("dagster", "select coalesce(sum(length(event)), 0) from event_logs")
    return {"databases": databases, "event_text_bytes": int(text), "folders": folders}


def folder_size(folder: Path) -> dict[str, int]:
    """Bytes and files below a folder."""
    files = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    return {"bytes": sum(files), "files": len(files)}
