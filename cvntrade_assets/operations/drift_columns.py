"""Drift of columns: which features, or scores, of a window of candles left what the reference's windows usually show.

For every column the PSI, Kolmogorov-Smirnov and Wasserstein distances of the window from the reference are held against
those of the reference's own windows of the same length (`drift_dependence`). The smallest of a column's three p-values
counts threefold, and what is left is adjusted over all columns (`drift_testing`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from cvntrade_assets.operations.drift_dependence import Usual, cut
from cvntrade_assets.operations.drift_distances import DistanceError, Distances, Reference, distances
from cvntrade_assets.operations.drift_testing import benjamini_hochberg

Floats: TypeAlias = npt.NDArray[np.float64]

MEASURES = ("psi", "ks", "wasserstein")

_NOTHING = 1e-4
"""Distances below it are none: rounding, or what half a row adds."""


@dataclass(frozen=True)
class ColumnDrift:
    """One column of the window beside the reference.

    Attributes:
        name: The feature's name, or `score`.
        psi: Distance, see `drift_distances.Distances`.
        ks: Distance.
        wasserstein: Distance.
        usual_psi: What `psi` comes to in the reference's own windows, the geometric mean.
        p_value: How unusual the distances are, corrected for their number.
        adjusted: The same, corrected for the number of columns too.
        drifted: Whether it is below the level of significance.
    """

    name: str
    psi: float
    ks: float
    wasserstein: float
    usual_psi: float
    p_value: float
    adjusted: float
    drifted: bool


@dataclass(frozen=True, eq=False)
class Past:
    """What one column's distances come to in windows of the reference; the same for every window of that length.

    Attributes:
        reference: The reference's values.
        length: Values of a window.
        usual: By measure, what the distance comes to, on the scale of `_stretched`.
    """

    reference: Reference
    length: int
    usual: Mapping[str, Usual]

    @classmethod
    def of(cls, values: npt.ArrayLike, length: int) -> Past:
        """From the reference's values in time order.

        Raises:
            DistanceError: a value is not finite.
            DependenceError: fewer than `drift_dependence.LEAST_WINDOWS` windows fit into it.
        """
        column = np.asarray(values, dtype=np.float64)
        reference = Reference.of(column)
        own = distances(reference, column[cut(column.size, length)], within=True)
        usual = {measure: Usual.of(_stretched(measure, getattr(own, measure))) for measure in MEASURES}
        return cls(reference, length, usual)


def drift_of_columns(columns: Mapping[str, tuple[Past, npt.ArrayLike]], alpha: float) -> tuple[ColumnDrift, ...]:
    """Judge all columns together.

    Args:
        columns: By name, the reference's past and the window's values in time order, as many as the past is made for.
        alpha: Level of significance over all columns.

    Raises:
        DistanceError: a value is not finite, or a window has another length.
    """
    found = [(name, past, *_unusual(past, window)) for name, (past, window) in columns.items()]
    adjusted = benjamini_hochberg([p_value for *_, p_value in found])
    return tuple(
        ColumnDrift(
            name=name,
            **{measure: float(getattr(far, measure)[0]) for measure in MEASURES},
            usual_psi=float(np.exp(past.usual["psi"].mean)),
            p_value=p_value,
            adjusted=float(corrected),
            drifted=bool(corrected < alpha),
        )
        for (name, past, far, p_value), corrected in zip(found, adjusted, strict=True)
    )


def _unusual(past: Past, window: npt.ArrayLike) -> tuple[Distances, float]:
    """A window's distances, and how unusual the most unusual of them is, corrected for their number."""
    asked = np.asarray(window, dtype=np.float64)
    if asked.shape != (past.length,):
        raise DistanceError(f"a window of shape {asked.shape} is held against windows of {past.length} values")
    far = distances(past.reference, asked[np.newaxis, :], within=False)
    p_values = [
        past.usual[measure].unusual(float(_stretched(measure, getattr(far, measure))[0])) for measure in MEASURES
    ]
    return far, min(1.0, len(MEASURES) * min(p_values))


def _stretched(measure: str, values: Floats) -> Floats:
    """Distances on a scale on which they spread evenly: their logarithm; log-odds where they end at 1."""
    if measure == "ks":
        inner = np.clip(values, _NOTHING, 1.0 - _NOTHING)
        return np.asarray(np.log(inner) - np.log1p(-inner), dtype=np.float64)
    return np.asarray(np.log(np.maximum(values, _NOTHING)), dtype=np.float64)
