"""The pump before a log file, and the compute logs through it: nothing is lost, nothing secret gets through."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from resources.log_pump import LINE_BYTES, LogPump

ROOT = Path(__file__).resolve().parents[2]
CANARY = "pump-canary/0123"
SECONDS = 30.0


@pytest.fixture
def environment() -> Mapping[str, str]:
    return {**os.environ, "PUMP_API_TOKEN": CANARY, "PYTHONPATH": str(ROOT)}


@pytest.fixture
def pump(tmp_path: Path, environment: Mapping[str, str]) -> Iterator[LogPump]:
    made = LogPump(tmp_path / "said.log", environment)
    yield made
    made.stop(SECONDS)


def said(tmp_path: Path) -> str:
    return (tmp_path / "said.log").read_text()


def wait_until(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + SECONDS
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


def test_lines_are_masked_also_in_pieces_and_without_an_end(pump: LogPump, tmp_path: Path) -> None:
    for piece in (f"one {CANARY}\ntwo {CANARY[:7]}", f"{CANARY[7:]} two\rthree \xe9 \n", "password=abc last"):
        os.write(pump.input, piece.encode())
    os.write(pump.input, b"\xff not UTF-8\n")
    assert pump.finish(SECONDS)
    expected = "one ***\ntwo *** two\rthree é \npassword=*** last".encode() + b"\xff not UTF-8\n"
    assert (tmp_path / "said.log").read_bytes() == expected


def test_lines_arrive_while_the_writer_goes_on(pump: LogPump, tmp_path: Path) -> None:
    os.write(pump.input, b"now\n")
    assert wait_until(lambda: (tmp_path / "said.log").exists() and said(tmp_path) == "now\n")


def test_a_line_without_end_is_written_in_parts_and_hides_nothing(pump: LogPump, tmp_path: Path) -> None:
    for _ in range(4):
        os.write(pump.input, b"x" * (LINE_BYTES - 5) + CANARY.encode())
    assert pump.finish(SECONDS)
    assert said(tmp_path) == ("x" * (LINE_BYTES - 5) + "***") * 4


def test_nothing_is_lost_of_much(pump: LogPump, tmp_path: Path) -> None:
    lines = [f"line {number} {CANARY}\n" for number in range(100_000)]
    with os.fdopen(os.dup(pump.input), "w") as file:
        file.writelines(lines)
    assert pump.finish(SECONDS)
    assert said(tmp_path) == "".join(lines).replace(CANARY, "***")


def test_what_a_killed_writer_said_last_arrives(pump: LogPump, tmp_path: Path) -> None:
    code = f"import os, signal; print('last {CANARY}', flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    assert subprocess.run([sys.executable, "-c", code], stdout=pump.input, check=False).returncode == -signal.SIGKILL
    assert pump.finish(SECONDS)
    assert said(tmp_path) == "last ***\n"


def test_a_child_that_holds_the_pipe_delays_nothing_and_may_go_on(pump: LogPump, tmp_path: Path) -> None:
    code = f"import sys; sys.stdin.read(); print('later {CANARY}')"
    child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=pump.input)
    os.write(pump.input, b"before\n")
    assert pump.finish(SECONDS)
    assert said(tmp_path) == "before\n" and child.poll() is None
    child.communicate(b"")
    pump.stop(SECONDS)
    assert said(tmp_path) == "before\nlater ***\n"


def test_it_outlives_the_signals_that_end_the_others(pump: LogPump, tmp_path: Path) -> None:
    os.write(pump.input, b"one\n")
    assert wait_until(lambda: (tmp_path / "said.log").exists() and said(tmp_path) == "one\n")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(pump._process.pid, number)
    os.write(pump.input, b"two\n")
    assert pump.finish(SECONDS)
    assert said(tmp_path) == "one\ntwo\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_holds_nobody_up(tmp_path: Path, environment: Mapping[str, str]) -> None:
    with (tmp_path / "mirror").open("wb") as mirror:
        pump = LogPump(Path("/dev/full"), environment, mirror=mirror.fileno())
    for _ in range(20):
        os.write(pump.input, b"y" * 60_000 + b"\n")
    assert pump.finish(SECONDS)
    pump.stop(SECONDS)
    assert (tmp_path / "mirror").stat().st_size == 20 * 60_001


def fill(pump: LogPump) -> None:
    """Write until the pump takes no more: until its mirror, which nobody reads, and both pipes are full."""
    os.set_blocking(pump.input, False)
    full_since = time.monotonic()
    while time.monotonic() < full_since + 1.0:
        try:
            os.write(pump.input, b"z" * 999 + b"\n")
            full_since = time.monotonic()
        except BlockingIOError:
            time.sleep(0.05)
    os.set_blocking(pump.input, True)


def test_a_mirror_that_stands_still_does_not_hold_up_the_end(tmp_path: Path, environment: Mapping[str, str]) -> None:
    reader, mirror = os.pipe()
    pump = LogPump(tmp_path / "said.log", environment, mirror=mirror)
    os.close(mirror)
    fill(pump)
    assert not pump.finish(0.2)
    pump.stop(0.2)
    os.close(reader)
    assert pump._process.returncode == -signal.SIGKILL, "it is not left behind"


def test_a_pump_that_died_does_not_say_that_all_is_in_place(pump: LogPump) -> None:
    pump._process.kill()
    pump._process.wait()
    assert not pump.finish(SECONDS)


def test_an_end_that_nobody_waits_for_any_more_loses_nothing(tmp_path: Path, environment: Mapping[str, str]) -> None:
    (tmp_path / "said.log").touch()
    pump = LogPump(tmp_path / "said.log", environment)
    child = os.dup(pump.input)
    os.kill(pump._process.pid, signal.SIGSTOP)
    assert not pump.finish(0.1)
    os.kill(pump._process.pid, signal.SIGCONT)
    assert wait_until(lambda: os.write(child, b"later\n") > 0 and "later" in said(tmp_path))
    os.close(child)
    pump.stop(SECONDS)


# Prints through Python, beside Python, from a child, and with a traceback; with Dagster's resource tracker's habit of
# leaving a child behind that holds the streams.
CAPTURE = """
import logging, os, subprocess, sys, warnings
from pathlib import Path
from resources.compute_logs import MaskedComputeLogManager
secret = os.environ["PUMP_API_TOKEN"]
manager = MaskedComputeLogManager(sys.argv[1])
key = ["run", "compute_logs", "step"]
print("outside before", flush=True)
with manager.capture_logs(key):
    print("printed", secret)
    os.write(1, f"written {secret}\\n".encode())
    subprocess.run([sys.executable, "-c", "import os; print('child', os.environ['PUMP_API_TOKEN'])"])
    subprocess.Popen(["sleep", "30"])
    logging.basicConfig()
    logging.warning("logged %s", secret)
    warnings.warn(f"warned {secret}")
    sys.stdout.write("no end " + secret)
assert manager.is_capture_complete(key)
print("outside after", flush=True)
data = manager.get_log_data(key)
assert b"printed ***" in data.stdout and b"logged ***" in data.stderr
"""


@contextmanager
def ended(group: int) -> Iterator[None]:
    try:
        yield
    finally:
        os.killpg(group, signal.SIGKILL)


def test_compute_logs(tmp_path: Path, environment: Mapping[str, str]) -> None:
    with (tmp_path / "out").open("wb") as out, (tmp_path / "err").open("wb") as err:
        command = [sys.executable, "-c", CAPTURE, str(tmp_path)]
        process = subprocess.Popen(command, stdout=out, stderr=err, env=dict(environment), start_new_session=True)
        with ended(process.pid):
            assert process.wait(120) == 0, (tmp_path / "err").read_text()
    inside = "printed ***\nwritten ***\nchild ***\nno end ***"
    folder = tmp_path / "run" / "compute_logs"
    captured = (folder / "step.out").read_text()
    assert sorted(captured.splitlines()) == sorted(inside.splitlines())
    errors = (folder / "step.err").read_text()
    assert "logged ***" in errors and "warned ***" in errors
    mirrored = (tmp_path / "out").read_text()
    assert mirrored == f"outside before\n{captured}outside after\n"
    assert (tmp_path / "err").read_text() == errors
    assert CANARY not in captured + errors
