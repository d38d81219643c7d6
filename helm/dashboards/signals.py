"""One panel for each golden signal: its points over time, between its limits."""

from collections.abc import Mapping
from dataclasses import dataclass

from grafana_foundation_sdk.builders import dashboard as build

from cvntrade_assets.operations.signals import SIGNALS, Scope
from helm.dashboards.limits import LEVELS, falling, limit, rising
from helm.dashboards.panels import bands, lines


@dataclass(frozen=True)
class Shown:
    """How a signal is drawn.

    Attributes:
        title: Of its panel.
        unit: In Grafana's words.
        warning: Setting, or number, from which it warns.
        critical: Setting from which it is critical.
        is_better_low: Whether less is better.
    """

    title: str
    unit: str
    warning: str | float
    critical: str
    is_better_low: bool = True

    def thresholds(self) -> build.ThresholdsConfig:
        """Its limits, as the settings' defaults have them."""
        warning = limit(self.warning) if isinstance(self.warning, str) else self.warning
        between = rising if self.is_better_low else falling
        return between(warning, limit(self.critical))


_OF = "CVN_SIGNAL_"
SHOWN: Mapping[str, Shown] = {
    "pipeline_success_rate": Shown(
        "Success rate by job", "percentunit", f"{_OF}SUCCESS_WARNING", f"{_OF}SUCCESS_CRITICAL", False
    ),
    "pipeline_latency": Shown(
        "Latency over the usual, by job", "percentunit", f"{_OF}LATENCY_WARNING", f"{_OF}LATENCY_CRITICAL"
    ),
    "pass_rate": Shown("Complete runs in a row without a candidate", "short", 1, f"{_OF}PASS_RATE_RUNS"),
    "f1_buy_delta_vs_baseline": Shown(
        "f1_buy over always-BUY", "none", f"{_OF}F1_DELTA_WARNING", f"{_OF}F1_DELTA_CRITICAL", False
    ),
    "screening_testing_gap": Shown("Screening over testing", "none", f"{_OF}GAP_WARNING", f"{_OF}GAP_CRITICAL"),
    "std_f1_buy": Shown("Deviation of f1_buy over folds", "none", f"{_OF}STD_F1_WARNING", f"{_OF}STD_F1_CRITICAL"),
    "sortino": Shown("Sortino ratio", "none", f"{_OF}SORTINO_WARNING", f"{_OF}SORTINO_CRITICAL", False),
    "sl_pct": Shown("Trades ended by the stop-loss", "percentunit", f"{_OF}SL_WARNING", f"{_OF}SL_CRITICAL"),
    "timeout_pct": Shown(
        "Trades ended by the horizon", "percentunit", f"{_OF}TIMEOUT_WARNING", f"{_OF}TIMEOUT_CRITICAL"
    ),
    "model_freshness": Shown(
        "Age of the last useful model", "d", f"{_OF}FRESHNESS_WARNING_DAYS", f"{_OF}FRESHNESS_CRITICAL_DAYS"
    ),
    "challenger_count": Shown(
        "Challengers that wait", "short", f"{_OF}CHALLENGERS_WARNING", f"{_OF}CHALLENGERS_CRITICAL"
    ),
    "candle_freshness": Shown(
        "Age of the last closed candle",
        "h",
        "CVN_FRESHNESS_CANDLES_WARNING_HOURS",
        "CVN_FRESHNESS_CANDLES_CRITICAL_HOURS",
    ),
}


def signal_panel(name: str, width: int = 8) -> build.Panel:
    """The panel of one signal.

    Args:
        name: A signal of `SHOWN`, or infra_health, which has levels and no value to draw.
        width: Columns.
    """
    signal = SIGNALS[name]
    description = f"{name}: {signal.meaning}. A point whenever its level changes, and one an hour."
    chosen = "" if signal.scope is Scope.PLATFORM else f" and subject in (${{{_chosen_by(signal.scope)}:sqlstring}})"
    if name not in SHOWN:
        sql = f"""
            select observed_at as time, label as metric, level as value
            from ops_signal_points
            where signal = '{name}' and $__timeFilter(observed_at){chosen}
            order by observed_at
        """
        return bands(f"{name} over time", description, sql, texts=LEVELS, width=width, height=8)
    sql = f"""
        select $__timeGroupAlias(observed_at, $__interval), label as metric, avg(value) as value
        from ops_signal_points
        where signal = '{name}' and $__timeFilter(observed_at){chosen}
        group by 1, 2
        order by 1
    """
    shown = SHOWN[name]
    return lines(shown.title, description, sql, unit=shown.unit, width=width, thresholds=shown.thresholds())


def _chosen_by(scope: Scope) -> str:
    return "job" if scope is Scope.JOB else "crypto"
