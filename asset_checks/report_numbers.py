"""What the numbers of a test report must be, computed again from its predictions."""

import math
from collections.abc import Mapping
from dataclasses import asdict

import numpy as np
import pandas as pd


def expected_report(rows: pd.DataFrame) -> Mapping[str, float]:
    """Every number of a report that is not drawn at random; NaN where it is undefined.

    Args:
        rows: Predictions, columns `label`, `score`, `probability` and `predicted`.
    """
    from cvntrade_assets.learning import scores

    truth = (rows["label"] == 1).to_numpy(dtype=np.float64)
    rate, counts = float(truth.mean()), scores.confusion(truth, rows["predicted"])
    f1, baseline = scores.f1_buy(counts), scores.baseline_f1(rate)
    return {
        "rows": len(rows),
        **asdict(counts),
        "buy_rate": rate,
        "predicted_buy_rate": float(rows["predicted"].mean()),
        "baseline_f1_buy": baseline,
        "f1_buy": f1,
        "f1_buy_delta": f1 - baseline,
        "precision_buy": scores.precision(counts),
        "recall_buy": scores.recall(counts),
        "pr_auc": scores.pr_auc(truth, rows["score"]),
        "pr_auc_lift": scores.pr_auc_lift(truth, rows["score"]),
        "brier_before": scores.brier(truth, rows["score"]),
        "brier_after": scores.brier(truth, rows["probability"]),
        "brier_base_rate": rate * (1.0 - rate),
        "ece_before": scores.expected_calibration_error(truth, rows["score"]),
        "ece_after": scores.expected_calibration_error(truth, rows["probability"]),
    }


def is_number(reported: float | None, value: float | None) -> bool:
    """Whether they are the same; what is undefined is None, or NaN where it was computed."""
    if reported is None or value is None:
        return reported is None and (value is None or math.isnan(value))
    return math.isclose(reported, value, rel_tol=1e-9, abs_tol=1e-12)
