"""What the role `cvntrade_app` may do to every table of the operations schema, declared table by table.

It is least of what the code does: a table that only grows is inserted into and never changed, one that is a record is
changed and never emptied, and a history that a trigger writes is read. The triggers of the migrations refuse the rest
to everybody; what is missing here is refused to this role before any trigger is asked.
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from resources.role_tools import RoleError
from resources.server_roles import APP_ROLE

MIGRATIONS_TABLE = "alembic_version"


class Right(StrEnum):
    """What the role may do to a table, as PostgreSQL's privileges."""

    WRITE = "select, insert, update, delete"
    KEEP = "select, insert, update"
    APPEND = "select, insert"
    READ = "select"


RIGHTS: Mapping[str, Right] = {
    MIGRATIONS_TABLE: Right.READ,
    "cvntrade_universes": Right.WRITE,
    "base_env": Right.WRITE,
    "artifact_versions": Right.KEEP,
    "archive_files": Right.KEEP,
    "exchange_bans": Right.KEEP,
    "guardrail_evaluations": Right.APPEND,
    "results": Right.KEEP,
    "watched_runs": Right.KEEP,
    "rollout_gates": Right.APPEND,
    "base_env_history": Right.READ,
    "evaluations": Right.WRITE,
    "model_versions": Right.KEEP,
    "model_events": Right.READ,
    "signal_points": Right.WRITE,
    "signals_now": Right.WRITE,
    "global_states": Right.APPEND,
    "alerts": Right.KEEP,
    "alert_messages": Right.KEEP,
    "alert_channels": Right.KEEP,
    "drift_reports": Right.KEEP,
    "incidents": Right.KEEP,
    "incident_alerts": Right.APPEND,
    "pod_faults": Right.APPEND,
}

_PRIVILEGES = ("select", "insert", "update", "delete", "truncate", "references", "trigger")
_RELATIONS = sa.text("""
    select relname::text as name, relkind in ('r', 'p') as is_table from pg_class
    where relnamespace = 'public'::regnamespace and relkind in ('r', 'p', 'v', 'm', 'f') order by 1
""")
_HAS = sa.text(
    "select privilege from unnest(cast(:privileges as text[])) privilege "
    "where has_table_privilege(:role, format('public.%I', cast(:name as text)), privilege) order by privilege"
)
# PostgreSQL evaluates conditions in an order of its own, and asked of a table the function fails.
_RUN_AS_THE_OWNER = sa.text(
    "select oid::regprocedure::text from pg_proc where pronamespace = 'public'::regnamespace and prosecdef order by 1"
)
_WRITES_SEQUENCES = sa.text("""
    select relname::text from pg_class where relnamespace = 'public'::regnamespace
        and case when relkind = 'S' then has_sequence_privilege(:role, oid, 'usage, update') else false end order by 1
""")


def grant_rights(connection: sa.Connection) -> None:
    """Give the role exactly its rights on what is there; safe to call again, and to be called after every migration.

    Args:
        connection: The operations schema, as its owner (or as whoever may act as the owner).

    Raises:
        RoleError: a table has no declared right, or the role ends up with other rights than these; nothing is changed
            once the transaction is rolled back.
    """
    relations = connection.execute(_RELATIONS).all()
    undeclared = [row.name for row in relations if row.is_table and row.name not in RIGHTS]
    if undeclared:
        raise RoleError(
            f"{', '.join(undeclared)}: no right of {APP_ROLE} is declared for it; add it to resources/table_rights.py."
        )
    connection.execute(sa.text(f"revoke all on all tables in schema public from {APP_ROLE}"))
    connection.execute(sa.text(f"revoke all on all sequences in schema public from {APP_ROLE}"))
    connection.execute(sa.text(f"revoke all on schema public from {APP_ROLE}"))
    connection.execute(sa.text(f"grant usage on schema public to {APP_ROLE}"))
    for function in connection.scalars(_RUN_AS_THE_OWNER).all():
        # Its trigger needs no right; whoever has one may make a trigger of his own call it.
        connection.execute(sa.text(f"revoke all on function {function} from public, {APP_ROLE}"))
    for row in relations:
        connection.execute(sa.text(f'grant {_right(row)} on public."{row.name}" to {APP_ROLE}'))
    _require_exactly(connection, relations)


def _right(relation: "sa.Row[Any]") -> Right:
    return RIGHTS[relation.name] if relation.is_table else Right.READ


def _require_exactly(connection: sa.Connection, relations: "Sequence[sa.Row[Any]]") -> None:
    wrong = []
    for row in relations:
        asked = {"role": APP_ROLE, "name": row.name, "privileges": list(_PRIVILEGES)}
        found = set(connection.scalars(_HAS, asked))
        if found != set(_right(row).split(", ")):
            wrong.append(f"{row.name} ({', '.join(sorted(found)) or 'nothing'}; expected {_right(row)})")
    wrong += [f"sequence {name}" for name in connection.scalars(_WRITES_SEQUENCES, {"role": APP_ROLE})]
    if wrong:
        raise RoleError(
            f"{APP_ROLE} would have other rights than are declared: {'; '.join(wrong)}. Something is granted to "
            "everybody (public), or by somebody who is not the owner: revoke it, then run this again."
        )
