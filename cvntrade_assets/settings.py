"""Every CVN_* setting: its kind, default and meaning, and the layers that a run resolves into one frozen object.

Layers, weakest first: the default declared here, the `base_env` table edited by operators, a factor's variant, the run
(`--set`, or the run config in the UI). A resolved setting remembers its layer; it is *explicit* when the variant or
the run set it. Nothing here reads the process environment: settings are values.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import pandas as pd

from cvntrade_assets.hyperparameters import (
    HYPERPARAMETERS,
    MODELS,
    Bound,
    Hyperparameter,
    bounds,
    hyperparameter_key,
)
from cvntrade_assets.market.candles import TIMEFRAMES
from cvntrade_assets.operations.masking import shown
from cvntrade_assets.setting_kinds import (
    Choice,
    Flag,
    Kind,
    Moment,
    Number,
    SettingValue,
    Whole,
    Written,
    archive_address,
    channel_list,
    cost_levels,
    group_list,
    horizon_list,
    increasing,
    override_reason,
    web_address,
)
from cvntrade_assets.trading.costs import Costs
from cvntrade_assets.trading.pte import PTE, PteGrid


class SettingsError(ValueError):
    """A setting that is unknown, ill typed, out of range or at odds with another; the message names what is valid."""


class Layer(StrEnum):
    """Where a value came from, weakest first."""

    DEFAULT = "default"
    BASE_ENV = "base_env"
    FACTOR = "factor"
    RUN = "run"


EXPLICIT_LAYERS = frozenset({Layer.FACTOR, Layer.RUN})
EVERY_LAYER = frozenset(Layer)
OPERATORS_ONLY = frozenset({Layer.DEFAULT, Layer.BASE_ENV})
RUN_ONLY = frozenset({Layer.DEFAULT, Layer.RUN})
_WHO: Mapping[Layer, str] = {
    Layer.BASE_ENV: "operators in the table base_env",
    Layer.FACTOR: "a factor's variant",
    Layer.RUN: "a run (`--set`, run config)",
}


@dataclass(frozen=True)
class Setting:
    """One declared key: `default` is text, read by `kind` like every other layer's value; `layers` may set it."""

    name: str
    stage: str
    kind: Kind
    default: str
    meaning: str
    layers: frozenset[Layer] = EVERY_LAYER

    @property
    def set_by(self) -> str:
        """Who may set it, in words."""
        return " or ".join(who for layer, who in _WHO.items() if layer in self.layers)


@dataclass(frozen=True)
class Resolved:
    """One setting of one run: the value in force, its canonical text and the layer that it came from."""

    setting: Setting
    value: SettingValue
    text: str
    layer: Layer

    @property
    def is_default(self) -> bool:
        """Whether it says what would hold anyway; of a hyperparameter, the empty text does too."""
        if self.value is None or self.text == self.setting.default:
            return True
        return self.value == self.setting.kind.read(self.setting.default)


_TIMEFRAME = Choice(tuple(TIMEFRAMES))
_STOP_LOSS = Number(0.1, 3.0)
_TAKE_PROFIT = Number(0.3, 5.0)


def _canonical_pte(text: str) -> str:
    """The canonical spelling; ValueError when the form is wrong or a multiple is out of its range."""
    pte = PTE.parse(text)
    _STOP_LOSS.read(str(pte.stop_loss))
    _TAKE_PROFIT.read(str(pte.take_profit))
    return str(pte)


_PTE = Written(
    f"H<1..6>_SL<{_STOP_LOSS.low:g}..{_STOP_LOSS.high:g}>_TP<{_TAKE_PROFIT.low:g}..{_TAKE_PROFIT.high:g}>, "
    "e.g. H4_SL1.0_TP2.0",
    _canonical_pte,
)


def _multiples(kind: Number) -> Callable[[str], str]:
    """A reader of increasing ATR multiples, each in the range of `kind`; gives their canonical spelling."""

    def read(text: str) -> str:
        values = [float(str(kind.read(part.strip()))) for part in text.split(",")]
        return ",".join(repr(value) for value in increasing(values))

    return read


_LIMIT_MINUTES = Number(0.01, 1440.0)


def _declare(
    stage: str, *rows: tuple[str, Kind, str, str], layers: frozenset[Layer] = EVERY_LAYER
) -> tuple[Setting, ...]:
    return tuple(Setting(name, stage, kind, default, meaning, layers) for name, kind, default, meaning in rows)


_DECLARED: tuple[Setting, ...] = (
    *_declare(
        "market",
        ("CVN_MARKET", Choice(("binance", "simulated")), "binance", "where candles come from; never a silent fallback between the two"),
        ("CVN_BINANCE_ARCHIVE_URL", Written("an http(s):// address without user or password, a file:// address, or a folder", archive_address), "https://data.binance.vision/data", "base of the exchange's archive of closed months"),
        ("CVN_BINANCE_API_URL", Written("an http(s):// address without user or password", web_address), "https://data-api.binance.vision", "base of the exchange's REST API, for the tail that the archive does not have yet"),
        ("CVN_BINANCE_VERIFY_ARCHIVE", Flag(), "0", "ask for the checksum of every month again, and fetch anew what the exchange replaced"),
        ("CVN_AS_OF", Moment(), "now", "the moment that counts as now: no candle that closes later is seen"),
        ("CVN_TIMEFRAME", _TIMEFRAME, "30m", "candle interval that the model learns on"),
        ("CVN_BACKTEST_TIMEFRAME", _TIMEFRAME, "5m", "candle interval that trades are simulated on"),
        ("CVN_DEFAULT_HISTORY_MONTHS", Whole(1, 120), "24", "months of history that the model learns from"),
        ("CVN_BACKTEST_DAYS", Whole(1, 366), "60", "days of candles kept for the backtest"),
        ("CVN_SIMULATED_SIGNAL", Number(0.0, 5.0), "0.3", "how predictable the simulated market is: 0 nothing to learn, 1 strong"),
        ("CVN_SIMULATED_SEED", Whole(0, 2**31 - 1), "0", "which simulated market: another seed, another history"),
    ),
    *_declare(
        "labels",
        ("CVN_DEFAULT_PTE", _PTE, "H4_SL1.0_TP2.0", "trade execution parameters: horizon in hours, stop-loss and take-profit in ATR multiples"),
        ("CVN_SL_MULT", replace(_STOP_LOSS, optional=True), "", "stop-loss in ATR multiples; empty takes it from CVN_DEFAULT_PTE"),
        ("CVN_TP_MULT", replace(_TAKE_PROFIT, optional=True), "", "take-profit in ATR multiples; empty takes it from CVN_DEFAULT_PTE"),
        ("CVN_BINARY_CLASSIFICATION", Flag(), "1", "1: BUY or not; 0: BUY, HOLD and SELL, where SELL is the mirrored short"),
    ),
    *_declare(
        "training set",
        ("CVN_CUSUM_TRAINING_ENABLED", Flag(), "1", "thin the training slice with the CUSUM filter"),
        ("CVN_CUSUM_FILTER_MODE", Choice(("event", "stable")), "event", "which training candles to keep: those where CUSUM triggers, or the others"),
        ("CVN_CUSUM_THRESHOLD_H", Number(0.1, 20.0), "3.0", "CUSUM threshold in multiples of ATR(14) / close"),
        ("CVN_UNIQUENESS_WEIGHTS", Flag(), "1", "weigh training rows by the average uniqueness of their label"),
        ("CVN_SLICE_TRAIN", Number(0.05, 0.95), "0.80", "share of the timeline that the model is fitted on"),
        ("CVN_SLICE_VALIDATION", Number(0.01, 0.5), "0.06", "share used for early stopping"),
        ("CVN_SLICE_CALIBRATION", Number(0.01, 0.5), "0.07", "share used for the calibrator and the threshold"),
        ("CVN_SLICE_TEST", Number(0.01, 0.9), "0.07", "share that is reported on, once"),
        ("CVN_EMBARGO_HOURS", Number(0.0, 240.0), "6", "hours left out after every boundary between slices or folds"),
    ),
    *_declare(
        "feature selection",
        ("CVN_MAX_FEATURES", Whole(1, 1000), "60", "at most this many features reach the model"),
    ),
    *_declare(
        "label pipeline",
        ("CVN_LABEL_SMOOTHING", Choice(("none", "mild", "aggressive")), "none", "smoothing of BUY labels: mild 0.1, aggressive 0.3"),
        ("CVN_CLEANLAB", Choice(("off", "filter", "reweight")), "off", "what happens to training labels that cleanlab suspects"),
        ("CVN_CLEANLAB_CLASS_CAP", Number(0.0, 0.5), "0.1", "at most this share of a class may be filtered or reweighted"),
    ),
    *_declare(
        "hyperparameters",
        ("CVN_DEFAULT_N_TRIALS", Whole(1, 1000), "50", "tuning trials"),
        ("CVN_TUNING_FOLDS", Whole(2, 20), "3", "purged folds of the training slice, for tuning and for out-of-sample label checks"),
        ("CVN_HPO_OBJECTIVE", Choice(("precision_recall_auc", "f1_binary")), "precision_recall_auc", "what tuning maximises on the held-out folds"),
        ("CVN_TUNING_WORKERS", Whole(1, 64), "2", "processes that tuning uses; the result does not depend on it"),
        ("CVN_SEED", Whole(0, 2**31 - 1), "42", "seed of everything random in learning"),
    ),
    *_declare(
        "model",
        ("CVN_FOCAL_LOSS", Flag(), "0", "train with the focal loss instead of the logistic one"),
        ("CVN_FOCAL_GAMMA", Number(0.0, 10.0), "2.0", "focusing exponent of the focal loss"),
    ),
    *_declare(
        "calibration",
        ("CVN_CALIBRATION", Choice(("none", "sigmoid", "platt", "isotonic", "hybrid")), "sigmoid", "how scores become probabilities, on the calibration slice"),
        ("CVN_THRESHOLD_METHOD", Choice(("expected_value", "f1_binary")), "f1_binary", "what the threshold from which BUY is said maximises, on the calibration slice: F1, by which a model is scored, or net return"),
        ("CVN_TRADE_THRESHOLD_METHOD", Choice(("expected_value", "f1_binary")), "expected_value", "what the threshold from which a candle is traded maximises, on the calibration slice: net return, or F1"),
    ),
    *_declare(
        "screening",
        ("CVN_SCREENING_HORIZONS", Written("horizons H1 to H6, nearest first, e.g. H1,H2,H4", horizon_list), "H1,H2,H3,H4,H5,H6", "horizons of the PTE grid"),
        ("CVN_SCREENING_SL_RANGE", Written(f"increasing ATR multiples from {_STOP_LOSS.low:g} to {_STOP_LOSS.high:g}, e.g. 0.8,1.0,1.2", _multiples(_STOP_LOSS)), "0.8,1.0,1.2,1.5", "stop-losses of the PTE grid"),
        ("CVN_SCREENING_TP_RANGE", Written(f"increasing ATR multiples from {_TAKE_PROFIT.low:g} to {_TAKE_PROFIT.high:g}, e.g. 1.5,2.0,3.0", _multiples(_TAKE_PROFIT)), "1.5,2.0,2.5,3.0", "take-profits of the PTE grid"),
        ("CVN_CANDIDATES", Whole(1, 20), "3", "at most this many points of the grid go on to testing"),
    ),
    *_declare(
        "walk-forward",
        ("CVN_DEFAULT_N_FOLDS", Whole(2, 20), "3", "test periods of the walk-forward test, each CVN_BACKTEST_DAYS long, back to back up to now"),
        ("CVN_WALK_FORWARD_MODE", Choice(("expanding", "rolling")), "expanding", "a fold learns from everything before its test period, or from a window as long as the first fold's"),
        ("CVN_ROLLING_STEP_DAYS", Whole(1, 366), "10", "days after which the rolling backtest fits everything anew; the last step may be shorter"),
    ),
    *_declare(
        "execution",
        ("CVN_FEE_BPS", Number(0.0, 500.0), "7.5", "fee of one side of a trade, in basis points of what is traded"),
        ("CVN_SLIPPAGE_BPS", Number(0.0, 500.0), "2.5", "what one side of a trade is filled worse than its price, in basis points"),
        ("CVN_COST_LEVELS", Written("increasing multiples from 0 to 10 that hold 1, e.g. 0,1,2", cost_levels), "0,1,2", "multiples of fee and slippage at which every backtest is paid; level 1 is judged"),
        ("CVN_POSITION_FRACTION", Number(0.01, 1.0), "1.0", "share of the equity that a trade is opened with"),
        ("CVN_COOLDOWN_CANDLES", Whole(0, 1000), "0", "candles of CVN_TIMEFRAME without an entry after a trade has ended"),
        ("CVN_TREND_FILTER", Choice(("off", "ema_50", "ema_200")), "off", "enter only above this exponential moving average of the closes"),
    ),
    *_declare(
        "gates",
        ("CVN_GATE_F1_DELTA", Number(0.0, 1.0), "0.05", "f1_buy must exceed that of always saying BUY by more than this"),
        ("CVN_GATE_STD_F1", Number(0.0, 1.0), "0.1", "standard deviation of f1_buy over the folds: at most this"),
        ("CVN_GATE_SORTINO", Number(-10.0, 100.0), "0.5", "Sortino ratio of the test backtest and of the rolling backtest: more than this"),
        ("CVN_GATE_TRADES", Whole(1, 100_000), "30", "trades of the test backtest: at least this many"),
        ("CVN_GATE_DRAWDOWN", Number(0.0, 1.0), "0.25", "largest drawdown of either backtest: at most this share"),
        ("CVN_GATE_SCREENING_GAP", Number(0.0, 1.0), "0.3", "screening_f1_buy may exceed last_fold_f1_buy by at most this"),
        ("CVN_GATE_DSR", Number(0.0, 1.0), "0.95", "deflated Sharpe ratio of the test periods together: at least this"),
        layers=OPERATORS_ONLY,
    ),
    *_declare(
        "guardrails",
        ("CVN_GUARDRAIL_MAX_ROWS", Whole(50, 10_000_000), "10000", "more training rows block, unless they were chosen"),
        # The floor may be raised, never lowered: fewer rows teach nothing.
        ("CVN_GUARDRAIL_MIN_ROWS", Whole(50, 1_000_000), "50", "fewer training rows block, always"),
        ("CVN_GUARDRAIL_MAX_FEATURES", Whole(1, 1000), "200", "more features warn, unless they were chosen"),
        # Only ever tightened, as the floor of rows.
        ("CVN_GUARDRAIL_MEMORY_GIB", Number(0.1, 24.0), "24", "a larger estimate of a run's memory, in GiB, blocks, always"),
        ("CVN_GUARDRAIL_ESTIMATED_MINUTES", _LIMIT_MINUTES, "30", "a larger estimate of a run's minutes warns, unless it was chosen"),
        ("CVN_GUARDRAIL_STAGE_MINUTES", _LIMIT_MINUTES, "30", "a stage that takes longer is flagged while it runs; its own history may set a lower limit"),
        ("CVN_GUARDRAIL_SLOW_RUN_MINUTES", _LIMIT_MINUTES, "10", "a run that takes longer warns"),
        ("CVN_GUARDRAIL_CRITICAL_RUN_MINUTES", _LIMIT_MINUTES, "30", "a run that takes longer is critical"),
        ("CVN_GUARDRAIL_FACTOR_MINUTES", _LIMIT_MINUTES, "5", "a factor whose runs take longer on average warns"),
        ("CVN_GUARDRAIL_STUCK_MINUTES", _LIMIT_MINUTES, "15", "a run that shows no progress for this long is stuck, and is ended"),
        layers=OPERATORS_ONLY,
    ),
    *_declare(
        "guardrails",
        ("CVN_GUARDRAIL_OVERRIDE", Flag(), "0", "1: what would block warns instead; never for memory, too few rows or wrong settings"),
        ("CVN_GUARDRAIL_OVERRIDE_REASON", Written("20 characters or more that name who approved: `@name` or `approved by NAME` (or empty: no override)", override_reason), "", "why this run may pass, and who approved; kept on record"),
        layers=RUN_ONLY,
    ),
    *_declare(
        "audit",
        ("CVN_S40_SKIP_S22A1_CROSSREF", Flag(), "0", "1: the validation-integrity audit skips its anchor, and says so"),
        layers=OPERATORS_ONLY,
    ),
    *_declare(
        "audit",
        ("CVN_AUDIT_DIAGNOSIS", Choice(("s40", "s22", "s23", "s24", "s25", "s26", "s27", "s28")), "s40", "what validation_audit is asked: s40 the validation's integrity; s22 to s28 reproduce a symptom and need the anchor"),
    ),
    *_declare(
        "operations",
        ("CVN_EVENT_RETENTION_DAYS", Whole(1, 3650), "30", "days that heartbeats, logs and step events of runs are kept"),
    ),
    # What a run's pod is given on Kubernetes, by what the run does. Memory is asked for whole, and is the limit.
    *_declare(
        "pods",
        *(
            row
            for work, cores, gib, doing in (
                ("REFRESH", "0.5", "2", "fetches candles, watches or reports"),
                ("TRAINING", "1", "4", "trains a model"),
                ("DISCOVERY", "2", "8", "searches for trade parameters"),
            )
            for row in (
                (f"CVN_POD_{work}_CORES", Number(0.1, 64.0), cores, f"processor cores that the pod of a run that {doing} asks for"),
                (f"CVN_POD_{work}_MEMORY_GIB", Number(0.5, 256.0), gib, f"memory of the pod of a run that {doing}, in GiB; more is killed, and an estimate above it blocks"),
            )
        ),
        ("CVN_POOL_EXCHANGE", Whole(1, 16), "1", "runs that may ask the exchange at the same time: it counts per network address"),
        ("CVN_POOL_TRAINING", Whole(1, 1000), "16", "runs that may tune, train or search at the same time"),
        layers=OPERATORS_ONLY,
    ),
    # A limit stands on the better side: what equals it is as the manual's tables say.
    *_declare(
        "signals",
        ("CVN_SIGNAL_OOM_WARNING", Whole(1, 1000), "1", "this many processes killed for want of memory in 24 hours warn"),
        ("CVN_SIGNAL_OOM_CRITICAL", Whole(1, 1000), "2", "more are critical"),
        ("CVN_SIGNAL_PODS_WARNING", Whole(1, 1000), "1", "this many pods of runs lost, or without a node, in 24 hours warn"),
        ("CVN_SIGNAL_PODS_CRITICAL", Whole(1, 1000), "2", "more are critical"),
        ("CVN_SIGNAL_CPU_WARNING", Number(0.01, 1.0), "0.7", "a larger share of the processors in use warns"),
        ("CVN_SIGNAL_VOLUME_CRITICAL", Number(0.01, 1.0), "0.85", "a fuller volume is critical"),
        ("CVN_SIGNAL_SUCCESS_WINDOW_DAYS", Whole(1, 90), "7", "days over which the success rate of a job slides"),
        ("CVN_SIGNAL_SUCCESS_WARNING", Number(0.0, 1.0), "0.9", "a job's success rate of this or less warns"),
        ("CVN_SIGNAL_SUCCESS_CRITICAL", Number(0.0, 1.0), "0.7", "a lower one is critical"),
        ("CVN_SIGNAL_SUCCESS_RUNS", Whole(1, 1000), "5", "runs that have to have ended before a job's success rate can be critical; of fewer it warns at most"),
        ("CVN_SIGNAL_LATENCY_RUNS", Whole(1, 100), "5", "newest successful runs of a job whose median is its latency"),
        ("CVN_SIGNAL_LATENCY_HISTORY", Whole(2, 1000), "10", "earlier runs needed before latency can be judged"),
        ("CVN_SIGNAL_LATENCY_WARNING", Number(0.0, 100.0), "0.3", "a job that takes longer than its 95th percentile by more than this share warns"),
        ("CVN_SIGNAL_LATENCY_CRITICAL", Number(0.0, 100.0), "1.0", "by more than this share, it is critical"),
        ("CVN_SIGNAL_PASS_RATE_RUNS", Whole(1, 100), "3", "complete runs in a row without a passing candidate that are critical; one warns"),
        ("CVN_SIGNAL_F1_DELTA_WARNING", Number(-1.0, 1.0), "0.15", "f1_buy less far above always saying BUY warns"),
        ("CVN_SIGNAL_F1_DELTA_CRITICAL", Number(-1.0, 1.0), "0", "this far above or less is critical"),
        ("CVN_SIGNAL_GAP_WARNING", Number(0.0, 1.0), "0.15", "screening_f1_buy further above last_fold_f1_buy warns"),
        ("CVN_SIGNAL_GAP_CRITICAL", Number(0.0, 1.0), "0.3", "further above is critical"),
        ("CVN_SIGNAL_STD_F1_WARNING", Number(0.0, 1.0), "0.05", "a deviation of f1_buy over the folds of this or more warns"),
        ("CVN_SIGNAL_STD_F1_CRITICAL", Number(0.0, 1.0), "0.1", "a larger one is critical"),
        ("CVN_SIGNAL_SORTINO_WARNING", Number(-100.0, 100.0), "0.5", "a Sortino ratio of this or less warns"),
        ("CVN_SIGNAL_SORTINO_CRITICAL", Number(-100.0, 100.0), "0", "a lower one is critical"),
        ("CVN_SIGNAL_SL_WARNING", Number(0.0, 1.0), "0.35", "this share of trades that end at the stop-loss warns"),
        ("CVN_SIGNAL_SL_CRITICAL", Number(0.0, 1.0), "0.5", "a larger share is critical"),
        ("CVN_SIGNAL_TIMEOUT_WARNING", Number(0.0, 1.0), "0.3", "this share of trades that end at the horizon warns"),
        ("CVN_SIGNAL_TIMEOUT_CRITICAL", Number(0.0, 1.0), "0.4", "a larger share is critical"),
        ("CVN_SIGNAL_FRESHNESS_WARNING_DAYS", Number(0.0, 365.0), "7", "an older model warns"),
        ("CVN_SIGNAL_FRESHNESS_CRITICAL_DAYS", Number(0.0, 365.0), "14", "a model older than this is critical"),
        ("CVN_SIGNAL_CHALLENGERS_WARNING", Whole(0, 1000), "5", "more waiting challengers warn"),
        ("CVN_SIGNAL_CHALLENGERS_CRITICAL", Whole(0, 1000), "10", "more are critical"),
        ("CVN_SIGNAL_KEEP_DAYS", Whole(1, 3650), "90", "days that the history of signals is kept"),
        layers=OPERATORS_ONLY,
    ),
    *_declare(
        "freshness",
        ("CVN_CORE_GROUPS", Written("names of groups, e.g. btc-core", group_list), "btc-core", "groups whose stale models degrade the global state most"),
        ("CVN_FRESHNESS_CORE_DAYS", Number(0.0, 365.0), "14", "an older model of a crypto in a core group is stale"),
        ("CVN_FRESHNESS_OTHER_DAYS", Number(0.0, 365.0), "7", "an older model of any other crypto is stale"),
        ("CVN_FRESHNESS_CANDLES_WARNING_HOURS", Number(0.1, 8760.0), "26", "an older last closed candle warns; candles are fetched daily"),
        ("CVN_FRESHNESS_CANDLES_CRITICAL_HOURS", Number(0.1, 8760.0), "50", "a last closed candle older than this is critical"),
        layers=OPERATORS_ONLY,
    ),
    *_declare(
        "drift",
        ("CVN_DRIFT_WINDOW_DAYS", Whole(1, 90), "3", "days of the newest unseen candles that are held against the training slice, at most"),
        ("CVN_DRIFT_LEAST_CANDLES", Whole(48, 100_000), "96", "fewer unseen candles say nothing of features and scores"),
        ("CVN_DRIFT_LEAST_LABELS", Whole(48, 100_000), "96", "fewer settled candles say nothing of the rate of BUY and of calibration"),
        ("CVN_DRIFT_ALPHA", Number(0.0001, 0.5), "0.05", "level of significance over all features and scores: how often one of them may be called drifted without a cause"),
        ("CVN_DRIFT_OUTCOME_ALPHA", Number(0.0001, 0.5), "0.01", "level of significance over the rate of BUY and calibration together"),
        ("CVN_DRIFT_WARNING_SHARE", Number(0.001, 1.0), "0.05", "this share of drifted features and scores warns"),
        ("CVN_DRIFT_CRITICAL_SHARE", Number(0.001, 1.0), "0.2", "this share is critical"),
        ("CVN_DRIFT_REPORT_DAYS", Number(0.1, 365.0), "7", "an older drift report says nothing; monitoring makes one a day"),
        layers=OPERATORS_ONLY,
    ),
    *_declare(
        "global state",
        ("CVN_STATE_HOLD", Whole(1, 1000), "3", "evaluations over which the worst state holds: it worsens at once, and improves after this many"),
        ("CVN_STATE_STALE_MINUTES", Number(1.0, 1440.0), "15", "an older observation counts as missing, and an older state is not shown as the state"),
        ("CVN_STATE_BARREN_DAYS", Number(0.0, 365.0), "3", "complete runs without a useful candidate for longer degrade the state"),
        ("CVN_STATE_USEFUL_DAYS", Number(0.0, 365.0), "7", "a last useful run before that is not recent"),
        ("CVN_STATE_SORTINO_RUNS", Whole(1, 100), "2", "evaluations in a row with a negative Sortino ratio that make it recurrent"),
        layers=OPERATORS_ONLY,
    ),
    *_declare(
        "alerts",
        *(
            (f"CVN_ALERT_ROUTE_{severity}", Written("channels in the order in which they are tried, of slack, sms and mail", channel_list), route, f"channels of {severity} alerts; the next one is tried when one fails")
            for severity, route in (("P0", "sms,slack,mail"), ("P1", "slack,sms,mail"), ("P2", "slack,mail"), ("P3", "mail,slack"))
        ),
        *(
            (f"CVN_ALERT_REPEAT_HOURS_{severity}", Number(0.1, 8760.0), hours, f"hours after which an open {severity} alert that nobody acknowledged is told again")
            for severity, hours in (("P0", "1"), ("P1", "4"), ("P2", "24"), ("P3", "168"))
        ),
        *(
            (f"CVN_ALERT_ESCALATE_MINUTES_{severity}", Number(1.0, 100_000.0), minutes, f"minutes after which a {severity} alert that nobody acknowledged escalates")
            for severity, minutes in (("P0", "15"), ("P1", "60"), ("P2", "1440"))
        ),
        ("CVN_ALERT_ATTEMPTS", Whole(1, 100), "3", "attempts on a channel before the next one of the route is tried"),
        ("CVN_ALERT_BACKOFF_SECONDS", Number(0.01, 3600.0), "30", "seconds before the second attempt; each further one waits twice as long"),
        ("CVN_WATCHDOG_MINUTES", Number(0.05, 1440.0), "3", "a daemon whose last heartbeat is older counts as missing"),
        layers=OPERATORS_ONLY,
    ),
)  # fmt: skip

SETTINGS: Mapping[str, Setting] = {setting.name: setting for setting in _DECLARED}

SHORT_NAMES: Mapping[str, str] = {
    "horizons": "CVN_SCREENING_HORIZONS",
    "sl_range": "CVN_SCREENING_SL_RANGE",
    "tp_range": "CVN_SCREENING_TP_RANGE",
    "hpo_trials": "CVN_DEFAULT_N_TRIALS",
    "n_folds": "CVN_DEFAULT_N_FOLDS",
    "backtest_days": "CVN_BACKTEST_DAYS",
}
"""Names under which a run may set a key too: those of the manual's run parameters."""

LARGEST_GRID = 450
"""Most points of a PTE grid."""

RETIRED: Mapping[str, str] = {
    "CVN_COST_BPS": (
        "it was the cost of a round trip; set CVN_FEE_BPS and CVN_SLIPPAGE_BPS, which are paid on each side, instead"
    ),
    "CVN_CUSUM_TRAINING_MODE": (
        "it meant two things at once; set CVN_CUSUM_TRAINING_ENABLED (1 or 0: apply CUSUM to the training slice?) "
        "and CVN_CUSUM_FILTER_MODE (event or stable: which candles to keep) instead"
    ),
}


_HPO_KEY = re.compile(r"^CVN_HPO_(?P<model>[A-Z]+)_(?P<timeframe>[0-9]+[MHD])_(?P<param>[A-Z_]+)$")


def _hyperparameter_settings() -> Iterator[Setting]:
    """A setting for every hyperparameter and bound of every model and timeframe."""
    for model in MODELS:
        for timeframe in TIMEFRAMES:
            for item in HYPERPARAMETERS[model]:
                # The empty text means "nobody set it": tuning searches it, or its default holds.
                default = "" if item.searched else _canonical(item.default_value)
                yield _hyperparameter_setting(model, timeframe, item, item, default, _told(item))
            for bound in bounds(model):
                meaning = f"{'least' if bound.end == 'low' else 'largest'} {bound.of.name} that tuning tries"
                yield _hyperparameter_setting(
                    model, timeframe, bound, bound.of, _canonical(bound.default_value), meaning
                )


def _hyperparameter_setting(
    model: str, timeframe: str, named: Hyperparameter | Bound, of: Hyperparameter, default: str, meaning: str
) -> Setting:
    name = hyperparameter_key(model, timeframe, named.name)
    return Setting(name, "hyperparameters", of.kind, default, f"{meaning} ({MODELS[model]})")


def _told(item: Hyperparameter) -> str:
    return f"{item.meaning}; pins what tuning searches" if item.searched else item.meaning


def find_setting(name: str) -> Setting:
    """The declaration of a key, a hyperparameter's included.

    Raises:
        SettingsError: the key is retired (names its successors) or unknown (names the closest valid ones).
    """
    if name in RETIRED:
        raise SettingsError(f"{name} is retired: {RETIRED[name]}.")
    if name in SETTINGS:
        return SETTINGS[name]
    if name in HYPERPARAMETER_SETTINGS:
        return HYPERPARAMETER_SETTINGS[name]
    if match := _HPO_KEY.match(name):
        raise SettingsError(_no_hyperparameter(name, match["model"], match["timeframe"].lower(), match["param"]))
    close = difflib.get_close_matches(name, [*SETTINGS, *SHORT_NAMES], n=3, cutoff=0.6) or sorted(SETTINGS)
    raise SettingsError(
        f"{shown(name)} is not a setting. Did you mean {', '.join(close)}? `cvntrade settings show` lists all of them, "
        "with the hyperparameter family CVN_HPO_<MODEL>_<TIMEFRAME>_<PARAMETER>."
    )


def _no_hyperparameter(name: str, model: str, timeframe: str, parameter: str) -> str:
    """Why a key of the family's form is not one of the family."""
    if model not in HYPERPARAMETERS:
        return f"{name}: model {model} is unknown; known: {', '.join(HYPERPARAMETERS)}."
    if timeframe not in TIMEFRAMES:
        return f"{name}: timeframe {timeframe} is unknown; known: {', '.join(TIMEFRAMES)}."
    known = ", ".join(item.name for item in HYPERPARAMETERS[model])
    searched = ", ".join(item.name for item in HYPERPARAMETERS[model] if item.searched)
    also = f"; and _LOW and _HIGH of {searched}" if searched else ""
    return f"{name}: {model} has no {parameter.lower()}; it has {known}{also}."


class Settings:
    """The settings of one run, resolved and frozen.

    Read values through the typed accessors; every accessor raises KeyError for a key that is not declared, which is
    a mistake in the code, not in the input.
    """

    def __init__(
        self, resolved: Mapping[str, Resolved], now: pd.Timestamp, variants: Mapping[str, str] | None = None
    ) -> None:
        self._resolved = dict(resolved)
        # What differs from the table: a key that repeats its default says nothing.
        self._moved = {
            name: item for name, item in resolved.items() if name in HYPERPARAMETER_SETTINGS and not item.is_default
        }
        self._now = now
        self._variants = dict(sorted((variants or {}).items()))

    def __iter__(self) -> Iterator[Resolved]:
        """Every declared setting in declaration order, then the hyperparameters that some layer names."""
        return iter(self._resolved.values())

    def __getitem__(self, name: str) -> Resolved:
        return self._resolved[name]

    def names(self, name: str) -> bool:
        """Whether it is declared, or a hyperparameter that some layer names."""
        return name in self._resolved

    def text(self, name: str) -> str:
        """The canonical text of a setting."""
        return self._resolved[name].text

    def choice(self, name: str) -> Any:
        """One of the words that a setting declares; the function that takes it names the same words in its type."""
        assert isinstance(self._resolved[name].setting.kind, Choice), name
        return self._resolved[name].text

    def flag(self, name: str) -> bool:
        """The value of a flag."""
        value = self._resolved[name].value
        assert isinstance(value, bool), name
        return value

    def whole(self, name: str) -> int:
        """The value of a whole number."""
        value = self._resolved[name].value
        assert isinstance(value, int) and not isinstance(value, bool), name
        return value

    def number(self, name: str) -> float:
        """The value of a number that is set."""
        value = self._resolved[name].value
        assert isinstance(value, float), name
        return value

    def is_explicit(self, name: str) -> bool:
        """Whether the factor's variant or the run set this key."""
        return name in self._resolved and self._resolved[name].layer in EXPLICIT_LAYERS

    def layer(self, name: str) -> Layer:
        """Where a key's value came from; a hyperparameter that nobody names has the default layer.

        Raises:
            SettingsError: the key is not a setting.
        """
        return self._resolved[name].layer if name in self._resolved else _unset(name)

    @property
    def variants(self) -> dict[str, str]:
        """The variant of every factor that this run was given, by factor, in alphabetical order."""
        return dict(self._variants)

    @property
    def set_by_run(self) -> dict[str, str]:
        """What the run itself set and another run may set again: not its leave to pass a guardrail."""
        return {
            name: item.text
            for name, item in self._resolved.items()
            if item.layer is Layer.RUN and item.setting.layers != RUN_ONLY
        }

    @property
    def override_reason(self) -> str | None:
        """Why this run may pass what would block, and who approved; None when nothing is overridden."""
        return self.text("CVN_GUARDRAIL_OVERRIDE_REASON") or None

    @property
    def as_of(self) -> pd.Timestamp:
        """The moment that counts as now (UTC)."""
        text = self.text("CVN_AS_OF")
        return self._now if text == "now" else pd.Timestamp(text)

    @property
    def pte(self) -> PTE:
        """The trade execution parameters in force: CVN_DEFAULT_PTE with CVN_SL_MULT and CVN_TP_MULT laid over it."""
        base = PTE.parse(self.text("CVN_DEFAULT_PTE"))
        stop, target = self._resolved["CVN_SL_MULT"].value, self._resolved["CVN_TP_MULT"].value
        return PTE(
            base.horizon_hours,
            base.stop_loss if stop is None else float(stop),
            base.take_profit if target is None else float(target),
        )

    @property
    def grid(self) -> PteGrid:
        """The PTE grid that screening looks at."""
        hours = tuple(int(text.removeprefix("H")) for text in self.text("CVN_SCREENING_HORIZONS").split(","))
        return PteGrid(hours, self._numbers("CVN_SCREENING_SL_RANGE"), self._numbers("CVN_SCREENING_TP_RANGE"))

    @property
    def costs(self) -> Costs:
        """What one side of a trade costs."""
        return Costs(self.number("CVN_FEE_BPS"), self.number("CVN_SLIPPAGE_BPS"))

    @property
    def cost_levels(self) -> tuple[float, ...]:
        """Multiples of the costs at which every backtest is paid, increasing; 1 is one of them."""
        return self._numbers("CVN_COST_LEVELS")

    def _numbers(self, name: str) -> tuple[float, ...]:
        return tuple(float(text) for text in self.text(name).split(","))

    def pinned(self, model: str = "XGBOOST") -> dict[str, float | int]:
        """The hyperparameters of this run's timeframe that differ from their default, by XGBoost's name.

        Of what tuning searches, any value differs: unless it is pinned it has none.
        """
        keys = {
            hyperparameter_key(model, self.text("CVN_TIMEFRAME"), item.name): item for item in HYPERPARAMETERS[model]
        }
        return {
            keys[name].name: item.value
            for name, item in self._moved.items()
            if name in keys and isinstance(item.value, int | float)
        }

    def search_bounds(self, name: str, timeframe: str | None = None) -> tuple[float, float]:
        """Where tuning looks for a hyperparameter that it searches, both ends included.

        Args:
            name: XGBoost's name.
            timeframe: The run's without it.
        """
        low, high = (self._bound(bound, timeframe) for bound in bounds("XGBOOST") if bound.of.name == name)
        return low, high

    @property
    def moves_bounds(self) -> bool:
        """Whether tuning looks anywhere else than declared, on any timeframe."""
        return any(name.endswith(("_LOW", "_HIGH")) for name in self._moved)

    def _bound(self, bound: Bound, timeframe: str | None) -> float:
        item = self._moved.get(hyperparameter_key("XGBOOST", timeframe or self.text("CVN_TIMEFRAME"), bound.name))
        return float(bound.default_value if item is None else str(item.value))

    def used(self, names: Iterable[str]) -> dict[str, str]:
        """Canonical texts of the named settings, for an artifact's version and metadata.

        A name ending in `*` stands for every hyperparameter of the run's timeframe that starts so and differs from its
        default, written as one text: what merely repeats the table changes no version. What only shapes the simulated
        market is the empty text on any other: turning that knob must not make candles stale that an exchange traded.
        """
        return {name: self._used(name) for name in sorted(names)}

    def _used(self, name: str) -> str:
        if name.startswith("CVN_SIMULATED_") and self.text("CVN_MARKET") != "simulated":
            return ""
        return self._family(name[:-1]) if name.endswith("*") else self.text(name)

    def _family(self, prefix: str) -> str:
        timeframe = f"_{self.text('CVN_TIMEFRAME').upper()}_"
        members = sorted(key for key in self._moved if key.startswith(prefix) and timeframe in key)
        return ", ".join(f"{key}={self._moved[key].text}" for key in members)


def _unset(name: str) -> Layer:
    find_setting(name)
    return Layer.DEFAULT


def read_value(name: str, text: str, layer: Layer) -> Resolved:
    """One layer's text for one key, read and checked.

    Raises:
        SettingsError: the key is unknown, this layer may not set it, or the text is not a valid value; says what is
            expected.
    """
    setting = find_setting(name)
    if layer not in setting.layers:
        raise SettingsError(f"{name} cannot be set by {_WHO[layer]} (layer {layer}): only {setting.set_by}.")
    try:
        value = setting.kind.read(str(text).strip())
    except ValueError as error:
        raise SettingsError(
            f"{name}={shown(str(text))!r} (layer {layer}) is not valid: expected {setting.kind.expected}; "
            f"the default is {setting.default!r}."
        ) from error
    return Resolved(setting, value, _canonical(value), layer)


def repeats_default(name: str, text: str) -> bool:
    """Whether operators' text for a key says what would hold anyway; not so when it is wrong or the key unknown."""
    try:
        return read_value(name, text, Layer.BASE_ENV).is_default
    except SettingsError:
        return False


def _canonical(value: SettingValue) -> str:
    """One spelling per value, so that `1` and `true`, or `3` and `3.0`, give the same artifact version."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "1" if value else "0"
    return repr(value) if isinstance(value, float) else str(value)


HYPERPARAMETER_SETTINGS: Mapping[str, Setting] = {item.name: item for item in _hyperparameter_settings()}
"""Every key of the family, by model, timeframe and parameter."""


def resolve(
    *,
    base_env: Mapping[str, str],
    run: Mapping[str, str],
    factor: Mapping[str, str] | None = None,
    variants: Mapping[str, str] | None = None,
    now: pd.Timestamp,
) -> Settings:
    """Resolve the layers into the frozen settings of one run.

    Variants are looked up in the registry of factors by `operations.factors.resolve_run`, which is what runs call.

    Args:
        base_env: The operators' table, key to text.
        run: What this run sets (`--set`, run config).
        factor: What the factors' variants set, key to text.
        variants: Which variants those are, factor to variant.
        now: The wall clock, UTC; used where CVN_AS_OF is `now`.

    Raises:
        SettingsError: an unknown, retired, misplaced or ill-typed key in any layer, or values that contradict each
            other.
    """
    resolved = {name: read_value(name, item.default, Layer.DEFAULT) for name, item in SETTINGS.items()}
    for layer, values in ((Layer.BASE_ENV, base_env), (Layer.FACTOR, factor or {}), (Layer.RUN, whole_names(run))):
        for name, text in values.items():
            resolved[name] = _read_layer(name, text, layer)
    settings = Settings(resolved, now, variants)
    for refuse in _CONTRADICTIONS:
        refuse(settings)
    return settings


def whole_names(run: Mapping[str, str]) -> dict[str, str]:
    """What a run sets, by the settings' own names: its short names, those of the manual's parameters, are written out.

    Raises:
        SettingsError: a setting is given under both of its names.
    """
    for short, name in SHORT_NAMES.items():
        if short in run and name in run:
            raise SettingsError(f"{short} and {name} are one setting, and both are given; give one of them.")
    return {SHORT_NAMES.get(name, name): text for name, text in run.items()}


def _read_layer(name: str, text: str, layer: Layer) -> Resolved:
    """A value of a layer; what is wrong with the operators' table stops every command, so it says how to mend it."""
    try:
        return read_value(name, text, layer)
    except SettingsError as error:
        if layer is not Layer.BASE_ENV:
            raise
        mend = f"`cvntrade settings unset {shown(name)} --reason TEXT`"
        raise SettingsError(f"{error} It stands in the table base_env: {mend} removes it.") from error


def _refuse_uneven_slices(settings: Settings) -> None:
    shares = [f"CVN_SLICE_{name}" for name in ("TRAIN", "VALIDATION", "CALIBRATION", "TEST")]
    total = sum(settings.number(name) for name in shares)
    if abs(total - 1.0) > 1e-9:
        given = ", ".join(f"{name}={settings.text(name)}" for name in shares)
        raise SettingsError(f"the four slices must add up to 1, they add up to {total:g}: {given}. Set all four.")


# What is defined for two classes only: key, the value that needs them, a value that does not.
_TWO_CLASSES = (
    ("CVN_FOCAL_LOSS", "1", "0"),
    ("CVN_THRESHOLD_METHOD", "f1_binary", "expected_value"),
    ("CVN_TRADE_THRESHOLD_METHOD", "f1_binary", "expected_value"),
    ("CVN_HPO_OBJECTIVE", "f1_binary", "precision_recall_auc"),
)


def _refuse_two_classes_on_three(settings: Settings) -> None:
    if settings.flag("CVN_BINARY_CLASSIFICATION"):
        return
    for name, binary, other in _TWO_CLASSES:
        if settings.text(name) == binary:
            raise SettingsError(
                f"{name}={binary} (layer {settings.layer(name)}) is defined for two classes only, and "
                f"CVN_BINARY_CLASSIFICATION=0 (layer {settings.layer('CVN_BINARY_CLASSIFICATION')}) has three; "
                f"set CVN_BINARY_CLASSIFICATION=1 or {name}={other}."
            )


def _refuse_inverted_barriers(settings: Settings) -> None:
    pte = settings.pte
    if pte.take_profit < pte.stop_loss:
        names = ("CVN_DEFAULT_PTE", "CVN_SL_MULT", "CVN_TP_MULT")
        given = ", ".join(f"{name}={settings.text(name)} (layer {settings.layer(name)})" for name in names)
        raise SettingsError(
            f"the take-profit ({pte.take_profit:g} ATR) lies nearer than the stop-loss ({pte.stop_loss:g} ATR): a trade "
            f"would risk more than it can win. From {given}. Raise the take-profit or lower the stop-loss; equal is "
            "allowed."
        )


def _refuse_a_horizon_between_candles(settings: Settings) -> None:
    horizon, interval = settings.pte.horizon, TIMEFRAMES[settings.text("CVN_TIMEFRAME")]
    if horizon % interval != pd.Timedelta(0):
        raise SettingsError(
            f"the horizon of CVN_DEFAULT_PTE={settings.text('CVN_DEFAULT_PTE')} must be a whole number of candles of "
            f"CVN_TIMEFRAME={settings.text('CVN_TIMEFRAME')}; e.g. H4 and 30m."
        )


def _refuse_an_unusable_grid(settings: Settings) -> None:
    grid = settings.grid
    if len(grid) > LARGEST_GRID:
        raise SettingsError(
            f"the PTE grid has {len(grid)} points ({len(grid.horizon_hours)} horizons, {len(grid.stop_losses)} stops, "
            f"{len(grid.take_profits)} targets): at most {LARGEST_GRID}; shorten CVN_SCREENING_HORIZONS, "
            "CVN_SCREENING_SL_RANGE or CVN_SCREENING_TP_RANGE."
        )
    if grid.take_profits[-1] < grid.stop_losses[0]:
        raise SettingsError(
            f"every take-profit of the PTE grid ({settings.text('CVN_SCREENING_TP_RANGE')}) lies nearer than every "
            f"stop-loss ({settings.text('CVN_SCREENING_SL_RANGE')}): a trade would risk more than it can win; raise "
            "CVN_SCREENING_TP_RANGE or lower CVN_SCREENING_SL_RANGE."
        )


def _refuse_the_future(settings: Settings) -> None:
    if settings.as_of > settings._now:
        raise SettingsError(
            f"CVN_AS_OF={settings.text('CVN_AS_OF')} lies in the future (now is {settings._now.isoformat()}); "
            "give a moment that has passed, or `now`."
        )


def _refuse_timeframes_that_do_not_divide(settings: Settings) -> None:
    fine, coarse = (
        TIMEFRAMES[settings.text("CVN_BACKTEST_TIMEFRAME")],
        TIMEFRAMES[settings.text("CVN_TIMEFRAME")],
    )
    if coarse % fine != pd.Timedelta(0):
        raise SettingsError(
            f"CVN_BACKTEST_TIMEFRAME={settings.text('CVN_BACKTEST_TIMEFRAME')} must divide "
            f"CVN_TIMEFRAME={settings.text('CVN_TIMEFRAME')}; e.g. 5m and 30m."
        )


# What warns must not lie beyond what is critical.
_IN_ORDER = (
    ("CVN_GUARDRAIL_MIN_ROWS", "CVN_GUARDRAIL_MAX_ROWS"),
    ("CVN_GUARDRAIL_SLOW_RUN_MINUTES", "CVN_GUARDRAIL_CRITICAL_RUN_MINUTES"),
    ("CVN_SIGNAL_OOM_WARNING", "CVN_SIGNAL_OOM_CRITICAL"),
    ("CVN_SIGNAL_PODS_WARNING", "CVN_SIGNAL_PODS_CRITICAL"),
    ("CVN_SIGNAL_SUCCESS_CRITICAL", "CVN_SIGNAL_SUCCESS_WARNING"),
    ("CVN_SIGNAL_LATENCY_WARNING", "CVN_SIGNAL_LATENCY_CRITICAL"),
    ("CVN_SIGNAL_F1_DELTA_CRITICAL", "CVN_SIGNAL_F1_DELTA_WARNING"),
    ("CVN_SIGNAL_GAP_WARNING", "CVN_SIGNAL_GAP_CRITICAL"),
    ("CVN_SIGNAL_STD_F1_WARNING", "CVN_SIGNAL_STD_F1_CRITICAL"),
    ("CVN_SIGNAL_SORTINO_CRITICAL", "CVN_SIGNAL_SORTINO_WARNING"),
    ("CVN_SIGNAL_SL_WARNING", "CVN_SIGNAL_SL_CRITICAL"),
    ("CVN_SIGNAL_TIMEOUT_WARNING", "CVN_SIGNAL_TIMEOUT_CRITICAL"),
    ("CVN_SIGNAL_FRESHNESS_WARNING_DAYS", "CVN_SIGNAL_FRESHNESS_CRITICAL_DAYS"),
    ("CVN_SIGNAL_CHALLENGERS_WARNING", "CVN_SIGNAL_CHALLENGERS_CRITICAL"),
    ("CVN_FRESHNESS_CANDLES_WARNING_HOURS", "CVN_FRESHNESS_CANDLES_CRITICAL_HOURS"),
    ("CVN_DRIFT_WARNING_SHARE", "CVN_DRIFT_CRITICAL_SHARE"),
)


def _refuse_limits_out_of_order(settings: Settings) -> None:
    for low, high in _IN_ORDER:
        if float(settings.text(low)) > float(settings.text(high)):
            raise SettingsError(f"{low}={settings.text(low)} must not be above {high}={settings.text(high)}.")


def _refuse_empty_searches(settings: Settings) -> None:
    for timeframe in TIMEFRAMES if settings.moves_bounds else ():
        for item in HYPERPARAMETERS["XGBOOST"]:
            if item.search is not None:
                low, high = settings.search_bounds(item.name, timeframe)
                _refuse_empty_search(hyperparameter_key("XGBOOST", timeframe, item.name), item.search.log, low, high)


def _refuse_empty_search(key: str, log: bool, low: float, high: float) -> None:
    if low >= high:
        raise SettingsError(
            f"{key}_LOW={low:g} must be below {key}_HIGH={high:g}; to fix the value, set {key} instead."
        )
    if log and low <= 0:
        raise SettingsError(f"{key}_LOW={low:g} must be above 0: its logarithm is searched.")


def _refuse_half_an_override(settings: Settings) -> None:
    asked, reason = settings.flag("CVN_GUARDRAIL_OVERRIDE"), settings.override_reason
    if asked and not reason:
        raise SettingsError(
            "CVN_GUARDRAIL_OVERRIDE=1 needs CVN_GUARDRAIL_OVERRIDE_REASON: "
            f"{SETTINGS['CVN_GUARDRAIL_OVERRIDE_REASON'].kind.expected}."
        )
    if reason and not asked:
        raise SettingsError(
            "CVN_GUARDRAIL_OVERRIDE_REASON is given and CVN_GUARDRAIL_OVERRIDE is 0: set CVN_GUARDRAIL_OVERRIDE=1, or "
            "leave the reason out."
        )


_CONTRADICTIONS = (
    _refuse_uneven_slices,
    _refuse_two_classes_on_three,
    _refuse_inverted_barriers,
    _refuse_a_horizon_between_candles,
    _refuse_an_unusable_grid,
    _refuse_the_future,
    _refuse_timeframes_that_do_not_divide,
    _refuse_limits_out_of_order,
    _refuse_empty_searches,
    _refuse_half_an_override,
)
