"""The stationary bootstrap: its variance in closed form, its blocks, its coverage on a dependent series."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy.signal import lfilter

from cvntrade_assets.trading.resampling import (
    UNDEFINED,
    ResamplingError,
    stationary_bootstrap_intervals,
    stationary_rows,
)


def mean(values: np.ndarray) -> dict[str, float]:
    return {"mean": float(values.mean()) if values.size else math.nan}


def dependent(n: int, seed: int, memory: float) -> np.ndarray:
    """An autoregressive series of mean zero."""
    shocks = np.random.default_rng(seed).normal(size=n + 100)
    return lfilter([1.0], [1.0, -memory], shocks)[100:]


def closed_form_variance(values: np.ndarray, mean_block: float) -> float:
    """Of the resampled mean: Politis and Romano (1994), lemma 1."""
    n, p, centred = len(values), 1 / mean_block, values - values.mean()
    total = np.mean(centred**2)
    for lag in range(1, n):
        covariance = np.sum(centred[:-lag] * centred[lag:]) / n
        weight = (1 - lag / n) * (1 - p) ** lag + lag / n * (1 - p) ** (n - lag)
        total += 2 * weight * covariance
    return float(total / n)


@pytest.mark.parametrize("mean_block", [1.0, 4.0, 12.5])
def test_the_mean_varies_as_politis_and_romano_say(mean_block: float) -> None:
    values = dependent(80, seed=1, memory=0.6)
    means = [values[rows].mean() for rows in stationary_rows(80, mean_block=mean_block, seed=0, n_boot=6_000)]
    assert np.var(means) == pytest.approx(closed_form_variance(values, mean_block), rel=0.07)
    assert np.mean(means) == pytest.approx(values.mean(), abs=4 * np.std(means) / math.sqrt(6_000))


@pytest.mark.parametrize(("n", "mean_block"), [(50, 1.0), (50, 5.0), (7, 3.0), (300, 40.0)])
def test_rows_go_on_as_often_as_blocks_are_long(n: int, mean_block: float) -> None:
    rows = np.array(list(stationary_rows(n, mean_block=mean_block, seed=3, n_boot=3_000)))
    assert rows.shape == (3_000, n)
    assert rows.min() == 0
    assert rows.max() == n - 1
    goes_on = np.mean(np.diff(rows, axis=1) % n == 1 % n)
    # A block that ends is followed by the next row by chance once in n.
    assert goes_on == pytest.approx(1 - 1 / mean_block + 1 / mean_block / n, abs=0.01)
    np.testing.assert_allclose(np.bincount(rows.ravel(), minlength=n) / rows.size * n, 1.0, atol=0.35)


def coverage(memory: float, mean_block: float, series: int = 150) -> float:
    """How often the interval of the mean holds the true one, 0."""
    held = 0
    for seed in range(series):
        ends = stationary_bootstrap_intervals(
            dependent(250, seed, memory), mean, mean_block=mean_block, seed=seed, n_boot=120
        )["mean"]
        assert ends != UNDEFINED
        held += ends[0] <= 0.0 <= ends[1]
    return held / series


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    assert coverage(memory=0.0, mean_block=1.0) == pytest.approx(0.9, abs=0.06)
    # 250 dependent values are worth 83 independent ones, and blocks lose what reaches across their rims.
    in_blocks, one_by_one = coverage(memory=0.5, mean_block=12.0), coverage(memory=0.5, mean_block=1.0)
    assert 0.79 < in_blocks < 0.92
    assert one_by_one < in_blocks - 0.1


def test_a_higher_level_makes_a_wider_interval() -> None:
    values = dependent(200, seed=0, memory=0.3)
    narrow, wide = (
        stationary_bootstrap_intervals(values, mean, mean_block=5, seed=0, level=level)["mean"] for level in (0.5, 0.99)
    )
    assert wide[0] < narrow[0] < values.mean() < narrow[1] < wide[1]


def test_every_statistic_sees_the_same_resamples() -> None:
    values = dependent(100, seed=2, memory=0.3)
    both = stationary_bootstrap_intervals(
        values, lambda x: mean(x) | {"double": float(2 * x.mean())}, mean_block=4, seed=1, n_boot=100
    )
    assert both["double"] == pytest.approx(tuple(2 * end for end in both["mean"]))
    assert both["mean"] == stationary_bootstrap_intervals(values, mean, mean_block=4, seed=1, n_boot=100)["mean"]
    assert both["mean"] != stationary_bootstrap_intervals(values, mean, mean_block=4, seed=2, n_boot=100)["mean"]


@pytest.mark.parametrize("nothing", [None, math.nan])
def test_what_is_undefined_on_the_series_is_undefined(nothing: float | None) -> None:
    found = stationary_bootstrap_intervals(np.arange(50.0), lambda x: mean(x) | {"no": nothing}, mean_block=2, seed=0)
    assert found["no"] == UNDEFINED
    assert found["mean"] != UNDEFINED


@pytest.mark.parametrize(("losses", "is_defined"), [(1, False), (5, True)])
def test_what_is_undefined_on_many_resamples_is_undefined(losses: int, is_defined: bool) -> None:
    trades = np.where(np.arange(60) < losses, -0.01 - 0.001 * np.arange(60), 0.01)
    np.random.default_rng(0).shuffle(trades)

    def loss(values: np.ndarray) -> dict[str, float | None]:
        return {"loss": float(values[values < 0].mean()) if (values < 0).any() else None}

    found = stationary_bootstrap_intervals(trades, loss, mean_block=1, seed=0)["loss"]
    assert (found != UNDEFINED) == is_defined


@pytest.mark.parametrize(("n", "is_defined"), [(0, False), (1, False), (24, False), (25, True)])
def test_fewer_than_five_blocks_give_no_interval(n: int, is_defined: bool) -> None:
    found = stationary_bootstrap_intervals(np.arange(float(n)), mean, mean_block=5, seed=0)["mean"]
    assert (found != UNDEFINED) == is_defined


@pytest.mark.parametrize("constant", [0.0, 0.1, 2.0, -1e-7])
def test_what_never_varies_has_no_interval(constant: float) -> None:
    values = np.full(40, constant)
    assert stationary_bootstrap_intervals(values, mean, mean_block=4, seed=0)["mean"] == UNDEFINED
    values[::7] += 0.01
    assert stationary_bootstrap_intervals(values, mean, mean_block=4, seed=0)["mean"] != UNDEFINED


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        ([0.1, math.nan] * 20, {}, "value 1 is nan"),
        ([0.1, 0.2, math.inf] * 20, {}, "value 2 is inf"),
        (np.zeros((20, 2)), {}, "one column"),
        (np.zeros(20), {"mean_block": 0.5}, "at least 1"),
        (np.zeros(20), {"mean_block": math.nan}, "at least 1"),
        (np.zeros(20), {"n_boot": 0}, "at least 1"),
        (np.zeros(20), {"level": 1.0}, r"within \(0, 1\)"),
        (np.zeros(20), {"level": 0.0}, r"within \(0, 1\)"),
    ],
)
def test_what_nothing_can_be_drawn_from_is_refused(values: object, options: dict, message: str) -> None:
    with pytest.raises(ResamplingError, match=message):
        stationary_bootstrap_intervals(values, mean, **{"mean_block": 2.0, "seed": 0} | options)


def test_a_series_of_pandas_is_read_like_an_array() -> None:
    values = dependent(60, seed=0, memory=0.2)
    days = pd.Series(values, index=pd.date_range("2025-01-01", periods=60, tz="UTC"))
    options = {"mean_block": 3.0, "seed": 0, "n_boot": 50}
    assert stationary_bootstrap_intervals(days, mean, **options) == stationary_bootstrap_intervals(
        values, mean, **options
    )
