"""What is wrong with a pod, from what Kubernetes says: a table of exact words, and what has no fault."""

import pandas as pd
import pytest

from cvntrade_assets.operations.failure_text import plainly
from cvntrade_assets.operations.pod_faults import (
    Found,
    JobSeen,
    PodFault,
    PodSeen,
    RecordedFault,
    fault_conditions,
    find_fault,
)
from cvntrade_assets.operations.taxonomy import Role, Severity

AT = pd.Timestamp("2025-09-01 12:00", tz="UTC")


def pod(**told: object) -> PodSeen:
    return PodSeen("p", "n", **told)  # type: ignore[arg-type]


def job(*pods: PodSeen, **told: object) -> JobSeen:
    return JobSeen("j", pods=pods, **told)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("seen", "kind", "what"),
    [
        (
            job(pod(phase="Failed", ended="OOMKilled", exit_code=137)),
            "oom",
            "was killed for want of memory",
        ),
        # The node evicted it because it ran out of memory: the kill is the cause.
        (job(pod(phase="Failed", ended="OOMKilled", exit_code=137, disrupted="x")), "oom", None),
        (job(pod(phase="Failed", ended="Error", exit_code=137)), "crashed", "ended with exit code 137, a kill"),
        (job(pod(phase="Failed", ended="Error", exit_code=1)), "crashed", "ended with exit code 1"),
        (job(pod(phase="Failed", reason="Evicted", message="disk")), "lost", "was lost (Evicted: disk)"),
        (job(pod(phase="Failed", reason="Evicted", exit_code=137)), "lost", "was ended by its node (Evicted)"),
        (job(pod(phase="Unknown")), "lost", "was lost (Kubernetes gives no reason)"),
        (job(pod(phase="Running", disrupted="PreemptionByScheduler")), "lost", None),
        (job(pod(phase="Running", is_going=True), failed=1), "lost", None),
        (job(failed=1), "lost", "Job j has no pod any more: its node or somebody removed it"),
        (JobSeen("j", is_there=False), "lost", "Job j is gone, and its pod with it"),
        (job(pod(phase="Pending", unscheduled="0/3 nodes")), "unschedulable", "found no node (0/3 nodes)"),
        (job(pod(phase="Pending", waiting="ErrImagePull")), "unstartable", "cannot start (ErrImagePull)"),
        (job(pod(phase="Running"), failure="DeadlineExceeded"), "overdue", "Job j exceeded its active deadline"),
        # The newest pod counts.
        (job(pod(phase="Failed", exit_code=1), pod(phase="Running"), active=1), None, None),
        (job(pod(phase="Running"), active=1), None, None),
        (job(pod(phase="Pending", waiting="ContainerCreating"), active=1), None, None),
        (job(pod(phase="Succeeded", exit_code=0), succeeded=1), None, None),
        (job(), None, None),
    ],
)
def test_the_cause_is_told(seen: JobSeen, kind: str | None, what: str | None) -> None:
    found = find_fault(seen)
    assert (found and str(found.kind)) == kind
    if what is not None:
        assert found is not None and found.what == what


@pytest.mark.parametrize(
    ("seen", "ended"),
    [
        (job(active=1), False),
        (job(), False),
        (job(active=1, failed=1), False),
        (job(failed=1), True),
        (job(succeeded=1), True),
        (job(active=1, failure="DeadlineExceeded"), True),
        (JobSeen("j", is_there=False), True),
    ],
)
def test_when_a_job_has_ended(seen: JobSeen, ended: bool) -> None:
    assert seen.has_ended is ended


@pytest.mark.parametrize("kind", list(PodFault))
def test_every_fault_says_which_pod_what_happened_and_what_to_do(kind: PodFault) -> None:
    told = Found(kind, "p", "n", "it happened").told(4.0)
    assert told.startswith("Pod p on node n: it happened.")
    assert len(told.split(". ", 1)[1]) > 20
    assert ("4 GiB" in told) is (kind is PodFault.OOM)


def fault(kind: PodFault, minute: int, crypto: str | None = "BTCUSDC", run: str = "run-12345") -> RecordedFault:
    return RecordedFault(kind, run, "retrain", crypto, f"message {minute}", AT + pd.Timedelta(minutes=minute))


def test_one_condition_for_each_kind_and_crypto_and_the_newest_speaks() -> None:
    found = fault_conditions(
        [
            fault(PodFault.OOM, 2),
            fault(PodFault.OOM, 1),
            fault(PodFault.LOST, 3),
            fault(PodFault.UNSCHEDULABLE, 4, "ETHUSDC"),
            fault(PodFault.LOST, 5, None),
        ]
    )
    told = {each.key: each for each in found}
    assert {key: each.severity for key, each in told.items()} == {
        "pods/oom/retrain/BTCUSDC": Severity.P2,
        "pods/lost/retrain/BTCUSDC": Severity.P3,
        "pods/unschedulable/retrain/ETHUSDC": Severity.P1,
        "pods/lost/retrain/-": Severity.P3,
    }
    oom = told["pods/oom/retrain/BTCUSDC"]
    assert "message 2" in oom.what and oom.since == AT + pd.Timedelta(minutes=2)
    assert {each.owner for each in found} == {Role.PLATFORM_OWNER}
    assert {each.source for each in found} == {"pods"}
    assert told["pods/lost/retrain/-"].where == "retrain"
    assert oom.link == "/runs/run-12345"


def test_what_monitoring_says_around_it_is_left_out() -> None:
    framed = "Detected run worker status FAILED: 'Pod p: it's gone. Do this.'. Marking run 1-2 as failed."
    assert plainly(framed) == "Pod p: it's gone. Do this."
    assert plainly("Detected nothing") == "Detected nothing"
