"""The settings that alerts are told by, even when the operators' table cannot be used as a whole."""

import pandas as pd

from cvntrade_assets.settings import Settings, SettingsError, resolve
from resources.warehouse import Warehouse

_OF_ALERTS = ("CVN_ALERT_", "CVN_WATCHDOG_", "CVN_STATE_STALE_MINUTES")


def alert_settings(warehouse: Warehouse, now: pd.Timestamp) -> Settings:
    """What operators set; when that contradicts itself, of it what is about alerts, else the defaults.

    A table that no run can use makes runs and sensors fail, which is told: by the alerts that these settings are for.

    Raises:
        WarehouseError: PostgreSQL did not answer.
    """
    base_env = warehouse.base_env()
    of_alerts = {key: text for key, text in base_env.items() if key.startswith(_OF_ALERTS)}
    for chosen in (base_env, of_alerts):
        try:
            return resolve(base_env=chosen, run={}, now=now)
        except SettingsError:
            continue
    return resolve(base_env={}, run={}, now=now)
