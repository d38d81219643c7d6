"""What Dagster's records and our own tell that somebody has to know: failed checks, runs, watched runs, ticks.

Each reader gives the conditions that hold, and the keys of those that are over with the reason. What is read twice
comes to the same: the newest word on a key counts.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import dagster as dg
import pandas as pd
import sqlalchemy as sa
from dagster._core.event_api import PartitionKeyFilter
from dagster._core.scheduler.instigation import InstigatorState, InstigatorTick, InstigatorType, TickStatus
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus

from cvntrade_assets.operations.alert_texts import shortened
from cvntrade_assets.operations.condition import Condition
from cvntrade_assets.operations.failure_text import plainly
from cvntrade_assets.operations.pipelines import PIPELINES
from cvntrade_assets.operations.taxonomy import Role, Severity
from resources.job_runs import failure_reason
from resources.run_facts import updated
from resources.signal_verdicts import GLOBAL_STATE, GOLDEN_SIGNALS
from resources.tables import ALERTS, GUARDRAIL_EVALUATIONS

# Their checks say what the signals themselves are alerts of: all checks of these assets, and single ones.
_SIGNAL_ASSETS = frozenset({GOLDEN_SIGNALS, GLOBAL_STATE})
_SIGNAL_CHECKS = frozenset({"drift.no_drift"})
# A run that failed is given its tag a moment later: whether Dagster starts it again by itself.
_TAGGED_WITHIN = pd.Timedelta(seconds=30)
_WILL_RETRY = "dagster/will_retry"
_PARTITION = "dagster/partition"
_NO_CRYPTO = "-"
_ID_SHOWN = 8
_REASON_LENGTH = 400
# Later successes looked through; the newest is nearly always the one.
_LOOKED_THROUGH = 10
_FAILURES = {dg.DagsterEventType.STEP_FAILURE, dg.DagsterEventType.RUN_FAILURE}
_FINISHED = [TickStatus.SUCCESS, TickStatus.SKIPPED, TickStatus.FAILURE]
# What the watch over runs finds, as it is told: the worst first.
_WATCHED: Mapping[tuple[str, str], tuple[Severity, str]] = {
    ("run_progresses", "critical"): (Severity.P1, "stuck"),
    ("run_progresses", "unknown"): (Severity.P2, "unwatched"),
    ("run_in_time", "critical"): (Severity.P2, "slow"),
    ("run_in_time", "warned"): (Severity.P3, "slow"),
    ("stage_in_time", "warned"): (Severity.P3, "slow_stage"),
}
_WATCH_SAYS: Mapping[str, str] = {
    "stuck": "is stuck",
    "unwatched": "could not be watched",
    "slow": "is slow",
    "slow_stage": "has a slow stage",
}
_WATCH_STEPS: Mapping[str, str] = {
    "stuck": "`cvntrade stop {run}`: if Dagster's run monitoring has not ended it within minutes; its log says where",
    "unwatched": "read the run's log: nobody would notice if it got stuck",
    "slow": "read on its page which stage takes long; `cvntrade stop {run}` ends it",
    "slow_stage": "read the estimated end; `cvntrade stop {run}` ends it",
}


@dataclass
class Found:
    """What there is to tell.

    Attributes:
        conditions: What holds, by key.
        over: Keys of what no longer does, and why.
    """

    conditions: dict[str, Condition] = field(default_factory=dict)
    over: dict[str, str] = field(default_factory=dict)

    def holds(self, condition: Condition) -> None:
        """The newest word on this key: it holds."""
        self.over.pop(condition.key, None)
        self.conditions[condition.key] = condition

    def is_over(self, key: str, why: str) -> None:
        """The newest word on this key: it is over."""
        self.conditions.pop(key, None)
        self.over[key] = why


def check_records(
    instance: dg.DagsterInstance, after_id: int, since: pd.Timestamp, limit: int
) -> Sequence[dg.EventLogRecord]:
    """Evaluations of asset checks of any run, or of none, oldest first: after an event, and since a moment."""
    wanted = dg.EventRecordsFilter(
        dg.DagsterEventType.ASSET_CHECK_EVALUATION,
        after_cursor=after_id or None,
        after_timestamp=since.timestamp(),
    )
    return instance.event_log_storage.get_event_records(wanted, limit=limit, ascending=True)


def read_checks(
    instance: dg.DagsterInstance, records: Iterable[dg.EventLogRecord], owner_of: Callable[[dg.AssetKey], Role]
) -> Found:
    """What evaluations, oldest first, come to: of each check and partition the newest counts, be it among them or not.

    Who catches up after long reads what has been over for hours.
    """
    newest = {same_check(record): record for record in records if not _is_told_by_signals(_evaluation(record))}
    found = Found()
    for key, record in newest.items():
        evaluation = _evaluation(record)
        if evaluation.passed or _passes_now(instance, evaluation):
            found.is_over(key, "a later evaluation of the check passed")
        else:
            found.holds(_check_condition(key, evaluation, _moment(record.timestamp), owner_of(evaluation.asset_key)))
    return found


def _is_told_by_signals(evaluation: dg.AssetCheckEvaluation) -> bool:
    return evaluation.asset_key.to_user_string() in _SIGNAL_ASSETS or _check_name(evaluation) in _SIGNAL_CHECKS


def _passes_now(instance: dg.DagsterInstance, evaluation: dg.AssetCheckEvaluation) -> bool:
    """Whether the newest verdict on a check and partition is that it passes."""
    key = evaluation.asset_check_key
    of_partition = PartitionKeyFilter(key=evaluation.partition)
    executions = instance.event_log_storage.get_latest_asset_check_execution_by_key([key], of_partition)
    return key in executions and executions[key].status is AssetCheckExecutionRecordStatus.SUCCEEDED


def same_check(record: dg.EventLogRecord) -> str:
    """What evaluations of one check on one partition have in common."""
    return check_key(_evaluation(record))


def _evaluation(record: dg.EventLogRecord) -> dg.AssetCheckEvaluation:
    event = record.event_log_entry.dagster_event
    assert event is not None, "the query asks for events of Dagster's"
    return event.asset_check_evaluation_data


def check_key(evaluation: dg.AssetCheckEvaluation) -> str:
    """What a check's alert is called: one a check and partition."""
    return f"check/{_check_name(evaluation)}/{evaluation.partition or _NO_CRYPTO}"


def _check_name(evaluation: dg.AssetCheckEvaluation) -> str:
    return f"{evaluation.asset_key.to_user_string()}.{evaluation.check_name}"


def _check_condition(key: str, evaluation: dg.AssetCheckEvaluation, since: pd.Timestamp, owner: Role) -> Condition:
    asset, crypto = evaluation.asset_key.to_user_string(), evaluation.partition
    is_error = evaluation.severity is dg.AssetCheckSeverity.ERROR
    said = evaluation.description or "it gives no reason"
    step = f"`cvntrade plan --crypto {crypto}`: what is refused because of it, and what to build again"
    return Condition(
        key=key,
        source="checks",
        kind=f"check/{_check_name(evaluation)}",
        severity=Severity.P2 if is_error else Severity.P3,
        owner=owner,
        what=f"check {evaluation.check_name} of {asset} {'failed' if is_error else 'warns'}: {_reason(said)}",
        where=crypto or asset,
        since=since,
        next_step=step if crypto else "read on the check's page what was found and what was expected",
        link=f"/assets/{'/'.join(evaluation.asset_key.path)}?view=checks&checkDetail={evaluation.check_name}",
    )


def is_settled(instance: dg.DagsterInstance, record: dg.RunRecord, now: pd.Timestamp) -> bool:
    """Whether it is known what follows from a run's end: a failure may be about to be started again."""
    run = record.dagster_run
    if run.status is not dg.DagsterRunStatus.FAILURE or not instance.run_retries_enabled or _WILL_RETRY in run.tags:
        return True
    return now - updated(record) > _TAGGED_WITHIN


def read_runs(instance: dg.DagsterInstance, ended: Iterable[dg.RunRecord]) -> Found:
    """What runs that have ended come to: of each job and crypto the last to end counts, be it among them or not.

    A record changes, and is read again, when a tag is added long after the run's end.
    """
    newest: dict[str, dg.RunRecord] = {}
    found = Found()
    for record in sorted(ended, key=_ended_at):
        run = record.dagster_run
        for kind in _WATCH_SAYS:
            found.is_over(f"watch/{kind}/{run.run_id}", f"the run has ended: {run.status.value}")
        # What was cancelled was somebody's wish, and says nothing of whether the job works again.
        if run.status is not dg.DagsterRunStatus.CANCELED and run.tags.get(_WILL_RETRY) != "true":
            newest[run_key(run)] = record
    for key, record in newest.items():
        success = (
            record if record.dagster_run.status is dg.DagsterRunStatus.SUCCESS else _success_after(instance, record)
        )
        if success is None:
            found.holds(_run_condition(key, instance, record))
        else:
            found.is_over(key, f"run {success.dagster_run.run_id[:_ID_SHOWN]} of the same job succeeded")
    return found


def _ended_at(record: dg.RunRecord) -> pd.Timestamp:
    return _moment(record.end_time) if record.end_time else updated(record)


def _success_after(instance: dg.DagsterInstance, failure: dg.RunRecord) -> dg.RunRecord | None:
    """A run of the same job and crypto that succeeded after one failed."""
    run, failed_at = failure.dagster_run, _ended_at(failure)
    tags = {_PARTITION: run.tags[_PARTITION]} if _PARTITION in run.tags else {}
    successful = dg.RunsFilter(
        job_name=run.job_name,
        tags=tags,
        statuses=[dg.DagsterRunStatus.SUCCESS],
        updated_after=failed_at.to_pydatetime(),
    )
    later = instance.get_run_records(successful, limit=_LOOKED_THROUGH)
    return next(
        (record for record in later if _ended_at(record) > failed_at and run_key(record.dagster_run) == run_key(run)),
        None,
    )


def run_key(run: dg.DagsterRun) -> str:
    """What a failed run's alert is called: one a job and partition."""
    return f"run/{run.job_name}/{run.tags.get(_PARTITION) or _NO_CRYPTO}"


def _run_condition(key: str, instance: dg.DagsterInstance, record: dg.RunRecord) -> Condition:
    run = record.dagster_run
    crypto = run.tags.get(_PARTITION)
    stage, reason = _failure(instance, run.run_id)
    of, inside = f" of {crypto}" if crypto else "", f" in {stage}" if stage else ""
    return Condition(
        key=key,
        source="runs",
        kind=f"run/{run.job_name}",
        severity=Severity.P2,
        owner=Role.MLOPS_MAINTAINER,
        what=f"a run of {run.job_name}{of} failed{inside}: {_reason(reason)}",
        where=crypto or run.job_name,
        since=_ended_at(record),
        next_step=_run_step(run.job_name, crypto),
        link=f"/runs/{run.run_id}",
    )


def _run_step(job: str, crypto: str | None) -> str:
    if job in PIPELINES:
        return "`cvntrade status`: why, and the command that resumes just that"
    if crypto:
        return f"`cvntrade plan --crypto {crypto}`: what is missing or stale because of it, and why"
    return "read its log on its page, and start it again from there"


def _failure(instance: dg.DagsterInstance, run_id: str) -> tuple[str | None, str]:
    """Stage and reason of a failed run; a worker that vanished failed in no stage."""
    events = [entry.dagster_event for entry in instance.all_logs(run_id, of_type=_FAILURES)]
    for event in events:
        if event is not None and event.is_step_failure:
            return event.step_key, failure_reason(event.step_failure_data)
    for event in events:
        if event is not None:
            error = event.job_failure_data.error if event.event_specific_data else None
            return None, plainly(str(error.message if error else event.message or ""))
    return None, ""


def findings(connection: sa.Connection, after_id: int, since: pd.Timestamp, limit: int) -> Sequence[Mapping[str, Any]]:
    """What the watch over runs has put on record, oldest first: after a row, and since a moment."""
    table = GUARDRAIL_EVALUATIONS
    query = (
        sa.select(table)
        .where(table.c.source == "watch", table.c.id > after_id, table.c.recorded_at > since.to_pydatetime())
        .order_by(table.c.id)
        .limit(limit)
    )
    return [dict(row) for row in connection.execute(query).mappings()]


def read_findings(rows: Iterable[Mapping[str, Any]], going_on: Collection[str]) -> Found:
    """What findings, oldest first, come to.

    Args:
        rows: From `findings`.
        going_on: The runs that have not ended: of the others there is nothing left to do.
    """
    found = Found()
    for row in rows:
        if row["guardrail"] == "factor_in_time":
            _read_factor(found, row)
        elif (row["guardrail"], row["verdict"]) in _WATCHED and row["run_id"] in going_on:
            _read_run(found, row)
    return found


def _read_run(found: Found, row: Mapping[str, Any]) -> None:
    severity, kind = _WATCHED[row["guardrail"], row["verdict"]]
    key, run = f"watch/{kind}/{row['run_id']}", row["run_id"]
    before = found.conditions.get(key)
    if before is not None and before.severity < severity:
        return  # a run that was critically slow does not get better by being slow
    found.holds(
        Condition(
            key=key,
            source="watch",
            kind=f"watch/{kind}",
            severity=severity,
            owner=Role.MLOPS_MAINTAINER,
            what=f"run {run[:_ID_SHOWN]} {_WATCH_SAYS[kind]}: {_reason(row['message'])}",
            where=row["crypto"] or run[:_ID_SHOWN],
            since=pd.Timestamp(row["recorded_at"]).tz_convert("UTC"),
            next_step=_WATCH_STEPS[kind].format(run=run),
            link=f"/runs/{run}",
        )
    )


def _read_factor(found: Found, row: Mapping[str, Any]) -> None:
    key = f"watch/factor/{row['factor']}"
    if row["verdict"] != "warned":
        found.is_over(key, str(row["message"]))
        return
    found.holds(
        Condition(
            key=key,
            source="watch",
            kind="watch/factor",
            severity=Severity.P3,
            owner=Role.MLOPS_MAINTAINER,
            what=_reason(row["message"]),
            where=row["factor"],
            since=pd.Timestamp(row["recorded_at"]).tz_convert("UTC"),
            next_step="`cvntrade factors`: what its variants set; a variant that is slow by intent may say so",
            link=f"/runs/{row['run_id']}" if row["run_id"] else "",
        )
    )


def failed_ticks(instance: dg.DagsterInstance, names: Collection[str] | None) -> list[Condition]:
    """The sensors and schedules that run and whose newest finished tick failed.

    Args:
        instance: Where ticks are.
        names: Those that the code still has; None for all.
    """
    running = [
        state
        for state in instance.all_instigator_state()
        if state.is_running and (names is None or state.name in names)
    ]
    newest = [
        (state, tick)
        for state in running
        for tick in instance.get_ticks(state.instigator_origin_id, state.selector_id, limit=1, statuses=_FINISHED)
    ]
    failed = [_tick_condition(state, tick) for state, tick in newest if tick.status is TickStatus.FAILURE]
    return sorted(failed, key=lambda condition: condition.key)


def _tick_condition(state: InstigatorState, tick: InstigatorTick) -> Condition:
    kind = "schedule" if state.instigator_type is InstigatorType.SCHEDULE else "sensor"
    error = tick.error
    while error is not None and error.cause is not None:
        error = error.cause
    place = f"{state.repository_selector.repository_name}@{state.repository_selector.location_name}"
    return Condition(
        key=f"tick/{state.name}",
        source="ticks",
        kind="tick",
        severity=Severity.P1,
        owner=Role.MLOPS_MAINTAINER,
        what=f"{kind} {state.name} fails: {_reason(plainly(str(error.message)) if error else '')}",
        where=state.name,
        since=_moment(tick.timestamp),
        next_step="`cvntrade doctor`: what is down, or runs other code; the tick's page has the whole error",
        link=f"/locations/{place}/{kind}s/{state.name}",
    )


@dataclass(frozen=True)
class Known:
    """What checks and runs can be about.

    Attributes:
        partitions: Those there are, of every kind.
        checks: Names of the checks that the code has, as in the keys; None when that is not known.
    """

    partitions: Collection[str]
    checks: Collection[str] | None

    def why_over(self, key: str, kind: str) -> str | None:
        """Why nothing is to be told of a key (any more); None when it is about what there is."""
        about, check = key.removeprefix(f"{kind}/"), kind.removeprefix("check/")
        if about not in (_NO_CRYPTO, *self.partitions):
            return f"{about} has left the universe"
        if kind != check and self.checks is not None and check not in self.checks:
            return "the check is no longer there"
        return None

    def left(self, connection: sa.Connection) -> dict[str, str]:
        """The open alerts that are about what is gone, by key, and why that is so."""
        from_here = ALERTS.c.resolved_at.is_(None) & ALERTS.c.source.in_(["checks", "runs"])
        rows = connection.execute(sa.select(ALERTS.c.key, ALERTS.c.kind).where(from_here))
        return {key: why for key, kind in rows if (why := self.why_over(key, kind)) is not None}


def _reason(text: str) -> str:
    return shortened(text, _REASON_LENGTH) or "no reason was given"


def _moment(seconds: float) -> pd.Timestamp:
    return pd.Timestamp(seconds, unit="s", tz="UTC").floor("us")
