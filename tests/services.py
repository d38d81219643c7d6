"""Real services for tests: a PostgreSQL server, a fresh migrated database per module, and the graph on top of them.

`make_graph(folder, url, settings)` is the graph with its own artifact root, MLflow store and Dagster instance, run in
this process. The fixture `graph` is one with the defaults of `QUICK`; a module that shares a run among its tests calls
`make_graph` with a folder of `tmp_path_factory`. What concerns a whole server is tested on one of `own_postgres`.
"""

import os
import shutil
import signal
import tempfile
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import dagster as dg
import pandas as pd
import psycopg2
import pytest

from asset_checks.contracts import BLOCKING_CHECKS
from cvntrade_assets.definitions import build_defs
from cvntrade_assets.settings import Settings, resolve
from resources.artifacts import ArtifactStore
from resources.codecs import CODECS
from resources.embedded_postgres import EmbeddedPostgres, PostgresError
from resources.io_manager import ArtifactIOManagerResource
from resources.run_settings import RunSettings
from resources.tracking import TrackingResource
from resources.warehouse import Warehouse
from resources.warehouse_resource import WarehouseResource

# MLflow asks before it is imported, in this process and in those that tests start.
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"

# A simulated market with something to learn, just long enough for every slice to hold both classes.
QUICK: Mapping[str, str] = {
    "CVN_MARKET": "simulated",
    "CVN_SIMULATED_SIGNAL": "1",
    "CVN_AS_OF": "2025-09-01",
    "CVN_DEFAULT_HISTORY_MONTHS": "4",
    "CVN_BACKTEST_DAYS": "2",
    "CVN_CUSUM_THRESHOLD_H": "1.0",
    "CVN_MAX_FEATURES": "10",
    "CVN_DEFAULT_N_TRIALS": "2",
    "CVN_TUNING_FOLDS": "2",
    "CVN_TUNING_WORKERS": "1",
    "CVN_HPO_XGBOOST_30M_NUM_BOOST_ROUND": "30",
}
CRYPTOS = ("BTCUSDC", "ETHUSDC")


@dataclass(frozen=True)
class Graph:
    """The graph on resources of its own, run in this process.

    Attributes:
        defs: What `build_defs` gives with these resources.
        instance: An ephemeral Dagster instance that knows the cryptos.
        warehouse: The operations schema on the runs' database.
        store: The artifact store that the runs publish to.
        settings: What a run resolves when it sets nothing more.
        run_settings: The texts behind `settings`.
        folder: Where artifacts and MLflow's store stand.
    """

    defs: dg.Definitions
    instance: dg.DagsterInstance
    warehouse: Warehouse
    store: ArtifactStore
    settings: Settings
    run_settings: Mapping[str, str]
    folder: Path

    def run(
        self,
        crypto: str,
        selection: str | Iterable[str] | None = None,
        settings: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
        variants: Mapping[str, str] | None = None,
    ) -> dg.ExecuteInProcessResult:
        """Materialise the selected assets of one crypto with their checks; a failed step is in the result.

        Args:
            crypto: The partition.
            selection: Dagster's selection syntax (`"model+"`) or asset names, also of what is built on demand; None for
                the whole chain.
            settings: Laid over `run_settings`.
            tags: Of the Dagster run.
            variants: Factor to variant.
        """
        chain = self.defs.resolve_job_def("candles_to_report")
        graph = self.defs.resolve_asset_graph()
        chosen = chain.asset_layer.executable_asset_keys if selection is None else _selection(selection).resolve(graph)
        keys = sorted(chosen)
        on_demand = not chosen <= chain.asset_layer.executable_asset_keys
        job = self.defs.resolve_implicit_global_asset_job_def() if on_demand else chain
        config = {"settings": {**self.run_settings, **(settings or {})}, "variants": dict(variants or {})}
        # In production a server decides where MLflow's files go; without one they would go to the working folder.
        with mock.patch.dict(os.environ, {"_MLFLOW_SERVER_ARTIFACT_ROOT": str(self.folder / "mlflow")}):
            return job.execute_in_process(
                instance=self.instance,
                partition_key=crypto,
                asset_selection=keys,
                run_config={"resources": {"run_settings": {"config": config}}},
                tags=dict(tags or {}),
                raise_on_error=False,
            )


def _selection(selection: str | Iterable[str]) -> dg.AssetSelection:
    if isinstance(selection, str):
        return dg.AssetSelection.from_string(selection)
    return dg.AssetSelection.assets(*selection)


def make_graph(
    folder: Path,
    url: str,
    settings: Mapping[str, str] | None = None,
    cryptos: Iterable[str] = CRYPTOS,
    mlflow_store: Path | None = None,
    artifacts: str | None = None,
) -> Graph:
    """The graph on the database at `url`, its files under `folder`.

    Args:
        folder: Where artifacts and MLflow's store go.
        url: SQLAlchemy address of a migrated database.
        settings: Laid over `QUICK`.
        cryptos: Partitions to add.
        mlflow_store: A migrated MLflow store to begin with; None lets MLflow migrate an empty one, which takes seconds.
        artifacts: Where artifacts go instead, such as an address in object storage.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if mlflow_store is not None:
        shutil.copy(mlflow_store, folder / "mlflow.db")
    warehouse = WarehouseResource(url=url)
    checks = {name: list(names) for name, names in BLOCKING_CHECKS.items()}
    root = artifacts or str(folder / "artifacts")
    defs = build_defs(
        {
            "warehouse": warehouse,
            "run_settings": RunSettings(warehouse=warehouse),
            "tracking": TrackingResource(uri=f"sqlite:///{folder / 'mlflow.db'}", ui_url="http://127.0.0.1:3000"),
            "io_manager": ArtifactIOManagerResource(root=root, warehouse=warehouse, blocking_checks=checks),
        }
    )
    instance = dg.DagsterInstance.ephemeral()
    instance.add_dynamic_partitions("crypto", list(cryptos))
    texts = {**QUICK, **(settings or {})}
    resolved = resolve(base_env={}, run=texts, now=pd.Timestamp.now("UTC"))
    opened = Warehouse(url)
    return Graph(defs, instance, opened, ArtifactStore(root, opened, CODECS), resolved, texts, folder)


@contextmanager
def own_postgres(name: str) -> Iterator[EmbeddedPostgres]:
    """A PostgreSQL server whose data is thrown away at the end, however that comes.

    Args:
        name: What it is for, in the name of its folder.
    """
    # Not pytest's folder: only root may enter that one, and as root the server runs as somebody else.
    folder = Path(tempfile.mkdtemp(prefix=f"cvntrade-{name}-"))
    folder.chmod(0o755)
    try:
        with EmbeddedPostgres(folder / "postgres") as server:
            try:
                yield server
            finally:
                _end_without_checkpoint(server)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _end_without_checkpoint(server: EmbeddedPostgres) -> None:
    """The last checkpoint takes many seconds after many databases, and nobody reads what it writes."""
    with suppress(PostgresError):  # it has ended already, by a test
        server.check()
        os.kill(server.pid, signal.SIGQUIT)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[EmbeddedPostgres]:
    """One PostgreSQL server for the whole session."""
    with own_postgres("tests") as server:
        yield server


def create_database(server: EmbeddedPostgres) -> str:
    """The SQLAlchemy address of a new empty database."""
    name = f"test_{uuid.uuid4().hex}"
    address = server.dsn("postgres").replace("+psycopg2", "")
    with closing(psycopg2.connect(address)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(f'CREATE DATABASE "{name}"')
    return server.dsn(name)


@pytest.fixture(scope="module")
def warehouse_url(postgres_server: EmbeddedPostgres) -> str:
    """The address of a fresh, migrated database of this test module."""
    url = create_database(postgres_server)
    with closing(Warehouse(url)) as warehouse:
        warehouse.migrate()
    return url


@pytest.fixture(scope="module")
def warehouse(warehouse_url: str) -> Iterator[Warehouse]:
    """The operations schema in this test module's database."""
    with closing(Warehouse(warehouse_url)) as opened:
        yield opened


@pytest.fixture(scope="session")
def mlflow_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty MLflow store that is migrated already, to be copied."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    folder = tmp_path_factory.mktemp("mlflow")
    SqlAlchemyStore(f"sqlite:///{folder / 'mlflow.db'}", str(folder / "files"))
    return folder / "mlflow.db"


@pytest.fixture
def graph(tmp_path: Path, warehouse_url: str, mlflow_store: Path) -> Iterator[Graph]:
    """The graph with the settings of `QUICK`, nothing built yet."""
    made = make_graph(tmp_path, warehouse_url, mlflow_store=mlflow_store)
    with closing(made.warehouse), made.instance:
        yield made
