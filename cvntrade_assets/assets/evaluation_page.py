"""The page of one crypto's evaluation: its pictures, and its tables of candidates, folds, gates and findings."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import dagster as dg
import pandas as pd

from cvntrade_assets.assets.page import picture, table
from cvntrade_assets.assets.stage import Summary
from cvntrade_assets.operations.correlation_data import CorrelationData, Duration
from resources.evaluation_codecs import StoredEvaluation

if TYPE_CHECKING:
    from cvntrade_assets.learning.rolling import Rolled
    from cvntrade_assets.learning.walk_forward import Tested

# What is seen in the order in which it is read: how it was chosen, what it came to, whether it can be believed.
PLOTS = ("screening_heat_map", "fold_bars", "equity_of_the_test", "equity_rolling", "exit_shares", "reliability")

_DIGITS = 4

_CANDIDATES = (
    *(("pte", "string"), ("rank", "int"), ("leading", "bool"), ("f1_buy", "float")),
    *(("baseline_f1_buy", "float"), ("std_f1_buy", "float"), ("sortino", "float"), ("rolling_sortino", "float")),
    *(("n_trades", "int"), ("total_return", "float"), ("max_drawdown", "float"), ("dsr", "float")),
    ("gates", "string"),
)
_FOLDS = (
    *(("fold", "int"), ("test_from", "string"), ("test_until", "string"), ("rows", "int"), ("buy_rate", "float")),
    *(("f1_buy", "float"), ("baseline_f1_buy", "float"), ("threshold", "float"), ("n_trades", "int")),
    *(("trade_threshold", "float"), ("sortino", "float")),
)
_GATES = (("gate", "string"), ("passed", "bool"), ("value", "float"), ("limit", "float"), ("reason", "string"))
_BESIDE = (
    *(("what", "string"), ("n_trades", "int"), ("total_return", "float"), ("sortino", "float"), ("sharpe", "float")),
    ("max_drawdown", "float"),
)
_INTERVALS = (("field", "string"), ("low", "float"), ("value", "float"), ("high", "float"))
_FINDINGS = (
    *(("code", "string"), ("severity", "string"), ("owner", "string"), ("evidence", "string")),
    *(("next command", "string"), ("because", "string")),
)
_OF_THE_RUN = (("what", "string"), ("value", "string"))


def show_evaluation(stored: StoredEvaluation, described: Summary) -> Mapping[str, Any]:
    """The verdict in a sentence, the plots behind one click, then the tables; the record has every digit."""
    leading = stored.leading
    found = described["findings"]
    pictures = "\n\n".join(picture(name, stored.plots[name]) for name in PLOTS)
    return {
        "diagnosis": described["diagnosis"],
        **_slowness(found["slow_run"]),
        "plots": dg.MetadataValue.md(pictures),
        "candidates": _table(_CANDIDATES, [_candidate(record) for record in stored.records]),
        "fold_table": _table(_FOLDS, [{**fold.model_dump(mode="json"), "fold": fold.number} for fold in leading.folds]),
        "gate_table": _table(_GATES, [{**gate.model_dump(), "gate": gate.name} for gate in leading.gates]),
        "beside_baselines": _table(_BESIDE, _beside(leading)),
        "interval_table": _table(_INTERVALS, _intervals(leading)),
        "finding_table": _table(_FINDINGS, _findings([found["primary"], *found["secondary"]])),
        "run_table": table(_OF_THE_RUN, _of_the_run(leading)),
    }


def draw(tested: "Tested", rolled: "Rolled", crypto: str, market: str) -> dict[str, bytes]:
    """The leading candidate's plots, as PNG by name; the heat map is the screening's own."""
    from cvntrade_assets.learning.evaluation_plots import equity_curves, exit_shares, fold_bars
    from cvntrade_assets.learning.plots import reliability_diagram

    place = {"crypto": crypto, "market": market}
    said = tested.last.predictions
    labels = (said["label"] == 1).astype("int8")
    backtests = {
        "equity_of_the_test": (tested.compared, "Backtest, frozen model"),
        "equity_rolling": (rolled.compared, "Rolling backtest"),
    }
    ways = {"test": tested.performance, "rolling": rolled.performance, "always BUY": tested.always_buy}
    shares = {name: {"tp": each.tp_pct, "sl": each.sl_pct, "timeout": each.timeout_pct} for name, each in ways.items()}
    return {
        **{
            name: equity_curves(
                compared.backtest.equity, compared.always_buy.equity, compared.buy_and_hold, name=title, **place
            )
            for name, (compared, title) in backtests.items()
        },
        "exit_shares": exit_shares(shares, **place),
        "fold_bars": fold_bars(_bars(tested), **place),
        "reliability": reliability_diagram(labels, said["score"], said["probability"], crypto=crypto, market=market),
    }


def _bars(tested: "Tested") -> pd.DataFrame:
    return pd.DataFrame(
        {
            "f1_buy": [fold.report.f1_buy for fold in tested.folds],
            "baseline_f1_buy": [fold.report.baseline_f1_buy for fold in tested.folds],
            "test_from": [fold.plan.starts[3] for fold in tested.folds],
            "test_until": [fold.plan.end for fold in tested.folds],
        }
    )


def _candidate(record: CorrelationData[str]) -> dict[str, Any]:
    refused = ", ".join(record.refusing)
    named = {name: getattr(record, name) for name, _ in _CANDIDATES if name != "gates"}
    return {**named, "gates": f"refused by {refused}" if refused else "passed"}


def _beside(record: CorrelationData[str]) -> list[dict[str, Any]]:
    ways = {"model": record, "always BUY": record.always_buy, "buy and hold": record.buy_and_hold}
    return [
        {"what": name, **{column: getattr(each, column) for column, _ in _BESIDE if column != "what"}}
        for name, each in ways.items()
    ]


def _intervals(record: CorrelationData[str]) -> list[dict[str, Any]]:
    return [
        {"field": name, "low": low, "value": getattr(record, name), "high": high}
        for name, (low, high) in record.intervals.items()
        if getattr(record, name) is not None
    ]


def _findings(found: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [{**each, "next command": each["next_command"]} for each in found]


def _slowness(move: Mapping[str, Any] | None) -> dict[str, str]:
    """What to do about the time that the run took, when that was too long."""
    return {} if move is None else {"slow_run": f"{move['because']}; next `{move['command']}`"}


def _of_the_run(record: CorrelationData[str]) -> list[dict[str, Any]]:
    """How the platform was, and how long the run took; what nobody knows is said to be unknown."""
    duration = {} if record.duration is None else record.duration.model_dump()
    known = {**record.platform.model_dump(), **dict.fromkeys(Duration.model_fields), **duration}
    return [{"what": name, "value": "unknown" if each is None else str(_short(each))} for name, each in known.items()]


def _table(columns: Sequence[tuple[str, str]], rows: Iterable[Mapping[str, Any]]) -> dg.TableMetadataValue:
    """A table with these columns, its numbers as short as they are read."""
    return table(columns, [{name: _short(row[name]) for name, _ in columns} for row in rows])


def _short(value: Any) -> Any:
    return round(value, _DIGITS) if isinstance(value, float) else value
