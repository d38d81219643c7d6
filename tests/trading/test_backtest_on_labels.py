"""Labels and backtest agree on every trade's exit, on real candles.

A backtest holds one position at a time, so it runs again on the signals that it has not traded yet until all are.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from cvntrade_assets.learning.barriers import label_candles
from cvntrade_assets.market.volatility import average_true_range
from cvntrade_assets.trading.backtest import OPEN, run_backtest
from cvntrade_assets.trading.costs import Costs
from cvntrade_assets.trading.fills import EXIT_KINDS, LONG, candle_arrays, walk_signals
from cvntrade_assets.trading.pte import PTE

Candles = Callable[..., pd.DataFrame]

COARSE, FINE = pd.Timedelta("30min"), pd.Timedelta("5min")
SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT", "XRPUSDT", "BNBUSDT", "ADAUSDT")
PTES = (PTE(4, 1.0, 2.0), PTE(1, 0.5, 0.5))


def every_signal(candles: pd.DataFrame) -> pd.DataFrame:
    """A signal at the close of every candle."""
    return pd.DataFrame({"atr": average_true_range(candles).to_numpy()}, index=candles.index + COARSE)


def trade_every_signal(
    candles: pd.DataFrame, signals: pd.DataFrame, pte: PTE, interval: pd.Timedelta
) -> tuple[pd.DataFrame, int]:
    """The trade of every signal that has one, by its entry, and how many backtests that took."""
    left, runs = signals, []
    while True:
        trades = run_backtest(candles, left, pte, interval=interval, costs=Costs(7.5, 2.5)).trades
        if trades.empty:
            break
        runs.append(trades)
        left = left.drop(trades["signal_time"])
    return pd.concat(runs).set_index("entry_time").sort_index(), len(runs)


@pytest.mark.parametrize("symbol", SYMBOLS)
@pytest.mark.parametrize("pte", PTES, ids=str)
def test_every_trade_ends_as_its_label_says(real_candles: Candles, symbol: str, pte: PTE) -> None:
    # The outage of 2023-03-24 and ADA's missing December are among them.
    candles = real_candles(symbol, start="2023-01-01", end="2025-09-01")
    labels = label_candles(candles, pte, interval=COARSE, binary=True).set_index("entry_time")
    trades, runs = trade_every_signal(candles, every_signal(candles), pte, COARSE)
    decided = trades[trades["exit_kind"] != OPEN]
    assert len(labels) > 45_000
    assert runs > 1
    assert len(trades) - len(decided) < 13, "those that the last candles leave undecided"
    pd.testing.assert_index_equal(decided.index, labels.index)
    for column, label in (("gross_return", "return"), ("exit_time", "exit_time"), ("ambiguous", "ambiguous")):
        pd.testing.assert_series_equal(decided[column], labels[label], check_names=False, check_exact=True)
    assert (decided["exit_kind"].astype(str) == labels["exit_kind"].astype(str)).all()


@pytest.mark.parametrize("symbol", SYMBOLS)
@pytest.mark.parametrize("pte", PTES, ids=str)
def test_fine_candles_end_trades_as_the_fill_kernel_says_and_as_clear_labels_do(
    real_candles: Candles, symbol: str, pte: PTE
) -> None:
    coarse, fine = (
        real_candles(symbol, timeframe, start="2025-01-01", end="2025-09-01") for timeframe in ("30m", "5m")
    )
    trades, _ = trade_every_signal(fine, every_signal(coarse), pte, FINE)
    trades = trades[trades["exit_kind"] != OPEN]

    # The kernel's signal is the fine candle that closes when the coarse one does.
    atr = every_signal(coarse)["atr"].rename_axis("open_time")
    known = atr.set_axis(atr.index - FINE).reindex(fine.index).to_numpy()
    signals = fine.index.get_indexer(trades.index - FINE)
    assert (signals >= 0).all()
    exits = walk_signals(candle_arrays(fine, FINE), signals, known, pte, LONG)
    np.testing.assert_array_equal(trades["exit_kind"].astype(str), np.array(EXIT_KINDS)[exits.kind])
    np.testing.assert_array_equal(trades["exit_price"], exits.price)
    np.testing.assert_array_equal(trades["ambiguous"], exits.ambiguous)
    delay = np.where(exits.at_open, 0, FINE.value)
    np.testing.assert_array_equal(trades["exit_time"].astype("int64"), fine.index.astype("int64")[exits.index] + delay)

    labels = label_candles(coarse, pte, interval=COARSE, binary=True).set_index("entry_time")
    labels = labels[labels.index.isin(trades.index)]
    assert len(labels) > 11_000
    trades, at_open = trades.loc[labels.index], pd.Series(exits.at_open, trades.index)[labels.index]
    same = labels["exit_kind"].astype(str) == trades["exit_kind"].astype(str)
    clear = ~labels["ambiguous"]
    assert same[clear].all()
    assert not same[~clear].all(), "finer candles know which barrier came first"
    # A finer candle may open beyond a barrier that the coarse one touched inside: same kind, filled at that open.
    equal = clear & ~at_open
    assert equal.mean() > 0.9
    np.testing.assert_array_equal(trades["gross_return"][equal], labels["return"][equal])
    assert (trades["exit_time"][clear] <= labels["exit_time"][clear]).all()
    assert (trades["exit_time"][clear] > labels["exit_time"][clear] - COARSE - FINE).all()
