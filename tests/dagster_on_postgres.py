"""A Dagster instance as dagster.yaml describes it, on the tests' own PostgreSQL, and small jobs to run on it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
import pytest
from pydantic import Field

from resources.embedded_postgres import EmbeddedPostgres

CRYPTOS = dg.StaticPartitionsDefinition(["ADAUSDC", "BTCUSDC", "XRPUSDC"])


@contextmanager
def open_instance(server: EmbeddedPostgres, folder: Path) -> Iterator[dg.DagsterInstance]:
    """The instance on a server, its files in a folder; what was left there is not removed."""
    variables = {
        "CVN_PG_HOST": "127.0.0.1",
        "CVN_PG_PORT": str(server.port),
        "CVN_PG_USER": "cvntrade",
        "CVN_PG_PASSWORD": server.password,
        "CVN_MAX_CONCURRENT_RUNS": "2",
        "CVN_RUNS_IN": "processes",
        "CVN_COMPUTE_LOGS": str(folder),
        "DAGSTER_HOME": str(folder),
    }
    (folder / "dagster.yaml").symlink_to(Path(__file__).parents[1] / "dagster.yaml")
    with pytest.MonkeyPatch.context() as patched:
        for name, value in variables.items():
            patched.setenv(name, value)
        with dg.DagsterInstance.get() as opened:
            yield opened


def empty_instance(instance: dg.DagsterInstance) -> None:
    """Remove everything, ticks too, which Dagster's own `wipe` leaves."""
    instance.wipe()
    assert instance.schedule_storage is not None
    instance.schedule_storage.wipe()


@pytest.fixture
def instance(postgres_server: EmbeddedPostgres, tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """The instance, without anything that another test left on the server."""
    with open_instance(postgres_server, tmp_path) as opened:
        opened.wipe()
        yield opened


class Settings(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Takes what a run sets, as the real resource of that name does."""

    settings: dict[str, str] = Field(default_factory=dict)
    variants: dict[str, str] = Field(default_factory=dict)


def a_job(name: str, fails: Mapping[str, Exception] | None = None) -> dg.JobDefinition:
    """A job of two stages, `candles` and then `walk_forward`, the second of which fails for some cryptos."""

    @dg.asset(partitions_def=CRYPTOS, required_resource_keys={"run_settings"})
    def candles() -> None: ...

    @dg.asset_check(asset=candles, partitions_def=CRYPTOS)
    def closed() -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=False, severity=dg.AssetCheckSeverity.WARN, description="a mere warning")

    @dg.asset(partitions_def=CRYPTOS, deps=[candles])
    def walk_forward(context: dg.AssetExecutionContext) -> None:
        if error := (fails or {}).get(context.partition_key):
            raise error

    job = dg.define_asset_job(name, selection=dg.AssetSelection.all())
    defs = dg.Definitions(
        assets=[candles, walk_forward],
        asset_checks=[closed],
        jobs=[job],
        resources={"run_settings": Settings()},
        executor=dg.in_process_executor,
    )
    return defs.resolve_job_def(name)


def run_job(
    instance: dg.DagsterInstance,
    name: str,
    crypto: str,
    *,
    fails: Exception | None = None,
    settings: Mapping[str, str] | None = None,
    variants: Mapping[str, str] | None = None,
    tags: Mapping[str, str] | None = None,
) -> str:
    """Run a job for one crypto; returns the run's id."""
    config = {"settings": dict(settings or {}), "variants": dict(variants or {})}
    result = a_job(name, {crypto: fails} if fails else None).execute_in_process(
        instance=instance,
        partition_key=crypto,
        run_config={
            "resources": {"run_settings": {"config": config}},
            "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
        },
        tags=dict(tags or {}),
        raise_on_error=False,
    )
    return str(result.run_id)
