"""What the whole chain says of markets whose truth is known: nothing where there is nothing to learn.

Everything goes the way it goes in the product, from candles to the test report, but for a larger test slice:
with the product's, a fifteenth of two years, twenty reports do not tell a small leak from luck.

PR-AUC - buy_rate is above zero on average where there is nothing to learn (by 0.003 on the product's test
slice, by 0.001 on this one), because average precision is biased upwards; so it is judged with and without
that bias. A mean counts as above zero when it is so by more than two standard errors: by more than one it is
for a flawless chain one time in six.
"""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest

from cvntrade_assets.learning.barriers import label_candles
from cvntrade_assets.learning.calibration import apply_calibration, calibrate
from cvntrade_assets.learning.cusum import cusum_events
from cvntrade_assets.learning.features import compute_features
from cvntrade_assets.learning.label_pipeline import prepare_labels
from cvntrade_assets.learning.report import TestReport as Report
from cvntrade_assets.learning.report import report_test_slice
from cvntrade_assets.learning.scores import block_length
from cvntrade_assets.learning.selection import select_features
from cvntrade_assets.learning.splits import SliceFractions
from cvntrade_assets.learning.training import TrainedModel, score_buy, train_model
from cvntrade_assets.learning.training_set import TrainingSet, assemble_training_set
from cvntrade_assets.market.candles import timeframe_delta
from cvntrade_assets.market.simulated import SimulatedMarket
from cvntrade_assets.market.volatility import average_true_range
from cvntrade_assets.trading.pte import PTE

SEEDS = range(20)
STRONG_SEEDS = range(5)
FROM, TO = pd.Timestamp("2023-09-01", tz="UTC"), pd.Timestamp("2025-09-01", tz="UTC")
INTERVAL = timeframe_delta("30m")
EMBARGO = pd.Timedelta(hours=6)
THE_PTE = PTE.parse("H4_SL1.0_TP2.0")
FRACTIONS = SliceFractions(train=0.56, validation=0.07, calibration=0.07, test=0.30)
PARAMS = {
    "max_depth": 4,
    "learning_rate": 0.05,
    "min_child_weight": 5.0,
    "subsample": 0.8,
    "colsample_bytree": 0.5,
}


def simulated_training_set(seed: int, signal: float) -> TrainingSet:
    candles = SimulatedMarket(seed, signal).candles("BTCUSDT", "30m", FROM, TO)
    return assemble_training_set(
        compute_features(candles),
        label_candles(candles, THE_PTE, interval=INTERVAL, binary=True),
        cusum_events(candles, average_true_range(candles), 3.0),
        "event",
        FRACTIONS,
        EMBARGO,
        uniqueness_weights=True,
    )


def selected_and_trained(rows: TrainingSet, seed: int) -> TrainedModel:
    train, validation = rows.slice("train"), rows.slice("validation")
    names = list(select_features(train, 60, seed, 3, EMBARGO).names)
    prepared = prepare_labels(
        train.features[names],
        train.targets["label"],
        train.targets["weight"],
        train.targets["entry_time"],
        train.targets["exit_time"],
        binary=True,
        smoothing="none",
        cleanlab="off",
        class_cap=0.1,
        n_folds=3,
        embargo=EMBARGO,
        seed=seed,
    )
    return train_model(
        prepared.features,
        prepared.labels,
        prepared.weights,
        validation.features[names],
        validation.targets["label"],
        params=PARAMS,
        rounds=300,
        early_stopping_rounds=30,
        objective="logistic",
        seed=seed,
    )


def report(seed: int, signal: float) -> Report:
    rows = simulated_training_set(seed, signal)
    model = selected_and_trained(rows, seed)
    calibration_slice, test = rows.slice("calibration"), rows.slice("test")
    names = list(model.feature_names)
    # A threshold for F1: the expected value would often say "never BUY", whose F1 of 0 is below any baseline.
    calibration = calibrate(
        score_buy(model, calibration_slice.features[names]),
        calibration_slice.targets["label"],
        calibration_slice.targets["return"],
        method="sigmoid",
        threshold_method="f1_binary",
        cost=0.002,
        seed=seed,
    )
    raw = score_buy(model, test.features[names])
    return report_test_slice(
        test.targets,
        raw,
        apply_calibration(calibration, raw),
        calibration.threshold,
        block=block_length(THE_PTE.horizon, INTERVAL),
        seed=seed,
    )


def mean_and_error(values: Sequence[float]) -> tuple[float, float]:
    return float(np.mean(values)), float(np.std(values, ddof=1)) / math.sqrt(len(values))


@pytest.fixture(scope="module")
def nothing_to_learn() -> list[Report]:
    return [report(seed, signal=0.0) for seed in SEEDS]


@pytest.fixture(scope="module")
def much_to_learn() -> list[Report]:
    return [report(seed, signal=1.0) for seed in STRONG_SEEDS]


SCORES = {
    "f1_buy - baseline_f1_buy": lambda r: r.f1_buy_delta,
    "PR-AUC - buy_rate": lambda r: r.pr_auc_lift,
    "PR-AUC - chance": lambda r: r.pr_auc - r.pr_auc_chance,
}


@pytest.mark.parametrize("score", SCORES)
def test_a_market_with_nothing_to_learn_teaches_nothing(nothing_to_learn: list[Report], score: str) -> None:
    mean, error = mean_and_error([SCORES[score](one) for one in nothing_to_learn])
    assert error < 0.005, "too noisy to say anything"
    assert mean < 2.0 * error, f"{score} is {mean:.4f} ± {error:.4f} over {len(SEEDS)} seeds"


def test_no_probability_beats_the_base_rate_where_there_is_nothing_to_learn(
    nothing_to_learn: list[Report],
) -> None:
    mean, error = mean_and_error([one.brier_base_rate - one.brier_after for one in nothing_to_learn])
    assert mean < 2.0 * error


@pytest.mark.parametrize("score", SCORES)
def test_a_strong_signal_is_found(much_to_learn: list[Report], score: str) -> None:
    values = [SCORES[score](one) for one in much_to_learn]
    mean, error = mean_and_error(values)
    assert min(values) > 0.0
    assert mean > 0.05 + 2.0 * error, f"{score} is {mean:.4f} ± {error:.4f} over {len(STRONG_SEEDS)} seeds"
