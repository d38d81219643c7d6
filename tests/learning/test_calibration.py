"""Calibration: every method from end to end, soft labels refused, nothing inverted, the threshold frozen."""

import json
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cvntrade_assets.learning import calibration as cal
from cvntrade_assets.learning.label_pipeline import prepare_labels
from cvntrade_assets.learning.training import score_buy, train_model

METHODS = list(cal.METHODS)
FITTED = [method for method in METHODS if method != "none"]
EARN = {"threshold_method": "expected_value", "trade_threshold_method": "expected_value"}
OPTIONS = {"threshold_method": "f1_binary", "trade_threshold_method": "expected_value", "cost": 0.002, "seed": 7}


def times(n: int) -> pd.DatetimeIndex:
    return pd.date_range("2025-01-01", periods=n, freq="30min", tz="UTC", name="open_time", unit="ns")


def expit(z):
    return 1 / (1 + np.exp(-z))


def make_slice(n: int = 2_000, slope: float = 0.5, seed: int = 0) -> tuple[pd.Series, pd.Series, pd.Series]:
    """Overconfident scores: the true log-odds are -1 + slope × those of the score."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=n)
    labels = (rng.random(n) < expit(-1 + slope * z)).astype(np.int8)
    index = times(n)
    returns = pd.Series(np.where(labels == 1, 0.02, -0.01), index)
    return pd.Series(expit(z), index), pd.Series(labels, index), returns


def train_on_smoothed_labels(seed: int = 0):
    """Train on labels that the pipeline smoothed aggressively; return the calibration slice."""
    rng = np.random.default_rng(seed)
    features = pd.DataFrame(rng.normal(size=(1_400, 4)).astype(np.float32), index=times(1_400), columns=list("abcd"))
    labels = pd.Series((rng.random(1_400) < expit(-1 + features["a"])).astype(np.int8), features.index)
    train, valid, held = (slice(0, 600), slice(600, 900), slice(900, 1_400))
    entry = features.index.to_series() + pd.Timedelta("30min")
    prepared = prepare_labels(
        features[train],
        labels[train],
        pd.Series(1.0, features.index[train]),
        entry[train],
        entry[train] + pd.Timedelta("4h"),
        binary=True,
        smoothing="aggressive",
        cleanlab="off",
        class_cap=0.2,
        n_folds=3,
        embargo=pd.Timedelta(0),
        seed=seed,
    )
    model = train_model(
        prepared.features,
        prepared.labels,
        prepared.weights,
        features[valid],
        labels[valid],
        params={"max_depth": 3, "learning_rate": 0.1},
        rounds=40,
        early_stopping_rounds=10,
        objective="logistic",
        seed=seed,
    )
    return prepared.labels, score_buy(model, features[held]), labels[held]


@pytest.fixture(scope="module")
def smoothed():
    return train_on_smoothed_labels()


@pytest.mark.parametrize("method", METHODS)
def test_end_to_end_behind_training_on_smoothed_labels(smoothed, method: str):
    soft, scores, hard = smoothed
    assert set(np.unique(soft)) == {0.0, 0.7}
    returns = pd.Series(np.where(hard == 1, 0.02, -0.01), hard.index)
    fitted = cal.calibrate(scores, hard, returns, method=method, **OPTIONS)
    probability = cal.apply_calibration(fitted, scores)
    assert probability.index.equals(scores.index)
    assert probability.dtype == np.float64
    assert probability.between(0, 1).all()
    assert cal.is_monotone(fitted)
    assert fitted.n_rows == len(hard)
    assert fitted.base_rate == pytest.approx(hard.mean())
    if method != "none":
        # Smoothing taught the model too low a level of BUY; the hard labels bring it back.
        assert scores.mean() < 0.93 * hard.mean()
        assert probability.mean() == pytest.approx(hard.mean(), abs=0.005)
        assert np.mean((probability - hard) ** 2) < np.mean((scores - hard) ** 2)


@pytest.mark.parametrize("method", METHODS)
def test_soft_labels_are_refused_with_the_incident(method: str):
    scores, labels, returns = make_slice(300)
    soft = labels * 0.7
    with pytest.raises(cal.CalibrationError, match=r"label smoothing.*incident 17\.3"):
        cal.calibrate(scores, soft, returns, method=method, **OPTIONS)


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ([0, 1, 0.5], "label smoothing"),
        ([0, 1, math.nan], "1 of 3 calibration targets are not 0 or 1, first nan at 2025-01-01 01:00"),
        ([0, 1, 2], "label smoothing"),
        ([-1, 0, 1], "labels == 1"),
    ],
)
def test_targets_must_be_discrete(values, complaint: str):
    with pytest.raises(cal.CalibrationError, match=complaint):
        cal.assert_discrete_targets(pd.Series(values, times(3)))


@pytest.mark.parametrize("dtype", ["int8", "int64", "float64", "bool", "Int8"])
def test_hard_targets_pass_in_any_type(dtype: str):
    cal.assert_discrete_targets(pd.Series([0, 1, 1], times(3)).astype(dtype))


@pytest.mark.parametrize("method", FITTED)
def test_calibration_repairs_overconfidence_on_new_rows(method: str):
    fitted = cal.calibrate(*make_slice(4_000), method=method, **OPTIONS)
    scores, labels, _ = make_slice(4_000, seed=1)
    probability = cal.apply_calibration(fitted, scores)
    assert np.mean((probability - labels) ** 2) < np.mean((scores - labels) ** 2) - 0.02
    assert probability.mean() == pytest.approx(labels.mean(), abs=0.03)


def test_none_leaves_scores_as_they_are():
    scores, labels, returns = make_slice(500)
    fitted = cal.calibrate(scores, labels, returns, method="none", **OPTIONS)
    pd.testing.assert_series_equal(cal.apply_calibration(fitted, scores), scores, check_names=False)
    assert dict(fitted.estimators) == {}


def maximum_likelihood(z: np.ndarray, targets: np.ndarray) -> tuple[float, float]:
    """Slope and intercept of the sigmoid by Newton's method on the cross entropy."""
    design, weights = np.column_stack([z, np.ones_like(z)]), np.zeros(2)
    for _ in range(50):
        p = expit(design @ weights)
        curvature = design.T @ (design * (p * (1 - p))[:, None])
        weights = weights + np.linalg.solve(curvature, design.T @ (targets - p))
    return weights[0], weights[1]


@pytest.mark.parametrize("method", ["sigmoid", "platt"])
def test_sigmoid_is_the_maximum_likelihood(method: str):
    scores, labels, returns = make_slice(400)
    targets = labels.to_numpy(float)
    if method == "platt":
        positives, negatives = targets.sum(), (1 - targets).sum()
        targets = np.where(targets == 1, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    slope, intercept = maximum_likelihood(np.log(scores / (1 - scores)).to_numpy(), targets)
    sigmoid = cal.calibrate(scores, labels, returns, method=method, **OPTIONS).estimators["sigmoid"]
    assert sigmoid.coef_[0, 0] == pytest.approx(slope, rel=1e-4)
    assert sigmoid.intercept_[0] == pytest.approx(intercept, rel=1e-4)


def test_platt_stays_calm_on_separable_rows():
    index = times(120)
    scores = pd.Series(np.r_[np.linspace(0.1, 0.4, 60), np.linspace(0.6, 0.9, 60)], index)
    labels = (scores > 0.5).astype(int)
    steep, calm = (
        cal.apply_calibration(cal.calibrate(scores, labels, labels * 0.01, method=method, **OPTIONS), scores)
        for method in ("sigmoid", "platt")
    )
    assert steep.min() < 1e-6
    assert 1e-5 < calm.min() < 0.05


def slow_isotonic(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Least squares over non-decreasing values: the largest lower average (max over start, min over end)."""
    order = np.argsort(scores)
    y, n = labels[order], len(labels)
    fitted = np.array([max(min(y[a:b].mean() for b in range(i + 1, n + 1)) for a in range(i + 1)) for i in range(n)])
    result = np.empty(n)
    result[order] = fitted
    return result


def test_isotonic_is_the_best_non_decreasing_fit_and_clips():
    rng = np.random.default_rng(5)
    scores = pd.Series(rng.permutation(np.linspace(0.2, 0.8, 100)), times(100))
    labels = pd.Series((rng.random(100) < scores).astype(int), scores.index)
    fitted = cal.calibrate(scores, labels, labels * 0.01, method="isotonic", **OPTIONS)
    expected = slow_isotonic(scores.to_numpy(), labels.to_numpy(float))
    np.testing.assert_allclose(cal.apply_calibration(fitted, scores), expected, atol=1e-12)
    outside = cal.apply_calibration(fitted, pd.Series([0.0, 1.0]))
    assert outside.tolist() == pytest.approx([expected.min(), expected.max()])


def test_hybrid_is_the_average_of_sigmoid_and_isotonic():
    scores, labels, returns = make_slice(600)
    parts = [
        cal.apply_calibration(cal.calibrate(scores, labels, returns, method=method, **OPTIONS), scores)
        for method in ("sigmoid", "isotonic", "hybrid")
    ]
    np.testing.assert_allclose(parts[2], (parts[0] + parts[1]) / 2)


@pytest.mark.parametrize("method", FITTED)
def test_a_backward_model_is_not_turned_around(method: str):
    scores, labels, returns = make_slice(2_000, slope=-1.0)
    fitted = cal.calibrate(scores, labels, returns, method=method, **OPTIONS)
    probability = cal.apply_calibration(fitted, scores)
    assert cal.is_monotone(fitted)
    assert (np.diff(probability[scores.sort_values().index]) >= 0).all()
    assert probability.mean() == pytest.approx(labels.mean(), abs=0.002)
    assert fitted.notes
    if method in ("sigmoid", "platt"):
        assert fitted.is_flat
        assert np.ptp(probability) == 0
        assert "base rate" in fitted.notes[0]


def test_a_constant_score_becomes_the_base_rate():
    _, labels, returns = make_slice(500)
    scores = pd.Series(0.4, labels.index)
    for method in FITTED:
        fitted = cal.calibrate(scores, labels, returns, method=method, **OPTIONS)
        assert fitted.is_flat
        assert cal.apply_calibration(fitted, scores).iloc[0] == pytest.approx(labels.mean(), abs=0.002)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(METHODS), st.floats(-3, 3), st.sampled_from([2, 5, 1_000]))
def test_every_calibration_is_monotone_and_within_bounds(seed, method, slope, levels):
    scores, labels, returns = make_slice(300, slope=slope, seed=seed % 1_000)
    scores = (scores * levels).round() / levels
    fitted = cal.calibrate(scores, labels, returns, method=method, **OPTIONS)
    assert cal.is_monotone(fitted)
    assert cal.apply_calibration(fitted, scores).between(0, 1).all()


def test_is_monotone_sees_a_falling_calibrator():
    fitted = cal.calibrate(*make_slice(500), method="sigmoid", **OPTIONS)
    fitted.estimators["sigmoid"].coef_ = -fitted.estimators["sigmoid"].coef_
    assert not cal.is_monotone(fitted)


def every_threshold(probability: np.ndarray, value) -> tuple[float, float]:
    """Best value over all distinct thresholds with enough rows, and the highest threshold that has it."""
    found = [
        (value(probability >= threshold), threshold)
        for threshold in np.unique(probability)
        if (probability >= threshold).sum() >= cal.MINIMUM_PREDICTED_BUYS
    ]
    return max(found)


@pytest.mark.parametrize("method", ["none", "sigmoid", "isotonic"])
def test_expected_value_threshold_against_all_thresholds(method: str):
    scores, labels, returns = make_slice(2_000, slope=1.0)
    fitted = cal.calibrate(scores, labels, returns, method=method, **OPTIONS | {"threshold_method": "expected_value"})
    probability = cal.apply_calibration(fitted, scores).to_numpy()
    net = returns.to_numpy() - 0.002

    def earned(said) -> float:
        return net[said].sum() / net.size

    best, _ = every_threshold(probability, earned)
    assert earned(probability >= fitted.threshold) >= 0.97 * best > 0


@pytest.mark.parametrize("method", ["none", "sigmoid", "isotonic"])
def test_f1_threshold_against_all_thresholds(method: str):
    scores, labels, returns = make_slice(2_000, slope=1.0)
    fitted = cal.calibrate(scores, labels, returns, method=method, **OPTIONS)
    probability, truth = cal.apply_calibration(fitted, scores).to_numpy(), labels.to_numpy(bool)

    def f1(said) -> float:
        return 2 * (said & truth).sum() / (said.sum() + truth.sum())

    best, _ = every_threshold(probability, f1)
    assert f1(probability >= fitted.threshold) >= 0.99 * best


def test_nothing_earns_then_never_buy():
    scores, labels, returns = make_slice(500)
    fitted = cal.calibrate(scores, labels, -returns.abs(), method="sigmoid", **EARN, cost=0.0, seed=0)
    assert fitted.threshold == cal.NEVER_BUY
    assert fitted.trade_threshold == cal.NEVER_BUY
    assert fitted.notes == (f"never trades: {cal.NEVER_EARNS}",)
    assert not (cal.apply_calibration(fitted, pd.Series([0.0, 1.0])) >= fitted.threshold).any()


def test_everything_earns_then_always_buy():
    scores, labels, returns = make_slice(500)
    fitted = cal.calibrate(scores, labels, returns.abs(), method="sigmoid", **EARN, cost=0.0, seed=0)
    assert fitted.threshold == cal.ALWAYS_BUY
    assert fitted.notes == ()
    assert (cal.apply_calibration(fitted, pd.Series([0.0, 1.0])) >= fitted.threshold).all()


def test_equal_values_take_the_highest_threshold():
    # Only the best 100 rows move the account: every lower threshold down to the 400th row is worth the same.
    index = times(1_000)
    scores = pd.Series(np.linspace(0.999, 0.001, 1_000), index)
    labels = pd.Series((np.arange(1_000) < 100).astype(int), index)
    returns = pd.Series(np.where(np.arange(1_000) < 100, 0.01, np.where(np.arange(1_000) < 400, 0.0, -0.01)), index)
    fitted = cal.calibrate(scores, labels, returns, method="none", **EARN, cost=0.0, seed=0)
    assert (scores >= fitted.threshold).sum() == 100


def test_a_few_lucky_rows_set_no_threshold():
    scores, labels, returns = make_slice(500)
    lucky = returns.mask(scores.rank() > 480, 0.5).where(scores.rank() > 480, -0.5)
    fitted = cal.calibrate(scores, labels, lucky, method="none", **EARN, cost=0.0, seed=0)
    said = (scores >= fitted.threshold).sum()
    assert said == 0 or said >= cal.MINIMUM_PREDICTED_BUYS


def test_the_cost_raises_the_threshold():
    scores, labels, returns = make_slice(4_000, slope=1.0)
    cheap, dear = (
        cal.calibrate(scores, labels, returns, method="sigmoid", **EARN, cost=cost, seed=0) for cost in (0.0, 0.004)
    )
    assert cheap.threshold < dear.threshold


def test_same_inputs_same_calibration_and_nothing_written():
    inputs = make_slice(500)
    copies = [part.copy() for part in inputs]
    one, other = (cal.calibrate(*inputs, method="hybrid", **OPTIONS) for _ in range(2))
    assert one.threshold == other.threshold
    pd.testing.assert_series_equal(*(cal.apply_calibration(fitted, inputs[0]) for fitted in (one, other)))
    for part, copy in zip(inputs, copies, strict=True):
        pd.testing.assert_series_equal(part, copy)


@pytest.mark.parametrize("method", METHODS)
def test_threshold_is_frozen_and_rows_do_not_influence_each_other(method: str):
    fitted = cal.calibrate(*make_slice(500), method=method, **OPTIONS)
    before, scores = fitted.threshold, make_slice(300, seed=9)[0]
    whole = cal.apply_calibration(fitted, scores)
    pieces = pd.concat([cal.apply_calibration(fitted, scores[part]) for part in (slice(0, 1), slice(1, 300))])
    assert fitted.threshold == before
    pd.testing.assert_series_equal(whole, pieces, check_exact=True, check_freq=False)
    with pytest.raises(AttributeError):
        fitted.threshold = 0.1


@pytest.mark.parametrize("method", METHODS)
def test_survives_storage_as_json_and_skops(method: str):
    import skops.io

    fitted = cal.calibrate(*make_slice(500), method=method, **OPTIONS)
    stored = skops.io.dumps(dict(fitted.estimators))
    assert skops.io.get_untrusted_types(data=stored) == []
    back = cal.restore(json.loads(json.dumps(fitted.describe())), skops.io.loads(stored))
    scores = make_slice(300, seed=2)[0]
    pd.testing.assert_series_equal(
        cal.apply_calibration(back, scores), cal.apply_calibration(fitted, scores), check_exact=True
    )
    assert back.describe() == fitted.describe()
    assert back.is_flat == fitted.is_flat


def test_restore_refuses_parts_that_do_not_belong():
    fitted = cal.calibrate(*make_slice(500), method="hybrid", **OPTIONS)
    meta = fitted.describe()
    with pytest.raises(cal.CalibrationError, match="not those of method"):
        cal.restore(meta, {"sigmoid": fitted.estimators["sigmoid"]})
    with pytest.raises(cal.CalibrationError, match="keys"):
        cal.restore({"method": "none"}, {})
    with pytest.raises(cal.CalibrationError, match="valid are none, sigmoid"):
        cal.restore(meta | {"method": "magic"}, {})


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda s, y, r: (s[:90], y[:90], r[:90]), "at least 100 rows"),
        (lambda s, y, r: (s, y * 0, r), "0 of them BUY"),
        (lambda s, y, r: (s, y * 0 + 1, r), "10 of each class"),
        (lambda s, y, r: (s, y[1:], r), "different indices"),
        (lambda s, y, r: (s, y, r.set_axis(r.index + pd.Timedelta("30min"))), "different indices"),
        (lambda s, y, r: (s * 4 - 2, y, r), "not margins"),
        (lambda s, y, r: (s.mask(s > 0.9), y, r), r"first nan at 2025"),
        (lambda s, y, r: (s, y, r.mask(r > 0)), "returns must be finite"),
    ],
)
def test_degenerate_slices_are_refused(change, complaint: str):
    with pytest.raises(cal.CalibrationError, match=complaint):
        cal.calibrate(*change(*make_slice(500)), method="sigmoid", **OPTIONS)


@pytest.mark.parametrize(
    ("option", "complaint"),
    [
        ({"method": "magic"}, "valid are none, sigmoid, platt, isotonic, hybrid"),
        ({"threshold_method": "magic"}, "valid are expected_value, f1_binary"),
        ({"cost": -0.1}, "the cost -0.1"),
        ({"cost": math.nan}, "the cost nan"),
    ],
)
def test_unknown_options_are_refused(option, complaint: str):
    with pytest.raises(cal.CalibrationError, match=complaint):
        cal.calibrate(*make_slice(500), **{"method": "sigmoid"} | OPTIONS | option)


def test_scores_to_apply_to_are_checked():
    fitted = cal.calibrate(*make_slice(500), method="sigmoid", **OPTIONS)
    with pytest.raises(cal.CalibrationError, match="1 of 2 scores are not within"):
        cal.apply_calibration(fitted, pd.Series([0.5, 1.5]))
