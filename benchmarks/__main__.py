"""All benchmarks, one after the other: `python -m benchmarks`."""

import subprocess
import sys

for name in ("kernels", "backtest", "screening", "tuning", "chain", "guardrails", "fit_estimates"):
    print(f"\n== {name}", flush=True)
    subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], check=True)
