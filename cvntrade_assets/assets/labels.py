"""Labels: what a trade entered after a candle would have come to."""

from cvntrade_assets.assets.stage import Made, Stage, span_summary, stage
from cvntrade_assets.market.candles import timeframe_delta
from cvntrade_assets.market.history import CandleHistory
from resources.artifacts import Artifact


@stage(
    settings=("CVN_TIMEFRAME", "CVN_DEFAULT_PTE", "CVN_SL_MULT", "CVN_TP_MULT", "CVN_BINARY_CLASSIFICATION"),
    code_version="1",
    group="learning",
    owner="ml-owner",
    kinds={"numba", "parquet"},
)
def labels(stage: Stage, candles: Artifact[CandleHistory]) -> Made:
    """Triple-barrier labels: BUY when the take-profit is reached before the stop-loss and within the horizon.

    The signal is known at a candle's close and acted on at the next open; barriers are multiples of the ATR at the
    signal. The stop-loss wins a candle that touches both, and the label says that it was ambiguous.
    """
    from cvntrade_assets.learning.barriers import label_candles

    binary = stage.settings.flag("CVN_BINARY_CLASSIFICATION")
    interval = timeframe_delta(stage.settings.text("CVN_TIMEFRAME"))
    table = label_candles(candles.load().candles, stage.settings.pte, interval=interval, binary=binary)
    shares = table["exit_kind"].value_counts(normalize=True)
    summary = {
        **span_summary(table.index),
        "pte": str(stage.settings.pte),
        "buy_rate": float((table["label"] == 1).mean()),
        "sell_rate": float((table["label"] == -1).mean()),
        **{f"{kind}_share": float(shares[kind]) for kind in ("tp", "sl", "timeout")},
        "ambiguous": int(table["ambiguous"].sum()),
    }
    return Made(table, summary)
