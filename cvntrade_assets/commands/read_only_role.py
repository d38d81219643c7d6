"""`cvntrade migrate --read-only-role`: the role that dashboards read PostgreSQL as."""

import os

from rich.console import Console
from rich.markup import escape

from resources.roles import PASSWORD_VARIABLE, ensure_read_only_role
from resources.warehouse import Warehouse


def see_to_role(warehouse: Warehouse, console: Console) -> None:
    """Create or update the role, and say how it stands.

    Raises:
        RoleError: the role cannot be what it must be.
        WarehouseError: PostgreSQL does not answer.
    """
    role = ensure_read_only_role(warehouse, os.environ.get(PASSWORD_VARIABLE) or None)
    how = "created" if role.created else "brought up to date"
    console.print(f"The role {role.name} was {how}: it reads {len(role.views)} views, and nothing else.")
    if not role.can_login:
        console.print(f"Nobody can log in as it yet: set {PASSWORD_VARIABLE}, and run this again.")
    if role.left_open:
        told = escape(", ".join(role.left_open))
        console.print(
            f"[yellow]Everybody may use {told} on this server, and only its superuser may forbid that.[/yellow]",
            soft_wrap=True,
        )
