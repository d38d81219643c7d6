"""The role of dashboards on a real PostgreSQL: it sees views, and whatever else it tries is refused."""

from collections.abc import Iterator
from contextlib import closing

import psycopg2
import pytest
import sqlalchemy as sa
from services import create_database

from resources.embedded_postgres import EmbeddedPostgres
from resources.roles import READ_ONLY_ROLE, RoleError, ensure_read_only_role
from resources.secrets import learn_secrets
from resources.tables import METADATA, VIEWS
from resources.warehouse import Warehouse

PASSWORD = "canary-5fd0-of-the-reader"
VISITOR = "visitor_of_the_roles_test"


@pytest.fixture(scope="module")
def granted(postgres_server: EmbeddedPostgres, warehouse: Warehouse) -> Iterator[sa.URL]:
    """The address as which the role logs in; the server is without the role afterwards."""
    warehouse.seed_universes()
    assert ensure_read_only_role(warehouse, PASSWORD).created
    yield warehouse.address.set(username=READ_ONLY_ROLE, password=PASSWORD)
    forget(warehouse, READ_ONLY_ROLE)


def forget(warehouse: Warehouse, role: str) -> None:
    with warehouse.begin() as connection:
        connection.execute(sa.text(f"drop owned by {role}"))
        connection.execute(sa.text(f"drop role {role}"))


def attempt(url: sa.URL, statement: str) -> list[tuple[object, ...]]:
    """What a statement gives the role, in a session of its own that wants to write."""
    address = url.set(drivername="postgresql").render_as_string(hide_password=False)
    with closing(psycopg2.connect(address)) as connection, connection.cursor() as cursor:
        cursor.execute("set default_transaction_read_only = off")
        connection.commit()
        cursor.execute(statement)
        rows = cursor.fetchall() if cursor.description else []
        connection.commit()
        return rows


@pytest.mark.parametrize("view", sorted(VIEWS.tables))
def test_every_view_can_be_read(granted, view):
    attempt(granted, f"select * from {view} limit 1")


@pytest.mark.parametrize("table", [*sorted(METADATA.tables), "alembic_version"])
def test_no_table_can_be_read_or_written(granted, table):
    for statement in (
        f"select * from {table} limit 1",
        f"select count(*) from {table}",
        f"delete from {table}",
        f"insert into {table} default values",
        f"truncate {table}",
        f"lock table {table} in access exclusive mode",
        f"copy {table} to stdout",
    ):
        with pytest.raises(psycopg2.Error) as refused:
            attempt(granted, statement)
        assert refused.value.pgcode == "42501", f"{statement}: {refused.value}"


@pytest.mark.parametrize(
    "statement",
    [
        "update ops_universe set crypto = 'X'",
        "delete from ops_artifacts",
        "insert into ops_universe values ('BTCUSDC', 'btc-core')",
        "update ops_state_history set state = 'GREEN'",
        "create table mine (id int)",
        "create view mine as select * from ops_state",
        "create function mine() returns int language sql as 'select 1'",
        "create temporary table mine (id int)",
        "create schema mine",
        "create role mine",
        f"alter role {READ_ONLY_ROLE} superuser",
        "set role cvntrade",
        "select nextval('alerts_id_seq')",
        "select setval('alerts_id_seq', 7)",
        "select lo_create(0)",
        "select lo_from_bytea(0, 'x')",
        "select pg_read_file('/etc/passwd')",
        "select pg_terminate_backend(pid) from pg_stat_activity where usename <> current_user",
        "copy (select 1) to program 'true'",
        "do $$ begin perform lo_create(0); end $$",
        "grant select on base_env to public",
        "alter view ops_state owner to grafana_ro",
        "drop view ops_state",
        "comment on view ops_state is 'mine'",
        "create trigger mine instead of insert on ops_universe for each row execute function refuse_change()",
    ],
)
def test_nothing_is_written_by_any_door(granted, statement):
    with pytest.raises(psycopg2.Error) as refused:
        attempt(granted, statement)
    # A view of several tables takes no rows from anybody.
    assert refused.value.pgcode in ("42501", "55000"), refused.value


def test_our_functions_run_for_triggers_only(granted):
    for function in ("refuse_change", "refuse_truncate", "note_base_env", "guard_model_version", "note_model_version"):
        with pytest.raises(psycopg2.Error, match="can only be called as trigger"):
            attempt(granted, f"select {function}()")


def test_other_databases_of_the_server_are_closed_too(postgres_server, granted):
    other = sa.make_url(create_database(postgres_server))
    with closing(Warehouse(other.render_as_string(hide_password=False))) as warehouse:
        warehouse.migrate()
    with pytest.raises(psycopg2.Error) as refused:
        attempt(granted.set(database=other.database), "select * from cvntrade_universes")
    assert refused.value.pgcode == "42501"


def test_without_a_password_nobody_logs_in_and_the_next_call_changes_nothing(granted, warehouse):
    assert attempt(granted, "show default_transaction_read_only") == [("off",)], "set by the session itself"
    again = ensure_read_only_role(warehouse)
    assert not again.created and again.can_login and again.left_open == ()
    assert set(again.views) == set(VIEWS.tables)


def test_a_grant_too_many_is_refused_by_name(granted, warehouse):
    with warehouse.begin() as connection:
        connection.execute(sa.text("grant select (key) on base_env to public"))
    try:
        with pytest.raises(RoleError, match="would reach more than views: base_env"):
            ensure_read_only_role(warehouse)
    finally:
        with warehouse.begin() as connection:
            connection.execute(sa.text("revoke select (key) on base_env from public"))


def test_what_was_granted_to_the_role_itself_is_taken_back(granted, warehouse):
    with warehouse.begin() as connection:
        connection.execute(sa.text(f"grant all on base_env to {READ_ONLY_ROLE}"))
    ensure_read_only_role(warehouse)
    with pytest.raises(psycopg2.Error, match="permission denied for table base_env"):
        attempt(granted, "select * from base_env")


@pytest.mark.parametrize("power", ["superuser", "createrole", "bypassrls"])
def test_a_role_of_that_name_with_powers_is_refused(granted, warehouse, power):
    with warehouse.begin() as connection:
        connection.execute(sa.text(f"alter role {READ_ONLY_ROLE} {power}"))
    try:
        with pytest.raises(RoleError, match=f"must not have: {power}"):
            ensure_read_only_role(warehouse)
    finally:
        with warehouse.begin() as connection:
            connection.execute(sa.text(f"alter role {READ_ONLY_ROLE} no{power}"))


def test_a_role_that_is_somebody_elses_member_is_refused(granted, warehouse):
    with warehouse.begin() as connection:
        connection.execute(sa.text(f"grant pg_read_all_data to {READ_ONLY_ROLE}"))
    try:
        with pytest.raises(RoleError, match="member of pg_read_all_data"):
            ensure_read_only_role(warehouse)
    finally:
        with warehouse.begin() as connection:
            connection.execute(sa.text(f"revoke pg_read_all_data from {READ_ONLY_ROLE}"))


def test_the_password_goes_to_the_server_as_a_verifier_only(granted, warehouse):
    learn_secrets({"CVN_GRAFANA_RO_PASSWORD": PASSWORD})
    with warehouse.begin() as connection:
        stored = connection.scalar(
            sa.text("select rolpassword from pg_authid where rolname = :role"), {"role": READ_ONLY_ROLE}
        )
    assert stored.startswith("SCRAM-SHA-256$") and PASSWORD not in stored
    # Whoever has the password already keeps it, and nothing would be sent.
    with warehouse.begin() as connection:
        connection.execute(sa.text(f"alter role {READ_ONLY_ROLE} nologin"))
    sent: list[str] = []
    with closing(Warehouse(warehouse.address.render_as_string(hide_password=False))) as watched:
        sa.event.listen(watched._engine, "before_cursor_execute", lambda *arguments: sent.append(str(arguments[2:4])))
        ensure_read_only_role(watched, PASSWORD)
    assert any("login password" in statement for statement in sent)
    assert not any(PASSWORD in statement for statement in sent)


# on a server where we are nobody special


@pytest.fixture
def plain_owner(postgres_server: EmbeddedPostgres, warehouse: Warehouse) -> Iterator[Warehouse]:
    """A database whose owner may not create roles, migrated by that owner."""
    url = sa.make_url(create_database(postgres_server))
    with warehouse.begin() as connection:
        connection.execute(sa.text(f"create role {VISITOR} login password '{PASSWORD}'"))
        connection.execute(sa.text(f'alter database "{url.database}" owner to {VISITOR}'))
    own = url.set(username=VISITOR, password=PASSWORD)
    opened = Warehouse(own.render_as_string(hide_password=False))
    with closing(opened):
        opened.migrate()
        yield opened
    with closing(Warehouse(url.render_as_string(hide_password=False))) as superuser, superuser.begin() as connection:
        connection.execute(sa.text(f"reassign owned by {VISITOR} to cvntrade"))
        for role in (VISITOR, READ_ONLY_ROLE):
            if connection.scalar(sa.text("select 1 from pg_roles where rolname = :role"), {"role": role}):
                connection.execute(sa.text(f"drop owned by {role}"))
        connection.execute(sa.text(f"drop role {VISITOR}"))


def test_who_may_not_create_roles_is_told_what_to_have_done(plain_owner, granted, warehouse):
    with warehouse.begin() as connection:
        connection.execute(sa.text(f"alter role {READ_ONLY_ROLE} rename to hidden_for_a_moment"))
    try:
        with pytest.raises(RoleError, match=f"{VISITOR} may not create roles.*`create role {READ_ONLY_ROLE} nologin"):
            ensure_read_only_role(plain_owner)
    finally:
        with warehouse.begin() as connection:
            connection.execute(sa.text(f"alter role hidden_for_a_moment rename to {READ_ONLY_ROLE}"))


def test_whose_views_they_are_grants_them_to_a_role_that_somebody_else_created(plain_owner, granted):
    # As a role of its own database's owner, not of the server's: the password is the administrator's to set.
    role = ensure_read_only_role(plain_owner)
    assert not role.created
    assert "lo_create()" in role.left_open and not any("temporary" in each for each in role.left_open)
    with pytest.raises(RoleError, match=f"{VISITOR} may not change the role"):
        ensure_read_only_role(plain_owner, "another password")
    assert ensure_read_only_role(plain_owner, PASSWORD).can_login, "it has this one already: there is nothing to change"
    attempt(granted.set(database=plain_owner.address.database), "select * from ops_state")
    with pytest.raises(psycopg2.Error, match="permission denied for table base_env"):
        attempt(granted.set(database=plain_owner.address.database), "select * from base_env")


# the command


def test_the_command_sees_to_the_role_and_says_how_it_stands(granted, warehouse, monkeypatch):
    from typer.testing import CliRunner

    from cvntrade_assets.cli import app

    monkeypatch.setenv("CVN_UI_URL", "http://127.0.0.1:3000")
    monkeypatch.setenv("CVN_WAREHOUSE_URL", warehouse.address.render_as_string(hide_password=False))
    monkeypatch.delenv("CVN_GRAFANA_RO_PASSWORD", raising=False)
    done = CliRunner().invoke(app, ["migrate", "--read-only-role"])
    assert done.exit_code == 0, done.output
    assert f"reads {len(VIEWS.tables)} views, and nothing else" in done.output
    assert "Nobody can log in" not in done.output, "it can already, and that stays"
    with warehouse.begin() as connection:
        connection.execute(sa.text(f"alter role {READ_ONLY_ROLE} nologin"))
    done = CliRunner().invoke(app, ["migrate", "--read-only-role"])
    assert "Nobody can log in as it yet: set CVN_GRAFANA_RO_PASSWORD" in done.output
    monkeypatch.setenv("CVN_GRAFANA_RO_PASSWORD", PASSWORD)
    done = CliRunner().invoke(app, ["migrate", "--read-only-role"])
    assert done.exit_code == 0 and PASSWORD not in done.output
    assert attempt(granted, "select current_user") == [(READ_ONLY_ROLE,)]
