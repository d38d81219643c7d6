"""What is on record of staged rollouts: their gates' verdicts in PostgreSQL, and their runs in Dagster's records."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import dagster as dg
import sqlalchemy as sa
from dagster._core.storage.tags import ROOT_RUN_ID_TAG, RUN_FAILURE_REASON_TAG

from cvntrade_assets.operations.factors import FACTORS
from cvntrade_assets.operations.guardrails import Verdict
from cvntrade_assets.operations.rollout import (
    ROLLOUT_TAG,
    Criterion,
    GateRecord,
    Judgement,
    Measured,
    Noted,
    Outcome,
    RolloutStage,
    RolloutStanding,
    RunFacts,
    Scope,
    StageFacts,
    rollout_tag,
    staged_variants,
    stand,
)
from resources.gate import DATA_VERSION_TAG
from resources.secrets import process_mask
from resources.tables import GUARDRAIL_EVALUATIONS, RESULTS, ROLLOUT_GATES
from resources.warehouse import Warehouse

_HEADLINES = ("f1_buy", "pr_auc", "brier_after", "sortino")
# Failures of the run itself; whatever else ends a worker says so, or nothing at all.
_ORDINARY = frozenset({"STEP_FAILURE", "RUN_EXCEPTION", "JOB_INITIALIZATION_FAILURE"})
_PAGE = 20


def standing(warehouse: Warehouse, variants: Mapping[str, str], rollout_tag: str | None) -> RolloutStanding:
    """Whether a run's variants may run: they need no rollout, belong to one, or their canary passed.

    Args:
        warehouse: Where the gates' verdicts are.
        variants: Factor to variant.
        rollout_tag: The run's tag `cvntrade/rollout`; None when it has none.

    Raises:
        WarehouseError: PostgreSQL did not answer; nothing is asked when no factor needs a rollout.
    """
    staged = staged_variants(variants)
    return stand(variants, read_gates(warehouse, staged) if staged else [], rollout_tag)


def read_gates(warehouse: Warehouse, factors: Iterable[str]) -> list[GateRecord]:
    """The verdicts on record of these factors, newest first."""
    table = ROLLOUT_GATES
    query = sa.select(table).where(table.c.factor.in_(list(factors))).order_by(table.c.id.desc())
    with warehouse.begin() as connection:
        rows = connection.execute(query).mappings().all()
    return [
        GateRecord(
            row["rollout"],
            row["factor"],
            row["definition"],
            RolloutStage(row["stage"]),
            row["crypto_group"],
            row["passed"],
            frozenset(run["variant"] for run in row["runs"]),
        )
        for row in rows
    ]


def record_gate(
    warehouse: Warehouse, rollout: str, factor: str, group: str, judgement: Judgement, runs: Sequence[RunFacts]
) -> None:
    """Append a gate's verdict: every criterion with what was found, and the runs that were judged."""
    row = {
        "rollout": rollout,
        "factor": factor,
        "definition": FACTORS[factor].definition(),
        "stage": str(judgement.stage),
        "crypto_group": group,
        "passed": judgement.passed,
        "reasons": [asdict(criterion) for criterion in judgement.criteria],
        "runs": [
            {"run_id": run.run_id, "crypto": run.crypto, "variant": run.variant, "status": run.status} for run in runs
        ],
    }
    with warehouse.begin() as connection:
        connection.execute(sa.insert(ROLLOUT_GATES).inline(), process_mask().value(row))


def last_judgement(warehouse: Warehouse, rollout: str, stage: RolloutStage) -> tuple[int, Judgement] | None:
    """The newest verdict of a stage's gate and its number, which grows; None when there is none."""
    table = ROLLOUT_GATES
    query = sa.select(table).where(table.c.rollout == rollout, table.c.stage == str(stage))
    with warehouse.begin() as connection:
        row = connection.execute(query.order_by(table.c.id.desc()).limit(1)).mappings().one_or_none()
    if row is None:
        return None
    criteria = (Criterion(**{**each, "outcome": Outcome(each["outcome"])}) for each in row["reasons"])
    return row["id"], Judgement(stage, tuple(criteria))


def stage_facts(
    instance: dg.DagsterInstance, warehouse: Warehouse, rollout: str, factor: str, stage: RolloutStage, scope: Scope
) -> StageFacts:
    """What Dagster's records, the guardrail log and the results say of a stage's runs."""
    runs = run_facts(instance, warehouse, rollout, factor, stage)
    before = [] if stage is not RolloutStage.FULL else run_facts(instance, warehouse, rollout, factor, stage.CANARY)
    wanted = set(scope.pairs)
    return StageFacts(scope.pairs, [run for run in runs if (run.variant, run.crypto) in wanted], before)


def run_facts(
    instance: dg.DagsterInstance, warehouse: Warehouse, rollout: str, factor: str, stage: RolloutStage
) -> list[RunFacts]:
    """The newest run of every variant and crypto with the stage's tag, its retries included, and what it left."""
    newest: dict[tuple[str, str], list[dg.DagsterRun]] = {}
    for run in stage_runs(instance, rollout, stage):
        variant = _variant(run, factor)
        if variant is None:
            continue  # the gate's own run
        attempts = newest.setdefault((variant, run.tags["dagster/partition"]), [])
        if not attempts or _root(run) == _root(attempts[0]):
            attempts.append(run)
    every = [run.run_id for attempts in newest.values() for run in attempts]
    noted, results = _noted(warehouse, every), _results(warehouse, every)
    return [
        _facts(attempts, crypto, variant, noted, results.get(attempts[0].run_id))
        for (variant, crypto), attempts in sorted(newest.items())
    ]


def stage_runs(instance: dg.DagsterInstance, rollout: str, stage: RolloutStage) -> list[dg.DagsterRun]:
    """Every run with a stage's tag, newest first."""
    return list(instance.get_runs(dg.RunsFilter(tags={ROLLOUT_TAG: rollout_tag(rollout, stage)})))


def stood_before(instance: dg.DagsterInstance, runs: Sequence[dg.DagsterRun]) -> list[dg.AssetMaterialization]:
    """What was current, outside any rollout, of everything that these runs have built a version of since.

    What was never built before is left out, and so is what somebody has built anew meanwhile.
    """
    touched = {
        (materialized.asset_key, materialized.partition)
        for run in runs
        for entry in instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION)
        if (materialized := entry.asset_materialization) is not None and materialized.partition is not None
    }
    found = (_stood_before(instance, asset, crypto) for asset, crypto in sorted(touched))
    return [materialized for materialized in found if materialized is not None]


def _stood_before(instance: dg.DagsterInstance, asset: dg.AssetKey, crypto: str) -> dg.AssetMaterialization | None:
    chosen = dg.AssetRecordsFilter(asset_key=asset, asset_partitions=[crypto])
    current: dg.AssetMaterialization | None = None
    cursor: str | None = None
    while True:
        page = instance.fetch_materializations(chosen, limit=_PAGE, cursor=cursor)
        inside = _rollout_runs(instance, {record.run_id for record in page.records})
        for record in page.records:
            materialized = record.asset_materialization
            current = current or materialized
            if materialized is not None and record.run_id not in inside:
                return None if _version(materialized) == _version(current) else materialized
        if not page.has_more:
            return None
        cursor = page.cursor


def _rollout_runs(instance: dg.DagsterInstance, run_ids: Iterable[str]) -> set[str]:
    runs = instance.get_runs(dg.RunsFilter(run_ids=sorted(run_ids)))
    return {run.run_id for run in runs if ROLLOUT_TAG in run.tags}


def _version(materialized: dg.AssetMaterialization | None) -> str | None:
    return None if materialized is None else (materialized.tags or {}).get(DATA_VERSION_TAG)


def _variant(run: dg.DagsterRun, factor: str) -> str | None:
    config: Any = run.run_config
    for name in ("resources", "run_settings", "config", "variants", factor):
        config = config.get(name, {})
    return config or None


def _root(run: dg.DagsterRun) -> str:
    return run.tags.get(ROOT_RUN_ID_TAG, run.run_id)


def _facts(
    attempts: Sequence[dg.DagsterRun],
    crypto: str,
    variant: str,
    noted: Mapping[str, Sequence[Noted]],
    result: Mapping[str, Any] | None,
) -> RunFacts:
    newest = attempts[0]
    return RunFacts(
        newest.run_id,
        crypto,
        variant,
        newest.status.value,
        lost=tuple(reason for run in attempts if (reason := _lost(run))),
        noted=tuple(each for run in attempts for each in noted.get(run.run_id, ())),
        results=0 if result is None else 1,
        sortino=None if result is None else result["sortino"],
        metrics={} if result is None else _metrics(result),
    )


def _lost(run: dg.DagsterRun) -> str | None:
    if run.status is not dg.DagsterRunStatus.FAILURE:
        return None
    reason = run.tags.get(RUN_FAILURE_REASON_TAG)
    if reason in _ORDINARY:
        return None
    told = f"Dagster says {reason}" if reason else "it vanished: out of memory, or ended from outside"
    return f"attempt {run.run_id[:8]} lost its worker ({told})"


def _metrics(result: Mapping[str, Any]) -> dict[str, Measured]:
    return {
        name: Measured(result[name], result.get(f"{name}_low"), result.get(f"{name}_high"))
        for name in _HEADLINES
        if result[name] is not None
    }


def _noted(warehouse: Warehouse, run_ids: Sequence[str]) -> dict[str, list[Noted]]:
    table = GUARDRAIL_EVALUATIONS
    query = sa.select(table.c.run_id, table.c.guardrail, table.c.verdict, table.c.message)
    found: dict[str, list[Noted]] = {}
    with warehouse.begin() as connection:
        for row in connection.execute(query.where(table.c.run_id.in_(run_ids)).order_by(table.c.id)):
            found.setdefault(row.run_id, []).append(Noted(row.guardrail, Verdict(row.verdict), row.message))
    return found


def _results(warehouse: Warehouse, run_ids: Sequence[str]) -> dict[str, Mapping[str, Any]]:
    query = sa.select(RESULTS).where(RESULTS.c.run_id.in_(run_ids))
    with warehouse.begin() as connection:
        return {row["run_id"]: dict(row) for row in connection.execute(query).mappings()}
