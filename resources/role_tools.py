"""What it takes to have one role of PostgreSQL stand exactly as it must: created, harmless, able to log in, shut out.

Only a password's verifier ever goes to the server, which logs statements.
"""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from resources.server_sessions import engine_of
from resources.warehouse import DENIED, WarehouseError

_EXISTS = ("42710", "23505")
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
_KNOWN = sa.text(f"select rolcanlogin, {', '.join(_POWERS)} from pg_roles where rolname = :role")
_MEMBER_OF = sa.text(
    "select granted.rolname from pg_auth_members join pg_roles granted on granted.oid = roleid "
    "join pg_roles holder on holder.oid = member where holder.rolname = :role order by 1"
)


class RoleError(WarehouseError):
    """A role cannot be what it must be; the message says why, and what to do."""


def create_statement(role: str, connections: int | None = None) -> str:
    """What creates a role without any power and without login.

    A member of nothing, it inherits nothing but this: up to PostgreSQL 15 only a role that inherits has, as owner of a
    database, the schema public in it.
    """
    limit = "" if connections is None else f" connection limit {connections}"
    return f"create role {role} nologin inherit nosuperuser nocreatedb nocreaterole noreplication nobypassrls{limit}"


def role_exists(connection: sa.Connection, role: str) -> bool:
    """Whether the server has the role."""
    return connection.execute(_KNOWN, {"role": role}).one_or_none() is not None


def can_log_in(connection: sa.Connection, role: str) -> bool:
    """Whether somebody can log in as a role that exists."""
    return bool(connection.execute(_KNOWN, {"role": role}).one().rolcanlogin)


def create_role(connection: sa.Connection, role: str, statement: str) -> bool:
    """Create a role unless it exists; returns whether it was created.

    Raises:
        RoleError: we may not; the message holds the statement for somebody who may.
    """
    if role_exists(connection, role):
        return False
    try:
        with connection.begin_nested():
            connection.execute(sa.text(statement))
    except sa.exc.DBAPIError as error:
        code = getattr(error.orig, "pgcode", None)
        if code in _EXISTS:
            # Roles belong to the server, and somebody else made it meanwhile.
            return False
        if code != DENIED:
            raise
        raise RoleError(
            f"{current_user(connection)} may not create roles on this server, and {role} does not exist. Have it "
            f"created by somebody who may, with `{statement};`, then run this again: the grants are ours to give."
        ) from None
    return True


def require_harmless(connection: sa.Connection, role: str, owned: Sequence[str] = ()) -> None:
    """Have a role without powers of its own or of others.

    Args:
        connection: Any database of the server.
        role: The role.
        owned: What it owns and must not, as found by the caller.

    Raises:
        RoleError: it has some; each is named.
    """
    asked = {"role": role}
    known = connection.execute(_KNOWN, asked).one()
    powers = [power for name, power in _POWERS.items() if getattr(known, name)]
    powers += [f"member of {name}" for name in connection.scalars(_MEMBER_OF, asked)]
    powers += [f"owner of {name}" for name in owned]
    if powers:
        raise RoleError(
            f"the role {role} exists with powers that it must not have: {', '.join(powers)}. Take them from it, or "
            "drop it, then run this again."
        )


def logs_in(address: sa.URL, role: str, password: str) -> bool:
    """Whether a role has this password already, and enters a database with it; then it may keep its verifier.

    Args:
        address: Of the database, as anybody.
        role: The role.
        password: The password.
    """
    engine = engine_of(address.set(username=role, password=password))
    try:
        engine.connect().close()
    except sa.exc.OperationalError:
        return False
    finally:
        engine.dispose()
    return True


def let_log_in(connection: sa.Connection, role: str, password: str, variable: str) -> None:
    """Give a role the password with which it logs in from now on.

    Raises:
        RoleError: we may not change the role.
    """
    from psycopg2.extensions import encrypt_password  # type: ignore[import-untyped]

    raw: Any = connection.connection.dbapi_connection
    verifier = encrypt_password(password, role, scope=raw, algorithm="scram-sha-256")
    try:
        with connection.begin_nested():
            connection.exec_driver_sql(f"alter role {role} login password '{verifier}'")
    except sa.exc.DBAPIError as error:
        if getattr(error.orig, "pgcode", None) != DENIED:
            raise
        raise RoleError(
            f"{current_user(connection)} may not change the role {role}, so it did not get the password of "
            f"{variable}. Have it set by whoever administers the server, then run this again without it."
        ) from None


def forbid(connection: sa.Connection, role: str) -> tuple[str, ...]:
    """Take from everybody, in this database, what the role must not have and nobody needs.

    Returns:
        What stays open because we may not close it; a phrase each.
    """
    asked = {"role": role}
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
            try_to(connection, close)
    return tuple(name for name, is_open, _ in open_doors if connection.scalar(sa.text(is_open), asked))


def try_to(connection: sa.Connection, statement: str) -> None:
    """What we may not revoke PostgreSQL refuses, or passes over with a warning; asked afterwards, it says which."""
    try:
        with connection.begin_nested():
            connection.execute(sa.text(statement))
    except sa.exc.DBAPIError as error:
        if getattr(error.orig, "pgcode", None) != DENIED:
            raise


def current_user(connection: sa.Connection) -> str:
    """As whom this connection acts."""
    return str(connection.scalar(sa.text("select current_user")))
