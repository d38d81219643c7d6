"""Alerts and their outbox in PostgreSQL: written with what was found, told once, repeated, escalated, over."""

from collections.abc import Iterator

import pandas as pd
import pytest
import sqlalchemy as sa
from alert_rows import NOW, SETTINGS, clear_alerts, condition, find, messages

from cvntrade_assets.operations.condition import Condition
from cvntrade_assets.operations.taxonomy import Role, Severity
from resources.alerts import (
    UnknownAlertError,
    acknowledge,
    due,
    open_alerts,
    raise_alerts,
    reconcile,
    resolve_alerts,
    undelivered,
)
from resources.secrets import process_mask
from resources.tables import ALERT_MESSAGES, ALERTS
from resources.warehouse import Warehouse

HOUR, MINUTE = pd.Timedelta(hours=1), pd.Timedelta(minutes=1)
P0, P1, P2, P3 = Severity


@pytest.fixture(autouse=True)
def empty(warehouse: Warehouse) -> None:
    """Nothing of another test."""
    clear_alerts(warehouse)


def events(warehouse: Warehouse) -> list[tuple[str, str]]:
    """Event and what became of each message: sent, dropped or waiting."""
    return [
        (row["event"], "sent" if row["sent_at"] else "dropped" if row["dropped_at"] else "waiting")
        for row in messages(warehouse)
    ]


def send(warehouse: Warehouse) -> None:
    """Every message that waits, as a worker notes it."""
    waiting = ALERT_MESSAGES.c.sent_at.is_(None) & ALERT_MESSAGES.c.dropped_at.is_(None)
    with warehouse.begin() as connection:
        connection.execute(
            sa.update(ALERT_MESSAGES).where(waiting).values(sent_at=NOW.to_pydatetime(), sent_by="slack", attempts=1)
        )


def remind(warehouse: Warehouse, at: pd.Timestamp) -> int:
    with warehouse.begin() as connection:
        return due(connection, at, SETTINGS)


def test_a_condition_opens_an_alert_with_its_message(warehouse: Warehouse) -> None:
    find(warehouse, [condition()])
    [alert] = open_alerts(warehouse)
    assert (alert.key, alert.source, alert.severity, alert.owner) == (
        "signal/sortino/BTCUSDC",
        "signals",
        P2,
        Role.ML_OWNER,
    )
    assert (alert.since, alert.opened_at, alert.seen_count) == (NOW - HOUR, NOW, 1)
    [message] = messages(warehouse)
    assert (message["event"], message["attempts"], message["due_at"]) == ("opened", 0, NOW)
    assert message["text"].startswith("P2 opened: the Sortino ratio of BTCUSDC is -0.31\n")
    assert message["dedup_key"] in message["text"]
    [waiting] = undelivered(warehouse)
    assert (waiting.alert_key, waiting.key, waiting.last_error) == (alert.key, message["dedup_key"], None)


def test_what_fails_in_the_transaction_leaves_no_message(warehouse: Warehouse) -> None:
    with pytest.raises(RuntimeError), warehouse.begin() as connection:
        reconcile(connection, "signals", [condition()], NOW, SETTINGS)
        raise RuntimeError("the signals could not be stored")
    assert open_alerts(warehouse) == [] and messages(warehouse) == []


def test_what_is_found_again_is_not_told_again_and_shows_what_is_known_now(warehouse: Warehouse) -> None:
    find(warehouse, [condition()])
    find(warehouse, [condition(what="the Sortino ratio of BTCUSDC is -0.42", since=NOW)], NOW + MINUTE)
    [alert] = open_alerts(warehouse)
    assert (alert.seen_count, alert.seen_at, alert.since) == (2, NOW + MINUTE, NOW - HOUR)
    assert alert.what.endswith("-0.42") and len(messages(warehouse)) == 1


def test_since_when_it_holds_is_since_when_it_is_this_bad(warehouse: Warehouse) -> None:
    for severity, since in ((P2, NOW - HOUR), (P1, NOW + HOUR), (P1, NOW + 2 * HOUR), (P3, NOW + 3 * HOUR)):
        find(warehouse, [condition(severity=severity, since=since)], max(since, NOW) + MINUTE)
        send(warehouse)
        [alert] = open_alerts(warehouse)
        assert alert.since == min(since, NOW + HOUR) if severity is P1 else alert.since == since
    *_, worsened = messages(warehouse)
    assert "Since 2025-09-02 13:00 UTC (1 min)" in worsened["text"]
    find(warehouse, [], NOW + 4 * HOUR)
    assert "It held from 2025-09-02 12:01 UTC to 2025-09-02 16:00 UTC" in messages(warehouse)[-1]["text"]


def test_what_is_no_longer_found_is_over(warehouse: Warehouse) -> None:
    find(warehouse, [condition(), condition("ETHUSDC")])
    send(warehouse)
    find(warehouse, [condition("ETHUSDC")], NOW + HOUR)
    assert [alert.where for alert in open_alerts(warehouse)] == ["ETHUSDC"]
    *_, recovered = messages(warehouse)
    assert recovered["event"] == "recovered" and recovered["severity"] == "P2"
    assert "It is over: the condition no longer holds" in recovered["text"] and "(2 h)" in recovered["text"]


def test_what_nobody_can_print_neither_stops_nor_forges_anything(warehouse: Warehouse) -> None:
    """A failed run's reason is repeated, whatever it holds; no database takes a NUL or half a letter."""
    strange = "expected\x00 \x1b[2J \ud800\r\nP0 opened: forged"
    find(warehouse, [condition(what=strange, next_step=strange)])
    with warehouse.begin() as connection:
        acknowledge(connection, "signal/sortino/BTCUSDC", "somebody", strange, NOW)
    [alert] = open_alerts(warehouse)
    assert alert.what == alert.acknowledgement == "expected\ufffd \ufffd[2J \ufffd P0 opened: forged"
    assert not [line for line in messages(warehouse)[0]["text"].splitlines()[1:] if line.startswith("P0")]


def test_only_the_alerts_of_the_source_are_over(warehouse: Warehouse) -> None:
    find(warehouse, [condition("BTCUSDC", source="state", key="state")], source="state")
    find(warehouse, [condition("ETHUSDC")])
    find(warehouse, [])
    assert [alert.key for alert in open_alerts(warehouse)] == ["state"]


def test_a_condition_that_comes_back_is_another_alert(warehouse: Warehouse) -> None:
    find(warehouse, [condition()])
    send(warehouse)
    find(warehouse, [], NOW + MINUTE)
    find(warehouse, [condition()], NOW + 2 * MINUTE)
    keys = [row["dedup_key"] for row in messages(warehouse)]
    assert [row["event"] for row in messages(warehouse)] == ["opened", "recovered", "opened"]
    assert len(set(keys)) == 3 and len({key.split(".")[0] for key in keys}) == 2


def test_what_comes_and_goes_is_told_three_times_and_then_once_for_each_time_to_repeat(warehouse: Warehouse) -> None:
    def told() -> list[str]:
        send(warehouse)
        return [event for event, _ in events(warehouse)]

    for number in range(20):
        find(warehouse, [condition()] if number % 2 == 0 else [], NOW + 5 * number * MINUTE)
        told()
    assert told() == ["opened", "recovered"] * 3
    # What is worse is told at once.
    find(warehouse, [condition()], NOW + 100 * MINUTE)
    find(warehouse, [condition(severity=P1)], NOW + 101 * MINUTE)
    assert told()[6:] == ["worsened"]
    find(warehouse, [], NOW + 102 * MINUTE)
    # What stays is told when it would repeat, and then its end is.
    find(warehouse, [condition()], NOW + 103 * MINUTE)
    last_opening = NOW + 20 * MINUTE
    remind(warehouse, last_opening + 24 * HOUR - MINUTE)
    assert told()[7:] == ["recovered"]
    remind(warehouse, last_opening + 24 * HOUR)
    assert told()[8:] == ["repeated"]
    find(warehouse, [], last_opening + 25 * HOUR)
    assert told()[9:] == ["recovered"]


def test_what_comes_and_goes_unheard_is_told_in_the_end(warehouse: Warehouse) -> None:
    for number in range(9):
        find(warehouse, [condition()] if number % 2 == 0 else [], NOW + 5 * number * MINUTE)
    assert events(warehouse) == [("opened", "dropped")] * 4 + [("opened", "waiting")]


def test_what_was_over_before_anybody_was_told_is_not_told(warehouse: Warehouse) -> None:
    find(warehouse, [condition()])
    find(warehouse, [], NOW + MINUTE)
    assert events(warehouse) == [("opened", "dropped")]
    assert messages(warehouse)[0]["dropped_why"] == "it was over before anybody was told"


def test_what_a_worker_has_tried_to_send_may_have_been_heard(warehouse: Warehouse) -> None:
    find(warehouse, [condition()])
    with warehouse.begin() as connection:
        connection.execute(sa.update(ALERT_MESSAGES).values(attempts=1))
    find(warehouse, [], NOW + MINUTE)
    assert events(warehouse) == [("opened", "dropped"), ("recovered", "waiting")]


def test_worse_is_told_again_and_needs_a_new_acknowledgement(warehouse: Warehouse) -> None:
    find(warehouse, [condition(severity=P3)])
    send(warehouse)
    with warehouse.begin() as connection:
        acknowledge(connection, "signal/sortino/BTCUSDC", "ada", "at it", NOW)
    find(warehouse, [condition(severity=P3)], NOW + MINUTE)
    assert open_alerts(warehouse)[0].acknowledged_by == "ada"
    find(warehouse, [condition(severity=P1)], NOW + 2 * MINUTE)
    [alert] = open_alerts(warehouse)
    assert (alert.severity, alert.acknowledged_by, alert.told_at) == (P1, None, NOW + 2 * MINUTE)
    assert events(warehouse) == [("opened", "sent"), ("worsened", "waiting")]
    assert messages(warehouse)[1]["severity"] == "P1"


def test_better_is_not_told_until_it_is_over(warehouse: Warehouse) -> None:
    find(warehouse, [condition(severity=P1)])
    find(warehouse, [condition(severity=P3)], NOW + MINUTE)
    assert open_alerts(warehouse)[0].severity is P3 and len(messages(warehouse)) == 1


def test_who_was_woken_is_told_that_it_is_over(warehouse: Warehouse) -> None:
    find(warehouse, [condition(severity=P0)])
    send(warehouse)
    find(warehouse, [condition(severity=P3)], NOW + MINUTE)
    find(warehouse, [], NOW + 2 * MINUTE)
    *_, recovered = messages(warehouse)
    assert (recovered["event"], recovered["severity"]) == ("recovered", "P0")
    assert recovered["text"].startswith("P0 recovered: ")


def test_what_waits_is_superseded_by_what_is_newer(warehouse: Warehouse) -> None:
    find(warehouse, [condition(severity=P3)])
    find(warehouse, [condition(severity=P2)], NOW + MINUTE)
    assert events(warehouse) == [("opened", "dropped"), ("worsened", "waiting")]
    assert messages(warehouse)[0]["dropped_why"] == "superseded: that it worsened is told instead"


def test_many_of_a_kind_in_one_transaction_are_one_group(warehouse: Warehouse) -> None:
    cryptos = [f"C{number}USDC" for number in range(20)]
    other = condition(signal="sl_pct", kind="signal/sl_pct")
    find(warehouse, [*(condition(crypto) for crypto in cryptos), condition("ZUSDC", severity=P3), other])
    groups: dict[str, int] = {}
    for row in messages(warehouse):
        groups[row["group_key"]] = groups.get(row["group_key"], 0) + 1
    assert sorted(groups.values()) == [1, 1, 20]
    with warehouse.begin() as connection:
        # One by one, and yet in one transaction.
        for crypto in ("YUSDC", "XUSDC"):
            raise_alerts(connection, [condition(crypto)], NOW, SETTINGS)
    *_, one, two = messages(warehouse)
    assert one["group_key"] == two["group_key"] and one["group_key"] not in groups


def test_raising_leaves_the_rest_of_the_source_alone(warehouse: Warehouse) -> None:
    with warehouse.begin() as connection:
        raise_alerts(connection, [condition(), condition("ETHUSDC")], NOW, SETTINGS)
        raise_alerts(connection, [condition("ADAUSDC")], NOW, SETTINGS)
    assert len(open_alerts(warehouse)) == 3


def test_resolving_says_why_and_whether_there_was_anything(warehouse: Warehouse) -> None:
    find(warehouse, [condition(), condition("ETHUSDC")])
    send(warehouse)
    with warehouse.begin() as connection:
        assert resolve_alerts(connection, {"signal/sortino/BTCUSDC": "a later run succeeded"}, NOW)
        assert not resolve_alerts(connection, {"signal/sortino/BTCUSDC": "again"}, NOW)
        assert resolve_alerts(connection, {"signal/sortino/ETHUSDC": "it left", "nothing": "here"}, NOW) == 1
    assert ["It is over: a later run succeeded" in row["text"] for row in messages(warehouse)][2:] == [True, False]


def test_an_alert_that_nobody_acknowledges_repeats(warehouse: Warehouse) -> None:
    find(warehouse, [condition(severity=P3)])
    send(warehouse)
    week = 7 * 24 * HOUR
    assert remind(warehouse, NOW + week - MINUTE) == 0
    assert remind(warehouse, NOW + week) == 1
    assert remind(warehouse, NOW + week + MINUTE) == 0
    assert events(warehouse) == [("opened", "sent"), ("repeated", "waiting")]


def test_what_nobody_has_heard_yet_is_not_repeated(warehouse: Warehouse) -> None:
    find(warehouse, [condition(severity=P3)])
    assert remind(warehouse, NOW + 8 * 24 * HOUR) == 0


def test_an_alert_that_nobody_acknowledges_escalates_up_the_line(warehouse: Warehouse) -> None:
    find(warehouse, [condition(severity=P1)])
    send(warehouse)
    assert remind(warehouse, NOW + HOUR - MINUTE) == 0
    assert remind(warehouse, NOW + HOUR) == 1
    send(warehouse)
    assert remind(warehouse, NOW + 2 * HOUR - MINUTE) == 0
    assert remind(warehouse, NOW + 2 * HOUR) == 1
    send(warehouse)
    # From there on it only repeats, every four hours, to whom it has reached.
    assert remind(warehouse, NOW + 6 * HOUR - MINUTE) == 0
    assert remind(warehouse, NOW + 6 * HOUR) == 1
    told = [(row["event"], row["audience"]) for row in messages(warehouse)]
    assert told == [
        ("opened", "ML owner"),
        ("escalated", "MLOps maintainer"),
        ("escalated", "platform owner"),
        ("repeated", "platform owner"),
    ]
    [alert] = open_alerts(warehouse)
    assert (alert.escalations, alert.audience) == (2, Role.PLATFORM_OWNER)


def test_the_line_begins_anew_when_it_worsens(warehouse: Warehouse) -> None:
    find(warehouse, [condition(severity=P1)])
    send(warehouse)
    remind(warehouse, NOW + HOUR)
    worse = NOW + 2 * HOUR
    find(warehouse, [condition(severity=P0)], worse)
    assert open_alerts(warehouse)[0].escalations == 0
    send(warehouse)
    assert remind(warehouse, worse + 14 * MINUTE) == 0
    assert remind(warehouse, worse + 15 * MINUTE) == 1
    assert messages(warehouse)[-1]["audience"] == "MLOps maintainer"


def test_an_acknowledged_alert_is_left_in_peace_and_its_recovery_is_told(warehouse: Warehouse) -> None:
    find(warehouse, [condition(severity=P0)])
    send(warehouse)
    remind(warehouse, NOW + 15 * MINUTE)
    with warehouse.begin() as connection:
        [alert] = open_alerts(warehouse)
        acknowledged = acknowledge(connection, alert.id, "ada", "restarting it", NOW + 16 * MINUTE)
    assert acknowledged.acknowledgement == "restarting it"
    # What was not sent yet need not be.
    assert events(warehouse) == [("opened", "sent"), ("escalated", "dropped")]
    assert remind(warehouse, NOW + 90 * HOUR) == 0
    find(warehouse, [], NOW + 91 * HOUR)
    assert events(warehouse)[-1] == ("recovered", "waiting")


def test_what_is_not_open_cannot_be_acknowledged(warehouse: Warehouse) -> None:
    with warehouse.begin() as connection, pytest.raises(UnknownAlertError, match="no alert is open"):
        acknowledge(connection, "signal/sortino/BTCUSDC", "ada", "at it", NOW)
    find(warehouse, [condition()])
    [alert] = open_alerts(warehouse)
    named = rf"'99999999999999999999'; open are {alert.id} \(signal/sortino/BTCUSDC\)"
    with warehouse.begin() as connection, pytest.raises(UnknownAlertError, match=named):
        acknowledge(connection, "99999999999999999999", "ada", "at it", NOW)


@pytest.mark.parametrize("wrong", [[condition(source="state")], [condition(), condition()]])
def test_conditions_that_make_no_sense_are_refused(warehouse: Warehouse, wrong: list[Condition]) -> None:
    with pytest.raises(ValueError, match="conditions of signals"):
        find(warehouse, wrong)


def test_the_worst_is_listed_first(warehouse: Warehouse) -> None:
    find(warehouse, [condition(f"{severity}USDC", severity=severity) for severity in (P3, P1, P0, P2)])
    assert [alert.severity for alert in open_alerts(warehouse)] == [P0, P1, P2, P3]
    assert [each.severity for each in undelivered(warehouse)] == [P0, P1, P2, P3]


@pytest.fixture
def canary(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("EXCHANGE_API_KEY", "canary-0123456789")
    process_mask.cache_clear()
    yield "canary-0123456789"
    process_mask.cache_clear()


def test_no_secret_is_kept(warehouse: Warehouse, canary: str) -> None:
    found = condition(what=f"answered 401 to {canary}", next_step=f"use {canary}", where=canary, link=f"/runs/{canary}")
    find(warehouse, [found])
    send(warehouse)
    with warehouse.begin() as connection:
        acknowledge(connection, found.key, canary, f"tried {canary}", NOW)
        resolve_alerts(connection, {found.key: f"works with {canary}"}, NOW)
        kept = [str(connection.execute(sa.select(table)).all()) for table in (ALERTS, ALERT_MESSAGES)]
    assert "answered 401 to ***" in kept[0] and not [text for text in kept if canary in text]


def test_the_page_is_linked_where_the_ui_is(warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CVN_UI_URL", "http://user:pass-0123@127.0.0.1:3000/")
    find(warehouse, [condition()])
    [message] = messages(warehouse)
    assert "See: http://127.0.0.1:3000/assets/golden_signals?partition=BTCUSDC\n" in message["text"]


def test_two_that_find_the_same_at_once_open_one_alert(warehouse: Warehouse, warehouse_url: str) -> None:
    from threading import Thread

    def raise_it() -> None:
        with Warehouse(warehouse_url).begin() as connection:
            raise_alerts(connection, [condition()], NOW, SETTINGS)

    threads = [Thread(target=raise_it) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    [alert] = open_alerts(warehouse)
    assert alert.seen_count == 4 and len(messages(warehouse)) == 1
