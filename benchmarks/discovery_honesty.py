"""Does discovery find what is there, and nothing where nothing is? Many simulated markets, without and with a signal.

Per seed the whole of discovery: screening, walk-forward test, rolling backtest, gates, diagnosis. The seeds are 0, 1, 2
…, none of them chosen. Without a signal the verdict must be NO_CANDIDATES or ML_USELESS in 19 of 20 and no challenger
may stand; with a strong one 16 of 20 must end with a challenger.

Run from the repository's root: `python -m benchmarks.discovery_honesty [seeds] [KEY=VALUE …]`.
"""

import sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context

import pandas as pd

from benchmarks.discovery_script import discover, simulated_candles
from cvntrade_assets.operations.diagnosis import diagnose
from cvntrade_assets.settings import resolve

SIGNALS = ("0", "1")
RUN = {
    "CVN_MARKET": "simulated",
    "CVN_AS_OF": "2025-09-01",
    "CVN_TUNING_WORKERS": "1",
    "hpo_trials": "5",
    "horizons": "H2,H4,H6",
    "sl_range": "1.0,1.5",
    "tp_range": "2.0,3.0",
}


def main() -> None:
    """Print a line per market, and a summary per signal."""
    given = sys.argv[1:]
    seeds = int(given.pop(0)) if given and given[0].isdigit() else 20
    chosen = dict(pair.split("=", 1) for pair in given)
    with ProcessPoolExecutor(2, get_context("spawn")) as pool:
        for signal in SIGNALS:
            verdicts: Counter[str] = Counter()
            for seed, (code, told) in enumerate(pool.map(partial(verdict, signal, chosen), range(seeds))):
                print(f"signal {signal} seed {seed:>2}: {told}", flush=True)
                verdicts[code] += 1
            counted = ", ".join(f"{code} {count}" for code, count in verdicts.most_common())
            print(f"signal {signal}, {seeds} seeds: {counted}", flush=True)


def verdict(signal: str, chosen: dict[str, str], seed: int) -> tuple[str, str]:
    """The primary code, or CHALLENGER, of one simulated market; and what stands behind it."""
    run = RUN | {"CVN_SIMULATED_SIGNAL": signal, "CVN_SIMULATED_SEED": str(seed)} | chosen
    settings = resolve(base_env={}, run=run, now=pd.Timestamp.now("UTC"))
    result = discover("BTCUSDC", settings, *simulated_candles("BTCUSDC", settings), say=lambda _: None)
    leading = result.leading
    code = "CHALLENGER" if result.found else str(diagnose(leading).primary.code)
    measured = ", ".join(
        f"{gate.name} {'undefined' if gate.value is None else f'{gate.value:.3g}'}{'' if gate.passed else ' (refused)'}"
        for gate in leading.gates
    )
    return code, f"{code} {leading.pte} f1 {leading.f1_buy:.3f} beside {leading.baseline_f1_buy:.3f}; {measured}"


if __name__ == "__main__":
    main()
