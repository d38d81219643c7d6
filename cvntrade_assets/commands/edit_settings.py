"""`cvntrade settings set`, `unset`, `history`: the operators' table `base_env`, edited with a reason that stays."""

import difflib
from collections.abc import Mapping, Sequence

import pandas as pd
from rich.console import Console
from rich.markup import escape

from cvntrade_assets.commands.author import author
from cvntrade_assets.commands.connection import Connection
from cvntrade_assets.commands.errors import CommandError
from cvntrade_assets.operations.factors import resolve_run
from cvntrade_assets.operations.masking import shown
from cvntrade_assets.operations.seeds import AUTHOR
from cvntrade_assets.settings import Layer, SettingsError, read_value
from resources.secrets import process_mask
from resources.settings_history import SettingChange, settings_history

# More keys than these are not read by anybody who mistyped one.
_LISTED = 20


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
        raise CommandError(f"{', '.join(missing)} is not in base_env, which holds {_held(missing[0], before)}.")
    left = {key: text for key, text in before.items() if key not in keys}
    # A table that no run can use may be mended key by key; one that they can use stays so.
    if _is_usable(before):
        resolve_run(base_env=left, run={}, now=pd.Timestamp.now("UTC"))
    _change(connection, before, dict.fromkeys(keys), reason, console)


def show_history(connection: Connection, key: str | None, limit: int, with_seeds: bool, console: Console) -> None:
    """Print the newest changes of one key, or of all; what seeding inserted only when asked for, or for one key.

    Raises:
        CommandError: a limit below one.
    """
    if limit < 1:
        raise CommandError(f"--limit {limit}: expected at least 1.")
    leave_out = "" if with_seeds or key else AUTHOR
    found = settings_history(connection.warehouse(), key, limit, leave_out)
    if not found:
        console.print(f"No change{'' if key is None else f' of {escape(shown(key))}'} is on record.", soft_wrap=True)
    for change in found:
        console.print("\n".join(_change_lines(change)), markup=False, highlight=False, soft_wrap=True)
    if len(found) == limit:
        console.print(f"These are the newest {limit}; there may be more: --limit.")


def _change_lines(change: SettingChange) -> list[str]:
    mask = process_mask()
    when = f"{change.changed_at:%Y-%m-%d %H:%M:%S} UTC"
    was, now = (_told(change.key, value) for value in (change.old_value, change.new_value))
    reason = mask.text(" ".join((change.reason or "").split())) or "none given"
    return [f"{when}  {change.key}: {was} → {now}", f"  by {mask.value(change.author)}: {reason}"]


def _held(missing: str, before: Mapping[str, str]) -> str:
    """What the table holds, as far as a person reads it."""
    if len(before) <= _LISTED:
        return ", ".join(sorted(before)) or "nothing"
    close = ", ".join(difflib.get_close_matches(missing, sorted(before), n=3, cutoff=0.6))
    return f"{len(before)} keys" + (f", the closest {close}" if close else "")


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
