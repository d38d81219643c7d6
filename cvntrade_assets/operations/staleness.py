"""When something observed is too old to say how things stand."""

import pandas as pd

from cvntrade_assets.settings import Settings


def is_stale(observed_at: pd.Timestamp, now: pd.Timestamp, settings: Settings) -> bool:
    """Whether a moment lies further away than CVN_STATE_STALE_MINUTES.

    One that far ahead counts as well: what a clock that is ahead has dated would never grow old.
    """
    return not abs(now - observed_at) <= pd.Timedelta(minutes=settings.number("CVN_STATE_STALE_MINUTES"))
