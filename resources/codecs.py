"""How every asset's value becomes files: Parquet, JSON, UBJSON and skops, never pickle or joblib."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from cvntrade_assets.market.history import CandleHistory, MonthRecord
from cvntrade_assets.operations.audit_verdict import Audit, from_record, to_record
from cvntrade_assets.trading.pte import PTE
from resources.artifacts import Codec
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
from resources.evaluation_codecs import BacktestCodec, DriftCodec, EvaluationCodec, RollingCodec, WalkForwardCodec

if TYPE_CHECKING:
    from cvntrade_assets.learning.calibration import Calibration
    from cvntrade_assets.learning.label_pipeline import PreparedLabels
    from cvntrade_assets.learning.report import TestReport
    from cvntrade_assets.learning.screening import Screening
    from cvntrade_assets.learning.selection import FeatureSelection
    from cvntrade_assets.learning.training import TrainedModel
    from cvntrade_assets.learning.training_set import TrainingSet
    from cvntrade_assets.learning.tuning import TuningResult


@dataclass(frozen=True)
class StoredModel:
    """A trained model, with rows and the scores that it gave them in memory."""

    model: "TrainedModel"
    reference: pd.DataFrame
    reference_scores: "pd.Series[float]"


@dataclass(frozen=True)
class StoredCalibration:
    """A calibration, with the rows of the calibration slice as it used them: label, target, score, probability."""

    calibration: "Calibration"
    rows: pd.DataFrame


@dataclass(frozen=True)
class StoredReport:
    """A test report, with every test row's score and probability, and its plots as PNG by name."""

    report: "TestReport"
    predictions: pd.DataFrame
    plots: Mapping[str, bytes]


@dataclass(frozen=True)
class StoredScreening:
    """A screening, and its plots as PNG by name."""

    screening: "Screening"
    plots: Mapping[str, bytes]


@dataclass(frozen=True)
class StoredRegistration:
    """Which model the registry holds of an evaluation's leading candidate, and in which state it was left."""

    crypto: str
    number: int
    pte: str
    market: str
    state: str
    epoch: int
    model_sha256: str


class FrameCodec:
    """One DataFrame as `table.parquet`; index, dtypes and column order come back as they were."""

    def write(self, folder: Path, value: pd.DataFrame) -> None:
        """Write the table."""
        write_table(folder / "table.parquet", value)

    def read(self, folder: Path) -> pd.DataFrame:
        """Read it back."""
        return pd.read_parquet(folder / "table.parquet", engine="pyarrow")


class CandlesCodec:
    """A candle history: `table.parquet` and the months' records."""

    def write(self, folder: Path, value: CandleHistory) -> None:
        """Write candles and months."""
        FrameCodec().write(folder, value.candles)
        write_json(folder / "months.json", [asdict(month) for month in value.months])

    def read(self, folder: Path) -> CandleHistory:
        """Read them back."""
        months = tuple(MonthRecord(**month) for month in read_json(folder / "months.json"))
        return CandleHistory(FrameCodec().read(folder), months)


class TrainingSetCodec:
    """Features and targets in a file each."""

    def write(self, folder: Path, value: "TrainingSet") -> None:
        """Write both tables."""
        write_table(folder / "features.parquet", value.features)
        write_table(folder / "targets.parquet", value.targets)

    def read(self, folder: Path) -> "TrainingSet":
        """Read them back."""
        from cvntrade_assets.learning.training_set import TrainingSet

        return TrainingSet(pd.read_parquet(folder / "features.parquet"), pd.read_parquet(folder / "targets.parquet"))


class SelectionCodec:
    """The chosen names, and the table of scores."""

    def write(self, folder: Path, value: "FeatureSelection") -> None:
        """Write both."""
        write_json(folder / "names.json", list(value.names))
        FrameCodec().write(folder, value.scores)

    def read(self, folder: Path) -> "FeatureSelection":
        """Read them back."""
        from cvntrade_assets.learning.selection import FeatureSelection

        return FeatureSelection(tuple(read_json(folder / "names.json")), FrameCodec().read(folder))


class PreparedLabelsCodec:
    """Features, labels (a column, or one per class when softened), weights and suspects."""

    def write(self, folder: Path, value: "PreparedLabels") -> None:
        """Write a file each; a Series becomes a one-column table that remembers its name."""
        write_table(folder / "features.parquet", value.features)
        _write_labels(folder, value.labels)
        write_table(folder / "weights.parquet", value.weights.to_frame())
        write_table(folder / "suspects.parquet", value.suspects.to_frame("suspect"))

    def read(self, folder: Path) -> "PreparedLabels":
        """Read them back."""
        from cvntrade_assets.learning.label_pipeline import PreparedLabels

        return PreparedLabels(
            pd.read_parquet(folder / "features.parquet"),
            _read_labels(folder),
            pd.read_parquet(folder / "weights.parquet").iloc[:, 0],
            pd.read_parquet(folder / "suspects.parquet")["suspect"],
        )


class TuningCodec:
    """The chosen hyperparameters, and the table of trials."""

    def write(self, folder: Path, value: "TuningResult") -> None:
        """Write both."""
        write_json(
            folder / "best.json",
            {"params": value.params, "score": value.best_score, "seconds": value.seconds},
        )
        FrameCodec().write(folder, value.trials)

    def read(self, folder: Path) -> "TuningResult":
        """Read them back."""
        from cvntrade_assets.learning.tuning import TuningResult

        best = read_json(folder / "best.json")
        return TuningResult(best["params"], best["score"], FrameCodec().read(folder), best["seconds"])


class ModelCodec:
    """The booster as UBJSON, its description as JSON, and the reference rows."""

    def write(self, folder: Path, value: StoredModel) -> None:
        """Write all of them."""
        write_model(folder, "", value.model)
        write_table(folder / "reference.parquet", value.reference)
        write_table(folder / "reference_scores.parquet", value.reference_scores.to_frame())

    def read(self, folder: Path) -> StoredModel:
        """Read them back."""
        model = read_model(folder, "")
        scores = pd.read_parquet(folder / "reference_scores.parquet").iloc[:, 0]
        return StoredModel(model, pd.read_parquet(folder / "reference.parquet"), scores)


class CalibrationCodec:
    """The estimators as skops files, the rest as JSON, and the rows that were used."""

    def write(self, folder: Path, value: StoredCalibration) -> None:
        """Write all of them."""
        write_calibration(folder, "", value.calibration)
        FrameCodec().write(folder, value.rows)

    def read(self, folder: Path) -> StoredCalibration:
        """Read them back; an estimator that is not the one its file name says is refused."""
        return StoredCalibration(read_calibration(folder, ""), FrameCodec().read(folder))


class ReportCodec:
    """The report as JSON, the predictions, and a PNG per plot."""

    def write(self, folder: Path, value: StoredReport) -> None:
        """Write all of them."""
        write_json(folder / "report.json", asdict(value.report))
        FrameCodec().write(folder, value.predictions)
        write_plots(folder, value.plots)

    def read(self, folder: Path) -> StoredReport:
        """Read them back."""
        from cvntrade_assets.learning.report import TestReport

        report = TestReport(**read_json(folder / "report.json"))
        return StoredReport(report, FrameCodec().read(folder), read_plots(folder))


class ScreeningCodec:
    """The ranked points, their daily returns, the choice that was made among them as JSON, and a PNG per plot."""

    def write(self, folder: Path, value: StoredScreening) -> None:
        """Write all of them."""
        screening = value.screening
        write_table(folder / "points.parquet", screening.points)
        write_table(folder / "returns.parquet", screening.returns)
        choice = {
            "candidates": [str(pte) for pte in screening.candidates],
            "left_out": [str(pte) for pte in screening.left_out],
            "least_trades": screening.least_trades,
        }
        write_json(folder / "choice.json", choice)
        write_plots(folder, value.plots)

    def read(self, folder: Path) -> StoredScreening:
        """Read them back."""
        from cvntrade_assets.learning.screening import Screening

        choice = read_json(folder / "choice.json")
        candidates, left_out = (tuple(PTE.parse(text) for text in choice[name]) for name in ("candidates", "left_out"))
        screening = Screening(
            pd.read_parquet(folder / "points.parquet"),
            pd.read_parquet(folder / "returns.parquet"),
            candidates,
            left_out,
            choice["least_trades"],
        )
        return StoredScreening(screening, read_plots(folder))


class AuditCodec:
    """A validation audit as JSON, its kind included; it reads back as that kind or not at all."""

    def write(self, folder: Path, value: Audit) -> None:
        """Write it."""
        write_json(folder / "audit.json", to_record(value))

    def read(self, folder: Path) -> Audit:
        """Read it back; AuditError when the record is not that of its kind."""
        return from_record(read_json(folder / "audit.json"))


class RegistrationCodec:
    """A registration as JSON."""

    def write(self, folder: Path, value: StoredRegistration) -> None:
        """Write it."""
        write_json(folder / "registration.json", asdict(value))

    def read(self, folder: Path) -> StoredRegistration:
        """Read it back."""
        return StoredRegistration(**read_json(folder / "registration.json"))


CODECS: Mapping[str, Codec[Any]] = {
    "candles": CandlesCodec(),
    "backtest_candles": CandlesCodec(),
    "features": FrameCodec(),
    "labels": FrameCodec(),
    "training_set": TrainingSetCodec(),
    "feature_selection": SelectionCodec(),
    "label_pipeline": PreparedLabelsCodec(),
    "hyperparameters": TuningCodec(),
    "model": ModelCodec(),
    "calibration": CalibrationCodec(),
    "backtest": BacktestCodec(),
    "test_report": ReportCodec(),
    "validation_audit": AuditCodec(),
    "screening_matrix": ScreeningCodec(),
    "walk_forward": WalkForwardCodec(),
    "rolling_backtest": RollingCodec(),
    "evaluation": EvaluationCodec(),
    "challenger": RegistrationCodec(),
    "drift": DriftCodec(),
}


def _write_labels(folder: Path, labels: "pd.Series[Any] | pd.DataFrame") -> None:
    if isinstance(labels, pd.DataFrame):
        # Parquet wants textual column names; the classes are numbers.
        write_table(folder / "class_shares.parquet", labels.rename(columns=str))
    else:
        write_table(folder / "labels.parquet", labels.to_frame())


def _read_labels(folder: Path) -> "pd.Series[Any] | pd.DataFrame":
    shares = folder / "class_shares.parquet"
    if shares.exists():
        return pd.read_parquet(shares).rename(columns=int)
    return pd.read_parquet(folder / "labels.parquet").iloc[:, 0]
