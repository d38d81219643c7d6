"""Testing & Backtest: what candidates were worth, and which gates refused them."""

from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.models import dashboard as model

from helm.dashboards import limits
from helm.dashboards.board import dashboard
from helm.dashboards.limits import falling, limit, rising
from helm.dashboards.panels import (
    EVALUATION_PAGE,
    F1,
    MARKET,
    RATIO,
    RUN,
    SEVERITY,
    SHARE,
    WHEN,
    Column,
    bars,
    lines,
    rows,
    stacks,
)

UID = "testing-backtest"


def _chosen(table: str = "ops_evaluations") -> str:
    """The cryptos and markets that were chosen, of one table of a query."""
    return f"{table}.crypto in (${{crypto:sqlstring}}) and {table}.market in (${{market:sqlstring}})"


_CHOSEN = _chosen()


def testing_backtest() -> model.Dashboard:
    """F1 beside its baseline, screening beside testing, exits, returns, gates, diagnoses, candidates."""
    return dashboard(
        UID,
        "Testing & Backtest",
        "Results of the walk-forward test and of the rolling backtest, their gates and refusals.",
        (
            ("Is there anything to it?", (_f1(), _screening(), _folds(), _stability())),
            ("What trading made of it", (_sortino(), _exits(), _returns())),
            ("Gates and diagnoses", (_refusals(), _diagnoses(), _gates())),
            ("Candidates", (_qualified(), _candidates())),
        ),
        choices=("market", "crypto"),
        since="now-30d",
    )


def _over_time(*values: tuple[str, str]) -> str:
    """Numbers of leading candidates over time: column, and what it is called beside the crypto."""
    return (
        "\nunion all\n".join(
            f"select recorded_at as time, label || ': {name}' as metric, {column} as value from ops_evaluations "
            f"where leads and $__timeFilter(recorded_at) and {_CHOSEN}"
            for column, name in values
        )
        + "\norder by time"
    )


def _f1() -> build.Panel:
    return lines(
        "f1_buy beside always-BUY",
        "F1 of BUY on the newest test period, and that of always saying BUY on the same candles: 2p / (1 + p).",
        _over_time(("f1_buy", "f1_buy"), ("baseline_f1_buy", "always-BUY")),
        unit="none",
        points=True,
    )


def _screening() -> build.Panel:
    return lines(
        "screening_f1_buy beside last_fold_f1_buy",
        "What the cheap recipe of the screening found, and what the full one did: same metric, same period.",
        _over_time(("screening_f1_buy", "screening"), ("last_fold_f1_buy", "last fold")),
        unit="none",
        points=True,
    )


def _folds() -> build.Panel:
    return rows(
        "Folds of the newest evaluation",
        "Every test period of each crypto's leading candidate, beside always-BUY on it.",
        f"""
        select folds.crypto, folds.market, folds.pte, number, test_from, test_until, folds.f1_buy,
            folds.baseline_f1_buy, folds.n_trades, folds.sortino
        from ops_folds folds
        join ops_evaluations evaluation using (run_id, crypto, pte)
        where evaluation.is_latest and {_chosen("folds")}
        order by folds.crypto, folds.market, number
        """,
        columns={
            "market": MARKET,
            **dict.fromkeys(("test_from", "test_until"), WHEN),
            **dict.fromkeys(("f1_buy", "baseline_f1_buy"), F1),
            "sortino": RATIO,
        },
        width=14,
    )


def _stability() -> build.Panel:
    return lines(
        "Deviation of f1_buy over the folds",
        "A model that is not the same from one period to the next is none; the red line is the gate's too.",
        _over_time(("std_f1_buy", "std_f1_buy")),
        unit="none",
        width=10,
        height=9,
        thresholds=rising(limit("CVN_SIGNAL_STD_F1_WARNING"), limit("CVN_SIGNAL_STD_F1_CRITICAL")),
        points=True,
    )


def _sortino() -> build.Panel:
    return lines(
        "Sortino ratio of test and rolling backtest",
        "Annualised, net of costs; undefined without trades.",
        _over_time(("sortino", "test"), ("rolling_sortino", "rolling")),
        unit="none",
        width=8,
        thresholds=falling(limit("CVN_SIGNAL_SORTINO_WARNING"), limit("CVN_SIGNAL_SORTINO_CRITICAL")),
        points=True,
    )


def _exits() -> build.Panel:
    return bars(
        "How trades ended: tp_pct, sl_pct, timeout_pct",
        "Shares of the newest evaluation's trades that ended at the take-profit, at the stop-loss and at the horizon.",
        f"select label, tp_pct, sl_pct, timeout_pct from ops_evaluations where is_latest and {_CHOSEN} order by label",
        unit="percentunit",
        width=8,
    )


def _returns() -> build.Panel:
    return bars(
        "Net return beside always-BUY and buy-and-hold",
        "Of the newest evaluation's test period; buy-and-hold stakes everything, whatever the position fraction is.",
        f"""
        select label, total_return, always_buy_return, buy_and_hold_return
        from ops_evaluations where is_latest and {_CHOSEN} order by label
        """,
        unit="percentunit",
        width=8,
    )


def _refusals() -> build.Panel:
    return bars(
        "Which gates refused candidates",
        "Refusals by gate in the time range; a candidate may be refused by several.",
        f"""
        select gate, count(*) as refusals
        from ops_gates
        where not passed and $__timeFilter(recorded_at) and {_chosen("ops_gates")}
        group by gate order by refusals desc
        """,
        unit="short",
        width=8,
    )


def _diagnoses() -> build.Panel:
    return stacks(
        "Diagnoses over time",
        "Primary code of every leading candidate, by day.",
        f"""
        select $__timeGroupAlias(recorded_at, '1d'), primary_code as metric, count(*) as value
        from ops_evaluations
        where leads and $__timeFilter(recorded_at) and {_CHOSEN}
        group by 1, 2 order by 1
        """,
        width=16,
    )


def _gates() -> build.Panel:
    return rows(
        "Gates of the newest evaluations",
        "What each gate measured of the leading candidates, and what it demands.",
        f"""
        select gates.crypto, gates.market, gates.pte, gate, gates.passed, value, limit_value, reason
        from ops_gates gates
        join ops_evaluations evaluation using (run_id, crypto, pte)
        where evaluation.is_latest and {_chosen("gates")}
        order by gates.crypto, gates.market, gates.passed, gate
        """,
        columns={"market": MARKET, "passed": Column(colours=limits.YES_IS_GOOD), "value": F1, "limit_value": F1},
    )


def _qualified() -> build.Panel:
    return rows(
        "Candidates that passed every gate",
        "In the time range, the newest first.",
        f"""
        select recorded_at, crypto, market, pte, f1_delta, sortino, rolling_sortino, dsr, n_trades, run_id
        from ops_evaluations
        where gates_passed and $__timeFilter(recorded_at) and {_CHOSEN}
        order by recorded_at desc limit 100
        """,
        columns={
            "recorded_at": WHEN,
            "crypto": Column(link=EVALUATION_PAGE),
            "market": MARKET,
            "f1_delta": F1,
            **dict.fromkeys(("sortino", "rolling_sortino", "dsr"), RATIO),
            "run_id": RUN,
        },
    )


def _candidates() -> build.Panel:
    shares = dict.fromkeys(("tp_pct", "sl_pct", "timeout_pct", "max_drawdown"), SHARE)
    ratios = dict.fromkeys(("sortino", "rolling_sortino", "sharpe", "dsr", "pbo"), RATIO)
    scores = dict.fromkeys(("f1_buy", "baseline_f1_buy", "f1_delta", "screening_gap", "std_f1_buy"), F1)
    return rows(
        "Every tested candidate",
        "All numbers of the record, the newest first; open the run for its log and plots.",
        f"""
        select recorded_at, crypto, market, pte, rank, leads, gates_passed, primary_code, severity, f1_buy,
            baseline_f1_buy, f1_delta, screening_gap, std_f1_buy, sortino, rolling_sortino, sharpe, max_drawdown,
            n_trades, tp_pct, sl_pct, timeout_pct, dsr, pbo, trials, session, run_id
        from ops_evaluations
        where $__timeFilter(recorded_at) and {_CHOSEN}
        order by recorded_at desc, rank limit 500
        """,
        columns={
            **shares,
            **ratios,
            **scores,
            "recorded_at": WHEN,
            "crypto": Column(link=EVALUATION_PAGE),
            "market": MARKET,
            "severity": SEVERITY,
            "gates_passed": Column(colours=limits.YES_IS_GOOD),
            "run_id": RUN,
        },
        height=12,
    )
