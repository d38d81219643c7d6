"""`cvntrade status` on real records of Dagster and of evaluations, with nobody at the webserver's address."""

import shlex

import dagster as dg
import pytest
from dagster_on_postgres import instance, run_job
from scripted_webserver import BRACKETS, Cvntrade, Webserver

from resources.embedded_postgres import EmbeddedPostgres, free_port
from resources.warehouse import Warehouse

__all__ = ["instance"]

GIVEN = {"sl_range": "1.2,1.5", "CVN_SEED": "7"}


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch, warehouse_url: str, warehouse: Warehouse) -> str:
    """An address at which no webserver answers, and which the command line is told of."""
    address = f"http://127.0.0.1:{free_port()}"
    monkeypatch.setenv("CVN_UI_URL", address)
    monkeypatch.setenv("CVN_WAREHOUSE_URL", warehouse_url)
    return address


def run(instance: dg.DagsterInstance, crypto: str, session: str, job: str = "discovery", **more: object) -> str:
    tags = {"cvntrade/session": session, "cvntrade/group": "defi"}
    return run_job(instance, job, crypto, settings=GIVEN, tags=tags, **more)  # type: ignore[arg-type]


def test_what_failed_is_named_with_its_reason_and_its_command_though_no_webserver_answers(
    instance: dg.DagsterInstance, cvntrade: Cvntrade, nobody: str
) -> None:
    run(instance, "BTCUSDC", "one")
    failed = run(instance, "ADAUSDC", "one", fails=dg.Failure(BRACKETS))
    code, out, error = cvntrade("status")
    assert (code, error) == (1, "")
    assert f"The webserver at {nobody} does not answer; what follows is read from PostgreSQL." in out
    lines = [line.strip() for line in out.splitlines()]
    assert any(line.startswith("discovery") and "session one, group defi" in line for line in lines)
    assert any(line.endswith(" --set CVN_SEED=7 --set sl_range=1.2,1.5") for line in lines), "what it was given"
    assert "succeeded  BTCUSDC" in lines
    told = lines.index(f"failed     ADAUSDC in walk_forward; {nobody}/runs/{failed}")
    assert lines[told + 1] == BRACKETS
    settings = [part for name in sorted(GIVEN) for part in ("--set", f"{name}={GIVEN[name]}")]
    assert shlex.split(lines[told + 2]) == ["cvntrade", "discovery", "--crypto", "ADAUSDC", *settings]
    assert "Never run: backtesting, walkforward, retrain, monitoring." in lines


@pytest.mark.parametrize(
    "reason",
    [
        "walk_forward of ADAUSDC refuses its inputs: screening_matrix was built with CVN_SEED='8'.",
        "screening_matrix of ADAUSDC, version ab12, is refused as an input. check schema failed: no.",
        "screening_matrix of ADAUSDC was never built. Build it.",
    ],
)
def test_a_run_that_was_refused_its_inputs_is_resumed_by_the_discovery_that_builds_them(
    instance: dg.DagsterInstance, cvntrade: Cvntrade, nobody: str, reason: str
) -> None:
    run(instance, "ADAUSDC", "one", job="backtesting", fails=dg.Failure(reason))
    _, out, _ = cvntrade("status")
    assert "cvntrade discovery --crypto ADAUSDC --set CVN_SEED=7 --set sl_range=1.2,1.5" in out
    assert "cvntrade backtesting --crypto" not in out


def test_a_webserver_that_answers_is_not_mentioned(
    instance: dg.DagsterInstance, cvntrade: Cvntrade, webserver: Webserver
) -> None:
    run(instance, "BTCUSDC", "one")
    code, out, error = cvntrade("status")
    assert (code, error) == (0, "")
    assert "does not answer" not in out and "succeeded  BTCUSDC" in out


def test_a_failure_of_an_earlier_session_stays_until_its_crypto_succeeds(
    instance: dg.DagsterInstance, cvntrade: Cvntrade, nobody: str
) -> None:
    run(instance, "ADAUSDC", "one", fails=ValueError("early"))
    run(instance, "BTCUSDC", "two")
    code, out, _ = cvntrade("status")
    assert code == 1 and "session two" in out and "failed     ADAUSDC in walk_forward (on " in out
    run(instance, "ADAUSDC", "three")
    code, out, _ = cvntrade("status")
    assert code == 0 and "failed" not in out


def test_nothing_ever_ran(instance: dg.DagsterInstance, cvntrade: Cvntrade, nobody: str) -> None:
    code, out, error = cvntrade("status")
    assert (code, error) == (0, "")
    assert "Never run: discovery, backtesting, walkforward, retrain, monitoring." in out
    assert "No crypto has been judged yet: `cvntrade discovery --group G`." in out


def test_no_postgres_is_one_message(
    cvntrade: Cvntrade, nobody: str, monkeypatch: pytest.MonkeyPatch, postgres_server: EmbeddedPostgres
) -> None:
    address = f"postgresql+psycopg2://cvntrade:{postgres_server.password}@127.0.0.1:{free_port()}/cvntrade"
    monkeypatch.setenv("CVN_WAREHOUSE_URL", address)
    code, out, error = cvntrade("status")
    assert (code, out) == (2, "")
    assert error.count("\n") == 1 and "PostgreSQL" in error
    assert postgres_server.password not in error
