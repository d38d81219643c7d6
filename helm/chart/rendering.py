"""The chart's own templates, linted and rendered with the dependency switched off.

Helm wants every chart that `dependencies` names in `charts/`, from a repository on the network. What is rendered here
is a copy of the chart without that block: the same templates, values and schema, with the values' `dagster` subtree as
it stands, so policies and addresses that concern Dagster's own pods are rendered, and those pods are not.
"""

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import helm_python
import yaml

RELEASE = "cvntrade"
NAMESPACE = "trading"
WARNING = 2
HOOK = "helm.sh/hook"

Values = dict[str, Any]


@dataclass(frozen=True)
class Manifest:
    """One object that a template made.

    Attributes:
        template: The template's path inside the chart.
        content: The object.
    """

    template: str
    content: dict[str, Any]

    @property
    def kind(self) -> str:
        """The object's kind."""
        return str(self.content.get("kind"))

    @property
    def name(self) -> str:
        """The object's name."""
        return str(self.content.get("metadata", {}).get("name"))

    @property
    def annotations(self) -> Mapping[str, str]:
        """The object's annotations; none are an empty mapping."""
        return self.content.get("metadata", {}).get("annotations") or {}

    @property
    def hooks(self) -> tuple[str, ...]:
        """Moments of Helm at which the object is made; none for what belongs to the release itself."""
        return tuple(part.strip() for part in self.annotations.get(HOOK, "").split(",") if part.strip())

    def __str__(self) -> str:
        return f"{self.kind}/{self.name} ({self.template})"


@contextmanager
def standalone(chart: Path) -> Iterator[Path]:
    """A copy of a chart without its dependencies, for as long as the block lasts."""
    with tempfile.TemporaryDirectory(prefix="chart-") as folder:
        copy = Path(folder) / chart.name
        shutil.copytree(chart, copy, ignore=shutil.ignore_patterns("charts", "Chart.lock"))
        metadata = yaml.safe_load((copy / "Chart.yaml").read_text())
        metadata.pop("dependencies", None)
        (copy / "Chart.yaml").write_text(yaml.safe_dump(metadata, sort_keys=False))
        yield copy


def lint(chart: Path, values: Values, kubernetes: str) -> list[str]:
    """What `helm lint --strict` finds: warnings and errors, in words.

    Args:
        chart: A chart without dependencies, see `standalone`.
        values: What is set over the chart's own values.
        kubernetes: Version that the templates see, such as 1.30.
    """
    report = helm_python.lint(chart, values, strict=True, namespace=NAMESPACE, kube_version=f"v{kubernetes}.0")
    return [
        f"{found['path']}: {found['error'].strip()}" for found in report["messages"] if found["severity"] >= WARNING
    ]


def render(chart: Path, values: Values, *, release: str = RELEASE, upgrade: bool = False) -> list[Manifest]:
    """Every object that an installation or an upgrade would make.

    Args:
        chart: A chart without dependencies, see `standalone`.
        values: What is set over the chart's own values.
        release: Name of the release.
        upgrade: Whether templates see an upgrade in place of an installation.

    Raises:
        helm_python.HelmError: The values are refused, or a template fails.
        ValueError: A template made something that is no object, or the same object twice.
        yaml.YAMLError: A template made no YAML, or a key that stands twice.
    """
    with helm_python.Chart.load(chart) as loaded:
        texts = loaded.render(values, name=release, namespace=NAMESPACE, is_install=not upgrade, is_upgrade=upgrade)
    return read_manifests(texts)


def read_manifests(texts: Mapping[str, str]) -> list[Manifest]:
    """The objects in rendered templates.

    Args:
        texts: What each template made, by its path.

    Raises:
        ValueError: A template made something that is no object, or the same object twice.
        yaml.YAMLError: A text is no YAML, or a key stands twice in it.
    """
    found = [manifest for template, text in sorted(texts.items()) for manifest in _manifests(template, text)]
    seen: set[tuple[str, str]] = set()
    for manifest in found:
        if (manifest.kind, manifest.name) in seen:
            raise ValueError(f"{manifest}: rendered a second time; a name belongs to one object of a kind.")
        seen.add((manifest.kind, manifest.name))
    return found


def merged(chart: Path, values: Values) -> Values:
    """The values that templates see: the chart's own with `values` over them."""
    with helm_python.Chart.load(chart) as loaded:
        return dict(loaded.merge_values(values))


def overlaid(values: Values, over: Values) -> Values:
    """Values with others over them, key by key; as Helm does, a list is replaced whole."""
    found = dict(values)
    for key, value in over.items():
        below = found.get(key)
        found[key] = overlaid(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return found


def refusal(chart: Path, values: Values) -> str | None:
    """What helm says when the chart's schema refuses values, as a person sees it; nothing when it takes them."""
    with helm_python.Chart.load(chart) as loaded:
        try:
            loaded.validate_schema(values)
        except helm_python.HelmValuesError as error:
            return str(error).strip()
    return None


def _manifests(template: str, text: str) -> Iterator[Manifest]:
    if template.endswith("NOTES.txt"):
        return
    for content in yaml.load_all(text, Loader=_StrictLoader):
        if content is None:
            continue
        if not isinstance(content, dict):
            raise ValueError(f"{template}: rendered {content!r}, which is no object; an `if` may end too early.")
        yield Manifest(template, content)


class _StrictLoader(yaml.CSafeLoader):
    """PyYAML keeps the last of two equal keys and says nothing; Kubernetes refuses such a manifest."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """As SafeLoader does.

        Raises:
            yaml.constructor.ConstructorError: A key stands twice.
        """
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=deep)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} stands twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)
