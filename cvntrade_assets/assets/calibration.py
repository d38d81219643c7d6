"""Calibration: from scores to probabilities, and the thresholds at which BUY is said and a candle traded."""

from typing import TYPE_CHECKING

import numpy as np

from cvntrade_assets.assets.stage import Made, Stage, span_summary, stage
from resources.artifacts import Artifact
from resources.codecs import StoredCalibration, StoredModel

if TYPE_CHECKING:
    from cvntrade_assets.learning.training_set import TrainingSet


@stage(
    settings=(
        *("CVN_CALIBRATION", "CVN_THRESHOLD_METHOD", "CVN_TRADE_THRESHOLD_METHOD"),
        *("CVN_FEE_BPS", "CVN_SLIPPAGE_BPS", "CVN_SEED"),
    ),
    code_version="2",
    group="learning",
    owner="ml-owner",
    kinds={"scikitlearn"},
)
def calibration(stage: Stage, training_set: Artifact["TrainingSet"], model: Artifact[StoredModel]) -> Made:
    """The calibrator and the thresholds, all from the calibration slice and its hard labels, then frozen."""
    from cvntrade_assets.learning.calibration import apply_calibration, calibrate, in_words
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
        trade_threshold_method=settings.choice("CVN_TRADE_THRESHOLD_METHOD"),
        cost=settings.costs.round_trip,
        seed=settings.whole("CVN_SEED"),
    )
    probability = apply_calibration(fitted, scores)
    said, traded = (float(np.mean(probability >= each)) for each in (fitted.threshold, fitted.trade_threshold))
    used = rows.targets[["label"]].assign(target=targets, score=scores, probability=probability)
    summary = {
        **span_summary(rows.features.index),
        "method": fitted.method,
        "threshold": fitted.threshold,
        "threshold_method": fitted.threshold_method,
        "base_rate": fitted.base_rate,
        "predicted_buy_rate": said,
        "trade_threshold": fitted.trade_threshold,
        "trade_threshold_method": fitted.trade_threshold_method,
        "trade_rate": traded,
        "in_words": f"{in_words(fitted.threshold, said)}; {in_words(fitted.trade_threshold, traded, 'trades')}",
        "notes": list(fitted.notes),
    }
    return Made(StoredCalibration(fitted, used), summary)
