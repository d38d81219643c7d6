"""requirements.lock holds what pyproject.toml asks for, pinned, hashed and without a registry's name."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[2]
LOCK = (ROOT / "requirements.lock").read_text()
PINS = re.findall(r"^([a-z0-9._-]+)==(\S+)", LOCK, flags=re.MULTILINE)


def requirements() -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = project["project"].get("optional-dependencies", {}).values()
    groups = project["dependency-groups"].values()
    return [*project["project"]["dependencies"], *(text for part in (*extras, *groups) for text in part)]


@pytest.mark.parametrize("text", requirements())
def test_every_requirement_is_met_by_a_pin(text: str) -> None:
    requirement = Requirement(text)
    versions = [Version(version) for name, version in PINS if name == canonicalize_name(requirement.name)]
    assert versions, f"{text} is not in requirements.lock: run `make lock`"
    for version in versions:
        assert requirement.specifier.contains(version), f"{version} does not meet {text}: run `make lock`"


def test_every_pin_has_a_hash() -> None:
    for entry in re.split(r"^(?=[a-z0-9._-]+==)", LOCK, flags=re.MULTILINE)[1:]:
        assert "--hash=sha256:" in entry, entry.splitlines()[0]


def test_no_registry_and_no_gpu_library_is_named() -> None:
    assert "://" not in LOCK
    assert "--index-url" not in LOCK and "--find-links" not in LOCK
    assert not [name for name, _ in PINS if name.startswith("nvidia-")]
