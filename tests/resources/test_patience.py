"""A run's worker outlasts a PostgreSQL that is gone for a moment; nobody else waits."""

import threading
import time
from collections.abc import Iterator
from contextlib import closing

import dagster as dg
import pytest
import sqlalchemy as sa
from dagster_on_postgres import instance
from services import create_database
from tcp_door import TcpDoor

from resources.dagster_storage import PooledPostgresStorage
from resources.embedded_postgres import EmbeddedPostgres
from resources.warehouse import ConnectionLostError, Warehouse, WarehouseError

__all__ = ["instance"]

GONE_SECONDS = 1.5


@pytest.fixture
def door(postgres_server: EmbeddedPostgres) -> Iterator[TcpDoor]:
    """A way to PostgreSQL that can be shut."""
    with TcpDoor(postgres_server.port) as made:
        yield made


@pytest.fixture
def warehouse(door: TcpDoor, postgres_server: EmbeddedPostgres) -> Iterator[Warehouse]:
    url = sa.make_url(create_database(postgres_server)).set(port=door.port)
    with closing(Warehouse(url.render_as_string(hide_password=False))) as opened:
        yield opened


def be_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resources.patience.is_run_worker", lambda: True)


def ask(warehouse: Warehouse) -> object:
    with warehouse.begin() as connection:
        return connection.scalar(sa.text("select 1"))


def test_a_run_waits_until_the_server_is_back(
    warehouse: Warehouse, door: TcpDoor, monkeypatch: pytest.MonkeyPatch
) -> None:
    be_a_run(monkeypatch)
    assert ask(warehouse) == 1
    door.shut()
    back = threading.Timer(GONE_SECONDS, door.open)
    back.start()
    assert ask(warehouse) == 1
    back.join()


def test_a_run_does_not_wait_for_ever(warehouse: Warehouse, door: TcpDoor, monkeypatch: pytest.MonkeyPatch) -> None:
    be_a_run(monkeypatch)
    monkeypatch.setattr("resources.patience.wait_for_server.__defaults__", (0.0,))
    door.shut()
    with pytest.raises(ConnectionLostError, match="did not answer"):
        ask(warehouse)


def test_nobody_else_waits(warehouse: Warehouse, door: TcpDoor, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    door.shut()
    with pytest.raises(ConnectionLostError, match="did not answer"):
        ask(warehouse)
    assert slept == []


def test_a_wrong_password_is_not_waited_for(postgres_server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch) -> None:
    be_a_run(monkeypatch)
    slept: list[float] = []
    monkeypatch.setattr("resources.patience.time.sleep", slept.append)
    url = sa.make_url(postgres_server.dsn("cvntrade")).set(password="wrong")
    with (
        closing(Warehouse(url.render_as_string(hide_password=False))) as warehouse,
        pytest.raises(WarehouseError, match="authentication failed"),
    ):
        ask(warehouse)
    assert slept == []


def test_the_webserver_shows_no_error_for_what_an_outage_cut(postgres_server: EmbeddedPostgres, door: TcpDoor) -> None:
    url = sa.make_url(postgres_server.dsn("dagster")).set(port=door.port)
    storage = PooledPostgresStorage(url.render_as_string(hide_password=False))
    parts = (storage.run_storage, storage.event_log_storage, storage.schedule_storage)
    for part in parts:
        part.optimize_for_webserver(statement_timeout=5000, pool_recycle=3600, max_overflow=20)

    def look() -> None:
        storage.run_storage.get_runs(limit=1)
        storage.event_log_storage.get_logs_for_run("nobody")
        storage.schedule_storage.all_instigator_state()

    try:
        look()
        door.shut()
        door.open()
        look()
    finally:
        for part in parts:
            part._engine.dispose()


@pytest.mark.parametrize(
    ("error", "is_marked"),
    [
        (ConnectionLostError("PostgreSQL at nowhere did not answer"), True),
        (sa.exc.OperationalError("select 1", {}, Exception("(psycopg2.OperationalError) gone")), True),
        (WarehouseError("a table is missing"), False),
        (ValueError("a contract is broken"), False),
    ],
)
@pytest.mark.parametrize("is_cause", [False, True])
def test_a_step_that_failed_for_the_server_has_its_run_tried_again(
    instance: dg.DagsterInstance, error: Exception, is_marked: bool, is_cause: bool
) -> None:
    @dg.op
    def work() -> None:
        if is_cause:
            raise RuntimeError("the stage failed") from error
        raise error

    @dg.job(executor_def=dg.in_process_executor)
    def chain() -> None:
        work()

    result = chain.execute_in_process(instance=instance, raise_on_error=False)
    run = instance.get_run_by_id(result.run_id)
    assert run is not None and run.status == dg.DagsterRunStatus.FAILURE
    assert (run.tags.get("dagster/retry_on_asset_or_op_failure") == "true") == is_marked
    assert (run.tags.get("dagster/will_retry") == "true") == is_marked
