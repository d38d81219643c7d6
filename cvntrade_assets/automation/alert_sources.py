"""Sensor: makes alerts of failed checks and runs, what the watch over runs finds, pods that failed, failed ticks."""

import itertools
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import dagster as dg
import pandas as pd
import sqlalchemy as sa

from cvntrade_assets.operations.condition import Condition
from cvntrade_assets.operations.factors import FACTORS
from cvntrade_assets.operations.pod_faults import SOURCE as POD_FAULTS
from cvntrade_assets.operations.pod_faults import fault_conditions
from cvntrade_assets.operations.taxonomy import Role
from cvntrade_assets.partitions import CRYPTO
from resources.alert_settings import alert_settings
from resources.alert_sources import (
    Found,
    Known,
    check_records,
    failed_ticks,
    findings,
    is_settled,
    read_checks,
    read_findings,
    read_runs,
    same_check,
)
from resources.alerts import raise_alerts, reconcile, resolve_alerts
from resources.pod_faults import standing_faults
from resources.run_facts import runs_ended_since, runs_going_on, updated
from resources.warehouse import Warehouse

# A sensor that looks for the first time, or for the first time in long, looks back so far.
LOOK_BACK = pd.Timedelta(days=1)
# Of each kind, so much at a tick; the rest waits for the next ones.
AT_ONCE = 200
RUNS_AT_ONCE = 50
# Rows become visible a little out of the order of their numbers: those shortly before the newest are asked for again.
OVERLAP = 1000
_OVERLAP_TIME = pd.Timedelta(seconds=60)
_CURSOR_VERSION = 1
_TEAMS: Mapping[str, Role] = {f"team:{role.lower().replace(' ', '-')}": role for role in Role}


@dataclass(frozen=True)
class Position:
    """How far a numbered log has been read: up to where, and what of the overlap before that."""

    until: int = 0
    seen: tuple[int, ...] = ()

    @property
    def after(self) -> int:
        """What follows this number is asked for."""
        return max(0, self.until - OVERLAP)

    @property
    def limit(self) -> int:
        """How much is asked for: what was seen comes again."""
        return AT_ONCE + len(self.seen)

    def moved(self, numbers: Sequence[int]) -> "Position":
        """The position once these have been read, those that came again among them."""
        until = max((self.until, *numbers))
        return Position(until, tuple(number for number in numbers if number > until - OVERLAP))


@dataclass(frozen=True)
class RunEnds:
    """Until when runs have been seen to end, and which ends of the overlap before that."""

    until: pd.Timestamp
    seen: tuple[str, ...] = ()


@dataclass(frozen=True)
class Cursor:
    """What one tick leaves to the next."""

    runs: RunEnds
    checks: Position = field(default_factory=Position)
    findings: Position = field(default_factory=Position)

    @classmethod
    def read(cls, text: str | None, now: pd.Timestamp) -> "Cursor":
        """The cursor of the last tick; one of another version is begun anew."""
        stored = json.loads(text) if text is not None else {}
        if stored.get("version") != _CURSOR_VERSION:
            return cls(RunEnds(now - LOOK_BACK))
        ends, checks, found = stored["runs"], stored["checks"], stored["findings"]
        return cls(
            # Not later than now either: what a clock that was ahead left behind would hide what ends until then.
            RunEnds(min(max(pd.Timestamp(ends["until"]), now - LOOK_BACK), now), tuple(ends["seen"])),
            Position(checks["until"], tuple(checks["seen"])),
            Position(found["until"], tuple(found["seen"])),
        )

    def text(self) -> str:
        """As Dagster keeps it."""
        content: dict[str, Any] = {
            "version": _CURSOR_VERSION,
            "runs": {"until": self.runs.until.isoformat(), "seen": self.runs.seen},
            "checks": {"until": self.checks.until, "seen": self.checks.seen},
            "findings": {"until": self.findings.until, "seen": self.findings.seen},
        }
        return json.dumps(content, separators=(",", ":"))


@dg.sensor(
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Makes alerts of failed checks, failed, stuck and slow runs, and failed sensors and schedules, and "
    "says when they are over.",
)
def alert_sources(context: dg.SensorEvaluationContext, warehouse: dg.ResourceParam[Warehouse]) -> dg.SensorResult:
    """Read what is new since the last tick. Reading it twice comes to the same."""
    now = pd.Timestamp.now("UTC")
    settings = alert_settings(warehouse, now)
    cursor = Cursor.read(context.cursor, now)
    instance, code = context.instance, context.repository_def
    checks, checked = _new_checks(instance, cursor.checks, now, code)
    known = Known(_partitions(instance), _checks(code))
    ticks = failed_ticks(instance, None if code is None else [each.name for each in _instigators(code)])
    with warehouse.begin() as connection:
        # Before the ends of runs: what ends meanwhile is over, whatever was found of it.
        watched, read = _new_findings(connection, cursor.findings, now, instance)
        ended, ends = _new_ends(instance, cursor.runs, now)
        over = {**checks.over, **watched.over, **ended.over, **known.left(connection)}
        found = [*_about(known, checks), *_about(known, ended), *watched.conditions.values()]
        conditions = [condition for condition in found if condition.key not in over]
        reconcile(connection, "ticks", ticks, now, settings)
        pods = fault_conditions(standing_faults(connection, now))
        reconcile(connection, POD_FAULTS, pods, now, settings)
        raise_alerts(connection, conditions, now, settings)
        closed = resolve_alerts(connection, over, now)
    holding = f"{len(conditions)} conditions, {len(ticks)} failing sensors or schedules, {len(pods)} pods of runs"
    told = f"{holding}, {closed} alerts are over"
    return dg.SensorResult(skip_reason=dg.SkipReason(told), cursor=Cursor(ends, checked, read).text())


def _new_checks(
    instance: dg.DagsterInstance, position: Position, now: pd.Timestamp, code: dg.RepositoryDefinition | None
) -> tuple[Found, Position]:
    records = check_records(instance, position.after, now - LOOK_BACK, position.limit)
    numbers = [record.storage_id for record in records]
    # Of what is touched by anything new, the newest word counts, and that may have been read before.
    new = {same_check(record) for record in records if record.storage_id not in position.seen}
    touched = [each for each in records if same_check(each) in new]
    return read_checks(instance, touched, lambda asset: _owner(asset, code)), position.moved(numbers)


def _about(known: Known, found: Found) -> list[Condition]:
    """The conditions that are about what there is: the log remembers checks and cryptos that are gone."""
    return [each for each in found.conditions.values() if known.why_over(each.key, each.kind) is None]


def _new_findings(
    connection: sa.Connection, position: Position, now: pd.Timestamp, instance: dg.DagsterInstance
) -> tuple[Found, Position]:
    rows = findings(connection, position.after, now - LOOK_BACK, position.limit)
    new = [row for row in rows if row["id"] not in position.seen]
    going_on = {record.dagster_run.run_id for record in runs_going_on(instance)} if new else set()
    return read_findings(new, going_on), position.moved([row["id"] for row in rows])


def _new_ends(instance: dg.DagsterInstance, ends: RunEnds, now: pd.Timestamp) -> tuple[Found, RunEnds]:
    overlap = runs_ended_since(instance, ends.until - _OVERLAP_TIME, RUNS_AT_ONCE + len(ends.seen))
    # What follows from the first one that is not settled may have to be told after it.
    settled = list(itertools.takewhile(lambda record: is_settled(instance, record, now), overlap))
    new = [record for record in settled if _end(record) not in ends.seen]
    until = max((ends.until, *(updated(record) for record in settled)))
    seen = tuple(_end(record) for record in settled if updated(record) > until - _OVERLAP_TIME)
    return read_runs(instance, new), RunEnds(until, seen)


def _end(record: dg.RunRecord) -> str:
    """A run and how it ended: one that is canceled for its time is marked as failed a moment later."""
    return f"{record.dagster_run.run_id} {record.dagster_run.status.value}"


def _owner(asset: dg.AssetKey, code: dg.RepositoryDefinition | None) -> Role:
    """Who answers for an asset; for one that nobody is named for, who keeps the pipelines running."""
    graph = code.asset_graph if code is not None else None
    owners = graph.get(asset).owners if graph is not None and graph.has(asset) else ()
    return next((_TEAMS[owner] for owner in owners if owner in _TEAMS), Role.MLOPS_MAINTAINER)


def _instigators(code: dg.RepositoryDefinition) -> Sequence[dg.SensorDefinition | dg.ScheduleDefinition]:
    return [*code.sensor_defs, *code.schedule_defs]


def _checks(code: dg.RepositoryDefinition | None) -> Collection[str] | None:
    if code is None:
        return None
    return {f"{key.asset_key.to_user_string()}.{key.name}" for key in code.asset_graph.asset_check_keys}


def _partitions(instance: dg.DagsterInstance) -> set[str]:
    assert CRYPTO.name is not None
    return {*instance.get_dynamic_partitions(CRYPTO.name), *FACTORS}
