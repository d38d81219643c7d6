"""What the whole chain says of markets whose truth is known: nothing where there is nothing to learn.

Everything goes the way it goes in the product, from candles to the test report, but for a larger test slice (with the
product's, a fifteenth of two years, twenty reports do not tell a small leak from luck), a single tuning trial, and
intervals of two resamples, which nobody reads here. `python -m benchmarks.honesty` does the same on a hundred seeds.

Average precision is biased upwards on few dependent rows, by about 0.0005 here; the lift is judged with and without it.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from unittest import mock

import numpy as np
import pytest

from benchmarks.honesty import report
from cvntrade_assets.learning.intervals import score_intervals
from cvntrade_assets.learning.report import TestReport as Report

SEEDS = range(20)
STRONG_SEEDS = range(5)
SCORES: dict[str, Callable[[Report], float]] = {
    "f1_buy - baseline_f1_buy": lambda one: one.f1_buy_delta,
    "PR-AUC - buy_rate": lambda one: one.pr_auc_lift,
    "PR-AUC - chance": lambda one: one.pr_auc - one.pr_auc_chance,
}


def mean_and_error(values: Sequence[float]) -> tuple[float, float]:
    return float(np.mean(values)), float(np.std(values, ddof=1)) / math.sqrt(len(values))


@pytest.fixture(scope="module", autouse=True)
def short_of_resamples() -> Iterator[None]:
    """No score depends on them, and most of the time goes there."""
    with mock.patch("cvntrade_assets.learning.report.score_intervals", partial(score_intervals, n_boot=2)):
        yield


@pytest.fixture(scope="module")
def nothing_to_learn() -> list[Report]:
    return [report("0", seed) for seed in SEEDS]


@pytest.fixture(scope="module")
def much_to_learn() -> list[Report]:
    return [report("1", seed) for seed in STRONG_SEEDS]


@pytest.mark.parametrize("score", SCORES)
def test_a_market_with_nothing_to_learn_teaches_nothing(nothing_to_learn: list[Report], score: str) -> None:
    mean, error = mean_and_error([SCORES[score](one) for one in nothing_to_learn])
    assert error < 0.005, "too noisy to say anything"
    assert mean <= error, f"{score} is {mean:.4f} ± {error:.4f} over {len(SEEDS)} seeds"


def test_no_probability_beats_the_base_rate_where_there_is_nothing_to_learn(nothing_to_learn: list[Report]) -> None:
    mean, error = mean_and_error([one.brier_base_rate - one.brier_after for one in nothing_to_learn])
    assert mean <= error


@pytest.mark.parametrize("score", SCORES)
def test_a_strong_signal_is_found(much_to_learn: list[Report], score: str) -> None:
    values = [SCORES[score](one) for one in much_to_learn]
    mean, error = mean_and_error(values)
    assert min(values) > 0.0
    assert mean > 0.05 + 2.0 * error, f"{score} is {mean:.4f} ± {error:.4f} over {len(STRONG_SEEDS)} seeds"
