"""The candle frame's contract, gaps, merging and coarsening."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cvntrade_assets.market.candles import (
    COLUMNS,
    TIMEFRAMES,
    Gap,
    ImpossibleCandles,
    check_candles,
    empty_candles,
    flag_gap_neighbours,
    gap_report,
    last_closed_open,
    merge_candles,
    month_starts,
    resample_candles,
    timeframe_delta,
)

HALF_HOUR = pd.Timedelta(minutes=30)
FIVE = pd.Timedelta(minutes=5)


def utc(text: str) -> pd.Timestamp:
    return pd.Timestamp(text, tz="UTC")


def frame(positions: list[int], interval: pd.Timedelta = HALF_HOUR) -> pd.DataFrame:
    """Candles at these places of the grid from 2024-01-01, each told apart by its prices."""
    index = pd.DatetimeIndex([utc("2024-01-01") + at * interval for at in positions], name="open_time")
    index = index.as_unit("ns") if len(index) else empty_candles().index
    base = np.array(positions, dtype=float) + 100
    columns = {"open": base, "high": base + 2, "low": base - 2, "close": base + 1, "volume": base}
    return pd.DataFrame({**columns, "complete": np.ones(len(positions), dtype=bool)}, index=index)


@pytest.mark.parametrize(
    ("as_of", "interval", "expected"),
    [
        ("2025-09-01 00:00", "30m", "2025-08-31 23:30"),
        ("2025-09-01 00:29:59", "30m", "2025-08-31 23:30"),
        ("2025-09-01 00:30", "30m", "2025-09-01 00:00"),
        ("2025-09-01 00:30", "1d", "2025-08-31 00:00"),
        ("2025-09-01 07:59", "4h", "2025-09-01 00:00"),
    ],
)
def test_last_closed_open(as_of, interval, expected):
    assert last_closed_open(utc(as_of), timeframe_delta(interval)) == utc(expected)


def test_last_closed_open_of_another_timezone_and_of_none():
    assert last_closed_open(pd.Timestamp("2025-09-01 02:30+02:00"), HALF_HOUR) == utc("2025-09-01 00:00")
    with pytest.raises(ValueError, match="no timezone"):
        last_closed_open(pd.Timestamp("2025-09-01"), HALF_HOUR)


def test_unknown_timeframe_names_the_known_ones():
    with pytest.raises(ValueError, match=r"'2h'.*1m, 5m, 15m, 30m, 1h, 4h, 1d"):
        timeframe_delta("2h")


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        ("2025-01-01", "2025-03-01", ["2025-01-01", "2025-02-01"]),
        ("2024-12-31 23:30", "2025-01-01 00:30", ["2024-12-01", "2025-01-01"]),
        ("2025-01-15", "2025-01-15", []),
    ],
)
def test_month_starts(start, end, expected):
    assert month_starts(utc(start), utc(end)) == tuple(utc(day) for day in expected)


def test_gap_report_lists_every_hole():
    report = gap_report(frame([0, 1, 4, 5, 7]), HALF_HOUR)
    assert (report.count, report.missing_candles, report.largest) == (2, 3, pd.Timedelta(hours=1))
    assert report.gaps == (
        Gap(utc("2024-01-01 01:00"), utc("2024-01-01 01:30"), 2),
        Gap(utc("2024-01-01 03:00"), utc("2024-01-01 03:00"), 1),
    )


@pytest.mark.parametrize("positions", [[], [3], [0, 1, 2]])
def test_no_gap(positions):
    report = gap_report(frame(positions), HALF_HOUR)
    assert (report.count, report.missing_candles, report.largest, report.gaps) == (0, 0, pd.Timedelta(0), ())


def test_gap_neighbours_are_not_complete():
    flagged = flag_gap_neighbours(frame([0, 1, 4, 5, 7]), HALF_HOUR)
    assert flagged["complete"].tolist() == [True, False, False, False, False]
    assert flag_gap_neighbours(frame([0, 1, 2]), HALF_HOUR)["complete"].all()
    assert flag_gap_neighbours(empty_candles(), HALF_HOUR).equals(empty_candles())


def test_flagging_raises_no_flag_and_leaves_its_input():
    candles = frame([0, 1, 2, 4])
    candles.loc[candles.index[0], "complete"] = False
    before = candles.copy()
    assert flag_gap_neighbours(candles, HALF_HOUR)["complete"].tolist() == [False, True, False, False]
    pd.testing.assert_frame_equal(candles, before)


def test_merge_new_wins():
    old, new = frame([0, 1, 2]), frame([2, 3])
    new[list(COLUMNS[:-1])] *= 2
    merged = merge_candles(old, new)
    assert merged["open"].tolist() == [100, 101, 204, 206]
    check_candles(merged, HALF_HOUR)
    assert merge_candles(empty_candles(), old) is old
    assert merge_candles(old, empty_candles()) is old


def test_resample_exactly():
    fine = frame([0, 1, 2, 3, 4, 5, 6, 7, 9, 10, 11], FIVE)
    coarse = resample_candles(fine, FIVE, HALF_HOUR)
    assert coarse.index.tolist() == [utc("2024-01-01 00:00"), utc("2024-01-01 00:30")]
    assert coarse["complete"].tolist() == [True, False]
    assert coarse.iloc[0][["open", "high", "low", "close", "volume"]].tolist() == [100, 107, 98, 106, 615]
    check_candles(coarse, HALF_HOUR)


@pytest.mark.parametrize(
    ("positions", "opens", "complete"),
    [
        ([0, 1, 2, 3, 4], [], []),
        ([0, 1, 2, 3, 4, 5, 6], [0], [True]),
        ([5], [0], [False]),
        ([3, 4, 5, 12, 17], [0, 2], [False, False]),
    ],
)
def test_resample_edges(positions, opens, complete):
    coarse = resample_candles(frame(positions, FIVE), FIVE, HALF_HOUR)
    assert coarse.index.tolist() == [utc("2024-01-01") + at * HALF_HOUR for at in opens]
    assert coarse["complete"].tolist() == complete
    assert coarse.dtypes.equals(empty_candles().dtypes)


def test_resample_of_an_incomplete_constituent_is_incomplete():
    fine = frame(list(range(6)), FIVE)
    fine.loc[fine.index[2], "complete"] = False
    assert resample_candles(fine, FIVE, HALF_HOUR)["complete"].tolist() == [False]


def test_resample_refuses_what_does_not_divide():
    with pytest.raises(ValueError, match="whole multiple"):
        resample_candles(frame([0]), HALF_HOUR, pd.Timedelta(minutes=45))
    assert resample_candles(empty_candles(), FIVE, HALF_HOUR).equals(empty_candles())


@given(st.sets(st.integers(0, 40), min_size=1))
def test_resample_agrees_with_a_slow_one(places):
    fine = frame(sorted(places), FIVE)
    coarse = resample_candles(fine, FIVE, HALF_HOUR)
    expected = []
    for group in range(7):
        members = [at for at in sorted(places) if at // 6 == group]
        if members and (max(places) // 6 > group or max(places) % 6 == 5):
            expected.append(
                (100 + members[0], 102 + members[-1], 98 + members[0], 101 + members[-1], len(members) == 6)
            )
    found = coarse[["open", "high", "low", "close", "complete"]].itertuples(index=False, name=None)
    assert list(found) == expected


@given(st.sets(st.integers(0, 60)))
def test_gap_report_counts_what_is_not_there(places):
    report = gap_report(frame(sorted(places)), HALF_HOUR)
    expected = max(places) - min(places) + 1 - len(places) if places else 0
    assert report.missing_candles == expected
    assert sum(gap.candles for gap in report.gaps) == expected
    assert all((gap.last_missing - gap.first_missing) / HALF_HOUR + 1 == gap.candles for gap in report.gaps)


def with_value(column: str, value: float) -> pd.DataFrame:
    candles = frame([0, 1, 2])
    candles.loc[candles.index[1], column] = value
    return candles


def off_grid() -> pd.DataFrame:
    candles = frame([0, 1, 2])
    return candles.set_axis(candles.index[:2].append(candles.index[2:] + pd.Timedelta("1s")).rename("open_time"))


@pytest.mark.parametrize(
    ("candles", "complaint", "rows"),
    [
        (frame([0, 2, 1]), "not sorted", 1),
        (frame([0, 1, 1]), "more than once", 2),
        (off_grid(), "grid", 1),
        (with_value("close", np.nan), "not finite", 1),
        (with_value("volume", np.inf), "not finite", 1),
        (with_value("low", 0.0), "not above zero", 1),
        (with_value("low", -1.0), "not above zero", 1),
        (with_value("volume", -0.1), "negative volume", 1),
        (with_value("high", 101.5), "high is below", 1),
        (with_value("low", 101.5), "low is above", 1),
    ],
)
def test_impossible_candles(candles, complaint, rows):
    with pytest.raises(ImpossibleCandles, match=complaint) as caught:
        check_candles(candles, HALF_HOUR)
    assert len(caught.value.rows) == rows
    assert "2024-01-01" in str(caught.value)


@pytest.mark.parametrize(
    "candles",
    [
        frame([0]).drop(columns="volume"),
        frame([0])[[*COLUMNS[1:], "open"]],
        frame([0]).astype({"open": "float32"}),
        frame([0]).astype({"complete": "float64"}),
        frame([0]).rename_axis("time"),
        frame([0]).tz_convert("Europe/Paris"),
        frame([0]).tz_localize(None),
        frame([0]).reset_index(drop=True),
        frame([0]).set_axis(frame([0]).index.as_unit("us")),
    ],
)
def test_not_a_candle_frame(candles):
    with pytest.raises(ImpossibleCandles, match="expected"):
        check_candles(candles, HALF_HOUR)


@pytest.mark.parametrize("interval", TIMEFRAMES)
def test_possible_candles(interval, random_candles):
    check_candles(empty_candles(), timeframe_delta(interval))
    check_candles(random_candles(50, seed=1, interval=str(timeframe_delta(interval))), timeframe_delta(interval))


def test_real_fine_candles_make_the_real_coarse_ones(real_candles):
    coarse = real_candles("BTCUSDT", "30m", "2025-03-01", "2025-04-01")
    made = resample_candles(real_candles("BTCUSDT", "5m", "2025-03-01", "2025-04-01"), FIVE, HALF_HOUR)
    pd.testing.assert_frame_equal(made, coarse, rtol=1e-9, check_freq=False)


def test_the_outage_of_march_2023_is_a_gap(real_candles):
    candles = real_candles("BTCUSDT", "30m", "2023-03-01", "2023-04-01")
    report = gap_report(candles, HALF_HOUR)
    assert report.gaps == (Gap(utc("2023-03-24 13:00"), utc("2023-03-24 13:30"), 2),)
    flagged = candles.index[~candles["complete"]]
    assert flagged.tolist() == [utc("2023-03-24 12:30"), utc("2023-03-24 14:00")]
