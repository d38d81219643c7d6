"""The gate: an artifact version is only handed out when its blocking checks passed on exactly that version.

Dagster's blocking checks stop what is downstream inside the same run and nowhere else. The gate asks the event log,
so it holds at every door: the same run, a later one, the UI, a backfill, the command line.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import dagster as dg
from dagster._core.event_api import PartitionKeyFilter
from dagster._core.storage.asset_check_execution_record import (
    COMPLETED_ASSET_CHECK_EXECUTION_RECORD_STATUSES,
    AssetCheckExecutionRecord,
)

from cvntrade_assets.operations.pipelines import is_discoverys

# Under this name a verdict says which files it judged.
FINGERPRINT = "fingerprint"
DATA_VERSION_TAG = "dagster/data_version"

# A version is judged again on every rerun; the verdict on the current one is among the newest few.
_HISTORY = 50


class GateClosedError(RuntimeError):
    """An input was refused; the message names the check, its reason and what to rebuild."""


@dataclass(frozen=True)
class Verdict:
    """What the newest completed evaluation of one blocking check said of one version; None when there is none."""

    check: str
    passed: bool | None
    reason: str


@dataclass(frozen=True)
class Gate:
    """Decides from the event log whether an asset's version may be loaded.

    Args:
        instance: The Dagster instance whose event log is asked.
        blocking_checks: Names of the blocking checks of every asset.
    """

    instance: dg.DagsterInstance
    blocking_checks: Mapping[str, Sequence[str]]

    def current_version(self, asset: str, crypto: str, reader: str | None = None) -> str:
        """The version of the newest materialization; GateClosedError when there is none, or it names no version.

        The message names the command that builds it; `reader` is the asset that asks, which may need more of it.
        """
        records = self.instance.fetch_materializations(
            dg.AssetRecordsFilter(asset_key=dg.AssetKey(asset), asset_partitions=[crypto]), limit=1
        ).records
        materialization = records[0].asset_materialization if records else None
        version = (materialization.tags or {}).get(DATA_VERSION_TAG) if materialization else None
        if version is None:
            what = f"{asset} of {crypto} was never built"
            if materialization is not None:
                what = f"the newest materialization of {asset} of {crypto} names no version: it was reported by hand"
            raise GateClosedError(f"{what}. Build it with `{_rebuild(asset, crypto, reader)}`, then run again.")
        return version

    def verdicts(self, asset: str, crypto: str, fingerprint: str) -> list[Verdict]:
        """The newest completed verdict of every blocking check on exactly these files."""
        checks = [dg.AssetCheckKey(dg.AssetKey(asset), name) for name in self.blocking_checks.get(asset, ())]
        # One question for all of them, which is nearly always enough.
        newest = self.instance.event_log_storage.get_latest_asset_check_execution_by_key(
            checks, partition_filter=PartitionKeyFilter(key=crypto)
        )
        return [
            _verdict(check.name, [newest[check]] if check in newest else (), fingerprint)
            or _verdict(check.name, self._history(check, crypto), fingerprint)
            or Verdict(check.name, None, "it has not judged this version")
            for check in checks
        ]

    def failed(self, asset: str, crypto: str, fingerprint: str) -> list[Verdict]:
        """The blocking checks that failed on these files; a check that has not judged them is not among them."""
        return [verdict for verdict in self.verdicts(asset, crypto, fingerprint) if verdict.passed is False]

    def require_open(self, asset: str, crypto: str, version: str, fingerprint: str, reader: str | None = None) -> None:
        """Let a version pass only when every blocking check passed on its files.

        Args:
            asset: The asset.
            crypto: Its partition.
            version: The version, for the message.
            fingerprint: The checksum of its manifest, which holds every file's: a version that was removed and built
                again is judged again.
            reader: The asset that asks, for the message.

        Raises:
            GateClosedError: a blocking check failed on these files, or has no completed evaluation of them.
        """
        closed = [verdict for verdict in self.verdicts(asset, crypto, fingerprint) if verdict.passed is not True]
        if closed:
            reasons = "; ".join(
                f"check {verdict.check} {'failed' if verdict.passed is False else 'is missing'}: {verdict.reason}"
                for verdict in closed
            )
            raise GateClosedError(
                f"{asset} of {crypto}, version {version}, is refused as an input. {reasons}. "
                f"Rebuild it with `{_rebuild(asset, crypto, reader)}`, then run again."
            )

    def _history(self, check: dg.AssetCheckKey, crypto: str) -> Sequence[AssetCheckExecutionRecord]:
        """What the check has said of a crypto's versions, newest first."""
        return self.instance.event_log_storage.get_asset_check_execution_history(
            check,
            limit=_HISTORY,
            status=COMPLETED_ASSET_CHECK_EXECUTION_RECORD_STATUSES,
            partition_filter=PartitionKeyFilter(key=crypto),
        )


def _verdict(check: str, records: Iterable[AssetCheckExecutionRecord], fingerprint: str) -> Verdict | None:
    """What the first record that judged these files says; None when none did."""
    for record in records:
        # Asked of one that is planned, a record fails.
        evaluation = record.evaluation if record.status in COMPLETED_ASSET_CHECK_EXECUTION_RECORD_STATUSES else None
        if evaluation is None or _judged(evaluation) != fingerprint:
            continue
        # A warning informs and never blocks, in Dagster and here alike.
        passed = evaluation.passed or evaluation.severity == dg.AssetCheckSeverity.WARN
        return Verdict(check, passed, evaluation.description or "no reason was given")
    return None


def _judged(evaluation: dg.AssetCheckEvaluation) -> str | None:
    value = evaluation.metadata.get(FINGERPRINT)
    return value.value if isinstance(value, dg.TextMetadataValue) else None


def _rebuild(asset: str, crypto: str, reader: str | None) -> str:
    if is_discoverys(asset) or is_discoverys(reader or ""):
        return f"cvntrade discovery --crypto {crypto}"
    return f"cvntrade backfill --crypto {crypto} --select {asset}+"
