"""The error that ends a command with one readable message and exit code 2."""


class CommandError(Exception):
    """What the user reads: what was wrong, where, what was expected, what to do."""
