"""`cvntrade discovery` and its like: what is sent to Dagster, what is refused, and how the end is told."""

import os
import signal
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from scripted_webserver import BRACKETS, Cvntrade, Webserver

from cvntrade_assets.operations.pipelines import PIPELINES
from resources.guardrail_log import session_of
from resources.warehouse import Warehouse

PARTITION = "dagster/partition"


def launched(webserver: Webserver) -> list[dict[str, Any]]:
    """What every run was launched with."""
    return [variables["params"] for query, variables in webserver.asked if "launchRun" in query]


def tags_of(params: dict[str, Any]) -> dict[str, str]:
    return {tag["key"]: tag["value"] for tag in params["executionMetadata"]["tags"]}


def a_run(crypto: str, status: str, run_id: str = "r1", began: float | None = 1.0, **tags: str) -> dict[str, Any]:
    """A run as the webserver tells it."""
    listed = [{"key": name, "value": text} for name, text in {PARTITION: crypto, **tags}.items()]
    return {"runId": run_id, "status": status, "startTime": began, "endTime": 2.0, "tags": listed, "stepStats": []}


@pytest.mark.parametrize("name", PIPELINES)
def test_a_group_is_one_run_a_crypto_of_the_named_job(cvntrade: Cvntrade, webserver: Webserver, name: str) -> None:
    options = ("--set", "sl_range=1.2,1.5", "--set", "CVN_SEED=7", "--factor", "calibration", "--variant", "isotonic")
    code, out, error = cvntrade(name, "--group", "btc-core", "--no-wait", "--force", *options)
    assert (code, error) == (0, "")
    first, second = launched(webserver)
    assert [params["selector"]["jobName"] for params in (first, second)] == [name, name]
    assert "assetSelection" not in first["selector"], "the whole job"
    given = {"settings": {"sl_range": "1.2,1.5", "CVN_SEED": "7"}, "variants": {"calibration": "isotonic"}}
    assert first["runConfigData"] == {"resources": {"run_settings": {"config": given}}}
    tags, others = tags_of(first), tags_of(second)
    assert (tags[PARTITION], others[PARTITION]) == ("BTCUSDC", "ETHUSDC")
    assert {key: text for key, text in tags.items() if key != PARTITION} == {
        key: text for key, text in others.items() if key != PARTITION
    }
    assert tags["cvntrade/group"] == "btc-core" and tags["cvntrade/force"] == "true"
    assert session_of("r1", tags) == tags["cvntrade/session"]
    page = urlsplit(next(word for word in out.split() if word.startswith("http")))
    assert (page.path, parse_qs(page.query)) == (
        "/runs",
        {"q[0]": [f"tag:cvntrade/session={tags['cvntrade/session']}"]},
    )
    assert "cvntrade status" in out


def test_two_sessions_have_two_names(cvntrade: Cvntrade, webserver: Webserver) -> None:
    for _ in range(2):
        cvntrade("discovery", "--crypto", "BTCUSDC", "--no-wait")
    first, second = (tags_of(params) for params in launched(webserver))
    assert first["cvntrade/session"] != second["cvntrade/session"]
    assert "cvntrade/group" not in first and "cvntrade/force" not in first


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--group", "btc-core", "--set", "sl_rage=1"), "sl_rage"),
        (("--group", "btc-core", "--set", "sl_range=9"), "CVN_SCREENING_SL_RANGE"),
        (
            ("--group", "btc-core", "--set", "sl_range=1", "--set", "CVN_SCREENING_SL_RANGE=1"),
            "sl_range and CVN_SCREENING_SL_RANGE are one setting",
        ),
        (("--group", "btc-core", "--set", "CVN_GATE_DSR=0"), "CVN_GATE_DSR cannot be set by a run"),
        (("--group", "btc-core", "--factor", "cusum_training_mode", "--variant", "disabled"), "cvntrade rollout"),
        (("--group", "nosuch"), "'nosuch'"),
        (("--crypto", "DOGEUSDC"), "DOGEUSDC"),
        ((), "--group G"),
    ],
)
def test_what_is_refused_starts_nothing(
    cvntrade: Cvntrade, webserver: Webserver, arguments: tuple[str, ...], said: str
) -> None:
    code, out, error = cvntrade("discovery", *arguments)
    assert (code, out) == (2, "")
    assert said in error
    assert not launched(webserver)


def test_a_refusal_is_on_record(cvntrade: Cvntrade, webserver: Webserver, warehouse: Warehouse) -> None:
    def refusals() -> int:
        with warehouse.begin() as connection:
            query = "select count(*) from guardrail_evaluations where guardrail = 'settings_valid'"
            return int(connection.exec_driver_sql(query).scalar_one())

    before = refusals()
    cvntrade("retrain", "--group", "btc-core", "--set", "hpo_trials=many")
    assert refusals() == before + 1


def test_a_launch_that_dagster_refuses_says_what_goes_on(cvntrade: Cvntrade, webserver: Webserver) -> None:
    answer = webserver.answer

    def second_is_refused(query: str) -> dict[str, Any]:
        if "launchRun" in query and len(launched(webserver)) == 2:
            return {"launchRun": {"__typename": "PythonError", "message": BRACKETS}}
        return answer(query)

    webserver.answer = second_is_refused  # type: ignore[method-assign]
    code, _, error = cvntrade("discovery", "--group", "btc-core")
    assert code == 2
    assert "discovery of ETHUSDC was not started" in error and BRACKETS in error
    assert "Started before, and going on: BTCUSDC." in error


def states(webserver: Webserver, *polls: list[dict[str, Any]]) -> Callable[[], None]:
    """The runs that the webserver tells of, poll by poll; the last ones from then on."""
    left = list(polls)

    def next_poll() -> None:
        webserver.runs = left.pop(0) if len(left) > 1 else left[0]

    return next_poll


def test_one_that_failed_does_not_end_the_waiting_and_is_told_at_the_end(
    cvntrade: Cvntrade, webserver: Webserver
) -> None:
    failed, going_on = a_run("BTCUSDC", "FAILURE"), a_run("ETHUSDC", "STARTED", "r2")
    webserver.on_poll = states(webserver, [failed], [failed, going_on], [failed, a_run("ETHUSDC", "SUCCESS", "r2")])
    code, out, error = cvntrade("discovery", "--group", "btc-core")
    assert (code, error) == (1, "")
    assert f"step candles: {BRACKETS}" in out and "BTCUSDC failed" in out
    assert "ETHUSDC failed" not in out
    assert "1 of 2 failed; `cvntrade status` shows" in out


def test_a_run_that_dagster_starts_again_is_waited_for(cvntrade: Cvntrade, webserver: Webserver) -> None:
    crashed = a_run("BTCUSDC", "FAILURE", **{"dagster/will_retry": "true"})
    retry = a_run("BTCUSDC", "QUEUED", "r2", began=None)
    ended = a_run("BTCUSDC", "SUCCESS", "r2", 3.0)
    webserver.on_poll = states(webserver, [crashed], [retry, crashed], [ended, crashed])
    code, out, _ = cvntrade("discovery", "--crypto", "BTCUSDC")
    assert code == 0 and "failed" not in out


def test_ctrl_c_leaves_the_runs(cvntrade: Cvntrade, webserver: Webserver) -> None:
    webserver.on_poll = lambda: os.kill(os.getpid(), signal.SIGINT)
    code, out, error = cvntrade("monitoring", "--crypto", "BTCUSDC")
    assert (code, error) == (130, "")
    assert "The runs go on; `cvntrade status` tells how they stand" in out


def test_up_takes_a_pipeline_that_exists_only(cvntrade: Cvntrade) -> None:
    code, out, error = cvntrade("up", "--run", "--pipeline", "discover")
    assert (code, out) == (2, "")
    assert "--pipeline 'discover' does not exist; there are discovery, backtesting" in error
