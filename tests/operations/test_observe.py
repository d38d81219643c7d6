"""One look: every signal of every subject once, and what could not be gathered is unknown with its reason."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from observed_facts import BTC, NOW, SOL, UNIVERSE, crypto, facts, given_settings, infra, job

from cvntrade_assets.operations.facts import TROUBLES
from cvntrade_assets.operations.global_state import State, judge_state
from cvntrade_assets.operations.observe import observe
from cvntrade_assets.operations.signals import SIGNALS, Level, Scope

SETTINGS = given_settings()


def test_every_signal_of_every_subject_is_observed_once():
    two = facts(jobs=(job(), job("retrain")))
    found = [(each.signal, each.subject) for each in observe(two, SETTINGS)]
    subjects = {Scope.PLATFORM: [""], Scope.JOB: ["discovery", "retrain"], Scope.CRYPTO: [BTC, SOL]}
    assert sorted(found) == sorted((name, each) for name, one in SIGNALS.items() for each in subjects[one.scope])


def test_everything_in_order_is_green():
    found = observe(facts(), SETTINGS)
    assert {each.level for each in found} == {Level.OK}
    assert {each.observed_at for each in found} == {NOW}
    assert judge_state(found, cryptos=UNIVERSE, now=NOW, settings=SETTINGS).state is State.GREEN


OF_GROUP = {
    "infra": {"infra_health"},
    "jobs": set(),
    "sessions": {"pass_rate", "barren_days"},
    "useful": {"useful_run_age"},
    "challengers": {"challenger_count"},
    "candles": {"candle_freshness"},
    "models": {"model_freshness", "model_overdue"},
    "evaluations": {
        "f1_buy_delta_vs_baseline",
        "screening_testing_gap",
        "std_f1_buy",
        "sortino",
        "sl_pct",
        "timeout_pct",
        "negative_sortino_runs",
    },
    "drift": {"drift"},
}


def test_every_group_of_facts_has_its_signals():
    assert set(OF_GROUP) == set(TROUBLES)
    of_jobs = {name for name, signal in SIGNALS.items() if signal.scope is Scope.JOB}
    assert set().union(*OF_GROUP.values()) | of_jobs == set(SIGNALS)


@pytest.mark.parametrize("group", OF_GROUP)
def test_what_could_not_be_gathered_is_unknown_and_the_rest_is_judged(group):
    found = observe(facts(trouble={group: "PostgreSQL does not answer"}), SETTINGS)
    lost = {each.signal for each in found if each.level is Level.UNKNOWN}
    assert lost == OF_GROUP[group]
    assert all(each.reason == "PostgreSQL does not answer" for each in found if each.level is Level.UNKNOWN)
    assert all(each.level is Level.OK for each in found if each.signal not in lost)
    state = judge_state(found, cryptos=UNIVERSE, now=NOW, settings=SETTINGS).state
    of_state = group in ("infra", "jobs", "sessions", "useful", "models", "evaluations")
    assert state is (State.YELLOW if of_state else State.GREEN)


def test_jobs_that_cannot_be_asked_have_no_observation():
    found = observe(facts(trouble={"jobs": "no answer"}), SETTINGS)
    assert not [each for each in found if SIGNALS[each.signal].scope is Scope.JOB]


def test_one_crypto_s_trouble_is_its_own():
    found = observe(facts(trouble={f"evaluations/{SOL}": "its record cannot be read"}), SETTINGS)
    assert {each.subject for each in found if each.level is Level.UNKNOWN} == {SOL}


@pytest.mark.parametrize("key", ["evaluation", "sortino", "evaluations/DOGEUSDC", ""])
def test_a_trouble_of_what_there_is_not_is_refused(key):
    with pytest.raises(ValueError, match="no group of facts; there are infra, jobs,"):
        observe(facts(trouble={key: "why"}), SETTINGS)


def test_a_job_whose_first_run_goes_on_is_not_sick():
    found = observe(facts(jobs=(job(), job("retrain", 0, 0))), SETTINGS)
    assert {each.subject for each in found if SIGNALS[each.signal].scope is Scope.JOB} == {"discovery"}


def test_a_platform_that_nobody_tells_of_is_unknown():
    bare = facts(infra=None, jobs=(), sessions=(), last_useful_at=None, pending_challengers=None)
    found = observe(replace(bare, cryptos={BTC: replace(crypto(), **NOTHING)}), SETTINGS)
    assert {each.level for each in found} == {Level.UNKNOWN}
    assert all(each.reason for each in found)


NOTHING = {"candles_until": None, "model_until": None, "useful_model": None, "evaluation": None, "drift": None}
LACKING = ["infra", "jobs", "sessions", "last_useful_at", "cryptos"]


@settings(deadline=None, max_examples=50)
@given(st.sets(st.sampled_from(LACKING), min_size=1))
def test_facts_that_lack_what_the_state_is_made_of_are_never_green(lacking):
    bare = {
        "infra": None,
        "jobs": (),
        "sessions": (),
        "last_useful_at": None,
        "cryptos": {name: replace(crypto(name), **NOTHING) for name in UNIVERSE},
    }
    found = observe(facts(**{name: bare[name] for name in lacking}), SETTINGS)
    assert judge_state(found, cryptos=UNIVERSE, now=NOW, settings=SETTINGS).state is State.YELLOW


@pytest.mark.parametrize("part", ["oom_kills", "cpu_used", "volume_used", "down"])
def test_a_half_known_platform_is_not_green(part):
    found = observe(facts(infra=infra(**{part: None})), SETTINGS)
    assert judge_state(found, cryptos=UNIVERSE, now=NOW, settings=SETTINGS).state is State.YELLOW
