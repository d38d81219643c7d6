"""Which CVNTrade a command talks to: the one the environment names, or the one that `cvntrade up` runs here."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import pandas as pd

from cvntrade_assets.commands.dagster_api import DagsterApi
from cvntrade_assets.commands.errors import CommandError
from cvntrade_assets.local.addresses import read_addresses
from cvntrade_assets.local.options import home_folder
from cvntrade_assets.settings import Settings, resolve
from resources.warehouse import Warehouse


@dataclass(frozen=True)
class Connection:
    """Addresses of one CVNTrade; the environment holds secrets and is never shown."""

    ui_url: str
    environment: Mapping[str, str] = field(repr=False)

    @cached_property
    def _warehouse(self) -> Warehouse:
        return Warehouse(self.environment["CVN_WAREHOUSE_URL"])

    def warehouse(self) -> Warehouse:
        """The operations schema."""
        return self._warehouse

    def api(self) -> DagsterApi:
        """The Dagster webserver."""
        return DagsterApi(self.ui_url)

    def resolve_settings(self, run: Mapping[str, str]) -> Settings:
        """The settings that a run with these `--set` values would have; SettingsError when one is wrong."""
        return resolve(base_env=self.warehouse().base_env(), run=run, now=pd.Timestamp.now("UTC"))


def connect() -> Connection:
    """The CVNTrade named by CVN_UI_URL and CVN_WAREHOUSE_URL, or the one running on CVN_HOME.

    Raises:
        CommandError: nothing is named and nothing runs here.
    """
    environment = dict(os.environ)
    if environment.get("CVN_UI_URL") and environment.get("CVN_WAREHOUSE_URL"):
        return Connection(environment["CVN_UI_URL"], environment)
    home = home_folder(environment)
    addresses = read_addresses(home, environment)
    if addresses is None:
        raise CommandError(
            f"no CVNTrade runs on {home}. Start one with `cvntrade up` in another terminal, or name one with "
            "CVN_UI_URL and CVN_WAREHOUSE_URL."
        )
    return Connection(addresses.ui_url, addresses.environment(environment))
