"""Data that a contract's rule must refuse: what it is, and how a function that makes it is registered."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pandas as pd


@dataclass(frozen=True)
class Tampered:
    """A value that must fail a rule.

    Attributes:
        value: What is published in place of the real value.
        message: What the rule must answer, word for word.
        provenance: Fields of the provenance to replace.
        summary: Entries of the manifest's summary to replace.
    """

    value: Any
    message: str
    provenance: dict[str, Any] | None = None
    summary: dict[str, Any] | None = None


@dataclass(frozen=True)
class Case:
    """A way to break one rule of one asset."""

    asset: str
    rule: str
    tamper: Callable[..., Tampered]

    def __str__(self) -> str:
        return f"{self.asset}-{self.rule}-{self.tamper.__name__}"


CASES: list[Case] = []


def breaks(asset: str, rule: str) -> Callable[[Callable[..., Tampered]], Callable[..., Tampered]]:
    """Register a function from an asset's Subject to data that must fail the rule."""

    def register(tamper: Callable[..., Tampered]) -> Callable[..., Tampered]:
        CASES.append(Case(asset, rule, tamper))
        return tamper

    return register


def with_cell(frame: pd.DataFrame, row: int, column: str, value: object) -> pd.DataFrame:
    """The frame with one cell changed."""
    changed = frame.copy()
    changed.iloc[row, changed.columns.get_loc(column)] = value
    return changed


def with_value(series: pd.Series, row: int, value: object) -> pd.Series:
    """The series with one value changed."""
    changed = series.copy()
    changed.iloc[row] = value
    return changed
