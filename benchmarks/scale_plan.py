"""What bounds a stack, and the plan for 2,000 cryptos: arithmetic on what was measured, and named assumptions."""

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.scale_fit import growth
from benchmarks.scale_text import prose, short, table
from cvntrade_assets.settings import SETTINGS

PLANNED = 2000
SLOTS = 2  # how many runs `cvntrade up` has at work at a time by default
# Assumptions: none of them was measured here.
POD_START_SECONDS = (
    30.0  # from a Job's creation to the process: scheduling, volumes, an image that is on the node already
)
MONITORING_MINUTES = 90.0  # monitoring begins at 05:00 UTC, the morning report is written at 06:30
DISCOVERY_MINUTES, RETRAIN_MINUTES = 15.0, 10.0  # of a pod
WEEKEND_HOURS = 12.0  # that a weekly discovery of everything may take
LAUNCH_SECONDS = 0.3  # of the API server, to create a Job
QUEUE_WORKERS = 4  # dagster.yaml: run_queue.dequeue_num_workers
DAYS = 365
_GIB, _MIB = 2**30, 2**20
_TICK_SECONDS = 60.0

Level = Mapping[str, Any]


def bounds(found: Mapping[str, Any]) -> str:
    """What runs out first, by its own throughput: runs an hour that each part could bear alone."""
    last: Level = found["levels"][-1]
    together, used = last["backfill"], last["used"]
    runs, processors = together["runs"], used["processors"]
    spent = {name: seconds / runs for name, seconds in used["processor_seconds"].items()}
    everything = sum(spent.values())
    # Beyond the first level the backfill holds runs with nothing to do.
    idly = (runs - last["built"]["runs"]) * (last["built"]["run"]["median"] - last["again"]["run"]["median"])
    slot = slot_seconds(last) - idly / runs
    rows = [
        ("the machine's processors", f"{short(everything)} processor seconds a run", _hourly(everything / processors)),
        (
            "two slots",
            f"{short(slot)} s of a slot a run, whether it builds or not: start-up, run, and the wait for the next",
            _hourly(slot / SLOTS),
        ),
        ("submitting, one backfill", f"{short(together['submit'] / runs)} s a run", _hourly(together["submit"] / runs)),
        ("the daemon, one process", f"{short(spent['daemon'])} processor seconds a run", _hourly(spent["daemon"])),
        (
            "the code server, one process",
            f"{short(spent['code-server'])} processor seconds a run",
            _hourly(spent["code-server"]),
        ),
        (
            "PostgreSQL, one processor",
            f"{short(spent['postgres'])} processor seconds a run",
            _hourly(spent["postgres"]),
        ),
        (
            "the webserver, one process",
            f"{short(spent['webserver'])} processor seconds a run, a visitor's",
            _hourly(spent["webserver"]),
        ),
    ]
    rows.sort(key=lambda row: float(row[2].replace(",", "")))
    others = everything - spent["runs"]
    return "\n\n".join(
        (
            "## What bounds it",
            prose(
                f"Runs an hour that each part could bear if nothing else bound it, at {last['cryptos']} cryptos; "
                "what comes "
                f"first bounds all. {together['runs_per_hour']:,.0f} runs an hour were reached."
            ),
            table(("part", "what it spends", "runs an hour at most"), rows),
            prose(
                f"Of the {short(everything)} processor seconds of a run, the run's own process uses "
                f"{spent['runs'] / everything:.0%}; {short(others)} s are everybody else's: PostgreSQL, the daemon, "
                "the code server, "
                f"the webserver and MLflow."
            ),
        )
    )


def plan(found: Mapping[str, Any]) -> str:
    """Pods, PostgreSQL, retention, daemon, UI and storage for `PLANNED` cryptos."""
    parts = (
        f"## The plan for {PLANNED:,} cryptos on the cluster",
        prose(
            "Measured figures come from the levels above and from runs of the default size (24 months, default "
            "trials); those for "
            f"{PLANNED:,} cryptos are extrapolated along their fit. What is assumed says so: nothing of this ran on "
            "a cluster."
        ),
        table(("what", "how much", "from"), [*_load(), *_pods(found), *_database(found), *_control(found)]),
        _advice(found),
    )
    return "\n\n".join(parts)


Rows = list[tuple[str, str, str]]


def _runs_a_day() -> float:
    return PLANNED * (1.0 + 2.0 / 7.0)


def _load() -> Rows:
    return [
        (
            "runs a day",
            f"{_runs_a_day():,.0f}",
            "the schedules: monitoring daily, discovery and retrain weekly, one run a crypto each",
        )
    ]


def _pods(found: Mapping[str, Any]) -> Rows:
    default = found["default_run"]
    seconds = POD_START_SECONDS + default["backfill"]["start_up"]["median"] + default["built"]["run"]["median"]
    monitoring = PLANNED * seconds / (MONITORING_MINUTES * 60.0)
    discovery = PLANNED * DISCOVERY_MINUTES / (WEEKEND_HOURS * 60.0)
    largest = default["used"]["peak_mib"]["largest run"] / 1024
    pool = int(SETTINGS["CVN_POOL_TRAINING"].default)
    return [
        (
            "pods at a time for monitoring",
            f"{monitoring:,.0f}, {_cores('REFRESH', monitoring)}",
            f"{short(seconds)} s a pod: a chain of default size ({short(default['built']['run']['median'])} s, "
            "measured; "
            "monitoring does "
            f"less), its start-up and {POD_START_SECONDS:.0f} s for the pod's (assumed), done in "
            f"{MONITORING_MINUTES:.0f} minutes",
        ),
        (
            "pods at a time for discovery",
            f"{discovery:,.0f}, {_cores('DISCOVERY', discovery)}",
            f"{DISCOVERY_MINUTES:.0f} minutes a pod and {WEEKEND_HOURS:.0f} hours for all (both assumed); "
            f"CVN_POOL_TRAINING, by default {pool}, makes it {PLANNED * DISCOVERY_MINUTES / 60.0 / pool:.0f} hours",
        ),
        (
            "memory of a run",
            f"{largest:.2f} GiB",
            "the larger of two runs of default size, measured; CVN_POD_TRAINING_MEMORY_GIB is "
            f"{_default('TRAINING_MEMORY_GIB')}",
        ),
    ]


def _database(found: Mapping[str, Any]) -> Rows:
    last, default = found["levels"][-1]["rest"]["sizes"], found["default_run"]
    log = last["databases"]["dagster"]["tables"]["event_logs"]
    on_disk = log["bytes"] / last["event_text_bytes"]
    kept = default["built"]["kept_event_bytes_per_run"] * on_disk
    chatter = default["built"]["event_bytes_per_run"] * on_disk - kept
    days = float(SETTINGS["CVN_EVENT_RETENTION_DAYS"].default)
    a_year = _runs_a_day() * (kept * DAYS + chatter * days)
    mlflow = _per_run(found, "mlflow")
    artifacts = default["bytes_per_run"]["artifacts"]
    return [
        (
            "event log after a year",
            f"{a_year / _GIB:,.0f} GiB",
            f"{kept / 1024:,.0f} KiB a run are kept for ever and {chatter / 1024:,.0f} KiB for {days:.0f} days (runs "
            "of default size, "
            f"times {on_disk:.2f} for how PostgreSQL stores their text)",
        ),
        (
            "MLflow's database after a year",
            f"{_runs_a_day() * DAYS * mlflow / _GIB:,.0f} GiB",
            f"{mlflow / 1024:,.0f} KiB a run, measured",
        ),
        (
            "the operations schema after a year",
            f"{_runs_a_day() * DAYS * _per_run(found, 'cvntrade') / _GIB:,.0f} GiB",
            f"{_per_run(found, 'cvntrade') / 1024:,.0f} KiB a run, measured, signals included",
        ),
        (
            "artifacts after a year",
            f"{_runs_a_day() * DAYS * artifacts / _GIB / 1024:,.1f} TiB",
            f"{artifacts / _MIB:.1f} MiB a run of default size in which everything is new, measured: object storage, "
            "with a rule "
            "of its own for how long old versions are kept",
        ),
    ]


def _control(found: Mapping[str, Any]) -> Rows:
    levels: Sequence[Level] = found["levels"]
    submit = max(level["backfill"]["submit"] / level["backfill"]["runs"] for level in levels)
    taken = QUEUE_WORKERS / (LAUNCH_SECONDS + submit)
    rows: Rows = [
        (
            "submitting all at once",
            f"{PLANNED * submit / 60:,.0f} minutes",
            f"{submit:.2f} s a run at the slowest level, one after the other; a second one beside it takes "
            "`num_submit_workers`, 2 in dagster.yaml for backfills",
        ),
        (
            "taking from the queue",
            f"{taken:,.1f} runs a second",
            f"{QUEUE_WORKERS} workers (dagster.yaml), {LAUNCH_SECONDS} s of the API server (assumed) and as many "
            "writes as a submission",
        ),
    ]
    for name in levels[-1]["rest"]["sensor_seconds"]:
        at = _extrapolated(levels, lambda level, name=name: level["rest"]["sensor_seconds"].get(name))
        rows.append(
            (f"a tick of {name}", f"{short(at)} s", f"extrapolated; Dagster ends a tick after {_TICK_SECONDS:.0f} s")
        )
    for page in levels[-1]["rest"]["pages"]:
        at = _extrapolated(levels, lambda level, page=page: level["rest"]["pages"][page]["ms"])
        rows.append(
            (f"the UI's page of {page}", f"{at / 1000:.1f} s", "extrapolated, its requests one after the other")
        )
    status = _extrapolated(levels, lambda level: level["rest"]["status_seconds"])
    rows.append(("`cvntrade status`", f"{short(status)} s", "extrapolated"))
    return rows


def _advice(found: Mapping[str, Any]) -> str:
    levels: Sequence[Level] = found["levels"]
    used = levels[-1]["used"]
    daemon = used["processor_seconds"]["daemon"] / used["seconds"]
    connections = used["peak_connections"]
    servers = sum(count for role, count in connections.items() if role != "run")
    points = (
        "Runs: one pod each, so neither the code server nor its memory grows with them. CVN_MAX_CONCURRENT_RUNS is "
        "the number "
        "of pods above; the pools keep the exchange at one run and training at what the nodes bear.",
        f"PostgreSQL: a server of its own with fast disks. A run held up to {connections['run']} connections and "
        "everything else "
        f"{servers} (measured): max_connections is at least {connections['run']} for every pod at a time and 100 more.",
        "Retention: CVN_EVENT_RETENTION_DAYS decides over the chatter. What is kept for ever is mostly the pictures "
        "that "
        "test_report and backtest show, one more with every run.",
        f"Daemon: one; Dagster knows no second. It used {daemon:.2f} processors at {levels[-1]['cryptos']} cryptos. "
        "A schedule submits "
        "its runs one after the other unless dagster.yaml gives `schedules` its `num_submit_workers` too; raise that, "
        "`backfills: num_submit_workers` and `dequeue_num_workers` first.",
        f"Assets: one graph and {PLANNED:,} partitions in one dimension. Definitions load as fast as with six; "
        "partitions are rows. "
        "One code location is enough: it is split where two teams deploy apart, not for size.",
        "Groups: a group's backfill after the other's. The queue is served in order, so a group of 2,000 keeps one "
        "of six "
        "waiting unless that has the tag `dagster/priority`.",
        "Not measured: what a tick of a schedule takes that asks for 2,000 runs at once, and anything of Kubernetes "
        "itself.",
    )
    return "\n".join(prose(f"- {point}", indent="  ") for point in points)


def _per_run(found: Mapping[str, Any], database: str) -> float:
    """Bytes that a database grew by a run of the last level."""
    before, after = (level["rest"]["sizes"]["databases"][database]["bytes"] for level in found["levels"][-2:])
    return float(after - before) / float(found["levels"][-1]["backfill"]["runs"])


def _extrapolated(levels: Sequence[Level], read: Any) -> float:
    known = [(level["cryptos"], float(value)) for level in levels if (value := read(level)) is not None]
    grown = growth([count for count, _ in known], [value for _, value in known])
    return grown.at(PLANNED, known[-1])


def slot_seconds(level: Level) -> float:
    """How long a run that builds keeps one of the slots: start-up, run, and the wait for the next."""
    together = level["backfill"]
    idle = (together["idle_slot"] or {}).get("median") or 0.0
    return float(level["built"]["run"]["median"] + together["start_up"]["median"] + idle)


def _hourly(seconds: float) -> str:
    return f"{3600.0 / seconds:,.0f}" if seconds > 0 else "1,000,000"


def _default(name: str) -> str:
    return str(SETTINGS[f"CVN_POD_{name}"].default)


def _cores(work: str, pods: float) -> str:
    cores, memory = float(_default(f"{work}_CORES")), float(_default(f"{work}_MEMORY_GIB"))
    return f"{pods * cores:,.0f} processors and {pods * memory:,.0f} GiB"
