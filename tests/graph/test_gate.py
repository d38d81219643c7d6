"""The gate at every door that opens in one process: what failed a blocking check, or has no verdict, feeds nothing."""

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import pytest
from dagster._core.execution.backfill import BulkActionStatus, PartitionBackfill
from dagster._core.remote_origin import InProcessCodeLocationOrigin
from dagster._core.remote_representation.grpc_server_registry import GrpcServerRegistry
from dagster._core.test_utils import InProcessTestWorkspaceLoadTarget
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._daemon.backfill import execute_backfill_iteration
from dagster._grpc.server import GrpcServerCommand
from services import Graph, make_graph
from spoilt_market import materialised, price_below_zero, refusal, spoil_market

from asset_checks.contracts import BLOCKING_CHECKS
from cvntrade_assets.market.history import CandleHistory, MonthRecord
from resources.artifacts import Artifact
from resources.gate import FINGERPRINT, Gate

HEALTHY, SPOILT = "BTCUSDC", "ETHUSDC"
OTHERS = ("SOLUSDC", "ADAUSDC", "XRPUSDC", "BONKUSDC", "BNBUSDC", "LTCUSDC")

CHILDREN = {
    "candles": ("features", "labels", "training_set", "backtest"),
    "backtest_candles": ("backtest",),
    "features": ("training_set", "backtest"),
    "labels": ("training_set", "test_report"),
    "training_set": (
        "feature_selection",
        "label_pipeline",
        "hyperparameters",
        "model",
        "calibration",
        "backtest",
        "test_report",
    ),
    "feature_selection": ("label_pipeline",),
    "label_pipeline": ("hyperparameters", "model"),
    "hyperparameters": ("model",),
    "model": ("calibration", "backtest", "test_report"),
    "calibration": ("backtest", "test_report"),
    "backtest": ("test_report",),
}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, warehouse_url: str, mlflow_store: Path) -> Graph:
    """HEALTHY is built to the end; the candles of SPOILT hold a price below 0 and failed their check."""
    graph = make_graph(
        tmp_path_factory.mktemp("gate"), warehouse_url, cryptos=(HEALTHY, SPOILT, *OTHERS), mlflow_store=mlflow_store
    )
    assert graph.run(HEALTHY).success
    with pytest.MonkeyPatch.context() as patch:
        spoil_market(patch, price_below_zero)
        assert not graph.run(SPOILT, ["candles", "backtest_candles"]).success
    return graph


def out_of_order(history: CandleHistory) -> CandleHistory:
    return replace(history, candles=history.candles.iloc[::-1])


def version_of(graph: Graph, asset: str, crypto: str) -> str:
    return Gate(graph.instance, {}).current_version(asset, crypto)


def fingerprint_of(graph: Graph, asset: str, crypto: str) -> str:
    return str(graph.store.require(asset, crypto, version_of(graph, asset, crypto)).fingerprint)


def without_checks(graph: Graph, crypto: str, asset: str, settings: Mapping[str, str]) -> None:
    """Materialise an asset as the UI does when its checks are deselected."""
    job = graph.defs.resolve_job_def("candles_to_report")
    subset = job.get_subset(asset_selection={dg.AssetKey(asset)}, asset_check_selection=set())
    result = subset.execute_in_process(
        instance=graph.instance, partition_key=crypto, run_config=run_config(graph, settings)
    )
    assert materialised(result) == {asset}
    assert not result.get_asset_check_evaluations()


def run_config(graph: Graph, settings: Mapping[str, str]) -> dict[str, Any]:
    return {"resources": {"run_settings": {"config": {"settings": {**graph.run_settings, **settings}}}}}


# the same run


@pytest.mark.parametrize(
    ("spoil", "reason"), [(price_below_zero, "prices must be positive"), (out_of_order, "strictly increasing")]
)
def test_same_run_stops_after_the_failed_check(
    built: Graph, monkeypatch: pytest.MonkeyPatch, spoil: Callable[[CandleHistory], CandleHistory], reason: str
) -> None:
    spoil_market(monkeypatch, spoil)
    result = built.run(OTHERS[0])

    assert not result.success
    assert materialised(result) == {"candles", "backtest_candles"}
    [failed] = [check for check in result.get_asset_check_evaluations() if not check.passed]
    assert (failed.asset_key.to_user_string(), failed.check_name) == ("candles", "schema")
    assert reason in str(failed.description)
    assert failed.metadata["version"].value == version_of(built, "candles", OTHERS[0])


def test_failed_check_holds_one_crypto_only(built: Graph) -> None:
    assert not built.run(SPOILT, ["features"]).success
    assert built.run(HEALTHY, ["features"]).success


# a separate run


def test_separate_run_is_refused_and_told_why(built: Graph) -> None:
    result = built.run(SPOILT, ["features"])

    assert not result.success
    assert not materialised(result)
    version = version_of(built, "candles", SPOILT)
    message = refusal(result, "features")
    assert message.startswith(
        f"candles of ETHUSDC, version {version}, is refused as an input. "
        "check schema failed: the candles break their schema:\n- prices must be positive: 1 of "
    )
    assert message.endswith("Rebuild it with `cvntrade backfill --crypto ETHUSDC --select candles+`, then run again.")


def test_everything_downstream_stays_unbuilt(built: Graph) -> None:
    result = built.run(SPOILT, 'key:"features"+')
    assert not result.success
    assert not materialised(result)


def test_retry_policy_does_not_try_a_refusal_again(built: Graph) -> None:
    stubborn = dg.define_asset_job(
        "stubborn", selection="features", op_retry_policy=dg.RetryPolicy(max_retries=3, delay=0)
    )
    job = dg.Definitions.merge(built.defs, dg.Definitions(jobs=[stubborn])).resolve_job_def("stubborn")
    result = job.execute_in_process(
        instance=built.instance, partition_key=SPOILT, run_config=run_config(built, {}), raise_on_error=False
    )
    assert "check schema failed" in refusal(result, "features")


def test_children_are_all_the_children(built: Graph) -> None:
    graph = built.defs.resolve_asset_graph()
    edges = {(parent, child) for parent, children in CHILDREN.items() for child in children}
    chain = built.defs.resolve_job_def("candles_to_report").asset_layer.executable_asset_keys
    assert edges == {
        (parent.to_user_string(), key.to_user_string()) for key in chain for parent in graph.get(key).parent_keys
    }


@pytest.mark.parametrize("parent", CHILDREN)
def test_newest_verdict_counts_for_every_asset_that_reads(built: Graph, parent: str) -> None:
    check, version = BLOCKING_CHECKS[parent][0], version_of(built, parent, HEALTHY)
    built.instance.report_runless_asset_event(
        dg.AssetCheckEvaluation(
            asset_key=dg.AssetKey(parent),
            check_name=check,
            passed=False,
            metadata={"version": version, FINGERPRINT: fingerprint_of(built, parent, HEALTHY)},
            description="an auditor looked again",
            partition=HEALTHY,
        )
    )
    refused = {child: built.run(HEALTHY, [child]) for child in CHILDREN[parent]}
    judge_alone(built, HEALTHY, parent, {})
    reopened = {child: built.run(HEALTHY, [child]) for child in CHILDREN[parent]}

    for child in CHILDREN[parent]:
        assert not materialised(refused[child])
        assert refusal(refused[child], child) == (
            f"{parent} of BTCUSDC, version {version}, is refused as an input. "
            f"check {check} failed: an auditor looked again. "
            f"Rebuild it with `cvntrade backfill --crypto BTCUSDC --select {parent}+`, then run again."
        )
        assert materialised(reopened[child]) == {child}


def test_good_data_opens_the_gate_again(built: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        spoil_market(patch, price_below_zero)
        assert not built.run(OTHERS[1], ["candles"]).success
    assert not built.run(OTHERS[1], ["features"]).success
    assert built.run(OTHERS[1], ["candles"]).success
    assert built.run(OTHERS[1], ["features"]).success


# a missing verdict


def test_version_that_nobody_judged_is_refused(built: Graph) -> None:
    crypto, other = OTHERS[2], {"CVN_SIMULATED_SEED": "7"}
    assert built.run(crypto, ["candles"]).success, "an older version has passed, which must not speak for the next"
    without_checks(built, crypto, "candles", other)

    refused = built.run(crypto, ["features"], other)

    assert not materialised(refused)
    version = version_of(built, "candles", crypto)
    assert refusal(refused, "features") == (
        f"candles of XRPUSDC, version {version}, is refused as an input. "
        "check schema is missing: it has not judged this version; "
        "check closed is missing: it has not judged this version. "
        "Rebuild it with `cvntrade backfill --crypto XRPUSDC --select candles+`, then run again."
    )

    judge_alone(built, crypto, "candles", other)
    assert built.run(crypto, ["features"], other).success


def judge_alone(graph: Graph, crypto: str, asset: str, settings: Mapping[str, str]) -> None:
    """Execute an asset's checks without materialising it, as the UI does."""
    keys = {key for key in graph.defs.resolve_asset_graph().asset_check_keys if key.asset_key == dg.AssetKey(asset)}
    subset = graph.defs.resolve_job_def("candles_to_report").get_subset(
        asset_selection=set(), asset_check_selection=keys
    )
    result = subset.execute_in_process(
        instance=graph.instance, partition_key=crypto, run_config=run_config(graph, settings)
    )
    assert {check.check_name for check in result.get_asset_check_evaluations()} == {key.name for key in keys}


def test_check_that_could_not_run_is_not_a_pass(built: Graph) -> None:
    crypto, other = OTHERS[3], {"CVN_SIMULATED_SEED": "8"}
    assert built.run(crypto, ["candles"], other).success
    without_checks(built, crypto, "features", other)
    table = built.store.root / "candles" / crypto / version_of(built, "candles", crypto) / "table.parquet"
    table.rename(table.with_suffix(".away"))
    keys = {
        key for key in built.defs.resolve_asset_graph().asset_check_keys if key.asset_key == dg.AssetKey("features")
    }
    subset = built.defs.resolve_job_def("candles_to_report").get_subset(
        asset_selection=set(), asset_check_selection=keys
    )

    result = subset.execute_in_process(
        instance=built.instance, partition_key=crypto, run_config=run_config(built, other), raise_on_error=False
    )
    assert not result.success
    verdicts = Gate(built.instance, BLOCKING_CHECKS).verdicts(
        "features", crypto, fingerprint_of(built, "features", crypto)
    )
    assert {verdict.check: verdict.passed for verdict in verdicts} == {"schema": True, "warm_up": None}


def test_materialization_reported_by_hand_feeds_nothing(built: Graph) -> None:
    crypto = OTHERS[4]
    assert built.run(crypto, ["candles"]).success
    built.instance.report_runless_asset_event(dg.AssetMaterialization("candles", partition=crypto))

    refused = built.run(crypto, ["features"])

    assert not materialised(refused)
    assert refusal(refused, "features") == (
        "the newest materialization of candles of BNBUSDC names no version: it was reported by hand. "
        "Build it with `cvntrade backfill --crypto BNBUSDC --select candles+`, then run again."
    )
    assert built.run(crypto, ["candles", "features"]).success


def test_input_that_was_never_built_is_refused(built: Graph) -> None:
    refused = built.run(OTHERS[5], ["features"])
    assert refusal(refused, "features") == (
        "candles of LTCUSDC was never built. "
        "Build it with `cvntrade backfill --crypto LTCUSDC --select candles+`, then run again."
    )


def test_what_only_discovery_builds_is_refused_with_discoverys_command(built: Graph) -> None:
    job = built.defs.resolve_job_def("walkforward")
    config = run_config(built, {"CVN_BACKTEST_DAYS": "20"})
    never, other = (
        job.execute_in_process(
            instance=built.instance, partition_key=crypto, run_config=config, raise_on_error=False
        ).failure_data_for_node("walk_forward")
        for crypto in (OTHERS[5], HEALTHY)
    )
    said = [each.user_failure_data.description for each in (never, other)]
    assert " of LTCUSDC was never built. Build it with `cvntrade discovery --crypto LTCUSDC`, then" in said[0]
    assert said[1].startswith("screening_matrix of BTCUSDC was never built. Build it with `cvntrade discovery --crypto")


# loading by hand


def test_loading_a_value_meets_the_same_gate(built: Graph) -> None:
    with pytest.raises(dg.Failure, match="check schema failed: the candles break"):
        built.defs.load_asset_value("candles", partition_key=SPOILT, instance=built.instance)
    artifact = built.defs.load_asset_value("candles", partition_key=HEALTHY, instance=built.instance)
    assert isinstance(artifact, Artifact)
    assert artifact.version == version_of(built, "candles", HEALTHY)


# the backfill daemon


@pytest.fixture
def daemon(
    built: Graph, warehouse_url: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[list[str], str], PartitionBackfill]]:
    """Backfills assets of one crypto with the daemon's own loop; runs happen in this process."""
    monkeypatch.setenv("CVN_WAREHOUSE_URL", warehouse_url)
    monkeypatch.setenv("CVN_ARTIFACTS", str(built.folder / "artifacts"))
    monkeypatch.setenv("CVN_MLFLOW_URL", f"sqlite:///{built.folder / 'mlflow.db'}")
    monkeypatch.setenv("CVN_UI_URL", "http://127.0.0.1:3000")
    target = LoadableTargetOrigin(module_name="cvntrade_assets.definitions", attribute="defs")
    workspace = InProcessTestWorkspaceLoadTarget(InProcessCodeLocationOrigin(target))
    logger = logging.getLogger("backfill")
    # The code is loaded in this process: the registry starts no server.
    registry = GrpcServerRegistry(None, GrpcServerCommand.API_GRPC, 60, 60, wait_for_processes_on_shutdown=True)
    with registry, WorkspaceProcessContext(built.instance, workspace, grpc_server_registry=registry) as context:

        def backfill(assets: list[str], crypto: str) -> PartitionBackfill:
            graph = context.create_request_context().asset_graph
            request = PartitionBackfill.from_asset_partitions(
                backfill_id=f"{'-'.join(assets)}-{crypto}",
                asset_graph=graph,
                partition_names=[crypto],
                asset_selection=[dg.AssetKey(name) for name in assets],
                backfill_timestamp=pd.Timestamp.now("UTC").timestamp(),
                tags={},
                dynamic_partitions_store=built.instance,
                all_partitions=False,
                title=None,
                description=None,
                run_config=run_config(built, {}),
            )
            built.instance.add_backfill(request)
            for _ in range(5):
                errors = [error for error in execute_backfill_iteration(context, logger) if error]
                assert not errors
                found = built.instance.get_backfill(request.backfill_id)
                assert found is not None
                if found.status not in (BulkActionStatus.REQUESTED, BulkActionStatus.FAILING):
                    break
            return found

        yield backfill


def test_backfill_is_refused(built: Graph, daemon: Callable[[list[str], str], PartitionBackfill]) -> None:
    done = daemon(["features", "labels"], SPOILT)
    assert done.status == BulkActionStatus.COMPLETED_FAILED
    [run] = built.instance.get_runs(dg.RunsFilter(tags={"dagster/backfill": done.backfill_id}))
    assert run.status == dg.DagsterRunStatus.FAILURE
    failures = built.instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_FAILURE)
    reasons = [str(entry.get_dagster_event().step_failure_data.user_failure_data.description) for entry in failures]
    assert len(reasons) == 2
    assert all("candles of ETHUSDC" in reason and "check schema failed" in reason for reason in reasons)


def test_backfill_of_good_candles_goes_through(
    built: Graph, daemon: Callable[[list[str], str], PartitionBackfill]
) -> None:
    done = daemon(["features", "labels"], HEALTHY)
    assert done.status == BulkActionStatus.COMPLETED_SUCCESS


# what does not close the gate


def test_warning_blocks_nothing(built: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    bad = MonthRecord("2025-06", "quarantined", None, "the checksum is wrong")
    spoil_market(monkeypatch, lambda history: replace(history, months=(bad,)))

    result = built.run(OTHERS[0], ["candles", "features"])

    assert result.success
    [warned] = [check for check in result.get_asset_check_evaluations() if not check.passed]
    assert (warned.check_name, warned.severity) == ("archive_good", dg.AssetCheckSeverity.WARN)
    assert str(warned.description).endswith("2025-06: the checksum is wrong")
    assert built.run(OTHERS[0], ["labels"]).success


# other settings


def test_input_built_with_other_settings_is_refused(built: Graph) -> None:
    result = built.run(HEALTHY, ["features"], {"CVN_DEFAULT_HISTORY_MONTHS": "5", "CVN_SIMULATED_SEED": "3"})

    assert not materialised(result)
    version = version_of(built, "candles", HEALTHY)
    assert refusal(result, "features") == (
        f"features of BTCUSDC refuses its inputs: candles {version} was built with "
        "CVN_DEFAULT_HISTORY_MONTHS='4' (this run: '5'), CVN_SIMULATED_SEED='0' (this run: '3'). "
        "Build what is upstream in this run too, e.g. `cvntrade backfill --crypto BTCUSDC` with the same --set, "
        "or run with the settings that they were built with."
    )


def test_settings_far_upstream_count_too(built: Graph) -> None:
    result = built.run(HEALTHY, ["model"], {"CVN_DEFAULT_PTE": "H6_SL1.0_TP2.0"})
    assert not materialised(result)
    assert "CVN_DEFAULT_PTE='H4_SL1.0_TP2.0' (this run: 'H6_SL1.0_TP2.0')" in refusal(result, "model")


def test_settings_that_upstream_never_used_do_not_matter(built: Graph) -> None:
    assert built.run(HEALTHY, ["features"], {"CVN_CALIBRATION": "isotonic", "CVN_DEFAULT_N_TRIALS": "3"}).success


# inputs that passed their checks and do not belong together


def test_a_model_is_not_tested_on_another_training_set(built: Graph) -> None:
    """The leak that settings alone do not show: the model may have learned from the other set's test rows."""
    crypto, earlier = OTHERS[4], {"CVN_AS_OF": "2025-05-01"}
    assert built.run(crypto).success
    assert built.run(crypto, ["candles", "features", "labels", "training_set"], earlier).success
    result = built.run(crypto, ["calibration"], earlier)
    assert not materialised(result)
    assert "was built from training_set" in refusal(result, "calibration")
    assert "knows candles until" in refusal(result, "calibration")


def test_a_replay_of_the_past_refuses_candles_of_its_future(built: Graph) -> None:
    result = built.run(HEALTHY, ["features"], {"CVN_AS_OF": "2025-05-01"})
    assert not materialised(result)
    assert "and now is 2025-05-01T00:00:00+00:00 (CVN_AS_OF)" in refusal(result, "features")


# a version that failed


def test_a_version_that_failed_is_computed_again_and_not_reused(built: Graph) -> None:
    """What the gate advises works: the damaged version gives way to a good one under the same hash."""
    crypto = OTHERS[5]
    assert built.run(crypto, ["candles", "features"]).success
    version = version_of(built, "features", crypto)
    damage(built, crypto, version)
    assert not built.run(crypto, ["features"]).success
    assert not materialised(built.run(crypto, ["training_set"]))
    assert built.run(crypto, ["features"]).success
    assert version_of(built, "features", crypto) == version


def damage(graph: Graph, crypto: str, version: str) -> None:
    """Publish the version anew with a value that its contract refuses."""
    artifact = graph.store.require("features", crypto, version)
    table, manifest = artifact.load(), artifact.manifest
    table.iloc[5, 3] = float("nan")
    graph.store.discard(artifact)
    graph.store.publish("features", crypto, manifest.provenance, table, manifest.summary, "damaged")


def test_a_version_that_was_removed_and_built_again_is_judged_again(built: Graph) -> None:
    """An old verdict does not open the gate for files that it never saw."""
    assert built.run(HEALTHY).success
    judged = built.store.require("labels", HEALTHY, version_of(built, "labels", HEALTHY))
    built.store.discard(judged)
    without_checks(built, HEALTHY, "labels", {})
    while fingerprint_of(built, "labels", HEALTHY) == judged.fingerprint:
        # They took as long to compute, to the millisecond: alike to the byte, such files keep their verdict.
        built.store.discard(judged)
        without_checks(built, HEALTHY, "labels", {})
    result = built.run(HEALTHY, ["training_set"])
    assert not materialised(result)
    assert "check schema is missing" in refusal(result, "training_set")
    assert built.run(HEALTHY).success
