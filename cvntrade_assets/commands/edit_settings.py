"""`cvntrade settings set` and `unset`: the operators' table `base_env`, edited with a reason that stays on record."""

from collections.abc import Mapping, Sequence

import pandas as pd
from rich.console import Console
from rich.markup import escape

from cvntrade_assets.commands.author import author
from cvntrade_assets.commands.connection import Connection
from cvntrade_assets.commands.errors import CommandError
from cvntrade_assets.operations.factors import resolve_run
from cvntrade_assets.settings import Layer, SettingsError, read_value
from resources.secrets import process_mask


def set_settings(connection: Connection, words: Sequence[str], reason: str, console: Console) -> None:
    """Set keys of `base_env`, all or none.

    Args:
        connection: Which CVNTrade.
        words: Key, value, key, value …
        reason: Why; kept in `base_env_history` beside the author.
        console: Where to say what changed.

    Raises:
        SettingsError: a key that operators may not set, a wrong value, or values that contradict each other.
        CommandError: a key without a value, or no reason.
    """
    if not words or len(words) % 2:
        raise CommandError("give KEY VALUE, or several of such pairs, e.g. `cvntrade settings set CVN_SEED 7`.")
    given = dict(zip(words[::2], words[1::2], strict=True))
    if len(given) * 2 != len(words):
        raise CommandError("a key is given twice; give it once.")
    checked = {key: read_value(key, text, Layer.BASE_ENV).text for key, text in given.items()}
    before = connection.warehouse().base_env()
    # What a run would resolve; several keys at once, because four slices can only change together.
    resolve_run(base_env={**before, **checked}, run={}, now=pd.Timestamp.now("UTC"))
    _change(connection, before, checked, reason, console)


def unset_settings(connection: Connection, keys: Sequence[str], reason: str, console: Console) -> None:
    """Remove keys from `base_env`, known to this code or not; weaker layers hold again.

    Raises:
        SettingsError: what is left contradicts itself, and did not before.
        CommandError: a key is not in the table, or no reason.
    """
    before = connection.warehouse().base_env()
    missing = [key for key in keys if key not in before]
    if missing:
        raise CommandError(
            f"{', '.join(missing)} is not in base_env, which holds {', '.join(sorted(before)) or 'nothing'}."
        )
    left = {key: text for key, text in before.items() if key not in keys}
    # A table that no run can use may be mended key by key; one that they can use stays so.
    if _is_usable(before):
        resolve_run(base_env=left, run={}, now=pd.Timestamp.now("UTC"))
    _change(connection, before, dict.fromkeys(keys), reason, console)


def _is_usable(base_env: Mapping[str, str]) -> bool:
    try:
        resolve_run(base_env=base_env, run={}, now=pd.Timestamp.now("UTC"))
    except SettingsError:
        return False
    return True


def _change(
    connection: Connection,
    before: Mapping[str, str],
    changes: Mapping[str, str | None],
    reason: str,
    console: Console,
) -> None:
    if not reason.strip():
        raise CommandError("--reason is empty: say why, it stays on record.")
    connection.warehouse().set_base_env(changes, author(), reason.strip())
    for key, text in changes.items():
        was, now = before.get(key), text
        console.print(escape(f"{key}: {_told(key, was)} → {_told(key, now)}"), soft_wrap=True, highlight=False)
    console.print("Runs that start from now on use it; those in progress keep what they began with.")


def _told(key: str, text: str | None) -> str:
    # What stood there before may have come past every check, by SQL.
    return "not set" if text is None else repr(process_mask().value(text, key))
