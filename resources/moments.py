"""Moments on their way to PostgreSQL and back: ours are pandas timestamps in UTC."""

from typing import Any

import pandas as pd


def as_stored(moment: pd.Timestamp) -> Any:
    """A moment as PostgreSQL takes it."""
    return moment.floor("us").to_pydatetime()


def as_utc(value: Any) -> pd.Timestamp:
    """A moment as PostgreSQL gives it."""
    return pd.Timestamp(value).tz_convert("UTC")


def as_utc_or_none(value: Any) -> pd.Timestamp | None:
    """The same of a column that may be empty."""
    return None if value is None else as_utc(value)
