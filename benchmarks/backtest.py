"""How fast a backtest is, and how many times faster than vectorbt's `from_signals` with stops on the same signals.

Run from the repository's root: `python -m benchmarks.backtest` (`--help` lists its options). Every figure is the best
of several repetitions after a warm-up, which compiles; everything runs on one thread.

vectorbt knows no horizon, no fill at the next open and no stop within the candle of the entry. So that both make the
same trades, the horizon here never binds, candles open where the one before closed, vectorbt buys at the close of the
signal's candle, and ours waits one candle after an exit, as vectorbt acts once a candle. Both pay fee and slippage on
both sides, all in.
"""

import argparse
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.kernels import INTERVAL, THRESHOLD_H, YEARS_TWO, Report, best_of, synthetic_candles
from cvntrade_assets.learning.cusum import cusum_events
from cvntrade_assets.market.volatility import average_true_range
from cvntrade_assets.trading.backtest import Backtest, run_backtest
from cvntrade_assets.trading.backtest_kernel import mark_to_market, take_trades
from cvntrade_assets.trading.costs import Costs
from cvntrade_assets.trading.equity_kernel import path_sums
from cvntrade_assets.trading.fills import Exits, candle_arrays
from cvntrade_assets.trading.metrics import measure
from cvntrade_assets.trading.pte import PTE

COSTS = Costs(7.5, 2.5)
LEVELS = (0.0, 1.0, 2.0)
TARGET_MS, TARGET_RATIO = 0.1, 10
HOUSE_EVENTS = "CUSUM events"
MINUTE = pd.Timedelta("1min")
"""On candles of a minute the longest horizon, of 360 candles, never binds."""


def signals_of(candles: pd.DataFrame, events: pd.DatetimeIndex, interval: pd.Timedelta) -> pd.DataFrame:
    """A signal at the close of each event's candle."""
    atr = average_true_range(candles)
    return pd.DataFrame({"atr": atr.loc[events].to_numpy()}, index=events + interval)


def kernels_on(
    candles: pd.DataFrame, signals: pd.DataFrame, pte: PTE, interval: pd.Timedelta, levels: tuple[float, ...]
) -> Callable[[], object]:
    """What runs, on arrays: trades, equity and what the metrics need of it."""
    arrays = candle_arrays(candles, interval)
    inside = signals.index.isin(candles.index)
    entries = candles.index.get_indexer(signals.index[inside])
    units = signals["atr"].to_numpy()[inside]
    paid = [COSTS.scaled(level) for level in levels]
    bought, sold = np.array([each.bought for each in paid]), np.array([each.sold for each in paid])

    def run() -> object:
        entry, exits = np.empty(len(entries), np.int64), Exits.of_size(len(entries))
        rules = (pte.stop_loss, pte.take_profit, pte.horizon.value, arrays.interval, 0)
        n = take_trades(*arrays.columns(), entries, units, *rules, entry, *exits.columns())
        equity = np.empty((len(levels), len(arrays)))
        trades = (entry[:n], exits.index[:n], exits.price[:n])
        mark_to_market(arrays.open, arrays.close, *trades, 1.0, bought, sold, equity)
        return [path_sums(row) for row in equity]

    return run


def time_the_kernels(report: Report, candles: pd.DataFrame, repetitions: int) -> None:
    """The kernels on the house's own events, then on more and more signals; the target is for the former."""
    pte, rng = PTE(4, 1.0, 2.0), np.random.default_rng(0)
    known = candles.index[20:-1]
    choices = {
        HOUSE_EVENTS: cusum_events(candles, average_true_range(candles), THRESHOLD_H),
        **{f"{share:.0%} of candles": known[rng.random(len(known)) < share] for share in (0.05, 0.1, 0.25)},
        "every candle": known,
    }
    for name, events in choices.items():
        signals = signals_of(candles, events.intersection(known), INTERVAL)
        trades = run_backtest(candles, signals, pte, interval=INTERVAL, costs=COSTS).trades
        report.title(f"{name}: {len(signals):,} signals, {len(trades):,} trades, {pte}, {len(candles):,} candles")
        one, three = (
            best_of(kernels_on(candles, signals, pte, INTERVAL, levels), repetitions) for levels in ((1.0,), LEVELS)
        )
        report.ours(
            "kernels: trades, equity, sums for the metrics; arrays in and out",
            one,
            TARGET_MS if name == HOUSE_EVENTS else None,
        )
        report.other(f"the same at {len(LEVELS)} cost levels", three)
        whole = best_of(lambda signals=signals: judged(candles, signals, pte, INTERVAL), repetitions)
        report.other("run_backtest and measure, frames in and out", whole)


def judged(candles: pd.DataFrame, signals: pd.DataFrame, pte: PTE, interval: pd.Timedelta) -> object:
    """All of it."""
    return measure(run_backtest(candles, signals, pte, interval=interval, costs=COSTS), interval=interval)


def vectorbt(report: Report) -> ModuleType | None:
    """The library, when it and what it imports are installed."""
    try:
        import vectorbt as library
    except ImportError as error:
        report.note(f"vectorbt can not be used ({error}): its lines are left out. benchmarks/README.md tells how.")
        return None
    return library


def compare_with_vectorbt(report: Report, library: ModuleType, candles: pd.DataFrame, repetitions: int) -> None:
    """The same trades by both."""
    candles = candles.set_axis(pd.date_range("1980-01-01", periods=len(candles), freq=MINUTE, tz="UTC", unit="ns"))
    pte, atr = PTE(6, 1.0, 2.0), average_true_range(candles)
    # Not on the last candle: vectorbt would buy at its close, where there is no next open.
    events = cusum_events(candles, atr, THRESHOLD_H)[:-1]
    signals = signals_of(candles, events, MINUTE)
    asked = pd.Series(candles.index.isin(events), candles.index)

    def theirs() -> Any:
        return library.Portfolio.from_signals(
            candles["close"],
            asked,
            open=candles["open"],
            high=candles["high"],
            low=candles["low"],
            sl_stop=pte.stop_loss * atr / candles["close"],
            tp_stop=pte.take_profit * atr / candles["close"],
            stop_entry_price="price",
            stop_exit_price="stopmarket",
            upon_stop_exit="close",
            fees=COSTS.fee_bps / 1e4,
            slippage=COSTS.slippage_bps / 1e4,
            init_cash=1.0,
            freq="1min",
        )

    def theirs_judged() -> object:
        folio = theirs()
        return folio.value(), folio.sortino_ratio(), folio.sharpe_ratio(), folio.max_drawdown()

    def ours() -> Backtest:
        return run_backtest(candles, signals, pte, interval=MINUTE, costs=COSTS, cooldown=MINUTE)

    trades = ours().trades
    report.title(f"Against vectorbt {library.__version__}: {len(signals):,} signals, {len(candles):,} candles, {pte}")
    report.note(_agreement(ours(), theirs(), candles))
    kernel = best_of(kernels_on(candles, signals, pte, MINUTE, (1.0,)), repetitions)
    orders, values = best_of(theirs, repetitions), best_of(theirs_judged, max(3, repetitions // 10))
    report.ours("kernels: trades, equity, sums for the metrics; arrays in and out", kernel, TARGET_MS)
    report.other("vectorbt from_signals: orders only", orders)
    report.other("vectorbt from_signals, then value, Sortino, Sharpe and drawdown", values)
    report.other("run_backtest, frames in and out", best_of(ours, repetitions))
    verdict = "met" if orders.wall >= TARGET_RATIO * kernel.wall else "MISSED"
    report.note(
        f"from_signals takes {orders.wall / kernel.wall:,.0f} x the kernels: target {TARGET_RATIO} x, {verdict}"
    )
    if (trades["exit_kind"] == "timeout").any():
        report.note("a horizon was reached: the comparison is NOT fair")


def _agreement(ours: Backtest, theirs: Any, candles: pd.DataFrame) -> str:
    """Whether both made the same trades and the same money."""
    trades, records = ours.trades, theirs.positions.records
    same = len(trades) == len(records) and all(
        (
            (candles.index.get_indexer(trades["entry_time"]) - 1 == records["entry_idx"]).all(),
            (candles.index.get_indexer(trades["exit_time"] - MINUTE) == records["exit_idx"]).all(),
            np.allclose(trades["entry_price"] * (1 + COSTS.slippage_bps / 1e4), records["entry_price"], rtol=1e-12),
            np.allclose(ours.equity["1x"].iloc[-1], theirs.value().iloc[-1], rtol=1e-9),
        )
    )
    return f"{len(trades):,} trades, vectorbt {len(records):,}: {'the same' if same else 'NOT the same'}"


def main() -> None:
    """Print every comparison."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--repetitions", type=int, default=200, help="repetitions each figure is the best of")
    options = parser.parse_args()
    report, candles = Report(), synthetic_candles(YEARS_TWO)
    time_the_kernels(report, candles, options.repetitions)
    if library := vectorbt(report):
        compare_with_vectorbt(report, library, candles, options.repetitions)


if __name__ == "__main__":
    main()
