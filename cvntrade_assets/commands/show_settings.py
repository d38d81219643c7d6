"""`cvntrade settings show`: every key's value in force, its layer, default and meaning."""

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cvntrade_assets.settings import HYPERPARAMETERS, Layer, Settings


def show_settings(settings: Settings, console: Console) -> None:
    """Print a table of all settings by stage, then the hyperparameter family."""
    table = Table("key", "value", "layer", "default", "expected", "meaning", title="Settings")
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
            escape(item.setting.meaning),
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
