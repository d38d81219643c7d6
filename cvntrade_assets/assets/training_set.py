"""Training set: features beside labels, in four slices of time."""

import pandas as pd

from cvntrade_assets.assets.stage import Made, Stage, span_summary, stage
from cvntrade_assets.learning.from_settings import SLICE_SETTINGS, cusum_mode, embargo, slice_fractions
from cvntrade_assets.market.history import CandleHistory
from resources.artifacts import Artifact

CUSUM_SETTINGS = ("CVN_CUSUM_TRAINING_ENABLED", "CVN_CUSUM_FILTER_MODE", "CVN_CUSUM_THRESHOLD_H")


@stage(
    settings=(*CUSUM_SETTINGS, *SLICE_SETTINGS, "CVN_UNIQUENESS_WEIGHTS", "CVN_EMBARGO_HOURS"),
    code_version="2",
    group="learning",
    owner="ml-owner",
    kinds={"numba", "parquet"},
)
def training_set(
    stage: Stage,
    candles: Artifact[CandleHistory],
    features: Artifact[pd.DataFrame],
    labels: Artifact[pd.DataFrame],
) -> Made:
    """Train, validation, calibration and test slice, in time order, purged and embargoed.

    The CUSUM filter thins the training slice only: one or two thousand rows at the defaults, about twenty-eight
    thousand without it. Rows weigh by how little their label overlaps others.
    """
    from cvntrade_assets.learning.cusum import cusum_events
    from cvntrade_assets.learning.training_set import assemble_training_set
    from cvntrade_assets.market.volatility import average_true_range

    traded = candles.load().candles
    events = cusum_events(traded, average_true_range(traded), stage.settings.number("CVN_CUSUM_THRESHOLD_H"))
    result = assemble_training_set(
        features.load(),
        labels.load(),
        events,
        cusum_mode(stage.settings),
        slice_fractions(stage.settings),
        embargo(stage.settings),
        stage.settings.flag("CVN_UNIQUENESS_WEIGHTS"),
    )
    counts = result.targets["slice"].value_counts()
    buy_rates = (result.targets["label"] == 1).groupby(result.targets["slice"], observed=True).mean()
    summary = {
        **span_summary(result.targets.index),
        "candles": len(traded),
        "offered_features": result.features.shape[1],
        "cusum_events": len(events),
        **{f"{name}_rows": int(counts[name]) for name in counts.index},
        **{f"{name}_buy_rate": float(buy_rates[name]) for name in buy_rates.index},
    }
    return Made(result, summary)
