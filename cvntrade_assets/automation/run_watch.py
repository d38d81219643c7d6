"""Sensor: watches every run, tells of slow ones while they go on, and has stuck ones ended."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass

import dagster as dg
import pandas as pd

from cvntrade_assets.operations.guardrails import Evaluation, Verdict
from cvntrade_assets.operations.run_watch import Finding, judge_duration, judge_factor, watch_run
from cvntrade_assets.settings import Settings
from resources.guardrail_log import record_evaluations
from resources.run_facts import (
    SeenRun,
    factor_minutes,
    recorded,
    runs_ended_since,
    runs_going_on,
    settings_of,
    updated,
)
from resources.secrets import process_mask
from resources.warehouse import Warehouse, WarehouseError
from resources.watched_runs import record_run

# On a run that is, or was, slow: which stages and limits. On one that was ended for being stuck: why.
SLOW_TAG, STUCK_TAG = "cvntrade/slow", "cvntrade/stuck"
MAX_RUNTIME_TAG, MAX_RETRIES_TAG = "dagster/max_runtime", "dagster/max_retries"

# One more try: a connection that hung may not hang again, while a deadlock comes back and would hold a place in the
# queue for as long as the limit each time.
STUCK_RETRIES = "1"

# A watch that looks for the first time, or for the first time in long, looks back so far.
_LOOK_BACK = pd.Timedelta(days=1)
# Run records become visible a little out of order: what changed so shortly before the newest is asked for again.
_OVERLAP = pd.Timedelta(seconds=60)
_AT_ONCE = 50
_ID_SHOWN = 8


@dataclass(frozen=True)
class Cursor:
    """Where the watch is: until when it has seen runs end, and which ends it saw in the overlap before that.

    An end is a run and a status: a run that was canceled for its time is marked as failed a moment later.
    """

    until: pd.Timestamp
    seen: tuple[str, ...] = ()

    @classmethod
    def read(cls, text: str | None, now: pd.Timestamp) -> "Cursor":
        """The cursor of the last tick."""
        if text is None:
            return cls(now - _LOOK_BACK)
        stored = json.loads(text)
        return cls(max(pd.Timestamp(stored["until"]), now - _LOOK_BACK), tuple(stored["seen"]))

    def text(self) -> str:
        """As Dagster keeps it."""
        return json.dumps({"until": self.until.isoformat(), "seen": list(self.seen)})

    def after(self, ended: Sequence[dg.RunRecord]) -> "Cursor":
        """The cursor once these runs have been seen too."""
        until = max((self.until, *(updated(record) for record in ended)))
        return Cursor(until, tuple(_end(record) for record in ended if updated(record) > until - _OVERLAP))


@dg.sensor(
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Records what runs take, flags slow stages and runs while they go on, and has stuck runs ended.",
)
def run_watch(
    context: dg.SensorEvaluationContext, warehouse: dg.ResourceParam[Warehouse]
) -> dg.SensorResult | dg.SkipReason:
    """Look at every run that goes on or has ended since the last look."""
    instance, now = context.instance, pd.Timestamp.now("UTC")
    cursor = Cursor.read(context.cursor, now)
    overlap = runs_ended_since(instance, cursor.until - _OVERLAP, _AT_ONCE + len(cursor.seen))
    ended = [record for record in overlap if _end(record) not in cursor.seen]
    going_on = runs_going_on(instance)
    if not ended and not going_on:
        return dg.SkipReason("no run goes on, and none has ended")
    runs = [SeenRun(instance, record, now) for record in (*ended, *going_on)]
    base_env = warehouse.base_env()
    known = recorded(warehouse, [seen.run.run_id for seen in runs])
    errors = [error for seen in runs if (error := _error_of_looking(seen, base_env, warehouse, known)) is not None]
    if errors:
        # Every run has been looked at; the tick fails for all to see, and the next one looks at these again.
        raise ExceptionGroup(f"{len(errors)} of {len(runs)} runs could not be watched", errors)
    told = f"{len(going_on)} runs go on, {len(ended)} have ended"
    return dg.SensorResult(skip_reason=dg.SkipReason(told), cursor=cursor.after(overlap).text())


def _end(record: dg.RunRecord) -> str:
    return f"{record.dagster_run.run_id} {record.dagster_run.status.value}"


def _error_of_looking(
    seen: SeenRun, base_env: dict[str, str], warehouse: Warehouse, known: set[tuple[str, str, str, str]]
) -> Exception | None:
    try:
        _look_at(seen, settings_of(seen.run, base_env, seen.now), warehouse, known)
    except WarehouseError:
        # Of no run can anything be recorded now.
        raise
    except Exception as error:  # noqa: BLE001 - whatever is wrong with one run must not leave the others unwatched
        return error
    return None


def _look_at(seen: SeenRun, settings: Settings, warehouse: Warehouse, known: set[tuple[str, str, str, str]]) -> None:
    """Record how one run stands and what is new of it, show that on the run, and have it ended when it is stuck."""
    began = time.perf_counter()
    try:
        row, found = seen.watched(), _judge(seen, settings)
    except Exception as error:  # noqa: BLE001 - whatever is wrong with one run must not hide the others
        row, message = None, f"the facts of this run could not be read ({type(error).__name__}: {error})"
        found = [Finding("", Evaluation("run_progresses", Verdict.UNKNOWN, message))]
    if row is not None:
        record_run(warehouse, row)
    if seen.run.is_finished and seen.factor is not None and (minutes := factor_minutes(warehouse, seen.factor)):
        found.append(Finding("", judge_factor(seen.factor, minutes, settings)))
    new = [each for each in found if (seen.run.run_id, *_key(each)) not in known]
    evaluations = [each.evaluation for each in new]
    # On record before anything is done about it: should the run be ended, it is known why.
    record_evaluations(warehouse, seen.occasion(settings, "watch"), evaluations, time.perf_counter() - began)
    if not seen.run.is_finished:
        _show(seen, [each for each in new if each.evaluation.verdict is not Verdict.PASSED])
        _mark(seen, found)


def _key(finding: Finding) -> tuple[str, str, str]:
    return finding.evaluation.guardrail, str(finding.evaluation.verdict), finding.stage


def _judge(seen: SeenRun, settings: Settings) -> list[Finding]:
    if seen.works:
        return watch_run(seen.facts(), settings)
    # A run that never started took no time to be judged.
    if seen.run.is_finished and seen.record.start_time is not None:
        return [Finding("", judge_duration(seen.facts(), settings))]
    return []


def _show(seen: SeenRun, new: Sequence[Finding]) -> None:
    """Say it in the run's own event log."""
    mask = process_mask()
    for each in new:
        message = f"guardrail {each.evaluation.guardrail}, {each.evaluation.verdict}: {each.evaluation.message}"
        seen.instance.report_engine_event(mask.text(message), seen.run)


def _mark(seen: SeenRun, found: Sequence[Finding]) -> None:
    """Set the run's tags; those of a stuck run make Dagster's run monitoring end it at its next look.

    Each says which run it is about, because a run that is started again from another one carries that one's tags, and
    they cannot be taken off.
    """
    own, before = f"run {seen.run.run_id[:_ID_SHOWN]}", seen.run.tags
    inherited = {name for name in (SLOW_TAG, STUCK_TAG) if before.get(name) and not before[name].startswith(own)}
    tags = dict.fromkeys(inherited, "")
    if STUCK_TAG in inherited:
        tags[MAX_RUNTIME_TAG] = ""
    slow = [each.stage or "run" for each in found if each.evaluation.guardrail in ("stage_in_time", "run_in_time")]
    if slow:
        tags[SLOW_TAG] = f"{own}: {', '.join(slow)}"
    stuck = next((each.evaluation for each in found if _key(each)[:2] == ("run_progresses", "critical")), None)
    if stuck is not None and not before.get(STUCK_TAG, "").startswith(own):
        tags[STUCK_TAG] = process_mask().text(f"{own}: {stuck.message}")
        # It has been at work for longer than this: monitoring ends it, whatever the limit of all runs is.
        tags[MAX_RUNTIME_TAG] = str(max(1, int(seen.seconds)))
        tags[MAX_RETRIES_TAG] = STUCK_RETRIES
    if changed := {name: text for name, text in tags.items() if before.get(name) != text}:
        seen.instance.add_run_tags(seen.run.run_id, changed)
