"""What trading costs: fee and slippage of one side, in basis points."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self


class CostsError(ValueError):
    """Costs that nobody can pay; the message says what is expected."""


@dataclass(frozen=True, slots=True)
class Costs:
    """What one side of a trade costs.

    Attributes:
        fee_bps: Fee in basis points of what is traded, finite, 0 or more.
        slippage_bps: How much worse than its price an order is filled, in basis points, finite, 0 or more.

    Raises:
        CostsError: A value is negative or not finite.
    """

    fee_bps: float
    slippage_bps: float

    def __post_init__(self) -> None:
        for name in ("fee_bps", "slippage_bps"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0.0):
                raise CostsError(f"{name} is {value}: expected a finite number of basis points, 0 or more")

    @property
    def round_trip(self) -> float:
        """Both sides together, as a fraction of what is traded, to first order."""
        return 2.0 * (self.fee_bps + self.slippage_bps) / 10_000.0

    def scaled(self, multiple: float) -> Self:
        """The same costs `multiple` times over."""
        return type(self)(self.fee_bps * multiple, self.slippage_bps * multiple)
