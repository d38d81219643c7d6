"""The life of an alert on both sides of every time, and what its texts say."""

from dataclasses import replace

import pandas as pd
import pytest

from cvntrade_assets.operations.alert_texts import (
    SHORT_LENGTH,
    TITLE_LENGTH,
    Message,
    full_text,
    grouped_text,
    message_key,
    short_text,
    shortened,
)
from cvntrade_assets.operations.alerting import Event, Standing, audience_of, is_swinging, meet, remind
from cvntrade_assets.operations.severity import ESCALATES_TO
from cvntrade_assets.operations.taxonomy import Role, Severity
from cvntrade_assets.settings import resolve

NOW = pd.Timestamp("2025-09-02 12:00", tz="UTC")
SETTINGS = resolve(base_env={}, run={}, now=NOW)
P0, P1, P2, P3 = Severity
# As the settings declare them.
REPEAT_HOURS = {P0: 1, P1: 4, P2: 24, P3: 168}
ESCALATE_MINUTES = {P0: 15, P1: 60, P2: 1440}
SECOND = pd.Timedelta(seconds=1)


def standing(severity=P2, owner=Role.ML_OWNER, told=None, acknowledged=False, escalations=0, at=NOW, clock=None):
    return Standing(
        severity, owner, {severity: at} if told is None else told, clock or at, at, acknowledged, escalations
    )


def test_what_is_not_open_opens() -> None:
    assert meet(P3, None, NOW, SETTINGS) is Event.OPENED


@pytest.mark.parametrize("was", Severity)
@pytest.mark.parametrize("now", Severity)
def test_only_what_is_worse_is_told_again(was: Severity, now: Severity) -> None:
    """Opened long ago, and never told at a worse severity."""
    worse = list(Severity).index(now) < list(Severity).index(was)
    assert meet(now, standing(was), NOW, SETTINGS) is (Event.WORSENED if worse else None)
    assert meet(now, standing(was, acknowledged=True), NOW, SETTINGS) is (Event.WORSENED if worse else None)


def test_a_value_that_swings_around_its_limit_is_one_trouble() -> None:
    """P2, then P3, then P2 again: told once within the time after which P2 repeats, and again after it."""
    told_at = NOW - pd.Timedelta(hours=REPEAT_HOURS[P2])
    eased = standing(P3, told={P2: told_at + SECOND})
    assert meet(P2, eased, NOW, SETTINGS) is None
    assert meet(P2, replace(eased, told={P2: told_at}), NOW, SETTINGS) is Event.WORSENED
    # What was told as worse covers it; what was told as less bad does not.
    assert meet(P2, replace(eased, told={P1: NOW}), NOW, SETTINGS) is None
    assert meet(P2, replace(eased, told={P3: NOW}), NOW, SETTINGS) is Event.WORSENED


@pytest.mark.parametrize("severity", Severity)
def test_nobody_said_anything_so_it_is_told_again(severity: Severity) -> None:
    told_at = NOW - pd.Timedelta(hours=REPEAT_HOURS[severity])
    # Nobody is left to escalate to, so that only repeats remain.
    assert remind(standing(severity, at=told_at), NOW, SETTINGS, {}) == (Event.REPEATED, Role.ML_OWNER)
    assert remind(standing(severity, at=told_at + SECOND), NOW, SETTINGS, {}) is None
    assert remind(standing(severity, at=told_at, acknowledged=True), NOW, SETTINGS, {}) is None


@pytest.mark.parametrize(("ahead", "told"), [(SECOND, False), (pd.Timedelta(days=365), True)])
def test_what_was_told_by_a_clock_that_was_ahead_silences_nothing(ahead: pd.Timedelta, told: bool) -> None:
    before = replace(standing(P0, at=NOW + ahead), severity=P1)
    assert (meet(P0, before, NOW, SETTINGS) is Event.WORSENED) is told
    assert (remind(before, NOW, SETTINGS, {}) is not None) is told


@pytest.mark.parametrize("severity", Severity)
def test_what_opened_three_times_within_the_time_to_repeat_swings(severity: Severity) -> None:
    recent = NOW - pd.Timedelta(hours=REPEAT_HOURS[severity]) + SECOND
    assert is_swinging(severity, [(severity, recent)] * 3, NOW, SETTINGS)
    assert not is_swinging(severity, [(severity, recent)] * 2, NOW, SETTINGS)
    assert not is_swinging(severity, [*[(severity, recent)] * 2, (severity, recent - SECOND)], NOW, SETTINGS)
    milder = [(each, recent) for each in Severity if each > severity] * 3
    assert not is_swinging(severity, milder, NOW, SETTINGS)


@pytest.mark.parametrize("severity", [P0, P1, P2])
def test_what_nobody_acknowledged_escalates(severity: Severity) -> None:
    clock = NOW - pd.Timedelta(minutes=ESCALATE_MINUTES[severity])
    waiting = standing(severity, at=NOW, clock=clock)
    assert remind(waiting, NOW, SETTINGS, ESCALATES_TO) == (Event.ESCALATED, Role.MLOPS_MAINTAINER)
    assert remind(replace(waiting, clock_at=clock + SECOND), NOW, SETTINGS, ESCALATES_TO) is None
    assert remind(replace(waiting, is_acknowledged=True), NOW, SETTINGS, ESCALATES_TO) is None
    again = replace(waiting, escalations=1)
    assert remind(again, NOW, SETTINGS, ESCALATES_TO) == (Event.ESCALATED, Role.PLATFORM_OWNER)
    assert remind(replace(waiting, escalations=2), NOW, SETTINGS, ESCALATES_TO) is None


def test_what_can_wait_never_escalates() -> None:
    long_ago = NOW - pd.Timedelta(days=7) + SECOND
    assert remind(standing(P3, at=long_ago), NOW, SETTINGS, ESCALATES_TO) is None


def test_a_repeat_goes_to_whom_it_escalated_to() -> None:
    waiting = standing(P1, at=NOW - pd.Timedelta(hours=4), clock=NOW, escalations=1)
    assert remind(waiting, NOW, SETTINGS, ESCALATES_TO) == (Event.REPEATED, Role.MLOPS_MAINTAINER)


@pytest.mark.parametrize("owner", Role)
def test_everybody_has_somebody_to_escalate_to_and_no_line_goes_in_circles(owner: Role) -> None:
    line = [audience_of(owner, number, ESCALATES_TO) for number in range(6)]
    assert line[0] == owner and line[1] != owner
    told = list(dict.fromkeys(line))
    assert line == told + [told[-1]] * (len(line) - len(told))


ONE = Message(
    key="17.1-sx3k2a",
    alert_id=17,
    alert_key="signal/sortino/BTCUSDC",
    kind="signal/sortino",
    event=Event.OPENED,
    severity=P2,
    owner=Role.ML_OWNER,
    audience=Role.ML_OWNER,
    what="the Sortino ratio is -0.31, under 0",
    where="BTCUSDC",
    since=pd.Timestamp("2025-09-02 06:30", tz="UTC"),
    at=NOW,
    next_step="cvntrade discovery --crypto BTCUSDC",
    page="http://127.0.0.1:3000/assets/golden_signals",
)


def test_the_full_text_says_everything() -> None:
    assert full_text(ONE).splitlines() == [
        "P2 opened: BTCUSDC: the Sortino ratio is -0.31, under 0",
        "Since 2025-09-02 06:30 UTC (5 h); to the ML owner, within the day",
        "Next: cvntrade discovery --crypto BTCUSDC",
        "See: http://127.0.0.1:3000/assets/golden_signals",
        'Acknowledge: cvntrade ack 17 --reason "…"',
        "Alert signal/sortino/BTCUSDC, message 17.1-sx3k2a",
    ]


def test_an_escalated_text_says_whose_it_was() -> None:
    escalated = replace(ONE, event=Event.ESCALATED, audience=Role.MLOPS_MAINTAINER)
    assert "to the MLOps maintainer, within the day, for the ML owner" in full_text(escalated)


def test_a_recovery_says_why_and_how_long_and_asks_for_nothing() -> None:
    over = replace(ONE, event=Event.RECOVERED, next_step="a later run succeeded", page="")
    assert full_text(over).splitlines() == [
        "P2 recovered: BTCUSDC, it was: the Sortino ratio is -0.31, under 0",
        "It held from 2025-09-02 06:30 UTC to 2025-09-02 12:00 UTC (5 h); to the ML owner",
        "It is over: a later run succeeded",
        "Alert signal/sortino/BTCUSDC, message 17.1-sx3k2a",
    ]


def test_a_title_is_short_and_what_it_leaves_out_stands_in_the_body() -> None:
    what = f"the global state is ORANGE: infra_health, pass_rate and 3 more. {'infra_health is bad; ' * 30}"
    title, whole, since, *_ = full_text(replace(ONE, what=what, where="platform")).splitlines()
    assert title == "P2 opened: platform: the global state is ORANGE: infra_health, pass_rate and 3 more"
    assert whole.startswith("platform: the global state is ORANGE") and whole.endswith("infra_health is bad;")
    assert since.startswith("Since ")
    title, whole, *_ = full_text(replace(ONE, what="word " * 40)).splitlines()
    assert title.endswith("word…") and len(title) <= TITLE_LENGTH and whole.count("word") == 40


@pytest.mark.parametrize(("length", "lines"), [(TITLE_LENGTH, 6), (TITLE_LENGTH + 1, 7)])
def test_a_title_that_fits_is_not_said_twice(length: int, lines: int) -> None:
    what = "Z" * (length - len("P2 opened: BTCUSDC: "))
    assert len(full_text(replace(ONE, what=what)).splitlines()) == lines


@pytest.mark.parametrize(
    ("severity", "event", "tone"),
    [
        (P0, Event.OPENED, "failure"),
        (P1, Event.ESCALATED, "failure"),
        (P2, Event.REPEATED, "warning"),
        (P3, Event.WORSENED, "info"),
        (P0, Event.RECOVERED, "success"),
        (P3, Event.RECOVERED, "success"),
    ],
)
def test_a_message_is_shown_as_bad_as_it_is(severity: Severity, event: Event, tone: str) -> None:
    assert replace(ONE, severity=severity, event=event).tone == tone


def of(number: int) -> Message:
    crypto = f"C{number}USDC"
    return replace(ONE, key=f"{number}.1-sx3k2a", alert_id=number, alert_key=f"signal/sortino/{crypto}", where=crypto)


def test_several_together_list_each_with_its_key() -> None:
    messages = [of(number) for number in range(1, 21)]
    title, whom, *items, how = grouped_text(messages).splitlines()
    assert title == "P2 opened: 20 of signal/sortino" and whom == "to the ML owner, within the day:"
    assert len(items) == 20 and "cvntrade ack KEY" in how
    for message, item in zip(messages, items, strict=True):
        assert item.startswith(f"- {message.where}: ") and message.key in item and message.alert_key in item
        assert message.next_step in item and "since 2025-09-02 06:30 UTC" in item


def test_what_is_over_says_that_it_was_in_every_form() -> None:
    over = [replace(of(number), event=Event.RECOVERED, next_step="it is over") for number in (1, 2)]
    assert "- C1USDC, it was: the Sortino ratio is -0.31, under 0; held from " in grouped_text(over)
    assert short_text(over[:1]).startswith("P2 recovered: C1USDC, it was: the Sortino ratio")


def test_a_text_message_says_the_step_rather_than_every_reason() -> None:
    what = f"the global state is RED: infra_health. {'infra_health is critical; ' * 20}"
    text = short_text([replace(ONE, what=what, where="")])
    assert text.startswith("P2 opened: the global state is RED: infra_health. Next: cvntrade discovery ")


def test_a_text_message_is_short_and_has_its_key() -> None:
    assert short_text([ONE]) == (
        "P2 opened: BTCUSDC: the Sortino ratio is -0.31, under 0. Next: cvntrade discovery --crypto BTCUSDC "
        "[17.1-sx3k2a]"
    )
    long = short_text([replace(ONE, what="word " * 200)])
    assert long.endswith("word… [17.1-sx3k2a]") and len(long) <= SHORT_LENGTH + len(" [17.1-sx3k2a]")


def test_a_step_that_does_not_fit_is_left_out_whole() -> None:
    """Half a command is worse than none."""
    about = "the Sortino ratio is -0.31, under 0"
    room = SHORT_LENGTH - len(f"P2 opened: BTCUSDC: {about}. Next: ")
    assert short_text([replace(ONE, next_step="Z" * room)]).count("Z") == room
    assert "Z" not in short_text([replace(ONE, next_step="Z" * (room + 1))])


def test_a_text_message_of_many_names_some_and_has_every_key() -> None:
    messages = [of(number) for number in range(1, 21)]
    text = short_text(messages)
    head, keys = text[:-1].split(" [")
    assert keys.split() == [message.key for message in messages]
    assert head == "P2 opened: 20 of signal/sortino: C1USDC, C2USDC, C3USDC, C4USDC, C5USDC and 15 more"


@pytest.mark.parametrize(
    ("text", "length", "cut"),
    [
        ("one two", 7, "one two"),
        ("one\n  two", 7, "one two"),
        ("one two three", 9, "one two…"),
        ("one two, three", 10, "one two…"),
        ("abcdefghijkl", 5, "abcd…"),
        ("ab cdefghijklm", 8, "ab cdef…"),
    ],
)
def test_a_text_is_cut_between_words(text: str, length: int, cut: str) -> None:
    assert shortened(text, length) == cut and len(cut) <= length


def test_keys_differ_by_alert_message_and_moment() -> None:
    keys = {
        message_key(alert, number, NOW + pd.Timedelta(seconds=later))
        for alert in (1, 11)
        for number in (1, 2)
        for later in (0, 1)
    }
    assert len(keys) == 8
    assert int(message_key(1, 1, NOW).split("-")[1], 36) == int(NOW.timestamp())
