"""The README says what is there: guardrails, checks, tests, commands and files that it names exist."""

import re
from pathlib import Path

import pytest
from typer.main import get_command

from cvntrade_assets.automation.pipeline_schedules import CRON
from cvntrade_assets.cli import app
from cvntrade_assets.operations.guardrails import GUARDRAILS
from cvntrade_assets.operations.lifecycle import ModelState
from cvntrade_assets.operations.pipelines import PIPELINES
from cvntrade_assets.operations.taxonomy import TAXONOMY
from cvntrade_assets.settings import SETTINGS, SHORT_NAMES
from cvntrade_assets.trading.gates import GATES

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def commands() -> set[str]:
    names = set()
    for name, command in get_command(app).commands.items():  # type: ignore[attr-defined]
        names |= {f"{name} {inner}" for inner in getattr(command, "commands", {})} or {name}
    return names


@pytest.mark.parametrize("guardrail", GUARDRAILS)
def test_every_guardrail_is_in_the_table(guardrail: str) -> None:
    assert [line for line in README.splitlines() if line.startswith("|") and f"`{guardrail}`" in line]


def test_every_test_that_is_named_exists() -> None:
    named = re.findall(r"`(tests/\S+?\.py)(?:::(\w+))?`(?: and `::(\w+)`)?", README)
    assert len(named) > 20
    for path, *functions in named:
        assert (ROOT / path).is_file(), path
        for function in filter(None, functions):
            assert f"def {function}(" in (ROOT / path).read_text(), f"{path}::{function}"


def test_every_command_is_in_the_readme() -> None:
    spoken = re.findall(r"cvntrade ([a-z]+)((?:(?: \|)? [a-z]+)*)", README)
    told = {first for first, _ in spoken} | {
        f"{first} {word}" for first, rest in spoken for word in rest.replace("|", " ").split()
    }
    assert commands() - told == set()


def test_every_command_that_is_named_exists() -> None:
    first_words = {name.split()[0] for name in commands()}
    assert set(re.findall(r"`cvntrade ([a-z]+)", README)) - first_words == set()


@pytest.mark.parametrize(
    "path", sorted(set(re.findall(r"`((?:benchmarks|docs|operations|learning|asset_checks)/\w+\.\w+)", README)))
)
def test_every_file_that_is_named_exists(path: str) -> None:
    assert (ROOT / path).exists() or (ROOT / "cvntrade_assets" / path).exists()


def row_of(name: str) -> list[str]:
    """The cells of the one row of a table that is about this name."""
    [row] = [line for line in README.splitlines() if line.startswith("|") and f"`{name}`" in line.split("|")[1]]
    return [cell.strip() for cell in row.strip("|").split("|")]


@pytest.mark.parametrize("code", TAXONOMY)
def test_every_diagnosis_code_has_its_severity_and_owner(code: str) -> None:
    entry = TAXONOMY[code]  # type: ignore[index]
    assert row_of(code)[2:] == [str(entry.severity), str(entry.owner)]


@pytest.mark.parametrize("gate", GATES)
def test_every_gate_has_its_limit(gate: str) -> None:
    key, limit = row_of(gate)[2].split()
    assert float(limit) == float(SETTINGS[key].default)


def test_every_state_of_a_model_is_told() -> None:
    told = {line.split("|")[1].strip() for line in README.splitlines() if line.startswith("|")}
    assert {f"`{state}`" for state in ModelState} <= told


@pytest.mark.parametrize("name", PIPELINES)
def test_every_old_dag_has_its_job(name: str) -> None:
    dag, command, _, schedule = row_of(PIPELINES[name].dag)
    assert (dag, command) == (f"`{PIPELINES[name].dag}`", f"`cvntrade {name}`")
    hour = CRON[name].split()[1] if name in CRON else ""
    assert schedule.endswith(f"{hour.zfill(2)}:00") if hour else schedule == ""


def test_every_short_name_is_told() -> None:
    assert all(f"`{short}`" in README for short in SHORT_NAMES)
