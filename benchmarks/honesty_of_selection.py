"""Do the statistics that guard against luck see through it, and how long do they take?

Prints, over the seeds 0, 1, 2 …, none of them chosen: how often the best of many worthless points passes for a good
one, by its plain and by its deflated Sharpe ratio; the probability of backtest overfitting of noise and of one good
point among noise; how often intervals of the stationary bootstrap hold the truth; and what the largest grid takes.

Run from the repository's root: `python -m benchmarks.honesty_of_selection [seeds]`.
"""

import sys
import time
from collections.abc import Callable

import numpy as np
import pandas as pd
from scipy.signal import lfilter

from cvntrade_assets.trading.overfitting import overfitting_probability
from cvntrade_assets.trading.resampling import UNDEFINED, stationary_bootstrap_intervals
from cvntrade_assets.trading.selection_bias import deflated_sharpe, probabilistic_sharpe, sharpe_ratio

POINTS = 450
DAYS = (60, 90)
DEVIATION = 0.01
GOOD = 0.5
"""Daily Sharpe ratio of the good point: 9.6 a year, as a good point of a short slice must have among 450."""
REPETITIONS = 5


def main() -> None:
    """Print every figure."""
    seeds = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    times()
    best_of_noise(seeds)
    overfitting(seeds)
    coverage(10 * seeds)


def times() -> None:
    """Cross-validation of the largest grid."""
    for days in DAYS:
        matrix = noise(days, POINTS, 0)
        found = overfitting_probability(matrix)
        best = min(seconds(lambda matrix=matrix: overfitting_probability(matrix)) for _ in range(REPETITIONS))
        print(
            f"CSCV of {POINTS} points, {days} days, {found.n_blocks} blocks, {found.n_combinations:,} combinations: "
            f"{best:.2f} s, best of {REPETITIONS}",
            flush=True,
        )


def best_of_noise(seeds: int) -> None:
    """How often the best of worthless points, and one good point among them, reach 95 %."""
    print(f"\nreaches 95 %, {POINTS} points, {seeds} seeds:   best of noise   one good point")
    for days in DAYS:
        counts = np.zeros((2, 2))
        for seed in range(seeds):
            for column, skill in enumerate((0.0, GOOD)):
                matrix = noise(days, POINTS, seed, skill).to_numpy()
                sharpes = [sharpe_ratio(values) for values in matrix.T]
                chosen = matrix[:, int(np.argmax(np.array(sharpes, dtype=float)))]
                plain, deflated = probabilistic_sharpe(chosen), deflated_sharpe(chosen, sharpes, POINTS)
                counts[:, column] += [(plain or 0.0) >= 0.95, (deflated or 0.0) >= 0.95]
        for name, row in zip(("probabilistic", "deflated"), counts / seeds, strict=True):
            print(f"  {days} days, {name:<14} {row[0]:>22.0%} {row[1]:>16.0%}", flush=True)


def overfitting(seeds: int) -> None:
    """The probability of backtest overfitting, mean and standard error over seeds."""
    print(f"\nprobability of backtest overfitting, {POINTS} points, {seeds} seeds")
    for days in DAYS:
        for name, skill in (("noise", 0.0), ("one good point", GOOD)):
            found = np.array([overfitting_probability(noise(days, POINTS, seed, skill)).pbo for seed in range(seeds)])
            print(
                f"  {days} days, {name:<15} {found.mean():.3f} ± {found.std(ddof=1) / np.sqrt(seeds):.3f}", flush=True
            )


def coverage(seeds: int) -> None:
    """How often intervals of level 0.9 hold the truth, on dependent series."""
    print(f"\nstationary bootstrap at level 0.9, {seeds} series: holds the true mean, the true Sharpe ratio")
    for days in (60, 180, 720):
        for memory, mean_block in ((0.0, 1.0), (0.3, 5.0), (0.5, 10.0), (0.5, 1.0)):
            held = np.zeros(2)
            for seed in range(seeds):
                held += holds(days, memory, mean_block, seed)
            share = held / seeds
            print(
                f"  {days} values, autocorrelation {memory:g}, mean block {mean_block:g}: "
                f"{share[0]:.0%}, {share[1]:.0%}",
                flush=True,
            )


def holds(days: int, memory: float, mean_block: float, seed: int) -> tuple[bool, bool]:
    """Whether the intervals of one series hold the mean and the Sharpe ratio that it was made with."""
    shocks = np.random.default_rng(seed).normal(size=days + 200)
    spread = 1.0 / np.sqrt(1.0 - memory**2)
    values = lfilter([1.0], [1.0, -memory], shocks)[200:] + 0.1 * spread
    found = stationary_bootstrap_intervals(values, mean_and_sharpe, mean_block=mean_block, seed=seed, n_boot=300)
    truth = {"mean": 0.1 * spread, "sharpe": 0.1}
    ends = {name: (np.nan, np.nan) if pair == UNDEFINED else pair for name, pair in found.items()}
    mean, sharpe = (ends[name][0] <= truth[name] <= ends[name][1] for name in ("mean", "sharpe"))
    return bool(mean), bool(sharpe)


def mean_and_sharpe(values: np.ndarray) -> dict[str, float | None]:
    """What the coverage is measured of."""
    return {"mean": float(values.mean()), "sharpe": float(values.mean() / values.std(ddof=1))}


def noise(days: int, points: int, seed: int, skill: float = 0.0) -> pd.DataFrame:
    """Daily returns of points that are worth nothing, but for the first when it is given a daily Sharpe ratio."""
    values = np.random.default_rng(seed).normal(0.0, DEVIATION, (days, points))
    values[:, 0] += skill * DEVIATION
    return pd.DataFrame(values)


def seconds(run: Callable[[], object]) -> float:
    """Wall-clock seconds of one run."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
