"""Model: XGBoost, fitted on the training slice and stopped on the validation slice."""

from typing import TYPE_CHECKING

from cvntrade_assets.assets.hyperparameters import LOSS_SETTINGS
from cvntrade_assets.assets.pulse import Pulse
from cvntrade_assets.assets.stage import Made, Stage, span_summary, stage
from cvntrade_assets.learning.from_settings import fixed_hyperparameters, loss
from resources.artifacts import Artifact
from resources.codecs import StoredModel

if TYPE_CHECKING:
    from cvntrade_assets.learning.label_pipeline import PreparedLabels
    from cvntrade_assets.learning.training_set import TrainingSet
    from cvntrade_assets.learning.tuning import TuningResult

_REFERENCE_ROWS = 256


@stage(
    settings=(*LOSS_SETTINGS, "CVN_TIMEFRAME", "CVN_SEED", "CVN_HPO_XGBOOST_*"),
    code_version="1",
    group="learning",
    owner="ml-owner",
    kinds={"xgboost"},
)
def model(
    stage: Stage,
    training_set: Artifact["TrainingSet"],
    label_pipeline: Artifact["PreparedLabels"],
    hyperparameters: Artifact["TuningResult"],
) -> Made:
    """The boosted trees, as UBJSON, cut after their best round on the validation slice.

    Beside it stand a few validation rows with the scores that the model in memory gave them: a check scores them again
    with the stored file.
    """
    from cvntrade_assets.learning.training import score_buy, train_model

    settings, prepared = stage.settings, label_pipeline.load()
    valid = training_set.load().slice("validation")
    valid_features = valid.features[list(prepared.features.columns)]
    fixed, chosen_loss = fixed_hyperparameters(settings), loss(settings)
    rounds, pulse = int(fixed["num_boost_round"]), Pulse(stage.heartbeat)
    trained = train_model(
        prepared.features,
        prepared.labels,
        prepared.weights,
        valid_features,
        valid.targets["label"],
        params=hyperparameters.load().params,
        rounds=rounds,
        early_stopping_rounds=int(fixed["early_stopping_rounds"]),
        objective=chosen_loss.objective,
        focal_gamma=chosen_loss.focal_gamma,
        seed=settings.whole("CVN_SEED"),
        on_round=lambda index, value: pulse(
            f"training: round {index + 1} of at most {rounds}, validation loss {value:.5f}"
        ),
    )
    reference = valid_features.iloc[:_REFERENCE_ROWS]
    stored = StoredModel(trained, reference, score_buy(trained, reference))
    summary = {
        **span_summary(prepared.features.index),
        "features": len(trained.feature_names),
        "trees": trained.best_iteration + 1,
        "objective": trained.objective,
        "bytes_ubj": len(trained.ubj),
    }
    return Made(stored, summary)
