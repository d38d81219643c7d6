"""Runs as pods: a real launcher, a Kubernetes API server on loopback, Dagster on PostgreSQL and its run monitoring."""

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg
import dagster_k8s.client
import kubernetes_validate
import pandas as pd
import pytest
import sqlalchemy as sa
from correlation_records import record
from dagster._core.launcher import LaunchRunContext, WorkerStatus
from dagster._core.test_utils import create_test_daemon_workspace_context
from dagster._core.workspace.load_target import EmptyWorkspaceTarget
from dagster._daemon.monitoring import run_monitoring
from dagster._serdes import ConfigurableClassData
from dagster_on_postgres import empty_instance, open_instance
from kubernetes.client import ApiException
from kubernetes_api import NAMESPACE, Cluster, cluster, ended, waiting
from pod_stages import everything, training
from polling import until

from cvntrade_assets.automation.alert_sources import alert_sources
from cvntrade_assets.operations.diagnosis import diagnose
from cvntrade_assets.operations.platform_signals import infra_health
from cvntrade_assets.operations.pod_faults import Found, PodFault, fault_conditions
from cvntrade_assets.operations.run_pods import CORES_TAG, GIVEN_CORES_TAG, GIVEN_MEMORY_TAG, MEMORY_TAG, WORK_TAG
from cvntrade_assets.operations.signals import Level
from cvntrade_assets.operations.taxonomy import Code, Role
from cvntrade_assets.settings import resolve
from resources.alerts import open_alerts
from resources.embedded_postgres import EmbeddedPostgres
from resources.platform_of_record import platform_of
from resources.pod_faults import count_faults, record_fault, standing_faults
from resources.pod_launcher import PodApiError, PodRunLauncher
from resources.pod_place import PodPlace, PodPlaceError
from resources.process_launcher import EndingRunLauncher
from resources.run_launcher import PlacedRunLauncher
from resources.signal_facts import gather
from resources.signal_store import store
from resources.tables import POD_FAULTS, WATCHED_RUNS
from resources.warehouse import Warehouse
from resources.watched_runs import WatchedRun, record_run

BTC = "BTCUSDC"
WILL_RETRY = "dagster/will_retry"
SECRET = "a-password-that-nobody-may-read"


@pytest.fixture(scope="module")
def kubernetes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("kube")) as made:
        yield made


@pytest.fixture(scope="module")
def one_instance(
    kubernetes: Cluster,
    warehouse: Warehouse,
    postgres_server: EmbeddedPostgres,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[dg.DagsterInstance]:
    variables = {
        "CVN_RUNS_IN": "pods",
        "KUBECONFIG": str(kubernetes.kubeconfig),
        "CVN_WAREHOUSE_URL": warehouse.address.render_as_string(hide_password=False),
        "CVN_POD_NAMESPACE": NAMESPACE,
        "CVN_POD_SERVICE_ACCOUNT": "cvntrade-run",
        "CVN_POD_IMAGE": "registry.example/cvntrade:1.2.3",
        "CVN_POD_INSTANCE_CONFIG_MAP": "cvntrade-instance",
        "CVN_POD_ENV_CONFIG_MAPS": "cvntrade-environment, cvntrade-run-pods",
        "CVN_POD_ENV_SECRETS": "cvntrade-app",
        "CVN_POD_PULL_SECRETS": "registry",
        "CVN_ALERT_SLACK_URL": SECRET,
    }
    with (
        open_instance(postgres_server, tmp_path_factory.mktemp("dagster")) as opened,
        pytest.MonkeyPatch.context() as patched,
    ):
        patched.delenv("KUBERNETES_SERVICE_HOST", raising=False)
        for name, value in variables.items():
            patched.setenv(name, value)
        yield opened


@pytest.fixture
def instance(one_instance: dg.DagsterInstance) -> dg.DagsterInstance:
    """Without anything that another test left."""
    empty_instance(one_instance)
    return one_instance


@pytest.fixture
def settings(warehouse: Warehouse) -> Iterator[Any]:
    changed: set[str] = set()

    def put(**texts: str) -> None:
        changed.update(texts)
        warehouse.set_base_env(texts, "test")

    yield put
    warehouse.set_base_env(dict.fromkeys(changed), "test")


def create(instance: dg.DagsterInstance, *assets: str, **tags: str) -> dg.DagsterRun:
    """A run that the queue has just let go; the assets are those that it is to build."""
    job = everything if assets else training
    run = instance.create_run_for_job(
        job(),
        tags={"dagster/partition": BTC, **{name.replace("__", "/"): text for name, text in tags.items()}},
        asset_selection=frozenset(dg.AssetKey(name) for name in assets) if assets else None,
        job_code_origin=dg.reconstructable(job).get_python_origin(),
    )
    say(instance, run, dg.DagsterEventType.PIPELINE_STARTING)
    return now_of(instance, run)


def say(instance: dg.DagsterInstance, run: dg.DagsterRun, kind: dg.DagsterEventType) -> None:
    instance.report_dagster_event(dg.DagsterEvent(kind.value, run.job_name), run.run_id)


def now_of(instance: dg.DagsterInstance, run: dg.DagsterRun) -> dg.DagsterRun:
    found = instance.get_run_by_id(run.run_id)
    assert found is not None
    return found


def launch(instance: dg.DagsterInstance, *assets: str, **tags: str) -> dg.DagsterRun:
    run = create(instance, *assets, **tags)
    instance.run_launcher.launch_run(LaunchRunContext(run, None))
    return now_of(instance, run)


def started(instance: dg.DagsterInstance, kubernetes: Cluster, *assets: str, **tags: str) -> tuple[dg.DagsterRun, str]:
    """A run whose pod is at work."""
    run = launch(instance, *assets, **tags)
    pod = kubernetes.schedule(run.run_id, phase="Running")
    kubernetes.set_pod(pod, node="node-7")
    say(instance, run, dg.DagsterEventType.PIPELINE_START)
    return now_of(instance, run), pod


def monitor(instance: dg.DagsterInstance) -> list[Any]:
    """One look of Dagster's run monitoring; returns its errors."""
    with create_test_daemon_workspace_context(EmptyWorkspaceTarget(), instance) as context:
        looked = run_monitoring.execute_run_monitoring_iteration(context, logging.getLogger("monitoring"))
        return [each for each in looked if each is not None]


def failure(instance: dg.DagsterInstance, run: dg.DagsterRun) -> str:
    [entry] = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.RUN_FAILURE)
    assert entry.dagster_event is not None
    return entry.dagster_event.message or ""


def faults(warehouse: Warehouse, run: dg.DagsterRun) -> list[Mapping[str, Any]]:
    query = sa.select(POD_FAULTS).where(POD_FAULTS.c.run_id == run.run_id)
    with warehouse.begin() as connection:
        return [dict(row) for row in connection.execute(query).mappings()]


def container(job: Mapping[str, Any]) -> Mapping[str, Any]:
    [only] = job["spec"]["template"]["spec"]["containers"]
    return dict(only)


def test_a_run_is_a_job_that_kubernetes_takes(instance: dg.DagsterInstance, kubernetes: Cluster) -> None:
    run = launch(instance)
    job = kubernetes.job(run.run_id)
    assert job is not None
    for version in ("1.28", "1.34"):
        kubernetes_validate.validate(job, version, strict=True)
    spec, pod = job["spec"], job["spec"]["template"]["spec"]
    assert (spec["backoffLimit"], pod["restartPolicy"]) == (0, "Never")
    # Longer than a run may take, and than its pod may wait for a node.
    assert spec["activeDeadlineSeconds"] > 86400 + 600
    assert spec["ttlSecondsAfterFinished"] == 3600
    labels = spec["template"]["metadata"]["labels"]
    expected = {
        "app.kubernetes.io/component": "run_worker",
        "dagster/run-id": run.run_id,
        "cvntrade/crypto": BTC,
        "cvntrade/work": "training",
    }
    assert expected.items() <= labels.items()
    assert expected.items() <= job["metadata"]["labels"].items()
    assert pod["automountServiceAccountToken"] is False
    assert pod["serviceAccountName"] == "cvntrade-run"
    assert pod["imagePullSecrets"] == [{"name": "registry"}]
    # Dagster gives up waiting for the end of a canceled run after a minute.
    assert 10 <= pod["terminationGracePeriodSeconds"] < instance.run_monitoring_cancel_timeout_seconds
    assert container(job)["image"] == "registry.example/cvntrade:1.2.3"
    assert container(job)["args"][:3] == ["dagster", "api", "execute_run"]


def test_its_pod_is_restricted_and_writes_to_tmp_alone(instance: dg.DagsterInstance, kubernetes: Cluster) -> None:
    job = kubernetes.job(launch(instance).run_id)
    assert job is not None
    pod, only = job["spec"]["template"]["spec"], container(job)
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == 65532
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert only["securityContext"]["allowPrivilegeEscalation"] is False
    assert only["securityContext"]["readOnlyRootFilesystem"] is True
    assert only["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    written = {mount["mountPath"] for mount in only["volumeMounts"] if not mount.get("readOnly")}
    assert written == {"/tmp"}
    assert {"name": "tmp", "emptyDir": {"sizeLimit": "4Gi"}} in pod["volumes"]
    assert {each.get("configMap", {}).get("name") for each in pod["volumes"]} == {None, "cvntrade-instance"}
    home = os.environ["DAGSTER_HOME"]
    assert {"name": "DAGSTER_HOME", "value": home} in only["env"]
    assert home in {mount["mountPath"] for mount in only["volumeMounts"]}


def test_what_is_secret_is_named_and_not_shown(
    instance: dg.DagsterInstance, kubernetes: Cluster, warehouse: Warehouse
) -> None:
    job = kubernetes.job(launch(instance).run_id)
    assert job is not None
    assert container(job)["envFrom"] == [
        {"configMapRef": {"name": "cvntrade-environment"}},
        {"configMapRef": {"name": "cvntrade-run-pods"}},
        {"secretRef": {"name": "cvntrade-app"}},
    ]
    password = warehouse.address.password
    assert password
    for secret in (SECRET, str(password)):
        assert secret not in str(job)


@pytest.mark.parametrize(
    ("assets", "tags", "work", "cpu", "memory"),
    [
        (("candles", "features", "drift"), {}, "refresh", "500m", "2048Mi"),
        (("candles", "walk_forward"), {}, "training", "1000m", "4096Mi"),
        (("candles", "screening_matrix", "walk_forward"), {}, "discovery", "2000m", "8192Mi"),
        # What the job itself says that it builds: the stage `model` alone.
        ((), {}, "training", "1000m", "4096Mi"),
        (("candles",), {WORK_TAG: "training"}, "training", "1000m", "4096Mi"),
        (("candles",), {CORES_TAG: "0.1", MEMORY_TAG: "0.5"}, "refresh", "100m", "512Mi"),
        (("model",), {MEMORY_TAG: "256"}, "training", "1000m", "262144Mi"),
    ],
)
def test_a_pod_is_given_what_the_work_needs(
    instance: dg.DagsterInstance,
    kubernetes: Cluster,
    assets: tuple[str, ...],
    tags: dict[str, str],
    work: str,
    cpu: str,
    memory: str,
) -> None:
    run = launch(instance, *assets, **tags)
    job = kubernetes.job(run.run_id)
    assert job is not None
    assert container(job)["resources"] == {"requests": {"cpu": cpu, "memory": memory}, "limits": {"memory": memory}}
    assert run.tags[WORK_TAG] == work
    assert float(run.tags[GIVEN_MEMORY_TAG]) * 1024 == float(memory.removesuffix("Mi"))
    assert float(run.tags[GIVEN_CORES_TAG]) * 1000 == float(cpu.removesuffix("m"))


def test_operators_say_what_a_kind_of_work_is_given(
    instance: dg.DagsterInstance, kubernetes: Cluster, settings: Any
) -> None:
    settings(CVN_POD_TRAINING_MEMORY_GIB="6.5", CVN_POD_TRAINING_CORES="3")
    job = kubernetes.job(launch(instance).run_id)
    assert job is not None
    assert container(job)["resources"]["limits"] == {"memory": "6656Mi"}
    assert container(job)["resources"]["requests"]["cpu"] == "3000m"


@pytest.mark.parametrize(
    ("tag", "text", "said"),
    [
        (MEMORY_TAG, "0.4", "expected a number from 0.5 to 256"),
        (MEMORY_TAG, "257", "expected a number from 0.5 to 256"),
        (CORES_TAG, "many", "expected a number from 0.1 to 64"),
        (CORES_TAG, "nan", "expected a number from 0.1 to 64"),
        (WORK_TAG, "sleeping", "expected one of refresh, training, discovery"),
        ("dagster-k8s/config", '{"container_config": {"image": "evil"}}', "is not taken"),
        ("dagster-k8s/resource_requirements", "{}", "is not taken"),
    ],
)
def test_a_run_that_asks_for_what_cannot_be_fails_and_says_why(
    instance: dg.DagsterInstance, kubernetes: Cluster, tag: str, text: str, said: str
) -> None:
    run = launch(instance, **{tag: text})
    assert run.status is dg.DagsterRunStatus.FAILURE
    assert tag in failure(instance, run) and said in failure(instance, run)
    assert kubernetes.job(run.run_id) is None
    # It would ask for the same again.
    assert run.tags[WILL_RETRY] == "false"


def test_its_state_is_followed(instance: dg.DagsterInstance, kubernetes: Cluster, warehouse: Warehouse) -> None:
    run, pod = started(instance, kubernetes)
    health = instance.run_launcher.check_run_worker_health
    assert health(run).status is WorkerStatus.RUNNING
    assert monitor(instance) == []
    assert now_of(instance, run).status is dg.DagsterRunStatus.STARTED
    say(instance, run, dg.DagsterEventType.PIPELINE_SUCCESS)
    kubernetes.set_pod(pod, phase="Succeeded", containerStatuses=ended("Completed", 0))
    kubernetes.set_job(run.run_id, active=0, succeeded=1)
    # Also when monitoring still holds the run as it was before.
    assert health(run).status is WorkerStatus.SUCCESS
    assert faults(warehouse, run) == []


@pytest.mark.parametrize(
    ("kind", "pod_status", "said"),
    [
        (
            PodFault.OOM,
            {"phase": "Failed", "containerStatuses": ended("OOMKilled", 137)},
            ("node-7", "for want of memory", "4 GiB", "CVN_POD_TRAINING_MEMORY_GIB"),
        ),
        (
            PodFault.LOST,
            {"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory."},
            ("node-7", "Evicted", "low on resource", "kubectl describe node"),
        ),
        (
            PodFault.LOST,
            {
                "phase": "Failed",
                "containerStatuses": ended("Error", 143),
                "conditions": [{"type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager"}],
            },
            ("node-7", "DeletionByTaintManager"),
        ),
        (PodFault.CRASHED, {"phase": "Failed", "containerStatuses": ended("Error", 139)}, ("139", "kubectl logs")),
    ],
    ids=["OOMKilled", "evicted", "its node was lost", "crashed"],
)
def test_a_pod_that_ends_under_its_run_is_told_recorded_and_the_run_started_again(
    instance: dg.DagsterInstance,
    kubernetes: Cluster,
    warehouse: Warehouse,
    kind: PodFault,
    pod_status: dict[str, Any],
    said: tuple[str, ...],
) -> None:
    run, pod = started(instance, kubernetes)
    kubernetes.set_pod(pod, **pod_status)
    kubernetes.set_job(run.run_id, active=0, failed=1)
    assert monitor(instance) == []
    after = now_of(instance, run)
    assert after.status is dg.DagsterRunStatus.FAILURE
    assert after.tags[WILL_RETRY] == "true"
    for words in said:
        assert words in failure(instance, run)
    [row] = faults(warehouse, run)
    assert (row["kind"], row["pod"], row["node"], row["crypto"]) == (kind, pod, "node-7", BTC)
    assert (row["work"], row["job"], row["memory_gib"]) == ("training", "training", 4.0)
    assert row["message"] in failure(instance, run)


def test_a_pod_that_is_gone_is_lost(instance: dg.DagsterInstance, kubernetes: Cluster, warehouse: Warehouse) -> None:
    run, _ = started(instance, kubernetes)
    kubernetes.batch.delete_namespaced_job(f"dagster-run-{run.run_id}", NAMESPACE)
    assert monitor(instance) == []
    assert now_of(instance, run).status is dg.DagsterRunStatus.FAILURE
    [row] = faults(warehouse, run)
    assert row["kind"] == "lost" and "is gone" in row["message"]


def test_a_job_beyond_its_deadline_is_told(
    instance: dg.DagsterInstance, kubernetes: Cluster, warehouse: Warehouse
) -> None:
    run, _ = started(instance, kubernetes)
    gone = {"type": "Failed", "status": "True", "reason": "DeadlineExceeded"}
    kubernetes.set_job(run.run_id, active=0, failed=1, conditions=[gone])
    monitor(instance)
    assert [row["kind"] for row in faults(warehouse, run)] == ["overdue"]


NO_ROOM = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes are available"}


@pytest.mark.parametrize(
    ("kind", "pod_status", "said"),
    [
        (PodFault.UNSCHEDULABLE, {"phase": "Pending", "conditions": [NO_ROOM]}, ("0/3 nodes", "Add nodes")),
        (
            PodFault.UNSTARTABLE,
            {"phase": "Pending", "containerStatuses": waiting("ImagePullBackOff", "not found")},
            ("ImagePullBackOff", "not found", "image"),
        ),
    ],
)
def test_a_pod_that_does_not_start_in_time_is_told_and_its_job_is_deleted(
    instance: dg.DagsterInstance,
    kubernetes: Cluster,
    warehouse: Warehouse,
    monkeypatch: pytest.MonkeyPatch,
    kind: PodFault,
    pod_status: dict[str, Any],
    said: tuple[str, ...],
) -> None:
    run = launch(instance)
    kubernetes.schedule(run.run_id, **pod_status)
    for seconds, status in ((500, dg.DagsterRunStatus.STARTING), (601, dg.DagsterRunStatus.FAILURE)):
        later = time.time() + seconds
        monkeypatch.setattr(run_monitoring, "get_current_timestamp", lambda later=later: later)
        assert monitor(instance) == []
        assert now_of(instance, run).status is status
    for words in said:
        assert words in failure(instance, run)
    assert [row["kind"] for row in faults(warehouse, run)] == [kind]
    # Else it would start when a node comes, beside the run's next try.
    assert kubernetes.job(run.run_id) is None
    assert now_of(instance, run).tags[WILL_RETRY] == "true"


def test_a_run_that_was_killed_for_memory_is_given_the_next_larger_when_it_is_started_again(
    instance: dg.DagsterInstance, kubernetes: Cluster
) -> None:
    run, pod = started(instance, kubernetes)
    kubernetes.set_pod(pod, phase="Failed", containerStatuses=ended("OOMKilled", 137))
    kubernetes.set_job(run.run_id, active=0, failed=1)
    monitor(instance)
    tags = now_of(instance, run).tags
    again = launch(instance, **tags, **{"dagster/parent_run_id": run.run_id})
    assert (again.tags[GIVEN_MEMORY_TAG], again.tags[WORK_TAG]) == ("8", "training")
    # What is left of the first pod cannot work beside the second.
    assert kubernetes.job(run.run_id) is None
    assert kubernetes.job(again.run_id) is not None


def test_its_size_is_not_forgotten_when_the_next_try_is_lost(instance: dg.DagsterInstance, kubernetes: Cluster) -> None:
    first, pod = started(instance, kubernetes)
    kubernetes.set_pod(pod, phase="Failed", containerStatuses=ended("OOMKilled", 137))
    kubernetes.set_job(first.run_id, active=0, failed=1)
    monitor(instance)
    of_first = {"dagster/parent_run_id": first.run_id, "dagster/root_run_id": first.run_id}
    second, _ = started(instance, kubernetes, **of_first)
    kubernetes.batch.delete_namespaced_job(f"dagster-run-{second.run_id}", NAMESPACE)
    monitor(instance)
    third = launch(instance, **of_first | {"dagster/parent_run_id": second.run_id})
    assert third.tags[GIVEN_MEMORY_TAG] == "8"


def test_a_run_that_two_daemons_let_go_has_one_pod_and_goes_on(
    instance: dg.DagsterInstance, kubernetes: Cluster
) -> None:
    """As while one daemon replaces the other."""
    run = launch(instance)
    with pytest.raises(ApiException, match="409"):
        kubernetes.batch.create_namespaced_job(NAMESPACE, kubernetes.job(run.run_id))
    instance.run_launcher.launch_run(LaunchRunContext(run, None))
    assert now_of(instance, run).status is dg.DagsterRunStatus.STARTING
    assert [job["metadata"]["labels"]["dagster/run-id"] for job in kubernetes.jobs()].count(run.run_id) == 1


def test_a_run_that_was_never_let_go_lost_no_pod(
    instance: dg.DagsterInstance, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = instance.create_run_for_job(training(), job_code_origin=dg.reconstructable(training).get_python_origin())
    later = time.time() + 601
    monkeypatch.setattr(run_monitoring, "get_current_timestamp", lambda: later)
    assert monitor(instance) == []
    assert now_of(instance, run).status is dg.DagsterRunStatus.FAILURE
    assert faults(warehouse, run) == []


def test_an_api_server_that_does_not_answer_says_nothing_of_a_run(
    instance: dg.DagsterInstance, kubernetes: Cluster, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, _ = started(instance, kubernetes)
    launcher = instance.run_launcher
    assert isinstance(launcher, PodRunLauncher)
    with monkeypatch.context() as broken:
        for api in (launcher._api_client.batch_api, launcher._api_client.core_api):
            # Nobody listens there.
            broken.setattr(api.api_client.configuration, "host", "http://127.0.0.1:9")
            broken.setattr(api.api_client.rest_client.pool_manager, "connection_pool_kw", {"retries": False})
        [error] = monitor(instance)
        assert "did not read the run's Job" in error.message
        with pytest.raises(PodApiError, match="did not delete the run's Job"):
            launcher.terminate(run.run_id)
    assert faults(warehouse, run) == []
    assert kubernetes.job(run.run_id) is not None


def test_a_launch_waits_for_an_api_server_that_is_away(
    instance: dg.DagsterInstance, kubernetes: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, _ = started(instance, kubernetes)
    instance.report_run_failed(before)
    launcher = instance.run_launcher
    assert isinstance(launcher, PodRunLauncher)
    client = launcher._api_client.batch_api.api_client
    monkeypatch.setattr(client.rest_client.pool_manager, "connection_pool_kw", {"retries": False})
    waited: list[float] = []

    def answers_after(times: int) -> None:
        waited.clear()
        client.configuration.host = "http://127.0.0.1:9"

        def wait(seconds: float) -> None:
            waited.append(seconds)
            if len(waited) == times:
                client.configuration.host = kubernetes.url

        monkeypatch.setattr(dagster_k8s.client.time, "sleep", wait)

    try:
        answers_after(3)
        again = launch(instance, dagster__parent_run_id=before.run_id)
        assert (again.status, waited) == (dg.DagsterRunStatus.STARTING, [30.0] * 3)
        assert kubernetes.job(again.run_id) is not None and kubernetes.job(before.run_id) is None
        answers_after(4)
        given_up = launch(instance)
    finally:
        client.configuration.host = kubernetes.url
    assert (given_up.status, waited) == (dg.DagsterRunStatus.FAILURE, [30.0] * 3)
    assert "did not create the run's Job" in failure(instance, given_up)
    # Nothing is wrong with the run.
    assert given_up.tags[WILL_RETRY] == "true"


def test_to_end_a_run_is_to_delete_its_job_with_its_pod(instance: dg.DagsterInstance, kubernetes: Cluster) -> None:
    run, _ = started(instance, kubernetes)
    assert instance.run_launcher.terminate(run.run_id) is True
    assert kubernetes.job(run.run_id) is None
    asked = [each for each in kubernetes.asked("DELETE", "jobs") if run.run_id in str(each.url)]
    # Kubernetes' own default would leave the pod running.
    assert [each.params["propagationPolicy"] for each in asked] == ["Background"]
    assert now_of(instance, run).status is dg.DagsterRunStatus.CANCELING
    assert instance.run_launcher.terminate(run.run_id) is False


def test_a_run_that_is_ended_while_pods_are_looked_at_has_lost_none(
    instance: dg.DagsterInstance, kubernetes: Cluster, warehouse: Warehouse
) -> None:
    """Dagster's monitoring reads all runs first, and looks at their pods one after the other."""
    run, _ = started(instance, kubernetes)
    assert instance.run_launcher.terminate(run.run_id) is True
    assert instance.run_launcher.check_run_worker_health(run).status is WorkerStatus.SUCCESS
    assert faults(warehouse, run) == []


def test_a_stuck_run_is_ended_by_its_maximum_run_time(
    instance: dg.DagsterInstance, kubernetes: Cluster, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the sensor run_watch asks for it."""
    run, _ = started(instance, kubernetes)
    instance.add_run_tags(run.run_id, {"dagster/max_runtime": "1", "dagster/max_retries": "1"})
    later = time.time() + 2
    monkeypatch.setattr(run_monitoring, "get_current_timestamp", lambda: later)
    assert monitor(instance) == []
    assert now_of(instance, run).status is dg.DagsterRunStatus.FAILURE
    assert "maximum runtime" in failure(instance, run)
    assert kubernetes.job(run.run_id) is None
    assert faults(warehouse, run) == []


def test_a_canceled_run_whose_worker_says_nothing_more_leaves_no_job(
    instance: dg.DagsterInstance, kubernetes: Cluster, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, _ = started(instance, kubernetes)
    # As when the API server refused the first time.
    instance.report_run_canceling(run)
    later = time.time() + 61
    monkeypatch.setattr(run_monitoring.time, "time", lambda: later)
    assert monitor(instance) == []
    assert now_of(instance, run).status is dg.DagsterRunStatus.CANCELED
    assert kubernetes.job(run.run_id) is None
    assert faults(warehouse, run) == []


def test_an_interrupted_worker_ends_by_itself_and_says_so(instance: dg.DagsterInstance, kubernetes: Cluster) -> None:
    """What the pod's container runs, as a process: it is interrupted as Kubernetes interrupts a pod."""
    run = launch(instance)
    job = kubernetes.job(run.run_id)
    assert job is not None
    arguments = container(job)["args"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    worker = subprocess.Popen([sys.executable, "-m", *arguments], env=environment)
    try:
        until(
            "the stage is at work",
            lambda: any("at work" in entry.user_message for entry in instance.all_logs(run.run_id)),
        )
        instance.report_run_canceling(now_of(instance, run))
        worker.send_signal(signal.SIGTERM)
        # Kubernetes would wait for 45 s.
        assert worker.wait(40) == 0
    finally:
        worker.kill()
        worker.wait()
    assert now_of(instance, run).status is dg.DagsterRunStatus.CANCELED


def test_faults_count_for_a_day_and_are_told_until_the_same_succeeds(
    instance: dg.DagsterInstance, kubernetes: Cluster, warehouse: Warehouse
) -> None:
    now = pd.Timestamp.now("UTC")
    before = count_faults(warehouse, now)
    run, pod = started(instance, kubernetes)
    kubernetes.set_pod(pod, phase="Failed", containerStatuses=ended("OOMKilled", 137))
    kubernetes.set_job(run.run_id, active=0, failed=1)
    monitor(instance)
    monitor(instance)
    now = pd.Timestamp.now("UTC")
    assert count_faults(warehouse, now) == (before[0] + 1, before[1])
    assert count_faults(warehouse, now + pd.Timedelta(hours=25)) == (0, 0)

    def told(at: pd.Timestamp) -> bool:
        with warehouse.begin() as connection:
            found = fault_conditions(standing_faults(connection, at))
        return f"pods/oom/training/{BTC}" in {each.key for each in found}

    assert told(now)
    assert not told(now + pd.Timedelta(hours=25))
    ended_at = pd.Timestamp.now("UTC")
    record_run(
        warehouse, WatchedRun("later", "s", BTC, None, None, "training", "SUCCESS", None, now, None, ended_at), at=now
    )
    assert not told(pd.Timestamp.now("UTC"))
    with warehouse.begin() as connection:
        connection.execute(sa.delete(WATCHED_RUNS).where(WATCHED_RUNS.c.run_id == "later"))


@pytest.mark.parametrize("kind", [PodFault.OOM, PodFault.LOST, PodFault.UNSCHEDULABLE])
def test_what_has_no_room_saturates_the_platform_and_is_alerted(
    instance: dg.DagsterInstance, warehouse: Warehouse, kind: PodFault
) -> None:
    """From the record to the signal, the evaluation's diagnosis, and the alert."""
    run = create(instance)
    now = pd.Timestamp.now("UTC")
    operators = resolve(base_env=warehouse.base_env(), run={}, now=now)
    for number in range(3):
        record_fault(warehouse, run, "training", Found(kind, f"pod-{number}", "node-7", "it happened"))
    now = pd.Timestamp.now("UTC")
    signal_now = infra_health(gather(warehouse, operators, now).infra, now, operators)
    assert signal_now.level is Level.CRITICAL
    with warehouse.begin() as connection:
        store(connection, [signal_now])
    platform = platform_of(warehouse, "training", operators, now)
    assert Code.INFRA_SATURATED in diagnose(record(platform=platform.model_dump())).codes
    context = dg.build_sensor_context(instance=instance, definitions=dg.Definitions())
    alert_sources(context, warehouse=warehouse)
    alerts = {alert.key: alert for alert in open_alerts(warehouse)}
    alert = alerts[f"pods/{kind}/training/{BTC}"]
    assert (alert.source, alert.owner, alert.where) == ("pods", Role.PLATFORM_OWNER, BTC)
    assert "pod-2" in alert.what and alert.link == f"/runs/{run.run_id}"


def test_the_record_of_faults_only_grows(warehouse: Warehouse) -> None:
    for statement in ("update pod_faults set kind = 'x'", "delete from pod_faults", "truncate pod_faults"):
        with pytest.raises(sa.exc.DBAPIError, match="pod_faults"), warehouse.begin() as connection:
            connection.execute(sa.text(statement))


def placed(place: str) -> Any:
    data = ConfigurableClassData("resources.run_launcher", "PlacedRunLauncher", f"runs_in: {place}\n")
    return data.rehydrate(as_type=PlacedRunLauncher.__mro__[1])


def test_runs_are_where_the_environment_says(instance: dg.DagsterInstance) -> None:
    assert isinstance(instance.run_launcher, PodRunLauncher)
    assert isinstance(placed("processes"), EndingRunLauncher)
    with pytest.raises(ValueError, match=r"CVN_RUNS_IN.*'cloud': expected processes or pods"):
        placed("cloud")


def test_every_name_that_is_missing_is_told() -> None:
    with pytest.raises(PodPlaceError, match=r"CVN_POD_NAMESPACE, .*CVN_POD_IMAGE.*DAGSTER_HOME, CVN_WAREHOUSE_URL"):
        PodPlace.read({"CVN_POD_SERVICE_ACCOUNT": "cvntrade-run"})
