"""The features of a candle: scale-free, causal indicators, declared in one table.

``FAMILIES`` is that table: which indicator of ``indicators.py``, under which names, over which windows. Names
are as the field writes them (those of pandas-ta), but every price level is its distance from the close as a
share of the close, and every volume is relative to its own recent level: multiplying all prices by one number
and all volumes by another changes nothing.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import talib

from cvntrade_assets.learning import indicators as ind

# Rows dropped at the start. Averages with a memory (EMA, Wilder) have then forgotten where they started: a
# value from this much history agrees with one from any longer history within 0.1 % of the feature's standard
# deviation.
WARM_UP = 500

_COLUMNS = ("open", "high", "low", "close", "volume")


class UnusableCandlesError(ValueError):
    """The candles cannot give features: a column is missing, a value impossible, or rows too few."""


@dataclass(frozen=True)
class Family:
    """Indicators that one function computes, once per entry of ``windows``.

    ``names`` are templates, one per array the function returns, filled with the entry's numbers in order.
    """

    names: tuple[str, ...]
    compute: ind.Indicator
    windows: tuple[tuple[int | float, ...], ...]

    def columns(self) -> list[str]:
        """Names of every feature of the family, in the order they are computed."""
        return [name.format(*window) for window in self.windows for name in self.names]


def _each(*windows: int) -> tuple[tuple[int], ...]:
    return tuple((window,) for window in windows)


FAMILIES: tuple[Family, ...] = (
    # averages: distance from the close
    Family(("SMA_{}",), ind.level_of(talib.SMA), _each(10, 20, 50, 100, 200)),
    Family(("EMA_{}",), ind.level_of(talib.EMA), _each(9, 21, 50, 100)),
    Family(("WMA_{}",), ind.level_of(talib.WMA), _each(20)),
    Family(("DEMA_{}",), ind.level_of(talib.DEMA), _each(20)),
    Family(("TEMA_{}",), ind.level_of(talib.TEMA), _each(20)),
    Family(("T3_{}",), ind.level_of(talib.T3), _each(10)),
    Family(("KAMA_{}",), ind.level_of(talib.KAMA), _each(10, 30)),
    Family(("VWAP_{}",), ind.vwap, _each(20, 48, 96)),
    Family(("MIDPRICE_{}",), ind.midprice, _each(9, 26, 52)),
    Family(("LINREG_{}", "LINREGSLOPE_{}"), ind.linear_regression, _each(10, 20, 50)),
    # momentum
    Family(("RSI_{}",), ind.rsi, _each(7, 14, 21, 50)),
    Family(("CMO_{}",), ind.chande_momentum, _each(10, 20, 50)),
    Family(("ROC_{}",), ind.rate_of_change, _each(3, 5, 10, 20, 50, 100)),
    Family(("LOGRET_LAG{}",), ind.lagged_return, _each(0, 1, 2, 3, 4, 5)),
    Family(("WILLR_{}",), ind.williams_r, _each(14, 28)),
    Family(("CCI_{}",), ind.commodity_channel, _each(14, 20)),
    Family(("STOCHk_{}_{}_{}", "STOCHd_{}_{}_{}"), ind.stochastic, ((5, 3, 3), (14, 3, 3), (21, 7, 7))),
    Family(("STOCHRSIk_{}_{}_{}_{}", "STOCHRSId_{}_{}_{}_{}"), ind.stochastic_rsi, ((14, 14, 3, 3),)),
    Family(("MACD_{}_{}_{}", "MACDh_{}_{}_{}", "MACDs_{}_{}_{}"), ind.macd, ((12, 26, 9), (24, 52, 18))),
    Family(("TRIX_{}",), ind.trix, _each(9, 15, 30)),
    Family(("AROOND_{}", "AROONU_{}", "AROONOSC_{}"), ind.aroon, _each(14, 25)),
    Family(("ADX_{}", "DMP_{}", "DMN_{}"), ind.directional_movement, _each(7, 14, 28)),
    Family(("VTXP_{}", "VTXM_{}"), ind.vortex, _each(14)),
    Family(("UO_{}_{}_{}",), ind.ultimate_oscillator, ((7, 14, 28),)),
    Family(("TSI_{}_{}",), ind.true_strength, ((25, 13),)),
    Family(("UPSHARE_{}",), ind.up_share, _each(10, 20)),
    # bands
    Family(("BBL_{}_{}", "BBU_{}_{}", "BBB_{}_{}", "BBP_{}_{}"), ind.bollinger, ((10, 2.0), (20, 2.0), (50, 2.0))),
    Family(("KCL_{}_{}", "KCU_{}_{}", "KCP_{}_{}"), ind.keltner, ((20, 2.0),)),
    Family(("DCL_{}", "DCU_{}", "DCP_{}"), ind.donchian, _each(20, 55, 100)),
    # volatility
    Family(("NATR_{}",), ind.normalised_atr, _each(7, 14, 28)),
    Family(("TRUERANGE_{}",), ind.true_range_share, _each(1, 20)),
    Family(("RVOL_{}",), ind.realised_volatility, _each(5, 10, 20, 50, 100)),
    Family(("PARKINSON_{}",), ind.parkinson, _each(10, 20, 50)),
    Family(("GARMANKLASS_{}",), ind.garman_klass, _each(20, 50)),
    Family(("ROGERSSATCHELL_{}",), ind.rogers_satchell, _each(20)),
    Family(("VOLARATIO_{}_{}",), ind.volatility_ratio, ((5, 20), (10, 50), (20, 100))),
    Family(("RANGERATIO_{}",), ind.relative_range, _each(20)),
    Family(("DOWNSHARE_{}",), ind.downside_share, _each(20, 50)),
    Family(("SKEW_{}", "KURT_{}"), ind.realised_moments, _each(20, 50, 100)),
    Family(("AUTOCORR_{}",), ind.autocorrelation, _each(20, 50)),
    Family(("CHOP_{}",), ind.choppiness, _each(14, 50)),
    # candle shape
    Family(("BODY", "WICKU", "WICKL", "CLV"), ind.candle_shape, ((),)),
    Family(("BOP_{}",), ind.balance_of_power, _each(5, 14)),
    # volume
    Family(("VOLUMERATIO_{}_{}",), ind.volume_ratio, ((1, 10), (1, 20), (1, 50), (1, 100), (5, 50))),
    Family(("PVO_{}_{}_{}", "PVOh_{}_{}_{}", "PVOs_{}_{}_{}"), ind.volume_oscillator, ((12, 26, 9),)),
    Family(("OBV_{}",), ind.balance_of_volume, _each(10, 20, 50, 100)),
    Family(("CMF_{}",), ind.chaikin_money_flow, _each(20, 50)),
    Family(("MFI_{}",), ind.money_flow, _each(14, 28, 50)),
    Family(("EFI_{}",), ind.force, _each(13, 50)),
    Family(("VOLUMECV_{}",), ind.volume_variation, _each(20, 50)),
    Family(("VOLUMECORR_{}",), ind.volume_correlation, _each(20, 50)),
    # clock
    Family(("HOUR_SIN", "HOUR_COS", "WEEK_SIN", "WEEK_COS"), ind.clock, ((),)),
)

FEATURE_NAMES: tuple[str, ...] = tuple(name for family in FAMILIES for name in family.columns())


def compute_features(candles: pd.DataFrame) -> pd.DataFrame:
    """Compute every feature of every candle that has enough history.

    The value at candle t uses candles up to and including t, so it is known at t's close. Only open, high,
    low, close and volume are read, and the open time for the clock. Candles are taken as neighbours in the
    order they stand: after a gap, the candle before it is the previous one.

    Args:
        candles: Candle frame, index ``open_time`` strictly increasing, gaps as absent rows.

    Returns:
        float32 frame, columns ``FEATURE_NAMES`` in that order, index that of ``candles`` without its first
        ``WARM_UP`` rows. Every value is finite.

    Raises:
        UnusableCandlesError: If a column is missing, times are not increasing, there are not more than
            ``WARM_UP`` rows, a price is not positive and finite, or a volume is negative or not finite.
    """
    _refuse_unusable(candles)
    bars = ind.Bars.of(candles)
    values = np.empty((len(FEATURE_NAMES), len(candles) - WARM_UP), dtype=np.float32)
    row = 0
    for family in FAMILIES:
        for window in family.windows:
            for output in family.compute(bars, *window):
                values[row] = output[WARM_UP:]
                row += 1
    return pd.DataFrame(values.T, index=candles.index[WARM_UP:], columns=list(FEATURE_NAMES), copy=False)


def _refuse_unusable(candles: pd.DataFrame) -> None:
    missing = [name for name in _COLUMNS if name not in candles.columns]
    if missing:
        raise UnusableCandlesError(f"candles lack the column(s) {missing}; features need {list(_COLUMNS)}")
    if len(candles) <= WARM_UP:
        raise UnusableCandlesError(
            f"{len(candles)} candles are too few: the first {WARM_UP} only warm the indicators up; "
            "load a longer history"
        )
    if not (candles.index.is_monotonic_increasing and candles.index.is_unique):
        raise UnusableCandlesError("candle open times are not strictly increasing; sort them and drop repeats")
    _refuse_impossible(candles)


def _refuse_impossible(candles: pd.DataFrame) -> None:
    prices, volume = candles[list(_COLUMNS[:-1])].to_numpy(), candles["volume"].to_numpy()
    possible = (np.isfinite(prices) & (prices > 0)).all(axis=1) & np.isfinite(volume) & (volume >= 0)
    if not possible.all():
        wrong = candles.index[~possible]
        raise UnusableCandlesError(
            f"{len(wrong)} candle(s) hold a price that is not positive and finite, or a volume that is "
            f"negative or not finite; the first is at {wrong[0]}; the candles check names what to rebuild"
        )
