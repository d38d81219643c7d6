"""Schemas: what the rooms make passes, and every rule has data that must fail it."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from asset_checks import schemas
from cvntrade_assets.learning.barriers import label_candles
from cvntrade_assets.learning.features import FEATURE_NAMES, compute_features
from cvntrade_assets.learning.splits import SliceFractions
from cvntrade_assets.learning.training_set import assemble_training_set
from cvntrade_assets.trading.pte import PTE

INTERVAL = pd.Timedelta("30min")
LABEL_PTE = PTE.parse("H4_SL1.0_TP2.0")


@pytest.fixture(scope="module")
def candles(random_candles) -> pd.DataFrame:
    return random_candles(2_000, 0)


@pytest.fixture(scope="module")
def features(candles) -> pd.DataFrame:
    return compute_features(candles)


@pytest.fixture(scope="module")
def labels(candles) -> pd.DataFrame:
    return label_candles(candles, LABEL_PTE, interval=INTERVAL, binary=True)


@pytest.fixture(scope="module")
def targets(features, labels) -> pd.DataFrame:
    fractions = SliceFractions(0.6, 0.1, 0.1, 0.2)
    whole = assemble_training_set(
        features, labels, pd.DatetimeIndex([]), "off", fractions, pd.Timedelta("4h"), uniqueness_weights=True
    )
    return whole.targets


def expect_breach(schema, frame: pd.DataFrame, complaint: str) -> None:
    found = schemas.violations(schema, frame)
    assert found is not None
    assert re.search(complaint, found), found


def put(frame: pd.DataFrame, row: int, **values) -> pd.DataFrame:
    """The frame with some values of one row replaced; types stay."""
    changed = frame.copy()
    for column, value in values.items():
        changed.iloc[row, changed.columns.get_loc(column)] = value
    return changed


def reordered(frame: pd.DataFrame, rows: list[int]) -> pd.DataFrame:
    return frame.iloc[rows]


def shifted(frame: pd.DataFrame, by: str) -> pd.DataFrame:
    return frame.set_axis(frame.index + pd.Timedelta(by))


SHAPE_BREACHES = [
    (lambda f: f.iloc[:0], "there must be rows"),
    (lambda f: reordered(f, [0, 2, 1]), "open_time must be strictly increasing: 1 of 3 rows"),
    (lambda f: reordered(f, [0, 1, 1]), "open_time must be strictly increasing: 1 of 3 rows"),
    (lambda f: f.rename_axis("time"), "the index has another name: time"),
    (lambda f: f.tz_localize(None), r"open_time is datetime64\[ns\], expected datetime64\[ns, UTC\]"),
    (lambda f: f.set_axis(f.index.as_unit("ms")), r"open_time is datetime64\[ms, UTC\]"),
    (lambda f: f.reset_index(drop=True), "open_time is int64"),
    (lambda f: f.iloc[:, ::-1], "columns are out of order"),
    (lambda f: f.iloc[:, 1:], "columns are missing"),
    (lambda f: f.assign(extra=1.0), "columns are unknown: extra"),
    (lambda f: f.astype({f.columns[0]: "object"}), "types are wrong: .* is object"),
]

CANDLE_BREACHES = [
    (lambda c: shifted(c, "1min"), "must be a multiple of 0 days 00:30:00"),
    (lambda c: put(c, 5, close=np.nan), r"values must be finite: 1 of 2000 rows break this.*\(close nan\)"),
    (lambda c: put(c, 5, volume=np.inf), r"values must be finite: .*\(volume inf\)"),
    (lambda c: put(c, 5, low=0.0), r"prices must be positive: .*\(low 0\.0\)"),
    (lambda c: put(c, 5, open=-1.0, low=-2.0), r"prices must be positive: .*\(open -1\.0, low -2\.0\)"),
    (lambda c: put(c, 5, volume=-1.0), "volume must not be negative: 1 of 2000"),
    (lambda c: put(c, 5, high=c["low"].iloc[5]), "high must be the highest price: 1 of 2000"),
    (lambda c: put(c, 5, low=c["high"].iloc[5]), "low must be the lowest price: 1 of 2000"),
    (lambda c: c.astype({"volume": "float32"}), "volume is float32, expected float64"),
    (lambda c: c.astype({"complete": "int8"}), "complete is int8, expected bool"),
]

FEATURE_BREACHES = [
    (lambda x: put(x, 3, RSI_14=np.nan), r"values must be finite: 1 of 1500 rows.*\(RSI_14 nan\)"),
    (lambda x: put(x, 3, RSI_14=-np.inf), r"values must be finite: 1 of 1500 rows.*\(RSI_14 -inf\)"),
    (lambda x: x.astype("float64"), f"and {len(FEATURE_NAMES) - schemas.SHOWN_NAMES} more"),
    (lambda x: x.drop(columns="RSI_14"), "columns are missing: RSI_14"),
    (lambda x: x.rename(columns={"RSI_14": "RSI14"}), "columns are unknown: RSI14"),
    (lambda x: x[["BODY", *(n for n in FEATURE_NAMES if n != "BODY")]], "columns are out of order: BODY"),
]


def first(frame: pd.DataFrame, kind: str) -> int:
    return int(np.flatnonzero(frame["exit_kind"] == kind)[0])


LABEL_BREACHES = [
    (lambda y: put(y, first(y, "sl"), label=2), "label must be one of -1, 0, 1: 1 of"),
    (
        lambda y: put(y, first(y, "sl"), label=1),
        r"label must be 1 for exit kind tp and no other: .*exit_kind sl\)",
    ),
    (
        lambda y: put(y, first(y, "tp"), label=0),
        r"label must be 1 for exit kind tp and no other: .*exit_kind tp\)",
    ),
    (lambda y: put(y, 3, exit_kind=None), "exit_kind must be one of tp, sl, timeout: 1 of"),
    (lambda y: y.assign(exit_kind=y["exit_kind"].cat.rename_categories({"sl": "stop"})), "exit_kind stop"),
    (lambda y: y.assign(exit_kind=y["exit_kind"].astype(str)), "exit_kind is object, expected category"),
    (lambda y: y.assign(label=y["label"].astype("float64")), "label is float64, expected int8"),
    (lambda y: put(y, 3, **{"return": np.nan}), r"values must be finite: .*\(return nan\)"),
    (lambda y: put(y, first(y, "tp"), **{"return": -0.01}), "a target must earn and a stop must lose: 1 of"),
    (lambda y: put(y, first(y, "sl"), **{"return": 0.01}), "a target must earn and a stop must lose: 1 of"),
    (lambda y: put(y, first(y, "sl"), **{"return": -1.5}), "a target must earn and a stop must lose: 1 of"),
    (lambda y: put(y, 3, entry_time=y.index[3]), "entry must follow the signal, exit the entry: 1 of"),
    (
        lambda y: put(y, 3, exit_time=y["entry_time"].iloc[3]),
        "entry must follow the signal, exit the entry: 1 of",
    ),
    (lambda y: put(y, 3, exit_time=pd.NaT), r"exit the entry: .*exit_time NaT\)"),
]

TARGET_BREACHES = [
    *LABEL_BREACHES,
    (lambda t: put(t, 3, weight=0.0), "weight must be positive: 1 of"),
    (lambda t: put(t, 3, weight=np.nan), r"values must be finite: .*\(weight nan\)"),
    (lambda t: put(t, -1, weight=1.2), r"weight must be 1 outside the train slice: .*slice test\)"),
    (lambda t: put(t, 3, weight=9.0), "weights of the train slice must have mean 1"),
    (lambda t: put(t, 3, slice=None), "slice must be one of train, validation, calibration, test: 1 of"),
    (lambda t: t[t["slice"] != "calibration"], "every slice must hold rows"),
    (lambda t: put(t, -1, slice="train"), r"slices must follow each other in time.*\(slice train\)"),
]


def test_real_work_keeps_its_schemas(candles, features, labels, targets):
    assert schemas.violations(schemas.candles_schema(INTERVAL), candles) is None
    assert schemas.violations(schemas.features_schema(), features) is None
    assert schemas.violations(schemas.features_schema(["BODY", "CLV"]), features[["BODY", "CLV"]]) is None
    assert schemas.violations(schemas.labels_schema(binary=True), labels) is None
    assert schemas.violations(schemas.targets_schema(binary=True), targets) is None


def test_three_classes_keep_their_schema(candles):
    labels = label_candles(candles, LABEL_PTE, interval=INTERVAL, binary=False)
    assert (labels["label"] == -1).any()
    assert schemas.violations(schemas.labels_schema(), labels) is None
    assert "label must be one of 0, 1" in schemas.violations(schemas.labels_schema(binary=True), labels)


@pytest.mark.parametrize("symbol", ["ADAUSDT", "BTCUSDT"])
def test_real_candles_and_their_labels_keep_their_schemas(real_candles, symbol: str):
    candles = real_candles(symbol, start="2024-11-01", end="2025-03-01")
    labels = label_candles(candles, LABEL_PTE, interval=INTERVAL, binary=False)
    assert schemas.violations(schemas.candles_schema(INTERVAL), candles) is None
    assert schemas.violations(schemas.labels_schema(), labels) is None


def test_frames_keep_their_schemas_through_parquet(tmp_path: Path, candles, features, labels, targets):
    for name, schema, frame in (
        ("candles", schemas.candles_schema(INTERVAL), candles),
        ("features", schemas.features_schema(), features),
        ("labels", schemas.labels_schema(), labels),
        ("targets", schemas.targets_schema(), targets),
    ):
        frame.to_parquet(tmp_path / name)
        assert schemas.violations(schema, pd.read_parquet(tmp_path / name)) is None


@pytest.mark.parametrize("kind", ["candles", "features", "labels", "targets"])
@pytest.mark.parametrize(("change", "complaint"), SHAPE_BREACHES)
def test_shape_breaches(request: pytest.FixtureRequest, kind: str, change, complaint: str):
    schema = schemas.candles_schema(INTERVAL) if kind == "candles" else getattr(schemas, f"{kind}_schema")()
    expect_breach(schema, change(request.getfixturevalue(kind)), complaint)


@pytest.mark.parametrize(("change", "complaint"), CANDLE_BREACHES)
def test_candle_breaches(candles, change, complaint: str):
    expect_breach(schemas.candles_schema(INTERVAL), change(candles), complaint)


@pytest.mark.parametrize(("change", "complaint"), FEATURE_BREACHES)
def test_feature_breaches(features, change, complaint: str):
    expect_breach(schemas.features_schema(), change(features), complaint)


@pytest.mark.parametrize(("change", "complaint"), LABEL_BREACHES)
def test_label_breaches(labels, change, complaint: str):
    expect_breach(schemas.labels_schema(), change(labels), complaint)


@pytest.mark.parametrize(("change", "complaint"), TARGET_BREACHES)
def test_target_breaches(targets, change, complaint: str):
    expect_breach(schemas.targets_schema(), change(targets), complaint)


def test_first_violations_name_the_row_and_stay_short(candles):
    from pandera.errors import SchemaErrors

    broken = candles.iloc[::-1].assign(volume=-1.0, high=np.nan, low=0.0, close=np.inf, extra=1)
    with pytest.raises(SchemaErrors) as caught:
        schemas.candles_schema(INTERVAL).validate(broken, lazy=True)
    lines = schemas.first_violations(caught.value).splitlines()
    assert lines[0] == "the candles break their schema:"
    assert lines[1] == "- columns are unknown: extra"
    assert lines[2].startswith(
        "- open_time must be strictly increasing: 1999 of 2000 rows break this, first 2024-02-11"
    )
    assert lines[-1] == "- and 1 more"
    assert len(lines) == schemas.SHOWN_RULES + 2
    assert max(len(line) for line in lines) < 400


def test_a_rule_that_cannot_run_is_not_a_pass(candles):
    found = schemas.violations(schemas.candles_schema(INTERVAL), candles.drop(columns="high"))
    assert "could not be checked: values must be finite" in found


def test_validation_changes_nothing(candles):
    before = candles.copy()
    schemas.violations(schemas.candles_schema(INTERVAL), candles)
    pd.testing.assert_frame_equal(candles, before)


def test_importing_the_schemas_does_not_import_pandera():
    code = "import asset_checks.schemas, sys; sys.exit('pandera' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
