"""The watch over runs: what is known of a run, judged while it goes on and once it has ended.

A slow stage or run is told of and goes on. A run that shows no sign of progress is stuck, and is ended.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from cvntrade_assets.operations.attribution import attribute
from cvntrade_assets.operations.guardrails import Evaluation, Verdict
from cvntrade_assets.settings import Settings

HISTORY = 50
"""At most so many of a stage's newest computations make its history."""

ENOUGH_HISTORY = 10
"""From so many on, the history sets a limit too."""

SLOWER = 2.0
"""A stage may take so many times the 95th percentile of its history."""

LEAST_SECONDS = 5.0
"""No history sets a limit below this: what is shorter is the database's time and the process's, not the stage's."""

# What a heartbeat says of how far its stage has come: `trial 12 of 50`, `round 80 of at most 400`.
_SHARE = re.compile(r"(\d+) of (?:at most )?(\d+)")


@dataclass(frozen=True)
class StageFacts:
    """A stage at work.

    Attributes:
        name: The step's name, which is the asset's for a stage.
        seconds: How long it has been at work.
        history: Seconds of its newest computations, whatever the crypto; what was reused does not count.
        said: Its newest heartbeat; empty when it sent none.
    """

    name: str
    seconds: float
    history: Sequence[float] = ()
    said: str = ""


@dataclass(frozen=True)
class RunFacts:
    """What is known of a run.

    Attributes:
        now: The moment of the knowledge, UTC.
        seconds: How long it has gone on, or went on when it has ended.
        silent_seconds: How long ago its newest sign of progress was.
        stages: The stages at work; none when the run has ended.
        train_rows: Rows that it trains on; None when nobody has counted them yet.
    """

    now: pd.Timestamp
    seconds: float
    silent_seconds: float = 0.0
    stages: Sequence[StageFacts] = field(default=())
    train_rows: int | None = None


@dataclass(frozen=True)
class Finding:
    """An evaluation, and the stage that it is about; no stage when it is about the whole run."""

    stage: str
    evaluation: Evaluation


def watch_run(facts: RunFacts, settings: Settings) -> list[Finding]:
    """What there is to tell of a run that goes on; a run as it should be gives nothing.

    Args:
        facts: What is known of it.
        settings: The run's settings; the limits are among them.
    """
    slow = [Finding(stage.name, judged) for stage in facts.stages if (judged := _judge_stage(stage, facts, settings))]
    run, stuck = judge_duration(facts, settings), judge_progress(facts, settings)
    found = [each for each in (run, stuck) if each.verdict is not Verdict.PASSED]
    return [*slow, *(Finding("", each) for each in found)]


def judge_progress(facts: RunFacts, settings: Settings) -> Evaluation:
    """Whether a run that goes on has shown a sign of progress lately."""
    limit, silent = settings.number("CVN_GUARDRAIL_STUCK_MINUTES"), facts.silent_seconds / 60
    layer = str(settings.layer("CVN_GUARDRAIL_STUCK_MINUTES"))
    if silent < limit:
        message = f"progress {_minutes(silent)} ago, within {_minutes(limit)}"
        return Evaluation("run_progresses", Verdict.PASSED, message, silent, limit, layer=layer)
    where = ", ".join(
        f"{stage.name}{f' (its last word: {stage.said})' if stage.said else ''}" for stage in facts.stages
    )
    message = (
        f"stuck: no sign of progress for {_minutes(silent)} in {where or 'no stage'}; the limit is "
        f"CVN_GUARDRAIL_STUCK_MINUTES={limit:g}. The run is ended; see its log and its last stage."
    )
    return Evaluation("run_progresses", Verdict.CRITICAL, message, silent, limit, layer=layer)


def judge_duration(facts: RunFacts, settings: Settings) -> Evaluation:
    """Whether a run takes, or took, longer than runs do."""
    slow = settings.number("CVN_GUARDRAIL_SLOW_RUN_MINUTES")
    critical = settings.number("CVN_GUARDRAIL_CRITICAL_RUN_MINUTES")
    minutes, choice = facts.seconds / 60, attribute("run_in_time", settings)
    if minutes <= slow:
        message = f"{_minutes(minutes)}, at most {_minutes(slow)}"
        return Evaluation("run_in_time", Verdict.PASSED, message, minutes, slow, choice.explicit, choice.layer)
    key, limit, verdict = "CVN_GUARDRAIL_SLOW_RUN_MINUTES", slow, Verdict.WARNED
    if minutes > critical:
        key, limit, verdict = "CVN_GUARDRAIL_CRITICAL_RUN_MINUTES", critical, Verdict.CRITICAL
    verdict = Verdict.ALLOWED if choice.explicit else verdict
    message = f"{_minutes(minutes)}, more than {key}={limit:g}. {_why('run_in_time', facts.train_rows, settings)}"
    return Evaluation("run_in_time", verdict, message, minutes, limit, choice.explicit, choice.layer)


def judge_factor(factor: str, minutes: Sequence[float], settings: Settings) -> Evaluation:
    """Whether the runs of a factor take longer on average than they should.

    Args:
        factor: Its name, for the message.
        minutes: How long its newest runs took; at least one.
        settings: Those of the newest run.
    """
    limit, mean = settings.number("CVN_GUARDRAIL_FACTOR_MINUTES"), float(np.mean(minutes))
    choice = attribute("factor_in_time", settings)
    told = f"the last {len(minutes)} runs of {factor} took {_minutes(mean)} on average"
    if mean <= limit:
        message = f"{told}, at most {_minutes(limit)}"
        return Evaluation("factor_in_time", Verdict.PASSED, message, mean, limit, choice.explicit, choice.layer)
    verdict = Verdict.ALLOWED if choice.explicit else Verdict.WARNED
    message = f"{told}, more than CVN_GUARDRAIL_FACTOR_MINUTES={limit:g}. {_why('factor_in_time', None, settings)}"
    return Evaluation("factor_in_time", verdict, message, mean, limit, choice.explicit, choice.layer)


def stage_limit(history: Sequence[float], settings: Settings) -> tuple[float, str]:
    """Seconds that a stage may take, and where the number comes from.

    The smaller of the two limits holds: a history in which every run was slow must not make the next one look normal.
    """
    minutes = settings.number("CVN_GUARDRAIL_STAGE_MINUTES")
    fixed = f"CVN_GUARDRAIL_STAGE_MINUTES={minutes:g}"
    if len(history) < ENOUGH_HISTORY:
        return 60 * minutes, fixed
    usual = float(np.quantile(np.asarray(history), 0.95))
    own = max(SLOWER * usual, LEAST_SECONDS)
    if own >= 60 * minutes:
        return 60 * minutes, fixed
    return own, f"{SLOWER:g} × the 95th percentile of its last {len(history)} computations, {_minutes(usual / 60)}"


def expected_end(stage: StageFacts, now: pd.Timestamp) -> str:
    """When a stage is likely to end, and how that is known; or that it cannot be told."""
    share = _SHARE.search(stage.said)
    if share and 0 < int(share[1]) <= int(share[2]):
        left = stage.seconds * (int(share[2]) / int(share[1]) - 1)
        return f"{_clock(now, left)} ({share[0]} done)"
    if len(stage.history) and (usual := float(np.median(np.asarray(stage.history)))) > stage.seconds:
        return f"{_clock(now, usual - stage.seconds)} (by its history)"
    return "cannot be estimated"


def _judge_stage(stage: StageFacts, facts: RunFacts, settings: Settings) -> Evaluation | None:
    limit, source = stage_limit(stage.history, settings)
    if stage.seconds <= limit:
        return None
    choice = attribute("stage_in_time", settings)
    message = (
        f"{stage.name}: at work for {_minutes(stage.seconds / 60)}, more than {_minutes(limit / 60)} ({source}). "
        f"{_why('stage_in_time', facts.train_rows, settings)} It goes on; estimated end: "
        f"{expected_end(stage, facts.now)}."
    )
    verdict = Verdict.ALLOWED if choice.explicit else Verdict.WARNED
    return Evaluation("stage_in_time", verdict, message, stage.seconds / 60, limit / 60, choice.explicit, choice.layer)


def _why(guardrail: str, train_rows: int | None, settings: Settings) -> str:
    """What is unusual about the run, and whose choice that was."""
    choice = attribute(guardrail, settings)
    rows = "" if train_rows is None else f", {train_rows:,} training rows"
    if not choice.unusual:
        return f"Every setting that makes runs slow has its usual value{rows}."
    whose = "a variant or the run chose it" if choice.explicit else "neither a variant nor the run chose all of it"
    return f"Unusual: {choice.told}{rows}; {whose}."


def _minutes(minutes: float) -> str:
    """A span of time in words: seconds below two minutes."""
    return f"{60 * minutes:.1f} s" if minutes < 2 else f"{minutes:.1f} min"


def _clock(now: pd.Timestamp, seconds: float) -> str:
    return f"{now + pd.Timedelta(seconds=seconds):%Y-%m-%d %H:%M:%S} UTC"
