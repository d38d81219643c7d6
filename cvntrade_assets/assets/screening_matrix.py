"""Screening matrix: every point of the PTE grid, ranked on a slice that lies before the first test period."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import dagster as dg
import numpy as np
import pandas as pd

from cvntrade_assets.assets.page import picture, table
from cvntrade_assets.assets.pulse import Pulse
from cvntrade_assets.assets.stage import Made, Stage, Summary, stage
from cvntrade_assets.hyperparameters import table_digest
from cvntrade_assets.learning.from_settings import (
    EXECUTION_SETTINGS,
    PLAN_SETTINGS,
    execution,
    fold_plans,
    recipe,
)
from cvntrade_assets.market.candles import timeframe_delta
from cvntrade_assets.market.history import CandleHistory
from resources.artifacts import Artifact
from resources.codecs import StoredScreening

if TYPE_CHECKING:
    from cvntrade_assets.learning.screening import Screening
    from cvntrade_assets.learning.splits import Boundaries

HEAT_MAP = "screening_heat_map"
_SHOWN_POINTS = 20
_SHOWN_DIGITS = 5
_SHOWN_COLUMNS = (
    *(("rank", "int"), ("pte", "string"), ("eligible", "bool"), ("sharpe", "float"), ("expectancy_net", "float")),
    *(("n_trades", "int"), ("f1_buy", "float"), ("baseline_f1_buy", "float"), ("reason", "string")),
)


def show_screening(stored: StoredScreening, summary: Summary, stage: Stage) -> Mapping[str, Any]:
    """The heat map behind one click on the asset's page, and the best points as a table."""
    del summary, stage
    best = stored.screening.points.head(_SHOWN_POINTS).round(_SHOWN_DIGITS)
    return {
        "heat_map": dg.MetadataValue.md(picture(HEAT_MAP, stored.plots[HEAT_MAP])),
        f"best_{_SHOWN_POINTS}": table(_SHOWN_COLUMNS, best.to_dict(orient="records")),
    }


@stage(
    settings=(
        *EXECUTION_SETTINGS,
        *PLAN_SETTINGS,
        "CVN_SCREENING_HORIZONS",
        "CVN_SCREENING_SL_RANGE",
        "CVN_SCREENING_TP_RANGE",
        "CVN_CANDIDATES",
        "CVN_CUSUM_TRAINING_ENABLED",
        "CVN_CUSUM_FILTER_MODE",
        "CVN_CUSUM_THRESHOLD_H",
        "CVN_UNIQUENESS_WEIGHTS",
        "CVN_EMBARGO_HOURS",
        "CVN_THRESHOLD_METHOD",
        "CVN_TRADE_THRESHOLD_METHOD",
        "CVN_SEED",
        "CVN_GATE_TRADES",
        "CVN_HPO_SCREENING_*",
    ),
    code_version=f"1-{table_digest('SCREENING')}",
    group="discovery",
    owner="ml-owner",
    kinds={"xgboost", "numba", "matplotlib"},
    show=show_screening,
    on_demand=True,
)
def screening_matrix(stage: Stage, candles: Artifact[CandleHistory], features: Artifact[pd.DataFrame]) -> Made:
    """A cheap model for every point of the PTE grid, ranked by net Sharpe ratio before the first test period.

    What the best of many points earns here is partly luck: nothing of it is a result. It says which points are worth
    testing, and how many there were to choose from.
    """
    from cvntrade_assets.learning.screening import least_trades_of, screen
    from cvntrade_assets.learning.screening_plot import screening_heat_map
    from cvntrade_assets.learning.timeline import plan_screening

    settings, rows = stage.settings, features.load()
    plan = plan_screening(fold_plans(settings, pd.DatetimeIndex(rows.index))[0])
    test = pd.Timedelta(days=settings.whole("CVN_BACKTEST_DAYS"))
    pulse = Pulse(stage.heartbeat)
    screening = screen(
        candles.load().candles,
        rows,
        interval=timeframe_delta(settings.text("CVN_TIMEFRAME")),
        grid=settings.grid,
        plan=plan,
        recipe=recipe(settings),
        execution=execution(settings),
        least_trades=least_trades_of(settings.whole("CVN_GATE_TRADES"), plan.end - plan.starts[2], test),
        n_candidates=settings.whole("CVN_CANDIDATES"),
        on_point=lambda done, points: pulse(f"screening: {done} of {points} points"),
    )
    heat_map = screening_heat_map(screening, crypto=stage.crypto, market=candles.market)
    return Made(StoredScreening(screening, {HEAT_MAP: heat_map}), _summary(screening, plan))


def _summary(screening: "Screening", plan: "Boundaries") -> dict[str, Any]:
    best = screening.points.iloc[0]
    sharpe = {"best_sharpe": float(best["sharpe"])} if np.isfinite(best["sharpe"]) else {}
    return {
        "points": screening.trials,
        "left_out": [str(pte) for pte in screening.left_out],
        "eligible": int(screening.points["eligible"].sum()),
        "candidates": [str(pte) for pte in screening.candidates],
        "best": str(best["pte"]),
        **sharpe,
        "least_trades": screening.least_trades,
        "selection_from": plan.starts[2].isoformat(),
        "selection_to": plan.end.isoformat(),
    }
