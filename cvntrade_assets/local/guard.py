"""Ends a stack's processes when the process that started them is gone, however it went.

Run as a program by `processes.py`, in a session of its own, with the standard library alone so that it starts
in milliseconds. Its standard input is a pipe from the supervisor, one order a line; the pipe's end, which the
system brings about even on kill -9, is the signal to act. A process group covers grandchildren: a run
outlives neither.
"""

import os
import signal
import sys
import time

GRACE_SECONDS = 5.0
POLL_SECONDS = 0.05


def main() -> None:
    """Follow `watch GROUP SIGNAL` and `forget GROUP` until the input ends, then end what is still watched."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    watched: dict[int, int] = {}
    for line in sys.stdin:
        order, group, *number = line.split()
        if order == "watch":
            watched[int(group)] = int(number[0])
        else:
            watched.pop(int(group), None)
    _end(watched)


def _end(watched: dict[int, int]) -> None:
    for group, number in watched.items():
        _send(group, number)
    deadline = time.monotonic() + GRACE_SECONDS
    while time.monotonic() < deadline and any(_send(group, 0) for group in watched):
        time.sleep(POLL_SECONDS)
    for group in watched:
        _send(group, signal.SIGKILL)


def _send(group: int, number: int) -> bool:
    """Whether the group still has a member that the signal reached."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    return True


if __name__ == "__main__":
    main()
