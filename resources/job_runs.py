"""Runs of named jobs, read from Dagster's tables in PostgreSQL: they answer when no webserver does.

Rows and events are read as they stand, without Dagster, which takes a second to import.
"""

import json
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from types import SimpleNamespace
from typing import Any

import pandas as pd
import sqlalchemy as sa

from cvntrade_assets.operations.failure_text import plainly
from cvntrade_assets.operations.provenance import FORCE_TAG
from cvntrade_assets.operations.sessions import GROUP_TAG, PipelineRun
from resources.code_version import connection_name
from resources.guardrail_log import session_of
from resources.warehouse import Warehouse, WarehouseError

# Dagster's names, which its tables hold: of events, of run failures, and of the tag on a run that it starts again.
_CHECK, _STEP_FAILURE = "ASSET_CHECK_EVALUATION", "STEP_FAILURE"
_RUN_FAILURE, _RUN_CANCELED = "PIPELINE_FAILURE", "PIPELINE_CANCELED"
_STEP_START = "STEP_START"
_STEPS = (_STEP_START, "STEP_SUCCESS", _STEP_FAILURE)
_ENDS = (_CHECK, _STEP_FAILURE, _RUN_FAILURE, _RUN_CANCELED)
_WILL_RETRY = "dagster/will_retry"

# Dagster's own storages also try again for long when nobody answers.
_NEWEST = sa.text(
    "select distinct on (pipeline_name, partition) run_id, pipeline_name, partition, status, create_timestamp, "
    "run_body from runs where pipeline_name = any(:jobs) and partition is not null "
    "order by pipeline_name, partition, id desc"
)
_EVENTS = sa.text(
    "select run_id, event from event_logs where run_id = any(:run_ids) and dagster_event_type = any(:kinds) order by id"
)


@dataclass(frozen=True)
class Trouble:
    """Why a run ended without success: the stage that failed (None when none did), and the reasons, a sentence each."""

    stage: str | None
    reasons: tuple[str, ...]


class JobRuns:
    """Reads Dagster's records of runs; writes nothing.

    Args:
        warehouse: The operations schema; Dagster's database stands on the same server.
    """

    def __init__(self, warehouse: Warehouse) -> None:
        self._url = warehouse.dagster_address

    @cached_property
    def _engine(self) -> sa.Engine:
        named = {"connect_timeout": 10, "application_name": connection_name()}
        return sa.create_engine(self._url, pool_size=1, connect_args=named)

    def close(self) -> None:
        """Give the connection back."""
        self._engine.dispose()

    def newest(self, jobs: Collection[str]) -> list[PipelineRun]:
        """The newest run of every job and crypto.

        Raises:
            WarehouseError: PostgreSQL does not answer, or lacks Dagster's tables.
        """
        with self.reading() as connection:
            rows = connection.execute(_NEWEST, {"jobs": list(jobs)}).all()
        return [_pipeline_run(row) for row in rows]

    def trouble(self, run_id: str) -> Trouble:
        """Why a run ended without success; without reasons when Dagster keeps none (any more)."""
        return self.troubles([run_id])[run_id]

    def troubles(self, run_ids: Collection[str]) -> dict[str, Trouble]:
        """The same of several runs, by id."""
        return {run_id: _trouble(events) for run_id, events in self._events(run_ids, _ENDS).items()}

    def stage_at_work(self, run_id: str) -> str | None:
        """The stage that a run is in; None between two."""
        return self.stages_at_work([run_id])[run_id]

    def stages_at_work(self, run_ids: Collection[str]) -> dict[str, str | None]:
        """The same of several runs, by id."""
        return {run_id: _stage_at_work(events) for run_id, events in self._events(run_ids, _STEPS).items()}

    def _events(self, run_ids: Collection[str], kinds: Collection[str]) -> dict[str, list[Any]]:
        """Each run's events of some kinds, oldest first, with attributes named as Dagster stores them."""
        found: dict[str, list[Any]] = {run_id: [] for run_id in run_ids}
        if found:
            with self.reading() as connection:
                rows = connection.execute(_EVENTS, {"run_ids": list(found), "kinds": list(kinds)}).all()
            for row in rows:
                stored = json.loads(row.event, object_hook=lambda fields: SimpleNamespace(**fields))
                found[row.run_id].append(stored.dagster_event)
        return found

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """A connection to Dagster's database, to read from.

        Raises:
            WarehouseError: PostgreSQL does not answer, or lacks Dagster's tables.
        """
        try:
            with self._engine.connect() as connection:
                yield connection
        except (sa.exc.OperationalError, sa.exc.ProgrammingError) as error:
            url = self._url
            raise WarehouseError(
                f"Dagster's records at {url.host}:{url.port}/{url.database} cannot be read "
                f"({str(error.orig).strip().splitlines()[0]}). Does its PostgreSQL run, and has `cvntrade up` or the "
                "deployment started Dagster on it?"
            ) from None


def _pipeline_run(row: "sa.Row[Any]") -> PipelineRun:
    body = json.loads(row.run_body)
    given, tags = _given(body["run_config"]), body["tags"]
    return PipelineRun(
        run_id=row.run_id,
        pipeline=row.pipeline_name,
        crypto=row.partition,
        session=session_of(row.run_id, tags),
        group=tags.get(GROUP_TAG),
        status=row.status,
        # Dagster's columns hold UTC without saying so.
        created=pd.Timestamp(row.create_timestamp, tz="UTC"),
        settings=_texts(given.get("settings")),
        variants=_texts(given.get("variants")),
        is_forced=tags.get(FORCE_TAG) == "true",
        will_retry=row.status == "FAILURE" and tags.get(_WILL_RETRY) == "true",
    )


def _given(config: Any) -> Mapping[str, Any]:
    for part in ("resources", "run_settings", "config"):
        config = config.get(part) or {}
    given: Mapping[str, Any] = config
    return given


def _texts(values: Mapping[str, Any] | None) -> dict[str, str]:
    # A text that a worker takes from its environment is a mapping, and is not known here.
    return {name: text for name, text in (values or {}).items() if isinstance(text, str)}


def _trouble(events: Collection[Any]) -> Trouble:
    found = [said for event in events if (said := _step_trouble(event)) is not None]
    if found:
        return Trouble(found[0][0], tuple(dict.fromkeys(reason for _, reason in found)))
    return Trouble(None, tuple(why for event in events if (why := _run_trouble(event))))


def _stage_at_work(events: Collection[Any]) -> str | None:
    at_work: dict[str, None] = {}
    for event in events:
        if event.event_type_value == _STEP_START:
            at_work[event.step_key] = None
        else:
            at_work.pop(event.step_key, None)
    return next(reversed(at_work), None)


def _step_trouble(event: Any) -> tuple[str, str] | None:
    """Stage and reason, when an event says that a stage or a check of it failed."""
    said = event.event_specific_data
    if event.event_type_value == _CHECK:
        if said.success or vars(said.severity)["__enum__"] != "AssetCheckSeverity.ERROR":
            return None
        asset = "/".join(said.asset_key.path)
        return asset, f"check {said.check_name} of {asset}: {said.description or 'no reason was given'}"
    if event.event_type_value == _STEP_FAILURE:
        return str(event.step_key), failure_reason(said)
    return None


def _run_trouble(event: Any) -> str | None:
    if event.event_type_value == _RUN_FAILURE:
        # A failure that somebody else reported, such as the daemon of a worker that vanished, has no error.
        error = event.event_specific_data and event.event_specific_data.error
        return str(error.message if error else event.message or "").strip() or None
    if event.event_type_value == _RUN_CANCELED:
        return "it was ended by hand, or for being stuck"
    return None


def failure_reason(failure: Any) -> str:
    """The innermost message of a step's failure, Dagster's own object or as it is stored: what went wrong."""
    described = failure.user_failure_data and failure.user_failure_data.description
    if described:
        return str(described)
    error = failure.error
    while error is not None and error.cause is not None:
        error = error.cause
    return "no reason was given" if error is None else plainly(str(error.message))
