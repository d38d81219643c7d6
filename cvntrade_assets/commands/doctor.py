"""`cvntrade doctor`: which code every process runs, what a deployment left behind, and the commands that mend it."""

import os
import shlex
from collections.abc import Mapping

import dagster as dg
import pandas as pd
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cvntrade_assets.commands.connection import Connection
from cvntrade_assets.local.addresses import read_addresses
from cvntrade_assets.local.options import home_folder
from cvntrade_assets.operations.doctor import (
    Cluster,
    Deployment,
    Facts,
    Finding,
    LiveProcess,
    LocalStack,
    WeakSecret,
    diagnose,
)
from cvntrade_assets.operations.factors import resolve_run
from cvntrade_assets.operations.masking import MIN_SECRET_LENGTH, unmaskable
from cvntrade_assets.settings import Settings
from resources.code_version import code_version
from resources.deployment import connected_processes, runs_in_progress, schema_revisions
from resources.secrets import process_mask

HEALTHY, FINDINGS = 0, 1


def doctor(connection: Connection, console: Console) -> int:
    """Print what runs and what is wrong with it.

    Returns:
        0 when nothing is, 1 when something was found.
    """
    facts = gather(connection)
    print_processes(facts, console)
    findings = diagnose(facts)
    print_findings(findings, console)
    return FINDINGS if findings else HEALTHY


def gather(connection: Connection) -> Facts:
    """Everything that is known of the deployment now; needs Dagster's environment (`Connection.enter`)."""
    warehouse, now = connection.warehouse(), pd.Timestamp.now("UTC")

    def resolve(base_env: Mapping[str, str]) -> Settings:
        return resolve_run(base_env=base_env, run={}, now=now)

    with dg.DagsterInstance.get() as instance:
        runs = runs_in_progress(instance)
    schema = schema_revisions(warehouse)
    return Facts(
        code_version(),
        find_deployment(connection),
        connected_processes(warehouse),
        runs,
        warehouse.base_env() if schema[0] else {},
        resolve,
        schema,
        [WeakSecret(name, _mend(name)) for name in unmaskable(connection.environment)],
        now,
    )


def find_deployment(connection: Connection) -> Deployment:
    """The local stack, when the connection is to the one on CVN_HOME; anything else runs on a cluster."""
    home = home_folder(connection.environment)
    addresses = read_addresses(home, connection.environment)
    if addresses is not None and addresses.ui_url == connection.ui_url:
        return LocalStack(addresses.pid, str(home))
    return Cluster(os.environ.get("CVN_NAMESPACE") or Cluster.namespace)


def _mend(name: str) -> str:
    make = f"import secrets; print(secrets.token_urlsafe({MIN_SECRET_LENGTH * 3}))"
    return f"python3 -c {shlex.quote(make)}  # a new one for {name}, here and where it is asked for; then restart"


def print_processes(facts: Facts, console: Console) -> None:
    """A row per process and per run in progress."""
    table = Table("role", "code", "process", "connected since", "run", title=f"Code; installed: {facts.installed}")
    for process in facts.processes:
        served = [run for run in facts.runs if run.is_served_by(process)]
        table.add_row(
            escape(process.role),
            _coloured(process, facts.installed),
            escape(f"{process.pid}@{process.host}"),
            "not shown to this role" if process.since is None else f"{process.since:%Y-%m-%d %H:%M:%S}",
            escape(", ".join(f"{run.run_id[:8]} {run.crypto} {run.status}" for run in served)),
        )
    console.print(table)


def _coloured(process: LiveProcess, installed: str) -> str:
    colour = "green" if process.code == installed else "red"
    return f"[{colour}]{escape(process.code)}[/{colour}]"


def print_findings(findings: list[Finding], console: Console) -> None:
    """Each finding with the command that mends it, on a line of its own so that it can be copied."""
    if not findings:
        console.print("Nothing found: every process runs the installed code, and no run and no setting is stale.")
        return
    mask = process_mask()
    console.print(f"[bold]{len(findings)} found:[/bold]")
    for number, finding in enumerate(findings, start=1):
        console.print(escape(f"{number}. {mask.text(finding.what)}"), soft_wrap=True, highlight=False)
        console.print(f"   [bold]{escape(mask.text(finding.command))}[/bold]", soft_wrap=True, highlight=False)
