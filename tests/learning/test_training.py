"""Training and scoring: what fits together, what is refused, and that the same inputs give the same bytes."""

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xgboost as xgb

from cvntrade_assets.learning.boosting import BoostingError, soft_softmax_objective
from cvntrade_assets.learning.training import (
    ModelContractError,
    assert_matrix_contract,
    first_difference,
    score_buy,
    train_model,
)

PARAMS = {"max_depth": 3, "learning_rate": 0.1, "subsample": 0.8, "colsample_bytree": 0.7}
OBJECTIVES = ("logistic", "focal", "softprob")


def slices(rows=300, columns=6, *, three=False):
    random = np.random.default_rng(7)
    index = pd.date_range("2024-01-01", periods=rows, freq="30min", tz="UTC", name="open_time").as_unit("ns")
    features = pd.DataFrame(
        random.normal(size=(rows, columns)).astype(np.float32),
        index=index,
        columns=[f"RSI_{number}" for number in range(columns)],
    )
    buy = random.random(rows) < 1 / (1 + np.exp(0.8 - 1.5 * features["RSI_0"]))
    labels = pd.Series(buy.astype(np.int8), index=index, name="label")
    if three:
        sell = ~buy & (random.random(rows) < 1 / (1 + np.exp(1.0 - 1.5 * features["RSI_1"])))
        labels = labels.mask(sell, -1).astype(np.int8)
    weights = pd.Series(random.uniform(0.5, 1.5, rows), index=index, name="weight")
    cut = rows * 2 // 3
    return (
        features.iloc[:cut],
        labels.iloc[:cut],
        weights.iloc[:cut],
        features.iloc[cut:],
        labels.iloc[cut:],
    )


def trained(data, objective="logistic", **changes):
    options = {"params": PARAMS, "rounds": 40, "early_stopping_rounds": 8, "seed": 3, "focal_gamma": 2.0}
    return train_model(*data, objective=objective, **(options | changes))


def shares_of(labels):
    return pd.DataFrame(
        (labels.to_numpy()[:, None] == np.array([-1, 0, 1])).astype(float),
        index=labels.index,
        columns=[-1, 0, 1],
    )


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_model_finds_what_is_there(objective):
    data = slices(three=objective == "softprob")
    model = trained(data, objective)
    scores = score_buy(model, data[3])
    buy = data[4] == 1
    assert scores.index.equals(data[3].index)
    assert scores.dtype == np.float64
    assert scores.between(0.0, 1.0).all()
    assert scores[buy].mean() > scores[~buy].mean() + 0.05
    assert model.feature_names == tuple(data[0].columns)
    assert model.objective == objective


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_same_inputs_and_seed_same_bytes(objective):
    data = slices(three=objective == "softprob")
    assert trained(data, objective).ubj == trained(data, objective).ubj
    assert trained(data, objective).ubj != trained(data, objective, seed=4).ubj


def test_another_process_makes_the_same_bytes():
    code = (
        "import hashlib\nfrom tests.learning.test_training import slices, trained\n"
        "print(hashlib.sha256(trained(slices()).ubj).hexdigest())"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout.strip() == hashlib.sha256(trained(slices()).ubj).hexdigest()


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_stored_model_ends_at_its_best_round(objective):
    data = slices(three=objective == "softprob")
    watched = []
    model = trained(data, objective, on_round=lambda number, value: watched.append((number, value)))
    booster = xgb.Booster()
    booster.load_model(bytearray(model.ubj))
    assert [number for number, _ in watched] == list(range(len(watched)))
    assert model.best_iteration == int(np.argmin([value for _, value in watched]))
    assert booster.num_boosted_rounds() == model.best_iteration + 1 < len(watched)


def test_scores_are_those_of_xgboost_itself_at_the_best_round():
    data = slices()
    model = trained(data)
    train = xgb.DMatrix(data[0], data[1], weight=data[2])
    whole = xgb.train(dict(model.params), train, 40)
    expected = whole.predict(xgb.DMatrix(data[3]), iteration_range=(0, model.best_iteration + 1))
    np.testing.assert_array_equal(score_buy(model, data[3]).to_numpy(), expected.astype(np.float64))


def test_focal_scores_are_probabilities_and_gamma_zero_is_logistic():
    data = slices()
    focal = score_buy(trained(data, "focal", focal_gamma=0.0, early_stopping_rounds=40), data[3])
    logistic = score_buy(trained(data, "logistic", early_stopping_rounds=40), data[3])
    np.testing.assert_allclose(focal, logistic, atol=1e-5)
    assert trained(data, "focal").params["focal_gamma"] == 2.0


@pytest.mark.parametrize("objective", ["logistic", "focal"])
def test_soft_labels_are_trained_on(objective):
    data = slices()
    soft = (data[0], data[1].astype(float).mask(data[1] == 1, 0.7), *data[2:])
    hard_scores, soft_scores = (score_buy(trained(each, objective), data[3]) for each in (data, soft))
    assert soft_scores.mean() < hard_scores.mean()


def test_hard_classes_and_their_probabilities_are_the_same_model():
    data = slices(three=True)
    soft = (data[0], shares_of(data[1]), *data[2:])
    hard_scores, soft_scores = (score_buy(trained(each, "softprob"), data[3]) for each in (data, soft))
    np.testing.assert_allclose(hard_scores, soft_scores, atol=1e-5)


def test_soft_classes_equal_weighted_copies_of_each_row():
    features, labels, weights, *_ = slices(three=True)
    shares = shares_of(labels).to_numpy() * 0.7 + 0.1
    settings = {
        "objective": "multi:softprob",
        "num_class": 3,
        "max_depth": 3,
        "base_score": 0.5,
        "nthread": 1,
    }
    ours = xgb.train(settings, xgb.DMatrix(features, weight=weights), 10, obj=soft_softmax_objective(shares))
    copies = xgb.DMatrix(
        pd.concat([features] * 3),
        np.repeat([0, 1, 2], len(features)),
        weight=(shares * weights.to_numpy()[:, None]).T.ravel(),
    )
    matrix = xgb.DMatrix(features)
    np.testing.assert_allclose(ours.predict(matrix), xgb.train(settings, copies, 10).predict(matrix), atol=1e-4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda frame: frame.rename(columns={"RSI_2": "RSI_9"}), "position 2 is 'RSI_9', expected 'RSI_2'"),
        (lambda frame: frame[frame.columns[::-1]], "position 0 is 'RSI_5', expected 'RSI_0'"),
        (lambda frame: frame.iloc[:, :4], "position 4 is missing, expected 'RSI_4'|number of columns"),
        (lambda frame: frame.assign(EXTRA=1.0), "'EXTRA', expected nothing more|number of columns"),
    ],
)
def test_other_columns_are_refused_in_training_and_scoring(change, message):
    data = slices()
    model = trained(data)
    with pytest.raises(ModelContractError, match=message):
        score_buy(model, change(data[3]))
    with pytest.raises(ModelContractError, match=message):
        trained((*data[:3], change(data[3]), data[4]))


def test_the_matrix_contract_replays_incident_17_2():
    data = slices()
    named, bare = xgb.DMatrix(data[0]), xgb.DMatrix(data[0].to_numpy())
    assert_matrix_contract(named, named)
    with pytest.raises(ModelContractError, match="training matrix has no feature names"):
        assert_matrix_contract(bare, named)
    with pytest.raises(ModelContractError, match="validation matrix has no feature names"):
        assert_matrix_contract(named, bare)
    whole = xgb.DMatrix(data[0].astype({"RSI_1": np.int64}))
    with pytest.raises(ModelContractError, match=r"feature types .* position 1 is 'int', expected 'float'"):
        assert_matrix_contract(named, whole)


def replaced(data, position, value):
    return tuple(value if each == position else item for each, item in enumerate(data))


@pytest.mark.parametrize(
    ("position", "value", "message"),
    [
        (0, lambda data: data[0].to_numpy(), "train_X is a ndarray; expected a DataFrame"),
        (0, lambda data: data[0].mask(data[0] > 2.0), "train_X has .* not finite, first in column 'RSI_"),
        (1, lambda data: data[1].to_numpy(), "expected a pandas Series"),
        (1, lambda data: data[1].iloc[1:], "train_y has 199 rows and train_X 200"),
        (1, lambda data: data[1] - 1, "lie outside \\[0, 1\\], first"),
        (1, lambda data: data[1].astype(float).mask(data[1] == 1), "lie outside"),
        (2, lambda data: data[2] - 5.0, "train_weight has values that are not positive"),
        (2, lambda data: data[2].reset_index(drop=True), "train_weight has .* their indices differ"),
        (4, lambda data: data[4] * 0.9, "labels are not hard, first 0.9"),
    ],
)
def test_ill_fitting_data_is_refused(position, value, message):
    data = slices()
    with pytest.raises(ModelContractError, match=message):
        trained(replaced(data, position, value(data)))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (lambda soft: soft[[1, 0, -1]], "position 0 is 1, expected -1"),
        (lambda soft: soft * 0.9, "do not sum to 1, first at 2024"),
    ],
)
def test_ill_formed_class_probabilities_are_refused(labels, message):
    data = slices(three=True)
    with pytest.raises(ModelContractError, match=message):
        trained(replaced(data, 1, labels(shares_of(data[1]))), "softprob")
    with pytest.raises(ModelContractError, match="takes a Series"):
        trained(replaced(data, 1, shares_of(data[1])), "logistic")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"params": {"max_dept": 3}}, "'max_dept' is not a hyperparameter"),
        ({"params": {"nthread": 2}}, "'nthread' is not a hyperparameter"),
        ({"rounds": 0}, "expected at least 1"),
    ],
)
def test_parameters_that_xgboost_would_ignore_are_refused(changes, message):
    with pytest.raises(BoostingError, match=message):
        trained(slices(), **changes)


def test_labels_that_are_all_the_same_are_refused():
    data = slices()
    with pytest.raises(BoostingError, match="Every training label is 0"):
        trained(replaced(data, 1, data[1] * 0))


def test_missing_values_are_refused_and_no_rows_are_scored_as_none():
    data = slices()
    model = trained(data)
    with pytest.raises(ModelContractError, match="first in column 'RSI_3'"):
        score_buy(model, data[3].assign(RSI_3=np.nan))
    assert score_buy(model, data[3].iloc[:0]).empty


def test_first_difference_in_words():
    assert first_difference(["a", "b"], ["a", "b"]) is None
    assert first_difference(["a"], ["b"]) == "position 0 is 'b', expected 'a'"
