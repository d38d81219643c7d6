"""MLflow mirrors the registry: against a real MLflow server, its faults, its absence, and several at once."""

import multiprocessing
import os
import pickle
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest
from mlflow_server import Door, MlflowServer
from recorded_evaluation import record_evaluation_of

from cvntrade_assets.operations.lifecycle import ModelState
from cvntrade_assets.operations.provenance import Provenance
from cvntrade_assets.operations.taxonomy import Role
from resources.artifacts import Artifact, ArtifactError, ArtifactStore
from resources.embedded_postgres import free_port
from resources.model_mirror import (
    MODEL_FILE,
    MirrorError,
    ModelMirror,
    mirror_pending,
    model_files,
    registered_name,
)
from resources.registry import (
    Actor,
    ModelVersion,
    NewModel,
    models,
    offer_candidate,
    require_model,
    transition,
    unmirrored,
)
from resources.secrets import learn_secrets
from resources.warehouse import Warehouse

if TYPE_CHECKING:
    from mlflow import MlflowClient

FORK = multiprocessing.get_context("fork")
CANARY = "canary-41fe-of-the-mirror"
PTE = "H4_SL1.0_TP2.0"
UNTIL = pd.Timestamp("2025-09-01", tz="UTC")
FITTED = pd.Timestamp("2025-08-22", tz="UTC")
UI = "https://operator:ui-canary-0123@ui.example"
MAINTAINER = Actor("ann", Role.MLOPS_MAINTAINER, "a test")
PNG = b"\x89PNG\r\n\x1a\n\xff"
MODEL = {
    "model.ubj": bytes(range(256)) * 40,
    "model.json": b'{"objective": "logistic"}',
    "calibration.json": b"{}",
    "sigmoid.skops": b"PK\x03\x04 skops",
}
METRICS = {"f1_buy": 0.41, "baseline_f1_buy": 0.4, "sortino": 1.25, "n_trades": 42}


class Files:
    """A codec for tests: contents by name."""

    def write(self, folder: Path, value: dict[str, bytes]) -> None:
        for name, content in value.items():
            (folder / name).write_bytes(content)

    def read(self, folder: Path) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, mlflow_store: Path) -> Iterator[MlflowServer]:
    folder = tmp_path_factory.mktemp("server")
    shutil.copy(mlflow_store, folder / "mlflow.db")
    with MlflowServer(folder, folder / "mlflow.db") as running:
        yield running


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, warehouse: Warehouse) -> ArtifactStore:
    codecs = {"rolling_backtest": Files(), "evaluation": Files()}
    return ArtifactStore(tmp_path_factory.mktemp("artifacts"), warehouse, codecs)


@pytest.fixture
def mirror(server: MlflowServer) -> ModelMirror:
    return ModelMirror(server.url, UI)


@pytest.fixture
def client(server: MlflowServer) -> "MlflowClient":
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=server.url)


@pytest.fixture
def crypto(request: pytest.FixtureRequest) -> str:
    """A crypto of this test alone: MLflow and the registry keep what they are told."""
    return f"T{abs(hash(request.node.name)) % 10**8}USDC"


def published(store: ArtifactStore, asset: str, crypto: str, market: str, number: int, files: Any) -> Artifact[Any]:
    inputs = {"candles": "candles-1", "number": str(number)}
    provenance = Provenance("1", inputs, {}, market, {}, UNTIL.isoformat())
    return store.publish(asset, crypto, provenance, files, {}, "run-1")


def challenger(
    warehouse: Warehouse,
    store: ArtifactStore,
    crypto: str,
    number: int = 1,
    market: str = "binance",
    run: str = "run-1",
) -> ModelVersion:
    """A challenger with files and an evaluation on record."""
    others = {f"{PTE}-predictions.parquet": b"PAR1", "last-H4_SL1.0_TP2.5-model.ubj": b"another candidate's"}
    model = {f"last-{PTE}-{name}": content for name, content in MODEL.items()}
    rolling = published(store, "rolling_backtest", crypto, market, number, model | others)
    evaluation = published(store, "evaluation", crypto, market, number, {"equity.png": PNG, "records.json": b"[]"})
    new = NewModel(
        crypto,
        market,
        PTE,
        rolling.version,
        rolling.manifest.files[f"last-{PTE}-{MODEL_FILE}"],
        evaluation.version,
        FITTED.to_pydatetime(),
        UNTIL.to_pydatetime(),
    )
    record_evaluation_of(warehouse, new, run_id=f"{run}-{number}", **METRICS)
    return offer_candidate(warehouse, new, {}, "the pipeline", run).model


def shown(client: "MlflowClient", crypto: str) -> dict[str, dict[str, str]]:
    """What MLflow shows of a crypto: the tags of every version."""
    found = client.search_model_versions(f"name = '{registered_name(crypto)}'")
    return {str(version.version): dict(version.tags) for version in found}


def aliases(client: "MlflowClient", crypto: str) -> dict[str, str]:
    return {
        name: str(version) for name, version in client.get_registered_model(registered_name(crypto)).aliases.items()
    }


def runs_of(client: "MlflowClient", crypto: str) -> list[Any]:
    experiment = client.get_experiment_by_name(registered_name(crypto))
    return [] if experiment is None else list(client.search_runs([experiment.experiment_id]))


def test_a_challenger_is_shown_whole(warehouse, store, mirror, client, crypto, tmp_path):
    model = challenger(warehouse, store, crypto, market="simulated")
    report = mirror_pending(warehouse, store, mirror, crypto)
    assert (report.shown, report.waiting) == ((model,), ())
    [(version, tags)] = shown(client, crypto).items()
    assert require_model(warehouse, model).mlflow_version == version
    assert aliases(client, crypto) == {"challenger": version}
    assert tags == {
        "state": "challenger",
        "epoch": "2",
        "number": "1",
        "market": "SIMULATED",
        "pte": PTE,
        "data_version": "candles-1",
        "fitted_until": "2025-08-22T00:00:00+00:00",
        "data_until": "2025-09-01T00:00:00+00:00",
        "rolling_backtest_version": model.rolling_version,
        "evaluation_version": model.evaluation_version,
        "model_sha256": model.model_sha256,
        "diagnosis": "ML_SOLID",
        "dagster_run_url": "https://ui.example/runs/run-1",
    }
    [run] = runs_of(client, crypto)
    assert run.info.status == "FINISHED" and run.data.metrics == METRICS
    found = client.get_model_version(registered_name(crypto), version)
    assert "SIMULATED" in found.description
    # What somebody downloads by the version's own source.
    from mlflow.artifacts import download_artifacts

    source = client.get_model_version_download_uri(registered_name(crypto), version)
    folder = Path(download_artifacts(source, dst_path=str(tmp_path), tracking_uri=mirror._uri))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == MODEL
    assert mirror.read_file(require_model(warehouse, model)) == MODEL["model.ubj"]
    plots = Path(client.download_artifacts(run.info.run_id, "plots", str(tmp_path)))
    assert {path.name: path.read_bytes() for path in plots.iterdir()} == {"equity.png": PNG}
    assert mirror.link(crypto, version).endswith(f"/#/models/cvntrade-{crypto}/versions/{version}")


def test_what_is_shown_is_not_shown_again(warehouse, store, server, client, crypto):
    challenger(warehouse, store, crypto)
    with Door(server.url) as door:
        mirror = ModelMirror(door.url, UI)
        mirror_pending(warehouse, store, mirror, crypto)
        asked = len(door.seen)
        report = mirror_pending(warehouse, store, mirror, crypto)
        assert (report.shown, report.waiting, len(door.seen)) == ((), (), asked)
    assert len(shown(client, crypto)) == len(runs_of(client, crypto)) == 1


def test_a_candidate_is_not_shown(warehouse, store, mirror, client, crypto):
    rolling = published(store, "rolling_backtest", crypto, "binance", 1, {f"last-{PTE}-{MODEL_FILE}": b"x"})
    new = NewModel(crypto, "binance", PTE, rolling.version, "x", "e", FITTED.to_pydatetime(), UNTIL.to_pydatetime())
    offered = offer_candidate(warehouse, new, {"dsr": "it is undefined"}, "the pipeline")
    transition(warehouse, offered.model, ModelState.ARCHIVED, MAINTAINER)
    assert mirror_pending(warehouse, store, mirror, crypto).shown == ()
    assert shown(client, crypto) == {} and runs_of(client, crypto) == []


def test_states_and_aliases_follow(warehouse, store, server, mirror, client, crypto):
    first, second = challenger(warehouse, store, crypto, 1), challenger(warehouse, store, crypto, 2)
    mirror_pending(warehouse, store, mirror, crypto)
    one, two = (str(require_model(warehouse, model).mlflow_version) for model in (first, second))
    assert aliases(client, crypto) == {"challenger": two}

    transition(warehouse, second, ModelState.CHAMPION, MAINTAINER)
    with Door(server.url) as door:
        mirror_pending(warehouse, store, ModelMirror(door.url, UI), crypto)
        assert not [path for method, path in door.seen if method == "PUT"], "files are not sent again"
    assert aliases(client, crypto) == {"challenger": one, "champion": two}
    assert {version: tags["state"] for version, tags in shown(client, crypto).items()} == {
        one: "challenger",
        two: "champion",
    }
    for model in models(warehouse, [crypto]):
        transition(warehouse, model, ModelState.ARCHIVED, MAINTAINER)
    mirror_pending(warehouse, store, mirror, crypto)
    assert aliases(client, crypto) == {}
    assert {tags["state"] for tags in shown(client, crypto).values()} == {"archived"}


def test_a_decision_does_not_wait_for_mlflow(warehouse, store, mirror, client, crypto):
    model = challenger(warehouse, store, crypto)
    nobody = ModelMirror(f"http://me:{CANARY}@127.0.0.1:{free_port()}", UI)
    [(waiting, why)] = mirror_pending(warehouse, store, nobody, crypto).waiting
    assert waiting == model and "does not answer" in why and CANARY not in why
    # Nothing is lost of what happens meanwhile.
    transition(warehouse, model, ModelState.QUARANTINED, MAINTAINER)
    assert [model.state for model in unmirrored(warehouse, crypto)] == [ModelState.QUARANTINED]
    assert mirror_pending(warehouse, store, mirror, crypto).waiting == ()
    [tags] = shown(client, crypto).values()
    assert (tags["state"], tags["epoch"]) == ("quarantined", "3")
    assert aliases(client, crypto) == {}


def test_whatever_step_fails_the_next_attempt_ends_with_the_same(warehouse, store, server, client, crypto):
    """Every kind of request that changes something is refused once, each for a crypto of its own."""
    with Door(server.url) as door:
        mirror = ModelMirror(door.url, UI)
        challenger(warehouse, store, crypto)
        mirror_pending(warehouse, store, mirror, crypto)
        steps = sorted({_step(*seen) for seen in door.seen if seen[0] != "GET" and not seen[1].endswith("/search")})
        assert len(steps) >= 8
        for number, step in enumerate(steps):
            other = f"{crypto[:-4]}X{number}USDC"
            model = challenger(warehouse, store, other)
            door.refuses = lambda method, path, step=step: _step(method, path) == step
            [(waiting, why)] = mirror_pending(warehouse, store, mirror, other).waiting
            assert waiting == model and "the door is closed" in why, step
            assert unmirrored(warehouse, other) == [model]
            door.refuses = lambda method, path: False
            assert mirror_pending(warehouse, store, mirror, other).waiting == (), step
            [(version, tags)] = shown(client, other).items()
            [run] = runs_of(client, other)
            assert (tags["state"], aliases(client, other)) == ("challenger", {"challenger": version}), step
            assert (run.info.status, run.data.metrics) == ("FINISHED", METRICS), step
            assert mirror.read_file(require_model(warehouse, model)) == MODEL["model.ubj"], step


def _step(method: str, path: str) -> tuple[str, str]:
    """A request's kind: uploads are one."""
    return method, path.split("/artifacts/")[0] if "mlflow-artifacts" in path else path


def test_several_who_mirror_at_once_show_a_model_once(warehouse, warehouse_url, store, server, client, crypto):
    model = challenger(warehouse, store, crypto)
    start = FORK.Barrier(3)

    def main() -> None:
        code = 1
        try:
            with closing(Warehouse(warehouse_url)) as own:
                files = ArtifactStore(store.root, own, {"rolling_backtest": Files(), "evaluation": Files()})
                own.universes()
                start.wait(30)
                code = len(mirror_pending(own, files, ModelMirror(server.url, UI), crypto).waiting)
        finally:
            os._exit(code)

    children = [FORK.Process(target=main) for _ in range(3)]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
    assert [child.exitcode for child in children] == [0, 0, 0]
    assert len(shown(client, crypto)) == len(runs_of(client, crypto)) == 1
    assert require_model(warehouse, model).mirrored


def test_files_that_are_not_what_was_published_are_not_shown(warehouse, store, mirror, client, crypto):
    bad, good = challenger(warehouse, store, crypto, 1), challenger(warehouse, store, crypto, 2)
    file = store.require("rolling_backtest", crypto, bad.rolling_version).folder / f"last-{PTE}-{MODEL_FILE}"
    file.write_bytes(pickle.dumps("another"))
    report = mirror_pending(warehouse, store, mirror, crypto)
    assert report.shown == (good,), "one does not hold up the other"
    [(waiting, why)] = report.waiting
    assert waiting == bad and "is not what was published" in why
    assert len(shown(client, crypto)) == 1


def test_a_rolling_backtest_without_the_candidate_is_named(store, crypto):
    rolling = published(store, "rolling_backtest", crypto, "binance", 1, {"last-H4_SL1.0_TP2.5-model.ubj": b"x"})
    with pytest.raises(ArtifactError, match=r"holds no last-H4_SL1\.0_TP2\.0-model\.ubj: it tested other"):
        model_files(rolling, PTE)


def test_no_secret_reaches_mlflow(warehouse, store, server, mirror, client, crypto):
    learn_secrets({"EXCHANGE_API_SECRET": CANARY})
    challenger(warehouse, store, crypto, run=f"run-{CANARY}")
    mirror_pending(warehouse, store, mirror, crypto)
    [tags] = shown(client, crypto).values()
    assert tags["dagster_run_url"] == "https://ui.example/runs/run-***"
    assert CANARY.encode() not in server._store.read_bytes()


def test_what_mlflow_does_not_have_is_an_error_that_says_so(warehouse, store, mirror, client, crypto):
    model = challenger(warehouse, store, crypto)
    mirror_pending(warehouse, store, mirror, crypto)
    with pytest.raises(MirrorError, match="MLflow: "):
        mirror.read_file(require_model(warehouse, model), "unheard of")
