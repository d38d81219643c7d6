"""What a validation audit may say: complete, skipped or inconclusive, as three types that nothing confuses.

The audit of validation integrity (s40) asks probes about X and y. Its anchor, S22A1, fits the recorded model again. An
operator may skip the anchor: the probes say the same, but the run no longer certifies that what was recorded can be
reproduced. A skipped audit must never be read as a complete one, so it is another type: it has no anchor to ask for,
`certify` does not take it, and its record reads back as nothing else.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from typing import Any, ClassVar, Literal, TypeAlias, final

S22A1Status: TypeAlias = Literal["REPRODUCED", "NOT_REPRODUCED", "SKIPPED", "INCONCLUSIVE_TOOLING"]


class AuditError(ValueError):
    """An audit that cannot be, or a record that is none; says what was expected."""


class SkipRefusedError(AuditError):
    """The anchor may not be skipped for this diagnosis."""


class NotCertifiableError(AuditError):
    """An audit that is not complete, or that found something, was to be certified."""


class Capture(StrEnum):
    """What a diagnosis needs of what a training run captured."""

    XY_ONLY = "xy_only"
    XY_AND_MODEL = "xy_and_model"


CAPTURE_REQUIREMENTS: Mapping[str, Capture] = {
    "s40": Capture.XY_ONLY,
    # The missions that reproduce a symptom: they are about the model, and nothing without the anchor.
    **dict.fromkeys(("s22", "s23", "s24", "s25", "s26", "s27", "s28"), Capture.XY_AND_MODEL),
}
"""Every diagnosis that the audit serves, and what it needs."""


def require_skippable(diagnosis: str) -> None:
    """Let the anchor be skipped where the probes alone answer the question.

    Raises:
        SkipRefusedError: the diagnosis needs more than X and y, or is not in the register.
    """
    needed = CAPTURE_REQUIREMENTS.get(diagnosis)
    if needed is None:
        raise SkipRefusedError(f"diagnosis {diagnosis!r} is not registered; known: {', '.join(CAPTURE_REQUIREMENTS)}")
    if needed is not Capture.XY_ONLY:
        skippable = ", ".join(name for name, each in CAPTURE_REQUIREMENTS.items() if each is Capture.XY_ONLY)
        raise SkipRefusedError(
            f"diagnosis {diagnosis} needs {needed}, so its anchor may not be skipped: remove "
            f"CVN_S40_SKIP_S22A1_CROSSREF from base_env, or run a diagnosis that is {Capture.XY_ONLY} ({skippable})"
        )


@dataclass(frozen=True)
class ProbeResult:
    """What one probe found.

    Attributes:
        name: the probe.
        passed: whether it found nothing wrong.
        message: what it found, where, and what was allowed.
        value: what it measured; None when there was nothing to measure on, which is not a pass.
        limit: the most (or least, says the message) that is allowed.
    """

    name: str
    passed: bool
    message: str
    value: float | None
    limit: float


@dataclass(frozen=True)
class Anchor:
    """The recorded model beside its second fit from the stored inputs.

    Attributes:
        rounds: trees of the second fit.
        compared_trees: how many trees, from the first on, both have and are compared by.
        rows: rows that both scored.
        largest_difference: between two scores of the same row.
        tolerance: what may differ without being another model.
        recorded_best_round: where early stopping cut the recorded model.
        refitted_best_round: where the same rule cuts the second fit; None when the recorded model is longer than it.
    """

    rounds: int
    compared_trees: int
    rows: int
    largest_difference: float
    tolerance: float
    recorded_best_round: int
    refitted_best_round: int | None

    @property
    def reproduced(self) -> bool:
        """Whether the second fit is the recorded model."""
        same_length = self.refitted_best_round in (None, self.recorded_best_round)
        return same_length and self.largest_difference <= self.tolerance


@dataclass(frozen=True)
class Audited:
    """What was audited: which diagnosis, of which model, on which captured rows."""

    diagnosis: str
    model_version: str
    training_set_version: str

    def __post_init__(self) -> None:
        if self.diagnosis not in CAPTURE_REQUIREMENTS:
            raise AuditError(f"diagnosis {self.diagnosis!r} is not registered: {', '.join(CAPTURE_REQUIREMENTS)}")


@final
@dataclass(frozen=True)
class CompleteAudit:
    """Every probe was asked and the anchor was fitted; what they found is another matter."""

    subject: Audited
    probes: tuple[ProbeResult, ...]
    anchor: Anchor

    kind: ClassVar[Literal["complete"]] = "complete"
    s22a1_anchor_available: ClassVar[Literal[True]] = True

    def __post_init__(self) -> None:
        _require_probes(self.probes)
        # An annotation holds nobody back at run time.
        if not isinstance(_as_given(self.anchor), Anchor):
            raise AuditError(f"a complete audit has an anchor, not {self.anchor!r}; without one it is a SkippedAudit")

    @property
    def s22a1_status(self) -> S22A1Status:
        """Whether the recorded model was reproduced."""
        return "REPRODUCED" if self.anchor.reproduced else "NOT_REPRODUCED"


@final
@dataclass(frozen=True)
class SkippedAudit:
    """Every probe was asked and the anchor was skipped on an operator's order: nothing certifies the recorded model."""

    subject: Audited
    probes: tuple[ProbeResult, ...]

    kind: ClassVar[Literal["skipped"]] = "skipped"
    s22a1_status: ClassVar[Literal["SKIPPED"]] = "SKIPPED"
    s22a1_anchor_available: ClassVar[Literal[False]] = False

    def __post_init__(self) -> None:
        require_skippable(self.subject.diagnosis)
        _require_probes(self.probes)


@final
@dataclass(frozen=True)
class InconclusiveAudit:
    """The audit could not be made, for a reason that lies in the tooling: it says nothing about the validation."""

    subject: Audited
    reason: str

    kind: ClassVar[Literal["inconclusive"]] = "inconclusive"
    s22a1_status: ClassVar[Literal["INCONCLUSIVE_TOOLING"]] = "INCONCLUSIVE_TOOLING"
    s22a1_anchor_available: ClassVar[Literal[False]] = False

    def __post_init__(self) -> None:
        if not self.reason:
            raise AuditError("an inconclusive audit says why")


Audit: TypeAlias = CompleteAudit | SkippedAudit | InconclusiveAudit


@final
@dataclass(frozen=True)
class Certificate:
    """What `certify` gives: this model's validation was audited whole, and nothing was found."""

    subject: Audited


def certify(audit: CompleteAudit) -> Certificate:
    """Certify a validation; takes complete audits and nothing else.

    Raises:
        NotCertifiableError: the audit is not a complete one, a probe failed, or the model was not reproduced.
    """
    given = _as_given(audit)
    if not isinstance(given, CompleteAudit):
        status = getattr(given, "s22a1_status", "none")
        raise NotCertifiableError(
            f"a {type(given).__name__} (s22a1_status={status}) certifies nothing; expected a complete audit: run "
            "validation_audit with CVN_S40_SKIP_S22A1_CROSSREF=0"
        )
    found = shortcomings(given)
    if found:
        raise NotCertifiableError("; ".join(found))
    return Certificate(given.subject)


def shortcomings(audit: CompleteAudit | SkippedAudit) -> list[str]:
    """What an audit found: its failed probes, and an anchor that did not hold."""
    found = [f"{probe.name}: {probe.message}" for probe in audit.probes if not probe.passed]
    if isinstance(audit, CompleteAudit) and not audit.anchor.reproduced:
        anchor = audit.anchor
        found.append(
            f"s22a1: the second fit is not the recorded model: over {anchor.compared_trees} trees scores differ by up "
            f"to {anchor.largest_difference:g} on {anchor.rows} rows (allowed {anchor.tolerance:g}), the best round is "
            f"{anchor.refitted_best_round}, recorded {anchor.recorded_best_round}"
        )
    return found


def to_record(audit: Audit) -> dict[str, Any]:
    """The audit as JSON takes it; `from_record` is the way back."""
    return {
        "kind": audit.kind,
        "s22a1_status": audit.s22a1_status,
        "s22a1_anchor_available": audit.s22a1_anchor_available,
        **asdict(audit),
    }


def from_record(record: Mapping[str, Any]) -> Audit:
    """Read an audit back as exactly what it was.

    Raises:
        AuditError: the kind is unknown, a field is missing or too many, or the status is not that of such an audit.
    """
    kinds: dict[str, type[Audit]] = {each.kind: each for each in (CompleteAudit, SkippedAudit, InconclusiveAudit)}
    kind = kinds.get(str(record.get("kind")))
    if kind is None:
        raise AuditError(f"an audit of kind {record.get('kind')!r} is unknown; expected one of {', '.join(kinds)}")
    expected = {"kind", "s22a1_status", "s22a1_anchor_available", *(field.name for field in fields(kind))}
    if set(record) != expected:
        raise AuditError(f"a {kind.__name__} has {sorted(expected)}, this record has {sorted(record)}; audit again")
    audit = _read(kind, record)
    status = (audit.s22a1_status, audit.s22a1_anchor_available)
    if (record["s22a1_status"], record["s22a1_anchor_available"]) != status:
        raise AuditError(
            f"this record says {record['s22a1_status']!r} and what it holds says {status[0]!r}; audit again"
        )
    return audit


def _read(kind: type[Audit], record: Mapping[str, Any]) -> Audit:
    subject = Audited(**record["subject"])
    if kind is InconclusiveAudit:
        return InconclusiveAudit(subject, record["reason"])
    probes = tuple(ProbeResult(**probe) for probe in record["probes"])
    if kind is SkippedAudit:
        return SkippedAudit(subject, probes)
    return CompleteAudit(subject, probes, Anchor(**record["anchor"]))


def _require_probes(probes: tuple[ProbeResult, ...]) -> None:
    if not probes:
        raise AuditError("an audit without a single probe is none; an InconclusiveAudit says why there are none")


def _as_given(value: object) -> object:
    return value
