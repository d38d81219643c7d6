"""Test report: a table small enough to check by hand, undefined scores, and rows that must be refused."""

import time

import numpy as np
import pandas as pd
import pytest

from cvntrade_assets.learning import report as rep
from cvntrade_assets.learning import scores
from cvntrade_assets.learning.calibration import ALWAYS_BUY, NEVER_BUY, NEVER_EARNS
from cvntrade_assets.learning.intervals import score_intervals


def make_test_slice(labels, raw, calibrated=None):
    index = pd.date_range("2025-08-01", periods=len(labels), freq="30min", tz="UTC", name="open_time")
    raw = pd.Series(raw, index, dtype=float)
    return (
        pd.DataFrame({"label": pd.Series(labels, index, dtype="int8")}),
        raw,
        raw if calibrated is None else pd.Series(calibrated, index, dtype=float),
    )


def random_slice(n: int = 2_500, seed: int = 0):
    rng = np.random.default_rng(seed)
    z = rng.normal(size=n)
    labels = rng.random(n) < 1 / (1 + np.exp(1 - z))
    return make_test_slice(labels, 1 / (1 + np.exp(-2 * z)), 1 / (1 + np.exp(1 - z)))


def test_every_number_of_a_small_slice():
    labels = [1, 0, 1, 0, 0, -1, 0, 1]
    raw = [0.9, 0.8, 0.7, 0.6, 0.4, 0.3, 0.2, 0.1]
    report = rep.report_test_slice(*make_test_slice(labels, raw, np.array(raw) / 2), 0.35, block=1, seed=0)
    truth = np.array([1, 0, 1, 0, 0, 0, 0, 1])
    expected = {
        "rows": 8,
        "threshold": 0.35,
        "tp": 2, "fp": 1, "fn": 1, "tn": 4,
        "precision_buy": 2 / 3,
        "recall_buy": 2 / 3,
        "f1_buy": 2 / 3,
        "buy_rate": 3 / 8,
        "predicted_buy_rate": 3 / 8,
        "baseline_f1_buy": 0.75 / 1.375,
        "f1_buy_delta": 2 / 3 - 0.75 / 1.375,
        "pr_auc": (1 + 2 / 3 + 3 / 8) / 3,
        "pr_auc_lift": (1 + 2 / 3 + 3 / 8) / 3 - 3 / 8,
        "brier_before": np.mean((np.array(raw) - truth) ** 2),
        "brier_after": np.mean((np.array(raw) / 2 - truth) ** 2),
        "brier_base_rate": 3 / 8 * 5 / 8,
    }  # fmt: skip
    found = report.as_metrics()
    assert {name: found[name] for name in expected} == pytest.approx(expected)
    assert report.confusion == scores.Confusion(tn=4, fp=1, fn=1, tp=2)
    assert all(type(value) is float for value in found.values())


def test_metrics_and_undefined_make_up_the_report():
    targets, raw, calibrated = random_slice(600)
    report = rep.report_test_slice(targets, raw, calibrated, 2.0, block=8, seed=0)
    nobody_said_buy = (
        "f1_buy_low", "f1_buy_high", "precision_buy", "precision_buy_low", "precision_buy_high",
        "recall_buy_low", "recall_buy_high",
    )  # fmt: skip
    assert report.undefined() == nobody_said_buy
    assert set(report.as_metrics()) == set(report.__dataclass_fields__) - set(nobody_said_buy)
    assert (report.f1_buy, report.recall_buy, report.predicted_buy_rate) == (0.0, 0.0, 0.0)
    assert report.f1_buy_delta == -report.baseline_f1_buy


@pytest.mark.parametrize(
    ("threshold", "words"),
    [
        (NEVER_BUY, f"says BUY on no candle: {NEVER_EARNS}"),
        (1.0, "says BUY on no candle: no probability reaches the threshold 1.000"),
        (ALWAYS_BUY, "says BUY on every candle"),
        (0.35, "says BUY on 37.5% of the candles"),
    ],
)
def test_how_often_buy_is_said_stands_in_words(threshold: float, words: str):
    raw = [0.9, 0.8, 0.7, 0.3, 0.3, 0.3, 0.2, 0.1]
    report = rep.report_test_slice(*make_test_slice([1, 0] * 4, raw), threshold, block=1, seed=0)
    assert report.in_words == words
    assert (report.precision_buy is None) == ("no candle" in words)


def test_without_buy_labels_nothing_is_invented():
    report = rep.report_test_slice(*make_test_slice([0] * 60, np.linspace(0, 1, 60)), 0.5, block=4, seed=0)
    assert report.undefined() == (
        "f1_buy_low", "f1_buy_high", "f1_buy_delta_low", "f1_buy_delta_high", "precision_buy_low", "precision_buy_high",
        "recall_buy", "recall_buy_low", "recall_buy_high", "pr_auc", "pr_auc_low", "pr_auc_high", "pr_auc_lift",
        "pr_auc_lift_low", "pr_auc_lift_high", "pr_auc_chance",
    )  # fmt: skip
    assert (report.f1_buy, report.baseline_f1_buy, report.precision_buy) == (0.0, 0.0, 0.0)


def test_always_buy_scores_its_own_baseline():
    report = rep.report_test_slice(*random_slice(800), 0.0, block=8, seed=0)
    assert report.f1_buy == pytest.approx(report.baseline_f1_buy)
    assert report.f1_buy_delta == pytest.approx(0.0)
    assert report.recall_buy == 1.0


def test_skill_is_seen_and_calibration_measured():
    report = rep.report_test_slice(*random_slice(), 0.3, block=8, seed=0)
    assert report.pr_auc_lift_low > 0.05
    assert report.pr_auc_lift_low < report.pr_auc_lift < report.pr_auc_lift_high
    assert report.pr_auc_chance == pytest.approx(report.buy_rate, abs=0.01)
    assert report.f1_buy_delta > 0.05
    assert report.brier_after < report.brier_base_rate < report.brier_before
    assert report.ece_after < 0.03 < report.ece_before


def test_headlines_carry_their_intervals():
    targets, raw, calibrated = random_slice(1_000)
    report = rep.report_test_slice(targets, raw, calibrated, 0.3, block=8, seed=3).as_metrics()
    expected = score_intervals(targets["label"], calibrated >= 0.3, raw, calibrated, block=8, seed=3)
    found = {name: (report[f"{name}_low"], report[f"{name}_high"]) for name in expected}
    assert found == expected
    assert all(low < report[name] < high for name, (low, high) in found.items())


def test_no_skill_is_not_above_chance_on_average():
    beyond = []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        part = make_test_slice(rng.random(400) < 0.25, rng.random(400))
        report = rep.report_test_slice(*part, 0.5, block=8, seed=seed)
        beyond.append(report.pr_auc - report.pr_auc_chance)
    assert abs(np.mean(beyond)) < 2.5 * np.std(beyond) / np.sqrt(30)


def test_same_seed_same_report():
    part = random_slice(500)
    assert rep.report_test_slice(*part, 0.3, block=8, seed=1) == rep.report_test_slice(*part, 0.3, block=8, seed=1)


def test_a_large_test_slice_is_reported_fast():
    part = random_slice(2_500)
    started = time.process_time()
    rep.report_test_slice(*part, 0.3, block=16, seed=0)
    assert time.process_time() - started < 0.5


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda t, r, c: (t[:0], r[:0], c[:0]), "no rows"),
        (lambda t, r, c: (t, r[1:], c), "different indices"),
        (lambda t, r, c: (t, r, c.set_axis(c.index + pd.Timedelta("30min"))), "different indices"),
        (lambda t, r, c: (t[::-1], r[::-1], c[::-1]), "time order"),
        (lambda t, r, c: (t * 0.7, r, c), r"label 0\.7 at 2025-08-01"),
    ],
)
def test_rows_that_do_not_fit_are_refused(change, complaint: str):
    targets, raw, calibrated = random_slice(50)
    with pytest.raises(rep.ReportError, match=complaint):
        rep.report_test_slice(*change(targets, raw, calibrated), 0.5, block=4, seed=0)


def test_a_calibrated_value_outside_bounds_is_refused():
    targets, raw, calibrated = random_slice(50)
    with pytest.raises(scores.ScoreError, match="outside"):
        rep.report_test_slice(targets, raw, calibrated + 0.9, 0.5, block=4, seed=0)
