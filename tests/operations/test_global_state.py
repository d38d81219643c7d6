"""The global state: every rule of §0, never GREEN without everything seen, never better for anything worse."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import product

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from observed_facts import (
    BTC,
    CORE,
    NOW,
    OTHER,
    SOL,
    UNIVERSE,
    crypto,
    evaluation,
    facts,
    given_settings,
    infra,
    job,
    observed,
    session,
)

from cvntrade_assets.operations.facts import Facts
from cvntrade_assets.operations.global_state import (
    STATE_SIGNALS,
    RawState,
    Reason,
    State,
    headline,
    held_state,
    is_core,
    judge_state,
    shown_reasons,
    told,
    worst,
)
from cvntrade_assets.operations.observe import observe
from cvntrade_assets.operations.signals import SIGNALS, Level, Observation, Scope

SETTINGS = given_settings()
GREEN, YELLOW, ORANGE, RED = State
OK, WARNING, CRITICAL, UNKNOWN = Level
# What a look takes in: every subject of every signal that the state is made of.
SUBJECTS = {Scope.PLATFORM: ("",), Scope.JOB: ("discovery", "retrain"), Scope.CRYPTO: (BTC, SOL)}
EXPECTED = tuple((name, subject) for name in STATE_SIGNALS for subject in SUBJECTS[SIGNALS[name].scope])
Seen = dict[tuple[str, str], Observation]


def sound() -> Seen:
    return {(name, subject): observed(name, subject=subject) for name, subject in EXPECTED}


def judged(seen: Seen, before: Sequence[Reason] = ()) -> RawState:
    return judge_state(seen.values(), cryptos=UNIVERSE, now=NOW, settings=SETTINGS, before=before)


def with_one(signal: str, level: Level, subject: str | None = None, minutes: float = 0.0) -> Seen:
    one = observed(signal, level, subject, minutes)
    return sound() | {(one.signal, one.subject): one}


# The order


def test_the_order_is_not_the_alphabet():
    assert sorted([RED, YELLOW, GREEN, ORANGE]) == [GREEN, YELLOW, ORANGE, RED]
    assert max(State) is RED and min(State) is GREEN
    assert all((a < b) is (a.rank < b.rank) for a, b in product(State, State))
    assert all(
        (a <= b, a > b, a >= b) == (a.rank <= b.rank, a.rank > b.rank, a.rank >= b.rank) for a in State for b in State
    )
    assert worst([YELLOW, ORANGE]) is ORANGE
    assert worst([]) is GREEN


# §0, rule by rule


@pytest.mark.parametrize(
    ("signal", "subject", "by_level"),
    [
        ("infra_health", "", (GREEN, YELLOW, RED, YELLOW)),
        ("pipeline_success_rate", "discovery", (GREEN, YELLOW, ORANGE, YELLOW)),
        ("pass_rate", "", (GREEN, GREEN, ORANGE, YELLOW)),
        ("barren_days", "", (GREEN, GREEN, ORANGE, YELLOW)),
        ("model_overdue", BTC, (GREEN, GREEN, ORANGE, YELLOW)),
        ("model_overdue", SOL, (GREEN, GREEN, YELLOW, YELLOW)),
        ("negative_sortino_runs", BTC, (GREEN, YELLOW, YELLOW, YELLOW)),
        ("useful_run_age", "", (GREEN, YELLOW, YELLOW, YELLOW)),
    ],
)
def test_what_each_signal_makes_of_the_state(signal, subject, by_level):
    for level, state in zip(Level, by_level, strict=True):
        found = judged(with_one(signal, level, subject))
        assert found.state is state, level
        expected = [] if state is GREEN else [(state, signal, subject)]
        assert [(each.state, each.signal, each.subject) for each in found.reasons] == expected


def test_the_rules_are_of_these_signals():
    assert set(STATE_SIGNALS) == {
        "infra_health",
        "pipeline_success_rate",
        "pass_rate",
        "barren_days",
        "model_overdue",
        "negative_sortino_runs",
        "useful_run_age",
    }


@pytest.mark.parametrize("signal", [name for name in SIGNALS if name not in STATE_SIGNALS])
@pytest.mark.parametrize("level", Level)
def test_other_signals_do_not_make_the_state(signal, level):
    assert judged(with_one(signal, level)).state is GREEN


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({}, GREEN),
        ({"infra": infra(volume_used=0.85)}, GREEN),
        ({"infra": infra(volume_used=0.8501)}, RED),
        ({"infra": infra(oom_kills=2)}, YELLOW),
        ({"infra": infra(oom_kills=3)}, RED),
        ({"infra": infra(down=("webserver",))}, RED),
        ({"jobs": (job(succeeded=901, failed=99),)}, GREEN),
        ({"jobs": (job(succeeded=90, failed=10),)}, YELLOW),
        ({"jobs": (job(succeeded=70, failed=30),)}, YELLOW),
        ({"jobs": (job(succeeded=699, failed=301),)}, ORANGE),
        # One sick job is enough.
        ({"jobs": (job(), job("retrain", 1, 9))}, ORANGE),
        ({"sessions": (session(0.1, 0), session(0.2, 0), session(0.3, 1))}, GREEN),
        ({"sessions": (session(0.1, 0), session(0.2, 0), session(0.3, 0), session(0.4, 1))}, ORANGE),
        ({"sessions": (session(0.1, 0), session(3, 0), session(4, 1))}, GREEN),
        ({"sessions": (session(0.1, 0), session(3.001, 0), session(4, 1))}, ORANGE),
        ({"last_useful_at": NOW - pd.Timedelta(days=7)}, GREEN),
        ({"last_useful_at": NOW - pd.Timedelta(days=7, minutes=1)}, YELLOW),
        ({"cryptos": {BTC: crypto(model_until=NOW - pd.Timedelta(days=14))}}, GREEN),
        ({"cryptos": {BTC: crypto(model_until=NOW - pd.Timedelta(days=14, minutes=1))}}, ORANGE),
        ({"cryptos": {SOL: crypto(SOL, model_until=NOW - pd.Timedelta(days=7))}}, GREEN),
        ({"cryptos": {SOL: crypto(SOL, model_until=NOW - pd.Timedelta(days=7, minutes=1))}}, YELLOW),
        ({"cryptos": {SOL: crypto(SOL, model_until=NOW - pd.Timedelta(days=99))}}, YELLOW),
        ({"cryptos": {BTC: crypto(evaluation=evaluation(recent_sortinos=(-1.0, 1.0)))}}, GREEN),
        ({"cryptos": {BTC: crypto(evaluation=evaluation(recent_sortinos=(-1.0, -1.0)))}}, YELLOW),
        ({"cryptos": {BTC: crypto(evaluation=evaluation(recent_sortinos=(-1.0,) * 9))}}, YELLOW),
    ],
)
def test_both_sides_of_every_threshold_from_the_facts_on(changes, state):
    look = facts(**changes)
    groups = {name: each.groups for name, each in look.cryptos.items()}
    found = judge_state(observe(look, SETTINGS), cryptos=groups, now=NOW, settings=SETTINGS)
    assert found.state is state, found.reasons


@pytest.mark.parametrize(("groups", "core"), [(CORE, True), (OTHER, False), ((), False), ((*OTHER, *CORE), True)])
def test_core(groups, core):
    assert is_core(groups, SETTINGS) is core
    assert is_core(groups, given_settings(CVN_CORE_GROUPS="alts")) is False


def test_reasons_come_worst_first():
    seen = with_one("infra_health", CRITICAL) | {
        ("useful_run_age", ""): observed("useful_run_age", WARNING),
        ("pass_rate", ""): observed("pass_rate", CRITICAL),
    }
    assert [each.state for each in judged(seen).reasons] == [RED, ORANGE, YELLOW]


# Missing, unknown, old


@pytest.mark.parametrize(("signal", "subject"), EXPECTED)
def test_what_is_missing_is_yellow_with_its_name(signal, subject):
    seen = sound()
    if SIGNALS[signal].scope is Scope.JOB:
        seen = {key: each for key, each in seen.items() if key[0] != signal}
        subject = ""
    else:
        del seen[signal, subject]
    found = judged(seen)
    assert found.state is YELLOW
    [reason] = found.reasons
    assert (reason.signal, reason.subject) == (signal, subject)
    assert "is missing" in reason.text and signal in reason.text


def test_a_job_that_did_not_run_is_not_missing():
    seen = sound()
    del seen["pipeline_success_rate", "retrain"]
    assert judged(seen).state is GREEN


@pytest.mark.parametrize(
    ("minutes", "state"), [(0, GREEN), (15, GREEN), (15.01, YELLOW), (600, YELLOW), (-15, GREEN), (-15.01, YELLOW)]
)
@pytest.mark.parametrize(("signal", "subject"), EXPECTED)
def test_what_is_old_is_yellow(signal, subject, minutes, state):
    """And what is said to be of the future: on a clock that is ahead it would never grow old."""
    found = judged(with_one(signal, OK, subject, minutes))
    assert found.state is state
    if state is YELLOW:
        assert "CVN_STATE_STALE_MINUTES" in found.reasons[0].text


def test_bad_news_does_not_expire():
    found = judged(with_one("infra_health", CRITICAL, minutes=600))
    assert [each.state for each in found.reasons] == [RED, YELLOW]


def test_operators_say_what_is_old():
    seen = with_one("pass_rate", OK, minutes=40).values()
    patient = given_settings(CVN_STATE_STALE_MINUTES="40")
    assert judge_state(seen, cryptos=UNIVERSE, now=NOW, settings=patient).state is GREEN


def test_nothing_seen_is_not_green():
    found = judged({})
    assert found.state is YELLOW
    assert {each.signal for each in found.reasons} == set(STATE_SIGNALS)


def test_a_universe_without_cryptos_is_not_green():
    seen = [each for each in sound().values() if SIGNALS[each.signal].scope is not Scope.CRYPTO]
    found = judge_state(seen, cryptos={}, now=NOW, settings=SETTINGS)
    assert found.state is YELLOW
    assert "the universe has no crypto" in found.reasons[0].text


def test_a_crypto_that_left_does_not_count():
    seen = with_one("model_overdue", CRITICAL, "DOGEUSDC", minutes=6000)
    assert judged(seen).state is GREEN
    before = [Reason(ORANGE, "old", "model_overdue", "DOGEUSDC")]
    assert judged(sound(), before).state is GREEN


# What cannot be seen any more is no better for it


@pytest.mark.parametrize(
    ("signal", "subject", "state"),
    [
        ("infra_health", "", RED),
        ("pass_rate", "", ORANGE),
        ("barren_days", "", ORANGE),
        ("model_overdue", BTC, ORANGE),
        ("pipeline_success_rate", "discovery", ORANGE),
    ],
)
def test_what_was_bad_stays_until_it_is_seen_to_be_better(signal, subject, state):
    first = judged(with_one(signal, CRITICAL, subject))
    hidden = judged(with_one(signal, UNKNOWN, subject), first.reasons)
    assert hidden.state is state
    assert hidden.reasons[0].text == f"as last known: {first.reasons[0].text}"
    still = judged(with_one(signal, UNKNOWN, subject), hidden.reasons)
    assert still == hidden, "the text does not grow"
    gone = {key: each for key, each in sound().items() if key[0] != signal}
    assert judged(gone, still.reasons).state is state
    assert judged(with_one(signal, OK, subject), still.reasons).state is GREEN
    assert judged(with_one(signal, WARNING, subject), still.reasons).state <= YELLOW


def test_a_job_whose_failures_slid_out_of_the_window_is_not_held_against_it():
    before = judged(with_one("pipeline_success_rate", CRITICAL, "retrain")).reasons
    seen = sound()
    del seen["pipeline_success_rate", "retrain"]
    assert judged(seen, before).state is GREEN


def test_a_reason_for_a_held_state_is_not_carried_on():
    """Nor what was YELLOW, which what is unknown is anyway."""
    before = [Reason(RED, "RED within the last 3 looks", "", ""), Reason(YELLOW, "worn", "infra_health", "")]
    assert judged(sound(), before).state is GREEN
    assert judged(with_one("infra_health", UNKNOWN), before).state is YELLOW


# Properties: never better for worse, never GREEN unseen

LEVELS = st.sampled_from(Level)
AGES = st.sampled_from((0.0, 14.9, 15.1, 900.0))


@st.composite
def looks(draw: st.DrawFn) -> Seen:
    """What one look may see of anything, at any level and age, with parts missing."""
    seen = {}
    for name, subject in EXPECTED:
        if draw(st.booleans()) or draw(st.booleans()):
            seen[name, subject] = observed(name, draw(LEVELS), subject, draw(AGES))
    return seen


@st.composite
def worse(draw: st.DrawFn, seen: Seen, *, blind: bool) -> Seen:
    """The same look with some of it worse; `blind` also hides what was critical."""
    after = dict(seen)
    for key, each in seen.items():
        match draw(st.sampled_from(("same", "level", "unknown", "drop", "age"))):
            case "level" if each.level in (OK, WARNING):
                after[key] = replace(each, level=draw(st.sampled_from((WARNING, CRITICAL))), value=1.0)
                if each.level is WARNING:
                    after[key] = replace(after[key], level=CRITICAL)
            case "unknown" if blind or each.level is not CRITICAL:
                after[key] = replace(each, level=UNKNOWN, value=None)
            # A job that did not run in the window has no observation, and that is not worse.
            case "drop" if SIGNALS[each.signal].scope is not Scope.JOB and (blind or each.level is not CRITICAL):
                del after[key]
            case "age":
                after[key] = replace(each, observed_at=each.observed_at - pd.Timedelta(minutes=draw(AGES)))
    return after


@settings(deadline=None, max_examples=100)
@given(st.data())
def test_nothing_worse_ever_improves_the_state_of_a_look(data):
    seen = data.draw(looks())
    assert judged(data.draw(worse(seen, blind=False))).state >= judged(seen).state


@settings(deadline=None, max_examples=100)
@given(st.data())
def test_nor_does_hiding_what_was_bad(data):
    seen = data.draw(looks())
    first = judged(seen)
    after = data.draw(worse(seen, blind=True))
    assert judged(after, first.reasons).state >= first.state
    dark = {key: each for key, each in after.items() if SIGNALS[each.signal].scope is not Scope.JOB}
    assert judged(dark, first.reasons).state >= first.state


@settings(deadline=None, max_examples=100)
@given(looks())
def test_green_means_that_everything_was_seen_lately_and_fine(seen):
    if judged(seen).state is GREEN:
        for name, subject in EXPECTED:
            found = seen.get((name, subject))
            if SIGNALS[name].scope is Scope.JOB:
                assert any(key[0] == name for key in seen)
            else:
                assert found is not None
            if found is not None:
                assert found.level is not UNKNOWN
                assert found.observed_at >= NOW - pd.Timedelta(minutes=15)


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_no_worse_history_is_shown_as_a_better_state(data):
    """Looks one after the other, each remembering the one before; the same with some of it worse."""
    hold = data.draw(st.integers(1, 4))
    better = data.draw(st.lists(looks(), min_size=1, max_size=6))
    history = [data.draw(worse(seen, blind=False)) for seen in better]
    for fine, bad in zip(shown(better, hold), shown(history, hold), strict=True):
        assert bad >= fine


def shown(history: Sequence[Seen], hold: int) -> list[State]:
    raws: list[State] = []
    states, before = [], ()
    for seen in history:
        raw = judged(seen, before)
        states.append(held_state(raw.state, raws[::-1], hold))
        raws.append(raw.state)
        before = shown_reasons(raw, states[-1], hold)
    return states


# Hysteresis

STATES = st.lists(st.sampled_from(State), min_size=1, max_size=12)


def test_it_worsens_at_once_and_improves_after_three_better_looks():
    raws = [GREEN, RED, GREEN, GREEN, GREEN, YELLOW, GREEN, ORANGE, YELLOW, YELLOW, YELLOW]
    found = [held_state(raw, raws[:place][::-1], 3) for place, raw in enumerate(raws)]
    assert found == [GREEN, RED, RED, RED, GREEN, YELLOW, YELLOW, ORANGE, ORANGE, ORANGE, YELLOW]


def test_it_does_not_flap():
    raws = [YELLOW, GREEN] * 10
    assert {held_state(raw, raws[:place][::-1], 3) for place, raw in enumerate(raws)} == {YELLOW}


@given(STATES, st.integers(1, 5))
def test_the_shown_state_is_the_worst_of_the_last_looks(raws, hold):
    for place, raw in enumerate(raws):
        found = held_state(raw, raws[:place][::-1], hold)
        assert found is worst(raws[max(0, place - hold + 1) : place + 1])
        assert found >= raw


@given(STATES, st.integers(1, 5))
def test_every_improvement_has_been_seen_so_many_times(raws, hold):
    found = [held_state(raw, raws[:place][::-1], hold) for place, raw in enumerate(raws)]
    for place in range(1, len(raws)):
        if found[place] < found[place - 1]:
            assert place + 1 >= hold
            assert all(raw <= found[place] for raw in raws[place - hold + 1 : place + 1])


def test_a_look_holds_for_itself():
    assert held_state(GREEN, [RED], 1) is GREEN
    assert held_state(GREEN, [], 3) is GREEN
    with pytest.raises(ValueError, match="at least 1 look, and not for 0"):
        held_state(GREEN, [], 0)


def test_a_held_state_says_why_it_is_held():
    raw = RawState(YELLOW, (Reason(YELLOW, "worn", "infra_health", ""),))
    first, *rest = shown_reasons(raw, RED, 3)
    assert first.text == "RED within the last 3 looks, which have to be better before the state is (now YELLOW)"
    assert (first.state, tuple(rest)) == (RED, raw.reasons)
    assert shown_reasons(raw, YELLOW, 3) == raw.reasons


# In words


def test_the_reasons_of_many_cryptos_are_told_together():
    overdue = [Reason(ORANGE, f"{name} is old", "model_overdue", name) for name in ("A", "B", "C", "D", "E")]
    worn = Reason(YELLOW, "worn", "infra_health", "")
    assert told([*overdue, worn]) == ("ORANGE: model_overdue of A, B, C and 2 more; the first: A is old; YELLOW: worn")
    assert told(overdue[:2]) == "ORANGE: model_overdue of A, B; the first: A is old"
    assert told([]) == "nothing is wrong"
    assert told([*overdue[:1], worn], of=ORANGE) == "A is old; YELLOW: worn"
    many = [Reason(YELLOW, f"{name} is worn", name, "") for name in STATE_SIGNALS]
    assert told(many, at_most=2).endswith("; and 5 more")


@pytest.mark.parametrize(
    ("signals", "said"),
    [
        ((), "nothing is wrong"),
        (("a",), "a"),
        (("a", "a", "b"), "a and b"),
        (("a", "b", "c"), "a, b and 1 more"),
        (("", "a"), "a"),
        (("",), "text of "),
    ],
)
def test_a_headline_names_the_first_signals(signals, said):
    assert headline([Reason(YELLOW, f"text of {name}", name, "") for name in signals]) == said


# A bad week


def test_a_bad_week_goes_down_to_red_and_comes_back():
    week: list[tuple[Facts, State]] = [
        (facts(), GREEN),
        (facts(infra=infra(oom_kills=1)), YELLOW),
        (facts(jobs=(job(succeeded=8, failed=2),)), YELLOW),
        (facts(jobs=(job(succeeded=6, failed=4),)), ORANGE),
        (facts(sessions=(session(0.1, 0), session(2, 0), session(3.5, 0), session(5, 1))), ORANGE),
        (facts(infra=infra(oom_kills=3)), RED),
        (facts(infra=None), RED),
        (facts(), RED),
        (facts(), RED),
        (facts(), GREEN),
    ]
    raws: list[State] = []
    before: tuple[Reason, ...] = ()
    for look, state in week:
        raw = judge_state(observe(look, SETTINGS), cryptos=UNIVERSE, now=NOW, settings=SETTINGS, before=before)
        held = held_state(raw.state, raws[::-1], SETTINGS.whole("CVN_STATE_HOLD"))
        assert held is state, raw.reasons
        raws.append(raw.state)
        before = shown_reasons(raw, held, 3)
