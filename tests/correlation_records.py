"""Records for tests: a healthy one, which a test changes field by field, and any valid one."""

from datetime import UTC, datetime
from typing import Any

from hypothesis import strategies as st

from cvntrade_assets.operations.correlation_data import Benchmark, CorrelationData, Duration, Fold, Gate, Platform
from cvntrade_assets.trading.pte import PTE

GATES = ("f1_delta", "std_f1", "sortino", "rolling_sortino", "n_trades", "drawdown", "screening_gap", "dsr")
HELD = Benchmark(n_trades=1, total_return=0.04, sortino=0.4, sharpe=0.3, max_drawdown=0.2)
HEALTHY = Platform(success_rate=0.95, oom_kills=0, pvc_used=0.5, cpu_used=0.4, pods_lost=0)
BTC = "BTCUSDC"


def gates(*refusing: str) -> tuple[Gate, ...]:
    """Every gate; those that are named refuse."""
    return tuple(
        Gate(name=name, passed=name not in refusing, value=0.5, limit=0.4, reason=f"{name} is 0.5, limit 0.4")
        for name in GATES
    )


def fold(number: int) -> Fold:
    return Fold(
        number=number,
        test_from=datetime(2025, number, 1, tzinfo=UTC),
        test_until=datetime(2025, number + 1, 1, tzinfo=UTC),
        rows=1400,
        buy_rate=0.25,
        f1_buy=0.5,
        baseline_f1_buy=0.4,
        threshold=0.31,
        trade_threshold=0.42,
        n_trades=40,
        sortino=1.1,
    )


def by_delta(f1_buy: float, baseline: float) -> dict[str, float]:
    """An F1, its baseline, and the buy rate that makes the baseline: 2p / (1 + p), solved for p."""
    return {"f1_buy": f1_buy, "baseline_f1_buy": baseline, "buy_rate": baseline / (2 - baseline)}


def complete(passed: int, refusals: dict[str, int], tested: int = 3) -> dict[str, Any]:
    """A complete run's counts."""
    return {"screened": 96, "eligible": 40, "tested": tested, "passed": passed, "refusals": refusals}


# Solid, profitable, stable, on a healthy platform.
SOUND: dict[str, Any] = {
    "crypto": BTC,
    "market": "binance",
    "pte": "H4_SL1.0_TP2.0",
    "run_id": "0f7b6f5e",
    "session": "discovery of btc-core",
    "rank": 1,
    "leading": True,
    **by_delta(0.52, 0.4),
    "precision_buy": 0.44,
    "recall_buy": 0.63,
    "screening_f1_buy": 0.5,
    "last_fold_f1_buy": 0.52,
    "std_f1_buy": 0.03,
    "sortino": 1.4,
    "rolling_sortino": 1.1,
    "sharpe": 1.2,
    "total_return": 0.09,
    "expectancy_net": 0.0012,
    "profit_factor": 1.5,
    "hit_rate": 0.46,
    "max_drawdown": 0.08,
    "n_trades": 120,
    "turnover": 700.0,
    "exposure": 0.3,
    "tp_pct": 0.4,
    "sl_pct": 0.4,
    "timeout_pct": 0.2,
    "dsr": 0.97,
    "dsr_screening": 0.8,
    "pbo": 0.2,
    "trials": 3,
    "intervals": {"f1_buy": (0.48, 0.56), "sortino": (None, None)},
    "buy_and_hold": HELD,
    "always_buy": HELD,
    "folds": (fold(1), fold(2), fold(3)),
    "gates": gates(),
    **complete(1, {"sortino": 2}),
    "platform": HEALTHY,
    "versions": {"code": "0.1.0+aaaaaaaa", "walk_forward": "ab12"},
    "data_from": datetime(2023, 7, 3, tzinfo=UTC),
    "run_settings": {},
    "variants": {},
    "data_until": datetime(2025, 7, 1, tzinfo=UTC),
}


def record(**changes: Any) -> CorrelationData[str]:
    """The sound record with some fields changed."""
    return CorrelationData[str](**(SOUND | changes))


_SHARES = st.floats(0, 1)
_MAYBE_SHARE = st.none() | _SHARES
_MAYBE = st.none() | st.floats(-50, 50)
_COUNTS = st.none() | st.integers(0, 5)
_PTES = st.builds(
    PTE,
    st.integers(1, 6),
    st.sampled_from((0.1, 0.5, 0.8, 1.0, 1.2, 1.5, 1.8, 2.0, 2.2, 2.5, 3.0)),
    st.sampled_from((0.3, 0.5, 0.8, 1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0)),
)


@st.composite
def records(draw: st.DrawFn) -> CorrelationData[str]:
    """Any valid record, also with numbers that contradict each other in ways that nothing forbids."""
    n_trades = draw(st.integers(0, 300))
    buy_rate = draw(_SHARES)
    parts = sorted(draw(st.tuples(_SHARES, _SHARES)))
    shares = (parts[0], parts[1] - parts[0], 1 - parts[1]) if n_trades else (None, None, None)
    refusing = draw(st.sets(st.sampled_from(GATES)))
    return record(
        pte=str(draw(_PTES)),
        market=draw(st.sampled_from(("binance", "simulated"))),
        buy_rate=buy_rate,
        baseline_f1_buy=2 * buy_rate / (1 + buy_rate),
        f1_buy=draw(_SHARES),
        screening_f1_buy=draw(_MAYBE_SHARE),
        last_fold_f1_buy=draw(_MAYBE_SHARE),
        std_f1_buy=draw(_MAYBE_SHARE),
        sortino=draw(_MAYBE),
        n_trades=n_trades,
        **dict(zip(("tp_pct", "sl_pct", "timeout_pct"), shares, strict=True)),
        dsr=draw(_MAYBE_SHARE),
        folds=tuple(fold(number) for number in range(1, draw(st.integers(1, 10)))),
        gates=gates(*refusing),
        **draw(_COMPLETE),
        platform=Platform(
            success_rate=draw(_MAYBE_SHARE),
            oom_kills=draw(_COUNTS),
            pvc_used=draw(_MAYBE_SHARE),
            cpu_used=draw(_MAYBE_SHARE),
            pods_lost=draw(_COUNTS),
        ),
        duration=draw(_DURATIONS),
    )


@st.composite
def _complete_runs(draw: st.DrawFn) -> dict[str, Any]:
    tested = draw(st.integers(0, 5))
    passed = draw(st.integers(0, tested))
    refused = tested - passed
    names = draw(st.sets(st.sampled_from(GATES), min_size=1)) if refused else set()
    return complete(passed, dict.fromkeys(names, refused), tested)


_COMPLETE = _complete_runs() | st.just(dict.fromkeys(("screened", "eligible", "tested", "passed", "refusals")))
_STAGES = (
    "candles",
    "backtest_candles",
    "walk_forward",
    "rolling_backtest",
    "evaluation",
    "screening_matrix",
    "labels",
)
_DURATIONS = st.none() | st.builds(
    Duration,
    minutes=st.floats(0, 1000),
    p95_minutes=st.none() | st.floats(1, 1000),
    slowest_stage=st.none() | st.sampled_from(_STAGES),
)
