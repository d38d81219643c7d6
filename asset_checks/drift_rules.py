"""What a drift report must keep, computed again from the stored inputs, and what its level says to operators."""

import warnings
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import dagster as dg
import numpy as np

from asset_checks.breach import Breach, Offender
from asset_checks.contract import Rule, Subject
from cvntrade_assets.operations.drift import judge, unknown
from cvntrade_assets.operations.drift_evidence import TooLittleError
from cvntrade_assets.operations.drift_look import LOOK_SETTINGS, drift_limits, look_at
from cvntrade_assets.operations.signals import Level
from cvntrade_assets.partitions import CRYPTO
from resources.artifacts import ArtifactStore
from resources.frozen_chain import FrozenChain, learnt
from resources.gate import FINGERPRINT, Gate

if TYPE_CHECKING:
    from cvntrade_assets.operations.drift import DriftReport
    from cvntrade_assets.operations.drift_evidence import Learnt

ASSET, CHECK = "drift", "no_drift"
MEANING = "The newest candles are such as the model knows: drift warns, much of it fails, and not to know warns"

_SAME = 1e-9


def numbers_are_measured(subject: Subject) -> Breach | str | None:
    """Every number is what the stored features, labels and model give."""
    said = subject.value.report
    then = _learnt(subject)
    if then is None:
        return None if said == unknown(said.reason) else "there was no model to compare with, and numbers are given"
    try:
        _, found = look_at(
            then, subject.upstream("features"), subject.upstream("labels"), subject.settings(LOOK_SETTINGS)
        )
    except TooLittleError as error:
        found = unknown(str(error))
    wrong = list(_otherwise("", asdict(said), asdict(found)))
    if not wrong:
        return None
    listed = ", ".join(f"{each.column} {each.value}, expected {each.demand}" for each in wrong[:3])
    return Breach(f"{len(wrong)} numbers are not those of the stored candles and model: {listed}", tuple(wrong))


def window_is_unseen(subject: Subject) -> Breach | str | None:
    """The window lies after everything that the training set knows, and ends with the newest candle."""
    said, then = subject.value.report, _learnt(subject)
    if then is None or said.window_from is None:
        return None
    newest = subject.upstream("features").index[-1]
    if said.window_from < then.known_until or said.window_to != newest:
        return (
            f"the window goes from {said.window_from} to {said.window_to}; expected one from {then.known_until} at the "
            f"earliest, where the training set's knowledge ends, to the newest candle, {newest}"
        )
    return None


def level_follows_the_numbers(subject: Subject) -> Breach | str | None:
    """The level is what the report's own numbers and the limits of the settings give."""
    report = subject.value.report
    expected = _judged(report, subject)
    return None if report.level is expected else f"the level is {report.level}, the numbers give {expected}"


DRIFT_RULES = (
    Rule("as_measured", "Numbers are those of the stored candles and model", numbers_are_measured),
    Rule("unseen", "The window is newer than anything that the model knows", window_is_unseen),
    Rule("level", "The level follows from the numbers and the limits", level_follows_the_numbers),
)


def _spec() -> dg.AssetCheckSpec:
    with warnings.catch_warnings():
        # Partitioned checks are a preview in this Dagster; a crypto's verdict must not stand for another's.
        warnings.simplefilter("ignore", dg.PreviewWarning)
        return dg.AssetCheckSpec(CHECK, asset=ASSET, description=MEANING, partitions_def=CRYPTO)


@dg.multi_asset_check(name="drift_level", specs=[_spec()], required_resource_keys={"io_manager"})
def drift_check(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
    """Pass on what the report came to: critical fails, warning and unknown warn. It stops nothing."""
    store: ArtifactStore = context.resources.io_manager.store
    crypto = context.partition_key
    version = Gate(context.instance, {}).current_version(ASSET, crypto)
    artifact = store.require(ASSET, crypto, version)
    return verdict_of(artifact.load().report, version, artifact.fingerprint)


def verdict_of(report: "DriftReport", version: str, fingerprint: str) -> dg.AssetCheckResult:
    """The report's level as a check's verdict."""
    critical = report.level is Level.CRITICAL
    metadata: dict[str, Any] = {"version": version, FINGERPRINT: fingerprint, "level": str(report.level)}
    if report.share is not None:
        metadata["share"] = report.share
    return dg.AssetCheckResult(
        passed=report.level is Level.OK,
        asset_key=ASSET,
        check_name=CHECK,
        severity=dg.AssetCheckSeverity.ERROR if critical else dg.AssetCheckSeverity.WARN,
        description=f"{report.level}: {report.reason}",
        metadata=metadata,
    )


def _learnt(subject: Subject) -> "Learnt | None":
    """What the model was made from, read once for all rules; None where there was no model."""
    chain = subject.value.chain
    if not chain:
        return None
    return learnt(subject.store, subject.manifest.crypto, FrozenChain(**chain))


def _judged(report: "DriftReport", subject: Subject) -> Level:
    if not report.columns:
        return Level.UNKNOWN
    pair = (report.buy_rate, report.calibration)
    outcomes = [outcome for outcome in pair if outcome is not None]
    return judge(report.columns, outcomes or None, drift_limits(subject.settings(LOOK_SETTINGS)))


def _otherwise(place: str, said: Any, found: Any) -> list[Offender]:
    """Everything in which two reports differ, by its place in them."""
    if isinstance(found, dict) and isinstance(said, dict) and said.keys() == found.keys():
        return [each for name in found for each in _otherwise(f"{place}.{name}".lstrip("."), said[name], found[name])]
    if isinstance(found, list | tuple) and isinstance(said, list | tuple) and len(said) == len(found):
        pairs = zip(said, found, strict=True)
        return [each for i, (one, other) in enumerate(pairs) for each in _otherwise(f"{place}[{i}]", one, other)]
    if isinstance(found, float) and isinstance(said, float):
        same = bool(np.isclose(said, found, rtol=_SAME, atol=_SAME))
    else:
        same = said == found
    return [] if same else [Offender(place, "", str(said), str(found))]
