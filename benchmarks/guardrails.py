"""What guardrails cost: counting and judging a crypto without a run, and their share of a whole run.

The alternative to counting is building the training set, as the design of old did ("about 20 seconds" a crypto).

Run from the repository's root: `python -m benchmarks.guardrails [crypto]`. Everything happens on the simulated market,
in fresh processes and folders.
"""

import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import TypeVar

import pandas as pd
import psycopg2

from benchmarks.chain import AS_OF, CRYPTO, compile_kernels, fresh_environment, timed
from cvntrade_assets.learning.from_settings import cusum_mode, embargo, slice_fractions
from cvntrade_assets.market.candles import timeframe_delta
from cvntrade_assets.operations.guardrails import PREFLIGHT, Evaluation, Verdict
from cvntrade_assets.operations.preflight import preflight, sized
from cvntrade_assets.operations.rollout import RolloutStanding
from cvntrade_assets.settings import Settings, resolve

T = TypeVar("T")

COUNTED_IN = 1.0
SHARE = 0.01
_NO_ROLLOUT = RolloutStanding(False, "", True, "no factor of this run needs a staged rollout")
_REPEATS = 7
# One step evaluates preflight; what is judged inside other steps writes down how long that took.
_STEP = "training_set_preflight"


def main() -> None:
    """Print seconds a crypto, the ratio against building the training set, and the share of a run."""
    crypto = sys.argv[1] if len(sys.argv) > 1 else CRYPTO
    compile_kernels(crypto)
    _print_counting(crypto)
    _print_share(crypto)


def _print_counting(crypto: str) -> None:
    from cvntrade_assets.market.simulated import SimulatedMarket

    now = pd.Timestamp(AS_OF, tz="UTC")
    settings = resolve(base_env={}, run={"CVN_MARKET": "simulated"}, now=now)
    months = pd.DateOffset(months=settings.whole("CVN_DEFAULT_HISTORY_MONTHS"))
    candles = SimulatedMarket(0, 0.3).candles(crypto, "30m", now - months, now)
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "table.parquet"
        candles.to_parquet(table)
        first, found = _seconds(lambda: _judge(pd.read_parquet(table), settings))
        runs = [_seconds(lambda: _judge(pd.read_parquet(table), settings))[0] for _ in range(_REPEATS)]
        built = [_seconds(lambda: _build(pd.read_parquet(table), settings))[0] for _ in range(3)]
    assert {each.verdict for each in found} == {Verdict.PASSED}, found
    counting, building = min(runs), min(built)
    met = "met" if first <= COUNTED_IN else "MISSED"
    print(f"{len(candles):,} candles: read, counted, estimated and judged in {counting * 1000:.0f} ms")
    print(f"the first in a process, which loads the kernels: {first:.2f} s; target {COUNTED_IN:g} s: {met}")
    print(f"building the training set instead: {building:.2f} s, {building / counting:.0f} times as long")


def _judge(candles: pd.DataFrame, settings: Settings) -> list[Evaluation]:
    from cvntrade_assets.learning.features import FEATURE_NAMES
    from cvntrade_assets.learning.training_rows import count_training_rows

    size = sized(len(candles), count_training_rows(candles, settings)["train"], len(FEATURE_NAMES), settings)
    return preflight(size, settings, used_keys=("CVN_*",), rollout=_NO_ROLLOUT)


def _build(candles: pd.DataFrame, settings: Settings) -> int:
    from cvntrade_assets.learning.barriers import label_candles
    from cvntrade_assets.learning.cusum import cusum_events
    from cvntrade_assets.learning.features import compute_features
    from cvntrade_assets.learning.training_set import assemble_training_set
    from cvntrade_assets.market.volatility import average_true_range

    interval = timeframe_delta(settings.text("CVN_TIMEFRAME"))
    whole = assemble_training_set(
        compute_features(candles),
        label_candles(candles, settings.pte, interval=interval, binary=True),
        cusum_events(candles, average_true_range(candles), settings.number("CVN_CUSUM_THRESHOLD_H")),
        cusum_mode(settings),
        slice_fractions(settings),
        embargo(settings),
        uniqueness_weights=True,
    )
    return len(whole.slice("train").targets)


def _print_share(crypto: str) -> None:
    with tempfile.TemporaryDirectory() as folder, fresh_environment(Path(folder)) as environment:
        timed([sys.executable, "-m", "benchmarks.through_dagster", crypto, AS_OF], environment)
        [[run]] = _rows(environment, "dagster", "select end_time - start_time from runs")
        [[step]] = _rows(
            environment,
            "dagster",
            "select extract(epoch from max(timestamp) - min(timestamp)) from event_logs where step_key = %s "
            "and dagster_event_type in ('STEP_START', 'STEP_SUCCESS')",
            _STEP,
        )
        [[elsewhere]] = _rows(
            environment,
            "cvntrade",
            "select coalesce(sum(seconds), 0) from guardrail_evaluations where not guardrail = any(%s)",
            ["settings_valid", *PREFLIGHT],
        )
    spent = float(step) + float(elsewhere)
    met = "met" if spent <= SHARE * run else "MISSED"
    print(f"a whole run takes {run:.1f} s; its preflight step, Dagster's own work included, {float(step):.3f} s,")
    print(
        f"guardrails in other steps {float(elsewhere):.3f} s: {spent / run:.2%} of the run; target {SHARE:.0%}: {met}"
    )


def _rows(environment: Mapping[str, str], database: str, query: str, *values: object) -> list[tuple[float, ...]]:
    names = ("host", "port", "user", "password")
    address = {name: environment[f"CVN_PG_{name.upper()}"] for name in names}
    with closing(psycopg2.connect(dbname=database, **address)) as connection, connection.cursor() as cursor:
        cursor.execute(query, values)
        return cursor.fetchall()


def _seconds(work: Callable[[], T]) -> tuple[float, T]:
    began = time.perf_counter()
    result = work()
    return time.perf_counter() - began, result


if __name__ == "__main__":
    main()
