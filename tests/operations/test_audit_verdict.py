"""Verdicts of the audit: three kinds that nothing confuses, neither mypy, nor run time, nor what was stored."""

import itertools
import json
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import pytest

from cvntrade_assets.operations.audit_verdict import (
    CAPTURE_REQUIREMENTS,
    Anchor,
    Audit,
    Audited,
    AuditError,
    Capture,
    Certificate,
    CompleteAudit,
    InconclusiveAudit,
    NotCertifiableError,
    ProbeResult,
    SkippedAudit,
    SkipRefusedError,
    certify,
    from_record,
    require_skippable,
    shortcomings,
    to_record,
)
from cvntrade_assets.settings import SETTINGS

ROOT = Path(__file__).parent.parent.parent
SUBJECT = Audited("s40", "a model", "a training set")
PASSED = ProbeResult("spans_apart", True, "nothing crosses", 0.0, 0.0)
FAILED = ProbeResult("rows_once", False, "3 rows stand twice", 3.0, 0.0)
ANCHOR = Anchor(300, 8, 256, 0.0, 1e-6, 7, 7)

COMPLETE = CompleteAudit(SUBJECT, (PASSED,), ANCHOR)
SKIPPED = SkippedAudit(SUBJECT, (PASSED,))
INCONCLUSIVE = InconclusiveAudit(SUBJECT, "targets.parquet is missing")
AUDITS: tuple[Audit, ...] = (COMPLETE, SKIPPED, INCONCLUSIVE)


def test_each_kind_says_what_the_manual_wants() -> None:
    assert (COMPLETE.s22a1_status, COMPLETE.s22a1_anchor_available) == ("REPRODUCED", True)
    assert (SKIPPED.s22a1_status, SKIPPED.s22a1_anchor_available) == ("SKIPPED", False)
    assert (INCONCLUSIVE.s22a1_status, INCONCLUSIVE.s22a1_anchor_available) == ("INCONCLUSIVE_TOOLING", False)


def test_only_a_complete_audit_has_an_anchor() -> None:
    assert [hasattr(audit, "anchor") for audit in AUDITS] == [True, False, False]


# certify


def test_a_complete_audit_that_found_nothing_is_certified() -> None:
    assert certify(COMPLETE) == Certificate(SUBJECT)


@pytest.mark.parametrize("audit", [SKIPPED, INCONCLUSIVE, "complete", None])
def test_anything_else_is_not_certified_at_run_time(audit: object) -> None:
    with pytest.raises(NotCertifiableError, match="certifies nothing; expected a complete audit"):
        certify(audit)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("audit", "why"),
    [
        (replace(COMPLETE, probes=(PASSED, FAILED)), "^rows_once: 3 rows stand twice$"),
        (
            replace(COMPLETE, anchor=replace(ANCHOR, largest_difference=0.1)),
            "the second fit is not the recorded model: .*differ by up to 0.1",
        ),
        (replace(COMPLETE, anchor=replace(ANCHOR, refitted_best_round=9)), "the best round is 9, recorded 7"),
    ],
)
def test_a_complete_audit_that_found_something_is_not_certified(audit: CompleteAudit, why: str) -> None:
    with pytest.raises(NotCertifiableError, match=why):
        certify(audit)


def test_an_anchor_shorter_than_the_model_is_compared_by_its_trees() -> None:
    assert replace(ANCHOR, recorded_best_round=400, refitted_best_round=None).reproduced


def test_the_probes_of_a_skipped_audit_say_the_same() -> None:
    assert shortcomings(replace(SKIPPED, probes=(PASSED, FAILED))) == ["rows_once: 3 rows stand twice"]


SNIPPET = """
from cvntrade_assets.operations.audit_verdict import (
    Audit, Certificate, CompleteAudit, InconclusiveAudit, SkippedAudit, certify,
)

def complete(audit: CompleteAudit) -> Certificate:
    return certify(audit)

def skipped(audit: SkippedAudit) -> Certificate:
    return certify(audit)

def inconclusive(audit: InconclusiveAudit) -> Certificate:
    return certify(audit)

def any_of_them(audit: Audit) -> Certificate:
    return certify(audit)

def anchor_of(audit: SkippedAudit) -> object:
    return audit.anchor
"""


def test_mypy_takes_complete_audits_and_no_others(tmp_path: Path) -> None:
    (tmp_path / "snippet.py").write_text(SNIPPET)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", tmp_path / "cache", tmp_path / "snippet.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    errors = [line.split(":", 3)[1:] for line in done.stdout.splitlines() if ": error:" in line]
    refused = {SNIPPET.splitlines()[int(line) - 2].split("(")[0]: said for line, _, said in errors}
    assert done.returncode == 1, done.stdout + done.stderr
    assert set(refused) == {"def skipped", "def inconclusive", "def any_of_them", "def anchor_of"}, done.stdout
    assert 'incompatible type "SkippedAudit"; expected "CompleteAudit"' in refused["def skipped"]
    assert 'incompatible type "InconclusiveAudit"; expected "CompleteAudit"' in refused["def inconclusive"]
    assert 'expected "CompleteAudit"' in refused["def any_of_them"]
    assert '"SkippedAudit" has no attribute "anchor"' in refused["def anchor_of"]


# what cannot be made


def test_a_complete_audit_without_an_anchor_cannot_be_made() -> None:
    with pytest.raises(AuditError, match="without one it is a SkippedAudit"):
        CompleteAudit(SUBJECT, (PASSED,), None)  # type: ignore[arg-type]


@pytest.mark.parametrize("make", [lambda: SkippedAudit(SUBJECT, ()), lambda: CompleteAudit(SUBJECT, (), ANCHOR)])
def test_an_audit_without_probes_cannot_be_made(make) -> None:
    with pytest.raises(AuditError, match="without a single probe"):
        make()


def test_an_inconclusive_audit_says_why() -> None:
    with pytest.raises(AuditError, match="says why"):
        InconclusiveAudit(SUBJECT, "")


def test_an_unregistered_diagnosis_cannot_be_audited() -> None:
    with pytest.raises(AuditError, match="'s99' is not registered"):
        Audited("s99", "a model", "a training set")


# the register


def test_the_register_holds_what_the_setting_offers() -> None:
    assert set(SETTINGS["CVN_AUDIT_DIAGNOSIS"].kind.words) == set(CAPTURE_REQUIREMENTS)


def test_skipping_is_for_what_needs_x_and_y_only() -> None:
    for diagnosis, needed in CAPTURE_REQUIREMENTS.items():
        if needed is Capture.XY_ONLY:
            require_skippable(diagnosis)
            continue
        with pytest.raises(SkipRefusedError, match=f"diagnosis {diagnosis} needs xy_and_model"):
            require_skippable(diagnosis)
        with pytest.raises(SkipRefusedError):
            SkippedAudit(replace(SUBJECT, diagnosis=diagnosis), (PASSED,))
    assert CAPTURE_REQUIREMENTS["s40"] is Capture.XY_ONLY


def test_skipping_an_unknown_diagnosis_is_refused() -> None:
    with pytest.raises(SkipRefusedError, match="not registered; known: s40, s22"):
        require_skippable("s99")


# records


@pytest.mark.parametrize("audit", AUDITS, ids=lambda audit: audit.kind)
def test_a_record_reads_back_as_what_it_was(audit: Audit) -> None:
    record = json.loads(json.dumps(to_record(audit)))
    assert (record["kind"], record["s22a1_status"]) == (audit.kind, audit.s22a1_status)
    assert record["s22a1_anchor_available"] is audit.s22a1_anchor_available
    assert from_record(record) == audit
    assert type(from_record(record)) is type(audit)


@pytest.mark.parametrize(("audit", "other"), list(itertools.permutations(AUDITS, 2)), ids=lambda audit: audit.kind)
def test_a_record_cannot_be_read_back_as_another(audit: Audit, other: Audit) -> None:
    renamed = to_record(audit) | {"kind": other.kind}
    with pytest.raises(AuditError, match="audit again"):
        from_record(renamed)
    # Even with every word of the other's, what it holds gives it away.
    with pytest.raises(AuditError, match="audit again"):
        from_record(renamed | {name: to_record(other)[name] for name in ("s22a1_status", "s22a1_anchor_available")})


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"kind": "half"}, "kind 'half' is unknown"),
        ({"s22a1_status": "REPRODUCED"}, "says 'REPRODUCED' and what it holds says 'SKIPPED'"),
        ({"s22a1_anchor_available": True}, "audit again"),
        ({"anchor": None}, "a SkippedAudit has"),
    ],
)
def test_a_changed_record_is_refused(change: dict[str, object], why: str) -> None:
    with pytest.raises(AuditError, match=why):
        from_record(to_record(SKIPPED) | change)


def test_a_status_is_what_the_anchor_says() -> None:
    other = replace(COMPLETE, anchor=replace(ANCHOR, largest_difference=1.0))
    assert other.s22a1_status == "NOT_REPRODUCED"
    assert from_record(to_record(other)) == other
    with pytest.raises(AuditError, match="audit again"):
        from_record(to_record(other) | {"s22a1_status": "REPRODUCED"})


def test_no_field_of_one_kind_makes_it_another() -> None:
    names = [frozenset(field.name for field in fields(audit)) for audit in AUDITS]
    assert len(set(names)) == len(AUDITS)
