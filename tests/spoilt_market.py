"""A market that answers with bad candles, and what becomes of runs that meet them."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import dagster as dg
import pytest

from cvntrade_assets.market.history import CandleHistory
from resources.binance import FetchResult
from resources.market import fetch_candles

_FETCH = "cvntrade_assets.assets.candles.fetch_candles"


def spoil_market(patch: pytest.MonkeyPatch, spoil: Callable[[CandleHistory], CandleHistory]) -> None:
    """The market goes on answering, with bad 30-minute candles."""

    def fetch(settings: Any, window: Any, *rest: Any, **more: Any) -> FetchResult:
        result = fetch_candles(settings, window, *rest, **more)
        return replace(result, history=spoil(result.history)) if window.timeframe == "30m" else result

    patch.setattr(_FETCH, fetch)


def price_below_zero(history: CandleHistory) -> CandleHistory:
    candles = history.candles.copy()
    candles.iloc[10, candles.columns.get_loc("low")] = -1.0
    return replace(history, candles=candles)


def materialised(result: dg.ExecuteInProcessResult) -> set[str]:
    return {event.materialization.asset_key.to_user_string() for event in result.get_asset_materialization_events()}


def refusal(result: dg.ExecuteInProcessResult, step: str) -> str:
    """What a failed step told the operator; it must have been tried once."""
    types = [event.event_type_value for event in result.all_events if event.step_key == step]
    assert types.count("STEP_START") == 1
    assert "STEP_UP_FOR_RETRY" not in types
    [failure] = [event for event in result.all_events if event.is_step_failure and event.step_key == step]
    data = failure.step_failure_data
    assert data.user_failure_data is not None
    return str(data.user_failure_data.description)
