"""Which assets a selection string means, in Dagster's own selection syntax."""

import dagster as dg

from cvntrade_assets.commands.errors import CommandError
from cvntrade_assets.definitions import defs


def resolve_selection(selection: str) -> set[str]:
    """Names of the selected assets; commas join several selections.

    Raises:
        CommandError: the syntax is wrong, or nothing is selected.
    """
    graph = defs.resolve_asset_graph()
    known = ", ".join(sorted(key.to_user_string() for key in graph.get_all_asset_keys()))
    chosen: set[str] = set()
    for part in selection.split(","):
        try:
            keys = dg.AssetSelection.from_string(part.strip()).resolve(graph)
        except (dg.DagsterError, ValueError) as error:
            raise CommandError(f"--select {part.strip()!r} cannot be read: {error}. Assets: {known}.") from error
        if not keys:
            raise CommandError(
                f"--select {part.strip()!r} selects nothing. Assets: {known}; `model+` adds what is downstream."
            )
        chosen |= {key.to_user_string() for key in keys}
    return chosen
