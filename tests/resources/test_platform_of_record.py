"""What an evaluation's record says of the platform: what was observed lately, and nothing else."""

import pandas as pd
import pytest

from cvntrade_assets.operations.correlation_data import Platform
from cvntrade_assets.operations.signals import Level, Observation, Scalar
from cvntrade_assets.settings import resolve
from resources.platform_of_record import platform_of
from resources.signal_store import store
from resources.warehouse import Warehouse

NOW = pd.Timestamp("2026-11-21 12:00", tz="UTC")
SETTINGS = resolve(base_env={"CVN_STATE_STALE_MINUTES": "20"}, run={}, now=NOW)
MEASURED: dict[str, Scalar] = {"source": "prometheus", "oom_kills": 3, "cpu_used": 0.95, "volume_used": 0.5}


def infra(level: Level = Level.CRITICAL, at: pd.Timestamp = NOW, **changed: Scalar) -> Observation:
    value = None if level is Level.UNKNOWN else 1.0
    return Observation("infra_health", "", value, level, "seeded", at, MEASURED | changed)


def success(job: str, share: float | None, at: pd.Timestamp = NOW) -> Observation:
    level = Level.UNKNOWN if share is None else Level.OK
    return Observation("pipeline_success_rate", job, share, level, "seeded", at)


def platform(warehouse: Warehouse, *observations: Observation) -> Platform:
    with warehouse.begin() as connection:
        store(connection, observations)
    return platform_of(warehouse, "discovery", SETTINGS, NOW)


def test_it_is_what_the_signals_were_computed_from(warehouse: Warehouse) -> None:
    found = platform(warehouse, infra(), success("discovery", 0.65), success("monitoring", 1.0))
    assert found == Platform(success_rate=0.65, oom_kills=3, pvc_used=0.5, cpu_used=0.95)


@pytest.mark.parametrize(("minutes", "known"), [(20, True), (20.02, False)])
def test_an_observation_counts_for_as_long_as_it_does_everywhere(
    warehouse: Warehouse, minutes: float, known: bool
) -> None:
    at = NOW - pd.Timedelta(minutes=minutes)
    found = platform(warehouse, infra(at=at), success("discovery", 0.65, at))
    assert (found != Platform()) is known
    assert (found.oom_kills is not None, found.success_rate is not None) == (known, known)


def test_without_observations_nothing_is_known(warehouse: Warehouse) -> None:
    assert platform(warehouse) == Platform()


def test_the_success_of_other_jobs_says_nothing_of_this_one(warehouse: Warehouse) -> None:
    assert platform(warehouse, success("monitoring", 0.1)).success_rate is None
    assert platform(warehouse, success("discovery", None)).success_rate is None


def test_what_is_known_in_part_counts_in_part(warehouse: Warehouse) -> None:
    found = platform(warehouse, infra(Level.UNKNOWN, oom_kills=None))
    assert found == Platform(pvc_used=0.5, cpu_used=0.95)


@pytest.mark.parametrize(
    ("measured", "recorded"), [(1.02, 1.0), (float("inf"), None), (-0.5, None), ("much", None), (None, None)]
)
def test_a_share_is_a_share_or_unknown(warehouse: Warehouse, measured: Scalar, recorded: float | None) -> None:
    assert platform(warehouse, infra(cpu_used=measured)).cpu_used == recorded


def test_a_rate_of_kills_becomes_a_count(warehouse: Warehouse) -> None:
    assert platform(warehouse, infra(oom_kills=2.98)).oom_kills == 3


def test_processors_that_this_run_keeps_busy_itself_say_nothing_of_the_platform(warehouse: Warehouse) -> None:
    found = platform(warehouse, infra(source="machine"), success("discovery", 0.65))
    assert found == Platform(success_rate=0.65, oom_kills=3, pvc_used=0.5)
