"""The signals of the platform and of its jobs: one function each, from facts to an observation."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from cvntrade_assets.operations.facts import InfraFacts, JobFacts, SessionFacts
from cvntrade_assets.operations.limits import Limit, Measure, Side, count, days, number, percent, unknown
from cvntrade_assets.operations.signals import PLATFORM, Level, Observation, Scalar
from cvntrade_assets.settings import Settings

NO_COMPLETE_RUN: Mapping[str, Scalar] = {"complete_runs": 0}
"""The inputs of what is unknown because nothing has run yet, which is nobody's fault and only a run mends."""

_NOTHING_RAN = "no complete run is on record"

P95 = 0.95
"""Which quantile of a job's history its newest runs are held against."""

_OOM = (
    Limit(Level.CRITICAL, Side.MORE_THAN, "CVN_SIGNAL_OOM_CRITICAL"),
    Limit(Level.WARNING, Side.AT_LEAST, "CVN_SIGNAL_OOM_WARNING"),
)
_PODS = (
    Limit(Level.CRITICAL, Side.MORE_THAN, "CVN_SIGNAL_PODS_CRITICAL"),
    Limit(Level.WARNING, Side.AT_LEAST, "CVN_SIGNAL_PODS_WARNING"),
)
_CPU = (Limit(Level.WARNING, Side.MORE_THAN, "CVN_SIGNAL_CPU_WARNING"),)
_VOLUME = (Limit(Level.CRITICAL, Side.MORE_THAN, "CVN_SIGNAL_VOLUME_CRITICAL"),)
_SUCCESS = Measure(
    "pipeline_success_rate",
    (
        Limit(Level.CRITICAL, Side.LESS_THAN, "CVN_SIGNAL_SUCCESS_CRITICAL"),
        Limit(Level.WARNING, Side.AT_MOST, "CVN_SIGNAL_SUCCESS_WARNING"),
    ),
    percent,
)
_LATENCY = Measure(
    "pipeline_latency",
    (
        Limit(Level.CRITICAL, Side.MORE_THAN, "CVN_SIGNAL_LATENCY_CRITICAL"),
        Limit(Level.WARNING, Side.MORE_THAN, "CVN_SIGNAL_LATENCY_WARNING"),
    ),
    percent,
)
_PASS_RATE = Measure(
    "pass_rate",
    (
        Limit(Level.CRITICAL, Side.AT_LEAST, "CVN_SIGNAL_PASS_RATE_RUNS"),
        Limit(Level.WARNING, Side.AT_LEAST, fixed=1.0),
    ),
    number,
)
_CHALLENGERS = Measure(
    "challenger_count",
    (
        Limit(Level.CRITICAL, Side.MORE_THAN, "CVN_SIGNAL_CHALLENGERS_CRITICAL"),
        Limit(Level.WARNING, Side.MORE_THAN, "CVN_SIGNAL_CHALLENGERS_WARNING"),
    ),
    number,
)
_BARREN = Measure("barren_days", (Limit(Level.CRITICAL, Side.MORE_THAN, "CVN_STATE_BARREN_DAYS"),), days)
_USEFUL = Measure("useful_run_age", (Limit(Level.WARNING, Side.MORE_THAN, "CVN_STATE_USEFUL_DAYS"),), days)


def infra_health(infra: InfraFacts | None, now: pd.Timestamp, settings: Settings) -> Observation:
    """Memory kills, processors, volumes, what is down and pods lost; its value: how many are not as they should be.

    What is bad is told although something else is unknown; without anything bad, an unknown part leaves it unknown.
    """
    if infra is None:
        return unknown("infra_health", PLATFORM, "neither Prometheus nor the machine could be asked", now)
    found = list(_infra_parts(infra, settings))
    inputs: dict[str, Scalar] = {
        "source": infra.source,
        "oom_kills": infra.oom_kills,
        "cpu_used": infra.cpu_used,
        "volume_used": infra.volume_used,
        "fullest": infra.fullest,
        "down": None if infra.down is None else ", ".join(infra.down),
        "pods_lost": infra.pods_lost,
    }
    levels = [level for level, _ in found]
    level = next((each for each in (Level.CRITICAL, Level.WARNING, Level.UNKNOWN) if each in levels), Level.OK)
    told = [said for each, said in found if each is not Level.OK] or [said for _, said in found]
    reason = "; ".join((*told, *infra.trouble)) + f" (source: {infra.source})"
    broken = sum(each in (Level.WARNING, Level.CRITICAL) for each in levels)
    return Observation(
        "infra_health", PLATFORM, None if level is Level.UNKNOWN else float(broken), level, reason, now, inputs
    )


def _infra_parts(infra: InfraFacts, settings: Settings) -> Iterator[tuple[Level, str]]:
    volume = f"the fullest volume{f' ({infra.fullest})' if infra.fullest else ''}"
    yield _part("processes killed for want of memory in 24 hours", infra.oom_kills, _OOM, settings)
    yield _processors(infra, settings)
    yield _part(volume, infra.volume_used, _VOLUME, settings)
    if infra.down is None:
        yield Level.UNKNOWN, "what is down is unknown"
    elif infra.down:
        yield Level.CRITICAL, f"down: {', '.join(infra.down)}"
    else:
        yield Level.OK, "nothing is down"
    if infra.pods_lost:
        yield _part("pods of runs lost, or without a node, in 24 hours", infra.pods_lost, _PODS, settings)


def _processors(infra: InfraFacts, settings: Settings) -> tuple[Level, str]:
    level, said = _part("processors in use", infra.cpu_used, _CPU, settings)
    if level is Level.WARNING and infra.is_own_work:
        return Level.OK, f"{said}, by runs of our own or their start: not judged"
    return level, said


def _part(what: str, value: float | None, limits: Sequence[Limit], settings: Settings) -> tuple[Level, str]:
    if value is None or not np.isfinite(value):
        return Level.UNKNOWN, f"{what}: unknown"
    spell = number if isinstance(value, int) else percent
    for limit in limits:
        if limit.side.holds(value, limit.of(settings)):
            return limit.level, f"{what}: {spell(value)}, {limit.said(settings, spell)}"
    return Level.OK, f"{what}: {spell(value)}"


def pipeline_success_rate(job: JobFacts, now: pd.Timestamp, settings: Settings) -> Observation:
    """Share of a job's runs that succeeded; at least one of them has ended. That of a handful warns at most."""
    ended = job.succeeded + job.failed
    window = settings.whole("CVN_SIGNAL_SUCCESS_WINDOW_DAYS")
    inputs: dict[str, Scalar] = {"succeeded": job.succeeded, "failed": job.failed, "days": window}
    if ended == 0:
        return unknown(_SUCCESS.signal, job.job, f"no run of {job.job} ended in {window} days", now, inputs)
    rate = job.succeeded / ended
    what = f"{job.succeeded} of {ended} runs of {job.job} succeeded in {window} days, {percent(rate)}"
    found = _SUCCESS.observe(job.job, rate, what, settings, now, inputs)
    enough = settings.whole("CVN_SIGNAL_SUCCESS_RUNS")
    if found.level is Level.CRITICAL and ended < enough:
        why = f"fewer than {enough} runs are no rate, and warn at most (CVN_SIGNAL_SUCCESS_RUNS)"
        return replace(found, level=Level.WARNING, reason=f"{found.reason}; {why}")
    return found


def pipeline_latency(job: JobFacts, now: pd.Timestamp, settings: Settings) -> Observation:
    """By which share the median of a job's newest runs lies over the 95th percentile of those before them."""
    newest, enough = settings.whole("CVN_SIGNAL_LATENCY_RUNS"), settings.whole("CVN_SIGNAL_LATENCY_HISTORY")
    recent = job.recent_seconds[:newest]
    earlier = (*job.recent_seconds[newest:], *job.earlier_seconds)
    inputs: dict[str, Scalar] = {"runs": len(recent), "earlier_runs": len(earlier)}
    if not recent:
        return unknown(_LATENCY.signal, job.job, f"no run of {job.job} succeeded", now, inputs)
    if len(earlier) < enough:
        why = f"{len(earlier)} earlier runs of {job.job} succeeded, {enough} are needed (CVN_SIGNAL_LATENCY_HISTORY)"
        return unknown(_LATENCY.signal, job.job, why, now, inputs)
    took, usual = float(np.median(recent)), float(np.quantile(earlier, P95))
    if not usual > 0:
        why = f"95 of 100 earlier runs of {job.job} took {usual:g} s at most, beside which nothing can be judged"
        return unknown(_LATENCY.signal, job.job, why, now, inputs)
    over = took / usual - 1
    what = (
        f"the last {count(len(recent), 'successful run')} of {job.job} took {took:.1f} s (median), and 95 of 100 of "
        f"the {len(earlier)} before them at most {usual:.1f} s, which is {percent(over)} over that"
    )
    return _LATENCY.observe(job.job, over, what, settings, now, inputs | {"median_seconds": took, "p95_seconds": usual})


def pass_rate(sessions: Sequence[SessionFacts], now: pd.Timestamp, settings: Settings) -> Observation:
    """How many of the newest complete runs in a row ended without a candidate that passed its gates."""
    if not sessions:
        return unknown(_PASS_RATE.signal, PLATFORM, _NOTHING_RAN, now, NO_COMPLETE_RUN)
    row, newest = _barren_row(sessions), _newest_first(sessions)[0]
    passed = f"{newest.passed} of {newest.screened} screened points passed in the newest complete run"
    what = f"{count(len(row), 'complete run')} in a row without a passing candidate; {passed}"
    inputs: dict[str, Scalar] = {
        "session": newest.session,
        "screened": newest.screened,
        "passed": newest.passed,
        "share": newest.passed / newest.screened if newest.screened else None,
    }
    return _PASS_RATE.observe(PLATFORM, float(len(row)), what, settings, now, inputs)


def barren_days(sessions: Sequence[SessionFacts], now: pd.Timestamp, settings: Settings) -> Observation:
    """For how long complete runs have brought no useful candidate: since the first of them, in days."""
    if not sessions:
        return unknown(_BARREN.signal, PLATFORM, _NOTHING_RAN, now, NO_COMPLETE_RUN)
    row = _barren_row(sessions)
    if not row:
        return _BARREN.observe(PLATFORM, 0.0, "the newest complete run brought a candidate", settings, now)
    age = _days_since(row[-1].ended_at, now)
    since = f"since {row[-1].ended_at:%Y-%m-%d %H:%M} UTC"
    what = f"{count(len(row), 'complete run')} {since} brought no candidate, {days(age)}"
    return _BARREN.observe(PLATFORM, age, what, settings, now, {"runs": len(row), "first": row[-1].session})


def useful_run_age(
    last_useful_at: pd.Timestamp | None, now: pd.Timestamp, settings: Settings, *, any_run: bool = True
) -> Observation:
    """How long ago a leading candidate last passed every gate.

    Args:
        last_useful_at: When; None for never.
        now: The wall clock, UTC.
        settings: With the limit.
        any_run: Whether a complete run is on record at all, or nobody can tell.
    """
    if last_useful_at is None or pd.isna(last_useful_at):
        if not any_run:
            return unknown(_USEFUL.signal, PLATFORM, _NOTHING_RAN, now, NO_COMPLETE_RUN)
        return unknown(_USEFUL.signal, PLATFORM, "no run is on record whose leading candidate passed every gate", now)
    age = _days_since(last_useful_at, now)
    what = f"a leading candidate last passed every gate {days(age)} ago, {last_useful_at:%Y-%m-%d %H:%M} UTC"
    return _USEFUL.observe(PLATFORM, age, what, settings, now)


def challenger_count(pending: int | None, now: pd.Timestamp, settings: Settings) -> Observation:
    """How many registered challengers wait for a promotion."""
    if pending is None:
        return unknown(_CHALLENGERS.signal, PLATFORM, "the registry was not read", now)
    what = f"{count(pending, 'challenger')} wait{'s' if pending == 1 else ''} for a promotion"
    return _CHALLENGERS.observe(PLATFORM, float(pending), what, settings, now)


def _newest_first(sessions: Sequence[SessionFacts]) -> list[SessionFacts]:
    return sorted(sessions, key=lambda session: session.ended_at, reverse=True)


def _barren_row(sessions: Sequence[SessionFacts]) -> list[SessionFacts]:
    """The newest complete runs in a row in which nothing passed, newest first."""
    row = []
    for session in _newest_first(sessions):
        if session.passed > 0:
            break
        row.append(session)
    return row


def _days_since(then: pd.Timestamp, now: pd.Timestamp) -> float:
    """Days since then; 0 for what was recorded while facts were gathered."""
    return max((now - then) / pd.Timedelta(days=1), 0.0)
