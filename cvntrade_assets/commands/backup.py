"""`cvntrade backup FOLDER`: the three databases and a local store's artifacts, in one new folder."""

import os
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cvntrade_assets.commands.connection import connect
from cvntrade_assets.commands.errors import CommandError
from cvntrade_assets.commands.migrate import OWNER_VARIABLE, owner_warehouse
from cvntrade_assets.local.options import MLFLOW_FOLDER, home_folder, stack_options
from resources.backups import Backup, Files, make_backup
from resources.postgres_binaries import PostgresNotFoundError


def backup(folder: Path, console: Console) -> None:
    """Make the backup, and say what is in it.

    Raises:
        CommandError: no programs of PostgreSQL's version, or nothing says where artifacts are.
        BackupError: it cannot be written, or the folder exists.
        WarehouseError: a database cannot be read.
    """
    warehouse = owner_warehouse(os.environ)
    pg_bin = stack_options({"CVN_PG_BIN": os.environ.get("CVN_PG_BIN", "")}).pg_bin
    try:
        made = make_backup(warehouse.address, _files(), folder.absolute(), pg_bin)
    except PostgresNotFoundError as error:
        raise CommandError(str(error)) from None
    print_backup(made, folder, console)


def print_backup(made: Backup, folder: Path, console: Console) -> None:
    """What a backup holds, and what it does not."""
    table = Table("database", "tables", "rows", title=f"Backup {escape(str(folder))} of {made.made_at[:19]} UTC")
    for name, each in made.databases.items():
        table.add_row(name, str(len(each.rows)), str(sum(each.rows.values())))
    console.print(table)
    if made.artifacts_copied:
        console.print(f"{made.versions} artifact versions of {escape(made.store)}", soft_wrap=True)
    else:
        console.print(
            f"[yellow]The artifacts stay in {escape(made.store)}: they are not part of this backup.[/yellow]",
            soft_wrap=True,
        )
    if made.absent:
        console.print(f"{len(made.absent)} versions on record were not there: they are built anew when needed.")
    if made.damaged:
        console.print(
            f"[red]Not as they were published, and not copied: {escape(', '.join(made.damaged))}[/red]", soft_wrap=True
        )


def _files() -> Files:
    """Where artifacts are: of the deployment that the environment names, else of the stack that runs here."""
    if os.environ.get(OWNER_VARIABLE):
        artifacts = os.environ.get("CVN_ARTIFACTS")
        if not artifacts:
            raise CommandError("CVN_ARTIFACTS is not set: say where this deployment keeps artifacts.")
        return Files(artifacts)
    connection = connect()
    return Files(connection.environment["CVN_ARTIFACTS"], home_folder(connection.environment) / MLFLOW_FOLDER)
