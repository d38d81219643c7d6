"""`cvntrade migrate`: the operations schema from one migration to another, and the roles of its server."""

import os
from collections.abc import Mapping

from rich.console import Console
from rich.markup import escape

from cvntrade_assets.commands.connection import Connection, connect
from cvntrade_assets.commands.errors import CommandError
from cvntrade_assets.commands.read_only_role import see_to_role
from cvntrade_assets.local.addresses import Addresses, read_addresses
from cvntrade_assets.local.options import home_folder
from resources.migrating import (
    Losses,
    RevisionError,
    current_revision,
    downgrade,
    is_down,
    losses_of,
    revisions,
    upgrade,
)
from resources.server_roles import PASSWORD_VARIABLES, WAREHOUSE_DATABASE, prepare_server
from resources.warehouse import Warehouse

OWNER_VARIABLE = "CVN_OWNER_URL"
"""Environment variable with the address of the operations schema as its owner, or as the server's administrator.

A backup and a restore concern every database of the server: they take its administrator.
"""


def owner_warehouse(environment: Mapping[str, str]) -> Warehouse:
    """The operations schema as whoever may migrate it.

    That is CVN_OWNER_URL; without it the administrator of the stack that runs here, else the role of CVN_WAREHOUSE_URL,
    for a server with one role.

    Raises:
        NotRunningError: nothing is named and nothing runs here.
    """
    if url := environment.get(OWNER_VARIABLE):
        return Warehouse(url, variable=OWNER_VARIABLE)
    connection = connect()
    stack = own_stack(connection)
    return connection.warehouse() if stack is None else Warehouse(stack.database.url(WAREHOUSE_DATABASE))


def own_stack(connection: Connection) -> Addresses | None:
    """The stack that runs on CVN_HOME, if that is whom a connection talks to."""
    stack = read_addresses(home_folder(connection.environment), connection.environment)
    return stack if stack is not None and stack.ui_url == connection.ui_url else None


def migrate(console: Console, *, roles: bool, read_only_role: bool, to: str | None, yes: bool) -> None:
    """Go to a migration (the newest without one), and see to roles if that was asked.

    Raises:
        CommandError: there is no such migration, the way leads down and nobody has agreed to what is lost, or roles
            were asked for and another database is named than theirs.
        RoleError: a role cannot be what it must be.
        WarehouseError: PostgreSQL does not answer.
    """
    warehouse = owner_warehouse(os.environ)
    if roles:
        if warehouse.address.database != WAREHOUSE_DATABASE:
            raise CommandError(
                f"the address names the database {warehouse.address.database}, and on a server with roles the "
                f"operations schema stands in {WAREHOUSE_DATABASE}: name that one, which need not be there yet. "
                "Nothing was changed."
            )
        see_to_server(warehouse, console)
    _go(warehouse, to or revisions()[-1], console, yes=yes)
    if roles or read_only_role:
        see_to_role(warehouse, console)


def see_to_server(warehouse: Warehouse, console: Console) -> None:
    """Have every role and database of the server exist and be closed to the others, and say how it stands."""
    server = prepare_server(warehouse.address, given_passwords())
    made = f"created {', '.join(server.created)}" if server.created else "nothing was missing"
    console.print(f"Roles and databases are as they must be: {made}.", soft_wrap=True)
    for role in server.without_login:
        console.print(f"Nobody can log in as {role} yet: set {PASSWORD_VARIABLES[role]}, and run this again.")
    if server.left_open:
        console.print(
            f"[yellow]This server still allows {escape(', '.join(server.left_open))}; only its administrator may "
            "forbid that.[/yellow]",
            soft_wrap=True,
        )


def given_passwords() -> dict[str, str]:
    """Role to the password that the environment gives it; the others keep theirs."""
    given = {role: os.environ.get(variable) for role, variable in PASSWORD_VARIABLES.items()}
    return {role: password for role, password in given.items() if password}


def _go(warehouse: Warehouse, revision: str, console: Console, *, yes: bool) -> None:
    try:
        down = is_down(warehouse, revision)
    except RevisionError as error:
        raise CommandError(str(error)) from None
    if not down:
        upgrade(warehouse, revision)
        newest = " It is up to date." if revision == revisions()[-1] else ""
        console.print(f"The operations schema is at migration {current_revision(warehouse)}.{newest}")
        return
    if not yes:
        lost = _told(losses_of(warehouse, revision))
        raise CommandError(
            f"going down to {revision} would remove {lost}. Nothing was changed. `cvntrade backup` keeps a copy; "
            "--yes goes down all the same."
        )
    console.print(f"Removed: {_told(downgrade(warehouse, revision))}.", soft_wrap=True)
    console.print(f"The operations schema is at migration {revision}; this code needs {revisions()[-1]}.")


def _told(losses: Losses) -> str:
    parts = [f"table {name} with {rows} rows" for name, rows in losses.tables.items()]
    parts += [f"column {name} with {rows} values" for name, rows in losses.columns.items()]
    if losses.views:
        parts.append(f"the views {', '.join(losses.views)}")
    return ", ".join(parts) or "no table, column or view"
