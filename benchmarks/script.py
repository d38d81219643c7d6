"""The whole chain as a plain script of pure functions: no Dagster, no checks, no store.

Run from the repository's root: `python -m benchmarks.script CRYPTO AS_OF [KEY=VALUE …]`. Other benchmarks import it.
"""

import sys

import pandas as pd

from cvntrade_assets.learning.from_settings import (
    cusum_mode,
    embargo,
    fixed_hyperparameters,
    loss,
    search_space,
    slice_fractions,
)
from cvntrade_assets.learning.report import TestReport
from cvntrade_assets.market.candles import timeframe_delta
from cvntrade_assets.settings import Settings, resolve


def run_script(crypto: str, settings: Settings) -> TestReport:
    """From simulated candles to the test report."""
    from cvntrade_assets.learning.barriers import label_candles
    from cvntrade_assets.learning.calibration import apply_calibration, calibrate
    from cvntrade_assets.learning.cusum import cusum_events
    from cvntrade_assets.learning.features import compute_features
    from cvntrade_assets.learning.label_pipeline import prepare_labels
    from cvntrade_assets.learning.report import report_test_slice
    from cvntrade_assets.learning.scores import block_length
    from cvntrade_assets.learning.selection import select_features
    from cvntrade_assets.learning.training import score_buy, train_model
    from cvntrade_assets.learning.training_set import assemble_training_set
    from cvntrade_assets.learning.tuning import tune
    from cvntrade_assets.market.simulated import SimulatedMarket
    from cvntrade_assets.market.volatility import average_true_range

    seed, folds = settings.whole("CVN_SEED"), settings.whole("CVN_TUNING_FOLDS")
    interval = timeframe_delta(settings.text("CVN_TIMEFRAME"))
    end = settings.as_of.floor(interval)
    start = end - pd.DateOffset(months=settings.whole("CVN_DEFAULT_HISTORY_MONTHS"))
    market = SimulatedMarket(settings.whole("CVN_SIMULATED_SEED"), settings.number("CVN_SIMULATED_SIGNAL"))
    candles = market.candles(crypto, settings.text("CVN_TIMEFRAME"), start, end)
    labels = label_candles(candles, settings.pte, interval=interval, binary=settings.flag("CVN_BINARY_CLASSIFICATION"))
    events = cusum_events(candles, average_true_range(candles), settings.number("CVN_CUSUM_THRESHOLD_H"))
    whole = assemble_training_set(
        compute_features(candles),
        labels,
        events,
        cusum_mode(settings),
        slice_fractions(settings),
        embargo(settings),
        settings.flag("CVN_UNIQUENESS_WEIGHTS"),
    )
    train, valid, held, test = (whole.slice(name) for name in ("train", "validation", "calibration", "test"))
    names = list(select_features(train, settings.whole("CVN_MAX_FEATURES"), seed, folds, embargo(settings)).names)
    spans = (train.targets["entry_time"], train.targets["exit_time"])
    ready = prepare_labels(
        train.features[names],
        train.targets["label"],
        train.targets["weight"],
        *spans,
        binary=settings.flag("CVN_BINARY_CLASSIFICATION"),
        smoothing=settings.choice("CVN_LABEL_SMOOTHING"),
        cleanlab=settings.choice("CVN_CLEANLAB"),
        class_cap=settings.number("CVN_CLEANLAB_CLASS_CAP"),
        n_folds=folds,
        embargo=embargo(settings),
        seed=seed,
    )
    kept = train.targets.loc[ready.features.index]
    fixed = fixed_hyperparameters(settings)
    rounds, patience = int(fixed.pop("num_boost_round")), int(fixed.pop("early_stopping_rounds"))
    tuned = tune(
        ready.features,
        ready.labels,
        ready.weights,
        kept["label"],
        kept["entry_time"],
        kept["exit_time"],
        n_trials=settings.whole("CVN_DEFAULT_N_TRIALS"),
        n_folds=folds,
        objective=settings.choice("CVN_HPO_OBJECTIVE"),
        search_space=search_space(settings),
        fixed_params=fixed,
        loss=loss(settings),
        rounds=rounds,
        early_stopping_rounds=patience,
        seed=seed,
        workers=settings.whole("CVN_TUNING_WORKERS"),
        embargo=embargo(settings),
    )
    model = train_model(
        ready.features,
        ready.labels,
        ready.weights,
        valid.features[names],
        valid.targets["label"],
        params=tuned.params,
        rounds=rounds,
        early_stopping_rounds=patience,
        objective=loss(settings).objective,
        focal_gamma=loss(settings).focal_gamma,
        seed=seed,
    )
    frozen = calibrate(
        score_buy(model, held.features[names]),
        held.targets["label"].replace(-1, 0),
        held.targets["return"],
        method=settings.choice("CVN_CALIBRATION"),
        threshold_method=settings.choice("CVN_THRESHOLD_METHOD"),
        cost=settings.costs.round_trip,
        seed=seed,
    )
    scores = score_buy(model, test.features[names])
    block = block_length(settings.pte.horizon, interval)
    probability = apply_calibration(frozen, scores)
    return report_test_slice(test.targets, scores, probability, frozen.threshold, block=block, seed=seed)


def main() -> None:
    """Run once and print the report's headline."""
    crypto, as_of, *pairs = sys.argv[1:]
    run = {"CVN_MARKET": "simulated", "CVN_AS_OF": as_of} | dict(pair.split("=", 1) for pair in pairs)
    report = run_script(crypto, resolve(base_env={}, run=run, now=pd.Timestamp.now("UTC")))
    print(f"{crypto}: f1_buy {report.f1_buy:.3f}, always-BUY {report.baseline_f1_buy:.3f}")


if __name__ == "__main__":
    main()
