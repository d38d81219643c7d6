"""Plots of a drift report: how far each feature lies from the training slice, and where the scores lie now."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cvntrade_assets.learning.plot_look import (
    AFTER,
    BASELINE,
    BEFORE,
    INK,
    WARNING,
    PlotError,
    finish,
    legend_look,
    new_figure,
)
from cvntrade_assets.operations.drift_evidence import PROBABILITY

if TYPE_CHECKING:
    from cvntrade_assets.operations.drift import DriftReport
    from cvntrade_assets.operations.drift_evidence import Evidence

DRAWN_COLUMNS = 20
_BARS = 40


def drifted_columns(report: DriftReport, *, crypto: str, market: str) -> bytes:
    """Draw the columns that lie furthest off, the furthest on top, as PNG.

    A bar is the window's PSI, red where the column drifted; the mark on it is what PSI comes to in the training slice's
    own windows, the baseline. PSI alone decides nothing: a bar may be long and usual.

    Args:
        report: With columns.
        crypto: For the title.
        market: `binance` or `simulated`, for the title.

    Raises:
        PlotError: the report has no column.
    """
    if not report.columns:
        raise PlotError(f"{crypto}: no column was tested, so none can be drawn: {report.reason}")
    drawn = report.columns[:DRAWN_COLUMNS][::-1]
    figure, (axes,) = new_figure(6.4, 1.2 + 0.22 * len(drawn))
    places = np.arange(len(drawn))
    colours = [WARNING if column.drifted else AFTER for column in drawn]
    axes.barh(places, [column.psi for column in drawn], color=colours, height=0.7)
    axes.scatter(
        [column.usual_psi for column in drawn], places, color=BASELINE, marker="|", s=90, label="usual in such a window"
    )
    axes.set_yticks(places, [column.name for column in drawn])
    axes.set(xlabel=f"PSI against the training slice; {len(report.drifted)} of {len(report.columns)} drifted")
    axes.legend(loc="lower right", **legend_look())
    return finish(figure, axes, "Drift by column", crypto, market)


def probabilities_now(evidence: Evidence, *, crypto: str, market: str) -> bytes:
    """Draw how the window's probabilities are spread beside those of held-out candles, as PNG.

    The dashed lines are the rates of BUY that they are to match: of the training slice, and of the window where enough
    outcomes are settled to have one.

    Args:
        evidence: Both sides.
        crypto: For the title.
        market: `binance` or `simulated`, for the title.
    """
    then, now = evidence.held_out[PROBABILITY], evidence.asked[PROBABILITY]
    settled = evidence.asked.dropna()
    figure, (axes,) = new_figure(6.4, 3.2)
    edges = np.linspace(min(then.min(), now.min()), max(then.max(), now.max()) + 1e-9, _BARS + 1).tolist()
    for values, colour, name in ((then, BEFORE, "held-out slices"), (now, AFTER, "newest candles")):
        weights = np.full(len(values), 1.0 / len(values))
        axes.hist(values, bins=edges, weights=weights, histtype="step", color=colour, label=name)
    axes.axvline(
        float(evidence.label_reference.mean()),
        color=BASELINE,
        linestyle="--",
        linewidth=1,
        label="rate of BUY, training",
    )
    if len(settled):
        axes.axvline(float(settled["label"].mean()), color=INK, linestyle="--", linewidth=1, label="rate of BUY, now")
    axes.set(xlabel="predicted probability of BUY", ylabel="share of candles")
    axes.legend(loc="upper right", **legend_look())
    return finish(figure, axes, "Probabilities", crypto, market)
