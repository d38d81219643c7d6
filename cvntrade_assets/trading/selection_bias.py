"""Sharpe ratios that know about luck: the probabilistic one, and the one deflated by how many trials were made.

Every Sharpe ratio here is per observation (mean over standard deviation of, say, daily returns), never annualised;
the risk-free rate is zero. What is undefined is None.

A strategy that was picked as the best of N has the largest of N estimates, and the largest of N estimates is positive
even when every true Sharpe ratio is zero. The deflated Sharpe ratio is the probability that the true Sharpe ratio is
above what the best of N worthless trials is expected to show.

The test takes the observations for independent. Daily returns of trades that last hours nearly are; returns of single
candles are not, and would claim certainty that nobody has.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

Returns: TypeAlias = "npt.NDArray[np.float64] | pd.Series[Any] | Sequence[float]"

LEAST_OBSERVATIONS = 10
"""A fourth moment from fewer observations says nothing, and the test below leans on it."""

_NORMAL = NormalDist()
_FLAT = 1e-12
_NOTHING = 1e-100
"""Squares of smaller returns than this are no numbers any more."""


class SelectionBiasError(ValueError):
    """Returns or a number of trials that cannot be judged; the message says what is wrong."""


def sharpe_ratio(returns: Returns) -> float | None:
    """Mean over sample standard deviation (n - 1), per observation; None when it is undefined.

    It is undefined for fewer than two returns and for returns that are all the same: those of a strategy that never
    traded, above all.

    Raises:
        SelectionBiasError: A return is not a finite number.
    """
    values = _checked(returns)
    if _is_flat(values):
        return None
    return float(values.mean() / values.std(ddof=1))


def probabilistic_sharpe(returns: Returns, benchmark_sharpe: float = 0.0) -> float | None:
    """The probability that the true Sharpe ratio is above a benchmark, given these returns.

    Bailey and López de Prado (2012), "The Sharpe ratio efficient frontier", with the skewness and the kurtosis that
    the returns have (moments about the mean divided by n).

    Args:
        returns: One simple return per period, all periods of equal length, those without a trade too.
        benchmark_sharpe: What to be above, per observation.

    Returns:
        A probability; None for fewer than `LEAST_OBSERVATIONS` returns, and where the Sharpe ratio is undefined.

    Raises:
        SelectionBiasError: A return or the benchmark is not a finite number.
    """
    values = _checked(returns)
    sharpe = sharpe_ratio(values)
    if sharpe is None or values.size < LEAST_OBSERVATIONS:
        return None
    centred = values - values.mean()
    spread = math.sqrt(float(np.mean(centred**2)))
    return probability_above(
        sharpe,
        benchmark_sharpe,
        observations=values.size,
        skewness=float(np.mean((centred / spread) ** 3)),
        kurtosis=float(np.mean((centred / spread) ** 4)),
    )


def probability_above(
    sharpe: float, benchmark: float, *, observations: int, skewness: float = 0.0, kurtosis: float = 3.0
) -> float | None:
    """Φ((SR - SR*) √(T - 1) / √(1 - γ3 SR + (γ4 - 1) / 4 SR²)), the probabilistic Sharpe ratio from moments.

    Args:
        sharpe: The estimate, per observation.
        benchmark: What to be above, per observation.
        observations: T.
        skewness: γ3 of the returns; 0 for normal ones.
        kurtosis: γ4 of the returns, not in excess: 3 for normal ones.

    Returns:
        A probability; None when the estimate's variance is not positive, which only returns of two values reach.

    Raises:
        SelectionBiasError: Fewer than two observations, or a number that is not finite.
    """
    if observations < 2:
        raise SelectionBiasError(f"{observations} observation(s): expected at least 2")
    if not all(math.isfinite(value) for value in (sharpe, benchmark, skewness, kurtosis)):
        raise SelectionBiasError(
            f"Sharpe ratio {sharpe}, benchmark {benchmark}, skewness {skewness}, kurtosis {kurtosis}: "
            "expected finite numbers; leave out what is undefined"
        )
    variance = 1.0 - skewness * sharpe + (kurtosis - 1.0) / 4.0 * sharpe**2
    if variance <= _FLAT:
        return None
    return _NORMAL.cdf((sharpe - benchmark) * math.sqrt(observations - 1) / math.sqrt(variance))


def expected_max_sharpe(n_trials: int, variance: float) -> float:
    """The Sharpe ratio to expect of the best of `n_trials` independent trials whose true Sharpe ratios are all zero.

    √V ((1 - γ) Φ⁻¹(1 - 1/N) + γ Φ⁻¹(1 - 1/(N e))) with the Euler-Mascheroni constant γ: Bailey and López de Prado
    (2014), "The deflated Sharpe ratio", equation 1. It is asymptotic in N: 0.05 √V too low at N = 2, 0.04 √V too
    high at N = 10, 0.01 √V at N = 450. Of a single trial nothing was chosen: 0.

    Args:
        n_trials: N, at least 1.
        variance: V, of the Sharpe ratios across the trials.

    Raises:
        SelectionBiasError: No trial, or a variance that is negative or not finite.
    """
    _check_trials(n_trials)
    if not (math.isfinite(variance) and variance >= 0.0):
        raise SelectionBiasError(f"variance across trials is {variance}: expected a finite number from 0 on")
    if n_trials == 1:
        return 0.0
    high = _NORMAL.inv_cdf(1.0 - 1.0 / n_trials)
    higher = _NORMAL.inv_cdf(1.0 - 1.0 / (n_trials * math.e))
    return math.sqrt(variance) * ((1.0 - np.euler_gamma) * high + np.euler_gamma * higher)


def trial_variance(trial_sharpes: Sequence[float | None], n_observations: int) -> float:
    """Variance of the Sharpe ratio across trials: the sample variance (n - 1) of those that are known.

    With fewer than two known it is what chance alone gives an estimate from T returns whose true Sharpe ratio is
    zero: 1 / (T - 1), the square of the standard error in `probability_above` at SR = 0 (Lo 2002, "The statistics of
    Sharpe ratios", has 1 / T). It treats the trials as independent, so it errs towards deflating too much.

    Args:
        trial_sharpes: Per-observation Sharpe ratios of trials, the judged one among them; None where undefined,
            which says nothing of the variance.
        n_observations: T of the judged trial.

    Raises:
        SelectionBiasError: A Sharpe ratio is not finite, or there are fewer than two observations.
    """
    known = _checked([value for value in trial_sharpes if value is not None])
    if known.size >= 2:
        return float(known.var(ddof=1))
    if n_observations < 2:
        raise SelectionBiasError(f"{n_observations} observation(s): expected at least 2")
    return 1.0 / (n_observations - 1)


def deflated_sharpe(returns: Returns, trial_sharpes: Sequence[float | None], n_trials: int) -> float | None:
    """The probability that the true Sharpe ratio is above the one to expect of the best of `n_trials` of no worth.

    The probabilistic Sharpe ratio against `expected_max_sharpe`: Bailey and López de Prado (2014), "The deflated
    Sharpe ratio: correcting for selection bias, backtest overfitting and non-normality". With one trial it is the
    probabilistic Sharpe ratio against 0. Trials that resemble each other differ little, so their own variance already
    says how much choosing among them can have gained; `n_trials` counts them all.

    Args:
        returns: Of the chosen trial, one per period.
        trial_sharpes: Per-observation Sharpe ratios of the trials that are known, the chosen one among them, over
            periods of the same length; None for a trial whose Sharpe ratio is undefined. `trial_variance` says what
            happens when fewer than two are known.
        n_trials: How many were tried, with those whose Sharpe ratios nobody kept.

    Returns:
        A probability; None where `probabilistic_sharpe` is undefined.

    Raises:
        SelectionBiasError: A number is not finite, or fewer trials were counted than Sharpe ratios given.
    """
    _check_trials(n_trials)
    if len(trial_sharpes) > n_trials:
        raise SelectionBiasError(
            f"{len(trial_sharpes)} Sharpe ratios of {n_trials} trial(s): count every trial, kept or not"
        )
    values = _checked(returns)
    if values.size < LEAST_OBSERVATIONS:
        return None
    benchmark = expected_max_sharpe(n_trials, trial_variance(trial_sharpes, values.size))
    return probabilistic_sharpe(values, benchmark)


def _checked(values: Returns | Sequence[float]) -> npt.NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise SelectionBiasError(f"expected one column of numbers, got shape {array.shape}")
    if not np.isfinite(array).all():
        where = int(np.argmin(np.isfinite(array)))
        raise SelectionBiasError(
            f"number {where} is {array[where]}: expected finite ones; a period without a trade has the return 0"
        )
    return array


def _is_flat(values: npt.NDArray[np.float64]) -> bool:
    """Whether nothing moves: the spread is no more than what rounding makes of equal numbers."""
    return values.size < 2 or float(np.ptp(values)) <= _FLAT * float(np.abs(values).max()) + _NOTHING


def _check_trials(n_trials: int) -> None:
    if isinstance(n_trials, bool) or not isinstance(n_trials, int) or n_trials < 1:
        raise SelectionBiasError(f"number of trials is {n_trials!r}: expected a whole number from 1 on")
