"""The incident log: entries are opened, brought up to date and closed; nothing is removed, and what is closed stays."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import pandas as pd
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from cvntrade_assets.operations.incidents import (
    FollowUp,
    Incident,
    IncidentError,
    LinkedAlert,
    Moments,
    with_alerts,
)
from cvntrade_assets.operations.taxonomy import Severity
from resources.moments import as_utc, as_utc_or_none
from resources.secrets import process_mask
from resources.tables import ALERTS, INCIDENT_ALERTS, INCIDENTS
from resources.warehouse import Warehouse

_MOMENTS = tuple(each.name for each in fields(Moments))
_TEXTS = ("title", "justification", "symptom", "root_cause", "test_gap", "fix", "audit_trail")
_NEEDED_TO_CLOSE = ("root_cause", "fix", "fixed")


@dataclass(frozen=True)
class NewIncident:
    """What an entry is opened with.

    Attributes:
        title: What happened, in a few words.
        severity: How bad it is.
        justification: Why it is that bad.
        symptom: What was seen.
        began: When it began, UTC; None: when the first of its alerts says that it did, else now.
        detected: When it was first noticed, UTC; None: when the first of its alerts was raised.
        alerts: Numbers or keys of the alerts that it is about.
    """

    title: str
    severity: Severity
    justification: str
    symptom: str
    began: pd.Timestamp | None = None
    detected: pd.Timestamp | None = None
    alerts: tuple[int | str, ...] = ()


@dataclass(frozen=True)
class Changes:
    """What is found out about an open entry; None and nothing leave what is there.

    Attributes:
        severity: How bad it is; with the justification.
        texts: Title, justification, symptom, root_cause, test_gap, fix or audit_trail, by name.
        moments: Began, detected, acknowledged, mitigated or fixed, by name, UTC.
        lessons: To be added.
        follow_ups: To be added.
        done: Numbers of follow-ups that are done, from 1.
        alerts: Numbers or keys of alerts to be linked.
    """

    severity: Severity | None = None
    texts: Mapping[str, str] = field(default_factory=dict)
    moments: Mapping[str, pd.Timestamp] = field(default_factory=dict)
    lessons: tuple[str, ...] = ()
    follow_ups: tuple[str, ...] = ()
    done: tuple[int, ...] = ()
    alerts: tuple[int | str, ...] = ()


def open_incident(warehouse: Warehouse, new: NewIncident, by: str, now: pd.Timestamp) -> Incident:
    """Open an entry.

    Raises:
        IncidentError: an alert does not exist, a text is empty, or moments contradict each other or lie in the future.
        WarehouseError: PostgreSQL did not answer; nothing was written.
    """
    _require_texts({"title": new.title, "justification": new.justification, "symptom": new.symptom})
    with warehouse.begin() as connection:
        alerts = _alerts(connection, new.alerts)
        began = new.began if new.began is not None else min((alert.since for alert in alerts), default=now)
        moments = with_alerts(Moments(began, new.detected), alerts)
        moments.refuse_future(now)
        row = {
            **{name: getattr(new, name) for name in ("title", "justification", "symptom")},
            "severity": str(new.severity),
            "opened_by": by,
            "opened_at": now.to_pydatetime(),
            **_moment_columns(moments),
        }
        statement = sa.insert(INCIDENTS).values(**process_mask().value(row)).returning(INCIDENTS.c.id)
        number = connection.scalar(statement)
        assert number is not None
        _link(connection, number, alerts)
        return _read(connection, number)


def update_incident(warehouse: Warehouse, number: int, changes: Changes, now: pd.Timestamp) -> Incident:
    """Bring an open entry up to date.

    Raises:
        IncidentError: there is no such entry or it is closed, an alert or a follow-up does not exist, a text is empty,
            or moments contradict each other or lie in the future.
    """
    with warehouse.begin() as connection:
        _change(connection, _lock_open(connection, number), changes, now)
        return _read(connection, number)


def close_incident(warehouse: Warehouse, number: int, changes: Changes, by: str, now: pd.Timestamp) -> Incident:
    """Bring an open entry up to date for the last time, and close it.

    Raises:
        IncidentError: as `update_incident`, or the root cause, the fix or when it was fixed is neither given nor on
            record.
    """
    with warehouse.begin() as connection:
        changed = _change(connection, _lock_open(connection, number), changes, now)
        known = {"root_cause": changed.root_cause, "fix": changed.fix, "fixed": changed.moments.fixed}
        if missing := [name for name in _NEEDED_TO_CLOSE if known[name] is None]:
            raise IncidentError(
                f"incident {number} cannot be closed without {', '.join(missing)}: give "
                f"{', '.join('--' + name.replace('_', '-') for name in missing)}. Nothing was written."
            )
        closing = {"closed_by": process_mask().value(by), "closed_at": now.to_pydatetime()}
        connection.execute(sa.update(INCIDENTS).where(INCIDENTS.c.id == number).values(**closing))
        return _read(connection, number)


def incident(warehouse: Warehouse, number: int) -> Incident:
    """One entry.

    Raises:
        IncidentError: there is none of that number.
    """
    with warehouse.begin() as connection:
        return _read(connection, number)


def incidents(warehouse: Warehouse, *, only_open: bool = False) -> list[Incident]:
    """Every entry, or those that are open, newest first."""
    query = sa.select(INCIDENTS.c.id).order_by(INCIDENTS.c.id.desc())
    with warehouse.begin() as connection:
        numbers = connection.scalars(query.where(INCIDENTS.c.closed_at.is_(None)) if only_open else query).all()
        return _read_all(connection, numbers)


def _lock_open(connection: sa.Connection, number: int) -> Incident:
    """An open entry, which nobody else changes until the transaction ends."""
    connection.execute(sa.select(INCIDENTS.c.id).where(INCIDENTS.c.id == number).with_for_update())
    found = _read(connection, number)
    if found.closed_at is not None:
        raise IncidentError(
            f"incident {number} was closed by {found.closed_by} at {found.closed_at:%Y-%m-%d %H:%M} UTC and stays as "
            "it was closed; open another that names it: `cvntrade incident open`. Nothing was written."
        )
    return found


def _change(connection: sa.Connection, found: Incident, changes: Changes, now: pd.Timestamp) -> Incident:
    _require_texts(changes.texts)
    linked = _alerts(connection, changes.alerts)
    moments = with_alerts(replace(found.moments, **changes.moments), (*found.alerts, *linked))
    moments.refuse_future(now)
    follow_ups = _follow_ups(found, changes)
    values: dict[str, Any] = {
        **changes.texts,
        **({} if changes.severity is None else {"severity": str(changes.severity)}),
        **_moment_columns(moments),
        "lessons": [*found.lessons, *changes.lessons],
        "follow_ups": [{"action": each.action, "done": each.done} for each in follow_ups],
    }
    statement = sa.update(INCIDENTS).where(INCIDENTS.c.id == found.id)
    connection.execute(statement.values(**process_mask().value(values)))
    _link(connection, found.id, linked)
    return _read(connection, found.id)


def _follow_ups(found: Incident, changes: Changes) -> list[FollowUp]:
    follow_ups = [*found.follow_ups, *(FollowUp(action) for action in changes.follow_ups)]
    for number in changes.done:
        if not 1 <= number <= len(follow_ups):
            raise IncidentError(
                f"incident {found.id} has no follow-up {number}; it has {len(follow_ups)}. Nothing was written."
            )
        follow_ups[number - 1] = replace(follow_ups[number - 1], done=True)
    return follow_ups


def _require_texts(texts: Mapping[str, str]) -> None:
    strangers = sorted(set(texts) - set(_TEXTS))
    if strangers:
        raise IncidentError(f"{', '.join(strangers)} is not a text of an incident; there are {', '.join(_TEXTS)}.")
    empty = [name for name, text in texts.items() if not text.strip()]
    if empty:
        raise IncidentError(f"{', '.join(empty)} is empty: say it in a sentence, it stays on record.")


def _moment_columns(moments: Moments) -> dict[str, Any]:
    found = {name: getattr(moments, name) for name in _MOMENTS}
    return {f"{name}_at": None if moment is None else moment.to_pydatetime() for name, moment in found.items()}


def _link(connection: sa.Connection, number: int, alerts: Sequence[LinkedAlert]) -> None:
    if alerts:
        rows = [{"incident_id": number, "alert_id": alert.id} for alert in alerts]
        connection.execute(insert(INCIDENT_ALERTS).on_conflict_do_nothing(), rows)


def _alerts(connection: sa.Connection, names: Collection[int | str]) -> list[LinkedAlert]:
    found = {name: _alert(connection, str(name)) for name in dict.fromkeys(names)}
    if missing := [str(name) for name, alert in found.items() if alert is None]:
        raise IncidentError(
            f"there is no alert {', '.join(missing)}; `cvntrade alerts` names those that are open. Nothing was written."
        )
    by_number = {alert.id: alert for alert in found.values() if alert is not None}
    return [by_number[number] for number in sorted(by_number)]


def _alert(connection: sa.Connection, name: str) -> LinkedAlert | None:
    """The alert of a number; of a key the one that is open, or else the last that was."""
    chosen = ALERTS.c.key == name
    if name.isdecimal() and len(name) < 19:
        chosen |= ALERTS.c.id == int(name)
    # Of one key at most one is open, and none was opened after it.
    row = connection.execute(sa.select(ALERTS).where(chosen).order_by(ALERTS.c.id.desc()).limit(1)).one_or_none()
    return None if row is None else _linked(row)


def _linked(row: "sa.Row[Any]") -> LinkedAlert:
    return LinkedAlert(
        id=row.id,
        key=row.key,
        severity=Severity(row.severity),
        what=row.what,
        # It may have held for longer than it has been as bad as it is.
        since=min(as_utc(row.since), as_utc(row.opened_at)),
        opened_at=as_utc(row.opened_at),
        acknowledged_at=as_utc_or_none(row.acknowledged_at),
    )


def _read(connection: sa.Connection, number: int) -> Incident:
    found = _read_all(connection, [number])
    if not found:
        raise IncidentError(f"there is no incident {number}; `cvntrade incident list` names those that are on record.")
    return found[0]


def _read_all(connection: sa.Connection, numbers: Collection[int]) -> list[Incident]:
    query = sa.select(INCIDENTS).where(INCIDENTS.c.id.in_(list(numbers))).order_by(INCIDENTS.c.id.desc())
    link = INCIDENT_ALERTS
    joined = sa.select(link.c.incident_id, ALERTS).join(ALERTS, ALERTS.c.id == link.c.alert_id)
    alerts: dict[int, list[LinkedAlert]] = {}
    for row in connection.execute(joined.where(link.c.incident_id.in_(list(numbers))).order_by(ALERTS.c.id)):
        alerts.setdefault(row.incident_id, []).append(_linked(row))
    return [_incident(row, alerts.get(row.id, ())) for row in connection.execute(query)]


def _incident(row: "sa.Row[Any]", alerts: Sequence[LinkedAlert]) -> Incident:
    later = {name: as_utc_or_none(getattr(row, f"{name}_at")) for name in _MOMENTS if name != "began"}
    return Incident(
        id=row.id,
        severity=Severity(row.severity),
        opened_by=row.opened_by,
        opened_at=as_utc(row.opened_at),
        moments=Moments(as_utc(row.began_at), **later),
        lessons=tuple(row.lessons),
        follow_ups=tuple(FollowUp(each["action"], each["done"]) for each in row.follow_ups),
        alerts=tuple(alerts),
        closed_by=row.closed_by,
        closed_at=as_utc_or_none(row.closed_at),
        **{name: getattr(row, name) for name in _TEXTS},
    )
