"""A small supervisor: child processes with their logs, none of which outlives it.

Every child leads a session of its own, so Ctrl-C reaches the supervisor alone, and ending a child's process
group ends its children too. A guard process (guard.py) does the same when the supervisor is killed. What a child says
reaches its log through a pump that masks secrets, and that ends when nobody is left to say anything.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType, TracebackType
from typing import NoReturn, Self

from resources.log_pump import LogPump
from resources.orphans import end_with_parent
from resources.secrets import learn_secrets

GUARD = Path(__file__).with_name("guard.py")
STOP_SECONDS = 10.0
# How long what a child has said may take into its log.
LOG_SECONDS = 5.0
POLL_SECONDS = 0.05
LOG_LINES = 15
BACKGROUND_NICENESS = 5


class ProcessEndedError(RuntimeError):
    """A child that should have gone on ended by itself; the message holds the end of its log."""


class StopRequested(KeyboardInterrupt):
    """The supervisor was told to stop: Ctrl-C, SIGTERM, or its terminal was closed."""


@dataclass(frozen=True)
class Command:
    """A program to run as a child.

    Attributes:
        name: names the child in messages and its log file.
        arguments: the program and its arguments; a secret never stands here, where `ps` shows it.
        environment: the child's whole environment.
        folder: its working folder.
        background: let the others go first when processor time is short.
        stop_signal: what asks it to end.
    """

    name: str
    arguments: Sequence[str]
    environment: Mapping[str, str] = field(repr=False)
    folder: Path
    background: bool = False
    stop_signal: signal.Signals = signal.SIGTERM


@dataclass(frozen=True)
class _Child:
    command: Command
    process: subprocess.Popen[bytes]
    log: Path
    pump: LogPump


class Supervisor:
    """Starts children, notices when one ends, stops them all at the end of its `with` block.

    Use it from the main thread: on Linux a child ends when the thread that started it does.

    Args:
        logs: folder for one log file a child; that of the start before is kept as `*.log.1`.
    """

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._children: dict[str, _Child] = {}

    def __enter__(self) -> Self:
        self._logs.mkdir(parents=True, exist_ok=True)
        self._guard = subprocess.Popen(
            [sys.executable, "-I", "-S", GUARD], stdin=subprocess.PIPE, text=True, start_new_session=True
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop(*self._children)
        self._guard.communicate()

    @property
    def pids(self) -> dict[str, int]:
        """Name and process id of every child that was started and not stopped."""
        return {name: child.process.pid for name, child in self._children.items()}

    def start(self, command: Command) -> int:
        """Start a child and return its process id."""
        path = self._logs / f"{command.name}.log"
        if path.exists():
            path.replace(path.with_suffix(".log.1"))
        path.touch()
        # Its messages may stand in ours.
        learn_secrets(command.environment)
        pump = LogPump(path, command.environment)
        try:
            process = subprocess.Popen(
                list(command.arguments),
                stdin=subprocess.DEVNULL,
                stdout=pump.input,
                stderr=subprocess.STDOUT,
                cwd=command.folder,
                env=dict(command.environment),
                start_new_session=True,
                preexec_fn=end_with_parent(signal.SIGTERM),  # noqa: PLW1509 - one call into libc
            )
        except BaseException:
            pump.stop(LOG_SECONDS)
            raise
        self._children[command.name] = _Child(command, process, path, pump)
        self.watch(process.pid, command.stop_signal)
        if command.background:
            _give_way(process.pid)
        return process.pid

    def watch(self, group: int, number: signal.Signals) -> None:
        """Have the guard end a process group that somebody else stops, should we be killed before."""
        self._order(f"watch {group} {int(number)}")

    def forget(self, group: int) -> None:
        """Take back `watch`."""
        self._order(f"forget {group}")

    def check(self) -> None:
        """Raise when a child has ended by itself.

        Raises:
            ProcessEndedError: with the child's exit code and the end of its log.
        """
        for child in self._children.values():
            code = child.process.poll()
            if code is not None:
                child.pump.finish(LOG_SECONDS)
                raise ProcessEndedError(
                    f"The {child.command.name} ended by itself ({_describe(code)}). The end of {child.log}:\n"
                    f"{_last_lines(child.log)}"
                )

    def stop(self, *names: str) -> None:
        """Ask these children to end, all at once; what is left of their groups after 10 s is killed."""
        children = [self._children[name] for name in names]
        for child in children:
            if child.process.poll() is None:
                _send(child.process.pid, child.command.stop_signal)
        deadline = time.monotonic() + STOP_SECONDS
        while time.monotonic() < deadline and any(child.process.poll() is None for child in children):
            time.sleep(POLL_SECONDS)
        for child in children:
            _send(child.process.pid, signal.SIGKILL)
            child.process.wait()
            child.pump.stop(LOG_SECONDS)
            self.forget(child.process.pid)
            del self._children[child.command.name]

    def _order(self, line: str) -> None:
        assert self._guard.stdin is not None
        self._guard.stdin.write(f"{line}\n")
        self._guard.stdin.flush()


@contextmanager
def stop_on_signals() -> Iterator[None]:
    """Inside, the first SIGINT, SIGTERM or SIGHUP raises `StopRequested` in the main thread.

    The rest are ignored, so that the shutdown that the first one begins runs to its end.
    """
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def request(number: int, frame: FrameType | None) -> NoReturn:
        del frame
        for each in numbers:
            signal.signal(each, signal.SIG_IGN)
        raise StopRequested(signal.Signals(number).name)

    before = {number: signal.signal(number, request) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _send(group: int, number: signal.Signals) -> None:
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        # The whole group has ended: nothing is left to tell.
        return


def _give_way(pid: int) -> None:
    """Lower a child's priority, and its session's: Linux weighs sessions first, then inside each."""
    os.setpriority(os.PRIO_PROCESS, pid, BACKGROUND_NICENESS)
    session = Path(f"/proc/{pid}/autogroup")
    if session.exists():
        session.write_text(str(BACKGROUND_NICENESS))


def _describe(code: int) -> str:
    return f"exit code {code}" if code >= 0 else f"killed by {signal.Signals(-code).name}"


def _last_lines(path: Path) -> str:
    lines = path.read_text(errors="replace").strip().splitlines()[-LOG_LINES:]
    return "\n".join(f"  {line}" for line in lines) or "  (it said nothing)"
