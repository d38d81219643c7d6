"""How unusual a window's number is, among the same number of the reference's own windows of the same length.

Neighbouring candles hardly differ, and turbulent weeks follow turbulent weeks: a textbook test of thousands of such
rows rejects always. Nothing is assumed of the rows here. The reference is cut into windows as long as the one in
question, and each says what the number comes to where nothing has changed: their spread holds what depends on what,
within a window and from one to the next.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]

LEAST_WINDOWS = 10
"""Fewer windows than this say too little about what is usual."""

_LEAST_EFFECTIVE = 3.0
_ROUNDING = 1e-9


class DependenceError(ValueError):
    """Too few windows, or numbers that are not finite; the message says which."""


@dataclass(frozen=True)
class Usual:
    """What a number comes to in windows of the reference.

    Attributes:
        mean: Of the number.
        deviation: Standard deviation, freed of what windows that resemble their neighbours hide of it.
        effective: As many independent windows say as much as these; the degrees of freedom are one less.
    """

    mean: float
    deviation: float
    effective: float

    @classmethod
    def of(cls, numbers: npt.ArrayLike) -> Usual:
        """From one number a window, in time order.

        Raises:
            DependenceError: fewer than `LEAST_WINDOWS`, or one that is not finite.
        """
        values = np.asarray(numbers, dtype=np.float64)
        if values.ndim != 1 or values.size < LEAST_WINDOWS or not np.isfinite(values).all():
            raise DependenceError(
                f"{values.size} windows, {int((~np.isfinite(values)).sum())} of them without a number: expected at "
                f"least {LEAST_WINDOWS}, all finite"
            )
        k, effective = values.size, effective_size(values)
        # Windows that follow each other are alike: their own variance is that much too small.
        spread = float(values.var(ddof=1)) * (k - 1.0) / (k - k / effective)
        return cls(float(values.mean()), math.sqrt(spread), effective)

    def unusual(self, number: float, *, two_sided: bool = False) -> float:
        """Probability that a further window of the same kind comes to as much as this; or lies as far off, two-sided.

        A prediction interval turned around: Student's t with `effective` - 1 degrees of freedom, the error of the mean
        counted in.
        """
        from scipy.stats import t

        if self.deviation <= _ROUNDING:
            beyond = abs(number - self.mean) if two_sided else number - self.mean
            return 1.0 if beyond <= _ROUNDING else 0.0
        distance = (number - self.mean) / (self.deviation * math.sqrt(1.0 + 1.0 / self.effective))
        tail = float(t.sf(abs(distance) if two_sided else distance, self.effective - 1.0))
        return min(1.0, 2.0 * tail) if two_sided else tail


def effective_size(values: npt.ArrayLike) -> float:
    """How many independent values say as much about the mean as these, which follow each other in time.

    k / (1 + 2 (r1 + r2 + …)) over the autocorrelations until the first that is not positive; never more than k.
    """
    series = np.asarray(values, dtype=np.float64)
    centred = series - series.mean()
    variance = float((centred**2).mean())
    if variance == 0.0:
        return float(series.size)
    total = 1.0
    for lag in range(1, series.size // 3):
        correlation = float((centred[lag:] * centred[:-lag]).mean()) / variance
        if correlation <= 0.0:
            break
        total += 2.0 * correlation
    return max(series.size / total, _LEAST_EFFECTIVE)


def cut(n_rows: int, length: int) -> npt.NDArray[np.intp]:
    """Rows of windows that lie back to back and end with the last row, shape (k, length); the first are left over."""
    k = n_rows // length
    return np.arange(n_rows - k * length, n_rows, dtype=np.intp).reshape(k, length)
