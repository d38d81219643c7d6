"""Jobs: the whole chain, only its market end, the gates of a rollout, the audit, and the report on the guardrails."""

import dagster as dg

# Runs when asked for.
AUDIT = dg.AssetSelection.assets("validation_audit")

candles_to_report = dg.define_asset_job(
    "candles_to_report",
    selection=dg.AssetSelection.all() - dg.AssetSelection.groups("operations") - AUDIT,
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

audit_validation = dg.define_asset_job(
    "audit_validation",
    selection=AUDIT,
    description="Audit the validation of the current model of one crypto, from what was stored.",
)

JOBS = (candles_to_report, refresh_candles, rollout_gate, refresh_guardrail_report, audit_validation)
