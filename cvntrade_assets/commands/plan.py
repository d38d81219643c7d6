"""`cvntrade plan`: what a backfill would run for every crypto, and why, without running anything."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import dagster as dg
import pandas as pd
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from asset_checks.contracts import BLOCKING_CHECKS
from cvntrade_assets.commands.connection import Connection
from cvntrade_assets.commands.progress import told_cryptos
from cvntrade_assets.commands.selection import stage_keys
from cvntrade_assets.definitions import defs
from cvntrade_assets.market.candles import last_closed_open, timeframe_delta
from cvntrade_assets.operations.guardrails import PREFLIGHT
from cvntrade_assets.operations.planning import Action, Current, StageFacts, Step, plan_crypto
from cvntrade_assets.operations.preflight import refusal_told, refusals
from cvntrade_assets.operations.provenance import Provenance
from cvntrade_assets.operations.rollout import RolloutStanding
from cvntrade_assets.settings import Settings
from resources.artifacts import Shelves
from resources.gate import Gate, GateClosedError
from resources.rollouts import standing

_COLOURS = {Action.CURRENT: "green", Action.REFUSED: "red"}


def plan(
    connection: Connection,
    cryptos: Sequence[str],
    chosen: set[str] | None,
    settings: Settings,
    console: Console,
    *,
    force: bool,
) -> dict[str, list[Step]]:
    """The plan of every crypto, by crypto.

    Args:
        connection: Which CVNTrade.
        cryptos: For which cryptos.
        chosen: Names of the selected assets; None for all.
        settings: What the runs would resolve.
        console: Where a bar is drawn meanwhile.
        force: Recompute although nothing changed.
    """
    facts = [stage for stage in stage_facts(on_demand=chosen is not None) if chosen is None or stage.name in chosen]
    newest = {stage.name: _newest(stage, settings) for stage in facts if stage.source}
    read = {name for stage in facts for name in (stage.name, *stage.inputs)}
    rollout = standing(connection.warehouse(), settings.variants, None)
    plans = {}
    with dg.DagsterInstance.get() as instance:
        gate, shelves = Gate(instance, BLOCKING_CHECKS), Shelves(connection.warehouse())
        for crypto in told_cryptos(cryptos, "What stands", console):
            current = _current(connection, gate, shelves, crypto, read)
            if "training_set" in current:
                pod_gib = connection.training_pod_gib(settings)
                current["training_set"] = _judged(current["training_set"], settings, rollout, pod_gib)
            plans[crypto] = plan_crypto(facts, current, settings, newest, force=force)
    return plans


def stage_facts(*, on_demand: bool = False) -> list[StageFacts]:
    """What the graph declares of every stage, upstream first; with those that only run when asked for, if wanted."""
    graph = defs.resolve_asset_graph()
    nodes = [graph.get(key) for key in stage_keys(on_demand=on_demand)]
    return [
        StageFacts(
            node.key.to_user_string(),
            node.code_version or "",
            tuple(node.metadata["settings"]),
            tuple(sorted(parent.to_user_string() for parent in node.parent_keys)),
            bool(node.metadata["source"]),
            tuple(node.metadata["may_be_older"]),
        )
        for node in nodes
    ]


def print_plan(plans: Mapping[str, Sequence[Step]], console: Console) -> None:
    """A table per plan, one line an asset."""
    table = Table("crypto", "asset", "what", "why", title="What would run")
    for crypto, steps in plans.items():
        for step in steps:
            colour = _COLOURS.get(step.action, "yellow")
            table.add_row(crypto, step.asset, f"[{colour}]{step.action}[/{colour}]", escape(step.reason))
        table.add_section()
    console.print(table)
    actions = [step.action for each in plans.values() for step in each]
    built = sum(action in (Action.MISSING, Action.STALE, Action.FORCED) for action in actions)
    refused = actions.count(Action.REFUSED)
    console.print(f"{built} of {len(actions)} assets would be built, {refused} refused, the others reused.")


def _newest(stage: StageFacts, settings: Settings) -> pd.Timestamp:
    name = next(key for key in stage.settings if key.endswith("TIMEFRAME"))
    return last_closed_open(settings.as_of, timeframe_delta(settings.text(name)))


def _current(connection: Connection, gate: Gate, shelves: Shelves, crypto: str, read: set[str]) -> dict[str, Current]:
    found: dict[str, Current] = {}
    for name in read & BLOCKING_CHECKS.keys():
        try:
            version = gate.current_version(name, crypto)
        except GateClosedError:
            continue
        record = connection.warehouse().find_artifact(name, crypto, version)
        if record is not None and shelves.at(record["location"]).manifest(record["location"]) is not None:
            found[name] = _described(gate, name, crypto, record)
    return found


def _described(gate: Gate, asset: str, crypto: str, record: Mapping[str, Any]) -> Current:
    version, fingerprint, manifest = record["version"], record["manifest_sha256"], record["manifest"]
    until = manifest["summary"].get("to")
    closed = _closed(gate, asset, crypto, version, fingerprint)
    return Current(
        version,
        Provenance(**manifest["provenance"]),
        pd.Timestamp(until) if until else None,
        closed,
        # The event log is asked again only where the gate is closed.
        closed is not None and any(each.check not in PREFLIGHT for each in gate.failed(asset, crypto, fingerprint)),
        summary=manifest["summary"],
    )


def _judged(training_set: Current, settings: Settings, rollout: RolloutStanding, pod_gib: float | None) -> Current:
    """What preflight would say of a stored training set in a run with these settings."""
    stopping = refusals(training_set.summary, settings, rollout, pod_gib)
    return replace(training_set, blocked_because=refusal_told(training_set.version, stopping))


def _closed(gate: Gate, asset: str, crypto: str, version: str, fingerprint: str) -> str | None:
    try:
        gate.require_open(asset, crypto, version, fingerprint)
    except GateClosedError as error:
        return str(error)
    return None
