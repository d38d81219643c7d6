"""The role that dashboards read PostgreSQL as: it sees views, and nothing else.

What keeps it from the rest is that nothing else was granted to it. Its read-only default is a courtesy, and no barrier:
whoever logs in as it may change that.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from resources.tables import VIEWS
from resources.warehouse import Warehouse, WarehouseError

READ_ONLY_ROLE = "grafana_ro"
PASSWORD_VARIABLE = "CVN_GRAFANA_RO_PASSWORD"
"""Environment variable that holds its password; without one, nobody logs in as the role."""

CONNECTIONS = 20
_DEFAULTS = {
    "default_transaction_read_only": "on",
    "statement_timeout": "30s",
    "idle_in_transaction_session_timeout": "60s",
}
_POWERS = {
    "rolsuper": "superuser",
    "rolcreaterole": "createrole",
    "rolcreatedb": "createdb",
    "rolreplication": "replication",
    "rolbypassrls": "bypassrls",
}
# Everybody may call these, and each of them writes: large objects belong to no table that could refuse it.
_WRITING_FUNCTIONS = (
    "lo_creat(integer)",
    "lo_create(oid)",
    "lo_from_bytea(oid, bytea)",
    "lo_put(oid, bigint, bytea)",
    "lowrite(integer, bytea)",
    "lo_truncate(integer, integer)",
    "lo_truncate64(integer, bigint)",
    "lo_unlink(oid)",
)
_CREATE = (
    f"create role {READ_ONLY_ROLE} nologin noinherit nosuperuser nocreatedb nocreaterole noreplication nobypassrls "
    f"connection limit {CONNECTIONS}"
)
_DENIED, _EXISTS = "42501", ("42710", "23505")

_KNOWN = sa.text(f"select rolcanlogin, {', '.join(_POWERS)} from pg_roles where rolname = :role")
_MEMBER_OF = sa.text(
    "select granted.rolname from pg_auth_members join pg_roles granted on granted.oid = roleid "
    "join pg_roles holder on holder.oid = member where holder.rolname = :role order by 1"
)
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


class RoleError(WarehouseError):
    """The role cannot be what it must be; the message says why, and what to do."""


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
        _require_harmless(connection)
        if password is not None:
            _let_log_in(connection, password)
        left_open = _forbid(connection)
        views = _grant(connection)
        _require_views_only(connection)
        known = connection.execute(_KNOWN, {"role": READ_ONLY_ROLE}).one()
    return ReadOnlyRole(READ_ONLY_ROLE, created, bool(known.rolcanlogin), views, left_open)


def _create(connection: sa.Connection) -> bool:
    if connection.execute(_KNOWN, {"role": READ_ONLY_ROLE}).one_or_none() is not None:
        return False
    try:
        with connection.begin_nested():
            connection.execute(sa.text(_CREATE))
    except sa.exc.DBAPIError as error:
        code = getattr(error.orig, "pgcode", None)
        if code in _EXISTS:
            # Roles belong to the server, and somebody else made it meanwhile.
            return False
        if code != _DENIED:
            raise
        raise RoleError(
            f"{_user(connection)} may not create roles on this server, and {READ_ONLY_ROLE} does not exist. Have it "
            f"created by somebody who may, with `{_CREATE};`, then run this again: the grants are ours to give."
        ) from None
    for name, value in _DEFAULTS.items():
        connection.execute(sa.text(f"alter role {READ_ONLY_ROLE} set {name} = '{value}'"))
    return True


def _require_harmless(connection: sa.Connection) -> None:
    asked = {"role": READ_ONLY_ROLE}
    known = connection.execute(_KNOWN, asked).one()
    powers = [power for name, power in _POWERS.items() if getattr(known, name)]
    powers += [f"member of {name}" for name in connection.scalars(_MEMBER_OF, asked)]
    powers += [f"owner of {name}" for name in connection.scalars(_OWNS, asked)]
    if powers:
        raise RoleError(
            f"the role {READ_ONLY_ROLE} exists with powers that it must not have: {', '.join(powers)}. Take them from "
            "it, or drop it, then run this again."
        )


def _let_log_in(connection: sa.Connection, password: str) -> None:
    """Only the password's verifier goes to the server, which logs statements."""
    from psycopg2.extensions import encrypt_password  # type: ignore[import-untyped]

    raw: Any = connection.connection.dbapi_connection
    verifier = encrypt_password(password, READ_ONLY_ROLE, scope=raw, algorithm="scram-sha-256")
    try:
        with connection.begin_nested():
            connection.exec_driver_sql(f"alter role {READ_ONLY_ROLE} login password '{verifier}'")
    except sa.exc.DBAPIError as error:
        if getattr(error.orig, "pgcode", None) != _DENIED:
            raise
        raise RoleError(
            f"{_user(connection)} may not change the role {READ_ONLY_ROLE}, so it did not get the password of "
            f"{PASSWORD_VARIABLE}. Have it set by whoever administers the server, then run this again without it."
        ) from None


def _forbid(connection: sa.Connection) -> tuple[str, ...]:
    """Take from everybody what this role must not have and nobody else needs; returns what we may not take."""
    asked = {"role": READ_ONLY_ROLE}
    database = connection.scalar(sa.text("select quote_ident(current_database())"))
    # What it is, whether the role has it, and what takes it away.
    open_doors = [
        (
            f"temporary tables in {database}",
            "select has_database_privilege(:role, current_database(), 'temporary')",
            f"revoke temporary on database {database} from public",
        ),
        *(
            (
                f"{function.split('(')[0]}()",
                f"select has_function_privilege(:role, 'pg_catalog.{function}', 'execute')",
                f"revoke execute on function pg_catalog.{function} from public",
            )
            for function in _WRITING_FUNCTIONS
        ),
    ]
    for _, is_open, close in open_doors:
        if connection.scalar(sa.text(is_open), asked):
            _try(connection, close)
    return tuple(name for name, is_open, _ in open_doors if connection.scalar(sa.text(is_open), asked))


def _try(connection: sa.Connection, statement: str) -> None:
    """What we may not revoke PostgreSQL refuses, or passes over with a warning; asked afterwards, it says which."""
    try:
        with connection.begin_nested():
            connection.execute(sa.text(statement))
    except sa.exc.DBAPIError as error:
        if getattr(error.orig, "pgcode", None) != _DENIED:
            raise


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
    return views


def _require_views_only(connection: sa.Connection) -> None:
    found = list(connection.scalars(_TOO_MUCH, {"role": READ_ONLY_ROLE}))
    if found:
        raise RoleError(
            f"{READ_ONLY_ROLE} would reach more than views: {', '.join(found)}. Something is granted to everybody "
            "(public) there: revoke it, then run this again."
        )


def _user(connection: sa.Connection) -> str:
    return str(connection.scalar(sa.text("select current_user")))
