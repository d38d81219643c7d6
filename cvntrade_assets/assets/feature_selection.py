"""Feature selection: which features the model gets to see."""

from typing import TYPE_CHECKING

from cvntrade_assets.assets.pulse import Pulse
from cvntrade_assets.assets.stage import Made, Stage, span_summary, stage
from cvntrade_assets.hyperparameters import table_digest
from cvntrade_assets.learning.from_settings import embargo, fixed_trees
from resources.artifacts import Artifact

if TYPE_CHECKING:
    from cvntrade_assets.learning.training_set import TrainingSet


@stage(
    settings=("CVN_MAX_FEATURES", "CVN_SEED", "CVN_TUNING_FOLDS", "CVN_EMBARGO_HOURS", "CVN_HPO_SELECTION_*"),
    code_version=f"1-{table_digest('SELECTION')}",
    group="learning",
    owner="ml-owner",
    kinds={"xgboost", "parquet"},
)
def feature_selection(stage: Stage, training_set: Artifact["TrainingSet"]) -> Made:
    """At most CVN_MAX_FEATURES features, chosen on the training slice alone: no constant, no near-duplicate."""
    from cvntrade_assets.learning.selection import select_features

    settings = stage.settings
    train = training_set.load().slice("train")
    pulse = Pulse(stage.heartbeat)
    chosen = select_features(
        train,
        settings.whole("CVN_MAX_FEATURES"),
        settings.whole("CVN_SEED"),
        settings.whole("CVN_TUNING_FOLDS"),
        embargo(settings),
        on_fold=lambda done, folds: pulse(f"feature selection: fold {done} of {folds} scored"),
        trees=fixed_trees(settings, "SELECTION"),
    )
    ranked = chosen.scores[chosen.scores["kept"]].sort_values("score", ascending=False)
    return Made(
        chosen,
        {
            **span_summary(train.features.index),
            "selected": len(chosen.names),
            "offered": len(chosen.scores),
            "best": [str(name) for name in ranked.index[:10]],
        },
    )
