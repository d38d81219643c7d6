"""Gates: what a tested strategy must have measured before it may be registered, each verdict with its reason.

A gate never passes on what is undefined: a strategy without trades has no Sortino ratio, and that is no virtue.
Limits are inclusive or not as the tables of the operations manual have it, and no rounding error moves a value across.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

TOLERANCE = 1e-9
"""Closer to its limit than this, a value is at the limit: 0.35 - 0.30 is no more than 0.05."""


class GateError(ValueError):
    """Measurements, limits or counts that gates cannot judge; the message says what is wrong."""


@dataclass(frozen=True)
class Measured:
    """What a tested strategy measured; None where undefined. Shares are within 0..1.

    Attributes:
        f1_buy_delta: f1_buy of the last fold's test period, minus that of always saying BUY.
        std_f1_buy: Sample standard deviation of f1_buy over the folds.
        sortino: Annualised Sortino ratio of the test backtest.
        rolling_sortino: The same of the rolling backtest.
        n_trades: Trades of the test backtest.
        max_drawdown: The larger of both backtests' largest falls from a peak, positive.
        screening_gap: screening_f1_buy minus last_fold_f1_buy.
        dsr: Deflated Sharpe ratio of the test periods together, a probability.

    Raises:
        GateError: A number is not finite.
    """

    f1_buy_delta: float | None
    std_f1_buy: float | None
    sortino: float | None
    rolling_sortino: float | None
    n_trades: int
    max_drawdown: float | None
    screening_gap: float | None
    dsr: float | None

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None and not math.isfinite(value):
                raise GateError(f"{field.name} is {value}: expected a finite number, or None where it is undefined")


@dataclass(frozen=True)
class GateLimits:
    """One limit a gate; that of `sortino` holds for both backtests. Shares are within 0..1.

    Raises:
        GateError: A limit is not finite.
    """

    f1_delta: float
    std_f1: float
    sortino: float
    n_trades: int
    drawdown: float
    screening_gap: float
    dsr: float

    def __post_init__(self) -> None:
        for field in fields(self):
            if not math.isfinite(getattr(self, field.name)):
                raise GateError(f"limit {field.name} is {getattr(self, field.name)}: expected a finite number")


@dataclass(frozen=True)
class GateResult:
    """One gate's verdict.

    Attributes:
        name: Of the gate, one of `GATES`.
        passed: Whether the measurement is defined and within the limit.
        value: What was measured; None where undefined.
        limit: What it was held against.
        reason: Both in words, with what was wanted.
    """

    name: str
    passed: bool
    value: float | None
    limit: float
    reason: str


@dataclass(frozen=True)
class _Gate:
    """What a gate reads, how it compares, and how it speaks of both; of what is undefined, where that can be."""

    what: str
    value: Callable[[Measured], float | None]
    limit: Callable[[GateLimits], float]
    holds: Callable[[float, float], bool]
    wanted: str
    spell: Callable[[float, int], str]
    undefined: str = ""


def exceeds(value: float, limit: float) -> bool:
    """Whether a value is above a limit by more than rounding.

    Differences of decimals carry noise: 0.6 - 0.55 is a little less than 0.05, and 0.9 - 0.85 a little more.
    """
    return value - limit > TOLERANCE


def _at_most(value: float, limit: float) -> bool:
    return not exceeds(value, limit)


def _at_least(value: float, limit: float) -> bool:
    return not exceeds(limit, value)


def _points(share: float, digits: int) -> str:
    return f"{_number(100.0 * share, digits)} points"


def _percent(share: float, digits: int) -> str:
    return f"{_number(100.0 * share, digits)} %"


def _number(value: float, digits: int) -> str:
    """So many significant digits; what is nothing but rounding is 0."""
    return f"{value if abs(value) > TOLERANCE else 0.0:.{digits}g}"


def _probability(value: float, digits: int) -> str:
    """Next to certain is not certain."""
    text = _number(value, digits)
    return ">0.9999" if text == "1" and value < 1.0 else text


_NO_TRADING = "no trades, or no candle lost anything"
_GATES: dict[str, _Gate] = {
    "f1_delta": _Gate(
        "f1_buy above that of always saying BUY",
        lambda measured: measured.f1_buy_delta,
        lambda limits: limits.f1_delta,
        exceeds,
        "more than",
        _points,
        "the last fold has no rows to score",
    ),
    "std_f1": _Gate(
        "standard deviation of f1_buy over the folds",
        lambda measured: measured.std_f1_buy,
        lambda limits: limits.std_f1,
        _at_most,
        "at most",
        _number,
        "fewer than two folds",
    ),
    "sortino": _Gate(
        "Sortino ratio of the test backtest",
        lambda measured: measured.sortino,
        lambda limits: limits.sortino,
        exceeds,
        "more than",
        _number,
        _NO_TRADING,
    ),
    "rolling_sortino": _Gate(
        "Sortino ratio of the rolling backtest",
        lambda measured: measured.rolling_sortino,
        lambda limits: limits.sortino,
        exceeds,
        "more than",
        _number,
        _NO_TRADING,
    ),
    "n_trades": _Gate(
        "trades of the test backtest",
        lambda measured: measured.n_trades,
        lambda limits: limits.n_trades,
        _at_least,
        "at least",
        lambda value, _digits: f"{value:.0f}",
    ),
    "drawdown": _Gate(
        "largest drawdown of either backtest",
        lambda measured: measured.max_drawdown,
        lambda limits: limits.drawdown,
        _at_most,
        "at most",
        _percent,
        "a backtest has no equity",
    ),
    "screening_gap": _Gate(
        "screening_f1_buy above last_fold_f1_buy",
        lambda measured: measured.screening_gap,
        lambda limits: limits.screening_gap,
        _at_most,
        "at most",
        _points,
        "one of the two is not known",
    ),
    "dsr": _Gate(
        "deflated Sharpe ratio of the test periods",
        lambda measured: measured.dsr,
        lambda limits: limits.dsr,
        _at_least,
        "at least",
        _probability,
        "too few days, or none with a trade",
    ),
}
GATES = tuple(_GATES)


def judge(measured: Measured, limits: GateLimits) -> tuple[GateResult, ...]:
    """Every gate's verdict, in the order of `GATES`; a strategy passes when all of them do."""
    return tuple(_verdict(name, gate, measured, limits) for name, gate in _GATES.items())


def refusals(results: Sequence[GateResult]) -> tuple[GateResult, ...]:
    """The gates that did not pass, in their order."""
    return tuple(result for result in results if not result.passed)


def _verdict(name: str, gate: _Gate, measured: Measured, limits: GateLimits) -> GateResult:
    value, limit = gate.value(measured), gate.limit(limits)
    if value is None:
        wanted = f"{gate.wanted} {gate.spell(limit, 4)} wanted"
        return GateResult(name, False, None, limit, f"{gate.what}: undefined ({gate.undefined}); {wanted}")
    found, bound = _spelt_apart(gate, value, limit)
    return GateResult(
        name, gate.holds(value, limit), value, limit, f"{gate.what}: {found}; {gate.wanted} {bound} wanted"
    )


def _spelt_apart(gate: _Gate, value: float, limit: float) -> tuple[str, str]:
    """Value and limit in words, with as many digits as it takes to tell them apart when they differ."""
    spelt = [(gate.spell(value, digits), gate.spell(limit, digits)) for digits in (4, 7, 12)]
    different = [pair for pair in spelt if pair[0] != pair[1]]
    at_limit = abs(value - limit) <= TOLERANCE
    return spelt[0] if at_limit or not different else different[0]
