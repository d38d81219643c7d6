"""Values that are wrong never reach a cluster: Helm refuses them, and what it says is read by a person."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator

from helm.chart.copies import CHART
from helm.chart.rendering import merged, refusal, standalone

OURS = (CHART / "values.yaml").read_text()
SCHEMA: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text())
GIVEN: dict[str, Any] = yaml.safe_load(OURS)
LOCATIONS = "dagster.dagster-user-deployments.deployments"
LOCATION: dict[str, Any] = GIVEN["dagster"]["dagster-user-deployments"]["deployments"][0]
SECRET = "postgresql://cvntrade_owner:canary-5c1e@db/cvntrade"

# Name, key, value, and what a person must read.
REFUSED: list[tuple[str, str, Any, tuple[str, ...]]] = [
    # keys
    (
        "a key that is spelt wrong",
        "objectStorge",
        {"region": "x"},
        ("additional properties 'objectStorge' not allowed",),
    ),
    ("a key that is spelt wrong, deeper", "seed.backofLimit", 3, ("'/seed'", "'backofLimit' not allowed")),
    ("a key that was removed", "objectStorage.artifacts", None, ("'/objectStorage'", "missing property 'artifacts'")),
    # images
    ("the tag latest", "image.tag", "latest", ("'/image/tag'", "a version that is used once", "never latest")),
    ("no tag", "image.tag", "", ("'/image/tag'", "such as 0.1.0")),
    ("a tag that YAML reads as a number", "image.tag", 0.1, ("'/image/tag'", "got number, want string")),
    ("a tag inside the repository", "image.repository", "cvntrade:0.1.0", ("'/image/repository'", "without tag")),
    ("an unknown pull policy", "image.pullPolicy", "Sometimes", ("'/image/pullPolicy'", "'Always', 'IfNotPresent'")),
    ("an init container's tag latest", "dagster.busybox.image.tag", "latest", ("'/dagster/busybox/image/tag'",)),
    (
        "a registry that would stand there twice",
        "dagster.postgresql.image.repository",
        "docker.io/library/postgres",
        ("'/dagster/postgresql/image/repository'", "a name without its registry"),
    ),
    # secrets
    (
        "an address with its password for a Secret's name",
        "secrets.owner",
        SECRET,
        ("'/secrets/owner'", "the name of a Sec"),
    ),
    ("no Secret of Dagster's role", "secrets.dagster", "", ("'/secrets/dagster'", "the name of a Secret that exists")),
    (
        "a password among the values",
        "dagster.postgresql.postgresqlPassword",
        "x",
        ("postgresqlPassword'", "is in the Secret"),
    ),
    ("a setting that is a secret", "seed.settings", {"CVN_PG_PASSWORD": "x"}, ("'CVN_PG_PASSWORD'", "belong to")),
    (
        "a secret in a pod's environment",
        "dagster.dagsterDaemon.env",
        [*LOCATION["env"], {"name": "CVN_WAREHOUSE_URL", "value": SECRET}],
        ("'/dagster/dagsterDaemon/env/1/value'", "given by a Secret"),
    ),
    ("an address with a password", "urls.ui", "https://me:pw@example.com", ("'/urls/ui'", "no user or password")),
    # addresses
    ("a port in the host", "postgresql.host", "db:5432", ("'/postgresql/host'", "without scheme, port or path")),
    ("a port that is text", "postgresql.port", "5432", ("'/postgresql/port'", "got string, want integer")),
    (
        "a mode of TLS that libpq does not have",
        "postgresql.sslMode",
        "required",
        ("'/postgresql/sslMode'", "one of 'disable', 'allow', 'prefer', 'require', 'verify-ca', 'verify-full'"),
    ),
    ("a port that is none", "postgresql.port", 65536, ("'/postgresql/port'", "maximum: got 65,536, want 65,535")),
    (
        "artifacts in a folder",
        "objectStorage.artifacts",
        "/data/artifacts",
        ("'/objectStorage/artifacts'", "s3://bucket"),
    ),
    ("a bucket without prefix", "objectStorage.computeLogs", "s3://cvntrade", ("computeLogs'", "s3://bucket/prefix")),
    ("an endpoint without scheme", "objectStorage.endpoint", "minio:9000", ("endpoint'", "http:// or https://")),
    ("a UI without scheme", "urls.ui", "cvntrade.example.com", ("'/urls/ui'", "http:// or https://")),
    # amounts
    ("no run at once", "runs.maxConcurrent", 0, ("'/runs/maxConcurrent'", "minimum: got 0, want 1")),
    ("memory without unit", "exporter.resources.limits.memory", 512, ("limits/memory'", "got number, want string")),
    (
        "memory with a typist's unit",
        "exporter.resources.limits.memory",
        "512MB",
        ("a size with its unit, such as 512Mi",),
    ),
    ("no limit of memory", "mlflow.resources.limits.memory", None, ("'/mlflow/resources/limits'", "'memory'")),
    ("a privileged port", "exporter.port", 80, ("'/exporter/port'", "minimum: got 80, want 1,024")),
    ("a job that tries for ever", "seed.backoffLimit", 100, ("'/seed/backoffLimit'", "maximum: got 100, want 6")),
    (
        "a schedule of six fields",
        "watchdog.schedule",
        "0 */2 * * * *",
        ("'/watchdog/schedule'", "cron schedule of five"),
    ),
    ("an interval without unit", "exporter.serviceMonitor.interval", "30", ("interval'", "a duration with its unit")),
    # settings
    ("a setting in small letters", "seed.settings", {"cvn_h": "3"}, ("'cvn_h'", "the name of a setting, CVN_…")),
    ("a setting that is no text", "seed.settings", {"CVN_CUSUM_H": 3}, ("'/seed/settings/CVN_CUSUM_H'", "want string")),
    # who reaches whom
    ("operators from everywhere", "networkPolicies.operators.from", [], ("operators/from'", "minItems: got 0, want 1")),
    (
        "operators from a whole namespace",
        "networkPolicies.operators.from",
        [{"namespaceSelector": {"matchLabels": {"a": "b"}}}],
        ("'/networkPolicies/operators/from/0'", "missing property 'podSelector'"),
    ),
    (
        "operators from every pod of a namespace",
        "networkPolicies.operators.from",
        [{"namespaceSelector": {"matchLabels": {"a": "b"}}, "podSelector": {}}],
        ("operators/from/0/podSelector'", "minProperties: got 0, want 1"),
    ),
    ("a peer that is everybody", "networkPolicies.metrics.from", [{}], ("metrics/from/0'", "minProperties: got 0")),
    ("PostgreSQL nowhere", "networkPolicies.postgresql.to", [], ("postgresql/to'", "minItems: got 0, want 1")),
    ("a host for a block", "networkPolicies.exchange.to", [{"ipBlock": {"cidr": "api.binance.com"}}], ("10.0.0.0/8",)),
    (
        "a block and a selector in one peer",
        "networkPolicies.exchange.to",
        [{"ipBlock": {"cidr": "10.0.0.0/8"}, "podSelector": {}}],
        ("'/networkPolicies/exchange/to/0'", "maxProperties: got 2, want 1"),
    ),
    ("alerts, and no way out", "networkPolicies.alerts.to", [], ("alerts/to'", "minItems: got 0, want 1")),
    # Dagster's chart
    (
        "only the webserver that can write",
        "dagster.dagsterWebserver.enableReadOnly",
        False,
        ("enableReadOnly'", "true"),
    ),
    (
        "another workspace",
        "dagster.dagsterWebserver.workspace.externalConfigmap",
        "mine",
        ("externalConfigmap'", "value must be 'cvntrade-workspace'"),
    ),
    ("a webserver for the whole internet", "dagster.dagsterWebserver.service.type", "LoadBalancer", ("'ClusterIP'",)),
    ("an ingress past the proxy", "dagster.ingress.enabled", True, ("'/dagster/ingress/enabled'", "must be false")),
    (
        "an account that may not start runs",
        "dagster.serviceAccount.name",
        "mine",
        ("'/dagster/serviceAccount/name'", "value must be 'cvntrade-launcher'"),
    ),
    (
        "an account of Dagster's own",
        "dagster.serviceAccount.create",
        True,
        ("'/dagster/serviceAccount/create'", "must be false"),
    ),
    (
        "an account that the chart does not make",
        "dagster.dagster-user-deployments.serviceAccount.name",
        "mine",
        ("user-deployments/serviceAccount/name'", "value must be 'cvntrade-code-location'"),
    ),
    ("Dagster's own broad role", "dagster.rbacEnabled", True, ("'/dagster/rbacEnabled'", "must be false")),
    (
        "Dagster's own PostgreSQL",
        "dagster.postgresql.enabled",
        True,
        ("'/dagster/postgresql/enabled'", "must be false"),
    ),
    ("another launcher", "dagster.runLauncher.type", "K8sRunLauncher", ("'/dagster/runLauncher/type'", "CustomRunL")),
    ("telemetry", "dagster.telemetry.enabled", True, ("'/dagster/telemetry/enabled'", "must be false")),
    (
        "the superuser",
        "dagster.dagsterDaemon.podSecurityContext.runAsUser",
        0,
        ("runAsUser'", "minimum: got 0, want 1"),
    ),
    (
        "a root filesystem to write to",
        "dagster.dagsterWebserver.securityContext.readOnlyRootFilesystem",
        False,
        ("'/dagster/dagsterWebserver/securityContext/readOnlyRootFilesystem'", "must be true"),
    ),
    ("capabilities", "dagster.dagsterDaemon.securityContext.capabilities.drop", [], ("capabilities/drop'", "contains")),
    ("two code locations", LOCATIONS, [LOCATION, LOCATION], ("/deployments'", "maxItems: got 2, want 1")),
    (
        "configuration handed to runs twice",
        LOCATIONS,
        [LOCATION | {"includeConfigInLaunchedRuns": {"enabled": True}}],
        ("includeConfigInLaunchedRuns/enabled'", "must be false"),
    ),
    ("no DAGSTER_HOME of ours", "dagster.dagsterDaemon.env", [], ("'/dagster/dagsterDaemon/env'", "contains")),
]

TAKEN: list[tuple[str, str, Any]] = [
    ("a tag with its digest", "image.tag", "0.1.0@sha256:" + "0" * 64),
    ("a mirror of PostgreSQL's image", "dagster.postgresql.image.registry", "mirror.example.com:5000"),
    ("a registry with a port", "image.repository", "registry.example.com:5000/trading/cvntrade"),
    ("the highest port", "postgresql.port", 65535),
    ("the lowest port", "exporter.port", 1024),
    ("an address for a host", "postgresql.host", "10.1.2.3"),
    ("a database whose certificate is verified", "postgresql.sslMode", "verify-full"),
    ("one run at once", "runs.maxConcurrent", 1),
    ("no tries after the first", "seed.backoffLimit", 0),
    ("no Secret of object storage", "secrets.objectStorage", ""),
    ("Amazon's own storage", "objectStorage.endpoint", ""),
    ("a size in Gi", "exporter.resources.limits.memory", "1Gi"),
    ("half a core", "exporter.resources.requests.cpu", "0.5"),
    ("days by name", "purge.schedule", "17 3 * * MON-FRI"),
    ("no dependency", "dagster", {"enabled": False}),
    ("settings", "seed.settings", {"CVN_CUSUM_H": "3.0", "CVN_HPO_XGBOOST_30M_MAX_DEPTH": "4"}),
]


# What the values of Dagster's chart say where our schema has a rule (helm/dagster/values.yaml).
_PART = {
    "image": {"repository": "docker.io/dagster/dagster-celery-k8s", "tag": None, "pullPolicy": "Always"},
    **{key: [] for key in ("env", "envConfigMaps", "envSecrets", "tolerations", "volumes", "volumeMounts")},
    **{key: {} for key in ("podSecurityContext", "securityContext", "resources", "labels", "annotations", "affinity")},
}
DAGSTERS: dict[str, Any] = {
    "global": {
        "postgresqlSecretName": "dagster-postgresql-secret",
        "dagsterHome": "/opt/dagster/dagster_home",
        "serviceAccountName": "",
        "celeryConfigSecretName": "dagster-celery-config-secret",
    },
    "rbacEnabled": True,
    "imagePullSecrets": [],
    "dagsterWebserver": _PART
    | {"replicaCount": 1, "enableReadOnly": False, "service": {"type": "ClusterIP", "port": 80, "annotations": {}}}
    | {"workspace": {"enabled": False, "servers": [], "externalConfigmap": None}},
    "dagsterDaemon": _PART | {"enabled": True, "heartbeatTolerance": 1800},
    "dagster-user-deployments": {
        "enabled": True,
        "enableSubchart": True,
        "imagePullSecrets": [],
        "deployments": [_PART],
    },
    "postgresql": {
        "image": {
            "registry": "docker.io",
            "repository": "library/postgres",
            "tag": "14.6",
            "pullPolicy": "IfNotPresent",
        },
        "enabled": True,
        "postgresqlHost": "",
        "postgresqlUsername": "test",
        "postgresqlPassword": "test",
        "postgresqlDatabase": "test",
        "postgresqlParams": {},
        "service": {"port": 5432},
    },
    "generatePostgresqlPasswordSecret": True,
    "generateCeleryConfigSecret": True,
    **{part: {"enabled": False} for part in ("rabbitmq", "redis", "flower", "ingress", "migrate")},
    "telemetry": {"enabled": True},
    "runLauncher": {"type": "K8sRunLauncher", "config": {"k8sRunLauncher": {}}},
    "busybox": {"image": {"repository": "docker.io/busybox", "tag": "1.28", "pullPolicy": "IfNotPresent"}},
    "serviceAccount": {"create": True, "name": "", "annotations": {}},
    "pythonLogs": {"managedPythonLoggers": []},
}


@pytest.fixture(scope="module")
def chart() -> Iterator[Path]:
    with standalone(CHART) as folder:
        yield folder


def change(key: str, value: Any) -> dict[str, Any]:
    *parents, last = key.split(".")
    whole: dict[str, Any] = {}
    place = whole
    for parent in parents:
        place = place.setdefault(parent, {})
    place[last] = value
    return whole


def test_the_charts_own_values_are_taken(chart):
    assert refusal(chart, {}) is None


@pytest.mark.parametrize(("name", "key", "value", "words"), REFUSED, ids=[row[0] for row in REFUSED])
def test_a_misconfiguration_is_refused_in_words(chart, name, key, value, words):
    said = refusal(chart, change(key, value))
    assert said is not None, f"{name}: taken"
    for word in words:
        assert word in said, said
    assert "does not match pattern" not in said
    assert "'not' failed" not in said
    assert "canary-5c1e" not in said
    assert len(said.splitlines()) <= 4, said


@pytest.mark.parametrize(("name", "key", "value"), TAKEN, ids=[row[0] for row in TAKEN])
def test_what_is_on_the_right_side_is_taken(chart, name, key, value):
    assert refusal(chart, change(key, value)) is None


def test_dagsters_own_defaults_are_laid_under_ours_and_taken(chart, tmp_path):
    """Helm merges a dependency's values before it asks our schema: what we leave unsaid, Dagster's chart says."""
    whole = tmp_path / "cvntrade"
    shutil.copytree(chart, whole)
    dependency = whole / "charts" / "dagster"
    dependency.mkdir(parents=True)
    (dependency / "Chart.yaml").write_text("{apiVersion: v2, name: dagster, version: 1.13.27}")
    (dependency / "values.yaml").write_text(json.dumps(DAGSTERS))
    shutil.copy(CHART / "Chart.yaml", whole)
    seen = merged(whole, {})["dagster"]
    assert seen["pythonLogs"] == DAGSTERS["pythonLogs"]
    assert seen["postgresql"]["postgresqlPassword"] == ""
    assert seen["dagsterWebserver"]["securityContext"]["readOnlyRootFilesystem"] is True
    assert refusal(whole, {}) is None
    said = refusal(whole, change("dagster.dagsterWebserver.securityContext", None))
    assert said is not None
    assert "missing property 'securityContext'" in said


def test_a_prometheus_needs_a_way_to_it(chart):
    url = change("prometheus.url", "http://prometheus.monitoring.svc:9090")
    assert refusal(chart, url) is None
    closed = {"networkPolicies": {"prometheus": {"to": []}}}
    assert refusal(chart, closed) is None
    said = refusal(chart, url | closed)
    assert said is not None
    assert "'/networkPolicies/prometheus/to': minItems: got 0, want 1" in said


def test_the_schema_is_one_and_every_key_of_ours_stands_in_it():
    Draft7Validator.check_schema(SCHEMA)
    assert set(GIVEN) <= set(SCHEMA["properties"])
    loose = [path for path, part in objects(SCHEMA["properties"], "") if part.get("additionalProperties") is not False]
    assert set(loose) <= {"/global", "/seed/settings", *FREE}, loose


# What Kubernetes reads and judges itself.
FREE = {"/scheduling/affinity"}


def objects(properties: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for key, part in properties.items():
        if part.get("type") == "object":
            yield f"{path}/{key}", part
            yield from objects(part.get("properties", {}), f"{path}/{key}")


def test_every_rule_of_the_schema_is_used():
    text = json.dumps(SCHEMA)
    unused = [name for name in SCHEMA["definitions"] if f'"#/definitions/{name}"' not in text]
    assert unused == []
