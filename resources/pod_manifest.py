"""The Kubernetes Job of a run: one pod that meets the Pod Security Standard `restricted`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dagster_k8s.job import DagsterK8sJobConfig, UserDefinedDagsterK8sConfig, construct_dagster_k8s_job
from kubernetes.client import V1Job

from cvntrade_assets.operations.run_pods import PodSize, Work
from resources.pod_place import PodPlace

USER = 65532
"""Who the image runs as."""

GRACE_SECONDS = 45
"""How long an interrupted worker may take to end before it is killed: less than Dagster waits for it to be canceled."""

KEPT_SECONDS = 3600
"""How long an ended Job can still be looked at."""

SCRATCH = "4Gi"
"""What a pod may write to /tmp, its only folder that can be written; more evicts it."""


@dataclass(frozen=True)
class PodRun:
    """What of a run its Job says.

    Attributes:
        name: The Job's and the pod's.
        run_id: The run.
        job: The run's job.
        crypto: What it is about; None for nothing.
        work: What it does.
        size: What its pod is given.
        arguments: What runs in it.
        deadline_seconds: How long it may exist at most, the wait for a node included; None for as long as it takes.
    """

    name: str
    run_id: str
    job: str
    crypto: str | None
    work: Work
    size: PodSize
    arguments: Sequence[str]
    deadline_seconds: int | None


def job_of(run: PodRun, place: PodPlace) -> V1Job:
    """The Job. Nothing in it is secret: what is stands in Secrets that it names."""
    return construct_dagster_k8s_job(
        _common(run, place),
        list(run.arguments),
        job_name=run.name,
        pod_name=run.name,
        component="run_worker",
        user_defined_k8s_config=UserDefinedDagsterK8sConfig(
            container_config={"volume_mounts": _mounts(place), "security_context": _CONTAINER_SECURITY},
            pod_spec_config={
                "automount_service_account_token": False,
                "enable_service_links": False,
                "security_context": _POD_SECURITY,
                "termination_grace_period_seconds": GRACE_SECONDS,
                "volumes": _volumes(place),
            },
            job_spec_config={
                "backoff_limit": 0,
                "ttl_seconds_after_finished": KEPT_SECONDS,
                **({} if run.deadline_seconds is None else {"active_deadline_seconds": run.deadline_seconds}),
            },
        ),
        labels=_labels(run),
        env_vars=[{"name": "DAGSTER_RUN_JOB_NAME", "value": run.job}],
    )


def _common(run: PodRun, place: PodPlace) -> DagsterK8sJobConfig:
    return DagsterK8sJobConfig(
        job_image=place.image,
        dagster_home=place.dagster_home,
        image_pull_policy="IfNotPresent",
        image_pull_secrets=[{"name": name} for name in place.pull_secrets],
        service_account_name=place.service_account,
        instance_config_map=place.instance_config_map,
        env_config_maps=place.env_config_maps,
        env_secrets=place.env_secrets,
        resources=run.size.resources,
    )


def _labels(run: PodRun) -> Mapping[str, str]:
    return {
        "dagster/job": run.job,
        "dagster/run-id": run.run_id,
        "cvntrade/work": str(run.work),
        **({} if run.crypto is None else {"cvntrade/crypto": run.crypto}),
    }


def _mounts(place: PodPlace) -> list[dict[str, Any]]:
    return [
        {"name": "tmp", "mount_path": "/tmp"},
        {"name": "instance", "mount_path": place.dagster_home, "read_only": True},
    ]


def _volumes(place: PodPlace) -> list[dict[str, Any]]:
    return [
        {"name": "tmp", "empty_dir": {"size_limit": SCRATCH}},
        {"name": "instance", "config_map": {"name": place.instance_config_map}},
    ]


_POD_SECURITY: Mapping[str, Any] = {
    "run_as_non_root": True,
    "run_as_user": USER,
    "run_as_group": USER,
    "fs_group": USER,
    "seccomp_profile": {"type": "RuntimeDefault"},
}
_CONTAINER_SECURITY: Mapping[str, Any] = {
    "allow_privilege_escalation": False,
    "read_only_root_filesystem": True,
    "run_as_non_root": True,
    "capabilities": {"drop": ["ALL"]},
}
