"""The fill kernel: an exact table for every way a trade ends, and agreement with a slow, obvious account."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from slow_fills import Ending, candles_by_time, slow_ending

from cvntrade_assets.market.volatility import average_true_range
from cvntrade_assets.trading.fills import (
    LONG,
    NO_ENTRY,
    SHORT,
    SL,
    TIMEOUT,
    TP,
    UNDECIDED,
    CandlesError,
    Exits,
    candle_arrays,
    exit_in_candle,
    walk_every_candle,
    walk_signals,
)
from cvntrade_assets.trading.pte import PTE

Candles = Callable[..., pd.DataFrame]
Rows = dict[int, tuple[float, float, float, float]]

INTERVAL = pd.Timedelta("30min")
NAMES = {NO_ENTRY: "no entry", UNDECIDED: "undecided", TP: "tp", SL: "sl", TIMEOUT: "timeout"}


def frame(rows: Rows) -> pd.DataFrame:
    """Candles from rows of open, high, low, close by half-hour slot; a slot that is not there is a gap."""
    times = pd.Timestamp("2024-01-01", tz="UTC") + INTERVAL * np.array(list(rows))
    index = pd.DatetimeIndex(times, name="open_time").as_unit("ns")
    return pd.DataFrame(list(rows.values()), columns=["open", "high", "low", "close"], index=index, dtype=float)


def endings(candles: pd.DataFrame, exits: Exits) -> list[Ending]:
    times = [stamp.value for stamp in candles.index]
    return [
        Ending(NAMES[int(kind)], times[i] if i >= 0 else -1, float(price), bool(at_open), bool(ambiguous))
        for kind, i, price, at_open, ambiguous in zip(*exits.columns(), strict=True)
    ]


def assert_endings_equal(found: list[Ending], expected: list[Ending]) -> None:
    # NaN prices compare as text.
    assert [repr(ending) for ending in found] == [repr(ending) for ending in expected]


def slow_endings(candles: pd.DataFrame, atr: np.ndarray, pte: PTE, side: int) -> list[Ending]:
    by_time = candles_by_time(candles)
    return [
        slow_ending(
            by_time,
            signal,
            float(unit),
            stop_loss=pte.stop_loss,
            take_profit=pte.take_profit,
            is_long=side == LONG,
            horizon=pte.horizon.value,
            interval=INTERVAL.value,
        )
        for signal, unit in zip(by_time, atr, strict=True)
    ]


def assert_agrees(candles: pd.DataFrame, atr: np.ndarray, pte: PTE) -> None:
    arrays = candle_arrays(candles, INTERVAL)
    for side in (LONG, SHORT):
        expected = slow_endings(candles, atr, pte, side)
        every = np.arange(len(candles))
        assert_endings_equal(endings(candles, walk_signals(arrays, every, atr, pte, side)), expected)
        assert_endings_equal(endings(candles, walk_every_candle(arrays, atr, pte, side)), expected)


# The signal is slot 0, the entry the open of slot 1 at 100; stop 99, target 102, due at the close of slot 4.
# The expectation: kind, row of the exit candle, price, at its open, ambiguous.
SIGNAL = (100, 100.5, 99.5, 100)
QUIET = (100, 100.5, 99.5, 100.25)
TABLE: dict[str, tuple[Rows, tuple[int, int, float, bool, bool]]] = {
    "target in the entry candle": ({1: (100, 102.5, 99.5, 101)}, (TP, 1, 102, False, False)),
    "target touched exactly": ({1: (100, 102, 99.5, 101)}, (TP, 1, 102, False, False)),
    "target later": ({1: QUIET, 2: (100, 103, 99.5, 102)}, (TP, 2, 102, False, False)),
    "stop in the entry candle": ({1: (100, 101, 98.5, 99)}, (SL, 1, 99, False, False)),
    "stop touched exactly": ({1: (100, 101, 99, 100)}, (SL, 1, 99, False, False)),
    "stop later": ({1: QUIET, 2: (100, 101, 90, 95)}, (SL, 2, 99, False, False)),
    "stop in the last candle before the deadline": (
        {1: QUIET, 2: QUIET, 3: QUIET, 4: (100, 101, 98, 101)},
        (SL, 4, 99, False, False),
    ),
    "both in the entry candle": ({1: (100, 103, 98, 102)}, (SL, 1, 99, False, True)),
    "both in a later candle": ({1: QUIET, 2: (100, 103, 98, 102)}, (SL, 2, 99, False, True)),
    "stop first, target a candle later": (
        {1: (100, 101, 98, 99), 2: (99, 103, 99, 103)},
        (SL, 1, 99, False, False),
    ),
    "gap through the stop": ({1: QUIET, 2: (98, 98.5, 97, 98)}, (SL, 2, 98, True, False)),
    "gap through the stop, target touched after it": (
        {1: QUIET, 2: (98, 103, 97, 102)},
        (SL, 2, 98, True, False),
    ),
    "opens exactly at the stop": ({1: QUIET, 2: (99, 103, 98, 102)}, (SL, 2, 99, True, False)),
    "gap through the target": ({1: QUIET, 2: (103, 104, 102.5, 103)}, (TP, 2, 103, True, False)),
    "gap through the target, stop touched after it": (
        {1: QUIET, 2: (103, 104, 98, 99)},
        (TP, 2, 103, True, False),
    ),
    "opens exactly at the target": ({1: QUIET, 2: (102, 104, 98, 99)}, (TP, 2, 102, True, False)),
    "missing candle, then a gap through the stop": (
        {1: QUIET, 3: (97, 98, 96, 97)},
        (SL, 2, 97, True, False),
    ),
    "missing candle, then a gap through the target": (
        {1: QUIET, 4: (105, 106, 98, 97)},
        (TP, 2, 105, True, False),
    ),
    "time-out at the close": (
        {1: QUIET, 2: QUIET, 3: QUIET, 4: QUIET, 5: (90, 110, 80, 90)},
        (TIMEOUT, 4, 100.25, False, False),
    ),
    "time-out at the close of the last candle there is": (
        {1: QUIET, 2: QUIET, 3: QUIET, 4: QUIET},
        (TIMEOUT, 4, 100.25, False, False),
    ),
    "time-out at the close although candles are missing before": (
        {1: QUIET, 4: QUIET, 5: (90, 110, 80, 90)},
        (TIMEOUT, 2, 100.25, False, False),
    ),
    "deadline in a gap": ({1: QUIET, 2: QUIET, 9: (101, 103, 98, 100)}, (TIMEOUT, 3, 101, True, False)),
    "deadline in a gap, opens beyond the stop": (
        {1: QUIET, 2: QUIET, 9: (95, 96, 94, 95)},
        (TIMEOUT, 3, 95, True, False),
    ),
    "deadline in a gap, opens beyond the target": (
        {1: QUIET, 9: (105, 106, 104, 105)},
        (TIMEOUT, 2, 105, True, False),
    ),
    "deadline at the end of a gap": (
        {1: QUIET, 2: QUIET, 3: QUIET, 5: (101, 103, 98, 100)},
        (TIMEOUT, 4, 101, True, False),
    ),
    "missing next candle": ({2: QUIET, 3: (100, 103, 99.5, 102)}, (NO_ENTRY, -1, np.nan, False, False)),
    "no candle after the signal": ({}, (NO_ENTRY, -1, np.nan, False, False)),
    "candles end before the deadline": (
        {1: QUIET, 2: QUIET, 3: QUIET},
        (UNDECIDED, -1, np.nan, False, False),
    ),
    "candles end before the deadline, after the target": (
        {1: QUIET, 2: (100, 103, 99.5, 102)},
        (TP, 2, 102, False, False),
    ),
}


def mirrored(row: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    """The candle reflected at 100, where a short sees what a long saw."""
    open_, high, low, close = row
    return 200 - open_, 200 - low, 200 - high, 200 - close


@pytest.mark.parametrize("side", [LONG, SHORT])
@pytest.mark.parametrize("case", TABLE)
def test_every_way_a_trade_ends(case: str, side: int) -> None:
    rows, (kind, index, price, at_open, ambiguous) = TABLE[case]
    rows = {0: SIGNAL, **{slot: (o, max(o, h, c), min(o, lo, c), c) for slot, (o, h, lo, c) in rows.items()}}
    if side == SHORT:
        rows, price = {slot: mirrored(row) for slot, row in rows.items()}, 200 - price
    candles = frame(rows)
    arrays, atr, pte = candle_arrays(candles, INTERVAL), np.ones(len(candles)), PTE(2, 1.0, 2.0)
    for exits in (
        walk_signals(arrays, np.array([0]), atr, pte, side),
        walk_every_candle(arrays, atr, pte, side),
    ):
        found = tuple(column[0] for column in exits.columns())
        np.testing.assert_equal(found, (kind, index, price, at_open, ambiguous))
    assert_agrees(candles, atr, pte)


@pytest.mark.parametrize("unit", [np.nan, 0.0])
def test_without_a_known_positive_atr_there_is_no_entry(unit: float) -> None:
    candles = frame(dict.fromkeys(range(6), QUIET))
    exits = walk_signals(candle_arrays(candles, INTERVAL), np.array([0]), np.full(6, unit), PTE(1, 1.0, 1.0), LONG)
    assert exits.kind[0] == NO_ENTRY


def test_a_stop_below_zero_is_never_touched() -> None:
    candles = frame({0: SIGNAL, 1: (100, 101, 1e-9, 1), 2: (1, 2, 1e-9, 1)})
    exits = walk_signals(candle_arrays(candles, INTERVAL), np.array([0]), np.full(3, 60.0), PTE(1, 2.0, 2.0), LONG)
    assert endings(candles, exits)[0].kind == "timeout"


@st.composite
def coarse_candles(draw: st.DrawFn) -> tuple[pd.DataFrame, np.ndarray]:
    """Whole prices, so that barriers are touched exactly, jumped over and tied; some slots missing."""
    slots = draw(st.lists(st.sampled_from([1, 1, 1, 1, 2, 5]), min_size=1, max_size=30))
    price, rows = st.integers(95, 105), {}
    for slot in np.cumsum(slots):
        open_, close = draw(price), draw(price)
        rows[int(slot)] = (
            open_,
            max(open_, close) + draw(st.integers(0, 3)),
            min(open_, close) - draw(st.integers(0, 3)),
            close,
        )
    unit = st.sampled_from([1.0, 2.0, 0.5, 3.0, 0.0, np.nan])
    return frame(rows), np.array([draw(unit) for _ in rows])


@settings(max_examples=150, deadline=None)
@given(
    coarse_candles(),
    st.builds(PTE, st.integers(1, 6), st.sampled_from([0.5, 1.0, 2.0]), st.sampled_from([0.5, 1.0, 2.0, 4.0])),
)
def test_agrees_with_the_slow_account_on_coarse_candles(drawn: tuple[pd.DataFrame, np.ndarray], pte: PTE) -> None:
    assert_agrees(*drawn, pte)


@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_the_slow_account_on_random_candles_with_gaps(random_candles: Candles, seed: int) -> None:
    candles = random_candles(1300, seed)
    candles = candles[np.random.default_rng(seed).random(1300) < (1.0, 0.97, 0.7)[seed]]
    assert_agrees(candles, average_true_range(candles).to_numpy(), PTE(4, 1.0, 2.0))


@pytest.mark.parametrize(
    ("symbol", "start", "end", "pte"),
    [
        ("BTCUSDT", "2024-01-01", "2024-02-01", PTE(4, 1.0, 2.0)),
        ("ETHUSDT", "2023-03-20", "2023-03-28", PTE(6, 2.0, 1.0)),  # the outage of 2023-03-24
        ("ADAUSDT", "2024-11-20", "2025-01-10", PTE(2, 0.5, 0.5)),  # the missing December
        ("BONKUSDT", "2023-12-15", "2024-01-01", PTE(1, 1.0, 3.0)),
    ],
)
def test_agrees_with_the_slow_account_on_real_candles(
    real_candles: Candles, symbol: str, start: str, end: str, pte: PTE
) -> None:
    candles = real_candles(symbol, start=start, end=end)
    assert_agrees(candles, average_true_range(candles).to_numpy(), pte)


def test_candle_by_candle_is_the_same_walk(random_candles: Candles) -> None:
    candles = random_candles(400, seed=5)
    arrays, atr, pte = (
        candle_arrays(candles, INTERVAL),
        average_true_range(candles).to_numpy(),
        PTE(6, 1.0, 1.0),
    )
    exits = walk_every_candle(arrays, atr, pte, SHORT)
    for t in np.flatnonzero(np.isin(exits.kind, (TP, SL))):
        entry = t + 1
        stop, target = arrays.open[entry] + atr[t], arrays.open[entry] - atr[t]
        for i in range(entry, exits.index[t] + 1):
            kind, price, at_open, ambiguous = exit_in_candle(
                arrays.open[i], arrays.high[i], arrays.low[i], stop, target, SHORT, i == entry
            )
            assert (kind == UNDECIDED) == (i < exits.index[t])
        assert (kind, price, at_open, ambiguous) == (
            exits.kind[t],
            exits.price[t],
            exits.at_open[t],
            exits.ambiguous[t],
        )


def test_no_candles_no_exits() -> None:
    arrays = candle_arrays(frame({0: SIGNAL}).iloc[:0], INTERVAL)
    assert len(walk_every_candle(arrays, np.empty(0), PTE(1, 1.0, 1.0), LONG).kind) == 0
    assert len(walk_signals(arrays, np.empty(0, np.int64), np.empty(0), PTE(1, 1.0, 1.0), LONG).kind) == 0


def _with(candles: pd.DataFrame, column: str, value: float) -> pd.DataFrame:
    candles = candles.copy()
    candles.loc[candles.index[2], column] = value
    return candles


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda c: c.iloc[[0, 2, 1]], "00:30:00.* follows .*01:00:00.*: expected open times that advance"),
        (lambda c: c.iloc[[0, 0, 1]], "00:00:00.* follows .*00:00:00"),
        (lambda c: c.set_index(c.index + pd.to_timedelta([0, 0, 1, 0, 0], "min")), "01:01:00.* follows"),
        (
            lambda c: c.set_index(c.index.tz_localize(None)),
            "dtype datetime64.ns.: expected datetime64.ns, UTC.",
        ),
        (lambda c: c.set_index(c.index.as_unit("ms")), "dtype datetime64.ms, UTC.: expected"),
        (lambda c: c.reset_index(drop=True), "dtype int64: expected"),
        (lambda c: _with(c, "close", np.nan), "close nan at .*01:00:00"),
        (lambda c: _with(c, "high", np.inf), "high inf, .* at .*01:00:00"),
        (lambda c: _with(c, "high", 100.1), "high 100.1, .*within low..high"),
        (lambda c: _with(c, "low", 100.2), "low 100.2, .*within low..high"),
        (lambda c: _with(c, "low", 0.0), "low 0.0, .*positive"),
    ],
)
def test_candles_that_can_not_be_are_refused(spoil: Callable[[pd.DataFrame], pd.DataFrame], message: str) -> None:
    candles = frame(dict.fromkeys(range(5), QUIET))
    with pytest.raises(CandlesError, match=message):
        candle_arrays(spoil(candles), INTERVAL)


def test_arguments_out_of_place_are_refused() -> None:
    candles = frame(dict.fromkeys(range(5), QUIET))
    arrays, atr, pte, first = candle_arrays(candles, INTERVAL), np.ones(5), PTE(1, 1.0, 1.0), np.array([0])
    with pytest.raises(ValueError, match="atr has 4 values for 5 candles"):
        walk_signals(arrays, first, atr[:4], pte, LONG)
    with pytest.raises(ValueError, match="side is 0"):
        walk_every_candle(arrays, atr, pte, 0)
    with pytest.raises(ValueError, match="positions -1 to 5: expected 0 to 4"):
        walk_signals(arrays, np.array([-1, 5]), atr, pte, LONG)
    with pytest.raises(ValueError, match="interval is 0 days"):
        candle_arrays(candles, pd.Timedelta(0))
    hourly = candle_arrays(candles.iloc[::4], pd.Timedelta("2h"))
    with pytest.raises(ValueError, match="horizon is 0 days 01:00:00 on candles of 0 days 02:00:00"):
        walk_signals(hourly, first, np.ones(2), pte, LONG)
