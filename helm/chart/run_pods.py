"""The Job of a run as the launcher makes it, from nothing but what the chart's ConfigMaps tell it."""

from collections.abc import Iterable

from kubernetes.client import ApiClient

from cvntrade_assets.operations.run_pods import PodSize, Work
from helm.chart.rendering import Manifest
from resources.pod_manifest import PodRun, job_of
from resources.pod_place import PodPlace

# What daemon and webserver read.
CONFIG_MAPS = ("cvntrade-environment", "cvntrade-run-pods")
RUN = PodRun(
    name="cvntrade-run",
    run_id="1",
    job="chain",
    crypto="BTCUSDT",
    work=Work.TRAINING,
    size=PodSize(cores=1, memory_gib=2),
    arguments=("dagster", "api", "execute_run"),
    deadline_seconds=86_400,
)


def run_job(manifests: Iterable[Manifest]) -> Manifest:
    """The Job of a run.

    Args:
        manifests: Rendered objects, among them the ConfigMaps that the launcher's pod reads.

    Raises:
        resources.pod_place.PodPlaceError: They leave out what the launcher needs.
    """
    # The address of the warehouse stands in a Secret, and nothing of it in the Job.
    told = {"CVN_WAREHOUSE_URL": "in a Secret"}
    for manifest in manifests:
        if manifest.kind == "ConfigMap" and manifest.name in CONFIG_MAPS:
            told |= manifest.content["data"]
    job = ApiClient().sanitize_for_serialization(job_of(RUN, PodPlace.read(told)))
    return Manifest("the launcher", job)
