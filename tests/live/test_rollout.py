"""`cvntrade rollout` on a real stack: interrupted, continued and passed; and one that its first gate stops."""

import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing

import pytest
from live.live_stack import ASSETS, CRYPTO, ROOT, LiveStack, as_options
from polling import until
from services import QUICK

from resources.warehouse import Warehouse

pytestmark = pytest.mark.live

Finished = subprocess.CompletedProcess[str]

GROUP, NEW = "rolled", "XRPUSDC"
FACTOR, VARIANTS = "focal_loss", ("off", "gamma_1")
TYPED = (
    "rollout",
    "--factor",
    FACTOR,
    "--group",
    GROUP,
    "--variant",
    "off",
    "--variant",
    "gamma_1",
    *as_options(QUICK),
)


def current(stack: LiveStack, crypto: str) -> dict[str, str]:
    """The version that stands as current of every asset of a crypto."""
    found = stack.api.latest_metadata(ASSETS, [crypto])
    return {asset: entries["version"] for (asset, _), entries in found.items()}


def gates(stack: LiveStack, factor: str) -> list[tuple[str, str, bool, list[tuple[str, str, str]]]]:
    """(rollout, stage, passed, runs as (crypto, variant, status)) of a factor's verdicts, oldest first."""
    query = "select rollout, stage, passed, runs from rollout_gates where factor = %s order by id"
    return [
        (rollout, stage, passed, sorted((run["crypto"], run["variant"], run["status"]) for run in runs))
        for rollout, stage, passed, runs in stack.sql("cvntrade", query, factor)
    ]


def staged_runs(stack: LiveStack, rollout: str) -> dict[str, set[str]]:
    """The stages of a rollout that runs were launched for, and the cryptos of each."""
    query = (
        "select t.value, p.value from run_tags t "
        "join run_tags p on p.run_id = t.run_id and p.key = 'dagster/partition' "
        "join run_tags b on b.run_id = t.run_id and b.key = 'dagster/backfill' "
        "where t.key = 'cvntrade/rollout' and t.value like %s"
    )
    found: dict[str, set[str]] = {}
    for tag, crypto in stack.sql("dagster", query, f"{rollout}:%"):
        found.setdefault(tag.rpartition(":")[2], set()).add(crypto)
    return found


@pytest.fixture(scope="module")
def group(stack: LiveStack, built: Finished) -> Iterator[str]:
    """A crypto that is built already, and one that nobody knew before."""
    assert built.returncode == 0, built.stdout + built.stderr
    assert stack.cli("universe", "set", GROUP, CRYPTO, NEW).returncode == 0
    yield GROUP
    assert stack.cli("universe", "set", GROUP).returncode == 0


@pytest.fixture(scope="module")
def stood(stack: LiveStack, group: str) -> dict[str, str]:
    """What was current before any rollout."""
    return current(stack, CRYPTO)


@pytest.fixture(scope="module")
def interrupted(stack: LiveStack, stood: dict[str, str]) -> Finished:
    """A rollout that Ctrl-C ends once its canary runs."""
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "cvntrade_assets", *TYPED],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
        env=stack.environment,
    )
    try:
        query = "select 1 from run_tags where key = 'cvntrade/rollout' and value like 'focal_loss-%%:canary'"
        until("the canary runs", lambda: stack.sql("dagster", query) or process.poll() is not None, 150)
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    return Finished(process.args, process.returncode, said, "")


@pytest.fixture(scope="module")
def passed(stack: LiveStack, interrupted: Finished) -> Finished:
    """The same command again, to its end."""
    return stack.cli(*TYPED, seconds=280)


@pytest.mark.timeout(600)
def test_ctrl_c_says_what_goes_on_and_how_to_continue(interrupted: Finished, stack: LiveStack) -> None:
    assert interrupted.returncode == 130, interrupted.stdout
    assert "The preflight gate passed" in interrupted.stdout
    assert re.search(r"Backfill \w+ goes on; .* continues with stage canary", interrupted.stdout.replace("\n", " "))
    assert "Traceback" not in interrupted.stdout
    [(_, stage, verdict, runs)] = gates(stack, FACTOR)[:1]
    assert (stage, verdict, runs) == ("preflight", True, [(CRYPTO, "off", "SUCCESS")])


@pytest.mark.timeout(600)
def test_a_rollout_continues_and_passes_every_gate(passed: Finished, stack: LiveStack) -> None:
    assert passed.returncode == 0, passed.stdout + passed.stderr
    assert "Continuing rollout" in passed.stdout and "preflight: its gate has passed already" in passed.stdout
    assert "passed every gate" in passed.stdout
    assert "sortino_positive is not judged yet: no result carries a Sortino ratio" in passed.stdout.replace("\n", " ")
    found = gates(stack, FACTOR)
    assert [(stage, verdict) for _, stage, verdict, _ in found] == [
        ("preflight", True),
        ("canary", True),
        ("full", True),
    ]
    [rollout] = {rollout for rollout, *_ in found}
    assert [runs for *_, runs in found] == [
        [(CRYPTO, "off", "SUCCESS")],
        [(CRYPTO, variant, "SUCCESS") for variant in sorted(VARIANTS, reverse=True)][::-1],
        sorted((crypto, variant, "SUCCESS") for crypto in (CRYPTO, NEW) for variant in VARIANTS),
    ]
    assert staged_runs(stack, rollout) == {"preflight": {CRYPTO}, "canary": {CRYPTO}, "full": {CRYPTO, NEW}}


@pytest.mark.timeout(600)
def test_the_gates_are_checks_and_guardrail_evaluations(passed: Finished, stack: LiveStack) -> None:
    query = "select guardrail, verdict from guardrail_evaluations where factor = %s and source = 'rollout' order by id"
    found = stack.sql("cvntrade", query, FACTOR)
    assert found == [(f"rollout_{stage}", "passed") for stage in ("preflight", "canary", "full")]
    checks = stack.sql(
        "dagster",
        "select check_name, execution_status from asset_check_executions where asset_key = %s and partition = %s",
        '["rollout"]',
        FACTOR,
    )
    assert sorted(checks) == [(f"{stage}_gate", "SUCCEEDED") for stage in ("canary", "full", "preflight")]


@pytest.mark.timeout(600)
def test_what_stood_before_the_rollout_is_current(passed: Finished, stood: dict[str, str], stack: LiveStack) -> None:
    assert passed.returncode == 0 and len(stood) == len(ASSETS)
    assert current(stack, CRYPTO) == stood
    finished = stack.cli("plan", "--crypto", CRYPTO, *as_options(QUICK))
    assert "0 of 12 assets would be built" in finished.stdout, finished.stdout


@pytest.mark.timeout(600)
def test_a_rollout_that_passed_has_nothing_left_to_do(passed: Finished, stack: LiveStack) -> None:
    before = gates(stack, FACTOR)
    finished = stack.cli(*TYPED, seconds=240)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert "Nothing is left to do" in finished.stdout and "--restart" in finished.stdout
    assert gates(stack, FACTOR) == before


@pytest.mark.timeout(600)
def test_only_what_passed_its_canary_may_be_backfilled(passed: Finished, stack: LiveStack) -> None:
    options = ("--select", "candles", *as_options(QUICK))
    refused = stack.cli("backfill", "--group", GROUP, "--factor", FACTOR, "--variant", "gamma_2", *options)
    assert refused.returncode == 2 and "cvntrade rollout --factor focal_loss" in refused.stderr, refused
    launched = stack.cli(
        "backfill", "--group", GROUP, "--factor", FACTOR, "--variant", "gamma_1", *options, "--wait", seconds=240
    )
    assert launched.returncode == 0, launched.stdout + launched.stderr


def test_a_mistake_is_one_message(stack: LiveStack) -> None:
    for typed, told in {
        ("--factor", "nosuch", "--group", "btc-core"): "focal_loss",
        ("--factor", FACTOR, "--group", "btc-core", "--variant", "nosuch"): "gamma_1",
        ("--factor", FACTOR, "--group", "nosuch"): "btc-core",
        (
            "--factor",
            FACTOR,
            "--group",
            "btc-core",
            "--set",
            "CVN_BINARY_CLASSIFICATION=0",
        ): "CVN_BINARY_CLASSIFICATION",
    }.items():
        finished = stack.cli("rollout", *typed)
        assert finished.returncode == 2 and told in finished.stderr and "Traceback" not in finished.stderr, finished


@pytest.mark.timeout(600)
def test_a_preflight_gate_that_fails_stops_the_rollout(stack: LiveStack, stood: dict[str, str]) -> None:
    """The operators demand more training rows than these candles give."""
    factor, began = "cusum_training_mode", time.time()
    typed = ("rollout", "--factor", factor, "--group", GROUP, "--variant", "disabled", *as_options(QUICK))
    with closing(Warehouse(stack.addresses.warehouse_url)) as warehouse:
        warehouse.set_base_env({"CVN_GUARDRAIL_MIN_ROWS": "9000"}, "an operator")
        try:
            finished = stack.cli(*typed, seconds=240)
        finally:
            warehouse.set_base_env({"CVN_GUARDRAIL_MIN_ROWS": None}, "an operator")
    assert finished.returncode == 1, finished.stdout + finished.stderr
    said = finished.stdout.replace("\n", " ")
    assert "The preflight gate failed." in said and "rows_enough blocked" in said and "9,000" in said, finished.stdout
    assert "canary:" not in said and "full:" not in said

    [(rollout, stage, verdict, runs)] = gates(stack, factor)
    assert (stage, verdict, runs) == ("preflight", False, [(CRYPTO, "disabled", "FAILURE")])
    assert staged_runs(stack, rollout) == {"preflight": {CRYPTO}}
    query = (
        "select verdict from guardrail_evaluations where guardrail = 'rollout_preflight' and factor = %s "
        "and recorded_at >= to_timestamp(%s)"
    )
    assert stack.sql("cvntrade", query, factor, began) == [("blocked",)]
    assert current(stack, CRYPTO) == stood
