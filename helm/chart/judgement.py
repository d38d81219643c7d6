"""Everything that must hold of the chart with one set of values, as one table."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import helm_python
import yaml

from cvntrade_assets.settings import Layer, SettingsError, read_value
from helm.chart import house_rules, kubernetes, paths, pod_security, rights
from helm.chart.copies import CHART
from helm.chart.dagster_pods import dagster_pods
from helm.chart.network import Policies
from helm.chart.pods import Pod, pods
from helm.chart.references import dangling
from helm.chart.rendering import Values, lint, merged, render
from helm.chart.run_pods import run_job

VALUE_SETS = tuple(sorted(CHART.glob("ci/*-values.yaml")))
SPAN = f"Kubernetes {kubernetes.VERSIONS[0]} to {kubernetes.VERSIONS[-1]}"
# Our own objects alone, as somebody has them who runs Dagster otherwise.
WITHOUT_DAGSTER: Values = {"dagster": {"enabled": False}}


@dataclass(frozen=True)
class Finding:
    """What one rule said of one set of values.

    Attributes:
        values: Name of the set.
        rule: The rule.
        judged: How many objects it looked at.
        faults: What does not hold, in words.
    """

    values: str
    rule: str
    judged: int
    faults: tuple[str, ...]


def read_values(file: Path) -> Values:
    """A file of values.

    Raises:
        ValueError: It holds something else than keys with values.
    """
    found = yaml.safe_load(file.read_text()) or {}
    if not isinstance(found, dict):
        raise ValueError(f"{file}: holds {type(found).__name__}; values are keys with values, as in values.yaml.")
    return found


def judge(chart: Path, name: str, values: Values) -> list[Finding]:
    """Lint, render and judge the chart with one set of values.

    Args:
        chart: A chart without dependencies, see `rendering.standalone`.
        name: What the set of values is called.
        values: What is set over the chart's own values.
    """
    try:
        whole, made = merged(chart, values), render(chart, values)
        updated, job = render(chart, values, upgrade=True), run_job(made)
    except (helm_python.HelmError, ValueError, yaml.YAMLError) as error:
        return [Finding(name, "rendered", 0, (str(error).strip(),))]
    everything = [*made, *dagster_pods(whole), job]
    started, own, policies = pods(everything), pods([*made, job]), Policies.of(made)
    return [
        Finding(name, "rendered", len(made), ()),
        Finding(name, "settings to seed exist and are valid", len(whole["seed"]["settings"]), _settings(whole)),
        Finding(name, "what is referred to exists", len(everything), tuple(dangling(everything, external(whole)))),
        Finding(name, "who starts no runs has no rights", len(started), tuple(rights.breaches(everything))),
        Finding(name, "policies open and close paths", len(policies.manifests), _paths(whole, started, policies)),
        Finding(name, "pods are restricted", len(started), _each(pod_security.breaches, started)),
        Finding(name, "pods keep the chart's own rules", len(own), _each(house_rules.breaches, own)),
        Finding(name, "their containers do", len(started), _each(house_rules.container_breaches, started)),
        Finding(name, "lint", len(made), tuple(lint(chart, values, kubernetes.VERSIONS[-1]))),
        Finding(
            name,
            f"schemas, {SPAN}",
            len(made),
            _for_every_version(lambda version: kubernetes.faults([*made, *updated, job], version)),
        ),
    ]


def _settings(values: Values) -> tuple[str, ...]:
    """Settings that the seed job would refuse, in its words."""
    words = []
    for key, text in values["seed"]["settings"].items():
        try:
            read_value(key, text, Layer.BASE_ENV)
        except SettingsError as error:
            words.append(str(error))
    return tuple(words)


def _paths(values: Values, started: list[Pod], policies: Policies) -> tuple[str, ...]:
    """What `paths` finds; a block of addresses that is none is a fault too."""
    try:
        return tuple(paths.breaches(values, started, policies))
    except ValueError as error:
        return (f"networkPolicies: {error}",)


def _for_every_version(faults: Callable[[str], list[str]]) -> tuple[str, ...]:
    return tuple(f"Kubernetes {version}: {words}" for version in kubernetes.VERSIONS for words in faults(version))


def external(values: Values) -> dict[str, set[str]]:
    """By kind, the names that the values declare and somebody else makes.

    Args:
        values: The chart's whole values, merged.
    """
    pull = [*values["imagePullSecrets"], *values["dagster"].get("imagePullSecrets", [])]
    claims = {values["watchdog"]["memory"]["existingClaim"]}
    secrets = {*values["secrets"].values(), *(secret["name"] for secret in pull)}
    return {"Secret": secrets - {""}, "PersistentVolumeClaim": claims - {""}}


def _each(rule: Callable[[Pod], list[str]], judged: Iterable[Pod]) -> tuple[str, ...]:
    return tuple(words for pod in judged for words in rule(pod))
