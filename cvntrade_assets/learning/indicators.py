"""Formulas of the technical indicators, as functions of one candle series.

Every function takes a :class:`Bars` and a window (or several), and returns arrays as long as the series whose
value at t uses candles up to and including t. The names and windows that the pipeline uses are the table in
``features.py``.

Two rules make the values safe to train on:

* **Scale-free.** Prices are divided by the first close before anything else, because TA-Lib compares sums and
  variances with an absolute epsilon (1e-14) that a coin priced at 0.00002 would fall under. Results are then
  relative to the close, a range or a rolling level.
* **Finite.** A ratio whose denominator is zero has a neutral value, stated where it is computed: the one that
  says "nothing happened" (50 for an oscillator from 0 to 100, 0 for a signed one, 1 for a ratio of levels).

TA-Lib is used wherever it has the indicator and its value is defined on every candle. Sums over a window use
:func:`rolling_sum` instead of TA-Lib's running sums: adding and subtracting leaves a residue after a volatile
stretch, and on a flat one the ratio of two residues is noise.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
import talib
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
Outputs = tuple[FloatArray, ...]
Indicator = Callable[..., Outputs]

# Two numbers closer than this share of the price are equal: about ten thousand times the rounding error of a
# price, a hundredth of the finest tick of any listed pair.
TIE = 1e-9

# A band narrower than this share of the price is closed: its width comes from a difference of squares, which
# rounding leaves at up to 1e-8 of the price on a flat window.
CLOSED_BAND = 1e-6

# An exponential average below this has seen nothing but zeros for thousands of candles.
FORGOTTEN = 1e-100


@dataclass(frozen=True)
class Bars:
    """A candle series as arrays of one length; prices in units of the first close."""

    times: pd.DatetimeIndex
    open: FloatArray
    high: FloatArray
    low: FloatArray
    close: FloatArray
    volume: FloatArray

    @classmethod
    def of(cls, candles: pd.DataFrame) -> "Bars":
        """Read a candle frame (index ``open_time``) whose prices are positive and volumes not negative."""
        prices = {name: candles[name].to_numpy(np.float64) for name in ("open", "high", "low", "close")}
        unit = prices["close"][0]
        volume = candles["volume"].to_numpy(np.float64)
        times = pd.DatetimeIndex(candles.index)
        return cls(times, **{name: price / unit for name, price in prices.items()}, volume=volume)

    @cached_property
    def change(self) -> FloatArray:
        """Close minus the previous close; 0 at the first candle."""
        return np.diff(self.close, prepend=self.close[0])

    @cached_property
    def log_return(self) -> FloatArray:
        """Logarithm of close over previous close; 0 at the first candle."""
        return np.log1p(self.change / (self.close - self.change))

    @cached_property
    def typical(self) -> FloatArray:
        """Mean of high, low and close."""
        return (self.high + self.low + self.close) / 3.0

    @cached_property
    def height(self) -> FloatArray:
        """High minus low."""
        return self.high - self.low

    @cached_property
    def true_range(self) -> FloatArray:
        """Wilder's true range; high minus low at the first candle."""
        before = previous(self.close)
        return np.maximum(self.high, before) - np.minimum(self.low, before)


def previous(values: FloatArray, steps: int = 1) -> FloatArray:
    """Return the values shifted ``steps`` candles later; the first value stands in for what is unknown."""
    return np.concatenate((np.full(steps, values[0]), values[:-steps]))[: len(values)]


def rolling_sum(values: FloatArray, window: int) -> FloatArray:
    """Sum of the last ``window`` values, NaN before there are that many.

    Windows of 1, 2, 4, … values are built by adding two neighbours of half the size, and the wanted one from
    them by its binary digits: a value that left the window leaves no residue, and zeros sum to exactly zero.
    """
    result = np.full(len(values), np.nan)
    if window > len(values):
        return result
    total: FloatArray | None = None
    block, size, covered = values, 1, 0
    while True:
        if window & size:
            # block[i] is the sum of values[i : i + size]; line it up behind the part already covered.
            part = block[covered : covered + len(values) - window + 1]
            total = part.copy() if total is None else total + part
            covered += size
        if covered == window:
            break
        block = block[size:] + block[:-size]
        size *= 2
    result[window - 1 :] = total
    return result


def rolling_mean(values: FloatArray, window: int) -> FloatArray:
    """Mean of the last ``window`` values, NaN before there are that many."""
    return rolling_sum(values, window) / window


def ratio(
    numerator: FloatArray, denominator: FloatArray, neutral: float, floor: float | FloatArray = 0.0
) -> FloatArray:
    """Divide; where the denominator is not above ``floor`` the value is ``neutral``. NaN stays NaN."""
    result = np.full(len(denominator), neutral)
    np.divide(numerator, denominator, out=result, where=~(denominator <= floor))
    return result


def relative(level: FloatArray, bars: Bars) -> FloatArray:
    """Distance from the close to a price level, as a share of the close."""
    return level / bars.close - 1.0


def wilder(values: FloatArray, window: int) -> FloatArray:
    """Wilder's moving average (weight 1/window on the newest value), which is an EMA over 2·window − 1."""
    smoothed: FloatArray = talib.EMA(values, 2 * window - 1)
    return smoothed


def channel_position(values: FloatArray, low: FloatArray, high: FloatArray, window: int, tie: float) -> FloatArray:
    """Place of a value between a window's lowest low and highest high, 0 to 1; 0.5 if they are equal."""
    bottom = talib.MIN(low, window)
    return ratio(values - bottom, talib.MAX(high, window) - bottom, 0.5, tie)


def price_position(bars: Bars, window: int) -> FloatArray:
    """Place of the close in the range of the last ``window`` candles, 0 to 1; 0.5 in a flat one."""
    return channel_position(bars.close, bars.low, bars.high, window, TIE)


# ---- averages ---------------------------------------------------------------------------------------------


def level_of(average: Callable[[FloatArray, int], FloatArray]) -> Indicator:
    """Turn a TA-Lib average of the close into an indicator: its distance from the close."""

    def indicator(bars: Bars, window: int) -> Outputs:
        return (relative(average(bars.close, window), bars),)

    return indicator


def vwap(bars: Bars, window: int) -> Outputs:
    """Distance to the volume-weighted average typical price; 0 when nothing was traded."""
    turnover = rolling_sum(bars.typical * bars.volume, window)
    traded = rolling_sum(bars.volume, window) * bars.close
    return (ratio(turnover, traded, 1.0) - 1.0,)


def midprice(bars: Bars, window: int) -> Outputs:
    """Distance to the middle of the window's range (the lines of the Ichimoku cloud)."""
    return (relative(talib.MIDPRICE(bars.high, bars.low, window), bars),)


def linear_regression(bars: Bars, window: int) -> Outputs:
    """Distance to the end of the least-squares line, and its slope per candle as a share of the close."""
    return (
        relative(talib.LINEARREG(bars.close, window), bars),
        talib.LINEARREG_SLOPE(bars.close, window) / bars.close,
    )


# ---- momentum ---------------------------------------------------------------------------------------------


def rsi(bars: Bars, window: int) -> Outputs:
    """Wilder's relative strength index; 50 when the price never moved.

    TA-Lib's CMO is the same index on another scale (2·RSI − 100), but says 0 (the middle) where its RSI says
    0 (the bottom) on a price that never moved.
    """
    return (50.0 + talib.CMO(bars.close, window) / 2.0,)


def chande_momentum(bars: Bars, window: int) -> Outputs:
    """Chande's momentum oscillator over plain sums: net move over path length, −100 to 100; 0 when flat."""
    path = rolling_sum(np.abs(bars.change), window)
    return (100.0 * ratio(rolling_sum(bars.change, window), path, 0.0, TIE),)


def rate_of_change(bars: Bars, window: int) -> Outputs:
    """Percent change of the close over ``window`` candles."""
    return (talib.ROC(bars.close, window),)


def lagged_return(bars: Bars, lag: int) -> Outputs:
    """Log return of one candle, ``lag`` candles ago."""
    return (previous(bars.log_return, lag) if lag else bars.log_return,)


def williams_r(bars: Bars, window: int) -> Outputs:
    """Williams %R, −100 to 0; −50 in a flat window."""
    return (100.0 * (price_position(bars, window) - 1.0),)


def commodity_channel(bars: Bars, window: int) -> Outputs:
    """Commodity channel index of the typical price; 0 in a flat window."""
    spread = talib.MAX(bars.typical, window) - talib.MIN(bars.typical, window)
    index = talib.CCI(bars.high, bars.low, bars.close, window)
    return (np.where(spread <= TIE * bars.close, 0.0, index),)


def stochastic(bars: Bars, window: int, smooth: int, signal: int) -> Outputs:
    """Slow stochastic %K and %D, 0 to 100; a flat window counts as 50."""
    slow = talib.SMA(100.0 * price_position(bars, window), smooth)
    return slow, talib.SMA(slow, signal)


def stochastic_rsi(bars: Bars, window: int, strength: int, smooth: int, signal: int) -> Outputs:
    """Place of the RSI in its own recent range, smoothed twice, 0 to 100; an unchanging RSI counts as 50."""
    (index,) = rsi(bars, strength)
    slow = talib.SMA(100.0 * channel_position(index, index, index, window, 1e-6), smooth)
    return slow, talib.SMA(slow, signal)


def macd(bars: Bars, fast: int, slow: int, signal: int) -> Outputs:
    """MACD line, histogram and signal line, as shares of the close."""
    line, signal_line, histogram = talib.MACD(bars.close, fast, slow, signal)
    return line / bars.close, histogram / bars.close, signal_line / bars.close


def trix(bars: Bars, window: int) -> Outputs:
    """Percent change of a triple exponential average."""
    return (talib.TRIX(bars.close, window),)


def aroon(bars: Bars, window: int) -> Outputs:
    """Candles since the lowest low and the highest high, as percentages, and their difference."""
    down, up = talib.AROON(bars.high, bars.low, window)
    return down, up, up - down


def directional_movement(bars: Bars, window: int) -> Outputs:
    """Wilder's ADX, +DI and −DI, 0 to 100; 0 in a market without range.

    Not TA-Lib's own: when the upward and the downward move tie, which is frequent on a coarse tick, it lets
    the rounding of the two differences decide, so the same candles in another unit give another value.
    """
    up = bars.high - previous(bars.high)
    down = previous(bars.low) - bars.low
    tie = np.abs(up - down) <= TIE * bars.close
    spread = wilder(bars.true_range, window)
    plus = ratio(wilder(np.where((up > down) & (up > 0) & ~tie, up, 0.0), window), spread, 0.0, FORGOTTEN)
    minus = ratio(wilder(np.where((down > up) & (down > 0) & ~tie, down, 0.0), window), spread, 0.0, FORGOTTEN)
    index = wilder(ratio(np.abs(plus - minus), plus + minus, 0.0, FORGOTTEN), window)
    return 100.0 * index, 100.0 * plus, 100.0 * minus


def vortex(bars: Bars, window: int) -> Outputs:
    """Vortex indicator, upward and downward; 1 each in a market without range."""
    path = rolling_sum(bars.true_range, window)
    upward = rolling_sum(np.abs(bars.high - previous(bars.low)), window)
    downward = rolling_sum(np.abs(bars.low - previous(bars.high)), window)
    return ratio(upward, path, 1.0, TIE), ratio(downward, path, 1.0, TIE)


def ultimate_oscillator(bars: Bars, short: int, middle: int, long: int) -> Outputs:
    """Williams' ultimate oscillator, 0 to 100; a window without range counts as 50."""
    pressure = bars.close - np.minimum(bars.low, previous(bars.close))
    parts = [
        weight * ratio(rolling_sum(pressure, window), rolling_sum(bars.true_range, window), 0.5, TIE)
        for weight, window in ((4.0, short), (2.0, middle), (1.0, long))
    ]
    return (100.0 / 7.0 * (parts[0] + parts[1] + parts[2]),)


def true_strength(bars: Bars, slow: int, fast: int) -> Outputs:
    """Blau's true strength index, −100 to 100; 0 when the price never moved."""
    move = talib.EMA(talib.EMA(bars.change, slow), fast)
    path = talib.EMA(talib.EMA(np.abs(bars.change), slow), fast)
    return (100.0 * ratio(move, path, 0.0, FORGOTTEN),)


def up_share(bars: Bars, window: int) -> Outputs:
    """Share of rising closes in the window; an unchanged close counts as half."""
    return (rolling_mean(0.5 + 0.5 * np.sign(bars.change), window),)


# ---- bands ------------------------------------------------------------------------------------------------


def bollinger(bars: Bars, window: int, width: float) -> Outputs:
    """Bollinger bands: lower, upper (distances), bandwidth in percent, and position (0.5 when closed)."""
    middle = rolling_mean(bars.close, window)
    variance = rolling_mean(bars.close**2, window) - middle**2
    half = width * np.sqrt(np.maximum(variance, 0.0))
    position = ratio(bars.close - middle + half, 2.0 * half, 0.5, CLOSED_BAND * bars.close)
    return relative(middle - half, bars), relative(middle + half, bars), 200.0 * half / middle, position


def keltner(bars: Bars, window: int, width: float) -> Outputs:
    """Keltner channel: lower, upper (distances), and position (0.5 when closed)."""
    middle = talib.EMA(bars.close, window)
    half = width * wilder(bars.true_range, window)
    position = ratio(bars.close - middle + half, 2.0 * half, 0.5, CLOSED_BAND * bars.close)
    return relative(middle - half, bars), relative(middle + half, bars), position


def donchian(bars: Bars, window: int) -> Outputs:
    """Donchian channel: lower, upper (distances), and position (0.5 in a flat window)."""
    lower, upper = talib.MIN(bars.low, window), talib.MAX(bars.high, window)
    return relative(lower, bars), relative(upper, bars), price_position(bars, window)


# ---- volatility -------------------------------------------------------------------------------------------


def normalised_atr(bars: Bars, window: int) -> Outputs:
    """Average true range in percent of the close."""
    return (talib.NATR(bars.high, bars.low, bars.close, window),)


def realised_volatility(bars: Bars, window: int) -> Outputs:
    """Root of the mean squared log return."""
    return (np.sqrt(rolling_mean(bars.log_return**2, window)),)


def parkinson(bars: Bars, window: int) -> Outputs:
    """Parkinson's (1980) volatility from highs and lows."""
    return (np.sqrt(rolling_mean(np.log(bars.high / bars.low) ** 2, window) / (4.0 * np.log(2.0))),)


def garman_klass(bars: Bars, window: int) -> Outputs:
    """Garman and Klass's (1980) volatility; 0 where its estimate of the variance is negative."""
    candle = 0.5 * np.log(bars.high / bars.low) ** 2
    candle -= (2.0 * np.log(2.0) - 1.0) * np.log(bars.close / bars.open) ** 2
    return (np.sqrt(np.maximum(rolling_mean(candle, window), 0.0)),)


def rogers_satchell(bars: Bars, window: int) -> Outputs:
    """Rogers and Satchell's (1991) volatility, which a drift does not bias."""
    upper = np.log(bars.high / bars.close) * np.log(bars.high / bars.open)
    lower = np.log(bars.low / bars.close) * np.log(bars.low / bars.open)
    return (np.sqrt(np.maximum(rolling_mean(upper + lower, window), 0.0)),)


def volatility_ratio(bars: Bars, short: int, long: int) -> Outputs:
    """Short over long realised volatility; 1 when the price never moved."""
    (near,), (far,) = realised_volatility(bars, short), realised_volatility(bars, long)
    return (ratio(near, far, 1.0, TIE),)


def relative_range(bars: Bars, window: int) -> Outputs:
    """True range over its own mean; 1 in a market without range."""
    return (ratio(bars.true_range, rolling_mean(bars.true_range, window), 1.0, TIE),)


def true_range_share(bars: Bars, window: int) -> Outputs:
    """Largest true range of the window, as a share of the close."""
    widest = talib.MAX(bars.true_range, window) if window > 1 else bars.true_range
    return (widest / bars.close,)


def downside_share(bars: Bars, window: int) -> Outputs:
    """Share of the squared log returns that came from falls; 0.5 when the price never moved."""
    falls = rolling_sum(np.minimum(bars.log_return, 0.0) ** 2, window)
    return (ratio(falls, rolling_sum(bars.log_return**2, window), 0.5, TIE**2),)


def realised_moments(bars: Bars, window: int) -> Outputs:
    """Realised skewness and kurtosis of log returns (Amaya et al. 2015); 0 and 3 for a still price."""
    square = bars.log_return**2
    squares = rolling_sum(square, window)
    cubes = np.sqrt(window) * rolling_sum(square * bars.log_return, window)
    fourths = window * rolling_sum(square**2, window)
    return ratio(cubes, squares * np.sqrt(squares), 0.0, TIE**3), ratio(fourths, squares**2, 3.0, TIE**4)


def autocorrelation(bars: Bars, window: int) -> Outputs:
    """Sum of products of neighbouring log returns over the sum of squares; 0 when the price never moved."""
    products = rolling_sum(bars.log_return * previous(bars.log_return), window)
    return (ratio(products, rolling_sum(bars.log_return**2, window + 1), 0.0, TIE**2),)


def choppiness(bars: Bars, window: int) -> Outputs:
    """Choppiness index, 100 for a market that travels without getting anywhere (and for a flat one)."""
    path = rolling_sum(bars.true_range, window)
    span = talib.MAX(bars.high, window) - talib.MIN(bars.low, window)
    return (100.0 * np.log(ratio(path, span, float(window), TIE)) / np.log(window),)


# ---- candle shape -----------------------------------------------------------------------------------------


def candle_shape(bars: Bars) -> Outputs:
    """Signed body, upper wick, lower wick and place of the close, as shares of the range; 0 without range."""
    top, bottom = np.maximum(bars.open, bars.close), np.minimum(bars.open, bars.close)
    parts = (
        bars.close - bars.open,
        bars.high - top,
        bottom - bars.low,
        2.0 * bars.close - bars.high - bars.low,
    )
    return tuple(ratio(part, bars.height, 0.0, TIE) for part in parts)


def balance_of_power(bars: Bars, window: int) -> Outputs:
    """Mean of the signed body's share of the range; a candle without range counts as 0."""
    return (rolling_mean(ratio(bars.close - bars.open, bars.height, 0.0, TIE), window),)


# ---- volume -----------------------------------------------------------------------------------------------


def volume_ratio(bars: Bars, short: int, long: int) -> Outputs:
    """Mean volume of a short window over that of a long one; 1 when nothing was traded."""
    return (ratio(rolling_mean(bars.volume, short), rolling_mean(bars.volume, long), 1.0),)


def volume_oscillator(bars: Bars, fast: int, slow: int, signal: int) -> Outputs:
    """Percentage volume oscillator, its histogram and its signal line; 0 when nothing was ever traded."""
    near, far = talib.EMA(bars.volume, fast), talib.EMA(bars.volume, slow)
    line = 100.0 * (ratio(near, far, 1.0, FORGOTTEN) - 1.0)
    signal_line = talib.EMA(line, signal)
    return line, line - signal_line, signal_line


def balance_of_volume(bars: Bars, window: int) -> Outputs:
    """Change of the on-balance volume over the window as a share of what was traded; 0 when nothing was."""
    signed = rolling_sum(np.sign(bars.change) * bars.volume, window)
    return (ratio(signed, rolling_sum(bars.volume, window), 0.0),)


def chaikin_money_flow(bars: Bars, window: int) -> Outputs:
    """Chaikin money flow, −1 to 1; 0 when nothing was traded."""
    place = ratio(2.0 * bars.close - bars.high - bars.low, bars.height, 0.0, TIE)
    return (ratio(rolling_sum(place * bars.volume, window), rolling_sum(bars.volume, window), 0.0),)


def money_flow(bars: Bars, window: int) -> Outputs:
    """Money flow index, 0 to 100; 50 when nothing flowed.

    Not TA-Lib's own, which says 0 whenever the window's turnover is below 1.0 in whatever unit it came.
    """
    move = bars.typical - previous(bars.typical)
    flow = bars.typical * bars.volume
    still = np.abs(move) <= TIE * bars.typical
    rising = rolling_sum(np.where((move > 0) & ~still, flow, 0.0), window)
    return (100.0 * ratio(rising, rolling_sum(np.where(still, 0.0, flow), window), 0.5),)


def force(bars: Bars, window: int) -> Outputs:
    """Elder's force index as a volume-weighted exponential average return; 0 when nothing was ever traded."""
    pushed, traded = talib.EMA(bars.log_return * bars.volume, window), talib.EMA(bars.volume, window)
    return (ratio(pushed, traded, 0.0, FORGOTTEN),)


def volume_variation(bars: Bars, window: int) -> Outputs:
    """Coefficient of variation of the volume; 0 when nothing was traded."""
    squares = window * rolling_sum(bars.volume**2, window)
    share = ratio(squares, rolling_sum(bars.volume, window) ** 2, 1.0)
    return (np.sqrt(np.maximum(share - 1.0, 0.0)),)


def volume_correlation(bars: Bars, window: int) -> Outputs:
    """Cosine between signed log returns and volumes, −1 to 1; 0 when either never moved."""
    products = rolling_sum(bars.log_return * bars.volume, window)
    sizes = np.sqrt(rolling_sum(bars.log_return**2, window) * rolling_sum(bars.volume**2, window))
    return (ratio(products, sizes, 0.0),)


# ---- clock ------------------------------------------------------------------------------------------------


def clock(bars: Bars) -> Outputs:
    """Hour of the day and day of the week (UTC, Monday first) as sines and cosines."""
    minutes = bars.times.as_unit("s").astype(np.int64).to_numpy() / 60.0
    day = 2.0 * np.pi * (minutes % 1440.0) / 1440.0
    # The epoch, minute 0, is a Thursday.
    week = 2.0 * np.pi * ((minutes + 3 * 1440.0) % 10080.0) / 10080.0
    return np.sin(day), np.cos(day), np.sin(week), np.cos(week)
