"""Screening: honest where there is nothing to learn, right where the truth is known, blind for what comes after."""

import dataclasses
import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score, f1_score

from cvntrade_assets.learning.calibration import calibrate
from cvntrade_assets.learning.cheap_model import CHEAP, SharedMatrices
from cvntrade_assets.learning.features import FEATURE_NAMES, compute_features
from cvntrade_assets.learning.from_settings import recipe as recipe_of
from cvntrade_assets.learning.recipe import Recipe, fit, predict
from cvntrade_assets.learning.screening import (
    POINT_COLUMNS,
    Screening,
    ScreeningError,
    cheap_recipe,
    least_trades_of,
    screen,
)
from cvntrade_assets.learning.screening_rows import SELECTION, TRAIN, VALIDATION, GridRows
from cvntrade_assets.learning.splits import Boundaries
from cvntrade_assets.learning.training_set import cut_training_set
from cvntrade_assets.market.simulated import SimulatedMarket
from cvntrade_assets.market.volatility import average_true_range
from cvntrade_assets.settings import resolve
from cvntrade_assets.trading.backtest import run_backtest
from cvntrade_assets.trading.costs import Costs
from cvntrade_assets.trading.execution import Execution
from cvntrade_assets.trading.metrics import daily_returns, measure
from cvntrade_assets.trading.pte import PTE, PteGrid

INTERVAL = pd.Timedelta("30min")
GRID = PteGrid((2, 5), (1.0,), (1.5, 2.5))
COSTS = Costs(7.5, 2.5)
EXECUTION = Execution(COSTS)
CHOSEN = {"CVN_CUSUM_THRESHOLD_H": "1.5", "CVN_TRADE_THRESHOLD_METHOD": "f1_binary"}
SHARES = (0.5, 0.65)
"""Where validation and selection begin, as shares of the history; the last tenth lies after the screening."""
END = 0.9


@lru_cache
def market(signal: float, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    start = pd.Timestamp("2025-01-01", tz="UTC")
    candles = SimulatedMarket(seed, signal).candles("BTCUSDC", "30m", start, start + pd.Timedelta(days=200))
    return candles, compute_features(candles)


def plan_of(features: pd.DataFrame) -> Boundaries:
    times = features.index
    first, second, end = (times[int(len(times) * share)] for share in (*SHARES, END))
    return Boundaries((times[0], first, second), end)


def make_recipe(**changes: Any) -> Recipe:
    settings = resolve(base_env={}, run=CHOSEN, now=pd.Timestamp("2025-09-01", tz="UTC"))
    return dataclasses.replace(recipe_of(settings), **changes)


def screened(
    candles: pd.DataFrame,
    features: pd.DataFrame,
    *,
    plan: Boundaries | None = None,
    grid: PteGrid = GRID,
    recipe: Recipe | None = None,
    interval: pd.Timedelta = INTERVAL,
    execution: Execution = EXECUTION,
    least_trades: int = 20,
    n_candidates: int = 3,
    on_point: Callable[[int, int], None] | None = None,
) -> Screening:
    return screen(
        candles,
        features,
        interval=interval,
        grid=grid,
        plan=plan or plan_of(features),
        recipe=recipe or make_recipe(),
        execution=execution,
        least_trades=least_trades,
        n_candidates=n_candidates,
        on_point=on_point,
    )


@pytest.fixture(scope="module")
def strong() -> Screening:
    return screened(*market(1.0, 0))


# honesty


def test_nothing_is_found_where_there_is_nothing():
    found = [screened(*market(0.0, seed)).points for seed in range(10)]
    for score in ("f1_buy_delta", "pr_auc_lift"):
        by_seed = [points[score].mean() for points in found]
        error = np.std(by_seed, ddof=1) / math.sqrt(len(by_seed))
        assert error < 0.01, "too noisy to say anything"
        assert np.mean(by_seed) <= 2.0 * error, score
    # Without skill a trade earns what it costs, less.
    earned = [points["expectancy_net"].mean() for points in found]
    error = np.std(earned, ddof=1) / math.sqrt(len(earned))
    assert abs(np.mean(earned) + COSTS.round_trip) <= 3.0 * error
    assert np.mean([points["eligible"].mean() for points in found]) <= 0.1


def test_a_strong_signal_is_found():
    for seed in range(3):
        points = screened(*market(1.0, seed)).points
        assert (points["f1_buy_delta"] > 0.0).all()
        assert points["f1_buy_delta"].mean() > 0.03
        assert (points["pr_auc_lift"] > 0.0).all()


def test_the_point_that_fits_the_truth_is_chosen():
    # The simulated market's moves go on for half a day: who lets them run earns most and pays costs least often.
    for seed in range(2):
        found = screened(*market(2.0, seed), grid=PteGrid((1, 6), (1.5,), (1.5, 3.0)))
        assert found.candidates[0] == PTE(6, 1.5, 3.0)
        assert found.points["eligible"][0]
        assert found.points["sharpe"][0] > 10.0


def test_what_lies_behind_the_selection_slice_changes_nothing(strong: Screening):
    candles, features = market(1.0, 0)
    end = plan_of(features).end
    late, late_features = (frame.index >= end for frame in (candles, features))
    prices = ["open", "high", "low", "close"]
    changed, changed_features = candles.copy(), features.copy()
    changed.loc[late, prices] = changed.loc[late, prices].to_numpy()[::-1] * 3.0
    changed_features.loc[late_features] = -changed_features.loc[late_features].to_numpy()
    for other in (
        screened(changed, changed_features),
        screened(candles[~late], features[~late_features], plan=plan_of(features)),
    ):
        pd.testing.assert_frame_equal(other.points, strong.points)
        pd.testing.assert_frame_equal(other.returns, strong.returns)
        assert other.candidates == strong.candidates

    changed.loc[changed.index[~late][-400:], prices] *= np.linspace(1.0, 1.2, 400)[:, None]
    assert not screened(changed, features).points.equals(strong.points), "the last candles of the slice do count"


# what a point's numbers are


def test_a_points_numbers_are_those_of_its_own_model():
    candles, features = market(0.3, 1)
    plan, recipe, pte = plan_of(features), make_recipe(), PTE(5, 1.0, 1.5)
    seen, known = candles[candles.index < plan.end], features[features.index < plan.end]
    rows = GridRows(
        seen,
        pd.DatetimeIndex(known.index),
        grid=PteGrid((5,), (1.0,), (1.5,)),
        interval=INTERVAL,
        boundaries=plan,
        embargo=recipe.embargo,
        cusum_mode="event",
        cusum_threshold=1.5,
    )
    mine, train = rows.of(pte), rows.slices == TRAIN
    judged = rows.times[~train]
    score = SharedMatrices(known.loc[rows.times[train]], known.loc[judged]).scores(
        mine.label[train], rows.train_weights(mine, unique=True), seed=recipe.seed
    )
    told = pd.DataFrame({"score": score, "truth": mine.label[~train], "known": mine.known[~train]}, index=judged)
    told["gain"] = mine.returns[~train]
    valid, selection = told[rows.slices[~train] == VALIDATION], told[rows.slices[~train] == SELECTION]
    valid, rated = valid[valid["known"]], selection[selection["known"]]
    threshold = calibrate(
        valid["score"],
        valid["truth"],
        valid["gain"],
        method="none",
        threshold_method="f1_binary",
        trade_threshold_method="f1_binary",
        cost=0.0,
        seed=0,
    ).threshold
    said = selection.index[selection["score"] >= threshold]
    signals = pd.DataFrame({"atr": average_true_range(candles)[said].to_numpy()}, index=said + INTERVAL)
    traded = run_backtest(seen[seen.index >= plan.starts[2]], signals, pte, interval=INTERVAL, costs=COSTS)
    performance = measure(traded, interval=INTERVAL)

    found = screened(candles, features, recipe=recipe)
    point = found.points.set_index("pte").loc[str(pte)]
    assert point["rows"] == len(rated)
    assert point["buy_rate"] == pytest.approx(rated["truth"].mean())
    assert point["f1_buy"] == pytest.approx(f1_score(rated["truth"], rated["score"] >= threshold))
    assert point["baseline_f1_buy"] == pytest.approx(f1_score(rated["truth"], np.ones(len(rated))))
    assert point["f1_buy_delta"] == pytest.approx(point["f1_buy"] - point["baseline_f1_buy"])
    lift = average_precision_score(rated["truth"], rated["score"]) - rated["truth"].mean()
    assert point["pr_auc_lift"] == pytest.approx(lift)
    assert point["n_trades"] == performance.n_trades > 30
    for name in ("hit_rate", "expectancy_net", "sharpe", "sortino", "max_drawdown", "tp_pct", "sl_pct", "timeout_pct"):
        assert point[name] == pytest.approx(getattr(performance, name)), name
    expected = daily_returns(traded.equity["1x"], interval=INTERVAL)
    pd.testing.assert_series_equal(found.returns[str(pte)], expected, check_names=False, check_freq=False)


def test_a_point_is_the_same_alone_as_within_a_grid(strong: Screening):
    candles, features = market(1.0, 0)
    within = strong.points.set_index("pte").drop(columns="rank")
    for pte in GRID:
        alone = screened(candles, features, grid=PteGrid((pte.horizon_hours,), (pte.stop_loss,), (pte.take_profit,)))
        pd.testing.assert_frame_equal(alone.points.set_index("pte").drop(columns="rank"), within.loc[[str(pte)]])
        pd.testing.assert_series_equal(alone.returns[str(pte)], strong.returns[str(pte)])
        assert alone.trials == 1


def test_costs_cooldown_and_trend_filter_are_paid_and_kept():
    candles, features = market(0.3, 1)
    free, dear, rested, trending = (
        screened(candles, features, execution=execution).points.set_index("pte").sort_index()
        for execution in (
            Execution(Costs(0.0, 0.0)),
            Execution(Costs(50.0, 0.0)),
            Execution(Costs(0.0, 0.0), cooldown=pd.Timedelta("5h")),
            Execution(Costs(0.0, 0.0), trend="ema_50"),
        )
    )
    same = ["f1_buy", "n_trades", "tp_pct"]
    pd.testing.assert_frame_equal(free[same], dear[same])
    np.testing.assert_allclose(free["expectancy_net"] - dear["expectancy_net"], 0.01, atol=2e-4)
    for fewer in (rested, trending):
        assert (fewer["n_trades"] < free["n_trades"]).all()
        pd.testing.assert_series_equal(fewer["f1_buy"], free["f1_buy"])


# the ranking


def test_points_are_ranked_by_what_they_earn(strong: Screening):
    points = strong.points
    assert tuple(points.columns) == POINT_COLUMNS
    assert list(points["rank"]) == [1, 2, 3, 4]
    assert set(points["pte"]) == {str(pte) for pte in GRID}
    assert points["sharpe"].is_monotonic_decreasing
    assert list(strong.returns.columns) == list(points["pte"])
    assert strong.trials == len(GRID)
    assert strong.left_out == ()
    eligible = [PTE.parse(text) for text in points.loc[points["eligible"], "pte"]]
    assert strong.candidates == tuple(eligible[:3])
    candles, features = market(1.0, 0)
    assert screened(candles, features, n_candidates=1).candidates == tuple(eligible[:1])


def test_days_are_those_of_the_selection_slice(strong: Screening):
    plan = plan_of(market(1.0, 0)[1])
    days = strong.returns.index
    assert days[0] >= plan.starts[2] > days[0] - pd.Timedelta(days=1)
    assert days[-1] + pd.Timedelta(days=1) <= plan.end < days[-1] + pd.Timedelta(days=2)
    assert np.isfinite(strong.returns.to_numpy()).all()


def test_every_refusal_says_why(strong: Screening):
    candles, features = market(1.0, 0)
    assert (strong.points["reason"] == "").equals(strong.points["eligible"])
    refused = screened(candles, features, execution=Execution(Costs(300.0, 0.0)), least_trades=10_000)
    assert not refused.points["eligible"].any()
    assert refused.candidates == (PTE.parse(refused.points["pte"][0]),), "the best alone, so that there is a record"
    told = refused.points["reason"]
    assert told.str.contains(r"^\d+ trades, expected at least 10000; a trade loses [\d.]+% on average after co").all()
    nothing = screened(*market(0.0, 3)).points
    useless = nothing[nothing["f1_buy_delta"] <= 0.0]
    assert len(useless)
    assert useless["reason"].str.contains(r"f1_buy 0\.\d+ is not above 0\.\d+, that of always saying BUY").all()


def test_who_never_trades_comes_last_and_has_no_numbers():
    candles, features = market(0.0, 2)
    recipe = make_recipe(trade_threshold_method="expected_value", round_trip=0.5)
    found = screened(candles, features, recipe=recipe)
    assert (found.points["n_trades"] == 0).all()
    assert found.points[["sharpe", "sortino", "hit_rate", "expectancy_net", "tp_pct"]].isna().all(axis=None)
    assert found.points["f1_buy"].gt(0.0).all(), "it is scored by what it says, not by what it trades"
    assert found.points["reason"].str.contains("0 trades, expected at least 20; what a trade earns is undefined").all()
    assert (found.returns == 0.0).all(axis=None)
    assert len(found.candidates) == 1


def test_a_point_without_a_buy_label_is_refused_and_the_others_are_screened():
    candles, features = market(1.0, 0)
    done: list[tuple[int, int]] = []
    grid = PteGrid((2,), (1.0,), (1.5, 9.0, 50.0))
    found = screened(candles, features, grid=grid, on_point=lambda *at: done.append(at))
    assert done == [(1, 3), (2, 3), (3, 3)]
    points = found.points.set_index("pte")
    assert points["rank"]["H2_SL1.0_TP1.5"] == 1
    hopeless = points.loc["H2_SL1.0_TP50.0"]
    assert "training labels is not BUY" in hopeless["reason"]
    numbers = hopeless.drop(["rank", "horizon_hours", "stop_loss", "take_profit", "eligible", "reason", "rows"])
    assert numbers.pop("n_trades") == 0
    assert numbers.isna().all()
    assert (found.returns["H2_SL1.0_TP50.0"] == 0.0).all()
    assert not points.loc["H2_SL1.0_TP9.0", "eligible"]
    assert str(found.candidates[0]) == "H2_SL1.0_TP1.5"


# what is left out, what is refused


def test_targets_nearer_than_their_stop_are_left_out():
    candles, features = market(1.0, 0)
    found = screened(candles, features, grid=PteGrid((2,), (1.0, 2.0), (1.0, 1.5)))
    assert set(found.points["pte"]) == {"H2_SL1.0_TP1.0", "H2_SL1.0_TP1.5"}
    assert found.left_out == (PTE(2, 2.0, 1.0), PTE(2, 2.0, 1.5))
    assert found.trials == 2
    with pytest.raises(ScreeningError, match="of the grid's 2 points none is left: every take-profit lies nearer"):
        screened(candles, features, grid=PteGrid((2,), (2.0,), (1.0, 1.5)))


def test_horizons_that_end_inside_a_candle_are_left_out(random_candles: Callable[..., pd.DataFrame]):
    hours = pd.Timedelta("2h")
    candles = random_candles(2_500, 3, "2h")
    features = compute_features(candles)
    found = screened(candles, features, interval=hours, grid=PteGrid((1, 2, 3, 4), (1.0,), (1.5,)))
    assert set(found.points["pte"]) == {"H2_SL1.0_TP1.5", "H4_SL1.0_TP1.5"}
    assert found.left_out == (PTE(1, 1.0, 1.5), PTE(3, 1.0, 1.5))
    with pytest.raises(ScreeningError, match=r"no horizon of the grid \(H1, H3\) is a whole number of candles"):
        screened(candles, features, interval=hours, grid=PteGrid((1, 3), (1.0,), (1.5,)))


def test_an_empty_slice_is_refused_with_advice():
    candles, features = market(1.0, 0)
    with pytest.raises(ScreeningError, match="the train slice of the screening holds no row; load a longer history"):
        screened(candles, features, recipe=make_recipe(cusum_threshold=1_000.0))


def test_fewest_trades_are_in_proportion_to_the_slice():
    days = {days: pd.Timedelta(days=days) for days in (1, 40, 60, 90)}
    assert least_trades_of(30, days[60], days[60]) == 30
    assert least_trades_of(30, days[40], days[60]) == 20
    assert least_trades_of(31, days[40], days[60]) == 21
    assert least_trades_of(30, days[90], days[60]) == 45
    assert least_trades_of(1, days[1], days[90]) == 1


# the recipe that repeats it elsewhere


def test_the_cheap_recipe_fits_screenings_model_where_the_full_one_is_fitted():
    candles, features = market(1.0, 0)
    whole = make_recipe(cleanlab="filter", smoothing="mild", calibration="isotonic", fixed={"reg_lambda": 50.0})
    cheap = cheap_recipe(whole)
    assert cheap.params == CHEAP.params
    assert (cheap.rounds, cheap.calibration, cheap.cleanlab, cheap.smoothing) == (CHEAP.rounds, "none", "off", "none")
    assert (cheap.embargo, cheap.seed, cheap.threshold_method) == (whole.embargo, whole.seed, whole.threshold_method)

    from cvntrade_assets.learning.barriers import label_candles
    from cvntrade_assets.learning.cusum import cusum_events

    labels = label_candles(candles, PTE(5, 1.0, 1.5), interval=INTERVAL, binary=True)
    events = cusum_events(candles, average_true_range(candles), cheap.cusum_threshold)
    rows = cut_training_set(features, labels, events, "event", plan_of(features), cheap.embargo, True)
    fitted = fit(cheap, rows, say=lambda _: None)
    assert not fitted.tuned
    assert dict(fitted.params) == dict(CHEAP.params)
    assert fitted.model.best_iteration < CHEAP.rounds
    assert len(fitted.model.feature_names) > 0.5 * len(FEATURE_NAMES)
    told = predict(fitted, features)
    assert (told["score"] == told["probability"]).all()
