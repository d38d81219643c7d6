"""Severity, owner and next step: as §4, §8 and §9 have them, no signal at odds with a code, every command real."""

from dataclasses import replace
from typing import Any

import pytest
from correlation_records import record, records
from hypothesis import given
from hypothesis import settings as tried
from observed_facts import (
    BTC,
    NOW,
    UNIVERSE,
    ago,
    crypto,
    evaluation,
    facts,
    given_settings,
    infra,
    job,
    observed,
    session,
)
from typed_commands import is_refused, parse, resolved, typed_in

from cvntrade_assets.operations import crypto_signals
from cvntrade_assets.operations.condition import Condition
from cvntrade_assets.operations.crypto_signals import PLAYBOOKS
from cvntrade_assets.operations.diagnosis import diagnose
from cvntrade_assets.operations.facts import Facts
from cvntrade_assets.operations.global_state import Reason, State, judge_state
from cvntrade_assets.operations.global_state import told as reasons_told
from cvntrade_assets.operations.observe import observe
from cvntrade_assets.operations.platform_signals import infra_health, pass_rate, pipeline_success_rate
from cvntrade_assets.operations.severity import (
    ESCALATES_TO,
    STANCES,
    STATE_STANCES,
    condition_of,
    condition_of_state,
    next_step,
)
from cvntrade_assets.operations.signals import SIGNALS, Level, Observation, Scope
from cvntrade_assets.operations.taxonomy import TAXONOMY, Code, Role, Severity

SETTINGS = given_settings()
OK, WARNING, CRITICAL, UNKNOWN = Level
P0, P1, P2, P3 = Severity
PLATFORM, MLOPS, ML = Role.PLATFORM_OWNER, Role.MLOPS_MAINTAINER, Role.ML_OWNER


def told(seen: Observation, **base_env: str) -> Condition | None:
    return condition_of(seen, ago(hours=1), settings=given_settings(**base_env))


# §8 and §4: critical, warning, unknown, owner
TABLE = {
    "infra_health": (P0, P2, P2, PLATFORM),
    "pipeline_success_rate": (P1, P2, P2, MLOPS),
    "pipeline_latency": (P2, P3, None, MLOPS),
    "pass_rate": (P1, P1, P2, MLOPS),
    "f1_buy_delta_vs_baseline": (P2, P3, None, ML),
    "screening_testing_gap": (P2, P3, None, ML),
    "std_f1_buy": (P2, P3, None, ML),
    "sortino": (P2, P3, None, ML),
    "sl_pct": (P2, P3, None, ML),
    "timeout_pct": (P2, P3, None, ML),
    "model_freshness": (P2, P3, None, ML),
    "challenger_count": (P2, P3, P2, ML),
    "candle_freshness": (P2, P3, P3, MLOPS),
    "model_overdue": (P2, P3, None, ML),
    "negative_sortino_runs": (P2, P3, None, ML),
    "barren_days": (P1, None, P2, MLOPS),
    "useful_run_age": (None, P3, P2, MLOPS),
    "drift": (P2, P3, None, ML),
}


def test_every_signal_has_its_stance():
    assert set(TABLE) == set(SIGNALS) == set(STANCES)


@pytest.mark.parametrize("signal", TABLE)
def test_how_bad_and_whose_each_level_is(signal):
    critical, warning, unknown, owner = TABLE[signal]
    for level, severity in ((CRITICAL, critical), (WARNING, warning), (UNKNOWN, unknown), (OK, None)):
        found = told(observed(signal, level))
        if severity is None:
            assert found is None
        else:
            assert found is not None
            assert (found.severity, found.owner) == (severity, owner)


def test_where_nothing_has_run_yet_what_a_run_would_tell_is_no_alarm():
    new = replace(facts(), sessions=(), last_useful_at=None)
    alike = {"pass_rate", "barren_days", "useful_run_age"}

    def alarms(some: Facts) -> set[str]:
        return {each.signal for each in observe(some, SETTINGS) if told(each) is not None} & alike

    assert alarms(new) == set()
    # What cannot be read is another matter, and so is what never brought anything.
    assert alarms(replace(new, trouble={"sessions": "no answer"})) == alike
    assert alarms(replace(new, trouble={"useful": "no answer"})) == {"useful_run_age"}
    assert alarms(replace(new, sessions=(session(0, 1),))) == {"useful_run_age"}
    found = judge_state(observe(new, SETTINGS), cryptos=UNIVERSE, now=NOW, settings=SETTINGS)
    assert found.state is State.YELLOW
    said = "pass_rate, barren_days and useful_run_age are unknown: no complete run is on record"
    assert reasons_told(found.reasons, of=State.YELLOW) == said


def test_a_condition_says_what_where_since_when_and_what_to_do():
    found = told(replace(observed("sl_pct", CRITICAL), reason="52 % of trades"))
    assert found == Condition(
        key=f"signal/sl_pct/{BTC}",
        source="signals",
        kind="signal/sl_pct",
        severity=P2,
        owner=ML,
        what=f"sl_pct of {BTC} is critical: 52 % of trades",
        where=BTC,
        since=ago(hours=1),
        next_step=(
            f"`cvntrade discovery --crypto {BTC} --set sl_range=1.2,1.5,1.8,2.0`: most trades end at the stop-loss: "
            "wider stops"
        ),
        link=f"/assets/golden_signals?view=checks&checkDetail=sl_pct&partition={BTC}",
    )


def test_the_platform_s_conditions_name_no_subject():
    found = told(observed("infra_health", CRITICAL))
    assert found is not None
    assert (found.key, found.where, found.link) == (
        "signal/infra_health",
        "platform",
        "/assets/global_state?view=checks&checkDetail=infra_health",
    )
    of_job = told(observed("pipeline_success_rate", CRITICAL))
    assert of_job is not None and (of_job.key, of_job.where) == ("signal/pipeline_success_rate/discovery", "discovery")


def test_keys_are_one_to_one_with_signal_and_subject():
    seen = [observed(name, CRITICAL) for name in SIGNALS] + [observed("sl_pct", CRITICAL, "SOLUSDC")]
    keys = [found.key for each in seen if (found := told(each)) is not None]
    assert len(keys) == len(set(keys)) >= len(SIGNALS)


def test_a_worse_level_is_never_less_severe():
    for signal, stance in STANCES.items():
        assert stance.critical is None or stance.warning is None or stance.critical <= stance.warning, signal


# The state


@pytest.mark.parametrize(
    ("state", "severity", "owner"),
    [(State.RED, P0, PLATFORM), (State.ORANGE, P1, MLOPS), (State.YELLOW, P2, Role.OPERATOR)],
)
def test_the_state_s_severity_and_owner(state, severity, owner):
    reasons = [Reason(state, "infra_health is bad", "infra_health", "")]
    found = condition_of_state(state, reasons, ago(hours=2))
    assert found is not None
    assert (found.key, found.source, found.kind) == ("state", "state", "state")
    assert (found.severity, found.owner, found.since) == (severity, owner, ago(hours=2))
    assert found.what == f"the global state is {state}: infra_health. infra_health is bad"
    assert found.link == "/assets/global_state?view=checks&checkDetail=state_is_green"


def test_the_state_is_told_in_a_short_sentence_before_its_reasons():
    signals = ("infra_health", "pass_rate", "barren_days", "useful_run_age", "model_overdue")
    reasons = [Reason(State.ORANGE, f"{name} is bad", name, "") for name in signals]
    found = condition_of_state(State.ORANGE, [*reasons, Reason(State.YELLOW, "worn", "pass_rate", "")], NOW)
    assert found is not None
    title, _, rest = found.what.partition(". ")
    assert title == "the global state is ORANGE: infra_health, pass_rate and 3 more"
    assert rest.startswith("infra_health is bad; pass_rate is bad; ") and "ORANGE" not in rest


def test_green_is_nobody_s():
    assert condition_of_state(State.GREEN, [], NOW) is None
    assert set(STATE_STANCES) == set(State) - {State.GREEN}


# Escalation


def test_everybody_has_somebody_else_to_be_escalated_to():
    assert set(ESCALATES_TO) == set(Role)
    assert all(above is not role for role, above in ESCALATES_TO.items())
    for role in Role:
        reached, at = set(), role
        for _ in Role:
            at = ESCALATES_TO[at]
            reached.add(at)
        assert {MLOPS, PLATFORM} <= reached, role


# Beside the codes of §7


@pytest.mark.parametrize(
    ("signal", "level", "code"),
    [
        ("infra_health", CRITICAL, Code.INFRA_SATURATED),
        ("pipeline_success_rate", CRITICAL, Code.PIPELINE_DEGRADED),
        ("pass_rate", WARNING, Code.NO_CANDIDATES),
        ("pass_rate", CRITICAL, Code.NO_CANDIDATES),
        ("f1_buy_delta_vs_baseline", CRITICAL, Code.ML_USELESS),
        ("f1_buy_delta_vs_baseline", WARNING, Code.ML_MARGINAL),
        ("screening_testing_gap", CRITICAL, Code.SCREENING_OVERFIT),
        ("std_f1_buy", CRITICAL, Code.ML_UNSTABLE),
        ("sortino", CRITICAL, Code.EXECUTION_MISMATCH),
        ("sl_pct", CRITICAL, Code.SL_TOO_TIGHT),
        ("timeout_pct", CRITICAL, Code.HORIZON_TOO_SHORT),
    ],
)
def test_a_signal_and_the_code_of_the_same_trouble_agree(signal, level, code):
    stance, entry = STANCES[signal], TAXONOMY[code]
    assert (stance.of(level), stance.owner) == (entry.severity, entry.owner)


@tried(deadline=None, max_examples=50)
@given(records())
def test_no_record_has_a_code_and_a_signal_that_contradict_each_other(some):
    """Whatever a record says: no signal is worse or milder than the code whose playbook it follows, nor another's."""
    for signal in PLAYBOOKS:
        seen = observed_of(some, signal)
        condition = told(seen)
        if condition is None or "code" not in seen.inputs:
            continue
        entry = TAXONOMY[Code(str(seen.inputs["code"]))]
        if signal in ("sortino", "negative_sortino_runs", "f1_buy_delta_vs_baseline"):
            # ML_EXPLOITABLE and ML_SOLID are no trouble: the gates that refused are the signal's owner's.
            assert entry.owner in (ML, Role.OPERATOR)
        elif condition.severity is P2:
            assert (entry.severity, entry.owner) == (condition.severity, condition.owner), signal


def observed_of(some: Any, signal: str) -> Observation:
    findings = diagnose(some).findings
    facts = crypto(
        some.crypto,
        evaluation=evaluation(
            primary_code=str(findings[0].code),
            f1_buy=some.f1_buy,
            baseline_f1_buy=some.baseline_f1_buy,
            screening_f1_buy=some.screening_f1_buy,
            last_fold_f1_buy=some.last_fold_f1_buy,
            std_f1_buy=some.std_f1_buy,
            sortino=some.sortino,
            sl_pct=some.sl_pct,
            timeout_pct=some.timeout_pct,
            n_trades=some.n_trades,
            recent_sortinos=(some.sortino, some.sortino),
            next_commands={str(found.code): found.next_command for found in findings},
        ),
    )
    found: Observation = getattr(crypto_signals, signal)(facts, NOW, SETTINGS)
    return found


# Next steps


def assert_real(step: str) -> None:
    assert step.startswith("`cvntrade "), step
    commands = typed_in(step)
    assert commands
    for command in commands:
        found = parse(command)
        assert not is_refused(command), command
        assert resolved(found.get("pairs") or []).grid, command


@pytest.mark.parametrize("signal", SIGNALS)
@pytest.mark.parametrize("level", [WARNING, CRITICAL, UNKNOWN])
@pytest.mark.parametrize(
    "base_env",
    [{}, {"CVN_DEFAULT_PTE": "H6_SL3.0_TP3.0"}, {"CVN_DEFAULT_PTE": "H6_SL0.1_TP0.3", "CVN_DEFAULT_N_FOLDS": "7"}],
)
def test_every_next_step_is_a_command_that_can_be_typed(signal, level, base_env):
    step = next_step(observed(signal, level), given_settings(**base_env))
    assert_real(step)
    if SIGNALS[signal].scope is Scope.CRYPTO:
        assert parse(typed_in(step)[0])["crypto"] == [BTC]


@pytest.mark.parametrize("state", STATE_STANCES)
def test_every_step_of_a_state_can_be_typed(state):
    found = condition_of_state(state, [], NOW)
    assert found is not None
    assert_real(found.next_step)


@tried(deadline=None, max_examples=25)
@given(records())
def test_the_next_step_of_any_evaluation_can_be_typed(some):
    for signal in PLAYBOOKS:
        seen = observed_of(some, signal)
        step = next_step(seen, SETTINGS)
        assert_real(step)
        if "next_command" in seen.inputs:
            assert typed_in(step)[0] == seen.inputs["next_command"]


USUAL = f"cvntrade discovery --crypto {BTC} --set"


@pytest.mark.parametrize(
    ("signal", "command"),
    [
        ("sl_pct", f"{USUAL} sl_range=1.2,1.5,1.8,2.0"),
        ("timeout_pct", f"{USUAL} horizons=H5,H6"),
        ("f1_buy_delta_vs_baseline", f"{USUAL} horizons=H1,H2,H3,H5,H6"),
        ("std_f1_buy", f"{USUAL} n_folds=5"),
        ("screening_testing_gap", f"cvntrade backtesting --crypto {BTC} --set hpo_trials=20"),
        ("model_overdue", f"cvntrade retrain --crypto {BTC}"),
        ("model_freshness", f"cvntrade retrain --crypto {BTC}"),
        ("candle_freshness", f"cvntrade backfill --crypto {BTC} --select candles --wait"),
        ("drift", f"cvntrade backfill --crypto {BTC}"),
        ("infra_health", "cvntrade status"),
        ("pipeline_success_rate", "cvntrade status"),
        ("challenger_count", "cvntrade registry list"),
    ],
)
def test_the_manual_s_step_where_no_evaluation_says_more(signal, command):
    assert typed_in(next_step(observed(signal, CRITICAL), SETTINGS))[0] == command


def test_no_candidates_asks_for_a_wider_grid_on_the_core():
    seen = pass_rate([session(0, 0), session(1, 0), session(2, 0)], NOW, SETTINGS)
    [command] = typed_in(next_step(seen, given_settings(CVN_CORE_GROUPS="alts,btc-core")))
    given_ = parse(command)
    assert given_["group"] == "alts"
    assert len(resolved(given_["pairs"]).grid) > len(SETTINGS.grid)


def test_a_crypto_that_only_warns_is_watched():
    seen = crypto_signals.sl_pct(crypto(evaluation=evaluation(sl_pct=0.4)), NOW, SETTINGS)
    assert typed_in(next_step(seen, SETTINGS)) == [f"cvntrade monitoring --crypto {BTC}"]


def test_what_the_run_had_set_is_set_again():
    tight = record(sortino=-1.0, tp_pct=0.3, sl_pct=0.6, timeout_pct=0.1, run_settings={"CVN_BACKTEST_DAYS": "92"})
    step = next_step(observed_of(tight, "sl_pct"), SETTINGS)
    assert step == (
        f"`cvntrade discovery --crypto {BTC} --set backtest_days=92 --set sl_range=1.2,1.5,1.8,2.0`: the playbook of "
        "SL_TOO_TIGHT, the stop-loss is probably too tight (suspected, not proved)"
    )


def test_infra_steps_say_what_to_look_at():
    down = next_step(infra_health(infra(down=("SensorDaemon",)), NOW, SETTINGS), SETTINGS)
    assert "starts it again" in down
    full = next_step(infra_health(infra(volume_used=0.9), NOW, SETTINGS), SETTINGS)
    assert all(word in full for word in ("clear old artifacts", "`cvntrade stop RUN_ID`", "`df -h`", "`top`"))
    dark = next_step(infra_health(None, NOW, SETTINGS), SETTINGS)
    assert "CVN_PROMETHEUS_URL" in dark


def test_a_failing_job_s_step_is_the_playbook_s():
    seen = pipeline_success_rate(job("retrain", 1, 9), NOW, SETTINGS)
    assert "it prints the command that resumes just what failed" in next_step(seen, SETTINGS)
