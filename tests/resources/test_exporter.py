"""The exporter against a real PostgreSQL, scraped over HTTP: what it tells, and when it is silent."""

import re
import shutil
import signal
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import httpx
import pandas as pd
import psutil
import pytest
import sqlalchemy as sa
from dagster._daemon.types import DaemonHeartbeat
from dagster_on_postgres import instance as dagster_instance
from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console
from seeded_operations import MINUTE, REAL, SIMULATED, finding, seed, set_signal, set_state, watched
from services import own_postgres

from cvntrade_assets.commands.connection import Connection
from cvntrade_assets.commands.errors import CommandError
from cvntrade_assets.commands.exporter import export
from cvntrade_assets.settings import SETTINGS
from resources.embedded_postgres import EmbeddedPostgres
from resources.exporter import STATES, OperationsCollector
from resources.warehouse import DAGSTER_DATABASE, Warehouse
from resources.watched_runs import record_run

instance = dagster_instance

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]
STALE_MINUTES = float(SETTINGS["CVN_STATE_STALE_MINUTES"].default)
DAGSTER_TABLES = """
    create table daemon_heartbeats (daemon_type text, body text);
    create table runs (id int, status text);
    insert into daemon_heartbeats values ('SENSOR', '{"timestamp": 1700000000.5}');
    insert into runs values (1, 'QUEUED'), (2, 'QUEUED'), (3, 'SUCCESS')
"""


def now() -> pd.Timestamp:
    return pd.Timestamp.now("UTC").floor("us")


@pytest.fixture
def fresh(postgres_server: EmbeddedPostgres, warehouse_url: str) -> Iterator[Warehouse]:
    """A migrated database of this test alone: a copy of the module's, which nobody else uses."""
    name, copy = sa.make_url(warehouse_url).database, f"test_{uuid.uuid4().hex}"
    engine = sa.create_engine(postgres_server.dsn("postgres"), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(f'create database "{copy}" template "{name}"')
        with closing(Warehouse(postgres_server.dsn(copy))) as warehouse:
            yield warehouse
        connection.exec_driver_sql(f'drop database "{copy}" with (force)')
    engine.dispose()


@contextmanager
def exporter(url: sa.URL, told: list[str] | None = None, deadline: float = 8.0) -> Iterator[str]:
    """A running exporter's address."""
    collector = OperationsCollector(url, (told if told is not None else []).append, deadline)
    registry = CollectorRegistry()
    registry.register(collector)
    server, thread = start_http_server(0, addr="127.0.0.1", registry=registry)
    try:
        yield f"http://127.0.0.1:{server.server_port}/metrics"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        collector.close()


def scrape(address: str) -> Samples:
    text = httpx.get(address, timeout=20).raise_for_status().text
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(samples: Samples, name: str, **labels: str) -> float | None:
    return samples.get((name, frozenset(labels.items())))


def names(samples: Samples) -> set[str]:
    return {name for name, _ in samples}


def look(warehouse: Warehouse) -> Samples:
    with exporter(warehouse.address) as address:
        return scrape(address)


def is_own(name: str) -> bool:
    return name.startswith("cvntrade_exporter_")


def test_what_stands_in_the_tables_is_told(fresh):
    moment = now()
    seed(fresh, moment)
    samples = look(fresh)
    assert {state: value(samples, "cvntrade_state", state=state) for state in STATES} == {
        "GREEN": 1,
        "YELLOW": 0,
        "ORANGE": 0,
        "RED": 0,
    }
    assert value(samples, "cvntrade_state_computed_timestamp_seconds") == pytest.approx(moment.timestamp())
    assert value(samples, "cvntrade_market_simulated") == 0
    assert value(samples, "cvntrade_alerts", severity="P2", status="open") == 1
    assert value(samples, "cvntrade_alerts", severity="P1", status="acknowledged") == 1
    assert value(samples, "cvntrade_alerts", severity="P0", status="open") == 0, "none is a number"
    assert value(samples, "cvntrade_alert_messages_waiting") == 1
    assert value(samples, "cvntrade_alert_message_oldest_waiting_seconds") == pytest.approx(300, abs=60)
    assert value(samples, "cvntrade_runs", pipeline="discovery", status="FAILURE") == 1
    assert value(samples, "cvntrade_longest_run_seconds", pipeline="retrain", status="STARTED") == pytest.approx(
        45 * 60
    )
    assert value(samples, "cvntrade_stuck_runs", pipeline="retrain", status="CANCELED") == 1
    assert value(samples, "cvntrade_stuck_runs", pipeline="discovery", status="FAILURE") == 0
    assert value(samples, "cvntrade_factor_run_seconds", factor="calibration") == pytest.approx(7 * 60)
    assert value(samples, "cvntrade_models", market="binance", state="champion") == 1
    assert value(samples, "cvntrade_models", market="simulated", state="challenger") == 2
    code = {"crypto": REAL, "market": "binance", "code": "ML_SOLID", "severity": "P3"}
    assert value(samples, "cvntrade_diagnosis", **code) == 1
    assert value(samples, "cvntrade_incidents_open", severity="P1") == 1


def test_a_signal_of_every_level_is_told(fresh):
    moment = now()
    for place, level in enumerate(("ok", "warning", "critical", "unknown")):
        set_signal(fresh, "sortino", f"COIN{place}", None if level == "unknown" else 0.5 * place, level, moment)
    set_state(fresh, "RED", moment)
    samples = look(fresh)
    told = [
        (
            value(samples, "cvntrade_signal_level", signal="sortino", subject=f"COIN{place}"),
            value(samples, "cvntrade_signal_value", signal="sortino", subject=f"COIN{place}"),
        )
        for place in range(4)
    ]
    assert told == [(0, 0.0), (1, 0.5), (2, 1.0), (3, None)]


@pytest.mark.parametrize(("minutes", "is_told"), [(STALE_MINUTES - 0.5, True), (STALE_MINUTES + 0.5, False)])
def test_no_old_number_is_told_as_one_of_now(fresh, minutes, is_told):
    moment = now() - minutes * MINUTE
    set_state(fresh, "GREEN", moment)
    set_signal(fresh, "sortino", REAL, 1.2, "ok", moment)
    samples = look(fresh)
    assert (value(samples, "cvntrade_state", state="GREEN") == 1) is is_told
    assert ("cvntrade_state" in names(samples)) is is_told
    assert ("cvntrade_signal_value" in names(samples)) is is_told
    assert ("cvntrade_signal_level" in names(samples)) is is_told
    since = moment.timestamp()
    assert value(samples, "cvntrade_state_computed_timestamp_seconds") == pytest.approx(since), "when stays told"
    observed = value(samples, "cvntrade_signal_observed_timestamp_seconds", signal="sortino", subject=REAL)
    assert observed == pytest.approx(since)


def test_how_old_is_too_old_is_the_operators_choice(fresh):
    set_state(fresh, "GREEN", now() - 5 * MINUTE)
    fresh.set_base_env({"CVN_STATE_STALE_MINUTES": "4.5"}, "ann")
    assert "cvntrade_state" not in names(look(fresh))
    fresh.set_base_env({"CVN_STATE_STALE_MINUTES": "5.5"}, "ann")
    assert value(look(fresh), "cvntrade_state", state="GREEN") == 1


def test_an_empty_schema_has_no_state(fresh):
    samples = look(fresh)
    assert not {name for name in names(samples) if name.startswith("cvntrade_state")}
    assert value(samples, "cvntrade_alerts", severity="P0", status="open") == 0
    with fresh.begin() as connection:
        assert connection.execute(sa.text("select state, is_stale, reasons from ops_state")).all() == [
            ("UNKNOWN", True, "no state was ever computed")
        ]


def test_a_run_that_somebody_chose_to_be_slow_is_no_slow_run(fresh):
    moment = now()
    record_run(fresh, watched("slow", started_at=moment - 40 * MINUTE, ended_at=None, status="STARTED"), at=moment)
    labels = {"pipeline": "discovery", "status": "STARTED"}
    assert value(look(fresh), "cvntrade_longest_run_seconds", **labels) == pytest.approx(2400)
    finding(fresh, "slow", "run_in_time", "allowed", explicit=True, layer="run")
    samples = look(fresh)
    assert value(samples, "cvntrade_longest_run_seconds", **labels) is None
    assert value(samples, "cvntrade_runs", **labels) == 1


@pytest.mark.parametrize(("minutes", "counts"), [(59, True), (61, False)])
def test_what_ended_more_than_an_hour_ago_is_over(fresh, minutes, counts):
    ended = now() - minutes * MINUTE
    record_run(fresh, watched("over", started_at=ended - 40 * MINUTE, ended_at=ended), at=ended)
    finding(fresh, "over", "run_progresses", "critical", recorded_at=ended.to_pydatetime())
    samples = look(fresh)
    labels = {"pipeline": "discovery", "status": "SUCCESS"}
    assert (value(samples, "cvntrade_longest_run_seconds", **labels) is not None) is counts
    assert value(samples, "cvntrade_stuck_runs", **labels) == float(counts)


def test_dagsters_heartbeats_and_queue_are_told(postgres_server, instance: dg.DagsterInstance):
    beat = time.time()
    for daemon in ("SENSOR", "SCHEDULER"):
        instance.add_daemon_heartbeat(DaemonHeartbeat(beat, daemon, "some-id"))
    instance.add_run(dg.DagsterRun(job_name="discovery", run_id="a", status=dg.DagsterRunStatus.STARTED))
    with exporter(sa.make_url(postgres_server.dsn(DAGSTER_DATABASE))) as address:
        samples = scrape(address)
    for daemon in ("SENSOR", "SCHEDULER"):
        told = value(samples, "cvntrade_daemon_heartbeat_timestamp_seconds", daemon=daemon)
        assert told == pytest.approx(beat), "whatever the time zone of the server"
    assert value(samples, "cvntrade_runs_unfinished", status="STARTED") == 1
    assert value(samples, "cvntrade_runs_unfinished", status="QUEUED") == 0
    # That database holds no operations schema: the one is told, the other is not.
    assert value(samples, "cvntrade_exporter_source_up", source="dagster") == 1
    assert value(samples, "cvntrade_exporter_source_up", source="operations") == 0
    assert "cvntrade_exporter_last_success_timestamp_seconds" not in names(samples)


# when PostgreSQL is away


@pytest.fixture
def own_server() -> Iterator[tuple[EmbeddedPostgres, sa.URL]]:
    """A server of this test's own, with both databases."""
    with own_postgres("exporter") as server:
        with closing(Warehouse(server.dsn("cvntrade"))) as warehouse:
            warehouse.migrate()
            seed(warehouse, now())
        with sa.create_engine(server.dsn(DAGSTER_DATABASE)).begin() as connection:
            connection.exec_driver_sql(DAGSTER_TABLES)
            connection.engine.dispose()
        yield server, sa.make_url(server.dsn("cvntrade"))


def test_a_server_that_goes_away_takes_its_numbers_with_it(own_server):
    server, url = own_server
    told: list[str] = []
    with exporter(url, told) as address:
        before = scrape(address)
        assert value(before, "cvntrade_exporter_source_up", source="operations") == 1
        assert value(before, "cvntrade_runs_unfinished", status="QUEUED") == 2
        success = value(before, "cvntrade_exporter_last_success_timestamp_seconds")
        assert success == pytest.approx(time.time(), abs=60)
        server_process = psutil.Process(server.pid)
        server_process.send_signal(signal.SIGQUIT)
        psutil.wait_procs([server_process], timeout=20)
        for failures in (1, 2):
            after = scrape(address)
            assert {name for name in names(after) if not is_own(name)} == set()
            assert value(after, "cvntrade_exporter_source_up", source="operations") == 0
            assert value(after, "cvntrade_exporter_source_up", source="dagster") == 0
            assert value(after, "cvntrade_exporter_failures_total", source="operations") == failures
            assert value(after, "cvntrade_exporter_last_success_timestamp_seconds") == success
    assert len(told) == 2, "once for each source, not once for each scrape"
    assert server.password not in "".join(told)


def test_a_server_that_hangs_holds_no_scrape_up_and_is_read_again_when_it_answers(own_server):
    server, url = own_server
    told: list[str] = []
    with exporter(url, told, deadline=0.5) as address:
        assert "cvntrade_state" in names(scrape(address))
        postmaster = psutil.Process(server.pid)
        family = [postmaster, *postmaster.children(recursive=True)]
        for process in family:
            process.suspend()
        try:
            first, second = scrape(address), scrape(address)
        finally:
            for process in reversed(family):
                process.resume()
        for samples in (first, second):
            assert {name for name in names(samples) if not is_own(name)} == set()
            assert value(samples, "cvntrade_exporter_scrape_seconds") < 2
        deadline = time.monotonic() + 30
        while "cvntrade_state" not in names(scrape(address)):
            assert time.monotonic() < deadline, told
            time.sleep(0.1)
    assert any("no answer within 0.5 s" in each for each in told)
    assert any("answers again" in each for each in told)


def test_nothing_is_asked_of_the_database_before_a_scrape():
    url = sa.make_url("postgresql+psycopg2://nobody:nothing@127.0.0.1:1/none")
    registry = CollectorRegistry()
    registry.register(OperationsCollector(url))


# the command, and Prometheus' own tools


def test_it_listens_on_this_machine_alone_unless_asked(monkeypatch):
    from typer.main import get_command

    from cvntrade_assets.cli import app

    options = {option.name: option.default for option in get_command(app).commands["exporter"].params}  # type: ignore[attr-defined]
    assert options == {"port": 9464, "host": "127.0.0.1"}


@pytest.mark.parametrize("port", ["-1", "65536"])
def test_a_port_that_is_none_is_refused_before_anything_is_asked(port):
    from typer.testing import CliRunner

    from cvntrade_assets.cli import app

    refused = CliRunner().invoke(app, ["exporter", "--port", port])
    assert refused.exit_code == 2 and "--port" in refused.output and "than or equal to" in refused.output


def test_an_address_that_is_taken_is_an_error_that_says_so(fresh):
    url = fresh.address.render_as_string(hide_password=False)
    connection = Connection("http://127.0.0.1:3000", {"CVN_WAREHOUSE_URL": url})
    with exporter(fresh.address) as address:
        port = int(re.search(r":(\d+)/", address)[1])  # type: ignore[index]
        with pytest.raises(CommandError, match=f"cannot listen on 127.0.0.1:{port}"):
            export(connection, "127.0.0.1", port, Console())


def tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"needs {name}, of Debian's prometheus package")
    return found


def test_promtool_finds_nothing_to_say_of_the_metrics(fresh):
    seed(fresh, now())
    with exporter(fresh.address) as address:
        text = httpx.get(address, timeout=20).text
    checked = subprocess.run(
        [tool("promtool"), "check", "metrics"], input=text, capture_output=True, text=True, check=False
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


def test_prometheus_itself_scrapes_it(fresh, tmp_path):
    seed(fresh, now())
    with exporter(fresh.address) as address:
        target = address.removeprefix("http://").removesuffix("/metrics")
        config = tmp_path / "prometheus.yml"
        config.write_text(
            "scrape_configs: [{job_name: cvntrade-exporter, scrape_interval: 1s, scrape_timeout: 1s, "
            f"static_configs: [{{targets: ['{target}']}}]}}]\n"
        )
        with prometheus(config, tmp_path) as api:
            state = wait_for(api, 'cvntrade_state{state="GREEN"}')
            assert state["metric"]["job"] == "cvntrade-exporter"
            level = wait_for(api, f'cvntrade_diagnosis{{crypto="{SIMULATED}"}}')
            assert level["metric"]["market"] == "simulated"
            assert wait_for(api, 'up{job="cvntrade-exporter"}')["value"][1] == "1"


@contextmanager
def prometheus(config: Path, folder: Path) -> Iterator[str]:
    """A Prometheus that runs with this configuration; the address of its API."""
    from resources.embedded_postgres import free_port

    port = free_port()
    arguments = [
        tool("prometheus"),
        f"--config.file={config}",
        f"--storage.tsdb.path={folder / 'tsdb'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(arguments, stdout=log, stderr=log)
    try:
        yield f"http://127.0.0.1:{port}/api/v1/query"
    finally:
        process.kill()
        process.wait()


def wait_for(api: str, query: str) -> dict[str, Any]:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            result = httpx.get(api, params={"query": query}).json()["data"]["result"]
        except (httpx.TransportError, KeyError, ValueError):
            result = []
        if result:
            return dict(result[0])
        time.sleep(0.1)
    raise AssertionError(f"Prometheus never knew {query}")
