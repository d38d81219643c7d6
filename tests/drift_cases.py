"""Ways to break the rules of a drift report; importing registers them.

The report that they change is one of a chain that was built just now: no candle has closed since.
"""

from dataclasses import replace
from typing import Any

import pandas as pd
from tampering import Tampered, breaks

from asset_checks.contract import Subject
from cvntrade_assets.operations.drift_columns import ColumnDrift
from cvntrade_assets.operations.signals import Level

COLUMN = ColumnDrift("RSI_14", 0.2, 0.1, 0.3, 0.15, 0.4, 0.8, False)
PICTURE = b"\x89PNG\r\n\x1a\n"
PICTURES = {"by_column": PICTURE, "probabilities": PICTURE}

# Rules that are about a report as a whole.
ABOUT_THE_WHOLE = {("drift", "unseen"), ("drift", "level")}
NO_ROW_TO_BLAME = {"drift-schema-report_without_its_pictures"}


def reported(subject: Subject, plots: dict[str, bytes] | None = None, **changed: Any) -> Any:
    """The stored report with some of it changed, with these pictures."""
    stored = subject.value
    return replace(stored, report=replace(stored.report, **changed), plots=PICTURES if plots is None else plots)


@breaks("drift", "schema")
def p_value_that_correction_lowered(subject: Subject) -> Tampered:
    columns = (replace(COLUMN, name="CCI_20"), replace(COLUMN, adjusted=0.3))
    return Tampered(
        reported(subject, columns=columns),
        "the drift by column break their schema:\n- correction must not lower a p-value: 1 of 2 rows break this, "
        "first 1 (p_value 0.4, adjusted 0.3)",
    )


@breaks("drift", "schema")
def report_without_its_pictures(subject: Subject) -> Tampered:
    return Tampered(
        reported(subject, {"by_column": PICTURE}, columns=(COLUMN,)),
        "the plots break their schema:\n- the plots must be by_column, probabilities",
    )


@breaks("drift", "as_measured")
def number_that_nothing_gives(subject: Subject) -> Tampered:
    rows = subject.value.report.rows
    return Tampered(
        reported(subject, rows=rows + 7),
        f"1 numbers are not those of the stored candles and model: rows {rows + 7}, expected {rows}",
    )


@breaks("drift", "unseen")
def window_that_the_model_was_made_from(subject: Subject) -> Tampered:
    newest = subject.upstream("features").index[-1]
    begins = newest - pd.Timedelta(days=30)
    version = subject.value.chain["training_set"]
    targets = subject.store.require("training_set", subject.manifest.crypto, version).load().targets
    return Tampered(
        reported(subject, window_from=begins, window_to=newest),
        f"the window goes from {begins} to {newest}; expected one from {targets['exit_time'].max()} at the earliest, "
        f"where the training set's knowledge ends, to the newest candle, {newest}",
    )


@breaks("drift", "level")
def level_that_nothing_gives(subject: Subject) -> Tampered:
    return Tampered(reported(subject, level=Level.OK), "the level is ok, the numbers give unknown")
