"""The chain for one crypto: through Dagster's run worker, against the same pure functions called in a script.

Also prints what importing the definitions costs, which libraries that loads, and the peak memory of a run.

Run from the repository's root: `python -m benchmarks.chain [crypto]`. Everything happens on the simulated market, in
fresh processes and folders.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cvntrade_assets.local.addresses import Addresses, Database
from cvntrade_assets.local.options import PROJECT
from resources.embedded_postgres import HOST, USER, EmbeddedPostgres
from resources.warehouse import Warehouse

CRYPTO = "BTCUSDC"
AS_OF = "2025-09-01"
_MAKE_TABLES = """
import os, dagster, mlflow
dagster.DagsterInstance.get().get_runs_count()
mlflow.set_tracking_uri(os.environ["CVN_MLFLOW_URL"])
mlflow.search_experiments()
"""
HEAVY = ("xgboost", "mlflow", "cleanlab", "sympy", "sklearn", "optuna", "numba", "matplotlib")


def main() -> None:
    """Print import time, script seconds, Dagster seconds, their ratio and peak memory."""
    crypto = sys.argv[1] if len(sys.argv) > 1 else CRYPTO
    print(f"import of cvntrade_assets.definitions: {_import_seconds():.2f} s; heavy libraries loaded: {_loaded()}")
    with tempfile.TemporaryDirectory() as folder:
        compile_kernels(crypto)
        script, script_memory = timed([sys.executable, "-m", "benchmarks.script", crypto, AS_OF], dict(os.environ))
        with fresh_environment(Path(folder)) as environment:
            dagster, memory = timed([sys.executable, "-m", "benchmarks.through_dagster", crypto, AS_OF], environment)
    print(f"script, pure functions:            {script:6.1f} s, peak memory {script_memory / 2**30:.2f} GiB")
    print(f"through Dagster, checks, store:    {dagster:6.1f} s, peak memory {memory / 2**30:.2f} GiB")
    print(f"difference: {dagster - script:.1f} s, {(memory - script_memory) / 2**30:.2f} GiB (operations/estimates.py)")
    allowed = 1.2 * script + 8
    met = "met" if dagster <= allowed else "MISSED"
    print(f"ratio {dagster / script:.2f}; target 1.2 x script + 8 s = {allowed:.1f} s: {met}")


def compile_kernels(crypto: str) -> None:
    """The first process on a machine compiles the kernels; neither side is to pay for that."""
    timed([sys.executable, "-m", "benchmarks.script", crypto, AS_OF, "CVN_DEFAULT_N_TRIALS=1"], dict(os.environ))


@contextmanager
def fresh_environment(folder: Path) -> Iterator[dict[str, str]]:
    """A PostgreSQL with Dagster's tables and ours, and the variables that name everything."""
    with EmbeddedPostgres(folder / "postgres") as server:
        database = Database(HOST, server.port, USER, server.password)
        addresses = Addresses(folder, database, ui_port=1, code_server_port=1, mlflow_port=1, pid=os.getpid())
        environment = addresses.environment(os.environ) | {
            "CVN_MLFLOW_URL": f"sqlite:///{folder}/mlflow.db",
            "MLFLOW_DISABLE_TELEMETRY": "true",
        }
        (folder / "dagster.yaml").symlink_to(PROJECT / "dagster.yaml")
        Warehouse(addresses.warehouse_url).migrate()
        # Tables are made once per installation, not once per run.
        subprocess.run(
            [sys.executable, "-c", _MAKE_TABLES],
            env=environment,
            check=True,
        )
        yield environment


def timed(command: list[str], environment: dict[str, str]) -> tuple[float, int]:
    """Seconds and peak resident bytes of the largest process of a command."""
    began = time.perf_counter()
    subprocess.run(command, env=environment, check=True)
    seconds = time.perf_counter() - began
    return seconds, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024


def _import_seconds() -> float:
    code = "import time; t = time.perf_counter(); import cvntrade_assets.definitions; print(time.perf_counter() - t)"
    runs = [
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
        for _ in range(3)
    ]
    return min(runs)


def _loaded() -> str:
    code = (
        f"import json, sys, cvntrade_assets.definitions; print(json.dumps([m for m in {HEAVY!r} if m in sys.modules]))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    return ", ".join(json.loads(answer)) or "none"


if __name__ == "__main__":
    main()
