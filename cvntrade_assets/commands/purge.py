"""`cvntrade purge`: what the nightly job event_log_retention does, for whoever keeps time outside Dagster."""

import dagster as dg
import pandas as pd
from rich.console import Console

from cvntrade_assets.commands.connection import Connection
from resources.event_log import purge_events


def purge(connection: Connection, console: Console) -> None:
    """Delete the chatter of runs older than CVN_EVENT_RETENTION_DAYS, and say how much that was.

    Raises:
        WarehouseError: PostgreSQL does not answer.
    """
    days = connection.resolve_settings({}).whole("CVN_EVENT_RETENTION_DAYS")
    before = pd.Timestamp.now("UTC") - pd.Timedelta(days=days)
    with dg.DagsterInstance.get() as instance:
        gone = purge_events(instance, before)
    console.print(f"{gone} events from before {before:%Y-%m-%d %H:%M} UTC are deleted ({days} days are kept).")
