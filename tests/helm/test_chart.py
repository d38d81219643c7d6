"""The chart with each of its sets of values: what is rendered, and what must hold of it."""

import json
import re
import tomllib
from typing import Any

import helm_python
import pytest
import yaml
from chart_rendered import SETS, alone, everything, file_text, made, one, pods_of, rendered, whole
from mlflow.cli import server as mlflow_server
from mlflow.server.security_utils import is_allowed_host_header, should_block_cors_request
from typer.main import get_command

from cvntrade_assets.cli import app
from helm.chart import house_rules, kubernetes, pod_security, rights
from helm.chart.__main__ import main
from helm.chart.copies import CHART, COPIES, REPOSITORY, Copy
from helm.chart.dagster_pods import dagster_pods
from helm.chart.judgement import VALUE_SETS, WITHOUT_DAGSTER, external, judge
from helm.chart.pods import Pod, pods
from helm.chart.references import dangling
from helm.chart.rendering import lint, merged, overlaid, standalone

EACH = pytest.mark.parametrize("name", SETS)
METADATA: dict[str, Any] = yaml.safe_load((CHART / "Chart.yaml").read_text())
LOCK = (REPOSITORY / "requirements.lock").read_text()
COMMANDS = set(get_command(app).commands)  # type: ignore[attr-defined]
HOME = "/opt/cvntrade/instance"


def locked(package: str) -> str:
    found = re.search(rf"^{package}==(\S+)", LOCK, re.MULTILINE)
    assert found, f"{package} is not in requirements.lock"
    return found[1]


# what is rendered


def test_there_are_sets_of_values():
    assert {file.name for file in VALUE_SETS} == {
        "default-values.yaml",
        "minimal-values.yaml",
        "production-values.yaml",
    }


@EACH
def test_it_lints(name):
    with standalone(CHART) as chart:
        assert lint(chart, SETS[name], kubernetes.VERSIONS[0]) == []
        assert lint(chart, overlaid(SETS[name], WITHOUT_DAGSTER), kubernetes.VERSIONS[-1]) == []


@EACH
@pytest.mark.parametrize("version", kubernetes.VERSIONS)
def test_kubernetes_takes_every_object(name, version):
    assert kubernetes.faults(made(name), version) == []


@EACH
def test_an_upgrade_makes_the_same_objects(name):
    assert [m.content for m in rendered(SETS[name], upgrade=True)] == [m.content for m in made(name)]


@EACH
def test_our_own_objects_do_not_change_when_dagsters_chart_is_off(name):
    without = rendered(overlaid(SETS[name], WITHOUT_DAGSTER))
    assert [manifest.content for manifest in without] == [manifest.content for manifest in made(name)]


def test_the_smallest_installation_is_smaller():
    small, default = {str(found) for found in made("minimal")}, {str(found) for found in made("default")}
    assert small < default
    assert {"Job/cvntrade-migration", "Job/cvntrade-seed", "Deployment/cvntrade-mlflow"} <= {
        found.split()[0] for found in small
    }


@EACH
def test_what_is_referred_to_exists(name):
    assert dangling(everything(name), external(whole(name))) == []


@EACH
def test_every_object_says_whose_it_is(name):
    for manifest in made(name):
        labels = manifest.content["metadata"]["labels"]
        assert labels["app.kubernetes.io/managed-by"] == "Helm", manifest
        assert labels["app.kubernetes.io/part-of"] == "cvntrade", manifest
        assert "namespace" not in manifest.content["metadata"], manifest


# pods


def own_pods(name: str) -> list[Pod]:
    return [pod for pod in pods_of(name) if "dagster/" not in pod.owner.template]


@EACH
def test_every_pod_is_restricted(name):
    started = pods_of(name)
    assert len(started) > 6
    assert [words for pod in started for words in pod_security.breaches(pod)] == []
    assert [words for pod in started for words in house_rules.container_breaches(pod)] == []
    assert [words for pod in own_pods(name) for words in house_rules.breaches(pod)] == []


@EACH
def test_every_program_exists(name):
    for pod in pods(made(name)):
        for path, container in pod.containers():
            program, *words = container["command"]
            assert program in ("cvntrade", "dagster", "mlflow", "/bin/bash"), f"{pod.owner}: {path}"
            if program == "cvntrade":
                assert words[0] in COMMANDS, f"{pod.owner}: {path}: cvntrade {words[0]} is no command"


@EACH
def test_every_option_is_one_of_the_commands(name):
    for pod in pods(made(name)):
        for path, container in pod.containers():
            program, *words = container["command"]
            if program == "cvntrade":
                known = {option for part in get_command(app).commands[words[0]].params for option in part.opts}  # type: ignore[attr-defined]
                given = {word for word in words[1:] if word.startswith("--")}
                assert given <= known, f"{pod.owner}: {path}: {given - known}"


@EACH
def test_pods_write_where_they_may(name):
    """The root filesystem is read-only: what a container writes to is a mount, and /tmp is one, with a limit."""
    for pod in pods_of(name):
        volumes = {volume["name"]: volume for volume in pod.spec["volumes"]}
        for path, container in pod.containers():
            if path.startswith("initContainers") and "dagster/" in pod.owner.template:
                continue
            mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
            assert volumes[mounts["/tmp"]["name"]]["emptyDir"]["sizeLimit"], f"{pod.owner}: {path}"
            assert {mount["name"] for mount in container["volumeMounts"]} <= set(volumes)
            if HOME in mounts:
                assert mounts[HOME]["readOnly"] is True
        for volume in volumes.values():
            assert "sizeLimit" in volume.get("emptyDir", {"sizeLimit": ""}), pod.owner


@EACH
def test_a_changed_configuration_replaces_pods(name):
    """Deployments of ours that read cvntrade-environment carry its checksum."""
    moved = overlaid(SETS[name], {"objectStorage": {"region": "mars-north-1"}})
    before = {pod.owner.name: pod for pod in pods(made(name)) if pod.owner.kind == "Deployment"}
    for pod in pods(rendered(moved)):
        if pod.owner.kind == "Deployment":
            assert pod.template != before[pod.owner.name].template, pod.owner.name


# secrets


@EACH
def test_secrets_are_references(name):
    text = "\n".join(json.dumps(manifest.content) for manifest in everything(name))
    assert [manifest.name for manifest in made(name) if manifest.kind == "Secret"] == []
    assert not re.search(r"[a-z0-9+]+://[^\s/\"$@]*:[^\s/\"$@]+@", text)
    for pod in pods_of(name):
        for path, container in pod.containers():
            for variable in container.get("env", []):
                if re.search(r"PASSWORD|SECRET|TOKEN|WAREHOUSE_URL|OWNER_URL|STORE_URI|ACCESS_KEY", variable["name"]):
                    assert set(variable["valueFrom"]) == {"secretKeyRef"}, f"{pod.owner}: {path}"
    for manifest in made(name):
        if manifest.kind == "ConfigMap":
            # A file may name the variable that a secret stands in ($CVN_…); data of the environment may not hold one.
            keys = [
                key for key in manifest.content["data"] if re.search(r"PASSWORD|ACCESS_KEY|WAREHOUSE|OWNER_URL", key)
            ]
            assert keys == [], manifest


# Who is given which Secret, by its key in `secrets`.
GIVEN = {
    "webserver": {"dagster", "app", "objectStorage"},
    "webserver-read-only": {"dagster", "app", "objectStorage"},
    "daemon": {"dagster", "app", "objectStorage"},
    "cvntrade-code": {"dagster", "app", "objectStorage", "alerts"},
    "run": {"dagster", "app", "objectStorage"},
    "mlflow": {"mlflow", "objectStorage"},
    "exporter": {"dagster", "app"},
    "watchdog": {"dagster", "app", "alerts"},
    "purge": {"dagster", "app"},
    "seed": {"dagster", "app"},
    "migration": {"owner", "dagster", "mlflow"},
}


@EACH
def test_each_pod_is_given_these_secrets_and_no_other(name):
    keys = {secret: key for key, secret in whole(name)["secrets"].items() if secret}
    for pod in pods_of(name):
        called = pod.owner.name.removeprefix("cvntrade-")
        sources = [source for _, container in pod.containers() for source in container.get("envFrom", [])]
        secrets = [source["secretRef"] for source in sources if "secretRef" in source]
        # The chart's own values name the usual Secrets as optional ones, which may be nobody's.
        found = {keys[secret["name"]] for secret in secrets if secret["name"] in keys or not secret.get("optional")}
        assert found == GIVEN[called] & set(keys.values()), called


def test_each_step_of_the_migration_has_one_role():
    (pod,) = pods(made_of("Job", "cvntrade-migration"))
    names = whole("default")["secrets"]
    given = {
        path: [source["secretRef"]["name"] for source in container["envFrom"] if "secretRef" in source]
        for path, container in pod.containers()
    }
    assert sorted(given.values()) == sorted([[names["owner"]], [names["dagster"]], [names["mlflow"]]])


def variables(name: str, container: dict[str, Any]) -> dict[str, Any]:
    """What a container is told by the chart's ConfigMaps, and over that by its own variables."""
    maps = {found.name: found.content["data"] for found in made(name) if found.kind == "ConfigMap"}
    told: dict[str, Any] = {}
    for source in container.get("envFrom", []):
        told |= maps[source["configMapRef"]["name"]] if "configMapRef" in source else {}
    return told | {variable["name"]: variable.get("value") for variable in container.get("env", [])}


@EACH
def test_every_container_speaks_with_postgresql_as_the_values_say(name):
    """What runs our image speaks with it, runs too; what waits in Dagster's pods gives nobody a password."""
    image, mode = whole(name)["image"], whole(name)["postgresql"]["sslMode"]
    ours = f"{image['repository']}:{image['tag']}"
    told = {
        f"{pod.owner.name}: {path}": variables(name, container).get("PGSSLMODE")
        for pod in pods_of(name)
        for path, container in pod.containers()
        if container["image"] == ours
    }
    assert len(told) >= 10
    assert "cvntrade-run: containers[dagster]" in told
    assert told == dict.fromkeys(told, mode)


def test_production_refuses_a_database_without_tls():
    assert whole("production")["postgresql"]["sslMode"] == "require"


def made_of(kind: str, called: str) -> list[Any]:
    return [manifest for manifest in made("default") if (manifest.kind, manifest.name) == (kind, called)]


# rights


@EACH
def test_only_who_starts_runs_may_ask_the_api_server(name):
    accounts = {found.name: found.content for found in made(name) if found.kind == "ServiceAccount"}
    mounted = {called for called, account in accounts.items() if account["automountServiceAccountToken"]}
    assert mounted == {"cvntrade-launcher"}
    for pod in pods(made(name)):
        assert pod.spec["automountServiceAccountToken"] is False, pod.owner
    # Dagster's chart gives its pods a token whatever their account says; the code location's has no role.
    given = {pod.owner.name: pod.spec["serviceAccountName"] for pod in pods_of(name) if has_token(pod)}
    starting = dict.fromkeys(
        ("cvntrade-webserver", "cvntrade-webserver-read-only", "cvntrade-daemon"), "cvntrade-launcher"
    )
    assert given == starting | {"cvntrade-cvntrade-code": "cvntrade-code-location"}
    assert rights.breaches(everything(name)) == []
    bindings = [found.content for found in made(name) if found.kind in ("RoleBinding", "ClusterRoleBinding")]
    bound = {(one["kind"], subject["name"]) for one in bindings for subject in one["subjects"]}
    assert bound == {("RoleBinding", "cvntrade-launcher")}
    using = {pod.owner.name for pod in pods_of(name) if pod.spec["serviceAccountName"] == "cvntrade-launcher"}
    assert using == {"cvntrade-webserver", "cvntrade-webserver-read-only", "cvntrade-daemon"}


def has_token(pod: Pod) -> bool:
    return pod.spec["automountServiceAccountToken"]


@EACH
def test_roles_say_what_is_meant_and_no_more(name):
    roles = [found for found in made(name) if found.kind in ("Role", "ClusterRole")]
    assert [role.kind for role in roles] == ["Role"]
    granted = {
        (group, resource, verb)
        for rule in roles[0].content["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    assert granted == asked_of_the_api_server()


def asked_of_the_api_server() -> set[tuple[str, str, str]]:
    """Group, resource and verb of every call that our code makes, by the names of the client's methods."""
    found = set()
    for file in sorted((REPOSITORY / "resources").glob("pod_*.py")):
        for verb, kind in re.findall(
            r"\.(create|read|list|delete|patch)_namespaced_(\w+?)(?:_with_retries)?\(", file.read_text()
        ):
            group = "batch" if kind.startswith("job") else ""
            found.add((group, {"job": "jobs", "pod": "pods"}[kind], {"read": "get"}.get(verb, verb)))
    return found


# hooks and schedules


def test_the_migration_runs_before_and_the_seed_after():
    hooks = {str(found).split()[0]: found for found in made("default") if found.hooks}
    assert set(hooks["Job/cvntrade-migration"].hooks) == {"pre-install", "pre-upgrade"}
    assert set(hooks["Job/cvntrade-seed"].hooks) == {"post-install", "post-upgrade"}
    for job in ("Job/cvntrade-migration", "Job/cvntrade-seed"):
        # A failed one stays for its logs, and the next upgrade replaces it.
        assert hooks[job].annotations["helm.sh/hook-delete-policy"] == "before-hook-creation"
        spec = hooks[job].content["spec"]
        assert spec["backoffLimit"] <= 6
        assert spec["activeDeadlineSeconds"] > 0
        assert spec["template"]["spec"]["restartPolicy"] == "Never"
        assert "ttlSecondsAfterFinished" not in spec
    weights = {name: int(found.annotations["helm.sh/hook-weight"]) for name, found in hooks.items()}
    before = {name for name, found in hooks.items() if "pre-install" in found.hooks} - {"Job/cvntrade-migration"}
    assert before
    assert all(weights[name] < weights["Job/cvntrade-migration"] for name in before)


def test_the_seed_job_sets_what_the_values_say():
    (pod,) = pods([found for found in made("production") if found.name == "cvntrade-seed" and found.kind == "Job"])
    (command,) = [container["command"] for _, container in pod.containers()]
    told = whole("production")["seed"]["settings"]
    assert told
    assert command == ["cvntrade", "seed", *(word for key in sorted(told) for word in ("--set", f"{key}={told[key]}"))]


def test_nothing_waits_for_the_seed():
    for pod in pods_of("default"):
        assert "seed" not in json.dumps(pod.spec.get("initContainers", [])), pod.owner


@EACH
def test_scheduled_jobs_never_overlap_and_always_end(name):
    for manifest in made(name):
        if manifest.kind == "CronJob":
            spec = manifest.content["spec"]
            assert spec["concurrencyPolicy"] == "Forbid", manifest
            assert spec["jobTemplate"]["spec"]["activeDeadlineSeconds"] > 0, manifest
            assert spec["startingDeadlineSeconds"] > 10, manifest
            assert spec["timeZone"] == "Etc/UTC", manifest


# what must be the same in two places


@pytest.mark.parametrize("copy", COPIES, ids=lambda copy: copy.original.name)
def test_copies_are_what_they_copy(copy):
    assert copy.equal, "run `make chart`"


def test_a_copy_is_refreshed_once(tmp_path):
    original = tmp_path / "a"
    original.write_bytes(b"x\n")
    copy = Copy(original, tmp_path / "deep" / "a")
    assert not copy.equal
    assert copy.refresh()
    assert copy.equal
    assert not copy.refresh()


@pytest.mark.parametrize(("config_map", "key"), [("instance", "dagster.yaml"), ("workspace", "workspace.yaml")])
def test_the_cluster_reads_the_same_files_as_a_laptop(config_map, key):
    assert one("default", "ConfigMap", f"cvntrade-{config_map}")["data"] == {key: (REPOSITORY / key).read_text()}


def test_the_migration_reads_the_same_instance():
    assert (
        one("default", "ConfigMap", "cvntrade-migration")["data"]
        == one("default", "ConfigMap", "cvntrade-instance")["data"]
    )


def test_dagster_is_one_version():
    (dependency,) = METADATA["dependencies"]
    assert dependency["version"] == locked("dagster") == locked("dagster-webserver")
    assert dependency["repository"] == "https://dagster-io.github.io/helm"
    assert dependency["condition"] == "dagster.enabled"


def test_chart_and_image_are_the_packages_version():
    version = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["version"]
    assert METADATA["version"] == METADATA["appVersion"] == version == whole("default")["image"]["tag"]


def test_the_chart_takes_the_versions_that_it_is_judged_for():
    assert METADATA["kubeVersion"] == f">={kubernetes.VERSIONS[0]}.0-0"


@EACH
def test_everything_of_ours_is_one_image(name):
    image = whole(name)["image"]
    own = f"{image['repository']}:{image['tag']}"
    for pod in pods_of(name):
        for path, container in pod.containers():
            waits = path.startswith("initContainers") and "dagster/" in pod.owner.template
            assert (container["image"] == own) != waits, f"{pod.owner}: {path}"


def test_every_variable_of_the_instance_is_given():
    """What dagster.yaml and workspace.yaml take from the environment stands in the ConfigMap or in Dagster's Secret."""
    text = "".join(copy.original.read_text() for copy in COPIES)
    wanted = set(re.findall(r"env: (\w+)", text))
    given = set(one("default", "ConfigMap", "cvntrade-environment")["data"])
    assert wanted - given == {"CVN_PG_PASSWORD"}


def test_the_code_location_is_where_the_others_look_for_it():
    addresses = one("default", "ConfigMap", "cvntrade-environment")["data"]
    (location,) = whole("default")["dagster"]["dagster-user-deployments"]["deployments"]
    assert addresses["CVN_CODE_SERVER_HOST"] == location["name"]
    assert addresses["CVN_CODE_SERVER_PORT"] == str(location["port"])
    arguments = location["dagsterApiGrpcArgs"]
    assert arguments[arguments.index("--location-name") + 1] == "cvntrade"
    assert addresses["CVN_RUNS_IN"] == "pods"
    assert addresses["DAGSTER_HOME"] == HOME


def options_of_mlflow(name: str) -> dict[str, list[str]]:
    (container,) = one(name, "Deployment", "cvntrade-mlflow")["spec"]["template"]["spec"]["containers"]
    pairs = [word.partition("=") for word in container["command"] if "=" in word]
    return {option: value.split(",") for option, _, value in pairs}


@EACH
def test_mlflow_answers_under_its_names_and_to_its_own_pages_alone(name):
    """As MLflow's own server judges a request with these options."""
    options, names = options_of_mlflow(name), whole(name)["mlflow"]["allowedHosts"]
    assert set(options) <= {option for part in mlflow_server.params for option in part.opts}
    hosts, origins = options["--allowed-hosts"], options.get("--cors-allowed-origins", [])
    inside = one(name, "ConfigMap", "cvntrade-environment")["data"]["CVN_MLFLOW_URL"].removeprefix("http://")
    for host in (inside, "cvntrade-mlflow.trading.svc.cluster.local:5000", "localhost:5000", *names):
        assert is_allowed_host_header(hosts, host), host
    for host in ("", "evil.example.com", "cvntrade-mlflow.evil.example.com", "10.42.0.7:5000"):
        assert not is_allowed_host_header(hosts, host), host
    for page in names:
        assert not should_block_cors_request(f"https://{page}", "POST", origins), page
    for page in ("https://evil.example.com", "http://mlflow.trading.example.com", "null"):
        assert should_block_cors_request(page, "POST", origins), page


def test_there_is_a_name_for_people_to_reach_mlflow_by():
    assert whole("production")["mlflow"]["allowedHosts"]


# dashboards and rules


def test_dashboards_reach_grafana_whole():
    found = {}
    for manifest in made("default"):
        if manifest.content["metadata"]["labels"].get("grafana_dashboard") == "1":
            found |= manifest.content["data"]
    files = sorted((CHART / "files" / "dashboards").glob("*.json"))
    assert found == {file.name: file.read_text() for file in files}
    assert max(len(text) for text in found.values()) < 900_000


def test_data_sources_reach_grafana_whole():
    assert one("default", "ConfigMap", "cvntrade-datasources")["data"]["cvntrade.yaml"] == file_text(
        "grafana/datasources.yaml"
    )


def test_rules_reach_prometheus_whole():
    found = one("everything", "ConfigMap", "cvntrade-prometheus")["data"]
    assert found == {name: file_text(f"prometheus/{name}") for name in ("rules.yaml", "alertmanager.yaml")}
    rules = one("everything", "PrometheusRule", "cvntrade")["spec"]
    assert rules == yaml.safe_load(file_text("prometheus/rules.yaml"))


def test_the_exporter_is_scraped_one_way():
    assert "prometheus.io/scrape" in one("default", "Service", "cvntrade-exporter")["metadata"]["annotations"]
    assert "annotations" not in one("everything", "Service", "cvntrade-exporter")["metadata"]
    (endpoint,) = one("everything", "ServiceMonitor", "cvntrade-exporter")["spec"]["endpoints"]
    (port,) = one("everything", "Service", "cvntrade-exporter")["spec"]["ports"]
    assert endpoint["port"] == port["name"]


# what Dagster's chart is given

# Fields that Dagster's chart knows, where it refuses others (helm/dagster/schema/schema/charts/…/subschema: those of
# webserver.py and daemon.py forbid extra ones; initContainerResources, which its templates read, came later).
OF_BOTH = {
    *(
        "image",
        "env",
        "envConfigMaps",
        "envSecrets",
        "deploymentLabels",
        "labels",
        "nodeSelector",
        "affinity",
        "tolerations",
    ),
    *(
        "podSecurityContext",
        "securityContext",
        "resources",
        "readinessProbe",
        "livenessProbe",
        "startupProbe",
        "annotations",
    ),
    *("schedulerName", "volumeMounts", "volumes", "initContainerResources"),
}
KNOWN = {
    "dagsterWebserver": OF_BOTH
    | {"replicaCount", "nameOverride", "pathPrefix", "service", "workspace", "enableReadOnly", "dbStatementTimeout"}
    | {"dbPoolRecycle", "logLevel"},
    "dagsterDaemon": OF_BOTH
    | {"enabled", "runCoordinator", "heartbeatTolerance", "runMonitoring", "runRetries", "sensors", "schedules"},
}
LOCATION = OF_BOTH - {"deploymentLabels", "initContainerResources"} | {
    *("name", "port", "dagsterApiGrpcArgs", "codeServerArgs", "includeConfigInLaunchedRuns"),
}
TOP = {
    *("enabled", "dagsterWebserver", "dagster-user-deployments", "postgresql", "generatePostgresqlPasswordSecret"),
    *("generateCeleryConfigSecret", "rabbitmq", "redis", "flower", "ingress", "imagePullSecrets", "computeLogManager"),
    *(
        "scheduler",
        "runLauncher",
        "pythonLogs",
        "dagsterDaemon",
        "busybox",
        "migrate",
        "telemetry",
        "serviceAccount",
        "global",
    ),
    *(
        "retention",
        "concurrency",
        "additionalInstanceConfig",
        "rbacEnabled",
        "nameOverride",
        "fullnameOverride",
        "extraManifests",
    ),
}


@EACH
def test_dagsters_chart_knows_every_key_that_it_is_given(name):
    values = whole(name)["dagster"]
    assert set(values) <= TOP
    for part, known in KNOWN.items():
        assert set(values[part]) <= known, part
    for location in values["dagster-user-deployments"]["deployments"]:
        assert set(location) <= LOCATION


def test_dagsters_pods_run_on_our_instance():
    for pod in pods(dagster_pods(whole("default"))):
        for path, container in pod.containers():
            if path.startswith("containers"):
                homes = [variable["value"] for variable in container["env"] if variable["name"] == "DAGSTER_HOME"]
                assert homes == [HOME], f"{pod.owner}: a variable of the pod wins over envFrom, where Dagster's stands"
                mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
                volumes = {volume["name"]: volume for volume in pod.spec["volumes"]}
                assert volumes[mounts[HOME]]["configMap"]["name"] == "cvntrade-instance"


def test_the_webservers_are_asked_on_whatever_port_they_have():
    values = merged(alone(), {"dagster": {"dagsterWebserver": {"service": {"port": 8080}}}})
    for pod in pods(dagster_pods(values)):
        assert house_rules.container_breaches(pod) == []


def test_people_are_told_of_commands_that_exist_where_they_find_what_they_need():
    told = (CHART / "templates" / "NOTES.txt").read_text() + (CHART / "README.md").read_text()
    groups = set(re.findall(r"\bcvntrade\s+(universe|settings)\s+(\w+)", told))
    assert groups == {("universe", "list"), ("universe", "set"), ("settings", "set")}
    for group, command in groups:
        assert command in get_command(app).commands[group].commands, f"{group} {command}"  # type: ignore[attr-defined]
    where = re.findall(r"exec deployment/(?:cvntrade|{{ .Release.Name }})-(\S+) -- cvntrade", told)
    assert where == ["webserver", "webserver"]
    (webserver,) = [pod for pod in pods_of("default") if pod.owner.name == "cvntrade-webserver"]
    container = dict(webserver.containers())["containers[dagster]"]
    assert variables("default", container)["CVN_UI_URL"]
    assert {"secretRef": {"name": whole("default")["secrets"]["app"]}} in container["envFrom"]


def test_what_dagsters_pods_wait_with_can_be_pulled_and_ends():
    """Dagster's chart puts the registry before PostgreSQL's image alone; busybox's nslookup works until 1.28."""
    waits = {
        path: container["image"]
        for pod in pods(dagster_pods(whole("default")))
        for path, container in pod.containers()
        if path.startswith("initContainers")
    }
    assert sorted(waits) == ["initContainers[check-db-ready]", "initContainers[init-user-deployment-cvntrade-code]"]
    database, location = (waits[path] for path in sorted(waits))
    assert re.fullmatch(r"docker\.io/library/postgres:[0-9][\w.-]+", database)
    assert re.fullmatch(r"docker\.io/library/busybox:1\.28(\.\d+)?", location)


# The same thing said twice, differently: templates refuse what a schema cannot compare.
DISAGREEING: list[tuple[dict[str, Any], str]] = [
    ({"image": {"tag": "9.9.9"}}, "all must run the same code"),
    ({"dagster": {"dagsterDaemon": {"image": {"tag": "9.9.9"}}}}, "dagster.dagsterDaemon.image is cvntrade:9.9.9"),
    ({"postgresql": {"host": "other"}}, "dagster.postgresql.postgresqlHost"),
    ({"postgresql": {"port": 6432}}, "dagster.postgresql.service.port"),
    ({"secrets": {"dagster": "other"}}, "other"),
    ({"secrets": {"app": "other"}}, "envSecrets lacks {name: other}, which is secrets.app"),
    ({"imagePullSecrets": [{"name": "r"}]}, "imagePullSecrets"),
    (
        {"dagster": {"dagsterWebserver": {"envConfigMaps": [{"name": "x"}]}}},
        "envConfigMaps lacks {name: cvntrade-environ",
    ),
    ({"dagster": {"dagsterDaemon": {"env": [{"name": "DAGSTER_HOME", "value": "/x"}]}}}, "masks no secrets"),
    ({"dagster": {"dagsterDaemon": {"volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}]}}}, "no dagster.yaml"),
    ({"secrets": {"owner": "cvntrade-app"}}, "not meant for it"),
]


@pytest.mark.parametrize(("values", "says"), DISAGREEING, ids=[says for _, says in DISAGREEING])
def test_what_is_said_twice_must_agree(values, says):
    with pytest.raises(helm_python.HelmError, match=re.escape(says)):
        rendered(values)


def test_without_dagsters_chart_nothing_needs_to_agree_with_it():
    assert rendered({"image": {"tag": "9.9.9"}, **WITHOUT_DAGSTER})


# the tool


@pytest.fixture
def _no_copies(monkeypatch):
    """Tests write nothing into the repository."""
    monkeypatch.setattr("helm.chart.__main__.COPIES", ())
    monkeypatch.setenv("COLUMNS", "150")


@pytest.mark.usefixtures("_no_copies")
def test_the_tool_says_what_is_wrong(tmp_path, capsys):
    wrong = tmp_path / "mine.yaml"
    wrong.write_text("seed: {settings: {CVN_NO_SUCH_THING: '1', CVN_POD_TRAINING_CORES: many}}\n")
    assert main([str(wrong)]) == 1
    said = capsys.readouterr().out
    assert "CVN_NO_SUCH_THING" in said
    assert "CVN_POD_TRAINING_CORES='many'" in said
    wrong.write_text("objectStorage: {endpoint: 'https://minio.storage.svc:9000'}\n")
    assert main([str(wrong)]) == 1
    assert "run does not reach objectStorage at minio.storage.svc:9000" in capsys.readouterr().out
    wrong.write_text("networkPolicies: {exchange: {to: [{ipBlock: {cidr: 10.0.0.0/64}}]}}\n")
    assert main([str(wrong)]) == 1
    assert "networkPolicies: '10.0.0.0/64' does not appear to be" in capsys.readouterr().out
    wrong.write_text("image: {tag: latest}\n")
    assert main([str(wrong)]) == 1
    assert "at '/image/tag': value must be 'a version that is used once" in capsys.readouterr().out
    wrong.write_text("just words\n")
    with pytest.raises(ValueError, match="holds str; values are keys with values"):
        main([str(wrong)])


@pytest.mark.usefixtures("_no_copies")
def test_the_tool_is_content_with_a_good_file(tmp_path, capsys):
    good = tmp_path / "mine.yaml"
    good.write_text("runs: {maxConcurrent: 7}\n")
    assert main([str(good)]) == 0
    said = capsys.readouterr().out
    assert "mine.yaml, without Dagster's chart" in said
    assert "faults" not in said


def test_a_judgement_finds_what_is_wrong(tmp_path):
    with standalone(CHART) as chart:
        (chart / "templates" / "wrong.yaml").write_text(
            "apiVersion: v1\nkind: Pod\nmetadata: {name: wrong}\n"
            "spec: {serviceAccountName: nobody, kontainers: [], containers: [{name: a, image: 'a:latest'}]}\n"
        )
        found = {finding.rule: finding.faults for finding in judge(chart, "x", {})}
    failed = {rule for rule, faults in found.items() if faults}
    assert failed == {
        "what is referred to exists",
        "policies open and close paths",
        "pods are restricted",
        "pods keep the chart's own rules",
        "their containers do",
        "schemas, Kubernetes 1.28 to 1.34",
    }
