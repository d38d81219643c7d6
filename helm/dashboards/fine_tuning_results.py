"""Fine-Tuning Results: what each factor's variants came to, as their runs report."""

from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.models import dashboard as model

from helm.dashboards import limits
from helm.dashboards.board import dashboard
from helm.dashboards.limits import falling, limit
from helm.dashboards.panels import F1, MARKET, RATIO, RUN, SECONDS, WHEN, Column, bars, lines, number, rows
from helm.dashboards.sources import Sql

UID = "fine-tuning-results"

_CHOSEN = (
    "factor in (${factor:sqlstring}) and session in (${session:sqlstring}) and crypto in (${crypto:sqlstring}) "
    "and market in (${market:sqlstring})"
)
_DELTA = falling(limit("CVN_SIGNAL_F1_DELTA_WARNING"), limit("CVN_SIGNAL_F1_DELTA_CRITICAL"))
_SORTINO = falling(limit("CVN_SIGNAL_SORTINO_WARNING"), limit("CVN_SIGNAL_SORTINO_CRITICAL"))


def fine_tuning_results() -> model.Dashboard:
    """Results by factor, variant and crypto, with the guardrails' findings."""
    return dashboard(
        UID,
        "Fine-Tuning Results",
        "Factors and their variants: results on each crypto's test slice. Variants are compared within a crypto only.",
        (
            ("As they arrive", (_arrived(), _flagged(), _overridden(), _progress())),
            ("Variants, crypto by crypto", (_deltas(), _sortinos(), _variants())),
            ("Results", (_results(),)),
            ("What training saw", (_samples(), _guardrails())),
        ),
        choices=("market", "crypto", "factor", "session"),
    )


def _arrived() -> build.Panel:
    sql = f"select count(*) as results from ops_results where $__timeFilter(recorded_at) and {_CHOSEN}"
    return number("Results", "Runs that reported in the time range.", Sql(sql), unit="short")


def _flagged() -> build.Panel:
    sql = f"""
        select count(*) as results from ops_results
        where guardrail_slow_run and $__timeFilter(recorded_at) and {_CHOSEN}
    """
    return number(
        "Of slow runs",
        "Results whose run went over a limit of time.",
        Sql(sql),
        unit="short",
        thresholds=limits.rising(1, None),
    )


def _overridden() -> build.Panel:
    sql = f"""
        select count(*) as results from ops_results
        where guardrail_override and $__timeFilter(recorded_at) and {_CHOSEN}
    """
    return number(
        "Of overridden guardrails",
        "Results whose run a guardrail would have stopped.",
        Sql(sql),
        unit="short",
        thresholds=limits.rising(1, None),
    )


def _progress() -> build.Panel:
    return lines(
        "Results over time",
        "How many arrived, by factor and hour.",
        f"""
        select $__timeGroupAlias(recorded_at, '1h'), factor as metric, count(*) as value
        from ops_results where $__timeFilter(recorded_at) and {_CHOSEN} group by 1, 2 order by 1
        """,
        unit="short",
        height=4,
    )


def _by_variant(column: str) -> str:
    return f"""
        select label || ' ' || factor || '=' || variant as variant, avg({column}) as {column}
        from ops_results where $__timeFilter(recorded_at) and {_CHOSEN}
        group by label, factor, variant having avg({column}) is not null order by label, factor, variant
    """


def _deltas() -> build.Panel:
    return bars(
        "f1_buy over always-BUY, by crypto and variant",
        "Mean over the runs of the time range; an F1 alone says nothing.",
        _by_variant("f1_delta"),
        unit="none",
        thresholds=_DELTA,
    )


def _sortinos() -> build.Panel:
    return bars(
        "Sortino ratio, by crypto and variant",
        "Mean over the runs that traded.",
        _by_variant("sortino"),
        unit="none",
        thresholds=_SORTINO,
    )


def _variants() -> build.Panel:
    return rows(
        "Variants",
        "Every variant on every crypto: how many runs, what they came to, what they took.",
        f"""
        select crypto, market, factor, variant, count(*) as runs, avg(f1_buy) as f1_buy,
            avg(baseline_f1_buy) as baseline_f1_buy, avg(f1_delta) as f1_delta, stddev_samp(f1_delta) as deviation,
            avg(pr_auc - pr_auc_chance) as pr_auc_over_chance, avg(brier_base_rate - brier_after) as brier_gain,
            avg(sortino) as sortino, avg(n_trades) as n_trades, avg(seconds) as seconds
        from ops_results where $__timeFilter(recorded_at) and {_CHOSEN}
        group by crypto, market, factor, variant order by crypto, market, factor, f1_delta desc
        """,
        columns={
            "market": MARKET,
            **dict.fromkeys(("f1_buy", "baseline_f1_buy", "deviation", "pr_auc_over_chance", "brier_gain"), F1),
            "f1_delta": Column("none", 3, _DELTA),
            "sortino": Column("none", 2, _SORTINO),
            "n_trades": Column("short", 0),
            "seconds": SECONDS,
        },
    )


def _results() -> build.Panel:
    return rows(
        "Every result",
        "The newest first, with the interval of f1_buy; open the run for its report.",
        f"""
        select recorded_at, crypto, market, factor, variant, session, reused, f1_buy, f1_buy_low, f1_buy_high,
            baseline_f1_buy, f1_delta, pr_auc, pr_auc_chance, brier_before, brier_after, sortino, sharpe, max_drawdown,
            n_trades, seconds, run_id
        from ops_results where $__timeFilter(recorded_at) and {_CHOSEN} order by recorded_at desc limit 500
        """,
        columns={
            "recorded_at": WHEN,
            "market": MARKET,
            **dict.fromkeys(("f1_buy", "f1_buy_low", "f1_buy_high", "baseline_f1_buy", "pr_auc", "pr_auc_chance"), F1),
            **dict.fromkeys(("brier_before", "brier_after"), F1),
            "f1_delta": Column("none", 3, _DELTA),
            "sortino": Column("none", 2, _SORTINO),
            "sharpe": RATIO,
            "seconds": SECONDS,
            "run_id": RUN,
        },
        height=12,
    )


def _samples() -> build.Panel:
    return lines(
        "Training rows that preflight counted",
        "With the CUSUM filter one to two thousand are usual; many more mean that it was off.",
        f"""
        select recorded_at as time, label || ' ' || factor || '=' || variant as metric, preflight_samples as value
        from ops_results
        where preflight_samples is not null and $__timeFilter(recorded_at) and {_CHOSEN} order by recorded_at
        """,
        unit="short",
        thresholds=limits.rising(None, limit("CVN_GUARDRAIL_MAX_ROWS")),
        points=True,
    )


def _guardrails() -> build.Panel:
    return rows(
        "Guardrails of these results",
        "What preflight counted, whether the run was slow and why, what was chosen, what was overridden and why.",
        f"""
        select crypto, market, factor, variant, preflight_samples, preflight_features, preflight_memory_gb,
            guardrail_slow_run,
            guardrail_slow_reason, guardrail_explicit, guardrail_override, guardrail_override_reason, run_id
        from ops_results where $__timeFilter(recorded_at) and {_CHOSEN} order by recorded_at desc limit 200
        """,
        columns={
            "market": MARKET,
            "preflight_memory_gb": Column("decgbytes", 1),
            **dict.fromkeys(("guardrail_slow_run", "guardrail_override"), Column(colours=limits.YES_IS_BAD)),
            "run_id": RUN,
        },
        width=12,
        height=8,
    )
