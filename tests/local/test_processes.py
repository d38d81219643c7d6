"""The supervisor: nothing outlives it, whatever ends it, and a child that ends is noticed."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from cvntrade_assets.local.processes import Command, ProcessEndedError, StopRequested, Supervisor, stop_on_signals

ROOT = Path(__file__).resolve().parents[2]
# A child with a child of its own, both deaf to SIGTERM when `deaf` stands in the command.
PARENT = """
import signal, subprocess, sys, time
if "deaf" in sys.argv: signal.signal(signal.SIGTERM, signal.SIG_IGN)
own = subprocess.Popen([sys.executable, "-c", "import signal, sys, time\\n"
    "if 'deaf' in sys.argv: signal.signal(signal.SIGTERM, signal.SIG_IGN)\\ntime.sleep(60)", *sys.argv[1:]])
print(own.pid, flush=True)
time.sleep(60)
"""


def command(name: str, *code: str, folder: Path) -> Command:
    return Command(name, [sys.executable, "-c", *code], dict(os.environ), folder)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    return not (status.exists() and status.read_text().rsplit(")", 1)[1].split()[0] == "Z")


def wait_until(condition: Callable[[], bool], seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


def grandchild(log: Path) -> int:
    assert wait_until(lambda: log.exists() and log.read_text().endswith("\n"))
    return int(log.read_text())


def test_stopping_ends_children_and_grandchildren(tmp_path: Path) -> None:
    with Supervisor(tmp_path) as supervisor:
        child = supervisor.start(command("parent", PARENT, folder=tmp_path))
        below = grandchild(tmp_path / "parent.log")
        assert supervisor.pids == {"parent": child}
    assert wait_until(lambda: not alive(child) and not alive(below))


def test_a_child_deaf_to_sigterm_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cvntrade_assets.local.processes.STOP_SECONDS", 0.3)
    with Supervisor(tmp_path) as supervisor:
        child = supervisor.start(command("deaf", PARENT, "deaf", folder=tmp_path))
        below = grandchild(tmp_path / "deaf.log")
        supervisor.stop("deaf")
        assert supervisor.pids == {}
        assert wait_until(lambda: not alive(child) and not alive(below))


def test_a_child_that_ends_is_named_with_its_last_words(tmp_path: Path) -> None:
    with Supervisor(tmp_path) as supervisor:
        supervisor.start(command("steady", "import time; time.sleep(60)", folder=tmp_path))
        supervisor.start(command("brief", "import sys; print('no port'); sys.exit(3)", folder=tmp_path))
        assert wait_until((tmp_path / "brief.log").exists)
        with pytest.raises(ProcessEndedError, match=r"The brief ended by itself \(exit code 3\)(?s:.)*no port"):
            while True:
                supervisor.check()
                time.sleep(0.02)


def test_the_log_of_the_start_before_is_kept(tmp_path: Path) -> None:
    for word in ("first", "second"):
        with Supervisor(tmp_path) as supervisor:
            supervisor.start(command("speaker", f"print('{word}', flush=True)", folder=tmp_path))
            log = tmp_path / "speaker.log"
            assert wait_until(lambda log=log, word=word: log.read_text() == f"{word}\n")
    assert (tmp_path / "speaker.log.1").read_text() == "first\n"


def test_the_log_holds_no_secret_of_the_child_and_neither_do_its_last_words(tmp_path: Path) -> None:
    leaking = command("leaking", "import os, sys; sys.exit('with ' + os.environ['CHILD_TOKEN'])", folder=tmp_path)
    leaking = replace(leaking, environment={**leaking.environment, "CHILD_TOKEN": "child-canary"})
    with Supervisor(tmp_path) as supervisor:
        process = supervisor.start(leaking)
        assert wait_until(lambda: not alive(process))
        with pytest.raises(ProcessEndedError, match=r"with \*\*\*"):
            supervisor.check()
    assert (tmp_path / "leaking.log").read_text() == "with ***\n"


def pumps(folder: Path) -> list[str]:
    """The programs that write to logs in a folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it ended meanwhile
            found.append((entry / "cmdline").read_bytes().decode(errors="replace"))
    return [text for text in found if "log_pump" in text and str(folder) in text]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_block_once(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with pytest.raises(StopRequested), stop_on_signals():
        try:
            os.kill(os.getpid(), number)
            time.sleep(5)
        finally:
            # The shutdown that the first signal began is not cut short by a second one.
            os.kill(os.getpid(), number)
    assert signal.getsignal(number) == before


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_nothing_outlives_the_supervisor(tmp_path: Path, number: signal.Signals) -> None:
    """Grandchildren included, and also when the supervisor has no chance to say anything."""
    script = f"""
import os, sys, time
from pathlib import Path
from cvntrade_assets.local.processes import Command, Supervisor, stop_on_signals
with stop_on_signals(), Supervisor(Path(sys.argv[1])) as supervisor:
    child = Command("parent", [sys.executable, "-c", {PARENT!r}], dict(os.environ), Path("/"))
    print(supervisor.start(child), flush=True)
    time.sleep(60)
"""
    owner = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=ROOT
    )
    assert owner.stdout is not None
    child = int(owner.stdout.readline())
    below = grandchild(tmp_path / "parent.log")
    assert len(pumps(tmp_path)) == 1
    owner.send_signal(number)
    owner.communicate()
    assert wait_until(lambda: not alive(child) and not alive(below) and not pumps(tmp_path))
