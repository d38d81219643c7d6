import io
import json
import pickle
import pickletools
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import skops.io
from conftest import make_random_candles
from correlation_records import record
from evaluated_market import outcome, walked
from sklearn.dummy import DummyClassifier
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import Ridge
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer

from cvntrade_assets.definitions import ASSETS
from cvntrade_assets.learning.barriers import label_candles
from cvntrade_assets.learning.calibration import METHODS, CalibrationError, apply_calibration, calibrate
from cvntrade_assets.learning.features import compute_features
from cvntrade_assets.learning.label_pipeline import PreparedLabels, prepare_labels
from cvntrade_assets.learning.report import TestReport as Report
from cvntrade_assets.learning.report import report_test_slice
from cvntrade_assets.learning.screening import Screening
from cvntrade_assets.learning.selection import FeatureSelection
from cvntrade_assets.learning.simulated_trading import Traded
from cvntrade_assets.learning.splits import SliceFractions
from cvntrade_assets.learning.training import score_buy, train_model
from cvntrade_assets.learning.training_set import TrainingSet, assemble_training_set
from cvntrade_assets.learning.tuning import TuningResult
from cvntrade_assets.market.history import CandleHistory, MonthRecord, empty_history
from cvntrade_assets.operations.audit_verdict import (
    Anchor,
    Audit,
    Audited,
    AuditError,
    CompleteAudit,
    InconclusiveAudit,
    ProbeResult,
    SkippedAudit,
)
from cvntrade_assets.operations.correlation_data import RecordError
from cvntrade_assets.trading.pte import PTE
from resources.artifacts import ArtifactError
from resources.codec_files import TRUSTED_TYPES
from resources.codecs import CODECS, StoredCalibration, StoredModel, StoredReport, StoredScreening
from resources.evaluation_codecs import StoredBacktest, StoredEvaluation

INTERVAL = pd.Timedelta("30min")
EMBARGO = pd.Timedelta("6h")


# Values as the stages make them, small


@lru_cache
def candles() -> pd.DataFrame:
    whole = make_random_candles(1_400, seed=3)
    kept = whole.drop(whole.index[200:203])
    kept.loc[kept.index[199], "complete"] = False
    return kept


@lru_cache
def features() -> pd.DataFrame:
    return compute_features(candles())


@lru_cache
def labels(binary: bool) -> pd.DataFrame:
    return label_candles(candles(), PTE(4, 1.0, 1.5), interval=INTERVAL, binary=binary)


@lru_cache
def training_set(binary: bool = True) -> TrainingSet:
    shares = SliceFractions(0.4, 0.2, 0.2, 0.2)
    events = pd.DatetimeIndex(candles().index[::2])
    return assemble_training_set(features(), labels(binary), events, "off", shares, EMBARGO, True)


def prepared(binary: bool = True, smoothing: str = "none", cleanlab: str = "off") -> PreparedLabels:
    train = training_set(binary).slice("train")
    targets = train.targets
    return prepare_labels(
        train.features[list(train.features.columns[:3])],
        targets["label"],
        targets["weight"],
        targets["entry_time"],
        targets["exit_time"],
        binary=binary,
        smoothing=smoothing,
        cleanlab=cleanlab,
        class_cap=0.2,
        n_folds=2,
        embargo=EMBARGO,
        seed=1,
    )


@lru_cache
def model(objective: str) -> StoredModel:
    train = prepared(binary=objective != "softprob")
    valid = training_set(objective != "softprob").slice("validation")
    chosen = valid.features[list(train.features.columns)]
    trained = train_model(
        train.features,
        train.labels,
        train.weights,
        chosen,
        valid.targets["label"],
        params={"max_depth": 2, "learning_rate": 0.1, "max_bin": 32},
        rounds=8,
        early_stopping_rounds=3,
        objective=objective,
        focal_gamma=2.0 if objective == "focal" else 0.0,
        seed=1,
    )
    return StoredModel(trained, chosen.iloc[:20], score_buy(trained, chosen.iloc[:20]))


@lru_cache
def scored() -> pd.DataFrame:
    generator = np.random.default_rng(5)
    score = generator.uniform(0, 1, 400)
    index = pd.DatetimeIndex(candles().index[:400])
    label = (generator.uniform(0, 1, 400) < score).astype("int8")
    return pd.DataFrame({"label": label, "return": (label - 0.4) / 50, "score": score}, index=index)


def calibration(method: str, threshold_method: str = "f1_binary") -> StoredCalibration:
    rows = scored()
    fitted = calibrate(
        rows["score"],
        rows["label"],
        rows["return"],
        method=method,
        threshold_method=threshold_method,
        trade_threshold_method="expected_value",
        cost=0.002,
        seed=1,
    )
    used = rows[["label"]].assign(target=rows["label"], score=rows["score"])
    return StoredCalibration(fitted, used.assign(probability=apply_calibration(fitted, rows["score"])))


def report(rows: pd.DataFrame) -> StoredReport:
    found = report_test_slice(rows, rows["score"], rows["score"], 0.5, block=8, seed=1)
    predictions = rows.assign(probability=rows["score"], predicted=rows["score"] >= 0.5)
    return StoredReport(found, predictions, {"reliability_diagram": b"\x89PNG one", "label_timeline": b"\x89PNG two"})


def selection() -> FeatureSelection:
    index = pd.Index(["RSI_14", "BBL_20_2.0", "flat"], name="feature")
    table = {"score": [0.7, 0.1 + 0.2, np.nan], "kept": [True, True, False], "reason": ["", "", "it is constant"]}
    return FeatureSelection(("RSI_14", "BBL_20_2.0"), pd.DataFrame(table, index=index))


def tuning() -> TuningResult:
    index = pd.RangeIndex(3, name="trial")
    trials = {"score": [0.1, 0.1 + 0.2, 1 / 3], "score_fold_0": [0.0, np.nan, 1.0], "max_depth": [2, 3, 4]}
    params = {"max_depth": 3, "learning_rate": 0.1 + 0.2, "tree_method": "hist"}
    return TuningResult(params, 1 / 3, pd.DataFrame(trials, index=index), 1.25)


def history() -> CandleHistory:
    months = (
        MonthRecord("2023-12", "absent", None, "a hole: the archive has months before and after, not this one"),
        MonthRecord(
            "2024-01", "good", "ab" * 32, None, replaced_sha256="cd" * 32, kept_from="2024-01-03T00:00:00+00:00"
        ),
        MonthRecord("2024-02", "quarantined", None, "its checksum is wrong: “é”"),
    )
    return CandleHistory(candles(), months)


def screening() -> StoredScreening:
    points = pd.DataFrame(
        {
            "rank": [1, 2],
            "pte": ["H4_SL1.0_TP2.0", "H1_SL0.8_TP1.5"],
            "eligible": [True, False],
            "reason": ["", "12 trades, expected at least 20"],
            "sharpe": [0.1 + 0.2, np.nan],
        }
    )
    days = pd.date_range("2025-01-01", periods=3, tz="UTC", unit="ns", name="day")
    returns = pd.DataFrame({"H4_SL1.0_TP2.0": [0.1 + 0.2, 0.0, -1 / 3], "H1_SL0.8_TP1.5": 0.0}, index=days)
    found = Screening(points, returns, (PTE(4, 1.0, 2.0),), (PTE(1, 2.0, 1.5), PTE(2, 2.0, 1.5)), 20)
    return StoredScreening(found, {"screening_heat_map": b"\x89PNG one"})


# The comparison


def assert_same(found: object, expected: object) -> None:
    """Equal to the bit, in type, dtype, index, order and name."""
    if isinstance(expected, Mapping):
        assert dict(found) == dict(expected)
        return
    assert type(found) is type(expected)
    if isinstance(expected, pd.DataFrame):
        # A stored index has no `freq`: it is a hint, derived from the same times.
        pd.testing.assert_frame_equal(found, expected, check_exact=True, check_freq=False, check_column_type=True)
        assert list(found.columns) == list(expected.columns)
        assert found.columns.name == expected.columns.name
        assert_same_index(found.index, expected.index)
    elif isinstance(expected, pd.Series):
        pd.testing.assert_series_equal(found, expected, check_exact=True, check_freq=False)
        assert_same_index(found.index, expected.index)
    elif isinstance(expected, tuple):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_same(one, other)
    elif hasattr(expected, "__dataclass_fields__") and not hasattr(expected, "estimators"):
        for field in fields(expected):
            assert_same(getattr(found, field.name), getattr(expected, field.name))
    elif hasattr(expected, "estimators"):
        assert found.describe() == expected.describe()
        assert list(found.estimators) == list(expected.estimators)
        grid = pd.Series(np.linspace(0, 1, 2_001))
        assert_same(apply_calibration(found, grid), apply_calibration(expected, grid))
    else:
        assert found == expected


def assert_same_index(found: pd.Index, expected: pd.Index) -> None:
    assert found.equals(expected)
    assert found.dtype == expected.dtype
    assert found.name == expected.name
    assert type(found) is type(expected)


def through_files(asset: str, value: object, folder: Path) -> Any:
    CODECS[asset].write(folder, value)
    assert_no_pickle(folder)
    return CODECS[asset].read(folder)


def assert_no_pickle(folder: Path) -> None:
    for path in folder.iterdir():
        assert path.suffix in {".parquet", ".json", ".ubj", ".skops", ".png"}, path.name
        for name, content in contents(path):
            assert not is_pickle(content), name
            if name.endswith(".npy"):
                np.load(io.BytesIO(content), allow_pickle=False)
            if name.endswith(".json"):
                json.loads(content)


def contents(path: Path) -> list[tuple[str, bytes]]:
    found = [(path.name, path.read_bytes())]
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            found += [(name, archive.read(name)) for name in archive.namelist()]
            assert all(name.endswith((".json", ".npy")) for name in archive.namelist())
    return found


def is_pickle(content: bytes) -> bool:
    """Whether the bytes are a pickle, or hold one of protocol 2 or later, as joblib files do."""
    try:
        list(pickletools.genops(content))
    except (ValueError, IndexError, UnicodeDecodeError):
        return b"sklearn." in content and b"\x80\x04\x95" in content
    return True


def test_the_detector_knows_a_pickle():
    assert is_pickle(pickle.dumps({"a": 1}))
    assert is_pickle(pickle.dumps(np.arange(3), protocol=2))
    assert not is_pickle(b'{"a": 1}')


# Every asset


def test_every_asset_has_a_codec_and_every_codec_an_asset():
    stored = [definition for definition in ASSETS if "settings" in definition.metadata_by_key[definition.key]]
    assert set(CODECS) == {definition.key.to_user_string() for definition in stored}


AUDITED = Audited("s40", "a model", "a training set")
PROBED = (
    ProbeResult("rows_once", True, "none stands twice", 0.0, 0.0),
    ProbeResult("spans_apart", False, "?", None, 0.0),
)


@pytest.mark.parametrize(
    "audit",
    [
        CompleteAudit(AUDITED, PROBED, Anchor(300, 8, 256, 1e-9, 1e-6, 7, None)),
        SkippedAudit(AUDITED, PROBED),
        InconclusiveAudit(AUDITED, "targets.parquet is missing"),
    ],
)
def test_audits_come_back_as_what_they_were(audit: Audit, tmp_path):
    found = through_files("validation_audit", audit, tmp_path)
    assert found == audit
    assert type(found) is type(audit)


def test_a_skipped_audit_that_was_relabelled_does_not_come_back(tmp_path):
    CODECS["validation_audit"].write(tmp_path, SkippedAudit(AUDITED, PROBED))
    file = tmp_path / "audit.json"
    file.write_text(file.read_text().replace('"skipped"', '"complete"'))
    with pytest.raises(AuditError, match="a CompleteAudit has"):
        CODECS["validation_audit"].read(tmp_path)


def test_screening(tmp_path):
    assert_same(through_files("screening_matrix", screening(), tmp_path), screening())


@pytest.mark.parametrize("asset", ["candles", "backtest_candles"])
@pytest.mark.parametrize("value", [history, empty_history])
def test_candles(asset, value, tmp_path):
    found = through_files(asset, value(), tmp_path)
    assert_same(found, value())
    assert found.candles.index.dtype == "datetime64[ns, UTC]"


def test_features(tmp_path):
    found = through_files("features", features(), tmp_path)
    assert_same(found, features())
    assert set(found.dtypes) == {np.dtype("float32")}


@pytest.mark.parametrize("binary", [True, False])
def test_labels(binary, tmp_path):
    found = through_files("labels", labels(binary), tmp_path)
    assert_same(found, labels(binary))
    assert found["label"].dtype == np.int8
    assert list(found["exit_kind"].cat.categories) == list(labels(binary)["exit_kind"].cat.categories)


def test_a_category_that_no_row_has_stays_a_category(tmp_path):
    only = labels(True)[labels(True)["exit_kind"] == "sl"]
    assert_same(through_files("labels", only, tmp_path), only)


@pytest.mark.parametrize("binary", [True, False])
def test_training_set(binary, tmp_path):
    found = through_files("training_set", training_set(binary), tmp_path)
    assert_same(found, training_set(binary))
    assert found.targets["slice"].cat.ordered == training_set(binary).targets["slice"].cat.ordered


def test_feature_selection(tmp_path):
    assert_same(through_files("feature_selection", selection(), tmp_path), selection())


@pytest.mark.parametrize("cleanlab", ["off", "filter", "reweight"])
@pytest.mark.parametrize("smoothing", ["none", "mild"])
@pytest.mark.parametrize("binary", [True, False])
def test_prepared_labels(binary, smoothing, cleanlab, tmp_path):
    value = prepared(binary, smoothing, cleanlab)
    found = through_files("label_pipeline", value, tmp_path)
    assert_same(found, value)
    if not binary and smoothing == "mild":
        assert list(found.labels.columns) == [-1, 0, 1]
        assert found.labels.columns.dtype == np.int64
        assert not set(np.unique(found.labels)) <= {0.0, 1.0}


def test_tuning(tmp_path):
    found = through_files("hyperparameters", tuning(), tmp_path)
    assert_same(found, tuning())
    assert [type(value) for value in found.params.values()] == [type(tuning().params[name]) for name in found.params]


@pytest.mark.parametrize("objective", ["logistic", "focal", "softprob"])
def test_model(objective, tmp_path):
    value = model(objective)
    found = through_files("model", value, tmp_path)
    assert_same(found, value)
    assert_same(score_buy(found.model, found.reference), value.reference_scores)


@pytest.mark.parametrize("threshold_method", ["f1_binary", "expected_value"])
@pytest.mark.parametrize("method", METHODS)
def test_calibration(method, threshold_method, tmp_path):
    value = calibration(method, threshold_method)
    assert_same(through_files("calibration", value, tmp_path), value)


@pytest.mark.parametrize("method", ["sigmoid", "platt", "hybrid"])
def test_a_flat_calibration(method, tmp_path):
    value = calibration(method)
    backwards = calibrate(
        1 - scored()["score"],
        scored()["label"],
        scored()["return"],
        method=method,
        threshold_method="f1_binary",
        trade_threshold_method="f1_binary",
        cost=0.0,
        seed=1,
    )
    assert backwards.notes
    found = through_files("calibration", replace(value, calibration=backwards), tmp_path)
    assert found.calibration.notes == backwards.notes
    assert found.calibration.is_flat == backwards.is_flat


def test_report(tmp_path):
    assert_same(through_files("test_report", report(scored()), tmp_path), report(scored()))


def test_a_report_with_undefined_values(tmp_path):
    nothing_to_buy = scored().assign(label=np.int8(0), score=0.1)
    value = report(nothing_to_buy)
    assert {"precision_buy", "recall_buy", "pr_auc", "pr_auc_lift_low"} <= set(value.report.undefined())
    found = through_files("test_report", value, tmp_path)
    assert_same(found, value)
    assert found.report.undefined() == value.report.undefined()


def test_a_number_that_is_not_one_never_reaches_a_file(tmp_path):
    wrong = replace(report(scored()), report=Report(**{**asdict(report(scored()).report), "pr_auc": float("nan")}))
    with pytest.raises(ValueError, match="JSON"):
        CODECS["test_report"].write(tmp_path, wrong)


# What a stored calibration may not hold


@pytest.mark.parametrize(
    "estimator", [Ridge(), DummyClassifier(), IsotonicRegression()], ids=lambda item: type(item).__name__
)
def test_a_skops_file_with_another_estimator_is_refused(estimator, tmp_path):
    CODECS["calibration"].write(tmp_path, calibration("sigmoid"))
    skops.io.dump(estimator.fit(np.array([[0.0], [1.0]]), [0, 1]), tmp_path / "sigmoid.skops")
    with pytest.raises(
        ArtifactError, match=rf"holds a sklearn.*{type(estimator).__name__}, expected sklearn.*Logistic"
    ):
        CODECS["calibration"].read(tmp_path)


def test_a_skops_file_with_a_function_is_refused(tmp_path):
    CODECS["calibration"].write(tmp_path, calibration("sigmoid"))
    skops.io.dump(Pipeline([("shell", FunctionTransformer(func=print))]), tmp_path / "sigmoid.skops")
    with pytest.raises(skops.io.exceptions.UntrustedTypesFoundException, match="print"):
        CODECS["calibration"].read(tmp_path)


class Foreign:
    """A type of nobody's."""

    def __init__(self) -> None:
        self.value = 1


def test_a_skops_file_with_a_foreign_type_is_refused(tmp_path):
    CODECS["calibration"].write(tmp_path, calibration("sigmoid"))
    skops.io.dump(Foreign(), tmp_path / "sigmoid.skops")
    with pytest.raises(skops.io.exceptions.UntrustedTypesFoundException, match="Foreign"):
        CODECS["calibration"].read(tmp_path)


def test_a_pickle_in_place_of_a_skops_file_is_refused(tmp_path):
    CODECS["calibration"].write(tmp_path, calibration("sigmoid"))
    (tmp_path / "sigmoid.skops").write_bytes(pickle.dumps(calibration("sigmoid").calibration.estimators["sigmoid"]))
    with pytest.raises(zipfile.BadZipFile):
        CODECS["calibration"].read(tmp_path)


def test_an_estimator_file_that_is_missing_is_noticed(tmp_path):
    CODECS["calibration"].write(tmp_path, calibration("hybrid"))
    (tmp_path / "isotonic.skops").unlink()
    with pytest.raises(CalibrationError, match="rebuild"):
        CODECS["calibration"].read(tmp_path)


def test_only_the_types_that_are_needed_are_trusted(tmp_path):
    for method in METHODS:
        (tmp_path / method).mkdir()
        CODECS["calibration"].write(tmp_path / method, calibration(method))
    found = {name for path in tmp_path.rglob("*.skops") for name in skops.io.get_untrusted_types(file=path)}
    assert found <= set(TRUSTED_TYPES)


# evaluations


def traded() -> Traded:
    return Traded(**{field.name: getattr(outcome(), field.name) for field in fields(Traded)})


def silent(traded: Traded) -> Traded:
    """The same without a trade, as a model leaves it that never says BUY."""
    compared = traded.compared
    nothing = replace(compared.backtest, trades=compared.backtest.trades.iloc[:0])
    undefined = replace(traded.performance, sortino=None, hit_rate=None, tp_pct=None, sl_pct=None, timeout_pct=None)
    return replace(traded, compared=replace(compared, backtest=nothing), performance=undefined)


@pytest.mark.parametrize("change", [lambda traded: traded, silent], ids=["trades", "no trade"])
def test_backtest(tmp_path, change):
    stored = StoredBacktest(change(traded()), {"equity": b"\x89PNG\r\n\x1a\n"})
    assert_same(through_files("backtest", stored, tmp_path), stored)


def test_walk_forward_of_several_candidates(tmp_path):
    both = (outcome(), replace(outcome(), pte=PTE.parse("H2_SL1.0_TP1.5"), folds=outcome().folds[:2]))
    assert_same(through_files("walk_forward", both, tmp_path), both)


def test_rolling_backtest_keeps_the_model_that_may_be_registered(tmp_path):
    both = (walked(), replace(walked(), pte=PTE.parse("H2_SL1.0_TP1.5")))
    assert_same(through_files("rolling_backtest", both, tmp_path), both)
    names = {path.name for path in tmp_path.iterdir()}
    last = "last-H4_SL1.0_TP2.0"
    assert {f"{last}-model.ubj", f"{last}-model.json", f"{last}-calibration.json", f"{last}-sigmoid.skops"} <= names
    assert (tmp_path / f"{last}-model.ubj").read_bytes() == walked().last.model.ubj


def test_every_kind_of_exit_stays_a_category(tmp_path):
    """Parquet forgets a category that no row has."""
    only_stops = outcome().last.predictions.query("exit_kind == 'sl'")
    folds = (replace(outcome().last, predictions=only_stops),)
    # A tested candidate's folds are numbered from 1 on.
    folds = (replace(folds[0], plan=replace(folds[0].plan, number=1)),)
    (found,) = through_files("walk_forward", (replace(outcome(), folds=folds),), tmp_path)
    assert list(found.folds[0].predictions["exit_kind"].cat.categories) == ["tp", "sl", "timeout"]


def test_evaluation(tmp_path):
    first, second = record(), record(pte="H2_SL1.0_TP1.5", rank=2, leading=False, sortino=None)
    stored = StoredEvaluation((first, second), {first.pte: 0.1, second.pte: None}, {"exit_shares": b"\x89PNG"})
    found = through_files("evaluation", stored, tmp_path)
    assert found == stored
    assert found.leading == first


def test_records_of_two_cryptos_are_no_evaluation(tmp_path):
    CODECS["evaluation"].write(tmp_path, StoredEvaluation((record(), record(crypto="ETHUSDC")), {}, {}))
    with pytest.raises(RecordError, match="ETHUSDC"):
        CODECS["evaluation"].read(tmp_path)
