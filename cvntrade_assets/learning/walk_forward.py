"""Walk-forward testing: one candidate fitted anew on the past of every fold and judged on the period after it."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from cvntrade_assets.learning.history import History, between
from cvntrade_assets.learning.recipe import Fitted, Recipe, Say, fit, predict
from cvntrade_assets.learning.simulated_trading import trade
from cvntrade_assets.learning.timeline import FoldPlan
from cvntrade_assets.learning.training_set import TrainingSet
from cvntrade_assets.trading.cost_levels import JUDGED_LEVEL

if TYPE_CHECKING:
    from cvntrade_assets.learning.report import TestReport
    from cvntrade_assets.trading.comparison import Compared
    from cvntrade_assets.trading.execution import Execution
    from cvntrade_assets.trading.metrics import EquityMeasures, Performance
    from cvntrade_assets.trading.pte import PTE

TRUTH_COLUMNS = ("label", "return", "exit_kind", "entry_time", "exit_time")


class UntestableCandidateError(ValueError):
    """Trade execution parameters that cannot be tested: which, in which fold, and why."""


@dataclass(frozen=True, eq=False)
class FoldResult:
    """One fold: what was fitted on its past and what that was worth on its test period.

    Attributes:
        plan: Its past and its test period.
        fitted: The frozen model, calibration and thresholds.
        rows: Rows of each slice.
        report: Scores on the test slice.
        predictions: One row per labelled candle of the test slice: `label`, `return`, `exit_kind`, `entry_time`,
            `exit_time`, `score`, `probability`, `predicted`, `signal`.
        performance: Of trading the test period on the candles that the model learns on.
        always_buy: Of a signal at every candle of it.
        buy_and_hold: Of holding it.
        daily: Net returns per whole UTC day.
    """

    plan: FoldPlan
    fitted: Fitted
    rows: Mapping[str, int]
    report: TestReport
    predictions: pd.DataFrame
    performance: Performance
    always_buy: Performance
    buy_and_hold: EquityMeasures
    daily: pd.Series

    @property
    def threshold(self) -> float:
        """Calibrated probability from which BUY is said."""
        return self.fitted.calibration.threshold

    @property
    def trade_threshold(self) -> float:
        """Calibrated probability from which a candle is traded."""
        return self.fitted.calibration.trade_threshold


@dataclass(frozen=True, eq=False)
class Tested:
    """One candidate after all folds; the last one's frozen model also trades the fine candles of its test period.

    Attributes:
        pte: The candidate.
        folds: In time order.
        screening_f1_buy: F1 on the last fold's test slice of the cheap recipe that screened, fitted on that fold's own
            past.
        compared: The backtest on fine candles beside its baselines.
        performance: What it came to.
        always_buy: Of a signal at every candle.
        buy_and_hold: Of holding.
        daily: Net returns per whole UTC day.
    """

    pte: PTE
    folds: tuple[FoldResult, ...]
    screening_f1_buy: float
    compared: Compared
    performance: Performance
    always_buy: Performance
    buy_and_hold: EquityMeasures
    daily: pd.Series

    # pytest takes classes named Test… for tests.
    __test__ = False

    @property
    def last(self) -> FoldResult:
        """The newest fold."""
        return self.folds[-1]

    @property
    def last_fold_f1_buy(self) -> float:
        """F1 of BUY on the newest test slice: the headline."""
        return self.last.report.f1_buy

    @property
    def std_f1_buy(self) -> float | None:
        """Sample standard deviation of F1 of BUY over the folds; None for a single one."""
        return statistics.stdev(fold.report.f1_buy for fold in self.folds) if len(self.folds) > 1 else None


def test_candidate(
    history: History,
    pte: PTE,
    plans: Sequence[FoldPlan],
    recipe: Recipe,
    execution: Execution,
    *,
    levels: Sequence[float],
    say: Say,
) -> Tested:
    """Fit and judge one candidate fold by fold, each with what was known before its test period.

    Labels are made once for the whole history; a fold takes those that were decided when its boundaries passed.

    Args:
        history: The market.
        pte: The candidate.
        plans: The folds, in time order; the last one's test period has fine candles.
        recipe: How each fold is fitted.
        execution: How answers become trades.
        levels: Multiples of the costs that the backtest on fine candles pays.
        say: Told where the test is, often; see `recipe.fit`.

    Raises:
        UntestableCandidateError: A fold cannot be fitted, judged or traded; says which, why and what to do.
    """
    # numba, which the kernel needs, is slow to import.
    from cvntrade_assets.learning.barriers import label_candles
    from cvntrade_assets.learning.screening import cheap_recipe

    labels = label_candles(history.candles, pte, interval=history.interval, binary=recipe.binary)
    folds = []
    for plan in plans:
        with naming(f"{pte}, fold {plan.number} of {len(plans)}", say) as tell:
            folds.append(_test_fold(history, labels, pte, plan, recipe, execution, tell))
    last = folds[-1]
    with naming(f"{pte}, screening's recipe on the last fold", say) as tell:
        rows = history.rows(labels, last.plan.whole, recipe)
        screening_f1_buy = _f1_buy(fit(cheap_recipe(recipe), rows, say=tell), rows.slice("test"))
    with naming(f"{pte}, backtest on {history.fine_interval} candles", say):
        fine = between(history.fine, last.plan.starts[3], last.plan.end)
        said = _answers(history, last.fitted, last.plan)
        interval = history.fine_interval
        traded = trade(history, said["signal"], fine, pte, execution, interval=interval, levels=levels)
    return Tested(pte, tuple(folds), screening_f1_buy, **vars(traded))


@contextmanager
def naming(place: str, say: Say) -> Iterator[Say]:
    """Say where the work is, put the place before everything said there, and name it when the work is refused.

    Raises:
        UntestableCandidateError: The work raised a ValueError.
    """
    say(place)
    try:
        yield lambda text: say(f"{place}: {text}")
    except ValueError as error:
        raise UntestableCandidateError(f"{place}: {error}") from error


def _test_fold(
    history: History,
    labels: pd.DataFrame,
    pte: PTE,
    plan: FoldPlan,
    recipe: Recipe,
    execution: Execution,
    say: Say,
) -> FoldResult:
    from cvntrade_assets.learning.report import report_test_slice
    from cvntrade_assets.learning.scores import block_length

    rows = history.rows(labels, plan.whole, recipe)
    fitted = fit(recipe, rows, say=say)
    said = _answers(history, fitted, plan)
    predictions = labelled(rows.slice("test"), said)
    report = report_test_slice(
        predictions,
        predictions["score"],
        predictions["probability"],
        fitted.calibration.threshold,
        block=block_length(pte.horizon, history.interval),
        seed=recipe.seed,
    )
    candles = between(history.candles, plan.starts[3], plan.end)
    traded = trade(history, said["signal"], candles, pte, execution, interval=history.interval, levels=(JUDGED_LEVEL,))
    results = {name: value for name, value in vars(traded).items() if name != "compared"}
    return FoldResult(plan, fitted, rows.count(), report, predictions, **results)


def _answers(history: History, fitted: Fitted, plan: FoldPlan) -> pd.DataFrame:
    """What the model says of every candle of the test period, labelled or not."""
    return predict(fitted, between(history.features, plan.starts[3], plan.end))


def labelled(rows: TrainingSet, said: pd.DataFrame) -> pd.DataFrame:
    """What was said of rows, beside what they came to."""
    return rows.targets[list(TRUTH_COLUMNS)].join(said)


def _f1_buy(fitted: Fitted, test: TrainingSet) -> float:
    from cvntrade_assets.learning.scores import confusion, f1_buy

    return f1_buy(confusion(test.targets["label"] == 1, predict(fitted, test.features)["predicted"]))
