"""Cost levels: the multiples of the costs that a backtest is paid at, and which of them is judged."""

from __future__ import annotations

JUDGED_LEVEL = 1.0
"""The multiple of the costs that is judged; others show how much depends on them."""


def level_column(level: float) -> str:
    """Name of a cost level's column in `Backtest.equity`; behind `net_return_`, of that in `Backtest.trades`."""
    return f"{level:g}x"
