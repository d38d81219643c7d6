"""Factors and variants on the command line: what is sent to Dagster, and what is refused before anything is touched."""

import os
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from scripted_webserver import Cvntrade, Webserver

from cvntrade_assets.operations.factors import FACTORS
from resources.warehouse import Warehouse

RECORD = "guardrail_evaluations"


def varied(factor: str, variant: str) -> tuple[str, ...]:
    """The options that choose one variant."""
    return "--factor", factor, "--variant", variant


BINARY_OFF = ("--set", "CVN_BINARY_CLASSIFICATION=0")
WRONG = [
    (varied("calibration", "isotone"), "factor calibration has no variant 'isotone'; it has sigmoid,"),
    (varied("caliber", "isotonic"), "factor 'caliber' does not exist; there are cusum_training_mode,"),
    (
        (*varied("threshold_method", "f1_binary"), *BINARY_OFF),
        "CVN_THRESHOLD_METHOD=f1_binary (layer factor) is defined for two classes only",
    ),
    (
        (*varied("hpo_objective", "f1_binary"), *varied("threshold_method", "expected_value"), *BINARY_OFF),
        "CVN_HPO_OBJECTIVE=f1_binary (layer factor) is defined for two classes only",
    ),
    (
        (*varied("sl_multiplier", "sl_1_5"), *varied("tp_multiplier", "tp_1_0")),
        "the take-profit (1 ATR) lies nearer than the stop-loss (1.5 ATR)",
    ),
    (("--set", "CVN_SL_MULT=inf"), "CVN_SL_MULT='inf' (layer run) is not valid: expected a number from 0.1 to 3"),
    (("--set", "CVN_TP_MULT=five"), "CVN_TP_MULT='five' (layer run) is not valid"),
    (("--set", "CVN_DEFAULT_PTE=H4_SL2.0_TP1.9"), "lies nearer than the stop-loss"),
    (("--set", "CVN_GUARDRAIL_MIN_ROWS=60"), "CVN_GUARDRAIL_MIN_ROWS cannot be set by a run"),
    (("--set", "CVN_CUSUM_TRAINING_MODE=enabled"), "CVN_CUSUM_TRAINING_MODE is retired"),
]
MISCOUNTED = [
    (("--factor", "calibration"), "--factor is given 1 times and --variant 0 times"),
    (("--variant", "isotonic"), "--factor is given 0 times and --variant 1 times"),
    (
        ("--factor", "calibration", "--factor", "cost", "--variant", "isotonic"),
        "--factor is given 2 times and --variant 1 times",
    ),
    (
        ("--factor", "cost", "--variant", "bps_10", "--factor", "cost", "--variant", "bps_40"),
        "--factor cost is given twice",
    ),
]


def launched(webserver: Webserver) -> dict[str, Any]:
    """What the one backfill was launched with."""
    [params] = [variables["params"] for query, variables in webserver.asked if "launchPartitionBackfill" in query]
    return dict(params)


def everything(warehouse: Warehouse) -> dict[str, list[dict[str, Any]]]:
    """Every row of every table of ours."""
    with warehouse.begin() as connection:
        names = sa.inspect(connection).get_table_names()
        found = {name: connection.execute(sa.text(f"select * from {name} order by 1")) for name in names}
        return {name: [dict(row) for row in rows.mappings()] for name, rows in found.items()}


def environment() -> tuple[dict[str, str], bytes]:
    return dict(os.environ), Path("/proc/self/environ").read_bytes()


@pytest.mark.parametrize(("arguments", "said"), WRONG)
def test_a_backfill_that_is_refused_leaves_everything_as_it_was(
    cvntrade: Cvntrade,
    webserver: Webserver,
    warehouse: Warehouse,
    arguments: tuple[str, ...],
    said: str,
) -> None:
    """No partition, no backfill, the environment the same to the byte; the refusal is on record."""
    before, process = everything(warehouse), environment()
    code, out, error = cvntrade("backfill", "--group", "btc-core", *arguments)
    assert environment() == process
    assert (code, out) == (2, "")
    assert said in error
    assert error.count("\n") == 1
    assert webserver.asked == []

    after = everything(warehouse)
    [*earlier, row] = after.pop(RECORD)
    assert earlier == before.pop(RECORD)
    assert after == before
    assert said in row["message"]
    assert (row["guardrail"], row["verdict"], row["source"]) == ("settings_valid", "blocked", "command")
    assert (row["run_id"], row["session"], row["crypto"], row["explicit"]) == (None, None, None, False)
    chosen = [given for option, given in pairwise(arguments) if option == "--factor"]
    assert row["factor"] == (", ".join(sorted(chosen)) or None)


def test_a_critical_factor_without_a_rollout_is_refused_and_on_record(
    cvntrade: Cvntrade, webserver: Webserver, warehouse: Warehouse
) -> None:
    chosen = varied("cusum_training_mode", "disabled")
    code, out, error = cvntrade("backfill", "--group", "btc-core", *chosen)
    assert (code, out, webserver.asked) == (2, "", [])
    assert "run `cvntrade rollout --factor cusum_training_mode --group GROUP` first" in error
    row = everything(warehouse)[RECORD][-1]
    assert (row["guardrail"], row["verdict"], row["source"]) == ("rollout_passed", "blocked", "command")
    assert (row["factor"], row["variant"]) == ("cusum_training_mode", "disabled")

    reason = "the crash of today, approved by @name"
    override = ("--set", "CVN_GUARDRAIL_OVERRIDE=1", "--set", f"CVN_GUARDRAIL_OVERRIDE_REASON={reason}")
    assert cvntrade("backfill", "--group", "btc-core", *chosen, *override)[0] == 0


@pytest.mark.parametrize(
    "command", [("backfill", "--group", "btc-core"), ("plan", "--group", "btc-core"), ("settings", "show")]
)
@pytest.mark.parametrize(("arguments", "said"), MISCOUNTED)
def test_every_factor_has_one_variant(
    cvntrade: Cvntrade,
    webserver: Webserver,
    command: tuple[str, ...],
    arguments: tuple[str, ...],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("DAGSTER_HOME", "CVN_PG_HOST", "CVN_PG_PORT", "CVN_PG_USER", "CVN_PG_PASSWORD", "CVN_COMPUTE_LOGS"):
        monkeypatch.setenv(name, "not-asked")
    monkeypatch.setenv("CVN_MAX_CONCURRENT_RUNS", "1")
    monkeypatch.setenv("CVN_RUNS_IN", "processes")
    code, out, error = cvntrade(*command, *arguments)
    assert (code, out) == (2, "")
    assert said in error
    assert webserver.asked == []


def test_a_backfill_carries_its_variants_in_run_config_and_tags(
    cvntrade: Cvntrade,
    webserver: Webserver,
) -> None:
    chosen = ("--factor", "cost", "--variant", "bps_10", "--factor", "calibration", "--variant", "isotonic")
    code, out, _ = cvntrade("backfill", "--group", "btc-core", *chosen, "--set", "CVN_SEED=7")
    assert (code, "warning" in out) == (0, False)
    sent = launched(webserver)
    config = sent["runConfigData"]["resources"]["run_settings"]["config"]
    assert config == {"settings": {"CVN_SEED": "7"}, "variants": {"calibration": "isotonic", "cost": "bps_10"}}
    assert {tag["key"]: tag["value"] for tag in sent["tags"]} == {
        "cvntrade/group": "btc-core",
        "cvntrade/factor": "calibration, cost",
        "cvntrade/variant": "isotonic, bps_10",
    }


def test_a_backfill_without_variants_is_launched_as_before(
    cvntrade: Cvntrade,
    webserver: Webserver,
) -> None:
    assert cvntrade("backfill", "--crypto", "BTCUSDC")[0] == 0
    sent = launched(webserver)
    assert "runConfigData" not in sent
    assert sent["tags"] == []


def test_an_overlap_is_told_and_runs(
    cvntrade: Cvntrade,
    webserver: Webserver,
    warehouse: Warehouse,
) -> None:
    recorded = everything(warehouse)[RECORD]
    overlap = (
        "--factor",
        "pte_envelope",
        "--variant",
        "h2_sl1_tp2",
        "--factor",
        "sl_multiplier",
        "--variant",
        "sl_0_8",
    )
    code, out, _ = cvntrade("backfill", "--crypto", "BTCUSDC", *overlap)
    assert code == 0
    told = " ".join(out.split())
    assert "warning: pte_envelope and sl_multiplier both move the stop-loss" in told
    assert launched(webserver)["runConfigData"]["resources"]["run_settings"]["config"]["variants"] == {
        "pte_envelope": "h2_sl1_tp2",
        "sl_multiplier": "sl_0_8",
    }
    assert everything(warehouse)[RECORD] == recorded


def test_settings_show_tells_the_variants_and_their_layer(
    cvntrade: Cvntrade,
    webserver: Webserver,
) -> None:
    code, out, _ = cvntrade("settings", "show", "--factor", "n_features", "--variant", "top_30")
    assert code == 0
    assert "Settings with n_features=top_30" in out
    [row] = [line for line in out.splitlines() if "CVN_MAX_FEA" in line]
    assert [cell.strip() for cell in row.split("│")][2:4] == ["30", "factor"]


def test_factors_are_listed_with_everything_that_one_must_know(
    cvntrade: Cvntrade,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("cvntrade_assets.cli.console.width", 400)
    code, out, _ = cvntrade("factors")
    assert code == 0
    for name, factor in FACTORS.items():
        first, *others = [line for line in out.splitlines() if line.strip("│ ").startswith(f"{name} ")]
        assert factor.category in first
        assert factor.kind in first
        assert (f"required: {factor.staged}" if factor.staged else "not required") in first
        assert factor.meaning in first
        for line, (variant, texts) in zip(others, factor.variants.items(), strict=True):
            assert f" {variant} " in line
            assert all(f"{key}={text}" in line for key, text in texts.items())


def test_listing_factors_needs_nothing_that_runs(
    cvntrade: Cvntrade,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.delenv("CVN_UI_URL", raising=False)
    monkeypatch.setenv("CVN_HOME", str(tmp_path / "nothing"))
    assert cvntrade("factors")[0] == 0
