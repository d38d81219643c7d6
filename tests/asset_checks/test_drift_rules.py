"""What a drift report's level becomes as a check; its rules are broken one by one in `drift_cases`."""

import dagster as dg
import pytest

from asset_checks.drift_rules import CHECK, verdict_of
from cvntrade_assets.operations.drift import DriftReport, unknown
from cvntrade_assets.operations.drift_columns import ColumnDrift
from cvntrade_assets.operations.signals import Level

COLUMN = ColumnDrift("RSI_14", 0.2, 0.1, 0.3, 0.15, 0.4, 0.8, False)


@pytest.mark.parametrize(
    ("level", "passed", "severity"),
    [
        (Level.OK, True, dg.AssetCheckSeverity.WARN),
        (Level.WARNING, False, dg.AssetCheckSeverity.WARN),
        (Level.CRITICAL, False, dg.AssetCheckSeverity.ERROR),
        (Level.UNKNOWN, False, dg.AssetCheckSeverity.WARN),
    ],
)
def test_only_critical_drift_fails_and_only_fine_passes(
    level: Level, passed: bool, severity: dg.AssetCheckSeverity
) -> None:
    said = verdict_of(DriftReport(level, "why", columns=(COLUMN,)), "v", "f")
    assert (said.passed, said.severity, said.check_name) == (passed, severity, CHECK)
    assert said.description == f"{level}: why" and said.metadata["share"] == dg.FloatMetadataValue(0.0)


def test_what_was_not_tested_has_no_share() -> None:
    assert "share" not in verdict_of(unknown("no model"), "v", "f").metadata
