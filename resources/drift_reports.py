"""The record of drift reports: what every look for drift of a crypto found, one row a run and crypto."""

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from cvntrade_assets.operations.drift import DriftReport
from cvntrade_assets.operations.drift_evidence import SCORE
from cvntrade_assets.operations.drift_outcomes import OutcomeDrift
from resources.secrets import process_mask
from resources.tables import DRIFT_REPORTS
from resources.warehouse import Warehouse


@dataclass(frozen=True)
class ReportOf:
    """Whose report it is.

    Attributes:
        run_id: The run that looked.
        crypto: Its crypto.
        market: `binance` or `simulated`.
        drift_version: Version of the artifact `drift`.
        model_version: Version of the model that the candles were compared with; empty when there was none.
    """

    run_id: str
    crypto: str
    market: str
    drift_version: str
    model_version: str


def record_drift(warehouse: Warehouse, whose: ReportOf, report: DriftReport) -> None:
    """Write down one report; a step that is retried in the same run writes the same row again.

    Raises:
        WarehouseError: PostgreSQL did not take it.
    """
    row = process_mask().value({**vars(whose), **_row(report)})
    statement = insert(DRIFT_REPORTS).values(row)
    changed = {**row, "recorded_at": sa.func.now()}
    with warehouse.begin() as connection:
        connection.execute(statement.on_conflict_do_update(index_elements=["run_id", "crypto"], set_=changed))


def _row(report: DriftReport) -> dict[str, Any]:
    score = report.score
    features = [column for column in report.columns if column.name != SCORE]
    return {
        "window_from": report.window_from,
        "window_to": report.window_to,
        "rows": report.rows,
        "features": len(features),
        "drifted": len(report.drifted),
        "share": report.share,
        "worst_feature": features[0].name if features else None,
        "worst_psi": features[0].psi if features else None,
        "score_psi": None if score is None else score.psi,
        "score_p": None if score is None else score.adjusted,
        "labelled": report.labelled,
        **_outcome("buy_rate", report.buy_rate),
        **_outcome("calibration_error", report.calibration, p_name="calibration_p"),
        "level": str(report.level),
        "reason": report.reason,
        "details": report.to_record(),
    }


def _outcome(name: str, found: OutcomeDrift | None, *, p_name: str = "buy_rate_p") -> dict[str, float | None]:
    reference, value, p_value = (None,) * 3 if found is None else (found.reference, found.value, found.p_value)
    return {f"{name}_reference": reference, name: value, p_name: p_value}
