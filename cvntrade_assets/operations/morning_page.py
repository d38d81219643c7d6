"""What a morning check says, line by line; the terminal and the page in the UI render the same lines."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TypeAlias, TypeVar

import pandas as pd

from cvntrade_assets.operations.global_state import State

_T = TypeVar("_T")

WATCHDOG = "cvntrade watchdog --once"
"""Looks from outside whether what computes the state is alive."""

NAMED = 8
"""Names in one line where the line is about something else than the names."""


class Tone(StrEnum):
    """How a line is to be taken."""

    PLAIN = "plain"
    TITLE = "title"
    GOOD = "good"
    WARNING = "warning"
    BAD = "bad"


@dataclass(frozen=True)
class Line:
    """One line.

    Attributes:
        text: What it says.
        depth: How far it is indented.
        command: To be pasted, and therefore on a line of its own below; empty without one.
        tone: How it is to be taken.
    """

    text: str
    depth: int = 0
    command: str = ""
    tone: Tone = Tone.PLAIN


@dataclass(frozen=True)
class Grid:
    """A table; its first three columns are names, which are not broken."""

    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


Part: TypeAlias = Line | Grid


@dataclass(frozen=True)
class Section:
    """What belongs together."""

    heading: str
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class Morning:
    """The whole check.

    Attributes:
        state: The global state; None when it is unknown.
        headline: The state in a line, and what it is about.
        sections: The rest, in the manual's order.
        needs_somebody: Whether something is to be resumed, or the state is ORANGE or RED.
    """

    state: State | None
    headline: tuple[Line, ...]
    sections: tuple[Section, ...]
    needs_somebody: bool


def grouped(items: Iterable[_T], key: Callable[[_T], object]) -> list[list[_T]]:
    """Items with the same key together, in the order in which the keys first come."""
    groups: dict[object, list[_T]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return list(groups.values())


def listed(names: Sequence[str], at_most: int | None) -> str:
    """Names in a line; those beyond `at_most` are counted, None names all."""
    if at_most is None or len(names) <= at_most:
        return ", ".join(names)
    return f"{', '.join(names[:at_most])} and {len(names) - at_most} more"


def moment(at: pd.Timestamp) -> str:
    """A moment to the minute."""
    return f"{at.tz_convert('UTC'):%Y-%m-%d %H:%M} UTC"


def masked(morning: Morning, mask: Callable[[str], str]) -> Morning:
    """The check with every text passed through a mask."""

    def line(each: Line) -> Line:
        return replace(each, text=mask(each.text), command=mask(each.command))

    def part(each: Part) -> Part:
        if isinstance(each, Line):
            return line(each)
        return replace(each, rows=tuple(tuple(mask(cell) for cell in row) for row in each.rows))

    sections = tuple(Section(section.heading, tuple(map(part, section.parts))) for section in morning.sections)
    return replace(morning, headline=tuple(map(line, morning.headline)), sections=sections)
