"""Schemas: what the rooms make passes, and every rule has data that must fail it."""

import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from asset_checks import row_rules, schemas
from asset_checks.breach import ALL_ROWS, SHOWN_OFFENDERS, Offender
from asset_checks.row_rules import violations
from cvntrade_assets.definitions import ASSETS
from cvntrade_assets.hyperparameters import HYPERPARAMETERS
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
    found = violations(schema, frame)
    assert found is not None
    assert re.search(complaint, found.message), found.message


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
    (lambda x: x.astype("float64"), f"and {len(FEATURE_NAMES) - row_rules.SHOWN_NAMES} more"),
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
    assert violations(schemas.candles_schema(INTERVAL), candles) is None
    assert violations(schemas.features_schema(), features) is None
    assert violations(schemas.features_schema(["BODY", "CLV"]), features[["BODY", "CLV"]]) is None
    assert violations(schemas.labels_schema(binary=True), labels) is None
    assert violations(schemas.targets_schema(binary=True), targets) is None


def test_three_classes_keep_their_schema(candles):
    labels = label_candles(candles, LABEL_PTE, interval=INTERVAL, binary=False)
    assert (labels["label"] == -1).any()
    assert violations(schemas.labels_schema(), labels) is None
    assert "label must be one of 0, 1" in violations(schemas.labels_schema(binary=True), labels).message


@pytest.mark.parametrize("symbol", ["ADAUSDT", "BTCUSDT"])
def test_real_candles_and_their_labels_keep_their_schemas(real_candles, symbol: str):
    candles = real_candles(symbol, start="2024-11-01", end="2025-03-01")
    labels = label_candles(candles, LABEL_PTE, interval=INTERVAL, binary=False)
    assert violations(schemas.candles_schema(INTERVAL), candles) is None
    assert violations(schemas.labels_schema(), labels) is None


def test_frames_keep_their_schemas_through_parquet(tmp_path: Path, candles, features, labels, targets):
    for name, schema, frame in (
        ("candles", schemas.candles_schema(INTERVAL), candles),
        ("features", schemas.features_schema(), features),
        ("labels", schemas.labels_schema(), labels),
        ("targets", schemas.targets_schema(), targets),
    ):
        frame.to_parquet(tmp_path / name)
        assert violations(schema, pd.read_parquet(tmp_path / name)) is None


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


# parts whose data is small enough to be written down

TIMES = pd.date_range("2025-01-01", periods=4, freq="30min", tz="UTC", name="open_time", unit="ns")
SEARCHED = [item for item in HYPERPARAMETERS["XGBOOST"] if item.searched]
BEST = {item.name: int(item.default) if item.integer else item.default for item in schemas.tree_hyperparameters()}
REPORT = {
    **dict.fromkeys(
        ("f1_buy", "baseline_f1_buy", "buy_rate", "predicted_buy_rate", "precision_buy", "recall_buy"), 0.5
    ),
    **dict.fromkeys(("pr_auc", "pr_auc_chance", "brier_before", "brier_after", "brier_base_rate"), 0.3),
    **dict.fromkeys(("ece_before", "ece_after", "threshold"), 0.2),
    **dict.fromkeys(("f1_buy_delta", "pr_auc_lift"), 0.0),
    **{f"{name}_{end}": 0.0 for name in schemas.HEADLINES for end in ("low", "high")},
    **{"tn": 1, "fp": 1, "fn": 1, "tp": 1, "rows": 4},
}


def record(values: dict) -> pd.DataFrame:
    return pd.DataFrame([values])


def timed(**columns) -> pd.DataFrame:
    return pd.DataFrame(columns, index=TIMES)


def edit(**values):
    """A change of the first row."""
    return lambda frame: put(frame, 0, **values)


MONTHS = pd.DataFrame(
    [
        ("2025-01", "good", "ab", None, None, None),
        ("2025-02", "absent", None, "a hole", None, None),
        ("2025-03", "quarantined", None, "its checksum is wrong", None, None),
    ],
    columns=["month", "status", "sha256", "reason", "replaced_sha256", "kept_from"],
)
SELECTED = pd.DataFrame(
    {
        "score": [0.7, np.nan, 0.3],
        "kept": [True, False, True],
        "reason": ["kept", "constant", "kept"],
        "chosen": [True, False, True],
    },
    index=pd.Index(["A", "B", "C"], name="feature"),
)
TRIALS = pd.DataFrame(
    {"score": [0.4, 0.5], "score_fold_0": [0.3, 0.6], "score_fold_1": [0.5, 0.4], "rounds": [10.0, 20.0]}
    | {item.name: [BEST[item.name]] * 2 for item in SEARCHED},
    index=pd.RangeIndex(2, name="trial"),
)
LABELS = np.array([0, 1, 0, 1], dtype="int8")
HALF = np.full(4, 0.5)
SHARES = pd.DataFrame({"-1": [1.0, 0, 0, 0], "0": [0.0, 1, 0.1, 1], "1": [0.0, 0, 0.9, 0]}, index=TIMES)
CALIBRATED = timed(label=LABELS, target=LABELS, score=HALF, probability=HALF)
PREDICTED = timed(**{"label": LABELS, "return": HALF, "score": HALF, "probability": HALF, "predicted": HALF > 0.4})
MODEL = {"objective": "logistic", "best_iteration": 3, "features": 10, "bytes": 1000}
REGISTRATION = {
    "crypto": "BTCUSDC",
    "number": 1,
    "pte": "H4_SL1.0_TP2.0",
    "market": "binance",
    "state": "challenger",
    "epoch": 2,
    "model_sha256": "ab" * 32,
}
CALIBRATION = {
    "method": "sigmoid",
    "threshold": 0.3,
    "threshold_method": "f1_binary",
    "trade_threshold": 0.6,
    "trade_threshold_method": "expected_value",
    "n_rows": 100,
    "base_rate": 0.25,
    "notes": [],
}
AUDIT = {"kind": "complete", "s22a1_status": "REPRODUCED", "s22a1_anchor_available": True, "diagnosis": "s40"}
PROBED = pd.DataFrame(
    {
        "name": ["a", "b"],
        "passed": [True, False],
        "message": ["fine", "not"],
        "value": [0.0, np.nan],
        "limit": [1.0, 1.0],
    }
)
PLOTS = pd.DataFrame({"plot": list(schemas.PLOTS), "png": True})
# The second point could not be fitted, the third never traded.
POINTS = pd.DataFrame(
    {
        "rank": [1, 2, 3],
        "pte": ["H4_SL1.0_TP2.0", "H1_SL1.0_TP3.0", "H1_SL1.0_TP2.0"],
        "horizon_hours": [4, 1, 1],
        "stop_loss": 1.0,
        "take_profit": [2.0, 3.0, 2.0],
        "eligible": [True, False, False],
        "reason": ["", "no BUY", "0 trades"],
        "rows": [90, 90, 80],
        "buy_rate": [0.25, np.nan, 0.5],
        "f1_buy": [0.5, np.nan, 0.0],
        "baseline_f1_buy": [0.4, np.nan, 1.0 / 1.5],
        "f1_buy_delta": [0.1, np.nan, -1.0 / 1.5],
        "pr_auc_lift": [0.1, np.nan, 0.0],
        "n_trades": [40, 0, 0],
        "hit_rate": [0.6, np.nan, np.nan],
        "expectancy_net": [0.001, np.nan, np.nan],
        "sharpe": [2.5, np.nan, np.nan],
        "sortino": [3.5, np.nan, np.nan],
        "max_drawdown": [0.1, np.nan, 0.0],
        "tp_pct": [0.5, np.nan, np.nan],
        "sl_pct": [0.25, np.nan, np.nan],
        "timeout_pct": [0.25, np.nan, np.nan],
    }
)
DAILY = pd.DataFrame(
    {"H4_SL1.0_TP2.0": [0.01, -0.02, 0.0], "H1_SL1.0_TP3.0": 0.0},
    index=pd.date_range("2025-01-01", periods=3, tz="UTC", name="day"),
)

# Every part: its schema, data that keeps it, and for every rule of it a change that breaks it.
PARTS = {
    "months": (
        schemas.months_schema,
        MONTHS,
        [
            (edit(month="January"), "month must look like 2025-01: 1 of 3"),
            (lambda m: m.iloc[::-1], "months must follow each other: 2 of 3"),
            (edit(status="fine"), "status must be one of good, absent, quarantined"),
            (lambda m: put(m, 1, reason=None), "a good month has no reason, any other has one"),
        ],
    ),
    "selection": (
        lambda: schemas.selection_schema(["A", "B", "C"]),
        SELECTED,
        [
            (lambda s: s.iloc[[0, 2, 1]], "every offered feature must have its row, in their order"),
            (edit(score=1.2), "score must lie within 0 to 1 where it is defined"),
            (edit(score=np.nan), "a kept feature must have a score"),
            (edit(reason="constant"), "reason must be 'kept' for kept ones only"),
            (edit(chosen=False), "the chosen names must be the kept ones"),
        ],
    ),
    "hard labels": (
        lambda: schemas.prepared_labels_schema(binary=True, smoothed=False),
        timed(label=LABELS),
        [(edit(label=-1), "label must be one of 0, 1: 1 of 4")],
    ),
    "three hard labels": (
        lambda: schemas.prepared_labels_schema(binary=False, smoothed=False),
        timed(label=np.array([-1, 0, 1, 0], dtype="int8")),
        [(edit(label=2), "label must be one of -1, 0, 1: 1 of 4")],
    ),
    "soft labels": (
        lambda: schemas.prepared_labels_schema(binary=True, smoothed=True),
        timed(label=LABELS * 0.9),
        [
            (edit(label=1.1), "label must lie within 0 to 1"),
            (lambda labels: labels.astype("float32"), "label is float32, expected float64"),
        ],
    ),
    "class shares": (
        lambda: schemas.prepared_labels_schema(binary=False, smoothed=True),
        SHARES,
        [
            (edit(**{"-1": 1.5, "0": -0.5}), "-1 must lie within 0 to 1(.|\n)*0 must lie within 0 to 1"),
            (lambda shares: put(shares, 2, **{"1": 1.1, "0": -0.1}), "1 must lie within 0 to 1"),
            (edit(**{"-1": 0.9}), "the shares of the classes must add up to 1: 1 of 4"),
        ],
    ),
    "weights": (
        schemas.weights_schema,
        timed(weight=HALF),
        [(edit(weight=np.inf), "values must be finite"), (edit(weight=0.0), "weight must be positive")],
    ),
    "suspects": (
        schemas.suspects_schema,
        timed(suspect=[True, False, False, False]),
        [(lambda s: s.astype("int8"), "suspect is int8, expected bool")],
    ),
    "trials": (
        lambda: schemas.trials_schema(SEARCHED, 2),
        TRIALS,
        [
            (lambda t: t.iloc[:0], "there must be a trial"),
            (edit(score=1.5), "score must lie within 0 to 1"),
            (edit(score_fold_0=-0.1), "score_fold_0 must lie within 0 to 1"),
            (edit(score_fold_1=np.nan), "score_fold_1 must lie within 0 to 1"),
            (edit(rounds=0.0), "a trial must grow a tree"),
            *((edit(**{item.name: item.high + 1}), f"{item.name} must lie within") for item in SEARCHED),
            (lambda t: t.drop(columns="score_fold_1"), "columns are missing: score_fold_1"),
        ],
    ),
    "hyperparameters": (
        schemas.hyperparameters_schema,
        record(BEST),
        [
            *(
                (edit(**{item.name: item.high + 1}), f"{item.name} must lie within")
                for item in schemas.tree_hyperparameters()
            ),
            (lambda p: p.assign(luck=7), "columns are unknown: luck"),
            (lambda p: pd.concat([p, p]), "there must be one row"),
        ],
    ),
    "model": (
        schemas.model_schema,
        record(MODEL),
        [
            (lambda m: pd.concat([m, m]), "there must be one row"),
            (edit(objective="hinge"), "objective must be one of logistic, focal, softprob"),
            (edit(best_iteration=-1), "the best round must not be before the first"),
            (edit(features=0), "there must be features"),
            (edit(bytes=0), "there must be a booster"),
        ],
    ),
    "registration": (
        schemas.registration_schema,
        record(REGISTRATION),
        [
            (lambda r: pd.concat([r, r]), "there must be one row"),
            (edit(market="paper"), "market must be one of binance, simulated"),
            (edit(state="famous"), "state must be one of candidate, challenger, champion"),
            (edit(number=0), "numbers and epochs must count from 1"),
            (edit(epoch=0), "numbers and epochs must count from 1"),
            (edit(market="simulated", state="champion"), "what was simulated must not be champion"),
            (edit(model_sha256="ab"), "model_sha256 must be a checksum"),
            (lambda r: r.drop(columns="pte"), "columns are missing: pte"),
        ],
    ),
    "reference scores": (
        schemas.scores_schema,
        timed(buy_score=HALF),
        [(edit(buy_score=1.2), "buy_score must lie within 0 to 1")],
    ),
    "calibration": (
        schemas.calibration_schema,
        record(CALIBRATION),
        [
            (lambda c: pd.concat([c, c]), "there must be one row"),
            (edit(method="magic"), "method must be one of none, sigmoid"),
            (edit(threshold_method="luck"), "- threshold_method must be one of"),
            (edit(trade_threshold_method="luck"), "trade_threshold_method must be one of"),
            (edit(threshold=1.5), "- threshold must lie within 0 to 1, or be 2 for never"),
            (edit(trade_threshold=1.5), "trade_threshold must lie within 0 to 1, or be 2 for never"),
            (edit(n_rows=0), "there must be rows behind it"),
            (edit(base_rate=1.1), "base_rate must lie within 0 to 1"),
        ],
    ),
    "calibrated": (
        lambda: schemas.calibrated_schema(binary=True),
        CALIBRATED,
        [
            (edit(label=-1), "label must be one of 0, 1"),
            (edit(target=2), "target must be one of 0, 1"),
            (edit(score=-0.1), "score must lie within 0 to 1"),
            (edit(probability=np.nan), "probability must lie within 0 to 1: 1 of 4"),
        ],
    ),
    "report": (
        schemas.report_schema,
        record(REPORT),
        [
            (lambda r: pd.concat([r, r]), "there must be one row"),
            *(
                (edit(**{name: 1.5}), f"{name} must lie within 0 to 1")
                for name in REPORT
                if name not in ("threshold", "tn", "fp", "fn", "tp", "rows", "f1_buy_delta", "pr_auc_lift")
                and not name.endswith(("_low", "_high"))
            ),
            *((edit(**{name: -1.5}), f"{name} must lie within -1 to 1") for name in ("f1_buy_delta", "pr_auc_lift")),
            *((edit(**{f"{name}_low": -1.5}), f"{name}_low must lie within -1 to 1") for name in schemas.HEADLINES),
            *((edit(**{f"{name}_high": 1.5}), f"{name}_high must lie within -1 to 1") for name in schemas.HEADLINES),
            *((edit(**{f"{name}_low": 0.1}), f"{name}'s interval must have both ends") for name in schemas.HEADLINES),
            (edit(pr_auc_high=np.nan), "pr_auc's interval must have both ends, the low one not above the high one"),
            (edit(threshold=-0.5), "threshold must lie within 0 to 2"),
            (edit(tn=-1, fp=3), "counts must not be negative"),
            (edit(rows=5), "counts must add up to the rows"),
        ],
    ),
    "predictions": (
        lambda: schemas.predictions_schema(binary=True),
        PREDICTED,
        [
            (edit(label=-1), "label must be one of 0, 1"),
            (edit(**{"return": np.nan}), "values must be finite"),
            (edit(score=2.0), "score must lie within 0 to 1"),
            (edit(probability=2.0), "probability must lie within 0 to 1"),
        ],
    ),
    "plots": (
        schemas.plots_schema,
        PLOTS,
        [
            (lambda p: p.iloc[1:], "the plots must be equity, label_timeline"),
            (edit(png=False), "a plot must be a PNG"),
        ],
    ),
    "points": (
        lambda: schemas.points_schema(30),
        POINTS,
        [
            (lambda p: p.iloc[:0], "there must be a point"),
            (edit(rank=2), "ranks must count from 1: 1 of 3"),
            (edit(pte="H1_SL1.0_TP3.0"), "a point stands once: 1 of 3"),
            (edit(n_trades=-1), "counts must not be negative: 1 of 3"),
            *(
                (edit(**{name: 1.5}), f"{name} must lie within 0 to 1 where it is defined: 1 of 3")
                for name in (*schemas.SHARES_OF_LABELS, *schemas.SHARES_OF_TRADES)
            ),
            (edit(sharpe=np.inf), "numbers must be finite where defined: 1 of 3"),
            (edit(baseline_f1_buy=0.3), "f1_buy must stand beside that of always saying BUY: 1 of 3"),
            (edit(f1_buy_delta=0.2), "f1_buy must stand beside that of always saying BUY: 1 of 3"),
            (edit(baseline_f1_buy=np.nan), "f1_buy must stand beside that of always saying BUY: 1 of 3"),
            (edit(tp_pct=0.6), "exit shares must add up to 1 where trades ended: 1 of 3"),
            (lambda p: put(p, 1, tp_pct=0.0), "exit shares must add up to 1 where trades ended: 1 of 3"),
            (edit(reason="for no reason"), "a reason stands at a refused point only: 1 of 3"),
            (lambda p: put(p, 1, reason=""), "a reason stands at a refused point only: 1 of 3"),
            (edit(n_trades=29), "an eligible point must beat always-BUY, earn after costs and trade at least 30 times"),
            (edit(expectancy_net=0.0), "an eligible point must beat always-BUY, earn after costs and trade"),
            (
                edit(f1_buy=0.4, f1_buy_delta=0.0),
                "an eligible point must beat always-BUY, earn after costs and trade at least 30 times: 1 of 3",
            ),
        ],
    ),
    "daily returns": (
        lambda: schemas.daily_schema(list(DAILY.columns)),
        DAILY,
        [
            (edit(**{"H4_SL1.0_TP2.0": np.nan}), "values must be finite: 1 of 3"),
            (edit(**{"H4_SL1.0_TP2.0": -1.0}), "nobody loses more than everything: 1 of 3"),
            (lambda r: r.iloc[[0, 2]], "days must be whole UTC days, one after the other: 1 of 2"),
            (lambda r: r.shift(freq="1h"), "days must be whole UTC days, one after the other: 3 of 3"),
        ],
    ),
    "audit": (
        schemas.audit_schema,
        record(AUDIT),
        [
            (lambda a: pd.concat([a, a]), "there must be one row"),
            (edit(kind="half"), "kind must be one of complete, skipped, inconclusive"),
            (edit(s22a1_status="FINE"), "s22a1_status must be one of REPRODUCED"),
            (edit(kind="skipped"), "an anchor belongs to a complete audit alone"),
            (edit(diagnosis="s99"), "diagnosis must be one of s40, s22"),
        ],
    ),
    "probes": (
        schemas.probes_schema,
        PROBED,
        [
            (edit(name="b"), "a probe is asked once: 1 of 2"),
            (edit(value=np.nan), "a probe without a value does not pass: 1 of 2"),
            (edit(limit=np.inf), "values must be finite"),
        ],
    ),
}
SHAPED = {"there must be rows", "open_time must be strictly increasing"}


@pytest.mark.parametrize("part", PARTS)
def test_part_keeps_its_schema(part: str):
    schema, kept, _ = PARTS[part]
    assert violations(schema(), kept) is None


@pytest.mark.parametrize(
    ("part", "number"), [(part, number) for part, (*_, breaches) in PARTS.items() for number in range(len(breaches))]
)
def test_part_breaches(part: str, number: int):
    schema, kept, breaches = PARTS[part]
    change, complaint = breaches[number]
    expect_breach(schema(), change(kept), complaint)


@pytest.mark.parametrize("part", PARTS)
def test_every_rule_of_a_part_has_data_that_must_fail_it(part: str):
    schema, kept, breaches = PARTS[part]
    said = [violations(schema(), change(kept)).message for change, _ in breaches]
    demands = {check.error for check in schema().checks} - SHAPED
    assert {demand for demand in demands if not any(f"- {demand}" in message for message in said)} == set()


def test_no_month_is_no_breach():
    assert violations(schemas.months_schema(), MONTHS.iloc[:0]) is None


def test_undefined_scores_are_no_breach():
    ends = {f"pr_auc_lift_{end}": np.nan for end in ("low", "high")}
    undefined = record(REPORT).assign(precision_buy=np.nan, pr_auc=np.nan, pr_auc_lift=np.nan, **ends)
    assert violations(schemas.report_schema(), undefined) is None
    assert violations(schemas.report_schema(), undefined.assign(f1_buy=np.nan)) is not None


def test_fields_of_a_record_stand_in_any_order():
    assert violations(schemas.model_schema(), record(MODEL).iloc[:, ::-1]) is None


def test_a_threshold_may_be_never():
    assert violations(schemas.calibration_schema(), record({**CALIBRATION, "threshold": schemas.NEVER})) is None


def test_every_asset_has_a_schema():
    assert list(schemas.SCHEMAS) == [definition.key.to_user_string() for definition in ASSETS if is_stage(definition)]


def is_stage(definition) -> bool:
    return "settings" in definition.metadata_by_key[definition.key]


def test_first_violations_name_the_row_and_stay_short(candles):
    from pandera.errors import SchemaErrors

    broken = candles.iloc[::-1].assign(volume=-1.0, high=np.nan, low=0.0, close=np.inf, extra=1)
    with pytest.raises(SchemaErrors) as caught:
        schemas.candles_schema(INTERVAL).validate(broken, lazy=True)
    breach = row_rules.first_violations(caught.value)
    lines = breach.message.splitlines()
    assert lines[0] == "the candles break their schema:"
    assert lines[1] == "- columns are unknown: extra"
    assert lines[2].startswith(
        "- open_time must be strictly increasing: 1999 of 2000 rows break this, first 2024-02-11"
    )
    assert lines[-1] == "- and 1 more"
    assert len(lines) == row_rules.SHOWN_RULES + 2
    assert max(len(line) for line in lines) < 400
    # One rule that a whole table breaks hides no other: each has its line before any has its second.
    demands = [offender.demand for offender in breach.offenders]
    assert set(demands[:7]) == set(demands)


def test_offenders_are_the_values_that_are_to_blame(candles):
    broken = put(put(candles, 5, close=np.nan), 9, volume=-1.0)
    breach = violations(schemas.candles_schema(INTERVAL), broken)
    finite, volume = "values must be finite", "volume must not be negative"
    assert Offender("close", str(candles.index[5]), "nan", finite) in breach.offenders
    assert Offender("volume", str(candles.index[9]), "-1.0", volume) in breach.offenders
    assert not [each for each in breach.offenders if each.demand == volume and each.row != str(candles.index[9])]


def test_offenders_of_names_and_types_are_columns(features):
    renamed = violations(schemas.features_schema(), features.rename(columns={"RSI_14": "RSI14"}))
    assert {(each.column, each.row) for each in renamed.offenders} >= {("RSI_14", ALL_ROWS), ("RSI14", ALL_ROWS)}
    wide = violations(schemas.features_schema(), features.astype({"RSI_14": "float64"}))
    assert wide.offenders == (Offender("RSI_14", ALL_ROWS, "float64", "float32"),)


def test_offenders_of_the_index_are_times(candles):
    breach = violations(schemas.candles_schema(INTERVAL), reordered(candles, [0, 2, 1]))
    at = str(candles.index[1])
    assert breach.offenders == (Offender("open_time", at, at, "open_time must be strictly increasing"),)


def test_table_of_offenders_is_short(candles):
    breach = violations(schemas.candles_schema(INTERVAL), candles.assign(volume=-1.0))
    assert len(breach.table.records) == SHOWN_OFFENDERS
    assert breach.table.records[0].data["row"] == str(candles.index[0])


def test_a_rule_that_cannot_run_is_not_a_pass(candles):
    found = violations(schemas.candles_schema(INTERVAL), candles.drop(columns="high"))
    assert "could not be checked: values must be finite" in found.message


def test_validation_changes_nothing(candles):
    before = candles.copy()
    violations(schemas.candles_schema(INTERVAL), candles)
    pd.testing.assert_frame_equal(candles, before)


def test_importing_the_schemas_does_not_import_pandera():
    code = "import asset_checks.schemas, sys; sys.exit('pandera' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("moved", "depths", "said"),
    [
        ("", (2, 6), ""),
        ("", (2, 7), "max_depth must lie within 2 to 6"),
        ("CVN_HPO_XGBOOST_1H_MAX_DEPTH_HIGH=8, CVN_HPO_XGBOOST_1H_MAX_DEPTH_LOW=4", (4, 8), ""),
        ("CVN_HPO_XGBOOST_1H_MAX_DEPTH_HIGH=8, CVN_HPO_XGBOOST_1H_MAX_DEPTH_LOW=4", (3, 8), "must lie within 4 to 8"),
        ("CVN_HPO_XGBOOST_1H_MAX_DEPTH=3", (2, 6), "columns are unknown: max_depth"),
    ],
)
def test_trials_are_held_to_the_search_that_the_run_asked_for(moved, depths, said):
    settings = {"CVN_HPO_XGBOOST_*": moved, "CVN_TIMEFRAME": "1h", "CVN_TUNING_FOLDS": "1"}
    subject = SimpleNamespace(manifest=SimpleNamespace(provenance=SimpleNamespace(settings=settings)))
    pinned = [name for name in ("max_depth",) if f"_{name.upper()}=" in moved]
    trials = TRIALS.drop(columns="score_fold_1").assign(max_depth=list(depths))
    breach = violations(schemas._trials_schema(subject), trials)
    assert (breach is None) if not said else said in breach.message
    if pinned:
        assert violations(schemas._trials_schema(subject), trials.drop(columns=pinned)) is None
