"""Fits the cost model of `operations/estimates.py` to `measured_runs.csv` and says how far off it is on held-out runs.

Weighted least squares without negative coefficients: residuals are relative, so that a run of seconds counts as much as
one of minutes. What is held out is estimated by coefficients that were fitted without it (ten-fold, fixed seed).

Run from the repository's root: `python -m benchmarks.fit_estimates`. Prints the coefficients as they stand in the code.
"""

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import numpy as np
import pandas as pd

from cvntrade_assets.operations import estimates
from cvntrade_assets.operations.estimates import (
    RunSize,
    built_rounds,
    chain_seconds,
    cost,
    kept_terms,
    memory_terms,
    serial_terms,
    tuning_terms,
)
from cvntrade_assets.settings import Settings, resolve

FILE = Path(__file__).with_name("measured_runs.csv")
FOLDS = 10
SEED = 7
DIGITS = 4
REWEIGHTINGS = 20
# A residual smaller than this weighs no more than one of this size.
LEAST_ERROR = 0.05

Coefficients = dict[str, dict[str, float]]


@dataclass(frozen=True)
class Measured:
    """One measured run: what a preflight would have known of it, and what it took."""

    size: RunSize
    settings: Settings
    serial: float
    tuning: float
    memory: float
    seconds: float
    kept: float


@dataclass(frozen=True)
class Errors:
    """Relative errors on held-out runs, one a run."""

    memory: np.ndarray
    minutes: np.ndarray


def read_runs(file: Path = FILE) -> list[Measured]:
    """The measured runs."""
    with file.open(newline="") as opened:
        return [_read(row) for row in csv.DictReader(opened)]


def _read(row: Mapping[str, str]) -> Measured:
    run = {"CVN_MARKET": "simulated"} | dict(pair.split("=", 1) for pair in row["settings"].split())
    settings = resolve(base_env={}, run=run, now=pd.Timestamp("2025-09-01", tz="UTC"))
    offered = int(row["offered_features"])
    # What is known before anything is trained: selection may find fewer.
    model = min(settings.whole("CVN_MAX_FEATURES"), offered)
    size = RunSize(int(row["candles"]), int(row["train_rows"]), offered, model)
    serial, main, workers = (float(row[f"{name}_seconds"]) for name in ("serial", "tuning", "worker"))
    # Alone on a machine with a core for every worker: what was measured beside others waited for them too.
    seconds = serial + main + workers / settings.whole("CVN_TUNING_WORKERS")
    return Measured(size, settings, serial, main + workers, float(row["peak_gib"]), seconds, float(row["mean_rounds"]))


def fit(runs: Sequence[Measured]) -> Coefficients:
    """The coefficients of each model, rounded as they stand in the code.

    What a tree costs is fitted with the rounds that were measured; how many there will be is a model of its own.
    """
    rounds = [built_rounds(run.kept, run.settings) for run in runs]
    known = list(zip(runs, rounds, strict=True))
    return {
        "SERIAL_SECONDS": _solve(
            [serial_terms(run.size, run.settings, built) for run, built in known], [run.serial for run in runs]
        ),
        "TUNING_SECONDS": _solve(
            [tuning_terms(run.size, run.settings, built) for run, built in known], [run.tuning for run in runs]
        ),
        "MEMORY_GIB": _solve([memory_terms(run.size, run.settings) for run in runs], [run.memory for run in runs]),
        "KEPT_ROUNDS": _solve_kept(runs),
    }


def _solve(terms: Sequence[Mapping[str, float]], measured: Sequence[float]) -> dict[str, float]:
    """Coefficients, none negative, of least mean relative error: least squares, reweighted."""
    from scipy.optimize import nnls

    table = pd.DataFrame(terms)
    relative = table.to_numpy() / np.array(measured)[:, np.newaxis]
    weights = np.ones(len(measured))
    for _ in range(REWEIGHTINGS):
        found, _ = nnls(relative * weights[:, np.newaxis], weights)
        weights = 1 / np.sqrt(np.maximum(np.abs(relative @ found - 1), LEAST_ERROR))
    return _rounded(table.columns, found)


def _solve_kept(runs: Sequence[Measured]) -> dict[str, float]:
    """Coefficients of the logarithm of the kept rounds; a fit that was cut short says only that it kept no fewer."""
    from scipy.optimize import least_squares

    table = pd.DataFrame([kept_terms(run.size, run.settings) for run in runs])
    most = np.log([built_rounds(np.inf, run.settings) for run in runs])
    kept = np.log([max(run.kept, 1.0) for run in runs])
    low = np.where(table.columns == "one", -np.inf, 0.0)

    def residuals(guess: np.ndarray) -> np.ndarray:
        return np.minimum(table.to_numpy() @ guess, most) - kept

    start = np.where(table.columns == "one", 1.0, 0.5)
    return _rounded(table.columns, least_squares(residuals, start, bounds=(low, np.inf)).x)


def _rounded(names: Iterable[str], values: Iterable[float]) -> dict[str, float]:
    return {name: float(f"{value:.{DIGITS}g}") for name, value in zip(names, values, strict=True)}


def held_out_errors(runs: Sequence[Measured]) -> Errors:
    """Every run estimated by a model that has not seen it."""
    part = np.random.default_rng(SEED).permutation(len(runs)) % FOLDS
    memory, minutes = np.zeros(len(runs)), np.zeros(len(runs))
    for fold in range(FOLDS):
        coefficients = fit([run for run, of in zip(runs, part, strict=True) if of != fold])
        with mock.patch.multiple(estimates, **coefficients):
            for number in np.flatnonzero(part == fold):
                run = runs[number]
                guessed = cost(memory_terms(run.size, run.settings), coefficients["MEMORY_GIB"])
                memory[number] = abs(guessed / run.memory - 1)
                minutes[number] = abs(chain_seconds(run.size, run.settings) / run.seconds - 1)
    return Errors(memory, minutes)


def main() -> None:
    """Print coefficients and errors."""
    runs = read_runs()
    for name, values in fit(runs).items():
        print(f"{name}: Terms = {{")
        print("".join(f'    "{term}": {value!r},\n' for term, value in values.items()) + "}")
    errors = held_out_errors(runs)
    long = np.array([run.seconds > 30 for run in runs])
    for name, found in (("memory", errors.memory), ("minutes", errors.minutes)):
        print(
            f"{name}: relative error on held-out runs: median {np.median(found):.1%}, "
            f"90 % of runs below {np.quantile(found, 0.9):.1%}, worst {found.max():.1%}; "
            f"median of the {long.sum()} runs above 30 s {np.median(found[long]):.1%}"
        )


if __name__ == "__main__":
    main()
