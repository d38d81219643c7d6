"""docs/scale.md and docs/scale.png, written from what `benchmarks.scale` measured."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.scale_fit import growth
from benchmarks.scale_plan import SLOTS, bounds, plan, slot_seconds
from benchmarks.scale_plot import draw
from benchmarks.scale_text import prose, short, table

Level = Mapping[str, Any]
_MIB = 2**20
SERVERS = ("runs", "postgres", "daemon", "code-server", "webserver", "mlflow")


def write(found: Mapping[str, Any], folder: Path) -> None:
    """Write both files.

    Args:
        found: The content of benchmarks/scale.json.
        folder: docs.
    """
    levels: Sequence[Level] = found["levels"]
    draw([level["cryptos"] for level in levels], _panels(levels), folder / "scale.png")
    parts = (
        _how(found),
        "![The curve](scale.png)",
        _work(levels),
        _alternative(levels),
        _processors(levels),
        _growth(levels),
        bounds(found),
        plan(found),
    )
    (folder / "scale.md").write_text("\n\n".join(parts) + "\n")


def _how(found: Mapping[str, Any]) -> str:
    levels = found["levels"]
    used = [level["used"] for level in levels]
    others = sum(each["processor_seconds_of_others"] for each in used)
    share = others / sum(each["seconds"] * each["processors"] for each in used)
    numbers = ", ".join(str(level["cryptos"]) for level in levels)
    return "\n\n".join(
        (
            "# Scale",
            prose(
                "Measured by `python -m benchmarks.scale`; this page is written from its raw figures, "
                "`benchmarks/scale.json`, with `--report`. Seconds are a machine's; ratios, growth and processor "
                "seconds are what to take away."
            ),
            prose(
                "One real stack, as `cvntrade up` brings it up, with its defaults: PostgreSQL from the wheel, "
                "two runs at a time, one daemon, one webserver, one code server, MLflow, all on "
                f"{used[0]['processors']} processors. The universe grew to {numbers} cryptos of the simulated "
                "market. Each level is one group backfill of all of them: the new ones are built (twelve assets "
                "each, all checks), for the others nothing has changed; the first level is asked for a second time. "
                "Then the stack is measured at rest. Runs are short on purpose (four months of candles, two trials): "
                "what grows with the number of cryptos is everything around them. Meanwhile somebody clicks through "
                "the UI, a page every 15 s; what its pages ask was recorded in a real browser. Others used "
                f"{share:.0%} of the machine's processors meanwhile.{_interrupted(found)}"
            ),
        )
    )


def _interrupted(found: Mapping[str, Any]) -> str:
    times = found["attempts"] - 1
    if not times:
        return ""
    return (
        f" The measurement was interrupted {'once' if times == 1 else f'{times} times'} and went on: the runs of a "
        "level that was begun again are in the databases, and in no figure of runs."
    )


def _work(levels: Sequence[Level]) -> str:
    rows = []
    for level in levels:
        together, built, again = level["backfill"], level["built"], level["again"]
        rows.append(
            (
                level["cryptos"],
                level["new"],
                short(built["run"]["median"]),
                short(again["run"]["median"]),
                short(together["start_up"]["median"]),
                short(together["wait"]["median"]),
                short(together["wait"]["max"]),
                short((together["idle_slot"] or {}).get("median")),
                short(together["submit"] / together["runs"]),
                short(together["runs_per_hour"]),
            )
        )
    failed = sum(level["backfill"]["runs"] - level["backfill"]["succeeded"] for level in levels)
    heads = (
        "cryptos",
        "new",
        "run that builds, s",
        "run with nothing to do, s",
        "start-up, s",
        "wait, median s",
        "wait, longest s",
        "slot idle, s",
        "submit, s a run",
        "runs an hour",
    )
    return "\n\n".join(
        (
            "## Runs",
            table(heads, rows),
            prose(
                "A run's seconds are from its start to its end; start-up is its process and imports before. A run "
                "waits from being queued to being taken from the queue; a slot is idle from a run's end until the "
                "next one is taken. Submitting a run writes its planned assets and checks, one event each. Where "
                "nothing is to do every asset is found in the store, and every check is asked again of the stored "
                f"files. {failed} of these runs failed."
            ),
        )
    )


def _alternative(levels: Sequence[Level]) -> str:
    rows = []
    for level in levels:
        naive = level["rest"]["naive"]
        each = naive["seconds"] / naive["cryptos"]
        slot = slot_seconds(level)
        rows.append((level["cryptos"], short(slot / SLOTS), short(each), f"{slot / SLOTS / each:.1f}"))
    heads = ("cryptos", "through Dagster, s a crypto", "plain loop, s a crypto", "ratio")
    return "\n\n".join(
        (
            "## Against a plain loop",
            table(heads, rows),
            prose(
                "The alternative is the naive loop: the same chain's pure functions for one crypto after the other "
                "in one "
                "process that has everything imported, without checks, store, versions, history, retries or a UI, "
                "while the stack rests. Through Dagster a crypto takes its slot for start-up, the run that builds it "
                "and "
                "the wait for the next; two slots work at a time."
            ),
        )
    )


def _processors(levels: Sequence[Level]) -> str:
    rows = [
        (
            level["cryptos"],
            *(short(level["used"]["processor_seconds"][name] / level["backfill"]["runs"]) for name in SERVERS),
        )
        for level in levels
    ]
    memory = [
        (
            level["cryptos"],
            *(short(level["used"]["peak_mib"].get(name)) for name in SERVERS),
            short(level["used"]["peak_mib"]["largest run"]),
        )
        for level in levels
    ]
    return "\n\n".join(
        (
            "## Processors and memory",
            prose("Processor seconds a run, by who used them; beyond the first level some runs had nothing to do:"),
            table(("cryptos", *SERVERS), rows),
            prose("Peak memory in MiB, shared pages divided among those that share them:"),
            table(("cryptos", *SERVERS, "largest run"), memory),
        )
    )


Figure = tuple[str, Callable[[Level], float | None]]


def figures(levels: Sequence[Level]) -> list[Figure]:
    """Everything that may grow with the number of cryptos, with its unit."""
    pages: list[Figure] = [
        (f"UI, {page}, ms at rest", lambda level, page=page: level["rest"]["pages"][page]["ms"])
        for page in levels[-1]["rest"]["pages"]
    ]
    browser: list[Figure] = [
        (f"UI, {page}, s in a browser at rest", lambda level, page=page: level["rest"]["page_seconds"][page])
        for page in levels[-1]["rest"]["page_seconds"]
    ]
    busy: list[Figure] = [
        (f"UI, {page}, ms at work", lambda level, page=page: _busy(level, page)) for page in levels[-1]["rest"]["pages"]
    ]
    sensors: list[Figure] = [
        (f"sensor {name}, s at rest", lambda level, name=name: level["rest"]["sensor_seconds"].get(name))
        for name in levels[-1]["rest"]["sensor_seconds"]
    ]
    ticks: list[Figure] = [
        (f"sensor {name}, longest s at work", lambda level, name=name: _tick(level, name))
        for name in levels[-1]["ticks"]
    ]
    databases: list[Figure] = [
        (f"database {name}, MiB", lambda level, name=name: level["rest"]["sizes"]["databases"][name]["bytes"] / _MIB)
        for name in levels[-1]["rest"]["sizes"]["databases"]
    ]
    folders: list[Figure] = [
        (f"folder {name}, MiB", lambda level, name=name: level["rest"]["sizes"]["folders"][name]["bytes"] / _MIB)
        for name in levels[-1]["rest"]["sizes"]["folders"]
    ]
    beats: list[Figure] = [
        ("UI, pages that were not answered at work", lambda level: level["used"]["ui_refused"]),
        (
            "oldest heartbeat of a daemon, s",
            lambda level: max(level["used"]["longest_heartbeat_age"].values()),
        ),
    ]
    return [
        ("a run that builds, s", lambda level: level["built"]["run"]["median"]),
        ("a run with nothing to do, s", lambda level: level["again"]["run"]["median"]),
        ("submitting a run, s", lambda level: level["backfill"]["submit"] / level["backfill"]["runs"]),
        ("a slot idle between two runs, s", lambda level: (level["backfill"]["idle_slot"] or {}).get("median")),
        ("daemon, processors used", lambda level: _share(level, "daemon")),
        ("webserver, processors used", lambda level: _share(level, "webserver")),
        ("code server, processors used", lambda level: _share(level, "code-server")),
        ("event log, KiB a run", lambda level: level["built"]["event_bytes_per_run"] / 1024),
        ("`cvntrade status`, s", lambda level: level["rest"]["status_seconds"]),
        ("`cvntrade plan`, s", lambda level: level["rest"]["plan_seconds"]),
        ("`cvntrade backfill`, s", lambda level: level["backfill"]["command_seconds"]),
        ("what `backfill --wait` asks again and again, ms", lambda level: level["rest"]["follow_ms"]),
        *beats,
        *ticks,
        *sensors,
        *pages,
        *busy,
        *browser,
        *databases,
        *folders,
    ]


def _busy(level: Level, page: str) -> float | None:
    found = level["used"]["ui_ms"].get(page)
    return None if found is None else float(found["median"])


def _tick(level: Level, name: str) -> float | None:
    seconds = level["ticks"].get(name, {}).get("seconds")
    return None if seconds is None else float(seconds["max"])


def _share(level: Level, name: str) -> float:
    used = level["used"]
    return float(used["processor_seconds"][name] / used["seconds"])


def _growth(levels: Sequence[Level]) -> str:
    cryptos = [level["cryptos"] for level in levels]
    rows = []
    for name, read in figures(levels):
        values = [read(level) for level in levels]
        known = [(count, value) for count, value in zip(cryptos, values, strict=True) if value is not None]
        grown = growth([count for count, _ in known], [value for _, value in known])
        exponent = "-" if grown.exponent is None else f"{grown.exponent:.2f}".replace("-0.00", "0.00")
        rows.append((name, *(short(value) for value in values), exponent, grown.said if known else "-"))
    return "\n\n".join(
        (
            "## What grows",
            table(("", *(str(count) for count in cryptos), "exponent", "grows"), rows),
            prose(
                "The exponent is that of the power law through all levels: 0 is flat, 1 grows with the number of "
                "cryptos. At work is during the backfill; a page's milliseconds are the sum of what it "
                "asks, one request after the other. A sensor at rest is one tick evaluated by hand. Databases "
                "and folders hold both backfills of every level, so they grow with the runs."
            ),
        )
    )


def _panels(levels: Sequence[Level]) -> list[tuple[str, str, Mapping[str, Sequence[float]]]]:
    def each(read: Callable[[Level], float | None]) -> list[float]:
        return [float("nan") if (value := read(level)) is None else float(value) for level in levels]

    sizes = levels[-1]["rest"]["sizes"]["databases"]
    return [
        (
            "Runs an hour, two at a time",
            "runs",
            {
                "of all runs": each(lambda level: level["backfill"]["runs_per_hour"]),
            },
        ),
        (
            "Processor seconds a run",
            "seconds",
            {
                name: each(
                    lambda level, name=name: level["used"]["processor_seconds"][name] / level["backfill"]["runs"]
                )
                for name in SERVERS
            },
        ),
        (
            "The UI's pages, at rest",
            "milliseconds",
            {
                page: each(lambda level, page=page: level["rest"]["pages"][page]["ms"])
                for page in levels[-1]["rest"]["pages"]
            },
        ),
        (
            "Databases",
            "MiB",
            {
                name: each(lambda level, name=name: level["rest"]["sizes"]["databases"][name]["bytes"] / _MIB)
                for name in sizes
            },
        ),
        (
            "Ticks of sensors at work, the longest",
            "seconds",
            {name: each(lambda level, name=name: _tick(level, name)) for name in levels[-1]["ticks"]},
        ),
        (
            "Memory at work",
            "MiB",
            {name: each(lambda level, name=name: level["used"]["peak_mib"].get(name)) for name in SERVERS},
        ),
    ]
