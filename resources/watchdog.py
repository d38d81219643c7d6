"""What the watchdog looks at from outside: Dagster's daemons, and whether anybody still computes the global state.

It reads PostgreSQL alone, needs neither daemon nor webserver, and delivers by itself what it finds.
"""

import pandas as pd

from cvntrade_assets.operations.condition import Condition
from cvntrade_assets.operations.staleness import is_stale
from cvntrade_assets.operations.taxonomy import Role, Severity
from cvntrade_assets.settings import Settings
from resources.dagster_facts import daemon_since, silent_daemons
from resources.job_runs import JobRuns
from resources.signal_store import state_in
from resources.warehouse import Warehouse, WarehouseError

SOURCE = "watchdog"


def look(warehouse: Warehouse, settings: Settings, now: pd.Timestamp) -> list[Condition]:
    """What is missing.

    Raises:
        WarehouseError: PostgreSQL does not answer.
    """
    with warehouse.begin() as connection:
        state, started = state_in(connection), daemon_since(connection)
    computed_at = None if state is None else state.computed_at
    found = (_judge_daemons(warehouse, settings, now), judge_state_age(computed_at, started, settings, now))
    return [condition for condition in found if condition is not None]


def _judge_daemons(warehouse: Warehouse, settings: Settings, now: pd.Timestamp) -> Condition | None:
    runs = JobRuns(warehouse)
    try:
        silent = silent_daemons(runs, settings, now)
    except WarehouseError as error:
        return _daemons(f"nobody can tell whether Dagster's daemons run: {error}", now)
    finally:
        runs.close()
    return _daemons(f"missing are Dagster's {', '.join(silent)}", now) if silent else None


def _daemons(what: str, now: pd.Timestamp) -> Condition:
    return Condition(
        key=f"{SOURCE}/daemons",
        source=SOURCE,
        kind=f"{SOURCE}/daemons",
        severity=Severity.P0,
        owner=Role.PLATFORM_OWNER,
        what=f"{what}; no run is started, no schedule and no sensor works",
        where="dagster-daemon",
        since=now,
        next_step="start the daemon again, on one machine with `cvntrade up`; its log says why it ended",
        link="/deployment/daemons",
    )


def judge_state_age(
    computed_at: pd.Timestamp | None, started: pd.Timestamp | None, settings: Settings, now: pd.Timestamp
) -> Condition | None:
    """Whether the global state is computed as often as it should be.

    Args:
        computed_at: When it last was; None for never.
        started: Since when the daemon runs, which needs some time for its first look; None when it does not.
        settings: Say when a state is too old.
        now: The moment.
    """
    limit = pd.Timedelta(minutes=settings.number("CVN_STATE_STALE_MINUTES"))
    known = [moment for moment in (computed_at, started) if moment is not None]
    if not all(is_stale(moment, now, settings) for moment in known):
        return None
    since = "never" if computed_at is None else f"not since {computed_at:%Y-%m-%d %H:%M} UTC"
    return Condition(
        key=f"{SOURCE}/state",
        source=SOURCE,
        kind=f"{SOURCE}/state",
        severity=Severity.P1,
        owner=Role.MLOPS_MAINTAINER,
        what=f"the global state was computed {since}; CVN_STATE_STALE_MINUTES={limit / pd.Timedelta(minutes=1):g} "
        "minutes are allowed: nobody sees how things stand",
        where="golden_signals_watch",
        since=now if computed_at is None else computed_at,
        next_step="`cvntrade doctor`: does the daemon run, and does the sensor golden_signals_watch, in the UI, fail?",
        link="/deployment/daemons",
    )
