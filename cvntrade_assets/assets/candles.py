"""Candles: what the market traded, at the interval that the model learns on and at the one trades are simulated on."""

import hashlib
from typing import Any

import pandas as pd

from cvntrade_assets.assets.stage import Made, Stage, span_summary, stage
from cvntrade_assets.market.candles import gap_report, last_closed_open, timeframe_delta
from cvntrade_assets.market.history import CandleHistory
from resources.market import Window, fetch_candles

_SOURCE = ("CVN_MARKET", "CVN_SIMULATED_SIGNAL", "CVN_SIMULATED_SEED")
_LISTED_GAPS = 50


@stage(
    settings=(*_SOURCE, "CVN_TIMEFRAME", "CVN_DEFAULT_HISTORY_MONTHS"),
    code_version="1",
    group="market",
    owner="mlops-maintainer",
    kinds={"binance", "parquet"},
    source=True,
)
def candles(stage: Stage) -> Made:
    """Closed candles of one crypto, at the interval that the model learns on.

    Months that are closed come from the exchange's archive, checksum verified; the tail comes from its REST API; only
    what is missing is fetched. Gaps stay gaps: the gap report lists them. On the simulated market the candles are made
    up, and everything built on them says so.
    """
    months = stage.settings.whole("CVN_DEFAULT_HISTORY_MONTHS")
    return _fetch(stage, stage.settings.text("CVN_TIMEFRAME"), pd.DateOffset(months=months))


@stage(
    settings=(*_SOURCE, "CVN_BACKTEST_TIMEFRAME", "CVN_BACKTEST_DAYS"),
    code_version="1",
    group="market",
    owner="mlops-maintainer",
    kinds={"binance", "parquet"},
    source=True,
)
def backtest_candles(stage: Stage) -> Made:
    """Fine candles of the evaluation window, for simulating trades candle by candle."""
    days = stage.settings.whole("CVN_BACKTEST_DAYS")
    return _fetch(stage, stage.settings.text("CVN_BACKTEST_TIMEFRAME"), pd.DateOffset(days=days))


def _fetch(stage: Stage, timeframe: str, length: pd.DateOffset) -> Made:
    interval = timeframe_delta(timeframe)
    end = last_closed_open(stage.settings.as_of, interval) + interval
    window = Window(stage.crypto, timeframe, end - length, end)
    warehouse, run_id = stage.resources.warehouse, stage.context.run_id
    known = _known(stage, timeframe)
    result = fetch_candles(stage.settings, window, known, stage.heartbeat, warehouse=warehouse, run_id=run_id)
    warehouse.record_months(stage.crypto, timeframe, result.history.months, run_id)
    history = result.history
    summary = {
        **span_summary(history.candles.index),
        "timeframe": timeframe,
        "as_of": stage.settings.as_of.isoformat(),
        "incomplete_candles": int((~history.candles["complete"]).sum()),
        **_gaps(history, interval),
        **_months(history),
        "archive_requests": result.archive_requests,
        "rest_requests": result.rest_requests,
        "notes": list(result.notes),
    }
    return Made(history, summary, digest(history), history.candles.index[-1] + interval)


def _known(stage: Stage, timeframe: str) -> CandleHistory | None:
    """What the current version already holds, when it is of the same market and interval."""
    previous = stage.previous()
    if previous is None or previous.market != stage.settings.text("CVN_MARKET"):
        return None
    if previous.manifest.summary["timeframe"] != timeframe:
        return None
    history: CandleHistory = previous.load()
    return history


def _gaps(history: CandleHistory, interval: pd.Timedelta) -> dict[str, Any]:
    report = gap_report(history.candles, interval)
    listed = [
        f"{gap.first_missing.isoformat()} to {gap.last_missing.isoformat()}: {gap.candles} candles"
        for gap in report.gaps
    ]
    return {
        "gaps": report.count,
        "missing_candles": report.missing_candles,
        "largest_gap": str(report.largest),
        "gap_list": listed[:_LISTED_GAPS],
    }


def _months(history: CandleHistory) -> dict[str, Any]:
    by_status = {
        status: [item for item in history.months if item.status == status] for status in ("absent", "quarantined")
    }
    return {
        "months_absent": [item.month for item in by_status["absent"]],
        "months_quarantined": {item.month: item.reason for item in by_status["quarantined"]},
    }


def digest(history: CandleHistory) -> str:
    """A hash of every candle and of what is known of the months behind them: the same history, the same version."""
    candles = pd.util.hash_pandas_object(history.candles, index=True).to_numpy().tobytes()
    return hashlib.sha256(candles + repr(history.months).encode()).hexdigest()[:20]
