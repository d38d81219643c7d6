"""Intervals of a test slice's scores: they hold the truth, know no skill where there is none, and stay in range."""

import math

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics

from cvntrade_assets.learning.intervals import UNDEFINED, score_intervals
from cvntrade_assets.learning.report import report_test_slice
from cvntrade_assets.learning.scores import ScoreError

NAMES = ("f1_buy", "f1_buy_delta", "precision_buy", "recall_buy", "pr_auc", "pr_auc_lift", "brier_after")


def blocky(n: int, seed: int, skill: float, stay: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """Labels and scores that each last for `stay` rows, linked by `skill`; the buy rate is about a quarter."""
    random = np.random.default_rng(seed)
    labels = np.repeat(random.random(-(-n // stay)) < 0.25, stay)[:n].astype(float)
    driver = np.repeat(random.normal(size=-(-n // stay)), stay)[:n] + skill * labels
    return labels, 1 / (1 + np.exp(-driver))


def ends(labels: np.ndarray, values: np.ndarray, threshold: float = 0.6, **options: int) -> dict:
    said = values >= threshold
    return score_intervals(labels, said, values, values, **{"block": 16, "seed": 0, "n_boot": 200} | options)


def test_every_headline_score_has_an_interval() -> None:
    labels, values = blocky(600, 0, skill=1.5)
    found = ends(labels, values)
    assert tuple(found) == NAMES
    for low, high in found.values():
        assert low < high
    said = values >= 0.6
    observed = {
        "f1_buy": metrics.f1_score(labels, said),
        "f1_buy_delta": metrics.f1_score(labels, said) - metrics.f1_score(labels, np.ones(600)),
        "precision_buy": metrics.precision_score(labels, said),
        "recall_buy": metrics.recall_score(labels, said),
        "pr_auc": metrics.average_precision_score(labels, values),
        "pr_auc_lift": metrics.average_precision_score(labels, values) - labels.mean(),
        "brier_after": metrics.brier_score_loss(labels, values),
    }
    for name, value in observed.items():
        assert found[name][0] < value < found[name][1], name


def test_the_lift_has_the_interval_of_the_report() -> None:
    labels, values = blocky(400, 1, skill=1.0)
    index = pd.date_range("2025-01-01", periods=400, freq="30min", tz="UTC")
    series = pd.Series(values, index=index)
    report = report_test_slice(pd.DataFrame({"label": labels}, index=index), series, series, 0.6, block=16, seed=3)
    found = score_intervals(labels, values >= 0.6, values, values, block=16, seed=3)
    assert found["pr_auc_lift"] == (report.pr_auc_lift_low, report.pr_auc_lift_high)


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    labels, values = blocky(400_000, 99, skill=1.0)
    said = values >= 0.6
    truth = {
        "f1_buy": metrics.f1_score(labels, said),
        "precision_buy": metrics.precision_score(labels, said),
        "recall_buy": metrics.recall_score(labels, said),
        "f1_buy_delta": metrics.f1_score(labels, said) - metrics.f1_score(labels, np.ones(len(said))),
        "brier_after": metrics.brier_score_loss(labels, values),
    }
    held = dict.fromkeys(truth, 0)
    for seed in range(60):
        found = ends(*blocky(800, seed, skill=1.0), seed=seed, n_boot=100)
        for name, value in truth.items():
            # No interval, as when every BUY was caught, holds nothing.
            held[name] += found[name] != UNDEFINED and found[name][0] <= value <= found[name][1]
    # Nominal: 54; a hundred runs of equal rows are few, and blocks cut runs in two.
    assert min(held.values()) >= 45


def test_no_skill_is_rarely_called_skill() -> None:
    claims = 0
    for seed in range(20):
        labels, values = blocky(600, seed, skill=0.0)
        low, _ = ends(labels, values, seed=seed, n_boot=100)["f1_buy_delta"]
        claims += low > 0
    assert claims == 0


def test_ends_stay_within_what_a_score_can_be() -> None:
    labels = np.r_[np.ones(40), np.zeros(40)]
    found = ends(labels, np.where(labels == 1, 0.9, 0.1))
    # Every resample is perfect: that says nothing of how far it could be from it.
    assert found["f1_buy"] == found["precision_buy"] == found["recall_buy"] == found["brier_after"] == UNDEFINED
    labels[38:42] = 1 - labels[38:42]
    values = np.where(np.arange(80) < 40, 0.9, 0.1)
    for name in ("f1_buy", "precision_buy", "recall_buy", "brier_after"):
        low, high = ends(labels, values)[name]
        assert 0.0 <= low < high <= 1.0


def test_what_is_undefined_has_no_interval() -> None:
    labels, values = blocky(200, 4, skill=1.0)
    never = score_intervals(labels, np.zeros(200), values, values, block=16, seed=0, n_boot=50)
    assert never["precision_buy"] == UNDEFINED
    assert never["f1_buy"] == never["recall_buy"] == UNDEFINED
    nothing = score_intervals(np.zeros(200), values >= 0.6, values, values, block=16, seed=0, n_boot=50)
    assert nothing["recall_buy"] == nothing["pr_auc"] == nothing["pr_auc_lift"] == UNDEFINED
    assert nothing["brier_after"] != UNDEFINED


def test_a_buy_that_is_rarely_said_has_no_interval_of_precision() -> None:
    labels, values = blocky(320, 5, skill=1.0)
    said = np.zeros(320)
    said[np.flatnonzero(labels)[:4]] = 1
    found = score_intervals(labels, said, values, values, block=16, seed=0, n_boot=200)
    assert found["precision_buy"] == UNDEFINED
    assert found["recall_buy"] != UNDEFINED


def test_what_cannot_be_scored_is_refused() -> None:
    labels, values = blocky(100, 6, skill=1.0)
    with pytest.raises(ScoreError, match="does not fit"):
        ends(labels, values, block=101)
    with pytest.raises(ScoreError, match="not 0 or 1"):
        ends(labels - 1, values)
    broken = values.copy()
    broken[3] = math.nan
    with pytest.raises(ScoreError, match="row 3 is not finite"):
        score_intervals(labels, values >= 0.6, broken, values, block=16, seed=0)
