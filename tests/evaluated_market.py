"""A small simulated market with much to learn, and a small evaluation of it: fitted once, read by many tests."""

from functools import cache

import pandas as pd

from cvntrade_assets.learning import rolling, timeline, walk_forward
from cvntrade_assets.learning.features import compute_features
from cvntrade_assets.learning.from_settings import execution, recipe, slice_fractions
from cvntrade_assets.learning.history import History
from cvntrade_assets.learning.recipe import Recipe
from cvntrade_assets.learning.rolling import Rolled
from cvntrade_assets.learning.timeline import FoldPlan
from cvntrade_assets.learning.walk_forward import Tested
from cvntrade_assets.market.simulated import SimulatedMarket
from cvntrade_assets.settings import Settings, resolve
from cvntrade_assets.trading.execution import Execution
from cvntrade_assets.trading.pte import PTE

END = pd.Timestamp("2025-03-01", tz="UTC")
INTERVAL, FINE_INTERVAL = pd.Timedelta("30min"), pd.Timedelta("5min")
PTE_TESTED = PTE.parse("H4_SL1.0_TP2.0")
N_FOLDS, TEST_DAYS, HISTORY_MONTHS = 3, 10, 4

_RUN = {
    "CVN_MARKET": "simulated",
    "CVN_AS_OF": END.isoformat(),
    "CVN_DEFAULT_N_TRIALS": "2",
    "CVN_TUNING_FOLDS": "2",
    "CVN_TUNING_WORKERS": "1",
    "CVN_MAX_FEATURES": "20",
    "CVN_CUSUM_THRESHOLD_H": "1.0",
    # It says BUY often, so that there are trades to compare.
    "CVN_TRADE_THRESHOLD_METHOD": "f1_binary",
    "CVN_HPO_XGBOOST_30M_NUM_BOOST_ROUND": "40",
    "CVN_SLICE_TRAIN": "0.6",
    "CVN_SLICE_VALIDATION": "0.15",
    "CVN_SLICE_CALIBRATION": "0.15",
    "CVN_SLICE_TEST": "0.1",
}


def small_settings(**more: str) -> Settings:
    return resolve(base_env={}, run=_RUN | more, now=END)


def small_recipe(**more: str) -> Recipe:
    return recipe(small_settings(**more))


def small_execution(**more: str) -> Execution:
    return execution(small_settings(**more))


@cache
def coarse_candles() -> pd.DataFrame:
    return SimulatedMarket(1, 1.0).candles("BTCUSDC", "30m", END - pd.DateOffset(months=HISTORY_MONTHS), END)


@cache
def fine_candles() -> pd.DataFrame:
    return SimulatedMarket(1, 1.0).candles("BTCUSDC", "5m", END - pd.Timedelta(days=N_FOLDS * TEST_DAYS), END)


def history_of(candles: pd.DataFrame) -> History:
    return History.gather(
        candles,
        compute_features(candles),
        fine_candles(),
        cusum_threshold=small_recipe().cusum_threshold,
        interval=INTERVAL,
        fine_interval=FINE_INTERVAL,
    )


@cache
def history() -> History:
    return history_of(coarse_candles())


def plans(mode: timeline.WalkForwardMode = "expanding") -> tuple[FoldPlan, ...]:
    return timeline.plan_folds(
        pd.DatetimeIndex(history().features.index),
        interval=INTERVAL,
        n_folds=N_FOLDS,
        test_length=pd.Timedelta(days=TEST_DAYS),
        fractions=slice_fractions(small_settings()),
        mode=mode,
    )


def steps(length: pd.Timedelta) -> tuple[FoldPlan, ...]:
    times = pd.DatetimeIndex(history().features.index)
    fractions = slice_fractions(small_settings())
    return timeline.plan_steps(times, plans()[-1], length, fractions=fractions, mode="expanding")


@cache
def outcome() -> Tested:
    return walk_forward.test_candidate(
        history(), PTE_TESTED, plans(), small_recipe(), small_execution(), levels=(0.0, 1.0, 2.0), say=lambda _: None
    )


@cache
def walked() -> Rolled:
    """The outcome's candidate after its rolling backtest, in two steps."""
    return rolling.roll(
        history(),
        outcome(),
        steps(pd.Timedelta(days=TEST_DAYS / 2)),
        small_recipe(),
        small_execution(),
        levels=(0.0, 1.0, 2.0),
        say=lambda _: None,
    )


def noise_after(candles: pd.DataFrame, moment: pd.Timestamp, seed: int = 0) -> pd.DataFrame:
    """The candles up to and including the one that opens at `moment`, another history on another scale after it."""
    other = SimulatedMarket(1000 + seed, 0.0).candles("BTCUSDC", "30m", candles.index[0], END)
    other = other[other.index > moment]
    prices = ["open", "high", "low", "close"]
    return pd.concat([candles[candles.index <= moment], other.assign(**{name: other[name] * 7.0 for name in prices})])
