"""Fits of one candidate on one purged fold: what tuning's worker processes run.

Kept apart from the search so that a worker loads numpy and XGBoost and nothing else.
"""

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from cvntrade_assets.learning.boosting import DEFAULT_MAX_BIN, Floats, Loss, Params, boost, predict_buy

if TYPE_CHECKING:
    import xgboost as xgb

Positions = npt.NDArray[np.intp]


@dataclass(frozen=True)
class FoldData:
    """Everything the fits of one search share, sent to each worker once.

    Attributes:
        features: shape (rows, columns).
        targets: labels to train on, smoothed or not, or class numbers; shape (rows,).
        class_shares: class probabilities to train on, shape (rows, 3), or None.
        hard: labels or class numbers to stop on, never smoothed; shape (rows,).
        weights: shape (rows,).
        folds: row positions (train, held out) of each fold.
        loss: what every fit minimises.
        fixed_params: hyperparameters that the search leaves alone.
        rounds: most trees.
        early_stopping_rounds: patience.
        seed: of every fit.
    """

    features: npt.NDArray[np.float32]
    targets: npt.NDArray[np.float32]
    class_shares: Floats | None
    hard: npt.NDArray[np.float32]
    weights: Floats
    folds: tuple[tuple[Positions, Positions], ...]
    loss: Loss
    fixed_params: Params
    rounds: int
    early_stopping_rounds: int
    seed: int


@dataclass(frozen=True)
class HeldOut:
    """Probabilities of BUY on a fold's held-out rows, in their order, and the number of rounds kept."""

    scores: Floats
    rounds: int


class Rounds(Protocol):
    """A number in memory that a search shares with its workers: it moves while any of them boosts."""

    value: int


class FoldFitter:
    """Fits candidates; builds each fold's matrices once, since binning costs as much as several trees.

    Args:
        data: what every fit shares.
        on_round: called after each round of every fit.
    """

    def __init__(self, data: FoldData, on_round: Callable[[], None]) -> None:
        self._data = data
        self._on_round = on_round
        self._matrices: dict[int, tuple[xgb.DMatrix, xgb.DMatrix]] = {}

    def fit(self, candidate: Params, fold: int) -> HeldOut:
        """Train `candidate` on a fold's training rows, stop and predict on its held-out rows."""
        data = self._data
        if fold not in self._matrices:
            self._matrices[fold] = self._build(fold)
        train, held_out = self._matrices[fold]
        shares = data.class_shares
        fitted = boost(
            train,
            held_out,
            loss=data.loss,
            params={**data.fixed_params, **candidate},
            rounds=data.rounds,
            early_stopping_rounds=data.early_stopping_rounds,
            seed=data.seed,
            class_shares=None if shares is None else shares[data.folds[fold][0]],
            on_round=lambda index, value: self._on_round(),  # noqa: ARG005
        )
        scores = predict_buy(fitted.booster, held_out, data.loss.objective)
        return HeldOut(scores, fitted.best_iteration + 1)

    def _build(self, fold: int) -> "tuple[xgb.DMatrix, xgb.DMatrix]":
        import xgboost as xgb

        data = self._data
        train, held_out = data.folds[fold]
        bins = int(data.fixed_params.get("max_bin", DEFAULT_MAX_BIN))
        common: dict[str, Any] = {"max_bin": bins, "nthread": 1}
        dtrain = xgb.QuantileDMatrix(data.features[train], data.targets[train], weight=data.weights[train], **common)
        dvalid = xgb.QuantileDMatrix(data.features[held_out], data.hard[held_out], ref=dtrain, **common)
        return dtrain, dvalid


_FITTER: dict[str, FoldFitter] = {}
"""This worker's fitter, under one key: a worker serves one search."""


def start_worker(data: FoldData, rounds: Rounds) -> None:
    """Initialise a worker process: receive the data, load XGBoost, and end when the parent does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _end_with_parent()
    # XGBoost imports scikit-learn when it finds it, for wrappers that are not used here: half a worker's
    # start.
    sys.modules.setdefault("sklearn", None)  # type: ignore[arg-type]
    import xgboost  # noqa: F401

    def count() -> None:
        # Without a lock: an increment that is lost to another worker's does no harm, the number has moved.
        rounds.value += 1

    _FITTER["fitter"] = FoldFitter(data, count)


def fit_in_worker(candidate: Params, fold: int) -> HeldOut:
    """`FoldFitter.fit` with the worker's data."""
    return _FITTER["fitter"].fit(candidate, fold)


def worker_ready() -> int:
    """This worker's process id; asking for it starts the worker."""
    return os.getpid()


def _end_with_parent() -> None:
    """A worker whose parent was killed would wait for work for ever: it holds both ends of its queue."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, name="end-with-parent", daemon=True).start()
