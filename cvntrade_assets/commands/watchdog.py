"""`cvntrade watchdog`: notices from outside that all of CVNTrade, its daemon, or PostgreSQL is gone, and sends that."""

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

import pandas as pd
import sqlalchemy as sa
from rich.console import Console

from cvntrade_assets.commands.connection import NotRunningError, connect
from cvntrade_assets.local.addresses import has_held_stack, is_held, was_stopped
from cvntrade_assets.local.options import home_folder
from cvntrade_assets.operations.alert_texts import Message, message_key
from cvntrade_assets.operations.alerting import Event, repeat_after
from cvntrade_assets.operations.taxonomy import Role, Severity
from cvntrade_assets.settings import Settings, resolve
from resources.alert_channels import channels
from resources.alert_delivery import deliver_due, send_directly
from resources.alert_outbox import learn_ui
from resources.alert_settings import alert_settings
from resources.alerts import due, reconcile
from resources.secrets import learn_secrets, process_mask
from resources.warehouse import Warehouse, WarehouseError
from resources.watchdog import SOURCE, look

FINE, MISSING = 0, 1
MEMORY_FILE = "watchdog.json"

# Several looks within the limit, so that what is missing is told soon after it; and none more often than that.
_LOOKS_WITHIN_LIMIT = 4
_LONGEST_PAUSE, _SHORTEST_PAUSE = 30.0, 0.5


@dataclass(frozen=True)
class _Gone:
    """What can be out of reach, in words."""

    what: str
    where: str
    next_step: str
    back: str


_POSTGRES, _STACK = "postgres", "stack"
_GONE: Final[Mapping[str, _Gone]] = {
    _POSTGRES: _Gone(
        "PostgreSQL does not answer, or refuses",
        "PostgreSQL",
        "start it again, by `cvntrade up` where it is CVNTrade's own; its log says why it ended",
        "PostgreSQL answers again",
    ),
    _STACK: _Gone(
        "no CVNTrade runs any more",
        "CVN_HOME",
        "`cvntrade up` starts it again; its terminal, and server_logs in CVN_HOME, say why it ended",
        "CVNTrade runs again",
    ),
}


@dataclass(frozen=True)
class Outage:
    """That PostgreSQL, or all of CVNTrade, is gone: an alert that cannot be written there.

    Attributes:
        since: Since when, in ISO 8601.
        told_by: The channel that took it; None while none has.
        told_at: When that last was.
        told_count: How many times it was told.
        gone: What was gone when it began.
        place: The folder of the stack that is gone; empty for a server.
    """

    since: str
    told_by: str | None = None
    told_at: str | None = None
    told_count: int = 0
    gone: str = _POSTGRES
    place: str = ""

    @property
    def what(self) -> str:
        """In words, and where."""
        return f"{_GONE[self.gone].what}{f' on {self.place}' if self.place else ''}"

    def is_due(self, now: pd.Timestamp, settings: Settings) -> bool:
        """Whether it is to be told: for the first time, or again."""
        if self.told_at is None:
            return True
        return abs(now - pd.Timestamp(self.told_at)) >= repeat_after(Severity.P0, settings)


class Watchdog:
    """Looks, and remembers from one look to the next whether there was anything to look at.

    Args:
        reach: Gives the operations schema; Dagster's tables stand on the same server. A stack that was started again
            has another address, which is why every look asks. It raises NotRunningError when nothing runs.
        environment: Holds the channels' addresses.
        memory: The file, in CVN_HOME, that keeps an outage in mind when every look is a process of its own.
        console: Where to say what is found.
    """

    def __init__(
        self,
        reach: Callable[[], AbstractContextManager[Warehouse]],
        environment: Mapping[str, str],
        memory: Path,
        console: Console,
    ) -> None:
        self._reach = reach
        self._channels = channels(environment)
        self._memory = memory
        self._console = console
        self._was_there = False
        self._outage = self._remembered()
        # Until PostgreSQL has said what operators chose, and when it no longer does.
        self.settings: Settings = resolve(base_env={}, run={}, now=pd.Timestamp.now("UTC"))

    def look(self, now: pd.Timestamp) -> int:
        """One look; whether everything is there.

        Raises:
            NotRunningError: nothing runs, and nothing ever did.
        """
        try:
            with self._reach() as warehouse:
                self.settings = alert_settings(warehouse, now)
                found = look(warehouse, self.settings, now)
                with warehouse.begin() as connection:
                    reconcile(connection, SOURCE, found, now, self.settings)
                    due(connection, now, self.settings)
                delivered = deliver_due(warehouse, self._channels, self.settings, now)
        except (WarehouseError, sa.exc.DBAPIError) as error:
            # One that answers and refuses, such as a standby that cannot be written to, is as good as gone.
            self._say(str(getattr(error, "orig", None) or error))
            self._tell_outage(Outage(now.isoformat()), now)
            return MISSING
        except NotRunningError as error:
            return self._miss_stack(error, now)
        self._was_there = True
        self._tell_end(now)
        for condition in found:
            self._say(f"{condition.severity} {condition.what}")
        for trouble in delivered.troubles:
            self._say(f"not sent: {trouble}")
        if delivered.sent or delivered.waiting:
            self._say(f"{delivered.sent} messages sent, {delivered.waiting} wait")
        return MISSING if found else FINE

    def pause(self) -> float:
        """Seconds until the next look."""
        limit = 60 * self.settings.number("CVN_WATCHDOG_MINUTES")
        return min(max(limit / _LOOKS_WITHIN_LIMIT, _SHORTEST_PAUSE), _LONGEST_PAUSE)

    def _miss_stack(self, error: NotRunningError, now: pd.Timestamp) -> int:
        home = self._memory.parent
        if is_held(home):
            self._say(f"a CVNTrade starts or stops on {home}: the next look tells which")
            return MISSING
        if was_stopped(home):
            self._say(f"the CVNTrade on {home} was stopped on purpose: nothing is missing, and nothing is watched")
            return FINE
        if not (has_held_stack(home) or self._was_there or self._outage):
            raise error
        self._say(str(error))
        self._tell_outage(Outage(now.isoformat(), gone=_STACK, place=str(home)), now)
        return MISSING

    def _tell_outage(self, new: Outage, now: pd.Timestamp) -> None:
        """Send it, and again for as long as it lasts, past the outbox: what waits there is out of reach."""
        outage = self._outage or new
        if outage.is_due(now, self.settings):
            event = Event.REPEATED if outage.told_count else Event.OPENED
            taken, why = send_directly(self._channels, _message(outage, event, now), self.settings)
            self._say(f"P0 {outage.what}: {f'sent by {taken}' if taken else f'not sent: {why}'}")
            if taken:
                outage = replace(outage, told_by=taken, told_at=now.isoformat(), told_count=outage.told_count + 1)
        self._remember(outage)

    def _tell_end(self, now: pd.Timestamp) -> None:
        if self._outage is None:
            return
        if self._outage.told_by is not None:
            taken, why = send_directly(self._channels, _message(self._outage, Event.RECOVERED, now), self.settings)
            self._say(f"{_GONE[self._outage.gone].back}: {f'sent by {taken}' if taken else f'not sent: {why}'}")
            if taken is None:
                return  # it is told at the next look
        self._remember(None)

    def _remember(self, outage: Outage | None) -> None:
        self._outage = outage
        if outage is None:
            self._memory.unlink(missing_ok=True)
            return
        self._memory.parent.mkdir(parents=True, exist_ok=True)
        partial = self._memory.with_suffix(".partial")
        partial.write_text(json.dumps(asdict(outage)))
        partial.replace(self._memory)

    def _remembered(self) -> Outage | None:
        return Outage(**json.loads(self._memory.read_text())) if self._memory.exists() else None

    def _say(self, text: str) -> None:
        said = f"{pd.Timestamp.now('UTC'):%Y-%m-%d %H:%M:%S} UTC  {process_mask().text(text)}"
        self._console.print(said, markup=False, highlight=False, soft_wrap=True)


def watchdog(console: Console, *, once: bool) -> int:
    """Look once, or until interrupted.

    Returns:
        0; 1 when a single look found something missing.

    Raises:
        NotRunningError: nothing runs on CVN_HOME, and nothing ever did.
    """
    learn_secrets(os.environ)
    dog = Watchdog(_reached, os.environ, home_folder(os.environ) / MEMORY_FILE, console)
    if once:
        return dog.look(pd.Timestamp.now("UTC"))
    try:
        while True:
            dog.look(pd.Timestamp.now("UTC"))
            time.sleep(dog.pause())
    except KeyboardInterrupt:
        return FINE


@contextmanager
def _reached() -> Iterator[Warehouse]:
    """The operations schema of the CVNTrade that is named, or that runs here now."""
    connection = connect()
    learn_secrets(connection.environment)
    learn_ui(connection.ui_url)
    with closing(connection.warehouse()) as warehouse:
        yield warehouse


def _message(outage: Outage, event: Event, now: pd.Timestamp) -> Message:
    since, over = pd.Timestamp(outage.since), event is Event.RECOVERED
    gone = _GONE[outage.gone]
    return Message(
        key=message_key(0, outage.told_count + 1, since),
        alert_id=0,
        alert_key=f"{SOURCE}/{outage.gone}",
        kind=f"{SOURCE}/{outage.gone}",
        event=event,
        severity=Severity.P0,
        owner=Role.PLATFORM_OWNER,
        audience=Role.PLATFORM_OWNER,
        what=f"{outage.what}; nothing runs, and nothing is recorded",
        where=outage.place or gone.where,
        since=since,
        at=now,
        next_step=gone.back if over else gone.next_step,
    )
