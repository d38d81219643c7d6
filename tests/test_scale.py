"""The scale benchmark's arithmetic: how figures grow, when a slot is idle, and what is written of it.

What it measures needs a real stack and most of an hour; that is not for tests.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.scale import FILE
from benchmarks.scale_fit import growth
from benchmarks.scale_level import grown
from benchmarks.scale_records import idle_slots, spread
from benchmarks.scale_report import write
from benchmarks.scale_samples import Processes, _by_role

ROOT = Path(__file__).parent.parent
COUNTS = (6, 25, 50, 100, 200)


@pytest.mark.parametrize(
    ("power", "said"),
    [
        (0.0, "flat"),
        (0.14, "flat"),
        (0.16, "slower than the cryptos"),
        (0.84, "slower than the cryptos"),
        (0.86, "with the cryptos"),
        (1.14, "with the cryptos"),
        (1.16, "**faster than the cryptos**"),
        (2.0, "**faster than the cryptos**"),
    ],
)
def test_growth_is_told_by_the_exponent(power: float, said: str) -> None:
    found = growth(COUNTS, [3.0 * count**power for count in COUNTS])
    assert found.exponent == pytest.approx(power, abs=1e-9)
    assert found.said == said


def test_a_straight_line_is_extended_and_what_grows_faster_keeps_its_power() -> None:
    line = growth(COUNTS, [0.5 + 0.01 * count for count in COUNTS])
    assert line.at(2000, (200, 2.5)) == pytest.approx(20.5)
    square = growth(COUNTS, [count**2.0 for count in COUNTS])
    assert square.at(2000, (200, 40_000.0)) == pytest.approx(4_000_000.0)


def test_what_was_nothing_at_some_level_has_no_exponent_and_one_level_no_growth() -> None:
    assert growth(COUNTS, [0.0, 1.0, 2.0, 3.0, 4.0]).exponent is None
    alone = growth([6], [4.0])
    assert (alone.exponent, alone.said, alone.at(2000, (6, 4.0))) == (None, "flat", 4.0)


def test_a_slot_is_idle_from_an_end_until_the_next_run_is_taken() -> None:
    # Two slots: the third run could be taken when the first ended (10), the fourth when the second did (12).
    taken, ends = (0.0, 1.0, 11.5, 12.25), (10.0, 12.0, 20.0, 21.0)
    ended = [{"PIPELINE_STARTING": begun, "end": end} for begun, end in zip(taken, ends, strict=True)]
    assert idle_slots(ended, 2) == [1.5, 0.25]
    assert idle_slots(ended[:2], 2) == []


def test_a_spread_is_of_what_is_there() -> None:
    assert spread([]) is None
    assert spread([float(number) for number in range(100, 0, -1)]) == {"median": 50.5, "p95": 96.0, "max": 100.0}


def test_an_interrupted_level_is_tried_with_other_cryptos() -> None:
    first = grown((), 3, attempt=1)
    assert grown(first, 5, attempt=1)[:3] == first
    assert not set(grown(first, 5, attempt=1)[3:]) & set(grown(first, 5, attempt=2)[3:])


def test_connections_are_counted_by_role_and_of_runs_the_one_that_has_most() -> None:
    rows = [
        ("cvntrade run 0.1+abc 11@host", 2),
        ("cvntrade run 0.1+abc 12@host", 3),
        ("cvntrade daemon 0.1+abc 13@host", 4),
        ("cvntrade daemon 0.1+abc 14@host", 1),
        ("", 5),
    ]
    assert _by_role(rows) == {"run": 3, "daemon": 5, "others": 5}


def test_a_process_uses_memory_and_time_and_one_that_is_gone_none() -> None:
    import os

    found = Processes({"this": os.getpid(), "gone": 2**22 + 1})
    assert found.memory()["this"] > 10.0 and found.memory()["gone"] == 0.0
    assert found.seconds()["this"] > 0.1 and found.seconds()["gone"] == 0.0


def level(cryptos: int) -> dict[str, Any]:
    """What a level's record holds, in made-up numbers."""
    seconds = {"median": 8.0, "p95": 9.0, "max": 10.0}
    roles = {"runs": 700.0, "postgres": 90.0, "daemon": 80.0, "code-server": 20.0, "webserver": 30.0, "mlflow": 5.0}
    used = {
        "seconds": 100.0,
        "processor_seconds": roles,
        "processor_seconds_of_others": 50.0,
        "processors": 2,
        "peak_mib": roles | {"largest run": 350.0},
        "peak_connections": {"run": 4, "daemon": 6},
        "longest_heartbeat_age": {"SENSOR": 31.0, "BACKFILL": 12.0},
        "ui_refused": 0,
        "ui_ms": {"runs": seconds},
    }
    together = {
        "id": "abc",
        "command_seconds": 2.0,
        "runs": cryptos,
        "succeeded": cryptos,
        "wall": 100.0,
        "runs_per_hour": 36.0 * cryptos,
        "submit": 0.5 * cryptos,
        "wait": seconds,
        "start_up": seconds,
        "idle_slot": None,
    }
    kind = {
        "runs": cryptos,
        "run": seconds,
        "events_per_run": 300.0,
        "event_bytes_per_run": 500_000,
        "kept_event_bytes_per_run": 200_000,
    }
    database = {
        "bytes": 10_000_000 * cryptos,
        "tables": {"event_logs": {"bytes": 5_000_000, "index_bytes": 1, "rows": 9}},
    }
    return {
        "cryptos": cryptos,
        "new": cryptos,
        "names": [],
        "universe_seconds": 3.0,
        "backfill": together,
        "built": kind,
        "again": kind,
        "used": used,
        "ticks": {"run_watch": {"ticks": 3, "failed": 0, "seconds": seconds, "longest_gap": 40.0}},
        "rest": {
            "sizes": {
                "databases": dict.fromkeys(("dagster", "mlflow", "cvntrade"), database),
                "event_text_bytes": 10_000_000,
                "folders": {name: {"bytes": 1_000_000, "files": 7} for name in ("artifacts", "mlflow")},
            },
            "mib": roles,
            "status_seconds": 1.5,
            "plan_seconds": 2.5,
            "follow_ms": 40.0 * cryptos,
            "sensor_seconds": {"golden_signals_watch": 0.01 * cryptos},
            "page_seconds": {"runs": 1.0},
            "pages": {"runs": {"requests": 8, "ms": 100.0 + cryptos, "slowest": "RunsQuery", "slowest_ms": 50.0}},
            "naive": {"cryptos": 6, "seconds": 12.0, "processor_seconds": 11.0},
        },
    }


def test_the_report_tells_every_level_what_bounds_it_and_the_plan(tmp_path: Path) -> None:
    first = level(6)
    default = first | {"bytes_per_run": {"artifacts": 12_000_000, "mlflow": 1, "compute_logs": 1}}
    write({"attempts": 2, "levels": [first, level(25), level(50)], "default_run": default}, tmp_path)
    text = (tmp_path / "scale.md").read_text()
    assert (tmp_path / "scale.png").read_bytes().startswith(b"\x89PNG")
    assert "grew to 6, 25, 50 cryptos" in text
    assert "was interrupted once" in " ".join(text.split())
    # A slot for 8 s of start-up and 8 s of run, two slots, against 2 s a crypto in the loop.
    assert "| 6 | 8.00 | 2.00 | 4.0 |" in text
    assert "| what `backfill --wait` asks again and again, ms | 240 | 1,000 | 2,000 | 1.00 | with the cryptos |" in text
    # 2,000 a day, and twice a week as many: 2,571; a sensor of 0.01 s a crypto takes 20 s.
    assert "| runs a day | 2,571 |" in text
    assert "| a tick of golden_signals_watch | 20.0 s |" in text
    # 925 s of processors for 50 runs on 2 of them: 3600 / 9.25 = 389 runs an hour.
    assert "| the machine's processors | 18.5 processor seconds a run | 389 |" in text
    assert "nan" not in text and "None" not in text


@pytest.mark.skipif(not FILE.exists(), reason="benchmarks/scale.json: not measured yet")
def test_the_document_is_what_the_raw_figures_say(tmp_path: Path) -> None:
    write(json.loads(FILE.read_text()), tmp_path)
    assert (ROOT / "docs" / "scale.md").read_text() == (tmp_path / "scale.md").read_text()
