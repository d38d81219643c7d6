"""The label pipeline with production types, end to end into scoring (incidents 17.1, 17.2, 17.5)."""

import itertools
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cvntrade_assets.learning.label_pipeline import (
    LabelPipelineError,
    find_suspects,
    prepare_labels,
    smooth_buy,
)
from cvntrade_assets.learning.training import score_buy, train_model

ROOT = Path(__file__).parents[2]
SMOOTHINGS = ("none", "mild", "aggressive")
CLEANLABS = ("off", "filter", "reweight")
COMBINATIONS = list(itertools.product(SMOOTHINGS, CLEANLABS))
FLIPPED = 12
OPTIONS = {"n_folds": 3, "embargo": pd.Timedelta(hours=6), "seed": 2, "class_cap": 0.2}


def market(rows=260, *, three=False):
    """Training rows whose last feature decides the label but for `FLIPPED` false BUYs; validation rows."""
    random = np.random.default_rng(23)
    index = pd.date_range("2024-01-01", periods=rows, freq="2h", tz="UTC", name="open_time").as_unit("ns")
    features = pd.DataFrame(
        random.normal(size=(rows, 6)).astype(np.float32),
        index=index,
        columns=["RSI_14", "BBL_20_2.0", "ADX_14", "ATR_14", "MFI_14", "OBV_Z_48"],
    )
    driver = features["OBV_Z_48"]
    labels = pd.Series((driver > 0.6).astype(np.int8), index=index, name="label")
    if three:
        labels = labels.mask(driver < -0.8, -1).astype(np.int8)
    wrong = random.choice(np.flatnonzero(labels.iloc[: rows - 80] == 0), FLIPPED, replace=False)
    labels.iloc[wrong] = 1
    weights = pd.Series(random.uniform(0.5, 1.5, rows), index=index, name="weight")
    entry = pd.Series(index + pd.Timedelta(minutes=30), index=index, name="entry_time")
    train = tuple(part.iloc[: rows - 80] for part in (features, labels, weights, entry, entry + pd.Timedelta(hours=4)))
    return train, (features.iloc[rows - 80 :], labels.iloc[rows - 80 :]), index[np.sort(wrong)]


def prepared(train, *, three=False, smoothing="none", cleanlab="off", **changes):
    return prepare_labels(*train, binary=not three, smoothing=smoothing, cleanlab=cleanlab, **(OPTIONS | changes))


def test_every_judged_fold_is_told():
    train, _, _ = market()
    told = []
    ready = prepared(train, cleanlab="reweight", on_fold=lambda *place: told.append(place))
    assert told == [(1, 3), (2, 3), (3, 3)]
    pd.testing.assert_series_equal(ready.weights, prepared(train, cleanlab="reweight").weights)


@pytest.mark.parametrize("three", [False, True], ids=["binary", "three"])
@pytest.mark.parametrize(("smoothing", "cleanlab"), COMBINATIONS)
def test_every_combination_trains_and_scores(smoothing, cleanlab, three):
    train, (valid_x, valid_y), _ = market(three=three)
    ready = prepared(train, three=three, smoothing=smoothing, cleanlab=cleanlab)
    model = train_model(
        ready.features,
        ready.labels,
        ready.weights,
        valid_x,
        valid_y,
        params={"max_depth": 3, "learning_rate": 0.2},
        rounds=30,
        early_stopping_rounds=5,
        objective="softprob" if three else "logistic",
        seed=1,
    )
    scores = score_buy(model, valid_x)
    assert scores.index.equals(valid_x.index)
    assert scores[valid_y == 1].mean() > scores[valid_y != 1].mean() + 0.1


@pytest.mark.parametrize("three", [False, True], ids=["binary", "three"])
@pytest.mark.parametrize(("smoothing", "cleanlab"), COMBINATIONS)
def test_types_names_and_index_come_back_as_they_went_in(smoothing, cleanlab, three):
    train, _, _ = market(three=three)
    before = [part.copy() for part in train]
    features, labels, weights, *_ = train
    ready = prepared(train, three=three, smoothing=smoothing, cleanlab=cleanlab)
    for part, copy in zip(train, before, strict=True):
        assert part.equals(copy)
    kept = ~ready.suspects if cleanlab == "filter" else ready.suspects | True
    pd.testing.assert_frame_equal(ready.features, features[kept])
    assert ready.weights.dtype == weights.dtype
    assert ready.weights.name == "weight"
    for part in (ready.labels, ready.weights):
        assert part.index.equals(ready.features.index)
    assert ready.suspects.index.equals(labels.index)
    assert ready.suspects.dtype == bool
    if smoothing == "none":
        pd.testing.assert_series_equal(ready.labels, labels[kept])
    elif three:
        assert list(ready.labels.columns) == [-1, 0, 1]
        np.testing.assert_allclose(ready.labels.sum(axis=1), 1.0)
    else:
        assert ready.labels.dtype == np.float64
        assert ready.labels.name == "label"


def test_nothing_asked_gives_back_the_very_objects():
    train, _, _ = market()
    ready = prepared(train)
    assert ready.features is train[0]
    assert ready.labels is train[1]
    assert ready.weights is train[2]
    assert not ready.suspects.any()


@pytest.mark.parametrize(
    ("binary", "epsilon", "labels", "expected"),
    [
        (True, 0.1, [1, 0, 1], [0.9, 0.0, 0.9]),
        (True, 0.3, [1, 0, 1], [0.7, 0.0, 0.7]),
        (False, 0.1, [1, 0, -1], [[0.0, 0.1, 0.9], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]),
        (False, 0.3, [1, 0, -1], [[0.0, 0.3, 0.7], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]),
    ],
)
def test_only_buy_is_smoothed(binary, epsilon, labels, expected):
    smoothed = smooth_buy(pd.Series(labels, dtype=np.int8), epsilon, binary=binary)
    assert smoothed.to_numpy().tolist() == expected


def test_a_three_class_slice_without_sell_is_still_three_classes():
    train, _, _ = market()
    assert list(prepared(train, three=True, smoothing="mild").labels.columns) == [-1, 0, 1]


def test_flipped_labels_are_the_suspects():
    train, _, flipped = market(500)
    suspects = prepared(train, cleanlab="filter", class_cap=0.5).suspects
    found = set(suspects.index[suspects])
    assert len(found & set(flipped)) >= FLIPPED // 2
    assert len(found - set(flipped)) <= 2


@pytest.mark.parametrize("cap", [0.0, 0.05, 0.1])
def test_no_class_loses_more_than_its_cap(cap):
    train, _, _ = market()
    labels = train[1]
    ready = prepared(train, cleanlab="filter", class_cap=cap)
    for label, count in labels.value_counts().items():
        assert ready.suspects[labels == label].sum() <= int(cap * count)
    assert len(ready.labels) == len(labels) - ready.suspects.sum()


def test_the_cap_keeps_the_least_confident():
    labels = pd.Series([1] * 20 + [0] * 20)
    buy = np.r_[np.full(14, 0.9), [0.02, 0.06, 0.01, 0.05, 0.03, 0.04], np.full(20, 0.1)]
    probabilities = pd.DataFrame({0: 1 - buy, 1: buy})
    assert np.flatnonzero(find_suspects(labels, probabilities, 1.0)).tolist() == [14, 15, 16, 17, 18, 19]
    assert np.flatnonzero(find_suspects(labels, probabilities, 0.15)).tolist() == [14, 16, 18]


def test_reweight_halves_suspects_and_nothing_else():
    train, _, _ = market()
    ready = prepared(train, cleanlab="reweight")
    assert ready.suspects.any()
    ratio = ready.weights / train[2]
    assert ratio[ready.suspects].eq(0.5).all()
    assert ratio[~ready.suspects].eq(1.0).all()


def test_the_same_seed_suspects_the_same_rows():
    train, _, _ = market()
    first, second = (prepared(train, cleanlab="filter") for _ in range(2))
    pd.testing.assert_series_equal(first.suspects, second.suspects)


def swapped(position, change):
    train = list(market()[0])
    train[position] = change(train[position])
    return train


@pytest.mark.parametrize(
    ("position", "change", "message"),
    [
        (
            0,
            lambda part: part.to_numpy(),
            "features is a ndarray; expected a pandas DataFrame with the index",
        ),
        (1, lambda part: part.to_numpy(), "labels is a ndarray; expected a pandas Series"),
        (2, lambda part: part.to_numpy(), "weights is a ndarray"),
        (0, lambda part: part.iloc[1:], "labels has 180 rows and features 179"),
        (2, lambda part: part.reset_index(drop=True), "weights has .* their indices differ"),
        (
            4,
            lambda part: part.mask(part.index < part.index[2]),
            "exit_time has 2 missing values, first at 2024",
        ),
        (
            0,
            lambda part: part.mask(part > 2.5),
            "features has .* missing or infinite values, first in column",
        ),
        (1, lambda part: part.astype(float).mask(part == 1), "labels has .* missing values"),
        (1, lambda part: part * 0.9, "labels are float64 with values such as .* expected hard labels"),
        (1, lambda part: part - 1, "expected hard labels \\(0, 1\\)"),
        (1, lambda part: part * 0, "every label is 0; expected two classes"),
        (2, lambda part: part - 1.0, "expected positive, finite weights"),
    ],
)
@pytest.mark.parametrize("cleanlab", ["off", "filter"])
def test_ill_fitting_inputs_are_refused(position, change, message, cleanlab):
    with pytest.raises(LabelPipelineError, match=message):
        prepared(swapped(position, change), cleanlab=cleanlab)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"smoothing": "some"}, "smoothing is 'some'; expected one of none, mild, aggressive"),
        ({"cleanlab": "on"}, "cleanlab is 'on'; expected one of off, filter, reweight"),
        ({"class_cap": 1.2}, "class_cap is 1.2"),
    ],
)
def test_unknown_options_are_refused(changes, message):
    with pytest.raises(LabelPipelineError, match=message):
        prepared(market()[0], **changes)


class ForkError(Exception):
    """Raised in place of a fork."""


def refuse_fork():
    raise ForkError


def test_cleanlab_forks_by_default_and_never_here(monkeypatch):
    from cleanlab.filter import find_label_issues

    monkeypatch.setattr(os, "fork", refuse_fork)
    labels, probabilities = np.array([0, 1] * 20), np.tile([[0.6, 0.4]], (40, 1))
    with pytest.raises(ForkError):
        find_label_issues(labels, probabilities, n_jobs=2)
    assert prepared(market()[0], cleanlab="filter").suspects.any()


BESIDE_GRPC = """
import os, threading
from concurrent import futures
import grpc
from tests.learning.test_label_pipeline import market, prepared

forks = []
os.register_at_fork(before=lambda: forks.append(1))
echo = grpc.unary_unary_rpc_method_handler(lambda request, context: request)
server = grpc.server(futures.ThreadPoolExecutor(2))
server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("t", {"Echo": echo}),))
port = server.add_insecure_port("127.0.0.1:0")
server.start()
channel = grpc.insecure_channel(f"127.0.0.1:{port}")
call = channel.unary_unary("/t/Echo")
assert call(b"before", timeout=20) == b"before"
suspects = prepared(market()[0], cleanlab="filter").suspects
assert call(b"after", timeout=20) == b"after"
assert threading.active_count() > 1
print("suspects", int(suspects.sum()), "forks", len(forks))
channel.close()
server.stop(None).wait()
"""


def test_suspects_are_found_beside_live_grpc_threads():
    pytest.importorskip("grpc")
    done = subprocess.run(
        [sys.executable, "-c", BESIDE_GRPC],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[0::2] == ["suspects", "forks"]
    assert int(done.stdout.split()[1]) > 0
    assert done.stdout.split()[3] == "0"
