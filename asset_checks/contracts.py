"""The contracts: for every asset the rules that its versions must keep, each incident of the log among them.

Rules recompute from the stored files; what an asset says about itself is not believed. Every asset's first rule is its
schema, out of `asset_checks/schemas.py`.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from asset_checks.breach import ALL_ROWS, SHOWN_OFFENDERS, Breach, Offender, broken_rows, rows_only_in
from asset_checks.contract import Contract, Rule, Subject
from asset_checks.drift_rules import DRIFT_RULES
from asset_checks.evaluation_rules import BACKTEST_RULES, EVALUATION_RULES, ROLLING_RULES, WALK_FORWARD_RULES
from asset_checks.report_numbers import expected_report, is_number
from asset_checks.schemas import SCHEMAS, interval_of, schema_judge, schema_meaning
from asset_checks.screening_rules import SCREENING_RULES
from cvntrade_assets.market.candles import timeframe_delta
from cvntrade_assets.operations.audit_verdict import (
    Audit,
    CompleteAudit,
    InconclusiveAudit,
    SkippedAudit,
    certify,
    shortcomings,
)
from cvntrade_assets.operations.guardrails import BLOCKING_PREFLIGHT

# The largest lift of PR-AUC over the buy rate that honest work found on real candles is 0.06.
SUSPICIOUS_LIFT = 0.15


def candles_are_closed(subject: Subject) -> Breach | str | None:
    """No candle closes after the moment that counted as now."""
    closes = (subject.value.candles.index + interval_of(subject)).to_series(name="close_time")
    as_of = pd.Timestamp(subject.manifest.summary["as_of"])
    late = np.asarray(closes > as_of)
    return broken_rows(closes, late, f"close after {as_of}: an open candle must be dropped", f"closed by {as_of}")


def no_month_is_quarantined(subject: Subject) -> Breach | str | None:
    """Every closed month of the archive was good or absent."""
    bad = {month.month: month.reason for month in subject.value.months if month.status == "quarantined"}
    if not bad:
        return None
    listed = "; ".join(f"{month}: {reason}" for month, reason in bad.items())
    offenders = [Offender("status", month, f"quarantined: {why}", "good or absent") for month, why in bad.items()]
    return Breach(f"{len(bad)} months of the archive are quarantined and count as gaps: {listed}", tuple(offenders))


def features_start_after_warm_up(subject: Subject) -> Breach | str | None:
    """No candle of the run-up has features, every later one has."""
    from cvntrade_assets.learning.features import WARM_UP

    expected = subject.upstream("candles").candles.index[WARM_UP:]
    if subject.value.index.equals(expected):
        return None
    demand = f"one row per candle after the first {WARM_UP}"
    too_many = rows_only_in(subject.value.index, expected, "has features", demand)
    too_few = rows_only_in(expected, subject.value.index, "has none", demand)
    return Breach(
        f"{len(subject.value)} rows from {subject.value.index[0]}, expected one per candle after the first {WARM_UP}: "
        f"{len(expected)} rows from {expected[0]}",
        (*too_many, *too_few),
    )


def labels_act_after_the_signal(subject: Subject) -> Breach | str | None:
    """Entry is at the next candle's open, and no exit precedes its entry."""
    interval = timeframe_delta(subject.manifest.provenance.lineage["CVN_TIMEFRAME"])
    table = subject.value
    early = np.asarray((table["entry_time"] != table.index + interval) | (table["exit_time"] < table["entry_time"]))
    spans = table[["entry_time", "exit_time"]]
    complaint = "act otherwise: entry must be the next open, exit not before it"
    return broken_rows(spans, early, complaint, "entry at the next open, exit not before it")


def training_rows_match(subject: Subject) -> Breach | str | None:
    """Features and targets have the same index, row by row."""
    x, y = subject.table("features.parquet").index, subject.table("targets.parquet").index
    if x.equals(y):
        return None
    demand = "in X and in y, in the same place"
    offenders = (*rows_only_in(x, y, "only in X", demand), *rows_only_in(y, x, "only in y", demand))
    if not offenders:
        place = int(np.argmax(np.asarray(x != y)))
        offenders = (Offender("open_time", f"row {place}", f"{x[place]} in X, {y[place]} in y", demand),)
    lonely = len(x.symmetric_difference(y))
    return Breach(f"X has {len(x)} rows and y {len(y)}; {lonely} candles are in only one of them", offenders)


def slices_are_purged(subject: Subject) -> Breach | str | None:
    """No label's span reaches into another slice; recomputed from the spans."""
    from cvntrade_assets.learning.splits import slice_overlaps

    overlaps = slice_overlaps(subject.table("targets.parquet"))
    if overlaps.empty:
        return None
    row = overlaps.iloc[0]
    offenders = tuple(
        Offender(
            "exit_time", str(at), str(one["exit_time"]), f"before {one['other']} begins, {one['other_first_entry']}"
        )
        for at, one in overlaps.head(SHOWN_OFFENDERS).iterrows()
    )
    return Breach(
        f"{len(overlaps)} label spans cross into another slice; the first is the {row['slice']} label at "
        f"{overlaps.index[0]}, which ends {row['exit_time']} inside {row['other']} (from {row['other_first_entry']})",
        offenders,
    )


def selected_features_exist(subject: Subject) -> Breach | str | None:
    """The chosen names are features of the training set, in its order, and not more than asked for."""
    names, limit = list(subject.value.names), int(subject.manifest.provenance.settings["CVN_MAX_FEATURES"])
    offered = list(subject.upstream("training_set").features.columns)
    if not 0 < len(names) <= limit:
        return f"{len(names)} features were chosen, expected 1 to {limit}"
    if names != [name for name in offered if name in set(names)]:
        return f"the chosen names are not features of the training set in its order: {names}"
    return None


def prepared_types_are_preserved(subject: Subject) -> Breach | str | None:
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


def prepared_rows_match(subject: Subject) -> Breach | str | None:
    """Features, labels and weights have the same rows: the training rows, less the suspects that were filtered."""
    prepared, train = subject.value, subject.upstream("training_set").slice("train").features
    index = prepared.features.index
    if not (index.equals(prepared.labels.index) and index.equals(prepared.weights.index)):
        return f"{len(index)} feature rows, {len(prepared.labels)} labels, {len(prepared.weights)} weights do not match"
    foreign = ~np.asarray(index.isin(train.index))
    stranger = broken_rows(
        index.to_series(), foreign, "are not rows of the training slice", "a row of the training slice"
    )
    if stranger is not None:
        return stranger
    cleanlab, suspects = subject.manifest.provenance.settings["CVN_CLEANLAB"], prepared.suspects
    wanted = train.index.difference(suspects.index[suspects], sort=False) if cleanlab == "filter" else train.index
    if index.equals(wanted):
        return None
    expected = f"expected {len(wanted)}, the training rows in their order (CVN_CLEANLAB={cleanlab!r})"
    lost = rows_only_in(wanted, index, "lost", "every training row that is not filtered")
    kept = rows_only_in(index, wanted, "kept", "no row that is to be filtered")
    return Breach(f"{len(index)} rows came out, {expected}", (*lost, *kept))


def model_has_the_training_features(subject: Subject) -> Breach | str | None:
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
            offender = Offender("feature name", f"position {where}", ", ".join(theirs), ", ".join(ours))
            message = f"feature names differ from {owner} at position {where}: {ours} and {theirs}"
            return Breach(message, (offender,))
    return None


def stored_model_scores_alike(subject: Subject) -> Breach | str | None:
    """The stored file gives the reference rows the scores that the model in memory gave them."""
    from cvntrade_assets.learning.training import score_buy

    stored = subject.value
    now = score_buy(stored.model, stored.reference)
    both = pd.DataFrame({"in memory": stored.reference_scores.to_numpy(), "stored": now.to_numpy()}, index=now.index)
    wrong = (both["stored"] != both["in memory"]).to_numpy()
    return broken_rows(both, wrong, "score otherwise than in memory", "the score that the model in memory gave")


def calibration_targets_are_discrete(subject: Subject) -> Breach | str | None:
    """The calibrator was fitted on the training set's own hard labels, BUY against the rest (incident 17.3)."""
    targets = subject.value.rows["target"]
    soft = ~targets.isin([0, 1]).to_numpy()
    if soft.any():
        return broken_rows(targets, soft, "have soft targets; calibration needs hard labels", "0 or 1")
    labels = subject.upstream("training_set").targets["label"].reindex(targets.index)
    other = (labels.isna() | (targets != (labels == 1))).to_numpy()
    both = pd.DataFrame({"target": targets, "label": labels})
    return broken_rows(both, other, "have targets that the training set does not", "1 where the label is BUY, else 0")


def probabilities_are_the_calibrators(subject: Subject) -> Breach | str | None:
    """The stored calibrator gives the stored scores the stored probabilities."""
    from cvntrade_assets.learning.calibration import apply_calibration

    rows = subject.value.rows
    given = apply_calibration(subject.value.calibration, rows["score"])
    wrong = ~np.isclose(rows["probability"], given, rtol=0.0, atol=1e-12)
    both = rows[["score", "probability"]].assign(calibrator=given)
    return broken_rows(both, wrong, "have another probability than the calibrator gives", "the calibrator's value")


def calibration_is_apart_from_training(subject: Subject) -> Breach | str | None:
    """Its rows open when every label that the model was fitted or stopped on had ended."""
    targets = subject.upstream("training_set").targets
    seen = targets[targets["slice"].isin(["train", "validation"])]["exit_time"].max()
    times = subject.value.rows.index.to_series()
    early = np.asarray(times < seen)
    return broken_rows(times, early, f"lie before {seen}, where the model's own labels end", f"not before {seen}")


def calibration_is_monotone(subject: Subject) -> Breach | str | None:
    """A higher score never gets a lower probability."""
    from cvntrade_assets.learning.calibration import is_monotone

    return (
        None
        if is_monotone(subject.value.calibration)
        else "the calibrated probability falls somewhere as the score rises"
    )


def report_is_beside_its_baseline(subject: Subject) -> Breach | str | None:
    """The baseline is 2p/(1+p), the threshold the frozen one, and the numbers are what the stored predictions give.

    All numbers but those that are drawn at random: the intervals, and PR-AUC by chance.
    """
    report, rows = subject.value.report, subject.value.predictions
    frozen = subject.upstream("calibration").calibration.threshold
    if report.threshold != frozen:
        return f"threshold is {report.threshold}, the calibration froze {frozen}"
    other = (rows["predicted"] != (rows["probability"] >= frozen)).to_numpy()
    if other.any():
        complaint, demand = "are predicted otherwise than the threshold says", f"BUY from probability {frozen} on"
        return broken_rows(rows[["probability", "predicted"]], other, complaint, demand)
    for name, value in expected_report(rows).items():
        if not is_number(getattr(report, name), value):
            return f"{name} is {getattr(report, name)}, the stored predictions give {value}"
    return None


def report_rows_were_unseen(subject: Subject) -> Breach | str | None:
    """The test rows open when every label that anything was fitted, stopped, calibrated or chosen on had ended."""
    targets = subject.upstream("training_set").targets
    seen = targets[targets["slice"] != "test"]["exit_time"].max()
    times = subject.value.predictions.index.to_series()
    early = np.asarray(times < seen)
    return broken_rows(times, early, f"lie before {seen}, where labels used earlier end", f"not before {seen}")


def report_is_believable(subject: Subject) -> Breach | str | None:
    """On a real market a large lift is a leak until shown otherwise."""
    lift = subject.value.report.pr_auc_lift
    if lift is None or subject.artifact.market == "simulated" or lift <= SUSPICIOUS_LIFT:
        return None
    return f"PR-AUC is {lift:.3f} above the buy rate; honest work on real candles found at most 0.06: look for a leak"


def validation_is_certified(subject: Subject) -> Breach | str | None:
    """A complete audit of this very model, every probe passed and the anchor held; nothing less is certified."""
    audit: Audit = subject.value
    if isinstance(audit, InconclusiveAudit):
        return f"{audit.s22a1_status}: {audit.reason}"
    of, model = audit.subject.model_version, subject.manifest.provenance.inputs["model"]
    if of != model:
        return f"it is an audit of model {of}, and was to be one of model {model}"
    failed = [
        Offender(probe.name, ALL_ROWS, str(probe.value), probe.message) for probe in audit.probes if not probe.passed
    ]
    found = shortcomings(audit)
    if found:
        return Breach("; ".join(found), tuple(failed))
    if missing := _probes_not_asked(audit):
        return f"it is not a whole audit: {', '.join(missing)} was not asked, and this code asks it; audit again"
    if isinstance(audit, SkippedAudit):
        return Breach(
            f"s22a1_status={audit.s22a1_status}: every probe passed, and the anchor was skipped "
            "(CVN_S40_SKIP_S22A1_CROSSREF=1), so that this audit does not certify that the recorded model can be "
            "reproduced. It is not a complete audit.",
            warns=True,
        )
    certify(audit)
    return None


def _probes_not_asked(audit: CompleteAudit | SkippedAudit) -> list[str]:
    """Probes that came later than a stored audit, or that somebody left out."""
    from cvntrade_assets.learning.validation_audit import PROBES

    asked = {probe.name for probe in audit.probes}
    return [probe.__name__ for probe in PROBES if probe.__name__ not in asked]


_CANDLE_RULES = (
    Rule("closed", "No candle closes after now", candles_are_closed),
    Rule("archive_good", "No month of the archive is quarantined", no_month_is_quarantined, blocking=False),
)

# What stands beside an asset's schema.
_RULES: Mapping[str, tuple[Rule, ...]] = {
    "candles": _CANDLE_RULES,
    "backtest_candles": _CANDLE_RULES,
    "features": (Rule("warm_up", "Features start after the run-up, none is missing", features_start_after_warm_up),),
    "labels": (Rule("causal", "Entry at the next open, exit not before entry", labels_act_after_the_signal),),
    "training_set": (
        Rule("rows_match", "X and y have the same index", training_rows_match),
        Rule("slices_purged", "No label span reaches into another slice", slices_are_purged),
    ),
    "feature_selection": (Rule("known_names", "Chosen names are training features", selected_features_exist),),
    "label_pipeline": (
        Rule("types_preserved", "Types come out as they went in (incidents 17.1, 17.2)", prepared_types_are_preserved),
        Rule("rows_match", "Features, labels and weights have the same training rows", prepared_rows_match),
    ),
    "model": (
        Rule("feature_names", "Names equal the training rows' (incident 17.2)", model_has_the_training_features),
        Rule("scores_alike", "The stored file scores like the model in memory", stored_model_scores_alike),
    ),
    "calibration": (
        Rule("targets_discrete", "The training set's hard labels (incident 17.3)", calibration_targets_are_discrete),
        Rule("as_calibrated", "Probabilities are the stored calibrator's", probabilities_are_the_calibrators),
        Rule("unseen_rows", "Apart from what the model was fitted on", calibration_is_apart_from_training),
        Rule("monotone", "A higher score never gets a lower probability", calibration_is_monotone),
    ),
    "backtest": BACKTEST_RULES,
    "test_report": (
        Rule("beside_baseline", "Numbers are those of the stored predictions", report_is_beside_its_baseline),
        Rule("unseen_rows", "Apart from everything that came before", report_rows_were_unseen),
        Rule("believable", "Not too good to be true", report_is_believable, blocking=False),
    ),
    "screening_matrix": SCREENING_RULES,
    "walk_forward": WALK_FORWARD_RULES,
    "rolling_backtest": ROLLING_RULES,
    "evaluation": EVALUATION_RULES,
    "drift": DRIFT_RULES,
    "validation_audit": (
        Rule("certified", "A complete audit in which every probe passed and the anchor held", validation_is_certified),
    ),
}


def _contract(asset: str) -> Contract:
    schema = Rule("schema", schema_meaning(asset), schema_judge(asset))
    return Contract(asset, (schema, *_RULES.get(asset, ())))


CONTRACTS = tuple(_contract(asset) for asset in SCHEMAS)

# Preflight judges the training set too: see asset_checks/guardrails.py.
_PREFLIGHT = {"training_set": BLOCKING_PREFLIGHT}
BLOCKING_CHECKS: Mapping[str, tuple[str, ...]] = {
    contract.asset: (*contract.blocking, *_PREFLIGHT.get(contract.asset, ())) for contract in CONTRACTS
}
CHECKS = tuple(contract.checks() for contract in CONTRACTS)
