"""The settings of one run: the layers resolved once, when the run starts."""

import dagster as dg
import pandas as pd
from pydantic import Field

from cvntrade_assets.settings import Settings, SettingsError, resolve
from resources.warehouse import Warehouse


class RunSettings(dg.ConfigurableResource[Settings]):
    """Resolves default < base_env < run for everything that happens in one run."""

    settings: dict[str, str] = Field(
        default_factory=dict,
        description="CVN_* keys that this run sets, above the operators' base_env and the defaults; "
        "`cvntrade settings show` lists the keys.",
    )
    warehouse: dg.ResourceDependency[Warehouse]

    def create_resource(self, context: dg.InitResourceContext) -> Settings:
        """The run's settings; a wrong key or value ends the run before any work, and is not retried."""
        del context
        try:
            return resolve(base_env=self.warehouse.base_env(), run=self.settings, now=pd.Timestamp.now("UTC"))
        except SettingsError as error:
            raise dg.Failure(description=str(error), allow_retries=False) from error
