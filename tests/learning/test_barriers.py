"""Labels: an exact table, agreement with a slow account, the grid against one by one, no look-ahead."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from slow_fills import candles_by_time, slow_ending

from cvntrade_assets.learning.barriers import BUY, HOLD, SELL, GridLabels, label_candles, label_grid
from cvntrade_assets.market.volatility import average_true_range
from cvntrade_assets.trading.fills import LONG, NO_ENTRY, TIMEOUT, UNDECIDED, candle_arrays, walk_signals
from cvntrade_assets.trading.pte import PTE, PteGrid

Candles = Callable[..., pd.DataFrame]
Row = tuple[float, float, float, float]

INTERVAL = pd.Timedelta("30min")
START = pd.Timestamp("2024-01-01", tz="UTC")
GRID = PteGrid((1, 2, 3, 4, 5, 6), (0.5, 0.75, 1.0, 1.5, 2.0), (0.5, 1.0, 1.5, 2.0, 3.0))
QUIET: Row = (100, 100.5, 99.5, 100)
SIGNAL = 14
"""First slot whose ATR is known; after QUIET candles it is exactly 1."""


def after_signal(*rows: Row, interval: pd.Timedelta = INTERVAL) -> pd.DataFrame:
    """Fifteen quiet candles, the last of which is the signal, then the given ones."""
    times = pd.date_range(START, periods=SIGNAL + 1 + len(rows), freq=interval, name="open_time", unit="ns")
    data = [QUIET] * (SIGNAL + 1) + list(rows)
    return pd.DataFrame(data, columns=["open", "high", "low", "close"], index=times, dtype=float)


def known_at(slot: int, *, close: bool) -> pd.Timestamp:
    return START + INTERVAL * (slot + close)


# PTE H1: entry at 100 in slot 15, due at the close of slot 16.
@pytest.mark.parametrize(
    ("pte", "rows", "binary", "label", "gross", "kind", "exit_time", "ambiguous"),
    [
        pytest.param(PTE(1, 1.0, 2.0), [(100, 102, 99.5, 101), QUIET], True,
                     BUY, 0.02, "tp", known_at(15, close=True), False, id="BUY"),
        pytest.param(PTE(1, 1.0, 2.0), [(100, 100, 97, 98), QUIET], True,
                     HOLD, -0.01, "sl", known_at(15, close=True), False, id="stop: not BUY"),
        pytest.param(PTE(1, 1.0, 2.0), [(100, 103, 97, 98), QUIET], True,
                     HOLD, -0.01, "sl", known_at(15, close=True), True, id="both: not BUY, ambiguous"),
        pytest.param(PTE(1, 1.0, 2.0), [QUIET, (100, 101, 99.5, 101)], True,
                     HOLD, 0.01, "timeout", known_at(16, close=True), False,
                     id="time-out with a gain: not BUY"),
        pytest.param(PTE(1, 1.0, 2.0), [QUIET, (104, 104, 98, 99)], True,
                     BUY, 0.04, "tp", known_at(16, close=False), False,
                     id="gap through the target, known at the open"),
        pytest.param(PTE(1, 1.0, 2.0), [(100, 102, 99.5, 101), QUIET], False,
                     BUY, 0.02, "tp", known_at(15, close=True), False, id="three classes: BUY"),
        pytest.param(PTE(1, 1.0, 2.0), [(100, 100.5, 97, 98), QUIET], False,
                     SELL, -0.01, "sl", known_at(15, close=True), False, id="three classes: SELL"),
        pytest.param(PTE(1, 1.0, 2.0), [(100, 100.5, 98.5, 99), QUIET], False,
                     HOLD, -0.01, "sl", known_at(16, close=True), False,
                     id="three classes: the short decides later"),
        pytest.param(PTE(1, 1.0, 2.0), [(100, 101.5, 97.5, 99), QUIET], False,
                     HOLD, -0.01, "sl", known_at(15, close=True), True,
                     id="three classes: ambiguous for the short only"),
        pytest.param(PTE(1, 1.0, 1.0), [QUIET, QUIET], False,
                     HOLD, 0.0, "timeout", known_at(16, close=True), False,
                     id="three classes: nothing happens"),
        pytest.param(PTE(1, 3.0, 1.0), [(100, 101.5, 99.5, 100), (100, 100, 98.5, 99)], False,
                     BUY, 0.01, "tp", known_at(16, close=True), False, id="three classes: both win, BUY"),
    ],
)  # fmt: skip
def test_the_label_of_one_candle(
    pte: PTE,
    rows: list[Row],
    binary: bool,
    label: int,
    gross: float,
    kind: str,
    exit_time: pd.Timestamp,
    ambiguous: bool,
) -> None:
    labels = label_candles(after_signal(*rows), pte, interval=INTERVAL, binary=binary)
    found = labels.loc[START + INTERVAL * SIGNAL]
    assert found["return"] == pytest.approx(gross)
    assert found.drop("return").to_dict() == {
        "label": label,
        "exit_kind": kind,
        "entry_time": START + INTERVAL * (SIGNAL + 1),
        "exit_time": exit_time,
        "ambiguous": ambiguous,
    }


def test_the_frame(random_candles: Candles) -> None:
    candles = random_candles(200, seed=0)
    labels = label_candles(candles, PTE(4, 1.0, 2.0), interval=INTERVAL, binary=False)
    assert labels.dtypes.astype(str).to_dict() == {
        "label": "int8",
        "return": "float64",
        "exit_kind": "category",
        "entry_time": "datetime64[ns, UTC]",
        "exit_time": "datetime64[ns, UTC]",
        "ambiguous": "bool",
    }
    assert list(labels["exit_kind"].cat.categories) == ["tp", "sl", "timeout"]
    assert labels.index.name == "open_time"
    assert labels.index.is_monotonic_increasing
    assert labels.index.isin(candles.index).all()
    assert labels.index[0] == candles.index[SIGNAL]
    assert (labels["entry_time"] == labels.index + INTERVAL).all()
    assert (labels["exit_time"] > labels.index + INTERVAL).all()
    assert set(labels["label"]) == {BUY, HOLD, SELL}


@pytest.mark.parametrize("binary", [True, False])
def test_nothing_to_label(binary: bool) -> None:
    candles = after_signal(QUIET, QUIET)
    for found in (candles.iloc[:0], candles.iloc[:10], candles.iloc[: SIGNAL + 2]):
        labels = label_candles(found, PTE(1, 1.0, 1.0), interval=INTERVAL, binary=binary)
        assert len(labels) == 0
        assert list(labels) == ["label", "return", "exit_kind", "entry_time", "exit_time", "ambiguous"]


def test_a_flat_market_has_no_label() -> None:
    candles = after_signal(*[QUIET] * 20)
    candles[:] = 100.0
    assert len(label_candles(candles, PTE(1, 1.0, 1.0), interval=INTERVAL, binary=True)) == 0


def test_a_candle_whose_next_is_missing_has_no_label() -> None:
    candles = after_signal(*[QUIET] * 20).drop(START + INTERVAL * 20)
    labels = label_candles(candles, PTE(1, 1.0, 1.0), interval=INTERVAL, binary=True)
    # Slot 19 lacks its entry; slot 18, whose horizon ends in the gap, leaves at the open after it.
    assert START + INTERVAL * 19 not in labels.index
    assert labels.loc[START + INTERVAL * 18, "exit_time"] == START + INTERVAL * 21


@pytest.mark.parametrize(
    ("symbol", "start", "end"),
    [
        ("BTCUSDT", "2024-03-01", "2024-04-01"),
        ("ADAUSDT", "2024-11-25", "2025-01-08"),
        ("BTCUSDT", "2023-03-20", "2023-03-28"),
    ],
)
@pytest.mark.parametrize("pte", [PTE(4, 1.0, 2.0), PTE(6, 2.0, 0.5)], ids=str)
def test_agrees_with_the_slow_account_on_real_candles(
    real_candles: Candles, symbol: str, start: str, end: str, pte: PTE
) -> None:
    candles = real_candles(symbol, start=start, end=end)
    by_time, expected = candles_by_time(candles), {}
    rules = {"stop_loss": pte.stop_loss, "take_profit": pte.take_profit, "horizon": pte.horizon.value}
    for signal, unit in zip(by_time, average_true_range(candles), strict=True):
        long, short = (
            slow_ending(by_time, signal, unit, is_long=is_long, interval=INTERVAL.value, **rules)
            for is_long in (True, False)
        )
        if {long.kind, short.kind} & {"no entry", "undecided"}:
            continue
        known = max(end.candle + (0 if end.at_open else INTERVAL.value) for end in (long, short))
        expected[signal] = {
            "label": BUY if long.kind == "tp" else SELL if short.kind == "tp" else HOLD,
            "return": long.price / by_time[signal + INTERVAL.value][0] - 1,
            "exit_kind": long.kind,
            "exit_time": known,
            "ambiguous": long.ambiguous or short.ambiguous,
        }
    labels = label_candles(candles, pte, interval=INTERVAL, binary=False)
    found = labels.drop(columns="entry_time")
    found["exit_time"] = found["exit_time"].astype("int64")
    found.index = found.index.astype("int64")
    assert found.to_dict("index") == expected


@pytest.mark.parametrize("pte", [PTE(4, 1.0, 2.0), PTE(3, 2.0, 0.5)], ids=str)
def test_buy_is_the_same_with_two_classes_and_with_three(random_candles: Candles, pte: PTE) -> None:
    candles = random_candles(2000, seed=3)
    two = label_candles(candles, pte, interval=INTERVAL, binary=True)
    three = label_candles(candles, pte, interval=INTERVAL, binary=False)
    both = two.loc[three.index]
    assert ((both["label"] == BUY) == (three["label"] == BUY)).all()
    assert (three["exit_time"] >= both["exit_time"]).all()
    pd.testing.assert_frame_equal(
        three[["return", "exit_kind", "entry_time"]], both[["return", "exit_kind", "entry_time"]]
    )


def assert_no_look_ahead(candles: pd.DataFrame, noise: pd.DataFrame, t: int, *, binary: bool) -> None:
    """Candles after t become noise; what ended by t must not notice."""
    prices = ["open", "high", "low", "close"]
    mixed = candles.copy()
    mixed.iloc[t + 1 :, [mixed.columns.get_loc(name) for name in prices]] = noise[prices].to_numpy()[t + 1 : len(mixed)]
    pte = PTE(4, 1.0, 2.0)
    before, after = (
        labels[labels["exit_time"] <= candles.index[t]]
        for labels in (label_candles(each, pte, interval=INTERVAL, binary=binary) for each in (candles, mixed))
    )
    assert len(before) > 0
    pd.testing.assert_frame_equal(before, after)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), t=st.integers(60, 298), gap=st.integers(0, 20), binary=st.booleans())
def test_no_look_ahead_on_random_candles(random_candles: Candles, seed: int, t: int, gap: int, binary: bool) -> None:
    candles = random_candles(300, seed)
    candles = candles.drop(candles.index[t - 5 : t - 5 + gap])
    assert_no_look_ahead(candles, random_candles(300, seed + 1), min(t, len(candles) - 2), binary=binary)


@pytest.mark.parametrize("t", [100, 700, 1200])
@pytest.mark.parametrize("binary", [True, False])
def test_no_look_ahead_on_real_candles(real_candles: Candles, random_candles: Candles, t: int, binary: bool) -> None:
    candles = real_candles("ETHUSDT", start="2024-01-01", end="2024-02-01")
    assert_no_look_ahead(candles, random_candles(len(candles), seed=t), t, binary=binary)


def assert_grid_is_one_by_one(candles: pd.DataFrame, events: pd.DatetimeIndex, grid: PteGrid) -> GridLabels:
    found = label_grid(candles, events, grid, interval=INTERVAL)
    arrays, atr = candle_arrays(candles, INTERVAL), average_true_range(candles).to_numpy()
    signals = candles.index.get_indexer(events)
    entry = np.append(arrays.open, np.nan)[signals + 1]
    for row, pte in enumerate(grid):
        exits = walk_signals(arrays, signals, atr, pte, LONG)
        np.testing.assert_array_equal(found.exit_kind[row], exits.kind, str(pte))
        np.testing.assert_array_equal(found.exit_index[row], exits.index, str(pte))
        np.testing.assert_array_equal(found.ambiguous[row], exits.ambiguous, str(pte))
        np.testing.assert_array_equal(found.returns[row], exits.price / entry - 1.0, str(pte))
    return found


@pytest.mark.parametrize("kept", [1.0, 0.95, 0.6])
def test_the_grid_is_one_by_one_on_random_candles(random_candles: Candles, kept: float) -> None:
    candles = random_candles(900, seed=7)
    candles = candles[np.random.default_rng(7).random(900) < kept]
    found = assert_grid_is_one_by_one(candles, candles.index, GRID)
    assert found.exit_kind.shape == (150, len(candles))
    assert set(np.unique(found.exit_kind)) == {NO_ENTRY, UNDECIDED, 0, 1, TIMEOUT}


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_the_grid_is_one_by_one_on_coarse_candles(data: st.DataObject) -> None:
    steps = data.draw(st.lists(st.sampled_from([1, 1, 1, 1, 2, 5]), min_size=1, max_size=25))
    rows = data.draw(
        st.lists(
            st.tuples(*[st.integers(97, 103)] * 2, *[st.integers(0, 2)] * 2).map(
                lambda d: (d[0], max(d[:2]) + d[2], min(d[:2]) - d[3], d[1])
            ),
            min_size=len(steps),
            max_size=len(steps),
        )
    )
    candles = after_signal(*rows)
    candles.index = START + INTERVAL * np.concatenate([np.arange(SIGNAL + 1), SIGNAL + np.cumsum(steps)])
    grid = PteGrid((1, 2, 4), (0.5, 1.0, 2.0), (1.0, 2.0))
    assert_grid_is_one_by_one(candles.set_index(candles.index.as_unit("ns")), candles.index.as_unit("ns"), grid)


@pytest.mark.parametrize(
    ("symbol", "start", "end"),
    [("SOLUSDT", "2024-05-01", "2024-06-01"), ("ADAUSDT", "2024-11-25", "2025-01-08")],
)
def test_the_grid_is_one_by_one_on_real_candles(real_candles: Candles, symbol: str, start: str, end: str) -> None:
    candles = real_candles(symbol, start=start, end=end)
    assert_grid_is_one_by_one(candles, candles.index, GRID)


def test_the_grid_says_what_the_labels_say(random_candles: Candles) -> None:
    candles = random_candles(600, seed=2)
    grid = PteGrid((4,), (1.0,), (2.0,))
    labels = label_candles(candles, PTE(4, 1.0, 2.0), interval=INTERVAL, binary=True)
    found = label_grid(candles, labels.index, grid, interval=INTERVAL)
    np.testing.assert_array_equal(found.exit_kind[0], labels["exit_kind"].cat.codes)
    np.testing.assert_array_equal(found.returns[0], labels["return"])
    np.testing.assert_array_equal(found.ambiguous[0], labels["ambiguous"])


def test_events_may_come_in_any_order_or_not_at_all(random_candles: Candles) -> None:
    candles = random_candles(100, seed=2)
    forward = label_grid(candles, candles.index, GRID, interval=INTERVAL)
    backward = label_grid(candles, candles.index[::-1], GRID, interval=INTERVAL)
    np.testing.assert_array_equal(backward.exit_kind, forward.exit_kind[:, ::-1])
    assert label_grid(candles, candles.index[:0], GRID, interval=INTERVAL).returns.shape == (150, 0)


def test_an_event_that_is_no_candle_is_refused(random_candles: Candles) -> None:
    candles = random_candles(100, seed=2)
    for events in (
        candles.index + pd.Timedelta("1min"),
        candles.index + pd.Timedelta("1D"),
        candles.index[-1:] + INTERVAL,
    ):
        with pytest.raises(ValueError, match="is not the open time of a candle"):
            label_grid(candles, events, GRID, interval=INTERVAL)
    with pytest.raises(ValueError, match="is not the open time of a candle"):
        label_grid(candles.iloc[:0], candles.index, GRID, interval=INTERVAL)


def test_a_horizon_that_is_no_whole_number_of_candles_is_refused() -> None:
    candles = after_signal(QUIET, QUIET, interval=pd.Timedelta("4h"))
    with pytest.raises(ValueError, match="horizon is 0 days 01:00:00 on candles of 0 days 04:00:00"):
        label_candles(candles, PTE(1, 1.0, 1.0), interval=pd.Timedelta("4h"), binary=True)
    with pytest.raises(ValueError, match="horizon is 0 days 01:00:00"):
        label_grid(candles, candles.index, GRID, interval=pd.Timedelta("4h"))
