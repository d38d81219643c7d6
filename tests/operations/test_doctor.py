"""What the doctor finds, and the command it gives, from facts that are made up: each rule trips and does not trip."""

from collections.abc import Mapping
from dataclasses import replace

import pandas as pd
import pytest

from cvntrade_assets.operations.doctor import (
    Cluster,
    Facts,
    Finding,
    LiveProcess,
    LiveRun,
    LocalStack,
    WeakSecret,
    diagnose,
)
from cvntrade_assets.operations.factors import resolve_run
from cvntrade_assets.settings import Settings

NOW = pd.Timestamp("2025-09-01T12:00", tz="UTC")
NEW, OLD = "0.1.0+aaaaaaaa", "0.1.0+bbbbbbbb"
RUN = "0f7b6f5e-6a39-4bb1-9c1e-1f4b7c0a5d11"
STACK = LocalStack(41, "/srv/my stack")
RESTART = "kill 41; while kill -0 41 2>/dev/null; do sleep 1; done; CVN_HOME='/srv/my stack' cvntrade up"


def process(role: str, code: str = NEW, pid: int = 7, host: str = "here") -> LiveProcess:
    return LiveProcess(role, code, pid, host, NOW)


def run(**changes: object) -> LiveRun:
    alive = LiveRun(RUN, "BTCUSDC", "STARTED", NEW, 77, NOW - pd.Timedelta(minutes=1))
    return replace(alive, **changes)  # type: ignore[arg-type]


def resolve(base_env: Mapping[str, str]) -> Settings:
    return resolve_run(base_env=base_env, run={}, now=NOW)


SERVERS = (process("webserver", pid=1), process("daemon", pid=2), process("code-server", pid=3))
WORKER = process("run", pid=77)
HEALTHY = Facts(
    installed=NEW,
    deployment=STACK,
    processes=(*SERVERS, WORKER),
    runs=(run(),),
    base_env={"CVN_SEED": "7", "CVN_CUSUM_THRESHOLD_H": "2.5", "CVN_HPO_XGBOOST_30M_MAX_DEPTH": "3"},
    resolve=resolve,
    schema=("0002", "0002"),
    now=NOW,
)


def only(facts: Facts) -> Finding:
    [finding] = diagnose(facts)
    return finding


def test_a_healthy_deployment_has_no_finding() -> None:
    assert diagnose(HEALTHY) == []


def test_a_deployment_without_runs_and_settings_has_no_finding() -> None:
    assert diagnose(replace(HEALTHY, processes=SERVERS, runs=(), base_env={})) == []


@pytest.mark.parametrize("applied", [None, "0001"])
def test_a_schema_that_is_behind_is_migrated(applied: str | None) -> None:
    finding = only(replace(HEALTHY, schema=(applied, "0002")))
    assert (applied or "none") in finding.what and "0002" in finding.what
    assert finding.command == "cvntrade migrate"


def test_a_schema_of_newer_code_is_not_migrated() -> None:
    """`cvntrade migrate` cannot: it does not know the migration that the schema is at."""
    finding = only(replace(HEALTHY, schema=("0010", "0009")))
    assert "0010" in finding.what and "0009" in finding.what and "older code is installed here" in finding.what
    assert finding.command == "git pull && make .venv/installed"


@pytest.mark.parametrize(
    ("role", "component"),
    [("webserver", "dagster-webserver"), ("daemon", "dagster-daemon"), ("code-server", "user-deployments")],
)
def test_a_server_of_other_code_is_restarted(role: str, component: str) -> None:
    others = tuple(each for each in HEALTHY.processes if each.role != role)
    facts = replace(HEALTHY, processes=(*others, process(role, OLD, 9)))
    finding = only(facts)
    assert OLD in finding.what and NEW in finding.what and f"the {role} (process 9 on here)" in finding.what
    assert finding.command == RESTART
    kubernetes = f"kubectl rollout restart deployment -n cvntrade -l component={component}"
    assert only(replace(facts, deployment=Cluster())).command == kubernetes


@pytest.mark.parametrize("role", ["webserver", "daemon", "code-server"])
def test_a_server_that_is_not_there_is_missed(role: str) -> None:
    others = tuple(each for each in HEALTHY.processes if each.role != role)
    finding = only(replace(HEALTHY, processes=others))
    assert f"no {role} is connected" in finding.what
    assert finding.command == RESTART


def test_a_program_that_is_no_server_may_run_other_code() -> None:
    assert diagnose(replace(HEALTHY, processes=(*HEALTHY.processes, process("pytest", OLD, 9)))) == []


# Runs


def test_a_run_of_other_code_is_stopped() -> None:
    finding = only(replace(HEALTHY, processes=(*SERVERS, process("run", OLD, 77))))
    assert f"run {RUN} of BTCUSDC: it runs code {OLD}" in finding.what
    assert finding.command == f"cvntrade stop {RUN}"


def test_what_the_worker_says_counts_more_than_what_the_run_recorded() -> None:
    assert diagnose(replace(HEALTHY, runs=(run(code=OLD),))) == []


def test_a_run_that_recorded_other_code_and_has_not_begun_is_stopped() -> None:
    starting = run(status="STARTING", worker=None, code=OLD)
    finding = only(replace(HEALTHY, processes=SERVERS, runs=(starting,)))
    assert OLD in finding.what and "gone" not in finding.what


def test_a_run_that_has_not_said_its_process_yet_is_left_alone() -> None:
    assert diagnose(replace(HEALTHY, processes=SERVERS, runs=(run(status="STARTING", worker=None, code=None),))) == []


def test_a_run_whose_process_is_gone_is_recorded_as_cancelled() -> None:
    finding = only(replace(HEALTHY, processes=SERVERS))
    assert finding == Finding(
        f"run {RUN} of BTCUSDC: its process 77 is gone",
        f"cvntrade stop --force {RUN}",
    )


@pytest.mark.parametrize(("minutes", "base_env", "stuck"), [
    (14.9, {}, False),
    (15, {}, True),
    (2.9, {"CVN_GUARDRAIL_STUCK_MINUTES": "3"}, False),
    (3, {"CVN_GUARDRAIL_STUCK_MINUTES": "3"}, True),
])  # fmt: skip
def test_a_run_without_progress_is_stopped(minutes: float, base_env: dict[str, str], stuck: bool) -> None:
    silent = run(last_event=NOW - pd.Timedelta(minutes=minutes))
    found = diagnose(replace(HEALTHY, runs=(silent,), base_env=base_env))
    assert [finding.command for finding in found] == ([f"cvntrade stop {RUN}"] if stuck else [])
    assert all("no progress" in finding.what for finding in found)


def test_reasons_of_one_run_are_one_finding() -> None:
    silent = run(last_event=NOW - pd.Timedelta(minutes=99))
    finding = only(replace(HEALTHY, processes=SERVERS, runs=(silent,)))
    assert "gone" in finding.what and "no progress for 99 minutes" in finding.what


def test_a_worker_of_other_code_that_no_run_knows_is_ended() -> None:
    stray = process("run", OLD, 88, "node-3")
    assert only(replace(HEALTHY, processes=(*HEALTHY.processes, stray))).command == "kill 88"
    cluster = replace(HEALTHY, deployment=Cluster("prod"), processes=(*HEALTHY.processes, stray))
    assert only(cluster).command == "kubectl delete pod -n prod node-3"


def test_a_worker_that_ends_just_now_is_no_finding() -> None:
    assert diagnose(replace(HEALTHY, processes=(*HEALTHY.processes, process("run", NEW, 88)))) == []


def test_pods_are_told_apart_although_every_process_has_the_same_id() -> None:
    first, second = run(worker=1), run(run_id=RUN.replace("0f7b", "1a2b"), worker=1)
    pods = [process("run", NEW, 1, f"dagster-run-{each.run_id}"[:23]) for each in (first, second)]
    assert first.is_served_by(pods[0]) and second.is_served_by(pods[1])
    assert not first.is_served_by(pods[1]) and not second.is_served_by(pods[0])
    whole = process("run", NEW, 1, f"dagster-run-{first.run_id}-x7x2k")
    assert first.is_served_by(whole) and not second.is_served_by(whole)
    assert not first.is_served_by(process("daemon", NEW, 1))


# Settings


@pytest.mark.parametrize(
    ("key", "text", "said"),
    [
        ("CVN_CUSUM_TRESHOLD_H", "3", "CVN_CUSUM_THRESHOLD_H"),
        ("CVN_CUSUM_TRAINING_MODE", "enabled", "retired"),
        ("CVN_CUSUM_FILTER_MODE", "enabled", "event, stable"),
        ("CVN_DEFAULT_N_TRIALS", "many", "whole number"),
        ("CVN_SL_MULT", "nan", "0.1 to 3"),
        ("CVN_GUARDRAIL_OVERRIDE", "1", "run"),
        ("CVN_HPO_XGBOOST_30M_MAX_DEPT", "3", "max_depth"),
        ("it's", "1", "it's"),
    ],
)
def test_a_setting_that_no_run_would_take_is_unset(key: str, text: str, said: str) -> None:
    finding = only(replace(HEALTHY, base_env={**HEALTHY.base_env, key: text}))
    assert said in finding.what
    quoted = "'it'\"'\"'s'" if key == "it's" else key
    assert finding.command == f"cvntrade settings unset {quoted} --reason 'found by cvntrade doctor'"


def test_of_settings_that_contradict_each_other_one_is_unset() -> None:
    facts = replace(HEALTHY, base_env={"CVN_SEED": "7", "CVN_TP_MULT": "0.5"})
    finding = only(facts)
    assert "contradicts itself" in finding.what
    assert "unset CVN_TP_MULT --reason" in finding.command


def test_contradictions_that_no_single_key_explains_unset_all() -> None:
    finding = only(replace(HEALTHY, base_env={"CVN_TP_MULT": "0.5", "CVN_SLICE_TRAIN": "0.5"}))
    assert "unset CVN_TP_MULT CVN_SLICE_TRAIN --reason" in finding.command


def test_a_wrong_limit_of_silence_does_not_stop_the_doctor() -> None:
    silent = run(last_event=NOW - pd.Timedelta(minutes=16))
    found = diagnose(replace(HEALTHY, runs=(silent,), base_env={"CVN_GUARDRAIL_STUCK_MINUTES": "soon"}))
    assert [finding.command.split()[1] for finding in found] == ["stop", "settings"]


def test_a_secret_that_is_too_short_is_named_with_what_mends_it() -> None:
    finding = only(replace(HEALTHY, weak_secrets=[WeakSecret("API_TOKEN", "export API_TOKEN=…")]))
    assert "API_TOKEN" in finding.what and finding.command == "export API_TOKEN=…"
