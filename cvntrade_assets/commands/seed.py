"""`cvntrade seed`: canonical settings and first universes, where operators edit them; also a job of the chart.

What a deployment looks for in its logs stands on standard error, one line an event: `seed_db_connect_failed`,
`seed_apply_failed`, `seed_summary`, and `seed_pools_failed`.
"""

import os
import sys
import time
from collections.abc import Mapping

import pandas as pd
from rich.console import Console

from cvntrade_assets.commands.connection import NotRunningError, connect
from cvntrade_assets.operations.factors import resolve_run
from cvntrade_assets.operations.seeds import Seed, SeedAction, SeedPlan, logfmt, plan_seeds, wanted_texts
from cvntrade_assets.settings import SettingsError
from resources.secrets import process_mask
from resources.seeding import apply_seeds, preview
from resources.warehouse import FIRST_UNIVERSES, Warehouse, WarehouseError

SUCCEEDED, FAILED = 0, 1
_UNREACHABLE = "Which of them are missing is unknown"

Universes = Mapping[str, tuple[str, ...]]
"""Groups, with their cryptos."""


def seed(given: Mapping[str, str], console: Console, *, dry_run: bool) -> int:
    """Insert what is missing, or show what would be.

    Args:
        given: A deployment's own values, key to text.
        console: Where the plan goes.
        dry_run: Write nothing; without PostgreSQL the plan is shown all the same.

    Returns:
        The exit code: 1 when anything failed or was refused; then either all settings were written or none, and what is
        missing is written the next time. 0 for a plan that was shown, whatever could not be compared.
    """
    started, now, wanted = time.perf_counter(), pd.Timestamp.now("UTC"), wanted_texts(given)
    try:
        warehouse = _reached()
    except (NotRunningError, WarehouseError) as error:
        _log("seed_db_connect_failed", error=str(error))
        return _show(plan_seeds(wanted, None, now), None, console, str(error)) if dry_run else FAILED
    try:
        if dry_run:
            return _show(preview(warehouse, wanted, now), warehouse.universes(), console, "")
        plan = apply_seeds(warehouse, wanted, now)
        # What is refused must be put right and seeded again, so that nothing of it is written.
        cryptos = 0 if plan.refusal else warehouse.seed_universes()
    except (SettingsError, WarehouseError) as error:
        _log("seed_apply_failed", error=str(error))
        return _show(plan_seeds(wanted, None, now), None, console, str(error)) if dry_run else FAILED
    if plan.refusal:
        _log("seed_apply_failed", error=plan.refusal)
        return FAILED
    _log("seed_summary", **_counts(plan), cryptos_inserted=cryptos, seconds=time.perf_counter() - started)
    if not _pools_applied(warehouse, now, console):
        return FAILED
    for told in (*plan.of(SeedAction.REMOVED), *(each for each in plan.of(SeedAction.PRESENT) if each.told)):
        _print(_line(told), console)
    return SUCCEEDED


def _reached() -> Warehouse:
    """The operations schema, reached.

    Raises:
        NotRunningError: no CVNTrade is named, and none runs here.
        WarehouseError: PostgreSQL does not answer, or the address is none.
    """
    url = os.environ.get("CVN_WAREHOUSE_URL")
    if url is None:
        # Dagster's own storage, where pool limits stand, is read through the environment.
        connection = connect()
        connection.enter()
        return connection.warehouse()
    warehouse = Warehouse(url)
    with warehouse.begin():
        return warehouse


def _pools_applied(warehouse: Warehouse, now: pd.Timestamp, console: Console) -> bool:
    """Give the pools their limits, where Dagster's storage is named; whether nothing failed."""
    if not os.environ.get("DAGSTER_HOME"):
        _print("Pools keep their limits: Dagster's storage is not named here (DAGSTER_HOME).", console)
        return True
    import dagster as dg

    from resources.pools import apply_pool_limits

    try:
        settings = resolve_run(base_env=warehouse.base_env(), run={}, now=now)
        with dg.DagsterInstance.get() as instance:
            limits = apply_pool_limits(instance, settings)
    except Exception as error:  # noqa: BLE001 - whatever it is, the deployment must hear of it
        _log("seed_pools_failed", error=f"{type(error).__name__}: {error}")
        return False
    _print(f"Pools: {', '.join(f'{name} {limit}' for name, limit in limits.items())}.", console)
    return True


def _show(plan: SeedPlan, universes: Universes | None, console: Console, unknown: str) -> int:
    """Print the whole plan, and what becomes of the universes (None: unknown); a refused plan fails."""
    for each in plan.seeds:
        _print(_line(each), console)
    _print(_universes_line(universes), console)
    told = ", ".join(f"{len(found)} {action}" for action in SeedAction if (found := plan.of(action)))
    _print(f"Nothing was written. Of {len(plan.seeds)}: {told}.", console)
    if unknown:
        _print(f"{_UNREACHABLE}: {unknown}", console)
    if plan.refusal:
        _log("seed_apply_failed", error=plan.refusal)
    return FAILED if plan.refusal else SUCCEEDED


def _universes_line(universes: Universes | None) -> str:
    if universes:
        return f"Universes stay as they are: {_groups(universes)}."
    told = f"Universes that are inserted where there are none: {_groups(FIRST_UNIVERSES)}"
    return f"{told}; there are none." if universes is not None else f"{told}; whether there are any is unknown."


def _groups(universes: Universes) -> str:
    return ", ".join(f"{group} ({' '.join(cryptos)})" for group, cryptos in universes.items())


def _counts(plan: SeedPlan) -> dict[str, int]:
    return {
        "planned": len(plan.seeds),
        "inserted": len(plan.inserts),
        "present": len(plan.of(SeedAction.PRESENT)),
        "kept_removed": len(plan.of(SeedAction.REMOVED)),
    }


def _line(seed: Seed) -> str:
    told = f"  {seed.told}" if seed.told else ""
    return f"{seed.action:<19} {seed.key}={seed.value or '(empty)'}{told}"


def _print(line: str, console: Console) -> None:
    console.print(process_mask().text(line), markup=False, highlight=False, soft_wrap=True)


def _log(event: str, **fields: str | int | float) -> None:
    sys.stderr.write(process_mask().text(logfmt(event, **fields)) + "\n")
