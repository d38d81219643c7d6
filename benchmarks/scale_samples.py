"""What a stack's processes use while it works, how late its daemons' heartbeats are, and how soon the UI answers."""

import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from benchmarks.scale_records import spread
from benchmarks.scale_stack import ScaleError, ScaleStack
from resources.code_version import read_connection_name

EVERY_SECONDS = 2.0
UI_SECONDS = 15.0
_TICKS = os.sysconf("SC_CLK_TCK")
_MIB = 2**20
_CONNECTIONS = (
    "select application_name, count(*) from pg_stat_activity where backend_type = 'client backend' group by 1"
)
_HEARTBEATS = "select daemon_type, extract(epoch from timestamp) from daemon_heartbeats"
RUNS = "runs"


class Processes:
    """The processes of a stack by role: its servers, PostgreSQL with its backends, and the runs.

    Args:
        pids: Name and process id of every server; runs are the code server's children.
    """

    def __init__(self, pids: Mapping[str, int]) -> None:
        self._pids = pids

    def memory(self) -> dict[str, float]:
        """MiB of each role, shared pages divided among those that share them; of runs the largest one too."""
        found: dict[str, float] = {}
        runs: list[float] = []
        for name, own, descendants in self._trees():
            rest = [_proportional(pid) for pid in descendants]
            if name == "code-server":
                found[name] = _proportional(own)
                runs = rest
            else:
                found[name] = _proportional(own) + sum(rest)
        return found | {RUNS: sum(runs), "largest run": max(runs, default=0.0)}

    def seconds(self) -> dict[str, float]:
        """Processor seconds of each role since it started, those of its ended children included."""
        found = {}
        for name, own, descendants in self._trees():
            alive = sum(sum(_times(pid)) for pid in descendants)
            user, system, gone_user, gone_system = _times(own)
            if name == "code-server":
                found[RUNS] = gone_user + gone_system + alive
                found[name] = user + system
            else:
                found[name] = user + system + gone_user + gone_system + alive
        return found

    def _trees(self) -> list[tuple[str, int, list[int]]]:
        children: dict[int, list[int]] = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal() and (parent := _parent(int(entry.name))) is not None:
                children.setdefault(parent, []).append(int(entry.name))
        return [(name, pid, _below(pid, children)) for name, pid in self._pids.items()]


def machine_seconds() -> float:
    """Processor seconds that everybody on this machine has used since it started."""
    fields = [int(text) for text in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    idle = fields[3] + fields[4]
    return (sum(fields) - idle) / _TICKS


class Sampler:
    """Looks at a stack every 2 s in the background, from entering to leaving.

    Args:
        stack: At what.
        browse: Clicks through one page of the UI: milliseconds by operation; None when nobody does.
    """

    def __init__(self, stack: ScaleStack, browse: Callable[[], Mapping[str, float]] | None) -> None:
        self._stack = stack
        self._browse = browse
        self._processes = Processes(stack.pids)
        self._leave = threading.Event()
        self._peak: dict[str, float] = {}
        self._late: dict[str, float] = {}
        self._connected: dict[str, int] = {}
        self._answers: dict[str, list[float]] = {}
        self._refused = 0
        self._fault: str | None = None
        self._threads = [threading.Thread(target=self._guarded, args=(work,), daemon=True) for work in self._work()]

    def __enter__(self) -> Self:
        self._began, self._before = time.monotonic(), self._processes.seconds()
        self._machine = machine_seconds()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave.set()
        for thread in self._threads:
            thread.join()
        self._took = time.monotonic() - self._began
        after = self._processes.seconds()
        self._used = {name: seconds - self._before[name] for name, seconds in after.items()}
        self._machine = machine_seconds() - self._machine

    def found(self) -> dict[str, Any]:
        """What was seen, after leaving.

        Raises:
            ScaleError: something could not be looked at.
        """
        if self._fault is not None:
            raise ScaleError(f"while the stack worked: {self._fault}")
        ours = sum(self._used.values())
        return {
            "seconds": round(self._took, 1),
            "processor_seconds": {name: round(seconds, 2) for name, seconds in self._used.items()},
            # What others on this machine used says how much to believe of what was timed.
            "processor_seconds_of_others": round(max(0.0, self._machine - ours), 1),
            "processors": os.cpu_count(),
            "peak_mib": {name: round(mib, 1) for name, mib in self._peak.items()},
            "peak_connections": self._connected,
            "longest_heartbeat_age": {name: round(age, 1) for name, age in self._late.items()},
            "ui_refused": self._refused,
            "ui_ms": {name: spread(answers) for name, answers in sorted(self._answers.items())},
        }

    def _work(self) -> list[Callable[[], None]]:
        return [self._watch] if self._browse is None else [self._watch, self._click]

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001 - told by `found`, in the thread that can do something about it
            self._fault = f"{type(error).__name__}: {error}"

    def _watch(self) -> None:
        while not self._leave.wait(EVERY_SECONDS):
            for name, mib in self._processes.memory().items():
                self._peak[name] = max(mib, self._peak.get(name, 0.0))
            for role, count in _by_role(self._stack.rows("dagster", _CONNECTIONS)).items():
                self._connected[role] = max(count, self._connected.get(role, 0))
            now = time.time()
            for daemon, at in self._stack.rows("dagster", _HEARTBEATS):
                self._late[daemon] = max(now - float(at), self._late.get(daemon, 0.0))

    def _click(self) -> None:
        assert self._browse is not None
        while not self._leave.wait(UI_SECONDS):
            try:
                answers = self._browse()
            except ScaleError:
                # Somebody who looks at a page gets nothing: a figure, and no reason to end the measurement.
                self._refused += 1
                continue
            for page, milliseconds in answers.items():
                self._answers.setdefault(page, []).append(milliseconds)


def _by_role(connections: Iterable[tuple[str, int]]) -> dict[str, int]:
    """Connections of each role; of runs those of the run that has most; of others, such as MLflow, together."""
    found: dict[str, int] = {}
    for name, count in connections:
        ours = read_connection_name(name)
        role = "others" if ours is None else ours[0]
        found[role] = max(found.get(role, 0), count) if role == "run" else found.get(role, 0) + count
    return found


def _below(pid: int, children: Mapping[int, list[int]]) -> list[int]:
    found = []
    for child in children.get(pid, ()):
        found += [child, *_below(child, children)]
    return found


def _stat(pid: int) -> list[str] | None:
    """The fields of a process after its name; None when it has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None


def _parent(pid: int) -> int | None:
    fields = _stat(pid)
    return None if fields is None else int(fields[1])


def _times(pid: int) -> tuple[float, float, float, float]:
    """User and system seconds, its own and those of its ended children; nothing when it has just ended."""
    fields = _stat(pid)
    if fields is None:
        return 0.0, 0.0, 0.0, 0.0
    user, system, gone_user, gone_system = (int(field) / _TICKS for field in fields[11:15])
    return user, system, gone_user, gone_system


def _proportional(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    kib = next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)
    return kib * 1024 / _MIB
