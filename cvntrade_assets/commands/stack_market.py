"""The market of a local stack: three keys of `base_env`, so that runs started from the UI use it too."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from cvntrade_assets.commands.errors import CommandError
from cvntrade_assets.settings import Layer, read_value
from resources.warehouse import Warehouse

AUTHOR = "cvntrade up"


@dataclass(frozen=True)
class StackMarket:
    """Which market, where its archive is, and what counts as now; None stands for the default."""

    market: str
    archive: str | None = None
    as_of: str | None = None


def set_market(warehouse: Warehouse, chosen: StackMarket, now: pd.Timestamp) -> None:
    """Write the market's keys into `base_env`, and remove those that are not given.

    The simulated market without a moment stops at the last midnight: its next candle is always there already, and
    a second run on the same day is to find nothing changed.

    Raises:
        SettingsError: a value is not valid; nothing is written.
        CommandError: an archive that the market does not read, or a folder that does not exist.
    """
    archive, as_of = chosen.archive, chosen.as_of
    if archive is not None:
        archive = _archive(chosen.market, archive)
    if as_of is None and chosen.market == "simulated":
        as_of = now.floor("D").isoformat()
    values = {"CVN_MARKET": chosen.market, "CVN_BINANCE_ARCHIVE_URL": archive, "CVN_AS_OF": as_of}
    checked = {
        key: None if text is None else read_value(key, text, Layer.BASE_ENV).text for key, text in values.items()
    }
    warehouse.set_base_env(checked, AUTHOR)


def _archive(market: str, archive: str) -> str:
    """An address as it is, a folder in full."""
    if market != "binance":
        raise CommandError(
            f"the {market} market reads no archive; say MARKET=binance (--market binance) with {archive}."
        )
    if "://" in archive:
        return archive
    folder = Path(archive).expanduser().resolve()
    if not folder.is_dir():
        raise CommandError(f"the archive {archive} is neither a folder that exists nor an address.")
    return str(folder)
