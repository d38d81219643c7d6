"""Stuck and slow runs on a real stack: who shows no progress is recorded, ended and gone; who is slow is told of.

The limits are lowered to seconds in base_env, and the sensor and Dagster's run monitoring look every few seconds.
"""

from collections.abc import Iterator
from contextlib import closing

import pytest
from live.hanging_stages import let_go
from live.live_stack import ROOT, LiveStack, processes_of
from polling import until

from resources.warehouse import Warehouse

pytestmark = pytest.mark.live

SILENT, HUNG, DAWDLING = "ETHUSDC", "BTCUSDC", "SOLUSDC"
LIMITS = {
    "CVN_GUARDRAIL_STUCK_MINUTES": "0.25",
    "CVN_GUARDRAIL_STAGE_MINUTES": "0.05",
    "CVN_GUARDRAIL_SLOW_RUN_MINUTES": "0.1",
}
WATCHED_SECONDS = 240.0


@pytest.fixture(scope="module")
def hanging() -> Iterator[LiveStack]:
    """A stack with low limits that serves stages which hang, and a place for each of three runs."""
    program = (str(ROOT / "tests" / "live" / "hanging_stages.py"),)
    paths = f"{ROOT}:{ROOT / 'tests'}"
    with LiveStack(program, PYTHONPATH=paths, CVN_MAX_CONCURRENT_RUNS="3") as stack:
        with closing(Warehouse(stack.addresses.warehouse_url)) as warehouse:
            warehouse.set_base_env(LIMITS, "test")
        yield stack


@pytest.fixture(scope="module")
def runs(hanging: LiveStack) -> dict[str, str]:
    """All three, at once."""
    stages = {SILENT: "silent", HUNG: "hung", DAWDLING: "dawdling"}
    return {crypto: hanging.launch([stage], crypto, {}) for crypto, stage in stages.items()}


def evaluations(stack: LiveStack, run: str, guardrail: str) -> list[tuple[str, str]]:
    """Verdict and message of what is on record of a run."""
    query = "select verdict, message from guardrail_evaluations where run_id = %s and guardrail = %s order by id"
    return [(verdict, message) for verdict, message in stack.sql("cvntrade", query, run, guardrail)]


def said(stack: LiveStack, run: str) -> str:
    """Everything in a run's event log that is not its stages'."""
    return " ".join(event["dagster_event"]["message"] for event in stack.events(run, "ENGINE_EVENT"))


def retry_of(stack: LiveStack, run: str, crypto: str) -> str:
    """The run that Dagster started by itself after another one."""

    def found() -> list[str]:
        ids = [each for each, _ in stack.runs(crypto)]
        return [each for each in ids if stack.tags(each).get("dagster/parent_run_id") == run]

    return until(f"the retry of {run}", found, WATCHED_SECONDS)[0]


def fails(stack: LiveStack, run: str, stage: str) -> None:
    """A run's worker starts, gets stuck, and is gone when its run has failed; why is on record and in the UI."""
    until(f"{run} works", lambda: "Started process for run" in said(stack, run), WATCHED_SECONDS)
    worker = stack.worker(run)
    # Interrupted, a worker reports itself canceled; run monitoring then says what the run's end was: a failure.
    until(f"{run} has failed", lambda: stack.events(run, "PIPELINE_FAILURE"), WATCHED_SECONDS)
    assert worker not in processes_of(stack.home)
    [(verdict, message)] = evaluations(stack, run, "run_progresses")
    assert verdict == "critical" and "no sign of progress for" in message and stage in message
    assert message in said(stack, run)
    assert stack.tags(run)["cvntrade/stuck"].startswith(f"run {run[:8]}: stuck")


@pytest.mark.parametrize(("crypto", "stage"), [(SILENT, "silent"), (HUNG, "hung")])
def test_a_stuck_run_is_recorded_ended_and_gone(
    hanging: LiveStack, runs: dict[str, str], crypto: str, stage: str
) -> None:
    run = runs[crypto]
    fails(hanging, run, stage)
    # A worker that takes an interrupt ends by itself; the one in C has to be killed.
    assert ("was killed" in said(hanging, run)) == (stage == "hung")


@pytest.mark.parametrize(("crypto", "stage"), [(SILENT, "silent"), (HUNG, "hung")])
def test_a_stuck_run_is_tried_once_more_and_not_again(
    hanging: LiveStack, runs: dict[str, str], crypto: str, stage: str
) -> None:
    retry = retry_of(hanging, runs[crypto], crypto)
    fails(hanging, retry, stage)
    until("its end is final", lambda: hanging.tags(retry).get("dagster/will_retry") == "false", WATCHED_SECONDS)
    assert len(hanging.runs(crypto)) == 2


def test_a_slow_run_that_shows_progress_is_flagged_and_goes_on(hanging: LiveStack, runs: dict[str, str]) -> None:
    run = runs[DAWDLING]
    until("the stage is flagged", lambda: evaluations(hanging, run, "stage_in_time"), WATCHED_SECONDS)
    until("the run is flagged", lambda: evaluations(hanging, run, "run_in_time"), WATCHED_SECONDS)
    # Many times the limit of a stuck run has passed when that one is gone.
    until("the hung run has failed", lambda: hanging.events(runs[HUNG], "PIPELINE_FAILURE"), WATCHED_SECONDS)
    let_go(hanging.home).touch()
    assert hanging.wait_for(run) == "SUCCESS"
    [(verdict, message)] = evaluations(hanging, run, "stage_in_time")
    assert verdict == "warned" and message.startswith("dawdling: at work for ")
    assert "of 100000 done)" in message and "Every setting that makes runs slow has its usual value" in message
    assert [verdict for verdict, _ in evaluations(hanging, run, "run_in_time")] == ["warned"]
    assert not evaluations(hanging, run, "run_progresses")
    assert hanging.tags(run)["cvntrade/slow"] == f"run {run[:8]}: dawdling, run"
    assert message in said(hanging, run)


def test_every_run_is_watched_to_its_end(hanging: LiveStack, runs: dict[str, str]) -> None:
    def ended() -> bool:
        rows = hanging.sql("cvntrade", "select run_id, status, ended_at from watched_runs")
        return {(run, status) for run, status, moment in rows if moment is not None} >= {
            (runs[SILENT], "FAILURE"),
            (runs[HUNG], "FAILURE"),
            (runs[DAWDLING], "SUCCESS"),
        }

    until("the watch has seen every end", ended, WATCHED_SECONDS)


def test_the_queue_goes_on(hanging: LiveStack, runs: dict[str, str]) -> None:
    for crypto in (SILENT, HUNG):
        assert hanging.wait_for(hanging.launch(["dawdling"], crypto, {})) == "SUCCESS"
