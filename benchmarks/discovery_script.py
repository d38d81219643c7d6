"""The whole discovery as a plain script of pure functions: no Dagster, no checks, no store, no registry.

Run from the repository's root: `python -m benchmarks.discovery_script CRYPTO AS_OF [KEY=VALUE …]`. Other benchmarks
import it.
"""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import pandas as pd

from cvntrade_assets.learning.from_settings import execution, fold_plans, gate_limits, recipe, slice_fractions
from cvntrade_assets.market.candles import timeframe_delta
from cvntrade_assets.operations.correlation_data import CorrelationData
from cvntrade_assets.operations.diagnosis import diagnose
from cvntrade_assets.operations.evaluate import Earlier, Occasion, evaluate
from cvntrade_assets.operations.verdict_text import one_sentence
from cvntrade_assets.settings import Settings, resolve

Say = Callable[[str], None]


@dataclass(frozen=True)
class Discovered:
    """What a discovery came to: a record per tested candidate, and the seconds of each stage."""

    records: tuple[CorrelationData[str], ...]
    seconds: dict[str, float]

    @property
    def leading(self) -> CorrelationData[str]:
        """The record that is the crypto's verdict."""
        return next(record for record in self.records if record.leading)

    @property
    def found(self) -> bool:
        """Whether a challenger would be registered."""
        return all(gate.passed for gate in self.leading.gates)


def simulated_candles(crypto: str, settings: Settings) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Coarse and fine candles of the simulated market, up to CVN_AS_OF."""
    from cvntrade_assets.market.simulated import SimulatedMarket

    market = SimulatedMarket(settings.whole("CVN_SIMULATED_SEED"), settings.number("CVN_SIMULATED_SIGNAL"))
    months = pd.DateOffset(months=settings.whole("CVN_DEFAULT_HISTORY_MONTHS"))
    days = pd.DateOffset(days=settings.whole("CVN_BACKTEST_DAYS"))
    coarse, fine = settings.text("CVN_TIMEFRAME"), settings.text("CVN_BACKTEST_TIMEFRAME")
    end = settings.as_of.floor(timeframe_delta(coarse))
    return market.candles(crypto, coarse, end - months, end), market.candles(crypto, fine, end - days, end)


def discover(crypto: str, settings: Settings, candles: pd.DataFrame, fine: pd.DataFrame, say: Say) -> Discovered:
    """Screening, walk-forward test, rolling backtest and evaluation of one crypto."""
    from cvntrade_assets.learning.features import compute_features
    from cvntrade_assets.learning.history import History
    from cvntrade_assets.learning.rolling import roll
    from cvntrade_assets.learning.screening import least_trades_of, screen
    from cvntrade_assets.learning.timeline import plan_screening, plan_steps
    from cvntrade_assets.learning.walk_forward import test_candidate

    interval, fine_interval = (
        timeframe_delta(settings.text(name)) for name in ("CVN_TIMEFRAME", "CVN_BACKTEST_TIMEFRAME")
    )
    how, trading, levels = recipe(settings), execution(settings), settings.cost_levels
    marks = [("", time.perf_counter())]
    features = compute_features(candles)
    times = pd.DatetimeIndex(features.index)
    plans = fold_plans(settings, times)
    marks.append(("features", time.perf_counter()))
    plan, test = plan_screening(plans[0]), pd.Timedelta(days=settings.whole("CVN_BACKTEST_DAYS"))
    screening = screen(
        candles,
        features,
        interval=interval,
        grid=settings.grid,
        plan=plan,
        recipe=how,
        execution=trading,
        least_trades=least_trades_of(settings.whole("CVN_GATE_TRADES"), plan.end - plan.starts[2], test),
        n_candidates=settings.whole("CVN_CANDIDATES"),
    )
    marks.append(("screening", time.perf_counter()))
    history = History.gather(
        candles,
        features,
        fine,
        cusum_threshold=settings.number("CVN_CUSUM_THRESHOLD_H"),
        interval=interval,
        fine_interval=fine_interval,
    )
    tested = [test_candidate(history, pte, plans, how, trading, levels=levels, say=say) for pte in screening.candidates]
    marks.append(("walk-forward", time.perf_counter()))
    step = pd.Timedelta(days=settings.whole("CVN_ROLLING_STEP_DAYS"))
    mode = settings.choice("CVN_WALK_FORWARD_MODE")
    steps = plan_steps(times, plans[-1], step, fractions=slice_fractions(settings), mode=mode)
    rolled = [roll(history, one, steps, how, trading, levels=levels, say=say) for one in tested]
    marks.append(("rolling", time.perf_counter()))
    occasion = Occasion(
        crypto=crypto,
        market=settings.choice("CVN_MARKET"),
        run_id="script",
        session="script",
        run_settings=settings.set_by_run,
        variants=settings.variants,
        versions={"code": "script"},
        fine_interval=fine_interval,
        seed=settings.whole("CVN_SEED"),
        complete=True,
    )
    judged = evaluate(occasion, screening, tested, rolled, Earlier(), gate_limits(settings))
    marks.append(("evaluation", time.perf_counter()))
    seconds = {name: after - before for (_, before), (name, after) in pairwise(marks)}
    return Discovered(tuple(one.record for one in judged), seconds)


def main() -> None:
    """Run once on the simulated market and print every candidate and the verdict."""
    crypto, as_of, *pairs = sys.argv[1:]
    run = {"CVN_MARKET": "simulated", "CVN_AS_OF": as_of} | dict(pair.split("=", 1) for pair in pairs)
    settings = resolve(base_env={}, run=run, now=pd.Timestamp.now("UTC"))
    result = discover(crypto, settings, *simulated_candles(crypto, settings), say=lambda _: None)
    for record in result.records:
        refused = ", ".join(f"{gate.name} {gate.value}" for gate in record.gates if not gate.passed)
        print(
            f"{'*' if record.leading else ' '} {record.pte}: f1_buy {record.f1_buy:.3f} beside "
            f"{record.baseline_f1_buy:.3f}, Sortino {record.sortino}, refused by: {refused or 'nothing'}"
        )
    print(one_sentence(result.leading, diagnose(result.leading)))
    print(", ".join(f"{name} {seconds:.1f} s" for name, seconds in result.seconds.items()))


if __name__ == "__main__":
    main()
