"""Screening: a quick, honest look at every point of a PTE grid, to choose the few that are worth testing.

Everything lies before the first test period of the walk-forward test. Per point a cheap model learns on train, takes
its thresholds on validation, and is judged on the selection slice: by its F1 beside always saying BUY, and by what a
backtest of its signals earns after costs. Points are ranked by their net Sharpe ratio there. The best of many points is
partly the luckiest, so what this slice says of the chosen one is never its result: the test periods are out of sample
for the choice, and the number of points goes into the deflated Sharpe ratio.

A label is BUY or not, of the long trade, also where the full model has three classes: BUY is the same in both.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cvntrade_assets.learning import scores
from cvntrade_assets.learning.calibration import Calibration, CalibrationError, calibrate
from cvntrade_assets.learning.cheap_model import CheapModelError, SharedMatrices
from cvntrade_assets.learning.splits import SLICES, Boundaries
from cvntrade_assets.trading.cost_levels import JUDGED_LEVEL, level_column
from cvntrade_assets.trading.execution import Execution
from cvntrade_assets.trading.pte import PTE, PteGrid

if TYPE_CHECKING:
    from cvntrade_assets.learning.recipe import Recipe
    from cvntrade_assets.learning.screening_rows import GridRows, PointRows
    from cvntrade_assets.trading.metrics import Performance

OnPoint: TypeAlias = Callable[[int, int], None]

LABEL_NUMBERS = ("buy_rate", "f1_buy", "baseline_f1_buy", "f1_buy_delta", "pr_auc_lift")
TRADE_NUMBERS = (
    "hit_rate",
    "expectancy_net",
    "sharpe",
    "sortino",
    "max_drawdown",
    "tp_pct",
    "sl_pct",
    "timeout_pct",
)
POINT_COLUMNS = (
    *("rank", "pte", "horizon_hours", "stop_loss", "take_profit", "eligible", "reason", "rows"),
    *LABEL_NUMBERS,
    "n_trades",
    *TRADE_NUMBERS,
)

_TRAIN, _VALIDATION, _SELECTION = SLICES[:3]


class ScreeningError(ValueError):
    """A grid or a history that cannot be screened; the message says what to do."""


@dataclass(frozen=True, eq=False)
class Screening:
    """What every point of a grid is worth on the selection slice.

    Attributes:
        points: One row per screened point, best first; columns `POINT_COLUMNS`. An undefined number is NaN. `reason`
            says why a point is not eligible and is empty for one that is; `rows` are the labelled rows of the
            selection slice, `n_trades` the trades of the backtest.
        returns: Net daily returns on the selection slice: index UTC day, one float64 column per point, named and
            ordered as the points; 0 throughout where nothing was traded.
        candidates: The eligible points, best first, at most as many as asked for; the best-ranked point alone when none
            is eligible, so that every evaluation ends with a record of why.
        left_out: Points of the grid that were not screened: target nearer than stop, or a horizon that is no whole
            number of candles.
        least_trades: The fewest trades of an eligible point.
    """

    points: pd.DataFrame
    returns: pd.DataFrame
    candidates: tuple[PTE, ...]
    left_out: tuple[PTE, ...]
    least_trades: int

    @property
    def trials(self) -> int:
        """Points among which the choice was made: the number that deflates."""
        return len(self.points)


def screen(
    candles: pd.DataFrame,
    features: pd.DataFrame,
    *,
    interval: pd.Timedelta,
    grid: PteGrid,
    plan: Boundaries,
    recipe: Recipe,
    execution: Execution,
    least_trades: int,
    n_candidates: int,
    on_point: OnPoint | None = None,
) -> Screening:
    """Fit and judge a cheap model for every point of a grid, and rank the points.

    A point is eligible when on the selection slice its F1 exceeds that of always saying BUY, it trades at least
    `least_trades` times, and a trade earns on average after costs. A point that cannot be fitted or thresholded, for
    want of BUY labels, is not eligible, has no numbers and trades nothing.

    Points are ranked by net Sharpe ratio, undefined ones last; then by `f1_buy_delta`; then in the grid's order.

    Args:
        candles: Candle frame; what lies at or after the plan's end is not looked at.
        features: Feature frame of the candles after warm-up.
        interval: The candles' timeframe.
        grid: The PTEs.
        plan: Where train, validation and selection slice begin, and where the last ends; see `timeline.plan_screening`.
        recipe: The cheap model, CUSUM, weights, embargo, threshold methods, cost and seed are read from it.
        execution: How signals become trades.
        least_trades: The fewest trades of an eligible point; see `least_trades_of`.
        n_candidates: Most candidates.
        on_point: Called after each point with (points done, points).

    Raises:
        ScreeningError: No point of the grid can be screened.
        ValueError: The candles are not walkable, see `trading.fills.candle_arrays`.
    """
    # numba, which the kernels need, is slow to import.
    from cvntrade_assets.learning.screening_rows import GridRows

    usable = _usable_horizons(grid, interval)
    chosen = [pte for pte in usable if pte.take_profit >= pte.stop_loss]
    if not chosen:
        raise ScreeningError(
            f"of the grid's {len(grid)} points none is left: every take-profit lies nearer than its stop-loss; raise "
            "CVN_SCREENING_TP_RANGE or lower CVN_SCREENING_SL_RANGE"
        )
    seen, known = candles[candles.index < plan.end], features[features.index < plan.end]
    rows = GridRows(
        seen,
        pd.DatetimeIndex(known.index),
        grid=usable,
        interval=interval,
        boundaries=plan,
        embargo=recipe.embargo,
        cusum_mode=recipe.cusum_mode,
        cusum_threshold=recipe.cusum_threshold,
    )
    judge = _Judge(rows, known, recipe, _Trader(seen, interval, plan.starts[2], execution))
    found = []
    for done, pte in enumerate(chosen, 1):
        found.append(judge.point(pte))
        if on_point is not None:
            on_point(done, len(chosen))
    return _ranked(found, least_trades, n_candidates, tuple(pte for pte in grid if pte not in set(chosen)))


def least_trades_of(gate: int, selection: pd.Timedelta, test: pd.Timedelta) -> int:
    """The fewest trades of an eligible point: the gate's, in proportion to the selection slice's length.

    Args:
        gate: Fewest trades of the test backtest, at least 1.
        selection: Length of the selection slice.
        test: Length of the test backtest.
    """
    return max(1, math.ceil(gate * (selection / test)))


def cheap_recipe(recipe: Recipe) -> Recipe:
    """The recipe with screening's model in place of its own: to fit it where the full one is fitted, and compare.

    Its hyperparameters and no search, also of those that are pinned for the full one, no label pipeline, no calibration
    beyond the thresholds. Three classes stay three, and the focal loss gives way to the logistic one. It is fitted as
    the full recipe is, and so differs from screening's own model in three ways: constant features and near-duplicates
    go before training, though the most important ones are not chosen; the trees are cut at the best round on
    validation; and the thresholds are taken on calibration, where screening keeps all trees and takes them on
    validation.
    """
    from cvntrade_assets.learning.boosting import Loss
    from cvntrade_assets.learning.features import FEATURE_NAMES

    return replace(
        recipe,
        max_features=len(FEATURE_NAMES),
        fixed={},
        params=recipe.screening.params,
        rounds=recipe.screening.rounds,
        early_stopping_rounds=recipe.screening.rounds,
        smoothing="none",
        cleanlab="off",
        calibration="none",
        loss=Loss("logistic") if recipe.binary else recipe.loss,
    )


@dataclass(frozen=True, eq=False)
class _Found:
    """What one point came to; without a performance it was never traded, and `failure` says why."""

    pte: PTE
    rows: int
    numbers: Mapping[str, float]
    performance: Performance | None
    daily: pd.Series[Any]
    failure: str = ""


class _Trader:
    """Backtests what a point said on the candles of the selection slice."""

    def __init__(
        self, candles: pd.DataFrame, interval: pd.Timedelta, start: pd.Timestamp, execution: Execution
    ) -> None:
        from cvntrade_assets.market.volatility import average_true_range
        from cvntrade_assets.trading.signals import above_trend

        self._candles = candles[candles.index >= start]
        self._interval = interval
        self._execution = execution
        self._atr = average_true_range(candles)
        self._may_enter = above_trend(candles["close"], execution.trend)

    def trade(self, pte: PTE, signals: pd.Series[Any]) -> tuple[Performance, pd.Series[Any]]:
        """Performance and net daily returns of the signals, whose index is the open times of the candles asked."""
        from cvntrade_assets.trading.backtest import run_backtest
        from cvntrade_assets.trading.metrics import daily_returns, measure
        from cvntrade_assets.trading.signals import signals_at

        allowed = signals & self._may_enter.reindex(signals.index)
        backtest = run_backtest(
            self._candles,
            signals_at(allowed, self._atr, interval=self._interval),
            pte,
            interval=self._interval,
            costs=self._execution.costs,
            fraction=self._execution.fraction,
            cooldown=self._execution.cooldown,
        )
        performance = measure(backtest, interval=self._interval)
        return performance, daily_returns(backtest.equity[level_column(JUDGED_LEVEL)], interval=self._interval)

    def nothing(self) -> pd.Series[Any]:
        """The daily returns of who never trades."""
        from cvntrade_assets.trading.metrics import daily_returns

        return daily_returns(pd.Series(1.0, self._candles.index), interval=self._interval)


class _Judge:
    """Fits and judges one point after the other on what they share."""

    def __init__(self, rows: GridRows, features: pd.DataFrame, recipe: Recipe, trader: _Trader) -> None:
        self._rows, self._recipe, self._trader = rows, recipe, trader
        train = rows.slices == _TRAIN
        for name in (_TRAIN, _VALIDATION, _SELECTION):
            if not (rows.slices == name).any():
                raise ScreeningError(
                    f"the {name} slice of the screening holds no row; load a longer history "
                    "(CVN_DEFAULT_HISTORY_MONTHS), lower CVN_CUSUM_THRESHOLD_H or shorten CVN_EMBARGO_HOURS"
                )
        self._train = train
        self._judged = rows.times[~train]
        self._validation = (rows.slices == _VALIDATION)[~train]
        learned, judged = features.loc[rows.times[train]], features.loc[self._judged]
        self._matrices = SharedMatrices(learned, judged, recipe.screening)

    def point(self, pte: PTE) -> _Found:
        """What one point comes to."""
        labelled = self._rows.of(pte)
        known, truth = labelled.known[~self._train], labelled.label[~self._train]
        judged = known & ~self._validation
        try:
            score = self._scores(labelled)
            frozen = self._thresholds(score, known & self._validation, truth, labelled.returns[~self._train])
            if not judged.any():
                raise CheapModelError("no label of the selection slice is known in time")
        except (CheapModelError, CalibrationError) as error:
            return _Found(pte, int(judged.sum()), {}, None, self._trader.nothing(), str(error))
        selection = ~self._validation
        signals = pd.Series(score >= frozen.trade_threshold, self._judged)[selection]
        performance, daily = self._trader.trade(pte, signals)
        numbers = _label_numbers(truth[judged], score[judged], frozen.threshold)
        return _Found(pte, int(judged.sum()), numbers, performance, daily)

    def _scores(self, labelled: PointRows) -> NDArray[np.float64]:
        weights = self._rows.train_weights(labelled, unique=self._recipe.uniqueness_weights)
        return self._matrices.scores(labelled.label[self._train], weights, seed=self._recipe.seed)

    def _thresholds(
        self,
        score: NDArray[np.float64],
        chosen: NDArray[np.bool_],
        truth: NDArray[np.float64],
        returns: NDArray[np.float64],
    ) -> Calibration:
        """The thresholds on the score itself: calibrating without a calibrator chooses just those."""
        columns = (pd.Series(values[chosen], self._judged[chosen]) for values in (score, truth, returns))
        return calibrate(
            *columns,
            method="none",
            threshold_method=self._recipe.threshold_method,
            trade_threshold_method=self._recipe.trade_threshold_method,
            cost=self._recipe.round_trip,
            seed=self._recipe.seed,
        )


def _usable_horizons(grid: PteGrid, interval: pd.Timedelta) -> PteGrid:
    """The grid without the horizons that would end inside a candle."""
    whole = tuple(hours for hours in grid.horizon_hours if pd.Timedelta(hours=hours) % interval == pd.Timedelta(0))
    if not whole:
        raise ScreeningError(
            f"no horizon of the grid ({', '.join(f'H{hours}' for hours in grid.horizon_hours)}) is a whole number of "
            f"candles of {interval}: choose others in CVN_SCREENING_HORIZONS, or a shorter CVN_TIMEFRAME"
        )
    return replace(grid, horizon_hours=whole)


def _label_numbers(truth: NDArray[np.float64], score: NDArray[np.float64], threshold: float) -> dict[str, float]:
    buy_rate = float(truth.mean())
    f1 = scores.f1_buy(scores.confusion(truth, score >= threshold))
    baseline = scores.baseline_f1(buy_rate)
    return {
        "buy_rate": buy_rate,
        "f1_buy": f1,
        "baseline_f1_buy": baseline,
        "f1_buy_delta": f1 - baseline,
        "pr_auc_lift": scores.pr_auc_lift(truth, score),
    }


def _ranked(found: Sequence[_Found], least_trades: int, n_candidates: int, left_out: tuple[PTE, ...]) -> Screening:
    # The index is the position in the grid's order, which a stable sort keeps among equals.
    points = pd.DataFrame([_row(one, least_trades) for one in found])
    order = points.sort_values(["sharpe", "f1_buy_delta"], ascending=False, na_position="last", kind="stable").index
    points = points.loc[order].reset_index(drop=True)
    points.insert(0, "rank", np.arange(1, len(points) + 1))
    ranked = [found[position] for position in order]
    returns = pd.DataFrame({str(one.pte): one.daily for one in ranked})
    eligible = [one.pte for one, good in zip(ranked, points["eligible"], strict=True) if good]
    candidates = tuple(eligible[:n_candidates]) or (ranked[0].pte,)
    return Screening(points[list(POINT_COLUMNS)], returns, candidates, left_out, least_trades)


def _row(one: _Found, least_trades: int) -> dict[str, Any]:
    traded = one.performance
    numbers = {name: one.numbers.get(name, np.nan) for name in LABEL_NUMBERS}
    trades = {name: _number(getattr(traded, name, None)) for name in TRADE_NUMBERS}
    reason = _reason(one, least_trades)
    return {
        "pte": str(one.pte),
        "horizon_hours": one.pte.horizon_hours,
        "stop_loss": one.pte.stop_loss,
        "take_profit": one.pte.take_profit,
        "eligible": not reason,
        "reason": reason,
        "rows": one.rows,
        **numbers,
        "n_trades": 0 if traded is None else traded.n_trades,
        **trades,
    }


def _reason(one: _Found, least_trades: int) -> str:
    """Why a point is not eligible; empty when it is."""
    traded = one.performance
    if traded is None:
        return one.failure
    reasons = []
    if not one.numbers["f1_buy_delta"] > 0.0:
        f1, baseline = one.numbers["f1_buy"], one.numbers["baseline_f1_buy"]
        reasons.append(f"f1_buy {f1:.4f} is not above {baseline:.4f}, that of always saying BUY")
    if traded.n_trades < least_trades:
        reasons.append(f"{traded.n_trades} trades, expected at least {least_trades}")
    if traded.expectancy_net is None:
        reasons.append("what a trade earns is undefined: none was decided")
    elif not traded.expectancy_net > 0.0:
        reasons.append(f"a trade loses {-traded.expectancy_net:.4%} on average after costs")
    return "; ".join(reasons)


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)
