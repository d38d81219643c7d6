"""The chart as it is rendered with each of its sets of values, once for all tests of a process."""

import atexit
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Any

from helm.chart.copies import CHART
from helm.chart.dagster_pods import dagster_pods
from helm.chart.judgement import VALUE_SETS, read_values
from helm.chart.pods import Pod, pods
from helm.chart.rendering import Manifest, Values, merged, render, standalone
from helm.chart.run_pods import run_job

SETS = {file.name.removesuffix("-values.yaml"): read_values(file) for file in VALUE_SETS}
# Every part of the chart that is optional, switched on.
EVERYTHING: Values = {
    "prometheus": {"url": "http://prometheus.monitoring.svc:9090"},
    "exporter": {"serviceMonitor": {"enabled": True}},
    "rules": {"prometheusRule": {"enabled": True}},
    "imagePullSecrets": [{"name": "registry"}],
    "dagster": {
        "imagePullSecrets": [{"name": "registry"}],
        "dagster-user-deployments": {"imagePullSecrets": [{"name": "registry"}]},
    },
}
SETS["everything"] = EVERYTHING


@cache
def alone() -> Path:
    """The chart without its dependency; the folder goes with the process."""
    folder = ExitStack()
    atexit.register(folder.close)
    return folder.enter_context(standalone(CHART))


def rendered(values: Values, **how: Any) -> list[Manifest]:
    """Our own objects."""
    return render(alone(), values, **how)


@cache
def whole(name: str) -> Values:
    """The values that templates see with one set."""
    return merged(alone(), SETS[name])


@cache
def made(name: str) -> tuple[Manifest, ...]:
    """Our own objects with one set of values."""
    return tuple(rendered(SETS[name]))


def everything(name: str) -> list[Manifest]:
    """Our own objects, what Dagster's chart makes of our values, and the Job of a run."""
    return [*made(name), *dagster_pods(whole(name)), run_job(made(name))]


def pods_of(name: str) -> list[Pod]:
    """Every pod with one set of values."""
    return pods(everything(name))


def one(name: str, kind: str, called: str) -> dict[str, Any]:
    """One object, by kind and name."""
    (found,) = (manifest for manifest in made(name) if (manifest.kind, manifest.name) == (kind, called))
    return found.content


def file_text(path: str) -> str:
    """A file of the chart."""
    return (CHART / "files" / path).read_text()
