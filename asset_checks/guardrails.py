"""Preflight as checks on the training set: what is about to be trained on, judged by the settings of this very run.

A guardrail that can block has a check of its own; those that only warn share one, because every check costs a run its
events.

Unlike a contract's, these verdicts depend on who chose: the same rows are blocked when they merely happened and allowed
when a variant or the run asked for them. So the newest verdict stands, every run that builds on the training set judges
it again, and a stage that is handed one asks once more.
"""

import time
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import dagster as dg

from asset_checks.contract import Subject
from cvntrade_assets.operations.estimates import RunSize, estimate_run
from cvntrade_assets.operations.fitness import unfit_reasons
from cvntrade_assets.operations.guardrails import BLOCKING_PREFLIGHT, GUARDRAILS, PREFLIGHT, Evaluation, Verdict
from cvntrade_assets.operations.masking import Mask
from cvntrade_assets.operations.preflight import preflight, sized
from cvntrade_assets.operations.rollout import ROLLOUT_TAG
from cvntrade_assets.operations.run_pods import training_room_gib
from cvntrade_assets.partitions import CRYPTO
from cvntrade_assets.settings import Settings
from resources.artifacts import ArtifactStore
from resources.gate import FINGERPRINT, Gate
from resources.guardrail_log import Occasion, record_evaluations, session_of
from resources.rollouts import standing
from resources.secrets import process_mask

ASSET = "training_set"
WARNINGS = "preflight_warnings"
# Which guardrails each check evaluates.
CHECKS: Mapping[str, tuple[str, ...]] = {
    **{name: (name,) for name in BLOCKING_PREFLIGHT},
    WARNINGS: tuple(name for name in PREFLIGHT if name not in BLOCKING_PREFLIGHT),
}
_FINE = (Verdict.PASSED, Verdict.ALLOWED)
# That a run's settings hold together is known once it has any.
_SETTINGS_VALID = Evaluation("settings_valid", Verdict.PASSED, GUARDRAILS["settings_valid"].meaning)


def preflight_checks(used_keys: Collection[str]) -> dg.AssetChecksDefinition:
    """The checks, evaluated together in one step; every guardrail's evaluation is recorded.

    Args:
        used_keys: The keys that some asset reads; one that ends in `*` stands for all that begin so.
    """

    @dg.multi_asset_check(
        name=f"{ASSET}_preflight",
        specs=_specs(),
        can_subset=True,
        required_resource_keys={"io_manager", "run_settings", "warehouse"},
    )
    def evaluate(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
        began = time.perf_counter()
        settings, warehouse, run = context.resources.run_settings, context.resources.warehouse, context.run
        store: ArtifactStore = context.resources.io_manager.store
        crypto = context.partition_key
        version = Gate(context.instance, {}).current_version(ASSET, crypto)
        subject = Subject(store.require(ASSET, crypto, version), store)
        _require_own(subject, settings)
        chosen = {name for key in context.selected_asset_check_keys for name in CHECKS[key.name]}
        size = stored_size(subject, settings)
        rollout = standing(warehouse, settings.variants, run.tags.get(ROLLOUT_TAG))
        pod_gib = training_room_gib(run.tags, settings)
        judged = preflight(size, settings, used_keys=used_keys, rollout=rollout, pod_gib=pod_gib)
        evaluations = [each for each in judged if each.guardrail in chosen]
        occasion = Occasion(run.run_id, crypto, session_of(run.run_id, run.tags), settings.variants, "check")
        # Before any verdict counts: what is not on record has not been judged.
        record_evaluations(warehouse, occasion, [_SETTINGS_VALID, *evaluations], time.perf_counter() - began)
        yield from results(evaluations, subject, size, settings)

    return evaluate


def _require_own(subject: Subject, settings: Settings) -> None:
    """Judge no run's choice by the settings of another; the verdict that there is stays as it is.

    Raises:
        dg.Failure: the training set was built with other settings than this run's.
    """
    reasons = unfit_reasons({ASSET: subject.manifest.provenance}, {}, settings)
    if reasons:
        raise dg.Failure(
            f"preflight judges what a run chose, and this run did not choose what it is shown: {'; '.join(reasons)}. "
            "Run it with the settings that the training set was built with, or build the training set in this run too.",
            allow_retries=False,
        )


def stored_size(subject: Subject, settings: Settings) -> RunSize:
    """The size of a run on a stored training set, counted from its files and those of its candles."""
    import pyarrow.parquet as pq

    slices = subject.table("targets.parquet")["slice"]
    schema = pq.read_schema(subject.folder / "features.parquet")
    offered = len(set(schema.names) - set(schema.pandas_metadata["index_columns"]))
    candles = subject.store.require("candles", subject.manifest.crypto, subject.manifest.provenance.inputs["candles"])
    rows = pq.read_metadata(candles.folder / "table.parquet").num_rows
    return sized(rows, int((slices == "train").sum()), offered, settings)


def results(
    evaluations: Sequence[Evaluation], subject: Subject, size: RunSize, settings: Settings
) -> Iterator[dg.AssetCheckResult]:
    """The evaluations as Dagster shows them; nothing secret is among them."""
    estimate = estimate_run(size, settings)
    shared: dict[str, Any] = {
        "version": subject.artifact.version,
        FINGERPRINT: subject.artifact.fingerprint,
        "train_rows": size.train_rows,
        "model_features": size.model_features,
        "estimated_memory_gib": round(estimate.memory_gib, 3),
        "estimated_minutes": round(estimate.minutes, 3),
    }
    mask = process_mask()
    for check, guardrails in CHECKS.items():
        if of_check := [each for each in evaluations if each.guardrail in guardrails]:
            yield dg.AssetCheckResult(
                passed=all(each.verdict in _FINE for each in of_check),
                asset_key=ASSET,
                check_name=check,
                severity=dg.AssetCheckSeverity.ERROR
                if any(each.stops for each in of_check)
                else dg.AssetCheckSeverity.WARN,
                description=mask.text("; ".join(each.message for each in of_check)),
                metadata={**shared, **_told(check, of_check, mask)},
            )


def _told(check: str, evaluations: Sequence[Evaluation], mask: Mask) -> dict[str, Any]:
    """What is known of each evaluation; a check of several guardrails puts each one's name before it."""
    return {
        (name if check == each.guardrail else f"{each.guardrail}: {name}"): value
        for each in evaluations
        for name, value in _details(each, mask).items()
    }


def _details(evaluation: Evaluation, mask: Mask) -> dict[str, Any]:
    numbers = {"value": evaluation.value, "limit": evaluation.limit}
    reason = evaluation.override_reason
    return {
        **{name: float(number) for name, number in numbers.items() if number is not None},
        "verdict": str(evaluation.verdict),
        "explicit": evaluation.explicit,
        "layer": evaluation.layer or "none",
        **({} if reason is None else {"override_reason": mask.text(reason)}),
    }


def _specs() -> list[dg.AssetCheckSpec]:
    with warnings.catch_warnings():
        # Partitioned checks are a preview in this Dagster; without them one crypto's verdict would stand for all.
        warnings.simplefilter("ignore", dg.PreviewWarning)
        return [
            dg.AssetCheckSpec(
                check,
                asset=ASSET,
                description="; ".join(GUARDRAILS[name].meaning for name in guardrails),
                blocking=check != WARNINGS,
                partitions_def=CRYPTO,
            )
            for check, guardrails in CHECKS.items()
        ]
