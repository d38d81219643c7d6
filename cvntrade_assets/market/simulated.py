"""The simulated market: seeded candles whose truth is known, for trying things and for tests.

What a learner is asked here is whether the price reaches +2 ATR before -1 ATR within a few hours. A price can
be a martingale and that question still be answerable: it is as soon as the volatility to come is predictable
*relative to the ATR of now* (a daily rhythm of volatility, volatility that falls back after a jump). So each
30-minute candle is drawn in units of the Wilder ATR(14) of the candles before it:

    path of candle t+1 = close_t + sigma_t * (unit path of independent, identically distributed innovations)
    sigma_t = ATR_t * exp(-PULL * x_t)        x_t = log(ATR_t / close_t) - log(long-run ATR over price)
    ATR_t+1 = (13 * ATR_t + true range) / 14

The unit path has twelve Gaussian steps of 2.5 minutes under a random scale (lognormal for the half hour and
doubled in 3 % of them, lognormal for each 5 minutes), inside each step the extremes of a Brownian bridge, and
in 0.6 % of the half hours a jump of 1.5 to 8 ATR. All of it is symmetric and bounded: increments have exactly
zero mean given the past, and the price stays above zero. `UNIT_SCALE` makes the mean of log(ATR_t+1 / ATR_t)
zero, so log ATR performs a random walk (volatility clusters) that only the pull holds near its long-run
level: a half-life of 14 ln 2 / PULL = 388 candles, 8 days. By the pull alone does the past tell anything
about labels. Of all pulls that hold log ATR within the same spread, the linear one is the weakest on average:
one standard deviation of x_t (0.63) moves the volatility to come by 1.6 % and the BUY probability by 0.004 to
0.006, which no model finds in the rows of two years. The volume has a daily rhythm; the volatility, on
purpose, has none.

`signal` touches the direction of candles and nothing else. One closes up with probability (1 + tilt) / 2,

    tilt = min(0.4 * signal, 0.8) * tanh(trend_t / (0.7 * sqrt(24) * ATR_t))
    trend_t = (close_t - close_t-24) - (close_t - close_t-240) / 10

by mirroring its whole unit path, which leaves its true range as it was. The expected move is about 0.5 * tilt
ATR: what the last 12 hours moved in excess of the pace of the last 5 days goes on. That it is the excess
makes trends end; without it a strong signal would explode. At 0 there is nothing to learn, 0.3 is about as
learnable as real markets are, 1 is strong, 2 and above are all the same.

All this is exact at 30 minutes. At another timeframe the price at signal 0 is a martingale as well, but the
ratio of the volatility to come to the ATR is only roughly independent of the past.

Measured on ten million candles: the BUY rate is 0.291 for H6_SL1.0_TP2.0 and 0.241 for H4_SL1.0_TP2.0, where
real candles have 0.24 to 0.27 and 0.19 to 0.22: fewer trades time out (0.09 and 0.19 against 0.15 and 0.26),
because the calm that the past foretells is what had to go. The rest is near eight real symbols over two
years:

    range / ATR at 10, 50, 90, 99 %          0.48  0.89  1.68  2.80  real 0.47-0.54 0.84-0.89 1.6-1.7 2.9-3.5
    move / ATR: deviation, kurtosis          0.70  4-7               real 0.67-0.75  5-61
    |close - open| / range                   0.46                    real 0.45-0.47
    autocorrelation of |return| at 1, 48, 96 0.28  0.24  0.22        real 0.25-0.37  0.11-0.19  0.08-0.14
    deviation of log(ATR / close)            0.63                    real 0.39-0.54
"""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
import pandas as pd
from numba import njit

from cvntrade_assets.market.candles import empty_candles, resample_candles, timeframe_delta

Floats = npt.NDArray[np.float64]

EPOCH = pd.Timestamp("2020-01-01", tz="UTC")
"""Open time of the first simulated candle, of every symbol."""

HORIZON = pd.Timestamp("2040-01-01", tz="UTC")
"""No candle closes after this instant: every path starts at the epoch, so its length must be bounded."""

FINE_TIMEFRAME = "5m"
ATR_TIMEFRAME = "30m"
ATR_WINDOW = 14
PULL = 0.025
UNIT_SCALE = 0.5059
SIGNAL_GAIN = 0.4
STRONGEST_TILT = 0.8
TREND_CANDLES = 24
PACE_CANDLES = 240

_FINE = timeframe_delta(FINE_TIMEFRAME)
_FINES = timeframe_delta(ATR_TIMEFRAME) // _FINE
_STEPS = 2
_SUBSTEPS = _FINES * _STEPS
_BLOCK = 1440
_DAY_CANDLES = pd.Timedelta(days=1) // _FINE
_YEAR_CANDLES = 365 * 48

# Bounds, in ATR. A half hour falls by at most 12 steps of 1, a jump of 8 and a bridge of 1.4 below its lowest
# point, together 21.4. An ATR that acts as at most 0.045 of the price therefore leaves the price above zero.
_LARGEST_STEP = 1.0
_LARGEST_STEP_SCALE = 0.5
_LARGEST_JUMP = 8.0
_SMALLEST_UNIFORM = 1e-4
_LARGEST_RELATIVE_ATR = 0.045

_HALF_HOUR_SPREAD = 0.33
_FINE_SPREAD = 0.40
_TURBULENT_SHARE = 0.03
_TURBULENT_FACTOR = 2.0
_JUMP_SHARE = 0.006
_SMALLEST_JUMP = 1.5
_JUMP_TAIL = 2.5
_CLIP = 4.0

_MOVE_DEVIATION = 0.70  # standard deviation of close-to-close, in ATR
_FINE_RANGE = 0.386  # mean range of a 5-minute candle, in ATR
_QUIET_VOLUME = 0.35  # share of the volume that does not depend on the range
_VOLUME_SPREAD = 0.4


class SimulationError(ValueError):
    """A request that the simulated market cannot answer."""


@dataclass(frozen=True)
class Character:
    """What distinguishes one symbol from another.

    Attributes:
        price: Price at the epoch, in quote units.
        volatility: Median annualised volatility of the long run, as a share of the price.
        turnover: Mean daily turnover at median volatility, in quote units.
    """

    price: float
    volatility: float
    turnover: float


CHARACTERS: Mapping[str, Character] = MappingProxyType(
    {
        "BTC": Character(30_000.0, 0.38, 2.0e9),
        "ETH": Character(2_000.0, 0.50, 1.2e9),
        "BNB": Character(350.0, 0.42, 2.5e8),
        "SOL": Character(90.0, 0.60, 5.0e8),
        "XRP": Character(0.80, 0.52, 4.0e8),
        "ADA": Character(0.60, 0.58, 1.0e8),
        "LDO": Character(2.0, 0.68, 2.0e7),
        "BONK": Character(2.0e-5, 0.70, 6.0e7),
    }
)
"""Characters of well-known base assets; any other symbol draws its own from its name."""

_QUOTES = ("USDT", "USDC", "FDUSD", "TUSD", "BUSD", "USD", "EUR")


@dataclass(frozen=True)
class SimulatedMarket:
    """A market that never was: the same `seed` and `signal` give the same candles, whatever window is asked.

    Attributes:
        seed: Which market, at least 0.
        signal: How predictable directions are (see the module): 0 nothing to learn, 1 strong.

    Raises:
        SimulationError: A negative seed, a signal that is negative or not finite.
    """

    seed: int
    signal: float

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise SimulationError(f"simulated market: seed is {self.seed}, expected 0 or more")
        if not (math.isfinite(self.signal) and self.signal >= 0):
            raise SimulationError(f"simulated market: signal is {self.signal}, expected 0 (nothing to learn) or above")

    def candles(self, symbol: str, timeframe: str, start: pd.Timestamp, end: pd.Timestamp) -> pd.DataFrame:
        """Candles that open at or after `start` and have closed at `end`: no gaps, all complete.

        Candles of every timeframe are aggregations of one 5-minute path, so they are one market. Prices are
        not rounded; each candle opens at the close of the one before.

        Args:
            symbol: Any name; each has its own path and character.
            timeframe: A multiple of 5 minutes.
            start: Timezone-aware, not before `EPOCH`.
            end: Timezone-aware, not after `HORIZON`.

        Returns:
            Candle frame; empty when no candle fits.

        Raises:
            SimulationError: No symbol, a window that begins before the epoch, ends after the horizon, runs
                backwards or has no timezone, or a timeframe that 5-minute candles do not make.
            ValueError: An unknown timeframe.
        """
        interval = timeframe_delta(timeframe)
        _check_request(symbol, timeframe, start, end)
        first = -((EPOCH - start) // interval)
        last = (end - EPOCH) // interval
        if last <= first:
            return empty_candles()
        ratio = interval // _FINE
        fine = self._fine_candles(symbol, first * ratio, last * ratio)
        return fine if ratio == 1 else resample_candles(fine, _FINE, interval)

    def _fine_candles(self, symbol: str, first: int, last: int) -> pd.DataFrame:
        blocks = -(-last // (_BLOCK * _FINES))
        path = _fine_path(self.seed, symbol, self.signal, blocks)[:, first:last]
        index = pd.date_range(EPOCH + first * _FINE, periods=last - first, freq=_FINE, name="open_time", unit="ns")
        columns = dict(zip(("open", "high", "low", "close", "volume"), path.copy(), strict=True))
        frame = pd.DataFrame(columns, index=index).assign(complete=True)
        frame.index.freq = None  # type: ignore[attr-defined]
        return frame


def long_run_atr(symbol: str) -> float:
    """Median of the 30-minute ATR(14) of a symbol over its close in the long run."""
    return character(symbol).volatility / (_MOVE_DEVIATION * math.sqrt(_YEAR_CANDLES))


def character(symbol: str) -> Character:
    """Price, volatility and turnover of a symbol: of `CHARACTERS`, or else drawn from its name."""
    quote = next((quote for quote in _QUOTES if symbol.endswith(quote)), "")
    base = symbol.removesuffix(quote)
    if base in CHARACTERS:
        return CHARACTERS[base]
    price, volatility, turnover = np.random.default_rng(_name_number(base)).random(3)
    return Character(
        price=float(10.0 ** (4.0 * price - 1.5)),
        volatility=float(0.40 + 0.3 * volatility),
        turnover=float(10.0 ** (6.7 + 1.8 * turnover)),
    )


def _check_request(symbol: str, timeframe: str, start: pd.Timestamp, end: pd.Timestamp) -> None:
    if not symbol:
        raise SimulationError("simulated market: the symbol is empty, expected a name such as BTCUSDT")
    if timeframe_delta(timeframe) % _FINE:
        raise SimulationError(f"simulated market: {timeframe} candles are not made of {FINE_TIMEFRAME} candles")
    if start.tzinfo is None or end.tzinfo is None:
        raise SimulationError(f"simulated market: window {start} to {end} has no timezone, expected UTC")
    if start < EPOCH or end > HORIZON:
        raise SimulationError(
            f"simulated market: window {start} to {end} is outside {EPOCH} to {HORIZON}; ask for less history"
        )
    if end < start:
        raise SimulationError(f"simulated market: window {start} to {end} runs backwards")


def _name_number(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")


@lru_cache(maxsize=2)
def _fine_path(seed: int, symbol: str, signal: float, blocks: int) -> Floats:
    """Open, high, low, close, volume (5 rows) of the 5-minute candles of the first blocks; read only."""
    nature = character(symbol)
    level = long_run_atr(symbol)
    gain = min(SIGNAL_GAIN * signal, STRONGEST_TILT)
    path = np.empty((5, blocks * _BLOCK * _FINES))
    state = np.array([nature.price, level * nature.price])
    closes = np.full(PACE_CANDLES, nature.price)
    for block in range(blocks):
        rng = np.random.default_rng([seed, _name_number(symbol), block])
        piece = path[:, block * _BLOCK * _FINES : (block + 1) * _BLOCK * _FINES]
        draws = _draw_innovations(rng)
        _advance(block * _BLOCK, state, closes, *draws, math.log(level), gain, piece)
        piece[4] = _volumes(rng, piece, nature, level)
    path.setflags(write=False)
    return path


def _draw_innovations(
    rng: np.random.Generator,
) -> tuple[Floats, Floats, Floats, npt.NDArray[np.int64], Floats]:
    """The innovations of one block of half hours, independent and identically distributed.

    Returns:
        Steps (block, 12) and their standard deviations (block, 12), both in ATR; uniforms (block, 25): two
        for the extremes inside each step and one for the direction; the step that a jump follows (block,),
        -1 for none; the jump (block,) in ATR.
    """
    half_hour = np.exp(_HALF_HOUR_SPREAD * _clipped_normal(rng, (_BLOCK, 1)))
    half_hour *= np.where(rng.random((_BLOCK, 1)) < _TURBULENT_SHARE, _TURBULENT_FACTOR, 1.0)
    fine = np.exp(_FINE_SPREAD * _clipped_normal(rng, (_BLOCK, _FINES)))
    scale = np.repeat(UNIT_SCALE / math.sqrt(_SUBSTEPS) * half_hour * fine, _STEPS, axis=1)
    scale = np.minimum(scale, _LARGEST_STEP_SCALE)
    steps = np.clip(scale * _clipped_normal(rng, scale.shape), -_LARGEST_STEP, _LARGEST_STEP)
    uniforms = np.maximum(1.0 - rng.random((_BLOCK, 2 * _SUBSTEPS + 1)), _SMALLEST_UNIFORM)
    after = np.where(rng.random(_BLOCK) < _JUMP_SHARE, rng.integers(0, _SUBSTEPS, _BLOCK), -1)
    size = np.minimum(_SMALLEST_JUMP * (1.0 - rng.random(_BLOCK)) ** (-1.0 / _JUMP_TAIL), _LARGEST_JUMP)
    jumps = size * rng.choice(np.array([-1.0, 1.0]), _BLOCK)
    return steps, scale, uniforms, after, jumps


def _clipped_normal(rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    return np.clip(rng.standard_normal(shape), -_CLIP, _CLIP)


def _volumes(rng: np.random.Generator, path: Floats, nature: Character, level: float) -> Floats:
    """Volumes of one block: daily rhythm, lognormal noise, and a share that follows the candle's range."""
    candles = path.shape[1]
    noise = np.repeat(rng.standard_normal(candles // _FINES), _FINES) + rng.standard_normal(candles)
    lognormal = np.exp(_VOLUME_SPREAD * noise - _VOLUME_SPREAD**2)
    relative_range = (path[1] - path[2]) / (path[3] * level * _FINE_RANGE)
    activity = _QUIET_VOLUME + (1.0 - _QUIET_VOLUME) * relative_range
    turnover = nature.turnover / _DAY_CANDLES * _daily_rhythm(candles) * lognormal * activity
    volumes: Floats = turnover / path[3]
    return volumes


def _daily_rhythm(candles: int) -> Floats:
    """Mean-one factor per 5-minute candle from midnight UTC: busiest around 15 h, calmest around 5 h."""
    hours = np.arange(candles) * (24.0 / _DAY_CANDLES) + 1.0 / 24.0
    daily = 0.35 * np.cos(2.0 * np.pi * (hours - 16.0) / 24.0)
    rhythm: Floats = 1.0 + daily + 0.20 * np.cos(4.0 * np.pi * (hours - 14.5) / 24.0)
    return rhythm


@njit(cache=True)
def _advance(
    first: int,
    state: Floats,
    closes: Floats,
    steps: Floats,
    scales: Floats,
    uniforms: Floats,
    jump_after: npt.NDArray[np.int64],
    jumps: Floats,
    log_level: float,
    gain: float,
    path: Floats,
) -> None:
    """Write a block's candles into rows 0 to 3 of `path`; `state` (price, ATR) and `closes` move on."""
    price, atr = state
    unit = np.empty((_FINES, 3))
    for t in range(steps.shape[0]):
        excess = math.log(atr / price) - log_level
        sigma = min(atr * math.exp(-PULL * excess), _LARGEST_RELATIVE_ATR * price)
        tilt = gain * math.tanh(_excess_trend(closes, first + t, price) / atr)
        closes[(first + t) % PACE_CANDLES] = price
        _unit_path(steps[t], scales[t], uniforms[t], jump_after[t], jumps[t], unit)
        goes_up = uniforms[t, -1] < 0.5 * (1.0 + tilt)
        sign = sigma if goes_up == (unit[_FINES - 1, 2] > 0.0) else -sigma
        highest, lowest, close = _write_candles(price, sign, unit, path[:, t * _FINES : (t + 1) * _FINES])
        atr = ((ATR_WINDOW - 1) * atr + highest - lowest) / ATR_WINDOW
        price = close
    state[0] = price
    state[1] = atr


@njit(cache=True)
def _excess_trend(closes: Floats, t: int, price: float) -> float:
    """Move of the last 12 hours in excess of the pace of the last 5 days, over its deviation in ATR."""
    trend = price - closes[(t - TREND_CANDLES) % PACE_CANDLES]
    pace = price - closes[t % PACE_CANDLES]
    return float((trend - TREND_CANDLES / PACE_CANDLES * pace) / (_MOVE_DEVIATION * math.sqrt(TREND_CANDLES)))


@njit(cache=True)
def _unit_path(steps: Floats, scales: Floats, uniforms: Floats, jump_after: int, jump: float, unit: Floats) -> None:
    """Write high, low and close of six 5-minute candles, in ATR from the open of the half hour, into `unit`.

    The extremes between the ends of a step are those of a Brownian bridge (Glasserman 2003, section 6.4).
    """
    place = 0.0
    for fine in range(_FINES):
        high = low = place
        for k in range(fine * _STEPS, (fine + 1) * _STEPS):
            spread = -2.0 * scales[k] * scales[k]
            middle = place + 0.5 * steps[k]
            high = max(high, middle + 0.5 * math.sqrt(steps[k] ** 2 + spread * math.log(uniforms[2 * k])))
            low = min(low, middle - 0.5 * math.sqrt(steps[k] ** 2 + spread * math.log(uniforms[2 * k + 1])))
            place += steps[k]
            if k == jump_after:
                place += jump
                high, low = max(high, place), min(low, place)
        unit[fine, 0], unit[fine, 1], unit[fine, 2] = high, low, place


@njit(cache=True)
def _write_candles(price: float, sigma: float, unit: Floats, path: Floats) -> tuple[float, float, float]:
    """Write six candles from `price`, mirrored when `sigma` is negative; highest, lowest, last price."""
    highest = lowest = last = price
    for fine in range(_FINES):
        one, other = price + sigma * unit[fine, 0], price + sigma * unit[fine, 1]
        close = price + sigma * unit[fine, 2]
        path[0, fine] = last
        path[1, fine] = max(one, other, last, close)
        path[2, fine] = min(one, other, last, close)
        path[3, fine] = close
        highest, lowest = max(highest, path[1, fine]), min(lowest, path[2, fine])
        last = close
    return highest, lowest, last
