"""The validation audit in the graph: complete, skipped, inconclusive, refused; never captured again."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import pytest
from services import Graph, make_graph

from cvntrade_assets.commands.plan import stage_facts
from cvntrade_assets.commands.selection import resolve_selection
from cvntrade_assets.operations.audit_verdict import (
    CompleteAudit,
    InconclusiveAudit,
    NotCertifiableError,
    SkippedAudit,
    certify,
)
from cvntrade_assets.operations.provenance import FORCE_TAG
from resources.gate import FINGERPRINT, Gate

CRYPTO = "BTCUSDC"
SKIP = "CVN_S40_SKIP_S22A1_CROSSREF"


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory, warehouse_url: str, mlflow_store: Path) -> Graph:
    built = make_graph(tmp_path_factory.mktemp("audit"), warehouse_url, mlflow_store=mlflow_store)
    assert built.run(CRYPTO).success
    return built


class Audited:
    """One run of the job, read the way a user would."""

    def __init__(self, graph: Graph, *, force: bool = False, **settings: str) -> None:
        config = {"settings": {**graph.run_settings, **settings}}
        self.result = graph.defs.resolve_job_def("audit_validation").execute_in_process(
            instance=graph.instance,
            partition_key=CRYPTO,
            run_config={"resources": {"run_settings": {"config": config}}},
            tags={FORCE_TAG: "true"} if force else {},
            raise_on_error=False,
        )
        self.checks = {check.check_name: check for check in self.result.get_asset_check_evaluations()}
        made = self.result.get_asset_materialization_events()
        self.metadata = {name: entry.value for name, entry in made[0].materialization.metadata.items()} if made else {}
        self.value: Any = None
        if made:
            self.value = graph.store.require("validation_audit", CRYPTO, self.metadata["version"]).load()

    @property
    def certified(self) -> dg.AssetCheckEvaluation:
        return self.checks["certified"]

    @property
    def failure(self) -> str:
        failures = [event.step_failure_data for event in self.result.all_events if event.is_step_failure]
        return str(failures[0].user_failure_data.description)


@contextmanager
def skipping(graph: Graph) -> Iterator[None]:
    graph.warehouse.set_base_env({SKIP: "1"}, "a test")
    try:
        yield
    finally:
        graph.warehouse.set_base_env({SKIP: None}, "a test")


@contextmanager
def without(path: Path, aside: Path) -> Iterator[None]:
    """A file or folder of the store that is not there for a while."""
    shutil.move(path, aside)
    try:
        yield
        assert not path.exists(), "nothing is captured again"
    finally:
        shutil.move(aside, path)


def captured(graph: Graph, asset: str = "training_set") -> Path:
    version = Gate(graph.instance, {}).current_version(asset, CRYPTO)
    return graph.store.require(asset, CRYPTO, version).folder


def test_a_complete_audit_is_certified(graph: Graph) -> None:
    done = Audited(graph)
    assert done.result.success
    assert [check.description for check in done.checks.values() if not check.passed] == []
    assert set(done.checks) == {"schema", "certified"}

    assert isinstance(done.value, CompleteAudit)
    assert certify(done.value).subject.model_version == Gate(graph.instance, {}).current_version("model", CRYPTO)
    assert done.metadata["audit"] == "complete"
    assert (done.metadata["s22a1_status"], done.metadata["s22a1_anchor_available"]) == ("REPRODUCED", True)
    assert done.metadata["audited_training_set"] == captured(graph).name
    assert done.metadata["probes_failed"] == []
    assert len(done.metadata["probes"].records) == done.metadata["probes_asked"] == len(done.value.probes)
    messages = [entry.user_message for entry in graph.instance.all_logs(done.result.run_id)]
    assert "audit: probe noise_is_not_learned" in messages
    assert any(message.startswith("audit: anchor round 250") for message in messages)


def test_an_unchanged_audit_is_reused(graph: Graph) -> None:
    first, again = Audited(graph), Audited(graph)
    assert again.metadata["reused"]
    assert again.value == first.value


def test_a_skipped_audit_warns_what_it_does_not_certify(graph: Graph) -> None:
    whole = Audited(graph)
    with skipping(graph):
        done = Audited(graph)
    assert done.result.success
    assert isinstance(done.value, SkippedAudit)
    assert (done.metadata["s22a1_status"], done.metadata["s22a1_anchor_available"]) == ("SKIPPED", False)
    assert done.metadata["version"] != whole.metadata["version"]
    assert done.value.probes == whole.value.probes, "the probes say the same"

    assert not done.certified.passed
    assert done.certified.severity == dg.AssetCheckSeverity.WARN
    assert "s22a1_status=SKIPPED" in done.certified.description
    assert "does not certify that the recorded model can be reproduced" in done.certified.description
    with pytest.raises(NotCertifiableError):
        certify(done.value)
    assert Audited(graph).value == whole.value, "the flag taken away, the audit is whole again"


def test_skipping_is_refused_where_the_model_is_the_question(graph: Graph) -> None:
    with skipping(graph):
        done = Audited(graph, CVN_AUDIT_DIAGNOSIS="s22")
    assert not done.result.success
    assert done.metadata == {}
    assert "diagnosis s22 needs xy_and_model, so its anchor may not be skipped" in done.failure

    whole = Audited(graph, CVN_AUDIT_DIAGNOSIS="s22")
    assert whole.result.success
    assert isinstance(whole.value, CompleteAudit)
    assert whole.metadata["diagnosis"] == "s22"


def test_a_run_may_not_set_the_flag(graph: Graph) -> None:
    done = Audited(graph, **{SKIP: "1"})
    assert not done.result.success
    assert done.metadata == {}


def expect_inconclusive(done: Audited) -> None:
    assert isinstance(done.value, InconclusiveAudit)
    assert (done.metadata["s22a1_status"], done.metadata["s22a1_anchor_available"]) == ("INCONCLUSIVE_TOOLING", False)
    assert done.metadata["probes_asked"] == 0
    assert "is not captured again" in done.metadata["reason"]
    assert done.checks["schema"].passed
    assert not done.certified.passed
    assert done.certified.severity == dg.AssetCheckSeverity.ERROR
    assert done.certified.description.startswith("INCONCLUSIVE_TOOLING: what was captured cannot be read")
    with pytest.raises(NotCertifiableError):
        certify(done.value)


@pytest.mark.parametrize("missing", ["", "features.parquet", "targets.parquet"])
@pytest.mark.parametrize("skips", [True, False])
def test_missing_capture_is_inconclusive(graph: Graph, tmp_path: Path, missing: str, skips: bool) -> None:
    with skipping(graph) if skips else nullcontext(), without(captured(graph) / missing, tmp_path / "aside"):
        # A forced version is none that an earlier audit left.
        expect_inconclusive(Audited(graph, force=True))


def test_missing_training_rows_leave_the_probes_without_an_anchor(graph: Graph, tmp_path: Path) -> None:
    """What the anchor needs is not there: no anchor, and so no complete audit; a skipped one needs none."""
    with without(captured(graph, "label_pipeline"), tmp_path / "aside"):
        expect_inconclusive(Audited(graph, force=True))
        with skipping(graph):
            assert isinstance(Audited(graph, force=True).value, SkippedAudit)


def test_changed_capture_is_inconclusive(graph: Graph, tmp_path: Path) -> None:
    file = captured(graph) / "targets.parquet"
    shutil.copy(file, tmp_path)
    pd.read_parquet(file).iloc[::-1].to_parquet(file)
    try:
        done = Audited(graph, force=True)
    finally:
        shutil.copy(tmp_path / file.name, file)
    expect_inconclusive(done)
    assert "is not what was published: sha256" in done.metadata["reason"]


def test_an_inconclusive_audit_is_made_again(graph: Graph, tmp_path: Path) -> None:
    """As everything that a check refused: once what was missing is back, the same audit is complete."""
    before = Audited(graph)
    graph.store.discard(graph.store.require("validation_audit", CRYPTO, before.metadata["version"]))
    with without(captured(graph), tmp_path / "aside"):
        expect_inconclusive(Audited(graph))
    again = Audited(graph)
    assert again.metadata["version"] == before.metadata["version"]
    assert not again.metadata["reused"]
    assert again.value == before.value


def test_a_model_that_a_check_refused_is_not_audited(graph: Graph) -> None:
    version = Gate(graph.instance, {}).current_version("model", CRYPTO)
    fingerprint = graph.store.require("model", CRYPTO, version).fingerprint
    graph.instance.report_runless_asset_event(
        dg.AssetCheckEvaluation(
            asset_key=dg.AssetKey("model"),
            check_name="scores_alike",
            passed=False,
            metadata={"version": version, FINGERPRINT: fingerprint},
            description="an auditor looked again",
            partition=CRYPTO,
        )
    )
    refused = Audited(graph)
    assert not refused.result.success
    assert refused.metadata == {}
    assert "check scores_alike failed: an auditor looked again" in refused.failure

    assert graph.run(CRYPTO, ["model"]).success, "computed and judged again"
    assert Audited(graph).result.success


def test_the_chain_leaves_the_audit_out(graph: Graph) -> None:
    assert "validation_audit" not in {stage.name for stage in stage_facts()}
    assert "validation_audit" in {stage.name for stage in stage_facts(on_demand=True)}
    assert "validation_audit" not in resolve_selection("*") | resolve_selection("model+")
    assert resolve_selection("validation_audit") == {"validation_audit"}
    assert resolve_selection("model+, validation_audit") == resolve_selection("model+") | {"validation_audit"}
    chain = graph.defs.resolve_job_def("candles_to_report").asset_layer.executable_asset_keys
    assert dg.AssetKey("validation_audit") not in chain
