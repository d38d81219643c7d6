"""Rolling backtest: the newest test period in steps, everything fitted anew before each of them."""

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import pandas as pd

from cvntrade_assets.assets.candidates import TESTING_SETTINGS, gather, through_all
from cvntrade_assets.assets.page import table
from cvntrade_assets.assets.pulse import Pulse
from cvntrade_assets.assets.stage import Made, Stage, Summary, stage
from cvntrade_assets.learning.from_settings import execution, recipe, slice_fractions
from cvntrade_assets.market.history import CandleHistory
from resources.artifacts import Artifact

if TYPE_CHECKING:
    from cvntrade_assets.learning.rolling import Rolled
    from cvntrade_assets.learning.timeline import FoldPlan
    from cvntrade_assets.learning.walk_forward import Tested

_STEP_COLUMNS = (
    *(("pte", "string"), ("step", "int"), ("from", "string"), ("until", "string"), ("train_rows", "int")),
    *(("threshold", "float"), ("trade_threshold", "float")),
)


def show_steps(value: "tuple[Rolled, ...]", summary: Summary, stage: Stage) -> Mapping[str, Any]:
    """Every candidate's steps as a table."""
    del summary, stage
    rows = [
        {
            "pte": str(rolled.pte),
            "step": step.plan.number,
            "from": step.plan.starts[3].isoformat(),
            "until": step.plan.end.isoformat(),
            "train_rows": step.rows["train"],
            "threshold": step.threshold,
            "trade_threshold": step.trade_threshold,
        }
        for rolled in value
        for step in rolled.steps
    ]
    return {"steps": table(_STEP_COLUMNS, rows)}


@stage(
    settings=(*TESTING_SETTINGS, "CVN_ROLLING_STEP_DAYS"),
    code_version="1",
    group="discovery",
    owner="ml-owner",
    kinds={"xgboost", "numba"},
    show=show_steps,
    on_demand=True,
)
def rolling_backtest(
    stage: Stage,
    candles: Artifact[CandleHistory],
    features: Artifact[pd.DataFrame],
    backtest_candles: Artifact[CandleHistory],
    walk_forward: Artifact["tuple[Tested, ...]"],
) -> Made:
    """The walk-forward rolling backtest (WFRB) of every tested candidate, on the fine candles of the last test period.

    Before each step trees, calibration and thresholds are fitted on that step's own past, with the hyperparameters that
    the last fold found before the period began. The last step's model is the one that may be registered: it was made
    by the procedure that was judged. A candidate with a step that cannot be fitted is left out, and said why.
    """
    from cvntrade_assets.learning.rolling import roll
    from cvntrade_assets.learning.timeline import plan_steps

    settings, tested = stage.settings, walk_forward.load()
    history = gather(stage, candles, features, backtest_candles)
    steps = plan_steps(
        pd.DatetimeIndex(history.features.index),
        tested[0].last.plan,
        pd.Timedelta(days=settings.whole("CVN_ROLLING_STEP_DAYS")),
        fractions=slice_fractions(settings),
        mode=settings.choice("CVN_WALK_FORWARD_MODE"),
    )
    say = Pulse(stage.heartbeat)

    def step_through(each: "Tested") -> "Rolled":
        stage.heartbeat(f"rolling backtest: {each.pte}, {len(steps)} steps")
        return roll(history, each, steps, recipe(settings), execution(settings), levels=settings.cost_levels, say=say)

    rolled, untestable = through_all(stage, {str(each.pte): partial(step_through, each) for each in tested}, "rolled")
    return Made(rolled, {**_summary(rolled, steps), "untestable": untestable})


def _summary(rolled: "tuple[Rolled, ...]", steps: "tuple[FoldPlan, ...]") -> dict[str, Any]:
    return {
        "rows": sum(len(each.predictions) for each in rolled),
        "from": steps[0].starts[3].isoformat(),
        "to": steps[-1].end.isoformat(),
        "steps": len(steps),
        "candidates": [str(each.pte) for each in rolled],
        "model_data_until": {str(each.pte): each.data_until.isoformat() for each in rolled},
        "sortino": {str(each.pte): each.performance.sortino for each in rolled},
        "n_trades": {str(each.pte): each.performance.n_trades for each in rolled},
    }
