"""Plots of an evaluation: what the backtests earned, how their trades ended, and what each fold found, as PNG bytes.

Every plot shows the baseline that its numbers must beat: buy-and-hold and always-BUY beside an equity, always-BUY's F1
beside a fold's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal, TypeVar

import numpy as np
import pandas as pd

from cvntrade_assets.learning.plot_look import (
    AFTER,
    BASELINE,
    BEFORE,
    EXIT_COLOURS,
    EXIT_NAMES,
    INK,
    PAPER,
    PlotError,
    finish,
    label_dates,
    legend_look,
    naive,
    new_figure,
)
from cvntrade_assets.trading.cost_levels import JUDGED_LEVEL, level_column

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Curve = TypeVar("Curve", pd.DataFrame, "pd.Series")

JUDGED = level_column(JUDGED_LEVEL)
"""The cost level that is judged; it is drawn heavier than the others."""
LIGHTEST = 0.35
MOST_POINTS = 800
"""A curve of more candles is thinned for the drawing; drawdowns keep their lowest."""
NARROWEST_SHARE = 0.06


def equity_curves(
    strategy: pd.DataFrame,
    always_buy: pd.DataFrame,
    buy_and_hold: pd.DataFrame,
    *,
    name: str,
    crypto: str,
    market: str,
) -> bytes:
    """Draw a strategy's equity at every cost level beside its two baselines, with drawdowns beneath, as PNG.

    A strategy without a trade stays at 1.0 at every cost level: one line, which says so.

    Args:
        strategy: equity from 1.0 on, index open_time in UTC, one column per cost level (`1x` is judged).
        always_buy: the same of saying BUY at every candle; its judged level is drawn.
        buy_and_hold: the same of buying once; its judged level is drawn.
        name: which backtest it is, for the title.
        crypto: for the title.
        market: `binance` or `simulated`, for the title.

    Raises:
        PlotError: no candle, no judged level, or curves that are not of the same candles.
    """
    _refuse_strangers(strategy, always_buy, buy_and_hold, crypto)
    fallen, market_fallen = (_thin(_drawdown(curve[JUDGED]), "min") for curve in (strategy, buy_and_hold))
    strategy, always_buy, buy_and_hold = (_thin(curve, "last") for curve in (strategy, always_buy, buy_and_hold))
    figure, (above, below) = new_figure(7.6, 4.6, heights=(3, 1))
    times = naive(strategy.index)
    idle = bool((strategy == 1.0).all(axis=None))
    others = [level for level in strategy.columns if level != JUDGED and not idle]
    for level, alpha in zip(others, np.linspace(1.0, LIGHTEST, len(others) + 1)[1:], strict=True):
        above.plot(times, strategy[level], color=AFTER, alpha=alpha, linewidth=0.9, label=f"model, costs {level}")
    label = "model: no trade" if idle else f"model, costs {JUDGED}"
    above.plot(times, strategy[JUDGED], color=AFTER, linewidth=1.6, label=label)
    above.plot(times, always_buy[JUDGED], color=BEFORE, linewidth=1.1, label="always BUY")
    above.plot(times, buy_and_hold[JUDGED], color=BASELINE, linewidth=1.1, linestyle="--", label="buy and hold")
    above.axhline(1.0, color=BASELINE, linewidth=0.6, linestyle=":")
    below.fill_between(times, fallen, 0.0, color=AFTER, alpha=0.35, linewidth=0)
    below.plot(times, market_fallen, color=BASELINE, linewidth=0.9, linestyle="--")
    above.set(ylabel="equity, from 1.0 on", xlim=(times[0], times[-1]))
    below.set(ylabel="drawdown", xlim=(times[0], times[-1]))
    above.tick_params(labelbottom=False)
    label_dates(below)
    figure.legend(loc="outside lower center", ncols=5, **legend_look())
    return finish(figure, above, name, crypto, market)


def exit_shares(shares: Mapping[str, Mapping[str, float | None]], *, crypto: str, market: str) -> bytes:
    """Draw how trades ended, one bar per backtest, as PNG; a backtest without a trade says so.

    Args:
        shares: for every backtest its shares `tp`, `sl` and `timeout` of its trades; None without a trade.
        crypto: for the title.
        market: `binance` or `simulated`, for the title.

    Raises:
        PlotError: no backtest.
    """
    if not shares:
        raise PlotError(f"{crypto}: exit shares need at least one backtest")
    figure, (axes,) = new_figure(7.6, 0.9 + 0.4 * len(shares))
    for row, found in enumerate(shares.values()):
        _draw_shares(axes, row, {title: found[kind] for kind, title in EXIT_NAMES.items()})
    for title, colour in EXIT_COLOURS.items():
        axes.barh(0, 0.0, color=colour, label=title)
    axes.set(xlim=(0, 1), xlabel="share of trades")
    axes.set_yticks(range(len(shares)), labels=list(shares), color=INK)
    axes.invert_yaxis()
    figure.legend(loc="outside right center", **legend_look())
    return finish(figure, axes, "How trades ended", crypto, market)


def fold_bars(folds: pd.DataFrame, *, crypto: str, market: str) -> bytes:
    """Draw every fold's F1 of BUY beside that of always saying BUY on the same rows, as PNG.

    Args:
        folds: one row per fold in time order, columns `f1_buy`, `baseline_f1_buy`, and `test_from` and `test_until`
            in UTC.
        crypto: for the title.
        market: `binance` or `simulated`, for the title.

    Raises:
        PlotError: no fold.
    """
    if folds.empty:
        raise PlotError(f"{crypto}: there is no fold to draw")
    figure, (axes,) = new_figure(7.6, 3.0)
    places = np.arange(len(folds))
    for shift, column, colour, label in (
        (-0.2, "f1_buy", AFTER, "model"),
        (0.2, "baseline_f1_buy", BASELINE, "always BUY"),
    ):
        bars = axes.bar(places + shift, folds[column], width=0.38, color=colour, label=label)
        axes.bar_label(bars, fmt="%.3f", fontsize=8, color=INK, padding=2)
    spans = [
        f"{start:%d %b %y}\nto {end:%d %b %y}" for start, end in zip(folds.test_from, folds.test_until, strict=True)
    ]
    axes.set_xticks(places, labels=spans)
    axes.set(ylabel="F1 of BUY", ylim=(0, 1.25 * max(0.1, float(folds[["f1_buy", "baseline_f1_buy"]].max().max()))))
    axes.legend(loc="upper right", ncols=2, **legend_look())
    return finish(figure, axes, "Folds, each on its own test period", crypto, market)


def _refuse_strangers(
    strategy: pd.DataFrame, always_buy: pd.DataFrame, buy_and_hold: pd.DataFrame, crypto: str
) -> None:
    curves = (strategy, always_buy, buy_and_hold)
    alike = all(curve.index.equals(strategy.index) and JUDGED in curve.columns for curve in curves)
    if strategy.empty or not alike:
        raise PlotError(
            f"{crypto}: an equity plot needs candles, the same ones and the column {JUDGED} for the model, always-BUY "
            "and buy-and-hold"
        )


def _thin(curve: Curve, keep: Literal["last", "min"]) -> Curve:
    """Groups of neighbouring candles as one, at the time of the group's last candle."""
    size = -(-len(curve) // MOST_POINTS)
    groups = np.arange(len(curve)) // size
    thinned: Curve = curve.groupby(groups).agg(keep)
    ends = np.append(np.flatnonzero(np.diff(groups)), len(curve) - 1)
    return thinned.set_axis(curve.index[ends])


def _drawdown(equity: pd.Series) -> pd.Series:
    """How far the equity stands below its highest so far, starting at 1.0; 0 or negative."""
    return equity / equity.cummax().clip(lower=1.0) - 1.0


def _draw_shares(axes: Axes, row: int, shares: Mapping[str, float | None]) -> None:
    """One bar from 0 to 1, every share written where it fits."""
    left = 0.0
    for title, share in shares.items():
        if share is None:
            axes.text(0.5, row, "no trade", ha="center", va="center", fontsize=8, color=INK)
            return
        axes.barh(row, share, left=left, color=EXIT_COLOURS[title], height=0.6)
        if share >= NARROWEST_SHARE:
            axes.text(left + share / 2, row, f"{share:.0%}", ha="center", va="center", fontsize=8, color=PAPER)
        left += share
