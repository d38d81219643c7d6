"""The roles of a server on a real PostgreSQL: each does its work, and whatever else it tries is refused."""

from collections.abc import Iterator
from contextlib import closing

import psycopg2
import pytest
import sqlalchemy as sa
from services import own_postgres

from cvntrade_assets.local.addresses import Database
from cvntrade_assets.local.stack import database_of
from resources.embedded_postgres import EmbeddedPostgres
from resources.migrating import downgrade, revisions, upgrade
from resources.role_tools import RoleError
from resources.roles import READ_ONLY_ROLE, ensure_read_only_role
from resources.scratch import scratch_schema
from resources.server_roles import (
    APP_ROLE,
    DAGSTER_ROLE,
    GUESTS,
    MLFLOW_ROLE,
    OWNER_ROLE,
    OWNERS,
    PASSWORD_VARIABLES,
    prepare_server,
)
from resources.table_rights import RIGHTS, Right, grant_rights
from resources.tables import METADATA, VIEWS
from resources.warehouse import Warehouse, WarehouseError

DENIED, BY_A_TRIGGER = "42501", "23001"
READER = "canary-of-the-reader"
SERVER_TABLES = {name: right for name, right in RIGHTS.items() if name in METADATA.tables}


@pytest.fixture(scope="module")
def own_server() -> Iterator[EmbeddedPostgres]:
    """A server of this module alone: roles belong to servers."""
    with own_postgres("roles") as server:
        yield server


@pytest.fixture(scope="module")
def database(own_server: EmbeddedPostgres) -> Database:
    """The server of a home from before there were roles, upgraded as `cvntrade up` does it."""
    administrator = Warehouse(own_server.dsn("cvntrade"))
    with closing(administrator):
        administrator.migrate()
        administrator.seed_universes()
        for name in ("dagster", "mlflow"):
            run(own_server.dsn(name), "create table runs (id serial primary key); insert into runs default values")
        prepared = database_of(own_server)
        administrator.migrate()
        ensure_read_only_role(administrator, READER)
    return prepared


def run(url: str, statement: str) -> list[tuple[object, ...]]:
    """What a statement gives in a session of its own, outside any transaction."""
    with closing(psycopg2.connect(url.replace("+psycopg2", ""))) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall() if cursor.description else []


def refusal(url: str, statement: str) -> str:
    """The code with which PostgreSQL refuses a statement."""
    with pytest.raises(psycopg2.Error) as refused:
        run(url, statement)
    return str(refused.value.pgcode or refused.value)


def settable_column(database: Database, table: str) -> object:
    """The first column of a table that does not number itself."""
    query = (
        f"select attname from pg_attribute where attrelid = '{table}'::regclass and attnum > 0 and attidentity = '' "
        "and not attisdropped order by attnum limit 1"
    )
    [(column,)] = run(database.url("cvntrade"), query)
    return column


# what each may


def test_every_role_enters_its_own_databases_and_no_other(database):
    for role in PASSWORD_VARIABLES:
        for name in (*OWNERS, "postgres", "template1"):
            url = database.url_as(role, name)
            if OWNERS.get(name) == role or role in GUESTS.get(name, ()):
                assert run(url, "select current_user::text") == [(role,)]
            else:
                assert "permission denied for database" in refusal(url, "select 1"), (role, name)


def test_the_reader_of_dashboards_enters_the_operations_schema_alone(database):
    reader = Database(database.host, database.port, READ_ONLY_ROLE, READER)
    assert run(reader.url("cvntrade"), "select state from ops_state") == [("UNKNOWN",)]
    for name in ("dagster", "mlflow", "cvntrade_scratch", "postgres"):
        assert "permission denied for database" in refusal(reader.url(name), "select 1")


@pytest.mark.parametrize(("role", "name"), [(DAGSTER_ROLE, "dagster"), (MLFLOW_ROLE, "mlflow")])
def test_dagster_and_mlflow_own_what_was_there_and_make_more(database, role, name):
    url = database.url_as(role, name)
    run(url, "alter table runs add column note text; insert into runs (note) values ('new')")
    assert run(url, "select id, note from runs order by id") == [(1, None), (2, "new")]
    run(url, "create table more (id int); drop table more")


def test_the_owner_migrates_down_and_up_and_what_it_makes_is_its_own(database):
    newest = revisions()[-1]
    with closing(Warehouse(database.url_as(OWNER_ROLE, "cvntrade"))) as owner:
        downgrade(owner, revisions()[-2])
        upgrade(owner, newest)
        upgrade(owner)
        ensure_read_only_role(owner)
    for url in (database.url("cvntrade"), database.url_as(OWNER_ROLE, "cvntrade")):
        owners = run(
            url, "select distinct relowner::regrole::text from pg_class where relnamespace = 'public'::regnamespace"
        )
        assert owners == [(OWNER_ROLE,)]


def test_what_an_administrator_migrates_is_the_owners_and_the_role_has_its_rights(database):
    with closing(Warehouse(database.url("cvntrade"))) as administrator:
        downgrade(administrator, revisions()[-2])
        administrator.migrate()
        ensure_read_only_role(administrator)
    owners = run(database.url("cvntrade"), "select distinct tableowner from pg_tables where schemaname = 'public'")
    assert owners == [(OWNER_ROLE,)]
    assert run(database.url_as(APP_ROLE, "cvntrade"), "select state from ops_state") == [("UNKNOWN",)]


def test_the_work_of_the_application_needs_no_more(database):
    with closing(Warehouse(database.url_as(APP_ROLE, "cvntrade"))) as warehouse:
        warehouse.seed_universes()
        warehouse.set_group("mine", ["BTCUSDC"])
        warehouse.set_base_env({"CVN_SEED": "1"}, "ann", "because")
        warehouse.set_base_env({"CVN_SEED": None}, "ann", "no longer")
        assert "CVN_SEED" not in warehouse.base_env()
        with warehouse.begin() as connection:
            noted = connection.execute(sa.text("select old_value, new_value, author from base_env_history order by id"))
            assert [tuple(row) for row in noted][-2:] == [(None, "1", "ann"), ("1", None, "ann")]


@pytest.mark.parametrize("path", ["public", "pg_temp, public", "cvntrade_app"])
def test_a_change_by_hand_is_noted_with_its_role_wherever_the_session_looks(database, path):
    url = database.url_as(APP_ROLE, "cvntrade")
    run(url, f"set search_path = {path}; insert into public.base_env values ('CVN_HAND', '1', 'otto')")
    run(url, f"set search_path = {path}; delete from public.base_env where key = 'CVN_HAND'")
    noted = run(url, "select old_value, new_value, author, reason from base_env_history order by id desc limit 2")
    assert noted == [("1", None, APP_ROLE, None), (None, "1", "otto", None)]


def test_the_application_changes_models_and_their_events_are_written_for_it(database):
    url = database.url_as(APP_ROLE, "cvntrade")
    columns = "crypto, number, state, epoch, market, pte, rolling_version, model_sha256, evaluation_version"
    run(
        url,
        f"insert into model_versions ({columns}, fitted_until, data_until) "
        "values ('BTCUSDC', 1, 'candidate', 1, 'simulated', 'p', 'r', 'm', 'e', now(), now())",
    )
    run(url, "update model_versions set state = 'archived', epoch = 2")
    events = "select from_state, to_state, author from model_events order by id"
    assert run(url, events) == [(None, "candidate", APP_ROLE), ("candidate", "archived", APP_ROLE)]


@pytest.mark.parametrize(
    "statement",
    [
        "insert into base_env_history (key, new_value, author) values ('CVN_SEED', '7', 'ann')",
        "insert into model_events (model_id, crypto, number, to_state, epoch, author) "
        "values (1, 'BTCUSDC', 1, 'champion', 9, 'ann')",
    ],
)
def test_a_history_takes_no_row_from_the_application_itself(database, statement):
    assert refusal(database.url_as(APP_ROLE, "cvntrade"), statement) == DENIED


def test_no_role_may_make_a_trigger_of_its_own_write_a_history(database):
    for role in (APP_ROLE, READ_ONLY_ROLE):
        for function in ("note_base_env()", "note_model_version()"):
            asked = f"select has_function_privilege('{role}', '{function}', 'execute')"
            assert run(database.url("cvntrade"), asked) == [(False,)]


def test_the_smoke_has_a_database_to_make_schemas_in(database):
    with closing(Warehouse(database.url_as(APP_ROLE, "cvntrade"))) as warehouse, scratch_schema(warehouse) as url:
        assert sa.make_url(url).database == "cvntrade_scratch"
        with closing(Warehouse(url)) as scratch:
            assert scratch.universes() == {}
    assert (
        run(
            database.url_as(APP_ROLE, "cvntrade_scratch"), "select 1 from pg_namespace where nspname like 'cvntrade_s%'"
        )
        == []
    )


# what it must not


def test_every_table_has_a_declared_right():
    assert set(METADATA.tables) <= set(RIGHTS), "add the new table to resources/table_rights.py"


@pytest.mark.parametrize("table", sorted(SERVER_TABLES))
def test_the_application_has_exactly_the_declared_right(database, table):
    url, right = database.url_as(APP_ROLE, "cvntrade"), SERVER_TABLES[table]
    column = settable_column(database, table)
    assert run(url, f"select count(*) from {table}")
    doors = {
        "update": f'update {table} set "{column}" = "{column}" where false',
        "delete": f"delete from {table} where false",
    }
    for name, statement in doors.items():
        if name not in right:
            assert refusal(url, statement) == DENIED, statement
        else:
            run(url, statement)
    for statement in (
        f"truncate {table}",
        f"alter table {table} add column mine text",
        f"alter table {table} disable trigger all",
        f"drop table {table}",
        f"create index on {table} (({column}::text))",
        f"alter table {table} owner to {APP_ROLE}",
        f"create trigger mine before insert on {table} for each row execute function refuse_change()",
    ):
        assert refusal(url, statement) == DENIED, statement
    granted = f"select relacl::text from pg_class where oid = '{table}'::regclass"
    before = run(database.url("cvntrade"), granted)
    # Whoever has no grant option grants nothing, and PostgreSQL calls that a warning.
    run(url, f"grant all on {table} to public")
    assert run(database.url("cvntrade"), granted) == before


@pytest.mark.parametrize(
    "statement",
    [
        "create table mine (id int)",
        "create view mine as select 1",
        "create function mine() returns int language sql as 'select 1'",
        "create or replace function refuse_change() returns trigger language plpgsql as $$ begin return new; end $$",
        "create temporary table mine (id int)",
        "create schema mine",
        "create role mine",
        "create database mine",
        "create extension dblink",
        "alter role cvntrade_app createdb",
        "alter role cvntrade_app superuser",
        "alter role cvntrade_dagster password 'mine'",
        "set role cvntrade_owner",
        "set role cvntrade",
        "set session authorization cvntrade_owner",
        "set session_replication_role = replica",
        "alter system set log_statement = 'all'",
        "alter database cvntrade owner to cvntrade_app",
        "drop database dagster",
        "select rolpassword from pg_authid",
        "select pg_read_file('/etc/passwd')",
        "select pg_ls_dir('/')",
        "copy (select 1) to program 'true'",
        "copy base_env from '/etc/passwd'",
        "copy (select 1) to '/tmp/of-the-roles-test'",
        "select lo_create(0)",
        "select lo_from_bytea(0, 'x')",
        "do $$ begin perform lo_creat(-1); end $$",
        "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'cvntrade'",
        "select setval('alerts_id_seq', 7)",
        "select nextval('model_events_id_seq')",
        "insert into alembic_version values ('mine')",
        "update ops_universe set crypto = 'X'",
        "drop view ops_state",
        "comment on table base_env is 'mine'",
        "alter default privileges in schema public grant all on tables to public; create table mine (id int)",
    ],
)
@pytest.mark.parametrize("role", [APP_ROLE])
def test_the_application_makes_nothing_and_becomes_nobody(database, role, statement):
    # A view that nobody can write to refuses for that reason.
    assert refusal(database.url_as(role, "cvntrade"), statement) in (DENIED, "55000"), statement


@pytest.mark.parametrize(
    ("role", "name"), [(OWNER_ROLE, "cvntrade"), (DAGSTER_ROLE, "dagster"), (MLFLOW_ROLE, "mlflow")]
)
@pytest.mark.parametrize(
    "statement",
    [
        "create role mine",
        "create database mine",
        "alter role cvntrade_app password 'mine'",
        "alter role cvntrade_mlflow superuser",
        "select rolpassword from pg_authid",
        "select pg_read_file('/etc/passwd')",
        "copy (select 1) to program 'true'",
        "select lo_create(0)",
        "set session_replication_role = replica",
        "set role cvntrade",
    ],
)
def test_an_owner_has_no_power_over_the_server(database, role, name, statement):
    assert refusal(database.url_as(role, name), statement) == DENIED


def test_what_others_ask_is_not_shown(database):
    with closing(psycopg2.connect(database.url_as(MLFLOW_ROLE, "mlflow").replace("+psycopg2", ""))) as other:
        other.cursor().execute("select 'hunter2'")
        for role, name in ((APP_ROLE, "cvntrade"), (DAGSTER_ROLE, "dagster"), (OWNER_ROLE, "cvntrade")):
            shown = run(database.url_as(role, name), "select query from pg_stat_activity where datname = 'mlflow'")
            # Of several sessions when one has not quite ended, or autovacuum is there.
            assert shown and set(shown) == {("<insufficient privilege>",)}


def test_a_refusal_is_one_message_that_says_what_to_do(database):
    with (
        closing(Warehouse(database.url_as(APP_ROLE, "cvntrade"))) as warehouse,
        pytest.raises(
            WarehouseError, match=r"refuses this to cvntrade_app \(permission denied.*`cvntrade migrate --roles`"
        ),
        warehouse.begin() as connection,
    ):
        connection.execute(sa.text("delete from global_states"))


# append-only, for everybody

RECORDS = {
    **{name: ("update", "delete", "truncate") for name, right in SERVER_TABLES.items() if right is Right.APPEND},
    **dict.fromkeys(("base_env_history", "model_events"), ("update", "delete", "truncate")),
    **dict.fromkeys(("alerts", "alert_messages", "incidents", "model_versions"), ("delete", "truncate")),
    "incident_alerts": ("delete", "truncate"),
    "base_env": ("truncate",),
}


@pytest.mark.parametrize("table", sorted(RECORDS))
@pytest.mark.parametrize("who", ["superuser", "superuser as replica", OWNER_ROLE])
def test_a_record_is_refused_to_be_changed_whoever_asks(database, table, who):
    url = database.url_as(OWNER_ROLE, "cvntrade") if who == OWNER_ROLE else database.url("cvntrade")
    before = "set session_replication_role = replica; " if who.endswith("replica") and table != "base_env" else ""
    column = settable_column(database, table)
    statements = {
        "update": f'update {table} set "{column}" = "{column}"',
        "delete": f"delete from {table}",
        "truncate": f"truncate {table} cascade",
    }
    for name in RECORDS[table]:
        assert refusal(url, before + statements[name]) == BY_A_TRIGGER, statements[name]


def test_every_append_only_table_is_guarded_by_a_trigger_that_always_fires(database):
    guarded = run(
        database.url("cvntrade"),
        "select tgrelid::regclass::text from pg_trigger "
        "where tgfoid = 'refuse_change'::regproc and tgenabled = 'A' order by 1",
    )
    assert {name for (name,) in guarded} == set(RECORDS) - {"base_env"}


# the administrator's side


def test_a_second_time_changes_nothing(database, own_server):
    address = sa.make_url(database.url("cvntrade"))
    verifiers = run(database.url("postgres"), "select rolname::text, rolpassword from pg_authid order by 1")
    again = prepare_server(address, {role: database.password_of(role) for role in PASSWORD_VARIABLES})
    assert again.created == () and again.without_login == () and again.left_open == ()
    assert run(database.url("postgres"), "select rolname::text, rolpassword from pg_authid order by 1") == verifiers
    assert all(verifier.startswith("SCRAM-SHA-256$") for _, verifier in verifiers if verifier)


def test_the_owner_may_look_after_its_own_once_all_is_there(database):
    found = prepare_server(sa.make_url(database.url_as(OWNER_ROLE, "cvntrade")))
    assert found.created == () and found.left_open == ()


@pytest.mark.parametrize("power", ["superuser", "createrole", "createdb", "bypassrls"])
def test_a_role_with_powers_is_refused(database, power):
    run(database.url("postgres"), f"alter role {APP_ROLE} {power}")
    try:
        with pytest.raises(RoleError, match=f"{APP_ROLE} exists with powers that it must not have: {power}"):
            prepare_server(sa.make_url(database.url("cvntrade")))
    finally:
        run(database.url("postgres"), f"alter role {APP_ROLE} no{power}")


def test_a_grant_too_many_is_refused_by_name(database):
    run(database.url("cvntrade"), "grant delete on global_states to public")
    try:
        with (
            closing(Warehouse(database.url("cvntrade"))) as warehouse,
            pytest.raises(RoleError, match="global_states"),
            warehouse.begin() as connection,
        ):
            grant_rights(connection)
    finally:
        run(database.url("cvntrade"), "revoke delete on global_states from public")


def test_an_undeclared_table_is_refused_by_name(database):
    run(database.url("cvntrade"), "create table undeclared (id int)")
    try:
        with closing(Warehouse(database.url("cvntrade"))) as warehouse, pytest.raises(RoleError, match="undeclared"):
            warehouse.migrate()
    finally:
        run(database.url("cvntrade"), "drop table undeclared")


def test_every_view_is_read_by_the_application(database):
    for view in VIEWS.tables:
        run(database.url_as(APP_ROLE, "cvntrade"), f"select * from {view} limit 1")
