"""Probability of backtest overfitting: how often the best of many points on one half of time is poor on the other.

Combinatorially symmetric cross-validation, as Bailey, Borwein, López de Prado and Zhu describe it in "The probability
of backtest overfitting" (Journal of Computational Finance, 2017): time is cut into S blocks of consecutive rows; for
each of the C(S, S/2) ways to call half of them in sample and the others out of sample, the column with the best
Sharpe ratio in sample is ranked among all columns out of sample.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from math import comb
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

Floats: TypeAlias = npt.NDArray[np.float64]

FEWEST_BLOCKS = 4
MOST_BLOCKS = 20
LEAST_ROWS_PER_BLOCK = 3
"""With 16 blocks, 48 days: a half then has 24, from which a Sharpe ratio can just be told."""

TOLERANCE = 1e-9
"""Sharpe ratios closer than this are equal: those of two columns with one trade each are, whatever it earned, but for
their rounding."""

_CHUNK = 64
"""Combinations at a time: few enough to stay in the processor's cache, and for matrix products that start no threads,
which on a busy machine wait for each other ten times as long as they work."""

_ROUNDING = 1e-12
"""A variance that is this small beside the squares it was taken from is their rounding."""


class OverfittingError(ValueError):
    """A matrix of returns that cannot be cross-validated; the message says what is wrong."""


@dataclass(frozen=True)
class Overfitting:
    """What cross-validation says of having chosen the best column.

    Attributes:
        pbo: Share of the combinations in which the best in sample is below the median out of sample; one exactly at
            the median counts half. 0.5 is what choosing among worthless columns gives, 0 a choice that always holds.
            None when it is undefined; `reason` then says why.
        n_blocks: Into how many blocks time was cut: fewer than asked for when there are too few rows; 0 when undefined.
        n_combinations: C(n_blocks, n_blocks / 2).
        logits: log(ω / (1 - ω)) per combination, in the order of `itertools.combinations`, ω = rank / (N + 1) the
            relative rank out of sample: below 0 is below the median.
        reason: Why `pbo` is None; empty otherwise.
    """

    pbo: float | None
    n_blocks: int
    n_combinations: int
    logits: Floats
    reason: str = ""


def overfitting_probability(returns: pd.DataFrame, n_blocks: int = 16) -> Overfitting:
    """Probability of backtest overfitting of choosing the best of the columns by its Sharpe ratio.

    Blocks hold consecutive rows and differ by at most one row. A column that earns exactly nothing in a half has no
    Sharpe ratio there; in the order it stands where it belongs, as 0: above all that lose, below all that earn. One
    that earns the same every day without risk stands above (or, losing, below) all others. Equal columns share the
    mean of their ranks, and several that are best in sample share the mean of their fortunes: which of them would
    have been chosen is not known. Columns that are not traded at all belong into the matrix when they were tried.

    Trades that are open across midnight make neighbouring days, hence the rims of neighbouring blocks, a little
    dependent; nothing is purged.

    Args:
        returns: Simple returns, shape (T, N): one row per period in time order, one column per point that was tried.
        n_blocks: Even, from 4 to 20; fewer, and even, are used when a block would have less than three rows.

    Raises:
        OverfittingError: A return is not finite, rows are out of order, or the number of blocks is odd or too large.
    """
    values = _checked(returns, n_blocks)
    rows, columns = values.shape
    blocks = min(n_blocks, rows // LEAST_ROWS_PER_BLOCK // 2 * 2)
    if columns < 2:
        return _undefined(f"{columns} column(s): nothing was chosen among them")
    if blocks < FEWEST_BLOCKS:
        return _undefined(f"{rows} rows: expected at least {FEWEST_BLOCKS * LEAST_ROWS_PER_BLOCK}")
    ranks = _every_way(_BlockSums.of(values, blocks), _halves(blocks))
    above_median = np.round(ranks - (columns + 1) / 2.0, 9)
    return Overfitting(
        pbo=float(np.mean(np.where(above_median == 0.0, 0.5, above_median < 0.0))),
        n_blocks=blocks,
        n_combinations=len(ranks),
        logits=np.log(ranks / (columns + 1 - ranks)),
    )


@dataclass(frozen=True)
class _BlockSums:
    """What the Sharpe ratios of any union of blocks need: sums per block and column, rows of each block."""

    rows: Floats
    centre: Floats
    sums: Floats
    squares: Floats
    moves: Floats

    @classmethod
    def of(cls, values: Floats, blocks: int) -> _BlockSums:
        """Sums of the returns about each column's mean, which keeps small variances exact."""
        parts = np.array_split(np.arange(len(values)), blocks)
        starts = [int(part[0]) for part in parts]
        # The mean of equal numbers need not be that number.
        centre = np.where(np.ptp(values, axis=0) == 0.0, values[0], values.mean(axis=0))
        centred = values - centre
        return cls(
            rows=np.array([len(part) for part in parts], dtype=np.float64),
            centre=centre,
            sums=np.add.reduceat(centred, starts, axis=0),
            squares=np.add.reduceat(centred**2, starts, axis=0),
            moves=np.add.reduceat((values != 0.0).astype(np.float64), starts, axis=0),
        )

    def sharpe(self, halves: Floats) -> Floats:
        """Sharpe ratio of every column on every half, shape (halves, columns); 0 where nothing was earned or lost."""
        rows = (halves @ self.rows)[:, np.newaxis]
        sums, squares = halves @ self.sums, halves @ self.squares
        mean = self.centre + sums / rows
        variance = (squares - sums**2 / rows) / (rows - 1.0)
        riskless = variance <= _ROUNDING * squares
        ratio = mean / np.sqrt(np.where(riskless, 1.0, variance))
        ratio[riskless] = np.copysign(np.inf, mean[riskless])
        ratio[halves @ self.moves == 0.0] = 0.0
        return ratio


def _halves(blocks: int) -> Floats:
    """Which blocks are in sample (1) in each combination, in lexicographic order, shape (combinations, blocks)."""
    halves = np.zeros((comb(blocks, blocks // 2), blocks))
    np.put_along_axis(halves, np.array(list(combinations(range(blocks), blocks // 2))), 1.0, axis=1)
    return halves


def _every_way(sums: _BlockSums, halves: Floats) -> Floats:
    """The rank that `_ranks` gives of every combination.

    The k-th combination from the end is the k-th one's complement: every half is looked at once, and judged twice.
    """
    forth: list[Floats] = []
    back: list[Floats] = []
    first = halves[: len(halves) // 2]
    for start in range(0, len(first), _CHUNK):
        half = first[start : start + _CHUNK]
        one, other = sums.sharpe(half), sums.sharpe(1.0 - half)
        forth.append(_ranks(one, other))
        back.append(_ranks(other, one))
    return np.concatenate([*forth, np.concatenate(back)[::-1]])


def _ranks(seen: Floats, then: Floats) -> Floats:
    """Per combination: rank out of sample (1 the worst) of the best in sample."""
    chosen = seen >= seen.max(axis=1, keepdims=True) - TOLERANCE
    outcome = then[np.arange(len(then)), chosen.argmax(axis=1)]
    below = np.sum(then < outcome[:, np.newaxis] - TOLERANCE, axis=1)
    not_above = np.sum(then <= outcome[:, np.newaxis] + TOLERANCE, axis=1)
    ranks: Floats = (below + not_above + 1) / 2.0
    for row in np.flatnonzero(chosen.sum(axis=1) > 1):
        fortunes = then[row, chosen[row]]
        ordered = np.sort(then[row])
        ends = (np.searchsorted(ordered, fortunes - TOLERANCE), np.searchsorted(ordered, fortunes + TOLERANCE, "right"))
        ranks[row] = np.mean((ends[0] + ends[1] + 1) / 2.0)
    return ranks


def _checked(returns: pd.DataFrame, n_blocks: int) -> Floats:
    if n_blocks % 2 or not FEWEST_BLOCKS <= n_blocks <= MOST_BLOCKS:
        raise OverfittingError(f"{n_blocks} blocks: expected an even number from {FEWEST_BLOCKS} to {MOST_BLOCKS}")
    if not (returns.index.is_monotonic_increasing and returns.index.is_unique):
        raise OverfittingError("the rows are not in time order; sort the returns by day, each day once")
    values = returns.to_numpy(dtype=np.float64)
    wrong = ~np.isfinite(values)
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        raise OverfittingError(
            f"return of {returns.columns[column]} at {returns.index[row]} is {values[row, column]}: expected a finite "
            "number; a day without a trade has the return 0"
        )
    return values


def _undefined(reason: str) -> Overfitting:
    return Overfitting(None, 0, 0, np.empty(0), reason)
