"""From settings to the arguments of learning: the one place where assets, preflight and scripts read them alike."""

from typing import TYPE_CHECKING

import pandas as pd

from cvntrade_assets.settings import HYPERPARAMETERS, Hyperparameter, Settings

if TYPE_CHECKING:
    from cvntrade_assets.learning.boosting import Loss
    from cvntrade_assets.learning.splits import SliceFractions
    from cvntrade_assets.learning.training_set import CusumMode
    from cvntrade_assets.learning.tuning import SearchRange

SLICE_SETTINGS = ("CVN_SLICE_TRAIN", "CVN_SLICE_VALIDATION", "CVN_SLICE_CALIBRATION", "CVN_SLICE_TEST")


def cusum_mode(settings: Settings) -> "CusumMode":
    """`off`, or which candles of the training slice the CUSUM filter keeps."""
    mode: CusumMode = settings.choice("CVN_CUSUM_FILTER_MODE")
    return mode if settings.flag("CVN_CUSUM_TRAINING_ENABLED") else "off"


def slice_fractions(settings: Settings) -> "SliceFractions":
    """The four shares of the timeline."""
    from cvntrade_assets.learning.splits import SliceFractions

    return SliceFractions(*(settings.number(name) for name in SLICE_SETTINGS))


def embargo(settings: Settings) -> pd.Timedelta:
    """Time left out after every boundary."""
    return pd.Timedelta(hours=settings.number("CVN_EMBARGO_HOURS"))


def search_space(settings: Settings) -> dict[str, "SearchRange"]:
    """The declared ranges of what is searched and not pinned."""
    from cvntrade_assets.learning.tuning import SearchRange

    pinned = settings.pinned()
    return {
        item.name: SearchRange(item.low, item.high, item.log, item.integer)
        for item in HYPERPARAMETERS["XGBOOST"]
        if item.searched and item.name not in pinned
    }


def fixed_hyperparameters(settings: Settings) -> dict[str, float | int]:
    """Pinned values, and the defaults of those that are never searched."""
    fixed = {item.name: _default(item) for item in HYPERPARAMETERS["XGBOOST"] if not item.searched}
    return fixed | settings.pinned()


def loss(settings: Settings) -> "Loss":
    """What every fit minimises: softmax for three classes, the focal loss when asked for, else the logistic loss."""
    from cvntrade_assets.learning.boosting import Loss

    if not settings.flag("CVN_BINARY_CLASSIFICATION"):
        return Loss("softprob")
    if settings.flag("CVN_FOCAL_LOSS"):
        return Loss("focal", settings.number("CVN_FOCAL_GAMMA"))
    return Loss("logistic")


def _default(item: Hyperparameter) -> float | int:
    return int(item.default) if item.integer else item.default
