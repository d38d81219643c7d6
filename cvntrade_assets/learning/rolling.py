"""The rolling backtest: the newest test period walked in steps, everything fitted anew before each of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pandas as pd

from cvntrade_assets.learning.history import History, between
from cvntrade_assets.learning.recipe import Fitted, Recipe, Say, fit, predict
from cvntrade_assets.learning.simulated_trading import trade
from cvntrade_assets.learning.timeline import FoldPlan
from cvntrade_assets.learning.walk_forward import Tested, labelled, naming

if TYPE_CHECKING:
    from cvntrade_assets.trading.comparison import Compared
    from cvntrade_assets.trading.execution import Execution
    from cvntrade_assets.trading.metrics import EquityMeasures, Performance
    from cvntrade_assets.trading.pte import PTE


@dataclass(frozen=True, eq=False)
class StepResult:
    """One step: its past and period, the rows of each slice of that past, the thresholds taken on it."""

    plan: FoldPlan
    rows: Mapping[str, int]
    threshold: float
    trade_threshold: float


@dataclass(frozen=True, eq=False)
class Rolled:
    """One candidate's rolling backtest.

    Attributes:
        pte: The candidate.
        steps: In time order.
        predictions: One row per labelled candle of the window, as `walk_forward.FoldResult.predictions`; each was said
            by the model of its step.
        compared: The backtest on fine candles beside its baselines.
        performance: What it came to.
        always_buy: Of a signal at every candle.
        buy_and_hold: Of holding.
        daily: Net returns per whole UTC day.
        last: What the last step fitted: the model to register.
        data_until: The moment at which it was fitted; it knows no candle that closed later.
    """

    pte: PTE
    steps: tuple[StepResult, ...]
    predictions: pd.DataFrame
    compared: Compared
    performance: Performance
    always_buy: Performance
    buy_and_hold: EquityMeasures
    daily: pd.Series
    last: Fitted
    data_until: pd.Timestamp


def roll(
    history: History,
    tested: Tested,
    steps: Sequence[FoldPlan],
    recipe: Recipe,
    execution: Execution,
    *,
    levels: Sequence[float],
    say: Say,
) -> Rolled:
    """Walk the last fold's test period step by step, each fitted on what was known when it begins.

    Features, labels, trees, calibration and thresholds are a step's own. Hyperparameters are the last fold's: its
    search ended where the first step begins. Trades run on from step to step: one account, one position at a time.

    Args:
        history: The market.
        tested: The candidate after its folds.
        steps: The steps, in time order; together the last fold's test period, which has fine candles.
        recipe: How each step is fitted; its `params` are replaced.
        execution: How answers become trades.
        levels: Multiples of the costs that the backtest pays.
        say: Told where it is, often; see `recipe.fit`.

    Raises:
        UntestableCandidateError: A step cannot be fitted or traded; says which, why and what to do.
    """
    # numba, which the kernel needs, is slow to import.
    from cvntrade_assets.learning.barriers import label_candles

    pte, recipe = tested.pte, replace(recipe, params=tested.last.fitted.params)
    labels = label_candles(history.candles, pte, interval=history.interval, binary=recipe.binary)
    results, answers = [], []
    for plan in steps:
        with naming(f"{pte}, rolling step {plan.number} of {len(steps)}", say) as tell:
            rows = history.rows(labels, plan.past, recipe)
            fitted = fit(recipe, rows, say=tell)
            answers.append(predict(fitted, between(history.features, plan.starts[3], plan.end)))
            counts = rows.count()
            rows_by_slice = {name: counts[name] for name in plan.past.slices}
            frozen = fitted.calibration
            results.append(StepResult(plan, rows_by_slice, frozen.threshold, frozen.trade_threshold))
    said = pd.concat(answers)
    first, last = steps[0], steps[-1]
    with naming(f"{pte}, rolling backtest on {history.fine_interval} candles", say):
        fine = between(history.fine, first.starts[3], last.end)
        interval = history.fine_interval
        traded = trade(history, said["signal"], fine, pte, execution, interval=interval, levels=levels)
        window = history.rows(labels, FoldPlan(0, first.starts, last.end).whole, recipe).slice("test")
    return Rolled(
        pte,
        tuple(results),
        labelled(window, said),
        **vars(traded),
        last=fitted,
        data_until=last.starts[3],
    )
