"""`cvntrade doctor` on a real stack: what runs which code, and that each command it gives mends what was found."""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from itertools import pairwise

import psycopg2
import pytest
from live.live_stack import ROOT, LiveStack, cells, clean_environment
from polling import until
from services import QUICK

from resources.code_version import code_version, read_connection_name

pytestmark = pytest.mark.live

OLD = "0.0.1+00000000"
SERVERS = {"webserver", "daemon", "code-server"}
ABANDON = """
import dagster as dg
with dg.DagsterInstance.get() as instance:
    run = dg.DagsterRun("candles_to_report", status=dg.DagsterRunStatus.STARTED,
        tags={"cvntrade/code": "%s", "dagster/partition": "SOLUSDC"})
    print(instance.add_run(run).run_id)
"""

Finished = subprocess.CompletedProcess[str]


def doctor(stack: LiveStack) -> Finished:
    finished = stack.cli("doctor")
    assert finished.returncode in (0, 1), finished.stderr
    return finished


def commands(finished: Finished) -> list[str]:
    """The commands that the doctor gave, in the order of its findings."""
    lines = finished.stdout.splitlines()
    return [after.strip() for line, after in pairwise(lines) if re.match(r"\d+\. ", line)]


def mend(stack: LiveStack, command: str) -> Finished:
    """Do what the doctor said."""
    program, *arguments = shlex.split(command)
    assert program == "cvntrade"
    return stack.cli(*arguments)


@pytest.fixture(scope="module", autouse=True)
def connected(stack: LiveStack) -> None:
    """All three servers have said who they are."""
    query = "select application_name from pg_stat_activity where application_name like 'cvntrade %'"

    def roles() -> set[str]:
        named = [read_connection_name(name) for (name,) in stack.sql("cvntrade", query)]
        return {found[0] for found in named if found}

    until("every server is connected", lambda: roles() >= SERVERS, 60)


@pytest.fixture
def outdated(stack: LiveStack) -> Iterator[None]:
    """A daemon of other code, as far as anybody can see from PostgreSQL."""
    address = stack.addresses.database.url("dagster").replace("+psycopg2", "")
    with closing(psycopg2.connect(address, application_name=f"cvntrade daemon {OLD} 99@elsewhere")):
        yield


def test_every_server_says_its_code_and_nothing_is_wrong(stack: LiveStack) -> None:
    finished = doctor(stack)
    assert finished.returncode == 0, finished.stdout
    assert {row[0]: row[1] for row in cells(finished.stdout)} == dict.fromkeys(SERVERS, code_version())
    assert "Nothing found" in finished.stdout


def test_a_run_worker_says_its_code(stack: LiveStack) -> None:
    run_id = stack.launch(["candles", "features"], "ETHUSDC", QUICK)
    query = "select application_name from pg_stat_activity where application_name like 'cvntrade run %%'"
    [(name,)] = until("the run's worker is connected", lambda: stack.sql("cvntrade", query, 0)[:1], 90)
    found = read_connection_name(name)
    assert found is not None and found[:2] == ("run", code_version())
    assert stack.wait_for(run_id) == "SUCCESS"
    assert found[2] == stack.worker(run_id)
    assert stack.tags(run_id)["cvntrade/code"] == code_version()


def test_a_setting_that_no_run_takes_is_found_and_mended(stack: LiveStack) -> None:
    stack.sql("cvntrade", "insert into base_env (key, value, updated_by) values ('CVN_OF_OLD', '1', 'nobody')")
    finished = doctor(stack)
    assert finished.returncode == 1
    assert "CVN_OF_OLD is not a setting" in finished.stdout
    [command] = commands(finished)
    assert mend(stack, command).returncode == 0
    assert doctor(stack).returncode == 0


def test_a_process_of_other_code_is_found(stack: LiveStack, outdated: None) -> None:
    finished = doctor(stack)
    assert finished.returncode == 1
    assert ["daemon", OLD, "99@elsewhere"] in [row[:3] for row in cells(finished.stdout)]
    [command] = commands(finished)
    assert command.startswith(f"kill {stack.process.pid};")
    assert command.endswith(f"CVN_HOME={shlex.quote(str(stack.home))} cvntrade up")


def test_a_stale_run_is_found_and_ended(stack: LiveStack) -> None:
    environment = stack.addresses.environment(clean_environment())
    made = subprocess.run(
        [sys.executable, "-c", ABANDON % OLD], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    run_id = made.stdout.split()[-1]
    finished = doctor(stack)
    assert finished.returncode == 1
    assert f"run {run_id} of SOLUSDC: it runs code {OLD}" in finished.stdout
    [command] = commands(finished)
    assert command == f"cvntrade stop --force {run_id}"
    assert mend(stack, command).stdout == f"run {run_id}: CANCELED\n"
    assert doctor(stack).returncode == 0


def test_a_cluster_is_told_to_roll(stack: LiveStack, outdated: None, tmp_path: object) -> None:
    """The same PostgreSQL, reached by addresses and not through the stack's folder."""
    environment = stack.addresses.environment({}) | {"CVN_HOME": str(tmp_path)}
    finished = stack.cli("doctor", **environment)
    assert finished.returncode == 1
    assert commands(finished) == ["kubectl rollout restart deployment -n cvntrade -l component=dagster-daemon"]
