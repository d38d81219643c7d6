"""The rolling backtest: every step is fitted on its own past, and the steps together are one account."""

from dataclasses import replace
from functools import cache

import pandas as pd
import pytest
from evaluated_market import (
    FINE_INTERVAL,
    INTERVAL,
    PTE_TESTED,
    coarse_candles,
    fine_candles,
    history,
    history_of,
    noise_after,
    outcome,
    plans,
    small_execution,
    small_recipe,
    steps,
)

from cvntrade_assets.learning.barriers import label_candles
from cvntrade_assets.learning.recipe import fit, predict
from cvntrade_assets.learning.rolling import Rolled, roll
from cvntrade_assets.learning.walk_forward import UntestableCandidateError
from cvntrade_assets.market.volatility import average_true_range
from cvntrade_assets.trading.backtest import run_backtest
from cvntrade_assets.trading.signals import signals_at

DAY = pd.Timedelta("1D")


def rolled_in(market, length: pd.Timedelta) -> Rolled:
    return roll(
        market, outcome(), steps(length), small_recipe(), small_execution(), levels=(0.0, 1.0, 2.0), say=lambda _: None
    )


@cache
def in_steps_of_four_days() -> Rolled:
    return rolled_in(history(), 4 * DAY)


def test_one_step_over_the_whole_window_is_the_last_fold():
    whole = rolled_in(history(), 30 * DAY)
    assert len(whole.steps) == 1
    assert whole.last.model == outcome().last.fitted.model
    assert whole.last.calibration.describe() == outcome().last.fitted.calibration.describe()
    pd.testing.assert_frame_equal(whole.predictions, outcome().last.predictions, check_exact=True)
    pd.testing.assert_frame_equal(whole.compared.backtest.trades, outcome().compared.backtest.trades, check_exact=True)
    assert whole.performance == outcome().performance
    assert whole.always_buy == outcome().always_buy


def test_every_step_is_fitted_on_its_own_past_with_the_last_folds_hyperparameters():
    rolled = in_steps_of_four_days()
    recipe = replace(small_recipe(), params=outcome().last.fitted.params)
    labels = label_candles(history().candles, PTE_TESTED, interval=INTERVAL, binary=True)
    assert [step.plan for step in rolled.steps] == list(steps(4 * DAY))
    for step in rolled.steps[1:]:
        rows = history().rows(labels, step.plan.past, recipe)
        fitted = fit(recipe, rows, say=lambda _: None)
        assert step.threshold == fitted.calibration.threshold
        assert step.rows == {name: len(rows.slice(name).targets) for name in step.plan.past.slices}
        assert rows.targets["exit_time"].max() <= step.plan.starts[3]
        period = rolled.predictions.loc[step.plan.starts[3] : step.plan.end - INTERVAL]
        expected = predict(fitted, history().features.loc[period.index])
        pd.testing.assert_frame_equal(
            period[["score", "probability", "predicted", "signal"]], expected, check_exact=True
        )
    assert rolled.last.model == fitted.model
    assert not rolled.last.tuned


def test_the_last_model_knows_nothing_later_than_its_own_step():
    rolled = in_steps_of_four_days()
    assert rolled.data_until == plans()[-1].starts[3] + 8 * DAY
    other = rolled_in(history_of(noise_after(coarse_candles(), rolled.data_until)), 4 * DAY)
    assert other.last.model == rolled.last.model
    assert other.last.calibration.describe() == rolled.last.calibration.describe()


def test_nothing_of_a_later_step_gets_into_an_earlier_one():
    rolled = in_steps_of_four_days()
    second = rolled.steps[1].plan
    other = rolled_in(history_of(noise_after(coarse_candles(), second.starts[3])), 4 * DAY)
    assert [step.threshold for step in other.steps[:2]] == [step.threshold for step in rolled.steps[:2]]
    assert other.steps[2].threshold != rolled.steps[2].threshold
    said = ["score", "probability", "predicted", "signal"]
    # What was said until the noise begins; the last labels of the period know the noise, what was said does not.
    before = rolled.predictions.loc[: second.starts[3] - PTE_TESTED.horizon - 2 * INTERVAL]
    pd.testing.assert_frame_equal(before, other.predictions.loc[before.index], check_exact=True)
    assert not rolled.predictions[said].equals(other.predictions[said].reindex(rolled.predictions.index))


def test_the_account_runs_on_from_step_to_step():
    rolled, recipe = in_steps_of_four_days(), replace(small_recipe(), params=outcome().last.fitted.params)
    labels = label_candles(history().candles, PTE_TESTED, interval=INTERVAL, binary=True)
    answers = []
    for plan in steps(4 * DAY):
        fitted = fit(recipe, history().rows(labels, plan.past, recipe), say=lambda _: None)
        answers.append(predict(fitted, history().features.loc[plan.starts[3] : plan.end - INTERVAL])["signal"])
    signals = signals_at(pd.concat(answers), average_true_range(history().candles), interval=INTERVAL)
    own = run_backtest(
        fine_candles().loc[plans()[-1].starts[3] :], signals, PTE_TESTED, interval=FINE_INTERVAL,
        costs=small_execution().costs, levels=(0.0, 1.0, 2.0),
    )  # fmt: skip
    pd.testing.assert_frame_equal(rolled.compared.backtest.trades, own.trades)
    pd.testing.assert_frame_equal(rolled.compared.backtest.equity, own.equity)


def test_a_step_that_cannot_be_fitted_is_named():
    market = replace(history(), events=history().events[:0])
    with pytest.raises(UntestableCandidateError, match=r"H4_SL1\.0_TP2\.0, rolling step 1 of 3: .*hold no row"):
        rolled_in(market, 4 * DAY)
