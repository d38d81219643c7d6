"""Execution: what it takes, and how it is read from settings."""

import math

import pandas as pd
import pytest

from cvntrade_assets.learning.from_settings import EXECUTION_SETTINGS, execution
from cvntrade_assets.settings import resolve
from cvntrade_assets.trading.costs import Costs
from cvntrade_assets.trading.execution import Execution, ExecutionError

COSTS = Costs(7.5, 2.5)


def test_the_usual_execution_is_all_in_at_once():
    assert Execution(COSTS) == Execution(COSTS, fraction=1.0, cooldown=pd.Timedelta(0), trend="off")


@pytest.mark.parametrize("fraction", [0.0, -0.5, 1.01, math.nan, math.inf])
def test_a_fraction_that_is_no_share_is_refused(fraction: float):
    with pytest.raises(ExecutionError, match=r"position fraction is .*: expected a share above 0, at most 1"):
        Execution(COSTS, fraction=fraction)


@pytest.mark.parametrize("cooldown", [pd.Timedelta("-1min"), pd.NaT])
def test_a_cooldown_that_never_ends_or_has_ended_before_is_refused(cooldown: pd.Timedelta):
    with pytest.raises(ExecutionError, match="expected a duration of 0 or more"):
        Execution(COSTS, cooldown=cooldown)


def test_settings_are_read_in_candles_of_the_learning_timeframe():
    run = {
        "CVN_FEE_BPS": "10",
        "CVN_SLIPPAGE_BPS": "1",
        "CVN_POSITION_FRACTION": "0.5",
        "CVN_COOLDOWN_CANDLES": "3",
        "CVN_TREND_FILTER": "ema_200",
        "CVN_TIMEFRAME": "15m",
    }
    assert set(run) == set(EXECUTION_SETTINGS)
    found = execution(resolve(base_env={}, run=run, now=pd.Timestamp("2025-09-01", tz="UTC")))
    assert found == Execution(Costs(10.0, 1.0), 0.5, pd.Timedelta("45min"), "ema_200")
