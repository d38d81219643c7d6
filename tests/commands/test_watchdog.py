"""The watchdog against a real receiver: it tells by itself, and once, what is missing, be it PostgreSQL."""

import io
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from pathlib import Path

import pandas as pd
import pytest
from alert_receiver import Answer, WebReceiver
from alert_rows import NOW, clear_alerts, messages
from rich.console import Console
from scripted_webserver import Cvntrade, Webserver

from cvntrade_assets.commands import watchdog as command
from cvntrade_assets.commands.connection import NotRunningError
from cvntrade_assets.commands.watchdog import FINE, MEMORY_FILE, MISSING, Watchdog
from cvntrade_assets.local.addresses import Addresses, Database, note_stop, only_stack_on
from cvntrade_assets.operations.condition import Condition
from cvntrade_assets.operations.taxonomy import Role, Severity
from resources.alerts import open_alerts
from resources.embedded_postgres import free_port
from resources.warehouse import Warehouse

SECOND = pd.Timedelta(seconds=1)
GONE = Condition(
    key="watchdog/daemons",
    source="watchdog",
    kind="watchdog/daemons",
    severity=Severity.P0,
    owner=Role.PLATFORM_OWNER,
    what="missing are Dagster's daemon SENSOR",
    where="dagster-daemon",
    since=NOW,
    next_step="start the daemon again",
)


@pytest.fixture
def web() -> Iterator[WebReceiver]:
    with WebReceiver() as receiver:
        yield receiver


@pytest.fixture
def said() -> io.StringIO:
    return io.StringIO()


@pytest.fixture(autouse=True)
def empty(warehouse: Warehouse) -> None:
    clear_alerts(warehouse)


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> list[Condition]:
    """What every look finds."""
    conditions: list[Condition] = []
    monkeypatch.setattr(command, "look", lambda *_: list(conditions))
    return conditions


@pytest.fixture
def unreachable() -> Iterator[Warehouse]:
    with closing(Warehouse(f"postgresql+psycopg2://cvntrade:secret-0123@127.0.0.1:{free_port()}/cvntrade")) as gone:
        yield gone


def dog(warehouse: Warehouse, web: WebReceiver, folder: Path, said: io.StringIO) -> Watchdog:
    environment = {"CVN_ALERT_SLACK_URL": web.url("/slack"), "CVN_ALERT_SMS_URL": web.url("/sms")}
    return Watchdog(
        lambda: nullcontext(warehouse), environment, folder / "home" / MEMORY_FILE, Console(file=said, width=500)
    )


def test_what_is_missing_is_told_and_that_it_is_back(
    warehouse: Warehouse, web: WebReceiver, tmp_path: Path, said: io.StringIO, found: list[Condition]
) -> None:
    watchdog = dog(warehouse, web, tmp_path, said)
    assert watchdog.look(NOW) == FINE and said.getvalue() == ""
    found.append(GONE)
    assert watchdog.look(NOW + SECOND) == MISSING
    assert watchdog.look(NOW + 2 * SECOND) == MISSING
    [text] = web.received
    assert text.place == "/sms" and text.body.startswith("P0 opened: ") and "daemon SENSOR" in text.body
    assert "P0 missing are Dagster's daemon SENSOR" in said.getvalue() and len(open_alerts(warehouse)) == 1
    found.clear()
    assert watchdog.look(NOW + 3 * SECOND) == FINE
    assert web.received[-1].body.startswith("P0 recovered: ") and open_alerts(warehouse) == []
    assert web.keys == [row["dedup_key"] for row in messages(warehouse)]


def test_nobody_else_is_there_to_remind_or_escalate(
    warehouse: Warehouse, web: WebReceiver, tmp_path: Path, said: io.StringIO, found: list[Condition]
) -> None:
    watchdog = dog(warehouse, web, tmp_path, said)
    found.append(GONE)
    for minutes in (0, 14, 15):
        watchdog.look(NOW + pd.Timedelta(minutes=minutes))
    assert [row["event"] for row in messages(warehouse)] == ["opened", "escalated"] and len(web.received) == 2


def test_an_outage_that_lasts_is_told_again_as_any_p0(
    unreachable: Warehouse,
    warehouse: Warehouse,
    web: WebReceiver,
    tmp_path: Path,
    said: io.StringIO,
    found: list[Condition],
) -> None:
    for minutes in (0, 59, 60, 61, 119, 120):
        dog(unreachable, web, tmp_path, said).look(NOW + pd.Timedelta(minutes=minutes))
    dog(warehouse, web, tmp_path, said).look(NOW + pd.Timedelta(minutes=121))
    told = [each.body.split(":")[0] for each in web.received]
    assert told == ["P0 opened", "P0 repeated", "P0 repeated", "P0 recovered"]
    assert len(set(web.keys)) == 4 and {key.split("-")[1] for key in web.keys} == {web.keys[0].split("-")[1]}


def test_a_postgres_that_cannot_be_written_to_is_told_directly(
    warehouse: Warehouse, warehouse_url: str, web: WebReceiver, tmp_path: Path, said: io.StringIO
) -> None:
    """As a standby that nobody promoted."""
    with closing(Warehouse(f"{warehouse_url}?options=-c%20default_transaction_read_only%3Don")) as standby:
        assert dog(standby, web, tmp_path, said).look(NOW) == MISSING
    assert "read-only transaction" in said.getvalue() and len(web.received) == 1


def test_a_postgres_that_is_gone_is_told_directly_and_once(
    unreachable: Warehouse,
    warehouse: Warehouse,
    web: WebReceiver,
    tmp_path: Path,
    said: io.StringIO,
    found: list[Condition],
) -> None:
    """Every look is another process, as with cron."""
    for later in range(3):
        assert dog(unreachable, web, tmp_path, said).look(NOW + later * SECOND) == MISSING
    [text] = web.received
    assert text.place == "/sms" and text.body.startswith(
        "P0 opened: PostgreSQL does not answer, or refuses; nothing runs"
    )
    assert "P0 PostgreSQL does not answer, or refuses: sent by sms" in said.getvalue()
    assert "secret-0123" not in said.getvalue() and "/sms" not in said.getvalue()
    for later in (10, 11):
        assert dog(warehouse, web, tmp_path, said).look(NOW + later * SECOND) == FINE
    assert [each.body[:13] for each in web.received] == ["P0 opened: Po", "P0 recovered:"]
    assert len(set(web.keys)) == 2 and "PostgreSQL answers again: sent by sms" in said.getvalue()


def test_what_no_channel_takes_is_tried_at_the_next_look(
    unreachable: Warehouse,
    warehouse: Warehouse,
    web: WebReceiver,
    tmp_path: Path,
    said: io.StringIO,
    found: list[Condition],
) -> None:
    watchdog = dog(unreachable, web, tmp_path, said)
    web.always = Answer(500)
    assert watchdog.look(NOW) == MISSING
    assert "not sent: sms: failed: HTTP 500; slack: failed: HTTP 500" in said.getvalue()
    web.always = None
    watchdog.look(NOW + SECOND)
    assert len(web.received) == 1
    # Since when it is gone is what was first seen.
    assert web.keys[0].startswith("0.1-") and int(web.keys[0].split("-")[1], 36) == int(NOW.timestamp())
    back = dog(warehouse, web, tmp_path, said)
    web.always = Answer(500)
    back.look(NOW + 2 * SECOND)
    web.always = None
    back.look(NOW + 3 * SECOND)
    assert web.received[-1].body.startswith("P0 recovered: ") and len(web.received) == 2


def test_an_outage_that_nobody_was_told_of_has_no_end_to_tell(
    unreachable: Warehouse,
    warehouse: Warehouse,
    web: WebReceiver,
    tmp_path: Path,
    said: io.StringIO,
    found: list[Condition],
) -> None:
    web.always = Answer(500)
    dog(unreachable, web, tmp_path, said).look(NOW)
    web.always = None
    assert dog(warehouse, web, tmp_path, said).look(NOW + SECOND) == FINE
    assert web.received == []


@pytest.mark.parametrize(("minutes", "pause"), [("0.05", 0.75), ("3", 30.0), ("1", 15.0)])
def test_it_looks_several_times_within_its_limit(
    warehouse: Warehouse,
    web: WebReceiver,
    tmp_path: Path,
    said: io.StringIO,
    found: list[Condition],
    minutes: str,
    pause: float,
) -> None:
    warehouse.set_base_env({"CVN_WATCHDOG_MINUTES": minutes}, "test")
    watchdog = dog(warehouse, web, tmp_path, said)
    watchdog.look(NOW)
    warehouse.set_base_env({"CVN_WATCHDOG_MINUTES": None}, "test")
    assert watchdog.pause() == pause


def test_a_single_look_says_by_its_exit_code_whether_anything_is_missing(
    webserver: Webserver, cvntrade: Cvntrade, found: list[Condition], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CVN_HOME", str(tmp_path))
    assert cvntrade("watchdog", "--once")[0] == FINE
    found.append(GONE)
    code, out, _ = cvntrade("watchdog", "--once")
    assert code == MISSING and "missing are Dagster's daemon SENSOR" in out and "1 wait" in out


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """CVN_HOME, which nothing has run on yet; no other CVNTrade is named."""
    for variable in ("CVN_UI_URL", "CVN_WAREHOUSE_URL", "CVN_ALERT_SLACK_URL", "CVN_ALERT_SMS_URL"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("CVN_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@contextmanager
def running(home: Path, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A stack on `home`, on the PostgreSQL of the tests."""
    url = warehouse.address
    assert url.host and url.port and url.username
    monkeypatch.setenv("CVN_PG_PASSWORD", str(url.password or "none"))
    database = Database(url.host, url.port, url.username, str(url.password or "none"))
    monkeypatch.setattr(Addresses, "warehouse_url", url.render_as_string(hide_password=False))
    with only_stack_on(home):
        Addresses(home, database, ui_port=3001, code_server_port=4001, mlflow_port=5001, pid=1).publish({})
        yield


def test_a_stack_that_ended_is_told_directly_and_once_and_so_is_its_return(
    home: Path,
    warehouse: Warehouse,
    web: WebReceiver,
    found: list[Condition],
    cvntrade: Cvntrade,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A stack takes its PostgreSQL along: its end is what there is to tell, and there is nowhere to write that."""
    monkeypatch.setenv("CVN_ALERT_SMS_URL", web.url("/sms"))
    with running(home, warehouse, monkeypatch):
        assert cvntrade("watchdog", "--once")[0] == FINE
    for _ in range(2):
        code, out, _ = cvntrade("watchdog", "--once")
        assert code == MISSING and f"no CVNTrade runs on {home}" in out and "`cvntrade up`" in out
    [text] = web.received
    assert text.body.startswith(f"P0 opened: no CVNTrade runs any more on {home}; nothing runs")
    assert "Next: `cvntrade up` starts it again" in text.body
    with only_stack_on(home):
        code, out, _ = cvntrade("watchdog", "--once")
        assert code == MISSING and "starts or stops" in out and len(web.received) == 1
    with running(home, warehouse, monkeypatch):
        for _ in range(2):
            code, out, _ = cvntrade("watchdog", "--once")
            assert code == FINE
    assert [each.body[:13] for each in web.received] == ["P0 opened: no", "P0 recovered:"] and len(set(web.keys)) == 2


def test_a_stack_that_was_stopped_on_purpose_is_not_missed_until_another_one_ends(
    home: Path, web: WebReceiver, cvntrade: Cvntrade, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CVN_ALERT_SMS_URL", web.url("/sms"))
    with only_stack_on(home):
        pass
    note_stop(home)
    code, out, _ = cvntrade("watchdog", "--once")
    assert code == FINE and "was stopped on purpose" in out and web.received == []
    with only_stack_on(home):
        pass
    assert cvntrade("watchdog", "--once")[0] == MISSING and len(web.received) == 1


def test_without_a_channel_it_says_which_to_set(home: Path, cvntrade: Cvntrade) -> None:
    with only_stack_on(home):
        pass
    code, out, _ = cvntrade("watchdog", "--once")
    assert code == MISSING and "no channel of the route of P0 is configured: set CVN_ALERT_SMS_URL or" in out


def test_where_nothing_ever_ran_there_is_nothing_to_watch(
    home: Path, web: WebReceiver, cvntrade: Cvntrade, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CVN_ALERT_SMS_URL", web.url("/sms"))
    code, _, error = cvntrade("watchdog", "--once")
    assert code == 2 and f"no CVNTrade runs on {home}" in error and web.received == [] and not home.exists()
    home.mkdir()
    assert cvntrade("watchdog", "--once")[0] == 2 and web.received == []


def test_a_watchdog_that_saw_it_tells_of_its_end_whatever_is_left_of_it(
    warehouse: Warehouse, web: WebReceiver, tmp_path: Path, said: io.StringIO, found: list[Condition]
) -> None:
    there = [True]

    def reach() -> AbstractContextManager[Warehouse]:
        if there[0]:
            return nullcontext(warehouse)
        raise NotRunningError("no CVNTrade runs here")

    environment = {"CVN_ALERT_SMS_URL": web.url("/sms")}
    watchdog = Watchdog(reach, environment, tmp_path / "home" / MEMORY_FILE, Console(file=said, width=500))
    assert watchdog.look(NOW) == FINE
    there[0] = False
    assert watchdog.look(NOW + SECOND) == MISSING and watchdog.look(NOW + 2 * SECOND) == MISSING
    there[0] = True
    assert watchdog.look(NOW + 3 * SECOND) == FINE
    assert [each.body[:13] for each in web.received] == ["P0 opened: no", "P0 recovered:"]
