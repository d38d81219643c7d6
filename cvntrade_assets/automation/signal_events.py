"""What the UI is told of signals: events without a run on the assets golden_signals and global_state.

A subject is always shown whole, when the level of any of its checks changed and once a day: a materialization, with the
numbers over time and a table, and a verdict of every check, so that no page shows a table that is older than a check. A
verdict names the materialization that it judges: otherwise Dagster would count it as one of an older version, and show
nothing.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import dagster as dg
from dagster._core.definitions.asset_checks.asset_check_evaluation import AssetCheckEvaluationTargetMaterializationData

from cvntrade_assets.operations.signals import PLATFORM, SIGNALS, Level, Observation, Scope
from cvntrade_assets.partitions import CRYPTO
from resources.signal_store import StoredState
from resources.signal_verdicts import (
    GLOBAL_STATE,
    GOLDEN_SIGNALS,
    STATE_CHECK,
    SignalVerdict,
    crypto_page,
    crypto_verdicts,
    platform_verdicts,
    state_page,
)

Shown: TypeAlias = dict[str, tuple[str, int, int]]
"""What the UI shows, by subject: a letter for how every check stands, when it was last shown (seconds since the epoch),
and the materialization of that."""

AT_ONCE = 200
"""Events a tick: some seconds of work for the daemon. What does not fit comes next, the worst first."""

_DAY_SECONDS = 86_400
_LETTERS: Mapping[Level, str] = {Level.OK: "o", Level.WARNING: "w", Level.CRITICAL: "c", Level.UNKNOWN: "u"}
_URGENCY = "cuwo"
_RUNLESS = ""


@dataclass(frozen=True)
class Change:
    """What is to be shown of one subject.

    Attributes:
        subject: The crypto; empty for the platform.
        verdicts: Of all its checks.
        changed: Those whose level did; all of them when it is new, or due again.
        is_due: Whether it is new, or due again.
    """

    subject: str
    verdicts: Sequence[SignalVerdict]
    changed: Sequence[SignalVerdict]
    is_due: bool

    @property
    def letters(self) -> str:
        """How all its checks stand."""
        return "".join(_letter(verdict) for verdict in self.verdicts)

    @property
    def events(self) -> int:
        """How many events it makes, the materialization included."""
        return len(self.verdicts) + 1

    @property
    def urgency(self) -> tuple[bool, bool, int]:
        """Sorts what goes first: the platform, then what changed, then what is due again; of each the worst."""
        worst = min(_URGENCY.index(_LETTERS[each.level]) for each in self.changed)
        return self.subject != PLATFORM, self.is_due, worst


def show(
    instance: dg.DagsterInstance, observations: Sequence[Observation], state: StoredState, shown: Shown
) -> tuple[Shown, list[dg.AssetCheckEvaluation]]:
    """Materialise what is to be shown whole, and say which verdicts are to be reported.

    Args:
        instance: Knows the partitions, and is told of the materializations.
        observations: Of one look.
        state: As it was found by that look.
        shown: What the UI shows already.

    Returns:
        What it shows once the verdicts are reported, and the verdicts.
    """
    moment = int(state.computed_at.timestamp())
    of_subject = _by_subject(instance, observations)
    verdicts = {
        subject: crypto_verdicts(found, subject) if subject else platform_verdicts(observations, state)
        for subject, found in of_subject.items()
    }
    by_others = _materialized(instance, after=max((entry[2] for entry in shown.values()), default=0))
    kept = {subject: entry for subject, entry in shown.items() if subject in verdicts and subject not in by_others}
    changes = sorted(_changes(verdicts, kept, moment), key=lambda change: change.urgency)
    chosen = list(_at_once(changes))
    for change in chosen:
        instance.report_runless_asset_event(_materialization(change.subject, of_subject[change.subject], state))
    targets = _materialized(instance, among=[change.subject for change in chosen]) if chosen else {}
    entries = {change.subject: (change.letters, moment, targets[change.subject]) for change in chosen}
    events = [
        _evaluation(change.subject, each, entries[change.subject]) for change in chosen for each in change.verdicts
    ]
    return {**kept, **entries}, events


def _by_subject(instance: dg.DagsterInstance, observations: Iterable[Observation]) -> dict[str, list[Observation]]:
    """What was observed of the platform and its jobs, and of every crypto that Dagster has a partition of.

    A crypto's partition is added, and removed, by the sensor `sync_universe`.
    """
    assert CRYPTO.name is not None
    partitions = set(instance.get_dynamic_partitions(CRYPTO.name))
    found: dict[str, list[Observation]] = {PLATFORM: []}
    for each in observations:
        if SIGNALS[each.signal].scope is not Scope.CRYPTO:
            found[PLATFORM].append(each)
        elif each.subject in partitions:
            found.setdefault(each.subject, []).append(each)
    return found


def _changes(verdicts: Mapping[str, Sequence[SignalVerdict]], shown: Shown, moment: int) -> Iterator[Change]:
    for subject, all_of_it in verdicts.items():
        letters, at, _ = shown.get(subject, ("", 0, 0))
        if len(letters) != len(all_of_it) or abs(moment - at) >= _DAY_SECONDS:
            yield Change(subject, all_of_it, all_of_it, is_due=True)
            continue
        before = zip(all_of_it, letters, strict=True)
        if changed := [verdict for verdict, letter in before if letter != _letter(verdict)]:
            yield Change(subject, all_of_it, changed, is_due=False)


def _letter(verdict: SignalVerdict) -> str:
    """How a check stands; ORANGE and RED are both critical, and not the same."""
    return str(verdict.metadata["state"])[0] if verdict.check == STATE_CHECK else _LETTERS[verdict.level]


def _at_once(changes: Iterable[Change]) -> Iterator[Change]:
    events = 0
    for change in changes:
        events += change.events
        if events > AT_ONCE:
            return
        yield change


def _materialized(
    instance: dg.DagsterInstance, *, after: int = 0, among: Sequence[str] | None = None
) -> dict[str, int]:
    """The newest materialization of subjects, as the event log numbers it.

    Args:
        instance: With the event log.
        after: Only of those that were materialised later than this one.
        among: Only of these; None for all.
    """
    found: dict[str, int] = {}
    cryptos = None if among is None else {subject for subject in among if subject != PLATFORM}
    if cryptos is None or cryptos:
        found |= instance.event_log_storage.get_latest_storage_id_by_partition(
            dg.AssetKey(GOLDEN_SIGNALS), dg.DagsterEventType.ASSET_MATERIALIZATION, cryptos, after_cursor=after
        )
    if among is None or PLATFORM in among:
        records = instance.fetch_materializations(dg.AssetKey(GLOBAL_STATE), limit=1).records
        if records and records[0].storage_id > after:
            found[PLATFORM] = records[0].storage_id
    return found


def _materialization(subject: str, observations: Sequence[Observation], state: StoredState) -> dg.AssetMaterialization:
    if subject == PLATFORM:
        return dg.AssetMaterialization(GLOBAL_STATE, metadata=state_page(observations, state))
    metadata = crypto_page(observations, subject, state.market)
    return dg.AssetMaterialization(GOLDEN_SIGNALS, partition=subject, metadata=metadata)


def _evaluation(subject: str, verdict: SignalVerdict, entry: tuple[str, int, int]) -> dg.AssetCheckEvaluation:
    _, at, storage_id = entry
    return dg.AssetCheckEvaluation(
        asset_key=dg.AssetKey(GOLDEN_SIGNALS if subject else GLOBAL_STATE),
        check_name=verdict.check,
        passed=verdict.passed,
        severity=verdict.severity,
        description=verdict.said,
        metadata=dict(verdict.metadata),
        target_materialization_data=AssetCheckEvaluationTargetMaterializationData(
            storage_id=storage_id, run_id=_RUNLESS, timestamp=float(at)
        ),
        partition=subject or None,
    )
