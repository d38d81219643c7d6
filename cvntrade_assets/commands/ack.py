"""`cvntrade ack`: somebody is at an alert, which from then on neither repeats nor escalates."""

import pandas as pd
from rich.console import Console

from cvntrade_assets.commands.author import author
from cvntrade_assets.commands.connection import Connection
from cvntrade_assets.commands.errors import CommandError
from resources.alerts import UnknownAlertError, acknowledge
from resources.secrets import process_mask


def ack(connection: Connection, key_or_id: str, reason: str, console: Console) -> None:
    """Note it, with the user's name and the reason.

    Raises:
        CommandError: no open alert has this key or number, or no reason is given.
    """
    if not reason.strip():
        raise CommandError("--reason is empty: say what you are doing about it, it stays on record.")
    try:
        with connection.warehouse().begin() as transaction:
            alert = acknowledge(transaction, key_or_id, author(), reason.strip(), pd.Timestamp.now("UTC"))
    except UnknownAlertError as error:
        raise CommandError(str(error)) from None
    said = (
        f"{alert.severity} {alert.key} ({alert.id}) is acknowledged by {alert.acknowledged_by}: it is told again only "
        "if it gets worse, and when it is over."
    )
    console.print(process_mask().text(said), markup=False, highlight=False, soft_wrap=True)
