"""The commands as an operator types them, each a process of its own on a real stack."""

import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from live.live_stack import ASSETS, CRYPTO, DATABASES, LiveStack, as_options, cells, processes_of
from services import QUICK

from resources.embedded_postgres import free_port
from resources.warehouse import Warehouse

pytestmark = pytest.mark.live

NOT_DOWNSTREAM_OF_CUSUM = {"candles", "backtest_candles", "features", "labels"}

Finished = subprocess.CompletedProcess[str]


def planned(finished: Finished) -> dict[str, str]:
    """What a plan says of every asset."""
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return {row[1]: row[2] for row in cells(finished.stdout)}


def test_a_backfill_builds_everything_and_ends_with_a_table(built: Finished, stack: LiveStack) -> None:
    assert built.returncode == 0, built.stdout + built.stderr
    for asset in ASSETS:
        assert re.search(rf"^{asset} .* 1/1 ", built.stdout, re.MULTILINE), built.stdout
    [row] = cells(built.stdout)
    crypto, market, candles, rows, f1, baseline, before, after, trades, seconds, run = row
    assert (crypto, market, run) == (CRYPTO, "SIMULATED", "done")
    assert int(candles.replace(",", "")) == 123 * 48 and int(rows.replace(",", "")) > 100
    assert all(0.0 < float(text) < 1.0 for text in (f1, baseline, before, after)) and float(seconds) > 0
    assert (int(trades) == 0) == (f"{CRYPTO}: no trade" in built.stdout)
    assert f"{stack.addresses.ui_url}/runs/b/" in built.stdout


def test_the_backfill_stands_in_dagster_and_its_model_in_mlflow(built: Finished, stack: LiveStack) -> None:
    found = re.search(r"Backfill (\w+) of BTCUSDC", built.stdout)
    assert found
    query = "query($id: String!) { partitionBackfillOrError(backfillId: $id) { ... on PartitionBackfill { status } } }"
    assert stack.graphql(query, {"id": found[1]})["partitionBackfillOrError"]["status"] == "COMPLETED_SUCCESS"
    report = stack.api.latest_metadata(["test_report"], [CRYPTO])["test_report", CRYPTO]
    run = report["mlflow_run"].rsplit("/", 1)[1] if "mlflow_run" in report else None
    link = f"{stack.addresses.ui_url}/runs/{report['run_id']}"
    tagged = stack.sql("mlflow", "select run_uuid from tags where key = 'dagster_run_url' and value = %s", link)
    assert len(tagged) == 1 and run in (None, tagged[0][0])
    metrics = dict(stack.sql("mlflow", "select key, value from metrics where run_uuid = %s", tagged[0][0]))
    assert metrics["f1_buy"] == pytest.approx(report["f1_buy"])


def test_what_did_not_change_would_be_reused(built: Finished, stack: LiveStack) -> None:
    finished = stack.cli("backfill", "--dry-run", "--crypto", CRYPTO, *as_options(QUICK))
    assert planned(finished) == dict.fromkeys(ASSETS, "current")
    assert "0 of 12 assets would be built" in finished.stdout


def test_another_cusum_threshold_makes_the_training_set_onward_stale(built: Finished, stack: LiveStack) -> None:
    finished = stack.cli("plan", "--crypto", CRYPTO, *as_options({**QUICK, "CVN_CUSUM_THRESHOLD_H": "1.5"}))
    expected = {name: "current" if name in NOT_DOWNSTREAM_OF_CUSUM else "stale" for name in ASSETS}
    assert planned(finished) == expected
    [training_set] = [row for row in cells(finished.stdout) if row[1] == "training_set"]
    assert training_set[3] == "CVN_CUSUM_THRESHOLD_H changed from '1.0' to '1.5'"


def test_force_says_forced(built: Finished, stack: LiveStack) -> None:
    finished = stack.cli("plan", "--force", "--crypto", CRYPTO, "--select", "model+", *as_options(QUICK))
    assert planned(finished) == dict.fromkeys(("model", "calibration", "backtest", "test_report"), "forced")


def test_preflight_counts_and_judges_without_a_run(built: Finished, stack: LiveStack) -> None:
    before = len(stack.runs(CRYPTO))
    finished = stack.cli("preflight", "--crypto", CRYPTO, *as_options(QUICK))
    assert finished.returncode == 0, finished.stdout + finished.stderr
    [row] = cells(finished.stdout)
    crypto, variant, rows, features, memory, minutes, verdict = row[:7]
    assert (crypto, variant, features, verdict) == (CRYPTO, "", "10", "passed")
    assert int(rows.replace(",", "")) > 100 and float(memory) > 0 and float(minutes) > 0

    off = stack.cli("preflight", "--crypto", CRYPTO, "--factor", "cusum_training_mode", *as_options(QUICK))
    assert off.returncode == 1, "a factor that needs a rollout did not go through one"
    assert "rollout_passed" in off.stdout
    assert len(stack.runs(CRYPTO)) == before


def test_a_group_is_backfilled_under_its_tag(built: Finished, stack: LiveStack) -> None:
    """A group with a crypto that is built already, and one that nobody knew before."""
    listed = stack.cli("universe", "set", "pair", CRYPTO, "LTCUSDC")
    assert listed.returncode == 0 and ["pair", f"{CRYPTO}, LTCUSDC"] in cells(listed.stdout), listed.stdout
    finished = stack.cli("backfill", "--group", "pair", "--wait", *as_options(QUICK), seconds=240)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert {row[0] for row in cells(finished.stdout)} == {CRYPTO, "LTCUSDC"}

    found = re.search(r"Backfill (\w+) of", finished.stdout)
    assert found
    query = """query($id: String!) { partitionBackfillOrError(backfillId: $id) {
        ... on PartitionBackfill { status title partitionNames tags { key value } } } }"""
    backfill = stack.graphql(query, {"id": found[1]})["partitionBackfillOrError"]
    assert backfill["status"] == "COMPLETED_SUCCESS" and backfill["title"] == "pair: all assets"
    assert sorted(backfill["partitionNames"]) == [CRYPTO, "LTCUSDC"]
    assert {"key": "cvntrade/group", "value": "pair"} in backfill["tags"]
    runs = [stack.runs(crypto)[-1] for crypto in (CRYPTO, "LTCUSDC")]
    assert [status for _, status in runs] == ["SUCCESS", "SUCCESS"]
    assert [stack.tags(run)["cvntrade/group"] for run, _ in runs] == ["pair", "pair"]

    reused = {crypto: reused_by(stack, run) for crypto, (run, _) in zip((CRYPTO, "LTCUSDC"), runs, strict=True)}
    assert reused == {CRYPTO: set(ASSETS), "LTCUSDC": set()}


def reused_by(stack: LiveStack, run_id: str) -> set[str]:
    """The assets of which a run said that it reused them."""
    query = """query($id: ID!) { logsForRun(runId: $id, limit: 5000) { ... on EventConnection { events {
        ... on MaterializationEvent {
          assetKey { path } metadataEntries { label ... on BoolMetadataEntry { boolValue } } } } } } }"""
    events = stack.graphql(query, {"id": run_id})["logsForRun"]["events"]
    return {
        event["assetKey"]["path"][-1]
        for event in events
        if event and {"label": "reused", "boolValue": True} in event["metadataEntries"]
    }


def test_a_group_without_cryptos_is_gone(stack: LiveStack) -> None:
    assert stack.cli("universe", "set", "short-lived", "XLMUSDC").returncode == 0
    finished = stack.cli("universe", "set", "short-lived")
    assert finished.returncode == 0 and "short-lived" not in finished.stdout
    assert "btc-core" in finished.stdout


def test_settings_show_every_layer(stack: LiveStack) -> None:
    with closing(Warehouse(stack.addresses.warehouse_url)) as warehouse:
        warehouse.set_base_env({"CVN_SEED": "7", "CVN_MAX_FEATURES": "33"}, "an operator")
        try:
            finished = stack.cli("settings", "show", "--set", "CVN_MAX_FEATURES=44")
        finally:
            warehouse.set_base_env({"CVN_SEED": None, "CVN_MAX_FEATURES": None}, "an operator")
    assert finished.returncode == 0, finished.stderr
    shown = {row[0]: row[1:4] for row in cells(finished.stdout) if row[0].startswith("CVN_")}
    assert shown["CVN_SEED"] == ["7", "base_env", "42"]
    assert shown["CVN_MAX_FEATURES"] == ["44", "run", "60"]
    assert shown["CVN_TIMEFRAME"] == ["30m", "default", "30m"]


# Arguments, and what the one message must say.
REFUSED = {
    "unknown group": (("backfill", "--group", "nosuch"), ("'nosuch'", "btc-core", "cvntrade universe set nosuch")),
    "unknown crypto": (("plan", "--crypto", "DOGEUSDC"), ("DOGEUSDC", "BTCUSDC", "cvntrade universe set")),
    "neither": (("backfill",), ("--group G", "--crypto C")),
    "both": (("plan", "--group", "btc-core", "--crypto", CRYPTO), ("--group G", "not both")),
    "no value": (("backfill", "--crypto", CRYPTO, "--set", "CVN_SEED"), ("CVN_SEED", "KEY=VALUE")),
    "twice": (("settings", "show", "--set", "CVN_SEED=1", "--set", "CVN_SEED=2"), ("given twice", "'1'", "'2'")),
    "unknown key": (("backfill", "--crypto", CRYPTO, "--set", "CVN_SED=1"), ("CVN_SED", "CVN_SEED")),
    "ill typed": (("settings", "show", "--set", "CVN_SEED=many"), ("CVN_SEED='many'", "whole number", "'42'")),
    "retired": (
        ("plan", "--crypto", CRYPTO, "--set", "CVN_CUSUM_TRAINING_MODE=1"),
        ("CVN_CUSUM_TRAINING_ENABLED", "CVN_CUSUM_FILTER_MODE"),
    ),
    "unknown asset": (("backfill", "--crypto", CRYPTO, "--select", "nosuch+"), ("nosuch+", "training_set")),
    "bad selection": (("plan", "--crypto", CRYPTO, "--select", "model and ("), ("model and (", "training_set")),
    "group name": (("universe", "set", "BTC Core", CRYPTO), ("'BTC Core'", "lower-case")),
    "crypto name": (("universe", "set", "mine", "btc/usd"), ("btc/usd", "BTCUSDC")),
    "second up": (("up", "--no-run"), ("already runs", "http://127.0.0.1:", "CVN_HOME")),
}


@pytest.fixture(scope="module")
def refusals(stack: LiveStack) -> dict[str, Finished]:
    """What every refused command said; most of a command's time is imports, so two go at a time."""
    with ThreadPoolExecutor(2) as pool:
        finished = pool.map(lambda case: stack.cli(*case[0]), REFUSED.values())
        return dict(zip(REFUSED, finished, strict=True))


def is_one_message(finished: Finished) -> bool:
    return (
        finished.returncode == 2
        and finished.stdout == ""
        and finished.stderr.startswith("cvntrade: ")
        and finished.stderr.count("\n") == 1
        and "Traceback" not in finished.stderr
    )


@pytest.mark.parametrize("case", REFUSED)
def test_a_mistake_is_one_message_and_code_2(case: str, refusals: dict[str, Finished]) -> None:
    finished = refusals[case]
    assert is_one_message(finished), finished
    for part in REFUSED[case][1]:
        assert part in finished.stderr


def test_no_stack_is_one_message_and_code_2(stack: LiveStack, tmp_path: Path) -> None:
    finished = stack.cli("plan", "--crypto", CRYPTO, CVN_HOME=str(tmp_path))
    assert is_one_message(finished), finished
    assert str(tmp_path) in finished.stderr and "cvntrade up" in finished.stderr


def test_a_webserver_that_does_not_answer_is_one_message_and_code_2(stack: LiveStack) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    finished = stack.cli(
        "backfill", "--crypto", CRYPTO, CVN_UI_URL=nobody, CVN_WAREHOUSE_URL=stack.addresses.warehouse_url
    )
    assert is_one_message(finished), finished
    assert nobody in finished.stderr


def test_a_wrong_port_is_one_message_and_code_2(stack: LiveStack, tmp_path: Path) -> None:
    finished = stack.cli("up", "--no-run", CVN_HOME=str(tmp_path), CVN_UI_PORT="http")
    assert is_one_message(finished), finished
    assert "CVN_UI_PORT" in finished.stderr


def test_the_password_is_nowhere(built: Finished, refusals: dict[str, Finished], stack: LiveStack) -> None:
    """Not in an output, a log, an artifact, an argument of a process, or a row of any database."""
    for password in (stack.password(), *stack.role_passwords().values()):
        require_nowhere(password, built, refusals, stack)


def require_nowhere(password: str, built: Finished, refusals: dict[str, Finished], stack: LiveStack) -> None:
    assert len(password) >= 16
    outputs = [built, *refusals.values()]
    assert not [done.args for done in outputs if password in done.stdout + done.stderr]
    assert password not in stack.said()
    assert not [command for command in processes_of(stack.home).values() if password in command]
    files = [path for path in stack.home.rglob("*") if path.is_file() and stack.home / "postgres" not in path.parents]
    assert len(files) > 30
    assert not [path for path in files if password.encode() in path.read_bytes()]
    assert not {name: found for name in DATABASES if (found := tables_with(stack, name, password))}


def tables_with(stack: LiveStack, database: str, text: str) -> list[str]:
    """The tables of a database with a row that contains a text in any column."""
    tables = stack.sql(database, "select tablename from pg_tables where schemaname = 'public'")
    assert tables
    wanted = text.encode().hex()  # how bytes print
    query = 'select 1 from "{}" t where t::text like any (array[%s, %s]) limit 1'
    return [table for (table,) in tables if stack.sql(database, query.format(table), f"%{text}%", f"%{wanted}%")]
