"""What must hold inside the image, tried inside it, as its user, with its Python: `python verify.py`.

Nothing but the image's own packages is imported, so this file is all that has to be brought along.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable
from importlib.metadata import distributions
from pathlib import Path

VENV = Path(sys.prefix)
HOME = VENV.parent
SITE = Path(sysconfig.get_path("purelib"))
PROJECT = "cvntrade-assets"
USER = 65532
COMPILERS = ("cc", "gcc", "g++", "c++", "clang", "ld", "as", "make", "cmake", "cargo", "rustc", "tcc", "gfortran")
INSTALLERS = ("pip", "uv", "conda")
# Whoever starts a container of this image says one of these: the jobs, a code location or a run, daemon, UI, MLflow.
COMMANDS = (
    ("cvntrade", "--help"),
    ("dagster", "api", "grpc", "--help"),
    ("dagster-daemon", "--version"),
    ("dagster-webserver", "--version"),
    ("mlflow", "--version"),
)
# Numba's other ways to run threads, which it leaves alone when their libraries are absent, and PostgreSQL's library for
# C with SQL in it: nothing of ours loads them.
OPTIONAL = re.compile(r"numba/np/ufunc/(tbbpool|omppool)\.|/libecpg")


class WrongError(Exception):
    """The image is not as it has to be."""


def is_restricted() -> None:
    """An ordinary user, and not a file of the image that he may change."""
    if os.getuid() != USER or os.getgid() != USER:
        raise WrongError(f"runs as user {os.getuid()}, group {os.getgid()}: the image's are {USER}")
    system = (Path("/"), Path("/etc"), Path("/usr"), Path(json.__file__).parent)
    for folder in (*system, HOME, VENV, VENV / "bin", SITE, SITE / "resources"):
        try:
            probe = folder / ".written"
            probe.touch()
        except OSError:
            continue
        probe.unlink()
        raise WrongError(f"{folder} is writable: only /tmp may be")


def is_what_the_bill_says() -> None:
    """Installed is what the bill of materials lists and this project: no package for development, no installer."""
    bill = json.loads((HOME / "sbom.cdx.json").read_text())
    listed = {(_plain(one["name"]), one["version"]) for one in bill["components"]}
    installed = {(_plain(one.metadata["Name"]), one.version) for one in distributions(path=[str(SITE)])}
    own = {entry for entry in installed if entry[0] == PROJECT}
    if len(own) != 1:
        raise WrongError(f"{PROJECT} is not installed")
    if wrong := (installed - own) ^ listed:
        raise WrongError(f"installed and not in sbom.cdx.json, or the other way round: {sorted(wrong)}")


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def has_no_compiler() -> None:
    """Nothing on the PATH builds or installs software, nor does Python by itself; Dagster's chart asks for bash."""
    if not Path("/bin/bash").exists():
        raise WrongError("no /bin/bash, with which Dagster's chart starts its daemon and webserver")
    found = [path for name in (*COMPILERS, *INSTALLERS) if (path := shutil.which(name))]
    if found:
        raise WrongError(f"on the PATH: {', '.join(found)}")
    for python in (sys.executable, os.path.realpath(sys.executable)):
        # Run and not imported: an empty folder of that name could be imported too.
        for module in ("pip", "ensurepip"):
            if subprocess.run([python, "-m", module, "--version"], capture_output=True, check=False).returncode == 0:
                raise WrongError(f"{python} has the module {module}")


def brings_its_libraries() -> None:
    """Every shared library finds what it needs: in a wheel, or among the few that the base image has."""
    files = {file.name: file for file in VENV.rglob("*.so*") if file.is_file()}
    said = subprocess.run(["ldd", *map(str, files.values())], capture_output=True, text=True, check=False).stdout
    missing, current = set(), ""
    for line in said.splitlines():
        if not line.startswith("\t"):
            current = line
        elif line.endswith("=> not found") and not OPTIONAL.search(current):
            missing.add((Path(current.rstrip(":")).name, line.split()[0]))
    # One library of a wheel may need another that has been loaded before it: then the wheel has that one too.
    lacking = [f"{needs} needs {needed}" for needs, needed in sorted(missing) if needed not in files]
    if lacking or not files:
        raise WrongError(f"libraries that are nowhere: {', '.join(lacking) or 'none was looked at'}")


def answers() -> None:
    """Every program that a container is started with begins."""
    started = [(command, _start(*command)) for command in COMMANDS]
    for command, process in started:
        said, _ = process.communicate()
        if process.returncode != 0:
            raise WrongError(f"{' '.join(command)} ended with {process.returncode}: {said[-2000:]}")


def passes_the_smoke() -> None:
    """The real chain, small, with a PostgreSQL of its own; imports every entry point meanwhile (incident 17.4)."""
    said, _ = (process := _start("cvntrade", "smoke")).communicate()
    print(said, flush=True)
    if process.returncode != 0:
        raise WrongError(f"cvntrade smoke ended with {process.returncode}")


def _start(*command: str) -> "subprocess.Popen[str]":
    program = VENV / "bin" / command[0]
    return subprocess.Popen([program, *command[1:]], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


CHECKS: tuple[Callable[[], None], ...] = (
    is_restricted,
    is_what_the_bill_says,
    has_no_compiler,
    brings_its_libraries,
    answers,
    passes_the_smoke,
)


def main() -> int:
    """Try everything; returns 0, or 1 when something is not as it has to be."""
    wrong = 0
    for check in CHECKS:
        began = time.monotonic()
        try:
            check()
            outcome = "holds"
        except WrongError as error:
            wrong, outcome = 1, f"WRONG: {error}"
        print(f"{check.__name__.replace('_', ' ')}: {outcome} ({time.monotonic() - began:.1f} s)", flush=True)
    return wrong


if __name__ == "__main__":
    sys.exit(main())
