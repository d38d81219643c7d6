"""Who runs a command: what stays on record beside what it changes."""

import getpass
import os


def author() -> str:
    """The user's name; a container's user often has a number and no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"
