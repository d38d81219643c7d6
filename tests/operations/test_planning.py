from collections.abc import Mapping
from dataclasses import replace

import pandas as pd
import pytest

from cvntrade_assets.commands.plan import stage_facts
from cvntrade_assets.operations.planning import Action, Current, StageFacts, Step, plan_crypto
from cvntrade_assets.operations.provenance import FORCED, Provenance
from cvntrade_assets.settings import Settings, resolve

NOW = pd.Timestamp("2025-09-01 00:10", tz="UTC")
NEWEST = {
    "candles": pd.Timestamp("2025-08-31 23:30", tz="UTC"),
    "backtest_candles": pd.Timestamp("2025-09-01", tz="UTC"),
}
STAGES = stage_facts()
NAMES = tuple(stage.name for stage in STAGES)
CANDLES_DOWN = tuple(name for name in NAMES if name != "backtest_candles")
TRAINING_DOWN = tuple(name for name in CANDLES_DOWN if name not in ("candles", "features", "labels"))
FINE_DOWN = ("backtest_candles", "backtest", "test_report")

SIMULATED_NOW = ["CVN_SIMULATED_SEED changed from '' to '0'", "CVN_SIMULATED_SIGNAL changed from '' to '0.3'"]


def settings(**run: str) -> Settings:
    return resolve(base_env={}, run=run, now=NOW)


def built(under: Settings | None = None, stages: list[StageFacts] | None = None) -> dict[str, Current]:
    """The store after a whole run."""
    used, found = under or settings(), {}
    for stage in stages or STAGES:
        inputs = (
            {"content": f"read for {stage.name}"} if stage.source else {it: found[it].version for it in stage.inputs}
        )
        made = Provenance(stage.code_version, inputs, used.used(stage.settings), used.text("CVN_MARKET"), {})
        found[stage.name] = Current(made.version, made, NEWEST.get(stage.name), None)
    return found


def plan(current: Mapping[str, Current], under: Settings | None = None, **more) -> list[Step]:
    stages = more.pop("stages", STAGES)
    newest = more.pop("newest", NEWEST)
    steps = plan_crypto(stages, current, under or settings(), newest, force=more.pop("force", False))
    assert [step.asset for step in steps] == [stage.name for stage in stages]
    return steps


def actions(steps: list[Step]) -> dict[str, Action]:
    return {step.asset: step.action for step in steps}


def reasons(steps: list[Step]) -> dict[str, str]:
    return {step.asset: step.reason for step in steps if step.action is not Action.CURRENT}


def expected(action: Action, names: tuple[str, ...]) -> dict[str, Action]:
    return {name: action if name in names else Action.CURRENT for name in NAMES}


def test_the_graph_is_planned_upstream_first():
    assert set(NAMES[:2]) == {"candles", "backtest_candles"} or NAMES.index("candles") < NAMES.index("features")
    for stage in STAGES:
        assert all(NAMES.index(name) < NAMES.index(stage.name) for name in stage.inputs)
    assert TRAINING_DOWN == (
        "training_set",
        "feature_selection",
        "label_pipeline",
        "hyperparameters",
        "model",
        "calibration",
        "backtest",
        "test_report",
    )


def test_nothing_was_built():
    steps = plan({})
    assert actions(steps) == expected(Action.MISSING, NAMES)
    assert set(reasons(steps).values()) == {"it was never built"}


def test_nothing_changed():
    current = built()
    steps = plan(current)
    assert actions(steps) == expected(Action.CURRENT, ())
    assert [step.reason for step in steps] == [f"version {current[name].version} is reused" for name in NAMES]


@pytest.mark.parametrize(
    ("key", "value", "first", "stale"),
    [
        ("CVN_CUSUM_THRESHOLD_H", "2", ("training_set",), TRAINING_DOWN),
        ("CVN_CUSUM_FILTER_MODE", "stable", ("training_set",), TRAINING_DOWN),
        ("CVN_CUSUM_TRAINING_ENABLED", "0", ("training_set",), TRAINING_DOWN),
        ("CVN_DEFAULT_HISTORY_MONTHS", "12", ("candles",), CANDLES_DOWN),
        ("CVN_BACKTEST_DAYS", "30", ("backtest_candles",), FINE_DOWN),
        ("CVN_MARKET", "simulated", ("candles", "backtest_candles"), NAMES),
        ("CVN_SL_MULT", "0.5", ("labels", "backtest"), ("labels", *TRAINING_DOWN)),
        ("CVN_MAX_FEATURES", "10", ("feature_selection",), TRAINING_DOWN[1:]),
        ("CVN_LABEL_SMOOTHING", "mild", ("label_pipeline",), TRAINING_DOWN[2:]),
        ("CVN_HPO_OBJECTIVE", "f1_binary", ("hyperparameters",), TRAINING_DOWN[3:]),
        ("CVN_DEFAULT_N_TRIALS", "10", ("hyperparameters",), TRAINING_DOWN[3:]),
        ("CVN_CALIBRATION", "isotonic", ("calibration",), TRAINING_DOWN[5:]),
    ],
)
def test_a_changed_setting_makes_its_stage_and_what_is_downstream_stale(key, value, first, stale):
    before, after = settings(), settings(**{key: value})
    steps = plan(built(before), after)
    assert actions(steps) == expected(Action.STALE, stale)
    for name in stale:
        said = [f"{key} changed from {before.text(key)!r} to {after.text(key)!r}"]
        said += SIMULATED_NOW if key == "CVN_MARKET" else []
        inputs = next(stage.inputs for stage in STAGES if stage.name == name)
        upstream = [f"{it} will change" for it in inputs if it in stale]
        assert reasons(steps)[name].split("; ") == [*(said if name in first else []), *upstream]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("CVN_TUNING_WORKERS", "1"),
        ("CVN_AS_OF", "2025-09-01T00:05:00Z"),
        ("CVN_SIMULATED_SIGNAL", "1"),
        ("CVN_SIMULATED_SEED", "7"),
    ],
)
def test_a_setting_that_is_in_no_version_changes_nothing(key, value):
    assert actions(plan(built(), settings(**{key: value}))) == expected(Action.CURRENT, ())


def test_another_spelling_of_the_same_value_changes_nothing():
    same = settings(CVN_CUSUM_THRESHOLD_H="3", CVN_BINARY_CLASSIFICATION="true", CVN_DEFAULT_PTE="H4_SL1_TP2")
    assert actions(plan(built(), same)) == expected(Action.CURRENT, ())


def test_a_pinned_hyperparameter():
    steps = plan(built(), settings(CVN_HPO_XGBOOST_30M_MAX_DEPTH="3"))
    assert actions(steps) == expected(Action.STALE, TRAINING_DOWN[3:])
    said = "CVN_HPO_XGBOOST_* changed from '' to 'CVN_HPO_XGBOOST_30M_MAX_DEPTH=3'"
    assert reasons(steps)["hyperparameters"] == said


def test_changed_code():
    later = [replace(stage, code_version="2") if stage.name == "model" else stage for stage in STAGES]
    changed = next(stage for stage in STAGES if stage.name == "model").code_version
    steps = plan(built(), stages=later)
    assert actions(steps) == expected(Action.STALE, TRAINING_DOWN[4:])
    assert reasons(steps)["model"] == f"its code changed from version {changed} to 2"
    assert reasons(steps)["calibration"] == "model will change"


def test_a_newer_candle():
    newest = NEWEST | {"candles": NEWEST["candles"] + pd.Timedelta("30min")}
    steps = plan(built(), newest=newest)
    assert actions(steps) == expected(Action.STALE, CANDLES_DOWN)
    assert reasons(steps)["candles"] == (
        "its newest candle is 2025-08-31T23:30:00+00:00, the newest closed one is 2025-09-01T00:00:00+00:00"
    )
    assert reasons(steps)["features"] == "candles will change"


def test_an_earlier_as_of_than_the_candles_reach():
    newest = NEWEST | {"backtest_candles": NEWEST["backtest_candles"] - pd.Timedelta("1D")}
    assert actions(plan(built(), newest=newest)) == expected(Action.STALE, FINE_DOWN)


def test_an_input_that_was_rebuilt_meanwhile():
    # Somebody ran `labels` alone, with a setting that has been taken back since.
    current = built()
    current["labels"] = built(settings(CVN_SL_MULT="0.5"))["labels"]
    steps = plan(current)
    assert actions(steps) == expected(Action.STALE, ("labels",))
    assert reasons(steps) == {"labels": "CVN_SL_MULT changed from '0.5' to ''"}
    # Without `labels` in the selection, what stands in the store is what would be read.
    downstream = [stage for stage in STAGES if stage.name in TRAINING_DOWN]
    found = plan(current, stages=downstream)
    assert {step.action for step in found} == {Action.STALE}
    assert reasons(found)["training_set"] == "labels will change"


def test_a_missing_stage_in_the_middle():
    current = built()
    del current["label_pipeline"]
    # Built again from the same inputs it will be the same version, so what follows is current.
    assert actions(plan(current)) == {**expected(Action.CURRENT, ()), "label_pipeline": Action.MISSING}


def test_missing_candles_make_everything_after_them_stale():
    current = built()
    del current["candles"]
    steps = plan(current)
    assert actions(steps) == {**expected(Action.STALE, CANDLES_DOWN), "candles": Action.MISSING}
    assert reasons(steps)["features"] == "candles will change"


def test_force():
    steps = plan(built(), force=True)
    assert actions(steps) == expected(Action.FORCED, NAMES)
    assert set(reasons(steps).values()) == {"recomputed because --force asks for it"}


def test_force_with_something_missing():
    current = built()
    del current["model"]
    assert actions(plan(current, force=True)) == {**expected(Action.FORCED, NAMES), "model": Action.MISSING}


def forced(found: Current) -> Current:
    made = replace(found.provenance, inputs={**found.provenance.inputs, FORCED: "run-1"})
    return replace(found, version=made.version, provenance=made)


def test_after_a_forced_run_the_plain_versions_take_their_place_again():
    current = built()
    current["model"] = forced(current["model"])
    steps = plan(current)
    # The plain version stands in the store: what was made of it before is current again.
    assert actions(steps) == expected(Action.STALE, ("model",))
    assert reasons(steps)["model"] == "its current version was forced by a run; the plain one takes its place"


def test_after_a_forced_source():
    current = built()
    current["candles"] = forced(current["candles"])
    steps = plan(current)
    assert actions(steps)["candles"] is Action.STALE
    assert reasons(steps)["candles"] == "its current version was forced by a run; the plain one takes its place"
    assert actions(steps)["backtest_candles"] is Action.CURRENT


def test_a_version_that_failed_a_check_is_computed_again():
    current = built()
    reason = "check schema failed: a NaN in RSI_14"
    current["features"] = replace(current["features"], closed_because=reason, failed=True)
    steps = plan(current)
    assert actions(steps) == {**expected(Action.CURRENT, ()), "features": Action.STALE}
    assert reasons(steps)["features"] == f"it is computed again: {reason}"


def test_a_version_that_no_check_has_judged_is_reused_and_judged():
    current = built()
    current["features"] = replace(current["features"], closed_because="check schema is missing")
    step = next(step for step in plan(current) if step.asset == "features")
    assert step.action is Action.CURRENT
    assert step.reason.endswith("is reused, and judged again")


def only(*names: str) -> list[StageFacts]:
    return [stage for stage in STAGES if stage.name in names]


def test_an_unselected_input_that_the_gate_refuses_refuses_what_is_selected():
    current = built()
    current["model"] = replace(current["model"], closed_because="check scores_alike failed: …", failed=True)
    steps = plan(current, stages=only("calibration", "test_report"))
    assert actions(steps) == {"calibration": Action.REFUSED, "test_report": Action.REFUSED}
    assert "scores_alike" in reasons(steps)["calibration"]
    assert "its input calibration is refused" in reasons(steps)["test_report"]


def test_an_unselected_input_that_is_missing_refuses_what_is_selected():
    current = built()
    del current["model"]
    (step,) = plan(current, stages=only("calibration"))
    assert (step.action, step.reason) == (Action.REFUSED, "its input model was never built and is not selected")


def test_an_unselected_input_built_with_other_settings_refuses_what_is_selected():
    current = built()
    made = current["training_set"].provenance
    lineage = {"CVN_CUSUM_THRESHOLD_H": "3.0"}
    current["training_set"] = replace(current["training_set"], provenance=replace(made, lineage=lineage))
    (step,) = plan(current, settings(CVN_CUSUM_THRESHOLD_H="2.5"), stages=only("model"))
    assert step.action is Action.REFUSED
    assert "CVN_CUSUM_THRESHOLD_H='3.0' (this run: '2.5')" in step.reason


def test_inputs_of_different_versions_refuse_what_is_selected():
    current = built()
    other = replace(current["training_set"].provenance, code_version="another")
    current["training_set"] = Current(other.version, other, None, None)
    (step,) = plan(current, stages=only("calibration"))
    assert step.action is Action.REFUSED
    assert "was built from training_set" in step.reason


def test_stale_goes_before_refused_because_another_version_will_be_judged():
    current = built()
    current["labels"] = replace(current["labels"], closed_because="check schema failed")
    assert actions(plan(current, settings(CVN_SL_MULT="0.5")))["labels"] is Action.STALE


def test_several_reasons_are_all_told():
    steps = plan(built(), settings(CVN_SL_MULT="0.5", CVN_TIMEFRAME="1h", CVN_MAX_FEATURES="9"))
    assert reasons(steps)["labels"] == (
        "CVN_SL_MULT changed from '' to '0.5'; CVN_TIMEFRAME changed from '30m' to '1h'; candles will change"
    )
    assert reasons(steps)["feature_selection"] == (
        "CVN_MAX_FEATURES changed from '60' to '9'; training_set will change"
    )


def test_planning_changes_nothing_that_it_was_given():
    current = built()
    before = dict(current)
    plan(current, settings(CVN_MARKET="simulated"))
    assert current == before


def blocked(current: Mapping[str, Current]) -> dict[str, Current]:
    """A store whose training set this run may not go on from."""
    why = "training_set is blocked under the settings of this run (rows_within_limit: 28,000 training rows)"
    return {**current, "training_set": replace(current["training_set"], blocked_because=why)}


def test_a_training_set_that_the_runs_settings_block_is_refused_as_an_input() -> None:
    steps = {step.asset: step for step in plan(blocked(built()), stages=[s for s in STAGES if s.name == "model"])}
    assert steps["model"].action is Action.REFUSED
    assert "rows_within_limit: 28,000 training rows" in steps["model"].reason


def test_a_blocked_training_set_that_is_reused_stops_what_is_downstream_of_it() -> None:
    steps = {step.asset: step for step in plan(blocked(built()))}
    assert steps["training_set"].action is Action.CURRENT
    assert steps["feature_selection"].action is Action.REFUSED
    assert "rows_within_limit: 28,000 training rows" in steps["feature_selection"].reason
    assert steps["test_report"].action is Action.REFUSED


def test_a_blocked_training_set_that_is_built_anew_blocks_nothing_yet() -> None:
    steps = {step.asset: step for step in plan(blocked(built()), settings(CVN_CUSUM_THRESHOLD_H="2"))}
    assert steps["training_set"].action is Action.STALE
    assert Action.REFUSED not in {step.action for step in steps.values()}
