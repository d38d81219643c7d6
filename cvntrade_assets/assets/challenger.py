"""Challenger: the leading candidate, registered; a challenger when every gate passed."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import dagster as dg
import pandas as pd

from cvntrade_assets.assets.stage import Made, Stage, Summary, stage
from resources.artifacts import Artifact
from resources.codecs import StoredRegistration
from resources.evaluation_codecs import StoredEvaluation
from resources.model_mirror import MODEL_FILE, mirror_pending, model_files
from resources.registry import NewModel, Offer, RegistryError, offer_candidate, require_model


def show_registration(stored: StoredRegistration, summary: Summary, stage: Stage) -> Mapping[str, Any]:
    """The way to MLflow, once it shows the model."""
    version = summary["mlflow_version"]
    if not version:
        return {}
    return {"mlflow": dg.MetadataValue.url(stage.resources.tracking.mirror.link(stored.crypto, version))}


@stage(
    settings=(),
    code_version="1",
    group="discovery",
    owner="mlops-maintainer",
    kinds={"postgres", "mlflow"},
    source=True,
    on_demand=True,
    show=show_registration,
)
def challenger(stage: Stage, evaluation: Artifact[StoredEvaluation], rolling_backtest: Artifact[Any]) -> Made:
    """The leading candidate's model in the registry: a challenger when every gate passed, else a candidate.

    Registered is the model of the rolling backtest's last step, byte for byte as the store holds it. Our tables
    decide; MLflow mirrors them, and when it does not answer what it lacks is shown later. What was trained on the
    simulated market keeps that mark and never becomes champion. Running it again changes nothing.
    """
    leading = evaluation.load().leading
    files = model_files(rolling_backtest, leading.pte)
    manifest = rolling_backtest.manifest
    fitted_until, data_until = manifest.summary["model_data_until"][leading.pte], manifest.provenance.data_until
    assert data_until is not None, "candles stand behind a rolling backtest"
    offered = _offer(
        stage,
        NewModel(
            crypto=stage.crypto,
            market=rolling_backtest.market,
            pte=leading.pte,
            rolling_version=rolling_backtest.version,
            model_sha256=manifest.files[files[MODEL_FILE].name],
            evaluation_version=evaluation.version,
            fitted_until=pd.Timestamp(fitted_until).to_pydatetime(),
            data_until=pd.Timestamp(data_until).to_pydatetime(),
        ),
        {gate.name: gate.reason for gate in leading.gates if not gate.passed},
    )
    return _made(stage, offered)


def _offer(stage: Stage, new: NewModel, refusals: dict[str, str]) -> Offer:
    try:
        return offer_candidate(stage.resources.warehouse, new, refusals, "the pipeline", stage.context.run.run_id)
    except RegistryError as error:
        raise dg.Failure(f"challenger of {stage.crypto}: {error}", allow_retries=False) from error


def _made(stage: Stage, offered: Offer) -> Made:
    model = offered.model
    registration = StoredRegistration(
        model.crypto, model.number, model.pte, model.market, str(model.state), model.epoch, model.model_sha256
    )
    content = hashlib.sha256(json.dumps(asdict(registration)).encode()).hexdigest()[:20]
    summary = {**asdict(registration), "reason": offered.reason, **_mirrored(stage, offered)}
    return Made(registration, summary, content)


def _mirrored(stage: Stage, offered: Offer) -> dict[str, Any]:
    """Show in MLflow what it does not show yet of this crypto."""
    warehouse, mirror = stage.resources.warehouse, stage.resources.tracking.mirror
    stage.heartbeat("mirroring the registry to MLflow")
    report = mirror_pending(warehouse, stage.resources.io_manager.store, mirror, stage.crypto)
    for model, why in report.waiting:
        stage.context.log.warning(f"{model.name} is not in MLflow yet, and is tried again: {why}")
    waits = "; ".join(f"{waiting.name}: {why}" for waiting, why in report.waiting)
    return {
        "mlflow_version": require_model(warehouse, offered.model).mlflow_version or "",
        "not_mirrored_yet": waits or "nothing",
    }
