"""Where a running stack is found: believed only while its writer lives, and never with a secret in it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from cvntrade_assets.local.addresses import Addresses, AlreadyRunningError, Database, only_stack_on, read_addresses
from cvntrade_assets.local.options import PROJECT, OptionError, stack_options

DATABASE = Database("127.0.0.1", 5555, "cvntrade", "s3cret/@word")


def addresses(home: Path) -> Addresses:
    return Addresses(home, DATABASE, ui_port=3001, code_server_port=4001, mlflow_port=5001, pid=os.getpid())


def in_another_process(home: Path, code: str) -> str:
    imports = "import sys\nfrom pathlib import Path\nfrom cvntrade_assets.local.addresses import *\n"
    script = f"{imports}home = Path(sys.argv[1])\n{code}"
    answer = subprocess.run(
        [sys.executable, "-c", script, str(home)], capture_output=True, text=True, cwd=PROJECT, check=True
    )
    return answer.stdout


def test_a_running_stack_is_found_from_another_process(tmp_path: Path) -> None:
    with only_stack_on(tmp_path):
        addresses(tmp_path).publish({"daemon": 17})
        found = in_another_process(
            tmp_path, "a = read_addresses(home, {'CVN_PG_PASSWORD': 'x'}); print(a.ui_url, a.pids, a.database.password)"
        )
    assert found == "http://127.0.0.1:3001 {'daemon': 17} x\n"


def test_a_stack_file_left_by_a_killed_stack_is_not_believed(tmp_path: Path) -> None:
    with only_stack_on(tmp_path):
        left_behind = addresses(tmp_path).publish({})
    left_behind.publish({})
    assert (tmp_path / "stack.json").exists()
    assert read_addresses(tmp_path, {"CVN_PG_PASSWORD": "x"}) is None


def test_a_home_without_a_stack_has_no_addresses(tmp_path: Path) -> None:
    assert read_addresses(tmp_path / "nothing", {}) is None


def test_a_second_stack_is_told_about_the_first(tmp_path: Path) -> None:
    with only_stack_on(tmp_path):
        addresses(tmp_path).publish({})
        refused = in_another_process(
            tmp_path, "try:\n  only_stack_on(home).__enter__()\nexcept AlreadyRunningError as error: print(error)"
        )
    assert f"already runs on {tmp_path}: http://127.0.0.1:3001 (process {os.getpid()})" in refused
    assert not (tmp_path / "stack.json").exists()


def test_a_stack_that_is_still_starting_is_said(tmp_path: Path) -> None:
    with (
        only_stack_on(tmp_path),
        pytest.raises(AlreadyRunningError, match="starting or stopping"),
        only_stack_on(tmp_path),
    ):
        pass


def test_no_secret_in_the_file_or_in_what_is_printed(tmp_path: Path) -> None:
    published = addresses(tmp_path).publish({})
    assert "s3cret" not in (tmp_path / "stack.json").read_text()
    assert "s3cret" not in repr(published)


def test_a_password_with_any_character_stands_in_the_url_quoted(tmp_path: Path) -> None:
    assert (
        addresses(tmp_path).warehouse_url == "postgresql+psycopg2://cvntrade:s3cret%2F%40word@127.0.0.1:5555/cvntrade"
    )


def test_every_variable_of_the_two_yaml_files_is_set(tmp_path: Path) -> None:
    named: set[str] = set()

    def collect(part: object) -> None:
        if isinstance(part, dict):
            if set(part) == {"env"}:
                named.add(part["env"])
            for value in part.values():
                collect(value)
        if isinstance(part, list):
            for value in part:
                collect(value)

    for file in ("dagster.yaml", "workspace.yaml"):
        collect(yaml.safe_load((PROJECT / file).read_text()))
    assert named
    assert named <= set(addresses(tmp_path).environment({}))


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"CVN_UI_PORT": "http"}, "CVN_UI_PORT is 'http'"),
        ({"CVN_UI_PORT": "70000"}, "between 1 and 65535"),
        ({"CVN_PG_HOST": "db"}, "without CVN_PG_USER and without CVN_PG_PASSWORD"),
    ],
)
def test_an_unusable_variable_is_named(environment: dict[str, str], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        stack_options(environment)


def test_an_external_database_is_taken_as_named() -> None:
    options = stack_options({"CVN_PG_HOST": "db", "CVN_PG_USER": "u", "CVN_PG_PASSWORD": "p"})
    assert options.database == Database("db", 5432, "u", "p")
