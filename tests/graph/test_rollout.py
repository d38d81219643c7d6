"""The asset `rollout` and its gates in process: what they read, what they record, and what they give back."""

import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import sqlalchemy as sa
from dagster._core.test_utils import create_run_for_test
from services import Graph, make_graph

from cvntrade_assets.operations.factors import FACTORS
from cvntrade_assets.operations.guardrails import Evaluation, Verdict
from cvntrade_assets.operations.rollout import ROLLOUT_TAG, RolloutStage, rollout_tag
from resources.gate import Gate
from resources.guardrail_log import Occasion, record_evaluations
from resources.rollouts import read_gates, standing
from resources.tables import GUARDRAIL_EVALUATIONS, RESULTS, ROLLOUT_GATES

FACTOR, GROUP = "cusum_training_mode", "pair"
VARIANTS = ("legacy_3_0", "relaxed_1_5")
CRYPTOS = ("BTCUSDC", "ETHUSDC")
PREFLIGHT, CANARY, FULL = RolloutStage
BOUNDED = ("rows_within_limit", "rows_enough", "memory_within_limit", "minutes_within_limit")
UP_TO_TRAINING_SET = ("candles", "features", "labels", "training_set")
# Few candles: the variants' own thresholds keep too few rows for a preflight with the design's limits.
ROWS = {"CVN_CUSUM_THRESHOLD_H": "1.0"}


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory, warehouse_url: str, mlflow_store: Path) -> Iterator[Graph]:
    made = make_graph(tmp_path_factory.mktemp("rollout"), warehouse_url, mlflow_store=mlflow_store)
    made.warehouse.set_group(GROUP, CRYPTOS)
    with made.instance:
        yield made
    made.warehouse.close()


@pytest.fixture
def rollout_id() -> str:
    """A rollout that nobody knows yet."""
    return f"{FACTOR}-00000000-{uuid.uuid4().hex[:6]}"


def ran(
    graph: Graph,
    rollout: str,
    stage: RolloutStage,
    variant: str,
    crypto: str = "BTCUSDC",
    status: dg.DagsterRunStatus = dg.DagsterRunStatus.SUCCESS,
    verdicts: Mapping[str, Verdict] | None = None,
    result: Mapping[str, Any] | None = None,
    tags: Mapping[str, str] | None = None,
) -> str:
    """Put a run of a stage on record, with its evaluations and its result; returns its id."""
    run = create_run_for_test(
        graph.instance,
        job_name="candles_to_report",
        status=status,
        run_config={"resources": {"run_settings": {"config": {"settings": {}, "variants": {FACTOR: variant}}}}},
        tags={ROLLOUT_TAG: rollout_tag(rollout, stage), "dagster/partition": crypto, **(tags or {})},
    )
    found = dict.fromkeys(BOUNDED, Verdict.PASSED) | dict(verdicts or {})
    occasion = Occasion(run.run_id, crypto, run.run_id, {FACTOR: variant}, "check")
    evaluations = [Evaluation(name, verdict, f"{name} is {verdict}") for name, verdict in found.items()]
    record_evaluations(graph.warehouse, occasion, evaluations, 0.0)
    if stage is not PREFLIGHT:
        keep_result(graph, run.run_id, crypto, result or {})
    return run.run_id


def keep_result(graph: Graph, run_id: str, crypto: str, result: Mapping[str, Any]) -> None:
    numbers = {
        column.name: 0.5
        for column in RESULTS.columns
        if not column.nullable and isinstance(column.type, sa.Double | sa.BigInteger)
    }
    texts = {"session": run_id, "market": "simulated", "report_version": "0", "reused": False}
    row = {**numbers, "rows": 10, **texts, "run_id": run_id, "crypto": crypto, **result}
    with graph.warehouse.begin() as connection:
        connection.execute(sa.insert(RESULTS).values(row))


def canary_ran(graph: Graph, rollout: str, **spoilt: Any) -> str:
    """Every variant of a canary, the second one spoilt; returns the second one's run."""
    ran(graph, rollout, CANARY, VARIANTS[0])
    return ran(graph, rollout, CANARY, VARIANTS[1], **spoilt)


def judged(
    graph: Graph, rollout: str, stage: RolloutStage, variants: tuple[str, ...] = VARIANTS
) -> dg.AssetCheckEvaluation:
    """Have the gate's job judge a stage, as the command does: the asset, and this stage's check."""
    job = graph.defs.resolve_job_def("rollout_gate")
    asset = dg.AssetKey("rollout")
    told = {"rollout": rollout, "stage": str(stage), "group": GROUP, "variants": list(variants)}
    result = job.get_subset(
        asset_selection={asset}, asset_check_selection={dg.AssetCheckKey(asset, f"{stage}_gate")}
    ).execute_in_process(
        instance=graph.instance,
        partition_key=FACTOR,
        run_config={"ops": {"rollout": {"config": told}}},
        tags={ROLLOUT_TAG: rollout_tag(rollout, stage)},
    )
    assert result.success, "a gate that fails is no run that fails"
    [check] = result.get_asset_check_evaluations()
    assert (check.asset_key, check.check_name, check.partition) == (asset, f"{stage}_gate", FACTOR)
    return check


def recorded(graph: Graph, table: sa.Table, **values: Any) -> list[dict[str, Any]]:
    query = sa.select(table).where(*(table.c[name] == value for name, value in values.items())).order_by(table.c.id)
    with graph.warehouse.begin() as connection:
        return [dict(row) for row in connection.execute(query).mappings()]


def verdicts_shown(check: dg.AssetCheckEvaluation) -> dict[str, str]:
    """The table of criteria in the check's metadata."""
    table = check.metadata["criteria"]
    assert isinstance(table, dg.TableMetadataValue)
    return {str(record.data["criterion"]): str(record.data["verdict"]) for record in table.records}


# what a gate records


def test_a_preflight_that_passes_is_shown_and_on_record(graph: Graph, rollout_id: str) -> None:
    run = ran(graph, rollout_id, PREFLIGHT, VARIANTS[0])
    check = judged(graph, rollout_id, PREFLIGHT)

    assert check.passed and "The preflight gate passed" in str(check.description)
    assert set(verdicts_shown(check).values()) == {"passed"}
    [gate] = recorded(graph, ROLLOUT_GATES, rollout=rollout_id)
    assert (gate["factor"], gate["stage"], gate["crypto_group"], gate["passed"]) == (FACTOR, "preflight", GROUP, True)
    assert gate["definition"] == FACTORS[FACTOR].definition()
    assert gate["runs"] == [{"run_id": run, "crypto": "BTCUSDC", "variant": VARIANTS[0], "status": "SUCCESS"}]
    assert {each["name"]: each["outcome"] for each in gate["reasons"]} == verdicts_shown(check)


def test_a_gate_is_a_guardrail_evaluation_too(graph: Graph, rollout_id: str) -> None:
    canary_ran(graph, rollout_id, verdicts={"run_in_time": Verdict.WARNED})
    check = judged(graph, rollout_id, CANARY)
    assert not check.passed
    [row] = [
        row
        for row in recorded(graph, GUARDRAIL_EVALUATIONS, guardrail="rollout_canary")
        if row["message"] == check.description
    ]
    assert (row["verdict"], row["source"], row["value"], row["limit_value"]) == ("blocked", "rollout", 1.0, 0.0)
    assert (row["factor"], row["variant"]) == (FACTOR, ", ".join(VARIANTS))


def test_a_canary_that_passes_lets_its_variants_run(graph: Graph, rollout_id: str) -> None:
    canary_ran(graph, rollout_id)
    check = judged(graph, rollout_id, CANARY)
    assert check.passed and verdicts_shown(check)["sortino_positive"] == "not judged yet"
    assert standing(graph.warehouse, {FACTOR: VARIANTS[1]}, None).satisfied
    assert not standing(graph.warehouse, {FACTOR: "disabled"}, None).satisfied, "it was no variant of the canary"

    canary_ran(graph, rollout_id, result={"sortino": -0.2})
    assert not judged(graph, rollout_id, CANARY).passed
    found = standing(graph.warehouse, {FACTOR: VARIANTS[1]}, None)
    assert found.needed and not found.satisfied and rollout_id in found.detail
    assert [gate.passed for gate in read_gates(graph.warehouse, [FACTOR]) if gate.rollout == rollout_id] == [
        False,
        True,
    ]


def test_a_later_stage_may_run_once_the_one_before_has_passed(graph: Graph, rollout_id: str) -> None:
    tag = rollout_tag(rollout_id, CANARY)
    variants = {FACTOR: "stable_3_0"}
    assert not standing(graph.warehouse, variants, tag).satisfied
    ran(graph, rollout_id, PREFLIGHT, VARIANTS[0])
    assert judged(graph, rollout_id, PREFLIGHT).passed
    assert standing(graph.warehouse, variants, tag).satisfied
    assert not standing(graph.warehouse, variants, None).satisfied


def test_what_needs_no_rollout_does_not_ask(graph: Graph) -> None:
    assert standing(None, {"calibration": "platt"}, None).satisfied  # type: ignore[arg-type]


# what a gate reads


def test_preflight_fails_on_what_a_guardrail_blocked(graph: Graph, rollout_id: str) -> None:
    run = ran(graph, rollout_id, PREFLIGHT, VARIANTS[0], verdicts={"rows_within_limit": Verdict.BLOCKED})
    check = judged(graph, rollout_id, PREFLIGHT)
    assert not check.passed and check.severity == dg.AssetCheckSeverity.ERROR
    assert f"run {run[:8]} (BTCUSDC, legacy_3_0): rows_within_limit blocked" in str(check.description)
    shown = verdicts_shown(check)
    assert (shown["nothing_blocked"], shown["rows_within_bounds"], shown["runs_succeeded"]) == (
        "failed",
        "failed",
        "passed",
    )


def test_preflight_reads_what_the_runs_own_checks_recorded(graph: Graph, rollout_id: str) -> None:
    """The operators demand more training rows than there are."""
    tag = {ROLLOUT_TAG: rollout_tag(rollout_id, PREFLIGHT)}
    graph.warehouse.set_base_env({"CVN_GUARDRAIL_MIN_ROWS": "9000"}, "an operator")
    try:
        done = graph.run("BTCUSDC", UP_TO_TRAINING_SET, tags=tag, variants={FACTOR: "disabled"})
    finally:
        graph.warehouse.set_base_env({"CVN_GUARDRAIL_MIN_ROWS": None}, "an operator")
    assert not done.success
    check = judged(graph, rollout_id, PREFLIGHT, ("disabled",))
    assert not check.passed and "rows_enough blocked" in str(check.description)

    done = graph.run("BTCUSDC", UP_TO_TRAINING_SET, tags=tag, variants={FACTOR: "disabled"})
    assert done.success
    assert judged(graph, rollout_id, PREFLIGHT, ("disabled",)).passed


def test_a_run_that_dagster_says_failed_fails_the_gate(graph: Graph, rollout_id: str) -> None:
    canary_ran(graph, rollout_id, status=dg.DagsterRunStatus.FAILURE, tags={"dagster/failure_reason": "STEP_FAILURE"})
    shown = verdicts_shown(judged(graph, rollout_id, CANARY))
    assert (shown["runs_succeeded"], shown["workers_kept"]) == ("failed", "passed")


@pytest.mark.parametrize("reason", [{}, {"dagster/failure_reason": "RUN_WORKER_RESTART"}])
def test_a_lost_worker_fails_the_canary_although_its_retry_succeeded(
    graph: Graph, rollout_id: str, reason: dict[str, str]
) -> None:
    first = canary_ran(graph, rollout_id, status=dg.DagsterRunStatus.FAILURE, tags=reason)
    ran(graph, rollout_id, CANARY, VARIANTS[1], tags={"dagster/root_run_id": first, "dagster/parent_run_id": first})
    check = judged(graph, rollout_id, CANARY)
    shown = verdicts_shown(check)
    assert (shown["runs_succeeded"], shown["workers_kept"]) == ("passed", "failed")
    assert f"attempt {first[:8]} lost its worker" in str(check.description)


def test_a_run_anew_replaces_the_one_that_failed(graph: Graph, rollout_id: str) -> None:
    canary_ran(graph, rollout_id, status=dg.DagsterRunStatus.FAILURE, verdicts={"rows_enough": Verdict.BLOCKED})
    ran(graph, rollout_id, CANARY, VARIANTS[1])
    assert judged(graph, rollout_id, CANARY).passed


def test_a_run_of_another_stage_or_rollout_does_not_count(graph: Graph, rollout_id: str) -> None:
    ran(graph, rollout_id, PREFLIGHT, VARIANTS[0])
    ran(graph, rollout_id, PREFLIGHT, VARIANTS[1])
    ran(graph, f"{rollout_id}0", CANARY, VARIANTS[0])
    check = judged(graph, rollout_id, CANARY)
    assert not check.passed and "BTCUSDC, legacy_3_0 has no run" in str(check.description)


def test_the_full_stage_wants_every_crypto_of_the_group(graph: Graph, rollout_id: str) -> None:
    for variant in VARIANTS:
        ran(graph, rollout_id, FULL, variant)
    ran(graph, rollout_id, FULL, VARIANTS[0], crypto="ETHUSDC")
    check = judged(graph, rollout_id, FULL)
    assert not check.passed and "ETHUSDC, relaxed_1_5 has no run" in str(check.description)
    ran(graph, rollout_id, FULL, VARIANTS[1], crypto="ETHUSDC")
    again = judged(graph, rollout_id, FULL)
    assert again.passed and verdicts_shown(again)["metrics_inside"] == "not judged yet"


def test_a_stage_that_was_never_run_cannot_be_judged(graph: Graph) -> None:
    asset = dg.AssetKey("rollout")
    result = (
        graph.defs.resolve_job_def("rollout_gate")
        .get_subset(asset_selection=set(), asset_check_selection={dg.AssetCheckKey(asset, "canary_gate")})
        .execute_in_process(instance=graph.instance, partition_key="focal_loss", raise_on_error=False)
    )
    assert not result.success and not result.get_asset_check_evaluations()
    [failure] = [event.step_failure_data for event in result.all_events if event.is_step_failure]
    assert "cvntrade rollout --factor focal_loss" in str(failure.user_failure_data.description)


# what the asset gives back


def versions(graph: Graph, crypto: str) -> dict[str, str]:
    gate = Gate(graph.instance, {})
    return {asset: gate.current_version(asset, crypto) for asset in UP_TO_TRAINING_SET}


def build(graph: Graph, crypto: str, variant: str | None = None, tag: str | None = None) -> dict[str, str]:
    """Build up to the training set; returns what is current afterwards."""
    result = graph.run(
        crypto,
        UP_TO_TRAINING_SET,
        ROWS if variant is None else {},
        tags={} if tag is None else {ROLLOUT_TAG: tag},
        variants={} if variant is None else {FACTOR: variant},
    )
    assert {event.materialization.asset_key.to_user_string() for event in result.get_asset_materialization_events()}
    return versions(graph, crypto)


def test_what_stood_before_a_stage_is_current_again(graph: Graph, rollout_id: str) -> None:
    stood = build(graph, "BTCUSDC")
    tag = rollout_tag(rollout_id, PREFLIGHT)
    tried = build(graph, "BTCUSDC", "disabled", tag)
    assert {asset for asset in stood if stood[asset] != tried[asset]} == {"training_set"}

    judged(graph, rollout_id, PREFLIGHT, ("disabled",))
    assert versions(graph, "BTCUSDC") == stood
    gate, artifact = Gate(graph.instance, {"training_set": ["schema"]}), stood["training_set"]
    record = graph.store.require("training_set", "BTCUSDC", artifact)
    gate.require_open("training_set", "BTCUSDC", artifact, record.fingerprint)

    # The next stage tries something else; what stood before all of them is what counts.
    build(graph, "BTCUSDC", "stable_3_0", rollout_tag(rollout_id, CANARY))
    judged(graph, rollout_id, CANARY, ("stable_3_0",))
    assert versions(graph, "BTCUSDC") == stood
    rebuilt = graph.run("BTCUSDC", UP_TO_TRAINING_SET, ROWS)
    assert all(event.materialization.metadata["reused"].value for event in rebuilt.get_asset_materialization_events())


def test_what_somebody_built_meanwhile_stays(graph: Graph, rollout_id: str) -> None:
    build(graph, "BTCUSDC", "disabled", rollout_tag(rollout_id, PREFLIGHT))
    meanwhile = build(graph, "BTCUSDC")
    judged(graph, rollout_id, PREFLIGHT, ("disabled",))
    assert versions(graph, "BTCUSDC") == meanwhile


def test_what_was_never_built_before_is_left(graph: Graph, rollout_id: str) -> None:
    tried = build(graph, "ETHUSDC", "disabled", rollout_tag(rollout_id, PREFLIGHT))
    judged(graph, rollout_id, PREFLIGHT, ("disabled",))
    assert versions(graph, "ETHUSDC") == tried
