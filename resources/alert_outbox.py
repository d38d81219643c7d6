"""The outbox: what is to be told of alerts, written in the transaction that decides it.

Sending it is somebody else's work, see alert_delivery.py.
"""

import os
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import pandas as pd
import sqlalchemy as sa

from cvntrade_assets.operations.alert_texts import Message, full_text, message_key
from cvntrade_assets.operations.alerting import Event
from cvntrade_assets.operations.masking import public_address
from cvntrade_assets.operations.taxonomy import Role, Severity
from resources.moments import as_stored, as_utc
from resources.tables import ALERT_MESSAGES, ALERTS

OVER = "the condition no longer holds"
WAITING = ALERT_MESSAGES.c.sent_at.is_(None) & ALERT_MESSAGES.c.dropped_at.is_(None)
"""The messages that nobody has sent yet and that are still to be sent."""

# What is decided in one transaction is told together.
_TRANSACTION = sa.text("select pg_current_xact_id()::text")

# Where the UI is, when the environment does not say it.
_learned: dict[str, str] = {}


def message_of(row: Mapping[str, Any]) -> Message:
    """A row of alert_messages, joined with its alert, as what it says."""
    event = Event(row["event"])
    since = as_utc(row["since"])
    return Message(
        key=row["dedup_key"],
        alert_id=row["alert_id"],
        alert_key=row["key"],
        kind=row["kind"],
        event=event,
        severity=Severity(row["severity"]),
        owner=Role(row["owner"]),
        audience=Role(row["audience"]),
        what=row["what"],
        where=row["place"],
        # It may have held for longer than it has been as bad as it was in the end.
        since=min(since, as_utc(row["opened_at"])) if event is Event.RECOVERED else since,
        at=as_utc(row["created_at"]),
        next_step=(row["resolution"] or OVER) if event is Event.RECOVERED else row["next_step"],
        page=_page(row["link"]),
    )


def next_message(row: Mapping[str, Any], earlier: int, event: Event, audience: Role, now: pd.Timestamp) -> Message:
    """What is to be told of an alert now.

    Args:
        row: Of alerts.
        earlier: How many messages of it there are already.
        event: What happened to it.
        audience: Who is told.
        now: The moment.
    """
    key = message_key(row["id"], earlier + 1, as_utc(row["opened_at"]))
    given = {
        "dedup_key": key,
        "alert_id": row["id"],
        "event": event,
        "audience": audience,
        "created_at": as_stored(now),
    }
    return message_of({**row, **given})


def tell(connection: sa.Connection, messages: Sequence[Message], now: pd.Timestamp) -> None:
    """Write messages to the outbox; what still waits of the same alerts is superseded."""
    if not messages:
        return
    numbers = [message.alert_id for message in messages]
    drop(connection, numbers, now, f"superseded: that it {messages[0].event} is told instead")
    transaction = connection.scalar(_TRANSACTION)
    rows = [
        {
            "alert_id": message.alert_id,
            "dedup_key": message.key,
            "event": str(message.event),
            "severity": str(message.severity),
            "audience": str(message.audience),
            "group_key": f"{transaction} {message.event} {message.severity} {message.audience} {message.kind}",
            "text": full_text(message),
            "created_at": as_stored(now),
            "due_at": as_stored(now),
        }
        for message in messages
    ]
    connection.execute(sa.insert(ALERT_MESSAGES), rows)
    connection.execute(sa.update(ALERTS).where(ALERTS.c.id.in_(numbers)).values(told_at=as_stored(now)))


def drop(
    connection: sa.Connection,
    alert_ids: Collection[int],
    now: pd.Timestamp,
    why: str,
    chosen: "sa.ColumnElement[bool] | None" = None,
) -> None:
    """Take back what waits to be told of alerts, and say why: all of it, or what is chosen."""
    if not alert_ids:
        return
    of_these = ALERT_MESSAGES.c.alert_id.in_(list(alert_ids))
    statement = sa.update(ALERT_MESSAGES).where(of_these, WAITING).values(dropped_at=as_stored(now), dropped_why=why)
    connection.execute(statement if chosen is None else statement.where(chosen))


def learn_ui(url: str) -> None:
    """Have links lead to this UI, in a process whose environment does not name it."""
    _learned["ui"] = url


def _page(link: str) -> str:
    """The whole address of a page, when it is known where the UI is."""
    base = public_address(_learned.get("ui") or os.environ.get("CVN_UI_URL", "")).rstrip("/")
    return f"{base}{link}" if link else ""
