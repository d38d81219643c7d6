"""What Prometheus is told: numbers of the operations views and of Dagster's own records, read anew at every scrape.

Nothing is remembered from one scrape to the next. What cannot be read is not served, and what a view calls stale has no
value; only `cvntrade_exporter_*` is always there, so that Prometheus knows silence from zero.
"""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import sqlalchemy as sa
from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from cvntrade_assets.operations.global_state import State
from resources.code_version import connection_name
from resources.warehouse import DAGSTER_DATABASE

DEADLINE_SECONDS = 8.0
"""How long a scrape may read; Prometheus gives up after ten seconds."""

CONNECT_SECONDS = 3
STATEMENT_SECONDS = 5
# Reading only, whatever a view might call; and no statement outlives the scrape that asked.
_OPTIONS = f"-c default_transaction_read_only=on -c statement_timeout={STATEMENT_SECONDS}s"


@dataclass(frozen=True)
class Gauge:
    """A metric that rows are made into: one sample a row in which `column` is not NULL.

    Attributes:
        name: Its name.
        meaning: A sentence.
        column: Where its value stands.
        labels: Columns that tell its samples apart.
        one_of: What `column` may be, when it is a text: a sample for each, 1 for the one that it is, else 0; its label
            is the column's name.
    """

    name: str
    meaning: str
    column: str
    labels: tuple[str, ...] = ()
    one_of: tuple[str, ...] = ()

    def read(self, rows: Iterable[sa.RowMapping]) -> Metric:
        """The metric of these rows."""
        labels = (*self.labels, *((self.column,) if self.one_of else ()))
        family = GaugeMetricFamily(self.name, self.meaning, labels=labels)
        for row in rows:
            own = [str(row[label]) for label in self.labels]
            value = row[self.column]
            if value is None:
                continue
            if self.one_of:
                for each in self.one_of:
                    family.add_metric([*own, each], float(value == each))
            else:
                family.add_metric(own, float(value))
        return family


@dataclass(frozen=True)
class Query:
    """One query, and the metrics that its rows are made into."""

    sql: str
    gauges: tuple[Gauge, ...]


STATES = tuple(str(state) for state in State)

_OPERATIONS = (
    Query(
        """
        select case when is_stale then null else state end as state, extract(epoch from computed_at) as computed_at,
            extract(epoch from since) as since, simulated::int as simulated
        from ops_state
        """,
        (
            Gauge(
                "cvntrade_state", "The global state: 1 for the one that holds; absent when stale.", "state", (), STATES
            ),
            Gauge(
                "cvntrade_state_computed_timestamp_seconds", "When the global state was last computed.", "computed_at"
            ),
            Gauge("cvntrade_state_since_timestamp_seconds", "Since when the global state holds.", "since"),
            Gauge("cvntrade_market_simulated", "1 while the market in force is the simulated one.", "simulated"),
        ),
    ),
    Query(
        """
        select signal, subject, value, case when is_stale then null else level_number end as level,
            extract(epoch from observed_at) as observed_at
        from ops_signals
        """,
        (
            Gauge("cvntrade_signal_value", "A signal's value, in its own unit.", "value", ("signal", "subject")),
            Gauge(
                "cvntrade_signal_level",
                "A signal's level: 0 ok, 1 warning, 2 critical, 3 unknown; absent when stale.",
                "level",
                ("signal", "subject"),
            ),
            Gauge(
                "cvntrade_signal_observed_timestamp_seconds",
                "When a signal was last observed.",
                "observed_at",
                ("signal", "subject"),
            ),
        ),
    ),
    Query(
        """
        select each.severity, each.status, count(ops_alerts.id) as alerts
        from (
            select severity, status
            from unnest(array['P0', 'P1', 'P2', 'P3']) severity cross join unnest(array['open', 'acknowledged']) status
        ) each
        left join ops_alerts on ops_alerts.severity = each.severity and ops_alerts.status = each.status
        group by each.severity, each.status
        """,
        (Gauge("cvntrade_alerts", "Alerts that are not resolved.", "alerts", ("severity", "status")),),
    ),
    Query(
        """
        select count(*) as waiting, coalesce(max(seconds), 0) as oldest
        from ops_alert_messages where status = 'waiting'
        """,
        (
            Gauge("cvntrade_alert_messages_waiting", "Messages that nobody was told yet.", "waiting"),
            Gauge("cvntrade_alert_message_oldest_waiting_seconds", "How long the oldest of them has waited.", "oldest"),
        ),
    ),
    Query(
        """
        select job as pipeline, status, count(*) as runs,
            max(seconds) filter (where is_recent and not slowness_chosen) as longest,
            count(*) filter (where stuck_at > now() - interval '1 hour') as stuck
        from (select *, coalesce(ended_at, seen_at) > now() - interval '1 hour' as is_recent from ops_runs) run
        where coalesce(ended_at, seen_at) > now() - interval '1 day'
        group by job, status
        """,
        (
            Gauge("cvntrade_runs", "Runs of the last 24 hours.", "runs", ("pipeline", "status")),
            Gauge(
                "cvntrade_longest_run_seconds",
                "The longest run that goes on or ended within the hour; not those that somebody chose to be slow.",
                "longest",
                ("pipeline", "status"),
            ),
            Gauge(
                "cvntrade_stuck_runs", "Runs that were found stuck within the hour.", "stuck", ("pipeline", "status")
            ),
        ),
    ),
    Query(
        "select factor, mean_seconds from ops_factor_times where last_ended_at > now() - interval '1 day'",
        (
            Gauge(
                "cvntrade_factor_run_seconds",
                "What the newest runs of a factor took on average; of factors that ran within a day.",
                "mean_seconds",
                ("factor",),
            ),
        ),
    ),
    Query(
        "select market, state, count(*) as models from ops_models group by market, state",
        (Gauge("cvntrade_models", "Registered models.", "models", ("market", "state")),),
    ),
    Query(
        "select crypto, market, primary_code as code, severity, 1 as holds from latest_evaluations",
        (
            Gauge(
                "cvntrade_diagnosis",
                "The diagnosis of a crypto's newest evaluation.",
                "holds",
                ("crypto", "market", "code", "severity"),
            ),
        ),
    ),
    Query(
        """
        select each.severity, count(ops_incidents.id) as incidents
        from unnest(array['P0', 'P1', 'P2', 'P3']) each (severity)
        left join ops_incidents on ops_incidents.severity = each.severity and ops_incidents.status = 'open'
        group by each.severity
        """,
        (Gauge("cvntrade_incidents_open", "Incidents that are not closed.", "incidents", ("severity",)),),
    ),
)

# Dagster writes its columns of time in the time zone of whoever connects; a heartbeat's body holds seconds.
_DAGSTER = (
    Query(
        "select daemon_type as daemon, (body::jsonb ->> 'timestamp')::double precision as beat from daemon_heartbeats",
        (
            Gauge(
                "cvntrade_daemon_heartbeat_timestamp_seconds",
                "When a Dagster daemon last sent its heartbeat.",
                "beat",
                ("daemon",),
            ),
        ),
    ),
    Query(
        """
        select each.status, count(runs.id) as runs
        from unnest(array['QUEUED', 'NOT_STARTED', 'STARTING', 'STARTED', 'CANCELING']) each (status)
        left join runs on runs.status = each.status
        group by each.status
        """,
        (Gauge("cvntrade_runs_unfinished", "Runs that wait or go on.", "runs", ("status",)),),
    ),
)


class Source:
    """One database, read in one transaction; what it tells is of one moment."""

    def __init__(self, name: str, url: sa.URL, queries: Sequence[Query]) -> None:
        self.name = name
        self._url = url
        self._queries = queries

    @cached_property
    def _engine(self) -> sa.Engine:
        named = {
            "connect_timeout": CONNECT_SECONDS,
            "application_name": connection_name(),
            "options": _OPTIONS,
            # A server that vanished without a word is given up, and not waited for.
            "tcp_user_timeout": 1000 * STATEMENT_SECONDS,
        }
        return sa.create_engine(
            self._url, pool_size=1, pool_pre_ping=True, isolation_level="REPEATABLE READ", connect_args=named
        )

    def read(self) -> list[Metric]:
        """Every metric of it.

        Raises:
            sa.exc.SQLAlchemyError: the database does not answer, or a query fails.
        """
        with self._engine.connect() as connection:
            return [
                gauge.read(rows)
                for query in self._queries
                for rows in [connection.execute(sa.text(query.sql)).mappings().all()]
                for gauge in query.gauges
            ]

    def close(self) -> None:
        """Give the connection back."""
        self._engine.dispose()


@dataclass
class _Reading:
    """What one look at a source came to; filled by the thread that looks."""

    metrics: list[Metric] = field(default_factory=list)
    trouble: str | None = None
    seconds: float = 0.0


class OperationsCollector(Collector):
    """Reads its sources whenever Prometheus asks, each in its own thread, and answers in time whatever they do.

    Args:
        url: The operations schema.
        tell: Is told when a source stops answering, and when it answers again, a line each.
        deadline: Seconds that a scrape may read.
        dagster: Dagster's database; None for the one beside the operations schema, read by the same role.
    """

    def __init__(
        self,
        url: sa.URL,
        tell: Callable[[str], None] = lambda _: None,
        deadline: float = DEADLINE_SECONDS,
        dagster: sa.URL | None = None,
    ) -> None:
        self._sources = (
            Source("operations", url, _OPERATIONS),
            Source("dagster", dagster or url.set(database=DAGSTER_DATABASE), _DAGSTER),
        )
        self._where = f"{url.host}:{url.port}"
        self._tell = tell
        self._deadline = deadline
        self._one_at_a_time = threading.Lock()
        self._readers: dict[str, threading.Thread] = {}
        self._failures = {source.name: 0 for source in self._sources}
        self._troubled: dict[str, str] = {}
        self._last_success: float | None = None

    def describe(self) -> Iterable[Metric]:
        """Nothing: registering asks no database."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """The exporter's own metrics, and those of every source that answered in time."""
        with self._one_at_a_time:
            began = time.monotonic()
            readings = self._read(began + self._deadline)
            for source in self._sources:
                self._note(source.name, readings[source.name].trouble)
            if not self._troubled:
                self._last_success = time.time()
            yield from self._own(readings, time.monotonic() - began)
            for reading in readings.values():
                if reading.trouble is None:
                    yield from reading.metrics

    def close(self) -> None:
        """Give the connections back."""
        for source in self._sources:
            source.close()

    def _read(self, deadline: float) -> dict[str, _Reading]:
        readings = {}
        for source in self._sources:
            readings[source.name] = reading = _Reading()
            if (before := self._readers.get(source.name)) is not None and before.is_alive():
                reading.trouble = "an earlier scrape still waits for it"
                continue
            # A daemon thread: one that hangs keeps nobody from ending.
            self._readers[source.name] = threading.Thread(target=_look, args=(source, reading), daemon=True)
            self._readers[source.name].start()
        for name, reading in readings.items():
            if reading.trouble is None:
                self._readers[name].join(max(0.0, deadline - time.monotonic()))
                if self._readers[name].is_alive():
                    # Another one: what the thread still finds is for nobody.
                    readings[name] = _Reading(trouble=f"no answer within {self._deadline:g} s")
        return readings

    def _note(self, name: str, trouble: str | None) -> None:
        if trouble is not None:
            self._failures[name] += 1
            if name not in self._troubled:
                self._tell(f"PostgreSQL at {self._where}, {name}: {trouble}; its metrics are not served.")
            self._troubled[name] = trouble
        elif self._troubled.pop(name, None) is not None:
            self._tell(f"PostgreSQL at {self._where}, {name}: answers again.")

    def _own(self, readings: Mapping[str, _Reading], seconds: float) -> Iterator[Metric]:
        up = GaugeMetricFamily("cvntrade_exporter_source_up", "1 when a source was read whole.", labels=["source"])
        spent = GaugeMetricFamily("cvntrade_exporter_source_seconds", "How long reading it took.", labels=["source"])
        failed = CounterMetricFamily("cvntrade_exporter_failures", "Scrapes that could not read it.", labels=["source"])
        for name, reading in readings.items():
            up.add_metric([name], float(reading.trouble is None))
            failed.add_metric([name], self._failures[name])
            if reading.trouble is None:
                spent.add_metric([name], reading.seconds)
        yield from (up, spent, failed)
        yield GaugeMetricFamily("cvntrade_exporter_scrape_seconds", "How long this scrape took.", value=seconds)
        success = GaugeMetricFamily(
            "cvntrade_exporter_last_success_timestamp_seconds",
            "When every source was last read whole; absent until then.",
        )
        if self._last_success is not None:
            success.add_metric([], self._last_success)
        yield success


def _look(source: Source, reading: _Reading) -> None:
    began = time.monotonic()
    try:
        reading.metrics = source.read()
    except sa.exc.DBAPIError as error:
        lines = str(error.orig).strip().splitlines()
        reading.trouble = lines[0] if lines else type(error.orig).__name__
    except Exception as error:  # noqa: BLE001 - whatever it is, the exporter goes on and says so
        reading.trouble = f"{type(error).__name__}: {error}"
    reading.seconds = time.monotonic() - began
