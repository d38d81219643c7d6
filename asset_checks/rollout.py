"""The gates of a staged rollout: each stage's is a check, judged from what is on record of its runs."""

import time
import warnings
from collections.abc import Iterator
from typing import Any

import dagster as dg

from cvntrade_assets.operations.guardrails import Evaluation, Verdict
from cvntrade_assets.operations.rollout import Judgement, Outcome, RolloutStage, judge, scope_of
from cvntrade_assets.partitions import FACTOR
from resources.guardrail_log import Occasion, record_evaluations, session_of
from resources.rollouts import record_gate, stage_facts
from resources.warehouse import Warehouse

_MEANINGS = {
    RolloutStage.PREFLIGHT: "one variant on one crypto, up to the training set: nothing blocks, rows, memory and "
    "minutes are within bounds",
    RolloutStage.CANARY: "every variant on one crypto, the whole chain: no lost worker, no guardrail alert, a Sortino "
    "ratio above 0",
    RolloutStage.FULL: "every variant on every crypto of the group: no guardrail alert, metrics inside their intervals",
}


def gate_name(stage: RolloutStage) -> str:
    """The name of a stage's check."""
    return f"{stage}_gate"


def _specs() -> list[dg.AssetCheckSpec]:
    with warnings.catch_warnings():
        # Partitioned checks are a preview in this Dagster; a factor's verdict must not stand for another's.
        warnings.simplefilter("ignore", dg.PreviewWarning)
        return [
            dg.AssetCheckSpec(gate_name(stage), asset="rollout", description=meaning, partitions_def=FACTOR)
            for stage, meaning in _MEANINGS.items()
        ]


@dg.multi_asset_check(name="rollout_gates", specs=_specs(), can_subset=True, required_resource_keys={"warehouse"})
def rollout_gates(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
    """Judge the stage that the asset says was run, and no other."""
    started = time.perf_counter()
    warehouse: Warehouse = context.resources.warehouse
    factor, told, run = context.partition_key, _told(context), context.run
    rollout, stage, group = str(told["rollout"]), RolloutStage(told["stage"]), str(told["group"])
    if gate_name(stage) not in {key.name for key in context.selected_asset_check_keys}:
        return
    scope = scope_of(stage, told["variants"], warehouse.group(group))
    facts = stage_facts(context.instance, warehouse, rollout, factor, stage, scope)
    judgement = judge(stage, facts)
    record_gate(warehouse, rollout, factor, group, judgement, facts.runs)
    variants = {factor: ", ".join(scope.variants)}
    occasion = Occasion(run.run_id, None, session_of(run.run_id, run.tags), variants, "rollout")
    record_evaluations(warehouse, occasion, [_evaluation(judgement)], time.perf_counter() - started)
    yield _result(judgement, rollout)


def _told(context: dg.AssetCheckExecutionContext) -> dict[str, Any]:
    """What the newest materialization of this factor says: which stage of which rollout."""
    chosen = dg.AssetRecordsFilter(asset_key=dg.AssetKey("rollout"), asset_partitions=[context.partition_key])
    records = context.instance.fetch_materializations(chosen, limit=1).records
    materialized = records[0].asset_materialization if records else None
    if materialized is None:
        raise dg.Failure(
            f"no stage of a rollout of {context.partition_key} was run, so there is none to judge; "
            f"run `cvntrade rollout --factor {context.partition_key} --group GROUP`.",
            allow_retries=False,
        )
    return {name: value.value for name, value in materialized.metadata.items()}


def _evaluation(judgement: Judgement) -> Evaluation:
    verdict = Verdict.PASSED if judgement.passed else Verdict.BLOCKED
    return Evaluation(
        f"rollout_{judgement.stage}", verdict, judgement.summary, value=float(len(judgement.failed)), limit=0.0
    )


def _result(judgement: Judgement, rollout: str) -> dg.AssetCheckResult:
    rows = [
        dg.TableRecord(
            {
                "criterion": each.name,
                "verdict": str(each.outcome),
                "demand": each.demand,
                "found": each.found,
                "to do": each.advice if each.outcome is Outcome.FAILED else "",
            }
        )
        for each in judgement.criteria
    ]
    return dg.AssetCheckResult(
        passed=judgement.passed,
        asset_key="rollout",
        check_name=gate_name(judgement.stage),
        severity=dg.AssetCheckSeverity.ERROR,
        description=judgement.summary,
        metadata={"rollout": rollout, "criteria": dg.MetadataValue.table(rows)},
    )
