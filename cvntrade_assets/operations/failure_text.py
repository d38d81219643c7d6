"""An exception's message as operators read it."""

import re

# Dagster keeps `package.module.Class: message`. A class of this code's own says nothing that its message does not.
_OWN_CLASS = re.compile(r"^(?:cvntrade_assets|asset_checks|resources)(?:\.\w+)+: (?=\S)")


# What Dagster's run monitoring puts around what a launcher says of a worker.
_OF_WORKER = re.compile(r"Detected run worker status [A-Z_]+: '(.*)'\. Marking run \S+ as failed\.", re.DOTALL)


def plainly(message: str) -> str:
    """The message without the class in front of it, when that is one of this code's own, and without its frame."""
    text = _OWN_CLASS.sub("", message.strip())
    framed = _OF_WORKER.fullmatch(text)
    return framed[1] if framed else text
