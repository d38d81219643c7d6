"""The focal loss against central differences, the logistic loss, and the edges of floating point."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xgboost as xgb
from hypothesis import given
from hypothesis import strategies as st

from cvntrade_assets.learning.focal_loss import (
    HESSIAN_FLOOR,
    focal_gradient,
    focal_hessian,
    focal_loss,
    focal_metric,
    focal_objective,
)

MARGINS = np.linspace(-8.0, 8.0, 33)
GAMMAS = (0.0, 0.5, 1.0, 2.0, 5.0)
LABELS = (0.0, 0.3, 0.7, 0.9, 1.0)


@pytest.mark.parametrize(
    ("margin", "label", "gamma", "expected"),
    [
        (0.0, 1.0, 0.0, np.log(2.0)),
        (0.0, 1.0, 2.0, 0.25 * np.log(2.0)),
        (0.0, 0.0, 2.0, 0.25 * np.log(2.0)),
        (np.log(9.0), 1.0, 2.0, -0.01 * np.log(0.9)),
        (np.log(9.0), 0.0, 2.0, -0.81 * np.log(0.1)),
        (np.log(9.0), 0.5, 2.0, -0.5 * (0.01 * np.log(0.9) + 0.81 * np.log(0.1))),
    ],
)
def test_the_loss_is_the_papers_formula(margin, label, gamma, expected):
    assert focal_loss(margin, label, gamma) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("gamma", GAMMAS)
@pytest.mark.parametrize("label", LABELS)
def test_derivatives_agree_with_central_differences(label, gamma):
    h = 1e-5
    slope = (focal_loss(MARGINS + h, label, gamma) - focal_loss(MARGINS - h, label, gamma)) / (2 * h)
    bend = (focal_gradient(MARGINS + h, label, gamma) - focal_gradient(MARGINS - h, label, gamma)) / (2 * h)
    np.testing.assert_allclose(focal_gradient(MARGINS, label, gamma), slope, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(focal_hessian(MARGINS, label, gamma), bend, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("label", LABELS)
def test_gamma_zero_is_the_logistic_loss(label):
    p = 1.0 / (1.0 + np.exp(-MARGINS))
    np.testing.assert_allclose(focal_gradient(MARGINS, label, 0.0), p - label, atol=1e-14)
    np.testing.assert_allclose(focal_hessian(MARGINS, label, 0.0), p * (1 - p), atol=1e-14)


@given(
    margin=st.floats(-1e6, 1e6),
    label=st.floats(0.0, 1.0),
    gamma=st.floats(0.0, 10.0),
)
def test_every_margin_gives_finite_numbers(margin, label, gamma):
    assert 0.0 <= focal_loss(margin, label, gamma) < 40.0
    assert abs(focal_gradient(margin, label, gamma)) < 15.0
    assert np.isfinite(focal_hessian(margin, label, gamma))


@given(margin=st.floats(-30.0, 30.0), label=st.floats(0.0, 1.0), gamma=st.floats(0.0, 5.0))
def test_buy_and_not_buy_mirror_each_other(margin, label, gamma):
    mirrored = -focal_gradient(-margin, 1.0 - label, gamma)
    assert focal_gradient(margin, label, gamma) == pytest.approx(mirrored, rel=1e-9, abs=1e-14)


def test_a_hopeless_row_keeps_its_gradient_and_a_confident_one_loses_it():
    assert focal_gradient(-50.0, 1.0, 2.0) == pytest.approx(-1.0)
    assert focal_gradient(50.0, 1.0, 2.0) == pytest.approx(0.0, abs=1e-30)


def test_the_objective_weighs_rows_and_floors_the_hessian():
    labels, weights = np.array([1.0, 0.0, 0.9]), np.array([1.0, 2.0, 0.5])
    margins = np.array([-6.0, 0.3, 1.0], dtype=np.float32)
    matrix = xgb.DMatrix(np.zeros((3, 1)), labels, weight=weights)
    gradient, hessian = focal_objective(2.0)(margins, matrix)
    as_stored = labels.astype(np.float32)
    np.testing.assert_allclose(gradient, focal_gradient(margins, as_stored, 2.0) * weights)
    assert focal_hessian(margins[0], 1.0, 2.0) < 0.0
    assert hessian[0] == HESSIAN_FLOOR
    np.testing.assert_allclose(hessian[1:], focal_hessian(margins, as_stored, 2.0)[1:] * weights[1:])


def test_without_weights_every_row_counts_once():
    matrix = xgb.DMatrix(np.zeros((2, 1)), [1.0, 0.0])
    gradient, _ = focal_objective(1.0)(np.zeros(2), matrix)
    np.testing.assert_allclose(gradient, focal_gradient(np.zeros(2), np.array([1.0, 0.0]), 1.0))
    assert focal_metric(0.0)(np.zeros(2), matrix) == ("focal", pytest.approx(np.log(2.0)))


@pytest.mark.parametrize("gamma", [-0.1, 10.5, float("nan")])
def test_a_gamma_out_of_range_is_refused(gamma):
    with pytest.raises(ValueError, match="expected a number from 0"):
        focal_objective(gamma)
    with pytest.raises(ValueError, match="gamma"):
        focal_loss(0.0, 1.0, gamma)


def test_importing_the_learning_room_loads_no_heavy_library():
    modules = "focal_loss, training, tuning, label_pipeline"
    heavy = "xgboost, optuna, sympy, cleanlab, sklearn"
    code = (
        f"import sys\nfrom cvntrade_assets.learning import {modules}\n"
        f"sys.exit(' '.join(set('{heavy}'.split(', ')) & set(sys.modules)))"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=root)
    assert done.stderr.strip() == ""
