"""Ticks of the signals' sensor on the stack that the environment names; started by `benchmarks.golden_signals`."""

import os
import sys
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from typing import TypeVar

import dagster as dg
import pandas as pd
import sqlalchemy as sa

from benchmarks.seed_operations import seed
from cvntrade_assets.automation.golden_signals import golden_signals_watch
from cvntrade_assets.operations.observe import observe
from cvntrade_assets.settings import resolve
from resources.signal_facts import gather
from resources.signal_store import read_now, store
from resources.signal_verdicts import CRYPTO_SIGNALS
from resources.warehouse import Warehouse

T = TypeVar("T")

_STALE = "every crypto stale"
_ONE_BY_ONE = (
    "select * from evaluations where crypto = :crypto and leads order by recorded_at desc limit 1",
    "select * from model_versions where crypto = :crypto and state in ('champion', 'challenger') order by number desc",
    "select manifest from artifact_versions where asset = 'candles' and crypto = :crypto order by published_at desc",
    "select * from drift_reports where crypto = :crypto order by recorded_at desc limit 1",
)
_UPSERT = sa.text("""
    insert into signals_now (signal, subject, value, level, reason, inputs, observed_at, level_since, point_at)
    values (:signal, :subject, :value, :level, :reason, '{}', now(), now(), now())
    on conflict (signal, subject) do update set value = excluded.value, level = excluded.level,
        reason = excluded.reason, observed_at = excluded.observed_at
""")


def main() -> None:
    """Seed, tick four times, and compare."""
    cryptos, days, allowed = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    with closing(Warehouse(os.environ["CVN_WAREHOUSE_URL"])) as warehouse, dg.DagsterInstance.get() as instance:
        took, _ = _timed(lambda: seed(warehouse, instance, cryptos, days, CRYPTO_SIGNALS))
        print(f"{cryptos} cryptos, {days} days, {_rows(warehouse)} points of signals (seeded in {took:.0f} s)")
        cursor, worst = None, 0.0
        for what in ("first tick, everything new", "second tick, what did not fit", "third tick", _STALE):
            if what == _STALE:
                _let_candles_grow_old(warehouse)
            judged, result = _timed(partial(_tick, instance, warehouse, cursor))
            shown, _ = _timed(partial(_report, instance, result))
            cursor, worst = result.cursor, max(worst, judged + shown)
            events = len(result.asset_events)
            print(f"{what + ':':<42} {judged:6.2f} s, and {shown:.2f} s for the daemon to write {events} verdicts")
        print(f"the cursor that ticks hand on: {len(cursor or '') / 1024:.1f} KiB")
        met = "met" if worst <= allowed else "MISSED"
        print(f"slowest tick, both together: {worst:.2f} s; target {allowed:.0f} s: {met}")
        _compare(warehouse)


def _tick(instance: dg.DagsterInstance, warehouse: Warehouse, cursor: str | None) -> dg.SensorResult:
    context = dg.build_sensor_context(instance=instance, cursor=cursor)
    result = golden_signals_watch(context, warehouse=warehouse)
    assert isinstance(result, dg.SensorResult)
    return result


def _report(instance: dg.DagsterInstance, result: dg.SensorResult) -> None:
    for event in result.asset_events:
        instance.report_runless_asset_event(event)


def _let_candles_grow_old(warehouse: Warehouse) -> None:
    with warehouse.begin() as connection:
        connection.execute(sa.text("delete from artifact_versions where published_at > now() - interval '2.5 days'"))


def _compare(warehouse: Warehouse) -> None:
    now = pd.Timestamp.now("UTC")
    settings = resolve(base_env=warehouse.base_env(), run={}, now=now)
    gathering, facts = _timed(lambda: gather(warehouse, settings, now))
    observations = observe(facts, settings)
    reading, stored = _timed(lambda: read_now(warehouse))

    def together() -> None:
        with warehouse.begin() as connection:
            store(connection, observations)

    def one_by_one() -> None:
        for crypto in facts.cryptos:
            for query in _ONE_BY_ONE:
                with warehouse.begin() as connection:
                    connection.execute(sa.text(query), {"crypto": crypto}).all()
        for each in observations:
            row = {name: getattr(each, name) for name in ("signal", "subject", "value", "reason")}
            with warehouse.begin() as connection:
                connection.execute(_UPSERT, row | {"level": str(each.level)})

    storing, _ = _timed(together)
    alternative, _ = _timed(one_by_one)
    print(f"gathering {gathering:.2f} s, storing {storing:.2f}, reading {reading:.2f} s")
    ratio = alternative / (gathering + storing)
    print(f"one by one, {len(stored)} signals:".ljust(42), f"{alternative:6.2f} s, {ratio:.1f} times as long")


def _rows(warehouse: Warehouse) -> int:
    with warehouse.begin() as connection:
        return int(connection.scalar(sa.text("select count(*) from signal_points")) or 0)


def _timed(work: Callable[[], T]) -> tuple[float, T]:
    began = time.perf_counter()
    found = work()
    return time.perf_counter() - began, found


if __name__ == "__main__":
    main()
