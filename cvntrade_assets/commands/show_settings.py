"""`cvntrade settings show`: every key's value in force, its layer, default and meaning."""

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cvntrade_assets.settings import EVERY_LAYER, HYPERPARAMETERS, Layer, Setting, Settings


def show_settings(settings: Settings, console: Console) -> None:
    """Print a table of all settings by stage, then the hyperparameter family."""
    chosen = ", ".join(f"{factor}={variant}" for factor, variant in settings.variants.items())
    title = f"Settings with {chosen}" if chosen else "Settings"
    table = Table("key", "value", "layer", "default", "expected", "meaning", title=title)
    table.columns[0].no_wrap = True
    for column in table.columns:
        column.overflow = "fold"
    stage = None
    for item in settings:
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
    family = Table(
        "parameter", "range", "meaning", title="CVN_HPO_<MODEL>_<TIMEFRAME>_<PARAMETER>: pin a hyperparameter"
    )
    for model, parameters in HYPERPARAMETERS.items():
        for parameter in parameters:
            searched = "" if parameter.searched else f" (not searched: {parameter.default:g} unless pinned)"
            family.add_row(
                f"{model} {parameter.name.upper()}",
                escape(parameter.kind.expected),
                escape(parameter.meaning + searched),
            )
    console.print(family)


def _meaning(setting: Setting) -> str:
    return setting.meaning if setting.layers == EVERY_LAYER else f"{setting.meaning}; set by {setting.set_by} only"
