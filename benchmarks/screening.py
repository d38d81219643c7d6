"""What screening a whole PTE grid takes, against labelling, cutting, binning and fitting point by point.

Run from the repository's root: `python -m benchmarks.screening` (`--help` lists its options). The alternative is what
one writes first: for every point the chain's own functions, one after the other (`label_candles`, `cut_training_set`,
an `xgboost.DMatrix` of named columns, the same trees, the same threshold, the same backtest). It is timed on some of
the points, spread over the grid, and extrapolated. Everything runs on one thread.
"""

import argparse
import sys
import time

import numpy as np
import pandas as pd

from cvntrade_assets.learning.from_settings import execution, fold_plans, recipe
from cvntrade_assets.learning.recipe import Recipe
from cvntrade_assets.learning.screening import Screening, least_trades_of, screen
from cvntrade_assets.learning.splits import Boundaries
from cvntrade_assets.market.candles import timeframe_delta
from cvntrade_assets.settings import Settings, resolve
from cvntrade_assets.trading.execution import Execution
from cvntrade_assets.trading.pte import PTE

LARGEST = {
    "CVN_SCREENING_SL_RANGE": "0.5,0.75,1.0,1.2,1.5",
    "CVN_SCREENING_TP_RANGE": ",".join(f"{1.5 + 0.2 * step:.1f}" for step in range(15)),
}
"""With the six horizons 450 points, none of which is left out."""
TARGET_SECONDS = 180.0


def market(settings: Settings) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Simulated candles over the whole history, and their features."""
    from cvntrade_assets.learning.features import compute_features
    from cvntrade_assets.market.simulated import SimulatedMarket

    start = settings.as_of - pd.DateOffset(months=settings.whole("CVN_DEFAULT_HISTORY_MONTHS"))
    simulated = SimulatedMarket(settings.whole("CVN_SIMULATED_SEED"), settings.number("CVN_SIMULATED_SIGNAL"))
    candles = simulated.candles("BTCUSDC", settings.text("CVN_TIMEFRAME"), start, settings.as_of)
    return candles, compute_features(candles)


def whole_grid(candles: pd.DataFrame, features: pd.DataFrame, settings: Settings, plan: Boundaries) -> Screening:
    """The screening as the asset does it."""
    test = pd.Timedelta(days=settings.whole("CVN_BACKTEST_DAYS"))
    return screen(
        candles,
        features,
        interval=timeframe_delta(settings.text("CVN_TIMEFRAME")),
        grid=settings.grid,
        plan=plan,
        recipe=recipe(settings),
        execution=execution(settings),
        least_trades=least_trades_of(settings.whole("CVN_GATE_TRADES"), plan.end - plan.starts[2], test),
        n_candidates=settings.whole("CVN_CANDIDATES"),
        on_point=_progress,
    )


def point_by_point(
    candles: pd.DataFrame,
    features: pd.DataFrame,
    pte: PTE,
    plan: Boundaries,
    interval: pd.Timedelta,
    how: Recipe,
    acting: Execution,
) -> tuple[float, float | None]:
    """One point from candles to its F1 and its net Sharpe ratio, by the chain's functions and plain XGBoost."""
    import xgboost as xgb

    from cvntrade_assets.learning.barriers import label_candles
    from cvntrade_assets.learning.boosting import Loss, booster_params
    from cvntrade_assets.learning.calibration import calibrate
    from cvntrade_assets.learning.cheap_model import CHEAP
    from cvntrade_assets.learning.cusum import cusum_events
    from cvntrade_assets.learning.scores import confusion, f1_buy, pr_auc_lift
    from cvntrade_assets.learning.training_set import cut_training_set
    from cvntrade_assets.market.volatility import average_true_range
    from cvntrade_assets.trading.backtest import run_backtest
    from cvntrade_assets.trading.metrics import daily_returns, measure
    from cvntrade_assets.trading.signals import signals_at

    seen, known = candles[candles.index < plan.end], features[features.index < plan.end]
    atr = average_true_range(seen)
    labels = label_candles(seen, pte, interval=interval, binary=True)
    events = cusum_events(seen, atr, how.cusum_threshold)
    rows = cut_training_set(known, labels, events, how.cusum_mode, plan, how.embargo, how.uniqueness_weights)
    train, valid, selection = (rows.slice(name) for name in plan.slices)
    truth, weight = (train.targets["label"] == 1).to_numpy(np.float64), train.targets["weight"].to_numpy()
    matrix = xgb.DMatrix(train.features, truth, weight=weight, nthread=1)
    share = float(np.average(truth, weights=weight))
    params = booster_params(Loss("logistic"), CHEAP.params, seed=how.seed, base_score=share)
    booster = xgb.train(params, matrix, num_boost_round=CHEAP.rounds)
    asked = known[known.index >= plan.starts[2] + how.embargo]
    held, rated, everything = (
        pd.Series(booster.predict(xgb.DMatrix(each, nthread=1)).astype(np.float64), each.index)
        for each in (valid.features, selection.features, asked)
    )
    frozen = calibrate(
        held,
        valid.targets["label"],
        valid.targets["return"],
        method="none",
        threshold_method=how.threshold_method,
        trade_threshold_method=how.trade_threshold_method,
        cost=how.round_trip,
        seed=how.seed,
    )
    f1 = f1_buy(confusion(selection.targets["label"], rated >= frozen.threshold))
    pr_auc_lift(selection.targets["label"], rated)
    traded = run_backtest(
        seen[seen.index >= plan.starts[2]],
        signals_at(everything >= frozen.trade_threshold, atr, interval=interval),
        pte,
        interval=interval,
        costs=acting.costs,
        fraction=acting.fraction,
        cooldown=acting.cooldown,
    )
    daily_returns(traded.equity["1x"], interval=interval)
    return f1, measure(traded, interval=interval).sharpe


def _progress(done: int, points: int) -> None:
    if done % 50 == 0 or done == points:
        sys.stderr.write(f"  {done} of {points} points\n")


def main() -> None:
    """Print seconds and the ratio, and how far the two ways agree."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--points", type=int, default=30, help="points that the alternative is timed on")
    options = parser.parse_args()
    run = {"CVN_MARKET": "simulated", "CVN_AS_OF": "2025-09-01", **LARGEST}
    settings = resolve(base_env={}, run=run, now=pd.Timestamp.now("UTC"))
    interval, how, acting = timeframe_delta(settings.text("CVN_TIMEFRAME")), recipe(settings), execution(settings)
    candles, features = market(settings)
    plan = fold_plans(settings, pd.DatetimeIndex(features.index))[0].past
    arguments = (plan, interval, how, acting)
    point_by_point(candles, features, settings.pte, *arguments)  # compiles and imports
    began, used = time.perf_counter(), time.process_time()
    found = whole_grid(candles, features, settings, plan)
    ours, ours_cpu = time.perf_counter() - began, time.process_time() - used
    some = list(settings.grid)[:: max(1, found.trials // options.points)][: options.points]
    began, used = time.perf_counter(), time.process_time()
    naive = [point_by_point(candles, features, pte, *arguments) for pte in some]
    scale = found.trials / len(some)
    theirs, theirs_cpu = (time.perf_counter() - began) * scale, (time.process_time() - used) * scale
    beside = found.points.set_index("pte").loc[[str(pte) for pte in some]]
    f1, sharpe = (np.array(values, np.float64) for values in zip(*naive, strict=True))
    agreement = pd.Series(sharpe, beside.index).corr(beside["sharpe"], method="spearman")
    verdict = "met" if ours <= TARGET_SECONDS else "MISSED"
    print(
        f"{found.trials} points, {len(candles):,} candles, selection {plan.starts[2]:%Y-%m-%d} to {plan.end:%Y-%m-%d}"
    )
    print(f"  screen              {ours:>8.1f} s {ours_cpu:>8.1f} s CPU   target {TARGET_SECONDS:g} s: {verdict}")
    print(f"  point by point      {theirs:>8.1f} s {theirs_cpu:>8.1f} s CPU   {theirs / ours:.1f} x (from {len(some)})")
    print(f"  largest difference in F1 {np.abs(beside['f1_buy'] - f1).max():.3f} (other bins, other rows sampled)")
    print(f"  rank correlation of the net Sharpe ratios {agreement:.3f}")


if __name__ == "__main__":
    main()
