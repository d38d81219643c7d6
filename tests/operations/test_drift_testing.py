"""Corrections for many tests, against scipy and against the definition of Holm's."""

import numpy as np
import pytest
from scipy import stats

from cvntrade_assets.operations.drift_testing import benjamini_hochberg, holm

RANDOM = np.random.default_rng(5)
LISTS = [[0.03], [0.01, 0.04, 0.03, 0.005], [0.5, 0.5, 0.5], [0.0, 1.0, 0.2], *RANDOM.random((5, 40)) ** 3]


@pytest.mark.parametrize("p_values", LISTS, ids=str)
def test_benjamini_hochberg_is_scipys(p_values: list[float]) -> None:
    np.testing.assert_allclose(benjamini_hochberg(p_values), stats.false_discovery_control(p_values), atol=1e-15)


@pytest.mark.parametrize("p_values", LISTS, ids=str)
def test_holm_rejects_what_stepping_down_rejects(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    for alpha in (0.01, 0.05, 0.2, 0.7):
        rejected = np.zeros(len(p_values), dtype=bool)
        for rank, place in enumerate(np.argsort(p_values, kind="stable")):
            if p_values[place] > alpha / (len(p_values) - rank):
                break
            rejected[place] = True
        np.testing.assert_array_equal(adjusted <= alpha, rejected)


def test_both_keep_their_promise_where_nothing_is() -> None:
    """Of 2,000 families of forty true null hypotheses, at most about a twentieth has a rejection."""
    families = np.random.default_rng(0).random((2000, 40))
    for correct in (benjamini_hochberg, holm):
        rate = np.mean([correct(family).min() < 0.05 for family in families])
        assert 0.035 < rate < 0.065
    assert np.mean(families.min(axis=1) < 0.05) > 0.8


@pytest.mark.parametrize("wrong", [[-0.1], [1.1], [float("nan")], 0.5])
def test_what_is_no_p_value_is_refused(wrong: object) -> None:
    for correct in (benjamini_hochberg, holm):
        with pytest.raises(ValueError, match="p-values within 0 and 1"):
            correct(wrong)  # type: ignore[arg-type]
