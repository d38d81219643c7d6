"""The channels that alerts go out by: Apprise addresses from the environment, each of which is a secret as a whole.

Apprise says whether a service took a message and little more: neither the status of the answer nor for how long to
leave the service alone, which is why the answers are listened to here. What it logs holds the address, or parts of it:
while a message is sent nothing of that reaches a log, and what went wrong is told in words of our own.
"""

import logging
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from functools import cache
from typing import TYPE_CHECKING, Any, Final, Protocol

import pandas as pd

from cvntrade_assets.operations.alert_texts import Tone
from cvntrade_assets.setting_kinds import CHANNELS

if TYPE_CHECKING:
    import requests

# Of the whole attempt; Apprise's own are for connecting and for every single read.
SEND_SECONDS: Final = 20.0
# A service that wants to be left alone and does not say for how long.
HELD_SECONDS: Final = 60.0
# None may silence a channel for longer: what it asks for after that, it asks for again.
LONGEST_HELD_SECONDS: Final = 3600.0

_TOO_MUCH = 429
_CHATTY = ("apprise", "urllib3.connectionpool", "urllib3.util.retry")
_SMTP_ANSWER = re.compile(r"\((\d{3}), b")


@dataclass(frozen=True)
class Outcome:
    """What came of an attempt to send.

    Attributes:
        sent: Whether the service took it.
        error: Why not, in words that hold nothing of the address; empty when it did.
        held_seconds: For how long the service wants to be left alone; None when it does not say so.
    """

    sent: bool
    error: str = ""
    held_seconds: float | None = None


class Channel(Protocol):
    """What a message can be sent by."""

    def send(self, title: str, body: str, tone: Tone) -> Outcome:
        """Try once; whatever goes wrong is in the outcome."""
        ...


@dataclass
class _Heard:
    """What was heard while one message was sent."""

    statuses: list[int] = field(default_factory=list)
    waits: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


_heard: ContextVar[_Heard | None] = ContextVar("heard", default=None)


@dataclass(frozen=True)
class AppriseChannel:
    """One Apprise address.

    Attributes:
        variable: The environment's name for it, for messages.
        url: The address.
        seconds: After which an attempt is given up.
    """

    variable: str
    url: str = field(repr=False)
    seconds: float = SEND_SECONDS

    def send(self, title: str, body: str, tone: Tone) -> Outcome:
        """Try once, quietly."""
        with _listening() as heard:
            try:
                return self._send(title, body, tone, heard)
            except Exception as error:  # noqa: BLE001 - it may hold the address, and must not keep others waiting
                return Outcome(False, f"Apprise failed with {type(error).__name__}")

    def _send(self, title: str, body: str, tone: Tone, heard: _Heard) -> Outcome:
        import apprise
        from apprise.result import AppriseResultStatus

        services = apprise.Apprise(asset=apprise.AppriseAsset(app_id="CVNTrade", app_desc="CVNTrade alerts"))
        if not services.add(self.url):
            return Outcome(False, f"{self.variable} is no address that Apprise can use; nothing of it is repeated")
        shown = apprise.NotifyType(tone)
        result = services.notify(body, title, shown, body_format="text", timeout=self.seconds)
        if result:
            return Outcome(True)
        if result.status == AppriseResultStatus.TIMEOUT:
            return Outcome(False, f"no answer within {self.seconds:g} s")
        if _TOO_MUCH in heard.statuses:
            return Outcome(False, "answered 429, too many requests", _held_seconds(heard.waits))
        return Outcome(False, _why(heard))


def channels(environment: Mapping[str, str]) -> dict[str, Channel]:
    """The channels that are configured, by name: CVN_ALERT_SLACK_URL, CVN_ALERT_SMS_URL, CVN_ALERT_MAIL_URL."""
    variables = {name: f"CVN_ALERT_{name.upper()}_URL" for name in CHANNELS}
    return {
        name: AppriseChannel(variable, environment[variable].strip())
        for name, variable in variables.items()
        if environment.get(variable, "").strip()
    }


@contextmanager
def _listening() -> Iterator[_Heard]:
    _listen()
    heard = _Heard()
    token = _heard.set(heard)
    try:
        yield heard
    finally:
        _heard.reset(token)


@cache
def _listen() -> None:
    """Hear the answers to what is sent, and keep it out of the logs; once, and for good.

    A context tells our own messages from whatever else this process asks of anybody: Apprise takes it along to its
    threads, and one that is given up there stays quiet to its end.
    """
    import requests

    requests.Session.send = _overheard(requests.Session.send)  # type: ignore[method-assign]
    for name in _CHATTY:
        logging.getLogger(name).addFilter(_is_loud)
    # A mail server's answer is among what it says at this level, to nobody but us.
    logging.getLogger("apprise").setLevel(logging.DEBUG)


def _overheard(send: Callable[..., "requests.Response"]) -> Callable[..., "requests.Response"]:
    def overheard(
        session: "requests.Session", request: "requests.PreparedRequest", **given: Any
    ) -> "requests.Response":
        heard = _heard.get()
        try:
            answer = send(session, request, **given)
        except Exception as error:
            if heard is not None:
                heard.errors.append(type(error).__name__)
            raise
        if heard is not None:
            heard.statuses.append(answer.status_code)
            heard.waits.append(answer.headers.get("Retry-After", ""))
        return answer

    return overheard


def _is_loud(record: logging.LogRecord) -> bool:
    """Whether a line may go to the log: not while one of our messages is sent."""
    heard = _heard.get()
    if heard is None:
        return True
    if answered := _SMTP_ANSWER.search(record.getMessage()):
        heard.errors.append(f"SMTP {answered[1]}")
    return False


def _why(heard: _Heard) -> str:
    told = [*(f"HTTP {status}" for status in heard.statuses), *heard.errors]
    return f"failed: {', '.join(dict.fromkeys(told))}" if told else "the service did not take it"


def _held_seconds(waits: list[str]) -> float:
    """For how long to leave a service alone, by its newest word on it: seconds, or a date."""
    text = next((text.strip() for text in reversed(waits) if text.strip()), "")
    try:
        seconds = float(text) if text.isdecimal() else _until(text)
    except (ValueError, TypeError):
        seconds = HELD_SECONDS
    return min(max(seconds, 1.0), LONGEST_HELD_SECONDS)


def _until(text: str) -> float:
    return float((pd.Timestamp(parsedate_to_datetime(text)) - pd.Timestamp.now("UTC")).total_seconds())
