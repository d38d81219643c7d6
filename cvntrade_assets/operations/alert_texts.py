"""What an alert says: in full, several together, and short enough for a text message.

Every form carries the keys of its messages. What was sent but not noted as sent, because the sender died between the
two, is sent again with the same key: who receives may drop it by that.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import pandas as pd

from cvntrade_assets.operations.alerting import Event
from cvntrade_assets.operations.taxonomy import Role, Severity

SHORT_LENGTH = 320
"""Letters of a text message, its keys aside: what two parts of one hold."""

TITLE_LENGTH = 120
"""Letters of a title, which is a mail's subject: what does not fit stands in the body, whole."""

_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
_NAMED = 5


class Tone(StrEnum):
    """How a message is shown where there are colours, by Apprise's names for them."""

    FAILURE = "failure"
    WARNING = "warning"
    INFO = "info"
    SUCCESS = "success"


_TONES = {Severity.P0: Tone.FAILURE, Severity.P1: Tone.FAILURE, Severity.P2: Tone.WARNING, Severity.P3: Tone.INFO}


@dataclass(frozen=True)
class Message:
    """One thing to tell of one alert.

    Attributes:
        key: Of this message: the same each time that it is sent, and no other's.
        alert_id: Number of the alert.
        alert_key: Which condition it is about.
        kind: What it is told together with.
        event: What happened to it.
        severity: How bad it is.
        owner: Who answers for it.
        audience: Who is told.
        what: What is wrong, a sentence.
        where: The crypto, job, asset or process.
        since: Since when, UTC.
        at: The moment that it is told of, UTC.
        next_step: What to do; of one that is over, why it is.
        page: Address of the page that shows it; empty when none does.
    """

    key: str
    alert_id: int
    alert_key: str
    kind: str
    event: Event
    severity: Severity
    owner: Role
    audience: Role
    what: str
    where: str
    since: pd.Timestamp
    at: pd.Timestamp
    next_step: str
    page: str = ""

    @property
    def tone(self) -> Tone:
        """How it is shown."""
        return Tone.SUCCESS if self.event is Event.RECOVERED else _TONES[self.severity]


def message_key(alert_id: int, number: int, opened_at: pd.Timestamp) -> str:
    """The key of an alert's nth message; the moment of the alert keeps it apart from those of other databases."""
    seconds, letters = int(opened_at.timestamp()), ""
    while seconds:
        seconds, rest = divmod(seconds, len(_DIGITS))
        letters = _DIGITS[rest] + letters
    return f"{alert_id}.{number}-{letters}"


def full_text(message: Message) -> str:
    """Everything about one message; its first line is its title."""
    over = message.event is Event.RECOVERED
    when = f"It {_held(message)}" if over else f"Since {_moment(message.since)} ({_span(message)})"
    title = _title(message)
    lines = [
        title,
        "" if title.endswith(_about(message)) else _about(message),
        f"{when}; {_for_whom(message)}",
        _labelled("It is over" if over else "Next", message.next_step),
        _labelled("See", message.page),
        # What is told past the alerts' table has no number there, and nobody can acknowledge it.
        "" if over or not message.alert_id else f'Acknowledge: cvntrade ack {message.alert_id} --reason "…"',
        f"Alert {message.alert_key}, message {message.key}",
    ]
    return "\n".join(line for line in lines if line)


def grouped_text(messages: Sequence[Message]) -> str:
    """Several messages of one kind, event, severity and audience as one; its first line is its title."""
    first = messages[0]
    over = first.event is Event.RECOVERED
    lines = [f"{first.severity} {first.event}: {len(messages)} of {first.kind}", f"{_for_whom(first)}:"]
    for each in messages:
        since = _held(each) if over else f"since {_moment(each.since)}"
        step = f"; {'over' if over else 'next'}: {each.next_step}" if each.next_step else ""
        page = f"; {each.page}" if each.page else ""
        lines.append(f"- {_about(each)}; {since}{step}{page} (alert {each.alert_key}, message {each.key})")
    if not over:
        lines.append('Acknowledge each: cvntrade ack KEY --reason "…"')
    return "\n".join(lines)


def short_text(messages: Sequence[Message], limit: int = SHORT_LENGTH) -> str:
    """The same for a text message: what does not fit is cut at a word, the keys never are."""
    first = messages[0]
    head = f"{first.severity} {first.event}: "
    keys = " ".join(each.key for each in messages)
    if len(messages) == 1:
        said = _about(first)
        if first.next_step and first.event is not Event.RECOVERED:
            with_step = [f"{each.rstrip('.')}. Next: {first.next_step}" for each in (said, _first_sentence(said))]
            # Half a command is worse than none.
            said = next((each for each in with_step if len(head + each) <= limit), said)
    else:
        named = ", ".join(each.where for each in messages[:_NAMED])
        more = f" and {len(messages) - _NAMED} more" if len(messages) > _NAMED else ""
        said = f"{len(messages)} of {first.kind}: {named}{more}"
    return f"{head}{shortened(said, limit - len(head))} [{keys}]"


def one_line(text: str) -> str:
    """The text in one line, without what nobody can print and no database takes: others write what alerts repeat."""
    return " ".join("".join(each if each.isprintable() or each.isspace() else "\ufffd" for each in text).split())


def shortened(text: str, length: int) -> str:
    """The text in one line of at most so many letters, cut between words where it has to be."""
    line = one_line(text)
    if len(line) <= length:
        return line
    cut = line[: length - 1]
    # A word that is half the text is no place to cut before.
    space = cut.rfind(" ")
    return f"{(cut[:space] if space > length // 2 else cut).rstrip(' ,;:.')}…"


def _title(message: Message) -> str:
    """What fits: the whole, or else its first sentence, cut where it has to be."""
    head, about = f"{message.severity} {message.event}: ", _about(message)
    if len(head + about) <= TITLE_LENGTH:
        return head + about
    return head + shortened(_first_sentence(about), TITLE_LENGTH - len(head))


def _first_sentence(text: str) -> str:
    return text.partition(". ")[0]


def _about(message: Message) -> str:
    """What and where, in one line; a sentence that names the place does not need it twice.

    What is over must not read as if it still were.
    """
    what = one_line(message.what)
    if message.event is Event.RECOVERED:
        return f"{message.where}, it was: {what}" if message.where else f"it was: {what}"
    return what if not message.where or message.where in what else f"{message.where}: {what}"


def _for_whom(message: Message) -> str:
    by_when = "" if message.event is Event.RECOVERED else f", {message.severity.time_limit}"
    if message.audience == message.owner:
        return f"to the {message.owner}{by_when}"
    return f"to the {message.audience}{by_when}, for the {message.owner}, who answers for it"


def _held(message: Message) -> str:
    return f"held from {_moment(message.since)} to {_moment(message.at)} ({_span(message)})"


def _span(message: Message) -> str:
    minutes = max(0, int((message.at - message.since).total_seconds() // 60))
    if minutes < 2 * 60:
        return f"{minutes} min"
    return f"{minutes // 60} h" if minutes < 2 * 24 * 60 else f"{minutes // (24 * 60)} d"


def _moment(moment: pd.Timestamp) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"


def _labelled(label: str, text: str) -> str:
    return f"{label}: {text}" if text else ""
