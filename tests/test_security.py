"""docs/security.md: every threat names what is tested, and every test that it names exists."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = (ROOT / "docs/security.md").read_text()
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", DOCUMENT)))


def threats() -> list[list[str]]:
    """Cells of every row of the threat table."""
    table = DOCUMENT.split("| | threat |")[1].split("\n\n")[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]


@cache
def functions(file: str) -> set[str]:
    return {node.name for node in ast.walk(ast.parse((ROOT / file).read_text())) if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize(("file", "test"), NAMED)
def test_a_test_that_is_named_exists(file: str, test: str) -> None:
    assert (ROOT / file).is_file(), f"docs/security.md names {file}"
    assert test in functions(file), f"docs/security.md names {test}, which {file} does not have"


def test_every_threat_says_what_holds_and_which_test_says_so() -> None:
    rows = threats()
    assert len(rows) >= 30
    for row in rows:
        assert len(row) == 5, row
        kind, threat, holds, test, _ = row
        assert kind in {"S", "T", "R", "I", "D", "E"} and threat and holds, row
        assert re.fullmatch(r"`tests/[\w/]+\.py::test_\w+`(, `tests/[\w/]+\.py::test_\w+`)*", test), row


def test_every_kind_of_threat_was_thought_of() -> None:
    assert {row[0] for row in threats()} == set("STRIDE")
