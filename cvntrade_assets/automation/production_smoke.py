"""Production smoke: the real chain, small, before anything large runs on it (incidents 17.1 to 17.4).

One crypto, the fewest folds, one variant at a time through the real definitions, store, gate and checks: DataFrames,
soft labels, suspects filtered, the focal loss, every calibration. Nothing of it is production's: it runs on an event
log in memory, a scratch schema, a temporary folder and an MLflow store in there, all gone at the end. Meanwhile a fresh
interpreter imports everything that any of our processes imports, functions' imports included.
"""

import ast
import json
import pkgutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import dagster as dg

from cvntrade_assets.operations.run_pods import WORK_TAG, Work
from cvntrade_assets.partitions import CRYPTO
from resources.job_runs import failure_reason
from resources.scratch import scratch_schema, scratch_tracking
from resources.secrets import process_mask
from resources.tracking import TrackingResource
from resources.warehouse import Warehouse

SMOKE_CRYPTO = "BTCUSDC"
BUDGET_SECONDS = 60.0

SMALL: Mapping[str, str] = {
    "CVN_MARKET": "simulated",
    "CVN_SIMULATED_SIGNAL": "1",
    "CVN_AS_OF": "2025-09-01",
    "CVN_DEFAULT_HISTORY_MONTHS": "4",
    "CVN_BACKTEST_DAYS": "2",
    "CVN_CUSUM_THRESHOLD_H": "1.0",
    "CVN_MAX_FEATURES": "10",
    "CVN_DEFAULT_N_TRIALS": "1",
    "CVN_TUNING_FOLDS": "2",
    "CVN_HPO_XGBOOST_30M_NUM_BOOST_ROUND": "30",
    "CVN_LABEL_SMOOTHING": "mild",
    "CVN_CLEANLAB": "filter",
}
"""A market with something to learn, just long enough for every slice to hold both classes."""

PACKAGES = ("cvntrade_assets", "resources", "asset_checks")
# The console script, code server and run worker, webserver, daemon, MLflow's server.
ENTRY_POINTS = (
    "cvntrade_assets.cli",
    "cvntrade_assets.definitions",
    "cvntrade_assets.local.launch",
    "dagster._cli.api",
    "dagster_webserver.cli",
    "dagster._daemon.cli",
    "mlflow.cli",
    "mlflow.server",
)
_IMPORT_EVERYTHING = """
import importlib, json, sys
broken = []
for name in json.load(sys.stdin):
    try:
        importlib.import_module(name)
    except BaseException as error:
        broken.append(f"{name}: {type(error).__name__}: {error}")
try:
    from cvntrade_assets.learning.focal_loss import focal_gradient, focal_hessian
    focal_gradient([0.5], [1.0], 2.0), focal_hessian([0.5], [1.0], 2.0)
except BaseException as error:
    broken.append(f"the focal loss's derivatives: {type(error).__name__}: {error}")
print(json.dumps(broken))
"""


class SmokeError(RuntimeError):
    """The smoke found something: names the trial, the stage and the reason."""


@dataclass(frozen=True)
class Trial:
    """One way through the chain.

    Attributes:
        name: What it tries.
        settings: Laid over `SMALL`.
        assets: What is built; what did not change is reused from the trials before it.
        proves: Asset, entry of its metadata and the value that shows that the trial was one.
    """

    name: str
    settings: Mapping[str, str]
    assets: tuple[str, ...] | None
    proves: tuple[str, str, object]


_CALIBRATED = ("calibration", "backtest", "test_report")


def _calibration(method: str) -> Trial:
    return Trial(f"calibration {method}", {"CVN_CALIBRATION": method}, _CALIBRATED, ("calibration", "method", method))


TRIALS = (
    Trial(
        "soft labels, suspects filtered, calibration sigmoid",
        {"CVN_CALIBRATION": "sigmoid"},
        None,
        ("calibration", "method", "sigmoid"),
    ),
    *(_calibration(method) for method in ("none", "platt", "isotonic", "hybrid")),
    Trial(
        "focal loss",
        {"CVN_FOCAL_LOSS": "1", "CVN_TUNING_WORKERS": "1"},
        ("hyperparameters", "model", *_CALIBRATED),
        ("model", "objective", "focal"),
    ),
)

BuildChain = Callable[[str, Path, TrackingResource], dg.Definitions]
"""The real definitions on a warehouse's address, an artifact folder and a tracking of their own."""


def production_smoke_job(build_chain: BuildChain) -> dg.JobDefinition:
    """The job, on definitions that only their own file may build."""

    @dg.op(description="Runs the real chain, small, on stores of its own, and imports every entry point meanwhile.")
    def smoke_chain(context: dg.OpExecutionContext, warehouse: dg.ResourceParam[Warehouse]) -> None:
        try:
            seconds = run_smoke(warehouse, build_chain, context.log.info)
        except SmokeError as error:
            raise dg.Failure(process_mask().text(str(error)), allow_retries=False) from None
        context.add_output_metadata(dict(seconds))
        if seconds["all"] > BUDGET_SECONDS:
            context.log.warning(f"the smoke took {seconds['all']:.0f} s; at most {BUDGET_SECONDS:.0f} s are meant")

    @dg.job(
        name="production_smoke",
        description="One crypto, the fewest folds, a variant at a time through the real chain; leaves nothing behind.",
        tags={WORK_TAG: Work.TRAINING.value},
    )
    def production_smoke() -> None:
        smoke_chain()

    return production_smoke


def run_smoke(warehouse: Warehouse, build_chain: BuildChain, say: Callable[[str], None]) -> dict[str, float]:
    """Run every trial; returns the seconds that each took.

    Args:
        warehouse: Its server holds the scratch schema meanwhile; nothing else of it is touched.
        build_chain: The real definitions on stores that are given.
        say: Called with where the smoke is.

    Raises:
        SmokeError: a trial failed, or something that we import cannot be imported.
    """
    began = time.perf_counter()
    seconds: dict[str, float] = {}
    with (
        _imports() as broken_imports,
        tempfile.TemporaryDirectory(prefix="cvntrade-smoke-") as home,
        scratch_schema(warehouse) as url,
        dg.DagsterInstance.ephemeral() as instance,
    ):
        folder = Path(home)
        defs = build_chain(url, folder / "artifacts", scratch_tracking(folder, SMOKE_CRYPTO))
        instance.add_dynamic_partitions(str(CRYPTO.name), [SMOKE_CRYPTO])
        seconds["stores are ready"] = time.perf_counter() - began
        for trial in TRIALS:
            started = time.perf_counter()
            _require(trial, _run(defs, instance, trial))
            seconds[trial.name] = time.perf_counter() - started
            say(f"{trial.name}: passed in {seconds[trial.name]:.1f} s")
        if broken := broken_imports():
            raise SmokeError(f"the production smoke failed at the entry points: {'; '.join(broken)}")
        say("every entry point and every import of ours loads in a fresh interpreter")
    seconds["all"] = time.perf_counter() - began
    return {name: round(value, 2) for name, value in seconds.items()}


def _run(defs: dg.Definitions, instance: dg.DagsterInstance, trial: Trial) -> dg.ExecuteInProcessResult:
    job = defs.resolve_job_def("candles_to_report")
    keys = None if trial.assets is None else [dg.AssetKey(name) for name in trial.assets]
    settings = {**SMALL, **trial.settings}
    return job.execute_in_process(
        instance=instance,
        partition_key=SMOKE_CRYPTO,
        asset_selection=keys,
        run_config={
            "resources": {"run_settings": {"config": {"settings": settings}}},
            "loggers": {"console": {"config": {"log_level": "WARNING"}}},
        },
        raise_on_error=False,
    )


def _require(trial: Trial, result: dg.ExecuteInProcessResult) -> None:
    """Nothing failed, and the run did what it was to try."""
    if reasons := list(_failures(result)):
        raise SmokeError(f"the production smoke failed in {trial.name!r}: {'; '.join(reasons)}")
    if not result.success:
        raise SmokeError(f"the production smoke failed in {trial.name!r}: the run ended without success")
    asset, entry, expected = trial.proves
    made = {
        event.materialization.asset_key.to_user_string(): event.materialization
        for event in result.get_asset_materialization_events()
    }
    found = made[asset].metadata[entry].value
    if found != expected:
        raise SmokeError(f"the production smoke tried {trial.name!r}, and {asset} says {entry} {found!r}")
    prepared = made.get("label_pipeline")
    if prepared is not None and not int(prepared.metadata["suspects"].value):  # type: ignore[arg-type]
        raise SmokeError(f"the production smoke tried {trial.name!r}, and no label was suspected")


def _failures(result: dg.ExecuteInProcessResult) -> Iterator[str]:
    for check in result.get_asset_check_evaluations():
        if not check.passed and check.severity == dg.AssetCheckSeverity.ERROR:
            yield f"check {check.check_name} of {check.asset_key.to_user_string()}: {check.description}"
    for event in result.all_events:
        if event.is_step_failure:
            yield f"step {event.step_key}: {failure_reason(event.step_failure_data)}"
        elif event.event_type == dg.DagsterEventType.RUN_FAILURE:
            yield f"run: {event.message}"


@contextmanager
def _imports() -> Iterator[Callable[[], list[str]]]:
    """Imports everything in a fresh interpreter meanwhile; the function waits and says what could not be imported."""
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", _IMPORT_EVERYTHING],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    process.stdin.write(json.dumps(sorted({*ENTRY_POINTS, *our_modules(), *imported_modules()})))
    process.stdin.close()
    process.stdin = None

    def wait() -> list[str]:
        said, errors = process.communicate()
        if process.returncode != 0:
            return [f"the fresh interpreter ended with {process.returncode}: {errors.strip().splitlines()[-1:]}"]
        broken: list[str] = json.loads(said.splitlines()[-1])
        return broken

    try:
        yield wait
    finally:
        process.kill()
        process.communicate()


def our_modules() -> Iterator[str]:
    """Every module of ours; migrations only run inside Alembic, and `__main__` is the command line itself."""
    for package in PACKAGES:
        for module in pkgutil.walk_packages(import_module(package).__path__, f"{package}."):
            if not module.name.startswith("resources.migrations.") and not module.name.endswith("__main__"):
                yield module.name


def imported_modules() -> set[str]:
    """Every module that a file of ours imports, inside functions too: what is first imported in production (17.4)."""
    roots = [Path(folder) for package in PACKAGES for folder in import_module(package).__path__]
    sources = (file.read_text() for root in roots for file in root.rglob("*.py"))
    return {name for source in sources for name in _imports_of(ast.walk(ast.parse(source)))}


def _imports_of(nodes: Iterable[ast.AST]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            yield node.module
