"""What went wrong with the pod of a run: told from what Kubernetes says of it, and as somebody reads it.

A run that fails in its own code has a healthy pod, and is none of this.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import pandas as pd

from cvntrade_assets.operations.condition import Condition
from cvntrade_assets.operations.run_pods import MEMORY_TAG
from cvntrade_assets.operations.taxonomy import Role, Severity

SOURCE = "pods"
"""What finds these conditions."""

_ID_SHOWN = 8
# As the kernel or the kubelet ends a process that it does not ask: 128 and the number of SIGKILL.
_KILLED = 137
# What a container waits for that does not come by waiting.
_STARTS = frozenset({"ContainerCreating", "PodInitializing"})


class PodFault(StrEnum):
    """What can go wrong with a pod."""

    OOM = "oom"
    LOST = "lost"
    UNSCHEDULABLE = "unschedulable"
    UNSTARTABLE = "unstartable"
    OVERDUE = "overdue"
    CRASHED = "crashed"


SATURATED = (PodFault.LOST, PodFault.UNSCHEDULABLE)
"""Beside kills for want of memory, what says that the cluster has no room."""


@dataclass(frozen=True)
class PodSeen:
    """What Kubernetes says of one pod; a text is empty where it says nothing.

    Attributes:
        name: Its name.
        node: Where it was scheduled.
        phase: `Pending`, `Running`, `Succeeded`, `Failed` or `Unknown`.
        reason: Why it is in that phase, a word: `Evicted`, `NodeLost`.
        message: The same in a sentence.
        unscheduled: Why no node takes it.
        disrupted: Why it was ended from outside.
        waiting: What its container waits for, a word: `ImagePullBackOff`.
        waiting_message: The same in a sentence.
        ended: Why its container ended, a word: `OOMKilled`, `Error`.
        exit_code: How its container ended; None while it has not.
        is_going: Whether somebody has deleted it.
    """

    name: str
    node: str = ""
    phase: str = ""
    reason: str = ""
    message: str = ""
    unscheduled: str = ""
    disrupted: str = ""
    waiting: str = ""
    waiting_message: str = ""
    ended: str = ""
    exit_code: int | None = None
    is_going: bool = False


@dataclass(frozen=True)
class JobSeen:
    """What Kubernetes says of a run's Job and its pods.

    Attributes:
        name: Its name.
        is_there: Whether there is one at all.
        pods: Its pods, the newest last.
        active: How many of them are pending or run.
        succeeded: How many ended well.
        failed: How many did not.
        failure: Why the Job failed, a word: `DeadlineExceeded`, `BackoffLimitExceeded`; empty when it has not.
    """

    name: str
    is_there: bool = True
    pods: Sequence[PodSeen] = ()
    active: int = 0
    succeeded: int = 0
    failed: int = 0
    failure: str = ""

    @property
    def has_ended(self) -> bool:
        """Whether none of its pods works any more."""
        return not self.is_there or bool(self.failure) or (not self.active and bool(self.succeeded or self.failed))


@dataclass(frozen=True)
class Found:
    """A fault of one pod.

    Attributes:
        kind: What went wrong.
        pod: Which pod; empty when none is there any more.
        node: Where it was.
        what: What happened, without the pod's name.
    """

    kind: PodFault
    pod: str
    node: str
    what: str

    def told(self, memory_gib: float | None = None) -> str:
        """What happened and what to do about it, as the run's failure says it.

        Args:
            memory_gib: What the pod was given; None when that is not known.
        """
        which = f"Pod {self.pod or '(gone)'}{f' on node {self.node}' if self.node else ''}"
        room = "" if memory_gib is None else f" It was given {memory_gib:g} GiB."
        return f"{which}: {self.what}.{room if self.kind is PodFault.OOM else ''} {_STEPS[self.kind]}"


_STEPS: Mapping[PodFault, str] = {
    PodFault.OOM: (
        "When it is started again, it gets the next larger memory of the settings, unless there is none or it asks for "
        "memory itself. If that is not enough, raise "
        "CVN_POD_REFRESH_MEMORY_GIB, CVN_POD_TRAINING_MEMORY_GIB or CVN_POD_DISCOVERY_MEMORY_GIB, whichever its work "
        f"is, with `cvntrade settings set`, or start the run with the tag {MEMORY_TAG}."
    ),
    PodFault.LOST: (
        "It is started again by itself. If that recurs, look at the node with `kubectl describe node`: is it drained, "
        "out of memory or disk, or gone?"
    ),
    PodFault.UNSCHEDULABLE: (
        "No node had room for it in time. Add nodes, run fewer at a time (CVN_MAX_CONCURRENT_RUNS), or give pods less "
        "with CVN_POD_… settings."
    ),
    PodFault.UNSTARTABLE: (
        "Its container does not start: see that the image, and every ConfigMap and Secret that it names, is there "
        "(`kubectl describe pod`)."
    ),
    PodFault.OVERDUE: (
        "It outlived the longest that a run may take, and Kubernetes ended it. Read in the run's log where it hung."
    ),
    PodFault.CRASHED: "Its worker ended without a word of its own: read the pod's log (`kubectl logs`).",
}


def find_fault(job: JobSeen) -> Found | None:
    """What is wrong with a run's pod, the cause before what it caused; None when nothing is, or not yet.

    A pod that still waits for a node may yet find one: it is told of as unschedulable, and it is for the caller to say
    when that has lasted too long.
    """
    if not job.is_there:
        return Found(PodFault.LOST, "", "", f"Job {job.name} is gone, and its pod with it")
    pod = job.pods[-1] if job.pods else None
    if job.failure == "DeadlineExceeded":
        name, node = (pod.name, pod.node) if pod else ("", "")
        return Found(PodFault.OVERDUE, name, node, f"Job {job.name} exceeded its active deadline")
    if pod is not None and pod.is_going and job.has_ended and pod.exit_code is None:
        return Found(PodFault.LOST, pod.name, pod.node, f"was removed ({pod.disrupted or 'nothing says by whom'})")
    if pod is None:
        lost = f"Job {job.name} has no pod any more: its node or somebody removed it"
        return Found(PodFault.LOST, "", "", lost) if job.has_ended else None
    kind_what = _of_pod(pod)
    return None if kind_what is None else Found(kind_what[0], pod.name, pod.node, kind_what[1])


def _of_pod(pod: PodSeen) -> tuple[PodFault, str] | None:
    if pod.ended == "OOMKilled":
        return PodFault.OOM, "was killed for want of memory"
    if pod.disrupted:
        return PodFault.LOST, f"was ended from outside ({pod.disrupted})"
    if pod.phase == "Unknown" or (pod.phase == "Failed" and pod.exit_code is None):
        return PodFault.LOST, f"was lost ({_words(pod.reason, pod.message) or 'Kubernetes gives no reason'})"
    if pod.phase == "Failed" and pod.reason:
        return PodFault.LOST, f"was ended by its node ({_words(pod.reason, pod.message)})"
    if pod.exit_code:
        killed = ", a kill" if pod.exit_code == _KILLED else ""
        return PodFault.CRASHED, f"ended with exit code {pod.exit_code}{killed}"
    if pod.phase == "Pending" and pod.unscheduled:
        return PodFault.UNSCHEDULABLE, f"found no node ({pod.unscheduled})"
    if pod.waiting and pod.waiting not in _STARTS:
        return PodFault.UNSTARTABLE, f"cannot start ({_words(pod.waiting, pod.waiting_message)})"
    return None


def _words(word: str, sentence: str) -> str:
    return ": ".join(each for each in (word, sentence) if each)


@dataclass(frozen=True)
class RecordedFault:
    """A fault on record that nothing has made good since.

    Attributes:
        kind: What went wrong.
        run_id: Whose pod.
        job: The run's job.
        crypto: The run's crypto; None for a run about none.
        message: What happened and what to do.
        at: When it was found, UTC.
    """

    kind: PodFault
    run_id: str
    job: str
    crypto: str | None
    message: str
    at: pd.Timestamp


# Nothing runs any more where no pod finds a node; what was lost is started again by itself.
_SEVERITIES: Mapping[PodFault, Severity] = {
    PodFault.OOM: Severity.P2,
    PodFault.LOST: Severity.P3,
    PodFault.UNSCHEDULABLE: Severity.P1,
    PodFault.UNSTARTABLE: Severity.P1,
    PodFault.OVERDUE: Severity.P2,
    PodFault.CRASHED: Severity.P2,
}
_NEXT: Mapping[PodFault, str] = {
    PodFault.OOM: "`cvntrade settings show`: the CVN_POD_… sizes; raise what is too small with `cvntrade settings set`",
    PodFault.LOST: "`kubectl get events`: which node lost it, and why; it is started again by itself",
    PodFault.UNSCHEDULABLE: "`cvntrade status`: end what is in the way with `cvntrade stop RUN_ID`, or add nodes",
    PodFault.UNSTARTABLE: "`kubectl describe pod`: which image, ConfigMap or Secret is missing",
    PodFault.OVERDUE: "read on its page where it hung",
    PodFault.CRASHED: "`kubectl logs`: the last words of its worker",
}


def fault_conditions(faults: Sequence[RecordedFault]) -> list[Condition]:
    """One condition for every kind of fault, job and crypto: the newest one says how it is."""
    newest: dict[str, RecordedFault] = {}
    for fault in sorted(faults, key=lambda each: each.at):
        newest[f"{SOURCE}/{fault.kind}/{fault.job}/{fault.crypto or '-'}"] = fault
    return [
        Condition(
            key=key,
            source=SOURCE,
            kind=f"{SOURCE}/{fault.kind}",
            severity=_SEVERITIES[fault.kind],
            owner=Role.PLATFORM_OWNER,
            what=f"the pod of run {fault.run_id[:_ID_SHOWN]} of {fault.job} failed: {fault.message}",
            where=fault.crypto or fault.job,
            since=fault.at,
            next_step=_NEXT[fault.kind],
            link=f"/runs/{fault.run_id}",
        )
        for key, fault in newest.items()
    ]
