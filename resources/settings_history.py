"""What became of the operators' settings: the changes of `base_env`, newest first."""

from dataclasses import dataclass

import pandas as pd
import sqlalchemy as sa

from resources.moments import as_utc
from resources.tables import BASE_ENV_HISTORY
from resources.warehouse import Warehouse


@dataclass(frozen=True)
class SettingChange:
    """One change of one key; None where it was not set, or no reason was given."""

    changed_at: pd.Timestamp
    key: str
    old_value: str | None
    new_value: str | None
    author: str
    reason: str | None


def settings_history(warehouse: Warehouse, key: str | None, limit: int, leave_out: str = "") -> list[SettingChange]:
    """The newest changes.

    Args:
        warehouse: The operations schema.
        key: Of this key only; None for all.
        limit: At most so many.
        leave_out: An author whose changes are not wanted; empty for none.

    Raises:
        WarehouseError: the table cannot be read.
    """
    columns = BASE_ENV_HISTORY.c
    query = sa.select(BASE_ENV_HISTORY).where(columns.author != leave_out).order_by(columns.id.desc()).limit(limit)
    with warehouse.begin() as connection:
        rows = connection.execute(query if key is None else query.where(columns.key == key)).all()
    return [
        SettingChange(as_utc(row.changed_at), row.key, row.old_value, row.new_value, row.author, row.reason)
        for row in rows
    ]
