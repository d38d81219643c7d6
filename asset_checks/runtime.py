"""What a run took, as a check on the last thing it makes: shown per crypto beside what the run came to.

Slow stages were flagged while they ran; this is the sum, from the run's own times and what the watch wrote down of it.
"""

import time
import warnings
from typing import Any

import dagster as dg
import pandas as pd

from cvntrade_assets.operations.guardrails import GUARDRAILS, Evaluation, Verdict
from cvntrade_assets.operations.run_watch import judge_duration
from cvntrade_assets.partitions import CRYPTO
from resources.gate import Gate
from resources.guardrail_log import record_evaluations
from resources.run_facts import SeenRun, recorded
from resources.secrets import process_mask

ASSET, GUARDRAIL = "test_report", "run_in_time"


def _spec() -> dg.AssetCheckSpec:
    with warnings.catch_warnings():
        # Partitioned checks are a preview in this Dagster; without them one crypto's verdict would stand for all.
        warnings.simplefilter("ignore", dg.PreviewWarning)
        return dg.AssetCheckSpec(
            GUARDRAIL, asset=ASSET, description=GUARDRAILS[GUARDRAIL].meaning, blocking=False, partitions_def=CRYPTO
        )


@dg.multi_asset_check(
    name=f"{ASSET}_runtime",
    specs=[_spec()],
    can_subset=True,
    required_resource_keys={"run_settings", "warehouse"},
)
def runtime_check(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
    """Judge and record what the run has taken so far; a warning never stops anything."""
    began = time.perf_counter()
    settings, warehouse = context.resources.run_settings, context.resources.warehouse
    run_id = context.run.run_id
    record = context.instance.get_run_record_by_id(run_id)
    assert record is not None
    seen = SeenRun(context.instance, record, pd.Timestamp.now("UTC"))
    known = recorded(warehouse, [run_id])
    judged = judge_duration(seen.taken(), settings)
    if (run_id, GUARDRAIL, str(judged.verdict), "") not in known:
        record_evaluations(warehouse, seen.occasion(settings, "check"), [judged], time.perf_counter() - began)
    slow = sorted(stage for _, guardrail, _, stage in known if guardrail == "stage_in_time")
    version = seen.version(ASSET) or Gate(context.instance, {}).current_version(ASSET, context.partition_key)
    return _result(judged, version, slow, seen.stage_seconds())


def _result(judged: Evaluation, version: str, slow: list[str], seconds: dict[str, float]) -> dg.AssetCheckResult:
    metadata: dict[str, Any] = {
        "version": version,
        "verdict": str(judged.verdict),
        "explicit": judged.explicit,
        "layer": judged.layer or "none",
        "minutes": judged.value,
        "limit_minutes": judged.limit,
        "flagged_stages": dg.MetadataValue.json(slow),
        "stage_seconds": dg.MetadataValue.json(seconds),
    }
    return dg.AssetCheckResult(
        passed=judged.verdict in (Verdict.PASSED, Verdict.ALLOWED),
        asset_key=ASSET,
        check_name=GUARDRAIL,
        severity=dg.AssetCheckSeverity.WARN,
        description=process_mask().text(judged.message),
        metadata=metadata,
    )
