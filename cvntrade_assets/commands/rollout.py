"""`cvntrade rollout`: take a factor through preflight, canary and full, and stop at the first gate that fails."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cvntrade_assets.commands.backfill import (
    FAILED,
    INTERRUPTED,
    SUCCEEDED,
    Request,
    follow,
    resolve_or_record,
)
from cvntrade_assets.commands.connection import Connection
from cvntrade_assets.commands.dagster_api import DagsterApi
from cvntrade_assets.commands.errors import CommandError
from cvntrade_assets.commands.factors import print_warnings
from cvntrade_assets.commands.results import print_failures, print_results
from cvntrade_assets.operations.factors import FACTORS, Factor, find_variant, variant_tags
from cvntrade_assets.operations.rollout import (
    ROLLOUT_TAG,
    Judgement,
    Outcome,
    RolloutStage,
    Scope,
    passed_stages,
    rollout_prefix,
    rollout_tag,
    scope_of,
)
from cvntrade_assets.operations.sessions import GROUP_TAG
from cvntrade_assets.settings import repeats_default
from resources.rollouts import last_judgement, read_gates

GATE_JOB = "rollout_gate"
# What preflight builds, and the fewest folds that the settings allow.
_UP_TO = "+training_set"
_FEWEST_FOLDS: Mapping[str, str] = {"CVN_TUNING_FOLDS": "2"}
_COLOURS = {Outcome.PASSED: "green", Outcome.FAILED: "red", Outcome.NOT_JUDGED: "yellow"}


@dataclass(frozen=True)
class RolloutRequest:
    """Which factor to roll out on which group; no variants means all of them."""

    factor: str
    group: str
    variants: Sequence[str] = ()
    settings: Mapping[str, str] = field(default_factory=dict)
    restart: bool = False


@dataclass(frozen=True)
class _Rollout:
    """One rollout under way."""

    id: str
    factor: Factor
    group: str
    cryptos: Sequence[str]
    variants: Sequence[str]
    settings: Mapping[str, str]
    base_env: Mapping[str, str]
    connection: Connection
    api: DagsterApi
    console: Console

    def say(self, text: str) -> None:
        self.console.print(escape(text))


class _Interrupted(Exception):
    """Ctrl-C while a stage was followed."""


def rollout(connection: Connection, request: RolloutRequest, console: Console) -> int:
    """Go through the stages that have not passed yet.

    Returns:
        0 when every gate passed; 1 when one failed, and nothing of the later stages was launched; 130 on Ctrl-C, which
        what was launched survives.

    Raises:
        CommandError: the factor, a variant or a setting is wrong, or base_env changed between two stages; nothing more
            was launched.
        UnknownGroupError: the group does not exist.
    """
    under_way, done = _begin(connection, request, console)
    for stage in RolloutStage:
        if stage in done:
            under_way.say(f"{stage}: its gate has passed already.")
            continue
        _require_same_settings(under_way, stage)
        try:
            judgement = _run_stage(under_way, stage)
        except _Interrupted as interrupted:
            # With --restart it would begin anew once more, at the first stage.
            but = " but --restart" if request.restart and stage.before is not None else ""
            under_way.say(
                f"{interrupted} `cvntrade rollout` with the same arguments{but} continues with stage {stage}."
            )
            return INTERRUPTED
        if not judgement.passed:
            return FAILED
    if len(done) == len(RolloutStage):
        under_way.say(f"Nothing is left to do for rollout {under_way.id}; --restart begins anew.")
    else:
        under_way.say(f"Rollout {under_way.id} of {under_way.factor.name} on {under_way.group} passed every gate.")
    return SUCCEEDED


def _begin(connection: Connection, request: RolloutRequest, console: Console) -> tuple[_Rollout, list[RolloutStage]]:
    """The rollout, new or continued, and the stages of it whose gates have passed."""
    variants = _chosen_variants(request)
    factor = FACTORS[request.factor]
    warehouse = connection.warehouse()
    cryptos = warehouse.group(request.group)
    as_of = _resolve_all(connection, request, variants, console)
    base_env = _operators_settings(connection)
    prefix = rollout_prefix(factor, request.group, variants, request.settings, base_env)
    gates = [gate for gate in read_gates(warehouse, [factor.name]) if gate.rollout.startswith(prefix)]
    fresh = request.restart or not gates
    found = f"{prefix}{uuid.uuid4().hex[:6]}" if fresh else gates[0].rollout
    under_way = _Rollout(
        found,
        factor,
        request.group,
        cryptos,
        variants,
        # One moment for all: variants that saw other candles could not be compared.
        {**request.settings, "CVN_AS_OF": as_of},
        base_env,
        connection,
        connection.api(),
        console,
    )
    doing = "Rollout" if fresh else "Continuing rollout"
    under_way.say(f"{doing} {found} of {factor.name} ({', '.join(variants)}) on {request.group}, as of {as_of}.")
    under_way.say(f"It is required: {factor.staged}." if factor.staged else "This factor does not require one.")
    return under_way, [] if fresh else passed_stages(found, gates)


def _operators_settings(connection: Connection) -> dict[str, str]:
    """The operators' layer as far as a rollout takes it over; what counts as now is the rollout's own.

    What repeats a default is left out: seeding writes hundreds of keys and changes no run.
    """
    base_env = connection.warehouse().base_env()
    return {key: text for key, text in base_env.items() if key != "CVN_AS_OF" and not repeats_default(key, text)}


def _require_same_settings(under_way: _Rollout, stage: RolloutStage) -> None:
    """Refuse a stage whose runs would not be comparable with those of the stages before."""
    now = _operators_settings(under_way.connection)
    changed = sorted(key for key in {*now, *under_way.base_env} if now.get(key) != under_way.base_env.get(key))
    if changed:
        raise CommandError(
            f"{', '.join(changed)} changed in the table base_env while rollout {under_way.id} was under way: its "
            f"{stage} stage would not tell anything about the stages before. Nothing more was launched; `cvntrade "
            "rollout` with the same arguments begins a new one under the settings of now."
        )


def _resolve_all(connection: Connection, request: RolloutRequest, variants: Sequence[str], console: Console) -> str:
    """Refuse what no run could resolve, before any is launched; returns the moment that counts as now."""
    moments = []
    for variant in variants:
        asked = Request(request.group, (), settings=request.settings, variants={request.factor: variant})
        settings = resolve_or_record(connection, asked)
        print_warnings(settings, console)
        moments.append(settings.as_of)
    return str(max(moments).floor("s").isoformat()).replace("+00:00", "Z")


def _chosen_variants(request: RolloutRequest) -> tuple[str, ...]:
    """The variants to roll out, each once; FactorError names the valid factors or variants."""
    if request.factor not in FACTORS:
        find_variant(request.factor, "")
    for variant in request.variants:
        find_variant(request.factor, variant)
    return tuple(dict.fromkeys(request.variants)) or tuple(FACTORS[request.factor].variants)


def _run_stage(under_way: _Rollout, stage: RolloutStage) -> Judgement:
    """Launch a stage's backfills, follow them, and have the gate judge them."""
    scope = scope_of(stage, under_way.variants, under_way.cryptos)
    assets = _assets(under_way, stage)
    reach = f"up to {assets[-1]}" if stage is RolloutStage.PREFLIGHT else "the whole chain"
    under_way.say(f"\n{stage}: {', '.join(scope.variants)} on {', '.join(scope.cryptos)}, {reach}.")
    for crypto in scope.cryptos:
        under_way.api.add_partition(crypto)
    for variant in scope.variants:
        if not _run_variant(under_way, stage, variant, scope, assets):
            break  # The gate will fail; the variants after this one would only cost time.
    return _judge(under_way, stage)


def _assets(under_way: _Rollout, stage: RolloutStage) -> list[str]:
    assets = under_way.api.assets()
    if stage is not RolloutStage.PREFLIGHT:
        return assets
    # Dagster's own selection syntax needs the graph, whose import is only paid for here.
    from cvntrade_assets.commands.selection import resolve_selection

    chosen = resolve_selection(_UP_TO)
    return [name for name in assets if name in chosen]


def _run_variant(under_way: _Rollout, stage: RolloutStage, variant: str, scope: Scope, assets: Sequence[str]) -> bool:
    """Whether every run of a variant's backfill succeeded."""
    api, chosen = under_way.api, {under_way.factor.name: variant}
    settings = {**under_way.settings, **(_FEWEST_FOLDS if stage is RolloutStage.PREFLIGHT else {})}
    tags = variant_tags(chosen) | {ROLLOUT_TAG: rollout_tag(under_way.id, stage), GROUP_TAG: under_way.group}
    title = f"{under_way.group}: {stage} of {under_way.factor.name}={variant}"
    backfill = api.launch_backfill(assets, scope.cryptos, settings, tags, title, chosen)
    link = f"{api.url}/runs/b/{backfill}"
    under_way.say(f"Backfill {backfill} of {under_way.factor.name}={variant}: {link}")
    try:
        state = follow(api, backfill, scope.cryptos, assets, under_way.console)
    except KeyboardInterrupt:
        raise _Interrupted(f"Backfill {backfill} goes on; it can be watched and cancelled at {link}.") from None
    print_results(api, state, scope.cryptos, under_way.console)
    return print_failures(api, state, scope.cryptos, under_way.console)


def _judge(under_way: _Rollout, stage: RolloutStage) -> Judgement:
    """Have a run of the gate's job judge the stage, and show its verdict; CommandError when it recorded none."""
    api, warehouse = under_way.api, under_way.connection.warehouse()
    before = last_judgement(warehouse, under_way.id, stage)
    told = {
        "rollout": under_way.id,
        "stage": str(stage),
        "group": under_way.group,
        "variants": list(under_way.variants),
    }
    run_id = api.launch_run(
        GATE_JOB,
        {"ops": {"rollout": {"config": told}}},
        {
            "dagster/partition": under_way.factor.name,
            ROLLOUT_TAG: rollout_tag(under_way.id, stage),
            GROUP_TAG: under_way.group,
        },
        {"rollout": [f"{stage}_gate"]},
    )
    try:
        status = api.wait_for_run(run_id)
    except KeyboardInterrupt:
        raise _Interrupted(f"Run {run_id} goes on to judge the stage: {api.url}/runs/{run_id}.") from None
    after = last_judgement(warehouse, under_way.id, stage)
    if after is None or after == before:
        reasons = "; ".join(api.failures(run_id)) or f"its run ended as {status}"
        raise CommandError(
            f"the {stage} gate could not be judged: {reasons.rstrip('.')}. Its run: {api.url}/runs/{run_id}. "
            "Nothing more was launched; `cvntrade rollout` with the same arguments tries again."
        )
    _print_judgement(after[1], under_way.console)
    return after[1]


def _print_judgement(judgement: Judgement, console: Console) -> None:
    table = Table("criterion", "verdict", "demand", "found", title=f"The {judgement.stage} gate")
    for each in judgement.criteria:
        colour = _COLOURS[each.outcome]
        table.add_row(each.name, f"[{colour}]{each.outcome}[/{colour}]", escape(each.demand), escape(each.found))
    console.print(table)
    console.print(escape(judgement.summary))
