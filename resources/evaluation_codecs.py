"""How what an evaluation tested becomes files: trades, equity, predictions and frozen models of every candidate.

A candidate's files begin with its PTE, those of a fold with that and the fold's number, and those of the model to be
registered with `last-` and the PTE.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from cvntrade_assets.operations.correlation_data import CorrelationData, from_record
from cvntrade_assets.trading.pte import PTE
from resources.codec_files import (
    read_calibration,
    read_json,
    read_model,
    read_plots,
    write_calibration,
    write_json,
    write_model,
    write_plots,
    write_table,
)

if TYPE_CHECKING:
    from cvntrade_assets.learning.recipe import Fitted
    from cvntrade_assets.learning.rolling import Rolled, StepResult
    from cvntrade_assets.learning.simulated_trading import Traded
    from cvntrade_assets.learning.timeline import FoldPlan
    from cvntrade_assets.learning.walk_forward import FoldResult, Tested
    from cvntrade_assets.operations.drift import DriftReport
    from cvntrade_assets.trading.backtest import Backtest
    from cvntrade_assets.trading.comparison import Compared

_MEASURED = ("performance", "always_buy", "buy_and_hold")


@dataclass(frozen=True)
class StoredBacktest:
    """What trading a test slice came to, and its plots as PNG by name."""

    traded: "Traded"
    plots: Mapping[str, bytes]


@dataclass(frozen=True)
class StoredEvaluation:
    """The record of every tested candidate, best-ranked by screening first; exactly one leads.

    Attributes:
        records: One a candidate.
        daily_sharpes: By PTE, the Sharpe ratio per day (not annualised) over all test periods; None where undefined.
        plots: Of the leading candidate, as PNG by name.
    """

    records: "tuple[CorrelationData[str], ...]"
    daily_sharpes: Mapping[str, float | None]
    plots: Mapping[str, bytes]

    @property
    def leading(self) -> "CorrelationData[str]":
        """The candidate that leads."""
        [leading] = [record for record in self.records if record.leading]
        return leading


@dataclass(frozen=True)
class StoredDrift:
    """A drift report, the versions of the model that it compares with (none where there was no model), and its plots.

    Attributes:
        report: What was found.
        chain: By asset, the versions of a `resources.frozen_chain.FrozenChain`.
        plots: As PNG by name.
    """

    report: "DriftReport"
    chain: Mapping[str, str]
    plots: Mapping[str, bytes]


class BacktestCodec:
    """The backtest, its baselines, what they came to, and a PNG per plot."""

    def write(self, folder: Path, value: StoredBacktest) -> None:
        """Write all of them."""
        _write_traded(folder, "", value.traded)
        write_plots(folder, value.plots)

    def read(self, folder: Path) -> StoredBacktest:
        """Read them back."""
        return StoredBacktest(_read_traded(folder, ""), read_plots(folder))


class WalkForwardCodec:
    """Every tested candidate: its folds with their frozen models and predictions, and its backtest."""

    def write(self, folder: Path, value: "tuple[Tested, ...]") -> None:
        """Write all of them."""
        for tested in value:
            for fold in tested.folds:
                _write_fold(folder, f"{tested.pte}-fold{fold.plan.number}-", fold)
            _write_traded(folder, f"{tested.pte}-", _traded_of(tested))
        told = [
            {"pte": str(tested.pte), "folds": len(tested.folds), "screening_f1_buy": tested.screening_f1_buy}
            for tested in value
        ]
        write_json(folder / "candidates.json", told)

    def read(self, folder: Path) -> "tuple[Tested, ...]":
        """Read them back."""
        from cvntrade_assets.learning.walk_forward import Tested

        return tuple(
            Tested(
                pte=PTE.parse(told["pte"]),
                folds=tuple(
                    _read_fold(folder, f"{told['pte']}-fold{number}-") for number in range(1, told["folds"] + 1)
                ),
                screening_f1_buy=told["screening_f1_buy"],
                **vars(_read_traded(folder, f"{told['pte']}-")),
            )
            for told in read_json(folder / "candidates.json")
        )


class RollingCodec:
    """Every tested candidate's rolling backtest, with the model of its last step."""

    def write(self, folder: Path, value: "tuple[Rolled, ...]") -> None:
        """Write all of them."""
        for rolled in value:
            prefix = f"{rolled.pte}-"
            _write_traded(folder, prefix, _traded_of(rolled))
            write_table(folder / f"{prefix}predictions.parquet", rolled.predictions)
            _write_fitted(folder, f"last-{prefix}", rolled.last)
        told = [
            {
                "pte": str(rolled.pte),
                "steps": [_step_as_json(step) for step in rolled.steps],
                "data_until": rolled.data_until.isoformat(),
            }
            for rolled in value
        ]
        write_json(folder / "candidates.json", told)

    def read(self, folder: Path) -> "tuple[Rolled, ...]":
        """Read them back."""
        from cvntrade_assets.learning.rolling import Rolled

        return tuple(
            Rolled(
                pte=PTE.parse(told["pte"]),
                steps=tuple(_step(step) for step in told["steps"]),
                predictions=_read_predictions(folder, f"{told['pte']}-"),
                **vars(_read_traded(folder, f"{told['pte']}-")),
                last=_read_fitted(folder, f"last-{told['pte']}-"),
                data_until=pd.Timestamp(told["data_until"]),
            )
            for told in read_json(folder / "candidates.json")
        )


class EvaluationCodec:
    """The records as JSON, and a PNG per plot."""

    def write(self, folder: Path, value: StoredEvaluation) -> None:
        """Write all of them."""
        write_json(folder / "records.json", [record.to_record() for record in value.records])
        write_json(folder / "daily_sharpes.json", dict(value.daily_sharpes))
        write_plots(folder, value.plots)

    def read(self, folder: Path) -> StoredEvaluation:
        """Read them back; RecordError when one is of another crypto or schema than its neighbours."""
        records = read_json(folder / "records.json")
        return StoredEvaluation(
            tuple(from_record(record, records[0]["crypto"]) for record in records),
            read_json(folder / "daily_sharpes.json"),
            read_plots(folder),
        )


class DriftCodec:
    """The report and the versions that it compares with as JSON, and a PNG per plot."""

    def write(self, folder: Path, value: StoredDrift) -> None:
        """Write all of them."""
        write_json(folder / "report.json", value.report.to_record())
        write_json(folder / "chain.json", dict(value.chain))
        write_plots(folder, value.plots)

    def read(self, folder: Path) -> StoredDrift:
        """Read them back."""
        from cvntrade_assets.operations.drift import from_record

        report = from_record(read_json(folder / "report.json"))
        return StoredDrift(report, read_json(folder / "chain.json"), read_plots(folder))


def _traded_of(value: "Tested | Rolled") -> "Traded":
    from cvntrade_assets.learning.simulated_trading import Traded

    return Traded(**{field.name: getattr(value, field.name) for field in fields(Traded)})


def _write_traded(folder: Path, prefix: str, traded: "Traded") -> None:
    _write_backtest(folder, f"{prefix}strategy-", traded.compared.backtest)
    _write_backtest(folder, f"{prefix}always-buy-", traded.compared.always_buy)
    write_table(folder / f"{prefix}held.parquet", traded.compared.buy_and_hold)
    _write_daily(folder, prefix, traded.daily)
    write_json(folder / f"{prefix}measured.json", _measured_as_json(traded))


def _read_traded(folder: Path, prefix: str) -> "Traded":
    from cvntrade_assets.learning.simulated_trading import Traded

    return Traded(
        compared=_read_compared(folder, prefix),
        **_measured(read_json(folder / f"{prefix}measured.json")),
        daily=_read_daily(folder, prefix),
    )


def _read_compared(folder: Path, prefix: str) -> "Compared":
    from cvntrade_assets.trading.comparison import Compared

    return Compared(
        _read_backtest(folder, f"{prefix}strategy-"),
        _read_backtest(folder, f"{prefix}always-buy-"),
        pd.read_parquet(folder / f"{prefix}held.parquet"),
    )


def _write_backtest(folder: Path, prefix: str, backtest: "Backtest") -> None:
    write_table(folder / f"{prefix}trades.parquet", backtest.trades)
    write_table(folder / f"{prefix}equity.parquet", backtest.equity.assign(in_position=backtest.in_position))
    facts = {name: getattr(backtest, name) for name in ("fraction", "signals", "without_entry")}
    write_json(folder / f"{prefix}facts.json", facts)


def _read_backtest(folder: Path, prefix: str) -> "Backtest":
    from cvntrade_assets.trading.backtest import OPEN, Backtest
    from cvntrade_assets.trading.fills import EXIT_KINDS

    equity = pd.read_parquet(folder / f"{prefix}equity.parquet")
    return Backtest(
        trades=_with_kinds(pd.read_parquet(folder / f"{prefix}trades.parquet"), (*EXIT_KINDS, OPEN)),
        equity=equity.drop(columns="in_position"),
        in_position=equity["in_position"],
        **read_json(folder / f"{prefix}facts.json"),
    )


def _write_fold(folder: Path, prefix: str, fold: "FoldResult") -> None:
    _write_fitted(folder, prefix, fold.fitted)
    write_table(folder / f"{prefix}predictions.parquet", fold.predictions)
    _write_daily(folder, prefix, fold.daily)
    told = {
        "plan": _plan_as_json(fold.plan),
        "rows": {name: int(count) for name, count in fold.rows.items()},
        "report": asdict(fold.report),
        "measured": _measured_as_json(fold),
    }
    write_json(folder / f"{prefix}result.json", told)


def _read_fold(folder: Path, prefix: str) -> "FoldResult":
    from cvntrade_assets.learning.report import TestReport
    from cvntrade_assets.learning.walk_forward import FoldResult

    told = read_json(folder / f"{prefix}result.json")
    return FoldResult(
        plan=_plan(told["plan"]),
        fitted=_read_fitted(folder, prefix),
        rows=told["rows"],
        report=TestReport(**told["report"]),
        predictions=_read_predictions(folder, prefix),
        **_measured(told["measured"]),
        daily=_read_daily(folder, prefix),
    )


def _write_fitted(folder: Path, prefix: str, fitted: "Fitted") -> None:
    write_model(folder, prefix, fitted.model)
    write_calibration(folder, prefix, fitted.calibration)
    write_json(folder / f"{prefix}params.json", {"params": dict(fitted.params), "tuned": fitted.tuned})


def _read_fitted(folder: Path, prefix: str) -> "Fitted":
    from cvntrade_assets.learning.recipe import Fitted

    chosen = read_json(folder / f"{prefix}params.json")
    return Fitted(read_model(folder, prefix), read_calibration(folder, prefix), chosen["params"], chosen["tuned"])


def _read_predictions(folder: Path, prefix: str) -> pd.DataFrame:
    from cvntrade_assets.trading.fills import EXIT_KINDS

    return _with_kinds(pd.read_parquet(folder / f"{prefix}predictions.parquet"), EXIT_KINDS)


def _with_kinds(table: pd.DataFrame, kinds: tuple[str, ...]) -> pd.DataFrame:
    """The table with every kind of exit as a category: Parquet forgets those that no row has."""
    return table.assign(exit_kind=table["exit_kind"].astype(pd.CategoricalDtype(list(kinds))))


def _write_daily(folder: Path, prefix: str, daily: "pd.Series[float]") -> None:
    write_table(folder / f"{prefix}daily.parquet", daily.to_frame())


def _read_daily(folder: Path, prefix: str) -> "pd.Series[float]":
    return pd.read_parquet(folder / f"{prefix}daily.parquet").iloc[:, 0]


def _measured_as_json(value: "Traded | FoldResult") -> dict[str, Any]:
    held = value.buy_and_hold._asdict()
    return {
        "performance": asdict(value.performance),
        "always_buy": asdict(value.always_buy),
        "buy_and_hold": held,
    }


def _measured(told: Mapping[str, Any]) -> dict[str, Any]:
    from cvntrade_assets.trading.metrics import EquityMeasures, Performance

    kinds = dict(zip(_MEASURED, (Performance, Performance, EquityMeasures), strict=True))
    return {name: kind(**told[name]) for name, kind in kinds.items()}


def _plan_as_json(plan: "FoldPlan") -> dict[str, Any]:
    return {
        "number": plan.number,
        "starts": [start.isoformat() for start in plan.starts],
        "end": plan.end.isoformat(),
    }


def _plan(told: Mapping[str, Any]) -> "FoldPlan":
    from cvntrade_assets.learning.timeline import FoldPlan

    train, validation, calibration, test = (pd.Timestamp(start) for start in told["starts"])
    return FoldPlan(told["number"], (train, validation, calibration, test), pd.Timestamp(told["end"]))


def _step_as_json(step: "StepResult") -> dict[str, Any]:
    rows = {name: int(count) for name, count in step.rows.items()}
    return {"plan": _plan_as_json(step.plan), "rows": rows, "thresholds": [step.threshold, step.trade_threshold]}


def _step(told: Mapping[str, Any]) -> "StepResult":
    from cvntrade_assets.learning.rolling import StepResult

    return StepResult(_plan(told["plan"]), told["rows"], *told["thresholds"])
