"""The judgement of drift: both sides of every limit, and what is chosen to be compared with what."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

from cvntrade_assets.learning.features import FEATURE_NAMES
from cvntrade_assets.operations import drift_evidence, drift_outcomes
from cvntrade_assets.operations.drift import DriftLimits, DriftReport, from_record, judge, look, past_of, unknown
from cvntrade_assets.operations.drift_columns import ColumnDrift
from cvntrade_assets.operations.drift_dependence import LEAST_WINDOWS
from cvntrade_assets.operations.drift_evidence import Evidence, Fresh, Learnt, TooLittleError, gather
from cvntrade_assets.operations.drift_outcomes import OutcomeDrift, Outcomes, drift_of_outcomes
from cvntrade_assets.operations.signals import Level

Floats = npt.NDArray[np.float64]

LIMITS = DriftLimits(
    longest=200, least=96, least_labels=60, alpha=0.05, outcome_alpha=0.01, warning_share=0.1, critical_share=0.3
)
HALF_HOUR = pd.Timedelta("30min")
BEGIN = pd.Timestamp("2024-01-01", tz="UTC")


def column(name: str, drifted: bool) -> ColumnDrift:
    return ColumnDrift(name, 0.3, 0.2, 0.1, 0.25, 0.01, 0.02 if drifted else 0.4, drifted)


def columns(drifted: int, of: int) -> list[ColumnDrift]:
    return [column(str(i), i < drifted) for i in range(of)]


def outcome(drifted: bool) -> OutcomeDrift:
    return OutcomeDrift(0.25, 0.25, 0.3, 0.2, 0.4, 0.01 if drifted else 0.6, drifted)


FINE = (outcome(False), outcome(False))
WORSE = (outcome(False), outcome(True))


@pytest.mark.parametrize(
    ("drifted", "outcomes", "level"),
    [
        (0, FINE, Level.OK),
        (1, FINE, Level.OK),
        (2, FINE, Level.WARNING),
        (5, FINE, Level.WARNING),
        (6, FINE, Level.CRITICAL),
        (20, FINE, Level.CRITICAL),
        (0, WORSE, Level.WARNING),
        (1, WORSE, Level.WARNING),
        (2, WORSE, Level.CRITICAL),
        (0, None, Level.UNKNOWN),
        (1, None, Level.UNKNOWN),
        (2, None, Level.WARNING),
        (6, None, Level.CRITICAL),
    ],
)
def test_levels_turn_at_their_limits(drifted: int, outcomes: object, level: Level) -> None:
    """Twenty columns: a tenth are two, three tenths are six."""
    assert judge(columns(drifted, 20), outcomes, LIMITS) is level  # type: ignore[arg-type]


def evidence(seed: int = 0, *, moved: float = 0.0, rate: float = 0.3, settled: int = 100) -> Evidence:
    """Two features that remember, a calibrated model, and a window of a hundred candles that may be otherwise."""
    random = np.random.default_rng(seed)
    times = pd.date_range(BEGIN, periods=5100, freq="30min", name="open_time")
    table = pd.DataFrame(remembering(random, 5100), index=times, columns=["a", "b"])
    table.iloc[5000:] += moved
    said = random.uniform(0.1, 0.5, size=2100)
    truth = (random.random(2100) < said).astype(float)
    answers = pd.DataFrame({"score": said, "probability": said, "label": truth}, index=times[3000:])
    asked = answers.iloc[2000:].copy()
    asked["label"] = (random.random(100) < rate).astype(float)
    asked.iloc[settled:, 2] = np.nan
    labels = pd.Series((random.random(3000) < 0.3).astype(float), index=times[:3000])
    return Evidence(table.iloc[:3000], table.iloc[5000:], answers.iloc[:2000], asked, labels)


def remembering(random: np.random.Generator, n: int) -> Floats:
    values = random.normal(size=(n, 2))
    for i in range(1, n):
        values[i] = 0.8 * values[i - 1] + 0.6 * values[i]
    return values


def report(found: Evidence, limits: DriftLimits = LIMITS) -> DriftReport:
    return look(found, past_of(found), limits, block=16, seed=1)


def test_candles_as_they_were_are_fine() -> None:
    found = report(evidence())
    assert found.level is Level.OK and found.share == 0.0 and found.rows == 100 and found.labelled == 100
    assert {column.name for column in found.columns} == {"a", "b", "score"} and found.score is not None
    assert "0 of 3 features and scores left the training slice" in found.reason
    assert found.buy_rate is not None and found.calibration is not None
    low, high = found.buy_rate.low, found.buy_rate.high
    assert low is not None and high is not None and low < found.buy_rate.value < high


def test_features_that_moved_are_critical_and_named_first() -> None:
    found = report(evidence(moved=3.0))
    assert found.level is Level.CRITICAL and found.share == pytest.approx(2 / 3)
    assert {column.name for column in found.drifted} == {"a", "b"}
    assert found.worst is not None and found.worst.name in ("a", "b") and f"first {found.worst.name}" in found.reason


def test_buy_that_became_frequent_warns_alone() -> None:
    found = report(evidence(rate=0.9))
    assert found.share == 0.0 and found.level is Level.WARNING
    assert found.buy_rate is not None and found.buy_rate.drifted and found.buy_rate.value > 0.8
    assert found.calibration is not None and found.calibration.drifted
    assert "rate of BUY 0." in found.reason and "drifted" in found.reason


def test_outcomes_of_too_few_settled_candles_are_not_judged() -> None:
    enough, few = report(evidence(settled=60)), report(evidence(settled=59))
    assert enough.buy_rate is not None and enough.level is Level.OK
    assert few.buy_rate is None and few.calibration is None and few.level is Level.UNKNOWN
    assert "outcomes unknown: 59 are settled, at least 60 are needed" in few.reason


def test_a_report_comes_back_from_its_record() -> None:
    for found in (report(evidence()), report(evidence(settled=3)), unknown("nothing")):
        assert from_record(found.to_record()) == found
    assert unknown("nothing").share is None and unknown("nothing").worst is None


def test_outcomes_alarm_as_rarely_as_promised(monkeypatch: pytest.MonkeyPatch) -> None:
    """Labels in runs, as those that share candles are; a calibrated model; 5 % nominal."""
    # Intervals decide nothing.
    monkeypatch.setattr(drift_outcomes, "RESAMPLES", 2)
    random = np.random.default_rng(8)
    alarms = []
    for _ in range(120):
        chance = np.repeat(random.uniform(0.1, 0.5, size=700), 8)
        labels = np.repeat((random.random(700) < chance[::8]).astype(float), 8)
        held, window = (Outcomes(labels[a:b], chance[a:b]) for a, b in ((2000, 5000), (5400, 5600)))
        found = drift_of_outcomes(labels[:2000], held, window, alpha=0.05, block=16, seed=0)
        alarms.append(any(each.drifted for each in found))
    assert np.mean(alarms) <= 0.11


def test_a_model_that_became_overconfident_is_found_and_one_that_improved_is_not() -> None:
    random = np.random.default_rng(0)
    chance = random.uniform(0.1, 0.5, size=5000)
    labels = (random.random(5000) < chance).astype(float)
    held = Outcomes(labels[2000:4600], chance[2000:4600])

    def error_of(said: Floats) -> OutcomeDrift:
        window = Outcomes(labels[4700:4900], said)
        return drift_of_outcomes(labels[:2000], held, window, alpha=0.05, block=16, seed=0)[1]

    assert error_of(np.clip(chance[4700:4900] + 0.4, 0, 1)).drifted
    assert not error_of(np.clip(labels[4700:4900], 0.01, 0.99)).drifted


# what is compared with what


class Constant:
    """What stands for a model: `answers` is replaced."""

    feature_names = ("RSI_14", "HOUR_SIN", "NATR_14", "WEEK_COS")


@pytest.fixture
def learnt(monkeypatch: pytest.MonkeyPatch) -> Learnt:
    monkeypatch.setattr(
        "cvntrade_assets.learning.answers.answers",
        lambda model, calibration, table: pd.DataFrame({"score": 0.4, "probability": 0.3}, index=table.index),
    )
    times = pd.date_range(BEGIN, periods=4000, freq="30min", name="open_time")
    features = pd.DataFrame(0.0, index=times, columns=list(FEATURE_NAMES))
    labels = pd.DataFrame({"label": np.resize([1, 0, -1, 0], 4000)}, index=times)
    # CUSUM kept every tenth candle of the training slice.
    kept = times[:2500:10].append(times[2510:])
    names = np.where(kept < times[2510], "train", "test")
    targets = pd.DataFrame({"slice": names, "exit_time": kept + pd.Timedelta(hours=4)}, index=kept)
    return Learnt(Constant(), None, features, labels, targets)  # type: ignore[arg-type]


def fresh(learnt: Learnt, candles: int) -> Fresh:
    """So many candles after the last that the training set was cut from."""
    times = pd.date_range(BEGIN, periods=4000 + candles, freq="30min", name="open_time")
    features = pd.DataFrame(1.0, index=times[600:], columns=learnt.features.columns)
    labels = pd.DataFrame({"label": 1}, index=times[600:])
    return Fresh(features, labels, times[-1] + HALF_HOUR, HALF_HOUR + pd.Timedelta(hours=4))


def test_the_reference_is_every_candle_of_the_training_slices_time(learnt: Learnt) -> None:
    found = gather(learnt, fresh(learnt, 300), longest=120, least=96)
    # Not the 250 CUSUM events: a model is asked about every candle, not about moments of movement only.
    assert len(found.reference) == 2510 == len(found.label_reference)
    assert found.label_reference.mean() == pytest.approx(0.25, abs=0.001)
    assert list(found.reference) == list(found.window) == ["RSI_14", "NATR_14"]


def test_scores_are_held_against_what_nothing_was_fitted_on(learnt: Learnt) -> None:
    found = gather(learnt, fresh(learnt, 300), longest=120, least=96)
    assert found.held_out.index[0] == learnt.train_ends == BEGIN + 2510 * HALF_HOUR
    assert found.held_out.index[-1] < learnt.known_until


def test_the_window_is_the_newest_of_what_the_training_set_does_not_know(learnt: Learnt) -> None:
    found = gather(learnt, fresh(learnt, 300), longest=120, least=96)
    assert len(found.window) == 120 and (found.window == 1.0).all(axis=None)
    assert found.window.index[-1] == BEGIN + 4299 * HALF_HOUR
    short = gather(learnt, fresh(learnt, 107), longest=120, least=96)
    # The last label of the training set ends eight candles after its own.
    assert len(short.window) == 107 - 7 and short.window.index[0] == learnt.known_until


def test_an_outcome_counts_once_it_is_known_whatever_it_is(learnt: Learnt) -> None:
    found = gather(learnt, fresh(learnt, 300), longest=120, least=96)
    known = found.asked["label"].notna()
    # A trade is entered half an hour after the open of its candle, and lasts four hours at most.
    assert known.sum() == 120 - 8 and known.iloc[:112].all()


@pytest.mark.parametrize(("candles", "longest", "least", "length"), [(103, 200, 96, 96), (102, 200, 96, None)])
def test_too_few_new_candles_say_nothing(
    learnt: Learnt, candles: int, longest: int, least: int, length: int | None
) -> None:
    if length is None:
        with pytest.raises(TooLittleError, match=r"95 candles have closed since .* at least 96 are needed"):
            gather(learnt, fresh(learnt, candles), longest=longest, least=least)
    else:
        assert len(gather(learnt, fresh(learnt, candles), longest=longest, least=least).window) == length


def test_a_window_is_as_short_as_its_past_demands(learnt: Learnt) -> None:
    found = gather(learnt, fresh(learnt, 900), longest=800, least=96)
    assert len(found.window) == (4000 - 2510) // LEAST_WINDOWS
    cut_short = replace(learnt, features=learnt.features.iloc[: 2510 + 96 * LEAST_WINDOWS - 1])
    with pytest.raises(TooLittleError, match="10 windows of at least 96 must fit into each"):
        gather(cut_short, fresh(learnt, 900), longest=800, least=96)


def test_only_what_the_clock_decides_is_left_out() -> None:
    tested = drift_evidence.tested_features(FEATURE_NAMES)
    assert set(FEATURE_NAMES) - set(tested) == {"HOUR_SIN", "HOUR_COS", "WEEK_SIN", "WEEK_COS"}
