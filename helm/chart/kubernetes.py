"""Manifests held against Kubernetes' own schemas, strictly: an unknown field is an error."""

import json
from collections.abc import Iterable
from functools import cache
from typing import Any

from jsonschema import Draft202012Validator
from kubernetes_validate import utils
from referencing import Registry, Resource

from helm.chart.rendering import Manifest

# The versions that the chart is made for.
VERSIONS = tuple(f"1.{minor}" for minor in range(28, 35))
# Prometheus' operator brings these; Kubernetes' schemas do not know them.
CUSTOM = {("monitoring.coreos.com/v1", "ServiceMonitor"), ("monitoring.coreos.com/v1", "PrometheusRule")}


def faults(manifests: Iterable[Manifest], version: str) -> list[str]:
    """What a Kubernetes of one version would refuse, in words.

    Args:
        manifests: Rendered objects.
        version: Major and minor version, one of `VERSIONS`.
    """
    return [fault for manifest in manifests for fault in _faults_of(manifest, version)]


def _faults_of(manifest: Manifest, version: str) -> list[str]:
    """An object that several sets of values make alike is judged once."""
    if (manifest.content.get("apiVersion"), manifest.kind) in CUSTOM:
        return []
    return [f"{manifest}: {words}" for words in _words(json.dumps(manifest.content, sort_keys=True), version)]


@cache
def _words(text: str, version: str) -> tuple[str, ...]:
    content = json.loads(text)
    api_version, kind = str(content.get("apiVersion")), str(content.get("kind"))
    validator = _validator(api_version, kind, version)
    if validator is None:
        return (f"Kubernetes {version} has no {kind} of {api_version}.",)
    return tuple(
        f"{'.'.join(str(part) for part in error.absolute_path) or 'the object'}: {error.message}"
        for error in validator.iter_errors(content)
    )


@cache
def _validator(api_version: str, kind: str, version: str) -> Draft202012Validator | None:
    """The schema of a kind, read once: kubernetes_validate's own `validate` reads a megabyte for each object."""
    group, _, rest = api_version.rpartition("/")
    name = "-".join(filter(None, (kind.lower(), group.partition(".")[0], rest)))
    try:
        schema = utils.schema_contents(f"{_folder(version)}/{name}.json", version)
    except FileNotFoundError:
        return None
    return Draft202012Validator(schema, registry=_registry(version))


@cache
def _registry(version: str) -> Registry[Any]:
    definitions = Resource.from_contents(utils.schema_contents(f"{_folder(version)}/_definitions.json", version))
    return definitions @ Registry()


def _folder(version: str) -> str:
    return f"kubernetes-json-schema/v{version}.0-local-strict"
