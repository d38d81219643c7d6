"""May A reach B on a port? NetworkPolicies, evaluated as a cluster's network plugin does.

A policy speaks for the pods that it selects in its own namespace. As soon as one policy selects a pod for a direction,
what no rule of any such policy allows is denied. A connection needs both ends: egress of the one who opens it and
ingress of the one who answers. Answers flow back on their own.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import Any

from helm.chart.rendering import NAMESPACE, Manifest

# Every namespace carries its own name in this label.
NAMESPACE_NAME = "kubernetes.io/metadata.name"


@dataclass(frozen=True)
class Endpoint:
    """One end of a connection.

    Attributes:
        name: What people call it.
        labels: A pod's labels; empty for what is outside the cluster.
        namespace: The pod's namespace; nothing means outside the cluster.
        address: Its IP address, which blocks of addresses select, a pod's too; nothing where nobody can know it.
        ports: Names of the ports that it serves.
        namespace_labels: Labels of its namespace, beside the one that is its name.
    """

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    namespace: str | None = NAMESPACE
    address: str | None = "10.42.0.7"
    ports: Mapping[str, int] = field(default_factory=dict)
    namespace_labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Policies:
    """Rendered NetworkPolicies, all of one namespace."""

    manifests: tuple[Manifest, ...]
    namespace: str = NAMESPACE

    @classmethod
    def of(cls, manifests: Iterable[Manifest]) -> "Policies":
        """Those of all rendered objects that are policies."""
        return cls(tuple(manifest for manifest in manifests if manifest.kind == "NetworkPolicy"))

    def allow(self, source: Endpoint, target: Endpoint, port: int, protocol: str = "TCP") -> bool:
        """Whether a connection may be opened.

        Args:
            source: Who opens it.
            target: Who answers.
            port: The port at the target.
            protocol: TCP or UDP.
        """
        leaves = self._permits("Egress", source, target, target, port, protocol)
        return leaves and self._permits("Ingress", target, source, target, port, protocol)

    def isolated(self, pod: Endpoint, direction: str) -> bool:
        """Whether at least one policy selects a pod for Ingress or Egress."""
        return bool(self._selecting(pod, direction))

    def _permits(
        self, direction: str, subject: Endpoint, peer: Endpoint, target: Endpoint, port: int, protocol: str
    ) -> bool:
        selecting = self._selecting(subject, direction)
        if not selecting:
            return True
        side = "to" if direction == "Egress" else "from"
        return any(
            self._peer_matches(rule.get(side), peer) and _port_matches(rule.get("ports"), target, port, protocol)
            for spec in selecting
            for rule in spec.get(direction.lower()) or []
        )

    def _selecting(self, pod: Endpoint, direction: str) -> list[dict[str, Any]]:
        if pod.namespace != self.namespace:
            return []
        specs = [manifest.content["spec"] for manifest in self.manifests]
        return [spec for spec in specs if direction in _types(spec) and selects(spec.get("podSelector"), pod.labels)]

    def _peer_matches(self, peers: list[dict[str, Any]] | None, other: Endpoint) -> bool:
        return not peers or any(self._is_peer(peer, other) for peer in peers)

    def _is_peer(self, peer: dict[str, Any], other: Endpoint) -> bool:
        if "ipBlock" in peer:
            return other.address is not None and _in_block(peer["ipBlock"], other.address)
        if other.namespace is None:
            return False
        if "namespaceSelector" in peer:
            if not selects(peer["namespaceSelector"], {**other.namespace_labels, NAMESPACE_NAME: other.namespace}):
                return False
        elif other.namespace != self.namespace:
            return False
        return "podSelector" not in peer or selects(peer["podSelector"], other.labels)


def examples(peers: Iterable[Mapping[str, Any]], unnamed: str = "elsewhere") -> list[Endpoint]:
    """Somebody for each peer of a policy; nobody for a block of addresses that is all holes.

    Args:
        peers: As NetworkPolicies write them.
        unnamed: The namespace of somebody whose peer selects namespaces and names none.

    Raises:
        ValueError: A block of addresses is none.
    """
    return [found for found in (_example(peer, unnamed) for peer in peers) if found]


def _example(peer: Mapping[str, Any], unnamed: str) -> Endpoint | None:
    if "ipBlock" in peer:
        address = _free_address(peer["ipBlock"])
        return Endpoint(address, namespace=None, address=address) if address else None
    labels = _selected(peer.get("namespaceSelector"))
    namespace = labels.pop(NAMESPACE_NAME, unnamed) if "namespaceSelector" in peer else NAMESPACE
    pod = _selected(peer.get("podSelector"))
    return Endpoint(f"a pod of {namespace}", pod, namespace, address=None, namespace_labels=labels)


def _selected(selector: Mapping[str, Any] | None) -> dict[str, str]:
    """The fewest labels that a selector matches."""
    labels = dict((selector or {}).get("matchLabels") or {})
    for expression in (selector or {}).get("matchExpressions") or []:
        if expression["operator"] in ("In", "Exists"):
            labels.setdefault(expression["key"], (expression.get("values") or [""])[0])
    return labels


def _free_address(block: Mapping[str, Any]) -> str | None:
    """The first address of a block, or the first behind one of its holes."""
    inside = ip_network(block["cidr"], strict=False)
    first = int(inside.network_address)
    behind = [int(ip_network(hole, strict=False).broadcast_address) + 1 - first for hole in block.get("except") or []]
    found = (str(inside[step]) for step in (0, *behind) if 0 <= step < inside.num_addresses)
    return next((address for address in found if _in_block(block, address)), None)


def selects(selector: Mapping[str, Any] | None, labels: Mapping[str, str]) -> bool:
    """Whether a label selector matches; an empty one matches everything.

    Raises:
        ValueError: The selector has an operator that Kubernetes does not know.
    """
    selector = selector or {}
    if not (selector.get("matchLabels") or {}).items() <= labels.items():
        return False
    return all(_expression(expression, labels) for expression in selector.get("matchExpressions") or [])


def _expression(expression: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    key, values = expression["key"], expression.get("values") or []
    match expression["operator"]:
        case "In":
            return labels.get(key) in values
        case "NotIn":
            return labels.get(key) not in values
        case "Exists":
            return key in labels
        case "DoesNotExist":
            return key not in labels
        case other:
            raise ValueError(f"The operator {other!r} of a label selector is none of In, NotIn, Exists, DoesNotExist.")


def _types(spec: Mapping[str, Any]) -> list[str]:
    """Directions that a policy speaks for; unsaid, ingress always and egress if it has such rules."""
    return spec.get("policyTypes") or (["Ingress", "Egress"] if spec.get("egress") else ["Ingress"])


def _port_matches(ports: list[dict[str, Any]] | None, target: Endpoint, port: int, protocol: str) -> bool:
    return not ports or any(_is_port(wanted, target, port, protocol) for wanted in ports)


def _is_port(wanted: Mapping[str, Any], target: Endpoint, port: int, protocol: str) -> bool:
    if wanted.get("protocol", "TCP") != protocol:
        return False
    first = wanted.get("port")
    if first is None:
        return True
    if isinstance(first, str):
        return target.ports.get(first) == port
    return bool(first <= port <= wanted.get("endPort", first))


def _in_block(block: Mapping[str, Any], address: str) -> bool:
    found = ip_address(address)
    inside = found in ip_network(block["cidr"], strict=False)
    return inside and not any(found in ip_network(hole, strict=False) for hole in block.get("except") or [])
