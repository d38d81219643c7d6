"""The IO manager: publishes what an asset drafted, and opens the gate before it hands an input out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import dagster as dg

from cvntrade_assets.operations.provenance import Provenance
from resources.artifacts import Artifact, ArtifactError, ArtifactStore
from resources.codecs import CODECS
from resources.gate import Gate, GateClosedError
from resources.warehouse import Warehouse


@dataclass(frozen=True)
class Draft:
    """A freshly computed value with its provenance, on its way into the store."""

    provenance: Provenance
    value: object
    summary: Mapping[str, Any] = field(default_factory=dict)


class ArtifactIOManager(dg.IOManager):
    """Stores drafts as versions, passes reused artifacts through, and loads inputs as lazy, gated handles."""

    def __init__(self, store: ArtifactStore, blocking_checks: Mapping[str, Sequence[str]]) -> None:
        self.store = store
        self._blocking_checks = blocking_checks

    def gate(self, instance: dg.DagsterInstance) -> Gate:
        """The gate over an instance's event log."""
        return Gate(instance, self._blocking_checks)

    def handle_output(self, context: dg.OutputContext, obj: Draft | Artifact[Any]) -> None:
        """Publish a draft; an artifact that already exists needs nothing."""
        if isinstance(obj, Draft):
            asset, crypto = context.asset_key.to_user_string(), context.partition_key
            artifact = self.store.publish(asset, crypto, obj.provenance, obj.value, obj.summary, context.run_id)
            context.add_output_metadata({"location": dg.MetadataValue.path(artifact.location), "bytes": artifact.size})

    def load_input(self, context: dg.InputContext) -> Artifact[Any]:
        """The upstream's current version, as a handle that reads on demand.

        Raises:
            dg.Failure: the gate is closed; never retried, because a retry would meet the same verdict.
        """
        gate = self.gate(context.instance)
        asset, crypto = context.asset_key.to_user_string(), context.partition_key
        reader = _reader(context)
        try:
            artifact = self.store.require(asset, crypto, gate.current_version(asset, crypto, reader))
            gate.require_open(asset, crypto, artifact.version, artifact.fingerprint, reader)
            return artifact
        except (GateClosedError, ArtifactError) as error:
            raise dg.Failure(
                description=str(error),
                metadata={"refused_input": asset, "crypto": crypto},
                allow_retries=False,
            ) from error


def _reader(context: dg.InputContext) -> str | None:
    """The asset whose stage loads the input; None when somebody loads it by hand."""
    try:
        return str(context.op_def.name)
    except dg.DagsterInvariantViolationError:
        return None


class ArtifactIOManagerResource(dg.ConfigurableIOManagerFactory[ArtifactIOManager]):
    """Builds the IO manager from the store's root, the warehouse and the names of every asset's blocking checks."""

    root: str
    warehouse: dg.ResourceDependency[Warehouse]
    blocking_checks: dict[str, list[str]]

    def create_io_manager(self, context: dg.InitResourceContext) -> ArtifactIOManager:
        """The IO manager of one run."""
        del context
        try:
            store = ArtifactStore(self.root, self.warehouse, CODECS)
        except ArtifactError as error:
            raise dg.Failure(str(error), allow_retries=False) from error
        return ArtifactIOManager(store, self.blocking_checks)
