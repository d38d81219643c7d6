"""An evaluation on record, as far as the registry looks at it."""

from typing import Any

import pandas as pd
import sqlalchemy as sa

from resources.registry import NewModel
from resources.tables import EVALUATIONS
from resources.warehouse import Warehouse


def record_evaluation_of(warehouse: Warehouse, new: NewModel, *, passed: bool = True, **more: Any) -> None:
    """Put the evaluation on record that offers a model.

    Args:
        warehouse: Where.
        new: The model.
        passed: Whether it passed every gate.
        more: What else the row holds, or holds otherwise, by column.
    """
    row = {
        "run_id": f"run of {new.evaluation_version} on {new.market}",
        "crypto": new.crypto,
        "pte": new.pte,
        "session": "session",
        "market": new.market,
        "evaluation_version": new.evaluation_version,
        "walk_forward_version": "walk-forward",
        "rolling_version": new.rolling_version,
        "reused": False,
        "window_from": new.data_until - pd.Timedelta("60D"),
        "window_to": new.data_until,
        "leads": True,
        "gates_passed": passed,
        "primary_code": "ML_SOLID",
        "codes": ["ML_SOLID"],
        "severity": "P3",
        "record": {},
        **more,
    }
    with warehouse.begin() as connection:
        connection.execute(sa.insert(EVALUATIONS).values(row))
