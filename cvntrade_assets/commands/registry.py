"""`cvntrade registry`: which models are registered, in which state, what changed it, and what MLflow lacks."""

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cvntrade_assets.commands.connection import Connection
from cvntrade_assets.commands.errors import CommandError
from resources.registry import ModelVersion, events, models, unmirrored

_HEADINGS = ("crypto", "model", "state", "since", "market", "PTE", "fitted until", "MLflow")


def list_models(connection: Connection, cryptos: Collection[str], console: Console) -> None:
    """Print every registered model, the newest of a crypto first."""
    found = models(connection.warehouse(), cryptos or None)
    if not found:
        whose = f" for {', '.join(cryptos)}" if cryptos else ""
        console.print(f"No model is registered{escape(whose)}: `cvntrade discovery` ends with one.")
        return
    waiting = {model.id for model in unmirrored(connection.warehouse())}
    table = Table(*_HEADINGS, title="Registered models")
    for name in ("crypto", "state", "since", "PTE"):
        table.columns[_HEADINGS.index(name)].no_wrap = True
    for model in found:
        table.add_row(*(escape(cell) for cell in _cells(model, waits=model.id in waiting)))
    console.print(table)
    if waits := [model.name for model in found if model.id in waiting]:
        console.print(f"MLflow does not show yet: {escape(', '.join(waits))}. It is tried again until it does.")


def show_models(connection: Connection, crypto: str, console: Console) -> None:
    """Print everything on record of one crypto's models: what each was made from, and every change of its state.

    Raises:
        CommandError: no model of this crypto is registered.
    """
    warehouse = connection.warehouse()
    found, happened = models(warehouse, [crypto]), events(warehouse, crypto)
    if not found:
        raise CommandError(f"no model of {crypto} is registered; `cvntrade registry list` names those that are.")
    waiting = {model.id for model in unmirrored(warehouse, crypto)}
    for model in found:
        lines = _lines(model, [event for event in happened if event["model_id"] == model.id], model.id in waiting)
        # Not a table: checksums and reasons do not fit into cells.
        console.print("\n".join(lines), markup=False, highlight=False, soft_wrap=True)


def _cells(model: ModelVersion, *, waits: bool) -> tuple[str, ...]:
    return (
        model.crypto,
        str(model.number),
        str(model.state),
        _moment(model.changed_at),
        model.shown_market,
        model.pte,
        _moment(model.fitted_until),
        _mirror(model, waits=waits),
    )


def _lines(model: ModelVersion, happened: Sequence[Mapping[str, Any]], waits: bool) -> list[str]:
    return [
        f"{model.name}  {model.state}  {model.pte}  {model.shown_market}",
        f"  fitted until      {_moment(model.fitted_until)} UTC",
        f"  data until        {_moment(model.data_until)} UTC",
        f"  rolling backtest  {model.rolling_version}",
        f"  evaluation        {model.evaluation_version}",
        f"  model.ubj         sha256 {model.model_sha256}",
        f"  MLflow            {_mirror(model, waits=waits)}",
        *(f"  {_event(event)}" for event in happened),
    ]


def _event(event: Mapping[str, Any]) -> str:
    change = f"{event['from_state'] or 'registered'} -> {event['to_state']}"
    who = f"{event['author']} ({event['role'] or 'by hand'})"
    return f"{_moment(event['recorded_at'])} UTC  {change}  by {who}: {event['reason'] or 'no reason was given'}"


def _mirror(model: ModelVersion, *, waits: bool) -> str:
    """What MLflow shows of it."""
    if waits:
        return "not yet" if model.mlflow_version is None else f"version {model.mlflow_version}, an older state"
    return "not mirrored: never a challenger" if model.mlflow_version is None else f"version {model.mlflow_version}"


def _moment(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M}"
