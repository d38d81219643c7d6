"""What would run for one crypto and why: missing, stale or forced, worked out from versions, running nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import pandas as pd

from cvntrade_assets.operations.fitness import unfit_reasons
from cvntrade_assets.operations.provenance import CONTENT, FORCED, Provenance
from cvntrade_assets.settings import Settings


class Action(StrEnum):
    """What a run would do with one asset."""

    MISSING = "missing"
    STALE = "stale"
    FORCED = "forced"
    REFUSED = "refused"
    CURRENT = "current"


@dataclass(frozen=True)
class StageFacts:
    """What the graph declares of one asset."""

    name: str
    code_version: str
    settings: tuple[str, ...]
    inputs: tuple[str, ...]
    source: bool
    may_be_older: tuple[str, ...] = ()


@dataclass(frozen=True)
class Current:
    """What stands in the store for one asset and crypto.

    Attributes:
        version: The current version.
        provenance: What it was made of.
        data_until: Open time of its newest candle, for a source.
        closed_because: Why the gate refuses it; None when it is open.
        failed: Whether that is because a check failed on its files, so that they are computed again; what preflight
            refused, or no check has judged yet, is only judged again.
        blocked_because: Why a run with these settings may not go on from it, whatever the gate says; None when it may.
        summary: The plain numbers and texts that are kept with it.
    """

    version: str
    provenance: Provenance
    data_until: pd.Timestamp | None
    closed_because: str | None
    failed: bool = False
    blocked_because: str | None = None
    summary: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Step:
    """One line of the plan."""

    asset: str
    action: Action
    reason: str


def plan_crypto(
    stages: Sequence[StageFacts],
    current: Mapping[str, Current],
    settings: Settings,
    newest_candle: Mapping[str, pd.Timestamp],
    *,
    force: bool,
) -> list[Step]:
    """The plan for one crypto.

    Args:
        stages: The selected assets, upstream first.
        current: What the store has, by asset; also for assets that are not selected.
        settings: The settings that the run would resolve.
        newest_candle: For every source, the open time of the newest candle closed by now.
        force: Recompute although nothing changed.

    Returns:
        One step per stage, in the same order.
    """
    predicted: dict[str, str | None] = {name: found.version for name, found in current.items()}
    steps: dict[str, Step] = {}
    selected = {stage.name for stage in stages}
    for stage in stages:
        refusal = _refusal(stage, current, predicted, settings, selected, steps)
        if refusal:
            steps[stage.name] = Step(stage.name, Action.REFUSED, refusal)
            continue
        found = current.get(stage.name)
        steps[stage.name], predicted[stage.name] = _plan_stage(stage, found, predicted, settings, newest_candle, force)
    return list(steps.values())


def _refusal(
    stage: StageFacts,
    current: Mapping[str, Current],
    predicted: Mapping[str, str | None],
    settings: Settings,
    selected: set[str],
    steps: Mapping[str, Step],
) -> str | None:
    """Why a run would refuse the stage's inputs; those that the run builds itself fit by construction."""
    kept = [name for name in stage.inputs if name not in selected]
    reasons = [f"its input {name} is refused" for name in stage.inputs if _is_refused(name, steps)]
    reasons += [f"its input {name} was never built and is not selected" for name in kept if name not in current]
    there = {name: current[name] for name in kept if name in current}
    reasons += [found.closed_because for found in there.values() if found.closed_because]
    # What the run reuses is judged again by its own settings, and what they block stops it there.
    reused = [name for name in stage.inputs if name in current and (name in kept or _is_reused(name, steps))]
    reasons += [reason for name in reused if (reason := current[name].blocked_because)]
    provenances = {name: found.provenance for name, found in there.items()}
    versions = {name: predicted.get(name) for name in stage.inputs}
    return "; ".join(reasons + unfit_reasons(provenances, versions, settings, stage.may_be_older)) or None


def _is_refused(name: str, steps: Mapping[str, Step]) -> bool:
    return name in steps and steps[name].action is Action.REFUSED


def _is_reused(name: str, steps: Mapping[str, Step]) -> bool:
    return name in steps and steps[name].action is Action.CURRENT


def _plan_stage(
    stage: StageFacts,
    found: Current | None,
    predicted: Mapping[str, str | None],
    settings: Settings,
    newest_candle: Mapping[str, pd.Timestamp],
    force: bool,
) -> tuple[Step, str | None]:
    """The step, and the version that the asset will have; None when only running can tell."""
    version = _predict(stage, found, predicted, settings)
    if found is None:
        return Step(stage.name, Action.MISSING, "it was never built"), version
    if force:
        return Step(stage.name, Action.FORCED, "recomputed because --force asks for it"), None
    reasons = _changes(stage, found, predicted, settings)
    if stage.source and found.data_until is not None and found.data_until != newest_candle[stage.name]:
        until, newest = found.data_until.isoformat(), newest_candle[stage.name].isoformat()
        reasons.append(f"its newest candle is {until}, the newest closed one is {newest}")
    if not reasons and version not in (None, found.version):
        reasons.append("its current version was forced by a run; the plain one takes its place")
    if found.failed:
        reasons.append(f"it is computed again: {found.closed_because}")
    if reasons and stage.source:
        version = None
    if reasons:
        return Step(stage.name, Action.STALE, "; ".join(reasons)), version
    judged = ", and judged again" if found.closed_because else ""
    return Step(stage.name, Action.CURRENT, f"version {found.version} is reused{judged}"), version


def _predict(
    stage: StageFacts, found: Current | None, predicted: Mapping[str, str | None], settings: Settings
) -> str | None:
    if stage.source:
        # What it would read is only known once it runs; what a forced run added does not come again.
        inputs = {name: value for name, value in found.provenance.inputs.items() if name != FORCED} if found else None
    else:
        known = {name: version for name in stage.inputs if (version := predicted.get(name)) is not None}
        inputs = known | _beside(found) if len(known) == len(stage.inputs) else None
    if inputs is None:
        return None
    market = settings.text("CVN_MARKET")
    return Provenance(stage.code_version, inputs, settings.used(stage.settings), market, {}).version


def _beside(found: Current | None) -> dict[str, str]:
    """What was read beside the inputs is taken to be what it was: only a run reads it again."""
    return {name: value for name, value in (found.provenance.inputs if found else {}).items() if name == CONTENT}


def _changes(stage: StageFacts, found: Current, predicted: Mapping[str, str | None], settings: Settings) -> list[str]:
    then, reasons = found.provenance, []
    if then.code_version != stage.code_version:
        reasons.append(f"its code changed from version {then.code_version} to {stage.code_version}")
    now = settings.used(stage.settings)
    reasons += [
        f"{key} changed from {then.settings.get(key, 'nothing')!r} to {now[key]!r}"
        for key in now
        if then.settings.get(key) != now[key]
    ]
    reasons += [
        f"{name} will change"
        for name in stage.inputs
        if not stage.source and predicted.get(name) != then.inputs.get(name)
    ]
    return reasons
