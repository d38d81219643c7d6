"""`cvntrade restore FOLDER`: a backup into an empty server."""

import os
from pathlib import Path

import sqlalchemy as sa
from rich.console import Console

from cvntrade_assets.commands.backup import print_backup
from cvntrade_assets.commands.errors import CommandError
from cvntrade_assets.commands.migrate import OWNER_VARIABLE
from cvntrade_assets.local.addresses import only_stack_on
from cvntrade_assets.local.options import ARTIFACTS_FOLDER, MLFLOW_FOLDER, POSTGRES_FOLDER, StackOptions, stack_options
from cvntrade_assets.local.stack import database_of
from resources.backups import Backup, Files
from resources.embedded_postgres import EmbeddedPostgres, PostgresError
from resources.postgres_binaries import PostgresNotFoundError
from resources.restoring import restore_backup
from resources.roles import PASSWORD_VARIABLE
from resources.server_roles import PASSWORD_VARIABLES
from resources.warehouse import Warehouse


def restore(folder: Path, console: Console) -> None:
    """Restore the backup, and say what there is now.

    Raises:
        AlreadyRunningError: a stack runs on CVN_HOME.
        CommandError: no PostgreSQL that can be started, or nothing says where artifacts go.
        BackupError: the backup is not what was written, or there is something already.
        WarehouseError: PostgreSQL refuses.
    """
    options = stack_options({**os.environ, "CVN_PG_HOST": ""})
    try:
        found = _into_server(folder, options) if os.environ.get(OWNER_VARIABLE) else _into_home(folder, options)
    except (PostgresError, PostgresNotFoundError) as error:
        raise CommandError(str(error)) from None
    print_backup(found, folder, console)
    console.print("Restored, and counted: every row, view, trigger and index is there.")


def _into_server(folder: Path, options: StackOptions) -> Backup:
    artifacts = os.environ.get("CVN_ARTIFACTS")
    if not artifacts:
        raise CommandError("CVN_ARTIFACTS is not set: say where this deployment keeps artifacts.")
    address = Warehouse(os.environ[OWNER_VARIABLE], variable=OWNER_VARIABLE).address
    given = {role: os.environ.get(variable) for role, variable in PASSWORD_VARIABLES.items()}
    passwords = {role: password for role, password in given.items() if password}
    reader = os.environ.get(PASSWORD_VARIABLE) or None
    return restore_backup(folder, address, Files(artifacts), passwords, options.pg_bin, reader)


def _into_home(folder: Path, options: StackOptions) -> Backup:
    home = options.home
    artifacts = os.environ.get("CVN_ARTIFACTS") or str(home / ARTIFACTS_FOLDER)
    with only_stack_on(home), EmbeddedPostgres(home / POSTGRES_FOLDER, options.pg_bin) as server:
        address = sa.make_url(database_of(server).url("postgres"))
        return restore_backup(folder, address, Files(artifacts, home / MLFLOW_FOLDER), pg_bin=options.pg_bin)
