"""Walk-forward: every candidate fitted anew on the past of each fold, and judged on the period after it."""

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import pandas as pd

from cvntrade_assets.assets.allowed import require_allowed
from cvntrade_assets.assets.candidates import TESTING_SETTINGS, gather, through_all
from cvntrade_assets.assets.page import table
from cvntrade_assets.assets.pulse import Pulse
from cvntrade_assets.assets.stage import Made, Stage, Summary, stage
from cvntrade_assets.hyperparameters import MODELS, table_digest
from cvntrade_assets.learning.from_settings import execution, fold_plans, recipe
from cvntrade_assets.market.history import CandleHistory
from cvntrade_assets.trading.pte import PTE
from resources.artifacts import Artifact
from resources.codecs import StoredScreening

if TYPE_CHECKING:
    from cvntrade_assets.learning.history import History
    from cvntrade_assets.learning.timeline import FoldPlan
    from cvntrade_assets.learning.walk_forward import Tested

_FOLD_COLUMNS = (
    *(("pte", "string"), ("fold", "int"), ("test_from", "string"), ("test_until", "string"), ("rows", "int")),
    *(("f1_buy", "float"), ("baseline_f1_buy", "float"), ("buy_rate", "float"), ("threshold", "float")),
    *(("trade_threshold", "float"), ("n_trades", "int"), ("sortino", "float")),
)


def show_folds(value: "tuple[Tested, ...]", summary: Summary, stage: Stage) -> Mapping[str, Any]:
    """Every candidate's folds as a table."""
    del summary, stage
    rows = [
        {
            "pte": str(tested.pte),
            "fold": fold.plan.number,
            "test_from": fold.plan.starts[3].isoformat(),
            "test_until": fold.plan.end.isoformat(),
            "rows": fold.report.rows,
            "f1_buy": fold.report.f1_buy,
            "baseline_f1_buy": fold.report.baseline_f1_buy,
            "buy_rate": fold.report.buy_rate,
            "threshold": fold.threshold,
            "trade_threshold": fold.trade_threshold,
            "n_trades": fold.performance.n_trades,
            "sortino": fold.performance.sortino,
        }
        for tested in value
        for fold in tested.folds
    ]
    return {"folds": table(_FOLD_COLUMNS, rows)}


@stage(
    settings=TESTING_SETTINGS,
    # Every model of the table takes part in a fold.
    code_version=f"1-{table_digest(*MODELS)}",
    group="discovery",
    owner="ml-owner",
    kinds={"xgboost", "optuna", "numba"},
    show=show_folds,
    on_demand=True,
    may_be_older=("screening_matrix",),
)
def walk_forward(
    stage: Stage,
    candles: Artifact[CandleHistory],
    features: Artifact[pd.DataFrame],
    backtest_candles: Artifact[CandleHistory],
    screening_matrix: Artifact[StoredScreening],
) -> Made:
    """The candidates of the screening, each through all folds: tuned, fitted and calibrated on the fold's own past.

    Every test period lies after everything that its fold learned from, and after everything that the screening saw.
    The last fold's frozen model also trades the fine candles of its test period. A candidate that cannot be tested is
    left out, and said why.
    """
    from cvntrade_assets.learning.walk_forward import test_candidate

    settings = stage.settings
    history = gather(stage, candles, features, backtest_candles)
    plans = fold_plans(settings, pd.DatetimeIndex(history.features.index))
    candidates = screening_matrix.load().screening.candidates
    _require_allowed(stage, history, candidates[0], plans[-1])
    say = Pulse(stage.heartbeat)

    def test(pte: PTE) -> "Tested":
        stage.heartbeat(f"walk-forward: candidate {candidates.index(pte) + 1} of {len(candidates)}, {pte}")
        return test_candidate(
            history, pte, plans, recipe(settings), execution(settings), levels=settings.cost_levels, say=say
        )

    tested, untestable = through_all(stage, {str(pte): partial(test, pte) for pte in candidates}, "tested")
    return Made(tested, _summary(tested, untestable, plans))


def _require_allowed(stage: Stage, history: "History", pte: PTE, last: "FoldPlan") -> None:
    """Ask preflight about the largest training slice, that of the last fold."""
    # numba, which the kernel needs, is slow to import.
    from cvntrade_assets.learning.barriers import label_candles

    made = recipe(stage.settings)
    labels = label_candles(history.candles, pte, interval=history.interval, binary=made.binary)
    train_rows = history.rows(labels, last.past, made).count()["train"]
    require_allowed(stage, len(history.candles), train_rows, history.features.shape[1])


def _summary(
    tested: "tuple[Tested, ...]", untestable: Mapping[str, str], plans: "tuple[FoldPlan, ...]"
) -> dict[str, Any]:
    return {
        "rows": sum(fold.report.rows for each in tested for fold in each.folds),
        "from": plans[0].starts[3].isoformat(),
        "to": plans[-1].end.isoformat(),
        "folds": len(plans),
        "candidates": [str(each.pte) for each in tested],
        "untestable": dict(untestable),
        "last_fold_f1_buy": {str(each.pte): each.last_fold_f1_buy for each in tested},
        "baseline_f1_buy": {str(each.pte): each.last.report.baseline_f1_buy for each in tested},
        "screening_f1_buy": {str(each.pte): each.screening_f1_buy for each in tested},
    }
