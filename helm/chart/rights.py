"""Rights on Kubernetes' API: a token opens what its account's roles allow, and only who starts runs has both."""

from collections.abc import Iterable, Mapping
from typing import Any

from helm.chart.pods import Pod, pods
from helm.chart.rendering import Manifest

# By the label `component`. Dagster's chart gives the read-only webserver the account of the other.
STARTING_RUNS = ("dagster-webserver", "dagster-webserver-read-only", "dagster-daemon")
BINDINGS = ("RoleBinding", "ClusterRoleBinding")


def breaches(manifests: Iterable[Manifest]) -> list[str]:
    """Pods that hold a token with a role and start no runs, in words.

    Args:
        manifests: Accounts, bindings, and what starts pods.
    """
    made = list(manifests)
    accounts = {manifest.name: manifest.content for manifest in made if manifest.kind == "ServiceAccount"}
    bindings = [manifest.content for manifest in made if manifest.kind in BINDINGS]
    bound = {subject["name"] for binding in bindings for subject in binding.get("subjects") or []}
    return [
        f"{pod.owner}: has a token of {account}, which has a role, and starts no runs."
        for pod in pods(made)
        if (account := pod.spec.get("serviceAccountName", "default")) in bound
        and _has_token(pod, accounts.get(account, {}))
        and pod.labels.get("component") not in STARTING_RUNS
    ]


def _has_token(pod: Pod, account: Mapping[str, Any]) -> bool:
    """What the pod says counts before what its account says; unsaid, there is one."""
    said = pod.spec.get("automountServiceAccountToken", account.get("automountServiceAccountToken"))
    return said is not False
