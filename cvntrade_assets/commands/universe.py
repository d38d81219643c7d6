"""`cvntrade universe`: which cryptos exist, and in which groups."""

import re
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from cvntrade_assets.commands.connection import Connection
from cvntrade_assets.commands.errors import CommandError

_CRYPTO = re.compile(r"^[A-Z0-9]{5,20}$")
_GROUP = re.compile(r"^[a-z0-9][a-z0-9_-]{0,40}$")


def list_universe(connection: Connection, console: Console) -> None:
    """Print every group with its cryptos."""
    table = Table("group", "cryptos")
    for group, cryptos in connection.warehouse().universes().items():
        table.add_row(group, ", ".join(cryptos))
    console.print(table)


def set_universe(connection: Connection, group: str, cryptos: Sequence[str]) -> None:
    """Make a group exactly these cryptos; none removes it.

    Raises:
        CommandError: a name is not that of a group or of a crypto.
    """
    if not _GROUP.match(group):
        raise CommandError(
            f"{group!r} is not a group name: expected lower-case letters, digits, - and _, such as btc-core."
        )
    wrong = [crypto for crypto in cryptos if not _CRYPTO.match(crypto)]
    if wrong:
        raise CommandError(f"{', '.join(wrong)}: expected exchange symbols such as BTCUSDC.")
    connection.warehouse().set_group(group, cryptos)
