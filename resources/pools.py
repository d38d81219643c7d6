"""Pools: how many stages may ask the exchange, or fit models, at the same time, whichever run they are of.

The assets say which pool they take a place of; how many places there are, Dagster's storage says.
"""

import dagster as dg

from cvntrade_assets.operations.run_pods import EXCHANGE_POOL, TRAINING_POOL
from cvntrade_assets.settings import Settings

_ENOUGH = 1000
"""As many places as anybody may want."""


def apply_pool_limits(instance: dg.DagsterInstance, settings: Settings) -> dict[str, int]:
    """Give every pool the places that the settings say; what holds a place keeps it. Returns what is now.

    Where the market is simulated nobody asks the exchange, and nobody has to wait for it.

    Args:
        instance: Whose storage.
        settings: The operators'.
    """
    asks = settings.text("CVN_MARKET") == "binance"
    limits = {
        EXCHANGE_POOL: settings.whole("CVN_POOL_EXCHANGE") if asks else _ENOUGH,
        TRAINING_POOL: settings.whole("CVN_POOL_TRAINING"),
    }
    storage = instance.event_log_storage
    before = {each.name: each.limit for each in storage.get_pool_limits() if not each.from_default}
    for pool, limit in limits.items():
        if before.get(pool) != limit:
            storage.set_concurrency_slots(pool, limit)
    return limits
