"""Feature selection: what is dropped and why, that it repeats, and that it sees the train slice only."""

import time

import numpy as np
import pandas as pd
import pytest

from cvntrade_assets.learning.selection import FeatureSelection, UnusableSelectionError, select_features
from cvntrade_assets.learning.training_set import TrainingSet

HALF_HOUR = pd.Timedelta("30min")
EMBARGO = pd.Timedelta("6h")


def train_rows(n: int = 400, noise_features: int = 8, seed: int = 0, classes: int = 2) -> TrainingSet:
    """Rows whose label hangs on GOOD (strongly) and FAIR (weakly), among noise."""
    rng = np.random.default_rng(seed)
    times = pd.date_range("2024-01-01", periods=n, freq=8 * HALF_HOUR, tz="UTC", name="open_time")
    values = {f"NOISE_{i}": rng.normal(size=n) for i in range(noise_features)}
    values["GOOD"], values["FAIR"] = rng.normal(size=n), rng.normal(size=n)
    signal = 2.0 * values["GOOD"] + 0.9 * values["FAIR"] + rng.normal(size=n)
    label = (signal > 1).astype(np.int8) if classes == 2 else np.sign(np.round(signal / 2)).astype(np.int8)
    targets = pd.DataFrame(
        {
            "label": label,
            "return": 0.0,
            "exit_kind": pd.Categorical(["tp"] * n),
            "entry_time": times + HALF_HOUR,
            "exit_time": times + 4 * HALF_HOUR,
            "ambiguous": False,
            "weight": 1.0,
            "slice": pd.Categorical(["train"] * n),
        },
        index=times,
    )
    return TrainingSet(pd.DataFrame(values, index=times).astype(np.float32), targets)


def with_features(training: TrainingSet, **columns) -> TrainingSet:
    features = training.features.assign(**columns).astype(np.float32)
    return TrainingSet(features, training.targets)


def select(training: TrainingSet, max_features: int = 5, seed: int = 7) -> FeatureSelection:
    return select_features(training, max_features, seed, n_folds=4, embargo=EMBARGO)


def test_what_decides_the_label_comes_first():
    selection = select(train_rows(), 2)
    assert selection.names == ("GOOD", "FAIR")
    assert selection.scores["score"].idxmax() == "GOOD"


def test_every_scored_fold_is_told():
    told = []
    found = select_features(train_rows(), 5, 7, 4, EMBARGO, on_fold=lambda *place: told.append(place))
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]
    pd.testing.assert_frame_equal(found.scores, select(train_rows()).scores, check_exact=True)


def test_three_classes_are_ranked_as_well():
    assert select(train_rows(classes=3), 2).names == ("GOOD", "FAIR")


def test_names_keep_the_order_of_the_features():
    training = train_rows()
    names = select(training, 6).names
    assert len(names) == 6
    assert list(names) == [name for name in training.features.columns if name in names]


def test_scores_tell_every_feature_and_why():
    training = with_features(train_rows(), FLAT=3.0)
    scores = select(training, 3).scores
    assert scores.index.tolist() == training.features.columns.tolist()
    assert scores.loc["FLAT", "reason"] == "constant"
    assert scores.loc["GOOD", "reason"] == "kept"
    assert (scores["reason"] == "not among the 3 best").sum() == len(scores) - 4
    assert scores["kept"].sum() == 3
    assert scores["score"].isna().tolist() == (scores["reason"] == "constant").tolist()
    assert scores["score"].sum() == pytest.approx(1.0)


def test_the_weaker_of_two_near_duplicates_goes():
    base = train_rows()
    rng = np.random.default_rng(3)
    blurred = base.features["GOOD"] + rng.normal(0, 0.03, len(base.features))
    for columns in ({"AAA": blurred}, {"ZZZ": blurred}):
        scores = select(with_features(base, **columns)).scores
        (name,) = columns
        assert sorted(scores.loc[["GOOD", name], "kept"]) == [False, True]
        (dropped,) = scores.index[scores["reason"].str.startswith("near-duplicate")]
        strength = with_features(base, **columns).features.corrwith(base.targets["label"], method=rank_corr).abs()
        assert strength[dropped] == min(strength[["GOOD", name]])


def rank_corr(left, right) -> float:
    return float(pd.Series(left).rank().corr(pd.Series(right).rank()))


def test_a_monotone_or_mirrored_copy_is_a_duplicate_and_a_looser_one_is_not():
    base = train_rows()
    good = base.features["GOOD"]
    loose = good + np.random.default_rng(4).normal(0, 0.5, len(good))
    selection = select(with_features(base, CUBE=good**3, MIRROR=-good, LOOSE=loose), 100)
    assert sum(name in selection.names for name in ("GOOD", "CUBE", "MIRROR")) == 1
    assert "LOOSE" in selection.names


def test_a_high_limit_keeps_all_that_is_neither_constant_nor_a_copy():
    training = with_features(train_rows(), FLAT=1.0, COPY=train_rows().features["FAIR"])
    assert len(select(training, 1000).names) == training.features.shape[1] - 2


def test_the_same_seed_gives_the_same_answer():
    first, second = select(train_rows()), select(train_rows())
    assert first.names == second.names
    pd.testing.assert_frame_equal(first.scores, second.scores)


def test_another_seed_gives_other_scores():
    assert not select(train_rows(), seed=1).scores.equals(select(train_rows(), seed=2).scores)


def test_weights_count():
    training = train_rows()
    targets = training.targets.assign(weight=np.linspace(0.1, 1.9, len(training.targets)))
    assert not select(TrainingSet(training.features, targets)).scores.equals(select(training).scores)


@pytest.mark.parametrize("name", ["validation", "calibration", "test"])
def test_a_row_of_another_slice_is_refused(name):
    training = train_rows()
    slices = training.targets["slice"].astype(str)
    slices.iloc[-1] = name
    with pytest.raises(UnusableSelectionError, match=f"train slice only.*{name}"):
        select(TrainingSet(training.features, training.targets.assign(slice=pd.Categorical(slices))))


@pytest.mark.parametrize(
    ("training", "max_features", "says"),
    [
        (train_rows(), 0, "at least 1"),
        (TrainingSet(train_rows().features * 0, train_rows().targets), 5, "every feature is constant"),
        (TrainingSet(train_rows().features, train_rows().targets.assign(label=0)), 5, "single class"),
        (TrainingSet(train_rows().features * np.nan, train_rows().targets), 5, "not finite"),
    ],
)
def test_unusable_rows_are_refused(training, max_features, says):
    with pytest.raises(UnusableSelectionError, match=says):
        select(training, max_features)


def test_fifteen_hundred_rows_take_three_seconds():
    training = train_rows(1500, noise_features=158)
    start = time.process_time()
    select(training, 60)
    # 3 s is the budget on an idle machine; processor time, and twice the budget, for a busy one.
    assert time.process_time() - start < 6.0
