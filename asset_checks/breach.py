"""What breaks a rule: a sentence for an operator, and the first values that are to blame, to be shown as a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import dagster as dg
import numpy as np
import pandas as pd

SHOWN_OFFENDERS = 20
"""Values in the table; the sentence says how many there are."""
ALL_ROWS = "every row"


@dataclass(frozen=True)
class Offender:
    """One value that is to blame: its column, its row (a time, where rows have one), and what was demanded of it."""

    column: str
    row: str
    value: str
    demand: str


@dataclass(frozen=True)
class Breach:
    """Why a rule is broken.

    Attributes:
        message: What is wrong, where, and what was expected.
        offenders: The first values to blame; empty when no single value is.
        warns: The breach informs and stops nothing, although its rule blocks.
    """

    message: str
    offenders: Sequence[Offender] = ()
    warns: bool = False

    @property
    def table(self) -> dg.TableMetadataValue | None:
        """The offenders, for the UI; None when there are none."""
        if not self.offenders:
            return None
        columns = [dg.TableColumn(name, "string") for name in ("column", "row", "value", "demand")]
        records = [
            dg.TableRecord({"column": each.column, "row": each.row, "value": each.value, "demand": each.demand})
            for each in self.offenders[:SHOWN_OFFENDERS]
        ]
        return dg.MetadataValue.table(records, dg.TableSchema(columns=columns))


def broken_rows(
    values: pd.DataFrame | pd.Series[Any], wrong: np.ndarray[Any, np.dtype[np.bool_]], complaint: str, demand: str
) -> Breach | None:
    """The breach of the flagged rows, or None when none is flagged.

    Args:
        values: What the rule is about, a column or several, indexed as an operator knows the rows.
        wrong: A flag for every row.
        complaint: Follows "12 rows, the first at 2025-01-01 00:00:00+00:00".
        demand: What was asked of the values.
    """
    if not wrong.any():
        return None
    first = values.index[int(np.argmax(wrong))]
    return Breach(f"{int(wrong.sum())} rows, the first at {first} {complaint}", blame(values, wrong, demand))


def blame(
    values: pd.DataFrame | pd.Series[Any], wrong: np.ndarray[Any, np.dtype[np.bool_]], demand: str
) -> tuple[Offender, ...]:
    """The first flagged rows, a line for each of their columns."""
    table = pd.DataFrame(values)
    rows = np.flatnonzero(wrong)[:SHOWN_OFFENDERS]
    return tuple(
        Offender(str(name), str(table.index[row]), str(table[name].iloc[row]), demand)
        for row in rows
        for name in table.columns
    )[:SHOWN_OFFENDERS]


def rows_only_in(given: pd.Index[Any], other: pd.Index[Any], value: str, demand: str) -> tuple[Offender, ...]:
    """The first rows of one index that the other lacks."""
    missing = given.difference(other)[:SHOWN_OFFENDERS]
    return tuple(Offender(str(given.name or "row"), str(row), value, demand) for row in missing)
