"""Staged rollout: the stages of a critical factor, what each stage's gate demands of its runs, and who needs one.

A criterion that nothing can be said of yet is *not judged*: it is listed, it does not count as passed, and it does not
stop the rollout. What should have left a trace and left none has failed.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from cvntrade_assets.operations.factors import FACTORS, Factor
from cvntrade_assets.operations.guardrails import Verdict

# The run tag "<rollout id>:<stage>" of every run that belongs to a rollout.
ROLLOUT_TAG = "cvntrade/rollout"


class RolloutStage(StrEnum):
    """The stages, in the order in which they are gone through."""

    PREFLIGHT = "preflight"
    CANARY = "canary"
    FULL = "full"

    @property
    def before(self) -> "RolloutStage | None":
        """The stage whose gate must have passed."""
        return _BEFORE[self]


_BEFORE: Mapping[RolloutStage, RolloutStage | None] = {
    RolloutStage.PREFLIGHT: None,
    RolloutStage.CANARY: RolloutStage.PREFLIGHT,
    RolloutStage.FULL: RolloutStage.CANARY,
}


@dataclass(frozen=True)
class Scope:
    """Which runs a stage consists of: every variant for every crypto."""

    variants: tuple[str, ...]
    cryptos: tuple[str, ...]

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """(variant, crypto) of every run."""
        return [(variant, crypto) for variant in self.variants for crypto in self.cryptos]


def scope_of(stage: RolloutStage, variants: Sequence[str], cryptos: Sequence[str]) -> Scope:
    """Preflight: one variant, one crypto; canary: every variant, one crypto; full: every variant and crypto."""
    some = variants if stage is not RolloutStage.PREFLIGHT else variants[:1]
    where = cryptos if stage is RolloutStage.FULL else cryptos[:1]
    return Scope(tuple(some), tuple(where))


# Ids and tags


def rollout_prefix(
    factor: Factor, group: str, variants: Sequence[str], settings: Mapping[str, str], base_env: Mapping[str, str]
) -> str:
    """How the id of every rollout of exactly this begins: another definition, group, variant or setting, another id."""
    asked = json.dumps([factor.definition(), group, list(variants), dict(settings), dict(base_env)], sort_keys=True)
    return f"{factor.name}-{hashlib.sha256(asked.encode()).hexdigest()[:8]}-"


def rollout_tag(rollout: str, stage: RolloutStage) -> str:
    """The tag's value for the runs of a stage."""
    return f"{rollout}:{stage}"


def read_tag(tag: str | None) -> tuple[str, RolloutStage] | None:
    """Rollout id and stage of a tag's value; None when it is not one."""
    rollout, _, stage = (tag or "").rpartition(":")
    known = [each for each in RolloutStage if each == stage]
    return (rollout, known[0]) if rollout and known else None


# What is known of a stage's runs


@dataclass(frozen=True)
class Noted:
    """A guardrail evaluation on record."""

    guardrail: str
    verdict: Verdict
    message: str


@dataclass(frozen=True)
class Measured:
    """A headline metric of a result, with the ends of its interval where the result carries one."""

    value: float
    low: float | None = None
    high: float | None = None

    def holds(self, value: float) -> bool:
        """Whether a value is inside the interval; not a number is not, and without an interval nothing is."""
        return self.low is not None and self.high is not None and self.low <= value <= self.high


@dataclass(frozen=True)
class RunFacts:
    """What is on record of one run of a stage, its retries included.

    Attributes:
        run_id: The newest attempt.
        crypto: Its partition.
        variant: The variant of the factor in its run config.
        status: Dagster's status of the newest attempt.
        lost: Why an attempt's worker is gone, a sentence each.
        noted: The guardrail evaluations of every attempt.
        results: How many results it left.
        sortino: Of its result; None when it carries none.
        metrics: Headline metrics of its result, by name.
    """

    run_id: str
    crypto: str
    variant: str
    status: str
    lost: tuple[str, ...] = ()
    noted: tuple[Noted, ...] = ()
    results: int = 0
    sortino: float | None = None
    metrics: Mapping[str, Measured] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """How messages call it."""
        return f"run {self.run_id[:8]} ({self.crypto}, {self.variant})"


class Outcome(StrEnum):
    """What became of a criterion."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_JUDGED = "not judged yet"


@dataclass(frozen=True)
class Criterion:
    """One demand of a gate, judged: what was demanded, what was found, and what to do when it failed."""

    name: str
    outcome: Outcome
    demand: str
    found: str
    advice: str = ""


@dataclass(frozen=True)
class Judgement:
    """A gate's verdict."""

    stage: RolloutStage
    criteria: tuple[Criterion, ...]

    @property
    def failed(self) -> tuple[Criterion, ...]:
        """The criteria that failed."""
        return self._those(Outcome.FAILED)

    @property
    def passed(self) -> bool:
        """No criterion failed, and something was judged at all."""
        return not self.failed and bool(self._those(Outcome.PASSED))

    @property
    def summary(self) -> str:
        """The verdict in a few sentences."""
        if self.failed:
            reasons = " ".join(f"{each.name}: {each.found.rstrip('.')}. {each.advice}" for each in self.failed)
            return f"The {self.stage} gate failed. {reasons}"
        open_ = [f"{each.name} is {each.outcome}: {each.found}" for each in self._those(Outcome.NOT_JUDGED)]
        count = len(self._those(Outcome.PASSED))
        return f"The {self.stage} gate passed: {'; '.join([f'{count} criteria hold', *open_])}."

    def _those(self, outcome: Outcome) -> tuple[Criterion, ...]:
        return tuple(each for each in self.criteria if each.outcome is outcome)


@dataclass(frozen=True)
class StageFacts:
    """Everything that a gate judges.

    Attributes:
        expected: (variant, crypto) of every run that the stage consists of.
        runs: What is on record of them, one a pair.
        canary: The canary's runs, for the full gate's intervals.
    """

    expected: Sequence[tuple[str, str]]
    runs: Sequence[RunFacts]
    canary: Sequence[RunFacts] = ()


def judge(stage: RolloutStage, facts: StageFacts) -> Judgement:
    """The gate of a stage, criterion by criterion."""
    return Judgement(stage, tuple(criterion(facts) for criterion in _GATES[stage]))


_BOUNDED = frozenset({Verdict.PASSED, Verdict.ALLOWED})
_STOPPING = frozenset({Verdict.BLOCKED, Verdict.CRITICAL, Verdict.UNKNOWN})
_ALERTS = _STOPPING | {Verdict.WARNED, Verdict.OVERRIDDEN}


def _criterion(name: str, demand: str, wrong: Sequence[str], holds: str, advice: str) -> Criterion:
    if wrong:
        return Criterion(name, Outcome.FAILED, demand, "; ".join(wrong), advice)
    return Criterion(name, Outcome.PASSED, demand, holds)


def _runs_succeeded(facts: StageFacts) -> Criterion:
    there = {(run.variant, run.crypto) for run in facts.runs}
    missing = [
        f"{crypto}, {variant} has no run" for variant, crypto in facts.expected if (variant, crypto) not in there
    ]
    wrong = [f"{run.name} ended as {run.status}" for run in facts.runs if run.status != "SUCCESS"]
    if not facts.expected:
        wrong.append("the stage consists of no run: no variant, or no crypto in the group")
    return _criterion(
        "runs_succeeded",
        "every variant has a run for every crypto of the stage, and each succeeded",
        [*wrong, *missing],
        f"{len(facts.runs)} of {len(facts.expected)} runs succeeded",
        "Open the failed run, mend what its failed check or step says, then roll out again.",
    )


def _results_left(facts: StageFacts) -> Criterion:
    return _criterion(
        "results_left",
        "every run left a result: the whole chain was run",
        [f"{run.name} left no result" for run in facts.runs if not run.results],
        f"{len(facts.runs)} results",
        "Let `cvntrade rollout` run the stage; runs of a part of the chain do not count.",
    )


def _workers_kept(facts: StageFacts) -> Criterion:
    return _criterion(
        "workers_kept",
        "no run lost its worker or ran out of memory, not even one that was retried",
        [f"{run.name}: {reason}" for run in facts.runs for reason in run.lost],
        "every attempt kept its worker",
        "Look at what the run's memory_within_limit estimated and at the machine's own log, then roll out again.",
    )


def _nothing_blocked(facts: StageFacts) -> Criterion:
    return _no_evaluation(
        "nothing_blocked",
        "no guardrail blocked a run, judged it critical or could not tell",
        facts,
        _STOPPING,
        "Change the variant or the settings that the message names, then roll out again.",
    )


def _no_alert(facts: StageFacts) -> Criterion:
    return _no_evaluation(
        "no_alert",
        "no guardrail warned of a run, was overridden, blocked it, judged it critical or could not tell",
        facts,
        _ALERTS,
        "Change the variant or the settings that the message names, or the limit if it is wrong, then roll out again.",
    )


def _no_evaluation(name: str, demand: str, facts: StageFacts, of: Iterable[Verdict], advice: str) -> Criterion:
    silent = [f"{run.name} left no guardrail evaluation" for run in facts.runs if not run.noted]
    wrong = [
        f"{run.name}: {noted.guardrail} {noted.verdict}: {noted.message}"
        for run in facts.runs
        for noted in run.noted
        if noted.verdict in of
    ]
    count = sum(len(run.noted) for run in facts.runs)
    return _criterion(name, demand, [*wrong, *silent], f"{count} evaluations, none of them", advice)


def _within_bounds(name: str, guardrails: Sequence[str]) -> Callable[[StageFacts], Criterion]:
    def criterion(facts: StageFacts) -> Criterion:
        wrong: list[str] = []
        found: list[str] = []
        for run in facts.runs:
            for guardrail in guardrails:
                noted = [each for each in run.noted if each.guardrail == guardrail]
                outside = [each for each in noted if each.verdict not in _BOUNDED]
                if not noted:
                    wrong.append(f"{run.name}: {guardrail} was not evaluated")
                wrong += [f"{run.name}: {guardrail} {each.verdict}: {each.message}" for each in outside]
                found += [each.message for each in noted if each not in outside]
        return _criterion(
            name,
            f"{' and '.join(guardrails)} hold, or the variant chose what they judge",
            wrong or ([] if found else ["no run says"]),
            "; ".join(found),
            "Choose another variant or settings, or have an operator move the limit, then roll out again.",
        )

    return criterion


def _sortino_positive(facts: StageFacts) -> Criterion:
    name, demand = "sortino_positive", "every variant's Sortino ratio is above 0"
    if all(run.sortino is None for run in facts.runs):
        return Criterion(name, Outcome.NOT_JUDGED, demand, "no result carries a Sortino ratio")
    return _criterion(
        name,
        demand,
        [_sortino_told(run) for run in facts.runs if run.sortino is None or not run.sortino > 0],
        ", ".join(f"{run.variant} {run.sortino:.2f}" for run in facts.runs if run.sortino is not None),
        "A variant that loses money is not rolled out: leave it out with --variant, or drop the factor.",
    )


def _sortino_told(run: RunFacts) -> str:
    if run.sortino is None:
        return f"{run.name} carries no Sortino ratio although others do"
    return f"{run.name} has a Sortino ratio of {run.sortino:.2f}"


def _metrics_inside(facts: StageFacts) -> Criterion:
    name, demand = "metrics_inside", "every headline metric is inside the interval that the canary's result carries"
    canary = {(run.variant, run.crypto): run.metrics for run in facts.canary}
    # Metrics are not compared across cryptos: the canary's interval is for the canary's crypto only.
    pairs = [
        (run, metric, found, canary[run.variant, run.crypto][metric])
        for run in facts.runs
        for metric, found in run.metrics.items()
        if metric in canary.get((run.variant, run.crypto), {})
    ]
    judged = [each for each in pairs if each[3].low is not None and each[3].high is not None]
    if not judged:
        return Criterion(name, Outcome.NOT_JUDGED, demand, "no result of the canary carries an interval")
    return _criterion(
        name,
        demand,
        [
            f"{run.name} has {metric} {found.value:.4f}, outside [{bounds.low:.4f}, {bounds.high:.4f}]"
            for run, metric, found, bounds in judged
            if not bounds.holds(found.value)
        ],
        f"{len(judged)} metrics are inside",
        "The same variant gave another result than in the canary: find what changed, then begin anew with --restart.",
    )


_GATES: Mapping[RolloutStage, tuple[Callable[[StageFacts], Criterion], ...]] = {
    RolloutStage.PREFLIGHT: (
        _runs_succeeded,
        _nothing_blocked,
        _within_bounds("rows_within_bounds", ("rows_within_limit", "rows_enough")),
        _within_bounds("memory_within_bounds", ("memory_within_limit",)),
        _within_bounds("minutes_within_bounds", ("minutes_within_limit",)),
    ),
    RolloutStage.CANARY: (_runs_succeeded, _results_left, _workers_kept, _no_alert, _sortino_positive),
    RolloutStage.FULL: (_runs_succeeded, _results_left, _no_alert, _metrics_inside),
}


# Who needs a rollout, and who has one


@dataclass(frozen=True)
class GateRecord:
    """A gate's verdict on record."""

    rollout: str
    factor: str
    definition: str
    stage: RolloutStage
    group: str
    passed: bool
    variants: frozenset[str]


@dataclass(frozen=True)
class RolloutStanding:
    """Whether a run's variants may run outside a rollout.

    Attributes:
        needed: Whether a factor of the run is marked as needing a staged rollout.
        why: Which, and why.
        satisfied: Whether the run belongs to a rollout, or every such factor's canary passed.
        detail: What was found, and what to do when that is not enough.
    """

    needed: bool
    why: str
    satisfied: bool
    detail: str


def staged_variants(variants: Mapping[str, str]) -> dict[str, str]:
    """The variants whose factor needs a staged rollout."""
    return {name: variant for name, variant in variants.items() if name in FACTORS and FACTORS[name].staged}


def stand(variants: Mapping[str, str], gates: Sequence[GateRecord], tag: str | None) -> RolloutStanding:
    """How a run stands.

    Args:
        variants: Factor to variant.
        gates: The verdicts on record of these factors, newest first.
        tag: The run's rollout tag; None when it has none.
    """
    staged = staged_variants(variants)
    if not staged:
        return RolloutStanding(False, "", True, "no factor of this run needs a staged rollout")
    found = [_stand(FACTORS[name], variant, gates, tag) for name, variant in staged.items()]
    why = "; ".join(f"{name} needs a staged rollout: {FACTORS[name].staged}" for name in staged)
    return RolloutStanding(True, why, all(ok for ok, _ in found), "; ".join(detail for _, detail in found))


def _stand(factor: Factor, variant: str, gates: Sequence[GateRecord], tag: str | None) -> tuple[bool, str]:
    own = [gate for gate in gates if gate.factor == factor.name]
    current = [gate for gate in own if gate.definition == factor.definition()]
    place = read_tag(tag)
    if place is not None and place[0].startswith(f"{factor.name}-"):
        return _stand_inside(*place, variant, current)
    advice = f"run `cvntrade rollout --factor {factor.name} --group GROUP` first"
    canaries = [gate for gate in current if gate.stage is RolloutStage.CANARY and variant in gate.variants]
    if canaries and canaries[0].passed:
        return True, f"the canary of {factor.name}={variant} passed in rollout {canaries[0].rollout}"
    if canaries:
        return False, f"the canary of {factor.name}={variant} failed in rollout {canaries[0].rollout}: {advice}"
    if len(current) < len(own):
        return False, f"the variants of {factor.name} have changed since its rollout {own[0].rollout}: {advice}"
    return False, f"no canary of {factor.name}={variant} has passed: {advice}"


def _stand_inside(rollout: str, stage: RolloutStage, variant: str, gates: Sequence[GateRecord]) -> tuple[bool, str]:
    """A run that says of itself that it belongs to a rollout: the stage before must have passed."""
    before = stage.before
    if before is None:
        return True, f"it is the {stage} stage of rollout {rollout}"
    tagged = f"it is tagged as the {stage} stage of rollout {rollout}, whose {before}"
    earlier = [gate for gate in gates if gate.rollout == rollout and gate.stage is before]
    if not (earlier and earlier[0].passed):
        return False, f"{tagged} gate has not passed"
    # The canary tries every variant of its rollout, the preflight one of them.
    if before is RolloutStage.CANARY and variant not in earlier[0].variants:
        return False, f"{tagged} had no run of {variant}"
    return True, f"it is the {stage} stage of rollout {rollout}, whose {before} gate passed"


def passed_stages(rollout: str, gates: Sequence[GateRecord]) -> list[RolloutStage]:
    """The stages of a rollout that need not be gone through again; `gates` are newest first."""
    newest: dict[RolloutStage, bool] = {}
    for gate in gates:
        if gate.rollout == rollout:
            newest.setdefault(gate.stage, gate.passed)
    done: list[RolloutStage] = []
    for stage in RolloutStage:
        if not newest.get(stage):
            break
        done.append(stage)
    return done
