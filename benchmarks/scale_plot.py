"""The curve from few cryptos to many: docs/scale.png."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cvntrade_assets.learning.plot_look import DOTS_PER_INCH, INK, PAPER

COLOURS = ("#1f6fb2", "#c9772b", "#2f8a5b", "#b3261e", "#6a4c93", "#7d8590", "#0f9aa8", "#c2508f")
Lines = Mapping[str, Sequence[float]]


def draw(cryptos: Sequence[int], panels: Sequence[tuple[str, str, Lines]], file: Path) -> None:
    """Draw a panel for each (title, unit, lines by name) and write them as PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(15, 7), dpi=DOTS_PER_INCH, facecolor=PAPER, layout="constrained")
    for axes, (title, unit, lines) in zip(figure.subplots(2, 3).flat, panels, strict=True):
        _panel(axes, cryptos, title, unit, lines)
    figure.savefig(file, format="png", metadata={"Software": None})


def _panel(axes: Any, cryptos: Sequence[int], title: str, unit: str, lines: Lines) -> None:
    axes.set_facecolor(PAPER)
    for colour, (name, values) in zip(COLOURS * 2, lines.items(), strict=False):
        axes.plot(cryptos, values, marker="o", markersize=4, linewidth=1.6, color=colour, label=name)
    axes.set_title(title, fontsize=10, color=INK, loc="left")
    axes.set_xlabel("cryptos", fontsize=9, color=INK)
    axes.set_ylabel(unit, fontsize=9, color=INK)
    axes.set_ylim(bottom=0)
    axes.set_xlim(left=0)
    axes.tick_params(labelsize=8, colors=INK)
    axes.spines[["top", "right"]].set_visible(False)
    if len(lines) > 1:
        axes.legend(fontsize=7.5, frameon=False, labelcolor=INK, loc="upper left", bbox_to_anchor=(1.0, 1.0))
