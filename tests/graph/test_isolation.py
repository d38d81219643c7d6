"""Importing the definitions, in a fresh interpreter: nothing heavy, nothing outside, no environment; and the doors."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
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
PURE_FILES = ("settings.py", "setting_kinds.py", "hyperparameters.py")

PACKAGES = ("cvntrade_assets", "resources", "asset_checks")
PURE = frozenset({*PURE_ROOMS, "settings", "setting_kinds", "hyperparameters"})
RUNS = PURE | {"resources", "partitions"}
# Which rooms each room may import.
DOORS = {
    **dict.fromkeys(PURE, PURE),
    "partitions": PURE,
    "resources": PURE | {"resources"},
    "assets": RUNS | {"assets"},
    "asset_checks": RUNS | {"asset_checks"},
    "automation": RUNS | {"automation"},
    "definitions": RUNS | {"assets", "asset_checks", "automation"},
    "local": frozenset({"resources", "local"}),
    "commands": RUNS | {"local", "commands"},
    "cli": RUNS | {"local", "commands"},
    "__main__": frozenset({"cli"}),
}
# The plan and the selection speak of the very graph that runs.
KEYS = {
    "cvntrade_assets/commands/plan.py": {"definitions", "asset_checks"},
    "cvntrade_assets/commands/preflight.py": {"asset_checks"},
    "cvntrade_assets/commands/selection.py": {"definitions", "asset_checks"},
    "cvntrade_assets/commands/smoke.py": {"definitions"},
}

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


def room_of(module: str) -> str:
    """The room that a module of ours is in; a package's own name when it is none."""
    first, *rest = module.split(".")
    return rest[0] if first == "cvntrade_assets" and rest else first


def imported(source: str) -> Iterator[tuple[int, str]]:
    """Line and name of every module of ours that a file imports, inside functions too."""
    for node in ast.walk(ast.parse(source)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: imports are absolute"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        yield from ((node.lineno, name) for name in names if name.split(".")[0] in PACKAGES)


def closed_doors(file: str, source: str) -> list[str]:
    """What a file imports although its room may not."""
    room = room_of(file.removesuffix(".py").removesuffix("/__init__").replace("/", "."))
    allowed = DOORS.get(room, frozenset()) | KEYS.get(file, set())
    return [f"{file}:{line} imports {name}" for line, name in imported(source) if room_of(name) not in allowed]


def test_every_import_goes_through_a_door() -> None:
    files = [file for package in PACKAGES for file in sorted((ROOT / package).rglob("*.py"))]
    sources = {str(file.relative_to(ROOT)): file.read_text() for file in files}
    assert {room_of(name.removesuffix(".py").replace("/", ".")) for name in sources} == {*DOORS, "__init__"}
    assert set(KEYS) <= set(sources)
    assert [wrong for name, source in sources.items() for wrong in closed_doors(name, source)] == []


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("cvntrade_assets/market/candles.py", "from resources.warehouse import Warehouse"),
        ("cvntrade_assets/learning/scores.py", "def f():\n    import cvntrade_assets.partitions"),
        ("cvntrade_assets/settings.py", "from cvntrade_assets.local.options import PROJECT"),
        ("resources/gate.py", "from cvntrade_assets.partitions import CRYPTO"),
        ("resources/codecs.py", "from cvntrade_assets import definitions"),
        ("cvntrade_assets/assets/model.py", "from asset_checks.contracts import CONTRACTS"),
        ("asset_checks/contract.py", "from cvntrade_assets.assets.stage import Stage"),
        ("cvntrade_assets/automation/jobs.py", "from cvntrade_assets.assets.model import model"),
        ("cvntrade_assets/local/stack.py", "from cvntrade_assets.commands.errors import CommandError"),
        ("cvntrade_assets/commands/up.py", "from cvntrade_assets.definitions import defs"),
        ("cvntrade_assets/commands/plan.py", "from cvntrade_assets.assets.stage import Stage"),
        ("cvntrade_assets/definitions.py", "import cvntrade_assets.cli"),
        ("cvntrade_assets/newroom/thing.py", "import resources.tables"),
    ],
)
def test_a_closed_door_is_noticed(file: str, source: str) -> None:
    assert len(closed_doors(file, source)) == 1


def test_definitions_validate() -> None:
    dg.Definitions.validate_loadable(build_defs())
