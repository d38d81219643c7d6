"""Hyperparameters: what tuning found on purged folds of the training slice."""

from typing import TYPE_CHECKING

from cvntrade_assets.assets.meanwhile import import_meanwhile
from cvntrade_assets.assets.pulse import Pulse
from cvntrade_assets.assets.stage import Made, Stage, span_summary, stage
from cvntrade_assets.hyperparameters import table_digest
from cvntrade_assets.learning.from_settings import embargo, fixed_hyperparameters, loss, search_space
from resources.artifacts import Artifact

if TYPE_CHECKING:
    from cvntrade_assets.learning.label_pipeline import PreparedLabels
    from cvntrade_assets.learning.training_set import TrainingSet

LOSS_SETTINGS = ("CVN_BINARY_CLASSIFICATION", "CVN_FOCAL_LOSS", "CVN_FOCAL_GAMMA")


@stage(
    settings=(
        *LOSS_SETTINGS,
        "CVN_TIMEFRAME",
        "CVN_DEFAULT_N_TRIALS",
        "CVN_TUNING_FOLDS",
        "CVN_EMBARGO_HOURS",
        "CVN_HPO_OBJECTIVE",
        "CVN_SEED",
        "CVN_HPO_XGBOOST_*",
    ),
    # The declared ranges decide what tuning finds: other ranges, another code version.
    code_version=f"1-{table_digest('XGBOOST')}",
    group="learning",
    owner="ml-owner",
    kinds={"optuna", "parquet"},
)
def hyperparameters(
    stage: Stage, training_set: Artifact["TrainingSet"], label_pipeline: Artifact["PreparedLabels"]
) -> Made:
    """The best of CVN_DEFAULT_N_TRIALS trials on purged folds of the training slice.

    A pinned hyperparameter (CVN_HPO_XGBOOST_<TIMEFRAME>_<PARAMETER>) is not searched, the others between their bounds
    (…_LOW, …_HIGH). The same seed gives the same trials whatever the number of processes. The score ranks trials and is
    never reported as the model's.
    """
    from cvntrade_assets.learning.tuning import tune

    # This process waits for its workers now; what calibration and report import takes seconds.
    import_meanwhile("skops.io", "matplotlib.figure", "dagster_mlflow")
    settings, prepared = stage.settings, label_pipeline.load()
    targets = training_set.load().targets.loc[prepared.features.index]
    fixed = fixed_hyperparameters(settings)
    pulse = Pulse(stage.heartbeat)
    result = tune(
        prepared.features,
        prepared.labels,
        prepared.weights,
        targets["label"],
        targets["entry_time"],
        targets["exit_time"],
        n_trials=settings.whole("CVN_DEFAULT_N_TRIALS"),
        n_folds=settings.whole("CVN_TUNING_FOLDS"),
        objective=settings.choice("CVN_HPO_OBJECTIVE"),
        search_space=search_space(settings),
        fixed_params=_tree_parameters(fixed),
        loss=loss(settings),
        rounds=int(fixed["num_boost_round"]),
        early_stopping_rounds=int(fixed["early_stopping_rounds"]),
        seed=settings.whole("CVN_SEED"),
        workers=settings.whole("CVN_TUNING_WORKERS"),
        embargo=embargo(settings),
        on_trial=lambda done, total, best: stage.heartbeat(f"tuning: trial {done} of {total}, best score {best:.4f}"),
        on_fold=lambda done, total, fold, folds: pulse(
            f"tuning: {done} of {total} trials, then fold {fold} of {folds}"
        ),
    )
    summary = {
        **span_summary(prepared.features.index),
        "trials": len(result.trials),
        "best_score": result.best_score,
        "best": {name: _plain(value) for name, value in result.params.items()},
        "pinned": {name: _plain(value) for name, value in settings.pinned().items()},
    }
    return Made(result, summary)


def _tree_parameters(fixed: dict[str, float | int]) -> dict[str, float | int]:
    """Those that XGBoost takes as parameters; the others bound how long it trains."""
    return {name: value for name, value in fixed.items() if name not in ("num_boost_round", "early_stopping_rounds")}


def _plain(value: object) -> object:
    return round(value, 6) if isinstance(value, float) else value
