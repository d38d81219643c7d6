"""The paths that must be open and those that must not, asked of the policies that a deployment's values make.

Who reaches whom stands here, once. Pods are called as their objects, whoever else as in the values' `networkPolicies`.
Where that is, the values say too: a Service's name holds its namespace, an address is itself. Of another name policies
know nothing, and whoever they let through to stands for it.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from helm.chart.network import Endpoint, Policies, examples
from helm.chart.pods import Pod
from helm.chart.rendering import NAMESPACE, RELEASE, Values

CODE_LOCATION = "code-location"
API = "kubernetesApi"
EVERYBODY = frozenset({"dns", "postgresql"})
REACHES: Mapping[str, frozenset[str]] = {
    "webserver": EVERYBODY | {CODE_LOCATION, API, "objectStorage"},
    "webserver-read-only": EVERYBODY | {CODE_LOCATION, "objectStorage"},
    "daemon": EVERYBODY | {CODE_LOCATION, API, "objectStorage"},
    CODE_LOCATION: EVERYBODY | {"mlflow", "objectStorage", "alerts", "prometheus"},
    "run": EVERYBODY | {"mlflow", "objectStorage", "exchange", "prometheus"},
    "mlflow": EVERYBODY | {"objectStorage"},
    "exporter": EVERYBODY,
    "watchdog": EVERYBODY | {"alerts"},
    "purge": EVERYBODY,
    "seed": EVERYBODY,
    "migration": EVERYBODY,
}
"""Whom each pod reaches, where it is there; of other pods and of Kubernetes' API it reaches none."""

LETS_IN: Mapping[str, str] = {
    "operators": "webserver",
    "readers": "webserver-read-only",
    "metrics": "exporter",
    "mlflowReaders": "mlflow",
}
"""Which pod the peers of each list reach."""

AMAZON = "https://s3.amazonaws.com"
_SERVICE = re.compile(r"(?:[^.]+\.)+(?P<namespace>[^.]+)\.svc(?:\..+)?")
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Place:
    """Something that is reached.

    Attributes:
        what: What people call it, with its address where the values say it.
        ends: Where it may stand.
        ports: Ports at which it may answer.
    """

    what: str
    ends: tuple[Endpoint, ...]
    ports: tuple[int, ...]

    def reached(self, policies: Policies, source: Endpoint) -> bool:
        """Whether there is a way from a pod to any of its ends."""
        return any(policies.allow(source, end, port) for end in self.ends for port in self.ports)


def breaches(values: Values, started: Iterable[Pod], policies: Policies) -> list[str]:
    """Paths that are cut off, and those that are open and must not be, in words; none where policies are switched off.

    Args:
        values: The chart's whole values, merged.
        started: Every pod of ours, Dagster's and a run's among them.
        policies: What the values were rendered to.

    Raises:
        ValueError: A block of addresses is none, or a port.
    """
    if not values["networkPolicies"]["enabled"]:
        return []
    ours = endpoints(started)
    there = _outside(values) | {name: Place(name, (end,), (*end.ports.values(),)) for name, end in ours.items()}
    out = [words for pod in ours.values() for words in _of_pod(pod, ours, there, policies)]
    return [*out, *_shut_out(values, there, policies)]


def endpoints(started: Iterable[Pod]) -> dict[str, Endpoint]:
    """Pods by their names in `REACHES`."""
    return {end.name: end for end in map(_endpoint, started)}


def _endpoint(pod: Pod) -> Endpoint:
    # Its object has the name that the values give it, which is its Service's too.
    is_code = pod.labels.get("component") == "user-deployments"
    name = CODE_LOCATION if is_code else pod.owner.name.removeprefix(f"{RELEASE}-")
    ports = [port for _, container in pod.containers() for port in container.get("ports") or []]
    named = {str(port.get("name", port["containerPort"])): port["containerPort"] for port in ports}
    return Endpoint(name, pod.labels, ports=named)


def _of_pod(
    pod: Endpoint, ours: Mapping[str, Endpoint], there: Mapping[str, Place], policies: Policies
) -> Iterator[str]:
    if pod.name not in REACHES:
        yield f"{pod.name}: whom it reaches is not said; say it in REACHES of helm/chart/paths.py."
        return
    wanted = REACHES[pod.name]
    for name in sorted(wanted & there.keys()):
        if not there[name].reached(policies, pod):
            advice = "" if name in ours else f"; networkPolicies.{name} must let it through"
            yield f"{pod.name} does not reach {there[name].what}{advice}."
    for name in sorted({*ours, API} - wanted - {pod.name}):
        if there[name].reached(policies, pod):
            yield f"{pod.name} reaches {there[name].what} and must not; a list of networkPolicies is too wide."


def _shut_out(values: Values, there: Mapping[str, Place], policies: Policies) -> Iterator[str]:
    """Peers from outside that do not reach the pod that they are named for."""
    for key, name in LETS_IN.items():
        peers = examples(values["networkPolicies"][key]["from"]) if name in there else []
        # What pods of this namespace may open is for policies of their own to say.
        for peer in (peer for peer in peers if peer.namespace != NAMESPACE):
            if not there[name].reached(policies, peer):
                yield f"{peer.name} does not reach {name}, for which networkPolicies.{key} names it."


def _outside(values: Values) -> dict[str, Place]:
    """What is not of ours and is used, by its name in `networkPolicies`."""
    lists, database, prometheus = values["networkPolicies"], values["postgresql"], values["prometheus"]["url"]
    used = [API, "exchange", *(["alerts"] if values["secrets"]["alerts"] else [])]
    found = {name: Place(name, tuple(examples(lists[name]["to"])), tuple(lists[name]["ports"])) for name in used}
    found["dns"] = Place("dns", tuple(examples(lists["dns"]["to"])), (53,))
    found["postgresql"] = _place("postgresql", database["host"], database["port"], lists)
    found["objectStorage"] = _web_place("objectStorage", values["objectStorage"]["endpoint"] or AMAZON, lists)
    return found | ({"prometheus": _web_place("prometheus", prometheus, lists)} if prometheus else {})


def _web_place(name: str, url: str, lists: Mapping[str, Any]) -> Place:
    parts = urlsplit(url)
    return _place(name, parts.hostname or "", parts.port or _PORTS[parts.scheme], lists)


def _place(name: str, host: str, port: int, lists: Mapping[str, Any]) -> Place:
    return Place(f"{name} at {host}:{port}", tuple(_standing(host, lists[name]["to"])), (port,))


def _standing(host: str, peers: Iterable[Mapping[str, Any]]) -> list[Endpoint]:
    """Where a host may stand, as far as its name and the peers tell."""
    try:
        return [Endpoint(host, namespace=None, address=str(ip_address(host)))]
    except ValueError:
        service = _SERVICE.fullmatch(host)
    if service is None:
        return examples(peers)
    # Nobody knows a pod's address beforehand, and to some plugins no block of addresses means a pod.
    namespace = service["namespace"]
    meant = [end for end in examples(peers, unnamed=namespace) if end.namespace == namespace]
    return meant or [Endpoint(host, namespace=namespace, address=None)]
