"""Inputs that passed their checks and yet must not be used together, or not by this run."""

from dataclasses import replace

import pandas as pd

from cvntrade_assets.operations.fitness import unfit_reasons
from cvntrade_assets.operations.provenance import Provenance
from cvntrade_assets.settings import Settings, resolve


def settings(**run: str) -> Settings:
    return resolve(base_env={}, run=run, now=pd.Timestamp("2025-09-01", tz="UTC"))


TRAINING = Provenance("1", {"features": "f1"}, {}, "binance", {"CVN_SEED": "42"}, "2025-09-01T00:00:00+00:00")
MODEL = Provenance("1", {"training_set": TRAINING.version}, {}, "binance", {"CVN_SEED": "42"})
INPUTS = {"training_set": TRAINING, "model": MODEL}
VERSIONS: dict[str, str | None] = {name: made.version for name, made in INPUTS.items()}


def test_inputs_that_belong_together_are_fit():
    assert unfit_reasons(INPUTS, VERSIONS, settings()) == []


def test_a_setting_that_shaped_an_input_must_be_the_runs():
    (first, second) = unfit_reasons(INPUTS, VERSIONS, settings(CVN_SEED="7"))
    assert first == f"training_set {TRAINING.version} was built with CVN_SEED='42' (this run: '7')"
    assert second.startswith("model ")


def test_a_model_of_another_training_set_is_refused():
    """Its own training rows may lie in the other one's test slice."""
    other = replace(TRAINING, inputs={"features": "f2"})
    inputs = {"training_set": other, "model": MODEL}
    versions: dict[str, str | None] = {name: made.version for name, made in inputs.items()}
    (reason,) = unfit_reasons(inputs, versions, settings())
    assert reason == (
        f"model {MODEL.version} was built from training_set {TRAINING.version}, which is no longer the current one"
    )


def test_an_input_that_may_be_older_is_not_refused_for_its_age_alone():
    versions: dict[str, str | None] = {"training_set": "another", "model": MODEL.version}
    assert unfit_reasons(INPUTS, versions, settings())
    assert unfit_reasons(INPUTS, versions, settings(), ("model",)) == []
    (late,) = unfit_reasons({"training_set": TRAINING}, versions, settings(CVN_AS_OF="2025-03-01"), ("training_set",))
    assert "knows candles until" in late
    other = unfit_reasons({"model": MODEL}, versions, settings(CVN_SEED="7"), ("model",))
    assert len(other) == 1, "its settings are judged as any input's"


def test_a_replay_of_the_past_refuses_what_knows_more():
    (reason,) = unfit_reasons({"training_set": TRAINING}, VERSIONS, settings(CVN_AS_OF="2025-03-01"))
    assert "knows candles until 2025-09-01T00:00:00+00:00, and now is 2025-03-01T00:00:00+00:00" in reason


def test_a_version_that_only_running_can_tell_is_another_one():
    assert unfit_reasons({"model": MODEL}, {"model": MODEL.version, "training_set": None}, settings())
