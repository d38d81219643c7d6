"""What a morning check is made of, read from an operations schema of some busy days and from Dagster's records."""

import dagster as dg
import pandas as pd
import pytest
from dagster_on_postgres import instance, run_job
from seeded_operations import seed

from cvntrade_assets.operations.morning import morning
from cvntrade_assets.operations.morning_facts import MorningFacts
from cvntrade_assets.operations.morning_text import markdown
from resources.alerts import open_alerts
from resources.morning_facts import read_morning
from resources.signal_store import newest_state, read_now
from resources.warehouse import Warehouse

__all__ = ["instance"]

NOW = pd.Timestamp.now("UTC")


@pytest.fixture(scope="module")
def busy(warehouse: Warehouse) -> Warehouse:
    """Every table has rows."""
    warehouse.seed_universes()
    seed(warehouse, NOW)
    return warehouse


@pytest.fixture
def facts(instance: dg.DagsterInstance, busy: Warehouse) -> MorningFacts:
    run_job(instance, "discovery", "ADAUSDC", fails=dg.Failure("no space left"))
    run_job(instance, "discovery", "BTCUSDC")
    return read_morning(busy, NOW, ui_url="https://ui")


def test_everything_that_is_stored_is_read(facts: MorningFacts, busy: Warehouse) -> None:
    state, stored = facts.state, newest_state(busy)
    assert state is not None and stored is not None
    assert (state.state, state.since, state.reasons) == (stored.state, stored.since, stored.reasons)
    assert len(facts.observations) == len(read_now(busy)) > 20
    assert [alert.key for alert in facts.alerts] == [alert.key for alert in open_alerts(busy)] != []
    assert facts.messages and facts.verdicts
    assert set(facts.cryptos) == {crypto for members in busy.universes().values() for crypto in members}
    assert {run.crypto: run.state for run in facts.runs} == {"ADAUSDC": "failed", "BTCUSDC": "succeeded"}
    [seen] = facts.seen.values()
    assert seen.page.startswith("https://ui/runs/") and (seen.stage, seen.reasons) == (
        "walk_forward",
        ("no space left",),
    )


def test_a_page_can_be_made_of_it(facts: MorningFacts) -> None:
    page = markdown(morning(facts))
    assert page.startswith("# ") and page.count("\n## ") == 6
    assert all(alert.what in page.replace("\\", "") for alert in facts.alerts)
