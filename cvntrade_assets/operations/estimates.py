"""What a run will cost in memory and minutes, from its size and settings: a model fitted to measured runs.

Costs are sums of terms that can only grow with rows, features, trials, folds and rounds, each with a coefficient that
is not negative. `benchmarks/fit_estimates.py` fits them to `benchmarks/measured_runs.csv` and says how far off they
are on runs that were held out. Plain arithmetic, so that a preflight costs nothing.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from cvntrade_assets.hyperparameters import HYPERPARAMETERS
from cvntrade_assets.settings import Settings

Terms = Mapping[str, float]

# Coefficients: what one unit of each term costs. Fitted; a test holds them against the measured runs.
SERIAL_SECONDS: Terms = {
    "start": 4.399,
    "candles": 0.07343,
    "selection": 0.2414,
    "cleanlab": 0.4362,
    "judging": 0.02405,
    "focal": 0.006227,
    "model": 0.209,
}
TUNING_SECONDS: Terms = {
    "workers": 0.6537,
    "fits": 0.007644,
    "trees": 0.0605,
    "rows": 1.181,
    "cells": 4.411,
    "columns": 1.853,
    "focal": 0.9823,
    "soft": 7.682,
}
MEMORY_GIB: Terms = {
    "start": 0.413,
    "candles": 0.3095,
    "training_set": 2.045,
    "workers": 0.08548,
    "matrices": 0.3518,
    "cleanlab": 0.009819,
    "focal": 0.02482,
}
# The logarithm of the rounds that a fit keeps before its patience runs out, term by term.
KEPT_ROUNDS: Terms = {
    "one": 1.153,
    "rows": 0.07277,
    "signal": 0.8767,
    "rate": 1.088,
    "cleanlab": 1.27,
}
# Everything of a run that is not the chain itself: queue, start of the worker, event log, checks, store, MLflow. What
# `benchmarks/chain.py` prints as the difference, and a few seconds in the queue.
OVERHEAD_SECONDS = 13.0
OVERHEAD_GIB = 0.29

_DEFAULTS = {item.name: item.default for item in HYPERPARAMETERS["XGBOOST"]}
# What a search tries in the middle, where nothing is pinned.
_MIDDLE_DEPTH = 4.0
_MIDDLE_LEARNING_RATE = 0.08
_LARGEST_LEARNING_RATE = 0.3
_FEWEST_ROWS = 100.0
# Real markets are about as hard to predict as the simulated one is by default.
_REAL_SIGNAL = 0.3


@dataclass(frozen=True)
class RunSize:
    """How much a run has to learn from.

    Attributes:
        candles: Candles of the learning timeframe.
        train_rows: Rows of the training slice, after CUSUM, purge and embargo.
        offered_features: Features that selection chooses from.
        model_features: Features that reach the model, at most.
    """

    candles: int
    train_rows: int
    offered_features: int
    model_features: int


@dataclass(frozen=True)
class RunEstimate:
    """Peak memory of a run's processes together, in GiB, and minutes from launch to end."""

    memory_gib: float
    minutes: float


def estimate_run(size: RunSize, settings: Settings) -> RunEstimate:
    """What a run of this size will cost under these settings, alone on a machine with a core for every worker."""
    seconds = OVERHEAD_SECONDS + chain_seconds(size, settings)
    memory = OVERHEAD_GIB + cost(memory_terms(size, settings), MEMORY_GIB)
    return RunEstimate(memory, seconds / 60)


def chain_seconds(size: RunSize, settings: Settings) -> float:
    """Seconds of the chain of pure functions alone."""
    workers, rounds = settings.whole("CVN_TUNING_WORKERS"), rounds_per_fit(size, settings)
    # Processes start side by side and share the fits, so that all of it is divided among them.
    tuning = cost(tuning_terms(size, settings, rounds), TUNING_SECONDS) / workers
    return cost(serial_terms(size, settings, rounds), SERIAL_SECONDS) + tuning


def rounds_per_fit(size: RunSize, settings: Settings) -> float:
    """Rounds that a fit is expected to work through: those it keeps, then its patience."""
    kept = math.exp(min(cost(kept_terms(size, settings), KEPT_ROUNDS), 20.0))
    return built_rounds(kept, settings)


def built_rounds(kept: float, settings: Settings) -> float:
    """Rounds of a fit that keeps so many: its patience comes on top, as far as it is allowed."""
    patience, most = _hyperparameter("early_stopping_rounds", settings), _hyperparameter("num_boost_round", settings)
    return min(most, kept + patience)


def cost(terms: Terms, coefficients: Terms) -> float:
    """The sum of terms, each with its coefficient."""
    return sum(terms[name] * each for name, each in coefficients.items())


def serial_terms(size: RunSize, settings: Settings, rounds: float) -> dict[str, float]:
    """What the main process does outside tuning: import, candles, features, labels, selection, model, report."""
    folds = settings.whole("CVN_TUNING_FOLDS")
    judged = settings.text("CVN_CLEANLAB") != "off"
    return {
        "start": 1.0,
        "candles": size.candles / 1e4,
        "selection": size.train_rows * folds * size.offered_features / 1e6,
        "cleanlab": float(judged),
        "judging": judged * size.train_rows * folds * size.model_features / 1e6,
        "focal": float(settings.flag("CVN_FOCAL_LOSS")),
        "model": _trees(rounds, settings) * size.train_rows * size.model_features / 1e8,
    }


def tuning_terms(size: RunSize, settings: Settings, rounds: float) -> dict[str, float]:
    """What tuning costs all its processes together, when a fit works through so many rounds."""
    trials, folds = settings.whole("CVN_DEFAULT_N_TRIALS"), settings.whole("CVN_TUNING_FOLDS")
    workers = settings.whole("CVN_TUNING_WORKERS")
    fits = trials * folds
    trees, rows = fits * _trees(rounds, settings), size.train_rows * (folds - 1) / folds
    depth = float(settings.pinned().get("max_depth", _MIDDLE_DEPTH))
    return {
        "workers": float(workers if workers > 1 else 0),
        "fits": float(fits),
        "trees": trees / 1e3,
        "rows": trees * rows * depth / 1e8,
        "cells": trees * rows * size.model_features * depth / 1e10,
        "columns": trees * size.model_features / 1e6,
        "focal": settings.flag("CVN_FOCAL_LOSS") * trees / 1e3,
        "soft": _is_soft(settings) * trees * rows / 1e8,
    }


def kept_terms(size: RunSize, settings: Settings) -> dict[str, float]:
    """What decides how many rounds a fit keeps: there is more to learn from more rows, in smaller steps."""
    is_simulated = settings.text("CVN_MARKET") == "simulated"
    signal = settings.number("CVN_SIMULATED_SIGNAL") if is_simulated else _REAL_SIGNAL
    rate = float(settings.pinned().get("learning_rate", _MIDDLE_LEARNING_RATE))
    return {
        "one": 1.0,
        "rows": math.log(max(size.train_rows, _FEWEST_ROWS) / _FEWEST_ROWS),
        "signal": signal,
        "rate": math.log(_LARGEST_LEARNING_RATE / rate),
        "cleanlab": float(settings.text("CVN_CLEANLAB") != "off"),
    }


def memory_terms(size: RunSize, settings: Settings) -> dict[str, float]:
    """What resides in all processes together at the peak."""
    workers = settings.whole("CVN_TUNING_WORKERS")
    spawned = workers if workers > 1 else 0
    focal = float(settings.flag("CVN_FOCAL_LOSS"))
    return {
        "start": 1.0,
        "candles": size.candles * size.offered_features / 1e8,
        "training_set": size.train_rows * size.offered_features / 1e8,
        "workers": float(spawned),
        "matrices": (1 + spawned) * size.train_rows * size.model_features * settings.whole("CVN_TUNING_FOLDS") / 1e8,
        "cleanlab": float(settings.text("CVN_CLEANLAB") != "off"),
        "focal": focal * (1 + spawned),
    }


def _trees(rounds: float, settings: Settings) -> float:
    """Three classes need three trees a round."""
    return rounds * (1 if settings.flag("CVN_BINARY_CLASSIFICATION") else 3)


def _hyperparameter(name: str, settings: Settings) -> float:
    return float(settings.pinned().get(name, _DEFAULTS[name]))


def _is_soft(settings: Settings) -> bool:
    """Whether three classes are smoothed, whose gradients are computed here and not inside XGBoost."""
    return settings.text("CVN_LABEL_SMOOTHING") != "none" and not settings.flag("CVN_BINARY_CLASSIFICATION")
