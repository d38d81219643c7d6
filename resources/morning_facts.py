"""Reads what a morning check is made of, from PostgreSQL alone: it is told when no webserver or daemon answers."""

from collections.abc import Sequence

import pandas as pd

from cvntrade_assets.operations.factors import resolve_run
from cvntrade_assets.operations.morning_facts import (
    AlertSeen,
    MessageSeen,
    MorningFacts,
    RunSeen,
    StateSeen,
    Verdict,
)
from cvntrade_assets.operations.pipelines import PIPELINES
from cvntrade_assets.operations.sessions import PipelineRun, standings
from cvntrade_assets.settings import Settings, SettingsError
from resources.alerts import OpenAlert, open_alerts, undelivered
from resources.evaluations import latest_evaluations
from resources.job_runs import JobRuns
from resources.registry import models
from resources.signal_store import StoredState, newest_state, read_now
from resources.warehouse import Warehouse


def read_morning(warehouse: Warehouse, now: pd.Timestamp, ui_url: str, webserver: str = "") -> MorningFacts:
    """Everything that the check is made of; what is made of it has to pass the mask before it is shown.

    Args:
        warehouse: The operations schema; Dagster's database stands on the same server.
        now: The wall clock, UTC.
        ui_url: Where pages of runs are; empty gives paths, which lead there from within the UI.
        webserver: Why it is of no use; empty when it answers or nobody asked.

    Raises:
        WarehouseError: PostgreSQL does not answer, or lacks our tables or Dagster's.
    """
    records = JobRuns(warehouse)
    try:
        runs = records.newest(PIPELINES)
        seen = _seen(runs, records, ui_url)
    finally:
        records.close()
    settings, trouble = _settings(warehouse, now)
    state = newest_state(warehouse)
    return MorningFacts(
        now=now,
        settings=settings,
        settings_trouble=trouble,
        state=None if state is None else _state(state),
        observations=[] if settings is None else [each.counted(now, settings) for each in read_now(warehouse)],
        cryptos=sorted({crypto for members in warehouse.universes().values() for crypto in members}),
        runs=runs,
        seen=seen,
        alerts=[_alert(alert) for alert in open_alerts(warehouse)],
        messages=[MessageSeen(each.created_at, each.last_error) for each in undelivered(warehouse)],
        verdicts=_verdicts(warehouse),
        webserver=webserver,
    )


def _settings(warehouse: Warehouse, now: pd.Timestamp) -> tuple[Settings | None, str]:
    """What is in force for everybody; a run's own settings say nothing about how things stand."""
    try:
        return resolve_run(base_env=warehouse.base_env(), run={}, now=now), ""
    except SettingsError as error:
        return None, str(error)


def _seen(runs: Sequence[PipelineRun], records: JobRuns, ui_url: str) -> dict[str, RunSeen]:
    """What else is known of those that run or are to be resumed."""
    shown = [run for standing in standings(runs).values() for run in (*standing.latest, *standing.unmended)]
    pages = {run.run_id: f"{ui_url}/runs/{run.run_id}" for run in shown}
    stages = records.stages_at_work([run.run_id for run in shown if run.state == "running"])
    troubles = records.troubles([run.run_id for run in shown if run.needs_resuming])
    at_work = {run_id: RunSeen(pages[run_id], stage) for run_id, stage in stages.items()}
    return at_work | {run_id: RunSeen(pages[run_id], why.stage, why.reasons) for run_id, why in troubles.items()}


def _state(stored: StoredState) -> StateSeen:
    return StateSeen(stored.computed_at, stored.state, stored.since, stored.reasons, stored.market, stored.as_of)


def _alert(alert: OpenAlert) -> AlertSeen:
    return AlertSeen(
        id=alert.id,
        key=alert.key,
        kind=alert.kind,
        severity=alert.severity,
        owner=alert.owner,
        audience=alert.audience,
        what=alert.what,
        where=alert.where,
        since=alert.since,
        next_step=alert.next_step,
        acknowledged_by=alert.acknowledged_by,
    )


def _verdicts(warehouse: Warehouse) -> list[Verdict]:
    """The newest verdict on every crypto and market, and the model that was registered of it."""
    rows = latest_evaluations(warehouse)
    cryptos = {row["crypto"] for row in rows}
    registered = {(each.crypto, each.rolling_version, each.pte): each for each in models(warehouse, cryptos)}
    verdicts = []
    for row in rows:
        model = registered.get((row["crypto"], row["rolling_version"], row["pte"]))
        verdicts.append(
            Verdict(
                crypto=row["crypto"],
                market=row["market"],
                pte=row["pte"],
                code=row["primary_code"],
                f1_buy=row["f1_buy"],
                baseline_f1_buy=row["baseline_f1_buy"],
                sortino=row["sortino"],
                passed=row["gates_passed"],
                recorded_at=pd.Timestamp(row["recorded_at"]).tz_convert("UTC"),
                registered=None if model is None else f"{model.state} {model.number}",
            )
        )
    return verdicts
