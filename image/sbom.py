"""The bill of materials of what the image installs: CycloneDX, JSON, validated, the same bytes for the same packages.

    python image/sbom.py PYTHON FILE

cyclonedx-py describes what is installed beside PYTHON: versions, licences, who needs whom. Here what the image's
lock does not hold is taken out (PYTHON may be a development environment), each package gets the hashes that the lock
allows, and links go, because where a package is fetched from is the business of whoever builds.
"""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

SOURCE = Path(__file__).resolve().parents[1]
LOCK = SOURCE / "requirements-image.lock"


def read_lock(text: str) -> dict[tuple[str, str], list[str]]:
    """(name, version) to SHA-256 digests, of every line of a lock, whatever its marker."""
    read: dict[tuple[str, str], list[str]] = {}
    for entry in re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)[1:]:
        requirement = Requirement(entry.split("\\")[0].split("#")[0].strip())
        (pin,) = requirement.specifier
        read[canonicalize_name(requirement.name), pin.version] = re.findall(r"--hash=sha256:([0-9a-f]{64})", entry)
    return read


def bill(described: dict[str, Any], lock: dict[tuple[str, str], list[str]]) -> dict[str, Any]:
    """What cyclonedx-py described, cut down to the lock, with its hashes.

    Raises:
        ValueError: nothing that the lock holds was described.
    """
    components = []
    for component in described["components"]:
        hashes = lock.get((canonicalize_name(component["name"]), component["version"]))
        if hashes is not None:
            kept = {key: value for key, value in component.items() if key != "externalReferences"}
            components.append({**kept, "hashes": [{"alg": "SHA-256", "content": digest} for digest in hashes]})
    if not components:
        raise ValueError(f"nothing of {LOCK.name} is installed there: give the Python of an environment that holds it")
    root = described["metadata"]["component"]
    known = {component["bom-ref"] for component in components} | {root["bom-ref"]}
    dependencies = [
        {**entry, "dependsOn": needed}
        if (needed := [ref for ref in entry.get("dependsOn", []) if ref in known])
        else {"ref": entry["ref"]}
        for entry in described["dependencies"]
        if entry["ref"] in known
    ]
    named = described["metadata"]["tools"]["components"]
    tools = [{key: tool[key] for key in ("type", "name", "version")} for tool in named]
    metadata = {**described["metadata"], "tools": {"components": tools}}
    return {**described, "metadata": metadata, "components": components, "dependencies": dependencies}


def describe(python: str) -> dict[str, Any]:
    """What cyclonedx-py says of everything that is installed beside a Python."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "described.json"
        options = ("--pyproject", str(SOURCE / "pyproject.toml"), "--output-reproducible", "--no-validate")
        form = ("--spec-version", "1.6", "--output-format", "JSON", "--output-file", str(file))
        # The one that belongs to this interpreter: it lies beside it.
        program = Path(sys.executable).parent / "cyclonedx-py"
        subprocess.run([program, "environment", *options, *form, python], check=True, stderr=subprocess.PIPE)
        described: dict[str, Any] = json.loads(file.read_text())
        return described


def main(python: str, target: str) -> None:
    """Write the bill of materials of a Python's environment to a file."""
    text = json.dumps(bill(describe(python), read_lock(LOCK.read_text())), indent=1, sort_keys=True) + "\n"
    wrong = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
    if wrong is not None:
        sys.exit(f"the bill of materials is not CycloneDX: {wrong}")
    Path(target).write_text(text)


if __name__ == "__main__":
    main(*sys.argv[1:])
