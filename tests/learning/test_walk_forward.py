"""Walk-forward testing: what each fold says is what its own past gives, and the future never gets a word in."""

import math
from dataclasses import replace
from functools import cache

import numpy as np
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
)

from cvntrade_assets.learning import walk_forward
from cvntrade_assets.learning.barriers import label_candles
from cvntrade_assets.learning.history import History
from cvntrade_assets.learning.recipe import Fitted, Recipe, fit, predict
from cvntrade_assets.learning.screening import cheap_recipe
from cvntrade_assets.learning.splits import SLICES
from cvntrade_assets.learning.timeline import FoldPlan
from cvntrade_assets.market.volatility import average_true_range
from cvntrade_assets.trading.backtest import run_backtest
from cvntrade_assets.trading.signals import above_trend, signals_at


def silent(_: str) -> None:
    pass


def given() -> Recipe:
    """A recipe without a search: what is fitted with it depends on the market no less."""
    return replace(small_recipe(), params={"max_depth": 2})


def tried(market: History, plan: FoldPlan, **more: str) -> walk_forward.Tested:
    """One fold only."""
    return walk_forward.test_candidate(
        market, PTE_TESTED, [plan], given(), small_execution(**more), levels=(1.0,), say=silent
    )


def labels_of(market: History) -> pd.DataFrame:
    return label_candles(market.candles, PTE_TESTED, interval=INTERVAL, binary=True)


def fitted_on(market: History) -> Fitted:
    """What the first fold fits."""
    return fit(given(), market.rows(labels_of(market), plans()[0].whole, given()), say=silent)


def frozen(fitted: Fitted) -> tuple:
    return fitted.model, fitted.calibration.describe()


@cache
def usual() -> Fitted:
    return fitted_on(history())


def plain_f1(labels, said) -> float:
    caught = int(((labels == 1) & said).sum())
    return 2 * caught / (int((labels == 1).sum()) + int(said.sum()))


# ---- folds -------------------------------------------------------------------------------------------------


def test_each_fold_is_its_own_fit_judged_on_its_own_period():
    labels = labels_of(history())
    fold, plan = outcome().folds[1], plans()[1]
    rows = history().rows(labels, plan.whole, small_recipe())
    fitted = fit(small_recipe(), rows, say=silent)
    assert fold.plan == plan
    assert frozen(fold.fitted) == frozen(fitted)
    assert fold.threshold == fitted.calibration.threshold
    assert fold.rows == {name: len(rows.slice(name).targets) for name in SLICES}
    test = rows.slice("test")
    pd.testing.assert_frame_equal(
        fold.predictions[["score", "probability", "predicted", "signal"]], predict(fitted, test.features)
    )
    for name in walk_forward.TRUTH_COLUMNS:
        pd.testing.assert_series_equal(fold.predictions[name], test.targets[name])


def test_scores_are_those_of_the_predictions():
    for fold in outcome().folds:
        labels, said = fold.predictions["label"], fold.predictions["predicted"]
        assert fold.report.f1_buy == pytest.approx(plain_f1(labels, said))
        rate = (labels == 1).mean()
        assert fold.report.baseline_f1_buy == pytest.approx(2 * rate / (1 + rate))
        assert fold.report.rows == len(labels)
        assert fold.threshold == fold.report.threshold


def test_the_headlines_are_the_last_folds_and_the_spread_over_folds():
    f1 = [fold.report.f1_buy for fold in outcome().folds]
    assert outcome().last_fold_f1_buy == f1[-1]
    assert outcome().std_f1_buy == pytest.approx(math.sqrt(sum((each - sum(f1) / 3) ** 2 for each in f1) / 2))


def test_the_spread_over_a_single_fold_is_undefined():
    assert replace(outcome(), folds=outcome().folds[:1]).std_f1_buy is None


def test_the_screenings_f1_is_the_cheap_recipes_on_the_same_slice():
    labels = labels_of(history())
    rows = history().rows(labels, plans()[-1].whole, small_recipe())
    test = rows.slice("test")
    said = predict(fit(cheap_recipe(small_recipe()), rows, say=silent), test.features)["predicted"]
    assert outcome().screening_f1_buy == pytest.approx(plain_f1(test.targets["label"], said))


def test_a_strong_signal_is_found_in_every_fold():
    assert all(fold.report.f1_buy_delta > 0.02 for fold in outcome().folds)


def test_progress_names_the_candidate_the_fold_and_the_trial():
    told: list[str] = []
    recipe = replace(small_recipe(), n_trials=1)
    walk_forward.test_candidate(
        history(), PTE_TESTED, plans()[-1:], recipe, small_execution(), levels=(1.0,), say=told.append
    )
    assert told[0] == "H4_SL1.0_TP2.0, fold 3 of 1"
    assert any(text.startswith("H4_SL1.0_TP2.0, fold 3 of 1: tuning: trial 1 of 1") for text in told)
    assert any("screening's recipe" in text for text in told)
    assert any("backtest on" in text for text in told)


def test_the_same_again_gives_the_same():
    assert frozen(fitted_on(history_of(coarse_candles()))) == frozen(usual())


# ---- trades ------------------------------------------------------------------------------------------------


def test_the_backtest_acts_on_every_candle_of_the_last_test_period_of_which_buy_was_said():
    plan = plans()[-1]
    features = history().features.loc[plan.starts[3] :]
    said = predict(outcome().last.fitted, features)["signal"]
    signals = signals_at(said, average_true_range(history().candles), interval=INTERVAL)
    own = run_backtest(
        fine_candles().loc[plan.starts[3] :], signals, PTE_TESTED, interval=FINE_INTERVAL,
        costs=small_execution().costs, levels=(0.0, 1.0, 2.0),
    )  # fmt: skip
    got = outcome().compared.backtest
    pd.testing.assert_frame_equal(got.trades, own.trades)
    pd.testing.assert_frame_equal(got.equity, own.equity)
    assert got.signals == int(said.sum()) > len(outcome().last.predictions.query("signal"))
    assert outcome().compared.always_buy.signals == len(features)
    assert outcome().performance.n_trades > 20


def test_trades_lie_in_their_own_test_period():
    for fold in outcome().folds:
        assert fold.daily.index.min() >= fold.plan.starts[3]
        assert fold.daily.index.max() < fold.plan.end
    trades = outcome().compared.backtest.trades
    assert trades["signal_time"].min() > plans()[-1].starts[3]
    assert trades["exit_time"].max() <= plans()[-1].end
    assert outcome().buy_and_hold.total_return == pytest.approx(
        _held(fine_candles().loc[plans()[-1].starts[3] :]), rel=1e-9
    )


def _held(candles: pd.DataFrame) -> float:
    """One purchase and one sale, with fee and slippage on both."""
    costs = small_execution().costs
    fee, slip = costs.fee_bps / 1e4, costs.slippage_bps / 1e4
    paid = candles["open"].iloc[0] * (1 + slip) * (1 + fee)
    return candles["close"].iloc[-1] * (1 - slip) * (1 - fee) / paid - 1


def test_the_trend_filter_holds_for_the_model_and_for_always_buy():
    done = tried(history(), plans()[-1], CVN_TREND_FILTER="ema_50")
    allowed = above_trend(history().candles["close"], "ema_50")
    opens = done.compared.always_buy.trades["signal_time"] - INTERVAL
    assert allowed.loc[opens].all()
    assert done.compared.always_buy.signals == int(allowed.loc[plans()[-1].starts[3] :].sum())
    said = predict(done.last.fitted, history().features.loc[plans()[-1].starts[3] :])["signal"]
    assert done.compared.backtest.signals == int((said & allowed.loc[said.index]).sum())


# ---- no look-ahead -----------------------------------------------------------------------------------------


def test_truncated_history_gives_the_same_features_and_events():
    end = plans()[0].starts[3]
    short = history_of(coarse_candles().loc[: end - INTERVAL])
    pd.testing.assert_frame_equal(short.features, history().features.loc[: end - INTERVAL], check_exact=True)
    assert short.events.equals(history().events[history().events < end])


def test_what_comes_after_a_folds_test_period_changes_nothing_in_it():
    # The candle that opens as the period ends stays: its open is the price at which the last trades may have ended.
    plan = plans()[0]
    other = history_of(noise_after(coarse_candles(), plan.end))
    assert not other.features.loc[plan.end :].equals(history().features.loc[plan.end :])
    fold, same = tried(history(), plan).last, tried(other, plan).last
    assert frozen(fold.fitted) == frozen(same.fitted)
    assert fold.report == same.report
    assert fold.performance == same.performance
    assert (fold.always_buy, fold.buy_and_hold) == (same.always_buy, same.buy_and_hold)
    pd.testing.assert_frame_equal(fold.predictions, same.predictions, check_exact=True)
    pd.testing.assert_series_equal(fold.daily, same.daily, check_exact=True)


@pytest.mark.parametrize("seed", [0, 1])
def test_nothing_of_the_test_period_gets_into_the_fit(seed):
    # Its first candle stays, as above.
    plan = plans()[0]
    other = history_of(noise_after(coarse_candles(), plan.starts[3], seed))
    assert frozen(fitted_on(other)) == frozen(usual())


def test_nothing_of_the_calibration_slice_gets_into_the_model_and_something_into_the_threshold():
    other = fitted_on(history_of(noise_after(coarse_candles(), plans()[0].starts[2])))
    assert other.model == usual().model
    assert other.calibration.describe() != usual().calibration.describe()


def test_noise_within_the_train_slice_would_be_noticed():
    begins, ends = plans()[0].starts[:2]
    middle = (begins + (ends - begins) / 2).floor(INTERVAL)
    assert fitted_on(history_of(noise_after(coarse_candles(), middle))).model != usual().model


def test_labels_after_the_boundary_change_nothing_in_the_fit():
    plan = plans()[0]
    labels, recipe = labels_of(history()), given()
    later = labels["exit_time"] > plan.starts[3]
    turned = labels.assign(label=labels["label"].where(~later, 1 - labels["label"]).astype(np.int8))
    turned.loc[later, "return"] *= -50.0
    other = fit(recipe, history().rows(turned, plan.whole, recipe), say=silent)
    assert frozen(other) == frozen(usual())


# ---- refusals ----------------------------------------------------------------------------------------------


def test_a_fold_that_cannot_be_fitted_is_named():
    market = replace(history(), events=history().events[:0])
    with pytest.raises(walk_forward.UntestableCandidateError, match=r"H4_SL1\.0_TP2\.0, fold 2 of 1: .*hold no row"):
        tried(market, plans()[1])


@pytest.mark.parametrize("shift", ["-10D", "-2D", "2D"])
def test_fine_candles_of_another_window_are_refused(shift):
    last = plans()[-1]
    begins = last.starts[3] + pd.Timedelta(shift)
    fine = fine_candles().loc[begins : begins + pd.Timedelta(days=10) - FINE_INTERVAL]
    with pytest.raises(walk_forward.UntestableCandidateError, match=r"do not cover the period.*CVN_BACKTEST_DAYS"):
        tried(replace(history(), fine=fine), last)


def test_fine_candles_that_begin_a_little_later_are_traded_from_then_on():
    last = plans()[-1]
    done = tried(replace(history(), fine=fine_candles().loc[last.starts[3] + 2 * FINE_INTERVAL :]), last)
    assert done.compared.always_buy.signals == len(history().features.loc[last.starts[3] :]) - 1


def test_fine_candles_that_end_a_little_earlier_are_traded_until_then():
    last = plans()[-1]
    done = tried(replace(history(), fine=fine_candles().loc[: last.end - INTERVAL - FINE_INTERVAL]), last)
    # The signal of the last candle but one comes as they end, the last one's after that.
    assert done.compared.always_buy.without_entry == 2
