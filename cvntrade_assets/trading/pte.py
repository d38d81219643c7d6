"""Trade execution parameters: how far the stop and the target stand, and how long a trade may last."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Self, SupportsFloat

import numpy as np
import pandas as pd

HORIZON_HOURS = range(1, 7)
"""The horizons the house trades, in hours (H1 to H6)."""

_SPELLING = re.compile(r"H([0-9]+)_SL([0-9]+(?:\.[0-9]+)?)_TP([0-9]+(?:\.[0-9]+)?)")


class PteError(ValueError):
    """Trade execution parameters that are misspelt or out of range; the message says what is expected."""


@dataclass(frozen=True, order=True, slots=True)
class PTE:
    """One set of trade execution parameters, written `H4_SL1.0_TP2.0`.

    Attributes:
        horizon_hours: How long a trade may last, in whole hours from its entry, 1 to 6.
        stop_loss: Distance from entry to stop, in ATR multiples, positive and finite.
        take_profit: Distance from entry to target, in ATR multiples, positive and finite.

    Raises:
        PteError: A value is out of range.
    """

    horizon_hours: int
    stop_loss: float
    take_profit: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "horizon_hours", _checked_horizon(self.horizon_hours))
        object.__setattr__(self, "stop_loss", _checked_multiple("stop_loss", self.stop_loss))
        object.__setattr__(self, "take_profit", _checked_multiple("take_profit", self.take_profit))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `H<hours>_SL<multiple>_TP<multiple>`; `str` of the result is the one canonical spelling.

        Raises:
            PteError: The text has another form, or a value is out of range.
        """
        found = _SPELLING.fullmatch(text)
        if found is None:
            raise PteError(f"{text!r} is not a PTE: expected H<1..6>_SL<multiple>_TP<multiple>, like H4_SL1.0_TP2.0")
        return cls(int(found[1]), float(found[2]), float(found[3]))

    def __str__(self) -> str:
        return f"H{self.horizon_hours}_SL{_plain(self.stop_loss)}_TP{_plain(self.take_profit)}"

    @property
    def horizon(self) -> pd.Timedelta:
        """How long a trade may last, from its entry."""
        return pd.Timedelta(hours=self.horizon_hours)


@dataclass(frozen=True, slots=True)
class PteGrid:
    """Every combination of some horizons, stops and targets, in a fixed order.

    Iterating gives the PTEs with the take-profit turning fastest, then the stop-loss, then the horizon;
    arrays made over a grid have their rows in that order.

    Attributes:
        horizon_hours: Strictly increasing whole hours, each 1 to 6.
        stop_losses: Strictly increasing ATR multiples.
        take_profits: Strictly increasing ATR multiples.

    Raises:
        PteError: An axis is empty, not strictly increasing, or holds a value out of range.
    """

    horizon_hours: tuple[int, ...]
    stop_losses: tuple[float, ...]
    take_profits: tuple[float, ...]

    def __post_init__(self) -> None:
        hours = tuple(_checked_horizon(value) for value in self.horizon_hours)
        stops = tuple(_checked_multiple("stop_loss", value) for value in self.stop_losses)
        targets = tuple(_checked_multiple("take_profit", value) for value in self.take_profits)
        for name, axis in (("horizon_hours", hours), ("stop_losses", stops), ("take_profits", targets)):
            if not axis or any(low >= high for low, high in pairwise(axis)):
                raise PteError(f"PTE grid: {name} is {axis}: expected at least one value, strictly increasing")
            object.__setattr__(self, name, axis)

    def __len__(self) -> int:
        return len(self.horizon_hours) * len(self.stop_losses) * len(self.take_profits)

    def __iter__(self) -> Iterator[PTE]:
        for hours in self.horizon_hours:
            for stop in self.stop_losses:
                for target in self.take_profits:
                    yield PTE(hours, stop, target)


def _checked_horizon(value: int) -> int:
    try:
        hours = operator.index(value)
    except TypeError:
        hours = 0
    if isinstance(value, bool) or hours not in HORIZON_HOURS:
        raise PteError(f"PTE horizon is {value!r}: expected a whole number of hours from 1 to 6")
    return hours


def _checked_multiple(name: str, value: SupportsFloat) -> float:
    multiple = float(value)
    if not (math.isfinite(multiple) and multiple > 0):
        raise PteError(f"PTE {name} is {value!r}: expected a positive, finite multiple of ATR")
    return multiple


def _plain(multiple: float) -> str:
    """The shortest decimal that reads back as the same float, never in exponent form."""
    return np.format_float_positional(multiple, unique=True, trim="0")
