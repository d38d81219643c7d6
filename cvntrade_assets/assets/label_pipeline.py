"""Label pipeline: the training slice as the model is fitted on it, its labels smoothed and its suspects dealt with."""

from typing import TYPE_CHECKING

from cvntrade_assets.assets.stage import Made, Stage, span_summary, stage
from cvntrade_assets.hyperparameters import table_digest
from cvntrade_assets.learning.from_settings import embargo, fixed_trees
from resources.artifacts import Artifact

if TYPE_CHECKING:
    from cvntrade_assets.learning.selection import FeatureSelection
    from cvntrade_assets.learning.training_set import TrainingSet


@stage(
    settings=(
        "CVN_BINARY_CLASSIFICATION",
        "CVN_LABEL_SMOOTHING",
        "CVN_CLEANLAB",
        "CVN_CLEANLAB_CLASS_CAP",
        "CVN_TUNING_FOLDS",
        "CVN_EMBARGO_HOURS",
        "CVN_SEED",
        "CVN_HPO_JUDGE_*",
    ),
    code_version=f"1-{table_digest('JUDGE')}",
    group="learning",
    owner="ml-owner",
    kinds={"cleanlab", "parquet"},
)
def label_pipeline(
    stage: Stage, training_set: Artifact["TrainingSet"], feature_selection: Artifact["FeatureSelection"]
) -> Made:
    """Training rows with the selected features, labels smoothed and suspicious ones filtered or reweighted, if asked.

    Only the training slice is touched: validation, calibration and test keep their hard labels.
    """
    from cvntrade_assets.learning.label_pipeline import prepare_labels

    settings = stage.settings
    train = training_set.load().slice("train")
    prepared = prepare_labels(
        train.features[list(feature_selection.load().names)],
        train.targets["label"],
        train.targets["weight"],
        train.targets["entry_time"],
        train.targets["exit_time"],
        binary=settings.flag("CVN_BINARY_CLASSIFICATION"),
        smoothing=settings.choice("CVN_LABEL_SMOOTHING"),
        cleanlab=settings.choice("CVN_CLEANLAB"),
        class_cap=settings.number("CVN_CLEANLAB_CLASS_CAP"),
        n_folds=settings.whole("CVN_TUNING_FOLDS"),
        embargo=embargo(settings),
        seed=settings.whole("CVN_SEED"),
        on_fold=lambda done, folds: stage.heartbeat(f"cleanlab: fold {done} of {folds} judged"),
        judge=fixed_trees(settings, "JUDGE"),
    )
    return Made(
        prepared,
        {
            **span_summary(prepared.features.index),
            "rows_in": len(train.features),
            "suspects": int(prepared.suspects.sum()),
        },
    )
