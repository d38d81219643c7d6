"""Scores against exact tables, against scikit-learn, and on random walks that hold nothing to learn."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cvntrade_assets.learning import scores

EXACT_BASELINES = [(0.0, 0.0), (0.25, 0.4), (1 / 3, 0.5), (0.5, 2 / 3), (1.0, 1.0)]
ROWS = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 20)), min_size=1, max_size=60)


def walk_labels(n: int, horizon: int, rng: np.random.Generator) -> np.ndarray:
    """Overlapping barrier labels (target 2, stop 1) of a random walk, ten steps a candle."""
    steps = np.cumsum(rng.normal(0, math.sqrt(0.1), (n + horizon) * 10))
    labels = np.zeros(n)
    for t in range(n):
        path = steps[t * 10 : (t + horizon) * 10] - (steps[t * 10 - 1] if t else 0.0)
        target, stop = np.flatnonzero(path >= 2), np.flatnonzero(path <= -1)
        labels[t] = target.size > 0 and (stop.size == 0 or target[0] < stop[0])
    return labels


def persistent_scores(n: int, rng: np.random.Generator) -> np.ndarray:
    return pd.Series(rng.normal(size=n)).ewm(alpha=0.05).mean().to_numpy()


@pytest.mark.parametrize(("buy_rate", "expected"), EXACT_BASELINES)
def test_baseline_f1_is_the_f1_of_always_buy(buy_rate: float, expected: float):
    assert scores.baseline_f1(buy_rate) == pytest.approx(expected)
    if 0 < buy_rate < 1:
        labels = np.arange(12) < 12 * buy_rate
        assert scores.f1_buy(scores.confusion(labels, np.ones(12))) == pytest.approx(expected)


@pytest.mark.parametrize("buy_rate", [-0.01, 1.01, math.nan])
def test_baseline_f1_refuses_what_is_no_share(buy_rate: float):
    with pytest.raises(scores.ScoreError, match="share within"):
        scores.baseline_f1(buy_rate)


@pytest.mark.parametrize(
    ("labels", "said", "precision", "recall", "f1"),
    [
        ([1, 1, 0, 0], [1, 0, 1, 0], 0.5, 0.5, 0.5),
        ([1, 1, 0, 0], [0, 0, 0, 0], None, 0.0, 0.0),
        ([0, 0, 0, 0], [1, 0, 0, 0], 0.0, None, 0.0),
        ([0, 0, 0, 0], [0, 0, 0, 0], None, None, 0.0),
        ([1, 1, 0, 0], [0, 0, 1, 1], 0.0, 0.0, 0.0),
        ([1, 1, 1, 0], [1, 1, 1, 0], 1.0, 1.0, 1.0),
    ],
)
def test_undefined_is_nan_and_never_zero(labels, said, precision, recall, f1):
    counts = scores.confusion(np.array(labels), np.array(said))
    for value, expected in ((scores.precision(counts), precision), (scores.recall(counts), recall)):
        assert math.isnan(value) if expected is None else value == expected
    assert scores.f1_buy(counts) == f1


@settings(deadline=None, max_examples=40)
@given(ROWS)
def test_scores_agree_with_scikit_learn(rows):
    from sklearn import metrics

    labels = np.array([label for label, _ in rows])
    values = np.array([value / 20 for _, value in rows])
    said = values >= 0.5
    counts = scores.confusion(labels, said)
    assert scores.f1_buy(counts) == pytest.approx(metrics.f1_score(labels, said, zero_division=0))
    assert [counts.tn, counts.fp, counts.fn, counts.tp] == metrics.confusion_matrix(
        labels, said, labels=[0, 1]
    ).ravel().tolist()
    assert scores.brier(labels, values) == pytest.approx(metrics.mean_squared_error(labels, values))
    if labels.any():
        assert scores.recall(counts) == pytest.approx(metrics.recall_score(labels, said))
        assert scores.pr_auc(labels, values) == pytest.approx(metrics.average_precision_score(labels, values))
        precision, recall, _ = metrics.precision_recall_curve(labels, values)
        found, sure = scores.precision_recall_points(labels, values)
        np.testing.assert_allclose(found, recall[::-1][1 : found.size + 1])
        np.testing.assert_allclose(sure, precision[::-1][1 : sure.size + 1])
    else:
        assert math.isnan(scores.pr_auc(labels, values))


@settings(deadline=None)
@given(ROWS, st.randoms(use_true_random=False))
def test_order_of_rows_is_irrelevant_even_with_ties(rows, random):
    shuffled = random.sample(rows, len(rows))
    for metric in (scores.pr_auc, scores.brier, scores.expected_calibration_error):
        one, other = (
            metric(np.array([label for label, _ in part]), np.array([value / 20 for _, value in part]))
            for part in (rows, shuffled)
        )
        assert one == pytest.approx(other, nan_ok=True)


def slow_calibration_error(labels: np.ndarray, probabilities: np.ndarray, bins: int) -> float:
    """Sum of gaps over consecutive groups of the sorted rows; only for distinct probabilities."""
    pairs = sorted(zip(probabilities, labels, strict=True))
    groups: dict[int, list] = {}
    for rank, pair in enumerate(pairs):
        groups.setdefault(rank * bins // len(pairs), []).append(pair)
    gaps = [abs(sum(p for p, _ in group) - sum(y for _, y in group)) for group in groups.values()]
    return sum(gaps) / len(pairs)


@pytest.mark.parametrize("n", [1, 7, 10, 33, 500])
def test_calibration_error_against_a_slow_one(n: int):
    rng = np.random.default_rng(n)
    probabilities = rng.permutation(np.linspace(0.01, 0.99, n))
    labels = (rng.random(n) < 0.3).astype(float)
    expected = slow_calibration_error(labels, probabilities, 10)
    assert scores.expected_calibration_error(labels, probabilities) == pytest.approx(expected)


def test_calibration_error_exact():
    labels = np.array([0, 1, 1, 1])
    assert scores.expected_calibration_error(labels, np.array([0.1, 0.2, 0.8, 0.9]), bins=2) == pytest.approx(
        0.5 * abs(0.5 - 0.15) + 0.5 * abs(1.0 - 0.85)
    )
    assert scores.expected_calibration_error(labels, np.full(4, 0.75), bins=2) == 0.0


def test_equal_predictions_share_a_bin():
    groups = scores.reliability_bins(np.array([0, 1, 0, 1, 1, 0]), np.array([0.2] * 5 + [0.9]), bins=3)
    assert groups.rows.tolist() == [5, 1]
    np.testing.assert_allclose(groups.predicted, [0.2, 0.9])
    np.testing.assert_allclose(groups.observed, [0.6, 0.0])


def test_random_ranking_has_the_published_mean():
    n, positives = 60, 15
    rng = np.random.default_rng(0)
    labels = np.arange(n) < positives
    mean = np.mean([scores.pr_auc(labels, rng.random(n)) for _ in range(4_000)])
    harmonic, share = np.sum(1 / np.arange(1, n + 1)), (positives - 1) / (n - 1)
    assert mean == pytest.approx(share + (1 - share) * harmonic / n, abs=0.003)
    assert mean > positives / n + 0.03


def test_chance_takes_away_the_bias_of_average_precision():
    lift, beyond_chance = [], []
    for seed in range(150):
        rng = np.random.default_rng(seed)
        labels, values = walk_labels(120, 4, rng), persistent_scores(120, rng)
        area = scores.pr_auc(labels, values)
        lift.append(area - labels.mean())
        beyond_chance.append(area - scores.chance_pr_auc(labels, values, block=8, seed=seed))
    error = np.std(beyond_chance) / math.sqrt(150)
    assert np.mean(lift) > 4 * error
    assert abs(np.mean(beyond_chance)) < 2 * error


def test_interval_without_skill_rarely_claims_skill():
    claims = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        labels, values = walk_labels(500, 8, rng), persistent_scores(500, rng)
        low, high = scores.block_bootstrap_interval(scores.pr_auc_lift, labels, values, block=16, seed=seed, n_boot=200)
        assert low < high
        claims += low > 0
    assert claims <= 7


def test_interval_with_skill_holds_it():
    rng = np.random.default_rng(3)
    values = rng.normal(size=2_000)
    labels = rng.random(2_000) < 1 / (1 + np.exp(1 - values))
    low, high = scores.block_bootstrap_interval(scores.pr_auc_lift, labels, values, block=8, seed=0)
    assert 0 < low < scores.pr_auc_lift(labels, values) < high


def test_a_corrected_interval_ends_where_the_metric_does():
    """BUY labels in one lucky run: some resamples hold little of it, and the reflected interval would end above 1."""
    labels = np.arange(200) // 20 % 5 == 0
    values = np.where(labels, 1.0, 0.0) + np.random.default_rng(0).normal(scale=0.5, size=200)
    free = scores.block_bootstrap_interval(scores.pr_auc, labels, values, block=40, seed=0)
    cut = scores.block_bootstrap_interval(scores.pr_auc, labels, values, block=40, seed=0, span=(0.0, 1.0))
    assert free[1] > 1.0
    assert cut == (free[0], 1.0)


def test_blocks_are_runs_of_rows():
    rows = scores._block_rows(10, 4, 50, seed=1)
    assert rows.shape == (50, 10)
    assert rows.min() >= 0
    assert rows.max() <= 9
    inside = [position for position in range(9) if position % 4 != 3]
    assert (np.diff(rows, axis=1)[:, inside] == 1).all()


def test_resampling_depends_on_its_seed_only():
    rng = np.random.default_rng(0)
    labels, values = rng.random(300) < 0.3, rng.random(300)
    for draw in (
        lambda seed: scores.chance_pr_auc(labels, values, block=8, seed=seed),
        lambda seed: scores.block_bootstrap_interval(scores.pr_auc, labels, values, block=8, seed=seed),
    ):
        assert draw(1) == draw(1)
        assert draw(1) != draw(2)


def test_nothing_to_resample_is_nan():
    flat = np.zeros(50)
    assert math.isnan(scores.chance_pr_auc(flat, np.arange(50), block=4, seed=0))
    assert math.isnan(scores.chance_pr_auc(np.ones(6), np.arange(6), block=4, seed=0))
    low, high = scores.block_bootstrap_interval(scores.pr_auc, flat, np.arange(50), block=4, seed=0)
    assert math.isnan(low)
    assert math.isnan(high)


def test_interval_is_undefined_when_many_resamples_are():
    labels = np.arange(50) == 0
    low, _ = scores.block_bootstrap_interval(scores.pr_auc, labels, np.arange(50), block=4, seed=0)
    assert math.isnan(low)


@pytest.mark.parametrize(
    ("labels", "values", "complaint"),
    [
        ([], [], "at least one row"),
        ([0, 1], [0.1], "same rows"),
        ([0, 0.3], [0.1, 0.2], "hard labels"),
        ([0, -1], [0.1, 0.2], "SELL counted as not BUY"),
        ([0, 1], [0.1, math.nan], "not finite"),
        ([0, 1], [0.1, 1.2], "outside"),
    ],
)
def test_bad_rows_are_refused(labels, values, complaint: str):
    with pytest.raises(scores.ScoreError, match=complaint):
        scores.brier(np.array(labels, dtype=float), np.array(values, dtype=float))


def test_bad_options_are_refused():
    labels, values = np.array([0, 1, 1]), np.array([0.1, 0.2, 0.3])
    with pytest.raises(scores.ScoreError, match="does not fit"):
        scores.block_bootstrap_interval(scores.pr_auc, labels, values, block=4, seed=0)
    with pytest.raises(scores.ScoreError, match="level"):
        scores.block_bootstrap_interval(scores.pr_auc, labels, values, block=1, seed=0, level=1.0)
    with pytest.raises(scores.ScoreError, match="bins must be"):
        scores.reliability_bins(labels, values, bins=0)


@pytest.mark.parametrize(
    ("horizon", "interval", "rows"),
    [("4h", "30min", 16), ("1h", "30min", 4), ("1h", "4h", 2), ("6h", "5min", 144)],
)
def test_block_is_twice_the_horizon(horizon: str, interval: str, rows: int):
    assert scores.block_length(pd.Timedelta(horizon), pd.Timedelta(interval)) == rows


def test_block_needs_a_horizon():
    with pytest.raises(scores.ScoreError, match="positive"):
        scores.block_length(pd.Timedelta(0), pd.Timedelta("30min"))
