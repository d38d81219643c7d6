"""Sessions at a real server: what it refuses, or does not have, is one message that says what to do."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
import sqlalchemy as sa
from services import create_database

from resources.embedded_postgres import EmbeddedPostgres, free_port
from resources.server_sessions import session, transaction
from resources.warehouse import KEEPALIVES, WarehouseError

Opens = Callable[[sa.URL], AbstractContextManager[sa.Connection]]


@pytest.fixture(scope="module")
def address(postgres_server: EmbeddedPostgres) -> sa.URL:
    return sa.make_url(create_database(postgres_server))


def ask(opens: Opens, address: sa.URL, *statements: str) -> None:
    with opens(address) as connection:
        for statement in statements:
            connection.execute(sa.text(statement))


@pytest.mark.parametrize("opens", [session, transaction])
def test_what_a_role_may_not_do_is_said(opens: Opens, address: sa.URL) -> None:
    # As somebody without any power, such as cvntrade_owner who is asked to restore.
    said = r"refuses this to cvntrade \(permission denied.*\)\. Have the address name the server's administrator"
    with pytest.raises(WarehouseError, match=said):
        ask(opens, address, "set role pg_monitor", "create schema mine")


@pytest.mark.parametrize("opens", [session, transaction])
def test_a_table_that_is_not_there_is_said(opens: Opens, address: sa.URL) -> None:
    said = r'refuses this to cvntrade \(relation "artifact_versions" does not exist\).*`cvntrade migrate` makes it'
    with pytest.raises(WarehouseError, match=said):
        ask(opens, address, "select 1 from artifact_versions")


@pytest.mark.parametrize("opens", [session, transaction])
def test_a_server_that_is_not_there_is_said_without_the_password(opens: Opens, address: sa.URL) -> None:
    gone = address.set(port=free_port())
    with pytest.raises(WarehouseError, match=r"not do what cvntrade asks \(.*refused.*Check the address") as raised:
        ask(opens, gone, "select 1")
    assert str(gone.password) not in str(raised.value)


@pytest.mark.parametrize("opens", [session, transaction])
def test_a_fault_of_ours_stays_one(opens: Opens, address: sa.URL) -> None:
    with pytest.raises(sa.exc.ProgrammingError, match="syntax error"):
        ask(opens, address, "selec 1")


@pytest.mark.parametrize("opens", [session, transaction])
def test_a_silent_connection_asks_whether_the_server_is_there(opens: Opens, address: sa.URL) -> None:
    with opens(address) as connection:
        raw: Any = connection.connection.dbapi_connection
        given = {name: int(raw.info.dsn_parameters[name]) for name in KEEPALIVES}
    assert given == KEEPALIVES
