"""Gates: both sides of every limit, rounding at the limit, what is undefined, and the reasons."""

import math
from dataclasses import replace

import pandas as pd
import pytest

from cvntrade_assets.learning.from_settings import GATE_SETTINGS, gate_limits
from cvntrade_assets.settings import resolve
from cvntrade_assets.trading.gates import (
    GATES,
    GateError,
    GateLimits,
    GateResult,
    Measured,
    exceeds,
    judge,
    refusals,
)

LIMITS = GateLimits(f1_delta=0.05, std_f1=0.10, sortino=0.5, n_trades=30, drawdown=0.25, screening_gap=0.30, dsr=0.95)
GOOD = Measured(
    f1_buy_delta=0.12,
    std_f1_buy=0.03,
    sortino=1.4,
    rolling_sortino=0.9,
    n_trades=75,
    max_drawdown=0.08,
    screening_gap=-0.02,
    dsr=0.97,
)


def verdict(gate: str, **measured: float | None) -> GateResult:
    results = judge(replace(GOOD, **measured), LIMITS)
    # What was not touched passes.
    assert [result.name for result in refusals(results)] in ([], [gate])
    return next(result for result in results if result.name == gate)


def test_a_good_strategy_passes_every_gate() -> None:
    results = judge(GOOD, LIMITS)
    assert tuple(result.name for result in results) == GATES
    assert all(result.passed for result in results)
    assert refusals(results) == ()


@pytest.mark.parametrize(
    ("gate", "field", "passes", "fails"),
    [
        ("f1_delta", "f1_buy_delta", 0.0501, 0.05),
        ("f1_delta", "f1_buy_delta", 0.05 + 1e-6, 0.40 - 0.35),
        ("f1_delta", "f1_buy_delta", 0.3, -0.1),
        ("std_f1", "std_f1_buy", 0.1, 0.1001),
        ("std_f1", "std_f1_buy", 0.3 - 0.2, 0.1 + 1e-6),
        ("std_f1", "std_f1_buy", 0.1 + 1e-16, 0.5),
        ("sortino", "sortino", 0.5001, 0.5),
        ("sortino", "sortino", 0.5 + 1e-6, 0.5 + 1e-15),
        ("sortino", "sortino", 3.0, -1.0),
        ("rolling_sortino", "rolling_sortino", 0.5001, 0.5),
        ("rolling_sortino", "rolling_sortino", 0.6, 0.0),
        ("n_trades", "n_trades", 30, 29),
        ("n_trades", "n_trades", 1000, 0),
        ("drawdown", "max_drawdown", 0.25, 0.2501),
        ("drawdown", "max_drawdown", 1 - 0.75, 0.25 + 1e-6),
        ("screening_gap", "screening_gap", 0.3, 0.3001),
        ("screening_gap", "screening_gap", 0.9 - 0.6, 0.3 + 1e-6),
        ("screening_gap", "screening_gap", -0.5, 0.7),
        ("dsr", "dsr", 0.95, 0.9499),
        ("dsr", "dsr", 0.95 - 1e-12, 0.95 - 1e-6),
        ("dsr", "dsr", 1.0, 0.0),
    ],
)
def test_both_sides_of_every_limit(gate: str, field: str, passes: float, fails: float) -> None:
    assert verdict(gate, **{field: passes}).passed
    refused = verdict(gate, **{field: fails})
    assert not refused.passed
    assert refused.value == fails


@pytest.mark.parametrize(
    ("gate", "field"),
    [
        ("f1_delta", "f1_buy_delta"),
        ("std_f1", "std_f1_buy"),
        ("sortino", "sortino"),
        ("rolling_sortino", "rolling_sortino"),
        ("drawdown", "max_drawdown"),
        ("screening_gap", "screening_gap"),
        ("dsr", "dsr"),
    ],
)
def test_what_is_undefined_never_passes_and_says_so(gate: str, field: str) -> None:
    found = verdict(gate, **{field: None})
    assert not found.passed
    assert found.value is None
    assert "undefined (" in found.reason
    assert "wanted" in found.reason


def test_a_strategy_without_trades_passes_nothing_that_trades_decide() -> None:
    idle = replace(GOOD, sortino=None, rolling_sortino=None, n_trades=0, max_drawdown=0.0, dsr=None)
    refused = [result.name for result in refusals(judge(idle, LIMITS))]
    assert refused == ["sortino", "rolling_sortino", "n_trades", "dsr"]


@pytest.mark.parametrize(
    ("gate", "measured", "reason"),
    [
        (
            "f1_delta",
            {"f1_buy_delta": 0.031},
            "f1_buy above that of always saying BUY: 3.1 points; more than 5 points wanted",
        ),
        ("n_trades", {"n_trades": 12}, "trades of the test backtest: 12; at least 30 wanted"),
        (
            "drawdown",
            {"max_drawdown": 0.4},
            "largest drawdown of either backtest: 40 %; at most 25 % wanted",
        ),
        ("sortino", {"sortino": -0.25}, "Sortino ratio of the test backtest: -0.25; more than 0.5 wanted"),
        (
            "std_f1",
            {"std_f1_buy": 0.1000004},
            "standard deviation of f1_buy over the folds: 0.1000004; at most 0.1 wanted",
        ),
        (
            "dsr",
            {"dsr": 1.0 - 1e-9},
            "deflated Sharpe ratio of the test periods: >0.9999; at least 0.95 wanted",
        ),
        (
            "dsr",
            {"dsr": None},
            "deflated Sharpe ratio of the test periods: undefined (too few days, or none with a trade); "
            "at least 0.95 wanted",
        ),
    ],
)
def test_reasons_say_what_was_measured_and_what_was_wanted(gate: str, measured: dict, reason: str) -> None:
    assert verdict(gate, **measured).reason == reason


def test_rounding_moves_nothing_across() -> None:
    assert not exceeds(0.35 - 0.30, 0.05)
    assert not exceeds(0.1 + 0.2, 0.3)
    assert exceeds(0.3 + 1e-8, 0.3)
    assert not exceeds(-1.0, 0.0)


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_none_are_refused(wrong: float) -> None:
    with pytest.raises(GateError, match=r"sortino is .*None where it is undefined"):
        replace(GOOD, sortino=wrong)
    with pytest.raises(GateError, match="limit dsr"):
        replace(LIMITS, dsr=wrong)


def test_limits_are_settings() -> None:
    now = pd.Timestamp("2025-01-01", tz="UTC")
    assert gate_limits(resolve(base_env={}, run={}, now=now)) == LIMITS
    other = dict(zip(GATE_SETTINGS, ("0.1", "0.2", "1", "50", "0.3", "0.4", "0.9"), strict=True))
    assert gate_limits(resolve(base_env=other, run={}, now=now)) == GateLimits(0.1, 0.2, 1.0, 50, 0.3, 0.4, 0.9)
