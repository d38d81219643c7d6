"""Discovery through the real daemon: one crypto fails, the other goes on, and what failed is resumed by one command."""

import os
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from live.live_stack import ROOT, LiveStack, as_options, cells
from live.shared_discovery import FINE, GIVEN, GROUP, ILL, REASON

from cvntrade_assets.commands.dagster_api import LOCATION, REPOSITORY
from cvntrade_assets.operations.pipelines import PIPELINES

pytestmark = pytest.mark.live

STAGES = PIPELINES["discovery"].assets

Finished = subprocess.CompletedProcess[str]


def as_typed(stack: LiveStack, command: str) -> Finished:
    """Run a line as an operator pastes it into a shell in which the environment is activated."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "-c", command],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=stack.environment | {"PATH": path},
        timeout=120,
        check=False,
    )


def latest_run(stack: LiveStack, crypto: str) -> str:
    return stack.runs(crypto)[-1][0]


def verdicts(output: str) -> dict[str, list[str]]:
    """The rows of the tables of verdicts, by crypto."""
    return {row[0]: row[1:] for row in cells(output)}


def test_one_that_fails_does_not_stop_the_other(discovered: Finished, stack: LiveStack) -> None:
    assert discovered.returncode == 1, discovered.stdout + discovered.stderr
    for stage in STAGES:
        assert f"{stage:<18}" in discovered.stdout
    [row] = verdicts(discovered.stdout).items()
    crypto, (verdict, pte, scores, sortino, trades, gates, registered, market) = row
    f1, baseline = scores.split(" / ")
    assert crypto == FINE and verdict.isupper() and market == "SIMULATED"
    assert pte in ("H4_SL1.0_TP1.5", "H4_SL1.0_TP2.0")
    assert 0.0 <= float(f1) <= 1.0 and 0.0 < float(baseline) < 1.0
    assert sortino == "-" or float(sortino)
    assert int(trades.replace(",", "")) >= 0
    assert " of 8" in gates and registered.split()[0] in ("candidate", "challenger")
    assert f"{ILL} failed" in discovered.stdout and REASON in discovered.stdout


def test_dagsters_history_of_the_job_has_both_under_one_session(discovered: Finished, stack: LiveStack) -> None:
    query = """query { runsOrError(filter: {pipelineName: "discovery"}) { ... on Runs { results {
        runId jobName tags { key value } } } } }"""
    found = stack.graphql(query)["runsOrError"]["results"]
    tags = [{tag["key"]: tag["value"] for tag in run["tags"]} for run in found]
    assert {each["dagster/partition"] for each in tags} == {FINE, ILL}
    assert {each["cvntrade/group"] for each in tags} == {GROUP}
    [session] = {each["cvntrade/session"] for each in tags}
    assert session in discovered.stdout


def test_status_names_what_failed_and_the_command_that_resumes_it_succeeds(
    discovered: Finished, stack: LiveStack
) -> None:
    told = stack.cli("status")
    assert told.returncode == 1, told.stdout + told.stderr
    lines = [line.strip() for line in told.stdout.splitlines()]
    failed = latest_run(stack, ILL)
    at = lines.index(f"failed     {ILL} in walk_forward; {stack.addresses.ui_url}/runs/{failed}")
    assert REASON in lines[at + 1]
    assert f"succeeded  {FINE}" in lines and f"group {GROUP}" in told.stdout
    assert "does not answer" not in told.stdout
    [command] = [line for line in lines if line.startswith("cvntrade discovery")]
    assert shlex.split(command)[:4] == ["cvntrade", "discovery", "--crypto", ILL]

    resumed = as_typed(stack, command)
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    assert set(verdicts(resumed.stdout)) == {ILL}
    again = latest_run(stack, ILL)
    made = {event["asset"] for event in stack.materializations(again)}
    assert again != failed and made == set(STAGES)
    words = stack.messages(again, "screening_matrix")
    assert any("nothing changed" in word for word in words), "what was built before is reused"

    after = stack.cli("status")
    assert after.returncode == after.stdout.startswith(("ORANGE", "RED")), after.stdout + after.stderr
    assert set(verdicts(after.stdout)) >= {FINE, ILL}
    assert not [line for line in after.stdout.splitlines() if line.strip().startswith("cvntrade discovery --crypto")]


def test_the_launchpad_offers_a_config_that_hides_nothing_and_takes_short_names(
    discovered: Finished, stack: LiveStack
) -> None:
    """As the UI does: ask for the partition's config, add to it, launch."""
    given = default_config(stack, "walkforward", FINE)
    settings = given["resources"]["run_settings"]["config"]["settings"]
    assert settings == {}
    settings |= GIVEN
    run_id = launch(stack, "walkforward", FINE, given)
    assert stack.wait_for(run_id) == "SUCCESS", stack.api.failures(run_id)
    assert any("nothing changed" in word for word in stack.messages(run_id, "walk_forward"))
    told = stack.cli("status")
    assert "walkforward" in told.stdout and f"succeeded  {FINE}" in told.stdout


def test_monitoring_looks_at_what_is_registered(discovered: Finished, stack: LiveStack) -> None:
    finished = stack.cli("monitoring", "--crypto", FINE, *as_options(GIVEN))
    assert finished.returncode == 0, finished.stdout + finished.stderr
    registered = verdicts(discovered.stdout)[FINE][6]
    if registered.startswith("challenger"):
        assert f"{FINE} model 1: no candle has closed since" in finished.stdout
    else:
        assert f"no champion or challenger of {FINE} is registered on the market simulated" in finished.stdout


def default_config(stack: LiveStack, job: str, crypto: str) -> dict[str, Any]:
    """The run config that the launchpad shows once a partition is chosen."""
    import yaml

    query = """query($repository: RepositorySelector!, $name: String!, $partition: String!) {
      partitionSetOrError(repositorySelector: $repository, partitionSetName: $name) {
        ... on PartitionSet { partition(partitionName: $partition) {
          runConfigOrError { ... on PartitionRunConfig { yaml } } } } } }"""
    repository = {"repositoryName": REPOSITORY, "repositoryLocationName": LOCATION}
    variables = {"repository": repository, "name": f"{job}_partition_set", "partition": crypto}
    found = stack.graphql(query, variables)["partitionSetOrError"]["partition"]["runConfigOrError"]["yaml"]
    config: dict[str, Any] = yaml.safe_load(found)
    return config


def launch(stack: LiveStack, job: str, crypto: str, config: Mapping[str, Any]) -> str:
    """Start a run of a job as the launchpad does."""
    return stack.api.launch_run(job, config, {"dagster/partition": crypto})
