"""How fast CUSUM, barriers and the PTE grid are, as ratios to finmlkit and to plain pandas in the same run.

Run from the repository's root: `python -m benchmarks.kernels` (`--help` lists its options). Every figure is
the best of several repetitions after a warm-up, which compiles; everything runs on one thread. Wall clock
decides, CPU time stands beside it: where they differ, the machine was doing something else as well.
"""

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numba
import numpy as np
import pandas as pd

from cvntrade_assets.learning.barriers import label_candles, label_grid
from cvntrade_assets.learning.cusum import cusum_events
from cvntrade_assets.market.volatility import average_true_range
from cvntrade_assets.trading.fills import LONG, candle_arrays, walk_every_candle, walk_signals
from cvntrade_assets.trading.pte import PTE, PteGrid

INTERVAL = pd.Timedelta("30min")
THRESHOLD_H = 3.0
PTE_IN_FORCE = PTE(4, 1.0, 2.0)
GRID = PteGrid((1, 2, 3, 4, 5, 6), (0.5, 0.75, 1.0, 1.5, 2.0), (1.0, 1.5, 2.0, 2.5, 3.0))
YEARS_TWO, MILLION = 35_040, 1_000_000
PANDAS_EVENTS = 1_000
"""Events that the pandas barriers are timed on; more only takes longer, for each event costs the same."""


def synthetic_candles(n: int, seed: int = 0) -> pd.DataFrame:
    """A random walk of 16 steps a candle with slowly changing volatility; no gaps."""
    rng = np.random.default_rng(seed)
    volatility = 0.004 * np.exp(0.5 * np.sin(np.arange(n) / 400))
    log_path = np.cumsum((rng.standard_normal((n, 16)) * volatility[:, None] / 4).ravel())
    path = 100 * np.exp(log_path - np.linspace(0, log_path[-1], log_path.size)).reshape(n, 16)
    close = path[:, -1]
    open_ = np.concatenate([[100.0], close[:-1]])
    index = pd.date_range("1980-01-01", periods=n, freq=INTERVAL, tz="UTC", name="open_time", unit="ns")
    return pd.DataFrame(
        {
            "open": open_,
            "high": np.maximum(path.max(axis=1), open_),
            "low": np.minimum(path.min(axis=1), open_),
            "close": close,
            "volume": 1.0,
            "complete": True,
        },
        index=index,
    )


@dataclass(frozen=True)
class Timing:
    """Milliseconds of the fastest repetition, by the wall clock and of CPU."""

    wall: float
    cpu: float


def best_of(work: Callable[[], object], repetitions: int) -> Timing:
    """Time some work, after one warm-up."""
    work()
    walls, cpus = [], []
    for _ in range(repetitions):
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        cpus.append(time.process_time() - cpu)
        walls.append(time.perf_counter() - wall)
    return Timing(min(walls) * 1e3, min(cpus) * 1e3)


def pandas_cusum(candles: pd.DataFrame, threshold: pd.Series) -> pd.DatetimeIndex:
    """The textbook loop over a Series (López de Prado 2018, snippet 2.4)."""
    events, up, down = [], 0.0, 0.0
    moves = np.log(candles["close"]).diff()
    for (moment, move), limit in zip(moves.iloc[1:].items(), threshold.iloc[1:], strict=True):
        up, down = max(0.0, up + move), min(0.0, down + move)
        if up > limit or down < -limit:
            up, down = (0.0 if up > limit else up), (0.0 if down < -limit else down)
            events.append(moment)
    return pd.DatetimeIndex(events)


def pandas_barriers(
    candles: pd.DataFrame, atr: pd.Series, signals: np.ndarray, pte: PTE
) -> list[tuple[float, pd.Timestamp]]:
    """The textbook way: per event, slice the frame up to the deadline, look for the first touches."""
    outcomes = []
    for t in signals:
        entry_time = candles.index[t + 1]
        path = candles.loc[entry_time : entry_time + pte.horizon - INTERVAL]
        entry = path["open"].iloc[0]
        stop, target = entry - pte.stop_loss * atr.iloc[t], entry + pte.take_profit * atr.iloc[t]
        stopped, reached = path.index[path["low"] <= stop], path.index[path["high"] >= target]
        if len(stopped) and (not len(reached) or stopped[0] <= reached[0]):
            outcomes.append((stop / entry - 1, stopped[0]))
        elif len(reached):
            outcomes.append((target / entry - 1, reached[0]))
        else:
            outcomes.append((path["close"].iloc[-1] / entry - 1, path.index[-1]))
    return outcomes


class Report:
    """Lines of a table: what, milliseconds, and how many times that is of the line it is compared with."""

    def __init__(self) -> None:
        self.reference = Timing(0.0, 0.0)

    def title(self, text: str) -> None:
        """Start a comparison."""
        sys.stdout.write(f"\n{text}\n")

    def ours(self, what: str, timing: Timing, target: float | None = None) -> None:
        """The line that the next ones are compared with."""
        self.reference = timing
        verdict = "met" if target is not None and timing.wall <= target else "MISSED"
        self._line(what, timing, "" if target is None else f"target {target:g} ms: {verdict}")

    def other(self, what: str, timing: Timing) -> None:
        """A line that is compared."""
        self._line(what, timing, f"{timing.wall / self.reference.wall:,.1f} x")

    def note(self, text: str) -> None:
        """A remark."""
        sys.stdout.write(f"  {text}\n")

    def _line(self, what: str, timing: Timing, verdict: str) -> None:
        sys.stdout.write(f"  {what:<72}{timing.wall:>12,.3f} ms {timing.cpu:>12,.3f} ms CPU   {verdict}\n")


def finmlkit_kernels() -> tuple[Callable[..., Any], Callable[..., Any]] | None:
    """Its CUSUM filter and its triple barrier, when it is installed."""
    if find_spec("finmlkit") is None:
        return None
    from finmlkit.label.tbm import triple_barrier
    from finmlkit.sampling.filters import cusum_filter

    return cusum_filter, triple_barrier


def compare_cusum(report: Report, candles: pd.DataFrame, repetitions: int) -> None:
    """CUSUM against finmlkit and plain pandas."""
    atr = average_true_range(candles)
    threshold = (THRESHOLD_H * atr / candles["close"]).fillna(np.inf)
    close, limits = candles["close"].to_numpy(), threshold.to_numpy()
    report.title(f"CUSUM, {len(candles):,} candles, h = {THRESHOLD_H}")
    report.ours(
        "cusum_events, frame in, index out",
        best_of(lambda: cusum_events(candles, atr, THRESHOLD_H), repetitions),
    )
    if kernels := finmlkit_kernels():
        report.other(
            "finmlkit cusum_filter, arrays in and out",
            best_of(lambda: kernels[0](close, limits), repetitions),
        )
    report.other("plain pandas", best_of(lambda: pandas_cusum(candles, threshold), 1))


def compare_barriers(report: Report, candles: pd.DataFrame, repetitions: int, target: float | None) -> None:
    """Barriers on every candle against finmlkit and plain pandas."""
    n = len(candles)
    arrays, atr = candle_arrays(candles, INTERVAL), average_true_range(candles)
    units = atr.to_numpy()
    report.title(f"Barriers, {PTE_IN_FORCE}, {n:,} candles, every one an event")
    frames = best_of(lambda: label_candles(candles, PTE_IN_FORCE, interval=INTERVAL, binary=True), repetitions)
    three = best_of(lambda: label_candles(candles, PTE_IN_FORCE, interval=INTERVAL, binary=False), repetitions)
    kernel = best_of(lambda: walk_every_candle(arrays, units, PTE_IN_FORCE, LONG), repetitions)
    report.ours("kernel: walk_every_candle, arrays in and out", kernel, target)
    report.other("the whole of label_candles, frame in and out, two classes", frames)
    report.other("the whole of label_candles, frame in and out, three classes", three)
    signals = np.arange(20, n - 20)
    if kernels := finmlkit_kernels():
        returns = units[signals] / candles["close"].to_numpy()[signals]
        arguments = (arrays.open_time, arrays.close, signals, returns, (1.0, 2.0), 4 * 3600.0, 0.0, None, 0.0)
        report.other(
            "finmlkit triple_barrier, arrays in and out (closes only, no fills)",
            best_of(lambda: kernels[1](*arguments), repetitions),
        )
    some = signals[:: max(1, len(signals) // PANDAS_EVENTS)][:PANDAS_EVENTS]
    sample = best_of(lambda: pandas_barriers(candles, atr, some, PTE_IN_FORCE), 1)
    scale = n / len(some)
    report.other(
        f"plain pandas (extrapolated from {len(some):,} events)",
        Timing(sample.wall * scale, sample.cpu * scale),
    )


def compare_grid(report: Report, candles: pd.DataFrame, repetitions: int) -> None:
    """The whole PTE grid against one by one."""
    arrays, atr = candle_arrays(candles, INTERVAL), average_true_range(candles)
    units = atr.to_numpy()
    events = cusum_events(candles, atr, THRESHOLD_H)
    for name, chosen in (("CUSUM events", events), ("events, every candle", candles.index)):
        signals = candles.index.get_indexer(chosen)
        report.title(f"PTE grid, {len(GRID)} combinations, {len(candles):,} candles, {len(chosen):,} {name}")
        report.ours(
            "label_grid, frame in, arrays out",
            best_of(lambda chosen=chosen: label_grid(candles, chosen, GRID, interval=INTERVAL), repetitions),
        )
        report.other(
            "one by one, walk_signals (kernel only)",
            best_of(lambda signals=signals: [walk_signals(arrays, signals, units, pte, LONG) for pte in GRID], 3),
        )
    report.other("one by one, label_candles", best_of(lambda: _label_one_by_one(candles), 1))


def _label_one_by_one(candles: pd.DataFrame) -> None:
    for pte in GRID:
        label_candles(candles, pte, interval=INTERVAL, binary=True)


def time_the_chain(report: Report, candles: pd.DataFrame, repetitions: int) -> None:
    """CUSUM, barriers and grid together, without and with the frames around them."""

    def chain() -> None:
        atr = average_true_range(candles)
        events = cusum_events(candles, atr, THRESHOLD_H)
        label_candles(candles, PTE_IN_FORCE, interval=INTERVAL, binary=True)
        label_grid(candles, events, GRID, interval=INTERVAL)

    arrays, atr = candle_arrays(candles, INTERVAL), average_true_range(candles)
    units = atr.to_numpy()

    def kernels() -> None:
        events = cusum_events(candles, atr, THRESHOLD_H)
        walk_every_candle(arrays, units, PTE_IN_FORCE, LONG)
        label_grid(candles, events, GRID, interval=INTERVAL)

    report.title(f"CUSUM + barriers on every candle + PTE grid on the CUSUM events, {len(candles):,} candles")
    report.ours("kernels: cusum_events, walk_every_candle, label_grid", best_of(kernels, repetitions), 5.0)
    report.other("with average_true_range and label_candles' frame", best_of(chain, repetitions))


def main() -> None:
    """Print every comparison."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--repetitions", type=int, default=30, help="repetitions each figure is the best of")
    parser.add_argument("--small", action="store_true", help=f"leave out the {MILLION:,} candles")
    options = parser.parse_args()
    numba.set_num_threads(1)  # finmlkit's kernels would use every core, ours use one
    report = Report()
    if finmlkit_kernels() is None:
        report.note("finmlkit is not installed: its lines are left out. To have them, in an environment of its own:")
        report.note("  pip install --no-deps -r benchmarks/requirements.txt")
    candles = synthetic_candles(YEARS_TWO)
    time_the_chain(report, candles, options.repetitions)
    compare_cusum(report, candles, options.repetitions)
    compare_barriers(report, candles, options.repetitions, None)
    compare_grid(report, candles, options.repetitions)
    if not options.small:
        candles = synthetic_candles(MILLION)
        compare_cusum(report, candles, options.repetitions)
        compare_barriers(report, candles, options.repetitions, 20.0)


if __name__ == "__main__":
    main()
