"""A crypto's signals: both sides of every threshold of §2, the codes beside them, and what is undefined is unknown."""

import pytest
from correlation_records import by_delta, complete, record, records
from hypothesis import given, settings
from hypothesis import strategies as st
from observed_facts import BTC, NOW, ago, crypto, evaluation, given_settings, infra

from cvntrade_assets.operations import crypto_signals
from cvntrade_assets.operations.correlation_data import AnyRecord, Platform
from cvntrade_assets.operations.criteria import judge
from cvntrade_assets.operations.crypto_signals import PLAYBOOKS, drift, negative_sortino_runs
from cvntrade_assets.operations.diagnosis import diagnose
from cvntrade_assets.operations.facts import CryptoFacts, DriftFacts, EvaluationFacts
from cvntrade_assets.operations.platform_signals import infra_health
from cvntrade_assets.operations.signals import Level, Observation
from cvntrade_assets.operations.taxonomy import Code

SETTINGS = given_settings()
OK, WARNING, CRITICAL, UNKNOWN = Level.OK, Level.WARNING, Level.CRITICAL, Level.UNKNOWN


def look(signal: str, facts: CryptoFacts) -> Observation:
    found: Observation = getattr(crypto_signals, signal)(facts, NOW, SETTINGS)
    assert (found.signal, found.subject) == (signal, facts.crypto)
    return found


@pytest.mark.parametrize(
    ("signal", "changes", "level"),
    [
        # delta < 15 points warns, <= 0 is critical
        ("f1_buy_delta_vs_baseline", {"f1_buy": 0.3, "baseline_f1_buy": 0.4}, CRITICAL),
        ("f1_buy_delta_vs_baseline", {"f1_buy": 0.4, "baseline_f1_buy": 0.4}, CRITICAL),
        ("f1_buy_delta_vs_baseline", {"f1_buy": 0.4001, "baseline_f1_buy": 0.4}, WARNING),
        ("f1_buy_delta_vs_baseline", {"f1_buy": 0.5499, "baseline_f1_buy": 0.4}, WARNING),
        # In floating point the difference is a little less than 0.15, and is not less.
        ("f1_buy_delta_vs_baseline", {"f1_buy": 0.6, "baseline_f1_buy": 0.45}, OK),
        ("f1_buy_delta_vs_baseline", {"f1_buy": 0.55, "baseline_f1_buy": 0.4}, OK),
        # gap > 0.15 warns, > 0.30 is critical
        ("screening_testing_gap", {"screening_f1_buy": 0.5, "last_fold_f1_buy": 0.6}, OK),
        ("screening_testing_gap", {"screening_f1_buy": 0.65, "last_fold_f1_buy": 0.5}, OK),
        ("screening_testing_gap", {"screening_f1_buy": 0.6501, "last_fold_f1_buy": 0.5}, WARNING),
        ("screening_testing_gap", {"screening_f1_buy": 0.8, "last_fold_f1_buy": 0.5}, WARNING),
        ("screening_testing_gap", {"screening_f1_buy": 0.8001, "last_fold_f1_buy": 0.5}, CRITICAL),
        # 0.05-0.10 warns, > 0.10 is critical
        ("std_f1_buy", {"std_f1_buy": 0.0499}, OK),
        ("std_f1_buy", {"std_f1_buy": 0.05}, WARNING),
        ("std_f1_buy", {"std_f1_buy": 0.10}, WARNING),
        ("std_f1_buy", {"std_f1_buy": 0.1001}, CRITICAL),
        # 0 to 0.5 warns, < 0 is critical
        ("sortino", {"sortino": 0.5001}, OK),
        ("sortino", {"sortino": 0.5}, WARNING),
        ("sortino", {"sortino": 0.0}, WARNING),
        ("sortino", {"sortino": -0.0001}, CRITICAL),
        # 35-50 % warns, > 50 % is critical
        ("sl_pct", {"sl_pct": 0.3499}, OK),
        ("sl_pct", {"sl_pct": 0.35}, WARNING),
        ("sl_pct", {"sl_pct": 0.50}, WARNING),
        ("sl_pct", {"sl_pct": 0.5001}, CRITICAL),
        # 30-40 % warns, > 40 % is critical
        ("timeout_pct", {"timeout_pct": 0.2999}, OK),
        ("timeout_pct", {"timeout_pct": 0.30}, WARNING),
        ("timeout_pct", {"timeout_pct": 0.40}, WARNING),
        ("timeout_pct", {"timeout_pct": 0.4001}, CRITICAL),
    ],
)
def test_both_sides_of_every_limit(signal, changes, level):
    found = look(signal, crypto(evaluation=evaluation(**changes)))
    assert found.level is level
    assert found.value is not None and found.observed_at == NOW


def test_a_reason_names_the_number_the_limit_and_its_setting():
    found = look("sl_pct", crypto(evaluation=evaluation(sl_pct=0.52)))
    assert found.reason == (
        "trades that the stop-loss ended 52 % (120 trades): more than 50 % is critical (CVN_SIGNAL_SL_CRITICAL)"
    )
    fine = look("sl_pct", crypto(evaluation=evaluation(sl_pct=0.2)))
    assert fine.reason.endswith(": fine, at least 35 % warns (CVN_SIGNAL_SL_WARNING)")


@pytest.mark.parametrize("signal", PLAYBOOKS)
def test_a_crypto_that_was_never_evaluated_is_unknown(signal):
    found = look(signal, crypto(evaluation=None))
    assert (found.level, found.value) == (UNKNOWN, None)
    assert "never evaluated" in found.reason


@pytest.mark.parametrize(
    ("signal", "changes"),
    [
        ("screening_testing_gap", {"screening_f1_buy": None}),
        ("screening_testing_gap", {"last_fold_f1_buy": None}),
        ("std_f1_buy", {"std_f1_buy": None}),
        ("sortino", {"sortino": None}),
        ("sl_pct", {"sl_pct": None, "n_trades": 0}),
        ("timeout_pct", {"timeout_pct": None, "n_trades": 0}),
        ("sortino", {"sortino": float("nan")}),
        ("sortino", {"sortino": float("inf")}),
        ("f1_buy_delta_vs_baseline", {"f1_buy": float("nan")}),
        ("negative_sortino_runs", {"recent_sortinos": ()}),
    ],
)
def test_what_is_undefined_is_unknown_and_never_fine(signal, changes):
    found = look(signal, crypto(evaluation=evaluation(**changes)))
    assert (found.level, found.value) == (UNKNOWN, None)
    assert found.reason


def test_a_lacking_number_is_named():
    found = look("screening_testing_gap", crypto(evaluation=evaluation(screening_f1_buy=None)))
    assert found.reason == "the newest evaluation has no screening_f1_buy"


LEVELS = (OK, WARNING, CRITICAL)
# What changes, the rest of what the value is made of, and whether more of it is worse.
DIRECTIONS = {
    "f1_buy_delta_vs_baseline": ("f1_buy", {"baseline_f1_buy": 0.0}, False),
    "screening_testing_gap": ("screening_f1_buy", {"last_fold_f1_buy": 0.0}, True),
    "std_f1_buy": ("std_f1_buy", {}, True),
    "sortino": ("sortino", {}, False),
    "sl_pct": ("sl_pct", {}, True),
    "timeout_pct": ("timeout_pct", {}, True),
}


@given(st.sampled_from(sorted(DIRECTIONS)), st.floats(-1, 1), st.floats(-1, 1))
def test_a_worse_value_never_stands_better(signal, one, other):
    name, rest, more_is_worse = DIRECTIONS[signal]
    better, worse = sorted((one, other), reverse=not more_is_worse)
    found = [look(signal, crypto(evaluation=evaluation(**{name: value}, **rest))) for value in (better, worse)]
    assert LEVELS.index(found[0].level) <= LEVELS.index(found[1].level)


# negative_sortino_runs


@pytest.mark.parametrize(
    ("ratios", "row", "level"),
    [
        ((0.0, -1.0), 0, OK),
        ((1.0, -1.0, -1.0), 0, OK),
        ((-1.0, 0.3), 1, OK),
        ((-1.0, -0.1), 2, WARNING),
        ((-1.0, -0.1, -2.0, 1.0), 3, WARNING),
        # An undefined one is not negative, and ends the row.
        ((None, -1.0, -1.0), 0, OK),
        ((-1.0, None, -1.0), 1, OK),
    ],
)
def test_two_negative_sortino_ratios_in_a_row_recur(ratios, row, level):
    found = look("negative_sortino_runs", crypto(evaluation=evaluation(recent_sortinos=ratios)))
    assert (found.value, found.level) == (row, level)


def test_operators_say_how_often_is_recurrent():
    patient = given_settings(CVN_STATE_SORTINO_RUNS="3")
    twice = crypto(evaluation=evaluation(recent_sortinos=(-1.0, -1.0)))
    assert negative_sortino_runs(twice, NOW, patient).level is OK


# drift


@pytest.mark.parametrize("level", [OK, WARNING, CRITICAL])
def test_drift_is_what_its_report_says(level):
    found = drift(crypto(drift=DriftFacts(ago(hours=1), level, 0.4, "24 of 60 features")), NOW, SETTINGS)
    assert (found.level, found.value) == (level, 0.4)
    assert found.reason == "24 of 60 features (report of 2025-09-15 09:17 UTC)"


def test_drift_without_a_report_or_a_share_is_unknown():
    assert drift(crypto(drift=None), NOW, SETTINGS).level is UNKNOWN
    found = drift(crypto(drift=DriftFacts(ago(hours=1), UNKNOWN, None, "too few candles")), NOW, SETTINGS)
    assert (found.level, found.reason[:16]) == (UNKNOWN, "too few candles ")


@pytest.mark.parametrize(("days", "level"), [(7, OK), (7.01, UNKNOWN)])
def test_an_old_drift_report_says_nothing_of_today(days, level):
    found = drift(crypto(drift=DriftFacts(ago(days=days), OK, 0.0, "none of 60 features")), NOW, SETTINGS)
    assert found.level is level


# beside the diagnosis codes


def facts_of(record: AnyRecord) -> CryptoFacts:
    commands = {str(found.code): found.next_command for found in diagnose(record).findings}
    return crypto(
        evaluation=EvaluationFacts(
            recorded_at=ago(hours=1),
            primary_code=str(diagnose(record).primary.code),
            f1_buy=record.f1_buy,
            baseline_f1_buy=record.baseline_f1_buy,
            screening_f1_buy=record.screening_f1_buy,
            last_fold_f1_buy=record.last_fold_f1_buy,
            std_f1_buy=record.std_f1_buy,
            sortino=record.sortino,
            sl_pct=record.sl_pct,
            timeout_pct=record.timeout_pct,
            n_trades=record.n_trades,
            recent_sortinos=(record.sortino,),
            next_commands=commands,
        )
    )


@settings(deadline=None, max_examples=80)
@given(records())
def test_signals_are_critical_exactly_where_their_codes_trigger(some):
    judged, facts = judge(some), facts_of(some)
    same = {
        "f1_buy_delta_vs_baseline": Code.ML_USELESS,
        "screening_testing_gap": Code.SCREENING_OVERFIT,
        "std_f1_buy": Code.ML_UNSTABLE,
        "sl_pct": Code.SL_TOO_TIGHT,
        "timeout_pct": Code.HORIZON_TOO_SHORT,
    }
    for signal, code in same.items():
        level = {True: CRITICAL, None: UNKNOWN}.get(judged[code].triggered)
        found = look(signal, facts)
        assert (found.level is CRITICAL) is (level is CRITICAL), signal
        assert (found.level is UNKNOWN) is (level is UNKNOWN), signal
    if judged[Code.EXECUTION_MISMATCH].triggered:
        assert look("sortino", facts).level is CRITICAL


@settings(deadline=None)
@given(st.none() | st.integers(0, 5), st.none() | st.floats(0, 1), st.none() | st.floats(0, 1))
def test_infra_is_critical_where_it_is_called_saturated_but_for_the_processors(oom, volume, cpu):
    """§2 lets processors warn only, §7 calls over 90 % saturated: the one difference between the two tables."""

    platform = Platform(success_rate=1.0, oom_kills=oom, pvc_used=volume, cpu_used=cpu)
    saturated = judge(record(platform=platform))[Code.INFRA_SATURATED].triggered is True
    found = infra_health(infra(oom_kills=oom, volume_used=volume, cpu_used=cpu), NOW, SETTINGS)
    by_cpu = cpu is not None and cpu > 0.9 + 1e-9
    if found.level is CRITICAL:
        assert saturated
    elif saturated:
        assert by_cpu and found.level is WARNING


def test_a_signal_carries_the_command_of_the_code_that_speaks_of_it():
    tight = record(sortino=-1.0, tp_pct=0.3, sl_pct=0.6, timeout_pct=0.1, run_settings={"CVN_BACKTEST_DAYS": "92"})
    facts = facts_of(tight)
    command = f"cvntrade discovery --crypto {BTC} --set backtest_days=92 --set sl_range=1.2,1.5,1.8,2.0"
    for signal, code in (("sl_pct", Code.SL_TOO_TIGHT), ("sortino", Code.EXECUTION_MISMATCH)):
        inputs = look(signal, facts).inputs
        assert (inputs["next_command"], inputs["code"]) == (command, code)
    assert "next_command" not in look("timeout_pct", facts).inputs
    assert look("f1_buy_delta_vs_baseline", facts).inputs["code"] == Code.ML_SOLID


def test_a_losing_model_that_is_worth_nothing_gets_other_labels_first():

    facts = facts_of(record(sortino=-1.0, **by_delta(0.3, 0.4), **complete(0, {"sortino": 3})))
    assert look("sortino", facts).inputs["code"] == Code.ML_USELESS
