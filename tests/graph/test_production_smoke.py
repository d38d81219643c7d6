"""The production smoke: the whole of it once, that it leaves nothing behind, and what it says of what is broken."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import dagster as dg
import pytest
import sqlalchemy as sa
from services import Graph, make_graph

from cvntrade_assets.automation import production_smoke
from cvntrade_assets.automation.production_smoke import (
    ENTRY_POINTS,
    TRIALS,
    SmokeError,
    Trial,
    imported_modules,
    our_modules,
    run_smoke,
)
from cvntrade_assets.definitions import defs_on
from cvntrade_assets.learning.label_pipeline import PreparedLabels, prepare_labels
from cvntrade_assets.settings import SETTINGS
from resources.scratch import PREFIX
from resources.warehouse import Warehouse


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory, warehouse_url: str) -> Graph:
    return make_graph(tmp_path_factory.mktemp("production"), warehouse_url)


def everything(warehouse: Warehouse) -> dict[str, int]:
    """Rows of every table and view of the database, whatever its schema."""
    engine = sa.create_engine(warehouse.address)
    with engine.connect() as connection:
        kept = sa.text(
            "select quote_ident(table_schema) || '.' || quote_ident(table_name) from information_schema.tables "
            "where table_schema not in ('pg_catalog', 'information_schema')"
        )
        return {name: connection.scalar(sa.text(f"select count(*) from {name}")) for name in connection.scalars(kept)}


def files(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


@pytest.fixture(scope="module")
def smoked(graph: Graph) -> tuple[Any, Any, dg.ExecuteInProcessResult]:
    """The job as a launchpad starts it, and what stood in the stores, and in the temporary folder, before and after."""
    before = everything(graph.warehouse), files(graph.folder), graph.instance.get_dynamic_partitions("crypto")
    with mock.patch.object(tempfile, "tempdir", str(graph.folder)):
        result = graph.defs.resolve_job_def("production_smoke").execute_in_process(
            instance=graph.instance, raise_on_error=False
        )
    after = everything(graph.warehouse), files(graph.folder), graph.instance.get_dynamic_partitions("crypto")
    return before, after, result


def test_smoke_passes_and_says_what_it_tried(smoked: Any) -> None:
    *_, result = smoked
    assert result.success
    (output,) = [event for event in result.all_events if event.event_type == dg.DagsterEventType.STEP_OUTPUT]
    assert set(output.step_output_data.metadata) == {
        "stores are ready",
        *(trial.name for trial in TRIALS),
        "all",
    }


def test_smoke_leaves_nothing_behind(graph: Graph, smoked: Any) -> None:
    before, after, _ = smoked
    assert after == before
    assert not any(name.startswith(PREFIX) for name in after[0])
    assert graph.instance.all_asset_keys() == []
    runs = {run.job_name for run in graph.instance.get_runs()}
    assert runs == {"production_smoke"}


def test_trials_are_what_incidents_taught() -> None:
    """Soft labels, suspects filtered, the focal loss once, and every calibration that there is."""
    settings = [{**production_smoke.SMALL, **trial.settings} for trial in TRIALS]
    tried = [each.get("CVN_CALIBRATION") for each in settings]
    assert set(SETTINGS["CVN_CALIBRATION"].kind.words) <= set(tried)
    assert {each["CVN_LABEL_SMOOTHING"] for each in settings} == {"mild"}
    assert {each["CVN_CLEANLAB"] for each in settings} == {"filter"}
    assert [each.get("CVN_FOCAL_LOSS") for each in settings].count("1") == 1
    assert {each["CVN_TUNING_FOLDS"] for each in settings} == {"2"}
    assert TRIALS[0].assets is None, "the first goes through the whole chain"


def broken_by_17_1(*arguments: Any, **options: Any) -> PreparedLabels:
    """Incident 17.1 the other way round: the transform hands out arrays where frames went in."""
    prepared = prepare_labels(*arguments, **options)
    return PreparedLabels(prepared.features.to_numpy(), prepared.labels, prepared.weights, prepared.suspects)


def test_a_broken_stage_is_named_with_its_reason(graph: Graph) -> None:
    before = everything(graph.warehouse)
    said: list[str] = []
    with (
        mock.patch("cvntrade_assets.learning.label_pipeline.prepare_labels", broken_by_17_1),
        pytest.raises(SmokeError) as caught,
    ):
        run_smoke(graph.warehouse, defs_on, said.append)
    assert str(caught.value).startswith(f"the production smoke failed in {TRIALS[0].name!r}: step label_pipeline: ")
    assert said == []
    assert everything(graph.warehouse) == before


def test_the_job_fails_with_that_reason(graph: Graph) -> None:
    with mock.patch.object(production_smoke, "run_smoke", side_effect=SmokeError("trial 'x': step model: no sympy")):
        result = graph.defs.resolve_job_def("production_smoke").execute_in_process(
            instance=graph.instance, raise_on_error=False
        )
    (failure,) = [event.step_failure_data for event in result.all_events if event.is_step_failure]
    assert failure.user_failure_data.description == "trial 'x': step model: no sympy"


def test_a_trial_that_was_none_is_found_out(graph: Graph) -> None:
    """A setting that some stage ignores would let the smoke pass without having tried anything."""
    trial = Trial("five minutes", {}, ("candles",), ("candles", "timeframe", "5m"))
    result = production_smoke._run(graph.defs, graph.instance, trial)
    with pytest.raises(SmokeError, match="tried 'five minutes', and candles says timeframe '30m'"):
        production_smoke._require(trial, result)


def test_incident_17_4_a_module_that_is_not_installed_is_named() -> None:
    with (
        mock.patch.object(production_smoke, "ENTRY_POINTS", ("json", "sympy_that_nobody_installed")),
        mock.patch.object(production_smoke, "our_modules", list),
        mock.patch.object(production_smoke, "imported_modules", set),
        production_smoke._imports() as broken,
    ):
        assert broken() == [
            "sympy_that_nobody_installed: ModuleNotFoundError: No module named 'sympy_that_nobody_installed'"
        ]


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (
            our_modules,
            {"cvntrade_assets.cli", "cvntrade_assets.commands.up", "resources.gate", "asset_checks.contract"},
        ),
        # Inside functions only: what a process first imports when it is in the middle of its work.
        (imported_modules, {"sympy", "cleanlab.filter", "xgboost", "optuna", "skops.io", "dagster_mlflow.resources"}),
    ],
)
def test_what_is_imported(found: Callable[[], Any], expected: set[str]) -> None:
    modules = set(found())
    assert expected <= modules, expected - modules
    assert not any(name.startswith("resources.migrations.") for name in our_modules())


def test_entry_points_are_those_of_our_processes() -> None:
    console_script, *_ = ENTRY_POINTS
    text = (Path(__file__).parent.parent.parent / "pyproject.toml").read_text()
    assert f'cvntrade = "{console_script}:main"' in text
