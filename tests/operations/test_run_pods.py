"""What the pod of a run is given, by what it does; the limits on both sides."""

import pandas as pd
import pytest

from cvntrade_assets.definitions import ASSETS
from cvntrade_assets.operations.pipelines import PIPELINES
from cvntrade_assets.operations.run_pods import (
    CORES_TAG,
    FETCHES,
    GIVEN_MEMORY_TAG,
    MEMORY_TAG,
    SEARCHES,
    TRAINS,
    WORK_TAG,
    PodRequestError,
    PodSize,
    Work,
    given_memory_gib,
    pod_size,
    pool_of,
    training_memory_gib,
    training_room_gib,
    work_of,
)
from cvntrade_assets.settings import Settings, resolve

# Assets that neither fit a model nor search: a new asset must be put on one side or the other.
LIGHT = {
    "candles",
    "backtest_candles",
    "features",
    "labels",
    "training_set",
    "calibration",
    "backtest",
    "test_report",
    "evaluation",
    "challenger",
    "drift",
    "model_health",
    "rollout",
    "guardrail_report",
    "morning_report",
    "golden_signals",
    "global_state",
}


def given(**texts: str) -> Settings:
    return resolve(base_env=texts, run={}, now=pd.Timestamp("2025-09-01", tz="UTC"))


def test_of_every_asset_it_is_known_what_it_takes() -> None:
    names = {spec.key.to_user_string() for asset in ASSETS for spec in asset.specs}
    assert names == LIGHT | TRAINS | SEARCHES
    assert not LIGHT & (TRAINS | SEARCHES)


@pytest.mark.parametrize(
    ("pipeline", "work"),
    [
        ("monitoring", Work.REFRESH),
        ("walkforward", Work.TRAINING),
        ("backtesting", Work.TRAINING),
        ("retrain", Work.TRAINING),
        ("discovery", Work.DISCOVERY),
    ],
)
def test_the_pipelines_of_the_manual(pipeline: str, work: Work) -> None:
    assert work_of(PIPELINES[pipeline].assets, {}) is work


def test_nothing_to_build_is_little_work_unless_the_run_says_otherwise() -> None:
    assert work_of((), {}) is Work.REFRESH
    assert work_of((), {WORK_TAG: "training"}) is Work.TRAINING
    with pytest.raises(PodRequestError, match=r"'heavy': expected one of refresh, training, discovery"):
        work_of((), {WORK_TAG: "heavy"})


def test_every_stage_of_a_pool_is_in_it_as_dagster_sees_it() -> None:
    pools = {spec.key.to_user_string(): asset.op.pool for asset in ASSETS for spec in asset.specs}
    assert {name for name, pool in pools.items() if pool == "exchange"} == FETCHES == {"candles", "backtest_candles"}
    assert {name for name, pool in pools.items() if pool == "training"} == TRAINS | SEARCHES
    assert {name for name, pool in pools.items() if pool is None} == LIGHT - FETCHES
    assert pools == {name: pool_of(name) for name in pools}


@pytest.mark.parametrize(
    ("killed_at", "expected"),
    [(None, 4), (1.9, 4), (2, 4), (3.9, 4), (4, 8), (7.9, 8), (8, 8), (16, 16)],
)
def test_what_was_killed_for_memory_gets_the_next_larger_size(killed_at: float | None, expected: float) -> None:
    assert pod_size(Work.TRAINING, given(), {}, killed_at).memory_gib == expected


def test_what_a_run_asks_for_stands_whatever_happened_before() -> None:
    size = pod_size(Work.TRAINING, given(), {MEMORY_TAG: "5", CORES_TAG: "1.5"}, killed_at_gib=5)
    assert size == PodSize(1.5, 5.0)


@pytest.mark.parametrize(
    ("tag", "fine", "wrong"),
    [(CORES_TAG, ("0.1", "64"), ("0.09", "64.1", "", "inf")), (MEMORY_TAG, ("0.5", "256"), ("0.49", "256.1", "-4"))],
)
def test_what_may_be_asked_for(tag: str, fine: tuple[str, ...], wrong: tuple[str, ...]) -> None:
    for text in fine:
        pod_size(Work.REFRESH, given(), {tag: text})
    for text in wrong:
        with pytest.raises(PodRequestError, match=tag):
            pod_size(Work.REFRESH, given(), {tag: text})


def test_memory_is_asked_for_whole_and_processors_are_not_capped() -> None:
    resources = PodSize(0.25, 1.5).resources
    assert resources == {"requests": {"cpu": "250m", "memory": "1536Mi"}, "limits": {"memory": "1536Mi"}}


def test_what_a_pod_was_given_is_read_back_from_the_run() -> None:
    assert given_memory_gib(PodSize(1.0, 6.5).tags) == 6.5
    assert given_memory_gib({MEMORY_TAG: "6.5"}) is None
    assert GIVEN_MEMORY_TAG != MEMORY_TAG
    assert training_memory_gib(given(CVN_POD_TRAINING_MEMORY_GIB="7")) == 7


@pytest.mark.parametrize(
    ("work", "expected"), [(Work.REFRESH, 4.0), (Work.TRAINING, 2.0), (Work.DISCOVERY, 2.0), (None, 2.0)]
)
def test_a_run_that_does_not_train_is_held_against_the_pod_of_one_that_does(work: Work | None, expected: float) -> None:
    tags = PodSize(1.0, 2.0).tags | ({} if work is None else {WORK_TAG: str(work)})
    assert training_room_gib(tags, given()) == expected
    # Without a pod nothing limits it but the guardrail.
    assert training_room_gib({WORK_TAG: "refresh"}, given()) is None
