"""Morning report: what `cvntrade status` prints, as a page in the UI."""

from typing import Any

import dagster as dg
import pandas as pd

from cvntrade_assets.operations.morning import morning
from cvntrade_assets.operations.morning_page import masked
from cvntrade_assets.operations.morning_text import markdown
from resources.morning_facts import read_morning
from resources.secrets import process_mask


@dg.asset(
    code_version="1",
    group_name="operations",
    owners=["team:operator"],
    kinds={"postgres"},
    required_resource_keys={"warehouse"},
)
def morning_report(context: dg.AssetExecutionContext) -> dg.MaterializeResult[Any]:
    """How things stand: state and reasons, platform, pipelines, candidates, freshness, alerts, and what to do next."""
    # Paths in place of addresses: the page is read in the UI that they lead into.
    facts = read_morning(context.resources.warehouse, pd.Timestamp.now("UTC"), ui_url="")
    found = masked(morning(facts), process_mask().text)
    return dg.MaterializeResult(
        metadata={
            "state": "UNKNOWN" if found.state is None else str(found.state),
            "needs_somebody": found.needs_somebody,
            "report": dg.MetadataValue.md(markdown(found)),
        }
    )
