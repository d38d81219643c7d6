"""Preflight in real runs: the incident of 21 lost hours replayed for both its causes, and whose choice opens what."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import sqlalchemy as sa
from services import Graph, make_graph

from asset_checks.contracts import BLOCKING_CHECKS
from asset_checks.guardrails import CHECKS, WARNINGS
from cvntrade_assets.operations.guardrails import GUARDRAILS, PREFLIGHT
from cvntrade_assets.operations.rollout import ROLLOUT_TAG
from cvntrade_assets.settings import SETTINGS
from resources.gate import FINGERPRINT, Gate, GateClosedError
from resources.tables import GUARDRAIL_EVALUATIONS

CRYPTO, OTHER = "BTCUSDC", "ETHUSDC"
REAL = "BTCUSDT"
TO_TRAINING_SET = {"candles", "features", "labels", "training_set"}
ON_FROM_THERE = ["training_set", "feature_selection"]
OFF = {"CVN_CUSUM_TRAINING_ENABLED": "0"}
STABLE = {"CVN_CUSUM_FILTER_MODE": "stable"}
DISABLED = {"cusum_training_mode": "disabled"}
PART_OF_A_ROLLOUT = {ROLLOUT_TAG: "cusum_training_mode-0a1b2c3d-1:preflight"}
REASON = "emergency retraining after a flash crash, approved by @risk"
OVERRIDE = {"CVN_GUARDRAIL_OVERRIDE": "1", "CVN_GUARDRAIL_OVERRIDE_REASON": REASON}


@pytest.fixture
def base_env(graph: Graph) -> Iterator[Any]:
    """Sets keys of the operators' table, until the test ends."""
    yield lambda values: graph.warehouse.set_base_env(values, "tests")
    graph.warehouse.set_base_env(dict.fromkeys(graph.warehouse.base_env()), "tests")


@pytest.fixture(scope="module")
def real(
    market_folder: Path, tmp_path_factory: pytest.TempPathFactory, warehouse_url: str, mlflow_store: Path
) -> Graph:
    """The defaults on 24 months of real candles."""
    settings = {
        "CVN_MARKET": "binance",
        "CVN_BINANCE_ARCHIVE_URL": str(market_folder),
        "CVN_BINANCE_API_URL": "http://127.0.0.1:9",
        "CVN_AS_OF": "2025-09-01",
        "CVN_DEFAULT_HISTORY_MONTHS": "24",
    }
    graph = make_graph(tmp_path_factory.mktemp("real"), warehouse_url, settings, (REAL,), mlflow_store)
    # What the run sets is its own choice: here nothing of what decides about rows is.
    texts = {key: text for key, text in graph.run_settings.items() if key != "CVN_CUSUM_THRESHOLD_H"}
    return replace(graph, run_settings=texts)


@pytest.fixture
def real_base_env(real: Graph) -> Iterator[Any]:
    yield lambda values: real.warehouse.set_base_env(values, "tests")
    real.warehouse.set_base_env(dict.fromkeys(real.warehouse.base_env()), "tests")


def materialised(result: dg.ExecuteInProcessResult) -> set[str]:
    return {event.materialization.asset_key.to_user_string() for event in result.get_asset_materialization_events()}


def preflight_of(result: dg.ExecuteInProcessResult) -> dict[str, dg.AssetCheckEvaluation]:
    return {each.check_name: each for each in result.get_asset_check_evaluations() if each.check_name in CHECKS}


def failed(result: dg.ExecuteInProcessResult) -> set[str]:
    return {each.check_name for each in result.get_asset_check_evaluations() if not each.passed}


def said(evaluation: dg.AssetCheckEvaluation) -> dict[str, Any]:
    return {name: value.value for name, value in evaluation.metadata.items()}


def refusal(result: dg.ExecuteInProcessResult, step: str) -> str:
    [failure] = [event for event in result.all_events if event.is_step_failure and event.step_key == step]
    assert failure.step_failure_data.user_failure_data is not None
    return str(failure.step_failure_data.user_failure_data.description)


def on_record(graph: Graph, run_id: str) -> list[Mapping[str, Any]]:
    table = GUARDRAIL_EVALUATIONS
    with graph.warehouse.begin() as connection:
        rows = connection.execute(sa.select(table).where(table.c.run_id == run_id).order_by(table.c.id))
        return [dict(row) for row in rows.mappings()]


# The incident: 28,000 rows where 1,500 were meant, for 21 hours.


def stopped_before_training(real: Graph, result: dg.ExecuteInProcessResult, layer: str) -> None:
    assert not result.success
    assert materialised(result) <= TO_TRAINING_SET | {"backtest_candles"}
    assert "training_set" in materialised(result)
    assert failed(result) == {"rows_within_limit"}
    found = preflight_of(result)["rows_within_limit"]
    assert found.severity == dg.AssetCheckSeverity.ERROR
    assert 25_000 < said(found)["value"] < 28_500
    assert (said(found)["explicit"], said(found)["layer"], said(found)["limit"]) == (False, layer, 10_000.0)
    rows = {row["guardrail"]: row for row in on_record(real, result.run_id) if row["source"] == "check"}
    assert set(rows) == {"settings_valid", *PREFLIGHT}
    assert (rows["rows_within_limit"]["verdict"], rows["rows_within_limit"]["layer"]) == ("blocked", layer)
    assert (rows["rows_within_limit"]["crypto"], rows["rows_within_limit"]["session"]) == (REAL, result.run_id)
    assert sum(row["seconds"] for row in rows.values()) < 1.0


def test_incident_cause_one_a_default_that_turns_cusum_off(real: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    key = "CVN_CUSUM_TRAINING_ENABLED"
    monkeypatch.setitem(SETTINGS, key, replace(SETTINGS[key], default="0"))  # type: ignore[arg-type]
    stopped_before_training(real, real.run(REAL), "default")


def test_incident_cause_two_a_mode_that_keeps_the_others(real: Graph, real_base_env: Any) -> None:
    real_base_env(STABLE)
    stopped_before_training(real, real.run(REAL), "base_env")


@pytest.mark.parametrize("by_operators", [True, False])
def test_incident_the_key_that_meant_two_things_is_refused(real: Graph, real_base_env: Any, by_operators: bool) -> None:
    retired = {"CVN_CUSUM_TRAINING_MODE": "enabled"}
    if by_operators:
        real_base_env(retired)
    result = real.run(REAL, settings=None if by_operators else retired)
    assert not result.success
    assert materialised(result) == set()
    [row] = on_record(real, result.run_id)
    assert (row["guardrail"], row["verdict"], row["source"]) == ("settings_valid", "blocked", "settings")
    assert "CVN_CUSUM_TRAINING_MODE is retired" in row["message"]


def test_the_same_rows_pass_when_a_variant_chooses_them(real: Graph) -> None:
    result = real.run(REAL, TO_TRAINING_SET, tags=PART_OF_A_ROLLOUT, variants=DISABLED)
    assert result.success
    assert failed(result) == set()
    found = said(preflight_of(result)["rows_within_limit"])
    assert (found["verdict"], found["explicit"], found["layer"]) == ("allowed", True, "factor")
    assert 27_000 < found["value"] < 28_500
    [row] = [row for row in on_record(real, result.run_id) if row["guardrail"] == "rows_within_limit"]
    assert (row["factor"], row["variant"], row["verdict"]) == ("cusum_training_mode", "disabled", "allowed")


def test_a_critical_factor_outside_a_rollout_is_stopped(real: Graph) -> None:
    result = real.run(REAL, variants=DISABLED)
    assert not result.success
    assert materialised(result) <= TO_TRAINING_SET | {"backtest_candles"}
    assert failed(result) == {"rollout_passed"}
    assert "cvntrade rollout --factor cusum_training_mode" in str(preflight_of(result)["rollout_passed"].description)


def test_the_defaults_on_the_real_market_pass(real: Graph) -> None:
    result = real.run(REAL, TO_TRAINING_SET)
    assert result.success
    assert failed(result) == set()
    assert 1_000 < said(preflight_of(result)["rows_within_limit"])["value"] < 2_000


# Whose choice opens what, on a small market with a low limit.


@pytest.fixture
def small_limit(base_env: Any) -> Any:
    """Operators allow 500 rows and turn CUSUM off: more than 4,000 rows, and nobody chose them."""
    base_env({"CVN_GUARDRAIL_MAX_ROWS": "500", **OFF})
    return base_env


def test_a_run_that_chose_nothing_is_stopped_and_one_that_chose_reuses_the_very_files(
    graph: Graph, small_limit: Any
) -> None:
    blocked = graph.run(CRYPTO, [*TO_TRAINING_SET, "feature_selection"])
    assert not blocked.success
    assert failed(blocked) == {"rows_within_limit"}
    assert "feature_selection" not in materialised(blocked)

    allowed = graph.run(CRYPTO, ON_FROM_THERE, OFF)
    assert allowed.success
    [event] = [each for each in allowed.get_asset_materialization_events() if each.step_key == "training_set"]
    assert event.materialization.metadata["reused"].value is True
    assert failed(allowed) == set()
    one, two = (said(preflight_of(each)["rows_within_limit"]) for each in (blocked, allowed))
    assert one[FINGERPRINT] == two[FINGERPRINT]
    assert (one["verdict"], two["verdict"]) == ("blocked", "allowed")


def test_what_one_run_was_allowed_is_refused_to_a_run_that_did_not_choose_it(graph: Graph, small_limit: Any) -> None:
    assert graph.run(CRYPTO, TO_TRAINING_SET, OFF).success
    # The gate is open, and the settings are the same texts: only the choice is not this run's own.
    version = Gate(graph.instance, {}).current_version("training_set", CRYPTO)
    stored = graph.store.require("training_set", CRYPTO, version)
    Gate(graph.instance, BLOCKING_CHECKS).require_open("training_set", CRYPTO, version, stored.fingerprint)

    result = graph.run(CRYPTO, ["feature_selection"])
    assert not result.success
    assert materialised(result) == set()
    told = refusal(result, "feature_selection")
    assert told.startswith(f"feature_selection of {CRYPTO} refuses its inputs: training_set {version} is blocked")
    assert "CVN_CUSUM_TRAINING_ENABLED=0 (layer base_env)" in told
    rows = on_record(graph, result.run_id)
    assert {row["guardrail"] for row in rows} >= {name for name in PREFLIGHT if GUARDRAILS[name].blocks}
    assert {row["source"] for row in rows} == {"check"}
    assert [row["guardrail"] for row in rows if row["verdict"] == "blocked"] == ["rows_within_limit"]
    assert graph.store.find("training_set", CRYPTO, version) is not None
    assert graph.run(CRYPTO, ["feature_selection"], OFF).success


def test_a_run_that_chooses_what_was_blocked_must_have_it_judged_again(graph: Graph, small_limit: Any) -> None:
    assert not graph.run(CRYPTO, TO_TRAINING_SET).success
    result = graph.run(CRYPTO, ["feature_selection"], OFF)
    assert not result.success
    told = refusal(result, "feature_selection")
    assert "check rows_within_limit failed" in told
    assert f"cvntrade backfill --crypto {CRYPTO} --select training_set+" in told


def test_a_version_without_a_preflight_feeds_nothing(graph: Graph) -> None:
    job = graph.defs.resolve_job_def("candles_to_report")
    contract = {key for key in graph.defs.resolve_asset_graph().asset_check_keys if key.name not in CHECKS}
    config = {"resources": {"run_settings": {"config": {"settings": dict(graph.run_settings)}}}}
    keys = {dg.AssetKey(name) for name in TO_TRAINING_SET}
    unjudged = job.get_subset(
        asset_selection=keys, asset_check_selection={key for key in contract if key.asset_key in keys}
    ).execute_in_process(instance=graph.instance, partition_key=CRYPTO, run_config=config)
    assert unjudged.success
    version = Gate(graph.instance, {}).current_version("training_set", CRYPTO)
    stored = graph.store.require("training_set", CRYPTO, version)
    with pytest.raises(GateClosedError, match="check rows_within_limit is missing"):
        Gate(graph.instance, BLOCKING_CHECKS).require_open("training_set", CRYPTO, version, stored.fingerprint)


def test_an_override_lets_a_blocked_run_go_on_with_its_reason_on_the_check(graph: Graph, small_limit: Any) -> None:
    result = graph.run(CRYPTO, [*TO_TRAINING_SET, "feature_selection"], OVERRIDE)
    assert result.success
    found = preflight_of(result)["rows_within_limit"]
    assert not found.passed
    assert found.severity == dg.AssetCheckSeverity.WARN
    assert (said(found)["verdict"], said(found)["override_reason"]) == ("overridden", REASON)
    assert REASON in str(found.description)
    [row] = [row for row in on_record(graph, result.run_id) if row["verdict"] == "overridden"]
    assert (row["override"], row["override_reason"]) == (True, REASON)


@pytest.mark.parametrize(("choice", "verdict"), [(OVERRIDE, "overridden"), (OFF, "allowed")])
def test_an_exception_is_on_record_also_when_the_training_set_is_not_part_of_the_run(
    graph: Graph, small_limit: Any, choice: Mapping[str, str], verdict: str
) -> None:
    whole = graph.run(CRYPTO, [*TO_TRAINING_SET, "feature_selection"], choice)
    part = graph.run(CRYPTO, ["feature_selection", "label_pipeline"], choice)
    assert whole.success and part.success
    for result in (whole, part):
        # Once a run, however many of its stages ask.
        [row] = [row for row in on_record(graph, result.run_id) if row["guardrail"] == "rows_within_limit"]
        assert (row["verdict"], row["override_reason"]) == (verdict, REASON if choice is OVERRIDE else None)


def test_a_rollouts_preflight_opens_nothing_beyond_the_training_set(graph: Graph) -> None:
    """Whoever gives a run the tag of one: its stages that train ask for a canary all the same."""
    result = graph.run(CRYPTO, [*TO_TRAINING_SET, "feature_selection"], tags=PART_OF_A_ROLLOUT, variants=DISABLED)
    assert failed(result) == set()
    assert not result.success
    assert materialised(result) <= TO_TRAINING_SET
    assert "no canary of cusum_training_mode=disabled has passed" in refusal(result, "feature_selection")
    [row] = [row for row in on_record(graph, result.run_id) if row["verdict"] == "blocked"]
    assert row["guardrail"] == "rollout_passed"


def test_rows_that_cleanlab_leaves_must_be_enough_too(graph: Graph, base_env: Any) -> None:
    filtering = {"CVN_CLEANLAB": "filter", "CVN_CLEANLAB_CLASS_CAP": "0.5"}
    whole = graph.run(CRYPTO, [*TO_TRAINING_SET, "feature_selection", "label_pipeline"], filtering)
    made = {event.step_key: event.materialization.metadata for event in whole.get_asset_materialization_events()}
    given, left = made["training_set"]["train_rows"].value, made["label_pipeline"]["rows"].value
    assert left < given
    base_env({"CVN_GUARDRAIL_MIN_ROWS": str(left)})
    assert graph.run(CRYPTO, ["hyperparameters"], filtering).success
    base_env({"CVN_GUARDRAIL_MIN_ROWS": str(given)})
    result = graph.run(CRYPTO, ["hyperparameters"], {**filtering, **OVERRIDE})
    assert not result.success
    assert f"{left:,} training rows, fewer than CVN_GUARDRAIL_MIN_ROWS={given:,}" in refusal(result, "hyperparameters")


@pytest.mark.parametrize(
    ("limits", "check"),
    [({"CVN_GUARDRAIL_MIN_ROWS": "9000"}, "rows_enough"), ({"CVN_GUARDRAIL_MEMORY_GIB": "0.1"}, "memory_within_limit")],
)
def test_an_override_never_helps_against_too_few_rows_or_too_much_memory(
    graph: Graph, base_env: Any, limits: Mapping[str, str], check: str
) -> None:
    base_env(limits)
    result = graph.run(CRYPTO, [*TO_TRAINING_SET, "feature_selection"], OVERRIDE)
    assert not result.success
    assert failed(result) == {check}
    assert preflight_of(result)[check].severity == dg.AssetCheckSeverity.ERROR
    assert "feature_selection" not in materialised(result)


def test_what_only_warns_stops_nothing(graph: Graph, base_env: Any) -> None:
    base_env({"CVN_GUARDRAIL_ESTIMATED_MINUTES": "0.01", "CVN_DEFAULT_N_TRIALS": "60"})
    texts = {key: text for key, text in graph.run_settings.items() if key != "CVN_DEFAULT_N_TRIALS"}
    result = replace(graph, run_settings=texts).run(CRYPTO, [*TO_TRAINING_SET, "feature_selection"])
    assert result.success
    found = preflight_of(result)[WARNINGS]
    assert said(found)["minutes_within_limit: verdict"] == "warned"
    assert (found.passed, found.severity) == (False, dg.AssetCheckSeverity.WARN)


def test_a_chosen_check_alone_is_evaluated_and_recorded_alone(graph: Graph) -> None:
    assert graph.run(CRYPTO, TO_TRAINING_SET).success
    job = graph.defs.resolve_job_def("candles_to_report")
    key = dg.AssetCheckKey(dg.AssetKey("training_set"), "rows_enough")
    config = {"resources": {"run_settings": {"config": {"settings": dict(graph.run_settings)}}}}
    result = job.get_subset(asset_selection=set(), asset_check_selection={key}).execute_in_process(
        instance=graph.instance, partition_key=CRYPTO, run_config=config
    )
    assert set(preflight_of(result)) == {"rows_enough"}
    assert [row["guardrail"] for row in on_record(graph, result.run_id)] == ["settings_valid", "rows_enough"]


def test_no_check_is_evaluated_by_the_settings_of_another_run(graph: Graph, base_env: Any) -> None:
    """As when somebody asks for the checks alone in the UI, without the settings of the training set."""
    base_env({"CVN_GUARDRAIL_MAX_ROWS": "500"})
    assert graph.run(CRYPTO, TO_TRAINING_SET, OFF).success
    job = graph.defs.resolve_job_def("candles_to_report")
    keys = {dg.AssetCheckKey(dg.AssetKey("training_set"), name) for name in CHECKS}
    # Named by the run and usual: by these settings the rows were blocked, or worse, allowed.
    config = {"resources": {"run_settings": {"config": {"settings": dict(graph.run_settings)}}}}
    result = job.get_subset(asset_selection=set(), asset_check_selection=keys).execute_in_process(
        instance=graph.instance, partition_key=CRYPTO, run_config=config, raise_on_error=False
    )
    assert not result.success
    assert "CVN_CUSUM_TRAINING_ENABLED='0' (this run: '1')" in refusal(result, "training_set_preflight")
    assert (preflight_of(result), on_record(graph, result.run_id)) == ({}, [])
    assert graph.run(CRYPTO, ["feature_selection"], OFF).success


def test_every_crypto_has_verdicts_of_its_own(graph: Graph) -> None:
    done = {crypto: graph.run(crypto, TO_TRAINING_SET) for crypto in (CRYPTO, OTHER)}
    values = {crypto: said(preflight_of(result)["rows_within_limit"])["value"] for crypto, result in done.items()}
    assert values[CRYPTO] != values[OTHER]
    for crypto, result in done.items():
        assert {row["crypto"] for row in on_record(graph, result.run_id)} == {crypto}
