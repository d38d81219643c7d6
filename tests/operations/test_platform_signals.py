"""The platform's signals: both sides of every threshold of §2, and what is not known is unknown."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from observed_facts import NOW, ago, given_settings, infra, job, session

from cvntrade_assets.operations.facts import SessionFacts
from cvntrade_assets.operations.platform_signals import (
    barren_days,
    challenger_count,
    infra_health,
    pass_rate,
    pipeline_latency,
    pipeline_success_rate,
    useful_run_age,
)
from cvntrade_assets.operations.signals import Level

SETTINGS = given_settings()
OK, WARNING, CRITICAL, UNKNOWN = Level.OK, Level.WARNING, Level.CRITICAL, Level.UNKNOWN


# infra_health


@pytest.mark.parametrize(
    ("changes", "level"),
    [
        ({"oom_kills": 0}, OK),
        ({"oom_kills": 1}, WARNING),
        ({"oom_kills": 2}, WARNING),
        ({"oom_kills": 3}, CRITICAL),
        ({"pods_lost": 1}, WARNING),
        ({"pods_lost": 2}, WARNING),
        ({"pods_lost": 3}, CRITICAL),
        ({"cpu_used": 0.70}, OK),
        ({"cpu_used": 0.7001}, WARNING),
        # §2 has no critical processor.
        ({"cpu_used": 1.0}, WARNING),
        ({"volume_used": 0.85}, OK),
        ({"volume_used": 0.8501}, CRITICAL),
        ({"volume_used": 1.0}, CRITICAL),
        ({"down": ()}, OK),
        ({"down": ("SensorDaemon",)}, CRITICAL),
    ],
)
def test_infra_health_on_both_sides_of_its_limits(changes, level):
    found = infra_health(infra(**changes), NOW, SETTINGS)
    assert (found.level, found.value) == (level, float(level is not OK))
    assert found.inputs["source"] == "machine" and found.reason.endswith("(source: machine)")


@pytest.mark.parametrize("part", ["oom_kills", "cpu_used", "volume_used", "down"])
def test_what_is_not_known_of_the_machine_is_never_fine(part):
    lacking = infra(**{part: None}, trouble=("the kernel does not tell",))
    found = infra_health(lacking, NOW, SETTINGS)
    assert (found.level, found.value) == (UNKNOWN, None)
    assert "unknown" in found.reason and "the kernel does not tell" in found.reason
    bad = {"oom_kills": 9} if part != "oom_kills" else {"volume_used": 0.9}
    assert infra_health(replace(lacking, **bad), NOW, SETTINGS).level is CRITICAL
    worn = {"cpu_used": 0.9} if part != "cpu_used" else {"oom_kills": 1}
    found = infra_health(replace(lacking, **worn), NOW, SETTINGS)
    assert found.level is WARNING and "unknown" in found.reason


def test_processors_that_runs_of_our_own_keep_busy_are_told_and_not_judged():
    found = infra_health(infra(cpu_used=0.99, is_own_work=True), NOW, SETTINGS)
    assert found.level is OK and found.inputs["cpu_used"] == 0.99
    assert infra_health(infra(cpu_used=0.99, oom_kills=1, is_own_work=True), NOW, SETTINGS).level is WARNING
    assert infra_health(infra(cpu_used=None, is_own_work=True), NOW, SETTINGS).level is UNKNOWN


def test_a_platform_that_cannot_be_asked_is_unknown():
    assert infra_health(None, NOW, SETTINGS).level is UNKNOWN
    assert infra_health(infra(cpu_used=float("nan")), NOW, SETTINGS).level is UNKNOWN


def test_everything_that_is_wrong_is_told_with_its_limit():
    sick = infra(oom_kills=5, cpu_used=0.95, volume_used=0.9, down=("SensorDaemon", "SchedulerDaemon"))
    found = infra_health(sick, NOW, SETTINGS)
    assert found.value == 4
    assert "processes killed for want of memory in 24 hours: 5, more than 2 is critical" in found.reason
    assert "processors in use: 95 %, more than 70 % warns (CVN_SIGNAL_CPU_WARNING)" in found.reason
    assert "the fullest volume (/data): 90 %, more than 85 % is critical" in found.reason
    assert "down: SensorDaemon, SchedulerDaemon" in found.reason


def test_operators_move_the_limits():
    strict = given_settings(CVN_SIGNAL_VOLUME_CRITICAL="0.3", CVN_SIGNAL_OOM_WARNING="2")
    assert infra_health(infra(volume_used=0.31), NOW, strict).level is CRITICAL
    assert infra_health(infra(volume_used=0.3, oom_kills=1), NOW, strict).level is OK


# pipeline_success_rate


@pytest.mark.parametrize(
    ("succeeded", "failed", "level"),
    [
        (1000, 0, OK),
        (901, 99, OK),
        (90, 10, WARNING),
        (899, 101, WARNING),
        (70, 30, WARNING),
        (7, 3, WARNING),
        (699, 301, CRITICAL),
        # Fewer than five are no rate.
        (3, 2, CRITICAL),
        (0, 5, CRITICAL),
        (2, 2, WARNING),
        (2, 1, WARNING),
        (0, 4, WARNING),
        (0, 1, WARNING),
        (1, 0, OK),
    ],
)
def test_a_success_rate_of_ninety_percent_warns_and_below_seventy_is_critical(succeeded, failed, level):
    found = pipeline_success_rate(job("retrain", succeeded, failed), NOW, SETTINGS)
    assert (found.subject, found.level) == ("retrain", level)
    assert found.value == succeeded / (succeeded + failed)
    assert f"{succeeded} of {succeeded + failed} runs of retrain succeeded in 7 days" in found.reason
    few = succeeded + failed < 5 and level is WARNING
    assert ("fewer than 5 runs are no rate, and warn at most (CVN_SIGNAL_SUCCESS_RUNS)" in found.reason) is few


def test_operators_say_how_many_runs_are_a_rate():
    settings = given_settings(CVN_SIGNAL_SUCCESS_RUNS="2")
    assert pipeline_success_rate(job("retrain", 0, 1), NOW, settings).level is WARNING
    assert pipeline_success_rate(job("retrain", 1, 1), NOW, settings).level is CRITICAL


def test_a_job_without_an_ended_run_has_no_rate():
    found = pipeline_success_rate(job(succeeded=0, failed=0), NOW, SETTINGS)
    assert (found.level, found.value) == (UNKNOWN, None)


# pipeline_latency

HUNDRED = (100.0,) * 20


@pytest.mark.parametrize(
    ("seconds", "level"),
    [(99.0, OK), (130.0, OK), (130.1, WARNING), (200.0, WARNING), (200.1, CRITICAL)],
)
def test_latency_is_held_against_the_ninety_fifth_percentile(seconds, level):
    found = pipeline_latency(job(recent_seconds=(seconds,) * 5, earlier_seconds=HUNDRED), NOW, SETTINGS)
    assert found.level is level
    assert found.value == pytest.approx(seconds / 100 - 1)


def test_one_slow_run_is_no_latency():
    """The median of five; and the percentile between the 20th and the 21st of 21: 100 + 0 × …"""
    slow = job(recent_seconds=(999.0, 100.0, 100.0, 100.0, 999.0), earlier_seconds=HUNDRED)
    assert pipeline_latency(slow, NOW, SETTINGS).level is OK
    rising = job(recent_seconds=(40.0,), earlier_seconds=tuple(float(n) for n in range(21)))
    found = pipeline_latency(rising, NOW, SETTINGS)
    assert found.inputs["p95_seconds"] == pytest.approx(19.0)
    assert (found.level, found.value) == (CRITICAL, pytest.approx(40 / 19 - 1))


def test_only_the_newest_runs_are_the_latency():
    """Of six recent runs, the sixth belongs to the history."""
    more = job(recent_seconds=(100.0,) * 5 + (1e6,), earlier_seconds=(50.0,) * 9)
    found = pipeline_latency(more, NOW, SETTINGS)
    assert (found.inputs["runs"], found.inputs["earlier_runs"]) == (5, 10)


@pytest.mark.parametrize(("earlier", "level"), [(9, UNKNOWN), (10, OK)])
def test_latency_needs_a_history(earlier, level):
    found = pipeline_latency(job(earlier_seconds=(60.0,) * earlier), NOW, SETTINGS)
    assert found.level is level
    assert ("CVN_SIGNAL_LATENCY_HISTORY" in found.reason) is (level is UNKNOWN)


def test_latency_without_a_run_or_beside_nothing_is_unknown():
    assert pipeline_latency(job(recent_seconds=()), NOW, SETTINGS).level is UNKNOWN
    assert pipeline_latency(job(earlier_seconds=(0.0,) * 20), NOW, SETTINGS).level is UNKNOWN
    assert pipeline_latency(job(recent_seconds=(float("nan"),)), NOW, SETTINGS).level is UNKNOWN


# pass_rate and barren_days


@pytest.mark.parametrize(
    ("passed", "row", "level"),
    [
        ((2, 0, 0, 0), 0, OK),
        ((0, 2), 1, WARNING),
        ((0, 0, 1), 2, WARNING),
        ((0, 0, 0, 4), 3, CRITICAL),
        ((0, 0, 0, 0), 4, CRITICAL),
        ((0,), 1, WARNING),
    ],
)
def test_three_complete_runs_in_a_row_without_a_candidate_are_critical(passed, row, level):
    sessions = [session(days, count) for days, count in enumerate(passed)]
    for given_order in (sessions, sessions[::-1]):
        found = pass_rate(given_order, NOW, SETTINGS)
        assert (found.value, found.level) == (row, level)
    assert found.inputs["share"] == passed[0] / 96


@pytest.mark.parametrize(("days", "level"), [(0.0, OK), (3.0, OK), (3 + 1 / 1440, CRITICAL), (4.0, CRITICAL)])
def test_more_than_three_days_without_a_candidate_are_critical(days, level):
    """Counted from the oldest of the barren runs, not from the last useful one."""
    found = barren_days([session(0, 0), session(days, 0), session(days + 5, 1), session(days + 6, 0)], NOW, SETTINGS)
    assert found.value == pytest.approx(days)
    assert found.level is level


def test_a_useful_newest_run_ends_the_barren_days():
    found = barren_days([session(0.1, 1), session(9, 0)], NOW, SETTINGS)
    assert (found.value, found.level) == (0.0, OK)


def test_without_a_complete_run_nothing_is_known_of_candidates():
    assert pass_rate([], NOW, SETTINGS).level is UNKNOWN
    assert barren_days([], NOW, SETTINGS).level is UNKNOWN


def test_a_run_that_screened_nothing_passed_nothing():
    found = pass_rate([session(0, 0, screened=0)], NOW, SETTINGS)
    assert (found.level, found.inputs["share"]) == (WARNING, None)


@given(st.lists(st.integers(0, 2), min_size=1, max_size=8))
def test_a_barren_row_is_what_it_says(passed):
    """Oracle: count zeros from the newest on."""
    row = next((place for place, count in enumerate(passed) if count), len(passed))
    sessions = [SessionFacts(str(place), ago(days=place + 1), 96, count) for place, count in enumerate(passed)]
    assert pass_rate(sessions, NOW, SETTINGS).value == row
    assert barren_days(sessions, NOW, SETTINGS).value == pytest.approx(row)


# useful_run_age and challenger_count


@pytest.mark.parametrize(("days", "level"), [(0, OK), (7, OK), (7 + 1 / 1440, WARNING), (400, WARNING)])
def test_a_useful_run_is_recent_for_seven_days(days, level):
    found = useful_run_age(ago(days=days), NOW, SETTINGS)
    assert (found.level, found.value) == (level, pytest.approx(days))


def test_no_useful_run_at_all_is_unknown():
    found = useful_run_age(None, NOW, SETTINGS)
    assert found.level is UNKNOWN and "passed every gate" in found.reason
    found = useful_run_age(None, NOW, SETTINGS, any_run=False)
    assert found.level is UNKNOWN and found.reason == pass_rate([], NOW, SETTINGS).reason
    assert useful_run_age(ago(days=1), NOW, SETTINGS, any_run=False).level is OK


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (challenger_count(1, NOW, SETTINGS), "1 challenger waits for a promotion"),
        (challenger_count(0, NOW, SETTINGS), "0 challengers wait for a promotion"),
        (pass_rate([session(0, 0)], NOW, SETTINGS), "1 complete run in a row without"),
        (pass_rate([session(0, 0), session(1, 0)], NOW, SETTINGS), "2 complete runs in a row without"),
        (barren_days([session(1, 0)], NOW, SETTINGS), "1 complete run since "),
        (useful_run_age(ago(minutes=3), NOW, SETTINGS), "passed every gate 3 minutes ago"),
        (useful_run_age(ago(hours=5.25), NOW, SETTINGS), "passed every gate 5.25 hours ago"),
        (useful_run_age(ago(days=7, minutes=1), NOW, SETTINGS), "passed every gate 7.001 days ago"),
    ],
)
def test_reasons_read_well(found, said):
    assert said in found.reason


def test_what_was_recorded_while_facts_were_gathered_is_new():
    assert useful_run_age(ago(minutes=-1), NOW, SETTINGS).value == 0.0


@pytest.mark.parametrize(
    ("pending", "level"), [(0, OK), (5, OK), (6, WARNING), (10, WARNING), (11, CRITICAL), (None, UNKNOWN)]
)
def test_waiting_challengers(pending, level):
    assert challenger_count(pending, NOW, SETTINGS).level is level
