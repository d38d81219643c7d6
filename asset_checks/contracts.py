"""The contracts: for every asset the rules that its versions must keep, each incident of the log among them.

Rules recompute from the stored files; what an asset says about itself is not believed.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from asset_checks.contract import Contract, Rule, Subject
from asset_checks.schemas import candles_schema, features_schema, labels_schema, targets_schema, violations
from cvntrade_assets.market.candles import timeframe_delta
from cvntrade_assets.settings import HYPERPARAMETERS

# The largest lift of PR-AUC over the buy rate that honest work found on real candles is 0.06.
SUSPICIOUS_LIFT = 0.15


def _first(index: pd.Index, wrong: "np.ndarray[Any, np.dtype[np.bool_]]") -> str:
    return f"{int(wrong.sum())} rows, the first at {index[int(np.argmax(wrong))]}"


def _interval(subject: Subject) -> pd.Timedelta:
    return timeframe_delta(str(subject.manifest.summary["timeframe"]))


def _binary(subject: Subject) -> bool:
    return subject.manifest.provenance.lineage["CVN_BINARY_CLASSIFICATION"] == "1"


def candles_keep_schema(subject: Subject) -> str | None:
    """Sorted, unique, on the grid, finite, high and low around open and close."""
    return violations(candles_schema(_interval(subject)), subject.value.candles)


def candles_are_closed(subject: Subject) -> str | None:
    """No candle closes after the moment that counted as now."""
    closes = subject.value.candles.index + _interval(subject)
    as_of = pd.Timestamp(subject.manifest.summary["as_of"])
    late = np.asarray(closes > as_of)
    return None if not late.any() else f"{_first(closes, late)} close after {as_of}: an open candle must be dropped"


def no_month_is_quarantined(subject: Subject) -> str | None:
    """Every closed month of the archive was good or absent."""
    bad = {month.month: month.reason for month in subject.value.months if month.status == "quarantined"}
    if not bad:
        return None
    listed = "; ".join(f"{month}: {reason}" for month, reason in bad.items())
    return f"{len(bad)} months of the archive are quarantined and count as gaps: {listed}"


def features_keep_schema(subject: Subject) -> str | None:
    """The declared names in the declared order, float32, finite."""
    return violations(features_schema(), subject.value)


def features_start_after_warm_up(subject: Subject) -> str | None:
    """No candle of the run-up has features, every later one has."""
    from cvntrade_assets.learning.features import WARM_UP

    expected = subject.upstream("candles").candles.index[WARM_UP:]
    if subject.value.index.equals(expected):
        return None
    return (
        f"{len(subject.value)} rows from {subject.value.index[0]}, expected one per candle after the first {WARM_UP}: "
        f"{len(expected)} rows from {expected[0]}"
    )


def labels_keep_schema(subject: Subject) -> str | None:
    """Known columns and types, one row per decided candle."""
    return violations(labels_schema(binary=_binary(subject)), subject.value)


def labels_act_after_the_signal(subject: Subject) -> str | None:
    """Entry is at the next candle's open, and no exit precedes its entry."""
    interval = timeframe_delta(subject.manifest.provenance.lineage["CVN_TIMEFRAME"])
    table = subject.value
    early = np.asarray((table["entry_time"] != table.index + interval) | (table["exit_time"] < table["entry_time"]))
    return None if not early.any() else f"{_first(table.index, early)}: entry must be the next open, exit not before it"


def training_rows_match(subject: Subject) -> str | None:
    """Features and targets have the same index, row by row."""
    x = pd.read_parquet(subject.folder / "features.parquet").index
    y = pd.read_parquet(subject.folder / "targets.parquet", columns=["label"]).index
    if x.equals(y):
        return None
    return f"X has {len(x)} rows and y {len(y)}; {len(x.symmetric_difference(y))} candles are in only one of them"


def training_targets_keep_schema(subject: Subject) -> str | None:
    """Known columns and types, positive weights, known slices."""
    return violations(targets_schema(binary=_binary(subject)), pd.read_parquet(subject.folder / "targets.parquet"))


def slices_are_purged(subject: Subject) -> str | None:
    """No label's span reaches into another slice; recomputed from the spans."""
    from cvntrade_assets.learning.splits import slice_overlaps

    overlaps = slice_overlaps(pd.read_parquet(subject.folder / "targets.parquet"))
    if overlaps.empty:
        return None
    row = overlaps.iloc[0]
    return (
        f"{len(overlaps)} label spans cross into another slice; the first is the {row['slice']} label at "
        f"{overlaps.index[0]}, which ends {row['exit_time']} inside {row['other']} (from {row['other_first_entry']})"
    )


def selected_features_exist(subject: Subject) -> str | None:
    """The chosen names are features of the training set, in its order, and not more than asked for."""
    names, limit = list(subject.value.names), int(subject.manifest.provenance.settings["CVN_MAX_FEATURES"])
    offered = list(subject.upstream("training_set").features.columns)
    if not 0 < len(names) <= limit:
        return f"{len(names)} features were chosen, expected 1 to {limit}"
    if names != [name for name in offered if name in set(names)]:
        return f"the chosen names are not features of the training set in its order: {names}"
    return None


def prepared_types_are_preserved(subject: Subject) -> str | None:
    """DataFrame, Series, dtypes, column order and index type come out as they went in (incidents 17.1, 17.2)."""
    prepared, train = subject.value, subject.upstream("training_set").slice("train")
    wanted = train.features[list(subject.upstream("feature_selection").names)]
    if list(prepared.features.columns) != list(wanted.columns):
        return "the columns are not the selected features in their order"
    before = {"features": wanted, "the index": wanted.index, "weights": train.targets["weight"]}
    after = {"features": prepared.features, "the index": prepared.features.index, "weights": prepared.weights}
    if subject.manifest.provenance.settings["CVN_LABEL_SMOOTHING"] == "none":
        before["labels"], after["labels"] = train.targets["label"], prepared.labels
    for name, given in before.items():
        if _types(after[name]) != _types(given):
            return f"{name} went in as {_types(given)} and came out as {_types(after[name])}"
    return None


def _types(data: "pd.DataFrame | pd.Series[Any] | pd.Index[Any]") -> str:
    dtypes = data.dtypes.unique() if isinstance(data, pd.DataFrame) else [data.dtype]
    return ", ".join(str(dtype) for dtype in dtypes)


def prepared_rows_match(subject: Subject) -> str | None:
    """Features, labels and weights have the same rows: the training rows, less the suspects that were filtered."""
    prepared, train = subject.value, subject.upstream("training_set").slice("train").features
    index = prepared.features.index
    if not (index.equals(prepared.labels.index) and index.equals(prepared.weights.index)):
        return f"{len(index)} feature rows, {len(prepared.labels)} labels, {len(prepared.weights)} weights do not match"
    foreign = ~np.asarray(index.isin(train.index))
    if foreign.any():
        return f"{_first(index, foreign)} are not rows of the training slice"
    cleanlab, suspects = subject.manifest.provenance.settings["CVN_CLEANLAB"], prepared.suspects
    wanted = train.index.difference(suspects.index[suspects], sort=False) if cleanlab == "filter" else train.index
    if index.equals(wanted):
        return None
    expected = f"expected {len(wanted)}, the training rows in their order (CVN_CLEANLAB={cleanlab!r})"
    return f"{len(index)} rows came out, {expected}"


def soft_labels_are_probabilities(subject: Subject) -> str | None:
    """Binary labels lie within [0, 1]; class shares too, and add up to 1; hard three-class labels are -1, 0 or 1."""
    labels = subject.value.labels
    values = labels.to_numpy(dtype=float)
    low = 0.0 if isinstance(labels, pd.DataFrame) or _binary(subject) else -1.0
    outside = ~((values >= low) & (values <= 1.0))
    if isinstance(labels, pd.DataFrame):
        outside |= ~np.isclose(values.sum(axis=1), 1.0)[:, None]
    rows = outside.any(axis=1) if outside.ndim == 2 else outside
    return (
        None
        if not rows.any()
        else f"{_first(labels.index, rows)} have labels outside [{low:g}, 1] or shares that do not add up"
    )


def weights_are_positive(subject: Subject) -> str | None:
    """Every weight is finite and above 0."""
    weights = subject.value.weights
    wrong = ~(np.isfinite(weights.to_numpy()) & (weights.to_numpy() > 0))
    return None if not wrong.any() else f"{_first(weights.index, wrong)} have a weight that is not above 0"


def hyperparameters_are_in_range(subject: Subject) -> str | None:
    """Every value lies within its declared range."""
    known = {item.name: item for item in HYPERPARAMETERS["XGBOOST"]}
    for name, value in subject.value.params.items():
        if name not in known:
            return f"{name} is not a declared hyperparameter; declared: {', '.join(known)}"
        item = known[name]
        if not item.low <= value <= item.high:
            return f"{name} is {value}, outside its range {item.low:g} to {item.high:g}"
    return None


def model_has_the_training_features(subject: Subject) -> str | None:
    """The model's feature names are the training rows' columns, in order, and the booster agrees (incident 17.2)."""
    import xgboost as xgb

    names = list(subject.value.model.feature_names)
    columns = list(subject.upstream("label_pipeline").features.columns)
    booster = xgb.Booster({"nthread": 1})
    booster.load_model(bytearray(subject.value.model.ubj))
    for owner, given in (
        ("the training rows", columns),
        ("the stored booster", list(booster.feature_names or [])),
    ):
        if given != names:
            pairs = zip(names, given, strict=False)
            where = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(names), len(given)))
            ours, theirs = names[where : where + 1], given[where : where + 1]
            return f"feature names differ from {owner} at position {where}: {ours} and {theirs}"
    return None


def stored_model_scores_alike(subject: Subject) -> str | None:
    """The stored file gives the reference rows the scores that the model in memory gave them."""
    from cvntrade_assets.learning.training import score_buy

    stored = subject.value
    wrong = score_buy(stored.model, stored.reference).to_numpy() != stored.reference_scores.to_numpy()
    return None if not wrong.any() else f"{_first(stored.reference.index, wrong)} score otherwise than in memory"


def calibration_targets_are_discrete(subject: Subject) -> str | None:
    """The calibrator was fitted on the training set's own hard labels, BUY against the rest (incident 17.3)."""
    targets = subject.value.rows["target"]
    soft = ~targets.isin([0, 1]).to_numpy()
    if soft.any():
        return f"{_first(targets.index, soft)} have soft targets; calibration needs hard labels"
    labels = subject.upstream("training_set").targets["label"].reindex(targets.index)
    other = (labels.isna() | (targets != (labels == 1))).to_numpy()
    return None if not other.any() else f"{_first(targets.index, other)} have targets that the training set does not"


def calibrated_values_are_probabilities(subject: Subject) -> str | None:
    """Every calibrated value lies within [0, 1]."""
    probability = subject.value.rows["probability"]
    wrong = ~probability.between(0.0, 1.0).to_numpy()
    return None if not wrong.any() else f"{_first(probability.index, wrong)} are outside [0, 1]"


def probabilities_are_the_calibrators(subject: Subject) -> str | None:
    """The stored calibrator gives the stored scores the stored probabilities."""
    from cvntrade_assets.learning.calibration import apply_calibration

    rows = subject.value.rows
    given = apply_calibration(subject.value.calibration, rows["score"])
    wrong = ~np.isclose(rows["probability"], given, rtol=0.0, atol=1e-12)
    return (
        None if not wrong.any() else f"{_first(rows.index, wrong)} have another probability than the calibrator gives"
    )


def calibration_is_apart_from_training(subject: Subject) -> str | None:
    """Its rows open when every label that the model was fitted or stopped on had ended."""
    targets = subject.upstream("training_set").targets
    seen = targets[targets["slice"].isin(["train", "validation"])]["exit_time"].max()
    index = subject.value.rows.index
    early = np.asarray(index < seen)
    return None if not early.any() else f"{_first(index, early)} lie before {seen}, where the model's own labels end"


def calibration_is_monotone(subject: Subject) -> str | None:
    """A higher score never gets a lower probability."""
    from cvntrade_assets.learning.calibration import is_monotone

    return (
        None
        if is_monotone(subject.value.calibration)
        else "the calibrated probability falls somewhere as the score rises"
    )


def report_is_beside_its_baseline(subject: Subject) -> str | None:
    """The baseline is 2p/(1+p), the threshold the frozen one, and the numbers are what the stored predictions give.

    All numbers but those that are drawn at random: the interval of the lift, and PR-AUC by chance.
    """
    report, rows = subject.value.report, subject.value.predictions
    frozen = subject.upstream("calibration").calibration.threshold
    if report.threshold != frozen:
        return f"threshold is {report.threshold}, the calibration froze {frozen}"
    other = (rows["predicted"] != (rows["probability"] >= frozen)).to_numpy()
    if other.any():
        return f"{_first(rows.index, other)} are predicted otherwise than the threshold says"
    for name, value in _expected_report(rows).items():
        if not _is_number(getattr(report, name), value):
            return f"{name} is {getattr(report, name)}, the stored predictions give {value}"
    return None


def _expected_report(rows: pd.DataFrame) -> Mapping[str, float]:
    from cvntrade_assets.learning import scores

    truth = (rows["label"] == 1).to_numpy(dtype=np.float64)
    rate, counts = float(truth.mean()), scores.confusion(truth, rows["predicted"])
    f1, baseline = scores.f1_buy(counts), scores.baseline_f1(rate)
    return {
        "rows": len(rows),
        **asdict(counts),
        "buy_rate": rate,
        "predicted_buy_rate": float(rows["predicted"].mean()),
        "baseline_f1_buy": baseline,
        "f1_buy": f1,
        "f1_buy_delta": f1 - baseline,
        "precision_buy": scores.precision(counts),
        "recall_buy": scores.recall(counts),
        "pr_auc": scores.pr_auc(truth, rows["score"]),
        "pr_auc_lift": scores.pr_auc_lift(truth, rows["score"]),
        "brier_before": scores.brier(truth, rows["score"]),
        "brier_after": scores.brier(truth, rows["probability"]),
        "brier_base_rate": rate * (1.0 - rate),
        "ece_before": scores.expected_calibration_error(truth, rows["score"]),
        "ece_after": scores.expected_calibration_error(truth, rows["probability"]),
    }


def _is_number(reported: float | None, value: float) -> bool:
    """Whether they are the same; what is undefined is reported as None."""
    return math.isnan(value) if reported is None else math.isclose(reported, value, rel_tol=1e-9, abs_tol=1e-12)


def report_rows_were_unseen(subject: Subject) -> str | None:
    """The test rows open when every label that anything was fitted, stopped, calibrated or chosen on had ended."""
    targets = subject.upstream("training_set").targets
    seen = targets[targets["slice"] != "test"]["exit_time"].max()
    index = subject.value.predictions.index
    early = np.asarray(index < seen)
    return None if not early.any() else f"{_first(index, early)} lie before {seen}, where labels used earlier end"


def report_is_believable(subject: Subject) -> str | None:
    """On a real market a large lift is a leak until shown otherwise."""
    lift = subject.value.report.pr_auc_lift
    if lift is None or subject.artifact.market == "simulated" or lift <= SUSPICIOUS_LIFT:
        return None
    return f"PR-AUC is {lift:.3f} above the buy rate; honest work on real candles found at most 0.06: look for a leak"


_CANDLE_RULES = (
    Rule("schema", "Sorted, unique, on the grid, finite, OHLC consistent", candles_keep_schema),
    Rule("closed", "No candle closes after now", candles_are_closed),
    Rule("archive_good", "No month of the archive is quarantined", no_month_is_quarantined, blocking=False),
)

CONTRACTS = (
    Contract("candles", _CANDLE_RULES),
    Contract("backtest_candles", _CANDLE_RULES),
    Contract(
        "features",
        (
            Rule("schema", "Declared names in order, float32, finite", features_keep_schema),
            Rule("warm_up", "Features start after the run-up, none is missing", features_start_after_warm_up),
        ),
    ),
    Contract(
        "labels",
        (
            Rule("schema", "Known columns and types", labels_keep_schema),
            Rule("causal", "Entry at the next open, exit not before entry", labels_act_after_the_signal),
        ),
    ),
    Contract(
        "training_set",
        (
            Rule("rows_match", "X and y have the same index", training_rows_match),
            Rule("schema", "Known columns and types, positive weights", training_targets_keep_schema),
            Rule("slices_purged", "No label span reaches into another slice", slices_are_purged),
        ),
    ),
    Contract(
        "feature_selection",
        (Rule("known_names", "Chosen names are training features", selected_features_exist),),
    ),
    Contract(
        "label_pipeline",
        (
            Rule(
                "types_preserved",
                "Types come out as they went in (incidents 17.1, 17.2)",
                prepared_types_are_preserved,
            ),
            Rule("rows_match", "Features, labels and weights have the same training rows", prepared_rows_match),
            Rule("labels_in_range", "Soft labels are probabilities", soft_labels_are_probabilities),
            Rule("weights_positive", "Weights are finite and above 0", weights_are_positive),
        ),
    ),
    Contract(
        "hyperparameters",
        (Rule("in_range", "Values lie in their declared ranges", hyperparameters_are_in_range),),
    ),
    Contract(
        "model",
        (
            Rule(
                "feature_names",
                "Names equal the training rows' (incident 17.2)",
                model_has_the_training_features,
            ),
            Rule("scores_alike", "The stored file scores like the model in memory", stored_model_scores_alike),
        ),
    ),
    Contract(
        "calibration",
        (
            Rule(
                "targets_discrete", "The training set's hard labels (incident 17.3)", calibration_targets_are_discrete
            ),
            Rule("in_range", "Probabilities lie within [0, 1]", calibrated_values_are_probabilities),
            Rule("as_calibrated", "Probabilities are the stored calibrator's", probabilities_are_the_calibrators),
            Rule("unseen_rows", "Apart from what the model was fitted on", calibration_is_apart_from_training),
            Rule("monotone", "A higher score never gets a lower probability", calibration_is_monotone),
        ),
    ),
    Contract(
        "test_report",
        (
            Rule(
                "beside_baseline",
                "Numbers are those of the stored predictions",
                report_is_beside_its_baseline,
            ),
            Rule("unseen_rows", "Apart from everything that came before", report_rows_were_unseen),
            Rule("believable", "Not too good to be true", report_is_believable, blocking=False),
        ),
    ),
)

BLOCKING_CHECKS: Mapping[str, tuple[str, ...]] = {contract.asset: contract.blocking for contract in CONTRACTS}
CHECKS = tuple(contract.checks() for contract in CONTRACTS)
