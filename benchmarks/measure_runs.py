"""What a run costs, measured: the chain of pure functions in a fresh process per configuration.

Processor seconds rather than wall seconds, so that what else the machine does matters less; memory is the largest sum
of resident bytes over the process and its tuning workers. All on the simulated market.

Run from the repository's root: `python -m benchmarks.measure_runs [how many]`. Each run becomes a row of
`benchmarks/measured_runs.csv`; runs that are in it already are not measured again, so that it can be interrupted.
`python -m benchmarks.fit_estimates` fits the cost model of `operations/estimates.py` to the rows.
"""

import csv
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("measured_runs.csv")
COLUMNS = (
    "crypto",
    "settings",
    "candles",
    "train_rows",
    "offered_features",
    "model_features",
    "serial_seconds",
    "tuning_seconds",
    "worker_seconds",
    "tuning_wall_seconds",
    "wall_seconds",
    "peak_gib",
    "mean_rounds",
)
RUNS = 52
SEED = 20
LONGEST_SECONDS = 1200.0
POLL_SECONDS = 0.02
PAGE = os.sysconf("SC_PAGE_SIZE")
AS_OF = "2025-09-01"
FIXED = {"CVN_MARKET": "simulated", "CVN_AS_OF": AS_OF}
CRYPTOS = ("BTCUSDC", "ETHUSDC", "SOLUSDC")
# What the guardrails are there for: many rows, each in another company.
LARGE = (
    ("BTCUSDC", "CVN_CUSUM_TRAINING_ENABLED=0"),
    ("BTCUSDC", "CVN_CUSUM_TRAINING_ENABLED=0 CVN_DEFAULT_HISTORY_MONTHS=60 CVN_DEFAULT_N_TRIALS=10"),
    ("ETHUSDC", "CVN_CUSUM_FILTER_MODE=stable CVN_MAX_FEATURES=177 CVN_TUNING_FOLDS=5 CVN_DEFAULT_N_TRIALS=15"),
    ("ETHUSDC", "CVN_CUSUM_THRESHOLD_H=1.0 CVN_DEFAULT_N_TRIALS=30 CVN_HPO_XGBOOST_30M_LEARNING_RATE=0.02"),
    ("SOLUSDC", "CVN_CUSUM_TRAINING_ENABLED=0 CVN_DEFAULT_N_TRIALS=10 CVN_MAX_FEATURES=100 "
     "CVN_BINARY_CLASSIFICATION=0 CVN_THRESHOLD_METHOD=expected_value"),
    ("BTCUSDC", "CVN_CUSUM_TRAINING_ENABLED=0 CVN_FOCAL_LOSS=1 CVN_MAX_FEATURES=40 CVN_DEFAULT_N_TRIALS=15"),
    ("ETHUSDC", "CVN_CUSUM_THRESHOLD_H=0.5 CVN_DEFAULT_HISTORY_MONTHS=36 CVN_MAX_FEATURES=140 CVN_CLEANLAB=filter "
     "CVN_DEFAULT_N_TRIALS=20 CVN_TUNING_FOLDS=4"),
    ("SOLUSDC", "CVN_CUSUM_THRESHOLD_H=0.5 CVN_DEFAULT_HISTORY_MONTHS=60 CVN_MAX_FEATURES=40 CVN_TUNING_WORKERS=1 "
     "CVN_HPO_XGBOOST_30M_EARLY_STOPPING_ROUNDS=40 CVN_DEFAULT_N_TRIALS=20"),
)  # fmt: skip
# Share of the candles that the CUSUM filter keeps, roughly: only used to keep the runs of a session below minutes.
KEPT = {"0.5": 0.48, "1.0": 0.26, "1.5": 0.16, "2.0": 0.11, "3.0": 0.064, "4.0": 0.041, "5.0": 0.03, "off": 1.0}


def main() -> None:
    """Measure what is not in the file yet."""
    if sys.argv[1:2] == ["one"]:
        _one(*sys.argv[2:])
        return
    wanted = int(sys.argv[1]) if len(sys.argv) > 1 else RUNS
    known = _known()
    for crypto, settings in list(_configurations(wanted)):
        text = " ".join(f"{key}={value}" for key, value in sorted(settings.items()))
        if (crypto, text) in known:
            continue
        row = measure(crypto, settings)
        if row is not None:
            _append({"crypto": crypto, "settings": text, **row})


def measure(crypto: str, settings: Mapping[str, str]) -> dict[str, Any] | None:
    """What one run took, or None when it failed or took too long; the reason is printed."""
    pairs = [f"{key}={value}" for key, value in {**FIXED, **settings}.items()]
    command = [sys.executable, "-m", "benchmarks.measure_runs", "one", crypto, *pairs]
    began, peak = time.perf_counter(), 0
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        while process.poll() is None:
            peak = max(peak, sum(_resident(pid) for pid in _tree(process.pid)))
            if time.perf_counter() - began > LONGEST_SECONDS:
                process.kill()
            time.sleep(POLL_SECONDS)
        out, error = process.communicate()
    wall = time.perf_counter() - began
    if process.returncode:
        print(f"{crypto} {settings}: {(error.strip().splitlines() or ['too long'])[-1]}", flush=True)
        return None
    row: dict[str, Any] = json.loads(out.splitlines()[-1])
    row |= {"wall_seconds": round(wall, 3), "peak_gib": round(peak / 2**30, 4)}
    print(f"{crypto} {settings}: {row}", flush=True)
    return row


def _one(crypto: str, *pairs: str) -> None:
    """Run the chain once in this process and print what it took as JSON."""
    import pandas as pd

    import cvntrade_assets.definitions  # noqa: F401  (what a run worker has loaded before it begins)
    from benchmarks.script import run_script
    from cvntrade_assets.learning import features, selection, tuning
    from cvntrade_assets.settings import resolve

    seen: dict[str, Any] = {}
    compute, select, tune = features.compute_features, selection.select_features, tuning.tune

    def computed(candles: Any, *arguments: Any) -> Any:
        seen["candles"] = len(candles)
        return compute(candles, *arguments)

    def selected(training: Any, *arguments: Any) -> Any:
        result = select(training, *arguments)
        seen["train_rows"], seen["offered_features"] = training.features.shape
        seen["model_features"] = len(result.names)
        return result

    def tuned(*arguments: Any, **named: Any) -> Any:
        before, began = os.times(), time.perf_counter()
        result = tune(*arguments, **named)
        after = os.times()
        seen["tuning_seconds"] = round(after.user + after.system - before.user - before.system, 3)
        seen["worker_seconds"] = round(
            after.children_user + after.children_system - before.children_user - before.children_system, 3
        )
        seen["tuning_wall_seconds"] = round(time.perf_counter() - began, 3)
        seen["mean_rounds"] = round(float(result.trials["rounds"].mean()), 1)
        return result

    features.compute_features, selection.select_features, tuning.tune = computed, selected, tuned
    run = dict(pair.split("=", 1) for pair in pairs)
    run_script(crypto, resolve(base_env={}, run=run, now=pd.Timestamp.now("UTC")))
    spent = os.times()
    seen["serial_seconds"] = round(spent.user + spent.system - seen["tuning_seconds"], 3)
    print(json.dumps(seen))


def _tree(pid: int) -> Iterator[int]:
    """A process and all that descend from it."""
    yield pid
    children = _text(pid, f"task/{pid}/children").split()
    for child in map(int, children):
        # Between fork and exec a child is its parent once more, and shares all its memory.
        if _text(child, "cmdline") != _text(pid, "cmdline"):
            yield from _tree(child)


def _resident(pid: int) -> int:
    """Resident bytes; what processes share counts for each of them."""
    fields = _text(pid, "statm").split()
    return int(fields[1]) * PAGE if fields else 0


def _text(pid: int, name: str) -> str:
    """A file of /proc about a process; empty when it has ended."""
    try:
        return Path(f"/proc/{pid}/{name}").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _configurations(wanted: int) -> Iterator[tuple[str, dict[str, str]]]:
    """The defaults, the two misconfigurations that once cost 21 hours, then a spread drawn with a fixed seed."""
    yield "BTCUSDC", {}
    yield "BTCUSDC", {"CVN_CUSUM_TRAINING_ENABLED": "0", "CVN_DEFAULT_N_TRIALS": "10"}
    yield "BTCUSDC", {"CVN_CUSUM_FILTER_MODE": "stable", "CVN_DEFAULT_N_TRIALS": "10"}
    drawn = random.Random(SEED)
    for number in range(3, wanted):
        yield CRYPTOS[number % 3], _draw(drawn)
    for crypto, text in LARGE:
        yield crypto, dict(pair.split("=") for pair in text.split())


def _draw(drawn: random.Random) -> dict[str, str]:
    months = drawn.choice((4, 6, 9, 12, 18, 24, 24, 36, 60))
    cusum = drawn.choice(("0.5", "1.0", "1.5", "2.0", "3.0", "3.0", "4.0", "5.0", "off"))
    features = drawn.choice((10, 20, 40, 60, 60, 100, 140, 177))
    folds = drawn.choice((2, 3, 3, 4, 5))
    rounds = drawn.choice((50, 100, 400, 400, 400, 1000))
    patience = drawn.choice((15, 15, 15, 40, 200))
    kind = drawn.choice(("binary", "binary", "binary", "focal", "three"))
    rows = 1170 * months * KEPT[cusum]
    kept_rounds = min(rounds, 40 + patience) * (3 if kind == "three" else 1)
    second = folds * kept_rounds * (0.4e-3 + 4e-9 * rows * features)
    most = max(5, min(100, int(150 / second)))
    trials = max(5, min(most, int(5 * 20 ** drawn.random())))
    chosen = {
        "CVN_DEFAULT_HISTORY_MONTHS": str(months),
        "CVN_MAX_FEATURES": str(features),
        "CVN_TUNING_FOLDS": str(folds),
        "CVN_DEFAULT_N_TRIALS": str(trials),
        "CVN_TUNING_WORKERS": drawn.choice(("1", "2", "2")),
        "CVN_HPO_XGBOOST_30M_NUM_BOOST_ROUND": str(rounds),
        "CVN_HPO_XGBOOST_30M_EARLY_STOPPING_ROUNDS": str(patience),
        "CVN_SIMULATED_SIGNAL": drawn.choice(("0", "0.3", "1")),
        "CVN_CLEANLAB": drawn.choice(("off", "off", "filter", "reweight")),
        "CVN_LABEL_SMOOTHING": drawn.choice(("none", "none", "mild", "aggressive")),
        "CVN_HPO_OBJECTIVE": drawn.choice(("precision_recall_auc", "precision_recall_auc", "f1_binary")),
    }
    chosen |= {"CVN_CUSUM_TRAINING_ENABLED": "0"} if cusum == "off" else {"CVN_CUSUM_THRESHOLD_H": cusum}
    chosen |= {"three": {"CVN_BINARY_CLASSIFICATION": "0"}, "focal": {"CVN_FOCAL_LOSS": "1"}}.get(kind, {})
    if kind == "three":
        chosen["CVN_HPO_OBJECTIVE"] = "precision_recall_auc"
        chosen["CVN_THRESHOLD_METHOD"] = "expected_value"
    if drawn.random() < 0.25:
        chosen["CVN_HPO_XGBOOST_30M_MAX_DEPTH"] = drawn.choice(("2", "6"))
    if drawn.random() < 0.25:
        chosen["CVN_HPO_XGBOOST_30M_LEARNING_RATE"] = drawn.choice(("0.02", "0.05", "0.3"))
    if drawn.random() < 0.15:
        chosen["CVN_HPO_XGBOOST_30M_MAX_BIN"] = drawn.choice(("16", "256"))
    return chosen


def _known() -> set[tuple[str, str]]:
    if not FILE.exists():
        return set()
    with FILE.open(newline="") as file:
        return {(row["crypto"], row["settings"]) for row in csv.DictReader(file)}


def _append(row: Mapping[str, Any]) -> None:
    is_new = not FILE.exists()
    with FILE.open("a", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        if is_new:
            writer.writeheader()
        writer.writerow(row)


if __name__ == "__main__":
    main()
