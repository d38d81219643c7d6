"""Validation audit: whether the current model's validation can be believed, from what is stored, not captured again."""

from collections.abc import Mapping
from typing import Any

import dagster as dg
import pandas as pd

from cvntrade_assets.assets.page import table
from cvntrade_assets.assets.stage import Made, Stage, Summary, stage
from cvntrade_assets.learning.from_settings import embargo, fixed_hyperparameters
from cvntrade_assets.market.candles import timeframe_delta
from cvntrade_assets.operations.audit_verdict import (
    Anchor,
    Audit,
    Audited,
    CompleteAudit,
    InconclusiveAudit,
    ProbeResult,
    SkippedAudit,
    SkipRefusedError,
    require_skippable,
)
from resources.artifacts import Artifact, ArtifactError
from resources.codecs import StoredModel

_HEARTBEAT_ROUNDS = 50
_COLUMNS = (("probe", "string"), ("passed", "bool"), ("value", "float"), ("limit", "float"), ("found", "string"))


def show_probes(audit: Audit, summary: Summary, stage: Stage) -> Mapping[str, Any]:
    """What every probe found, as a table."""
    del summary, stage
    if isinstance(audit, InconclusiveAudit):
        return {"reason": audit.reason}
    rows = [
        {"probe": each.name, "passed": each.passed, "value": each.value, "limit": each.limit, "found": each.message}
        for each in audit.probes
    ]
    return {"probes": table(_COLUMNS, rows)}


@stage(
    settings=(
        "CVN_AUDIT_DIAGNOSIS",
        "CVN_S40_SKIP_S22A1_CROSSREF",
        "CVN_EMBARGO_HOURS",
        "CVN_TIMEFRAME",
        "CVN_SEED",
        "CVN_HPO_XGBOOST_*",
    ),
    code_version="1",
    group="evaluation",
    owner="ml-owner",
    kinds={"xgboost"},
    show=show_probes,
    on_demand=True,
)
def validation_audit(stage: Stage, model: Artifact[StoredModel]) -> Made:
    """Probes of the X and y that the current model was validated on, and its second fit (the anchor, S22A1).

    Runs when asked for. CVN_S40_SKIP_S22A1_CROSSREF skips the anchor, where the diagnosis is about X and y only; the
    audit is then a skipped one and certifies no model. What was captured is read from the store: where it is missing
    the audit is inconclusive, and nothing is captured again.
    """
    settings = stage.settings
    subject = Audited(
        settings.text("CVN_AUDIT_DIAGNOSIS"), model.version, model.manifest.provenance.inputs["training_set"]
    )
    skips = settings.flag("CVN_S40_SKIP_S22A1_CROSSREF")
    if skips:
        _require_skippable(subject)
    audit = _audit(stage, model, subject, skips=skips)
    return Made(audit, _summary(audit))


def _require_skippable(subject: Audited) -> None:
    try:
        require_skippable(subject.diagnosis)
    except SkipRefusedError as error:
        raise dg.Failure(f"validation_audit is refused: {error}", allow_retries=False) from error


def _audit(stage: Stage, model: Artifact[StoredModel], subject: Audited, *, skips: bool) -> Audit:
    try:
        captured = _captured(stage, model, "training_set")
        prepared = None if skips else _captured(stage, model, "label_pipeline")
    except ArtifactError as error:
        return InconclusiveAudit(subject, f"what was captured cannot be read, and is not captured again: {error}")
    probes = _probes(stage, captured)
    if prepared is None:
        return SkippedAudit(subject, probes)
    return CompleteAudit(subject, probes, _anchor(stage, model, captured, prepared))


def _captured(stage: Stage, model: Artifact[StoredModel], asset: str) -> Any:
    """The value of exactly the version that the model was made from; ArtifactError when it is not there whole."""
    version = model.manifest.provenance.inputs[asset]
    return stage.resources.io_manager.store.require(asset, stage.crypto, version).load()


def _probes(stage: Stage, captured: Any) -> tuple[ProbeResult, ...]:
    from cvntrade_assets.learning.validation_audit import CapturedRows, run_probes

    settings = stage.settings
    interval: pd.Timedelta = timeframe_delta(settings.text("CVN_TIMEFRAME"))
    seed = settings.whole("CVN_SEED")
    rows = CapturedRows(captured.features, captured.targets, embargo(settings), interval, seed)
    return run_probes(rows, lambda name: stage.heartbeat(f"audit: probe {name}"))


def _anchor(stage: Stage, model: Artifact[StoredModel], captured: Any, prepared: Any) -> Anchor:
    from cvntrade_assets.learning.validation_audit import refit_anchor

    recorded, valid = model.load(), captured.slice("validation")
    fixed = fixed_hyperparameters(stage.settings)
    return refit_anchor(
        recorded.model,
        recorded.reference,
        prepared,
        valid.features,
        valid.targets["label"],
        int(fixed["num_boost_round"]),
        int(fixed["early_stopping_rounds"]),
        lambda index, loss: (
            stage.heartbeat(f"audit: anchor round {index}, validation loss {loss:.5f}")
            if index % _HEARTBEAT_ROUNDS == 0
            else None
        ),
    )


def _summary(audit: Audit) -> dict[str, Any]:
    probes = () if isinstance(audit, InconclusiveAudit) else audit.probes
    return {
        "diagnosis": audit.subject.diagnosis,
        "audit": audit.kind,
        "s22a1_status": audit.s22a1_status,
        "s22a1_anchor_available": audit.s22a1_anchor_available,
        "audited_model": audit.subject.model_version,
        "audited_training_set": audit.subject.training_set_version,
        "probes_asked": len(probes),
        "probes_failed": [probe.name for probe in probes if not probe.passed],
    }
