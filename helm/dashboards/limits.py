"""Limits and the colours around them: a panel is coloured by the settings' defaults.

Grafana draws a colour from a limit on. Where a setting's limit belongs to the other side, the level that the signals
carry decides, which is shown beside it.
"""

from collections.abc import Mapping

from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.models import dashboard as model

from cvntrade_assets.settings import SETTINGS

GREEN, YELLOW, ORANGE, RED, GREY, BLUE = "green", "yellow", "orange", "red", "purple", "blue"

STATES: Mapping[str, str] = {"GREEN": GREEN, "YELLOW": YELLOW, "ORANGE": ORANGE, "RED": RED, "UNKNOWN": GREY}
LEVELS: Mapping[str, str] = {"ok": GREEN, "warning": YELLOW, "critical": RED, "unknown": GREY}
SEVERITIES: Mapping[str, str] = {"P0": RED, "P1": ORANGE, "P2": YELLOW, "P3": BLUE}
MARKETS: Mapping[str, str] = {"binance": GREEN, "simulated": ORANGE}
STATUSES: Mapping[str, str] = {
    "SUCCESS": GREEN,
    "STARTED": BLUE,
    "STARTING": BLUE,
    "CANCELING": YELLOW,
    "CANCELED": YELLOW,
    "FAILURE": RED,
}
MODEL_STATES: Mapping[str, str] = {
    "candidate": BLUE,
    "challenger": YELLOW,
    "champion": GREEN,
    "quarantined": RED,
    "archived": GREY,
}
YES_IS_BAD: Mapping[str, str] = {"true": RED, "false": GREEN}
YES_IS_GOOD: Mapping[str, str] = {"true": GREEN, "false": RED}

# What a simulated market's numbers are marked with wherever they stand.
_SHOWN_AS = {"simulated": "SIMULATED"}


def limit(key: str, scale: float = 1.0) -> float:
    """The default of a setting that holds one number, in the panel's unit.

    Args:
        key: The setting.
        scale: What one of its units is in the panel's: 60 for minutes in seconds.
    """
    return scale * float(SETTINGS[key].default)


def rising(warning: float | None, critical: float | None) -> build.ThresholdsConfig:
    """Green, then yellow from `warning` and red from `critical` on; None leaves one out."""
    steps = [
        (None, GREEN),
        *((value, colour) for value, colour in ((warning, YELLOW), (critical, RED)) if value is not None),
    ]
    return _thresholds(steps)


def falling(warning: float, critical: float) -> build.ThresholdsConfig:
    """Red below `critical`, yellow from there on, green from `warning` on."""
    return _thresholds([(None, RED), (critical, YELLOW), (warning, GREEN)])


def none() -> build.ThresholdsConfig:
    """No limit: what is shown is neither good nor bad."""
    return _thresholds([(None, BLUE)])


def colours(of: Mapping[str, str]) -> list[model.ValueMapping]:
    """Texts, each with its colour."""
    return [
        model.ValueMap(
            {
                text: model.ValueMappingResult(text=_SHOWN_AS.get(text, text), color=colour, index=place)
                for place, (text, colour) in enumerate(of.items())
            }
        )
    ]


def _thresholds(steps: list[tuple[float | None, str]]) -> build.ThresholdsConfig:
    made = [model.Threshold(value=value, color=colour) for value, colour in steps]
    return build.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps(made)
