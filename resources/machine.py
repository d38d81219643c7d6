"""What the machine that this runs on tells of itself: its processors, its volumes, and what was killed for memory.

Its counters run from boot on, so two looks make a number: what was counted is remembered between looks, as a text.

What it cannot tell is said and stays unknown: how many processes were killed before the first look, how other machines
stand, and what a container with a share of the processors uses. `/proc` speaks of the whole machine, inside a container
too: its kills and its load may be a neighbour's.
"""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from itertools import pairwise
from pathlib import Path

import pandas as pd
import sqlalchemy as sa

from cvntrade_assets.operations.facts import InfraFacts
from resources.warehouse import Warehouse, WarehouseError

SOURCE = "machine"

_DAY = pd.Timedelta(days=1)
# Counters of about every hour are enough to say what a day brought.
_BETWEEN = pd.Timedelta(hours=1)
# Processors are averaged from the look before this one on; one that is older or younger would say too little of now.
_WINDOW = (pd.Timedelta(seconds=10), pd.Timedelta(minutes=15))
_FOLDERS = ("CVN_HOME", "DAGSTER_HOME", "CVN_ARTIFACTS", "CVN_COMPUTE_LOGS")
_VMSTAT, _BOOT = Path("/proc/vmstat"), Path("/proc/sys/kernel/random/boot_id")
_CPU_LIMIT = Path("/sys/fs/cgroup/cpu.max")


@dataclass(frozen=True)
class Counters:
    """The kernel's counters at a moment.

    Attributes:
        at: When, UTC.
        boot: Which boot they run from.
        busy: Seconds that its processors worked, all together.
        total: Seconds that they had.
        kills: Processes killed for want of memory; None where the system does not count them.
    """

    at: pd.Timestamp
    boot: str
    busy: float
    total: float
    kills: int | None

    @classmethod
    def read(cls, now: pd.Timestamp) -> "Counters":
        """As they stand."""
        import psutil  # reads /proc as it loads

        times = psutil.cpu_times()._asdict()
        # What guests used is in `user` too, and waiting for a disk is no work.
        total = sum(seconds for name, seconds in times.items() if not name.startswith("guest"))
        busy = total - times["idle"] - times.get("iowait", 0.0)
        boot = _BOOT.read_text().strip() if _BOOT.exists() else str(psutil.boot_time())
        return cls(now, boot, busy, total, _kills())

    def row(self) -> list[object]:
        """As it is remembered."""
        return [self.at.isoformat(), self.boot, round(self.busy, 2), round(self.total, 2), self.kills]


def _kills() -> int | None:
    if not _VMSTAT.exists():
        return None
    counts = dict(line.split() for line in _VMSTAT.read_text().splitlines())
    return int(counts["oom_kill"]) if "oom_kill" in counts else None


@dataclass(frozen=True)
class MachineWatch:
    """The counters of a day's looks, the oldest first; the last ones are those of now."""

    counters: tuple[Counters, ...]

    @classmethod
    def look(cls, now: pd.Timestamp, remembered: str | None = None) -> "MachineWatch":
        """Read the counters, beside those that an earlier look left behind.

        Args:
            now: The wall clock, UTC.
            remembered: What `text` of the look before gave; None at the first one.
        """
        rows = json.loads(remembered) if remembered is not None else []
        earlier = [Counters(pd.Timestamp(row[0]), *row[1:]) for row in rows]
        return cls((*(each for each in earlier if each.at < now), Counters.read(now)))

    def text(self) -> str:
        """What the next look needs: the newest counters, one an hour of the last day, and the last ones before that."""
        kept: list[Counters] = []
        for each in self.counters[:-1]:
            if not kept or each.at - kept[-1].at >= _BETWEEN:
                kept.append(each)
        newest = self.counters[-1]
        old = [each for each in kept if each.at <= newest.at - _DAY]
        young = [each for each in kept if each.at > newest.at - _DAY]
        return json.dumps([each.row() for each in (*old[-1:], *young, newest)], separators=(",", ":"))

    @property
    def is_first_look(self) -> bool:
        """Whether there was none before: the stack has just been started, and that is work too."""
        return len(self.counters) == 1

    def cpu_used(self) -> float:
        """Share of the processors that worked since the look before this one.

        Without a fitting one, as many of them as had something to do on average of the last five minutes: a sample of
        this moment would find nothing but the start of the stack.
        """
        import psutil

        newest = self.counters[-1]
        shortest, longest = _WINDOW
        fitting = [
            each
            for each in self.counters[:-1]
            if each.boot == newest.boot and shortest <= newest.at - each.at <= longest and each.total < newest.total
        ]
        if not fitting:
            return min(os.getloadavg()[1] / (psutil.cpu_count() or 1), 1.0)
        share = (newest.busy - fitting[-1].busy) / (newest.total - fitting[-1].total)
        # The kernel's count of waiting for disks is an estimate, and may go back.
        return min(max(share, 0.0), 1.0)

    def oom_kills(self) -> tuple[int | None, str | None]:
        """Processes killed for want of memory in the last 24 hours, and why that is not known, if it is not.

        A number together with a reason is a lower bound: what the looks saw.
        """
        import psutil

        newest = self.counters[-1]
        if newest.kills is None:
            return None, "this system does not count the processes that it kills for want of memory"
        day = [each for each in self.counters if each.at > newest.at - _DAY]
        before = [each for each in self.counters if each.at <= newest.at - _DAY]
        looks = [*before[-1:], *day]
        seen = sum(_since(early, late) for early, late in pairwise(looks))
        # A counter that still is at nothing has nothing to hide, and neither has a machine that was off yesterday.
        up_since = pd.Timestamp(psutil.boot_time(), unit="s", tz="UTC")
        if not before and up_since > newest.at - _DAY:
            return max(seen, newest.kills), None
        if before or newest.kills == 0:
            return seen, None
        reason = (
            f"the system counts {newest.kills} processes that it killed for want of memory since it started; how many "
            f"of them in the last 24 hours is known a day after the first look, at {looks[0].at.isoformat()}"
        )
        return (seen or None), reason


def _since(early: Counters, late: Counters) -> int:
    # After another boot the counter begins anew.
    base = early.kills if early.boot == late.boot else 0
    return max((late.kills or 0) - (base or 0), 0)


def infra_of_machine(watch: MachineWatch, warehouse: Warehouse) -> InfraFacts:
    """How this machine stands; nothing but why that is unknown when it is not all that there is.

    What should run and does not is not the machine's to say: `down` is None.
    """
    if elsewhere := _elsewhere(warehouse, os.environ):
        return InfraFacts(SOURCE, trouble=(elsewhere,))
    trouble: list[str] = []
    kills, why_not = watch.oom_kills()
    if why_not:
        trouble.append(why_not)
    cpu_used = None
    if limited := _cpu_limit():
        trouble.append(limited)
    else:
        cpu_used = watch.cpu_used()
    folders = [os.environ[name] for name in _FOLDERS if name in os.environ]
    try:
        folders.append(_postgres_folder(warehouse))
    except WarehouseError as error:
        trouble.append(f"on which volume PostgreSQL keeps its data is unknown: {error}")
    used, fullest = _fullest(folders)
    if used is None:
        trouble.append(f"none of the folders that hold our data is on this machine ({', '.join(_FOLDERS)})")
    return InfraFacts(SOURCE, kills, cpu_used, used, fullest, None, tuple(trouble))


def _elsewhere(warehouse: Warehouse, environment: Mapping[str, str]) -> str | None:
    """Why this machine cannot speak for everything; None when all of it runs here."""
    configure = "set CVN_PROMETHEUS_URL to the Prometheus that watches all of them"
    if "KUBERNETES_SERVICE_HOST" in environment:
        return f"this is one pod of a cluster, and cannot tell how its nodes, volumes and other pods stand: {configure}"
    host = warehouse.address.host or ""
    if not _is_here(host):
        return f"PostgreSQL runs on another machine ({host}), and this one cannot tell how that one stands: {configure}"
    return None


def _is_here(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        # A name, or the folder of a socket.
        return host in ("", "localhost") or host.startswith("/")


def _cpu_limit() -> str | None:
    quota = _CPU_LIMIT.read_text().split()[0] if _CPU_LIMIT.exists() else "max"
    if quota == "max":
        return None
    return (
        "this container may use a part of the machine's processors only, and how much of that is used the machine "
        "does not tell: set CVN_PROMETHEUS_URL"
    )


def _postgres_folder(warehouse: Warehouse) -> str:
    with warehouse.begin() as connection:
        try:
            return str(connection.scalar(sa.text("show data_directory")))
        except sa.exc.ProgrammingError as error:
            refused = str(error.orig).strip().splitlines()[0]
    raise WarehouseError(f"{refused}. Grant the role pg_read_all_settings, or set CVN_PROMETHEUS_URL.")


def _fullest(folders: Iterable[str]) -> tuple[float | None, str | None]:
    """Share of the fullest of the volumes under these folders that is used, and where it is mounted."""
    import psutil

    volumes = {_mount_point(_existing(Path(folder))) for folder in folders if "://" not in folder}
    # As `df` says it: of what an ordinary user may fill.
    used = sorted((psutil.disk_usage(str(volume)).percent / 100, str(volume)) for volume in volumes)
    return used[-1] if used else (None, None)


def _existing(folder: Path) -> Path:
    """The folder, or the nearest above it that this process can see; it need not be one that it may read."""
    return next(each for each in _upwards(folder) if os.path.exists(each))  # noqa: PTH110 - Path's raises where it may not look


def _mount_point(folder: Path) -> Path:
    return next(each for each in _upwards(folder.resolve()) if each.is_mount())


def _upwards(folder: Path) -> Sequence[Path]:
    return [folder, *folder.absolute().parents]
