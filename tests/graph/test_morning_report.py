"""The morning report in the graph: the page that the UI shows says what `cvntrade status` prints."""

import re

import dagster as dg
import pandas as pd
from dagster_on_postgres import instance, run_job
from morning_rows import store_a_state, store_an_alert, store_signals

from cvntrade_assets.assets.morning_report import morning_report
from cvntrade_assets.automation.jobs import refresh_morning_report
from cvntrade_assets.automation.schedules import SCHEDULES
from cvntrade_assets.operations.global_state import State
from cvntrade_assets.operations.morning import morning
from cvntrade_assets.operations.morning_page import Line
from cvntrade_assets.operations.morning_text import escaped
from cvntrade_assets.operations.signals import Level
from resources.morning_facts import read_morning
from resources.warehouse import Warehouse
from resources.warehouse_resource import WarehouseResource

__all__ = ["instance"]


def page_of(instance: dg.DagsterInstance, url: str) -> tuple[dict[str, object], str]:
    """What a run of the asset's job left: its metadata, and the page."""
    defs = dg.Definitions(
        assets=[morning_report],
        jobs=[refresh_morning_report],
        resources={"warehouse": WarehouseResource(url=url)},
        executor=dg.in_process_executor,
    )
    done = defs.resolve_job_def("refresh_morning_report").execute_in_process(instance=instance)
    [event] = done.get_asset_materialization_events()
    said = {name: entry.value for name, entry in event.materialization.metadata.items()}
    return said, str(said["report"])


def test_the_page_says_what_status_says(instance: dg.DagsterInstance, warehouse: Warehouse, warehouse_url: str) -> None:
    warehouse.seed_universes()
    now = pd.Timestamp.now("UTC")
    failed = run_job(instance, "discovery", "ADAUSDC", fails=dg.Failure("no space | left"))
    store_signals(warehouse, now, {("infra_health", ""): Level.CRITICAL, ("sortino", "ADAUSDC"): Level.WARNING})
    store_a_state(warehouse, State.RED, now, "a volume is full")
    store_an_alert(warehouse, now)
    said, page = page_of(instance, warehouse_url)
    assert (said["state"], said["needs_somebody"]) == ("RED", True)
    assert page.startswith("# RED since ")
    assert f"/runs/{failed}" in page and "http" not in page, "its links stay in the UI that shows it"
    assert "- `cvntrade discovery --crypto ADAUSDC`" in page
    found = morning(read_morning(warehouse, now, ui_url=""))
    lines = [part for section in found.sections for part in section.parts if isinstance(part, Line)]
    assert len(lines) > 20
    assert [line.text for line in lines if escaped(line.text) not in page] == []
    assert re.findall(r"^## (.*)$", page, re.MULTILINE) == [section.heading for section in found.sections]


def test_a_state_that_nobody_computes_is_unknown_on_the_page_too(
    instance: dg.DagsterInstance, warehouse: Warehouse, warehouse_url: str
) -> None:
    store_a_state(warehouse, State.GREEN, pd.Timestamp.now("UTC") - pd.Timedelta("16min"), "")
    said, page = page_of(instance, warehouse_url)
    assert said["state"] == "UNKNOWN"
    assert page.startswith("# UNKNOWN: nothing was computed since ") and "- `cvntrade watchdog --once`" in page


def test_it_is_made_every_morning_without_anybody_switching_it_on() -> None:
    [schedule] = [each for each in SCHEDULES if each.job_name == "refresh_morning_report"]
    assert (schedule.cron_schedule, schedule.execution_timezone) == ("30 6 * * *", "UTC")
    assert schedule.default_status is dg.DefaultScheduleStatus.RUNNING
