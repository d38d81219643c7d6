"""Fixtures of the live tests: one real stack for all of them, and one crypto built on it."""

import subprocess
from collections.abc import Iterator

import pytest
from live.live_stack import CRYPTO, LiveStack, as_options
from services import QUICK


@pytest.fixture(scope="session")
def stack() -> Iterator[LiveStack]:
    """PostgreSQL, daemon, webserver, code server and MLflow, started by `cvntrade up`."""
    with LiveStack() as running:
        yield running


@pytest.fixture(scope="session")
def built(stack: LiveStack) -> subprocess.CompletedProcess[str]:
    """What the command printed that built everything of BTCUSDC."""
    planned = stack.cli("backfill", "--dry-run", "--crypto", CRYPTO, *as_options(QUICK))
    assert planned.returncode == 0 and "12 of 12 assets would be built" in planned.stdout, planned.stdout
    return stack.cli("backfill", "--crypto", CRYPTO, "--wait", *as_options(QUICK), seconds=240)
