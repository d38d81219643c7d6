"""The asset `challenger` and its check, run by Dagster on a PostgreSQL, an artifact store and an MLflow."""

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import dagster as dg
import pandas as pd
import pytest
from correlation_records import gates, record

from asset_checks.registry import registry_check
from cvntrade_assets.assets.challenger import challenger
from cvntrade_assets.automation.model_mirror import mirror_models, mirror_models_schedule
from cvntrade_assets.operations.correlation_data import CorrelationData
from cvntrade_assets.operations.lifecycle import ModelState
from cvntrade_assets.operations.provenance import Provenance
from cvntrade_assets.operations.taxonomy import Role
from cvntrade_assets.partitions import CRYPTO
from resources.artifacts import ArtifactStore
from resources.codecs import CODECS
from resources.embedded_postgres import free_port
from resources.evaluation_codecs import StoredEvaluation
from resources.evaluations import EvaluationOf, record_evaluations
from resources.io_manager import ArtifactIOManager, Draft
from resources.model_mirror import MODEL_FILE, registered_name
from resources.registry import Actor, events, models, transition
from resources.run_settings import RunSettings
from resources.tracking import TrackingResource
from resources.warehouse import Warehouse
from resources.warehouse_resource import WarehouseResource

NAME, PTE, OTHER = "BTCUSDC", "H4_SL1.0_TP2.0", "H2_SL1.5_TP3.0"
FROM, TO = pd.Timestamp("2025-06-01", tz="UTC"), pd.Timestamp("2025-09-01", tz="UTC")
FITTED, OTHER_FITTED = pd.Timestamp("2025-08-22", tz="UTC"), pd.Timestamp("2025-08-12", tz="UTC")
PNG = b"\x89PNG\r\n\x1a\n"
MODEL = bytes(range(256)) * 40
ANN = Actor("ann", Role.MLOPS_MAINTAINER, "a test")


class Files:
    """Contents by name."""

    def write(self, folder: Path, value: Mapping[str, bytes]) -> None:
        for name, content in value.items():
            (folder / name).write_bytes(content)

    def read(self, folder: Path) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in folder.iterdir()}


@dataclass
class Upstream:
    """What the next run's upstream assets publish."""

    model: bytes = MODEL
    market: str = "binance"
    records: tuple[CorrelationData[str], ...] = ()
    version: str = "1"


@dataclass
class Place:
    """Where the runs of a test happen."""

    folder: Path
    url: str
    warehouse: Warehouse
    instance: dg.DagsterInstance
    upstream: Upstream = field(default_factory=Upstream)
    mlflow: str = ""

    def __post_init__(self) -> None:
        self.mlflow = self.mlflow or f"sqlite:///{self.folder / 'mlflow.db'}"
        codecs = {**CODECS, "rolling_backtest": Files()}
        self.store = ArtifactStore(self.folder / "artifacts", self.warehouse, codecs)

    def resources(self) -> dict[str, Any]:
        warehouse = WarehouseResource(url=self.url)
        return {
            "warehouse": warehouse,
            "run_settings": RunSettings(warehouse=warehouse),
            "tracking": TrackingResource(uri=self.mlflow, ui_url="http://ui.example"),
            "io_manager": ArtifactIOManager(self.store, {}),
        }

    def run(self) -> dg.ExecuteInProcessResult:
        with self._files_of_mlflow():
            return dg.materialize(
                [*self._assets(), challenger, registry_check],
                resources=self.resources(),
                instance=self.instance,
                partition_key=NAME,
                run_config={
                    "resources": {"run_settings": {"config": {"settings": {"CVN_MARKET": self.upstream.market}}}}
                },
                raise_on_error=False,
            )

    def mirror_again(self) -> dg.ExecuteInProcessResult:
        with self._files_of_mlflow():
            return mirror_models.execute_in_process(resources=self.resources(), instance=self.instance)

    def _files_of_mlflow(self) -> Any:
        # In production a server decides where they go.
        return mock.patch.dict(os.environ, {"_MLFLOW_SERVER_ARTIFACT_ROOT": str(self.folder / "mlflow")})

    def _assets(self) -> list[dg.AssetsDefinition]:
        told = self.upstream

        def provenance(inputs: Mapping[str, str]) -> Provenance:
            return Provenance(told.version, inputs, {}, told.market, {}, TO.isoformat())

        def made(draft: Draft) -> dg.MaterializeResult[Any]:
            return dg.MaterializeResult(value=draft, data_version=dg.DataVersion(draft.provenance.version))

        @dg.asset(partitions_def=CRYPTO, io_manager_key="io_manager")
        def rolling_backtest() -> dg.MaterializeResult[Any]:
            files = {f"last-{PTE}-{MODEL_FILE}": told.model, f"last-{OTHER}-{MODEL_FILE}": b"another"}
            until = {PTE: FITTED.isoformat(), OTHER: OTHER_FITTED.isoformat()}
            return made(Draft(provenance({"candles": "candles-1"}), files, {"model_data_until": until}))

        @dg.asset(
            partitions_def=CRYPTO,
            io_manager_key="io_manager",
            ins={"rolling_backtest": dg.AssetIn(dagster_type=dg.Any)},
        )
        def evaluation(context: dg.AssetExecutionContext, rolling_backtest: Any) -> Iterator[dg.MaterializeResult[Any]]:
            stored = StoredEvaluation(told.records, {}, {"equity": PNG})
            refusing = ",".join(gate.name for each in told.records for gate in each.gates if not gate.passed)
            draft = Draft(provenance({"rolling_backtest": rolling_backtest.version, "gates": refusing}), stored)
            yield made(draft)
            whose = EvaluationOf(
                context.run.run_id,
                context.run.run_id,
                NAME,
                draft.provenance.version,
                "walk-forward",
                rolling_backtest.version,
                False,
                FROM,
                TO,
            )
            record_evaluations(self.warehouse, whose, [(each, None) for each in told.records])

        return [rolling_backtest, evaluation]

    def refused(self, *names: str) -> None:
        """The leading candidate is refused by these gates; the other one by none."""
        leading = record(crypto=NAME, pte=PTE, market=self.upstream.market, gates=gates(*names))
        other = record(crypto=NAME, pte=OTHER, market=self.upstream.market, leading=False, rank=2)
        self.upstream.records = (leading, other)


@pytest.fixture
def place(tmp_path: Path, warehouse_url: str, mlflow_store: Path) -> Iterator[Place]:
    shutil.copy(mlflow_store, tmp_path / "mlflow.db")
    with closing(Warehouse(warehouse_url)) as warehouse, dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions("crypto", [NAME])
        place = Place(tmp_path, warehouse_url, warehouse, instance)
        # A rolling backtest of this test alone: the tests share a registry.
        place.upstream.version = tmp_path.name
        place.refused()
        yield place


def said(result: dg.ExecuteInProcessResult) -> dict[str, Any]:
    [event] = result.get_asset_materialization_events()[-1:]
    assert event.materialization.asset_key == dg.AssetKey("challenger")
    return {name: value.value for name, value in event.materialization.metadata.items()}


def verdict(result: dg.ExecuteInProcessResult) -> dg.AssetCheckEvaluation:
    [evaluation] = result.get_asset_check_evaluations()
    return evaluation


def test_what_passed_every_gate_is_a_challenger_here_and_in_mlflow(place: Place) -> None:
    from mlflow import MlflowClient

    result = place.run()
    assert result.success and verdict(result).passed
    told = said(result)
    [model] = [each for each in models(place.warehouse, [NAME]) if each.number == told["number"]]
    assert (told["state"], told["reason"]) == ("challenger", "it passed every gate, and is challenger")
    assert (model.state, model.pte, model.market) == (ModelState.CHALLENGER, PTE, "binance")
    assert (model.run_id, model.mirrored) == (result.run_id, True)
    # It was fitted before the step that it was judged on.
    assert (model.fitted_until, model.data_until) == (FITTED, TO)
    version = MlflowClient(place.mlflow).get_model_version_by_alias(registered_name(NAME), "challenger")
    assert (str(version.version), version.tags["data_version"]) == (told["mlflow_version"], "candles-1")
    assert told["mlflow"].endswith(f"/#/models/cvntrade-{NAME}/versions/{version.version}")
    assert told["not_mirrored_yet"] == "nothing"


def test_running_it_again_changes_nothing(place: Place) -> None:
    first = said(place.run())
    happened = events(place.warehouse, NAME)
    again = said(place.run())
    assert again["reused"] and not first["reused"]
    assert {name: again[name] for name in ("version", "number", "state", "epoch", "reason", "mlflow_version")} == {
        name: first[name] for name in ("version", "number", "state", "epoch", "reason", "mlflow_version")
    }
    assert events(place.warehouse, NAME) == happened


def test_what_a_gate_refuses_stays_a_candidate_and_says_why(place: Place) -> None:
    place.refused("dsr", "sortino")
    result = place.run()
    assert result.success and verdict(result).passed
    told = said(result)
    assert told["state"] == "candidate"
    assert told["reason"] == (
        "not registered as a challenger: gate sortino: sortino is 0.5, limit 0.4; gate dsr: dsr is 0.5, limit 0.4"
    )
    assert told["mlflow_version"] == "" and "mlflow" not in told
    # Evaluated again, with gates that it passes.
    place.refused()
    assert said(place.run())["state"] == "challenger"


def test_what_was_simulated_keeps_its_mark(place: Place) -> None:
    place.upstream.market = "simulated"
    place.refused()
    told = said(place.run())
    assert told["state"] == "challenger"
    assert told["market"] == "SIMULATED" and told["reason"].endswith("SIMULATED: it can never be champion")


def test_a_decision_stands_without_mlflow_and_is_shown_later(place: Place) -> None:
    healthy, place.mlflow = place.mlflow, f"http://127.0.0.1:{free_port()}"
    result = place.run()
    assert result.success and verdict(result).passed
    told = said(result)
    assert told["state"] == "challenger" and told["mlflow_version"] == ""
    assert "does not answer" in told["not_mirrored_yet"]

    context = dg.build_schedule_context(instance=place.instance, resources={"warehouse": place.warehouse})
    assert isinstance(mirror_models_schedule(context), dg.RunRequest)
    assert place.mirror_again().success and isinstance(mirror_models_schedule(context), dg.RunRequest)
    place.mlflow = healthy
    assert place.mirror_again().success
    [model] = [each for each in models(place.warehouse, [NAME]) if each.number == told["number"]]
    assert model.mirrored
    assert isinstance(mirror_models_schedule(context), dg.SkipReason)


def test_another_model_under_a_registered_version_is_refused(place: Place) -> None:
    first = place.run()
    assert first.success
    [model] = [each for each in models(place.warehouse, [NAME]) if each.number == said(first)["number"]]
    shutil.rmtree(place.store.require("rolling_backtest", NAME, model.rolling_version).folder)
    place.upstream.model = b"somebody else's"
    result = place.run()
    assert not result.success
    [failure] = [event for event in result.all_events if event.is_step_failure]
    assert "A version never changes: find out who replaced its files" in str(
        failure.step_failure_data.user_failure_data
    )


def test_the_check_finds_a_file_that_mlflow_changed(place: Place) -> None:
    told = said(place.run())
    [file] = (place.folder / "mlflow").rglob(MODEL_FILE)
    file.write_bytes(MODEL[:-1] + b"!")
    result = place.run()
    found = verdict(result)
    assert not result.success and not found.passed and found.severity is dg.AssetCheckSeverity.ERROR
    assert f"{MODEL_FILE} in MLflow, version {told['mlflow_version']}, has sha256" in str(found.description)


def test_the_check_warns_when_mlflow_cannot_be_asked(place: Place) -> None:
    assert place.run().success
    place.mlflow = f"http://127.0.0.1:{free_port()}"
    result = place.run()
    found = verdict(result)
    assert result.success and not found.passed and found.severity is dg.AssetCheckSeverity.WARN
    assert "cannot be read: MLflow at http://127.0.0.1" in str(found.description)


def test_the_check_finds_a_file_that_the_store_changed(place: Place) -> None:
    from asset_checks.registry import judge_registration

    told = said(place.run())
    artifact = place.store.require("challenger", NAME, told["version"])
    [model] = [each for each in models(place.warehouse, [NAME]) if each.number == told["number"]]
    stored = place.store.require("rolling_backtest", NAME, model.rolling_version)
    mirror = TrackingResource(uri=place.mlflow, ui_url="http://ui.example")
    with dg.build_init_resource_context() as context, mirror.yield_for_execution(context) as tracking:
        assert judge_registration(place.warehouse, place.store, tracking.mirror, artifact) is None
        (stored.folder / f"last-{PTE}-{MODEL_FILE}").write_bytes(b"changed")
        wrong = judge_registration(place.warehouse, place.store, tracking.mirror, artifact)
    assert wrong is not None and "is not what was published" in wrong.message


def test_a_model_that_was_archived_meanwhile_is_left_alone(place: Place) -> None:
    told = said(place.run())
    [model] = [each for each in models(place.warehouse, [NAME]) if each.number == told["number"]]
    transition(place.warehouse, model, ModelState.ARCHIVED, ANN)
    again = said(place.run())
    assert (again["state"], again["epoch"]) == ("archived", 3)
    assert again["reason"] == "it passed every gate, and is archived"
