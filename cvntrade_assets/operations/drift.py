"""Drift: whether the candles of now are still those that a model was made for. The judgement.

Four questions of the newest candles: have features left the training slice, have scores, is BUY as frequent as it was,
do probabilities still mean what they say? How often each alarms without a cause is measured by `benchmarks/drift.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from cvntrade_assets.operations.drift_columns import ColumnDrift, Past, drift_of_columns
from cvntrade_assets.operations.drift_dependence import LEAST_WINDOWS
from cvntrade_assets.operations.drift_evidence import LABEL, PROBABILITY, SCORE, Evidence
from cvntrade_assets.operations.drift_outcomes import OutcomeDrift, Outcomes, drift_of_outcomes
from cvntrade_assets.operations.signals import Level

_NAMED = 3
"""Columns that a sentence names."""


@dataclass(frozen=True)
class DriftLimits:
    """What drift is held against.

    Attributes:
        longest: Candles of the window at most.
        least: Candles below which nothing is judged.
        least_labels: Settled candles below which outcomes are not judged.
        alpha: Level of significance over all columns together.
        outcome_alpha: Level of significance over both outcomes together.
        warning_share: This share of drifted columns warns.
        critical_share: This share is critical.
    """

    longest: int
    least: int
    least_labels: int
    alpha: float
    outcome_alpha: float
    warning_share: float
    critical_share: float


@dataclass(frozen=True)
class DriftReport:
    """What one look found.

    Attributes:
        level: What it comes to.
        reason: Why, a sentence.
        window_from: Open of the window's first candle; None when there is no window.
        window_to: Open of its last.
        rows: Candles of the window.
        columns: Every feature that was tested, then the score; the one that lies furthest off first.
        labelled: Candles of the window whose outcome is settled.
        buy_rate: Rate of BUY; None when too few outcomes are settled.
        calibration: Calibration error; None likewise.
    """

    level: Level
    reason: str
    window_from: pd.Timestamp | None = None
    window_to: pd.Timestamp | None = None
    rows: int = 0
    columns: tuple[ColumnDrift, ...] = ()
    labelled: int = 0
    buy_rate: OutcomeDrift | None = None
    calibration: OutcomeDrift | None = None

    @property
    def drifted(self) -> tuple[ColumnDrift, ...]:
        """The columns that drifted."""
        return tuple(column for column in self.columns if column.drifted)

    @property
    def share(self) -> float | None:
        """Share of the columns that drifted; None when none was tested."""
        return len(self.drifted) / len(self.columns) if self.columns else None

    @property
    def score(self) -> ColumnDrift | None:
        """The score's column."""
        return next((column for column in self.columns if column.name == SCORE), None)

    @property
    def worst(self) -> ColumnDrift | None:
        """The feature, or score, that lies furthest off."""
        return self.columns[0] if self.columns else None

    def to_record(self) -> dict[str, Any]:
        """As JSON takes it; `from_record` is the way back."""
        moments = {name: getattr(self, name) for name in ("window_from", "window_to")}
        return asdict(self) | {name: None if at is None else at.isoformat() for name, at in moments.items()}


def from_record(record: Mapping[str, Any]) -> DriftReport:
    """A report out of its record."""
    outcomes = {name: record[name] for name in ("buy_rate", "calibration")}
    moments = {name: record[name] for name in ("window_from", "window_to")}
    return DriftReport(
        **{
            **record,
            "level": Level(record["level"]),
            "columns": tuple(ColumnDrift(**column) for column in record["columns"]),
            **{name: None if found is None else OutcomeDrift(**found) for name, found in outcomes.items()},
            **{name: None if at is None else pd.Timestamp(at) for name, at in moments.items()},
        }
    )


def unknown(reason: str) -> DriftReport:
    """The report of a look that could not be made: neither fine nor an alarm."""
    return DriftReport(Level.UNKNOWN, reason)


def past_of(evidence: Evidence) -> dict[str, Past]:
    """What is usual of every column: features in the training slice's time, the score in that of the other slices."""
    columns = {**{str(name): evidence.reference[name] for name in evidence.reference}, SCORE: evidence.held_out[SCORE]}
    return {name: Past.of(values, len(evidence.window)) for name, values in columns.items()}


def look(evidence: Evidence, past: Mapping[str, Past], limits: DriftLimits, *, block: int, seed: int) -> DriftReport:
    """Judge a window against its reference.

    Args:
        evidence: Both.
        past: What is usual of every column; see `past_of`.
        limits: What is held against.
        block: Rows of a resampling block, for the intervals of outcomes.
        seed: Of the resampling.
    """
    asked = evidence.window.assign(**{SCORE: evidence.asked[SCORE]})
    columns = drift_of_columns({name: (past[name], asked[name]) for name in past}, limits.alpha)
    settled, outcomes = _outcomes(evidence, limits, block, seed)
    ranked = tuple(sorted(columns, key=lambda column: (column.p_value, -column.psi, column.name)))
    rate, calibration = outcomes or (None, None)
    level = judge(ranked, outcomes, limits)
    return DriftReport(
        level=level,
        reason=_sentence(ranked, outcomes, settled, limits),
        window_from=evidence.window.index[0],
        window_to=evidence.window.index[-1],
        rows=len(evidence.window),
        columns=ranked,
        labelled=settled,
        buy_rate=rate,
        calibration=calibration,
    )


def judge(columns: Sequence[ColumnDrift], outcomes: Sequence[OutcomeDrift] | None, limits: DriftLimits) -> Level:
    """What it comes to.

    So many drifted columns are critical; fewer warn, and are critical where outcomes drifted with them. Outcomes that
    drifted alone warn. Where nothing drifted, and outcomes could not be judged, nobody knows.
    """
    share = sum(column.drifted for column in columns) / len(columns)
    results_drifted = outcomes is not None and any(outcome.drifted for outcome in outcomes)
    warns = share >= limits.warning_share
    if share >= limits.critical_share or (warns and results_drifted):
        return Level.CRITICAL
    if warns or results_drifted:
        return Level.WARNING
    return Level.UNKNOWN if outcomes is None else Level.OK


def _outcomes(
    evidence: Evidence, limits: DriftLimits, block: int, seed: int
) -> tuple[int, tuple[OutcomeDrift, OutcomeDrift] | None]:
    """How many outcomes are settled, and what they come to where they are enough."""
    settled, held_out = evidence.asked.dropna(), evidence.held_out.dropna()
    references = min(len(held_out), len(evidence.label_reference))
    if len(settled) < limits.least_labels or references < LEAST_WINDOWS * len(settled):
        return len(settled), None
    return len(settled), drift_of_outcomes(
        evidence.label_reference,
        Outcomes(held_out[LABEL].to_numpy(), held_out[PROBABILITY].to_numpy()),
        Outcomes(settled[LABEL].to_numpy(), settled[PROBABILITY].to_numpy()),
        alpha=limits.outcome_alpha,
        block=block,
        seed=seed,
    )


def _sentence(
    columns: Sequence[ColumnDrift],
    outcomes: tuple[OutcomeDrift, OutcomeDrift] | None,
    settled: int,
    limits: DriftLimits,
) -> str:
    drifted = [column for column in columns if column.drifted]
    named = ", ".join(f"{column.name} (PSI {column.psi:.2f})" for column in drifted[:_NAMED])
    parts = [
        f"{len(drifted)} of {len(columns)} features and scores left the training slice"
        + (f", first {named}" if named else "")
        + f"; {limits.warning_share:.0%} warn, {limits.critical_share:.0%} are critical"
    ]
    if outcomes is None:
        parts.append(f"outcomes unknown: {settled} are settled, at least {limits.least_labels} are needed")
        return "; ".join(parts)
    for name, found in zip(("rate of BUY", "calibration error"), outcomes, strict=True):
        verdict = "drifted" if found.drifted else "within what is usual"
        parts.append(f"{name} {found.value:.3f}, usually {found.usual:.3f}: {verdict} (p {found.p_value:.2g})")
    return "; ".join(parts)
