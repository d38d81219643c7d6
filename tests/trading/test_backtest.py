"""The backtest: an exact table, agreement with a slow account, and what must hold whatever the candles."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from slow_backtest import SlowBacktest, slow_backtest

from cvntrade_assets.market.volatility import average_true_range
from cvntrade_assets.trading.backtest import OPEN, Backtest, buy_and_hold, run_backtest
from cvntrade_assets.trading.costs import Costs
from cvntrade_assets.trading.fills import CandlesError
from cvntrade_assets.trading.pte import PTE

Candles = Callable[..., pd.DataFrame]
Row = tuple[float, float, float, float]

INTERVAL = pd.Timedelta("30min")
START = pd.Timestamp("2024-01-01", tz="UTC")
FREE = Costs(0.0, 0.0)
COSTS = Costs(7.5, 2.5)
LEVELS = (0.0, 1.0, 2.5)
QUIET: Row = (100, 100.5, 99.5, 100)
# H1 on candles of half an hour: due at the close of the candle after the entry; stop 99, target 102 after 100.
PTE_H1 = PTE(1, 1.0, 2.0)


def frame(rows: dict[int, Row]) -> pd.DataFrame:
    """Candles from rows of open, high, low, close by slot; a slot that is not there is a gap."""
    index = pd.DatetimeIndex([slot_time(slot) for slot in rows], name="open_time").as_unit("ns")
    return pd.DataFrame(list(rows.values()), columns=["open", "high", "low", "close"], index=index, dtype=float)


def slot_time(slot: int) -> pd.Timestamp:
    """The open of a slot."""
    return START + slot * INTERVAL


def signals_in(slots: list[int], atr: float | list[float] = 1.0) -> pd.DataFrame:
    """Signals that would enter at the opens of these slots."""
    index = pd.DatetimeIndex([slot_time(slot) for slot in slots], dtype="datetime64[ns, UTC]")
    return pd.DataFrame({"atr": np.broadcast_to(np.asarray(atr, dtype=float), len(slots))}, index=index)


def run(candles: pd.DataFrame, signals: pd.DataFrame, pte: PTE = PTE_H1, **options: Any) -> Backtest:
    return run_backtest(candles, signals, pte, interval=INTERVAL, **{"costs": FREE, **options})


def assert_is(found: Backtest, expected: SlowBacktest, levels: tuple[float, ...] = LEVELS) -> None:
    """Trades exactly, money to rounding."""
    trades = found.trades
    rows = trades[["entry_time", "exit_time", "entry_price", "exit_price", "exit_kind", "ambiguous"]].copy()
    rows[["entry_time", "exit_time"]] = rows[["entry_time", "exit_time"]].astype("int64")
    assert list(rows.itertuples(index=False, name=None)) == expected.trades
    assert (trades["signal_time"] == trades["entry_time"]).all()
    assert found.in_position.tolist() == expected.in_position
    equity = np.array(expected.equity).reshape(-1, len(levels))
    np.testing.assert_allclose(found.equity.to_numpy(), equity, rtol=1e-12)
    for level, purse in zip(levels, expected.purses, strict=True):
        np.testing.assert_allclose(trades[f"net_return_{level:g}x"], purse.returns, rtol=0, atol=1e-14)


def slow(
    candles: pd.DataFrame, signals: pd.DataFrame, pte: PTE, fraction: float = 1.0, cooldown: pd.Timedelta = INTERVAL * 0
) -> SlowBacktest:
    return slow_backtest(
        candles,
        dict(zip((stamp.value for stamp in signals.index), signals["atr"], strict=True)),
        stop_loss=pte.stop_loss,
        take_profit=pte.take_profit,
        horizon=pte.horizon.value,
        interval=INTERVAL.value,
        fee=COSTS.fee_bps / 1e4,
        slippage=COSTS.slippage_bps / 1e4,
        levels=LEVELS,
        fraction=fraction,
        cooldown=cooldown.value,
    )


def test_one_trade_to_its_target() -> None:
    candles = frame({0: QUIET, 1: QUIET, 2: (100, 101, 99.5, 101), 3: (101, 103, 101, 102.5), 4: QUIET})
    found = run(candles, signals_in([2]), costs=Costs(100, 50), levels=(0.0, 1.0), fraction=0.5)
    bought, sold = 1.005 * 1.01, 0.995 * 0.99
    net = 1.02 * sold / bought - 1
    (trade,) = found.trades.to_dict("records")
    assert trade == {
        "signal_time": slot_time(2),
        "entry_time": slot_time(2),
        "exit_time": slot_time(4),
        "entry_price": 100.0,
        "exit_price": 102.0,
        "exit_kind": "tp",
        "ambiguous": False,
        "gross_return": pytest.approx(0.02),
        "net_return_0x": pytest.approx(0.02),
        "net_return_1x": pytest.approx(net),
    }
    assert found.in_position.tolist() == [False, False, True, True, False]
    assert found.equity["0x"].tolist() == pytest.approx([1, 1, 0.5 + 0.5 * 1.01, 1.01, 1.01])
    after = 1 + 0.5 * net
    assert found.equity["1x"].tolist() == pytest.approx([1, 1, 0.5 + 0.5 * 1.01 / bought, after, after])
    assert (found.fraction, found.signals, found.without_entry) == (0.5, 1, 0)
    assert (found.equity.index.equals(candles.index), found.equity.index.name) == (True, "open_time")


@pytest.mark.parametrize(
    ("rows", "kind", "exit_slot", "price", "ambiguous"),
    [
        pytest.param({2: (100, 100, 98, 99)}, "sl", 3, 99, False, id="stop in the entry candle"),
        pytest.param({2: (100, 103, 98, 99)}, "sl", 3, 99, True, id="both in one candle"),
        pytest.param({2: QUIET, 3: (98, 99, 97, 98)}, "sl", 3, 98, False, id="gap through the stop, known at the open"),
        pytest.param({2: QUIET, 3: (104, 105, 97, 98)}, "tp", 3, 104, False, id="gap through the target"),
        pytest.param({2: QUIET, 3: (100, 101, 99.5, 100.5)}, "timeout", 4, 100.5, False, id="deadline at the close"),
        pytest.param({2: QUIET, 6: (97, 99, 96, 98)}, "timeout", 6, 97, False, id="deadline among missing candles"),
        pytest.param({2: (100, 101, 99.5, 100.5)}, OPEN, 3, 100.5, False, id="candles end: sold at the last close"),
    ],
)
def test_how_a_trade_ends(rows: dict[int, Row], kind: str, exit_slot: int, price: float, ambiguous: bool) -> None:
    found = run(frame({1: QUIET, **rows}), signals_in([2]))
    assert found.trades[["exit_kind", "exit_time", "exit_price", "ambiguous"]].values.tolist() == [
        [kind, slot_time(exit_slot), price, ambiguous]
    ]
    assert found.equity["1x"].iloc[-1] == pytest.approx(price / 100)
    assert found.in_position.tolist() == [False] + [True] * len(rows)


def test_a_trade_that_the_end_cuts_off_pays_for_its_sale() -> None:
    found = run(frame({0: QUIET, 1: QUIET}), signals_in([1]), costs=COSTS)
    assert found.equity["1x"].iloc[-1] == pytest.approx(COSTS.sold / COSTS.bought, rel=1e-15)
    assert found.trades["net_return_1x"].tolist() == [pytest.approx(COSTS.sold / COSTS.bought - 1, abs=1e-15)]


def test_one_position_at_a_time() -> None:
    # Every trade lasts two candles: signals that come while one is open are passed over.
    found = run(frame(dict.fromkeys(range(9), QUIET)), signals_in(list(range(1, 9))))
    assert found.trades["entry_time"].tolist() == [slot_time(slot) for slot in (1, 3, 5, 7)]
    assert (found.signals, found.without_entry) == (8, 0)


@pytest.mark.parametrize(("candles", "entries"), [(0, (1, 3, 5, 7)), (1, (1, 4, 7)), (2, (1, 5)), (100, (1,))])
def test_the_cooldown_counts_from_the_close_of_the_exit_candle(candles: int, entries: tuple[int, ...]) -> None:
    found = run(frame(dict.fromkeys(range(9), QUIET)), signals_in(list(range(1, 9))), cooldown=candles * INTERVAL)
    assert found.trades["entry_time"].tolist() == [slot_time(slot) for slot in entries]


def test_an_exit_at_an_open_frees_the_next_candle_not_this_one() -> None:
    rows = {0: QUIET, 1: QUIET, 2: (98, 98.5, 97.5, 98), 3: QUIET, 4: QUIET}
    found = run(frame(rows), signals_in([1, 2, 3]))
    assert found.trades["entry_time"].tolist() == [slot_time(1), slot_time(3)]
    assert found.trades["exit_time"].tolist()[0] == slot_time(2)


def test_signals_that_no_trade_can_follow_are_counted() -> None:
    candles = frame({0: QUIET, 1: QUIET, 2: QUIET, 9: QUIET, 10: QUIET})
    found = run(candles, signals_in([-1, 0, 5, 9, 10, 11], [1, np.nan, 1, 0, 1, 1]))
    assert found.trades["entry_time"].tolist() == [slot_time(10)]
    assert (found.signals, found.without_entry) == (6, 5)


def test_barriers_stand_where_the_signal_knew() -> None:
    candles = frame({0: QUIET, 1: (100, 104, 99, 100), 2: QUIET})
    found = run(candles, signals_in([1], 2.0), PTE(1, 1.0, 2.0))
    assert found.trades["exit_price"].tolist() == [104.0]


def test_fine_candles_are_entered_at_the_close_of_coarse_ones(random_candles: Candles) -> None:
    fine = random_candles(300, seed=3, interval="5min")
    signals = pd.DataFrame({"atr": 0.5}, index=fine.index[12::6])
    found = run_backtest(fine, signals, PTE_H1, interval=pd.Timedelta("5min"), costs=FREE)
    assert len(found.trades) > 5
    assert found.trades["entry_time"].isin(signals.index).all()
    assert ((found.trades["exit_time"] - found.trades["entry_time"]) <= pd.Timedelta("1h")).all()


@pytest.mark.parametrize("candles", [0, 3])
@pytest.mark.parametrize("signals", [0, 2])
def test_nothing_to_trade(candles: int, signals: int) -> None:
    frame_ = frame(dict.fromkeys(range(3), QUIET)).iloc[:candles]
    found = run(frame_, signals_in(list(range(10, 10 + signals))), levels=LEVELS)
    assert (len(found.trades), found.signals, found.without_entry) == (0, signals, signals)
    assert found.trades["exit_kind"].cat.categories.tolist() == ["tp", "sl", "timeout", OPEN]
    assert found.trades.dtypes["entry_time"] == "datetime64[ns, UTC]"
    assert found.equity.shape == (candles, 3)
    assert (found.equity == 1.0).all(axis=None)
    assert not found.in_position.any()


@st.composite
def coarse_runs(draw: st.DrawFn) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Whole prices, so that barriers are touched exactly, jumped over and tied; missing slots; signals anywhere."""
    steps = draw(st.lists(st.sampled_from([1, 1, 1, 1, 2, 5]), min_size=1, max_size=40))
    slots, price, wick = np.cumsum(steps).tolist(), st.integers(95, 105), st.integers(0, 3)
    rows = {}
    for slot in slots:
        open_, close = draw(price), draw(price)
        rows[slot] = (open_, max(open_, close) + draw(wick), min(open_, close) - draw(wick), close)
    asked = draw(st.lists(st.integers(-1, slots[-1] + 2), unique=True, max_size=40).map(sorted))
    units = [draw(st.sampled_from([1.0, 2.0, 0.5, 3.0, 0.0, np.nan])) for _ in asked]
    return frame(rows), signals_in(asked, units)


ptes = st.builds(PTE, st.integers(1, 3), st.sampled_from([0.5, 1.0, 2.0]), st.sampled_from([0.5, 1.0, 2.0, 4.0]))


@settings(max_examples=200, deadline=None)
@given(coarse_runs(), ptes, st.sampled_from([1.0, 0.5, 0.01]), st.integers(0, 4))
def test_agrees_with_the_slow_account_on_coarse_candles(
    drawn: tuple[pd.DataFrame, pd.DataFrame], pte: PTE, fraction: float, wait: int
) -> None:
    candles, signals = drawn
    found = run(candles, signals, pte, costs=COSTS, levels=LEVELS, fraction=fraction, cooldown=wait * INTERVAL)
    assert_is(found, slow(candles, signals, pte, fraction, wait * INTERVAL))
    known = signals["atr"] > 0
    assert found.without_entry == len(signals) - (known & signals.index.isin(candles.index)).sum()


@pytest.mark.parametrize(("kept", "wait"), [(1.0, 0), (0.97, 2), (0.7, 1)])
def test_agrees_with_the_slow_account_on_random_candles_with_gaps(
    random_candles: Candles, kept: float, wait: int
) -> None:
    rng = np.random.default_rng(wait)
    candles = random_candles(1200, seed=wait)
    candles = candles[rng.random(1200) < kept]
    atr = average_true_range(candles)
    signals = pd.DataFrame({"atr": atr.to_numpy()}, index=candles.index + INTERVAL)[rng.random(len(candles)) < 0.4]
    found = run(candles, signals, PTE(4, 1.0, 2.0), costs=COSTS, levels=LEVELS, fraction=0.3, cooldown=wait * INTERVAL)
    assert len(found.trades) > 60
    assert_is(found, slow(candles, signals, PTE(4, 1.0, 2.0), 0.3, wait * INTERVAL))


@settings(max_examples=100, deadline=None)
@given(coarse_runs(), ptes)
def test_without_costs_all_in_the_gross_returns_multiply_to_the_equity(
    drawn: tuple[pd.DataFrame, pd.DataFrame], pte: PTE
) -> None:
    found = run(*drawn, pte)
    assert found.equity["1x"].iloc[-1] == pytest.approx((1 + found.trades["gross_return"]).prod(), rel=1e-12)
    np.testing.assert_allclose(found.trades["net_return_1x"], found.trades["gross_return"], rtol=0, atol=1e-15)


@settings(max_examples=100, deadline=None)
@given(
    coarse_runs(),
    ptes,
    st.floats(0.01, 1.0),
    st.lists(st.floats(0.0, 20.0), min_size=2, max_size=4, unique_by=lambda level: f"{level:g}").map(sorted),
)
def test_higher_costs_never_raise_the_equity(
    drawn: tuple[pd.DataFrame, pd.DataFrame], pte: PTE, fraction: float, levels: list[float]
) -> None:
    found = run(*drawn, pte, costs=COSTS, levels=levels, fraction=fraction)
    columns = found.equity.to_numpy()
    assert (columns[:, 1:] <= columns[:, :-1] * (1 + 1e-12)).all()
    net = found.trades.filter(like="net_return").to_numpy()
    assert (net[:, 1:] <= net[:, :-1] + 1e-15).all()
    assert (columns > 0).all()


@settings(max_examples=100, deadline=None)
@given(coarse_runs(), ptes, st.floats(0.01, 1.0))
def test_the_equity_never_moves_while_flat(drawn: tuple[pd.DataFrame, pd.DataFrame], pte: PTE, fraction: float) -> None:
    found = run(*drawn, pte, costs=COSTS, levels=LEVELS, fraction=fraction)
    for column in found.equity:
        moves = np.diff(found.equity[column].to_numpy(), prepend=1.0) != 0
        assert not (moves & ~found.in_position.to_numpy()).any()


@settings(max_examples=60, deadline=None)
@given(coarse_runs(), ptes, st.integers(0, 40))
def test_what_has_ended_does_not_notice_what_comes_after(
    drawn: tuple[pd.DataFrame, pd.DataFrame], pte: PTE, cut: int
) -> None:
    candles, signals = drawn
    candles = candles.iloc[: max(1, cut)]
    whole, short = run(*drawn, pte).trades, run(candles, signals, pte).trades
    # The cut ends the trade that it falls into; the ones before stand as they were.
    ended = short[short["exit_kind"] != OPEN]
    pd.testing.assert_frame_equal(ended, whole.iloc[: len(ended)])
    assert len(ended) >= len(short) - 1


def test_buying_and_holding_pays_once_for_each_side(random_candles: Candles) -> None:
    candles = random_candles(50, seed=1)
    found = buy_and_hold(candles, interval=INTERVAL, costs=COSTS, levels=(0.0, 1.0))
    growth = candles["close"] / candles["open"].iloc[0]
    pd.testing.assert_series_equal(found["0x"], growth, check_names=False, rtol=1e-14)
    paid = growth / COSTS.bought
    paid.iloc[-1] *= COSTS.sold
    pd.testing.assert_series_equal(found["1x"], paid, check_names=False, rtol=1e-14)


def test_holding_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="there are no candles"):
        buy_and_hold(frame({0: QUIET}).iloc[:0], interval=INTERVAL, costs=FREE)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fraction": 0.0}, "fraction is 0.0: expected a share"),
        ({"fraction": 1.01}, "fraction is 1.01: expected a share"),
        ({"fraction": float("nan")}, "fraction is nan"),
        ({"cooldown": -INTERVAL}, "cooldown is -1 days"),
        ({"levels": ()}, "expected at least one"),
        ({"levels": (1.0, 1.0)}, "each different"),
        ({"levels": (-1.0,)}, "fee_bps is -7.5"),
    ],
)
def test_arguments_out_of_place_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run(frame(dict.fromkeys(range(5), QUIET)), signals_in([1]), **{"costs": COSTS, **change})


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda s: s.iloc[[1, 0]], "00:30:00.* does not come after the one before it"),
        (lambda s: s.iloc[[0, 0]], "does not come after the one before it"),
        (lambda s: s.set_index(s.index.tz_localize(None)), "expected datetime64.ns, UTC. closes"),
        (
            lambda s: s.set_index(s.index + pd.Timedelta("7min")),
            "00:37:00.* is no moment at which a candle of 0 days 00:30",
        ),
    ],
)
def test_signals_out_of_place_are_refused(spoil: Callable[[pd.DataFrame], pd.DataFrame], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run(frame(dict.fromkeys(range(5), QUIET)), spoil(signals_in([1, 2])))


def test_candles_that_can_not_be_are_refused() -> None:
    candles = frame(dict.fromkeys(range(5), QUIET))
    with pytest.raises(CandlesError, match="expected open times that advance"):
        run(candles.iloc[::-1], signals_in([1]))
    with pytest.raises(ValueError, match="horizon is 0 days 01:00:00 on candles of 0 days 02:00:00"):
        run_backtest(candles.iloc[::4], signals_in([4]), PTE_H1, interval=pd.Timedelta("2h"), costs=FREE)
