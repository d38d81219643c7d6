"""Which stages of the chain a selection string means, in Dagster's own selection syntax."""

import dagster as dg

from cvntrade_assets.commands.errors import CommandError
from cvntrade_assets.definitions import defs


def resolve_selection(selection: str) -> set[str]:
    """Names of the selected stages; commas join several selections.

    A stage that only runs when asked for is selected where its name stands in the text, not by `*` or `model+`.

    Raises:
        CommandError: the syntax is wrong, or nothing is selected.
    """
    graph = defs.resolve_asset_graph()
    stages = stage_keys(on_demand=True)
    usual = set(stage_keys())
    known = ", ".join(sorted(key.to_user_string() for key in stages))
    chosen: set[str] = set()
    for part in selection.split(","):
        try:
            found = dg.AssetSelection.from_string(part.strip()).resolve(graph) & set(stages)
        except (dg.DagsterError, ValueError) as error:
            raise CommandError(f"--select {part.strip()!r} cannot be read: {error}. Assets: {known}.") from error
        keys = {key for key in found if key in usual or key.to_user_string() in part}
        if not keys:
            raise CommandError(
                f"--select {part.strip()!r} selects nothing. Assets: {known}; `model+` adds what is downstream."
            )
        chosen |= {key.to_user_string() for key in keys}
    return chosen


def stage_keys(*, on_demand: bool = False) -> list[dg.AssetKey]:
    """The assets that one crypto's run builds, upstream first; others, such as a report on the operations, are none.

    Args:
        on_demand: With those that only run when asked for.
    """
    graph = defs.resolve_asset_graph()
    metadata = {key: graph.get(key).metadata for key in graph.toposorted_asset_keys}
    return [key for key, said in metadata.items() if "settings" in said and (on_demand or "on_demand" not in said)]
