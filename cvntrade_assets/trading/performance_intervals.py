"""Intervals of what a backtest came to, from its candles and its trades, resampled."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cvntrade_assets.trading.backtest import OPEN, Backtest
from cvntrade_assets.trading.cost_levels import JUDGED_LEVEL, level_column
from cvntrade_assets.trading.metrics import measure_equity, measure_trades
from cvntrade_assets.trading.resampling import LEVEL, RESAMPLES, Interval, stationary_bootstrap_intervals

_DAY = pd.Timedelta(days=1)


def performance_intervals(
    backtest: Backtest,
    *,
    interval: pd.Timedelta,
    horizon: pd.Timedelta,
    seed: int,
    cost_level: float = JUDGED_LEVEL,
    n_boot: int = RESAMPLES,
    level: float = LEVEL,
) -> dict[str, Interval]:
    """Intervals of the headline figures of `metrics.measure`, by their names, from the stationary bootstrap.

    Total return, Sortino, Sharpe and largest drawdown are those of resampled candle returns, in blocks of a day or of
    two horizons on average, whichever is longer: a trade's candles stay together, and so does the day's volatility.
    Expectancy, hit rate and profit factor are those of resampled trades, in blocks of the cube root of their number,
    the rate at which Politis and White (2004, "Automatic block-length selection for the dependent bootstrap") let
    blocks grow. The two draw apart: their ends do not belong to one and the same resample.

    The drawdown's interval says how deep such returns fall in another order. It need not hold the one observed.

    Args:
        backtest: The backtest.
        interval: Timeframe of the candles it ran on.
        horizon: How long a trade may last.
        seed: Of the drawn blocks.
        cost_level: Which of the backtest's cost levels.
        n_boot: Number of resamples.
        level: Nominal coverage, within (0, 1).

    Returns:
        Low and high end of total_return, sortino, sharpe, max_drawdown, hit_rate, expectancy_net and profit_factor.
        (None, None) where the figure is undefined, on the backtest or on more than a tenth of the resamples, and where
        there are too few candles or trades: fewer than five blocks.
    """
    column = level_column(cost_level)
    equity = backtest.equity[column].to_numpy(dtype=np.float64)
    returns = equity / np.concatenate([[1.0], equity[:-1]]) - 1.0
    ended = backtest.trades["exit_kind"].to_numpy(dtype=object) != OPEN
    net = backtest.trades[f"net_return_{column}"].to_numpy(dtype=np.float64)[ended]

    def of_path(values: NDArray[np.float64]) -> dict[str, float | None]:
        return measure_equity(pd.Series(np.cumprod(1.0 + values)), interval=interval)._asdict()

    def of_trades(values: NDArray[np.float64]) -> dict[str, float | None]:
        return measure_trades(values)._asdict()

    day, trade = max(_DAY, 2 * horizon) / interval, max(1.0, float(np.cbrt(net.size)))
    return {
        **stationary_bootstrap_intervals(returns, of_path, mean_block=day, seed=seed, n_boot=n_boot, level=level),
        **stationary_bootstrap_intervals(net, of_trades, mean_block=trade, seed=seed, n_boot=n_boot, level=level),
    }
