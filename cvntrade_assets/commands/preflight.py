"""`cvntrade preflight`: what training would see and need, per crypto and variant; nothing is run or trained."""

import os
import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import dagster as dg
import pandas as pd
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from asset_checks.contracts import BLOCKING_CHECKS
from cvntrade_assets.commands.backfill import Request, chosen_cryptos
from cvntrade_assets.commands.connection import Connection
from cvntrade_assets.commands.errors import CommandError
from cvntrade_assets.commands.plan import stage_facts
from cvntrade_assets.commands.progress import told_cryptos
from cvntrade_assets.learning.training_rows import count_training_rows
from cvntrade_assets.operations.estimates import RunSize, estimate_run
from cvntrade_assets.operations.factors import FACTORS, FactorError
from cvntrade_assets.operations.fitness import unfit_reasons
from cvntrade_assets.operations.guardrails import Evaluation, Verdict
from cvntrade_assets.operations.preflight import SIZED, judge_rollout, judge_variants, preflight, sized
from cvntrade_assets.settings import Settings, SettingsError
from resources.artifacts import Artifact, ArtifactError, ArtifactStore
from resources.codecs import CODECS
from resources.gate import Gate, GateClosedError
from resources.guardrail_log import Occasion, record_evaluations
from resources.rollouts import standing
from resources.run_settings import record_refusal

NOTHING_STOPS, SOMETHING_STOPS = 0, 1

# The worst first.
_ORDER = (
    Verdict.BLOCKED,
    Verdict.UNKNOWN,
    Verdict.CRITICAL,
    Verdict.OVERRIDDEN,
    Verdict.WARNED,
    Verdict.ALLOWED,
    Verdict.PASSED,
)
_COLOURS = {Verdict.BLOCKED: "red", Verdict.UNKNOWN: "red", Verdict.PASSED: "green", Verdict.ALLOWED: "green"}


@dataclass(frozen=True)
class Preflight:
    """What a run of one crypto with these variants would meet.

    Attributes:
        crypto: The crypto.
        variants: The variant of every factor that the run would be given.
        evaluations: Every guardrail that could be evaluated, or why it could not.
        size: What training would see; None when that is unknown.
        settings: What the run would resolve; None when it would be refused.
    """

    crypto: str
    variants: Mapping[str, str]
    evaluations: Sequence[Evaluation]
    size: RunSize | None = None
    settings: Settings | None = None

    @property
    def verdict(self) -> Verdict:
        """The worst of the verdicts."""
        return min((each.verdict for each in self.evaluations), key=_ORDER.index)


def variants_to_judge(factors: Sequence[str], variants: Mapping[str, str]) -> list[dict[str, str]]:
    """Which runs are meant: the one with these variants, or one for each variant of factors without any.

    Raises:
        FactorError: a factor does not exist.
    """
    if variants or not factors:
        return [dict(variants)]
    unknown = [factor for factor in factors if factor not in FACTORS]
    if unknown:
        raise FactorError(f"factor {unknown[0]!r} does not exist; there are {', '.join(FACTORS)}.")
    return [{factor: variant} for factor in factors for variant in FACTORS[factor].variants]


def run_preflight(
    connection: Connection, request: Request, choices: Sequence[Mapping[str, str]], console: Console
) -> int:
    """Judge, record and print; returns 0 only when nothing is blocked or unknown."""
    with dg.DagsterInstance.get() as instance:
        return print_preflight(judge_cryptos(connection, instance, request, choices, console), console)


def judge_cryptos(
    connection: Connection,
    instance: dg.DagsterInstance,
    request: Request,
    choices: Sequence[Mapping[str, str]],
    console: Console,
) -> list[Preflight]:
    """A preflight per crypto and choice of variants; each is on record.

    Args:
        connection: Which CVNTrade.
        instance: Its Dagster instance, whose records say which candles are current and sound.
        request: Which cryptos, and what the runs would set.
        choices: The variants of each run that is meant.
        console: Where a bar is drawn meanwhile.
    """
    used = {key for stage in stage_facts() for key in stage.settings}
    cryptos, store = chosen_cryptos(connection, request), _store(connection)
    resolved = [_resolved(connection, request, variants) for variants in choices]
    judged = []
    for crypto in told_cryptos(cryptos, "Counting", console):
        candles = StoredCandles(crypto, store, Gate(instance, BLOCKING_CHECKS))
        for settings in resolved:
            began = time.perf_counter()
            if isinstance(settings, Preflight):
                judged.append(replace(settings, crypto=crypto))
                continue
            found = _judge(connection, candles, settings, request, used)
            occasion = Occasion(None, crypto, None, settings.variants, "command")
            record_evaluations(connection.warehouse(), occasion, found.evaluations, time.perf_counter() - began)
            judged.append(found)
    return judged


def print_preflight(judged: Sequence[Preflight], console: Console) -> int:
    """A row per crypto and choice of variants, then the reasons; returns 0 only when nothing is blocked or unknown."""
    headings = ("crypto", "variant", "rows", "features", "GiB", "minutes", "verdict", "because of")
    table = Table(*headings, title="What training would see")
    for column in table.columns:
        column.overflow = "fold"
    for each in judged:
        names = [it.guardrail for it in each.evaluations if it.verdict is not Verdict.PASSED]
        table.add_row(each.crypto, _variants_told(each), *_numbers(each), _coloured(each.verdict), "\n".join(names))
    console.print(table)
    _print_reasons(judged, console)
    stopping = sum(each.verdict in (Verdict.BLOCKED, Verdict.UNKNOWN) for each in judged)
    console.print(f"{stopping} of {len(judged)} are blocked or unknown; nothing was run.")
    return SOMETHING_STOPS if stopping else NOTHING_STOPS


def _print_reasons(judged: Sequence[Preflight], console: Console) -> None:
    """Each reason once, for all that it concerns; not in the table, whose cells break the commands in pieces."""
    guardrails: dict[tuple[Verdict, str], dict[str, None]] = {}
    concerned: dict[tuple[Verdict, str], dict[str, dict[str, None]]] = {}
    for each in judged:
        for it in each.evaluations:
            if it.verdict is not Verdict.PASSED:
                reason = (it.verdict, it.message)
                guardrails.setdefault(reason, {})[it.guardrail] = None
                concerned.setdefault(reason, {}).setdefault(_variants_told(each), {})[each.crypto] = None
    for (verdict, message), names in guardrails.items():
        whose = "; ".join(
            f"{', '.join(cryptos)} {variants}".strip() for variants, cryptos in concerned[verdict, message].items()
        )
        told = escape(f"{whose}: {', '.join(names)}: {message}")
        console.print(f"{_coloured(verdict)} {told}", soft_wrap=True, highlight=False)


def _variants_told(judged: Preflight) -> str:
    return ", ".join(f"{factor}={name}" for factor, name in judged.variants.items())


def _coloured(verdict: Verdict) -> str:
    colour = _COLOURS.get(verdict, "yellow")
    return f"[{colour}]{verdict}[/{colour}]"


def _numbers(judged: Preflight) -> tuple[str, str, str, str]:
    if judged.size is None or judged.settings is None:
        return "?", "?", "?", "?"
    estimate = estimate_run(judged.size, judged.settings)
    rows, features = f"{judged.size.train_rows:,}", f"{judged.size.model_features:,}"
    return rows, features, f"{estimate.memory_gib:.2f}", f"{estimate.minutes:.2f}"


@dataclass(frozen=True)
class StoredCandles:
    """The current candles of one crypto, read at most once for all variants."""

    crypto: str
    store: ArtifactStore
    gate: Gate

    @cached_property
    def artifact(self) -> Artifact[Any]:
        """The version that a run would be handed; GateClosedError or ArtifactError when it would be refused."""
        version = self.gate.current_version("candles", self.crypto)
        artifact = self.store.require("candles", self.crypto, version)
        self.gate.require_open("candles", self.crypto, artifact.version, artifact.fingerprint)
        return artifact

    @cached_property
    def frame(self) -> pd.DataFrame:
        """The candle frame."""
        frame: pd.DataFrame = self.artifact.load().candles
        return frame


def _resolved(connection: Connection, request: Request, variants: Mapping[str, str]) -> Settings | Preflight:
    """The settings of a run, or the refusal that it would meet, which is on record."""
    began = time.perf_counter()
    try:
        return connection.resolve_settings(request.settings, variants)
    except SettingsError as error:
        occasion = Occasion(None, None, None, variants, "command")
        reason = record_refusal(connection.warehouse(), occasion, error, time.perf_counter() - began)
        return Preflight("", variants, [Evaluation("settings_valid", Verdict.BLOCKED, reason)])


def _judge(
    connection: Connection, candles: StoredCandles, settings: Settings, request: Request, used: set[str]
) -> Preflight:
    rollout = standing(connection.warehouse(), settings.variants, None)
    try:
        counts = _count(candles, settings, request)
    except _UncountedError as error:
        others = [judge_rollout(settings, rollout), *judge_variants(settings, used)]
        unknown = [Evaluation(name, Verdict.UNKNOWN, str(error)) for name in SIZED]
        return Preflight(candles.crypto, settings.variants, [*unknown, *others], None, settings)
    # Loaded with the counting already: a table of features is never computed here.
    from cvntrade_assets.learning.features import FEATURE_NAMES

    size = sized(len(candles.frame), counts["train"], len(FEATURE_NAMES), settings)
    evaluations = preflight(
        size, settings, used_keys=used, rollout=rollout, pod_gib=connection.training_pod_gib(settings)
    )
    empty = [name for name, rows in counts.items() if not rows]
    if empty:
        evaluations = [_without_rows(each, empty) if each.guardrail == "rows_enough" else each for each in evaluations]
    return Preflight(candles.crypto, settings.variants, evaluations, size, settings)


class _UncountedError(Exception):
    """The rows could not be counted; the message says why and what to run."""


def _count(candles: StoredCandles, settings: Settings, request: Request) -> Mapping[str, int]:
    """Rows by slice.

    Raises:
        _UncountedError: there are no candles that a run with these settings would use, or they give no slices.
    """
    command = f"`{_build_candles(candles.crypto, settings, request)}`"
    try:
        made = candles.artifact.manifest.provenance
        reasons = unfit_reasons({"candles": made}, {"candles": candles.artifact.version}, settings)
        if reasons:
            raise _UncountedError(f"{'; '.join(reasons)}. Fetch the candles that these settings ask for: {command}")
        return count_training_rows(candles.frame, settings)
    except GateClosedError as error:
        raise _UncountedError(f"{error} For a preflight the candles are enough: {command}") from error
    except ArtifactError as error:
        raise _UncountedError(str(error)) from error
    except ValueError as error:
        raise _UncountedError(f"the rows cannot be counted: {error}") from error


def _build_candles(crypto: str, settings: Settings, request: Request) -> str:
    # A critical factor would be refused outside its rollout, and no variant sets what candles read.
    usual = {name: variant for name, variant in settings.variants.items() if not FACTORS[name].staged}
    chosen = [f"--factor {factor} --variant {variant}" for factor, variant in usual.items()]
    pairs = [f"--set {shlex.quote(f'{key}={text}')}" for key, text in request.settings.items()]
    return " ".join([f"cvntrade backfill --crypto {crypto} --select candles", *chosen, *pairs])


def _without_rows(enough: Evaluation, empty: Sequence[str]) -> Evaluation:
    """A training set with an empty slice cannot be assembled, however many training rows there are."""
    message = (
        f"no row is left in the slice(s) {', '.join(empty)}. Load a longer history, lower CVN_CUSUM_THRESHOLD_H, "
        "shorten CVN_EMBARGO_HOURS or give them a larger share."
    )
    return replace(enough, verdict=Verdict.BLOCKED, message=message)


def _store(connection: Connection) -> ArtifactStore:
    root = os.environ.get("CVN_ARTIFACTS") or connection.environment.get("CVN_ARTIFACTS")
    if not root:
        raise CommandError(
            "preflight reads the stored candles, and CVN_ARTIFACTS is not set: set it to the store's folder or "
            "address, or run this where `cvntrade up` runs."
        )
    return ArtifactStore(root, connection.warehouse(), CODECS)
