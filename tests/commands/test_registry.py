"""`cvntrade registry` on a real PostgreSQL."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from recorded_evaluation import record_evaluation_of
from scripted_webserver import Cvntrade, Webserver

from cvntrade_assets.operations.lifecycle import PIPELINE, ModelState
from cvntrade_assets.operations.taxonomy import Role
from resources.registry import Actor, NewModel, note_mirrored, register, require_model, transition
from resources.warehouse import Warehouse

FITTED, UNTIL = datetime(2025, 8, 22, tzinfo=UTC), datetime(2025, 9, 1, tzinfo=UTC)
REASON = "it lost money [/red] for a week"
RUN = Actor("the pipeline", PIPELINE, "it leads evaluation evaluation-1", "run-1")
ANN = Actor("ann", Role.MLOPS_MAINTAINER, REASON)


def new_model(crypto: str, rolling: str, market: str = "binance") -> NewModel:
    return NewModel(crypto, market, "H4_SL1.0_TP2.0", rolling, "ab" * 32, "evaluation-1", FITTED, UNTIL)


@pytest.fixture(scope="module")
def registered(warehouse: Warehouse) -> Warehouse:
    """BTC: a champion in MLflow and a candidate; ETH: a simulated challenger that MLflow does not show."""
    champion = new_model("BTCUSDC", "rolling-1")
    simulated = new_model("ETHUSDC", "rolling-1", "simulated")
    for new in (champion, simulated):
        record_evaluation_of(warehouse, new)
    model = transition(warehouse, register(warehouse, champion, RUN), ModelState.CHALLENGER, RUN)
    note_mirrored(warehouse, transition(warehouse, model, ModelState.CHAMPION, ANN), "7")
    register(warehouse, replace(champion, rolling_version="rolling-2"), RUN)
    transition(warehouse, register(warehouse, simulated, RUN), ModelState.CHALLENGER, RUN)
    return warehouse


def table_rows(written: str) -> list[list[str]]:
    return [
        [cell.strip() for cell in line.strip("│").split("│")] for line in written.splitlines() if line.startswith("│")
    ]


def test_every_model_is_listed_with_its_state_and_mark(
    webserver: Webserver, registered: Warehouse, cvntrade: Cvntrade
) -> None:
    code, out, err = cvntrade("registry", "list")
    assert (code, err) == (0, "")
    wanted = [(*row[:3], *row[4:7]) for row in table_rows(out) if row[0].endswith("USDC")]
    pte, fitted = "H4_SL1.0_TP2.0", "2025-08-22 00:00"
    assert wanted == [
        ("BTCUSDC", "2", "candidate", "binance", pte, fitted),
        ("BTCUSDC", "1", "champion", "binance", pte, fitted),
        ("ETHUSDC", "1", "challenger", "SIMULATED", pte, fitted),
    ]
    assert "MLflow does not show yet: ETHUSDC model 1. It is tried again until it does." in out
    assert "version 7" in out


def test_some_cryptos_are_listed(webserver: Webserver, registered: Warehouse, cvntrade: Cvntrade) -> None:
    code, out, _ = cvntrade("registry", "list", "--crypto", "ETHUSDC")
    assert code == 0 and "BTCUSDC" not in out and "SIMULATED" in out
    code, out, _ = cvntrade("registry", "list", "--crypto", "SOLUSDC")
    assert (code, out.strip()) == (0, "No model is registered for SOLUSDC: `cvntrade discovery` ends with one.")


def test_a_crypto_is_shown_with_every_event(webserver: Webserver, registered: Warehouse, cvntrade: Cvntrade) -> None:
    code, out, err = cvntrade("registry", "show", "--crypto", "BTCUSDC")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "BTCUSDC model 2  candidate  H4_SL1.0_TP2.0  binance"
    assert "  MLflow            not mirrored: never a challenger" in lines
    champion = lines[lines.index("BTCUSDC model 1  champion  H4_SL1.0_TP2.0  binance") :]
    assert champion[1:7] == [
        "  fitted until      2025-08-22 00:00 UTC",
        "  data until        2025-09-01 00:00 UTC",
        "  rolling backtest  rolling-1",
        "  evaluation        evaluation-1",
        f"  model.ubj         sha256 {'ab' * 32}",
        "  MLflow            version 7",
    ]
    assert [line.split("UTC  ")[1] for line in champion[7:]] == [
        "registered -> candidate  by the pipeline (pipeline): it leads evaluation evaluation-1",
        "candidate -> challenger  by the pipeline (pipeline): it leads evaluation evaluation-1",
        f"challenger -> champion  by ann (MLOps maintainer): {REASON}",
    ]


def test_what_mlflow_shows_in_an_older_state_is_said(
    webserver: Webserver, registered: Warehouse, cvntrade: Cvntrade
) -> None:
    new = new_model("XRPUSDC", "rolling-1")
    record_evaluation_of(registered, new)
    model = transition(registered, register(registered, new, RUN), ModelState.CHALLENGER, RUN)
    note_mirrored(registered, model, "3")
    archived = transition(registered, require_model(registered, model), ModelState.ARCHIVED, ANN)
    _, out, _ = cvntrade("registry", "show", "--crypto", "XRPUSDC")
    assert "version 3, an older state" in out
    note_mirrored(registered, archived, "3")
    _, out, _ = cvntrade("registry", "show", "--crypto", "XRPUSDC")
    assert "  MLflow            version 3\n" in out


def test_a_crypto_without_a_model_is_an_error_that_says_what_to_do(
    webserver: Webserver, registered: Warehouse, cvntrade: Cvntrade
) -> None:
    code, out, err = cvntrade("registry", "show", "--crypto", "SOLUSDC")
    assert (code, out) == (2, "")
    assert "no model of SOLUSDC is registered; `cvntrade registry list` names those that are." in err
