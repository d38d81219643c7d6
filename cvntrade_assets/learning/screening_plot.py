"""The heat map of a screening, as PNG bytes: net Sharpe ratio of every point, a panel per horizon.

Its F1 beside that of always saying BUY stands in every cell: no colour is seen without a baseline.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from cvntrade_assets.learning.plot_look import BASELINE, DOTS_PER_INCH, INK, PAPER, PlotError, finish

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from matplotlib.figure import Figure

    from cvntrade_assets.learning.screening import Screening

MOST_PANELS_ACROSS = 3
MOST_CELLS_ACROSS = 24
COLOURS = "RdBu"
NO_SHARPE = "#dcdedf"
DARK_FROM = 0.65
"""Share of the colour scale from which a number is written in paper colour."""

_CELL = (0.42, 0.30)
_SMALLEST_PANEL = (2.6, 1.3)
_CAPTION = 0.8
_KEY = (
    "Colour: net Sharpe ratio on the selection slice.  Number: F1 minus that of always saying BUY, in points.\n"
    "Frame: candidate.  Small ×: not eligible.  Grey: no Sharpe ratio.  Dash: left out (target nearer than stop, or\n"
    "a horizon that is no whole number of candles)."
)


@dataclass(frozen=True)
class _Scale:
    """Colours of the Sharpe ratios, the same distance to either side of 0; `limit` is the largest of them."""

    limit: float
    drawn: ScalarMappable

    def colour(self, sharpe: float) -> str:
        """Of one Sharpe ratio, defined or not."""
        from matplotlib.colors import to_hex

        return to_hex(self.drawn.to_rgba(np.array([sharpe]))[0]) if np.isfinite(sharpe) else NO_SHARPE

    def ink(self, sharpe: float) -> str:
        """What is read on that colour."""
        return PAPER if np.isfinite(sharpe) and abs(sharpe) > DARK_FROM * self.limit else INK


@dataclass(frozen=True)
class _Grid:
    """The stops from bottom to top and the targets from left to right, the same in every panel."""

    stops: list[float]
    targets: list[float]

    def place(self, stop: float, target: float) -> tuple[int, int]:
        """Column and row of a cell."""
        return self.targets.index(target), self.stops.index(stop)


def screening_heat_map(screening: Screening, *, crypto: str, market: str) -> bytes:
    """Draw every point of a screened grid, stop by target, in one panel per horizon, as PNG.

    Args:
        screening: What screening found.
        crypto: For the title.
        market: `binance` or `simulated`, for the title.

    Raises:
        PlotError: No point was screened.
    """
    points = screening.points
    if points.empty:
        raise PlotError(f"{crypto}: a heat map needs at least one screened point")
    out = [(pte.horizon_hours, pte.stop_loss, pte.take_profit) for pte in screening.left_out]
    left_out = pd.DataFrame(out, columns=["horizon_hours", "stop_loss", "take_profit"])
    horizons, stops, targets = (sorted({*points[name], *left_out[name]}) for name in left_out.columns)
    grid = _Grid(stops, targets)
    figure, caption, panels = _panels(len(horizons), grid)
    scale = _scale(points["sharpe"])
    framed = {str(pte) for pte in screening.candidates}
    for axes, hours in zip(panels, horizons, strict=True):
        _dress(axes, f"H{hours:g}", grid)
        for point in points[points["horizon_hours"] == hours].to_dict(orient="records"):
            _draw_point(axes, point, scale, grid, framed=point["pte"] in framed)
        for pte in screening.left_out:
            if pte.horizon_hours == hours:
                where = grid.place(pte.stop_loss, pte.take_profit)
                axes.text(*where, "–", ha="center", va="center", fontsize=7, color=BASELINE)
    bar = figure.colorbar(scale.drawn, ax=panels, shrink=0.8, pad=0.01)
    bar.ax.tick_params(labelsize=7, colors=INK)
    bar.set_label("net Sharpe ratio", size=8, color=INK)
    caption.text(0.0, 0.95, _KEY, va="top", fontsize=7, color=INK, transform=caption.transAxes)
    count = f"{screening.trials} point{'s' if screening.trials > 1 else ''}"
    return finish(figure, caption, f"Screening, {count}", crypto, market)


def _panels(n_panels: int, grid: _Grid) -> tuple[Figure, Axes, list[Axes]]:
    """A figure with a row for title and key above rows of panels, large enough for their cells."""
    from matplotlib.figure import Figure

    n_stops, n_targets = len(grid.stops), len(grid.targets)
    across = min(n_panels, MOST_PANELS_ACROSS, max(1, MOST_CELLS_ACROSS // n_targets))
    down = -(-n_panels // across)
    width = max(_SMALLEST_PANEL[0], n_targets * _CELL[0])
    height = max(_SMALLEST_PANEL[1], n_stops * _CELL[1])
    size = (max(7.2, across * (width + 0.5) + 0.9), down * (height + 0.6) + _CAPTION)
    figure = Figure(figsize=size, dpi=DOTS_PER_INCH, facecolor=PAPER, layout="constrained")
    cells = figure.add_gridspec(down + 1, across, height_ratios=[_CAPTION, *[height + 0.6] * down])
    caption = figure.add_subplot(cells[0, :])
    caption.set_axis_off()
    return figure, caption, [figure.add_subplot(cells[1 + i // across, i % across]) for i in range(n_panels)]


def _scale(sharpe: pd.Series[Any]) -> _Scale:
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    largest = float(sharpe.abs().max())
    limit = largest if largest > 0.0 else 1.0
    return _Scale(limit, ScalarMappable(Normalize(-limit, limit), colormaps[COLOURS]))


def _dress(axes: Axes, name: str, grid: _Grid) -> None:
    axes.set_facecolor(PAPER)
    axes.set_title(name, fontsize=8, color=INK, loc="left")
    axes.set(xlim=(-0.5, len(grid.targets) - 0.5), ylim=(-0.5, len(grid.stops) - 0.5))
    axes.set_xticks(range(len(grid.targets)), [f"{value:g}" for value in grid.targets])
    axes.set_yticks(range(len(grid.stops)), [f"{value:g}" for value in grid.stops])
    axes.set_xlabel("take-profit, ATR", size=7, color=INK, labelpad=1)
    axes.set_ylabel("stop-loss, ATR", size=7, color=INK, labelpad=1)
    axes.tick_params(labelsize=6, colors=INK, length=0)
    axes.spines[:].set_visible(False)


def _draw_point(axes: Axes, point: Mapping[str, Any], scale: _Scale, grid: _Grid, *, framed: bool) -> None:
    from matplotlib.patches import Rectangle
    from matplotlib.patheffects import withStroke

    x, y = grid.place(point["stop_loss"], point["take_profit"])
    sharpe, delta = float(point["sharpe"]), float(point["f1_buy_delta"])
    ink = scale.ink(sharpe)
    axes.add_patch(Rectangle((x - 0.48, y - 0.46), 0.96, 0.92, facecolor=scale.colour(sharpe), linewidth=0))
    # Rounded first and 0 added, so that what rounds to 0 has no minus sign.
    told = f"{round(100.0 * delta, 1) + 0.0:+.1f}" if np.isfinite(delta) else "?"
    axes.text(x, y, told, ha="center", va="center", fontsize=6, color=ink)
    if not point["eligible"]:
        axes.text(x + 0.44, y + 0.42, "×", ha="right", va="top", fontsize=5, color=ink)
    if framed:
        # Its light edge tells the frame from a dark cell.
        edged = [withStroke(linewidth=3.2, foreground=PAPER)]
        frame = Rectangle(
            (x - 0.47, y - 0.44), 0.94, 0.88, fill=False, edgecolor=INK, linewidth=1.6, path_effects=edged
        )
        axes.add_patch(frame)
