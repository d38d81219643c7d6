"""`cvntrade alerts`: what is open, who is at it, and what could not be sent."""

from collections.abc import Sequence

import pandas as pd
from rich.console import Console

from cvntrade_assets.commands.connection import Connection
from cvntrade_assets.operations.masking import public_address
from resources.alerts import OpenAlert, Undelivered, open_alerts, undelivered
from resources.secrets import process_mask


def list_alerts(connection: Connection, console: Console) -> None:
    """Print every open alert, the worst first, and every message that waits to be sent.

    Raises:
        WarehouseError: PostgreSQL does not answer.
    """
    warehouse, ui_url = connection.warehouse(), public_address(connection.ui_url).rstrip("/")
    opened = open_alerts(warehouse)
    for alert in opened:
        _say(console, "\n".join(_lines(alert, ui_url)))
    if not opened:
        _say(console, "No alert is open.")
    _print_waiting(undelivered(warehouse), console)


def _lines(alert: OpenAlert, ui_url: str) -> list[str]:
    who = (
        f"acknowledged by {alert.acknowledged_by} on {_moment(alert.acknowledged_at)}: {alert.acknowledgement}"
        if alert.acknowledged_at is not None
        else f'nobody has acknowledged it: cvntrade ack {alert.id} --reason "…"'
    )
    whom = f"{alert.owner}" if alert.audience == alert.owner else f"{alert.owner}, escalated to the {alert.audience}"
    return [
        f"{alert.severity}  {alert.key} ({alert.id}), since {_moment(alert.since)}; {whom}",
        f"  {alert.what}",
        f"  next  {alert.next_step}",
        *([f"  page  {ui_url}{alert.link}"] if alert.link else []),
        f"  {who}",
    ]


def _print_waiting(waiting: Sequence[Undelivered], console: Console) -> None:
    if not waiting:
        return
    _say(console, f"{len(waiting)} messages wait to be sent:")
    for each in waiting:
        why = each.last_error or "not tried yet"
        tried = f"tried {each.attempts} times, again at {_moment(each.due_at)}" if each.attempts else "never tried"
        _say(
            console,
            f"  {each.severity} {each.event} {each.alert_key}, since {_moment(each.created_at)}: {why}; {tried}",
        )


def _moment(moment: pd.Timestamp) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"


def _say(console: Console, text: str) -> None:
    console.print(process_mask().text(text), markup=False, highlight=False, soft_wrap=True)
