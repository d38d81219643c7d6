"""The role that dashboards read PostgreSQL as: it sees views, and nothing else.

What keeps it from the rest is that nothing else was granted to it. Its read-only default is a courtesy, and no barrier:
whoever logs in as it may change that.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from resources.role_tools import (
    RoleError,
    can_log_in,
    create_role,
    create_statement,
    forbid,
    let_log_in,
    logs_in,
    require_harmless,
    try_to,
)
from resources.tables import VIEWS
from resources.warehouse import Warehouse

READ_ONLY_ROLE = "grafana_ro"
PASSWORD_VARIABLE = "CVN_GRAFANA_RO_PASSWORD"
"""Environment variable that holds its password; without one, nobody logs in as the role."""

CONNECTIONS = 20
_DEFAULTS = {
    "default_transaction_read_only": "on",
    "statement_timeout": "30s",
    "idle_in_transaction_session_timeout": "60s",
}
# Whatever it may do to what is no view, or write to one, whoever granted it.
_TOO_MUCH = sa.text("""
    select relname::text from pg_class
    where relnamespace = 'public'::regnamespace and (
        relkind in ('r', 'p', 'm', 'f') and has_any_column_privilege(:role, oid, 'select, insert, update')
        or relkind in ('r', 'p', 'm', 'f', 'v')
            and has_table_privilege(:role, oid, 'insert, update, delete, truncate, trigger')
        or relkind = 'S' and has_sequence_privilege(:role, oid, 'usage, update'))
    union all
    select 'schema ' || nspname from pg_namespace
    where nspname = 'public' and has_schema_privilege(:role, oid, 'create')
    order by 1
""")
_OWNS = sa.text("""
    select relname::text from pg_class join pg_roles on pg_roles.oid = relowner where rolname = :role
    union all select proname::text from pg_proc join pg_roles on pg_roles.oid = proowner where rolname = :role
""")
_MAY_CONNECT = sa.text("select has_database_privilege(:role, current_database(), 'connect')")


@dataclass(frozen=True)
class ReadOnlyRole:
    """How the role stands once it was seen to.

    Attributes:
        name: Its name.
        created: Whether it did not exist before.
        can_login: Whether somebody can log in as it.
        views: What it may read.
        left_open: What everybody may do on this server, this role included, and we may not forbid; a phrase each.
    """

    name: str
    created: bool
    can_login: bool
    views: tuple[str, ...]
    left_open: tuple[str, ...]


def ensure_read_only_role(warehouse: Warehouse, password: str | None = None) -> ReadOnlyRole:
    """Have the role exist and see exactly the views of the operations schema; safe to call again, e.g. after migrating.

    Args:
        warehouse: The operations schema, on a connection that owns it.
        password: With which the role may log in from now on; None leaves that as it is, and a new role without login.

    Raises:
        RoleError: the role cannot be created or changed by this user, has powers that it must not have, or sees more
            than views; nothing is changed then.
        WarehouseError: PostgreSQL does not answer, or lacks the views.
    """
    with warehouse.begin() as connection:
        created = _create(connection)
        require_harmless(connection, READ_ONLY_ROLE, list(connection.scalars(_OWNS, {"role": READ_ONLY_ROLE})))
        # A role that has it keeps its verifier: an owner may not change it, and need not.
        if password is not None and (created or not logs_in(warehouse.address, READ_ONLY_ROLE, password)):
            let_log_in(connection, READ_ONLY_ROLE, password, PASSWORD_VARIABLE)
        left_open = forbid(connection, READ_ONLY_ROLE)
        views = _grant(connection)
        _require_views_only(connection)
        can_login = can_log_in(connection, READ_ONLY_ROLE)
    return ReadOnlyRole(READ_ONLY_ROLE, created, can_login, views, left_open)


def _create(connection: sa.Connection) -> bool:
    created = create_role(connection, READ_ONLY_ROLE, create_statement(READ_ONLY_ROLE, CONNECTIONS))
    if created:
        for name, value in _DEFAULTS.items():
            connection.execute(sa.text(f"alter role {READ_ONLY_ROLE} set {name} = '{value}'"))
    return created


def _grant(connection: sa.Connection) -> tuple[str, ...]:
    views = tuple(sorted(VIEWS.tables))
    statements: Sequence[str] = (
        f"revoke all on all tables in schema public from {READ_ONLY_ROLE}",
        f"revoke all on all sequences in schema public from {READ_ONLY_ROLE}",
        f"revoke all on all routines in schema public from {READ_ONLY_ROLE}",
        f"revoke all on schema public from {READ_ONLY_ROLE}",
        f"grant usage on schema public to {READ_ONLY_ROLE}",
        f"grant select on {', '.join(views)} to {READ_ONLY_ROLE}",
    )
    for statement in statements:
        connection.execute(sa.text(statement))
    if not connection.scalar(_MAY_CONNECT, {"role": READ_ONLY_ROLE}):
        database = connection.scalar(sa.text("select quote_ident(current_database())"))
        try_to(connection, f"grant connect on database {database} to {READ_ONLY_ROLE}")
    return views


def _require_views_only(connection: sa.Connection) -> None:
    found = list(connection.scalars(_TOO_MUCH, {"role": READ_ONLY_ROLE}))
    if found:
        raise RoleError(
            f"{READ_ONLY_ROLE} would reach more than views: {', '.join(found)}. Something is granted to everybody "
            "(public) there: revoke it, then run this again."
        )
