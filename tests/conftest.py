"""Fixtures that every room's tests share: real candles, random candles, and a scripted exchange."""

from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from exchange_server import ExchangeServer

from cvntrade_assets.market.binance import archive_month_path, read_archive_zip
from cvntrade_assets.market.candles import empty_candles, flag_gap_neighbours, month_starts, timeframe_delta
from cvntrade_assets.market.history import month_name

pytest_plugins = ["services", "s3_server"]

MARKET_FOLDER = Path(__file__).parent.parent.parent / "shared" / "market"


@pytest.fixture(scope="session")
def market_folder() -> Path:
    """The folder of real candles, laid out as the exchange's archive."""
    if not (MARKET_FOLDER / "spot").is_dir():
        pytest.skip("needs the real candles of ../shared/market, which are not part of this repository")
    return MARKET_FOLDER


@pytest.fixture(scope="session")
def real_candles(market_folder: Path) -> Callable[..., pd.DataFrame]:
    """`real_candles(symbol, timeframe="30m", start="2025-01-01", end="2025-09-01")`: the real candle frame.

    Start and end are anything that `pd.Timestamp` takes, in UTC; months that the folder lacks are absent.
    """

    @lru_cache
    def month(symbol: str, timeframe: str, name: str) -> pd.DataFrame:
        file = market_folder / archive_month_path(symbol, timeframe, name)
        return (
            read_archive_zip(file.read_bytes(), file.name, timeframe_delta(timeframe))
            if file.exists()
            else empty_candles()
        )

    def candles(
        symbol: str, timeframe: str = "30m", start: str = "2025-01-01", end: str = "2025-09-01"
    ) -> pd.DataFrame:
        first, last = (pd.Timestamp(day, tz="UTC") for day in (start, end))
        months = [month(symbol, timeframe, month_name(day)) for day in month_starts(first, last)]
        found = pd.concat([frame for frame in months if len(frame)] or [empty_candles()])
        flagged = flag_gap_neighbours(found, timeframe_delta(timeframe))
        return flagged[(flagged.index >= first) & (flagged.index < last)]

    return candles


def make_random_candles(n: int, seed: int, interval: str = "30min") -> pd.DataFrame:
    """A valid gap-free candle frame: a random walk, every candle opening where the one before closed."""
    rng = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.005, n)))
    open_ = np.concatenate([[100.0], close[:-1]]) if n else close
    high = np.maximum(open_, close) * (1 + rng.exponential(0.002, n))
    low = np.minimum(open_, close) / (1 + rng.exponential(0.002, n))
    start = pd.Timestamp("2024-01-01", tz="UTC")
    index = pd.date_range(start, periods=n, freq=pd.Timedelta(interval), name="open_time", unit="ns")
    columns = {"open": open_, "high": high, "low": low, "close": close, "volume": rng.lognormal(3, 1, n)}
    return pd.DataFrame({**columns, "complete": np.ones(n, dtype=bool)}, index=index)


@pytest.fixture(scope="session")
def random_candles() -> Callable[..., pd.DataFrame]:
    """`random_candles(n, seed, interval="30min")`: `make_random_candles`."""
    return make_random_candles


@pytest.fixture
def exchange() -> Iterator[ExchangeServer]:
    """An exchange on the loopback that answers as the test scripts it."""
    with ExchangeServer() as server:
        yield server
