"""How a figure grows with the number of cryptos, and what it would come to with more of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

FLAT, SLOWER, LINEAR = 0.15, 0.85, 1.15


@dataclass(frozen=True)
class Growth:
    """A figure by number of cryptos.

    Attributes:
        exponent: Of the power law y ~ n^exponent through all levels; None when some figure is not above zero.
        base, slope: Of the straight line y = base + slope * n.
    """

    exponent: float | None
    base: float
    slope: float

    @property
    def said(self) -> str:
        """In words."""
        if self.exponent is None or self.exponent < FLAT:
            return "flat"
        if self.exponent < SLOWER:
            return "slower than the cryptos"
        return "with the cryptos" if self.exponent <= LINEAR else "**faster than the cryptos**"

    def at(self, cryptos: int, last: tuple[int, float]) -> float:
        """What it would be: along the line or, when it grows faster than that, the power law from the last level."""
        straight = self.base + self.slope * cryptos
        if self.exponent is None or self.exponent <= LINEAR:
            return max(straight, 0.0)
        known, value = last
        return max(straight, value * float(cryptos / known) ** self.exponent)


def growth(cryptos: Sequence[int], values: Sequence[float]) -> Growth:
    """Fit both by least squares; a level alone is flat."""
    count, figures = np.asarray(cryptos, dtype=float), np.asarray(values, dtype=float)
    if len(count) < 2:
        return Growth(None, float(figures.mean()) if len(figures) else 0.0, 0.0)
    slope, base = np.polyfit(count, figures, 1)
    exponent = float(np.polyfit(np.log(count), np.log(figures), 1)[0]) if (figures > 0).all() else None
    return Growth(exponent, float(base), float(slope))
