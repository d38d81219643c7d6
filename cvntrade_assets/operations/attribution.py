"""Whose choice a value is: which settings can have caused it, and which layers those came from."""

from collections.abc import Mapping
from dataclasses import dataclass

from cvntrade_assets.hyperparameters import HYPERPARAMETERS, hyperparameter_key
from cvntrade_assets.market.candles import timeframe_delta
from cvntrade_assets.operations.guardrails import CUSUM_KEYS, GUARDRAILS, ROW_KEYS
from cvntrade_assets.settings import Layer, Settings

# What is usual, in canonical text. Written down a second time on purpose: a declared default that changed by mistake
# is then unusual too, and nobody's explicit choice.
USUAL: Mapping[str, str] = {
    "CVN_CUSUM_TRAINING_ENABLED": "1",
    "CVN_CUSUM_FILTER_MODE": "event",
    "CVN_CUSUM_THRESHOLD_H": "3.0",
    "CVN_DEFAULT_HISTORY_MONTHS": "24",
    "CVN_TIMEFRAME": "30m",
    "CVN_SLICE_TRAIN": "0.8",
    "CVN_MAX_FEATURES": "60",
    "CVN_DEFAULT_N_TRIALS": "50",
    "CVN_TUNING_FOLDS": "3",
    "CVN_TUNING_WORKERS": "2",
    "CVN_CLEANLAB": "off",
    "CVN_BINARY_CLASSIFICATION": "1",
    "CVN_FOCAL_LOSS": "0",
}
# Keys whose value can be unusual and yet make less of everything; the sign says which way means more.
_MORE: Mapping[str, int] = {
    "CVN_CUSUM_THRESHOLD_H": -1,
    "CVN_DEFAULT_HISTORY_MONTHS": 1,
    "CVN_TIMEFRAME": -1,
    "CVN_SLICE_TRAIN": 1,
    "CVN_MAX_FEATURES": 1,
    "CVN_DEFAULT_N_TRIALS": 1,
    "CVN_TUNING_FOLDS": 1,
    "CVN_TUNING_WORKERS": 1,
}
# The one guardrail that is broken by less.
_FLOOR = "rows_enough"
# The hyperparameters that make a fit slow, and which way.
_SLOW: Mapping[str, int] = {
    "num_boost_round": 1,
    "early_stopping_rounds": 1,
    "learning_rate": -1,
    "max_depth": 1,
    "max_bin": 1,
}


@dataclass(frozen=True)
class Attribution:
    """Which settings are behind a value.

    Attributes:
        keys: Those that can have caused it, the unusual ones if there is any.
        explicit: Whether a variant or the run chose it: some key is unusual, and every unusual one was chosen. Who
            spells out what is usual anyway has chosen nothing that is not.
        layer: The layers of the keys, weakest first, joined by commas; empty when there is no key.
        told: The keys with value and layer, for messages.
        unchosen: Of the unusual keys, those that neither a variant nor the run set.
        unusual: Whether any of the keys is.
    """

    keys: tuple[str, ...]
    explicit: bool
    layer: str
    told: str
    unchosen: tuple[str, ...] = ()
    unusual: bool = False


def attribute(guardrail: str, settings: Settings) -> Attribution:
    """Whose choice the value is that a guardrail judges."""
    causes = _causes(guardrail, settings)
    unusual = [key for key in causes if _is_unusual(key, settings, any_way=guardrail == _FLOOR)]
    keys = tuple(unusual or causes)
    layers = [settings.layer(key) for key in keys]
    unchosen = tuple(key for key in unusual if not settings.is_explicit(key))
    told = ", ".join(f"{key}={settings.text(key)} (layer {settings.layer(key)})" for key in keys)
    explicit = bool(unusual) and not unchosen
    layer = ", ".join(layer for layer in Layer if layer in layers)
    return Attribution(keys, explicit, layer, told, unchosen, bool(unusual))


def _is_unusual(key: str, settings: Settings, *, any_way: bool) -> bool:
    """Whether a key's value is not the usual one, and can make more of what is limited."""
    text, usual = settings.text(key), USUAL.get(key, "")
    if text == usual or any_way or key not in _MORE:
        return text != usual
    return _MORE[key] * (_size(key, text) - _size(key, usual)) > 0


def _size(key: str, text: str) -> float:
    return timeframe_delta(text).total_seconds() if key == "CVN_TIMEFRAME" else float(text)


def _causes(guardrail: str, settings: Settings) -> list[str]:
    """The guardrail's keys that can have caused its value under these settings."""
    cusum = _cusum_causes(settings)
    causes: list[str] = []
    for key in GUARDRAILS[guardrail].keys:
        if key.endswith("*"):
            causes += _pins(settings)
        elif key not in ROW_KEYS or key in cusum:
            causes.append(key)
    return causes


def _cusum_causes(settings: Settings) -> tuple[str, ...]:
    """What decides how many rows there are: the filter when it is off or turned around, else all that feeds it."""
    if not settings.flag("CVN_CUSUM_TRAINING_ENABLED"):
        return ("CVN_CUSUM_TRAINING_ENABLED",)
    if settings.text("CVN_CUSUM_FILTER_MODE") == "stable":
        return ("CVN_CUSUM_FILTER_MODE",)
    return ("CVN_CUSUM_THRESHOLD_H", *(key for key in ROW_KEYS if key not in CUSUM_KEYS))


def _pins(settings: Settings) -> list[str]:
    """The pinned hyperparameters that make a fit slower than their default does."""
    usual = {item.name: item.default for item in HYPERPARAMETERS["XGBOOST"]}
    timeframe = settings.text("CVN_TIMEFRAME")
    return [
        hyperparameter_key("XGBOOST", timeframe, name)
        for name, value in settings.pinned().items()
        if _SLOW.get(name, 0) * (value - usual[name]) > 0
    ]
