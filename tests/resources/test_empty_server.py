"""`cvntrade migrate --roles` on an empty server, as an administrator who is no superuser, as hosted ones have."""

from collections.abc import Iterator
from contextlib import closing

import pytest
import sqlalchemy as sa
from services import own_postgres
from typer.testing import CliRunner

from cvntrade_assets.cli import app
from cvntrade_assets.commands.errors import CommandError
from resources.embedded_postgres import DATABASES
from resources.migrating import revisions
from resources.role_tools import RoleError
from resources.server_roles import (
    APP_ROLE,
    OWNER_ROLE,
    OWNERS,
    PASSWORD_VARIABLES,
    WAREHOUSE_DATABASE,
    prepare_server,
)
from resources.server_sessions import session
from resources.tables import METADATA
from resources.warehouse import Warehouse

ADMINISTRATOR, PASSWORD = "hosted_administrator", "canary-of-the-administrator"
GIVEN = {variable: f"canary-of-{role}" for role, variable in PASSWORD_VARIABLES.items()}


@pytest.fixture(scope="module")
def superuser() -> Iterator[sa.URL]:
    """A server with nothing on it but an administrator who may create roles and databases, and no more."""
    with own_postgres("empty") as server:
        address = sa.make_url(server.dsn("postgres"))
        change(address, *(f"drop database {name}" for name in DATABASES))
        change(address, f"create role {ADMINISTRATOR} login createrole createdb password '{PASSWORD}'")
        yield address


@pytest.fixture(scope="module")
def prepared(superuser: sa.URL) -> tuple[sa.URL, list[str]]:
    """Where the administrator finds the operations schema, and what the command said, twice."""
    address = superuser.set(username=ADMINISTRATOR, password=PASSWORD, database=WAREHOUSE_DATABASE)
    with pytest.MonkeyPatch.context() as patched:
        for name, value in GIVEN.items():
            patched.setenv(name, value)
        patched.delenv("CVN_GRAFANA_RO_PASSWORD", raising=False)
        said = [migrate_roles(patched, address) for _ in range(2)]
    return address, said


def change(address: sa.URL, *statements: str) -> None:
    with session(address) as connection:
        for statement in statements:
            connection.execute(sa.text(statement))


def migrate_roles(patched: pytest.MonkeyPatch, address: sa.URL) -> str:
    """What the command says."""
    patched.setenv("CVN_OWNER_URL", text(address))
    done = CliRunner().invoke(app, ["migrate", "--roles"])
    assert done.exit_code == 0, done.exception
    return done.output


def text(address: sa.URL) -> str:
    return address.render_as_string(hide_password=False)


def test_everything_is_made_and_the_second_time_nothing(prepared: tuple[sa.URL, list[str]]) -> None:
    first, second = prepared[1]
    assert f"created {', '.join([*PASSWORD_VARIABLES, *OWNERS])}" in first.replace("\n", " ")
    assert "nothing was missing" in second and "The role grafana_ro was brought up to date" in second
    for said in (first, second):
        assert f"The operations schema is at migration {revisions()[-1]}. It is up to date." in said
        # Whose execution only a superuser forbids.
        assert "lo_create()" in said
        assert "temporary tables" not in said and "connections of" not in said
        assert not [secret for secret in (PASSWORD, *GIVEN.values()) if secret in said]


def test_every_role_works_in_its_own_database_and_enters_no_other(prepared: tuple[sa.URL, list[str]]) -> None:
    for role, variable in PASSWORD_VARIABLES.items():
        own = prepared[0].set(username=role, password=GIVEN[variable])
        for database, owner in OWNERS.items():
            if owner == role:
                change(own.set(database=database), "create table mine (id int)", "drop table mine")
            elif (role, database) != (APP_ROLE, WAREHOUSE_DATABASE):
                with pytest.raises(Exception, match="permission denied for database"):
                    change(own.set(database=database), "select 1")


def test_the_application_works_with_tables_that_are_the_owners(prepared: tuple[sa.URL, list[str]]) -> None:
    own = prepared[0].set(username=APP_ROLE, password=GIVEN[PASSWORD_VARIABLES[APP_ROLE]])
    with closing(Warehouse(text(own))) as warehouse:
        warehouse.seed_universes()
        warehouse.set_base_env({"CVN_SEED": "1"}, "ann")
        assert warehouse.universes() and warehouse.base_env() == {"CVN_SEED": "1"}
        with warehouse.begin() as connection:
            query = sa.text("select tablename::text, tableowner::text from pg_tables where schemaname = 'public'")
            owners = {row.tablename: row.tableowner for row in connection.execute(query)}
        assert owners == dict.fromkeys([*METADATA.tables, "alembic_version"], OWNER_ROLE)


def test_another_database_than_that_of_the_roles_is_refused(
    prepared: tuple[sa.URL, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CVN_OWNER_URL", text(prepared[0].set(database="postgres")))
    refused = CliRunner().invoke(app, ["migrate", "--roles"])
    assert isinstance(refused.exception, CommandError)
    assert "the operations schema stands in cvntrade" in str(refused.exception)


def test_what_somebody_else_made_there_is_named_with_what_to_do(
    prepared: tuple[sa.URL, list[str]], superuser: sa.URL
) -> None:
    there = superuser.set(database=WAREHOUSE_DATABASE)
    change(there, "create table somebodys (id int)")
    try:
        expected = f"{ADMINISTRATOR} may not do `alter table public.somebodys owner to {OWNER_ROLE};` in database cvntr"
        with pytest.raises(RoleError, match=expected):
            prepare_server(prepared[0])
    finally:
        change(there, "drop table somebodys")


def test_what_an_extension_brought_stays_its_own(prepared: tuple[sa.URL, list[str]], superuser: sa.URL) -> None:
    there = superuser.set(database=WAREHOUSE_DATABASE)
    change(there, "create function brought() returns int language sql as 'select 1'")
    change(there, "create view brought_too as select brought()")
    for kind in ("function brought()", "view brought_too"):
        change(there, f"alter extension plpgsql add {kind}")
    try:
        assert prepare_server(prepared[0]).created == ()
    finally:
        for kind in ("view brought_too", "function brought()"):
            change(there, f"alter extension plpgsql drop {kind}", f"drop {kind}")
