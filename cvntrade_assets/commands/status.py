"""`cvntrade status`: the morning check in a terminal, with the command that resumes each thing that failed.

Read from PostgreSQL, so that it is told when no webserver answers.
"""

from collections.abc import Mapping

import pandas as pd
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cvntrade_assets.commands.connection import Connection
from cvntrade_assets.commands.webserver import answers
from cvntrade_assets.operations.masking import public_address
from cvntrade_assets.operations.morning import morning
from cvntrade_assets.operations.morning_page import Grid, Line, Morning, Tone, masked
from resources.morning_facts import read_morning
from resources.secrets import process_mask

NOBODY_IS_NEEDED, SOMEBODY_IS_NEEDED = 0, 1
_STYLES: Mapping[Tone, str] = {
    Tone.TITLE: "bold",
    Tone.GOOD: "bold green",
    Tone.WARNING: "yellow",
    Tone.BAD: "red",
}


def status(connection: Connection, console: Console) -> int:
    """Print how things stand, and what to do next.

    Returns:
        0; 1 when the state is ORANGE or RED, or the newest run of some pipeline and crypto ended without success.

    Raises:
        WarehouseError: PostgreSQL does not answer.
    """
    ui_url = public_address(connection.ui_url)
    silent = f"The webserver at {ui_url} does not answer; what follows is read from PostgreSQL."
    webserver = "" if answers(connection.ui_url) else silent
    facts = read_morning(connection.warehouse(), pd.Timestamp.now("UTC"), ui_url, webserver)
    found = masked(morning(facts), process_mask().text)
    print_morning(found, console)
    return SOMEBODY_IS_NEEDED if found.needs_somebody else NOBODY_IS_NEEDED


def print_morning(found: Morning, console: Console) -> None:
    """Print a morning check, section by section."""
    for line in found.headline:
        _print_line(line, console)
    for section in found.sections:
        console.print(f"\n[bold]{section.heading}[/bold]")
        for part in section.parts:
            if isinstance(part, Grid):
                _print_grid(part, console)
            else:
                _print_line(part, console)


def _print_line(line: Line, console: Console) -> None:
    """A line as it is: nothing is wrapped, so that a command can be copied and an address followed."""
    indent = "  " * line.depth
    console.print(f"{indent}{line.text}", style=_STYLES.get(line.tone), markup=False, highlight=False, soft_wrap=True)
    if line.command:
        console.print(f"{indent}  {line.command}", style="bold", markup=False, highlight=False, soft_wrap=True)


def _print_grid(grid: Grid, console: Console) -> None:
    table = Table(*grid.headings, title=grid.title)
    for column in table.columns[:3]:
        column.no_wrap = True
    for row in grid.rows:
        table.add_row(*(escape(cell) for cell in row))
    console.print(table)
