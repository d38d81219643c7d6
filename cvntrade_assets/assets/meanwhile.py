"""Importing what later stages need while this process waits for others to compute."""

import importlib
import threading


def import_meanwhile(*modules: str) -> None:
    """Import modules in a thread of their own and return at once.

    A later `import` of one of them waits for the rest of it. An import that fails here fails there again, where it says
    why.
    """

    def import_all() -> None:
        for name in modules:
            importlib.import_module(name)

    threading.Thread(target=import_all, name="import_meanwhile", daemon=True).start()
