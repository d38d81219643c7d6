"""The roles of a PostgreSQL server and the databases that each may enter.

    cvntrade_owner     owns database cvntrade: migrates
    cvntrade_app       works in cvntrade, as table_rights.py allows; owns cvntrade_scratch, where the smoke works
    cvntrade_dagster   owns database dagster, and enters no other
    cvntrade_mlflow    owns database mlflow, and enters no other
    grafana_ro         reads views of cvntrade (roles.py)

`prepare_server` makes of any server one like this: an empty one, one that an administrator prepared by half, and one
whose databases belonged to a single user until now.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import sqlalchemy as sa

from resources.role_tools import (
    RoleError,
    can_log_in,
    create_role,
    create_statement,
    current_user,
    forbid,
    let_log_in,
    logs_in,
    require_harmless,
    role_exists,
    try_to,
)
from resources.server_sessions import MAINTENANCE, engine_of, session, transaction, unreachable
from resources.warehouse import DENIED

OWNER_ROLE = "cvntrade_owner"
APP_ROLE = "cvntrade_app"
DAGSTER_ROLE = "cvntrade_dagster"
MLFLOW_ROLE = "cvntrade_mlflow"

WAREHOUSE_DATABASE = "cvntrade"
SCRATCH_DATABASE = "cvntrade_scratch"

PASSWORD_VARIABLES: Mapping[str, str] = {
    OWNER_ROLE: "CVN_OWNER_PASSWORD",
    APP_ROLE: "CVN_APP_PASSWORD",
    DAGSTER_ROLE: "CVN_DAGSTER_PASSWORD",
    MLFLOW_ROLE: "CVN_MLFLOW_PASSWORD",
}
"""Of every role the environment variable that holds its password, where the roles are made."""

OWNERS: Mapping[str, str] = {
    "dagster": DAGSTER_ROLE,
    "mlflow": MLFLOW_ROLE,
    WAREHOUSE_DATABASE: OWNER_ROLE,
    SCRATCH_DATABASE: APP_ROLE,
}
"""Of every database its owner."""

GUESTS: Mapping[str, tuple[str, ...]] = {WAREHOUSE_DATABASE: (APP_ROLE,)}
"""Who enters a database besides its owner; grafana_ro is let in with its views."""

_LOCK = sa.text("select pg_advisory_lock(hashtext('cvntrade roles'))")
_DATABASES = sa.text("select datname::text, pg_get_userbyid(datdba)::text as owner from pg_database")
_MAY_ACT_AS = sa.text("select pg_has_role(current_user, :role, 'MEMBER')")
_IS_SUPERUSER = sa.text("select rolsuper from pg_roles where rolname = current_user")
_MAY_ENTER = sa.text("select has_database_privilege(:role, :database, 'connect')")
_MAY_MAKE = sa.text("select has_schema_privilege(:role, 'public', 'create')")
_OWNED_ELSEWHERE = sa.text(
    "select datname::text from pg_database where pg_get_userbyid(datdba) = :role and not datname = any(:own) order by 1"
)
# What stands in a database and does not belong to its owner; a column's own sequence follows its table, and what an
# extension brought stays its own.
_FOREIGN = sa.text("""
    with brought as (select classid, objid from pg_depend where deptype = 'e')
    select format('alter %s public.%I owner to', case relkind
            when 'v' then 'view' when 'm' then 'materialized view' when 'S' then 'sequence'
            when 'f' then 'foreign table' else 'table' end, relname) as statement, 1 as place
    from pg_class
    where relnamespace = 'public'::regnamespace and relkind in ('r', 'p', 'v', 'm', 'S', 'f')
        and pg_get_userbyid(relowner) <> :owner
        and not exists (
            select from pg_depend
            where classid = 'pg_class'::regclass and objid = pg_class.oid and deptype in ('a', 'i') and relkind = 'S')
        and ('pg_class'::regclass, oid) not in (select classid, objid from brought)
    union all
    select format('alter routine %s owner to', oid::regprocedure), 2 from pg_proc
    where pronamespace = 'public'::regnamespace and pg_get_userbyid(proowner) <> :owner
        and ('pg_proc'::regclass, oid) not in (select classid, objid from brought)
    union all
    select format('alter type %s owner to', oid::regtype), 3 from pg_type
    where typnamespace = 'public'::regnamespace and typtype in ('e', 'd') and pg_get_userbyid(typowner) <> :owner
        and ('pg_type'::regclass, oid) not in (select classid, objid from brought)
    order by 2, 1
""")


@dataclass(frozen=True)
class PreparedServer:
    """How a server stands once its roles were seen to.

    Attributes:
        created: Roles and databases that did not exist before.
        without_login: Roles that nobody can log in as yet.
        left_open: What somebody may do on this server and we may not forbid; a phrase each.
    """

    created: tuple[str, ...]
    without_login: tuple[str, ...]
    left_open: tuple[str, ...]


def prepare_server(address: sa.URL, passwords: Mapping[str, str] | None = None) -> PreparedServer:
    """Have the roles and databases exist, belong to whom they must, and be closed to everybody else; safe to repeat.

    Args:
        address: Of any database of the server, as its administrator (who may create roles and databases), or as
            `cvntrade_owner` once an administrator has made them.
        passwords: Role to password, with which it may log in from now on; the others keep theirs.

    Raises:
        RoleError: something is missing and we may not make it, or a role has powers that it must not have.
        WarehouseError: the server does not answer.
    """
    address = _reachable(address)
    with session(address) as connection:
        connection.execute(_LOCK)
        with transaction(address) as roles:
            created = [role for role in PASSWORD_VARIABLES if create_role(roles, role, create_statement(role))]
            _require_harmless_roles(roles)
            for role, password in (passwords or {}).items():
                if role in created or not _logs_in(address, role, password):
                    let_log_in(roles, role, password, PASSWORD_VARIABLES[role])
        created += [database for database in OWNERS if _have_database(connection, address, database)]
        ours = [database for database, owner in OWNERS.items() if connection.scalar(_MAY_ACT_AS, {"role": owner})]
        left_open = [phrase for database in ours for phrase in _close(address, database)]
        left_open += _entered_by_others(connection)
        without_login = [role for role in PASSWORD_VARIABLES if not can_log_in(connection, role)]
    return PreparedServer(tuple(created), tuple(without_login), tuple(dict.fromkeys(left_open)))


def close_maintenance_databases(address: sa.URL) -> None:
    """Keep everybody but superusers out of `postgres` and `template1`; for a server that is ours alone."""
    with session(address) as connection:
        for database in (MAINTENANCE, "template1"):
            connection.execute(sa.text(f"revoke all on database {database} from public"))


def act_as_owner(connection: sa.Connection) -> bool:
    """Until the transaction ends be the owner of this database, when that is `cvntrade_owner` and we may.

    So what an administrator migrates belongs to the owner all the same.

    Returns:
        Whether the database belongs to `cvntrade_owner`: whether this is a server with roles.
    """
    owner = connection.scalar(
        sa.text("select pg_get_userbyid(datdba)::text from pg_database where datname = current_database()")
    )
    if owner != OWNER_ROLE:
        return False
    if current_user(connection) != owner and connection.scalar(_MAY_ACT_AS, {"role": owner}):
        connection.execute(sa.text(f"set local role {owner}"))
    return True


def _require_harmless_roles(connection: sa.Connection) -> None:
    for role in PASSWORD_VARIABLES:
        own = [database for database, owner in OWNERS.items() if owner == role]
        elsewhere = connection.scalars(_OWNED_ELSEWHERE, {"role": role, "own": own}).all()
        require_harmless(connection, role, [f"database {name}" for name in elsewhere])


def _reachable(address: sa.URL) -> sa.URL:
    """The address, or that of the server's own database while this one does not exist."""
    engine = engine_of(address)
    try:
        engine.connect().close()
    except sa.exc.OperationalError as error:
        # libpq tells of a connection that was refused in words only.
        if f'database "{address.database}" does not exist' not in str(error.orig):
            raise unreachable(address, error) from None
        return address.set(database=MAINTENANCE)
    finally:
        engine.dispose()
    return address


def _logs_in(address: sa.URL, role: str, password: str) -> bool:
    database = next(name for name, owner in OWNERS.items() if owner == role)
    return logs_in(address.set(database=database), role, password)


def _have_database(connection: sa.Connection, address: sa.URL, database: str) -> bool:
    """Create a database, or hand it to its owner; returns whether it was created."""
    owner = OWNERS[database]
    present = {row.datname: row.owner for row in connection.execute(_DATABASES)}
    if present.get(database) == owner:
        return False
    with transaction(address) as roles:
        _join(roles, owner)
    statement = (
        f"alter database {database} owner to {owner}"
        if database in present
        else f"create database {database} owner {owner}"
    )
    _must(connection, statement)
    return database not in present


def _join(connection: sa.Connection, role: str) -> None:
    """An administrator who is no superuser hands things only to roles that he is a member of."""
    if connection.scalar(_IS_SUPERUSER):
        return
    me = connection.scalar(sa.text("select quote_ident(current_user)"))
    modern = connection.scalar(sa.text("select current_setting('server_version_num')::int >= 160000"))
    try_to(connection, f"grant {role} to {me}{' with inherit true, set true' if modern else ''}")


def _close(address: sa.URL, database: str) -> tuple[str, ...]:
    """Give a database's objects to its owner, and let nobody in but the owner and the guests."""
    owner = OWNERS[database]
    # Whoever owns a database makes temporary tables there, so another role tells whether everybody may.
    other = APP_ROLE if owner != APP_ROLE else DAGSTER_ROLE
    with transaction(address.set(database=database)) as connection:
        for statement in connection.scalars(_FOREIGN, {"owner": owner}).all():
            _must(connection, f"{statement} {owner}", database)
        _must(connection, f"revoke all on database {database} from public", database)
        try_to(connection, "revoke all on schema public from public")
        # Asked after that: up to PostgreSQL 14 everybody may, and the owner by that alone.
        if not connection.scalar(_MAY_MAKE, {"role": owner}):
            _must(connection, f"alter schema public owner to {owner}", database)
        for guest in GUESTS.get(database, ()):
            _must(connection, f"revoke all on database {database} from {guest}", database)
            _must(connection, f"grant connect on database {database} to {guest}", database)
        doors = list(forbid(connection, other))
        if connection.scalar(_MAY_MAKE, {"role": other}):
            doors.append("new tables in the schema public")
        return tuple(f"{door} of database {database}" for door in doors)


def _must(connection: sa.Connection, statement: str, database: str | None = None) -> None:
    """Do what nobody but its owner or an administrator may.

    Raises:
        RoleError: we may not; the message holds the statement for somebody who may.
    """
    try:
        connection.execute(sa.text(statement))
    except sa.exc.DBAPIError as error:
        if getattr(error.orig, "pgcode", None) != DENIED:
            raise
        where = "on this server" if database is None else f"in database {database}"
        raise RoleError(
            f"{connection.engine.url.username} may not do `{statement};` {where}. Have it done by somebody who may, "
            "then run this again."
        ) from None


def _entered_by_others(connection: sa.Connection) -> list[str]:
    """Databases of ours that a role of ours may enter and has no business in."""
    return [
        f"connections of {role} to database {database}"
        for database, owner in OWNERS.items()
        for role in PASSWORD_VARIABLES
        if role != owner
        and role not in GUESTS.get(database, ())
        and role_exists(connection, role)
        and connection.scalar(_MAY_ENTER, {"role": role, "database": database})
    ]
