"""Test report: what a frozen model is worth on the test slice, which is looked at once.

Nothing here chooses anything: the scores, their calibration and the threshold come in frozen from earlier
slices.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import pandas as pd

from cvntrade_assets.learning import scores
from cvntrade_assets.learning.calibration import in_words
from cvntrade_assets.learning.intervals import score_intervals


class ReportError(ValueError):
    """A test slice that cannot be reported on."""


@dataclass(frozen=True)
class TestReport:
    """Scores of one model on one test slice; None where a score is undefined.

    PR-AUC is of the raw score, as calibration may tie rows. Its lift over the buy rate is biased upwards
    under no skill: by about (1 - p) H_n / n for n independent rows, more where both labels and scores
    persist (see `scores.pr_auc`). `pr_auc_chance` is what the same scores get when torn from the labels, bias
    included: when many reports are averaged, average `pr_auc` minus `pr_auc_chance`.

    `<score>_low` and `<score>_high` are the ends of the score's 90 % interval (`intervals.score_intervals`); both are
    None where it is undefined.

    Attributes:
        rows: rows of the test slice.
        threshold: BUY is said when the calibrated probability is at least this.
        f1_buy: F1 of the BUY class at the threshold; 0 when BUY is never said.
        f1_buy_low: low end of its interval.
        f1_buy_high: high end of it.
        baseline_f1_buy: F1 of always saying BUY on the same rows.
        f1_buy_delta: f1_buy - baseline_f1_buy.
        f1_buy_delta_low: low end of its interval.
        f1_buy_delta_high: high end of it.
        precision_buy: share of predicted BUY that was BUY; None when nothing was predicted BUY.
        precision_buy_low: low end of its interval.
        precision_buy_high: high end of it.
        recall_buy: share of BUY that was predicted; None when nothing was BUY.
        recall_buy_low: low end of its interval.
        recall_buy_high: high end of it.
        buy_rate: share of BUY labels.
        predicted_buy_rate: share of rows predicted BUY.
        pr_auc: average precision of the raw score; None without BUY labels, as are the next six.
        pr_auc_low: low end of its interval.
        pr_auc_high: high end of it.
        pr_auc_lift: pr_auc - buy_rate.
        pr_auc_lift_low: low end of its interval.
        pr_auc_lift_high: high end of it.
        pr_auc_chance: mean average precision over circular shifts of the scores.
        brier_before: Brier score of the raw score.
        brier_after: Brier score of the calibrated probability.
        brier_after_low: low end of its interval.
        brier_after_high: high end of it.
        brier_base_rate: p(1 - p), the Brier score of predicting the slice's own buy rate: the best constant.
        ece_before: expected calibration error of the raw score, ten equal-mass bins.
        ece_after: the same of the calibrated probability.
        tn: rows rightly not predicted BUY.
        fp: rows falsely predicted BUY.
        fn: BUY rows missed.
        tp: BUY rows caught.
    """

    rows: int
    threshold: float
    f1_buy: float
    f1_buy_low: float | None
    f1_buy_high: float | None
    baseline_f1_buy: float
    f1_buy_delta: float
    f1_buy_delta_low: float | None
    f1_buy_delta_high: float | None
    precision_buy: float | None
    precision_buy_low: float | None
    precision_buy_high: float | None
    recall_buy: float | None
    recall_buy_low: float | None
    recall_buy_high: float | None
    buy_rate: float
    predicted_buy_rate: float
    pr_auc: float | None
    pr_auc_low: float | None
    pr_auc_high: float | None
    pr_auc_lift: float | None
    pr_auc_lift_low: float | None
    pr_auc_lift_high: float | None
    pr_auc_chance: float | None
    brier_before: float
    brier_after: float
    brier_after_low: float | None
    brier_after_high: float | None
    brier_base_rate: float
    ece_before: float
    ece_after: float
    tn: int
    fp: int
    fn: int
    tp: int

    # pytest takes classes named Test… for tests.
    __test__ = False

    @property
    def confusion(self) -> scores.Confusion:
        """The four outcome counts together."""
        return scores.Confusion(tn=self.tn, fp=self.fp, fn=self.fn, tp=self.tp)

    @property
    def in_words(self) -> str:
        """How often the frozen threshold says BUY on these rows, and why when it never does."""
        return in_words(self.threshold, self.predicted_buy_rate)

    def as_metrics(self) -> dict[str, float]:
        """Return every defined score by name as a float; `undefined` names the others."""
        return {name: float(value) for name, value in asdict(self).items() if value is not None}

    def undefined(self) -> tuple[str, ...]:
        """Return the names of the scores that this test slice leaves undefined."""
        return tuple(field.name for field in fields(self) if getattr(self, field.name) is None)


def report_test_slice(
    targets: pd.DataFrame,
    raw_scores: pd.Series[Any],
    calibrated: pd.Series[Any],
    threshold: float,
    *,
    block: int,
    seed: int,
) -> TestReport:
    """Judge frozen predictions against the hard labels of the test slice.

    Args:
        targets: rows of the test slice in time order, with column `label` (1 is BUY, 0 and -1 are not).
        raw_scores: the model's score of BUY in [0, 1], same index.
        calibrated: its calibrated probability, same index.
        threshold: frozen threshold on `calibrated`.
        block: rows per resampling block; `scores.block_length` gives it from the label horizon.
        seed: of the bootstrap and the shifts.

    Raises:
        ReportError: no rows, rows out of order, soft labels, or unequal indices.
        ScoreError: a label, score or probability out of its range, or a block longer than the slice.
    """
    _check_rows(targets, raw_scores, calibrated)
    labels = (targets["label"] == 1).to_numpy(dtype=np.float64)
    raw, probability = raw_scores.to_numpy(dtype=np.float64), calibrated.to_numpy(dtype=np.float64)
    predicted = probability >= threshold
    counts = scores.confusion(labels, predicted)
    buy_rate = float(labels.mean())
    f1, baseline = scores.f1_buy(counts), scores.baseline_f1(buy_rate)
    ends: dict[str, Any] = {}
    for name, (low, high) in score_intervals(labels, predicted, raw, probability, block=block, seed=seed).items():
        ends |= {f"{name}_low": low, f"{name}_high": high}
    return TestReport(
        rows=labels.size,
        threshold=float(threshold),
        f1_buy=f1,
        baseline_f1_buy=baseline,
        f1_buy_delta=f1 - baseline,
        precision_buy=_defined(scores.precision(counts)),
        recall_buy=_defined(scores.recall(counts)),
        buy_rate=buy_rate,
        predicted_buy_rate=(counts.tp + counts.fp) / labels.size,
        pr_auc=_defined(scores.pr_auc(labels, raw)),
        pr_auc_lift=_defined(scores.pr_auc_lift(labels, raw)),
        pr_auc_chance=_defined(scores.chance_pr_auc(labels, raw, block=block, seed=seed)),
        brier_before=scores.brier(labels, raw),
        brier_after=scores.brier(labels, probability),
        brier_base_rate=buy_rate * (1.0 - buy_rate),
        ece_before=scores.expected_calibration_error(labels, raw),
        ece_after=scores.expected_calibration_error(labels, probability),
        **asdict(counts),
        **ends,
    )


def _defined(value: float) -> float | None:
    return None if np.isnan(value) else value


def _check_rows(targets: pd.DataFrame, raw_scores: pd.Series[Any], calibrated: pd.Series[Any]) -> None:
    if targets.empty:
        raise ReportError("the test slice has no rows; take more history or a larger test share")
    if not (targets.index.equals(raw_scores.index) and targets.index.equals(calibrated.index)):
        raise ReportError(
            f"targets ({len(targets)} rows), raw scores ({len(raw_scores)}) and calibrated probabilities "
            f"({len(calibrated)}) have different indices; score exactly the rows of the test slice"
        )
    if not (targets.index.is_monotonic_increasing and targets.index.is_unique):
        raise ReportError("the test slice is not in time order; sort it by open_time, each row once")
    unknown = ~targets["label"].isin((-1, 0, 1))
    if unknown.any():
        label, where = targets.loc[unknown, "label"].iloc[0], targets.index[unknown.to_numpy()][0]
        raise ReportError(f"label {label} at {where} is not hard; report on the labels asset's -1, 0 and 1")
