"""The mask of this process: the secrets of its environment, and those that it hands to its children."""

import os
import threading
from collections.abc import Mapping
from functools import cache

from cvntrade_assets.operations.masking import Mask, known_secrets

_learned: set[str] = set()
_lock = threading.Lock()


@cache
def process_mask() -> Mask:
    """The mask that knows every secret in this process's environment; built once, when it is first asked for."""
    with _lock:
        return Mask({secret for _, secret in known_secrets(os.environ)} | _learned)


def learn_secrets(environment: Mapping[str, str]) -> None:
    """Have `process_mask` know the secrets of another environment too, such as that of a child."""
    found = {secret for _, secret in known_secrets(environment)}
    with _lock:
        if found <= _learned:
            return
        _learned.update(found)
    process_mask.cache_clear()
