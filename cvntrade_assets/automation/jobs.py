"""Jobs: the whole chain, the pipelines that operators start by name, and what keeps both in order."""

from typing import Any

import dagster as dg

from cvntrade_assets.operations.pipelines import PIPELINES, Pipeline
from cvntrade_assets.settings import SHORT_NAMES

# Runs when asked for.
AUDIT = dg.AssetSelection.assets("validation_audit")

candles_to_report = dg.define_asset_job(
    "candles_to_report",
    selection=dg.AssetSelection.all() - dg.AssetSelection.groups("operations", "discovery") - AUDIT,
    description="From candles to the test report for one crypto; what did not change is reused.",
)

refresh_candles = dg.define_asset_job(
    "refresh_candles",
    selection=dg.AssetSelection.assets("candles", "backtest_candles"),
    description="Fetch what the market traded since the last version, and check it.",
)

rollout_gate = dg.define_asset_job(
    "rollout_gate",
    selection=dg.AssetSelection.assets("rollout"),
    description="Judge a stage of a factor's staged rollout, and make current again what stood before it.",
)

refresh_guardrail_report = dg.define_asset_job(
    "refresh_guardrail_report",
    selection=dg.AssetSelection.assets("guardrail_report"),
    description="Say from the record of the last sessions whether the guardrails pay.",
)

refresh_morning_report = dg.define_asset_job(
    "refresh_morning_report",
    selection=dg.AssetSelection.assets("morning_report"),
    description="Say how things stand and what to do next, as `cvntrade status` does.",
)

audit_validation = dg.define_asset_job(
    "audit_validation",
    selection=AUDIT,
    description="Audit the validation of the current model of one crypto, from what was stored.",
)

# What the launchpad shows first. It sets nothing: a default repeated here would count as this run's explicit choice,
# and would hide what operators set in base_env.
_EMPTY_CONFIG: dict[str, Any] = {"resources": {"run_settings": {"config": {"settings": {}, "variants": {}}}}}

# The manual's extended run (section 6.2).
_EXAMPLE = """\
resources:
  run_settings:
    config:
      settings:
        horizons: "H1,H2,H3,H4,H5,H6"
        sl_range: "0.8,1.0,1.2,1.5"
        tp_range: "1.5,2.0,2.5,3.0"
        hpo_trials: "50"
        backtest_days: "60"
"""


def _description(pipeline: Pipeline) -> str:
    names = ", ".join(f"`{short}` ({name})" for short, name in SHORT_NAMES.items())
    return (
        f"{pipeline.meaning} The manual's `{pipeline.dag}`.\n\n"
        "One run is one crypto: choose a partition, or several for a run each. In a terminal: "
        f"`cvntrade {pipeline.name} --group G`.\n\n"
        "Settings of this run only stand under `settings`, as texts; whatever is not named keeps the operators' value. "
        f"Every CVN_* key is allowed, and for short {names}:\n\n```yaml\n{_EXAMPLE}```"
    )


PIPELINE_JOBS = {
    name: dg.define_asset_job(
        name,
        selection=dg.AssetSelection.assets(*pipeline.assets),
        config=_EMPTY_CONFIG,
        description=_description(pipeline),
    )
    for name, pipeline in PIPELINES.items()
}

JOBS = (
    candles_to_report,
    refresh_candles,
    rollout_gate,
    refresh_guardrail_report,
    refresh_morning_report,
    audit_validation,
    *PIPELINE_JOBS.values(),
)
