"""The frame that every stage asset shares: version, reuse, refusal of inputs built with other settings, description.

A stage is a function of its inputs and of the run's settings. Its version is known before it runs, so an unchanged
rerun finds the version in the store and reuses it without loading anything.
"""

import inspect
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import dagster as dg
import pandas as pd

from cvntrade_assets.operations.provenance import FORCED, Provenance
from cvntrade_assets.partitions import CRYPTO
from cvntrade_assets.settings import Settings
from resources.artifacts import Artifact
from resources.io_manager import Draft

FORCE_TAG = "cvntrade/force"

RESOURCES = frozenset({"run_settings", "warehouse", "tracking", "io_manager"})

Summary = Mapping[str, Any]


@dataclass(frozen=True)
class Made:
    """What a stage returns: the value, a summary (plain numbers and texts) kept with the version.

    `content` is for stages that read the outside world: a digest of what was read, which stands in the version in
    place of input versions.
    """

    value: object
    summary: Summary
    content: str | None = None


@dataclass(frozen=True)
class Stage:
    """What a stage's function may use besides its inputs."""

    context: dg.AssetExecutionContext
    asset: str
    crypto: str
    settings: Settings
    inputs: Mapping[str, Artifact[Any]] = field(default_factory=dict)

    def heartbeat(self, message: str) -> None:
        """Say in the event log that a long stage goes on, and where it is."""
        self.context.log.info(message)

    @property
    def resources(self) -> Any:
        """The run's resources."""
        return self.context.resources

    def previous(self) -> Artifact[Any] | None:
        """The version of this very asset that the last materialization published, when it is still in the store."""
        record = self.context.instance.get_latest_data_version_record(self.context.asset_key, partition_key=self.crypto)
        materialization = record.asset_materialization if record else None
        version = materialization.tags.get("dagster/data_version") if materialization and materialization.tags else None
        return None if version is None else self.resources.io_manager.store.find(self.asset, self.crypto, version)


def stage(
    *,
    settings: tuple[str, ...],
    code_version: str,
    group: str,
    owner: str,
    kinds: set[str],
    source: bool = False,
    show: Callable[[Any, Stage], Mapping[str, Any]] | None = None,
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
            metadata={"settings": list(settings), "source": source},
            required_resource_keys=set(RESOURCES),
            io_manager_key="io_manager",
            output_required=True,
        )
        def compute(context: dg.AssetExecutionContext, **loaded: Artifact[Any]) -> dg.MaterializeResult[Any]:
            here = Stage(context, name, context.partition_key, context.resources.run_settings, loaded)
            return _run(here, function, _Plan(settings, code_version, source, show))

        return compute

    return decorate


@dataclass(frozen=True)
class _Plan:
    settings: tuple[str, ...]
    code_version: str
    source: bool
    show: Callable[[Any, Stage], Mapping[str, Any]] | None


def _run(here: Stage, function: Callable[..., Made], plan: _Plan) -> dg.MaterializeResult[Any]:
    started = time.perf_counter()
    for artifact in here.inputs.values():
        refuse_other_settings(artifact, here.settings, here.asset)
    store = here.resources.io_manager.store
    made = function(here, **here.inputs) if plan.source else None
    provenance = _provenance(here, plan, made)
    existing = store.find(here.asset, here.crypto, provenance.version)
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


def _provenance(here: Stage, plan: _Plan, made: Made | None) -> Provenance:
    own = here.settings.used(plan.settings)
    inputs = {name: artifact.version for name, artifact in here.inputs.items()}
    if made is not None and made.content is not None:
        inputs["content"] = made.content
    if here.context.run.tags.get(FORCE_TAG):
        inputs[FORCED] = here.context.run_id
    lineage: dict[str, str] = {}
    for artifact in here.inputs.values():
        lineage |= artifact.manifest.provenance.lineage
    return Provenance(plan.code_version, inputs, own, here.settings.text("CVN_MARKET"), lineage | own)


def refuse_other_settings(artifact: Artifact[Any], settings: Settings, asset: str) -> None:
    """Refuse an input that was built, itself or upstream, with other settings than this run's.

    Raises:
        dg.Failure: names the settings, both values and what to rebuild; never retried.
    """
    lineage = artifact.manifest.provenance.lineage
    wanted = settings.used(lineage)
    other = [f"{key}={lineage[key]!r} (this run: {wanted[key]!r})" for key in lineage if wanted[key] != lineage[key]]
    if other:
        manifest = artifact.manifest
        raise dg.Failure(
            f"{asset} of {manifest.crypto} needs {manifest.asset}, whose current version {manifest.version} was "
            f"built with {', '.join(other)}. Build what is upstream with this run's settings too, e.g. "
            f"`cvntrade backfill --crypto {manifest.crypto}`, or run with the settings that it was built with.",
            allow_retries=False,
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
        **({} if plan.show is None else plan.show(value(), here)),
        **summary,
        "version": provenance.version,
        "reused": reused,
        "market": "SIMULATED" if provenance.market == "simulated" else provenance.market,
        "settings_used": dict(provenance.settings),
        "seconds": round(seconds, 3),
    }
    return dg.MaterializeResult(
        value=output,
        data_version=dg.DataVersion(provenance.version),
        metadata={key: _typed(item) for key, item in metadata.items()},
        tags={"cvntrade/market": provenance.market},
    )


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
    if str(value).startswith(("http://", "https://")):
        return dg.MetadataValue.url(value)
    return dg.MetadataValue.text(str(value))


def span_summary(index: "pd.Index[Any]") -> dict[str, Any]:
    """Rows, first and last time of an indexed table, for a summary."""
    return {"rows": len(index), "from": index[0].isoformat(), "to": index[-1].isoformat()}
