"""The README says what is there: guardrails, checks, tests, commands and files that it names exist."""

import re
from pathlib import Path

import pytest
from typer.main import get_command

from cvntrade_assets.cli import app
from cvntrade_assets.operations.guardrails import GUARDRAILS

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
