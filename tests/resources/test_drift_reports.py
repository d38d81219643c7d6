"""The record of drift reports on a real PostgreSQL: rows, retries, and what a look that could not be made leaves."""

from typing import Any

import pandas as pd
import pytest
import sqlalchemy as sa

from cvntrade_assets.operations.drift import DriftReport, from_record, unknown
from cvntrade_assets.operations.drift_columns import ColumnDrift
from cvntrade_assets.operations.drift_outcomes import OutcomeDrift
from cvntrade_assets.operations.signals import Level
from resources.drift_reports import ReportOf, record_drift
from resources.secrets import learn_secrets
from resources.tables import DRIFT_REPORTS
from resources.warehouse import Warehouse

CANARY = "canary-41fe-of-drift"
WHOSE = ReportOf("run-1", "BTCUSDC", "binance", "d-1", "m-1")
BEGINS, ENDS = pd.Timestamp("2025-08-01", tz="UTC"), pd.Timestamp("2025-08-07 23:30", tz="UTC")
SCORE = ColumnDrift("score", 0.6, 0.3, 0.9, 0.2, 0.001, 0.003, True)
FEATURE = ColumnDrift("NATR_14", 0.4, 0.2, 0.5, 0.3, 0.01, 0.02, True)
CALM = ColumnDrift("RSI_14", 0.1, 0.1, 0.1, 0.2, 0.7, 0.9, False)
REPORT = DriftReport(
    Level.CRITICAL,
    "much moved",
    BEGINS,
    ENDS,
    336,
    (SCORE, FEATURE, CALM),
    328,
    OutcomeDrift(0.25, 0.24, 0.31, 0.25, 0.37, 0.08, False),
    OutcomeDrift(0.04, 0.05, 0.11, 0.06, 0.15, 0.02, True),
)


@pytest.fixture
def fresh(warehouse: Warehouse) -> Warehouse:
    with warehouse.begin() as connection:
        connection.execute(sa.text("truncate drift_reports"))
    return warehouse


def rows(warehouse: Warehouse) -> list[dict[str, Any]]:
    with warehouse.begin() as connection:
        return [dict(row) for row in connection.execute(sa.select(DRIFT_REPORTS)).mappings()]


def test_a_report_is_a_row_with_every_number_in_its_place(fresh: Warehouse) -> None:
    record_drift(fresh, WHOSE, REPORT)
    [row] = rows(fresh)
    assert (row["run_id"], row["crypto"], row["market"]) == ("run-1", "BTCUSDC", "binance")
    assert (row["drift_version"], row["model_version"]) == ("d-1", "m-1")
    assert (row["window_from"], row["window_to"], row["rows"]) == (BEGINS, ENDS, 336)
    assert (row["features"], row["drifted"], row["share"]) == (2, 2, pytest.approx(2 / 3))
    assert (row["worst_feature"], row["worst_psi"]) == ("NATR_14", 0.4)
    assert (row["score_psi"], row["score_p"]) == (0.6, 0.003)
    assert (row["labelled"], row["buy_rate_reference"], row["buy_rate"], row["buy_rate_p"]) == (328, 0.25, 0.31, 0.08)
    calibration = ("calibration_error_reference", "calibration_error", "calibration_p")
    assert tuple(row[name] for name in calibration) == (0.04, 0.11, 0.02)
    assert (row["level"], row["reason"]) == ("critical", "much moved")
    assert from_record(row["details"]) == REPORT


def test_a_step_that_is_retried_writes_its_row_again(fresh: Warehouse) -> None:
    record_drift(fresh, WHOSE, REPORT)
    record_drift(fresh, WHOSE, unknown("the second time"))
    record_drift(fresh, ReportOf("run-1", "ETHUSDC", "binance", "d-2", "m-2"), REPORT)
    found = {row["crypto"]: row for row in rows(fresh)}
    assert set(found) == {"BTCUSDC", "ETHUSDC"}
    assert found["BTCUSDC"]["level"] == "unknown" and found["BTCUSDC"]["reason"] == "the second time"


def test_a_look_that_could_not_be_made_leaves_no_number(fresh: Warehouse) -> None:
    record_drift(fresh, ReportOf("run-1", "BTCUSDC", "binance", "d-1", ""), unknown("no model"))
    [row] = rows(fresh)
    empty = ("window_from", "window_to", "share", "worst_feature", "worst_psi", "score_psi", "score_p")
    outcomes = [name for name in row if name.startswith(("buy_rate", "calibration"))]
    assert len(outcomes) == 6 and all(row[name] is None for name in (*empty, *outcomes))
    assert (row["rows"], row["features"], row["drifted"], row["labelled"]) == (0, 0, 0, 0)


def test_no_secret_reaches_a_row(fresh: Warehouse) -> None:
    learn_secrets({"CVN_SOME_TOKEN": CANARY})
    record_drift(fresh, WHOSE, unknown(f"it said {CANARY}"))
    [row] = rows(fresh)
    assert CANARY not in str(row)
