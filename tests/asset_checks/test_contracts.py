"""Every rule of the contracts against data that must fail it, with the message an operator reads."""

import copy
from dataclasses import fields, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xgboost as xgb
from drift_cases import ABOUT_THE_WHOLE as ABOUT_THE_WHOLE_DRIFT
from drift_cases import NO_ROW_TO_BLAME as NO_ROW_TO_BLAME_OF_DRIFT
from evaluation_cases import ABOUT_THE_WHOLE as ABOUT_THE_WHOLE_EVALUATION
from evaluation_cases import NO_ROW_TO_BLAME as NO_ROW_TO_BLAME_OF_EVALUATIONS
from services import Graph, make_graph
from tampering import CASES, Case, Tampered, breaks, with_cell, with_value

from asset_checks.breach import SHOWN_OFFENDERS
from asset_checks.contract import Subject, verdict
from asset_checks.contracts import BLOCKING_CHECKS, CONTRACTS
from asset_checks.schemas import SCHEMAS
from cvntrade_assets.hyperparameters import HYPERPARAMETERS
from cvntrade_assets.learning.features import WARM_UP
from cvntrade_assets.learning.report import TestReport
from cvntrade_assets.market.history import MonthRecord
from cvntrade_assets.operations.audit_verdict import InconclusiveAudit, SkippedAudit
from cvntrade_assets.trading.pte import PTE
from resources.artifacts import ArtifactError
from resources.codecs import StoredScreening
from resources.gate import Gate

CRYPTO = "BTCUSDC"
# Six points that are screened, and two whose target is nearer than their stop.
SMALL_GRID = {
    "CVN_SCREENING_HORIZONS": "H2,H6",
    "CVN_SCREENING_SL_RANGE": "1.0,2.0",
    "CVN_SCREENING_TP_RANGE": "1.5,3.0",
}
# As short as an evaluation can be: two folds, two steps.
SHORT = {"CVN_DEFAULT_N_FOLDS": "2", "CVN_ROLLING_STEP_DAYS": "1"}
EVALUATED = ("screening_matrix", "walk_forward", "rolling_backtest", "evaluation", "challenger", "drift")
HALF_HOUR = pd.Timedelta("30min")
RULES = {(contract.asset, rule.name): rule for contract in CONTRACTS for rule in contract.rules}


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory, warehouse_url: str, mlflow_store: Any) -> Graph:
    built = make_graph(tmp_path_factory.mktemp("chain"), warehouse_url, SMALL_GRID | SHORT, mlflow_store=mlflow_store)
    assert built.run(CRYPTO).success
    assert built.run(CRYPTO, EVALUATED).success
    audited = built.defs.resolve_job_def("audit_validation").execute_in_process(
        instance=built.instance,
        partition_key=CRYPTO,
        run_config={"resources": {"run_settings": {"config": {"settings": dict(built.run_settings)}}}},
    )
    assert audited.success
    return built


def subject_of(chain: Graph, asset: str) -> Subject:
    version = Gate(chain.instance, {}).current_version(asset, CRYPTO)
    return Subject(chain.store.require(asset, CRYPTO, version), chain.store)


def publish(chain: Graph, asset: str, tampered: Tampered, name: str) -> Subject:
    """The tampered value as a version of its own, on the real one's inputs and settings."""
    manifest = subject_of(chain, asset).manifest
    provenance = replace(manifest.provenance, code_version=f"tampered: {name}", **(tampered.provenance or {}))
    summary = {**manifest.summary, **(tampered.summary or {})}
    artifact = chain.store.publish(asset, CRYPTO, provenance, tampered.value, summary, "tampering")
    return Subject(artifact, chain.store)


# candles, and backtest_candles, which keep the same rules


@breaks("candles", "schema")
def rows_out_of_order(subject: Subject) -> Tampered:
    history = subject.value
    order = [1, 0, *range(2, len(history.candles))]
    candles = history.candles.iloc[order]
    return Tampered(
        replace(history, candles=candles),
        "the candles break their schema:\n- open_time must be strictly increasing: "
        f"1 of {len(candles)} rows break this, first {history.candles.index[0]}",
    )


@breaks("candles", "schema")
def candle_twice(subject: Subject) -> Tampered:
    history = subject.value
    candles = pd.concat([history.candles.iloc[:6], history.candles.iloc[5:]])
    return Tampered(
        replace(history, candles=candles),
        "the candles break their schema:\n- open_time must be strictly increasing: "
        f"1 of {len(candles)} rows break this, first {history.candles.index[5]}",
    )


@breaks("candles", "schema")
def candle_off_the_grid(subject: Subject) -> Tampered:
    history = subject.value
    index = history.candles.index.to_series()
    index.iloc[3] += pd.Timedelta("1min")
    candles = history.candles.set_axis(pd.DatetimeIndex(index, name="open_time"))
    return Tampered(
        replace(history, candles=candles),
        "the candles break their schema:\n- open_time must be a multiple of 0 days 00:30:00 since 1970: "
        f"1 of {len(candles)} rows break this, first {candles.index[3]}",
    )


@breaks("candles", "schema")
def price_that_is_no_number(subject: Subject) -> Tampered:
    history = subject.value
    candles = with_cell(history.candles, 8, "volume", np.inf)
    return Tampered(
        replace(history, candles=candles),
        "the candles break their schema:\n- values must be finite: "
        f"1 of {len(candles)} rows break this, first {candles.index[8]} (volume inf)",
    )


@breaks("candles", "schema")
def high_below_the_close(subject: Subject) -> Tampered:
    history = subject.value
    row = history.candles.iloc[4]
    high = float(row["low"])
    candles = with_cell(history.candles, 4, "high", high)
    prices = f"open {row['open']}, high {high}, low {row['low']}, close {row['close']}"
    return Tampered(
        replace(history, candles=candles),
        "the candles break their schema:\n- high must be the highest price: "
        f"1 of {len(candles)} rows break this, first {candles.index[4]} ({prices})",
    )


@breaks("backtest_candles", "schema")
def volume_column_lost(subject: Subject) -> Tampered:
    history = subject.value
    return Tampered(
        replace(history, candles=history.candles.drop(columns="volume")),
        "the candles break their schema:\n- columns are missing: volume\n"
        "- could not be checked: values must be finite (KeyError(\"['volume'] not in index\"))\n"
        '- could not be checked: volume must not be negative (KeyError("volume"))',
    )


@breaks("candles", "schema")
def months_out_of_order(subject: Subject) -> Tampered:
    months = (MonthRecord("2025-07", "good", "ab", None), MonthRecord("2025-06", "good", "ab", None))
    return Tampered(
        replace(subject.value, months=months),
        "the months break their schema:\n- months must follow each other: "
        "1 of 2 rows break this, first 1 (month 2025-06)",
    )


@breaks("backtest_candles", "schema")
def month_that_is_bad_for_no_reason(subject: Subject) -> Tampered:
    return Tampered(
        replace(subject.value, months=(MonthRecord("2025-06", "quarantined", None, None),)),
        "the months break their schema:\n- a good month has no reason, any other has one: "
        "1 of 1 rows break this, first 0 (status quarantined, reason None)",
    )


def _one_open_candle(subject: Subject, interval: pd.Timedelta) -> Tampered:
    as_of = subject.value.candles.index[-1] + interval / 2
    closes = subject.value.candles.index[-1] + interval
    return Tampered(
        subject.value,
        f"1 rows, the first at {closes} close after {as_of}: an open candle must be dropped",
        summary={"as_of": as_of.isoformat()},
    )


@breaks("candles", "closed")
def candle_still_open(subject: Subject) -> Tampered:
    return _one_open_candle(subject, HALF_HOUR)


@breaks("backtest_candles", "closed")
def fine_candle_still_open(subject: Subject) -> Tampered:
    return _one_open_candle(subject, pd.Timedelta("5min"))


def _quarantined_month(subject: Subject) -> Tampered:
    bad = MonthRecord("2025-06", "quarantined", None, "the checksum is wrong")
    good = MonthRecord("2025-07", "good", "ab", None)
    return Tampered(
        replace(subject.value, months=(bad, good)),
        "1 months of the archive are quarantined and count as gaps: 2025-06: the checksum is wrong",
    )


@breaks("candles", "archive_good")
def quarantined_month(subject: Subject) -> Tampered:
    return _quarantined_month(subject)


@breaks("backtest_candles", "archive_good")
def quarantined_month_of_fine_candles(subject: Subject) -> Tampered:
    return _quarantined_month(subject)


# features


@breaks("features", "schema")
def features_out_of_order(subject: Subject) -> Tampered:
    table = subject.value
    first, second = table.columns[:2]
    return Tampered(
        table[[second, first, *table.columns[2:]]],
        f"the features break their schema:\n- columns are out of order: {second}, {first}",
    )


@breaks("features", "schema")
def feature_of_another_type(subject: Subject) -> Tampered:
    return Tampered(
        subject.value.astype({"RSI_14": "float64"}),
        "the features break their schema:\n- types are wrong: RSI_14 is float64, expected float32",
    )


@breaks("features", "schema")
def feature_that_is_missing_somewhere(subject: Subject) -> Tampered:
    table = with_cell(subject.value, 7, "RSI_14", np.nan)
    return Tampered(
        table,
        "the features break their schema:\n- values must be finite: "
        f"1 of {len(table)} rows break this, first {table.index[7]} (RSI_14 nan)",
    )


@breaks("features", "warm_up")
def features_of_a_run_up_too_short(subject: Subject) -> Tampered:
    table = subject.value
    earlier = table.iloc[:1].set_axis(pd.DatetimeIndex([table.index[0] - HALF_HOUR], name="open_time"))
    return Tampered(
        pd.concat([earlier, table]),
        f"{len(table) + 1} rows from {earlier.index[0]}, expected one per candle after the first {WARM_UP}: "
        f"{len(table)} rows from {table.index[0]}",
    )


@breaks("features", "warm_up")
def features_of_a_candle_lost(subject: Subject) -> Tampered:
    table = subject.value
    return Tampered(
        table.drop(table.index[100]),
        f"{len(table) - 1} rows from {table.index[0]}, expected one per candle after the first {WARM_UP}: "
        f"{len(table)} rows from {table.index[0]}",
    )


# labels


@breaks("labels", "schema")
def buy_without_a_target_hit(subject: Subject) -> Tampered:
    table = subject.value
    row = int(np.argmax(table["exit_kind"] == "sl"))
    changed = with_cell(table, row, "label", 1)
    return Tampered(
        changed,
        "the labels break their schema:\n- label must be 1 for exit kind tp and no other: "
        f"1 of {len(table)} rows break this, first {table.index[row]} (label 1, exit_kind sl)",
    )


@breaks("labels", "schema")
def sell_in_binary_mode(subject: Subject) -> Tampered:
    table = subject.value
    row = int(np.argmax(table["exit_kind"] == "sl"))
    return Tampered(
        with_cell(table, row, "label", -1),
        "the labels break their schema:\n- label must be one of 0, 1: "
        f"1 of {len(table)} rows break this, first {table.index[row]} (label -1)",
    )


@breaks("labels", "causal")
def entry_at_the_signal_itself(subject: Subject) -> Tampered:
    table = subject.value
    return Tampered(
        with_cell(table, 9, "entry_time", table.index[9]),
        f"1 rows, the first at {table.index[9]} act otherwise: entry must be the next open, exit not before it",
    )


@breaks("labels", "causal")
def exit_before_entry(subject: Subject) -> Tampered:
    table = subject.value
    return Tampered(
        with_cell(table, 2, "exit_time", table.index[2]),
        f"1 rows, the first at {table.index[2]} act otherwise: entry must be the next open, exit not before it",
    )


# training_set


@breaks("training_set", "rows_match")
def row_lost_in_y(subject: Subject) -> Tampered:
    rows = subject.value
    count = len(rows.features)
    return Tampered(
        SimpleNamespace(features=rows.features, targets=rows.targets.iloc[1:]),
        f"X has {count} rows and y {count - 1}; 1 candles are in only one of them",
    )


@breaks("training_set", "rows_match")
def rows_in_another_order(subject: Subject) -> Tampered:
    rows = subject.value
    count = len(rows.features)
    return Tampered(
        SimpleNamespace(features=rows.features.iloc[::-1], targets=rows.targets),
        f"X has {count} rows and y {count}; 0 candles are in only one of them",
    )


@breaks("training_set", "schema")
def weight_of_nothing(subject: Subject) -> Tampered:
    rows = subject.value
    weight = rows.targets["weight"].copy()
    # What the first row loses, the second gains: the mean stays 1.
    weight.iloc[1], weight.iloc[0] = weight.iloc[0] + weight.iloc[1], 0.0
    return Tampered(
        SimpleNamespace(features=rows.features, targets=rows.targets.assign(weight=weight)),
        "the targets break their schema:\n- weight must be positive: "
        f"1 of {len(weight)} rows break this, first {weight.index[0]} (weight 0.0)",
    )


@breaks("training_set", "schema")
def training_feature_that_is_missing_somewhere(subject: Subject) -> Tampered:
    rows = subject.value
    features = with_cell(rows.features, 7, "RSI_14", np.nan)
    return Tampered(
        SimpleNamespace(features=features, targets=rows.targets),
        "the training features break their schema:\n- values must be finite: "
        f"1 of {len(features)} rows break this, first {features.index[7]} (RSI_14 nan)",
    )


@breaks("training_set", "slices_purged")
def label_that_ends_in_the_next_slice(subject: Subject) -> Tampered:
    rows = subject.value
    targets = rows.targets
    row = int((targets["slice"] == "train").sum()) - 1
    begins = targets.loc[targets["slice"] == "validation", "entry_time"].min()
    changed = with_cell(targets, row, "exit_time", begins)
    return Tampered(
        SimpleNamespace(features=rows.features, targets=changed),
        f"1 label spans cross into another slice; the first is the train label at {targets.index[row]}, "
        f"which ends {begins} inside validation (from {begins})",
    )


# feature_selection


@breaks("feature_selection", "schema")
def kept_feature_without_a_score(subject: Subject) -> Tampered:
    scores = with_cell(subject.value.scores, list(subject.value.scores["kept"]).index(True), "score", np.nan)
    return Tampered(
        replace(subject.value, scores=scores),
        "the scores of features break their schema:\n- a kept feature must have a score: "
        f"1 of {len(scores)} rows break this, first {subject.value.names[0]} (kept True, score nan)",
    )


@breaks("feature_selection", "schema")
def name_that_was_not_kept(subject: Subject) -> Tampered:
    scores = subject.value.scores
    return Tampered(
        replace(subject.value, names=subject.value.names[1:]),
        "the scores of features break their schema:\n- the chosen names must be the kept ones: "
        f"1 of {len(scores)} rows break this, first {subject.value.names[0]} (kept True, chosen False)",
    )


@breaks("feature_selection", "known_names")
def feature_that_nobody_computed(subject: Subject) -> Tampered:
    names = ("CRYSTAL_BALL", *subject.value.names[1:])
    return Tampered(
        replace(subject.value, names=names),
        f"the chosen names are not features of the training set in its order: {list(names)}",
    )


@breaks("feature_selection", "known_names")
def names_out_of_order(subject: Subject) -> Tampered:
    names = subject.value.names[::-1]
    return Tampered(
        replace(subject.value, names=names),
        f"the chosen names are not features of the training set in its order: {list(names)}",
    )


@breaks("feature_selection", "known_names")
def nothing_chosen(subject: Subject) -> Tampered:
    return Tampered(replace(subject.value, names=()), "0 features were chosen, expected 1 to 10")


@breaks("feature_selection", "known_names")
def more_than_asked_for(subject: Subject) -> Tampered:
    names = tuple(subject.upstream("training_set").features.columns[:11])
    return Tampered(replace(subject.value, names=names), "11 features were chosen, expected 1 to 10")


# label_pipeline


@breaks("label_pipeline", "types_preserved")
def incident_17_1_frame_rebuilt_from_an_array(subject: Subject) -> Tampered:
    prepared = subject.value
    nameless = pd.DataFrame(prepared.features.to_numpy(), index=prepared.features.index)
    return Tampered(
        replace(prepared, features=nameless.rename(columns=str)),
        "the columns are not the selected features in their order",
    )


@breaks("label_pipeline", "types_preserved")
def incident_17_2_columns_in_another_order(subject: Subject) -> Tampered:
    prepared = subject.value
    return Tampered(
        replace(prepared, features=prepared.features[prepared.features.columns[::-1]]),
        "the columns are not the selected features in their order",
    )


@breaks("label_pipeline", "types_preserved")
def features_widened(subject: Subject) -> Tampered:
    prepared = subject.value
    return Tampered(
        replace(prepared, features=prepared.features.astype("float64")),
        "features went in as float32 and came out as float64",
    )


@breaks("label_pipeline", "types_preserved")
def index_reset(subject: Subject) -> Tampered:
    prepared = subject.value
    parts = {name: getattr(prepared, name).reset_index(drop=True) for name in ("features", "labels", "weights")}
    return Tampered(
        replace(prepared, **parts),
        "the index went in as datetime64[ns, UTC] and came out as int64",
    )


@breaks("label_pipeline", "types_preserved")
def weights_narrowed(subject: Subject) -> Tampered:
    prepared = subject.value
    return Tampered(
        replace(prepared, weights=prepared.weights.astype("float32")),
        "weights went in as float64 and came out as float32",
    )


@breaks("label_pipeline", "types_preserved")
def hard_labels_turned_into_floats(subject: Subject) -> Tampered:
    prepared = subject.value
    return Tampered(
        replace(prepared, labels=prepared.labels.astype("float64")),
        "labels went in as int8 and came out as float64",
    )


@breaks("label_pipeline", "rows_match")
def label_without_features(subject: Subject) -> Tampered:
    prepared = subject.value
    count = len(prepared.labels)
    return Tampered(
        replace(prepared, features=prepared.features.iloc[1:]),
        f"{count - 1} feature rows, {count} labels, {count} weights do not match",
    )


@breaks("label_pipeline", "rows_match")
def row_of_the_test_slice(subject: Subject) -> Tampered:
    prepared = subject.value
    stranger = subject.upstream("training_set").slice("test").features.index[:1]
    parts = {
        name: pd.concat([part, part.iloc[-1:].set_axis(stranger)])
        for name in ("features", "labels", "weights")
        for part in [getattr(prepared, name)]
    }
    return Tampered(
        replace(prepared, **parts), f"1 rows, the first at {stranger[0]} are not rows of the training slice"
    )


@breaks("label_pipeline", "rows_match")
def training_row_lost(subject: Subject) -> Tampered:
    prepared = subject.value
    parts = {name: getattr(prepared, name).drop(prepared.labels.index[3]) for name in ("features", "labels", "weights")}
    count = len(prepared.labels)
    return Tampered(
        replace(prepared, **parts),
        f"{count - 1} rows came out, expected {count}, the training rows in their order (CVN_CLEANLAB='off')",
    )


@breaks("label_pipeline", "schema")
def label_above_certainty(subject: Subject) -> Tampered:
    prepared = subject.value
    labels = with_value(prepared.labels.astype("float64"), 5, 1.1)
    return Tampered(
        replace(prepared, labels=labels),
        "the prepared labels break their schema:\n- label must lie within 0 to 1: "
        f"1 of {len(labels)} rows break this, first {labels.index[5]} (label 1.1)",
        provenance={"settings": {**subject.manifest.provenance.settings, "CVN_LABEL_SMOOTHING": "mild"}},
    )


@breaks("label_pipeline", "schema")
def soft_labels_that_nobody_asked_for(subject: Subject) -> Tampered:
    prepared = subject.value
    labels = prepared.labels * 0.9
    buys = int((labels == 0.9).sum())
    return Tampered(
        replace(prepared, labels=labels),
        "the prepared labels break their schema:\n- types are wrong: label is float64, expected int8\n"
        f"- label must be one of 0, 1: {buys} of {len(labels)} rows break this, first "
        + "; ".join(f"{time} (label 0.9)" for time in labels.index[labels == 0.9][:3]),
    )


@breaks("label_pipeline", "schema")
def shares_that_do_not_add_up(subject: Subject) -> Tampered:
    prepared = subject.value
    buy = (prepared.labels == 1).astype("float64")
    shares = pd.DataFrame({-1: 0.0, 0: 1.0 - buy, 1: buy})
    shares.iloc[6] = (0.1, 0.2, 0.3)
    provenance = subject.manifest.provenance
    return Tampered(
        replace(prepared, labels=shares),
        "the prepared labels break their schema:\n- the shares of the classes must add up to 1: "
        f"1 of {len(buy)} rows break this, first {buy.index[6]} (-1 0.1, 0 0.2, 1 0.3)",
        provenance={
            "settings": {**provenance.settings, "CVN_LABEL_SMOOTHING": "mild"},
            "lineage": {**provenance.lineage, "CVN_BINARY_CLASSIFICATION": "0"},
        },
    )


@breaks("label_pipeline", "schema")
def row_without_weight(subject: Subject) -> Tampered:
    prepared = subject.value
    count = len(prepared.weights)
    return Tampered(
        replace(prepared, weights=with_value(prepared.weights, 4, 0.0)),
        "the weights break their schema:\n- weight must be positive: "
        f"1 of {count} rows break this, first {prepared.weights.index[4]} (weight 0.0)",
    )


@breaks("label_pipeline", "schema")
def weight_that_is_no_number(subject: Subject) -> Tampered:
    prepared = subject.value
    first = f"1 of {len(prepared.weights)} rows break this, first {prepared.weights.index[4]} (weight nan)"
    return Tampered(
        replace(prepared, weights=with_value(prepared.weights, 4, np.nan)),
        f"the weights break their schema:\n- values must be finite: {first}\n- weight must be positive: {first}",
    )


@breaks("label_pipeline", "schema")
def suspects_and_features_both_broken(subject: Subject) -> Tampered:
    prepared = subject.value
    features = with_cell(prepared.features, 3, prepared.features.columns[0], np.inf)
    return Tampered(
        replace(prepared, features=features, suspects=prepared.suspects.astype("int8")),
        "the prepared features break their schema:\n- values must be finite: "
        f"1 of {len(features)} rows break this, first {features.index[3]} ({features.columns[0]} inf)\n"
        "the suspects break their schema:\n- types are wrong: suspect is int8, expected bool",
    )


# hyperparameters


@breaks("hyperparameters", "schema")
def tree_too_deep(subject: Subject) -> Tampered:
    params = {**subject.value.params, "max_depth": 20}
    depth = {item.name: item for item in HYPERPARAMETERS["XGBOOST"]}["max_depth"]
    return Tampered(
        replace(subject.value, params=params),
        f"the hyperparameters break their schema:\n- max_depth must lie within {depth.low} to {depth.high}: "
        "1 of 1 rows break this, first 0 (max_depth 20)",
    )


@breaks("hyperparameters", "schema")
def learning_rate_of_nothing(subject: Subject) -> Tampered:
    params = {**subject.value.params, "learning_rate": 0.0}
    rate = {item.name: item for item in HYPERPARAMETERS["XGBOOST"]}["learning_rate"]
    return Tampered(
        replace(subject.value, params=params),
        f"the hyperparameters break their schema:\n- learning_rate must lie within {rate.low:g} to {rate.high:g}: "
        "1 of 1 rows break this, first 0 (learning_rate 0.0)",
    )


@breaks("hyperparameters", "schema")
def parameter_that_nobody_declared(subject: Subject) -> Tampered:
    return Tampered(
        replace(subject.value, params={**subject.value.params, "luck": 7}),
        "the hyperparameters break their schema:\n- columns are unknown: luck",
    )


@breaks("hyperparameters", "schema")
def trial_of_an_impossible_score(subject: Subject) -> Tampered:
    trials = with_cell(subject.value.trials, 1, "score", -1000.0)
    return Tampered(
        replace(subject.value, trials=trials),
        "the trials break their schema:\n- score must lie within 0 to 1: "
        "1 of 2 rows break this, first 1 (score -1000.0)",
    )


# model


def _booster_with_names(ubj: bytes, names: list[str] | None) -> bytes:
    booster = xgb.Booster({"nthread": 1})
    booster.load_model(bytearray(ubj))
    booster.feature_names = names
    return bytes(booster.save_raw("ubj"))


@breaks("model", "feature_names")
def incident_17_2_model_of_other_columns(subject: Subject) -> Tampered:
    model, names = subject.value.model, list(subject.value.model.feature_names)
    swapped = [names[1], names[0], *names[2:]]
    return Tampered(
        replace(subject.value, model=replace(model, feature_names=tuple(swapped))),
        f"feature names differ from the training rows at position 0: ['{names[1]}'] and ['{names[0]}']",
    )


@breaks("model", "feature_names")
def incident_17_2_booster_that_lost_its_names(subject: Subject) -> Tampered:
    model = subject.value.model
    return Tampered(
        replace(subject.value, model=replace(model, ubj=_booster_with_names(model.ubj, None))),
        f"feature names differ from the stored booster at position 0: ['{model.feature_names[0]}'] and []",
    )


@breaks("model", "feature_names")
def one_feature_fewer(subject: Subject) -> Tampered:
    model = subject.value.model
    last = len(model.feature_names) - 1
    return Tampered(
        replace(subject.value, model=replace(model, feature_names=model.feature_names[:-1])),
        f"feature names differ from the training rows at position {last}: [] and ['{model.feature_names[-1]}']",
    )


@breaks("model", "schema")
def model_of_an_unknown_loss(subject: Subject) -> Tampered:
    model = subject.value.model
    return Tampered(
        replace(subject.value, model=replace(model, objective="hinge")),
        "the model facts break their schema:\n- objective must be one of logistic, focal, softprob: "
        "1 of 1 rows break this, first 0 (objective hinge)",
    )


@breaks("model", "schema")
def reference_that_cannot_be_scored(subject: Subject) -> Tampered:
    stored = subject.value
    name = stored.reference.columns[2]
    return Tampered(
        replace(
            stored,
            reference=with_cell(stored.reference, 1, name, np.nan),
            reference_scores=with_value(stored.reference_scores, 2, 1.5),
        ),
        "the reference rows break their schema:\n- values must be finite: "
        f"1 of {len(stored.reference)} rows break this, first {stored.reference.index[1]} ({name} nan)\n"
        "the reference scores break their schema:\n- buy_score must lie within 0 to 1: "
        f"1 of {len(stored.reference)} rows break this, first {stored.reference.index[2]} (buy_score 1.5)",
    )


@breaks("model", "scores_alike")
def booster_of_another_training(subject: Subject) -> Tampered:
    stored = subject.value
    scores = stored.reference_scores
    nudged = with_value(scores, 3, np.nextafter(scores.iloc[3], 2.0))
    return Tampered(
        replace(stored, reference_scores=nudged),
        f"1 rows, the first at {scores.index[3]} score otherwise than in memory",
    )


# calibration


@breaks("calibration", "targets_discrete")
def incident_17_3_calibrated_on_soft_labels(subject: Subject) -> Tampered:
    rows = subject.value.rows
    soft = rows["target"].astype("float64").replace(1.0, 0.7)
    buys = int((soft == 0.7).sum())
    first = soft.index[int(np.argmax(soft == 0.7))]
    return Tampered(
        replace(subject.value, rows=rows.assign(target=soft)),
        f"{buys} rows, the first at {first} have soft targets; calibration needs hard labels",
    )


@breaks("calibration", "targets_discrete")
def calibrated_on_a_label_turned_around(subject: Subject) -> Tampered:
    rows = subject.value.rows
    turned = with_cell(rows, 4, "target", 1 - rows["target"].iloc[4])
    return Tampered(
        replace(subject.value, rows=turned),
        f"1 rows, the first at {rows.index[4]} have targets that the training set does not",
    )


@breaks("calibration", "targets_discrete")
def calibrated_on_a_candle_that_is_no_training_row(subject: Subject) -> Tampered:
    rows = subject.value.rows
    outside = rows.set_axis(rows.index[:-1].append(rows.index[-1:] + pd.Timedelta("365d")))
    return Tampered(
        replace(subject.value, rows=outside),
        f"1 rows, the first at {outside.index[-1]} have targets that the training set does not",
    )


@breaks("calibration", "as_calibrated")
def probability_of_another_calibrator(subject: Subject) -> Tampered:
    rows = subject.value.rows
    nudged = with_cell(rows, 3, "probability", rows["probability"].iloc[3] * 0.999)
    return Tampered(
        replace(subject.value, rows=nudged),
        f"1 rows, the first at {rows.index[3]} have another probability than the calibrator gives",
    )


@breaks("calibration", "schema")
def probability_above_one(subject: Subject) -> Tampered:
    rows = with_cell(subject.value.rows, 2, "probability", 1.5)
    return Tampered(
        replace(subject.value, rows=rows),
        "the calibrated rows break their schema:\n- probability must lie within 0 to 1: "
        f"1 of {len(rows)} rows break this, first {rows.index[2]} (probability 1.5)",
    )


@breaks("calibration", "schema")
def probability_that_is_missing(subject: Subject) -> Tampered:
    rows = with_cell(subject.value.rows, 2, "probability", np.nan)
    return Tampered(
        replace(subject.value, rows=rows),
        "the calibrated rows break their schema:\n- probability must lie within 0 to 1: "
        f"1 of {len(rows)} rows break this, first {rows.index[2]} (probability nan)",
    )


@breaks("calibration", "schema")
def threshold_between_always_and_never(subject: Subject) -> Tampered:
    return Tampered(
        replace(subject.value, calibration=replace(subject.value.calibration, threshold=1.5)),
        "the calibration facts break their schema:\n- threshold must lie within 0 to 1, or be 2 for never: "
        "1 of 1 rows break this, first 0 (threshold 1.5)",
    )


@breaks("calibration", "unseen_rows")
def calibrated_on_a_validation_row(subject: Subject) -> Tampered:
    rows = subject.value.rows
    targets = subject.upstream("training_set").targets
    seen = targets.loc[targets["slice"] == "validation"]
    moved = rows.set_axis(seen.index[-1:].append(rows.index[1:]))
    return Tampered(
        replace(subject.value, rows=moved),
        f"1 rows, the first at {seen.index[-1]} lie before {seen['exit_time'].max()}, where the model's own labels end",
    )


@breaks("calibration", "monotone")
def ranking_turned_around(subject: Subject) -> Tampered:
    fitted = subject.value.calibration
    backwards = copy.deepcopy(fitted.estimators["sigmoid"])
    backwards.coef_ = np.array([[-1.0]])
    return Tampered(
        replace(subject.value, calibration=replace(fitted, estimators={"sigmoid": backwards})),
        "the calibrated probability falls somewhere as the score rises",
    )


# test_report


@breaks("test_report", "beside_baseline")
def f1_that_was_made_up(subject: Subject) -> Tampered:
    report = subject.value.report
    return Tampered(
        replace(subject.value, report=replace(report, f1_buy=0.99)),
        f"f1_buy is 0.99, the stored predictions give {report.f1_buy}",
    )


@breaks("test_report", "beside_baseline")
def baseline_that_flatters(subject: Subject) -> Tampered:
    report = subject.value.report
    return Tampered(
        replace(subject.value, report=replace(report, baseline_f1_buy=0.0)),
        f"baseline_f1_buy is 0.0, the stored predictions give {report.baseline_f1_buy}",
    )


def _reported_otherwise(name: str) -> None:
    """A case for one number of the report: a little more than the stored predictions give."""

    def tamper(subject: Subject) -> Tampered:
        report = subject.value.report
        true = getattr(report, name)
        more = true + 1 if isinstance(true, int) else true + 1e-6
        return Tampered(
            replace(subject.value, report=replace(report, **{name: more})),
            f"{name} is {more}, the stored predictions give {true}",
        )

    tamper.__name__ = name
    breaks("test_report", "beside_baseline")(tamper)


for _name in [field.name for field in fields(TestReport)]:
    if _name not in ("threshold", "pr_auc_chance") and not _name.endswith(("_low", "_high")):
        _reported_otherwise(_name)


@breaks("test_report", "beside_baseline")
def number_that_is_left_out(subject: Subject) -> Tampered:
    report = subject.value.report
    return Tampered(
        replace(subject.value, report=replace(report, recall_buy=None)),
        f"recall_buy is None, the stored predictions give {report.recall_buy}",
    )


@breaks("test_report", "beside_baseline")
def threshold_chosen_on_the_test_slice(subject: Subject) -> Tampered:
    report = subject.value.report
    return Tampered(
        replace(subject.value, report=replace(report, threshold=0.5)),
        f"threshold is 0.5, the calibration froze {report.threshold}",
    )


@breaks("test_report", "beside_baseline")
def prediction_turned_around(subject: Subject) -> Tampered:
    rows = subject.value.predictions
    turned = with_cell(rows, 5, "predicted", not rows["predicted"].iloc[5])
    return Tampered(
        replace(subject.value, predictions=turned),
        f"1 rows, the first at {rows.index[5]} are predicted otherwise than the threshold says",
    )


@breaks("test_report", "schema")
def counts_that_do_not_add_up(subject: Subject) -> Tampered:
    report = subject.value.report
    counts = f"tn {report.tn}, fp {report.fp}, fn {report.fn}, tp {report.tp + 1}, rows {report.rows}"
    return Tampered(
        replace(subject.value, report=replace(report, tp=report.tp + 1)),
        "the numbers of the report break their schema:\n- counts must add up to the rows: "
        f"1 of 1 rows break this, first 0 ({counts})",
    )


@breaks("test_report", "schema")
def predictions_beyond_certainty(subject: Subject) -> Tampered:
    rows = with_cell(subject.value.predictions, 2, "score", 1.5)
    return Tampered(
        replace(subject.value, predictions=rows),
        "the predictions break their schema:\n- score must lie within 0 to 1: "
        f"1 of {len(rows)} rows break this, first {rows.index[2]} (score 1.5)",
    )


@breaks("test_report", "schema")
def plot_that_is_no_picture(subject: Subject) -> Tampered:
    plots = {**subject.value.plots, "label_timeline": b"not drawn"}
    return Tampered(
        replace(subject.value, plots=plots),
        "the plots break their schema:\n- a plot must be a PNG: "
        "1 of 4 rows break this, first 1 (plot label_timeline, png False)",
    )


@breaks("test_report", "unseen_rows")
def reported_on_a_calibration_row(subject: Subject) -> Tampered:
    rows = subject.value.predictions
    targets = subject.upstream("training_set").targets
    seen = targets.loc[targets["slice"] == "calibration"]
    moved = rows.set_axis(seen.index[-1:].append(rows.index[1:]))
    return Tampered(
        replace(subject.value, predictions=moved),
        f"1 rows, the first at {seen.index[-1]} lie before {seen['exit_time'].max()}, where labels used earlier end",
    )


@breaks("test_report", "believable")
def lift_too_good_to_be_true(subject: Subject) -> Tampered:
    return Tampered(
        replace(subject.value, report=replace(subject.value.report, pr_auc_lift=0.3)),
        "PR-AUC is 0.300 above the buy rate; honest work on real candles found at most 0.06: look for a leak",
        provenance={"market": "binance"},
    )


# challenger


@breaks("challenger", "schema")
def simulated_champion(subject: Subject) -> Tampered:
    return Tampered(
        replace(subject.value, market="simulated", state="champion"),
        "the registration break their schema:\n- what was simulated must not be champion: 1 of 1 rows break this, "
        "first 0 (market simulated, state champion)",
    )


# validation_audit


@breaks("validation_audit", "schema")
def probe_that_passes_without_a_value(subject: Subject) -> Tampered:
    audit = subject.value
    unmeasured = replace(audit.probes[2], value=None)
    return Tampered(
        replace(audit, probes=(*audit.probes[:2], unmeasured, *audit.probes[3:])),
        "the probes break their schema:\n- a probe without a value does not pass: "
        f"1 of {len(audit.probes)} rows break this, first 2 (passed True, value nan)",
    )


@breaks("validation_audit", "certified")
def probe_that_found_something(subject: Subject) -> Tampered:
    audit = subject.value
    failed = replace(audit.probes[2], passed=False, message="3 label spans reach into another slice", value=3.0)
    return Tampered(
        replace(audit, probes=(*audit.probes[:2], failed, *audit.probes[3:])),
        "spans_apart: 3 label spans reach into another slice",
    )


@breaks("validation_audit", "certified")
def anchor_that_did_not_hold(subject: Subject) -> Tampered:
    audit = subject.value
    anchor = replace(audit.anchor, largest_difference=0.25)
    return Tampered(
        replace(audit, anchor=anchor),
        f"s22a1: the second fit is not the recorded model: over {anchor.compared_trees} trees scores differ by up "
        f"to 0.25 on {anchor.rows} rows (allowed 1e-06), the best round is {anchor.recorded_best_round}, recorded "
        f"{anchor.recorded_best_round}",
    )


@breaks("validation_audit", "certified")
def audit_of_another_model(subject: Subject) -> Tampered:
    other = replace(subject.value.subject, model_version="another")
    model = subject.manifest.provenance.inputs["model"]
    return Tampered(
        replace(subject.value, subject=other), f"it is an audit of model another, and was to be one of model {model}"
    )


@breaks("validation_audit", "certified")
def audit_that_could_not_be_made(subject: Subject) -> Tampered:
    return Tampered(InconclusiveAudit(subject.value.subject, "no parquet"), "INCONCLUSIVE_TOOLING: no parquet")


@breaks("validation_audit", "certified")
def audit_without_one_of_the_probes(subject: Subject) -> Tampered:
    return Tampered(
        replace(subject.value, probes=subject.value.probes[:-1]),
        "it is not a whole audit: noise_is_not_learned was not asked, and this code asks it; audit again",
    )


# screening_matrix


def rescreened(subject: Subject, **changes: Any) -> StoredScreening:
    return replace(subject.value, screening=replace(subject.value.screening, **changes))


@breaks("screening_matrix", "schema")
def rank_that_does_not_count(subject: Subject) -> Tampered:
    points = with_cell(subject.value.screening.points, 1, "rank", 7)
    return Tampered(
        rescreened(subject, points=points),
        "the points break their schema:\n- ranks must count from 1: 1 of 6 rows break this, first 1 (rank 7)",
    )


@breaks("screening_matrix", "schema")
def day_that_is_missing(subject: Subject) -> Tampered:
    returns = subject.value.screening.returns
    return Tampered(
        rescreened(subject, returns=returns.drop(returns.index[1])),
        "the daily returns break their schema:\n- days must be whole UTC days, one after the other: "
        f"1 of {len(returns) - 1} rows break this, first {returns.index[2]}",
    )


@breaks("screening_matrix", "schema")
def heat_map_that_is_no_picture(subject: Subject) -> Tampered:
    return Tampered(
        replace(subject.value, plots={"screening_heat_map": b"not drawn"}),
        "the plots break their schema:\n- a plot must be a PNG: "
        "1 of 1 rows break this, first 0 (plot screening_heat_map, png False)",
    )


@breaks("screening_matrix", "whole_grid")
def point_that_was_not_screened(subject: Subject) -> Tampered:
    screening = subject.value.screening
    fewer = screening.points.iloc[:-1]
    return Tampered(
        rescreened(subject, points=fewer, returns=screening.returns[list(fewer["pte"])]),
        "5 points were screened, the grid has 6",
    )


@breaks("screening_matrix", "whole_grid")
def point_that_nobody_asked_for(subject: Subject) -> Tampered:
    points = with_cell(subject.value.screening.points, 2, "pte", "H3_SL1.0_TP3.0")
    return Tampered(rescreened(subject, points=points), "6 points were screened, the grid has 6")


@breaks("screening_matrix", "whole_grid")
def point_left_out_unsaid(subject: Subject) -> Tampered:
    return Tampered(rescreened(subject, left_out=()), "0 points are said to be left out, expected 2")


@breaks("screening_matrix", "whole_grid")
def point_under_anothers_name(subject: Subject) -> Tampered:
    points = subject.value.screening.points
    mistaken = with_cell(points, 3, "stop_loss", 2.5)
    return Tampered(
        rescreened(subject, points=mistaken),
        f"1 rows, the first at {points['pte'][3]} has other numbers than its name says",
    )


@breaks("screening_matrix", "best_first")
def point_better_than_its_rank(subject: Subject) -> Tampered:
    points = subject.value.screening.points
    better = with_cell(points, 5, "sharpe", float(points["sharpe"].max()) + 1.0)
    return Tampered(
        rescreened(subject, points=better),
        f"6 rows, the first at {points['pte'][0]} stand elsewhere than their net Sharpe ratio puts them",
    )


@breaks("screening_matrix", "candidates")
def candidate_that_is_not_the_best(subject: Subject) -> Tampered:
    screening = subject.value.screening
    worst = PTE.parse(screening.points["pte"].iloc[-1])
    expected = ", ".join(str(pte) for pte in screening.candidates)
    return Tampered(rescreened(subject, candidates=(worst,)), f"the candidates are {worst}, expected {expected}")


@breaks("screening_matrix", "before_tests")
def day_of_the_first_test_period(subject: Subject) -> Tampered:
    returns = subject.value.screening.returns
    end = pd.Timestamp(subject.manifest.summary["selection_to"])
    later = returns.set_axis(returns.index + (end.ceil("D") - returns.index[-1]))
    late = later.index[later.index + pd.Timedelta(days=1) > end]
    return Tampered(
        rescreened(subject, returns=later),
        f"{len(late)} rows, the first at {late[0]} lie outside the selection slice",
    )


# Rules about a version as a whole, and the cases in which a rule about rows has none to blame.
ABOUT_THE_WHOLE = {
    *ABOUT_THE_WHOLE_EVALUATION,
    *ABOUT_THE_WHOLE_DRIFT,
    ("feature_selection", "known_names"),
    ("label_pipeline", "types_preserved"),
    ("calibration", "monotone"),
    ("test_report", "believable"),
}
NO_ROW_TO_BLAME = {
    *NO_ROW_TO_BLAME_OF_EVALUATIONS,
    *NO_ROW_TO_BLAME_OF_DRIFT,
    "screening_matrix-whole_grid-point_left_out_unsaid",
    "label_pipeline-rows_match-label_without_features",
    "test_report-beside_baseline-threshold_chosen_on_the_test_slice",
    "validation_audit-certified-anchor_that_did_not_hold",
    "validation_audit-certified-audit_of_another_model",
    "validation_audit-certified-audit_that_could_not_be_made",
    "validation_audit-certified-audit_without_one_of_the_probes",
    *(
        str(case)
        for case in CASES
        if (case.asset, case.rule) == ("test_report", "beside_baseline")
        and case.tamper.__name__ != "prediction_turned_around"
    ),
}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_rule_refuses(chain: Graph, case: Case) -> None:
    tampered = case.tamper(subject_of(chain, case.asset))
    rule = RULES[case.asset, case.rule]

    said = verdict(case.asset, rule, publish(chain, case.asset, tampered, str(case)))

    assert said.description == tampered.message
    assert not said.passed
    assert said.severity.value == ("ERROR" if rule.blocking else "WARN")
    table = said.metadata.get("first offending rows")
    assert (table is None) == ((case.asset, case.rule) in ABOUT_THE_WHOLE or str(case) in NO_ROW_TO_BLAME)
    if table is not None:
        assert 0 < len(table.records) <= SHOWN_OFFENDERS
        assert all(set(each.data) == {"column", "row", "value", "demand"} for each in table.records)


def test_every_rule_has_data_that_must_fail_it() -> None:
    assert {(case.asset, case.rule) for case in CASES} == set(RULES)


@pytest.mark.parametrize("asset", SCHEMAS)
def test_every_part_of_a_schema_has_data_that_must_fail_it(chain: Graph, asset: str) -> None:
    subject = subject_of(chain, asset)
    cases = [case for case in CASES if (case.asset, case.rule) == (asset, "schema")]
    said = "\n".join(case.tamper(subject).message for case in cases)
    for part in SCHEMAS[asset]:
        if (asset, part.name) != ("validation_audit", "facts"):  # its types and its codec let no other facts be
            assert f"the {part.schema(subject).name} break their schema" in said, part.name


def test_the_table_shows_the_values_that_are_to_blame(chain: Graph) -> None:
    real = subject_of(chain, "labels")
    table = with_cell(real.value, 9, "entry_time", real.value.index[9])
    said = verdict("labels", RULES["labels", "causal"], publish(chain, "labels", Tampered(table, ""), "blamed"))
    demand = "entry at the next open, exit not before it"
    assert [record.data for record in said.metadata["first offending rows"].records] == [
        {"column": "entry_time", "row": str(table.index[9]), "value": str(table.index[9]), "demand": demand},
        {"column": "exit_time", "row": str(table.index[9]), "value": str(table["exit_time"].iloc[9]), "demand": demand},
    ]


def test_real_artifacts_keep_every_rule(chain: Graph) -> None:
    for (asset, name), rule in RULES.items():
        subject = subject_of(chain, asset)
        said = verdict(asset, rule, subject)
        assert said.passed, f"{asset} {name}: {said.description}"
        assert said.description == rule.meaning
        assert said.metadata["version"].value == subject.artifact.version


def test_only_the_two_rules_of_judgement_warn() -> None:
    warning = {key for key, rule in RULES.items() if not rule.blocking}
    assert warning == {
        ("candles", "archive_good"),
        ("backtest_candles", "archive_good"),
        ("test_report", "believable"),
    }
    assert all(name in BLOCKING_CHECKS[asset] for asset, name in set(RULES) - warning)


def test_a_skipped_audit_warns_although_its_rule_blocks(chain: Graph) -> None:
    audit = subject_of(chain, "validation_audit").value
    skipped = publish(chain, "validation_audit", Tampered(SkippedAudit(audit.subject, audit.probes), ""), "skipped")
    said = verdict("validation_audit", RULES["validation_audit", "certified"], skipped)
    assert not said.passed
    assert said.severity.value == "WARN"
    assert said.description.startswith("s22a1_status=SKIPPED: every probe passed, and the anchor was skipped")
    assert said.description.endswith("It is not a complete audit.")


def test_a_skipped_audit_whose_probe_found_something_is_refused(chain: Graph) -> None:
    audit = subject_of(chain, "validation_audit").value
    failed = replace(audit.probes[2], passed=False, message="3 label spans reach into another slice")
    found = SkippedAudit(audit.subject, (*audit.probes[:2], failed))
    said = verdict(
        "validation_audit",
        RULES["validation_audit", "certified"],
        publish(chain, "validation_audit", Tampered(found, ""), "skipped, and found something"),
    )
    assert (said.passed, said.severity.value) == (False, "ERROR")
    assert said.description == "spans_apart: 3 label spans reach into another slice"


def test_large_lift_on_the_simulated_market_is_believed(chain: Graph) -> None:
    real = subject_of(chain, "test_report")
    lucky = Tampered(replace(real.value, report=replace(real.value.report, pr_auc_lift=0.9)), "")
    assert RULES["test_report", "believable"].judge(publish(chain, "test_report", lucky, "lucky")) is None


def test_incident_17_1_an_array_is_never_published(chain: Graph) -> None:
    prepared = subject_of(chain, "label_pipeline").value
    array = Tampered(replace(prepared, features=prepared.features.to_numpy()), "")
    with pytest.raises(ArtifactError, match="would hold a ndarray, expected a DataFrame"):
        publish(chain, "label_pipeline", array, "array")
    home = chain.store.root / "label_pipeline" / CRYPTO
    assert not [path for path in home.iterdir() if path.name.startswith(".")]


def test_soft_labels_need_not_be_integers(chain: Graph) -> None:
    real = subject_of(chain, "label_pipeline")
    smoothed = {**real.manifest.provenance.settings, "CVN_LABEL_SMOOTHING": "mild"}
    soft = Tampered(replace(real.value, labels=real.value.labels * 0.9), "", provenance={"settings": smoothed})
    published = publish(chain, "label_pipeline", soft, "soft")
    for contract in CONTRACTS:
        if contract.asset == "label_pipeline":
            assert [rule.judge(published) for rule in contract.rules] == [None] * 3


def test_filtered_rows_are_the_suspects(chain: Graph) -> None:
    real = subject_of(chain, "label_pipeline")
    rule = RULES["label_pipeline", "rows_match"]
    settings = {**real.manifest.provenance.settings, "CVN_CLEANLAB": "filter"}
    suspects = with_value(real.value.suspects, 3, True)
    dropped = real.value.labels.index[3]
    parts = {name: getattr(real.value, name).drop(dropped) for name in ("features", "labels", "weights")}

    said = Tampered(replace(real.value, suspects=suspects, **parts), "", provenance={"settings": settings})
    assert rule.judge(publish(chain, "label_pipeline", said, "suspect dropped")) is None

    unsaid = Tampered(replace(real.value, **parts), "", provenance={"settings": settings})
    count = len(real.value.labels)
    breach = rule.judge(publish(chain, "label_pipeline", unsaid, "row dropped unsaid"))
    assert breach.message == (
        f"{count - 1} rows came out, expected {count}, the training rows in their order (CVN_CLEANLAB='filter')"
    )
    assert [(each.row, each.value) for each in breach.offenders] == [(str(dropped), "lost")]


def test_rule_without_its_upstream_is_not_a_pass(chain: Graph) -> None:
    real = subject_of(chain, "features")
    never_built = {"candles": "0123456789abcdef0123"}
    orphan = publish(chain, "features", Tampered(real.value, "", provenance={"inputs": never_built}), "orphan")
    with pytest.raises(ArtifactError, match="candles of BTCUSDC, version 0123456789abcdef0123, is not in the store"):
        verdict("features", RULES["features", "warm_up"], orphan)


@pytest.mark.parametrize("name", ["rows_match", "schema", "slices_purged"])
def test_file_changed_after_publication_is_not_a_pass(chain: Graph, name: str) -> None:
    real = subject_of(chain, "training_set")
    changed = publish(chain, "training_set", Tampered(real.value, ""), f"changed on disk {name}")
    file = changed.artifact.folder / "targets.parquet"
    real.value.targets.iloc[::-1].to_parquet(file)
    with pytest.raises(ArtifactError, match=r"targets\.parquet is not what was published: sha256"):
        verdict("training_set", RULES["training_set", name], changed)
