"""The incident log in the manual's form: moments in order, how long each took, and what is unknown stays unknown."""

from dataclasses import replace

import pandas as pd
import pytest

from cvntrade_assets.operations.incidents import (
    FollowUp,
    Incident,
    IncidentError,
    LinkedAlert,
    Moments,
    Times,
    lasted,
    markdown,
    times,
    with_alerts,
)
from cvntrade_assets.operations.taxonomy import Severity


def at(clock: str) -> pd.Timestamp:
    return pd.Timestamp(f"2026-04-28T{clock}Z")


def minutes(number: float) -> pd.Timedelta:
    return pd.Timedelta(minutes=number)


def alert(number: int, opened: str, acknowledged: str | None = None) -> LinkedAlert:
    taken_on = None if acknowledged is None else at(acknowledged)
    what = "sortino of ADAUSDC is negative"
    return LinkedAlert(number, "signal/sortino/ADAUSDC", Severity.P2, what, at("12:26"), at(opened), taken_on)


# The manual's 17.1: 12:25 trigger, 12:27 first failure, 13:20 operator, stopped 10 minutes later, 14:50 merged.
MOMENTS = Moments(at("12:25"), at("12:27"), at("13:20"), at("13:30"), at("14:50"))
INCIDENT = Incident(
    id=1,
    title="Sweep type-mismatch failure",
    severity=Severity.P2,
    justification="the sweep is broken, no live trade is touched",
    symptom="ValueError: Type requirement mismatch.",
    opened_by="ann",
    opened_at=at("13:21"),
    moments=MOMENTS,
)


def test_times_are_those_that_the_manual_wrote_down() -> None:
    expected = Times(minutes(2), minutes(55), minutes(10), minutes(90), minutes(145))
    assert times(MOMENTS) == expected


def test_what_is_unknown_stays_unknown_and_is_never_zero() -> None:
    assert times(Moments(at("12:25"))) == Times(None, None, None, None, None)
    assert times(replace(MOMENTS, acknowledged=None)) == Times(minutes(2), None, None, None, minutes(145))
    assert lasted(None) == "unknown" and lasted(minutes(0)) == "0 s"
    page = markdown(replace(INCIDENT, moments=Moments(at("12:25"))))
    assert page.count("unknown") == 4 + 5 + 3, "four moments, five times, three texts"
    assert "detected unknown" in page and "0 s" not in page


@pytest.mark.parametrize(
    ("delta", "said"),
    [
        (minutes(1.98), "119 s"),
        (minutes(2), "2 min"),
        (minutes(119), "119 min"),
        (minutes(120), "2.0 h"),
        (minutes(48 * 60 - 6), "47.9 h"),
        (minutes(48 * 60), "2.0 d"),
    ],
)
def test_time_spans_are_said_in_their_own_unit(delta: pd.Timedelta, said: str) -> None:
    assert lasted(delta) == said


@pytest.mark.parametrize("later", ["detected", "acknowledged", "mitigated", "fixed"])
def test_a_moment_before_one_that_comes_first_is_refused(later: str) -> None:
    assert replace(Moments(at("12:25")), **{later: at("12:25")}), "the same moment is in order"
    with pytest.raises(IncidentError, match=rf"{later} 2026-04-28 12:24 UTC lies before began 2026-04-28 12:25 UTC"):
        Moments(at("12:25"), **{later: at("12:24")})


def test_a_moment_that_has_not_come_is_refused() -> None:
    MOMENTS.refuse_future(at("14:50"))
    with pytest.raises(IncidentError, match="fixed 2026-04-28 14:50 UTC lies in the future"):
        MOMENTS.refuse_future(at("14:49"))


def test_alerts_say_when_it_was_detected_and_acknowledged() -> None:
    found = with_alerts(
        Moments(at("12:25")), [alert(2, "12:40"), alert(1, "12:30", "12:50"), alert(3, "12:35", "12:45")]
    )
    assert (found.detected, found.acknowledged) == (at("12:30"), at("12:45"))
    assert with_alerts(Moments(at("12:25")), []) == Moments(at("12:25"))


def test_what_was_given_is_not_taken_from_alerts() -> None:
    assert with_alerts(MOMENTS, [alert(1, "12:30", "12:45")]) == MOMENTS


def test_an_acknowledgement_after_the_mitigation_is_not_when_a_person_took_it_on() -> None:
    known = replace(MOMENTS, detected=None, acknowledged=None, mitigated=at("12:40"))
    found = with_alerts(known, [alert(1, "12:30", "12:41")])
    assert (found.detected, found.acknowledged) == (at("12:30"), None)
    assert with_alerts(known, [alert(1, "12:41")]).detected is None


def test_an_alert_from_before_the_beginning_is_refused() -> None:
    with pytest.raises(IncidentError, match="detected 2026-04-28 12:24 UTC lies before began"):
        with_alerts(Moments(at("12:25")), [alert(1, "12:24")])


def test_the_page_has_the_manuals_headings_in_its_order() -> None:
    page = markdown(
        replace(
            INCIDENT,
            root_cause="nodes are typed np.ndarray",
            test_gap="no test had a DataFrame",
            fix="coerced at the entry",
            audit_trail="review 7",
            lessons=("fixtures have production's types", "strict typing is load-bearing"),
            follow_ups=(FollowUp("amend the | checklist", done=True), FollowUp("audit the cache")),
            alerts=(alert(4, "12:27"),),
            closed_by="bob",
            closed_at=at("15:00"),
        )
    )
    headings = ("### 1 2026-04-28 — Sweep type-mismatch failure (P2, closed)", "**Time:**", "**Severity:** P2")
    headings += ("**Symptom:**", "**Root cause:**", "**Test gap:**", "**Fix:**", "**Audit trail:**")
    headings += ("**Time to detect / acknowledge / mitigate / fix:**", "**Lessons learned:**", "**Follow-up actions:**")
    places = [page.index(heading) for heading in headings]
    assert places == sorted(places)
    assert "to acknowledge, from the beginning: 55 min" in page
    assert "to mitigate, from the acknowledgement: 10 min" in page
    assert "1. fixtures have production's types\n2. strict typing" in page
    assert "| F1.1 | amend the \\| checklist | done |\n| F1.2 | audit the cache | open |" in page
    assert "- alert 4 `signal/sortino/ADAUSDC` (P2): sortino of ADAUSDC is negative" in page
    assert "closed by bob 2026-04-28 15:00 UTC" in page


@pytest.mark.parametrize(
    ("reached", "standing"),
    [
        (Moments(at("12:25")), "began"),
        (Moments(at("12:25"), detected=at("12:27")), "detected"),
        (Moments(at("12:25"), mitigated=at("12:30")), "mitigated"),
        (MOMENTS, "fixed"),
    ],
)
def test_how_far_it_has_come(reached: Moments, standing: str) -> None:
    assert replace(INCIDENT, moments=reached).standing == standing
