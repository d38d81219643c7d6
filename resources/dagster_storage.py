"""Dagster's PostgreSQL storage with a connection pool, and with a mask before everything that it keeps.

`dagster-postgres` opens a connection for every query except in the webserver: one `make run` of two cryptos
opened 4,900, each a new server process and a password exchange, which cost more processor time than the
training. Named in dagster.yaml, so every process of ours uses it.

The mask stands where all of Dagster's records pass: between its storages and the database driver. Events with their
logs, exceptions and metadata, runs, backfills, ticks and heartbeats are texts there, most of them JSON.
"""

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Self

import sqlalchemy as sa
from dagster import AssetCheckEvaluation, DagsterRun, EventLogEntry
from dagster._core.execution.backfill import PartitionBackfill
from dagster._core.storage.base_storage import DagsterStorage
from dagster._core.storage.event_log.schema import AssetCheckExecutionsTable
from dagster._core.storage.tags import PARENT_RUN_ID_TAG, RETRY_ON_ASSET_OR_OP_FAILURE_TAG
from dagster._serdes import ConfigurableClassData
from dagster_postgres import DagsterPostgresStorage
from dagster_postgres.event_log import PostgresEventLogStorage
from dagster_postgres.run_storage import PostgresRunStorage
from dagster_postgres.schedule_storage import PostgresScheduleStorage
from dagster_postgres.utils import create_pg_connection, create_pg_engine, pg_url_from_config, set_pg_statement_timeout
from dagster_shared.error import SerializableErrorInfo

from cvntrade_assets.operations.masking import MASK, is_secret_name, looks_like_credential
from resources.code_version import connection_name
from resources.patience import wait_for_server
from resources.secrets import process_mask
from resources.warehouse import ConnectionLostError

_HIDDEN: Mapping[str, Any] = {"__class__": "TextMetadataEntryData", "text": MASK}
_HIDDEN_TITLE = "(masked)"


class SecretInRunConfigError(ValueError):
    """Run config that holds a secret: it would be stored and shown. The message says where, never what."""


class _Masking:
    """A SQL storage every engine of which masks what is sent to the database.

    Dagster gives a storage another engine in the webserver, so the mask comes with being one's engine.
    """

    postgres_url: str

    @property
    def _engine(self) -> sa.Engine:
        engine: sa.Engine = self.__dict__["engine"]
        return engine

    @_engine.setter
    def _engine(self, engine: sa.Engine) -> None:
        if not sa.event.contains(engine, "before_cursor_execute", _mask_parameters):
            sa.event.listen(engine, "before_cursor_execute", _mask_parameters, retval=True)
        self.__dict__["engine"] = engine

    def optimize_for_webserver(self, statement_timeout: int, pool_recycle: int, max_overflow: int) -> None:
        """As Dagster does it, and with connections that are tried before use.

        Without that the UI shows an error for every connection that an outage has cut.
        """
        self._engine = create_pg_engine(
            self.postgres_url,
            isolation_level="AUTOCOMMIT",
            pool_size=1,
            pool_recycle=pool_recycle,
            max_overflow=max_overflow,
            pool_pre_ping=True,
            connect_args={"application_name": connection_name()},
        )
        sa.event.listen(
            self._engine, "connect", lambda connection, _: set_pg_statement_timeout(connection, statement_timeout)
        )


class _ScheduleStorage(_Masking, PostgresScheduleStorage):
    """Schedules, sensors and their ticks."""


class _RunStorage(_Masking, PostgresRunStorage):
    """Runs and backfills; their tags are rows of a name and a value, masked here where the two are together."""

    def _core_add_run(self, col_values: dict[str, Any], tags: Mapping[str, str]) -> None:
        super()._core_add_run(col_values, process_mask().value(tags))

    def add_run(self, dagster_run: DagsterRun) -> DagsterRun:
        """Store a new run, unless its config holds a secret.

        A run that was tried again has the tags of the one before. That PostgreSQL was gone is told of that one only.

        Raises:
            SecretInRunConfigError: it does. Masked, the run would do something else than was asked.
        """
        _refuse_secrets(dagster_run.run_config)
        if PARENT_RUN_ID_TAG in dagster_run.tags:
            tags = {name: text for name, text in dagster_run.tags.items() if name != RETRY_ON_ASSET_OR_OP_FAILURE_TAG}
            dagster_run = dagster_run.with_tags(tags)
        return super().add_run(dagster_run)

    def add_run_tags(self, run_id: str, new_tags: Mapping[str, str]) -> None:
        """Add or change tags."""
        super().add_run_tags(run_id, process_mask().value(new_tags))

    def add_backfill(self, partition_backfill: PartitionBackfill) -> None:
        """Store a new backfill, unless the config of its runs holds a secret.

        Raises:
            SecretInRunConfigError: it does.
        """
        _refuse_secrets(partition_backfill.run_config or {})
        super().add_backfill(_masked_backfill(partition_backfill))

    def update_backfill(self, partition_backfill: PartitionBackfill) -> None:
        """Store a changed backfill."""
        super().update_backfill(_masked_backfill(partition_backfill))


# Errors that say that PostgreSQL was gone, by the name of their class: an event keeps no more of it.
_LOST_CONNECTION = (ConnectionLostError.__name__, "DagsterPostgresException")
_DRIVERS_ERROR, _DRIVER = "OperationalError", "psycopg2"


def _lost_connection(error: SerializableErrorInfo | None) -> bool:
    """Whether an error, or what led to it, is that PostgreSQL was gone."""
    if error is None:
        return False
    if error.cls_name in _LOST_CONNECTION or (error.cls_name == _DRIVERS_ERROR and _DRIVER in error.message):
        return True
    return _lost_connection(error.cause) or _lost_connection(error.context)


class _EventLogStorage(_Masking, PostgresEventLogStorage):
    """Events. That a run has failed stands in the runs before its event can be seen.

    A step that failed had a reason, and is not tried again; one that failed because PostgreSQL was gone is: its run is
    marked so before it ends.

    Dagster writes the event first and the run's status after it. Its daemon looks at every new event once, and at the
    status then: in between it sees a run that goes on, and a crashed run is never tried again.
    """

    runs: _RunStorage

    def store_event(self, event: EventLogEntry) -> None:
        """Store an event, and before it what it means for its run."""
        found = event.dagster_event
        if found is not None and found.is_step_failure and _lost_connection(found.step_failure_data.error):
            self.runs.add_run_tags(event.run_id, {RETRY_ON_ASSET_OR_OP_FAILURE_TAG: "true"})
        if found is not None and found.is_run_failure:
            self.runs.handle_run_event(event.run_id, found, datetime.fromtimestamp(event.timestamp, UTC))
        super().store_event(event)

    def _store_runless_asset_check_evaluation(self, event: EventLogEntry, event_id: int | None) -> None:
        """Keep the newest verdict without a run of every check and partition.

        Dagster's index holds one such row a partition and refuses the next; the event log keeps every one of them.
        """
        evaluation = event.get_dagster_event().event_specific_data
        assert isinstance(evaluation, AssetCheckEvaluation)
        table = AssetCheckExecutionsTable.c
        same = (
            table.asset_key == evaluation.asset_key.to_string(),
            table.check_name == evaluation.check_name,
            table.partition == evaluation.partition,
            table.run_id == event.run_id,
        )
        if evaluation.partition is not None:
            with self.index_connection() as connection:
                connection.execute(AssetCheckExecutionsTable.delete().where(*same))
        super()._store_runless_asset_check_evaluation(event, event_id)


class PooledPostgresStorage(DagsterPostgresStorage):
    """Run, event log and schedule storage over one pool and behind the mask.

    Configuration and tables are those of `DagsterPostgresStorage`. A pooled connection is tried before use, so a
    PostgreSQL that was restarted meanwhile is noticed and connected to again; the retries on connecting stay
    Dagster's.
    """

    def __init__(
        self, postgres_url: str, inst_data: ConfigurableClassData | None = None, should_autocreate_tables: bool = True
    ) -> None:
        self.postgres_url = postgres_url
        self.should_autocreate_tables = should_autocreate_tables
        self._inst_data = inst_data
        engine = create_pg_engine(
            postgres_url,
            isolation_level="AUTOCOMMIT",
            pool_size=2,
            max_overflow=20,
            pool_pre_ping=True,
            pool_recycle=300,
            # `cvntrade doctor` reads there which code each process runs.
            connect_args={"application_name": connection_name()},
        )
        wait_for_server(engine)
        with create_pg_connection(engine) as connection:
            # Three servers start at once on an empty database; Dagster would have them all make its tables.
            connection.execute(sa.text("select pg_advisory_lock(hashtext('dagster tables'))"))
            try:
                self._run_storage = _RunStorage(postgres_url, should_autocreate_tables)
                self._event_log_storage = _EventLogStorage(postgres_url, should_autocreate_tables)
                self._event_log_storage.runs = self._run_storage
                self._schedule_storage = _ScheduleStorage(postgres_url, should_autocreate_tables)
            finally:
                connection.execute(sa.text("select pg_advisory_unlock(hashtext('dagster tables'))"))
        DagsterStorage.__init__(self)  # type: ignore[no-untyped-call, arg-type]
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


def _masked_backfill(backfill: PartitionBackfill) -> PartitionBackfill:
    mask, title = process_mask(), backfill.title
    if title is not None:
        # Dagster allows no asterisk in a title, and could not read the backfill again.
        title = mask.text(title).replace(MASK, _HIDDEN_TITLE)
    return backfill._replace(tags=mask.value(backfill.tags), title=title)


def masked_record(text: str) -> str:
    """A text that Dagster stores, without secrets; JSON stays JSON of the same shape, unchanged when it had none."""
    mask = process_mask().narrowed(text)
    if mask is None:
        return text
    if text[:1] not in "{[":
        return mask.text(text)
    try:
        record = json.loads(text)
    except ValueError:
        return mask.text(text)
    _hide_metadata(record)
    masked = mask.value(record)
    return text if masked == record else json.dumps(masked)


def _hide_metadata(record: Any) -> None:
    """Make a text of every metadata value whose name is that of a secret: a number has no masked form."""
    if isinstance(record, list):
        for item in record:
            _hide_metadata(item)
    elif isinstance(record, dict):
        if is_secret_name(str(record.get("label", ""))) and "entry_data" in record:
            record["entry_data"] = dict(_HIDDEN)
        for name, item in record.items():
            if is_secret_name(name) and isinstance(item, dict) and "Metadata" in str(item.get("__class__", "")):
                record[name] = dict(_HIDDEN)
            else:
                _hide_metadata(item)


def _mask_parameters(
    connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: bool
) -> tuple[str, Any]:
    """Mask every text that goes to the database; SQLAlchemy calls this before each statement."""
    del connection, cursor, context, many
    return statement, _masked_parameters(parameters)


def _masked_parameters(parameters: Any) -> Any:
    if isinstance(parameters, Mapping):
        return {name: _masked_parameters(value) for name, value in parameters.items()}
    if isinstance(parameters, list | tuple):
        return type(parameters)(_masked_parameters(value) for value in parameters)
    return masked_record(parameters) if isinstance(parameters, str) else parameters


def _refuse_secrets(config: Mapping[str, Any]) -> None:
    """Raise for a run config of which something would have to be masked."""
    if places := list(_secret_places(config, process_mask().value(config))):
        raise SecretInRunConfigError(
            f"The run config holds what looks like a secret, at {', '.join(places)}; nothing was stored and nothing "
            "runs. Secrets and addresses with a password belong in the environment of the processes, never in settings "
            "or run config, which everybody can read: give the value without it."
        )


def _secret_places(given: Any, masked: Any, place: str = "") -> Iterable[str]:
    """Where a config differs from its masked form, or looks like a credential."""
    if isinstance(given, Mapping):
        for name, item in given.items():
            shown = process_mask().text(str(name))
            if shown != name:
                yield f"{place}{shown}"
            else:
                yield from _secret_places(item, masked[shown], f"{place}{shown}: ")
    elif isinstance(given, list | tuple):
        for item, other in zip(given, masked, strict=True):
            yield from _secret_places(item, other, place)
    elif given != masked or (isinstance(given, str) and looks_like_credential(given)):
        yield place.removesuffix(": ")
