"""Schemas of what backtests and walk-forward tests leave behind: trades, equity, folds, steps, predictions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from asset_checks.row_rules import RowRule, finite, one_of, plain_schema, timed_schema, within
from cvntrade_assets.market.candles import INDEX_DTYPE
from cvntrade_assets.trading.cost_levels import level_column

if TYPE_CHECKING:
    import pandera.pandas as pa

OPEN = "open"
EXIT_KINDS = ("tp", "sl", "timeout")
RETURN_TOLERANCE = 1e-12
NEVER = 2.0
"""The threshold that no probability reaches."""


def trades_schema(levels: Sequence[float]) -> pa.DataFrameSchema:
    """One row a trade, in order and one at a time: its moments, prices, exit, and its return at every cost level.

    Args:
        levels: Multiples of the costs, increasing.
    """
    nets = tuple(f"net_return_{level_column(level)}" for level in levels)
    types = {
        **dict.fromkeys(("signal_time", "entry_time", "exit_time"), INDEX_DTYPE),
        **dict.fromkeys(("entry_price", "exit_price"), "float64"),
        "exit_kind": "category",
        "ambiguous": "bool",
        **dict.fromkeys(("gross_return", *nets), "float64"),
    }
    prices = ["entry_price", "exit_price"]
    rules = [
        finite(("entry_price", "exit_price", "gross_return", *nets)),
        RowRule("prices must be positive", ("entry_price", "exit_price"), lambda t: t[prices] > 0),
        one_of("exit_kind", (*EXIT_KINDS, OPEN)),
        RowRule("entry must be at the signal, exit after it", ("entry_time", "exit_time"), _in_turn),
        RowRule("a trade must begin when the last one has ended", ("entry_time", "exit_time"), _one_at_a_time),
        RowRule("only the last trade may be open", ("exit_kind",), lambda t: (t["exit_kind"] != OPEN) | _is_last(t)),
        RowRule("gross_return must be exit over entry", ("entry_price", "exit_price", "gross_return"), _gross_fits),
        RowRule("a target must earn and a stop must lose", ("exit_kind", "gross_return"), _returns_fit),
        RowRule("what costs more must earn less", nets, lambda t: _falling(t, nets)),
    ]
    return plain_schema("trades", types, rules)


def equity_schema(levels: Sequence[float], *, held: bool = False) -> pa.DataFrameSchema:
    """Equity per candle and cost level, and whether something was held; of buy-and-hold without the latter.

    Args:
        levels: Multiples of the costs.
        held: Whether it is the equity of buying once and holding.
    """
    columns = [level_column(level) for level in levels]
    types = dict.fromkeys(columns, "float64") | ({} if held else {"in_position": "bool"})
    rules = [
        finite(tuple(columns)),
        RowRule("equity must be positive", tuple(columns), lambda e: e[columns] > 0),
    ]
    return timed_schema("buy and hold" if held else "equity", types, rules)


def test_predictions_schema(*, binary: bool) -> pa.DataFrameSchema:
    """Every labelled candle of a test period with its truth, its score, its probability and what was made of that."""
    types = {
        "label": "int8",
        "return": "float64",
        "exit_kind": "category",
        **dict.fromkeys(("entry_time", "exit_time"), INDEX_DTYPE),
        **dict.fromkeys(("score", "probability"), "float64"),
        "predicted": "bool",
        "signal": "bool",
    }
    rules = [
        one_of("label", (0, 1) if binary else (-1, 0, 1)),
        one_of("exit_kind", EXIT_KINDS),
        finite(("return",)),
        within("score", 0.0, 1.0),
        within("probability", 0.0, 1.0),
        RowRule("entry must follow the signal, exit the entry", ("entry_time", "exit_time"), _spans_follow),
    ]
    return timed_schema("predictions", types, rules)


def folds_schema(number: str) -> pa.DataFrameSchema:
    """The folds or steps of every candidate: past before period, periods one after the other, and what they found.

    Args:
        number: What counts them: `fold` or `step`.
    """
    starts = ["train", "validation", "calibration", "test"]
    types = {
        "pte": "object",
        number: "int64",
        **dict.fromkeys((*starts, "end"), INDEX_DTYPE),
        "train_rows": "int64",
        **dict.fromkeys(("threshold", "trade_threshold"), "float64"),
    }
    moments = (*starts, "end")
    rules = [
        RowRule(f"there must be a {number}", (), lambda f: len(f) > 0),
        RowRule(f"a candidate's {number}s must count from 1", ("pte", number), lambda f: _counts(f, number)),
        RowRule("the past must lie before the test period, slice after slice", moments, lambda f: _rising(f, moments)),
        RowRule("test periods must lie back to back", ("test", "end"), _back_to_back),
        RowRule("there must be training rows", ("train_rows",), lambda f: f["train_rows"] > 0),
        within("threshold", 0.0, NEVER),
        within("trade_threshold", 0.0, NEVER),
    ]
    return plain_schema(f"{number}s", types, rules)


test_predictions_schema.__test__ = False  # type: ignore[attr-defined]  # pytest takes names with test_ for tests


def _is_last(trades: pd.DataFrame) -> Any:
    return np.arange(len(trades)) == len(trades) - 1


def _in_turn(trades: pd.DataFrame) -> Any:
    return (trades["entry_time"] == trades["signal_time"]) & (trades["exit_time"] > trades["entry_time"])


def _one_at_a_time(trades: pd.DataFrame) -> Any:
    return (trades["entry_time"] >= trades["exit_time"].shift()) | (np.arange(len(trades)) == 0)


def _gross_fits(trades: pd.DataFrame) -> Any:
    gross = trades["exit_price"] / trades["entry_price"] - 1.0
    return (gross - trades["gross_return"]).abs() <= RETURN_TOLERANCE


def _returns_fit(trades: pd.DataFrame) -> Any:
    kind, gain = trades["exit_kind"], trades["gross_return"]
    return ((kind != "tp") | (gain > 0)) & ((kind != "sl") | (gain < 0)) & (gain > -1)


def _falling(trades: pd.DataFrame, nets: Sequence[str]) -> Any:
    return (np.diff(trades[list(nets)].to_numpy(), axis=1) <= 0).all(axis=1)


def _spans_follow(rows: pd.DataFrame) -> Any:
    return (rows["entry_time"] > rows.index) & (rows["exit_time"] > rows["entry_time"])


def _counts(folds: pd.DataFrame, number: str) -> Any:
    return folds[number] == folds.groupby("pte", sort=False).cumcount() + 1


def _rising(folds: pd.DataFrame, moments: Sequence[str]) -> Any:
    times = folds[list(moments)].to_numpy(dtype="datetime64[ns]")
    return (np.diff(times, axis=1) > np.timedelta64(0)).all(axis=1)


def _back_to_back(folds: pd.DataFrame) -> Any:
    before = folds.groupby("pte", sort=False)["end"].shift()
    return (folds["test"] == before) | before.isna()
