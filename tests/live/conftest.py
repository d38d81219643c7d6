"""Fixtures of the live tests: one real stack for all of them, one crypto built on it, and two discovered."""

import subprocess
from collections.abc import Iterator
from contextlib import closing

import pytest
from live.live_stack import CRYPTO, LiveStack, as_options
from live.shared_discovery import FINE, GROUP, ILL, discover
from services import QUICK

from resources.warehouse import Warehouse


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


def set_group(stack: LiveStack, *cryptos: str) -> None:
    """Make these the group of the discovered; without any it is gone."""
    with closing(Warehouse(stack.addresses.warehouse_url)) as warehouse:
        warehouse.set_group(GROUP, cryptos)


@pytest.fixture(scope="session")
def discovered(stack: LiveStack) -> Iterator[subprocess.CompletedProcess[str]]:
    """What discovery of two cryptos printed, of which one cannot store its walk-forward test."""
    set_group(stack, FINE, ILL)
    yield discover(stack)
    set_group(stack)
