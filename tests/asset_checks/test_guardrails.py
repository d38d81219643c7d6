"""Preflight's checks: what they count from the stored files, and how each verdict looks to Dagster and to the gate."""

from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import dagster as dg
import pandas as pd
import pytest
from services import Graph, make_graph

from asset_checks.contract import Subject
from asset_checks.contracts import BLOCKING_CHECKS
from asset_checks.guardrails import CHECKS, WARNINGS, preflight_checks, results, stored_size
from cvntrade_assets.learning.features import FEATURE_NAMES
from cvntrade_assets.learning.training_rows import count_training_rows
from cvntrade_assets.operations.guardrails import GUARDRAILS, PREFLIGHT, Evaluation, Verdict
from cvntrade_assets.settings import resolve
from resources.gate import FINGERPRINT, Gate

CRYPTO = "BTCUSDC"
REASON = "emergency retraining after a flash crash, approved by @risk"
ERROR, WARN = dg.AssetCheckSeverity.ERROR, dg.AssetCheckSeverity.WARN


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory, warehouse_url: str, mlflow_store: Path) -> Iterator[Graph]:
    made = make_graph(tmp_path_factory.mktemp("checks"), warehouse_url, mlflow_store=mlflow_store)
    with closing(made.warehouse), made.instance:
        assert made.run(CRYPTO, ["candles", "features", "labels", "training_set"]).success
        yield made


@pytest.fixture
def subject(graph: Graph) -> Subject:
    version = Gate(graph.instance, {}).current_version("training_set", CRYPTO)
    return Subject(graph.store.require("training_set", CRYPTO, version), graph.store)


def shown(graph: Graph, subject: Subject, evaluation: Evaluation) -> dg.AssetCheckResult:
    size = stored_size(subject, graph.settings)
    [result] = results([evaluation], subject, size, graph.settings)
    return result


def test_rows_are_counted_from_the_stored_targets_whatever_the_summary_says(graph: Graph, subject: Subject) -> None:
    targets = pd.read_parquet(subject.artifact.folder / "targets.parquet")
    size = stored_size(subject, graph.settings)
    assert size.train_rows == int((targets["slice"] == "train").sum()) > 100
    assert (size.offered_features, size.model_features) == (len(FEATURE_NAMES), 10)
    assert size.candles == len(subject.upstream("candles").candles)

    manifest = replace(subject.manifest, summary={**subject.manifest.summary, "train_rows": 7, "candles": 1})
    subject.artifact.manifest = manifest
    assert stored_size(subject, graph.settings) == size


def test_what_was_stored_is_what_would_be_counted_from_the_candles(graph: Graph, subject: Subject) -> None:
    counted = count_training_rows(subject.upstream("candles").candles, graph.settings)
    stored = subject.table("targets.parquet")["slice"].value_counts()
    assert counted == {name: stored[name] for name in counted}


def test_features_for_the_model_are_those_that_are_asked_for_or_offered(graph: Graph, subject: Subject) -> None:
    now = pd.Timestamp.now("UTC")
    for asked, given in (("30", 30), ("1000", len(FEATURE_NAMES))):
        under = resolve(base_env={}, run={**graph.run_settings, "CVN_MAX_FEATURES": asked}, now=now)
        assert stored_size(subject, under).model_features == given


@pytest.mark.parametrize(
    ("guardrail", "verdict", "passed", "severity"),
    [
        ("rows_within_limit", Verdict.PASSED, True, WARN),
        ("rows_within_limit", Verdict.ALLOWED, True, WARN),
        ("rows_within_limit", Verdict.OVERRIDDEN, False, WARN),
        ("rows_within_limit", Verdict.BLOCKED, False, ERROR),
        ("memory_within_limit", Verdict.UNKNOWN, False, ERROR),
    ],
)
def test_only_what_stops_a_run_is_an_error(
    graph: Graph, subject: Subject, guardrail: str, verdict: Verdict, passed: bool, severity: dg.AssetCheckSeverity
) -> None:
    reason = REASON if verdict is Verdict.OVERRIDDEN else None
    evaluation = Evaluation(guardrail, verdict, "why", 12_345, 10_000, True, "factor, run", reason)
    result = shown(graph, subject, evaluation)
    assert (result.passed, result.severity) == (passed, severity)
    assert (result.check_name, result.description) == (guardrail, "why")
    said = {name: value.value for name, value in result.metadata.items()}
    assert said[FINGERPRINT] == subject.artifact.fingerprint
    assert (said["version"], said["verdict"]) == (subject.artifact.version, verdict)
    assert (said["value"], said["limit"], said["explicit"], said["layer"]) == (12_345.0, 10_000.0, True, "factor, run")
    assert said["estimated_memory_gib"] > 0 and said["estimated_minutes"] > 0
    assert said.get("override_reason") == reason


@pytest.mark.parametrize(
    ("verdict", "passed"),
    [(Verdict.PASSED, True), (Verdict.ALLOWED, True), (Verdict.WARNED, False), (Verdict.UNKNOWN, False)],
)
def test_guardrails_that_only_warn_share_a_check(
    graph: Graph, subject: Subject, verdict: Verdict, passed: bool
) -> None:
    size = stored_size(subject, graph.settings)
    slow = Evaluation("minutes_within_limit", verdict, "it takes long", 45, 30, False, "base_env")
    wide = Evaluation("features_within_limit", Verdict.PASSED, "few features", 10, 200)
    [result] = results([wide, slow], subject, size, graph.settings)
    assert (result.check_name, result.passed, result.severity) == (WARNINGS, passed, WARN)
    assert result.description == "few features; it takes long"
    said = {name: value.value for name, value in result.metadata.items()}
    assert said[FINGERPRINT] == subject.artifact.fingerprint
    assert (said["minutes_within_limit: verdict"], said["minutes_within_limit: value"]) == (verdict, 45.0)
    assert said["features_within_limit: limit"] == 200.0


def test_what_has_no_number_shows_none(graph: Graph, subject: Subject) -> None:
    said = shown(graph, subject, Evaluation("rollout_passed", Verdict.PASSED, "not needed")).metadata
    assert not {"value", "limit"} & set(said)
    assert said["layer"].value == "none"


def test_the_gate_asks_for_every_check_that_blocks() -> None:
    specs: Mapping[str, dg.AssetCheckSpec] = {spec.name: spec for spec in preflight_checks(()).check_specs}
    blocking = {name for name in PREFLIGHT if GUARDRAILS[name].blocks}
    assert set(specs) == {*blocking, WARNINGS}
    assert {name for name, spec in specs.items() if spec.blocking} == blocking
    assert blocking <= set(BLOCKING_CHECKS["training_set"])
    assert WARNINGS not in BLOCKING_CHECKS["training_set"]
    assert {name for guardrails in CHECKS.values() for name in guardrails} == set(PREFLIGHT)
