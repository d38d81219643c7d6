"""Seeds in PostgreSQL: what stands in the operators' table is read, planned on and added to in one transaction."""

from collections.abc import Mapping

import pandas as pd
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from cvntrade_assets.operations.seeds import AUTHOR, REASON, SeedPlan, Standing, plan_seeds, removed_keys
from resources.secrets import process_mask
from resources.tables import BASE_ENV, BASE_ENV_HISTORY
from resources.warehouse import TELL_TRIGGER, Warehouse, refuse_secrets

# Nobody edits while it is seeded, and two that seed come one after the other; reading goes on. Whoever holds the table
# for longer has forgotten a transaction, and a deployment must not wait for that for ever.
PATIENCE_SECONDS = 30
_ALONE = sa.text("lock table base_env in share row exclusive mode")


def preview(warehouse: Warehouse, wanted: Mapping[str, str], now: pd.Timestamp) -> SeedPlan:
    """What `apply_seeds` would do now; nothing is written.

    Raises:
        WarehouseError: the table cannot be read.
    """
    with warehouse.begin() as connection:
        return plan_seeds(wanted, _read_standing(connection), now)


def apply_seeds(
    warehouse: Warehouse, wanted: Mapping[str, str], now: pd.Timestamp, patience: float = PATIENCE_SECONDS
) -> SeedPlan:
    """Insert what is missing, all of it or nothing; what stands there is never changed.

    Safe from several processes at once, and beside operators who edit: who comes second finds what the first inserted.

    Args:
        warehouse: Where the operators' table is.
        wanted: Key to text, see `operations.seeds.wanted_texts`.
        now: The wall clock, UTC.
        patience: Seconds to wait for whoever is editing the table.

    Returns:
        The plan that was carried out, or the refused one, of which nothing was.

    Raises:
        WarehouseError: the table cannot be read or written, or is locked for longer; nothing was written.
        SettingsError: a value holds a secret; nothing was written.
    """
    with warehouse.begin() as connection:
        timeout = {"timeout": f"{round(patience * 1000)}ms"}
        connection.execute(sa.text("select set_config('lock_timeout', :timeout, true)"), timeout)
        connection.execute(_ALONE)
        plan = plan_seeds(wanted, _read_standing(connection), now)
        if plan.refusal or not plan.inserts:
            return plan
        refuse_secrets(plan.inserts, process_mask())
        connection.execute(TELL_TRIGGER, {"author": AUTHOR, "reason": REASON})
        rows = [{"key": key, "value": value, "updated_by": AUTHOR} for key, value in plan.inserts.items()]
        connection.execute(insert(BASE_ENV).values(rows).on_conflict_do_nothing(index_elements=["key"]))
        return plan


def _read_standing(connection: sa.Connection) -> Standing:
    """What the operators' table holds, and what was removed from it."""
    base_env = {row.key: row.value for row in connection.execute(sa.select(BASE_ENV.c.key, BASE_ENV.c.value))}
    history = BASE_ENV_HISTORY.c
    newest = sa.select(history.key, history.new_value, history.author).distinct(history.key)
    changes = connection.execute(newest.order_by(history.key, history.id.desc()))
    return Standing(base_env, removed_keys({row.key: (row.new_value, row.author) for row in changes}))
