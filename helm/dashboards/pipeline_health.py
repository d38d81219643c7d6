"""Pipeline Health: do runs succeed, how long do they take, what waits, and what the guardrails said."""

from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.models import dashboard as model

from helm.dashboards import limits
from helm.dashboards.board import dashboard
from helm.dashboards.limits import limit, rising
from helm.dashboards.panels import MARKET, RUN, SECONDS, WHEN, Column, lines, number, rows, stacks
from helm.dashboards.signals import signal_panel
from helm.dashboards.sources import Sql, promql

UID = "pipeline-health"

_CHOSEN = "job in (${job:sqlstring}) and (crypto in (${crypto:sqlstring}) or crypto = '-')"
_SLOW = rising(limit("CVN_GUARDRAIL_SLOW_RUN_MINUTES", 60), limit("CVN_GUARDRAIL_CRITICAL_RUN_MINUTES", 60))


def pipeline_health() -> model.Dashboard:
    """Success, latency, runs of the night, backlog, training times, guardrails."""
    return dashboard(
        UID,
        "Pipeline Health",
        "Runs and their durations, success rate, backlog, tuning and training times, anomalies.",
        (
            ("Signals", (*(signal_panel(name, 12) for name in ("pipeline_success_rate", "pipeline_latency")),)),
            ("Runs now", (_going_on(), _failed(), _stuck(), _queue(), _at_work())),
            ("Runs over time", (_outcomes(), _durations(), _by_job())),
            ("Failures", (_failures(),)),
            ("Tuning and training", (_training(), _trials())),
            ("Guardrails", (_verdicts(), _overrides())),
        ),
        choices=("job", "crypto"),
    )


def _going_on() -> build.Panel:
    return number(
        "Runs that go on",
        "As the run watch last saw them.",
        Sql(f"select count(*) as runs from ops_runs where goes_on and {_CHOSEN}"),
        unit="short",
    )


def _failed() -> build.Panel:
    return number(
        "Failed or cancelled in the time range",
        "Runs that ended without success; `cvntrade status` gives the command that resumes each.",
        Sql(
            f"""
            select count(*) as runs from ops_runs
            where status in ('FAILURE', 'CANCELED') and $__timeFilter(ended_at) and {_CHOSEN}
            """
        ),
        unit="short",
        thresholds=rising(1, None),
    )


def _stuck() -> build.Panel:
    return number(
        "Stuck in the time range",
        "Runs without a sign of progress for longer than CVN_GUARDRAIL_STUCK_MINUTES; each was ended.",
        Sql(f"select count(*) as runs from ops_runs where $__timeFilter(stuck_at) and {_CHOSEN}"),
        unit="short",
        thresholds=rising(None, 1),
    )


def _queue() -> build.Panel:
    return lines(
        "Backlog: runs that wait or go on",
        "From Dagster's own records, by way of the exporter.",
        [promql('cvntrade_runs_unfinished{status!="CANCELING"}', "{{status}}")],
        unit="short",
        height=4,
    )


def _at_work() -> build.Panel:
    return rows(
        "Runs that go on, the longest first",
        "A slow one is told of and goes on, a stuck one is ended.",
        f"""
        select job, crypto, market, status, seconds, started_at, seen_at, slow_reason, run_id
        from ops_runs where goes_on and {_CHOSEN} order by seconds desc nulls last
        """,
        columns={
            "market": MARKET,
            "status": Column(colours=limits.STATUSES),
            "seconds": Column("s", limits=_SLOW),
            **dict.fromkeys(("started_at", "seen_at"), WHEN),
            "run_id": RUN,
        },
        height=6,
    )


def _outcomes() -> build.Panel:
    return stacks(
        "Runs by outcome",
        "Runs that ended, by day.",
        f"""
        select $__timeGroupAlias(ended_at, '1d'), status as metric, count(*) as value
        from ops_runs where $__timeFilter(ended_at) and {_CHOSEN} group by 1, 2 order by 1
        """,
        texts=limits.STATUSES,
    )


def _durations() -> build.Panel:
    return lines(
        "Duration of every run",
        "Of runs that ended; the lines are the guardrails' limits of a slow and of a critical run.",
        f"""
        select ended_at as time, job as metric, seconds as value
        from ops_runs where $__timeFilter(ended_at) and {_CHOSEN} order by ended_at
        """,
        unit="s",
        thresholds=_SLOW,
        points=True,
    )


def _by_job() -> build.Panel:
    return rows(
        "Jobs",
        "Runs of the time range: outcomes, and what the successful ones took.",
        f"""
        select job, count(*) as runs, count(*) filter (where status = 'SUCCESS') as succeeded,
            count(*) filter (where status in ('FAILURE', 'CANCELED')) as failed,
            percentile_cont(0.5) within group (order by seconds) filter (where status = 'SUCCESS') as median_seconds,
            percentile_cont(0.95) within group (order by seconds) filter (where status = 'SUCCESS') as p95_seconds,
            max(ended_at) as last_ended_at
        from ops_runs where $__timeFilter(coalesce(ended_at, seen_at)) and {_CHOSEN} group by job order by job
        """,
        columns={"median_seconds": SECONDS, "p95_seconds": Column("s", limits=_SLOW), "last_ended_at": WHEN},
        height=7,
    )


def _failures() -> build.Panel:
    return rows(
        "Runs that ended without success",
        "The newest first; open the run for the stage and the reason.",
        f"""
        select ended_at, job, crypto, market, status, seconds, slow_reason, factor, variant, session, run_id
        from ops_runs where status in ('FAILURE', 'CANCELED') and $__timeFilter(ended_at) and {_CHOSEN}
        order by ended_at desc limit 100
        """,
        columns={
            "ended_at": WHEN,
            "market": MARKET,
            "status": Column(colours=limits.STATUSES),
            "seconds": SECONDS,
            "run_id": RUN,
        },
    )


def _training() -> build.Panel:
    return lines(
        "Time spent tuning and training",
        "From the first stage that trains to the end of the run; runs that reused every model have none.",
        f"""
        select ended_at as time, job as metric, extract(epoch from ended_at - training_began_at) as value
        from ops_runs where training_began_at is not null and $__timeFilter(ended_at) and {_CHOSEN} order by ended_at
        """,
        unit="s",
        points=True,
    )


def _trials() -> build.Panel:
    return lines(
        "Candidates ever tried, by crypto",
        "What the deflated Sharpe ratio is deflated by: who tries again and again is tuning.",
        """
        select recorded_at as time, label as metric, trials as value
        from ops_evaluations
        where leads and $__timeFilter(recorded_at) and crypto in (${crypto:sqlstring}) order by recorded_at
        """,
        unit="short",
        points=True,
    )


def _verdicts() -> build.Panel:
    return stacks(
        "What guardrails found",
        "Verdicts other than passed, by day.",
        """
        select $__timeGroupAlias(recorded_at, '1d'), guardrail || ': ' || verdict as metric, count(*) as value
        from ops_guardrails
        where $__timeFilter(recorded_at) and (crypto in (${crypto:sqlstring}) or crypto = '-') group by 1, 2 order by 1
        """,
    )


def _overrides() -> build.Panel:
    return rows(
        "Guardrails that were overridden",
        "Why, and who approved; nothing is overridden without both.",
        """
        select recorded_at, crypto, guardrail, value, limit_value, override_reason, run_id
        from ops_guardrails
        where override and $__timeFilter(recorded_at) and (crypto in (${crypto:sqlstring}) or crypto = '-')
        order by recorded_at desc limit 100
        """,
        columns={"recorded_at": WHEN, "run_id": RUN},
        width=12,
        height=8,
    )
