"""Rules, routes and queries, as Prometheus' and Alertmanager's own tools judge them."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from grafana_queries import DASHBOARDS, FILES, expanded, queries, variables
from typer.main import get_command

from cvntrade_assets.cli import app
from cvntrade_assets.operations.taxonomy import Role, Severity
from cvntrade_assets.settings import SETTINGS
from resources import exporter

PROMETHEUS = FILES / "prometheus"
RULES: dict[str, dict[str, Any]] = {
    rule["alert"]: rule
    for group in yaml.safe_load((PROMETHEUS / "rules.yaml").read_text())["groups"]
    for rule in group["rules"]
}
TESTS = yaml.safe_load((PROMETHEUS / "rules_test.yaml").read_text())["tests"]
ALERTMANAGER = (PROMETHEUS / "alertmanager.yaml").read_text()
SWITCH = "CvntradeAlertingWorks"
# The settings that limits are the defaults of, in minutes.
IN_MINUTES = {
    "CvntradeStateNotComputed": ["CVN_STATE_STALE_MINUTES"],
    "CvntradeRunSlow": ["CVN_GUARDRAIL_SLOW_RUN_MINUTES", "CVN_GUARDRAIL_CRITICAL_RUN_MINUTES"],
    "CvntradeRunCriticallySlow": ["CVN_GUARDRAIL_CRITICAL_RUN_MINUTES"],
    "CvntradeFactorSlow": ["CVN_GUARDRAIL_FACTOR_MINUTES"],
    "CvntradeDaemonHeartbeatMissing": ["CVN_WATCHDOG_MINUTES"],
}
# Limits of these rules' own, in seconds.
OWN = {"CvntradeExporterDead": [300.0], "CvntradeAlertsUndelivered": [600.0]}
_COMPARED = re.compile(r"(?:>|<=) (\d\d+)")
# What has to begin has as long for it.
_HAD = re.compile(r"offset (\d+)m")


def tool(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"needs {name}: Debian's packages prometheus and prometheus-alertmanager have it")
    return subprocess.run([found, *arguments], capture_output=True, text=True, check=False)


def test_promtool_reads_the_rules_and_their_tests_hold():
    for arguments in (("check", "rules", "rules.yaml"), ("test", "rules", "rules_test.yaml")):
        *words, file = arguments
        done = tool("promtool", *words, str(PROMETHEUS / file))
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", RULES)
def test_every_rule_is_tested_on_both_sides(name):
    expected = [
        bool(check["exp_alerts"]) for test in TESTS for check in test["alert_rule_test"] if check["alertname"] == name
    ]
    assert set(expected) == ({True} if name == SWITCH else {True, False})


@pytest.mark.parametrize("name", [*IN_MINUTES, *OWN])
def test_limits_are_the_settings_defaults(name):
    keys = IN_MINUTES.get(name, [])
    limits = [60 * float(SETTINGS[key].default) for key in keys] or OWN[name]
    assert [float(limit) for limit in _COMPARED.findall(RULES[name]["expr"])] == limits
    assert {60 * float(minutes) for minutes in _HAD.findall(RULES[name]["expr"])} <= set(limits)


@pytest.mark.parametrize("name", [*IN_MINUTES, *OWN])
@pytest.mark.parametrize("change", ["equal counts too", "a bit later"])
def test_the_rules_tests_notice_a_limit_that_moved(tmp_path, name, change):
    """A test of a limit that another limit passes too is none."""
    expression = RULES[name]["expr"]
    limit = _COMPARED.search(expression)[1]  # type: ignore[index]
    moved = f">= {limit}" if change == "equal counts too" else f"> {int(limit) + 30}"
    text = (PROMETHEUS / "rules.yaml").read_text()
    begin = text.index(f"alert: {name}\n")
    changed = text[:begin] + text[begin:].replace(f"> {limit}", moved, 1)
    assert changed != text
    (tmp_path / "rules.yaml").write_text(changed)
    shutil.copy(PROMETHEUS / "rules_test.yaml", tmp_path)
    assert tool("promtool", "test", "rules", str(tmp_path / "rules_test.yaml")).returncode == 1


@pytest.mark.parametrize("name", RULES)
def test_every_rule_says_how_bad_it_is_whose_it_is_and_what_to_do(name):
    rule = RULES[name]
    assert rule["labels"]["owner"] in set(Role)
    assert rule["annotations"]["summary"].endswith(".")
    if name == SWITCH:
        return
    assert rule["labels"]["severity"] in set(Severity)
    assert rule["annotations"]["dashboard"].removeprefix("/d/") in DASHBOARDS
    first_words = set(get_command(app).commands)  # type: ignore[attr-defined]
    # Commands of the alerts' own room come with it.
    said = set(re.findall(r"`cvntrade (\w+)", rule["annotations"]["next_step"]))
    assert said <= first_words | {"alerts", "watchdog"}


# metrics


def told() -> set[str]:
    """Every metric that the exporter has a name for."""
    source = Path(exporter.__file__).read_text()
    return set(re.findall(r'"(cvntrade_\w+)"', source))


def test_no_rule_and_no_panel_asks_for_a_metric_that_nobody_tells():
    asked = " ".join([*(rule["expr"] for rule in RULES.values()), *(query.text for query in queries("prometheus"))])
    metrics = set(re.findall(r"\bcvntrade_\w+", asked))
    assert len(metrics) > 8
    assert metrics - told() == set()


def test_promtool_reads_the_query_of_every_panel(tmp_path):
    found = queries("prometheus")
    assert len(found) > 10
    rules = []
    for number, query in enumerate(found):
        typed = {
            name: variable["query"]
            for name, variable in variables(query.dashboard).items()
            if variable["type"] == "textbox"
        }
        rules.append({"record": f"panel:{number}:query", "expr": expanded(query.text, typed, "", "")})
    (tmp_path / "panels.yaml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    done = tool("promtool", "check", "rules", str(tmp_path / "panels.yaml"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(found)} rules found" in done.stdout


# Alertmanager


def test_amtool_reads_the_configuration():
    done = tool("amtool", "check-config", str(PROMETHEUS / "alertmanager.yaml"))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", RULES)
def test_every_alert_goes_to_those_whose_severity_it_is(name):
    labels = [f"{key}={value}" for key, value in RULES[name]["labels"].items()]
    wanted = "heartbeat" if name == SWITCH else RULES[name]["labels"]["severity"].lower()
    config = f"--config.file={PROMETHEUS / 'alertmanager.yaml'}"
    done = tool(
        "amtool", "config", "routes", "test", config, f"--verify.receivers={wanted}", f"alertname={name}", *labels
    )
    assert (done.returncode, done.stdout.strip()) == (0, wanted), done.stdout + done.stderr


@pytest.mark.parametrize(
    ("label", "receiver"),
    [
        ("severity=P0", "p0"),
        ("severity=P1", "p1"),
        ("severity=P2", "p2"),
        ("severity=P3", "p3"),
        ("severity=", "p3"),
        ("other=alert", "p3"),
    ],
)
def test_each_severity_has_its_receiver_and_nothing_is_lost(label, receiver):
    config = f"--config.file={PROMETHEUS / 'alertmanager.yaml'}"
    done = tool("amtool", "config", "routes", "test", config, label)
    assert done.stdout.strip() == receiver


def test_no_address_and_no_secret_stands_in_the_configuration():
    assert "://" not in ALERTMANAGER and "@" not in ALERTMANAGER
    receivers = yaml.safe_load(ALERTMANAGER)["receivers"]
    assert {receiver["name"] for receiver in receivers} == {"p0", "p1", "p2", "p3", "heartbeat"}
    for receiver in receivers:
        channels = [channel for name, found in receiver.items() if name != "name" for channel in found]
        assert channels
        for channel in channels:
            files = [value for key, value in channel.items() if key.endswith("_file")]
            assert files and all(file.startswith("/etc/alertmanager/secrets/") for file in files)
            assert not {"api_url", "routing_key", "service_key", "url", "to"} & set(channel)


@pytest.mark.parametrize("file", sorted((FILES / "grafana").iterdir()), ids=lambda file: file.name)
def test_grafana_is_provisioned_with_what_the_dashboards_name_and_no_secret(file):
    found = yaml.safe_load(file.read_text())
    if file.name == "datasources.yaml":
        used = {(query["type"], query["uid"]) for board in DASHBOARDS.values() for query in sources_of(board)}
        assert {(source["type"], source["uid"]) for source in found["datasources"]} == used
        assert all(
            text.startswith("${")
            for source in found["datasources"]
            for text in source.get("secureJsonData", {}).values()
        )
        assert found["datasources"][0]["user"] == "grafana_ro"
    else:
        assert found["providers"][0]["allowUiUpdates"] is False


def sources_of(board: dict[str, Any]) -> list[dict[str, str]]:
    return [target["datasource"] for panel in board["panels"] for target in panel.get("targets", [])]
