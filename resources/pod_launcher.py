"""Runs in pods: one Kubernetes Job with one pod for each run, and what becomes of it.

Dagster's own launcher for Kubernetes underneath, but for four things. What a pod is given follows from the work of its
run. The manifest is ours whole: a tag of a run cannot change it. A pod that was lost, killed for want of memory or
never scheduled is told of as that, and goes on record. And an API server that does not answer says nothing of a run:
where Dagster's own would have it failed, and started again beside the pod that still works, the next look asks again.
"""

import os
from collections.abc import Callable
from typing import Any, TypeVar

import dagster as dg
import pandas as pd
from dagster._core.launcher import CheckRunHealthResult, LaunchRunContext, WorkerStatus
from dagster._core.storage.tags import (
    DOCKER_IMAGE_TAG,
    MAX_RETRIES_TAG,
    MAX_RUNTIME_SECONDS_TAG,
    PARENT_RUN_ID_TAG,
    ROOT_RUN_ID_TAG,
)
from dagster._grpc.types import ExecuteRunArgs
from dagster._serdes import ConfigurableClassData
from dagster_k8s.client import (
    DagsterK8sAPIRetryLimitExceeded,
    DagsterK8sUnrecoverableAPIError,
    k8s_api_retry_creation_mutation,
)
from dagster_k8s.job import K8S_RESOURCE_REQUIREMENTS_KEY, USER_DEFINED_K8S_CONFIG_KEY, get_job_name_from_run_id
from dagster_k8s.launcher import K8sRunLauncher
from kubernetes.client import ApiException
from urllib3.exceptions import HTTPError

from cvntrade_assets.operations.pod_faults import Found, JobSeen, PodFault, find_fault
from cvntrade_assets.operations.run_pods import (
    CORES_TAG,
    MEMORY_TAG,
    WORK_TAG,
    PodRequestError,
    PodSize,
    Work,
    pod_size,
    work_of,
)
from cvntrade_assets.settings import SettingsError, resolve
from resources.pod_faults import crypto_of, killed_at_gib, record_fault
from resources.pod_manifest import PodRun, job_of
from resources.pod_place import PodPlace
from resources.pod_watch import SECONDS, delete_job, look_at_job
from resources.secrets import process_mask
from resources.warehouse import Warehouse, WarehouseError

T = TypeVar("T")

BEYOND_SECONDS = 3600
"""How much longer than its run a Job may exist: Dagster ends runs, and this is for when no Dagster is there to."""

# A launch that finds no API server asks so often again, after so many seconds: one that is being replaced is away for
# minutes, and every run of the queue would have used up its tries by then.
_TRIES_AGAIN, _AGAIN_SECONDS = 3, 30.0

_CONFLICT = 409
# Tags that would have Dagster's launcher put anything into a manifest: another image, a Secret, an account.
_FREE_FORM = (USER_DEFINED_K8S_CONFIG_KEY, K8S_RESOURCE_REQUIREMENTS_KEY)


class PodApiError(RuntimeError):
    """The API server did not answer, or refused; the message says what was asked, and what to do."""


class PodApiConflictError(PodApiError):
    """The API server refused because of what is there already, or changes at the moment."""


def pod_launcher(inst_data: ConfigurableClassData) -> "PodRunLauncher":
    """The launcher, as the environment describes its place.

    Raises:
        PodPlaceError: the environment does not.
    """
    place = PodPlace.read(os.environ)
    return PodRunLauncher(inst_data, place, Warehouse(os.environ["CVN_WAREHOUSE_URL"]))


class PodRunLauncher(K8sRunLauncher):
    """Makes, watches and ends the pods of runs.

    Args:
        inst_data: What dagster.yaml says of it.
        place: Where pods are made.
        warehouse: Holds the operators' settings, and what went wrong with pods.
    """

    def __init__(self, inst_data: ConfigurableClassData, place: PodPlace, warehouse: Warehouse) -> None:
        in_cluster = "KUBERNETES_SERVICE_HOST" in os.environ
        super().__init__(
            service_account_name=place.service_account,
            instance_config_map=place.instance_config_map,
            dagster_home=place.dagster_home,
            job_image=place.image,
            job_namespace=place.namespace,
            load_incluster_config=in_cluster,
            kubeconfig_file=None if in_cluster else os.environ.get("KUBECONFIG"),
            inst_data=inst_data,
        )
        self._place = place
        self._warehouse = warehouse

    def dispose(self) -> None:
        """Give the connections back."""
        self._warehouse.close()

    @property
    def supports_resume_run(self) -> bool:
        """A worker that was lost is replaced by another run, which reuses what this one has published."""
        return False

    def launch_run(self, context: LaunchRunContext) -> None:
        """Make the run's Job; a run that cannot have one fails, and its failure says why."""
        run = context.dagster_run
        try:
            self._launch(run)
        except (PodRequestError, SettingsError) as error:
            # What is asked for wrongly is asked for wrongly again.
            self._instance.add_run_tags(run.run_id, {MAX_RETRIES_TAG: "0"})
            self._fail(run, error)
        except (PodApiError, WarehouseError) as error:
            self._fail(run, error)

    def _launch(self, run: dg.DagsterRun) -> None:
        work, size = self._work_and_size(run)
        given = {WORK_TAG: str(work), **size.tags, DOCKER_IMAGE_TAG: self._place.image}
        # Before the pod is there: its preflight reads from them what it may use.
        self._instance.add_run_tags(run.run_id, given)
        parent = self._instance.get_run_by_id(run.tags[PARENT_RUN_ID_TAG]) if PARENT_RUN_ID_TAG in run.tags else None
        api, namespace = self._api_client.batch_api, self._place.namespace
        job = job_of(self._pod_run(run, work, size), self._place)
        if parent is not None and parent.is_finished:
            # A pod may outlive its run, e.g. on a node that was cut off; two would work at the same.
            _again("delete the Job of the run before", lambda: delete_job(api, _name(parent.run_id), namespace))
        try:
            _again("create the run's Job", lambda: api.create_namespaced_job(namespace, job, _request_timeout=SECONDS))
        except PodApiConflictError:
            # Another daemon that let the same run go, e.g. one that is just being replaced, has made it.
            if not self._look(run.run_id).is_there:
                raise
        given_told = f"{work}, {size.cores:g} cores, {size.memory_gib:g} GiB"
        told = f"Job {_name(run.run_id)} in {self._place.namespace}: {given_told}"
        self._instance.report_engine_event(told, run, cls=type(self))

    def _work_and_size(self, run: dg.DagsterRun) -> tuple[Work, PodSize]:
        free = [tag for tag in _FREE_FORM if tag in run.tags]
        if free:
            raise PodRequestError(
                f"tag {free[0]} is not taken: what a pod is, the deployment says. Ask for more with {CORES_TAG} and "
                f"{MEMORY_TAG}"
            )
        settings = resolve(base_env=self._warehouse.base_env(), run={}, now=pd.Timestamp.now("UTC"))
        work = work_of(self._assets(run), run.tags)
        # Also when a later try was lost for another reason.
        earlier = [run.tags[tag] for tag in (PARENT_RUN_ID_TAG, ROOT_RUN_ID_TAG) if tag in run.tags]
        killed = killed_at_gib(self._warehouse, earlier) if earlier else None
        return work, pod_size(work, settings, run.tags, killed)

    def _assets(self, run: dg.DagsterRun) -> set[str]:
        """Names of the assets that a run is to build."""
        if run.asset_selection is not None:
            return {key.to_user_string() for key in run.asset_selection}
        planned = self._instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED)
        events = [entry.dagster_event for entry in planned]
        return {event.asset_key.to_user_string() for event in events if event is not None and event.asset_key}

    def _pod_run(self, run: dg.DagsterRun, work: Work, size: PodSize) -> PodRun:
        origin = run.job_code_origin
        if origin is None:
            raise PodRequestError("the run does not say which code it is of: start it from a code location")
        arguments = ExecuteRunArgs(
            job_origin=origin,
            run_id=run.run_id,
            instance_ref=self._instance.get_ref(),
            set_exit_code_on_failure=None,
        ).get_command_args()
        return PodRun(
            name=_name(run.run_id),
            run_id=run.run_id,
            job=run.job_name,
            crypto=crypto_of(run),
            work=work,
            size=size,
            arguments=arguments,
            deadline_seconds=self._deadline(run),
        )

    def _deadline(self, run: dg.DagsterRun) -> int | None:
        """Seconds from the Job's making on; the run's own limit may be larger than that of all, never smaller here.

        A run that was started again from a stuck one carries that one's.
        """
        longest = float(self._instance.run_monitoring_max_runtime_seconds)
        if not longest:
            return None
        own = run.tags.get(MAX_RUNTIME_SECONDS_TAG, "")
        longest = max(longest, float(own) if own.isdecimal() else 0.0)
        return round(longest + self._instance.run_monitoring_start_timeout_seconds + BEYOND_SECONDS)

    def _fail(self, run: dg.DagsterRun, error: Exception) -> None:
        message = process_mask().text(f"The run's pod could not be made: {error}.")
        self._instance.report_run_failed(run, message)

    def terminate(self, run_id: str) -> bool:
        """Delete the run's Job: its worker is interrupted, and killed when it has not ended after the grace time.

        Raises:
            PodApiError: the API server did not do it.
        """
        run = self._instance.get_run_by_id(run_id)
        if run is None or run.is_finished:
            return False
        self._instance.report_run_canceling(run)
        deleted = self._delete(run_id)
        told = "its Job was deleted" if deleted else "its Job was gone already"
        self._instance.report_engine_event(f"Run is being ended: {told}.", run, cls=type(self))
        return deleted

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """How the run's pod stands; what is wrong with it goes on record.

        Raises:
            PodApiError: the API server did not say, and nothing is known.
        """
        seen = self._look(run.run_id)
        if not seen.has_ended:
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        now = self._instance.get_run_by_id(run.run_id)
        if now is None or now.status is not dg.DagsterRunStatus.STARTED:
            # It has ended between the two looks, or is being ended: so has its pod.
            return CheckRunHealthResult(WorkerStatus.SUCCESS)
        found = find_fault(seen) or Found(PodFault.CRASHED, "", "", f"Job {seen.name} has ended, and the run has not")
        return CheckRunHealthResult(WorkerStatus.FAILED, self._record(now, found))

    def get_run_worker_debug_info(
        self,
        run: dg.DagsterRun,
        include_container_logs: bool | None = True,  # noqa: ARG002 - Dagster's signature; logs may hold anything
    ) -> str | None:
        """Why a run is given up that did not start, or did not end, in time; its Job is deleted.

        It is the last that Dagster asks of such a run before it marks it as ended, and a pod that finds a node
        afterwards would keep it from others. Of a run that was at work everything has been told already.
        """
        if run.status is dg.DagsterRunStatus.STARTED:
            return None
        # The Job of a run that is being canceled is gone because it was deleted; a run that was never let go has none.
        is_starting = run.status is dg.DagsterRunStatus.STARTING
        found = find_fault(self._look(run.run_id)) if is_starting else None
        told = "" if found is None else f"{self._record(run, found)} "
        deleted = self._delete(run.run_id)
        return f"{told}Its Job {_name(run.run_id)} {'was deleted' if deleted else 'is gone'}."

    def _record(self, run: dg.DagsterRun, found: Found) -> str:
        work = run.tags.get(WORK_TAG) or str(work_of(self._assets(run), {}))
        return record_fault(self._warehouse, run, work, found)

    def _look(self, run_id: str) -> JobSeen:
        api, namespace = self._api_client, self._place.namespace
        return _asked("read the run's Job", lambda: look_at_job(api.batch_api, api.core_api, _name(run_id), namespace))

    def _delete(self, run_id: str) -> bool:
        api, namespace = self._api_client, self._place.namespace
        return _asked("delete the run's Job", lambda: delete_job(api.batch_api, _name(run_id), namespace))


def _name(run_id: str) -> str:
    name: str = get_job_name_from_run_id(run_id)  # type: ignore[no-untyped-call]
    return name


def _asked(what: str, ask: Callable[[], T]) -> T:
    try:
        return ask()
    except (ApiException, HTTPError) as error:
        raise PodApiError(_refused(what, error)) from None


def _again(what: str, ask: Callable[[], Any]) -> None:
    """Ask for what is done once however often it is asked, until the API server answers or has been away for long."""
    try:
        k8s_api_retry_creation_mutation(ask, max_retries=_TRIES_AGAIN, timeout=_AGAIN_SECONDS)
    except (DagsterK8sAPIRetryLimitExceeded, DagsterK8sUnrecoverableAPIError) as error:
        cause = error.k8s_api_exception
        refused = PodApiConflictError if isinstance(cause, ApiException) and cause.status == _CONFLICT else PodApiError
        raise refused(_refused(what, error)) from None


def _refused(what: str, error: Exception) -> str:
    cause: Any = getattr(error, "k8s_api_exception", None) or error
    why = f"{cause.status} {cause.reason}" if isinstance(cause, ApiException) else f"{type(cause).__name__}: {cause}"
    return process_mask().text(
        f"the Kubernetes API server did not {what} ({why}). Does it answer, and may the service account of this pod "
        "create, get and delete Jobs and list pods?"
    )
