"""Which code a process says it runs, and how it says so to PostgreSQL."""

import os
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import sqlalchemy as sa
from services import create_database

from resources.code_version import (
    NAME_BYTES,
    PACKAGES,
    code_version,
    connection_name,
    process_role,
    read_connection_name,
    source_digest,
    source_files,
)
from resources.embedded_postgres import EmbeddedPostgres
from resources.warehouse import Warehouse

ROOT = Path(__file__).resolve().parents[2]


def digest(root: Path) -> str:
    return source_digest(root, source_files(root))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for package in PACKAGES:
        (tmp_path / package / "inner").mkdir(parents=True)
        (tmp_path / package / "inner" / "code.py").write_text("x = 1\n")
    return tmp_path


def test_the_digest_knows_every_source_file_and_nothing_else(tree: Path) -> None:
    before = digest(tree)
    (tree / "resources" / "notes.txt").write_text("later")
    (tree / "tests").mkdir()
    (tree / "tests" / "test_it.py").write_text("")
    assert digest(tree) == before
    (tree / "resources" / "more.py").write_text("")
    added = digest(tree)
    assert added != before
    (tree / "resources" / "more.py").rename(tree / "resources" / "other.py")
    assert digest(tree) not in (before, added)
    (tree / "resources" / "other.py").unlink()
    assert digest(tree) == before
    (tree / "asset_checks" / "inner" / "code.py").write_text("x = 2\n")
    assert digest(tree) != before


def test_the_digest_does_not_depend_on_where_the_code_is(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "copy"
    shutil.copytree(tree, elsewhere)
    assert digest(elsewhere) == digest(tree)


def test_a_process_that_was_started_from_these_files_says_so() -> None:
    code = "from resources.code_version import code_version; print(code_version())"
    said = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert said.strip() == f"{version('cvntrade-assets')}+{digest(ROOT)}"


def test_files_edited_after_they_were_loaded_are_not_what_runs(tree: Path) -> None:
    shutil.copy(ROOT / "resources" / "code_version.py", tree / "resources" / "code_version.py")
    code = (
        "import sys, pathlib; sys.path.insert(0, '.'); import resources.code_version as it;"
        "assert pathlib.Path(it.__file__).parent.parent == pathlib.Path.cwd(), it.__file__;"
        "{edit} print(it.code_version())"
    )
    edit = "import time; time.sleep(0.05); pathlib.Path('resources/inner/code.py').write_text('x = 3');"

    def said(more: str) -> str:
        command = [sys.executable, "-c", code.format(edit=more)]
        return subprocess.run(command, cwd=tree, capture_output=True, text=True, check=True).stdout.strip()

    assert said("") == f"{version('cvntrade-assets')}+{digest(tree)}"
    assert said(edit) == f"{version('cvntrade-assets')}+edited"
    assert said("") == f"{version('cvntrade-assets')}+{digest(tree)}"


@pytest.mark.parametrize(
    ("arguments", "is_spawned", "role"),
    [
        (["dagster-webserver", "--port", "3000"], False, "webserver"),
        (["/usr/local/bin/dagster-daemon", "run"], False, "daemon"),
        (["dagster", "api", "grpc", "--port", "1"], False, "code-server"),
        (["/lib/python/dagster/__main__.py", "api", "grpc"], False, "code-server"),
        (["/usr/local/bin/dagster", "api", "execute_run", "{}"], False, "run"),
        (["dagster", "api", "grpc", "--port", "1"], True, "run"),
        (["/srv/cvntrade_assets/__main__.py", "plan"], False, "command"),
        (["/venv/bin/cvntrade", "doctor"], False, "command"),
        (["/srv/my script.py"], False, "my-script"),
        ([], False, "python"),
        (["dagster", "api"], False, "command"),
    ],
)
def test_a_process_is_told_by_its_command_line(arguments: list[str], is_spawned: bool, role: str) -> None:
    assert process_role(arguments, is_spawned=is_spawned) == role


def test_a_connection_says_who_it_is_and_can_be_read_back() -> None:
    name = connection_name()
    assert len(name.encode()) <= NAME_BYTES
    found = read_connection_name(name)
    assert found is not None
    assert found[1:3] == (code_version(), os.getpid())


@pytest.mark.parametrize("name", ["", "psql", "cvntrade", "cvntrade run 0.1.0+aa x@host", "other run 0.1.0+aa 1@host"])
def test_others_connections_are_not_ours(name: str) -> None:
    assert read_connection_name(name) is None


def test_postgresql_shows_the_name(postgres_server: EmbeddedPostgres) -> None:
    warehouse = Warehouse(create_database(postgres_server))
    with warehouse.begin() as connection:
        assert connection.scalar(sa.text("select current_setting('application_name')")) == connection_name()
    warehouse.close()
