"""Freshness policies: how old the newest version of an asset may be, whatever the crypto, before Dagster says so.

A policy belongs to an asset and is fixed when definitions load, so that it takes the declared defaults and nobody's
table. One fresh crypto makes an asset look fresh: how each crypto stands is the golden signals' to say.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

import dagster as dg

from cvntrade_assets.automation.pipeline_schedules import CRON
from cvntrade_assets.automation.schedules import daily_guardrail_report, morning_report_schedule
from cvntrade_assets.settings import SETTINGS

# What a schedule starts has so long to build something until it is late.
_GRACE_HOURS = 6


@dataclass(frozen=True)
class Freshness:
    """How fresh an asset is to be.

    Attributes:
        policy: As Dagster takes it.
        asks: What that asks, in words.
        next_step: How the asset is built; `{group}` stands for a group.
    """

    policy: dg.FreshnessPolicy
    asks: str
    next_step: str


def _by(command: str, schedule: str | None = None) -> str:
    watched = "" if schedule is None else f", and see in the UI whether the schedule {schedule} is on"
    return f"`cvntrade {command} --group {{group}}`{watched}"


def _within(unit: str, warns: str, fails: str, next_step: str) -> Freshness:
    """Not older than two settings' defaults, in `days` or `hours`."""
    better, at_most = (float(SETTINGS[name].default) for name in (warns, fails))
    policy = dg.FreshnessPolicy.time_window(
        fail_window=timedelta(**{unit: at_most}), warn_window=timedelta(**{unit: better})
    )
    return Freshness(policy, f"at most {at_most:g} {unit} old, better {better:g}", next_step)


def _as_scheduled(cron: str, next_step: str) -> Freshness:
    """Built since the deadline before, by the schedule or by hand; a deadline is some hours after the schedule."""
    minute, hour, day, month, weekday = cron.split()
    due = int(hour) + _GRACE_HOURS
    every, often = (timedelta(days=1), "day") if weekday == "*" else (timedelta(days=7), "week")
    policy = dg.FreshnessPolicy.cron(f"{minute} {due} {day} {month} {weekday}", every)
    return Freshness(policy, f"built every {often}, by {due:02d}:{int(minute):02d} UTC", next_step)


def _candles(next_step: str) -> Freshness:
    return _within("hours", "CVN_FRESHNESS_CANDLES_WARNING_HOURS", "CVN_FRESHNESS_CANDLES_CRITICAL_HOURS", next_step)


def _models(next_step: str) -> Freshness:
    """Of all cryptos the newest counts: it may not be older than any crypto's, nor at all than a core crypto's."""
    return _within("days", "CVN_FRESHNESS_OTHER_DAYS", "CVN_FRESHNESS_CORE_DAYS", next_step)


def _report(schedule: dg.ScheduleDefinition) -> Freshness:
    next_step = f"see in the UI whether the schedule {schedule.name} is on, and why its last runs failed"
    return _as_scheduled(str(schedule.cron_schedule), next_step)


# The sensor shows what changed at once, and the rest once a day.
_SHOWN_DAILY = Freshness(
    dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=50), warn_window=timedelta(hours=26)),
    "at most 50 hours old, better 26",
    "see in the UI whether the sensor golden_signals_watch is on, and why its last ticks failed",
)
_MONITORED = _by("monitoring", "monitoring_of_the_universe")
_RETRAINED = _by("retrain", "retrain_of_the_universe")

FRESHNESS: Mapping[str, Freshness] = {
    **dict.fromkeys(("candles", "backtest_candles"), _candles(_MONITORED)),
    **dict.fromkeys(("model", "calibration", "test_report"), _models(_by("backfill"))),
    **dict.fromkeys(("walk_forward", "rolling_backtest", "evaluation", "challenger"), _models(_RETRAINED)),
    "screening_matrix": _as_scheduled(CRON["discovery"], _by("discovery", "discovery_of_the_universe")),
    **dict.fromkeys(("model_health", "drift"), _as_scheduled(CRON["monitoring"], _MONITORED)),
    "guardrail_report": _report(daily_guardrail_report),
    "morning_report": _report(morning_report_schedule),
    **dict.fromkeys(("golden_signals", "global_state"), _SHOWN_DAILY),
}
"""By asset; what stands between two of these is as old as what it feeds."""


def with_freshness(assets: Sequence[dg.AssetsDefinition]) -> list[dg.AssetsDefinition]:
    """The assets, each with its policy if it has one."""

    def dated(spec: dg.AssetSpec) -> dg.AssetSpec:
        found = FRESHNESS.get(spec.key.to_user_string())
        return spec if found is None else dg.apply_freshness_policy(spec, found.policy)

    return list(dg.map_asset_specs(dated, assets))
