"""The part of a morning check that asks something of somebody: open alerts, and what to do next, the worst first."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from cvntrade_assets.operations.global_state import Reason, State
from cvntrade_assets.operations.morning_facts import AlertSeen, MorningFacts
from cvntrade_assets.operations.morning_page import NAMED, WATCHDOG, Line, Tone, grouped, listed, moment
from cvntrade_assets.operations.sessions import PipelineRun
from cvntrade_assets.operations.severity import STATE_STANCES, next_step
from cvntrade_assets.operations.taxonomy import Role, Severity

_STATE = "state"
# Alerts of one kind that are told one by one.
_TOGETHER = 3


def alert_lines(facts: MorningFacts) -> Iterator[Line]:
    """Open alerts with who answers for each and who is at it, and what was not delivered."""
    if not facts.alerts:
        yield Line("no alert is open")
    for group in _alert_groups(facts.alerts):
        if len(group) <= _TOGETHER:
            for each in group:
                yield Line(f"{_whose(each)}, since {moment(each.since)}: {_what(each)} ({_taken(each)})")
        else:
            first = min(group, key=lambda each: each.since)
            where = listed([each.where for each in group], NAMED)
            about = f"{len(group)} of {first.kind}: {where}"
            yield Line(f"{_whose(first)}, since {moment(first.since)}: {about} ({_taken(first)})")
    for waiting in grouped(facts.messages, lambda message: message.last_error or ""):
        why = waiting[0].last_error or "nobody has tried to send them: does the sensor alert_delivery run?"
        oldest = min(message.created_at for message in waiting)
        yield Line(f"undelivered: {len(waiting)}, the oldest since {moment(oldest)}: {why}", tone=Tone.WARNING)


def _alert_groups(alerts: Iterable[AlertSeen]) -> list[list[AlertSeen]]:
    """Alerts that are told together, the worst first, and of those the oldest first."""
    in_order = sorted(alerts, key=lambda each: (each.severity, each.since, each.id))
    return grouped(in_order, lambda each: (each.severity, each.owner, each.audience, each.kind, each.acknowledged_by))


def _whose(alert: AlertSeen) -> str:
    return f"{alert.severity} {_owner(alert)}"


def _what(alert: AlertSeen) -> str:
    # The state's reasons stand at the top.
    return alert.what.partition(": ")[0] if alert.kind == _STATE else alert.what


def _owner(alert: AlertSeen) -> str:
    return alert.owner if alert.audience == alert.owner else f"{alert.owner} (escalated to the {alert.audience})"


def _taken(alert: AlertSeen) -> str:
    if alert.acknowledged_by is not None:
        return f"acknowledged by {alert.acknowledged_by}"
    return f"acknowledged by nobody: `cvntrade ack {alert.id} --reason …`"


@dataclass(frozen=True)
class _Step:
    """Something to do: how urgent, whose, what, and what it is about."""

    severity: Severity
    owner: str
    what: str
    about: str


def next_lines(facts: MorningFacts, state: State | None, to_resume: Sequence[PipelineRun]) -> Iterator[Line]:
    """What somebody has to do, the most urgent first: of alerts, failed runs, and what the state is made of."""
    steps = [*_steps_of_state(facts, state), *_steps_of_alerts(facts.alerts)]
    steps += [*_steps_of_runs(facts.alerts, to_resume), *_steps_of_reasons(facts, state)]
    if not steps:
        yield Line("nothing: no alert is open, nothing is to be resumed, and the state has no reason not to be GREEN")
    in_order = sorted(steps, key=lambda step: step.severity)
    for same in grouped(in_order, lambda step: (step.severity, step.owner, step.what)):
        first, about = same[0], "; ".join(step.about for step in same)
        yield Line(f"{first.severity} {first.owner}, {first.severity.time_limit}: {first.what} ({about})")


def _steps_of_state(facts: MorningFacts, state: State | None) -> Iterator[_Step]:
    if state is None:
        command = WATCHDOG if facts.settings is not None else "cvntrade settings show"
        what = f"`{command}`: find why the state is not computed"
        yield _Step(Severity.P0, str(Role.PLATFORM_OWNER), what, "the state is UNKNOWN")


def _steps_of_alerts(alerts: Iterable[AlertSeen]) -> Iterator[_Step]:
    # The state's own step is to read this.
    for group in _alert_groups(each for each in alerts if each.kind != _STATE):
        first = group[0]
        more = "; each of the others has its own" if len({each.next_step for each in group}) > 1 else ""
        about = f"{first.kind} of {listed([each.where for each in group], NAMED)}{more}"
        yield _Step(first.severity, _owner(first), first.next_step, about)


def _steps_of_runs(alerts: Iterable[AlertSeen], to_resume: Sequence[PipelineRun]) -> Iterator[_Step]:
    told_of = {alert.key for alert in alerts}
    named = [f"{run.pipeline} of {run.crypto}" for run in to_resume if _run_key(run) not in told_of]
    if named:
        what = "resume what failed, by the commands under Pipelines"
        yield _Step(Severity.P2, str(Role.MLOPS_MAINTAINER), what, listed(named, NAMED))


def _run_key(run: PipelineRun) -> str:
    return f"run/{run.pipeline}/{run.crypto}"


def _steps_of_reasons(facts: MorningFacts, state: State | None) -> Iterator[_Step]:
    """What makes the state what it is and raises no alert, e.g. a crypto that never had a model."""
    if state is None or facts.state is None or facts.settings is None:
        return
    told_of = {alert.key for alert in facts.alerts}
    observed = {(each.signal, each.subject): each for each in facts.observations}
    quiet = [
        reason
        for reason in facts.state.reasons
        if (reason.signal, reason.subject) in observed and _signal_key(reason) not in told_of
    ]
    for group in grouped(quiet, lambda reason: (reason.state, reason.signal)):
        severity, owner = STATE_STANCES[group[0].state]
        what = next_step(observed[group[0].signal, group[0].subject], facts.settings)
        subjects = [reason.subject for reason in group if reason.subject]
        about = f"{group[0].signal} of {listed(subjects, NAMED)}" if subjects else group[0].signal
        yield _Step(severity, str(owner), what, about)


def _signal_key(reason: Reason) -> str:
    return "/".join(("signal", reason.signal, reason.subject) if reason.subject else ("signal", reason.signal))
