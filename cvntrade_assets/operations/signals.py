"""The signals that operators live by: what each one is, and what an observation of one says."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

import pandas as pd

Scalar: TypeAlias = float | int | str | None

PLATFORM = ""
"""The subject of what is observed of the platform as a whole."""


class Level(StrEnum):
    """How an observation stands; `unknown` could not be computed, and is never fine."""

    OK = "ok"
    WARNING = "warning"
    CRITICAL = "critical"
    UNKNOWN = "unknown"


class Scope(StrEnum):
    """What a signal has one observation for."""

    PLATFORM = "platform"
    JOB = "job"
    CRYPTO = "crypto"


@dataclass(frozen=True)
class Signal:
    """One signal.

    Attributes:
        name: How it is called everywhere.
        scope: What it has one observation for.
        unit: Of its value; empty for what has none.
        meaning: What it says, a sentence.
        is_golden: Whether it is one of the twelve; the others feed the global state, freshness and drift.
    """

    name: str
    scope: Scope
    unit: str
    meaning: str
    is_golden: bool = True


@dataclass(frozen=True)
class Observation:
    """What a signal came to, once.

    Attributes:
        signal: Its name.
        subject: The crypto or job that it is about; empty for the platform.
        value: In the signal's unit; None when it could not be computed.
        level: How that stands.
        reason: What was measured and what it was held against, a sentence.
        observed_at: When, wall clock, UTC.
        inputs: The numbers that it was computed from, by name.
    """

    signal: str
    subject: str
    value: float | None
    level: Level
    reason: str
    observed_at: pd.Timestamp
    inputs: Mapping[str, Scalar] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.signal not in SIGNALS:
            raise ValueError(f"{self.signal!r} is not a signal; there are {', '.join(SIGNALS)}")
        if (self.subject == PLATFORM) != (SIGNALS[self.signal].scope is Scope.PLATFORM):
            raise ValueError(f"{self.signal} is observed per {SIGNALS[self.signal].scope}, not of {self.subject!r}")
        if self.value is None and self.level is not Level.UNKNOWN:
            raise ValueError(f"{self.signal} of {self.subject!r} has no value and is called {self.level}, not unknown")


def _by_name(signals: Iterable[Signal]) -> Mapping[str, Signal]:
    return {signal.name: signal for signal in signals}


_P, _J, _C = Scope
SIGNALS: Mapping[str, Signal] = _by_name(
    (
        # The manual's section 2 lists eleven; the twelfth, pass_rate, stands in its section 0.
        Signal("infra_health", _P, "", "memory kills, processors, volumes and what is down"),
        Signal("pipeline_success_rate", _J, "share", "share of a job's runs that succeeded, over a sliding window"),
        Signal("pipeline_latency", _J, "share", "how much longer a job's newest runs take than the 95th percentile"),
        Signal("pass_rate", _P, "runs", "newest complete runs in a row in which no candidate passed its gates"),
        Signal("f1_buy_delta_vs_baseline", _C, "F1", "f1_buy over that of always saying BUY"),
        Signal("screening_testing_gap", _C, "F1", "screening_f1_buy over last_fold_f1_buy"),
        Signal("std_f1_buy", _C, "F1", "deviation of f1_buy over the folds"),
        Signal("sortino", _C, "ratio", "annualised Sortino ratio of the backtest, net of costs"),
        Signal("sl_pct", _C, "share", "share of trades that the stop-loss ended"),
        Signal("timeout_pct", _C, "share", "share of trades that the horizon ended"),
        Signal("model_freshness", _C, "days", "how long ago the last useful model was refreshed"),
        Signal("challenger_count", _P, "models", "registered challengers that wait for a promotion"),
        Signal("candle_freshness", _C, "hours", "age of the last closed candle", is_golden=False),
        Signal("model_overdue", _C, "days", "by how much a model is older than its group's limit", is_golden=False),
        Signal("negative_sortino_runs", _C, "runs", "newest evaluations in a row with a negative Sortino ratio", False),
        Signal("barren_days", _P, "days", "how long complete runs have brought no useful candidate", is_golden=False),
        Signal("useful_run_age", _P, "days", "age of the last run whose leading candidate passed", is_golden=False),
        Signal("drift", _C, "share", "share of features and scores that left the training slice", is_golden=False),
    )
)
