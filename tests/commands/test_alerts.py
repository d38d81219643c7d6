"""`cvntrade alerts` and `cvntrade ack` on a real PostgreSQL."""

import pandas as pd
import pytest
from alert_rows import NOW, SETTINGS, clear_alerts, condition, find, messages
from scripted_webserver import Cvntrade, Webserver

from cvntrade_assets.commands.author import author
from cvntrade_assets.operations.taxonomy import Severity
from resources.alert_delivery import deliver_due
from resources.alerts import due, open_alerts
from resources.warehouse import Warehouse


@pytest.fixture(autouse=True)
def empty(warehouse: Warehouse) -> None:
    clear_alerts(warehouse)


def test_nothing_is_open(webserver: Webserver, cvntrade: Cvntrade) -> None:
    assert cvntrade("alerts") == (0, "No alert is open.\n", "")


def test_what_is_open_and_what_waits(webserver: Webserver, cvntrade: Cvntrade, warehouse: Warehouse) -> None:
    find(warehouse, [condition(severity=Severity.P1), condition("ETHUSDC", Severity.P3, what="[red] it drifts")])
    deliver_due(warehouse, {}, SETTINGS, NOW)
    first = open_alerts(warehouse)[0]
    code, out, err = cvntrade("alerts")
    assert (code, err) == (0, "")
    assert out.splitlines()[:5] == [
        f"P1  signal/sortino/BTCUSDC ({first.id}), since 2025-09-02 11:00 UTC; ML owner",
        "  the Sortino ratio of BTCUSDC is -0.31",
        "  next  cvntrade discovery --crypto BTCUSDC",
        f"  page  {webserver.url}/assets/golden_signals?partition=BTCUSDC",
        f'  nobody has acknowledged it: cvntrade ack {first.id} --reason "…"',
    ]
    assert "  [red] it drifts\n" in out and "2 messages wait to be sent:\n" in out
    assert "P3 opened signal/sortino/ETHUSDC" in out and "set CVN_ALERT_MAIL_URL or CVN_ALERT_SLACK_URL" in out


def test_an_escalated_alert_says_to_whom(webserver: Webserver, cvntrade: Cvntrade, warehouse: Warehouse) -> None:
    find(warehouse, [condition(severity=Severity.P1)])
    with warehouse.begin() as connection:
        due(connection, NOW + pd.Timedelta(hours=1), SETTINGS)
    assert "; ML owner, escalated to the MLOps maintainer\n" in cvntrade("alerts")[1]


@pytest.mark.parametrize("by_key", [True, False])
def test_an_alert_is_acknowledged_by_key_or_number(
    webserver: Webserver, cvntrade: Cvntrade, warehouse: Warehouse, by_key: bool
) -> None:
    find(warehouse, [condition()])
    [alert] = open_alerts(warehouse)
    code, out, err = cvntrade("ack", alert.key if by_key else str(alert.id), "--reason", " retraining it [now] ")
    assert (code, err) == (0, "") and f"P2 {alert.key} ({alert.id}) is acknowledged by {author()}" in out
    [alert] = open_alerts(warehouse)
    assert (alert.acknowledged_by, alert.acknowledgement) == (author(), "retraining it [now]")
    assert f"acknowledged by {author()} on " in cvntrade("alerts")[1]
    assert len(messages(warehouse)) == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ("ack", "signal/none", "--reason", "x"),
            "no open alert has the key or number 'signal/none'; no alert is open",
        ),
        (("ack", "1", "--reason", " "), "--reason is empty"),
    ],
)
def test_what_cannot_be_acknowledged(
    webserver: Webserver, cvntrade: Cvntrade, arguments: tuple[str, ...], said: str
) -> None:
    code, out, err = cvntrade(*arguments)
    assert (code, out) == (2, "") and said in err
