"""What a frozen model says of candles."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

if TYPE_CHECKING:
    from cvntrade_assets.learning.calibration import Calibration
    from cvntrade_assets.learning.training import TrainedModel


def answers(model: TrainedModel, calibration: Calibration, features: pd.DataFrame) -> pd.DataFrame:
    """What a frozen model says of candles, whether or not they have a label.

    Args:
        model: The boosted trees.
        calibration: The calibrator and the two thresholds.
        features: Finite numbers; holds the model's columns, others are ignored.

    Returns:
        Index that of `features`; columns `score` (float64, the model's), `probability` (float64, calibrated),
        `predicted` (bool, BUY is said) and `signal` (bool, the candle is to be traded).
    """
    # xgboost is slow to import.
    from cvntrade_assets.learning.calibration import apply_calibration
    from cvntrade_assets.learning.training import score_buy

    score = score_buy(model, features[list(model.feature_names)])
    probability = apply_calibration(calibration, score)
    return pd.DataFrame(
        {
            "score": score,
            "probability": probability,
            "predicted": probability >= calibration.threshold,
            "signal": probability >= calibration.trade_threshold,
        }
    )
