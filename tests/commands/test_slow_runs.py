"""A pipeline's results say what to do about a run that took too long, and nothing of one that did not."""

from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from correlation_records import record
from rich.console import Console

from cvntrade_assets.commands.pipeline_results import print_pipeline_results
from cvntrade_assets.operations.correlation_data import Duration
from cvntrade_assets.operations.pipelines import PIPELINES
from resources.evaluations import EvaluationOf, record_evaluations
from resources.warehouse import Warehouse

FROM, TO = pd.Timestamp("2025-06-01", tz="UTC"), pd.Timestamp("2025-09-01", tz="UTC")


@pytest.mark.parametrize(("minutes", "is_slow"), [(130.0, False), (131.0, True)])
def test_a_slow_run_comes_with_the_playbooks_command(warehouse: Warehouse, minutes: float, is_slow: bool) -> None:
    run = f"run of {minutes} minutes"
    took = Duration(minutes=minutes, p95_minutes=100.0, slowest_stage="walk_forward")
    found = record(duration=took)
    whose = EvaluationOf(run, run, found.crypto, "1", "1", "1", False, FROM, TO)
    record_evaluations(warehouse, whose, [(found, None)])
    connection: Any = SimpleNamespace(warehouse=lambda: warehouse)
    console = Console(record=True, width=200)
    print_pipeline_results(connection, PIPELINES["discovery"], [{"runId": run, "status": "SUCCESS"}], console)
    printed = console.export_text()
    assert ("the run took 131 minutes, more than 30 % over the 100 minutes" in printed) is is_slow
    assert ("--set hpo_trials=50`" in printed) is is_slow
