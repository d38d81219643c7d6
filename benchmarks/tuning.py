"""Tuning: 50 trials on 1,500 rows × 270 features against plain Optuna, as a ratio.

The alternative is what a script does: `study.optimize` with TPE in one process of one thread, matrices built
for each fit, XGBoost's default `max_bin` of 256. Same rows, purged folds, search space, rounds and score.
Seconds are wall clock and include the start of the processes; CPU seconds, children included, stand beside
them.

Run from the repository's root: `python -m benchmarks.tuning [trials]`.
"""

import os
import sys
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd

from cvntrade_assets.learning.scores import pr_auc
from cvntrade_assets.learning.splits import Fold, purged_folds
from cvntrade_assets.learning.tuning import SearchRange, tune
from cvntrade_assets.settings import HYPERPARAMETERS

ROWS, COLUMNS, TRIALS, SEED = 1_500, 270, 50, 1
SEARCH_SPACE = {
    item.name: SearchRange(item.low, item.high, item.log, item.integer)
    for item in HYPERPARAMETERS["XGBOOST"]
    if item.searched
}
ROUNDS, PATIENCE = (
    int(item.default)
    for item in HYPERPARAMETERS["XGBOOST"]
    if item.name in ("num_boost_round", "early_stopping_rounds")
)
EMBARGO = pd.Timedelta(hours=6)


def training_slice() -> tuple[pd.DataFrame, pd.Series, pd.Series, pd.Series]:
    """Correlated features with a weak effect on a 25 % event, as on real candles; label and span."""
    random = np.random.default_rng(SEED)
    index = pd.date_range("2024-01-01", periods=ROWS, freq="10h", tz="UTC", name="open_time").as_unit("ns")
    drivers = random.normal(size=(ROWS, 30))
    values = 0.5 * drivers @ random.normal(size=(30, COLUMNS)) + random.normal(size=(ROWS, COLUMNS))
    logit = -1.15 + 0.35 * drivers[:, 0] + 0.25 * drivers[:, 1] * drivers[:, 2]
    buy = random.random(ROWS) < 1 / (1 + np.exp(-logit))
    names = [f"feature_{number}" for number in range(COLUMNS)]
    entry = pd.Series(index + pd.Timedelta(minutes=30), index=index)
    features = pd.DataFrame(values.astype(np.float32), index=index, columns=names)
    return features, pd.Series(buy.astype(np.int8), index=index), entry, entry + pd.Timedelta(hours=4)


def ours(workers: int, n_folds: int, trials: int) -> float:
    """Best score of `tune`."""
    features, labels, entry, exit_time = training_slice()
    return tune(
        features,
        labels,
        pd.Series(1.0, index=labels.index),
        labels,
        entry,
        exit_time,
        n_trials=trials,
        n_folds=n_folds,
        objective="precision_recall_auc",
        search_space=SEARCH_SPACE,
        rounds=ROUNDS,
        early_stopping_rounds=PATIENCE,
        seed=SEED,
        workers=workers,
        embargo=EMBARGO,
    ).best_score


def plain_optuna(n_folds: int, trials: int) -> float:
    """Best score of a plain Optuna script."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    features, labels, entry, exit_time = training_slice()
    folds = purged_folds(entry, exit_time, n_folds, EMBARGO)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=SEED))
    study.optimize(lambda trial: _mean_score(trial, features, labels, folds), n_trials=trials)
    return study.best_value


def _mean_score(trial, features: pd.DataFrame, labels: pd.Series, folds: list[Fold]) -> float:
    import xgboost as xgb

    params = {
        name: trial.suggest_int(name, int(r.low), int(r.high))
        if r.integer
        else trial.suggest_float(name, r.low, r.high, log=r.log)
        for name, r in SEARCH_SPACE.items()
    } | {"objective": "binary:logistic", "eval_metric": "logloss", "nthread": 1, "seed": SEED}
    scores = []
    for fold in folds:
        train = xgb.DMatrix(features.iloc[fold.train], labels.iloc[fold.train], nthread=1)
        held_out = xgb.DMatrix(features.iloc[fold.held_out], labels.iloc[fold.held_out], nthread=1)
        booster = xgb.train(
            params,
            train,
            ROUNDS,
            evals=[(held_out, "held_out")],
            early_stopping_rounds=PATIENCE,
            verbose_eval=False,
        )
        predicted = booster.predict(held_out, iteration_range=(0, booster.best_iteration + 1))
        scores.append(pr_auc(labels.iloc[fold.held_out], predicted))
    return float(np.mean(scores))


def _cpu_seconds() -> float:
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


def _report(n_folds: int, name: str, work: Callable[[], float], base: float | None = None) -> float:
    started, cpu = time.perf_counter(), _cpu_seconds()
    score = work()
    seconds, cpu = time.perf_counter() - started, _cpu_seconds() - cpu
    ratio = seconds / (base or seconds)
    sys.stdout.write(f"{n_folds:>5}  {name:<40}{seconds:>8.1f}{cpu:>8.1f}{score:>8.3f}{ratio:>8.2f}\n")
    return seconds


def main(trials: int = TRIALS) -> None:
    """Print seconds, best score and ratio for three and five folds."""
    sys.stdout.write(f"{trials} trials, {ROWS} rows x {COLUMNS} features\n")
    sys.stdout.write(f"{'folds':>5}  {'how':<40}{'seconds':>8}{'cpu':>8}{'best':>8}{'ratio':>8}\n")
    for n_folds in (3, 5):
        plain = partial(plain_optuna, n_folds, trials)
        base = _report(n_folds, "plain Optuna, 1 process, max_bin 256", plain)
        for workers in (1, 2):
            name = f"tune, {workers} process{'es' if workers > 1 else ''}, max_bin 64"
            _report(n_folds, name, partial(ours, workers, n_folds, trials), base)


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:2]))
