"""The plan of seeding: what is inserted, what is left, what is refused."""

import re
import shlex

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cvntrade_assets.operations.seeds import (
    BASE_SETTINGS,
    SeedAction,
    SeedPlan,
    Standing,
    logfmt,
    plan_seeds,
    removed_keys,
    wanted_texts,
)
from cvntrade_assets.settings import HYPERPARAMETER_SETTINGS, resolve

NOW = pd.Timestamp("2025-09-15", tz="UTC")
WANTED = wanted_texts({})
DEPTH, ROUNDS = "CVN_HPO_XGBOOST_30M_MAX_DEPTH", "CVN_HPO_JUDGE_4H_NUM_BOOST_ROUND"


def plan(base_env=None, removed=None, **given_texts: str) -> SeedPlan:
    return plan_seeds(wanted_texts(given_texts), Standing(base_env or {}, removed or {}), NOW)


def actions(found: SeedPlan) -> dict[str, SeedAction]:
    return {seed.key: seed.action for seed in found.seeds}


def test_every_hyperparameter_and_the_baseline_are_seeded():
    assert len(WANTED) == 483 + 4
    assert set(WANTED) == {*HYPERPARAMETER_SETTINGS, *BASE_SETTINGS}
    assert {key: WANTED[key] for key in BASE_SETTINGS} == {
        "CVN_DEFAULT_PTE": "H4_SL1.0_TP2.0",
        "CVN_DEFAULT_N_FOLDS": "3",
        "CVN_DEFAULT_N_TRIALS": "50",
        "CVN_DEFAULT_HISTORY_MONTHS": "24",
    }
    # What tuning searches has no value of its own.
    assert (WANTED[DEPTH], WANTED[f"{DEPTH}_LOW"], WANTED[f"{DEPTH}_HIGH"]) == ("", "2", "6")
    assert (WANTED[ROUNDS], WANTED["CVN_HPO_SCREENING_5M_LEARNING_RATE"]) == ("60", "0.05")


def test_an_empty_table_gets_all_of_them_in_one_order():
    found = plan()
    assert found.refusal == ""
    assert found.inserts == WANTED
    assert list(found.inserts) == sorted(WANTED)


def test_what_is_inserted_changes_no_run():
    seeded = resolve(base_env=plan().inserts, run={}, now=NOW)
    plain = resolve(base_env={}, run={}, now=NOW)
    assert seeded.used([*BASE_SETTINGS, "CVN_HPO_*"]) == plain.used([*BASE_SETTINGS, "CVN_HPO_*"])


def test_what_stands_there_stays_and_is_told_when_it_says_something_else():
    found = plan({DEPTH: "3", ROUNDS: "60", "CVN_DEFAULT_N_TRIALS": "050", "CVN_SEED": "7"})
    told = {seed.key: seed.told for seed in found.of(SeedAction.PRESENT)}
    assert told == {DEPTH: "stays '3'", ROUNDS: "", "CVN_DEFAULT_N_TRIALS": ""}
    assert len(found.inserts) == len(WANTED) - 3
    assert "CVN_SEED" not in actions(found)


def test_what_was_removed_is_not_seeded_again():
    found = plan({}, {DEPTH: "maria", "CVN_OF_OLD": "maria"})
    (kept,) = found.of(SeedAction.REMOVED)
    assert (kept.key, kept.told) == (DEPTH, "removed by maria")
    assert DEPTH not in found.inserts and found.refusal == ""


def test_what_was_removed_and_set_again_is_there():
    assert actions(plan({DEPTH: "3"}, {DEPTH: "maria"}))[DEPTH] is SeedAction.PRESENT


def test_the_last_change_tells_whether_a_key_was_removed():
    assert removed_keys({"A": (None, "maria"), "B": ("1", "maria"), "C": ("", "seed")}) == {"A": "maria"}


def test_a_deployments_own_values_take_the_canonical_ones_place():
    found = plan(CVN_DEFAULT_N_TRIALS="20", CVN_MARKET="simulated", CVN_HPO_SELECTION_1H_GAMMA="1")
    inserted = found.inserts
    assert len(inserted) == len(WANTED) + 1
    given_texts = (inserted["CVN_DEFAULT_N_TRIALS"], inserted["CVN_MARKET"], inserted["CVN_HPO_SELECTION_1H_GAMMA"])
    assert given_texts == ("20", "simulated", "1.0")


@pytest.mark.parametrize(
    ("key", "text", "said"),
    [
        ("CVN_MAX_FEATURE", "30", "is not a setting. Did you mean CVN_MAX_FEATURES"),
        ("CVN_DEFAULT_N_TRIALS", "many", "expected a whole number from 1 to 1000"),
        ("CVN_GUARDRAIL_OVERRIDE", "1", "cannot be set by operators"),
        ("CVN_HPO_XGBOOST_30M_ETA", "0.1", "XGBOOST has no eta"),
        ("CVN_COST_BPS", "10", "is retired"),
    ],
)
def test_what_is_invalid_refuses_all_of_it(key, text, said):
    found = plan(**{key: text})
    (wrong,) = found.of(SeedAction.INVALID)
    assert wrong.key == key
    assert said in wrong.told and said in found.refusal


def test_seeds_that_contradict_what_operators_set_are_refused():
    found = plan({f"{DEPTH}_LOW": "5"}, **{f"{DEPTH}_HIGH": "4"})
    assert "do not go together with what operators set" in found.refusal
    assert f"{DEPTH}_LOW=5 must be below {DEPTH}_HIGH=4" in found.refusal
    assert plan({f"{DEPTH}_LOW": "5"}).refusal == ""
    # One's own values contradict each other without any operator, and without a database.
    alone = {"CVN_TIMEFRAME": "1d"}
    assert "whole number of candles" in plan(**alone).refusal
    assert "whole number of candles" in plan_seeds(wanted_texts(alone), None, NOW).refusal


def test_a_table_that_no_run_can_use_is_not_added_to():
    found = plan({"CVN_OF_OLD": "1"})
    assert "cannot be used as it stands" in found.refusal
    assert "cvntrade settings unset CVN_OF_OLD" in found.refusal


def test_without_a_database_the_plan_says_what_it_does_not_know():
    found = plan_seeds(wanted_texts({"CVN_SEED": "x"}), None, NOW)
    assert set(actions(found).values()) == {SeedAction.UNKNOWN, SeedAction.INVALID}
    assert found.inserts == {}
    assert plan_seeds(WANTED, None, NOW).refusal == ""


@given(
    present=st.sets(st.sampled_from(sorted(WANTED)), max_size=60),
    removed=st.sets(st.sampled_from(sorted(WANTED)), max_size=60),
)
def test_every_key_is_inserted_present_or_removed_and_a_second_time_none_is_inserted(present, removed):
    first = plan({key: WANTED[key] for key in present}, dict.fromkeys(removed, "maria"))
    assert set(first.inserts) == set(WANTED) - present - removed
    assert {seed.key for seed in first.of(SeedAction.PRESENT)} == present
    assert {seed.key for seed in first.of(SeedAction.REMOVED)} == removed - present
    after = {**{key: WANTED[key] for key in present}, **first.inserts}
    second = plan(after, dict.fromkeys(removed, "maria"))
    assert second.inserts == {} and second.refusal == ""


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
def test_a_log_line_is_one_line_that_reads_back(text):
    line = logfmt("seed_apply_failed", error=text, planned=487, seconds=0.12345)
    assert "\n" not in line
    assert line.startswith("event=seed_apply_failed error=") and line.endswith(" planned=487 seconds=0.123")
    written = line.removeprefix("event=seed_apply_failed error=").removesuffix(" planned=487 seconds=0.123")
    words = " ".join(text.split())
    if re.search(r'[\s"=\\]', words) or not words:
        assert written == '"' + words.replace("\\", "\\\\").replace('"', '\\"') + '"'
    else:
        assert written == words


def test_a_log_line_is_what_a_shell_reads():
    line = logfmt("seed_db_connect_failed", error='refused by "host a"', planned=1)
    assert shlex.split(line) == ["event=seed_db_connect_failed", 'error=refused by "host a"', "planned=1"]
