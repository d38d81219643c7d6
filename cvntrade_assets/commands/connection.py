"""Which CVNTrade a command talks to: the one the environment names, or the one that `cvntrade up` runs here."""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import pandas as pd

from cvntrade_assets.commands.errors import CommandError
from cvntrade_assets.local.addresses import read_addresses
from cvntrade_assets.local.options import home_folder
from cvntrade_assets.operations.factors import resolve_run
from cvntrade_assets.operations.run_pods import training_memory_gib
from cvntrade_assets.settings import Settings
from resources.dagster_address import dagster_url
from resources.warehouse import Warehouse

if TYPE_CHECKING:
    from cvntrade_assets.commands.dagster_api import DagsterApi

# What dagster.yaml reads.
_INSTANCE = (
    "DAGSTER_HOME",
    "CVN_PG_HOST",
    "CVN_PG_PORT",
    "CVN_PG_USER",
    "CVN_PG_PASSWORD",
    "CVN_COMPUTE_LOGS",
    "CVN_MAX_CONCURRENT_RUNS",
    "CVN_RUNS_IN",
)


class NotRunningError(CommandError):
    """No CVNTrade is named, and none runs on CVN_HOME."""


@dataclass(frozen=True)
class Connection:
    """Addresses of one CVNTrade; the environment holds secrets and is never shown."""

    ui_url: str
    environment: Mapping[str, str] = field(repr=False)

    def training_pod_gib(self, settings: Settings) -> float | None:
        """Memory that the pod of a run that trains would be given, in GiB; None where runs have no pods."""
        return training_memory_gib(settings) if self.environment.get("CVN_RUNS_IN") == "pods" else None

    @cached_property
    def _warehouse(self) -> Warehouse:
        return Warehouse(self.environment["CVN_WAREHOUSE_URL"], dagster_url(self.environment))

    def enter(self) -> None:
        """Start this command again in the environment that Dagster's instance reads, unless it is in it already.

        dagster.yaml takes addresses and secrets from the environment, and ours is never written to.

        Raises:
            CommandError: a deployment is named whose variables are not all set.
        """
        missing = [name for name in _INSTANCE if not os.environ.get(name)]
        if not missing:
            return
        unknown = [name for name in _INSTANCE if not self.environment.get(name)]
        if unknown:
            raise CommandError(
                f"this command reads Dagster's own records, and {', '.join(unknown)} is not set; set what the "
                "deployment's dagster.yaml reads, or run it where `cvntrade up` runs."
            )
        os.execve(sys.executable, [sys.executable, "-m", "cvntrade_assets", *sys.argv[1:]], dict(self.environment))

    def warehouse(self) -> Warehouse:
        """The operations schema."""
        return self._warehouse

    def api(self) -> "DagsterApi":
        """The Dagster webserver."""
        from cvntrade_assets.commands.dagster_api import DagsterApi

        return DagsterApi(self.ui_url)

    def resolve_settings(self, run: Mapping[str, str], variants: Mapping[str, str] | None = None) -> Settings:
        """The settings that a run with these `--set` values and variants would have; SettingsError when one is wrong.

        Args:
            run: What the run sets, key to text.
            variants: The variant of every factor that the run is given.
        """
        now = pd.Timestamp.now("UTC")
        return resolve_run(base_env=self.warehouse().base_env(), run=run, variants=variants, now=now)


def connect() -> Connection:
    """The CVNTrade named by CVN_UI_URL and CVN_WAREHOUSE_URL, or the one running on CVN_HOME.

    Raises:
        NotRunningError: nothing is named and nothing runs here.
    """
    environment = dict(os.environ)
    if environment.get("CVN_UI_URL") and environment.get("CVN_WAREHOUSE_URL"):
        return Connection(environment["CVN_UI_URL"], environment)
    home = home_folder(environment)
    addresses = read_addresses(home, environment)
    if addresses is None:
        raise NotRunningError(
            f"no CVNTrade runs on {home}. Start one with `cvntrade up` in another terminal, or name one with "
            "CVN_UI_URL and CVN_WAREHOUSE_URL."
        )
    return Connection(addresses.ui_url, addresses.environment(environment))
