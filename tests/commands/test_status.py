"""`cvntrade status` on real records of Dagster and of evaluations, with nobody at the webserver's address."""

import shlex
import subprocess
import sys

import dagster as dg
import pandas as pd
import pytest
from dagster_on_postgres import instance, run_job
from morning_rows import store_a_state, store_an_alert, store_signals
from scripted_webserver import BRACKETS, Cvntrade, Webserver

from cvntrade_assets.operations.global_state import State
from cvntrade_assets.operations.signals import Level
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


# the state


@pytest.mark.parametrize(
    ("state", "expected"), [(State.GREEN, 0), (State.YELLOW, 0), (State.ORANGE, 1), (State.RED, 1)]
)
def test_the_first_line_is_the_state_and_so_is_the_exit_code(
    instance: dg.DagsterInstance, cvntrade: Cvntrade, nobody: str, warehouse: Warehouse, state: State, expected: int
) -> None:
    store_a_state(warehouse, state, pd.Timestamp.now("UTC"), "pass_rate is critical: [0] passed")
    code, out, error = cvntrade("status")
    assert (code, error) == (expected, "")
    first, *rest = out.splitlines()
    assert first.startswith(f"{state} since ")
    assert (state is State.GREEN) or rest[0].strip() == f"{state}: pass_rate is critical: [0] passed"


def test_a_state_that_nobody_computes_any_more_is_unknown(
    instance: dg.DagsterInstance, cvntrade: Cvntrade, nobody: str, warehouse: Warehouse
) -> None:
    store_a_state(warehouse, State.RED, pd.Timestamp.now("UTC") - pd.Timedelta("16min"), "full")
    code, out, _ = cvntrade("status")
    first, command, *_ = out.splitlines()
    assert code == 0 and first.startswith("UNKNOWN: nothing was computed since ")
    assert command.strip() == "cvntrade watchdog --once"


def test_signals_alerts_and_what_to_do_are_told(
    instance: dg.DagsterInstance, cvntrade: Cvntrade, nobody: str, warehouse: Warehouse
) -> None:
    warehouse.seed_universes()
    now = pd.Timestamp.now("UTC")
    store_signals(
        warehouse, now, {("model_overdue", "BTCUSDC"): Level.OK, ("model_overdue", "ADAUSDC"): Level.CRITICAL}
    )
    store_an_alert(warehouse, now)
    _, out, _ = cvntrade("status")
    lines = [line.strip() for line in out.splitlines()]
    assert "model_overdue: 1 of 6 fresh" in lines
    assert "critical: ADAUSDC (3.0 days)" in lines
    assert any(
        line.startswith("P2 ML owner, since") and "acknowledged by nobody: `cvntrade ack" in line for line in lines
    )
    assert any(line.startswith("P2 ML owner, within the day: retrain it") for line in lines)
    assert any(line.startswith("undelivered: 1, the oldest since") for line in lines)


def test_signals_that_are_too_old_are_unknown(
    instance: dg.DagsterInstance, cvntrade: Cvntrade, nobody: str, warehouse: Warehouse
) -> None:
    old = pd.Timestamp.now("UTC") - pd.Timedelta("16min")
    store_signals(warehouse, old, {("infra_health", ""): Level.OK})
    _, out, _ = cvntrade("status")
    assert "infra_health: unknown, last observed 16 minutes ago (ok: " in out


def test_settings_that_no_run_could_use_do_not_hide_what_failed(
    instance: dg.DagsterInstance, cvntrade: Cvntrade, nobody: str, warehouse: Warehouse
) -> None:
    run(instance, "ADAUSDC", "one", fails=ValueError("early"))
    warehouse.set_base_env({"CVN_SEED": "many"}, "a test")
    code, out, error = cvntrade("status")
    warehouse.set_base_env({"CVN_SEED": None}, "a test")
    assert (code, error) == (1, "")
    assert out.startswith("UNKNOWN: the settings in force cannot be used: ") and "CVN_SEED" in out.splitlines()[0]
    assert "failed     ADAUSDC in walk_forward" in out


def test_it_needs_nothing_that_takes_long_to_import() -> None:
    program = """if True:
        import sys
        import cvntrade_assets.cli
        from cvntrade_assets.commands.connection import connect
        from cvntrade_assets.commands.status import status
        print(*sorted({name.partition(".")[0] for name in sys.modules}))
    """
    imported = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout.split()
    assert "pandas" in imported
    heavy = {"dagster", "mlflow", "numba", "pandera", "scipy", "sklearn", "xgboost", "optuna", "apprise", "requests"}
    assert heavy.isdisjoint(imported)
