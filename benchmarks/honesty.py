"""Is there nothing where nothing is? The whole pure chain on many simulated markets, without and with a signal.

Prints means with standard errors over the seeds 0, 1, 2 …, none of them chosen. PR-AUC is shown above the buy rate,
as everybody quotes it, and above chance: what the same scores get when shifted in time away from their labels. Average
precision is biased upwards on few dependent rows, and only the second difference is free of that.

Run from the repository's root: `python -m benchmarks.honesty [seeds]`.
"""

import sys

import numpy as np
import pandas as pd

from benchmarks.script import run_script
from cvntrade_assets.learning.report import TestReport
from cvntrade_assets.settings import resolve

SIGNALS = ("0", "0.3", "1")
SLICES = {"TRAIN": "0.56", "VALIDATION": "0.07", "CALIBRATION": "0.07", "TEST": "0.3"}
RUN = {
    "CVN_MARKET": "simulated",
    "CVN_AS_OF": "2025-09-01",
    "CVN_DEFAULT_N_TRIALS": "1",
    "CVN_TUNING_WORKERS": "1",
    **{f"CVN_SLICE_{name}": share for name, share in SLICES.items()},
}


def main() -> None:
    """Print a line per signal."""
    seeds = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    print(f"{'signal':>6} {'seeds':>5}   {'f1 - always-BUY':>18} {'PR-AUC - buy rate':>20} {'PR-AUC - chance':>18}")
    for signal in SIGNALS:
        reports = [report(signal, seed) for seed in range(seeds)]
        columns = (
            [report.f1_buy_delta for report in reports],
            [report.pr_auc_lift for report in reports],
            [report.pr_auc - report.pr_auc_chance for report in reports],
        )
        print(f"{signal:>6} {seeds:>5}   " + "   ".join(_mean(values) for values in columns), flush=True)


def report(signal: str, seed: int) -> TestReport:
    """The test report of one simulated market, by the plain chain."""
    run = RUN | {"CVN_SIMULATED_SIGNAL": signal, "CVN_SIMULATED_SEED": str(seed)}
    return run_script("BTCUSDC", resolve(base_env={}, run=run, now=pd.Timestamp.now("UTC")))


def _mean(values: list[float]) -> str:
    return f"{np.mean(values):+.4f} ± {np.std(values, ddof=1) / np.sqrt(len(values)):.4f}"


if __name__ == "__main__":
    main()
