"""Schemas: what each asset promises of its columns, types, order and values, as pandera schemas.

`SCHEMAS` has them all: an asset's parts, each a table with its schema. What is no table stands there as one of a single
row. The check `schema` of every asset is generated from it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from asset_checks.breach import Breach
from asset_checks.row_rules import (
    RowRule,
    finite,
    one_of,
    plain_schema,
    record_schema,
    timed_schema,
    violations,
    within,
)
from asset_checks.trading_schemas import equity_schema, folds_schema, test_predictions_schema, trades_schema
from cvntrade_assets.hyperparameters import HYPERPARAMETERS, Hyperparameter, bounds, hyperparameter_key
from cvntrade_assets.learning.splits import SLICES
from cvntrade_assets.market.candles import INDEX_DTYPE, NUMBERS, PRICES, timeframe_delta
from cvntrade_assets.market.shown import SIMULATED
from cvntrade_assets.operations.audit_verdict import CAPTURE_REQUIREMENTS
from cvntrade_assets.operations.lifecycle import TRADING, ModelState

if TYPE_CHECKING:
    import pandera.pandas as pa

    from asset_checks.contract import Subject

EXIT_KINDS = ("tp", "sl", "timeout")
LABELS = (-1, 0, 1)
BINARY_LABELS = (0, 1)
SHARES = tuple(str(label) for label in LABELS)
MONTH_STATUSES = ("good", "absent", "quarantined")
HEADLINES = ("f1_buy", "f1_buy_delta", "precision_buy", "recall_buy", "pr_auc", "pr_auc_lift", "brier_after")
"""The scores of a test report that carry an interval."""
PLOTS = ("equity", "label_timeline", "precision_recall_curve", "reliability_diagram")
MEAN_WEIGHT_TOLERANCE = 1e-6
SHARE_TOLERANCE = 1e-6
SCORE_TOLERANCE = 1e-12
BACKTEST_PLOTS = ("equity",)
EVALUATION_PLOTS = (
    "equity_of_the_test",
    "equity_rolling",
    "exit_shares",
    "fold_bars",
    "reliability",
    "screening_heat_map",
)
SCREENING_PLOTS = ("screening_heat_map",)
DRIFT_PLOTS = ("by_column", "probabilities")
SHARES_OF_LABELS = ("buy_rate", "f1_buy", "baseline_f1_buy")
SHARES_OF_TRADES = ("hit_rate", "max_drawdown", "tp_pct", "sl_pct", "timeout_pct")
NEVER = 2.0
"""The threshold that no probability reaches."""

_PNG = b"\x89PNG\r\n\x1a\n"
# Tuning bounds how long a fit trains with these; they are no parameters of a tree.
_NOT_OF_TREES = ("num_boost_round", "early_stopping_rounds")
_BOUNDS = bounds("XGBOOST")


@dataclass(frozen=True)
class Part:
    """One table of an asset.

    Attributes:
        name: What it is called in the check's description.
        table: Reads it from a stored version; of many alike, all of them by what messages call each.
        schema: What that version's settings and inputs demand of it.
    """

    name: str
    table: Callable[[Subject], pd.DataFrame | Mapping[str, pd.DataFrame]]
    schema: Callable[[Subject], pa.DataFrameSchema]


def broken_schema(parts: Sequence[Part], subject: Subject) -> Breach | None:
    """Which parts of a version break their schema, or None."""
    breaches = [breach for part in parts for breach in _breaches(part, subject)]
    if not breaches:
        return None
    message = "\n".join(breach.message for breach in breaches)
    return Breach(message, tuple(chain.from_iterable(breach.offenders for breach in breaches)))


def _breaches(part: Part, subject: Subject) -> Iterator[Breach]:
    schema, found = part.schema(subject), part.table(subject)
    for name, table in (found if isinstance(found, Mapping) else {"": found}).items():
        breach = violations(schema, table)
        if breach is not None:
            yield replace(breach, message=f"{name}: {breach.message}") if name else breach


def candles_schema(interval: pd.Timedelta) -> pa.DataFrameSchema:
    """Candle frame of one timeframe: positive consistent prices, times strictly increasing on the grid."""
    types = dict.fromkeys(NUMBERS, "float64") | {"complete": "bool"}
    prices = list(PRICES)
    rules = [
        RowRule(f"open_time must be a multiple of {interval} since 1970", (), lambda c: _on_grid(c, interval)),
        finite(NUMBERS),
        RowRule("prices must be positive", PRICES, lambda c: c[prices] > 0),
        RowRule("volume must not be negative", ("volume",), lambda c: c["volume"] >= 0),
        RowRule("high must be the highest price", PRICES, lambda c: c["high"] >= c[prices].max(axis=1)),
        RowRule("low must be the lowest price", PRICES, lambda c: c["low"] <= c[prices].min(axis=1)),
    ]
    return timed_schema("candles", types, rules)


def months_schema() -> pa.DataFrameSchema:
    """What became of every closed month of the archive, oldest first; no row where nothing was asked of an archive."""
    names = ("month", "status", "sha256", "reason", "replaced_sha256", "kept_from")
    rules = [
        RowRule("month must look like 2025-01", ("month",), lambda m: m["month"].str.fullmatch(r"\d{4}-(0\d|1[012])")),
        RowRule("months must follow each other", ("month",), lambda m: m["month"] > m["month"].shift(fill_value="")),
        one_of("status", MONTH_STATUSES),
        RowRule("a good month has no reason, any other has one", ("status", "reason"), _reason_fits_status),
    ]
    return plain_schema("months", dict.fromkeys(names, "object"), rules)


def features_schema(names: Iterable[str] | None = None, name: str = "features") -> pa.DataFrameSchema:
    """Feature frame: float32, finite, the declared names in the declared order, or the names given."""
    from cvntrade_assets.learning.features import FEATURE_NAMES

    declared = tuple(FEATURE_NAMES if names is None else names)
    return timed_schema(name, dict.fromkeys(declared, "float32"), [finite(declared)])


def labels_schema(*, binary: bool = False) -> pa.DataFrameSchema:
    """Labels frame, one row per decided candle; labels are 0 and 1 when `binary`, else -1, 0 and 1."""
    return timed_schema("labels", _LABEL_TYPES, _label_rules(binary))


def targets_schema(*, binary: bool = False) -> pa.DataFrameSchema:
    """Targets of a training set: the labels' columns, a weight and a slice; slices in time order."""
    types = _LABEL_TYPES | {"weight": "float64", "slice": "category"}
    listed = ", ".join(SLICES)
    rules = [
        *_label_rules(binary),
        one_of("slice", SLICES),
        *_weight_rules(),
        RowRule("weight must be 1 outside the train slice", ("weight", "slice"), _plain_outside_train),
        RowRule("weights of the train slice must have mean 1", (), _train_weights_average_one),
        RowRule(f"every slice must hold rows ({listed})", (), lambda t: set(SLICES) <= set(t["slice"])),
        RowRule(f"slices must follow each other in time ({listed})", ("slice",), _slices_follow),
    ]
    return timed_schema("targets", types, rules)


def selection_schema(names: Iterable[str] | None = None) -> pa.DataFrameSchema:
    """The score of every feature, whether it was kept, why not, and whether it is among the chosen names.

    Args:
        names: The features that were offered, in their order; None for the declared ones.
    """
    from cvntrade_assets.learning.features import FEATURE_NAMES

    offered = list(FEATURE_NAMES if names is None else names)
    types = {"score": "float64", "kept": "bool", "reason": "object", "chosen": "bool"}
    rules = [
        RowRule("every offered feature must have its row, in their order", (), lambda s: list(s.index) == offered),
        within("score", 0.0, 1.0, optional=True),
        RowRule("a kept feature must have a score", ("kept", "score"), lambda s: ~s["kept"] | s["score"].notna()),
        RowRule("reason must be 'kept' for kept ones only", ("kept", "reason"), _reason_fits_kept),
        RowRule("the chosen names must be the kept ones", ("kept", "chosen"), lambda s: s["kept"] == s["chosen"]),
    ]
    return plain_schema("scores of features", types, rules)


def prepared_labels_schema(*, binary: bool, smoothed: bool) -> pa.DataFrameSchema:
    """Labels as the model is fitted on them: hard, softened within [0, 1], or a share per class that add up to 1."""
    if not smoothed:
        return timed_schema(
            "prepared labels", {"label": "int8"}, [one_of("label", BINARY_LABELS if binary else LABELS)]
        )
    if binary:
        return timed_schema("prepared labels", {"label": "float64"}, [within("label", 0.0, 1.0)])
    rules = [
        *(within(share, 0.0, 1.0) for share in SHARES),
        RowRule("the shares of the classes must add up to 1", SHARES, _shares_add_up),
    ]
    return timed_schema("prepared labels", dict.fromkeys(SHARES, "float64"), rules)


def weights_schema() -> pa.DataFrameSchema:
    """Weights of the rows that the model is fitted on."""
    return timed_schema("weights", {"weight": "float64"}, _weight_rules())


def suspects_schema() -> pa.DataFrameSchema:
    """Which training rows were suspected."""
    return timed_schema("suspects", {"suspect": "bool"}, [])


def trials_schema(searched: Sequence[Hyperparameter], n_folds: int) -> pa.DataFrameSchema:
    """One row a trial: its score, the folds', its trees, and the hyperparameters that were searched."""
    scores = ["score", *(f"score_fold_{fold}" for fold in range(n_folds))]
    types = dict.fromkeys([*scores, "rounds"], "float64") | {item.name: _dtype(item) for item in searched}
    rules = [
        RowRule("there must be a trial", (), lambda trials: len(trials) > 0),
        *(within(score, 0.0, 1.0) for score in scores),
        RowRule("a trial must grow a tree", ("rounds",), lambda trials: trials["rounds"] >= 1),
        *(within(item.name, item.low, item.high) for item in searched),
    ]
    return plain_schema("trials", types, rules)


def hyperparameters_schema() -> pa.DataFrameSchema:
    """The chosen hyperparameters: each one that shapes a tree, in its declared range."""
    items = tree_hyperparameters()
    rules = [within(item.name, item.low, item.high) for item in items]
    return record_schema("hyperparameters", {item.name: _dtype(item) for item in items}, rules)


def model_schema() -> pa.DataFrameSchema:
    """What is said of a model: its loss, its best round and how many features it takes."""
    types = {"objective": "object", "best_iteration": "int64", "features": "int64", "bytes": "int64"}
    rules = [
        one_of("objective", ("logistic", "focal", "softprob")),
        RowRule("the best round must not be before the first", ("best_iteration",), lambda m: m["best_iteration"] >= 0),
        RowRule("there must be features", ("features",), lambda m: m["features"] > 0),
        RowRule("there must be a booster", ("bytes",), lambda m: m["bytes"] > 0),
    ]
    return record_schema("model facts", types, rules)


def scores_schema() -> pa.DataFrameSchema:
    """The scores that the model in memory gave the reference rows."""
    return timed_schema("reference scores", {"buy_score": "float64"}, [within("buy_score", 0.0, 1.0)])


def calibration_schema() -> pa.DataFrameSchema:
    """What is said of a calibration; its thresholds lie in [0, 1], or are the one that no probability reaches."""
    from cvntrade_assets.learning.calibration import METHODS, THRESHOLD_METHODS

    types = {
        "method": "object",
        **dict.fromkeys(("threshold", "trade_threshold"), "float64"),
        **dict.fromkeys(("threshold_method", "trade_threshold_method"), "object"),
        "n_rows": "int64",
        "base_rate": "float64",
        "notes": "object",
    }
    rules = [
        one_of("method", METHODS),
        one_of("threshold_method", THRESHOLD_METHODS),
        one_of("trade_threshold_method", THRESHOLD_METHODS),
        _a_threshold("threshold"),
        _a_threshold("trade_threshold"),
        RowRule("there must be rows behind it", ("n_rows",), lambda c: c["n_rows"] > 0),
        within("base_rate", 0.0, 1.0),
    ]
    return record_schema("calibration facts", types, rules)


def _a_threshold(name: str) -> RowRule:
    return RowRule(
        f"{name} must lie within 0 to 1, or be {NEVER:g} for never",
        (name,),
        lambda facts: facts[name].between(0.0, 1.0) | (facts[name] == NEVER),
    )


def calibrated_schema(*, binary: bool) -> pa.DataFrameSchema:
    """The rows of the calibration slice as they were used."""
    types = {"label": "int8", "target": "int8", "score": "float64", "probability": "float64"}
    rules = [
        one_of("label", BINARY_LABELS if binary else LABELS),
        one_of("target", BINARY_LABELS),
        within("score", 0.0, 1.0),
        within("probability", 0.0, 1.0),
    ]
    return timed_schema("calibrated rows", types, rules)


def report_schema() -> pa.DataFrameSchema:
    """The numbers of a test report: shares within [0, 1], counts that add up; undefined ones are missing."""
    rates = ("f1_buy", "baseline_f1_buy", "buy_rate", "predicted_buy_rate")
    sure = (*rates, "brier_before", "brier_after", "brier_base_rate", "ece_before", "ece_after")
    unsure = ("precision_buy", "recall_buy", "pr_auc", "pr_auc_chance")
    lifts = ("f1_buy_delta", "pr_auc_lift")
    ends = tuple(f"{name}_{end}" for name in HEADLINES for end in ("low", "high"))
    counts = ("tn", "fp", "fn", "tp")
    numbers = (*sure, *unsure, *lifts, *ends, "threshold")
    types = dict.fromkeys(numbers, "float64") | dict.fromkeys((*counts, "rows"), "int64")
    listed = list(counts)
    rules = [
        *(within(name, 0.0, 1.0) for name in sure),
        *(within(name, 0.0, 1.0, optional=True) for name in unsure),
        within("f1_buy_delta", -1.0, 1.0),
        within("pr_auc_lift", -1.0, 1.0, optional=True),
        *(within(name, -1.0, 1.0, optional=True) for name in ends),
        *(_ordered_ends(name) for name in HEADLINES),
        within("threshold", 0.0, NEVER),
        RowRule("counts must not be negative", counts, lambda r: r[listed] >= 0),
        RowRule("counts must add up to the rows", (*counts, "rows"), lambda r: r[listed].sum(axis=1) == r["rows"]),
    ]
    return record_schema("numbers of the report", types, rules)


def _ordered_ends(name: str) -> RowRule:
    low, high = f"{name}_low", f"{name}_high"
    return RowRule(
        f"{name}'s interval must have both ends, the low one not above the high one, or neither",
        (low, high),
        lambda r: (r[low] <= r[high]) | (r[low].isna() & r[high].isna()),
    )


def predictions_schema(*, binary: bool) -> pa.DataFrameSchema:
    """Every test row with its score, its probability and what was said of it."""
    types = {"label": "int8", "return": "float64", "score": "float64", "probability": "float64", "predicted": "bool"}
    rules = [
        one_of("label", BINARY_LABELS if binary else LABELS),
        finite(("return",)),
        within("score", 0.0, 1.0),
        within("probability", 0.0, 1.0),
    ]
    return timed_schema("predictions", types, rules)


def plots_schema(names: Sequence[str] = PLOTS) -> pa.DataFrameSchema:
    """An asset's pictures, each a PNG; a report's unless names are given, in alphabetical order."""
    listed = ", ".join(names)
    rules = [
        RowRule(f"the plots must be {listed}", (), lambda p: tuple(p["plot"]) == tuple(names)),
        RowRule("a plot must be a PNG", ("plot", "png"), lambda p: p["png"]),
    ]
    return plain_schema("plots", {"plot": "object", "png": "bool"}, rules)


def points_schema(least_trades: int) -> pa.DataFrameSchema:
    """The points of a screening, best first: undefined numbers are missing, and a reason stands where one is refused.

    Args:
        least_trades: Fewest trades of an eligible point.
    """
    from cvntrade_assets.learning.screening import LABEL_NUMBERS, POINT_COLUMNS, TRADE_NUMBERS

    numbers = (*LABEL_NUMBERS, *TRADE_NUMBERS)
    types = dict.fromkeys(POINT_COLUMNS, "float64") | {"pte": "object", "reason": "object", "eligible": "bool"}
    types |= dict.fromkeys(("rank", "horizon_hours", "rows", "n_trades"), "int64")
    exits = SHARES_OF_TRADES[2:]
    rules = [
        RowRule("there must be a point", (), lambda p: len(p) > 0),
        RowRule("ranks must count from 1", ("rank",), lambda p: p["rank"] == np.arange(1, len(p) + 1)),
        RowRule("a point stands once", ("pte",), lambda p: ~p["pte"].duplicated()),
        RowRule("counts must not be negative", ("rows", "n_trades"), lambda p: p[["rows", "n_trades"]] >= 0),
        *(within(name, 0.0, 1.0, optional=True) for name in (*SHARES_OF_LABELS, *SHARES_OF_TRADES)),
        RowRule("numbers must be finite where defined", numbers, lambda p: ~np.isinf(p[list(numbers)])),
        RowRule("f1_buy must stand beside that of always saying BUY", LABEL_NUMBERS[:4], _beside_always_buy),
        RowRule("exit shares must add up to 1 where trades ended", ("n_trades", *exits), _exits_add_up),
        RowRule("a reason stands at a refused point only", ("eligible", "reason"), _reason_fits_eligible),
        RowRule(
            f"an eligible point must beat always-BUY, earn after costs and trade at least {least_trades} times",
            ("eligible", "f1_buy_delta", "expectancy_net", "n_trades"),
            lambda p: ~p["eligible"] | _deserves(p, least_trades),
        ),
    ]
    return plain_schema("points", {name: types[name] for name in POINT_COLUMNS}, rules)


def daily_schema(ptes: Sequence[str]) -> pa.DataFrameSchema:
    """Net daily returns, a column per point, best first; whole UTC days one after the other.

    Args:
        ptes: The points, best first.
    """
    rules = [
        finite(ptes),
        RowRule("nobody loses more than everything", tuple(ptes), lambda r: r[list(ptes)] > -1.0),
        RowRule("days must be whole UTC days, one after the other", (), _days_follow),
    ]
    return plain_schema("daily returns", dict.fromkeys(ptes, "float64"), rules)


def records_schema() -> pa.DataFrameSchema:
    """The records of an evaluation; each one's own schema is checked where it is read."""
    types = {
        **{"pte": "object", "rank": "int64", "leading": "bool"},
        **dict.fromkeys(("f1_buy", "baseline_f1_buy"), "float64"),
        **dict.fromkeys(("n_trades", "trials"), "int64"),
    }
    rules = [
        RowRule("there must be a record", (), lambda r: len(r) > 0),
        RowRule("a candidate stands once", ("pte",), lambda r: ~r["pte"].duplicated()),
        RowRule("records must stand by rank", ("rank",), lambda r: r["rank"] > r["rank"].shift(fill_value=0)),
        within("f1_buy", 0.0, 1.0),
        within("baseline_f1_buy", 0.0, 1.0),
        RowRule("trials must count every candidate", ("trials",), lambda r: r["trials"] >= len(r)),
    ]
    return plain_schema("records", types, rules)


def audit_schema() -> pa.DataFrameSchema:
    """What is said of a validation audit; only a complete one has an anchor."""
    types = {"kind": "object", "s22a1_status": "object", "s22a1_anchor_available": "bool", "diagnosis": "object"}
    rules = [
        one_of("kind", ("complete", "skipped", "inconclusive")),
        one_of("s22a1_status", ("REPRODUCED", "NOT_REPRODUCED", "SKIPPED", "INCONCLUSIVE_TOOLING")),
        RowRule("an anchor belongs to a complete audit alone", ("kind", "s22a1_anchor_available"), _anchor_fits_kind),
        one_of("diagnosis", tuple(CAPTURE_REQUIREMENTS)),
    ]
    return record_schema("audit facts", types, rules)


def probes_schema() -> pa.DataFrameSchema:
    """What every probe of an audit found; no row in an inconclusive one."""
    types = {"name": "object", "passed": "bool", "message": "object", "value": "float64", "limit": "float64"}
    rules = [
        RowRule("a probe is asked once", ("name",), lambda p: ~p["name"].duplicated()),
        RowRule(
            "a probe without a value does not pass", ("passed", "value"), lambda p: ~p["passed"] | p["value"].notna()
        ),
        finite(("limit",)),
    ]
    return plain_schema("probes", types, rules)


def drift_columns_schema() -> pa.DataFrameSchema:
    """Every column that was tested for drift, the one that lies furthest off first; no row where none could be."""
    distances = ("psi", "ks", "wasserstein", "usual_psi")
    p_values = ("p_value", "adjusted")
    types = {"name": "object", **dict.fromkeys((*distances, *p_values), "float64"), "drifted": "bool"}
    rules = [
        RowRule("a column must be tested once", ("name",), lambda c: ~c["name"].duplicated()),
        RowRule("distances must not be negative", distances, lambda c: c[list(distances)] >= 0.0),
        *(within(name, 0.0, 1.0) for name in ("ks", *p_values)),
        RowRule("correction must not lower a p-value", p_values, lambda c: c["adjusted"] >= c["p_value"]),
        RowRule("the most unusual must come first", ("p_value",), lambda c: c["p_value"] >= c["p_value"].cummax()),
    ]
    return plain_schema("drift by column", types, rules)


def registration_schema() -> pa.DataFrameSchema:
    """Which model the registry holds of an evaluation's leading candidate, and in which state."""
    texts = ("crypto", "pte", "market", "state", "model_sha256")
    types = dict.fromkeys(texts, "object") | dict.fromkeys(("number", "epoch"), "int64")
    rules = [
        one_of("market", ("binance", "simulated")),
        one_of("state", [str(state) for state in ModelState]),
        RowRule("numbers and epochs must count from 1", ("number", "epoch"), lambda r: r[["number", "epoch"]] >= 1),
        RowRule(
            "what was simulated must not be champion",
            ("market", "state"),
            lambda r: ~((r["market"] == SIMULATED) & r["state"].isin(list(TRADING))),
        ),
        RowRule(
            "model_sha256 must be a checksum",
            ("model_sha256",),
            lambda r: r["model_sha256"].str.fullmatch("[0-9a-f]{64}"),
        ),
    ]
    return record_schema("registration", types, rules)


_LABEL_TYPES = {
    "label": "int8",
    "return": "float64",
    "exit_kind": "category",
    "entry_time": INDEX_DTYPE,
    "exit_time": INDEX_DTYPE,
    "ambiguous": "bool",
}


def _label_rules(binary: bool) -> list[RowRule]:
    return [
        one_of("label", BINARY_LABELS if binary else LABELS),
        one_of("exit_kind", EXIT_KINDS),
        finite(("return",)),
        RowRule("label must be 1 for exit kind tp and no other", ("label", "exit_kind"), _buy_is_target),
        RowRule("a target must earn and a stop must lose", ("exit_kind", "return"), _returns_fit_exits),
        RowRule("entry must follow the signal, exit the entry", ("entry_time", "exit_time"), _spans_follow),
    ]


def _weight_rules() -> list[RowRule]:
    return [finite(("weight",)), RowRule("weight must be positive", ("weight",), lambda t: t["weight"] > 0)]


def tree_hyperparameters() -> tuple[Hyperparameter, ...]:
    """Those that XGBoost takes as parameters."""
    return tuple(item for item in HYPERPARAMETERS["XGBOOST"] if item.name not in _NOT_OF_TREES)


def _dtype(item: Hyperparameter) -> str:
    return "int64" if item.integer else "float64"


def _on_grid(frame: pd.DataFrame, interval: pd.Timedelta) -> Any:
    times = frame.index.to_series()
    return times == times.dt.floor(f"{interval // pd.Timedelta(seconds=1)}s")


def _reason_fits_status(months: pd.DataFrame) -> Any:
    return (months["status"] == "good") == months["reason"].isna()


def _reason_fits_kept(scores: pd.DataFrame) -> Any:
    return scores["kept"] == (scores["reason"] == "kept")


def _shares_add_up(shares: pd.DataFrame) -> Any:
    return (shares[list(SHARES)].sum(axis=1) - 1.0).abs() <= SHARE_TOLERANCE


def _buy_is_target(labels: pd.DataFrame) -> Any:
    return (labels["label"] == 1) == (labels["exit_kind"] == "tp")


def _spans_follow(labels: pd.DataFrame) -> Any:
    return (labels["entry_time"] > labels.index) & (labels["exit_time"] > labels["entry_time"])


def _returns_fit_exits(labels: pd.DataFrame) -> Any:
    kind, gain = labels["exit_kind"], labels["return"]
    return ((kind != "tp") | (gain > 0)) & ((kind != "sl") | (gain < 0)) & (gain > -1)


def _plain_outside_train(targets: pd.DataFrame) -> Any:
    return (targets["weight"] == 1.0) | (targets["slice"] == "train")


def _train_weights_average_one(targets: pd.DataFrame) -> bool:
    mean = targets.loc[targets["slice"] == "train", "weight"].mean()
    return bool(abs(mean - 1.0) <= MEAN_WEIGHT_TOLERANCE)


def _slices_follow(targets: pd.DataFrame) -> Any:
    order = targets["slice"].astype(object).map({name: number for number, name in enumerate(SLICES)})
    return order >= order.cummax()


def _beside_always_buy(points: pd.DataFrame) -> Any:
    rate, baseline = points["buy_rate"], points["baseline_f1_buy"]
    is_baseline = (baseline - 2.0 * rate / (1.0 + rate)).abs() <= SCORE_TOLERANCE
    is_delta = (points["f1_buy"] - baseline - points["f1_buy_delta"]).abs() <= SCORE_TOLERANCE
    undefined = points[["buy_rate", "f1_buy", "baseline_f1_buy", "f1_buy_delta"]].isna()
    return (is_baseline & is_delta) | undefined.all(axis=1)


def _exits_add_up(points: pd.DataFrame) -> Any:
    shares = points[["tp_pct", "sl_pct", "timeout_pct"]]
    added = (shares.sum(axis=1) - 1.0).abs() <= SHARE_TOLERANCE
    return added.where(points["n_trades"] > 0, shares.isna().all(axis=1))


def _reason_fits_eligible(points: pd.DataFrame) -> Any:
    return points["eligible"] == (points["reason"] == "")


def _deserves(points: pd.DataFrame, least_trades: int) -> Any:
    enough = points["n_trades"] >= least_trades
    return (points["f1_buy_delta"] > 0.0) & (points["expectancy_net"] > 0.0) & enough


def _days_follow(returns: pd.DataFrame) -> Any:
    days = returns.index.to_series()
    apart = days.diff().eq(pd.Timedelta(days=1)) | (np.arange(len(days)) == 0)
    return apart & (days == days.dt.floor("D"))


def _anchor_fits_kind(audit: pd.DataFrame) -> Any:
    return audit["s22a1_anchor_available"] == (audit["kind"] == "complete")


def interval_of(subject: Subject) -> pd.Timedelta:
    """The timeframe of a candle asset's version."""
    return timeframe_delta(str(subject.manifest.summary["timeframe"]))


def is_binary(subject: Subject) -> bool:
    """Whether a version was made with two classes."""
    return subject.manifest.provenance.lineage["CVN_BINARY_CLASSIFICATION"] == "1"


def _months(subject: Subject) -> pd.DataFrame:
    names = ["month", "status", "sha256", "reason", "replaced_sha256", "kept_from"]
    return pd.DataFrame([asdict(month) for month in subject.value.months], columns=names, dtype=object)


def _selected(subject: Subject) -> pd.DataFrame:
    scores: pd.DataFrame = subject.value.scores
    return scores.assign(chosen=scores.index.isin(subject.value.names))


def _prepared_labels(subject: Subject) -> pd.DataFrame:
    labels = subject.value.labels
    return labels.rename(columns=str) if isinstance(labels, pd.DataFrame) else labels.to_frame()


def _prepared_labels_schema(subject: Subject) -> pa.DataFrameSchema:
    smoothed = subject.manifest.provenance.settings["CVN_LABEL_SMOOTHING"] != "none"
    return prepared_labels_schema(binary=is_binary(subject), smoothed=smoothed)


def _trials_schema(subject: Subject) -> pa.DataFrameSchema:
    settings = subject.manifest.provenance.settings
    prefix = hyperparameter_key("XGBOOST", settings["CVN_TIMEFRAME"], "")
    pairs = (each.removeprefix(prefix).lower().split("=") for each in settings["CVN_HPO_XGBOOST_*"].split(", ") if each)
    moved = {name: float(text) for name, text in pairs}
    ends = {bound.name: moved.get(bound.name, bound.default_value) for bound in _BOUNDS}
    searched = [
        replace(item, low=ends[f"{item.name}_low"], high=ends[f"{item.name}_high"])
        for item in HYPERPARAMETERS["XGBOOST"]
        if item.searched and item.name not in moved
    ]
    return trials_schema(searched, int(settings["CVN_TUNING_FOLDS"]))


def _model_facts(subject: Subject) -> pd.DataFrame:
    model = subject.value.model
    return pd.DataFrame(
        {
            "objective": [model.objective],
            "best_iteration": [model.best_iteration],
            "features": [len(model.feature_names)],
            "bytes": [len(model.ubj)],
        }
    )


def _report(subject: Subject) -> pd.DataFrame:
    numbers = asdict(subject.value.report)
    return pd.DataFrame([{name: np.nan if value is None else value for name, value in numbers.items()}])


def _plots(subject: Subject) -> pd.DataFrame:
    plots = sorted(subject.value.plots.items())
    names = pd.Series([name for name, _ in plots], dtype=object)
    return pd.DataFrame({"plot": names, "png": [png.startswith(_PNG) for _, png in plots]})


def _audit_facts(subject: Subject) -> pd.DataFrame:
    audit = subject.value
    names = ("kind", "s22a1_status", "s22a1_anchor_available")
    facts = {name: getattr(audit, name) for name in names} | {"diagnosis": audit.subject.diagnosis}
    return pd.DataFrame([facts])


def _probes(subject: Subject) -> pd.DataFrame:
    probes = [asdict(probe) for probe in getattr(subject.value, "probes", ())]
    names = ["name", "passed", "message", "value", "limit"]
    return pd.DataFrame(probes, columns=names).astype({"passed": "bool", "value": "float64", "limit": "float64"})


def _levels(subject: Subject) -> list[float]:
    return [float(text) for text in subject.manifest.provenance.settings["CVN_COST_LEVELS"].split(",")]


def _traded(subject: Subject) -> dict[str, Any]:
    """Everything of a version that was backtested, by what messages call it."""
    value = subject.value
    return {str(each.pte): each for each in value} if isinstance(value, tuple) else {"": value.traded}


def _backtests(subject: Subject) -> dict[str, Any]:
    """The backtests and those of always-BUY, by what messages call them."""
    return {
        f"{place} {name}".strip(): backtest
        for place, each in _traded(subject).items()
        for name, backtest in (("model", each.compared.backtest), ("always BUY", each.compared.always_buy))
    }


def _trades(subject: Subject) -> dict[str, pd.DataFrame]:
    return {name: backtest.trades for name, backtest in _backtests(subject).items()}


def _equities(subject: Subject) -> dict[str, pd.DataFrame]:
    return {
        name: backtest.equity.assign(in_position=backtest.in_position) for name, backtest in _backtests(subject).items()
    }


def _held(subject: Subject) -> dict[str, pd.DataFrame]:
    return {place: each.compared.buy_and_hold for place, each in _traded(subject).items()}


def _planned(number: str, owner: Any, each: Any) -> dict[str, Any]:
    moments = dict(zip(SLICES, each.plan.starts, strict=True))
    thresholds = {name: float(getattr(each, name)) for name in ("threshold", "trade_threshold")}
    facts = {"train_rows": int(each.rows["train"]), **thresholds}
    return {"pte": str(owner.pte), number: each.plan.number, **moments, "end": each.plan.end, **facts}


def _plan_table(rows: list[dict[str, Any]]) -> pd.DataFrame:
    return pd.DataFrame(rows).astype(dict.fromkeys((*SLICES, "end"), INDEX_DTYPE))


def _folds(subject: Subject) -> pd.DataFrame:
    return _plan_table([_planned("fold", each, fold) for each in subject.value for fold in each.folds])


def _steps(subject: Subject) -> pd.DataFrame:
    return _plan_table([_planned("step", each, step) for each in subject.value for step in each.steps])


def _fold_predictions(subject: Subject) -> dict[str, pd.DataFrame]:
    return {f"{each.pte} fold {fold.plan.number}": fold.predictions for each in subject.value for fold in each.folds}


def _step_predictions(subject: Subject) -> dict[str, pd.DataFrame]:
    return {str(each.pte): each.predictions for each in subject.value}


def _records(subject: Subject) -> pd.DataFrame:
    names = ("pte", "rank", "leading", "f1_buy", "baseline_f1_buy", "n_trades", "trials")
    return pd.DataFrame([{name: getattr(record, name) for name in names} for record in subject.value.records])


_CANDLE_PARTS = (
    Part("candles", lambda s: s.value.candles, lambda s: candles_schema(interval_of(s))),
    Part("months", _months, lambda _: months_schema()),
)


def _drift_columns(subject: Subject) -> pd.DataFrame:
    types = {
        "name": "object",
        **dict.fromkeys(("psi", "ks", "wasserstein", "usual_psi", "p_value", "adjusted"), "float64"),
        "drifted": "bool",
    }
    return pd.DataFrame([asdict(column) for column in subject.value.report.columns], columns=list(types)).astype(types)


SCHEMAS: Mapping[str, tuple[Part, ...]] = {
    "candles": _CANDLE_PARTS,
    "backtest_candles": _CANDLE_PARTS,
    "features": (Part("features", lambda s: s.value, lambda _: features_schema()),),
    "labels": (Part("labels", lambda s: s.value, lambda s: labels_schema(binary=is_binary(s))),),
    "training_set": (
        Part("features", lambda s: s.table("features.parquet"), lambda _: features_schema(name="training features")),
        Part("targets", lambda s: s.table("targets.parquet"), lambda s: targets_schema(binary=is_binary(s))),
    ),
    "feature_selection": (Part("scores of features", _selected, lambda _: selection_schema()),),
    "label_pipeline": (
        Part(
            "features",
            lambda s: s.value.features,
            lambda s: features_schema(s.upstream("feature_selection").names, "prepared features"),
        ),
        Part("labels", _prepared_labels, _prepared_labels_schema),
        Part("weights", lambda s: s.value.weights.to_frame(), lambda _: weights_schema()),
        Part("suspects", lambda s: s.value.suspects.to_frame(), lambda _: suspects_schema()),
    ),
    "hyperparameters": (
        Part("trials", lambda s: s.value.trials, _trials_schema),
        Part("the best", lambda s: pd.DataFrame([s.value.params]), lambda _: hyperparameters_schema()),
    ),
    "model": (
        Part("facts", _model_facts, lambda _: model_schema()),
        Part(
            "reference rows",
            lambda s: s.value.reference,
            lambda s: features_schema(s.value.model.feature_names, "reference rows"),
        ),
        Part("reference scores", lambda s: s.value.reference_scores.to_frame(), lambda _: scores_schema()),
    ),
    "calibration": (
        Part("facts", lambda s: pd.DataFrame([s.value.calibration.describe()]), lambda _: calibration_schema()),
        Part("rows", lambda s: s.value.rows, lambda s: calibrated_schema(binary=is_binary(s))),
    ),
    "backtest": (
        Part("trades", _trades, lambda s: trades_schema(_levels(s))),
        Part("equity", _equities, lambda s: equity_schema(_levels(s))),
        Part("buy and hold", _held, lambda s: equity_schema(_levels(s), held=True)),
        Part("plots", _plots, lambda _: plots_schema(BACKTEST_PLOTS)),
    ),
    "test_report": (
        Part("numbers", _report, lambda _: report_schema()),
        Part("predictions", lambda s: s.value.predictions, lambda s: predictions_schema(binary=is_binary(s))),
        Part("plots", _plots, lambda _: plots_schema()),
    ),
    "validation_audit": (
        Part("facts", _audit_facts, lambda _: audit_schema()),
        Part("probes", _probes, lambda _: probes_schema()),
    ),
    "screening_matrix": (
        Part(
            "points",
            lambda s: s.table("points.parquet"),
            lambda s: points_schema(s.value.screening.least_trades),
        ),
        Part(
            "daily returns",
            lambda s: s.table("returns.parquet"),
            lambda s: daily_schema(list(s.table("points.parquet")["pte"])),
        ),
        Part("plots", _plots, lambda _: plots_schema(SCREENING_PLOTS)),
    ),
    "walk_forward": (
        Part("folds", _folds, lambda _: folds_schema("fold")),
        Part("predictions", _fold_predictions, lambda s: test_predictions_schema(binary=is_binary(s))),
        Part("trades", _trades, lambda s: trades_schema(_levels(s))),
        Part("equity", _equities, lambda s: equity_schema(_levels(s))),
        Part("buy and hold", _held, lambda s: equity_schema(_levels(s), held=True)),
    ),
    "rolling_backtest": (
        Part("steps", _steps, lambda _: folds_schema("step")),
        Part("predictions", _step_predictions, lambda s: test_predictions_schema(binary=is_binary(s))),
        Part("trades", _trades, lambda s: trades_schema(_levels(s))),
        Part("equity", _equities, lambda s: equity_schema(_levels(s))),
        Part("buy and hold", _held, lambda s: equity_schema(_levels(s), held=True)),
    ),
    "evaluation": (
        Part("records", _records, lambda _: records_schema()),
        Part("plots", _plots, lambda _: plots_schema(EVALUATION_PLOTS)),
    ),
    "challenger": (Part("registration", lambda s: pd.DataFrame([asdict(s.value)]), lambda _: registration_schema()),),
    "drift": (
        Part("columns", _drift_columns, lambda _: drift_columns_schema()),
        # There is nothing to draw of a look that could not be made.
        Part("plots", lambda s: _plots(s) if s.value.report.columns else {}, lambda _: plots_schema(DRIFT_PLOTS)),
    ),
}
"""Every asset's tables and what must hold of them."""


def schema_meaning(asset: str) -> str:
    """What the check `schema` of an asset demands, for the UI."""
    return f"Columns, types, order and values are as declared: {', '.join(part.name for part in SCHEMAS[asset])}"


def schema_judge(asset: str) -> Callable[[Subject], Breach | None]:
    """The judge of an asset's check `schema`."""
    return partial(broken_schema, SCHEMAS[asset])
