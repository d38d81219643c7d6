"""`cvntrade backfill`: start a backfill of a group or of single cryptos, and follow it to its result."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rich.console import Console
from rich.markup import escape

from cvntrade_assets.commands.connection import Connection
from cvntrade_assets.commands.dagster_api import BackfillState, DagsterApi
from cvntrade_assets.commands.errors import CommandError
from cvntrade_assets.commands.factors import print_warnings
from cvntrade_assets.commands.progress import StageProgress, pause_after
from cvntrade_assets.commands.require_rollout import require_rollout
from cvntrade_assets.commands.results import print_failures, print_results
from cvntrade_assets.local.processes import StopRequested
from cvntrade_assets.operations.factors import variant_tags
from cvntrade_assets.operations.provenance import FORCE_TAG
from cvntrade_assets.operations.sessions import GROUP_TAG
from cvntrade_assets.settings import Settings, SettingsError
from resources.guardrail_log import Occasion
from resources.run_settings import record_refusal

SUCCEEDED, FAILED, INTERRUPTED = 0, 1, 130
ENDED = frozenset({"COMPLETED", "COMPLETED_SUCCESS", "COMPLETED_FAILED", "FAILED", "CANCELED"})


@dataclass(frozen=True)
class Request:
    """What to backfill: a group or cryptos, which assets, what the runs set and which variants they are given."""

    group: str | None
    cryptos: Sequence[str]
    select: str | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    force: bool = False
    variants: Mapping[str, str] = field(default_factory=dict)


def chosen_cryptos(connection: Connection, request: Request) -> tuple[str, ...]:
    """The cryptos that a request means.

    Raises:
        CommandError: neither or both of group and cryptos were given, or a crypto is in no group.
        UnknownGroupError: the group does not exist.
    """
    if bool(request.group) == bool(request.cryptos):
        raise CommandError("give either --group G or --crypto C (repeat it for several), and not both.")
    warehouse = connection.warehouse()
    if request.group:
        return warehouse.group(request.group)
    known = {crypto for members in warehouse.universes().values() for crypto in members}
    unknown = [crypto for crypto in request.cryptos if crypto not in known]
    if unknown:
        raise CommandError(
            f"{', '.join(unknown)} is in no group of cvntrade_universes; known: {', '.join(sorted(known)) or 'none'}. "
            "Add it with `cvntrade universe set GROUP CRYPTO…`."
        )
    return tuple(dict.fromkeys(request.cryptos))


def resolve_or_record(connection: Connection, request: Request) -> Settings:
    """The settings that the runs would have.

    Raises:
        CommandError: settings or variants are wrong; that is on record, and nothing else was touched.
    """
    began = time.perf_counter()
    try:
        return connection.resolve_settings(request.settings, request.variants)
    except SettingsError as error:
        occasion = Occasion(None, None, None, request.variants, "command")
        seconds = time.perf_counter() - began
        raise CommandError(record_refusal(connection.warehouse(), occasion, error, seconds)) from None


def launch(connection: Connection, request: Request, settings: Settings) -> tuple[str, tuple[str, ...], list[str]]:
    """Start the backfill through Dagster; returns its id, its cryptos and its assets, upstream first."""
    cryptos = chosen_cryptos(connection, request)
    api = connection.api()
    assets = api.assets(on_demand=request.select is not None)
    if request.select:
        # Dagster's own selection syntax needs the graph, whose import is only paid for here.
        from cvntrade_assets.commands.selection import resolve_selection

        chosen = resolve_selection(request.select)
        assets = [name for name in assets if name in chosen]
    for crypto in cryptos:
        api.add_partition(crypto)
    tags = variant_tags(settings.variants) | ({GROUP_TAG: request.group} if request.group else {})
    if request.force:
        tags[FORCE_TAG] = "true"
    title = f"{request.group or ', '.join(cryptos)}: {request.select or 'all assets'}"
    backfill_id = api.launch_backfill(assets, cryptos, request.settings, tags, title, settings.variants)
    return backfill_id, cryptos, assets


def follow(
    api: DagsterApi, backfill_id: str, cryptos: Sequence[str], assets: Sequence[str], console: Console
) -> BackfillState:
    """Draw a bar per stage until the backfill ended; returns its last state."""
    with StageProgress(assets, len(cryptos), console) as progress:
        while True:
            asked_at = time.monotonic()
            state = api.backfill(backfill_id)
            took = time.monotonic() - asked_at
            progress.update(state.runs)
            if state.status in ENDED:
                return state
            time.sleep(pause_after(took))


def backfill(connection: Connection, request: Request, *, wait: bool, console: Console) -> int:
    """Start a backfill; with `wait`, follow it and show its result.

    Returns:
        0; 1 when a part of it failed; 130 when Ctrl-C ended the following, which the backfill survives.

    Raises:
        CommandError: settings or variants are wrong, or a factor lacks its rollout; that is on record, and nothing
            else was touched.
    """
    settings = resolve_or_record(connection, request)
    print_warnings(settings, console)
    require_rollout(connection.warehouse(), settings)
    backfill_id, cryptos, assets = launch(connection, request, settings)
    api = connection.api()
    link = f"{api.url}/runs/b/{backfill_id}"
    console.print(escape(f"Backfill {backfill_id} of {', '.join(cryptos)}: {link}"))
    if not wait:
        return SUCCEEDED
    try:
        state = follow(api, backfill_id, cryptos, assets, console)
    except StopRequested:
        # `cvntrade up` stops, and the whole stack with it.
        raise
    except KeyboardInterrupt:
        console.print(escape(f"Backfill {backfill_id} goes on; it can be watched and cancelled at {link}"))
        return INTERRUPTED
    print_results(api, state, cryptos, console)
    return SUCCEEDED if print_failures(api, state, cryptos, console) else FAILED
