"""The `cvntrade` command line: reads arguments, calls one function each, turns errors into a message and code 2."""

import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from cvntrade_assets.commands.errors import CommandError
from cvntrade_assets.operations.masking import shown
from cvntrade_assets.operations.pipelines import PIPELINES
from resources.secrets import process_mask

# Typer's own way to show an exception knows no mask.
app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="CVNTrade: candles to calibrated models, operated.",
)
universe = typer.Typer(no_args_is_help=True, help="Which cryptos exist, and in which groups.")
settings = typer.Typer(no_args_is_help=True, help="The CVN_* settings and where each value comes from.")
registry = typer.Typer(no_args_is_help=True, help="Registered models, their states and what changed them.")
incident = typer.Typer(no_args_is_help=True, help="The incident log: what happened, how long it took, what it taught.")
app.add_typer(universe, name="universe")
app.add_typer(settings, name="settings")
app.add_typer(registry, name="registry")
app.add_typer(incident, name="incident")

# A pipe or a log has no width; 120 columns keep tables whole.
console = Console(width=None if sys.stdout.isatty() else 120)

Group = Annotated[str | None, typer.Option("--group", "-g", help="Every crypto of this group.")]
Cryptos = Annotated[list[str] | None, typer.Option("--crypto", "-c", help="A crypto; repeat for several.")]
Select = Annotated[
    str | None,
    typer.Option("--select", "-s", help="Assets, in Dagster's syntax: model, training_set+, +features."),
]
Pairs = Annotated[
    list[str] | None,
    typer.Option("--set", help="KEY=VALUE for these runs only, e.g. sl_range=1.2,1.5; repeat for several."),
]
Factors = Annotated[
    list[str] | None, typer.Option("--factor", help="A factor, with --variant; repeat both to combine several.")
]
Variants = Annotated[list[str] | None, typer.Option("--variant", help="The variant of the --factor in the same place.")]
Force = Annotated[bool, typer.Option("--force", help="Recompute although nothing changed.")]
Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Follow the runs and show what they came to.")]


@app.command()
def up(
    run: Annotated[
        bool, typer.Option("--run/--no-run", help="Backfill once everything is up, and show the result.")
    ] = False,
    pipeline: Annotated[
        str | None,
        typer.Option("--pipeline", help=f"With --run, this in place of the backfill: {', '.join(PIPELINES)}."),
    ] = None,
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

    named = {"--pipeline": pipeline, "--group": group, "--crypto": crypto, "--set": pairs}
    idle = [name for name, value in {**named, "--exit-when-done": exit_when_done}.items() if value]
    if not run and idle:
        raise CommandError(f"{', '.join(idle)} says what to run, and nothing is to be run: add --run.")
    if pipeline is not None and pipeline not in PIPELINES:
        raise CommandError(f"--pipeline {shown(pipeline)!r} does not exist; there are {', '.join(PIPELINES)}.")
    chosen = StackMarket(market, archive, as_of) if market else None
    if chosen is None and (archive or as_of):
        raise CommandError("--archive and --as-of go with --market.")
    request = UpRequest(run, group, tuple(crypto or ()), read_pairs(pairs), chosen, exit_when_done, pipeline)
    raise typer.Exit(start(request, console))


@app.command()
def backfill(
    group: Group = None,
    crypto: Cryptos = None,
    select: Select = None,
    pairs: Pairs = None,
    factor: Factors = None,
    variant: Variants = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would run, and why.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Follow the backfill and show its result.")] = False,
    force: Force = False,
) -> None:
    """Build assets for a group or for single cryptos, one run a crypto, through Dagster's own backfill."""
    from cvntrade_assets.commands.backfill import Request
    from cvntrade_assets.commands.backfill import backfill as start
    from cvntrade_assets.commands.connection import connect

    if dry_run:
        plan(group, crypto, select, pairs, factor, variant, force)
        return
    request = Request(
        group, tuple(crypto or ()), select, read_pairs(pairs), force, variants=read_variants(factor, variant)
    )
    raise typer.Exit(start(connect(), request, wait=wait, console=console))


@app.command()
def plan(
    group: Group = None,
    crypto: Cryptos = None,
    select: Select = None,
    pairs: Pairs = None,
    factor: Factors = None,
    variant: Variants = None,
    force: Force = False,
) -> None:
    """Show what a backfill would run and why: missing, stale, forced or refused."""
    from cvntrade_assets.commands import plan as planner
    from cvntrade_assets.commands.backfill import Request, chosen_cryptos
    from cvntrade_assets.commands.connection import connect
    from cvntrade_assets.commands.factors import print_warnings
    from cvntrade_assets.commands.selection import resolve_selection

    connection = connect()
    connection.enter()
    request = Request(
        group, tuple(crypto or ()), select, read_pairs(pairs), force, variants=read_variants(factor, variant)
    )
    resolved = connection.resolve_settings(request.settings, request.variants)
    print_warnings(resolved, console)
    chosen = resolve_selection(select) if select else None
    plans = planner.plan(connection, chosen_cryptos(connection, request), chosen, resolved, console, force=force)
    planner.print_plan(plans, console)


@app.command()
def preflight(
    group: Group = None,
    crypto: Cryptos = None,
    factor: Factors = None,
    variant: Variants = None,
    pairs: Pairs = None,
) -> None:
    """Count what training would see, and judge it, without a run; a --factor alone stands for each of its variants."""
    from cvntrade_assets.commands import preflight as judge
    from cvntrade_assets.commands.backfill import Request
    from cvntrade_assets.commands.connection import connect

    chosen = read_variants(factor, variant) if variant else {}
    choices = judge.variants_to_judge(factor or [], chosen)
    connection = connect()
    connection.enter()
    request = Request(group, tuple(crypto or ()), None, read_pairs(pairs))
    raise typer.Exit(judge.run_preflight(connection, request, choices, console))


@app.command()
def factors() -> None:
    """Print every factor: its variants with the keys that they set, and whether a staged rollout is required."""
    from cvntrade_assets.commands.factors import print_factors

    print_factors(console)


@app.command()
def overrides(
    group: Group = None,
    crypto: Cryptos = None,
    limit: Annotated[int, typer.Option("--limit", help="At most so many, newest first.")] = 50,
) -> None:
    """Print every guardrail that was overridden: when, in which run, what was found, why, and who approved."""
    from cvntrade_assets.commands.connection import connect
    from cvntrade_assets.commands.overrides import list_overrides

    list_overrides(connect(), group, tuple(crypto or ()), limit, console)


@app.command()
def rollout(
    factor: Annotated[str, typer.Option("--factor", help="The factor to roll out.")],
    group: Annotated[str, typer.Option("--group", "-g", help="The group to roll it out on.")],
    variant: Annotated[
        list[str] | None, typer.Option("--variant", help="Only this variant; repeat for several. All without it.")
    ] = None,
    pairs: Pairs = None,
    restart: Annotated[bool, typer.Option("--restart", help="Begin anew although stages have passed.")] = False,
) -> None:
    """Take a factor through preflight, canary and full; a gate that fails stops it and says why."""
    from cvntrade_assets.commands.connection import connect
    from cvntrade_assets.commands.rollout import RolloutRequest
    from cvntrade_assets.commands.rollout import rollout as start

    request = RolloutRequest(factor, group, tuple(variant or ()), read_pairs(pairs), restart)
    raise typer.Exit(start(connect(), request, console))


def _pipeline_command(name: str) -> Callable[..., None]:
    """The command that starts a pipeline."""

    def start(
        group: Group = None,
        crypto: Cryptos = None,
        pairs: Pairs = None,
        factor: Factors = None,
        variant: Variants = None,
        force: Force = False,
        wait: Wait = True,
    ) -> None:
        from cvntrade_assets.commands.backfill import Request
        from cvntrade_assets.commands.connection import connect
        from cvntrade_assets.commands.pipelines import run_pipeline

        variants = read_variants(factor, variant)
        request = Request(group, tuple(crypto or ()), None, read_pairs(pairs), force, variants)
        raise typer.Exit(run_pipeline(connect(), name, request, wait=wait, console=console))

    return start


for _pipeline in PIPELINES.values():
    app.command(_pipeline.name, help=_pipeline.meaning)(_pipeline_command(_pipeline.name))


@app.command()
def status() -> None:
    """Show how every pipeline stands: what failed, why, the command that resumes just that; the latest verdicts."""
    from cvntrade_assets.commands.connection import connect
    from cvntrade_assets.commands.status import status as tell

    raise typer.Exit(tell(connect(), console))


@app.command()
def alerts() -> None:
    """Print every open alert, who is at it, and every message that could not be sent yet."""
    from cvntrade_assets.commands.alerts import list_alerts
    from cvntrade_assets.commands.connection import connect

    list_alerts(connect(), console)


@app.command()
def ack(
    alert: Annotated[str, typer.Argument(metavar="KEY|ID", help="Key or number of an open alert.")],
    reason: Annotated[str, typer.Option("--reason", help="What you are doing about it; stays on record.")],
) -> None:
    """Say that you are at an alert: until it gets worse it neither repeats nor escalates."""
    from cvntrade_assets.commands.ack import ack as note
    from cvntrade_assets.commands.connection import connect

    note(connect(), alert, reason, console)


@app.command()
def watchdog(
    once: Annotated[
        bool, typer.Option("--once", help="Look once, for cron: exit code 1 when something is missing.")
    ] = False,
) -> None:
    """Notice from outside that CVNTrade, its daemon, its state or PostgreSQL is gone, and send that by itself."""
    from cvntrade_assets.commands.watchdog import watchdog as watch

    raise typer.Exit(watch(console, once=once))


@app.command()
def doctor() -> None:
    """Show which code every process runs, and what a deployment left behind, with the command that mends each thing."""
    from cvntrade_assets.commands.connection import connect
    from cvntrade_assets.commands.doctor import doctor as examine

    connection = connect()
    connection.enter()
    raise typer.Exit(examine(connection, console))


@app.command()
def stop(
    run_ids: Annotated[list[str], typer.Argument(metavar="RUN_ID…", help="Whole ids of runs.")],
    force: Annotated[bool, typer.Option("--force", help="Record them as cancelled although nobody answers.")] = False,
) -> None:
    """End runs, and wait until they have ended."""
    from cvntrade_assets.commands.connection import connect
    from cvntrade_assets.commands.stop import stop_runs, whole_run_id

    raise typer.Exit(stop_runs(connect(), [whole_run_id(text) for text in run_ids], console, force=force))


@app.command()
def migrate(
    roles: Annotated[
        bool,
        typer.Option(
            "--roles", help="First see to every role and database of the server; passwords: CVN_<ROLE>_PASSWORD."
        ),
    ] = False,
    read_only_role: Annotated[
        bool,
        typer.Option("--read-only-role", help="Also see to the role grafana_ro; password: CVN_GRAFANA_RO_PASSWORD."),
    ] = False,
    to: Annotated[
        str | None, typer.Option("--to", metavar="REVISION", help="This migration, up or down; `base` is before all.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Go down, although what stands there is lost.")] = False,
) -> None:
    """Bring the operations schema to the newest migration, as CVN_OWNER_URL; `cvntrade up` does so by itself."""
    from cvntrade_assets.commands.migrate import migrate as start

    start(console, roles=roles, read_only_role=read_only_role, to=to, yes=yes)


@app.command()
def backup(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A new folder; its parent exists.")],
) -> None:
    """Copy the three databases, and the artifacts of a local store, into a new folder; while everything works on."""
    from cvntrade_assets.commands.backup import backup as start

    start(folder, console)


@app.command()
def restore(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A folder that `cvntrade backup` made.")],
) -> None:
    """Bring a backup into an empty server: that of CVN_OWNER_URL, else a new one in CVN_HOME, where nothing may run."""
    from cvntrade_assets.commands.restore import restore as start

    start(folder, console)


@app.command()
def purge() -> None:
    """Delete what old runs said, as the nightly job event_log_retention does; verdicts and how runs ended stay."""
    from cvntrade_assets.commands.connection import connect
    from cvntrade_assets.commands.purge import purge as start

    connection = connect()
    connection.enter()
    start(connection, console)


@app.command()
def exporter(
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Where Prometheus finds the metrics; 0 takes any free port.")
    ] = 9464,
    host: Annotated[
        str, typer.Option(help="Address to listen on; the default is for this machine alone.")
    ] = "127.0.0.1",
) -> None:
    """Tell Prometheus how things stand: state, signals, alerts, runs, daemons; until Ctrl-C."""
    from cvntrade_assets.commands.connection import connect
    from cvntrade_assets.commands.exporter import export

    export(connect(), host, port, console)


@app.command()
def smoke() -> None:
    """Run the real chain, small, on a PostgreSQL of its own: every calibration, soft labels, cleanlab, focal loss."""
    from cvntrade_assets.commands.smoke import smoke as start

    raise typer.Exit(start(console))


@app.command()
def seed(
    pairs: Annotated[
        list[str] | None,
        typer.Option("--set", help="KEY=VALUE in place of the canonical value, or beside it; repeat for several."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show the plan, also when PostgreSQL cannot be reached.")
    ] = False,
) -> None:
    """Insert the canonical settings that base_env lacks, but for removed ones, and universes where there are none."""
    from cvntrade_assets.commands.seed import seed as apply

    raise typer.Exit(apply(read_pairs(pairs), console, dry_run=dry_run))


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


@registry.command("list")
def registry_list(crypto: Cryptos = None) -> None:
    """Print every registered model: its state, market and PTE, and whether MLflow shows it."""
    from cvntrade_assets.commands.connection import connect
    from cvntrade_assets.commands.registry import list_models

    list_models(connect(), tuple(crypto or ()), console)


@registry.command("show")
def registry_show(crypto: Annotated[str, typer.Option("--crypto", "-c", help="A crypto.")]) -> None:
    """Print what each model of a crypto was made from, and every change of its state."""
    from cvntrade_assets.commands.connection import connect
    from cvntrade_assets.commands.registry import show_models

    show_models(connect(), crypto, console)


Severe = Annotated[str, typer.Option("--severity", help="P0, P1, P2 or P3.")]
Linked = Annotated[
    list[str] | None, typer.Option("--alert", metavar="KEY|ID", help="Key or number of an alert; repeat for several.")
]
Began = Annotated[str | None, typer.Option("--began", help="When it began, UTC, e.g. 2025-09-01T12:25, or `now`.")]
Detected = Annotated[str | None, typer.Option("--detected", help="When it was first noticed.")]
IncidentId = Annotated[int, typer.Argument(metavar="ID", help="Its number.")]


@incident.command("open")
def incident_open(
    title: Annotated[str, typer.Option("--title", help="What happened, in a few words.")],
    severity: Severe,
    justification: Annotated[str, typer.Option("--justification", help="Why it is that bad.")],
    symptom: Annotated[str, typer.Option("--symptom", help="What was seen.")],
    began: Began = None,
    detected: Detected = None,
    alert: Linked = None,
) -> None:
    """Open an entry; its alerts say when it began, was detected and was acknowledged, unless that is given."""
    from cvntrade_assets.commands.connection import connect
    from cvntrade_assets.commands.incidents import open_incident

    open_incident(connect(), title, severity, justification, symptom, began, detected, alert or [], console)


def _incident_changing(verb: str, meaning: str) -> None:
    """Add the command that brings an entry up to date, or closes it."""

    def change(
        number: IncidentId,
        severity: Annotated[str | None, typer.Option("--severity", help="P0, P1, P2 or P3.")] = None,
        title: Annotated[str | None, typer.Option("--title", help="What happened, in a few words.")] = None,
        justification: Annotated[str | None, typer.Option("--justification", help="Why it is that bad.")] = None,
        symptom: Annotated[str | None, typer.Option("--symptom", help="What was seen.")] = None,
        began: Began = None,
        detected: Detected = None,
        acknowledged: Annotated[str | None, typer.Option("--acknowledged", help="When a person took it on.")] = None,
        mitigated: Annotated[str | None, typer.Option("--mitigated", help="When it did no more harm.")] = None,
        fixed: Annotated[str | None, typer.Option("--fixed", help="When its cause was gone.")] = None,
        root_cause: Annotated[str | None, typer.Option("--root-cause", help="Why it happened.")] = None,
        test_gap: Annotated[str | None, typer.Option("--test-gap", help="Why no test found it.")] = None,
        fix: Annotated[str | None, typer.Option("--fix", help="What removed the cause.")] = None,
        audit_trail: Annotated[
            str | None, typer.Option("--audit-trail", help="Where it can be read up: changes, reviews, runs.")
        ] = None,
        lesson: Annotated[list[str] | None, typer.Option("--lesson", help="What it taught; repeat.")] = None,
        follow_up: Annotated[list[str] | None, typer.Option("--follow-up", help="What is still to do; repeat.")] = None,
        done: Annotated[list[int] | None, typer.Option("--done", help="Number of a follow-up, from 1; repeat.")] = None,
        alert: Linked = None,
    ) -> None:
        from cvntrade_assets.commands import incidents
        from cvntrade_assets.commands.connection import connect
        from resources.incidents import Changes

        texts = {"title": title, "justification": justification, "symptom": symptom, "root_cause": root_cause}
        texts |= {"test_gap": test_gap, "fix": fix, "audit_trail": audit_trail}
        given = {"began": began, "detected": detected, "acknowledged": acknowledged, "mitigated": mitigated}
        changes = Changes(
            None if severity is None else incidents.read_severity(severity),
            {name: text for name, text in texts.items() if text is not None},
            incidents.read_moments({**given, "fixed": fixed}),
            tuple(lesson or ()),
            tuple(follow_up or ()),
            tuple(done or ()),
            tuple(alert or ()),
        )
        write = {"update": incidents.update_incident, "close": incidents.close_incident}[verb]
        write(connect(), number, changes, console)

    incident.command(verb, help=meaning)(change)


_incident_changing("update", "Put on record what became known: moments, causes, lessons, follow-ups, alerts.")
_incident_changing("close", "The same for the last time, and close it; needs root cause, fix and when it was fixed.")


@incident.command("list")
def incident_list(
    only_open: Annotated[bool, typer.Option("--open", help="Only those that are not closed.")] = False,
) -> None:
    """Print every entry, how far it has come, and how long that took."""
    from cvntrade_assets.commands.connection import connect
    from cvntrade_assets.commands.incidents import list_incidents

    list_incidents(connect(), console, only_open=only_open)


@incident.command("show")
def incident_show(number: IncidentId) -> None:
    """Print an entry as markdown, in the form of the manual's incident log."""
    from cvntrade_assets.commands.connection import connect
    from cvntrade_assets.commands.incidents import show_incident

    show_incident(connect(), number, console)


@settings.command("show")
def settings_show(pairs: Pairs = None, factor: Factors = None, variant: Variants = None) -> None:
    """Print every key's value, the layer that it comes from, its default and meaning."""
    from cvntrade_assets.commands.connection import connect
    from cvntrade_assets.commands.show_settings import show_settings

    show_settings(connect().resolve_settings(read_pairs(pairs), read_variants(factor, variant)), console)


Reason = Annotated[str, typer.Option("--reason", help="Why; stays on record beside your name.")]


@settings.command("set")
def settings_set(
    words: Annotated[list[str], typer.Argument(metavar="KEY VALUE…", help="One pair, or several that go together.")],
    reason: Reason,
) -> None:
    """Set keys of the operators' table base_env, for every run that starts from now on."""
    from cvntrade_assets.commands.connection import connect
    from cvntrade_assets.commands.edit_settings import set_settings

    set_settings(connect(), words, reason, console)


@settings.command("unset")
def settings_unset(
    keys: Annotated[list[str], typer.Argument(metavar="KEY…", help="Keys of base_env.")], reason: Reason
) -> None:
    """Remove keys from the operators' table base_env."""
    from cvntrade_assets.commands.connection import connect
    from cvntrade_assets.commands.edit_settings import unset_settings

    unset_settings(connect(), keys, reason, console)


@settings.command("history")
def settings_history(
    key: Annotated[str | None, typer.Argument(metavar="[KEY]", help="Of this key only.")] = None,
    limit: Annotated[int, typer.Option("--limit", help="At most so many, newest first.")] = 50,
    with_seeds: Annotated[bool, typer.Option("--seeds", help="Also what seeding inserted.")] = False,
) -> None:
    """Print what became of the operators' table base_env: when, which key, from what to what, who and why."""
    from cvntrade_assets.commands.connection import connect
    from cvntrade_assets.commands.edit_settings import show_history

    show_history(connect(), key, limit, with_seeds, console)


def read_pairs(pairs: list[str] | None) -> dict[str, str]:
    """KEY=VALUE texts as a mapping.

    Raises:
        CommandError: a text without `=`, or a key given twice.
    """
    read: dict[str, str] = {}
    for pair in pairs or []:
        key, separator, value = pair.partition("=")
        if not separator or not key:
            raise CommandError(f"--set {shown(pair)!r}: expected KEY=VALUE, such as CVN_CUSUM_THRESHOLD_H=2.5.")
        if key in read:
            raise CommandError(f"--set {key} is given twice: {shown(read[key])!r} and {shown(value)!r}; give it once.")
        read[key] = value
    return read


def read_variants(factors: list[str] | None, variants: list[str] | None) -> dict[str, str]:
    """The variant chosen of every factor.

    Raises:
        CommandError: not as many variants as factors, or a factor given twice.
    """
    names, chosen = factors or [], variants or []
    if len(names) != len(chosen):
        raise CommandError(
            f"--factor is given {len(names)} times and --variant {len(chosen)} times: each factor needs its variant, "
            "such as --factor calibration --variant isotonic. `cvntrade factors` lists them."
        )
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise CommandError(f"--factor {', '.join(twice)} is given twice: one run has one variant of a factor.")
    return dict(zip(names, chosen, strict=True))


def main() -> None:
    """Run the command line; an error that a user can mend is one message and exit code 2. No error shows a secret."""
    try:
        app()
    except _user_errors() as error:
        # Escaped: a message may hold brackets, as IPv6 addresses and lists do.
        message = f"[red]cvntrade:[/red] {escape(process_mask().text(str(error)))}"
        Console(stderr=True).print(message, highlight=False, soft_wrap=True)
        sys.exit(2)
    except Exception:  # noqa: BLE001 - whatever it is, Python would print it whole
        sys.stderr.write(process_mask().text(traceback.format_exc()))
        sys.exit(1)


def _user_errors() -> tuple[type[Exception], ...]:
    from cvntrade_assets.local.addresses import AlreadyRunningError
    from cvntrade_assets.local.options import OptionError
    from cvntrade_assets.operations.incidents import IncidentError
    from cvntrade_assets.settings import SettingsError
    from resources.artifact_manifest import ArtifactError
    from resources.warehouse import UniverseNameError, UnknownGroupError, WarehouseError

    ours = (CommandError, SettingsError, AlreadyRunningError, OptionError)
    return (*ours, ArtifactError, IncidentError, UniverseNameError, UnknownGroupError, WarehouseError)
