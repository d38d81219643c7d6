"""Tuning: the same trials whatever the number of workers, honest scores, and no process left behind."""

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from cvntrade_assets.learning import tuning
from cvntrade_assets.learning.boosting import BoostingError, Loss
from cvntrade_assets.learning.splits import purged_folds
from cvntrade_assets.learning.training import ModelContractError, score_buy, train_model
from cvntrade_assets.learning.tuning import (
    SearchRange,
    TuningError,
    best_f1_threshold,
    tune,
)

ROOT = Path(__file__).parents[2]
EMBARGO = pd.Timedelta(hours=6)
SEARCH_SPACE = {
    "max_depth": SearchRange(2, 6, integer=True),
    "learning_rate": SearchRange(0.02, 0.3, log=True),
    "min_child_weight": SearchRange(1.0, 50.0, log=True),
    "subsample": SearchRange(0.5, 1.0),
    "colsample_bytree": SearchRange(0.1, 0.8),
    "reg_lambda": SearchRange(0.1, 100.0, log=True),
    "reg_alpha": SearchRange(0.001, 10.0, log=True),
    "gamma": SearchRange(0.0, 5.0),
}
OPTIONS = {
    "search_space": SEARCH_SPACE,
    "n_trials": 12,
    "n_folds": 3,
    "objective": "precision_recall_auc",
    "seed": 5,
    "workers": 1,
    "embargo": EMBARGO,
    "rounds": 20,
    "early_stopping_rounds": 4,
    "fixed_params": {"max_bin": 16},
}


def training_slice(rows=240, columns=8):
    random = np.random.default_rng(11)
    index = pd.date_range("2024-01-01", periods=rows, freq="2h", tz="UTC", name="open_time").as_unit("ns")
    features = pd.DataFrame(
        random.normal(size=(rows, columns)).astype(np.float32),
        index=index,
        columns=[f"ADX_{number}" for number in range(columns)],
    )
    buy = random.random(rows) < 1 / (1 + np.exp(0.8 - 1.5 * features["ADX_0"]))
    labels = pd.Series(buy.astype(np.int8), index=index, name="label")
    weights = pd.Series(random.uniform(0.5, 1.5, rows), index=index, name="weight")
    entry = pd.Series(index + pd.Timedelta(minutes=30), index=index, name="entry_time")
    return features, labels, weights, labels, entry, entry + pd.Timedelta(hours=4)


def search(data=None, **changes):
    return tune(*(data or training_slice()), **(OPTIONS | changes))


def test_one_and_two_workers_try_the_same_trials():
    alone, together = (search(workers=workers) for workers in (1, 2))
    pd.testing.assert_frame_equal(alone.trials, together.trials, check_exact=True)
    assert alone.params == together.params
    assert alone.best_score == together.best_score


def test_a_seed_decides_the_trials():
    pd.testing.assert_frame_equal(search().trials, search().trials, check_exact=True)
    assert not search().trials.equals(search(seed=6).trials)


def test_the_result_is_the_best_trial_and_trains_a_model():
    result = search()
    trials = result.trials
    assert result.best_score == trials["score"].max()
    best = trials.loc[trials["score"].idxmax()]
    assert result.params == {"max_bin": 16} | {name: best[name] for name in SEARCH_SPACE}
    np.testing.assert_allclose(trials["score"], trials.filter(like="score_fold_").mean(axis=1))
    assert trials["rounds"].between(1, 20).all()
    features, labels, weights, *_ = training_slice()
    model = train_model(
        features,
        labels,
        weights,
        features,
        labels,
        params=result.params,
        rounds=20,
        early_stopping_rounds=4,
        objective="logistic",
        seed=5,
    )
    assert score_buy(model, features).between(0, 1).all()


def test_every_trial_stays_within_its_ranges():
    trials = search().trials
    for name, allowed in SEARCH_SPACE.items():
        assert trials[name].between(allowed.low, allowed.high).all()
    assert trials["max_depth"].dtype == np.int64


def test_the_search_learns_what_can_be_learned():
    result = search(n_trials=20, rounds=40)
    assert result.best_score > training_slice()[1].mean() + 0.1


def test_progress_is_told_in_order():
    told = []
    result = search(on_trial=lambda *progress: told.append(progress))
    assert [(done, total) for done, total, _ in told] == [(number, 12) for number in range(1, 13)]
    assert [best for *_, best in told] == result.trials["score"].cummax().tolist()


@pytest.mark.parametrize("workers", [1, 2])
def test_every_fold_is_told_in_order_and_changes_no_trial(workers):
    told = []
    result = search(workers=workers, on_fold=lambda *place: told.append(place))
    assert list(dict.fromkeys(told)) == [(done, 12, fold, 3) for done in range(12) for fold in (1, 2, 3)]
    pd.testing.assert_frame_equal(result.trials, search().trials, check_exact=True)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_long_fit_is_told_of_while_it_goes_on(workers, monkeypatch):
    monkeypatch.setattr(tuning, "LOOK_SECONDS", 0.01)
    told = []
    long = {"n_trials": 1, "rounds": 2000, "early_stopping_rounds": 2000, "workers": workers}
    search(**long, on_fold=lambda *place: told.append(place))
    assert len(told) > 2 * 3


def test_a_search_whose_workers_hang_says_nothing():
    """The heartbeat comes from rounds that are boosted, not from the process that waits for them."""
    told, fit, rounds = [], Future(), SimpleNamespace(value=7)
    waiting = threading.Thread(target=tuning._wait_for, args=(fit, rounds, lambda: told.append(rounds.value)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tuning, "LOOK_SECONDS", 0.01)
        waiting.start()
        waiting.join(0.2)
        assert waiting.is_alive() and not told
        rounds.value = 8
        while not told:
            time.sleep(0.01)
        waiting.join(0.2)
        assert told == [8]
        fit.set_result(None)
        waiting.join()


@pytest.mark.parametrize("n_trials", [1, 3])
def test_fewer_trials_than_fit_in_flight(n_trials):
    assert len(search(n_trials=n_trials).trials) == n_trials


def test_soft_labels_train_and_hard_labels_score():
    features, labels, weights, hard, *times = training_slice()
    soft = labels.astype(float).mask(labels == 1, 0.7)
    smoothed = search((features, soft, weights, hard, *times))
    assert not smoothed.trials.equals(search().trials)
    with pytest.raises(ModelContractError, match="labels are not hard"):
        search((features, soft, weights, soft, *times))


@pytest.mark.parametrize("kind", ["focal", "softprob"])
def test_other_losses_are_tuned_too(kind):
    features, labels, weights, hard, *times = training_slice()
    if kind == "softprob":
        labels = hard = labels.mask((labels == 0) & (features["ADX_1"] > 0), -1)
    result = search((features, labels, weights, hard, *times), loss=Loss(kind, 2.0), n_trials=6)
    assert result.best_score > 0.2


def slow_best_f1(buys, scores):
    best = (-1.0, None)
    for threshold in sorted(set(scores), reverse=True):
        said = scores >= threshold
        caught = (said & buys).sum()
        best = max(best, (2 * caught / (said.sum() + buys.sum()), threshold), key=lambda each: each[0])
    return best[1]


def test_the_f1_threshold_is_the_slow_searchs():
    random = np.random.default_rng(0)
    for _ in range(50):
        buys, scores = random.random(30) < 0.3, random.integers(0, 12, 30) / 12.0
        buys[0] = True
        assert best_f1_threshold(buys, scores) == slow_best_f1(buys, scores)


def test_f1_thresholds_come_from_the_other_folds():
    """On noise F1 falls below always-BUY somewhere; a threshold chosen on the scored fold never does."""
    features, labels, *rest = training_slice()
    noise = pd.DataFrame(
        np.random.default_rng(1).normal(size=features.shape).astype(np.float32),
        index=features.index,
        columns=features.columns,
    )
    result = search((noise, labels, *rest), objective="f1_binary")
    always = []
    for fold in purged_folds(rest[2], rest[3], 3, EMBARGO):
        rate = labels.iloc[fold.held_out].mean()
        always.append(2 * rate / (1 + rate))
    folds = result.trials.filter(like="score_fold_").to_numpy()
    assert (folds < np.array(always)).any()


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"n_trials": 0}, TuningError, "n_trials is 0; expected at least 1"),
        ({"n_folds": 1}, TuningError, "n_folds is 1; expected at least 2"),
        ({"workers": 0}, TuningError, "workers is 0"),
        ({"objective": "accuracy"}, TuningError, "'accuracy' is unknown; expected precision_recall_auc or"),
        ({"search_space": {"depth": SearchRange(2, 4)}}, BoostingError, "'depth' is not a hyperparameter"),
        ({"search_space": {"max_bin": SearchRange(16, 64)}}, BoostingError, "'max_bin' is not a hyper"),
        ({"fixed_params": {"max_depth": 3}}, TuningError, "'max_depth' is both searched and fixed"),
    ],
)
def test_a_search_that_makes_no_sense_is_refused(changes, error, message):
    with pytest.raises(error, match=message):
        search(**changes)


def test_a_fold_without_buy_is_refused():
    features, labels, weights, *rest = training_slice()
    early = labels.where(np.arange(len(labels)) < 80, 0)
    with pytest.raises(TuningError, match="Fold 0 of 3 has 0 BUY rows of"):
        search((features, early, weights, early, *rest[1:]))


@pytest.mark.parametrize("bounds", [(2.0, 1.0, False), (0.0, 1.0, True)])
def test_an_empty_range_is_refused(bounds):
    low, high, log = bounds
    with pytest.raises(TuningError, match="expected low <= high"):
        SearchRange(low, high, log=log)


def children_of(pid):
    found = []
    for entry in Path("/proc").iterdir():
        try:
            fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
        except (OSError, IndexError):
            continue
        if entry.name.isdigit() and int(fields[1]) == pid:
            found.append(int(entry.name))
    return found


def wait_until(condition, seconds=30.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def test_workers_end_when_the_search_is_killed():
    code = (
        "from tests.learning.test_tuning import search\n"
        "if __name__ == '__main__':\n"
        "    search(workers=2, n_trials=100000, on_trial=lambda done, *_: done == 1 and print('go', "
        "flush=True))\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE)
    assert parent.stdout.readline() == b"go\n"
    workers = children_of(parent.pid)
    assert len(workers) >= 2
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers))
