"""`cvntrade status`: how every pipeline stands, what failed, why, and the command that resumes just that.

Read from PostgreSQL, so that it is told when no webserver answers.
"""

from collections.abc import Sequence
from datetime import UTC

from rich.console import Console
from rich.markup import escape

from cvntrade_assets.commands.connection import Connection
from cvntrade_assets.commands.pipeline_results import print_latest_verdicts
from cvntrade_assets.operations.masking import public_address
from cvntrade_assets.operations.pipelines import PIPELINES
from cvntrade_assets.operations.sessions import PipelineRun, Standing, State, standings
from resources.evaluations import latest_evaluations
from resources.job_runs import JobRuns
from resources.secrets import process_mask

NOTHING_FAILED, SOMETHING_FAILED = 0, 1
_NO_REASON = "Dagster's records hold no reason (any more); the run's page may say more"


def status(connection: Connection, console: Console) -> int:
    """Print how every pipeline stands, and the newest verdict on every crypto.

    Returns:
        0; 1 when the newest run of some pipeline and crypto ended without success.

    Raises:
        WarehouseError: PostgreSQL does not answer.
    """
    warehouse, ui_url = connection.warehouse(), public_address(connection.ui_url)
    records = JobRuns(warehouse)
    found = standings(records.newest(PIPELINES))
    if not connection.api().answers():
        console.print(
            f"[yellow]The webserver at {escape(ui_url)} does not answer[/yellow]; what follows is read from PostgreSQL."
        )
    for name in PIPELINES:
        if name in found:
            _print_standing(found[name], records, ui_url, console)
    never = [name for name in PIPELINES if name not in found]
    if never:
        console.print(f"Never run: {', '.join(never)}.")
    print_latest_verdicts(warehouse, latest_evaluations(warehouse), console)
    return SOMETHING_FAILED if any(standing.to_resume for standing in found.values()) else NOTHING_FAILED


def _print_standing(standing: Standing, records: JobRuns, ui_url: str, console: Console) -> None:
    first = min(standing.latest, key=lambda run: run.created)
    group = f", group {first.group}" if first.group else ""
    began = first.created.astimezone(UTC)
    given = "".join(f" --set {name}={text}" for name, text in first.settings.items())
    said = process_mask().text(f"{began:%Y-%m-%d %H:%M:%S} UTC, session {first.session}{group}{given}")
    console.print(f"[bold]{standing.pipeline}[/bold]  {escape(said)}", soft_wrap=True)
    _print_together(standing.latest, "succeeded", console)
    _print_together(standing.latest, "waiting", console)
    for run in standing.latest:
        if run.state == "running":
            stage = records.stage_at_work(run.run_id) or "between two stages"
            _say(console, f"  running    {run.crypto}: {stage}; {ui_url}/runs/{run.run_id}")
        elif run.needs_resuming:
            _print_failed(run, records, ui_url, console)
    for run in standing.unmended:
        _print_failed(run, records, ui_url, console, f" (on {run.created.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC)")


def _print_together(runs: Sequence[PipelineRun], state: State, console: Console) -> None:
    cryptos = [run.crypto for run in runs if run.state == state]
    if cryptos:
        _say(console, f"  {state:<10} {', '.join(cryptos)}")


def _print_failed(run: PipelineRun, records: JobRuns, ui_url: str, console: Console, when: str = "") -> None:
    """One crypto's failure; the command stands on a line of its own so that it can be copied."""
    trouble = records.trouble(run.run_id)
    stage = f" in {trouble.stage}" if trouble.stage else ""
    console.print(f"  [red]{run.state:<10}[/red] {escape(run.crypto)}{escape(stage)}{when}; {ui_url}/runs/{run.run_id}")
    for reason in trouble.reasons or (_NO_REASON,):
        _say(console, f"    {reason}")
    command = process_mask().text(run.resume_command(trouble.reasons))
    console.print(f"    [bold]{escape(command)}[/bold]", soft_wrap=True)


def _say(console: Console, text: str) -> None:
    console.print(process_mask().text(text), markup=False, highlight=False, soft_wrap=True)
