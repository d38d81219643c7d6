"""A look at everything, on a month of operation: what a tick of the signals' sensor takes, and `cvntrade status`.

Against one query a fact and one statement a signal, crypto by crypto, as one writes it first.

Run from the repository's root: `python -m benchmarks.golden_signals [cryptos]`.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.chain import fresh_environment

CRYPTOS, DAYS = 200, 30
TICK_SECONDS, STATUS_SECONDS = 10.0, 3.0
_STATUSES = 3


def main() -> None:
    """Print seconds of ticks and of the status, and the ratio against doing it crypto by crypto."""
    cryptos = int(sys.argv[1]) if len(sys.argv) > 1 else CRYPTOS
    with tempfile.TemporaryDirectory() as folder, fresh_environment(Path(folder)) as environment:
        # dagster.yaml takes its addresses from the environment of the process.
        command = [sys.executable, "-m", "benchmarks.golden_signals_ticks", str(cryptos), str(DAYS), str(TICK_SECONDS)]
        subprocess.run(command, env=environment, check=True)
        status = [sys.executable, "-m", "cvntrade_assets", "status"]
        told = environment | {"CVN_UI_URL": "http://127.0.0.1:1"}
        seconds = min(_seconds(status, told) for _ in range(_STATUSES))
    met = "met" if seconds <= STATUS_SECONDS else "MISSED"
    print(f"cvntrade status, a fresh process:           {seconds:6.2f} s; target {STATUS_SECONDS:.0f} s: {met}")


def _seconds(command: list[str], environment: dict[str, str]) -> float:
    began = time.perf_counter()
    # Something to do is no error here.
    subprocess.run(command, env=environment, check=False, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
