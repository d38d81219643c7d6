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
# In place of 30: to wait for who looks is most of the time that a stuck run takes to its end.
LOOK_SECONDS = 5
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


def looked_after(found: dg.Definitions) -> dg.Definitions:
    """The same, with the sensor that watches runs looking more often than it says it does."""
    [watch] = [each for each in found.sensors or () if each.name == "run_watch"]
    assert isinstance(watch, dg.SensorDefinition) and watch.minimum_interval_seconds == 30
    watch._min_interval = LOOK_SECONDS
    return found


defs = dg.Definitions.merge(looked_after(build_defs()), dg.Definitions(assets=[silent, hung, dawdling]))


def monitor_often(home: Path) -> None:
    """A dagster.yaml of this stack's own in place of the project's, for run monitoring to look more often too."""
    link = home / "dagster.yaml"
    text, slow = link.read_text(), "poll_interval_seconds: 30"
    assert slow in text
    link.unlink()
    link.write_text(text.replace(slow, f"poll_interval_seconds: {LOOK_SECONDS}"))


if __name__ == "__main__":
    from cvntrade_assets.commands import up
    from cvntrade_assets.local.stack import Stack

    options = up.stack_options
    up.stack_options = lambda environment: replace(options(environment), definitions="live.hanging_stages")
    prepare = Stack._prepare_home

    def prepare_home(self: Stack) -> None:
        prepare(self)
        monitor_often(self._options.home)

    Stack._prepare_home = prepare_home  # type: ignore[method-assign]
    from cvntrade_assets.cli import main

    sys.argv = ["cvntrade", "up", "--no-run"]
    main()
