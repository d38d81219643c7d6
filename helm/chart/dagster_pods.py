"""The pods that Dagster's chart makes of our values, as far as the values decide.

Dagster's chart stands in a repository on the network and is not here to be rendered. Its templates are short where they
matter for what we promise (accounts, security contexts, references, labels), so those parts are written down, as they
stand in dagster-io/dagster, folder helm/dagster: templates/helpers/_deployment-webserver.tpl,
templates/deployment-daemon.yaml and charts/dagster-user-deployments/templates/deployment-user.yaml. The names that only
Dagster's chart makes (ConfigMaps `…-instance`, `…-webserver-env` and so on) are left out.
"""

from collections.abc import Mapping
from typing import Any

from helm.chart.rendering import RELEASE, Manifest, Values

PASSWORD_KEY = "postgresql-password"
# What the templates say of every pod themselves, over whatever the account says.
TOKEN = {"automountServiceAccountToken": True}


def dagster_pods(values: Values, release: str = RELEASE) -> list[Manifest]:
    """Deployments of webserver, read-only webserver, daemon and code location; none when the dependency is off.

    Args:
        values: The chart's whole values, merged.
        release: Name of the release.
    """
    dagster = values["dagster"]
    if not dagster["enabled"]:
        return []
    webserver, locations = dagster["dagsterWebserver"], dagster["dagster-user-deployments"]
    suffixes = ["", "-read-only"] if webserver["enableReadOnly"] else [""]
    found = [
        _waiting(dagster, webserver, release, "webserver" + suffix, {"component": "dagster-webserver" + suffix})
        for suffix in suffixes
    ]
    labels = {"component": "dagster-daemon", "deployment": "daemon"}
    found.append(_waiting(dagster, dagster["dagsterDaemon"], release, "daemon", labels))
    return found + [_location(dagster, locations, deployment, release) for deployment in locations["deployments"]]


def _waiting(
    dagster: Mapping[str, Any], part: Mapping[str, Any], release: str, name: str, labels: dict[str, str]
) -> Manifest:
    """Webserver and daemon: two kinds of init containers wait for the database and for the code location."""
    context, resources = part["securityContext"], part.get("initContainerResources") or {}
    postgres = dagster["postgresql"]["image"]
    waits = [("check-db-ready", postgres | {"repository": f"{postgres['registry']}/{postgres['repository']}"})]
    locations = dagster["dagster-user-deployments"]["deployments"]
    waits += [(f"init-user-deployment-{location['name']}", dagster["busybox"]["image"]) for location in locations]
    spec = {
        "serviceAccountName": dagster["serviceAccount"]["name"],
        **TOKEN,
        "imagePullSecrets": dagster["imagePullSecrets"],
        "securityContext": part["podSecurityContext"],
        "initContainers": [
            {"name": wait, "image": _image(image), "securityContext": context, "resources": resources}
            for wait, image in waits
        ],
        "containers": [_container("dagster", part, dagster["global"]["postgresqlSecretName"])],
        "volumes": part["volumes"],
    }
    return _deployment(name, "dagster", labels, release, spec)


def _location(
    dagster: Mapping[str, Any], locations: Mapping[str, Any], deployment: Mapping[str, Any], release: str
) -> Manifest:
    name = deployment["name"]
    container = _container("dagster-user-deployments", deployment, dagster["global"]["postgresqlSecretName"])
    spec = {
        "serviceAccountName": locations["serviceAccount"]["name"],
        **TOKEN,
        "imagePullSecrets": locations["imagePullSecrets"],
        "securityContext": deployment["podSecurityContext"],
        "containers": [container | {"ports": [{"name": "grpc", "containerPort": deployment["port"]}]}],
        "volumes": deployment["volumes"],
    }
    labels = {"component": "user-deployments", "deployment": name} | deployment.get("labels", {})
    return _deployment(name, "dagster-user-deployments", labels, release, spec)


def _container(name: str, part: Mapping[str, Any], secret: str) -> dict[str, Any]:
    password = {"name": "DAGSTER_PG_PASSWORD", "valueFrom": {"secretKeyRef": {"name": secret, "key": PASSWORD_KEY}}}
    sources = [{"configMapRef": source} for source in part["envConfigMaps"]]
    sources += [{"secretRef": source} for source in part["envSecrets"]]
    service = part.get("service")
    ports = {"ports": [{"name": "http", "containerPort": service["port"]}]} if service else {}
    probes = {probe: part[probe] for probe in ("readinessProbe", "livenessProbe", "startupProbe") if part.get(probe)}
    return {
        "name": name,
        "image": _image(part["image"]),
        "securityContext": part["securityContext"],
        "resources": part["resources"],
        "env": [password, *part["env"]],
        "envFrom": sources,
        "volumeMounts": part["volumeMounts"],
        **ports,
        **probes,
    }


def _deployment(name: str, chart: str, labels: dict[str, str], release: str, spec: dict[str, Any]) -> Manifest:
    selected = {"app.kubernetes.io/name": chart, "app.kubernetes.io/instance": release} | labels
    content = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": f"{release}-{name}"},
        "spec": {"template": {"metadata": {"labels": selected}, "spec": spec}},
    }
    return Manifest(f"dagster/{name}", content)


def _image(image: Mapping[str, Any]) -> str:
    return f"{image['repository']}:{image['tag']}"
