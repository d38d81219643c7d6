"""Model Registry: which models exist, which are in charge, how old they are, and who changed what."""

from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.models import dashboard as model

from helm.dashboards import limits
from helm.dashboards.board import dashboard
from helm.dashboards.limits import limit, rising
from helm.dashboards.panels import EVALUATION_PAGE, F1, MARKET, RATIO, RUN, WHEN, Column, bars, number, rows
from helm.dashboards.signals import signal_panel
from helm.dashboards.sources import Sql

UID = "model-registry"

_CHOSEN = "crypto in (${crypto:sqlstring}) and market in (${market:sqlstring})"
_AGE = rising(limit("CVN_SIGNAL_FRESHNESS_WARNING_DAYS"), limit("CVN_SIGNAL_FRESHNESS_CRITICAL_DAYS"))
_STATE = Column(colours=limits.MODEL_STATES)


def model_registry() -> model.Dashboard:
    """States, ages, waiting challengers, events."""
    return dashboard(
        UID,
        "Model Registry",
        "Versions, states, freshness, active and stale models; PostgreSQL decides, MLflow mirrors it.",
        (
            ("Now", (_champions(), _challengers(), _stale(), _unmirrored(), _states())),
            ("Freshness", (_ages(), signal_panel("model_freshness", 12))),
            ("Waiting for a promotion", (_waiting(), signal_panel("challenger_count"))),
            ("Models", (_models(),)),
            ("What changed", (_events(),)),
        ),
        choices=("market", "crypto"),
        since="now-30d",
    )


def _count(title: str, description: str, where: str, thresholds: build.ThresholdsConfig | None = None) -> build.Panel:
    sql = f"""
        select count(*) filter (where not simulated) as models, count(*) filter (where simulated) as "SIMULATED"
        from ops_models where {where} and {_CHOSEN}
    """
    return number(title, description, Sql(sql), unit="short", thresholds=thresholds)


def _champions() -> build.Panel:
    return _count("Champions", "Models in charge of their crypto.", "state = 'champion'")


def _challengers() -> build.Panel:
    warning, critical = limit("CVN_SIGNAL_CHALLENGERS_WARNING"), limit("CVN_SIGNAL_CHALLENGERS_CRITICAL")
    # More than the limit, and a count has no fractions.
    between = rising(warning + 1, critical + 1)
    return _count("Challengers", "Passed every gate, wait for approval.", "state = 'challenger'", between)


def _stale() -> build.Panel:
    old = limit("CVN_SIGNAL_FRESHNESS_WARNING_DAYS")
    return _count(
        "Stale useful models",
        f"Champions, else newest challengers, refreshed more than {old:g} days ago.",
        f"is_useful and age_days > {old:g}",
        rising(1, None),
    )


def _unmirrored() -> build.Panel:
    return _count(
        "Not shown by MLflow yet",
        "Challengers and champions whose state MLflow does not show; it is tried again until it does.",
        "not mirrored and state in ('challenger', 'champion')",
        rising(1, None),
    )


def _states() -> build.Panel:
    return bars(
        "Models by state",
        "Every registered version.",
        f"""
        select state || case when simulated then ' (SIMULATED)' else '' end as state, count(*) as models
        from ops_models where {_CHOSEN} group by 1 order by 1
        """,
        unit="short",
        width=8,
        height=4,
    )


def _ages() -> build.Panel:
    return bars(
        "Age of the useful model, by crypto",
        "Days since it was refreshed: since the data end that it was made from and judged on.",
        f"select label, age_days from ops_models where is_useful and {_CHOSEN} order by age_days desc",
        unit="d",
        thresholds=_AGE,
    )


def _waiting() -> build.Panel:
    return rows(
        "Challengers, the longest wait first",
        "Who waits for a promotion, since when, and what its evaluation came to. A simulated one is never promoted.",
        f"""
        select crypto, number, market, pte, waiting_days, age_days, f1_delta, sortino, rolling_sortino, dsr,
            primary_code
        from ops_models where state = 'challenger' and {_CHOSEN} order by waiting_days desc nulls last
        """,
        columns={
            "crypto": Column(link=EVALUATION_PAGE),
            "market": MARKET,
            "waiting_days": Column("d", 1),
            "age_days": Column("d", 1, _AGE),
            "f1_delta": F1,
            **dict.fromkeys(("sortino", "rolling_sortino", "dsr"), RATIO),
        },
        width=16,
        height=8,
    )


def _models() -> build.Panel:
    return rows(
        "Every version",
        "With what it was fitted and judged on; its age counts from data_until.",
        f"""
        select crypto, number, state, is_useful, market, pte, age_days, fitted_until, data_until, f1_buy,
            baseline_f1_buy, f1_delta, sortino, rolling_sortino, dsr, primary_code, mlflow_version, mirrored,
            changed_at, run_id
        from ops_models where {_CHOSEN} order by crypto, number desc
        """,
        columns={
            "crypto": Column(link=EVALUATION_PAGE),
            "state": _STATE,
            "market": MARKET,
            "age_days": Column("d", 1, _AGE),
            **dict.fromkeys(("fitted_until", "data_until", "changed_at"), WHEN),
            **dict.fromkeys(("f1_buy", "baseline_f1_buy", "f1_delta"), F1),
            **dict.fromkeys(("sortino", "rolling_sortino", "dsr"), RATIO),
            "mirrored": Column(colours=limits.YES_IS_GOOD),
            "run_id": RUN,
        },
        height=12,
    )


def _events() -> build.Panel:
    return rows(
        "Changes of state",
        "Who changed which model, in which role, and why; written by a trigger, so that no door goes around it.",
        f"""
        select recorded_at, crypto, number, market, from_state, to_state, author, role, reason, run_id
        from ops_model_events where $__timeFilter(recorded_at) and {_CHOSEN} order by recorded_at desc limit 200
        """,
        columns={"recorded_at": WHEN, "market": MARKET, "from_state": _STATE, "to_state": _STATE, "run_id": RUN},
    )
