"""Pass rates: counts of a grid, shares of them, and which gates refused."""

from dataclasses import replace

import pytest

from cvntrade_assets.trading.gates import GateError, GateLimits, GateResult, Measured, judge
from cvntrade_assets.trading.pass_rate import pass_rate

LIMITS = GateLimits(0.05, 0.10, 0.5, 30, 0.25, 0.30, 0.95)
GOOD = Measured(0.12, 0.03, 1.4, 0.9, 75, 0.08, -0.02, 0.97)


def verdicts(**measured: float | None) -> tuple[GateResult, ...]:
    return judge(replace(GOOD, **measured), LIMITS)


def test_what_became_of_a_grid() -> None:
    rate = pass_rate(96, 12, [verdicts(), verdicts(sortino=-1.0, dsr=0.2), verdicts(sortino=None)])
    assert (rate.screened, rate.eligible, rate.tested, rate.passed) == (96, 12, 3, 1)
    assert rate.of_grid == pytest.approx(1 / 96)
    assert dict(rate.refused_by) == {"sortino": 2, "dsr": 1}
    assert str(rate) == ("96 screened, 12 eligible, 3 tested, 1 passed (1 % of 96 points); refused by sortino 2, dsr 1")


def test_nothing_refused_nothing_said() -> None:
    rate = pass_rate(4, 4, [verdicts()])
    assert dict(rate.refused_by) == {}
    assert str(rate) == "4 screened, 4 eligible, 1 tested, 1 passed (25 % of 4 points)"


def test_a_rate_of_nothing_is_undefined() -> None:
    rate = pass_rate(0, 0, [])
    assert rate.of_grid is None
    assert str(rate) == "0 screened, 0 eligible, 0 tested, 0 passed"


def test_a_point_that_is_not_eligible_may_be_tested() -> None:
    assert pass_rate(50, 0, [verdicts(n_trades=3)]).passed == 0


@pytest.mark.parametrize(("screened", "eligible", "tested"), [(3, 4, 1), (1, 1, 2), (3, -1, 1)])
def test_counts_that_cannot_be_are_refused(screened: int, eligible: int, tested: int) -> None:
    with pytest.raises(GateError, match="expected parts of the first"):
        pass_rate(screened, eligible, [verdicts()] * tested)


def test_a_candidate_that_some_gate_did_not_judge_is_refused() -> None:
    with pytest.raises(GateError, match="expected every gate"):
        pass_rate(3, 1, [verdicts()[:-1]])
