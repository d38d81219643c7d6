"""`cvntrade discovery`, `backtesting`, `walkforward`, `retrain`, `monitoring`: a pipeline's runs, one a crypto."""

import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from rich.console import Console
from rich.markup import escape

from cvntrade_assets.commands.backfill import (
    FAILED,
    INTERRUPTED,
    SUCCEEDED,
    Request,
    chosen_cryptos,
    resolve_or_record,
)
from cvntrade_assets.commands.connection import Connection
from cvntrade_assets.commands.dagster_api import RUN_ENDED, DagsterApi, run_config
from cvntrade_assets.commands.errors import CommandError
from cvntrade_assets.commands.factors import print_warnings
from cvntrade_assets.commands.pipeline_results import print_pipeline_results
from cvntrade_assets.commands.progress import StageProgress, pause_after
from cvntrade_assets.commands.require_rollout import require_rollout
from cvntrade_assets.commands.results import newest_runs, print_failed_runs
from cvntrade_assets.local.processes import StopRequested
from cvntrade_assets.operations.factors import variant_tags
from cvntrade_assets.operations.pipelines import PIPELINES, Pipeline
from cvntrade_assets.operations.provenance import FORCE_TAG
from cvntrade_assets.operations.sessions import GROUP_TAG, SESSION_TAG
from cvntrade_assets.settings import Settings

# On a run that failed and that Dagster starts again by itself.
_WILL_RETRY_TAG = "dagster/will_retry"

Runs = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Session:
    """Runs of one pipeline that were started together.

    Attributes:
        id: What their tag `cvntrade/session` says.
        pipeline: The pipeline.
        cryptos: The cryptos that have a run.
    """

    id: str
    pipeline: Pipeline
    cryptos: tuple[str, ...]


def run_pipeline(connection: Connection, name: str, request: Request, *, wait: bool, console: Console) -> int:
    """Start a pipeline for every crypto that is asked for; with `wait`, follow the runs and show what they came to.

    A crypto that fails does not stop the others.

    Returns:
        0; 1 when a crypto failed; 130 when Ctrl-C ended the following, which the runs survive.

    Raises:
        CommandError: settings or variants are wrong, or a factor lacks its rollout; that is on record, and nothing
            was started.
        UnknownGroupError: the group does not exist.
    """
    settings = resolve_or_record(connection, request)
    print_warnings(settings, console)
    require_rollout(connection.warehouse(), settings)
    api = connection.api()
    session = launch_session(connection, PIPELINES[name], request, settings)
    page = _page(api.url, session.id)
    console.print(escape(f"{name} of {', '.join(session.cryptos)}, session {session.id}: {page}"), soft_wrap=True)
    if not wait:
        console.print("`cvntrade status` tells how it stands.")
        return SUCCEEDED
    try:
        runs = _follow(api, session, console)
    except StopRequested:
        # `cvntrade up` stops, and the whole stack with it.
        raise
    except KeyboardInterrupt:
        console.print("The runs go on; `cvntrade status` tells how they stand, `cvntrade stop RUN_ID` ends one.")
        return INTERRUPTED
    print_pipeline_results(connection, session.pipeline, runs, console)
    return FAILED if _print_failures(api, session, runs, console) else SUCCEEDED


def launch_session(connection: Connection, pipeline: Pipeline, request: Request, settings: Settings) -> Session:
    """Start one run a crypto of the pipeline's own job, so that Dagster's history of the job has them.

    Raises:
        CommandError: Dagster refused a run; the message says which runs it had started before.
    """
    cryptos, api = chosen_cryptos(connection, request), connection.api()
    session = f"{pipeline.name}-{uuid.uuid4().hex[:8]}"
    tags = variant_tags(settings.variants) | {SESSION_TAG: session}
    if request.group:
        tags[GROUP_TAG] = request.group
    if request.force:
        tags[FORCE_TAG] = "true"
    config = run_config(request.settings, settings.variants)
    started: list[str] = []
    for crypto in cryptos:
        try:
            api.add_partition(crypto)
            api.launch_run(pipeline.name, config, {**tags, "dagster/partition": crypto})
        except CommandError as error:
            before = f" Started before, and going on: {', '.join(started)}." if started else ""
            raise CommandError(f"{pipeline.name} of {crypto} was not started: {error}{before}") from error
        started.append(crypto)
    return Session(session, pipeline, cryptos)


def _page(ui_url: str, session_id: str) -> str:
    """The UI's page of a session's runs, and of no others."""
    return f"{ui_url}/runs?{urlencode({'q[0]': f'tag:{SESSION_TAG}={session_id}'})}"


def _follow(api: DagsterApi, session: Session, console: Console) -> Runs:
    """Draw a bar per stage until every crypto's run has ended; returns the newest run of each."""
    with StageProgress(session.pipeline.assets, len(session.cryptos), console) as progress:
        while True:
            asked_at = time.monotonic()
            runs = newest_runs(api.tagged_runs(SESSION_TAG, session.id))
            took = time.monotonic() - asked_at
            progress.update(runs)
            if len(runs) == len(session.cryptos) and all(_has_ended(run) for run in runs):
                return runs
            time.sleep(pause_after(took))


def _has_ended(run: Mapping[str, Any]) -> bool:
    retries = any(tag["key"] == _WILL_RETRY_TAG and tag["value"] == "true" for tag in run["tags"])
    return run["status"] in RUN_ENDED and not (run["status"] == "FAILURE" and retries)


def _print_failures(api: DagsterApi, session: Session, runs: Runs, console: Console) -> list[str]:
    failed = print_failed_runs(api, runs, session.cryptos, console)
    if failed:
        count = f"{len(failed)} of {len(session.cryptos)}"
        console.print(f"{count} failed; `cvntrade status` shows for each the command that resumes just it.")
    return failed
