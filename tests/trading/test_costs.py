"""Costs: what buyer and seller pay, and what nobody can pay."""

import pytest

from cvntrade_assets.trading.costs import Costs, CostsError


def test_a_buyer_pays_more_and_a_seller_gets_less() -> None:
    costs = Costs(fee_bps=100, slippage_bps=50)
    assert costs.bought == pytest.approx(1.005 * 1.01, rel=1e-15)
    assert costs.sold == pytest.approx(0.995 * 0.99, rel=1e-15)


def test_free_trading_is_exactly_free() -> None:
    free = Costs(7.5, 2.5).scaled(0.0)
    assert (free.bought, free.sold, free.round_trip) == (1.0, 1.0, 0.0)


def test_a_round_trip_is_two_sides_to_first_order() -> None:
    costs = Costs(7.5, 2.5)
    assert costs.round_trip == pytest.approx(0.002, rel=1e-15)
    assert 1 - costs.sold / costs.bought == pytest.approx(costs.round_trip, rel=2e-3)


def test_costs_scale() -> None:
    assert Costs(7.5, 2.5).scaled(2.0) == Costs(15.0, 5.0)


@pytest.mark.parametrize("value", [-0.1, 10_000.0, float("nan"), float("inf")])
def test_costs_that_nobody_can_pay_are_refused(value: float) -> None:
    with pytest.raises(CostsError, match=f"fee_bps is {value}"):
        Costs(value, 0.0)
    with pytest.raises(CostsError, match=f"slippage_bps is {value}"):
        Costs(0.0, value)


def test_the_dearest_costs_that_can_be_paid_leave_something() -> None:
    assert Costs(9_999.0, 9_999.0).sold > 0
    with pytest.raises(CostsError, match="fee_bps is 20000"):
        Costs(5_000.0, 0.0).scaled(4.0)
