"""Child processes that do not outlive their parent."""

import ctypes
import signal
import sys
from collections.abc import Callable
from typing import Final

PR_SET_PDEATHSIG: Final = 1


def end_with_parent(number: signal.Signals) -> Callable[[], object] | None:
    """What a child does between fork and exec so that the kernel sends it `number` when its parent dies.

    For `subprocess.Popen(preexec_fn=…)`; the parent is the thread that starts the child, so that is the main
    thread. None where the system has no such call (macOS).
    """
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl
    return lambda: prctl(PR_SET_PDEATHSIG, number, 0, 0, 0)
