"""The frame that every stage asset shares: version, reuse, refusal of inputs built with other settings, description.

A stage is a function of its inputs and of the run's settings. Its version is known before it runs, so an unchanged
rerun finds the version in the store and reuses it without loading anything.
"""

import hashlib
import inspect
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import dagster as dg
import pandas as pd

from cvntrade_assets.market.shown import shown_market
from cvntrade_assets.operations.fitness import unfit_reasons
from cvntrade_assets.operations.guardrails import PREFLIGHT
from cvntrade_assets.operations.pipelines import is_discoverys
from cvntrade_assets.operations.preflight import judge_stored, refusal_told
from cvntrade_assets.operations.provenance import CONTENT, FORCE_TAG, FORCED, Provenance
from cvntrade_assets.operations.rollout import ROLLOUT_TAG, RolloutStage, read_tag
from cvntrade_assets.operations.run_pods import given_memory_gib, pool_of
from cvntrade_assets.partitions import CRYPTO
from cvntrade_assets.settings import Settings
from resources.artifacts import Artifact
from resources.gate import GateClosedError
from resources.guardrail_log import Occasion, is_judged, record_evaluations, session_of
from resources.io_manager import Draft
from resources.rollouts import standing

# The metadata entry of a stage that the chain leaves out.
ON_DEMAND = "on_demand"

RESOURCES = frozenset({"run_settings", "warehouse", "tracking", "io_manager"})

Summary = Mapping[str, Any]


@dataclass(frozen=True)
class Made:
    """What a stage returns: the value, a summary (plain numbers and texts) kept with the version.

    `content` is for stages that read the outside world: a digest of what was read, which stands in the version in
    place of input versions, and `data_until` the moment at which the newest candle closed.
    """

    value: object
    summary: Summary
    content: str | None = None
    data_until: pd.Timestamp | None = None


@dataclass(frozen=True)
class Stage:
    """What a stage's function may use besides its inputs; `beside` is what the stage's `beside` read."""

    context: dg.AssetExecutionContext
    asset: str
    crypto: str
    settings: Settings
    inputs: Mapping[str, Artifact[Any]] = field(default_factory=dict)
    beside: Any = None

    def heartbeat(self, message: str) -> None:
        """Say in the event log that a long stage goes on, and where it is."""
        self.context.log.info(message)

    @property
    def resources(self) -> Any:
        """The run's resources."""
        return self.context.resources

    def previous(self) -> Artifact[Any] | None:
        """The version of this very asset that was last built, when it is still in the store and no check refused it."""
        gate = self.resources.io_manager.gate(self.context.instance)
        try:
            version = gate.current_version(self.asset, self.crypto)
        except GateClosedError:
            return None
        found: Artifact[Any] | None = self.resources.io_manager.store.find(self.asset, self.crypto, version)
        return None if found is None or gate.failed(self.asset, self.crypto, found.fingerprint) else found


def stage(
    *,
    settings: tuple[str, ...],
    code_version: str,
    group: str,
    owner: str,
    kinds: set[str],
    source: bool = False,
    show: Callable[[Any, Summary, Stage], Mapping[str, Any]] | None = None,
    record: Callable[[Summary, Stage], None] | None = None,
    on_demand: bool = False,
    may_be_older: tuple[str, ...] = (),
    beside: Callable[["Stage"], Any] | None = None,
) -> Callable[[Callable[..., Made]], dg.AssetsDefinition]:
    """Turn `function(stage, **inputs) -> Made` into a partitioned asset named after it.

    Args:
        settings: Names of the settings that the function uses; they are part of its version.
        code_version: Changed by hand when the function's meaning changes.
        group: Dagster asset group.
        owner: Team that answers for it, one of the manual's roles.
        kinds: Tags that the UI draws.
        source: The function reads the outside world: it always runs, and its `content` decides the version.
        show: Metadata for the UI that is drawn from the value (plots), on fresh and on reused versions alike.
        record: Called with everything the asset says of itself once its version stands in the store, fresh or reused.
        on_demand: The chain leaves it out: it runs when it is asked for by name.
        may_be_older: Inputs that may have been built from another version of an input beside them; a check on the
            result says whether that was right.
        beside: Reads what the function needs beside its inputs, e.g. of the record; the function finds it in
            `stage.beside`, and a hash of its `repr` is part of the version.
    """

    def decorate(function: Callable[..., Made]) -> dg.AssetsDefinition:
        name = function.__name__
        inputs = [parameter for parameter in inspect.signature(function).parameters if parameter != "stage"]

        @dg.asset(
            name=name,
            ins={parameter: dg.AssetIn(dagster_type=dg.Any) for parameter in inputs},
            partitions_def=CRYPTO,
            code_version=code_version,
            group_name=group,
            owners=[f"team:{owner}"],
            kinds=kinds,
            description=inspect.getdoc(function),
            metadata={
                "settings": list(settings),
                "source": source,
                "may_be_older": list(may_be_older),
                **({ON_DEMAND: True} if on_demand else {}),
            },
            required_resource_keys=set(RESOURCES),
            pool=pool_of(name),
            io_manager_key="io_manager",
            output_required=True,
        )
        def compute(context: dg.AssetExecutionContext, **loaded: Artifact[Any]) -> Iterator[dg.MaterializeResult[Any]]:
            here = Stage(context, name, context.partition_key, context.resources.run_settings, loaded)
            here = here if beside is None else replace(here, beside=beside(here))
            result = _run(here, function, _Plan(settings, code_version, source, show, may_be_older))
            yield result
            if record is not None:
                # Dagster has stored what was yielded: nothing is recorded of a version that does not exist.
                record(_plain(result), here)

        return compute

    return decorate


@dataclass(frozen=True)
class _Plan:
    settings: tuple[str, ...]
    code_version: str
    source: bool
    show: Callable[[Any, Summary, Stage], Mapping[str, Any]] | None
    may_be_older: tuple[str, ...]


def _run(here: Stage, function: Callable[..., Made], plan: _Plan) -> dg.MaterializeResult[Any]:
    started = time.perf_counter()
    _refuse_unfit_inputs(here, plan.may_be_older)
    _refuse_blocked_training(here)
    made = function(here, **here.inputs) if plan.source else None
    provenance = _provenance(here, plan, made)
    existing = _reusable(here, provenance.version)
    if existing is None and made is None:
        made = function(here, **here.inputs)
    seconds = time.perf_counter() - started
    if existing is not None:
        here.context.log.info(f"{here.asset} of {here.crypto}: nothing changed, version {existing.version} is reused")
        # A source did look: what it asked for this time is its own, not the version's.
        summary = {**existing.manifest.summary, **(made.summary if made else {})}
        return _result(here, plan, existing, summary, existing.load, True, seconds)
    assert made is not None
    draft = Draft(provenance, made.value, {**made.summary, "seconds_computed": round(seconds, 3)})
    return _result(here, plan, draft, draft.summary, lambda: made.value, False, seconds)


def _refuse_unfit_inputs(here: Stage, may_be_older: tuple[str, ...]) -> None:
    """Refuse inputs that passed their checks and yet do not belong together, or not to this run.

    Raises:
        dg.Failure: names every reason and what to do; never retried, because a retry would meet the same inputs.
    """
    provenances = {name: artifact.manifest.provenance for name, artifact in here.inputs.items()}
    versions = {name: artifact.version for name, artifact in here.inputs.items()}
    reasons = unfit_reasons(provenances, versions, here.settings, may_be_older)
    if reasons:
        command = "discovery" if is_discoverys(here.asset) else "backfill"
        raise dg.Failure(
            f"{here.asset} of {here.crypto} refuses its inputs: {'; '.join(reasons)}. Build what is upstream in this "
            f"run too, e.g. `cvntrade {command} --crypto {here.crypto}` with the same --set, or run with the settings "
            "that they were built with.",
            allow_retries=False,
        )


def _refuse_blocked_training(here: Stage) -> None:
    """Refuse a training set that another run was allowed to use, and this one is not: the choice was not its own.

    What is found goes on record when the run's own preflight has not put it there: a run of a part of the chain is
    allowed or overridden no less than a whole one.

    Raises:
        dg.Failure: names every guardrail that blocks, why and what to do; on record, and never retried.
    """
    training = here.inputs.get("training_set")
    if training is None:
        return
    began, settings, run, warehouse = time.perf_counter(), here.settings, here.context.run, here.resources.warehouse
    prepared = here.inputs.get("label_pipeline")
    fitted_rows = None if prepared is None else int(prepared.manifest.summary["rows"])
    rollout = standing(warehouse, settings.variants, _rollout_tag(here))
    judged = judge_stored(training.manifest.summary, settings, rollout, fitted_rows, given_memory_gib(run.tags))
    stopping = [each for each in judged if each.stops]
    new = stopping if is_judged(warehouse, run.run_id, here.crypto) else judged
    occasion = Occasion(run.run_id, here.crypto, session_of(run.run_id, run.tags), settings.variants, "check")
    record_evaluations(warehouse, occasion, new, time.perf_counter() - began)
    refusal = refusal_told(training.version, stopping)
    if refusal is not None:
        raise dg.Failure(f"{here.asset} of {here.crypto} refuses its inputs: {refusal}.", allow_retries=False)


def _rollout_tag(here: Stage) -> str | None:
    """The run's place in a rollout; a rollout's preflight ends at the training set and opens nothing beyond it."""
    tag = here.context.run.tags.get(ROLLOUT_TAG)
    place = read_tag(tag)
    return None if place is not None and place[1] is RolloutStage.PREFLIGHT else tag


def _reusable(here: Stage, version: str) -> Artifact[Any] | None:
    """The stored version, unless a check refused it: then it is removed, and computed again.

    What preflight refused is kept: it judges a run's choice and not the files, and judges them again in this run.
    """
    io_manager = here.resources.io_manager
    found: Artifact[Any] | None = io_manager.store.find(here.asset, here.crypto, version)
    if found is None:
        return None
    verdicts = io_manager.gate(here.context.instance).failed(here.asset, here.crypto, found.fingerprint)
    failed = [verdict for verdict in verdicts if verdict.check not in PREFLIGHT]
    if not failed:
        return found
    reasons = "; ".join(f"{verdict.check}: {verdict.reason}" for verdict in failed)
    here.context.log.warning(f"version {version} failed its checks and is computed again ({reasons})")
    io_manager.store.discard(found)
    return None


def _provenance(here: Stage, plan: _Plan, made: Made | None) -> Provenance:
    own = here.settings.used(plan.settings)
    inputs = {name: artifact.version for name, artifact in here.inputs.items()}
    if made is not None and made.content is not None:
        inputs[CONTENT] = made.content
    if here.beside is not None:
        inputs[CONTENT] = hashlib.sha256(repr(here.beside).encode()).hexdigest()[:20]
    if here.context.run.tags.get(FORCE_TAG) == "true":
        inputs[FORCED] = here.context.run_id
    upstream = [artifact.manifest.provenance for artifact in here.inputs.values()]
    lineage = {key: text for provenance in upstream for key, text in provenance.lineage.items()}
    moments = [provenance.data_until for provenance in upstream if provenance.data_until is not None]
    if made is not None and made.data_until is not None:
        moments.append(made.data_until.isoformat())
    return Provenance(
        plan.code_version,
        inputs,
        own,
        here.settings.text("CVN_MARKET"),
        lineage | own,
        max(moments, key=pd.Timestamp, default=None),
    )


def _result(
    here: Stage,
    plan: _Plan,
    output: Draft | Artifact[Any],
    summary: Summary,
    value: Callable[[], Any],
    reused: bool,
    seconds: float,
) -> dg.MaterializeResult[Any]:
    provenance = output.provenance if isinstance(output, Draft) else output.manifest.provenance
    metadata: dict[str, Any] = {
        **({} if plan.show is None else plan.show(value(), summary, here)),
        **summary,
        "version": provenance.version,
        "reused": reused,
        "market": shown_market(provenance.market),
        "settings_used": dict(provenance.settings),
        "seconds": round(seconds, 3),
    }
    return dg.MaterializeResult(
        value=output,
        data_version=dg.DataVersion(provenance.version),
        metadata={key: _typed(item) for key, item in metadata.items()},
        tags={"cvntrade/market": provenance.market},
    )


def _plain(result: dg.MaterializeResult[Any]) -> Summary:
    said = result.metadata or {}
    return {name: entry.value for name, entry in said.items() if isinstance(entry, dg.MetadataValue)}


def _typed(value: Any) -> dg.MetadataValue[Any]:
    """Dagster's typed metadata for a summary's plain value."""
    if isinstance(value, dg.MetadataValue):
        return value
    if isinstance(value, bool):
        return dg.MetadataValue.bool(value)
    if isinstance(value, int):
        return dg.MetadataValue.int(value)
    if isinstance(value, float):
        return dg.MetadataValue.float(value)
    if isinstance(value, dict | list):
        return dg.MetadataValue.json(value)
    return dg.MetadataValue.text(str(value))


def span_summary(index: "pd.Index[Any]") -> dict[str, Any]:
    """Rows, first and last time of an indexed table, for a summary."""
    return {"rows": len(index), "from": index[0].isoformat(), "to": index[-1].isoformat()}
