"""How the platform stands, for an evaluation's record: what the signals last said of it, for as long as that counts."""

import pandas as pd

from cvntrade_assets.operations.correlation_data import Platform
from cvntrade_assets.operations.signals import PLATFORM, Level, Scalar
from cvntrade_assets.operations.staleness import is_stale
from cvntrade_assets.settings import Settings
from resources.machine import SOURCE as MACHINE
from resources.signal_store import read_now
from resources.warehouse import Warehouse


def platform_of(warehouse: Warehouse, job: str, settings: Settings, now: pd.Timestamp) -> Platform:
    """What is known of the platform at this moment; what was not observed lately is None, which is not healthy.

    Args:
        warehouse: Where the signals stand.
        job: The job whose success rate counts: that of the others would hide that this one fails.
        settings: Say from which age on an observation counts no more.
        now: Wall clock, UTC.

    Raises:
        WarehouseError: PostgreSQL does not answer, or lacks our tables.
    """
    seen = read_now(warehouse)
    fresh = {(each.signal, each.subject): each for each in seen if not is_stale(each.observed_at, now, settings)}
    infra, success = fresh.get(("infra_health", PLATFORM)), fresh.get(("pipeline_success_rate", job))
    # An infra_health that is unknown as a whole may know a part, and a part can be saturated.
    measured = {} if infra is None else infra.inputs
    kills, lost = _number(measured.get("oom_kills")), _number(measured.get("pods_lost"))
    # On one machine it is this very run that keeps the processors busy: that says nothing of the platform.
    is_own_work = measured.get("source") == MACHINE
    return Platform(
        success_rate=None if success is None or success.level is Level.UNKNOWN else success.value,
        oom_kills=None if kills is None else round(kills),
        pvc_used=_share(measured.get("volume_used")),
        cpu_used=None if is_own_work else _share(measured.get("cpu_used")),
        pods_lost=None if lost is None else round(lost),
    )


def _number(measured: Scalar) -> float | None:
    # What is infinite is stored as text.
    return measured if isinstance(measured, int | float) and measured >= 0 else None


def _share(measured: Scalar) -> float | None:
    # A rate over a short window may come to a little more than everything.
    share = _number(measured)
    return None if share is None else min(float(share), 1.0)
