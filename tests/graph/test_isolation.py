"""Importing the definitions, in a fresh interpreter: nothing heavy, nothing outside, no environment."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from cvntrade_assets.definitions import build_defs

ROOT = Path(__file__).parent.parent.parent
HEAVY = (
    "xgboost",
    "mlflow",
    "cleanlab",
    "sympy",
    "sklearn",
    "optuna",
    "numba",
    "matplotlib",
    "talib",
    "skops",
    "scipy",
)
IMPURE = ("dagster", "dagster_mlflow", "sqlalchemy", "psycopg2", "httpx", "resources", "asset_checks")
PURE_ROOMS = ("market", "learning", "trading", "operations")
PURE_FILES = ("settings.py", "setting_kinds.py")

# Every socket that is made, every process that is started and every file that is opened while the definitions load.
WATCH = """
import json, sys
seen = {"socket": [], "process": [], "read": [], "written": []}

def watch(event, args):
    if event.startswith("socket."):
        seen["socket"].append(event)
    elif event == "subprocess.Popen":
        seen["process"].append([str(part) for part in args[1]])
    elif event in ("os.system", "os.fork", "os.posix_spawn", "os.exec"):
        seen["process"].append([event])
    elif event == "open" and isinstance(args[0], str):
        writing = isinstance(args[1], str) and set(args[1]) & set("wax+")
        seen["written" if writing else "read"].append(args[0])

sys.dont_write_bytecode = True
sys.addaudithook(watch)
import cvntrade_assets.definitions as loaded
import dagster as dg
assert isinstance(loaded.defs, dg.Definitions)
seen["modules"] = sorted(sys.modules)
print(json.dumps(seen))
"""


def in_fresh_interpreter(script: str) -> Any:
    """What a script prints as JSON, run from the repository's folder with an empty environment."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def loading() -> Any:
    """What loading the definitions did."""
    return in_fresh_interpreter(WATCH)


def roots(modules: list[str]) -> set[str]:
    return {name.split(".")[0] for name in modules}


def test_definitions_load_nothing_heavy(loading: Any) -> None:
    assert roots(loading["modules"]) & set(HEAVY) == set()


def test_definitions_open_no_socket(loading: Any) -> None:
    assert loading["socket"] == []


def test_definitions_start_no_process(loading: Any) -> None:
    # Dagster's cron parser asks the standard library whether this Python is one of 32 bits, which asks `file`.
    assert [command for command in loading["process"] if command[:2] != ["file", "-b"]] == []


def test_definitions_read_no_file_outside_the_packages(loading: Any) -> None:
    harmless = {"/dev/null", "/usr/share/zoneinfo/UTC"}
    packages = (Path(sys.prefix), Path(sys.base_prefix))
    # An editable installation puts a name into sys.path that is a hook of the import system, not a folder.
    read = [Path(name) for name in loading["read"] if not name.startswith("__editable__")]
    outside = [path for path in read if not any(path.is_relative_to(root) for root in packages)]
    ours = {path for path in outside if path.is_relative_to(ROOT)}
    assert {str(path) for path in outside} - {str(path) for path in ours} - harmless == set()
    assert {path.suffix for path in ours if path.is_file()} <= {".py", ".pyc"}


def test_definitions_write_nothing(loading: Any) -> None:
    assert loading["written"] == []


def pure_modules() -> list[str]:
    package = ROOT / "cvntrade_assets"
    files = [package / name for name in PURE_FILES]
    files += [file for room in PURE_ROOMS for file in (package / room).rglob("*.py")]
    return [".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for file in files]


def test_pure_rooms_know_nobody_outside() -> None:
    modules = pure_modules()
    assert len(modules) > 20
    loaded = in_fresh_interpreter(
        f"import json, sys, importlib\nfor name in {modules!r}:\n    importlib.import_module(name)\n"
        "print(json.dumps(sorted(sys.modules)))"
    )
    assert roots(loaded) & set(IMPURE) == set()


def test_definitions_validate() -> None:
    dg.Definitions.validate_loadable(build_defs())
