"""The look that all plots share: paper, colours, dates, and a title that says which market it is."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

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
# Enough for the inks with the edges between them, and for the shades of a heat map.
COLOURS = 256
EXIT_NAMES = {"tp": "target", "sl": "stop", "timeout": "time-out"}
EXIT_COLOURS = {"target": "#2f8a5b", "stop": "#c9574f", "time-out": "#7d8590"}


class PlotError(ValueError):
    """Rows from which nothing can be drawn."""


def naive(times: pd.Index[Any]) -> npt.NDArray[np.datetime64]:
    """UTC times as matplotlib draws them, without a zone."""
    return pd.DatetimeIndex(times).tz_convert(None).to_numpy()


def label_dates(axes: Axes) -> None:
    """Dates on the horizontal axis, as few and as short as they read."""
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    locator = AutoDateLocator()  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    formatter = ConciseDateFormatter(locator)  # type: ignore[no-untyped-call]
    # Beside months and days the corner says their year, and not the month of the last of them.
    formatter.offset_formats[2] = "%Y"
    axes.xaxis.set_major_formatter(formatter)


def new_figure(width: float, height: float, heights: tuple[int, ...] = (1,)) -> tuple[Figure, list[Axes]]:
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


def legend_look() -> dict[str, Any]:
    """How every legend looks, as options of `legend`."""
    return {"fontsize": 8, "frameon": False, "labelcolor": INK}


def finish(figure: Figure, axes: Axes, name: str, crypto: str, market: str) -> bytes:
    """Title the plot and return it as PNG, the same bytes for the same drawing."""
    simulated = market == "simulated"
    place = "SIMULATED market" if simulated else market
    axes.set_title(f"{name} · {crypto} · {place}", fontsize=10, color=WARNING if simulated else INK, loc="left")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return _with_palette(buffer)


def _with_palette(png: io.BytesIO) -> bytes:
    """The same picture in a third of the bytes: the event log keeps it with every materialization, for ever."""
    from PIL import Image

    buffer = io.BytesIO()
    with Image.open(png) as drawn:
        drawn.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(buffer, "png", optimize=True)
    return buffer.getvalue()
