"""The operators' tables as on the first day: without a row, and without a past that would keep seeds away."""

from typing import Any

import sqlalchemy as sa

from resources.warehouse import Warehouse


def forget_settings(warehouse: Warehouse) -> None:
    """Empty `base_env` and its history, whose trigger refuses that to everybody, the tests' own superuser too."""
    guard = "trigger base_env_history_append_only"
    with warehouse.begin() as connection:
        connection.execute(sa.text("delete from base_env"))
        connection.execute(sa.text(f"alter table base_env_history disable {guard}"))
        connection.execute(sa.text("delete from base_env_history"))
        connection.execute(sa.text(f"alter table base_env_history enable always {guard}"))


def forget_universes(warehouse: Warehouse) -> None:
    """Empty `cvntrade_universes`."""
    with warehouse.begin() as connection:
        connection.execute(sa.text("delete from cvntrade_universes"))


def settings_changes(warehouse: Warehouse) -> list[tuple[Any, ...]]:
    """Key, old and new value, author and reason of every change, oldest first."""
    query = "select key, old_value, new_value, author, reason from base_env_history order by id"
    with warehouse.begin() as connection:
        return [tuple(row) for row in connection.execute(sa.text(query))]
