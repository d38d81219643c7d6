"""Pools on PostgreSQL: two runs at once, each in a process of its own, and how many of them ask the exchange."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import dagster as dg
import pandas as pd
import pytest
from dagster._grpc.types import ExecuteRunArgs
from dagster_on_postgres import empty_instance, open_instance
from pod_stages import AT_WORK, fetching
from polling import until

from cvntrade_assets.settings import Settings, resolve
from resources.embedded_postgres import EmbeddedPostgres
from resources.pools import apply_pool_limits
from resources.run_facts import SeenRun


@pytest.fixture(scope="module")
def instance(
    postgres_server: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dg.DagsterInstance]:
    with open_instance(postgres_server, tmp_path_factory.mktemp("dagster")) as opened:
        empty_instance(opened)
        yield opened


def places(exchange: int, training: int = 4) -> Settings:
    texts = {"CVN_POOL_EXCHANGE": str(exchange), "CVN_POOL_TRAINING": str(training)}
    return resolve(base_env=texts, run={}, now=pd.Timestamp.now("UTC"))


def worker(instance: dg.DagsterInstance, crypto: str, folder: Path) -> tuple[str, "subprocess.Popen[bytes]"]:
    """A run of one stage that fetches, in a process, until the file `go` is there."""
    origin = dg.reconstructable(fetching).get_python_origin()
    run = instance.create_run_for_job(fetching(), tags={"dagster/partition": crypto}, job_code_origin=origin)
    arguments = ExecuteRunArgs(origin, run.run_id, instance.get_ref(), None).get_command_args()
    paths = os.pathsep.join([*sys.path, str(Path(__file__).parents[1])])
    environment = {**os.environ, "PYTHONPATH": paths, AT_WORK: str(folder)}
    return run.run_id, subprocess.Popen([sys.executable, "-m", *arguments], env=environment)


def silent_seconds(instance: dg.DagsterInstance, run_id: str, later: float) -> float:
    """For how long the watch over runs would find a run silent, so many seconds from now."""
    record = instance.get_run_record_by_id(run_id)
    assert record is not None
    return SeenRun(instance, record, pd.Timestamp.now("UTC") + pd.Timedelta(seconds=later)).facts().silent_seconds


def test_so_many_runs_ask_the_exchange_at_once_as_operators_say(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    storage = instance.event_log_storage
    assert apply_pool_limits(instance, places(1)) == {"exchange": 1, "training": 4}
    with ExitStack() as stack:
        runs = dict(worker(instance, crypto, tmp_path) for crypto in ("ADAUSDC", "BTCUSDC"))
        for process in runs.values():
            stack.callback(process.wait)
            stack.callback(process.kill)

        def at_work() -> int:
            return len(list(tmp_path.glob("*.at-work")))

        # One has the only place, the other has asked for it.
        until("one waits", lambda: storage.get_concurrency_info("exchange").pending_step_count == 1)
        until("one is at work", lambda: at_work() == 1)
        assert storage.get_concurrency_info("exchange").active_slot_count == 1
        # The watch over runs would end the one that waits for being stuck.
        pending = storage.get_concurrency_info("exchange").pending_steps
        [waiting] = {each.run_id for each in pending if each.assigned_timestamp is None}
        [working] = set(runs) - {waiting}
        until("the one that waits says so", lambda: silent_seconds(instance, waiting, 240) == 0)
        assert silent_seconds(instance, working, 240) > 200
        # It says every five minutes that it waits; then it is silent like any other.
        assert 700 < silent_seconds(instance, waiting, 1200) < 1000
        apply_pool_limits(instance, places(2))
        until("both are at work", lambda: at_work() == 2)
        (tmp_path / "go").touch()
        assert [process.wait(60) for process in runs.values()] == [0, 0]
    for run_id in runs:
        run = instance.get_run_by_id(run_id)
        assert run is not None and run.status is dg.DagsterRunStatus.SUCCESS
    assert storage.get_concurrency_info("exchange").active_slot_count == 0


def test_an_edit_changes_the_places_and_nothing_else(instance: dg.DagsterInstance) -> None:
    for exchange in (1, 3, 3, 2):
        apply_pool_limits(instance, places(exchange))
        limits = {each.name: each.limit for each in instance.event_log_storage.get_pool_limits()}
        assert limits == {"exchange": exchange, "training": 4}


def test_a_simulated_exchange_keeps_nobody_waiting(instance: dg.DagsterInstance) -> None:
    simulated = resolve(base_env={"CVN_MARKET": "simulated"}, run={}, now=pd.Timestamp.now("UTC"))
    assert apply_pool_limits(instance, simulated)["exchange"] == 1000
    assert apply_pool_limits(instance, places(1))["exchange"] == 1
