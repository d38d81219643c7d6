"""Signals and the global state as they are stored: as they stand now, and as they stood over time."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import sqlalchemy as sa

from cvntrade_assets.operations.global_state import RawState, Reason, State
from cvntrade_assets.operations.signals import SIGNALS, Level, Observation, Scalar
from cvntrade_assets.operations.staleness import is_stale
from cvntrade_assets.settings import Settings
from resources.moments import as_utc
from resources.secrets import process_mask
from resources.tables import GLOBAL_STATES, SIGNAL_POINTS, SIGNALS_NOW
from resources.warehouse import Warehouse

# One look at a time: levels are compared with those of the look before.
_LOCK = sa.text("select pg_advisory_xact_lock(hashtext('cvntrade signals'))")
# One statement for a whole look. What is not observed any more (a crypto that left, a job that no longer runs) goes.
_STORE = sa.text("""
    with observed as (
        select * from jsonb_to_recordset(cast(:rows as jsonb)) as row(
            signal text, subject text, value double precision, level text, reason text, inputs jsonb,
            observed_at timestamptz
        )
    ), compared as (
        select observed.*,
            case when before.level = observed.level then before.level_since else observed.observed_at end
                as level_since,
            before.point_at,
            before.level is distinct from observed.level
                or before.point_at <= observed.observed_at - interval '1 hour'
                or before.point_at > observed.observed_at as is_point
        from observed left join signals_now as before using (signal, subject)
    ), gone as (
        delete from signals_now
        where (signal, subject) not in (select signal, subject from observed)
    ), points as (
        insert into signal_points (signal, subject, value, level, reason, observed_at)
        select signal, subject, value, level, reason, observed_at from compared where is_point
    )
    insert into signals_now (signal, subject, value, level, reason, inputs, observed_at, level_since, point_at)
    select signal, subject, value, level, reason, inputs, observed_at, level_since,
        case when is_point then observed_at else point_at end
    from compared
    on conflict (signal, subject) do update set
        value = excluded.value, level = excluded.level, reason = excluded.reason, inputs = excluded.inputs,
        observed_at = excluded.observed_at, level_since = excluded.level_since, point_at = excluded.point_at
""")


@dataclass(frozen=True)
class StoredSignal:
    """A signal as it was last observed.

    Attributes:
        signal: Its name.
        subject: The crypto or job; empty for the platform.
        value: In the signal's unit; None when it could not be computed.
        level: How it stood then; see `counted` for what that is worth now.
        reason: Why, a sentence.
        inputs: The numbers that it was computed from, by name.
        observed_at: When, UTC.
        level_since: Since when that level has held, UTC.
    """

    signal: str
    subject: str
    value: float | None
    level: Level
    reason: str
    inputs: Mapping[str, Scalar]
    observed_at: pd.Timestamp
    level_since: pd.Timestamp

    @property
    def observation(self) -> Observation:
        """What was observed."""
        return Observation(
            self.signal, self.subject, self.value, self.level, self.reason, self.observed_at, self.inputs
        )

    def counted(self, now: pd.Timestamp, settings: Settings) -> Observation:
        """What it counts as now: an observation older than CVN_STATE_STALE_MINUTES says nothing, and is unknown."""
        if not is_stale(self.observed_at, now, settings):
            return self.observation
        minutes = (now - self.observed_at) / pd.Timedelta(minutes=1)
        reason = (
            f"last observed {minutes:.0f} minutes ago ({self.level}: {self.reason}), and after "
            f"CVN_STATE_STALE_MINUTES={settings.text('CVN_STATE_STALE_MINUTES')} that says nothing: does the sensor "
            "golden_signals_watch run?"
        )
        return Observation(self.signal, self.subject, None, Level.UNKNOWN, reason, self.observed_at, self.inputs)


@dataclass(frozen=True)
class StoredState:
    """The global state as it was last computed.

    Attributes:
        computed_at: When, UTC. Older than CVN_STATE_STALE_MINUTES, it is not the state any more.
        state: As it is shown.
        raw_state: As it was at that moment alone.
        since: Since when that state has been shown, UTC.
        reasons: What made it so, the worst first.
        market: The market in force.
        as_of: The moment that counted as now for candles and models.
    """

    computed_at: pd.Timestamp
    state: State
    raw_state: State
    since: pd.Timestamp
    reasons: tuple[Reason, ...]
    market: str
    as_of: pd.Timestamp

    def is_stale(self, now: pd.Timestamp, settings: Settings) -> bool:
        """Whether it is too old to be shown as the state."""
        return is_stale(self.computed_at, now, settings)


def store(connection: sa.Connection, observations: Sequence[Observation]) -> None:
    """Make `signals_now` what was observed, and keep a point of what changed its level or has none for an hour.

    The caller's transaction holds the lock on signals until it ends.

    Args:
        connection: In a transaction.
        observations: Everything that one look observed, each signal and subject once. What is not among them is no
            longer shown; its points stay.
    """
    mask = process_mask()
    rows = [mask.value(_row(observation)) for observation in observations]
    connection.execute(_LOCK)
    connection.execute(_STORE, {"rows": json.dumps(rows, allow_nan=False)})


def _row(observation: Observation) -> dict[str, Any]:
    return {
        "signal": observation.signal,
        "subject": observation.subject,
        "value": in_json(observation.value),
        "level": str(observation.level),
        "reason": observation.reason,
        "inputs": {name: in_json(value) for name, value in observation.inputs.items()},
        "observed_at": observation.observed_at.isoformat(),
    }


def in_json(value: Scalar) -> Scalar:
    """The value as JSON can hold it, which has no number for what is infinite; PostgreSQL reads the text as one."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def store_state(
    connection: sa.Connection, state: State, raw: RawState, *, now: pd.Timestamp, settings: Settings
) -> StoredState:
    """Write down the state of one look.

    Args:
        connection: In a transaction.
        state: As it is shown.
        raw: As it is at this moment alone, with the reasons.
        now: When it was computed, UTC.
        settings: In force.

    Returns:
        What was written.
    """
    before = state_in(connection)
    stored = StoredState(
        computed_at=now,
        state=state,
        raw_state=raw.state,
        since=before.since if before is not None and before.state is state else now,
        reasons=tuple(raw.reasons),
        market=settings.text("CVN_MARKET"),
        as_of=settings.as_of,
    )
    row = {
        "computed_at": stored.computed_at.to_pydatetime(),
        "state": str(stored.state),
        "raw_state": str(stored.raw_state),
        "since": stored.since.to_pydatetime(),
        "reasons": [_reason_row(reason) for reason in stored.reasons],
        "market": stored.market,
        "as_of": stored.as_of.to_pydatetime(),
    }
    connection.execute(sa.insert(GLOBAL_STATES), process_mask().value(row))
    return stored


def _reason_row(reason: Reason) -> dict[str, str]:
    return {
        "state": str(reason.state),
        "text": reason.text,
        "signal": reason.signal,
        "subject": reason.subject,
    }


def earlier_states(connection: sa.Connection, market: str, n: int) -> list[State]:
    """The raw states of the newest `n` looks at a market, newest first."""
    table = GLOBAL_STATES
    newest = sa.select(table.c.raw_state).where(table.c.market == market).order_by(table.c.id.desc()).limit(n)
    return [State(text) for text in connection.scalars(newest)]


def levels_since(connection: sa.Connection) -> dict[tuple[str, str], pd.Timestamp]:
    """Since when the level of every signal and subject holds, UTC."""
    table = SIGNALS_NOW
    rows = connection.execute(sa.select(table.c.signal, table.c.subject, table.c.level_since))
    return {(row.signal, row.subject): as_utc(row.level_since) for row in rows}


def read_now(warehouse: Warehouse) -> list[StoredSignal]:
    """Every signal as it was last observed, by name and subject.

    Raises:
        WarehouseError: PostgreSQL does not answer, or lacks our tables.
    """
    with warehouse.begin() as connection:
        return signals_in(connection)


def signals_in(connection: sa.Connection) -> list[StoredSignal]:
    """As `read_now`, inside a transaction; without signals that only other code knows: the next look removes them."""
    known = SIGNALS_NOW.c.signal.in_(list(SIGNALS))
    query = sa.select(SIGNALS_NOW).where(known).order_by(SIGNALS_NOW.c.signal, SIGNALS_NOW.c.subject)
    return [
        StoredSignal(
            signal=row.signal,
            subject=row.subject,
            value=row.value,
            level=Level(row.level),
            reason=row.reason,
            inputs=row.inputs,
            observed_at=as_utc(row.observed_at),
            level_since=as_utc(row.level_since),
        )
        for row in connection.execute(query)
    ]


def newest_state(warehouse: Warehouse) -> StoredState | None:
    """The global state as it was last computed; None before the first look.

    Raises:
        WarehouseError: PostgreSQL does not answer, or lacks our tables.
    """
    with warehouse.begin() as connection:
        return state_in(connection)


def state_in(connection: sa.Connection) -> StoredState | None:
    """As `newest_state`, inside a transaction."""
    row = connection.execute(sa.select(GLOBAL_STATES).order_by(GLOBAL_STATES.c.id.desc()).limit(1)).one_or_none()
    if row is None:
        return None
    return StoredState(
        computed_at=as_utc(row.computed_at),
        state=State(row.state),
        raw_state=State(row.raw_state),
        since=as_utc(row.since),
        reasons=tuple(
            Reason(State(said["state"]), said["text"], said["signal"], said["subject"]) for said in row.reasons
        ),
        market=row.market,
        as_of=as_utc(row.as_of),
    )


def purge(connection: sa.Connection, before: pd.Timestamp) -> int:
    """Delete the points of signals that were observed before a moment; says how many.

    How a signal stands now stays, and so does every global state.
    """
    old = sa.delete(SIGNAL_POINTS).where(SIGNAL_POINTS.c.observed_at < before.to_pydatetime())
    return int(connection.execute(old).rowcount)
