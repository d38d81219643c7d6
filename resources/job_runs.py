"""Runs of named jobs, read from Dagster's tables in PostgreSQL: they answer when no webserver does."""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

import dagster as dg
import pandas as pd
import sqlalchemy as sa
from dagster._core.storage.tags import WILL_RETRY_TAG
from dagster._serdes import deserialize_value

from cvntrade_assets.operations.failure_text import plainly
from cvntrade_assets.operations.provenance import FORCE_TAG
from cvntrade_assets.operations.sessions import GROUP_TAG, PipelineRun
from resources.code_version import connection_name
from resources.guardrail_log import session_of
from resources.warehouse import Warehouse, WarehouseError

# What dagster.yaml calls it; it stands on the operations schema's server.
_DATABASE = "dagster"
_STEPS = {dg.DagsterEventType.STEP_START, dg.DagsterEventType.STEP_SUCCESS, dg.DagsterEventType.STEP_FAILURE}
_ENDS = {
    dg.DagsterEventType.ASSET_CHECK_EVALUATION,
    dg.DagsterEventType.STEP_FAILURE,
    dg.DagsterEventType.RUN_FAILURE,
    dg.DagsterEventType.RUN_CANCELED,
}


# Read as they stand: Dagster's own storages take half a second to import, and try again for long when nobody answers.
_NEWEST = sa.text(
    "select distinct on (pipeline_name, partition) run_body, create_timestamp from runs "
    "where pipeline_name = any(:jobs) and partition is not null order by pipeline_name, partition, id desc"
)
_EVENTS = sa.text(
    "select event from event_logs where run_id = :run_id and dagster_event_type = any(:kinds) order by id"
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
        self._url = warehouse.address.set(database=_DATABASE)

    @cached_property
    def _engine(self) -> sa.Engine:
        named = {"connect_timeout": 10, "application_name": connection_name()}
        return sa.create_engine(self._url, pool_size=1, connect_args=named)

    def newest(self, jobs: Collection[str]) -> list[PipelineRun]:
        """The newest run of every job and crypto.

        Raises:
            WarehouseError: PostgreSQL does not answer, or lacks Dagster's tables.
        """
        with self._reading() as connection:
            rows = connection.execute(_NEWEST, {"jobs": list(jobs)}).all()
        return [_pipeline_run(deserialize_value(row.run_body, dg.DagsterRun), row.create_timestamp) for row in rows]

    def trouble(self, run_id: str) -> Trouble:
        """Why a run ended without success; without reasons when Dagster keeps none (any more)."""
        events = self._events(run_id, _ENDS)
        found = [said for event in events if (said := _step_trouble(event)) is not None]
        if found:
            return Trouble(found[0][0], tuple(dict.fromkeys(reason for _, reason in found)))
        return Trouble(None, tuple(why for event in events if (why := _run_trouble(event))))

    def stage_at_work(self, run_id: str) -> str | None:
        """The stage that a run is in; None between two."""
        at_work: dict[str, None] = {}
        for event in self._events(run_id, _STEPS):
            if event.is_step_start:
                at_work[str(event.step_key)] = None
            else:
                at_work.pop(str(event.step_key), None)
        return next(reversed(at_work), None)

    def _events(self, run_id: str, kinds: Collection[dg.DagsterEventType]) -> list[dg.DagsterEvent]:
        """A run's events of some kinds, oldest first."""
        with self._reading() as connection:
            asked = {"run_id": run_id, "kinds": [kind.value for kind in kinds]}
            texts = connection.scalars(_EVENTS, asked).all()
        return [deserialize_value(text, dg.EventLogEntry).get_dagster_event() for text in texts]

    @contextmanager
    def _reading(self) -> Iterator[sa.Connection]:
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


def _pipeline_run(run: dg.DagsterRun, created: datetime) -> PipelineRun:
    given = _given(run.run_config)
    return PipelineRun(
        run_id=run.run_id,
        pipeline=run.job_name,
        crypto=run.tags["dagster/partition"],
        session=session_of(run.run_id, run.tags),
        group=run.tags.get(GROUP_TAG),
        status=run.status.value,
        # Dagster's columns hold UTC without saying so.
        created=pd.Timestamp(created, tz="UTC"),
        settings=_texts(given.get("settings")),
        variants=_texts(given.get("variants")),
        is_forced=run.tags.get(FORCE_TAG) == "true",
        will_retry=run.status is dg.DagsterRunStatus.FAILURE and run.tags.get(WILL_RETRY_TAG) == "true",
    )


def _given(config: Any) -> Mapping[str, Any]:
    for part in ("resources", "run_settings", "config"):
        config = config.get(part) or {}
    given: Mapping[str, Any] = config
    return given


def _texts(values: Mapping[str, Any] | None) -> dict[str, str]:
    # A text that a worker takes from its environment is a mapping, and is not known here.
    return {name: text for name, text in (values or {}).items() if isinstance(text, str)}


def _step_trouble(event: dg.DagsterEvent) -> tuple[str, str] | None:
    """Stage and reason, when an event says that a stage or a check of it failed."""
    if event.event_type == dg.DagsterEventType.ASSET_CHECK_EVALUATION:
        evaluation = event.asset_check_evaluation_data
        if evaluation.passed or evaluation.severity != dg.AssetCheckSeverity.ERROR:
            return None
        asset = evaluation.asset_key.to_user_string()
        return asset, f"check {evaluation.check_name} of {asset}: {evaluation.description or 'no reason was given'}"
    if event.is_step_failure:
        return str(event.step_key), failure_reason(event.step_failure_data)
    return None


def _run_trouble(event: dg.DagsterEvent) -> str | None:
    if event.event_type == dg.DagsterEventType.RUN_FAILURE:
        # A failure that somebody else reported, such as the daemon of a worker that vanished, has no error.
        error = event.job_failure_data.error if event.event_specific_data else None
        return str(error.message if error else event.message or "").strip() or None
    if event.event_type == dg.DagsterEventType.RUN_CANCELED:
        return "it was ended by hand, or for being stuck"
    return None


def failure_reason(failure: Any) -> str:
    """The innermost message of a step's failure: what went wrong, and not that something did."""
    described = failure.user_failure_data and failure.user_failure_data.description
    if described:
        return str(described)
    error = failure.error
    while error is not None and error.cause is not None:
        error = error.cause
    return "no reason was given" if error is None else plainly(str(error.message))
