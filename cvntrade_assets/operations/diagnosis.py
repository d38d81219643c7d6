"""The diagnosis of one record: a primary code, every other code that triggers, and what could not be judged."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from cvntrade_assets.operations.correlation_data import AnyRecord
from cvntrade_assets.operations.criteria import Judged, judge, sortino_step
from cvntrade_assets.operations.playbook import Move, next_move, slow_run_move
from cvntrade_assets.operations.taxonomy import TAXONOMY, Code, Role, Severity

_FIRST = (
    Code.INFRA_SATURATED,
    Code.PIPELINE_DEGRADED,
    Code.ML_USELESS,
    Code.NO_CANDIDATES,
    Code.EXECUTION_MISMATCH,
    Code.ML_MARGINAL,
    Code.ML_EXPLOITABLE,
    Code.ML_SOLID,
)
"""Who is primary: the platform before the model, what decides before what follows, the tree's end last."""


@dataclass(frozen=True)
class Finding:
    """One code that triggered.

    Attributes:
        code: which.
        meaning: what it means.
        evidence: the numbers that triggered it.
        severity: how bad it is.
        owner: who answers for it.
        time_limit: by when somebody has to be at it.
        next_command: the playbook's next command, to be pasted.
        because: why this command, and what to look at first.
        exit_when: when the incident is over.
        escalation: who takes over, and when.
    """

    code: Code
    meaning: str
    evidence: str
    severity: Severity
    owner: Role
    time_limit: str
    next_command: str
    because: str
    exit_when: str
    escalation: str


@dataclass(frozen=True)
class Diagnosis:
    """What is the matter with one candidate of one crypto.

    Attributes:
        crypto: whose record it was.
        pte: which trade execution parameters.
        primary: the code that is acted on first.
        secondary: every other code that triggered, causes before what they cause.
        path: the decision tree's steps, in words.
        unknown: what could not be judged, and what it lacked.
        slow_run: what to do about the time the run took; None when that was usual, or is unknown.
    """

    crypto: str
    pte: str
    primary: Finding
    secondary: tuple[Finding, ...]
    path: tuple[str, ...]
    unknown: tuple[str, ...]
    slow_run: Move | None

    @property
    def findings(self) -> tuple[Finding, ...]:
        """All of them, the primary first."""
        return (self.primary, *self.secondary)

    @property
    def codes(self) -> tuple[Code, ...]:
        """Every code that triggered, the primary first."""
        return tuple(finding.code for finding in self.findings)

    @property
    def severity(self) -> Severity:
        """The worst of all findings."""
        return min(finding.severity for finding in self.findings)

    def to_record(self) -> dict[str, Any]:
        """The diagnosis as JSON takes it."""
        whole = asdict(self) | {"codes": self.codes, "severity": self.severity}
        plain: dict[str, Any] = _plain(whole)
        return plain


def diagnose(record: AnyRecord) -> Diagnosis:
    """Name what is the matter: exactly one primary code, since F1 always lies somewhere beside its baseline."""
    judged = judge(record)
    findings = _findings(record, judged)
    primary = next(code for code in _FIRST if code in findings)
    return Diagnosis(
        crypto=record.crypto,
        pte=record.pte,
        primary=findings[primary],
        secondary=tuple(finding for code, finding in findings.items() if code != primary),
        path=tuple(_path(record, judged)),
        unknown=tuple(f"{code}: {each.said}" for code, each in judged.items() if each.triggered is None),
        slow_run=slow_run_move(record),
    )


def _findings(record: AnyRecord, judged: Mapping[Code, Judged]) -> dict[Code, Finding]:
    """Of every code that triggered, causes before what they cause."""
    triggered = [code for code in Code if judged[code].triggered]
    findings = {}
    for code in triggered:
        entry, move = TAXONOMY[code], next_move(code, record, triggered)
        findings[code] = Finding(
            code,
            entry.meaning,
            judged[code].said,
            entry.severity,
            entry.owner,
            entry.severity.time_limit,
            move.command,
            move.because,
            move.exit_when,
            move.escalation,
        )
    return findings


def _path(record: AnyRecord, judged: Mapping[Code, Judged]) -> Iterator[str]:
    """The steps of the tree: F1 beside its baseline, then the Sortino ratio, then how trades ended."""
    by_delta = (Code.ML_USELESS, Code.ML_MARGINAL, Code.ML_EXPLOITABLE, Code.ML_SOLID)
    model = next(code for code in by_delta if judged[code].triggered)
    yield f"f1_buy beside baseline_f1_buy: {judged[model].said}: {model}"
    if model in (Code.ML_USELESS, Code.ML_MARGINAL):
        return
    yield sortino_step(record.sortino)
    if not judged[Code.EXECUTION_MISMATCH].triggered:
        return
    for code in (Code.SL_TOO_TIGHT, Code.TP_TOO_AMBITIOUS, Code.HORIZON_TOO_SHORT):
        exits = judged[code]
        verdict = {True: str(code), False: "no", None: "unknown"}[exits.triggered]
        yield f"exits: {exits.said}: {verdict}"


def _plain(value: Any) -> Any:
    """Mappings and lists of what JSON knows: an enum's word is text, a tuple a list."""
    if isinstance(value, Mapping):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return str(value) if isinstance(value, str) else value
