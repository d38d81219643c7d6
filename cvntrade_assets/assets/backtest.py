"""Backtest: what acting on the frozen model's answers over the test slice would have earned, on fine candles."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import dagster as dg
import pandas as pd

from cvntrade_assets.assets.page import picture
from cvntrade_assets.assets.stage import Made, Stage, Summary, span_summary, stage
from cvntrade_assets.learning.from_settings import EXECUTION_SETTINGS, execution
from cvntrade_assets.market.candles import timeframe_delta
from cvntrade_assets.market.history import CandleHistory
from resources.artifacts import Artifact
from resources.codecs import StoredCalibration, StoredModel
from resources.evaluation_codecs import StoredBacktest

if TYPE_CHECKING:
    from cvntrade_assets.learning.simulated_trading import Traded
    from cvntrade_assets.learning.training_set import TrainingSet

EQUITY = "equity"


def show_backtest(stored: StoredBacktest, summary: Summary, stage: Stage) -> Mapping[str, Any]:
    """The equity curve, as a picture behind one click on the asset's page."""
    del summary, stage
    return {"plots": dg.MetadataValue.md(picture(EQUITY, stored.plots[EQUITY]))}


@stage(
    settings=(
        *EXECUTION_SETTINGS,
        "CVN_BACKTEST_TIMEFRAME",
        "CVN_COST_LEVELS",
        "CVN_DEFAULT_PTE",
        "CVN_SL_MULT",
        "CVN_TP_MULT",
        "CVN_SEED",
    ),
    code_version="1",
    group="evaluation",
    owner="ml-owner",
    kinds={"numba", "parquet", "matplotlib"},
    show=show_backtest,
)
def backtest(
    stage: Stage,
    candles: Artifact[CandleHistory],
    backtest_candles: Artifact[CandleHistory],
    features: Artifact[pd.DataFrame],
    training_set: Artifact["TrainingSet"],
    model: Artifact[StoredModel],
    calibration: Artifact[StoredCalibration],
) -> Made:
    """The test slice traded on fine candles: entries at the next open, fees and slippage paid, one position at a time.

    Beside the model stand always saying BUY, executed alike, and buying once and holding. Where the test slice begins
    before the fine candles do, only what they cover is traded, and `covered` says how much that is.
    """
    from cvntrade_assets.learning.answers import answers
    from cvntrade_assets.learning.evaluation_plots import equity_curves
    from cvntrade_assets.trading.comparison import covered
    from cvntrade_assets.trading.performance_intervals import performance_intervals

    settings = stage.settings
    fine, interval = backtest_candles.load().candles, timeframe_delta(settings.text("CVN_BACKTEST_TIMEFRAME"))
    asked = _asked(features.load(), training_set.load())
    signals = answers(model.load().model, calibration.load().calibration, asked)["signal"]
    seen = covered(pd.DatetimeIndex(signals.index), fine)
    _refuse_nothing_to_trade(stage, signals, seen, fine)
    traded = _traded(stage, candles.load().candles, fine, signals.loc[seen], interval)
    strategy, held = traded.compared.backtest, traded.compared
    ends = performance_intervals(
        strategy, interval=interval, horizon=settings.pte.horizon, seed=settings.whole("CVN_SEED")
    )
    equity = equity_curves(
        strategy.equity,
        held.always_buy.equity,
        held.buy_and_hold,
        name="Backtest of the test slice",
        crypto=stage.crypto,
        market=model.market,
    )
    coverage = {"asked": len(signals), "traded": len(seen), "covered": len(seen) / len(signals)}
    notes = [] if len(seen) == len(signals) else [_uncovered(signals, seen, fine)]
    for note in notes:
        stage.context.log.warning(note)
    if not signals.loc[seen].any():
        notes.append("no trade: no probability reaches the threshold from which a candle is traded")
    summary = {**span_summary(strategy.equity.index), **coverage, "notes": notes, **_numbers(traded, ends)}
    return Made(StoredBacktest(traded, {EQUITY: equity}), summary)


def _asked(features: pd.DataFrame, whole: "TrainingSet") -> pd.DataFrame:
    """Every candle from the test slice's first on, whether or not its label was decided: nobody knows that in time."""
    asked: pd.DataFrame = features[features.index >= whole.slice("test").features.index[0]]
    return asked


def _traded(
    stage: Stage, coarse: pd.DataFrame, fine: pd.DataFrame, signals: "pd.Series[bool]", interval: pd.Timedelta
) -> "Traded":
    from cvntrade_assets.learning.simulated_trading import measured
    from cvntrade_assets.trading.comparison import compare

    settings = stage.settings
    compared = compare(
        fine,
        coarse,
        signals,
        settings.pte,
        fine_interval=interval,
        interval=timeframe_delta(settings.text("CVN_TIMEFRAME")),
        execution=execution(settings),
        levels=settings.cost_levels,
    )
    return measured(compared, interval=interval)


def _refuse_nothing_to_trade(
    stage: Stage, signals: "pd.Series[bool]", seen: pd.DatetimeIndex, fine: pd.DataFrame
) -> None:
    if len(seen):
        return
    raise dg.Failure(
        f"the backtest of {stage.crypto} has nothing to trade on: {_uncovered(signals, seen, fine)}. Load more days of "
        "fine candles (CVN_BACKTEST_DAYS), or give the test slice a larger share (CVN_SLICE_TEST).",
        allow_retries=False,
    )


def _uncovered(signals: "pd.Series[bool]", seen: pd.DatetimeIndex, fine: pd.DataFrame) -> str:
    begins = f"begin at {fine.index[0].isoformat()}" if len(fine) else "are none"
    return (
        f"the test slice begins at {signals.index[0].isoformat()} and the fine candles {begins}: "
        f"{len(seen)} of its {len(signals)} rows are traded ({len(seen) / len(signals):.0%})"
    )


def _numbers(traded: "Traded", ends: Mapping[str, tuple[float | None, float | None]]) -> dict[str, Any]:
    """What is defined, by name; the names of the rest."""
    numbers: dict[str, Any] = {
        **asdict(traded.performance),
        **{f"{name}_low": low for name, (low, _) in ends.items()},
        **{f"{name}_high": high for name, (_, high) in ends.items()},
        **{f"always_buy_{name}": getattr(traded.always_buy, name) for name in ("n_trades", "total_return", "sortino")},
        **{f"buy_and_hold_{name}": getattr(traded.buy_and_hold, name) for name in ("total_return", "sortino")},
    }
    defined = {name: value for name, value in numbers.items() if value is not None}
    facts = {"signals": traded.compared.backtest.signals, "without_entry": traded.compared.backtest.without_entry}
    return {**defined, **facts, "undefined": [name for name in numbers if name not in defined]}
