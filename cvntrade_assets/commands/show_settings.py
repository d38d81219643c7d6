"""`cvntrade settings show`: every key's value in force, its layer, default and meaning."""

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cvntrade_assets.hyperparameters import HYPERPARAMETERS, MODELS, Hyperparameter, hyperparameter_key
from cvntrade_assets.settings import EVERY_LAYER, HYPERPARAMETER_SETTINGS, SETTINGS, Layer, Setting, Settings


def show_settings(settings: Settings, console: Console) -> None:
    """Print a table of all settings by stage, then the hyperparameters of the timeframe in force."""
    chosen = ", ".join(f"{factor}={variant}" for factor, variant in settings.variants.items())
    title = f"Settings with {chosen}" if chosen else "Settings"
    table = Table("key", "value", "layer", "default", "expected", "meaning", title=title)
    table.columns[0].no_wrap = True
    for column in table.columns:
        column.overflow = "fold"
    stage = None
    for item in (settings[name] for name in SETTINGS):
        if item.setting.stage != stage:
            stage = item.setting.stage
            table.add_section()
            table.add_row(f"[bold]{stage}[/bold]")
        layer = str(item.layer) if item.layer is Layer.DEFAULT else f"[yellow]{item.layer}[/yellow]"
        table.add_row(
            item.setting.name,
            escape(item.text),
            layer,
            escape(item.setting.default),
            escape(item.setting.kind.expected),
            escape(_meaning(item.setting)),
        )
    console.print(table)
    console.print(_family(settings))


def _family(settings: Settings) -> Table:
    """Every hyperparameter as a run of this timeframe has it, model by model."""
    timeframe = settings.text("CVN_TIMEFRAME")
    title = (
        f"CVN_HPO_<MODEL>_<TIMEFRAME>_<PARAMETER>, here of {timeframe}; also _LOW and _HIGH of what is searched, which "
        "a value pins"
    )
    table = Table("parameter", "value", "layer", "default", "expected", "meaning", title=title)
    table.columns[0].no_wrap = True
    for model, parameters in HYPERPARAMETERS.items():
        table.add_section()
        table.add_row(f"[bold]{model}[/bold]", "", "", "", "", escape(MODELS[model]))
        for parameter in parameters:
            key = hyperparameter_key(model, timeframe, parameter.name)
            layer = settings.layer(key)
            table.add_row(
                f"{model} {parameter.name.upper()}",
                escape(_in_force(settings, key, parameter)),
                str(layer) if layer is Layer.DEFAULT else f"[yellow]{layer}[/yellow]",
                escape(HYPERPARAMETER_SETTINGS[key].default or "searched"),
                escape(parameter.kind.expected),
                escape(parameter.meaning),
            )
    return table


def _in_force(settings: Settings, key: str, parameter: Hyperparameter) -> str:
    """The value, or where tuning looks for one."""
    text = settings[key].text if settings.names(key) else ""
    if text or not parameter.searched:
        return text or HYPERPARAMETER_SETTINGS[key].default
    low, high = settings.search_bounds(parameter.name)
    return f"searched {low:g} to {high:g}"


def _meaning(setting: Setting) -> str:
    return setting.meaning if setting.layers == EVERY_LAYER else f"{setting.meaning}; set by {setting.set_by} only"
