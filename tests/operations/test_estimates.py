"""The cost model: its coefficients are those of the measured runs, its error on held-out runs, and that it is sane."""

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from benchmarks.fit_estimates import FILE, fit, held_out_errors, read_runs
from cvntrade_assets.operations import estimates
from cvntrade_assets.operations.estimates import RunEstimate, RunSize, estimate_run
from cvntrade_assets.settings import resolve

NOW = pd.Timestamp("2025-09-01", tz="UTC")
USUAL = RunSize(candles=35_040, train_rows=1_800, offered_features=177, model_features=60)

Texts = dict[str, str]


def estimate(size: RunSize = USUAL, run: Mapping[str, str] | None = None) -> RunEstimate:
    return estimate_run(size, resolve(base_env={}, run=run or {}, now=NOW))


def test_the_coefficients_are_those_of_the_measured_runs() -> None:
    for name, values in fit(read_runs()).items():
        assert getattr(estimates, name) == pytest.approx(values, rel=1e-3, abs=1e-6), name


def test_half_of_the_held_out_runs_are_estimated_within_thirty_percent() -> None:
    errors = held_out_errors(read_runs())
    assert np.median(errors.memory) <= 0.30
    assert np.median(errors.minutes) <= 0.30


def test_the_measured_runs_are_a_spread() -> None:
    runs = pd.read_csv(FILE)
    assert len(runs) >= 40
    assert runs["train_rows"].min() < 200 and runs["train_rows"].max() > 27_000
    assert runs["candles"].nunique() > 5
    for key, text in {
        "CVN_BINARY_CLASSIFICATION": "0",
        "CVN_FOCAL_LOSS": "1",
        "CVN_CLEANLAB": "filter",
        "CVN_LABEL_SMOOTHING": "mild",
        "CVN_TUNING_WORKERS": "1",
        "CVN_CUSUM_TRAINING_ENABLED": "0",
    }.items():
        assert runs["settings"].fillna("").str.contains(f"{key}={text}").any(), key


def test_the_usual_run_is_a_matter_of_a_minute_and_a_gibibyte() -> None:
    usual = estimate()
    assert 0.1 < usual.minutes < 1.5
    assert 0.5 < usual.memory_gib < 1.5


def test_what_an_incident_once_cost_hours_is_estimated_as_more() -> None:
    whole = replace(USUAL, train_rows=28_000)
    assert estimate(whole).minutes > 1.3 * estimate().minutes
    assert estimate(whole).memory_gib > estimate().memory_gib


def test_limits_can_be_reached() -> None:
    huge = RunSize(candles=2_000_000, train_rows=1_600_000, offered_features=177, model_features=177)
    many = {"CVN_TUNING_WORKERS": "16", "CVN_TUNING_FOLDS": "5", "CVN_DEFAULT_N_TRIALS": "1000"}
    assert estimate(huge, many).memory_gib > 24
    assert estimate(huge, many).minutes > 30


# Sanity far away from what was measured

sizes = st.builds(
    lambda candles, kept, offered, chosen: RunSize(
        candles, round(candles * kept), offered, max(1, min(offered, chosen))
    ),
    st.integers(1, 5_000_000),
    st.floats(0, 1),
    st.integers(1, 2_000),
    st.integers(1, 1_000),
)
runs = st.fixed_dictionaries(
    {
        "CVN_DEFAULT_N_TRIALS": st.integers(1, 1000).map(str),
        "CVN_TUNING_FOLDS": st.integers(2, 20).map(str),
        "CVN_TUNING_WORKERS": st.integers(1, 64).map(str),
        "CVN_CLEANLAB": st.sampled_from(("off", "filter", "reweight")),
        "CVN_LABEL_SMOOTHING": st.sampled_from(("none", "mild", "aggressive")),
        "CVN_HPO_XGBOOST_30M_NUM_BOOST_ROUND": st.integers(10, 5000).map(str),
        "CVN_HPO_XGBOOST_30M_EARLY_STOPPING_ROUNDS": st.integers(5, 500).map(str),
    },
    optional={
        "CVN_HPO_XGBOOST_30M_LEARNING_RATE": st.floats(0.02, 0.3).map(str),
        "CVN_HPO_XGBOOST_30M_MAX_DEPTH": st.integers(2, 6).map(str),
        "CVN_HPO_XGBOOST_30M_MAX_BIN": st.integers(16, 1024).map(str),
    },
)
kinds = st.sampled_from(
    ({}, {"CVN_FOCAL_LOSS": "1"}, {"CVN_BINARY_CLASSIFICATION": "0", "CVN_THRESHOLD_METHOD": "expected_value"})
)
GROWING = (
    "CVN_DEFAULT_N_TRIALS",
    "CVN_TUNING_FOLDS",
    "CVN_HPO_XGBOOST_30M_NUM_BOOST_ROUND",
    "CVN_HPO_XGBOOST_30M_EARLY_STOPPING_ROUNDS",
)
CEILINGS = {"CVN_DEFAULT_N_TRIALS": 1000, "CVN_TUNING_FOLDS": 20, GROWING[2]: 5000, GROWING[3]: 500}


def at_least(more: RunEstimate, less: RunEstimate) -> bool:
    # Additions in another order may differ in the last digit.
    slack = 1 + 1e-12
    return more.memory_gib * slack >= less.memory_gib and more.minutes * slack >= less.minutes


@hypothesis_settings(max_examples=300, deadline=None)
@given(sizes, runs, kinds, st.integers(1, 1_000_000), st.data())
def test_more_never_costs_less(size: RunSize, run: Texts, kind: Texts, more: int, data: st.DataObject) -> None:
    before = estimate(size, run | kind)
    for estimated in (before.memory_gib, before.minutes):
        assert math.isfinite(estimated) and estimated > 0
    field = data.draw(st.sampled_from(("candles", "train_rows", "offered_features", "model_features")))
    assert at_least(estimate(replace(size, **{field: getattr(size, field) + more}), run | kind), before)
    key = data.draw(st.sampled_from(GROWING))
    grown = {key: str(min(CEILINGS[key], int(run[key]) + more))}
    assert at_least(estimate(size, run | kind | grown), before)


@hypothesis_settings(max_examples=100, deadline=None)
@given(sizes, runs)
def test_what_is_asked_for_in_addition_never_costs_less(size: RunSize, run: Texts) -> None:
    plain = run | {"CVN_CLEANLAB": "off", "CVN_LABEL_SMOOTHING": "none"}
    assert at_least(estimate(size, plain | {"CVN_CLEANLAB": "filter"}), estimate(size, plain))
    assert at_least(estimate(size, plain | {"CVN_FOCAL_LOSS": "1"}), estimate(size, plain))


@hypothesis_settings(max_examples=100, deadline=None)
@given(sizes, runs, st.integers(1, 63))
def test_more_workers_need_more_memory_and_no_more_time(size: RunSize, run: Texts, more: int) -> None:
    some = int(run["CVN_TUNING_WORKERS"])
    many = run | {"CVN_TUNING_WORKERS": str(min(64, some + more))}
    assert estimate(size, many).memory_gib >= estimate(size, run).memory_gib
    if some > 1:
        assert estimate(size, many).minutes <= estimate(size, run).minutes * (1 + 1e-12)
