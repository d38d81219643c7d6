"""Sends what waits in the outbox: at least once, never by two workers at a time.

A worker takes rows under a lock and a lease, sends, and notes that they are sent. Should it die between the last two,
the lease runs out and they are sent again, with the same keys: who receives may drop by those what it has. A message
that its channel does not take is tried again later and later, and then by the next channel of its severity's route.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pandas as pd
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from cvntrade_assets.operations.alert_texts import Message, full_text, grouped_text, short_text
from cvntrade_assets.operations.taxonomy import Severity
from cvntrade_assets.settings import Settings
from resources.alert_channels import LONGEST_HELD_SECONDS, Channel, Outcome
from resources.alert_outbox import WAITING, message_of
from resources.alerts import LOCK
from resources.moments import as_stored, as_utc
from resources.secrets import process_mask
from resources.tables import ALERT_CHANNELS, ALERT_MESSAGES, ALERTS
from resources.warehouse import Warehouse

# For how long a row is one worker's. Longer than an attempt can take, so that nobody else takes it meanwhile.
LEASE: Final = pd.Timedelta(seconds=120)
# What is told together at most: a list that is longer is not read.
TOGETHER: Final = 50
# For so long a channel that had too much is waited for; for longer the next one of the route is used.
PATIENCE: Final = pd.Timedelta(minutes=5)
# With the attempt that is under way when it ends, less than a sensor may take.
BUDGET_SECONDS: Final = 25.0
LONGEST_DELAY: Final = pd.Timedelta(hours=1)
# Nothing is put off for longer. What is due later than this was written by a clock that was ahead: it is due now.
_LONGEST_WAIT: Final = max(LEASE, LONGEST_DELAY, pd.Timedelta(seconds=LONGEST_HELD_SECONDS)) + pd.Timedelta(minutes=1)

_CLAIMING = sa.text("select pg_advisory_xact_lock(hashtext('cvntrade alert claims'))")
# What a message says besides its own row.
_OF_ALERT = ("key", "kind", "owner", "what", "place", "since", "opened_at", "next_step", "link", "resolution")


@dataclass(frozen=True)
class Delivered:
    """What one round of sending came to.

    Attributes:
        sent: Messages that a channel took.
        failed: Attempts that failed, one for what is sent together.
        waiting: Messages that still wait, for whatever reason.
        troubles: Why attempts failed, each reason once.
    """

    sent: int
    failed: int
    waiting: int
    troubles: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Claim:
    """Rows that this worker sends now, as one message."""

    rows: Sequence[Mapping[str, Any]]
    channel: str
    route: Sequence[str]

    @property
    def attempts(self) -> int:
        """How many there have been, the one that is made now included; which one it is keeps two workers apart."""
        return int(self.rows[0]["attempts"]) + 1

    @property
    def ids(self) -> list[int]:
        return [row["id"] for row in self.rows]


def deliver_due(
    warehouse: Warehouse,
    channels: Mapping[str, Channel],
    settings: Settings,
    now: pd.Timestamp,
    seconds: float = BUDGET_SECONDS,
) -> Delivered:
    """Send what is due, the worst first; several workers may do so at once.

    Args:
        warehouse: Where the outbox is.
        channels: Those that are configured, by name; what has none on its route waits, and its row says why.
        settings: Routes, attempts and back-off.
        now: The moment.
        seconds: No further message is begun after this time.

    Raises:
        WarehouseError: PostgreSQL did not answer; what was being sent is sent again.
    """
    routes = routes_of(channels, settings)
    _note_unroutable(warehouse, routes, settings)
    began, sent, troubles = time.monotonic(), 0, []
    while (passed := time.monotonic() - began) < seconds:
        # A round takes its time, and who asks to be left alone for a minute means a minute from then.
        claim = _claim(warehouse, routes, settings, now + pd.Timedelta(seconds=int(passed)))
        if claim is None:
            break
        outcome = _send(channels[claim.channel], claim)
        answered = now + pd.Timedelta(seconds=int(time.monotonic() - began))
        _settle(warehouse, claim, outcome, settings, answered)
        if outcome.sent:
            sent += len(claim.rows)
        else:
            troubles.append(f"{claim.channel}: {outcome.error}")
    return Delivered(sent, len(troubles), _count_waiting(warehouse), tuple(dict.fromkeys(troubles)))


def send_directly(channels: Mapping[str, Channel], message: Message, settings: Settings) -> tuple[str | None, str]:
    """Send one message by the first channel of its route that takes it, past the outbox, for when that is out of reach.

    Returns:
        The channel that took it and nothing; or None and why none did.
    """
    route = routes_of(channels, settings)[message.severity]
    troubles = []
    for name in route:
        title, body = _parts(full_text(message)) if name != "sms" else ("", short_text([message]))
        outcome = channels[name].send(title, body, message.tone)
        if outcome.sent:
            return name, ""
        troubles.append(f"{name}: {outcome.error}")
    return None, "; ".join(troubles) or _unconfigured(message.severity, settings)


def routes_of(channels: Mapping[str, Channel], settings: Settings) -> dict[Severity, tuple[str, ...]]:
    """The channels that each severity is sent by, in the order in which they are tried: those that are configured."""
    return {severity: tuple(name for name in _route(severity, settings) if name in channels) for severity in Severity}


def _route(severity: Severity, settings: Settings) -> list[str]:
    return settings.text(f"CVN_ALERT_ROUTE_{severity}").split(",")


def _unconfigured(severity: Severity, settings: Settings) -> str:
    variables = " or ".join(f"CVN_ALERT_{name.upper()}_URL" for name in _route(severity, settings))
    return f"no channel of the route of {severity} is configured: set {variables}"


def _note_unroutable(warehouse: Warehouse, routes: Mapping[Severity, Sequence[str]], settings: Settings) -> None:
    table = ALERT_MESSAGES
    with warehouse.begin() as connection:
        connection.execute(LOCK)
        for severity in (severity for severity, route in routes.items() if not route):
            why = _unconfigured(severity, settings)
            unsaid = table.c.last_error.is_distinct_from(why)
            chosen = WAITING & (table.c.severity == str(severity)) & unsaid
            connection.execute(sa.update(table).where(chosen).values(last_error=why))


def _claim(
    warehouse: Warehouse, routes: Mapping[Severity, Sequence[str]], settings: Settings, now: pd.Timestamp
) -> _Claim | None:
    """Take the next rows for this worker; None when nothing is due."""
    limit = settings.whole("CVN_ALERT_ATTEMPTS")
    with warehouse.begin() as connection:
        # One at a time, and briefly: two that begin with different rows of a group would send it in two halves.
        connection.execute(_CLAIMING)
        held = _held(connection, now)
        while rows := _due_rows(connection, [severity for severity, route in routes.items() if route], now):
            route = routes[Severity(rows[0]["severity"])]
            channel = _channel(route, rows[0]["attempts"] // limit, held, now)
            claim = _Claim(rows, channel, route)
            if channel not in held:
                _update(connection, claim.ids, attempts=claim.attempts, due_at=as_stored(now + LEASE))
                return claim
            _update(connection, claim.ids, due_at=as_stored(held[channel]))
    return None


def _due_rows(
    connection: sa.Connection, severities: Sequence[Severity], now: pd.Timestamp
) -> Sequence[Mapping[str, Any]]:
    """The most urgent row that is due, and what is told together with it."""
    table = ALERT_MESSAGES
    is_due = ~table.c.due_at.between(as_stored(now + pd.Timedelta(microseconds=1)), as_stored(now + _LONGEST_WAIT))
    ready = WAITING & is_due & table.c.severity.in_([str(each) for each in severities])
    first = (
        sa.select(table.c.group_key, table.c.attempts)
        .where(ready)
        .order_by(table.c.severity, table.c.due_at, table.c.id)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    found = connection.execute(first).one_or_none()
    if found is None:
        return []
    columns = [ALERTS.c[name] for name in _OF_ALERT]
    together = (
        sa.select(table, *columns)
        .join(ALERTS, ALERTS.c.id == table.c.alert_id)
        .where(ready, table.c.group_key == found.group_key, table.c.attempts == found.attempts)
        .order_by(table.c.id)
        .limit(TOGETHER)
        .with_for_update(skip_locked=True, of=table)
    )
    return [dict(row) for row in connection.execute(together).mappings()]


def _channel(route: Sequence[str], number: int, held: Mapping[str, pd.Timestamp], now: pd.Timestamp) -> str:
    """The channel whose turn it is, or the next one that is free when that one is held for long."""
    turns = [route[(number + step) % len(route)] for step in range(len(route))]
    if turns[0] in held and held[turns[0]] - now > PATIENCE:
        return next((name for name in turns if name not in held), turns[0])
    return turns[0]


def _send(channel: Channel, claim: _Claim) -> Outcome:
    messages = [message_of(row) for row in claim.rows]
    if claim.channel == "sms":
        return channel.send("", short_text(messages), messages[0].tone)
    text = claim.rows[0]["text"] if len(messages) == 1 else grouped_text(messages)
    return channel.send(*_parts(text), messages[0].tone)


def _parts(text: str) -> tuple[str, str]:
    title, _, body = text.partition("\n")
    return title, body


def _settle(warehouse: Warehouse, claim: _Claim, outcome: Outcome, settings: Settings, now: pd.Timestamp) -> None:
    """Note what came of an attempt, unless the lease ran out and another worker is at it."""
    with warehouse.begin() as connection:
        # Whoever writes alerts may be dropping some of these rows, in another order.
        connection.execute(LOCK)
        if outcome.sent:
            # It is sent whatever superseded it meanwhile.
            not_dropped = {"dropped_at": None, "dropped_why": None}
            done = {"sent_at": as_stored(now), "sent_by": claim.channel, "last_error": None, **not_dropped}
            _update(connection, claim.ids, **done)
            return
        error = process_mask().text(f"{claim.channel}: {outcome.error}")
        again = now + _delay(claim, settings)
        if outcome.held_seconds is not None:
            until = now + pd.Timedelta(seconds=outcome.held_seconds)
            _hold(connection, claim.channel, until)
        ours = (ALERT_MESSAGES.c.attempts == claim.attempts) & WAITING
        _update(connection, claim.ids, ours, last_error=error, due_at=as_stored(again))


def _delay(claim: _Claim, settings: Settings) -> pd.Timedelta:
    """How long to wait before the next attempt: twice as long each time on a channel, not at all for the next one."""
    limit, made = settings.whole("CVN_ALERT_ATTEMPTS"), claim.attempts
    if made % limit == 0 and (made // limit) % len(claim.route) != 0:
        return pd.Timedelta(0)
    rounds, within = divmod(made - 1, limit * len(claim.route))
    on_channel = rounds * limit + within % limit
    # The exponent is bounded before the power is taken: nobody is at it for weeks, but nothing overflows either.
    seconds = settings.number("CVN_ALERT_BACKOFF_SECONDS") * 2.0 ** min(on_channel, 30)
    return min(pd.Timedelta(seconds=min(seconds, LONGEST_DELAY.total_seconds())), LONGEST_DELAY)


def _held(connection: sa.Connection, now: pd.Timestamp) -> dict[str, pd.Timestamp]:
    until = ALERT_CHANNELS.c.held_until
    query = sa.select(ALERT_CHANNELS).where(until > as_stored(now), until <= as_stored(now + _LONGEST_WAIT))
    return {row.name: as_utc(row.held_until) for row in connection.execute(query)}


def _hold(connection: sa.Connection, channel: str, until: pd.Timestamp) -> None:
    statement = insert(ALERT_CHANNELS).values(name=channel, held_until=as_stored(until))
    longer = {"held_until": sa.func.greatest(ALERT_CHANNELS.c.held_until, statement.excluded.held_until)}
    connection.execute(statement.on_conflict_do_update(index_elements=["name"], set_=longer))


def _update(
    connection: sa.Connection,
    ids: Sequence[int],
    chosen: "sa.ColumnElement[bool] | None" = None,
    **changes: Any,
) -> None:
    statement = sa.update(ALERT_MESSAGES).where(ALERT_MESSAGES.c.id.in_(ids)).values(changes)
    connection.execute(statement if chosen is None else statement.where(chosen))


def _count_waiting(warehouse: Warehouse) -> int:
    with warehouse.begin() as connection:
        return connection.scalar(sa.select(sa.func.count()).select_from(ALERT_MESSAGES).where(WAITING)) or 0
