"""Stages that hang or dawdle, beside the product's own; run as a program, `cvntrade up --no-run` that serves them."""

import ctypes
import os
import sys
import time
from dataclasses import replace
from pathlib import Path

import dagster as dg

from cvntrade_assets.definitions import build_defs
from cvntrade_assets.partitions import CRYPTO

FOR_EVER = 3600
NEEDED = {"run_settings"}


@dg.asset(partitions_def=CRYPTO, required_resource_keys=NEEDED)
def silent() -> None:
    """Says nothing and does nothing, and can be interrupted."""
    time.sleep(FOR_EVER)


@dg.asset(partitions_def=CRYPTO, required_resource_keys=NEEDED)
def hung() -> None:
    """Waits for a lock that it holds itself, in C code that keeps the interpreter's: no thread, no signal wakes it."""
    library, mutex = ctypes.PyDLL(None), ctypes.create_string_buffer(64)
    for _ in range(2):
        library.pthread_mutex_lock(mutex)


@dg.asset(partitions_def=CRYPTO, required_resource_keys=NEEDED)
def dawdling(context: dg.AssetExecutionContext) -> None:
    """Slow, says so all the time, and ends when it is told to."""
    trial = 0
    while not let_go(Path(os.environ["DAGSTER_HOME"])).exists():
        trial += 1
        context.log.info(f"dawdling: trial {trial} of 100000")
        time.sleep(1)


def let_go(home: Path) -> Path:
    """The file that ends `dawdling`."""
    return home / "let_go"


defs = dg.Definitions.merge(build_defs(), dg.Definitions(assets=[silent, hung, dawdling]))

if __name__ == "__main__":
    from cvntrade_assets.commands import up

    options = up.stack_options
    up.stack_options = lambda environment: replace(options(environment), definitions="live.hanging_stages")
    from cvntrade_assets.cli import main

    sys.argv = ["cvntrade", "up", "--no-run"]
    main()
