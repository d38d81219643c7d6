"""Plots of a test report and of its labels, as PNG bytes for an asset's page.

Drawn through matplotlib's objects alone, since pyplot keeps global state that a long-lived process leaks.
Every plot brings its own light background, so it reads the same on a dark and on a light page, and shows the
baseline that its numbers must beat. A simulated market is marked in the title.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from cvntrade_assets.learning import scores
from cvntrade_assets.learning.plot_look import (
    AFTER,
    BASELINE,
    BEFORE,
    EXIT_COLOURS,
    EXIT_NAMES,
    INK,
    PlotError,
    finish,
    label_dates,
    legend_look,
    naive,
    new_figure,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LINE_COLOURS = {**EXIT_COLOURS, "BUY": INK}
SLICE_COLOURS = {"train": "#e8eaed", "validation": "#f8e6b9", "calibration": "#cfe4f7", "test": "#e2d3f4"}
LONGEST_BY_DAY = pd.Timedelta(days=120)
HISTOGRAM_BARS = 40
NOISY_RECALL = 0.05


def reliability_diagram(
    labels: pd.Series[Any],
    raw_scores: pd.Series[Any],
    calibrated: pd.Series[Any],
    *,
    crypto: str,
    market: str,
    bins: int = scores.DEFAULT_BINS,
) -> bytes:
    """Draw the share of BUY against the predicted probability, before and after calibration, as PNG.

    Points are equal-mass bins with their binomial standard error. The dashed diagonal is perfect calibration,
    the dotted line the buy rate. How predictions are spread stands beneath.

    Args:
        labels: hard labels 0/1 of the test slice, any number of rows from 1 on.
        raw_scores: the model's scores in [0, 1], same rows.
        calibrated: calibrated probabilities, same rows.
        crypto: for the title.
        market: `binance` or `simulated`, for the title.
        bins: number of equal-mass bins.

    Raises:
        ScoreError: labels that are not hard, or predictions outside [0, 1].
    """
    figure, (above, below) = new_figure(4.8, 4.8, heights=(4, 1))
    above.plot([0, 1], [0, 1], color=BASELINE, linewidth=1, linestyle="--", label="perfectly calibrated")
    buy_rate = float(np.mean(labels))
    above.axhline(buy_rate, color=BASELINE, linewidth=1, linestyle=":", label=f"buy rate {buy_rate:.3f}")
    right = max(
        _draw_reliability(above, labels, raw_scores, bins, "before", BEFORE),
        _draw_reliability(above, labels, calibrated, bins, "after", AFTER),
    )
    for values, colour in ((raw_scores, BEFORE), (calibrated, AFTER)):
        below.hist(values, bins=np.linspace(0, right, HISTOGRAM_BARS + 1).tolist(), histtype="step", color=colour)
    above.set(xlim=(0, right), ylim=(0, right), ylabel="share of BUY labels")
    below.set(xlim=(0, right), xlabel="predicted probability of BUY", ylabel="rows")
    above.tick_params(labelbottom=False)
    above.legend(loc="upper left", **legend_look())
    return finish(figure, above, "Reliability", crypto, market)


def precision_recall_curve(
    labels: pd.Series[Any],
    raw_scores: pd.Series[Any],
    predicted: pd.Series[Any],
    *,
    crypto: str,
    market: str,
) -> bytes:
    """Draw the precision-recall curve of the raw score and the point of the frozen threshold, as PNG.

    The dashed line is the buy rate, what a ranking by chance gives. The dotted curve joins all points
    whose F1 equals that of always saying BUY, the ring at its right end.

    Without a BUY label there is no curve, and the plot says so.

    Args:
        labels: hard labels 0/1 of the test slice.
        raw_scores: the model's scores, same rows.
        predicted: whether the frozen threshold said BUY, same rows.
        crypto: for the title.
        market: `binance` or `simulated`, for the title.

    Raises:
        ScoreError: labels that are not hard, or scores that are not finite.
    """
    figure, (axes,) = new_figure(4.8, 4.0)
    axes.set(xlabel="recall", ylabel="precision")
    counts = scores.confusion(labels, predicted)
    if counts.tp + counts.fn == 0:
        axes.text(0.5, 0.5, "no BUY label: no curve", ha="center", color=INK)
        return finish(figure, axes, "Precision and recall", crypto, market)
    buy_rate = float(np.mean(labels))
    recall, precision = scores.precision_recall_points(labels, raw_scores)
    area = scores.pr_auc(labels, raw_scores)
    axes.step(recall, precision, where="pre", color=AFTER, linewidth=1.4, label=f"model, PR-AUC {area:.3f}")
    axes.axhline(buy_rate, color=BASELINE, linewidth=1, linestyle="--", label=f"buy rate {buy_rate:.3f}")
    _draw_always_buy(axes, buy_rate)
    _draw_threshold(axes, counts)
    seen = [*precision[recall >= NOISY_RECALL], np.nan_to_num(scores.precision(counts)), buy_rate]
    axes.set(xlim=(0, 1.03), ylim=(0, min(1.05, 1.6 * max(seen))))
    axes.legend(loc="upper right", **legend_look())
    return finish(figure, axes, "Precision and recall", crypto, market)


def label_timeline(labels: pd.DataFrame, slices: pd.Series[Any], *, crypto: str, market: str) -> bytes:
    """Draw how labels end over time, with the four slices shaded, as PNG.

    Per day, or per week when there are more than `LONGEST_BY_DAY`: the shares of target, stop, time-out and
    BUY. The dashed line is the buy rate over all labels, the baseline. A period without labels is a hole.

    Args:
        labels: the labels frame, columns `label` and `exit_kind`, index open_time in UTC.
        slices: name of the slice per row, index a subset of the labels'; rows in no slice stay unshaded.
        crypto: for the title.
        market: `binance` or `simulated`, for the title.

    Raises:
        PlotError: no labels, or a row of the slices that has no label.
    """
    if labels.empty or not slices.index.isin(labels.index).all():
        raise PlotError(f"{crypto}: the timeline needs labels, and a label for every row of the slices")
    by_day = labels.index[-1] - labels.index[0] <= LONGEST_BY_DAY
    shares = _exit_shares(labels, pd.Timedelta(days=1 if by_day else 7))
    figure, (axes,) = new_figure(7.6, 3.4)
    _shade_slices(axes, slices)
    for name, colour in LINE_COLOURS.items():
        style = (0, (4, 2)) if name == "BUY" else "-"
        axes.plot(naive(shares.index), shares[name], color=colour, linewidth=1.3, linestyle=style, label=name)
    buy_rate = float((labels["label"] == 1).mean())
    axes.axhline(buy_rate, color=BASELINE, linewidth=1, linestyle="--", label=f"buy rate {buy_rate:.3f}")
    axes.set(ylim=(0, 1), ylabel=f"share of labels per {'day' if by_day else 'week'}")
    axes.set_xlim(*naive(labels.index[[0, -1]]))
    label_dates(axes)
    figure.legend(loc="outside lower center", ncols=5, **legend_look())
    return finish(figure, axes, "How labels end", crypto, market)


def _exit_shares(labels: pd.DataFrame, period: pd.Timedelta) -> pd.DataFrame:
    """Share of each way to end and of BUY, at the middle of each period; NaN where one has no label."""
    ends = {name: labels["exit_kind"] == kind for kind, name in EXIT_NAMES.items()}
    outcomes = pd.DataFrame({**ends, "BUY": labels["label"] == 1}).astype(np.float64)
    return outcomes.resample(period).mean().shift(freq=period / 2)


def _draw_reliability(
    axes: Axes, labels: pd.Series[Any], values: pd.Series[Any], bins: int, name: str, colour: str
) -> float:
    """Draw one set of bins; returns how far right and up the axes must reach to hold it."""
    groups = scores.reliability_bins(labels, values, bins)
    error = np.sqrt(groups.observed * (1.0 - groups.observed) / groups.rows)
    text = f"{name}: Brier {scores.brier(labels, values):.4f}"
    axes.errorbar(
        groups.predicted,
        groups.observed,
        yerr=error,
        color=colour,
        marker="o",
        markersize=4,
        linewidth=1.2,
        elinewidth=0.8,
        label=text,
    )
    return float(min(1.0, 1.3 * max(0.1, groups.predicted.max(), groups.observed.max())))


def _draw_always_buy(axes: Axes, buy_rate: float) -> None:
    """Draw the point of always saying BUY and the curve of all points with its F1."""
    baseline = scores.baseline_f1(buy_rate)
    recall = np.linspace(baseline / 2.0, 1.0, 200)[1:]
    axes.plot(recall, baseline * recall / (2.0 * recall - baseline), color=BASELINE, linewidth=1, linestyle=":")
    axes.plot(
        1.0,
        buy_rate,
        marker="o",
        markerfacecolor="none",
        color=BASELINE,
        linestyle=":",
        label=f"always BUY, F1 {baseline:.3f}",
    )


def _draw_threshold(axes: Axes, counts: scores.Confusion) -> None:
    """Draw where the frozen threshold works, or say that it never says BUY."""
    if counts.tp + counts.fp == 0:
        axes.plot([], [], linestyle="none", label="never says BUY: F1 0, no precision")
        return
    axes.plot(
        scores.recall(counts),
        scores.precision(counts),
        marker="D",
        color=BEFORE,
        linestyle="none",
        label=f"threshold: F1 {scores.f1_buy(counts):.3f}",
    )


def _shade_slices(axes: Axes, slices: pd.Series[Any]) -> None:
    for name, colour in SLICE_COLOURS.items():
        rows = slices.index[(slices == name).to_numpy()]
        if len(rows):
            start, end = naive(rows[[0, -1]])
            axes.axvspan(start, end, color=colour, linewidth=0, label=name)
