"""Faults: a run's worker is killed inside every stage, and PostgreSQL is killed under a run.

A trigger in PostgreSQL holds a worker where a stage is at its weakest: the version's files are in place and its row in
`artifact_versions` is not. The test holds the lock that the trigger asks for, sees who waits for it, and kills.
"""

import os
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

import psycopg2
import pytest
from live.live_stack import ASSETS, CRYPTO, LiveStack, as_options, processes_of
from polling import until
from services import QUICK

from resources.artifacts import MANIFEST, Artifact, Manifest
from resources.codecs import CODECS
from resources.folder_shelf import FolderShelf

pytestmark = pytest.mark.live

# Upstream first, as a run works through them; the fine candles are published like the others.
STAGES = tuple(name for name in ASSETS if name != "backtest_candles")
# Two cryptos, each killed in every other stage, at the same time.
HALVES = {"ADAUSDC": STAGES[::2], "XRPUSDC": STAGES[1::2]}
LATE = "BONKUSDC"
LOCKS = 7310
# Without a sign of life: a run's process takes seconds to start on an idle machine, and a minute on a busy one.
KILLED_SECONDS = 120.0

Finished = subprocess.CompletedProcess[str]


class Brake:
    """Holds whoever publishes a stage of a crypto, until the stage is released."""

    def __init__(self, stack: LiveStack, cryptos: tuple[str, ...]) -> None:
        self._stack = stack
        self._cryptos = cryptos
        stages, names = ", ".join(f"'{stage}'" for stage in STAGES), ", ".join(f"'{crypto}'" for crypto in cryptos)
        stack.sql(
            "cvntrade",
            f"""
            create function hold() returns trigger language plpgsql as $$ begin
              perform pg_advisory_xact_lock({LOCKS}, 100 * array_position(array[{names}], new.crypto)
                + array_position(array[{stages}], new.asset));
              return new;
            end $$;
            create trigger hold before insert on artifact_versions for each row
              when (new.crypto in ({names}) and new.asset in ({stages})) execute function hold();
            """,
        )
        self._connection = psycopg2.connect(stack.addresses.database.url("cvntrade").replace("+psycopg2", ""))
        self._connection.autocommit = True

    def close(self) -> None:
        self._connection.close()

    def hold(self, crypto: str, stage: str) -> None:
        self._execute("select pg_advisory_lock(%s, %s)", LOCKS, self._key(crypto, stage))

    def release(self, crypto: str, stage: str) -> None:
        self._execute("select pg_advisory_unlock(%s, %s)", LOCKS, self._key(crypto, stage))

    def is_met(self, crypto: str, stage: str) -> bool:
        """Whether somebody waits at the stage."""
        waiting = "select 1 from pg_locks where locktype = 'advisory' and not granted and classid = %s and objid = %s"
        return bool(self._stack.sql("cvntrade", waiting, LOCKS, self._key(crypto, stage)))

    def _key(self, crypto: str, stage: str) -> int:
        return 100 * (self._cryptos.index(crypto) + 1) + STAGES.index(stage) + 1

    def _execute(self, query: str, *values: object) -> None:
        with self._connection.cursor() as cursor:
            cursor.execute(query, values)


@contextmanager
def brake(stack: LiveStack, *cryptos: str) -> Iterator[Brake]:
    made = Brake(stack, cryptos)
    try:
        with closing(made):
            yield made
    finally:
        if not stack.ended():
            stack.sql("cvntrade", "drop trigger hold on artifact_versions; drop function hold")


def whole_versions(stack: LiveStack, crypto: str) -> tuple[set[Path], set[Path]]:
    """Folders of a crypto's versions that have a row, and all visible ones; every one verifies against its manifest."""
    store = stack.store()
    rows = stack.sql("cvntrade", "select asset, version, location from artifact_versions where crypto = %s", crypto)
    for asset, version, location in rows:
        found = store.find(asset, crypto, version)
        assert found is not None and str(found.folder) == location
        found.verify()
    visible = [path for path in stack.home.glob(f"artifacts/*/{crypto}/*") if not path.name.startswith(".")]
    for folder in visible:
        text = (folder / MANIFEST).read_text()
        manifest = Manifest.from_json(text)
        assert {path.name for path in folder.iterdir()} == {*manifest.files, MANIFEST}
        Artifact(FolderShelf(), str(folder), text.encode(), CODECS[manifest.asset]).verify()
    return {Path(location) for _, _, location in rows}, set(visible)


def current_run(stack: LiveStack, crypto: str) -> str:
    [run] = [run for run, status in stack.runs(crypto) if status == "STARTED"]
    return run


def run_held(stack: LiveStack, held: Brake, crypto: str, stage: str) -> str:
    """The run that waits at a stage, once one does."""
    until(
        f"{crypto} is in {stage}",
        lambda: held.is_met(crypto, stage),
        KILLED_SECONDS,
        alive=lambda: stack.story_of(crypto),
    )
    return current_run(stack, crypto)


def terminate(stack: LiveStack, run: str) -> None:
    """End a run that nobody needs, as the UI's button does."""
    mutation = "mutation($id: String!) { terminateRun(runId: $id) { __typename } }"
    assert stack.graphql(mutation, {"id": run})["terminateRun"]["__typename"] == "TerminateRunSuccess"
    stack.wait_for(run)


def kill_worker(stack: LiveStack, run: str) -> None:
    """kill -9; its end is noticed, and nothing of it stays behind."""
    worker = stack.worker(run)
    group = family(worker)
    os.kill(worker, signal.SIGKILL)
    assert stack.wait_for(run, KILLED_SECONDS) == "FAILURE"
    until("what the worker started has ended", lambda: not group & processes_of(stack.home).keys(), 20)


def family(pid: int) -> set[int]:
    """A process with all its descendants."""
    found = {pid}
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in children.read_text().split():
            found |= family(int(child))
    return found


def retries(stack: LiveStack, crypto: str) -> int:
    """How many runs Dagster started by itself after another one had crashed."""
    return sum("dagster/parent_run_id" in stack.tags(run) for run, _ in stack.runs(crypto))


def kill_in_turn(stack: LiveStack, held: Brake, crypto: str) -> int:
    """Kill a crypto's worker in each of its stages, and let the last one end; returns how often a run was launched.

    Every kill is followed by Dagster's own retry; after two of them the run is launched again.
    """
    stages, launches = HALVES[crypto], 0
    for turn, stage in enumerate((*stages, None)):
        if turn % 3 == 0:
            launches += 1
            stack.launch(ASSETS, crypto, QUICK)
        if stage is not None:
            kill_worker(stack, run_held(stack, held, crypto, stage))
            recorded, visible = whole_versions(stack, crypto)
            unrecorded = {folder.parent.parent.name for folder in visible - recorded}
            assert unrecorded == {stage}
            held.release(crypto, stage)
    [last] = until(
        "the last retry is there",
        lambda: [run for run, status in stack.runs(crypto) if status != "FAILURE"],
        KILLED_SECONDS,
        alive=lambda: stack.story_of(crypto),
    )
    assert stack.wait_for(last, KILLED_SECONDS) == "SUCCESS", stack.story_of(crypto)
    return launches


# Eleven processes are killed, and each is waited for.
@pytest.mark.timeout(900)
def test_a_worker_killed_in_any_stage_leaves_nothing_half_done(stack: LiveStack) -> None:
    """Two cryptos at once, for most of the time is processes that start."""
    with brake(stack, *HALVES) as held, ThreadPoolExecutor(len(HALVES)) as pool:
        for crypto, stages in HALVES.items():
            for stage in stages:
                held.hold(crypto, stage)
        launches = dict(zip(HALVES, pool.map(partial(kill_in_turn, stack, held), HALVES), strict=True))
    for crypto, stages in HALVES.items():
        assert len(stack.runs(crypto)) == len(stages) + 1
        assert retries(stack, crypto) == len(stages) + 1 - launches[crypto]
        recorded, visible = whole_versions(stack, crypto)
        assert recorded == visible
        assert {folder.parent.parent.name for folder in recorded} == set(ASSETS)
        assert not list(stack.home.glob(f"artifacts/*/{crypto}/.*"))
    planned = stack.cli("plan", "--crypto", "ADAUSDC", "--crypto", "XRPUSDC", *as_options(QUICK))
    assert "0 of 24 assets would be built" in planned.stdout, planned.stdout


def test_a_crashed_run_is_tried_again_although_its_status_comes_late(stack: LiveStack) -> None:
    """Dagster's daemon looks at an event once; what it then reads of the run must not be older than the event."""
    stack.sql(
        "dagster",
        """
        create function late() returns trigger language plpgsql as $$ begin perform pg_sleep(3); return new; end $$;
        create trigger late before update on runs for each row
          when (new.status = 'FAILURE' and old.status <> 'FAILURE') execute function late();
        """,
    )
    try:
        with brake(stack, LATE) as held:
            held.hold(LATE, "candles")
            stack.launch(["candles"], LATE, QUICK)
            run = run_held(stack, held, LATE, "candles")
            kill_worker(stack, run)
            held.release(LATE, "candles")
            ended = until(
                "the retry has succeeded",
                lambda: [each for each, status in stack.runs(LATE) if status == "SUCCESS"],
                KILLED_SECONDS,
                alive=lambda: stack.story_of(LATE),
            )
    finally:
        stack.sql("dagster", "drop trigger late on runs; drop function late")
    assert stack.tags(ended[0])["dagster/parent_run_id"] == run


def test_a_worker_killed_in_the_middle_of_tuning_takes_its_helpers_along(stack: LiveStack, built: Finished) -> None:
    """Hundreds of trials in two processes, killed while they are at it."""
    long = {**QUICK, "CVN_DEFAULT_N_TRIALS": "500", "CVN_TUNING_WORKERS": "2"}
    run = stack.launch(["hyperparameters"], CRYPTO, long)
    until(
        "tuning has begun",
        lambda: any("trial" in message for message in stack.messages(run, "hyperparameters")),
        KILLED_SECONDS,
        alive=lambda: stack.story_of(CRYPTO),
    )
    worker = stack.worker(run)
    assert len(family(worker)) > 1
    kill_worker(stack, run)
    whole_versions(stack, CRYPTO)
    after = until(
        "the retry",
        lambda: [each for each, status in stack.runs(CRYPTO) if status == "STARTED"],
        KILLED_SECONDS,
        alive=lambda: stack.story_of(CRYPTO),
    )
    terminate(stack, after[0])
    assert stack.tags(after[0])["dagster/parent_run_id"] == run


def test_a_dead_postgres_is_said_clearly_and_survived() -> None:
    crypto, chosen = "BTCUSDC", ("candles", "features", "labels")
    command = ["backfill", "--crypto", crypto, "--wait", "--select", ",".join(chosen), *as_options(QUICK)]
    with LiveStack() as own:
        with brake(own, crypto) as held, ThreadPoolExecutor(1) as pool:
            held.hold(crypto, "labels")
            waiting = pool.submit(own.cli, *command)
            run = run_held(own, held, crypto, "labels")
            assert own.crash() == 2
            told = waiting.result(60)
        assert "PostgreSQL ended by itself (killed by SIGKILL)" in own.said() and "Traceback" not in own.said()
        assert told.returncode == 2 and told.stderr.startswith("cvntrade: ") and "Traceback" not in told.stderr

        own.start()
        assert own.wait_for(run) == "FAILURE"
        # A lost worker is an infrastructure fault: Dagster runs what is left of it again.
        retry = until(
            "the retry",
            lambda: [each for each, _ in own.runs(crypto) if each != run],
            KILLED_SECONDS,
            alive=lambda: own.story_of(crypto),
        )[0]
        assert own.wait_for(retry) == "SUCCESS"
        recorded, visible = whole_versions(own, crypto)
        assert recorded == visible and {folder.parent.parent.name for folder in recorded} == set(chosen)
        planned = own.cli("plan", "--crypto", crypto, "--select", ",".join(chosen), *as_options(QUICK))
        assert "0 of 3 assets would be built" in planned.stdout, planned.stdout
