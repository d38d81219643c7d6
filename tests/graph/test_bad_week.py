"""A bad week, replayed: what operators would have been told, when, and by which channel.

Everything is read from a real PostgreSQL, its runs from Dagster's own tables, and sent to real receivers on the
loopback. The clock is the replay's, and so is what infrastructure says: nothing is killed for want of memory here.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

import dagster as dg
import pandas as pd
import pytest
from alert_receiver import Answer, MailReceiver, WebReceiver
from correlation_records import by_delta, complete, gates, record
from dagster._core.utils import make_new_run_id
from dagster._daemon.types import DaemonHeartbeat
from seeded_operations import insert
from services import own_postgres

from cvntrade_assets.automation.golden_signals import record as record_look
from cvntrade_assets.operations.facts import InfraFacts
from cvntrade_assets.operations.global_state import State
from cvntrade_assets.settings import Settings, resolve
from resources.alert_channels import channels
from resources.alert_delivery import LEASE, deliver_due
from resources.alerts import due, open_alerts
from resources.embedded_postgres import EmbeddedPostgres
from resources.evaluations import EvaluationOf, record_evaluations
from resources.registry import NewModel, offer_candidate
from resources.signal_facts import gather
from resources.tables import ALERT_MESSAGES, ARTIFACT_VERSIONS, EVALUATIONS
from resources.warehouse import Warehouse

MONDAY = pd.Timestamp("2025-06-02 07:00", tz="UTC")
DAY, HOUR, MINUTE = pd.Timedelta("1D"), pd.Timedelta("1h"), pd.Timedelta("1min")
GROUPS = {"btc-core": ("BTCUSDC", "ETHUSDC"), "defi": ("SOLUSDC",)}
CRYPTOS = ("BTCUSDC", "ETHUSDC", "SOLUSDC")
PTE = "H4_SL1.0_TP2.0"
HEALTHY = InfraFacts("replay", oom_kills=0, cpu_used=0.3, volume_used=0.4, fullest="data", down=())
# A worker that delivers, at the replay's clock, until it is killed.
WORKER = """
import os, sys
import pandas as pd
from cvntrade_assets.settings import resolve
from resources.alert_channels import channels
from resources.alert_delivery import deliver_due
from resources.warehouse import Warehouse

now = pd.Timestamp(sys.argv[1])
warehouse = Warehouse(os.environ["CVN_WAREHOUSE_URL"])
deliver_due(warehouse, channels(os.environ), resolve(base_env=warehouse.base_env(), run={}, now=now), now)
"""


@dataclass
class Replay:
    """The deployment, its clock, and who listens."""

    server: EmbeddedPostgres
    environment: dict[str, str]
    instance: dg.DagsterInstance = field(init=False)
    warehouse: Warehouse = field(init=False)
    sessions: int = 0
    states: list[tuple[pd.Timestamp, State]] = field(default_factory=list)

    def connect(self) -> None:
        """Meet PostgreSQL at the port that it has since its last start."""
        os.environ["CVN_PG_PORT"] = str(self.server.port)
        self.instance = dg.DagsterInstance.get()
        self.warehouse = Warehouse(self.server.dsn())

    def close(self) -> None:
        """Leave it."""
        self.instance.dispose()
        self.warehouse.close()

    def without_channels(self) -> "Replay":
        """The same deployment, in which nobody delivers."""
        other = replace(self, environment={})
        other.instance, other.warehouse = self.instance, self.warehouse
        return other

    def settings(self, now: pd.Timestamp) -> Settings:
        return resolve(base_env=self.warehouse.base_env(), run={}, now=now)

    def look(self, now: pd.Timestamp, infra: InfraFacts = HEALTHY) -> State:
        """One tick of every sensor, and what the state came to."""
        self.instance.add_daemon_heartbeat(DaemonHeartbeat(now.timestamp(), "SENSOR", "one", []))
        self._candles(now)
        settings = self.settings(now)
        facts = replace(gather(self.warehouse, settings, now, daemons=["SENSOR"]), infra=infra)
        assert not facts.trouble
        state = record_look(self.warehouse, facts, settings).state.state
        with self.warehouse.begin() as connection:
            due(connection, now, settings)
        deliver_due(self.warehouse, channels(self.environment), settings, now)
        self.states.append((now, state))
        return state

    def looks(self, now: pd.Timestamp, times: int, infra: InfraFacts = HEALTHY) -> list[State]:
        """Several ticks, five minutes apart."""
        return [self.look(now + 5 * number * MINUTE, infra) for number in range(times)]

    def ran(self, job: str, now: pd.Timestamp, succeeded: int, failed: int = 0) -> None:
        """Runs of a minute each that have just ended."""
        kinds = [dg.DagsterEventType.RUN_SUCCESS] * succeeded + [dg.DagsterEventType.RUN_FAILURE] * failed
        for kind in kinds:
            run = dg.DagsterRun(job_name=job, run_id=make_new_run_id())
            self.instance.run_storage.add_run(run)
            for what, moment in ((dg.DagsterEventType.RUN_START, now - MINUTE), (kind, now)):
                event = dg.DagsterEvent(what.value, job)
                self.instance.run_storage.handle_run_event(run.run_id, event, moment.to_pydatetime())

    def evaluated(self, now: pd.Timestamp, cryptos: Sequence[str], *, useful: bool, sortino: float = 1.4) -> None:
        """A session of complete runs, with a challenger for each crypto or with none."""
        self.sessions += 1
        for crypto in cryptos:
            name = f"{crypto}-{self.sessions}"
            whose = EvaluationOf(
                name, f"session-{self.sessions}", crypto, f"e-{name}", f"w-{name}", f"r-{name}", False, now - DAY, now
            )
            refusing = () if useful else ("sortino",)
            counts = complete(1, {"sortino": 2}) if useful else complete(0, {"sortino": 3})
            told = {"crypto": crypto, "run_id": name, "session": f"session-{self.sessions}", "pte": PTE}
            numbers = {**by_delta(0.62, 0.4), "sortino": sortino, "sl_pct": 0.3, "tp_pct": 0.5}
            record_evaluations(
                self.warehouse, whose, [(record(**told, **numbers, **counts, gates=gates(*refusing)), 0.1)]
            )
            with self.warehouse.begin() as connection:
                moment = EVALUATIONS.update().where(EVALUATIONS.c.run_id == name)
                connection.execute(moment.values(recorded_at=now.to_pydatetime()))

    def registered(self, crypto: str, now: pd.Timestamp, age_days: float) -> None:
        """The challenger of the newest session, made from data that end so long ago."""
        name, until = f"{crypto}-{self.sessions}", now - age_days * DAY
        moments = ((until - 10 * DAY).to_pydatetime(), until.to_pydatetime())
        new = NewModel(crypto, "binance", PTE, f"r-{name}", "ab" * 32, f"e-{name}", *moments)
        offered = offer_candidate(self.warehouse, new, {}, "the pipeline", name)
        assert str(offered.model.state) == "challenger"

    def _candles(self, now: pd.Timestamp) -> None:
        summary = {"to": (now.floor("30min") - 30 * MINUTE).isoformat(), "timeframe": "30m"}
        for crypto in CRYPTOS:
            where = {"asset": "candles", "crypto": crypto, "version": now.isoformat(), "market": "binance"}
            files = {"location": "l", "manifest_sha256": "s", "bytes": 1, "run_id": "r"}
            insert(self.warehouse, ARTIFACT_VERSIONS, {**where, **files, "manifest": {"summary": summary}})

    def open(self) -> dict[str, tuple[str, str]]:
        """Severity and owner of what is open, by key."""
        return {alert.key: (str(alert.severity), str(alert.owner)) for alert in open_alerts(self.warehouse)}


@pytest.fixture
def replay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, receivers: tuple[WebReceiver, MailReceiver]
) -> Iterator[Replay]:
    web, mail = receivers
    (tmp_path / "dagster.yaml").symlink_to(Path(__file__).parents[2] / "dagster.yaml")
    with own_postgres("week") as server:
        variables = {
            "CVN_PG_HOST": "127.0.0.1",
            "CVN_PG_PORT": str(server.port),
            "CVN_PG_USER": "cvntrade",
            "CVN_PG_PASSWORD": server.password,
            "CVN_MAX_CONCURRENT_RUNS": "2",
            "CVN_RUNS_IN": "processes",
            "CVN_COMPUTE_LOGS": str(tmp_path),
            "DAGSTER_HOME": str(tmp_path),
            "CVN_UI_URL": "http://127.0.0.1:3000",
        }
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        monkeypatch.delenv("CVN_PROMETHEUS_URL", raising=False)
        addresses = {
            "CVN_ALERT_SLACK_URL": web.url("/slack"),
            "CVN_ALERT_SMS_URL": web.url("/sms"),
            "CVN_ALERT_MAIL_URL": mail.url,
        }
        made = Replay(server, addresses)
        made.connect()
        made.warehouse.migrate()
        for group, members in GROUPS.items():
            made.warehouse.set_group(group, members)
        yield made
        made.close()


@pytest.fixture
def receivers() -> Iterator[tuple[WebReceiver, MailReceiver]]:
    with WebReceiver() as web, MailReceiver() as mail:
        yield web, mail


def healthy(replay: Replay, now: pd.Timestamp) -> None:
    """Everything as it should be: the core models will be two weeks old in three days."""
    replay.evaluated(now - HOUR, CRYPTOS, useful=True)
    for crypto, age in (("BTCUSDC", 11.0), ("ETHUSDC", 6.0), ("SOLUSDC", 1.0)):
        replay.registered(crypto, now, age)
    for hours in range(3, 0, -1):
        replay.ran("discovery", now - hours * HOUR, 6)


def sent_once(replay: Replay, web: WebReceiver, mail: MailReceiver) -> None:
    """Everything that was to be told has reached somebody, under a key of its own."""
    with replay.warehouse.begin() as connection:
        rows = connection.execute(ALERT_MESSAGES.select().where(ALERT_MESSAGES.c.dropped_at.is_(None))).all()
    assert rows and all(row.sent_at is not None for row in rows), [row for row in rows if row.sent_at is None]
    received = [*web.keys, *mail.keys]
    assert len(received) == len(set(received))
    assert set(received) >= {row.dedup_key for row in rows}


def told(server: WebReceiver | MailReceiver, place: str, *words: str) -> bool:
    """Whether a place was told of something in one message."""
    return any(
        place in each.place and all(word in f"{each.title}\n{each.body}" for word in words) for each in server.received
    )


@pytest.mark.timeout(240)
def test_a_bad_week_from_green_to_red_and_back(replay: Replay, receivers: tuple[WebReceiver, MailReceiver]) -> None:
    web, mail = receivers
    healthy(replay, MONDAY)
    assert replay.looks(MONDAY, 3) == [State.GREEN] * 3
    assert "state" not in replay.open()

    # Tuesday: runs begin to fail, one in six; two evaluations in a row lose money.
    tuesday = MONDAY + DAY
    replay.ran("discovery", tuesday, 0, failed=4)
    replay.evaluated(tuesday, ["SOLUSDC"], useful=False, sortino=-0.4)
    assert replay.look(tuesday + 5 * MINUTE) is State.YELLOW
    alerts = replay.open()
    assert alerts["state"] == ("P2", "operator")
    assert alerts["signal/pipeline_success_rate/discovery"] == ("P2", "MLOps maintainer")
    assert alerts["signal/sortino/SOLUSDC"] == ("P2", "ML owner")
    assert alerts["signal/pass_rate"] == ("P1", "MLOps maintainer")
    assert told(web, "/slack", "the global state is YELLOW")

    # Wednesday: the chat refuses for a while, and what it was to be told waits for it.
    wednesday = tuesday + DAY
    replay.evaluated(wednesday, ["SOLUSDC"], useful=False, sortino=-0.6)
    web.script = [Answer(429, {"Retry-After": "60"})]
    assert replay.look(wednesday) is State.YELLOW
    assert replay.open()["signal/negative_sortino_runs/SOLUSDC"] == ("P3", "ML owner")
    assert replay.look(wednesday + 5 * MINUTE) is State.YELLOW
    sent_once(replay, web, mail)

    # Thursday: less than 70 % of runs succeed, three complete runs in a row without a candidate, a core model is stale.
    thursday = wednesday + DAY
    replay.ran("discovery", thursday, 0, failed=5)
    replay.evaluated(thursday, ["SOLUSDC"], useful=False, sortino=-0.2)
    with_a_killed_worker(replay, web, thursday + 5 * MINUTE)
    assert replay.states[-1][1] is State.ORANGE
    alerts = replay.open()
    assert alerts["state"] == ("P1", "MLOps maintainer")
    assert alerts["signal/pipeline_success_rate/discovery"] == ("P1", "MLOps maintainer")
    assert alerts["signal/pass_rate"] == ("P1", "MLOps maintainer")
    assert alerts["signal/model_overdue/BTCUSDC"] == ("P2", "ML owner")
    assert replay.look(thursday + 10 * MINUTE + LEASE) is State.ORANGE
    sent_once(replay, web, mail)

    # Friday night: three days without a candidate; processes are killed for want of memory, again and again.
    friday = tuesday + 3 * DAY + HOUR
    assert replay.look(friday) is State.ORANGE
    assert replay.open()["signal/barren_days"] == ("P1", "MLOps maintainer")
    restarted(replay)
    starved = replace(HEALTHY, oom_kills=3)
    assert replay.look(friday + HOUR, starved) is State.RED
    alerts = replay.open()
    assert alerts["state"] == alerts["signal/infra_health"] == ("P0", "platform owner")
    assert told(web, "/sms", "RED") and told(web, "/sms", "infra_health")

    # It improves only once three looks in a row say so, and to what the rest of the platform deserves.
    saturday = friday + DAY
    assert replay.looks(saturday, 3) == [State.RED, State.RED, State.ORANGE]
    monday = MONDAY + 7 * DAY
    replay.evaluated(monday, CRYPTOS, useful=True)
    for crypto in CRYPTOS:
        replay.registered(crypto, monday, 0.5)
    replay.ran("discovery", monday, 30)
    assert replay.looks(monday, 3) == [State.ORANGE, State.ORANGE, State.YELLOW]
    # The failures have left the window of the success rate.
    later = thursday + 7 * DAY + HOUR
    assert replay.looks(later, 3) == [State.YELLOW, State.YELLOW, State.GREEN]
    replay.look(later + HOUR)
    assert not {key for key, (severity, _) in replay.open().items() if severity in ("P0", "P1", "P2")}
    sent_once(replay, web, mail)
    with replay.warehouse.begin() as connection:
        recovered = connection.execute(ALERT_MESSAGES.select().where(ALERT_MESSAGES.c.event == "recovered")).all()
    assert recovered


def with_a_killed_worker(replay: Replay, web: WebReceiver, now: pd.Timestamp) -> None:
    """A look whose messages a worker begins to send, and is killed while the chat has not answered yet."""
    replay.without_channels().look(now)
    web.script = [Answer(503, seconds=20)]
    asked = len(web.asked)
    environment = {**os.environ, **replay.environment, "CVN_WAREHOUSE_URL": replay.server.dsn()}
    worker = subprocess.Popen([sys.executable, "-c", WORKER, now.isoformat()], env=environment)
    deadline = time.monotonic() + 60
    while len(web.asked) == asked:
        assert worker.poll() is None and time.monotonic() < deadline, "the worker sent nothing"
        time.sleep(0.05)
    worker.send_signal(signal.SIGKILL)
    worker.wait()


def restarted(replay: Replay) -> None:
    """PostgreSQL goes away, and comes back elsewhere."""
    replay.close()
    replay.server.stop()
    replay.server.start()
    replay.connect()


def test_what_waits_is_found_by_whoever_comes_next(replay: Replay) -> None:
    """Without a channel nothing is lost: it is sent once there is one."""
    with closing(Warehouse(replay.server.dsn())) as other:
        healthy(replay, MONDAY)
        replay.ran("discovery", MONDAY, 0, failed=30)
        replay.without_channels().look(MONDAY + 5 * MINUTE)
        waiting = deliver_due(other, {}, replay.settings(MONDAY), MONDAY + 10 * MINUTE)
        assert waiting.sent == 0 and waiting.waiting > 0
        found = deliver_due(other, channels(replay.environment), replay.settings(MONDAY), MONDAY + 20 * MINUTE)
        assert found.sent == waiting.waiting and found.waiting == 0
