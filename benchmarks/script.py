"""The whole chain as a plain script of pure functions: no Dagster, no checks, no store.

Run from the repository's root: `python -m benchmarks.script CRYPTO AS_OF [KEY=VALUE …]`. Other benchmarks import it.
"""

import sys

import pandas as pd

from cvntrade_assets.learning.from_settings import recipe, slice_fractions
from cvntrade_assets.learning.report import TestReport
from cvntrade_assets.market.candles import timeframe_delta
from cvntrade_assets.settings import Settings, resolve


def run_script(crypto: str, settings: Settings) -> TestReport:
    """From simulated candles to the test report."""
    from cvntrade_assets.learning.barriers import label_candles
    from cvntrade_assets.learning.cusum import cusum_events
    from cvntrade_assets.learning.features import compute_features
    from cvntrade_assets.learning.recipe import fit, predict
    from cvntrade_assets.learning.report import report_test_slice
    from cvntrade_assets.learning.scores import block_length
    from cvntrade_assets.learning.training_set import assemble_training_set
    from cvntrade_assets.market.simulated import SimulatedMarket
    from cvntrade_assets.market.volatility import average_true_range

    how = recipe(settings)
    interval = timeframe_delta(settings.text("CVN_TIMEFRAME"))
    end = settings.as_of.floor(interval)
    start = end - pd.DateOffset(months=settings.whole("CVN_DEFAULT_HISTORY_MONTHS"))
    market = SimulatedMarket(settings.whole("CVN_SIMULATED_SEED"), settings.number("CVN_SIMULATED_SIGNAL"))
    candles = market.candles(crypto, settings.text("CVN_TIMEFRAME"), start, end)
    rows = assemble_training_set(
        compute_features(candles),
        label_candles(candles, settings.pte, interval=interval, binary=how.binary),
        cusum_events(candles, average_true_range(candles), how.cusum_threshold),
        how.cusum_mode,
        slice_fractions(settings),
        how.embargo,
        how.uniqueness_weights,
    )
    fitted, test = fit(how, rows, say=lambda _: None), rows.slice("test")
    said = predict(fitted, test.features)
    return report_test_slice(
        test.targets,
        said["score"],
        said["probability"],
        fitted.calibration.threshold,
        block=block_length(settings.pte.horizon, interval),
        seed=how.seed,
    )


def main() -> None:
    """Run once and print the report's headline."""
    crypto, as_of, *pairs = sys.argv[1:]
    run = {"CVN_MARKET": "simulated", "CVN_AS_OF": as_of} | dict(pair.split("=", 1) for pair in pairs)
    report = run_script(crypto, resolve(base_env={}, run=run, now=pd.Timestamp.now("UTC")))
    print(f"{crypto}: f1_buy {report.f1_buy:.3f}, always-BUY {report.baseline_f1_buy:.3f}")


if __name__ == "__main__":
    main()
