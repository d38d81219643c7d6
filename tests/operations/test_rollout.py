"""Staged rollout: every criterion of every gate with data that must fail it and data that must not; who needs one."""

from dataclasses import replace
from math import nan

import pytest

from cvntrade_assets.operations.factors import FACTORS, Factor
from cvntrade_assets.operations.guardrails import GUARDRAILS, Verdict
from cvntrade_assets.operations.rollout import (
    Criterion,
    GateRecord,
    Judgement,
    Measured,
    Noted,
    Outcome,
    RolloutStage,
    RunFacts,
    StageFacts,
    judge,
    passed_stages,
    read_tag,
    rollout_prefix,
    rollout_tag,
    scope_of,
    stand,
)

PREFLIGHT, CANARY, FULL = RolloutStage
BOUNDED = ("rows_within_limit", "rows_enough", "memory_within_limit", "minutes_within_limit")
PASSES = tuple(Noted(name, Verdict.PASSED, f"{name} is fine") for name in BOUNDED)
RUN = RunFacts("0123456789ab", "BTCUSDC", "mild", "SUCCESS", noted=PASSES, results=1)
OTHER = replace(RUN, run_id="ba9876543210", variant="none")


def facts(*runs: RunFacts, canary: tuple[RunFacts, ...] = ()) -> StageFacts:
    """What is on record when exactly these runs are expected."""
    return StageFacts([(run.variant, run.crypto) for run in runs], runs, canary)


def noting(guardrail: str, verdict: Verdict) -> RunFacts:
    """A run with one evaluation in place of the one that passed."""
    kept = tuple(each for each in PASSES if each.guardrail != guardrail)
    return replace(RUN, noted=(*kept, Noted(guardrail, verdict, f"{guardrail} says 12,345")))


def outcomes(judgement: Judgement) -> dict[str, Outcome]:
    return {each.name: each.outcome for each in judgement.criteria}


def only_failure(judgement: Judgement) -> Criterion:
    [failed] = judgement.failed
    assert not judgement.passed
    assert failed.found and failed.advice
    assert failed.name in judgement.summary and failed.found in judgement.summary and failed.advice in judgement.summary
    return failed


# what passes


def test_a_clean_preflight_passes_every_criterion() -> None:
    judgement = judge(PREFLIGHT, facts(RUN))
    assert judgement.passed and set(outcomes(judgement).values()) == {Outcome.PASSED}
    assert "rows_within_limit is fine" in judgement.criteria[2].found


def test_a_clean_canary_passes_and_its_sortino_ratio_is_not_judged_yet() -> None:
    judgement = judge(CANARY, facts(RUN, OTHER))
    assert judgement.passed
    assert outcomes(judgement) == {
        "runs_succeeded": Outcome.PASSED,
        "results_left": Outcome.PASSED,
        "workers_kept": Outcome.PASSED,
        "no_alert": Outcome.PASSED,
        "sortino_positive": Outcome.NOT_JUDGED,
    }
    assert judgement.summary == (
        "The canary gate passed: 4 criteria hold; "
        "sortino_positive is not judged yet: no result carries a Sortino ratio."
    )


def test_a_clean_full_stage_passes_and_its_metrics_are_not_judged_yet() -> None:
    metrics = {"f1_buy": Measured(0.4)}
    judgement = judge(FULL, facts(replace(RUN, metrics=metrics), canary=(replace(RUN, metrics=metrics),)))
    assert judgement.passed and outcomes(judgement)["metrics_inside"] is Outcome.NOT_JUDGED


def test_a_gate_of_which_nothing_was_judged_has_not_passed() -> None:
    assert not Judgement(CANARY, (Criterion("c", Outcome.NOT_JUDGED, "d", "f"),)).passed


@pytest.mark.parametrize("stage", RolloutStage)
def test_what_a_variant_chose_is_no_alert(stage: RolloutStage) -> None:
    assert judge(stage, facts(noting("rows_within_limit", Verdict.ALLOWED))).passed


# what fails


@pytest.mark.parametrize("stage", RolloutStage)
@pytest.mark.parametrize("status", ["FAILURE", "CANCELED", "STARTED", "QUEUED"])
def test_a_run_without_success_fails_every_gate(stage: RolloutStage, status: str) -> None:
    failed = only_failure(judge(stage, facts(OTHER, replace(RUN, status=status))))
    assert failed.name == "runs_succeeded"
    assert failed.found == f"run 01234567 (BTCUSDC, mild) ended as {status}"


@pytest.mark.parametrize("stage", RolloutStage)
def test_a_missing_run_fails_every_gate(stage: RolloutStage) -> None:
    failed = only_failure(judge(stage, replace(facts(RUN), expected=[("mild", "BTCUSDC"), ("none", "ETHUSDC")])))
    assert (failed.name, failed.found) == ("runs_succeeded", "ETHUSDC, none has no run")


@pytest.mark.parametrize("stage", RolloutStage)
def test_a_stage_of_no_variants_fails_every_gate(stage: RolloutStage) -> None:
    """Nothing was asked for and nothing was missing: that is no pass."""
    judgement = judge(stage, StageFacts([], []))
    assert not judgement.passed and "the stage consists of no run" in judgement.summary


def test_a_stage_without_any_run_fails_everything_that_it_can() -> None:
    judgement = judge(PREFLIGHT, StageFacts([("mild", "BTCUSDC")], []))
    assert not judgement.passed
    assert {each.name for each in judgement.failed} == {
        "runs_succeeded",
        "rows_within_bounds",
        "memory_within_bounds",
        "minutes_within_bounds",
    }


@pytest.mark.parametrize("stage", [CANARY, FULL])
def test_a_run_of_a_part_of_the_chain_fails(stage: RolloutStage) -> None:
    failed = only_failure(judge(stage, facts(OTHER, replace(RUN, results=0))))
    assert (failed.name, failed.found) == ("results_left", "run 01234567 (BTCUSDC, mild) left no result")


def test_a_lost_worker_fails_the_canary_although_its_retry_succeeded() -> None:
    failed = only_failure(judge(CANARY, facts(replace(RUN, lost=("attempt 5 vanished",)))))
    assert (failed.name, failed.found) == ("workers_kept", "run 01234567 (BTCUSDC, mild): attempt 5 vanished")


@pytest.mark.parametrize("verdict", [Verdict.BLOCKED, Verdict.CRITICAL, Verdict.UNKNOWN])
def test_what_stops_a_run_fails_the_preflight(verdict: Verdict) -> None:
    failed = only_failure(judge(PREFLIGHT, facts(noting("variants_apart", verdict))))
    assert failed.name == "nothing_blocked"
    assert f"variants_apart {verdict}: variants_apart says 12,345" in failed.found


def test_a_warning_of_something_else_does_not_fail_the_preflight() -> None:
    assert judge(PREFLIGHT, facts(noting("features_within_limit", Verdict.WARNED))).passed


@pytest.mark.parametrize("stage", [CANARY, FULL])
@pytest.mark.parametrize("verdict", [each for each in Verdict if each not in (Verdict.PASSED, Verdict.ALLOWED)])
def test_any_alert_fails_canary_and_full(stage: RolloutStage, verdict: Verdict) -> None:
    failed = only_failure(judge(stage, facts(OTHER, noting("run_in_time", verdict))))
    assert failed.name == "no_alert"
    assert failed.found == f"run 01234567 (BTCUSDC, mild): run_in_time {verdict}: run_in_time says 12,345"


@pytest.mark.parametrize("stage", [CANARY, FULL])
def test_a_run_that_no_guardrail_judged_fails(stage: RolloutStage) -> None:
    failed = only_failure(judge(stage, facts(OTHER, replace(RUN, noted=()))))
    assert failed.found == "run 01234567 (BTCUSDC, mild) left no guardrail evaluation"


@pytest.mark.parametrize("verdict", [Verdict.WARNED, Verdict.OVERRIDDEN])
@pytest.mark.parametrize("guardrail", BOUNDED)
def test_preflight_bounds_are_kept(guardrail: str, verdict: Verdict) -> None:
    failed = only_failure(judge(PREFLIGHT, facts(noting(guardrail, verdict))))
    assert failed.name == f"{guardrail.split('_')[0]}_within_bounds"
    assert f"{guardrail} {verdict}: {guardrail} says 12,345" in failed.found


@pytest.mark.parametrize("guardrail", BOUNDED)
def test_preflight_bounds_that_were_not_evaluated_are_not_kept(guardrail: str) -> None:
    kept = tuple(each for each in PASSES if each.guardrail != guardrail)
    failed = only_failure(judge(PREFLIGHT, facts(replace(RUN, noted=kept))))
    assert failed.found == f"run 01234567 (BTCUSDC, mild): {guardrail} was not evaluated"


@pytest.mark.parametrize("sortino", [0.0, -0.3, nan])
def test_a_sortino_ratio_is_judged_as_soon_as_there_is_one(sortino: float) -> None:
    failed = only_failure(judge(CANARY, facts(replace(OTHER, sortino=0.8), replace(RUN, sortino=sortino))))
    assert (failed.name, failed.found) == (
        "sortino_positive",
        f"run 01234567 (BTCUSDC, mild) has a Sortino ratio of {sortino:.2f}",
    )


def test_a_sortino_ratio_that_only_one_lacks_fails() -> None:
    failed = only_failure(judge(CANARY, facts(replace(OTHER, sortino=0.8), RUN)))
    assert failed.found == "run 01234567 (BTCUSDC, mild) carries no Sortino ratio although others do"


def test_positive_sortino_ratios_pass() -> None:
    judgement = judge(CANARY, facts(replace(OTHER, sortino=0.8), replace(RUN, sortino=0.01)))
    assert judgement.passed and outcomes(judgement)["sortino_positive"] is Outcome.PASSED


@pytest.mark.parametrize(
    ("value", "inside"), [(0.3, True), (0.4, True), (0.5, True), (0.29, False), (0.51, False), (nan, False)]
)
def test_metrics_are_held_against_the_canarys_interval(value: float, inside: bool) -> None:
    canary = replace(RUN, metrics={"f1_buy": Measured(0.4, 0.3, 0.5)})
    judgement = judge(FULL, facts(replace(RUN, metrics={"f1_buy": Measured(value)}), canary=(canary,)))
    assert judgement.passed == inside
    if not inside:
        assert only_failure(judgement).found == (
            f"run 01234567 (BTCUSDC, mild) has f1_buy {value:.4f}, outside [0.3000, 0.5000]"
        )


def test_metrics_are_not_compared_across_cryptos_or_variants() -> None:
    canary = replace(RUN, metrics={"f1_buy": Measured(0.4, 0.3, 0.5)})
    far = {"f1_buy": Measured(0.9)}
    elsewhere = (replace(RUN, crypto="ETHUSDC", metrics=far), replace(OTHER, metrics=far))
    judgement = judge(FULL, facts(*elsewhere, canary=(canary,)))
    assert judgement.passed and outcomes(judgement)["metrics_inside"] is Outcome.NOT_JUDGED


# what the stages are


def test_each_stage_covers_more() -> None:
    variants, cryptos = ("none", "mild", "aggressive"), ("BTCUSDC", "ETHUSDC")
    assert scope_of(PREFLIGHT, variants, cryptos).pairs == [("none", "BTCUSDC")]
    assert scope_of(CANARY, variants, cryptos).pairs == [(variant, "BTCUSDC") for variant in variants]
    assert len(scope_of(FULL, variants, cryptos).pairs) == 6


def test_every_stage_has_its_guardrail() -> None:
    assert [f"rollout_{stage}" for stage in RolloutStage] == [
        name for name in GUARDRAILS if name.startswith("rollout_") and name != "rollout_passed"
    ]


@pytest.mark.parametrize("stage", RolloutStage)
def test_tags_are_read_back(stage: RolloutStage) -> None:
    assert read_tag(rollout_tag("cleanlab-1-2", stage)) == ("cleanlab-1-2", stage)


@pytest.mark.parametrize("tag", [None, "", "canary", ":canary", "cleanlab-1-2", "cleanlab-1-2:", "cleanlab-1-2:later"])
def test_what_is_no_tag_is_none(tag: str | None) -> None:
    assert read_tag(tag) is None


def test_another_request_is_another_rollout() -> None:
    factor = FACTORS["cleanlab"]
    same = rollout_prefix(factor, "defi", ("off", "filter"), {"CVN_SEED": "1"}, {})
    assert same == rollout_prefix(factor, "defi", ("off", "filter"), {"CVN_SEED": "1"}, {})
    assert same.startswith("cleanlab-")
    changed = Factor(factor.name, factor.category, factor.kind, {"off": {}}, factor.staged, factor.meaning)
    others = {
        rollout_prefix(changed, "defi", ("off", "filter"), {"CVN_SEED": "1"}, {}),
        rollout_prefix(factor, "btc-core", ("off", "filter"), {"CVN_SEED": "1"}, {}),
        rollout_prefix(factor, "defi", ("off",), {"CVN_SEED": "1"}, {}),
        rollout_prefix(factor, "defi", ("off", "filter"), {}, {}),
        rollout_prefix(factor, "defi", ("off", "filter"), {"CVN_SEED": "1"}, {"CVN_MAX_FEATURES": "30"}),
    }
    assert len(others | {same}) == 6


# who needs one

CLEANLAB = FACTORS["cleanlab"]
ID = "cleanlab-0a1b2c3d-e4f5a6"
PASSED = GateRecord(ID, "cleanlab", CLEANLAB.definition(), CANARY, "defi", True, frozenset({"off", "filter"}))


def test_a_factor_that_is_not_marked_needs_none() -> None:
    for variants in ({}, {"calibration": "platt", "cost": "bps_10"}):
        standing = stand(variants, [], None)
        assert not standing.needed and standing.satisfied


@pytest.mark.parametrize("name", [name for name, factor in FACTORS.items() if factor.staged])
def test_a_marked_factor_is_refused_without_a_canary(name: str) -> None:
    standing = stand({name: next(iter(FACTORS[name].variants)), "calibration": "platt"}, [], None)
    assert standing.needed and not standing.satisfied
    assert name in standing.why and FACTORS[name].staged in standing.why
    assert f"cvntrade rollout --factor {name} --group GROUP" in standing.detail


def test_a_passed_canary_satisfies() -> None:
    standing = stand({"cleanlab": "filter"}, [PASSED], None)
    assert standing.needed and standing.satisfied and ID in standing.detail


@pytest.mark.parametrize(
    ("gates", "reason"),
    [
        ([replace(PASSED, variants=frozenset({"off"}))], "no canary of cleanlab=filter has passed"),
        ([replace(PASSED, stage=PREFLIGHT)], "no canary of cleanlab=filter has passed"),
        ([replace(PASSED, stage=FULL)], "no canary of cleanlab=filter has passed"),
        ([replace(PASSED, factor="focal_loss")], "no canary of cleanlab=filter has passed"),
        ([replace(PASSED, definition="before")], "the variants of cleanlab have changed"),
        ([replace(PASSED, passed=False)], "the canary of cleanlab=filter failed"),
        ([replace(PASSED, passed=False), PASSED], "the canary of cleanlab=filter failed"),
    ],
)
def test_another_canary_does_not(gates: list[GateRecord], reason: str) -> None:
    standing = stand({"cleanlab": "filter"}, gates, None)
    assert not standing.satisfied and reason in standing.detail


def test_a_canary_that_passed_after_one_that_failed_satisfies() -> None:
    assert stand({"cleanlab": "filter"}, [PASSED, replace(PASSED, passed=False)], None).satisfied


def test_every_marked_factor_of_a_run_needs_its_own() -> None:
    standing = stand({"cleanlab": "filter", "focal_loss": "gamma_2"}, [PASSED], None)
    assert not standing.satisfied and "focal_loss" in standing.why


def test_the_preflight_of_a_rollout_needs_nothing_more() -> None:
    assert stand({"cleanlab": "filter"}, [], rollout_tag(ID, PREFLIGHT)).satisfied


@pytest.mark.parametrize(("stage", "before"), [(CANARY, PREFLIGHT), (FULL, CANARY)])
def test_a_later_stage_needs_the_one_before_of_the_same_rollout(stage: RolloutStage, before: RolloutStage) -> None:
    tag, gate = rollout_tag(ID, stage), replace(PASSED, stage=before)
    assert stand({"cleanlab": "filter"}, [gate], tag).satisfied
    for wrong in (
        [],
        [replace(gate, rollout="cleanlab-0a1b2c3d-000000")],
        [replace(gate, passed=False), gate],
        [replace(gate, definition="before")],
        [replace(gate, stage=stage)],
    ):
        standing = stand({"cleanlab": "filter"}, wrong, tag)
        assert not standing.satisfied and f"whose {before} gate has not passed" in standing.detail


def test_the_full_stage_is_for_the_variants_that_its_canary_tried() -> None:
    """What a canary of others does not say outside a rollout, it does not say inside one either."""
    gate = replace(PASSED, variants=frozenset({"off"}))
    standing = stand({"cleanlab": "filter"}, [gate], rollout_tag(ID, FULL))
    assert not standing.satisfied and "whose canary had no run of filter" in standing.detail
    assert stand({"cleanlab": "off"}, [gate], rollout_tag(ID, FULL)).satisfied


def test_the_canary_may_run_variants_that_the_preflight_had_no_room_for() -> None:
    gate = replace(PASSED, stage=PREFLIGHT, variants=frozenset({"off"}))
    assert stand({"cleanlab": "filter"}, [gate], rollout_tag(ID, CANARY)).satisfied


def test_a_rollout_of_one_factor_does_not_cover_another() -> None:
    assert not stand({"focal_loss": "gamma_2"}, [], rollout_tag(ID, PREFLIGHT)).satisfied


def test_passed_stages_stop_at_the_first_that_has_not() -> None:
    gates = [replace(PASSED, stage=stage) for stage in RolloutStage]
    assert passed_stages(ID, gates) == list(RolloutStage)
    assert passed_stages(ID, gates[1:]) == []
    assert passed_stages(ID, [replace(gates[1], passed=False), *gates]) == [PREFLIGHT]
    assert passed_stages(ID, [*gates, replace(gates[1], passed=False)]) == list(RolloutStage)
    assert passed_stages("another", gates) == []
