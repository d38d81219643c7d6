"""`cvntrade restore FOLDER`: a backup into an empty server."""

import os
from pathlib import Path

import sqlalchemy as sa
from rich.console import Console
from rich.markup import escape

from cvntrade_assets.commands.backup import deployment_files, print_backup
from cvntrade_assets.commands.errors import CommandError
from cvntrade_assets.commands.migrate import OWNER_VARIABLE, given_passwords
from cvntrade_assets.local.addresses import ARTIFACTS_FOLDER, MLFLOW_FOLDER, POSTGRES_FOLDER, only_stack_on
from cvntrade_assets.local.options import StackOptions, stack_options
from cvntrade_assets.local.stack import database_of
from resources.backups import Backup, Files, mlflow_files_in
from resources.embedded_postgres import EmbeddedPostgres, PostgresError
from resources.postgres_binaries import PostgresNotFoundError
from resources.restoring import restore_backup
from resources.roles import PASSWORD_VARIABLE
from resources.warehouse import Warehouse


def restore(folder: Path, console: Console) -> None:
    """Restore the backup, and say what there is now.

    Raises:
        AlreadyRunningError: a stack runs on CVN_HOME.
        CommandError: no PostgreSQL that can be started, or nothing says where artifacts go.
        BackupError: the backup is not what was written, nothing says where MLflow's files go, there is something
            already, or roles and rights could not be completed.
        WarehouseError: PostgreSQL refuses.
    """
    options = stack_options({**os.environ, "CVN_PG_HOST": ""})
    is_deployment = bool(os.environ.get(OWNER_VARIABLE))
    files = deployment_files() if is_deployment else _files_of(options.home)
    try:
        found = _into_server(folder, files, options) if is_deployment else _into_home(folder, files, options)
    except (PostgresError, PostgresNotFoundError) as error:
        raise CommandError(str(error)) from None
    print_backup(found, folder, console)
    console.print("Restored, and counted: every row, view, trigger and index is there.")
    if found.mlflow_files and files.mlflow_folder is None:
        console.print(
            f"[yellow]The files of MLflow's server are not at {escape(str(files.mlflow))} yet: copy there what is in "
            f"{escape(str(mlflow_files_in(folder)))}.[/yellow]",
            soft_wrap=True,
        )


def _files_of(home: Path) -> Files:
    return Files(os.environ.get("CVN_ARTIFACTS") or str(home / ARTIFACTS_FOLDER), str(home / MLFLOW_FOLDER))


def _into_server(folder: Path, files: Files, options: StackOptions) -> Backup:
    address = Warehouse(os.environ[OWNER_VARIABLE], variable=OWNER_VARIABLE).address
    reader = os.environ.get(PASSWORD_VARIABLE) or None
    return restore_backup(folder, address, files, given_passwords(), options.pg_bin, reader)


def _into_home(folder: Path, files: Files, options: StackOptions) -> Backup:
    home = options.home
    with only_stack_on(home), EmbeddedPostgres(home / POSTGRES_FOLDER, options.pg_bin) as server:
        address = sa.make_url(database_of(server).url("postgres"))
        return restore_backup(folder, address, files, pg_bin=options.pg_bin)
