"""The whole graph on the simulated market: what it is, what a run leaves behind, and what a rerun does again."""

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import dagster as dg
import numpy as np
import pandas as pd
import pytest
from exchange_server import KLINES, ExchangeServer, Reply
from services import Graph, create_database, make_graph

from asset_checks import drift_rules, registry
from asset_checks.contracts import CONTRACTS
from cvntrade_assets.definitions import build_defs
from cvntrade_assets.operations.guardrails import GUARDRAILS
from cvntrade_assets.operations.pipelines import PIPELINES
from resources.artifacts import Artifact
from resources.embedded_postgres import EmbeddedPostgres
from resources.gate import Gate
from resources.warehouse import Warehouse

CRYPTO = "BTCUSDC"

# What the graph is: an asset, what it reads, its group, its owner, its kinds and its checks.
GRAPH = {
    "candles": ((), "market", "mlops-maintainer", {"binance", "parquet"}, ("schema", "closed", "archive_good")),
    "backtest_candles": (
        (),
        "market",
        "mlops-maintainer",
        {"binance", "parquet"},
        ("schema", "closed", "archive_good"),
    ),
    "features": (("candles",), "learning", "ml-owner", {"talib", "parquet"}, ("schema", "warm_up")),
    "labels": (("candles",), "learning", "ml-owner", {"numba", "parquet"}, ("schema", "causal")),
    "training_set": (
        ("candles", "features", "labels"),
        "learning",
        "ml-owner",
        {"numba", "parquet"},
        (
            "rows_match",
            "schema",
            "slices_purged",
            "rows_within_limit",
            "rows_enough",
            "memory_within_limit",
            "rollout_passed",
            "preflight_warnings",
        ),
    ),
    "feature_selection": (
        ("training_set",),
        "learning",
        "ml-owner",
        {"xgboost", "parquet"},
        ("schema", "known_names"),
    ),
    "label_pipeline": (
        ("feature_selection", "training_set"),
        "learning",
        "ml-owner",
        {"cleanlab", "parquet"},
        ("schema", "types_preserved", "rows_match"),
    ),
    "hyperparameters": (
        ("label_pipeline", "training_set"),
        "learning",
        "ml-owner",
        {"optuna", "parquet"},
        ("schema",),
    ),
    "model": (
        ("hyperparameters", "label_pipeline", "training_set"),
        "learning",
        "ml-owner",
        {"xgboost"},
        ("schema", "feature_names", "scores_alike"),
    ),
    "calibration": (
        ("model", "training_set"),
        "learning",
        "ml-owner",
        {"scikitlearn"},
        ("schema", "targets_discrete", "as_calibrated", "unseen_rows", "monotone"),
    ),
    "backtest": (
        ("backtest_candles", "calibration", "candles", "features", "model", "training_set"),
        "evaluation",
        "ml-owner",
        {"numba", "parquet", "matplotlib"},
        ("schema", "as_traded", "of_the_test_slice", "aligned"),
    ),
    "test_report": (
        ("backtest", "calibration", "labels", "model", "training_set"),
        "evaluation",
        "ml-owner",
        {"scikitlearn", "matplotlib", "mlflow"},
        ("schema", "beside_baseline", "unseen_rows", "believable", "run_in_time"),
    ),
}
# Built for a crypto when it is asked for, and not with the chain.
ON_DEMAND = {
    "validation_audit": (("model",), "evaluation", "ml-owner", {"xgboost"}, ("schema", "certified")),
    "screening_matrix": (
        ("candles", "features"),
        "discovery",
        "ml-owner",
        {"xgboost", "numba", "matplotlib"},
        ("schema", "whole_grid", "best_first", "candidates", "before_tests"),
    ),
    "walk_forward": (
        ("backtest_candles", "candles", "features", "screening_matrix"),
        "discovery",
        "ml-owner",
        {"xgboost", "optuna", "numba"},
        (
            *("schema", "after_the_choice", "up_to_now", "unseen_rows", "beside_baseline", "scores_alike"),
            *("as_traded", "as_predicted", "aligned"),
        ),
    ),
    "rolling_backtest": (
        ("backtest_candles", "candles", "features", "walk_forward"),
        "discovery",
        "ml-owner",
        {"xgboost", "numba"},
        ("schema", "whole_window", "no_search", "scores_alike", "as_traded", "aligned"),
    ),
    "evaluation": (
        ("rolling_backtest", "screening_matrix", "walk_forward"),
        "discovery",
        "ml-owner",
        {"matplotlib", "postgres"},
        ("schema", "complete", "leader", "gates", "numbers"),
    ),
    "challenger": (
        ("evaluation", "rolling_backtest"),
        "discovery",
        "mlops-maintainer",
        {"postgres", "mlflow"},
        ("schema", "as_stored"),
    ),
    "drift": (
        ("features", "labels"),
        "operations",
        "ml-owner",
        {"xgboost", "matplotlib", "postgres"},
        ("schema", "as_measured", "unseen", "level", "no_drift"),
    ),
}
# What is beside the chain: built by no crypto's run.
OPERATIONS = {
    "rollout": (
        (),
        "operations",
        "mlops-maintainer",
        {"postgres"},
        ("preflight_gate", "canary_gate", "full_gate"),
    ),
    "guardrail_report": (
        (),
        "operations",
        "mlops-maintainer",
        {"postgres"},
        ("no_run_wasted", "detected_in_time", "few_false_positives", "little_overhead"),
    ),
    "golden_signals": (
        (),
        "operations",
        "mlops-maintainer",
        {"postgres"},
        (
            *("f1_buy_delta_vs_baseline", "screening_testing_gap", "std_f1_buy", "sortino", "sl_pct", "timeout_pct"),
            *("model_freshness", "candle_freshness", "model_overdue", "negative_sortino_runs", "drift"),
        ),
    ),
    "global_state": (
        (),
        "operations",
        "mlops-maintainer",
        {"postgres"},
        (
            *("state_is_green", "infra_health", "pipeline_success_rate", "pipeline_latency", "pass_rate"),
            *("challenger_count", "barren_days", "useful_run_age"),
        ),
    ),
    "morning_report": ((), "operations", "operator", {"postgres"}, ()),
    "model_health": (
        ("candles", "backtest_candles"),
        "operations",
        "ml-owner",
        {"postgres", "xgboost"},
        ("models_are_those_registered", "better_than_always_buy"),
    ),
}
WARNINGS = {
    "archive_good",
    "believable",
    "no_drift",
    "run_in_time",
    "preflight_warnings",
}
JOBS = {
    "candles_to_report": set(GRAPH),
    "refresh_candles": {"candles", "backtest_candles"},
    "rollout_gate": {"rollout"},
    "refresh_guardrail_report": {"guardrail_report"},
    "refresh_morning_report": {"morning_report"},
    "audit_validation": {"validation_audit"},
    **{name: set(pipeline.assets) for name, pipeline in PIPELINES.items()},
    "production_smoke": set(),
    "mirror_models": set(),
    "event_log_retention": set(),
}
SCHEDULES = {
    "event_log_retention_schedule": ("event_log_retention", "17 3 * * *", "RUNNING"),
    "mirror_models_schedule": ("mirror_models", "*/15 * * * *", "RUNNING"),
    "refresh_guardrail_report_schedule": ("refresh_guardrail_report", "47 3 * * *", "RUNNING"),
    "refresh_morning_report_schedule": ("refresh_morning_report", "30 6 * * *", "RUNNING"),
    "discovery_of_the_universe": ("discovery", "0 1 * * 0", "STOPPED"),
    "retrain_of_the_universe": ("retrain", "0 1 * * 3", "STOPPED"),
    "monitoring_of_the_universe": ("monitoring", "0 5 * * *", "STOPPED"),
}
SENSORS = {
    "sync_universe": ("RUNNING", 60),
    "sync_pools": ("RUNNING", 60),
    "run_watch": ("RUNNING", 30),
    "golden_signals_watch": ("RUNNING", 300),
    "freshness_watch": ("RUNNING", 60),
    "refresh_stale_cryptos": ("STOPPED", 300),
    "alert_sources": ("RUNNING", 30),
    "alert_delivery": ("RUNNING", 30),
}

COMMON = {
    "rows": dg.IntMetadataValue,
    "version": dg.TextMetadataValue,
    "reused": dg.BoolMetadataValue,
    "market": dg.TextMetadataValue,
    "settings_used": dg.JsonMetadataValue,
    "seconds": dg.FloatMetadataValue,
    "seconds_computed": dg.FloatMetadataValue,
}
SPANNED = {"candles", "backtest_candles", "features", "labels", "training_set", "backtest", "test_report"}
SETTINGS_USED = {
    "features": {"CVN_TIMEFRAME"},
    "training_set": {
        "CVN_CUSUM_TRAINING_ENABLED",
        "CVN_CUSUM_FILTER_MODE",
        "CVN_CUSUM_THRESHOLD_H",
        "CVN_SLICE_TRAIN",
        "CVN_SLICE_VALIDATION",
        "CVN_SLICE_CALIBRATION",
        "CVN_SLICE_TEST",
        "CVN_UNIQUENESS_WEIGHTS",
        "CVN_EMBARGO_HOURS",
    },
}
CANDLES_TO_LABELS = {"candles", "backtest_candles", "features", "labels"}
FROM_TRAINING_SET = set(GRAPH) - CANDLES_TO_LABELS


class Run:
    """One run's result, read the way a user would."""

    def __init__(self, graph: Graph, result: dg.ExecuteInProcessResult) -> None:
        self.graph, self.result = graph, result
        self.events = {
            event.materialization.asset_key.to_user_string(): event.materialization
            for event in result.get_asset_materialization_events()
        }

    def said(self, asset: str, entry: str) -> Any:
        return self.events[asset].metadata[entry].value

    @property
    def versions(self) -> dict[str, str]:
        return {asset: self.said(asset, "version") for asset in self.events}

    @property
    def reused(self) -> set[str]:
        return {asset for asset in self.events if self.said(asset, "reused")}

    @property
    def failed_checks(self) -> list[str]:
        return [
            f"{check.asset_key.to_user_string()}.{check.check_name}: {check.description}"
            for check in self.result.get_asset_check_evaluations()
            if not check.passed
        ]

    def artifact(self, asset: str) -> Artifact[Any]:
        return self.graph.store.require(asset, CRYPTO, self.said(asset, "version"))


def run(graph: Graph, settings: dict[str, str] | None = None, selection: Iterable[str] | None = None) -> Run:
    """Run to the end: everything selected materialises and every check passes."""
    done = Run(graph, graph.run(CRYPTO, selection, settings))
    assert done.failed_checks == []
    assert done.result.success
    assert set(done.events) == set(selection or GRAPH)
    return done


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory, warehouse_url: str, mlflow_store: Path) -> Graph:
    return make_graph(tmp_path_factory.mktemp("chain"), warehouse_url, mlflow_store=mlflow_store)


@pytest.fixture(scope="module")
def first(graph: Graph) -> Run:
    return run(graph)


@pytest.fixture
def candles_to_labels(graph: Graph, first: Run) -> Run:
    """The defaults' candles, features and labels are the current ones."""
    return run(graph, selection=CANDLES_TO_LABELS)


# what the graph is


def test_graph_is_what_it_was() -> None:
    defs = build_defs()
    graph = defs.resolve_asset_graph()
    checks = {
        asset: {key.name for key in graph.asset_check_keys if key.asset_key == dg.AssetKey(asset)}
        for asset in GRAPH | ON_DEMAND | OPERATIONS
    }
    found = {
        key.to_user_string(): (
            tuple(sorted(parent.to_user_string() for parent in node.parent_keys)),
            node.group_name,
            node.owners,
            node.kinds,
            checks[key.to_user_string()],
        )
        for key in graph.get_all_asset_keys()
        for node in [graph.get(key)]
    }
    assert found == {
        name: (tuple(sorted(reads)), group, [f"team:{owner}"], kinds, set(rules))
        for name, (reads, group, owner, kinds, rules) in (GRAPH | ON_DEMAND | OPERATIONS).items()
    }


def test_jobs_schedules_and_sensors_are_what_they_were() -> None:
    repository = build_defs().get_repository_def()
    jobs = {
        job.name: {key.to_user_string() for key in job.asset_layer.executable_asset_keys}
        for job in repository.get_all_jobs()
        if job.name != "__ASSET_JOB"
    }
    assert jobs == JOBS
    schedules = {
        schedule.name: (schedule.job_name, schedule.cron_schedule, schedule.default_status.value)
        for schedule in repository.schedule_defs
    }
    assert schedules == SCHEDULES
    sensors = {
        sensor.name: (sensor.default_status.value, sensor.minimum_interval_seconds) for sensor in repository.sensor_defs
    }
    assert sensors == SENSORS


def test_every_asset_and_check_of_the_chain_is_one_crypto_at_a_time() -> None:
    graph = build_defs().resolve_asset_graph()
    chain = {dg.AssetKey(name) for name in GRAPH | ON_DEMAND}
    partitions = {graph.get(key).partitions_def for key in chain}
    partitions |= {graph.get(key).partitions_def for key in graph.asset_check_keys if key.asset_key in chain}
    assert partitions == {dg.DynamicPartitionsDefinition(name="crypto")}


def test_every_asset_describes_itself_to_a_newcomer() -> None:
    graph = build_defs().resolve_asset_graph()
    for name in GRAPH | ON_DEMAND | OPERATIONS:
        description = graph.get(dg.AssetKey(name)).description
        assert description is not None, name
        assert description.endswith("."), name
        assert len(description.split()) >= 8, f"{name}: {description}"


def test_rules_block_unless_they_are_a_matter_of_judgement() -> None:
    graph = build_defs().resolve_asset_graph()
    blocking = {key for key in graph.asset_check_keys if graph.get(key).blocking}
    beside = {key for key in graph.asset_check_keys if key.asset_key.to_user_string() in OPERATIONS}
    assert not beside & blocking, "nothing is downstream of them"
    assert {key.name for key in graph.asset_check_keys - blocking - beside} == WARNINGS
    meanings = {(rule.name, rule.meaning) for contract in CONTRACTS for rule in contract.rules}
    meanings |= {(guardrail.name, guardrail.meaning) for guardrail in GUARDRAILS.values()}
    warning = ("features_within_limit", "minutes_within_limit", "variants_apart", "variants_effective")
    meanings |= {(registry.CHECK, registry.MEANING), (drift_rules.CHECK, drift_rules.MEANING)}
    meanings.add(("preflight_warnings", "; ".join(GUARDRAILS[name].meaning for name in warning)))
    assert {(key.name, graph.get(key).description) for key in graph.asset_check_keys - beside} <= meanings


# what a run leaves behind


def test_everything_is_materialised_and_every_check_passes(first: Run) -> None:
    verdicts = first.result.get_asset_check_evaluations()
    judged = {(verdict.asset_key.to_user_string(), verdict.check_name) for verdict in verdicts}
    assert judged == {(asset, rule) for asset, (*_, rules) in GRAPH.items() for rule in rules}
    for verdict in verdicts:
        assert verdict.metadata["version"].value == first.said(verdict.asset_key.to_user_string(), "version")


@pytest.mark.parametrize("asset", GRAPH)
def test_metadata_is_typed_and_complete(first: Run, asset: str) -> None:
    metadata = first.events[asset].metadata
    types = {name: type(value) for name, value in metadata.items()}
    spanned = {"from": dg.TextMetadataValue, "to": dg.TextMetadataValue} if asset in SPANNED else {}
    stored = {"location": dg.PathMetadataValue, "bytes": dg.IntMetadataValue}
    expected = COMMON | spanned | stored
    assert {name: types.get(name) for name in expected} == expected

    artifact = first.artifact(asset)
    assert first.said(asset, "market") == "SIMULATED"
    assert artifact.market == "simulated"
    assert first.events[asset].tags is not None
    assert first.events[asset].tags["cvntrade/market"] == "simulated"
    assert first.events[asset].tags["dagster/data_version"] == first.said(asset, "version")
    assert first.said(asset, "location") == str(artifact.folder)
    assert first.said(asset, "bytes") == artifact.size
    assert first.said(asset, "rows") > 0
    assert first.said(asset, "reused") is False
    assert first.said(asset, "settings_used") == artifact.manifest.provenance.settings
    if asset in SPANNED:
        assert pd.Timestamp(first.said(asset, "from")) < pd.Timestamp(first.said(asset, "to"))


@pytest.mark.parametrize("asset", SETTINGS_USED)
def test_settings_used_are_those_the_asset_reads(first: Run, asset: str) -> None:
    assert set(first.said(asset, "settings_used")) == SETTINGS_USED[asset]


def test_candles_say_where_they_come_from(first: Run) -> None:
    assert first.said("candles", "notes") == ["SIMULATED: these candles were never traded"]
    assert first.said("candles", "to") == "2025-08-31T23:30:00+00:00"
    assert (first.said("candles", "gaps"), first.said("candles", "gap_list")) == (0, [])


def test_report_shows_its_plots_and_its_baseline(first: Run) -> None:
    metadata = first.events["test_report"].metadata
    assert isinstance(metadata["plots"], dg.MarkdownMetadataValue)
    shown = [re.match(r"!\[(.+)\]\(data:image/png;base64,", picture) for picture in _pictures(first)]
    assert {found and found[1] for found in shown} == {
        "reliability diagram",
        "precision recall curve",
        "equity",
        "label timeline",
    }
    for number in ("f1_buy", "baseline_f1_buy", "f1_buy_delta", "pr_auc_lift", "brier_before", "brier_after"):
        assert isinstance(metadata[number], dg.FloatMetadataValue), number
    assert "/#/experiments/" in first.said("test_report", "mlflow")


def test_report_shows_what_the_test_slice_earned_and_how_much_of_it_was_traded(graph: Graph, first: Run) -> None:
    # A threshold that is indifferent to costs trades often.
    done = run(graph, {"CVN_TRADE_THRESHOLD_METHOD": "f1_binary"}, ["calibration", "backtest", "test_report"])
    backtest, report = done.events["backtest"].metadata, done.events["test_report"].metadata
    for number in ("sortino", "total_return", "always_buy_total_return", "buy_and_hold_total_return"):
        assert isinstance(report[number], dg.FloatMetadataValue), number
        assert report[number] == backtest[number]
    assert report["n_trades"].value == backtest["n_trades"].value > 0
    # The fine candles are those of two days, the test slice is longer.
    asked, traded = backtest["asked"].value, backtest["traded"].value
    assert 0 < traded < done.said("test_report", "rows") <= asked
    assert report["covered"].value == backtest["covered"].value == traded / asked
    assert f"{traded} of its {asked} rows are traded" in backtest["notes"].value[0]


def test_a_model_that_never_trades_ends_in_a_verdict_in_words(graph: Graph, first: Run) -> None:
    done = run(graph, {"CVN_FEE_BPS": "500"}, ["calibration", "backtest", "test_report"])
    why = "no threshold earns its costs on the calibration slice"
    assert f"never trades: {why}" in done.said("calibration", "notes")
    assert done.said("calibration", "in_words").endswith(f"; trades no candle: {why}")
    assert done.said("test_report", "in_words").endswith(f"; trades no candle: {why}")
    assert any(note.startswith("no trade: ") for note in done.said("backtest", "notes"))
    assert (done.said("test_report", "n_trades"), done.said("test_report", "total_return")) == (0, 0.0)
    assert done.said("test_report", "f1_buy") == first.said("test_report", "f1_buy") > 0.0
    assert {"sortino", "expectancy_net"} <= set(done.said("test_report", "undefined"))


def test_a_number_that_the_backtest_leaves_undefined_is_named_and_not_invented(first: Run) -> None:
    backtest, report = first.events["backtest"].metadata, first.events["test_report"].metadata
    intervals = {"sortino_low", "sortino_high"}
    assert intervals <= set(first.said("backtest", "undefined")) & set(first.said("test_report", "undefined"))
    assert not intervals & {*backtest, *report}, "two days are too few to say how sure anything is"


def test_rows_agree_along_the_chain(first: Run) -> None:
    sizes = {name: first.said("training_set", f"{name}_rows") for name in ("train", "calibration", "test")}
    assert first.said("label_pipeline", "rows") == first.said("model", "rows") == sizes["train"]
    assert first.said("calibration", "rows") == sizes["calibration"]
    assert first.said("test_report", "rows") == sizes["test"]


def _pictures(done: Run) -> list[str]:
    return re.findall(r"!\[[^]]*\]\([^)]*\)", done.said("test_report", "plots"))


# what a rerun does again


def test_unchanged_rerun_reuses_every_version_and_says_so(graph: Graph, first: Run) -> None:
    again = run(graph)
    assert again.versions == first.versions
    assert again.reused == set(GRAPH)
    assert sorted(_pictures(again)) == sorted(_pictures(first))
    messages = [entry.user_message for entry in graph.instance.all_logs(again.result.run_id)]
    assert f"model of {CRYPTO}: nothing changed, version {first.versions['model']} is reused" in messages
    numbers = ("f1_buy", "threshold", "rows", "from", "to")
    assert all(again.said("test_report", name) == first.said("test_report", name) for name in numbers)


def test_changed_cusum_key_recomputes_from_the_training_set_on(graph: Graph, first: Run) -> None:
    changed = run(graph, {"CVN_CUSUM_THRESHOLD_H": "1.2"})
    assert changed.reused == CANDLES_TO_LABELS
    for asset in GRAPH:
        assert (changed.versions[asset] == first.versions[asset]) == (asset in CANDLES_TO_LABELS), asset

    back = run(graph)
    assert back.versions == first.versions
    assert back.reused == set(GRAPH)
    gate = Gate(graph.instance, {})
    assert {asset: gate.current_version(asset, CRYPTO) for asset in GRAPH} == first.versions


def test_what_changes_no_result_changes_no_version(graph: Graph, first: Run) -> None:
    unused = {"CVN_TUNING_WORKERS": "3", "CVN_BINANCE_API_URL": "http://127.0.0.1:9"}
    spelt_otherwise = {"CVN_CUSUM_THRESHOLD_H": "1.00", "CVN_BINARY_CLASSIFICATION": "true"}
    assert run(graph, unused | spelt_otherwise).reused == set(GRAPH)


def test_force_recomputes_and_the_next_run_goes_back(graph: Graph, first: Run) -> None:
    forced = Run(graph, graph.run(CRYPTO, ["features"], tags={"cvntrade/force": "true"}))
    assert forced.result.success
    assert forced.reused == set()
    assert forced.versions["features"] != first.versions["features"]
    assert run(graph, selection=["features"]).versions["features"] == first.versions["features"]


def test_two_fresh_stores_hold_the_same_bytes(
    postgres_server: EmbeddedPostgres, tmp_path: Path, mlflow_store: Path, first: Run
) -> None:
    url = create_database(postgres_server)
    Warehouse(url).migrate()
    elsewhere = run(make_graph(tmp_path, url, mlflow_store=mlflow_store))

    assert elsewhere.reused == set()
    assert elsewhere.versions == first.versions
    for asset in GRAPH:
        ours, theirs = (made.artifact(asset).manifest.files for made in (first, elsewhere))
        timed = {"hyperparameters": {"best.json", "table.parquet"}, "calibration": {"sigmoid.skops"}}.get(asset, set())
        differing = {name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name)}
        assert differing <= timed, asset
    assert "model.ubj" in first.artifact("model").manifest.files


# every mode runs to the end


def test_three_classes_run_to_the_end(graph: Graph) -> None:
    three = {"CVN_BINARY_CLASSIFICATION": "0", "CVN_THRESHOLD_METHOD": "expected_value"}
    done = run(graph, {**three, "CVN_LABEL_SMOOTHING": "mild"})
    assert done.said("model", "objective") == "softprob"
    assert done.said("labels", "sell_rate") > 0.1
    shares = done.artifact("label_pipeline").load().labels
    assert list(shares.columns) == [-1, 0, 1]
    assert set(done.artifact("calibration").load().rows["target"]) == {0, 1}


def test_focal_loss_runs_to_the_end(graph: Graph, candles_to_labels: Run) -> None:
    done = run(graph, {"CVN_FOCAL_LOSS": "1", "CVN_FOCAL_GAMMA": "1.5"}, FROM_TRAINING_SET)
    assert done.said("model", "objective") == "focal"
    assert done.reused == {"training_set", "feature_selection", "label_pipeline"}


def test_no_embargo_runs_to_the_end(graph: Graph, candles_to_labels: Run) -> None:
    done = run(graph, {"CVN_EMBARGO_HOURS": "0"}, FROM_TRAINING_SET)
    targets = done.artifact("training_set").load().targets
    seen = targets[targets["slice"].isin(["train", "validation"])]["exit_time"].max()
    assert done.artifact("calibration").load().rows.index[0] == seen, "a row may open the moment that labels end"


@pytest.mark.parametrize("method", ["none", "sigmoid", "platt", "isotonic", "hybrid"])
def test_incident_17_3_soft_labels_and_every_calibration_run_to_the_end(
    graph: Graph, candles_to_labels: Run, method: str
) -> None:
    soft = {"CVN_LABEL_SMOOTHING": "aggressive", "CVN_CLEANLAB": "filter", "CVN_CALIBRATION": method}
    done = run(graph, soft, FROM_TRAINING_SET)

    prepared = done.artifact("label_pipeline").load()
    assert set(np.unique(prepared.labels)) == {0.0, 0.7}
    assert 0 < done.said("label_pipeline", "rows") < done.said("label_pipeline", "rows_in")
    used = done.artifact("calibration").load()
    assert used.calibration.method == method
    assert set(used.rows["target"]) == {0, 1}


def test_suspects_reweighted_run_to_the_end(graph: Graph, candles_to_labels: Run) -> None:
    done = run(graph, {"CVN_CLEANLAB": "reweight", "CVN_THRESHOLD_METHOD": "expected_value"}, FROM_TRAINING_SET)
    prepared = done.artifact("label_pipeline").load()
    assert done.said("label_pipeline", "rows") == done.said("label_pipeline", "rows_in")
    assert prepared.suspects.any()


def test_no_asset_calls_a_host_that_has_banned_us(
    graph: Graph, exchange: ExchangeServer, random_candles: Callable[..., pd.DataFrame]
) -> None:
    """Both candle assets of one run, then another run."""
    crypto = "BTCUSDT"
    exchange.candles = random_candles(92 * 48, seed=11)
    exchange.publish(crypto, "30m", "2024-03", exchange.candles)
    exchange.play(KLINES, Reply(418, headers={"Retry-After": "7200"}))
    graph.instance.add_dynamic_partitions("crypto", [crypto])
    settings = {
        "CVN_MARKET": "binance",
        "CVN_BINANCE_ARCHIVE_URL": exchange.base,
        "CVN_BINANCE_API_URL": exchange.base,
        "CVN_AS_OF": "2024-04-02",
        "CVN_DEFAULT_HISTORY_MONTHS": "1",
    }

    for assets in (["candles", "backtest_candles"], ["candles"]):
        result = graph.run(crypto, assets, settings)
        failures = [event.step_failure_data for event in result.all_events if event.is_step_failure]
        reasons = [str(failure.user_failure_data.description) for failure in failures]
        assert len(reasons) == len(assets)
        assert all("418, this network address is banned until" in reason for reason in reasons), reasons
    assert exchange.paths.count(KLINES) == 1
    release = graph.warehouse.exchange_ban(urlsplit(exchange.base).netloc)
    assert release is not None
    assert release > pd.Timestamp.now("UTC") + pd.Timedelta(hours=1)

    archived = graph.run(crypto, ["candles"], {**settings, "CVN_AS_OF": "2024-04-01"})
    assert archived.success, "what the archive holds needs no API"
    assert exchange.paths.count(KLINES) == 1


def test_stable_mode_keeps_the_other_candles(graph: Graph, candles_to_labels: Run) -> None:
    counts = {
        mode: run(graph, settings, ["training_set"]).said("training_set", "train_rows")
        for mode, settings in {
            "event": {},
            "stable": {"CVN_CUSUM_FILTER_MODE": "stable"},
            "off": {"CVN_CUSUM_TRAINING_ENABLED": "0"},
        }.items()
    }
    assert counts["event"] + counts["stable"] == counts["off"]
