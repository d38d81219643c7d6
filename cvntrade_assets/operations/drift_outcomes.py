"""Drift of outcomes: whether as many candles turn out BUY as used to, and probabilities still mean what they say.

Only of candles whose outcome is known whatever it is: the last ones before now would count if they were stopped at once
and not if they are still open. Neighbouring labels share candles, so both numbers are held against those of windows of
the same length (`drift_dependence`), and their intervals come from blocks of rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from cvntrade_assets.operations.drift_dependence import Usual, cut
from cvntrade_assets.operations.drift_testing import holm

Floats: TypeAlias = npt.NDArray[np.float64]
Measure: TypeAlias = Callable[[Any, Any], float]

LEVEL = 0.9
"""Coverage of the intervals."""
RESAMPLES = 500


@dataclass(frozen=True)
class OutcomeDrift:
    """One number of the window's outcomes beside the reference's.

    Attributes:
        reference: What it comes to over the whole reference.
        usual: What it comes to in windows as long as this one, on average.
        value: What it comes to in the window.
        low: Low end of its interval; None where it is undefined.
        high: High end.
        p_value: How unusual it is, corrected for there being two such numbers.
        drifted: Whether that is below the level of significance.
    """

    reference: float
    usual: float
    value: float
    low: float | None
    high: float | None
    p_value: float
    drifted: bool


@dataclass(frozen=True, eq=False)
class Outcomes:
    """Candles whose outcome is known, in time order.

    Attributes:
        labels: 1 where it was BUY, else 0; shape (n,).
        probabilities: What the frozen model said of each; shape (n,).
    """

    labels: Floats
    probabilities: Floats


def drift_of_outcomes(
    label_reference: npt.ArrayLike, held_out: Outcomes, window: Outcomes, *, alpha: float, block: int, seed: int
) -> tuple[OutcomeDrift, OutcomeDrift]:
    """The rate of BUY and the calibration error of a window.

    A rate may rise or fall; a calibration error is only ever too large.

    Args:
        label_reference: Labels of every candle of the training slice's time, 0 or 1.
        held_out: Candles that nothing was fitted on: a model's error on its own rows is no measure of others'.
        window: The window.
        alpha: Level of significance over both.
        block: Rows of a resampling block.
        seed: Of the resampling.

    Raises:
        DependenceError: a reference is too short for the window.
        ScoreError: a label or probability is none.
    """
    from cvntrade_assets.learning.scores import expected_calibration_error

    rate = _rate(np.asarray(label_reference, dtype=np.float64), window, block, seed)
    error = _error(held_out, window, expected_calibration_error, block, seed)
    first, second = holm([rate.p_value, error.p_value])
    return (
        replace(rate, p_value=float(first), drifted=bool(first < alpha)),
        replace(error, p_value=float(second), drifted=bool(second < alpha)),
    )


def _rate(reference: Floats, window: Outcomes, block: int, seed: int) -> OutcomeDrift:
    m = window.labels.size
    counted = reference[cut(reference.size, m)].sum(axis=1)
    usual = Usual.of(_log_odds(counted, m))
    p_value = usual.unusual(float(_log_odds(window.labels.sum(), m)), two_sided=True)
    low, high = _interval(lambda labels, _: float(np.mean(labels)), window, block, seed)
    return OutcomeDrift(
        float(reference.mean()), float(counted.mean() / m), float(window.labels.mean()), low, high, p_value, False
    )


def _log_odds(counted: npt.ArrayLike, m: int) -> Floats:
    """Of a count out of m, half a row added to either side: shares near 0 spread less than others."""
    count = np.asarray(counted, dtype=np.float64)
    odds: Floats = np.log((count + 0.5) / (m - count + 0.5))
    return odds


def _error(held_out: Outcomes, window: Outcomes, measure: Measure, block: int, seed: int) -> OutcomeDrift:
    m = window.labels.size
    own = np.array(
        [measure(held_out.labels[rows], held_out.probabilities[rows]) for rows in cut(held_out.labels.size, m)]
    )
    value = measure(window.labels, window.probabilities)
    # Half a row away from zero, where the logarithm has no end.
    usual = Usual.of(np.log(own + 0.5 / m))
    p_value = usual.unusual(float(np.log(value + 0.5 / m)))
    low, high = _interval(measure, window, block, seed)
    whole = measure(held_out.labels, held_out.probabilities)
    return OutcomeDrift(whole, float(own.mean()), value, low, high, p_value, False)


def _interval(measure: Measure, window: Outcomes, block: int, seed: int) -> tuple[float | None, float | None]:
    from cvntrade_assets.learning.scores import block_bootstrap_interval

    low, high = block_bootstrap_interval(
        measure,
        window.labels,
        window.probabilities,
        block=min(block, window.labels.size),
        seed=seed,
        n_boot=RESAMPLES,
        level=LEVEL,
        corrected=False,
    )
    return (None, None) if np.isnan(low) else (float(low), float(high))
