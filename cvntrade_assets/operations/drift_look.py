"""One look for drift: from a frozen model, the newest tables and settings to a report, alike for asset and check."""

from collections.abc import Mapping

import pandas as pd

from cvntrade_assets.market.candles import timeframe_delta
from cvntrade_assets.operations.drift import DriftLimits, DriftReport, look, past_of
from cvntrade_assets.operations.drift_columns import Past
from cvntrade_assets.operations.drift_evidence import Evidence, Fresh, Learnt, gather
from cvntrade_assets.settings import Settings

LOOK_SETTINGS = (
    "CVN_DRIFT_WINDOW_DAYS",
    "CVN_DRIFT_LEAST_CANDLES",
    "CVN_DRIFT_LEAST_LABELS",
    "CVN_DRIFT_ALPHA",
    "CVN_DRIFT_OUTCOME_ALPHA",
    "CVN_DRIFT_WARNING_SHARE",
    "CVN_DRIFT_CRITICAL_SHARE",
    "CVN_TIMEFRAME",
    "CVN_DEFAULT_PTE",
    "CVN_SL_MULT",
    "CVN_TP_MULT",
    "CVN_SEED",
)
"""Everything that a look reads of the settings."""


def drift_limits(settings: Settings) -> DriftLimits:
    """What a window is held against; its length in candles of CVN_TIMEFRAME."""
    length = pd.Timedelta(days=settings.whole("CVN_DRIFT_WINDOW_DAYS"))
    return DriftLimits(
        longest=int(length / timeframe_delta(settings.text("CVN_TIMEFRAME"))),
        least=settings.whole("CVN_DRIFT_LEAST_CANDLES"),
        least_labels=settings.whole("CVN_DRIFT_LEAST_LABELS"),
        alpha=settings.number("CVN_DRIFT_ALPHA"),
        outcome_alpha=settings.number("CVN_DRIFT_OUTCOME_ALPHA"),
        warning_share=settings.number("CVN_DRIFT_WARNING_SHARE"),
        critical_share=settings.number("CVN_DRIFT_CRITICAL_SHARE"),
    )


def look_at(
    learnt: Learnt,
    features: pd.DataFrame,
    labels: pd.DataFrame,
    settings: Settings,
    past: Mapping[str, Past] | None = None,
) -> tuple[Evidence, DriftReport]:
    """Compare the newest candles with what the model was made from.

    Args:
        learnt: The model, and what it was made from.
        features: Of the newest candles, the last one closed.
        labels: Of those that are decided.
        settings: Limits, timeframe and PTE.
        past: What is usual, of an earlier look at the same model with a window as long; worked out unless given.

    Raises:
        TooLittleError: there are too few candles to say anything.
    """
    from cvntrade_assets.learning.scores import block_length

    limits, interval = drift_limits(settings), timeframe_delta(settings.text("CVN_TIMEFRAME"))
    horizon = settings.pte.horizon
    # A trade is entered at the next open and lasts until the horizon at most.
    fresh = Fresh(features, labels, now=features.index[-1] + interval, settles=interval + horizon)
    evidence = gather(learnt, fresh, longest=limits.longest, least=limits.least)
    block, seed = block_length(horizon, interval), settings.whole("CVN_SEED")
    return evidence, look(evidence, past or past_of(evidence), limits, block=block, seed=seed)
