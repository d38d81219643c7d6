"""What Kubernetes says of a run's Job and pods, as plain facts."""

from collections.abc import Iterable
from typing import Any

from kubernetes.client import ApiException, BatchV1Api, CoreV1Api, V1Pod

from cvntrade_assets.operations.pod_faults import JobSeen, PodSeen

SECONDS = 10
"""How long the API server may take to answer one question."""

_NOT_FOUND = 404


def look_at_job(batch: BatchV1Api, core: CoreV1Api, name: str, namespace: str) -> JobSeen:
    """A Job and its pods as they stand.

    Raises:
        ApiException: the API server refuses to say.
        urllib3.exceptions.HTTPError: it does not answer.
    """
    try:
        job = batch.read_namespaced_job(name, namespace, _request_timeout=SECONDS)
    except ApiException as error:
        if error.status != _NOT_FOUND:
            raise
        return JobSeen(name, is_there=False)
    selector = f"job-name={name}"
    pods = core.list_namespaced_pod(namespace, label_selector=selector, _request_timeout=SECONDS).items
    status = job.status
    failures = [each.reason or "Failed" for each in _true(status, "Failed")]
    return JobSeen(
        name,
        pods=tuple(_pod(pod) for pod in sorted(pods, key=lambda pod: str(pod.metadata.creation_timestamp))),
        active=(status and status.active) or 0,
        succeeded=(status and status.succeeded) or 0,
        failed=(status and status.failed) or 0,
        failure=failures[0] if failures else "",
    )


def delete_job(batch: BatchV1Api, name: str, namespace: str) -> bool:
    """Delete a Job and, behind it, its pod, which is interrupted and given its time to end; False when it is gone.

    Raises:
        ApiException: the API server refuses.
        urllib3.exceptions.HTTPError: it does not answer.
    """
    try:
        # Unless told otherwise, Kubernetes leaves the pod of a deleted Job running.
        batch.delete_namespaced_job(name, namespace, propagation_policy="Background", _request_timeout=SECONDS)
    except ApiException as error:
        if error.status != _NOT_FOUND:
            raise
        return False
    return True


def _pod(pod: V1Pod) -> PodSeen:
    status, spec = pod.status, pod.spec
    scheduled = [each for each in _conditions(status, "PodScheduled") if each.status == "False"]
    disrupted = _true(status, "DisruptionTarget")
    containers = (status and status.container_statuses) or []
    state = containers[0].state if containers else None
    waiting, ended = (state and state.waiting), (state and state.terminated)
    return PodSeen(
        name=pod.metadata.name,
        node=(spec and spec.node_name) or "",
        phase=(status and status.phase) or "",
        reason=(status and status.reason) or "",
        message=(status and status.message) or "",
        unscheduled=(scheduled[0].message or scheduled[0].reason or "no reason is given") if scheduled else "",
        disrupted=": ".join(filter(None, (disrupted[0].reason, disrupted[0].message))) if disrupted else "",
        waiting=(waiting and waiting.reason) or "",
        waiting_message=(waiting and waiting.message) or "",
        ended=(ended and ended.reason) or "",
        exit_code=ended.exit_code if ended else None,
        is_going=pod.metadata.deletion_timestamp is not None,
    )


def _conditions(status: Any, kind: str) -> list[Any]:
    return [each for each in (status and status.conditions) or [] if each.type == kind]


def _true(status: Any, kind: str) -> list[Any]:
    held: Iterable[Any] = _conditions(status, kind)
    return [each for each in held if each.status == "True"]
