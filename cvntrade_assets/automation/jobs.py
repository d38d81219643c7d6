"""Jobs for the launchpad: the whole chain, or only its market end."""

import dagster as dg

candles_to_report = dg.define_asset_job(
    "candles_to_report",
    selection=dg.AssetSelection.all(),
    description="From candles to the test report for one crypto; what did not change is reused.",
)

refresh_candles = dg.define_asset_job(
    "refresh_candles",
    selection=dg.AssetSelection.assets("candles", "backtest_candles"),
    description="Fetch what the market traded since the last version, and check it.",
)

JOBS = (candles_to_report, refresh_candles)
