"""XGBoost as the witness of what it is given, and another value for every hyperparameter of every model."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

import pytest
import xgboost as xgb

from cvntrade_assets.hyperparameters import hyperparameter_key

MODELS = ("XGBOOST", "SCREENING", "SELECTION", "JUDGE")
# Another value for every model, so that none can be taken for another's.
MOVED: Mapping[str, tuple[float | int, ...]] = {
    "max_depth": (2, 5, 7, 8),
    "learning_rate": (0.11, 0.12, 0.13, 0.14),
    "min_child_weight": (2.0, 3.0, 4.0, 6.0),
    "subsample": (0.61, 0.62, 0.63, 0.64),
    "colsample_bytree": (0.71, 0.72, 0.73, 0.74),
    "colsample_bylevel": (0.81, 0.82, 0.83, 0.84),
    "colsample_bynode": (0.85, 0.86, 0.87, 0.88),
    "reg_lambda": (2.1, 2.2, 2.3, 2.4),
    "reg_alpha": (0.1, 0.2, 0.3, 0.4),
    "gamma": (1.1, 1.2, 1.3, 1.4),
    "max_delta_step": (0.11, 0.12, 0.13, 0.14),
    "max_bin": (20, 24, 28, 32),
    "num_boost_round": (11, 12, 13, 14),
}


@dataclass(frozen=True)
class Seen:
    """One call of `xgboost.train`: rounds and patience asked for, and what the booster says that it was grown with."""

    rounds: int
    patience: int | None
    grown_with: Mapping[str, str]


@contextmanager
def witnessed() -> Iterator[list[Seen]]:
    seen: list[Seen] = []
    train = xgb.train

    def witness(params: Any, matrix: Any, num_boost_round: int = 10, **more: Any) -> xgb.Booster:
        booster = train(params, matrix, num_boost_round, **more)
        trees = json.loads(booster.save_config())["learner"]["gradient_booster"]["tree_train_param"]
        seen.append(Seen(num_boost_round, more.get("early_stopping_rounds"), trees))
        return booster

    with mock.patch("xgboost.train", witness):
        yield seen


def moved(*models: str) -> dict[str, str]:
    """Every hyperparameter of these models elsewhere, as a run sets it."""
    return {
        hyperparameter_key(model, "30m", name): str(values[MODELS.index(model)])
        for model in models
        for name, values in MOVED.items()
    }


def require_moved(seen: Seen, model: str) -> None:
    place = MODELS.index(model)
    assert seen.rounds == MOVED["num_boost_round"][place]
    for name, values in MOVED.items():
        if name != "num_boost_round":
            assert float(seen.grown_with[name]) == pytest.approx(values[place], rel=1e-6), name
