"""Probes of the validation audit: each has rows that must fail it, honest rows that pass all, and the anchor."""

import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from cvntrade_assets.learning import validation_audit
from cvntrade_assets.learning.barriers import label_candles
from cvntrade_assets.learning.features import compute_features
from cvntrade_assets.learning.label_pipeline import PreparedLabels
from cvntrade_assets.learning.splits import SLICES, SliceFractions
from cvntrade_assets.learning.training import TrainedModel, score_buy, train_model
from cvntrade_assets.learning.training_set import TrainingSet, assemble_training_set
from cvntrade_assets.learning.validation_audit import PROBES, CapturedRows, refit_anchor, run_probes
from cvntrade_assets.operations.audit_verdict import ProbeResult
from cvntrade_assets.trading.pte import PTE

INTERVAL = pd.Timedelta("30min")
EMBARGO = pd.Timedelta("6h")
FRACTIONS = SliceFractions(0.7, 0.1, 0.1, 0.1)
PATIENCE = 15


def training_set(candles: pd.DataFrame) -> TrainingSet:
    labels = label_candles(candles, PTE.parse("H4_SL1.0_TP2.0"), interval=INTERVAL, binary=True)
    features = compute_features(candles)
    return assemble_training_set(
        features, labels, pd.DatetimeIndex([]), "off", FRACTIONS, EMBARGO, uniqueness_weights=True
    )


def captured(whole: TrainingSet, **changed) -> CapturedRows:
    return replace(CapturedRows(whole.features, whole.targets, EMBARGO, INTERVAL, seed=42), **changed)


@pytest.fixture(scope="module")
def whole(random_candles) -> TrainingSet:
    return training_set(random_candles(4_000, 3))


@pytest.fixture(scope="module")
def honest(whole: TrainingSet) -> CapturedRows:
    return captured(whole)


def test_honest_rows_pass_every_probe(honest: CapturedRows) -> None:
    asked: list[str] = []
    results = run_probes(honest, asked.append)
    assert [each.message for each in results if not each.passed] == []
    assert [each.name for each in results] == asked == [probe.__name__ for probe in PROBES]
    assert all(each.value is not None for each in results)


@pytest.mark.parametrize("symbol", ["ETHUSDT", "LDOUSDT"])
def test_real_rows_pass_every_probe(real_candles, symbol: str) -> None:
    rows = captured(training_set(real_candles(symbol, start="2025-01-01", end="2025-07-01")))
    assert [each.message for each in run_probes(rows) if not each.passed] == []


# Rows that must fail a probe.


def add(**columns: Callable[[CapturedRows], object]) -> Callable[[CapturedRows], CapturedRows]:
    """The rows with features added."""
    return lambda rows: replace(
        rows, features=rows.features.assign(**{name: make(rows) for name, make in columns.items()}).astype("float32")
    )


def with_slices(rows: CapturedRows, slices: object) -> CapturedRows:
    category = pd.Categorical(slices, categories=list(SLICES), ordered=True)
    return replace(rows, targets=rows.targets.assign(slice=category))


def shifted_by_a_row(rows: CapturedRows) -> CapturedRows:
    return replace(rows, features=rows.features.iloc[1:], targets=rows.targets.iloc[:-1])


def backwards(rows: CapturedRows) -> CapturedRows:
    return replace(rows, features=rows.features.iloc[::-1], targets=rows.targets.iloc[::-1])


def with_a_hole(rows: CapturedRows) -> CapturedRows:
    features = rows.features.copy()
    features.iloc[5, 5] = np.nan
    return replace(rows, features=features)


def calibration_without_buy(rows: CapturedRows) -> CapturedRows:
    there = rows.targets["slice"] == "calibration"
    return replace(rows, targets=rows.targets.assign(label=rows.targets["label"].mask(there, 0)))


def no_test_slice(rows: CapturedRows) -> CapturedRows:
    kept = (rows.targets["slice"] != "test").to_numpy()
    return replace(rows, features=rows.features[kept], targets=rows.targets[kept])


def drawn_at_random(rows: CapturedRows) -> CapturedRows:
    """The split of a script that shuffles: train_test_split on rows whose labels overlap."""
    return with_slices(rows, np.random.default_rng(0).choice(SLICES, len(rows.targets), p=(0.7, 0.1, 0.1, 0.1)))


def not_purged(rows: CapturedRows) -> CapturedRows:
    exits = rows.targets["exit_time"].copy()
    last = int((rows.targets["slice"] == "train").sum()) - 1
    exits.iloc[last] = rows.targets.loc[rows.targets["slice"] == "validation", "entry_time"].min()
    return replace(rows, targets=rows.targets.assign(exit_time=exits))


def no_embargo(rows: CapturedRows) -> CapturedRows:
    return replace(rows, embargo=EMBARGO + INTERVAL)


def copied_into_test(rows: CapturedRows) -> CapturedRows:
    features = rows.features.copy()
    features.iloc[-3] = features.iloc[10]
    return replace(rows, features=features)


def many_copied_into_test(rows: CapturedRows) -> CapturedRows:
    """Features, spans and labels of train rows stand again among the held-out ones."""
    features, targets = rows.features.copy(), rows.targets.copy()
    train = np.flatnonzero(targets["slice"] == "train")
    there = np.flatnonzero(targets["slice"] != "train")
    source = np.random.default_rng(1).choice(train[-len(there) :], len(there), replace=False)
    features.iloc[there] = features.iloc[source].to_numpy()
    for name in ("entry_time", "exit_time"):
        targets.iloc[there, targets.columns.get_loc(name)] = targets[name].iloc[source].to_numpy()
    return replace(rows, features=features, targets=targets)


def of_one_class(rows: CapturedRows) -> CapturedRows:
    return replace(rows, targets=rows.targets.assign(label=np.int8(0)))


def train_alone(rows: CapturedRows) -> CapturedRows:
    return with_slices(rows, ["train"] * len(rows.targets))


TRIPS = [
    ("rows_aligned", shifted_by_a_row, "not the same candles"),
    ("rows_aligned", backwards, "not in strict time order"),
    ("rows_aligned", with_a_hole, "1 values that are not finite"),
    ("classes_in_every_slice", calibration_without_buy, r"without both classes: calibration \(0% BUY\)"),
    ("classes_in_every_slice", no_test_slice, r"without both classes: test \(no row\)"),
    ("spans_apart", drawn_at_random, "label spans reach into another slice"),
    ("spans_apart", not_purged, "1 label spans reach into another slice, expected none; the first, of the train row"),
    ("embargo_kept", no_embargo, "opens 6 h after the last label before it ended; at least 6.5 h is expected"),
    ("embargo_kept", drawn_at_random, "at least 6 h is expected"),
    ("embargo_kept", train_alone, "there is only one slice"),
    ("rows_once", copied_into_test, "2 rows stand in more than one slice"),
    ("no_feature_tells_time", add(CLOCK=lambda r: np.arange(len(r.features))), "CLOCK follows time most"),
    ("no_feature_tells_time", add(DOWN=lambda r: -np.sqrt(np.arange(len(r.features)))), "DOWN follows time most"),
    ("no_feature_is_the_label", add(ANSWER=lambda r: r.targets["label"]), "ANSWER alone tells BUY"),
    ("no_feature_is_the_label", add(OPPOSITE=lambda r: 1 - r.targets["label"]), "OPPOSITE alone tells BUY"),
    ("no_feature_is_the_label", of_one_class, "there is one class only"),
    ("no_feature_is_the_return", add(RETURN=lambda r: r.targets["return"]), "RETURN goes with the return that follows"),
    (
        "no_feature_is_the_return",
        add(NEXT=lambda r: np.tanh(-40 * r.targets["return"])),
        "NEXT goes with the return that follows",
    ),
    ("noise_is_not_learned", drawn_at_random, "fitted on noise, a model scores"),
    ("noise_is_not_learned", many_copied_into_test, "fitted on noise, a model scores"),
    ("noise_is_not_learned", train_alone, "there is no train slice, or nothing else"),
]


@pytest.mark.parametrize(("name", "change", "message"), TRIPS)
def test_probe_finds_it(honest: CapturedRows, name: str, change: Callable, message: str) -> None:
    found: ProbeResult = getattr(validation_audit, name)(change(honest))
    assert found.name == name
    assert not found.passed, found.message
    assert re.search(message, found.message), found.message


def test_every_probe_has_rows_that_must_fail_it() -> None:
    assert {name for name, *_ in TRIPS} == {probe.__name__ for probe in PROBES}


def test_rows_that_do_not_fit_are_all_that_is_said(honest: CapturedRows) -> None:
    assert [each.name for each in run_probes(shifted_by_a_row(honest))] == ["rows_aligned"]


def test_a_feature_that_knows_the_next_candle_is_found(random_candles) -> None:
    candles = random_candles(4_000, 3)
    whole = training_set(candles)
    ahead = np.log(candles["close"].shift(-1) / candles["close"]).reindex(whole.features.index)
    late = captured(whole, features=whole.features.assign(AHEAD=ahead.to_numpy()).astype("float32"))
    failed = {each.name for each in run_probes(late) if not each.passed}
    assert "no_feature_is_the_return" in failed or "no_feature_is_the_label" in failed


def test_probes_are_the_same_twice(honest: CapturedRows) -> None:
    assert run_probes(honest) == run_probes(honest)


def test_probes_change_nothing(whole: TrainingSet) -> None:
    rows = captured(whole, features=whole.features.copy(), targets=whole.targets.copy())
    run_probes(rows)
    pd.testing.assert_frame_equal(rows.features, whole.features)
    pd.testing.assert_frame_equal(rows.targets, whole.targets)


# the anchor


def fit(whole: TrainingSet, **changed) -> TrainedModel:
    train, valid = whole.slice("train"), whole.slice("validation")
    options = {
        "params": {"max_depth": 3, "learning_rate": 0.2, "subsample": 0.8},
        "rounds": 60,
        "early_stopping_rounds": PATIENCE,
        "objective": "logistic",
        "seed": 7,
    }
    return train_model(
        train.features,
        train.targets["label"],
        train.targets["weight"],
        valid.features,
        valid.targets["label"],
        **(options | changed),
    )


def anchor_of(whole: TrainingSet, model: TrainedModel, patience: int = PATIENCE, most_rounds: int = 60, **changed):
    train, valid = whole.slice("train"), whole.slice("validation")
    prepared = PreparedLabels(
        changed.get("features", train.features),
        changed.get("labels", train.targets["label"]),
        train.targets["weight"],
        pd.Series(False, index=train.features.index),
    )
    rounds: list[int] = []
    anchor = refit_anchor(
        model,
        valid.features.iloc[:100],
        prepared,
        valid.features,
        valid.targets["label"],
        most_rounds,
        patience,
        lambda index, _: rounds.append(index),
    )
    assert rounds == list(range(validation_audit.ANCHOR_ROUNDS))
    return anchor


@pytest.fixture(scope="module")
def few(random_candles) -> TrainingSet:
    whole = training_set(random_candles(2_000, 5))
    return TrainingSet(whole.features.iloc[:, :20], whole.targets)


@pytest.mark.parametrize("loss", [{}, {"objective": "focal", "focal_gamma": 1.5}])
def test_anchor_reproduces_the_recorded_model(few: TrainingSet, loss: dict) -> None:
    model = fit(few, **loss)
    anchor = anchor_of(few, model)
    assert anchor.reproduced
    assert anchor.largest_difference == 0.0
    assert anchor.rounds == validation_audit.ANCHOR_ROUNDS
    assert anchor.refitted_best_round == anchor.recorded_best_round == model.best_iteration
    assert (anchor.compared_trees, anchor.rows) == (model.best_iteration + 1, 100)


def test_anchor_of_other_training_rows_is_not_reproduced(few: TrainingSet) -> None:
    labels = few.slice("train").targets["label"].copy()
    labels.iloc[:200] = 1 - labels.iloc[:200]
    anchor = anchor_of(few, fit(few), labels=labels)
    assert not anchor.reproduced
    assert anchor.largest_difference > anchor.tolerance


@pytest.mark.parametrize("change", [{"seed": 8}, {"params": {"max_depth": 3, "learning_rate": 0.2}}])
def test_anchor_of_other_hyperparameters_is_not_reproduced(few: TrainingSet, change: dict) -> None:
    recorded, other = fit(few), fit(few, **change)
    assert not anchor_of(few, replace(recorded, params=other.params)).reproduced


def test_anchor_of_a_model_that_was_cut_elsewhere_is_not_reproduced(few: TrainingSet) -> None:
    model = fit(few)
    anchor = anchor_of(few, replace(model, best_iteration=model.best_iteration + 5))
    assert anchor.refitted_best_round == model.best_iteration
    assert not anchor.reproduced


def test_anchor_of_a_longer_model_compares_the_first_trees(few: TrainingSet) -> None:
    slow = {"max_depth": 2, "learning_rate": 0.001}
    model = fit(few, params=slow, rounds=400, early_stopping_rounds=400)
    assert model.best_iteration >= validation_audit.ANCHOR_ROUNDS
    anchor = anchor_of(few, model, patience=400, most_rounds=400)
    assert anchor.refitted_best_round is None
    assert anchor.compared_trees == validation_audit.ANCHOR_ROUNDS
    assert anchor.reproduced


def test_anchor_of_a_model_that_ran_out_of_rounds_reproduces_it(few: TrainingSet) -> None:
    """The second fit goes on; that it would have found better trees later makes the recorded model no other."""
    slow = {"max_depth": 2, "learning_rate": 0.01}
    model = fit(few, params=slow, rounds=30)
    assert model.best_iteration == 29
    anchor = anchor_of(few, model, most_rounds=30)
    assert anchor.refitted_best_round == 29 and anchor.reproduced
    assert not anchor_of(few, model, most_rounds=400).reproduced, "with more rounds it would have gone on"


def test_anchor_of_a_longer_model_that_should_have_stopped_is_not_reproduced(few: TrainingSet) -> None:
    model = fit(few)
    longer = replace(model, best_iteration=validation_audit.ANCHOR_ROUNDS + 20)
    anchor = anchor_of(few, longer, most_rounds=400)
    assert anchor.refitted_best_round == model.best_iteration
    assert not anchor.reproduced


def test_scores_of_the_recorded_model_are_its_own(few: TrainingSet) -> None:
    """The anchor cuts boosters by trees; with all of them the scores are those of the model."""
    model, rows = fit(few), few.slice("validation").features
    trees = model.best_iteration + 1
    np.testing.assert_array_equal(validation_audit._first_trees(model, rows, trees), score_buy(model, rows))
