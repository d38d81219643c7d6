"""What is known of runs: from Dagster's run storage and event log, and from our own record of them.

Nothing is kept a second time: a heartbeat is an event of the run, and a stage's history is its materializations.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import dagster as dg
import pandas as pd
import sqlalchemy as sa
from dagster._core.execution.plan.active import CONCURRENCY_CLAIM_MESSAGE_INTERVAL
from dagster._core.storage.dagster_run import FINISHED_STATUSES, IN_PROGRESS_RUN_STATUSES

from cvntrade_assets.operations.factors import FACTOR_TAG, FACTORS, VARIANT_TAG, resolve_run
from cvntrade_assets.operations.run_watch import HISTORY, LEAST_SECONDS, RunFacts, StageFacts
from cvntrade_assets.settings import Settings, SettingsError, resolve
from resources.guardrail_log import Occasion, session_of
from resources.run_settings import CODE_TAG
from resources.tables import GUARDRAIL_EVALUATIONS, WATCHED_RUNS
from resources.warehouse import Warehouse
from resources.watched_runs import WatchedRun

# The stages that spend training time.
TRAINING = ("hyperparameters", "model")

# Materializations looked through for a stage's history: some of them were reused and do not count.
_LOOKED_THROUGH = 2 * HISTORY
# Newest events looked through for the last sign of progress; those that Dagster's servers and the watch itself add to
# a run's log are few.
_NEWEST = 30
_STEP_EVENTS = {
    dg.DagsterEventType.STEP_START,
    dg.DagsterEventType.STEP_SUCCESS,
    dg.DagsterEventType.STEP_FAILURE,
    dg.DagsterEventType.ASSET_MATERIALIZATION,
}


def runs_going_on(instance: dg.DagsterInstance) -> Sequence[dg.RunRecord]:
    """Every run that has a worker, or is about to have one."""
    statuses = [*IN_PROGRESS_RUN_STATUSES, dg.DagsterRunStatus.CANCELING]
    return instance.get_run_records(dg.RunsFilter(statuses=list(dict.fromkeys(statuses))))


def runs_ended_since(instance: dg.DagsterInstance, since: pd.Timestamp, limit: int) -> Sequence[dg.RunRecord]:
    """The runs that ended after a moment, the first to end first, at most `limit`."""
    wanted = dg.RunsFilter(statuses=list(FINISHED_STATUSES), updated_after=since.to_pydatetime())
    return instance.get_run_records(wanted, limit=limit, order_by="update_timestamp", ascending=True)


def updated(record: dg.RunRecord) -> pd.Timestamp:
    """When a run's record last changed, UTC."""
    moment = pd.Timestamp(record.update_timestamp)
    return moment.tz_localize("UTC") if moment.tzinfo is None else moment.tz_convert("UTC")


def settings_of(run: dg.DagsterRun, base_env: dict[str, str], now: pd.Timestamp) -> Settings:
    """The settings that a run resolves; of a run that must refuse them, those without its own: limits are included."""
    given: Any = run.run_config
    for part in ("resources", "run_settings", "config"):
        given = given.get(part) or {}
    texts, variants = (_written(given.get(name)) for name in ("settings", "variants"))
    try:
        return resolve_run(base_env=base_env, run=texts, variants=variants, now=now)
    except SettingsError:
        pass
    # It refuses itself and says why; until it has ended it is watched like any other.
    try:
        return resolve_run(base_env=base_env, run={}, now=now)
    except SettingsError:
        return resolve(base_env={}, run={}, now=now)


def _written(texts: Any) -> dict[str, str]:
    """The texts that stand in the run config; one that its worker takes from the environment is not known here."""
    return {name: text for name, text in (texts or {}).items() if isinstance(text, str)}


@dataclass(frozen=True)
class SeenRun:
    """One run, looked at once."""

    instance: dg.DagsterInstance
    record: dg.RunRecord
    now: pd.Timestamp

    @property
    def run(self) -> dg.DagsterRun:
        """The run itself."""
        return self.record.dagster_run

    @property
    def works(self) -> bool:
        """Whether its worker is at work: a run that starts or is being ended is its launcher's to watch."""
        return self.run.status == dg.DagsterRunStatus.STARTED

    @property
    def crypto(self) -> str | None:
        """Its partition; None for a run about no crypto, such as a gate's, whose partition is a factor."""
        partition = self.run.tags.get("dagster/partition")
        return None if partition in FACTORS else partition

    @property
    def seconds(self) -> float:
        """How long it has been at work, or was when it has ended."""
        end = self.record.end_time or self.now.timestamp()
        return max(0.0, end - (self.record.start_time or end))

    @property
    def factor(self) -> str | None:
        """The factors that it varies."""
        return self.run.tags.get(FACTOR_TAG) or None

    def occasion(self, settings: Settings, source: str) -> Occasion:
        """What its evaluations are recorded under."""
        session = session_of(self.run.run_id, self.run.tags)
        return Occasion(self.run.run_id, self.crypto, session, settings.variants, source)

    def version(self, asset: str) -> str | None:
        """The version of an asset that it materialized, computed or reused; None when it did not."""
        found = self._made.get(asset, {}).get("version")
        return found if isinstance(found, str) else None

    def stage_seconds(self) -> dict[str, float]:
        """What each step took that has ended, in the order in which they began."""
        return {name: round(self._ended[name] - began, 3) for name, began in self._began.items() if name in self._ended}

    def stages_at_work(self) -> dict[str, float]:
        """What each step has taken so far that began and has not ended."""
        now = self.now.timestamp()
        return {name: round(now - began, 3) for name, began in self._began.items() if name not in self._ended}

    def watched(self) -> WatchedRun:
        """Its row in `watched_runs`."""
        run, record = self.run, self.record
        return WatchedRun(
            run_id=run.run_id,
            session=session_of(run.run_id, run.tags),
            crypto=self.crypto,
            factor=self.factor,
            variant=run.tags.get(VARIANT_TAG) or None,
            job=run.job_name,
            status=run.status.value,
            code=run.tags.get(CODE_TAG),
            started_at=_moment(record.start_time),
            training_began_at=self._training_began(),
            ended_at=_moment(record.end_time),
        )

    def taken(self) -> RunFacts:
        """What the rule on its time asks, and no more: this is asked inside the run too."""
        return RunFacts(self.now, self.seconds, train_rows=self._train_rows())

    def facts(self) -> RunFacts:
        """What all the rules ask of it."""
        if not self.works:
            return self.taken()
        stages = [self._stage(name, began) for name, began in self._began.items() if name not in self._ended]
        return replace(self.taken(), silent_seconds=self._silent_seconds(), stages=stages)

    @cached_property
    def _steps(self) -> "Sequence[dg.EventLogEntry]":
        """Its step and materialization events, oldest first."""
        return self.instance.all_logs(self.run.run_id, of_type=_STEP_EVENTS)

    @cached_property
    def _last(self) -> "Sequence[dg.EventLogEntry]":
        """Its newest events, newest first."""
        return self.instance.event_log_storage.get_logs_for_run(self.run.run_id, limit=_NEWEST, ascending=False)

    @cached_property
    def _newest(self) -> "Sequence[dg.EventLogEntry]":
        """Its newest signs of progress, newest first."""
        # Engine events come from Dagster's servers and from the watch itself: they are not the worker's.
        return [event for event in self._last if not (event.dagster_event and event.dagster_event.is_engine_event)]

    @cached_property
    def _began(self) -> dict[str, float]:
        """When each step began."""
        return self._when(dg.DagsterEventType.STEP_START)

    @cached_property
    def _ended(self) -> dict[str, float]:
        """When each step ended."""
        return self._when(dg.DagsterEventType.STEP_SUCCESS) | self._when(dg.DagsterEventType.STEP_FAILURE)

    @cached_property
    def _made(self) -> dict[str, dict[str, Any]]:
        """The metadata of each asset that it materialized."""
        made = {}
        for event in self._steps:
            if event.dagster_event and event.asset_materialization:
                made[event.asset_materialization.asset_key.path[-1]] = _plain(event.asset_materialization)
        return made

    def _when(self, kind: dg.DagsterEventType) -> dict[str, float]:
        return {
            event.step_key: event.timestamp
            for event in self._steps
            if event.step_key and event.dagster_event and event.dagster_event.event_type == kind
        }

    def _stage(self, name: str, began: float) -> StageFacts:
        seconds = self.now.timestamp() - began
        said = next((event.user_message for event in self._newest if event.step_key == name and _is_word(event)), "")
        # No history sets a limit that a younger stage could exceed.
        history = stage_history(self.instance, name) if seconds > LEAST_SECONDS else ()
        return StageFacts(name, seconds, history, said)

    def _silent_seconds(self) -> float:
        signs = [event.timestamp for event in self._newest]
        # A step that waits for a place in a pool is not stuck; silence begins when its next word of that is overdue.
        signs += [
            event.timestamp + CONCURRENCY_CLAIM_MESSAGE_INTERVAL
            for event in self._last
            if _waits_for_place(event) and event.step_key not in self._began
        ]
        return max(0.0, self.now.timestamp() - max([*signs, self.record.start_time or 0.0]))

    def _train_rows(self) -> int | None:
        """Of the training set that this run made or reused, else of its crypto's newest one."""
        made = self._made.get("training_set")
        if made is None and self.crypto is not None:
            wanted = dg.AssetRecordsFilter(dg.AssetKey("training_set"), asset_partitions=[self.crypto])
            for record in self.instance.fetch_materializations(wanted, limit=1).records:
                assert record.asset_materialization is not None
                made = _plain(record.asset_materialization)
        rows = (made or {}).get("train_rows")
        return rows if isinstance(rows, int) else None

    def _training_began(self) -> pd.Timestamp | None:
        """When the first of its stages that train began to compute."""
        return _moment(min((self._began[name] for name in TRAINING if self._trained(name)), default=None))

    def _trained(self, name: str) -> bool:
        if name not in self._began:
            return False
        if name in self._made:
            return self._made[name].get("reused") is False
        # It ended without a version, or goes on: looking whether there is one to reuse takes no seconds.
        end = self._ended.get(name) or self.record.end_time or self.now.timestamp()
        return end - self._began[name] > LEAST_SECONDS


def stage_history(instance: dg.DagsterInstance, stage: str) -> list[float]:
    """Seconds that the newest computations of a stage took, whatever the crypto, newest first; at most `HISTORY`."""
    found = instance.fetch_materializations(dg.AssetKey(stage), limit=_LOOKED_THROUGH).records
    metadata = (_plain(record.asset_materialization) for record in found if record.asset_materialization)
    seconds = (each.get("seconds") for each in metadata if each.get("reused") is False)
    return [each for each in seconds if isinstance(each, float)][:HISTORY]


def recorded(warehouse: Warehouse, run_ids: Collection[str]) -> set[tuple[str, str, str, str]]:
    """(run, guardrail, verdict, stage) of what is on record of these runs' time and progress."""
    table = GUARDRAIL_EVALUATIONS
    query = sa.select(table.c.run_id, table.c.guardrail, table.c.verdict, table.c.message).where(
        table.c.run_id.in_(list(run_ids)), table.c.source.in_(["watch", "check"])
    )
    with warehouse.begin() as connection:
        rows = connection.execute(query).all()
    return {
        (row.run_id, row.guardrail, row.verdict, row.message.split(":")[0] if row.guardrail == "stage_in_time" else "")
        for row in rows
    }


def factor_minutes(warehouse: Warehouse, factor: str) -> list[float]:
    """Minutes that the newest runs of a factor took that ended well, newest first; at most `HISTORY`."""
    table = WATCHED_RUNS
    query = (
        sa.select(sa.extract("epoch", table.c.ended_at - table.c.started_at) / 60)
        .where(table.c.factor == factor, table.c.status == dg.DagsterRunStatus.SUCCESS.value)
        .where(table.c.started_at.is_not(None), table.c.ended_at.is_not(None))
        .order_by(table.c.ended_at.desc())
        .limit(HISTORY)
    )
    with warehouse.begin() as connection:
        return [float(minutes) for minutes in connection.scalars(query)]


def _waits_for_place(event: "dg.EventLogEntry") -> bool:
    """Whether the worker says that a step waits for a place in a pool."""
    said = event.dagster_event
    return bool(said and said.is_engine_event and event.step_key and "pool" in said.engine_event_data.metadata)


def _is_word(event: "dg.EventLogEntry") -> bool:
    """Whether a stage said it, rather than Dagster about a stage."""
    return event.dagster_event is None


def _plain(materialization: dg.AssetMaterialization) -> dict[str, Any]:
    return {name: value.value for name, value in materialization.metadata.items()}


def _moment(seconds: float | None) -> pd.Timestamp | None:
    return None if seconds is None else pd.Timestamp(seconds, unit="s", tz="UTC").round("us")
