"""Slow Runs: runs and factors that take longer than the guardrails allow without a word."""

from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.models import dashboard as model

from helm.dashboards import limits
from helm.dashboards.board import dashboard
from helm.dashboards.limits import limit, rising
from helm.dashboards.panels import MARKET, RUN, WHEN, Column, bars, lines, number, rows
from helm.dashboards.sources import Sql, promql

UID = "slow-runs"

SLOW = limit("CVN_GUARDRAIL_SLOW_RUN_MINUTES", 60)
CRITICAL = limit("CVN_GUARDRAIL_CRITICAL_RUN_MINUTES", 60)
AVERAGE = limit("CVN_GUARDRAIL_FACTOR_MINUTES", 60)
_CHOSEN = "job in (${job:sqlstring}) and (crypto in (${crypto:sqlstring}) or crypto = '-')"
_RECENT = "$__timeFilter(coalesce(ended_at, seen_at))"


def slow_runs() -> model.Dashboard:
    """Runs over the limits, and the averages of factors."""
    minutes = f"{SLOW / 60:g}"
    return dashboard(
        UID,
        "Slow Runs",
        f"Runs of more than {minutes} minutes, runs of more than {CRITICAL / 60:g}, and factors whose average is over "
        f"{AVERAGE / 60:g}.",
        (
            ("How many", (_warned(), _critical(), _stuck(), _chosen(), _longest())),
            ("Which", (_table(minutes),)),
            ("Factors", (_factors(), _factor_times())),
        ),
        choices=("job", "crypto"),
    )


def _count(title: str, description: str, where: str, thresholds: build.ThresholdsConfig) -> build.Panel:
    sql = f"select count(*) as runs from ops_runs where {where} and {_RECENT} and {_CHOSEN}"
    return number(title, description, Sql(sql), unit="short", width=3, thresholds=thresholds)


def _warned() -> build.Panel:
    where = f"seconds > {SLOW:g} and seconds <= {CRITICAL:g} and not slowness_chosen"
    return _count("Slow", f"Took more than {SLOW / 60:g} minutes: WARNING.", where, rising(1, None))


def _critical() -> build.Panel:
    where = f"seconds > {CRITICAL:g} and not slowness_chosen"
    return _count("Critically slow", f"Took more than {CRITICAL / 60:g} minutes: CRITICAL.", where, rising(None, 1))


def _stuck() -> build.Panel:
    return _count("Stuck", "Showed no progress, and were ended.", "stuck_at is not null", rising(None, 1))


def _chosen() -> build.Panel:
    where = f"seconds > {SLOW:g} and slowness_chosen"
    return _count("Slow by choice", "A variant or the run itself chose what makes it slow.", where, limits.none())


def _longest() -> build.Panel:
    return lines(
        "Longest run of the last hour, by job",
        "As the rules for alerts see it; what somebody chose to be slow is left out.",
        [promql("max by (pipeline) (cvntrade_longest_run_seconds)", "{{pipeline}}")],
        unit="s",
        height=4,
        thresholds=rising(SLOW, CRITICAL),
    )


def _table(minutes: str) -> build.Panel:
    return rows(
        f"Slow runs (more than {minutes} minutes)",
        "The longest first, with what was unusual about each.",
        f"""
        select run_id, factor, variant, crypto, market, job, status, seconds, slow_reason, slowness_chosen, started_at,
            ended_at
        from ops_runs
        where seconds > {SLOW:g} and {_RECENT} and {_CHOSEN}
        order by seconds desc
        limit 20
        """,
        columns={
            "run_id": RUN,
            "market": MARKET,
            "status": Column(colours=limits.STATUSES),
            "seconds": Column("s", limits=rising(SLOW, CRITICAL)),
            **dict.fromkeys(("started_at", "ended_at"), WHEN),
        },
        height=12,
    )


def _factors() -> build.Panel:
    return bars(
        "Average of each factor's newest runs",
        f"Of its newest successful runs; more than {AVERAGE / 60:g} minutes warn: check its configuration.",
        "select factor, mean_seconds from ops_factor_times order by mean_seconds desc",
        unit="s",
        thresholds=rising(AVERAGE, None),
    )


def _factor_times() -> build.Panel:
    return rows(
        "Factors",
        "How many runs the average is over, the longest of them, and when the last one ended.",
        "select factor, runs, mean_seconds, longest_seconds, last_ended_at from ops_factor_times order by factor",
        columns={
            "mean_seconds": Column("s", limits=rising(AVERAGE, None)),
            "longest_seconds": Column("s", limits=rising(SLOW, CRITICAL)),
            "last_ended_at": WHEN,
        },
        width=12,
        height=8,
    )
