"""`cvntrade backup FOLDER`: the three databases and a local store's artifacts, in one new folder."""

import os
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cvntrade_assets.commands.connection import connect
from cvntrade_assets.commands.errors import CommandError
from cvntrade_assets.commands.migrate import OWNER_VARIABLE, own_stack, owner_warehouse
from cvntrade_assets.local.addresses import MLFLOW_FOLDER
from cvntrade_assets.local.options import stack_options
from resources.backups import MLFLOW_VARIABLE, Backup, Files, make_backup
from resources.postgres_binaries import PostgresNotFoundError


def backup(folder: Path, console: Console) -> None:
    """Make the backup, and say what is in it.

    Raises:
        CommandError: no programs of PostgreSQL's version, or nothing says where artifacts are.
        BackupError: it cannot be written, the folder exists, or files are not where they should be.
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
    if made.elsewhere:
        console.print(
            f"[yellow]{made.elsewhere} versions stand in another store, and stay there: they are not part of this "
            "backup, and its rows name them where they are.[/yellow]",
            soft_wrap=True,
        )
    if made.mlflow_files:
        console.print(f"{made.mlflow_files} files of MLflow's server")
    else:
        console.print(
            f"[yellow]No file of MLflow's server is part of this backup. {MLFLOW_VARIABLE} names the folder where it "
            "keeps them; what it keeps in a bucket stays there.[/yellow]",
            soft_wrap=True,
        )
    if made.absent:
        console.print(f"{len(made.absent)} versions on record were not there: they are built anew when needed.")
    if made.damaged:
        console.print(
            f"[red]Not as they were published, and not copied: {escape(', '.join(made.damaged))}[/red]", soft_wrap=True
        )


def deployment_files() -> Files:
    """Where the environment says that a deployment keeps its files.

    Raises:
        CommandError: it does not say where artifacts are.
    """
    artifacts = os.environ.get("CVN_ARTIFACTS")
    if not artifacts:
        raise CommandError("CVN_ARTIFACTS is not set: say where this deployment keeps artifacts.")
    return Files(artifacts, os.environ.get(MLFLOW_VARIABLE) or None)


def _files() -> Files:
    """Those of the deployment that the environment names, else of the stack that runs here."""
    stack = None if os.environ.get(OWNER_VARIABLE) else own_stack(connect())
    if stack is None:
        return deployment_files()
    return Files(stack.environment(os.environ)["CVN_ARTIFACTS"], str(stack.home / MLFLOW_FOLDER))
