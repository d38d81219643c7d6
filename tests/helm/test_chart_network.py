"""Who may reach whom: the rendered policies, asked for every pair; and the evaluator, asked as Kubernetes' manual."""

from typing import Any

import pytest
from chart_rendered import SETS, alone, pods_of, rendered

from helm.chart import paths
from helm.chart.dagster_pods import dagster_pods
from helm.chart.network import Endpoint, Policies, examples, selects
from helm.chart.paths import CODE_LOCATION, LETS_IN, REACHES
from helm.chart.pods import pods
from helm.chart.rendering import NAMESPACE, Manifest, Values, merged, overlaid
from helm.chart.run_pods import run_job

# the evaluator


def policy(spec: dict[str, Any]) -> Policies:
    return Policies((Manifest("a", {"kind": "NetworkPolicy", "metadata": {"name": "a"}, "spec": spec}),))


WEB = Endpoint("web", {"app": "web"}, ports={"http": 8080})
DATABASE = Endpoint("db", {"app": "db"}, address="10.42.0.9")
ELSEWHERE = Endpoint("elsewhere", {"app": "web"}, namespace="other", address="10.42.1.1")
OUTSIDE = Endpoint("outside", namespace=None, address="203.0.113.5")
ONLY_WEB = {"podSelector": {"matchLabels": {"app": "web"}}}


def test_without_a_policy_everybody_reaches_everybody():
    assert Policies(()).allow(OUTSIDE, WEB, 80)
    assert Policies(()).allow(WEB, OUTSIDE, 80, "UDP")


@pytest.mark.parametrize(
    ("rules", "source", "port", "protocol", "allowed"),
    [
        ([], WEB, 5432, "TCP", False),
        ([{}], OUTSIDE, 5432, "UDP", True),
        ([{"from": []}], OUTSIDE, 5432, "TCP", True),
        ([{"from": [ONLY_WEB]}], WEB, 5432, "TCP", True),
        ([{"from": [ONLY_WEB]}], ELSEWHERE, 5432, "TCP", False),
        ([{"from": [ONLY_WEB]}], OUTSIDE, 5432, "TCP", False),
        ([{"from": [{"namespaceSelector": {}}]}], ELSEWHERE, 5432, "TCP", True),
        ([{"from": [{"namespaceSelector": {}}]}], OUTSIDE, 5432, "TCP", False),
        ([{"from": [{"namespaceSelector": {}, **ONLY_WEB}]}], ELSEWHERE, 5432, "TCP", True),
        (
            [{"from": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "third"}}, **ONLY_WEB}]}],
            ELSEWHERE,
            5432,
            "TCP",
            False,
        ),
        ([{"from": [{"ipBlock": {"cidr": "203.0.113.0/24"}}]}], OUTSIDE, 5432, "TCP", True),
        ([{"from": [{"ipBlock": {"cidr": "203.0.113.0/24", "except": ["203.0.113.5/32"]}}]}], OUTSIDE, 1, "TCP", False),
        ([{"from": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}], ELSEWHERE, 5432, "TCP", True),
        ([{"ports": [{"port": 5432}]}], OUTSIDE, 5432, "TCP", True),
        ([{"ports": [{"port": 5432}]}], OUTSIDE, 5433, "TCP", False),
        ([{"ports": [{"port": 5432}]}], OUTSIDE, 5432, "UDP", False),
        ([{"ports": [{"port": 5000, "endPort": 5500}]}], OUTSIDE, 5500, "TCP", True),
        ([{"ports": [{"port": 5000, "endPort": 5500}]}], OUTSIDE, 5501, "TCP", False),
        ([{"ports": [{"protocol": "UDP"}]}], OUTSIDE, 9, "UDP", True),
        ([{"from": [ONLY_WEB]}, {"ports": [{"port": 22}]}], OUTSIDE, 22, "TCP", True),
    ],
)
def test_ingress_as_the_manual_says(rules, source, port, protocol, allowed):
    policies = policy({"podSelector": {"matchLabels": {"app": "db"}}, "ingress": rules})
    assert policies.allow(source, DATABASE, port, protocol) == allowed
    assert policies.allow(source, WEB, port, protocol)


def test_egress_holds_where_it_is_said_or_has_rules():
    to_web = {"podSelector": {}, "egress": [{"to": [ONLY_WEB], "ports": [{"port": "http"}]}]}
    assert policy(to_web).allow(DATABASE, WEB, 8080) is False
    both = Policies((*policy(to_web).manifests, *policy({"podSelector": {}, "ingress": [{}]}).manifests))
    assert both.allow(DATABASE, WEB, 8080)
    assert not both.allow(DATABASE, WEB, 8081)
    assert not both.allow(WEB, OUTSIDE, 8080)
    silent = policy({"podSelector": {}, "policyTypes": ["Egress"]})
    assert not silent.allow(WEB, OUTSIDE, 80)
    assert silent.allow(OUTSIDE, WEB, 80)
    assert silent.isolated(WEB, "Egress")
    assert not silent.isolated(WEB, "Ingress")


@pytest.mark.parametrize(
    ("operator", "values", "matches"),
    [
        ("In", ["web"], True),
        ("In", ["db"], False),
        ("NotIn", ["db"], True),
        ("NotIn", ["web"], False),
        ("Exists", None, True),
        ("DoesNotExist", None, False),
    ],
)
def test_label_expressions(operator, values, matches):
    expression = {"key": "app", "operator": operator} | ({"values": values} if values else {})
    assert selects({"matchExpressions": [expression]}, {"app": "web"}) == matches
    with pytest.raises(ValueError, match="'Near'"):
        selects({"matchExpressions": [expression | {"operator": "Near"}]}, {})


TEAM = {"matchLabels": {"team": "a"}, "matchExpressions": [{"key": "stage", "operator": "In", "values": ["x", "y"]}]}
UNTOLD = {"matchExpressions": [{"key": "app", "operator": "Exists"}, {"key": "old", "operator": "DoesNotExist"}]}


@pytest.mark.parametrize(
    "peer",
    [
        ONLY_WEB,
        {"podSelector": UNTOLD},
        {"namespaceSelector": {}},
        {"namespaceSelector": TEAM, "podSelector": {}},
        {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "third"}}, **ONLY_WEB},
        {"ipBlock": {"cidr": "0.0.0.0/0"}},
        {"ipBlock": {"cidr": "10.1.2.3/8"}},
        {"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.0.0.0/16", "10.1.0.0/16", "10.128.0.0/9"]}},
        {"ipBlock": {"cidr": "2001:db8::/32", "except": ["2001:db8::/33"]}},
    ],
)
def test_an_example_of_a_peer_is_let_through_and_a_stranger_is_not(peer):
    policies = policy({"podSelector": {"matchLabels": {"app": "db"}}, "ingress": [{"from": [peer]}]})
    (found,) = examples([peer])
    assert policies.allow(found, DATABASE, 5432)
    other = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "nowhere"}}}
    (stranger,) = examples([other])
    assert policies.allow(stranger, DATABASE, 5432) == (peer == {"namespaceSelector": {}})


def test_a_block_of_holes_has_no_example():
    halves = ["255.0.0.0/9", "255.128.0.0/9"]
    assert examples([{"ipBlock": {"cidr": "255.0.0.0/8", "except": halves}}]) == []
    assert [end.address for end in examples([{"ipBlock": {"cidr": "255.0.0.0/8", "except": halves[:1]}}])] == [
        "255.128.0.0"
    ]


# the chart

PORTS = {"webserver": 3000, "webserver-read-only": 3000, CODE_LOCATION: 4000, "mlflow": 5000, "exporter": 9464}
PROXY = Endpoint("proxy", {"app.kubernetes.io/name": "oauth2-proxy"}, "cvntrade-proxy", "10.42.2.1")
BESIDE_PROXY = Endpoint("beside proxy", {"app": "b"}, "cvntrade-proxy", "10.42.2.2")
READER = Endpoint("reader", {"app.kubernetes.io/name": "ingress-nginx"}, "ingress-nginx", "10.42.3.1")
PROMETHEUS = Endpoint("prometheus", {"app.kubernetes.io/name": "prometheus"}, "monitoring", "10.42.4.1")
DNS = Endpoint("dns", {"k8s-app": "kube-dns"}, "kube-system", "10.42.5.1")
STRANGER = Endpoint("stranger", {"app": "s"}, "strangers", "10.42.6.1")
NEIGHBOUR = Endpoint("neighbour", {"app": "n"}, NAMESPACE, "10.42.0.99")
# PostgreSQL's machine and the API server's, as addresses of the private network, and what stands beyond it.
SERVER = Endpoint("postgresql", {}, None, "10.20.30.40")
API = Endpoint("api", {}, None, "10.20.0.1")
INTERNET = Endpoint("internet", {}, None, "198.51.100.7")
METADATA = Endpoint("metadata service", {}, None, "169.254.169.254")

TARGETS = {
    "dns": (DNS, 53),
    "postgresql": (SERVER, 5432),
    "kubernetesApi": (API, 443),
    "internet": (INTERNET, 443),
    "prometheus": (PROMETHEUS, 9090),
}
# With the chart's own values three are the internet, and no Prometheus is named.
INTERNETS = {"objectStorage", "exchange", "alerts"}
OWN = {
    name: {"internet" if wanted in INTERNETS else wanted for wanted in reached - {"prometheus"}}
    for name, reached in REACHES.items()
}
STRANGERS: dict[str, set[str]] = {
    "neighbour": set(),
    "proxy": {"webserver"},
    "beside proxy": set(),
    "reader": {"webserver-read-only"},
    "prometheus": {"exporter"},
    "stranger": set(),
}


def endpoints(name: str) -> dict[str, Endpoint]:
    outside = (PROXY, BESIDE_PROXY, READER, PROMETHEUS, STRANGER, NEIGHBOUR)
    return paths.endpoints(pods_of(name)) | {end.name: end for end in outside}


@pytest.fixture(scope="module")
def policies() -> Policies:
    return Policies.of(rendered({}))


@pytest.fixture(scope="module")
def ends() -> dict[str, Endpoint]:
    return endpoints("default")


def test_every_pod_is_in_the_matrix(ends):
    assert set(ends) == set(REACHES) | set(STRANGERS)


@pytest.mark.parametrize("source", OWN | STRANGERS)
def test_each_reaches_these_and_no_other(policies, ends, source):
    targets = TARGETS | {name: (ends[name], port) for name, port in PORTS.items() if name != source}
    reached = {name for name, (target, port) in targets.items() if policies.allow(ends[source], target, port)}
    if source in ("proxy", "beside proxy", "reader", "prometheus", "stranger"):
        # What pods of other namespaces open towards the outside is not ours to say.
        reached -= set(TARGETS)
    assert reached == (OWN | STRANGERS)[source]


def test_a_database_in_the_cluster_is_reached_where_no_block_of_addresses_means_a_pod(policies, ends):
    """In the namespace of the chart's own postgresql.host."""
    database = Endpoint("postgresql", {"app": "postgresql"}, "databases", address=None)
    for name in REACHES:
        assert policies.allow(ends[name], database, 5432), name
    assert not policies.allow(ends["neighbour"], database, 5432)


def test_everything_is_denied_both_ways_unless_allowed(policies, ends):
    for end in ends.values():
        if end.namespace == NAMESPACE:
            assert policies.isolated(end, "Ingress"), end.name
            assert policies.isolated(end, "Egress"), end.name


def test_nothing_is_open_on_other_ports(policies, ends):
    ours = [end for end in ends.values() if end.namespace == NAMESPACE]
    for source in ends.values():
        for target in ours:
            for port in (22, 80, 443, 5432, 6443, 8080):
                assert not policies.allow(source, target, port), f"{source.name} → {target.name}:{port}"
    for source in ours:
        for target in (INTERNET, METADATA, STRANGER, SERVER):
            for port in (22, 25, 80, 9090):
                assert not policies.allow(source, target, port), f"{source.name} → {target.name}:{port}"
        assert not policies.allow(source, METADATA, 443), source.name
        assert not policies.allow(source, DNS, 80), source.name


def test_names_are_asked_for_over_udp_and_tcp(policies, ends):
    for end in ends.values():
        if end.namespace == NAMESPACE and end.name != "neighbour":
            assert policies.allow(end, DNS, 53, "UDP"), end.name


def test_only_who_starts_runs_reaches_the_api_server_on_its_port(policies, ends):
    reaching = {name for name, end in ends.items() if policies.allow(end, API, 6443) and end.namespace == NAMESPACE}
    assert reaching == {"webserver", "daemon"}


@pytest.mark.parametrize("name", SETS)
def test_production_closes_what_default_leaves_to_the_private_network(name):
    found = Policies.of(rendered(SETS[name]))
    run = endpoints(name)["run"]
    beside = Endpoint("beside PostgreSQL", {}, None, "10.99.0.1")
    assert found.allow(run, beside, 5432) == (name != "production")
    assert found.allow(run, SERVER, 5432)


@pytest.mark.parametrize("key", sorted(set(LETS_IN) - {"operators"}))
def test_an_empty_list_is_nobody_not_everybody(key):
    found = Policies.of(rendered({"networkPolicies": {key: {"from": []}}}))
    ends = endpoints("default")
    reached = LETS_IN[key]
    for source in (PROXY, READER, PROMETHEUS, STRANGER, INTERNET, NEIGHBOUR):
        assert not found.allow(source, ends[reached], PORTS[reached]), source.name


def test_an_empty_way_out_is_none():
    closed = {"networkPolicies": {"alerts": {"to": []}, "prometheus": {"to": []}}, "secrets": {"alerts": ""}}
    found, ends = Policies.of(rendered(closed)), endpoints("default")
    for source in ("watchdog", "exporter"):
        for target, port in ((STRANGER, 443), (INTERNET, 443), (PROMETHEUS, 9090)):
            assert not found.allow(ends[source], target, port)
    for target, port in ((STRANGER, 443), (PROMETHEUS, 9090)):
        assert not found.allow(ends[CODE_LOCATION], target, port)


def test_a_prometheus_is_reached_where_its_url_is_set():
    url = {"prometheus": {"url": "http://prometheus.monitoring.svc:9090"}}
    found, ends = Policies.of(rendered(url)), endpoints("default")
    reaching = {name for name, end in ends.items() if found.allow(end, PROMETHEUS, 9090) and end.namespace == NAMESPACE}
    assert reaching == {name for name, reached in REACHES.items() if "prometheus" in reached}


def test_policies_can_be_switched_off():
    assert Policies.of(rendered({"networkPolicies": {"enabled": False}})).manifests == ()


def test_dagsters_pods_are_gone_with_their_chart():
    assert dagster_pods({"dagster": {"enabled": False}}) == []


# what the judge says of a deployment's values


def cut_off(values: Values) -> list[str]:
    """What is wrong with the paths of some values, in words."""
    made, whole = rendered(values), merged(alone(), values)
    started = pods([*made, *dagster_pods(whole), run_job(made)])
    return paths.breaches(whole, started, Policies.of(made))


@pytest.mark.parametrize("name", SETS)
def test_the_charts_own_sets_cut_nobody_off(name):
    assert cut_off(SETS[name]) == []


def peers(name: str, *found: dict[str, Any], **ports: Any) -> Values:
    return {"networkPolicies": {name: {"to": list(found), **ports}}}


def of_namespace(name: str, **labels: str) -> dict[str, Any]:
    pod = {"podSelector": {"matchLabels": labels}} if labels else {}
    return {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}, **pod}


MINIO: Values = {"objectStorage": {"endpoint": "https://minio.storage.svc:9000"}}
DATABASE_OF_DATA: Values = {
    "postgresql": {"host": "pg.data.svc.cluster.local"},
    "dagster": {"postgresql": {"postgresqlHost": "pg.data.svc.cluster.local"}},
}
DATABASE_BESIDE: Values = {
    "postgresql": {"host": "10.9.8.7"},
    "dagster": {"postgresql": {"postgresqlHost": "10.9.8.7"}},
}
MONITORED: Values = {"prometheus": {"url": "http://prometheus.monitoring.svc:9090"}}


@pytest.mark.parametrize(
    ("values", "policies", "who", "says"),
    [
        (MINIO, {}, "run", "objectStorage at minio.storage.svc:9000; networkPolicies.objectStorage must let it"),
        (MINIO, peers("objectStorage", of_namespace("storage")), "mlflow", "does not reach objectStorage at minio"),
        (MINIO, peers("objectStorage", of_namespace("store"), ports=[9000]), "run", "does not reach objectStorage"),
        (DATABASE_OF_DATA, {}, "migration", "does not reach postgresql at pg.data.svc.cluster.local:5432"),
        (DATABASE_OF_DATA, peers("postgresql", {"ipBlock": {"cidr": "0.0.0.0/0"}}), "seed", "reach postgresql at pg"),
        (DATABASE_BESIDE, peers("postgresql", {"ipBlock": {"cidr": "10.9.9.0/24"}}), "run", "postgresql at 10.9.8.7"),
        (MONITORED, {"networkPolicies": {"prometheus": {"ports": [80]}}}, "run", "prometheus at prometheus.monitoring"),
        (
            {},
            peers("kubernetesApi", {"ipBlock": {"cidr": "198.51.100.9/32"}}),
            CODE_LOCATION,
            "reaches kubernetesApi and must not; a list of networkPolicies is too wide",
        ),
    ],
)
def test_a_path_that_values_cut_off_or_leave_open_is_told(values, policies, who, says):
    told = [words for words in cut_off(overlaid(values, policies)) if words.startswith(f"{who} ")]
    assert len(told) == 1, told
    assert says in told[0]


@pytest.mark.parametrize(
    "values",
    [
        overlaid(MINIO, peers("objectStorage", of_namespace("storage", app="minio"), ports=[9000])),
        overlaid(MINIO, peers("objectStorage", {"namespaceSelector": {"matchLabels": {"team": "s"}}}, ports=[9000])),
        overlaid(DATABASE_OF_DATA, peers("postgresql", of_namespace("data"))),
        overlaid(DATABASE_BESIDE, peers("postgresql", {"ipBlock": {"cidr": "10.9.8.0/24"}})),
        DATABASE_BESIDE,
        MONITORED,
        {"secrets": {"alerts": ""}, **peers("alerts")},
        {"networkPolicies": {"enabled": False}},
    ],
)
def test_values_that_leave_every_path_open_are_fine(values):
    assert cut_off(values) == []


def test_peers_that_do_not_get_in_are_told():
    made = [manifest for manifest in rendered({}) if manifest.name != "cvntrade-exporter"]
    started = pods([*rendered({}), *dagster_pods(merged(alone(), {})), run_job(rendered({}))])
    told = paths.breaches(merged(alone(), {}), started, Policies.of(made))
    assert "a pod of monitoring does not reach exporter, for which networkPolicies.metrics names it." in told


def test_a_pod_that_nobody_declared_is_told():
    pod = Manifest("a", {"kind": "Pod", "metadata": {"name": "new"}, "spec": {"containers": []}})
    told = paths.breaches(merged(alone(), {}), pods([pod]), Policies.of(rendered({})))
    assert told == ["new: whom it reaches is not said; say it in REACHES of helm/chart/paths.py."]
