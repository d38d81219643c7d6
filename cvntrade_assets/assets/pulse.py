"""Heartbeats of a loop that turns faster than anybody reads: at most one every few seconds."""

import time
from collections.abc import Callable

PULSE_SECONDS = 10.0


class Pulse:
    """Passes a message on when the last one, or the beginning, is `seconds` ago.

    By time and not by count: a round may take a millisecond or a minute, and an event costs milliseconds.

    Args:
        say: What to do with a message, usually `Stage.heartbeat`.
        seconds: Shortest time between two messages.
    """

    def __init__(self, say: Callable[[str], None], seconds: float = PULSE_SECONDS) -> None:
        self._say = say
        self._seconds = seconds
        self._last = time.monotonic()

    def __call__(self, message: str) -> None:
        """Say it, or leave it."""
        now = time.monotonic()
        if now - self._last >= self._seconds:
            self._last = now
            self._say(message)
