"""How runs went, as the run watch sees it: one row a run, brought up to date as long as the run goes on."""

from dataclasses import asdict, dataclass

import pandas as pd
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from resources.secrets import process_mask
from resources.tables import WATCHED_RUNS
from resources.warehouse import Warehouse

# Once known, a moment stays known.
_MOMENTS = ("started_at", "training_began_at", "ended_at")


@dataclass(frozen=True)
class WatchedRun:
    """One run as it stands now.

    Attributes:
        run_id: The run.
        session: See `resources.guardrail_log.session_of`.
        crypto: Its crypto; None for a run about none, such as housekeeping, which no measure counts.
        factor: Its tag `cvntrade/factor`; None without one.
        variant: Its tag `cvntrade/variant`; None without one.
        job: Name of its job.
        status: Dagster's status of it.
        code: Its tag `cvntrade/code`; None without one.
        started_at: When it started; None when it did not yet.
        training_began_at: When its first stage that trains began to compute (tuning or the model, not a reused
            version); None when none did. A run without it spent no training time and cannot be a wasted one.
        ended_at: When it ended, however; None while it goes on.
    """

    run_id: str
    session: str
    crypto: str | None
    factor: str | None
    variant: str | None
    job: str
    status: str
    code: str | None
    started_at: pd.Timestamp | None
    training_began_at: pd.Timestamp | None
    ended_at: pd.Timestamp | None


def record_run(warehouse: Warehouse, *runs: WatchedRun, at: pd.Timestamp | None = None) -> None:
    """Write down how runs stand; the newest sight of a run replaces the one before, but no moment is forgotten.

    Args:
        warehouse: Where.
        runs: One or several runs, each once.
        at: When they were seen, with its time zone; None for the server's clock.

    Raises:
        WarehouseError: PostgreSQL did not take them.
    """
    if not runs:
        return
    mask, seen = process_mask(), sa.func.now() if at is None else at.to_pydatetime()
    rows = [{**mask.value(_columns(run)), "seen_at": seen} for run in runs]
    statement = insert(WATCHED_RUNS).values(rows)
    changed = {
        name: sa.func.coalesce(new, WATCHED_RUNS.c[name]) if name in _MOMENTS else new
        for name, new in statement.excluded.items()
        if name != "run_id"
    }
    with warehouse.begin() as connection:
        connection.execute(statement.on_conflict_do_update(index_elements=["run_id"], set_=changed))


def _columns(run: WatchedRun) -> dict[str, object]:
    return {
        name: value.to_pydatetime() if isinstance(value, pd.Timestamp) else value for name, value in asdict(run).items()
    }
