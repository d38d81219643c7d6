"""How far a window's values lie from a reference's: PSI, Kolmogorov-Smirnov and Wasserstein, of many windows at once.

All three are exact; scipy computes the last two pair by pair. Each of a reference's own windows is compared with the
rest of the reference: compared with all of it, a window would partly be compared with itself, and be found nearer than
a new one ever is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]

BINS = 10
"""Bins of the population stability index, equal shares of the reference."""

_HALF_A_ROW = 0.5


class DistanceError(ValueError):
    """Values that no distance can be computed of; the message says which."""


@dataclass(frozen=True, eq=False)
class Distances:
    """Distances of k windows from the reference, each of shape (k,).

    Attributes:
        psi: Population stability index over `BINS` bins: the sum of (p - q) log(p / q), with half a row added to every
            bin, so that an empty one is not infinitely far away.
        ks: Largest distance between the two distribution functions, 0 to 1.
        wasserstein: Mean distance that values would have to be moved, in standard deviations of the reference (in the
            column's own unit where the reference is constant).
    """

    psi: Floats
    ks: Floats
    wasserstein: Floats


@dataclass(frozen=True, eq=False)
class Reference:
    """One column of the reference, prepared to be compared with many windows.

    Attributes:
        ordered: Its values in order, shape (n,).
        sums: Sums of the first 0, 1, … n of these, shape (n + 1,).
        edges: Inner edges of the bins, those at which nothing lies between two dropped.
        counts: Values in every bin.
        scale: Standard deviation; 1 of a constant column.
    """

    ordered: Floats
    sums: Floats
    edges: Floats
    counts: Floats
    scale: float

    @classmethod
    def of(cls, values: npt.ArrayLike) -> Reference:
        """Prepare a column.

        Raises:
            DistanceError: fewer than two values, or one that is not finite.
        """
        ordered = np.sort(_finite(values, "the reference"))
        if ordered.size < 2:
            raise DistanceError(f"the reference has {ordered.size} values; expected two or more")
        edges = np.unique(np.quantile(ordered, np.arange(1, BINS) / BINS, method="inverted_cdf"))
        counts = np.diff(np.concatenate([[0], np.searchsorted(ordered, edges, side="right"), [ordered.size]]))
        sums = np.concatenate([[0.0], np.cumsum(ordered)])
        constant = ordered[0] == ordered[-1]
        return cls(ordered, sums, edges, counts.astype(np.float64), 1.0 if constant else float(ordered.std()))


def distances(reference: Reference, windows: npt.ArrayLike, *, within: bool) -> Distances:
    """Distances of windows from the reference.

    Args:
        reference: The column's reference.
        windows: Shape (k, m): k windows of m values.
        within: The windows are rows of the reference: each is compared with the rest of it.

    Raises:
        DistanceError: not a table of finite values, or windows as long as the reference that they are part of.
    """
    table = np.sort(_finite(windows, "the windows"), axis=1) if np.ndim(windows) == 2 else None
    if table is None or table.size == 0:
        raise DistanceError(f"expected windows as a table of values, got shape {np.shape(windows)}")
    n, m = reference.ordered.size, table.shape[1]
    if within and m >= n:
        raise DistanceError(f"windows of {m} values leave nothing of a reference of {n}")
    # F_window - F_rest is F_window - F_all, stretched: the window's own values are in F_all.
    stretch = n / (n - m) if within else 1.0
    below = np.searchsorted(reference.ordered, table, side="left")
    upto = np.searchsorted(reference.ordered, table, side="right")
    moved = _moved(reference, table, below) * stretch
    return Distances(
        psi=_psi(reference, table, within=within),
        ks=np.minimum(_largest_gap(below / n, upto / n) * stretch, 1.0),
        wasserstein=moved / reference.scale,
    )


def _largest_gap(below: Floats, upto: Floats) -> Floats:
    """Largest gap between a window's distribution function and the reference's, which stands at the ordered values."""
    m = below.shape[1]
    steps = np.arange(1, m + 1) / m
    gap: Floats = np.maximum((steps - upto).max(axis=1), (below - (steps - 1.0 / m)).max(axis=1))
    return np.maximum(gap, 0.0)


def _moved(reference: Reference, table: Floats, below: npt.NDArray[np.intp]) -> Floats:
    """Area between the two quantile functions: each ordered value stands for a like share of the reference."""
    n, m = reference.ordered.size, table.shape[1]
    ends = np.arange(m + 1) * (n / m)
    first, last = ends[:-1], ends[1:]
    crossing = np.clip(below.astype(np.float64), first, last)
    area_first, area_last = _area(reference, first), _area(reference, last)
    area_crossing = _area(reference, crossing)
    under = table * (crossing - first) - (area_crossing - area_first)
    over = (area_last - area_crossing) - table * (last - crossing)
    moved: Floats = np.maximum((under + over).sum(axis=1) / n, 0.0)
    return moved


def _area(reference: Reference, places: Floats) -> Floats:
    """The reference's ordered values added up to a place among them, which may lie between two."""
    whole = np.minimum(places.astype(np.intp), reference.ordered.size - 1)
    area: Floats = reference.sums[whole] + (places - whole) * reference.ordered[whole]
    return area


def _psi(reference: Reference, table: Floats, *, within: bool) -> Floats:
    bins = reference.counts.size
    place = np.searchsorted(reference.edges, table, side="left") + bins * np.arange(len(table))[:, np.newaxis]
    counts = np.bincount(place.ravel(), minlength=bins * len(table)).reshape(len(table), bins).astype(np.float64)
    rest = reference.counts - counts if within else np.broadcast_to(reference.counts, counts.shape)
    p, q = _shares(counts), _shares(rest)
    psi: Floats = ((p - q) * np.log(p / q)).sum(axis=1)
    return psi


def _shares(counts: Floats) -> Floats:
    more = counts + _HALF_A_ROW
    shares: Floats = more / more.sum(axis=1, keepdims=True)
    return shares


def _finite(values: npt.ArrayLike, what: str) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    if not np.isfinite(array).all():
        wrong = int((~np.isfinite(array)).sum())
        raise DistanceError(f"{wrong} values of {what} are not finite; expected numbers")
    return array
