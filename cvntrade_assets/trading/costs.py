"""What trading costs: fee and slippage of one side, in basis points."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

_WHOLE = 10_000.0


class CostsError(ValueError):
    """Costs that nobody can pay; the message says what is expected."""


@dataclass(frozen=True, slots=True)
class Costs:
    """What one side of a trade costs.

    Slippage moves the fill against whoever trades, the fee is charged on the value that changes hands: a buyer at
    price p pays p * (1 + slippage) * (1 + fee), a seller receives p * (1 - slippage) * (1 - fee).

    Attributes:
        fee_bps: Fee in basis points of what is traded, 0 or more and less than all of it (10,000).
        slippage_bps: How much worse than its price an order is filled, in basis points, within the same range.

    Raises:
        CostsError: A value is out of range or not finite.
    """

    fee_bps: float
    slippage_bps: float

    def __post_init__(self) -> None:
        for name in ("fee_bps", "slippage_bps"):
            value = getattr(self, name)
            if not 0.0 <= value < _WHOLE:
                raise CostsError(f"{name} is {value}: expected basis points per side, from 0 to less than {_WHOLE:g}")

    @property
    def round_trip(self) -> float:
        """Both sides together, as a fraction of what is traded, to first order."""
        return 2.0 * (self.fee_bps + self.slippage_bps) / _WHOLE

    @property
    def bought(self) -> float:
        """What a buyer pays, in multiples of the price: 1 or more."""
        return (1.0 + self.slippage_bps / _WHOLE) * (1.0 + self.fee_bps / _WHOLE)

    @property
    def sold(self) -> float:
        """What a seller receives, in multiples of the price: 1 or less."""
        return (1.0 - self.slippage_bps / _WHOLE) * (1.0 - self.fee_bps / _WHOLE)

    def scaled(self, multiple: float) -> Self:
        """The same costs `multiple` times over.

        Raises:
            CostsError: That is out of range.
        """
        return type(self)(self.fee_bps * multiple, self.slippage_bps * multiple)
