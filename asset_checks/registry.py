"""Whether what is registered is, byte for byte, what the artifact store holds, and MLflow the same."""

import hashlib
import warnings
from typing import Any

import dagster as dg

from asset_checks.breach import Breach
from cvntrade_assets.partitions import CRYPTO
from resources.artifacts import Artifact, ArtifactError, ArtifactStore
from resources.gate import FINGERPRINT, Gate
from resources.model_mirror import MODEL_FILE, MirrorError, ModelMirror, model_files
from resources.registry import ModelVersion, find_model
from resources.warehouse import Warehouse

CHECK = "as_stored"
MEANING = "What is registered is byte for byte what the artifact store holds, and what MLflow mirrors is the same"


def _spec() -> dg.AssetCheckSpec:
    with warnings.catch_warnings():
        # Partitioned checks are a preview in this Dagster; a crypto's verdict must not stand for another's.
        warnings.simplefilter("ignore", dg.PreviewWarning)
        return dg.AssetCheckSpec(CHECK, asset="challenger", description=MEANING, blocking=True, partitions_def=CRYPTO)


@dg.multi_asset_check(
    name="challenger_registry", specs=[_spec()], required_resource_keys={"io_manager", "warehouse", "tracking"}
)
def registry_check(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
    """Read the model file back from both places, and hold it against the registry's checksum."""
    store: ArtifactStore = context.resources.io_manager.store
    crypto = context.partition_key
    version = Gate(context.instance, {}).current_version("challenger", crypto)
    artifact = store.require("challenger", crypto, version)
    found = judge_registration(context.resources.warehouse, store, context.resources.tracking.mirror, artifact)
    return dg.AssetCheckResult(
        passed=found is None,
        asset_key="challenger",
        check_name=CHECK,
        severity=dg.AssetCheckSeverity.WARN if found and found.warns else dg.AssetCheckSeverity.ERROR,
        description=found.message if found else MEANING,
        metadata={"version": version, FINGERPRINT: artifact.fingerprint},
    )


def judge_registration(
    warehouse: Warehouse, store: ArtifactStore, mirror: ModelMirror, artifact: Artifact[Any]
) -> Breach | None:
    """What is wrong with a registration; MLflow is asked for what it mirrors, and warns where it does not answer."""
    crypto, pte = artifact.manifest.crypto, artifact.load().pte
    rolling_version = artifact.manifest.provenance.inputs["rolling_backtest"]
    model = find_model(warehouse, crypto, rolling_version, pte)
    if model is None:
        return Breach(
            f"the registry knows no model of {pte} from rolling backtest {rolling_version}: register it again"
        )
    try:
        # Held until the file is read: with it goes the copy of what stands in object storage.
        rolling = store.require("rolling_backtest", crypto, rolling_version)
        content = model_files(rolling, pte)[MODEL_FILE].read_bytes()
    except ArtifactError as error:
        return Breach(str(error))
    return _differs(model, content, "the artifact store") or _in_mlflow(model, mirror)


def _in_mlflow(model: ModelVersion, mirror: ModelMirror) -> Breach | None:
    if model.mlflow_version is None:
        return None
    where = f"MLflow, version {model.mlflow_version},"
    try:
        return _differs(model, mirror.read_file(model), where)
    except MirrorError as error:
        return Breach(f"{model.name}: {MODEL_FILE} in {where} cannot be read: {error}", warns=True)


def _differs(model: ModelVersion, content: bytes, where: str) -> Breach | None:
    found = hashlib.sha256(content).hexdigest()
    if found == model.model_sha256:
        return None
    return Breach(
        f"{model.name}: {MODEL_FILE} in {where} has sha256 {found}, and {model.model_sha256} is registered; do not use "
        "it, and find out who changed it"
    )
