"""Search for hyperparameters on purged folds of the training slice, with Optuna's TPE sampler in memory.

The score of a search is never reported as the model's: each fold's fit stops early on the rows it is then
scored on, which flatters every candidate a little, and the best of fifty a little more. It ranks candidates,
nothing else.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from ctypes import c_uint64
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from cvntrade_assets.learning.boosting import BUY, HYPERPARAMETERS, TUNABLE, Floats, Loss, Params, check_names
from cvntrade_assets.learning.fold_fits import (
    FoldData,
    FoldFitter,
    HeldOut,
    Rounds,
    fit_in_worker,
    start_worker,
    worker_ready,
)
from cvntrade_assets.learning.scores import confusion, f1_buy, pr_auc
from cvntrade_assets.learning.splits import purged_folds
from cvntrade_assets.learning.training import Labels, check_hard, check_rows, encode_targets

if TYPE_CHECKING:
    import optuna

TuningObjective: TypeAlias = Literal["precision_recall_auc", "f1_binary"]
OnTrial: TypeAlias = Callable[[int, int, float], None]
OnFold: TypeAlias = Callable[[int, int, int, int], None]
Fit: TypeAlias = Callable[[], HeldOut]

STARTUP_TRIALS = 10
"""Trials drawn at random before TPE has something to model; its own default."""

IN_FLIGHT = 5
"""Trials asked for and not yet told.

Fixed, whatever the number of workers, so that TPE knows the same past at each question and proposes the same
trials. With three folds it keeps up to fifteen processes busy. Larger means more proposals made without
their neighbours' results.
"""

LOOK_SECONDS = 5.0
"""How often a search that waits for its workers looks whether they still boost."""


class TuningError(ValueError):
    """A search that cannot be run as asked."""


@dataclass(frozen=True)
class SearchRange:
    """The range of one hyperparameter, both ends included; `log` searches its logarithm."""

    low: float
    high: float
    log: bool = False
    integer: bool = False

    def __post_init__(self) -> None:
        if not self.low <= self.high or (self.log and self.low <= 0):
            raise TuningError(f"{self} is empty, or logarithmic and not positive; expected low <= high.")


@dataclass(frozen=True)
class TuningResult:
    """What a search found.

    Attributes:
        params: the best trial's hyperparameters together with the fixed ones: `params` of `train_model`.
        best_score: its mean score over the folds; ranks trials and says nothing about the market.
        trials: one row per trial (index `trial`): score, score_fold_0 …, rounds (mean over folds), the
            hyperparameters. The same for the same arguments and seed, whatever `workers` is.
        seconds: wall clock of the search.
    """

    params: dict[str, float | int | str]
    best_score: float
    trials: pd.DataFrame
    seconds: float


def tune(
    train_X: pd.DataFrame,  # noqa: N803
    train_y: Labels | pd.DataFrame,
    train_weight: Labels,
    hard_y: Labels,
    entry_time: Labels,
    exit_time: Labels,
    *,
    n_trials: int,
    n_folds: int,
    objective: TuningObjective,
    search_space: Mapping[str, SearchRange],
    fixed_params: Params | None = None,
    loss: Loss = Loss("logistic"),  # noqa: B008
    rounds: int,
    early_stopping_rounds: int,
    seed: int,
    workers: int,
    embargo: pd.Timedelta,
    on_trial: OnTrial | None = None,
    on_fold: OnFold | None = None,
) -> TuningResult:
    """Search the space on purged folds of the training slice.

    `precision_recall_auc` is the mean over folds of the average precision on the held-out rows. `f1_binary`
    is the mean F1 of BUY, each fold at the threshold that is best on the *other* folds' held-out scores: at
    0.5 a model of a 25 % event says BUY almost never and every candidate scores zero, while the best
    threshold of the scored fold itself is chosen on what it is judged by, and never falls below always-BUY.

    Args:
        train_X: features of the training slice.
        train_y: labels to fit, smoothed or not, as `train_model` takes them; same index.
        train_weight: same index; positive.
        hard_y: the labels before smoothing: 0, 1, or -1, 0, 1 for softprob. Folds stop and are scored on
            these.
        entry_time: entry of each row's trade, for purging.
        exit_time: when each row's label is known, for purging.
        n_trials: candidates to try.
        n_folds: purged folds, at least 2.
        objective: what to maximise.
        search_space: ranges by hyperparameter name.
        fixed_params: hyperparameters that every candidate shares.
        loss: what every fit minimises, as the model later will.
        rounds: most trees of a fit.
        early_stopping_rounds: patience of a fit.
        seed: of the sampler and of every fit.
        workers: processes; 1 runs in this one. They are spawned, never forked: this process has gRPC
            threads, and a child forked beside them hangs (incident 17.5).
        embargo: left out after each held-out block.
        on_trial: called here, in order, after each trial with (trials done, n_trials, best score so far).
        on_fold: called here with (trials done, n_trials, fold, n_folds), folds from 1, after each fold of the next
            trial, and again and again while its rounds are boosted: it says that the search is alive, and falls
            silent when every worker hangs.

    Returns:
        The best trial (the earliest of equals) and the table of all.

    Raises:
        TuningError: a count below its minimum, an unknown objective, a name both searched and fixed, or a
            fold without BUY rows.
        ModelContractError, BoostingError: frames or hyperparameters that `train_model` would refuse.
    """
    started = time.perf_counter()
    fixed = dict(fixed_params or {})
    _check_request(n_trials, n_folds, workers, objective, search_space, fixed)
    check_rows("train", train_X, train_y, train_weight)
    check_rows("train", train_X, hard_y, None)
    check_hard(hard_y, loss.objective)
    targets, shares = encode_targets(train_y, loss.objective)
    data = FoldData(
        features=train_X.to_numpy(dtype=np.float32),
        targets=targets,
        class_shares=shares,
        hard=encode_targets(hard_y, loss.objective)[0],
        weights=train_weight.to_numpy(dtype=np.float64),
        folds=tuple((f.train, f.held_out) for f in purged_folds(entry_time, exit_time, n_folds, embargo)),
        loss=loss,
        fixed_params=fixed,
        rounds=rounds,
        early_stopping_rounds=early_stopping_rounds,
        seed=seed,
    )
    judge = _Judge(objective, _held_out_buys(hard_y, data))
    place = _Place(n_trials, n_folds, on_fold)
    with _fits(data, workers, place.moved) as fit:
        log = _search(fit, judge, search_space, place, seed=seed, n_trials=n_trials, on_trial=on_trial)
    best = max(log, key=lambda trial: trial.score)
    return TuningResult({**fixed, **best.params}, best.score, _table(log), time.perf_counter() - started)


@dataclass(frozen=True)
class _Trial:
    """A finished trial."""

    params: dict[str, float | int]
    fold_scores: list[float]
    rounds: float

    @property
    def score(self) -> float:
        return float(np.mean(self.fold_scores))


@dataclass
class _Place:
    """Where a search is: trials done, and the fold of the next one that it waits for."""

    n_trials: int
    n_folds: int
    on_fold: OnFold | None
    done: int = 0
    fold: int = 0

    def moved(self) -> None:
        """Say that work goes on here."""
        if self.on_fold is not None:
            self.on_fold(self.done, self.n_trials, self.fold + 1, self.n_folds)

    def results(self, fits: list[Fit]) -> list[HeldOut]:
        """What the fits of the next trial give, in the order of the folds."""
        held_out = []
        for self.fold, result in enumerate(fits):
            held_out.append(result())
            self.moved()
        self.done += 1
        return held_out


@dataclass(frozen=True)
class _Judge:
    """Scores of held-out probabilities, per fold, against hard BUY labels."""

    objective: TuningObjective
    buys: list[npt.NDArray[np.bool_]]

    def scores(self, held_out: list[HeldOut]) -> list[float]:
        if self.objective == "precision_recall_auc":
            return [pr_auc(buys, fold.scores) for buys, fold in zip(self.buys, held_out, strict=True)]
        return [self._f1_out_of_fold(fold, held_out) for fold in range(len(held_out))]

    def _f1_out_of_fold(self, fold: int, held_out: list[HeldOut]) -> float:
        others = [other for other in range(len(held_out)) if other != fold]
        threshold = best_f1_threshold(
            np.concatenate([self.buys[other] for other in others]),
            np.concatenate([held_out[other].scores for other in others]),
        )
        return f1_buy(confusion(self.buys[fold], held_out[fold].scores >= threshold))


def best_f1_threshold(buys: npt.NDArray[np.bool_], scores: Floats) -> float:
    """The score from which saying BUY gives the highest F1 on these very rows; the highest one of equals."""
    levels, level_of_row, rows = np.unique(-scores, return_inverse=True, return_counts=True)
    said = np.cumsum(rows)
    caught = np.cumsum(np.bincount(level_of_row, weights=buys))
    f1 = 2.0 * caught / (said + buys.sum())
    return float(-levels[int(np.argmax(f1))])


def _search(
    fit: Callable[[Params, int], Fit],
    judge: _Judge,
    space: Mapping[str, SearchRange],
    place: _Place,
    *,
    seed: int,
    n_trials: int,
    on_trial: OnTrial | None,
) -> list[_Trial]:
    """Ask up to `IN_FLIGHT` trials ahead, tell them in the order they were asked."""
    study, ranges = _study(seed), _distributions(space)
    pending: deque[tuple[optuna.Trial, list[Fit]]] = deque()
    log: list[_Trial] = []
    for asked in range(n_trials + IN_FLIGHT):
        if asked < n_trials:
            trial = study.ask(ranges)
            pending.append((trial, [fit(trial.params, fold) for fold in range(len(judge.buys))]))
        if asked < IN_FLIGHT - 1 or not pending:
            continue
        trial, fits = pending.popleft()
        held_out = place.results(fits)
        kept = float(np.mean([fold.rounds for fold in held_out]))
        done = _Trial(dict(trial.params), judge.scores(held_out), kept)
        study.tell(trial, done.score)
        log.append(done)
        if on_trial is not None:
            on_trial(len(log), n_trials, max(each.score for each in log))
    return log


@contextmanager
def _fits(data: FoldData, workers: int, on_round: Callable[[], None]) -> Iterator[Callable[[Params, int], Fit]]:
    """A way to start a fit and to wait for it: in this process when `workers` is 1, else in spawned ones.

    `on_round` is called here while rounds are boosted, for spawned processes now and then.
    """
    if workers == 1:
        fitter = FoldFitter(data, on_round)
        yield lambda candidate, fold: partial(fitter.fit, candidate, fold)
        return
    spawn = get_context("spawn")
    rounds = spawn.RawValue(c_uint64, 0)
    pool = ProcessPoolExecutor(workers, mp_context=spawn, initializer=start_worker, initargs=(data, rounds))
    try:
        for _ in range(workers):  # Start them all now: they load XGBoost while this process loads Optuna.
            pool.submit(worker_ready)
        yield lambda candidate, fold: partial(_wait_for, pool.submit(fit_in_worker, candidate, fold), rounds, on_round)
    finally:
        pool.shutdown(cancel_futures=True)


def _wait_for(fit: Future[HeldOut], rounds: Rounds, on_round: Callable[[], None]) -> HeldOut:
    """The result of a fit in a worker; `on_round` is called each time the workers have moved meanwhile."""
    seen = rounds.value
    while not wait((fit,), LOOK_SECONDS).done:
        if rounds.value != seen:
            seen = rounds.value
            on_round()
    return fit.result()


def _study(seed: int) -> "optuna.Study":
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    # The liar keeps trials in flight apart; both are defaults of Optuna 5 and are named for the sake of
    # older ones.
    sampler = optuna.samplers.TPESampler(
        seed=seed, n_startup_trials=STARTUP_TRIALS, multivariate=True, constant_liar=True
    )
    return optuna.create_study(direction="maximize", sampler=sampler)


def _distributions(
    space: Mapping[str, SearchRange],
) -> "dict[str, optuna.distributions.BaseDistribution]":
    from optuna.distributions import FloatDistribution, IntDistribution

    return {
        name: IntDistribution(int(r.low), int(r.high), log=r.log)
        if r.integer
        else FloatDistribution(r.low, r.high, log=r.log)
        for name, r in space.items()
    }


def _table(log: list[_Trial]) -> pd.DataFrame:
    rows = [
        {
            "score": trial.score,
            **{f"score_fold_{fold}": score for fold, score in enumerate(trial.fold_scores)},
            "rounds": trial.rounds,
            **trial.params,
        }
        for trial in log
    ]
    return pd.DataFrame(rows, index=pd.RangeIndex(len(rows), name="trial"))


def _held_out_buys(hard_y: Labels, data: FoldData) -> list[npt.NDArray[np.bool_]]:
    buy = hard_y.to_numpy() == BUY
    for number, (train, held_out) in enumerate(data.folds):
        if not buy[train].any() or not buy[held_out].any():
            raise TuningError(
                f"Fold {number} of {len(data.folds)} has {int(buy[train].sum())} BUY rows of {train.size} to "
                f"train on and {int(buy[held_out].sum())} of {held_out.size} held out; expected some in "
                "both. Use fewer folds or a longer training slice."
            )
    return [buy[held_out] for _, held_out in data.folds]


def _check_request(
    n_trials: int,
    n_folds: int,
    workers: int,
    objective: str,
    space: Mapping[str, SearchRange],
    fixed: Mapping[str, Any],
) -> None:
    for name, value, least in (("n_trials", n_trials, 1), ("n_folds", n_folds, 2), ("workers", workers, 1)):
        if value < least:
            raise TuningError(f"{name} is {value}; expected at least {least}.")
    if objective not in ("precision_recall_auc", "f1_binary"):
        raise TuningError(f"Objective {objective!r} is unknown; expected precision_recall_auc or f1_binary.")
    check_names(space, TUNABLE)
    check_names(fixed, HYPERPARAMETERS)
    both = sorted(set(space) & set(fixed))
    if both:
        raise TuningError(f"{both[0]!r} is both searched and fixed; take it out of one of the two.")
