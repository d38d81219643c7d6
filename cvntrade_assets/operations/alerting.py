"""The life of an alert: when a condition is told, told again, told to somebody else, and no longer told."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

import pandas as pd

from cvntrade_assets.operations.taxonomy import Role, Severity
from cvntrade_assets.settings import Settings

OPENINGS_TOLD = 3
"""So often the opening of one condition is told within the time after which it would repeat."""


class Event(StrEnum):
    """What there is to tell of an alert."""

    OPENED = "opened"
    WORSENED = "worsened"
    REPEATED = "repeated"
    ESCALATED = "escalated"
    RECOVERED = "recovered"


@dataclass(frozen=True)
class Standing:
    """An open alert, as far as what happens next depends on it.

    Attributes:
        severity: How bad the condition was when it was last seen.
        owner: Who answers for it.
        told: When each severity was last told, whatever the event.
        clock_at: When it last opened, worsened or escalated: what the next escalation counts from.
        told_at: When anything of it was last told.
        is_acknowledged: Whether somebody has said that they are at it.
        escalations: How many times it has escalated since it opened or worsened.
    """

    severity: Severity
    owner: Role
    told: Mapping[Severity, pd.Timestamp]
    clock_at: pd.Timestamp
    told_at: pd.Timestamp
    is_acknowledged: bool
    escalations: int


def meet(severity: Severity, standing: Standing | None, now: pd.Timestamp, settings: Settings) -> Event | None:
    """What finding a condition again, or for the first time, is worth telling.

    A condition that is worse than it was is told again, unless this severity or a worse one was told within the time
    after which it would repeat: a value that swings around its limit is one trouble, not many. One that eased is not
    told until it is over.

    Args:
        severity: How bad the condition is now.
        standing: Its open alert; None when there is none.
        now: The moment.
        settings: Says when severities repeat.
    """
    if standing is None:
        return Event.OPENED
    if severity >= standing.severity:
        return None
    recently = repeat_after(severity, settings)
    # What was told in the future was told by a clock that was ahead, and is no reason to be silent until then.
    was_told = any(told <= severity and abs(now - at) < recently for told, at in standing.told.items())
    return None if was_told else Event.WORSENED


def is_swinging(
    severity: Severity, openings: Iterable[tuple[Severity, pd.Timestamp]], now: pd.Timestamp, settings: Settings
) -> bool:
    """Whether a condition comes and goes, so that another opening is nothing new; should it stay, it is told again.

    Args:
        severity: How bad the condition is now.
        openings: How bad it was, and when, each time that its opening was told.
        now: The moment.
        settings: Says when severities repeat.
    """
    recently = repeat_after(severity, settings)
    told = [at for was, at in openings if was <= severity and abs(now - at) < recently]
    return len(told) >= OPENINGS_TOLD


def remind(
    standing: Standing, now: pd.Timestamp, settings: Settings, escalates_to: Mapping[Role, Role]
) -> tuple[Event, Role] | None:
    """What is to be told of an alert because time has passed, and to whom; an acknowledged one is left in peace."""
    if standing.is_acknowledged:
        return None
    limit = escalate_after(standing.severity, settings)
    audience = audience_of(standing.owner, standing.escalations, escalates_to)
    next_audience = audience_of(standing.owner, standing.escalations + 1, escalates_to)
    if limit is not None and next_audience != audience and now - standing.clock_at >= limit:
        return Event.ESCALATED, next_audience
    if abs(now - standing.told_at) >= repeat_after(standing.severity, settings):
        return Event.REPEATED, audience
    return None


def audience_of(owner: Role, escalations: int, escalates_to: Mapping[Role, Role]) -> Role:
    """Who is told after so many escalations; the last in the line stays the last."""
    line = [owner]
    while len(line) <= escalations and (following := escalates_to.get(line[-1], line[-1])) not in line:
        line.append(following)
    return line[-1]


def repeat_after(severity: Severity, settings: Settings) -> pd.Timedelta:
    """The time after which an alert that nobody acknowledged is told again."""
    return pd.Timedelta(hours=settings.number(f"CVN_ALERT_REPEAT_HOURS_{severity}"))


def escalate_after(severity: Severity, settings: Settings) -> pd.Timedelta | None:
    """The time after which an alert that nobody acknowledged escalates; None for what can wait."""
    if severity is Severity.P3:
        return None
    return pd.Timedelta(minutes=settings.number(f"CVN_ALERT_ESCALATE_MINUTES_{severity}"))
