"""Incidents as the manual's §17 keeps them: what is on record of one, how long it took, and the page about it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import pairwise

import pandas as pd

from cvntrade_assets.operations.taxonomy import Severity

SEVERITY_MEANINGS: Mapping[Severity, str] = {
    Severity.P0: "production trading is down or loses money",
    Severity.P1: "production is degraded, and its metrics show it",
    Severity.P2: "training or tuning is broken: no live trade is touched, but decisions wait",
    Severity.P3: "operators are held up, and no data are wrong",
}

_UNKNOWN = "unknown"


class IncidentError(ValueError):
    """What was given contradicts itself or what is on record; says what, and what is expected. Nothing was written."""


@dataclass(frozen=True)
class LinkedAlert:
    """An alert that an incident is about.

    Attributes:
        id: Its number.
        key: Which condition it told of.
        severity: As it was last.
        what: What was wrong.
        since: Since when, UTC.
        opened_at: When it was raised, UTC.
        acknowledged_at: When somebody took it on; None as long as nobody did.
    """

    id: int
    key: str
    severity: Severity
    what: str
    since: pd.Timestamp
    opened_at: pd.Timestamp
    acknowledged_at: pd.Timestamp | None


@dataclass(frozen=True)
class FollowUp:
    """What is still to be done, and whether it has been."""

    action: str
    done: bool = False


@dataclass(frozen=True)
class Moments:
    """When an incident came to what; None for what has not happened, or nobody knows.

    Attributes:
        began: When it began, which may be before anybody or anything noticed.
        detected: When it was first noticed, by an alert or by a person.
        acknowledged: When a person took it on.
        mitigated: When it did no more harm.
        fixed: When its cause was gone.
    """

    began: pd.Timestamp
    detected: pd.Timestamp | None = None
    acknowledged: pd.Timestamp | None = None
    mitigated: pd.Timestamp | None = None
    fixed: pd.Timestamp | None = None

    def __post_init__(self) -> None:
        """Refuse moments that are out of order.

        Raises:
            IncidentError: one lies before another that comes first; says which.
        """
        for (earlier, before), (later, after) in pairwise(self.known()):
            if after < before:
                raise IncidentError(
                    f"{later} {_moment(after)} lies before {earlier} {_moment(before)}; expected "
                    f"{' ≤ '.join(field.name for field in fields(self))}. Give the right moments, UTC."
                )

    def refuse_future(self, now: pd.Timestamp) -> None:
        """Refuse what has not happened yet.

        Raises:
            IncidentError: a moment lies after `now`; says which.
        """
        for name, moment in self.known():
            if moment > now:
                raise IncidentError(f"{name} {_moment(moment)} lies in the future (now is {_moment(now)}).")

    def known(self) -> list[tuple[str, pd.Timestamp]]:
        """The moments that are known, by name, in order."""
        named = ((field.name, getattr(self, field.name)) for field in fields(self))
        return [(name, moment) for name, moment in named if moment is not None]


@dataclass(frozen=True)
class Times:
    """How long it took; None as long as either end is unknown, and never 0 for that.

    Attributes:
        to_detect: From the beginning until it was noticed.
        to_acknowledge: From the beginning until a person took it on.
        to_mitigate: From then until it did no more harm.
        to_fix: From the acknowledgement until its cause was gone.
        to_recover: From the beginning until its cause was gone.
    """

    to_detect: pd.Timedelta | None
    to_acknowledge: pd.Timedelta | None
    to_mitigate: pd.Timedelta | None
    to_fix: pd.Timedelta | None
    to_recover: pd.Timedelta | None


@dataclass(frozen=True)
class Incident:
    """One entry of the incident log; texts are None as long as nobody knows.

    Attributes:
        id: Its number in the log.
        title: What happened, in a few words.
        severity: How bad it is.
        justification: Why it is that bad.
        symptom: What was seen.
        opened_by: Who opened the entry.
        opened_at: When, UTC.
        moments: When it came to what.
        root_cause: Why it happened.
        test_gap: Why no test found it.
        fix: What removed the cause.
        audit_trail: Where it can be read up: changes, reviews, runs.
        lessons: What it taught.
        follow_ups: What is still to be done.
        alerts: The alerts that it is about.
        closed_by: Who closed the entry; None as long as it is open.
        closed_at: When, UTC.
    """

    id: int
    title: str
    severity: Severity
    justification: str
    symptom: str
    opened_by: str
    opened_at: pd.Timestamp
    moments: Moments
    root_cause: str | None = None
    test_gap: str | None = None
    fix: str | None = None
    audit_trail: str | None = None
    lessons: tuple[str, ...] = ()
    follow_ups: tuple[FollowUp, ...] = ()
    alerts: tuple[LinkedAlert, ...] = ()
    closed_by: str | None = None
    closed_at: pd.Timestamp | None = None

    @property
    def standing(self) -> str:
        """How far it has come: closed, fixed, mitigated, acknowledged, detected or begun."""
        if self.closed_at is not None:
            return "closed"
        return self.moments.known()[-1][0]


def times(moments: Moments) -> Times:
    """How long an incident took."""
    began, taken_on = moments.began, moments.acknowledged
    return Times(
        to_detect=_between(began, moments.detected),
        to_acknowledge=_between(began, taken_on),
        to_mitigate=_between(taken_on, moments.mitigated),
        to_fix=_between(taken_on, moments.fixed),
        to_recover=_between(began, moments.fixed),
    )


def _between(start: pd.Timestamp | None, end: pd.Timestamp | None) -> pd.Timedelta | None:
    return None if start is None or end is None else end - start


def with_alerts(moments: Moments, alerts: Sequence[LinkedAlert]) -> Moments:
    """Moments that nobody gave, from the alerts: the first one detected it, the first acknowledgement took it on.

    An alert that came, or was acknowledged, after what is known to have followed says nothing: that stays unknown.

    Raises:
        IncidentError: an alert was raised before what is on record as the beginning.
    """
    acknowledged = (alert.acknowledged_at for alert in alerts if alert.acknowledged_at is not None)
    filled = moments
    if filled.acknowledged is None:
        taken_on = _not_after(min(acknowledged, default=None), (moments.mitigated, moments.fixed))
        filled = replace(filled, acknowledged=taken_on)
    if filled.detected is None:
        opened = min((alert.opened_at for alert in alerts), default=None)
        filled = replace(filled, detected=_not_after(opened, (moments.acknowledged, moments.mitigated, moments.fixed)))
    return filled


def _not_after(moment: pd.Timestamp | None, later: Iterable[pd.Timestamp | None]) -> pd.Timestamp | None:
    known = [each for each in later if each is not None]
    return None if moment is None or any(moment > each for each in known) else moment


def lasted(delta: pd.Timedelta | None) -> str:
    """A time span for people: seconds below two minutes, then minutes, then hours, then days."""
    if delta is None:
        return _UNKNOWN
    minutes = delta.total_seconds() / 60
    if minutes < 2:
        return f"{delta.total_seconds():.0f} s"
    if minutes < 120:
        return f"{minutes:.0f} min"
    return f"{minutes / 60:.1f} h" if minutes < 48 * 60 else f"{minutes / 1440:.1f} d"


def markdown(incident: Incident) -> str:
    """The entry as the manual's incident log writes it, in its order."""
    return "\n\n".join(_parts(incident)) + "\n"


def _parts(incident: Incident) -> Iterable[str]:
    yield (
        f"### {incident.id} {incident.moments.began:%Y-%m-%d} — {_line(incident.title)} "
        f"({incident.severity}, {incident.standing})"
    )
    yield f"**Time:** {_timeline(incident.moments)}"
    yield f"**Severity:** {incident.severity} ({SEVERITY_MEANINGS[incident.severity]}): {incident.justification}"
    for heading, text in (
        ("Symptom", incident.symptom),
        ("Root cause", incident.root_cause),
        ("Test gap", incident.test_gap),
        ("Fix", incident.fix),
    ):
        yield f"**{heading}:** {text or _UNKNOWN}"
    yield f"**Audit trail:** {_audit_trail(incident)}"
    yield _times(times(incident.moments))
    yield f"**Lessons learned:**\n\n{_numbered(incident.lessons)}"
    yield f"**Follow-up actions:**\n\n{_follow_ups(incident)}"


def _timeline(moments: Moments) -> str:
    known = ((field.name, getattr(moments, field.name)) for field in fields(moments))
    return " → ".join(f"{name} {_UNKNOWN if moment is None else _moment(moment)}" for name, moment in known)


def _times(took: Times) -> str:
    lines = (
        f"- to detect, from the beginning: {lasted(took.to_detect)}",
        f"- to acknowledge, from the beginning: {lasted(took.to_acknowledge)}",
        f"- to mitigate, from the acknowledgement: {lasted(took.to_mitigate)}",
        f"- to fix, from the acknowledgement: {lasted(took.to_fix)}",
        f"- to recover, from the beginning until it was fixed: {lasted(took.to_recover)}",
    )
    return "\n".join(("**Time to detect / acknowledge / mitigate / fix:**", "", *lines))


def _audit_trail(incident: Incident) -> str:
    entries = [f"opened by {incident.opened_by} {_moment(incident.opened_at)}"]
    entries += [f"alert {alert.id} `{alert.key}` ({alert.severity}): {alert.what}" for alert in incident.alerts]
    entries += [incident.audit_trail] if incident.audit_trail else []
    if incident.closed_at is not None:
        entries.append(f"closed by {incident.closed_by} {_moment(incident.closed_at)}")
    return "\n\n" + "\n".join(f"- {entry}" for entry in entries)


def _numbered(texts: Sequence[str]) -> str:
    return "\n".join(f"{number}. {text}" for number, text in enumerate(texts, 1)) or "none yet"


def _follow_ups(incident: Incident) -> str:
    if not incident.follow_ups:
        return "none"
    rows = [
        (f"F{incident.id}.{number}", _line(each.action).replace("|", "\\|"), "done" if each.done else "open")
        for number, each in enumerate(incident.follow_ups, 1)
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in (("#", "Action", "Status"), ("---",) * 3, *rows))


def _line(text: str) -> str:
    return " ".join(text.split())


def _moment(moment: pd.Timestamp) -> str:
    return f"{moment.tz_convert('UTC'):%Y-%m-%d %H:%M} UTC"
