"""The `cvntrade` command line: reads arguments, calls one function each, turns errors into a message and code 2."""

import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from cvntrade_assets.commands.errors import CommandError

app = typer.Typer(no_args_is_help=True, add_completion=False, help="CVNTrade: candles to calibrated models, operated.")
universe = typer.Typer(no_args_is_help=True, help="Which cryptos exist, and in which groups.")
settings = typer.Typer(no_args_is_help=True, help="The CVN_* settings and where each value comes from.")
app.add_typer(universe, name="universe")
app.add_typer(settings, name="settings")

# A pipe or a log has no width; 120 columns keep tables whole.
console = Console(width=None if sys.stdout.isatty() else 120)

Group = Annotated[str | None, typer.Option("--group", "-g", help="Every crypto of this group.")]
Cryptos = Annotated[list[str] | None, typer.Option("--crypto", "-c", help="A crypto; repeat for several.")]
Select = Annotated[
    str | None,
    typer.Option("--select", "-s", help="Assets, in Dagster's syntax: model, training_set+, +features."),
]
Pairs = Annotated[list[str] | None, typer.Option("--set", help="KEY=VALUE for these runs only; repeat for several.")]
Force = Annotated[bool, typer.Option("--force", help="Recompute although nothing changed.")]


@app.command()
def up(
    run: Annotated[
        bool, typer.Option("--run/--no-run", help="Backfill once everything is up, and show the result.")
    ] = False,
    group: Group = None,
    crypto: Cryptos = None,
    pairs: Pairs = None,
    market: Annotated[str | None, typer.Option(help="Make this the stack's market: simulated or binance.")] = None,
    archive: Annotated[
        str | None, typer.Option(help="With --market binance: folder or address of its archive.")
    ] = None,
    as_of: Annotated[
        str | None,
        typer.Option(help="With --market: what counts as now; simulated stops at the last midnight without it."),
    ] = None,
    exit_when_done: Annotated[bool, typer.Option(help="Stop everything once the result is shown.")] = False,
) -> None:
    """Start everything on this machine: PostgreSQL, Dagster's UI and daemon, MLflow. Ctrl-C stops it all."""
    from cvntrade_assets.commands.stack_market import StackMarket
    from cvntrade_assets.commands.up import UpRequest
    from cvntrade_assets.commands.up import up as start

    idle = {"--group": group, "--crypto": crypto, "--set": pairs, "--exit-when-done": exit_when_done}
    if not run and any(idle.values()):
        given = ", ".join(name for name, value in idle.items() if value)
        raise CommandError(f"{given} says what to do with a backfill, and none is asked for: add --run.")
    chosen = StackMarket(market, archive, as_of) if market else None
    if chosen is None and (archive or as_of):
        raise CommandError("--archive and --as-of go with --market.")
    request = UpRequest(run, group, tuple(crypto or ()), read_pairs(pairs), chosen, exit_when_done)
    raise typer.Exit(start(request, console))


@app.command()
def backfill(
    group: Group = None,
    crypto: Cryptos = None,
    select: Select = None,
    pairs: Pairs = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would run, and why.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Follow the backfill and show its result.")] = False,
    force: Force = False,
) -> None:
    """Build assets for a group or for single cryptos, one run a crypto, through Dagster's own backfill."""
    from cvntrade_assets.commands.backfill import Request
    from cvntrade_assets.commands.backfill import backfill as start
    from cvntrade_assets.commands.connection import connect

    if dry_run:
        plan(group, crypto, select, pairs, force)
        return
    request = Request(group, tuple(crypto or ()), select, read_pairs(pairs), force)
    raise typer.Exit(start(connect(), request, wait=wait, console=console))


@app.command()
def plan(
    group: Group = None,
    crypto: Cryptos = None,
    select: Select = None,
    pairs: Pairs = None,
    force: Force = False,
) -> None:
    """Show what a backfill would run and why: missing, stale, forced or refused."""
    from cvntrade_assets.commands import plan as planner
    from cvntrade_assets.commands.backfill import Request, chosen_cryptos
    from cvntrade_assets.commands.connection import connect
    from cvntrade_assets.commands.selection import resolve_selection

    connection = connect()
    connection.enter()
    request = Request(group, tuple(crypto or ()), select, read_pairs(pairs), force)
    resolved = connection.resolve_settings(request.settings)
    chosen = resolve_selection(select) if select else None
    plans = planner.plan(connection, chosen_cryptos(connection, request), chosen, resolved, force=force)
    planner.print_plan(plans, console)


@universe.command("list")
def universe_list() -> None:
    """Print every group with its cryptos."""
    from cvntrade_assets.commands.connection import connect
    from cvntrade_assets.commands.universe import list_universe

    list_universe(connect(), console)


@universe.command("set")
def universe_set(
    group: Annotated[str, typer.Argument(help="Name of the group.")],
    cryptos: Annotated[list[str] | None, typer.Argument(help="Its cryptos; none removes the group.")] = None,
) -> None:
    """Make a group exactly these cryptos."""
    from cvntrade_assets.commands.connection import connect
    from cvntrade_assets.commands.universe import list_universe, set_universe

    connection = connect()
    set_universe(connection, group, cryptos or [])
    list_universe(connection, console)


@settings.command("show")
def settings_show(pairs: Pairs = None) -> None:
    """Print every key's value, the layer that it comes from, its default and meaning."""
    from cvntrade_assets.commands.connection import connect
    from cvntrade_assets.commands.show_settings import show_settings

    show_settings(connect().resolve_settings(read_pairs(pairs)), console)


def read_pairs(pairs: list[str] | None) -> dict[str, str]:
    """KEY=VALUE texts as a mapping.

    Raises:
        CommandError: a text without `=`, or a key given twice.
    """
    read: dict[str, str] = {}
    for pair in pairs or []:
        key, separator, value = pair.partition("=")
        if not separator or not key:
            raise CommandError(f"--set {pair!r}: expected KEY=VALUE, such as CVN_CUSUM_THRESHOLD_H=2.5.")
        if key in read:
            raise CommandError(f"--set {key} is given twice: {read[key]!r} and {value!r}; give it once.")
        read[key] = value
    return read


def main() -> None:
    """Run the command line; an error that a user can mend is one message and exit code 2."""
    try:
        app()
    except _user_errors() as error:
        # Escaped: a message may hold brackets, as IPv6 addresses and lists do.
        message = f"[red]cvntrade:[/red] {escape(str(error))}"
        Console(stderr=True).print(message, highlight=False, soft_wrap=True)
        sys.exit(2)


def _user_errors() -> tuple[type[Exception], ...]:
    from cvntrade_assets.local.addresses import AlreadyRunningError
    from cvntrade_assets.local.options import OptionError
    from cvntrade_assets.settings import SettingsError
    from resources.warehouse import UniverseNameError, UnknownGroupError, WarehouseError

    ours = (CommandError, SettingsError, AlreadyRunningError, OptionError)
    return (*ours, UniverseNameError, UnknownGroupError, WarehouseError)
