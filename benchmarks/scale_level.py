"""One level of `benchmarks.scale`: the universe grows, and one backfill of all of it builds what is new."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.scale_plan import SLOTS
from benchmarks.scale_records import runs_of, sizes, ticks_since
from benchmarks.scale_samples import Processes, Sampler
from benchmarks.scale_stack import GROUP, ScaleError, ScaleStack
from benchmarks.scale_ui import Recording, Visitor, pages, record, replay
from benchmarks.script import run_script
from cvntrade_assets.commands.dagster_api import LOCATION, REPOSITORY, DagsterApi
from cvntrade_assets.commands.errors import CommandError
from cvntrade_assets.settings import resolve

NAIVE_CRYPTOS = 6
STATUSES, FOLLOWS = 3, 3

_SENSORS = """
query($repository: RepositorySelector!) {
  sensorsOrError(repositorySelector: $repository) {
    ... on Sensors {
      results { name sensorType sensorState { status typeSpecificData { ... on SensorData { lastCursor } } } }
    }
    ... on PythonError { message }
  }
}"""
_DRY_RUN = """
mutation($selector: SensorSelector!, $cursor: String) {
  sensorDryRun(selectorData: $selector, cursor: $cursor) {
    __typename
    ... on DryRunInstigationTick { evaluationResult { error { message } } }
    ... on PythonError { message }
  }
}"""
# Delivery sends what is due, run_watch advances its cursor by what it records: neither is for trying.
_NOT_TRIED = ("alert_delivery", "run_watch")


@dataclass(frozen=True)
class Level:
    """How many cryptos there are, which were there before, and with which settings all are built."""

    cryptos: tuple[str, ...]
    before: int
    settings: Mapping[str, str]

    @property
    def new(self) -> tuple[str, ...]:
        """Those that this level adds."""
        return self.cryptos[self.before :]


def measure(stack: ScaleStack, level: Level, say: Callable[[str], None]) -> dict[str, Any]:
    """Bring a stack to a level, and measure it at work and at rest.

    Raises:
        ScaleError: a run fails, or a command does.
    """
    known = stack.home / "ui_queries.json"
    recording: Recording | None = json.loads(known.read_text()) if known.exists() else None
    found: dict[str, Any] = {"cryptos": len(level.cryptos), "new": len(level.new), "names": list(level.cryptos)}
    found["universe_seconds"] = round(stack.set_universe(level.cryptos), 2)
    began = time.time()
    found |= _backfill(stack, level, recording, partial(_told, say))
    if found["again"] is None:
        say("once more, where there is nothing to do")
        known_now = Level(level.cryptos, len(level.cryptos), level.settings)
        found["again"] = _backfill(stack, known_now, recording, partial(_told, say))["again"]
    found["ticks"] = ticks_since(stack, began)
    say("at rest: sizes, memory, commands, sensors, the UI, and the same chain without Dagster")
    found["rest"], recording = _at_rest(stack, level, found["backfill"]["id"])
    known.write_text(json.dumps(recording))
    return found


def _told(say: Callable[[str], None], done: int, expected: int) -> None:
    if done in (1, expected) or done % 10 == 0:
        say(f"{done} of {expected} runs")


def _backfill(
    stack: ScaleStack, level: Level, recording: Recording | None, say: Callable[[int, int], None]
) -> dict[str, Any]:
    browse = None if recording is None else Visitor(stack, recording).visit
    expected = len(level.cryptos)
    with Sampler(stack, browse) as sampler:
        asked_at = time.time()
        backfill, command = stack.backfill(GROUP)
        status = stack.wait_for(backfill, expected, say)
    found = runs_of(stack, backfill, asked_at, SLOTS, level.new)
    told = found["backfill"]
    if told is None or told["runs"] != expected:
        raise ScaleError(
            f"backfill {backfill} ended {status}, and not all of its {expected} runs ended: see "
            f"{stack.home / 'server_logs'}, and the runs at {stack.ui_url}/runs/b/{backfill}"
        )
    return found | {"backfill": told | {"command_seconds": round(command, 2)}, "used": sampler.found()}


def _at_rest(stack: ScaleStack, level: Level, backfill: str) -> tuple[dict[str, Any], Recording]:
    processes = Processes(stack.pids)
    found: dict[str, Any] = {"sizes": sizes(stack), "mib": {n: round(m, 1) for n, m in processes.memory().items()}}
    # What somebody has to do is no error here.
    found["status_seconds"] = round(min(stack.cli("status", allowed=(0, 1))[1] for _ in range(STATUSES)), 2)
    found["plan_seconds"] = round(stack.cli("plan", "--group", GROUP)[1], 2)
    api = DagsterApi(stack.ui_url)
    found["follow_ms"] = round(min(_follow(api, backfill) for _ in range(FOLLOWS)), 1)
    found["sensor_seconds"] = _sensors(stack)
    [(run,)] = stack.rows(
        "dagster", "select run_id from runs where backfill_id = %s order by id desc limit 1", backfill
    )
    recording, found["page_seconds"] = record(stack, pages(backfill, run))
    found["pages"] = replay(stack, recording)
    found["naive"] = _naive(level)
    return found, recording


def _follow(api: DagsterApi, backfill: str) -> float:
    """Milliseconds of what `cvntrade backfill --wait` asks all the time."""
    began = time.perf_counter()
    try:
        api.backfill(backfill)
    except CommandError as error:
        raise ScaleError(f"the backfill cannot be followed: {error}") from None
    return 1000.0 * (time.perf_counter() - began)


def _sensors(stack: ScaleStack) -> dict[str, float]:
    """Seconds of a tick of every sensor that runs, evaluated by hand."""
    repository = {"repositoryName": REPOSITORY, "repositoryLocationName": LOCATION}
    sensors = stack.ask(_SENSORS, {"repository": repository})["data"]["sensorsOrError"]["results"]
    found = {}
    for sensor in sensors:
        state = sensor["sensorState"]
        if state["status"] != "RUNNING" or sensor["sensorType"] != "STANDARD" or sensor["name"] in _NOT_TRIED:
            continue
        cursor = (state["typeSpecificData"] or {}).get("lastCursor")
        began = time.perf_counter()
        selector = repository | {"sensorName": sensor["name"]}
        answer = stack.ask(_DRY_RUN, {"selector": selector, "cursor": cursor})["data"]["sensorDryRun"]
        took = time.perf_counter() - began
        error = answer.get("message") or (answer["evaluationResult"].get("error") or {}).get("message")
        if error:
            raise ScaleError(f"sensor {sensor['name']} failed: {error}")
        found[sensor["name"]] = round(took, 3)
    return found


def _naive(level: Level) -> dict[str, Any]:
    """The same chain in this one process, crypto by crypto: pure functions, no checks, no store, no database."""
    chosen = level.cryptos[:NAIVE_CRYPTOS]
    settings = resolve(base_env={}, run=dict(level.settings), now=pd.Timestamp.now("UTC"))
    began, processor = time.perf_counter(), time.process_time()
    for crypto in chosen:
        run_script(crypto, settings)
    seconds, used = time.perf_counter() - began, time.process_time() - processor
    return {"cryptos": len(chosen), "seconds": round(seconds, 2), "processor_seconds": round(used, 2)}


def grown(before: Sequence[str], how_many: int, attempt: int) -> tuple[str, ...]:
    """That many cryptos, those of before first; what an earlier attempt began to build is not among them."""
    return (*before, *(f"A{attempt}C{number:04d}USDC" for number in range(len(before) + 1, how_many + 1)))


def home_folder() -> Path:
    """Where the stack lives unless told otherwise: the same at every call, so that an interrupted run goes on."""
    import tempfile

    return Path(tempfile.gettempdir()) / "cvntrade-scale"
