"""The image: its locks, its Dockerfile, its bill of materials, and that what verifies it notices what is wrong.

`image/check.sh`, which CI runs, does what the Dockerfile does; here stands what needs no installation.
"""

import ensurepip
import importlib.util
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
SCRIPTS = sorted((ROOT / "image").glob("*.sh"))
PYTHON = sys.executable


def program(name: str) -> ModuleType:
    """A program of image/, loaded from its file."""
    spec = importlib.util.spec_from_file_location(f"image_{name}", ROOT / "image" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


sbom, verify = program("sbom"), program("verify")


def lock(name: str) -> dict[tuple[str, str], list[str]]:
    read: dict[tuple[str, str], list[str]] = sbom.read_lock((ROOT / name).read_text())
    return read


# Locks


@pytest.mark.parametrize("name", ["requirements-image.lock", "requirements-build.lock"])
def test_a_lock_of_the_image_is_part_of_the_lock_of_development(name: str) -> None:
    """What tests saw is what the image has: the same versions, and not a hash more."""
    part, whole = lock(name), lock("requirements.lock")
    assert len(part) > 20
    for pin, hashes in part.items():
        assert pin in whole, f"{pin} of {name} is not in requirements.lock: run `make lock`"
        assert hashes and set(hashes) == set(whole[pin]), pin
    assert "://" not in (ROOT / name).read_text(), "a registry is named"


def needed(requirements: Iterator[Requirement], found: set[tuple[str, str]] | None = None) -> set[tuple[str, str]]:
    """(name, extra) of everything that requirements lead to, as the installed packages themselves say it."""
    found = set() if found is None else found
    for requirement in requirements:
        for extra in ("", *requirement.extras):
            entry = (str(canonicalize_name(requirement.name)), extra)
            if entry in found:
                continue
            try:
                texts = distribution(requirement.name).requires or []
            except ModuleNotFoundError:
                continue  # for another machine, or left out of the lock on purpose
            found.add(entry)
            behind = (Requirement(text) for text in texts)
            needed((one for one in behind if one.marker is None or one.marker.evaluate({"extra": extra})), found)
    return found


def test_the_image_has_what_the_project_needs_and_nothing_else() -> None:
    own = (Requirement(text) for text in distribution("cvntrade-assets").requires or [])
    closure = {name for name, _ in needed(own)}
    entries = re.findall(r"^[a-z0-9][^\\\n]*", (ROOT / "requirements-image.lock").read_text(), flags=re.MULTILINE)
    pinned = [Requirement(entry.split("#")[0].strip()) for entry in entries]
    here = {canonicalize_name(one.name) for one in pinned if one.marker is None or one.marker.evaluate()}
    assert closure == here
    assert not {"pytest", "moto", "kmock", "uv", "pip", "setuptools", "mypy", "helm-python-sdk", "selenium"} & here


# Dockerfile


def instructions() -> list[tuple[str, str]]:
    text = re.sub(r"^#.*\n", "", DOCKERFILE, flags=re.MULTILINE).replace("\\\n", " ")
    return [(line.split()[0], line.split(maxsplit=1)[1].strip()) for line in text.splitlines() if line.strip()]


def stage(name: str) -> list[tuple[str, str]]:
    """The instructions of a stage, without its FROM."""
    every = instructions()
    (begin,) = [n for n, (word, rest) in enumerate(every) if word == "FROM" and rest.endswith(f" AS {name}")]
    rest = every[begin + 1 :]
    end = next((n for n, (word, _) in enumerate(rest) if word == "FROM"), len(rest))
    return rest[:end]


def test_every_stage_begins_with_the_base_by_its_digest_or_with_a_stage() -> None:
    (base,) = [rest for word, rest in instructions() if word == "ARG" and rest.startswith("PYTHON_IMAGE=")]
    assert re.fullmatch(r"PYTHON_IMAGE=python:3\.11-slim-[a-z]+@sha256:[0-9a-f]{64}", base)
    froms = [rest for word, rest in instructions() if word == "FROM"]
    assert froms == ["${PYTHON_IMAGE} AS build", "${PYTHON_IMAGE} AS image", "image AS check", "image"]


def test_the_image_runs_as_nobody_in_particular_and_starts_what_it_is_told() -> None:
    words = dict(stage("image"))
    assert words["USER"] == "65532:65532"
    assert words["HEALTHCHECK"] == "NONE"
    assert "ENTRYPOINT" not in words, "Dagster's chart starts containers with `args` alone"
    assert json.loads(words["CMD"]) == ["cvntrade", "--help"]
    assert [word for word, _ in stage("image")].index("USER") > [word for word, _ in stage("image")].index("COPY")


def test_the_base_s_installers_are_removed() -> None:
    (run,) = [rest for word, rest in stage("image") if word == "RUN"]
    assert re.search(r"pip uninstall .* pip setuptools wheel +&& rm -r .*ensurepip", run)


def test_nothing_is_fetched_or_built_outside_the_locks() -> None:
    """Packages come through scripts of image/, which take wheels with hashes; Debian's are the base's."""
    for word, rest in instructions():
        assert word != "ADD"
        assert not re.search(r"apt|curl|wget|git |pip install|https?:", rest), rest
    tools, packages = ((ROOT / "image" / name).read_text() for name in ("tools.sh", "packages.sh"))
    assert tools.count("pip install") == tools.count("--require-hashes") == 1
    assert packages.count("pip install") == packages.count("--require-hashes --no-deps --only-binary :all:") == 1


@pytest.mark.parametrize("file", [ROOT / "Makefile", *SCRIPTS], ids=lambda path: path.name)
def test_an_index_is_no_argument(file: Path) -> None:
    """Its address may hold credentials, and everybody on the machine reads arguments in `ps`."""
    assert not re.search(r"--(default-|extra-)?index", file.read_text())


def test_what_is_copied_is_there_and_is_let_through() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in ignored
    let_through = {line.removeprefix("!").rstrip("/") for line in ignored if line.startswith("!")}
    copied = [rest.split()[:-1] for word, rest in instructions() if word == "COPY" and "--from" not in rest]
    sources = {name for names in copied for name in names}
    assert sources >= {"requirements-image.lock", "cvntrade_assets", "asset_checks", "resources", "image/sbom.py"}
    for name in sources:
        assert (ROOT / name).exists(), name
        assert name in let_through or name.split("/")[0] in let_through, name


def test_no_secret_is_let_through() -> None:
    assert not {".env", ".git", ".cvntrade", ".venv"} & set(
        re.findall(r"^!(.*?)/?$", (ROOT / ".dockerignore").read_text(), flags=re.MULTILINE)
    )
    assert all(
        "PASSWORD" not in rest and "TOKEN" not in rest for word, rest in instructions() if word in ("ARG", "ENV")
    )


def test_variables_stand_one_in_a_line_where_the_jail_finds_them() -> None:
    variables = [rest for word, rest in stage("image") if word == "ENV"]
    assert {"HOME=/tmp", "MPLCONFIGDIR=/tmp/matplotlib", "NUMBA_CACHE_DIR=/tmp/numba"} <= set(variables)
    assert all(re.fullmatch(r"[A-Z_]+=\S+", rest) for rest in variables)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_scripts(script: Path) -> None:
    is_sourced = script.name == "tools.sh"
    assert bool(script.stat().st_mode & 0o111) != is_sourced
    assert ("set -eu" in script.read_text()) != is_sourced
    subprocess.run(["bash", "-n", script], check=True)


# Bill of materials


@pytest.fixture(scope="module")
def bill() -> dict[str, Any]:
    """Of what is installed here, cut down to the image's lock."""
    made: dict[str, Any] = sbom.bill(sbom.describe(PYTHON), lock("requirements-image.lock"))
    return made


def test_the_bill_lists_the_image_s_packages_with_hashes_and_licences(bill: dict[str, Any]) -> None:
    listed = {(canonicalize_name(one["name"]), one["version"]): one for one in bill["components"]}
    pinned = lock("requirements-image.lock")
    assert set(listed) <= set(pinned)
    assert {"dagster", "xgboost", "psycopg2-binary", "dagster-k8s"} <= {name for name, _ in listed}
    assert "pytest" not in {name for name, _ in listed}
    for pin, component in listed.items():
        assert [one["content"] for one in component["hashes"]] == pinned[pin]
        assert component["purl"].startswith("pkg:pypi/")
    with_licence = [one for one in listed.values() if one.get("licenses")]
    assert len(with_licence) > 0.9 * len(listed)


def test_the_bill_says_who_needs_whom(bill: dict[str, Any]) -> None:
    graph = {entry["ref"]: entry.get("dependsOn", []) for entry in bill["dependencies"]}
    refs = {one["bom-ref"] for one in bill["components"]} | {"root-component"}
    assert set(graph) == refs
    assert all(needed in refs for behind in graph.values() for needed in behind)
    assert any(ref.startswith("xgboost==") for ref in graph["root-component"])


def test_the_bill_names_no_registry_no_machine_and_no_moment(bill: dict[str, Any]) -> None:
    text = json.dumps({key: value for key, value in bill.items() if key != "$schema"})
    assert "://" not in text
    assert str(ROOT) not in text and "timestamp" not in text and "serialNumber" not in text


def test_a_bill_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match=r"nothing of requirements-image\.lock is installed there"):
        sbom.bill({"components": [{"name": "pytest", "version": "8"}]}, lock("requirements-image.lock"))


# What is tried inside


def test_a_compiler_on_the_path_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = tmp_path / "gcc"
    compiler.write_text("#!/bin/sh\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(verify.WrongError, match=r"on the PATH: .*gcc"):
        verify.has_no_compiler()


def test_the_pip_that_python_keeps_for_venv_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    subprocess.run([PYTHON, "-m", "venv", "--without-pip", tmp_path], check=True)
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bin/python"))
    with pytest.raises(verify.WrongError, match="/bin/python has the module ensurepip"):
        verify.has_no_compiler()


def test_what_is_installed_beside_the_bill_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bill: dict[str, Any]
) -> None:
    """This environment holds packages for development: exactly they are named."""
    (tmp_path / "sbom.cdx.json").write_text(json.dumps(bill))
    monkeypatch.setattr(verify, "HOME", tmp_path)
    with pytest.raises(verify.WrongError, match="'pytest'") as caught:
        verify.is_what_the_bill_says()
    assert "'dagster'" not in str(caught.value)


def test_a_library_that_is_nowhere_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import _ctypes

    extension = Path(_ctypes.__file__)
    (tmp_path / "whole.so").write_bytes(extension.read_bytes())
    # The same file, but asking for a library of the same length that nobody has.
    content = extension.read_bytes()
    assert content.count(b"libc.so.6") == 1
    (tmp_path / "broken.so").write_bytes(content.replace(b"libc.so.6", b"libq.so.6"))
    monkeypatch.setattr(verify, "VENV", tmp_path)
    with pytest.raises(verify.WrongError, match=r"broken\.so needs libq\.so\.6"):
        verify.brings_its_libraries()


def test_a_wrong_user_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify, "USER", 65531)
    with pytest.raises(verify.WrongError, match="the image's are 65531"):
        verify.is_restricted()


def test_what_is_wrong_is_said_and_the_rest_is_tried(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def is_wrong() -> None:
        raise verify.WrongError("a reason")

    def is_fine() -> None:
        return None

    monkeypatch.setattr(verify, "CHECKS", (is_wrong, is_fine))
    assert verify.main() == 1
    assert re.fullmatch(r"is wrong: WRONG: a reason \(.*\)\nis fine: holds \(.*\)\n", capsys.readouterr().out)


# The root filesystem in which it is tried

PROBE = """
import json, os, pathlib, socket
def writes(folder):
    try:
        (pathlib.Path(folder) / "probe").touch()
        return "writable"
    except OSError as error:
        return error.strerror
def reaches(address):
    try:
        socket.create_connection((address, 9), timeout=2)
    except OSError as error:
        return error.strerror
print(json.dumps({
    "user": [os.getuid(), os.getgid(), os.getgroups()],
    "folders": {folder: writes(folder) for folder in FOLDERS},
    "environment": dict(os.environ),
    "processes": sum(name.isdecimal() for name in os.listdir("/proc")),
    "hidden": [os.path.exists(path) for path in HIDDEN],
    "network": [reaches("192.0.2.1"), reaches("127.0.0.1")],
    "capabilities": [line.split()[1] for line in open("/proc/self/status") if line.startswith(("CapEff", "CapPrm"))],
}))
"""


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a script sees inside the jail."""
    if subprocess.run(["unshare", "--mount", "--net", "--map-root-user", "true"], check=False).returncode != 0:
        pytest.skip("this machine makes no namespaces for us")
    folder = tmp_path_factory.mktemp("image")
    folder.chmod(0o755)
    subprocess.run([PYTHON, "-m", "venv", "--without-pip", folder / ".venv"], check=True)
    probe = folder / "probe.py"
    hidden = [str(ROOT), str(Path.home() / ".config"), "/usr/bin/gcc", "/usr/lib/postgresql", str(folder)]
    hidden += [ensurepip.__file__]
    folders = ["/", "/etc", "/usr/bin", "/opt/cvntrade", "/check", "/tmp", "/dev/shm", ensurepip.__path__[0]]
    probe.write_text(PROBE.replace("HIDDEN", repr(hidden)).replace("FOLDERS", repr(folders)))
    answer = subprocess.run(
        [ROOT / "image/jail.sh", folder, PYTHON, probe], capture_output=True, text=True, check=True, cwd=ROOT
    )
    found: dict[str, Any] = json.loads(answer.stdout)
    return found


def test_the_jail_is_read_only_but_for_tmp(seen: dict[str, Any]) -> None:
    written = {folder for folder, answer in seen["folders"].items() if answer == "writable"}
    assert written == {"/tmp", "/dev/shm"}
    ours = ("/opt/cvntrade", "/check", ensurepip.__path__[0])
    assert {seen["folders"][folder] for folder in ours} == {"Read-only file system"}


def test_the_jail_runs_as_the_image_s_user_without_rights(seen: dict[str, Any]) -> None:
    assert seen["user"][:2] == [65532, 65532]
    assert {int(text, 16) for text in seen["capabilities"]} == {0}


def test_the_jail_shows_nothing_of_this_machine(seen: dict[str, Any]) -> None:
    assert seen["hidden"] == [False] * 6
    assert seen["processes"] <= 2
    assert seen["network"] == ["Network is unreachable", "Connection refused"]
    variables = dict(rest.split("=", 1) for word, rest in stage("image") if word == "ENV")
    assert {name: text for name, text in seen["environment"].items() if name != "LC_CTYPE"} == variables
