"""Migrations up and down with rows in the tables, and the command that takes them."""

import itertools
from collections.abc import Iterator
from contextlib import closing

import pandas as pd
import pytest
import sqlalchemy as sa
from seeded_operations import seed
from services import create_database
from typer.testing import CliRunner

from resources.embedded_postgres import EmbeddedPostgres
from resources.migrating import (
    NOTHING,
    RevisionError,
    current_revision,
    downgrade,
    is_down,
    losses_of,
    revisions,
    upgrade,
)
from resources.warehouse import Warehouse, WarehouseError

NOW = pd.Timestamp("2026-03-01 12:00", tz="UTC")


@pytest.fixture(scope="module")
def filled(postgres_server: EmbeddedPostgres) -> Iterator[Warehouse]:
    """A schema with rows; the tests take it down and up, and leave it at the newest migration."""
    with closing(Warehouse(create_database(postgres_server))) as warehouse:
        warehouse.migrate()
        seed(warehouse, NOW)
        warehouse.set_base_env({"CVN_SEED": "1"}, "ann", "because")
        yield warehouse


def contents(warehouse: Warehouse) -> dict[str, list[dict[str, object]]]:
    """Every row of every table, as JSON."""
    with warehouse.begin() as connection:
        tables = [name for name in sa.inspect(connection).get_table_names() if name != "alembic_version"]
        return {
            table: list(connection.scalars(sa.text(f'select to_jsonb(t) from "{table}" t order by to_jsonb(t)::text')))
            for table in sorted(tables)
        }


def test_every_step_down_takes_what_it_says_and_nothing_else(filled: Warehouse) -> None:
    before = contents(filled)
    order = (NOTHING, *revisions())
    assert sum(len(rows) for rows in before.values()) > 100
    for lower in reversed(order[:-1]):
        foretold = losses_of(filled, lower)
        assert contents(filled) == before, "looking changes nothing"
        assert downgrade(filled, lower) == foretold
        assert current_revision(filled) == lower
        after = contents(filled)
        assert set(before) - set(after) == set(foretold.tables)
        assert foretold.tables == {table: len(before[table]) for table in foretold.tables}
        for table, rows in after.items():
            gone = {name.split(".")[1] for name in foretold.columns if name.split(".")[0] == table}
            assert sorted(map(str, rows)) == sorted(
                str({key: value for key, value in row.items() if key not in gone}) for row in before[table]
            ), f"{table} at {lower}"
        before = after
    assert before == {}
    for higher in order[1:]:
        upgrade(filled, higher)
        assert current_revision(filled) == higher
    seed(filled, NOW)
    assert contents(filled)["cvntrade_universes"]


def test_every_step_up_leaves_the_rows_that_are_there(filled: Warehouse) -> None:
    order = revisions()
    for lower, higher in reversed(list(itertools.pairwise(order))):
        downgrade(filled, lower)
        kept = contents(filled)
        upgrade(filled, higher)
        now = contents(filled)
        for table, rows in kept.items():
            # A column that is new holds no value yet.
            assert [{key: row[key] for key in rows[0]} for row in now[table]] == rows if rows else now[table] == []
    assert kept["cvntrade_universes"] and kept["artifact_versions"]
    upgrade(filled)


def test_which_way_a_revision_lies(filled: Warehouse) -> None:
    newest, before = revisions()[-1], revisions()[-2]
    assert is_down(filled, before) and is_down(filled, NOTHING) and not is_down(filled, newest)
    with pytest.raises(RevisionError, match=f"there is no migration 'x'; there are base, 0001, .*{newest}"):
        is_down(filled, "x")


def test_a_schema_of_newer_code_is_said(filled: Warehouse) -> None:
    def stamp(revision: str) -> None:
        with filled.begin() as connection:
            connection.execute(sa.text("update alembic_version set version_num = :revision"), {"revision": revision})

    stamp("9999")
    try:
        with pytest.raises(RevisionError, match="at migration '9999', which this code does not know"):
            is_down(filled, revisions()[0])
        with pytest.raises(WarehouseError, match=r"newer code made it\. Run that code"):
            filled.migrate()
    finally:
        stamp(revisions()[-1])


def test_going_down_asks_first_and_says_what_is_lost(filled: Warehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    from cvntrade_assets.cli import app
    from cvntrade_assets.commands.errors import CommandError

    monkeypatch.setenv("CVN_OWNER_URL", filled.address.render_as_string(hide_password=False))
    newest, before = revisions()[-1], revisions()[0]
    refused = CliRunner().invoke(app, ["migrate", "--to", before])
    assert isinstance(refused.exception, CommandError)
    assert f"going down to {before} would remove table alert_channels with" in str(refused.exception)
    assert "Nothing was changed" in str(refused.exception) and current_revision(filled) == newest
    done = CliRunner().invoke(app, ["migrate", "--to", before, "--yes"])
    assert done.exit_code == 0, done.output
    assert f"is at migration {before}; this code needs {newest}" in done.output
    assert (
        CliRunner().invoke(app, ["migrate", "--to", "0003"]).output == "The operations schema is at migration 0003.\n"
    )
    done = CliRunner().invoke(app, ["migrate"])
    assert done.output == f"The operations schema is at migration {newest}. It is up to date.\n"
    assert current_revision(filled) == newest
