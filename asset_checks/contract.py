"""How a contract becomes checks: rules about one artifact version, evaluated together, each with its own verdict.

All rules of an asset are one `multi_asset_check`: every check of its own would be a step of its own. A verdict names
the version that it judged, which is what the gate asks for. A rule that cannot run raises, and the check then counts
as not passed.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd

from asset_checks.breach import Breach
from cvntrade_assets.partitions import CRYPTO
from cvntrade_assets.settings import Settings, resolve
from resources.artifacts import Artifact, ArtifactStore, Manifest
from resources.gate import FINGERPRINT, Gate


@dataclass(frozen=True)
class Subject:
    """One artifact version under judgement."""

    artifact: Artifact[Any]
    store: ArtifactStore
    _read: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @cached_property
    def folder(self) -> Path:
        """Where its files stand; ArtifactError when they are not those that were published."""
        self.artifact.verify()
        return self.artifact.folder

    @property
    def manifest(self) -> Manifest:
        """What was published of it."""
        return self.artifact.manifest

    @cached_property
    def value(self) -> Any:
        """The value, read from the stored files once for all rules."""
        return self.artifact.load()

    def table(self, file: str) -> pd.DataFrame:
        """One of its Parquet files as it stands there, read once for all rules."""
        if file not in self._read:
            self._read[file] = pd.read_parquet(self.folder / file)
        table: pd.DataFrame = self._read[file]
        return table

    def settings(self, names: Sequence[str]) -> Settings:
        """What it was made with, of these keys."""
        used = self.manifest.provenance.settings
        # As operators set them: no run may set its gates.
        return resolve(base_env={name: used[name] for name in names}, run={}, now=pd.Timestamp(0, tz="UTC"))

    def upstream(self, asset: str) -> Any:
        """The value of exactly the input version that it was made from, read once for all rules."""
        if asset not in self._read:
            version = self.manifest.provenance.inputs[asset]
            self._read[asset] = self.store.require(asset, self.manifest.crypto, version).load()
        return self._read[asset]


Judge = Callable[[Subject], Breach | str | None]


@dataclass(frozen=True)
class Rule:
    """One thing that must hold.

    Attributes:
        name: The check's name.
        meaning: What it demands, for the UI.
        judge: Returns None when it holds, else what is wrong, where, and what was expected; as a plain text where no
            single value is to blame.
        blocking: Whether a breach stops everything downstream; otherwise it warns.
    """

    name: str
    meaning: str
    judge: Judge
    blocking: bool = True


@dataclass(frozen=True)
class Contract:
    """All rules of one asset."""

    asset: str
    rules: Sequence[Rule]

    @property
    def blocking(self) -> tuple[str, ...]:
        """Names of the rules whose breach stops what is downstream."""
        return tuple(rule.name for rule in self.rules if rule.blocking)

    def checks(self) -> dg.AssetChecksDefinition:
        """The contract as one Dagster definition with a check per rule."""
        with warnings.catch_warnings():
            # Partitioned checks are a preview in this Dagster; without them one crypto's verdict would stand for all.
            warnings.simplefilter("ignore", dg.PreviewWarning)
            specs = [
                dg.AssetCheckSpec(
                    rule.name,
                    asset=self.asset,
                    description=rule.meaning,
                    blocking=rule.blocking,
                    partitions_def=CRYPTO,
                )
                for rule in self.rules
            ]

        @dg.multi_asset_check(
            name=f"{self.asset}_contract", specs=specs, can_subset=True, required_resource_keys={"io_manager"}
        )
        def evaluate(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
            store: ArtifactStore = context.resources.io_manager.store
            crypto = context.partition_key
            version = Gate(context.instance, {}).current_version(self.asset, crypto)
            subject = Subject(store.require(self.asset, crypto, version), store)
            chosen = {key.name for key in context.selected_asset_check_keys}
            for rule in self.rules:
                if rule.name in chosen:
                    yield verdict(self.asset, rule, subject)

        return evaluate


def verdict(asset: str, rule: Rule, subject: Subject) -> dg.AssetCheckResult:
    """Evaluate one rule on one version; a breach shows the first values that are to blame as a table."""
    said = rule.judge(subject)
    breach = Breach(said) if isinstance(said, str) else said
    metadata: dict[str, Any] = {
        "version": subject.artifact.version,
        FINGERPRINT: subject.artifact.fingerprint,
    }
    if breach is not None and breach.table is not None:
        metadata["first offending rows"] = breach.table
    warns = not rule.blocking or (breach is not None and breach.warns)
    return dg.AssetCheckResult(
        passed=breach is None,
        asset_key=asset,
        check_name=rule.name,
        severity=dg.AssetCheckSeverity.WARN if warns else dg.AssetCheckSeverity.ERROR,
        description=rule.meaning if breach is None else breach.message,
        metadata=metadata,
    )
