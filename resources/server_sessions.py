"""Sessions of one's own at a PostgreSQL server, for who administers or copies it; what it refuses is one message.

The operations schema's daily work goes through `Warehouse`, which keeps its connections.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import sqlalchemy as sa

from resources.code_version import connection_name
from resources.warehouse import DENIED, KEEPALIVES, UNDEFINED_TABLE, WarehouseError

MAINTENANCE = "postgres"
"""The server's own database, which is there before any of ours."""

Isolation = Literal["AUTOCOMMIT", "READ COMMITTED", "REPEATABLE READ"]

_REMEDIES = {
    DENIED: "Have the address name the server's administrator, or another role that may",
    UNDEFINED_TABLE: "If the operations schema is not there yet, `cvntrade migrate` makes it",
}


def engine_of(address: sa.URL, isolation: Isolation = "AUTOCOMMIT") -> sa.Engine:
    """An engine that keeps no connection; dispose of it all the same."""
    named = {"connect_timeout": 10, "application_name": connection_name()}
    return sa.create_engine(
        address, isolation_level=isolation, poolclass=sa.NullPool, connect_args={**named, **KEEPALIVES}
    )


@contextmanager
def session(address: sa.URL) -> Iterator[sa.Connection]:
    """A session outside any transaction, for what concerns the whole server.

    Raises:
        WarehouseError: the server does not answer, refuses this to the role, or lacks a table.
    """
    engine = engine_of(address)
    try:
        with _one_message(address), engine.connect() as connection:
            yield connection
    finally:
        engine.dispose()


@contextmanager
def transaction(address: sa.URL, isolation: Isolation = "READ COMMITTED") -> Iterator[sa.Connection]:
    """One transaction in a session of its own.

    Raises:
        WarehouseError: the server does not answer, refuses this to the role, or lacks a table.
    """
    engine = engine_of(address, isolation)
    try:
        with _one_message(address), engine.begin() as connection:
            yield connection
    finally:
        engine.dispose()


def unreachable(address: sa.URL, error: sa.exc.OperationalError) -> WarehouseError:
    """What to raise when a server could not be entered, or broke off."""
    return WarehouseError(
        f"PostgreSQL at {address.host}:{address.port} does not do what {address.username} asks ({_first_line(error)}). "
        "Check the address and that the server runs, then run this again."
    )


@contextmanager
def _one_message(address: sa.URL) -> Iterator[None]:
    # Of the server alone: where several sessions are open, the error may be that of another one's database.
    try:
        yield
    except sa.exc.OperationalError as error:
        raise unreachable(address, error) from None
    except sa.exc.ProgrammingError as error:
        remedy = _REMEDIES.get(getattr(error.orig, "pgcode", None) or "")
        if remedy is None:
            raise
        raise WarehouseError(
            f"PostgreSQL at {address.host}:{address.port} refuses this to {address.username} ({_first_line(error)}). "
            f"{remedy}; then run this again."
        ) from None


def _first_line(error: sa.exc.DBAPIError) -> str:
    return str(error.orig).strip().splitlines()[0]
