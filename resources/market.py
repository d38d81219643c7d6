"""The two markets behind one door: the exchange and the simulation, never one in place of the other."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import dagster as dg
import pandas as pd

from cvntrade_assets.market.history import CandleHistory
from cvntrade_assets.settings import Settings
from resources.warehouse import Warehouse

if TYPE_CHECKING:
    from resources.binance import FetchResult


@dataclass(frozen=True)
class Window:
    """Candles asked for: [start, end) of one crypto at one timeframe."""

    crypto: str
    timeframe: str
    start: pd.Timestamp
    end: pd.Timestamp


@dataclass(frozen=True)
class Bans:
    """The bans of one API host, kept in PostgreSQL: every run of this network address finds them.

    Attributes:
        warehouse: Where they are kept.
        host: The API's host, with its port where the address names one.
        run_id: Whose work meets them.
    """

    warehouse: Warehouse
    host: str
    run_id: str

    def release(self) -> pd.Timestamp | None:
        """When the last known ban ends or ended, UTC; None when there was none."""
        return self.warehouse.exchange_ban(self.host)

    def remember(self, release: pd.Timestamp) -> None:
        """A ban was met that lasts until `release`."""
        self.warehouse.record_ban(self.host, release, self.run_id)


def fetch_candles(
    settings: Settings,
    window: Window,
    known: CandleHistory | None,
    heartbeat: Callable[[str], None],
    *,
    warehouse: Warehouse,
    run_id: str,
) -> "FetchResult":
    """The candles of a window from the market that CVN_MARKET names.

    Args:
        settings: The run's settings.
        window: What is asked for.
        known: What an earlier version holds; it is not asked for again.
        heartbeat: Told how long work goes on.
        warehouse: Knows which API hosts have banned this network address, and is told of new bans.
        run_id: The Dagster run that asks.

    Raises:
        dg.Failure: the market refused or has no candle. What a second attempt could mend has had its attempts here
            already, and Dagster retries no step; `allow_retries` says whether a later run may fare better.
    """
    from resources.binance import FetchResult

    if settings.text("CVN_MARKET") == "simulated":
        # The kernels' compiler is slow to import; the graph is imported everywhere.
        from cvntrade_assets.market.simulated import SimulatedMarket

        market = SimulatedMarket(settings.whole("CVN_SIMULATED_SEED"), settings.number("CVN_SIMULATED_SIGNAL"))
        candles = market.candles(window.crypto, window.timeframe, window.start, window.end)
        result = FetchResult(CandleHistory(candles, ()), 0, 0, ("SIMULATED: these candles were never traded",))
    else:
        host = urlsplit(settings.text("CVN_BINANCE_API_URL")).netloc.lower()
        result = _from_exchange(settings, window, known, heartbeat, Bans(warehouse, host, run_id))
    if result.history.candles.empty:
        raise dg.Failure(
            f"no candle of {window.crypto} {window.timeframe} from {window.start} to {window.end}: "
            f"{'; '.join(result.notes) or 'the market has none'}. Check the symbol, CVN_AS_OF and "
            "the archive's address.",
            allow_retries=False,
        )
    return result


def _from_exchange(
    settings: Settings, window: Window, known: CandleHistory | None, heartbeat: Callable[[str], None], bans: Bans
) -> "FetchResult":
    from resources.binance import BinanceMarket
    from resources.exchange_http import MarketError

    archive, api = settings.text("CVN_BINANCE_ARCHIVE_URL"), settings.text("CVN_BINANCE_API_URL")
    exchange = BinanceMarket(archive, api, bans=bans)
    try:
        return exchange.fetch(
            window.crypto,
            window.timeframe,
            window.start,
            window.end,
            known,
            lambda what, done, total: heartbeat(
                f"fetching {window.crypto} {window.timeframe}: {what}, {done} of {total}"
            ),
            verify=settings.flag("CVN_BINANCE_VERIFY_ARCHIVE"),
        )
    except MarketError as error:
        raise dg.Failure(str(error), allow_retries=error.transient) from error
