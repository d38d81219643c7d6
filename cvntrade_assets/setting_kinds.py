"""The kinds of value a setting can have: how each is read from text, checked and written back."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import pandas as pd

SettingValue = bool | int | float | str | None

CHANNELS = ("slack", "sms", "mail")
"""Where alerts can go."""

_OR_EMPTY = " (or empty: not set)"
# Python also reads 1_0 as 10, and digits of any script.
_PLAIN_WHOLE = re.compile(r"[+-]?[0-9]{1,18}")
_PLAIN_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,4})?")
_SHORTEST_REASON = 20
# `@name`, but not the host of an address; or `approved by NAME`.
_APPROVER = re.compile(r"(?<![\w.@])@[^\W\d_]\w*|\bapproved by:?\s+@?[^\W\d_]\w*", re.IGNORECASE)
_HORIZON = re.compile(r"H[1-6]")
_GROUP = re.compile(r"[a-z0-9][a-z0-9_-]{0,40}")
_MOMENT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(T[0-9]{2}:[0-9]{2}(:[0-9]{2})?(Z|[+-][0-9]{2}:[0-9]{2})?)?")


class Kind(Protocol):
    """Reads one textual value; `expected` says in words what it accepts."""

    @property
    def expected(self) -> str:
        """What a valid value looks like, for error messages and `cvntrade settings show`."""

    def read(self, text: str) -> SettingValue:
        """The value, or ValueError when the text is not one."""


@dataclass(frozen=True)
class Flag:
    """1 or 0; `true`/`false`, `on`/`off` and `yes`/`no` read as the same."""

    expected: str = "1 or 0"

    def read(self, text: str) -> bool:
        """True or False; ValueError for anything else."""
        words = {
            "1": True,
            "true": True,
            "on": True,
            "yes": True,
            "0": False,
            "false": False,
            "off": False,
            "no": False,
        }
        if text.lower() not in words:
            raise ValueError(text)
        return words[text.lower()]


@dataclass(frozen=True)
class Whole:
    """A whole number within [low, high]; `optional` also accepts the empty text, meaning "not set"."""

    low: int
    high: int
    optional: bool = False

    @property
    def expected(self) -> str:
        """The range in words."""
        return f"a whole number from {self.low} to {self.high}" + (_OR_EMPTY if self.optional else "")

    def read(self, text: str) -> int | None:
        """The number, None for an empty optional one; ValueError when it is not whole or outside the range."""
        if self.optional and text == "":
            return None
        if not _PLAIN_WHOLE.fullmatch(text):
            raise ValueError(text)
        value = int(text)
        if not self.low <= value <= self.high:
            raise ValueError(text)
        return value


@dataclass(frozen=True)
class Number:
    """A finite number within [low, high]; `optional` also accepts the empty text, meaning "not set"."""

    low: float
    high: float
    optional: bool = False

    @property
    def expected(self) -> str:
        """The range in words."""
        return f"a number from {self.low:g} to {self.high:g}" + (_OR_EMPTY if self.optional else "")

    def read(self, text: str) -> float | None:
        """The number, None for an empty optional one; ValueError when not finite or outside the range."""
        if self.optional and text == "":
            return None
        if not _PLAIN_NUMBER.fullmatch(text):
            raise ValueError(text)
        value = float(text)
        if not math.isfinite(value) or not self.low <= value <= self.high:
            raise ValueError(text)
        # -0.0 becomes 0.0: they are one value and must be one version.
        return value + 0.0


@dataclass(frozen=True)
class Choice:
    """One of a few words."""

    words: tuple[str, ...]

    @property
    def expected(self) -> str:
        """The words."""
        return "one of " + ", ".join(self.words)

    def read(self, text: str) -> str:
        """The word itself; ValueError for any other."""
        if text not in self.words:
            raise ValueError(text)
        return text


@dataclass(frozen=True)
class Moment:
    """A UTC date or time, or `now`, which is replaced by the wall clock once, when a run resolves its settings."""

    expected: str = "a UTC date or time such as 2025-09-01, 2025-09-01T12:30 or 2025-09-01T14:30:00+02:00, or `now`"

    def read(self, text: str) -> str:
        """The moment in ISO form with a Z (or `now`); ValueError when it is not a time."""
        if text == "now":
            return text
        # Only one form: what else is taken for a time is often a mistyped one.
        if not _MOMENT.fullmatch(text):
            raise ValueError(text)
        moment = pd.Timestamp(text)
        utc = moment.tz_localize("UTC") if moment.tzinfo is None else moment.tz_convert("UTC")
        return utc.isoformat().replace("+00:00", "Z")


@dataclass(frozen=True)
class Written:
    """Text with a form of its own, checked by a function that raises ValueError and returns the canonical text."""

    expected: str
    canonical: Callable[[str], str]

    def read(self, text: str) -> str:
        """The canonical text; ValueError when the form is wrong."""
        return self.canonical(text)


def web_address(text: str) -> str:
    """An http or https address without a trailing slash.

    Raises ValueError for anything else, and for an address that carries a user or password: settings are shown in run
    config and metadata, where a secret must never stand.
    """
    if not re.match(r"^https?://[^/@:?#\s][^/@?#\s]*(/[^@?#\s]*)?$", text, re.IGNORECASE):
        raise ValueError("not a web address, or one that carries a user or password")
    return text.rstrip("/")


def archive_address(text: str) -> str:
    """A web address, a file:// address or a folder, without a trailing slash.

    Raises ValueError as `web_address` does; a file:// address names no host, or localhost.
    """
    if "://" not in text and text and not re.search(r"[\n\r\t]", text):
        return text.rstrip("/") or "/"
    if re.match(r"^file://(localhost)?/\S+$", text, re.IGNORECASE):
        return text.rstrip("/")
    return web_address(text)


def override_reason(text: str) -> str:
    """Why a guardrail is overridden, on one line; the empty text means that none is.

    Raises ValueError when it is too short to say why, or names nobody who approved.
    """
    line = " ".join(text.split())
    if line and (len(line) < _SHORTEST_REASON or not _APPROVER.search(line)):
        raise ValueError("no reason, or nobody who approved")
    return line


def approver(reason: str) -> str | None:
    """Who approved, as the reason for an override names them; None when it names nobody."""
    found = _APPROVER.search(reason)
    return None if found is None else found[0].split()[-1]


def increasing(values: Sequence[float]) -> Sequence[float]:
    """The values themselves; ValueError when they are not strictly increasing."""
    if any(low >= high for low, high in pairwise(values)):
        raise ValueError(", ".join(map(str, values)))
    return values


def horizon_list(text: str) -> str:
    """Canonical spelling of increasing horizons H1 to H6; ValueError for anything else."""
    words = [part.strip().upper() for part in text.split(",")]
    if not all(_HORIZON.fullmatch(word) for word in words):
        raise ValueError(text)
    return ",".join(f"H{int(hours)}" for hours in increasing([float(word[1:]) for word in words]))


def cost_levels(text: str) -> str:
    """Canonical spelling of increasing multiples from 0 to 10 that hold 1; ValueError for anything else."""
    kind = Number(0.0, 10.0)
    values = increasing([float(str(kind.read(part.strip()))) for part in text.split(",")])
    if 1.0 not in values:
        raise ValueError(text)
    return ",".join(f"{value:g}" for value in values)


def group_list(text: str) -> str:
    """Names of groups, comma-separated; ValueError when one is none."""
    names = [part.strip() for part in text.split(",")]
    if len(set(names)) < len(names) or not all(_GROUP.fullmatch(name) for name in names):
        raise ValueError(text)
    return ",".join(names)


def channel_list(text: str) -> str:
    """Channels of alerts in the order in which they are tried; ValueError when one is none, or named twice."""
    names = [part.strip() for part in text.split(",")]
    if len(set(names)) < len(names) or not set(names) <= set(CHANNELS):
        raise ValueError(text)
    return ",".join(names)
