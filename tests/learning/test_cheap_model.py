"""The cheap model on shared matrices: what weighs nothing is not there, and points do not feel each other."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import xgboost as xgb

from cvntrade_assets.learning.boosting import FixedTrees
from cvntrade_assets.learning.cheap_model import CHEAP, CheapModelError, SharedMatrices

ROUNDS = CHEAP.rounds
UNSAMPLED = {**CHEAP.params, "subsample": 1.0, "colsample_bytree": 1.0}
WHOLE = FixedTrees(UNSAMPLED, ROUNDS)


def make_rows(rows: int, seed: int) -> tuple[pd.DataFrame, npt.NDArray[np.float64]]:
    rng = np.random.default_rng(seed)
    features = pd.DataFrame(rng.normal(size=(rows, 6)).astype(np.float32), columns=list("abcdef"))
    labels = (features["a"] + rng.normal(size=rows) > 0.5).to_numpy(dtype=np.float64)
    return features, labels


@pytest.fixture(scope="module")
def learned() -> tuple[pd.DataFrame, npt.NDArray[np.float64]]:
    return make_rows(400, 1)


@pytest.fixture(scope="module")
def scored() -> pd.DataFrame:
    return make_rows(150, 2)[0]


def test_scores_are_those_of_xgboost_on_a_plain_matrix(learned: Any, scored: pd.DataFrame):
    features, labels = learned
    weights = np.random.default_rng(3).uniform(0.5, 2.0, len(labels))
    # Bins are made without weights, so that all points share them.
    unweighted = xgb.QuantileDMatrix(features, max_bin=64, nthread=1)
    matrix = xgb.QuantileDMatrix(features, labels, weight=weights, ref=unweighted, max_bin=64, nthread=1)
    params = {
        **UNSAMPLED,
        "objective": "binary:logistic",
        "max_bin": 64,
        "base_score": np.average(labels, weights=weights),
    }
    expected = xgb.train(params, matrix, ROUNDS).predict(xgb.DMatrix(scored))
    found = SharedMatrices(features, scored, WHOLE).scores(labels, weights, seed=0)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert found.dtype == np.float64


def test_a_row_that_weighs_nothing_is_not_learned_from(learned: Any, scored: pd.DataFrame):
    features, labels = learned
    kept = np.random.default_rng(4).random(len(labels)) < 0.7
    matrices = SharedMatrices(features, scored, WHOLE)
    found = matrices.scores(labels, kept.astype(np.float64), seed=0)

    ref = xgb.QuantileDMatrix(features, max_bin=64, nthread=1)
    only = xgb.QuantileDMatrix(features[kept], labels[kept], ref=ref, max_bin=64, nthread=1)
    params = {**UNSAMPLED, "objective": "binary:logistic", "max_bin": 64, "base_score": labels[kept].mean()}
    np.testing.assert_allclose(found, xgb.train(params, only, ROUNDS).predict(xgb.DMatrix(scored)), rtol=1e-5)

    other = np.where(kept, labels, 1.0 - labels)
    assert np.array_equal(found, matrices.scores(other, kept.astype(np.float64), seed=0))
    unknown = np.where(kept, labels, np.nan)
    assert np.array_equal(found, matrices.scores(unknown, kept.astype(np.float64), seed=0))
    assert not np.array_equal(found, matrices.scores(labels, np.ones(len(labels)), seed=0))


def test_points_do_not_feel_each_other(learned: Any, scored: pd.DataFrame):
    features, labels = learned
    weights, shared = np.ones(len(labels)), SharedMatrices(features, scored)
    first = shared.scores(labels, weights, seed=7)
    shared.scores(1.0 - labels, np.where(labels > 0, 3.0, 0.5), seed=7)
    assert np.array_equal(first, shared.scores(labels, weights, seed=7))
    assert np.array_equal(first, SharedMatrices(features, scored).scores(labels, weights, seed=7))
    assert not np.array_equal(first, shared.scores(labels, weights, seed=8))


@pytest.mark.parametrize(
    ("labels", "weights", "message"),
    [
        (np.ones(400), np.ones(400), "each of the 400 training labels is BUY"),
        (np.zeros(400), np.ones(400), "each of the 400 training labels is not BUY"),
        (np.arange(400) < 10, (np.arange(400) >= 10) * 1.0, "each of the 390 training labels is not BUY"),
        (np.arange(400) < 10, np.zeros(400), "no training row is left"),
    ],
)
def test_labels_that_nothing_can_be_fitted_to(learned: Any, scored: Any, labels: Any, weights: Any, message: str):
    with pytest.raises(CheapModelError, match=message):
        SharedMatrices(learned[0], scored).scores(labels.astype(np.float64), weights, seed=0)


def test_other_columns_are_refused(learned: Any, scored: pd.DataFrame):
    with pytest.raises(CheapModelError, match="position 0 is 'b', expected 'a'"):
        SharedMatrices(learned[0], scored[list("bacdef")])
