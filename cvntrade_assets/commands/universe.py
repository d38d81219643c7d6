"""`cvntrade universe`: which cryptos exist, and in which groups."""

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cvntrade_assets.commands.connection import Connection


def list_universe(connection: Connection, console: Console) -> None:
    """Print every group with its cryptos."""
    table = Table("group", "cryptos")
    for group, cryptos in connection.warehouse().universes().items():
        table.add_row(escape(group), escape(", ".join(cryptos)))
    console.print(table)


def set_universe(connection: Connection, group: str, cryptos: Sequence[str]) -> None:
    """Make a group exactly these cryptos; none removes it.

    Raises:
        UniverseNameError: a name is not that of a group or of a crypto.
    """
    connection.warehouse().set_group(group, cryptos)
