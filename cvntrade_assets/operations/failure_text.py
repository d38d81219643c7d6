"""An exception's message as operators read it."""

import re

# Dagster keeps `package.module.Class: message`. A class of this code's own says nothing that its message does not.
_OWN_CLASS = re.compile(r"^(?:cvntrade_assets|asset_checks|resources)(?:\.\w+)+: (?=\S)")


def plainly(message: str) -> str:
    """The message without the class in front of it, when that is one of this code's own."""
    return _OWN_CLASS.sub("", message.strip())
