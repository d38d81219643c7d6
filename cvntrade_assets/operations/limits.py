"""Limits of signals: on which side of one a value lies, what that comes to, and how it is said.

A limit is a setting, and so is named where it is broken. No rounding error moves a value across.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import pandas as pd

from cvntrade_assets.operations.signals import Level, Observation, Scalar
from cvntrade_assets.settings import Settings
from cvntrade_assets.trading.gates import TOLERANCE, exceeds


class Side(StrEnum):
    """Where a value has to lie for the limit to be broken; the words say whether the limit itself breaks it."""

    MORE_THAN = "more than"
    AT_LEAST = "at least"
    LESS_THAN = "less than"
    AT_MOST = "at most"

    def holds(self, value: float, limit: float) -> bool:
        """Whether the value lies on this side of the limit."""
        return _HOLDS[self](value, limit)


_HOLDS: Mapping[Side, Callable[[float, float], bool]] = {
    Side.MORE_THAN: exceeds,
    Side.AT_LEAST: lambda value, limit: not exceeds(limit, value),
    Side.LESS_THAN: lambda value, limit: exceeds(limit, value),
    Side.AT_MOST: lambda value, limit: not exceeds(value, limit),
}


@dataclass(frozen=True)
class Limit:
    """One limit.

    Attributes:
        level: What breaking it comes to.
        side: Where it is broken.
        key: The setting that holds it; empty for a fixed one.
        fixed: The limit when no setting holds it.
    """

    level: Level
    side: Side
    key: str = ""
    fixed: float = 0.0

    def of(self, settings: Settings) -> float:
        """The number that holds."""
        return float(settings.text(self.key)) if self.key else self.fixed

    def said(self, settings: Settings, spell: Callable[[float], str]) -> str:
        """The limit in words, with the setting's name."""
        key = f" ({self.key})" if self.key else ""
        verdict = "is critical" if self.level is Level.CRITICAL else "warns"
        return f"{self.side} {spell(self.of(settings))} {verdict}{key}"


@dataclass(frozen=True)
class Measure:
    """What a signal is held against, the worst limit first, and how its values are spelt."""

    signal: str
    limits: Sequence[Limit]
    spell: Callable[[float], str]

    def observe(
        self,
        subject: str,
        value: float,
        what: str,
        settings: Settings,
        at: pd.Timestamp,
        inputs: Mapping[str, Scalar] | None = None,
    ) -> Observation:
        """Hold a value against the limits: the first that it breaks says how it stands.

        Args:
            subject: The crypto or job; empty for the platform.
            value: In the signal's unit.
            what: What was measured, with the value, in words.
            settings: With the limits.
            at: When it was observed, UTC.
            inputs: What it was computed from.
        """
        if not math.isfinite(value):
            return unknown(self.signal, subject, f"{what}: {value} is no number that can be judged", at, inputs)
        for limit in self.limits:
            if limit.side.holds(value, limit.of(settings)):
                reason = f"{what}: {limit.said(settings, self.spell)}"
                return Observation(self.signal, subject, value, limit.level, reason, at, inputs or {})
        last = self.limits[-1]
        reason = f"{what}: fine, {last.said(settings, self.spell)}"
        return Observation(self.signal, subject, value, Level.OK, reason, at, inputs or {})


def unknown(
    signal: str, subject: str, why: str, at: pd.Timestamp, inputs: Mapping[str, Scalar] | None = None
) -> Observation:
    """A signal that could not be computed, and why."""
    return Observation(signal, subject, None, Level.UNKNOWN, why, at, inputs or {})


def number(value: float) -> str:
    """Up to three decimals, or two digits of what is smaller; what is nothing but rounding is 0."""
    if abs(value) <= TOLERANCE:
        return "0"
    return f"{round(value, 3):.10g}" if abs(value) >= 0.0005 else f"{value:.2g}"


def count(of: int, noun: str) -> str:
    """How many, in words."""
    return f"{of} {noun}{'' if of == 1 else 's'}"


def percent(share: float) -> str:
    """A share of 1 in percent."""
    return f"{number(100 * share)} %"


def points(share: float) -> str:
    """A difference of two shares, in points of a hundred."""
    return f"{number(100 * share)} points"


def days(value: float) -> str:
    """A span of days; of less than one, in hours or minutes."""
    if abs(value) >= 1 or abs(value) <= TOLERANCE:
        return f"{number(value)} days"
    return f"{number(24 * value)} hours" if abs(value) >= 1 / 24 else f"{number(1440 * value)} minutes"
