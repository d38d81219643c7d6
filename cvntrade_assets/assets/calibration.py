"""Calibration: from scores to probabilities, and the threshold at which BUY is said."""

from typing import TYPE_CHECKING

import numpy as np

from cvntrade_assets.assets.stage import Made, Stage, span_summary, stage
from resources.artifacts import Artifact
from resources.codecs import StoredCalibration, StoredModel

if TYPE_CHECKING:
    from cvntrade_assets.learning.training_set import TrainingSet


@stage(
    settings=("CVN_CALIBRATION", "CVN_THRESHOLD_METHOD", "CVN_FEE_BPS", "CVN_SLIPPAGE_BPS", "CVN_SEED"),
    code_version="1",
    group="learning",
    owner="ml-owner",
    kinds={"scikitlearn"},
)
def calibration(stage: Stage, training_set: Artifact["TrainingSet"], model: Artifact[StoredModel]) -> Made:
    """The calibrator and the threshold, both from the calibration slice and its hard labels, then frozen."""
    from cvntrade_assets.learning.calibration import apply_calibration, calibrate
    from cvntrade_assets.learning.training import score_buy

    settings, trained = stage.settings, model.load().model
    rows = training_set.load().slice("calibration")
    scores = score_buy(trained, rows.features[list(trained.feature_names)])
    # BUY against the rest; a soft label stays soft here, and is refused.
    targets = rows.targets["label"].replace(-1, 0)
    fitted = calibrate(
        scores,
        targets,
        rows.targets["return"],
        method=settings.choice("CVN_CALIBRATION"),
        threshold_method=settings.choice("CVN_THRESHOLD_METHOD"),
        cost=settings.number("CVN_FEE_BPS", "CVN_SLIPPAGE_BPS") / 10_000,
        seed=settings.whole("CVN_SEED"),
    )
    probability = apply_calibration(fitted, scores)
    used = rows.targets[["label"]].assign(target=targets, score=scores, probability=probability)
    summary = {
        **span_summary(rows.features.index),
        "method": fitted.method,
        "threshold": fitted.threshold,
        "threshold_method": fitted.threshold_method,
        "base_rate": fitted.base_rate,
        "predicted_buy_rate": float(np.mean(probability >= fitted.threshold)),
        "notes": list(fitted.notes),
    }
    return Made(StoredCalibration(fitted, used), summary)
