"""One small discovery of two cryptos that several files look at; the fixture `discovered` runs it once."""

import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from live.live_stack import LiveStack, as_options
from services import QUICK

from cvntrade_assets.settings import SHORT_NAMES

# In a group of their own: other tests on this stack count the runs of the cryptos that they use.
GROUP, FINE, ILL = "discovered", "DOTUSDC", "LINKUSDC"
REASON = "no space left [on] this device"
# Two points of the grid, two folds, one trial; by the manual's short names where there are any.
GIVEN: Mapping[str, str] = {
    **{name: text for name, text in QUICK.items() if name not in SHORT_NAMES.values()},
    "horizons": "H4",
    "sl_range": "1.0",
    "tp_range": "1.5,2.0",
    "hpo_trials": "1",
    "n_folds": "2",
    "backtest_days": "5",
    "CVN_ROLLING_STEP_DAYS": "3",
    "CVN_CANDIDATES": "1",
}


def discover(stack: LiveStack) -> subprocess.CompletedProcess[str]:
    """What discovery of the group printed; one of its cryptos cannot store its walk-forward test."""
    with refused(stack, ILL, "walk_forward"):
        return stack.cli("discovery", "--group", GROUP, *as_options(GIVEN), seconds=240)


@contextmanager
def refused(stack: LiveStack, crypto: str, asset: str) -> Iterator[None]:
    """PostgreSQL refuses to record any version of a crypto's asset."""
    stack.sql(
        "cvntrade",
        f"""
        create function refuse() returns trigger language plpgsql as $$ begin raise exception '{REASON}'; end $$;
        create trigger refuse before insert on artifact_versions for each row
          when (new.crypto = '{crypto}' and new.asset = '{asset}') execute function refuse();
        """,
    )
    try:
        yield
    finally:
        stack.sql("cvntrade", "drop trigger refuse on artifact_versions; drop function refuse")
