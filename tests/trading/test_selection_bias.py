"""Sharpe ratios that know about luck: the papers' own numbers, scipy's moments, and the best of worthless trials."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from cvntrade_assets.trading.selection_bias import (
    LEAST_OBSERVATIONS,
    SelectionBiasError,
    deflated_sharpe,
    expected_max_sharpe,
    probabilistic_sharpe,
    probability_above,
    sharpe_ratio,
    trial_variance,
)

DAYS = 250
SERIES = st.lists(st.floats(-0.2, 0.2), min_size=LEAST_OBSERVATIONS, max_size=60)


def noise(n: int, seed: int, mean: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(mean, 0.01, n)


@pytest.mark.parametrize(
    ("observations", "normal", "skewed"),
    # Bailey and López de Prado (2012), section 3: monthly returns, annualised Sharpe ratio 1.59.
    [(24, 0.982, 0.913), (36, 0.995, 0.953)],
)
def test_the_example_of_the_probabilistic_sharpe_ratio(observations: int, normal: float, skewed: float) -> None:
    assert probability_above(0.458, 0.0, observations=observations) == pytest.approx(normal, abs=5e-4)
    found = probability_above(0.458, 0.0, observations=observations, skewness=-2.448, kurtosis=10.164)
    # The paper cuts the second one's fourth digit.
    assert found == pytest.approx(skewed, abs=6e-4)


@pytest.mark.parametrize(
    ("trials", "skewness", "kurtosis", "expected"),
    # Bailey and López de Prado (2014), "A numerical example": 2.5 a year over five years, variance across trials 1/2.
    [(100, -3.0, 10.0, 0.9004), (46, -3.0, 10.0, 0.9505), (88, 0.0, 3.0, 0.9505)],
)
def test_the_example_of_the_deflated_sharpe_ratio(
    trials: int, skewness: float, kurtosis: float, expected: float
) -> None:
    benchmark = expected_max_sharpe(trials, 0.5 / DAYS)
    found = probability_above(
        2.5 / math.sqrt(DAYS), benchmark, observations=5 * DAYS, skewness=skewness, kurtosis=kurtosis
    )
    assert found == pytest.approx(expected, abs=5e-5)


def test_the_example_expects_this_much_of_the_best_of_a_hundred() -> None:
    assert expected_max_sharpe(100, 0.5 / DAYS) == pytest.approx(0.1132, abs=5e-5)


@settings(deadline=None, max_examples=60)
@given(SERIES, st.floats(-0.5, 0.5))
def test_moments_are_those_of_scipy(values: list[float], benchmark: float) -> None:
    returns = np.array(values)
    found = probabilistic_sharpe(returns, benchmark)
    if np.ptp(returns) < 1e-6:
        return
    sharpe = returns.mean() / returns.std(ddof=1)
    assert sharpe_ratio(returns) == pytest.approx(sharpe)
    variance = 1 - stats.skew(returns) * sharpe + (stats.kurtosis(returns, fisher=False) - 1) / 4 * sharpe**2
    if variance > 1e-6:
        expected = stats.norm.cdf((sharpe - benchmark) * math.sqrt(len(returns) - 1) / math.sqrt(variance))
        assert found == pytest.approx(expected, abs=1e-9)


def test_the_expected_maximum_is_that_of_normal_trials() -> None:
    random = np.random.default_rng(0)
    for trials in (2, 5, 10, 50, 450):
        measured = random.normal(0, 0.1, (20_000, trials)).max(axis=1).mean()
        assert expected_max_sharpe(trials, 0.01) == pytest.approx(measured, abs=0.006)


def test_one_trial_is_held_against_zero() -> None:
    returns = noise(120, 1, mean=0.001)
    assert expected_max_sharpe(1, 0.3) == 0.0
    for known in ([], [sharpe_ratio(returns)], [None]):
        assert deflated_sharpe(returns, known, 1) == probabilistic_sharpe(returns, 0.0)


def test_more_trials_deflate_more() -> None:
    returns, known = noise(180, 2, mean=0.002), [0.0, 0.1, 0.2]
    found = [deflated_sharpe(returns, known, trials) for trials in (3, 10, 100, 450)]
    assert found == sorted(found, reverse=True)
    assert len(set(found)) == 4


def test_unknown_trials_vary_as_chance_has_it() -> None:
    returns = noise(101, 3, mean=0.002)
    assert trial_variance([], 101) == trial_variance([None, 0.3, None], 101) == 1 / 100
    assert deflated_sharpe(returns, [None, 0.3], 7) == probabilistic_sharpe(returns, expected_max_sharpe(7, 0.01))
    measured = [sharpe_ratio(noise(101, seed)) for seed in range(3_000)]
    assert np.var(measured) == pytest.approx(1 / 100, rel=0.1)


def test_known_trials_vary_as_they_do() -> None:
    known = [0.1, -0.2, 0.05, None, 0.4]
    assert trial_variance(known, 101) == pytest.approx(np.var([0.1, -0.2, 0.05, 0.4], ddof=1))
    assert trial_variance([0.2, 0.2], 101) == 0.0


def test_the_best_of_many_worthless_trials_is_seen_through() -> None:
    fooled = deceived = 0
    for seed in range(200):
        trials = np.random.default_rng(seed).normal(0, 0.01, (90, 50))
        sharpes = [sharpe_ratio(column) for column in trials.T]
        best = trials[:, int(np.argmax(sharpes))]
        fooled += probabilistic_sharpe(best) >= 0.95
        deceived += deflated_sharpe(best, sharpes, 50) >= 0.95
    assert fooled > 150
    assert deceived <= 5


def test_one_good_trial_among_many_is_recognised() -> None:
    found = 0
    for seed in range(50):
        trials = np.random.default_rng(seed).normal(0, 0.01, (180, 50))
        trials[:, 7] += 0.006
        sharpes = [sharpe_ratio(column) for column in trials.T]
        found += deflated_sharpe(trials[:, 7], sharpes, 50) >= 0.95
    assert found >= 48


@pytest.mark.parametrize(
    "returns",
    [
        np.zeros(90),
        np.full(90, 0.001),
        np.full(90, 0.1) + np.where(np.arange(90) % 2, 1e-17, 0.0),
        np.where(np.arange(90) == 3, 1e-200, 0.0),
        noise(LEAST_OBSERVATIONS - 1, 0),
        np.array([0.01]),
        np.array([]),
    ],
    ids=["no trade", "constant", "constant but for rounding", "nothing but rounding", "too few", "one", "none"],
)
def test_what_is_undefined_is_none(returns: np.ndarray) -> None:
    assert probabilistic_sharpe(returns) is None
    assert deflated_sharpe(returns, [0.1, 0.2], 5) is None
    if returns.size < LEAST_OBSERVATIONS - 1 or returns.size == 90:
        assert sharpe_ratio(returns) is None


def test_the_least_observations_are_enough() -> None:
    assert probabilistic_sharpe(noise(LEAST_OBSERVATIONS, 0)) is not None


def test_two_valued_returns_can_leave_the_estimate_without_a_variance() -> None:
    assert probability_above(1.0, 0.0, observations=20, skewness=2.0, kurtosis=5.0) is None
    assert probability_above(1.0, 0.0, observations=20, skewness=2.0, kurtosis=5.01) is not None


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_none_are_refused(wrong: float) -> None:
    returns = pd.Series([0.01, wrong] * 10)
    with pytest.raises(SelectionBiasError, match=r"number 1 is .*a period without a trade has the return 0"):
        probabilistic_sharpe(returns)
    with pytest.raises(SelectionBiasError, match="number 1 is"):
        sharpe_ratio(returns)
    with pytest.raises(SelectionBiasError, match="expected finite"):
        deflated_sharpe(noise(90, 0), [0.1, wrong], 5)
    with pytest.raises(SelectionBiasError, match="expected finite"):
        probabilistic_sharpe(noise(90, 0), wrong)
    with pytest.raises(SelectionBiasError, match="variance across trials"):
        expected_max_sharpe(5, wrong)


@pytest.mark.parametrize("trials", [0, -1, 2.5, True])
def test_a_number_of_trials_that_is_none_is_refused(trials: int) -> None:
    with pytest.raises(SelectionBiasError, match="whole number from 1 on"):
        deflated_sharpe(noise(90, 0), [], trials)


def test_trials_that_were_not_counted_are_refused() -> None:
    with pytest.raises(SelectionBiasError, match="count every trial"):
        deflated_sharpe(noise(90, 0), [0.1, 0.2, None], 2)
    assert deflated_sharpe(noise(90, 0), [0.1, 0.2, None], 3) is not None


def test_a_table_of_returns_is_refused() -> None:
    with pytest.raises(SelectionBiasError, match="one column"):
        sharpe_ratio(np.zeros((3, 2)))


def test_too_few_observations_are_refused_where_they_are_counted() -> None:
    with pytest.raises(SelectionBiasError, match="at least 2"):
        probability_above(0.1, 0.0, observations=1)
    with pytest.raises(SelectionBiasError, match="at least 2"):
        trial_variance([], 1)
