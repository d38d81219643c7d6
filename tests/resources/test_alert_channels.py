"""The channels against a real web service and a real mail server: what is sent, what refusals say, and what stays
out of every log.
"""

import io
import logging
import threading
from collections.abc import Iterator

import pandas as pd
import pytest
import requests
from alert_receiver import Answer, MailReceiver, WebReceiver

from cvntrade_assets.operations.alert_texts import Tone
from resources.alert_channels import LONGEST_HELD_SECONDS, AppriseChannel, channels

HIDDEN = "/T1JJ3T3L2/hidden-path"


@pytest.fixture
def web() -> Iterator[WebReceiver]:
    with WebReceiver() as receiver:
        yield receiver


@pytest.fixture
def mail() -> Iterator[MailReceiver]:
    with MailReceiver() as receiver:
        yield receiver


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """Everything that anybody logs, at every level."""
    text, root = io.StringIO(), logging.getLogger()
    # Whoever imports kubernetes' client has the connections' log begin at warnings.
    levels = {each: each.level for each in (root, logging.getLogger("urllib3"))}
    handler = logging.StreamHandler(text)
    root.addHandler(handler)
    for each in levels:
        each.setLevel(1)
    yield text
    root.removeHandler(handler)
    for each, level in levels.items():
        each.setLevel(level)


def channel(url: str, seconds: float = 10.0) -> AppriseChannel:
    return AppriseChannel("CVN_ALERT_SLACK_URL", url, seconds)


def test_only_what_is_configured_is_a_channel() -> None:
    found = channels({"CVN_ALERT_SLACK_URL": " json://127.0.0.1/slack ", "CVN_ALERT_SMS_URL": " ", "CVN_UI_URL": "x"})
    assert found == {"slack": AppriseChannel("CVN_ALERT_SLACK_URL", "json://127.0.0.1/slack")}
    every = channels({f"CVN_ALERT_{name}_URL": f"json://127.0.0.1/{name}" for name in ("SLACK", "SMS", "MAIL")})
    assert list(every) == ["slack", "sms", "mail"]


def test_a_web_service_gets_title_and_body(web: WebReceiver, log: io.StringIO) -> None:
    assert channel(web.url(HIDDEN)).send("P2 opened: it", "Since then\nmessage 1.1-sx3k2a", Tone.FAILURE).sent
    [received] = web.received
    assert (received.place, received.title, received.keys) == (HIDDEN, "P2 opened: it", ["1.1-sx3k2a"])
    assert received.tone == "failure"
    assert received.body == "Since then\nmessage 1.1-sx3k2a"
    assert log.getvalue() == ""


def test_a_mailbox_gets_subject_and_text(mail: MailReceiver, log: io.StringIO) -> None:
    assert channel(mail.url).send("P2 opened: it", "Since then\nmessage 1.1-sx3k2a", Tone.FAILURE).sent
    [received] = mail.received
    assert (received.place, received.title, received.keys) == ("owner@example.org", "P2 opened: it", ["1.1-sx3k2a"])
    assert "owner@example.org" not in log.getvalue() and "127.0.0.1" not in log.getvalue()


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (Answer(500), "failed: HTTP 500"),
        (Answer(404), "failed: HTTP 404"),
        (Answer(200, seconds=5.0), "failed: ReadTimeout"),
    ],
)
def test_a_refusal_says_what_it_was_and_not_where(
    web: WebReceiver, log: io.StringIO, answer: Answer, error: str
) -> None:
    web.always = answer
    outcome = channel(f"{web.url(HIDDEN)}?rto=0.3").send("title", "body", Tone.INFO)
    assert (outcome.sent, outcome.error, outcome.held_seconds) == (False, error, None)
    assert log.getvalue() == ""


def test_an_attempt_ends_in_time_and_stays_quiet_after_it(web: WebReceiver, log: io.StringIO) -> None:
    """The thread that Apprise has given up goes on for a while."""
    web.always = Answer(500, seconds=1.0)
    before = set(threading.enumerate())
    outcome = channel(web.url(HIDDEN), seconds=0.2).send("title", "body", Tone.INFO)
    assert outcome.error == "no answer within 0.2 s"
    for thread in set(threading.enumerate()) - before:
        thread.join(3.0)
    assert log.getvalue() == ""


@pytest.mark.parametrize(
    "url",
    [
        f"json://127.0.0.1:1{HIDDEN}",
        f"nonsense://host{HIDDEN}",
        f"slack:/{HIDDEN}",
        "mailto://me:hidden-password@127.0.0.1:1?smtp=127.0.0.1&from=a@example.org&to=hidden@example.org&mode=insecure",
        "hidden",
    ],
)
def test_an_address_that_is_wrong_is_never_repeated(url: str, log: io.StringIO) -> None:
    made = channel(url)
    outcome = made.send("title", "body", Tone.INFO)
    assert not outcome.sent and outcome.error
    for said in (outcome.error, repr(made), log.getvalue()):
        assert "hidden" not in said and HIDDEN not in said


def test_whatever_apprise_raises_is_an_outcome_without_its_words(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **given: object) -> None:
        raise RuntimeError("could not reach json://hidden")

    monkeypatch.setattr("apprise.Apprise.add", fail)
    assert channel("json://127.0.0.1/").send("title", "body", Tone.INFO).error == "Apprise failed with RuntimeError"


@pytest.mark.parametrize(
    ("headers", "least", "most"),
    [
        ({"Retry-After": "7"}, 7, 7),
        ({"Retry-After": "0"}, 1, 1),
        ({"Retry-After": "86400"}, LONGEST_HELD_SECONDS, LONGEST_HELD_SECONDS),
        ({"Retry-After": "soon"}, 60, 60),
        ({"Retry-After": "Tue, 02 Sep 2025 12:00:00 -0000"}, 1, 60),
        ({}, 60, 60),
    ],
)
def test_a_service_that_had_too_much_says_for_how_long(
    web: WebReceiver, headers: dict[str, str], least: float, most: float
) -> None:
    web.script = [Answer(429, headers)]
    outcome = channel(web.url("/slack")).send("title", "body", Tone.INFO)
    assert outcome.error == "answered 429, too many requests"
    assert outcome.held_seconds is not None and least <= outcome.held_seconds <= most


def test_a_service_may_also_say_until_when(web: WebReceiver) -> None:
    until = pd.Timestamp.now("UTC") + pd.Timedelta(minutes=5)
    web.script = [Answer(429, {"Retry-After": f"{until:%a, %d %b %Y %H:%M:%S} GMT"})]
    outcome = channel(web.url("/slack")).send("title", "body", Tone.INFO)
    assert outcome.held_seconds is not None and 200 <= outcome.held_seconds <= 300


@pytest.mark.parametrize("code", [451, 550])
def test_a_mail_server_that_refuses_says_its_code(mail: MailReceiver, code: int) -> None:
    mail.script = [Answer(code)]
    assert channel(mail.url).send("title", "body", Tone.INFO).error == f"failed: SMTP {code}"


def test_what_others_send_is_neither_heard_nor_silenced(web: WebReceiver, log: io.StringIO) -> None:
    channel(web.url("/slack")).send("title", "body", Tone.INFO)
    web.script = [Answer(429)]
    answer = requests.post(f"http://127.0.0.1:{web.port}/other", json={"title": "", "message": ""}, timeout=5)
    assert answer.status_code == 429
    assert '"POST /other HTTP/1.1" 429' in log.getvalue()
