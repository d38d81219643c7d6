"""What the machine tells of itself, and what it owns up to not knowing."""

import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import psutil
import pytest

from resources import machine
from resources.machine import Counters, MachineWatch, infra_of_machine

NOW = pd.Timestamp("2026-03-01 12:00", tz="UTC")
HOUR, DAY = pd.Timedelta(hours=1), pd.Timedelta(days=1)


def counters(at, kills=0, boot="a", busy=0.0, total=0.0):
    return Counters(at, boot, busy, total, kills)


@pytest.fixture(autouse=True)
def up_for_long(monkeypatch):
    """A machine that was started long before anything here."""
    monkeypatch.setattr(psutil, "boot_time", (NOW - 100 * DAY).timestamp)


def looks(*found):
    return MachineWatch(tuple(found))


# Processors


def test_processors_are_averaged_since_the_look_before():
    before = counters(NOW - pd.Timedelta(minutes=5), busy=100.0, total=1000.0)
    assert looks(before, counters(NOW, busy=250.0, total=1600.0)).cpu_used() == pytest.approx(150 / 600)


@pytest.mark.parametrize(
    "before",
    [
        pytest.param([], id="the first look"),
        pytest.param([counters(NOW - pd.Timedelta(minutes=16), total=10.0)], id="too long ago"),
        pytest.param([counters(NOW - pd.Timedelta(seconds=9), total=10.0)], id="a moment ago"),
        pytest.param([counters(NOW - pd.Timedelta(minutes=5), boot="b", total=10.0)], id="another boot"),
    ],
)
def test_without_a_fitting_look_before_the_load_of_five_minutes_tells(monkeypatch, before):
    monkeypatch.setattr(os, "getloadavg", lambda: (9.0, 1.5, 0.1))
    monkeypatch.setattr(psutil, "cpu_count", lambda: 2)
    watch = looks(*before, counters(NOW, busy=100.0, total=1000.0))
    assert watch.cpu_used() == pytest.approx(0.75)
    monkeypatch.setattr(os, "getloadavg", lambda: (0.0, 2.1, 0.0))
    assert watch.cpu_used() == 1.0


def test_processors_of_this_machine_are_between_nothing_and_all_in_use():
    first = MachineWatch.look(pd.Timestamp.now("UTC") - pd.Timedelta(minutes=1))
    sum(number * number for number in range(300_000))
    assert 0.0 <= MachineWatch.look(pd.Timestamp.now("UTC"), first.text()).cpu_used() <= 1.0


# Kills


def test_kills_of_a_day_are_those_since_the_last_look_before_it():
    watch = looks(
        counters(NOW - 30 * HOUR, 3), counters(NOW - 24 * HOUR, 5), counters(NOW - 23 * HOUR, 6), counters(NOW, 8)
    )
    assert watch.oom_kills() == (3, None)


def test_another_boot_begins_counting_anew():
    watch = looks(
        counters(NOW - 25 * HOUR, 40), counters(NOW - 3 * HOUR, 42), counters(NOW - HOUR, 1, "b"), counters(NOW, 2, "b")
    )
    assert watch.oom_kills() == (4, None)


def test_what_was_killed_before_the_first_look_is_unknown():
    kills, why = looks(counters(NOW, 7)).oom_kills()
    assert kills is None and "7 processes" in why and "a day after the first look" in why


def test_what_was_seen_to_be_killed_counts_although_there_may_be_more():
    kills, why = looks(counters(NOW - HOUR, 7), counters(NOW, 9)).oom_kills()
    assert kills == 2 and why is not None


def test_a_counter_at_nothing_has_nothing_to_hide():
    assert looks(counters(NOW, 0)).oom_kills() == (0, None)


@pytest.mark.parametrize(("hours", "known"), [(23, True), (25, False)])
def test_a_machine_that_was_started_today_has_counted_all_of_it(monkeypatch, hours, known):
    monkeypatch.setattr(psutil, "boot_time", (NOW - hours * HOUR).timestamp)
    kills, why = looks(counters(NOW, 7)).oom_kills()
    assert (kills, why is None) == ((7, True) if known else (None, False))


def test_a_system_that_does_not_count_says_so():
    kills, why = looks(counters(NOW, None)).oom_kills()
    assert kills is None and "does not count" in why


def test_the_counter_is_the_kernels():
    lines = Path("/proc/vmstat").read_text().splitlines()
    counted = [int(line.split()[1]) for line in lines if line.startswith("oom_kill ")]
    assert [MachineWatch.look(NOW).counters[-1].kills] == (counted or [None])


# What is remembered between looks


def test_a_day_of_looks_is_remembered_with_an_hour_between_them():
    text, kills = None, 0
    for minute in range(0, 3 * 1440, 5):
        at = NOW + pd.Timedelta(minutes=minute)
        rows = json.loads(text) if text else []
        earlier = [Counters(pd.Timestamp(row[0]), *row[1:]) for row in rows]
        kills += minute % 360 == 0
        watch = looks(*earlier, counters(at, kills))
        text = watch.text()
        if minute >= 1440:
            # One every six hours; the look that is compared with may be up to an hour older than a day.
            assert watch.oom_kills()[0] in (4, 5) and watch.oom_kills()[1] is None
    assert len(json.loads(text)) < 28


def test_what_an_earlier_look_left_behind_is_taken_up():
    first = MachineWatch.look(NOW)
    second = MachineWatch.look(NOW + HOUR, first.text())
    assert [each.at for each in second.counters] == [NOW, NOW + HOUR]


# All of it


@pytest.fixture
def home(monkeypatch, tmp_path):
    for name in ("CVN_HOME", "DAGSTER_HOME", "CVN_COMPUTE_LOGS"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.setenv("CVN_ARTIFACTS", "s3://bucket/artifacts")
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setattr(machine, "_CPU_LIMIT", tmp_path / "cpu.max")
    return tmp_path


def test_this_machine_tells_how_it_stands(home, warehouse):
    watch = MachineWatch.look(pd.Timestamp.now("UTC"))
    infra = infra_of_machine(watch, warehouse)
    usage = shutil.disk_usage(home)
    assert infra.source == "machine" and infra.down is None
    # `df` leaves out what is kept for root.
    assert infra.volume_used == pytest.approx(usage.used / (usage.used + usage.free), abs=0.02)
    assert os.path.ismount(infra.fullest)
    assert 0.0 <= infra.cpu_used <= 1.0


def test_the_fullest_volume_counts(home, monkeypatch, warehouse):
    monkeypatch.setattr(machine, "_mount_point", lambda folder: folder.name and folder)
    monkeypatch.setattr(machine, "_existing", lambda folder: folder)
    monkeypatch.setattr(
        psutil, "disk_usage", lambda path: SimpleNamespace(percent=91.0 if path.endswith("DAGSTER_HOME") else 20.0)
    )
    infra = infra_of_machine(MachineWatch.look(pd.Timestamp.now("UTC")), warehouse)
    assert (infra.volume_used, infra.fullest) == (0.91, str(home / "DAGSTER_HOME"))


def test_a_folder_that_may_not_be_read_is_on_its_own_volume_all_the_same(tmp_path):
    """PostgreSQL's is its own, and often where a volume is mounted."""
    closed = tmp_path / "data"
    closed.mkdir(mode=0)
    assert machine._existing(closed) == closed
    assert machine._existing(closed / "not there") == closed


@pytest.mark.parametrize(("limit", "known"), [("max 100000\n", True), ("150000 100000\n", False)])
def test_a_container_with_a_share_of_the_processors_cannot_tell_its_use(home, warehouse, limit, known):
    (home / "cpu.max").write_text(limit)
    infra = infra_of_machine(MachineWatch.look(pd.Timestamp.now("UTC")), warehouse)
    assert (infra.cpu_used is not None) is known
    assert any("container" in said for said in infra.trouble) is not known


@pytest.mark.parametrize(
    ("host", "pod", "says"),
    [
        ("127.0.0.1", "10.0.0.1", "one pod of a cluster"),
        ("postgres.internal", None, "PostgreSQL runs on another machine"),
        ("10.1.2.3", None, "PostgreSQL runs on another machine"),
    ],
)
def test_one_machine_does_not_speak_for_others(home, monkeypatch, host, pod, says):
    if pod:
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", pod)
    elsewhere = SimpleNamespace(address=SimpleNamespace(host=host))
    infra = infra_of_machine(MachineWatch.look(NOW), elsewhere)
    assert (infra.oom_kills, infra.cpu_used, infra.volume_used, infra.down) == (None, None, None, None)
    [said] = infra.trouble
    assert says in said and "CVN_PROMETHEUS_URL" in said


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "/run/postgresql", ""])
def test_a_server_on_this_machine_is_here(host):
    assert machine._is_here(host)
