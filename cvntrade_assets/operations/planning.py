"""What would run for one crypto and why: missing, stale or forced, worked out from versions, running nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import pandas as pd

from cvntrade_assets.operations.provenance import FORCED, Provenance
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


@dataclass(frozen=True)
class Current:
    """What stands in the store for one asset and crypto.

    Attributes:
        version: The current version.
        provenance: What it was made of.
        data_until: Open time of its newest candle, for a source.
        closed_because: Why the gate refuses it; None when it is open.
    """

    version: str
    provenance: Provenance
    data_until: pd.Timestamp | None
    closed_because: str | None


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
    predicted = {name: found.version for name, found in current.items()}
    steps: list[Step] = []
    for stage in stages:
        step, version = _plan_stage(stage, current.get(stage.name), predicted, settings, newest_candle, force)
        steps.append(step)
        if version is None:
            predicted.pop(stage.name, None)
        else:
            predicted[stage.name] = version
    return steps


def _plan_stage(
    stage: StageFacts,
    found: Current | None,
    predicted: Mapping[str, str],
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
    if reasons and stage.source:
        version = None
    if reasons:
        return Step(stage.name, Action.STALE, "; ".join(reasons)), version
    if found.closed_because:
        return Step(stage.name, Action.REFUSED, found.closed_because), version
    return Step(stage.name, Action.CURRENT, f"version {found.version} is reused"), version


def _predict(stage: StageFacts, found: Current | None, predicted: Mapping[str, str], settings: Settings) -> str | None:
    if stage.source:
        # What it would read is only known once it runs; what a forced run added does not come again.
        inputs = {name: value for name, value in found.provenance.inputs.items() if name != FORCED} if found else None
    else:
        inputs = {name: predicted[name] for name in stage.inputs} if set(stage.inputs) <= set(predicted) else None
    if inputs is None:
        return None
    market = settings.text("CVN_MARKET")
    return Provenance(stage.code_version, inputs, settings.used(stage.settings), market, {}).version


def _changes(stage: StageFacts, found: Current, predicted: Mapping[str, str], settings: Settings) -> list[str]:
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
