"""What the whole of discovery takes for one crypto: 450 points, 50 trials, 5 folds; and where the time goes.

Prints the seconds of each stage, and with --profile the functions that the time was spent in (one process then, so that
the profiler sees the tuning too; the seconds are larger).

Run from the repository's root: `python -m benchmarks.discovery [--profile] [KEY=VALUE …]`.
"""

import cProfile
import pstats
import sys

import pandas as pd

from benchmarks.discovery_script import discover, simulated_candles
from cvntrade_assets.operations.diagnosis import diagnose
from cvntrade_assets.operations.verdict_text import one_sentence
from cvntrade_assets.settings import resolve

CRYPTO = "BTCUSDC"
RUN = {
    "CVN_MARKET": "simulated",
    "CVN_AS_OF": "2025-09-01",
    "sl_range": "0.8,1.0,1.2,1.4,1.5",
    "tp_range": ",".join(f"{1.5 + 0.1 * step:.1f}" for step in range(15)),
    "hpo_trials": "50",
    "n_folds": "5",
}
SHOWN = 12


def main() -> None:
    """Run once and print."""
    profiled = "--profile" in sys.argv
    chosen = dict(text.split("=", 1) for text in sys.argv[1:] if "=" in text)
    run = RUN | ({"CVN_TUNING_WORKERS": "1"} if profiled else {}) | chosen
    settings = resolve(base_env={}, run=run, now=pd.Timestamp.now("UTC"))
    coarse, fine = simulated_candles(CRYPTO, settings)
    profile = cProfile.Profile()
    if profiled:
        profile.enable()
    result = discover(CRYPTO, settings, coarse, fine, say=lambda _: None)
    profile.disable()
    print(one_sentence(result.leading, diagnose(result.leading)))
    total = sum(result.seconds.values())
    print(
        f"{len(settings.grid)} points, {settings.whole('CVN_DEFAULT_N_TRIALS')} trials, "
        f"{settings.whole('CVN_DEFAULT_N_FOLDS')} folds, {len(result.records)} candidates: {total:.1f} s"
    )
    for name, seconds in result.seconds.items():
        print(f"  {name:<14} {seconds:7.1f} s  {seconds / total:4.0%}")
    if profiled:
        pstats.Stats(profile).sort_stats("tottime").print_stats(SHOWN)


if __name__ == "__main__":
    main()
