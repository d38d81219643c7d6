"""MLOps Overview: the state of everything on one page; where every look begins."""

from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.models import dashboard as model

from helm.dashboards import limits
from helm.dashboards.board import dashboard
from helm.dashboards.limits import limit, rising
from helm.dashboards.panels import (
    EVALUATION_PAGE,
    F1,
    LEVEL,
    MARKET,
    RATIO,
    SECONDS,
    SEVERITY,
    SHARE,
    SIGNALS_PAGE,
    WHEN,
    Column,
    bands,
    bars,
    lines,
    rows,
)
from helm.dashboards.signals import signal_panel

UID = "mlops-overview"


def mlops_overview() -> model.Dashboard:
    """State, golden signals, candidates, freshness, drift, alerts, incidents."""
    return dashboard(
        UID,
        "MLOps Overview",
        "The global state and the golden signals: what holds, since when, and what to look at next.",
        (
            ("State", (_state_over_time(), _signals_now())),
            ("Golden signals: platform", _of("infra_health", "pipeline_success_rate", "pipeline_latency")),
            ("Golden signals: ML", _of("f1_buy_delta_vs_baseline", "screening_testing_gap", "std_f1_buy")),
            ("Golden signals: trading", _of("sortino", "sl_pct", "timeout_pct")),
            ("Golden signals: lifecycle", _of("pass_rate", "model_freshness", "challenger_count")),
            ("Candidates", (_verdicts(), _pass_rate(), _sessions())),
            ("Freshness and drift", (_freshness(), _drift())),
            ("Alerts and incidents", (_alerts(), _undelivered(), _incidents())),
        ),
        choices=("market", "crypto", "job"),
    )


def _of(*names: str) -> tuple[build.Panel, ...]:
    return tuple(signal_panel(name) for name in names)


def _state_over_time() -> build.Panel:
    return bands(
        "Global state over time",
        "As it was shown (held until enough better looks followed), and as it was at each look alone.",
        """
        select computed_at as time, 'shown' as metric, state as value
        from ops_state_history where $__timeFilter(computed_at)
        union all
        select computed_at, 'at that look alone', raw_state
        from ops_state_history where $__timeFilter(computed_at)
        order by time
        """,
        texts=limits.STATES,
    )


def _signals_now() -> build.Panel:
    return rows(
        "Every signal now",
        "The worst first. What was not observed lately is unknown, whatever it was before.",
        """
        select signal, subject as crypto, label as subject, level, value, reason, level_since, observed_at
        from ops_signals
        where subject = '' or subject in (${crypto:sqlstring}) or subject in (${job:sqlstring})
        order by case level when 'critical' then 0 when 'unknown' then 1 when 'warning' then 2 else 3 end,
            signal, subject
        """,
        columns={
            "level": LEVEL,
            "value": RATIO,
            "level_since": WHEN,
            "observed_at": WHEN,
            "crypto": Column(link=SIGNALS_PAGE),
        },
        height=12,
    )


def _verdicts() -> build.Panel:
    return rows(
        "Newest diagnosis of every crypto",
        "One row a crypto and market, never ranked against each other: cryptos are compared with themselves only.",
        """
        select crypto, market, primary_code, severity, codes, f1_buy, baseline_f1_buy, f1_delta, sortino,
            rolling_sortino, n_trades, gates_passed, pte, recorded_at
        from ops_evaluations
        where is_latest and crypto in (${crypto:sqlstring}) and market in (${market:sqlstring})
        order by crypto, market
        """,
        columns={
            "crypto": Column(link=EVALUATION_PAGE),
            "market": MARKET,
            "severity": SEVERITY,
            **dict.fromkeys(("f1_buy", "baseline_f1_buy", "f1_delta"), F1),
            **dict.fromkeys(("sortino", "rolling_sortino"), RATIO),
            "gates_passed": Column(colours=limits.YES_IS_GOOD),
            "recorded_at": WHEN,
        },
    )


def _pass_rate() -> build.Panel:
    return lines(
        "Pass rate of complete sessions",
        "Candidates that passed every gate, as a share of the points that were screened.",
        """
        select recorded_at as time,
            market || case when simulated then ' (SIMULATED)' else '' end as metric,
            pass_rate as value
        from ops_sessions
        where complete and $__timeFilter(recorded_at) and market in (${market:sqlstring})
        order by recorded_at
        """,
        unit="percentunit",
        points=True,
    )


def _sessions() -> build.Panel:
    return rows(
        "Sessions",
        "What became of each grid: 3 % of 450 points is another thing than 3 % of 50.",
        """
        select session, market, cryptos, screened, eligible, tested, passed, useful, complete, recorded_at
        from ops_sessions
        where $__timeFilter(recorded_at) and market in (${market:sqlstring})
        order by recorded_at desc
        limit 50
        """,
        columns={"market": MARKET, "complete": Column(colours=limits.YES_IS_GOOD), "recorded_at": WHEN},
        width=12,
        height=8,
    )


def _freshness() -> build.Panel:
    candles = rising(limit("CVN_FRESHNESS_CANDLES_WARNING_HOURS"), limit("CVN_FRESHNESS_CANDLES_CRITICAL_HOURS"))
    model_age = rising(limit("CVN_SIGNAL_FRESHNESS_WARNING_DAYS"), limit("CVN_SIGNAL_FRESHNESS_CRITICAL_DAYS"))
    return rows(
        "Freshness by crypto",
        "Age of the last closed candle and of the last useful model, and by how much that is over its group's limit.",
        """
        select crypto, groups, market, candle_hours, candle_level, model_days, model_level, overdue_days, overdue_level,
            reason
        from ops_freshness
        where crypto in (${crypto:sqlstring})
        order by overdue_days desc nulls first, crypto
        """,
        columns={
            "crypto": Column(link=SIGNALS_PAGE),
            "market": MARKET,
            "candle_hours": Column("h", 1, candles),
            "model_days": Column("d", 1, model_age),
            "overdue_days": Column("d", 1, rising(None, 0)),
            **dict.fromkeys(("candle_level", "model_level", "overdue_level"), LEVEL),
        },
        width=14,
    )


def _drift() -> build.Panel:
    return rows(
        "Drift",
        "The newest look at each crypto's features, scores, labels and calibration beside its training slice.",
        """
        select crypto, market, level, share, drifted, features, worst_feature, worst_psi, score_psi, reason, recorded_at
        from ops_drift
        where is_latest and crypto in (${crypto:sqlstring}) and market in (${market:sqlstring})
        order by level_number desc, crypto
        """,
        columns={
            "market": MARKET,
            "level": LEVEL,
            "share": SHARE,
            "worst_psi": F1,
            "score_psi": F1,
            "recorded_at": WHEN,
        },
        width=10,
    )


def _alerts() -> build.Panel:
    return rows(
        "Alerts that are not resolved",
        "The most severe first, with what to do next; `cvntrade ack` acknowledges one.",
        """
        select severity, status, key, what, place, owner, since, next_step, acknowledged_by, escalations, link
        from ops_alerts
        where status <> 'resolved'
        order by severity, since
        """,
        columns={"severity": SEVERITY, "since": WHEN, "link": Column(link="${dagster_url}${__value.raw}")},
    )


def _undelivered() -> build.Panel:
    return bars(
        "Messages that nobody was told yet",
        "By severity: how many wait, and since when the oldest does. Rows wait too when no channel is configured.",
        """
        select severity, count(*) as messages, max(seconds) / 60 as oldest_minutes
        from ops_alert_messages
        where status = 'waiting'
        group by severity
        order by severity
        """,
        unit="short",
        width=8,
    )


def _incidents() -> build.Panel:
    return rows(
        "Incidents",
        "How long each took: to detect, acknowledge and recover from the beginning, to mitigate and fix from the "
        "acknowledgement.",
        """
        select id, severity, status, title, began_at, seconds_to_detect, seconds_to_acknowledge, seconds_to_mitigate,
            seconds_to_fix, seconds_to_recover, alerts
        from ops_incidents
        where status = 'open' or $__timeFilter(began_at)
        order by began_at desc
        """,
        columns={
            "severity": SEVERITY,
            "began_at": WHEN,
            **{f"seconds_to_{what}": SECONDS for what in ("detect", "acknowledge", "mitigate", "fix", "recover")},
        },
        width=16,
        height=8,
    )
