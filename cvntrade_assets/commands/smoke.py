"""`cvntrade smoke`: the production smoke in this process, on a PostgreSQL of its own; CI runs it."""

import os
import tempfile
from pathlib import Path

import dagster as dg
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cvntrade_assets.definitions import defs_on
from cvntrade_assets.local.options import stack_options
from resources.embedded_postgres import EmbeddedPostgres
from resources.job_runs import failure_reason
from resources.tracking import TrackingResource

PASSED, FAILED = 0, 1
_QUIET = {"loggers": {"console": {"config": {"log_level": "WARNING"}}}}


def smoke(console: Console) -> int:
    """Run the job `production_smoke` and show what took how long; returns 0, or 1 when it found something."""
    with tempfile.TemporaryDirectory(prefix="cvntrade-smoke-") as home:
        folder = Path(home)
        # As root the server runs as somebody else, who has to get there.
        folder.chmod(0o755)
        with (
            EmbeddedPostgres(folder / "postgres", stack_options(os.environ).pg_bin) as server,
            dg.DagsterInstance.ephemeral() as instance,
        ):
            # The job makes stores of its own; the outer ones stay empty.
            defs = defs_on(server.dsn(), folder / "artifacts", TrackingResource(uri="", ui_url=""))
            job = defs.resolve_job_def("production_smoke")
            result = job.execute_in_process(instance=instance, run_config=_QUIET, raise_on_error=False)
    failures = [event.step_failure_data for event in result.all_events if event.is_step_failure]
    if failures or not result.success:
        reasons = [failure_reason(failure) for failure in failures] or ["the run did not succeed; its log says more"]
        console.print(f"[red]production smoke failed:[/red] {escape('; '.join(reasons))}", soft_wrap=True)
        return FAILED
    (output,) = [event for event in result.all_events if event.event_type == dg.DagsterEventType.STEP_OUTPUT]
    table = Table("what", "seconds", title="Production smoke: passed")
    for name, value in output.step_output_data.metadata.items():
        table.add_row(escape(name), str(value.value))
    console.print(table)
    return PASSED
