"""`cvntrade incident`: the incident log, in the manual's form."""

from collections.abc import Mapping, Sequence

import pandas as pd
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cvntrade_assets.commands.author import author
from cvntrade_assets.commands.connection import Connection
from cvntrade_assets.commands.errors import CommandError
from cvntrade_assets.operations.incidents import Incident, Moments, lasted, markdown, times
from cvntrade_assets.operations.masking import shown
from cvntrade_assets.operations.taxonomy import Severity
from cvntrade_assets.setting_kinds import Moment
from resources import incidents as log
from resources.incidents import Changes, NewIncident

_HEADINGS = ("id", "severity", "standing", "began (UTC)", "title", "to detect", "to ack", "to mitigate", "to fix")


def open_incident(
    connection: Connection,
    title: str,
    severity: str,
    justification: str,
    symptom: str,
    began: str | None,
    detected: str | None,
    alerts: Sequence[str],
    console: Console,
) -> None:
    """Open an entry, and say its number.

    Raises:
        CommandError: a severity or a moment cannot be read.
        IncidentError: what was given contradicts itself or the alerts.
    """
    now = pd.Timestamp.now("UTC")
    new = NewIncident(
        title,
        read_severity(severity),
        justification,
        symptom,
        _maybe_moment("--began", began, now),
        _maybe_moment("--detected", detected, now),
        tuple(alerts),
    )
    opened = log.open_incident(connection.warehouse(), new, author(), now)
    _say(console, f"Incident {opened.id} is open: {_reached(opened)}.")
    _say(
        console, f"`cvntrade incident update {opened.id}` as things become known, `cvntrade incident show {opened.id}`."
    )


def update_incident(connection: Connection, number: int, changes: Changes, console: Console) -> None:
    """Bring an entry up to date.

    Raises:
        CommandError: nothing was given.
        IncidentError: it is closed, does not exist, or what was given contradicts what is on record.
    """
    if changes == Changes():
        raise CommandError("nothing is given that would change: `cvntrade incident update --help` lists what there is.")
    updated = log.update_incident(connection.warehouse(), number, changes, pd.Timestamp.now("UTC"))
    _say(console, f"Incident {updated.id} is up to date: {_reached(updated)}.")


def close_incident(connection: Connection, number: int, changes: Changes, console: Console) -> None:
    """Close an entry, and print it.

    Raises:
        IncidentError: something that is needed is missing, it is closed already, or moments contradict each other.
    """
    closed = log.close_incident(connection.warehouse(), number, changes, author(), pd.Timestamp.now("UTC"))
    _say(console, markdown(closed))


def show_incident(connection: Connection, number: int, console: Console) -> None:
    """Print an entry as markdown."""
    _say(console, markdown(log.incident(connection.warehouse(), number)))


def list_incidents(connection: Connection, console: Console, *, only_open: bool) -> None:
    """Print every entry, or those that are open, newest first."""
    found = log.incidents(connection.warehouse(), only_open=only_open)
    if not found:
        _say(console, f"No incident is {'open' if only_open else 'on record'}: `cvntrade incident open`.")
        return
    table = Table(*_HEADINGS, title="Incidents")
    for entry in found:
        table.add_row(*(escape(cell) for cell in _cells(entry)))
    console.print(table)
    console.print("To detect and to ack(nowledge) count from the beginning, to mitigate and to fix from the ack.")


def read_severity(text: str) -> Severity:
    """P0 to P3; CommandError when it is none of them."""
    if text.upper() not in Severity.__members__:
        raise CommandError(f"--severity {shown(text)!r}: expected one of {', '.join(Severity)}.")
    return Severity(text.upper())


def read_moments(given: Mapping[str, str | None]) -> dict[str, pd.Timestamp]:
    """The moments that were given, by name; `now` is one.

    Raises:
        CommandError: one cannot be read.
    """
    now = pd.Timestamp.now("UTC")
    return {name: _moment(f"--{name}", text, now) for name, text in given.items() if text is not None}


def _maybe_moment(option: str, text: str | None, now: pd.Timestamp) -> pd.Timestamp | None:
    return None if text is None else _moment(option, text, now)


def _moment(option: str, text: str, now: pd.Timestamp) -> pd.Timestamp:
    try:
        read = Moment().read(text)
    except ValueError:
        raise CommandError(f"{option} {shown(text)!r}: expected {Moment().expected}.") from None
    return now if read == "now" else pd.Timestamp(read)


def _reached(entry: Incident) -> str:
    moments: Moments = entry.moments
    known = ", ".join(f"{name} {moment:%Y-%m-%d %H:%M} UTC" for name, moment in moments.known())
    return f"{entry.severity}, {entry.standing} ({known})"


def _cells(entry: Incident) -> tuple[str, ...]:
    took = times(entry.moments)
    return (
        str(entry.id),
        str(entry.severity),
        entry.standing,
        f"{entry.moments.began:%Y-%m-%d %H:%M}",
        entry.title,
        *(lasted(each) for each in (took.to_detect, took.to_acknowledge, took.to_mitigate, took.to_fix)),
    )


def _say(console: Console, text: str) -> None:
    # Not wrapped and not read as markup: markdown is to be pasted.
    console.print(text, markup=False, highlight=False, soft_wrap=True)
