"""The incident log on a real PostgreSQL: what alerts fill in, what closing needs, and that what is closed stays."""

from dataclasses import replace

import pandas as pd
import pytest
import sqlalchemy as sa

from cvntrade_assets.operations.incidents import FollowUp, IncidentError
from cvntrade_assets.operations.taxonomy import Severity
from resources.incidents import (
    Changes,
    NewIncident,
    close_incident,
    incident,
    incidents,
    open_incident,
    update_incident,
)
from resources.secrets import learn_secrets
from resources.warehouse import Warehouse

NOW = pd.Timestamp("2026-04-28T15:00Z")
NEW = NewIncident("A sweep failed", Severity.P2, "no live trade is touched", "ValueError in every run")
DONE = {"root_cause": "a missing package", "fix": "it is declared"}
CANARY = "canary-31f9-of-the-incidents"


def ago(minutes: float) -> pd.Timestamp:
    return NOW - pd.Timedelta(minutes=minutes)


def an_alert(warehouse: Warehouse, key: str, opened: pd.Timestamp, acknowledged: pd.Timestamp | None = None) -> int:
    """An alert on record; returns its number."""
    taken_on = None if acknowledged is None else acknowledged.to_pydatetime()
    with warehouse.begin() as connection:
        number = connection.scalar(
            sa.text("""
                insert into alerts (key, source, kind, severity, owner, what, place, next_step, link, since, opened_at,
                    seen_at, seen_count, told_at, escalations, acknowledged_at, acknowledged_by, acknowledgement)
                values (:key, 'signals', 'signal/sortino', 'P2', 'ML owner', 'is negative', 'ADAUSDC', '', '',
                    cast(:opened as timestamptz) - interval '1 minute', :opened, :opened, 1, :opened, 0,
                    :taken_on, :who, :who)
                returning id
            """),
            {
                "key": key,
                "opened": opened.to_pydatetime(),
                "taken_on": taken_on,
                "who": None if taken_on is None else "ann",
            },
        )
    assert number is not None
    return number


def test_an_entry_without_alerts_knows_what_it_was_given(warehouse: Warehouse) -> None:
    opened = open_incident(warehouse, NEW, "ann", NOW)
    assert (opened.title, opened.severity, opened.opened_by) == (NEW.title, Severity.P2, "ann")
    assert opened.moments.known() == [("began", NOW)]
    assert incident(warehouse, opened.id) == opened


def test_alerts_fill_in_when_it_began_was_detected_and_acknowledged(warehouse: Warehouse) -> None:
    first = an_alert(warehouse, "one", ago(30), ago(20))
    second = an_alert(warehouse, "two", ago(25), ago(22))
    opened = open_incident(warehouse, replace(NEW, alerts=(first, second)), "ann", NOW)
    assert opened.moments.known() == [("began", ago(31)), ("detected", ago(30)), ("acknowledged", ago(22))]
    assert [alert.id for alert in opened.alerts] == [first, second]


def test_an_alert_is_named_by_key_or_number(warehouse: Warehouse) -> None:
    number, other = an_alert(warehouse, "signal/named", ago(30)), an_alert(warehouse, "signal/other", ago(25))
    opened = open_incident(warehouse, replace(NEW, alerts=("signal/named", str(number), number)), "ann", NOW)
    assert [alert.id for alert in opened.alerts] == [number] and opened.moments.began == ago(31)
    updated = update_incident(warehouse, opened.id, Changes(alerts=("signal/other",)), NOW)
    assert [alert.id for alert in updated.alerts] == [number, other]
    with pytest.raises(IncidentError, match="there is no alert signal/none, 99999;"):
        open_incident(warehouse, replace(NEW, alerts=("signal/none", "99999", "signal/other")), "ann", NOW)


def test_of_a_key_that_was_there_before_the_newest_alert_counts(warehouse: Warehouse) -> None:
    first = an_alert(warehouse, "signal/again", ago(60))
    with warehouse.begin() as connection:
        over = "update alerts set resolved_at = :at, resolution = 'over' where id = :id"
        connection.execute(sa.text(over), {"at": ago(50).to_pydatetime(), "id": first})
    assert open_incident(warehouse, replace(NEW, alerts=("signal/again",)), "ann", NOW).alerts[0].id == first
    second = an_alert(warehouse, "signal/again", ago(30))
    assert open_incident(warehouse, replace(NEW, alerts=("signal/again",)), "ann", NOW).alerts[0].id == second


def test_what_grew_worse_began_when_it_was_first_seen(warehouse: Warehouse) -> None:
    number = an_alert(warehouse, "signal/worse", ago(30))
    with warehouse.begin() as connection:
        later = {"at": ago(10).to_pydatetime(), "id": number}
        connection.execute(sa.text("update alerts set since = :at where id = :id"), later)
    opened = open_incident(warehouse, replace(NEW, alerts=(number,)), "ann", NOW)
    assert opened.moments.known() == [("began", ago(30)), ("detected", ago(30))]


def test_an_alert_that_is_acknowledged_later_says_so_at_the_next_update(warehouse: Warehouse) -> None:
    number = an_alert(warehouse, "later", ago(30))
    opened = open_incident(warehouse, replace(NEW, alerts=(number,)), "ann", NOW)
    assert opened.moments.acknowledged is None
    with warehouse.begin() as connection:
        connection.execute(
            sa.text(
                "update alerts set acknowledged_at = :at, acknowledged_by = 'a', acknowledgement = 'b' where id = :id"
            ),
            {"at": ago(10).to_pydatetime(), "id": number},
        )
    updated = update_incident(warehouse, opened.id, Changes(texts={"test_gap": "none"}), NOW)
    assert updated.moments.acknowledged == ago(10)


def test_an_alert_that_does_not_exist_is_refused_and_nothing_is_written(warehouse: Warehouse) -> None:
    before = incidents(warehouse)
    with pytest.raises(IncidentError, match="there is no alert 99999"):
        open_incident(warehouse, replace(NEW, alerts=(99999,)), "ann", NOW)
    assert incidents(warehouse) == before


def test_updates_add_up(warehouse: Warehouse) -> None:
    number = open_incident(warehouse, replace(NEW, began=ago(60)), "ann", NOW).id
    update_incident(warehouse, number, Changes(lessons=("one",), follow_ups=("first", "second")), NOW)
    changes = Changes(Severity.P0, {"symptom": "more"}, {"mitigated": ago(5)}, ("two",), ("third",), done=(2,))
    updated = update_incident(warehouse, number, changes, NOW)
    assert (updated.severity, updated.symptom, updated.moments.mitigated) == (Severity.P0, "more", ago(5))
    assert updated.lessons == ("one", "two")
    assert updated.follow_ups == (FollowUp("first"), FollowUp("second", done=True), FollowUp("third"))


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        (Changes(done=(1,)), "has no follow-up 1; it has 0"),
        (Changes(texts={"fix": "  "}), "fix is empty"),
        (Changes(texts={"colour": "red"}), "colour is not a text of an incident"),
        (Changes(moments={"fixed": NOW + pd.Timedelta("1min")}), "lies in the future"),
        (Changes(moments={"fixed": ago(999)}), "fixed .* lies before began"),
    ],
)
def test_what_cannot_be_is_refused(warehouse: Warehouse, changes: Changes, why: str) -> None:
    opened = open_incident(warehouse, replace(NEW, began=ago(60)), "ann", NOW)
    with pytest.raises(IncidentError, match=why):
        update_incident(warehouse, opened.id, changes, NOW)
    assert incident(warehouse, opened.id) == opened


@pytest.mark.parametrize("missing", ["root_cause", "fix", "fixed"])
def test_closing_needs_cause_fix_and_when(warehouse: Warehouse, missing: str) -> None:
    opened = open_incident(warehouse, NEW, "ann", NOW)
    texts = {name: text for name, text in DONE.items() if name != missing}
    changes = Changes(texts=texts, moments={} if missing == "fixed" else {"fixed": NOW})
    with pytest.raises(IncidentError, match=f"cannot be closed without {missing}: give --{missing.replace('_', '-')}"):
        close_incident(warehouse, opened.id, changes, "bob", NOW)
    assert incident(warehouse, opened.id) == opened


def test_what_is_closed_stays_also_for_who_knows_sql(warehouse: Warehouse) -> None:
    number = open_incident(warehouse, NEW, "ann", NOW).id
    closed = close_incident(warehouse, number, Changes(texts=DONE, moments={"fixed": NOW}), "bob", NOW)
    assert (closed.closed_by, closed.closed_at, closed.standing) == ("bob", NOW, "closed")
    with pytest.raises(IncidentError, match=f"incident {number} was closed by bob at 2026-04-28 15:00 UTC and stays"):
        update_incident(warehouse, number, Changes(texts=DONE), NOW)
    for statement in ("update incidents set title = 'x' where id = :id", "delete from incidents where id = :id"):
        with pytest.raises(sa.exc.DBAPIError), warehouse.begin() as connection:
            connection.execute(sa.text(statement), {"id": number})
    assert incident(warehouse, number) == closed
    assert number not in [each.id for each in incidents(warehouse, only_open=True)]
    assert number in [each.id for each in incidents(warehouse)]


def test_an_entry_that_does_not_exist(warehouse: Warehouse) -> None:
    for ask in (lambda: incident(warehouse, 0), lambda: update_incident(warehouse, 0, Changes(texts=DONE), NOW)):
        with pytest.raises(IncidentError, match="there is no incident 0"):
            ask()


def test_no_secret_gets_into_the_log(warehouse: Warehouse) -> None:
    learn_secrets({"SOME_PASSWORD": CANARY})
    number = open_incident(warehouse, replace(NEW, symptom=f"refused {CANARY}"), "ann", NOW).id
    update_incident(warehouse, number, Changes(lessons=(f"never {CANARY}",), follow_ups=(CANARY,)), NOW)
    assert CANARY not in str(incident(warehouse, number))
