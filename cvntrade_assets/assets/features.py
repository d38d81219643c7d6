"""Features: what is known of the market at a candle's close."""

import pandas as pd

from cvntrade_assets.assets.stage import Made, Stage, span_summary, stage
from cvntrade_assets.market.history import CandleHistory
from resources.artifacts import Artifact


@stage(
    settings=("CVN_TIMEFRAME",),
    code_version="1",
    group="learning",
    owner="ml-owner",
    kinds={"talib", "parquet"},
)
def features(stage: Stage, candles: Artifact[CandleHistory]) -> Made:
    """Scale-free indicators per candle, each computed from that candle and earlier ones only.

    The first candles are missing: recursive indicators need a run-up before they forget where the history began.
    """
    from cvntrade_assets.learning.features import WARM_UP, compute_features

    stage.heartbeat("computing indicators")
    table: pd.DataFrame = compute_features(candles.load().candles)
    return Made(table, {**span_summary(table.index), "features": table.shape[1], "warm_up_candles": WARM_UP})
