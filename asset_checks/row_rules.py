"""What a frame's rows must keep, as pandera schemas, and which rows break it, readable.

Importing pandera takes longer than the definitions may take to load, so schemas are built when asked for. `violations`
validates a frame and tells an operator which rule is broken, by how many rows, and the first ones.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from asset_checks.breach import ALL_ROWS, SHOWN_OFFENDERS, Breach, Offender
from cvntrade_assets.market.candles import INDEX_DTYPE

if TYPE_CHECKING:
    import pandera.pandas as pa
    from pandera.errors import SchemaError, SchemaErrors

SHOWN_RULES = 5
SHOWN_ROWS = 3
SHOWN_NAMES = 8

_NAMES_COMPLAINTS = {
    "COLUMN_NOT_IN_DATAFRAME": "columns are missing",
    "COLUMN_NOT_IN_SCHEMA": "columns are unknown",
    "COLUMN_NOT_ORDERED": "columns are out of order",
    "WRONG_FIELD_NAME": "the index has another name",
}


@dataclass(frozen=True)
class RowRule:
    """Something that must hold of a frame's values.

    Attributes:
        demand: what is asked, as a sentence that an operator reads when it is broken.
        columns: the columns that it is about, shown with every breach; none for a rule about the index.
        holds: takes the frame; returns one flag per row, one per row and column, or a single one.
    """

    demand: str
    columns: tuple[str, ...]
    holds: Callable[[pd.DataFrame], Any]

    def check(self) -> pa.Check:
        """The rule as a pandera check with a single verdict; `first_violations` finds the rows again."""
        import pandera.pandas as pa

        return pa.Check(
            lambda frame: bool(np.all(self.holds(frame))),
            error=self.demand,
            statistics={"rule": self},
            ignore_na=False,
        )

    def breach(self, frame: pd.DataFrame) -> Breach:
        """How many rows break the rule, and the first of them."""
        kept = np.asarray(self.holds(frame))
        if kept.ndim == 0:
            return Breach(self.demand)
        broken = ~(kept if kept.ndim == 1 else kept.all(axis=1))
        rows = np.flatnonzero(broken)
        shown = "; ".join(self._row(frame, kept, int(row)) for row in rows[:SHOWN_ROWS])
        offenders = [each for row in rows[:SHOWN_OFFENDERS] for each in self._offenders(frame, kept, int(row))]
        message = f"{self.demand}: {rows.size} of {len(frame)} rows break this, first {shown}"
        return Breach(message, tuple(offenders[:SHOWN_OFFENDERS]))

    def _row(self, frame: pd.DataFrame, kept: Any, row: int) -> str:
        """One row as its time and the values that the rule is about, the broken ones if it can tell."""
        names = self._blamed(kept, row)
        values = ", ".join(f"{name} {frame[name].iloc[row]}" for name in names[:SHOWN_NAMES])
        more = f" and {len(names) - SHOWN_NAMES} more columns" if len(names) > SHOWN_NAMES else ""
        return f"{frame.index[row]}" + (f" ({values}{more})" if values else "")

    def _offenders(self, frame: pd.DataFrame, kept: Any, row: int) -> Iterator[Offender]:
        at = str(frame.index[row])
        names = self._blamed(kept, row)
        yield from (Offender(name, at, str(frame[name].iloc[row]), self.demand) for name in names)
        if not names:
            yield Offender(str(frame.index.name or "index"), at, at, self.demand)

    def _blamed(self, kept: Any, row: int) -> list[str]:
        return [name for i, name in enumerate(self.columns) if kept.ndim == 1 or not kept[row, i]]


def timed_schema(name: str, types: Mapping[str, str], rules: Sequence[RowRule]) -> pa.DataFrameSchema:
    """Exactly these columns in this order, index open_time in UTC and strictly increasing, and the rules."""
    import pandera.pandas as pa

    some = RowRule("there must be rows", (), lambda frame: len(frame) > 0)
    increasing = RowRule("open_time must be strictly increasing", (), _strictly_increasing)
    index = pa.Index(INDEX_DTYPE, name="open_time", nullable=True)
    return _schema(name, types, (some, increasing, *rules), index)


def plain_schema(name: str, types: Mapping[str, str], rules: Sequence[RowRule]) -> pa.DataFrameSchema:
    """Exactly these columns in this order, and the rules; the index only says how a row is called."""
    return _schema(name, types, rules, None)


def record_schema(name: str, types: Mapping[str, str], rules: Sequence[RowRule]) -> pa.DataFrameSchema:
    """What is no table, as a table of one row: exactly these fields, in any order, and the rules."""
    one = RowRule("there must be one row", (), lambda frame: len(frame) == 1)
    return _schema(name, types, (one, *rules), None, ordered=False)


def _schema(
    name: str, types: Mapping[str, str], rules: Sequence[RowRule], index: pa.Index | None, *, ordered: bool = True
) -> pa.DataFrameSchema:
    """Missing values are left to the rules, which all fail on them and show the row."""
    import pandera.pandas as pa

    return pa.DataFrameSchema(
        {column: pa.Column(dtype, nullable=True) for column, dtype in types.items()},
        index=index,
        checks=[rule.check() for rule in rules],
        strict=True,
        ordered=ordered,
        name=name,
    )


def finite(columns: Sequence[str]) -> RowRule:
    """No missing and no infinite number in these columns."""
    names = list(columns)
    return RowRule("values must be finite", tuple(names), lambda frame: _finite(frame, names))


def _finite(frame: pd.DataFrame, names: list[str]) -> Any:
    # A wide frame is asked as one block; only one that lacks or mixes columns is picked from.
    values = frame if list(frame.columns) == names else frame[names]
    return np.isfinite(values.to_numpy())


def one_of(column: str, values: Sequence[Any]) -> RowRule:
    """Only these values in this column."""
    listed = ", ".join(str(value) for value in values)
    return RowRule(f"{column} must be one of {listed}", (column,), lambda frame: frame[column].isin(values))


def within(column: str, low: float, high: float, *, optional: bool = False) -> RowRule:
    """Only values from `low` to `high` in this column, both included; missing ones too when it is optional."""
    demand = f"{column} must lie within {low:g} to {high:g}" + (" where it is defined" if optional else "")
    return RowRule(
        demand, (column,), lambda frame: frame[column].between(low, high) | (optional & frame[column].isna())
    )


def violations(schema: pa.DataFrameSchema, frame: pd.DataFrame) -> Breach | None:
    """Return which rules a frame breaks, readable, or None when it breaks none; nothing is coerced."""
    from pandera.errors import SchemaErrors

    with warnings.catch_warnings():
        # pandera joins its own table of failures in a way that pandas warns about.
        warnings.simplefilter("ignore", FutureWarning)
        try:
            schema.validate(frame, lazy=True, inplace=True)  # nothing is coerced: no copy is needed
        except SchemaErrors as error:
            return first_violations(error)
    return None


def first_violations(error: SchemaErrors) -> Breach:
    """Say which rules are broken, one a line, with the first offending rows; columns and types come first."""
    found: list[SchemaError] = list(error.schema_errors)
    broken = [_rule_breach(one, rule, error.data) for one in found if (rule := _rule(one)) is not None]
    breaches = [*_name_breaches(found), *_type_breaches(found, error.data), *broken]
    lines = [breach.message for breach in breaches[:SHOWN_RULES]]
    if len(breaches) > len(lines):
        lines.append(f"and {len(breaches) - len(lines)} more")
    message = "\n".join([f"the {error.schema.name} break their schema:", *(f"- {line}" for line in lines)])
    return Breach(message, tuple(_in_turn([breach.offenders for breach in breaches])))


def _in_turn(offenders: Sequence[Sequence[Offender]]) -> Iterator[Offender]:
    """The first of every rule, then the second of every rule: one that a whole table breaks hides no other."""
    for place in range(max((len(each) for each in offenders), default=0)):
        yield from (each[place] for each in offenders if place < len(each))


def _strictly_increasing(frame: pd.DataFrame) -> Any:
    times = frame.index.to_series()
    return ((times.diff() > pd.Timedelta(0)) | (np.arange(len(times)) == 0)) & times.notna()


def _reason(one: SchemaError) -> str:
    return one.reason_code.name if one.reason_code is not None else ""


def _rule(one: SchemaError) -> RowRule | None:
    statistics = getattr(one.check, "statistics", None) or {}
    return statistics.get("rule")


def _name_breaches(found: Sequence[SchemaError]) -> Iterator[Breach]:
    for reason, complaint in _NAMES_COMPLAINTS.items():
        names = [str(_cases(one)[0]) for one in found if _reason(one) == reason]
        if names:
            more = f" and {len(names) - SHOWN_NAMES} more" if len(names) > SHOWN_NAMES else ""
            offenders = tuple(
                Offender(name, ALL_ROWS, complaint, "the declared names in their order") for name in names
            )
            yield Breach(f"{complaint}: {', '.join(names[:SHOWN_NAMES])}{more}", offenders)


def _type_breaches(found: Sequence[SchemaError], frame: pd.DataFrame) -> Iterator[Breach]:
    """Wrong types in one line; anything else that pandera itself complains about follows as it says it."""
    wrong = [one for one in found if _reason(one) == "WRONG_DATATYPE"]
    actual = {"open_time": frame.index.dtype, **frame.dtypes}
    types = [f"{one.schema.name} is {actual[one.schema.name]}, expected {one.schema.dtype}" for one in wrong]
    if types:
        more = f" and {len(types) - SHOWN_NAMES} more" if len(types) > SHOWN_NAMES else ""
        offenders = tuple(
            Offender(str(one.schema.name), ALL_ROWS, str(actual[one.schema.name]), str(one.schema.dtype))
            for one in wrong
        )
        yield Breach(f"types are wrong: {'; '.join(types[:SHOWN_NAMES])}{more}", offenders)
    known = {*_NAMES_COMPLAINTS, "WRONG_DATATYPE"}
    others = [one for one in found if _reason(one) not in known and _rule(one) is None]
    yield from (Breach(str(one).splitlines()[0]) for one in others)


def _cases(one: SchemaError) -> list[Any]:
    cases = one.failure_cases
    return list(cases["failure_case"]) if isinstance(cases, pd.DataFrame) else [cases]


def _rule_breach(one: SchemaError, rule: RowRule, frame: pd.DataFrame) -> Breach:
    if _reason(one) == "CHECK_ERROR":
        return Breach(f"could not be checked: {rule.demand} ({_cases(one)[0]})")
    return rule.breach(frame)
