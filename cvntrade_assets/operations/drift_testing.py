"""Many tests at once: p-values adjusted so that looking at many columns does not make an alarm likely by itself."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]


def benjamini_hochberg(p_values: npt.ArrayLike) -> Floats:
    """Adjusted p-values of Benjamini and Hochberg (1995): rejected at q, a share q of the rejections is false at most.

    Where nothing has drifted at all, any rejection is false, and one happens with probability q at most. That holds for
    tests that are independent or rise and fall together, as those of indicators of the same candles do.

    Args:
        p_values: One a test, within [0, 1], in any order.

    Raises:
        ValueError: no list of numbers within [0, 1].
    """
    p = _checked(p_values)
    order = np.argsort(p, kind="stable")[::-1]
    ranked = p[order] * p.size / np.arange(p.size, 0, -1)
    return _in_place(order, np.minimum.accumulate(ranked))


def holm(p_values: npt.ArrayLike) -> Floats:
    """Adjusted p-values of Holm (1979): one false rejection or more with probability q at most, however tests depend.

    Args:
        p_values: As for `benjamini_hochberg`.

    Raises:
        ValueError: As for `benjamini_hochberg`.
    """
    p = _checked(p_values)
    order = np.argsort(p, kind="stable")
    ranked = p[order] * np.arange(p.size, 0, -1)
    return _in_place(order, np.maximum.accumulate(ranked))


def _in_place(order: npt.NDArray[np.intp], ranked: Floats) -> Floats:
    adjusted = np.empty_like(ranked)
    adjusted[order] = np.minimum(ranked, 1.0)
    return adjusted


def _checked(p_values: npt.ArrayLike) -> Floats:
    p = np.asarray(p_values, dtype=np.float64)
    # NaN compares as neither.
    if p.ndim != 1 or not ((p >= 0.0) & (p <= 1.0)).all():
        raise ValueError(f"expected p-values within 0 and 1 in one list, got {p.tolist()}")
    return p
