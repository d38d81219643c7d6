"""The timeline of an evaluation: where test periods, pasts and steps lie, and what is refused."""

from itertools import pairwise

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cvntrade_assets.learning.splits import SliceFractions, UnusableSplitError
from cvntrade_assets.learning.timeline import SHORTEST_SLICE, FoldPlan, plan_folds, plan_screening, plan_steps

HALF_HOUR = pd.Timedelta("30min")
DAY = pd.Timedelta("1D")
FRACTIONS = SliceFractions(0.6, 0.1, 0.2, 0.1)
START = pd.Timestamp("2024-01-01", tz="UTC")


def timeline(days: int) -> pd.DatetimeIndex:
    return pd.date_range(START, periods=48 * days, freq=HALF_HOUR, name="open_time", unit="ns")


def folds(times, n_folds=3, days=10, mode="expanding", fractions=FRACTIONS) -> tuple[FoldPlan, ...]:
    return plan_folds(
        times, interval=HALF_HOUR, n_folds=n_folds, test_length=days * DAY, fractions=fractions, mode=mode
    )


def test_test_periods_that_leave_no_past_are_refused_in_days():
    said = r"3 test periods of 20 days leave nothing .* last 50\.0 days, from 2024-01-01 00:00 UTC\. Load"
    with pytest.raises(UnusableSplitError, match=said):
        folds(timeline(50), days=20)


def test_test_periods_lie_back_to_back_and_end_with_the_last_candle():
    plans = folds(timeline(100))
    assert [plan.number for plan in plans] == [1, 2, 3]
    assert [plan.starts[3] for plan in plans] == [START + days * DAY for days in (70, 80, 90)]
    assert [plan.end for plan in plans] == [START + days * DAY for days in (80, 90, 100)]


def test_a_past_is_cut_in_the_proportions_of_its_three_slices():
    # 70 days in parts 6 : 1 : 2.
    first = folds(timeline(100), fractions=SliceFractions(0.6, 0.1, 0.2, 0.1))[0]
    assert first.starts[0] == START
    assert first.starts[1] == START + round(70 * 48 * 6 / 9) * HALF_HOUR
    assert first.starts[2] == START + round(70 * 48 * 7 / 9) * HALF_HOUR
    assert first.past.starts == first.starts[:3]
    assert first.past.end == first.starts[3]
    assert (first.whole.starts, first.whole.end) == (first.starts, first.end)


def test_an_expanding_past_begins_with_the_history_and_a_rolling_one_lasts_as_long_as_the_first():
    times = timeline(100)
    assert [plan.starts[0] for plan in folds(times)] == [START] * 3
    rolling = folds(times, mode="rolling")
    assert [plan.starts[0] for plan in rolling] == [START, START + 10 * DAY, START + 20 * DAY]
    assert {plan.starts[3] - plan.starts[0] for plan in rolling} == {70 * DAY}
    assert rolling[0] == folds(times)[0]


def test_a_gap_moves_a_boundary_to_the_next_candle():
    times = timeline(100)
    gap = (times >= START + 79 * DAY) & (times < START + 83 * DAY)
    plans = folds(times[~gap])
    assert [plan.starts[3] for plan in plans] == [START + days * DAY for days in (70, 83, 90)]
    assert plans[0].end == START + 83 * DAY
    # Shares count candles, not days.
    past = times[~gap][times[~gap] < START + 83 * DAY]
    assert plans[1].starts[1] == past[round(len(past) * 6 / 9)]


def test_a_test_period_without_candles_is_refused():
    times = timeline(100)
    kept = times[(times < START + 80 * DAY) | (times >= START + 90 * DAY)]
    with pytest.raises(UnusableSplitError, match=r"test period 2 of 3.*gap.*CVN_BACKTEST_DAYS"):
        folds(kept)


@pytest.mark.parametrize(("days", "says"), [(30, "nothing to learn from"), (31, "leaves 32 to train")])
def test_a_short_history_is_refused_with_advice(days, says):
    with pytest.raises(UnusableSplitError, match=says) as refused:
        folds(timeline(days))
    for key in ("CVN_DEFAULT_HISTORY_MONTHS", "CVN_DEFAULT_N_FOLDS", "CVN_BACKTEST_DAYS"):
        assert key in str(refused.value)


def test_the_shortest_past_has_a_hundred_candles_in_its_smallest_slice():
    # Validation takes a ninth of the past: 900 candles are just enough.
    times = timeline(60)
    assert len(folds(times[-900 - 30 * 48 :])) == 3
    with pytest.raises(UnusableSplitError, match=f"leaves {SHORTEST_SLICE - 1} to validation.*CVN_SLICE_VALIDATION"):
        folds(times[-890 - 30 * 48 :])


@pytest.mark.parametrize(("n_folds", "days"), [(0, 10), (3, 0), (3, -1)])
def test_impossible_plans_are_refused(n_folds, days):
    with pytest.raises(UnusableSplitError, match="expected at least one"):
        folds(timeline(100), n_folds=n_folds, days=days)


@pytest.mark.parametrize("times", [timeline(100)[::-1], timeline(1)[:0]])
def test_a_timeline_that_is_none_is_refused(times):
    with pytest.raises(UnusableSplitError, match="empty or not strictly increasing"):
        folds(times)


@pytest.mark.parametrize("mode", ["expanding", "rolling"])
def test_the_screenings_past_ends_where_the_first_test_period_begins(mode):
    plans = folds(timeline(100), mode=mode)
    screening = plan_screening(plans[0])
    assert screening.slices == ("train", "validation", "calibration")
    assert screening.end == min(plan.starts[3] for plan in plans) == START + 70 * DAY


# ---- steps -------------------------------------------------------------------------------------------------


def steps(times, length, mode="expanding") -> tuple[FoldPlan, ...]:
    return plan_steps(times, folds(times, mode=mode)[-1], length, fractions=FRACTIONS, mode=mode)


def test_steps_cover_the_last_test_period_and_the_last_one_may_be_shorter():
    plans = steps(timeline(100), 4 * DAY)
    assert [(plan.starts[3], plan.end) for plan in plans] == [
        (START + begins * DAY, START + ends * DAY) for begins, ends in ((90, 94), (94, 98), (98, 100))
    ]
    assert [plan.number for plan in plans] == [1, 2, 3]


@pytest.mark.parametrize("mode", ["expanding", "rolling"])
def test_the_first_step_knows_the_last_folds_past(mode):
    last = folds(timeline(100), mode=mode)[-1]
    first, second, *_ = steps(timeline(100), 2 * DAY, mode)
    assert first.starts == last.starts
    assert second.starts[0] - first.starts[0] == (2 * DAY if mode == "rolling" else 0 * DAY)


def test_a_step_longer_than_the_period_is_the_whole_of_it():
    last = folds(timeline(100))[-1]
    assert steps(timeline(100), 30 * DAY) == (FoldPlan(1, last.starts, last.end),)


def test_a_step_in_a_gap_is_left_out():
    times = timeline(100)
    kept = times[(times < START + 91 * DAY) | (times >= START + 95 * DAY)]
    plans = steps(kept, 2 * DAY)
    assert [plan.starts[3] for plan in plans] == [START + days * DAY for days in (90, 95, 96, 98)]
    assert [plan.end for plan in plans] == [START + days * DAY for days in (95, 96, 98, 100)]


def test_a_step_of_no_length_is_refused():
    with pytest.raises(UnusableSplitError, match="positive length"):
        steps(timeline(100), 0 * DAY)


@given(
    days=st.integers(60, 120),
    n_folds=st.integers(1, 4),
    test_days=st.integers(1, 8),
    mode=st.sampled_from(["expanding", "rolling"]),
    gap=st.integers(0, 2000),
    missing=st.integers(0, 300),
    step_hours=st.integers(5, 100),
)
@settings(max_examples=40, deadline=None)
def test_no_past_ever_reaches_its_test_period(days, n_folds, test_days, mode, gap, missing, step_hours):
    times = timeline(days)
    times = times.delete(range(min(gap, len(times)), min(gap + missing, len(times))))
    try:
        plans = folds(times, n_folds, test_days, mode)
        walked = plan_steps(times, plans[-1], step_hours * 2 * HALF_HOUR, fractions=FRACTIONS, mode=mode)
    except UnusableSplitError:
        return
    for series in (plans, walked):
        for plan in series:
            assert [*plan.starts, plan.end] == sorted({*plan.starts, plan.end})
            assert times.isin(plan.starts).sum() == 4
        assert all(early.end == late.starts[3] for early, late in pairwise(series))
    assert plans[-1].end == times[-1] + HALF_HOUR == walked[-1].end
    assert walked[0].starts == plans[-1].starts
