"""How every asset's value becomes files: Parquet, JSON, UBJSON and skops, never pickle or joblib."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from cvntrade_assets.market.history import CandleHistory, MonthRecord
from cvntrade_assets.operations.audit_verdict import Audit, from_record, to_record
from resources.artifacts import ArtifactError, Codec

if TYPE_CHECKING:
    from cvntrade_assets.learning.calibration import Calibration
    from cvntrade_assets.learning.label_pipeline import PreparedLabels
    from cvntrade_assets.learning.report import TestReport
    from cvntrade_assets.learning.selection import FeatureSelection
    from cvntrade_assets.learning.training import TrainedModel
    from cvntrade_assets.learning.training_set import TrainingSet
    from cvntrade_assets.learning.tuning import TuningResult

# What a stored calibrator's parts are. Skops trusts all of scikit-learn by itself, so the part's own type is compared
# too; a type from anywhere else it refuses.
ESTIMATORS: Mapping[str, str] = {
    "sigmoid": "sklearn.linear_model._logistic.LogisticRegression",
    "isotonic": "sklearn.isotonic.IsotonicRegression",
}
TRUSTED_TYPES = (*ESTIMATORS.values(), "scipy.interpolate._interpolate.interp1d")


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


class FrameCodec:
    """One DataFrame as `table.parquet`; index, dtypes and column order come back as they were."""

    def write(self, folder: Path, value: pd.DataFrame) -> None:
        """Write the table."""
        _write_table(folder / "table.parquet", value)

    def read(self, folder: Path) -> pd.DataFrame:
        """Read it back."""
        return pd.read_parquet(folder / "table.parquet", engine="pyarrow")


class CandlesCodec:
    """A candle history: `table.parquet` and the months' records."""

    def write(self, folder: Path, value: CandleHistory) -> None:
        """Write candles and months."""
        FrameCodec().write(folder, value.candles)
        _write_json(folder / "months.json", [asdict(month) for month in value.months])

    def read(self, folder: Path) -> CandleHistory:
        """Read them back."""
        months = tuple(MonthRecord(**month) for month in _read_json(folder / "months.json"))
        return CandleHistory(FrameCodec().read(folder), months)


class TrainingSetCodec:
    """Features and targets in a file each."""

    def write(self, folder: Path, value: "TrainingSet") -> None:
        """Write both tables."""
        _write_table(folder / "features.parquet", value.features)
        _write_table(folder / "targets.parquet", value.targets)

    def read(self, folder: Path) -> "TrainingSet":
        """Read them back."""
        from cvntrade_assets.learning.training_set import TrainingSet

        return TrainingSet(pd.read_parquet(folder / "features.parquet"), pd.read_parquet(folder / "targets.parquet"))


class SelectionCodec:
    """The chosen names, and the table of scores."""

    def write(self, folder: Path, value: "FeatureSelection") -> None:
        """Write both."""
        _write_json(folder / "names.json", list(value.names))
        FrameCodec().write(folder, value.scores)

    def read(self, folder: Path) -> "FeatureSelection":
        """Read them back."""
        from cvntrade_assets.learning.selection import FeatureSelection

        return FeatureSelection(tuple(_read_json(folder / "names.json")), FrameCodec().read(folder))


class PreparedLabelsCodec:
    """Features, labels (a column, or one per class when softened), weights and suspects."""

    def write(self, folder: Path, value: "PreparedLabels") -> None:
        """Write a file each; a Series becomes a one-column table that remembers its name."""
        _write_table(folder / "features.parquet", value.features)
        _write_labels(folder, value.labels)
        _write_table(folder / "weights.parquet", value.weights.to_frame())
        _write_table(folder / "suspects.parquet", value.suspects.to_frame("suspect"))

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
        _write_json(
            folder / "best.json",
            {"params": value.params, "score": value.best_score, "seconds": value.seconds},
        )
        FrameCodec().write(folder, value.trials)

    def read(self, folder: Path) -> "TuningResult":
        """Read them back."""
        from cvntrade_assets.learning.tuning import TuningResult

        best = _read_json(folder / "best.json")
        return TuningResult(best["params"], best["score"], FrameCodec().read(folder), best["seconds"])


class ModelCodec:
    """The booster as UBJSON, its description as JSON, and the reference rows."""

    def write(self, folder: Path, value: StoredModel) -> None:
        """Write all of them."""
        model = value.model
        (folder / "model.ubj").write_bytes(model.ubj)
        _write_json(
            folder / "model.json",
            {
                "feature_names": list(model.feature_names),
                "objective": model.objective,
                "best_iteration": model.best_iteration,
                "params": dict(model.params),
            },
        )
        _write_table(folder / "reference.parquet", value.reference)
        _write_table(folder / "reference_scores.parquet", value.reference_scores.to_frame())

    def read(self, folder: Path) -> StoredModel:
        """Read them back."""
        from cvntrade_assets.learning.training import TrainedModel

        described = _read_json(folder / "model.json")
        names = tuple(described.pop("feature_names"))
        model = TrainedModel(ubj=(folder / "model.ubj").read_bytes(), feature_names=names, **described)
        scores = pd.read_parquet(folder / "reference_scores.parquet").iloc[:, 0]
        return StoredModel(model, pd.read_parquet(folder / "reference.parquet"), scores)


class CalibrationCodec:
    """The estimators as skops files, the rest as JSON, and the rows that were used."""

    def write(self, folder: Path, value: StoredCalibration) -> None:
        """Write all of them."""
        import skops.io

        _write_json(folder / "calibration.json", value.calibration.describe())
        for name, estimator in value.calibration.estimators.items():
            skops.io.dump(estimator, folder / f"{name}.skops")
        FrameCodec().write(folder, value.rows)

    def read(self, folder: Path) -> StoredCalibration:
        """Read them back; an estimator that is not the one its file name says is refused."""
        from cvntrade_assets.learning.calibration import restore

        estimators = {path.stem: _read_estimator(path) for path in sorted(folder.glob("*.skops"))}
        return StoredCalibration(
            restore(_read_json(folder / "calibration.json"), estimators), FrameCodec().read(folder)
        )


class ReportCodec:
    """The report as JSON, the predictions, and a PNG per plot."""

    def write(self, folder: Path, value: StoredReport) -> None:
        """Write all of them."""
        _write_json(folder / "report.json", asdict(value.report))
        FrameCodec().write(folder, value.predictions)
        for name, png in value.plots.items():
            (folder / f"{name}.png").write_bytes(png)

    def read(self, folder: Path) -> StoredReport:
        """Read them back."""
        from cvntrade_assets.learning.report import TestReport

        plots = {path.stem: path.read_bytes() for path in sorted(folder.glob("*.png"))}
        return StoredReport(TestReport(**_read_json(folder / "report.json")), FrameCodec().read(folder), plots)


class AuditCodec:
    """A validation audit as JSON, its kind included; it reads back as that kind or not at all."""

    def write(self, folder: Path, value: Audit) -> None:
        """Write it."""
        _write_json(folder / "audit.json", to_record(value))

    def read(self, folder: Path) -> Audit:
        """Read it back; AuditError when the record is not that of its kind."""
        return from_record(_read_json(folder / "audit.json"))


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
    "test_report": ReportCodec(),
    "validation_audit": AuditCodec(),
}


def _read_estimator(path: Path) -> Any:
    import skops.io

    estimator = skops.io.load(path, trusted=list(TRUSTED_TYPES))
    found, expected = f"{type(estimator).__module__}.{type(estimator).__qualname__}", ESTIMATORS.get(path.stem)
    if found != expected:
        raise ArtifactError(f"{path} holds a {found}, expected {expected or 'no such file'}; rebuild the calibration.")
    return estimator


def _write_labels(folder: Path, labels: "pd.Series[Any] | pd.DataFrame") -> None:
    if isinstance(labels, pd.DataFrame):
        # Parquet wants textual column names; the classes are numbers.
        _write_table(folder / "class_shares.parquet", labels.rename(columns=str))
    else:
        _write_table(folder / "labels.parquet", labels.to_frame())


def _read_labels(folder: Path) -> "pd.Series[Any] | pd.DataFrame":
    shares = folder / "class_shares.parquet"
    if shares.exists():
        return pd.read_parquet(shares).rename(columns=int)
    return pd.read_parquet(folder / "labels.parquet").iloc[:, 0]


def _write_table(path: Path, table: pd.DataFrame) -> None:
    """Write Parquet: floats split into byte streams and no dictionary of them, a third smaller and faster to write."""
    if not isinstance(table, pd.DataFrame):  # an annotation holds nobody back at run time (incident 17.1)
        raise ArtifactError(
            f"{path.name} would hold a {type(table).__name__}, expected a DataFrame with named columns; "
            "keep the frame as a frame on its way here."
        )
    floats = [str(name) for name, kind in table.dtypes.items() if kind.kind == "f"]
    others = [str(name) for name in table.columns if str(name) not in floats]
    table.to_parquet(path, engine="pyarrow", compression="zstd", use_dictionary=others, use_byte_stream_split=floats)


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, sort_keys=True, indent=1, allow_nan=False))


def _read_json(path: Path) -> Any:
    return json.loads(path.read_text())
