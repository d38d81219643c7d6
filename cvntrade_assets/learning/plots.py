"""Plots of a test report and of its labels, as PNG bytes for an asset's page.

Drawn through matplotlib's objects alone, since pyplot keeps global state that a long-lived process leaks.
Every plot brings its own light background, so it reads the same on a dark and on a light page, and shows the
baseline that its numbers must beat. A simulated market is marked in the title.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from cvntrade_assets.learning import scores

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DOTS_PER_INCH = 110
PAPER = "#fbfbf9"
INK = "#22262b"
BASELINE = "#6b7079"
BEFORE = "#c9772b"
AFTER = "#1f6fb2"
WARNING = "#b3261e"
LINE_COLOURS = {"target": "#2f8a5b", "stop": "#c9574f", "time-out": "#7d8590", "BUY": INK}
EXIT_NAMES = {"tp": "target", "sl": "stop", "timeout": "time-out"}
SLICE_COLOURS = {"train": "#e8eaed", "validation": "#f8e6b9", "calibration": "#cfe4f7", "test": "#e2d3f4"}
LONGEST_BY_DAY = pd.Timedelta(days=120)
HISTOGRAM_BARS = 40
NOISY_RECALL = 0.05


class PlotError(ValueError):
    """Rows from which nothing can be drawn."""


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
    figure, (above, below) = _figure(4.8, 4.8, heights=(4, 1))
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
    above.legend(loc="upper left", **_legend_look())
    return _finish(figure, above, "Reliability", crypto, market)


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
    figure, (axes,) = _figure(4.8, 4.0)
    axes.set(xlabel="recall", ylabel="precision")
    counts = scores.confusion(labels, predicted)
    if counts.tp + counts.fn == 0:
        axes.text(0.5, 0.5, "no BUY label: no curve", ha="center", color=INK)
        return _finish(figure, axes, "Precision and recall", crypto, market)
    buy_rate = float(np.mean(labels))
    recall, precision = scores.precision_recall_points(labels, raw_scores)
    area = scores.pr_auc(labels, raw_scores)
    axes.step(recall, precision, where="pre", color=AFTER, linewidth=1.4, label=f"model, PR-AUC {area:.3f}")
    axes.axhline(buy_rate, color=BASELINE, linewidth=1, linestyle="--", label=f"buy rate {buy_rate:.3f}")
    _draw_always_buy(axes, buy_rate)
    _draw_threshold(axes, counts)
    seen = [*precision[recall >= NOISY_RECALL], np.nan_to_num(scores.precision(counts)), buy_rate]
    axes.set(xlim=(0, 1.03), ylim=(0, min(1.05, 1.6 * max(seen))))
    axes.legend(loc="upper right", **_legend_look())
    return _finish(figure, axes, "Precision and recall", crypto, market)


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
    figure, (axes,) = _figure(7.6, 3.4)
    _shade_slices(axes, slices)
    for name, colour in LINE_COLOURS.items():
        style = (0, (4, 2)) if name == "BUY" else "-"
        axes.plot(_naive(shares.index), shares[name], color=colour, linewidth=1.3, linestyle=style, label=name)
    buy_rate = float((labels["label"] == 1).mean())
    axes.axhline(buy_rate, color=BASELINE, linewidth=1, linestyle="--", label=f"buy rate {buy_rate:.3f}")
    axes.set(ylim=(0, 1), ylabel=f"share of labels per {'day' if by_day else 'week'}")
    axes.set_xlim(*_naive(labels.index[[0, -1]]))
    _label_dates(axes)
    figure.legend(loc="outside lower center", ncols=5, **_legend_look())
    return _finish(figure, axes, "How labels end", crypto, market)


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
        axes.plot([], [], linestyle="none", label="threshold: never BUY, F1 0")
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
            start, end = _naive(rows[[0, -1]])
            axes.axvspan(start, end, color=colour, linewidth=0, label=name)


def _naive(times: pd.Index[Any]) -> npt.NDArray[np.datetime64]:
    """UTC times as matplotlib draws them, without a zone."""
    return pd.DatetimeIndex(times).tz_convert(None).to_numpy()


def _label_dates(axes: Axes) -> None:
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    locator = AutoDateLocator()  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]


def _figure(width: float, height: float, heights: tuple[int, ...] = (1,)) -> tuple[Figure, list[Axes]]:
    """Figure of the given inches with one column of axes, styled alike for every plot."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=DOTS_PER_INCH, facecolor=PAPER, layout="constrained")
    column = figure.subplots(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axes in column:
        axes.set_facecolor(PAPER)
        axes.tick_params(labelsize=8, colors=INK)
        axes.xaxis.label.set(size=9, color=INK)
        axes.yaxis.label.set(size=9, color=INK)
        axes.spines[["top", "right"]].set_visible(False)
    return figure, list(column)


def _legend_look() -> dict[str, Any]:
    return {"fontsize": 8, "frameon": False, "labelcolor": INK}


def _finish(figure: Figure, axes: Axes, name: str, crypto: str, market: str) -> bytes:
    """Title the plot and return it as PNG, the same bytes for the same drawing."""
    simulated = market == "simulated"
    place = "SIMULATED market" if simulated else market
    axes.set_title(f"{name} · {crypto} · {place}", fontsize=10, color=WARNING if simulated else INK, loc="left")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
