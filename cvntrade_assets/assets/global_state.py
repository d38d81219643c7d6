"""Global state: GREEN, YELLOW, ORANGE or RED, with its reasons and the signals of the platform."""

import dagster as dg
import pandas as pd

from resources.signal_store import newest_state, read_now
from resources.signal_verdicts import (
    GLOBAL_STATE,
    PLATFORM_SIGNALS,
    STATE_CHECK,
    platform_verdicts,
    spec_texts,
    state_page,
)

_CHECKS = {
    STATE_CHECK: "The state is GREEN; YELLOW and no state are warnings, ORANGE and RED errors",
    **spec_texts(PLATFORM_SIGNALS),
}


# Dagster recognises the bare class only, once an asset judges itself.
@dg.asset(
    name=GLOBAL_STATE,
    code_version="1",
    group_name="operations",
    owners=["team:mlops-maintainer"],
    kinds={"postgres"},
    required_resource_keys={"run_settings", "warehouse"},
    check_specs=[dg.AssetCheckSpec(name, asset=GLOBAL_STATE, description=meaning) for name, meaning in _CHECKS.items()],
)
def global_state(context: dg.AssetExecutionContext) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """How things stand as a whole, as the sensor `golden_signals_watch` last computed it; it shows changes by itself.

    Materialising shows what is stored now. A state or an observation that is too old says nothing, and is unknown.
    """
    warehouse, settings, now = context.resources.warehouse, context.resources.run_settings, pd.Timestamp.now("UTC")
    counted = [each.counted(now, settings) for each in read_now(warehouse)]
    newest = newest_state(warehouse)
    state = None if newest is None or newest.is_stale(now, settings) else newest
    return dg.MaterializeResult(
        metadata=state_page(counted, state),
        check_results=[verdict.result() for verdict in platform_verdicts(counted, state)],
    )
