"""Copies of databases on a real server, under the settings that servers and environments have."""

import time
from pathlib import Path

import pytest
import sqlalchemy as sa
from services import create_database

from resources.embedded_postgres import EmbeddedPostgres
from resources.postgres_copies import CopyError, dump, snapshot
from resources.server_sessions import session


@pytest.fixture
def address(postgres_server: EmbeddedPostgres) -> sa.URL:
    made = sa.make_url(create_database(postgres_server))
    with session(made) as connection:
        connection.execute(sa.text("create table kept (id int)"))
        connection.execute(sa.text("insert into kept values (1), (2)"))
    return made


def test_a_snapshot_outlives_a_server_that_ends_what_sits_still(address: sa.URL) -> None:
    with session(address) as connection:
        limit = f"alter database {address.database} set idle_in_transaction_session_timeout = '100ms'"
        connection.execute(sa.text(limit))
    with snapshot(address, str(address.database)) as taken:
        time.sleep(0.5)
        assert taken.row_counts() == {"kept": 2}


def test_what_the_environment_says_of_tls_holds_for_the_programs_too(
    address: sa.URL, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with snapshot(address, str(address.database)) as taken:
        monkeypatch.setenv("PGSSLMODE", "require")
        with pytest.raises(CopyError, match="SSL was required"):
            dump(taken, address, tmp_path / "a.dump", None)
        # What the address says itself comes first.
        dump(taken, address.update_query_dict({"sslmode": "disable"}), tmp_path / "b.dump", None)
    assert (tmp_path / "b.dump").read_bytes().startswith(b"PGDMP")
