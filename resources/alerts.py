"""Alerts on record: opened, worsened, acknowledged and closed, and read.

Whoever finds conditions says so on the connection of its own transaction: the alert, its message (see alert_outbox.py)
and what was found are written together or not at all.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import sqlalchemy as sa

from cvntrade_assets.operations.alert_texts import Message, one_line
from cvntrade_assets.operations.alerting import (
    Event,
    Standing,
    audience_of,
    is_swinging,
    meet,
    remind,
    repeat_after,
)
from cvntrade_assets.operations.condition import Condition
from cvntrade_assets.operations.severity import ESCALATES_TO
from cvntrade_assets.operations.taxonomy import Role, Severity
from cvntrade_assets.settings import Settings
from resources.alert_outbox import OVER, WAITING, drop, next_message, tell
from resources.moments import as_stored, as_utc
from resources.secrets import process_mask
from resources.tables import ALERT_MESSAGES, ALERTS
from resources.warehouse import Warehouse

# Two that find something at once: the second waits, and then sees what the first has opened.
LOCK = sa.text("select pg_advisory_xact_lock(hashtext('cvntrade alerts'))")
_SHOWN_AT_MOST = 10


class UnknownAlertError(ValueError):
    """No open alert has this key or number; the message names those that are open."""


@dataclass(frozen=True)
class OpenAlert:
    """An alert whose condition still holds.

    Attributes:
        id: Its number.
        key: Which condition.
        source: What finds it.
        kind: What it is told together with.
        severity: How bad it is now.
        owner: Who answers for it.
        audience: Who is told: somebody else once it has escalated.
        what: What is wrong.
        where: The crypto, job, asset or process.
        since: Since when it holds.
        opened_at: When it was first found.
        seen_at: When it was last found.
        seen_count: How many times it was found.
        told_at: When there was last something to tell of it.
        next_step: What to do.
        link: Path of its page in the UI.
        escalations: How many times it escalated.
        acknowledged_at: When somebody said that they are at it; None when nobody has.
        acknowledged_by: Who.
        acknowledgement: In what words.
    """

    id: int
    key: str
    source: str
    kind: str
    severity: Severity
    owner: Role
    audience: Role
    what: str
    where: str
    since: pd.Timestamp
    opened_at: pd.Timestamp
    seen_at: pd.Timestamp
    seen_count: int
    told_at: pd.Timestamp
    next_step: str
    link: str
    escalations: int
    acknowledged_at: pd.Timestamp | None
    acknowledged_by: str | None
    acknowledgement: str | None


@dataclass(frozen=True)
class Undelivered:
    """A message that waits to be sent.

    Attributes:
        key: Of the message.
        alert_id: Number of its alert.
        alert_key: Which condition.
        event: What happened to it.
        severity: How bad it is.
        audience: Who is told.
        created_at: Since when it waits.
        due_at: When it is tried next.
        attempts: How many times it was tried.
        last_error: Why it was not sent; None before the first attempt.
    """

    key: str
    alert_id: int
    alert_key: str
    event: Event
    severity: Severity
    audience: Role
    created_at: pd.Timestamp
    due_at: pd.Timestamp
    attempts: int
    last_error: str | None


@dataclass(frozen=True)
class _Told:
    """An open alert as the lifecycle sees it, and its row."""

    row: Mapping[str, Any]
    standing: Standing
    messages: int
    was_tried: bool


def reconcile(
    connection: sa.Connection,
    source: str,
    conditions: Sequence[Condition],
    now: pd.Timestamp,
    settings: Settings,
) -> None:
    """Make the open alerts of a source exactly these conditions: open, update, worsen, and resolve the others.

    Args:
        connection: Of the transaction that found them.
        source: Whose alerts.
        conditions: All that hold now, each key once.
        now: The moment.
        settings: Say when severities repeat.

    Raises:
        ValueError: a condition is of another source, or a key is there twice.
    """
    keys = [condition.key for condition in conditions]
    strange = sorted({condition.source for condition in conditions} - {source})
    twice = sorted({key for key in keys if keys.count(key) > 1}) if len(set(keys)) < len(keys) else []
    if strange or twice:
        raise ValueError(f"conditions of {source}: {strange} are other sources, {twice} are there twice")
    connection.execute(LOCK)
    found = _open(connection, (ALERTS.c.source == source) | ALERTS.c.key.in_(keys))
    _meet(connection, conditions, found, now, settings)
    gone = [told for key, told in found.items() if told.row["source"] == source and key not in set(keys)]
    _resolve(connection, gone, now, OVER)


def raise_alerts(
    connection: sa.Connection, conditions: Sequence[Condition], now: pd.Timestamp, settings: Settings
) -> None:
    """Open alerts for these conditions, or update those that are open; others of their source stay as they are."""
    connection.execute(LOCK)
    found = _open(connection, ALERTS.c.key.in_([condition.key for condition in conditions]))
    _meet(connection, conditions, found, now, settings)


def resolve_alerts(connection: sa.Connection, reasons: Mapping[str, str], now: pd.Timestamp) -> int:
    """Close the open alerts of these keys, each for its reason; returns how many there were."""
    if not reasons:
        return 0
    connection.execute(LOCK)
    found = _open(connection, ALERTS.c.key.in_(list(reasons)))
    for why in sorted({reasons[key] for key in found}):
        _resolve(connection, [told for key, told in found.items() if reasons[key] == why], now, why)
    return len(found)


def acknowledge(connection: sa.Connection, key_or_id: str | int, by: str, why: str, now: pd.Timestamp) -> OpenAlert:
    """Note that somebody is at an alert: until it worsens it neither repeats nor escalates.

    Raises:
        UnknownAlertError: no open alert has this key or number.
    """
    connection.execute(LOCK)
    text = str(key_or_id)
    chosen = ALERTS.c.key == text
    if text.isdecimal() and len(text) < 19:
        chosen |= ALERTS.c.id == int(text)
    found = _open(connection, chosen)
    if not found:
        raise UnknownAlertError(f"no open alert has the key or number {text!r}; {_open_now(connection)}")
    [told] = found.values()
    row = told.row
    said = {"acknowledged_at": as_stored(now), "acknowledged_by": _clean(by), "acknowledgement": _clean(why)}
    connection.execute(sa.update(ALERTS).where(ALERTS.c.id == row["id"]).values(said))
    reminders = ALERT_MESSAGES.c.event.in_([Event.REPEATED, Event.ESCALATED])
    drop(connection, [row["id"]], now, "the alert was acknowledged before it was sent", reminders)
    return _read_alert({**row, **said})


def due(connection: sa.Connection, now: pd.Timestamp, settings: Settings) -> int:
    """Write what is to be told because time has passed: repeats, and escalations; returns how many there are.

    What still waits to be sent is not repeated: nobody has heard it yet.
    """
    connection.execute(LOCK)
    waiting = set(connection.scalars(sa.select(ALERT_MESSAGES.c.alert_id).where(WAITING)))
    to_tell: list[tuple[_Told, Event, Role]] = []
    for told in _open(connection, ALERTS.c.acknowledged_at.is_(None)).values():
        reminder = remind(told.standing, now, settings, ESCALATES_TO)
        if reminder and not (reminder[0] is Event.REPEATED and told.row["id"] in waiting):
            to_tell.append((told, *reminder))
    escalated = [told.row["id"] for told, event, _ in to_tell if event is Event.ESCALATED]
    if escalated:
        changes = {"escalations": ALERTS.c.escalations + 1, "escalated_at": as_stored(now)}
        connection.execute(sa.update(ALERTS).where(ALERTS.c.id.in_(escalated)).values(changes))
    for event in (Event.REPEATED, Event.ESCALATED):
        chosen = [(told, audience) for told, each, audience in to_tell if each is event]
        reminders = [next_message(told.row, told.messages, event, audience, now) for told, audience in chosen]
        tell(connection, reminders, now)
    return len(to_tell)


def open_alerts(warehouse: Warehouse) -> list[OpenAlert]:
    """Every open alert, the worst first, and of those the oldest first."""
    query = sa.select(ALERTS).where(ALERTS.c.resolved_at.is_(None))
    with warehouse.begin() as connection:
        rows = connection.execute(query.order_by("severity", "opened_at", "id")).mappings().all()
    return [_read_alert(dict(row)) for row in rows]


def undelivered(warehouse: Warehouse) -> list[Undelivered]:
    """Every message that waits to be sent, the worst first, and of those the oldest first."""
    table = ALERT_MESSAGES
    query = sa.select(table, ALERTS.c.key.label("alert_key")).join(ALERTS, ALERTS.c.id == table.c.alert_id)
    with warehouse.begin() as connection:
        rows = connection.execute(query.where(WAITING).order_by(table.c.severity, table.c.id)).mappings().all()
    return [
        Undelivered(
            row["dedup_key"],
            row["alert_id"],
            row["alert_key"],
            Event(row["event"]),
            Severity(row["severity"]),
            Role(row["audience"]),
            as_utc(row["created_at"]),
            as_utc(row["due_at"]),
            row["attempts"],
            row["last_error"],
        )
        for row in rows
    ]


def _open(connection: sa.Connection, chosen: "sa.ColumnElement[bool]") -> dict[str, _Told]:
    """The open alerts that are chosen, by key."""
    query = sa.select(ALERTS).where(ALERTS.c.resolved_at.is_(None), chosen).order_by(ALERTS.c.id)
    rows = connection.execute(query).mappings().all()
    table = ALERT_MESSAGES
    columns = (table.c.alert_id, table.c.event, table.c.severity, table.c.created_at)
    tried = (table.c.attempts > 0) | table.c.sent_at.is_not(None)
    messages: dict[int, list[Any]] = {}
    chosen_ids = table.c.alert_id.in_([row["id"] for row in rows])
    for message in connection.execute(sa.select(*columns, tried.label("tried")).where(chosen_ids)) if rows else ():
        messages.setdefault(message.alert_id, []).append(message)
    return {row["key"]: _told(dict(row), messages.get(row["id"], [])) for row in rows}


def _told(row: Mapping[str, Any], messages: Sequence[Any]) -> _Told:
    told: dict[Severity, pd.Timestamp] = {}
    clock_at = as_utc(row["opened_at"])
    for message in messages:
        severity, at = Severity(message.severity), as_utc(message.created_at)
        told[severity] = max(at, told.get(severity, at))
        if message.event in (Event.OPENED, Event.WORSENED, Event.ESCALATED):
            clock_at = max(clock_at, at)
    standing = Standing(
        Severity(row["severity"]),
        Role(row["owner"]),
        told,
        clock_at,
        as_utc(row["told_at"]),
        row["acknowledged_at"] is not None,
        row["escalations"],
    )
    return _Told(row, standing, len(messages), any(message.tried for message in messages))


def _meet(
    connection: sa.Connection,
    conditions: Iterable[Condition],
    found: Mapping[str, _Told],
    now: pd.Timestamp,
    settings: Settings,
) -> None:
    new: list[Condition] = []
    worse: list[Message] = []
    # By what changes: many rows go to the server together.
    changed: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for condition in conditions:
        told = found.get(condition.key)
        event = meet(condition.severity, told.standing if told else None, now, settings)
        if told is None:
            new.append(condition)
            continue
        changes = _changes(told.row, condition, now)
        if event is Event.WORSENED:
            changes |= dict.fromkeys(("acknowledged_at", "acknowledged_by", "acknowledgement", "escalated_at"))
            changes |= {"told_at": as_stored(now), "escalations": 0}
        if changes:
            changed.setdefault(tuple(changes), []).append({"this": told.row["id"], **changes})
        if event is Event.WORSENED:
            row = {**told.row, **changes}
            worse.append(next_message(row, told.messages, event, condition.owner, now))
    for rows in changed.values():
        connection.execute(sa.update(ALERTS).where(ALERTS.c.id == sa.bindparam("this")), rows)
    seen = [found[condition.key].row["id"] for condition in conditions if condition.key in found]
    if seen:
        once_more = {"seen_at": as_stored(now), "seen_count": ALERTS.c.seen_count + 1}
        connection.execute(sa.update(ALERTS).where(ALERTS.c.id.in_(seen)).values(once_more))
    tell(connection, worse, now)
    _insert(connection, new, now, _swinging(connection, new, now, settings))


def _swinging(
    connection: sa.Connection, conditions: Sequence[Condition], now: pd.Timestamp, settings: Settings
) -> dict[str, pd.Timestamp]:
    """Those that come and go, by key, and when their opening was last told."""
    longest = max(repeat_after(severity, settings) for severity in Severity)
    query = (
        sa.select(ALERTS.c.key, ALERT_MESSAGES.c.severity, ALERT_MESSAGES.c.created_at)
        .join_from(ALERT_MESSAGES, ALERTS, ALERTS.c.id == ALERT_MESSAGES.c.alert_id)
        .where(
            ALERTS.c.key.in_([condition.key for condition in conditions]),
            ALERTS.c.opened_at > as_stored(now - longest),
            ALERT_MESSAGES.c.event == str(Event.OPENED),
            ALERT_MESSAGES.c.sent_at.is_not(None),
        )
    )
    openings: dict[str, list[tuple[Severity, pd.Timestamp]]] = {}
    for row in connection.execute(query) if conditions else ():
        openings.setdefault(row.key, []).append((Severity(row.severity), as_utc(row.created_at)))
    return {
        condition.key: max(at for _, at in openings[condition.key])
        for condition in conditions
        if is_swinging(condition.severity, openings.get(condition.key, ()), now, settings)
    }


def _insert(
    connection: sa.Connection, conditions: Sequence[Condition], now: pd.Timestamp, quiet: Mapping[str, pd.Timestamp]
) -> None:
    """Open alerts; the quiet ones count as told when their key last was."""
    if not conditions:
        return
    moment = as_stored(now)
    fixed = {"opened_at": moment, "seen_at": moment, "seen_count": 1, "escalations": 0}
    rows = [
        {
            "key": condition.key,
            "source": condition.source,
            "since": as_stored(min(condition.since, now)),
            "told_at": as_stored(quiet.get(condition.key, now)),
            **_columns(condition),
            **fixed,
        }
        for condition in conditions
    ]
    added = connection.execute(sa.insert(ALERTS).returning(*ALERTS.c), rows).mappings().all()
    loud = [dict(row) for row in added if row["key"] not in quiet]
    messages = [next_message(row, 0, Event.OPENED, Role(row["owner"]), now) for row in loud]
    tell(connection, messages, now)


def _columns(condition: Condition) -> dict[str, Any]:
    return {
        "kind": condition.kind,
        "severity": str(condition.severity),
        "owner": str(condition.owner),
        "what": _clean(condition.what),
        "place": _clean(condition.where),
        "next_step": _clean(condition.next_step),
        "link": _clean(condition.link),
    }


def _clean(text: str) -> str:
    return one_line(process_mask().text(text))


def _changes(row: Mapping[str, Any], condition: Condition, now: pd.Timestamp) -> dict[str, Any]:
    """What is no longer as the row says; since when it holds stays what was found first, until its severity changes."""
    changes = {name: value for name, value in _columns(condition).items() if row[name] != value}
    return changes | {"since": as_stored(min(condition.since, now))} if "severity" in changes else changes


def _resolve(connection: sa.Connection, gone: Sequence[_Told], now: pd.Timestamp, why: str) -> None:
    """Close alerts, and tell it of those of which anybody may have heard."""
    if not gone:
        return
    reason = _clean(why)
    numbers = [told.row["id"] for told in gone]
    closed = {"resolved_at": as_stored(now), "resolution": reason}
    connection.execute(sa.update(ALERTS).where(ALERTS.c.id.in_(numbers)).values(closed))
    unheard = [told.row["id"] for told in gone if not told.was_tried]
    drop(connection, unheard, now, "it was over before anybody was told")
    heard = [told for told in gone if told.was_tried]
    tell(
        connection,
        [
            next_message(
                {**told.row, **closed, "severity": _worst(told)},
                told.messages,
                Event.RECOVERED,
                _audience(told.row),
                now,
            )
            for told in heard
        ],
        now,
    )


def _worst(told: _Told) -> str:
    """The worst severity that was told of an alert: who was woken by it is told that it is over."""
    return str(min(told.standing.told))


def _audience(row: Mapping[str, Any]) -> Role:
    return audience_of(Role(row["owner"]), row["escalations"], ESCALATES_TO)


def _open_now(connection: sa.Connection) -> str:
    query = sa.select(ALERTS.c.id, ALERTS.c.key).where(ALERTS.c.resolved_at.is_(None)).order_by("severity", "id")
    rows = connection.execute(query.limit(_SHOWN_AT_MOST)).all()
    if not rows:
        return "no alert is open."
    return f"open are {', '.join(f'{row.id} ({row.key})' for row in rows)}; `cvntrade alerts` lists all."


def _read_alert(row: Mapping[str, Any]) -> OpenAlert:
    return OpenAlert(
        row["id"],
        row["key"],
        row["source"],
        row["kind"],
        Severity(row["severity"]),
        Role(row["owner"]),
        _audience(row),
        row["what"],
        row["place"],
        as_utc(row["since"]),
        as_utc(row["opened_at"]),
        as_utc(row["seen_at"]),
        row["seen_count"],
        as_utc(row["told_at"]),
        row["next_step"],
        row["link"],
        row["escalations"],
        None if row["acknowledged_at"] is None else as_utc(row["acknowledged_at"]),
        row["acknowledged_by"],
        row["acknowledgement"],
    )
