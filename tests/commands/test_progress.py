"""Following runs leaves the webserver time for others."""

from typing import Any

import pytest
from scripted_webserver import Webserver

from cvntrade_assets.commands.dagster_api import DagsterApi
from cvntrade_assets.commands.progress import pause_after


def run(run_id: str, status: str, *steps: str) -> dict[str, Any]:
    """A run whose steps stand as given."""
    stats = [{"stepKey": f"step{number}", "status": step} for number, step in enumerate(steps)]
    return {"runId": run_id, "status": status, "startTime": 1.0, "endTime": 2.0, "tags": [], "stepStats": stats}


def test_the_steps_of_a_run_that_has_ended_are_asked_for_once(webserver: Webserver) -> None:
    webserver.runs = [
        run("r1", "SUCCESS", "SUCCESS"),
        run("r2", "STARTED", "SUCCESS", "IN_PROGRESS"),
        run("r3", "QUEUED"),
    ]
    api = DagsterApi(webserver.url)
    for _ in range(2):
        assert api.backfill("abcdefgh").runs == webserver.runs
    webserver.runs[1] = run("r2", "FAILURE", "SUCCESS", "FAILURE")
    for _ in range(2):
        assert api.tagged_runs("session", "s") == webserver.runs
    asked = [variables["ids"] for query, variables in webserver.asked if "stepStats" in query]
    assert asked == [["r1", "r2"], ["r2"], ["r2"]]


@pytest.mark.parametrize(("took", "pause"), [(0.0, 0.5), (0.24, 0.5), (0.25, 0.5), (0.26, 0.52), (5.0, 10.0)])
def test_an_answer_that_takes_long_is_asked_for_less_often(took: float, pause: float) -> None:
    assert pause_after(took) == pytest.approx(pause)
