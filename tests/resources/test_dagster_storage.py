"""Dagster's records on a real PostgreSQL: no secret gets in, what is no secret stays as it was."""

import json
import os
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import dagster_k8s.job  # noqa: F401 - has records of its own
import psycopg2
import pytest
from dagster._core.definitions.asset_key import AssetKey
from dagster._core.execution.backfill import BulkActionStatus, PartitionBackfill
from dagster._core.scheduler.instigation import InstigatorType, TickData, TickStatus
from dagster._daemon.types import DaemonHeartbeat
from dagster._utils.error import SerializableErrorInfo
from dagster_shared.serdes.serdes import _WHITELIST_MAP
from services import create_database

from cvntrade_assets.operations.masking import is_secret_name
from resources.dagster_storage import SecretInRunConfigError, masked_record
from resources.embedded_postgres import EmbeddedPostgres
from resources.secrets import process_mask

CANARY = 'canary-"in/quotes\\'
NAMED = "named-canary"


@pytest.fixture(autouse=True)
def canary(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A secret in the environment."""
    monkeypatch.setenv("CVN_EXCHANGE_API_KEY", CANARY)
    process_mask.cache_clear()
    yield
    process_mask.cache_clear()


@pytest.fixture(scope="module")
def url(postgres_server: EmbeddedPostgres) -> str:
    return create_database(postgres_server)


@pytest.fixture
def instance(url: str, tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    storage = {
        "module": "resources.dagster_storage",
        "class": "PooledPostgresStorage",
        "config": {"postgres_url": url},
    }
    with dg.DagsterInstance.local_temp(str(tmp_path), overrides={"storage": {"custom": storage}}) as made:
        yield made


def everything(url: str) -> str:
    """Every row of every table as text, compressed columns unpacked."""
    with psycopg2.connect(url.replace("+psycopg2", "")) as connection, connection.cursor() as cursor:
        cursor.execute("select tablename from pg_tables where schemaname = 'public'")
        rows: list[str] = []
        for (table,) in cursor.fetchall():
            cursor.execute(f'select * from "{table}"')
            rows += [" ".join(_text(value) for value in row) for row in cursor.fetchall()]
    connection.close()
    return "\n".join(rows)


def _text(value: Any) -> str:
    return zlib.decompress(value).decode() if isinstance(value, memoryview | bytes) else str(value)


def assert_no_canary(url: str) -> None:
    stored = everything(url)
    assert len(stored) > 1000
    for form in (CANARY, json.dumps(CANARY)[1:-1], json.dumps(json.dumps(CANARY)[1:-1])[1:-1], repr(CANARY), NAMED):
        assert form not in stored


@dg.asset
def leaky(context: dg.AssetExecutionContext) -> None:
    context.log.info(f"logged {CANARY} and api_key={NAMED}")
    context.add_output_metadata(
        {
            "my_token": NAMED,
            "db_password": 12345678,
            "said": f"{CANARY} is it",
            "table": dg.MetadataValue.json({"a": [CANARY], "password": NAMED, "rows": 5}),
        }
    )


@dg.asset_check(asset=leaky)
def telling() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=False, description=f"found {CANARY}", metadata={"token": NAMED, "rows": 7})


@dg.asset(deps=[leaky])
def failing() -> None:
    try:
        raise ValueError(f"cause: {CANARY}")
    except ValueError as error:
        raise RuntimeError(f"at https://me:{NAMED}@host/x") from error


def test_a_run_leaves_no_secret_and_reads_back(instance: dg.DagsterInstance, url: str) -> None:
    tags = {"note": f"see {CANARY}", "my-token": NAMED, "dagster/group": "g", "plain": "kept"}
    ran = dg.materialize([leaky, telling, failing], instance=instance, tags=tags, raise_on_error=False)
    assert not ran.success
    assert_no_canary(url)
    run = instance.get_run_by_id(ran.run_id)
    assert run is not None
    expected = {"note": "see ***", "my-token": "***", "dagster/group": "g", "plain": "kept"}
    assert {name: run.tags[name] for name in tags} == expected
    assert instance.get_runs(dg.RunsFilter(tags={"plain": "kept"}))[0].run_id == ran.run_id
    logged = [event.user_message for event in instance.all_logs(ran.run_id)]
    assert "logged *** and api_key=***" in logged
    record = instance.get_latest_materialization_event(AssetKey("leaky"))
    assert record is not None and record.asset_materialization is not None
    metadata = {name: value.value for name, value in record.asset_materialization.metadata.items()}
    assert metadata["my_token"] == metadata["db_password"] == "***"
    assert metadata["said"] == "*** is it"
    assert metadata["table"] == {"a": ["***"], "password": "***", "rows": 5}
    [check] = instance.event_log_storage.get_asset_check_execution_history(telling.check_key, limit=1)
    assert check.event is not None
    evaluation = check.event.asset_check_evaluation
    assert evaluation is not None and evaluation.description == "found ***"
    assert (evaluation.metadata["token"].value, evaluation.metadata["rows"].value) == ("***", 7)
    [failure] = instance.all_logs(ran.run_id, of_type=dg.DagsterEventType.STEP_FAILURE)
    error = failure.get_dagster_event().step_failure_data.error
    assert error is not None and error.cause is not None
    assert "https://***@host/x" in error.cause.message
    assert error.cause.cause is not None and "cause: ***" in error.cause.cause.message


def test_tags_that_come_later(instance: dg.DagsterInstance, url: str) -> None:
    instance.add_run(run := dg.DagsterRun("job", tags={"a": "b"}))
    instance.add_run_tags(run.run_id, {"secret": NAMED, "a": CANARY, "c": "d"})
    assert_no_canary(url)
    found = instance.get_run_by_id(run.run_id)
    assert found is not None and found.tags == {"secret": "***", "a": "***", "c": "d"}


def test_what_befell_a_run_is_not_told_of_the_run_that_tries_again(instance: dg.DagsterInstance) -> None:
    """Dagster gives it all tags of the one before; it would be tried once more for whatever befalls it."""
    first = dg.DagsterRun("job", tags={"a": "b", "dagster/retry_on_asset_or_op_failure": "true"})
    again = dg.DagsterRun("job", tags={**first.tags, "dagster/parent_run_id": first.run_id})
    for run in (first, again):
        instance.add_run(run)
    found = [instance.get_run_by_id(run.run_id) for run in (first, again)]
    assert [None if run is None else run.tags for run in found] == [
        first.tags,
        {"a": "b", "dagster/parent_run_id": first.run_id},
    ]


@pytest.mark.parametrize(
    ("settings", "place"),
    [
        ({"CVN_BINANCE_ARCHIVE_URL": "https://me:pw@host"}, "CVN_BINANCE_ARCHIVE_URL"),
        ({"CVN_MARKET": CANARY}, "CVN_MARKET"),
        ({"CVN_API_KEY": NAMED}, "CVN_API_KEY"),
        ({"CVN_MARKET": "sk0123456789abcdefgh"}, "CVN_MARKET"),
        ({CANARY: "1"}, "***"),
    ],
)
def test_run_config_with_a_secret_is_refused_and_not_repeated(
    instance: dg.DagsterInstance, url: str, settings: dict[str, str], place: str
) -> None:
    config = {"resources": {"run_settings": {"config": {"settings": {"CVN_MAX_FEATURES": "10", **settings}}}}}
    run = dg.DagsterRun("job", run_config=config)
    with pytest.raises(SecretInRunConfigError) as refused:
        instance.add_run(run)
    assert f"resources: run_settings: config: settings: {place};" in str(refused.value)
    backfill = a_backfill(run_config=config)
    with pytest.raises(SecretInRunConfigError):
        instance.add_backfill(backfill)
    for value in settings.values():
        assert value == "1" or value not in str(refused.value)
    assert instance.get_run_by_id(run.run_id) is None and instance.get_backfill(backfill.backfill_id) is None
    assert_no_canary(url)


def test_run_config_without_one_is_stored_as_it_is(instance: dg.DagsterInstance) -> None:
    settings = {
        "CVN_BINANCE_ARCHIVE_URL": "https://host/a",
        "CVN_DEFAULT_PTE": "H4_SL1.0_TP2.0",
        "CVN_AS_OF": "2025-09-01",
    }
    config = {
        "resources": {"run_settings": {"config": {"settings": settings}}, "w": {"password": {"env": "CVN_PG_PASSWORD"}}}
    }
    instance.add_run(run := dg.DagsterRun("job", run_config=config))
    found = instance.get_run_by_id(run.run_id)
    assert found is not None and found.run_config == config


def a_backfill(**more: Any) -> PartitionBackfill:
    return PartitionBackfill(
        backfill_id=dg.DagsterRun("job").run_id[:8],
        status=BulkActionStatus.REQUESTED,
        from_failure=False,
        tags=more.pop("tags", {}),
        backfill_timestamp=1.0,
        asset_selection=[AssetKey("leaky")],
        serialized_asset_backfill_data="{}",
        **more,
    )


def test_a_backfill(instance: dg.DagsterInstance, url: str) -> None:
    made = a_backfill(title=f"token={NAMED}", tags={"my-token": NAMED, "group": "g"}, description=CANARY)
    instance.add_backfill(made)
    error = SerializableErrorInfo(f"lost {CANARY}", [f"line {CANARY}"], "ValueError")
    instance.update_backfill(made.with_status(BulkActionStatus.FAILED).with_error(error))
    assert_no_canary(url)
    found = instance.get_backfill(made.backfill_id)
    assert found is not None and found.error is not None
    assert (found.title, found.tags["group"], found.error.message) == ("token=(masked)", "g", "lost ***")


def test_ticks_heartbeats_and_cursors(instance: dg.DagsterInstance, url: str) -> None:
    error = SerializableErrorInfo(f"lost {CANARY}", [f"line {CANARY}"], "ValueError")
    tick = TickData(
        instigator_origin_id="origin",
        instigator_name="sensor",
        instigator_type=InstigatorType.SENSOR,
        status=TickStatus.FAILURE,
        timestamp=1.0,
        error=error,
        cursor=f"token={NAMED}",
    )
    instance.create_tick(tick)
    instance.run_storage.add_daemon_heartbeat(DaemonHeartbeat(1.0, "SENSOR", None, [error]))
    instance.run_storage.set_cursor_values({"cursor": f"at {CANARY}"})
    assert_no_canary(url)
    assert instance.run_storage.get_cursor_values({"cursor"}) == {"cursor": "at ***"}
    [found] = instance.get_ticks("origin", "")
    assert found.error is not None and found.error.message == "lost ***"


def test_the_webservers_engines_mask_too(instance: dg.DagsterInstance, url: str) -> None:
    instance.optimize_for_webserver(statement_timeout=5000, pool_recycle=-1, max_overflow=20)
    instance.run_storage.set_cursor_values({"web": f"at {CANARY}"})
    instance.add_run(run := dg.DagsterRun("job", tags={"note": CANARY}))
    instance.report_engine_event(f"saw {CANARY}", run)
    assert_no_canary(url)


def test_several_processes_make_the_tables_of_an_empty_database(postgres_server: EmbeddedPostgres) -> None:
    empty = create_database(postgres_server)
    code = (
        "import sys; from resources.dagster_storage import PooledPostgresStorage as P; sys.stdin.read(); P(sys.argv[1])"
    )
    paths = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    command = [sys.executable, "-W", "ignore", "-c", code, empty]
    started = [subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, env=paths) for _ in range(3)]
    for process in started:
        assert process.stdin is not None
        process.stdin.close()
    assert [process.wait(120) for process in started] == [0, 0, 0], [process.stderr for process in started]


NEVER_STORED = {"DagsterK8sJobConfig"}
"""What a Kubernetes Job is made from, anew for every run; what it calls secrets are names of the cluster's."""


def test_dagsters_own_records_have_no_name_of_a_secret() -> None:
    """Otherwise the mask would take a part of a record for a secret, and Dagster could not read it again."""
    fields: set[str] = set()
    records = _WHITELIST_MAP.object_serializers
    assert records.keys() >= NEVER_STORED
    for serializer in (each for name, each in records.items() if name not in NEVER_STORED):
        known = getattr(serializer.klass, "_fields", None) or getattr(serializer.klass, "__annotations__", {})
        fields |= {*known, *(serializer.storage_field_names or {}).values()}
    assert len(fields) > 500 and {"asset_key", "step_key", "run_key"} <= fields
    assert {name for name in fields if is_secret_name(name)} == set()


def test_what_holds_no_secret_is_the_very_same_text() -> None:
    text = '{"__class__":  "X", "step_key": "a", "path": ["b"], "link": "http://127.0.0.1/x"}'
    assert masked_record(text) is text
