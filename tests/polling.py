"""Waiting for what another process does."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def until(
    what: str, found: Callable[[], T], seconds: float = 60.0, pause: float = 0.1, alive: Callable[[], str] = str
) -> T:
    """Poll until `found` returns something true; fails with `what` after `seconds` without a sign of life.

    A sign of life is that what `alive` tells has changed, which a slow machine may take its time for; without any the
    seconds are all there is. The last that it told is in the message.
    """
    told, deadline = alive(), time.monotonic() + seconds
    while not (value := found()):
        if time.monotonic() > deadline:
            before, told = told, alive()
            assert told != before, f"not within {seconds:.0f} s: {what}\n{told}"
            deadline = time.monotonic() + seconds
        time.sleep(pause)
    return value
