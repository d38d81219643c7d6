import multiprocessing
import os
import threading
import traceback
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import dagster as dg
import pandas as pd
import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from dagster._utils.error import serializable_error_info_from_exc_info
from services import create_database

import resources.warehouse
from cvntrade_assets.market.history import MonthRecord
from cvntrade_assets.settings import SettingsError
from resources.embedded_postgres import EmbeddedPostgres, free_port
from resources.secrets import learn_secrets
from resources.tables import METADATA, VIEWS
from resources.warehouse import FIRST_UNIVERSES, UniverseNameError, UnknownGroupError, Warehouse, WarehouseError
from resources.warehouse_resource import WarehouseResource

FORK = multiprocessing.get_context("fork")
PATIENCE = 20.0
SECRET = "hunter2-swordfish"


@pytest.fixture
def empty_url(postgres_server: EmbeddedPostgres) -> str:
    """The address of a database with nothing in it."""
    return create_database(postgres_server)


@pytest.fixture
def fresh(empty_url: str):
    """A migrated database of this test alone."""
    with closing(Warehouse(empty_url)) as warehouse:
        warehouse.migrate()
        yield warehouse


def tables(warehouse: Warehouse) -> set[str]:
    with warehouse.begin() as connection:
        return set(sa.inspect(connection).get_table_names())


def alembic(warehouse: Warehouse, step: Callable[..., None], target: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(resources.warehouse.__file__).parent / "migrations"))
    with warehouse.begin() as connection:
        config.attributes["connection"] = connection
        step(config, target)


def at_once(work: Callable[[Warehouse], None], url: str, processes: int = 2) -> list[int | None]:
    """Exit codes of processes that begin the same work on the same database together."""
    start = FORK.Barrier(processes)

    def main() -> None:
        with closing(Warehouse(url)) as warehouse:
            start.wait(PATIENCE)
            work(warehouse)
        os._exit(0)

    children = [FORK.Process(target=main) for _ in range(processes)]
    for child in children:
        child.start()
    for child in children:
        child.join(PATIENCE)
    return [child.exitcode for child in children]


# Migrations


def test_migrations_go_up_and_down_and_up_again(empty_url):
    declared = set(METADATA.tables)
    with closing(Warehouse(empty_url)) as warehouse:
        warehouse.migrate()
        assert tables(warehouse) == declared | {"alembic_version"}
        alembic(warehouse, command.downgrade, "base")
        assert tables(warehouse) == {"alembic_version"}
        warehouse.migrate()
        assert tables(warehouse) == declared | {"alembic_version"}
        warehouse.seed_universes()
        warehouse.migrate()
        assert warehouse.universes(), "migrating a migrated database leaves its rows alone"


def test_the_migrated_tables_are_the_declared_ones(warehouse):
    with warehouse.begin() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, METADATA) == []
        inspector = sa.inspect(connection)
        for name, table in METADATA.tables.items():
            # Alembic does not compare these two.
            declared = {item.name for item in table.constraints if isinstance(item, sa.CheckConstraint)}
            assert {item["name"] for item in inspector.get_check_constraints(name)} == declared
            assert inspector.get_pk_constraint(name)["constrained_columns"] == [item.name for item in table.primary_key]


def test_the_migrated_views_are_the_declared_ones(warehouse):
    with warehouse.begin() as connection:
        inspector = sa.inspect(connection)
        assert set(inspector.get_view_names()) == set(VIEWS.tables)
        for name, view in VIEWS.tables.items():
            found = [(column["name"], str(column["type"])) for column in inspector.get_columns(name)]
            assert found == [(column.name, spelt(column.type, connection)) for column in view.columns], name


def spelt(kind: sa.types.TypeEngine, connection: sa.Connection) -> str:
    """A type as PostgreSQL's catalogue spells it: two names of one type are one type."""
    declared = kind.compile(connection.dialect)
    catalogue = connection.scalar(sa.text("select format_type(to_regtype(:name), null)"), {"name": declared})
    same = {"double precision": "DOUBLE PRECISION", "timestamp with time zone": "TIMESTAMP"}
    return same.get(catalogue, catalogue.upper())


@pytest.mark.parametrize(
    ("before", "after"),
    [("0001", "0002"), ("0002", "0003"), ("0003", "0004"), ("0004", "0005"), ("0005", "0006")],
)
def test_every_migration_leaves_nothing_of_its_own_behind(empty_url, before, after):
    with closing(Warehouse(empty_url)) as warehouse:
        alembic(warehouse, command.upgrade, before)
        made = made_by_us(warehouse)
        alembic(warehouse, command.upgrade, after)
        assert made_by_us(warehouse) != made
        alembic(warehouse, command.downgrade, before)
        assert made_by_us(warehouse) == made
        warehouse.set_base_env({"CVN_SEED": "1"}, "ann")
        assert warehouse.base_env() == {"CVN_SEED": "1"}
        alembic(warehouse, command.upgrade, after)
        assert warehouse.base_env() == {"CVN_SEED": "1"}


def test_histories_are_written_by_their_triggers_on_the_way_down_too(empty_url):
    """The role `cvntrade_app` may not write them itself, at whatever migration the schema stands."""
    run_as_the_owner = sa.text("select proname::text from pg_proc where prosecdef order by 1")
    with closing(Warehouse(empty_url)) as warehouse:
        alembic(warehouse, command.upgrade, "0007")
        alembic(warehouse, command.downgrade, "0006")
        with warehouse.begin() as connection:
            assert list(connection.scalars(run_as_the_owner)) == ["note_base_env", "note_model_version"]
        alembic(warehouse, command.upgrade, "0007")


def test_results_that_were_there_before_the_backtest_stay(empty_url):
    numbers = (
        "rows, threshold, f1_buy, baseline_f1_buy, buy_rate, predicted_buy_rate, brier_before, brier_after, "
        "brier_base_rate"
    )
    statement = f"""
        insert into results (run_id, crypto, session, market, report_version, reused, {numbers})
        values ('run-1', 'BTCUSDC', 's', 'binance', 'v', false, 1, 2, 3, 4, 5, 6, 7, 8, 9)
    """
    shown = sa.text("select * from run_results")
    with closing(Warehouse(empty_url)) as warehouse:
        alembic(warehouse, command.upgrade, "0002")
        with warehouse.begin() as connection:
            connection.execute(sa.text(statement))
            before = dict(connection.execute(shown).mappings().one())
        alembic(warehouse, command.upgrade, "0003")
        with warehouse.begin() as connection:
            after = dict(connection.execute(shown).mappings().one())
        new = {"sharpe", "expectancy_net", "max_drawdown", "n_trades"}
        new |= {f"{name}_{end}" for name in ("f1_buy", "pr_auc", "brier_after", "sortino") for end in ("low", "high")}
        assert after == before | dict.fromkeys(new)
        alembic(warehouse, command.downgrade, "0002")
        with warehouse.begin() as connection:
            assert dict(connection.execute(shown).mappings().one()) == before


def made_by_us(warehouse: Warehouse) -> set[tuple[str, str]]:
    """Tables, views, indexes and sequences, functions and as whom they run, triggers."""
    query = """
        select 'relation', relname::text from pg_class where relnamespace = 'public'::regnamespace
        union select 'function', format('%s %s %s', proname, prosecdef, proconfig) from pg_proc
            where pronamespace = 'public'::regnamespace
        union select 'trigger', tgname::text from pg_trigger where not tgisinternal
    """
    with warehouse.begin() as connection:
        return {(kind, name) for kind, name in connection.execute(sa.text(query))}


def test_there_is_one_newest_migration():
    config = Config()
    config.set_main_option("script_location", str(Path(resources.warehouse.__file__).parent / "migrations"))
    assert len(ScriptDirectory.from_config(config).get_heads()) == 1


def test_two_processes_migrate_at_once(empty_url):
    assert at_once(Warehouse.migrate, empty_url, 3) == [0, 0, 0]
    with closing(Warehouse(empty_url)) as warehouse:
        assert tables(warehouse) == set(METADATA.tables) | {"alembic_version"}
        with warehouse.begin() as connection:
            assert connection.scalar(sa.text("select count(*) from alembic_version")) == 1


# Universes


def test_an_empty_table_is_seeded_with_the_manuals_groups(fresh):
    assert fresh.universes() == {}
    fresh.seed_universes()
    assert fresh.universes() == {
        "btc-core": ("BTCUSDC", "ETHUSDC"),
        "defi": ("ADAUSDC", "BONKUSDC", "SOLUSDC", "XRPUSDC"),
    }
    assert {name: tuple(sorted(cryptos)) for name, cryptos in FIRST_UNIVERSES.items()} == fresh.universes()


def test_a_table_with_one_row_is_not_seeded(fresh):
    fresh.set_group("mine", ["DOGEUSDC"])
    fresh.seed_universes()
    assert fresh.universes() == {"mine": ("DOGEUSDC",)}


def test_two_processes_seed_at_once(fresh, empty_url):
    assert at_once(Warehouse.seed_universes, empty_url, 3) == [0, 0, 0]
    assert sum(map(len, fresh.universes().values())) == 6


def test_a_group_becomes_exactly_what_is_given(fresh):
    fresh.set_group("core", ["ETHUSDC", "BTCUSDC", "ETHUSDC"])
    assert fresh.group("core") == ("BTCUSDC", "ETHUSDC")
    fresh.set_group("core", ["SOLUSDC"])
    fresh.set_group("other", ["SOLUSDC"])
    assert fresh.universes() == {"core": ("SOLUSDC",), "other": ("SOLUSDC",)}
    fresh.set_group("core", [])
    assert fresh.universes() == {"other": ("SOLUSDC",)}


def test_an_unknown_group_names_the_known_ones(fresh):
    with pytest.raises(UnknownGroupError, match=r"known: none\. Create it with `cvntrade universe set core CRYPTO…`"):
        fresh.group("core")
    fresh.seed_universes()
    with pytest.raises(UnknownGroupError, match=r"group 'core' is not in cvntrade_universes; known: btc-core, defi\."):
        fresh.group("core")


@pytest.mark.parametrize("group", ["", "BTC", "Btc core", "-core", "core\n", "c" * 42, "core; drop table", "côre"])
@pytest.mark.parametrize("cryptos", [["BTCUSDC"], []])
def test_a_group_of_another_name_is_refused(fresh, group, cryptos):
    fresh.set_group("core", ["ETHUSDC"])
    with pytest.raises(UniverseNameError) as caught:
        fresh.set_group(group, cryptos)
    expected = "is not a group name: expected lower-case letters, digits, - and _, such as btc-core."
    assert str(caught.value) == f"{group!r} {expected}"
    assert fresh.universes() == {"core": ("ETHUSDC",)}


@pytest.mark.parametrize(
    "crypto", ["", "btcusdc", "BTC/USDC", "BTC", "BTCUSDC\n", "B" * 21, "BTCUSDC ", "[/red]", "ΒTCUSDC"]
)
def test_a_crypto_of_another_name_is_refused(fresh, crypto):
    fresh.set_group("core", ["ETHUSDC"])
    with pytest.raises(UniverseNameError) as caught:
        fresh.set_group("core", ["BTCUSDC", crypto])
    assert str(caught.value) == f"{crypto}: expected exchange symbols such as BTCUSDC."
    assert fresh.universes() == {"core": ("ETHUSDC",)}


# Operators' settings


def test_base_env_keeps_the_newest_text_and_its_author(fresh):
    assert fresh.base_env() == {}
    fresh.set_base_env({"CVN_SEED": "1", "CVN_MAX_FEATURES": "30"}, "ann")
    fresh.set_base_env({"CVN_SEED": "2"}, "bob")
    assert fresh.base_env() == {"CVN_SEED": "2", "CVN_MAX_FEATURES": "30"}
    with fresh.begin() as connection:
        authors = dict(connection.execute(sa.text("select key, updated_by from base_env")).tuples().all())
    assert authors == {"CVN_SEED": "bob", "CVN_MAX_FEATURES": "ann"}
    fresh.set_base_env({"CVN_SEED": None, "CVN_NEVER_SET": None}, "ann")
    assert fresh.base_env() == {"CVN_MAX_FEATURES": "30"}


def test_base_env_is_set_whole_or_not_at_all(fresh):
    with pytest.raises(ValueError, match="NUL"):
        fresh.set_base_env({"CVN_SEED": "1", "CVN_MARKET": "a text that PostgreSQL cannot hold: \x00"}, "ann")
    with pytest.raises(sa.exc.IntegrityError):
        fresh.set_base_env({"CVN_SEED": "1"}, None)  # type: ignore[arg-type]
    assert fresh.base_env() == {}


def history_of(warehouse: Warehouse) -> list[tuple[str | None, ...]]:
    with warehouse.begin() as connection:
        query = sa.text("select key, old_value, new_value, author, reason from base_env_history order by id")
        return [tuple(row) for row in connection.execute(query)]


def test_every_change_of_base_env_is_on_record(fresh):
    fresh.set_base_env({"CVN_SEED": "1", "CVN_MAX_FEATURES": "30"}, "ann", "a first look")
    fresh.set_base_env({"CVN_SEED": "1", "CVN_MAX_FEATURES": "40"}, "bob")
    fresh.set_base_env({"CVN_SEED": None, "CVN_NEVER_SET": None}, "cid", "back to the default")
    assert history_of(fresh) == [
        ("CVN_SEED", None, "1", "ann", "a first look"),
        ("CVN_MAX_FEATURES", None, "30", "ann", "a first look"),
        ("CVN_MAX_FEATURES", "30", "40", "bob", None),
        ("CVN_SEED", "1", None, "cid", "back to the default"),
    ]


def test_a_change_by_hand_is_on_record_too(fresh):
    fresh.set_base_env({"CVN_SEED": "1"}, "ann", "a first look")
    with fresh.begin() as connection:
        connection.execute(sa.text("insert into base_env (key, value, updated_by) values ('CVN_MARKET', 'x', 'eve')"))
        connection.execute(sa.text("update base_env set value = '2', updated_by = 'eve' where key = 'CVN_SEED'"))
        connection.execute(sa.text("update base_env set key = 'CVN_SEEDS' where key = 'CVN_SEED'"))
        connection.execute(sa.text("delete from base_env where key = 'CVN_MARKET'"))
        user = connection.scalar(sa.text("select session_user"))
    assert history_of(fresh)[1:] == [
        ("CVN_MARKET", None, "x", "eve", None),
        ("CVN_SEED", "1", "2", "eve", None),
        ("CVN_SEED", "2", None, user, None),
        ("CVN_SEEDS", None, "2", "eve", None),
        ("CVN_MARKET", "x", None, user, None),
    ], "author and reason of the transaction before are forgotten"


def test_base_env_cannot_be_emptied_without_a_trace(fresh):
    fresh.set_base_env({"CVN_SEED": "1"}, "ann")
    with pytest.raises(sa.exc.IntegrityError, match="base_env is not truncated"), fresh.begin() as connection:
        connection.execute(sa.text("truncate base_env"))
    assert fresh.base_env() == {"CVN_SEED": "1"}


def test_a_change_that_is_rolled_back_is_not_on_record(fresh):
    with pytest.raises(ValueError, match="NUL"):
        fresh.set_base_env({"CVN_SEED": "1", "CVN_MARKET": "a text that PostgreSQL cannot hold: \x00"}, "ann")
    assert history_of(fresh) == []


def test_no_secret_becomes_a_setting_or_a_reason(fresh):
    learn_secrets({"EXCHANGE_API_SECRET": SECRET})
    with pytest.raises(SettingsError, match="CVN_BINANCE_ARCHIVE_URL: the value holds a secret") as caught:
        fresh.set_base_env({"CVN_SEED": "1", "CVN_BINANCE_ARCHIVE_URL": f"/archive/{SECRET}"}, "ann")
    assert SECRET not in str(caught.value)
    assert fresh.base_env() == {}
    fresh.set_base_env({"CVN_SEED": "1"}, f"ann {SECRET}", f"because {SECRET} said so")
    assert history_of(fresh) == [("CVN_SEED", None, "1", "ann ***", "because *** said so")]
    with fresh.begin() as connection:
        assert connection.scalar(sa.text("select updated_by from base_env")) == "ann ***"


# Archive months


def months_of(warehouse: Warehouse) -> list[tuple[str, ...]]:
    columns = "crypto, timeframe, month, status, sha256, replaced_sha256, reason, run_id"
    with warehouse.begin() as connection:
        return [
            tuple(row) for row in connection.execute(sa.text(f"select {columns} from archive_files order by 1, 2, 3"))
        ]


def test_the_newest_knowledge_of_a_month_wins(fresh):
    bad = MonthRecord("2025-02", "quarantined", None, "its checksum is wrong")
    fresh.record_months("BTCUSDC", "30m", [MonthRecord("2025-01", "good", "aa", None), bad], "run-1")
    fresh.record_months("BTCUSDC", "5m", [MonthRecord("2025-01", "absent", None, "a hole")], "run-1")
    fresh.record_months("BTCUSDC", "30m", [MonthRecord("2025-02", "good", "bb", None, replaced_sha256="cc")], "run-2")
    fresh.record_months("BTCUSDC", "30m", [], "run-3")
    assert months_of(fresh) == [
        ("BTCUSDC", "30m", "2025-01", "good", "aa", None, None, "run-1"),
        ("BTCUSDC", "30m", "2025-02", "good", "bb", "cc", None, "run-2"),
        ("BTCUSDC", "5m", "2025-01", "absent", None, None, "a hole", "run-1"),
    ]


def test_a_status_that_is_not_one_is_refused(fresh):
    with pytest.raises(sa.exc.IntegrityError, match="archive_files_status"):
        fresh.record_months("BTCUSDC", "30m", [MonthRecord("2025-01", "fine", None, None)], "run-1")  # type: ignore[arg-type]
    assert months_of(fresh) == []


# Bans


def utc(text: str) -> pd.Timestamp:
    return pd.Timestamp(text, tz="UTC")


def test_a_ban_is_known_per_host_and_the_latest_release_holds(fresh):
    host, other = "api.exchange:443", "api.exchange"
    assert fresh.exchange_ban(host) is None
    fresh.record_ban(host, utc("2025-09-01 14:00:40"), "run-1")
    fresh.record_ban(host, pd.Timestamp("2025-09-01 15:30", tz="Europe/Paris"), "run-2")
    assert fresh.exchange_ban(host) == utc("2025-09-01 14:00:40")
    fresh.record_ban(host, utc("2025-09-01 16:00"), "run-3")
    fresh.record_ban(other, utc("2025-09-02"), "run-4")
    assert (fresh.exchange_ban(host), fresh.exchange_ban(other)) == (utc("2025-09-01 16:00"), utc("2025-09-02"))
    assert str(fresh.exchange_ban(host).tz) == "UTC"
    with fresh.begin() as connection:
        query = sa.text("select host, run_id from exchange_bans order by host")
        assert list(map(tuple, connection.execute(query))) == [(other, "run-4"), (host, "run-3")]


# An address that is none, and tables that are not there


@pytest.mark.parametrize(
    "url",
    [
        f"postgres://cvntrade:{SECRET}@127.0.0.1:5432/cvntrade",
        f"postgresql+asyncpg://cvntrade:{SECRET}@127.0.0.1:5432/cvntrade",
        f"cvntrade:{SECRET}@127.0.0.1/cvntrade",
        f"postgresql+psycopg2://cvntrade:{SECRET}@127.0.0.1:http/cvntrade",
        f"postgresql+psycopg2://cvntrade:{SECRET}@127.0.0.1:99999/cvntrade",
        f"postgresql+psycopg2://cvntrade:{SECRET}@127.0.0.1:0/cvntrade",
        f"postgresql+psycopg2://cvntrade:{SECRET}@127.0.0.1/cvntrade",
        f"postgresql+psycopg2://cvntrade:{SECRET}@127.0.0.1:5432",
        f"postgresql+psycopg2://cvntrade:a@{SECRET}@127.0.0.1:5432/cvntrade",
        f"postgresql+psycopg2://cvntrade:a@1:5/{SECRET}@127.0.0.1:5432/cvntrade",
        f"postgresql+psycopg2://cvntrade:{SECRET}/cvntrade",
        "postgresql+psycopg2://127.0.0.1:5432/cvntrade",
        SECRET,
        "",
    ],
)
def test_an_address_that_is_none_is_refused_and_not_repeated(url):
    with pytest.raises(WarehouseError) as caught:
        Warehouse(url)
    assert str(caught.value) == "CVN_WAREHOUSE_URL is not postgresql+psycopg2://user:…@host:port/database"
    assert caught.value.__context__ is None
    said = "".join(traceback.format_exception_only(caught.value))
    assert not [part for part in (SECRET, "127.0.0.1", "5432", "99999", "http", "asyncpg") if part in said]


@pytest.mark.parametrize(
    "call", ["universes", "set_group", "seed_universes", "base_env", "set_base_env", "find_artifact", "record_months"]
)
def test_a_database_without_our_tables_says_what_to_run(empty_url, postgres_server, call):
    with closing(Warehouse(empty_url)) as warehouse, pytest.raises(WarehouseError) as caught:
        CALLS[call](warehouse)
    message = str(caught.value)
    assert "lacks tables of the operations schema" in message
    assert "does not exist); nothing was written. Run `cvntrade up` or the migrations" in message
    assert postgres_server.password not in everything_said(caught.value)


def test_another_mistake_in_a_statement_is_not_a_missing_table(fresh):
    with pytest.raises(sa.exc.ProgrammingError, match="syntax error"), fresh.begin() as connection:
        connection.execute(sa.text("selec 1"))


# A server that is not there


def everything_said(error: BaseException) -> str:
    """Whatever a log, a traceback or Dagster's event log could show of an error."""
    texts = [str(error), repr(error), "".join(traceback.format_exception(error))]
    texts.append(str(serializable_error_info_from_exc_info((type(error), error, error.__traceback__))))
    seen: BaseException | None = error
    while seen is not None:
        texts += [str(seen), repr(seen), str(seen.args)]
        seen = seen.__cause__ or seen.__context__
    return "\n".join(texts)


CALLS: dict[str, Callable[[Warehouse], object]] = {
    "migrate": Warehouse.migrate,
    "universes": Warehouse.universes,
    "group": lambda it: it.group("btc-core"),
    "set_group": lambda it: it.set_group("core", ["BTCUSDC"]),
    "seed_universes": Warehouse.seed_universes,
    "base_env": Warehouse.base_env,
    "set_base_env": lambda it: it.set_base_env({"CVN_SEED": "1"}, "ann"),
    "find_artifact": lambda it: it.find_artifact("candles", "BTCUSDC", "0" * 20),
    "record_artifact": lambda it: it.record_artifact(
        {"asset": "a", "crypto": "b", "version": "c", "manifest_sha256": "d"}
    ),
    "exchange_ban": lambda it: it.exchange_ban("api.exchange"),
    "record_ban": lambda it: it.record_ban("api.exchange", utc("2025-09-01"), "run-1"),
    "record_months": lambda it: it.record_months("B", "30m", [MonthRecord("2025-01", "good", "aa", None)], "run-1"),
}


@pytest.mark.parametrize("call", CALLS)
def test_a_dead_server_is_named_and_the_password_is_not(call):
    port = free_port()
    with closing(Warehouse(f"postgresql+psycopg2://cvntrade:{SECRET}@127.0.0.1:{port}/cvntrade")) as warehouse:
        with pytest.raises(WarehouseError) as caught:
            CALLS[call](warehouse)
        message = str(caught.value)
        assert f"PostgreSQL at 127.0.0.1:{port}/cvntrade did not answer" in message
        assert "Connection refused" in message
        assert "Check that the server runs, then run again" in message
        assert SECRET not in everything_said(caught.value)
        assert SECRET not in f"{warehouse!r} {warehouse._url!r} {warehouse._url} {warehouse._engine!r}"


def test_a_wrong_password_is_not_repeated(postgres_server):
    url = f"postgresql+psycopg2://cvntrade:{SECRET}@127.0.0.1:{postgres_server.port}/cvntrade"
    with closing(Warehouse(url)) as warehouse, pytest.raises(WarehouseError, match="authentication failed") as caught:
        warehouse.universes()
    assert SECRET not in everything_said(caught.value)


def test_a_database_that_is_missing_is_named(postgres_server):
    url = postgres_server.dsn("nowhere")
    with (
        closing(Warehouse(url)) as warehouse,
        pytest.raises(WarehouseError, match='"nowhere" does not exist') as caught,
    ):
        warehouse.universes()
    assert postgres_server.password not in everything_said(caught.value)


def end_connection(url: str, pid: int) -> None:
    with closing(Warehouse(url)) as other, other.begin() as connection:
        assert connection.scalar(sa.text("select pg_terminate_backend(:pid, 5000)"), {"pid": pid})


def test_a_server_that_goes_away_in_the_middle_writes_nothing(fresh, empty_url, postgres_server):
    def work() -> None:
        with fresh.begin() as connection:
            connection.execute(
                sa.text("insert into cvntrade_universes (group_name, crypto) values ('core', 'BTCUSDC')")
            )
            end_connection(empty_url, connection.scalar(sa.text("select pg_backend_pid()")))
            connection.execute(sa.text("select 1"))

    with pytest.raises(WarehouseError, match="nothing was written") as caught:
        work()
    assert postgres_server.password not in everything_said(caught.value)
    # The pool noticed; the next call connects anew.
    assert fresh.universes() == {}


def test_a_connection_that_went_away_between_two_calls_is_replaced(fresh, empty_url):
    with fresh.begin() as connection:
        pid = connection.scalar(sa.text("select pg_backend_pid()"))
    end_connection(empty_url, pid)
    assert fresh.universes() == {}


def test_an_error_of_the_caller_rolls_back(fresh):
    def work() -> None:
        with fresh.begin() as connection:
            connection.execute(
                sa.text("insert into cvntrade_universes (group_name, crypto) values ('core', 'BTCUSDC')")
            )
            raise KeyError("a mistake of the caller's")

    with pytest.raises(KeyError):
        work()
    assert fresh.universes() == {}


def test_threads_share_one_warehouse(fresh):
    def work(name: str) -> None:
        for _ in range(10):
            fresh.set_group(name, [f"{name.upper()}USDC", "BTCUSDC"])

    threads = [threading.Thread(target=work, args=(f"g{number}",)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert {name: len(cryptos) for name, cryptos in fresh.universes().items()} == {f"g{n}": 2 for n in range(6)}


# The resource


def test_the_resource_opens_for_a_run_and_closes_after_it(warehouse_url):
    used = []

    @dg.asset
    def reads(warehouse: dg.ResourceParam[Warehouse]) -> None:
        warehouse.universes()
        used.append(warehouse._engine.pool)

    result = dg.materialize([reads], resources={"warehouse": WarehouseResource(url=warehouse_url)})
    assert result.success
    assert used[0].checkedout() == 0


def test_a_run_without_a_server_fails_with_the_reason():
    url = f"postgresql+psycopg2://cvntrade:{SECRET}@127.0.0.1:{free_port()}/cvntrade"

    @dg.asset
    def reads(warehouse: dg.ResourceParam[Warehouse]) -> None:
        warehouse.universes()

    with dg.DagsterInstance.ephemeral() as instance:
        result = dg.materialize(
            [reads], resources={"warehouse": WarehouseResource(url=url)}, instance=instance, raise_on_error=False
        )
        assert not result.success
        logged = "\n".join(str(entry) for entry in instance.all_logs(result.run_id))
    assert "did not answer" in logged
    assert SECRET not in logged
