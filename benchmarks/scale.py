"""A universe that grows: a real stack with 6, 25, 50 and 200 cryptos, and how it bears it.

Run from the repository's root, on a machine that does nothing else:

    python -m benchmarks.scale                      # measure what is not in benchmarks/scale.json yet
    python -m benchmarks.scale --report             # write docs/scale.md and docs/scale.png from it
    python -m benchmarks.scale --levels 6,12 --json /tmp/try.json --home /tmp/try      # a quick try

The stack is `cvntrade up` with its defaults, on a folder of its own: PostgreSQL from the wheel, two runs at a time, the
simulated market. Runs are short on purpose (four months of candles, two trials): what grows with the number of cryptos
is everything else. Each level adds cryptos to the universe and asks for all of it by one backfill, which builds the new
ones and finds nothing to do for the others. Interrupted, it goes on with the level that was not done at the next call.
"""

import argparse
import json
import shutil
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import pandas as pd

from benchmarks.scale_level import Level, grown, home_folder, measure
from benchmarks.scale_sample_run import measure_default
from benchmarks.scale_stack import ScaleError, ScaleStack

LEVELS = (6, 25, 50, 200)
FILE = Path(__file__).with_name("scale.json")
# One level's runs are alike: short histories, few trials, no smoothing, and a market with something to learn.
SETTINGS: Mapping[str, str] = {
    "CVN_MARKET": "simulated",
    "CVN_SIMULATED_SIGNAL": "1",
    "CVN_DEFAULT_HISTORY_MONTHS": "4",
    "CVN_BACKTEST_DAYS": "2",
    "CVN_CUSUM_THRESHOLD_H": "1.0",
    "CVN_MAX_FEATURES": "10",
    "CVN_DEFAULT_N_TRIALS": "2",
    "CVN_TUNING_FOLDS": "2",
    "CVN_TUNING_WORKERS": "1",
    "CVN_HPO_XGBOOST_30M_NUM_BOOST_ROUND": "30",
}


def main() -> None:
    """Measure what is not measured yet, or write the report."""
    arguments = _arguments()
    if arguments.report:
        from benchmarks.scale_report import write

        write(json.loads(arguments.json.read_text()), Path("docs"))
        return
    for number in (signal.SIGINT, signal.SIGTERM):
        # In the background of a shell the first of them is ignored, and the second one would leave the stack behind.
        signal.signal(number, _stop)
    try:
        _measure(arguments.levels, arguments.json, arguments.home)
    except ScaleError as error:
        sys.exit(f"scale: {error}\nWhat was measured is in {arguments.json}; the next call goes on after it.")
    if not arguments.keep:
        shutil.rmtree(arguments.home)


def _measure(levels: list[int], file: Path, home: Path) -> None:
    found = _read(file, home)
    began = time.monotonic()

    def say(what: str) -> None:
        minutes, seconds = divmod(int(time.monotonic() - began), 60)
        print(f"{minutes:3d}:{seconds:02d}  {what}", flush=True)

    with ScaleStack(home) as stack:
        if "as_of" not in found:
            # Candles that end now: the state of a stack that is looked after, not one alarm a crypto.
            found["as_of"] = pd.Timestamp.now("UTC").floor("h").isoformat()
        found["attempts"] = found.get("attempts", 0) + 1
        _write(file, found)
        settings = {**SETTINGS, "CVN_AS_OF": found["as_of"]}
        stack.settle()
        stack.configure(settings)
        cryptos: tuple[str, ...] = tuple(found["levels"][-1]["names"]) if found["levels"] else ()
        for how_many in (each for each in levels if each > len(cryptos)):
            before, cryptos = len(cryptos), grown(cryptos, how_many, found["attempts"])
            say(f"== {how_many} cryptos, {how_many - before} of them new")
            level = Level(cryptos, before, settings)
            found["levels"].append(measure(stack, level, lambda what, level=how_many: say(f"{level:>5}  {what}")))
            _write(file, found)
        if "default_run" not in found:
            say("two runs of the default size")
            found["default_run"] = measure_default(stack, cryptos[:2], found["as_of"])
            _write(file, found)
    say(f"done: {file}")


def _stop(number: int, frame: object) -> NoReturn:
    del frame
    sys.exit(f"scale: stopped by {signal.Signals(number).name}; the next call goes on with the level that was not done")


def _read(file: Path, home: Path) -> dict[str, Any]:
    if not file.exists():
        if home.exists():
            raise ScaleError(
                f"{home} holds a stack of which {file} knows nothing: remove one, or name another with --home"
            )
        return {"levels": []}
    found: dict[str, Any] = json.loads(file.read_text())
    if found["levels"] and not home.exists():
        raise ScaleError(f"{file} is measured, and the stack in {home} is gone: remove the file to measure anew")
    return found


def _write(file: Path, found: Mapping[str, Any]) -> None:
    partial = file.with_suffix(".partial")
    partial.write_text(json.dumps(found, indent=1) + "\n")
    partial.replace(file)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--levels", type=_levels, default=list(LEVELS), help="numbers of cryptos, growing")
    parser.add_argument("--json", type=Path, default=FILE, help="where raw figures are kept")
    parser.add_argument("--home", type=Path, default=home_folder(), help="the stack's folder")
    parser.add_argument("--keep", action="store_true", help="keep the stack's folder at the end")
    parser.add_argument("--report", action="store_true", help="write docs/scale.md and docs/scale.png, measure nothing")
    return parser.parse_args()


def _levels(text: str) -> list[int]:
    levels = [int(part) for part in text.split(",")]
    if levels != sorted(set(levels)) or levels[0] < 2:
        raise argparse.ArgumentTypeError(f"{text}: give growing numbers of at least 2, such as 6,25,50")
    return levels


if __name__ == "__main__":
    main()
