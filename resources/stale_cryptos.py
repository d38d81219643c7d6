"""Cryptos whose candles or model are too old, as the signals say, and since when they were last known not to be."""

from collections.abc import Collection, Mapping

import pandas as pd
import sqlalchemy as sa

from cvntrade_assets.settings import resolve
from resources.warehouse import Warehouse

# An unknown level says nothing: what was stale stays it until it is seen to be fresh.
_STALE = sa.text("""
    select signal, subject, (
        select max(observed_at) from signal_points as points
        where points.signal = signals_now.signal and points.subject = signals_now.subject
            and points.level in ('ok', 'warning')
    ) as fresh_at
    from signals_now
    where signal = any(:signals) and level = 'critical' and observed_at >= :oldest
""")

Stale = Mapping[str, Mapping[str, pd.Timestamp | None]]
"""By signal and crypto, when it was last seen to be fresh; None when it never was."""


def stale_cryptos(warehouse: Warehouse, signals: Collection[str], now: pd.Timestamp) -> Stale:
    """Every crypto of which one of these signals is critical; an observation that is too old says nothing.

    Args:
        warehouse: Where the signals stand.
        signals: Their names.
        now: Wall clock, UTC.

    Raises:
        WarehouseError: PostgreSQL does not answer, or lacks our tables.
        SettingsError: the operators' settings are not valid.
    """
    settings = resolve(base_env=warehouse.base_env(), run={}, now=now)
    oldest = now - pd.Timedelta(minutes=settings.number("CVN_STATE_STALE_MINUTES"))
    stale: dict[str, dict[str, pd.Timestamp | None]] = {signal: {} for signal in signals}
    with warehouse.begin() as connection:
        for row in connection.execute(_STALE, {"signals": list(signals), "oldest": oldest.to_pydatetime()}):
            stale[row.signal][row.subject] = None if row.fresh_at is None else pd.Timestamp(row.fresh_at)
    return stale
