"""Two runs of the default size: what the plan for a cluster has to know, beside the short runs of the levels."""

import time
from collections.abc import Sequence
from contextlib import closing
from typing import Any

from benchmarks.scale_plan import SLOTS
from benchmarks.scale_records import folder_size, runs_of
from benchmarks.scale_samples import Sampler
from benchmarks.scale_stack import GROUP, ScaleError, ScaleStack


def measure_default(stack: ScaleStack, cryptos: Sequence[str], as_of: str) -> dict[str, Any]:
    """Build these with the default settings; what that took and left, by run.

    Raises:
        ScaleError: a run fails.
    """
    with closing(stack.warehouse()) as warehouse:
        kept = warehouse.base_env()
        # Back to the declared defaults, but for the market and its time.
        warehouse.set_base_env(
            {name: None for name in kept if name not in ("CVN_MARKET", "CVN_AS_OF")},
            "benchmark",
            "a run of default size",
        )
    stack.set_universe(cryptos)
    folders = ("artifacts", "mlflow", "compute_logs")
    before = {name: folder_size(stack.home / name)["bytes"] for name in folders}
    with Sampler(stack, None) as sampler:
        asked_at = time.time()
        backfill, _ = stack.backfill(GROUP)
        stack.wait_for(backfill, len(cryptos))
    found = runs_of(stack, backfill, asked_at, SLOTS, cryptos)
    told = found["backfill"]
    if told is None or told["succeeded"] != len(cryptos):
        raise ScaleError(f"not all of {len(cryptos)} runs of default size succeeded: {stack.ui_url}/runs/b/{backfill}")
    grown = {name: folder_size(stack.home / name)["bytes"] - before[name] for name in folders}
    per_run = {name: round(size / len(cryptos)) for name, size in grown.items()}
    return {"as_of": as_of, **found, "bytes_per_run": per_run, "used": sampler.found()}
