"""A Kubernetes API server on loopback, in a thread of its own, and what a cluster does to Jobs and pods.

It keeps objects and serves them, and nothing else: no scheduler, no kubelet, no controller. Tests do what those would.
"""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from kmock import KubernetesEmulator, Server
from kubernetes import client, config
from typing_extensions import override

NAMESPACE = "cvntrade"


class Emulator(KubernetesEmulator):
    """Also knows label selectors, and removes the pods of a Job that is deleted in the background."""

    @override
    async def _serve_list(self, request: Any) -> Any:
        answer = await super()._serve_list(request)
        selector = (request.params or {}).get("labelSelector")
        wanted = dict(part.split("=", 1) for part in selector.split(",")) if selector else {}
        items = [each for each in answer["items"] if wanted.items() <= each["metadata"].get("labels", {}).items()]
        return {**answer, "items": items}


class Cluster:
    """One namespace of a cluster.

    Args:
        url: The API server's address.
        emulator: What answers there.
        kubeconfig: File that names it.
    """

    def __init__(self, url: str, emulator: Emulator, kubeconfig: Path) -> None:
        self.url, self.emulator, self.kubeconfig = url, emulator, kubeconfig
        kubeconfig.write_text(yaml.safe_dump(_kubeconfig(url)))
        api = config.new_client_from_config(str(kubeconfig))
        self.batch, self.core = client.BatchV1Api(api), client.CoreV1Api(api)

    def jobs(self) -> list[dict[str, Any]]:
        """Every Job that is there, as it was sent."""
        return self._raw("jobs")

    def job(self, run_id: str) -> dict[str, Any] | None:
        """The Job of a run, as it was sent."""
        found = [each for each in self.jobs() if each["metadata"]["name"] == f"dagster-run-{run_id}"]
        return found[0] if found else None

    def _raw(self, kind: str) -> list[dict[str, Any]]:
        objects = self.emulator.objects.items()
        return [dict(each.raw) for (resource, _, _), each in objects if resource.plural == kind and not each.deleted]

    def asked(self, method: str, kind: str) -> list[Any]:
        """The requests of one method about one kind of object."""
        return [
            each
            for each in self.emulator
            if each.method.name == method and each.resource is not None and each.resource.plural == kind
        ]

    def schedule(self, run_id: str, **pod_status: Any) -> str:
        """Make the pod of a run's Job, as the Job controller would; returns its name."""
        name = f"dagster-run-{run_id}"
        job = self.job(run_id)
        assert job is not None
        template = job["spec"]["template"]
        labels = {**template["metadata"]["labels"], "job-name": name}
        pod = {"metadata": {"name": f"{name}-x", "labels": labels}, "spec": template["spec"], "status": pod_status}
        self.core.create_namespaced_pod(NAMESPACE, pod)
        self.set_job(run_id, active=1)
        return f"{name}-x"

    def set_job(self, run_id: str, **status: Any) -> None:
        """Move a run's Job."""
        self.batch.patch_namespaced_job_status(f"dagster-run-{run_id}", NAMESPACE, {"status": status})

    def set_pod(self, name: str, node: str | None = None, **status: Any) -> None:
        """Move a pod."""
        if node is not None:
            self.core.patch_namespaced_pod(name, NAMESPACE, {"spec": {"nodeName": node}})
        self.core.patch_namespaced_pod_status(name, NAMESPACE, {"status": status})


def ended(reason: str, exit_code: int) -> list[dict[str, Any]]:
    """The status of a container that has ended."""
    state = {"terminated": {"reason": reason, "exitCode": exit_code}}
    return [{"name": "dagster", "image": "i", "imageID": "i", "ready": False, "restartCount": 0, "state": state}]


def waiting(reason: str, message: str) -> list[dict[str, Any]]:
    """The status of a container that waits."""
    state = {"waiting": {"reason": reason, "message": message}}
    return [{"name": "dagster", "image": "i", "imageID": "i", "ready": False, "restartCount": 0, "state": state}]


@contextmanager
def cluster(folder: Path) -> Iterator[Cluster]:
    """A cluster for as long as the block lasts."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="kubernetes-api", daemon=True)
    thread.start()

    def wait(coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result(30)

    async def make() -> tuple[Emulator, Server]:
        emulator = Emulator()
        emulator.resources.load_bundled()
        return emulator, Server(emulator)

    emulator, server = wait(make())
    wait(emulator.__aenter__())
    wait(server.__aenter__())
    try:
        yield Cluster(str(server.url).rstrip("/"), emulator, folder / "kubeconfig")
    finally:
        wait(server.__aexit__(None, None, None))
        wait(emulator.__aexit__(None, None, None))
        loop.call_soon_threadsafe(loop.stop)
        thread.join(30)
        loop.close()


def _kubeconfig(url: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "here", "cluster": {"server": url}}],
        "users": [{"name": "tests", "user": {}}],
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "tests", "namespace": NAMESPACE}}],
        "current-context": "here",
    }
