"""The watch's rules: what trips each of them, what does not, and what is told."""

from dataclasses import replace

import pandas as pd
import pytest

from cvntrade_assets.operations.factors import resolve_run
from cvntrade_assets.operations.guardrails import Verdict
from cvntrade_assets.operations.run_watch import (
    ENOUGH_HISTORY,
    RunFacts,
    StageFacts,
    expected_end,
    judge_duration,
    judge_factor,
    judge_progress,
    stage_limit,
    watch_run,
)

NOW = pd.Timestamp("2025-09-01 12:00", tz="UTC")
MINUTE = 60.0


def settings(run=None, base_env=None, **variants):
    return resolve_run(base_env=base_env or {}, run=run or {}, variants=variants, now=NOW)


def running(stage_minutes=1.0, history=(), said="", **facts):
    stage = StageFacts("hyperparameters", stage_minutes * MINUTE, history, said)
    return RunFacts(NOW, **{"seconds": 2 * MINUTE, "stages": [stage]} | facts)


def told(facts, chosen=None):
    return {
        (each.stage, each.evaluation.guardrail, each.evaluation.verdict)
        for each in watch_run(facts, chosen or settings())
    }


SLOW_STAGE = ("hyperparameters", "stage_in_time")


def test_a_run_as_it_should_be_gives_nothing_to_tell():
    assert not watch_run(running(), settings())
    assert not watch_run(RunFacts(NOW, 10.0), settings())


# stage_in_time


@pytest.mark.parametrize(("minutes", "slow"), [(30.0, False), (30.1, True)])
def test_a_stage_without_a_history_may_take_the_declared_limit(minutes, slow):
    assert told(running(minutes)) == ({(*SLOW_STAGE, Verdict.WARNED)} if slow else set())


@pytest.mark.parametrize(("minutes", "slow"), [(4.0, False), (4.1, True)])
def test_a_stage_may_take_twice_what_it_usually_takes_at_most(minutes, slow):
    facts = running(minutes, [2 * MINUTE] * ENOUGH_HISTORY)
    assert told(facts) == ({(*SLOW_STAGE, Verdict.WARNED)} if slow else set())
    assert not told(running(minutes, [2 * MINUTE] * (ENOUGH_HISTORY - 1)))


def test_the_percentile_is_the_95th_and_one_outlier_does_not_move_it():
    history = [MINUTE] * 49 + [60 * MINUTE]
    assert stage_limit(history, settings()) == (
        2 * MINUTE,
        "2 × the 95th percentile of its last 50 computations, 60.0 s",
    )
    spread = [float(seconds) for seconds in range(1, 102)]
    assert stage_limit(spread, settings())[0] == pytest.approx(2 * 96.0)


def test_a_history_in_which_every_run_was_slow_does_not_lift_the_limit():
    assert stage_limit([120 * MINUTE] * 50, settings()) == (30 * MINUTE, "CVN_GUARDRAIL_STAGE_MINUTES=30")


def test_a_short_history_of_short_runs_does_not_flag_milliseconds():
    assert stage_limit([0.05] * 50, settings())[0] == 5.0


def test_operators_set_the_limit():
    low = settings(base_env={"CVN_GUARDRAIL_STAGE_MINUTES": "2"})
    assert told(running(2.1), low) == {(*SLOW_STAGE, Verdict.WARNED)}
    assert not told(running(1.9), low)


def test_a_slow_stage_is_told_with_reason_rows_and_estimated_end():
    base_env = {"CVN_CUSUM_TRAINING_ENABLED": "0"}
    [found] = watch_run(running(42, said="tuning: trial 10 of 50, best 0.3", train_rows=28_070), settings({}, base_env))
    assert found.evaluation.message == (
        "hyperparameters: at work for 42.0 min, more than 30.0 min (CVN_GUARDRAIL_STAGE_MINUTES=30). Unusual: "
        "CVN_CUSUM_TRAINING_ENABLED=0 (layer base_env), 28,070 training rows; neither a variant nor the run chose all "
        "of it. It goes on; estimated end: 2025-09-01 14:48:00 UTC (10 of 50 done)."
    )
    assert (found.evaluation.value, found.evaluation.limit) == (42.0, 30.0)
    assert (found.evaluation.explicit, found.evaluation.layer) == (False, "base_env")


@pytest.mark.parametrize(
    "chosen",
    [
        settings({"CVN_CUSUM_TRAINING_ENABLED": "0"}),
        settings(cusum_training_mode="disabled"),
        settings(n_features="all"),
    ],
)
def test_a_slow_stage_is_allowed_when_what_makes_it_slow_was_chosen(chosen):
    [found] = watch_run(running(42), chosen)
    assert found.evaluation.verdict is Verdict.ALLOWED
    assert found.evaluation.explicit and "a variant or the run chose it" in found.evaluation.message


@pytest.mark.parametrize(
    "usual",
    [settings(cusum_training_mode="legacy_3_0"), settings(n_features="top_60"), settings({"CVN_CLEANLAB": "off"})],
)
def test_to_spell_out_what_is_usual_excuses_nothing(usual):
    """Nothing that was chosen makes the run slow, so that something else does."""
    assert told(running(42, seconds=42 * MINUTE), usual) == {
        (*SLOW_STAGE, Verdict.WARNED),
        ("", "run_in_time", Verdict.CRITICAL),
    }
    found = judge_duration(RunFacts(NOW, 42 * MINUTE), usual)
    assert not found.explicit and "has its usual value" in found.message
    assert judge_factor("any", [42.0], usual).verdict is Verdict.WARNED


def test_a_choice_does_not_excuse_what_nobody_chose():
    mixed = settings({"CVN_MAX_FEATURES": "150"}, {"CVN_CUSUM_TRAINING_ENABLED": "0"})
    assert told(running(42), mixed) == {(*SLOW_STAGE, Verdict.WARNED)}


@pytest.mark.parametrize(
    ("said", "history", "end"),
    [
        ("tuning: trial 20 of 50, best 0.3", (), "2025-09-01 12:15:00 UTC (20 of 50 done)"),
        ("tuning: 20 of 50 trials, then fold 1 of 3", (), "2025-09-01 12:15:00 UTC (20 of 50 done)"),
        ("training: round 200 of at most 400, loss 0.4", (), "2025-09-01 12:10:00 UTC (200 of at most 400 done)"),
        ("tuning: 0 of 50 trials, then fold 1 of 3", (), "cannot be estimated"),
        ("", (), "cannot be estimated"),
        ("", [15 * MINUTE] * 3, "2025-09-01 12:05:00 UTC (by its history)"),
        ("", [5 * MINUTE] * 3, "cannot be estimated"),
    ],
)
def test_the_end_is_estimated_from_what_supports_an_estimate(said, history, end):
    assert expected_end(StageFacts("any", 10 * MINUTE, history, said), NOW) == end


# run_in_time


@pytest.mark.parametrize(
    ("minutes", "verdict", "limit"),
    [
        (10.0, Verdict.PASSED, 10.0),
        (10.1, Verdict.WARNED, 10.0),
        (30.0, Verdict.WARNED, 10.0),
        (30.1, Verdict.CRITICAL, 30.0),
    ],
)
def test_a_run_warns_over_ten_minutes_and_is_critical_over_thirty(minutes, verdict, limit):
    found = judge_duration(RunFacts(NOW, minutes * MINUTE), settings())
    assert (found.verdict, found.limit) == (verdict, limit)
    assert found.value == pytest.approx(minutes)
    assert told(RunFacts(NOW, minutes * MINUTE)) == (
        set() if verdict is Verdict.PASSED else {("", "run_in_time", verdict)}
    )


def test_a_run_that_was_chosen_to_be_long_is_allowed_to_be():
    for minutes in (11, 31):
        found = judge_duration(RunFacts(NOW, minutes * MINUTE), settings(cusum_training_mode="disabled"))
        assert (found.verdict, found.explicit, found.layer) == (Verdict.ALLOWED, True, "factor")


# factor_in_time


@pytest.mark.parametrize(
    ("minutes", "verdict"), [([4, 6], Verdict.PASSED), ([4, 6.2], Verdict.WARNED), ([0.1] * 9 + [60], Verdict.WARNED)]
)
def test_a_factor_warns_when_its_runs_take_more_than_five_minutes_on_average(minutes, verdict):
    found = judge_factor("calibration", minutes, settings(calibration="isotonic"))
    assert found.verdict is verdict
    assert f"the last {len(minutes)} runs of calibration" in found.message


def test_a_factor_that_makes_runs_slow_on_purpose_is_allowed_to():
    assert judge_factor("n_features", [20.0], settings(n_features="all")).verdict is Verdict.ALLOWED


# run_progresses


@pytest.mark.parametrize(
    ("minutes", "verdict"), [(0.0, Verdict.PASSED), (14.9, Verdict.PASSED), (15.0, Verdict.CRITICAL)]
)
def test_a_run_is_stuck_after_fifteen_silent_minutes(minutes, verdict):
    facts = running(1, silent_seconds=minutes * MINUTE)
    assert judge_progress(facts, settings()).verdict is verdict
    assert told(facts) == (set() if verdict is Verdict.PASSED else {("", "run_progresses", verdict)})


def test_a_stuck_run_is_told_with_stage_and_last_word():
    facts = running(16, said="tuning: trial 4 of 50, best 0.3", silent_seconds=15 * MINUTE)
    assert judge_progress(facts, settings()).message == (
        "stuck: no sign of progress for 15.0 min in hyperparameters (its last word: tuning: trial 4 of 50, best 0.3); "
        "the limit is CVN_GUARDRAIL_STUCK_MINUTES=15. The run is ended; see its log and its last stage."
    )
    assert "in no stage" in judge_progress(replace(facts, stages=()), settings()).message


def test_no_choice_and_no_override_excuses_a_stuck_run():
    chosen = settings(
        {
            "CVN_CUSUM_TRAINING_ENABLED": "0",
            "CVN_GUARDRAIL_OVERRIDE": "1",
            "CVN_GUARDRAIL_OVERRIDE_REASON": "a long experiment, approved by @someone",
        }
    )
    assert judge_progress(RunFacts(NOW, 3600.0, 900.0), chosen).verdict is Verdict.CRITICAL
