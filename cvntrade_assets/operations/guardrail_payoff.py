"""Whether the guardrails pay: four measures of the last sessions, each beside its target."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

# After so many sessions the design asks for a review.
SESSIONS = 10


class Standing(StrEnum):
    """How a measure stands to its target."""

    MET = "met"
    MISSED = "missed"
    REVIEW = "review"  # so far off that the thresholds themselves need a look
    UNKNOWN = "unknown"  # never counts as met


@dataclass(frozen=True)
class Target:
    """One measure and what is wanted of it.

    Attributes:
        name: Its name, which is also its check's.
        column: Where the view has it.
        meaning: What it measures.
        limit: The target: met at or below it when `inclusive`, else below it.
        inclusive: Whether the limit itself is good.
        scale: Times this, the value is in the target's unit.
        unit: The unit in which value and target are shown.
        missing: What has not happened yet when there is no value.
        review_above: Above this the thresholds need a review; None when the design names none.
    """

    name: str
    column: str
    meaning: str
    limit: float
    inclusive: bool
    scale: float
    unit: str
    missing: str
    review_above: float | None = None

    @property
    def wanted(self) -> str:
        """The target in words."""
        return f"{'' if self.inclusive else '< '}{self.limit:g} {self.unit}"


TARGETS: tuple[Target, ...] = (
    Target(
        "no_run_wasted",
        "wasted_runs_per_month",
        "runs a month that spent training time and were slow unasked, stuck, or blocked after training had begun",
        limit=0,
        inclusive=True,
        scale=1,
        unit="a month",
        missing="no watched run of a session was judged",
    ),
    Target(
        "detected_in_time",
        "median_seconds_to_detect",
        "median time from a run's start to its first block or flag",
        limit=1,
        inclusive=False,
        scale=1 / 60,
        unit="min",
        missing="no watched run was blocked or flagged",
    ),
    Target(
        "few_false_positives",
        "false_positive_rate",
        "share of blocks that were overridden, or chosen explicitly, within 7 days for the same crypto and guardrail",
        limit=2,
        inclusive=False,
        scale=100,
        unit="%",
        missing="nothing was blocked",
        review_above=5,
    ),
    Target(
        "little_overhead",
        "overhead",
        "share of the runs' time that guardrails took",
        limit=1,
        inclusive=False,
        scale=100,
        unit="%",
        missing="no watched run of a session was judged",
    ),
)


@dataclass(frozen=True)
class Judgement:
    """One measure beside its target; `value` is in the target's unit, None when it is unknown."""

    target: Target
    standing: Standing
    value: float | None
    message: str

    @property
    def met(self) -> bool:
        """Whether the target is met; what is unknown is not."""
        return self.standing is Standing.MET


def judge_payoff(measures: Mapping[str, float | None], unjudged_runs: int) -> list[Judgement]:
    """Every measure beside its target.

    Args:
        measures: The view's row: measure to value, None where nothing is known.
        unjudged_runs: Runs that trained and that no guardrail judged: what they wasted nobody knows.
    """
    judgements = [_judge(target, measures[target.column]) for target in TARGETS]
    return [_with_unjudged(judgement, unjudged_runs) for judgement in judgements]


def _judge(target: Target, raw: float | None) -> Judgement:
    if raw is None or math.isnan(raw):
        message = f"unknown: {target.missing}. Expected {target.wanted}; what is unknown does not count as met."
        return Judgement(target, Standing.UNKNOWN, None, message)
    value = raw * target.scale
    met = value <= target.limit if target.inclusive else value < target.limit
    said = f"{value:.3g} {target.unit}, expected {target.wanted}: {target.meaning}."
    if met:
        return Judgement(target, Standing.MET, value, said)
    if target.review_above is not None and value > target.review_above:
        advice = f" Above {target.review_above:g} {target.unit} the thresholds need a review: `cvntrade overrides`."
        return Judgement(target, Standing.REVIEW, value, said + advice)
    return Judgement(target, Standing.MISSED, value, said)


def _with_unjudged(judgement: Judgement, unjudged_runs: int) -> Judgement:
    """Without a verdict on every run that trained, no waste found is not no waste."""
    if not unjudged_runs or not judgement.met or judgement.target.column != "wasted_runs_per_month":
        return judgement
    were = "was" if unjudged_runs == 1 else "were"
    unjudged = f"of the runs that trained, {unjudged_runs} {were} judged by no guardrail"
    message = f"unknown: {unjudged}. Of the others: {judgement.message}"
    return Judgement(judgement.target, Standing.UNKNOWN, None, message)
