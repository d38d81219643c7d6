"""Takes the operations schema from one migration to another, up or down, each time in one transaction.

On a server with roles what is made belongs to `cvntrade_owner`, and `cvntrade_app` has its rights on it in the same
transaction.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from resources.server_roles import act_as_owner
from resources.table_rights import MIGRATIONS_TABLE, grant_rights
from resources.warehouse import Warehouse, WarehouseError

NOTHING = "base"
"""The revision before the first migration."""

_MIGRATIONS = Path(__file__).parent / "migrations"
# Two `up`s at once: the second waits for the first, then finds nothing to do.
_LOCK = sa.text("select pg_advisory_xact_lock(hashtext('cvntrade migrations'))")
# Down takes tables away from who reads them: it rather fails than makes everybody wait behind it.
_PATIENCE = sa.text("set local lock_timeout = '10s'")


class RevisionError(WarehouseError):
    """A revision that this code does not have; the message says what to do."""


@dataclass(frozen=True)
class Losses:
    """What a way down would remove.

    Attributes:
        tables: Table to the rows that it holds.
        columns: `table.column`, of tables that stay, to the rows that hold a value there.
        views: Views, which hold nothing of their own.
    """

    tables: dict[str, int]
    columns: dict[str, int]
    views: tuple[str, ...]


def revisions() -> tuple[str, ...]:
    """Every revision of this code, oldest first."""
    return tuple(reversed([script.revision for script in _scripts().walk_revisions()]))


def current_revision(warehouse: Warehouse) -> str:
    """The revision of the operations schema; `base` before the first migration."""
    with warehouse.begin() as connection:
        return revision_of(connection)


def is_down(warehouse: Warehouse, revision: str) -> bool:
    """Whether the way to a revision leads down.

    Raises:
        RevisionError: there is no such revision, or the schema is at one that this code does not know.
    """
    order = (NOTHING, *revisions())
    if revision not in order:
        raise RevisionError(f"there is no migration {revision!r}; there are {', '.join(order)}.")
    current = current_revision(warehouse)
    _require_known(current)
    return order.index(revision) < order.index(current)


def upgrade(warehouse: Warehouse, revision: str = "head") -> None:
    """Go up to a revision; safe to call again and from several processes.

    Raises:
        RevisionError: the schema is at a revision that this code does not know.
        RoleError: `cvntrade_app` would have other rights than are declared; nothing is changed.
    """
    with warehouse.begin() as connection:
        connection.execute(_LOCK)
        _require_known(revision_of(connection))
        has_roles = act_as_owner(connection)
        command.upgrade(_config(connection), revision)
        if has_roles:
            grant_rights(connection)


def downgrade(warehouse: Warehouse, revision: str) -> Losses:
    """Go down to a revision; returns what was removed.

    Raises:
        WarehouseError: somebody works with the tables and does not let go of them; nothing is changed.
    """
    with warehouse.begin() as connection:
        return _go_down(connection, revision)


def losses_of(warehouse: Warehouse, revision: str) -> Losses:
    """What going down to a revision would remove: it is done, looked at, and taken back.

    Raises:
        WarehouseError: somebody works with the tables and does not let go of them.
    """
    with warehouse.begin() as connection:
        attempt = connection.begin_nested()
        found = _go_down(connection, revision)
        attempt.rollback()
    return found


def _go_down(connection: sa.Connection, revision: str) -> Losses:
    connection.execute(_LOCK)
    connection.execute(_PATIENCE)
    has_roles = act_as_owner(connection)
    before = _columns(connection)
    views = set(sa.inspect(connection).get_view_names())
    rows = {table: _count(connection, table) for table in before}
    filled = {
        (table, column): _count(connection, table, column) for table, columns in before.items() for column in columns
    }
    try:
        command.downgrade(_config(connection), revision)
    except sa.exc.OperationalError as error:
        raise WarehouseError(
            f"the operations schema is in use ({str(error.orig).strip().splitlines()[0]}); nothing was changed. Stop "
            "what works with it, then run this again."
        ) from None
    if has_roles:
        grant_rights(connection)
    after = _columns(connection)
    return Losses(
        {table: rows[table] for table in before if table not in after},
        {
            f"{table}.{column}": filled[table, column]
            for table in before
            if table in after
            for column in before[table]
            if column not in after[table]
        },
        tuple(sorted(views - set(sa.inspect(connection).get_view_names()))),
    )


def _require_known(current: str) -> None:
    if current not in (NOTHING, *revisions()):
        raise RevisionError(
            f"the operations schema is at migration {current!r}, which this code does not know: newer code made it. "
            "Run that code, or go down with it first."
        )


def _columns(connection: sa.Connection) -> dict[str, list[str]]:
    inspector = sa.inspect(connection)
    tables = sorted(name for name in inspector.get_table_names() if name != MIGRATIONS_TABLE)
    return {table: [column["name"] for column in inspector.get_columns(table)] for table in tables}


def _count(connection: sa.Connection, table: str, column: str | None = None) -> int:
    what = sa.func.count() if column is None else sa.func.count(sa.column(column))
    return int(connection.scalar(sa.select(what).select_from(sa.table(table))) or 0)


def revision_of(connection: sa.Connection) -> str:
    """The revision of the operations schema, as a connection sees it; `base` before the first migration."""
    return MigrationContext.configure(connection).get_current_revision() or NOTHING


@cache
def _scripts() -> ScriptDirectory:
    return ScriptDirectory(str(_MIGRATIONS))


def _config(connection: sa.Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    config.attributes["connection"] = connection
    return config
