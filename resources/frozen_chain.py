"""The chain's frozen model of a crypto, read beside the graph: which versions belong together, and what they hold.

Read so, and not as inputs, because a crypto whose chain was never built, or is being built anew, is none whose
monitoring fails: what reads it says why it has nothing to say.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import dagster as dg

from cvntrade_assets.operations.drift_evidence import Learnt
from cvntrade_assets.operations.fitness import unfit_reasons
from cvntrade_assets.settings import Settings
from resources.artifacts import Artifact, ArtifactError, ArtifactStore
from resources.gate import GateClosedError
from resources.io_manager import ArtifactIOManager

_FROZEN = ("training_set", "model", "calibration")
# What the training set was cut from.
_CUT_FROM = ("features", "labels")


@dataclass(frozen=True)
class FrozenChain:
    """Versions that belong together: those of a frozen model, and of what its training set was cut from."""

    training_set: str
    model: str
    calibration: str
    features: str
    labels: str


class NoChainError(RuntimeError):
    """There is no frozen model to be read; the message says why, and what builds it."""


def current_chain(
    io_manager: ArtifactIOManager, instance: dg.DagsterInstance, crypto: str, settings: Settings
) -> FrozenChain:
    """The current versions, each as fit for use as an input of the graph would have to be.

    Raises:
        NoChainError: one was never built, a check refused it, or they belong to another run, setting or moment.
    """
    gate, found = io_manager.gate(instance), dict[str, Artifact[Any]]()
    try:
        for asset in _FROZEN:
            artifact = io_manager.store.require(asset, crypto, gate.current_version(asset, crypto))
            gate.require_open(asset, crypto, artifact.version, artifact.fingerprint)
            found[asset] = artifact
        cut_from = _versions_before(io_manager.store, crypto, found["training_set"])
    except (GateClosedError, ArtifactError) as error:
        raise NoChainError(f"there is no model of the chain to compare with: {error}") from error
    provenances = {asset: artifact.manifest.provenance for asset, artifact in found.items()}
    versions = {asset: artifact.version for asset, artifact in found.items()}
    reasons = unfit_reasons(provenances, versions, settings)
    if reasons:
        raise NoChainError(
            f"the chain's model is not one to compare with: {'; '.join(reasons)}. Build it again with "
            f"`cvntrade backfill --crypto {crypto}`."
        )
    return FrozenChain(**versions, **cut_from)


def _versions_before(store: ArtifactStore, crypto: str, training_set: Artifact[Any]) -> dict[str, str]:
    made_from: Mapping[str, str] = training_set.manifest.provenance.inputs
    return {asset: store.require(asset, crypto, made_from[asset]).version for asset in _CUT_FROM}


def learnt(store: ArtifactStore, crypto: str, chain: FrozenChain) -> Learnt:
    """What these versions hold.

    Raises:
        ArtifactError: a file is not what was published, or is gone.
    """

    def load(asset: str) -> Any:
        return store.require(asset, crypto, getattr(chain, asset)).load()

    return Learnt(
        model=load("model").model,
        calibration=load("calibration").calibration,
        features=load("features"),
        labels=load("labels"),
        targets=load("training_set").targets,
    )
