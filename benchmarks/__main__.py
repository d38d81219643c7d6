"""All benchmarks, one after the other: `python -m benchmarks [ARCHIVE]`; that of drift needs an archive of candles."""

import subprocess
import sys

for name in ("kernels", "backtest", "screening", "tuning", "chain", "guardrails", "fit_estimates", "golden_signals"):
    print(f"\n== {name}", flush=True)
    subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], check=True)
if len(sys.argv) > 1:
    print("\n== drift", flush=True)
    subprocess.run([sys.executable, "-m", "benchmarks.drift", sys.argv[1]], check=True)
