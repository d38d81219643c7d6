"""Schemas: what each tabular asset promises of its columns, types, order and values, as pandera schemas.

They are built when asked for, since importing pandera takes longer than the definitions may take to load.
`violations` validates a frame and tells an operator which rule is broken, by how many rows, and the first
ones.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from cvntrade_assets.learning.splits import SLICES
from cvntrade_assets.market.candles import INDEX_DTYPE, NUMBERS, PRICES

if TYPE_CHECKING:
    import pandera.pandas as pa
    from pandera.errors import SchemaError, SchemaErrors

EXIT_KINDS = ("tp", "sl", "timeout")
LABELS = (-1, 0, 1)
BINARY_LABELS = (0, 1)
MEAN_WEIGHT_TOLERANCE = 1e-6
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

    def broken_rows(self, frame: pd.DataFrame) -> str:
        """Say how many rows break the rule and show the first of them."""
        kept = np.asarray(self.holds(frame))
        if kept.ndim == 0:
            return self.demand
        broken = ~(kept if kept.ndim == 1 else kept.all(axis=1))
        rows = np.flatnonzero(broken)
        shown = "; ".join(self._row(frame, kept, int(row)) for row in rows[:SHOWN_ROWS])
        return f"{self.demand}: {rows.size} of {len(frame)} rows break this, first {shown}"

    def _row(self, frame: pd.DataFrame, kept: Any, row: int) -> str:
        """One row as its time and the values that the rule is about, the broken ones if it can tell."""
        names = [name for i, name in enumerate(self.columns) if kept.ndim == 1 or not kept[row, i]]
        values = ", ".join(f"{name} {frame[name].iloc[row]}" for name in names[:SHOWN_NAMES])
        more = f" and {len(names) - SHOWN_NAMES} more columns" if len(names) > SHOWN_NAMES else ""
        return f"{frame.index[row]}" + (f" ({values}{more})" if values else "")


def candles_schema(interval: pd.Timedelta) -> pa.DataFrameSchema:
    """Candle frame of one timeframe: positive consistent prices, times strictly increasing on the grid."""
    types = dict.fromkeys(NUMBERS, "float64") | {"complete": "bool"}
    prices = list(PRICES)
    rules = [
        RowRule(f"open_time must be a multiple of {interval} since 1970", (), lambda c: _on_grid(c, interval)),
        _finite(NUMBERS),
        RowRule("prices must be positive", PRICES, lambda c: c[prices] > 0),
        RowRule("volume must not be negative", ("volume",), lambda c: c["volume"] >= 0),
        RowRule("high must be the highest price", PRICES, lambda c: c["high"] >= c[prices].max(axis=1)),
        RowRule("low must be the lowest price", PRICES, lambda c: c["low"] <= c[prices].min(axis=1)),
    ]
    return _schema("candles", types, rules)


def features_schema(names: Iterable[str] | None = None) -> pa.DataFrameSchema:
    """Feature frame: float32, finite, the declared names in the declared order, or the names given."""
    from cvntrade_assets.learning.features import FEATURE_NAMES

    declared = tuple(FEATURE_NAMES if names is None else names)
    return _schema("features", dict.fromkeys(declared, "float32"), [_finite(declared)])


def labels_schema(*, binary: bool = False) -> pa.DataFrameSchema:
    """Labels frame, one row per decided candle; labels are 0 and 1 when `binary`, else -1, 0 and 1."""
    return _schema("labels", _LABEL_TYPES, _label_rules(binary))


def targets_schema(*, binary: bool = False) -> pa.DataFrameSchema:
    """Targets of a training set: the labels' columns, a weight and a slice; slices in time order."""
    types = _LABEL_TYPES | {"weight": "float64", "slice": "category"}
    listed = ", ".join(SLICES)
    rules = [
        *_label_rules(binary),
        _one_of("slice", SLICES),
        _finite(("weight",)),
        RowRule("weight must be positive", ("weight",), lambda t: t["weight"] > 0),
        RowRule("weight must be 1 outside the train slice", ("weight", "slice"), _plain_outside_train),
        RowRule("weights of the train slice must have mean 1", (), _train_weights_average_one),
        RowRule(f"every slice must hold rows ({listed})", (), lambda t: set(SLICES) <= set(t["slice"])),
        RowRule(f"slices must follow each other in time ({listed})", ("slice",), _slices_follow),
    ]
    return _schema("targets", types, rules)


def violations(schema: pa.DataFrameSchema, frame: pd.DataFrame) -> str | None:
    """Return which rules a frame breaks, readable, or None when it breaks none; nothing is coerced."""
    from pandera.errors import SchemaErrors

    with warnings.catch_warnings():
        # pandera joins its own table of failures in a way that pandas warns about.
        warnings.simplefilter("ignore", FutureWarning)
        try:
            schema.validate(frame, lazy=True)
        except SchemaErrors as error:
            return first_violations(error)
    return None


def first_violations(error: SchemaErrors) -> str:
    """Say which rules are broken, one a line, with the first offending rows; columns and types come first."""
    found: list[SchemaError] = list(error.schema_errors)
    lines = [*_name_lines(found), *_type_lines(found, error.data)]
    lines += [_rule_line(one, rule, error.data) for one in found if (rule := _rule(one)) is not None]
    shown = lines[:SHOWN_RULES]
    if len(lines) > len(shown):
        shown.append(f"and {len(lines) - len(shown)} more")
    return "\n".join([f"the {error.schema.name} break their schema:", *(f"- {line}" for line in shown)])


def _schema(name: str, types: dict[str, str], rules: Sequence[RowRule]) -> pa.DataFrameSchema:
    """Exactly these columns in this order, index open_time in UTC and strictly increasing, and the rules.

    Missing values are left to the rules, which all fail on them and show the row.
    """
    import pandera.pandas as pa

    some = RowRule("there must be rows", (), lambda frame: len(frame) > 0)
    increasing = RowRule("open_time must be strictly increasing", (), _strictly_increasing)
    return pa.DataFrameSchema(
        {column: pa.Column(dtype, nullable=True) for column, dtype in types.items()},
        index=pa.Index(INDEX_DTYPE, name="open_time", nullable=True),
        checks=[rule.check() for rule in (some, increasing, *rules)],
        strict=True,
        ordered=True,
        name=name,
    )


_LABEL_TYPES = {
    "label": "int8",
    "return": "float64",
    "exit_kind": "category",
    "entry_time": INDEX_DTYPE,
    "exit_time": INDEX_DTYPE,
    "ambiguous": "bool",
}


def _label_rules(binary: bool) -> list[RowRule]:
    return [
        _one_of("label", BINARY_LABELS if binary else LABELS),
        _one_of("exit_kind", EXIT_KINDS),
        _finite(("return",)),
        RowRule("label must be 1 for exit kind tp and no other", ("label", "exit_kind"), _buy_is_target),
        RowRule("a target must earn and a stop must lose", ("exit_kind", "return"), _returns_fit_exits),
        RowRule("entry must follow the signal, exit the entry", ("entry_time", "exit_time"), _spans_follow),
    ]


def _finite(columns: tuple[str, ...]) -> RowRule:
    return RowRule("values must be finite", columns, lambda frame: np.isfinite(frame[list(columns)]))


def _one_of(column: str, values: Sequence[Any]) -> RowRule:
    listed = ", ".join(str(value) for value in values)
    return RowRule(f"{column} must be one of {listed}", (column,), lambda frame: frame[column].isin(values))


def _strictly_increasing(frame: pd.DataFrame) -> Any:
    times = frame.index.to_series()
    return ((times.diff() > pd.Timedelta(0)) | (np.arange(len(times)) == 0)) & times.notna()


def _on_grid(frame: pd.DataFrame, interval: pd.Timedelta) -> Any:
    times = frame.index.to_series()
    return times == times.dt.floor(f"{interval // pd.Timedelta(seconds=1)}s")


def _buy_is_target(labels: pd.DataFrame) -> Any:
    return (labels["label"] == 1) == (labels["exit_kind"] == "tp")


def _spans_follow(labels: pd.DataFrame) -> Any:
    return (labels["entry_time"] > labels.index) & (labels["exit_time"] > labels["entry_time"])


def _returns_fit_exits(labels: pd.DataFrame) -> Any:
    kind, gain = labels["exit_kind"], labels["return"]
    return ((kind != "tp") | (gain > 0)) & ((kind != "sl") | (gain < 0)) & (gain > -1)


def _plain_outside_train(targets: pd.DataFrame) -> Any:
    return (targets["weight"] == 1.0) | (targets["slice"] == "train")


def _train_weights_average_one(targets: pd.DataFrame) -> bool:
    mean = targets.loc[targets["slice"] == "train", "weight"].mean()
    return bool(abs(mean - 1.0) <= MEAN_WEIGHT_TOLERANCE)


def _slices_follow(targets: pd.DataFrame) -> Any:
    order = targets["slice"].astype(object).map({name: number for number, name in enumerate(SLICES)})
    return order >= order.cummax()


def _reason(one: SchemaError) -> str:
    return one.reason_code.name if one.reason_code is not None else ""


def _rule(one: SchemaError) -> RowRule | None:
    statistics = getattr(one.check, "statistics", None) or {}
    return statistics.get("rule")


def _name_lines(found: Sequence[SchemaError]) -> list[str]:
    lines = []
    for reason, complaint in _NAMES_COMPLAINTS.items():
        names = [str(_cases(one)[0]) for one in found if _reason(one) == reason]
        if names:
            more = f" and {len(names) - SHOWN_NAMES} more" if len(names) > SHOWN_NAMES else ""
            lines.append(f"{complaint}: {', '.join(names[:SHOWN_NAMES])}{more}")
    return lines


def _type_lines(found: Sequence[SchemaError], frame: pd.DataFrame) -> list[str]:
    """Wrong types in one line; anything else that pandera itself complains about follows as it says it."""
    wrong = [one for one in found if _reason(one) == "WRONG_DATATYPE"]
    actual = {"open_time": frame.index.dtype, **frame.dtypes}
    types = [f"{one.schema.name} is {actual[one.schema.name]}, expected {one.schema.dtype}" for one in wrong]
    more = f" and {len(types) - SHOWN_NAMES} more" if len(types) > SHOWN_NAMES else ""
    lines = [f"types are wrong: {'; '.join(types[:SHOWN_NAMES])}{more}"] if types else []
    known = {*_NAMES_COMPLAINTS, "WRONG_DATATYPE"}
    others = [one for one in found if _reason(one) not in known and _rule(one) is None]
    return lines + [str(one).splitlines()[0] for one in others]


def _cases(one: SchemaError) -> list[Any]:
    cases = one.failure_cases
    return list(cases["failure_case"]) if isinstance(cases, pd.DataFrame) else [cases]


def _rule_line(one: SchemaError, rule: RowRule, frame: pd.DataFrame) -> str:
    if _reason(one) == "CHECK_ERROR":
        return f"could not be checked: {rule.demand} ({_cases(one)[0]})"
    return rule.broken_rows(frame)
