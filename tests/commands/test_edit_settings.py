"""`cvntrade settings set` and `unset`, `stop` and `migrate`, on a real PostgreSQL and a scripted webserver."""

import getpass
import os
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
import sqlalchemy as sa
from scripted_webserver import Cvntrade, Webserver
from services import create_database

from resources.deployment import schema_revisions
from resources.embedded_postgres import EmbeddedPostgres
from resources.tables import BASE_ENV
from resources.warehouse import Warehouse

RUN = "0f7b6f5e-6a39-4bb1-9c1e-1f4b7c0a5d11"


class RunsWebserver(Webserver):
    """Knows one run, and ends it when it is told to, as far as the test lets it."""

    def __init__(self) -> None:
        super().__init__()
        self.run_status = "STARTED"
        self.policies: list[str] = []
        self.obeys = True

    def answer(self, query: str) -> dict[str, Any]:
        if "terminateRuns" in query:
            self.run_status = "CANCELED" if self.obeys else self.run_status
            kind = {"__typename": "TerminateRunSuccess"}
            refusal = {"__typename": "TerminateRunFailure", "message": "Unable to terminate run"}
            results = [kind if self.obeys else refusal]
            return {"terminateRuns": {"__typename": "TerminateRunsResult", "terminateRunResults": results}}
        if "runOrError" in query:
            return {"runOrError": {"__typename": "Run", "status": self.run_status}}
        return super().answer(query)


@pytest.fixture
def webserver(monkeypatch: pytest.MonkeyPatch, warehouse_url: str, warehouse: Warehouse) -> Iterator[RunsWebserver]:
    with warehouse.begin() as connection:
        connection.execute(sa.text("delete from base_env"))
    with RunsWebserver() as server:
        monkeypatch.setenv("CVN_UI_URL", server.url)
        monkeypatch.setenv("CVN_WAREHOUSE_URL", warehouse_url)
        yield server


def history(warehouse: Warehouse) -> list[tuple[Any, ...]]:
    query = "select key, old_value, new_value, author, reason from base_env_history order by id"
    with warehouse.begin() as connection:
        return [tuple(row) for row in connection.execute(sa.text(query))]


def test_a_key_is_set_and_unset_with_author_and_reason(
    cvntrade: Cvntrade, webserver: RunsWebserver, warehouse: Warehouse
) -> None:
    before = len(history(warehouse))
    code, out, _ = cvntrade("settings", "set", "CVN_CUSUM_THRESHOLD_H", "2", "--reason", "more rows for the pilot")
    assert code == 0 and "CVN_CUSUM_THRESHOLD_H: not set → '2.0'" in out
    assert warehouse.base_env() == {"CVN_CUSUM_THRESHOLD_H": "2.0"}
    code, out, _ = cvntrade("settings", "unset", "CVN_CUSUM_THRESHOLD_H", "--reason", "pilot is over")
    assert code == 0 and "CVN_CUSUM_THRESHOLD_H: '2.0' → not set" in out
    assert warehouse.base_env() == {}
    me = getpass.getuser()
    assert history(warehouse)[before:] == [
        ("CVN_CUSUM_THRESHOLD_H", None, "2.0", me, "more rows for the pilot"),
        ("CVN_CUSUM_THRESHOLD_H", "2.0", None, me, "pilot is over"),
    ]


def test_a_user_without_a_name_is_known_by_his_number(
    cvntrade: Cvntrade, webserver: RunsWebserver, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 4_000_000)
    assert cvntrade("settings", "set", "CVN_SEED", "7", "--reason", "from a pod")[0] == 0
    assert history(warehouse)[-1] == ("CVN_SEED", None, "7", "uid 4000000", "from a pod")


def test_keys_that_only_go_together_are_set_together(
    cvntrade: Cvntrade, webserver: RunsWebserver, warehouse: Warehouse
) -> None:
    reason = ("--reason", "longer test slice")
    code, _, error = cvntrade("settings", "set", "CVN_SLICE_TEST", "0.17", *reason)
    assert code == 2 and "must add up to 1" in error
    assert warehouse.base_env() == {}
    pairs = ("CVN_SLICE_TEST", "0.17", "CVN_SLICE_TRAIN", "0.70")
    assert cvntrade("settings", "set", *pairs, *reason)[0] == 0
    assert warehouse.base_env() == {"CVN_SLICE_TEST": "0.17", "CVN_SLICE_TRAIN": "0.7"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("set", "CVN_SEEDS", "7", "--reason", "x"), "CVN_SEEDS is not a setting"),
        (("set", "CVN_SEED", "seven", "--reason", "x"), "whole number"),
        (("set", "CVN_GUARDRAIL_OVERRIDE", "1", "--reason", "x"), "CVN_GUARDRAIL_OVERRIDE cannot be set by operators"),
        (("set", "CVN_SEED", "7", "--reason", "  "), "--reason is empty"),
        (("set", "CVN_SEED", "7", "CVN_MARKET", "--reason", "x"), "KEY VALUE"),
        (("set", "CVN_SEED", "7", "CVN_SEED", "8", "--reason", "x"), "given twice"),
        (("unset", "CVN_SEED", "--reason", "x"), "CVN_SEED is not in base_env"),
    ],
)
def test_what_cannot_be_set_is_one_message_and_changes_nothing(
    cvntrade: Cvntrade, webserver: RunsWebserver, warehouse: Warehouse, arguments: tuple[str, ...], said: str
) -> None:
    before = history(warehouse)
    code, out, error = cvntrade("settings", *arguments)
    assert (code, out) == (2, "")
    assert said in error and error.count("\n") == 1
    assert warehouse.base_env() == {} and history(warehouse) == before


def test_a_change_without_a_reason_is_refused(cvntrade: Cvntrade, webserver: RunsWebserver) -> None:
    code, _, error = cvntrade("settings", "set", "CVN_SEED", "7")
    assert code == 2 and "--reason" in error


def test_a_key_that_this_code_does_not_know_can_be_unset(
    cvntrade: Cvntrade, webserver: RunsWebserver, warehouse: Warehouse
) -> None:
    warehouse.set_base_env({"CVN_OF_OLD": "1"}, "somebody")
    assert cvntrade("settings", "unset", "CVN_OF_OLD", "--reason", "nobody reads it")[0] == 0
    assert warehouse.base_env() == {}


def test_a_secret_that_came_past_the_checks_is_not_shown_when_it_is_removed(
    cvntrade: Cvntrade, webserver: RunsWebserver, warehouse: Warehouse
) -> None:
    with warehouse.begin() as connection:
        row = {"key": "CVN_API_TOKEN", "value": "settings-canary", "updated_by": "somebody"}
        connection.execute(sa.insert(BASE_ENV).values(row))
    code, out, error = cvntrade("settings", "unset", "CVN_API_TOKEN", "--reason", "secrets do not belong there")
    assert (code, error) == (0, "") and "CVN_API_TOKEN: '***' → not set" in out
    assert "settings-canary" not in out and warehouse.base_env() == {}


def test_a_key_that_the_others_need_stays(cvntrade: Cvntrade, webserver: RunsWebserver, warehouse: Warehouse) -> None:
    pairs = {"CVN_BINARY_CLASSIFICATION": "0", "CVN_THRESHOLD_METHOD": "expected_value"}
    warehouse.set_base_env(pairs, "somebody")
    code, _, error = cvntrade("settings", "unset", "CVN_THRESHOLD_METHOD", "--reason", "the default will do")
    assert code == 2 and "is defined for two classes only" in error
    assert warehouse.base_env() == pairs
    assert cvntrade("settings", "unset", *pairs, "--reason", "two classes again")[0] == 0


def test_a_table_that_no_run_can_use_is_mended_key_by_key(
    cvntrade: Cvntrade, webserver: RunsWebserver, warehouse: Warehouse
) -> None:
    warehouse.set_base_env({"CVN_OF_OLD": "1", "CVN_OF_OLDER": "1"}, "somebody")
    assert cvntrade("settings", "unset", "CVN_OF_OLD", "--reason", "nobody reads it")[0] == 0
    assert warehouse.base_env() == {"CVN_OF_OLDER": "1"}


# Runs


def test_a_run_is_stopped(cvntrade: Cvntrade, webserver: RunsWebserver) -> None:
    code, out, _ = cvntrade("stop", RUN)
    assert (code, out) == (0, f"run {RUN}: CANCELED\n")


def test_a_run_that_has_ended_stays_as_it_ended(cvntrade: Cvntrade, webserver: RunsWebserver) -> None:
    webserver.run_status = "SUCCESS"
    code, out, _ = cvntrade("stop", RUN, RUN)
    assert (code, out) == (0, f"run {RUN} had ended already: SUCCESS\n")


def test_a_run_that_nobody_can_end_says_what_to_do(cvntrade: Cvntrade, webserver: RunsWebserver) -> None:
    webserver.obeys = False
    code, out, error = cvntrade("stop", RUN)
    assert (code, out) == (2, "")
    assert "Unable to terminate run" in error and "cvntrade stop --force RUN_ID" in error


def test_half_an_id_is_refused(cvntrade: Cvntrade, webserver: RunsWebserver) -> None:
    code, _, error = cvntrade("stop", RUN[:8])
    assert code == 2 and "not a run's whole id" in error


# Migrations


def test_an_empty_database_is_migrated_to_the_newest(
    cvntrade: Cvntrade, webserver: RunsWebserver, monkeypatch: pytest.MonkeyPatch, postgres_server: EmbeddedPostgres
) -> None:
    url = create_database(postgres_server)
    monkeypatch.setenv("CVN_WAREHOUSE_URL", url)
    with closing(Warehouse(url)) as empty:
        applied, newest = schema_revisions(empty)
        assert applied is None
        assert cvntrade("migrate")[0] == 0
        assert schema_revisions(empty) == (newest, newest)
