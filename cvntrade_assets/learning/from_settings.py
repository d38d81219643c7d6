"""From settings to the arguments of learning: the one place where assets, preflight and scripts read them alike."""

from typing import TYPE_CHECKING

import pandas as pd

from cvntrade_assets.hyperparameters import HYPERPARAMETERS, default_values
from cvntrade_assets.market.candles import timeframe_delta
from cvntrade_assets.settings import Settings
from cvntrade_assets.trading.execution import Execution
from cvntrade_assets.trading.gates import GateLimits

if TYPE_CHECKING:
    from cvntrade_assets.learning.boosting import FixedTrees, Loss
    from cvntrade_assets.learning.recipe import Recipe
    from cvntrade_assets.learning.splits import SliceFractions
    from cvntrade_assets.learning.timeline import FoldPlan
    from cvntrade_assets.learning.training_set import CusumMode
    from cvntrade_assets.learning.tuning import SearchRange

SLICE_SETTINGS = ("CVN_SLICE_TRAIN", "CVN_SLICE_VALIDATION", "CVN_SLICE_CALIBRATION", "CVN_SLICE_TEST")
RECIPE_SETTINGS = (
    "CVN_BINARY_CLASSIFICATION",
    "CVN_CALIBRATION",
    "CVN_CLEANLAB",
    "CVN_CLEANLAB_CLASS_CAP",
    "CVN_CUSUM_FILTER_MODE",
    "CVN_CUSUM_THRESHOLD_H",
    "CVN_CUSUM_TRAINING_ENABLED",
    "CVN_DEFAULT_N_TRIALS",
    "CVN_EMBARGO_HOURS",
    "CVN_FEE_BPS",
    "CVN_FOCAL_GAMMA",
    "CVN_FOCAL_LOSS",
    "CVN_HPO_*",
    "CVN_HPO_OBJECTIVE",
    "CVN_LABEL_SMOOTHING",
    "CVN_MAX_FEATURES",
    "CVN_SEED",
    "CVN_SLIPPAGE_BPS",
    "CVN_THRESHOLD_METHOD",
    "CVN_TRADE_THRESHOLD_METHOD",
    "CVN_TIMEFRAME",
    "CVN_TUNING_FOLDS",
    "CVN_UNIQUENESS_WEIGHTS",
)
PLAN_SETTINGS = (
    *SLICE_SETTINGS,
    "CVN_BACKTEST_DAYS",
    "CVN_DEFAULT_N_FOLDS",
    "CVN_TIMEFRAME",
    "CVN_WALK_FORWARD_MODE",
)
EXECUTION_SETTINGS = (
    "CVN_FEE_BPS",
    "CVN_SLIPPAGE_BPS",
    "CVN_POSITION_FRACTION",
    "CVN_COOLDOWN_CANDLES",
    "CVN_TREND_FILTER",
    "CVN_TIMEFRAME",
)
GATE_SETTINGS = (
    "CVN_GATE_F1_DELTA",
    "CVN_GATE_STD_F1",
    "CVN_GATE_SORTINO",
    "CVN_GATE_TRADES",
    "CVN_GATE_DRAWDOWN",
    "CVN_GATE_SCREENING_GAP",
    "CVN_GATE_DSR",
)


def cusum_mode(settings: Settings) -> "CusumMode":
    """`off`, or which candles of the training slice the CUSUM filter keeps."""
    mode: CusumMode = settings.choice("CVN_CUSUM_FILTER_MODE")
    return mode if settings.flag("CVN_CUSUM_TRAINING_ENABLED") else "off"


def slice_fractions(settings: Settings) -> "SliceFractions":
    """The four shares of the timeline."""
    from cvntrade_assets.learning.splits import SliceFractions

    return SliceFractions(*(settings.number(name) for name in SLICE_SETTINGS))


def fold_plans(settings: Settings, times: pd.DatetimeIndex) -> "tuple[FoldPlan, ...]":
    """Folds of the walk-forward test on the candles that have features; UnusableSplitError when they are too few."""
    from cvntrade_assets.learning.timeline import plan_folds

    return plan_folds(
        times,
        interval=timeframe_delta(settings.text("CVN_TIMEFRAME")),
        n_folds=settings.whole("CVN_DEFAULT_N_FOLDS"),
        test_length=pd.Timedelta(days=settings.whole("CVN_BACKTEST_DAYS")),
        fractions=slice_fractions(settings),
        mode=settings.choice("CVN_WALK_FORWARD_MODE"),
    )


def embargo(settings: Settings) -> pd.Timedelta:
    """Time left out after every boundary."""
    return pd.Timedelta(hours=settings.number("CVN_EMBARGO_HOURS"))


def execution(settings: Settings) -> Execution:
    """How what a model says becomes trades; cooldown candles are those of the timeframe that the model learns on."""
    interval: pd.Timedelta = timeframe_delta(settings.text("CVN_TIMEFRAME"))
    return Execution(
        settings.costs,
        settings.number("CVN_POSITION_FRACTION"),
        settings.whole("CVN_COOLDOWN_CANDLES") * interval,
        settings.choice("CVN_TREND_FILTER"),
    )


def gate_limits(settings: Settings) -> GateLimits:
    """What a tested strategy is held against."""
    return GateLimits(
        f1_delta=settings.number("CVN_GATE_F1_DELTA"),
        std_f1=settings.number("CVN_GATE_STD_F1"),
        sortino=settings.number("CVN_GATE_SORTINO"),
        n_trades=settings.whole("CVN_GATE_TRADES"),
        drawdown=settings.number("CVN_GATE_DRAWDOWN"),
        screening_gap=settings.number("CVN_GATE_SCREENING_GAP"),
        dsr=settings.number("CVN_GATE_DSR"),
    )


def search_space(settings: Settings) -> dict[str, "SearchRange"]:
    """Where tuning looks for what is searched and not pinned."""
    from cvntrade_assets.learning.tuning import SearchRange

    pinned = settings.pinned()
    return {
        item.name: SearchRange(*settings.search_bounds(item.name), item.search.log, item.integer)
        for item in HYPERPARAMETERS["XGBOOST"]
        if item.search is not None and item.name not in pinned
    }


def fixed_hyperparameters(settings: Settings) -> dict[str, float | int]:
    """Of the chain's model: pinned values, and the defaults of those that are never searched."""
    return default_values("XGBOOST") | settings.pinned()


def fixed_trees(settings: Settings, model: str) -> "FixedTrees":
    """A model that nobody searches, `SCREENING`, `SELECTION` or `JUDGE`, as the run's settings have it."""
    from cvntrade_assets.learning.boosting import FixedTrees

    return FixedTrees.of(default_values(model) | settings.pinned(model))


def loss(settings: Settings) -> "Loss":
    """What every fit minimises: softmax for three classes, the focal loss when asked for, else the logistic loss."""
    from cvntrade_assets.learning.boosting import Loss

    if not settings.flag("CVN_BINARY_CLASSIFICATION"):
        return Loss("softprob")
    if settings.flag("CVN_FOCAL_LOSS"):
        return Loss("focal", settings.number("CVN_FOCAL_GAMMA"))
    return Loss("logistic")


def recipe(settings: Settings) -> "Recipe":
    """Every choice of a fit; hyperparameters that nobody pinned are searched for."""
    from cvntrade_assets.learning.recipe import Recipe

    fixed = fixed_hyperparameters(settings)
    rounds, patience = int(fixed.pop("num_boost_round")), int(fixed.pop("early_stopping_rounds"))
    return Recipe(
        binary=settings.flag("CVN_BINARY_CLASSIFICATION"),
        cusum_mode=cusum_mode(settings),
        cusum_threshold=settings.number("CVN_CUSUM_THRESHOLD_H"),
        uniqueness_weights=settings.flag("CVN_UNIQUENESS_WEIGHTS"),
        embargo=embargo(settings),
        max_features=settings.whole("CVN_MAX_FEATURES"),
        smoothing=settings.choice("CVN_LABEL_SMOOTHING"),
        cleanlab=settings.choice("CVN_CLEANLAB"),
        class_cap=settings.number("CVN_CLEANLAB_CLASS_CAP"),
        n_folds=settings.whole("CVN_TUNING_FOLDS"),
        n_trials=settings.whole("CVN_DEFAULT_N_TRIALS"),
        tuning_objective=settings.choice("CVN_HPO_OBJECTIVE"),
        search_space=search_space(settings),
        fixed=fixed,
        params=None,
        rounds=rounds,
        early_stopping_rounds=patience,
        loss=loss(settings),
        workers=settings.whole("CVN_TUNING_WORKERS"),
        calibration=settings.choice("CVN_CALIBRATION"),
        threshold_method=settings.choice("CVN_THRESHOLD_METHOD"),
        trade_threshold_method=settings.choice("CVN_TRADE_THRESHOLD_METHOD"),
        round_trip=settings.costs.round_trip,
        seed=settings.whole("CVN_SEED"),
        screening=fixed_trees(settings, "SCREENING"),
        selection=fixed_trees(settings, "SELECTION"),
        judge=fixed_trees(settings, "JUDGE"),
    )
