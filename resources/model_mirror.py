"""MLflow's model registry as a mirror of ours: whatever it does not show yet is tried again until it does.

A registered model `cvntrade-{crypto}` with a version per model that ever was a challenger; behind each version an
MLflow run with the metrics of its evaluation, the plots, and the model's files as the artifact store holds them:
UBJSON, JSON and skops, no pickle. Aliases point to the newest challenger and to the champion. Every step finds what an
attempt that was cut off has left, so that nothing is there twice.
"""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import sqlalchemy as sa

from cvntrade_assets.operations.lifecycle import ModelState
from cvntrade_assets.operations.masking import public_address
from resources.artifacts import Artifact, ArtifactError, ArtifactStore
from resources.registry import ModelVersion, models, note_mirrored, unmirrored
from resources.secrets import process_mask
from resources.tables import EVALUATION_COUNTS, EVALUATION_HEADLINES, EVALUATIONS
from resources.warehouse import Warehouse

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion as MlflowVersion

MODEL_FOLDER = "model"
MODEL_FILE = "model.ubj"
# The state whose newest model an alias of the same name points to.
ALIASES = (ModelState.CHALLENGER, ModelState.CHAMPION)

_KEY_TAG = "cvntrade.model"
_MODEL_SUFFIXES = frozenset({".ubj", ".json", ".skops"})
_PROBE_SECONDS = 5.0
_LOCK = sa.text("select pg_advisory_xact_lock(hashtext('cvntrade mirror ' || :crypto))")


class MirrorError(RuntimeError):
    """MLflow did not show what it should; says what it answered. Our tables are as they were."""


@dataclass(frozen=True)
class MirrorReport:
    """What became of the models that MLflow did not show.

    Attributes:
        shown: Those that it shows now.
        waiting: Those that wait for the next attempt, with the reason.
    """

    shown: tuple[ModelVersion, ...]
    waiting: tuple[tuple[ModelVersion, str], ...]


@dataclass(frozen=True)
class Exhibit:
    """Everything that MLflow shows of one model, without secrets.

    Attributes:
        model: The model.
        tags: Of its version.
        metrics: Finite numbers.
        files: Contents by path inside the MLflow run.
    """

    model: ModelVersion
    tags: Mapping[str, str]
    metrics: Mapping[str, float]
    files: Mapping[str, bytes]

    @property
    def key(self) -> str:
        """What names this model for good, whatever number MLflow gives it."""
        return f"{self.model.crypto}/{self.model.rolling_version}/{self.model.pte}"


def registered_name(crypto: str) -> str:
    """The registered model of a crypto in MLflow, and the experiment that its runs are in."""
    return f"cvntrade-{crypto}"


def model_files(rolling_backtest: Artifact[Any], pte: str) -> dict[str, Path]:
    """The files of the model that a rolling backtest's last step made of one candidate, by what they are registered as.

    They are there as long as the artifact's handle.

    Raises:
        ArtifactError: there is no such model, or a file is not what was published.
    """
    rolling_backtest.verify()
    prefix = f"last-{pte}-"
    names = [name for name in rolling_backtest.manifest.files if name.startswith(prefix)]
    found = {name.removeprefix(prefix): rolling_backtest.folder / name for name in names}
    files = {name: path for name, path in found.items() if path.suffix in _MODEL_SUFFIXES}
    if MODEL_FILE not in files:
        raise ArtifactError(
            f"the rolling backtest {rolling_backtest.version} at {rolling_backtest.location} holds no "
            f"{prefix}{MODEL_FILE}: it tested other trade execution parameters. Build rolling_backtest again."
        )
    return files


class ModelMirror:
    """What is done in MLflow's model registry.

    Args:
        uri: Address of the MLflow server.
        ui_url: Address of the Dagster UI, for the links back.
    """

    def __init__(self, uri: str, ui_url: str) -> None:
        self._uri = uri
        self._ui_url = ui_url

    def show(self, exhibit: Exhibit) -> str:
        """Have MLflow show a model as it stands; returns the version that it has there.

        Raises:
            MirrorError: MLflow refused or went away.
        """
        name = registered_name(exhibit.model.crypto)
        with self._speaking():
            self._require_registered_model(name)
            run_id = self._run(exhibit)
            version = self._version(name, run_id) or self._create_version(name, run_id, exhibit)
            for key, value in exhibit.tags.items():
                if version.tags.get(key) != value:
                    self._client.set_model_version_tag(name, version.version, key, value)
        return str(version.version)

    def point(self, crypto: str, alias: str, version: str | None) -> None:
        """Let an alias point to a version, or to none.

        Raises:
            MirrorError: MLflow refused or went away.
        """
        name = registered_name(crypto)
        with self._speaking():
            known = self._client.get_registered_model(name).aliases
            if version is None and alias in known:
                self._client.delete_registered_model_alias(name, alias)
            elif version is not None and known.get(alias) != version:
                self._client.set_registered_model_alias(name, alias, version)

    def read_file(self, model: ModelVersion, name: str = MODEL_FILE) -> bytes:
        """A file of a model as MLflow holds it.

        Raises:
            MirrorError: MLflow does not have it, or went away.
        """
        assert model.mlflow_version is not None, "only what is mirrored can be read there"
        with self._speaking(), tempfile.TemporaryDirectory() as folder:
            found = self._client.get_model_version(registered_name(model.crypto), model.mlflow_version)
            path = self._client.download_artifacts(str(found.run_id), f"{MODEL_FOLDER}/{name}", folder)
            return Path(path).read_bytes()

    def link(self, crypto: str, version: str) -> str:
        """Where a model's version is looked at, without a user and password."""
        return f"{public_address(self._uri)}/#/models/{registered_name(crypto)}/versions/{version}"

    def run_link(self, run_id: str | None) -> str:
        """Where the Dagster run is looked at that registered a model."""
        return f"{public_address(self._ui_url)}/runs/{run_id}" if run_id else ""

    @contextmanager
    def _speaking(self) -> Iterator[None]:
        """Inside, whatever MLflow answers is a MirrorError; its client tries again for minutes, so ask first."""
        from mlflow.exceptions import MlflowException

        try:
            if self._uri.startswith("http"):
                httpx.get(f"{self._uri.rstrip('/')}/health", timeout=_PROBE_SECONDS).raise_for_status()
            yield
        except httpx.HTTPError as error:
            raise MirrorError(f"MLflow at {public_address(self._uri)} does not answer: {error}") from error
        except (MlflowException, OSError) as error:
            # Its uploads fail with what the HTTP library raises, which are OSErrors.
            raise MirrorError(process_mask().text(f"MLflow: {error}")) from error

    @cached_property
    def _client(self) -> "MlflowClient":
        from mlflow import MlflowClient

        return MlflowClient(tracking_uri=self._uri, registry_uri=self._uri)

    def _require_registered_model(self, name: str) -> None:
        from mlflow.exceptions import MlflowException

        try:
            self._client.create_registered_model(name, description="A mirror: CVNTrade's own tables are the truth.")
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise

    def _run(self, exhibit: Exhibit) -> str:
        """The MLflow run behind a version; made when there is none, filled when it was cut off."""
        experiment = self._experiment(registered_name(exhibit.model.crypto))
        query = f"tags.`{_KEY_TAG}` = '{exhibit.key}'"
        runs = self._client.search_runs([experiment], query, max_results=1)
        if runs and runs[0].info.status == "FINISHED":
            return str(runs[0].info.run_id)
        tags = {_KEY_TAG: exhibit.key, **exhibit.tags}
        run = runs[0] if runs else self._client.create_run(experiment, tags=tags, run_name=exhibit.model.name)
        run_id = str(run.info.run_id)
        self._fill(run_id, exhibit)
        self._client.set_terminated(run_id, "FINISHED")
        return run_id

    def _fill(self, run_id: str, exhibit: Exhibit) -> None:
        from mlflow.entities import Metric

        # The same moment every time: a metric that is written again is not another point.
        moment = int(exhibit.model.created_at.timestamp() * 1000)
        self._client.log_batch(run_id, [Metric(name, value, moment, 0) for name, value in exhibit.metrics.items()])
        with tempfile.TemporaryDirectory() as folder:
            for name, content in exhibit.files.items():
                path = Path(folder) / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            self._client.log_artifacts(run_id, folder)

    def _experiment(self, name: str) -> str:
        from mlflow.exceptions import MlflowException

        found = self._client.get_experiment_by_name(name)
        if found is None:
            try:
                return str(self._client.create_experiment(name))
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
                found = self._client.get_experiment_by_name(name)
        assert found is not None, "another process made it meanwhile"
        return str(found.experiment_id)

    def _version(self, name: str, run_id: str) -> "MlflowVersion | None":
        found = self._client.search_model_versions(f"name = '{name}' and run_id = '{run_id}'")
        return min(found, key=lambda version: int(version.version), default=None)

    def _create_version(self, name: str, run_id: str, exhibit: Exhibit) -> "MlflowVersion":
        model = exhibit.model
        return self._client.create_model_version(
            name,
            f"runs:/{run_id}/{MODEL_FOLDER}",
            run_id,
            tags=dict(exhibit.tags),
            description=f"{model.name}, {model.pte}, market {model.shown_market}",
            await_creation_for=0,
        )


def mirror_pending(
    warehouse: Warehouse, store: ArtifactStore, mirror: ModelMirror, crypto: str | None = None
) -> MirrorReport:
    """Have MLflow show every model that it does not show as it stands; what fails waits for the next attempt.

    Args:
        warehouse: The truth.
        store: Where the models' files and plots are.
        mirror: MLflow.
        crypto: Models of this crypto only; None for all.

    Raises:
        WarehouseError: PostgreSQL did not answer. MLflow's absence is no error: it is in the report.
    """
    cryptos = sorted({model.crypto for model in unmirrored(warehouse, crypto)})
    reports = [_mirror_crypto(warehouse, store, mirror, one) for one in cryptos]
    shown = tuple(model for report in reports for model in report.shown)
    return MirrorReport(shown, tuple(item for report in reports for item in report.waiting))


def _mirror_crypto(warehouse: Warehouse, store: ArtifactStore, mirror: ModelMirror, crypto: str) -> MirrorReport:
    """One process at a time for a crypto; deciding is not held up by it."""
    with warehouse.begin() as connection:
        connection.execute(_LOCK, {"crypto": crypto})
        waiting: list[tuple[ModelVersion, str]] = []
        versions: dict[int, str] = {}
        pending = unmirrored(warehouse, crypto)
        for model in pending:
            try:
                versions[model.id] = mirror.show(_exhibit(warehouse, store, mirror, model))
            except (MirrorError, ArtifactError) as error:
                waiting.append((model, str(error)))
        done = [model for model in pending if model.id in versions]
        try:
            _point_aliases(warehouse, mirror, crypto, versions)
        except MirrorError as error:
            return MirrorReport((), (*waiting, *((model, str(error)) for model in done)))
        for model in done:
            note_mirrored(warehouse, model, versions[model.id])
    return MirrorReport(tuple(done), tuple(waiting))


def _point_aliases(warehouse: Warehouse, mirror: ModelMirror, crypto: str, versions: Mapping[int, str]) -> None:
    """The newest model of each aliased state that MLflow knows; nothing when it knows none."""
    standing = models(warehouse, [crypto])
    known = {model.id: versions.get(model.id) or model.mlflow_version for model in standing}
    if not any(known.values()):
        return
    for state in ALIASES:
        newest = [known[model.id] for model in standing if model.state is state and known[model.id]]
        mirror.point(crypto, str(state), newest[0] if newest else None)


def _exhibit(warehouse: Warehouse, store: ArtifactStore, mirror: ModelMirror, model: ModelVersion) -> Exhibit:
    rolling = store.require("rolling_backtest", model.crypto, model.rolling_version)
    evaluation = store.require("evaluation", model.crypto, model.evaluation_version)
    evaluation.verify()
    evaluated = _evaluated(warehouse, model)
    files = {f"{MODEL_FOLDER}/{name}": path.read_bytes() for name, path in model_files(rolling, model.pte).items()}
    plots = {f"plots/{path.name}": path.read_bytes() for path in sorted(evaluation.folder.glob("*.png"))}
    tags = {
        "state": str(model.state),
        "epoch": str(model.epoch),
        "number": str(model.number),
        "market": model.shown_market,
        "pte": model.pte,
        "data_version": str(rolling.manifest.provenance.inputs.get("candles", "unknown")),
        "fitted_until": model.fitted_until.isoformat(),
        "data_until": model.data_until.isoformat(),
        "rolling_backtest_version": model.rolling_version,
        "evaluation_version": model.evaluation_version,
        "model_sha256": model.model_sha256,
        "diagnosis": str(evaluated["primary_code"]),
        "dagster_run_url": mirror.run_link(model.run_id),
    }
    numbers = {name: evaluated[name] for name in (*EVALUATION_HEADLINES, *EVALUATION_COUNTS)}
    metrics = {name: float(value) for name, value in numbers.items() if value is not None}
    return Exhibit(model, process_mask().value(tags), metrics, {**files, **plots})


def _evaluated(warehouse: Warehouse, model: ModelVersion) -> Mapping[str, Any]:
    table = EVALUATIONS
    query = sa.select(table).where(
        table.c.crypto == model.crypto,
        table.c.pte == model.pte,
        table.c.evaluation_version == model.evaluation_version,
    )
    with warehouse.begin() as connection:
        # A challenger has one: its state asks for it.
        return dict(connection.execute(query.order_by(table.c.recorded_at.desc()).limit(1)).mappings().one())
