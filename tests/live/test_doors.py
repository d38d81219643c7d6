"""The gate at every door: what failed a blocking check is refused to the UI, to backfills and to the command line.

The exchange publishes a month with one absurd volume: its checksum is right and the candle is possible, so the candles
pass their checks. A feature overflows on it, and the contract of the features says so.
"""

import hashlib
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from exchange_server import csv_of, zip_of
from live.live_stack import LiveStack, as_options, cells
from polling import until
from services import QUICK

from cvntrade_assets.commands.backfill import ENDED
from cvntrade_assets.market.binance import archive_month_path
from cvntrade_assets.market.candles import timeframe_delta
from cvntrade_assets.market.simulated import SimulatedMarket

pytestmark = pytest.mark.live

CRYPTO = "SOLUSDC"
BEFORE, AFTER = "2025-09-01", "2025-10-01"
ABSURD_VOLUME = 1e300
DOWNSTREAM = (
    "training_set",
    "feature_selection",
    "label_pipeline",
    "hyperparameters",
    "model",
    "calibration",
    "backtest",
    "test_report",
)

Finished = subprocess.CompletedProcess[str]


def publish(folder: Path, timeframe: str, candles: pd.DataFrame) -> None:
    """Put a candle frame into an archive folder, month by month, as the exchange does."""
    for month, part in candles.groupby(candles.index.strftime("%Y-%m")):
        path = folder / archive_month_path(CRYPTO, timeframe, str(month))
        data = zip_of(csv_of(part, timeframe_delta(timeframe)), path.name.removesuffix(".zip") + ".csv")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        path.with_name(path.name + ".CHECKSUM").write_text(f"{hashlib.sha256(data).hexdigest()}  {path.name}\n")


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five months of an exchange, the last one with the absurd volume."""
    folder = tmp_path_factory.mktemp("archive")
    market = SimulatedMarket(seed=3, signal=1.0)
    end = pd.Timestamp(AFTER, tz="UTC")
    candles = market.candles(CRYPTO, "30m", pd.Timestamp("2025-05-01", tz="UTC"), end)
    absurd = pd.Timestamp("2025-09-20T12:00", tz="UTC")
    candles.loc[absurd, "volume"] = ABSURD_VOLUME
    assert np.isfinite(candles.loc[absurd, "volume"])
    publish(folder, "30m", candles)
    for month in (BEFORE, AFTER):
        until_then = pd.Timestamp(month, tz="UTC")
        publish(folder, "5m", market.candles(CRYPTO, "5m", until_then - pd.Timedelta(days=3), until_then))
    return folder


def settings(archive: Path, as_of: str) -> dict[str, str]:
    chosen = {"CVN_MARKET": "binance", "CVN_BINANCE_ARCHIVE_URL": archive.as_uri(), "CVN_AS_OF": as_of}
    # Everything that is needed stands in the archive; nobody answers here.
    return {**QUICK, **chosen, "CVN_BINANCE_API_URL": "http://127.0.0.1:9"}


@dataclass(frozen=True)
class Doors:
    """What came of a good build, of the bad one, and of what was tried after it through every door."""

    good: Finished
    bad: Finished
    bad_run: str
    ui_run: str
    backfill_run: str
    backfill_status: str
    command: Finished
    command_run: str
    statuses: Mapping[str, str]


@pytest.fixture(scope="module")
def doors(stack: LiveStack, archive: Path) -> Doors:
    """Everything is built on good candles, then the bad month comes, then every door is tried."""
    command = ("backfill", "--crypto", CRYPTO, "--wait")
    earlier = dict(stack.runs(CRYPTO))
    good = stack.cli(*command, *as_options(settings(archive, BEFORE)))
    assert good.returncode == 0, good.stdout + good.stderr
    later = settings(archive, AFTER)
    bad = stack.cli(*command, *as_options(later))
    bad_run = stack.runs(CRYPTO)[-1][0]

    ui_run = stack.launch(DOWNSTREAM, CRYPTO, later)
    backfill = stack.api.launch_backfill(DOWNSTREAM, [CRYPTO], later, {}, "downstream only")
    downstream = stack.cli(*command, "--select", "training_set+", *as_options(later))
    stack.wait_for(ui_run)
    state = until(
        "the backfill has ended",
        lambda: found if (found := stack.api.backfill(backfill)).status in ENDED else None,
        60,
    )
    command_run = next(run for run, _ in reversed(stack.runs(CRYPTO)) if f"/runs/{run}" in downstream.stdout)
    backfill_run = state.runs[0]["runId"]
    return Doors(
        good,
        bad,
        bad_run,
        ui_run,
        backfill_run,
        state.status,
        downstream,
        command_run,
        {run: status for run, status in stack.runs(CRYPTO) if run not in earlier},
    )


def test_the_check_fails_and_stops_the_same_run(doors: Doors, stack: LiveStack) -> None:
    assert doors.bad.returncode == 1
    assert f"{CRYPTO} failed" in doors.bad.stdout
    assert "check schema of features: " in doors.bad.stdout
    assert doors.statuses[doors.bad_run] == "FAILURE"
    built = {event["asset"] for event in stack.materializations(doors.bad_run)}
    assert built == {"candles", "backtest_candles", "features", "labels"}


@pytest.mark.parametrize("door", ["ui_run", "backfill_run", "command_run"])
def test_every_door_refuses_what_is_downstream(door: str, doors: Doors, stack: LiveStack) -> None:
    run = getattr(doors, door)
    assert doors.statuses[run] == "FAILURE"
    assert stack.materializations(run) == []
    reasons = [reason for reason in stack.api.failures(run) if reason.startswith("step training_set")]
    assert len(reasons) == 1, stack.api.failures(run)
    # The check's name, its reason, and what to rebuild.
    assert f"features of {CRYPTO}" in reasons[0]
    assert "check schema failed" in reasons[0] and "VOLUMECV" in reasons[0]
    assert f"cvntrade backfill --crypto {CRYPTO} --select " in reasons[0]


def test_the_command_prints_the_reason_and_ends_with_1(doors: Doors) -> None:
    assert doors.command.returncode == 1
    assert f"{CRYPTO} failed" in doors.command.stdout
    assert "check schema failed" in doors.command.stdout and "Rebuild" in doors.command.stdout
    assert "Traceback" not in doors.command.stdout + doors.command.stderr
    assert doors.backfill_status == "COMPLETED_FAILED"


def test_nothing_is_retried(doors: Doors, stack: LiveStack) -> None:
    """A verdict would be the same again: run retries are for infrastructure faults."""
    assert len(doors.statuses) == 5, doors.statuses
    for run, status in doors.statuses.items():
        tags = stack.tags(run)
        assert "dagster/parent_run_id" not in tags
        assert status == "SUCCESS" or tags["dagster/will_retry"] == "false"


def test_the_plan_says_it_before_anything_runs(doors: Doors, stack: LiveStack, archive: Path) -> None:
    """What is downstream alone is refused; together with what failed, that one is computed again."""
    options = ("--crypto", CRYPTO, *as_options(settings(archive, AFTER)))
    plans = [stack.cli("plan", "--select", chosen, *options) for chosen in ("training_set+", "features+")]
    alone, together = ({row[1]: row[2:] for row in cells(plan.stdout)} for plan in plans)
    assert {what for what, _ in alone.values()} == {"refused"} and set(alone) == set(DOWNSTREAM)
    assert "check schema failed" in alone["training_set"][1]
    assert together["features"][0] == "stale" and "check schema failed" in together["features"][1]


def test_a_good_version_opens_the_door_again(doors: Doors, stack: LiveStack, archive: Path) -> None:
    finished = stack.cli("backfill", "--crypto", CRYPTO, "--wait", *as_options(settings(archive, BEFORE)))
    assert finished.returncode == 0, finished.stdout + finished.stderr
