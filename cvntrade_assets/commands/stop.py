"""`cvntrade stop`: end runs, through the webserver as the UI's button does."""

import time
from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape

from cvntrade_assets.commands.connection import Connection
from cvntrade_assets.commands.dagster_api import RUN_ENDED, DagsterApi
from cvntrade_assets.commands.errors import CommandError

WAIT_SECONDS = 60.0
_POLL_SECONDS = 0.5


def stop_runs(connection: Connection, run_ids: Sequence[str], console: Console, *, force: bool) -> int:
    """Ask runs to end and wait until they have; with `force`, record them as cancelled, asked or not.

    Returns:
        0 when all have ended, 1 when one goes on.

    Raises:
        CommandError: a run does not exist, or Dagster refused.
    """
    api = connection.api()
    before = {run_id: api.run_status(run_id) for run_id in dict.fromkeys(run_ids)}
    going_on = [run_id for run_id, status in before.items() if status not in RUN_ENDED]
    for run_id in before.keys() - set(going_on):
        console.print(escape(f"run {run_id} had ended already: {before[run_id]}"))
    if going_on:
        api.terminate(going_on, force=force)
    after = _wait(api, going_on)
    for run_id, status in after.items():
        console.print(escape(f"run {run_id}: {status}{_advice(run_id, status)}"), soft_wrap=True)
    return 0 if all(status in RUN_ENDED for status in after.values()) else 1


def _wait(api: DagsterApi, run_ids: Sequence[str]) -> dict[str, str]:
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        found = {run_id: api.run_status(run_id) for run_id in run_ids}
        if all(status in RUN_ENDED for status in found.values()) or time.monotonic() > deadline:
            return found
        time.sleep(_POLL_SECONDS)


def _advice(run_id: str, status: str) -> str:
    if status in RUN_ENDED:
        return ""
    return f"; it was asked to end and has not after {WAIT_SECONDS:.0f} s: `cvntrade stop --force {run_id}`"


def whole_run_id(text: str) -> str:
    """A run's id as Dagster writes it.

    Raises:
        CommandError: it is not one; a shortened id could mean another run.
    """
    if len(text) != 36 or text.count("-") != 4:
        raise CommandError(f"{text!r} is not a run's whole id; `cvntrade doctor` and the UI show it.")
    return text
