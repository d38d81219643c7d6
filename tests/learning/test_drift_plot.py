"""Plots of a drift report: valid PNGs, the same for the same report."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from cvntrade_assets.learning.drift_plot import drifted_columns, probabilities_now
from cvntrade_assets.learning.plot_look import PlotError
from cvntrade_assets.operations.drift import DriftReport, unknown
from cvntrade_assets.operations.drift_columns import ColumnDrift
from cvntrade_assets.operations.drift_evidence import Evidence
from cvntrade_assets.operations.signals import Level

PNG = b"\x89PNG\r\n\x1a\n"
ABOUT = {"crypto": "BTCUSDT", "market": "simulated"}
COLUMNS = tuple(ColumnDrift(f"F{i}", 0.5 - i / 100, 0.2, 0.1, 0.1, 0.01, 0.02, i < 3) for i in range(30))
REPORT = DriftReport(Level.WARNING, "why", columns=COLUMNS)


def evidence() -> Evidence:
    random = np.random.default_rng(0)
    times = pd.date_range("2025-08-01", periods=400, freq="30min", tz="UTC", name="open_time")
    said = pd.DataFrame({"score": random.random(400), "probability": random.random(400), "label": 1.0}, index=times)
    features = pd.DataFrame({"a": random.random(400)}, index=times)
    return Evidence(features[:300], features[300:], said[:300], said[300:], said["label"])


def test_a_bar_for_every_column_that_is_shown() -> None:
    drawn = drifted_columns(REPORT, **ABOUT)
    assert drawn.startswith(PNG) and drawn == drifted_columns(REPORT, **ABOUT)
    assert drawn != drifted_columns(replace(REPORT, columns=COLUMNS[:5]), **ABOUT)
    with pytest.raises(PlotError, match="no column was tested"):
        drifted_columns(unknown("too few candles"), **ABOUT)


def test_probabilities_are_drawn_with_and_without_settled_outcomes() -> None:
    found = evidence()
    drawn = probabilities_now(found, **ABOUT)
    open_yet = replace(found, asked=found.asked.assign(label=np.nan))
    assert drawn.startswith(PNG) and drawn != probabilities_now(open_yet, **ABOUT)
