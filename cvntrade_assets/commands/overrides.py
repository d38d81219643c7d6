"""`cvntrade overrides`: every block that somebody overrode, why, and who approved."""

from collections.abc import Mapping, Sequence
from datetime import UTC
from typing import Any

from rich.console import Console
from rich.markup import escape

from cvntrade_assets.commands.connection import Connection
from cvntrade_assets.commands.errors import CommandError
from cvntrade_assets.operations.masking import public_address
from cvntrade_assets.setting_kinds import approver
from resources.guardrail_log import overrides


def list_overrides(
    connection: Connection, group: str | None, cryptos: Sequence[str], limit: int, console: Console
) -> None:
    """Print the newest overrides of all cryptos, of a group's, or of those named.

    Raises:
        CommandError: both group and cryptos were given, or a limit below one.
        UnknownGroupError: the group does not exist.
    """
    if group and cryptos:
        raise CommandError("give --group G or --crypto C (repeat it for several), or neither for all; not both.")
    if limit < 1:
        raise CommandError(f"--limit {limit}: expected at least 1.")
    warehouse = connection.warehouse()
    # An override of a crypto that has left its groups is still on record.
    wanted = warehouse.group(group) if group else cryptos or None
    found = overrides(warehouse, wanted, limit)
    if not found:
        console.print(f"No override is on record{escape(_of(group, cryptos))}.")
        return
    for row in found:
        # Not a table: a link that a cell breaks in two is none.
        console.print(
            "\n".join(_lines(row, public_address(connection.ui_url))), markup=False, highlight=False, soft_wrap=True
        )
    if len(found) == limit:
        console.print(f"These are the newest {limit}; there may be more: --limit.")


def _of(group: str | None, cryptos: Sequence[str]) -> str:
    whose = group or ", ".join(cryptos)
    return f" for {whose}" if whose else ""


def _lines(row: Mapping[str, Any], ui_url: str) -> list[str]:
    when = f"{row['recorded_at'].astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
    run = f"{ui_url}/runs/{row['run_id']}" if row["run_id"] else "none, judged without a run"
    return [
        f"{when}  {row['crypto'] or 'no crypto'}  {row['guardrail']}: {_value(row)}",
        f"  reason    {row['override_reason']}",
        f"  approver  {approver(row['override_reason']) or 'unknown'}",
        f"  run       {run}",
    ]


def _value(row: Mapping[str, Any]) -> str:
    if row["value"] is None:
        return str(row["message"])
    return _number(row["value"]) + ("" if row["limit_value"] is None else f", limit {_number(row['limit_value'])}")


def _number(value: float) -> str:
    return f"{value:,.10g}"
