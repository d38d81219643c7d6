"""TLS with PostgreSQL: PGSSLMODE, which the chart sets for every pod, decides for addresses that say nothing of it."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa
from dagster_on_postgres import open_instance
from dagster_postgres.utils import DagsterPostgresException

from resources.dagster_address import dagster_url
from resources.embedded_postgres import HOST, USER, EmbeddedPostgres
from resources.warehouse import ConnectionLostError, Warehouse

REFUSAL = "server does not support SSL, but SSL was required"


@pytest.fixture
def warehouse(postgres_server: EmbeddedPostgres) -> Iterator[Warehouse]:
    """On a server without TLS, with both addresses as the chart's environment gives them."""
    variables = {
        "CVN_PG_HOST": HOST,
        "CVN_PG_PORT": str(postgres_server.port),
        "CVN_PG_USER": USER,
        "CVN_PG_PASSWORD": postgres_server.password,
    }
    with closing(Warehouse(postgres_server.dsn("cvntrade"), dagster_url(variables))) as opened:
        yield opened


def is_encrypted(address: sa.URL) -> bool:
    with sa.create_engine(address, poolclass=sa.NullPool).connect() as connection:
        return bool(connection.scalar(sa.text("select ssl from pg_stat_ssl where pid = pg_backend_pid()")))


def test_a_server_without_tls_is_spoken_to_in_plain_text_where_tls_is_preferred(
    warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGSSLMODE", "prefer")
    assert not is_encrypted(warehouse.address)
    assert not is_encrypted(warehouse.dagster_address)


def test_a_server_without_tls_is_refused_where_tls_is_required(
    warehouse: Warehouse, postgres_server: EmbeddedPostgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the operations schema's address, by that of Dagster's tables, and by dagster.yaml's storage."""
    monkeypatch.setenv("PGSSLMODE", "require")
    with pytest.raises(ConnectionLostError, match=REFUSAL), warehouse.begin():
        pass
    with pytest.raises(sa.exc.OperationalError, match=REFUSAL):
        is_encrypted(warehouse.dagster_address)
    # Dagster asks six times, and would sleep in between.
    monkeypatch.setattr("dagster_postgres.utils.time.sleep", lambda seconds: None)
    with pytest.raises(DagsterPostgresException) as caught, open_instance(postgres_server, tmp_path):
        pass
    assert REFUSAL in str(caught.value.__cause__)
