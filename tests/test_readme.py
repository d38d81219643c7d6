"""The README says what is there: guardrails, checks, tests, commands and files that it names exist."""

import json
import re
from pathlib import Path

import dagster as dg
import pytest
from typer.main import get_command

from cvntrade_assets.automation.pipeline_schedules import CRON
from cvntrade_assets.automation.schedules import SCHEDULES
from cvntrade_assets.automation.sensors import SENSORS
from cvntrade_assets.cli import app
from cvntrade_assets.operations.global_state import STATE_SIGNALS, State
from cvntrade_assets.operations.guardrails import GUARDRAILS
from cvntrade_assets.operations.lifecycle import ModelState
from cvntrade_assets.operations.pipelines import PIPELINES
from cvntrade_assets.operations.severity import STATE_STANCES
from cvntrade_assets.operations.signals import SIGNALS
from cvntrade_assets.operations.taxonomy import TAXONOMY, Severity
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


# how things stand


def section(heading: str) -> str:
    [found] = re.findall(rf"^## {heading}\n(.*?)(?=^## )", README, re.MULTILINE | re.DOTALL)
    return str(found)


@pytest.mark.parametrize("name", SIGNALS)
def test_every_signal_is_told_with_its_scope_and_unit(name: str) -> None:
    golden, others = section("How things stand").split("Six more feed")
    rows = [line for line in (golden if SIGNALS[name].is_golden else others).splitlines() if line.startswith("|")]
    [row] = [[cell.strip() for cell in line.strip("|").split("|")] for line in rows if f"| `{name}` |" in line]
    assert (row[0], row[2]) == (str(SIGNALS[name].scope), SIGNALS[name].unit)


@pytest.mark.parametrize("state", State)
def test_every_state_is_told_with_who_is_told_of_it(state: State) -> None:
    told_to = row_of(state)[2]
    severity, owner = STATE_STANCES.get(state, (None, None))
    assert told_to == ("nobody" if owner is None else f"{owner}, {severity}")


@pytest.mark.parametrize("signal", STATE_SIGNALS)
def test_every_signal_of_the_state_stands_in_the_table_of_states(signal: str) -> None:
    assert any(f"`{signal}`" in row_of(state)[1] for state in State if state is not State.GREEN)


def comparable(text: str) -> str | float:
    return float(text) if re.fullmatch(r"-?[\d.]+", text) else text


def test_every_limit_that_is_told_is_the_default() -> None:
    told = dict(re.findall(r"(CVN_\w+) (-?[\d.]*\d|sms[\w,]+|slack[\w,]+|mail[\w,]+|btc-core)\b", README))
    assert {name: comparable(SETTINGS[name].default) for name in told} == {n: comparable(t) for n, t in told.items()}
    shown = re.compile(r"CVN_(SIGNAL|FRESHNESS|STATE|ALERT)_(?!KEEP_DAYS|LATENCY_RUNS|LATENCY_HISTORY)")
    assert {name for name in SETTINGS if shown.match(name)} - set(told) == set()


@pytest.mark.parametrize("severity", Severity)
def test_every_severity_has_its_time_limit(severity: Severity) -> None:
    [row] = [line for line in section("Alerts").splitlines() if line.startswith(f"| {severity} |")]
    assert row.split("|")[2].strip() == severity.time_limit


def test_every_dashboard_is_told() -> None:
    made = {json.loads(file.read_text())["title"] for file in (ROOT / "helm/cvntrade/files/dashboards").glob("*.json")}
    told = {line.split("|")[1].strip() for line in section("Dashboards").splitlines() if line.startswith("| ")}
    assert told - {"dashboard"} == made


def test_what_runs_by_itself_is_told() -> None:
    for each in (*SCHEDULES, *SENSORS):
        name = each.job_name if isinstance(each, dg.ScheduleDefinition) else each.name
        assert name in PIPELINES or f"`{name}`" in README, name
