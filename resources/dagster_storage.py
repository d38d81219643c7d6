"""Dagster's PostgreSQL storage with a connection pool.

`dagster-postgres` opens a connection for every query except in the webserver: one `make run` of two cryptos
opened 4,900, each a new server process and a password exchange, which cost more processor time than the
training. Named in dagster.yaml, so every process of ours uses it.
"""

from collections.abc import Mapping
from typing import Any, Self

from dagster._serdes import ConfigurableClassData
from dagster_postgres import DagsterPostgresStorage
from dagster_postgres.utils import create_pg_engine, pg_url_from_config


class PooledPostgresStorage(DagsterPostgresStorage):
    """Run, event log and schedule storage over one pool.

    Configuration and tables are those of `DagsterPostgresStorage`. A pooled connection is tried before use, so a
    PostgreSQL that was restarted meanwhile is noticed and connected to again; the retries on connecting stay
    Dagster's.
    """

    def __init__(self, postgres_url: str, inst_data: ConfigurableClassData | None = None, **more: Any) -> None:
        super().__init__(postgres_url, inst_data=inst_data, **more)
        engine = create_pg_engine(
            postgres_url,
            isolation_level="AUTOCOMMIT",
            pool_size=2,
            max_overflow=20,
            pool_pre_ping=True,
            pool_recycle=300,
        )
        for storage in (self._run_storage, self._event_log_storage, self._schedule_storage):
            storage._engine.dispose()
            storage._engine = engine

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]) -> Self:
        """Build from dagster.yaml, as the base class does (which would build the base class)."""
        return cls(
            pg_url_from_config(config_value),
            inst_data=inst_data,
            should_autocreate_tables=config_value.get("should_autocreate_tables", True),
        )
