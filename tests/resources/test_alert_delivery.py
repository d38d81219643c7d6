"""Sending what waits: through refusals, a service that had too much, workers that die, and several at once."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import dagster as dg
import pandas as pd
import pytest
import sqlalchemy as sa
from alert_receiver import Answer, MailReceiver, Received, WebReceiver
from alert_rows import NOW, SETTINGS, clear_alerts, condition, find, messages

from cvntrade_assets.automation.alert_delivery import alert_delivery as alert_delivery_sensor
from cvntrade_assets.operations.alert_texts import Message, Tone
from cvntrade_assets.operations.alerting import Event
from cvntrade_assets.operations.taxonomy import Role, Severity
from cvntrade_assets.settings import Settings, resolve
from resources import alert_delivery
from resources.alert_channels import AppriseChannel, Channel, Outcome
from resources.alert_delivery import LEASE, PATIENCE, TOGETHER, deliver_due, send_directly
from resources.alerts import undelivered
from resources.warehouse import Warehouse

SECOND = pd.Timedelta(seconds=1)
P0, P1, P2, P3 = Severity
# As declared: 3 attempts, 30 s before the second one.
REFUSED = Outcome(False, "failed: HTTP 500")


@dataclass
class Fake:
    """A channel that answers as it is told, and takes everything otherwise."""

    script: list[Outcome] = field(default_factory=list)
    always: Outcome | None = None
    sent: list[Received] = field(default_factory=list)
    attempts: int = 0

    def send(self, title: str, body: str, tone: Tone) -> Outcome:
        self.attempts += 1
        outcome = self.always or (self.script.pop(0) if self.script else Outcome(True))
        if outcome.sent:
            self.sent.append(Received("", title, body, tone))
        return outcome

    @property
    def keys(self) -> list[str]:
        return [key for each in self.sent for key in each.keys]


@dataclass
class Clock:
    """What a round of sending goes by to know how long it has taken."""

    seconds: float = 0.0

    def monotonic(self) -> float:
        return self.seconds


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """It stands still, however slow the machine is."""
    standing = Clock()
    monkeypatch.setattr(alert_delivery, "time", standing)
    return standing


@pytest.fixture(autouse=True)
def empty(warehouse: Warehouse) -> None:
    clear_alerts(warehouse)


@pytest.fixture
def slack() -> Fake:
    return Fake()


@pytest.fixture
def mail() -> Fake:
    return Fake()


@pytest.fixture
def sms() -> Fake:
    return Fake()


@pytest.fixture
def everywhere(slack: Fake, mail: Fake, sms: Fake) -> dict[str, Channel]:
    return {"slack": slack, "mail": mail, "sms": sms}


def settings(**texts: str) -> Settings:
    return resolve(base_env={f"CVN_ALERT_{name}": text for name, text in texts.items()}, run={}, now=NOW)


def keys_of(warehouse: Warehouse) -> list[str]:
    return [row["dedup_key"] for row in messages(warehouse)]


def test_what_is_due_goes_out_by_the_first_channel_of_its_route(
    warehouse: Warehouse, everywhere: dict[str, Channel], slack: Fake, mail: Fake, sms: Fake
) -> None:
    find(warehouse, [condition(f"{severity}USDC", severity) for severity in Severity])
    delivered = deliver_due(warehouse, everywhere, SETTINGS, NOW)
    assert (delivered.sent, delivered.failed, delivered.waiting) == (4, 0, 0)
    assert [each.title[:2] for each in slack.sent] == ["P1", "P2"] and mail.sent[0].title.startswith("P3 opened")
    # A text message has no title, and everything that counts in one line.
    [text] = sms.sent
    assert text.title == "" and text.body.startswith("P0 opened: ") and "\n" not in text.body
    assert [(row["sent_by"], row["attempts"]) for row in messages(warehouse)] == [
        ("sms", 1),
        ("slack", 1),
        ("slack", 1),
        ("mail", 1),
    ]
    assert sorted(slack.keys + mail.keys + sms.keys) == sorted(keys_of(warehouse))


def test_what_was_sent_is_not_sent_again(warehouse: Warehouse, everywhere: dict[str, Channel], slack: Fake) -> None:
    find(warehouse, [condition()])
    for later in range(5):
        deliver_due(warehouse, everywhere, SETTINGS, NOW + later * LEASE)
    assert slack.attempts == 1


def test_twenty_of_a_kind_are_one_message_with_every_key(
    warehouse: Warehouse, everywhere: dict[str, Channel], slack: Fake
) -> None:
    cryptos = [f"C{number}USDC" for number in range(20)]
    find(warehouse, [*(condition(crypto) for crypto in cryptos), condition(signal="sl_pct", kind="signal/sl_pct")])
    assert deliver_due(warehouse, everywhere, SETTINGS, NOW).sent == 21
    together, alone = slack.sent
    assert together.title == "P2 opened: 20 of signal/sortino" and len(together.keys) == 20
    assert all(f"of {crypto} is -0.31" in together.body for crypto in cryptos)
    assert len(alone.keys) == 1 and sorted(slack.keys) == sorted(keys_of(warehouse))


def test_a_list_is_not_longer_than_anybody_reads(
    warehouse: Warehouse, everywhere: dict[str, Channel], slack: Fake
) -> None:
    find(warehouse, [condition(f"C{number}USDC") for number in range(TOGETHER + 1)])
    deliver_due(warehouse, everywhere, SETTINGS, NOW)
    assert [len(each.keys) for each in slack.sent] == [TOGETHER, 1]


def test_a_refused_message_waits_twice_as_long_each_time(warehouse: Warehouse, slack: Fake) -> None:
    find(warehouse, [condition()])
    slack.always, at, waits = REFUSED, NOW, []
    for _ in range(6):
        assert deliver_due(warehouse, {"slack": slack}, SETTINGS, at).troubles == ("slack: failed: HTTP 500",)
        [row] = messages(warehouse)
        due_at = pd.Timestamp(row["due_at"])
        assert not deliver_due(warehouse, {"slack": slack}, SETTINGS, due_at - SECOND).failed
        waits.append((due_at - at).total_seconds())
        at = due_at
    assert waits == [30, 60, 120, 240, 480, 960]
    assert undelivered(warehouse)[0].last_error == "slack: failed: HTTP 500"
    slack.always = None
    assert deliver_due(warehouse, {"slack": slack}, SETTINGS, at).sent == 1
    [row] = messages(warehouse)
    assert row["last_error"] is None and row["attempts"] == 7


def test_no_wait_is_longer_than_an_hour(warehouse: Warehouse, slack: Fake) -> None:
    find(warehouse, [condition()])
    with warehouse.begin() as connection:
        connection.execute(sa.text("update alert_messages set attempts = 5000"))
    slack.always = REFUSED
    deliver_due(warehouse, {"slack": slack}, SETTINGS, NOW)
    assert messages(warehouse)[0]["due_at"] == NOW + pd.Timedelta(hours=1)


def test_after_its_attempts_the_next_channel_is_tried_at_once(
    warehouse: Warehouse, everywhere: dict[str, Channel], slack: Fake, mail: Fake
) -> None:
    find(warehouse, [condition()])
    slack.always, mail.always = REFUSED, REFUSED
    for later, made in ((0, (1, 0)), (29, (1, 0)), (30, (2, 0)), (89, (2, 0)), (90, (3, 1)), (120, (3, 2))):
        deliver_due(warehouse, everywhere, SETTINGS, NOW + later * SECOND)
        assert (slack.attempts, mail.attempts) == made, later
    deliver_due(warehouse, everywhere, SETTINGS, NOW + 180 * SECOND)
    # The route is at its end: it begins anew, where it had got to in waiting.
    [row] = messages(warehouse)
    assert mail.attempts == 3 and row["due_at"] == NOW + (180 + 120) * SECOND
    slack.always = None
    deliver_due(warehouse, everywhere, SETTINGS, NOW + 300 * SECOND)
    assert messages(warehouse)[0]["sent_by"] == "slack"


def test_attempts_and_the_wait_are_settings(
    warehouse: Warehouse, everywhere: dict[str, Channel], slack: Fake, mail: Fake
) -> None:
    find(warehouse, [condition()])
    slack.always = REFUSED
    chosen = settings(ATTEMPTS="1", ROUTE_P2="slack,sms,mail", BACKOFF_SECONDS="5")
    assert deliver_due(warehouse, everywhere, chosen, NOW).sent == 1
    assert slack.attempts == 1 and messages(warehouse)[0]["sent_by"] == "sms" and mail.attempts == 0


HELD = Outcome(False, "answered 429, too many requests", 50.0)


def test_a_channel_that_had_too_much_is_left_alone_by_everything(
    warehouse: Warehouse, everywhere: dict[str, Channel], slack: Fake, mail: Fake
) -> None:
    find(warehouse, [condition(severity=P1), condition("ETHUSDC", P2)])
    slack.script = [HELD]
    delivered = deliver_due(warehouse, everywhere, SETTINGS, NOW)
    assert (delivered.failed, delivered.waiting, slack.attempts, mail.attempts) == (1, 2, 1, 0)
    # What is found meanwhile waits too, whichever worker sends it.
    find(warehouse, [condition(severity=P1), condition("ETHUSDC", P2), condition("ADAUSDC", P1)], NOW + 10 * SECOND)
    deliver_due(warehouse, everywhere, SETTINGS, NOW + 49 * SECOND)
    assert slack.attempts == 1
    # Waiting for a channel is no attempt on it.
    assert [row["attempts"] for row in messages(warehouse)] == [1, 0, 0]
    assert deliver_due(warehouse, everywhere, SETTINGS, NOW + 50 * SECOND).sent == 3
    assert len(slack.keys) == len(set(slack.keys)) == 3


def test_it_is_left_alone_for_as_long_as_it_asks_from_its_answer_on(
    warehouse: Warehouse, clock: Clock, slack: Fake, mail: Fake
) -> None:
    find(warehouse, [condition(severity=P1), condition("ETHUSDC", P2)])

    class Slow(Fake):
        def send(self, title: str, body: str, tone: Tone) -> Outcome:
            clock.seconds += 20.0
            return super().send(title, body, tone)

    slow = Slow(script=[Outcome(True), HELD])
    deliver_due(warehouse, {"slack": slow}, SETTINGS, NOW)
    assert slow.attempts == 2
    deliver_due(warehouse, {"slack": slow}, SETTINGS, NOW + (40 + 49) * SECOND)
    assert slow.attempts == 2
    assert deliver_due(warehouse, {"slack": slow}, SETTINGS, NOW + (40 + 50) * SECOND).sent == 1


def test_what_a_clock_that_was_ahead_put_off_is_due(warehouse: Warehouse, slack: Fake) -> None:
    a_year_ahead = NOW + pd.Timedelta(days=365)
    find(warehouse, [condition()], a_year_ahead)
    slack.script = [HELD]
    deliver_due(warehouse, {"slack": slack}, SETTINGS, a_year_ahead)
    assert deliver_due(warehouse, {"slack": slack}, SETTINGS, NOW).sent == 1


def test_what_had_too_much_for_long_is_passed_by(
    warehouse: Warehouse, everywhere: dict[str, Channel], slack: Fake, mail: Fake
) -> None:
    find(warehouse, [condition()])
    slack.script = [Outcome(False, HELD.error, PATIENCE.total_seconds() + 31.0)]
    deliver_due(warehouse, everywhere, SETTINGS, NOW)
    assert deliver_due(warehouse, everywhere, SETTINGS, NOW + 30 * SECOND).sent == 1
    assert messages(warehouse)[0]["sent_by"] == "mail"


def test_what_is_free_soon_is_waited_for(
    warehouse: Warehouse, everywhere: dict[str, Channel], slack: Fake, mail: Fake
) -> None:
    find(warehouse, [condition()])
    slack.script = [Outcome(False, HELD.error, PATIENCE.total_seconds() + 30.0)]
    deliver_due(warehouse, everywhere, SETTINGS, NOW)
    assert deliver_due(warehouse, everywhere, SETTINGS, NOW + 30 * SECOND).sent == 0
    assert deliver_due(warehouse, everywhere, SETTINGS, NOW + 30 * SECOND + PATIENCE).sent == 1
    assert messages(warehouse)[0]["sent_by"] == "slack"


def test_without_a_channel_it_waits_and_says_why(warehouse: Warehouse, mail: Fake) -> None:
    find(warehouse, [condition(severity=P0), condition("ETHUSDC", P3)])
    delivered = deliver_due(warehouse, {"mail": mail}, settings(ROUTE_P0="sms,slack"), NOW)
    assert (delivered.sent, delivered.waiting) == (1, 1)
    [waiting] = undelivered(warehouse)
    assert waiting.last_error == (
        "no channel of the route of P0 is configured: set CVN_ALERT_SMS_URL or CVN_ALERT_SLACK_URL"
    )
    assert waiting.attempts == 0
    # Once there is one it goes out.
    assert deliver_due(warehouse, {"mail": mail}, SETTINGS, NOW).sent == 1


def test_a_worker_that_dies_before_it_notes_what_it_sent_sends_it_again_with_the_same_key(
    warehouse: Warehouse, everywhere: dict[str, Channel], slack: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    find(warehouse, [condition(), condition("ETHUSDC")])

    class Killed(BaseException): ...

    def die(*args: object) -> None:
        raise Killed

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(alert_delivery, "_settle", die)
        deliver_due(warehouse, everywhere, SETTINGS, NOW)
    # Nobody else takes it while it may still be at it.
    deliver_due(warehouse, everywhere, SETTINGS, NOW + LEASE - SECOND)
    assert slack.attempts == 1
    assert deliver_due(warehouse, everywhere, SETTINGS, NOW + LEASE).sent == 2
    first, second = slack.sent
    assert first.keys == second.keys == keys_of(warehouse)


def test_a_worker_whose_lease_ran_out_does_not_undo_what_another_did(
    warehouse: Warehouse, everywhere: dict[str, Channel], mail: Fake
) -> None:
    find(warehouse, [condition()])

    class Slow(Fake):
        def send(self, title: str, body: str, tone: Tone) -> Outcome:
            if self.attempts:
                return super().send(title, body, tone)
            self.attempts += 1
            # Another worker finds the lease run out, and sends it.
            assert deliver_due(warehouse, {"slack": self}, SETTINGS, NOW + LEASE).sent == 1
            return REFUSED

    slow = Slow()
    deliver_due(warehouse, {"slack": slow}, SETTINGS, NOW)
    [row] = messages(warehouse)
    assert (row["sent_at"], row["attempts"], row["last_error"]) == (NOW + LEASE, 2, None)


def test_many_workers_at_once_send_nothing_twice(warehouse: Warehouse, warehouse_url: str, slack: Fake) -> None:
    conditions = [condition(f"C{number}USDC", kind=f"signal/{number % 12}") for number in range(36)]
    find(warehouse, conditions)
    began = threading.Barrier(4)

    def work() -> None:
        with_own_connection = Warehouse(warehouse_url)
        began.wait(10)
        deliver_due(with_own_connection, {"slack": slack}, SETTINGS, NOW)
        with_own_connection.close()

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sorted(slack.keys) == sorted(keys_of(warehouse)) and len(slack.sent) == 12


def test_what_is_superseded_while_it_is_sent_counts_as_sent(warehouse: Warehouse) -> None:
    find(warehouse, [condition(severity=P3)])

    class Meanwhile(Fake):
        def send(self, title: str, body: str, tone: Tone) -> Outcome:
            if not self.attempts:
                find(warehouse, [condition(severity=P2)], NOW + SECOND)
            return super().send(title, body, tone)

    channel = Meanwhile()
    deliver_due(warehouse, {"mail": channel}, SETTINGS, NOW)
    deliver_due(warehouse, {"mail": channel}, SETTINGS, NOW + SECOND)
    first, second = messages(warehouse)
    assert first["sent_by"] == "mail" and first["dropped_at"] is None and second["event"] == "worsened"
    assert channel.keys == keys_of(warehouse)


def test_a_round_ends_in_time_and_the_next_one_goes_on(warehouse: Warehouse, slack: Fake) -> None:
    find(warehouse, [condition(f"C{number}USDC", kind=f"signal/{number}") for number in range(3)])
    assert deliver_due(warehouse, {"slack": slack}, SETTINGS, NOW, seconds=0.0).sent == 0
    assert deliver_due(warehouse, {"slack": slack}, SETTINGS, NOW).sent == 3


MISSING = Message(
    key="0.1-sx3k2a",
    alert_id=0,
    alert_key="watchdog/postgres",
    kind="watchdog/postgres",
    event=Event.OPENED,
    severity=P0,
    owner=Role.PLATFORM_OWNER,
    audience=Role.PLATFORM_OWNER,
    what="PostgreSQL does not answer",
    where="PostgreSQL",
    since=NOW,
    at=NOW,
    next_step="start it",
)


def test_directly_it_goes_by_the_first_channel_that_takes_it(
    everywhere: dict[str, Channel], slack: Fake, sms: Fake, mail: Fake
) -> None:
    sms.always = REFUSED
    assert send_directly(everywhere, MISSING, SETTINGS) == ("slack", "")
    assert slack.keys == [MISSING.key] and mail.attempts == 0
    slack.always = mail.always = REFUSED
    taken, why = send_directly(everywhere, MISSING, SETTINGS)
    assert taken is None and why == "; ".join(f"{name}: {REFUSED.error}" for name in ("sms", "slack", "mail"))
    assert send_directly({}, MISSING, SETTINGS)[1].startswith("no channel of the route of P0 is configured")


@pytest.fixture
def receivers() -> Iterator[tuple[WebReceiver, MailReceiver]]:
    with WebReceiver() as web, MailReceiver() as box:
        yield web, box


def test_through_a_429_and_a_dead_channel_to_real_receivers(
    warehouse: Warehouse, receivers: tuple[WebReceiver, MailReceiver]
) -> None:
    web, box = receivers
    real: dict[str, Channel] = {
        "slack": AppriseChannel("CVN_ALERT_SLACK_URL", web.url("/slack")),
        "sms": AppriseChannel("CVN_ALERT_SMS_URL", "json://127.0.0.1:1/sms"),
        "mail": AppriseChannel("CVN_ALERT_MAIL_URL", box.url),
    }
    web.script = [Answer(429, {"Retry-After": "40"})]
    find(warehouse, [condition(severity=P0), condition("ETHUSDC", P2), condition("ADAUSDC", P3)])
    for later in (0, 30, 39, 41, 90, 120):
        deliver_due(warehouse, real, SETTINGS, NOW + later * SECOND)
    assert not undelivered(warehouse)
    by = {row["severity"]: row["sent_by"] for row in messages(warehouse)}
    assert by == {"P0": "slack", "P2": "slack", "P3": "mail"}
    assert sorted(web.keys + box.keys) == sorted(keys_of(warehouse)) and len(web.asked) == 3


def test_the_sensor_reminds_sends_and_says_so(
    warehouse: Warehouse, receivers: tuple[WebReceiver, MailReceiver], monkeypatch: pytest.MonkeyPatch
) -> None:
    web, box = receivers
    for name in ("SLACK", "SMS", "MAIL"):
        monkeypatch.delenv(f"CVN_ALERT_{name}_URL", raising=False)
    long_ago = pd.Timestamp.now("UTC") - pd.Timedelta(days=8)
    find(warehouse, [condition(severity=P2), condition("ETHUSDC", P3)], long_ago)

    def tick() -> str:
        with dg.build_sensor_context() as context:
            return str(alert_delivery_sensor(context, warehouse=warehouse).skip_message)  # type: ignore[union-attr]

    # Nobody has heard of them: the one that escalates says it all, and the other is not repeated.
    assert tick() == "0 messages sent, 0 attempts failed, 2 wait; 1 reminders"
    monkeypatch.setenv("CVN_ALERT_SLACK_URL", web.url("/slack"))
    monkeypatch.setenv("CVN_ALERT_MAIL_URL", box.url)
    web.script = [Answer(500)]
    assert tick() == "1 messages sent, 1 attempts failed (slack: failed: HTTP 500), 1 wait; 0 reminders"
    assert [each.title[:9] for each in box.received] == ["P3 opened"]
