"""The operations schema in PostgreSQL: universes, operator settings, artifact records, archive files, bans."""

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import pandas as pd
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from cvntrade_assets.market.history import MonthRecord
from cvntrade_assets.operations.masking import Mask
from cvntrade_assets.settings import SettingsError
from resources.code_version import connection_name
from resources.patience import wait_for_server
from resources.secrets import process_mask
from resources.tables import ARCHIVE_FILES, ARTIFACT_VERSIONS, BASE_ENV, EXCHANGE_BANS, UNIVERSES

# What the manual lists (its section 11), quoted in USDC as production trades them.
FIRST_UNIVERSES: Mapping[str, tuple[str, ...]] = {
    "btc-core": ("BTCUSDC", "ETHUSDC"),
    "defi": ("SOLUSDC", "ADAUSDC", "BONKUSDC", "XRPUSDC"),
}
_GROUP = re.compile(r"[a-z0-9][a-z0-9_-]{0,40}")
_CRYPTO = re.compile(r"[A-Z0-9]{5,20}")
DAGSTER_DATABASE = "dagster"
"""What dagster.yaml calls Dagster's database; it stands on the operations schema's server."""

DENIED, UNDEFINED_TABLE = "42501", "42P01"
"""PostgreSQL's codes for what a role may not do, and for a table that is not there."""

# A lock or a snapshot is held over a silent connection, which balancers on the way cut after minutes.
KEEPALIVES: Mapping[str, int] = {"keepalives_idle": 60, "keepalives_interval": 15, "keepalives_count": 4}
"""How a connection asks by itself whether the server is still there: seconds, seconds, times."""

# Until the transaction ends: what the trigger on base_env writes beside a change.
TELL_TRIGGER = sa.text(
    "select set_config('cvntrade.author', :author, true), set_config('cvntrade.reason', :reason, true)"
)


class WarehouseError(RuntimeError):
    """PostgreSQL could not be reached or refused; the message says where and what to do, never the password."""


class ConnectionLostError(WarehouseError):
    """PostgreSQL did not answer, or went away in the middle: a fault of the infrastructure, and worth another try."""


class UnknownGroupError(ValueError):
    """A group that `cvntrade_universes` does not have; the message names those it has."""


class UniverseNameError(ValueError):
    """A name that is not that of a group or of a crypto; the message says what is expected."""


class Warehouse:
    """Reads and writes the operations schema through one small connection pool.

    Args:
        url: `postgresql+psycopg2://…`. Held as a SQLAlchemy URL, whose text form hides the password.
        dagster_url: That of Dagster's database on the same server, where another role reads it; None for the same role.
        variable: Which variable the address comes from; said when it is none.

    Raises:
        WarehouseError: the address is not one; nothing of it is repeated, for any part may be the password.
    """

    def __init__(self, url: str, dagster_url: str | None = None, variable: str = "CVN_WAREHOUSE_URL") -> None:
        self._url = _read_address(url, variable)
        beside = self._url.set(database=DAGSTER_DATABASE)
        self._dagster_url = beside if dagster_url is None else sa.make_url(dagster_url)

    @cached_property
    def _engine(self) -> sa.Engine:
        named = {"connect_timeout": 10, "application_name": connection_name()}
        engine = sa.create_engine(self._url, pool_size=2, pool_pre_ping=True, connect_args={**named, **KEEPALIVES})
        wait_for_server(engine)
        return engine

    @contextmanager
    def begin(self) -> Iterator[sa.Connection]:
        """One transaction.

        Raises:
            ConnectionLostError: the server is unreachable or goes away in the middle.
            WarehouseError: it lacks our tables, or refuses them to this role.
        """
        try:
            with self._engine.begin() as connection:
                yield connection
        except sa.exc.OperationalError as error:
            raise ConnectionLostError(
                f"PostgreSQL at {self._where} did not answer ({str(error.orig).strip().splitlines()[0]}); "
                "nothing was written. Check that the server runs, then run again."
            ) from None
        except sa.exc.ProgrammingError as error:
            code = getattr(error.orig, "pgcode", None)
            if code == DENIED:
                raise WarehouseError(
                    f"PostgreSQL at {self._where} refuses this to {self._url.username} "
                    f"({str(error.orig).strip().splitlines()[0]}); nothing was written. If this work is the role's to "
                    "do, `cvntrade migrate --roles` gives it its rights; migrating needs CVN_OWNER_URL."
                ) from None
            if code != UNDEFINED_TABLE:
                raise
            raise WarehouseError(
                f"PostgreSQL at {self._where} lacks tables of the operations schema "
                f"({str(error.orig).strip().splitlines()[0]}); nothing was written. "
                "Run `cvntrade up` or the migrations, then run again."
            ) from None

    @property
    def address(self) -> sa.URL:
        """Where it is; the text form hides the password."""
        return self._url

    @property
    def dagster_address(self) -> sa.URL:
        """Where Dagster's tables are, as whom they are read."""
        return self._dagster_url

    @property
    def _where(self) -> str:
        return f"{self._url.host}:{self._url.port}/{self._url.database}"

    def close(self) -> None:
        """Give the connections back."""
        self._engine.dispose()

    def migrate(self) -> None:
        """Bring the operations schema to the newest migration; safe to call again and from several processes."""
        from resources.migrating import upgrade

        upgrade(self)

    def universes(self) -> dict[str, tuple[str, ...]]:
        """Every group with its cryptos, both in alphabetical order."""
        query = sa.select(UNIVERSES.c.group_name, UNIVERSES.c.crypto).order_by("group_name", "crypto")
        groups: dict[str, tuple[str, ...]] = {}
        with self.begin() as connection:
            for group, crypto in connection.execute(query):
                groups[group] = (*groups.get(group, ()), crypto)
        return groups

    def group(self, name: str) -> tuple[str, ...]:
        """The cryptos of one group; UnknownGroupError names the known ones."""
        groups = self.universes()
        if name not in groups:
            raise UnknownGroupError(
                f"group {name!r} is not in cvntrade_universes; known: {', '.join(groups) or 'none'}. "
                f"Create it with `cvntrade universe set {name} CRYPTO…`."
            )
        return groups[name]

    def set_group(self, name: str, cryptos: Iterable[str]) -> None:
        """Make a group exactly these cryptos, in one transaction; an empty list removes the group.

        Raises:
            UniverseNameError: a name is not that of a group or of a crypto; nothing is written.
        """
        members = sorted(set(cryptos))
        _check_names(name, members)
        rows = [{"group_name": name, "crypto": crypto} for crypto in members]
        with self.begin() as connection:
            connection.execute(sa.delete(UNIVERSES).where(UNIVERSES.c.group_name == name))
            if rows:
                connection.execute(sa.insert(UNIVERSES), rows)

    def seed_universes(self) -> int:
        """Fill an empty `cvntrade_universes` with `FIRST_UNIVERSES`; a table with any row is left alone.

        Safe from several processes at once: who comes second finds what the first inserted.

        Returns:
            How many rows were inserted, one for each crypto of each group.
        """
        rows = [
            {"group_name": group, "crypto": crypto} for group, cryptos in FIRST_UNIVERSES.items() for crypto in cryptos
        ]
        with self.begin() as connection:
            connection.execute(sa.text("lock table cvntrade_universes in exclusive mode"))
            if connection.scalar(sa.select(sa.func.count()).select_from(UNIVERSES)):
                return 0
            connection.execute(sa.insert(UNIVERSES), rows)
        return len(rows)

    def base_env(self) -> dict[str, str]:
        """The operators' settings layer, key to text."""
        with self.begin() as connection:
            return {row.key: row.value for row in connection.execute(sa.select(BASE_ENV))}

    def set_base_env(self, values: Mapping[str, str | None], author: str, reason: str | None = None) -> None:
        """Set the given keys (None removes one), in one transaction. Values must have been validated.

        What changes is written to `base_env_history` by a trigger, with the author and the reason given here.

        Raises:
            SettingsError: a value holds a secret; nothing is written.
        """
        mask = process_mask()
        refuse_secrets(values, mask)
        author = mask.value(author)
        with self.begin() as connection:
            connection.execute(TELL_TRIGGER, {"author": author, "reason": mask.text(reason or "")})
            for key, value in values.items():
                if value is None:
                    connection.execute(sa.delete(BASE_ENV).where(BASE_ENV.c.key == key))
                    continue
                row = {"value": value, "updated_by": author, "updated_at": sa.func.now()}
                statement = insert(BASE_ENV).values(key=key, **row)
                connection.execute(statement.on_conflict_do_update(index_elements=["key"], set_=row))

    def record_artifact(self, row: Mapping[str, Any]) -> None:
        """Record a published artifact version.

        Recording the same files again changes nothing; a version that was removed and rebuilt replaces its record.
        """
        statement = insert(ARTIFACT_VERSIONS).values(dict(row))
        with self.begin() as connection:
            connection.execute(
                statement.on_conflict_do_update(
                    index_elements=["asset", "crypto", "version"],
                    set_=dict(row) | {"published_at": sa.func.now()},
                    where=ARTIFACT_VERSIONS.c.manifest_sha256 != statement.excluded.manifest_sha256,
                )
            )

    def find_artifact(self, asset: str, crypto: str, version: str) -> dict[str, Any] | None:
        """The record of one artifact version, or None when it was never published."""
        table = ARTIFACT_VERSIONS
        query = sa.select(table).where(table.c.asset == asset, table.c.crypto == crypto, table.c.version == version)
        with self.begin() as connection:
            row = connection.execute(query).mappings().one_or_none()
        return None if row is None else dict(row)

    def record_months(self, crypto: str, timeframe: str, months: Iterable[MonthRecord], run_id: str) -> None:
        """Remember what is known of archive months; one row per month, the newest knowledge wins."""
        known = ("month", "status", "sha256", "replaced_sha256", "reason")
        run = {"crypto": crypto, "timeframe": timeframe, "run_id": run_id}
        rows = [run | {name: getattr(month, name) for name in known} for month in months]
        if not rows:
            return
        statement = insert(ARCHIVE_FILES).values(rows)
        changed = {name: statement.excluded[name] for name in (*known[1:], "run_id")}
        with self.begin() as connection:
            connection.execute(
                statement.on_conflict_do_update(
                    index_elements=["crypto", "timeframe", "month"], set_=changed | {"seen_at": sa.func.now()}
                )
            )

    def exchange_ban(self, host: str) -> pd.Timestamp | None:
        """When the last known ban by an API host ends or ended, UTC; None when there was none."""
        query = sa.select(EXCHANGE_BANS.c.release_at).where(EXCHANGE_BANS.c.host == host)
        with self.begin() as connection:
            release = connection.scalar(query)
        return None if release is None else pd.Timestamp(release).tz_convert("UTC")

    def record_ban(self, host: str, release: pd.Timestamp, run_id: str) -> None:
        """Remember until when an API host bans this network address; a ban that ends later stays."""
        row = {"release_at": release.to_pydatetime(), "run_id": run_id, "seen_at": sa.func.now()}
        statement = insert(EXCHANGE_BANS).values(host=host, **row)
        with self.begin() as connection:
            connection.execute(
                statement.on_conflict_do_update(
                    index_elements=["host"],
                    set_=row,
                    where=EXCHANGE_BANS.c.release_at < statement.excluded.release_at,
                )
            )


def _read_address(text: str, variable: str) -> sa.URL:
    """The address, read; half an address is refused, because its parts may stand in each other's places."""
    try:
        url = sa.make_url(text)
    except (sa.exc.ArgumentError, ValueError):
        url = None
    if url is not None and url.drivername == "postgresql+psycopg2" and _is_whole(url):
        return url
    raise WarehouseError(f"{variable} is not postgresql+psycopg2://user:…@host:port/database")


def refuse_secrets(values: Mapping[str, str | None], mask: Mask) -> None:
    """Settings are shown to everybody and kept for ever, and a masked one would be another setting."""
    holding = [key for key, value in values.items() if value is not None and mask.value(value, key) != value]
    if holding:
        raise SettingsError(
            f"{', '.join(holding)}: the value holds a secret, and settings are shown and recorded. Secrets belong in "
            "the environment."
        )


def _is_whole(url: sa.URL) -> bool:
    # What follows an @ in a password that was not escaped is read as host and database.
    parts = (url.username, url.host, url.database)
    return all(part and "@" not in part for part in parts) and 0 < (url.port or 0) < 65536


def _check_names(group: str, cryptos: Iterable[str]) -> None:
    if not _GROUP.fullmatch(group):
        raise UniverseNameError(
            f"{group!r} is not a group name: expected lower-case letters, digits, - and _, such as btc-core."
        )
    wrong = [crypto for crypto in cryptos if not _CRYPTO.fullmatch(crypto)]
    if wrong:
        raise UniverseNameError(f"{', '.join(wrong)}: expected exchange symbols such as BTCUSDC.")
