"""How what a model says becomes trades: costs, position size, cooldown, trend filter."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

import pandas as pd

from cvntrade_assets.trading.costs import Costs

TrendFilter: TypeAlias = Literal["off", "ema_50", "ema_200"]
"""Which candles may be entered after: all, or those that closed above an average of 50 or 200 closes."""

_NO_TIME = pd.Timedelta(0)


class ExecutionError(ValueError):
    """An execution that nobody can carry out; the message says what is expected."""


@dataclass(frozen=True, slots=True)
class Execution:
    """How what a model says becomes trades; every backtest of one evaluation shares it.

    Attributes:
        costs: Of one side.
        fraction: Share of the equity that a trade is opened with, above 0 and at most 1.
        cooldown: Time without an entry after a trade has ended, 0 or more.
        trend: Enter only above this moving average of the closes.

    Raises:
        ExecutionError: A value is out of range.
    """

    costs: Costs
    fraction: float = 1.0
    cooldown: pd.Timedelta = _NO_TIME
    trend: TrendFilter = "off"

    def __post_init__(self) -> None:
        if not (math.isfinite(self.fraction) and 0.0 < self.fraction <= 1.0):
            raise ExecutionError(f"position fraction is {self.fraction}: expected a share above 0, at most 1")
        if not self.cooldown >= _NO_TIME:
            raise ExecutionError(f"cooldown is {self.cooldown}: expected a duration of 0 or more")
